"""TransformerLens 3 and TransformerLens 4 side by side: a run trained with one is, byte for byte, the run
trained with the other, and its networks compute the same bits.

`make test-tl4` makes both environments and says where the other one is. Bytes differ from one processor to
the next, so both train here and now.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.metadata import version

import pytest

ASKED = r"""
import hashlib, json, sys, tempfile, warnings
from importlib.metadata import version
import torch
import grokinterp as gi

torch.set_num_threads(1)
ONE = {"training.steps": 20, "snapshots.log": None, "snapshots.every": 10, "threads": 1,
       "training.stop_when": None}
SMALL = {"model.d_model": 16, "model.n_heads": 2, "model.d_mlp": 32}
CONFIGS = {
    "one layer": ("quick", {"task.p": 11, **SMALL}),
    "two layers, LN, all biases": (
        "quick",
        {"task.p": 7, **SMALL, "model.n_layers": 2, "model.normalization": "LN", "model.train_biases": "all",
         "model.init": "transformer_lens"},
    ),
    "fresh examples": (
        "words",
        {**SMALL, "training.batch_size": 8, "task": {"name": "reverse", "n": 2, "v": 3, "examples": 16}},
    ),
    "perceptron": ("doshi", {"task.p": 7}),
    "encoder and decoder": ("matrices", {**SMALL, "training.batch_size": 8, "task.examples": 8}),
    "images": ("pixel_vit", {"model.n_layers": 1, "training.batch_size": 8, "task.examples": 16}),
}


def sha256(tensors):
    together = hashlib.sha256()
    for name in sorted(tensors):
        together.update(name.encode() + tensors[name].contiguous().view(torch.uint8).numpy().tobytes())
    return together.hexdigest()


said = {"transformer-lens": version("transformer-lens"), "torch": torch.__version__, "runs": {}}
for name, (preset, changes) in CONFIGS.items():
    with tempfile.TemporaryDirectory() as folder:
        run = gi.train(gi.TrainConfig.preset(preset, **{**ONE, **changes}), folder + "/run", progress=False)
        model = run.model(-1)
        with torch.no_grad():
            logits, cache = model.run_with_cache(run.task.inputs[:50])
        said["runs"][name] = {
            "snapshots": [run.sha256(step) for step in run.steps],
            "activations": sha256({**dict(cache.items()), "logits": logits}),
            "hooks": list(model.hook_dict),
            "parameters": [key for key, _ in model.named_parameters()],
        }
print(json.dumps(said))
"""


def told(python: str) -> dict:
    """What an interpreter says of runs that it trains."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([python, "-c", ASKED], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_run_trained_with_transformer_lens_3_and_with_4_has_one_sha256():
    other = os.environ.get("GROKINTERP_OTHER_PYTHON")
    if not other:
        pytest.skip(
            "GROKINTERP_OTHER_PYTHON names no interpreter with the other TransformerLens: make test-tl4"
        )
    here, there = told(sys.executable), told(other)
    versions = {here.pop("transformer-lens"), there.pop("transformer-lens")}
    assert version("transformer-lens") in versions
    assert {text.split(".")[0] for text in versions} == {"3", "4"}
    assert here == there
    for name, run in here["runs"].items():
        print(
            f"{name}: {', '.join(sha256[:12] for sha256 in run['snapshots'])} with {' and '.join(versions)}"
        )
    assert len({run["snapshots"][-1] for run in here["runs"].values()}) == len(here["runs"])
