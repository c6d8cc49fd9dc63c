"""Plateaus of a loss: curves that are built with them and without, and what is said of a run with some."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

import grokinterp as gi
from grokinterp.errors import NotApplicable
from grokinterp.replay import courses
from test_report import text_of

KNOWN = {"nothing": 2.303, "its digits": 0.688}


def history(points, noise=0.0, every=10, column="test_loss") -> pd.DataFrame:
    """Evaluations of a loss that goes through these points in straight lines."""
    at, values = zip(*points, strict=True)
    steps = np.arange(0, at[-1] + 1, every)
    loss = np.interp(steps, at, values) * np.exp(noise * np.random.default_rng(0).normal(size=len(steps)))
    return pd.DataFrame({"step": steps, column: loss})


TENS = [(0, 2.3), (210, 2.3), (300, 0.75), (650, 0.75), (900, 0.3), (1200, 0.04), (2000, 1e-4)]


def course(table, levels=KNOWN):
    (one,) = courses(table, {"tens": levels})
    return one


@pytest.mark.parametrize("noise", [0.0, 0.03])
def test_plateaus_are_where_they_were_built_and_named_by_what_is_known(noise):
    first, second = course(history(TENS, noise)).plateaus
    assert (first.known, second.known) == ("nothing", "its digits")
    assert first.level == pytest.approx(2.3, abs=0.05)
    assert second.level == pytest.approx(0.75, abs=0.02)
    assert (first.first, abs(first.last - 210) <= 30) == (0, True)
    assert abs(second.first - 300) <= 20
    assert 650 <= second.last <= 800  # it may come down a fifth in it
    assert second.last < second.left <= 800


def test_a_spike_does_not_end_a_plateau_and_is_none():
    table = history(TENS, 0.01)
    table.loc[45, "test_loss"] = 20.0
    assert [(p.first, p.last) for p in course(table).plateaus] == [
        (p.first, p.last) for p in course(history(TENS, 0.01)).plateaus
    ]


def test_descents_are_the_first_evaluations_a_tenth_of_a_nat_below():
    one = course(history(TENS))
    table = history(TENS)
    for known, level in KNOWN.items():
        assert one.descents[known] == table["step"][table["test_loss"] < level - 0.1].iloc[0]
    assert one.converged == table["step"][table["test_loss"] < 0.05].iloc[0]


def test_a_level_that_it_began_below_is_not_left():
    assert course(history([(0, 0.69), (500, 0.69), (800, 0.01)])).descents.keys() == {"its digits"}


@pytest.mark.parametrize("power", [0.6, 1.0, 2.0])
def test_a_loss_that_falls_steadily_has_none(power):
    steps = np.arange(0, 3001, 10)
    table = pd.DataFrame({"step": steps, "test_loss": 2.3 * (1 + steps / 10) ** -power})
    assert course(table).plateaus == ()
    assert "at the end" in course(table).sentence or "below 0.05" in course(table).sentence


def test_what_is_learned_is_no_plateau():
    assert course(history([(0, 2.0), (100, 1e-6), (3000, 1e-6)])).plateaus == ()


def test_one_that_is_never_left_and_that_nothing_explains_is_said_to_be_so():
    table = history([(0, 2.3), (140, 2.3), (400, 0.6), (800, 0.133), (2500, 0.133)], 0.05)
    one = course(table, {**KNOWN, "its digits and those below": 0.069})
    assert one.plateaus[-1].level == pytest.approx(0.133, abs=0.01)
    assert (one.plateaus[-1].known, one.plateaus[-1].left, one.converged) == (None, None, None)
    assert "no level of the task explains it" in one.sentence
    assert one.sentence.endswith("and never below 0.05.")


@pytest.mark.parametrize("n", [1, 4])
def test_a_few_evaluations_show_none(n):
    assert course(pd.DataFrame({"step": range(n), "test_loss": [2.3] * n})).plateaus == ()


def test_each_answer_has_its_own_and_one_that_was_not_evaluated_has_none():
    table = history(TENS, column="test_loss.tens")
    table["test_loss.units"] = 2.3
    both = courses(table, {"tens": KNOWN, "units": {"nothing": 2.303}, "sign": {"nothing": 0.69}})
    assert [one.answer for one in both] == ["tens", "units"]
    assert both[1].plateaus[0].last == table["step"].iloc[-1]


def test_without_test_examples_the_loss_that_is_trained_on_counts():
    assert len(course(history(TENS, column="train_loss")).plateaus) == 2


def test_without_an_evaluation_there_is_nothing_to_say():
    with pytest.raises(NotApplicable, match="no evaluation of the loss"):
        courses(pd.DataFrame({"step": [0], "test_loss": [float("nan")]}), {"tens": KNOWN})


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> gi.Run:
    overrides = {
        "task.n": 1, "task.examples": 200, "task.per_class": 20, "model.d_model": 16, "model.d_mlp": 32,
        "training.steps": 60, "training.batch_size": 64, "threads": 1, "snapshots.every": 30,
    }  # fmt: skip
    config = gi.TrainConfig.preset("digits", **overrides)
    return gi.train(config, tmp_path_factory.mktemp("digits") / "run", progress=False)


def test_report_and_replay_say_what_plateaus_says(run, tmp_path):
    told = gi.plateaus(run)
    assert [one.answer for one in told] == ["tens", "units"]
    report = gi.analyze(run)
    assert report.to_dict()["training"]["plateaus"] == json.loads(json.dumps([c.to_dict() for c in told]))
    page = text_of(report.to_html())
    gi.save_replay(run, tmp_path / "replay.html")
    replay = text_of((tmp_path / "replay.html").read_text())
    for one in told:
        assert one.sentence in page
        assert one.sentence in replay


def test_an_operation_is_told_by_its_phases(tiny_run):
    report = gi.analyze(tiny_run)
    assert "plateaus" not in report.to_dict()["training"]
    assert "Plateaus" not in text_of(report.to_html())
