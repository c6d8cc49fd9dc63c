"""Several files as one run: which files of a folder are read, and of which step each is.

A step is taken from inside a file ("epoch", "step") where every file has one of its own; else from the names
(file_names.py). What is called `init` is the first, what is called `final` the last.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..errors import GrokinterpError, UsageError
from ..foreign import read_foreign, shown
from ..memory import free_memory
from .file_names import no_steps_in_names, steps_in_names
from .places import entries
from .snapshots import INITIAL, LAST, NETWORK_WORDS, Network
from .values import STEP_WORDS, scalar, step_in, words

_SUFFIXES = {".pt", ".pth", ".ckpt", ".safetensors", ".pkl", ".pickle", ".bin", ".tar", ".th", ".p"}
_MOST_FILES = 10_000
_MOST_BYTES = 8e9
_FEW = 4
_IN_ORDER = ({"early"}, {"half", "halfway", "mid", "middle"}, {"late"})
"""Words of names in the order of training."""


@dataclass(frozen=True, eq=False)
class Files:
    """Several files that are read as one run.

    Attributes:
        contents: what is in each, by its name from the folder on.
        paths: where each is.
        sentences: which were not read, and why.
    """

    contents: Mapping[str, Any]
    paths: Mapping[str, Path]
    sentences: tuple[str, ...] = ()


def checkpoints_in(folder: Path) -> tuple[list[Path], list[str]]:
    """The files of a folder that end as checkpoints do, in their natural order, or those in its folders where
    it has none itself; and the names of the others.

    Raises:
        UsageError: there are none, or it is a run.
    """
    if (folder / "run.json").is_file():
        raise UsageError(f"cannot import {folder}: it is a run already: analyse it as it is")
    for pattern in ("*", "*/*"):
        every = sorted(
            (path for path in folder.glob(pattern) if path.is_file() and not path.name.startswith(".")),
            key=lambda path: _natural(str(path)),
        )
        read = [path for path in every if path.suffix.lower() in _SUFFIXES]
        if len(read) > _MOST_FILES:
            raise UsageError(f"cannot import {folder}: it has {len(read):,} checkpoints: name some of them")
        if read and pattern == "*/*":
            _refuse_several_runs(folder, read)
        if read:
            deeper = {path.parent.name for path in folder.glob("*/*") if path.suffix.lower() in _SUFFIXES}
            folders = [f"{name}/*" for name in sorted(deeper)] if pattern == "*" else []
            return read, [path.name for path in every if path not in read] + folders
    endings = ", ".join(sorted(_SUFFIXES))
    raise UsageError(
        f"cannot import {folder}: no file in it ends as checkpoints do ({endings}): name the file"
    )


def _refuse_several_runs(folder: Path, paths: Sequence[Path]) -> None:
    """
    Raises:
        UsageError: the files lie in several folders whose names say no steps.
    """
    several = _of_no_steps(paths)
    if len(several) > 1:
        more = f" and {len(several) - 2:,} more" if len(several) > 2 else ""
        what = f"its checkpoints lie in {shown(several[0])} and {shown(several[1])}{more}"
        one = f"import each by itself, as {folder / several[0]}, or name the files that are of one"
        raise UsageError(f"cannot import {folder}: {what}, which are several runs by their names: {one}")


def _of_no_steps(paths: Sequence[Path]) -> list[str]:
    """The names of the folders in which files lie and that say no step, as `checkpoint-100` does."""
    folders = dict.fromkeys(path.parent.name for path in paths)
    return [name for name in folders if step_in(name, NETWORK_WORDS | {"global"}) is None]


def read_files(paths: Sequence[Path], others: Sequence[str] = (), lenient: bool = False) -> Files:
    """What is in the files. Where `lenient`, one that cannot be read does not lose the others.

    Raises:
        GrokinterpError: a file, or all of them, cannot be read, or they are too large together.
    """
    room = min(_MOST_BYTES, free_memory() / 2)
    names = _names(paths)
    contents, bad = {}, []
    for name, path in zip(names, paths, strict=True):
        try:
            contents[name] = read_foreign(path, None if len(paths) == 1 else room)
            room -= path.stat().st_size
        except GrokinterpError as error:
            if not lenient:
                raise
            bad.append(error)
    if not contents:
        raise bad[0]
    sentences = [f"left out: {str(error).removeprefix('cannot import ')}" for error in bad[:_FEW]]
    if len(bad) > _FEW:
        sentences.append(f"left out: {len(bad) - _FEW:,} more files that cannot be read")
    in_folders = [name for name in others if name.endswith("/*")]
    for unread, why in (
        ([name for name in others if name not in in_folders], "they do not end as checkpoints do"),
        (in_folders, "they lie in folders of their own"),
    ):
        if unread:
            sentences.append(f"not read, as {why}: {_few(unread)}")
    return Files(contents, dict(zip(names, paths, strict=True)), tuple(sentences))


def without_networks(names: Sequence[str]) -> list[str]:
    """A sentence on the files in which no network is, if there are any."""
    if not names:
        return []
    return [f"left unread, as no network is in them: {_few(names)}"]


def _few(names: Sequence[str]) -> str:
    more = f" and {len(names) - _FEW:,} more" if len(names) > _FEW else ""
    return f"{', '.join(map(shown, names[:_FEW]))}{more}"


def rows_of_files(networks: Sequence[Network], files: Files) -> dict[str, Any]:
    """The numbers that stand beside the network of each file, one row a file, in the order of the steps: what
    a loop that saves a file each epoch writes of its losses."""
    of_files = [one for one in networks if one.file and not one.is_numbered]
    step_of = {one.file: one.step for one in of_files if one.step is not None}
    rows: list[dict[str, Any]] = []
    for file, step in sorted(step_of.items(), key=lambda one: one[1]):
        named = {key: value for key, value in entries(files.contents[file]).items() if isinstance(key, str)}
        numbers = {
            key: number
            for key, value in named.items()
            if not {*words(key)} & STEP_WORDS and (number := scalar(value)) is not None
        }
        rows += [{"step": step, **numbers}] * (not rows or rows[-1]["step"] != step)
    return {"each file": rows} if len(rows) > 1 else {}


@dataclass
class _Steps:
    """The steps of files by name, how each is known, and what is to be said of that."""

    of: dict[str, tuple[int, str]] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)


def with_steps_of_files(networks: Mapping[str, Sequence[Network]]) -> tuple[list[Network], list[str]]:
    """The networks of all files, with the steps of their files where they have none that could be theirs; and
    sentences on where names and what is inside do not agree.

    Raises:
        UsageError: the files are of several runs, by their names.
    """
    main = {name: one for name, several in networks.items() if (one := _main(several)) is not None}
    steps = _steps({name: one.step for name, one in main.items()})
    nameless = _in_order([name for name in main if name not in steps.of and not _kind_of(name)])
    begin = int(any(_kind_of(name) == "first" for name in main))
    numbered = {} if steps.of else {name: begin + i for i, name in enumerate(nameless)}
    every: list[Network] = []
    for name, several in networks.items():
        for network in several:
            one = replace(network, file=name, is_main=False)
            if network is main.get(name):
                one = _with_its_step(one, steps, numbered, is_last=bool(steps.of) and nameless == [name])
            elif one.step is None and one.container is None:
                one = replace(one, untaken=())
            every.append(one)
    return every, steps.said


def _with_its_step(one: Network, steps: _Steps, numbered: Mapping[str, int], is_last: bool) -> Network:
    """The one network of a file, or its last, with the step of the file."""
    kind = _kind_of(one.file)
    if one.file in steps.of:
        step, known_by = steps.of[one.file]
        if step != one.step:
            return replace(one, step=step, known_by=known_by, untaken=())
        return replace(one, known_by=known_by)
    if one.file in numbered:
        return replace(one, step=numbered[one.file], is_numbered=True)
    if kind == "first":
        return replace(one, step=0, known_by="meant by the names of the files")
    return replace(one, is_main=kind == "last" or is_last)


def _main(several: Sequence[Network]) -> Network | None:
    """The network of which a file's step is: its main one, or its only one that is no average."""
    alone = [one for one in several if one.container is None and not one.is_average]
    return next((one for one in several if one.is_main), alone[0] if len(alone) == 1 else None)


def _steps(inside: Mapping[str, int | None]) -> _Steps:
    """Of which step each file is, as far as that is known."""
    by_name = steps_in_names(list(inside))
    steps = _Steps()
    of_numbers = [name for name, step in inside.items() if step is None and not _kind_of(name)]
    if (sentence := no_steps_in_names(of_numbers, by_name)) is not None:
        steps.said.append(sentence)
    known = {name: step for name, step in inside.items() if step is not None}
    is_one_each = len({*known.values()}) == len(known)
    if known and not is_one_each and len(by_name) > len({*known.values()}):
        value, count = max(((v, [*known.values()].count(v)) for v in known.values()), key=lambda one: one[1])
        steps.said.append(
            f"the step inside is {value:,} in {count} files, and so not one for each: those in the names of "
            "the files were taken"
        )
        known = {name: step for name, step in known.items() if name not in by_name}
    if other := [name for name, step in known.items() if by_name.get(name, step) != step]:
        example = f"{shown(other[0])}, and {known[other[0]]:,} inside"
        steps.said.append(
            f"the names of {len(other)} files say another step than what is inside ({example}): what is "
            "inside was taken"
        )
    steps.of = {name: (step, "each file's own, inside it") for name, step in known.items()}
    for name, step in by_name.items():
        steps.of.setdefault(name, (step, "from the names of the files"))
    return steps


def _kind_of(name: str) -> str:
    """Whether a name means the "first" or the "last" network, or "another" one; "" where it means none."""
    its_words = {*words(name)}
    if its_words & INITIAL:
        return "first"
    if its_words & LAST:
        return "last"
    return "another" if its_words & {"best", "ema", "swa", "average"} else ""


def _names(paths: Sequence[Path]) -> list[str]:
    """What the files are called: their names, with their folders where names are alike."""
    names = [path.name for path in paths]
    if len({*names}) < len(names):
        names = ["/".join(path.parts[-2:]) for path in paths]
        several = _of_no_steps(paths)
        if len({*names}) == len(names) and len(several) > 1:
            what = f"files of {shown(several[0])} and {shown(several[1])} have the same names"
            raise UsageError(
                f"cannot import: {what}, so they are of several runs: import those of each by itself"
            )
    if len({*names}) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UsageError(f"the file {twice} is named twice: name it once")
    return names


def _natural(text: str) -> list[tuple[int, str]]:
    """A key by which names are ordered as people do, numbers by their size."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", text)]


def _in_order(names: Sequence[str]) -> list[str]:
    """Names without steps in the order that their words have, where all have such words; else as they are."""
    ranks = {
        name: next((rank for rank, of in enumerate(_IN_ORDER) if of & {*words(name)}), None) for name in names
    }
    return list(names) if None in ranks.values() else sorted(names, key=lambda name: ranks[name] or 0)
