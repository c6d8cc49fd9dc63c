"""One layer of ReLU neurons without normalisation, on tokens: its logits at the answers of a few examples,
and the way back to its weights, written out.

What stands before the attention depends on (position, token) alone, so queries, keys, values and scores are
computed for every such pair and looked up; W_out W_U is one matrix. Where one answer is read behind the same
last token and there are many examples, `folded` is faster still. For finite weights both are exact.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..tasks import Reads
from .base import Weights

if TYPE_CHECKING:
    from .transformer import ModelConfig

Back = Callable[[Float[Tensor, "n *answer classes"]], Weights]
"""From the gradient of the logits to that of every weight."""

_TABLE = 2**20
"""Scores that are worth a table, at most."""


class OneLayer:
    """Networks of one configuration on the examples of a task; `of` says which can be computed so."""

    def __init__(self, config: ModelConfig, reads: Reads) -> None:
        self._config, self._vocab, self._n_ctx = config, reads.d_vocab, reads.n_ctx
        (self._block,) = config.blocks(reads)
        self._answers = torch.tensor(reads.positions)
        after = torch.arange(reads.n_ctx) > self._answers[:, None]
        self._hidden = after if config.attention_dir == "causal" else torch.zeros_like(after)
        heads = torch.arange(config.n_heads)[:, None]
        self._at_key = torch.arange(0, self._n_rows, self._vocab)
        self._at_query = torch.arange(0, self._n_queries, self._vocab)
        self._head_of_rows = heads * self._n_rows
        self._head_of_scores = heads[..., None] * (self._n_queries * self._n_rows)

    @classmethod
    def of(cls, config: ModelConfig, reads: Reads) -> OneLayer | None:
        """Networks of one such layer; None where there are more scores than are worth a table."""
        scores = config.n_heads * len(reads.positions) * reads.n_ctx * reads.d_vocab**2
        return cls(config, reads) if scores <= _TABLE else None

    @property
    def _n_rows(self) -> int:
        return self._n_ctx * self._vocab

    @property
    def _n_queries(self) -> int:
        return len(self._answers) * self._vocab

    def __call__(
        self, weights: Weights, tokens: Int[Tensor, "n pos"]
    ) -> tuple[Float[Tensor, "n *answer classes"], Back]:
        """Logits, and the way back from them. No autograd."""
        config, (n, n_ctx), n_answers = self._config, tokens.shape, len(self._answers)
        n_heads, d_head, d_mlp = config.n_heads, config.d_head, config.d_mlp
        prefix = self._block.name("")
        w = {name.removeprefix(prefix): weight.detach() for name, weight in weights.items()}
        x = w["embed.W_E"] + w["pos_embed.W_pos"][:, None]
        at_answers = x[self._answers].flatten(0, 1)
        x = x.flatten(0, 1)
        W_Q, W_K, W_V = (w[f"attn.W_{letter}"].transpose(0, 1).flatten(1) for letter in "QKV")
        q, k, v = (  # [head, row, d_head]
            torch.addmm(w[f"attn.b_{letter}"].flatten(), stream, matrix)
            .unflatten(1, (n_heads, d_head))
            .transpose(0, 1)
            .contiguous()
            for letter, stream, matrix in (("Q", at_answers, W_Q), ("K", x, W_K), ("V", x, W_V))
        )
        scale = 1 / math.sqrt(d_head)
        scores = q.mul(scale) @ k.mT
        by_place = scores.view(n_heads, n_answers, self._vocab, n_ctx, self._vocab)
        by_place.masked_fill_(self._hidden[:, None, :, None], -torch.inf)

        rows, queries = tokens + self._at_key, tokens[:, self._answers] + self._at_query
        of_scores = (queries * self._n_rows)[..., None] + rows[:, None]
        of_scores = (of_scores[:, None] + self._head_of_scores).flatten()  # n head answer pos
        of_values = (rows[:, None] + self._head_of_rows).flatten()  # n head pos
        softmax = scores.view(-1)[of_scores].view(n * n_heads, n_answers, n_ctx).softmax(2)
        pattern, alpha = softmax, config.attention_mixing
        if alpha != 1:
            seen = (~self._hidden).to(softmax.dtype)
            pattern = (alpha * softmax).add_(seen, alpha=1 - alpha)
        values = v.view(-1, d_head)[of_values].view(n * n_heads, n_ctx, d_head)
        z = _product(pattern, values).view(n, n_heads, n_answers, d_head)
        z = z.transpose(1, 2).reshape(n * n_answers, -1)

        W_O = w["attn.W_O"].flatten(0, 1)
        stream = torch.addmm(at_answers[queries.flatten()], z, W_O).add_(w["attn.b_O"])
        onward, readout = torch.cat([w["mlp.W_in"], w["unembed.W_U"]], 1), w["mlp.W_out"] @ w["unembed.W_U"]
        direct = torch.addmv(w["unembed.b_U"], w["unembed.W_U"].T, w["mlp.b_out"])
        sums = torch.addmm(torch.cat([w["mlp.b_in"], direct]), stream, onward)
        neurons = sums[:, :d_mlp].relu_()
        logits = torch.addmm(sums[:, d_mlp:], neurons, readout)

        def back(by_logits: Float[Tensor, "n *answer classes"]) -> Weights:
            by_logit = by_logits.flatten(0, -2)
            by_sums = torch.empty_like(sums)
            by_sums[:, d_mlp:] = by_logit
            torch.ops.aten.threshold_backward.grad_input(
                by_logit @ readout.T, neurons, 0, grad_input=by_sums[:, :d_mlp]
            )
            by_readout, by_constant = neurons.T @ by_logit, by_sums.sum(0)
            by_onward, by_stream = stream.T @ by_sums, by_sums @ onward.T
            by_direct = by_constant[d_mlp:]
            by_z = (by_stream @ W_O.T).view(n, n_answers, n_heads, d_head).transpose(1, 2).flatten(0, 1)
            by_values = _summed(v.view(-1, d_head), of_values, _product(pattern.mT, by_z).view(-1, d_head))
            by_pattern = _product(by_z, values.mT)
            by_softmax = torch._softmax_backward_data(by_pattern, softmax, 2, softmax.dtype)
            by_scores = _summed(scores.view(-1), of_scores, by_softmax.flatten()).mul_(alpha * scale)
            by_scores = by_scores.view_as(scores)
            by_q, by_k, by_v = (
                by.view(n_heads, -1, d_head).transpose(0, 1).flatten(1)
                for by in (by_scores @ k, by_scores.mT @ q, by_values)
            )
            by_answers = _summed(at_answers, queries.flatten(), by_stream).addmm_(by_q, W_Q.T)
            by_x = torch.addmm(by_k @ W_K.T, by_v, W_V.T).view(n_ctx, self._vocab, -1)
            by_x.index_add_(0, self._answers, by_answers.view(n_answers, self._vocab, -1))
            gradients = {
                "embed.W_E": by_x.sum(0),
                "pos_embed.W_pos": by_x.sum(1),
                "attn.W_O": (z.T @ by_stream).view_as(w["attn.W_O"]),
                "attn.b_O": by_stream.sum(0),
                "mlp.W_in": by_onward[:, :d_mlp],
                "mlp.b_in": by_constant[:d_mlp],
                "mlp.W_out": by_readout @ w["unembed.W_U"].T,
                "mlp.b_out": w["unembed.W_U"] @ by_direct,
                "unembed.W_U": torch.addmm(by_onward[:, d_mlp:], w["mlp.W_out"].T, by_readout)
                + torch.outer(w["mlp.b_out"], by_direct),
                "unembed.b_U": by_direct,
            }
            for letter, read, by in (("Q", at_answers, by_q), ("K", x, by_k), ("V", x, by_v)):
                by_matrix = (read.T @ by).unflatten(1, (n_heads, d_head)).transpose(0, 1)
                gradients |= {f"attn.W_{letter}": by_matrix, f"attn.b_{letter}": by.sum(0).view(n_heads, -1)}
            return {name if name in weights else prefix + name: by for name, by in gradients.items()}

        return (logits if n_answers == 1 else logits.view(n, n_answers, -1)), back


def _product(
    left: Float[Tensor, "n row inner"], right: Float[Tensor, "n inner column"]
) -> Float[Tensor, "n row column"]:
    """A B of many small matrices; those of one row or column by elementwise products, which take a third of
    the time."""
    if left.shape[2] == 1:
        return left * right
    return (left.mT * right).sum(1, keepdim=True) if left.shape[1] == 1 else left @ right


def _summed(
    like: Float[Tensor, "row *width"], rows: Int[Tensor, "use"], values: Float[Tensor, "use *width"]
) -> Float[Tensor, "row *width"]:
    """The sum of the values of each row's uses, in their order."""
    return torch.zeros_like(like).index_add_(0, rows, values)
