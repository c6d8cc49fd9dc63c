"""Runs as one stack: each member records what its run records alone, at the same steps, with the same numbers
up to rounding."""

from __future__ import annotations

import pytest
import torch

import grokinterp as gi
from conftest import tiny
from grokinterp.errors import ConfigError, Diverged
from grokinterp.training import BatchedTrainer, Snapshot, Trainer, batched

pytestmark = pytest.mark.trains

SEEDS = (0, 5, 9)
SGD = {"training.optimizer": "sgd", "training.lr": 0.1, "training.weight_decay": 1e-3}
"""Adam would make steps of the learning rate of what is rounding alone, where a gradient is zero."""
VARIANTS = {
    "plain": {},
    "batches": {"training.batch_size": 7},
    "clip": {"training.clip": 0.5, **SGD},
    "log_softmax": {"training.loss": "log_softmax"},
    "disputed": {
        "training.loss": "stablemax",
        "training.temperature": 2.0,
        "training.grokfast": "ema",
        "training.orthogonal_gradient": True,
        "training.norm_clamp": 0.9,
        **SGD,
    },
    "mean of the last gradients": {
        "training.grokfast": "ma",
        "training.grokfast_window": 4,
        "training.batch_size": 9,
        **SGD,
        "training.grokfast_lamb": 1.0,
        "training.lr": 0.02,
    },
    "deep": {
        "model.n_layers": 2,
        "model.normalization": "LN",
        "model.train_biases": "mlp",
        **SGD,
        "training.lr": 0.01,
    },
    "perceptron": {
        "model.kind": "mlp",
        "model.embedding": "shared",
        "model.d_out": 8,
        "model.biases": "all",
        **SGD,
    },
    "mse": {
        "training.loss": "mse",
        "training.optimizer": "adam",
        "training.weight_decay": 0.0,
        "training.warmup": 20,
        "model.attention_mixing": 0.5,
    },
}
STEPS = 70


def configs(**overrides: object) -> list[gi.TrainConfig]:
    """Three runs that differ in their seeds and splits."""
    return [
        tiny(seed=seed, **{"training.split_seed": seed, "training.steps": STEPS, **overrides})
        for seed in SEEDS
    ]


def copied(snapshot: Snapshot) -> Snapshot:
    weights = {name: weight.detach().clone() for name, weight in snapshot.weights.items()}
    return Snapshot(snapshot.step, snapshot.metrics, snapshot.keep, weights, snapshot.last)


def together(trainer: BatchedTrainer) -> list[list[Snapshot]]:
    found: list[list[Snapshot]] = [[] for _ in trainer.members]
    for number, snapshot in trainer:
        assert isinstance(snapshot, Snapshot)
        found[number].append(copied(snapshot))
    return found


def assert_the_same(one: list[Snapshot], other: list[Snapshot], tolerance: float) -> None:
    assert [(s.step, s.keep, s.last) for s in one] == [(s.step, s.keep, s.last) for s in other]
    for a, b in zip(one, other, strict=True):
        assert a.metrics is not None
        assert b.metrics is not None
        norms = [metrics.get("grad_norm", 0.0) for metrics in (a.metrics, b.metrics)]
        assert {**a.metrics, "grad_norm": 0.0} == pytest.approx(
            {**b.metrics, "grad_norm": 0.0}, rel=tolerance
        )
        assert norms[0] == pytest.approx(
            norms[1], rel=tolerance, abs=10 * tolerance
        )  # of weights so far apart, on steep slopes
        for name, weight in a.weights.items():
            torch.testing.assert_close(weight, b.weights[name], rtol=0, atol=10 * tolerance)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(("dtype", "steps", "tolerance"), [("float64", STEPS, 1e-9), ("float32", 20, 1e-4)])
def test_each_member_is_the_run_that_it_is_alone(variant, dtype, steps, tolerance):
    asked = configs(**{**VARIANTS[variant], "training.dtype": dtype, "training.steps": steps})
    for config, found in zip(asked, together(BatchedTrainer(asked)), strict=True):
        assert_the_same(found, [copied(s) for s in Trainer(config)], tolerance)


def test_pieces_change_nothing_but_rounding(monkeypatch):
    asked = configs(**{"training.dtype": "float64", "training.steps": 20})
    whole = together(BatchedTrainer(asked))
    monkeypatch.setattr(batched, "_AT_ONCE", 10)
    for one, other in zip(whole, together(BatchedTrainer(asked)), strict=True):
        assert_the_same(one, other, 1e-9)


def test_members_that_end_leave_the_others_as_they_are():
    """They stop at steps of their own."""
    asked = configs(
        **{
            "training.dtype": "float64",
            "training.steps": 120,
            "training.stop_when": "train_accuracy >= 0.9 for 10",
            "training.evaluate_every": 1,
        }
    )
    found = together(BatchedTrainer(asked))
    assert len({snapshots[-1].step for snapshots in found}) > 1
    assert all(snapshots[-1].last for snapshots in found)
    for config, snapshots in zip(asked, found, strict=True):
        assert_the_same(snapshots, [copied(s) for s in Trainer(config)], 1e-9)


@pytest.mark.parametrize("variant", ["plain", "batches", "clip", "disputed", "mean of the last gradients"])
def test_either_goes_on_with_what_the_other_began(variant):
    asked = configs(**VARIANTS[variant], **{"training.dtype": "float64"})
    whole = [[copied(s) for s in Trainer(config)] for config in asked]

    trainer = BatchedTrainer(asked)
    states = {number: trainer.members[number].state() for number, snapshot in trainer if snapshot.step <= 50}
    for number, config in enumerate(asked):
        assert states[number].data["step"] == 50
        assert_the_same(
            [copied(s) for s in Trainer(config, states[number])],
            [s for s in whole[number] if s.step >= 50],
            1e-9,
        )

    begun = []
    for config in asked:
        alone = Trainer(config)
        begun.append(next(alone.state() for snapshot in alone if snapshot.step == 50))
    assert [{name: t.shape for name, t in s.tensors.items()} for s in begun] == [
        {name: t.shape for name, t in states[number].tensors.items()} for number in range(3)
    ]
    for found, expected in zip(together(BatchedTrainer(asked, begun)), whole, strict=True):
        assert_the_same(found, [s for s in expected if s.step >= 50], 1e-9)


def test_a_member_that_diverges_is_given_as_such_and_the_others_go_on():
    asked = configs(**{"training.dtype": "float64"})
    trainer = BatchedTrainer(asked)
    found: list[list] = [[], [], []]
    for number, snapshot in trainer:
        if isinstance(snapshot, Diverged):
            found[number].append(snapshot)
            continue
        found[number].append(copied(snapshot))
        if (number, snapshot.step) == (1, 50):
            snapshot.weights["unembed.W_U"].fill_(torch.nan)
    assert "diverged: the gradient became NaN or infinite at step" in str(found[1][-1]) or "loss" in str(
        found[1][-1]
    )
    for number in (0, 2):
        assert_the_same(found[number], [copied(s) for s in Trainer(asked[number])], 1e-9)


def test_a_member_that_is_dropped_or_paused_concerns_it_alone():
    asked = configs(**{"training.dtype": "float64", "training.evaluate_every": 10})
    trainer = BatchedTrainer(asked)
    steps: list[list[int]] = [[], [], []]
    for number, snapshot in trainer:
        steps[number].append(snapshot.step)
        if snapshot.step == 20:
            trainer.members[0].paused = True
        if (number, snapshot.step) == (0, 23):
            trainer.drop(0)
    assert steps[0] == [0, 10, 20, 21, 22, 23]
    assert steps[1] == steps[2] == list(range(0, STEPS + 1, 10))


def test_only_what_differs_in_seeds_is_stacked():
    for asked in ([tiny(), tiny(**{"training.lr": 1e-4})], [tiny(**{"training.optimizer": "muon"})], []):
        with pytest.raises(
            ConfigError, match="only configurations that differ in nothing but seeds and threads"
        ):
            BatchedTrainer(asked)
    first = Trainer(tiny()).state()
    later = Trainer(tiny(seed=1))
    state = next(later.state() for snapshot in later if snapshot.step == 10)
    with pytest.raises(
        ConfigError, match=r"only runs at the same step can be trained together; these are at \[0, 10\]"
    ):
        BatchedTrainer([tiny(), tiny(seed=1)], [first, state])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA device")
def test_on_a_gpu_each_member_is_the_run_on_the_cpu():
    asked = configs(**{"training.dtype": "float64"})
    on_gpu = [config.model_copy(update={"device": "cuda"}) for config in asked]
    for config, found in zip(asked, together(BatchedTrainer(on_gpu)), strict=True):
        on_cpu = [
            Snapshot(s.step, s.metrics, s.keep, {n: w.cpu() for n, w in s.weights.items()}, s.last)
            for s in found
        ]
        assert_the_same(on_cpu, [copied(s) for s in Trainer(config)], 1e-9)
