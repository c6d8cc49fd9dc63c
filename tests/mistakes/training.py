"""Configurations, and what is trained."""

from __future__ import annotations

import re
from typing import Any
from unittest import mock

import torch

import grokinterp as gi
from grokinterp.runs import loggers
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
        "a GPU by its number",
        lambda w: preset("quick", device="cuda:1"),
        r"takes no number of a GPU: choose '(cuda)', with (CUDA_VISIBLE_DEVICES)=(1) in the environment",
        lambda w, m: with_one_gpu(preset("quick", device=m[1]), **{m[2]: m[3]}),
    ),
    mistake(
        "a key that the optimiser has not",
        lambda w: preset("quick", **{"training.optimizer": "sgd", "training.eps": 1e-6}),
        r"training\.eps: sgd has none: leave it out, or choose (adamw) or (adam)",
        lambda w, m: w.train(**{"training.optimizer": "sgd"}),
        lambda w, m: [w.train(**{"training.optimizer": other, "training.eps": 1e-6}) for other in m.groups()],
    ),
    mistake(
        "smoothed labels where the loss has no classes",
        lambda w: preset("quick", **{"training.loss": "mse", "training.label_smoothing": 0.1}),
        r"training\.label_smoothing: mse .*: leave it out, or set (training\.loss)='(\w+)'",
        lambda w, m: w.train(**{"training.loss": "mse"}),
        lambda w, m: w.train(**{m[1]: m[2], "training.label_smoothing": 0.1}),
    ),
    mistake(
        "smoothed labels of StableMax",
        lambda w: preset("quick", **{"training.loss": "stablemax", "training.label_smoothing": 0.1}),
        r"training\.label_smoothing: stablemax .*: leave it out, or set (training\.loss)='(\w+)'",
        lambda w, m: w.train(**{"training.loss": "stablemax"}),
        lambda w, m: w.train(**{m[1]: m[2], "training.label_smoothing": 0.1}),
    ),
    mistake(
        "a temperature where the loss makes no probabilities",
        lambda w: preset("quick", **{"training.loss": "mse", "training.temperature": 2.0}),
        r"training\.temperature: mse .*: leave it out, or set (training\.loss)='(\w+)'",
        lambda w, m: w.train(**{"training.loss": "mse"}),
        lambda w, m: w.train(**{m[1]: m[2], "training.temperature": 2.0}),
    ),
    mistake(
        "a recipe for an optimiser",
        lambda w: preset("quick", **{"training.optimizer": "Grokfast"}),
        r"is done to gradients before an optimiser: choose (adamw), and set (training\.grokfast)='(ema)'",
        lambda w, m: w.train(**{"training.optimizer": m[1], m[2]: m[3]}),
    ),
    mistake(
        "a setting of Grokfast without it",
        lambda w: preset("quick", **{"training.grokfast_window": 5}),
        r"training\.grokfast_window: .*: leave it out, or set (training\.grokfast)='(ma)'",
        lambda w, m: w.train(),
        lambda w, m: w.train(**{"training.grokfast_window": 5, m[1]: m[2]}),
    ),
    mistake(
        "a setting of another kind of Grokfast",
        lambda w: preset("quick", **{"training.grokfast": "ma", "training.grokfast_alpha": 0.9}),
        r"training\.grokfast_alpha: 'ma' has none: leave it out, or set (training\.grokfast)='(ema)'",
        lambda w, m: w.train(**{"training.grokfast": "ma"}),
        lambda w, m: w.train(**{"training.grokfast_alpha": 0.9, m[1]: m[2]}),
    ),
    mistake(
        "a word of other people's code",
        lambda w: w.config(dataset="modular_addition"),
        r"unknown key 'dataset'; did you mean '([\w.]+)'\? \(`grokinterp (list tasks)` has the names\)",
        lambda w, m: w.cli(m[2]),
        lambda w, m: w.config(**{m[1]: "modular_addition"}),
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
    mistake(
        "a directory as a key",
        lambda w: preset("quick", output_dir="here"),
        r"the directory of a run is no key: --out, or gi\.train\(config, out=\.\.\.\), names it",
        lambda w, m: gi.train(w.config(), out=w.new(), progress=False),
        lambda w, m: w.cli("train modular_addition --dry-run --out {}", w.new()),
    ),
    mistake(
        "going on as a key",
        lambda w: preset("quick", resume=True),
        r"a run goes on when the same command, or call of gi\.train, is given again",
        lambda w, m: [gi.train(w.config(), w.run.path.parent / "again", progress=False) for _ in range(2)],
    ),
    mistake(
        "a logger as a key",
        lambda w: preset("quick", wandb=True),
        r"loggers are no key: --log (\w+), or gi\.train\(config, out=\.\.\., log='(\w+)'\)",
        lambda w, m: [loggers.LOGGERS[name] for name in m.groups()],
        lambda w, m: gi.train(w.config(), out=w.new(), log=print, progress=False),
    ),
    mistake(
        "several seeds as a key",
        lambda w: preset("quick", seeds="0,1"),
        r"several seeds are no key: --seeds ([\d.]+), or "
        r"gi\.train_many\(config, out=\.\.\., seeds='([\d.]+)'\)",
        lambda w, m: gi.train_many(w.config(), out=w.new(), seeds=m[2], workers=1, progress=False),
        lambda w, m: w.cli("train modular_addition --dry-run --out {} --seeds {}", w.new(), m[1]),
    ),
    mistake(
        "noise under another word",
        lambda w: preset("quick", **{"training.label_noise": 0.35}),
        r"did you mean '(task\.noise)'\? \(a section such as \{'kind': '(\w+)', 'share': ([\d.]+)\}\)",
        lambda w, m: preset("quick", **{m[1]: {"kind": m[2], "share": float(m[3])}}),
    ),
    mistake(
        "neurons under another word",
        lambda w: preset("quick", **{"model.mlp_ratio": 4}),
        r"did you mean '(model\.d_mlp)'\? \(the number of neurons, such as (\d) times model\.d_model\)",
        lambda w, m: preset("quick", **{m[1]: int(m[2]) * preset("quick").model.d_model}),
    ),
]


def with_one_gpu(config: gi.TrainConfig, **environment: str) -> None:
    """The device of a configuration where the environment shows a GPU."""
    with mock.patch.dict("os.environ", environment), mock.patch("torch.cuda.is_available", return_value=True):
        assert resolve_device(config.device).type == "cuda"


def without_muon(optimizer: str) -> Trainer:
    """A training where torch is too old for an optimiser."""
    with mock.patch("torch.optim.Muon", create=True):
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
        "a device that computes wrongly",
        lambda w: on_a_faulty_device(w, "mps"),
        r"device: \w+ gives other numbers than the CPU .*; use device = '(cpu)' \(torch \S+ has such a fault",
        lambda w, m: on_a_faulty_device(w, m[1]),
    ),
    mistake(
        "MPS where there is none",
        lambda w: without_devices("mps"),
        r"mps was asked for .* use device = '(cpu)' or '(auto)'",
        lambda w, m: [without_devices(name) for name in m.groups()],
    ),
]


def on_a_faulty_device(w: World, name: str) -> Trainer:
    """A training where every device but the CPU computes losses that are twice too large."""
    losses = [{"the loss": torch.full((3,), size), "embed.W_E": torch.ones(3)} for size in (2.0, 1.0)]
    with (
        mock.patch("grokinterp.training.trainer.resolve_device", return_value=torch.device("cpu")),
        mock.patch("grokinterp.training.trainer.is_accelerator", return_value=name != "cpu"),
        mock.patch("grokinterp.training.devices._computed", side_effect=losses),
    ):
        return Trainer(w.config(device=name))


def without_devices(name: str) -> Any:
    """The device of that name on a machine that has the CPU alone."""
    with (
        mock.patch("torch.cuda.is_available", return_value=False),
        mock.patch("torch.backends.mps.is_available", return_value=False),
    ):
        return resolve_device(name)


TRAINING = [*CONFIGURATION, *TRAINERS]
