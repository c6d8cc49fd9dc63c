"""Measures: documented, repeatable, right on networks whose algorithm is known, and equal to a second, slower
route.

Three tables have one line per measure: ON_THE_CLOCK (what it must say of the built clock),
ON_A_RANDOM_NETWORK (what it must say where there is nothing to find) and SLOWLY (the same number by another
route, in plain numpy). A measure that is missing from one of them fails
`test_every_measure_has_a_line_in_every_table`. The lines of one subject may stand in a file of their own,
expected_SUBJECT.py, with tables of these names, and with the sets EVERYWHERE, OF_NEURONS, OF_THE_READOUT,
OF_THE_GRID, OF_GROUPS and DIMS where it has something to add to them. Measures of noisy labels (OF_NOISE) are
asked of the same networks with noisy labels.
"""

from __future__ import annotations

import copy
import functools
import importlib
import inspect
import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import torch

import grokinterp as gi
from expected_noise import OF_NOISE, noisy
from grokinterp import controls
from grokinterp.errors import NotApplicable, UsageError
from grokinterp.measures import measure
from grokinterp.tasks import make_task
from memorised import memoriser

NOISY = gi.make_task("modular_addition", p=5, noise={"kind": "uniform", "share": 0.1})
NAMES = [name for name, measure in gi.MEASURES.items() if measure.applies_to(NOISY)]
"""All that are asked of an operation; those of tasks with several answers are tested beside these tasks."""
EXPECTED = [
    importlib.import_module(file.stem) for file in sorted(Path(__file__).parent.glob("expected_*.py"))
]
DIMS = {"freq", "component", "neuron", "layer", "head", "pos", "part", "parameter", "pc", "element", "answer"}
DIMS |= {dim for module in EXPECTED for dim in getattr(module, "DIMS", ())}
TAKES_KEYS = [name for name in NAMES if "keys" in inspect.signature(gi.MEASURES[name].function).parameters]
TAKES_IRREPS = [
    name for name in NAMES if "irreps" in inspect.signature(gi.MEASURES[name].function).parameters
]
ANY = math.nan
"""Stands in an expected array where the definition leaves the value open."""


@pytest.fixture(scope="module")
def grokked(quick_run):
    return quick_run.view(-1)


@pytest.fixture(scope="module")
def grokked_again(quick_run):
    return quick_run.view(-1)


def subject(name: str, view: gi.View) -> gi.View:
    """The network, with noisy labels where the measure needs them."""
    return noisy(view) if name in OF_NOISE else view


def numbers(value) -> np.ndarray:
    return np.asarray(value, dtype=float)


def waves(p: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    cos, sin = controls.waves(p, k)
    return cos.numpy(), sin.numpy()


def frequencies(p: int) -> range:
    return range(1, p // 2 + 1)


def at_keys(p: int, keys, value: float, elsewhere: float = 0.0) -> list[float]:
    return [value if k in keys else elsewhere for k in frequencies(p)]


# Every measure


@pytest.mark.parametrize("name", NAMES)
def test_every_measure_is_documented(name):
    known = gi.MEASURES[name]
    assert known.name == name
    assert known.unit
    assert len(known.ref) > 10
    assert known.doc.split("\n\n")[0].endswith(".")
    assert next(iter(inspect.signature(known.function).parameters)) == "view"


@pytest.mark.parametrize("name", NAMES)
def test_every_measure_is_finite_repeatable_and_leaves_everything_as_it_was(grokked, grokked_again, name):
    weights = {key: value.clone() for key, value in grokked.model.state_dict().items()}
    generator, threads = torch.get_rng_state(), torch.get_num_threads()
    first = gi.measure(name, subject(name, grokked))
    again = gi.measure(name, subject(name, grokked_again))
    assert np.isfinite(numbers(first)).all()
    np.testing.assert_array_equal(numbers(first), numbers(again))
    assert all(torch.equal(value, weights[key]) for key, value in grokked.model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), generator)
    assert torch.get_num_threads() == threads
    assert torch.get_default_dtype() == torch.float32


@pytest.mark.parametrize("name", NAMES)
def test_every_array_has_its_name_unit_source_and_labels(grokked, name):
    value = gi.measure(name, subject(name, grokked))
    if isinstance(value, float):
        return
    assert value.name == name
    assert value.attrs["unit"] == gi.MEASURES[name].unit
    assert value.attrs["ref"] == gi.MEASURES[name].ref
    for dim in value.dims:
        assert dim in DIMS
        assert len(value[dim]) == len(set(value[dim].values.tolist())), f"{dim} has a label twice"


@pytest.mark.parametrize("name", NAMES)
def test_what_a_caller_does_to_an_array_changes_nothing_that_is_measured_later(name):
    shared = controls.clock(7, (1, 3))
    view = subject(name, gi.view(shared.model, shared.task, split=shared.split))
    value = gi.measure(name, view)
    if isinstance(value, float):
        return
    before = value.copy(deep=True)
    value.values[...] = 1
    value.attrs["unit"] = "furlong"
    assert gi.measure(name, view).identical(before)


def test_every_measure_has_a_line_in_every_table():
    for table, where in (
        (ON_THE_CLOCK, "ON_THE_CLOCK"),
        (ON_A_RANDOM_NETWORK, "ON_A_RANDOM_NETWORK"),
        (SLOWLY, "SLOWLY"),
    ):
        assert set(NAMES) <= set(table), f"{where} needs a line for {sorted(set(NAMES) - set(table))}"
        assert set(table) <= set(NAMES), (
            f"{where} has a line for {sorted(set(table) - set(NAMES))}, which is no measure"
        )


# Positive control: the clock, p = 17, with frequencies 2, 5 and 8 = (p − 1) / 2
#
# logits = S Σ_k cos w_k(a + b − c), an embedding that is three circles, and one neuron for each phase pair of
# each frequency.

P, KEYS, S = 17, (2, 5, 8), 10.0
K, D_MLP = len(KEYS), len(KEYS) * P * P
CLOCK_LOSS = math.log1p(
    sum(math.exp(S * sum(math.cos(2 * math.pi * k * d / P) - 1 for k in KEYS)) for d in range(1, P))
)
AMPLITUDE = controls.amplitude(P, 2)  # the same for every frequency, as P is prime
ON_CIRCLES = [0.0] + [
    1.0 if (i + 1) // 2 in KEYS else 0.0 for i in range(1, P)
]  # cos k and sin k of every key


def rectified_sum_explained() -> float:
    """R² of relu(cos w a + cos w b) on the nine products of {1, cos, sin}, by least squares."""
    return float(nine_term_fit(P, controls.rectified_sum(P, 1).reshape(-1, 1).numpy(), 1)[0])


ON_THE_CLOCK = {
    "loss": [CLOCK_LOSS] * 3,
    "accuracy": [1, 1, 1],
    "logit_cosine": at_keys(P, KEYS, 1 / math.sqrt(K)),
    "logit_fve.centred": 1.0,
    "logit_fve.raw": 1.0,
    "fourier_norms.W_E": [math.sqrt(P / 2) * on for on in ON_CIRCLES],
    "fourier_norms.W_L": [S / AMPLITUDE * math.sqrt(P / 2) * math.sqrt(P * P / 2) * on for on in ON_CIRCLES],
    # n values of which m are equal and the rest 0 have a Gini coefficient of 1 − m / n.
    "gini.W_E": 1 - 2 * K / (P - 1),
    "gini.W_L": 1 - 2 * K / (P - 1),
    "pca_explained_variance.W_E": [1 / (2 * K)] * (2 * K) + [0.0] * (P - 2 * K),
    "circle.angle": at_keys(P, KEYS, 1.0, ANY),
    "circle.radius_spread": at_keys(P, KEYS, 0.0, ANY),
    "pca_circle.angle": [ANY]
    * (P // 2),  # which of three equal circles comes first is open: see the test with one circle
    "neuron.frequency": [k for k in KEYS for _ in range(P * P)],
    "neuron.explained_variance": lambda: [rectified_sum_explained()] * D_MLP,
    "neuron.clusters": at_keys(P, KEYS, P * P),
    "neuron.single_frequency_share": 1.0,
    "key_frequencies.w_e_norm": at_keys(P, KEYS, 1),
    "key_frequencies.neurons": at_keys(P, KEYS, 1),
    "key_frequencies.logits": at_keys(P, KEYS, 1),
    "key_share.W_E": 1.0,
    "sum_of_squares": lambda: list(squares_of_the_clock().values()),
    "attention.mean": [[[1, 0, 0], [0, 1, 0]]],
    "attention.variance": [[[0, 0, 0], [0, 0, 0]]],
}


def squares_of_the_clock() -> dict[str, float]:
    """By hand, from how `controls.clock` fills the weights."""
    width = 2 * K
    sums = {
        "embed.W_E": P * K,  # each row is K points on unit circles
        "pos_embed.W_pos": 3,
        "blocks.0.attn.W_Q": 2 * 100**2 * width,
        "blocks.0.attn.W_K": 2,
        "blocks.0.attn.W_V": 2 * width,
        "blocks.0.attn.W_O": 2 * width,
        "blocks.0.mlp.W_in": 2 * D_MLP,
        "blocks.0.mlp.W_out": D_MLP / AMPLITUDE**2,
        "unembed.W_U": S**2 * K * P,
    }
    parameters = dict(controls.clock(P, KEYS, S).model.named_parameters())
    assert set(sums) <= set(parameters)
    return {name: sums.get(name, 0.0) for name in sorted(parameters)} | {"total": sum(sums.values())}


@pytest.mark.parametrize("name", NAMES)
def test_every_measure_says_of_the_clock_what_was_built(name):
    expected = ON_THE_CLOCK[name]
    expected = np.asarray(expected() if callable(expected) else expected, dtype=float)
    found = numbers(gi.measure(name, subject(name, controls.clock(P, KEYS, S))))
    assert found.shape == expected.shape
    settled = ~np.isnan(expected)
    np.testing.assert_allclose(found[settled], expected[settled], rtol=1e-8, atol=1e-12)


def test_the_labels_say_which_value_is_whose():
    view = controls.clock(P, KEYS, S)
    assert float(gi.measure("logit_cosine", view).sel(freq=5)) == pytest.approx(1 / math.sqrt(3))
    assert float(gi.measure("fourier_norms.W_E", view).sel(component="sin 8")) == pytest.approx(
        math.sqrt(P / 2)
    )
    assert float(gi.measure("fourier_norms.W_E", view).sel(component="const")) == pytest.approx(0, abs=1e-12)
    assert float(gi.measure("neuron.clusters", view).sel(freq=8)) == P * P
    assert float(gi.measure("sum_of_squares", view).sel(parameter="blocks.0.attn.W_K")) == 2
    assert float(gi.measure("attention.mean", view).sel(layer=0, head=1, pos="1: b")) == 1


@pytest.mark.parametrize("k", frequencies(13))
def test_one_circle_is_the_plane_of_the_first_two_principal_components(k):
    angle = gi.measure("pca_circle.angle", controls.clock(13, (k,)))
    assert float(angle.sel(freq=k)) == pytest.approx(1)
    # e^{i(k ± j) 2πa/13} sums to 0 round the circle unless j = ± k.
    assert angle.drop_sel(freq=k).max() < 1e-6


@pytest.mark.parametrize("keys", [(2,), (5,), (8,), (2, 5), (5, 8)])
def test_keys_that_are_given_are_the_ones_kept_and_the_ones_taken_out(keys):
    view = controls.clock(P, KEYS, S)
    others = [k for k in KEYS if k not in keys]

    def loss_with(only):
        return math.log1p(
            sum(math.exp(S * sum(math.cos(2 * math.pi * k * d / P) - 1 for k in only)) for d in range(1, P))
        )

    np.testing.assert_allclose(
        numbers(gi.measure("restricted_loss.logit_dirs", view, keys=keys)), loss_with(keys), rtol=1e-9
    )
    np.testing.assert_allclose(
        numbers(gi.measure("excluded_loss.logit_dirs", view, keys=keys)), loss_with(others), rtol=1e-9
    )
    assert gi.measure("key_share.W_E", view, keys=keys) == pytest.approx(len(keys) / K)


def test_taking_out_a_frequency_that_is_not_there_changes_nothing():
    view = controls.clock(P, KEYS, S)
    np.testing.assert_allclose(
        numbers(gi.measure("excluded_loss.logit_dirs", view, keys=[3])), CLOCK_LOSS, rtol=1e-9
    )
    np.testing.assert_allclose(
        numbers(gi.measure("restricted_loss.logit_dirs", view, keys=[3])), math.log(P), rtol=1e-9
    )


@pytest.mark.parametrize("name", ["restricted_loss.logit_dirs", "excluded_loss.logit_dirs", "key_share.W_E"])
def test_the_order_of_the_keys_and_a_key_given_twice_change_nothing(grokked, name):
    once = numbers(gi.measure(name, grokked, keys=[3, 9]))
    np.testing.assert_allclose(numbers(gi.measure(name, grokked, keys=(9, 3, 9))), once, rtol=1e-9)


def test_keys_default_to_the_consensus(grokked):
    consensus = gi.key_frequencies(grokked).consensus
    for name in TAKES_KEYS:
        np.testing.assert_array_equal(
            numbers(gi.measure(name, grokked)), numbers(gi.measure(name, grokked, keys=consensus))
        )


def test_a_constant_added_to_all_logits_lowers_the_raw_share_alone():
    plain = controls.clock(P, KEYS, S)
    model = copy.deepcopy(plain.model)
    with torch.no_grad():
        model.unembed.b_U += 5.0
    view = gi.view(model, plain.task)
    # Per logit, the cosines have variance S² / 2 each, the constant 25.
    assert gi.measure("logit_fve.raw", view) == pytest.approx(K * S**2 / 2 / (K * S**2 / 2 + 25))
    assert gi.measure("logit_fve.centred", view) == pytest.approx(1)
    assert float(gi.measure("loss", view).sel(part="all")) == pytest.approx(CLOCK_LOSS, rel=1e-9, abs=0)


def test_the_nyquist_frequency_counts_like_any_other():
    p = 12
    view = controls.clock(p, (1, 6), S)
    # cos πx has square 1 everywhere, the other cosines 1/2 on average.
    assert float(gi.measure("logit_cosine", view).sel(freq=6)) == pytest.approx(math.sqrt(1 / 1.5))
    assert float(gi.measure("logit_cosine", view).sel(freq=1)) == pytest.approx(math.sqrt(0.5 / 1.5))
    assert gi.measure("logit_fve.centred", view) == pytest.approx(1)
    norms = gi.measure("fourier_norms.W_E", view)
    assert norms.component.values.tolist()[-1] == "cos 6"
    assert float(norms.sel(component="cos 6")) == pytest.approx(math.sqrt(p))
    assert float(gi.measure("neuron.clusters", view).sel(freq=6)) == p * p
    assert float(
        gi.measure("neuron.explained_variance", view).sel(neuron=slice(p * p, None)).min()
    ) == pytest.approx(1)
    both = math.log1p(
        sum(math.exp(S * (math.cos(2 * math.pi * d / p) + math.cos(math.pi * d) - 2)) for d in range(1, p))
    )
    np.testing.assert_allclose(numbers(gi.measure("restricted_loss.logit_dirs", view)), both, rtol=1e-9)
    sign = math.log1p(sum(math.exp(S * (math.cos(math.pi * d) - 1)) for d in range(1, p)))
    np.testing.assert_allclose(
        numbers(gi.measure("restricted_loss.logit_dirs", view, keys=[6])), sign, rtol=1e-9
    )


def test_all_frequencies_as_keys_keep_the_whole_loss_where_logits_depend_on_the_answer_alone():
    for view in (
        controls.clock(P, KEYS, S),
        controls.clock(12, (1, 6), S),
        controls.lookup(13),
        controls.lookup(14),
    ):
        restricted = gi.measure("restricted_loss.logit_dirs", view, keys=list(frequencies(view.task.p)))
        np.testing.assert_allclose(numbers(restricted), numbers(gi.measure("loss", view)), rtol=1e-9)


def test_all_frequencies_as_keys_keep_the_mean_logits_of_every_answer():
    # Sums of two squares mod 8 take five values only, so the seven directions are not independent.
    view = controls.random_network(8, name="x2_plus_y2")
    targets = view.task.targets
    assert sorted(set(targets.tolist())) == [0, 1, 2, 4, 5]
    mean = torch.zeros_like(view.logits)
    for c in (0, 1, 2, 4, 5):
        mean[targets == c] = view.logits[targets == c].mean(0)
    restricted = gi.measure("restricted_loss.logit_dirs", view, keys=[1, 2, 3, 4])
    assert float(restricted.sel(part="all")) == pytest.approx(float(view.loss(mean).mean()))
    excluded = gi.measure("excluded_loss.logit_dirs", view, keys=[1, 2, 3, 4])
    assert float(excluded.sel(part="all")) == pytest.approx(float(view.loss(view.logits - mean).mean()))


# Positive control: the pizza


def test_the_pizza_is_four_fifths_of_a_clock():
    view = controls.pizza(53, (1, 7, 26))
    # |cos θ/2| cos φ against cos φ: (mean of |cos|)² / (mean of cos²) = (2/π)² / (1/2)
    assert gi.measure("logit_fve.centred", view) == pytest.approx(8 / math.pi**2, rel=1e-3)
    np.testing.assert_allclose(
        gi.measure("logit_cosine", view).sel(freq=[1, 7, 26]), math.sqrt(8 / math.pi**2 / 3), rtol=1e-3
    )
    assert gi.measure("neuron.single_frequency_share", view) == 1
    assert gi.measure("neuron.clusters", view).sel(freq=[1, 7, 26]).values.tolist() == [53, 53, 53]
    np.testing.assert_array_equal(gi.measure("attention.mean", view), np.ones((1, 1, 3)))
    # Its directions are the clock's of 2/π of the size, alike for all examples: less loss than the network
    # itself.
    assert (gi.measure("restricted_loss.logit_dirs", view) < gi.measure("loss", view)).all()
    assert (gi.measure("excluded_loss.logit_dirs", view) >= math.log(53)).all()


@pytest.mark.trains
def test_a_network_that_has_grokked_scores_as_such(grokked):
    p = 53
    consensus = gi.key_frequencies(grokked).consensus
    loss = gi.measure("loss", grokked)
    assert (gi.measure("accuracy", grokked) == 1).all()
    assert gi.measure("logit_fve.centred", grokked) > 0.8
    assert gi.measure("neuron.single_frequency_share", grokked) > 0.6
    assert gi.measure("gini.W_E", grokked) > 0.3
    assert gi.measure("gini.W_L", grokked) > 0.3
    assert gi.measure("key_share.W_E", grokked) > 0.8
    assert (gi.measure("circle.angle", grokked).sel(freq=consensus) > 0.9).all()
    assert (gi.measure("circle.radius_spread", grokked).sel(freq=consensus) < 0.3).all()
    assert (gi.measure("restricted_loss.logit_dirs", grokked) < 2 * float(loss.sel(part="all"))).all()
    assert (gi.measure("excluded_loss.logit_dirs", grokked) > math.log(p)).all()


# Negative controls: random, memorising, and a look-up table


def about(value: float, within: float):
    return lambda x: (np.abs(x - value) <= within).all()


def below(limit: float):
    return lambda x: (np.abs(x) < limit).all()


ON_A_RANDOM_NETWORK = {
    "loss": about(math.log(53), 0.3),
    "accuracy": about(1 / 53, 0.02),
    "logit_cosine": below(0.01),
    "logit_fve.centred": below(0.001),
    "logit_fve.raw": below(0.001),
    # 64 entries of variance 1/64 each; W_L: 256 neurons of 64 terms of variance 1/64 · 1/53.
    "fourier_norms.W_E": about(1, 0.3),
    "fourier_norms.W_L": about(math.sqrt(256 / 53), 0.7),
    "gini.W_E": below(0.1),
    "gini.W_L": below(0.1),
    "pca_explained_variance.W_E": below(0.1),
    "circle.angle": below(0.85),  # not 1/√p: see test_chance_for_a_circle_...
    "circle.radius_spread": lambda x: (x > 0.3).all(),
    "pca_circle.angle": below(0.5),
    "neuron.frequency": lambda x: np.bincount(x.astype(int)).max() < 0.2 * len(x),
    "neuron.explained_variance": below(0.5),
    "neuron.clusters": below(1),
    "neuron.single_frequency_share": below(0.01),
    "key_frequencies.w_e_norm": lambda x: x.all() or not x.any(),  # no frequency is told from another
    "key_frequencies.neurons": below(1),
    "key_frequencies.logits": below(1),
    "key_share.W_E": lambda x: x == 0,
    "sum_of_squares": lambda x: (
        abs(x[-1] / (2 * 64 + 4 * 64 + 2 * 256 + 54 / 64 * 64 - 64 + 3 + 0) - 1) < 0.1
    ),
    "attention.mean": about(1 / 3, 0.05),
    "attention.variance": below(0.001),
}


@pytest.mark.parametrize("name", NAMES)
def test_every_measure_finds_nothing_in_a_random_network(name):
    view, verdict = subject(name, controls.random_network(53)), ON_A_RANDOM_NETWORK[name]
    if verdict is NotApplicable:
        with pytest.raises(
            NotApplicable, match=r"no key frequencies|the logits are made of no representation"
        ):
            gi.measure(name, view)
    else:
        assert verdict(numbers(gi.measure(name, view)))


@pytest.mark.parametrize(("p", "d_model"), [(53, 64), (113, 32)])
def test_chance_for_a_circle_in_its_own_plane_grows_with_the_width(p, d_model):
    """The plane is made of the very components that are looked for, so a random embedding scores far above
    1/√p.

    In that plane every element has the wave of frequency k with amplitude √(2 d_model / p), on noise of
    variance 1 per axis.
    """
    noise = np.random.default_rng(0).standard_normal((200_000, 2)) @ [1, 1j]
    chance = abs(np.mean(np.exp(1j * np.angle(math.sqrt(2 * d_model / p) + noise))))
    angle = gi.measure("circle.angle", controls.random_network(p, d_model=d_model, d_mlp=0))
    assert float(angle.mean()) == pytest.approx(chance, abs=0.02)
    assert float(angle.mean()) > 4 / math.sqrt(p)
    # The plane of the first principal components is chosen without looking at k: there, chance is 1/√p.
    assert float(
        gi.measure("pca_circle.angle", controls.random_network(p, d_model=d_model, d_mlp=0)).mean()
    ) < 1.5 / math.sqrt(p)


def test_a_network_that_has_memorised_scores_as_such():
    view = memoriser()
    loss, accuracy = gi.measure("loss", view), gi.measure("accuracy", view)
    assert float(accuracy.sel(part="train")) == 1
    assert float(accuracy.sel(part="test")) < 3 / 23
    assert float(loss.sel(part="train")) < 0.01
    assert float(loss.sel(part="test")) > math.log(23)
    assert gi.measure("neuron.single_frequency_share", view) < 0.01
    assert gi.measure("logit_fve.centred", view) < 0.1
    assert gi.measure("gini.W_E", view) < 0.1
    assert gi.measure("gini.W_L", view) < 0.1
    assert gi.measure("pca_circle.angle", view).max() < 0.6


def test_a_look_up_table_is_right_without_any_structure():
    p, scale = 23, 20.0
    view = controls.lookup(p, scale)
    assert (gi.measure("accuracy", view) == 1).all()
    np.testing.assert_allclose(
        numbers(gi.measure("loss", view)), math.log1p((p - 1) * math.exp(-scale)), rtol=1e-9
    )
    assert gi.measure("gini.W_E", view) == pytest.approx(0, abs=1e-12)
    assert gi.measure("gini.W_L", view) == pytest.approx(0, abs=1e-12)
    np.testing.assert_allclose(gi.measure("fourier_norms.W_E", view), 1)
    # A single pair's indicator has the same power 1/p² in all p² components; a block of k has 8 of them, the
    # constant is left out.
    np.testing.assert_allclose(gi.measure("neuron.explained_variance", view), 8 / (p * p - 1))
    # [c = c*] is, up to its mean, all cosines alike: they explain it all, and none stands out.
    np.testing.assert_allclose(gi.measure("logit_cosine", view), math.sqrt(2 / (p - 1)))
    assert gi.measure("logit_fve.centred", view) == pytest.approx(1)
    assert gi.measure("logit_fve.raw", view) == pytest.approx(1 - 1 / p)


# The second route


def nine_term_fit(p: int, columns: np.ndarray, k: int) -> np.ndarray:
    """R² of every column, a function of (a, b), on the products of {1, cos w_k, sin w_k} of a and of b, by
    least squares."""
    cos, sin = waves(p, k)
    one = np.ones(p)
    terms = np.stack([np.outer(f, g).ravel() for f in (one, cos, sin) for g in (one, cos, sin)], axis=1)
    fit = terms @ np.linalg.lstsq(terms, columns, rcond=None)[0]
    centred = columns - columns.mean(0)
    size = (centred**2).sum(0)
    return np.divide(
        ((fit - columns.mean(0)) ** 2).sum(0), size, out=np.zeros(columns.shape[1]), where=size > 1e-20
    )


@functools.cache
def explained_by(view) -> np.ndarray:
    return np.stack([nine_term_fit(view.task.p, view.neurons.numpy(), k) for k in frequencies(view.task.p)])


def component_norms(matrix: np.ndarray) -> np.ndarray:
    """By numpy's FFT: the real part is the cosine's coefficient, the imaginary part the sine's."""
    p = len(matrix)
    spectrum = np.fft.fft(matrix, axis=0)
    norms = [np.linalg.norm(spectrum[0].real) / math.sqrt(p)]
    for k in frequencies(p):
        if 2 * k == p:
            norms.append(np.linalg.norm(spectrum[k].real) / math.sqrt(p))
        else:
            norms += [
                np.linalg.norm(part) * math.sqrt(2 / p) for part in (spectrum[k].real, spectrum[k].imag)
            ]
    return np.array(norms)


def mean_difference(x: np.ndarray) -> float:
    """The Gini coefficient as it was first defined: half the mean absolute difference of all pairs, over the
    mean."""
    return float(np.mean([abs(a - b) for a, b in itertools.product(x, x)]) / (2 * x.mean()))


def readout(view) -> np.ndarray:
    return (view.weights["blocks.0.mlp.W_out"] @ view.weights["unembed.W_U"]).numpy()[:, : view.task.p].T


@functools.cache
def cosine_with_cube(view) -> np.ndarray:
    """With every cube T_k[n, c] = cos w_k(c* − c) written out."""
    p, logits = view.task.p, view.logits.numpy()
    logits = logits - logits.mean(1, keepdims=True)
    away = (view.task.targets.numpy()[:, None] - np.arange(p)) % p
    cubes = (np.cos(2 * np.pi * k * away / p) for k in frequencies(p))
    return np.array([(logits * cube).sum() / np.linalg.norm(cube) / np.linalg.norm(logits) for cube in cubes])


def raw_share(view) -> float:
    logits = view.logits.numpy()
    centred = logits - logits.mean(1, keepdims=True)
    return float(
        (cosine_with_cube(view) ** 2).sum() * np.linalg.norm(centred) ** 2 / np.linalg.norm(logits) ** 2
    )


def eigenvectors(view) -> tuple[np.ndarray, np.ndarray]:
    x = view.W_E.numpy()
    values, vectors = np.linalg.eigh(np.cov(x.T, bias=True))
    return values[::-1].clip(0), vectors[:, ::-1]


def principal_shares(view) -> np.ndarray:
    values, _ = eigenvectors(view)
    return values[: min(view.W_E.shape)] / values.sum()


def turns(points: np.ndarray, k: int) -> tuple[float, float]:
    """How well the angle of the points follows ± 2πka/p, and std / mean of the radius."""
    p = len(points)
    points = points - points.mean(0)
    angles = [math.atan2(y, x) for x, y in points]
    way_round = [math.tau * k * a / p for a in range(p)]
    sums = [
        abs(
            sum(
                complex(math.cos(t + w * u), math.sin(t + w * u))
                for t, u in zip(angles, way_round, strict=True)
            )
        )
        for w in (1, -1)
    ]
    radii = [math.hypot(x, y) for x, y in points]
    return max(sums) / p, float(np.std(radii) / np.mean(radii))


def circles(view) -> list[tuple[float, float]]:
    """In the plane that Gram and Schmidt make of the cosine's and the sine's coefficients."""
    x, p = view.W_E.numpy(), view.task.p
    found = []
    for k in frequencies(p):
        cos, sin = waves(p, k)
        axes, _ = np.linalg.qr(np.stack([cos @ x, sin @ x], axis=1))
        if 2 * k == p:
            axes[:, 1] = 0  # no sine, no second axis
        found.append(turns(x @ axes, k))
    return found


def principal_circle(view) -> list[float]:
    points = view.W_E.numpy() @ eigenvectors(view)[1][:, :2]
    return [turns(points, k)[0] for k in frequencies(view.task.p)]


def by_part(view, values: np.ndarray) -> list[float]:
    return [
        float(values[rows].mean())
        for rows in (view.split.train.numpy(), view.split.test.numpy(), slice(None))
    ]


def losses(view, logits: np.ndarray) -> list[float]:
    """log Σ_c e^{l_c − l_c*}, the right answer's own term being the 1."""
    right = view.task.targets.numpy()
    above = logits - logits[np.arange(len(right)), right][:, None]
    above[np.arange(len(right)), right] = -np.inf
    top = np.maximum(above.max(1), 0)
    return by_part(view, top + np.log1p(np.exp(-top) - 1 + np.exp(above - top[:, None]).sum(1)))


def attention_by_hand(view) -> np.ndarray:
    """The softmax of the scores of the last position, from the weights."""
    w = {name.rpartition(".")[2]: weight.numpy() for name, weight in view.weights.items() if ".attn." in name}
    stream = (
        view.weights["embed.W_E"].numpy()[view.task.inputs.numpy()] + view.weights["pos_embed.W_pos"].numpy()
    )
    query = np.einsum("nd,hde->nhe", stream[:, -1], w["W_Q"]) + w["b_Q"]
    key = np.einsum("npd,hde->nphe", stream, w["W_K"]) + w["b_K"]
    scores = np.einsum("nhe,nphe->hnp", query, key) / math.sqrt(query.shape[-1])
    odds = np.exp(scores - scores.max(-1, keepdims=True))
    return odds / odds.sum(-1, keepdims=True)


def loud(norms: np.ndarray) -> list[bool]:
    """Which frequencies have a component above a quarter of the largest."""
    return [(norms[2 * k - 1 : 2 * k + 1] > norms[1:].max() / 4).any() for k in range(1, len(norms) // 2 + 1)]


SLOWLY = {
    "loss": lambda view: losses(view, view.logits.numpy()),
    "accuracy": lambda view: by_part(
        view, np.array([row.argmax() for row in view.logits.numpy()]) == view.task.targets.numpy()
    ),
    "logit_cosine": cosine_with_cube,
    "logit_fve.centred": lambda view: (cosine_with_cube(view) ** 2).sum(),
    "logit_fve.raw": raw_share,
    "fourier_norms.W_E": lambda view: component_norms(view.W_E.numpy()),
    "fourier_norms.W_L": lambda view: component_norms(readout(view)),
    "gini.W_E": lambda view: mean_difference(component_norms(view.W_E.numpy())[1:]),
    "gini.W_L": lambda view: mean_difference(component_norms(readout(view))[1:]),
    "pca_explained_variance.W_E": principal_shares,
    "circle.angle": lambda view: [angle for angle, _ in circles(view)],
    "circle.radius_spread": lambda view: [spread for _, spread in circles(view)],
    "pca_circle.angle": principal_circle,
    "neuron.frequency": lambda view: explained_by(view).argmax(0) + 1,
    "neuron.explained_variance": lambda view: explained_by(view).max(0),
    "neuron.clusters": lambda view: (explained_by(view) > 0.85).sum(1),
    "neuron.single_frequency_share": lambda view: (explained_by(view).max(0) > 0.85).mean(),
    "key_frequencies.w_e_norm": lambda view: loud(component_norms(view.W_E.numpy())),
    "key_frequencies.neurons": lambda view: (explained_by(view) > 0.85).mean(1) > 0.01,
    "key_frequencies.logits": lambda view: cosine_with_cube(view) > 0.05,
    "key_share.W_E": lambda view, keys: (
        sum((component_norms(view.W_E.numpy())[2 * k - 1 : 2 * k + 1] ** 2).sum() for k in keys)
        / (component_norms(view.W_E.numpy())[1:] ** 2).sum()
    ),
    "sum_of_squares": lambda view: [
        *(
            each := [
                float((w.detach().double().numpy() ** 2).sum())
                for _, w in sorted(view.model.named_parameters())
            ]
        ),
        sum(each),
    ],
    "attention.mean": lambda view: attention_by_hand(view).mean(1)[None],
    "attention.variance": lambda view: attention_by_hand(view).var(1)[None],
}


for module in EXPECTED:
    ON_THE_CLOCK |= module.ON_THE_CLOCK
    ON_A_RANDOM_NETWORK |= module.ON_A_RANDOM_NETWORK
    SLOWLY |= module.SLOWLY


SECONDS = ("pruning.random", "ablation.single_frequency_neurons", "ablation.random_neurons")
"""Measures that take seconds by their second route on a network that has grokked."""


@pytest.mark.parametrize(
    ("network", "name"),
    [
        pytest.param(network, name, marks=[pytest.mark.slow] * (network == "random" or is_slow))
        for network in ("grokked", "random", "memorising", "even p")
        for name in NAMES
        for is_slow in [network == "grokked" and name in SECONDS]
    ],
)
def test_every_measure_agrees_with_a_second_route(request, network, name):
    makers = {
        "grokked": lambda: request.getfixturevalue("grokked"),
        "random": lambda: controls.random_network(29),
        "memorising": memoriser,
        "even p": lambda: controls.random_network(26),
    }
    view = subject(name, makers[network]())
    keys = [3, view.task.p // 2]
    if network == "memorising" and name in OF_GROUPS:
        pytest.skip("a random table is the product of no group")
    if network == "memorising" and name == "accuracy.mirror":
        pytest.skip("a random table is not commutative")
    if name in TAKES_KEYS:
        found, expected = gi.measure(name, view, keys=keys), SLOWLY[name](view, keys)
    elif name in TAKES_IRREPS:
        found, expected = gi.measure(name, view, irreps=[str(k) for k in keys]), SLOWLY[name](view, keys)
    else:
        found, expected = gi.measure(name, view), SLOWLY[name](view)
    expected = np.asarray(expected, dtype=float)
    assert numbers(found).shape == expected.shape
    if name == "neuron.frequency":
        # A neuron that one pair alone turns on has all frequencies alike: any that explains the most will do.
        shares = explained_by(view)
        found, expected = shares[numbers(found).astype(int) - 1, np.arange(shares.shape[1])], shares.max(0)
    np.testing.assert_allclose(numbers(found), expected, rtol=1e-7, atol=1e-9)


# Where a measure does not apply

EVERYWHERE = {
    "loss",
    "accuracy",
    "sum_of_squares",
    "attention.mean",
    "attention.variance",
    "pca_explained_variance.W_E",
}
"""The measures that need no frequencies on Z_p."""

OF_NEURONS = {name for name in NAMES if name.startswith("neuron.") or name == "key_frequencies.neurons"}
OF_THE_READOUT = {"fourier_norms.W_L", "gini.W_L"}
OF_THE_GRID = set(OF_NEURONS)
"""The measures that need every pair."""
OF_GROUPS: set[str] = set()
"""The measures that need a group product."""

for module in EXPECTED:
    EVERYWHERE |= getattr(module, "EVERYWHERE", set())
    OF_NEURONS |= getattr(module, "OF_NEURONS", set())
    OF_THE_READOUT |= getattr(module, "OF_THE_READOUT", set())
    OF_THE_GRID |= getattr(module, "OF_THE_GRID", set()) | getattr(module, "OF_NEURONS", set())
    OF_GROUPS |= getattr(module, "OF_GROUPS", set())
OF_NEURONS -= EVERYWHERE  # what needs no frequencies needs no grid
OF_THE_GRID -= EVERYWHERE


def measured_or_reason(name: str, view) -> str | None:
    """None where the measure has a value, else its reason for having none."""
    try:
        options = {"keys": [1]} if name in TAKES_KEYS else {}
        if name in TAKES_IRREPS:
            options["irreps"] = gi.measure("irrep_cosine", view).irrep.values[:1].tolist()
        assert np.isfinite(numbers(gi.measure(name, subject(name, view), **options))).all()
    except NotApplicable as error:
        return str(error)
    return None


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("n", [3, 4])
def test_permutations_have_no_frequencies(name, n):
    reason = measured_or_reason(name, controls.random_network(n, name="group_composition"))
    if name in EVERYWHERE:
        assert reason is None
    elif name == "accuracy.mirror":
        assert reason == NOT_COMMUTATIVE
    else:
        assert reason == f"the elements of a b in S{n} stand on no cyclic group, so frequencies mean nothing"


NOT_COMMUTATIVE = "the operation is not commutative: no example is the mirror image of another"


def no_mirror(view) -> str | None:
    """Why unseen examples are not of both kinds, those whose mirror image was trained on and others; None
    where they are."""
    pairs = [tuple(pair) for pair in view.task.pairs.tolist()]
    answers = dict(zip(pairs, view.task.targets.tolist(), strict=True))
    if any(answers[a, b] != answers[b, a] for a, b in pairs):
        return NOT_COMMUTATIVE
    train = {pairs[row] for row in view.split.train.tolist()}
    kinds = {(b, a) in train for a, b in (pairs[row] for row in view.split.test.tolist())}
    return (
        None
        if len(kinds) == 2
        else "the mirror images of the unseen examples were all trained on, or none of them was"
    )


@pytest.mark.parametrize("name", NAMES)
def test_neurons_need_every_pair(name):
    reason = measured_or_reason(name, controls.random_network(9, name="divide_if_odd_else_subtract"))
    if name in OF_THE_GRID:
        assert reason == "divide_if_odd_else_subtract leaves out pairs, so its examples fill no 9 × 9 grid"
    elif name in OF_GROUPS:
        assert reason.endswith("is the product of no group")
    elif name == "accuracy.mirror":
        assert reason == NOT_COMMUTATIVE
    else:
        assert reason is None


@pytest.mark.parametrize("name", NAMES)
def test_a_network_of_attention_alone_has_no_neurons(name):
    reason = measured_or_reason(name, controls.random_network(11, d_mlp=0))
    assert reason == ("the network has no MLP" if name in OF_NEURONS | OF_THE_READOUT else None)


@pytest.mark.parametrize("task", ["modular_addition", "random_table", "x2_plus_y2"])
@pytest.mark.parametrize("p", [2, 3, 4, 6, 10])
def test_small_and_even_moduli_have_all_measures(p, task):
    for name in NAMES:
        reason = measured_or_reason(name, view := controls.random_network(p, name=task))
        if name in OF_GROUPS and task != "modular_addition":
            assert reason == f"{view.task.symbol} is the product of no group"
        elif name == "accuracy.mirror":
            assert reason == no_mirror(view)
        elif name.startswith("geometry.circle.") and p < 4:
            assert reason == f"{p} elements make no circle: it takes 4"
        else:
            assert reason is None, name


def test_a_network_of_two_layers_has_all_measures():
    view = controls.random_network(7, n_layers=2)
    for name in NAMES:
        assert measured_or_reason(name, view) is None, name
    assert gi.measure("attention.mean", view).shape == (2, 4, 3)


def test_a_network_of_zeros_has_all_measures():
    config = gi.TrainConfig.make({"task": {"name": "modular_addition", "p": 7}}).model
    task = make_task("modular_addition", p=7)
    other = controls.random_network(7)
    config = config.model_copy(update={"d_model": 64, "d_head": 16, "d_mlp": 256})
    zeros = {name: torch.zeros_like(w) for name, w in other.model.named_parameters()}
    view = gi.view(config.hooked(task.reads, zeros), task, split=other.split)
    for name in NAMES:
        reason = measured_or_reason(name, view)
        if name.startswith("geometry.circle."):
            assert reason == "all elements are embedded in one place"
        else:
            assert reason is None, name
    assert gi.key_frequencies(view).consensus == []
    assert float(gi.measure("loss", view).sel(part="all")) == pytest.approx(math.log(7))


# Requests that make no sense


@pytest.mark.parametrize(
    ("asked", "meant"),
    [
        ("gini.WE", "gini.W_E"),
        ("restricted_loss.logit_dir", "restricted_loss.logit_dirs"),
        ("neuron.cluster", "neuron.clusters"),
    ],
)
def test_an_unknown_measure_names_the_nearest(asked, meant):
    with pytest.raises(UsageError, match="unknown measure") as error:
        gi.measure(asked, controls.random_network(7))
    assert f"did you mean {meant!r}?" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_name_without_its_variant_names_them_all():
    with pytest.raises(UsageError) as error:
        gi.measure("gini", controls.random_network(7))
    assert str(error.value) == "unknown measure 'gini'; its variants are " + ", ".join(
        name for name in NAMES if name.startswith("gini.")
    )


def test_of_an_unknown_measure_that_is_near_nothing_it_is_said_what_lists_them():
    said = rf"^unknown measure 'xyzzy'; `grokinterp list measures` has the {len(gi.MEASURES)} that there are$"
    with pytest.raises(UsageError, match=said):
        gi.measure("xyzzy", controls.random_network(7))


def test_an_unknown_option_names_the_nearest_or_says_that_there_is_none():
    view = controls.random_network(7)
    with pytest.raises(
        UsageError, match=r"excluded_loss.logit_dirs takes no option 'key'; did you mean 'keys'\?"
    ):
        gi.measure("excluded_loss.logit_dirs", view, key=[1])
    with pytest.raises(UsageError, match="loss takes no option 'keys'; it takes none"):
        gi.measure("loss", view, keys=[1])


@pytest.mark.parametrize("name", TAKES_KEYS)
@pytest.mark.parametrize("keys", [[0], [4], [-1], [1, 99]], ids=str)
def test_keys_that_are_no_frequencies_are_refused(name, keys):
    with pytest.raises(UsageError, match=r"^keys: .*1 to 3$"):
        gi.measure(name, controls.random_network(7), keys=keys)


def test_two_measures_of_one_name_are_refused():
    with pytest.raises(ValueError, match="two measures are named 'loss'"):
        measure("loss", unit="1", ref="a second one of this name")(lambda view: 0.0)


# Aliasing: what a few frequencies cannot tell apart


def test_a_key_that_turns_twice_round_cannot_tell_answers_that_are_half_the_circle_apart():
    view = controls.clock(12, (2,), S)
    assert gi.measure("aliasing_gap.closest", view) == pytest.approx(0, abs=1e-9)
    lead = gi.measure("aliasing_gap.by_distance", view)
    np.testing.assert_allclose(lead, [S * (1 - math.cos(math.pi * d / 3)) for d in range(1, 7)], atol=1e-9)
    assert gi.measure("aliasing_gap.closest", controls.clock(12, (2, 1), S)) > 1


def test_the_gap_is_above_0_where_the_keys_alone_are_right_and_below_where_they_are_not(grokked):
    keys = gi.key_frequencies(grokked).consensus
    assert gi.measure("aliasing_gap.closest", grokked) > 1
    assert (gi.measure("restricted_accuracy.logit_dirs", grokked) == 1).all()
    assert gi.measure("aliasing_gap.closest", controls.random_network(53), keys=keys) < 0
