"""By which step how many of several runs have learned, as survival analysis tells it: curves of Kaplan and
Meier with their intervals, and whether two groups of runs differ in it.

    number              definition                                                        source
    share not yet       of the runs that are still followed and have not learned, those   Kaplan and Meier
                        that do not at each step, multiplied over steps                   1958
    its interval        95 %, from Greenwood's variance of ln(-ln(share)): it stays       Kalbfleisch and
                        within 0 and 1, and there is none where all or none have learned  Prentice 1980
    interval of the     the steps at which the interval of the share holds one half       Brookmeyer and
    median                                                                                Crowley 1982
    log-rank test       runs that learned in a group less those that were to be           Mantel 1966
                        expected if both groups were one, over all steps
    p, adjusted         for the number of tests, whichever of them are true               Holm 1979

A step is that of the first evaluation at which a run had learned (`Reached.by`): it did so after the one
before (`Reached.after`), so that a median lies up to that much earlier. A run that ended before is censored
at its last evaluation; one that was never evaluated is not counted. Of one that had learned by its first
evaluation that one counts, and the median is not known where it could have changed it, as in `median_steps`.

The distribution of the log-rank statistic is that of all ways to deal out the runs to the two groups, where
there are at most 20,000 and all runs that were censored were followed up to one step; else its chi-square
approximation. Where even the two groups that are farthest apart would have p > .05, there is no test.
"""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

from .steps_to_learn import Reached, median_steps

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MOST_ARRANGEMENTS = 20_000
_LEVEL = 0.05


@dataclass(frozen=True)
class Survival:
    """How many of several runs had not learned yet, over steps.

    Attributes:
        runs: how many are counted.
        learned: how many of them were seen to learn.
        unknown: how many others were never evaluated, and are not counted.
        steps: those at which the estimate falls.
        share: of the runs that had not learned yet, from each of these steps on.
        low, high: its 95 % interval; None where it has none.
        ended: the last evaluations of those that were not seen to learn, in order.
        at_first: how many had learned by their first evaluation, so that nobody knows since when.
        median: by which step half of them have learned; None where it is not known.
        median_low, median_high: the 95 % interval of the median; None where it has no bound on that side.
        apart: the most steps between the evaluation at which a run had learned and the one before; None where
            none was seen to, or nobody looked before.
    """

    runs: int
    learned: int
    unknown: int
    steps: tuple[int, ...] = ()
    share: tuple[float, ...] = ()
    low: tuple[float | None, ...] = ()
    high: tuple[float | None, ...] = ()
    ended: tuple[int, ...] = ()
    at_first: int = 0
    median: float | None = None
    median_low: int | None = None
    median_high: int | None = None
    apart: int | None = None

    @property
    def followed(self) -> int | None:
        """The last step at which anything is known; None where no run was evaluated."""
        return max([*self.steps, *self.ended], default=None)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return {key: list(x) if isinstance(x, tuple) else x for key, x in asdict(self).items()}


def survival(times: Sequence[Reached]) -> Survival:
    """How many of several runs had not learned yet, over steps."""
    known = [time for time in times if time.state != "not known"]
    ended = tuple(sorted(time.after for time in known if time.by is None and time.after is not None))
    found = Survival(len(known), sum(time.seen for time in known), len(times) - len(known), ended=ended)
    if not found.learned:
        return found
    from scipy.stats import ecdf

    with warnings.catch_warnings():  # that there is no interval where all or none have learned
        warnings.filterwarnings("ignore", "The confidence interval is undefined", RuntimeWarning)
        estimate = ecdf(_censored(known)).sf
        interval = estimate.confidence_interval(0.95, method="log-log")
    events = {time.by for time in known if time.by is not None}
    at = [i for i, step in enumerate(estimate.quantiles) if int(step) in events]
    low, high = (
        [None if math.isnan(x) else float(x) for x in end.probabilities[at]]
        for end in (interval.low, interval.high)
    )
    steps = [int(step) for step in estimate.quantiles[at]]
    median = median_steps(known)
    seen = [time for time in known if time.by is not None and time.after is not None]
    return replace(
        found,
        steps=tuple(steps),
        share=tuple(float(x) for x in estimate.probabilities[at]),
        low=tuple(low),
        high=tuple(high),
        at_first=found.learned - len(seen),
        median=median,
        median_low=_first_at_half(steps, low),
        median_high=_first_at_half(steps, high),
        apart=max(((time.by or 0) - (time.after or 0) for time in seen), default=None),
    )


def _first_at_half(steps: Sequence[int], shares: Sequence[float | None]) -> int | None:
    """The first step at which a share is at most one half."""
    return next((step for step, x in zip(steps, shares, strict=True) if x is not None and x <= 0.5), None)


def _censored(times: Sequence[Reached]) -> Any:
    from scipy.stats import CensoredData

    learned = [time.by for time in times if time.by is not None]
    return CensoredData(learned, right=[time.after for time in times if time.by is None])


@dataclass(frozen=True)
class LogRank:
    """Whether two groups of runs take different numbers of steps to learn.

    Attributes:
        chi2: the square of the standardised log-rank statistic; None where it has none.
        p: the chance of one at least as large were both groups one; None where there is no test.
        by: "permutation" or "chi-square", which gave p; "too few runs" where no outcome could be told from
            chance; "none learned" where nothing happened in either.
    """

    chi2: float | None
    p: float | None
    by: Literal["permutation", "chi-square", "too few runs", "none learned"]


def log_rank(one: Sequence[Reached], other: Sequence[Reached]) -> LogRank:
    """The log-rank test between two groups, two-sided; runs that were never evaluated are not counted."""
    one, other = ([time for time in times if time.state != "not known"] for times in (one, other))
    ways = math.comb(len(one) + len(other), len(one))
    if not any(time.seen for time in (*one, *other)):
        return LogRank(None, None, "none learned")
    if not one or not other:
        return LogRank(None, None, "too few runs")
    import numpy as np
    from scipy.stats import logrank

    with np.errstate(invalid="ignore"):  # where all learned at one step
        found = logrank(_censored(one), _censored(other))
    if not math.isfinite(found.statistic):
        return LogRank(0.0, 1.0, "permutation")
    chi2 = float(found.statistic**2)
    if 2 / ways > _LEVEL:
        return LogRank(chi2, None, "too few runs")
    followed = {time.after for time in (*one, *other) if time.by is None}
    if ways <= _MOST_ARRANGEMENTS and len(followed) <= 1:
        return LogRank(chi2, _share_as_far(one, other), "permutation")
    return LogRank(chi2, float(found.pvalue), "chi-square")


def _share_as_far(one: Sequence[Reached], other: Sequence[Reached]) -> float:
    """Of all ways to deal out the runs to two groups of these sizes, those at least as far from what is to be
    expected.

    Learned less expected runs of a group are the sum over its runs of (1 where it learned, less the hazard of
    all runs summed up to its last step), of which only the group depends on how they are dealt out.
    """
    import numpy as np

    times = [*one, *other]
    last = np.array([time.by if time.by is not None else time.after for time in times])
    learned = np.array([time.seen for time in times])
    steps = np.unique(last[learned])
    hazard = np.array([(learned & (last == t)).sum() / (last >= t).sum() for t in steps])
    scores = learned - np.array([hazard[steps <= t].sum() for t in last])
    here = abs(scores[: len(one)].sum())
    everywhere = np.abs(scores[_arrangements(len(times), len(one))].sum(1))
    return float((everywhere >= here - 1e-9).mean())


@lru_cache(maxsize=8)
def _arrangements(n: int, chosen: int) -> NDArray[Any]:
    """All ways to choose so many of n, a row each."""
    import numpy as np

    return np.array(list(itertools.combinations(range(n), chosen)))


def holm(ps: Sequence[float]) -> list[float]:
    """P-values adjusted for how many there are (Holm 1979, Scandinavian Journal of Statistics 6, p. 65)."""
    order = sorted(range(len(ps)), key=lambda i: ps[i])
    adjusted, largest = [0.0] * len(ps), 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(ps) - rank) * ps[i]))
        adjusted[i] = largest
    return adjusted
