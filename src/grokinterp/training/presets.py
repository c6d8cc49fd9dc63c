"""Named recipes, and which of them a task takes where none is named.

A preset is a plain configuration; `doc` is the line that `grokinterp list presets` prints. docs/tasks.md has
what came of each default, measured by experiments/every_task/run.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..errors import ConfigError
from ..registry import Registry

PRESETS: Registry[dict[str, Any]] = Registry("preset", ConfigError)

_ADDITION_MOD_113 = {"name": "modular_addition", "p": 113}
_ADDITION_MOD_97 = {"name": "modular_addition", "p": 97, "layout": "a b"}
_OF_IMAGES = {"data": "fresh", "batch_size": 128, "lr": 1e-3, "weight_decay": 0.01}
_VIT = {"kind": "vision", "n_layers": 2, "d_model": 64, "n_heads": 4, "d_mlp": 256}
_PLAIN_DIVISION = {"name": "plain_division", "p": 31}
_OF_NANDA = {"d_model": 128, "n_heads": 4, "d_mlp": 512}

PRESETS["quick"] = {
    "doc": "p = 53, a small network: groks in seconds on a laptop",
    "task": {"name": "modular_addition", "p": 53},
    "model": {"d_model": 64, "n_heads": 4, "d_mlp": 256},
    "training": {"fraction": 0.4, "lr": 5e-3, "weight_decay": 3.0, "steps": 6000}
    | {"stop_when": "test_accuracy >= 1 for 300"},
    "snapshots": {"log": 20, "every": 200},
}
PRESETS["fast113"] = {
    "doc": "p = 113, the network of Nanda et al. 2023 at five times their learning rate: groks in half a "
    "minute",
    "task": _ADDITION_MOD_113,
    "model": _OF_NANDA,
    "training": {"fraction": 0.3, "lr": 5e-3, "steps": 8000, "stop_when": "test_accuracy >= 0.999 for 300"},
    "snapshots": {"log": 20, "every": 100},
}
PRESETS["nanda"] = {
    "doc": "the mainline run of Nanda et al. 2023: p = 113, lr 1e-3, 40,000 epochs, MLP biases, '=' among "
    "the logits",
    "task": _ADDITION_MOD_113,
    "model": {**_OF_NANDA, "train_biases": "mlp", "d_vocab_out": 114},
    "training": {"fraction": 0.3, "split": "python_shuffle", "split_seed": 0}
    | {"lr": 1e-3, "warmup": 10, "steps": 40_000},
    "snapshots": {"every": 100},
}
PRESETS["grokking_demo"] = {
    "doc": "the Grokking_Demo of TransformerLens: p = 113, lr 1e-3, 25,000 epochs, no biases, its split and "
    "its initial weights",
    "seed": 999,
    "task": _ADDITION_MOD_113,
    "model": {**_OF_NANDA, "init": "transformer_lens"},
    "training": {"fraction": 0.3, "split": "torch_randperm", "split_seed": 598, "lr": 1e-3, "steps": 25_000},
    "snapshots": {"every": 100},
}
PRESETS["doshi"] = {
    "doc": "the clean run of Doshi et al. 2024: p = 97, quadratic MLP of 500 neurons, squared error, 100 "
    "epochs: groks in seconds",
    "task": _ADDITION_MOD_97,
    "model": {"kind": "mlp", "embedding": "one_hot", "act_fn": "square", "d_mlp": 500, "init": "gromov"},
    "training": {"fraction": 0.5, "split_seed": 420, "loss": "mse", "lr": 1e-2, "weight_decay": 5.0}
    | {"steps": 100, "evaluate_every": 2},
    "snapshots": {"every": 10},
}
PRESETS["concat_mlp"] = {
    "doc": "SimpleMLP of neural-circuit-lab on noisy labels: p = 97, embeddings side by side, 512 neurons, "
    "no skip, 20,000 epochs",
    "task": {**_ADDITION_MOD_97, "noise": {"kind": "binomial", "n": 4, "p": 0.5}},
    "model": {"kind": "mlp", "embedding": "shared", "d_model": 128, "d_mlp": 512, "d_out": 128}
    | {"biases": "in", "init": "nanda"},
    "training": {"fraction": 0.3, "lr": 1e-3, "steps": 20_000},
    "snapshots": {"every": 100},
}
PRESETS["chughtai_mlp"] = {
    "doc": "the MLP of Chughtai et al. 2023 on addition: p = 113, an embedding for each operand, 128 "
    "neurons, 250,000 epochs",
    "seed": 1,
    "task": {**_ADDITION_MOD_113, "layout": "a b"},
    "model": {"kind": "mlp", "embedding": "separate", "d_model": 256, "d_mlp": 128},
    "training": {"fraction": 0.3, "lr": 1e-3, "steps": 250_000, "evaluate_every": 50},
    "snapshots": {"every": 1000},
}
PRESETS["point_slope"] = {
    "doc": "slopes between opaque points of a 7 x 7 grid, 90 % of the pairs {p, q}: memorises in 300 steps, "
    "then learns the grid",
    "task": {"name": "point_slope", "n": 7},
    "model": {**_OF_NANDA, "init_scale": 1.2},
    "training": {"fraction": 0.9, "batch_size": 512, "lr": 1e-3, "weight_decay": 0.3, "steps": 8000}
    | {"evaluate_every": 20},
    "snapshots": {"log": 20, "every": 100},
}
PRESETS["regression"] = {
    "doc": "plain division as a number: p = 31, a perceptron of 256 neurons that answers with one, by "
    "squared distance: seconds",
    "task": _PLAIN_DIVISION,
    "model": {"kind": "mlp", "d_model": 64, "d_mlp": 256, "biases": "all", "readout": "number"},
    "training": {"fraction": 0.8, "loss": "squared_distance", "lr": 1e-3, "weight_decay": 1.0, "steps": 2000},
    "snapshots": {"every": 100},
}
PRESETS["nalu"] = {
    "doc": "plain division by one neural arithmetic logic unit (Trask et al. 2018): exact, or, by its seed, "
    "never: seconds",
    "task": _PLAIN_DIVISION,
    "model": {"kind": "nalu"},
    "training": {"fraction": 0.8, "loss": "squared_distance", "lr": 1e-2, "weight_decay": 0.0, "steps": 3000},
    "snapshots": {"every": 100},
}
PRESETS["words"] = {
    "doc": "two layers on fresh examples, 256 for every update: a small transformer for tasks of words that "
    "are drawn without end",
    "task": {"name": "majority"},
    "model": {"n_layers": 2, "d_model": 64, "n_heads": 4, "d_mlp": 128},
    "training": {"data": "fresh", "batch_size": 256, "lr": 1e-3, "weight_decay": 0.01, "steps": 200}
    | {"evaluate_every": 5},
    "snapshots": {"every": 10},
}
PRESETS["digits"] = {
    "doc": "one layer on fresh sums of numbers of five digits, all digits at once, 128 for every update: two "
    "minutes",
    "task": {"name": "digit_addition"},
    "model": _OF_NANDA,
    "training": {"data": "fresh", "batch_size": 128, "lr": 1e-3, "weight_decay": 0.25, "steps": 6000}
    | {"evaluate_every": 10},
    "snapshots": {"log": 20, "every": 100},
}
PRESETS["one_digit"] = {
    "doc": "the same network for one digit of the sum, by default the tens, 512 fresh sums for every update: "
    "plateaus at ln 10 and ln 2",
    "task": {"name": "digit_addition", "answer": "tens"},
    "model": {**_OF_NANDA, "init": "transformer_lens"},
    "training": {"data": "fresh", "batch_size": 512, "lr": 1e-3, "weight_decay": 0.25, "steps": 2500}
    | {"evaluate_every": 10},
    "snapshots": {"log": 20, "every": 50},
}
PRESETS["matrices"] = {
    "doc": "two layers that read a matrix and write its eigenvalues token by token, on 128 fresh matrices an "
    "update",
    "task": {"name": "eigenvalues"},
    "model": {"n_layers": 2, "d_model": 128, "n_heads": 4, "d_mlp": 512, "normalization": "LN"},
    "training": {"data": "fresh", "batch_size": 128, "lr": 1e-3, "weight_decay": 0.0, "warmup": 200}
    | {"clip": 5.0, "steps": 2400, "evaluate_every": 100},
    "snapshots": {"log": 10, "every": 200},
}
PRESETS["patch_vit"] = {
    "doc": "a vision transformer of linear patches on fresh images of lines: seconds",
    "task": {"name": "line_images"},
    "model": {**_VIT, "patch_size": 4},
    "training": _OF_IMAGES | {"steps": 400, "evaluate_every": 10, "stop_when": "test_accuracy >= 1 for 50"},
    "snapshots": {"log": 20, "every": 20},
}
PRESETS["double_vit"] = {
    "doc": "a vision transformer with a small transformer inside each patch, 5 % of the pixels of the lines "
    "being flipped: a minute",
    "task": {"name": "line_images", "flips": 0.05},
    "model": {**_VIT, "patch_size": 4, "local_layers": 1, "local_d_model": 32, "local_heads": 4},
    "training": _OF_IMAGES
    | {"clip": 1.0, "steps": 2000, "evaluate_every": 20, "stop_when": "test_accuracy >= 0.98 for 60"},
    "snapshots": {"log": 20, "every": 50},
}
PRESETS["pixel_vit"] = {
    "doc": "a vision transformer with one token per pixel on fresh images of lines: minutes",
    "task": {"name": "line_images", "examples": 1024},
    "model": {**_VIT, "patch_size": 1},
    "training": _OF_IMAGES
    | {
        "lr": 5e-4,
        "clip": 1.0,
        "steps": 600,
        "evaluate_every": 25,
        "stop_when": "test_accuracy >= 0.99 for 50",
    },
    "snapshots": {"log": 20, "every": 50},
}


@dataclass(frozen=True)
class Default:
    """The recipe of a task where none is named.

    Attributes:
        preset: its name.
        changes: dotted keys laid over the preset.
        unlearned: why a network does not generalise with it; None where it does.
    """

    preset: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    unlearned: str | None = None

    def __str__(self) -> str:
        return ", ".join([self.preset, *(f"{key}={value}" for key, value in self.changes.items())])


_UNTIL_LEARNED = {"training.stop_when": "test_accuracy >= 0.995 for 40"}
_BRANCHES = {"training.fraction": 0.7, "training.steps": 200, **_UNTIL_LEARNED}
"""Two operations in one table; an operand says which."""
_FEW_UNSEEN = {"training.fraction": 0.9, "training.weight_decay": 2.0, "training.steps": 600}
_SOON = {"model.init_scale": 1.0, "training.lr": 2e-3, "training.steps": 5000, **_UNTIL_LEARNED}
"""In place of a preset that shows a network that memorises first."""
_NEVER_SEEN = "no recipe that was tried got beyond chance, nor did Power et al. 2022 see it generalise"
_UNTRAINED = "45 % of the unseen pairs have a quotient that no training pair has, as most occur once"
_THREE_DIGITS = "numbers within 5 % are what is looked for (accuracy.by_criterion), not every digit of them"
_NO_RULE = "every answer is drawn by chance, so there is no rule to find"


def _tried(best: str) -> str:
    return f"no recipe that was tried kept 99 %; the best, with 90 % of the pairs, ended at {best}"


DEFAULTS: dict[str, Default] = {
    "modular_addition": Default("fast113"),
    "modular_subtraction": Default("doshi"),
    "modular_multiplication": Default("doshi"),
    "modular_division": Default("doshi"),
    "x2_plus_y2": Default("doshi"),
    "x2_plus_xy_plus_y2": Default("doshi", unlearned=_tried("0.989 (mod 53)")),
    "x2_plus_xy_plus_y2_plus_x": Default("doshi", unlearned=_tried("0.979 (mod 31)")),
    "x3_plus_xy": Default("doshi", unlearned=_tried("0.588 (mod 31)")),
    "x3_plus_xy2_plus_y": Default("doshi", unlearned=_NEVER_SEEN),
    "divide_if_odd_else_subtract": Default("doshi", _BRANCHES),
    "add_if_even_else_multiply": Default("doshi", _BRANCHES),
    "add_if_even_else_subtract": Default("doshi", _BRANCHES),
    "group_composition": Default("doshi", {"training.steps": 200, **_UNTIL_LEARNED}),
    "group_conjugation": Default("doshi", {"training.fraction": 0.6, "training.steps": 400} | _UNTIL_LEARNED),
    "group_aba": Default("doshi", {"task.group": "S4", "model.d_mlp": 1000} | _FEW_UNSEEN | _UNTIL_LEARNED),
    "point_slope": Default("point_slope", _SOON),
    "plain_division": Default("doshi", {"task.p": 31, "training.fraction": 0.8}, unlearned=_UNTRAINED),
    "majority": Default("words"),
    "digit_addition": Default("digits"),
    "reverse": Default("words"),
    "line_images": Default("patch_vit"),
    "eigenvalues": Default("matrices", unlearned=_THREE_DIGITS),
    "eigenvectors": Default("matrices", unlearned=_THREE_DIGITS),
    "matrix_inverse": Default("matrices", unlearned=_THREE_DIGITS),
    "matrix_transpose": Default("matrices", unlearned=_THREE_DIGITS),
    "matrix_addition": Default("matrices", unlearned=_THREE_DIGITS),
    "random_table": Default("doshi", unlearned=_NO_RULE),
}
"""Tuned over seeds by experiments/every_task/run.py; a task that is not among them takes `UNTUNED`."""

UNTUNED = Default("fast113")
