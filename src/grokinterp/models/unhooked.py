"""What a network without hooks computes for the answer of every example: logits, patterns and neurons. No
autograd.

What the hooked network gives, by a shorter way: through the folded tables where the network folds, else by
the plain forward.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor
from torch.nn import functional as F

from ..memory import room
from ..tasks import Reads
from .base import NetworkConfig, Weights
from .folded import Folded, Folding

_TOGETHER = 256
"""Examples that are computed at a time: what they need stays in the processor's cache."""


def at_answer(
    config: NetworkConfig, reads: Reads, weights: Weights, inputs: Shaped[Tensor, "n *example"]
) -> dict[str, Float[Tensor, "n ..."]]:
    """What a network without a user's hooks computes where the answer is read: `logits`, and under the names
    of their hooks the patterns (with that position as query) and the activations of the neurons of every
    layer."""
    inputs = config.read(inputs, reads)
    with torch.no_grad():
        folding = config.folding(inputs, reads)
        return _plain(config, reads, weights, inputs) if folding is None else _folded(weights, folding)


def _plain(
    config: NetworkConfig, reads: Reads, weights: Weights, inputs: Shaped[Tensor, "n *read"]
) -> dict[str, Float[Tensor, "n ..."]]:
    pieces: dict[str, list[Tensor]] = {}
    for some in inputs.split(_TOGETHER):
        seen: dict[str, Tensor] = {}
        seen["logits"] = config.logits(weights, some, reads, seen)
        for name, values in seen.items():
            pieces.setdefault(name, []).append(values)
    return {name: torch.cat(values) for name, values in pieces.items()}


def _folded(weights: Weights, folding: Folding) -> dict[str, Float[Tensor, "n ..."]]:
    """Examples that begin alike, as those of one first operand do, are a group. What is the same within one
    is a matrix product, and so is what is at one place in all of them, as where a second operand takes all
    values in turn; the rest is summed row by row."""
    tables, rows, d_mlp = Folded(folding, weights).tables, folding.rows, folding.config.d_mlp
    pattern = folding.pattern(tables, rows)
    # Apart, so that who holds the logits alone does not hold the neurons.
    neurons, logits = (room(len(rows), width, pattern.dtype) for width in (d_mlp, tables.readout.shape[1]))
    groups = _by_group(rows)
    weight, bags, neurons_of, logits_of = (
        x.unflatten(0, groups) for x in (pattern.flatten(1), folding.bags(rows), neurons, logits)
    )
    same = (bags == bags[:, :1]).flatten(0, 1).all(0)
    # What every example has comes last, as one more row with the weight 1.
    table_rows = torch.cat([tables.rows, tables.constant[None]])
    same_rows = F.pad(bags[:, 0, same], (0, 1), value=len(tables.rows))
    same_weight = F.pad(weight[..., same], (0, 1), value=1.0)
    other_bags, other_weight = bags[..., ~same], weight[..., ~same]
    turns = same.all() or (len(bags) > 1 and torch.equal(other_bags, other_bags[:1].expand_as(other_bags)))
    in_turn = tables.rows[other_bags[0]] if turns else None
    for at in _pieces(*groups):
        table = F.embedding(same_rows[at[0]], table_rows)  # [group, row, width]
        by = same_weight[at]
        if in_turn is not None:
            sums = (other_weight[at].transpose(0, 1) @ in_turn[at[1]]).transpose(0, 1).baddbmm_(by, table)
        else:
            of, per = other_bags[at].flatten(0, 1), other_weight[at].flatten(0, 1)
            others = F.embedding_bag(of, tables.rows, per_sample_weights=per, mode="sum")
            sums = others.unflatten(0, by.shape[:2]).baddbmm_(by, table)
        on = torch.clamp_min(sums[..., :d_mlp], 0, out=neurons_of[at]).view(-1, d_mlp)
        logits_of[at].copy_(sums[..., d_mlp:]).view(len(on), -1).addmm_(on, tables.readout)
    return {
        "logits": logits[:, : folding.n_classes],
        folding.block.name("attn.hook_pattern"): pattern.transpose(1, 2),
        folding.block.name("mlp.hook_post"): neurons,
    }


def _by_group(rows: Int[Tensor, "n pos"]) -> tuple[int, int]:
    """How many groups of examples that begin alike there are, of how many each; one, if that differs."""
    lengths = rows[:, 0].unique_consecutive(return_counts=True)[1]
    return (len(lengths), int(lengths[0])) if (lengths == lengths[0]).all() else (1, len(rows))


def _pieces(groups: int, length: int) -> Iterator[tuple[slice, slice]]:
    """Examples to take at a time, as groups and places in them: several whole groups, or a part of one."""
    together = max(1, _TOGETHER // length)
    for first in range(0, groups, together):
        for start in range(0, length, _TOGETHER):
            yield slice(first, first + together), slice(start, start + _TOGETHER)
