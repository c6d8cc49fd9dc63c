"""Accelerators are not believed: before its first step a network computes there what it computes on the CPU.
Here a part of torch is made faulty, as it was found to be; there is no accelerator in these tests."""

from __future__ import annotations

import re

import pytest
import torch
from torch.nn import functional as F

import grokinterp as gi
from conftest import tiny
from grokinterp.errors import ConfigError
from grokinterp.training import BatchedTrainer, TrainConfig, Trainer, devices, trainer

CPU = torch.device("cpu")
TRUE_LINEAR = F.linear


def linear_of_torch_2_8(x, weight, bias=None):
    """F.linear on MPS with torch 2.8: a weight that is not contiguous is read as it lies in memory."""
    if not weight.is_contiguous():
        weight = weight.mT.contiguous().view(weight.shape)
    return TRUE_LINEAR(x, weight, bias)


KINDS = {
    "encoder and decoder": TrainConfig.preset(
        "matrices",
        **{"model.d_model": 16, "model.n_heads": 2, "model.d_mlp": 32, "task.examples": 32, "threads": 1},
    ),
    "images": TrainConfig.preset(
        "patch_vit", **{"task.examples": 32, "model.d_model": 16, "model.d_mlp": 32, "threads": 1}
    ),
}
"""Networks whose training calls F.linear with weights that are not contiguous."""


def state_of(config):
    task = config.make_task()
    weights = config.model.initial_weights(task.reads, 0)
    return config.model, config.training.loss, task, weights, config.make_split(task).train


def only_there(monkeypatch, name, faulty):
    """Makes a function of torch.nn.functional faulty on the device alone: what is computed first."""
    computed, calls = devices._computed, []

    def on_each(*arguments):
        with monkeypatch.context() as patch:
            if not calls:
                patch.setattr(F, name, faulty)
            calls.append(arguments[0])
            return computed(*arguments)

    monkeypatch.setattr(devices, "_computed", on_each)
    return calls


@pytest.mark.parametrize("kind", KINDS)
def test_the_fault_that_people_met_is_found_in_the_networks_that_it_spoils(monkeypatch, kind):
    devices.refuse_other_numbers(CPU, *state_of(KINDS[kind]))
    calls = only_there(monkeypatch, "linear", linear_of_torch_2_8)
    with pytest.raises(ConfigError, match=r"^device: cpu gives other numbers than the CPU") as error:
        devices.refuse_other_numbers(CPU, *state_of(KINDS[kind]))
    assert len(calls) == 2
    assert "\n" not in str(error.value)
    assert re.search(r"is off by \S+ of its norm, and 0\.01 is allowed; use device = 'cpu'", str(error.value))


@pytest.mark.parametrize(
    ("faulty", "says"),
    [
        (lambda ids, table, *rest: table[ids] * 1.05, "of 24 examples"),
        (lambda ids, table, *rest: table[ids].detach() + 0 * table[ids], "the gradient of embed.W_E"),
        (lambda ids, table, *rest: table[ids] * float("nan"), "is off by nan"),
    ],
    ids=["a little wrong", "right forwards, wrong backwards", "NaN"],
)
def test_a_wrong_forward_and_a_wrong_gradient_are_found_and_named(monkeypatch, faulty, says):
    config = tiny(**{"training.fraction": 0.5})
    only_there(monkeypatch, "embedding", faulty)
    with pytest.raises(ConfigError, match=re.escape(says)):
        devices.refuse_other_numbers(CPU, *state_of(config))


def test_what_rounding_does_is_allowed(monkeypatch):
    def rounded(ids, table, *rest):
        looked_up = table[ids]
        noise = torch.randn(looked_up.shape, generator=torch.Generator().manual_seed(0))
        return looked_up * (1 + 1e-5 * noise)

    only_there(monkeypatch, "embedding", rounded)
    devices.refuse_other_numbers(CPU, *state_of(tiny()))


@pytest.mark.parametrize(
    "config",
    [
        tiny(),
        tiny(**{"model.n_layers": 2, "model.normalization": "LN", "training.loss": "mse"}),
        tiny(**{"task.noise": {"kind": "uniform", "share": 0.3}}),
        TrainConfig.preset("doshi", **{"task.p": 7, "training.steps": 20}),
        TrainConfig.preset("regression", **{"training.steps": 20}),
        KINDS["encoder and decoder"].model_copy(),
    ],
    ids=["tables", "two layers", "noisy labels", "perceptron", "a number", "fresh examples"],
)
def test_every_network_passes_where_nothing_is_wrong(config):
    devices.refuse_other_numbers(CPU, *state_of(config))


def test_a_training_on_an_accelerator_asks_before_its_first_step(monkeypatch, tmp_path):
    plain = gi.train(tiny(), tmp_path / "plain", progress=False)
    monkeypatch.setattr(trainer, "is_accelerator", lambda device: True)
    calls = only_there(monkeypatch, "linear", TRUE_LINEAR)
    asked = gi.train(tiny(), tmp_path / "asked", progress=False)
    assert len(calls) == 2
    assert [asked.sha256(step) for step in asked.steps] == [plain.sha256(step) for step in plain.steps]
    only_there(monkeypatch, "embedding", lambda ids, table, *rest: table[ids] * 2)
    with pytest.raises(ConfigError, match="gives other numbers"):
        gi.train(tiny(), tmp_path / "refused", progress=False)
    assert not (tmp_path / "refused/snapshots").exists() or not any(
        (tmp_path / "refused/snapshots").iterdir()
    )


def test_several_seeds_at_once_are_asked_too(monkeypatch):
    monkeypatch.setattr(trainer, "is_accelerator", lambda device: True)
    configs = [tiny(seed=seed) for seed in (0, 1)]
    assert len(BatchedTrainer(configs).members) == 2
    only_there(monkeypatch, "embedding", lambda ids, table, *rest: table[ids] * 2)
    with pytest.raises(ConfigError, match="gives other numbers"):
        BatchedTrainer(configs)


def test_the_cpu_is_not_asked(monkeypatch):
    calls = only_there(monkeypatch, "linear", TRUE_LINEAR)
    Trainer(tiny())
    assert calls == []
    assert not devices.is_accelerator(CPU)
    assert devices.is_accelerator(torch.device("mps"))
    assert devices.is_accelerator(torch.device("cuda", 1))


def test_a_device_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert devices.resolve_device("auto") == CPU
    for name in ("cuda", "mps"):
        with pytest.raises(ConfigError, match=f"device: {name} was asked for"):
            devices.resolve_device(name)
