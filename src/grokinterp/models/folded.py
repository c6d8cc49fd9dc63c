"""A one-layer network without normalisation, seen from the answer position: a weighted sum of few rows of one table.

Each position holds a token, and what it adds, through one head, to what comes after the attention is a row of

    T[position, token, head] = (x W_V + b_V) W_O [W_in | W_U],     x = W_E[token] + W_pos[position]

weighted by the attention, which is a softmax of scores that depend on (position, token, head) alone too, because the last token is the
same in every example. The tables are `folded` from the weights once, differentiably; what is left for each example is a sum of rows, the
nonlinearity and one product with W_L = W_out W_U. It is exact: nothing is approximated, only associativity is used.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from .forward import ACTIVATIONS
from .hooked_transformer import ModelConfig, Weights


@dataclass(frozen=True)
class Tables:
    """What a network does at the answer position.

    Attributes:
        scores: of every used (position, token), before the softmax.
        rows: T, all (position, token) of a head one after the other; the columns are the neurons, then the classes.
        constant: what every example has in the same columns: biases, and the stream of the last position.
        readout: W_out W_U.
    """

    scores: Float[Tensor, "row head"]
    rows: Float[Tensor, "head_row width"]
    constant: Float[Tensor, "width"]
    readout: Float[Tensor, "d_mlp classes"]


class Folding:
    """Networks of one configuration on fixed examples, through their tables.

    Attributes:
        rows: the (position, token) at each position of each example, as numbers of those that occur.
    """

    def __init__(self, tokens: Int[Tensor, "n pos"], d_vocab: int, config: ModelConfig) -> None:
        self.config = config
        n_ctx = tokens.shape[1]
        at = tokens + torch.arange(0, n_ctx * d_vocab, d_vocab)
        self._used, rows = at.unique(return_inverse=True)
        self.rows: Int[Tensor, "n pos"] = rows
        self._last = int(tokens[0, -1])

    @staticmethod
    def takes(tokens: Int[Tensor, "n pos"], config: ModelConfig) -> bool:
        """Whether a configuration can be folded on these examples."""
        return config.n_layers == 1 and config.normalization == "none" and bool((tokens[:, -1] == tokens[0, -1]).all())

    def tables(self, weights: Weights) -> Tables:
        """The tables of a network, differentiable in its weights."""
        w = {name.removeprefix("blocks.0."): weight for name, weight in weights.items()}
        x = (w["embed.W_E"] + w["pos_embed.W_pos"][:, None]).flatten(0, 1)[self._used]
        at_answer = w["embed.W_E"][self._last] + w["pos_embed.W_pos"][-1]
        query = torch.einsum("d,hde->he", at_answer, w["attn.W_Q"]) + w["attn.b_Q"]
        # q·k of all rows at once: W_K q is one vector for each head.
        scores = x @ torch.einsum("hde,he->dh", w["attn.W_K"], query) + (w["attn.b_K"] * query).sum(1)
        mlp = self.config.d_mlp > 0
        onward = torch.cat([w["mlp.W_in"], w["unembed.W_U"]], dim=1) if mlp else w["unembed.W_U"]
        biases = [w["mlp.b_in"], w["mlp.b_out"] @ w["unembed.W_U"] + w["unembed.b_U"]] if mlp else [w["unembed.b_U"]]
        values = torch.einsum("rd,hde->hre", x, w["attn.W_V"]) + w["attn.b_V"][:, None]
        rows = (values @ (w["attn.W_O"] @ onward)).flatten(0, 1)
        constant = (at_answer + w["attn.b_O"]) @ onward + torch.cat(biases)
        readout = w["mlp.W_out"] @ w["unembed.W_U"] if mlp else onward[:0]
        return Tables(scores / math.sqrt(self.config.d_head), rows, constant, readout)

    def bags(self, rows: Int[Tensor, "n pos"]) -> Int[Tensor, "n pos_head"]:
        """The rows of T that each example sums."""
        first = torch.arange(self.config.n_heads) * len(self._used)
        return (rows[..., None] + first).flatten(1).to(torch.int32)

    def forward(
        self, tables: Tables, rows: Int[Tensor, "n pos"]
    ) -> tuple[Float[Tensor, "n pos head"], Float[Tensor, "n d_mlp"], Float[Tensor, "n classes"]]:
        """Pattern, activations after the nonlinearity and logits of some examples (rows of `rows`) at the answer position. No autograd."""
        alpha = self.config.attention_mixing
        pattern = F.embedding(rows, tables.scores).softmax(1)
        if alpha != 1:
            pattern = pattern.mul_(alpha).add_(1 - alpha)
        sums = F.embedding_bag(self.bags(rows), tables.rows, per_sample_weights=pattern.flatten(1), mode="sum").add_(tables.constant)
        before, direct = sums[:, : self.config.d_mlp], sums[:, self.config.d_mlp :]
        after = before.relu_() if self.config.act_fn == "relu" else ACTIVATIONS[self.config.act_fn](before)
        return pattern, after, torch.addmm(direct, after, tables.readout)
