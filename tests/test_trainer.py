"""Training: every recipe against a slower route, and the promise that a run can be stopped anywhere and gives
the same bytes."""

from __future__ import annotations

import itertools
import json
import math
import operator
import threading
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor
from torch.nn import functional as F

from grokinterp.errors import ConfigError, Diverged
from grokinterp.models import is_bias
from grokinterp.training import METRICS, Condition, SnapshotConfig, State, TrainConfig, Trainer
from grokinterp.training.schedule import Progress

torch.set_num_threads(1)  # for matrices this small, threads only wait for one another

OPTIMIZERS = [
    "adamw",
    "adam",
    "sgd",
    pytest.param(
        "muon", marks=pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="needs torch 2.9")
    ),
]


def config(**overrides: Any) -> TrainConfig:
    """Twenty steps on half of addition mod 7, with no event to interfere."""
    tiny = {
        "threads": 1,
        "task": {"name": "modular_addition", "p": 7},
        "model": {"d_model": 16, "n_heads": 2, "d_mlp": 24},
        "training": {"fraction": 0.5, "lr": 3e-3, "steps": 20, "evaluate_every": 3},
        "snapshots": {"events": []},
    }
    return TrainConfig.make(tiny, **overrides)


@dataclass
class Course:
    """What came out of a trainer from its start to its end."""

    metrics: dict[int, dict[str, float]] = field(default_factory=dict)
    kept: list[int] = field(default_factory=list)
    weights: dict[str, Tensor] = field(default_factory=dict)
    lasts: list[int] = field(default_factory=list)


def copied(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: weight.detach().clone() for name, weight in weights.items()}


def course(config: TrainConfig, state: State | None = None) -> Course:
    seen = Course()
    for snapshot in Trainer(config, state):
        seen.metrics[snapshot.step] = snapshot.metrics
        seen.kept += [snapshot.step] if snapshot.keep else []
        seen.lasts += [snapshot.step] if snapshot.last else []
    seen.weights = copied(snapshot.weights)
    return seen


def weights_by_step(config: TrainConfig) -> list[dict[str, Tensor]]:
    """The weights after 0, 1, 2, ... updates."""
    trainer = Trainer(config)
    trainer.paused = True
    return [copied(snapshot.weights) for snapshot in trainer]


def as_bytes(weights: dict[str, Tensor]) -> dict[str, bytes]:
    return {name: weight.numpy().tobytes() for name, weight in weights.items()}


def reference_network(config: TrainConfig, weights: dict[str, Tensor], dtype: torch.dtype = torch.float64):
    return config.model.hooked(config.make_task().reads, weights, dtype)


def gradients(
    config: TrainConfig, weights: dict[str, Tensor], rows: Tensor | None = None
) -> dict[str, Tensor]:
    """Of the mean cross-entropy over some rows (else the training set), by autograd through HookedTransformer
    in float64."""
    task = config.make_task()
    rows = config.make_split(task).train if rows is None else rows
    network = reference_network(config, weights)
    F.cross_entropy(network(task.inputs[rows])[:, -1], task.targets[rows]).backward()
    return {name: parameter.grad for name, parameter in network.named_parameters() if parameter.requires_grad}


def norm(tensors: dict[str, Tensor]) -> float:
    return math.sqrt(sum(float(tensor.double().square().sum()) for tensor in tensors.values()))


# What is computed


@pytest.mark.trains
@pytest.mark.parametrize(("dtype", "steps", "rel"), [("float64", 30, 1e-8), ("float32", 15, 1e-4)])
def test_steps_are_those_of_a_plain_loop(dtype, steps, rel):
    """In float32 fewer: once rounding decides whether a neuron is on, two loops part."""
    asked = config(**{
        "task.p": 11, "training.steps": steps, "training.evaluate_every": 1, "training.lr": 1e-2,
        "training.dtype": dtype,
    })  # fmt: skip
    task = asked.make_task()
    rows = asked.make_split(task)
    network = reference_network(
        asked, asked.model.initial_weights(task.reads, asked.seed), getattr(torch, dtype)
    )
    learning = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(learning, lr=1e-2, betas=(0.9, 0.98), weight_decay=1.0)
    expected = []
    for _ in range(steps + 1):
        log_probabilities = network(task.inputs)[:, -1].double().log_softmax(-1)
        losses = -log_probabilities.gather(1, task.targets[:, None])[:, 0]
        expected.append((losses[rows.train].mean().item(), losses[rows.test].mean().item()))
        losses[rows.train].mean().backward()
        optimiser.step()
        optimiser.zero_grad()
    found = course(asked).metrics
    assert expected[-1][0] < 0.9 * expected[0][0]  # it does learn
    assert [(found[step]["train_loss"], found[step]["test_loss"]) for step in range(steps + 1)] == [
        pytest.approx(pair, rel=rel) for pair in expected
    ]


@pytest.mark.trains
@pytest.mark.parametrize(
    "overrides",
    [
        {},
        {"model.normalization": "LN", "model.train_biases": "all", "model.n_layers": 2},
        {"model.attention_mixing": 0.3, "model.attention_dir": "bidirectional", "model.d_vocab_out": 8},
        {"task": {"name": "group_composition", "group": "S3", "layout": "a op b ="}},
        {"training.loss": "mse"},
        {"training.loss": "log_softmax"},
        {
            "training.steps": 600,
            "training.weight_decay": 0.0,
            "training.evaluate_every": 600,
        },  # train losses of 1e-4, accuracy 1
    ],
)
def test_metrics_are_those_of_an_evaluation_through_hooked_transformer_in_float64(overrides):
    asked = config(**overrides)
    task = asked.make_task()
    rows = asked.make_split(task)
    for snapshot in Trainer(asked):
        with torch.no_grad():
            logits = reference_network(asked, copied(snapshot.weights))(task.inputs)[:, -1]
        if asked.training.loss == "mse":
            losses = (logits - F.one_hot(task.targets, logits.shape[1])).square().mean(1)
        else:
            losses = F.cross_entropy(logits, task.targets, reduction="none")
        right = (logits.argmax(1) == task.targets).double()
        for part, of in (("train", rows.train), ("test", rows.test)):
            assert snapshot.metrics[f"{part}_loss"] == pytest.approx(losses[of].mean().item(), rel=1e-5)
            assert snapshot.metrics[f"{part}_accuracy"] == pytest.approx(right[of].mean().item(), abs=1e-12)


def test_the_norm_of_the_gradient_is_reported_with_the_next_evaluation():
    asked = config(**{"training.evaluate_every": 1, "training.dtype": "float64", "training.steps": 5})
    before = weights_by_step(asked)
    found = course(asked).metrics
    assert found[0].keys() == set(METRICS)
    for step in range(1, 6):
        assert found[step].keys() == {*METRICS, "grad_norm"}
        assert found[step]["grad_norm"] == pytest.approx(norm(gradients(asked, before[step - 1])), rel=1e-9)


PLAIN_SGD = {
    "training.optimizer": "sgd",
    "training.betas": [0, 0],
    "training.weight_decay": 0,
    "training.dtype": "float64",
    "training.lr": 0.1,
}


def test_warmup_grows_linearly_and_stays():
    asked = config(**PLAIN_SGD, **{"training.warmup": 4, "training.steps": 6})
    weights = weights_by_step(asked)
    for i in range(1, 7):
        lr = 0.1 * min(1, i / 4)
        for name, gradient in gradients(asked, weights[i - 1]).items():
            torch.testing.assert_close(
                weights[i][name], weights[i - 1][name] - lr * gradient, rtol=1e-10, atol=1e-12
            )


def test_the_first_beta_is_the_momentum_of_sgd():
    asked = config(**{**PLAIN_SGD, "training.betas": [0.5, 0.9], "training.steps": 3})
    weights = weights_by_step(asked)
    velocity = {name: torch.zeros_like(weight) for name, weight in weights[0].items()}
    for step in range(3):
        for name, gradient in gradients(asked, weights[step]).items():
            velocity[name] = 0.5 * velocity[name] + gradient
            torch.testing.assert_close(
                weights[step + 1][name], weights[step][name] - 0.1 * velocity[name], rtol=1e-10, atol=1e-12
            )


@pytest.mark.parametrize("optimizer", [optimizer for optimizer in OPTIMIZERS if optimizer != "adam"])
def test_weight_decay_shrinks_every_trained_weight_by_its_share(optimizer):
    changes = {
        "training.optimizer": optimizer,
        "training.dtype": "float64",
        "training.steps": 1,
        "training.lr": 0.1,
    }
    start, without = weights_by_step(config(**changes, **{"training.weight_decay": 0}))
    _, decayed = weights_by_step(config(**changes, **{"training.weight_decay": 0.5}))
    for name, weight in start.items():
        torch.testing.assert_close(decayed[name] - without[name], -0.1 * 0.5 * weight, rtol=1e-9, atol=1e-12)


def test_weight_decay_of_adam_is_part_of_the_gradient():
    asked = config(
        **{"training.optimizer": "adam", "training.dtype": "float64", "training.steps": 1, "training.lr": 0.1}
    )
    start, after = weights_by_step(asked)
    for name, gradient in gradients(asked, start).items():
        slope = gradient + 1.0 * start[name]
        torch.testing.assert_close(
            after[name], start[name] - 0.1 * slope / (slope.abs() + 1e-8), rtol=1e-9, atol=1e-9
        )


def test_clipping_limits_the_norm_of_the_gradient_and_keeps_its_direction():
    start, free = weights_by_step(config(**PLAIN_SGD, **{"training.steps": 1}))
    _, clipped = weights_by_step(config(**PLAIN_SGD, **{"training.steps": 1, "training.clip": 0.01}))
    _, loose = weights_by_step(config(**PLAIN_SGD, **{"training.steps": 1, "training.clip": 1e3}))
    moved = {name: free[name] - start[name] for name in start}
    assert norm(moved) > 0.1 * 0.01
    for name in start:
        expected = moved[name] * (0.1 * 0.01 / norm(moved))
        torch.testing.assert_close(clipped[name] - start[name], expected, rtol=1e-3, atol=1e-9)
        assert torch.equal(loose[name], free[name])


def test_the_reported_norm_is_that_before_clipping():
    plain = course(config(**{"training.steps": 1})).metrics[1]["grad_norm"]
    assert course(config(**{"training.steps": 1, "training.clip": 1e-3})).metrics[1]["grad_norm"] == plain


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("train_biases", ["none", "mlp", "all"])
def test_biases_that_are_not_trained_stay_exactly_zero(train_biases, optimizer):
    asked = config(
        **{"model.train_biases": train_biases, "model.normalization": "LN", "training.optimizer": optimizer}
    )
    after = course(asked).weights
    start = asked.model.initial_weights(asked.make_task().reads, asked.seed)
    for name, weight in after.items():
        if asked.model.trains(name):
            # The keys' bias adds the same to every score of a query: only rounding moves it.
            assert name.endswith("b_K") or not torch.equal(weight, start[name]), f"{name} has not moved"
        else:
            assert is_bias(name)
            assert not weight.any()


def test_training_in_float64_is_in_float64():
    trainer = Trainer(config(**{"training.dtype": "float64", "model.train_biases": "all"}))
    assert all(weight.dtype == torch.float64 for snapshot in trainer for weight in snapshot.weights.values())


# Batches


@pytest.fixture
def batches(monkeypatch):
    """The inputs of every update, in order."""
    from grokinterp.training.examples import Examples

    seen: list[Tensor] = []
    gradients = Examples.gradients

    def recording(self, rows, number=0):
        seen.append(self._inputs[rows])
        return gradients(self, rows, number)

    monkeypatch.setattr(Examples, "gradients", recording)
    return seen


def examples(rows: Tensor) -> list[list[int]]:
    return sorted(rows.tolist())


def test_an_epoch_is_every_training_example_once_in_a_fresh_order(batches):
    asked = config(**{"training.batch_size": 5, "training.steps": 10})
    task = asked.make_task()
    everything = examples(task.inputs[asked.make_split(task).train])
    course(asked)
    assert [len(batch) for batch in batches] == 2 * [5, 5, 5, 5, 49 // 2 - 4 * 5]
    first, second = torch.cat(batches[:5]), torch.cat(batches[5:])
    assert examples(first) == examples(second) == everything
    assert not torch.equal(first, second)


def test_a_step_follows_the_mean_gradient_of_its_batch(batches):
    asked = config(**PLAIN_SGD, **{"training.batch_size": 7, "training.steps": 4})
    weights = weights_by_step(asked)
    assert [len(batch) for batch in batches] == [7, 7, 7, 49 // 2 - 3 * 7]
    for step, batch in enumerate(batches):
        rows = 7 * batch[:, 0] + batch[:, 1]
        for name, gradient in gradients(asked, weights[step], rows).items():
            torch.testing.assert_close(
                weights[step + 1][name], weights[step][name] - 0.1 * gradient, rtol=1e-10, atol=1e-12
            )


def test_the_seed_decides_the_order_of_the_batches(batches):
    orders = []
    for seed in (0, 0, 1):
        course(config(seed=seed, **{"training.batch_size": 5, "training.steps": 5}))
        orders.append(torch.cat(batches).tolist())
        batches.clear()
    first, again, other = orders
    assert first == again
    assert first != other
    assert sorted(first) == sorted(other)


@pytest.mark.parametrize("n_layers", [1, 2])
def test_a_full_batch_is_every_training_example_in_every_step(n_layers):
    asked = config(**PLAIN_SGD, **{"training.steps": 3, "model.n_layers": n_layers})
    weights = weights_by_step(asked)
    train = asked.make_split(asked.make_task()).train
    for step in range(3):
        for name, gradient in gradients(asked, weights[step], train).items():
            torch.testing.assert_close(
                weights[step + 1][name], weights[step][name] - 0.1 * gradient, rtol=1e-10, atol=1e-12
            )


@pytest.mark.parametrize("batch_size", [49 // 2, 1000])
def test_a_batch_that_holds_everything_is_the_full_batch(batch_size):
    assert as_bytes(course(config(**{"training.batch_size": batch_size})).weights) == as_bytes(
        course(config()).weights
    )


# The same bytes


def test_a_seed_decides_everything_and_another_seed_changes_it():
    first, again, other = (course(config(seed=seed, **{"training.batch_size": 5})) for seed in (0, 0, 1))
    assert as_bytes(first.weights) == as_bytes(again.weights)
    assert first.metrics == again.metrics
    assert not any(
        torch.equal(first.weights[name], other.weights[name]) for name in first.weights if not is_bias(name)
    )


PAPER = {"d_model": 128, "n_heads": 4, "d_mlp": 512}


@pytest.mark.parametrize(
    "overrides",
    [
        {"task.p": 23, "model": PAPER},
        {"task.p": 23, "model": PAPER, "training.batch_size": 64},
        {"task.p": 41, "model": PAPER, "training.clip": 0.01},
        {
            "task.p": 23,
            "model": {
                "d_model": 50,
                "n_heads": 5,
                "d_mlp": 90,
                "normalization": "LN",
                "train_biases": "all",
                "n_layers": 2,
            },
        },
        {
            "task.p": 31,
            "model": {"d_model": 16, "n_heads": 1, "d_mlp": 90},
            "training.batch_size": 7,
            "training.dtype": "float64",
        },
        {
            "task.p": 59,
            "model": {"kind": "mlp", "embedding": "one_hot", "act_fn": "square", "d_mlp": 200},
            "training.loss": "mse",
        },
        {
            "task.p": 59,
            "model": {
                "kind": "mlp",
                "embedding": "shared",
                "d_model": 50,
                "d_mlp": 90,
                "d_out": 30,
                "biases": "in",
            },
        },
        {
            "task.p": 41,
            "model": {"kind": "mlp", "d_model": 50, "d_mlp": 90},
            "training.batch_size": 100,
            "training.clip": 0.01,
        },
        pytest.param({"task.p": 113, "model": PAPER}, marks=pytest.mark.slow),
        pytest.param(
            {"task.p": 97, "model": PAPER, "training.batch_size": 512, "training.clip": 0.01},
            marks=pytest.mark.slow,
        ),
    ],
)
def test_the_number_of_threads_changes_no_bit(overrides):
    one, two, four = (
        course(config(**{**overrides, "training.steps": 2, "training.evaluate_every": 1}, threads=threads))
        for threads in (1, 2, 4)
    )
    assert one.metrics == two.metrics == four.metrics
    assert as_bytes(one.weights) == as_bytes(two.weights) == as_bytes(four.weights)


def test_training_touches_no_global_generator():
    # Not checked: Python's. Beartype, which checks every call in these tests, draws from it.
    before = np.random.get_state()[1].copy(), torch.get_rng_state()
    course(config(**{"training.batch_size": 5}))
    assert np.array_equal(np.random.get_state()[1], before[0])
    assert torch.equal(torch.get_rng_state(), before[1])


@pytest.fixture
def three_torch_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def test_the_threads_of_torch_are_the_users_again_after_training(three_torch_threads):
    course(config(threads=2))
    assert torch.get_num_threads() == 3
    iterator = iter(Trainer(config(threads=2)))
    next(iterator)
    iterator.close()  # a consumer that stops early
    assert torch.get_num_threads() == 3
    with pytest.raises(Diverged):
        course(config(threads=2, **HOPELESS))
    assert torch.get_num_threads() == 3


def test_training_leaves_no_thread_behind():
    before = threading.active_count()
    course(config(threads=4, **{"task.p": 41, "training.steps": 2}))
    assert threading.active_count() == before


@pytest.mark.trains
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("piece", [2, 5, 11])
@pytest.mark.parametrize("n_layers", [1, 2])
def test_a_batch_that_is_computed_in_pieces_gives_the_gradient_of_the_whole(
    monkeypatch, piece, threads, n_layers
):
    asked = {
        "training.dtype": "float64",
        "model.train_biases": "all",
        "training.evaluate_every": 1,
        "model.n_layers": n_layers,
    }
    whole = course(config(**asked))
    monkeypatch.setattr("grokinterp.training.examples.PIECE", piece)
    pieces = course(config(threads=threads, **asked))
    for name, weight in whole.weights.items():
        # Adam divides by the size of a gradient, so even the rounding of a gradient that is zero moves the
        # keys' bias.
        assert name.endswith("b_K") or torch.allclose(pieces.weights[name], weight, rtol=1e-7, atol=1e-9), (
            name
        )
    for step, metrics in whole.metrics.items():
        assert pieces.metrics[step] == pytest.approx(metrics, rel=1e-9)


# Going on from a state


def stored(state: State) -> State:
    """As from a file: safetensors and JSON."""
    return State(
        safetensors.torch.load(safetensors.torch.save(state.tensors)),
        json.loads(json.dumps(state.data, allow_nan=False)),
    )


def states(config: TrainConfig) -> tuple[dict[int, State], Course]:
    """The state at every single step of a run, and the run itself."""
    trainer = Trainer(config)
    trainer.paused = True
    kept = {snapshot.step: stored(trainer.state()) for snapshot in trainer}
    return kept, course(config)


RESUMABLE = {
    "adamw": {},
    "adam": {"training.optimizer": "adam"},
    "sgd": {"training.optimizer": "sgd", "training.lr": 0.05},
    "minibatch": {"training.batch_size": 5},
    "warmup and clip": {"training.warmup": 13, "training.clip": 0.05},
    "Grokfast-EMA, orthogonal, constant norm": {
        "training.grokfast": "ema",
        "training.orthogonal_gradient": True,
        "training.norm_clamp": 0.7,
        "training.loss": "stablemax",
        "training.temperature": 3.0,
    },
    "Grokfast-MA": {"training.grokfast": "ma", "training.grokfast_window": 7, "training.optimizer": "sgd"},
    "LN, biases, layers": {"model.normalization": "LN", "model.train_biases": "all", "model.n_layers": 2},
    "mse, mixing, float64": {
        "training.loss": "mse",
        "model.attention_mixing": 0.5,
        "training.dtype": "float64",
    },
    "events and patience": {
        "training.stop_when": "train_loss < 1.5 for 6",
        "snapshots.events": ["train_loss < 1.9", "train_loss < 1.7", "test_loss > 3"],
        "training.batch_size": 10,
        "training.steps": 200,
        "training.lr": 1e-2,
    },
    "perceptron": {
        "model": {"kind": "mlp", "embedding": "one_hot", "act_fn": "square", "d_mlp": 20},
        "training.loss": "mse",
    },
    "perceptron, biases, minibatch": {
        "model": {"kind": "mlp", "d_model": 8, "d_mlp": 20, "d_out": 6, "biases": True},
        "training.batch_size": 5,
    },
    "schedule": {"snapshots.every": 7, "snapshots.log": 5, "snapshots.at": [11]},
}


@pytest.mark.parametrize(
    "overrides",
    [*RESUMABLE.values(), pytest.param({"training.optimizer": "muon"}, marks=OPTIMIZERS[-1].marks)],
    ids=[*RESUMABLE, "muon"],
)
def test_a_run_that_goes_on_from_any_step_ends_in_the_same_bytes(overrides):
    asked = config(**overrides)
    by_step, whole = states(asked)
    assert list(by_step) == list(range(whole.lasts[0] + 1))
    few = math.ceil(len(by_step) / 20)  # of a long run every few steps
    for step, state in [*by_step.items()][::few]:
        rest = course(asked, state)
        assert as_bytes(rest.weights) == as_bytes(whole.weights), f"from step {step}"
        assert rest.metrics == {at: metrics for at, metrics in whole.metrics.items() if at >= step}
        assert rest.kept == [at for at in whole.kept if at >= step]
        assert rest.lasts == whole.lasts


@pytest.mark.trains
def test_the_events_and_the_patience_of_that_test_do_happen():
    asked = config(**RESUMABLE["events and patience"])
    whole = course(asked)
    assert 20 < whole.lasts[0] < 200
    assert len(whole.kept) == 2 + 3


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_going_on_from_a_state_leaves_it_as_it_was(optimizer):
    asked = config(**{"training.optimizer": optimizer, "training.batch_size": 5})
    trainer = Trainer(asked)
    next(snapshots := iter(trainer))
    next(snapshots)
    state = trainer.state()
    before = {name: tensor.clone() for name, tensor in state.tensors.items()}, json.dumps(state.data)
    rest = course(asked, state)
    assert [name for name, tensor in before[0].items() if not torch.equal(tensor, state.tensors[name])] == []
    assert json.dumps(state.data) == before[1]
    assert as_bytes(course(asked, state).weights) == as_bytes(rest.weights)


def test_a_state_is_not_changed_by_the_steps_that_follow():
    trainer = Trainer(config(**{"training.batch_size": 5}))
    taken = []
    for _ in trainer:
        state = trainer.state()
        taken.append(
            (state, {name: tensor.clone() for name, tensor in state.tensors.items()}, json.dumps(state.data))
        )
    for state, tensors, data in taken:
        assert all(torch.equal(state.tensors[name], tensor) for name, tensor in tensors.items())
        assert json.dumps(state.data) == data


# Which steps are recorded


@pytest.mark.parametrize(
    ("schedule", "last", "steps"),
    [
        ({}, 7, {0, 7}),
        ({"every": 10}, 25, {0, 10, 20, 25}),
        ({"every": 5}, 10, {0, 5, 10}),
        ({"every": 100}, 7, {0, 7}),
        ({"log": 5}, 10_000, {0, 1, 10, 100, 1000, 10_000}),
        ({"log": 2}, 50, {0, 1, 50}),
        ({"log": 3}, 150, {0, 1, 100, 150}),
        ({"log": 3}, 2_000_000, {0, 1, 100, 10_000, 1_000_000, 2_000_000}),
        ({"log": 1000}, 5, {0, 1, 2, 3, 4, 5}),
        ({"log": 4}, 1, {0, 1}),
        ({"every": 400, "log": 5}, 1000, {0, 1, 10, 100, 400, 800, 1000}),
        ({"at": [3, 5, 8, 9]}, 8, {0, 3, 5, 8}),
        ({"every": 4, "log": 2, "at": [3]}, 8, {0, 1, 3, 4, 8}),
    ],
)
def test_the_schedule_is_linear_logarithmic_and_explicit_with_first_and_last(schedule, last, steps):
    assert SnapshotConfig(**schedule).steps(last) == steps


@pytest.mark.parametrize("log", [2, 7, 20, 1000])
def test_a_longer_run_saves_the_steps_of_a_shorter_one(log):
    schedule = SnapshotConfig(log=log)
    for last in (1, 9, 600, 10_000, 20_000):
        longer = schedule.steps(40_000)
        assert schedule.steps(last) - {last} == {step for step in longer if step < last}


def test_what_is_scheduled_is_evaluated_and_kept():
    seen = course(config(**{"snapshots.every": 8, "snapshots.at": [5], "training.evaluate_every": 6}))
    assert seen.kept == [0, 5, 8, 16, 20]
    assert list(seen.metrics) == [0, 5, 6, 8, 12, 16, 18, 20]
    assert seen.lasts == [20]


def test_a_paused_trainer_hands_over_every_step_and_computes_the_same():
    trainer = Trainer(config())
    trainer.paused = True
    snapshots = [(snapshot.step, snapshot.metrics is not None, snapshot.keep) for snapshot in trainer]
    assert snapshots == [(step, step % 3 == 0 or step == 20, step in (0, 20)) for step in range(21)]
    assert as_bytes(copied(trainer.weights)) == as_bytes(course(config()).weights)


LONG = {"training.steps": 60, "training.lr": 1e-2, "training.evaluate_every": 4}


@pytest.fixture(scope="module")
def curve() -> dict[int, dict[str, float]]:
    """The metrics of a run of sixty steps in which losses and accuracies rise and fall."""
    return course(config(**LONG)).metrics


def first_step(curve: dict[int, dict[str, float]], condition: str) -> int:
    metric, op, threshold = condition.split()
    holds = {"<": operator.lt, ">": operator.gt}[op]
    return next(step for step, metrics in curve.items() if holds(metrics[metric], float(threshold)))


@pytest.mark.trains
def test_an_event_is_kept_at_the_first_evaluation_at_which_it_is_true(curve):
    losses = sorted(metrics["train_loss"] for metrics in curve.values())
    between = [(low + high) / 2 for low, high in itertools.pairwise(losses)]
    events = [f"train_loss < {between[i]:.9f}" for i in (3, 7, 11)] + ["train_accuracy > 0.45"]
    accuracies = [metrics["train_accuracy"] for metrics in curve.values()]
    assert any(
        before > 0.45 > after for before, after in itertools.pairwise(accuracies)
    )  # it ceases to be true, and comes back
    expected = {first_step(curve, event) for event in events}
    assert len(expected) >= 3
    assert 0 not in expected
    never = "test_accuracy > 1.5"
    assert course(config(**LONG, **{"snapshots.events": [*events, never]})).kept == sorted({0, 60} | expected)


def test_an_event_happens_once_even_if_it_ceases_and_comes_back():
    progress = Progress()
    happened = [
        progress.new_events(["test_loss < 1", "test_loss < 2"], {"test_loss": loss})
        for loss in (3.0, 1.5, 3.0, 0.5, 3.0, 0.5)
    ]
    assert happened == [[], ["test_loss < 2"], [], ["test_loss < 1"], [], []]


@pytest.mark.trains
@pytest.mark.parametrize("patience", [0, 3, 4, 8, 13])
def test_a_run_stops_at_the_first_evaluation_by_which_its_condition_has_held_for_its_patience(
    curve, patience
):
    threshold = curve[24]["train_loss"] + 1e-9
    holding, expected = None, None
    for step, metrics in curve.items():
        holding = (step if holding is None else holding) if metrics["train_loss"] < threshold else None
        if holding is not None and step - holding >= patience:
            expected = step
            break
    assert expected == 24 + 4 * math.ceil(patience / 4)
    stopped = course(config(**LONG, **{"training.stop_when": f"train_loss < {threshold!r} for {patience}"}))
    assert stopped.lasts == [expected]
    assert stopped.kept == [0, expected]
    assert stopped.metrics == {step: metrics for step, metrics in curve.items() if step <= expected}


def test_patience_starts_anew_when_the_condition_ceases_to_hold():
    progress = Progress()
    values = {0: 1.0, 10: 0.0, 20: 0.0, 30: 1.0, 40: 0.0, 50: 0.0, 60: 0.0, 70: 0.0}
    stops = [
        step
        for step, loss in values.items()
        if progress.should_stop("test_loss < 0.5 for 20", step, {"test_loss": loss})
    ]
    assert stops == [60, 70]


def test_without_a_condition_nothing_stops():
    assert not Progress().should_stop(None, 10, {"test_loss": 0.0})


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("test_accuracy >= 0.999 for 200", Condition("test_accuracy", ">=", 0.999, 200)),
        ("train_loss<1e-6", Condition("train_loss", "<", 1e-6, 0)),
        ("  test_loss  >  -1.5e+2  for  3  ", Condition("test_loss", ">", -150.0, 3)),
        ("train_accuracy <= .5", Condition("train_accuracy", "<=", 0.5, 0)),
    ],
)
def test_a_condition_reads_as_it_is_written(text, meant):
    assert Condition.parse(text) == meant


@pytest.mark.parametrize(
    ("op", "below", "at", "above"), [("<", 1, 0, 0), ("<=", 1, 1, 0), (">", 0, 0, 1), (">=", 0, 1, 1)]
)
def test_a_condition_holds_as_its_comparison_does(op, below, at, above):
    condition = Condition.parse(f"test_loss {op} 0.5")
    assert [condition.holds({"test_loss": loss}) for loss in (0.4, 0.5, 0.6)] == [below, at, above]


# What is refused, and what goes wrong

HOPELESS = {"training.optimizer": "sgd", "training.lr": 1e5, "training.weight_decay": 0}


def test_divergence_is_reported_with_what_to_try():
    with pytest.raises(Diverged) as error:
        course(config(**HOPELESS))
    message = str(error.value)
    assert "\n" not in message
    assert message.startswith("training diverged: the ")
    assert message.endswith(
        "try a smaller training.lr than 100000, alone or with training.clip=1 and training.warmup=100"
    )


def test_a_network_that_overflows_before_any_update_needs_smaller_weights():
    with pytest.raises(Diverged, match=r"at step 0, before any update; try a smaller model\.init_scale$"):
        course(config(**{"model.init_scale": 1e6, "model.n_layers": 4}))


def test_divergence_is_noticed_at_once_and_not_at_the_next_evaluation():
    with pytest.raises(Diverged, match=r"the gradient became NaN or infinite at step [1-9][0-9]?;"):
        course(config(**HOPELESS, **{"training.evaluate_every": 1000, "training.steps": 1000}))


def test_nothing_is_advised_that_is_done_already():
    with pytest.raises(Diverged, match=r"try a smaller training\.lr than 1e\+06$"):
        course(
            config(
                **HOPELESS
                | {"training.lr": 1e6, "training.clip": 1e6, "training.warmup": 100, "training.steps": 1000}
            )
        )


def test_a_batch_that_does_not_fit_into_memory_is_refused(monkeypatch):
    monkeypatch.setattr("grokinterp.training.trainer.free_memory", lambda: 5e4)
    with pytest.raises(
        ConfigError,
        match=r"^training needs about .* GB for the network and .* GB for 49 examples at once, .*: "
        r".*set training.batch_size",
    ) as error:
        Trainer(config())
    assert "\n" not in str(error.value)


def test_a_network_that_does_not_fit_into_memory_is_refused(monkeypatch):
    wide = {"model": {"d_model": 512, "n_heads": 1, "d_mlp": 0}, "task.p": 2}
    weights = 4 * (
        4 * 512 * 512
    )  # bytes of the attention's matrices alone; two examples need a hundredth of that
    monkeypatch.setattr("grokinterp.training.trainer.free_memory", lambda: float(weights))
    with pytest.raises(ConfigError, match="GB"):
        Trainer(config(**wide))


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a CUDA device")
def test_a_device_that_is_not_there_is_refused_and_auto_does_without():
    with pytest.raises(ConfigError, match=r"^device: cuda was asked for .*: use device = 'cpu' or 'auto'$"):
        Trainer(config(device="cuda"))
    assert Trainer(config(device="auto")).device == torch.device("cpu")


def test_muon_is_refused_where_torch_has_none(monkeypatch):
    monkeypatch.delattr(torch.optim, "Muon", raising=False)
    with pytest.raises(
        ConfigError, match=r"^training\.optimizer: muon needs torch 2\.9 or newer, this is .*: choose adamw$"
    ):
        Trainer(config(**{"training.optimizer": "muon"}))


def test_a_split_that_leaves_nothing_is_refused():
    with pytest.raises(
        ConfigError, match=r"^training\.fraction: 0\.1 of 4 examples leaves 0 to train on and 4 to test on$"
    ):
        Trainer(config(**{"task.p": 2, "training.fraction": 0.1}))
