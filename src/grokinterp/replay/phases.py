"""What kind of run it was, and where one phase of its training ended and the next began: found from progress measures, not typed.

The kind is decided by accuracies alone:

| kind | test accuracy | training accuracy | source |
|---|---|---|---|
| groks | reaches 0.99; 0.5 after twice the steps that training took | reaches 0.99 | Power et al. 2022; the factor is ours |
| generalises at once | reaches 0.99; 0.5 within twice those steps | any | Nanda et al. 2023, section 5.3; the factor is ours |
| forgets again | reaches 0.99, ends below 0.9 (median of the last five evaluations) | any | ours |
| memorises only | never reaches 0.5 | reaches 0.99 | ours |
| learns nothing | never rises by 0.1 | never rises by 0.1 | ours |
| learns in part | anything else | anything else | ours |
| not known | was evaluated less than twice | | |

Where labels are noisy, training accuracy is of the labels as they are given, and test accuracy of the right answers.

A boundary is the interval between two snapshots, or two evaluations, within which its rule came true. The first rule that applies counts;
the second needs accuracies alone, and says in the note where it would have put the boundary.

| boundary | rule | thresholds tried | source |
|---|---|---|---|
| memorised | excluded loss is at its lowest, before it rises | last within 1.25 to 2 times that | Nanda et al. 2023, section 5.2 |
| | training accuracy reaches 0.99 | 0.95 to 0.999 | ours |
| circuit formed | restricted loss <= 0.01, excluded loss >= 0.5 of chance | 0.002 to 0.05; 0.25 to 0.75 | their measures, our numbers |
| | test accuracy reaches 0.5 | 0.25 to 0.75 | ours |
| cleaned up | since then 0.9 of the fall of the weights is done, and test accuracy 0.99 | 0.8 to 0.95 | their measure, our numbers |
| | test accuracy reaches 0.99 | 0.95 to 0.999 | Power et al. 2022 |
| generalised | of a run that generalises at once: test accuracy reaches 0.99 | 0.95 to 0.999 | Power et al. 2022 |
| forgotten | test accuracy falls below 0.9 for good | 0.5 to 0.95 | ours |

The fall of the weights is that of their summed squares. It is done when what is left of it goes at most half as fast; while it has not come
to that, or excluded loss has not begun to rise, the boundary is still to come, and no accuracy decides.
Excluded loss is that of the training examples, restricted loss that of all, both with the final keys (`logit_dirs`); chance is ln of the
number of answers. So the circuit is formed when the key frequencies alone do the task and, without them, what was memorised no longer
carries the training examples. Nanda et al. set their boundaries (1,400, 9,400 and 14,000 epochs) by hand.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from ..errors import NotApplicable
from .dataset import FINAL
from .learned import LEARNED, Interval, first_interval, judged_by, series

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

Kind = Literal["groks", "generalises at once", "forgets again", "memorises only", "learns nothing", "learns in part", "not known"]
Name = Literal["memorisation", "circuit formation", "cleanup", "generalisation", "after", "forgetting"]
_HALF = 0.5
_KEPT = 0.9
_AT_ONCE = 2.0
_RISE = 0.1
_SLOWER = 0.5


@dataclass(frozen=True)
class Boundary:
    """The interval between two snapshots, or evaluations, within which something happened.

    Attributes:
        name: "memorised", "circuit formed", "cleaned up"; "generalised" where a run generalises at once; "forgotten".
        after, by: it had not happened at step `after`, and had at step `by`; equal where it had at the first step that is known.
        note: how far the interval moves with other thresholds, with a snapshot left out, and by other rules.
        rule: what decided, in words.
    """

    name: str
    after: int
    by: int
    note: str
    rule: str = ""


@dataclass(frozen=True)
class Phase:
    """A stretch of training: from step `start` to step `end`, which is the `by` of its boundary."""

    name: Name
    start: int
    end: int


@dataclass(frozen=True)
class Lead:
    """How long before the jump of test accuracy a measure made its own.

    Both are taken where half of the way between the lowest and the highest value is done, on the way from the one that comes first to the
    other.

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


@dataclass(frozen=True)
class Phases:
    """What kind of run it was, and its phases.

    Attributes:
        kind: see the table at the head of this module.
        sentence: kind and boundaries in one sentence.
        spans: the phases in order, without gaps; none where nothing is known or learned.
        boundaries: those that were found, in order.
        leads: of every progress measure that is one number a step, the earliest first.
        skipped: why a boundary, or the leads, could not be found.
    """

    kind: Kind
    sentence: str
    spans: list[Phase] = field(default_factory=list)
    boundaries: list[Boundary] = field(default_factory=list)
    leads: list[Lead] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)

    def at(self, step: int) -> str:
        """The name of the phase at a step; "" where there is none. A phase begins with its first step; the last one has both its ends."""
        for phase in reversed(self.spans):
            if phase.start <= step and (step <= phase.end if phase is self.spans[-1] else step < phase.end):
                return phase.name
        return ""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON; the spans as {name: [from step, to step]}."""
        return {**asdict(self), "spans": {phase.name: [phase.start, phase.end] for phase in self.spans}}


def phases(data: xr.Dataset, history: pd.DataFrame) -> Phases:
    """The kind of a run, its phases, and which measures lead the jump of test accuracy.

    Args:
        data: measures over `step`, as `replay` gives them by default; what is missing there is done without, and `skipped` says why.
        history: evaluations, as `run.history` gives them. Where they hold fewer than two accuracies, those of `data` are taken.
    """
    curves = _curves(data, history)
    train, test = curves.train, curves.test
    kind = _kind(train, test)
    if kind == "not known":
        return Phases(kind, "What kind of run it is, is not known: its accuracies were evaluated less than twice.")
    found, skipped = _boundaries(curves, kind)
    try:
        leads = _leads(data, history, test)
    except NotApplicable as reason:
        leads, skipped["leads"] = [], str(reason)
    spans = _spans(kind, found, curves)
    return Phases(kind, _sentence(kind, found, curves), spans, list(found.values()), leads, skipped)


@dataclass(frozen=True)
class _Curves:
    """What the rules look at, each over its own steps; empty where it was not measured."""

    train: pd.Series[float]
    test: pd.Series[float]
    excluded: pd.Series[float]
    restricted: pd.Series[float]
    squares: pd.Series[float]
    chance: float

    def without(self, step: int) -> _Curves:
        """The same with one snapshot or evaluation left out."""
        names = ("train", "test", "excluded", "restricted", "squares")
        return replace(self, **{name: getattr(self, name).drop(step, errors="ignore") for name in names})

    def steps(self, after: int, by: int) -> list[int]:
        """The steps of an interval at which anything is known."""
        known = {step for curve in (self.train, self.test, self.restricted, self.squares) for step in curve.loc[after:by].index}
        return sorted(int(step) for step in known)

    @property
    def has_circuit(self) -> bool:
        """Whether the final keys alone ever bring the loss under half of chance."""
        return bool(len(self.restricted)) and bool(self.restricted.min() <= _HALF * self.chance)


def _curves(data: xr.Dataset, history: pd.DataFrame) -> _Curves:
    # On noisy labels: whether the training labels were learned as they are, and whether the rule was.
    tested = judged_by(history, "test")
    known = history.dropna(subset=["train_accuracy", tested])
    if len(known) > 1:
        train, test = series(known["step"], known["train_accuracy"]), series(known["step"], known[tested])
    else:
        name = "clean_accuracy" if "clean_accuracy" in data else "accuracy"
        train, test = _of(data, "accuracy", part="train"), _of(data, name, part="test")
    return _Curves(
        train,
        test,
        _of(data, "excluded_loss.logit_dirs" + FINAL, part="train"),
        _of(data, "restricted_loss.logit_dirs" + FINAL, part="all"),
        _of(data, "sum_of_squares", parameter="total"),
        math.log(data.attrs["answers"]) if "answers" in data.attrs else math.nan,
    )


def _of(data: xr.Dataset, name: str, **at: str) -> pd.Series[float]:
    """One number a step of a variable; empty where there is none."""
    if name not in data or any(label not in data[dim].values for dim, label in at.items()):
        return series([], [])
    return series(data["step"].values, data[name].sel(at).values)


def _by(holds: pd.Series[bool]) -> float:
    """The step by which a condition was true; infinity where it never was."""
    try:
        return float(first_interval(holds)[1])
    except NotApplicable:
        return math.inf


def _kind(train: pd.Series[float], test: pd.Series[float]) -> Kind:
    if len(train) < 2 or len(test) < 2:
        return "not known"
    if test.max() < LEARNED:
        if all(accuracy.max() - accuracy.iloc[0] < _RISE for accuracy in (train, test)):
            return "learns nothing"
        return "memorises only" if train.max() >= LEARNED and test.max() < _HALF else "learns in part"
    if test.loc[first_interval(test >= LEARNED)[1] :].tail(5).median() < _KEPT:
        return "forgets again"
    return "generalises at once" if _at_once(train, test) else "groks"


def _at_once(train: pd.Series[float], test: pd.Series[float]) -> bool:
    """Whether test accuracy reached a half, and not long after training accuracy was done."""
    half = _by(test >= _HALF)
    return half < math.inf and half <= _AT_ONCE * _by(train >= LEARNED)


class _NotYet(NotApplicable):
    """What the rule looks for has begun and is not over: no later rule may say that it is."""


@dataclass(frozen=True)
class _Rule:
    """How a boundary is found: in words, as a function of the curves and its thresholds, and what else they could be."""

    words: str
    find: Callable[..., Interval]
    tried: Sequence[Mapping[str, float]]


def _reaches(part: Literal["train", "test"], level: float, tried: Sequence[float]) -> _Rule:
    word = {"train": "training", "test": "test"}[part]
    return _Rule(
        f"{word} accuracy reaches {level:g}",
        lambda curves, level=level: first_interval(getattr(curves, part) >= level),
        [{"level": other} for other in tried],
    )


def _needs_circuit(curves: _Curves) -> None:
    if not len(curves.restricted) or not len(curves.excluded) or math.isnan(curves.chance):
        raise NotApplicable("restricted and excluded loss with the final keys were not measured")
    if not curves.has_circuit:
        raise NotApplicable("the final keys alone never bring the loss under half of chance")


def _lowest_excluded(curves: _Curves, factor: float = 1.0) -> Interval:
    """The neighbours of the snapshot with the lowest excluded loss; or where it last is within `factor` of that."""
    excluded = curves.excluded.loc[: _by(curves.test >= _HALF)]
    _needs_circuit(curves)
    if not curves.train.max() >= LEARNED:
        raise NotApplicable(f"training accuracy never reaches {LEARNED}")
    steps, at = excluded.index, int(excluded.to_numpy().argmin())
    if at + 1 == len(steps):
        raise _NotYet("excluded loss has not begun to rise")
    if factor == 1:
        return int(steps[max(0, at - 1)]), int(steps[at + 1])
    return first_interval(excluded.iloc[at:] > factor * excluded.iloc[at])


def _sufficient_and_necessary(curves: _Curves, left: float = 0.01, carried: float = 0.5) -> Interval:
    """Where the keys alone leave `left` of the loss of chance, and training examples without them have `carried` of it."""
    _needs_circuit(curves)
    both = curves.restricted.index.intersection(curves.excluded.index)
    return first_interval((curves.restricted[both] <= left * curves.chance) & (curves.excluded[both] >= carried * curves.chance))


def _norm_has_fallen(curves: _Curves, since: int, share: float = 0.9) -> Interval:
    """Where `share` of the fall of the weights is done, and test accuracy has reached 0.99: the later of both."""
    squares = curves.squares.loc[since:]
    if len(squares) < 3:
        raise NotApplicable("the weights were measured less than three times since the circuit formed")
    if squares.iloc[0] - squares.min() < _RISE * squares.iloc[0]:
        raise NotApplicable("the weights have not shrunk by a tenth since the circuit formed")
    fall = squares.iloc[0] - squares.min()
    done = first_interval(squares <= squares.iloc[0] - share * fall)
    head, tail = done[1] - since, int(squares.index[-1]) - done[1]
    if (1 - share) * head > _SLOWER * share * tail:
        raise _NotYet("the weights are still shrinking fast at the last snapshot")
    return max(done, first_interval(curves.test >= LEARNED), key=lambda interval: interval[1])


def _lost(curves: _Curves, level: float = _KEPT) -> Interval:
    return first_interval(curves.test.loc[curves.test[curves.test >= LEARNED].index[-1] :] < level)


_MEMORISED = (
    _Rule("excluded loss is at its lowest", _lowest_excluded, [{"factor": f} for f in (1.25, 1.5, 2.0)]),
    _reaches("train", LEARNED, (0.95, 0.999)),
)
_FORMED = (
    _Rule(
        "restricted loss is at most 0.01 and excluded loss at least 0.5 of chance",
        _sufficient_and_necessary,
        [{"left": left, "carried": carried} for left in (0.002, 0.005, 0.01, 0.02, 0.05) for carried in (0.25, 0.5, 0.75)],
    ),
    _reaches("test", _HALF, (0.25, 0.75)),
)
_GENERALISED = _reaches("test", LEARNED, (0.95, 0.999))
_FORGOTTEN = _Rule(f"test accuracy falls below {_KEPT} for good", _lost, [{"level": level} for level in (0.5, 0.8, 0.95)])


def _boundaries(curves: _Curves, kind: Kind) -> tuple[dict[str, Boundary], dict[str, str]]:
    """The boundaries that were found by name, in order, and why others were not."""
    found: dict[str, Boundary] = {}
    skipped: dict[str, str] = {}

    def seek(name: str, *rules: _Rule) -> None:
        try:
            boundary = _boundary(name, rules, curves)
            if any(boundary.by < earlier.by for earlier in found.values()):
                raise NotApplicable("it would come before the boundary that precedes it")
            found[name] = boundary
        except NotApplicable as reason:
            skipped[name] = str(reason)

    if kind in ("generalises at once", "learns in part") and _at_once(curves.train, curves.test):
        seek("generalised", _GENERALISED)
    elif kind != "learns nothing":
        seek("memorised", *_MEMORISED)
        seek("circuit formed", *_FORMED)
        if formed := found.get("circuit formed"):
            shrunk = _Rule(
                "0.9 of the fall of the summed squares of the weights is done, and test accuracy has reached 0.99",
                lambda curves, share=0.9: _norm_has_fallen(curves, formed.by, share),
                [{"share": share} for share in (0.8, 0.85, 0.95)],
            )
            seek("cleaned up", shrunk, _GENERALISED)
        if kind == "forgets again":
            seek("forgotten", _FORGOTTEN)
    return found, skipped


def _boundary(name: str, rules: Sequence[_Rule], curves: _Curves) -> Boundary:
    """By the first rule that applies.

    Raises:
        NotApplicable: none does.
    """
    places: list[tuple[_Rule, Interval]] = []
    reasons: list[str] = []
    for rule in rules:
        try:
            places.append((rule, rule.find(curves)))
        except NotApplicable as reason:
            reasons.append(f"{rule.words}: {reason}")
            if isinstance(reason, _NotYet):
                break
    if not places:
        raise NotApplicable("; ".join(reasons))
    (rule, interval), *others = places
    notes = [
        _spread([partial(rule.find, curves, **thresholds) for thresholds in ({}, *rule.tried)], "over all thresholds tried"),
        _spread([partial(rule.find, curves.without(step)) for step in curves.steps(*interval)], "with any one step around it left out"),
        *(f"{other.words}: {_written(place)}" for other, place in others),
        *reasons,
    ]
    return Boundary(name, *interval, "; ".join(notes), rule.words)


def _spread(variants: Sequence[Callable[[], Interval]], words: str) -> str:
    """The smallest interval that holds those of all variants."""
    places, missing = [], 0
    for variant in variants:
        try:
            places.append(variant())
        except NotApplicable:
            missing += 1
    if not places:
        return f"not found {words}"
    hull = min(after for after, _ in places), max(by for _, by in places)
    return f"{_written(hull)} {words}" + (f" (not found with {missing} of {len(variants)})" if missing else "")


def _written(interval: Interval) -> str:
    return f"{interval[0]:,}–{interval[1]:,}"


def _spans(kind: Kind, found: Mapping[str, Boundary], curves: _Curves) -> list[Phase]:
    """The phases between the boundaries. One of which the end was not found goes on to the end of the run, or to where all was lost."""
    first, last = (int(end([*curves.test.index, *curves.squares.index])) for end in (min, max))
    names: list[tuple[Name, str]]
    if kind == "learns nothing":
        return []
    if kind in ("generalises at once", "learns in part") and _at_once(curves.train, curves.test):
        names = [("generalisation", "generalised"), ("after", "")]
    elif not curves.has_circuit and "circuit formed" not in found:
        names = [("memorisation", "memorised"), ("after", "")]
    else:
        names = [("memorisation", "memorised"), ("circuit formation", "circuit formed"), ("cleanup", "cleaned up"), ("after", "")]
    lost = found["forgotten"].by if "forgotten" in found else last
    spans: list[Phase] = []
    for name, end in names:
        to = found[end].by if end in found else lost
        if to > first:
            spans.append(Phase(name, first, to))
            first = to
    return spans if lost == last else [*spans, Phase("forgetting", lost, last)]


def _sentence(kind: Kind, found: Mapping[str, Boundary], curves: _Curves) -> str:
    def when(part: str, level: float) -> str:
        step = _by(getattr(curves, part) >= level)
        return f"{'training' if part == 'train' else part} accuracy reaches {level:g} by step {step:,.0f}" if step < math.inf else ""

    last = f"step {int(curves.test.index[-1]):,}"
    best = f"training accuracy is at most {curves.train.max():.3f}, test accuracy {curves.test.max():.3f}"
    said = {
        "groks": f"It groks: {when('train', LEARNED)}, {when('test', LEARNED)}",
        "generalises at once": "It generalises at once: " + ", ".join(filter(None, [when("test", _HALF), when("train", LEARNED)])),
        "forgets again": f"It generalises and forgets again: {when('test', LEARNED)}, and is {curves.test.iloc[-1]:.3f} at {last}",
        "memorises only": f"It only memorises, up to {last}: {best}",
        "learns nothing": f"It learns nothing, up to {last}: {best}",
        "learns in part": f"It learns in part, up to {last}: {best}",
    }[kind]
    return "; ".join([said, *(f"{b.name} between steps {b.after:,} and {b.by:,}" for b in found.values())]) + "."


def _leads(data: xr.Dataset, history: pd.DataFrame, test: pd.Series[float]) -> list[Lead]:
    """Of every variable that is one number a step, or is by part: excluded loss of the training examples, the rest of all.

    Raises:
        NotApplicable: test accuracy makes no jump.
    """
    if test.max() - test.min() < _HALF:
        raise NotApplicable("test accuracy makes no jump that a measure could lead")
    jump = _half_way(test)
    leads = []
    for name, part, curve in _scalars(data, history):
        if len(curve) > 1 and curve.max() > curve.min():
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
    """Between which steps a curve passes half of its range, on the way from one extreme to the other, and where on a straight line."""
    ends = sorted((int(curve.to_numpy().argmin()), int(curve.to_numpy().argmax())))
    way = curve.iloc[ends[0] : ends[1] + 1]
    level = (curve.min() + curve.max()) / 2
    after, by = first_interval(way >= level if way.iloc[0] < level else way <= level)
    share = (level - way[after]) / (way[by] - way[after])
    return after, by, after + share * (by - after)
