"""What pages say of networks that read images: which pixels decide, what is looked at, and what becomes of it
over training; and of networks whose arrays are no images, or not black and white."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import grokinterp as gi
from grokinterp.report import page, save_replay
from grokinterp.report.analysis import analysis_of
from grokinterp.report.arrays import sections
from grokinterp.report.arrays.panels import FLIPS, flips_on_image
from grokinterp.tasks import TASKS, Arrays

SMALL = {
    "model.kind": "vision", "model.d_model": 16, "model.n_heads": 2, "model.n_layers": 1,
    "training.batch_size": 32, "training.steps": 30, "training.evaluate_every": 10, "snapshots.every": 10,
}  # fmt: skip


@pytest.fixture(scope="module")
def lines(trained_once) -> gi.Run:
    task = {"task.name": "line_images", "task.size": 8, "task.slopes": 4, "task.examples": 160}
    return trained_once("lines8", gi.TrainConfig.preset("patch_vit", **{**SMALL, **task}))


@pytest.fixture(scope="module")
def report(lines):
    return analysis_of(lines)


def own(monkeypatch, tmp_path, inputs, **model: object) -> gi.Run:
    """A network that has seen a user's own arrays."""

    def mine() -> Arrays:
        return gi.arrays(inputs, (inputs.flatten(1)[:, 0] > 0.5).long())

    monkeypatch.setitem(TASKS, "mine", mine)
    changes = {**SMALL, "task.name": "mine", "model.patch_size": 2, "training.steps": 2, **model}
    return gi.train(gi.TrainConfig.make({"model": {}}, **changes), out=tmp_path / "mine", progress=False)


def test_a_report_opens_with_the_pixels_that_decide(report):
    section = page.opening(report)
    assert [panel.title for panel in section.panels] == [FLIPS]
    assert "keep their answer whichever one pixel is flipped" in section.lead
    figure = section.panels[0].body.figure
    assert len(figure.data) == len(report.measured("example_images.pixels"))
    shown = {section.title: section for section in page.sections(report)}
    for title in (
        "What it looks at",
        "What noise does",
        "Whether the place matters",
        "How many dimensions are needed",
    ):
        assert shown[title].panels, title
        assert not shown[title].missing


@pytest.mark.parametrize(
    "name", ["dimension_reduction", "robustness.one_flip", "invariance.planarity", "loss"]
)
def test_a_report_of_one_measure_has_a_page(lines, name):
    some = analysis_of(lines, -1, [name])
    shown = {section.title: section for section in page.sections(some)}
    assert shown["Whether the place matters"].missing
    assert ("How many dimensions are needed" in shown) == (name == "dimension_reduction")
    assert page.render(some)


def test_the_page_names_its_examples_by_their_class_and_by_the_answer(report):
    names = [a.text for a in sections._examples(report, with_flips=True).layout.annotations]
    answers = report.measured("example_images.answers")
    given = [str(answers["class"].values[k]) for k in answers.values.argmax(1)]
    task = report.run.task
    rows = [name.partition(": ")[2] for name in answers["image"].values.tolist()]
    assert names == [f"{true}<br>says {said}" for true, said in zip(rows, given, strict=True)]
    assert set(rows) <= set(task.classes)
    assert len(set(rows)) == len(rows)


def test_a_flip_that_decides_is_brighter_than_any_pixel_of_an_image():
    image = np.array([[0.0, 1.0], [0.0, 1.0]])
    flips = np.array([[0.0, 0.0], [1.0, 1.0]])
    shown = flips_on_image(image, flips)
    assert shown[0].max() < shown[1].min()
    assert (shown[:, 1] > shown[:, 0]).all()


@pytest.mark.parametrize(
    ("near", "far", "said"),
    [
        (0.5, 0.1, "they are those of the line or figure itself"),
        (0.1, 0.5, "they lie away from what the image shows more often than on it"),
        (0.3, 0.25, "they lie on what the image shows and far from it alike"),
    ],
)
def test_the_sentence_is_that_of_the_numbers(report, near, far, said):
    where = report.values["robustness.where"]
    flips = report.values["robustness.flips"]
    values = np.where(where["distance"].values == 0, near, far)
    try:
        report.values["robustness.where"] = where.copy(data=values)
        report.values["robustness.flips"] = flips.copy(data=[3.0, 2.0, 9.0, 0.05])
        sentence = sections._robustly(report)
        assert said in sentence
        assert f"decides at {100 * near:.1f} % of the pixels that are on" in sentence
        report.values["robustness.flips"] = flips.copy(data=[0.0, 0.0, 0.0, 0.0])
        assert "and they" not in sections._robustly(report)
    finally:
        report.values["robustness.where"], report.values["robustness.flips"] = where, flips


def test_a_replay_shows_images_attention_flips_and_answers(lines, tmp_path):
    data = save_replay(lines, tmp_path / "replay.html")
    for name in ("attention", "flips", "answers", "pixels"):
        assert data[f"example_images.{name}"].sizes["step"] == len(lines.steps)
    probabilities = data["example_images.answers"].sum("class")
    np.testing.assert_allclose(probabilities, 1)
    for step in (0, -1):
        view = lines.view(int(data["step"].values[step]))
        assert torch.equal(
            torch.from_numpy(data["example_images.flips"].isel(step=step).values),
            torch.from_numpy(gi.measure("example_images.flips", view).values),
        )
    text = (tmp_path / "replay.html").read_text()
    for title in (
        FLIPS,
        "What it looks at on example images",
        "What it answers to example images",
        "How robust it is",
        "Whether positions are laid out as the image is",
    ):
        assert title in text
    assert "position_grid.best_pair</h" not in text  # no panel for a measure that has none


def test_the_sentence_counts_the_images_that_there_are(monkeypatch, tmp_path):
    """Fewer than are asked for, where a user has no more that were not trained on."""
    bits = (torch.rand(60, 4, 4, generator=torch.Generator().manual_seed(0)) > 0.5).float()
    of = ["example_images", "robustness"]
    names = [name for name in gi.MEASURES if name.split(".")[0] in of]
    a = analysis_of(own(monkeypatch, tmp_path, bits), -1, names)
    n = len(a.run.split.test)
    assert 2 <= n < 60
    assert f" of {n} images (" in page.opening(a).lead
    (noise,) = [section for section in page.sections(a) if section.title == "What noise does"]
    assert noise.panels[1].caption.endswith(f"of {n} images.")


def test_grey_images_are_looked_at_and_not_flipped(monkeypatch, tmp_path):
    grey = torch.rand(60, 4, 4, generator=torch.Generator().manual_seed(0))
    a = analysis_of(own(monkeypatch, tmp_path, grey))
    assert "flipped between two values" in a.skipped["robustness.all_flips"]
    opened = page.opening(a)
    assert opened is None or FLIPS not in [panel.title for panel in opened.panels]
    shown = {section.title: section for section in page.sections(a)}
    assert shown["What it looks at"].panels
    assert shown["What noise does"].missing
    assert "keep their answer" not in page.render(a)


def test_of_a_table_nothing_is_said_of_pixels(monkeypatch, tmp_path):
    table = torch.rand(60, 6, generator=torch.Generator().manual_seed(0)).round()
    a = analysis_of(own(monkeypatch, tmp_path, table))
    assert "no images" in a.skipped["robustness.where"]
    text = page.render(a)
    assert "What it looks at" not in text
    assert FLIPS not in text
