"""Neurons, the readout and the sparsity of weights, on networks that are built to have one property and not
another."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch

import grokinterp as gi
from grokinterp import controls
from grokinterp.errors import NotApplicable
from grokinterp.measures import circular
from grokinterp.measures.sparsity import effective_rank, participation_ratio
from grokinterp.measures.waves.polynomials import logits_with_neurons, polynomials
from grokinterp.measures.waves.sparsity import input_weights
from grokinterp.models import (
    MLPConfig,
    ModelConfig,
)
from grokinterp.tasks import make_task
from memorised import memoriser
from test_foreign import MAKERS, stored

P, KEYS = 17, (2, 5, 8)


def number(name: str, view: gi.View, **options: object) -> float:
    return gi.measure(name, view, **options)


def rewired(view: gi.View, **changes: torch.Tensor) -> gi.View:
    """The same network with other weights in places; `__` stands for the dots in a name."""
    model = copy.deepcopy(view.model)
    with torch.no_grad():
        for name, weight in changes.items():
            dict(model.named_parameters())[name.replace("__", ".")].copy_(weight)
    return gi.view(model, view.task, split=view.split)


def with_neurons(view: gi.View, neurons: torch.Tensor) -> gi.View:
    """The same network, of which a user's hook sets the neurons at the answer position."""
    model = copy.deepcopy(view.model)

    def put(tensor, hook):
        changed = tensor.clone()
        changed[:, -1] = neurons
        return changed

    model.add_hook("blocks.0.mlp.hook_post", put)
    return gi.view(model, view.task, split=view.split)


def gromov(p: int = 23, n_neurons: int = 600, seed: int = 0) -> gi.View:
    """The analytic solution of Gromov 2023: squared neurons of random frequencies and phases, all of the
    phases in agreement."""
    generator = torch.Generator().manual_seed(seed)
    task = make_task("modular_addition", p=p)
    config = MLPConfig(embedding="one_hot", act_fn="square", d_mlp=n_neurons)
    k = torch.randint(1, p // 2 + 1, (n_neurons,), generator=generator)
    of_a, of_b = 2 * math.pi * torch.rand(2, n_neurons, dtype=torch.float64, generator=generator)
    angle = 2 * math.pi * (k * torch.arange(p)[:, None] % p).double() / p
    size = (2 / n_neurons) ** (-1 / 3)
    shapes = config.shapes(task.reads)
    w_in = torch.zeros(shapes["blocks.0.mlp.W_in"], dtype=torch.float64)
    w_in[:p], w_in[w_in.shape[0] // 2 :][:p] = size * torch.cos(angle + of_a), size * torch.cos(angle + of_b)
    w_u = size * torch.cos(angle + of_a + of_b).T
    return gi.view(
        config.hooked(task.reads, {"blocks.0.mlp.W_in": w_in, "unembed.W_U": w_u}, torch.float64), task
    )


# Sums and differences


@pytest.mark.parametrize(("sign", "expected"), [(1, 1.0), (-1, 0.0)])
def test_neurons_that_are_waves_of_the_sum_are_told_from_waves_of_the_difference(sign, expected):
    base = controls.clock(P, KEYS)
    a, b = base.task.pairs.unbind(1)
    k = torch.tensor(KEYS).repeat_interleave(P * P)
    phase = torch.arange(len(k)) * 0.37
    neurons = torch.cos(2 * math.pi * (k * (a + sign * b)[:, None] % P).double() / P + phase)
    view = with_neurons(base, neurons)
    np.testing.assert_allclose(gi.measure("neuron.sum_fraction", view), expected, atol=1e-12)
    np.testing.assert_allclose(
        gi.measure("sum_fraction.neurons", view).sel(freq=list(KEYS)), expected, atol=1e-12
    )


@pytest.mark.trains
def test_the_logits_of_a_grokked_network_depend_on_the_sum_where_its_neurons_do_not(quick_run):
    view = quick_run.view(-1)
    keys = gi.key_frequencies(view).consensus
    assert (gi.measure("sum_fraction.logits", view).sel(freq=keys) > 0.98).all()
    assert (gi.measure("sum_fraction.neurons", view).sel(freq=keys) < 0.95).all()


def test_the_pizza_mixes_sum_and_difference_in_its_logits_no_less_than_the_clock():
    # |cos θ/2| cos φ has harmonics in the difference, but at the frequency of a key itself it has the
    # sum's wave alone.
    view = controls.pizza(53, (1, 7, 26))
    np.testing.assert_allclose(gi.measure("sum_fraction.logits", view).sel(freq=[1, 7, 26]), 1, atol=1e-9)


@pytest.mark.trains
def test_chance_for_the_sum_is_a_half():
    for view in (controls.random_network(53), memoriser()):
        assert float(gi.measure("neuron.sum_fraction", view).mean()) == pytest.approx(0.5, abs=0.07)


# Neurons that are off, or never


def test_a_neuron_is_dead_or_always_on_by_its_bias():
    base = controls.clock(P, KEYS)
    bias = torch.zeros(len(KEYS) * P * P)
    bias[:10], bias[10:30] = -3.0, 3.0  # cos + cos is never below −2 nor above 2
    view = rewired(base, blocks__0__mlp__b_in=bias)
    assert number("neuron.dead_share", view) == 10 / len(bias)
    assert number("neuron.always_on_share", view) == 20 / len(bias)
    share = gi.measure("neuron.on_share", view).values
    assert (share[:10] == 0).all()
    assert (share[10:30] == 1).all()
    np.testing.assert_allclose(share[30:], 145 / P**2)  # an odd number of pairs is split as evenly as can be


@pytest.mark.parametrize("name", ["neuron.dead_share", "neuron.always_on_share", "neuron.on_share"])
def test_only_rectified_neurons_are_off(name):
    with pytest.raises(NotApplicable, match="never off where the activation is gelu, only where it is relu"):
        gi.measure(name, controls.random_network(7, act_fn="gelu"))
    with pytest.raises(NotApplicable, match="the activation is square"):
        gi.measure(name, gromov(7, 20))


# Polynomials


def test_replacing_neurons_by_themselves_changes_nothing():
    for view in (controls.random_network(13, n_layers=2, normalization="LN"), gromov(11, 50)):
        torch.testing.assert_close(
            logits_with_neurons(view, view.neurons), view.activations([])["logits"], rtol=1e-12, atol=1e-12
        )


def test_neurons_that_are_replaced_go_through_everything_that_follows():
    view = controls.random_network(
        65, n_layers=2, normalization="LN", d_model=16, d_mlp=16
    )  # more examples than go through at once
    other = view.neurons.flip(0)
    found = logits_with_neurons(view, other)
    stream = view.activations(["blocks.1.hook_resid_mid"])["blocks.1.hook_resid_mid"]
    w = view.weights
    stream = stream + other @ w["blocks.1.mlp.W_out"] + w["blocks.1.mlp.b_out"]
    normal = torch.nn.functional.layer_norm(stream, stream.shape[1:], w["ln_final.w"], w["ln_final.b"], 1e-5)
    torch.testing.assert_close(found, normal @ w["unembed.W_U"] + w["unembed.b_U"], rtol=1e-9, atol=1e-9)


def test_squared_neurons_lose_their_overtone_as_polynomials():
    # (cos x + cos y)² = 1 + cos 2x / 2 + cos 2y / 2 + 2 cos x cos y: the overtones are no part of the 3 x 3
    # block.
    view = gromov()
    a, b = view.task.pairs.unbind(1)
    w = input_weights(view)
    one, other = w[0][a], w[1][b]
    kept = one.square().mean(0) + other.square().mean(0) + 2 * one * other
    torch.testing.assert_close(polynomials(view, torch.ones(kept.shape[1], dtype=torch.bool)), kept)
    few = torch.arange(kept.shape[1]) < 5
    torch.testing.assert_close(polynomials(view, few), torch.where(few, kept, view.neurons))
    found = gi.measure("polynomial_neurons_loss.all", view)
    assert float(found.sel(part="all")) == pytest.approx(
        float(view.loss(logits_with_neurons(view, kept)).mean()), rel=1e-9
    )


# Phases


@pytest.mark.parametrize("turn", [0.0, 0.3, math.pi / 2, 2.5, math.pi])
def test_a_readout_that_is_turned_is_off_by_that_angle(turn):
    base = controls.clock(P, KEYS)
    w_out = base.weights["blocks.0.mlp.W_out"].clone()
    for cos in range(0, 2 * len(KEYS), 2):
        pair = torch.complex(w_out[:, cos], w_out[:, cos + 1]) * complex(math.cos(turn), math.sin(turn))
        w_out[:, cos], w_out[:, cos + 1] = pair.real, pair.imag
    view = rewired(base, blocks__0__mlp__W_out=w_out)
    np.testing.assert_allclose(gi.measure("neuron.phase_error", view), turn, atol=1e-7)
    assert number("phase_error", view) == pytest.approx(abs(math.sin(turn)), abs=1e-9)
    assert number("phase_alignment", view) == pytest.approx(math.cos(turn), abs=1e-9)


def test_phases_agree_in_gromovs_solution_and_in_the_pizza():
    pizza = controls.pizza(53, (1, 7, 26))
    np.testing.assert_allclose(gi.measure("neuron.phase_error", pizza), 0, atol=1e-7)
    assert number("phase_alignment", pizza) == pytest.approx(1)


def test_shuffled_readouts_leave_chance():
    base = controls.clock(53, (7,))
    order = torch.randperm(53 * 53, generator=torch.Generator().manual_seed(0))
    view = rewired(base, blocks__0__mlp__W_out=base.weights["blocks.0.mlp.W_out"][order])
    assert number("phase_error", view) == pytest.approx(2 / math.pi, abs=0.03)
    assert number("phase_alignment", view) == pytest.approx(0, abs=0.05)
    assert float(gi.measure("neuron.phase_error", view).mean()) == pytest.approx(math.pi / 2, abs=0.06)


@pytest.mark.trains
def test_training_aligns_phases(quick_run):
    first, last = quick_run.view(0), quick_run.view(-1)
    assert number("phase_error", first) > 0.4
    assert number("phase_error", last) < 0.2
    assert number("phase_alignment", last) > 0.95


# The readout


def test_a_readout_that_the_neurons_do_not_feed_reads_nothing():
    base = controls.clock(P, KEYS)
    w_out = base.weights["blocks.0.mlp.W_out"].clone()
    at = slice(0, P * P)  # the neurons of the first key
    w_out[at] = 0
    view = rewired(base, blocks__0__mlp__W_out=w_out)
    assert float(gi.measure("readout_fraction", view).sel(freq=KEYS[0])) == 0
    assert float(gi.measure("w_l_directions.explained_variance", view).sel(component=f"cos {KEYS[0]}")) == 0
    assert float(gi.measure("readout_fraction", view).sel(freq=KEYS[1])) > 0.99


def test_half_of_what_is_held_is_read():
    # Neurons as they are, but every second one is not read: its share of cos and sin of a + b is lost.
    base = controls.clock(P, (3,))
    w_out = base.weights["blocks.0.mlp.W_out"].clone()
    w_out[: P * P // 2] = 0
    found = float(gi.measure("readout_fraction", rewired(base, blocks__0__mlp__W_out=w_out)).sel(freq=3))
    assert found == pytest.approx(1 - (P * P // 2) / (P * P), abs=0.01)


def test_what_the_keys_leave_of_the_readout():
    view = controls.clock(P, KEYS)
    for variant in ("w_l_residual.raw", "w_l_residual.centred"):
        assert number(variant, view, keys=KEYS[:1]) == pytest.approx(math.sqrt(2 / 3))
        assert number(variant, view, keys=KEYS[:2]) == pytest.approx(math.sqrt(1 / 3))
        assert number(variant, view, keys=[1]) == pytest.approx(1)
    constant = rewired(view, unembed__W_U=view.weights["unembed.W_U"] + 1)
    assert number("w_l_residual.raw", constant, keys=KEYS) > 0.01  # the constant is no key's
    assert number("w_l_residual.centred", constant, keys=KEYS) == pytest.approx(0, abs=1e-12)


# Ranks


def test_ranks_of_known_spectra():
    assert effective_rank(torch.eye(5, dtype=torch.float64)) == pytest.approx(5)
    assert participation_ratio(torch.eye(5, dtype=torch.float64)) == pytest.approx(5)
    two_to_one = torch.diag(torch.tensor([2.0, 1.0], dtype=torch.float64))
    assert effective_rank(two_to_one) == pytest.approx(3 / 2 ** (2 / 3))  # exp H(2/3, 1/3)
    assert participation_ratio(two_to_one) == pytest.approx(25 / 17)
    assert (
        effective_rank(torch.zeros(3, 4, dtype=torch.float64))
        == participation_ratio(torch.zeros(3, 4, dtype=torch.float64))
        == 0
    )
    assert effective_rank(1e-160 * two_to_one) == pytest.approx(3 / 2 ** (2 / 3))


@pytest.mark.trains
def test_power_makes_a_larger_gini_than_norms(quick_run):
    view = quick_run.view(-1)
    for matrix in ("W_E", "W_L"):
        assert number(f"gini.{matrix}.power", view) > number(f"gini.{matrix}", view)


# Inverse participation ratio


def test_gromovs_neurons_have_one_frequency_each():
    view = gromov()
    assert (gi.measure("accuracy", view) == 1).all()
    np.testing.assert_allclose(gi.measure("ipr.neurons", view), 0.5, atol=1e-12)
    assert number("ipr.complex", view) == pytest.approx(0.5)
    assert number("ipr.real", view) == pytest.approx(1)


@pytest.mark.parametrize("p", [22, 23])
def test_noise_added_to_one_column_lowers_that_neuron_alone(p):
    base = gromov(p)
    w_in = base.weights["blocks.0.mlp.W_in"].clone()
    w_in[:, 4] = torch.randn(len(w_in), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = gi.measure("ipr.neurons", rewired(base, blocks__0__mlp__W_in=w_in)).values
    before = gi.measure("ipr.neurons", base).values
    assert found[4] < before[4] - 0.2
    np.testing.assert_array_equal(np.delete(found, 4), np.delete(before, 4))


@pytest.mark.parametrize("embedding", ["separate", "shared", "one_hot"])
def test_what_neurons_read_of_an_mlp_is_what_changes_their_pre_activations(embedding):
    task = make_task("modular_addition", p=7)
    config = MLPConfig(embedding=embedding, d_model=5, d_mlp=11)
    generator = torch.Generator().manual_seed(0)
    weights = {
        name: torch.randn(shape, generator=generator) for name, shape in config.shapes(task.reads).items()
    }
    view = gi.view(config.hooked(task.reads, weights), task)
    before = view.cache["blocks.0.mlp.hook_pre"][:, -1]
    a, b = task.pairs.unbind(1)
    read = input_weights(view)
    torch.testing.assert_close(before, read[0][a] + read[1][b])
    for name in ("ipr.complex", "ipr.real", "ipr.neurons", "effective_rank.W_E", "gini.W_E.power"):
        assert np.isfinite(np.asarray(gi.measure(name, view), dtype=float)).all()


@pytest.mark.parametrize("layout", ["a b =", "a b", "b op a"])
def test_what_neurons_read_through_constant_attention_is_what_changes_their_pre_activations(layout):
    task = make_task("modular_addition", p=7, layout=layout)
    config = ModelConfig(d_model=16, n_heads=2, d_mlp=9, attention_mixing=0)
    view = gi.view(config.hooked(task.reads, config.initial_weights(task.reads, 0)), task)
    before = view.cache["blocks.0.mlp.hook_pre"][:, -1]
    a, b = task.pairs.unbind(1)
    read = input_weights(view)
    summed = read[0][a] + read[1][b]
    torch.testing.assert_close(before - before[0], summed - summed[0])


# Networks of other people

HELD = {  # measured here; the loss of the network itself is in README.md beside the files
    "nanda": {"residual": 0.40784, "phase_error": 0.09738, "polynomial": 2.7186e-2},
    "C113": {"residual": 0.07115, "phase_error": 0.05897, "polynomial": 4.4922e-7},
    "C118": {"residual": 0.04187, "phase_error": 0.02111, "polynomial": 1.2362e-7},
}


@pytest.mark.parametrize("name", HELD)
def test_foreign_networks_read_the_sum_with_aligned_phases(name):
    view = MAKERS[name]()
    keys = gi.key_frequencies(view).consensus
    with_phase = [k for k in keys if 2 * k != circular(view).m]
    # Published for another network: 93 to 98 % (Nanda et al. 2023, section 4.3), .9935 to .9986
    # (grokking-mechinterp).
    explained = gi.measure("w_l_directions.explained_variance", view)
    assert all(
        0.93 <= float(explained.sel(component=f"{wave} {k}")) < 1
        for k in with_phase
        for wave in ("cos", "sin")
    )
    assert (gi.measure("sum_fraction.logits", view).sel(freq=with_phase) > 0.9935).all()
    assert number("phase_alignment", view) > 0.99
    # None of these networks is the one for which the paper gives 0.0055 and +3 %.
    assert number("w_l_residual.raw", view) == pytest.approx(HELD[name]["residual"], rel=1e-3)
    assert number("phase_error", view) == pytest.approx(HELD[name]["phase_error"], rel=1e-3)
    loss = gi.measure("polynomial_neurons_loss.single_frequency", view)
    assert float(loss.sel(part="all")) == pytest.approx(HELD[name]["polynomial"], rel=1e-3)


def test_a_foreign_multilayer_perceptron_is_made_of_single_frequencies():
    w = stored("chughtai/C113_MLP_seed1/model.pt")
    task = make_task("modular_addition", p=113, layout="a b")
    weights = {
        "embed_a.W_E": w["W_x"],
        "embed_b.W_E": w["W_y"],
        "blocks.0.mlp.W_in": w["W"],
        "unembed.W_U": w["W_U"],
    }
    view = gi.view(MLPConfig(d_model=256, d_mlp=128).hooked(task.reads, weights), task)
    assert (gi.measure("accuracy", view) == 1).all()
    assert number("ipr.real", view) > 0.9
    assert number("phase_alignment", view) > 0.95
