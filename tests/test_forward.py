"""The short forward pass of training: the logits of HookedTransformer, and the gradients of autograd through
it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from grokinterp.models import (
    Folded,
    Folding,
    ModelConfig,
    at_answer,
    unhooked,
)
from grokinterp.tasks import Task, make_task
from grokinterp.view import View

torch.set_num_threads(1)  # for matrices this small, threads only wait for one another

CLOSE = 1e-9
"""Relative to the largest number of its kind: what is left to rounding in float64."""


def config(**changes: object) -> ModelConfig:
    # All biases are trained, so that TransformerLens gives a gradient for every weight.
    return ModelConfig(
        **{"d_model": 12, "n_heads": 3, "d_head": 5, "d_mlp": 20, "train_biases": "all", **changes}
    )


def random_weights(config: ModelConfig, task: Task) -> dict[str, Tensor]:
    """Float64 weights, biases and norms included, none of them zero: every term of the network matters."""
    generator = torch.Generator().manual_seed(1)
    draw = {
        name: torch.randn(shape, generator=generator, dtype=torch.float64)
        for name, shape in config.shapes(task.reads).items()
    }
    return {
        name: (value / math.sqrt(config.d_model) + (1 if name.endswith(".w") else 0)).requires_grad_()
        for name, value in draw.items()
    }


def scalar(logits: Tensor) -> Tensor:
    """A number that depends on every logit in its own way."""
    generator = torch.Generator().manual_seed(2)
    return (logits.tanh() * torch.randn(logits.shape, generator=generator, dtype=torch.float64)).sum()


def assert_same_logits_and_gradients(config: ModelConfig, task: Task, tokens: Tensor) -> None:
    weights = random_weights(config, task)
    model = config.hooked(task.reads, weights, torch.float64)
    expected, found = model(tokens)[:, -1], config.logits(weights, tokens, task.reads)
    torch.testing.assert_close(found, expected, rtol=CLOSE, atol=CLOSE * float(expected.detach().abs().max()))

    parameters = dict(model.named_parameters())
    theirs = dict(zip(parameters, torch.autograd.grad(scalar(expected), parameters.values()), strict=True))
    ours = dict(zip(weights, torch.autograd.grad(scalar(found), weights.values()), strict=True))
    scale = max(float(gradient.abs().max()) for gradient in theirs.values())
    assert scale > 0.01
    for name, gradient in theirs.items():
        torch.testing.assert_close(
            ours[name],
            gradient,
            rtol=CLOSE,
            atol=CLOSE * scale,
            msg=lambda text, name=name: f"{name}: {text}",
        )


@pytest.mark.parametrize("alpha", [1.0, 0.3, 0.0])
@pytest.mark.parametrize("attention_dir", ["causal", "bidirectional"])
@pytest.mark.parametrize("normalization", ["none", "LN", "LNPre", "RMS", "RMSPre"])
@pytest.mark.parametrize("n_layers", [1, 2, 3])
def test_logits_and_gradients_are_those_of_hooked_transformer(n_layers, normalization, attention_dir, alpha):
    task = make_task("modular_addition", p=5)
    asked = config(
        n_layers=n_layers, normalization=normalization, attention_dir=attention_dir, attention_mixing=alpha
    )
    assert_same_logits_and_gradients(asked, task, task.inputs)


@pytest.mark.parametrize("layout", ["a b =", "a op b ="])
@pytest.mark.parametrize("attention_dir", ["causal", "bidirectional"])
@pytest.mark.parametrize("act_fn", ["relu", "gelu", "gelu_new", "silu"])
@pytest.mark.parametrize("n_layers", [1, 2])
def test_so_they_are_with_every_activation_and_layout(n_layers, act_fn, attention_dir, layout):
    task = make_task("modular_division", p=7, layout=layout)
    assert_same_logits_and_gradients(
        config(n_layers=n_layers, act_fn=act_fn, attention_dir=attention_dir), task, task.inputs
    )


@pytest.mark.parametrize("layout", ["a b =", "a op b ="])
@pytest.mark.parametrize("normalization", ["none", "LN"])
@pytest.mark.parametrize("n_layers", [1, 2, 3])
def test_so_they_are_with_attention_only(n_layers, normalization, layout):
    task = make_task("group_composition", group="S3", layout=layout)
    asked = config(n_layers=n_layers, normalization=normalization, d_mlp=0, attention_mixing=0.3)
    assert_same_logits_and_gradients(asked, task, task.inputs)


@pytest.mark.parametrize("n_layers", [1, 2])
@pytest.mark.parametrize("rows", [[7], [3, 3, 3, 0], [24, 1, 13, 1]])
def test_so_they_are_for_one_example_and_for_repeated_ones(rows, n_layers):
    task = make_task("modular_addition", p=5)
    assert_same_logits_and_gradients(config(n_layers=n_layers), task, task.inputs[rows])


def test_so_they_are_with_one_head_and_more_logits_than_answers():
    task = make_task("modular_addition", p=5)
    assert_same_logits_and_gradients(config(n_heads=1, d_head=3, d_vocab_out=9), task, task.inputs)


def test_float32_logits_agree_with_float64_ones_to_float32_rounding():
    task, asked = make_task("modular_addition", p=5), config(n_layers=2, normalization="LN")
    weights = random_weights(asked, task)
    double = asked.logits(weights, task.inputs, task.reads)
    single = asked.logits({name: weight.float() for name, weight in weights.items()}, task.inputs, task.reads)
    assert single.dtype == torch.float32
    assert double.dtype == torch.float64
    torch.testing.assert_close(
        single.double(), double, rtol=0, atol=1e-5 * float(double.detach().abs().max())
    )


def test_no_example_depends_on_the_others():
    task, asked = make_task("modular_addition", p=5), config(n_layers=2, normalization="LN")
    weights = random_weights(asked, task)
    together = asked.logits(weights, task.inputs, task.reads)
    alone = torch.cat([asked.logits(weights, row[None], task.reads) for row in task.inputs])
    torch.testing.assert_close(alone, together, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("normalization", ["none", "LN"])
@pytest.mark.parametrize("n_layers", [1, 2])
@pytest.mark.parametrize(
    "changes", [{}, {"attention_mixing": 0.3}, {"attention_dir": "bidirectional"}, {"d_mlp": 0}]
)
def test_what_is_seen_at_the_answer_is_what_the_hooks_see(n_layers, normalization, changes):
    task, asked = (
        make_task("modular_addition", p=5),
        config(n_layers=n_layers, normalization=normalization, **changes),
    )
    weights = random_weights(asked, task)
    logits, cache = asked.hooked(task.reads, weights, torch.float64).run_with_cache(task.inputs)
    found = at_answer(asked, task.reads, weights, task.inputs)
    assert len(found) == 1 + n_layers * (1 + bool(asked.d_mlp))
    torch.testing.assert_close(
        found.pop("logits"),
        logits[:, -1].detach(),
        rtol=CLOSE,
        atol=CLOSE * float(logits.detach().abs().max()),
    )
    for name, value in found.items():
        torch.testing.assert_close(value, cache[name][..., -1, :].detach(), rtol=CLOSE, atol=CLOSE)


@pytest.mark.parametrize(
    "changes",
    [{}, {"act_fn": "gelu"}, {"attention_mixing": 0.3}, {"d_mlp": 0}, {"n_heads": 1, "d_vocab_out": 11}],
)
@pytest.mark.parametrize("name", ["modular_addition", "modular_division"])
@pytest.mark.parametrize("layout", ["a b =", "a op b ="])
def test_examples_that_begin_alike_are_computed_together_as_alone(layout, name, changes, monkeypatch):
    task, asked = make_task(name, p=7, layout=layout), config(**changes)
    weights = random_weights(asked, task)
    plain = unhooked._plain(asked, task.reads, weights, task.inputs)
    for together in (1, 14, 17, 1024):  # not one operand, some of them, all
        monkeypatch.setattr(unhooked, "_TOGETHER", together)
        for some in (
            task.inputs,
            task.inputs[:3],
            task.inputs[torch.randperm(len(task.inputs), generator=torch.Generator().manual_seed(0))],
        ):
            rows = torch.tensor([(task.inputs == row).all(1).nonzero()[0, 0] for row in some])
            for key, value in at_answer(asked, task.reads, weights, some).items():
                torch.testing.assert_close(value, plain[key][rows].detach(), rtol=CLOSE, atol=CLOSE)


# Folded


@pytest.mark.parametrize("layout", ["a b =", "a op b ="])
@pytest.mark.parametrize(
    "changes", [{}, {"attention_mixing": 0.3}, {"attention_mixing": 0}, {"n_heads": 1, "d_vocab_out": 9}]
)
def test_a_folded_network_gives_the_patterns_neurons_and_logits_of_hooked_transformer(changes, layout):
    task, asked = make_task("modular_division", p=5, layout=layout), config(**changes)
    weights = random_weights(asked, task)
    model = asked.hooked(task.reads, weights, torch.float64)
    logits, cache = model.run_with_cache(task.inputs)
    folding = Folding(task.inputs, task.reads, asked)
    with torch.no_grad():
        tables = Folded(folding, weights).tables
        pattern, neurons, found = folding.forward(tables, folding.rows, folding.bags(folding.rows))

    def close(ours, theirs):
        torch.testing.assert_close(
            ours, theirs.detach(), rtol=CLOSE, atol=CLOSE * float(theirs.detach().abs().max())
        )

    close(found, logits[:, -1])
    close(pattern.transpose(1, 2), cache["blocks.0.attn.hook_pattern"][:, :, -1])
    close(neurons, cache["blocks.0.mlp.hook_post"][:, -1])


def test_what_cannot_be_folded_is_known():
    task = make_task("modular_addition", p=5)
    assert config().folding(task.inputs, task.reads) is not None
    for changes in ({"n_layers": 2}, {"normalization": "LN"}, {"act_fn": "gelu"}, {"d_mlp": 0}):
        assert config(**changes).folding(task.inputs, task.reads) is None
    assert config().folding(task.inputs.flip(1), task.reads) is None
    earlier = dataclasses.replace(task.reads, positions=(1,))
    assert config().folding(task.inputs, earlier) is None


@pytest.mark.parametrize("attention_dir", ["causal", "bidirectional"])
@pytest.mark.parametrize("n_layers", [1, 2, 3])
@pytest.mark.parametrize("positions", [(1,), (3, 1), (0, 1, 2, 3)])
def test_answers_are_read_where_the_task_says(positions, n_layers, attention_dir):
    task = make_task("modular_addition", p=5, layout="a op b =")
    reads = dataclasses.replace(task.reads, positions=positions, answers=tuple(map(str, positions)))
    asked = config(n_layers=n_layers, attention_dir=attention_dir, attention_mixing=0.3)
    weights = random_weights(asked, task)
    with torch.no_grad():
        logits, cache = asked.hooked(reads, weights, torch.float64).run_with_cache(task.inputs)
    there = positions[0] if len(positions) == 1 else list(positions)
    values = at_answer(asked, reads, weights, task.inputs)
    torch.testing.assert_close(values.pop("logits"), logits[:, there], rtol=CLOSE, atol=CLOSE)
    assert len(values) == 2 * n_layers
    for name, value in values.items():
        whole = cache[name].transpose(1, 2) if "pattern" in name else cache[name]
        torch.testing.assert_close(value, whole[:, there], rtol=CLOSE, atol=CLOSE)


# Hooks


def tilted_at_the_answer(view: View, hook: str) -> Callable[..., Tensor]:
    """Changes what stands at the answer's position of a hook; of scores and patterns, as its query."""

    def tilt(x: Tensor, hook: object = None, name: str = hook) -> Tensor:
        x = x.clone()
        here = view.at_answer(name, x)
        here.mul_(torch.linspace(0.5, 1.5, here.shape[-1], dtype=here.dtype))
        return x

    return tilt


@pytest.mark.parametrize("alpha", [1.0, 0.3])
@pytest.mark.parametrize("attention_dir", ["causal", "bidirectional"])
@pytest.mark.parametrize("normalization", ["none", "LN", "RMSPre"])
@pytest.mark.parametrize(("n_layers", "d_mlp"), [(1, 20), (3, 20), (2, 0)])
def test_changes_on_the_way_do_what_hooks_of_hooked_transformer_do(
    n_layers, d_mlp, normalization, attention_dir, alpha
):
    task = make_task("modular_addition", p=5)
    network = config(
        n_layers=n_layers, d_mlp=d_mlp, normalization=normalization, attention_dir=attention_dir,
        attention_mixing=alpha,
    )  # fmt: skip
    weights = {name: weight.detach() for name, weight in random_weights(network, task).items()}
    view, rows = View.of_weights(task, network, weights), torch.tensor([7, 3, 24, 3])
    assert view.hooks == tuple(network.hooked(task.reads, weights).hook_dict)
    there = [hook for hook in view.hooks if network.passes(hook, changed=True)]
    assert len(there) == n_layers * (10 if d_mlp else 6) - 1
    before = view.activations([], rows=rows)["logits"]
    for hook in there:
        names = [name for name in view.hooks if network.passes(name, changed=False)]
        edits = [(hook, tilted_at_the_answer(view, hook))]
        short, whole = (
            view.activations(names, edits, rows, everywhere=everywhere) for everywhere in (False, True)
        )
        assert short.keys() == whole.keys() == {*names, "logits"}
        for name, value in whole.items():
            torch.testing.assert_close(short[name], value, rtol=CLOSE, atol=CLOSE)
        assert not torch.allclose(short["logits"], before, rtol=1e-3), hook
    assert torch.equal(view.activations([], rows=rows)["logits"], before)


def test_a_short_pass_builds_no_hooked_network(monkeypatch):
    task, network = make_task("modular_addition", p=5), config()
    weights = {name: weight.detach() for name, weight in random_weights(network, task).items()}
    view = View.of_weights(task, network, weights)
    monkeypatch.setattr(ModelConfig, "hooked", lambda *_, **__: pytest.fail("built"))
    z = "blocks.0.attn.hook_z"
    assert view.activations([z], [(z, tilted_at_the_answer(view, z))], everywhere=False)[z].shape == (
        25,
        3,
        5,
    )
    with pytest.raises(pytest.fail.Exception, match="built"):
        view.activations([z], [(z, tilted_at_the_answer(view, z))])


@pytest.mark.parametrize("network", [config(), config(n_layers=2, normalization="LN")], ids=str)
def test_the_gradient_by_the_embedding_is_autograds_through_hook_embed(network):
    task, rows, logits = make_task("modular_addition", p=5), torch.tensor([3, 3, 21]), torch.tensor([4, 0, 2])
    weights = {name: weight.detach() for name, weight in random_weights(network, task).items()}
    short = View.of_weights(task, network, weights).gradient_by_embedding(rows, logits)
    hooked = View(task, network.hooked(task.reads, weights, torch.float64)).gradient_by_embedding(
        rows, logits
    )
    assert short.shape == (3, 3, network.d_model)
    assert float(short.abs().max()) > 0.01
    torch.testing.assert_close(short, hooked, rtol=CLOSE, atol=CLOSE)
