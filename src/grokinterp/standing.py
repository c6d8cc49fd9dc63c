"""How far a network has learned its task: one value, by which every sentence about it is decided.

| state | examples that it was not trained on | its training examples |
|---|---|---|
| at chance | not told from chance | not told from chance |
| memorises | not told from chance | better than chance |
| learning | better than chance, less than 99 % right | any |
| generalises | better than chance, at least 99 % right (Power et al. 2022) | any |
| not known | there are none, or nobody knows which they are | |

Chance is the share of the commonest answer: what is right for whoever always gives it. A share is better than
chance where the whole interval that its number of examples allows lies above (Wilson 1927, at 99 %). Of noisy
labels, training examples are held against the labels that the network was given and all others against right
answers, of which 90 % count as generalised (`KNOWN`). What measures it of a network is `measures.standing`;
this needs no torch.
"""

from __future__ import annotations

import json
import math
from collections.abc import Container, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from .tasks import Split, Task

State = Literal["at chance", "memorises", "learning", "generalises", "not known"]
GENERALISED = 0.99
"""The share of right answers from which a network is said to generalise."""
KNOWN = 0.9
"""The same on noisy labels, and the share from which a group of examples counts as known there: for
coexistence Doshi et al. print .978 (training labels) and .983 (test)."""
_THRESHOLDS = (0, 50, 100 * KNOWN, 100 * GENERALISED, 100)
"""In per cent."""
_Z = 2.5758293035489004
"""Standard deviations of a normal distribution that hold 99 % of it."""
Z_OF_95 = 1.959963984540054
"""Those that hold 95 %."""


def wilson(share: float, n: int, z: float = _Z) -> tuple[float, float]:
    """The interval of the shares that would not be surprised by `share` of `n` examples (Wilson 1927, JASA
    22, p. 209).

    Args:
        share: 0 to 1.
        n: examples, at least 1.
        z: the bound in standard deviations; by default that of 99 %.
    """
    if share in (0, 1):  # of which one end is the share itself, whatever rounding says
        end = z * z / (n + z * z)
        return (0.0, end) if share == 0 else (1 - end, 1.0)
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return max(0.0, centre - half), min(1.0, centre + half)


def in_a_word(state: State) -> str:
    """A state as a table has it: a network that has learned a part need not be learning still."""
    return "in part" if state == "learning" else state


@dataclass(frozen=True)
class Share:
    """How many of some examples are right.

    Attributes:
        right: 0 to 1.
        n: how many examples.
        low, high: the interval that this number of examples allows, at 99 % unless another was asked for.
    """

    right: float
    n: int
    low: float
    high: float

    @classmethod
    def of(cls, right: float, n: int, z: float = _Z) -> Share:
        """The share with its interval."""
        return cls(right, n, *wilson(right, n, z))

    def __str__(self) -> str:
        return percent(self.right)


def percent(share: float, digits: int = 1) -> str:
    """A share in per cent with so many digits, or as many as it takes to lie on its own side of every
    threshold that decides anything."""
    if share in (0, 1):
        return f"{100 * share:.0f} %"
    while digits < 12:
        seen = round(100 * share, digits)
        if all(
            (seen < limit, seen > limit) == (100 * share < limit, 100 * share > limit)
            for limit in _THRESHOLDS
        ):
            break
        digits += 1
    return f"{100 * share:.{digits}f} %"


@dataclass(frozen=True)
class Examples:
    """What there is to know of the examples that accuracies are about, beside the accuracies.

    Attributes:
        chance: the share of the commonest answer.
        train, test: how many examples there are; 0 where it is not known which they are.
        all: how many in all.
        noisy: whether labels are.
        criterion: by which an answer is right (`Task.criterion`); empty where it is that of the sample.
    """

    chance: float
    train: int
    test: int
    all: int
    noisy: bool = False
    criterion: str = ""

    @classmethod
    def of(cls, task: Task, split: Split | None) -> Examples:
        """Those of a task under a split."""
        rows = () if split is None else (split.train, split.test)
        n_train, n_test = (int(task.asked[part].sum()) for part in rows) if rows else (0, 0)
        n_all, criterion = int(task.asked.sum()), task.criterion or ""
        return cls(task.chance, n_train, n_test, n_all, task.noisy, criterion)

    @property
    def fresh(self) -> bool:
        """Whether training examples are drawn anew for every update, so that none of these are the training
        examples."""
        return self.test > 0 == self.train

    @classmethod
    def from_attrs(cls, attrs: Mapping[Any, Any]) -> Examples | None:
        """What `to_attrs` put into the attributes of a Dataset; None where nobody did."""
        return cls(**json.loads(attrs["examples"])) if "examples" in attrs else None

    def to_attrs(self) -> dict[str, str]:
        """As an attribute that every file format keeps."""
        return {"examples": json.dumps(asdict(self))}

    def standing(self, train: float | None, test: float | None, whole: float | None = None) -> Standing:
        """How far a network has come that is right on these shares of its training examples, of the others,
        and of all.

        What is None or NaN is not known.
        """
        shares = {
            name: Share.of(float(right), n)
            for name, right, n in (
                ("train", train, self.train),
                ("test", test, self.test),
                ("all", whole, self.all),
            )
            if right is not None and not math.isnan(right) and n > 0
        }
        level = KNOWN if self.noisy else GENERALISED
        return Standing(shares, self.chance, level, self.fresh, self.criterion)


@dataclass(frozen=True)
class Standing:
    """How far a network has learned its task.

    Attributes:
        shares: the right answers among training ("train"), unseen ("test") and "all" examples, as far as they
            are known.
        chance: the share of the commonest answer.
        level: the share of unseen examples from which it is said to generalise.
        fresh: whether it is trained on examples that are drawn anew, so that "test" is a sample of the same
            that is set apart, and nobody says that none of these was drawn.
        criterion: by which an answer is right; empty where it is that of the sample.
    """

    shares: dict[str, Share]
    chance: float
    level: float = GENERALISED
    fresh: bool = False
    criterion: str = ""

    @property
    def state(self) -> State:
        """See the table at the head of this module."""
        test, whole = self.shares.get("test"), self.shares.get("all")
        if test is not None:
            if self.better_than_chance("test"):
                return "generalises" if test.right >= self.level else "learning"
            if "train" not in self.shares:
                return "at chance" if self.fresh else "not known"
            return "memorises" if self.better_than_chance("train") else "at chance"
        return "at chance" if whole is not None and not self.better_than_chance("all") else "not known"

    def better_than_chance(self, part: str) -> bool:
        """Whether the whole interval of a part lies above chance; not where the part is not known."""
        return part in self.shares and self.shares[part].low > self.chance

    @property
    def times_chance(self) -> float:
        """The right answers among unseen examples, in units of chance."""
        return self.shares["test"].right / self.chance

    @property
    def words(self) -> str:
        """The state in a few words with its numbers: "97.2 % of unseen examples are right, 48 times
        chance"."""
        return self._words.replace("are right", f"are right {self.criterion}".rstrip())

    @property
    def _words(self) -> str:
        at = f"chance is {percent(self.chance)}"
        if self.fresh and "test" in self.shares:
            sample = self.shares["test"]
            words = f"{sample} of an evaluation sample of {sample.n:,} examples are right"
            return f"{words}: {self._no_better(sample.n)}" if self.state == "at chance" else f"{words} ({at})"
        if self.state == "generalises":
            return f"{self.shares['test']} of unseen examples are right ({at})"
        if self.state == "learning":
            also = f"; of its training examples {self.shares['train']}" if "train" in self.shares else ""
            return (
                f"{self.shares['test']} of unseen examples are right, {self.times_chance:.3g} times "
                f"chance{also}"
            )
        if self.state == "memorises":
            right, unseen = self.shares["train"], self.shares["test"]
            return (
                f"{right} of its training examples are right, and of unseen ones {unseen}: "
                f"{self._no_better(unseen.n)}"
            )
        if self.state == "at chance":
            words_of_part = (
                {"train": "training", "test": "unseen"} if "test" in self.shares else {"all": "all"}
            )
            shares = " and ".join(
                f"{self.shares[part]} of {word}"
                for part, word in words_of_part.items()
                if part in self.shares
            )
            each = ", each as far as it has examples" if len(words_of_part) > 1 else ""
            return f"{shares} examples are right: no better than chance ({percent(self.chance)}){each}"
        if "test" in self.shares:
            unseen = self.shares["test"]
            return (
                f"{unseen} of unseen examples are right: {self._no_better(unseen.n)}; of training examples "
                "it is not known"
            )
        if "all" in self.shares:
            return (
                f"{self.shares['all']} of all examples are right; which of them it was trained on is not "
                "known"
            )
        return "its history does not say how many examples are right"

    def _no_better(self, n: int) -> str:
        return (
            f"no better than chance ({percent(self.chance)}), as far as {n:,} "
            f"example{' tells' if n == 1 else 's tell'}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return {
            "state": self.state,
            "words": self.words,
            "chance": self.chance,
            "needed": self.level,
            "shares": {part: asdict(share) for part, share in self.shares.items()},
        }


def judged_by(columns: Container[str], part: str) -> str:
    """The column of a history by which it is told whether a part was learned: its accuracy, of every answer
    where a task asks several; of test examples with noisy labels that of right answers."""
    if part == "test" and "test_clean_accuracy" in columns:
        return "test_clean_accuracy"
    return f"{part}_exact" if f"{part}_exact" in columns else f"{part}_accuracy"
