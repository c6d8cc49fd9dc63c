"""Hypotheses about an algorithm, tested by interchange: which part of a network carries which sub-task.

A hypothesis names sub-tasks, such as the carry into the tens. Each has a value on every example and says what
the answer must become when that value alone is taken from another example. What a node gives at a position on
the donor is put into the receiver's pass; the node carries the sub-task where the network then answers as the
sub-task says (interchange interventions: Geiger et al. 2021, arXiv 2106.02997; of digits: Quirke & Barez
2024, arXiv 2402.02619).

    tested      that what a node gives is enough to change the answer as one value would, on the pairs drawn,
                of which each would be answered otherwise if nothing were changed
    not tested  that the network uses nothing else beside it; that a node has no more than the value (one that
                holds the whole answer passes wherever the sub-task alone decides that); that all else may be
                resampled at once, as causal scrubbing asks; examples that the task's sample does not hold
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Float64, Int
from torch import Tensor

from ..asked import COUNT, DIGITS, HYPOTHESIS, OPERATION, SEED, asks, got
from ..errors import GrokinterpError, UsageError, nearest
from ..tasks import Operation
from ..tasks.carries import ABOVE, KIND_OF_SUM, NINE, classes
from ..tasks.digits import Digits, name_of
from ..view import View
from .excerpts import excerpt
from .factors import READS, by_each, place, standardised
from .nodes import everywhere, parts_of
from .standing import Z_OF_95, percent, wilson

if TYPE_CHECKING:
    import pandas as pd

CARRIES = 0.9
"""The share of cases as predicted from which a node, or a set of nodes, carries a sub-task."""
_CANDIDATES = 30
"""Pairs that are drawn for each case that is needed."""
_SHUFFLES = 20
_LARGEST, _RANDOM_SETS = 6, 10
"""The most sites that a set may have, and random sets beside it."""
_POOL, _GROUPS, _STARTS = 6, 12, 2
"""Sites that may be added to a set: those that change most alone; groups of sites that a search may begin
with, and the best of them, with which it does."""
_WORTH = 0.02
"""The share of cases that each site of a set must add."""
_READ_ON = 512
"""Examples on which it is found out what a site reads."""

Rows = Int[Tensor, "m"]
Predict = Callable[[Rows, Rows], Int[Tensor, "m answer"]]


@dataclass(frozen=True, eq=False)
class Subtask:
    """One value that an algorithm computes on its way.

    Attributes:
        name: what it is called in tables and sentences.
        values: of every example of the task's sample.
        predict: the class of each answer [m, answer] when the receivers (row numbers [m]) have the value of
            the donors [m]; -1 where it says nothing.
    """

    name: str
    values: Int[Tensor, "n"]
    predict: Predict


@dataclass(frozen=True, eq=False)
class Hypothesis:
    """An algorithm, as the sub-tasks that it is made of."""

    name: str
    subtasks: tuple[Subtask, ...]


@asks("digits_hypothesis", task=DIGITS)
def digits_hypothesis(task: Digits) -> Hypothesis:
    """Addition as pupils do it: at every place that is asked for the digit sum and what is carried into it;
    from the hundreds on also whether the sum one place lower is below nine, nine or above. Where that of the
    donor is nine it carries on what came in, and something else came in at the receiver: a node that has the
    donor's carry, and not the kind, is then wrong."""
    sums = task.pairs.sum(2)
    kinds, n_answers, subtasks = KIND_OF_SUM[sums], len(task.places), []
    carries = (classes(kinds) > 0).long().T
    sums = torch.cat([sums, torch.zeros_like(sums[:, :1])], dim=1)

    def digit(answer: int, total: Callable[[Rows, Rows], Rows], receivers: Rows, donors: Rows) -> Tensor:
        predicted = torch.full((len(receivers), n_answers), -1)
        digit = total(receivers, donors)
        predicted[:, answer] = torch.where(digit < 0, -1, digit % 10)
        return predicted

    for answer, k in enumerate(task.places):
        own, into, at = sums[:, k], carries[k], name_of(k)

        def with_sum(r: Rows, d: Rows, own: Tensor = own, into: Tensor = into) -> Rows:
            return own[d] + into[r]

        def with_carry(r: Rows, d: Rows, own: Tensor = own, into: Tensor = into) -> Rows:
            return own[r] + into[d]

        def with_kind(r: Rows, d: Rows, own: Tensor = own, k: int = k) -> Rows:
            kind, came_in = kinds[d, k - 1], carries[k - 1]
            total = own[r] + torch.where(kind == NINE, came_in[r], (kind == ABOVE).long())
            return total.masked_fill((kind == NINE) & (came_in[d] == came_in[r]), -1)

        if k < task.n:
            subtasks.append(Subtask(f"digit sum of the {at}", own, partial(digit, answer, with_sum)))
        if k > 0:
            subtasks.append(Subtask(f"carry into the {at}", into, partial(digit, answer, with_carry)))
        if k > 1:
            below = f"kind of the sum below the {at}"
            subtasks.append(Subtask(below, kinds[:, k - 1], partial(digit, answer, with_kind)))
    return Hypothesis(f"addition with carries of {task.n} digits", tuple(subtasks))


@asks("operation_hypothesis", task=OPERATION)
def operation_hypothesis(task: Operation) -> Hypothesis:
    """A binary operation by its operands: a, b, and what the two make (`a+b`: the answer)."""
    a, b = task.pairs.unbind(1)
    return Hypothesis(
        f"{task.symbol} by its operands",
        (
            Subtask("a", a, lambda r, d: task.table[a[d], b[r]][:, None]),
            Subtask("b", b, lambda r, d: task.table[a[r], b[d]][:, None]),
            Subtask("a+b", task.targets, lambda r, d: task.targets[d][:, None]),
        ),
    )


@dataclass(frozen=True)
class Trial:
    """What came of putting what donors give at some sites into receivers' passes.

    Attributes:
        subtask: its name.
        sites: which were changed, together.
        cases: how many pairs.
        share: of cases in which every answer is as predicted.
        low, high: its 95 % interval (Wilson).
        stays: the share of answers that stay with donors of the receiver's own value.
        shuffled: the share as predicted when each case is held against another case's prediction.
    """

    subtask: str
    sites: tuple[str, ...]
    cases: int
    share: float
    low: float
    high: float
    stays: float
    shuffled: float

    @property
    def passes(self) -> bool:
        """Whether these sites carry the sub-task."""
        return self.share >= CARRIES and self.low > max(self.shuffled, 0.5)


@dataclass(frozen=True)
class Verdict:
    """Which part of the network carries a sub-task.

    Attributes:
        subtask: its name.
        carriers: the sites that each carry it alone, the best first.
        best: where there are none, the best set that was found, on pairs that did not choose it; None also
            where no pairs are left for that.
        random_sets: the mean share of other sets of the same size, drawn at random, on the same pairs; None
            where the best set does not reach 90 %, or there are no others.
    """

    subtask: str
    carriers: tuple[str, ...]
    best: Trial | None = None
    random_sets: float | None = None

    @property
    def together(self) -> Trial | None:
        """The set of sites that carries it, where no site does alone; else None."""
        if self.best is None or not self.best.passes or self.best.low <= (self.random_sets or 0):
            return None
        return self.best

    @property
    def sentence(self) -> str:
        """In words."""
        if self.carriers:
            return f"{self.subtask}: {', or '.join(self.carriers)}"
        if self.best is None:
            return f"{self.subtask}: no node carries it"
        low, high = (f"{100 * limit:.0f}" for limit in (self.best.low, self.best.high))
        share = percent(self.best.share)
        found = f"{' with '.join(self.best.sites)} ({share}, 95 % interval {low} to {high} %"
        if self.random_sets is not None:
            found += f"; random sets as large {percent(self.random_sets)}"
        if self.together is not None:
            return f"{self.subtask}: {found})"
        return f"{self.subtask}: no node carries it, and no set that was tried; the best is {found})"


@dataclass(frozen=True)
class Interchange:
    """What a hypothesis comes to on a network: every trial of one site, and a verdict for each sub-task."""

    hypothesis: str
    trials: tuple[Trial, ...]
    verdicts: tuple[Verdict, ...]

    @property
    def table(self) -> pd.DataFrame:
        """A row for each sub-task and site: cases, share as predicted with its interval, and the controls."""
        import pandas as pd

        rows = [{**asdict(t), "sites": " + ".join(t.sites), "passes": t.passes} for t in self.trials]
        return pd.DataFrame(rows).rename(columns={"sites": "site"})

    @property
    def sentence(self) -> str:
        """The verdicts."""
        return f"{self.hypothesis}. {'; '.join(verdict.sentence for verdict in self.verdicts)}."

    def __str__(self) -> str:
        return self.sentence

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return {**asdict(self), "sentence": self.sentence}


@dataclass(frozen=True, eq=False)
class _Site:
    """A head, or an MLP, at a position, which is that `place` of those that its hook has; `head` is None of
    an MLP."""

    node: str
    position: int
    name: str
    hook: str
    place: int
    head: int | None
    reaches: Bool[Tensor, "answer"]

    @property
    def at(self) -> tuple[slice | int, ...]:
        """Where it is in what its hook has."""
        return (slice(None), self.place, *(() if self.head is None else (self.head,)))


@asks("gi.interchange", hypothesis=HYPOTHESIS, cases=COUNT, seed=SEED)
def interchange(
    view: View,
    hypothesis: Hypothesis,
    sites: Sequence[tuple[str, int]] | None = None,
    cases: int = 200,
    seed: int = 0,
) -> Interchange:
    """The sites of a network that carry each sub-task of a hypothesis, as far as interchange shows it.

    For every site so many pairs (receiver, donor), the same for all sites: seeded, balanced over the donors'
    values, each with a prediction that differs from what the network answers to the receiver. Beside every
    share stand two controls: how often the answer stays with donors of the same value, and how often it is as
    predicted for another case. A site carries a sub-task where at least 90 % are as predicted and the 95 %
    interval lies above one half and above the shuffled predictions.

    Where none does, a set is looked for: from the best site, and from groups of sites that read the same (a
    digit, a place, the value of the sub-task: 5 % of their variance or more), sites are added and taken away
    as long as each that is in is worth 2 % of the cases, up to six. What is found is held against pairs that
    did not choose it, and against random sets as large on the same pairs; it carries the sub-task by the same
    rule, where its interval lies above the mean of those. The search does not try every set: that none was
    found does not say that there is none.

    What it does not test stands at the head of this module.

    Args:
        view: of a network whose heads and MLPs work at every position.
        hypothesis: such as `digits_hypothesis(task)` or `operation_hypothesis(task)`.
        sites: nodes and positions, such as ("L0H1", 5) or ("L0 MLP", 5); by default all from which an
            answer is reached that the sub-task speaks of.
        cases: pairs for each sub-task.
        seed: of the pairs.

    Raises:
        UsageError: the network lacks a site; a sub-task has one value only, or its prediction raises, has
            the wrong shape or never differs from what is answered; fewer than 10 cases are asked for.
        NotApplicable: the network has no heads and no MLP that work at each position.
    """
    if cases < 10:
        raise UsageError(f"cases: 90 % are not told from one half by fewer than 10 cases, got {cases}")
    if not hypothesis.subtasks:
        raise UsageError(f"{hypothesis.name}: it has no sub-task; give one at least")
    places = _sites(view, sites)
    hooks = list(dict.fromkeys(site.hook for site in places))
    names = [name for name in view.task.read if view.task.factors[name].n_classes > 1]
    own = torch.stack([view.at(answer).logits.argmax(1) for answer in view.answers], dim=1)
    trials: list[Trial] = []
    verdicts = []
    for subtask in hypothesis.subtasks:
        generator = torch.Generator().manual_seed(seed)
        pairs, others = _Pairs.drawn(view, own, subtask, cases, generator)
        test = _Test.of(view, pairs, hooks, generator)
        reaching = [site for site in places if sites or (site.reaches & pairs.speaks).any()]
        alone = [test.trial((site,)) for site in reaching]
        trials += alone
        carriers = [trial for trial in sorted(alone, key=lambda trial: -trial.share) if trial.passes]
        if carriers or not len(others.receivers):
            verdicts.append(Verdict(subtask.name, tuple(trial.sites[0] for trial in carriers)))
            continue
        read = _read(view, reaching, [*(view.task.factors[name].values for name in names), subtask.values])
        groups = _groups(names, reaching, read)
        found = _searched(test, reaching, [trial.share for trial in alone], groups)
        verdicts.append(_checked(_Test.of(view, others, hooks, generator), reaching, found, generator))
    return Interchange(hypothesis.name, tuple(trials), tuple(verdicts))


def _sites(view: View, asked: Sequence[tuple[str, int]] | None) -> list[_Site]:
    """
    Raises:
        UsageError: the network lacks one that is asked for.
    """
    words, there = view.reads.words, {}
    for part in parts_of(view):
        for head, node in enumerate(part.nodes):
            for position in part.places:
                name = f"{node} at {position}: {words[position]}"
                which = head if part.hook.endswith("hook_z") else None
                reaches = part.reaches[position]
                there[node, position] = _Site(
                    node, position, name, part.hook, position - part.places.start, which, reaches
                )
    if asked is None:
        return list(there.values())
    if not isinstance(asked, Sequence) or isinstance(asked, str):
        raise UsageError(
            f"sites: needs a list of nodes and positions, such as [('L0H1', 5)], got {got(asked)}"
        )
    if not asked:
        raise UsageError("sites: none are given")
    if odd := [site for site in asked if not isinstance(site, tuple) or len(site) != 2]:
        raise UsageError(f"sites: {got(odd[0])} is no node and position, such as ('L0H1', 5)")
    for node, position in asked:
        if (node, position) not in there:
            nodes = list(dict.fromkeys(site.node for site in there.values()))
            if node not in nodes:
                raise UsageError(f"sites: the network has no node {got(node)}{nearest(str(node), nodes)}")
            has = [site.position for site in there.values() if site.node == node]
            there_are = f"examples have {has[0]} to {has[-1]}{'' if len(has) == len(words) else ' there'}"
            raise UsageError(f"sites: {node} has no position {got(position)}: {there_are}")
    return [there[node, position] for node, position in asked]


@dataclass(frozen=True, eq=False)
class _Pairs:
    """Pairs whose prediction differs from what the network answers to the receiver.

    Attributes:
        alike: of each pair another donor, of the receiver's own value.
        own: what the network answers to the receivers.
    """

    subtask: Subtask
    receivers: Rows
    donors: Rows
    alike: Rows
    predicted: Int[Tensor, "m answer"]
    own: Int[Tensor, "m answer"]

    def some(self, which: Int[Tensor, "k"]) -> _Pairs:
        """Some of them."""
        parts = (self.receivers, self.donors, self.alike, self.predicted, self.own)
        return _Pairs(self.subtask, *(part[which] for part in parts))

    @property
    def speaks(self) -> Bool[Tensor, "answer"]:
        """Of which answers the predictions say anything."""
        return (self.predicted >= 0).any(0)

    @classmethod
    def drawn(
        cls,
        view: View,
        own: Int[Tensor, "n answer"],
        subtask: Subtask,
        cases: int,
        generator: torch.Generator,
    ) -> tuple[_Pairs, _Pairs]:
        """So many pairs for a sub-task, balanced over the donors' values as far as there are such; and up to
        as many others, to check what was chosen by the first."""
        values = _values(view, subtask)
        rows = view.task.asked.nonzero().flatten()
        order = values[rows].argsort(stable=True)
        counts = values[rows].unique(return_counts=True)[1]
        starts, total = counts.cumsum(0) - counts, _CANDIDATES * cases

        def of_value(which: Int[Tensor, "m"]) -> Rows:
            nth = (torch.rand(len(which), generator=generator) * counts[which]).long()
            return rows[order[starts[which] + nth]]

        receivers = rows[torch.randint(len(rows), (total,), generator=generator)]
        donors = of_value(torch.arange(total) % len(counts))
        predicted = _predicted(view, subtask, receivers, donors)
        told = ((predicted >= 0) & (predicted != own[receivers])).any(1)
        told &= values[receivers] != values[donors]
        chosen = told.nonzero().flatten()
        if not len(chosen):
            raise UsageError(
                f"{subtask.name}: in none of {total:,} pairs does it predict another answer than the network "
                "gives: nothing can be told by it"
            )
        # The first of each value, then the second of each, and so on.
        _, which, of_each = values[donors[chosen]].unique(return_inverse=True, return_counts=True)
        by_value = which.argsort(stable=True)
        rank = torch.empty_like(which)
        rank[by_value] = torch.arange(len(which)) - (of_each.cumsum(0) - of_each)[which[by_value]]
        chosen = chosen[rank.argsort(stable=True)]
        receivers, donors, predicted = receivers[chosen], donors[chosen], predicted[chosen]
        alike = of_value(torch.searchsorted(values[rows].unique(), values[receivers]))
        every = cls(subtask, receivers, donors, alike, predicted, own[receivers])
        code = receivers * view.task.n_inputs + donors
        others = cases + (~torch.isin(code[cases:], code[:cases])).nonzero().flatten()
        return every.some(torch.arange(min(cases, len(code)))), every.some(others[:cases])


@dataclass(frozen=True, eq=False)
class _Test:
    """A sub-task, tested by some pairs.

    Attributes:
        receivers: the network on the receivers.
        given: what every hook gives on the donors, and then on those that are alike.
        shuffles: orders in which each pair has the prediction of another.
    """

    pairs: _Pairs
    receivers: View
    given: dict[str, Float64[Tensor, "both pos *entries"]]
    shuffles: Int[Tensor, "shuffle m"]

    @classmethod
    def of(cls, view: View, pairs: _Pairs, hooks: Sequence[str], generator: torch.Generator) -> _Test:
        """The test by these pairs, of sites at these hooks."""
        m = len(pairs.receivers)
        given = everywhere(excerpt(view, torch.cat([pairs.donors, pairs.alike]), m), hooks)
        shuffles = torch.stack([torch.randperm(m, generator=generator) for _ in range(_SHUFFLES)])
        return cls(pairs, excerpt(view, pairs.receivers, m), given, shuffles)

    def share(self, sites: Sequence[_Site]) -> float:
        """How often the answers are as predicted when these sites are changed together."""
        return self._agreement(self._answers(sites, 0), self.pairs.predicted)

    def trial(self, sites: Sequence[_Site]) -> Trial:
        """What comes of these sites, changed together, beside the controls."""
        predicted, n = self.pairs.predicted, len(self.pairs.predicted)
        now, with_alike = self._answers(sites, 0), self._answers(sites, n)
        share = self._agreement(now, predicted)
        shuffled = [self._agreement(now, predicted[order]) for order in self.shuffles]
        stays = float(((with_alike == self.pairs.own) | (predicted < 0)).all(1).double().mean())
        names, (low, high) = tuple(site.name for site in sites), wilson(share, n, Z_OF_95)
        name = self.pairs.subtask.name
        return Trial(name, names, n, share, low, high, stays, sum(shuffled) / len(shuffled))

    def _answers(self, sites: Sequence[_Site], first: int) -> Int[Tensor, "m answer"]:
        """What the network answers with what it gives at these sites on the donors from the first on."""
        return self.receivers.logits_with([self._put(site, first) for site in sites]).argmax(2)

    def _agreement(self, now: Int[Tensor, "m answer"], predicted: Int[Tensor, "m answer"]) -> float:
        return float(((now == predicted) | (predicted < 0)).all(1).double().mean())

    def _put(self, site: _Site, first: int) -> tuple[str, Callable[..., Tensor]]:
        """An edit that puts what the donors give at a site; examples come in their order, some at a time."""
        done, given = first, self.given[site.hook][site.at]

        def edit(x: Tensor, hook: object) -> Tensor:
            nonlocal done
            x = x.clone()
            x[site.at] = given[done : done + len(x)].to(x.device)
            done += len(x)
            return x

        return site.hook, edit


def _values(view: View, subtask: Subtask) -> Int[Tensor, "n"]:
    """
    Raises:
        UsageError: there is not one integer for every example, or all are the same.
    """
    values, n = subtask.values, view.task.n_inputs
    has = [*values.shape] if _is_whole(values) else f"no tensor of integers ({_kind(values)})"
    if has != [n]:
        raise UsageError(f"{subtask.name}: its values are {has}, and need to be [{n}], one for each example")
    if len(values[view.task.asked].unique()) < 2:
        one = values[0].item()
        raise UsageError(
            f"{subtask.name}: its value is {one} on every example: nothing can be put in its place"
        )
    return values


def _predicted(view: View, subtask: Subtask, receivers: Rows, donors: Rows) -> Int[Tensor, "m answer"]:
    """
    Raises:
        UsageError: the prediction raises, or is not a class of each answer for each pair.
    """
    try:
        predicted = subtask.predict(receivers, donors)
    except GrokinterpError:
        raise
    except Exception as error:
        raise UsageError(f"{subtask.name}: predict() raised {type(error).__name__}: {error}") from error
    needed, n_classes = [len(receivers), len(view.answers)], view.logits.shape[1]
    gave = [*predicted.shape] if _is_whole(predicted) else f"no tensor of integers ({_kind(predicted)})"
    if gave != needed:
        raise UsageError(f"{subtask.name}: predict() gave {gave}, and needs {needed}: pairs by answers")
    if len(outside := predicted[(predicted < -1) | (predicted >= n_classes)]):
        raise UsageError(
            f"{subtask.name}: predict() gave {int(outside[0])}, and classes are 0 to {n_classes - 1}, or -1 "
            "where it says nothing"
        )
    return predicted


def _is_whole(values: object) -> bool:
    return isinstance(values, Tensor) and values.dtype in (torch.int64, torch.int32, torch.int16, torch.int8)


def _kind(values: object) -> str:
    return str(values.dtype) if isinstance(values, Tensor) else type(values).__name__


def _read(view: View, sites: Sequence[_Site], by: Sequence[Rows]) -> Float64[Tensor, "factor site"]:
    """The share of the variance of what each site gives that each way to divide examples into classes
    explains, on a part of the sample."""
    rows = view.rows("all", view.task.asked).nonzero().flatten()[:_READ_ON]
    given = everywhere(excerpt(view, rows, len(rows)), list({site.hook for site in sites}))
    cells = [values[rows].unique(return_inverse=True)[1] for values in by]
    each = [by_each(standardised(given[site.hook][site.at][:, None]), cells) for site in sites]
    return torch.cat(each, dim=1)[:, :, 0]


def _groups(
    names: Sequence[str], sites: Sequence[_Site], read: Float64[Tensor, "factor site"]
) -> list[tuple[int, ...]]:
    """Sites that read the same: a factor, one of several of the same place, or, in the last row, the value of
    the sub-task; all of them, those at each position, and there those of each layer's heads (a part behind
    them that holds what they give together would hide them). First those that read most of the last."""
    places = dict.fromkeys(map(place, names))
    kinds = [*read, *(read[[place(name) == each for name in names] + [False]].sum(0) for each in places)]
    at = [site.position for site in sites]
    within = [[True] * len(sites)]
    for keys in (at, [(site.hook, site.position) for site in sites]):
        within += [[key == each for each in keys] for key in dict.fromkeys(keys)]
    found = set()
    for kind in kinds:
        for here in torch.tensor(within):
            reading = ((kind > READS) & here).nonzero().flatten()
            largest = reading[kind[reading].argsort(descending=True)[:_LARGEST]]
            found.add(tuple(sorted(largest.tolist())))
    sets = sorted(group for group in found if len(group) > 1)
    return sorted(sets, key=lambda group: -float(read[-1, list(group)].mean()))[:_GROUPS]


def _searched(
    test: _Test, sites: Sequence[_Site], alone: Sequence[float], groups: Sequence[tuple[int, ...]]
) -> list[int]:
    """The best set that is found from the best site and from the best groups, where each site of it has to be
    worth something."""
    worths = {frozenset([i]): share - _WORTH for i, share in enumerate(alone)}

    def worth(chosen: frozenset[int]) -> float:
        if chosen not in worths:
            worths[chosen] = test.share([sites[i] for i in sorted(chosen)]) - _WORTH * len(chosen)
        return worths[chosen]

    ranked = sorted(range(len(alone)), key=lambda i: -alone[i])
    pool = {*ranked[:_POOL], *(i for group in groups[:_STARTS] for i in group)}
    starts = sorted([frozenset(group) for group in groups], key=lambda group: -worth(group))[:_STARTS]
    ends: list[frozenset[int]] = []
    for chosen in (frozenset(ranked[:1]), *starts):
        while True:
            beside = (chosen ^ frozenset([i]) for i in sorted(pool | chosen))
            best = max((some for some in beside if 0 < len(some) <= _LARGEST), key=worth, default=chosen)
            if worth(best) <= worth(chosen):
                break
            chosen = best
        ends.append(chosen)
    best = max(ends, key=worth)
    return sorted(best)


def _checked(
    test: _Test, sites: Sequence[_Site], found: Sequence[int], generator: torch.Generator
) -> Verdict:
    """What comes of a set on other pairs than those that chose it, beside random sets as large."""
    best, name = test.trial([sites[i] for i in found]), test.pairs.subtask.name
    drawn = (
        sorted(torch.randperm(len(sites), generator=generator)[: len(found)].tolist())
        for _ in range(_RANDOM_SETS)
    )
    others = [some for some in drawn if some != list(found)] if best.passes else []
    shares = [test.share([sites[i] for i in some]) for some in others]
    return Verdict(name, (), best, sum(shares) / len(shares) if shares else None)
