"""What a network without hooks computes at the answer position of every example: logits, patterns and neurons. No autograd.

What the hooked network gives, by a shorter way: through the folded tables where a transformer can be folded, else by the plain forward.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from .folded import Folded, Folding
from .hooked_transformer import ModelConfig, Weights
from .network import NetworkConfig, answer_logits

_TOGETHER = 384
"""Examples that are computed at a time: what they need stays in the processor's cache."""


def at_answer(weights: Weights, tokens: Int[Tensor, "n pos"], config: NetworkConfig) -> dict[str, Float[Tensor, "n ..."]]:
    """What a network without a user's hooks computes at the last position: `logits`, and under the names of their hooks the patterns
    (with that position as query) and the activations of the neurons of every layer. The tokens are those that `read_by` gives."""
    with torch.no_grad():
        if isinstance(config, ModelConfig) and Folding.takes(tokens, config):
            d_vocab, n_classes = len(weights["embed.W_E"]), weights["unembed.W_U"].shape[1]
            return _folded(weights, Folding(tokens, d_vocab, n_classes, config))
        return _plain(weights, tokens, config)


def _plain(weights: Weights, tokens: Int[Tensor, "n pos"], config: NetworkConfig) -> dict[str, Float[Tensor, "n ..."]]:
    found: dict[str, list[Tensor]] = {}
    for some in tokens.split(_TOGETHER):
        seen: dict[str, Tensor] = {}
        seen["logits"] = answer_logits(weights, some, config, seen)
        for name, values in seen.items():
            found.setdefault(name, []).append(values)
    return {name: torch.cat(values) for name, values in found.items()}


def _room(rows: int, width: int, like: Tensor) -> Float[Tensor, "rows width"]:
    """By way of numpy, which asks the system for large pages: to get 50 MB in small ones takes longer than to fill them."""
    return torch.from_numpy(np.empty((rows, width), like.numpy().dtype))


def _folded(weights: Weights, folding: Folding) -> dict[str, Float[Tensor, "n ..."]]:
    """Examples that begin alike, as those of one first operand do, go together: what is the same among them is a matrix product."""
    tables, rows, d_mlp = Folded(folding, weights).tables, folding.rows, folding.config.d_mlp
    pattern = folding.pattern(tables, rows)
    weight, bags = pattern.flatten(1), folding.bags(rows)
    length = _length(rows)
    groups = bags.unflatten(0, (-1, length))
    same = (groups == groups[:, :1]).flatten(0, 1).all(0)
    same_rows = groups[:, 0, same]
    same_weight = F.pad(weight[:, same], (0, 1), value=1.0)  # the last column is that of the constant
    other_bags, other_weight = bags[:, ~same], weight[:, ~same]
    neurons, logits = (_room(len(rows), width, pattern) for width in (d_mlp, tables.readout.shape[1]))
    for some, of in _pieces(len(rows), length):
        table = tables.rows[same_rows[of]]
        table = torch.cat([table, tables.constant.expand(len(table), 1, -1)], dim=1)  # [group, row, width]
        by = same_weight[some].unflatten(0, (len(table), -1))
        if same.all():
            sums = by @ table
        else:
            others = F.embedding_bag(other_bags[some], tables.rows, per_sample_weights=other_weight[some], mode="sum")
            sums = others.view(*by.shape[:2], -1).baddbmm_(by, table)
        sums = sums.flatten(0, 1)
        torch.clamp_min(sums[:, :d_mlp], 0, out=neurons[some])
        torch.addmm(sums[:, d_mlp:], neurons[some], tables.readout, out=logits[some])
    return {
        "logits": logits[:, : folding.n_classes],
        "blocks.0.attn.hook_pattern": pattern.transpose(1, 2),
        "blocks.0.mlp.hook_post": neurons,
    }


def _length(rows: Int[Tensor, "n pos"]) -> int:
    """How many examples, one after the other, begin alike; all, where that differs."""
    lengths = rows[:, 0].unique_consecutive(return_counts=True)[1]
    return int(lengths[0]) if (lengths == lengths[0]).all() else len(rows)


def _pieces(n: int, length: int) -> Iterator[tuple[slice, slice]]:
    """Examples to take at a time: several groups of one length, or some of one group; and which groups these are."""
    groups = max(1, _TOGETHER // length)
    for first in range(0, n // length, groups):
        last = min(first + groups, n // length)
        step = (last - first) * length if length <= _TOGETHER else _TOGETHER
        for start in range(first * length, last * length, step):
            yield slice(start, min(start + step, last * length)), slice(first, last)
