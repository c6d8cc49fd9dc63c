"""What the names of files say of the steps of the networks in them: the number behind a word for steps, or
the one number in which they differ. A date, a time or a score is no step."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from ..errors import UsageError
from ..foreign import shown
from .snapshots import OTHER_RUNS
from .values import MOST_STEPS, STEP, vocabulary

_THOUSANDS = {"": 1, "k": 1_000, "K": 1_000, "M": 1_000_000}
_RUNS = OTHER_RUNS | {"run"}
_NO_STEP = _RUNS | vocabulary(
    "p lr wd d v loss acc accuracy frac fraction layer layers head heads dim rank of mod score best val test "
    "f err error ppl nll ce mse auc kl pct percent gpu part shard time date day hour min sec"
)
"""Words whose numbers in names are no steps, before or behind them."""
_DATE = re.compile(
    r"(?<!\d)(19|20)\d\d([-_.]?)(0[1-9]|1[0-2])\2(0[1-9]|[12]\d|3[01])(?!\d)"
    r"|(?i:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*[-_]?\d{1,2}(?!\d)"
    r"|(?<!\d)1\d{9}(\d{3})?(\.\d+)?(?!\d)"
)
"""A day, or seconds or milliseconds since 1970."""
_AFTER_DATE = re.compile(r"[-_T ]*([01]\d|2[0-3])([-_:.h]?)[0-5]\d(\2[0-5]\d)?(?!\d)")
_TIME = re.compile(r"(?<!\d)([01]\d|2[0-3])[-:h][0-5]\d([-:m][0-5]\d)?(?!\d)")
_NUMBER_OR_WORD = re.compile(
    r"(\d+\.\d+)|(?P<whole>\d{1,3}(?:,\d{3})+|\d+)"
    r"(?:e(?P<zeros>\d)(?![a-zA-Z0-9])|(?P<times>[kKM])(?![a-zA-Z]))?|(?P<word>[a-zA-Z]+)"
)


def steps_in_names(names: Sequence[str]) -> dict[str, int]:
    """The steps that names of files say: the number behind a word for steps; else the one number in which the
    names differ, or of several the one of which no two have the same. A name that says none is not there.

    Raises:
        UsageError: they differ in what tells runs apart, as seeds do.
    """
    numbers = {name: list(_numbers_of(name)) for name in names}
    of_runs = {frozenset(one for one in several if one[0] in _RUNS) for several in numbers.values()}
    if len(of_runs) > 1:
        first = min(before for of_run in of_runs for before, _ in of_run)
        what = f"the files differ in their {first}, by their names: they are of several runs"
        raise UsageError(f"{what}, so import each by itself")
    by_words = [
        {
            name: n
            for name, several in numbers.items()
            for before, n in reversed(several)
            if _means(before, word)
        }
        for word in STEP
    ]
    if any(by_words):
        # Of epochs and steps in each name, that which tells the files apart.
        return max(by_words, key=lambda steps: len({*steps.values()}))
    numbers = {name: list(_numbers_of(_without_times(name), behind=True)) for name in names}
    with_numbers = {name: several for name, several in numbers.items() if several}
    in_all = set.intersection(*map(set, with_numbers.values())) if len(with_numbers) > 1 else set()
    own = {
        name: [number for before, number in several if before not in _NO_STEP]
        for name, several in with_numbers.items()
        for several in [[one for one in several if one not in in_all]]
    }
    columns = [*zip(*(several for several in own.values() if several), strict=False)]
    if len({len(several) for several in own.values() if several}) > 1:
        return {}
    telling = [column for column, values in enumerate(columns) if len({*values}) == len(values)]
    if len(columns) > 1 and len(telling) != 1:
        return {}
    at = telling[0] if len(columns) > 1 else 0
    return {name: several[at] for name, several in own.items() if several}


def no_steps_in_names(names: Sequence[str], steps: Mapping[str, int]) -> str | None:
    """A sentence on numbers in names of files that were not taken for steps; None where there are none."""
    unread = [name for name in names if name not in steps and re.search(r"\d", name.rpartition(".")[0])]
    if not unread:
        return None
    what = "a date or a time" if any(_without_times(name) != name for name in unread) else "numbers"
    its = "a file has", "its name"
    which, where = its if len(unread) == 1 else (f"{len(unread):,} files have", "their names")
    is_no_step = "which cannot be read as a step for certain: to say the steps, name files as epoch_100.pt"
    return f"{which} {what} in {where} ({shown(unread[0])}), {is_no_step}"


def _means(before: str, word: str) -> bool:
    """Whether a word before a number is one for steps."""
    return before in {word, f"{word}s", *{"epoch": ("ep", "e"), "iteration": ("it",)}.get(word, ())}


def _without_times(name: str) -> str:
    """The name without the dates and times in it."""
    while (match := _DATE.search(name)) is not None:
        after = _AFTER_DATE.match(name, match.end())
        name = f"{name[: match.start()]}_{name[after.end() if after else match.end() :]}"
    return _TIME.sub("_", name)


def _numbers_of(name: str, behind: bool = False) -> Iterator[tuple[str, int]]:
    """The whole numbers in the name of a file, each with the word just before it, those with letters right
    `behind` them left out where asked for; `10k`, `10,000` and `1e4` are ten thousand."""
    stem = re.sub(r"(\.[a-zA-Z]\w*)+$", "", name)
    before = ""
    for match in _NUMBER_OR_WORD.finditer(stem):
        if match["word"]:
            # Behind a digit it is a part of something else: a hash, `128d2`.
            before = "" if stem[: match.start()][-1:].isdecimal() else match["word"].lower()
            continue
        # What letters stand behind is no number: `97acc`, `128d`; nor is what is in a hash, `3fa9c2`.
        around = re.search(r"[a-zA-Z0-9]*$", stem[: match.end()])
        is_mixed = around is not None and re.search(r"\d[a-zA-Z]+\d", around[0]) is not None
        is_in_hash = is_mixed and not match["zeros"]
        is_glued = behind and (is_in_hash or stem[match.end() : match.end() + 1].isalpha())
        if match["whole"] and len(match["whole"]) < 16 and not is_glued:
            zeros = int(match["zeros"] or 0)
            number = int(match["whole"].replace(",", "")) * _THOUSANDS[match["times"] or ""] * 10**zeros
            if number < MOST_STEPS:
                yield before, number
        before = ""
