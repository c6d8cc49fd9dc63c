"""How many dimensions an activation needs: what is left of the accuracy when it is projected, in the network
itself, on the principal components that vary most.

At a hook, with μ the mean and V_k the first k right singular vectors of the activations less μ, over examples
and positions, every activation x becomes μ + (x − μ) V_k V_kᵀ; k is a share of the width. What is computed
from x changes, at every position and for every answer at once. Nothing is trained again: that a network
stands a cut says that these examples need no more dimensions of it there, not that a network as narrow as
that would learn the task.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float64
from torch import Tensor

from ..errors import UsageError, nearest
from ..tasks import Task
from ..view import View
from .base import Value, array, measure, named, once_per_view
from .excerpts import drawn

SHARES = (1.0, 0.5, 0.2, 0.1, 0.05, 0.0)
"""Of the width that are kept."""
EXAMPLES, EXAMPLES_OF_LONG = 512, 128
"""Examples of networks of up to 64 positions, and of those of more, which take as much longer."""
_LONG = 64
_NOT_PROJECTED = ("hook_pattern", "hook_attn_scores", "hook_scale", "hook_logits")
"""Hooks of what is no vector of features."""
_SEEN_ELSEWHERE = ("hook_in", "hook_out")
"""Hooks of TransformerLens of what stands at another one, too."""
_OF_EACH_HEAD = ("hook_q", "hook_k", "hook_v", "hook_z", "hook_rot_q", "hook_rot_k")
"""Hooks at which a vector lies in pieces, one for each head."""


@dataclass(frozen=True)
class _Site:
    """What a hook has over examples and positions.

    Attributes:
        hook: its name.
        mean: of the activations; those of heads side by side.
        components: the principal components in columns, the largest first.
    """

    hook: str
    mean: Float64[Tensor, "width"]
    components: Float64[Tensor, "width width"]

    def cut(self, share: float) -> Callable[..., Tensor]:
        """An edit that keeps a share of the components."""
        kept = self.components[:, : round(share * len(self.mean))]

        def project(x: Tensor, hook: object) -> Tensor:
            flat = side_by_side(self.hook, x)
            mean, onto = self.mean.to(flat), kept.to(flat)
            return (mean + (flat - mean) @ onto @ onto.T).view_as(x)

        return project


def side_by_side(hook: str, x: Tensor) -> Float64[Tensor, "... width"]:
    """The vectors of a hook, those of heads side by side."""
    return x.flatten(-2) if hook.rpartition(".")[2] in _OF_EACH_HEAD else x


def hooks_of_vectors(view: View, asked: Sequence[str] | str | None = None) -> list[str]:
    """The hooks that are asked for, several or one; by default all whose activations are vectors, but for
    those of what stands at another one, too.

    Raises:
        UsageError: the network has no such hook, or its activations are no vectors; the nearest is named.
    """
    hooks = {name: name.rpartition(".")[2] for name in view.hooks}
    there = [name for name, last in hooks.items() if last not in _NOT_PROJECTED]
    for name in named(asked):
        if name not in there:
            raise UsageError(
                f"sites: the network has no vectors of features at {name!r}{nearest(name, there)}"
            )
    # What the layer before gave.
    later = {block.name("hook_resid_pre") for block in view.blocks if block.number}
    usual = [name for name in there if hooks[name] not in _SEEN_ELSEWHERE and name not in later]
    return list(named(asked)) or usual


def of_arrays(task: Task) -> bool:
    """Whether a report takes it: of tokens it is measured where it is asked for by name."""
    return not task.reads.d_vocab


@measure(
    "dimension_reduction",
    unit="1",
    ref="principal components as in Pearson 1901; here: kept at one hook at a time",
    gauge=("heads", "scale"),
    each_answer=False,
    where=of_arrays,
)
def dimension_reduction(
    view: View,
    shares: Sequence[int | float] = SHARES,
    sites: Sequence[str] | str | None = None,
    examples: int | None = None,
    seed: int = 0,
) -> Value:
    """Accuracy (share of examples with every answer right) when activations at one hook are projected on the
    principal components that vary most, by site and by the share of the width that is kept.

    Args:
        shares: kept, each from 0 (every activation becomes the mean) to 1 (nothing changes).
        sites: names of hooks, or one; by default all whose activations are vectors, in the order of the
            computation.
        examples, seed: so many of the sample, drawn at random: components and accuracies are of the same
            ones. By default 512, of networks of more than 64 positions 128.

    `width` beside `site` has how many dimensions there are; round(share × width) are kept.

    Raises:
        UsageError: a share is outside 0 to 1, or the network has no such hook (the nearest is named).
    """
    for share in shares:
        if not 0 <= share <= 1:
            raise UsageError(f"shares: needs numbers from 0 to 1, got {share}")
    if not shares:
        raise UsageError("shares: needs one or more numbers from 0 to 1, got none")
    usual = EXAMPLES if view.reads.n_ctx <= _LONG else EXAMPLES_OF_LONG
    some = drawn(view, usual if examples is None else examples, seed)
    found = _principal(some, named(sites))
    kept = [float(share) for share in shares]
    rows = [[_right(some, site, share) for share in kept] for site in found]
    value = array(rows, ("site", "kept"), site=[site.hook for site in found], kept=kept)
    value = value.assign_coords(width=("site", [len(site.mean) for site in found]))
    return value.assign_attrs(examples=some.task.n_inputs)


def _right(some: View, site: _Site, share: float) -> float:
    """The share of examples that are right in all that is asked of them."""
    logits = some.logits_with([(site.hook, site.cut(share))])
    return float(some.all_right(logits=logits).double().mean())


@once_per_view
def _principal(some: View, asked: tuple[str, ...]) -> list[_Site]:
    """Mean and principal components of every site, from two passes over the examples.

    Raises:
        UsageError: the network has no hook that is asked for, or none of its activations is a vector.
    """
    count: dict[str, int] = {}
    sums: dict[str, Tensor] = {}
    squares: dict[str, Tensor] = {}

    def add(name: str, x: Tensor) -> None:
        count[name] = count.get(name, 0) + len(x)
        sums[name] = sums.get(name, 0) + x.sum(0)

    def add_squares(name: str, x: Tensor) -> None:
        centred = x - means[name]
        squares[name] = squares.get(name, 0) + centred.T @ centred

    _look(some, hooks_of_vectors(some, asked), add)
    means = {name: total / count[name] for name, total in sums.items()}
    _look(some, list(means), add_squares)
    found = []
    for name, covariance in squares.items():
        vectors: Tensor = torch.linalg.eigh(covariance).eigenvectors
        found.append(_Site(name, means[name], vectors.flip(1)))
    return found


def _look(some: View, names: Sequence[str], at: Callable[[str, Tensor], None]) -> None:
    """Shows a function the vectors that each hook has, some examples at a time, in the order in which the
    network computes them."""

    def seeing(name: str) -> Callable[..., Tensor]:
        def see(x: Tensor, hook: Any) -> Tensor:
            flat = side_by_side(name, x)
            at(name, flat.reshape(-1, flat.shape[-1]).double().cpu())
            return x

        return see

    some.logits_with([(name, seeing(name)) for name in names])
