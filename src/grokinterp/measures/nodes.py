"""Which part of a network knows an answer: what is lost without one head, or one MLP, at one position.

A node is a head of a layer, or its MLP, at a position of the residual stream. What it gives there (`hook_z`
of the head, `mlp.hook_post`) is replaced, in the network itself, by its mean over the examples, by zero, or
by what it gives on another example; all that is computed from it changes, for every answer at once.
ablation.py takes any part, where one answer is read.

    the sample     examples that stand for the task, drawn at random; and more of each group that has too few
                   among these, which count for their groups alone
    left out       positions from which no change reaches an answer: in a last layer those at which none is
                   read
    the controls   the change that replacing by the mean makes of what a node adds to the stream, turned by a
                   random rotation: as large on every example and of the same rank, in other directions
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from operator import itemgetter
from typing import Any, Literal, TypeVar

import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from ..errors import NotApplicable
from ..tasks import Operation, Task
from ..view import View
from .ablation import random_rotation
from .base import Value, array, once_per_view
from .base import measure as of_any_task
from .excerpts import drawn_with_groups, excerpt
from .interventions import Change, has_shortcut, logits_after, recorded

T = TypeVar("T")
How = Literal["mean", "zero", "resample"]
EXAMPLES = 512
"""Examples that stand for the task. Of a group there are at least an eighth as many where it has them, of
more than eight groups fewer of each."""
STATISTICS = ("loss", "accuracy", "loss error", "accuracy error")
"""The rise of the one, the fall of the other, and their standard errors."""
DRAWS = 20
"""Random controls of a node."""
MOST_POSITIONS = 64
"""Positions up to which every node at each of them is replaced: it takes a pass of the network for each."""
CONTROLLED = 16
"""Nodes that are held against controls: those without which a loss rises most."""
_PROBED = 4
"""Examples on which it is found out which answers a change reaches."""


def _is_no_table(task: Task) -> bool:
    return not isinstance(task, Operation)


measure = partial(of_any_task, each_answer=False, where=_is_no_table)
"""Registers a measure that a report does not take of tables of pairs: of these an answer is read at one
position, of which `ablation.*` says as much."""
_REF = "Quirke & Barez 2024 (arXiv 2402.02619), code: useful nodes, by the mean over a sample"
_UNIT = "nats; accuracy: 1"


@measure("node_ablation.mean", unit=_UNIT, ref=_REF)
def mean(view: View, examples: int = EXAMPLES, seed: int = 0) -> Value:
    """Rise of the loss and fall of the accuracy of every answer, over all examples and in each group, when
    what one head or MLP gives at one position is replaced by its mean.

    By node, position, answer, part and statistic ("loss", "accuracy" and the standard errors of the two), on
    `examples` drawn examples (seeded) and as many more as groups lack. The mean is over those that stand for
    the task. A position from which no answer is reached is left out; NaN where an answer is asked of no
    example of a group, and as the error of a single one.

    Raises:
        NotApplicable: the network has no heads and no MLP that work at each position.
        UsageError: fewer than two examples are asked for.
    """
    return _measured(view, "mean", examples, seed)


@measure("node_ablation.zero", unit=_UNIT, ref="Wang et al. 2023 (arXiv 2211.00593), section 2")
def zero(view: View, examples: int = EXAMPLES, seed: int = 0) -> Value:
    """Rise of the loss and fall of the accuracy as in `node_ablation.mean`, with zero in place of the
    mean."""
    return _measured(view, "zero", examples, seed)


@measure("node_ablation.resample", unit=_UNIT, ref="Chan et al. 2022, causal scrubbing: resampling")
def resample(view: View, examples: int = EXAMPLES, seed: int = 0) -> Value:
    """Rise of the loss and fall of the accuracy as in `node_ablation.mean`, with what the node gives on
    another example, drawn at random, in place of the mean."""
    return _measured(view, "resample", examples, seed)


@measure(
    "node_ablation.control",
    unit="nats",
    ref="here: a change as large in random directions",
    gauge=("rotation",),
)
def control(view: View, examples: int = EXAMPLES, seed: int = 0) -> Value:
    """Mean and 95 % quantile of the rise of the loss over all examples under 20 random changes of the stream
    that are as large as that of `node_ablation.mean`.

    The change that a node's replacement makes of what it adds to the stream, on every example, is turned by a
    random rotation of the stream. For the 16 nodes without which the loss of some answer rises most; NaN for
    all others, and where no matrix says what a node adds to the stream. A node matters more than its controls
    where its rise, on the same examples, is above their quantile.
    """
    plan = _plan(view, examples, seed)
    rises = _harm(view, "mean", examples, seed)[..., 0, 0]
    chosen = _costliest(rises.nan_to_num(-torch.inf).amax(-1))
    values = torch.full((*rises.shape, 2), torch.nan, dtype=torch.float64)
    generator = torch.Generator().manual_seed(seed)
    for part in plan.parts:
        written = part.written(plan.some)
        if written is None:
            continue
        hook, matrix = written
        changes = {
            (node, position): difference.flatten(1) @ matrix
            for node, position, difference in plan.differences(part, "mean", seed)
            if chosen[node, position]
        }
        size, in_order = matrix.shape[1], sorted(changes, key=itemgetter(1, 0))
        for some in part.apart({at: (changes[at], _drawing(generator, size)) for at in in_order}):
            drawn = []
            for _ in range(DRAWS):
                turned = {at: change @ random_rotation(change.shape[1], own) for at, (change, own) in some}
                drawn.append(plan.harm(part, hook, turned))
            for at, _ in some:
                of = torch.stack([harm[at][:, 0, 0] for harm in drawn])
                values[at] = torch.stack([of.mean(0), of.quantile(0.95, dim=0)], dim=-1)
    return plan.labelled(values, statistic=["mean", "quantile"])


def _drawing(generator: torch.Generator, size: int) -> torch.Generator:
    """A generator of the rotations of one node; the other goes on behind them."""
    own = torch.Generator()
    own.set_state(generator.get_state())
    for _ in range(DRAWS):
        random_rotation(size, generator)
    return own


def _costliest(rises: Float64[Tensor, "node pos"]) -> Bool[Tensor, "node pos"]:
    """The nodes that have controls."""
    order = rises.flatten().argsort(descending=True)[:CONTROLLED]
    chosen = torch.zeros(rises.numel(), dtype=torch.bool).index_fill_(0, order, True)
    return chosen.view_as(rises) & (rises > 0)


def _measured(view: View, how: How, examples: int, seed: int) -> Value:
    plan = _plan(view, examples, seed)
    values = plan.labelled(_harm(view, how, examples, seed), part=plan.some.parts, statistic=STATISTICS)
    return values.assign_attrs(examples=plan.some.task.n_representative)


@once_per_view
def _harm(
    view: View, how: How, examples: int, seed: int
) -> Float64[Tensor, "node pos answer part statistic"]:
    """What is lost without each node, at every position."""
    plan = _plan(view, examples, seed)
    count = sum(len(part.nodes) for part in plan.parts)
    values = plan.nothing.repeat(count, plan.some.reads.n_ctx, 1, 1, 1)
    for part in plan.parts:
        for _, of_node in groupby(plan.differences(part, how, seed), itemgetter(0)):
            for some in part.apart({(node, position): change for node, position, change in of_node}):
                for at, lost in plan.harm(part, part.hook, dict(some)).items():
                    values[at] = lost
    return values


@dataclass(frozen=True)
class _Part:
    """The heads of a layer, or its MLP, at all positions that it has.

    Attributes:
        nodes: their numbers among all nodes, by name.
        hook: what they give.
        places: the positions that it has.
        reaches: which answers a change at each position of the network reaches.
    """

    nodes: Mapping[str, int]
    hook: str
    places: range
    reaches: Bool[Tensor, "pos answer"]

    def apart(self, changes: Mapping[tuple[int, int], T]) -> Iterator[list[tuple[tuple[int, int], T]]]:
        """Changes of nodes at positions (node, position), in lots of which no answer is reached by two: in a
        pass with all of a lot every answer is what it is with the one change that reaches it."""
        left = dict(changes)
        while left:
            reached, lot = torch.zeros(self.reaches.shape[1], dtype=torch.bool), []
            for at in list(left):
                if not (reached & self.reaches[at[1]]).any():
                    reached = reached | self.reaches[at[1]]
                    lot.append((at, left.pop(at)))
            yield lot

    def written(self, view: View) -> tuple[str, Float64[Tensor, "entries d_model"]] | None:
        """The hook of what they add to the stream together, and the matrix that gives it; None where the
        network has no such."""
        layer, part, last = self.hook.rsplit(".", 2)
        out = f"{layer}.hook_{part}_out"
        matrix = view.weights.get(f"{layer}.{part}.W_{'O' if last == 'hook_z' else 'out'}")
        if matrix is None or out not in view.hooks:
            return None
        return out, matrix.cpu().flatten(0, -2)


@dataclass(frozen=True)
class _Plan:
    """What is measured: nodes, positions and examples.

    Attributes:
        some: the network on these examples.
        parts: the nodes.
        ones: the same, speaking of each answer.
        weights: of every example in the mean of a part, for each answer; NaN where it has none.
    """

    some: View
    parts: tuple[_Part, ...]
    ones: tuple[View, ...]
    weights: Float64[Tensor, "answer part n"]

    @property
    def nothing(self) -> Float64[Tensor, "answer part statistic"]:
        """What is lost where no answer is reached: 0, and NaN where there is no example."""
        return (0 * self.weights.sum(-1, keepdim=True)).repeat(1, 1, len(STATISTICS))

    def differences(
        self, part: _Part, how: How, seed: int
    ) -> Iterator[tuple[int, int, Float64[Tensor, "n *entries"]]]:
        """What replacing a node adds to its hook: the number of the node, the position, and the change on
        every example, of those that change anything and reach an answer."""
        positions = part.reaches.any(1).nonzero().flatten()
        here = everywhere(self.some, [part.hook])[part.hook][:, positions - part.places.start]
        change = self._replaced(here, how, seed) - here
        for i, node in enumerate(part.nodes.values()):
            for at, position in zip(change.unbind(1), positions.tolist(), strict=True):
                head = at if at.ndim == 2 else at * (torch.arange(at.shape[1]) == i)[:, None]
                if head.any():
                    yield node, position, head

    def _replaced(
        self, here: Float64[Tensor, "n pos *entries"], how: How, seed: int
    ) -> Float64[Tensor, "m pos *entries"]:
        """What is put in the place of what is there."""
        count = self.some.task.n_representative
        if how == "zero":
            return torch.zeros_like(here[:1])
        if how == "mean":  # about the first, so that the mean of what never changes is that to the last digit
            return here[:1] + (here[:count] - here[:1]).mean(0, keepdim=True)
        generator = torch.Generator().manual_seed(seed)
        further = 1 + torch.randint(max(count - 1, 1), (len(here),), generator=generator)
        return here[(torch.arange(len(here)) + further) % count]

    def harm(
        self, part: _Part, hook: str, added: Mapping[tuple[int, int], Float64[Tensor, "n *entries"]]
    ) -> dict[tuple[int, int], Float64[Tensor, "answer part statistic"]]:
        """What is lost when something is added at a hook by each of these (node, position), which are
        `apart`."""
        lost = dict(zip(added, self.nothing.repeat(len(added), 1, 1, 1), strict=True))
        for at, i, logits in self._logits(part, hook, added):
            one = self.ones[i]
            loss, correct = _before(one)
            rise, fall = one.loss(logits) - loss, correct - one.correct(logits).double()
            change = torch.stack([rise, fall], dim=1)
            mean, counts = self.weights[i] @ change, (self.weights[i] > 0).sum(1, keepdim=True)
            variance = (self.weights[i] @ change.square() - mean.square()).clamp(min=0) / (counts - 1)
            lost[at][i] = torch.cat([mean, variance.sqrt()], dim=1)
        return lost

    def _logits(
        self, part: _Part, hook: str, added: Mapping[tuple[int, int], Float64[Tensor, "n *entries"]]
    ) -> Iterator[tuple[tuple[int, int], int, Float64[Tensor, "n classes"]]]:
        """The logits of each answer that is reached, with something added, and by which."""
        by = {i: at for at in added for i in part.reaches[at[1]].nonzero().flatten().tolist()}
        if all(
            self.ones[i].reads.positions == at[1:] and has_shortcut(self.ones[i], hook)
            for i, at in by.items()
        ):
            for i, at in by.items():
                change = Change(hook, ((hook, 1),), recorded(self.ones[i], hook) + added[at])
                yield at, i, logits_after(self.ones[i], [change])
            return
        edits = [(hook, _adding(at[1] - part.places.start, each)) for at, each in added.items()]
        logits = self.some.logits_with(edits)
        for i, at in by.items():
            yield at, i, logits[:, i]

    def labelled(self, values: Float64[Tensor, "node pos answer *rest"], **rest: Sequence[str]) -> Value:
        """An array of the nodes and of the positions from which answers are reached."""
        words = [f"{i}: {word}" for i, word in enumerate(self.some.reads.words)]
        reaching = torch.stack([part.reaches.any(1) for part in self.parts]).any(0).nonzero().flatten()
        coords = {
            "node": [name for part in self.parts for name in part.nodes],
            "pos": [words[i] for i in reaching],
            "answer": list(self.some.answers),
            **rest,
        }
        return array(values[:, reaching], list(coords), **coords)


@once_per_view
def _before(one: View) -> tuple[Float64[Tensor, "n"], Float64[Tensor, "n"]]:
    """Loss of every example, and whether it is right."""
    return one.loss(), one.correct().double()


@once_per_view
def _plan(view: View, examples: int, seed: int) -> _Plan:
    if (n := view.reads.n_ctx) > MOST_POSITIONS:
        raise NotApplicable(
            f"the network has {n} positions, and a pass for every node at each would take too long: nodes "
            f"are ablated where there are at most {MOST_POSITIONS}"
        )
    some = drawn_with_groups(view, examples, seed)
    ones = tuple(some.at(answer) for answer in some.answers)
    masks = torch.stack([torch.stack([one.rows(part) for part in one.parts]) for one in ones]).double()
    return _Plan(some, tuple(parts_of(some)), ones, masks / masks.sum(-1, keepdim=True))


def parts_of(some: View) -> Iterator[_Part]:
    """
    Raises:
        NotApplicable: the network has no heads and no MLP that work at each position.
    """
    count, one = 0, some if some.has_hooks_of_a_user else excerpt(some, torch.arange(1), 1)
    for block in some.blocks:
        each = [(heads.name("hook_z"), heads.names) for heads in block.heads]
        each += [(block.name("mlp.hook_post"), [f"{block.label} MLP"])] if block.d_mlp else []
        for hook, names in each:
            if hook not in some.hooks:
                continue
            shape, places = everywhere(one, [hook])[hook].shape, some.places(hook)
            if len(shape) < 3 or shape[1] != len(places):
                continue
            nodes = {node: count + i for i, node in enumerate(names)}
            yield _Part(nodes, hook, places, _reached(some, hook, places))
            count += len(names)
    if not count:
        raise NotApplicable("the network has no heads and no MLP that work at each position of an example")


def _reached(some: View, hook: str, places: range) -> Bool[Tensor, "pos answer"]:
    """Which answers a change of what a hook has at each position reaches: those whose logits differ by more
    than rounding when something random is added there. None where it has nothing."""
    reached = torch.zeros(some.reads.n_ctx, len(some.answers), dtype=torch.bool)
    if some.has_hooks_of_a_user:
        reached[places.start : places.stop] = True
        return reached
    n = len(places)
    generator = torch.Generator().manual_seed(0)
    rows = torch.randint(some.task.n_inputs, (_PROBED,), generator=generator)
    probe, at = excerpt(some, rows.repeat(n), 1), torch.arange(n).repeat_interleave(_PROBED)
    done = 0

    def add(x: Tensor, hook: object) -> Tensor:
        nonlocal done
        x, of_each = x.clone(), torch.arange(len(x))
        noise = torch.randn(x[:, 0].shape, generator=generator, dtype=x.dtype).to(x.device)
        x[of_each, at[done : done + len(x)]] += noise * (1 + x.abs().mean())
        done += len(x)
        return x

    before, after = probe.logits_with([]), probe.logits_with([(hook, add)])
    apart = (after - before).abs().unflatten(0, (n, _PROBED)).amax((1, 3))
    reached[places.start : places.stop] = apart > 1e-9 * before.abs().max()
    return reached


def everywhere(view: View, hooks: Sequence[str]) -> dict[str, Float64[Tensor, "n pos *entries"]]:
    """What each hook has at every position that it has, of every example, from one pass.

    Raises:
        NotApplicable: the network lacks one of them, or does not use it.
    """
    seen: dict[str, list[Tensor]] = {hook: [] for hook in hooks}

    def see(x: Tensor, hook: Any) -> Tensor:
        seen[hook.name].append(x.cpu().clone())
        return x

    view.logits_with([(hook, see) for hook in hooks])
    if unused := [hook for hook, values in seen.items() if not values]:
        raise NotApplicable(f"the network does not use {unused[0]}")
    return {hook: torch.cat(values) for hook, values in seen.items()}


def _adding(position: int, added: Float64[Tensor, "n *entries"]) -> Callable[..., Tensor]:
    """An edit that adds something at one position; examples come in their order, some at a time."""
    done = 0

    def add(x: Tensor, hook: object) -> Tensor:
        nonlocal done
        x = x.clone()
        x[:, position] += added[done : done + len(x)].to(x.device)
        done += len(x)
        return x

    return add
