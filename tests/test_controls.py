"""The built networks do what their formulas say."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

import grokinterp as gi
from grokinterp import controls
from grokinterp.errors import NotApplicable


def cubes(p: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """a, b and c of every logit, in the order [p p, p]."""
    a, b, c = np.indices((p, p, p))
    return tuple(x.reshape(p * p, p) for x in (a, b, c))


def everything(measure: str, view: gi.View, **options: object) -> float:
    return float(gi.measure(measure, view, **options).sel(part="all"))


@pytest.mark.parametrize(("p", "keys"), [(13, (1, 4)), (14, (3, 7))])
def test_the_clock_has_the_logits_of_its_formula(p, keys):
    a, b, c = cubes(p)
    expected = 10 * sum(np.cos(2 * np.pi * k * (a + b - c) / p) for k in keys)
    np.testing.assert_allclose(controls.clock(p, keys).logits, expected, atol=1e-9)


def test_a_frequency_that_is_idle_changes_no_logit():
    np.testing.assert_allclose(
        controls.clock(13, (2,), idle=(5,)).logits, controls.clock(13, (2,)).logits, atol=1e-9
    )


@pytest.mark.parametrize("p", [13, 53])
def test_the_pizza_has_nearly_the_logits_of_its_formula(p):
    a, b, c = cubes(p)
    keys = (1, 4)
    expected = 50 * sum(
        np.abs(np.cos(np.pi * k * (a - b) / p)) * np.cos(2 * np.pi * k * (a + b - c) / p) for k in keys
    )
    np.testing.assert_allclose(controls.pizza(p, keys).logits, expected, atol=100 * 2 / p)


@pytest.mark.parametrize(("p", "d_mlp"), [(13, 600), (23, 1100), (59, 58 * 29)])
def test_gromov_s_network_is_right_everywhere(p, d_mlp):
    assert everything("accuracy", controls.gromov(p, d_mlp)) == 1


def test_gromov_s_network_comes_nearer_to_its_formula_with_more_neurons():
    p, scale = 13, 20.0
    a, b, c = cubes(p)
    expected = scale * (p * ((a + b - c) % p == 0) - 1) / (p - 1)
    errors = [
        np.abs(controls.gromov(p, d_mlp, scale).logits.numpy() - expected).max() for d_mlp in (600, 15_000)
    ]
    assert errors[1] < errors[0] / 4  # as 1 / √d_mlp, which is 1 / 5
    assert errors[1] < 0.1 * scale


def test_gromov_s_network_uses_every_frequency_alike_and_its_neurons_are_of_one_frequency_each():
    view = controls.gromov(13, 600)
    cosine = gi.measure("logit_cosine", view)
    assert float(cosine.std() / cosine.mean()) < 0.02
    assert gi.measure("logit_fve.centred", view) > 0.9
    # (x + y)² has the product 2xy at k, 4/5 of the variance, and x² and y², which are waves at 2k: squares of
    # one frequency all the same.
    np.testing.assert_allclose(gi.measure("neuron.explained_variance", view), 1)
    assert gi.measure("neuron.single_frequency_share", view) == 1
    np.testing.assert_array_equal(gi.measure("neuron.frequency", view), 1 + np.arange(600) % 6)


def test_the_look_up_table_knows_every_pair():
    a, b, c = cubes(13)
    np.testing.assert_allclose(controls.lookup(13, 20.0).logits, 20.0 * ((a + b - c) % 13 == 0), atol=1e-9)


def test_the_memoriser_knows_the_training_pairs_and_guesses_the_others():
    p, scale = 23, 20.0
    view = controls.memoriser(p, scale)
    accuracy, loss = gi.measure("accuracy", view), gi.measure("loss", view)
    assert accuracy.sel(part="train") == 1
    assert accuracy.sel(part="test") == pytest.approx(1 / p, abs=0.04)
    right = math.log1p((p - 1) * math.exp(-scale))
    assert float(loss.sel(part="train")) == pytest.approx(right, rel=1e-9)
    wrong = 1 - float(accuracy.sel(part="test"))
    assert float(loss.sel(part="test")) == pytest.approx(right + scale * wrong, rel=1e-6)
    # Every pair has one logit that is on: it is sure of itself where it is wrong, too.
    torch.testing.assert_close(view.logits.sum(1), torch.full((p * p,), scale, dtype=torch.float64))


def test_the_memoriser_has_no_key_frequencies():
    view = controls.memoriser(23)
    assert gi.key_frequencies(view).consensus == []
    assert gi.measure("neuron.single_frequency_share", view) == 0
    with pytest.raises(NotApplicable, match="no key frequencies"):
        gi.measure("circuit.clock.loss", view)


# What tells the built networks from one another

CONTROLS = {
    "clock": lambda: controls.clock(17, (2, 5, 8)),
    "pizza": lambda: controls.pizza(17, (2, 5, 8)),
    "gromov": lambda: controls.gromov(17, 1600),
    "lookup": lambda: controls.lookup(17),
    "memoriser": lambda: controls.memoriser(17),
    "random": lambda: controls.random_network(17),
}
SAYS = {
    # lowest and highest; None: the measure does not apply
    "gradient_symmetricity": {
        "clock": (-0.1, 0.4),
        "pizza": (0.999, 1),
        "gromov": None,
        "lookup": (-0.1, 0.4),
        "memoriser": (-0.1, 0.4),
        "random": (0.9, 1),
    },
    "distance_irrelevance.correct": {
        "clock": (1, 1),
        "pizza": (0, 0.02),
        "gromov": (0.8, 1),
        "lookup": (1, 1),
        "memoriser": (0.9, 1),
        "random": (0.9, 1),
    },
    "clock_fit.fourier": {
        "clock": (0.999, 1),
        "pizza": (0.8, 0.83),
        "gromov": (0.9, 1),
        "lookup": (0, 0.01),
        "random": (0, 0.05),
    },
    "pizza_fit.fourier": {
        "clock": (0.8, 0.83),
        "pizza": (0.999, 1),
        "gromov": (0.7, 0.9),
        "lookup": (0, 0.01),
        "random": (0, 0.05),
    },
    "circuit.clock.agreement": {
        "clock": (1, 1),
        "pizza": (1, 1),
        "gromov": (1, 1),
        "lookup": (1, 1),
        "memoriser": (0.4, 0.7),
        "random": (0, 0.3),
    },
    "circuit.pizza.agreement": {
        "clock": (1, 1),
        "pizza": (1, 1),
        "memoriser": (0.4, 0.7),
        "random": (0, 0.3),
    },
    "circuit.clock.divergence": {
        "clock": (0, 1e-9),
        "gromov": (0.01, 1),
        "lookup": (0.01, 1),
        "memoriser": (1, 20),
    },
    "circuit.neurons.agreement": {
        "clock": (1, 1),
        "pizza": (1, 1),
        "gromov": (1, 1),
        "memoriser": (0, 0.3),
        "random": (0, 0.3),
    },
    "circuit.whole.agreement": {
        "clock": (1, 1),
        "pizza": (1, 1),
        "gromov": (1, 1),
        "lookup": (0, 0.1),
        "memoriser": (0, 0.1),
        "random": (0, 0.3),
    },
    "circuit.constant_attention.agreement": {
        "clock": (1, 1),
        "pizza": (1, 1),
        "gromov": None,
        "lookup": (0, 0.1),
        "random": (0, 0.3),
    },
}


@pytest.mark.parametrize(
    ("measure", "control"), [(measure, control) for measure, says in SAYS.items() for control in says]
)
def test_the_measures_tell_the_controls_apart(measure, control):
    view, expected = CONTROLS[control](), SAYS[measure][control]
    options = {"keys": [2, 5, 8]} if measure.startswith(("circuit", "clock", "pizza")) else {}
    if expected is None:
        with pytest.raises(NotApplicable):
            gi.measure(measure, view, **options)
        return
    found = np.asarray(gi.measure(measure, view, **options), dtype=float)
    found = found[-1:] if measure.startswith("circuit") else found  # all examples
    low, high = expected
    assert ((found >= low - 1e-9) & (found <= high + 1e-9)).all(), found


@pytest.mark.parametrize("make", CONTROLS.values(), ids=CONTROLS)
def test_controls_are_the_same_every_time(make):
    first = make()
    for maker in (
        controls.clock,
        controls.pizza,
        controls.gromov,
        controls.lookup,
        controls.memoriser,
        controls.random_network,
    ):
        maker.cache_clear()
    again = make()
    assert first is not again
    assert torch.equal(first.logits, again.logits)


def test_controls_leave_the_generator_alone():
    before = torch.get_rng_state()
    for maker, size in itertools.product((controls.memoriser, lambda p: controls.gromov(p, 30)), (5, 7)):
        maker(size)
    assert torch.equal(torch.get_rng_state(), before)
