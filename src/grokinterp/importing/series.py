"""Losses and accuracies in a foreign file, with the steps that they are of.

They may be a list with one number a step, every so many steps, pairs with a step, rows, a dict by step, or stand beside a list of steps.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from ..foreign import Record
from .mapping import Layout
from .places import (
    STEP,
    STEP_WORDS,
    Account,
    Place,
    along,
    children,
    children_of_keys,
    increasing,
    length,
    listed,
    place_of,
    scalar,
    shown_place,
    step_in,
    words,
)

_PARTS = {**dict.fromkeys(("train", "training", "trn", "tr"), "train"), **dict.fromkeys(("test", "testing", "tst"), "test")}
_HELD_OUT = {"val", "valid", "validation", "eval", "heldout", "dev"}
_METRICS = {
    **dict.fromkeys(("loss", "losses", "ce", "nll", "xent"), "loss"),
    **dict.fromkeys(("acc", "accs", "accuracy", "accuracies"), "accuracy"),
}
_OTHER_WORDS = {
    *("history", "histories", "list", "curve", "curves", "log", "logs", "all", "metrics", "metric", "stats", "results", "values", "value"),
    *("per", "epoch", "by", "over", "time", "record", "records", "mean", "cross", "entropy", "step", "set", "data"),
}
_STEP_KEYS = STEP_WORDS | {"x", "t"}
_NOT_A_SERIES = {"optim", "optimizer", "optimiser", "scheduler", "config", "cfg", "args"}
_ROUND = sorted(digits * 10**power for digits in (1, 2, 4, 5, 25) for power in range(12))
_MOST_COLUMNS = 100
_FEW = 5
"""Of fewer numbers it is not said that they are every so many steps."""
_MOST_PERCENT = 100.0


@dataclass(frozen=True, eq=False)
class Series:
    """One loss or accuracy over steps.

    Attributes:
        column: its column of the history, `train_loss` and so on.
        place: where it stands.
        values: the numbers, None where one is missing.
        steps: the steps that the file gives them; None where it gives none.
        known_by: what gives them.
        uses: further places that were read for it.
        in_percent: whether the file has percent, of which `values` are the shares.
    """

    column: str
    place: Place
    values: Sequence[float | None]
    steps: Sequence[int] | None = None
    known_by: str = ""
    uses: tuple[Place, ...] = ()
    in_percent: bool = False

    @property
    def last(self) -> int:
        """The step of the last number, taking one a step from 0 on where the file says nothing."""
        return len(self.values) - 1 if self.steps is None else self.steps[-1]

    @property
    def what(self) -> str:
        part, metric = self.column.split("_")
        return f"{part} {'losses' if metric == 'loss' else 'accuracies'}"


@dataclass(frozen=True)
class Unread:
    """What has the name of a loss or an accuracy and was not taken, and why."""

    place: Place
    reason: str


def series_in(layout: Layout, content: Any) -> tuple[dict[str, Series], list[Unread]]:
    """The losses and accuracies in a file, by column, from where the layout says they are or else by their names; and what was not taken."""
    found: dict[str, Series] = {}
    unread: list[Unread] = []
    for column, place, value in _candidates(layout, content):
        if column in found:
            unread.append(Unread(place, f"{found[column].what} are read from {shown_place(found[column].place)}"))
            continue
        read = _read(column, place, value, content)
        if isinstance(read, Series):
            found[column] = read
        else:
            unread.append(Unread(place, read))
    return found, unread


def with_steps(series: Series, last: int | None, networks: Sequence[int]) -> tuple[dict[int, float], str]:
    """The numbers by step, and a sentence about how the steps are known; no numbers where they are not, and then the sentence says why.

    Args:
        last: the last step of the file's networks, where that is known.
        networks: the steps of all of them.
    """
    count = len(series.values)
    steps: Sequence[int] | None
    if series.steps is not None:
        steps, known_by = series.steps, series.known_by
    elif last is None or count >= last:
        steps, known_by = range(count), "one a step from 0 on, as they are taken"
    elif (every := thinning(count, last)) is not None:
        steps, known_by = range(0, last + 1, every), f"one every {every:,} steps, as they are taken: so many reach from 0 to the last step"
    elif count == len(networks) > 1:
        steps, known_by = networks, "the steps of the networks, as they are taken: there is one for each"
    else:
        return {}, f"{count:,} {series.what} do not go with its {last:,} steps, and the file does not say of which steps they are"
    known = {step: value for step, value in zip(steps, series.values, strict=True) if value is not None and math.isfinite(value)}
    percent = ", in percent" if series.in_percent else ""
    missing = count - len(known)
    lost = f"; {missing:,} that are no finite numbers were left out" if missing else ""
    under = f"{series.what}: {count:,} under {shown_place(series.place)}"
    return known, f"{under}, of steps {steps[0]:,} to {steps[-1]:,} ({known_by}){percent}{lost}"


def thinning(count: int, last: int) -> int | None:
    """Of which steps so many numbers are that reach from 0 to `last`: every k-th, if k is a round number and no other round number would do.

    Logging may have begun at k and ended before the last step; so every k with which so many numbers fit is thought of.
    """
    if count < _FEW or last < 1:
        return None
    fitting = [every for every in _ROUND if (count - 1) * every <= last < (count + 1) * every]
    return fitting[0] if len(fitting) == 1 and fitting[0] * (count - 1) == last else None


def account(series: Iterable[Series], unread: Iterable[Unread], without_steps: Mapping[str, str], entries: Account) -> None:
    """Enters what was read and what was not; `without_steps` gives by column why the numbers have no steps."""
    for one in unread:
        entries.leave(one.place, one.reason)
    for each in series:
        entries.use(*each.uses)
        if each.column in without_steps:
            entries.leave(each.place, without_steps[each.column])
        else:
            entries.use(each.place)


def _candidates(layout: Layout, content: Any) -> Iterator[tuple[str, Place, Any]]:
    """What may be a loss or accuracy: first what the layout names, then what is called so; what is called validation last."""
    contents = layout.contents
    named = {
        "train_loss": contents.train_losses,
        "test_loss": contents.test_losses,
        "train_accuracy": contents.train_accuracies,
        "test_accuracy": contents.test_accuracies,
    }
    given: set[Place] = set()
    for column, paths in named.items():
        for path in paths:
            if (place := place_of(content, path)) is not None and (value := along(content, place)[-1]) is not None:
                given.add(place)
                yield column, place, value
                break
    by_name = [one for one in _called_so(content, ()) if one[2] not in given]
    for _, column, place, value in sorted(by_name, key=lambda one: (one[0], len(one[2]))):
        yield column, place, value


def _called_so(value: Any, place: Place) -> Iterator[tuple[bool, str, Place, Any]]:
    """What is called a loss or accuracy of training or test examples: whether by another word for test, its column, where, and what it is."""
    if place and {*words(place[-1])} & _NOT_A_SERIES:
        return
    names = [name for name in _names(value) if not {*words(name)} <= STEP_WORDS]
    called = _column(place)
    if called is not None and len(names) < 2 and _is_in_a_row(value):
        yield *called, place, value
    elif names:
        for name in names[:_MOST_COLUMNS]:
            if (called := _column((*place, name))) is not None:
                yield *called, (*place, "*", name), value
    else:
        inner = (Mapping, Record) if isinstance(value, list | tuple) else (Mapping, Record, Tensor, list, tuple)
        for key, child in children(value):
            if isinstance(child, inner):
                yield from _called_so(child, (*place, key))


def _names(value: Any) -> list[str]:
    """The names of the columns, where these are rows of numbers by name."""
    inside = value.values() if isinstance(value, Mapping) else value
    return list(dict.fromkeys(name for row in inside for name in row)) if _rows(value) else []


def _is_in_a_row(value: Any) -> bool:
    """Whether this can be numbers over steps: a tensor, a list, or a dict by step."""
    return isinstance(value, Tensor | list | tuple) or (isinstance(value, Mapping) and all(step_in(key) is not None for key in value))


def _column(place: Place) -> tuple[bool, str] | None:
    """The column that the last names of a place mean, and whether by a word for held-out examples other than test."""
    part = metric = None
    other = False
    if not place or {*words(place[-1])} <= _STEP_KEYS:
        return None
    for key in reversed(place):
        for word in words(key) if isinstance(key, str) else ():
            if word in _PARTS or word in _HELD_OUT:
                named = _PARTS.get(word, "test")
                if part not in (None, named):
                    return None
                part, other = named, other or word in _HELD_OUT
            elif word in _METRICS:
                if metric not in (None, _METRICS[word]):
                    return None
                metric = _METRICS[word]
            elif word not in _OTHER_WORDS:
                return None
        if {"log", "logs"} & {*words(key)} and _METRICS.keys() & {*words(key)}:
            return None  # which may be logarithms
        if part and metric:
            return other, f"{part}_{metric}"
    return None


def _read(column: str, place: Place, value: Any, content: Any) -> Series | str:
    """The series that stands there, or why there is none."""
    if "*" in place:
        rows = _rows(value) or []
        pairs = [(step, scalar(row[place[-1]])) for step, row in rows if place[-1] in row]
    else:
        pairs = _pairs(value) or []
    if pairs:
        steps = increasing(step for step, _ in pairs) if pairs[0][0] is not None else None
        if steps is None and any(step is not None for step, _ in pairs):
            return "numbers with steps of their own that do not increase, or are no steps"
        values = [number for _, number in pairs]
        at = place[:-1] if "*" in place else (*place, "*")
        uses = tuple((*at, name) for name in _names(value) if {*words(name)} <= STEP_WORDS | {"global"}) if _rows(value) else ()
        series = Series(column, place, values, steps, "the file's own" if steps else "", uses)
    else:
        items = listed(value)
        if items is None or not items or not all(item is None or scalar(item) is not None for item in items):
            return (
                f"called a {column.replace('_', ' ')}, and neither numbers in a row, nor pairs of a step and a number, nor a dict by step"
            )
        series = Series(column, place, [scalar(item) for item in items])
    finite = [number for number in series.values if number is not None and math.isfinite(number)]
    if not finite:
        return "it holds no finite number"
    if min(finite) < 0:
        return "it holds numbers below 0, which are neither losses nor accuracies"
    if column.endswith("accuracy") and max(finite) > 1:
        if max(finite) > _MOST_PERCENT:
            return "it holds numbers above 100, which are no accuracies"
        shares = [None if number is None else number / 100 for number in series.values]
        series = replace(series, values=shares, in_percent=True)
    if series.steps is None and (beside := _steps_beside(series, content)) is not None:
        at, steps = beside
        series = replace(series, steps=steps, known_by=f"the file's {shown_place(at)}", uses=(at,))
    return series


def _pairs(value: Any) -> list[tuple[Any, Any]] | None:
    """Steps and numbers, where they come together: in pairs, in two columns or rows, or in a dict by step; else None."""
    if isinstance(value, Tensor):
        if value.dim() != 2 or 2 not in value.shape or value.numel() < 2:
            return None
        table = value.tolist()
        columns = table if value.shape[1] != 2 else list(zip(*table, strict=True))
        return list(zip(*columns, strict=True)) if increasing(columns[0]) else None
    if isinstance(value, Mapping):
        steps = [(step_in(key), scalar(number)) for key, number in value.items()]
        if not steps or any(step is None or number is None for step, number in steps):
            return None
        return sorted(steps)  # type: ignore[type-var, unused-ignore]
    if isinstance(value, list | tuple) and value and all(length(item) == 2 for item in value):
        pairs = [tuple(listed(item) or ()) for item in value]
        return [(step, scalar(number)) for step, number in pairs] if increasing(step for step, _ in pairs) else None
    rows = _rows(value)
    if rows is None:
        return None
    names = {name for _, row in rows for name in row}
    return [(step, scalar(next(iter(row.values())))) for step, row in rows] if len(names) == 1 else None


def _rows(value: Any) -> list[tuple[int | None, Mapping[str, Any]]] | None:
    """Rows of numbers by name, each with its step where it says one: a list of dicts, or a dict of dicts by step; else None."""
    keyed = isinstance(value, Mapping)
    if not (keyed or isinstance(value, list | tuple)):
        return None
    inside = value.values() if keyed else value
    if not inside or not all(isinstance(row, Mapping) and 0 < len(row) <= _MOST_COLUMNS for row in inside):
        return None
    rows: list[tuple[int | None, Mapping[str, Any]]] = [(None, row) for row in inside]
    if keyed:
        steps = [step_in(key) for key in value]
        if any(step is None for step in steps):
            return None
        rows = sorted(((step, row) for step, row in zip(steps, inside, strict=True)), key=lambda one: one[0] or 0)
    if not all(isinstance(name, str) for _, row in rows for name in row):
        return None
    if not all(
        isinstance(item, str | None) or scalar(item) is not None or isinstance(item, bool) for _, row in rows for item in row.values()
    ):
        return None
    key = next((name for word in STEP for name in rows[0][1] if words(name) in ((word,), ("global", word))), None)
    if key is None or keyed:
        return rows
    return [(row.get(key), {name: item for name, item in row.items() if name != key}) for _, row in rows]


def _steps_beside(series: Series, content: Any) -> tuple[Place, list[int]] | None:
    """A list of as many steps in the same dict, or one further up; of several that which shares most words with the series."""
    if "*" in series.place:
        return None
    values = along(content, series.place)
    own = {word.rstrip("s") for key in series.place for word in words(key)}
    for depth in reversed(range(len(series.place))):
        entries = children_of_keys(values[depth])
        fitting: list[tuple[int, Place, list[int]]] = []
        for key, value in entries.items() if len(entries) <= 1000 else ():
            parts = {*words(key)}
            if parts & _STEP_KEYS and length(value) == len(series.values) and (steps := increasing(listed(value) or ())) is not None:
                fitting.append((len(own & {word.rstrip("s") for word in parts}), (*series.place[:depth], key), steps))
        if fitting:
            most = max(fitting, key=lambda one: one[0])
            alike = {tuple(steps) for shared, _, steps in fitting if shared == most[0]}
            return (most[1], most[2]) if len(alike) == 1 else None
    return None
