"""A one-layer network without normalisation, seen from the answer position: a weighted sum of few rows of one
table.

Each position holds a token, and what it adds, through one head, to what comes after the attention is a row of

    T[position, token, head] = (x W_V + b_V) W_O [W_in | W_U],     x = W_E[token] + W_pos[position]

weighted by the attention, which is a softmax of scores that depend on (position, token, head) alone too,
because the last token is the same in every example. The tables are folded from the weights once; what is left
for each example is a sum of rows, the nonlinearity and one product with W_L = W_out W_U. For finite weights
it is exact: nothing is approximated, only associativity is used. The way back, from the gradient of the
tables to that of the weights, is written out: autograd takes several times longer over networks this small.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from ..tasks import Reads
from .base import Weights

if TYPE_CHECKING:
    from .transformer import ModelConfig

Jobs = Callable[[Sequence[Callable[[], Any]]], list[Any]]
"""Does jobs, in whatever order, and returns their results in the order of the jobs."""

_VECTOR = 64
"""Classes are filled up with zeros to a multiple of so many bytes: whole vectors are faster."""

_WORTH_SHARING = 2**18
"""Numbers in T from which folding is shared among threads: to wake one takes longer than what is below."""


@dataclass(frozen=True)
class Tables:
    """What a network does at the answer position, or the gradient of something with respect to that.

    Attributes:
        scores: of every used (position, token), before the softmax.
        rows: T, all (position, token) of a head one after the other; the columns are the neurons, then the
            classes, then zeros.
        constant: what every example has in the same columns: biases, and the stream of the last position.
        readout: W_out W_U, and zeros.
    """

    scores: Float[Tensor, "row head"]
    rows: Float[Tensor, "head_row width"]
    constant: Float[Tensor, "width"]
    readout: Float[Tensor, "d_mlp filled"]


class Folding:
    """Networks of one configuration on fixed examples, through their tables; `ModelConfig.folding` says which
    can be folded.

    Attributes:
        block: the layer.
        rows: the (position, token) at each position of each example, as numbers of those that occur.
        used: those that occur.
        n_rows: how many rows T has.
        shares: the heads that are folded together.
    """

    def __init__(self, tokens: Int[Tensor, "n pos"], reads: Reads, config: ModelConfig) -> None:
        self.config, self.n_classes = config, config.n_logits(reads)
        (self.block,) = config.blocks(reads)
        at = tokens + torch.arange(0, tokens.shape[1] * reads.d_vocab, reads.d_vocab)
        self.used, rows = at.unique(return_inverse=True)
        self.rows: Int[Tensor, "n pos"] = rows
        self.n_rows = config.n_heads * len(self.used)
        self.last_token = int(tokens[0, -1])
        n_heads = config.n_heads
        shared = self.n_rows * (config.d_mlp + self.n_classes) > _WORTH_SHARING
        heads = (n_heads + 1) // 2 if shared else n_heads
        self.shares = [slice(first, min(first + heads, n_heads)) for first in range(0, n_heads, heads)]

    def bags(self, rows: Int[Tensor, "n pos"]) -> Int[Tensor, "n pos_head"]:
        """The rows of T that each example sums."""
        first = torch.arange(self.config.n_heads) * len(self.used)
        return (rows[..., None] + first).flatten(1).to(torch.int32)

    def pattern(self, tables: Tables, rows: Int[Tensor, "n pos"]) -> Float[Tensor, "n pos head"]:
        """What each position gets of the attention of the last."""
        alpha = self.config.attention_mixing
        pattern = F.embedding(rows, tables.scores).softmax(1)
        return pattern if alpha == 1 else pattern.mul_(alpha).add_(1 - alpha)

    def forward(
        self, tables: Tables, rows: Int[Tensor, "n pos"], bags: Int[Tensor, "n pos_head"]
    ) -> tuple[Float[Tensor, "n pos head"], Float[Tensor, "n d_mlp"], Float[Tensor, "n classes"]]:
        """Pattern, neurons and logits of some examples at the answer position. No autograd."""
        pattern = self.pattern(tables, rows)
        sums = F.embedding_bag(bags, tables.rows, per_sample_weights=pattern.flatten(1), mode="sum")
        sums.add_(tables.constant)
        neurons, direct = sums[:, : self.config.d_mlp].relu_(), sums[:, self.config.d_mlp :]
        return pattern, neurons, torch.addmm(direct, neurons, tables.readout)[:, : self.n_classes]


class _Heads(NamedTuple):
    """What some heads have computed for the tables."""

    query: Float[Tensor, "head d_head"]
    seen: Float[Tensor, "d_model head"]
    """W_K q: what of a stream makes a score."""
    scores: Float[Tensor, "row head"]
    values: Float[Tensor, "head row d_head"]
    onward: Float[Tensor, "head d_head width"]
    """W_O [W_in | W_U]."""
    rows: Float[Tensor, "head row width"]


def one_after_the_other(jobs: Sequence[Callable[[], Any]]) -> list[Any]:
    """Does jobs here and now."""
    return [job() for job in jobs]


class Folded:
    """A network's tables, and the way back to its weights.

    Args:
        run: what does the jobs into which both are divided; by default, this thread.

    Attributes:
        tables: what the network does at the answer position.
    """

    def __init__(self, folding: Folding, weights: Weights, run: Jobs = one_after_the_other) -> None:
        self._folding = folding
        self._run = run if len(folding.shares) > 1 else one_after_the_other
        self._scale = 1 / math.sqrt(folding.config.d_head)
        prefix = folding.block.name("")
        self._w = w = {name.removeprefix(prefix): weight.detach() for name, weight in weights.items()}
        self._x = (w["embed.W_E"] + w["pos_embed.W_pos"][:, None]).flatten(0, 1)[folding.used]
        self._answer = w["embed.W_E"][folding.last_token] + w["pos_embed.W_pos"][-1]
        fill = -w["unembed.W_U"].shape[1] % (_VECTOR // w["unembed.W_U"].element_size())
        self._unembed = F.pad(w["unembed.W_U"], (0, fill))
        self._onward = torch.cat([w["mlp.W_in"], self._unembed], dim=1)
        direct = F.pad(w["unembed.b_U"], (0, fill)).addmv_(self._unembed.T, w["mlp.b_out"])
        biases = torch.cat([w["mlp.b_in"], direct])
        constant = biases.addmv_(self._onward.T, self._answer + w["attn.b_O"])
        folds = [partial(self._fold, share) for share in folding.shares]
        *self._heads, readout = self._run([*folds, lambda: w["mlp.W_out"] @ self._unembed])
        scores = torch.cat([share.scores for share in self._heads], dim=1)
        rows = torch.cat([share.rows.flatten(0, 1) for share in self._heads])
        self.tables = Tables(scores, rows, constant, readout)

    def _fold(self, share: slice) -> _Heads:
        W_Q, W_K, W_V, W_O, b_Q, b_K, b_V = (
            self._w[f"attn.{name}"][share] for name in ("W_Q", "W_K", "W_V", "W_O", "b_Q", "b_K", "b_V")
        )
        query = self._answer @ W_Q + b_Q
        # q·k of all rows at once: W_K q is one vector for each head.
        seen = (W_K @ query[..., None]).squeeze(2).T
        scores = (self._x @ seen + (b_K * query).sum(1)) * self._scale
        values = self._x @ W_V + b_V[:, None]
        onward = W_O @ self._onward
        return _Heads(query, seen, scores, values, onward, values @ onward)

    def gradients(self, by: Tables) -> dict[str, Tensor]:
        """The gradient with respect to every weight, from that with respect to the tables."""
        w, d_mlp = self._w, self._w["mlp.W_in"].shape[1]
        by_rows = by.rows.unflatten(0, (-1, len(self._x)))
        backs = [
            partial(self._back, share, computed, by.scores[:, share], by_rows[share])
            for share, computed in zip(self._folding.shares, self._heads, strict=True)
        ]
        *heads, (by_W_out, by_unembed) = self._run(
            [*backs, lambda: (by.readout @ self._unembed.T, w["mlp.W_out"].T @ by.readout)]
        )
        block = self._folding.block
        gradients = {
            block.name(f"attn.{name}"): torch.cat([one[name] for one in heads])
            for name in heads[0]
            if name[:2] in ("W_", "b_")
        }
        by_x, by_answer, by_onward = (sum(one[name] for one in heads) for name in ("x", "answer", "onward"))
        by_b_O = self._onward @ by.constant
        by_onward.addr_(self._answer + w["attn.b_O"], by.constant)
        by_unembed.add_(by_onward[:, d_mlp:]).addr_(w["mlp.b_out"], by.constant[d_mlp:])
        n_classes = self._folding.n_classes
        gradients |= {
            block.name("attn.b_O"): by_b_O,
            block.name("mlp.W_in"): by_onward[:, :d_mlp],
            block.name("mlp.b_in"): by.constant[:d_mlp],
            block.name("mlp.W_out"): by_W_out,
            block.name("mlp.b_out"): self._unembed @ by.constant[d_mlp:],
            "unembed.W_U": by_unembed[:, :n_classes],
            "unembed.b_U": by.constant[d_mlp : d_mlp + n_classes],
        }
        n_ctx, d_vocab = len(w["pos_embed.W_pos"]), len(w["embed.W_E"])
        streams = by_x.new_zeros(n_ctx * d_vocab, by_x.shape[1]).index_copy_(0, self._folding.used, by_x)
        streams[-d_vocab + self._folding.last_token] += by_answer + by_b_O
        by_position = streams.unflatten(0, (n_ctx, d_vocab))
        return gradients | {"embed.W_E": by_position.sum(0), "pos_embed.W_pos": by_position.sum(1)}

    def _back(self, share: slice, heads: _Heads, by_scores: Tensor, by_rows: Tensor) -> dict[str, Tensor]:
        """The gradients of some heads' weights, of every row's stream, the last one's, and [W_in | W_U]."""
        W_Q, W_K, W_V, W_O, b_K = (
            self._w[f"attn.{name}"][share] for name in ("W_Q", "W_K", "W_V", "W_O", "b_K")
        )
        by_scores = by_scores * self._scale
        by_seen, by_all = self._x.T @ by_scores, by_scores.sum(0)[:, None]
        by_query = (by_seen.T[:, None] @ W_K).squeeze(1) + b_K * by_all
        by_values = by_rows @ heads.onward.mT
        by_value_of_row = by_values.transpose(0, 1).flatten(1)
        by_onward = heads.values.mT @ by_rows
        return {
            "W_Q": self._answer[:, None] * by_query[:, None],
            "W_K": by_seen.T[..., None] * heads.query[:, None],
            "W_V": self._x.T @ by_values,
            "W_O": by_onward @ self._onward.T,
            "b_Q": by_query,
            "b_K": heads.query * by_all,
            "b_V": by_values.sum(1),
            "x": torch.addmm(by_scores @ heads.seen.T, by_value_of_row, W_V.mT.flatten(0, 1)),
            "answer": (W_Q @ by_query[..., None]).sum((0, 2)),
            "onward": W_O.flatten(0, 1).T @ by_onward.flatten(0, 1),
        }
