"""What can be checked of the experiments in seconds; their `--check` is slow, but for that of label_noise,
which CI runs."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from runpy import run_path
from types import ModuleType

import numpy as np
import pytest
import torch

import grokinterp as gi
from grokinterp.training import Trainer

EXPERIMENTS = Path(__file__).parents[1] / "experiments"
QUICK = {"model.d_model": 16, "model.d_mlp": 32, "training.steps": 30, "training.batch_size": None}


def script(name: str) -> ModuleType:
    """The experiment's run.py as a module."""
    spec = spec_from_file_location(f"run_{name}", EXPERIMENTS / name / "run.py")
    assert spec
    assert spec.loader
    module = module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look themselves up there
    spec.loader.exec_module(module)
    return module


def asked(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, EXPERIMENTS / name / "run.py", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_recipes_of_label_noise_are_the_presets_and_what_is_said_of_them():
    label_noise = script("label_noise")
    recipes = {
        name: gi.TrainConfig.from_toml((label_noise.HERE / f"{name}.toml").read_text())
        for name in ("doshi", "concat_mlp")
    }
    for name, preset in (
        ("doshi", gi.TrainConfig.preset("doshi")),
        ("concat_mlp", gi.TrainConfig.preset("concat_mlp")),
    ):
        assert recipes[name].model == preset.model
        assert recipes[name].seed == preset.seed
        for key in ("fraction", "split", "split_seed", "loss", "lr", "betas", "optimizer", "batch_size"):
            assert getattr(recipes[name].training, key) == getattr(preset.training, key)
    assert recipes["concat_mlp"].task == gi.TrainConfig.preset("concat_mlp").task
    clean = recipes["doshi"].changed(**label_noise.changes(label_noise.PUBLISHED["clean"]))
    assert clean.task == gi.TrainConfig.preset("doshi").task
    for published in label_noise.PUBLISHED.values():
        assert recipes["doshi"].changed(**label_noise.changes(published)).training.steps == published.steps


@pytest.mark.trains
def test_label_noise_measures_and_draws_a_small_run(tmp_path, capsys):
    label_noise = script("label_noise")
    small = {"task.p": 11, "training.steps": 20, "threads": 1, "snapshots.every": 10}
    run = label_noise.trained("doshi", tmp_path / "run", 0, **small)
    assert label_noise.trained("doshi", tmp_path / "run", 0, **small).steps == run.steps
    assert re.fullmatch(r"run: trained in \d+ s\nrun: was there already\n", capsys.readouterr().out)
    rows = label_noise.phase_rows("small", run, label_noise.CHECKED["coexistence"])
    assert [row.name for row in rows] == [
        f"small: {what}" for what in ("train accuracy", "test accuracy", "phase")
    ]
    assert not all(row.holds for row in rows)  # twenty steps are not enough
    curves = {order: gi.measure(f"pruning.{order}", run.view(-1)) for order in label_noise.ORDERS}
    assert all(0 <= row.measured <= 1 for row in label_noise.pruning_rows("small", curves))
    assert len(label_noise.drawn(curves, 4).data) == 9
    other = label_noise.trained("concat_mlp", tmp_path / "other", 0, **small)
    rows = label_noise.memorised_rows("small", other)
    assert {row.name: row.holds for row in rows}["small: Bayes loss (nats)"]
    assert not all(row.holds for row in rows)


@pytest.mark.slow
def test_label_noise_finds_what_it_expects(tmp_path):
    shown = asked("label_noise", "--check", "--out", str(tmp_path / "runs"))
    assert shown.returncode == 0, shown.stdout + shown.stderr
    assert "MISSED" not in shown.stdout


@pytest.mark.slow
@pytest.mark.parametrize("phase", ["coexistence", "partial_inversion"])
def test_from_their_own_initial_weights_the_networks_of_doshi_end_where_their_notebook_says(phase):
    """`noisy_dataset` sets torch's seed to 0 and draws the labels; what comes next from that generator are
    the weights."""
    label_noise = script("label_noise")
    published = label_noise.CHECKED[phase]
    config = gi.TrainConfig.from_toml(
        (label_noise.HERE / "doshi.toml").read_text(),
        **label_noise.changes(published),
        **{"training.evaluate_every": 100},
    )
    task = config.make_task()
    split = config.make_split(task)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        drawn = torch.randint(0, 97, (int(0.35 * len(split.train)),))
        first, second = torch.nn.Linear(194, 500, bias=False), torch.nn.Linear(500, 97, bias=False)
        for layer in (first, second):
            torch.nn.init.normal_(layer.weight, mean=0.0, std=0.25**0.5 / np.power(1000, 1 / 3))
    assert torch.equal(task.labels(split)[split.train[: len(drawn)]], drawn)
    weights = {
        "blocks.0.mlp.W_in": first.weight.detach().T.contiguous(),
        "unembed.W_U": second.weight.detach().T.contiguous(),
    }
    *_, last = Trainer(config, weights=weights)
    assert last.metrics["train_accuracy"] == pytest.approx(published.train, abs=published.tolerance)
    assert last.metrics["test_accuracy"] == pytest.approx(published.test, abs=0.005)


def test_opaque_operations_has_every_operation_in_both_conventions():
    module = script("opaque_operations")
    small, full = module.small(), module.full()
    assert len(small) == 8
    assert len(full) == 5
    assert all(
        config.task["opaque"] == 7 and config.task["layout"] == "a op b ="
        for config in [*small.values(), *full.values()]
    )
    assert {config.task.get("convention") for config in small.values()} == {"paper", "julia"}


def test_the_facts_of_the_tables_hold_and_others_are_missed():
    module = script("opaque_operations")
    assert all(row.holds for row in module.facts(97))
    assert not all(row.holds for row in module.facts(31))


@pytest.mark.trains
def test_opaque_operations_makes_its_rows_of_networks_that_learned_nothing(tmp_path):
    module = script("opaque_operations")
    configs = {name: config.changed(**QUICK, **{"task.p": 11}) for name, config in module.small().items()}
    runs = {name: gi.train(config, tmp_path / name, progress=False) for name, config in configs.items()}
    rows = {row.name: row for row in module.rows(runs)}
    assert rows["paper: isomorphism of addition with Z_11, from the table"].holds
    assert not rows["addition_paper: steps to 99 %"].holds
    assert not rows["julia: order of the steps to 99 %"].holds
    assert len(module.rows_of_full({**runs, "addition_julia_30": runs["addition_julia"]})) == 7


@pytest.mark.trains
def test_transfer_makes_its_rows(tmp_path, monkeypatch):
    def in_turn(configs, out, start=None, workers=1):
        """As train_many does, without the seconds in which its workers start."""
        return [
            gi.train(config, out / name, start=start and start[name], progress=False)
            for name, config in configs.items()
        ]

    monkeypatch.setattr(gi, "train_many", in_turn)
    module = script("transfer")
    for name, pair in module.pairs().items():
        tiny = module.Pair(
            *(config.changed(**QUICK, **{"task.p": 11}) for config in (pair.first, pair.then)), pair.verdicts
        )
        rows = module.rows(name, tiny, module.trained(tiny, range(1), tmp_path / name).compared)
        assert [row.holds for row in rows] == [False, name == "subtraction_to_asymmetric"]
        assert rows[1].measured.startswith("never")


def test_every_task_makes_its_rows_and_its_page(tmp_path):
    module = script("every_task")
    small = {"training.steps": 4, "threads": 1}
    outcomes = {
        "modular_subtraction": module.trained(
            "modular_subtraction", [0], tmp_path, **small, **{"task.p": 7, "model.d_mlp": 16}
        ),
        "random_table": module.trained(
            "random_table", [0, 1], tmp_path, **small, **{"task.p": 7, "model.d_mlp": 16}
        ),
    }
    assert [row.holds for row in module.rows("modular_subtraction", outcomes["modular_subtraction"])] == [
        False,
        False,
    ]
    assert [row.holds for row in module.rows("random_table", outcomes["random_table"])] == [True, True]
    learned = dataclasses.replace(
        outcomes["modular_subtraction"], steps=[3, 2, 3], accuracies=[1.0, 1.0, 1.0]
    )
    assert [row.holds for row in module.rows("modular_subtraction", learned)] == [True] * 6
    late = dataclasses.replace(learned, steps=[4, 2, None])
    assert [row.holds for row in module.rows("modular_subtraction", late)] == [
        False,
        True,
        True,
        True,
        False,
        True,
    ]
    lines = module.page({**outcomes, "modular_subtraction": learned}).splitlines()
    assert any(line.startswith("| `modular_subtraction` | `doshi` |  | 7 | 2–3 | 4 |") for line in lines)
    assert any(
        line.startswith("| `random_table` | `doshi` |  | 0.") and line.endswith("no rule to find |")
        for line in lines
    )


@pytest.mark.parametrize(
    "name",
    [
        "digit_addition", "division", "every_task", "label_noise", "line_images", "modular_addition",
        "opaque_operations", "point_slope", "transfer",
    ],
)  # fmt: skip
def test_every_script_says_what_it_does(name, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [f"{name}/run.py", "--help"])
    with pytest.raises(SystemExit) as stop:
        run_path(str(EXPERIMENTS / name / "run.py"), run_name="__main__")
    assert stop.value.code == 0
    assert "--check" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["division", "every_task", "line_images", "modular_addition", "opaque_operations", "transfer"]
)
def test_what_the_readme_says_holds(name, tmp_path):
    done = asked(name, "--check", "--out", str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr


def test_point_slope_computes_its_facts_and_measures_a_small_run(tmp_path, monkeypatch):
    point_slope = script("point_slope")
    assert all(row.holds for row in point_slope.facts())
    monkeypatch.setattr(point_slope, "EARLY", 10)
    small = {**QUICK, "task.n": 4, "snapshots.log": None, "snapshots.every": 10, "threads": 1}
    run = gi.train(gi.TrainConfig.preset("point_slope", **small), tmp_path / "run", progress=False)
    rows = [*point_slope.learned(run), *point_slope.laid_out(run)]
    assert not all(row.holds for row in rows)  # thirty steps are not enough
    assert len({row.name for row in rows}) == len(rows) == 10


@pytest.mark.slow
def test_point_slope_is_checked_in_its_smallest_form(tmp_path):
    done = asked("point_slope", "--check", "--out", tmp_path / "runs")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "MISSED" not in done.stdout


def test_division_measures_short_runs_and_says_what_they_miss(tmp_path):
    division = script("division")
    short = {name: each.changed(**{"training.steps": 20}) for name, each in division.configs(True).items()}
    runs = {name: [division.trained(config, 0, tmp_path / name)] for name, config in short.items()}
    assert division.failed(runs["nalu_1"][0])
    assert division.untrained(runs["quotient_perceptron"][0]) == pytest.approx(82 / 186)
    rows = [*division.rows({n: some for n, some in runs.items() if n != "nalu_1"})]
    rows += division.rows_of_nalus({"nalu_1": runs["nalu_1"]})
    missed = {row.name for row in rows if not row.holds}
    assert "nalu_1: best test accuracy" in missed
    assert "nalu_1: share of 1 seeds that fail" in missed
    assert "quotient_perceptron: its interval above the majority" in missed
    assert "quotient, integer: pairs and classes" not in missed
    assert len({row.name for row in rows}) == len(rows)


def test_a_nalu_that_diverged_has_failed(tmp_path):
    division = script("division")
    wild = {"training.lr": 1e6, "training.weight_decay": 1e6, "training.evaluate_every": 1}
    assert division.failed(division.trained(division.configs(True)["nalu_1"].changed(**wild), 0, tmp_path))


def test_line_images_trains_three_kinds_on_clean_and_noisy_images_without_end_and_on_some():
    lines = script("line_images")
    configs = lines.configs()
    assert len(configs) == 18
    assert set(lines.CHECKED) < set(configs)
    finite = configs["double, 5 % noise, 2,000 images"]
    assert finite.training.data is None
    assert len(finite.make_split(finite.make_task()).train) == 2000
    assert len({len(config.model.shapes(config.make_task().reads)) for config in configs.values()}) == 2
    assert [config.model.d_head for config in lines.narrow().values()].count(16) == 9


def test_line_images_measures_a_small_run(tmp_path):
    lines = script("line_images")
    small = {"training.steps": 2, "task.examples": 300, "model.d_model": 16, "training.batch_size": 16}
    run = gi.train(lines.configs()[lines.CHECKED[0]].changed(**small), out=tmp_path, progress=False)
    found = lines.measured(run)
    assert {"one flip", "all flips", "eta2", "accuracy at 15 %"} < found.keys()
    rows = lines.rows(dict.fromkeys(lines.CHECKED, found))
    assert not all(row.holds for row in rows)  # two steps are not enough


def test_a_recipe_is_judged_seed_by_seed_against_plain_adamw_and_what_never_groks_is_slowest():
    accelerators = script("accelerators")
    plain = [400, 400, 400, 400, 400, 400, 400, 400]
    found = accelerators.judged("it", 5e-3, 3, [100, 200, 200, 200, 300, 500, None, None], plain)
    assert (found.sooner, found.ratio, found.low, found.high) == (5, 0.625, 0.5, float("inf"))
    assert found.covers == pytest.approx(1 - 2 * 9 / 256)
    few = accelerators.judged("it", 5e-3, 1, [100, 400, 800], plain[:3])
    assert (few.sooner, few.low, few.ratio, few.high, few.covers) == (1, 0.25, 1, 2, 0.75)


def test_every_recipe_is_a_configuration_that_stops_where_it_has_learned():
    accelerators = script("accelerators")
    assert accelerators.PLAIN in accelerators.RECIPES
    for recipe in accelerators.RECIPES:
        config = accelerators.configuration(recipe, 5e-3, seed=3)
        assert (config.seed, config.training.stop_when) == (3, "test_accuracy >= 0.99")
