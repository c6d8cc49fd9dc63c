"""By which step examples were learned: as an interval, since a run is looked at only every so many steps, and
as a bound where a run ended before (censored) or was first looked at after (left-censored). What follows for
several runs: the grokking delay, the median of a group, and whether starting from a snapshot helped.

    number           definition                                                            source
    steps to 99 %    first evaluated step at which accuracy is at least 0.99; it           Power et al. 2022
                     happened after the evaluation before
                     where the first evaluation already shows it: at that step or before
    grokking delay   steps to 99 % of the test examples / those of the training examples   Power et al. 2022
    median steps     where half of the runs have reached it, by the Kaplan-Meier           Kaplan and Meier
                     estimate                                                              1958

The median takes a run that ended before as one of which no more is known than that, not as one that would
never have got there, nor as one that got there when it ended. Where all runs end at the same step it is the
plain median with "longer than all others" for those that had not reached it, and there is none unless more
than half have. Between two middle runs it lies halfway. It assumes that no run was stopped for how it went.

Whether a start from a snapshot helped is told from the intervals of test accuracy: it did where that run had
got there by an evaluation at which the same run from scratch had not. A difference smaller than the time
between evaluations shows nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Literal

from ..errors import NotApplicable
from ..standing import judged_by

if TYPE_CHECKING:
    import pandas as pd

Interval = tuple[int, int]

LEARNED = 0.99
"""The accuracy from which a set of examples counts as learned."""


def first_interval(holds: pd.Series[bool]) -> Interval:
    """Between which two steps (the index) a condition first came true; twice the first step where it held
    from the beginning.

    Raises:
        NotApplicable: it never did.
    """
    at = holds.to_numpy().nonzero()[0]
    if not len(at):
        raise NotApplicable("it never happened")
    return int(holds.index[max(0, at[0] - 1)]), int(holds.index[at[0]])


def series(steps: Any, values: Any) -> pd.Series[float]:
    """Values over steps in order, without those that are not known; of two at one step the later."""
    import numpy as np
    import pandas as pd

    values_at = pd.Series(np.asarray(values, dtype=float), index=np.asarray(steps, dtype=int)).dropna()
    return values_at[~values_at.index.duplicated(keep="last")].sort_index()


@dataclass(frozen=True)
class Reached:
    """When an accuracy first was at least 0.99.

    Attributes:
        state: "reached", between two evaluations, or at step 0, before any update; "at or before", where the
            first evaluation was later and already shows it (left-censored); "censored", where the run was not
            seen to; "not known", where it was never evaluated.
        after: the last evaluation at which it was not yet; equal to `by` where it was from step 0. None where
            there is no such evaluation.
        by: the first evaluation at which it was; None where it was not seen.
    """

    state: Literal["reached", "at or before", "censored", "not known"]
    after: int | None = None
    by: int | None = None

    def __str__(self) -> str:
        if self.state == "not known":
            return "not known"
        if self.by is None:
            return f"> {self.after:,}"
        if self.after is None:
            return f"≤ {self.by:,}"
        return f"{self.after:,}–{self.by:,}" if self.by - self.after > 1 else f"{self.by:,}"

    @property
    def interval(self) -> str:
        """In words, with the evaluation before."""
        if self.by is None:
            return "not known" if self.after is None else f"not by step {self.after:,}"
        if self.after is None:
            return f"at or before step {self.by:,}, the first evaluated"
        if self.after == self.by:
            return f"at step {self.by:,}, before any update"
        return f"after step {self.after:,} and by step {self.by:,}"

    @property
    def in_words(self) -> str:
        """What the accuracy did: "first reached 99 % after step 100 and by step 110"."""
        if self.state == "not known":
            return "was never evaluated"
        if self.by is None:
            return f"had not reached 99 % by step {self.after:,}"
        return f"first reached 99 % {self.interval}"

    @property
    def seen(self) -> bool:
        """Whether it was seen to be reached, at the first evaluation or later."""
        return self.by is not None


def reached(history: pd.DataFrame, part: str, level: float = LEARNED) -> Reached:
    """When the accuracy of a part ("train", "test") first was at least that.

    Args:
        history: evaluations, as `run.history` gives them.
    """
    accuracy = series(history["step"], history[judged_by(history, part)])
    if not len(accuracy):
        return Reached("not known")
    try:
        after, by = first_interval(accuracy >= level)
        return Reached("at or before", by=by) if after == by > 0 else Reached("reached", after, by)
    except NotApplicable:
        return Reached("censored", int(accuracy.index[-1]))


@dataclass(frozen=True)
class Delay:
    """Steps to 99 % of the test examples over those of the training examples.

    Attributes:
        factor: from the evaluations at which they were learned; where `censored`, from the last at which the
            test examples were not.
        censored: whether it is more than that, and no more is known.
        low, high: the least and the most that the intervals allow; `high` is None where it has no bound.
    """

    factor: float
    censored: bool
    low: float
    high: float | None

    def __str__(self) -> str:
        return f"{'> ' if self.censored else ''}{self.factor:.3g}"


def delay(train: Reached, test: Reached) -> Delay | None:
    """The grokking delay; None where the training examples were not learned, or were before any update; nor
    where it has no bound, as nobody looked before the test examples were."""
    if not train.by or test.after is None:
        return None
    least = test.after / train.by
    if test.by is None or train.after is None:
        return Delay(least, True, least, None)
    return Delay(test.by / train.by, False, least, test.by / train.after if train.after else None)


def median_steps(times: Sequence[Reached]) -> float | None:
    """The step by which half of several runs have got there, censored ones taken for what they are; None
    where it is not known.

    Of a run that had got there by its first evaluation no more is known than that: where that evaluation came
    after the median which is found so, the median is not known.
    """
    median = _kaplan_meier(times)
    first_looked_at = [time.by for time in times if time.by is not None and time.after is None]
    return None if median is None or max(first_looked_at, default=0) > median else median


def _kaplan_meier(times: Sequence[Reached]) -> float | None:
    events = sorted(time.by for time in times if time.by is not None)
    ends = [time.by if time.by is not None else time.after for time in times if time.state != "not known"]
    left, half = Fraction(1), None
    for step in sorted(set(events)):
        at_risk = sum(end >= step for end in ends if end is not None)
        left *= 1 - Fraction(events.count(step), at_risk)
        if left < Fraction(1, 2):
            return float(step) if half is None else (half + step) / 2
        if left == Fraction(1, 2):
            half = step
    return None


Verdict = Literal["never", "no faster", "faster", "not known"]


@dataclass(frozen=True)
class Transfer:
    """Whether a start from a snapshot helped, compared with the same run from scratch.

    Attributes:
        verdict: "never": it ended without having learned the test examples; "no faster"; "faster"; "not
            known": one of the two runs was not followed long enough, or at all.
        steps: by how many steps it was faster; at least so many, where that from scratch was not seen to get
            there.
        low, high: the least and the most that the intervals allow; `high` is None where it has no bound.
        sentence: the same in words.
    """

    verdict: Verdict
    sentence: str
    steps: int | None = None
    low: int | None = None
    high: int | None = None

    @classmethod
    def of(cls, verdict: Verdict, more: str, *steps: int) -> Transfer:
        """With a sentence that begins with the verdict."""
        return cls(verdict, verdict + more, *steps)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self)


def transfer(started: pd.DataFrame, scratch: pd.DataFrame, ended: bool = True) -> Transfer:
    """Whether a run that started from a snapshot learned the test examples in fewer steps than the same run
    from scratch.

    Args:
        started, scratch: their evaluations, as `run.history` gives them.
        ended: whether the run that started from a snapshot has made all its steps; one that was stopped may
            still learn.
    """
    mine, other = (reached(history, "test") for history in (started, scratch))
    if "not known" in (mine.state, other.state):
        return Transfer.of("not known", ": one of the two was never evaluated")
    if mine.after is None or other.after is None:
        early = "one of the two had learned them by its first evaluation, and nobody looked before"
        return Transfer.of("not known", f": {early}")
    if mine.by is None:
        here = f"step {mine.after:,}"
        if other.by is None:
            if ended:
                return Transfer.of(
                    "never", f", up to {here}; nor had it from scratch by step {other.after:,}"
                )
            return Transfer.of(
                "not known", f": it stopped at {here}, and from scratch it had not by {other.after:,}"
            )
        took = f"from scratch it took {other.by:,}"
        if mine.after < other.by:
            return Transfer.of("not known", f": it was followed up to {here}, and {took}")
        if ended:
            return Transfer.of("never", f", up to {here}; {took}")
        return Transfer.of("no faster", f": it stopped at {here} without; {took}")
    if other.by is None:
        if mine.by > other.after:
            followed = f"that from scratch was followed up to {other.after:,}"
            return Transfer.of("not known", f": it took {mine.by:,} steps, and {followed}")
        least = other.after - mine.by
        not_by = f"from scratch it had not by step {other.after:,}"
        return Transfer.of("faster", f" by more than {least:,} steps: {not_by}", least, least)
    gained, low, high = other.by - mine.by, other.after - mine.by, other.by - mine.after
    both = f"{mine.by:,}, from scratch {other.by:,}"
    if low >= 0 and gained > 0:
        by = f" by {gained:,} steps ({low:,} to {high:,})"
        return Transfer.of("faster", f"{by}: {both}", gained, low, high)
    later = mine.after >= other.by and gained < 0
    how = f"{-gained:,} steps later" if later else "no difference that evaluations show"
    return Transfer.of("no faster", f": {both}; {how}")
