"""Losses, right answers and gradients on examples of a task: what a training step and an evaluation need of the weights.

Matrix products give other last digits on other numbers of threads, so each is computed by one thread, on pieces of the examples (or of the
result) that do not depend on their number, and what pieces have in common is added in their order.
"""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from ..models import Folding, ModelConfig, Tables, Weights, answer_logits

PIECE = 512
"""Examples that one thread computes at a time, roughly: few enough for what they need to stay in its cache."""

Loss = Callable[[Tensor, Tensor], Tensor]
Computed = tuple[Tensor, Tensor, list[Tensor]]
"""The loss of each example, whether it is right, and the gradient of the mean loss for every learning weight."""
Each = Callable[[Callable[[Any], Any], Sequence[Any]], list[Any]]
"""Applies a function to every piece and returns the results in the order of the pieces."""


class Examples:
    """The examples of a task, and a network that learns them.

    Attributes:
        each: what computes the pieces; `workers` makes one.
    """

    def __init__(
        self,
        weights: Weights,
        learning: Sequence[Tensor],
        config: ModelConfig,
        loss: Loss,
        inputs: Int[Tensor, "n pos"],
        targets: Int[Tensor, "n"],
    ) -> None:
        self.each: Each = lambda function, pieces: list(map(function, pieces))
        self._weights, self._learning, self._config, self._loss = weights, learning, config, loss
        self._inputs, self._targets = inputs, targets

    def values(self, rows: Int[Tensor, "m"]) -> tuple[Float[Tensor, "m"], Bool[Tensor, "m"]]:
        """The loss of each of these rows of the table, and whether its largest logit is the answer's."""

        def measured(piece: slice) -> tuple[Tensor, Tensor]:
            with torch.no_grad():
                some = rows[piece]
                logits, targets = self._logits(some), self._targets[some]
                return self._loss(logits, targets), logits.argmax(1) == targets

        losses, right = zip(*self.each(measured, self._pieces(len(rows))), strict=True)
        return torch.cat(losses), torch.cat(right)

    def _logits(self, rows: Int[Tensor, "m"]) -> Float[Tensor, "m classes"]:
        return answer_logits(self._weights, self._inputs[rows], self._config)

    def gradients(self, rows: Int[Tensor, "m"]) -> tuple[Float[Tensor, "m"], Bool[Tensor, "m"], list[Tensor]]:
        """What `values` gives, and the gradient of the mean loss with respect to every learning weight."""

        def computed(piece: slice) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
            some = rows[piece]
            targets = self._targets[some]
            with torch.enable_grad():
                logits = self._logits(some)
                losses = self._loss(logits, targets)
                share = torch.full_like(losses, 1 / len(rows))
                gradients = torch.autograd.grad(losses, self._learning, share, allow_unused=True, materialize_grads=True)
            return losses.detach(), logits.detach().argmax(1) == targets, gradients

        losses, right, pieces = zip(*self.each(computed, self._pieces(len(rows))), strict=True)
        first, *others = pieces
        # In the weight's own layout: the fused optimisers read memory as it lies, whatever the strides say.
        total = [gradient.contiguous() for gradient in first]
        for other in others:
            for sum_, gradient in zip(total, other, strict=True):
                sum_ += gradient
        return torch.cat(losses), torch.cat(right), total

    def _pieces(self, n: int) -> list[slice]:
        """n rows cut into as many pieces of about the same size as a power of two gives nearest to PIECE; one piece on a GPU."""
        return _cut(n, 2 ** max(0, round(math.log2(n / PIECE))) if self._inputs.device.type == "cpu" and n else 1)


def _cut(n: int, count: int) -> list[slice]:
    edges = sorted({n * i // count for i in range(count + 1)}) if n else [0, 0]
    return [slice(*pair) for pair in itertools.pairwise(edges)]


class FoldedExamples(Examples):
    """The same numbers for networks that fold into tables (`models.folded`), several times faster.

    The gradient of the tables is written out, by sparse products over the rows that the examples use, and autograd takes it from there to
    the weights. That is for full batches: the structure of a batch that changes at every step would cost more than it saves.
    """

    def __init__(
        self, weights: Weights, learning: Sequence[Tensor], config: ModelConfig, loss: Loss, inputs: Int[Tensor, "n pos"],
        targets: Int[Tensor, "n"], d_vocab: int, batch: Int[Tensor, "m"],
    ) -> None:  # fmt: skip
        super().__init__(weights, learning, config, loss, inputs, targets)
        self._folding = Folding(inputs, d_vocab, config)
        self._batch = batch
        self._rows = self._folding.rows[batch]
        bags = self._folding.bags(self._rows)
        self._starts = torch.arange(0, bags.numel() + 1, bags.shape[1], dtype=torch.int32)
        self._bags = bags
        # The same pairs of (example, row of T), by row: which examples use it, and where their attention to it stands.
        self._order = bags.flatten().argsort(stable=True)
        self._users = (self._order // bags.shape[1]).to(torch.int32)
        counts = bags.flatten().bincount(minlength=config.n_heads * int(self._folding.rows.max() + 1))
        self._row_starts = torch.cat([counts.new_zeros(1), counts.cumsum(0)]).to(torch.int32)
        blocks = len(self._pieces(len(batch)))
        edges = torch.searchsorted(self._row_starts, torch.arange(blocks + 1) * (bags.numel() / blocks)).tolist()
        edges[0], edges[-1] = 0, len(counts)
        self._row_blocks = [(start, end) for start, end in itertools.pairwise(edges) if end > start]
        self._tables: Tables | None = None

    @staticmethod
    def takes(config: ModelConfig, inputs: Int[Tensor, "n pos"]) -> bool:
        """Whether a network can be trained so on these examples, on this machine."""
        on_cpu = inputs.device.type == "cpu" and torch.backends.mkl.is_available()
        return on_cpu and config.act_fn == "relu" and config.d_mlp > 0 and Folding.takes(inputs, config)

    def values(self, rows: Int[Tensor, "m"]) -> tuple[Float[Tensor, "m"], Bool[Tensor, "m"]]:
        with torch.no_grad():
            self._tables = self._folding.tables(self._weights)
        return super().values(rows)

    def _logits(self, rows: Int[Tensor, "m"]) -> Float[Tensor, "m classes"]:
        if torch.is_grad_enabled():
            return super()._logits(rows)
        assert self._tables is not None
        return self._folding.forward(self._tables, self._folding.rows[rows])[2]

    def gradients(self, rows: Int[Tensor, "m"]) -> tuple[Float[Tensor, "m"], Bool[Tensor, "m"], list[Tensor]]:
        if rows is not self._batch:
            return super().gradients(rows)
        with torch.enable_grad():
            tables = self._folding.tables(self._weights)
        losses, right, of_tables = self._of_tables(tables)
        of_weights = torch.autograd.grad(
            [tables.scores, tables.rows, tables.constant, tables.readout],
            self._learning,
            of_tables,
            allow_unused=True,
            materialize_grads=True,
        )
        return losses, right, [gradient.contiguous() for gradient in of_weights]

    def _of_tables(self, tables: Tables) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Losses, right answers, and the gradient of the mean loss with respect to every table."""
        scores, table, readout = tables.scores.detach(), tables.rows.detach(), tables.readout.detach()
        fixed = Tables(scores, table, tables.constant.detach(), readout)
        n, (n_rows, width), d_mlp = len(self._rows), table.shape, self._config.d_mlp
        attention = table.new_empty(n, *self._rows.shape[1:], self._config.n_heads)
        by_score = torch.empty_like(attention)
        sums = table.new_empty(n, width)  # the gradient of what is summed: of the neurons before the nonlinearity, and of the logits

        def of_examples(piece: slice) -> tuple[Tensor, Tensor, Tensor]:
            targets = self._targets[self._batch[piece]]
            with torch.no_grad():
                pattern, after, logits = self._folding.forward(fixed, self._rows[piece])
            with torch.enable_grad():
                losses = self._loss(logits.requires_grad_(), targets)
                (by_logit,) = torch.autograd.grad(losses, logits, torch.full_like(losses, 1 / n))
            attention[piece], sums[piece, d_mlp:] = pattern, by_logit
            torch.ops.aten.threshold_backward.grad_input(by_logit @ readout.T, after, 0, grad_input=sums[piece, :d_mlp])
            uses = self._sparse(self._starts[: len(targets) + 1], self._bags[piece].flatten(), table.new_zeros(pattern.numel()), n_rows)
            by_attention = torch.sparse.sampled_addmm(uses, sums[piece], table.T, beta=0).values().view_as(pattern)
            softmax = pattern if self._config.attention_mixing == 1 else F.embedding(self._rows[piece], scores).softmax(1)
            by_score[piece] = softmax * (by_attention - (softmax * by_attention).sum(1, keepdim=True)) * self._config.attention_mixing
            return losses.detach(), logits.detach().argmax(1) == targets, by_logit.T @ after

        losses, right, by_readout = zip(*self.each(of_examples, self._pieces(n)), strict=True)
        weights_by_row = attention.flatten()[self._order]
        by_row = torch.empty_like(table)

        def of_rows(block: tuple[int, int]) -> None:
            starts = self._row_starts[block[0] : block[1] + 1]
            users = slice(int(starts[0]), int(starts[-1]))
            by_row[block[0] : block[1]] = F.embedding_bag(
                self._users[users], sums, starts - starts[0], per_sample_weights=weights_by_row[users], mode="sum", include_last_offset=True
            )

        self.each(of_rows, self._row_blocks)
        by_scores = torch.zeros_like(scores).index_add_(0, self._rows.flatten(), by_score.flatten(0, 1))
        return torch.cat(losses), torch.cat(right), [by_scores, by_row, sums.sum(0), sum(by_readout).T]

    @staticmethod
    def _sparse(starts: Tensor, columns: Tensor, values: Tensor, width: int) -> Tensor:
        return torch.sparse_csr_tensor(starts, columns, values, (len(starts) - 1, width), check_invariants=False)


def examples(
    weights: Weights, learning: Sequence[Tensor], config: ModelConfig, loss: Loss, inputs: Int[Tensor, "n pos"], targets: Int[Tensor, "n"],
    d_vocab: int, batch: Int[Tensor, "m"] | None,
) -> Examples:  # fmt: skip
    """The fastest way that there is to learn these examples; `batch` are the rows of the full batch, where it is one."""
    if batch is not None and FoldedExamples.takes(config, inputs):
        return FoldedExamples(weights, learning, config, loss, inputs, targets, d_vocab, batch)
    return Examples(weights, learning, config, loss, inputs, targets)


@contextmanager
def workers(count: int) -> Iterator[Each]:
    """Applies functions to pieces in `count` threads, in each of which torch computes with one thread; 0 leaves torch as it is."""
    if count == 0:
        yield lambda function, pieces: list(map(function, pieces))
        return
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    # torch keeps the number for each thread apart, so every worker sets its own.
    pool = ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(1,))
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta state", category=UserWarning)
            yield lambda function, pieces: list((pool.map if len(pieces) > 1 and count > 1 else map)(function, pieces))
    finally:
        pool.shutdown()
        torch.set_num_threads(before)
