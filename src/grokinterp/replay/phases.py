"""What kind of run it was, and where one phase of its training ended and the next began: found from progress
measures, not typed.

The kind is decided by accuracies alone, and by how far the network has come at its last evaluation
(`measures.standing`: at chance, memorises, learning, generalises; that asks for chance and for the numbers of
examples, and so does any kind of a run that never generalised):

    kind                  last evaluation                   before
    groks                 generalises; or less, and above   test accuracy reached 50 % after twice the steps
                          90 % (median of five)             that training took
    generalises at once   the same                          it reached 50 % within twice those steps
    generalises           the same                          evaluations are too far apart, or begin too late,
                                                            to tell which of the two; or step 0 has it all
    forgets again         not told from chance, or below    generalised, or was ten points above chance
                          90 % (median of five)
    learns in part        learning                          never generalised
    memorises only        memorises                         unseen examples never ten points above chance
    learns nothing        at chance                         no examples ever ten points above chance
    not known                                               was evaluated less than twice; or never
                                                            generalised, and chance is not known

Where every update learns from fresh examples there is nothing to memorise, and no unseen example: a run of
which the table says that it groks or generalises then "learns", test accuracy is that on the evaluation
sample, and boundaries lie where half of that, and 99 % of it, are right.

To generalise is to be right on 99 % of unseen examples (Power et al. 2022); training took the steps until
99 % of its examples were learned; that twice these steps part grokking from generalising at once (Nanda et
al. 2023, section 5.3) is ours. Of a run that begins with what was learned before, nobody knows these steps:
it groks where it begins with memorising alone. No share of unseen examples counts that is not told from
chance, as far as there are examples.

Where labels are noisy, training accuracy is of the labels as they are given and test accuracy of the right
answers, 90 % of them are to generalise, and 81 % stand for 90.

A boundary is the interval between two snapshots, or two evaluations, within which its rule came true; it says
which of the two it is from, and from how many. It lies after the whole interval of the boundary before, or
else it is not said. The first rule that applies counts:

    boundary    by progress measures                  thresholds tried         source
    memorised   excluded loss is at its lowest,       last within 1.25 to 2    Nanda et al. 2023, section
                before it rises                       times that               5.2
    circuit     restricted loss <= 1 %, excluded      0.2 to 5 %; 25 to 75 %   their measures, our numbers
    formed      loss >= 50 % of chance
    cleaned     since then 90 % of the fall of the    80 to 95 %               their measure, our numbers
    up          weights is done, and it generalises

    boundary                            by accuracy alone                thresholds tried   source
    training examples learned           training accuracy reaches 99 %   95 to 99.9 %       ours
    half of the unseen examples right   test accuracy reaches 50 %       25 to 75 %         ours
    unseen examples learned             it generalises                   95 to 99.9 %       Power et al. 2022
    generalised                         the same, where a run is not     95 to 99.9 %       Power et al. 2022
                                        known to have memorised before
    forgotten                           test accuracy falls below 90 %   50 to 95 %         ours
                                        for good

Accuracy alone says nothing of a circuit: what lies between its boundaries is called memorisation, delay and
generalisation.

The fall of the weights is that of their summed squares. It is done when what is left of it goes at most half
as fast; while it has not come to that, or excluded loss has not begun to rise, the boundary is still to come,
and no accuracy decides. Excluded loss is that of the training examples, restricted loss that of all, both
with the final keys (`logit_dirs`); chance is ln of the number of answers. So the circuit is formed when the
key frequencies alone do the task and, without them, what was memorised no longer carries the training
examples. Nanda et al. set their boundaries (1,400, 9,400 and 14,000 epochs) by hand. Where the whole interval
lies before the training examples are learned, the boundary says so.
"""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Literal

from ..asked import DATASET, TABLE, asks
from ..errors import NotApplicable
from ..measures.noise import KNOWN
from ..measures.standing import GENERALISED, Examples, Standing, percent
from ..shown import Found, Rows
from .dataset import FINAL, final_keys
from .steps_to_learn import LEARNED, Interval, first_interval, judged_by, series

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

Kind = Literal[
    "groks", "generalises at once", "generalises", "learns", "forgets again", "learns in part",
    "memorises only", "learns nothing", "not known",
]  # fmt: skip
Name = Literal[
    "memorisation", "circuit formation", "cleanup", "delay", "generalisation", "learning", "after",
    "forgetting",
]  # fmt: skip
Basis = Literal["progress measures", "accuracy alone"]
Part = Literal["train", "test"]
_TRAINING = "training accuracy"
_HALF = 0.5
_FORGOTTEN = 0.09
"""How far test accuracy falls below the level from which it generalises until it is forgotten."""
_AT_ONCE = 2.0
_RISE = 0.1
_SLOWER = 0.5
_LEFT, _CARRIED = 0.01, 0.5
"""Shares of the loss of chance: what the keys leave at most, and what is there without them at least."""
_FALLEN = 0.9
"""The share of the fall of the weights after which they have shrunk."""
_RECENT = 5
"""Evaluations at the end of which the median is taken, so that one spike is no forgetting."""
_FEWEST = 3
"""Snapshots from which something is the lowest between two others."""
_TELLING = 5
"""Snapshots from which it is said when a measure was half-way."""


@dataclass(frozen=True)
class Boundary:
    """The interval between two snapshots, or evaluations, within which something happened.

    Attributes:
        name: "memorised", "circuit formed", "cleaned up" by progress measures; "training examples learned",
            "half of the unseen examples right", "unseen examples learned", "generalised", "forgotten" by
            accuracy alone.
        after, by: it had not happened at step `after`, and had at step `by`; equal where it had at the first
            step that is known.
        note: how far the interval moves with other thresholds, with a snapshot left out, and by other rules.
        rule: what decided, in words.
        basis: whether that was of progress measures, or of accuracy alone.
        seen: at how many snapshots the progress measures were looked at; or evaluations, the accuracies.
        flag: what is odd about it; "" where nothing is.
        keys: the key frequencies that it is about, those of the run's last snapshot, where it is about any.
    """

    name: str
    after: int
    by: int
    note: str
    rule: str = ""
    basis: Basis = "progress measures"
    seen: int = 0
    flag: str = ""
    keys: list[int] = field(default_factory=list)

    @property
    def when(self) -> str:
        """Name, interval, keys and what is odd about it: "circuit formed between steps 700 and 1,500 (final
        keys 9, 21)"."""
        where = f"at or before step {self.by:,}"
        if self.after < self.by:
            where = f"between steps {self.after:,} and {self.by:,}"
        also = "; ".join(filter(None, [_named(self.keys) if self.keys else "", self.flag]))
        return f"{self.name} {where}" + (f" ({also})" if also else "")

    @property
    def source(self) -> str:
        """What it is from: "progress measures at 37 snapshots", "accuracy alone, 1,201 evaluations"."""
        if self.basis == "progress measures":
            return f"{self.basis} at {_counted(self.seen, 'snapshot')}"
        return f"{self.basis}, {_counted(self.seen, 'evaluation')}"


def _named(keys: Sequence[int]) -> str:
    """Which keys: "final keys 9, 21"; "final keys" where nobody knows."""
    return f"final key{'' if len(keys) == 1 else 's'} {', '.join(map(str, keys))}".rstrip()


@dataclass(frozen=True)
class Phase:
    """A stretch of training: from step `start` to step `end`, which is the `by` of its boundary."""

    name: Name
    start: int
    end: int


@dataclass(frozen=True)
class Lead:
    """How long before the jump of test accuracy a measure made its own.

    Both are taken where half of the way between the lowest and the highest value is done, on the way from the
    one that comes first to the other.

    Attributes:
        measure: the name of the measure.
        after, by: the snapshots between which it was half-way.
        steps: by how many steps it led, from both crossings interpolated; negative where it lagged.
        low, high: the least and the most that the two intervals allow.
        part: the examples, or the parameter, of a measure that has several.
    """

    measure: str
    after: int
    by: int
    steps: int
    low: int
    high: int
    part: str = ""


@dataclass(frozen=True, repr=False)
class Phases(Found):
    """What kind of run it was, and its phases.

    Attributes:
        kind: see the table at the head of this module.
        sentence: kind and boundaries in one or two sentences, with what they are from.
        spans: the phases in order, without gaps; none where nothing is known or learned, or phases are not
            told apart.
        boundaries: those that were found, in order.
        leads: of every progress measure that is one number a step, the earliest first.
        skipped: why the kind, a boundary by progress measures or the one that stands for it, or the leads
            could not be found.
        standing: how far the network had come at its last evaluation; None where that was not evaluated, or
            chance is not known.
    """

    kind: Kind
    sentence: str
    spans: list[Phase] = field(default_factory=list)
    boundaries: list[Boundary] = field(default_factory=list)
    leads: list[Lead] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    standing: Standing | None = None

    def _in_a_line(self) -> str:
        return self.kind

    def _as_rows(self) -> Rows:
        spans = [(phase.name, f"steps {phase.start:,} to {phase.end:,}") for phase in self.spans]
        sure = [(each.name, f"between steps {each.after:,} and {each.by:,}") for each in self.boundaries]
        return [("in words", self.sentence), *spans, *sure, *self.skipped.items()]

    def at(self, step: int) -> str:
        """The name of the phase at a step; "" where there is none. A phase begins with its first step; the
        last one has both its ends."""
        for phase in reversed(self.spans):
            if phase.start <= step and (step <= phase.end if phase is self.spans[-1] else step < phase.end):
                return phase.name
        return ""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON; the spans as {name: [from step, to step]}."""
        return {
            **asdict(self),
            "spans": {phase.name: [phase.start, phase.end] for phase in self.spans},
            "standing": self.standing and self.standing.to_dict(),
        }


@asks("phases", data=DATASET, history=TABLE)
def phases(data: xr.Dataset, history: pd.DataFrame, examples: Examples | None = None) -> Phases:
    """The kind of a run, its phases, and which measures lead the jump of test accuracy.

    Args:
        data: measures over `step`, as `replay` gives them by default; what is missing there is done without,
            and `skipped` says why. Without `restricted_loss.logit_dirs` and `excluded_loss.logit_dirs`
            accuracies decide, and nothing is said of a circuit.
        history: evaluations, as `run.history` gives them. Where it has fewer accuracies than `data`, those of
            the snapshots count.
        examples: chance and the numbers of examples; by default those that `replay` wrote into the Dataset.
            Where nobody knows them, no kind is told that needs them.
    """
    curves = _curves(data, history, examples if examples is not None else Examples.from_attrs(data.attrs))
    kind = _kind(curves)
    if kind == "not known":
        why = {"kind": _why_unknown(curves)}
        return Phases(kind, _unknown(curves), skipped=why, standing=curves.standing)
    outcome = _boundaries_of_sample(curves) if curves.fresh else _boundaries(curves, kind)
    leads = list[Lead]()
    try:
        leads = _leads(data, history, curves.test)
    except NotApplicable as reason:
        outcome.skipped["leads"] = str(reason)
    sentence, spans = _sentence(kind, outcome, curves), _spans(kind, outcome, curves)
    boundaries = list(outcome.boundaries.values())
    return Phases(kind, sentence, spans, boundaries, leads, outcome.skipped, curves.standing)


def kind_of(history: pd.DataFrame, examples: Examples | None) -> Kind:
    """The kind of a run by its evaluations alone, without measures: that of `phases`, unless snapshots have
    more accuracies than the history, or the task has a criterion of its own, which evaluations do not know.

    Args:
        history: evaluations, as `run.history` gives them.
        examples: chance and the numbers of examples; None where nobody knows them.
    """
    import xarray as xr

    return _kind(_curves(xr.Dataset(), history, examples))


@dataclass(frozen=True)
class _Curves:
    """What the rules look at, each over its own steps; empty where it was not measured.

    Attributes:
        train, test: accuracies, at the same steps.
        above_chance: whether test accuracy is better than chance, as far as is known.
        excluded, restricted, squares: losses with the final keys, and the summed squares of the weights.
        chance_loss: ln of the number of answers, in nats; NaN where that is not known.
        examples: None where nobody knows them.
        noisy: whether labels are.
        exact: whether there are several answers, and accuracies are of all of them.
        keys: the key frequencies of the last snapshot.
    """

    train: pd.Series[float]
    test: pd.Series[float]
    above_chance: pd.Series[bool]
    excluded: pd.Series[float]
    restricted: pd.Series[float]
    squares: pd.Series[float]
    chance_loss: float
    examples: Examples | None
    noisy: bool
    exact: bool
    keys: list[int]

    @property
    def level(self) -> float:
        """The share of unseen examples from which it generalises."""
        return KNOWN if self.noisy else GENERALISED

    @property
    def kept(self) -> float:
        """The share below which it has forgotten."""
        return round(self.level - _FORGOTTEN, 2)

    def reaches(self, part: Part, share: float) -> pd.Series[bool]:
        """Where an accuracy is at least a share; of unseen examples only where better than chance."""
        return self.train >= share if part == "train" else (self.test >= share) & self.above_chance

    @property
    def generalised(self) -> pd.Series[bool]:
        """At which evaluations the standing is "generalises"."""
        return self.reaches("test", self.level)

    @property
    def fresh(self) -> bool:
        """Whether training examples are drawn anew, so that nobody can memorise them."""
        return self.examples is not None and self.examples.fresh

    @property
    def test_words(self) -> str:
        """What test accuracy is of."""
        of = "evaluation" if self.fresh else "test"
        if self.examples and self.examples.criterion:
            return f"{of} accuracy ({self.examples.criterion})"
        return f"{of} accuracy{' (right answers)' * self.noisy}{' (every answer)' * self.exact}"

    @property
    def standing(self) -> Standing | None:
        """How far the network has come at its last evaluation."""
        if not self.examples or not len(self.test):
            return None
        return self.examples.standing(self.train.iloc[-1], self.test.iloc[-1])

    @property
    def generalised_from_the_start(self) -> bool:
        """Whether it had generalised before any update of this run."""
        return _reached(self.generalised)[1] == 0

    @property
    def learned_before(self) -> bool:
        """Whether training examples were right at step 0, so that nobody knows what steps they took."""
        return _reached(self.reaches("train", LEARNED))[1] == 0

    @property
    def at_once(self) -> bool | None:
        """Whether half of the unseen examples came to be right not long after the training examples were
        learned; None where that cannot be told."""
        half, learned = _reached(self.reaches("test", _HALF)), _reached(self.reaches("train", LEARNED))
        if half[1] == math.inf:
            return False
        if self.generalised_from_the_start:
            return None
        if self.learned_before:
            first = self.examples and self.examples.standing(self.train.iloc[0], self.test.iloc[0])
            return False if first and first.state == "memorises" else None
        if half[0] >= _AT_ONCE * learned[1]:
            return False
        return True if half[1] <= _AT_ONCE * learned[0] else None

    @property
    def has_circuit(self) -> bool:
        """Whether the final keys alone ever bring the loss under half of chance."""
        return bool(len(self.restricted)) and bool(self.restricted.min() <= _HALF * self.chance_loss)

    def without(self, step: int) -> _Curves:
        """The same with one snapshot or evaluation left out."""
        names = ("train", "test", "above_chance", "excluded", "restricted", "squares")
        return replace(self, **{name: getattr(self, name).drop(step, errors="ignore") for name in names})

    def steps(self, after: int, by: int) -> list[int]:
        """The steps of an interval at which anything is known."""
        curves = (self.train, self.test, self.restricted, self.squares)
        return sorted({int(step) for curve in curves for step in curve.loc[after:by].index})


def _curves(data: xr.Dataset, history: pd.DataFrame, examples: Examples | None) -> _Curves:
    # On noisy labels: whether the training labels were learned as they are, and whether the rule was.
    trained, tested = judged_by(history, "train"), judged_by(history, "test")
    evaluations = history.dropna(subset=[trained, tested])
    evaluated = (
        series(evaluations["step"], evaluations[trained]),
        series(evaluations["step"], evaluations[tested]),
    )
    of_labels = "accuracy.exact" if "accuracy.exact" in data else "accuracy"
    of_answers = "clean_accuracy" if "clean_accuracy" in data else of_labels
    train, test = _of(data, of_labels, part="train"), _of(data, of_answers, part="test")
    both = train.index.intersection(test.index)
    train, test = max(evaluated, (train[both], test[both]), key=lambda pair: len(pair[1]))
    if examples and examples.criterion:  # which the history does not tell
        train, test = _by_criterion(data, examples)
    above_chance, exact, keys = _told(test, examples), tested == "test_exact", final_keys(data)
    excluded = _of(data, "excluded_loss.logit_dirs" + FINAL, part="train")
    restricted = _of(data, "restricted_loss.logit_dirs" + FINAL, part="all")
    squares = _of(data, "sum_of_squares", parameter="total")
    chance = math.log(data.attrs["answers"]) if "answers" in data.attrs else math.nan
    noisy = examples.noisy if examples else "test_clean_accuracy" in history or "clean_accuracy" in data
    curves = train, test, above_chance, excluded, restricted, squares
    return _Curves(*curves, chance, examples, noisy, exact, keys)


def _by_criterion(data: xr.Dataset, examples: Examples) -> tuple[pd.Series[float], pd.Series[float]]:
    """Training and test accuracy by the criterion of the task; of fresh examples both are test accuracy."""
    parts = ("test", "test") if examples.fresh else ("train", "test")
    train, test = (
        _of(data, "accuracy.by_criterion", part=part, criterion=examples.criterion) for part in parts
    )
    both = train.index.intersection(test.index)
    return train[both], test[both]


def _told(test: pd.Series[float], examples: Examples | None) -> pd.Series[bool]:
    """Where test accuracy is better than chance; everywhere, without chance and number of examples."""
    if examples is None or not examples.test:
        return test.notna()
    above_chance = {
        right: examples.standing(None, right).better_than_chance("test") for right in test.unique()
    }
    return test.map(above_chance).astype(bool)


def _of(data: xr.Dataset, name: str, **at: str) -> pd.Series[float]:
    """One number a step of a variable; empty where there is none."""
    if name not in data or any(label not in data[dim].values for dim, label in at.items()):
        return series([], [])
    return series(data["step"].values, data[name].sel(at).values)


def _reached(holds: pd.Series[bool]) -> tuple[float, float]:
    """The last step at which something did not yet hold, as far as is known, and the first at which it did,
    or infinity.

    Before the first evaluation it may have been anything, so that step 0 is the last of which it is known,
    unless step 0 was evaluated.
    """
    at = holds.to_numpy().nonzero()[0]
    if not len(at):
        return float(holds.index[-1]), math.inf
    return float(holds.index[at[0] - 1]) if at[0] else 0.0, float(holds.index[at[0]])


def _kind(curves: _Curves) -> Kind:
    test = curves.test
    if len(test) < 2:
        return "not known"
    state = curves.standing.state if curves.standing else "not known"
    recent = max(test.iloc[-1], test.tail(_RECENT).median())
    if curves.generalised.any():
        if not curves.generalised.iloc[-1] and (state in ("at chance", "memorises") or recent < curves.kept):
            return "forgets again"
        if curves.fresh:
            return "learns"
        if curves.at_once is None:
            return "generalises"
        return "generalises at once" if curves.at_once else "groks"
    if curves.examples is None or state not in ("learning", "memorises", "at chance"):
        return "not known"
    if state == "learning":
        return "learns in part"
    if _rose(curves, "test") or (state == "at chance" and _rose(curves, "train")):
        return "forgets again"
    return "memorises only" if state == "memorises" else "learns nothing"


def _rose(curves: _Curves, part: Part) -> bool:
    """Whether an accuracy ever was so far above chance, and is now below that by more than its number of
    examples allows."""
    assert curves.examples is not None
    accuracy = getattr(curves, part)
    best, last = (
        curves.examples.standing(*(share if part == name else None for name in ("train", "test")))
        for share in (float(accuracy.max()), float(accuracy.iloc[-1]))
    )
    if not (part in best.shares and part in last.shares and best.better_than_chance(part)):
        return False
    risen, now = best.shares[part], last.shares[part]
    return risen.right >= curves.examples.chance + _RISE and risen.low > now.right


def _why_unknown(curves: _Curves) -> str:
    if len(curves.test) < 2:
        return "accuracies of training and unseen examples were evaluated less than twice"
    if curves.examples is None:
        return "neither chance nor the number of examples is known"
    return "it is not known which examples the network was trained on"


def _unknown(curves: _Curves) -> str:
    seen = ""
    if len(curves.test):
        train, test = percent(curves.train.max()), percent(curves.test.max())
        seen = f"; up to step {curves.test.index[-1]:,} training accuracy is at most {train}, "
        seen += f"{curves.test_words} {test}"
    return f"What kind of run it is, is not known: {_why_unknown(curves)}{seen}."


class _NotYet(NotApplicable):
    """What the rule looks for has begun and is not over: no later rule may say that it is."""


@dataclass(frozen=True)
class _Rule:
    """How a boundary is found: its name, in words, as a function of the curves and its thresholds, and what
    else they could be.

    Attributes:
        curve: the name of the curve of which the snapshots, or evaluations, are counted.
    """

    name: str
    words: str
    find: Callable[..., Interval]
    tried: Sequence[Mapping[str, float]]
    curve: str = "test"
    basis: Basis = "accuracy alone"


def _share(share: float) -> str:
    """A threshold in per cent."""
    return f"{100 * share:g} %"


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _reaches(name: str, words: str, level: float, tried: Sequence[float] = (0.95, 0.999)) -> _Rule:
    part: Part = "train" if words == _TRAINING else "test"
    return _Rule(
        name,
        f"{words} reaches {_share(level)}",
        lambda curves, level=level: first_interval(curves.reaches(part, level)),
        [{"level": other} for other in tried],
        curve=part,
    )


def _needs_circuit(curves: _Curves) -> None:
    missing = [] if len(curves.restricted) else ["no restricted loss of all examples"]
    missing += [] if len(curves.excluded) else ["no excluded loss of the training examples"]
    if missing:
        raise NotApplicable(f"the data hold {' and '.join(missing)} with the final keys")
    if math.isnan(curves.chance_loss):
        raise NotApplicable(
            "how many answers there are, and with it the loss of chance, is not known (the data have no "
            'attribute "answers")'
        )
    if not curves.has_circuit:
        none = f"at none of {_counted(len(curves.restricted), 'snapshot')}"
        where = f"{none}, up to step {int(curves.restricted.index[-1]):,},"
        alone = f"{'does' if len(curves.keys) == 1 else 'do'} the {_named(curves.keys)} alone"
        raise NotApplicable(f"{where} {alone} bring the loss under {_share(_HALF)} of chance")


def _lowest_excluded(curves: _Curves, factor: float = 1.0) -> Interval:
    """The neighbours of the lowest excluded loss; or where it last is within `factor` of that."""
    _needs_circuit(curves)
    if not curves.train.max() >= LEARNED:
        raise NotApplicable(f"training accuracy never reaches {_share(LEARNED)}")
    excluded = _excluded_before_half(curves)
    if len(excluded) < _FEWEST:
        until = f"until {_share(_HALF)} of the unseen examples were right"
        raise NotApplicable(f"{until} there is no lowest value of {_counted(len(excluded), 'snapshot')}")
    steps, at = excluded.index, int(excluded.to_numpy().argmin())
    if at == 0:
        what = "excluded loss is at its lowest at the first snapshot"
        raise NotApplicable(f"{what}, so when it began to rise is not known")
    if at + 1 == len(steps):
        if curves.reaches("test", _HALF).any():
            half = f"{_share(_HALF)} of the unseen examples are right"
            raise NotApplicable(f"excluded loss does not rise before {half}")
        raise _NotYet("excluded loss has not begun to rise")
    if factor == 1:
        return int(steps[at - 1]), int(steps[at + 1])
    return first_interval(excluded.iloc[at:] > factor * excluded.iloc[at])


def _excluded_before_half(curves: _Curves) -> pd.Series[float]:
    """Excluded loss until half of the unseen are right: later it may fall again, as the weights do."""
    return curves.excluded.loc[: _reached(curves.reaches("test", _HALF))[1]]


def _not_learned_by_then(curves: _Curves, by: int) -> str:
    """That memorisation, as excluded loss tells it, ended by a step at which the training examples were not
    yet learned; "" where it is not known to have."""
    excluded = _excluded_before_half(curves)
    step = int(excluded.index[int(excluded.to_numpy().argmin())])
    not_yet, learned = _reached(curves.reaches("train", LEARNED))
    if not_yet < by:
        return ""
    until, right = curves.train.loc[:step], "that was "
    if len(until):
        right = f"{percent(until.max())} of them at most were right until then, {_share(LEARNED)} "
    what = "before the training examples were learned"
    return f"{what}: excluded loss is lowest at step {step:,}, {right}by step {learned:,.0f}"


def _sufficient_and_necessary(curves: _Curves, left: float = _LEFT, carried: float = _CARRIED) -> Interval:
    """Where keys alone leave `left` of the loss of chance, and training examples without them `carried`."""
    _needs_circuit(curves)
    both = curves.restricted.index.intersection(curves.excluded.index)
    if len(both) < _FEWEST:
        what = f"restricted and excluded loss were measured at {_counted(len(both), 'snapshot')}"
        raise NotApplicable(f"{what}, and {_FEWEST} are needed")
    sufficient = curves.restricted[both] <= left * curves.chance_loss
    enough = sufficient & (curves.excluded[both] >= carried * curves.chance_loss)
    if not enough.any():
        what = f"at no snapshot is restricted loss at most {_share(left)}"
        raise NotApplicable(f"{what} and excluded loss at least {_share(carried)} of chance")
    return first_interval(enough)


def _norm_has_fallen(curves: _Curves, since: int, share: float = _FALLEN) -> Interval:
    """Where `share` of the fall of the weights is done, and it generalises: the later of both."""
    squares = curves.squares.loc[since:]
    if len(squares) < _FEWEST:
        what = f"the weights were measured at {_counted(len(squares), 'snapshot')} since the circuit formed"
        raise NotApplicable(f"{what}, and {_FEWEST} are needed")
    if squares.iloc[0] - squares.min() < _RISE * squares.iloc[0]:
        raise NotApplicable(f"the weights have not shrunk by {_share(_RISE)} since the circuit formed")
    fall = squares.iloc[0] - squares.min()
    done = first_interval(squares <= squares.iloc[0] - share * fall)
    head, tail = done[1] - since, int(squares.index[-1]) - done[1]
    if (1 - share) * head > _SLOWER * share * tail:
        raise _NotYet("the weights are still shrinking fast at the last snapshot")
    return max(done, first_interval(curves.generalised), key=lambda interval: interval[1])


def _lost(curves: _Curves, level: float) -> Interval:
    """The last evaluation at which test accuracy had a level, and the next."""
    above = curves.reaches("test", level).to_numpy().nonzero()[0]
    if not len(above) or above[-1] + 1 == len(curves.test):
        raise NotApplicable("it never happened")
    return int(curves.test.index[above[-1]]), int(curves.test.index[above[-1] + 1])


_MEMORISED = _Rule(
    "memorised",
    "excluded loss is at its lowest",
    _lowest_excluded,
    [{"factor": f} for f in (1.25, 1.5, 2.0)],
    curve="excluded",
    basis="progress measures",
)
_FORMED = _Rule(
    "circuit formed",
    f"restricted loss is at most {_share(_LEFT)}, and excluded loss at least {_share(_CARRIED)}, of the "
    "loss of chance",
    _sufficient_and_necessary,
    [{"left": x, "carried": y} for x in (0.002, 0.005, 0.01, 0.02, 0.05) for y in (0.25, 0.5, 0.75)],
    curve="restricted",
    basis="progress measures",
)


def _shrunk(since: int, level: float, words: str) -> _Rule:
    return _Rule(
        "cleaned up",
        f"{_share(_FALLEN)} of the fall of the summed squares of the weights is done, and {words} has "
        f"reached {_share(level)}",
        lambda curves, share=_FALLEN: _norm_has_fallen(curves, since, share),
        [{"share": share} for share in (0.8, 0.85, 0.95)],
        curve="squares",
        basis="progress measures",
    )


_BY_MEASURES = ("memorised", "circuit formed", "cleaned up")


@dataclass
class _Outcome:
    """Boundaries by name, in order; why others were not found; and which of these are still to come."""

    boundaries: dict[str, Boundary] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    to_come: set[str] = field(default_factory=set)

    def seek(self, curves: _Curves, *rules: _Rule) -> None:
        """Adds the boundary that the first of these rules gives that applies."""
        try:
            earliest = max((earlier.by for earlier in self.boundaries.values()), default=0)
            boundary = _boundary(rules, curves, earliest)
            self.boundaries[boundary.name] = boundary
            if boundary.name != rules[0].name:
                self.skipped[rules[0].name] = _why_not(rules[0], curves, boundary)
        except NotApplicable as reason:
            self.skipped[rules[0].name] = str(reason)
            if isinstance(reason, _NotYet):
                self.to_come.add(rules[0].name)


def _why_not(rule: _Rule, curves: _Curves, instead: Boundary) -> str:
    """Why a rule did not decide, and another did instead."""
    try:
        why = f"it would be {_written(rule.find(curves))}, which does not tell it from what came before"
    except NotApplicable as reason:
        why = str(reason)
    return f"{rule.words}: {why}; instead, by {instead.basis}: {instead.name}"


def _boundaries(curves: _Curves, kind: Kind) -> _Outcome:
    outcome, words = _Outcome(), curves.test_words
    if kind == "learns nothing" or (kind == "forgets again" and not curves.generalised.any()):
        outcome.skipped |= dict.fromkeys(_BY_MEASURES, "not looked for: too little was ever learned")
        return outcome
    if curves.at_once is not False:
        why = "not looked for: the run is not known to have memorised before it generalised"
        outcome.skipped |= dict.fromkeys(_BY_MEASURES, why)
        outcome.seek(curves, _reaches("generalised", words, curves.level))
    else:
        outcome.seek(curves, _MEMORISED, _reaches("training examples learned", _TRAINING, LEARNED))
        outcome.seek(
            curves, _FORMED, _reaches("half of the unseen examples right", words, _HALF, (0.25, 0.75))
        )
        rules = [_reaches("unseen examples learned", words, curves.level)]
        if formed := outcome.boundaries.get(_FORMED.name):
            rules.insert(0, _shrunk(formed.by, curves.level, words))
        else:
            outcome.skipped["cleaned up"] = "when a circuit formed is not known"
        outcome.seek(curves, *rules)
    if kind == "forgets again":
        falls = f"{words} falls below {_share(curves.kept)} for good"
        lost = partial(_lost, level=curves.kept)
        outcome.seek(
            curves, _Rule("forgotten", falls, lost, [{"level": level} for level in (0.5, 0.8, 0.95)])
        )
    return outcome


def _boundaries_of_sample(curves: _Curves) -> _Outcome:
    """Where examples are fresh, those by the accuracy on the evaluation sample."""
    outcome = _Outcome()
    words = curves.test_words
    outcome.seek(curves, _reaches("half of the evaluation sample right", words, _HALF, (0.25, 0.75)))
    outcome.seek(curves, _reaches("evaluation sample learned", words, curves.level))
    return outcome


def _boundary(rules: Sequence[_Rule], curves: _Curves, earliest: int) -> Boundary:
    """By the first rule that applies, of those that do not put it before the boundary that precedes it.
    Progress measures have to put all of its interval after that; accuracies cannot but rise in their order.

    Raises:
        NotApplicable: none does.
    """
    places: list[tuple[_Rule, Interval]] = []
    reasons: list[str] = []
    for rule in rules:
        try:
            interval = rule.find(curves)
            if interval[rule.basis == "accuracy alone"] < earliest:
                at = f"it would be {_written(interval)}, and the boundary before it was by {earliest:,}"
                raise NotApplicable(f"{at}: these steps do not tell which came first")
            places.append((rule, interval))
        except NotApplicable as reason:
            reasons.append(f"{rule.words}: {reason}")
            if isinstance(reason, _NotYet):
                raise _NotYet("; ".join(reasons)) from None
    if not places:
        raise NotApplicable("; ".join(reasons))
    (rule, interval), *others = places
    tried = [partial(rule.find, curves, **thresholds) for thresholds in ({}, *rule.tried)]
    left_out = [partial(rule.find, curves.without(step)) for step in curves.steps(*interval)]
    notes = [
        _spread(tried, "over all thresholds tried"),
        _spread(left_out, "with any one step around it left out"),
        *(f"{other.words}: {_written(place)}" for other, place in others),
        *reasons,
        *([_nats(curves)] if rule is _FORMED else []),
    ]
    flag = _not_learned_by_then(curves, interval[1]) if rule is _MEMORISED else ""
    keys, seen = curves.keys if rule is _FORMED else [], len(getattr(curves, rule.curve))
    return Boundary(rule.name, *interval, "; ".join(notes), rule.words, rule.basis, seen, flag, keys)


def _nats(curves: _Curves) -> str:
    """The thresholds of the circuit in the unit of the losses."""
    nats = {share: f"{share * curves.chance_loss:.3g} nats" for share in (_LEFT, _CARRIED)}
    return ", ".join(f"{_share(share)} of the loss of chance is {text}" for share, text in nats.items())


def _spread(variants: Sequence[Callable[[], Interval]], words: str) -> str:
    """The smallest interval that holds those of all variants."""
    places = []
    for variant in variants:
        with contextlib.suppress(NotApplicable):
            places.append(variant())
    if not places:
        return f"not found {words}"
    hull = _written((min(after for after, _ in places), max(by for _, by in places)))
    missing = len(variants) - len(places)
    return f"{hull} {words}{f' (not found with {missing} of {len(variants)})' if missing else ''}"


def _written(interval: Interval) -> str:
    return f"{interval[0]:,}–{interval[1]:,}"


_ENDS: dict[str, Name] = {
    "memorised": "memorisation",
    "training examples learned": "memorisation",
    "circuit formed": "circuit formation",
    "half of the unseen examples right": "delay",
    "cleaned up": "cleanup",
    "unseen examples learned": "generalisation",
    "generalised": "generalisation",
    "forgotten": "after",
}
"""The phase that each boundary ends."""


def _spans(kind: Kind, outcome: _Outcome, curves: _Curves) -> list[Phase]:
    """The phases between the boundaries and after the last; none without an end of the first."""
    first, last = (int(end([*curves.test.index, *curves.squares.index])) for end in (min, max))
    if curves.fresh:
        if not outcome.boundaries:
            return []
        learned = outcome.boundaries.get("evaluation sample learned")
        by = learned.by if learned else last
        return [Phase("learning", first, by), *([Phase("after", by, last)] if by < last else [])]
    ends: list[tuple[Name, int]] = [
        (_ENDS[name], boundary.by) for name, boundary in outcome.boundaries.items()
    ]
    following = _following(kind, outcome, curves)
    begins = ends[0][0] if ends else "memorisation"
    if following is None or curves.at_once is None or begins not in ("memorisation", "generalisation"):
        return []
    spans: list[Phase] = []
    for name, end in [*ends, (following, last)]:
        if end > first:
            if spans and spans[-1].name == name:
                spans[-1] = replace(spans[-1], end=end)
            else:
                spans.append(Phase(name, first, end))
            first = end
    return spans


def _following(kind: Kind, outcome: _Outcome, curves: _Curves) -> Name | None:
    """The phase after the last boundary."""
    latest = next(reversed(outcome.boundaries), "")
    if kind == "forgets again" and latest != "forgotten":
        return None
    if not latest:
        if kind == "memorises only" or "memorised" in outcome.to_come:
            return "memorisation"
        return "generalisation" if curves.at_once else None
    if latest in ("memorised", "training examples learned"):
        if curves.has_circuit:
            return "circuit formation"
        if curves.generalised.any():
            return "after"
        return "memorisation" if kind == "memorises only" else None  # of what led nowhere nobody knows a name
    if latest == _FORMED.name:
        return "cleanup" if "cleaned up" in outcome.to_come or not curves.generalised.any() else "after"
    if latest == "half of the unseen examples right":
        return "generalisation"
    return "forgetting" if latest == "forgotten" else "after"


def _sentence(kind: Kind, outcome: _Outcome, curves: _Curves) -> str:
    said = [_kind_in_words(kind, curves)]
    for source, boundaries in itertools.groupby(outcome.boundaries.values(), key=attrgetter("source")):
        said.append(f"by {source}, {', '.join(boundary.when for boundary in boundaries)}")
    why = _why_no_circuit(outcome, curves) if kind == "groks" else ""
    return "; ".join(said) + "." + (f" When a circuit formed is not known: {why}." if why else "")


def _why_no_circuit(outcome: _Outcome, curves: _Curves) -> str:
    """Why it is not said when a circuit formed; "" where it is."""
    if _FORMED.name in outcome.boundaries:
        return ""
    try:
        interval = _FORMED.find(curves)
    except NotApplicable as reason:
        return str(reason)
    what = f"at {_counted(len(curves.restricted), 'snapshot')} it is {_written(interval)}"
    return f"{what}, which does not tell it from what came before"


def _kind_in_words(kind: Kind, curves: _Curves) -> str:
    words = {"train": _TRAINING, "test": curves.test_words}
    last, standing = f"step {int(curves.test.index[-1]):,}", curves.standing

    def reaches(part: Part, level: float) -> str:
        step = _reached(curves.reaches(part, level))[1]
        return f"{words[part]} reaches {_share(level)} by step {step:,.0f}" if step < math.inf else ""

    def at_most(part: Part) -> str:
        accuracy = getattr(curves, part)
        return f"{words[part]} was at most {percent(accuracy.max())}, at step {accuracy.idxmax():,}"

    steps = [reaches("train", LEARNED), reaches("test", _HALF), reaches("test", curves.level)]
    if kind == "forgets again" and curves.generalised.any():
        verb = "learns" if curves.fresh else "generalises"
        what = f"It {verb} and forgets again"
        return f"{what}: {steps[2]}, and is {percent(curves.test.iloc[-1])} at the last evaluation ({last})"
    if kind in ("learns", "groks", "generalises at once", "generalises"):
        milestones = {"learns": steps[1:], "groks": [steps[0], steps[2]]}.get(kind, steps)
        said = f"It {kind}: {', '.join(filter(None, milestones))}"
        if curves.generalised_from_the_start and kind != "learns":
            first = [f"{words[part]} is {percent(getattr(curves, part).iloc[0])}" for part in words]
            said = f"It generalises from the start: at step 0, before any update, {' and '.join(first)}"
        elif kind == "generalises":
            too_few = "evaluations are too far apart or begin too late"
            why = "its training examples were right at step 0" if curves.learned_before else too_few
            said += f"; whether it grokked is not known, as {why}"
        if (now := curves.test.iloc[-1]) < curves.level:
            said += f"; {words['test']} is {percent(now)} at the last evaluation ({last}), "
            said += f"below {_share(curves.level)}"
        return said
    assert standing is not None
    if kind == "forgets again":
        best = at_most("test" if _rose(curves, "test") else "train")
        return f"It learns and forgets again: {best}; at the last evaluation ({last}) {standing.words}"
    fell = kind == "learns in part" and curves.test.iloc[-1] < curves.test.max()
    before = f"; {at_most('test')}" if fell else ""
    verb = "It only memorises" if kind == "memorises only" else f"It {kind}"
    least = standing.chance + _RISE
    if kind == "memorises only" and curves.test.max() >= least:
        verb = "It memorises, and whether it does more is not known"
    elif kind == "learns nothing" and max(curves.test.max(), curves.train.max()) >= least:
        verb = "Whether it learns anything is not known"
    return f"{verb}, up to {last}: {standing.words}{before}"


def _leads(data: xr.Dataset, history: pd.DataFrame, test: pd.Series[float]) -> list[Lead]:
    """Of every variable that is one number a step, or is by part: excluded loss of the training examples, the
    rest of all.

    Raises:
        NotApplicable: test accuracy makes no jump, or there are too few snapshots.
    """
    if test.max() - test.min() < _HALF:
        raise NotApplicable("test accuracy makes no jump that a measure could lead")
    jump = _half_way(test)
    leads = []
    curves = list(_scalars(data, history))
    if not curves:
        raise NotApplicable("the data hold no measure that is one number a step")
    if all(len(curve) < _TELLING for *_, curve in curves):
        what = f"{_counted(data.sizes['step'], 'snapshot')} cannot tell when a measure was half-way"
        raise NotApplicable(f"{what}: {_TELLING} are needed")
    for name, part, curve in curves:
        if len(curve) >= _TELLING and curve.max() > curve.min():
            after, by, at = _half_way(curve)
            leads.append(Lead(name, after, by, round(jump[2] - at), jump[0] - by, jump[1] - after, part))
    return sorted(leads, key=lambda lead: -lead.steps)


_PART_OF = {"loss": "test", "accuracy": "train", "sum_of_squares": "total"}


def _scalars(data: xr.Dataset, history: pd.DataFrame) -> Iterator[tuple[str, str, pd.Series[float]]]:
    for key, variable in data.data_vars.items():
        name, others = str(key), [str(dim) for dim in variable.dims if dim != "step"]
        part = _PART_OF.get(name, "train" if name.startswith("excluded") else "all")
        if name == "loss" and history["test_loss"].count() > 1:
            yield name, part, series(history["step"], history["test_loss"])
        elif not others and variable.dtype.kind in "fiu":
            yield name, "", _of(data, name)
        elif others in (["part"], ["parameter"]):
            yield name, part, _of(data, name, **{others[0]: part})


def _half_way(curve: pd.Series[float]) -> tuple[int, int, float]:
    """Between which steps a curve is half-way from one extreme to the other, and where in between."""
    ends = sorted((int(curve.to_numpy().argmin()), int(curve.to_numpy().argmax())))
    way = curve.iloc[ends[0] : ends[1] + 1]
    level = (curve.min() + curve.max()) / 2
    after, by = first_interval(way >= level if way.iloc[0] < level else way <= level)
    share = (level - way[after]) / (way[by] - way[after])
    return after, by, after + share * (by - after)
