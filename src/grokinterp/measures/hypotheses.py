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

from ..errors import GrokinterpError, UsageError, nearest
from ..tasks import Operation
from ..tasks.carries import ABOVE, KIND_OF_SUM, NINE, classes
from ..tasks.digits import Digits, name_of
from ..view import View
from .nodes import everywhere, excerpt, parts_of
from .standing import Z_OF_95, percent, wilson

if TYPE_CHECKING:
    import pandas as pd

CARRIES = 0.9
"""The share of cases as predicted from which a node, or a set of nodes, carries a sub-task."""
_CANDIDATES = 30
"""Pairs that are drawn for each case that is needed."""
_SHUFFLES = 20
_POOL, _LARGEST, _RANDOM_SETS = 8, 4, 10
"""Sites that a set is looked for among, the most that it may have, and random sets beside it."""

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


def digits_hypothesis(task: Digits) -> Hypothesis:
    """Addition as pupils do it: at every place that is asked for the digit sum and what is carried into it;
    from the hundreds on also whether the sum one place lower is below nine, nine or above (where it is nine,
    it carries on what came in)."""
    sums = task.pairs.sum(2)
    kinds, n_answers, subtasks = KIND_OF_SUM[sums], len(task.places), []
    carries = (classes(kinds) > 0).long().T
    sums = torch.cat([sums, torch.zeros_like(sums[:, :1])], dim=1)

    def digit(answer: int, total: Callable[[Rows, Rows], Rows], receivers: Rows, donors: Rows) -> Tensor:
        predicted = torch.full((len(receivers), n_answers), -1)
        predicted[:, answer] = total(receivers, donors) % 10
        return predicted

    for answer, k in enumerate(task.places):
        own, into, at = sums[:, k], carries[k], name_of(k)

        def with_sum(r: Rows, d: Rows, own: Tensor = own, into: Tensor = into) -> Rows:
            return own[d] + into[r]

        def with_carry(r: Rows, d: Rows, own: Tensor = own, into: Tensor = into) -> Rows:
            return own[r] + into[d]

        def with_kind(r: Rows, d: Rows, own: Tensor = own, k: int = k) -> Rows:
            kind = kinds[d, k - 1]
            return own[r] + torch.where(kind == NINE, carries[k - 1][r], (kind == ABOVE).long())

        if k < task.n:
            subtasks.append(Subtask(f"digit sum of the {at}", own, partial(digit, answer, with_sum)))
        if k > 0:
            subtasks.append(Subtask(f"carry into the {at}", into, partial(digit, answer, with_carry)))
        if k > 1:
            below = f"kind of the sum below the {at}"
            subtasks.append(Subtask(below, kinds[:, k - 1], partial(digit, answer, with_kind)))
    return Hypothesis(f"addition with carries of {task.n} digits", tuple(subtasks))


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
        together: the smallest set that was found to carry it, where no site does alone; else None.
        random_sets: the mean share of random sets of the same size; None where there is no set.
    """

    subtask: str
    carriers: tuple[str, ...]
    together: Trial | None = None
    random_sets: float | None = None

    @property
    def sentence(self) -> str:
        """In words."""
        if self.carriers:
            return f"{self.subtask}: {', or '.join(self.carriers)}"
        if self.together is None:
            return f"{self.subtask}: no node carries it"
        assert self.random_sets is not None
        return (
            f"{self.subtask}: {' with '.join(self.together.sites)} ({percent(self.together.share)}; random "
            f"sets as large {percent(self.random_sets)})"
        )


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
    """A head, or an MLP, at a position; `head` is None of an MLP."""

    node: str
    position: int
    name: str
    hook: str
    head: int | None
    reaches: Bool[Tensor, "answer"]


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
    interval lies above one half and above the shuffled predictions. Where none does, sites are added to the
    best one while the share rises, up to four; random sets as large stand beside the result.

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
    places = _sites(view, sites)
    own = torch.stack([view.at(answer).logits.argmax(1) for answer in view.answers], dim=1)
    trials: list[Trial] = []
    verdicts = []
    for subtask in hypothesis.subtasks:
        test = _Test.drawn(view, own, subtask, cases, torch.Generator().manual_seed(seed))
        reaching = [site for site in places if sites or (site.reaches & test.speaks).any()]
        alone = [test.trial((site,)) for site in reaching]
        trials += alone
        verdicts.append(_verdict(test, reaching, alone, seed))
    return Interchange(hypothesis.name, tuple(trials), tuple(verdicts))


def _sites(view: View, asked: Sequence[tuple[str, int]] | None) -> list[_Site]:
    """
    Raises:
        UsageError: the network lacks one that is asked for.
    """
    words, there = view.task.reads.words, {}
    for part in parts_of(view):
        for head, node in enumerate(part.nodes):
            for position, reaches in enumerate(part.reaches):
                name = f"{node} at {position}: {words[position]}"
                is_head = part.hook.endswith("hook_z")
                site = _Site(node, position, name, part.hook, head if is_head else None, reaches)
                there[node, position] = site
    if asked is None:
        return list(there.values())
    for node, position in asked:
        if (node, position) not in there:
            nodes = list(dict.fromkeys(site.node for site in there.values()))
            if node not in nodes:
                raise UsageError(f"sites: the network has no node {node!r}{nearest(node, nodes)}")
            raise UsageError(f"sites: there is no position {position!r}: examples have 0 to {len(words) - 1}")
    return [there[node, position] for node, position in asked]


@dataclass(frozen=True, eq=False)
class _Test:
    """The pairs by which a sub-task is tested: first those with another prediction, then as many with donors
    of the receiver's own value.

    Attributes:
        receivers: the network on the receivers, twice.
        given: what every hook gives on the donors of both.
        own: what the network answers to the receivers.
    """

    subtask: Subtask
    receivers: View
    given: dict[str, Float64[Tensor, "both pos *entries"]]
    predicted: Int[Tensor, "m answer"]
    own: Int[Tensor, "m answer"]
    shuffles: Int[Tensor, "shuffle m"]

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
    ) -> _Test:
        """Pairs for a sub-task, balanced over the donors' values as far as there are such."""
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
        chosen = chosen[rank.argsort(stable=True)[:cases]]
        receivers, donors, predicted = receivers[chosen], donors[chosen], predicted[chosen]
        alike = of_value(torch.searchsorted(values[rows].unique(), values[receivers]))
        both, from_both = receivers.repeat(2), torch.cat([donors, alike])
        m = len(chosen)
        shuffles = torch.stack([torch.randperm(m, generator=generator) for _ in range(_SHUFFLES)])
        some = excerpt(view, from_both, m)
        given = everywhere(some, [part.hook for part in parts_of(some)])
        return cls(subtask, excerpt(view, both, m), given, predicted, own[receivers], shuffles)

    def trial(self, sites: Sequence[_Site]) -> Trial:
        """What comes of these sites, changed together."""
        logits = self.receivers.logits_with([self._put(site) for site in sites])
        now, with_alike = logits.argmax(2).split(len(self.predicted))
        said = self.predicted >= 0
        share = self._agreement(now, self.predicted)
        shuffled = [self._agreement(now, self.predicted[order]) for order in self.shuffles]
        stays = float(((with_alike == self.own) | ~said).all(1).double().mean())
        n = len(now)
        names = tuple(site.name for site in sites)
        low, high = wilson(share, n, Z_OF_95)
        return Trial(self.subtask.name, names, n, share, low, high, stays, sum(shuffled) / len(shuffled))

    def _agreement(self, now: Int[Tensor, "m answer"], predicted: Int[Tensor, "m answer"]) -> float:
        return float(((now == predicted) | (predicted < 0)).all(1).double().mean())

    def _put(self, site: _Site) -> tuple[str, Callable[..., Tensor]]:
        """An edit that puts what the donors give at a site; examples come in their order, some at a time."""
        done, given = 0, self.given[site.hook]
        at = (slice(None), site.position, *(() if site.head is None else (site.head,)))

        def edit(x: Tensor, hook: object) -> Tensor:
            nonlocal done
            x = x.clone()
            x[at] = given[done : done + len(x)][at].to(x.device)
            done += len(x)
            return x

        return site.hook, edit


def _values(view: View, subtask: Subtask) -> Int[Tensor, "n"]:
    """
    Raises:
        UsageError: there is not one value for every example, or all are the same.
    """
    values, n = subtask.values, view.task.n_inputs
    if values.shape != (n,):
        raise UsageError(f"{subtask.name}: its values have the shape {[*values.shape]}, and need [{n}]")
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
    needed = [len(receivers), len(view.answers)]
    shape = [*predicted.shape] if isinstance(predicted, Tensor) else repr(predicted)
    if shape != needed:
        raise UsageError(f"{subtask.name}: predict() gave {shape}, and needs {needed}: pairs by answers")
    return predicted


def _verdict(test: _Test, sites: Sequence[_Site], alone: Sequence[Trial], seed: int) -> Verdict:
    """A site that carries it, else the smallest set that is found by adding the site that helps most."""
    ranked = sorted(range(len(alone)), key=lambda i: -alone[i].share)
    carriers = tuple(alone[i].sites[0] for i in ranked if alone[i].passes)
    if carriers or len(sites) < 2:
        return Verdict(test.subtask.name, carriers)
    pool = [sites[i] for i in ranked[:_POOL]]
    chosen, best = [pool.pop(0)], alone[ranked[0]]
    while pool and len(chosen) < _LARGEST and not best.passes:
        further = [test.trial([*chosen, site]) for site in pool]
        at = max(range(len(pool)), key=lambda i: further[i].share)
        if further[at].share <= best.share:
            break
        chosen, best = [*chosen, pool.pop(at)], further[at]
    if not best.passes:
        return Verdict(test.subtask.name, ())
    generator = torch.Generator().manual_seed(seed)
    sets = [torch.randperm(len(sites), generator=generator)[: len(chosen)] for _ in range(_RANDOM_SETS)]
    shares = [test.trial([sites[i] for i in some]).share for some in sets]
    beside = sum(shares) / len(shares)
    return Verdict(test.subtask.name, (), best if best.low > beside else None, beside)
