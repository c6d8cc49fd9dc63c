"""What is known by name, and progress bars: one of each for the whole package."""

from __future__ import annotations

import io
import sys

import pytest

from grokinterp.errors import ConfigError, UsageError
from grokinterp.progress import SHARE, bars
from grokinterp.registry import Registry


def test_an_unknown_name_is_an_error_of_its_kind_that_names_the_nearest():
    known: Registry[int] = Registry("colour", ConfigError)
    known.add("green", 1)
    assert known["green"] == 1
    with pytest.raises(ConfigError, match=r"^unknown colour 'grean'; did you mean 'green'\?$"):
        known["grean"]
    with pytest.raises(ConfigError, match=r"^unknown colour '7'; known: green$"):
        known["7"]
    assert known.get("grean") is None
    assert list(known) == ["green"]


def test_the_stem_of_several_names_lists_them():
    known: Registry[int] = Registry("measure")
    known.add("loss.mse", 1)
    known.add("loss.nats", 2)
    with pytest.raises(UsageError, match=r"its variants are loss\.mse, loss\.nats$"):
        known["loss"]


def test_a_name_is_given_once():
    known: Registry[int] = Registry("task")
    known.add("sum", 1)
    with pytest.raises(ValueError, match="two tasks are named 'sum'"):
        known.add("sum", 2)
    assert known["sum"] == 1


def test_bars_are_shown_where_they_are_wanted_or_someone_looks(monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with bars(None) as bar:
        assert bar is None
    with bars(False) as bar:
        assert bar is None
    with bars(True) as bar:
        bar.add_task("warm", total=300, what="step", completed=20)
        assert bar.columns[0].format(task=bar.tasks[0]) == "step 20 of 300"
    with bars(True, SHARE) as bar:
        bar.add_task("reading", total=1, completed=0.25)
        assert bar.columns[0].format(task=bar.tasks[0]) == "25 %"
