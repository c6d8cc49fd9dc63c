"""What is in a foreign file or folder, said without making a run of it: names, shapes and numbers, and which
layout it has. Nothing in it is executed; what its network does is for `import_checkpoint` to find out."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from torch import Tensor

from ..asked import SHOWN, asks
from ..errors import GrokinterpError, UsageError
from ..foreign import Record, read_foreign, shown
from ..runs.account import refuse_snapshot
from ..runs.contents import Contents, contents_of_run, is_run, shapes_in_words
from ..runs.files import reading
from ..runs.hub import SCHEME
from ..runs.run import Run
from ..shown import in_words, size
from .places import Place, children, shown_place
from .recognition import Recognised, recognise
from .several import Files, checkpoints_in, read_files
from .snapshots import state_dicts
from .values import is_numbers, length, listed

_MOST_ENTRIES, _MOST_FILES = 14, 30
"""What is named of a file, and of a folder; JSON has all."""
_MOST_SAID = 200
"""Characters of a value that are printed."""
_MOST_TENSORS = 100_000


@asks("gi.show", path=SHOWN)
def show(path: str | Path | Run) -> Contents:
    """What is in a run, or in a checkpoint of somebody else's, without analysing it: configuration, task,
    snapshots, sizes, losses, where it came from; of a foreign file its keys, shapes and settings, and what
    layout it has. Nothing in a file is executed.

    Args:
        path: a run directory, a file by torch.save, pickle or safetensors, or a folder of such.

    Raises:
        UsageError: it is neither; the message names what it is.
        DamagedFile: a file of a run does not match its recorded hash.
        GrokinterpError: the file is damaged, or asks to run something.
    """
    if isinstance(path, Run):
        return contents_of_run(path.path)
    if str(path).startswith(SCHEME):
        raise UsageError(f"{path} lies on the hub: `grokinterp pull {path} --out DIR` fetches it")
    path = Path(path)
    if is_run(path):
        return contents_of_run(path)
    if path.is_dir():
        return _folder(path)
    refuse_snapshot(path)
    try:
        return _file(path)
    except GrokinterpError as error:
        raise type(error)(str(error).replace("cannot import", "cannot read", 1)) from None


def _folder(path: Path) -> Contents:
    """The files in a folder that are not hidden, a row each; the folders in it are named."""
    with reading(path):
        inside = sorted(entry for entry in path.iterdir() if not entry.name.startswith("."))
    runs = [entry.name for entry in inside if entry.is_dir() and is_run(entry)]
    files = [entry for entry in inside if entry.is_file()]
    if not files and not runs:
        raise UsageError(f"{path} holds no file and no run: give a run directory, or a checkpoint file")
    read: dict[str, dict[str, Any]] = {}
    for file in files:
        try:
            contents = _file(file, with_import=False)
        except GrokinterpError as error:
            read[file.name] = {"error": str(error)}
        else:
            read[file.name] = {**contents.values, "said": _in_short(contents.values)}
    rows: list[tuple[str, object]] = [
        (shown(name), one.get("said") or _why_not(one["error"]))
        for name, one in list(read.items())[:_MOST_FILES]
    ]
    rows += [("", f"and {len(read) - _MOST_FILES} more files")] if len(read) > _MOST_FILES else []
    if runs:
        rows.append(("runs", f"{in_words(runs[:_MOST_FILES])}: grokinterp ls {path} lists them"))
    values = {
        "path": str(path),
        "kind": "folder",
        "bytes": sum(one.get("bytes", 0) for one in read.values()),
        "files": {name: {k: v for k, v in one.items() if k != "said"} for name, one in read.items()},
        "runs": runs,
    }
    if sum("error" not in one for one in read.values()) > 1 and not runs:
        with suppress(GrokinterpError):
            values["import"] = _recognised(read_files(*checkpoints_in(path), lenient=True), path)
            rows += _as_import(path, values["import"])
    return Contents(f"{path}: a folder with {len(files)} files and {len(runs)} runs", rows, values)


def _why_not(error: str) -> str:
    return shown(error.rpartition("cannot import ")[2].partition(": ")[2] or error, _MOST_SAID)


def _in_short(values: Mapping[str, Any]) -> str:
    tensors = values["tensors"]
    keys = ", ".join(list(values["entries"])[:4])
    return f"{size(values['bytes'])}, {values['format']}, {len(tensors)} tensors; keys {keys}"


def _file(path: Path, *, with_import: bool = True) -> Contents:
    """A file; `with_import` says whether the layouts are tried."""
    content = read_foreign(path)
    with reading(path):
        data = path.read_bytes()
    tensors = dict(list(_tensors(content, ()))[:_MOST_TENSORS])
    its = {shown_place((key,)): value for key, value in children(content)} or {"content": content}
    values: dict[str, Any] = {
        "path": str(path),
        "kind": "foreign file",
        "format": _format(data),
        "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        "entries": {key: _said(value) for key, value in its.items()},
        "tensors": tensors,
    }
    about = f"{values['format']}, {size(len(data))}, sha256 {values['sha256'][:12]}…"
    rows: list[tuple[str, object]] = [("file", f"{path}: {about}")]
    rows += [(key, said) for key, said in list(values["entries"].items())[:_MOST_ENTRIES]]
    if (more := len(its) - _MOST_ENTRIES) > 0:
        rows.append(("", f"and {more:,} more"))
    if len(tensors) > 1:
        are_named = all(isinstance(value, Tensor) for value in its.values())
        rows.append(("tensors", shapes_in_words(tensors, 0) if are_named else shapes_in_words(tensors)))
    if with_import:
        values["import"] = _recognised(Files({path.name: content}, {path.name: path}), path)
        rows += _as_import(path, values["import"])
    return Contents(f"{path.name}: somebody else's checkpoint", rows, values)


def _format(data: bytes) -> str:
    if data[8:9] == b"{":
        return "safetensors"
    return "torch.save" if data.startswith(b"PK") else "pickle, or torch.save before 1.6"


def _tensors(value: Any, place: Place) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every tensor with where it stands, its type and its shape."""
    if isinstance(value, Tensor):
        dtype = str(value.dtype).removeprefix("torch.")
        yield shown_place(place), {"dtype": dtype, "shape": list(value.shape)}
        return
    if isinstance(value, str) or is_numbers(value):
        return
    for key, child in children(value):
        yield from _tensors(child, (*place, key))


def _said(value: Any) -> str:
    """What a value is, in a line that is safe to print."""
    if isinstance(value, Tensor):
        number = f" = {value.item():.6g}" if value.numel() == 1 and not value.is_complex() else ""
        return f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}{number}"
    if is_numbers(value) and length(value):
        numbers = listed(value) or ()
        return f"{len(numbers):,} numbers, {shown(numbers[0], 24)} to {shown(numbers[-1], 24)}"
    kind = value.name if isinstance(value, Record) else type(value).__name__
    if inside := list(children(value)):
        dicts = state_dicts(value)
        tensors = sum(len(tensors) for _, tensors in dicts)
        of = f", {tensors:,} tensors in {len(dicts):,}" if len(dicts) > 1 else f", {tensors:,} tensors"
        if isinstance(value, list | tuple):
            return f"{len(inside):,} entries{of if tensors else ''}: {_said(inside[0][1])} ..."[:_MOST_SAID]
        several = (Mapping, list, tuple, Record)
        named = ", ".join(
            shown(key, 40) + ("" if isinstance(child, several) else f" {_said(child)}")
            for key, child in inside
        )
        what = f"{shown(kind)} with {len(inside):,} keys{of if tensors else ''}: "
        return what + (named if len(named) <= _MOST_SAID else f"{named[: _MOST_SAID - 3]}...")
    return shown(value if isinstance(value, str | int | float | bool | type(None)) else kind, _MOST_SAID)


def _recognised(files: Files, path: Path) -> dict[str, Any]:
    """What an import would take them for: the layout, the network and its steps; or why there is none."""
    try:
        known: Recognised = recognise(files, path, "auto", None, {})
    except GrokinterpError as error:
        return {"layout": None, "reason": str(error)}
    steps = known.snapshots
    return {
        "layout": known.name,
        "network": str(known.last.model),
        "model": known.last.model.model_dump(mode="json", exclude_none=True),
        "examples": [{"elements": p, "tokens": text} for p, text in known.last.tokens],
        "snapshots": len(steps.at),
        "steps": [step for step in steps.at if step not in steps.unknown],
        "said_of_steps": list(steps.sentences()),
        "series": {name: len(series.values) for name, series in known.series.items()},
        "assumed": known.last.assumed,
    }


def _as_import(path: Path, known: Mapping[str, Any]) -> list[tuple[str, object]]:
    if known["layout"] is None:
        return [("import", known["reason"].partition(f"{path}: ")[2] or known["reason"])]
    examples = [f"{one['elements']} elements as {one['tokens']!r}" for one in known["examples"]]
    rows: list[tuple[str, object]] = [
        ("layout", known["layout"]),
        ("network", known["network"]),
        ("examples", " or ".join(examples) or "sequences: which task it is, is found by trying"),
        ("snapshots", f"{known['snapshots']:,}: {'; '.join(known['said_of_steps'])}"),
    ]
    if known["series"]:
        series = {name.replace("_", " "): f"{count:,}" for name, count in known["series"].items()}
        rows.append(("numbers", in_words(series)))
    rows.append(("next", f"grokinterp import {path} --out DIR finds its task, and makes a run of it"))
    return rows
