"""The built adder is right on every question, by the carries of which its formula speaks."""

from __future__ import annotations

import pytest
import torch

from grokinterp import controls
from grokinterp.errors import UsageError
from grokinterp.tasks.digits import name_of

SMALL = {"examples": 300, "per_class": 40}


@pytest.mark.parametrize("n", [1, 2, 3, 4, controls.MOST_DIGITS])
def test_the_adder_gives_the_digits_that_python_gives(n):
    view = controls.adder(n, **SMALL)
    places = torch.tensor([10**place for place in range(n)])
    a, b = (view.task.pairs * places[:, None]).sum(1).T.tolist()
    given = [view.at(answer).logits.argmax(1).tolist() for answer in view.answers]
    expected = [f"{x + y:0{n + 1}}" for x, y in zip(a, b, strict=True)]
    assert ["".join(map(str, digits)) for digits in zip(*given, strict=True)] == expected


def test_its_logits_are_the_scale_at_the_answer_and_0_elsewhere():
    view = controls.adder(2, **SMALL)
    expected = 20.0 * torch.nn.functional.one_hot(view.targets, 10)
    torch.testing.assert_close(view.logits, expected.double(), atol=1e-9, rtol=0)


def test_its_first_mlp_holds_the_carry_and_nothing_else():
    view = controls.adder(3, **SMALL)
    for place in (1, 2):
        neurons = view.at(name_of(place)).neurons_of(0)
        into = view.task.factors[f"carry_in.{name_of(place)}"].values
        at, there = slice(2 * place - 2, 2 * place), neurons[:, 2 * place - 2 : 2 * place]
        torch.testing.assert_close(there[:, 0] - there[:, 1], into.double(), atol=1e-9, rtol=0)
        neurons[:, at] = 0
        assert not neurons.any()


def test_a_network_of_its_shape_that_was_never_trained_does_not_add():
    built = controls.adder(2, **SMALL)
    random = controls.random_like(built)
    assert random.weights.keys() == built.weights.keys()
    assert float(random.all_right().double().mean()) < 0.1


def test_more_digits_than_float64_holds_are_refused():
    with pytest.raises(UsageError, match=r"adder\(13\): float64 does not hold .* 12 at most"):
        controls.adder(13)
