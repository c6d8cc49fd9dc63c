"""Several files as one run: which files of a folder are read, and of which step each is.

A step is taken from inside a file ("epoch", "step") where every file has one of its own; else from the names,
by the number behind a word for steps, or by the number in which they differ. What is called `init` is the
first, what is called `final` the last.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..errors import GrokinterpError, UsageError
from ..foreign import read_foreign, shown
from ..memory import free_memory
from .places import entries
from .snapshots import INITIAL, LAST, OTHER_RUNS, Network
from .values import MOST_STEPS, STEP, STEP_WORDS, scalar, vocabulary, words

_SUFFIXES = {".pt", ".pth", ".ckpt", ".safetensors", ".pkl", ".pickle", ".bin", ".tar", ".th", ".p"}
_MOST_FILES = 10_000
_MOST_BYTES = 8e9
_THOUSANDS = {"": 1, "k": 1_000, "K": 1_000, "M": 1_000_000}
_NO_STEP = OTHER_RUNS | vocabulary(
    "p lr wd d v loss acc frac fraction layer layers head heads dim rank of mod"
)
"""Words whose numbers in names are no steps."""
_FEW = 4


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
        if read:
            return read, [path.name for path in every if path not in read]
    endings = ", ".join(sorted(_SUFFIXES))
    raise UsageError(
        f"cannot import {folder}: no file in it ends as checkpoints do ({endings}): name the file"
    )


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
    if others:
        more = f" and {len(others) - _FEW:,} more" if len(others) > _FEW else ""
        named = ", ".join(map(shown, others[:_FEW]))
        sentences.append(f"not read, as they do not end as checkpoints do: {named}{more}")
    return Files(contents, dict(zip(names, paths, strict=True)), tuple(sentences))


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
    nameless = [name for name in main if name not in steps.of and not _kind_of(name)]
    numbered = {} if steps.of else {name: i for i, name in enumerate(nameless)}
    every: list[Network] = []
    for name, several in networks.items():
        for network in several:
            one = replace(network, file=name, is_main=False)
            if network is main.get(name):
                one = _with_its_step(one, steps, numbered, is_last=nameless == [name])
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


def steps_in_names(names: Sequence[str]) -> dict[str, int]:
    """The steps that names of files say: the number behind a word for steps; else the one number in which the
    names differ, or the last of several. A name that says none is not there.

    Raises:
        UsageError: they differ in what tells runs apart, as seeds do.
    """
    numbers = {name: list(_numbers_of(name)) for name in names}
    of_runs = {frozenset(one for one in several if one[0] in OTHER_RUNS) for several in numbers.values()}
    if len(of_runs) > 1:
        first = min(before for of_run in of_runs for before, _ in of_run)
        what = f"the files differ in their {first}, by their names: they are of several runs"
        raise UsageError(f"{what}, so import each by itself")
    by_word = {
        name: step
        for name, several in numbers.items()
        if (step := next((n for word in STEP for before, n in several if _means(before, word)), None))
        is not None
    }
    if by_word:
        return by_word
    with_numbers = {name: several for name, several in numbers.items() if several}
    in_all = set.intersection(*map(set, with_numbers.values())) if len(with_numbers) > 1 else set()
    own = {name: [one for one in several if one not in in_all] for name, several in with_numbers.items()}
    return {
        name: may_be[-1][1]
        for name, several in own.items()
        if (may_be := [one for one in several if one[0] not in _NO_STEP])
    }


def _means(before: str, word: str) -> bool:
    """Whether a word before a number is one for steps."""
    return before in {word, f"{word}s", *{"epoch": ("ep", "e"), "iteration": ("it",)}.get(word, ())}


def _numbers_of(name: str) -> Iterator[tuple[str, int]]:
    """The whole numbers in the name of a file, each with the word just before it; `10k`, `10,000` and `1e4`
    are ten thousand."""
    stem = re.sub(r"(\.[a-zA-Z]\w*)+$", "", name)
    before = ""
    for match in re.finditer(_NUMBER_OR_WORD, stem):
        if match["word"]:
            before = match["word"].lower()
            continue
        if match["whole"] and len(match["whole"]) < 16:
            zeros = int(match["zeros"] or 0)
            number = int(match["whole"].replace(",", "")) * _THOUSANDS[match["times"] or ""] * 10**zeros
            if number < MOST_STEPS:
                yield before, number
        before = ""


_NUMBER_OR_WORD = (
    r"(\d+\.\d+)|(?P<whole>\d{1,3}(?:,\d{3})+|\d+)"
    r"(?:e(?P<zeros>\d)(?![a-zA-Z0-9])|(?P<times>[kKM])(?![a-zA-Z]))?|(?P<word>[a-zA-Z]+)"
)


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
    if len({*names}) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UsageError(f"the file {twice} is named twice: name it once")
    return names


def _natural(text: str) -> list[tuple[int, str]]:
    """A key by which names are ordered as people do, numbers by their size."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", text)]
