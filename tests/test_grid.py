"""A grid in words: which values a key takes, which members that makes, and what they are called."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

import grokinterp as gi
from conftest import tiny
from grokinterp.errors import ConfigError, UsageError
from grokinterp.sweeps.grid import MOST, Drawn, axes_of, grid_argument, members_of, name_of

BASE = tiny()


def values(text: str, key: str = "training.lr"):
    return axes_of({key: text})[key]


def members(grid, samples=None, draw_seed=0, most=MOST):
    return members_of(BASE, axes_of(grid), samples, draw_seed, most)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("0,0.3,1", (0, 0.3, 1)),
        ("0.2:0.8:0.1", (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)),
        ("0.2:0.75:0.25", (0.2, 0.45, 0.7)),
        ("0..3", (0, 1, 2, 3)),
        ("5..5", (5,)),
        ("10:50:20", (10, 30, 50)),
        ("1e-4:1e-1:log4", (1e-4, 1e-3, 1e-2, 1e-1)),
        ("1:1000:log4", (1, 10, 100, 1000)),
        ("0.5:1.5:lin3", (0.5, 1.0, 1.5)),
        ("0:10:lin3", (0, 5, 10)),
        ("-1:1:1", (-1, 0, 1)),
        ("adamw,sgd", ("adamw", "sgd")),
        ("adamw", ("adamw",)),
        ("none, LN", ("none", "LN")),
        ("true,false", (True, False)),
        ("'a,b',c", ("'a", "b'", "c")),
        ("'a,b','c'", ("a,b", "c")),
        ("{kind='uniform', share=0.1}", ({"kind": "uniform", "share": 0.1},)),
        ("[1, 2],[3]", ([1, 2], [3])),
        ("test_accuracy >= 1 for 300", ("test_accuracy >= 1 for 300",)),
    ],
)
def test_values_in_words(text, meant):
    assert values(text) == meant


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "there are no values"),
        ("1,,2", "there is an empty value"),
        ("a,,b", "there is an empty value"),
        ("1,2,1", "1 is there twice"),
        ("0,0", "0 is there twice"),
        ("0.8:0.2:0.1", "0.2 comes before 0.8: turn them round"),
        ("7..3", "3 comes before 7"),
        ("0:1:0", "the step has to be above 0"),
        ("0:1:-0.1", "the step has to be above 0"),
        ("0:1:log3", "a log axis begins above 0, and 0 is not"),
        ("0:1:lograndom", "a log axis begins above 0"),
        ("1:2:log1", "needs at least two values"),
        ("1:2:lag3", "needs VALUE,VALUE or FIRST:LAST:STEP"),
        ("0:1e9:1e-3", "values of one key: take a larger step"),
        ("0..99999999", "values of one key"),
    ],
)
def test_what_is_none_is_one_line(text, says):
    with pytest.raises(UsageError, match=f"^--grid training.lr={'.*'}") as caught:
        values(text)
    assert says in str(caught.value)


def test_an_argument_has_a_key():
    assert grid_argument("a.b=1=2") == ("a.b", "1=2")
    for text in ("a.b", "=3", ""):
        with pytest.raises(UsageError, match="needs KEY=VALUES"):
            grid_argument(text)


@given(st.decimals("0.01", "10", places=2), st.decimals("0.01", "1", places=2), st.integers(1, 30))
def test_steps_are_exact_and_end_at_the_end(first, step, n):
    found = values(f"{first}:{first + step * (n - 1)}:{step}")
    assert len(found) == n
    assert found[-1] == float(first + step * (n - 1))


def test_what_is_drawn_goes_on_with_more_samples_and_lies_between():
    drawn = values("1e-4:1e-1:lograndom")
    assert isinstance(drawn, Drawn)
    few, many = drawn.values("training.lr", 5, 0), drawn.values("training.lr", 400, 0)
    assert many[:5] == few
    assert len(set(many)) > 390
    assert all(1e-4 <= x <= 1e-1 for x in many)
    assert 0.4 < sum(x < math.sqrt(1e-5) for x in many) / 400 < 0.6  # as many below the middle of the axis
    assert drawn.values("training.lr", 5, 1) != few
    assert drawn.values("training.eps", 5, 0) != few
    assert all(isinstance(x, int) and 8 <= x <= 64 for x in values("8:64:random").values("a", 50, 0))


def test_members_are_crossed_in_order_and_are_the_configuration_with_these_values():
    made = members({"training.weight_decay": "0,1", "training.fraction": "0.4,0.6", "seed": [3, 4]})
    assert list(made)[:3] == [
        "weight_decay=0,fraction=0.4,seed=3",
        "weight_decay=0,fraction=0.4,seed=4",
        "weight_decay=0,fraction=0.6,seed=3",
    ]
    assert len(made) == 8
    for member in made.values():
        assert member.config == BASE.changed(**member.values)


def test_drawn_keys_are_drawn_together_and_crossed_with_the_others():
    grid = {"training.lr": "1e-3:1e-2:random", "training.weight_decay": "0.1:1.0:random", "seed": "0,1"}
    made = members(grid, samples=5)
    assert len(made) == 10
    pairs = {(m.values["training.lr"], m.values["training.weight_decay"]) for m in made.values()}
    assert len(pairs) == 5


@pytest.mark.parametrize(
    ("grid", "options", "kind", "says"),
    [
        ({"training.wieght_decay": "0,1"}, {}, ConfigError, "did you mean 'weight_decay'"),
        ({"training.weight_decay": "0,heavy"}, {}, ConfigError, "training.weight_decay"),
        ({"training.fraction": "0.5,1.5"}, {}, ConfigError, "training.fraction"),
        ({"seed": "0..99999"}, {}, UsageError, "100,000 members, and each is a training: give --yes"),
        ({"training.lr": "1e-3:1e-2:random"}, {}, UsageError, "give --samples"),
        ({"training.lr": "1e-3,1e-2"}, {"samples": 3}, UsageError, "no key of the grid is drawn"),
        ({"seed": "0:1:random"}, {"samples": 9}, UsageError, "two members of one name, seed="),
        ({"training.lr": [1e-3, 0.001]}, {}, UsageError, "0.001 is there twice"),
        ({"training.lr": [1e-3, "0.001"]}, {}, UsageError, "0.001 is there twice"),
        ({"training.lr": 3}, {}, UsageError, "needs text such as '0.2:0.8:0.1', or a list, got 3"),
    ],
)
def test_a_grid_that_cannot_be_is_one_line(grid, options, kind, says):
    with pytest.raises(kind) as caught:
        members(grid, **options)
    assert says in str(caught.value)


def test_a_million_members_are_refused_before_they_are_made():
    grid = {"training.lr": "0.001:1:0.001", "seed": "0..999"}
    with pytest.raises(UsageError, match="1,000,000 members"):
        members(grid)


@pytest.mark.parametrize(
    ("of", "name"),
    [
        ({"training.weight_decay": 1.0, "seed": 3}, "weight_decay=1,seed=3"),
        ({"training.weight_decay": 1e-05}, "weight_decay=1e-05"),
        ({"task.p": 53, "other.p": 2}, "task.p=53,other.p=2"),
        ({"training.stop_when": None}, "stop_when=none"),
        ({"model.attention": True}, "attention=true"),
        ({"training.optimizer": "sgd"}, "optimizer=sgd"),
    ],
)
def test_names(of, name):
    assert name_of(of) == name


@given(st.text(max_size=300), st.text(max_size=300))
def test_any_text_is_a_word_in_a_name_and_other_texts_are_other_words(one, other):
    first, second = name_of({"a.b": one}), name_of({"a.b": other})
    assert re.fullmatch(r"b=[\w.+-]{1,190}", first, re.ASCII)
    assert (first == second) == (one == other)


def test_every_key_of_a_preset_can_be_one_of_a_grid():
    for key, several in {"training.loss": ["cross_entropy", "mse"], "model.act_fn": ["relu", "gelu"]}.items():
        made = members_of(gi.TrainConfig.preset("quick"), axes_of({key: several}), None, 0, None)
        assert len(made) == 2
