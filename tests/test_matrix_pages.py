"""What pages say of networks that answer with matrices: no two sentences contradict one another, whatever was
found."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch

import grokinterp as gi
from grokinterp.measures.matrices.failures import answers
from grokinterp.report import page, save_replay
from grokinterp.report.analysis import analysis_of
from test_report import text_of

SMALL = {
    "task.examples": 120, "model.kind": "encoder_decoder", "model.n_layers": 1, "model.d_model": 16,
    "model.n_heads": 2, "model.d_mlp": 16, "training.batch_size": 16, "training.steps": 20,
    "training.data": "fresh", "training.weight_decay": 0.0, "training.evaluate_every": 10,
    "snapshots.every": 10,
}  # fmt: skip


def config(name: str, **changes: object) -> gi.TrainConfig:
    return gi.TrainConfig.make(
        {"model": {"kind": "encoder_decoder"}}, **{**SMALL, "task.name": name, **changes}
    )


MEASURES = [
    name
    for name in gi.MEASURES
    if name.startswith(("matrices.", "probe.", "accuracy", "attention.mean", "attention.variance"))
    and name != "accuracy.mirror"
]


def half_right(run: gi.Run, wrong_above: float = 0.5, with_replay: bool = False):
    """An analysis of the run as it would be of a network that fails on the matrices of larger condition
    numbers, by doubling what it says of the first entry."""
    task, kept = run.task, gi.View.decoded
    large = (
        task.factors["log_condition"].values
        if "log_condition" in task.factors
        else torch.arange(120).double()
    )
    true = task.encoded_truth.clone()
    true[large > large.quantile(wrong_above), 0, 0] *= 2
    tokens, _ = task.output.encode(true.flatten(1))
    # What is kept of the run is what it decodes itself.
    shutil.rmtree(run.path / "replay", ignore_errors=True)
    try:
        gi.View.decoded = property(lambda view: tokens.flatten(1) if view.task is task else kept.func(view))
        made = analysis_of(run, -1, MEASURES, None, with_replay, False)
        html = page.render(made)
    finally:
        gi.View.decoded = kept
        shutil.rmtree(run.path / "replay", ignore_errors=True)
    return made, html


@pytest.fixture(scope="module")
def run(trained_once) -> gi.Run:
    return trained_once("eigen_pages", config("eigenvalues"))


@pytest.fixture(scope="module")
def analysed(run):
    return half_right(run, with_replay=True)


def test_a_page_opens_with_how_often_it_is_right_and_what_those_have_in_common_that_it_fails(analysed):
    made, html = analysed
    right = float(answers(made.view).right["within 5 %"].double().mean())
    assert 0.4 < right < 0.6
    opening, text = page.opening(made), text_of(html)
    assert f"It is right within 5 % on {100 * right:.1f} % of 120 matrices" in opening.lead
    assert "those that it fails have a large condition number: area under the curve" in opening.lead
    assert [panel.title for panel in opening.panels] == ["Right by condition number"]
    # The verdict, the claim and the phases go by the same criterion.
    assert f"{100 * right:.1f} % of an evaluation sample of 120 examples are right within 5 %" in made.verdict
    assert made.claims[0].evidence == [
        f"accuracy.by_criterion (test, within 5 %) = {right:.4f}, needs >= 0.99"
    ]
    assert "at chance" not in made.verdict
    assert "Every token as in the sample" in text
    shown = {section.title: section for section in page.sections(made)}
    for title in (
        "How many are right",
        "Which matrices it fails",
        "What wrong answers still have of right ones",
        "Other matrices",
        "What can be read of an example",
    ):
        assert shown[title].panels or shown[title].tables, title
        assert not shown[title].missing


@pytest.mark.parametrize(
    ("area", "said"),
    [
        ((0.93, 0.9, 0.95), "those that it fails have a large condition number"),
        ((0.75, 0.7, 0.8), "that tells only a part"),
        ((0.5, 0.4, 0.6), "a large condition number does not tell those that it fails"),
        ((0.3, 0.2, 0.4), "it fails more often where the condition number is small"),
    ],
)
def test_what_is_said_of_condition_numbers_is_what_the_interval_allows(analysed, area, said):
    made, _ = analysed
    kept = made.values["matrices.failure_auc"]
    made.values["matrices.failure_auc"] = kept.copy(data=[[*area, 60.0, 120.0]])
    try:
        assert said in page.opening(made).lead
        assert (
            f"area under the curve {area[0]:.2f} ({area[1]:.2f} to {area[2]:.2f} at 95 %)"
            in page.opening(made).lead
        )
    finally:
        made.values["matrices.failure_auc"] = kept


def test_where_nothing_fails_it_is_said_that_nothing_was_tested(run):
    made, html = half_right(run, wrong_above=1.0)
    opening = page.opening(made)
    assert "It is right within 5 % on 100 % of 120 matrices" in opening.lead
    assert "What it fails on was not tested: 0 of 120 answers are wrong" in opening.lead
    assert made.verdict.startswith("Yes: ")
    shown = {section.title: section for section in page.sections(made)}
    assert "none of 120 answers is wrong" in str(shown["What wrong answers still have of right ones"].missing)
    assert "Of 0 wrong answers" not in text_of(html)


def test_of_two_matrices_there_is_no_condition_number(trained_once):
    made, _ = half_right(trained_once("sum_pages", config("matrix_addition")))
    opening = page.opening(made)
    assert "not tested: a question has two matrices" in opening.lead
    assert [panel.title for panel in opening.panels] == ["Right by tolerance"]
    titles = [section.title for section in page.sections(made) if section.panels or section.tables]
    assert "How many are right" in titles
    assert "Other matrices" not in titles


def test_of_two_dimensional_eigenvectors_it_is_said_what_they_cannot_show(trained_once):
    made, html = half_right(trained_once("vector_pages", config("eigenvectors", **{"task.examples": 240})))
    lead = {section.title: section.lead for section in page.sections(made)}[
        "What wrong answers still have of right ones"
    ]
    assert "keep: unit norm, orthogonal (neighbouring rows), orthogonal (all pairs)" in lead
    assert "fewer than half keep: eigenvalues" in lead
    assert "Of 2 x 2 matrices" in lead
    assert "of the eigenvectors that are the answer" in text_of(html)


def test_the_replay_shows_what_changes(run, tmp_path):
    data = save_replay(run, tmp_path / "replay.html")
    assert np.isfinite(data["probe.r2.stream"]).all()
    text = text_of((tmp_path / "replay.html").read_text())
    for title in ("Which matrices are right", "Which entries are right", "What can be read of an example"):
        assert title in text
