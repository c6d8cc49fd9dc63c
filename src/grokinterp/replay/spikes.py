"""Spikes of training: where the loss or the gradient leaps up and comes down again (slingshots: Thilak et al.
2022, arXiv 2206.04817).

A peak of the logarithm of the training loss, or of the norm of the gradient, is a spike by three rules:

             rule                                                   why
    height   three times the lowest value on either side, as far    a fall has none before it, a step none
             as the next higher peak                                after it
    noise    eight deviations, from the differences of neighbours   noise has peaks too
             among the fifty evaluations on either side
    length   above half its height, at most a quarter of the        what lasts as long as all before is a
             steps before it                                        phase of training

The third leaves out the hump that the gradient has while the training examples are learned. Peaks of both
signals that overlap are one spike. The height is the topographic prominence of a peak; the three numbers are
ours. Test loss is not looked at: it rises and falls on its own when a network groks.

`leaps` are counted by a rule that knows of what came before alone: a value is more than ten times the median
of the fifty evaluations before. `slingshots` ask for harm as well: training accuracy falls. A spike may be no
slingshot, as where all training examples stay right; a slingshot no spike, as where the loss does not come
down again. The rounding of the loss brings them about (compare `training.loss` "log_softmax" with
"cross_entropy" on one seed), and so does a learning rate or weight decay that the network does not bear.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from ..asked import DATASET, TABLE, asks

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import xarray as xr
    from numpy.typing import NDArray

SIGNALS = {"train_loss": "the training loss", "grad_norm": "the gradient"}
"""The columns of the history that are looked at, in words."""
LEAST = 3.0
"""The factor by which a peak stands out, at least."""
_DEVIATIONS = 8.0
_AROUND = 50
_LONGEST = 0.25
_TIMES_THE_MEDIAN = 10.0
_NAMED = 8


@dataclass(frozen=True)
class Change:
    """A number before and after a spike; NaN where it is not known."""

    before: float
    after: float


@dataclass(frozen=True)
class Spike:
    """One leap of the loss or of the gradient, and what it changed.

    Attributes:
        first, peak, last: steps of the evaluations at which it began, was highest (in the signal that leapt
            most) and ended.
        signals: the columns of the history that leapt, with the factor by which each stands above the lowest
            value on either side.
        train_accuracy, test_accuracy: at the last evaluation before `first` and the first after `last`.
        lowest_train_accuracy, lowest_test_accuracy: between `first` and `last`.
        snapshots: the last one before `first` and the first after `last`; None where the replay has none
            there, as for all that follows.
        squares: the summed squares of the weights at these.
        gained, lost: key frequencies (the consensus) of the later but not of the earlier, and the reverse.
    """

    first: int
    peak: int
    last: int
    signals: dict[str, float]
    train_accuracy: Change
    test_accuracy: Change
    lowest_train_accuracy: float
    lowest_test_accuracy: float
    snapshots: tuple[int, int] | None = None
    squares: Change | None = None
    gained: list[int] | None = None
    lost: list[int] | None = None

    @property
    def height(self) -> float:
        """The largest factor of a signal."""
        return max(self.signals.values())

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON, with None for what is not known."""
        return {**_finite(asdict(self)), "height": self.height}


@asks("spikes", history=TABLE, data=DATASET)
def spikes(history: pd.DataFrame, data: xr.Dataset | None = None) -> list[Spike]:
    """The spikes of a run, in order.

    Args:
        history: evaluations, as `run.history` gives them; a spike between two of them is not seen.
        data: measures over `step`, as `replay` gives them, for what changed between the snapshots around one.
    """
    history = _in_order(history)
    peaks = [peak for signal in SIGNALS for peak in _peaks(history, signal)]
    return [_spike(group, history, data) for group in _overlapping(peaks)]


def _in_order(history: pd.DataFrame) -> pd.DataFrame:
    """One evaluation a step: the later of two."""
    return history.drop_duplicates("step", keep="last").sort_values("step")


def spikes_in_words(found: Sequence[Spike], history: pd.DataFrame) -> str:
    """How many there are, and the highest of them, in one sentence that names what was recorded."""
    recorded = [
        words for signal, words in SIGNALS.items() if signal in history and history[signal].count() > 1
    ]
    of = " or of ".join(recorded)
    if not of:
        return "No training loss or gradient was recorded in which there could be a spike."
    if not found:
        return f"No spike of {of} was found."
    highest = max(found, key=attrgetter("height"))
    count = f"{len(found)} spikes" if len(found) > 1 else "One spike"
    where = f"the highest at step {highest.peak:,} by a factor of {highest.height:.3g}"
    return f"{count} of {of}, {where}."


def leaps(values: pd.Series[float]) -> list[int]:
    """The steps, which are the index of the values, at which a stretch of them begins that are more than ten
    times the median of the fifty before; with the first values the median is over as many as there are."""
    leapt = _leapt(values)
    return [int(step) for step in values.index[leapt & ~leapt.shift(1, fill_value=False)]]


def _leapt(values: pd.Series[float]) -> pd.Series[bool]:
    return values > _TIMES_THE_MEDIAN * values.rolling(_AROUND, min_periods=1).median().shift(1)


def leaps_in_words(of: Mapping[str, Sequence[int]]) -> str:
    """How often each of several signals leapt, and when."""
    said = [f"{name} {steps_in_words(steps)}" for name, steps in of.items() if steps]
    if not said:
        return f"never above {_TIMES_THE_MEDIAN:g} times the running median: {', '.join(of)}"
    none = [name for name, steps in of.items() if not steps]
    others = f"; never: {', '.join(none)}" if none else ""
    return f"above {_TIMES_THE_MEDIAN:g} times the running median: {'; '.join(said)}{others}"


def steps_in_words(steps: Sequence[int]) -> str:
    """How many there are, and the first of them."""
    at = ", ".join(f"{step:,}" for step in steps[:_NAMED]) + (" and on" if len(steps) > _NAMED else "")
    times = "once" if len(steps) == 1 else f"{len(steps)} times"
    return f"{times} (step{'s' if len(steps) > 1 else ''} {at})"


def slingshots(history: pd.DataFrame) -> list[int]:
    """The steps at which a stretch of evaluations, in which the training loss is more than ten times the
    median of the fifty before each, first brought training accuracy down; one for each stretch. With the
    first evaluations the median is over as many as there are.

    Meant for runs that are evaluated at every step, or nearly: what comes and goes between two is not seen.
    """
    evaluations = _in_order(history).dropna(subset=["train_loss", "train_accuracy"])
    high = _leapt(evaluations["train_loss"]).to_numpy()
    fell = (evaluations["train_accuracy"].diff() < 0).to_numpy()
    leaps, counted = [], False
    for step, is_high, has_fallen in zip(evaluations["step"].tolist(), high, fell, strict=True):
        counted = counted and bool(is_high)
        if is_high and has_fallen and not counted:
            leaps.append(int(step))
            counted = True
    return leaps


def slingshots_in_words(leaps: Sequence[int], loss: str) -> str:
    """How many there are, where the first are, and with which loss (`training.loss`) it was trained."""
    count = {0: "No slingshot", 1: "One slingshot"}.get(len(leaps), f"{len(leaps)} slingshots")
    at = ", ".join(f"{step:,}" for step in leaps[:_NAMED]) + (" and on" if len(leaps) > _NAMED else "")
    where = f" at step{'s' if len(leaps) > 1 else ''} {at}" if leaps else ""
    what = f"{count}{where} (loss above {_TIMES_THE_MEDIAN:g} times its running median"
    return f"{what}, and training accuracy falls); trained with {loss}."


@dataclass(frozen=True)
class _Peak:
    first: int
    peak: int
    last: int
    signal: str
    factor: float


def _peaks(history: pd.DataFrame, signal: str) -> list[_Peak]:
    import numpy as np

    evaluations = history[["step", signal]].replace([math.inf], math.nan).dropna()
    steps, values = evaluations["step"].to_numpy(), evaluations[signal].to_numpy(dtype=float)
    if not (values > 0).any():
        return []
    x = np.log(values.clip(min=values[values > 0].min()))
    jumps = np.abs(np.diff(x))
    peaks = []
    for at in _summits(x):
        prominence, left, right = _prominence(x, at)
        noise = 1.4826 * float(np.median(jumps[max(0, at - _AROUND) : at + _AROUND])) / math.sqrt(2)
        if prominence < max(math.log(LEAST), _DEVIATIONS * noise):
            continue
        above = x[left : right + 1] > x[at] - prominence / 2
        first = at - int(np.argmin(above[at - left :: -1])) + 1
        last = at + int(np.argmin(above[at - left :])) - 1
        begun, over = (steps[first - 1] + steps[first]) / 2, (steps[last] + steps[last + 1]) / 2
        if over - begun <= _LONGEST * (begun - steps[0]):
            begin, peak, end = (int(steps[i]) for i in (first, at, last))
            peaks.append(_Peak(begin, peak, end, signal, math.exp(prominence)))
    return peaks


def _summits(x: NDArray[np.float64]) -> list[int]:
    """Where a series tops its neighbours, at the first of equals; not at its ends, which may go on."""
    summits, rose = [], -1
    for i in range(1, len(x)):
        if x[i] > x[i - 1]:
            rose = i
        elif x[i] < x[i - 1]:
            if rose > 0:
                summits.append(rose)
            rose = -1
    return summits


def _prominence(x: NDArray[np.float64], at: int) -> tuple[float, int, int]:
    """How far a summit stands above the lowest values beside it, up to a higher one; and where these are."""
    import numpy as np

    higher = np.flatnonzero(x > x[at])
    beside = int(np.searchsorted(higher, at))
    start = int(higher[beside - 1]) + 1 if beside else 0
    stop = int(higher[beside]) if beside < len(higher) else len(x)
    left = at - int(np.argmin(x[start : at + 1][::-1]))
    right = at + int(np.argmin(x[at:stop]))
    return float(x[at] - max(x[left], x[right])), left, right


def _overlapping(peaks: list[_Peak]) -> list[list[_Peak]]:
    groups: list[list[_Peak]] = []
    for peak in sorted(peaks, key=attrgetter("first")):
        if groups and peak.first <= max(other.last for other in groups[-1]):
            groups[-1].append(peak)
        else:
            groups.append([peak])
    return groups


def _spike(group: list[_Peak], history: pd.DataFrame, data: xr.Dataset | None) -> Spike:
    first, last = min(peak.first for peak in group), max(peak.last for peak in group)
    factors = {peak.signal: peak.factor for peak in sorted(group, key=attrgetter("factor"))}
    signals = {name: factors[name] for name in SIGNALS if name in factors}
    # A peak has an evaluation on either side.
    before, after = history[history["step"] < first].iloc[-1], history[history["step"] > last].iloc[0]
    lowest = history[history["step"].between(first, last)].min()
    peak, columns = max(group, key=attrgetter("factor")).peak, ("train_accuracy", "test_accuracy")
    train, test = (Change(float(before[column]), float(after[column])) for column in columns)
    low_train, low_test = (float(lowest[column]) for column in columns)
    changed = _between_snapshots(first, last, data)
    return Spike(first, peak, last, signals, train, test, low_train, low_test, **changed)


def _between_snapshots(first: int, last: int, data: xr.Dataset | None) -> dict[str, Any]:
    """What changed between the snapshots around a spike."""
    if data is None:
        return {}
    steps = data["step"].values
    earlier, later = steps[steps < first], steps[steps > last]
    if not len(earlier) or not len(later):
        return {}
    around = (int(earlier[-1]), int(later[0]))
    changed: dict[str, Any] = {"snapshots": around}
    if "sum_of_squares" in data:
        squares = data["sum_of_squares"].sel(parameter="total")
        changed["squares"] = Change(*(float(squares.sel(step=step)) for step in around))
    if (name := "key_frequencies.consensus") in data:
        marks = (data[name].sel(step=step).values == 1 for step in around)
        old, new = (set(data["freq"].values[marked].tolist()) for marked in marks)
        changed |= {"gained": sorted(new - old), "lost": sorted(old - new)}
    return changed


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
