"""Configuration -> the sequence of things worth recording. Never touches the disk.

    for snapshot in Trainer(config): ...

`Trainer.state()` is everything that the rest of the run depends on; `Trainer(config, state)` goes on from it
to the same bytes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..errors import ConfigError, Diverged, NotApplicable
from ..memory import free_memory
from ..models import Weights, fits, refuse_untied
from ..tasks import Task
from ..usual import usual_defaults
from ..view import View
from . import monitor
from .batches import Fresh, Rows
from .config import TrainConfig
from .devices import is_accelerator, refuse_other_numbers, resolve_device
from .examples import (
    PIECE,
    Evaluation,
    FoldedExamples,
    OneLayerExamples,
    one_thread,
    way_to_learn,
    workers,
)
from .optimizers import Optimiser
from .scaled import scaled
from .schedule import Progress


@dataclass(frozen=True)
class Snapshot:
    """The network after `step` updates.

    Attributes:
        step: optimiser updates done.
        metrics: losses (nats or squared error) and accuracies (shares) against the labels that are given,
            against right answers as well where these are others, the norm of the last gradient, and the
            monitored measures that apply; None where nothing was evaluated.
        keep: whether the schedule, an event or the end of the run asks for these weights to be saved.
        weights: the live weights; copy what must survive the next step.
        last: whether the run ends here.
    """

    step: int
    metrics: dict[str, float] | None
    keep: bool
    weights: Weights
    last: bool


@dataclass(frozen=True)
class State:
    """All that the rest of a run depends on, at a step whose evaluation is still to come: flat tensors and
    plain JSON."""

    tensors: dict[str, Tensor]
    data: dict[str, Any]


class Trainer:
    """Iterates over the evaluated and the kept steps of a run, training in between.

    Args:
        config: what to train.
        state: what an earlier trainer left; it goes on from there.
        weights: to begin with, in place of those drawn from the seed; needed where the configuration has a
            `start` and there is no state.

    Raises (while iterating):
        Diverged: the loss or the gradient became NaN or infinite.

    What decides is apart from what computes, so that several runs can be computed as one (batched.py). It
    decides by `recorded`, `learns_from_all`, `next_batch` and `updated`; a class that has the rest computed
    elsewhere overrides `evaluation` and `moments`, and iterates by itself.
    """

    @usual_defaults()
    def __init__(
        self, config: TrainConfig, state: State | None = None, weights: Weights | None = None
    ) -> None:
        self.config = config
        self._model = config.model
        self.device = resolve_device(config.device)
        self.task = config.make_task()
        self.task.look_through()
        self.split = config.make_split(self.task)
        self.labels = self.task.logit_of(self.task.labels(self.split))
        """The logit of the answer that is given for every example, in table order."""
        self._refuse_what_does_not_fit()
        self.step = 0
        self.paused = False
        """Set from outside (a signal handler, say) to be handed a snapshot at the next step, whatever the
        schedule says."""
        self.threads = config.threads
        """How many CPU threads compute; set from outside to take other than those of the configuration. The
        numbers are the same."""
        self._grad_norm: float | None = None
        self._progress = Progress()
        self._before = self._progress.to_json()
        self._scheduled = config.snapshots.steps(config.training.steps)

        # What is narrower is so in matrix products alone (scaled.py).
        dtype = torch.float64 if config.training.dtype == "float64" else torch.float32
        shapes = self._model.shapes(self.task.reads)
        if state is not None:
            weights = {name: state.tensors[f"weights/{name}"] for name in shapes}
        elif weights is None and config.start is None:
            weights = self._model.initial_weights(self.task.reads, config.seed)
        elif weights is None:
            what = f"start: the weights of {config.start} are needed here"
            raise ConfigError(f"{what}: give that run again (start=, or --from)")
        fits(weights, shapes)
        refuse_untied(self._model, weights)
        self.weights: Weights = {name: weights[name].to(self.device, dtype, copy=True) for name in shapes}
        self.weights = self._model.tie(self.weights)
        self._learning = {
            name: weight.requires_grad_() for name, weight in self.weights.items() if self._model.trains(name)
        }
        if is_accelerator(self.device):
            of = self._model, config.training.loss, self.task, self.weights
            refuse_other_numbers(self.device, *of, self.split.train.sort().values, self.labels)
        self._optimiser = Optimiser(self._learning, config.training)
        # Sorted: the order of a sum over a full batch must not matter to the user, and sorted rows are
        # gathered faster.
        train, test = (rows.sort().values.to(self.device) for rows in (self.split.train, self.split.test))
        self._rows = Rows(train, config.training.batch_size, config.seed)
        self._fresh = _stream(self.task, config) if config.training.data == "fresh" else None
        if state is not None:
            self._restore(state)
        way = scaled(config) or way_to_learn(self._model, self.task, train)
        network, loss = (self.weights, self._learning, self._model), config.training.loss
        smoothing, temperature = config.training.label_smoothing or 0.0, config.training.temperature or 1.0
        known = *network, loss, self.task, train, test, self.labels
        self._examples = way(*known, smoothing=smoothing, temperature=temperature)
        self._given, self._right = (
            {"train": classes.to(self.device)[train], "test": classes.to(self.device)[test]}
            for classes in (self.labels, self.task.columns)
        )
        self._gradients: dict[str, Tensor] | None = None
        """What the update of this step needs, where its evaluation has computed it."""
        if config.monitor and state is None:
            monitor.check(config.conditions, config.monitor, self._view(), config.metrics)

    @property
    def folded(self) -> bool:
        """Whether it trains through tables (one layer without normalisation, ReLU, an MLP, one answer behind
        the same last token; on a CPU, with MKL); else through the forward pass at the answers, several times
        slower where it is not one such layer."""
        return isinstance(self._examples, FoldedExamples)

    def __iter__(self) -> Iterator[Snapshot]:
        threads = self.threads if self.device.type == "cpu" else 0
        with workers(threads) as self._examples.run:
            snapshot = None
            while snapshot is None or not snapshot.last:
                # torch has its own number of threads back whenever somebody else's code runs.
                with usual_defaults(), one_thread() if threads else nullcontext():
                    if snapshot is not None:
                        self._update()
                    while (snapshot := self.recorded()) is None:
                        self._update()
                yield snapshot

    def follow(self) -> None:
        """Makes the same updates as the process that records, which alone ends them: the part of another
        process in a training that several share (`processes`)."""
        with workers(1) as self._examples.run, one_thread():
            while self.step < self.config.training.steps:
                self._update()

    def recorded(self) -> Snapshot | None:
        """What is worth recording at this step, if anything is."""
        training = self.config.training
        scheduled = self.step in self._scheduled
        last = self.step == training.steps
        if scheduled or last or self.step % training.evaluate_every == 0:
            self._before = self._progress.to_json()
            metrics = self._evaluate()
            measuring = self.config.monitors_at(self.step)
            if self.config.monitor and measuring:
                metrics |= monitor.monitored(self.config.monitor, self._view())
            happened = self._progress.new_events(self.config.snapshots.events, metrics)
            last = self._progress.should_stop(training.stop_when, self.step, metrics, measuring) or last
            return Snapshot(self.step, metrics, scheduled or bool(happened) or last, self.weights, last)
        if self.paused:
            self._before = self._progress.to_json()
            return Snapshot(self.step, None, False, self.weights, False)
        return None

    def state(self) -> State:
        """What the rest of the run depends on, this step's evaluation included. Call it while handling a
        snapshot."""
        whole = torch.contiguous_format  # a weight that is another's transposed lies as that does
        tensors = {
            f"weights/{name}": weight.detach().clone(memory_format=whole)
            for name, weight in self.weights.items()
        }
        tensors |= {f"optimiser/{name}": value for name, value in self.moments().items()}
        of_batches, data = self._rows.state()
        data |= {"step": self.step, "grad_norm": self._grad_norm, "progress": self._before}
        return State({name: tensor.cpu() for name, tensor in (tensors | of_batches).items()}, data)

    def moments(self) -> dict[str, Tensor]:
        """The state of the optimiser, under the names that `Optimiser.load` takes."""
        return self._optimiser.state()

    def _restore(self, state: State) -> None:
        mine = {name.partition("/")[::2]: value for name, value in state.tensors.items()}
        self._optimiser.load({name: value for (part, name), value in mine.items() if part == "optimiser"})
        self._rows.load(state.tensors, state.data)
        self.step = state.data["step"]
        self._grad_norm = state.data["grad_norm"]
        self._progress = Progress.from_json(state.data["progress"])

    def _update(self) -> None:
        gradients = self._gradients
        if gradients is None:
            self._draw()
            gradients = self._examples.gradients(self.next_batch(), self.step)
        self._gradients = None
        self.updated(self._optimiser.update(self.step + 1, gradients).item())

    def updated(self, norm: float) -> None:
        """Goes on to the next step, the gradient of the update having had this norm."""
        self.step += 1
        if not math.isfinite(norm):
            raise self._diverged("the gradient became NaN or infinite")
        self._grad_norm = norm

    def _draw(self) -> None:
        """Where examples are fresh, those that the next update learns from become the training examples."""
        if self._fresh is not None:
            self._examples.learn_from(self._fresh.batch(self.step))

    @property
    def learns_from_all(self) -> bool:
        """Whether an update on all training examples is next, so that evaluations give its gradient."""
        return (self._fresh is not None or self._rows.full) and self.step < self.config.training.steps

    def next_batch(self) -> Int[Tensor, "batch"] | None:
        """The rows of the table that the next update learns from; None for all training examples."""
        return None if self._fresh is not None else self._rows.following()

    def evaluation(self) -> Evaluation:
        """Losses and guesses of all examples, and the gradient where `learns_from_all`."""
        return self._examples.evaluation(gradients=self.learns_from_all)

    def _evaluate(self) -> dict[str, float]:
        self._draw()
        evaluation = self.evaluation()
        self._gradients = evaluation.gradients
        if self._fresh is not None:
            self._given["train"] = self._examples.answers_learned
        metrics: dict[str, float] = {}
        for part, values in (("train", evaluation.train), ("test", evaluation.test)):
            labels = self._given[part]
            right, asked = values.guesses == labels, labels >= 0
            metrics |= metrics_of(part, values.losses, right, asked, self.task.reads.answers)
        metrics = dict(sorted(metrics.items(), key=lambda item: "_loss" not in item[0]))  # losses first
        if self.task.noisy:
            metrics |= self._against_right_answers(evaluation)
        if not all(math.isfinite(metrics.get(f"{part}_loss", 0.0)) for part in ("train", "test")):
            raise self._diverged("the loss became NaN or infinite")
        if self._grad_norm is not None:
            metrics["grad_norm"] = self._grad_norm
        return metrics

    def _against_right_answers(self, evaluation: Evaluation) -> dict[str, float]:
        """NOISE_METRICS; without those of the corrupted examples where there are none."""
        train, test = evaluation.train.guesses, evaluation.test.guesses
        label, right = self._given["train"], self._right["train"]
        metrics = {"train_clean_accuracy": _mean(train == right)}
        metrics["test_clean_accuracy"] = _mean(test == self._right["test"])
        if (corrupted := label != right).any():
            metrics["corrupted_accuracy"] = _mean((train == label)[corrupted])
            metrics["corrupted_clean_accuracy"] = _mean((train == right)[corrupted])
        return metrics

    def _view(self) -> View:
        """What measures see of the network as it is now: that which `Run.view` gives once it is saved."""
        return View.of_weights(self.task, self._model, self.weights, self.step, self.split)

    def _diverged(self, what: str) -> Diverged:
        training, when = self.config.training, f"step {self.step}"
        tries = f"a smaller training.lr than {training.lr:g}"
        helps = ["training.clip=1"] if training.clip is None else []
        helps += ["training.warmup=100"] if training.warmup < 100 else []
        if helps:
            tries += f", alone or with {' and '.join(helps)}"
        if self.step == 0:
            when = "step 0, before any update"
            tries = "another start" if self.config.start else "a smaller model.init_scale"
        advice = f"training diverged: {what} at {when}; try {tries}"
        return Diverged(advice, self.step, what)

    def _refuse_what_does_not_fit(self) -> None:
        model, training = self._model, self.config.training
        n = training.batch_size if training.data == "fresh" else len(self.split.train)
        assert n is not None
        reads = self.task.reads
        piece = model.together(reads) or PIECE
        learned = math.ceil(min(training.batch_size or n, n) / training.accumulate)
        batch = max(learned, min(piece, self.task.n_inputs))
        floats = batch * model.numbers(reads) * (8 if training.dtype == "float64" else 4)
        # Weights, gradients and two moments; and what Grokfast keeps of gradients.
        kept = {None: 0, "ema": 1, "ma": training.grokfast_setting("window")}[training.grokfast]
        network = 4 * (4 + kept) * sum(math.prod(shape) for shape in model.shapes(reads).values())
        free = free_memory()
        if self.device.type == "cpu" and floats + network > 0.8 * free:
            raise ConfigError(
                f"training needs about {network / 1e9:.3g} GB for the network and {floats / 1e9:.3g} GB for "
                f"{batch:,} examples at once, and {free / 1e9:.1f} GB are free: choose a smaller network, "
                "set training.batch_size, or choose fewer elements"
            )


def metrics_of(
    part: str, losses: Float[Tensor, "n *answer"], right: Bool[Tensor, "n *answer"],
    asked: Bool[Tensor, "n *answer"], answers: Sequence[str],
) -> dict[str, float]:  # fmt: skip
    """Loss and accuracy of a part; where there are several answers the means over all that are asked, those
    of each of which some is, and the share of examples of which every answer is right."""
    if not asked.any():  # as in a batch of examples of which nothing is asked
        return {}
    metrics = {f"{part}_loss": _mean(losses[asked]), f"{part}_accuracy": _mean(right[asked])}
    if asked.ndim > 1:
        metrics[f"{part}_exact"] = _mean((right | ~asked).all(1)[asked.any(1)])
        for i, answer in enumerate(answers):
            if (of_it := asked[:, i]).any():
                metrics[f"{part}_loss.{answer}"] = _mean(losses[of_it, i])
                metrics[f"{part}_accuracy.{answer}"] = _mean(right[of_it, i])
    return metrics


def _stream(task: Task, config: TrainConfig) -> Fresh:
    """Fresh examples of a task.

    Raises:
        ConfigError: it draws none, or not as its sample is.
    """
    size = config.training.batch_size
    assert size is not None
    stream = Fresh(task, size, config.seed)
    try:
        stream.batch(0)
    except (NotApplicable, ConfigError) as reason:
        raise ConfigError(f"training.data: {reason}") from None
    return stream


def _mean(values: Tensor) -> float:
    """The mean in float64 (by one thread, so the same at any number of them); NaN for no values."""
    return float(values.double().mean())


def is_plain(config: TrainConfig, task: Task) -> bool:
    """Whether a run is trained here by the forward pass as it stands: neither through tables, nor as one
    layer whose gradient is written out."""
    if config.model.drops:
        return True
    of = config.model, task, resolve_device(config.device)
    return FoldedExamples.folding(*of) is None and OneLayerExamples.layer(*of) is None
