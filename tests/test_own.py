"""Measures of a user's own: registered, from a file given to a command too, and registered again."""

from __future__ import annotations

import json
import re
from functools import partial

import numpy as np
import pytest
import torch

import grokinterp as gi
from grokinterp import controls, extending
from grokinterp.errors import UsageError
from grokinterp.measures import MEASURES
from grokinterp.registry import LOADED, OfFamilies, load_file
from grokinterp.report.claims import CLAIMS
from grokinterp.report.panels import NoteOf

OWN = """
from beside import FACTOR
from grokinterp import register_measure
from grokinterp.extending import claim, all_of, needs

@register_measure("own.weights", unit="1", ref="my notebook")
def weights(view):
    "How many weights there are, times a factor."
    return FACTOR * sum(weight.numel() for weight in view.weights.values())

@claim("It has a weight")
def has_a_weight(a):
    return all_of(needs("own.weights", float(a.number("own.weights")), ">=", 1.0))
"""


@pytest.fixture
def own(tmp_path):
    """A file that registers a measure and a claim, and a module beside it; forgotten afterwards."""
    (tmp_path / "beside.py").write_text("FACTOR = 2\n")
    (tmp_path / "my_measures.py").write_text(OWN)
    loaded = len(LOADED)
    yield tmp_path / "my_measures.py"
    del LOADED[loaded:]
    MEASURES.pop("own.weights", None)
    for i, each in reversed([*enumerate(CLAIMS._things)]):
        if each.name == "It has a weight":
            del CLAIMS._things[i], CLAIMS._made_of[i]


def registered(name, value):
    gi.register_measure(name, unit="1", ref="a test of this package")(lambda view: value)
    return name


@pytest.fixture
def view():
    view = controls.random_network(7)
    yield view
    MEASURES.pop("own.test", None)


@pytest.mark.parametrize(
    ("value", "number"),
    [(3, 3.0), (True, 1.0), (np.int64(4), 4.0), (np.float32(0.5), 0.5), (torch.tensor(2), 2.0)],
    ids=str,
)
def test_any_number_is_a_value(view, value, number):
    registered("own.test", value)
    measured = gi.measure("own.test", view)
    assert (type(measured), measured) == (float, number)


def test_whole_numbers_are_values_of_each_answer(tiny_words_view):
    registered("own.test", 3)
    try:
        value = gi.measure("own.test", tiny_words_view)
    finally:
        MEASURES.pop("own.test")
    assert value.dims == ("answer",)
    assert set(value.values.tolist()) == {3.0}


@pytest.fixture
def tiny_words_view():
    task = gi.make_task("reverse")
    config = gi.TrainConfig.of_task("reverse").model
    return gi.view(config.hooked(task.reads, config.initial_weights(task.reads, 0)), task)


@pytest.mark.parametrize(
    "value", [[1, 2], np.zeros(3), torch.zeros(2), "a", None], ids=lambda x: str(type(x))
)
def test_what_is_neither_a_number_nor_labelled_is_said(view, value):
    registered("own.test", value)
    with pytest.raises(
        UsageError, match=r"^own\.test gave a \w+: a measure gives a number or a labelled arr"
    ):
        gi.measure("own.test", view)


def test_the_same_file_registers_again_and_another_does_not(view):
    registered("own.test", 1)
    registered("own.test", 2)
    assert gi.measure("own.test", view) == 2.0
    elsewhere = {"__name__": "elsewhere"}
    exec(compile("def own(view): return 3", "elsewhere.py", "exec"), elsewhere)
    with pytest.raises(ValueError, match=r"two measures are named 'own\.test'"):
        gi.register_measure("own.test", unit="1", ref="another file")(elsewhere["own"])
    assert gi.measure("own.test", view) == 2.0
    with pytest.raises(ValueError, match="two measures are named 'loss'"):
        registered("loss", 1)


def test_cells_of_a_notebook_register_again(view):
    """Each run of a cell has a file name of its own."""
    for number, cell in enumerate(("ipykernel_1/11.py", "ipykernel_1/22.py")):
        names = {"__name__": "__main__"}
        exec(compile(f"def own(view): return {number}", cell, "exec"), names)
        gi.register_measure("own.test", unit="1", ref="a cell")(names["own"])
        assert gi.measure("own.test", view) == number


def test_what_is_of_a_family_registers_again_in_its_place():
    notes: OfFamilies[NoteOf] = OfFamilies("note")
    for name, text in (("A", "first"), ("B", "second"), ("A", "third")):
        notes.registering(partial(NoteOf, name, gi.Task))(lambda moments, text=text: text)
    said = [(each.name, each.made(None)) for each in notes.applying_to(["Task"])]
    assert said == [("A", "third"), ("B", "second")]


def test_a_file_of_ones_own_is_used_by_a_command(grokinterp, tiny_run, own):
    code, out, err = grokinterp("analyze", tiny_run.path, "--with", own, "--json", "--no-replay")
    assert code == 0, err
    values = json.loads(out)
    assert values["measures"]["own.weights"]["value"] == 2 * sum(
        weight.numel() for weight in tiny_run.state_dict(-1).values()
    )
    assert ("It has a weight", "supported") in [(one["claim"], one["verdict"]) for one in values["claims"]]
    page = (tiny_run.path / "report.html").read_text()
    assert f"grokinterp analyze {tiny_run.path} --with {own}" in page
    # What was said with the file is not what is said without it.
    MEASURES.pop("own.weights")
    own.write_text(OWN.replace("own.weights", "own.others"))
    try:
        code, out, _ = grokinterp("analyze", tiny_run.path, "--json", "--no-replay")
        assert code == 0
        assert "own.weights" not in json.loads(out)["measures"]
    finally:
        MEASURES.pop("own.others", None)


def test_replay_and_list_take_it_too(grokinterp, tiny_run, own):
    code, out, err = grokinterp("replay", tiny_run.path, "--with", own, "--measure", "own.weights", "--json")
    assert code == 0, err
    assert "own.weights" not in json.loads(out)["skipped"]
    assert "own.weights" in (tiny_run.path / "replay.html").read_text()
    code, out, _ = grokinterp("list", "measures", "own.", "--with", own)
    assert code == 0
    assert "own.weights" in out
    assert "How many weights there are" in out


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, r"nowhere\.py does not exist: give a Python file that registers measures"),
        ("def (", r"nowhere\.py is no Python: .*, line 1$"),
        ("x = 1\nimport nothing_of_this_name", r"nowhere\.py, line 2: ModuleNotFoundError: No module named"),
        ("import sys\n\nsys.exit(3)", r"nowhere\.py, line 3: SystemExit: 3"),
        ("x = 1", r"nowhere\.py registers nothing: put @register_measure"),
        (
            "from grokinterp import register_measure\nregister_measure('loss', unit='1', ref='')(print)",
            r"nowhere\.py, line 2: ValueError: two measures are named 'loss'",
        ),
        ("\0", r"nowhere\.py is no Python: "),
    ],
    ids=["none", "no python", "raises", "exits", "nothing", "taken", "zero"],
)
def test_a_file_that_is_of_no_use_is_said_in_one_line(grokinterp, tiny_run, tmp_path, text, said):
    if text is not None:
        (tmp_path / "nowhere.py").write_text(text)
    code, out, err = grokinterp("analyze", tiny_run.path, "--with", tmp_path / "nowhere.py")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert re.search(said, err.rstrip()), err


def test_a_directory_is_no_file(tmp_path):
    with pytest.raises(UsageError, match="is a directory: give a Python file"):
        load_file(tmp_path)


def test_the_names_for_users_are_the_same_function():
    assert gi.register_measure is extending.register_measure is extending.measure
    assert gi.measure is not gi.register_measure
