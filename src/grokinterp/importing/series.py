"""Losses and accuracies in a foreign file, with the steps that they are of.

They may be one number a step, or every so many steps; pairs with a step, rows, a dict by step; or stand
beside a list of steps.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from ..foreign import Record
from .mapping import Layout
from .places import Account, Place, along, children, counted, entries, places_of, shown_place
from .values import STEP, STEP_WORDS, increasing, length, listed, scalar, step_in, vocabulary, words

_TRAIN, _TEST = vocabulary("train training trn tr"), vocabulary("test testing tst")
_HELD_OUT = vocabulary("val valid validation eval heldout dev")
_LOSS, _ACCURACY = vocabulary("loss losses ce nll xent"), vocabulary("acc accs accuracy accuracies")
_BESIDE = vocabulary(
    "history histories list curve curves all metrics metric stats results values value per epoch by over "
    "time record records mean cross entropy step set data"
)
_LOGS = vocabulary("log logs")
"""A dict of this name may hold losses; `log_losses` may be logarithms."""
_STEP_KEYS = STEP_WORDS | {"x", "t"}
_NOT_A_SERIES = vocabulary("optim optimizer optimiser scheduler config cfg args")
_CONTENTS = {"train_loss": "train_losses", "test_loss": "test_losses"} | {
    **{"train_accuracy": "train_accuracies", "test_accuracy": "test_accuracies"}
}
"""Columns, and where a layout says that they stand."""
_ROUND = sorted(digits * 10**power for digits in (1, 2, 4, 5, 25) for power in range(12))
_FEW = 5
"""Of fewer numbers it is not said that they are every so many steps."""
_MOST_PERCENT = 100.0
_MOST_COLUMNS = 100
_MOST_KEYS = 1000


@dataclass(frozen=True, eq=False)
class Series:
    """One loss or accuracy over steps.

    Attributes:
        column: its column of the history, `train_loss` and so on.
        place: where it stands; "*" and a name at its end are a column of rows.
        values: the numbers, None where one is missing.
        steps: the steps that the file gives them; None where it gives none.
        known_by: what gives them.
        uses: further places that were read for it.
        in_percent: whether the file has percent, of which `values` are the shares.
    """

    column: str
    place: Place
    values: Sequence[int | float | None]
    steps: Sequence[int] | None = None
    known_by: str = ""
    uses: tuple[Place, ...] = ()
    in_percent: bool = False

    @property
    def last(self) -> int:
        """The step of the last number, taking one a step from 0 on where the file says nothing."""
        return len(self.values) - 1 if self.steps is None else self.steps[-1]

    @property
    def finite(self) -> list[int | float]:
        """The numbers that are some."""
        return [value for value in self.values if value is not None and math.isfinite(value)]

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
    """Losses and accuracies by column, where the layout says or else by name; and what was not taken."""
    series_of: dict[str, Series] = {}
    unread: list[Unread] = []
    for column, place, value in _candidates(layout, content):
        if column in series_of:
            taken = series_of[column]
            unread.append(Unread(place, f"{taken.what} are read from {shown_place(taken.place)}"))
            continue
        series = _read(column, place, value, content)
        if isinstance(series, Series):
            series_of[column] = series
        else:
            unread.append(Unread(place, series))
    return _as_shares(series_of), unread


def _as_shares(several: Mapping[str, Series]) -> dict[str, Series]:
    """The series, accuracies as shares: where one of them goes beyond 1, the file has all in percent."""
    accuracies = {column: series for column, series in several.items() if column.endswith("accuracy")}
    if max((max(series.finite) for series in accuracies.values()), default=0) <= 1:
        return dict(several)
    shares = {}
    for column, series in accuracies.items():
        values = [None if value is None else value / 100 for value in series.values]
        shares[column] = replace(series, values=values, in_percent=True)
    return {**several, **shares}


def with_steps(series: Series, last: int | None, networks: Sequence[int]) -> tuple[dict[int, float], str]:
    """The numbers by step, and a sentence on how the steps are known. No numbers where they are not; the
    sentence then says why.

    Args:
        last: the last step of the file's networks, where that is known.
        networks: the steps of all of them.
    """
    count = len(series.values)
    steps: Sequence[int]
    if series.steps is not None:
        steps, known_by = series.steps, series.known_by
    elif last is None or count >= last:
        is_beyond = last is not None and count > last + 1
        beyond = f", and on after the last network, of step {last:,}" if is_beyond else ""
        steps, known_by = range(count), f"one a step from 0 on, as they are taken{beyond}"
    elif (every := thinning(count, last)) is not None:
        steps = range(0, last + 1, every)
        known_by = f"one every {every:,} steps, as they are taken: so many reach from 0 to the last step"
    elif count == len(networks) > 1:
        steps, known_by = networks, "the steps of the networks, as they are taken: there is one for each"
    else:
        what = f"{count:,} {series.what} do not go with its {last:,} steps"
        return {}, f"{what}, and the file does not say of which steps they are"
    pairs = zip(steps, series.values, strict=True)
    finite = {step: value for step, value in pairs if value is not None and math.isfinite(value)}
    percent = ", in percent" if series.in_percent else ""
    missing = count - len(finite)
    lost = f"; {missing:,} that are no finite numbers were left out" if missing else ""
    under = f"{series.what}: {count:,} under {shown_place(series.place)}"
    return finite, f"{under}, of steps {steps[0]:,} to {steps[-1]:,} ({known_by}){percent}{lost}"


def thinning(count: int, last: int) -> int | None:
    """Every how many steps so many numbers were logged that reach from 0 to `last`; None where that is
    not clear.

    It is where the interval is a round number, and no other round number would do. Logging may have begun
    after one interval and ended before the last step; so every interval with which so many numbers fit is
    thought of.
    """
    if count < _FEW or last < 1:
        return None
    fitting = [every for every in _ROUND if (count - 1) * every <= last < (count + 1) * every]
    return fitting[0] if len(fitting) == 1 and fitting[0] * (count - 1) == last else None


def enter(
    series: Iterable[Series], unread: Iterable[Unread], without_steps: Mapping[str, str], account: Account
) -> None:
    """Enters what was read and what was not; `without_steps` gives by column why numbers have no steps."""
    for one in unread:
        account.leave(one.place, one.reason)
    for each in series:
        account.use(*each.uses)
        if each.column in without_steps:
            account.leave(each.place, without_steps[each.column])
        else:
            account.use(each.place)


def without_numbers(unread: Iterable[Unread], content: Any) -> Iterator[str]:
    """Sentences on what has the name of a loss or an accuracy and no numbers, so that no account has it:
    texts, or nothing."""
    alone = [one for one in unread if "*" not in one.place]
    empty = [one for one in alone if counted(along(content, one.place)[-1]) == (0, 0)]
    yield from (f"left out: {shown_place(one.place)}: {one.reason}" for one in empty[:_FEW])
    if more := len(empty[_FEW:]):
        yield f"left out: {more:,} more that are called losses or accuracies, and hold no numbers"


def _candidates(layout: Layout, content: Any) -> Iterator[tuple[str, Place, Any]]:
    """What may be a loss or accuracy: first what the layout names, then by name, validation last."""
    taken: set[Place] = set()
    for column, name in _CONTENTS.items():
        for place in places_of(content, getattr(layout.contents, name)):
            if place and (value := along(content, place)[-1]) is not None:
                taken.add(place)
                yield column, place, value
                break
    by_name = [one for one in _called_so(content, ()) if one[2] not in taken]
    for _, column, place, value in sorted(by_name, key=lambda one: (one[0], len(one[2]))):
        yield column, place, value


def _called_so(value: Any, place: Place) -> Iterator[tuple[bool, str, Place, Any]]:
    """What is called a loss or accuracy: whether held out but not test, its column, where, and what."""
    if place and _NOT_A_SERIES & {*words(place[-1])}:
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
        # What stands in a list has no name of its own.
        is_list = isinstance(value, list | tuple)
        for key, child in children(value):
            is_row = not is_list and isinstance(child, Tensor | list | tuple)
            if is_row or isinstance(child, Mapping | Record):
                yield from _called_so(child, (*place, key))


def _column(place: Place) -> tuple[bool, str] | None:
    """The column that a place's last names mean, and whether by a held-out word other than test."""
    if not place or {*words(place[-1])} <= _STEP_KEYS:
        return None
    so_far: set[str] = set()
    for key in reversed(place):
        of_key = {*words(key)} if isinstance(key, str) else set()
        metric_words = _LOSS | _ACCURACY
        beside = _BESIDE if of_key & metric_words else _BESIDE | _LOGS
        if of_key - _TRAIN - _TEST - _HELD_OUT - metric_words - beside:
            return None
        so_far |= of_key
        parts = [part for part, names in (("train", _TRAIN), ("test", _TEST | _HELD_OUT)) if so_far & names]
        metrics = [metric for metric, names in (("loss", _LOSS), ("accuracy", _ACCURACY)) if so_far & names]
        if len(parts) > 1 or len(metrics) > 1:
            return None
        if parts and metrics:
            return bool(so_far & _HELD_OUT), f"{parts[0]}_{metrics[0]}"
    return None


def _read(column: str, place: Place, value: Any, content: Any) -> Series | str:
    """The series that stands there, or why there is none."""
    of_column = place[-2:-1] == ("*",)
    if of_column:
        name = place[-1]
        pairs = [(step, scalar(row[name])) for step, row in _rows(value) or () if name in row]
    else:
        pairs = _pairs(value) or []
    if pairs:
        has_steps = any(step is not None for step, _ in pairs)
        steps = increasing(step for step, _ in pairs) if has_steps else None
        if has_steps and steps is None:
            return "numbers with steps of their own that do not increase, or are no steps"
        at = place[:-1] if of_column else (*place, "*")
        uses = tuple((*at, name) for name in _names(value) if {*words(name)} <= STEP_WORDS | {"global"})
        series = Series(column, place, [number for _, number in pairs], steps, "the file's own", uses)
    else:
        items = listed(value)
        if not items or not all(item is None or scalar(item) is not None for item in items):
            what = "neither numbers in a row, nor pairs of a step and a number, nor a dict by step"
            return f"called a {column.replace('_', ' ')}, and {what}"
        series = Series(column, place, [scalar(item) for item in items])
    finite = series.finite
    if not finite:
        return "it holds no finite number"
    if min(finite) < 0:
        return "it holds numbers below 0, which are neither losses nor accuracies"
    if column.endswith("accuracy") and max(finite) > _MOST_PERCENT:
        return "it holds numbers above 100, which are no accuracies"
    if series.steps is None and not of_column and (beside := _steps_beside(series, content)) is not None:
        at, steps = beside
        return replace(series, steps=steps, known_by=f"the file's {shown_place(at)}", uses=(at,))
    return series


def _is_in_a_row(value: Any) -> bool:
    """Whether this can be numbers over steps: a tensor, a list, or a dict by step."""
    by_step = isinstance(value, Mapping) and all(step_in(key) is not None for key in value)
    return by_step or isinstance(value, Tensor | list | tuple)


def _pairs(value: Any) -> list[tuple[Any, int | float | None]] | None:
    """Steps and numbers where they come in pairs, two columns or rows, or a dict by step; else None."""
    if isinstance(value, Tensor):
        if value.dim() != 2 or 2 not in value.shape or value.numel() < 2:
            return None
        columns = (value.T if value.shape[1] == 2 else value).tolist()
        return list(zip(*columns, strict=True)) if increasing(columns[0]) else None
    if isinstance(value, Mapping):
        by_step = sorted((step, key) for key in value if (step := step_in(key)) is not None)
        pairs = [(step, scalar(value[key])) for step, key in by_step]
        return pairs if len(pairs) == len(value) and all(number is not None for _, number in pairs) else None
    if isinstance(value, list | tuple) and value and all(length(item) == 2 for item in value):
        listed_pairs = [tuple(listed(item) or ()) for item in value]
        is_by_step = increasing(step for step, _ in listed_pairs) is not None
        return [(step, scalar(number)) for step, number in listed_pairs] if is_by_step else None
    rows = _rows(value) or []
    is_one_column = len({name for _, row in rows for name in row}) == 1
    return [(step, scalar(next(iter(row.values())))) for step, row in rows if row] if is_one_column else None


def _rows(value: Any) -> list[tuple[Any, Mapping[str, Any]]] | None:
    """Rows of numbers by name, with steps if they say any: a list, or a dict by step; else None."""
    keyed = isinstance(value, Mapping)
    if not (keyed or isinstance(value, list | tuple)):
        return None
    inside = value.values() if keyed else value
    if not inside or not all(isinstance(row, Mapping) and 0 < len(row) <= _MOST_COLUMNS for row in inside):
        return None
    if not all(isinstance(name, str) and _is_cell(item) for row in inside for name, item in row.items()):
        return None
    if keyed:
        steps = [step_in(key) for key in value]
        by_step = sorted(zip(steps, inside, strict=True), key=lambda one: one[0] or 0)
        return None if None in steps else by_step
    keys = [name for word in STEP for name in inside[0] if words(name) in ((word,), ("global", word))]
    key = next(iter(keys), None)
    return [(row.get(key), {name: row[name] for name in row if name != key}) for row in inside]


def _is_cell(value: Any) -> bool:
    return value is None or isinstance(value, str | bool) or scalar(value) is not None


def _names(value: Any) -> list[str]:
    """The names of the columns, where these are rows of numbers by name."""
    inside = value.values() if isinstance(value, Mapping) else value
    return list(dict.fromkeys(name for row in inside for name in row)) if _rows(value) else []


def _steps_beside(series: Series, content: Any) -> tuple[Place, list[int]] | None:
    """As many steps in the same dict or further up; of several, those that share most words."""
    values = along(content, series.place)
    its_words = {word.rstrip("s") for key in series.place for word in words(key)}
    for depth in reversed(range(len(series.place))):
        beside = entries(values[depth])
        fitting: list[tuple[int, Place, list[int]]] = []
        for key, value in beside.items() if len(beside) <= _MOST_KEYS else ():
            names = {*words(key)}
            may_be = names & _STEP_KEYS and length(value) == len(series.values)
            if may_be and (steps := increasing(listed(value) or ())):
                shared = len(its_words & {word.rstrip("s") for word in names})
                fitting.append((shared, (*series.place[:depth], key), steps))
        if fitting:
            most = max(shared for shared, _, _ in fitting)
            best = [(place, steps) for shared, place, steps in fitting if shared == most]
            return best[0] if all(steps == best[0][1] for _, steps in best) else None
    return None
