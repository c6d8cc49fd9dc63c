"""What a user sets as torch's defaults changes no run, and no number that is read off one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

import grokinterp as gi
from grokinterp.runs import many


@contextmanager
def default_device() -> Iterator[None]:
    torch.set_default_device("meta")
    try:
        yield
        assert torch.get_default_device().type == "meta"
    finally:
        torch.set_default_device(None)


@contextmanager
def device_of_a_block() -> Iterator[None]:
    with torch.device("meta"):
        yield
        assert torch.empty(1).is_meta


@contextmanager
def default_dtype() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    try:
        yield
        assert torch.empty(1).dtype == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


DEFAULTS = [default_device, device_of_a_block, default_dtype]
WAYS: dict[str, dict[str, Any]] = {
    "folded": {},
    "minibatches": {"training.batch_size": 16},
    "layers": {"model.n_layers": 2, "model.normalization": "LN", "model.init": "transformer_lens"},
    "muon": {"training.optimizer": "muon"},
    "in parts": {"training.accumulate": 2},
    "monitored": {"monitor": ("gini.W_E", "restricted_loss.logit_dirs")},
    "noise": {"task.noise": {"kind": "uniform", "share": 0.2}},
    "fresh digits": {
        "task": {"name": "digit_addition", "n": 2},
        "training.data": "fresh",
        "training.batch_size": 8,
    },
    "images": {"preset": "patch_vit", "model.d_model": 8, "model.n_heads": 2, "task.examples": 64},
    "mlp": {"model": {"kind": "mlp", "d_mlp": 16}},
}


def tiny(**changes: Any) -> gi.TrainConfig:
    values = {"training.steps": 4, "snapshots.every": 2, "threads": 2, "training.stop_when": None, **changes}
    if (preset := values.pop("preset", None)) is None:
        sizes = {"task.p": 11, "model.d_model": 8, "model.n_heads": 2, "model.d_mlp": 16}
        preset, values = "quick", sizes | values
    return gi.TrainConfig.preset(preset, **values)


def contents(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}


@pytest.mark.parametrize("way", WAYS)
def test_a_run_has_the_same_bytes_whatever_torchs_defaults_are(tmp_path, way):
    config = tiny(**WAYS[way])
    gi.train(config, tmp_path / "plain", progress=False)
    for number, defaults in enumerate(DEFAULTS):
        with defaults():
            gi.train(config, tmp_path / str(number), progress=False)
        assert contents(tmp_path / str(number)) == contents(tmp_path / "plain"), defaults.__name__


def test_runs_that_are_stacked_have_the_same_bytes_whatever_torchs_defaults_are(tmp_path, monkeypatch):
    monkeypatch.setattr(many, "_device_type", lambda config: "cuda")

    def trained(name: str) -> dict[str, bytes]:
        gi.train_many(tiny(), tmp_path / name, seeds=[0, 1], progress=False)
        return contents(tmp_path / name)

    plain = trained("plain")
    for defaults in DEFAULTS:
        with defaults():
            assert trained(defaults.__name__) == plain


@pytest.mark.parametrize("defaults", DEFAULTS)
def test_what_is_read_off_a_run_does_not_depend_on_torchs_defaults(tmp_path, defaults):
    run = gi.train(tiny(), tmp_path, progress=False)
    asked: dict[str, Callable[[gi.Run], Any]] = {
        "logits": lambda run: run.view(-1).logits.tolist(),
        "losses": lambda run: float(gi.measure("loss", run.view(-1)).sum()),
        "keys": lambda run: gi.key_frequencies(run.view(-1)).consensus,
        "weights": lambda run: {name: x.tolist() for name, x in run.state_dict(2).items()},
        "model": lambda run: run.model(-1)(run.task.inputs.cpu()[:2]).tolist(),
        "replay": lambda run: gi.replay(run, ["gini.W_E"], progress=False)["gini.W_E"].values.tolist(),
    }
    plain = {name: ask(gi.load_run(tmp_path)) for name, ask in asked.items()}
    for file in (run.path / "replay").iterdir():
        file.unlink()
    with defaults():
        for name, ask in asked.items():
            assert str(ask(gi.load_run(tmp_path))) == str(plain[name]), name
