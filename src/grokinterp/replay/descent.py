"""Plateaus of a loss that comes down in steps: where it stays, and what a network knows that has this loss.

    plateau   evaluations over which the loss stays within a factor of 1.25, and which are long against the
              changes beside them, of as much again: 1.5 times as many steps as the one behind it takes, and
              1.5 times as much on the logarithm of the steps as the one before it, since how long a loss
              takes on its way down grows with the steps behind it. The number of steps grows by half at
              least, and there are five evaluations; a spike of one or two of them does not end it. It ends
              before the first evaluation that is a step below its level. The longest is found first, no two
              overlap. What is below 0.01 nats is learned, no plateau
    level     the median of the loss there
    known     the task says what the loss is for whoever knows so much of an example and no more
              (`Task.levels`); the nearest is named, where it lies within 0.08 nats and a quarter of itself
    flat      a plateau that no level explains has the same median in its first and last third, within a
              factor of 1.1, as with it all before where the loss began no higher: else it is a slope
    step      0.1 nats, or half of a level under 0.2
    descent   the first evaluation at which the loss is a step below a level that it began above
    learned   the first evaluation below 0.05 nats from which on the median of five stays there. Evaluations
              that are above it none the less are told

Measured of three networks: the tens of sums of five digits stay at 0.74 nats, near ln 2, while it is not
known what is carried into them.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from ..asked import asks
from ..errors import NotApplicable
from ..given import as_run
from ..measures.standing import Examples
from .spikes import leaps
from .steps_to_learn import series

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from ..runs import Run

_BAND = 1.25
_GROWTH = 1.5
_EVALUATIONS = 5
LEARNED = 0.01
_CONVERGED = 0.05
_NONE = f"of no answer stays below {_CONVERGED}"
_LONGER = 1.5
_FLAT = 1.1
_NEAR, _RELATIVE = 0.08, 0.25
_DROP = 0.1
_SMALL = 0.2
_NAMED = 3
APART = 1.3
"""Levels that are nearer to one another are one line of a figure."""


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
        """What a network knows that has this loss, and what the task computes for that."""
        if self.nats is None:
            return "which no level of the task explains"
        return f"as of a network that knows {self.known} ({nats_in_words(self.nats)})"

    def within(self, last: int) -> str:
        """Level, steps and explanation, of a run that was evaluated up to a step."""
        to = "the end" if self.last == last else f"step {self.last:,}"
        since = f"from step {self.first:,} to {to}" if self.first else f"to {to}"
        return f"at {self.level:.3g} nats {since}, {self.explanation}"


@dataclass(frozen=True)
class Course:
    """How the loss of one answer came down.

    Attributes:
        answer: its name.
        plateaus: in their order.
        descents: for every level of the task that the loss began above the first evaluation a step below it,
            in words and with that step; None where it never was.
        last: the step of the last evaluation.
        end: the loss there (nats).
        below: the first evaluation below 0.05 nats; None where there is none.
        converged: the first from which on it stays there; None where it does not.
        lifted: the steps of the evaluations behind that which are not, as a spike lifts them.
        highest: the loss at the highest of these (nats); None where there are none.
        leaps: the steps at which the loss leapt up, as `spikes.leaps` counts.
    """

    answer: str
    plateaus: tuple[Plateau, ...]
    descents: Mapping[str, int | None]
    last: int
    end: float
    below: int | None
    converged: int | None
    lifted: tuple[int, ...] = ()
    highest: float | None = None
    leaps: tuple[int, ...] = ()

    @property
    def sentence(self) -> str:
        """What happened, in one sentence."""
        stays = ", then ".join(plateau.within(self.last) for plateau in self.plateaus)
        return f"{self.answer}: the loss {f'stays {stays}' if stays else 'has no plateau'}; {self.ending}."

    @property
    def ending(self) -> str:
        """Whether it was learned, and since when."""
        if self.below is None:
            return f"it ends at {self.end:.3g} and is never below {_CONVERGED}"
        if self.converged is None:
            since = f"first at step {self.below:,}, not for good"
            return f"it is below {_CONVERGED} {since}, and ends at {self.end:.3g}"
        at, but = [f"{step:,}" for step in self.lifted], ""
        if at:
            more = f" and {len(at) - _NAMED} more" if len(at) > _NAMED else ""
            steps = f"step{'s' * (len(at) > 1)} {', '.join(at[:_NAMED])}{more}"
            but = f", but for {steps} (up to {self.highest:.3g})"
        return f"it is below {_CONVERGED} from step {self.converged:,} on{but}"

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        plateaus = [asdict(plateau) for plateau in self.plateaus]
        steps = {"lifted": list(self.lifted), "leaps": list(self.leaps)}
        return {**asdict(self), "plateaus": plateaus, **steps}


def nats_in_words(nats: float) -> str:
    """A level, as a logarithm where it is one: "ln 10 = 2.303"."""
    n = round(math.exp(nats))
    return f"ln {n} = {nats:.3f}" if n > 1 and abs(nats - math.log(n)) < 5e-4 else f"{nats:.3g}"


def courses_in_words(told: Sequence[Course]) -> str:
    """What happened, in one sentence; of several answers which was learned when, and at which levels their
    losses stayed."""
    if len(told) == 1:
        return told[0].sentence
    learned = sorted((one.converged, one.answer) for one in told if one.converged is not None)
    others = [f"{one.answer} ({one.end:.3g} at the end)" for one in told if one.converged is None]
    steps = ", ".join(f"{answer} from step {step:,} on" for step, answer in learned)
    lifted = ", but for a few evaluations" if any(one.lifted for one in told) else ""
    said = [f"The loss {f'stays below {_CONVERGED}{lifted}: {steps}' if steps else _NONE}"]
    said += [f"not so: {', '.join(others)}"] if learned and others else []
    stayed: dict[str, list[str]] = {}
    for one in told:
        for plateau in one.plateaus:
            stayed.setdefault(plateau.explanation, []).append(one.answer)
    said += [f"a plateau {why}: {', '.join(answers)}" for why, answers in stayed.items()]
    return f"{'; '.join(said)}."


def levels_to_draw(
    levels: Mapping[str, Mapping[str, float]], told: Sequence[Course]
) -> list[tuple[float, str]]:
    """Levels to draw the losses against (nats), the highest first, each with what a network knows that has
    it: of those that lie near one another the one that most answers have, and any at which a loss stayed.
    None where it is learned."""
    stayed = {(plateau.nats, plateau.known) for one in told for plateau in one.plateaus}
    every = [(nats, known) for of_one in levels.values() for known, nats in of_one.items() if nats >= LEARNED]
    alike = Counter((round(nats, 2), known) for nats, known in every)
    drawn: list[tuple[float, str]] = []
    for nats, known in sorted(every, key=lambda each: (-alike[round(each[0], 2), each[1]], -each[0])):
        near = [other for other in drawn if 1 / APART < other[0] / nats < APART]
        if not near or ((nats, known) in stayed and known not in (words for _, words in near)):
            drawn.append((nats, known))
    return sorted(drawn, reverse=True)


def has_plateaus(run: Run) -> bool:
    """Whether they are looked for in a run unasked: where examples are drawn without end, or several answers
    are asked for. A network that learns a finite set by heart has others, which `phases` tells."""
    return Examples.of(run.task, run.split).fresh or len(run.task.reads.answers) > 1


@asks("gi.plateaus")
def plateaus(run: Run | str | Path) -> list[Course]:
    """The plateaus of a run, or of that in a directory, one course for each answer of which there are
    evaluations.

    Raises:
        NotApplicable: there are not five evaluations whose steps are known.
    """
    run = as_run(run, "gi.plateaus")
    return courses(run.dated_history, run.task.levels)


def courses(history: pd.DataFrame, levels: Mapping[str, Mapping[str, float]]) -> list[Course]:
    """The same of evaluations, as `run.history` gives them, and of the levels of a task.

    Raises:
        NotApplicable: there are not five evaluations of a loss.
    """
    losses = {answer: loss_of(history, answer, alone=len(levels) == 1) for answer in levels}
    dated = {
        answer: loss for answer, loss in losses.items() if loss is not None and len(loss) >= _EVALUATIONS
    }
    if not dated:
        raise NotApplicable(
            f"there are no {_EVALUATIONS} evaluations of the loss of which the steps are known: nothing can "
            "be said of how it came down"
        )
    return [_course(answer, loss, levels[answer]) for answer, loss in dated.items()]


def loss_of(history: pd.DataFrame, answer: str, alone: bool) -> pd.Series[float] | None:
    """The loss of an answer on what is tested on, or else trained on; None where it was not evaluated."""
    for part in ("test", "train"):
        column = f"{part}_loss" if alone else f"{part}_loss.{answer}"
        if column in history and len(loss := series(history["step"], history[column])):
            return loss
    return None


def _course(answer: str, loss: pd.Series[float], levels: Mapping[str, float]) -> Course:
    smooth = loss.rolling(_EVALUATIONS, center=True, min_periods=1).median()
    low = loss < _CONVERGED
    below = loss.index[low]
    lasting = loss.index[low & (smooth[::-1].cummax()[::-1] < _CONVERGED)]
    lifted = loss.loc[lasting[0] :][lambda rest: rest >= _CONVERGED] if len(lasting) else loss.iloc[:0]
    return Course(
        answer,
        tuple(sorted(_plateaus(loss, smooth, levels), key=lambda plateau: plateau.first)),
        {
            known: _first_below(loss, _below(nats))
            for known, nats in levels.items()
            if loss.iloc[0] > _below(nats)
        },
        int(loss.index[-1]),
        float(loss.iloc[-1]),
        int(below[0]) if len(below) else None,
        int(lasting[0]) if len(lasting) else None,
        tuple(map(int, lifted.index)),
        float(lifted.max()) if len(lifted) else None,
        tuple(leaps(loss)),
    )


def _below(level: float) -> float:
    """What is a step below a level."""
    return level - _DROP if level >= _SMALL else level / 2


def _first_below(loss: pd.Series[float], limit: float) -> int | None:
    below = loss.index[loss < limit]
    return int(below[0]) if len(below) else None


def _explained(level: float, levels: Mapping[str, float]) -> tuple[str, float] | tuple[None, None]:
    """The level of the task that is nearest, if it is near."""
    near = min(levels.items(), key=lambda item: abs(item[1] - level), default=("", math.inf))
    return near if abs(near[1] - level) < min(_NEAR, _RELATIVE * near[1]) else (None, None)


def _plateaus(
    loss: pd.Series[float], smooth: pd.Series[float], levels: Mapping[str, float]
) -> Iterator[Plateau]:
    """The plateaus of a loss, the longest first; `smooth` is the median of five evaluations."""
    import numpy as np

    values, steps = np.log(smooth.clip(lower=1e-30).to_numpy()), loss.index.to_numpy().astype(float)
    spacing = float(np.median(np.diff(steps)))
    clock = np.log(steps - steps[0] + spacing)
    reach = np.array([_reach(values[i:]) for i in range(len(values))]) + np.arange(len(values))
    free = [(0, len(values) - 1)]
    while free:
        low, high = free.pop()
        starts = np.arange(low, high + 1)
        ends = np.minimum(reach[low : high + 1], high)
        grown = clock[ends] - clock[starts]
        lasts = (grown >= math.log(_GROWTH)) & (values[starts] >= math.log(LEARNED))
        for i in np.argsort(-grown, kind="stable"):
            if not lasts[i]:
                continue
            first, last = int(starts[i]), int(ends[i])
            level = float(loss.iloc[first : last + 1].median())
            known, nats = _explained(level, levels)
            if known is None and not _is_flat(values, first, last):
                continue
            near = np.flatnonzero(values[first : last + 1] >= math.log(_below(level)))
            if not len(near):
                continue
            last = first + int(near[-1])
            if not _stands_out(values, steps, clock, spacing, first, last):
                continue
            left = _first_below(loss.iloc[last + 1 :], _below(level))
            yield Plateau(int(steps[first]), int(steps[last]), level, known, nats, left)
            free += [(low, first - 1), (last + 1, high)]
            break


def _is_flat(values: NDArray[np.float64], first: int, last: int) -> bool:
    """Whether a stretch ends where it begins; together with all before it, where that was no higher."""
    import numpy as np

    stretch = values[first if len(_outside(values, first, last)[0]) else 0 : last + 1]
    third = max(1, len(stretch) // 3)
    return bool(abs(np.median(stretch[:third]) - np.median(stretch[-third:])) <= math.log(_FLAT))


def _stands_out(
    values: NDArray[np.float64], steps: NDArray[np.float64], clock: NDArray[np.float64], spacing: float,
    first: int, last: int,
) -> bool:  # fmt: skip
    """Whether a stretch of evaluations is long, and long against the changes beside it."""
    lasted, grown = steps[last] - steps[first], clock[last] - clock[first]
    before, behind = _outside(values, first, last)
    changed = steps[behind[0]] - steps[last] if len(behind) else 0.0
    grown_before = clock[first] - clock[before[-1]] if len(before) else 0.0
    return bool(
        last - first + 1 >= _EVALUATIONS
        and lasted >= max((_EVALUATIONS - 1) * spacing, _LONGER * changed)
        and grown >= max(math.log(_GROWTH), _LONGER * grown_before)
    )


def _outside(
    values: NDArray[np.float64], first: int, last: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """What before a stretch and behind it is further from its values than these are from one another."""
    import numpy as np

    stretch, band = values[first : last + 1], math.log(_BAND)
    far = np.flatnonzero((values > stretch.max() + band) | (values < stretch.min() - band))
    return far[far < first], far[far > last]


def _reach(values: NDArray[np.float64]) -> int:
    """Up to which of the values all lie in a band that begins with the first of them."""
    import numpy as np

    width = np.maximum.accumulate(values) - np.minimum.accumulate(values)
    return int(np.searchsorted(width, math.log(_BAND), side="right")) - 1
