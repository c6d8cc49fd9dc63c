"""What every test shares: a small trained run, made once."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings

import annotations_checked  # noqa: F401  before the package, which it checks
import grokinterp as gi
from grokinterp.cli import main
from grokinterp.errors import RunLocked

# How fast a machine is, or how busy, decides no test.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")

# Tests run in as many processes as there are cores: each computes with one thread, and so do the commands
# that it starts.
os.environ.setdefault("OMP_NUM_THREADS", "1")
torch.set_num_threads(1)

TINY = {
    "task.p": 7,
    "model.d_model": 16,
    "model.d_mlp": 32,
    "training.steps": 20,
    "training.lr": 3e-3,
    "training.weight_decay": 2.0,
    "training.stop_when": None,
    "snapshots.log": None,
    "snapshots.every": 10,
}
"""Overrides that make any recipe a matter of a tenth of a second."""


STABLE = {"training.dtype": "float64"}
"""For a training of which a test asks what it comes to: rounding of 1e-16 is still small when it ends, so
processors agree."""


def tiny(**overrides: object) -> gi.TrainConfig:
    """A configuration that trains in a tenth of a second."""
    return gi.TrainConfig.preset("quick", **{**TINY, "threads": 1, **overrides})


@pytest.fixture(scope="session")
def trained_once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, gi.TrainConfig], gi.Run]:
    """Trains what stands under a name, in the first process that needs it."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent

    def train(name: str, config: gi.TrainConfig) -> gi.Run:
        while True:
            try:
                return gi.train(config, shared / name, progress=False)
            except RunLocked:
                time.sleep(0.5)

    return train


@pytest.fixture(scope="session")
def quick_run(trained_once) -> gi.Run:
    """The `quick` recipe trained to its end: a network that has grokked addition mod 53.

    In float64: there it is the same run on every processor, to 1 % of its losses at the end. In float32 what
    is rounded differently has grown as large as the losses themselves by the step at which it groks.
    """
    return trained_once("quick", gi.TrainConfig.preset("quick", seed=1, **STABLE))


@pytest.fixture
def tiny_run(tmp_path: Path) -> gi.Run:
    """A finished run of 20 steps with three snapshots."""
    return gi.train(tiny(), tmp_path / "tiny", progress=False)


@pytest.fixture
def grokinterp(capsys, monkeypatch):
    """Runs the command in this process: returns exit code, stdout and stderr."""

    def run(*arguments: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["grokinterp", *map(str, arguments)])
        try:
            main()
            code = 0
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture(scope="session")
def browser():
    """The system's Chromium, or a skip with the reason; a failure where GROKINTERP_BROWSER=required."""
    executable = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if executable is None:
        message = "no Chromium is installed"
        pytest.fail(message) if os.environ.get("GROKINTERP_BROWSER") == "required" else pytest.skip(message)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        yield chromium
        chromium.close()
