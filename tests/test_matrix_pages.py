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
    if name.startswith(("matrices.", "probe.", "accuracy", "attention.")) and name != "accuracy.mirror"
]


def half_right(run: gi.Run, wrong_above: float = 0.5, with_replay: bool = False):
    """An analysis of the run as it would be of a network that fails on the matrices of larger condition
    numbers, by doubling what it says of the first entry."""
    task = run.task
    large = (
        task.factors["log_condition"].values
        if "log_condition" in task.factors
        else torch.arange(120).double()
    )
    true = task.encoded_truth.clone()
    true[large > large.quantile(wrong_above), 0, 0] *= 2
    tokens, _ = task.output.encode(true.flatten(1))
    return answering(run, tokens.flatten(1), with_replay)


def answering(run: gi.Run, given: torch.Tensor, with_replay: bool = False):
    """An analysis of the run as it would be of a network that gives these answers."""
    task, kept = run.task, gi.View.decoded
    # What is kept of the run is what it decodes itself.
    shutil.rmtree(run.path / "replay", ignore_errors=True)
    try:
        gi.View.decoded = property(lambda view: given if view.task is task else kept.func(view))
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


@pytest.fixture(scope="module")
def vectors(trained_once) -> gi.Run:
    return trained_once("vector_pages", config("eigenvectors", **{"task.examples": 240}))


def test_maps_of_attention_show_what_can_be_attended_to(analysed, run):
    made, _ = analysed
    shown = {section.title: section for section in page.sections(made)}["Attention"]
    question, answer = ["a11", "a12", "a21", "a22"], list(run.task.reads.words[4:])
    figures = {panel.title: panel.body.figure.data[0] for panel in shown.panels}
    assert list(figures["Decoder L0"].x) == answer
    assert list(figures["Decoder L0 cross"].x) == question
    encoder = figures["Encoder L0, each position"]
    assert list(encoder.x) == question
    assert list(encoder.y) == [f"{word}, head {head}" for head in range(2) for word in question]


def test_a_network_that_writes_no_matrices_yet_has_a_page(vectors):
    given = vectors.task.sample.answers.clone()
    given[:, 0] = given[:, 1]  # digits where a sign has to be
    made, html = answering(vectors, given)
    assert made.skipped["matrices.condition"] == "none of 240 answers is a matrix"
    assert "It is right within 5 % on 0 % of 240 matrices" in page.opening(made).lead
    assert "no unit norms" not in text_of(html)
    shown = {section.title: section for section in page.sections(made)}
    assert [table.title for table in shown["Which matrices it fails"].tables] == [
        "Right answers by the condition number of the matrix"
    ]


def test_right_answers_of_zeros_cannot_be_missed(vectors):
    tokens, _ = vectors.task.output.encode(torch.zeros_like(vectors.task.truth))
    made, _ = answering(vectors, tokens.flatten(1))
    assert (
        "; of these answers 240 have no unit norms, which the criterion does not ask for"
        in page.opening(made).lead
    )


def test_of_single_numbers_there_are_no_bands_of_condition_numbers(trained_once):
    run = trained_once("number_pages", config("eigenvalues", **{"task.n": 1}))
    given = run.task.sample.answers.clone()
    given[:40] = given[0]
    made, _ = answering(run, given)
    lead = page.opening(made).lead
    assert "What it fails on was not tested: all matrices have the same condition number (have 1)" in lead
    assert "quarter" not in lead
    assert [panel.title for panel in page.opening(made).panels] == ["Right by tolerance"]


def test_of_two_dimensional_eigenvectors_it_is_said_what_they_cannot_show(vectors):
    made, html = half_right(vectors)
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
