"""Runs grouped by keys of their configuration: what each group did, and whether two groups differ in when
they learned. Plain values; no figure is made here.

What a run did is its kind (`phases`), by its evaluations. Of the kinds, Liu et al. 2022 (arXiv 2205.10343)
name four:

    theirs          the kind here             what differs
    comprehension   generalises at once       they ask for test accuracy within 1,000 steps of training
                                              accuracy, `phases` within twice the steps that training took
    grokking        groks                     likewise
    memorisation    memorises only            of theirs, a network may be better than chance on unseen
                                              examples: here it then learns in part
    confusion       learns nothing            of theirs, it may have learned a part of its training examples

Where runs of a group differ, each kind has its share of them.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ..asked import got
from ..errors import UsageError, nearest
from ..training.words import meant
from .comparison import SEEDS, WATCHING, Compared, RunsCompared
from .phases import Kind
from .survival import LogRank, Survival, holm, log_rank, survival

if TYPE_CHECKING:
    import pandas as pd

NAMED_BY_LIU: dict[Kind, str] = {
    "generalises at once": "comprehension",
    "groks": "grokking",
    "memorises only": "memorisation",
    "learns nothing": "confusion",
}
_MOST_KEYS = 2
_LONGEST_HINT = 200


@dataclass(frozen=True)
class Cell:
    """The runs whose keys have the same values.

    Attributes:
        values: of the keys, in their order.
        runs: these runs.
        kinds: what they did, with the names of those that did; the commonest first.
        train, test: by which step they learned their training and test examples to 99 %.
        diverged: the names of those of which something became NaN or infinite.
    """

    values: tuple[Any, ...]
    runs: tuple[Compared, ...]
    kinds: dict[Kind, list[str]]
    train: Survival
    test: Survival
    diverged: tuple[str, ...]

    @classmethod
    def of(cls, values: tuple[Any, ...], runs: Sequence[Compared]) -> Cell:
        """What can be said of these runs together."""
        kinds: dict[Kind, list[str]] = {}
        for each in runs:
            kinds.setdefault(each.kind, []).append(each.name)
        return cls(
            values,
            tuple(runs),
            dict(sorted(kinds.items(), key=lambda item: -len(item[1]))),
            survival([each.train for each in runs]),
            survival([each.test for each in runs]),
            tuple(each.name for each in runs if each.run.diverged),
        )


@dataclass(frozen=True)
class Tested:
    """Two groups held against one another.

    Attributes:
        one, other: the values of their keys.
        test: whether they differ in the steps to 99 % of the test examples.
        adjusted: p for the number of tests (Holm 1979); None where there is no test.
    """

    one: tuple[Any, ...]
    other: tuple[Any, ...]
    test: LogRank
    adjusted: float | None = None


class RunsBy:
    """Runs grouped by one key of their configuration, or by two.

    Attributes:
        keys: by which.
        levels: of each key the values that there are, in order.
        cells: the groups, in the order of their values.
        left_out: the runs whose configuration does not have the keys, or does not say.
    """

    def __init__(self, compared: RunsCompared, keys: Sequence[str]) -> None:
        """Groups these runs, of copies one.

        Raises:
            UsageError: no run has a key of that name; there are more than two; no run has them all; or a
                group would hold runs of different tasks.
        """
        self.keys = tuple(dict.fromkeys(keys))
        asked = ", ".join(self.keys)
        if not 1 <= len(self.keys) <= _MOST_KEYS:
            raise UsageError(
                f"groups by {len(self.keys)} keys ({asked or 'none'}): needs one or two; of a third, compare "
                "the runs of one value at a time"
            )
        runs = compared.distinct
        settings = {each.name: _deep(each.settings) for each in runs}
        for key in self.keys:
            _refuse_unknown(key, settings.values())
        groups: dict[str, list[Compared]] = {}
        for each in runs:
            if all(key in settings[each.name] for key in self.keys):
                values = [settings[each.name][key] for key in self.keys]
                groups.setdefault(json.dumps(values, sort_keys=True), []).append(each)
        self.left_out = [
            each.name for each in runs if not all(key in settings[each.name] for key in self.keys)
        ]
        if not groups:
            raise UsageError(f"groups by {asked}: no run has both of these keys; group by one of them")
        for same in groups.values():
            self._refuse_mixed(same)
        values_of = {mark: tuple(json.loads(mark)) for mark in groups}
        self.levels = [_in_order([values[i] for values in values_of.values()]) for i in range(len(self.keys))]
        places = {
            mark: [level.index(x) for level, x in zip(self.levels, values, strict=True)]
            for mark, values in values_of.items()
        }
        self.cells = [
            Cell.of(values_of[mark], groups[mark]) for mark in sorted(groups, key=places.__getitem__)
        ]

    def _refuse_mixed(self, same: Sequence[Compared]) -> None:
        tasks = {json.dumps(each.run.config.task, sort_keys=True): each for each in same}
        if len(tasks) == 1:
            return
        of_task = [{f"task.{key}": x for key, x in each.run.config.task.items()} for each in tasks.values()]
        differ = [key for key in of_task[0] if len({json.dumps(each.get(key)) for each in of_task}) > 1]
        key = "task.name" if "task.name" in differ or not differ else differ[0]
        symbols = ", ".join(dict.fromkeys(each.run.task.symbol for each in tasks.values()))
        raise UsageError(
            f"groups by {', '.join(self.keys)} would hold runs of different tasks ({symbols}): give runs of "
            f"one task, or group by {key}"
        )

    @cached_property
    def tests(self) -> list[Tested]:
        """The log-rank test between every two groups."""
        found = [
            Tested(
                one.values,
                other.values,
                log_rank([each.test for each in one.runs], [each.test for each in other.runs]),
            )
            for one, other in itertools.combinations(self.cells, 2)
        ]
        tested = [i for i, each in enumerate(found) if each.test.p is not None]
        for i, p in zip(tested, holm([found[i].test.p or 0.0 for i in tested]), strict=True):
            found[i] = replace(found[i], adjusted=p)
        return found

    @property
    def one_run_each(self) -> bool:
        """Whether no group has more than one run, and there are several."""
        return len(self.cells) > 1 and all(len(cell.runs) == 1 for cell in self.cells)

    @cached_property
    def also_differ(self) -> list[str]:
        """The keys in which runs of a group differ, seeds and what makes it no other run aside."""
        found: dict[str, None] = {}
        for cell in self.cells:
            settings = [each.settings for each in cell.runs]
            for key in settings[0]:
                if (
                    key not in (*self.keys, *SEEDS, *WATCHING)
                    and len({_mark(s.get(key)) for s in settings}) > 1
                ):
                    found[key] = None
            if len({each.start for each in cell.runs}) > 1:
                found["start"] = None
        return list(found)

    @cached_property
    def notes(self) -> list[str]:
        """What a reader must know of these groups, a sentence each."""
        said = []
        for key, levels in zip(self.keys, self.levels, strict=True):
            if len(levels) == 1:
                said.append(f"{key} is {json.dumps(levels[0])} in every run, so that it parts nothing.")
        if self.one_run_each:
            said.append(
                f"No two runs have the same {' and '.join(self.keys)}: each group is one run, of which there "
                "is neither an interval nor a test."
            )
        if self.also_differ:
            said.append(
                f"Runs of a group differ not in their seeds alone, but in {', '.join(self.also_differ)} too."
            )
        if self.left_out:
            said.append(f"Left out, as {_counted(self.left_out)} not known to have these keys.")
        if unknown := sum(cell.test.unknown for cell in self.cells):
            said.append(f"{unknown} never evaluated on test examples: in no number of steps.")
        if diverged := [name for cell in self.cells for name in cell.diverged]:
            ended = "counted as followed up to there, though that is how they went"
            said.append(f"{_counted(diverged)} seen to diverge: {ended}.")
        if at_first := sum(cell.test.at_first for cell in self.cells):
            said.append(
                f"{at_first} had learned by the first evaluation, which counts as the step; it may be less."
            )
        if apart := [cell.test.apart for cell in self.cells if cell.test.apart is not None]:
            said.append(
                "A step is that of the evaluation that first showed it; it happened since the one before, up "
                f"to {max(apart):,} {'step' if max(apart) == 1 else 'steps'} earlier."
            )
        return said

    @property
    def table(self) -> pd.DataFrame:
        """One row for each group: its keys, how many runs, what they did (their commonest kind, and how many
        of each), median steps to 99 % of the test and training examples with their 95 % intervals."""
        import pandas as pd

        rows = []
        for cell in self.cells:
            row: dict[str, Any] = dict(zip(self.keys, map(_plain, cell.values), strict=True))
            row |= {"runs": len(cell.runs), "kind": next(iter(cell.kinds))}
            row |= {kind: len(cell.kinds.get(kind, ())) for kind in self.kinds}
            for part in ("test", "train"):
                of: Survival = getattr(cell, part)
                row |= {f"{part}_learned": of.learned, f"{part}_median": of.median}
                row |= {f"{part}_median_low": of.median_low, f"{part}_median_high": of.median_high}
            rows.append(row)
        ends = [f"{part}_median_{end}" for part in ("test", "train") for end in ("low", "high")]
        return pd.DataFrame(rows).astype(dict.fromkeys(ends, "Int64"))

    @property
    def kinds(self) -> list[Kind]:
        """What any of the runs did, the commonest first."""
        counts: dict[Kind, int] = {}
        for cell in self.cells:
            for kind, names in cell.kinds.items():
                counts[kind] = counts.get(kind, 0) + len(names)
        return sorted(counts, key=lambda kind: -counts[kind])

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return {
            "keys": list(self.keys),
            "levels": self.levels,
            "cells": [
                {
                    "values": list(cell.values),
                    "runs": [each.name for each in cell.runs],
                    "kinds": cell.kinds,
                    "diverged": list(cell.diverged),
                    "steps_to_99": {"train": cell.train.to_dict(), "test": cell.test.to_dict()},
                }
                for cell in self.cells
            ],
            "log_rank": {
                "comparisons": sum(each.test.p is not None for each in self.tests),
                "correction": "Holm 1979",
                "pairs": [
                    {
                        "one": list(each.one),
                        "other": list(each.other),
                        **asdict(each.test),
                        "p_adjusted": each.adjusted,
                    }
                    for each in self.tests
                ],
            },
            "left_out": self.left_out,
            "also_differ": self.also_differ,
            "notes": self.notes,
        }


def _deep(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings by dotted keys, with what is inside sections of sections by its own key too."""
    found = dict(settings)
    for key, value in settings.items():
        if isinstance(value, Mapping):
            found |= _deep({f"{key}.{inner}": x for inner, x in value.items()})
    return found


def _refuse_unknown(key: str, settings: Any) -> None:
    known = {each: None for some in settings for each in some}
    if key in known:
        return
    hint = meant(key.rpartition(".")[2], set(known))
    if hint is None:
        homes = [each for each in known if each.rpartition(".")[2] == key.rpartition(".")[2]]
        hint = f"; did you mean {' or '.join(map(repr, homes))}?" if homes else nearest(key, known)
        if len(hint) > _LONGEST_HINT:
            hint = " of their configurations"
    raise UsageError(f"groups by {got(key)}: no run has that key{hint}")


def _in_order(values: Sequence[Any]) -> list[Any]:
    """The different values: what is not set first, then numbers by size, then others by name."""

    def place(value: Any) -> tuple[int, float, str]:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if value is None or number:
            return (int(number), float(value or 0), "")
        return (2, 0.0, _mark(value))

    return sorted({_mark(value): value for value in values}.values(), key=place)


def _mark(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _plain(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, list | dict) else value


def _counted(names: Sequence[str]) -> str:
    if len(names) <= 4:
        return f"{', '.join(names)} {'is' if len(names) == 1 else 'are'}"
    return f"{len(names)} runs ({names[0]} to {names[-1]}) are"
