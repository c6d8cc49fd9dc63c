"""Losses, guesses and gradients on the examples of a task: what a training step and an evaluation need of the
weights.

Matrix products give other last digits on other numbers of threads, so each is computed by one thread, on
pieces of the examples (or of the result) that do not depend on their number, and what pieces have in common
is added in their order.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from functools import cached_property, partial, reduce
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor
from torch.nn import functional as F

from ..memory import keep_memory
from ..models import (
    Folded,
    Folding,
    Jobs,
    NetworkConfig,
    OneLayer,
    Tables,
    Weights,
    one_after_the_other,
)
from ..tasks import Sample, Task
from .loss import LOSSES, losses_and_gradient

PIECE = 960
"""Examples that a thread computes at a time, roughly: few enough for its cache."""

Group = tuple[Tensor, ...]
"""What is known of some examples: tensors of as many rows."""


class Values(NamedTuple):
    """The loss of each example, and the class of its largest logit; of each of its answers, where a task asks
    several (0 for one that is not asked)."""

    losses: Float[Tensor, "*network_n_answer"]
    guesses: Int[Tensor, "*network_n_answer"]


class Evaluation(NamedTuple):
    """What the weights say of all examples.

    Attributes:
        train: of the training examples, in the order of their rows.
        test: of the test examples.
        gradients: of the mean training loss with respect to every learning weight; None where they were not
            asked for.
    """

    train: Values
    test: Values
    gradients: dict[str, Tensor] | None


class Examples:
    """The training and test examples of a task, and a network that learns them: the right answers, or the
    labels (logits) that are given.

    Attributes:
        run: what does the jobs; `workers` makes one.
    """

    def __init__(
        self,
        weights: Weights,
        learning: Weights,
        config: NetworkConfig,
        loss: str,
        task: Task,
        train: Int[Tensor, "n_train"],
        test: Int[Tensor, "n_test"],
        labels: Int[Tensor, "n *answer"] | None = None,
        smoothing: float = 0.0,
        temperature: float = 1.0,
    ) -> None:
        self.run: Jobs = torch.no_grad()(one_after_the_other)
        self._weights, self._learning, self._config = weights, learning, config
        self._task, self._reads = task, task.reads
        self._loss, self._loss_and_gradient = LOSSES[loss], losses_and_gradient(loss, smoothing, temperature)
        self._inputs = config.read(task.inputs, task.reads).to(train.device)
        self._targets = (task.columns if labels is None else labels).to(train.device)
        self._some_unasked = bool((self._targets < 0).any())
        self._train, self._test = self._group(train), self._group(test)

    def evaluation(self, *, gradients: bool) -> Evaluation:
        """Losses and guesses of all examples; with `gradients`, what an update on all needs too."""
        if not gradients:
            train, test = self._seen(self._train, self._test)
            return Evaluation(train, test, None)
        (train, test), by_weight = self._learned(self._train, self._test)
        return Evaluation(train, test, by_weight)

    def gradients(self, rows: Int[Tensor, "m"] | None, number: int = 0) -> dict[str, Tensor]:
        """The gradient of the mean loss with respect to every learning weight, on these rows of the table, or
        on all training examples; `number` is that of the update, for what is drawn anew in each."""
        return self._learned(self._train if rows is None else self._group(rows))[1]

    def learn_from(self, sample: Sample) -> None:
        """Takes fresh examples for the training examples, until others come."""
        device = self._inputs.device
        answers = self._task.logit_of(self._task.of_one_axis(sample.answers))
        self._train = self._config.read(sample.inputs, self._reads).to(device), answers.to(device)

    @property
    def answers_learned(self) -> Int[Tensor, "m *answer"]:
        """The logits of the answers to the training examples, as they stand now; -1 where none is asked."""
        return self._train[-1]

    def _group(self, rows: Int[Tensor, "m"]) -> Group:
        return self._inputs[rows], self._targets[rows]

    def _seen(self, *groups: Group) -> list[Values]:
        """Losses and guesses of groups of examples."""
        return list(map(joined, self._in_pieces(*((self._see, group) for group in groups))))

    def _learned(self, group: Group, *others: Group) -> tuple[list[Values], dict[str, Tensor]]:
        """The gradient of a group's mean loss; and, if there are others, losses and guesses of all."""
        learned, *seen = self._in_pieces(
            (partial(self._learn, 1 / max(1, asked(group[-1])), bool(others)), group),
            *((self._see, other) for other in others),
        )  # fmt: skip
        values, gradients = zip(*learned, strict=True)
        summed = dict(zip(self._learning, map(_sum, zip(*gradients, strict=True)), strict=True))
        # In the weight's own layout: the fused optimisers read memory as it lies, whatever the strides say.
        by_weight = {name: gradient.contiguous() for name, gradient in summed.items()}
        return list(map(joined, (values, *seen))) if others else [], by_weight

    def _in_pieces(self, *work: tuple[Callable[..., Any], Group]) -> list[list[Any]]:
        """What functions give for every piece of their examples; all pieces are one heap of jobs."""
        size = self._piece
        jobs = [[partial(function, *piece) for piece in _pieces(group, size)] for function, group in work]
        done = iter(self.run(list(itertools.chain(*jobs))))
        return [list(itertools.islice(done, len(each))) for each in jobs]

    @property
    def _piece(self) -> int:
        """How many examples are computed at a time."""
        return self._config.together(self._reads) or PIECE

    def _logits(self, inputs: Shaped[Tensor, "n *example"]) -> Float[Tensor, "n *answer classes"]:
        return self._config.logits(self._config.tie(self._weights), inputs, self._reads)

    def _both_ways(
        self, *examples: Shaped[Tensor, "n ..."]
    ) -> tuple[Float[Tensor, "n *answer classes"], Callable[[Tensor], Sequence[Tensor]]]:
        """Logits, and what gives the gradient of every learning weight from that of the logits; of all that
        is known of examples but their targets."""
        with torch.enable_grad():
            logits = self._logits(*examples)
        learning = list(self._learning.values())
        back = partial(torch.autograd.grad, logits, learning, allow_unused=True, materialize_grads=True)
        return logits.detach(), back

    def _see(self, inputs: Shaped[Tensor, "n *example"], targets: Int[Tensor, "n *answer"]) -> Values:
        logits = self._logits(inputs)
        losses = self._loss(*of_each_answer(logits, targets))
        return Values(_where_asked(losses, targets), logits.argmax(-1))

    def _learn(
        self,
        weight: float,
        evaluated: bool,
        *piece: Shaped[Tensor, "n ..."],
    ) -> tuple[Values | None, Sequence[Tensor]]:
        *examples, targets = piece
        logits, back = self._both_ways(*examples)
        losses, by_logit = self._loss_and_gradient(*of_each_answer(logits, targets), weight)
        if self._some_unasked or logits.ndim > 2:
            by_logit = by_logit.view_as(logits).masked_fill(targets[..., None] < 0, 0)
        values = Values(_where_asked(losses, targets), logits.argmax(-1)) if evaluated else None
        return values, back(by_logit)


def of_each_answer(
    logits: Float[Tensor, "n *answer classes"], targets: Int[Tensor, "n *answer"]
) -> tuple[Float[Tensor, "asked classes"], Int[Tensor, "asked"]]:
    """One row for every answer; one that is not asked stands as if class 0 were right."""
    return logits.flatten(0, -2), targets.flatten().clamp(min=0)


def _where_asked(
    losses: Float[Tensor, "asked"], targets: Int[Tensor, "n *answer"]
) -> Float[Tensor, "n *answer"]:
    """The losses of `of_each_answer` by example and answer: 0 where none is asked."""
    return losses.view_as(targets).masked_fill(targets < 0, 0)


def asked(targets: Int[Tensor, "n *answer"]) -> int:
    """How many answers are asked."""
    return int((targets >= 0).sum())


class OneLayerExamples(Examples):
    """The same numbers for one layer of ReLU neurons without normalisation (`models.one_layer`), several
    times faster: examples are few at a time, so that the neurons stay in a core's cache."""

    @cached_property
    def _layer(self) -> OneLayer:
        layer = self.layer(self._config, self._task, self._inputs.device)
        assert layer is not None, "one layer"
        return layer

    @staticmethod
    def layer(config: NetworkConfig, task: Task, device: torch.device) -> OneLayer | None:
        """The layer that is trained so; None where there are others, or not here."""
        return config.one_layer(task.reads) if device.type == "cpu" else None

    @property
    def _piece(self) -> int:
        return max(1, PIECE // (3 * len(self._reads.answers)))

    def _logits(self, inputs: Shaped[Tensor, "n *example"]) -> Float[Tensor, "n *answer classes"]:
        return self._layer(self._weights, inputs)[0]

    def _both_ways(
        self, *examples: Shaped[Tensor, "n ..."]
    ) -> tuple[Float[Tensor, "n *answer classes"], Callable[[Tensor], Sequence[Tensor]]]:
        (inputs,) = examples
        logits, back = self._layer(self._weights, inputs)

        def of_learning(by_logits: Tensor) -> Sequence[Tensor]:
            gradients = self._config.untie(back(by_logits))
            return [gradients[name] for name in self._learning]

        return logits, of_learning


class FoldedExamples(Examples):
    """The same numbers for networks that fold into tables (`models.folded`), several times faster.

    The gradient is written out, that of the tables by sparse products over the rows that the examples use.
    """

    @cached_property
    def _folding(self) -> Folding:
        folding = self.folding(self._config, self._task, self._inputs.device)
        assert folding is not None, "a network that folds"
        with warnings.catch_warnings():  # torch says once that sparse tensors of this kind are new
            warnings.simplefilter("ignore")
            torch.sparse_csr_tensor([0, 1], [0], [1.0], (1, 1), check_invariants=False)
        return folding

    @cached_property
    def _users_of_train(self) -> _Users:
        return _Users(self._train[1], self._folding.n_rows)

    @staticmethod
    def folding(config: NetworkConfig, task: Task, device: torch.device) -> Folding | None:
        """How a network is trained so on these examples; None where it does not fold, or not here."""
        if device.type != "cpu" or not torch.backends.mkl.is_available():
            return None
        return config.folding(config.read(task.inputs, task.reads), task.reads)

    def _group(self, rows: Int[Tensor, "m"]) -> Group:
        table_rows = self._folding.rows[rows]
        return table_rows, self._folding.bags(table_rows), self._targets[rows]

    def _seen(self, *groups: Group) -> list[Values]:
        see = partial(self._see_folded, Folded(self._folding, self._weights, self.run).tables)
        return list(map(joined, self._in_pieces(*((see, group) for group in groups))))

    def _learned(self, group: Group, *others: Group) -> tuple[list[Values], dict[str, Tensor]]:
        network = Folded(self._folding, self._weights, self.run)
        tables = network.tables
        n, width = len(group[0]), tables.rows.shape[1]
        # The gradient of what is summed in each example: of the neurons before the nonlinearity, and of the
        # logits.
        sums = tables.rows.new_empty(n, width)
        learned, *seen = self._in_pieces(
            (partial(self._learn_folded, tables, 1 / n, bool(others)), (*group, sums)),
            *((partial(self._see_folded, tables), other) for other in others),
        )  # fmt: skip
        values, attention, by_scores, by_readout, by_constant = zip(*learned, strict=True)
        users = self._users_of_train if group is self._train else _Users(group[1], self._folding.n_rows)
        by_rows = torch.cat(self.run(users.weighted_sums(torch.cat(attention), sums)))
        by_filled = F.pad(_sum(by_readout).T, (0, tables.readout.shape[1] - by_readout[0].shape[0]))
        by_tables = Tables(_sum(by_scores), by_rows, _sum(by_constant), by_filled)
        gradients = self._config.untie(network.gradients(by_tables))
        by_weight = {name: gradients[name].contiguous() for name in self._learning}
        return list(map(joined, (values, *seen))) if others else [], by_weight

    def _see_folded(
        self,
        tables: Tables,
        rows: Int[Tensor, "n pos"],
        bags: Int[Tensor, "n pos_head"],
        targets: Int[Tensor, "n"],
    ) -> Values:
        logits = self._folding.forward(tables, rows, bags)[2]
        return Values(self._loss(logits, targets), logits.argmax(1))

    def _learn_folded(
        self,
        tables: Tables,
        weight: float,
        evaluated: bool,
        rows: Int[Tensor, "n pos"],
        bags: Int[Tensor, "n pos_head"],
        targets: Int[Tensor, "n"],
        sums: Float[Tensor, "n width"],
    ) -> tuple[Values | None, Tensor, Tensor, Tensor, Tensor]:
        """Values, attention, gradients of scores, readout (transposed) and constant; fills `sums`."""
        pattern, neurons, logits = self._folding.forward(tables, rows, bags)
        losses, by_logit = self._loss_and_gradient(logits, targets, weight)
        d_mlp, width = neurons.shape[1], neurons.shape[1] + logits.shape[1]
        sums[:, d_mlp:width], sums[:, width:] = by_logit, 0
        by_neuron = by_logit @ tables.readout[:, : logits.shape[1]].T
        torch.ops.aten.threshold_backward.grad_input(by_neuron, neurons, 0, grad_input=sums[:, :d_mlp])
        starts = torch.arange(0, bags.numel() + 1, bags.shape[1], dtype=torch.int32)
        nothing, shape = torch.zeros_like(pattern).flatten(), (len(bags), len(tables.rows))
        uses = torch.sparse_csr_tensor(starts, bags.flatten(), nothing, shape, check_invariants=False)
        by_attention = torch.sparse.sampled_addmm(uses, sums, tables.rows.T, beta=0).values().view_as(pattern)
        alpha = self._folding.config.attention_mixing
        softmax = pattern if alpha == 1 else F.embedding(rows, tables.scores).softmax(1)
        by_score = softmax * (by_attention - (softmax * by_attention).sum(1, keepdim=True)) * alpha
        by_scores = torch.zeros_like(tables.scores).index_add_(0, rows.flatten(), by_score.flatten(0, 1))
        values = Values(losses, logits.argmax(1)) if evaluated else None
        return values, pattern, by_scores, by_logit.T @ neurons, sums.sum(0)


class _Users:
    """The uses of the rows of a table by examples, by row: which examples use it."""

    def __init__(self, bags: Int[Tensor, "n used"], n_rows: int) -> None:
        self._order = bags.flatten().argsort(stable=True)
        self._users = (self._order // bags.shape[1]).to(torch.int32)
        counts = bags.flatten().bincount(minlength=n_rows)
        self._starts = torch.cat([counts.new_zeros(1), counts.cumsum(0)]).to(torch.int32)
        blocks = len(_pieces((bags,), PIECE))
        edges = torch.searchsorted(self._starts, torch.arange(1, blocks) * (bags.numel() / blocks)).tolist()
        self._blocks = [(start, end) for start, end in itertools.pairwise([0, *edges, n_rows]) if end > start]

    def weighted_sums(
        self, weights: Float[Tensor, "n pos head"], values: Float[Tensor, "n width"]
    ) -> list[Callable[[], Tensor]]:
        """Jobs that give, by block of rows, the sum of its users' values times the uses' weights."""
        by_row = weights.flatten()[self._order]

        def block(first: int, end: int) -> Tensor:
            starts = self._starts[first : end + 1]
            mine = slice(int(starts[0]), int(starts[-1]))
            return F.embedding_bag(
                self._users[mine], values, starts - starts[0], mode="sum",
                per_sample_weights=by_row[mine], include_last_offset=True,
            )  # fmt: skip

        return [partial(block, *edges) for edges in self._blocks]


def way_to_learn(config: NetworkConfig, task: Task, train: Int[Tensor, "n_train"]) -> type[Examples]:
    """The fastest way to learn these examples. Which ones are fresh is unknown before they are drawn: they do
    not fold."""
    if len(train) > 0 and FoldedExamples.folding(config, task, train.device) is not None:
        return FoldedExamples
    return Examples if OneLayerExamples.layer(config, task, train.device) is None else OneLayerExamples


def _pieces(group: Group, size: int) -> list[Group]:
    """Examples cut into pieces of about this size; one piece on a GPU."""
    n = len(group[0])
    return cut(group, max(1, round(n / size)) if group[0].device.type == "cpu" else 1)


def cut(group: Group, count: int) -> list[Group]:
    """Examples cut into so many pieces, as even as may be."""
    edges = [len(group[0]) * i // count for i in range(count + 1)]
    return [tuple(rows[start:end] for rows in group) for start, end in itertools.pairwise(edges)]


def joined(pieces: Sequence[Values], dim: int = 0) -> Values:
    """The values of all pieces, one piece after the other."""
    return Values(*(torch.cat(values, dim) for values in zip(*pieces, strict=True)))


def _sum(tensors: Sequence[Tensor]) -> Tensor:
    """Their sum, added in their order; the first is used for it."""
    return reduce(Tensor.add_, tensors)


@contextmanager
def one_thread() -> Iterator[None]:
    """Lets torch compute with one thread in this thread of Python, and with as many as before afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def workers(count: int) -> Iterator[Jobs]:
    """Does jobs in `count` threads, of which the caller's is one; 0 leaves everything to torch.

    Each computes with one thread of torch. That of the caller must do so already (`one_thread`).
    """
    if count == 0:
        yield torch.no_grad()(one_after_the_other)
        return

    def run(jobs: Sequence[Callable[[], Any]]) -> list[Any]:
        done: list[Any] = [None] * len(jobs)
        heap = iter(enumerate(jobs))

        def work() -> None:
            with torch.no_grad():  # which every thread has to itself
                for i, job in heap:
                    done[i] = job()

        helpers = [pool.submit(work) for _ in range(min(count, len(jobs)) - 1)]
        try:
            work()
        finally:
            wait(helpers)
        for helper in helpers:
            helper.result()
        return done

    keep_memory()
    # torch keeps the number for each thread apart, so every worker sets its own.
    pool = ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(1,))
    try:
        yield run
    finally:
        pool.shutdown()
