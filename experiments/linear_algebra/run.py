"""Transformers that do linear algebra on 2 x 2 matrices: eigenvalues, eigenvectors, inverses. What they get
right, which matrices they fail on, and what the distribution that they were trained on decides.

python experiments/linear_algebra/run.py --check  # eigenvalues, two distributions: minutes
python experiments/linear_algebra/run.py          # with eigenvectors, inverses and a decoder alone
python experiments/linear_algebra/run.py --only inverse

Exits 1 where a number is missed. A training that was interrupted goes on.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd

import grokinterp as gi


HERE = Path(__file__).parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(HERE.parent))

from expectations import Row, between, told  # noqa: E402

RIGHT = "within 5 %"
DISTRIBUTIONS = ("semicircle", "uniform", "gaussian", "laplace", "positive", "positive2")


def configs() -> dict[str, gi.TrainConfig]:
    """Every training, by what it is."""
    changes = {
        "semicircle": {},
        "laplace": {"task.distribution": "laplace", "training.steps": 3600},
        "eigenvectors": {"task.name": "eigenvectors", "training.steps": 2400},
        "inverse": {"task.name": "matrix_inverse", "task.symmetric": True, "training.steps": 3600},
        "decoder": DECODER,
    }
    return {name: gi.TrainConfig.preset("matrices", threads=1, **each) for name, each in changes.items()}


DECODER = {
    "model.kind": "transformer", "model.n_layers": 3, "model.d_model": 128, "model.n_heads": 4,
    "model.normalization": "LN", "model.train_biases": "all", "model.init": "transformer_lens",
}  # fmt: skip
"""As many layers in a HookedTransformer that reads question and answer as one row."""
CHECKED = ("semicircle", "laplace")
