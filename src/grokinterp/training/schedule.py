"""When a run saves, and when it stops: snapshot steps, events, and conditions on a metric.

Everything here is decided from the configuration and the metrics alone, so an interrupted run decides the
same again.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from ..frozen import Frozen

METRICS = ("train_loss", "test_loss", "train_accuracy", "test_accuracy")
"""What every evaluation measures: mean losses in nats (or squared error), accuracies as shares in 0..1.
Monitored measures come on top."""


NOISE_METRICS = (
    "train_clean_accuracy", "test_clean_accuracy", "corrupted_accuracy", "corrupted_clean_accuracy",
)  # fmt: skip
"""What it measures as well where labels are noisy, METRICS being of the labels as they are given: accuracies
against the right answers; and of the training examples whose labels are wrong how many give the label, and
how many the right answer."""

_CONDITION = re.compile(r"\s*([\w.^]+)\s*(>=|<=|>|<)\s*([-+.\deE]+)\s*(?:for\s+(\d+)\s*)?")
_OPERATORS = {">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt}


def metrics_of_answers(answers: Sequence[str]) -> tuple[str, ...]:
    """What an evaluation measures on top where a task asks several answers; nothing where it asks one."""
    if len(answers) == 1:
        return ()
    each = [f"{metric}.{answer}" for metric in METRICS for answer in answers]
    return ("train_exact", "test_exact", *each)


@dataclass(frozen=True)
class Condition:
    """`metric op threshold for patience`: true once it has held for `patience` steps on end (0: at once)."""

    metric: str
    op: str
    threshold: float
    patience: int = 0

    @classmethod
    def parse(cls, text: str) -> Condition:
        """Reads for example "test_accuracy >= 0.999 for 200".

        Raises:
            ValueError: the text is no condition.
        """
        with suppress(ValueError):  # a threshold such as 1-2
            if match := _CONDITION.fullmatch(text):
                return cls(match[1], match[2], float(match[3]), int(match[4] or 0))
        raise ValueError("needs a condition such as 'test_accuracy >= 0.999 for 200'")

    def holds(self, metrics: Mapping[str, float]) -> bool:
        """Whether the comparison is true of these metrics, patience aside; of a metric that is not among them
        it is not."""
        return bool(_OPERATORS[self.op](metrics.get(self.metric, math.nan), self.threshold))


def _parses(text: str) -> str:
    Condition.parse(text)
    return text


ConditionText = Annotated[str, AfterValidator(_parses)]
Step = Annotated[int, Field(ge=0)]

DEFAULT_EVENTS = (
    "train_accuracy > 0.99", "test_accuracy > 0.5", "test_accuracy > 0.9", "test_accuracy > 0.99",
    "test_accuracy > 0.999",
)  # fmt: skip


def _spread(n: int, last: int) -> Iterable[int]:
    """Steps from 1 to at least `last`, at the spacing on a log axis of n steps from 1 to 10,000."""
    times = math.ceil((n - 1) * math.log(max(last, 1), 10_000))
    return (round(10_000 ** (i / (n - 1))) for i in range(times + 1))


class SnapshotConfig(Frozen):
    """Which steps are saved. The first and the last step always are."""

    every: int | None = Field(None, ge=1)
    """Linear: every so many steps."""
    log: int | None = Field(None, ge=2, le=100_000)
    """Logarithmic: so many steps from 1 to 10,000, evenly spread on a log axis and fewer where they coincide,
    and at the same spacing to the last step: a longer run saves the steps of a shorter one, and more."""
    at: tuple[Step, ...] = ()
    """Explicit steps."""
    events: tuple[ConditionText, ...] = DEFAULT_EVENTS
    """Saved at the first evaluation at which each of these becomes true."""

    def steps(self, last: int) -> frozenset[int]:
        """All scheduled steps from 0 to `last`; events come on top."""
        linear: Iterable[int] = range(0, last + 1, self.every) if self.every else ()
        logarithmic = _spread(self.log, last) if self.log else ()
        return frozenset(step for step in (0, last, *linear, *logarithmic, *self.at) if step <= last)


@dataclass
class Progress:
    """What has happened so far that later decisions depend on; saved with the resume state as plain JSON."""

    happened: set[str] = field(default_factory=set)
    """The events that have been saved."""
    holding_since: int | None = None
    """The first step of the current unbroken stretch over which the stop condition has held."""

    def new_events(self, events: Iterable[str], metrics: Mapping[str, float]) -> list[str]:
        """The events that become true with these metrics, and are now marked as happened."""
        new = [text for text in events if text not in self.happened and Condition.parse(text).holds(metrics)]
        self.happened.update(new)
        return new

    def should_stop(
        self, stop_when: str | None, step: int, metrics: Mapping[str, float], monitored: bool = True
    ) -> bool:
        """Whether the stop condition has now held for its patience.

        Where the measures of the run were not `monitored` at this step, a condition on one of them is neither
        broken nor met.
        """
        condition = Condition.parse(stop_when) if stop_when else None
        if condition is not None and condition.metric not in (*METRICS, *NOISE_METRICS) and not monitored:
            return False
        if condition is None or not condition.holds(metrics):
            self.holding_since = None
            return False
        if self.holding_since is None:
            self.holding_since = step
        return step - self.holding_since >= condition.patience

    def to_json(self) -> dict[str, Any]:
        """What a resumed run has to know, as plain JSON."""
        return {"happened": sorted(self.happened), "holding_since": self.holding_since}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Progress:
        """The same, read back."""
        return cls(set(data["happened"]), data["holding_since"])
