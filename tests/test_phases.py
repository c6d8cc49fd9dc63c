"""Phases: kinds of run from real short trainings, boundaries and leads from curves of which the answer is known, and the run that ships."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr

import grokinterp as gi
from conftest import STABLE, tiny
from grokinterp.replay import FINAL, Phases, phases
from grokinterp.training import Trainer
from test_foreign import ROOT

pytestmark = pytest.mark.trains

LOOKED_AT = ["loss", "accuracy", "sum_of_squares", "restricted_loss.logit_dirs", "excluded_loss.logit_dirs"]
SMALL = {"model.d_model": 32, "model.d_mlp": 128, "training.stop_when": None, "snapshots.every": None, **STABLE}
NOTHING = xr.Dataset(coords={"step": [0]})


def found_in(tmp_path, **overrides: object) -> Phases:
    """The phases of a small network trained for a few hundred steps, with replayed snapshots."""
    config = tiny(**{**SMALL, "snapshots.log": 6, **overrides})
    run = gi.train(config, tmp_path / "run", progress=False)
    return phases(gi.replay(run, LOOKED_AT, progress=False), run.history)


# Kinds, in real trainings


def test_a_run_that_groks(quick_run):
    history = quick_run.history
    found = phases(gi.replay(quick_run, LOOKED_AT, progress=False), history)
    assert found.kind == "groks"
    assert [phase.name for phase in found.spans] == ["memorisation", "circuit formation", "cleanup", "after"]
    memorised, formed, cleaned = found.boundaries
    assert (memorised.name, formed.name, cleaned.name) == ("memorised", "circuit formed", "cleaned up")
    accuracy = history.set_index("step")["test_accuracy"]
    assert accuracy[memorised.by] < 0.5 < 0.99 < accuracy.iloc[-1]
    assert memorised.by < formed.after < formed.by <= cleaned.after
    by_name = {lead.measure: lead for lead in found.leads}
    assert by_name["restricted_loss.logit_dirs" + FINAL].steps > 100 > by_name["sum_of_squares"].steps


def test_a_run_that_generalises_at_once(tmp_path):
    found = found_in(tmp_path, **{"task.p": 31, "training.fraction": 0.8, "training.steps": 500})
    assert found.kind == "generalises at once"
    assert [phase.name for phase in found.spans] == ["generalisation", "after"]
    assert [boundary.name for boundary in found.boundaries] == ["generalised"]


def test_a_run_without_weight_decay_that_memorises(tmp_path):
    found = found_in(tmp_path, **{"task.p": 23, "training.fraction": 0.4, "training.weight_decay": 0.0, "training.steps": 400})
    assert found.kind == "memorises only"
    assert [phase.name for phase in found.spans] == ["memorisation", "after"]
    assert "test accuracy reaches 0.5: it never happened" in found.skipped["circuit formed"]
    assert "no jump" in found.skipped["leads"]


def test_a_run_on_random_labels_memorises(tmp_path):
    found = found_in(tmp_path, **{"task.name": "random_table", "task.p": 23, "training.fraction": 0.4, "training.steps": 400})
    assert found.kind == "memorises only"
    assert [phase.name for phase in found.spans] == ["memorisation", "after"]
    assert found.at(400) == "after"


def test_a_run_that_learns_nothing(tmp_path):
    found = found_in(tmp_path, **{"training.lr": 1e-7, "training.steps": 60})
    assert (found.kind, found.spans, found.boundaries) == ("learns nothing", [], [])
    assert found.at(30) == ""


def test_a_network_that_forgets_when_most_of_its_examples_are_taken_away():
    """Ungrokking (Varma et al. 2023, arXiv 2309.02390): from 80 % of the table to 10 %, the same network goes on."""
    common = {**SMALL, "task.p": 31, "training.weight_decay": 2.0, "training.lr": 5e-3, "snapshots.log": None}
    trainer = Trainer(tiny(**common, **{"training.fraction": 0.8, "training.steps": 350}))
    rows = [{"step": s.step, **s.metrics} for s in trainer]
    state = trainer.state()
    state = dataclasses.replace(state, tensors=state.tensors | {"batches/order": torch.empty(0, dtype=torch.long)})
    rows += [{"step": s.step, **s.metrics} for s in Trainer(tiny(**common, **{"training.fraction": 0.1, "training.steps": 600}), state)]
    history = pd.DataFrame(rows)
    found = phases(NOTHING, history)
    assert history["test_accuracy"].max() >= 0.99
    assert history["test_accuracy"].iloc[-1] < 0.5
    assert found.kind == "forgets again"
    assert found.spans[-1].name == "forgetting"
    assert 350 <= found.spans[-1].start < 450
    before = phases(NOTHING, history[history["step"] <= 350])
    assert before.kind == "generalises at once"


# Kinds and boundaries, of curves that were made up


def curve(before: float, after: float, at: float, width: float):
    return lambda step: before + (after - before) * (1 + np.tanh((step - at) / width / 2)) / 2


def made_up(end: int = 4000, every: int = 100, **changes) -> tuple[xr.Dataset, pd.DataFrame]:
    """A run that memorises by step 200, whose circuit forms at 2000, and whose weights shrink until 3000: chance is ln 100."""
    chance = math.log(100)
    curves = {
        "train_accuracy": curve(0, 1, 100, 10),
        "test_accuracy": curve(0, 1, 2500, 50),
        "excluded": lambda step: chance * np.exp(-step / 80) + chance * np.clip((step - 650) / 2000, 0, 1.5),
        "restricted": lambda step: chance * np.clip((2050 - step) / 2000, 0.001, 1),
        "squares": lambda step: 3000 - np.clip(step - 2000, 0, 1000) * 2.0,
        **changes,
    }
    fine, coarse = np.arange(0, end + 1, 10), np.arange(0, end + 1, every)
    history = pd.DataFrame({"step": fine, "train_loss": 1.0, "test_loss": curve(5, 0, 2400, 50)(fine), "grad_norm": 1.0})
    for name in ("train_accuracy", "test_accuracy"):
        history[name] = curves[name](fine)
    one_part = {"restricted_loss.logit_dirs": ("restricted", "all"), "excluded_loss.logit_dirs": ("excluded", "train")}
    data = xr.Dataset(
        {name + FINAL: (("step", "part"), np.stack([curves[key](coarse)] * 3, 1)) for name, (key, _) in one_part.items()}
        | {
            "sum_of_squares": (("step", "parameter"), curves["squares"](coarse)[:, None]),
            "gini.W_E": ("step", curve(0, 1, 3000, 99)(coarse)),
        },
        coords={"step": coarse, "part": ["train", "test", "all"], "parameter": ["total"]},
        attrs={"answers": 100},
    )
    return data, history


def test_boundaries_are_the_intervals_in_which_their_rules_come_true():
    data, history = made_up()
    found = phases(data, history)
    assert found.kind == "groks"
    # The excluded loss falls as exp(-step / 80) and rises from step 650 on: of the multiples of 100 it is lowest at 600.
    # Restricted loss is at 0.01 of chance at step 2030, excluded loss at half of it at step 1650: the later counts.
    # The weights shrink by 2000 from 2000 on, and by 1800 from 2100 (where the circuit has formed) to 3000: 0.9 of that by step 2910.
    assert [(b.name, b.after, b.by) for b in found.boundaries] == [
        ("memorised", 500, 700),
        ("circuit formed", 2000, 2100),
        ("cleaned up", 2900, 3000),
    ]
    assert {phase.name: (phase.start, phase.end) for phase in found.spans} == {
        "memorisation": (0, 700),
        "circuit formation": (700, 2100),
        "cleanup": (2100, 3000),
        "after": (3000, 4000),
    }
    assert [found.at(step) for step in (-1, 0, 699, 700, 2100, 3000, 4000, 4001)] == [
        "", "memorisation", "memorisation", "circuit formation", "cleanup", "after", "after", ""
    ]  # fmt: skip
    assert found.skipped == {}


def test_a_boundary_says_how_far_it_moves():
    formed = phases(*made_up()).boundaries[1]
    # Restricted loss is at 0.002 and 0.05 of chance at steps 2046 and 1950; excluded loss is at 0.75 of it at step 2150.
    assert "1,900–2,200 over all thresholds tried" in formed.note
    assert "1,900–2,200 with any one step around it left out" in formed.note  # without 2000, after 1,900; without 2100, by 2,200
    assert "test accuracy reaches 0.5: 2,490–2,500" in formed.note


def test_finer_snapshots_give_narrower_intervals_around_the_same_place():
    for every in (50, 100, 250):
        data, history = made_up(every=every)
        memorised, formed, cleaned = phases(data, history).boundaries
        assert memorised.after < 650 < memorised.by <= memorised.after + 2 * every
        assert formed.after < 2030 <= formed.by == formed.after + every
        assert cleaned.after < 3000 <= cleaned.by + every == cleaned.after + 2 * every


def test_the_excluded_loss_alone_makes_no_circuit():
    data, history = made_up(restricted=lambda step: 0 * step + math.log(100))
    found = phases(data, history)
    assert [(b.name, b.rule) for b in found.boundaries][:2] == [
        ("memorised", "training accuracy reaches 0.99"),
        ("circuit formed", "test accuracy reaches 0.5"),
    ]
    assert "never bring the loss under half of chance" in found.boundaries[0].note


def test_without_snapshots_the_accuracies_decide():
    found = phases(NOTHING, made_up()[1])
    # 1 / (1 + exp(-x)) passes 0.99 at x = 4.6: at 146 for widths of 10, at 2730 for widths of 50.
    assert [(b.name, b.after, b.by) for b in found.boundaries] == [
        ("memorised", 140, 150), ("circuit formed", 2490, 2500), ("cleaned up", 2720, 2730)
    ]  # fmt: skip
    assert found.leads == []


def test_an_unfinished_run_has_the_phases_that_it_has_been_through():
    data, history = made_up()
    seen = {end: phases(data.sel(step=slice(0, end)), history[history["step"] <= end]) for end in (100, 400, 1500, 2400, 2800)}
    assert {end: [phase.name for phase in found.spans] for end, found in seen.items()} == {
        100: ["memorisation"],
        400: ["memorisation", "after"],  # nothing says yet that a circuit will form
        1500: ["memorisation", "circuit formation"],
        2400: ["memorisation", "circuit formation", "cleanup"],
        2800: ["memorisation", "circuit formation", "cleanup"],
    }
    assert {end: found.kind for end, found in seen.items()} == {
        100: "learns in part", 400: "memorises only", 1500: "memorises only", 2400: "memorises only", 2800: "groks"
    }  # fmt: skip
    assert "still shrinking" in seen[2800].skipped["cleaned up"]


def test_weights_that_do_not_shrink_are_never_cleaned_up():
    grown = phases(*made_up(squares=lambda step: 1000 + 0.1 * step)).boundaries[-1]
    assert (grown.name, grown.rule, grown.by) == ("cleaned up", "test accuracy reaches 0.99", 2730)
    assert "have not shrunk by a tenth" in grown.note


@pytest.mark.parametrize(
    ("train", "test", "kind"),
    [
        (curve(0, 1, 100, 5), curve(0, 1, 150, 5), "generalises at once"),
        (curve(0, 1, 100, 5), curve(0, 1, 300, 5), "groks"),
        (curve(0, 1, 100, 5), curve(0, 0.49, 300, 5), "memorises only"),
        (curve(0, 1, 100, 5), curve(0, 0.9, 300, 5), "learns in part"),
        (curve(0, 0.6, 100, 5), curve(0, 0.1, 300, 5), "learns in part"),
        (curve(0.2, 0.25, 100, 5), curve(0.2, 0.25, 300, 5), "learns nothing"),
        (curve(0, 1, 100, 5), lambda step: curve(0, 1, 300, 5)(step) - curve(0, 0.5, 900, 9)(step), "forgets again"),
        (curve(0, 1, 100, 5), lambda step: curve(0, 1, 300, 5)(step) - 0.8 * (abs(step - 900) < 60), "groks"),
    ],
)
def test_kinds_are_told_apart_by_accuracies(train, test, kind):
    _, history = made_up(1200, train_accuracy=train, test_accuracy=test)
    found = phases(NOTHING, history)
    assert found.kind == kind
    assert "\n" not in found.sentence
    assert found.sentence.endswith(".")


def test_what_was_lost_is_bounded_too():
    test = lambda step: curve(0, 1, 300, 5)(step) - curve(0, 0.5, 905, 1)(step)  # noqa: E731
    found = phases(NOTHING, made_up(1200, test_accuracy=test)[1])
    assert [(b.name, b.after, b.by) for b in found.boundaries][-1] == ("forgotten", 900, 910)
    assert [(phase.name, phase.end) for phase in found.spans][-2:] == [("after", 910), ("forgetting", 1200)]


# Leads


def test_leads_are_differences_of_half_way_crossings():
    data, history = made_up()
    leads = {lead.measure: lead for lead in phases(data, history).leads}
    # Test accuracy is half-way at step 2500, test loss at 2400, the Gini coefficient at 3000, the weights at 2500.
    gini = leads["gini.W_E"]
    assert (gini.after, gini.by) == (2900, 3000)
    assert abs(gini.steps + 500) <= 2
    assert (gini.low, gini.high) == (2490 - 3000, 2500 - 2900)
    assert leads["sum_of_squares"].part == "total"
    assert abs(leads["sum_of_squares"].steps) <= 1
    restricted = leads["restricted_loss.logit_dirs" + FINAL]  # half-way between 1 and 0.001 of chance at 2050 - 1001
    assert (restricted.part, restricted.after, restricted.by) == ("all", 1000, 1100)
    assert abs(restricted.steps - (2500 - 1049)) <= 2
    assert [lead.steps for lead in phases(data, history).leads] == sorted((lead.steps for lead in leads.values()), reverse=True)


def test_a_constant_measure_has_no_lead():
    data, history = made_up()
    data["gini.W_E"] = xr.zeros_like(data["gini.W_E"])
    assert "gini.W_E" not in {lead.measure for lead in phases(data, history).leads}


# What is missing


def test_one_evaluation_tells_nothing():
    data, history = made_up()
    for few in (history.head(1), history.head(0), history.assign(test_accuracy=math.nan)):
        found = phases(data, few)
        assert (found.kind, found.spans, found.boundaries, found.leads) == ("not known", [], [], [])


def test_accuracies_of_snapshots_stand_in_for_a_history_that_has_none():
    data, history = made_up()
    at = history.set_index("step").loc[data["step"].values]
    data["accuracy"] = ("step", "part"), np.stack([at["train_accuracy"], at["test_accuracy"], at["test_accuracy"]], 1)
    found = phases(data, history.assign(test_accuracy=math.nan).head(1))
    assert [(b.name, b.after, b.by) for b in found.boundaries] == [(b.name, b.after, b.by) for b in phases(data, history).boundaries]


@pytest.mark.parametrize("gone", ["sum_of_squares", "restricted_loss.logit_dirs" + FINAL, "excluded_loss.logit_dirs" + FINAL])
def test_a_missing_measure_is_done_without(gone):
    data, history = made_up()
    found = phases(data.drop_vars(gone), history)
    assert found.kind == "groks"
    assert ("were not measured" in found.boundaries[0].note) == gone.endswith(FINAL)
    assert [b.name for b in found.boundaries] == ["memorised", "circuit formed", "cleaned up"]


def test_gaps_in_the_measures_are_passed_over():
    data, history = made_up()
    whole = phases(data, history)
    data = data.astype(float).where(data["step"] != 1000)
    assert phases(data.assign_attrs(answers=100), history).boundaries == whole.boundaries
    name = "restricted_loss.logit_dirs" + FINAL
    data[name] = data[name].where(data["step"] != 1200)
    assert phases(data.assign_attrs(answers=100), history).boundaries == whole.boundaries


def test_everything_is_plain_json(quick_run):
    found = phases(gi.replay(quick_run, LOOKED_AT, progress=False), quick_run.history).to_dict()
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert list(found) == ["kind", "sentence", "spans", "boundaries", "leads", "skipped"]
    assert found["spans"]["memorisation"][0] == 0


# The run that ships


@pytest.mark.slow
def test_the_run_that_ships_has_three_boundaries():
    run = gi.load_run(ROOT / "checkpoints" / "modular_addition_113")
    found = phases(gi.replay(run, LOOKED_AT, progress=False), run.history)
    assert found.kind == "groks"
    assert [(b.name, b.after, b.by) for b in found.boundaries] == [
        ("memorised", 700, 1500), ("circuit formed", 3500, 3750), ("cleaned up", 6000, 6500)
    ]  # fmt: skip
    leads = {lead.measure: lead.steps for lead in found.leads}
    assert leads["restricted_loss.logit_dirs" + FINAL] == 2822
    assert leads["excluded_loss.logit_dirs" + FINAL] == 158
