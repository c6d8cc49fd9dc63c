"""What reports and replays say of where elements lie: a sentence for every kind of embedding, decided by the
numbers below it, and the planes with the grid drawn in."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch

import grokinterp as gi
from clouds import CENTRED, FOLD_IN_SPACE, GRID_BEHIND_A_FOLD, GRID_IN_SPACE, M, N, network, noise
from grokinterp.errors import NotApplicable
from grokinterp.report.geometry.drawing import colours, corners, edges
from grokinterp.report.geometry.found import Found, course_in_words, over_training, second_powers, spans_of
from grokinterp.tasks import Coordinates, split
from test_replay_page import contents

KINDS = {
    "grid": GRID_IN_SPACE,
    "fold": FOLD_IN_SPACE + 0.01 * noise(),
    "behind": GRID_BEHIND_A_FOLD,
    "noise": noise(),
}


def found(view: gi.View) -> Found:
    values = {
        name: gi.measure(name, view)
        for name, known in gi.MEASURES.items()
        if name.startswith("geometry.") and known.applies_to(view.task)
    }
    return Found.of(values, view.task.coordinates)


def said(kind: str) -> str:
    return found(network(KINDS[kind])).sentence


def test_of_a_grid_it_says_that_the_first_two_components_show_it():
    assert said("grid").startswith(
        "The embedding shows the grid in its first two principal components (100 % of x and y, by chance at "
    )
    assert "folded" not in said("grid")


def test_of_a_grid_behind_a_fold_it_says_where_it_lies_and_what_there_is_more_of():
    sentence = said("behind")
    assert sentence.startswith(
        "The embedding does not show the grid in its first two principal components (0 % of"
    )
    assert "x and y lie in components 4 and 5 (100 %, by chance at most" in sentence
    assert re.search(r"more of its variance is x², xy and y² \(94 %, .* than x and y \(6 %, ", sentence)
    assert "it is folded at its centre" in sentence


def test_of_a_fold_it_says_that_there_is_no_grid():
    assert "no two carry more of x and y than by chance" in said("fold")
    assert "it is folded at its centre" in said("fold")


def test_of_noise_it_says_nothing_that_is_not_there():
    assert "no two carry more of x and y than by chance" in said("noise")
    assert said("noise").endswith("x, y, x², xy and y² explain no more of its variance than by chance.")
    assert "folded" not in said("noise")


@pytest.mark.parametrize("seed", range(20))
def test_a_sentence_never_contradicts_its_numbers(seed):
    """Over mixtures of grid, fold and noise of random sizes."""
    generator = torch.Generator().manual_seed(seed)
    a, b, c = torch.rand(3, generator=generator, dtype=torch.float64).tolist()
    here = found(network(a * GRID_IN_SPACE / 3 + b * FOLD_IN_SPACE + 2 * c * noise(seed=seed)))
    sentence = here.sentence
    shows = here.top2.value >= 0.5 and here.top2.value > here.top2.most
    assert sentence.startswith("The embedding shows") == shows
    assert ("does not show" in sentence) == (not shows)
    assert ("no two carry" in sentence) == (not shows and here.best.value <= here.best.most)
    if "lie in components" in sentence:
        assert here.best.value >= 0.5
        assert here.best.value > here.best.most
        assert f"components {here.pair[0] + 1} and {here.pair[1] + 1}" in sentence
    if "folded" in sentence:
        assert here.fold.value > here.fold.most
        assert here.degrees[2].value - here.degrees[1].value > here.degrees[1].value
    if "left out" in sentence:
        assert any(stat.value >= 0.5 and stat.value > stat.most for stat in here.left_out.values())
    assert sentence.count(".") == len(re.findall(r"\d\.\d", sentence)) + 1  # it is one sentence


def test_what_is_needed_and_was_not_measured_is_named():
    with pytest.raises(NotApplicable, match=r"geometry\.r2_top2 was not measured"):
        Found.of({}, network(GRID_IN_SPACE).task.coordinates)


def test_words_of_more_and_of_fewer_axes():
    assert second_powers(["x"]) == ["x²"]
    assert second_powers(["x", "y", "z"]) == ["x²", "xy", "xz", "y²", "yz", "z²"]
    assert second_powers(["row", "column"]) == ["row²", "row column", "column²"]


# Over training


def test_stretches_of_steps_are_told_by_their_ends():
    marks = [(0, False), (10, True), (20, True), (30, False), (40, True)]
    assert spans_of(marks) == [(10, 20), (40, 40)]
    assert spans_of([(0, False)]) == []


@pytest.fixture(scope="module")
def recorded(tmp_path_factory) -> gi.Run:
    """A training that goes from noise over a grid behind a fold to a grid."""
    folder = tmp_path_factory.mktemp("recorded") / "run"
    known = split(M * (M - 1), 0.5, together=gi.make_task("point_slope", n=N).together)
    for step, kind in ((0, "noise"), (5, "behind"), (10, "behind"), (20, "grid")):
        view = network(KINDS[kind])
        run = gi.record(view.model, view.task, step, out=folder, split=(known.train, known.test))
    return run


def test_the_course_says_when_what_was_there(recorded):
    data = gi.replay(recorded, progress=False)
    over = over_training(data, Coordinates.from_attrs(data.attrs))
    assert [*over] == [0, 5, 10, 20]
    assert course_in_words(over) == (
        "Two components carry more of x and y than by chance from step 5 on. More of the embedding is x², xy "
        "and y² than x and y from step 5 to 10. The first two components show the grid from step 20 on."
    )
    assert over[20].sentence == said("grid")
    assert course_in_words({0: over[0]}) == course_in_words({}) == ""


def test_the_replay_has_the_value_and_chance_of_every_snapshot(recorded):
    data = gi.replay(recorded, progress=False)
    for step, kind in ((0, "noise"), (10, "behind"), (20, "grid")):
        for name in ("geometry.r2_top2", "geometry.poly_share", "geometry.plane"):
            expected = gi.measure(name, network(KINDS[kind]))
            np.testing.assert_allclose(data[name].sel(step=step).values, expected.values, atol=1e-6)


def test_a_report_opens_with_the_sentence_and_the_plane(recorded):
    report = gi.analyze(recorded, progress=False)
    page = report.to_html()
    head = page[page.index("<header>") : page.index("</header>")]
    assert said("grid") in head
    assert 'id="panel-the-first-two-components"' in head
    assert "Components" not in head
    claims = {claim.claim: claim.verdict for claim in report.analysis.claims}
    assert (
        claims["The first two principal components of the embedding show where the elements lie"]
        == "supported"
    )
    assert claims["The embedding is folded at its centre more than it is laid out"] == "refuted"
    assert "from step 5 to 10" in page
    assert "The numbers</summary>" in page

    before = gi.analyze(recorded, step=10, progress=False)
    page = before.to_html()
    head = page[page.index("<header>") : page.index("</header>")]
    assert said("behind") in head
    assert 'id="panel-components-4-and-5"' in head
    claims = {claim.claim: claim.verdict for claim in before.analysis.claims}
    assert (
        claims["The first two principal components of the embedding show where the elements lie"] == "refuted"
    )
    assert claims["The embedding is folded at its centre more than it is laid out"] == "supported"


def test_a_report_of_other_measures_opens_without_it(recorded):
    page = gi.analyze(recorded, measures=["geometry.planarity"], with_replay=False).to_html()
    assert "principal components (" not in page[: page.index("</header>")]


def test_the_replay_page_draws_the_planes_with_the_lines_of_the_grid(recorded, tmp_path):
    data = gi.save_replay(recorded, tmp_path / "replay.html")
    page = (tmp_path / "replay.html").read_text()
    panels = {panel["title"]: panel for panel in contents(page)["panels"]}
    planes = panels["Where the elements lie"]
    assert planes["titles"] == ["the first two", "the best pair"]
    np.testing.assert_allclose(planes["values"], data["geometry.plane"].values, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(planes["values"][-1][0], 3 * CENTRED, atol=1e-4)
    assert len(planes["lines"]) == 2 * N * (N - 1)
    assert {"How much of the coordinates", "What the embedding is made of"} <= set(panels)
    assert not any(title.startswith("geometry.") for title in panels)
    assert f"At step 20 t{said('grid')[1:]}" in page


@pytest.mark.browser
def test_the_planes_move_and_name_their_points(recorded, browser, tmp_path):
    gi.save_replay(recorded, tmp_path / "replay.html")
    tab = browser.new_context(viewport={"width": 1100, "height": 900}, offline=True).new_page()
    errors: list[str] = []
    tab.on("pageerror", lambda error: errors.append(str(error)))
    tab.goto(f"{(tmp_path / 'replay.html').as_uri()}#step=20&panels=where-the-elements-lie")
    tab.wait_for_selector("html[data-ready=yes]")
    shown = tab.evaluate("grokinterpReplay.current().panels['where-the-elements-lie']")
    np.testing.assert_allclose(np.reshape(shown, (2, M, 2))[1], 3 * CENTRED, atol=1e-4)
    canvas = tab.locator("#panel-where-the-elements-lie canvas").element_handle()
    pixels = tab.evaluate(
        "c => Array.from(c.getContext('2d').getImageData(0, 0, c.width, c.height).data)", canvas
    )
    colour = np.reshape(pixels, (-1, 4))[:, :3]
    for along in ([59, 125, 216], [224, 123, 57]):  # the lines along x and along y
        assert (np.abs(colour - along).max(1) <= 12).sum() > 100
    assert errors == []


# Other tasks


def test_a_task_of_a_user_whose_operands_are_places_has_all_of_it(tmp_path, monkeypatch):
    from grokinterp.tasks import TASKS

    def nearer(side: int = 4) -> gi.Operation:
        """Which of two points is nearer to the corner."""
        places = [(x, y) for x in range(side) for y in range(side)]
        return gi.Task.of_function(lambda p, q: sum(p) < sum(q), operands=places, symbol="nearer")

    monkeypatch.setitem(TASKS, "nearer", nearer)
    shape = {"d_model": 16, "n_heads": 2, "d_mlp": 16}
    values = {"task": {"name": "nearer"}, "model": shape, "training": {"steps": 4}, "snapshots": {"every": 2}}
    run = gi.train(gi.TrainConfig.make(values, threads=1), tmp_path / "run", progress=False)
    page = gi.analyze(run, progress=False).to_html()
    assert "Where the elements lie</h2>" in page
    gi.save_replay(run, tmp_path / "replay.html")
    assert "Where the elements lie" in (tmp_path / "replay.html").read_text()


def test_a_task_without_coordinates_has_none_of_it(tiny_run, tmp_path):
    page = gi.analyze(tiny_run, progress=False).to_html()
    assert "Where the elements lie" not in page
    gi.save_replay(tiny_run, tmp_path / "replay.html")
    assert "Where the elements lie" not in (tmp_path / "replay.html").read_text()


# How it is drawn


def test_lines_have_the_colour_of_the_axis_along_which_they_lie():
    places = network(GRID_IN_SPACE).task.coordinates
    along = {colour: set() for _, _, colour in edges(places)}
    for one, other, colour in edges(places):
        along[colour].add(tuple((places.values[other] - places.values[one]).tolist()))
    assert sorted(map(tuple, along.values())) == [((0.0, 1.0),), ((1.0, 0.0),)]
    assert {tuple(places.values[i].tolist()) for i in corners(places)} == {
        (0, 0),
        (0, N - 1),
        (N - 1, 0),
        (N - 1, N - 1),
    }
    assert len(set(colours(places))) == M


def test_places_on_a_line_or_askew_are_drawn_too():
    line = Coordinates(torch.tensor([[0.0], [1.0], [3.0]], dtype=torch.float64), ("x",))
    assert [(one, other) for one, other, _ in edges(line)] == [(0, 1)]
    assert len(colours(line)) == 3
    assert not line.is_grid
    askew = Coordinates(torch.tensor([[0, 0], [1, 1], [2, 0]], dtype=torch.float64), ("x", "y"))
    assert len({colour for _, _, colour in edges(askew)}) == 1


def test_coordinates_survive_a_file(recorded, tmp_path: Path):
    data = gi.replay(recorded, progress=False)
    again = Coordinates.from_attrs(data.attrs)
    assert torch.equal(again.values, recorded.task.coordinates.values)
    assert again.axes == ("x", "y")
    assert again.is_grid
    assert Coordinates.from_attrs({}) is None
