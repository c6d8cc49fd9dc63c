"""A foreign checkpoint -> a run directory like any other, whole or not there at all.

What the file does not say is found by trying (readings.py, rows.py), found in the network's behaviour
(forensics.py), or assumed; every assumption is a sentence in run.json.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import Any

from ..asked import PATH, PATHS, SECTION, asks
from ..errors import ConfigError, NotARun, UsageError
from ..progress import SHARE, bars
from ..runs import files
from ..runs.account import read_run_json, refuse_snapshot
from ..runs.record import new_record, packed_snapshot, stored_split, write_record
from ..runs.run import Run
from ..tasks import Task
from .evidence import Import, Request, Say, settings_hash
from .mapping import layout_named
from .recognition import read_settings, recognise
from .several import checkpoints_in, read_files


@asks("gi.import_checkpoint", path=PATHS, out=PATH, task=SECTION, layout=PATH, config_file=PATH)
def import_checkpoint(
    path: str | Path | Sequence[str | Path],
    out: str | Path,
    layout: str | Path = "auto",
    task: str | Task | Mapping[str, Any] | None = None,
    *,
    config_file: str | Path | None = None,
    forensics: bool = True,
    believe: bool = False,
    progress: bool | None = None,
) -> Run:
    """Turns other people's weights into a run directory and returns the run; `run.imported["assumed"]` says
    what was taken for granted.

    Args:
        path: a file by torch.save, pickle or safetensors, several of them, or a folder of them, which become
            the snapshots of one run; nothing in them is executed.
        out: the run directory; made if it is not there, and written into if it is there and empty. Where it
            already holds this import, that is returned.
        layout: the name of a built-in layout, the path of a mapping file, or "auto".
        task: the task, its name, or a section [task] with some of its keys; by default the one that the
            network does best.
        config_file: JSON settings of the network, where they are not beside the checkpoint.
        forensics: whether to look for the training set where the file does not name it. Takes up to a minute.
        believe: whether to import a network that is right on no more than by chance, or whose file
            contradicts itself.
        progress: whether to show a progress bar on stderr; by default where that is a terminal.

    Raises:
        NotBelieved: under no reading that was tried is the network right on more pairs than by chance, or the
            best one contradicts the losses or the rows in the file; the message says what was tried.
        UsageError: the file is no checkpoint, fits no layout, or no task is clearly its network's; the reason
            is in the message.
        GrokinterpError: the file is damaged, or asks to run something.
        NotARun: the directory holds something else, or cannot be one.
        WriteFailed: the disk is full or read-only; asked before the file is read.
    """
    path, several, others = _named(path)
    refuse_snapshot(path)
    out = files.folder_named(out)
    if isinstance(task, Task):
        task = {"name": task.name, **task.params}
    wanted = {"name": task} if isinstance(task, str) else dict({} if task is None else task)
    layout = str(layout)
    if wanted.get("noise") is not None:
        why = "the labels of an imported network are not known, so it is measured by right answers"
        raise ConfigError(f"task.noise: {why}: leave it out")
    settings = None if config_file is None else Path(config_file)
    known = {} if layout == "auto" else layout_named(layout)[0].task
    if wanted.get("name", known.get("name")) == known.get("name"):
        wanted = known | wanted
    is_one = several == [path]
    request = Request(path, layout, wanted, settings, forensics, believe, () if is_one else (*several,))
    if _holds_this_import(out, request):
        return Run(out)
    size = sum(one.stat().st_size for one in several if one.is_file())
    files.refuse_unwritable(out, min(size, _ROOM))
    with _shown(progress) as say:
        say("reading", 0)
        contents = read_files(several, others, lenient=path.is_dir())
        said: dict[str, Any] = {"task": wanted}
        said |= {"tokens": [wanted["layout"]], "p": wanted.get("p")} if "layout" in wanted else {}
        recognised = recognise(contents, path, layout, request.config_file, said)
        imported = Import(request, recognised, say)
        _write(out, imported)
    return Run(out)


_ROOM = 1_000_000
"""Bytes that a disk must have room for before a file is read, if that is as large: how much of it is weights
is not known yet."""
_STAGE = ".importing"
"""The name, or the end of the name, of the directory that an import is written into at first."""


def _named(path: str | Path | Sequence[str | Path]) -> tuple[Path, list[Path], list[str]]:
    """The file or folder by which an import is called, the files that are read, and names in a folder of
    those that are not.

    Raises:
        UsageError: none is named.
    """
    if not isinstance(path, str | Path):
        several = [Path(one) for one in path]
        if not several:
            raise UsageError("cannot import: no file is named: name one, several, or a folder of them")
        if len(several) > 1:
            return several[0], several, []
        path = several[0]
    path = Path(path)
    if not path.is_dir():
        return path, [path], []
    return path, *checkpoints_in(path)


def _holds_this_import(out: Path, request: Request) -> bool:
    """Whether the directory holds just what would be written; False where it is empty or not there.

    Raises:
        NotARun: it holds something else; the message says what differs.
    """
    with files.reading(out):
        if not out.exists() or all(entry.name == _STAGE for entry in out.iterdir()):
            return False
    if not (out / "run.json").is_file():
        if (out / _STAGE / "run.json").is_file():
            with _locked(out / _STAGE, out):
                _move_in(out / _STAGE, out)
            return _holds_this_import(out, request)
        raise files.no_run_in(out)
    record = read_run_json(out)
    before = record.get("imported")
    if before is None:
        raise NotARun(f"{out} holds a run that was trained, not this import: choose another directory")
    if "sha256" not in before:
        raise NotARun(f"{out} holds a run that gi.record made, not this import: choose another directory")
    task = record["config"]["task"]
    differs = {
        "file": before["sha256"] != request.sha256,
        "layout": request.mapping_sha256 not in (None, before["mapping_sha256"]),
        "task": any(task.get(key) != value for key, value in request.task.items()),
        "settings": request.config_file is not None
        and settings_hash(read_settings(request.config_file)) != before["settings_sha256"],
        "use of forensics": request.forensics and before["split"] == "not looked for",
    }
    if any(differs.values()):
        what = ", ".join(name for name, is_so in differs.items() if is_so)
        of = f"the import of {before['file']} with another {what}"
        raise NotARun(f"{out} holds {of}: choose another directory")
    return True


def _write(out: Path, imported: Import) -> None:
    with _new_directory(out) as folder:
        with files.writing(out):
            (folder / "snapshots").mkdir()
        with closing(files.Log(folder / "manifest.jsonl")) as manifest:
            for step in imported.steps:
                data, line = packed_snapshot(step, imported.weights(step))
                files.replace(folder / line["file"], data)
                manifest.append(line)
            manifest.sync()
        with closing(files.Log(folder / "metrics.jsonl")) as metrics:
            for evaluation in imported.evaluations():
                metrics.append(evaluation)
            metrics.sync()
        record = new_record(imported.config, imported.found.task, imported.split, imported=imported.record)
        if imported.found.numbering is not None:
            record["task"]["numbering"] = imported.found.numbering.record
        if imported.split is not None and imported.split_is_stored:
            record["split"] |= stored_split(folder, imported.split)
        account = {"snapshots": len(manifest.records), "evaluations": len(metrics.records)}
        record["finished"] = {"step": imported.steps[-1], "reason": "imported", **account}
        write_record(folder, record)


@contextmanager
def _new_directory(out: Path) -> Iterator[Path]:
    """A directory whose content becomes that of `out` when all is written: beside it, to take its name; or in
    it where it is there and empty, as somebody may stand in it, or a link lead to it. What an interrupted
    import has left there is removed first."""
    out = out.absolute()
    exists = out.exists()
    folder = out / _STAGE if exists else out.with_name(f".{out.name}{_STAGE}")
    with files.writing(out):
        folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder, out):
        try:
            with files.writing(out):
                for leftover in folder.iterdir():
                    if leftover.name != "lock":
                        shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
            yield folder
            with files.writing(out):
                files.sync_folder(folder)
                if not exists:
                    os.rename(folder, out)
                    files.sync_folder(out.parent)
            if exists:
                _move_in(folder, out)
        except BaseException:
            # Where it is whole the next import finishes the move.
            if not exists or not (folder / "run.json").exists():
                shutil.rmtree(folder, ignore_errors=True)
            raise


def _move_in(folder: Path, out: Path) -> None:
    """Moves all of a directory up into `out`: run.json, which makes it a run, late; the lock last."""
    last = ["run.json", "lock"]
    with files.writing(out):
        for name in [*sorted({entry.name for entry in folder.iterdir()} - set(last)), *last]:
            if name == "run.json":
                files.sync_folder(out)
            os.rename(folder / name, out / name)
        folder.rmdir()
        files.sync_folder(out)


def _locked(folder: Path, out: Path) -> AbstractContextManager[int]:
    """The lock of an import into `out`."""
    busy = f"another process is importing into {out}: wait for it, or choose another directory"
    return files.locked(folder, lambda holder: busy, named=out)


@contextmanager
def _shown(progress: bool | None) -> Iterator[Say]:
    """A bar on stderr with what is being done; nothing where that is no terminal."""
    with bars(progress, SHARE) as bar:
        task = bar.add_task("", total=1) if bar else None

        def say(text: str, share: int | float) -> None:
            if bar and task is not None:
                bar.update(task, description=text, completed=share)

        yield say
