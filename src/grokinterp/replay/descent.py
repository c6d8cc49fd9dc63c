"""Plateaus of a loss that comes down in steps: where it stays, and what a network knows that has this loss.

    plateau   evaluations over which the loss stays within a factor of 1.25 while the number of steps grows by
              half at least: how long a loss takes on its way down grows with the steps behind it. The longest
              is found first, on the logarithm of the steps; no two overlap. Five evaluations at least; a
              spike of one or two of them does not end it. What is below 0.01 nats is learned, no plateau
    level     the median of the loss there
    known     the task says what the loss is for whoever knows so much of an example and no more
              (`Task.levels`); the nearest is named, where it lies within 0.08 nats and a quarter of itself
    descent   the first evaluation at which the loss is 0.1 nats below a level that it began above, or below
              half of a level under 0.2

Measured of one network each: the tens of sums of five digits stay at 0.75 nats, near ln 2, while it is not
known what is carried into them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from ..errors import NotApplicable
from ..measures.standing import Examples
from .steps_to_learn import series

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from ..runs import Run

_BAND = 1.25
_GROWTH = 1.5
_EVALUATIONS = 5
_LEARNED = 0.01
_CONVERGED = 0.05
_NEAR, _RELATIVE = 0.08, 0.25
_DROP = 0.1
_SMALL = 0.2


@dataclass(frozen=True)
class Plateau:
    """A stretch of training over which a loss stays where it is.

    Attributes:
        first, last: steps of its first and last evaluation.
        level: the median loss (nats).
        known: what a network knows that has such a loss, in the words of the task; None where no level of
            the task explains it.
        nats: the loss that the task computes for that; None likewise.
        left: the first evaluation behind it that is a step below; None where there is none.
    """

    first: int
    last: int
    level: float
    known: str | None
    nats: float | None
    left: int | None

    @property
    def explanation(self) -> str:
        """What is known there, and what the loss is for that."""
        if self.nats is None:
            return "no level of the task explains it"
        return f"as one that knows {self.known}: {self.nats:.3f}"

    def __str__(self) -> str:
        since = f"from step {self.first:,} to {self.last:,}" if self.first else f"to step {self.last:,}"
        return f"at {self.level:.3g} nats {since} ({self.explanation})"


@dataclass(frozen=True)
class Course:
    """How the loss of one answer came down.

    Attributes:
        answer: its name.
        plateaus: in their order.
        descents: for every level of the task that the loss began above the first evaluation a step below it,
            in words and with that step; None where it never was.
        end: the loss at the last evaluation (nats).
        converged: the first evaluation below 0.05 nats; None where there is none.
    """

    answer: str
    plateaus: tuple[Plateau, ...]
    descents: Mapping[str, int | None]
    end: float
    converged: int | None

    @property
    def sentence(self) -> str:
        """What happened, in one sentence."""
        stays = [str(plateau) for plateau in self.plateaus]
        if self.converged is None:
            stays.append(f"{self.end:.3g} at the end, and never below {_CONVERGED}")
        else:
            again = f", {self.end:.3g} at the end" if self.end >= _CONVERGED else ""
            stays.append(f"below {_CONVERGED} from step {self.converged:,}{again}")
        return f"{self.answer}: {'; '.join(stays)}."

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return {**asdict(self), "plateaus": [asdict(plateau) for plateau in self.plateaus]}


def has_plateaus(run: Run) -> bool:
    """Whether they are looked for in a run unasked: where examples are drawn without end, or several answers
    are asked for. A network that learns a finite set by heart has others, which `phases` tells."""
    return Examples.of(run.task, run.split).fresh or len(run.task.reads.answers) > 1


def plateaus(run: Run) -> list[Course]:
    """The plateaus of a run, one course for each answer of which there are evaluations.

    Raises:
        NotApplicable: there is no evaluation whose step is known.
    """
    return courses(run.dated_history, run.task.levels)


def courses(history: pd.DataFrame, levels: Mapping[str, Mapping[str, float]]) -> list[Course]:
    """The same of evaluations, as `run.history` gives them, and of the levels of a task.

    Raises:
        NotApplicable: there is no evaluation of a loss.
    """
    losses = {answer: _loss_of(history, answer, alone=len(levels) == 1) for answer in levels}
    if all(loss is None for loss in losses.values()):
        raise NotApplicable("there is no evaluation of the loss of which the step is known")
    return [_course(answer, loss, levels[answer]) for answer, loss in losses.items() if loss is not None]


def _loss_of(history: pd.DataFrame, answer: str, alone: bool) -> pd.Series[float] | None:
    """The loss of an answer on what is tested on, or else trained on; None where it was not evaluated."""
    for part in ("test", "train"):
        column = f"{part}_loss" if alone else f"{part}_loss.{answer}"
        if column in history and len(loss := series(history["step"], history[column])):
            return loss
    return None


def _course(answer: str, loss: pd.Series[float], levels: Mapping[str, float]) -> Course:
    stretches = sorted(_stretches(loss))
    converged = loss.index[loss < _CONVERGED]
    return Course(
        answer,
        tuple(_plateau(loss, first, last, levels) for first, last in stretches),
        {
            known: _first_below(loss, _below(nats))
            for known, nats in levels.items()
            if loss.iloc[0] > _below(nats)
        },
        float(loss.iloc[-1]),
        int(converged[0]) if len(converged) else None,
    )


def _plateau(loss: pd.Series[float], first: int, last: int, levels: Mapping[str, float]) -> Plateau:
    level = float(loss.iloc[first : last + 1].median())
    near = min(levels.items(), key=lambda item: abs(item[1] - level), default=("", math.inf))
    known, nats = near if abs(near[1] - level) < min(_NEAR, _RELATIVE * near[1]) else (None, None)
    left = _first_below(loss.iloc[last + 1 :], _below(level))
    return Plateau(int(loss.index[first]), int(loss.index[last]), level, known, nats, left)


def _below(level: float) -> float:
    """What is a step below a level."""
    return level - _DROP if level >= _SMALL else level / 2


def _first_below(loss: pd.Series[float], limit: float) -> int | None:
    below = loss.index[loss < limit]
    return int(below[0]) if len(below) else None


def _stretches(loss: pd.Series[float]) -> Iterator[tuple[int, int]]:
    """The first and last evaluation of every plateau, the longest first."""
    import numpy as np

    smooth = loss.clip(lower=1e-30).rolling(_EVALUATIONS, center=True, min_periods=1).median()
    values, steps = np.log(smooth.to_numpy()), loss.index.to_numpy().astype(float)
    if len(steps) < _EVALUATIONS:
        return
    spacing = float(np.median(np.diff(steps)))
    clock = np.log(steps - steps[0] + spacing)
    reach = np.array([_reach(values[i:]) for i in range(len(values))]) + np.arange(len(values))
    free = [(0, len(values) - 1)]
    while free:
        low, high = free.pop()
        starts = np.arange(low, high + 1)
        ends = np.minimum(reach[low : high + 1], high)
        grown = clock[ends] - clock[starts]
        lasts = (grown >= math.log(_GROWTH)) & (steps[ends] - steps[starts] >= (_EVALUATIONS - 1) * spacing)
        lasts &= (ends - starts + 1 >= _EVALUATIONS) & (values[starts] >= math.log(_LEARNED))
        if not lasts.any():
            continue
        best = int(np.where(lasts, grown, -1.0).argmax())
        first, last = int(starts[best]), int(ends[best])
        yield first, last
        free += [(low, first - 1), (last + 1, high)]


def _reach(values: NDArray[np.float64]) -> int:
    """Up to which of the values all lie in a band that begins with the first of them."""
    import numpy as np

    width = np.maximum.accumulate(values) - np.minimum.accumulate(values)
    return int(np.searchsorted(width, math.log(_BAND), side="right")) - 1
