"""Configurations, and what is trained."""

from __future__ import annotations

import re
from typing import Any
from unittest import mock

import grokinterp as gi
from grokinterp.training import Trainer
from grokinterp.training.trainer import resolve_device

from .base import World, mistake, with_memory

preset = gi.TrainConfig.preset
FRESH = {
    "task": {"name": "majority", "examples": 32},
    "model": {"d_model": 16, "n_heads": 4, "d_mlp": 16},
    "training": {"data": "fresh", "batch_size": 8, "steps": 2},
    "snapshots": {"every": 2},
    "threads": 1,
}


def fresh(**overrides: Any) -> gi.TrainConfig:
    """A configuration of fresh examples."""
    return gi.TrainConfig.make(FRESH, **overrides)


def diverging(w: World, **keys: Any) -> gi.Run:
    """A training that diverges, unless the keys hold it."""
    sgd = {"training.optimizer": "sgd", "training.weight_decay": 0.0, "training.lr": 1e4}
    return w.train(30, **{**sgd, **keys})


def given_by(text: str) -> dict[str, Any]:
    """Keys and numbers that a message gives, as "training.clip=1"."""
    return {
        key: float(value) if "." in value else int(value)
        for key, value in re.findall(r"([\w.]+)=([\d.]+)", text)
    }


CONFIGURATION = [
    mistake(
        "a task without a name",
        lambda w: gi.TrainConfig(task={"p": 5}),
        r"needs the name of a task, such as name = '(\w+)'",
        lambda w, m: gi.TrainConfig(task={"name": m[1], "p": 5}),
    ),
    mistake(
        "fresh examples without a batch",
        lambda w: fresh(**{"training.batch_size": None}),
        r"set (training\.batch_size)",
        lambda w, m: w.cli(
            "train majority --preset words --out {} --set training.steps=2 --set {}=8 --set task.examples=32 "
            "--set model.d_model=16 --set training.stop_when= --set snapshots.log=",
            w.new(),
            m[1],
        ),
    ),
    mistake(
        "noise in fresh examples",
        lambda w: gi.TrainConfig(
            task={"name": "modular_addition", "p": 7, "noise": {"kind": "uniform", "share": 0.1}},
            training={"data": "fresh", "batch_size": 8},
        ),
        r"labels of fresh examples have no noise: leave task\.noise out",
        lambda w, m: gi.TrainConfig(
            task={"name": "modular_addition", "p": 7}, training={"data": "fresh", "batch_size": 8}
        ),
    ),
    mistake(
        "a batch that does not divide into parts",
        lambda w: preset("quick", **{"training.batch_size": 9, "training.accumulate": 2}),
        r"training\.batch_size: 9 examples do not divide .* training\.accumulate=2.*: change one of them",
        lambda w, m: preset("quick", **{"training.batch_size": 8, "training.accumulate": 2}),
        lambda w, m: preset("quick", **{"training.batch_size": 9, "training.accumulate": 3}),
    ),
    mistake(
        "processes without a batch",
        lambda w: preset("quick", processes=2),
        r"processes: several share batches: set (training\.batch_size)",
        lambda w, m: preset("quick", processes=2, **{m[1]: 8}),
    ),
    mistake(
        "the distance of a number from a transformer",
        lambda w: preset("quick", **{"training.loss": "squared_distance"}),
        r"set model\.(readout)='(number)' of an (mlp), or another loss",
        lambda w, m: gi.TrainConfig(model={"kind": m[3], m[1]: m[2]}, training={"loss": "squared_distance"}),
        lambda w, m: preset("quick", **{"training.loss": "mse"}),
    ),
    mistake(
        "a key of another section",
        lambda w: preset("quick", **{"model.lr": 0.1}),
        r"unknown key 'model\.lr'; did you mean '([\w.]+)'",
        lambda w, m: preset("quick", **{m[1]: 0.1}),
    ),
    mistake(
        "a condition on a measure that is not monitored",
        lambda w: w.train(**{"training.stop_when": "gini.W_E > 0.99"}),
        r"add '([\w.]+)' to (monitor)",
        lambda w, m: w.train(**{"training.stop_when": "gini.W_E > 0.99", m[2]: (m[1],)}),
    ),
    mistake(
        "a condition on a measure that is nearly monitored",
        lambda w: w.train(**{"training.stop_when": "gini.W_L > 2", "monitor": ("gini.W_E",)}),
        r"add '([\w.]+)' to monitor; did you mean '([\w.]+)'",
        lambda w, m: w.train(**{"training.stop_when": f"{m[2]} > 2", "monitor": ("gini.W_E",)}),
    ),
    mistake(
        "a condition on an unknown metric",
        lambda w: preset("quick", **{"training.stop_when": "test_acuracy > 0.9"}),
        r"unknown metric 'test_acuracy'; did you mean '(\w+)'",
        lambda w, m: preset("quick", **{"training.stop_when": f"{m[1]} > 0.9"}),
    ),
    mistake(
        "a condition on a column that a monitored measure does not have",
        lambda w: w.train(monitor=("accuracy",), **{"training.stop_when": "accuracy.testt > 0.99"}),
        r"unknown metric '[\w.]+'; did you mean '([\w.]+)'",
        lambda w, m: w.train(monitor=("accuracy",), **{"training.stop_when": f"{m[1]} > 0.99"}),
    ),
    mistake(
        "a measure of many numbers is monitored",
        lambda w: w.train(monitor=("power.W_E",)),
        r"monitor: ([\w.]+) gives .*: replay measures the others at every snapshot",
        lambda w, m: gi.replay(w.run, [m[1]], progress=False),
    ),
    mistake(
        "a condition that is none",
        lambda w: preset("quick", **{"training.stop_when": "accuracy is high"}),
        r"needs a condition such as '(.+?)'",
        lambda w, m: preset("quick", **{"training.stop_when": m[1]}),
    ),
]


def without_muon(optimizer: str) -> Trainer:
    """A training where torch is too old for an optimiser."""
    with mock.patch("torch.optim.Muon", create=True):
        import torch

        del torch.optim.Muon
        return Trainer(preset("quick", **{"task.p": 5, "training.optimizer": optimizer}))


def started(w: World) -> gi.TrainConfig:
    """The configuration of a run that starts from another."""
    return gi.train(w.config(), w.new(), start=w.run, progress=False).config


TRAINERS = [
    mistake(
        "muon with an older torch",
        lambda w: without_muon("muon"),
        r"muon needs torch 2\.9 or newer, .*: choose (\w+)",
        lambda w, m: without_muon(m[1]),
    ),
    mistake(
        "the configuration of a run with a start, alone",
        lambda w: gi.train(started(w), w.new(), progress=False),
        r"give that run again \((start)=, or (--from)\)",
        lambda w, m: gi.train(started(w), w.new(), progress=False, **{m[1]: w.run}),
        lambda w, m: w.cli(
            "train modular_addition --config {} {} {} --out {}",
            w.file(started(w).to_toml(), ".toml"),
            m[2],
            w.run.path,
            w.new(),
        ),
    ),
    mistake(
        "a training that diverges",
        lambda w: diverging(w),
        r"training diverged: .*; try a smaller (training\.lr) than [\d.e+]+, alone or with (.*=.*);",
        lambda w, m: diverging(w, **{m[1]: 0.01}),
        lambda w, m: diverging(w, **{m[1]: 0.01}, **given_by(m[2])),
    ),
    mistake(
        "weights that are too large before the first step",
        lambda w: w.train(**{"model.init_scale": 1e6, "model.n_layers": 2}),
        r"step 0, before any update; try a smaller (model\.init_scale)",
        lambda w, m: w.train(**{m[1]: 1.0, "model.n_layers": 2}),
    ),
    mistake(
        "a training that does not fit into the memory",
        lambda w: with_memory("training.trainer", 2e6, lambda: Trainer(preset("quick"))),
        r"choose a smaller network, set (training\.batch_size), or choose fewer elements",
        lambda w, m: with_memory("training.trainer", 2e6, lambda: Trainer(w.config())),
    ),
    mistake(
        "CUDA where there is none",
        lambda w: without_devices("cuda"),
        r"use device = '(cpu)' or '(auto)'",
        lambda w, m: [without_devices(name) for name in m.groups()],
    ),
    mistake(
        "MPS where there is none",
        lambda w: without_devices("mps"),
        r"mps was asked for .* use device = '(cpu)' or '(auto)'",
        lambda w, m: [without_devices(name) for name in m.groups()],
    ),
]


def without_devices(name: str) -> Any:
    """The device of that name on a machine that has the CPU alone."""
    with (
        mock.patch("torch.cuda.is_available", return_value=False),
        mock.patch("torch.backends.mps.is_available", return_value=False),
    ):
        return resolve_device(name)


TRAINING = [*CONFIGURATION, *TRAINERS]
