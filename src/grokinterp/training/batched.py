"""Runs that differ in nothing but their seeds, as one program over stacked weights [member, ...]: for a GPU,
which one small network leaves idle.

Every member is an ordinary `Trainer` as far as decisions go: what it records, when it stops, its batches, its
`state`. Only what is computed is computed for all at once: logits by `torch.vmap` of the forward pass, losses
of each example, gradients of the stack, the optimiser elementwise, norms and clipping for each member.

The numbers are those of the run trained alone up to rounding, because sums run in another order. In float64,
metrics agree to 1e-9 over 120 steps, and weights to 1e-8 but for those that the loss does not depend on (b_K,
which a softmax ignores: Adam makes steps of full size out of their rounding). In float32 rounding grows as
training amplifies it, as it does from machine to machine: losses agree to 1e-4 over 20 steps, and a test loss
at lr 1e-2 was .025 nats apart after 200.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..errors import ConfigError, Diverged
from ..models import Weights
from .config import TrainConfig
from .examples import Evaluation, Values, joined
from .loss import LOSSES, losses_and_gradient
from .optimizers import Optimiser
from .scaled import scaled
from .trainer import Snapshot, State, Trainer

_AT_ONCE = 2**18
"""Examples of all members together that are computed at a time."""


def kind(config: TrainConfig) -> str | None:
    """The same text for configurations that can be trained together, each from weights of its own; None where
    none can: Muon takes single matrices, and fresh examples, several answers and what is trained in parts are
    not stacked."""
    one_answer = len(config.make_task().reads.answers) == 1
    alone = config.training.optimizer == "muon" or config.training.data == "fresh" or scaled(config)
    if alone or not one_answer:
        return None
    alike = config.training.model_copy(update={"split_seed": 0})
    changes = {"seed": 0, "threads": 1, "training": alike, "start": None}
    return config.model_copy(update=changes).model_dump_json()


class BatchedTrainer:
    """Iterates over what is worth recording of each member, in the order of the steps: (number of the member,
    Snapshot).

    A member that diverges is given as (number, Diverged), and the others go on without it, as they do without
    those that have ended.

    Attributes:
        members: a Trainer for each configuration, to ask for its `state` while handling its snapshot, and to
            set `paused` of.

    Raises:
        ConfigError: the configurations differ in more than seeds and threads, or the states are of different
            steps.
    """

    def __init__(
        self,
        configs: Sequence[TrainConfig],
        states: Sequence[State | None] | None = None,
        weights: Sequence[Weights | None] | None = None,
    ) -> None:
        if len(kinds := {kind(config) for config in configs}) != 1 or None in kinds:
            what = "only configurations that differ in nothing but seeds and threads"
            raise ConfigError(f"{what}, without muon, can be trained together")
        each_run = zip(
            configs, states or [None] * len(configs), weights or [None] * len(configs), strict=True
        )
        self._running = [_Member(self, n, *each) for n, each in enumerate(each_run)]
        self.members: list[Trainer] = [*self._running]
        if len(steps := {member.step for member in self._running}) != 1:
            what = "only runs at the same step can be trained together"
            raise ConfigError(f"{what}; these are at {sorted(steps)}")
        first = self._running[0]
        self._model, self._training = first.config.model, first.config.training
        loss = self._training.loss
        smoothing, temperature = self._training.label_smoothing or 0.0, self._training.temperature or 1.0
        self._loss, self._loss_and_gradient = LOSSES[loss], losses_and_gradient(loss, smoothing, temperature)
        self._reads = first.task.reads
        self._inputs = self._model.read(first.task.inputs, self._reads).to(first.device)
        self._evaluated: Evaluation | None = None
        self._moments: dict[str, Tensor] | None = None
        self._stack()

    def __iter__(self) -> Iterator[tuple[int, Snapshot | Diverged]]:
        while self._running:
            for member in list(self._running):
                try:
                    snapshot = member.recorded()
                except Diverged as error:
                    member.ended = True
                    yield member.number, error
                    continue
                if snapshot is not None:
                    member.ended = snapshot.last
                    yield member.number, snapshot
            self._go_on_with_the_rest()
            if self._running:
                yield from self._update()

    def drop(self, number: int) -> None:
        """Goes on without a member."""
        next(member for member in self._running if member.number == number).ended = True

    def _go_on_with_the_rest(self) -> None:
        if any(member.ended for member in self._running):
            for member in self._running:
                member.detach()
            self._running = [member for member in self._running if not member.ended]
            self._evaluated = self._moments = None
            if self._running:
                self._stack()

    def _stack(self) -> None:
        """Lays the running members' weights and moments into one tensor each, a row for each member."""
        device = self._running[0].device
        self._weights = {
            name: torch.stack([member.weights[name].detach() for member in self._running])
            for name in self._running[0].weights
        }
        self._weights = self._model.tie(self._weights)
        learning = filter(self._model.trains, self._weights)
        self._learning = {name: self._weights[name].requires_grad_() for name in learning}
        self._optimiser = Optimiser(self._learning, self._training, stacked=True)
        several = [member.moments() for member in self._running]
        of_all = {key: [moments[key] for moments in several] for key in several[0]}
        # A count of updates is one number, the same for all.
        self._optimiser.load({key: torch.stack(x) if x[0].ndim else x[0] for key, x in of_all.items()})
        splits = [member.split for member in self._running]
        self._train_rows = torch.stack([each.train.sort().values for each in splits]).to(device)
        self._test_rows = torch.stack([each.test.sort().values for each in splits]).to(device)
        self._labels = torch.stack([member.labels for member in self._running]).to(device)
        for row, member in enumerate(self._running):
            member.attach(row, {name: weight.detach()[row] for name, weight in self._weights.items()})

    def moments(self, row: int) -> dict[str, Tensor]:
        """The state of the optimiser that belongs to a row of the stack."""
        if self._moments is None:
            self._moments = self._optimiser.state()
        return {key: value[row].clone() if value.ndim else value for key, value in self._moments.items()}

    def evaluation(self, row: int) -> Evaluation:
        """What a member's weights say of its examples; computed for all, gradients stacked, once."""
        if self._evaluated is None:
            if self._running[0].learns_from_all:
                train, gradients = self._learned(self._train_rows)
            else:
                train, gradients = self._seen(self._train_rows), None
            self._evaluated = Evaluation(train, self._seen(self._test_rows), gradients)
        train, test = (Values(values.losses[row], values.guesses[row]) for values in self._evaluated[:2])
        return Evaluation(train, test, None)

    def _update(self) -> Iterator[tuple[int, Diverged]]:
        gradients = self._evaluated.gradients if self._evaluated else None
        if gradients is None:
            batches = [batch for member in self._running if (batch := member.next_batch()) is not None]
            gradients = self._learned(torch.stack(batches) if batches else self._train_rows)[1]
        self._evaluated = self._moments = None
        norms = self._optimiser.update(self._running[0].step + 1, gradients).tolist()
        for member, norm in zip(self._running, norms, strict=True):
            try:
                member.updated(norm)
            except Diverged as error:
                member.ended = True
                yield member.number, error
        self._go_on_with_the_rest()

    def _logits(self, rows: Int[Tensor, "member m"]) -> Float[Tensor, "all classes"]:
        """The logits of these rows of the table, of each member, one member after the other."""

        def of_one(weights: dict[str, Tensor], tokens: Tensor) -> Tensor:
            return self._model.logits(self._model.tie(weights), tokens, self._reads)

        return torch.vmap(of_one)(self._weights, self._inputs[rows]).flatten(0, 1)

    def _seen(self, rows: Int[Tensor, "member m"]) -> Values:
        """Losses and guesses of the examples in these rows of the table, of each member."""
        values = []
        with torch.no_grad():
            for some in self._pieces(rows):
                logits, labels = self._logits(some), self._labels.gather(1, some).flatten()
                losses = self._loss(logits, labels)
                values.append(Values(losses.view_as(some), logits.argmax(1).view_as(some)))
        return joined(values, 1)

    def _learned(
        self, rows: Int[Tensor, "member m"]
    ) -> tuple[Values, dict[str, Float[Tensor, "member ..."]]]:
        """What `_seen` gives, and the gradient of each member's mean loss by its learning weights."""
        values, total = [], {name: torch.zeros_like(weight) for name, weight in self._learning.items()}
        for some in self._pieces(rows):
            labels = self._labels.gather(1, some).flatten()
            with torch.enable_grad():
                logits = self._logits(some)
            constant = logits.detach()
            losses, by_logit = self._loss_and_gradient(constant, labels, 1 / rows.shape[1])
            wrt = list(self._learning.values())
            gradients = torch.autograd.grad(logits, wrt, by_logit, allow_unused=True, materialize_grads=True)
            for sum_, gradient in zip(total.values(), gradients, strict=True):
                sum_ += gradient
            values.append(Values(losses.view_as(some), constant.argmax(1).view_as(some)))
        return joined(values, 1), total

    def _pieces(self, rows: Int[Tensor, "member m"]) -> Sequence[Int[Tensor, "member some"]]:
        return rows.split(max(1, _AT_ONCE // len(rows)), dim=1)


class _Member(Trainer):
    """A run that decides for itself what is recorded; the stack that it has a row of computes."""

    def __init__(
        self,
        batch: BatchedTrainer,
        number: int,
        config: TrainConfig,
        state: State | None,
        weights: Weights | None,
    ) -> None:
        super().__init__(config, state, weights)
        self.number = number
        self.ended = False
        self._batch = batch
        self._row: int | None = None
        self._own_moments = super().moments()

    def attach(self, row: int, weights: Mapping[str, Tensor]) -> None:
        """From now on its weights and moments are a row of the stack."""
        self._row, self.weights = row, dict(weights)

    def detach(self) -> None:
        """Takes along what is its own, so that the stack can go."""
        self._own_moments = self.moments()
        self.weights = {name: weight.clone() for name, weight in self.weights.items()}
        self._row = None

    def moments(self) -> dict[str, Tensor]:
        return self._own_moments if self._row is None else self._batch.moments(self._row)

    def evaluation(self) -> Evaluation:
        assert self._row is not None
        return self._batch.evaluation(self._row)
