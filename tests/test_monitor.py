"""Measures in training: the columns that they make, and a run that ends on a mechanism at the step that its
snapshots say."""

from __future__ import annotations

import itertools
import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import grokinterp as gi
from conftest import STABLE, TINY, tiny
from grokinterp.errors import ConfigError, NotApplicable
from grokinterp.runs.record import write_record
from grokinterp.training import Condition, Trainer, differences, monitor
from grokinterp.training.schedule import Progress
from test_runs import contents, killed, metrics_of, train

RESTRICTED = "restricted_loss.logit_dirs"
SHIPPED = Path(__file__).parents[1] / "checkpoints" / "modular_addition_113"


@pytest.fixture(autouse=True)
def _fast_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda handle: None)


# Stopping on a mechanism

CLOCK = {
    "task.p": 23,
    "model.d_model": 32,
    "model.d_mlp": 64,
    "training.fraction": 0.6,
    "training.lr": 3e-3,
    "training.weight_decay": 2.0,
    "training.steps": 750,
    "training.evaluate_every": 50,
    "training.stop_when": None,
    "snapshots": {"log": None, "every": 50, "events": ()},
    **STABLE,
}
"""A network that computes by waves long before its test accuracy says so."""
BELOW = 0.02


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> gi.Run:
    """That network, with a snapshot at every evaluation and nothing monitored."""
    return gi.train(
        gi.TrainConfig.preset("quick", threads=1, **CLOCK),
        tmp_path_factory.mktemp("watched") / "run",
        progress=False,
    )


@pytest.fixture(scope="module")
def replayed(watched) -> dict[int, dict[str, float]]:
    """The restricted loss of every snapshot, by part; of those that have key frequencies."""
    found: dict[int, dict[str, float]] = {}
    for step in watched.steps:
        try:
            value = gi.measure(RESTRICTED, watched.view(step))
        except NotApplicable:
            continue
        found[step] = {str(part): float(value.sel(part=part)) for part in value.coords["part"].values}
    return found


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> gi.Run:
    """The same training, until the restricted test loss has been small for 100 steps; it saves what its
    events name."""
    config = gi.TrainConfig.preset("quick", threads=1, **CLOCK).model_dump()
    config["snapshots"] = {"events": (f"{RESTRICTED}.all > 0", f"{RESTRICTED}.test < {BELOW}")}
    config["training"]["stop_when"] = f"{RESTRICTED}.test < {BELOW} for 100"
    return train(
        gi.TrainConfig.make(config, monitor=[RESTRICTED]), tmp_path_factory.mktemp("stopped") / "run"
    )


def expected_stop(replayed: dict[int, dict[str, float]], steps: list[int], patience: int) -> int:
    since = None
    for step in steps:
        small = step in replayed and replayed[step]["test"] < BELOW
        since = (step if since is None else since) if small else None
        if since is not None and step - since >= patience:
            return step
    raise AssertionError("the restricted loss never stays small")


@pytest.mark.trains
def test_a_run_stops_on_a_mechanism_where_a_replay_of_its_snapshots_says(watched, replayed, stopped):
    expected = expected_stop(replayed, watched.steps, 100)
    assert 200 < expected < 750
    assert stopped.finished["step"] == expected
    assert stopped.finished["reason"] == f"{RESTRICTED}.test < {BELOW} for 100 was reached"
    assert stopped.history["test_accuracy"].iloc[-1] < 0.9  # accuracy would not have said it


@pytest.mark.trains
def test_events_may_speak_of_a_mechanism(replayed, stopped):
    first = min(replayed)  # a column that is absent is not above 0
    small = min(step for step, parts in replayed.items() if parts["test"] < BELOW)
    assert 0 < first < small
    assert stopped.steps == [0, first, small, stopped.finished["step"]]


@pytest.mark.trains
def test_what_is_monitored_is_what_is_measured_of_the_snapshots(replayed, stopped):
    rows = [json.loads(line) for line in (stopped.path / "metrics.jsonl").read_text().splitlines()]
    for row in rows:
        found = {
            part: row[f"{RESTRICTED}.{part}"]
            for part in ("train", "test", "all")
            if f"{RESTRICTED}.{part}" in row
        }
        assert found == replayed.get(row["step"], {})  # to the last bit
    assert [row["step"] for row in rows] == list(range(0, stopped.finished["step"] + 1, 50))
    for step in stopped.steps[1:]:
        assert (
            float(gi.measure(RESTRICTED, stopped.view(step)).sel(part="all"))
            == rows[step // 50][f"{RESTRICTED}.all"]
        )


def test_monitoring_changes_no_weight_and_no_loss(watched, stopped):
    for step in stopped.steps:
        assert stopped.sha256(step) == watched.sha256(step)
    plain = watched.history.iloc[: len(stopped.history)]
    assert stopped.history[list(plain.columns)].equals(plain)


def test_history_has_a_typed_column_for_each_number_with_nan_where_the_measure_did_not_apply(
    replayed, stopped
):
    history = stopped.history.set_index("step")
    assert [*history.columns[-3:]] == [f"{RESTRICTED}.{part}" for part in ("train", "test", "all")]
    assert all(str(kind) == "float64" for kind in history.dtypes)
    for step, row in history.iterrows():
        assert math.isnan(row[f"{RESTRICTED}.test"]) == (step not in replayed)


def test_the_report_of_a_monitored_run_is_made(stopped):
    report = gi.analyze(stopped, measures=["gini.W_E"]).to_dict()
    assert report["measures"]["gini.W_E"]["value"] == gi.measure("gini.W_E", stopped.view(-1))
    assert report["training"]["sentence"]


def test_a_condition_that_is_never_met_stops_nothing(tmp_path):
    run = train(tiny(monitor="gini.W_E", **{"training.stop_when": "gini.W_E > 1"}), tmp_path / "run")
    assert run.finished["reason"] == "all steps done"
    assert run.finished["step"] == 20


def test_a_condition_on_a_measure_that_never_applies_stops_nothing(tmp_path):
    config = tiny(
        monitor=["neuron.dead_share"], **{"model.d_mlp": 0, "training.stop_when": "neuron.dead_share >= 0"}
    )
    with pytest.warns(
        UserWarning,
        match=r"monitor: neuron.dead_share does not apply before training \(the network has no MLP\)",
    ) as told:
        run = train(config, tmp_path / "run")
    assert len(told) == 1
    assert run.finished["reason"] == "all steps done"
    assert "neuron.dead_share" not in run.history


# Which measures, and when

ARCHITECTURE = {"model.n_layers": 2, "model.n_heads": 2}


def numbers_at(step: int, config: gi.TrainConfig) -> dict[str, float]:
    return next(snapshot.metrics for snapshot in Trainer(config) if snapshot.step == step)


def test_columns_are_the_name_and_the_labels_of_each_number():
    names = ["gini.W_E", "loss", "attention.self.mean", "attention.mean", "ablation.mlp", "sum_of_squares"]
    config = tiny(monitor=names, **ARCHITECTURE, **{"training.steps": 1})
    found = numbers_at(0, config)
    view = Trainer(config)._view()
    assert found["gini.W_E"] == gi.measure("gini.W_E", view)
    for part in ("train", "test", "all"):
        assert found[f"loss.{part}"] == gi.measure("loss", view).sel(part=part)
    for layer, head in itertools.product((0, 1), (0, 1)):
        assert found[f"attention.self.mean.layer{layer}.head{head}"] == gi.measure(
            "attention.self.mean", view
        ).sel(layer=layer, head=head)
        assert (
            found[f"attention.mean.layer{layer}.head{head}.pos1_b"]
            == gi.measure("attention.mean", view)[layer, head, 1]
        )
    assert found["attention.mean.layer0.head0.pos2"] == gi.measure("attention.mean", view)[0, 0, 2]  # "2: ="
    assert found["ablation.mlp.zero.control_mean"] == gi.measure("ablation.mlp", view).sel(
        how="zero", statistic="control mean"
    )
    assert found["sum_of_squares.blocks.1.mlp.W_in"] == float((view.weights["blocks.1.mlp.W_in"] ** 2).sum())
    assert len([column for column in found if column.startswith("sum_of_squares.")]) == 29 <= monitor.MOST


def test_columns_can_stand_in_conditions_and_no_two_measures_share_one():
    config = tiny(**ARCHITECTURE, **{"training.steps": 1})
    view = Trainer(config)._view()
    columns, refused = [], []
    for name, known in gi.MEASURES.items():
        try:
            columns += monitor._columns(name, known(view, **({"keys": [1, 2]} if known.takes_keys else {})))
        except NotApplicable:
            continue
        except ConfigError:
            refused.append(name)
    assert len(columns) == len(set(columns)) > 200
    for column in columns:
        assert Condition.parse(f"{column} < 1 for 3").metric == column
    assert {
        "clock_fit.pcs",
        "neuron.frequency",
        "fourier_norms.W_E",
        "pca_explained_variance.W_E",
        "irrep_cosine",
    } <= {*refused}
    assert not any(
        gi.MEASURES[name](view, **({"keys": [1]} if gi.MEASURES[name].takes_keys else {})).ndim == 0
        for name in refused
    )


def test_measures_are_taken_at_multiples_of_monitor_every_alone(tmp_path):
    config = tiny(
        monitor=["gini.W_E"], monitor_every=6, **{"training.evaluate_every": 3, "snapshots.every": 4}
    )
    run = train(config, tmp_path / "run")
    rows = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [0, 3, 4, 6, 8, 9, 12, 15, 16, 18, 20]
    assert [row["step"] for row in rows if "gini.W_E" in row] == [0, 6, 12, 18]
    assert np.isnan(run.history.set_index("step")["gini.W_E"][[3, 20]]).all()


def test_patience_lasts_over_evaluations_at_which_nothing_was_measured(tmp_path):
    config = tiny(
        monitor=["gini.W_E"],
        monitor_every=6,
        **{"training.evaluate_every": 2, "training.stop_when": "gini.W_E > 0 for 8"},
    )
    assert train(config, tmp_path / "run").finished["step"] == 12  # where it is next measured after 8
    progress = Progress()
    seen = [
        (0, {"x": 0.0}, True),
        (2, {}, False),
        (4, {}, True),
        (6, {"x": 0.0}, True),
        (8, {}, False),
        (10, {"x": 0.0}, True),
    ]
    # At 4 it was measured and does not apply, so patience starts anew.
    assert [
        step
        for step, metrics, measured in seen
        if progress.should_stop("x < 1 for 4", step, metrics, measured)
    ] == [10]


# The same bytes


def monitored_config(threads: int = 1) -> gi.TrainConfig:
    """Thirty steps, every fifth evaluated, with measures that train, draw and look for key frequencies."""
    names = [
        "sum_of_squares",
        RESTRICTED,
        "attention.mean",
        "gradient_symmetricity",
        "ablation.mlp",
        "circuit.clock.loss",
    ]
    return tiny(
        monitor=names,
        threads=threads,
        **{
            "training.fraction": 0.8,
            "training.lr": 3e-2,
            "training.steps": 50,
            "training.evaluate_every": 5,
            "training.stop_when": "sum_of_squares.total > 0 for 28",
            "snapshots.events": (f"{RESTRICTED}.all > 0",),
        },
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of that run when nothing stops it."""
    run = train(monitored_config(), tmp_path_factory.mktemp("whole") / "run")
    assert run.finished["step"] == 30
    assert f"{RESTRICTED}.all" in run.history
    return contents(run.path)


@pytest.mark.parametrize("step", [0, 10, 25, 30])
def test_a_killed_run_goes_on_to_the_same_bytes(tmp_path, whole, step):
    out = killed(monitored_config(), tmp_path / "run", metrics_of(step))
    assert not any(
        line.startswith(metrics_of(step)) for line in (out / "metrics.jsonl").read_text().splitlines()
    )
    assert contents(train(monitored_config(), out).path) == whole


def test_threads_change_no_byte(tmp_path, whole):
    found = contents(train(monitored_config(threads=2), tmp_path / "run").path)
    assert found.pop("run.json") != whole["run.json"]  # the number of threads stands there
    assert found == {name: data for name, data in whole.items() if name != "run.json"}


def test_measures_are_taken_with_one_thread_whatever_torch_has():
    """The participation ratio sums 512 x 71 squares: more than torch adds up in one thread if it may take
    several."""
    config = tiny(
        monitor=["participation_ratio.W_L"], **{"task.p": 71, "model.d_mlp": 512, "training.steps": 1}
    )
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            found.append(numbers_at(0, config))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert found[0] == found[1]


def test_measures_touch_no_global_generator():
    before = np.random.get_state()[1].copy(), torch.get_rng_state()
    for _ in Trainer(monitored_config()):
        pass
    assert np.array_equal(np.random.get_state()[1], before[0])
    assert torch.equal(torch.get_rng_state(), before[1])


# What is refused

REFUSED = [
    ({"monitor": ["gini.W_EE"]},
    r"^monitor: unknown measure 'gini.W_EE'; did you mean 'gini.W_E'\?, got \['gini.W_EE'\]$"),
    ({"monitor": ["gini"]}, r"^monitor: unknown measure 'gini'; its variants are gini.W_E, "),
    ({"monitor": "ginni.W_E"}, "^monitor: unknown measure 'ginni.W_E'; did you mean 'gini.W_E'"),
    ({"monitor": 3}, "^monitor: input should be a valid tuple, got 3$"),
    ({"monitor": [None]}, r"^monitor.0: input should be a valid string, got None: it cannot be left empty$"),
    ({"monitor_every": 15}, "^monitor_every=15 is no multiple of training.evaluate_every=10$"),
    ({"monitor_every": 0}, "^monitor_every: input should be greater than or equal to 1, got 0$"),
    ({"training.stop_when": "test_los < 1"},
    r"^training.stop_when: unknown metric 'test_los'; did you mean 'test_loss'\?$"),
    (
        {"training.stop_when": f"{RESTRICTED}.test < 1"},
        rf"^training.stop_when: '{RESTRICTED}.test' is not monitored: add '{RESTRICTED}' to monitor",
    ),
    ({"monitor": ["gini.W_E"], "training.stop_when": "gini.W_L > 1"},
    "'gini.W_L' is not monitored: .*; did you mean 'gini.W_E'"),
    ({"monitor": ["gini.W_E"], "snapshots.events": ["gini.WE > 1"]}, "^snapshots.events: unknown metric "
    "'gini.WE'; did you mean 'gini"),
]  # fmt: skip


@pytest.mark.parametrize(("overrides", "says"), REFUSED)
def test_what_no_evaluation_can_hold_is_refused_by_the_configuration(overrides, says):
    with pytest.raises(ConfigError, match=says) as refused:
        gi.TrainConfig.preset("quick", **overrides)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        ({"monitor": ["neuron.frequency"]}, "^monitor: neuron.frequency gives 32 numbers, by neuron; what "
        "can be "),
        ({"monitor": ["circle.angle"]}, "^monitor: circle.angle gives 3 numbers, by freq; "),
         # few, but not at p = 113
        ({"monitor": ["clock_fit.pcs"]}, "^monitor: clock_fit.pcs gives 1 numbers, by freq; "),
         # the untrained network has no keys
        ({"monitor": ["sum_of_squares"], "model.n_layers": 3},
        "^monitor: sum_of_squares gives 41 numbers, by parameter; "),
        (
            {"monitor": ["loss"], "training.stop_when": "loss.tset < 1"},
            r"^training.stop_when: unknown metric 'loss.tset'; did you mean 'loss.test'\?$",
        ),
        ({"monitor": [RESTRICTED], "training.stop_when": f"{RESTRICTED} < 1"},
        f"metric '{RESTRICTED}'; did you mean '{RESTRICTED}."),
        ({"monitor": ["gini.W_E"], "snapshots.events": ["gini.W_E.all > 1"]},
        "^snapshots.events: unknown metric 'gini.W_E.all'; did"),
    ],
)  # fmt: skip
def test_what_makes_no_column_is_refused_before_any_step_and_leaves_no_folder(tmp_path, overrides, says):
    with pytest.raises(ConfigError, match=says) as refused:
        train(tiny(**overrides), tmp_path / "run")
    assert "\n" not in str(refused.value)
    assert list(tmp_path.iterdir()) == []


def test_a_measure_that_may_apply_later_is_announced_and_may_stand_in_a_condition():
    name = "restricted_loss.hidden_irreps"  # an untrained network is made of no representation
    config = tiny(monitor=[name], **{"training.stop_when": f"{name}.test < 0"})
    with pytest.warns(UserWarning, match=f"{name} does not apply before training"):
        Trainer(config)


# The configuration


def test_names_come_from_toml_python_and_the_command_line_alike(grokinterp, tmp_path):
    toml = 'monitor = ["gini.W_E", "loss"]\nmonitor_every = 20\n[task]\nname = "modular_addition"\n'
    expected = gi.TrainConfig.make(
        {"task": {"name": "modular_addition"}}, monitor=("gini.W_E", "loss", "gini.W_E"), monitor_every=20
    )
    assert gi.TrainConfig.from_toml(toml) == expected
    assert expected.monitor == ("gini.W_E", "loss")
    assert gi.TrainConfig.make(monitor="loss").monitor == ("loss",)
    flags = [f for key, value in TINY.items() if value is not None for f in ("--set", f"{key}={value}")]
    flags += [
        "--set",
        "training.stop_when=",
        "--set",
        "snapshots.log=",
        "--preset",
        "quick",
        "--threads",
        "1",
    ]
    monitored = ["--set", 'monitor=["gini.W_E", "restricted_loss.logit_dirs"]', "--set", "monitor_every=10"]
    code, stdout, stderr = grokinterp(
        "train", "modular_addition", *flags, *monitored, "--out", tmp_path / "run", "--json"
    )
    assert code == 0, stderr
    printed = json.loads(stdout, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert printed["gini.W_E"] == gi.measure("gini.W_E", gi.load_run(tmp_path / "run").view(-1))
    code, _, stderr = grokinterp(
        "train", "modular_addition", *flags, "--set", "monitor=gini.W_F", "--out", tmp_path / "other"
    )
    assert (code, len(stderr.splitlines())) == (2, 1)


def test_the_json_of_a_run_whose_last_evaluation_lacks_a_column_holds_no_nan(grokinterp, tmp_path):
    config = tiny(monitor="gini.W_E", monitor_every=10, **{"training.steps": 15})
    train(config, tmp_path / "run")
    file = tmp_path / "run.toml"
    sections = config.model_dump(mode="json", exclude_none=True)
    top = [f"{key} = {json.dumps(item)}" for key, item in sections.items() if not isinstance(item, dict)]
    inner = [
        f"[{name}]\n" + "\n".join(f"{key} = {json.dumps(value)}" for key, value in section.items())
        for name, section in sections.items()
        if isinstance(section, dict)
    ]
    file.write_text("\n".join([*top, *inner]))
    code, stdout, stderr = grokinterp(
        "train", "modular_addition", "--config", file, "--out", tmp_path / "run", "--json"
    )
    assert code == 0, stderr
    printed = json.loads(stdout, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert printed["step"] == 15
    assert "gini.W_E" not in printed


def test_another_monitor_is_another_run(tmp_path):
    train(tiny(), tmp_path / "run")
    with pytest.raises(ConfigError, match=re.escape("monitor is () there and ('gini.W_E',) here")):
        train(tiny(monitor=["gini.W_E"]), tmp_path / "run")


def test_a_run_from_before_there_was_a_monitor_is_read_and_goes_on(tmp_path):
    out = killed(tiny(), tmp_path / "run", metrics_of(10))
    record = json.loads((out / "run.json").read_text())
    del record["config"]["monitor"]
    write_record(out, record)
    assert gi.load_run(out).config == tiny()
    found = contents(train(tiny(), out).path)
    assert "monitor" not in json.loads(found.pop("run.json"))["config"]
    expected = contents(train(tiny(), tmp_path / "new").path)
    assert found == {name: data for name, data in expected.items() if name != "run.json"}


def test_the_shipped_run_monitors_nothing_and_is_the_run_of_its_recipe():
    run = gi.load_run(SHIPPED)
    assert run.config.monitor == ()
    assert differences(run.config, gi.TrainConfig.make(run.record["config"], monitor=[])) == []
    assert differences(run.config, gi.TrainConfig.make(run.record["config"], monitor=["loss"])) == ["monitor"]


def test_training_that_monitors_nothing_does_not_import_transformer_lens(tmp_path):
    code = (
        "import sys, json, grokinterp as gi\n"
        "gi.train(gi.TrainConfig.make(json.loads(sys.argv[1])), sys.argv[2], progress=False)\n"
        "assert 'torch' in sys.modules and 'transformer_lens' not in sys.modules"
    )
    plain = json.dumps(tiny().model_dump(mode="json", exclude_none=True))
    subprocess.run([sys.executable, "-c", code, plain, str(tmp_path / "run")], check=True)
