"""Multilayer perceptrons: the formula written out, hooks that count, and a View that takes them like any other network."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
import torch
from torch import Tensor

import grokinterp as gi
from grokinterp import controls
from grokinterp.errors import ConfigError, NotApplicable, UsageError
from grokinterp.models import MLPConfig, in_float64, network, network_config, weight_shapes
from grokinterp.tasks import Task, make_task
from test_foreign import stored

ADDITION = make_task("modular_addition", p=13)
KINDS = [
    MLPConfig(embedding=embedding, act_fn=act_fn, biases=biases, d_out=d_out, d_model=8, d_mlp=20)
    for embedding, act_fn, biases, d_out in [
        ("separate", "relu", False, None),
        ("separate", "gelu", True, 6),
        ("shared", "relu", True, None),
        ("shared", "square", False, 6),
        ("one_hot", "square", False, None),
        ("one_hot", "relu", True, 6),
    ]
]


def name_of(config: MLPConfig) -> str:
    return f"{config.embedding}-{config.act_fn}-{'biases' if config.biases else 'plain'}-{config.d_out}"


kinds = pytest.mark.parametrize("config", KINDS, ids=name_of)


def random_weights(config: MLPConfig, task: Task = ADDITION, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(shape, generator=generator, dtype=torch.float64) / shape[0] ** 0.5
        for name, shape in weight_shapes(config, task).items()
    }


def by_hand(config: MLPConfig, w: dict[str, Tensor], a: Tensor, b: Tensor) -> Tensor:
    """With one-hot vectors and full matrices, biases as they come."""
    zero = torch.zeros(1, dtype=torch.float64)
    one_hot = torch.eye(len(w["blocks.0.mlp.W_in"]) // 2 if config.embedding == "one_hot" else 999, dtype=torch.float64)
    if config.embedding == "one_hot":
        x = torch.cat([one_hot[a], one_hot[b]], dim=1)
    elif config.embedding == "shared":
        x = torch.cat([w["embed.W_E"][a], w["embed.W_E"][b]], dim=1)
    else:
        x = torch.cat([w["embed_a.W_E"][a], w["embed_b.W_E"][b]], dim=1)
    before = x @ w["blocks.0.mlp.W_in"] + w.get("blocks.0.mlp.b_in", zero)
    if config.act_fn == "gelu":
        after = before * (1 + torch.erf(before / 2**0.5)) / 2
    else:
        after = before * before if config.act_fn == "square" else before.clamp_min(0)
    out = after @ w["blocks.0.mlp.W_out"] + w.get("blocks.0.mlp.b_out", zero) if config.d_out else after
    return out @ w["unembed.W_U"] + w.get("unembed.b_U", zero)


@kinds
@pytest.mark.parametrize("task", [ADDITION, make_task("modular_addition", p=7, layout="b op a =")], ids=["a b =", "b op a ="])
def test_logits_are_those_of_the_formula(config, task):
    weights = random_weights(config, task)
    model = network(config, task, weights, torch.float64)
    a, b = task.pairs.unbind(1)
    with torch.no_grad():
        logits = model(task.inputs)
    assert logits.shape == (task.n_inputs, 1, task.n_answers)
    torch.testing.assert_close(logits[:, 0], by_hand(config, weights, a, b), rtol=1e-12, atol=1e-12)


@kinds
def test_parameters_have_the_names_and_shapes_that_were_asked_for(config):
    model = network(config, ADDITION, random_weights(config))
    assert {name: tuple(weight.shape) for name, weight in model.named_parameters()} == weight_shapes(config, ADDITION)
    assert all(weight.dtype == torch.float32 for weight in model.parameters())
    assert not model.training


@kinds
def test_every_hook_changes_the_logits(config):
    model = network(config, ADDITION, random_weights(config), torch.float64)
    plain = model(ADDITION.inputs)
    _, cache = model.run_with_cache(ADDITION.inputs)
    expected = {"blocks.0.mlp.hook_pre", "blocks.0.mlp.hook_post", "blocks.0.hook_mlp_out", "hook_logits"}
    assert set(cache) == expected | ({"hook_embed"} if config.embedding != "one_hot" else set())
    for name in cache:
        edited = model.run_with_hooks(ADDITION.inputs, fwd_hooks=[(name, lambda tensor, hook: tensor * 1.5)])
        assert not torch.allclose(edited, plain), name
    torch.testing.assert_close(model(ADDITION.inputs), plain)


def test_the_cache_holds_each_step_of_the_formula():
    config = KINDS[1]
    weights = random_weights(config)
    _, cache = network(config, ADDITION, weights, torch.float64).run_with_cache(ADDITION.inputs)
    before, after = cache["blocks.0.mlp.hook_pre"], cache["blocks.0.mlp.hook_post"]
    torch.testing.assert_close(before, cache["hook_embed"] @ weights["blocks.0.mlp.W_in"] + weights["blocks.0.mlp.b_in"])
    torch.testing.assert_close(after, torch.nn.functional.gelu(before))
    torch.testing.assert_close(cache["blocks.0.hook_mlp_out"], after @ weights["blocks.0.mlp.W_out"] + weights["blocks.0.mlp.b_out"])
    assert after.shape == (ADDITION.n_inputs, 1, config.d_mlp)


@kinds
def test_a_copy_computes_in_float64_and_leaves_the_network_as_it_is(config):
    model = network(config, ADDITION, random_weights(config))
    twin = in_float64(model)
    assert twin(ADDITION.inputs).dtype == torch.float64
    assert model(ADDITION.inputs).dtype == torch.float32
    torch.testing.assert_close(twin(ADDITION.inputs).float(), model(ADDITION.inputs), rtol=1e-4, atol=1e-4)


@kinds
def test_a_view_shows_its_parts(config):
    weights = random_weights(config)
    view = gi.view(network(config, ADDITION, weights, torch.float64), ADDITION)
    w_in, w_u = weights["blocks.0.mlp.W_in"], weights["unembed.W_U"]
    p = ADDITION.p
    tables = {
        "separate": lambda: [weights["embed_a.W_E"], weights["embed_b.W_E"]],
        "shared": lambda: [weights["embed.W_E"]],
        "one_hot": lambda: [w_in[: len(w_in) // 2], w_in[len(w_in) // 2 :]],
    }[config.embedding]()
    torch.testing.assert_close(view.W_E, torch.cat([table[:p] for table in tables], dim=1))
    torch.testing.assert_close(view.W_L, weights["blocks.0.mlp.W_out"] @ w_u if config.d_out else w_u)
    assert view.neurons.shape == (p * p, config.d_mlp)
    torch.testing.assert_close(view.logits, by_hand(config, weights, *ADDITION.pairs.unbind(1)))
    with pytest.raises(NotApplicable, match="no attention"):
        _ = view.attention


def test_a_view_counts_the_hooks_of_a_user():
    config = KINDS[0]
    model = network(config, ADDITION, random_weights(config))
    model.add_hook("blocks.0.mlp.hook_post", lambda tensor, hook: torch.zeros_like(tensor))
    assert gi.view(model, ADDITION).logits.abs().max() == 0


def measured_or_reason(name: str, view: gi.View) -> str | None:
    options = {"keys": [1, 6]} if "keys" in inspect.signature(gi.MEASURES[name].function).parameters else {}
    try:
        value = gi.measure(name, view, **options)
    except NotApplicable as error:
        return str(error)
    assert np.isfinite(np.asarray(value, dtype=float)).all()
    return None


@pytest.mark.parametrize(
    "make",
    [lambda config=config: gi.view(network(config, ADDITION, random_weights(config)), ADDITION) for config in KINDS]
    + [lambda: controls.gromov(13, 120)],
    ids=[*map(name_of, KINDS), "gromov"],
)
def test_every_measure_has_a_value_or_a_reason(make):
    view = make()
    reasons = {name: reason for name in gi.MEASURES if (reason := measured_or_reason(name, view))}
    about_attention = {name for name, reason in reasons.items() if reason == "the network has no attention"}
    assert {"attention.mean", "attention.variance"} <= about_attention
    assert {"circuit.constant_attention.loss", "circuit.constant_attention.agreement"} <= about_attention
    assert not {"loss", "accuracy", "neuron.frequency", "circuit.whole.loss", "gini.W_L"} & set(reasons)
    if "embed.W_E" in view.weights:
        assert "gradient_symmetricity" not in reasons
    else:
        assert reasons["gradient_symmetricity"] == "a and b have no embedding in common, so the gradients by them cannot be compared"


def test_weights_that_do_not_fit_are_named():
    weights = random_weights(KINDS[0])
    weights["unembed.W_U"] = weights["unembed.W_U"][:, :5]
    with pytest.raises(UsageError, match=r"unembed.W_U has shape \(20, 5\), the configuration asks for \(20, 13\)"):
        network(KINDS[0], ADDITION, weights)


def test_fewer_logits_than_answers_are_refused_and_more_are_left_out():
    with pytest.raises(UsageError, match=r"model\.d_vocab_out: 5 logits are fewer than the 13 answers"):
        weight_shapes(MLPConfig(d_vocab_out=5), ADDITION)
    config = MLPConfig(d_vocab_out=14, d_model=8, d_mlp=20)
    view = gi.view(network(config, ADDITION, random_weights(config)), ADDITION)
    assert view.logits.shape == (169, 13)
    assert view.W_L.shape == (20, 13)


def test_the_kind_of_network_is_a_key_of_its_section():
    assert network_config({"kind": "mlp", "embedding": "shared"}) == MLPConfig(embedding="shared")
    with pytest.raises(ConfigError, match="did you mean 'mlp'"):
        network_config({"kind": "mpl"})


def test_a_published_perceptron_is_right_everywhere():
    w = stored("chughtai/C113_MLP_seed1/model.pt")
    config = MLPConfig(d_model=256, d_mlp=128)
    names = {"embed_a.W_E": "W_x", "embed_b.W_E": "W_y", "blocks.0.mlp.W_in": "W", "unembed.W_U": "W_U"}
    task = make_task("modular_addition", p=113, layout="a b")
    view = gi.view(network(config, task, {ours: w[theirs] for ours, theirs in names.items()}), task)
    assert float(gi.measure("accuracy", view).sel(part="all")) == 1
    assert 0 < float(gi.measure("loss", view).sel(part="all")) < 1e-4
    assert round(gi.measure("logit_fve.centred", view), 3) == 0.937  # .93678 of its key representations, in the README beside the file
    # No attention, and yet no pizza: every circle alone is nearer to a clock.
    assert (gi.measure("clock_fit.fourier", view) > gi.measure("pizza_fit.fourier", view)).all()
