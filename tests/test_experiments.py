"""The experiments: their configurations load, their rows can be made, and (slow) what their READMEs say holds."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import grokinterp as gi

EXPERIMENTS = Path(__file__).parents[1] / "experiments"
QUICK = {"model.d_model": 16, "model.d_mlp": 32, "training.steps": 30, "training.batch_size": None}


def script(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(EXPERIMENTS))
    spec = importlib.util.spec_from_file_location(f"experiment_{name}", EXPERIMENTS / name / "run.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    return module


def checked(name: str, out: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(EXPERIMENTS / name / "run.py"), "--check", "--out", str(out)], capture_output=True, text=True, check=False
    )


def test_opaque_operations_has_every_operation_in_both_conventions(monkeypatch):
    module = script("opaque_operations", monkeypatch)
    small, full = module.small(), module.full()
    assert len(small) == 8
    assert len(full) == 5
    assert all(config.task["opaque"] == 7 and config.task["layout"] == "a op b =" for config in [*small.values(), *full.values()])
    assert {config.task.get("convention") for config in small.values()} == {"paper", "julia"}


def test_the_facts_of_the_tables_hold_and_others_are_missed(monkeypatch):
    module = script("opaque_operations", monkeypatch)
    assert all(row.holds for row in module.facts(97))
    assert not all(row.holds for row in module.facts(31))


def test_opaque_operations_makes_its_rows_of_networks_that_learned_nothing(monkeypatch, tmp_path):
    module = script("opaque_operations", monkeypatch)
    configs = {name: config.changed(**QUICK, **{"task.p": 11}) for name, config in module.small().items()}
    runs = {name: gi.train(config, tmp_path / name, progress=False) for name, config in configs.items()}
    rows = {row.name: row for row in module.rows(runs)}
    assert rows["paper: isomorphism of addition with Z_11, from the table"].holds
    assert not rows["addition_paper: steps to 99 %"].holds
    assert not rows["julia: order of the steps to 99 %"].holds
    assert len(module.rows_of_full({**runs, "addition_julia_30": runs["addition_julia"]})) == 7


def test_transfer_makes_its_rows(monkeypatch, tmp_path):
    module = script("transfer", monkeypatch)
    for name, pair in module.pairs().items():
        tiny = module.Pair(*(config.changed(**QUICK, **{"task.p": 11}) for config in (pair.first, pair.then)), pair.verdicts)
        rows = module.rows(name, tiny, module.trained(tiny, range(1), tmp_path / name).compared)
        assert [row.holds for row in rows] == [False, name == "subtraction_to_asymmetric"]
        assert rows[1].measured.startswith("never")


@pytest.mark.parametrize("name", ["opaque_operations", "transfer"])
def test_every_script_says_what_it_does(name):
    done = subprocess.run([sys.executable, str(EXPERIMENTS / name / "run.py"), "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "--check" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("name", ["opaque_operations", "transfer"])
def test_what_the_readme_says_holds(name, tmp_path):
    done = checked(name, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
