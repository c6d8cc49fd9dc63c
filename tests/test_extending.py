"""The files in docs/extending.md, run as a user would run them: what the first registers stands in both
pages."""

from __future__ import annotations

import json
import subprocess
import sys

import pandas as pd
import pytest
import xarray as xr

import grokinterp as gi
from grokinterp import extending
from grokinterp.errors import NotApplicable
from test_any_task import text_of
from test_docs import BLOCKS
from test_replay_page import contents

FILES = {block.text.split("\n", 1)[0].removeprefix("# "): block for block in BLOCKS if block.how == "file"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where it was run."""
    folder = tmp_path_factory.mktemp("extending")
    (folder / "count.py").write_text(FILES["count.py"].text)
    done = subprocess.run(
        [sys.executable, "count.py"], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_measures_of_ones_own_are_loaded_by_a_command(tmp_path, quick_run):
    (tmp_path / "my_measures.py").write_text(FILES["my_measures.py"].text)
    code = "from grokinterp.cli import main; main()"
    names = [word for name in ("weights.count", "weights.largest") for word in ("--measure", name)]
    command = ["analyze", quick_run.path, "--with", "my_measures.py", *names, "--no-replay", "--json"]
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, command), "--out", "here"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    measures = json.loads(done.stdout)["measures"]
    weights = quick_run.state_dict(-1)
    assert measures["weights.count"]["value"] == sum(weight.numel() for weight in weights.values())
    assert measures["weights.largest"]["dims"] == ["parameter"]


def test_images_of_ones_own_are_learned(tmp_path):
    pytest.importorskip("sklearn")
    (tmp_path / "handwritten.py").write_text(FILES["handwritten.py"].text)
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "handwritten.py"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "('class', 'patch 0,0', 'patch 0,1') torch.Size([2, 4, 1797, 17])" in done.stdout
    metrics = (tmp_path / "runs/handwritten/metrics.jsonl").read_text().splitlines()
    last = json.loads(metrics[-1])
    assert last["step"] == 300
    assert last["test_accuracy"] > 0.8  # .90 where it was written


def test_its_claim_section_and_measure_stand_in_the_report(folder):
    page = text_of((folder / "runs/count/report.html").read_text())
    for words in ("It counts to every number", "What the two symbols add", "Embeddings", "accuracy.by_ones"):
        assert words in page
    assert "By first bit" in page  # what it knows of its examples


def test_its_panel_moves_in_the_replay(folder):
    page = (folder / "runs/count/replay.html").read_text()
    panels = {panel["id"]: panel for panel in contents(page)["panels"]}
    panel = panels["right-by-the-number-of-ones"]
    assert (panel["kind"], panel["x"], panel["positions"]) == ("bars", "ones", list(range(9)))
    assert panel["groups"][0]["values"].shape == (25, 9)
    assert "accuracy-by_ones" not in panels  # it is drawn once


def test_elsewhere_its_run_is_refused_in_one_line_that_says_what_it_needs(folder, grokinterp):
    for command in ("verify", "analyze", "replay"):
        code, out, err = grokinterp(command, folder / "runs" / "count")
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert "count_ones" in err or "bag" in err


def test_what_is_registered_for_one_family_is_of_no_other(quick_run):
    @extending.measure(
        "test.of_words", unit="1", ref="a test of this package", of=type(gi.make_task("majority"))
    )
    def of_words(view):
        return 1.0

    try:
        with pytest.raises(
            NotApplicable,
            match=r"^test\.of_words is a measure of Majority tasks, and modular_addition is an Operation$",
        ):
            gi.measure("test.of_words", quick_run.view(-1))
        assert "test.of_words" not in gi.analyze(quick_run, with_replay=False).to_dict()["skipped"]
    finally:
        del gi.MEASURES["test.of_words"]


def test_a_narrower_panel_takes_the_place_of_a_general_one_and_two_alike_are_refused():
    from grokinterp.report.panels import PANELS, SECTIONS

    nowhere = extending.Moments(xr.Dataset(), pd.DataFrame())  # of elements that lie nowhere
    of_operation, of_any = (
        {panel.name: panel.of.__name__ for panel in PANELS.applying_to(families) if panel.where(nowhere)}
        for families in (["Operation", "Task"], ["Majority", "Task"])
    )
    assert (of_operation["Loss"], of_any["Loss"]) == ("Operation", "Task")
    first = ("Loss", "Accuracy", "Weights")
    for names in (of_operation, of_any):
        assert tuple(name for name in names if name in first) == first
    assert "Circles" in of_operation.keys() - of_any.keys()
    with pytest.raises(ValueError, match=r"^two sections of Task tasks are named 'Training'$"):
        extending.section("Training")(lambda a: [])
    assert sum(each.name == "Training" for each in SECTIONS.applying_to(["Task"])) == 1


def test_a_hook_that_a_network_lacks_is_named(quick_run):
    with pytest.raises(NotApplicable, match=r"^the network has no hook blocks\.9\.hook_mlp_out$"):
        quick_run.view(-1).activations([], edits=[("blocks.9.hook_mlp_out", lambda x, hook: x)])
