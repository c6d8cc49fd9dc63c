"""Phases: kinds of run from real short trainings, boundaries and leads from curves of which the answer is
known, and the run that ships."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from hypothesis import example, given
from hypothesis import strategies as st

import grokinterp as gi
from conftest import STABLE, tiny
from grokinterp.measures.noise import KNOWN
from grokinterp.measures.standing import GENERALISED, Examples, percent
from grokinterp.replay import FINAL, Phases, phases
from grokinterp.training import Trainer
from test_foreign import ROOT

LOOKED_AT = ["loss", "accuracy", "sum_of_squares", "restricted_loss.logit_dirs", "excluded_loss.logit_dirs"]
SMALL = {
    "model.d_model": 32,
    "model.d_mlp": 128,
    "training.stop_when": None,
    "snapshots.every": None,
    **STABLE,
}
EXAMPLES = Examples(chance=0.01, train=3000, test=7000, all=10000)
NOTHING = xr.Dataset(coords={"step": [0]}, attrs=EXAMPLES.to_attrs())


def found_in(tmp_path, **overrides: object) -> Phases:
    """The phases of a small network trained for a few hundred steps, with replayed snapshots."""
    config = tiny(**{**SMALL, "snapshots.log": 6, **overrides})
    run = gi.train(config, tmp_path / "run", progress=False)
    return phases(gi.replay(run, LOOKED_AT, progress=False), run.history)


# Kinds, in real trainings


@pytest.mark.trains
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


@pytest.mark.trains
def test_a_run_that_generalises_at_once(tmp_path):
    found = found_in(tmp_path, **{"task.p": 31, "training.fraction": 0.8, "training.steps": 500})
    assert found.kind == "generalises at once"
    assert [phase.name for phase in found.spans] == ["generalisation", "after"]
    assert [boundary.name for boundary in found.boundaries] == ["generalised"]


@pytest.mark.trains
def test_a_run_without_weight_decay_that_memorises(tmp_path):
    """It has seen (a, b) and so knows (b, a): more than chance."""
    found = found_in(
        tmp_path,
        **{"task.p": 23, "training.fraction": 0.4, "training.weight_decay": 0.0, "training.steps": 400},
    )
    assert (found.kind, found.standing.state) == ("learns in part", "learning")
    assert found.spans == []  # what came after it memorised is no phase that has a name
    assert "test accuracy reaches 50 %: it never happened" in found.skipped["circuit formed"]
    assert "no jump" in found.skipped["leads"]


@pytest.mark.trains
def test_a_run_on_random_labels_memorises(tmp_path):
    found = found_in(
        tmp_path,
        **{"task.name": "random_table", "task.p": 23, "training.fraction": 0.4, "training.steps": 400},
    )
    assert found.kind == "memorises only"
    assert [phase.name for phase in found.spans] == ["memorisation"]
    assert found.at(400) == "memorisation"


@pytest.mark.trains
def test_a_run_that_learns_nothing(tmp_path):
    found = found_in(tmp_path, **{"training.lr": 1e-7, "training.steps": 60})
    assert (found.kind, found.spans, found.boundaries) == ("learns nothing", [], [])
    assert found.at(30) == ""


@pytest.mark.trains
def test_a_network_that_forgets_when_most_of_its_examples_are_taken_away():
    """Ungrokking (Varma et al. 2023, arXiv 2309.02390): from 80 % of the table to 10 %, the same network goes
    on."""
    common = {**SMALL, "task.p": 31, "training.weight_decay": 2.0, "training.lr": 5e-3, "snapshots.log": None}
    trainer = Trainer(tiny(**common, **{"training.fraction": 0.8, "training.steps": 350}))
    rows = [{"step": s.step, **s.metrics} for s in trainer]
    state = trainer.state()
    state = dataclasses.replace(
        state, tensors=state.tensors | {"batches/order": torch.empty(0, dtype=torch.long)}
    )
    rows += [
        {"step": s.step, **s.metrics}
        for s in Trainer(tiny(**common, **{"training.fraction": 0.1, "training.steps": 600}), state)
    ]
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
    """A run that memorises by step 200, whose circuit forms at 2000, and whose weights shrink until 3000:
    chance is ln 100."""
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
    history = pd.DataFrame(
        {"step": fine, "train_loss": 1.0, "test_loss": curve(5, 0, 2400, 50)(fine), "grad_norm": 1.0}
    )
    for name in ("train_accuracy", "test_accuracy"):
        history[name] = curves[name](fine)
    one_part = {
        "restricted_loss.logit_dirs": ("restricted", "all"),
        "excluded_loss.logit_dirs": ("excluded", "train"),
    }
    data = xr.Dataset(
        {
            name + FINAL: (("step", "part"), np.stack([curves[key](coarse)] * 3, 1))
            for name, (key, _) in one_part.items()
        }
        | {
            "sum_of_squares": (("step", "parameter"), curves["squares"](coarse)[:, None]),
            "gini.W_E": ("step", curve(0, 1, 3000, 99)(coarse)),
        },
        coords={"step": coarse, "part": ["train", "test", "all"], "parameter": ["total"]},
        attrs={"answers": 100, **EXAMPLES.to_attrs()},
    )
    return data, history


def test_boundaries_are_the_intervals_in_which_their_rules_come_true():
    data, history = made_up()
    found = phases(data, history)
    assert found.kind == "groks"
    # The excluded loss falls as exp(-step / 80) and rises from step 650 on: of the multiples of 100 it is
    # lowest at 600. Restricted loss is at 0.01 of chance at step 2030, excluded loss at half of it at step
    # 1650: the later counts. The weights shrink by 2000 from 2000 on, and by 1800 from 2100 (where the
    # circuit has formed) to 3000: 0.9 of that by step 2910.
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
    # Restricted loss is at 0.002 and 0.05 of chance at steps 2046 and 1950; excluded loss is at 0.75 of it at
    # step 2150.
    assert "1,900–2,200 over all thresholds tried" in formed.note
    assert (
        "1,900–2,200 with any one step around it left out" in formed.note
    )  # without 2000, after 1,900; without 2100, by 2,200
    assert "test accuracy reaches 50 %: 2,490–2,500" in formed.note
    assert "1 % of the loss of chance is 0.0461 nats, 50 % of the loss of chance is 2.3 nats" in formed.note


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
        ("training examples learned", "training accuracy reaches 99 %"),
        ("half of the unseen examples right", "test accuracy reaches 50 %"),
    ]
    why = (
        "at none of 41 snapshots, up to step 4,000, do the final keys alone bring the loss under 50 % of "
        "chance"
    )
    assert why in found.boundaries[0].note
    assert found.sentence.endswith(f"When a circuit formed is not known: {why}.")


@pytest.mark.parametrize(
    ("last", "where"),
    [
        (0, "1 snapshot, up to step 0,"),
        (200, "3 snapshots, up to step 200,"),
        (900, "10 snapshots, up to step 900,"),
    ],
)
def test_of_snapshots_that_end_early_it_is_said_how_far_they_were_looked_at(last, where):
    data, history = made_up()
    sentence = phases(data.sel(step=slice(0, last)), history).sentence
    assert f"not known: at none of {where} do the final keys alone" in sentence
    assert "never" not in sentence


BY_ACCURACY = [
    ("training examples learned", 140, 150), ("half of the unseen examples right", 2490, 2500),
    ("unseen examples learned", 2720, 2730)
]  # fmt: skip


def test_without_snapshots_the_accuracies_decide():
    found = phases(NOTHING, made_up()[1])
    # 1 / (1 + exp(-x)) passes 0.99 at x = 4.6: at 146 for widths of 10, at 2730 for widths of 50.
    assert [(b.name, b.after, b.by) for b in found.boundaries] == BY_ACCURACY
    assert found.leads == []


def test_an_unfinished_run_has_the_phases_that_it_has_been_through():
    data, history = made_up()
    seen = {
        end: phases(data.sel(step=slice(0, end)), history[history["step"] <= end])
        for end in (100, 400, 1500, 2400, 2800)
    }
    assert {end: [phase.name for phase in found.spans] for end, found in seen.items()} == {
        100: ["memorisation"],
        400: ["memorisation"],  # nothing says yet that a circuit will form
        1500: ["memorisation", "circuit formation"],
        2400: ["memorisation", "circuit formation", "cleanup"],
        2800: ["memorisation", "circuit formation", "cleanup"],
    }
    assert {end: found.kind for end, found in seen.items()} == {
        100: "memorises only", 400: "memorises only", 1500: "memorises only", 2400: "learns in part",
        2800: "groks"
    }  # fmt: skip
    assert "still shrinking" in seen[2800].skipped["cleaned up"]


def test_weights_that_do_not_shrink_are_never_cleaned_up():
    grown = phases(*made_up(squares=lambda step: 1000 + 0.1 * step)).boundaries[-1]
    assert (grown.name, grown.rule, grown.by) == (
        "unseen examples learned",
        "test accuracy reaches 99 %",
        2730,
    )
    assert "have not shrunk by 10 %" in grown.note


@pytest.mark.parametrize(
    ("train", "test", "kind"),
    [
        (curve(0, 1, 100, 5), curve(0, 1, 150, 5), "generalises at once"),
        (curve(0, 1, 100, 5), curve(0, 1, 300, 5), "groks"),
        (curve(0, 1, 100, 5), curve(0, 0.49, 300, 5), "learns in part"),
        (curve(0, 1, 100, 5), lambda step: 0.01 + 0 * step, "memorises only"),
        (curve(0, 1, 100, 5), lambda step: 0.009 + 0.4 * (abs(step - 900) < 60), "forgets again"),
        (lambda step: 0.01 + 0.9 * (abs(step - 900) < 60), lambda step: 0.01 + 0 * step, "forgets again"),
        (curve(0, 1, 100, 5), curve(0, 0.9, 300, 5), "learns in part"),
        (curve(0, 0.6, 100, 5), curve(0, 0.1, 300, 5), "learns in part"),
        (lambda step: 0.01 + 0 * step, lambda step: 0.009 + 0 * step, "learns nothing"),
        (curve(0.2, 0.25, 100, 5), curve(0.2, 0.25, 300, 5), "learns in part"),
        (
            curve(0, 1, 100, 5),
            lambda step: curve(0, 1, 300, 5)(step) - curve(0, 0.5, 900, 9)(step),
            "forgets again",
        ),
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
    test = lambda step: curve(0, 1, 400, 5)(step) - curve(0, 0.5, 905, 1)(step)  # noqa: E731
    found = phases(NOTHING, made_up(1200, test_accuracy=test)[1])
    assert [(b.name, b.after, b.by) for b in found.boundaries][-1] == ("forgotten", 900, 910)
    assert [(phase.name, phase.end) for phase in found.spans][-2:] == [("after", 910), ("forgetting", 1200)]


# Kind and standing

FITS = {
    "generalises": {"groks", "generalises at once", "generalises"},
    "learning": {"groks", "generalises at once", "generalises", "learns in part", "forgets again"},
    "memorises": {"memorises only", "forgets again"},
    "at chance": {"learns nothing", "forgets again"},
}
"""The kinds that a run may be of which the last evaluation has this state."""
SHARES = st.sampled_from(
    [0.0, 0.009, 0.011, 0.02, 0.12, 0.37, 0.5, 0.81, 0.895, 0.9, 0.95, 0.984, 0.98957, 0.99, 0.995, 1.0]
)


def evaluated(train, test, steps=None, noisy: bool = False) -> pd.DataFrame:
    columns = {
        "train_accuracy": train,
        "test_accuracy": [0.3] * len(test) if noisy else test,
        "train_loss": 1.0,
        "test_loss": 1.0,
    }
    return pd.DataFrame(
        {"step": range(0, 10 * len(train), 10) if steps is None else steps, **columns}
    ).assign(**({"test_clean_accuracy": test} if noisy else {}))


@given(
    pairs=st.lists(st.tuples(SHARES, SHARES), min_size=2, max_size=12),
    apart=st.sampled_from([1, 10, 1000]),
    first=st.sampled_from([0, 500]),
    sizes=st.sampled_from([(20, 30), (3000, 7000)]),
    noisy=st.booleans(),
)
@example(
    [(0.0, 0.0), (1.0, 0.0), (1.0, 0.0), (1.0, 0.0), (1.0, 1.0), (1.0, 0.984)], 10, 0, (3000, 7000), False
)
def test_kind_and_standing_do_not_contradict_one_another(pairs, apart, first, sizes, noisy):
    examples = Examples(0.01, *sizes, sum(sizes), noisy)
    train, test = zip(*pairs, strict=True)
    history = evaluated(train, test, [first + apart * i for i in range(len(pairs))], noisy)
    found = phases(NOTHING, history, examples)
    standing = examples.standing(train[-1], test[-1])
    assert found.standing == standing
    assert found.kind in FITS[standing.state]
    level, sentence = (KNOWN if noisy else GENERALISED), found.sentence
    if found.kind in FITS["generalises"]:
        assert (f"is {percent(test[-1])} at the last evaluation" in sentence) == (test[-1] < level)
    else:
        assert percent(test[-1]) in sentence
    assert ("reaches 99 %" in sentence) <= (max(*train, *test) >= 0.99)
    assert ("memorises" in sentence) == (found.kind == "memorises only")
    if found.kind == "forgets again" and standing.state == "learning":
        assert test[-1] < level - 0.08
    assert all(b.basis == "accuracy alone" and "circuit" not in b.name for b in found.boundaries)
    if found.kind == "forgets again" and found.spans:
        assert found.spans[-1].name == "forgetting" or found.boundaries[-1].by == history["step"].iloc[-1]
    assert not {"circuit formation", "cleanup"} & {phase.name for phase in found.spans}
    assert all(one.end == other.start for one, other in zip(found.spans, found.spans[1:], strict=False))
    json.dumps(found.to_dict(), allow_nan=False)


@pytest.mark.parametrize(
    ("last", "kind", "said"),
    [
        (
            0.37,
            "learns in part",
            "It learns in part, up to step 200: 37.0 % of unseen examples are right, 18.5 times chance",
        ),
        (
            0.972,
            "learns in part",
            "It learns in part, up to step 200: 97.2 % of unseen examples are right, 48.6 times chance",
        ),
        (
            0.98957,
            "learns in part",
            "It learns in part, up to step 200: 98.96 % of unseen examples are right, 49.5 times chance",
        ),
        (
            0.021,
            "memorises only",
            "100 % of its training examples are right, and of unseen ones 2.1 %: no better than chance (2.0 "
            "%)",
        ),
        (0.99, "groks", "test accuracy reaches 99 % by step 200; by accuracy alone, 21 evaluations, "),
    ],
)
def test_how_far_it_came_is_said_as_it_is(last, kind, said):
    history = evaluated([0, 1, *[1] * 19], [*[0.02] * 20, last])
    found = phases(NOTHING, history, Examples(0.02, 1000, 1500, 2500))
    assert found.kind == kind
    assert said in found.sentence


def test_what_was_learned_in_part_and_lost_has_no_phases():
    history = evaluated([0, *[1] * 20], [0.01, *[0.6] * 10, *[0.01] * 10])
    found = phases(NOTHING, history)
    assert (found.kind, found.spans, found.boundaries) == ("forgets again", [], [])
    assert found.sentence == (
        "It learns and forgets again: test accuracy was at most 60.0 %, at step 10; at the last evaluation "
        "(step 200) 100 % of its training examples are right, and of unseen ones 1.0 %: no better than "
        "chance (1.0 %), as far as 7,000 examples tell."
    )


def test_the_last_value_is_said_where_it_has_fallen_below_what_it_once_was():
    history = evaluated([0, 1, *[1] * 19], [*[0.02] * 18, 0.5, 0.99, 0.984])
    found = phases(NOTHING, history)
    assert found.kind == "groks"
    assert (
        "test accuracy reaches 99 % by step 190; test accuracy is 98.4 % at the last evaluation (step 200), "
        "below 99 %" in found.sentence
    )
    assert found.standing.state == "learning"


def test_without_chance_no_kind_is_told_that_needs_it():
    data = xr.Dataset(coords={"step": [0]})
    memorised, grokked = [0.0] * 21, [*[0.0] * 19, 0.6, 1.0]
    train = [0, *[1] * 20]
    assert phases(data, evaluated(train, grokked)).kind == "groks"
    found = phases(data, evaluated(train, memorised))
    assert found.kind == "not known"
    assert found.sentence == (
        "What kind of run it is, is not known: neither chance nor the number of examples is known; up to "
        "step 200 training accuracy is at most 100 %, test accuracy 0 %."
    )
    assert phases(data, evaluated(train, memorised), EXAMPLES).kind == "memorises only"
    assert (
        phases(data, evaluated(train, memorised), dataclasses.replace(EXAMPLES, test=0)).kind == "not known"
    )


@pytest.mark.parametrize(
    ("steps", "train", "test"),
    [
        ([40_000, 50_000], [1, 1], [1, 1]),  # the first evaluation is late
        ([0, 10_000], [0, 1], [0, 1]),  # one interval in which all happened
        ([0, 100, 10_000], [0, 1, 1], [0, 0, 1]),  # test accuracy may have risen at step 101, or 9,999
        ([500, 600, 700], [1, 1, 1], [0.2, 0.6, 1]),  # trained since nobody knows when
        ([0, 1000, 3000], [0, 0.5, 1], [0, 0.2, 1]),
    ],
)
def test_whether_it_grokked_is_not_said_where_evaluations_do_not_tell(steps, train, test):
    found = phases(NOTHING, evaluated(train, test, steps))
    assert (found.kind, found.spans) == ("generalises", [])
    assert [b.name for b in found.boundaries] == ["generalised"]
    assert "whether it grokked is not known" in found.sentence
    if test[0] == 1:
        assert "generalised at or before step 40,000" in found.sentence


@pytest.mark.parametrize(
    ("train", "test", "kind", "said"),
    [
        ([1, 1, 1], [1, 1, 1], "generalises", "generalises from the start: at step 0, before any update, "
        "training accuracy is 100 %"),
        ([1, 1, 1], [0.995, 1, 0.985], "generalises", "99.5 %; test accuracy is 98.5 % at the last "
        "evaluation (step 20), below"),
        ([0.98, 1, 1], [0.992, 1, 1], "generalises", "from the start: at step 0, before any update, "
        "training accuracy is 98.0 % and"),
        ([1, 1, 1], [0.45, 0.55, 1], "generalises", "whether it grokked is not known, as its training "
        "examples were right at step 0;"),
        ([1, 1, 1], [0.6, 0.6, 1], "generalises", "whether it grokked is not known, as its training "
        "examples were right at step 0;"),
        ([1, 1, 1], [0.01, 0.01, 1], "groks", "training accuracy reaches 99 % by step 0, test accuracy "
        "reaches 99 % by step 20;"),
        ([1, 1, 1], [1, 1, 0.01], "forgets again", "test accuracy reaches 99 % by step 0, and is 1.0 % at "
        "the last evaluation"),
        ([0, 1, 1], [0, 1, 1], "generalises", "whether it grokked is not known, as evaluations are too far "
        "apart or begin too late;"),
        ([1, 1, 1], [0.01, 0.01, 0.01], "memorises only", "It only memorises, up to step 20"),
    ],
)  # fmt: skip
def test_what_was_learned_before_the_first_step_is_no_grokking(train, test, kind, said):
    found = phases(NOTHING, evaluated(train, test))
    assert found.kind == kind
    assert said in found.sentence
    assert ("grok" in found.sentence) == (kind == "groks" or "whether it grokked" in said)
    assert "circuit formed at" not in found.sentence


@pytest.mark.parametrize(
    ("examples", "train", "test", "kind", "said"),
    [
        (Examples(0.5, 3, 1, 4), [0.3, 1, 1], [0, 1, 0], "learns nothing", "Whether it learns anything is "
        "not known, up to step 20: 100 %"),
        (Examples(0.5, 3, 1, 4), [0.3, 1, 1], [0, 1, 1], "learns nothing", "Whether it learns anything is "
        "not known, up to step 20: 100 %"),
        (Examples(1 / 3, 8, 1, 9), [0.4, 1, 1], [1, 0, 1], "memorises only", "It memorises, and whether it "
        "does more is not known, up to"),
        (Examples(1 / 3, 8, 1, 9), [0.4, 1, 1], [1, 1, 0], "memorises only", "It memorises, and whether it "
        "does more is not known, up to"),
        (Examples(1 / 3, 8, 1, 9), [0.4, 1, 1], [0, 0, 0], "memorises only",
        "It only memorises, up to step 20: 100 % of its training"),
        (Examples(0.5, 500, 5, 505), [0.5, 1, 1], [0.4, 1, 0.6], "memorises only",
        "and whether it does more is not known, up to step 20"),
        (Examples(0.2, 20, 5, 25), [0.2, 1, 1, 1], [0.2, 0.2, 0.2, 1], "groks",
        "test accuracy reaches 99 % by step 30"),
        (Examples(0.01, 3000, 7000, 10000), [0, 1, 1, 1], [0, 0, 0, 1], "groks",
        "test accuracy reaches 99 % by step 30"),
        (None, [0, 1, 1, 1], [0, 0, 0, 1], "groks", "test accuracy reaches 99 % by step 30"),
    ],
)  # fmt: skip
def test_what_a_handful_of_examples_may_be_right_by_chance_is_no_generalising(
    examples, train, test, kind, said
):
    data = NOTHING if examples else xr.Dataset()
    found = phases(data, evaluated(train, test), examples)
    assert found.kind == kind
    assert said in found.sentence
    if examples:
        assert (kind == "groks") == any(examples.standing(1.0, float(x)).state == "generalises" for x in test)
    if kind != "groks":
        assert not {b.name for b in found.boundaries} & {
            "generalised",
            "half of the unseen examples right",
            "unseen examples learned",
        }
        assert "generalis" not in found.sentence


# What decided


@pytest.mark.parametrize("steps", [[0, 4000], [4000], [0], [0, 2200, 4000], [0, 100, 4000]])
def test_snapshots_far_apart_decide_no_boundary(steps):
    data, history = made_up()
    found = phases(data.sel(step=steps), history)
    assert [(b.name, b.after, b.by) for b in found.boundaries] == BY_ACCURACY
    assert {b.basis for b in found.boundaries} == {"accuracy alone"}
    assert [b.seen for b in found.boundaries] == [401] * 3
    assert (
        "; by accuracy alone, 401 evaluations, training examples learned between steps 140 and 150, "
        in found.sentence
    )
    assert "When a circuit formed is not known: " in found.sentence
    assert [phase.name for phase in found.spans] == ["memorisation", "delay", "generalisation", "after"]
    assert found.leads == []
    assert "are needed" in found.skipped["leads"]


NEITHER = (
    "the data hold no restricted loss of all examples and no excluded loss of the training examples with "
    "the final keys"
)


@pytest.mark.trains
def test_measures_that_tell_no_boundary_leave_it_to_accuracy_and_say_so(quick_run):
    data = gi.replay(quick_run, ["ipr.real", "circuit.clock.agreement"], steps=[0, -1], progress=False)
    found = phases(data, quick_run.history)
    assert {b.basis for b in found.boundaries} == {"accuracy alone"}
    assert "circuit formed" not in found.sentence.split(". ")[0]
    assert f"not known: {NEITHER}." in found.sentence


def test_a_boundary_says_from_how_many_snapshots_it_is():
    data, history = made_up(every=250)
    found = phases(data, history)
    assert [(b.basis, b.seen) for b in found.boundaries] == [("progress measures", 17)] * 3
    assert found.boundaries[0].source == "progress measures at 17 snapshots"
    assert (
        "; by progress measures at 17 snapshots, memorised between steps 250 and 750, circuit formed between"
        in found.sentence
    )
    assert "not known" not in found.sentence


@pytest.mark.parametrize(
    ("at", "width", "flag"),
    [
        (100, 10, ""),
        (450, 20, ""),  # 99 % at 545
        (600, 20, ""),  # 99 % at 692: by 700, and so it may have been before the memorisation ended
        (612, 20, "35.4 % of them at most were right until then, 99 % by step 710"),  # 700 is not yet 99 %
        (640, 20, "11.9 % of them at most were right until then, 99 % by step 740"),
        (700, 20, "0.7 % of them at most were right until then, 99 % by step 800"),
        (650, 50, "26.9 % of them at most were right until then, 99 % by step 880"),
    ],
)
def test_a_memorisation_that_ends_before_the_training_examples_are_learned_is_flagged(at, width, flag):
    found = phases(*made_up(train_accuracy=curve(0, 1, at, width)))
    memorised = found.boundaries[0]
    assert (memorised.name, memorised.after, memorised.by) == ("memorised", 500, 700)
    said = (
        f"before the training examples were learned: excluded loss is lowest at step 600, {flag}"
        if flag
        else ""
    )
    assert memorised.flag == said
    assert (
        f"memorised between steps 500 and 700{f' ({said})' if said else ''}, circuit formed" in found.sentence
    )


@pytest.mark.parametrize(
    ("changes", "by"),
    [
        ({"restricted": lambda step: math.log(100) * np.where(step < 2000, 0.6, 0.0099)}, 2000),
        ({"restricted": lambda step: math.log(100) * np.where(step < 2000, 0.6, 0.0101)}, None),
        (
            {
                "excluded": lambda step: (
                    math.log(100) * np.where(step < 600, 0.3, np.where(step < 2500, 0.499, 0.501))
                    + (step == 0)
                )
            },
            2500,
        ),
    ],
)
def test_the_thresholds_in_words_are_those_that_decide(changes, by):
    """1 % and 50 % of the loss of chance."""
    data, history = made_up(**changes)
    formed = {b.name: b for b in phases(data, history).boundaries}.get("circuit formed")
    assert (formed and formed.by) == by
    if formed:
        assert (
            formed.rule
            == "restricted loss is at most 1 %, and excluded loss at least 50 %, of the loss of chance"
        )


def test_noisy_labels_have_thresholds_of_their_own_in_words_and_in_what_decides():
    noisy = dataclasses.replace(EXAMPLES, noisy=True)
    history = evaluated([0, *[1] * 20], [*[0.01] * 17, 0.6, 0.89, 0.92, 0.93], noisy=True)
    found = phases(NOTHING, history, noisy)
    assert (found.kind, found.standing.state) == ("groks", "generalises")
    assert "test accuracy (right answers) reaches 90 % by step 190" in found.sentence
    assert found.boundaries[-1].rule == "test accuracy (right answers) reaches 90 %"
    assert (found.boundaries[-1].after, found.boundaries[-1].by) == (180, 190)


# Leads


def test_leads_are_differences_of_half_way_crossings():
    data, history = made_up()
    leads = {lead.measure: lead for lead in phases(data, history).leads}
    # Test accuracy is half-way at step 2500, test loss at 2400, the Gini coefficient at 3000, the weights at
    # 2500.
    gini = leads["gini.W_E"]
    assert (gini.after, gini.by) == (2900, 3000)
    assert abs(gini.steps + 500) <= 2
    assert (gini.low, gini.high) == (2490 - 3000, 2500 - 2900)
    assert leads["sum_of_squares"].part == "total"
    assert abs(leads["sum_of_squares"].steps) <= 1
    restricted = leads[
        "restricted_loss.logit_dirs" + FINAL
    ]  # half-way between 1 and 0.001 of chance at 2050 - 1001
    assert (restricted.part, restricted.after, restricted.by) == ("all", 1000, 1100)
    assert abs(restricted.steps - (2500 - 1049)) <= 2
    assert [lead.steps for lead in phases(data, history).leads] == sorted(
        (lead.steps for lead in leads.values()), reverse=True
    )


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
    data["accuracy"] = (
        ("step", "part"),
        np.stack([at["train_accuracy"], at["test_accuracy"], at["test_accuracy"]], 1),
    )
    found = phases(data, history.assign(test_accuracy=math.nan).head(1))
    assert [(b.name, b.after, b.by) for b in found.boundaries] == [
        (b.name, b.after, b.by) for b in phases(data, history).boundaries
    ]


def test_without_the_weights_it_is_not_said_when_they_had_shrunk():
    data, history = made_up()
    found = phases(data.drop_vars("sum_of_squares"), history)
    assert [b.name for b in found.boundaries] == ["memorised", "circuit formed", "unseen examples learned"]
    assert [b.basis for b in found.boundaries] == ["progress measures", "progress measures", "accuracy alone"]
    assert [phase.name for phase in found.spans] == [
        "memorisation",
        "circuit formation",
        "generalisation",
        "after",
    ]


RESTRICTED, EXCLUDED = (f"{name}_loss.logit_dirs{FINAL}" for name in ("restricted", "excluded"))


@pytest.mark.parametrize(
    ("without", "why"),
    [
        (lambda data: data.drop_vars(RESTRICTED), "the data hold no restricted loss of all examples with "
        "the final keys"),
        (lambda data: data.drop_vars(EXCLUDED), "the data hold no excluded loss of the training examples "
        "with the final keys"),
        (lambda data: data.drop_vars([RESTRICTED, EXCLUDED]), NEITHER),
        (lambda data: data.assign({RESTRICTED: data[RESTRICTED] * math.nan}),
        "the data hold no restricted loss of all examples with"),
        (lambda data: data.sel(part=["train"]), "the data hold no restricted loss of all examples with the "
        "final keys"),
        (lambda data: data.drop_attrs(), 'is not known (the data have no attribute "answers")'),
        (lambda data: xr.Dataset(), NEITHER),
    ],
)  # fmt: skip
def test_without_the_losses_of_the_keys_nothing_is_said_of_a_circuit(without, why):
    data, history = made_up()
    found = phases(without(data), history)
    assert found.kind == "groks"
    assert [(b.name, b.after, b.by) for b in found.boundaries] == BY_ACCURACY
    assert why in found.boundaries[0].note
    assert why in found.sentence.split("When a circuit formed is not known: ")[1]


@pytest.mark.parametrize(
    ("data", "kind", "why"),
    [
        (made_up()[0][["sum_of_squares"]], "groks", NEITHER),
        (
            made_up()[0].assign({RESTRICTED: made_up()[0][RESTRICTED] * math.nan}),
            "groks",
            "no restricted loss of all examples",
        ),
        (made_up()[0].sel(step=[0, 4000]), "groks", "2 snapshots"),
        (made_up()[0].drop_attrs(), "groks", '"answers"'),
        (xr.Dataset(), "groks", NEITHER),
        (NOTHING, "generalises at once", "not known to have memorised"),
        (NOTHING, "learns nothing", "too little was ever learned"),
    ],
)
def test_of_each_boundary_that_is_not_decided_it_is_said_why(data, kind, why):
    if kind == "groks":
        history = made_up()[1]
    else:
        history = (
            evaluated([0, 0.5, *[1] * 5], [0, 0.5, *[1] * 5])
            if kind == "generalises at once"
            else evaluated([0] * 5, [0] * 5)
        )
    found = phases(data, history)
    assert found.kind == kind
    named = {b.name for b in found.boundaries}
    assert {"memorised", "circuit formed", "cleaned up"} <= named | set(found.skipped)
    assert not named & set(found.skipped)
    assert why in found.skipped["circuit formed"]
    assert found.leads or found.skipped["leads"]
    assert not any(
        each.startswith("1 snapshots") or " 1 snapshots" in each for each in found.skipped.values()
    )


@pytest.mark.parametrize("n", [0, 1, 2])
def test_one_snapshot_is_one_snapshot(n):
    data, history = made_up()
    said = json.dumps(phases(data.isel(step=slice(0, n)), history).to_dict())
    assert (" 1 snapshots" in said, " 0 snapshot," in said) == (False, False)
    assert ("1 snapshot" in said) == (n == 1)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ([9, 21], " (final keys 9, 21)"),
        ([7], " (final key 7)"),
        ([1, 2, 30], " (final keys 1, 2, 30)"),
        ([], ""),
        (None, ""),
    ],
)
def test_a_circuit_is_said_to_be_of_the_final_keys_by_name(keys, said):
    data, history = made_up()
    if keys is not None:
        data = data.assign_attrs(final_keys=json.dumps(keys))
    found = phases(data, history)
    assert f"circuit formed between steps 2,000 and 2,100{said}, cleaned up" in found.sentence
    assert [b.keys for b in found.boundaries] == [[], keys or [], []]
    never = phases(data.assign({RESTRICTED: data[RESTRICTED] * 0 + math.log(100)}), history)
    verb = "does" if said == " (final key 7)" else "do"
    assert f"{verb} the {said[2:-1] or 'final keys'} alone bring the loss under 50 %" in never.sentence


def test_gaps_in_the_measures_are_passed_over():
    data, history = made_up()
    whole = phases(data, history)
    fewer = data.astype(float).where(data["step"] != 1000).assign_attrs(data.attrs)
    expected = [dataclasses.replace(boundary, seen=boundary.seen - 1) for boundary in whole.boundaries]
    assert phases(fewer, history).boundaries == expected
    name = "restricted_loss.logit_dirs" + FINAL
    fewer[name] = fewer[name].where(fewer["step"] != 1200)
    expected[1] = dataclasses.replace(expected[1], seen=expected[1].seen - 1)
    assert phases(fewer, history).boundaries == expected


@pytest.mark.trains
def test_everything_is_plain_json(quick_run):
    found = phases(gi.replay(quick_run, LOOKED_AT, progress=False), quick_run.history).to_dict()
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert list(found) == ["kind", "sentence", "spans", "boundaries", "leads", "skipped", "standing"]
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
