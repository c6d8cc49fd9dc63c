"""Networks: TransformerLens's own, with initial weights from published code, and every hook point live."""

from __future__ import annotations

import itertools
import math
import re
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from torch import Tensor

from grokinterp.errors import UsageError
from grokinterp.models import (
    ModelConfig,
    in_float64,
    is_bias,
)
from grokinterp.models.base import lens_classes
from grokinterp.tasks import Task, make_task

NORMS = ["none", "LN", "LNPre", "RMS", "RMSPre"]
torch.set_num_threads(1)  # for matrices this small, threads only wait for one another

WIDTHS = {"d_model": 12, "n_heads": 3, "d_mlp": 20}

ADDITION = make_task("modular_addition", p=5)


def config(**changes: object) -> ModelConfig:
    return ModelConfig(**{**WIDTHS, **changes})


def reference(config: ModelConfig, task: Task, seed: int | None = None):
    """The network that a user of TransformerLens would write down for this configuration."""
    HookedTransformer, HookedTransformerConfig = lens_classes()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return HookedTransformer(
            HookedTransformerConfig(
                n_layers=config.n_layers,
                d_model=config.d_model,
                n_ctx=len(task.inputs[0]),
                n_heads=config.n_heads,
                d_head=config.d_head,
                d_mlp=config.d_mlp or None,
                attn_only=not config.d_mlp,
                act_fn=config.act_fn,
                d_vocab=len(task.encoding.names),
                d_vocab_out=config.d_vocab_out or task.p,
                normalization_type=None if config.normalization == "none" else config.normalization,
                attention_dir=config.attention_dir,
                device="cpu",
                seed=seed,
            )
        )


def random_weights(config: ModelConfig, task: Task, seed: int = 0) -> dict[str, Tensor]:
    """Float64 weights of order one over the width, biases and norms included: nothing is zero, nothing is
    symmetric."""
    generator = torch.Generator().manual_seed(seed)
    draw = {
        name: torch.randn(shape, generator=generator, dtype=torch.float64)
        for name, shape in config.shapes(task.reads).items()
    }
    return {
        name: value / math.sqrt(config.d_model) + (1 if name.endswith(".w") else 0)
        for name, value in draw.items()
    }


def built(config: ModelConfig, task: Task = ADDITION, dtype: torch.dtype = torch.float64):
    return config.hooked(task.reads, random_weights(config, task), dtype)


def answers(model, task: Task = ADDITION) -> Tensor:
    with torch.no_grad():
        return model(task.inputs)[:, -1]


# Shapes and names


@pytest.mark.parametrize("layout", ["a b =", "a op b ="])
@pytest.mark.parametrize("d_mlp", [0, 20])
@pytest.mark.parametrize("n_layers", [1, 3])
@pytest.mark.parametrize("normalization", NORMS)
def test_weight_shapes_are_the_parameters_of_a_hooked_transformer(normalization, n_layers, d_mlp, layout):
    asked = config(normalization=normalization, n_layers=n_layers, d_mlp=d_mlp, d_head=5)
    task = make_task("modular_addition", p=5, layout=layout)
    parameters = {
        name: tuple(parameter.shape) for name, parameter in reference(asked, task).named_parameters()
    }
    assert asked.shapes(task.reads) == parameters


def test_widths_default_to_those_of_the_paper_in_proportion():
    assert ModelConfig(d_model=128, n_heads=4).d_head == 128 // 4
    assert ModelConfig(d_model=128).d_mlp == 4 * 128
    assert ModelConfig(d_model=2, n_heads=2).d_head == 1


@pytest.mark.parametrize(("d_vocab_out", "n_logits"), [(None, 5), (5, 5), (6, 6)])
def test_there_is_a_logit_for_every_answer_unless_more_are_asked_for(d_vocab_out, n_logits):
    asked = config(d_vocab_out=d_vocab_out)
    assert asked.shapes(ADDITION.reads)["unembed.W_U"] == (12, n_logits)
    assert answers(built(asked)).shape == (25, n_logits)


def test_fewer_logits_than_answers_are_refused():
    with pytest.raises(
        UsageError, match=r"^model\.d_vocab_out: 4 logits are fewer than the 5 answers of modular_addition$"
    ):
        config(d_vocab_out=4).shapes(ADDITION.reads)


def test_biases_are_what_is_added():
    names = config(normalization="LN").shapes(ADDITION.reads)
    assert {name for name in names if is_bias(name)} == {
        *(f"blocks.0.attn.b_{letter}" for letter in "QKVO"),
        *("blocks.0.mlp.b_in", "blocks.0.mlp.b_out", "unembed.b_U"),
        *("blocks.0.ln1.b", "blocks.0.ln2.b", "ln_final.b"),
    }


@pytest.mark.parametrize(
    ("train_biases", "frozen"),
    [
        ("all", set()),
        (
            "mlp",
            {
                *(f"blocks.0.attn.b_{letter}" for letter in "QKVO"),
                "blocks.0.ln1.b",
                "blocks.0.ln2.b",
                "ln_final.b",
                "unembed.b_U",
            },
        ),
        (
            "none",
            {
                *(f"blocks.0.attn.b_{letter}" for letter in "QKVO"),
                "blocks.0.ln1.b",
                "blocks.0.ln2.b",
                "ln_final.b",
                "unembed.b_U",
            }
            | {"blocks.0.mlp.b_in", "blocks.0.mlp.b_out"},
        ),
    ],
)
def test_biases_that_are_not_trained_are_frozen(train_biases, frozen):
    asked = config(normalization="LN", train_biases=train_biases)
    parameters = dict(built(asked).named_parameters())
    assert {name for name, parameter in parameters.items() if not parameter.requires_grad} == frozen
    assert {name for name in parameters if not asked.trains(name)} == frozen


# Initial weights


def nanda_weights(config: ModelConfig, task: Task, seed: int) -> dict[str, Tensor]:
    """The initial weights of the released code of Nanda et al. 2023, under its names and in its
    orientation."""
    d_model, d_logits = config.d_model, config.d_vocab_out or task.p
    torch.manual_seed(seed)
    weights = {
        "W_E": torch.randn(d_model, task.reads.d_vocab) / np.sqrt(d_model),
        "W_pos": torch.randn(task.reads.n_ctx, d_model) / np.sqrt(d_model),
    }
    for layer in range(config.n_layers):
        for letter in "KQV":
            weights[f"{layer}.W_{letter}"] = torch.randn(config.n_heads, config.d_head, d_model) / np.sqrt(
                d_model
            )
        weights[f"{layer}.W_O"] = torch.randn(d_model, config.d_head * config.n_heads) / np.sqrt(d_model)
        weights[f"{layer}.W_in"] = torch.randn(config.d_mlp, d_model) / np.sqrt(d_model)
        weights[f"{layer}.W_out"] = torch.randn(d_model, config.d_mlp) / np.sqrt(d_model)
    weights["W_U"] = torch.randn(d_model, d_logits) / np.sqrt(d_logits)
    return weights


def nanda_logits(w: dict[str, Tensor], tokens: Tensor, config: ModelConfig) -> Tensor:
    """The forward pass of that code, at the last position."""
    n_ctx = tokens.shape[1]
    x = torch.einsum("dbp->bpd", w["W_E"][:, tokens]) + w["W_pos"]
    mask = torch.tril(torch.ones(n_ctx, n_ctx))
    for layer in range(config.n_layers):
        k, q, v = (torch.einsum("ihd,bpd->biph", w[f"{layer}.W_{letter}"], x) for letter in "KQV")
        scores = torch.tril(torch.einsum("biph,biqh->biqp", k, q)) - 1e10 * (1 - mask)
        pattern = torch.softmax(scores / math.sqrt(config.d_head), dim=-1)
        z = torch.einsum("biph,biqp->biqh", v, pattern)
        x = x + torch.einsum("df,bqf->bqd", w[f"{layer}.W_O"], z.permute(0, 2, 1, 3).flatten(2))
        hidden = torch.relu(torch.einsum("md,bpd->bpm", w[f"{layer}.W_in"], x))
        x = x + torch.einsum("dm,bpm->bpd", w[f"{layer}.W_out"], hidden)
    return (x @ w["W_U"])[:, -1]


published = pytest.mark.parametrize(
    ("asked", "p", "seed"),
    [
        (config(), 5, 0),
        (config(n_layers=2, d_vocab_out=6), 5, 1),
        (config(n_heads=2, d_head=7), 7, 2),
        (ModelConfig(), 113, 3),
    ],
)


@published
def test_nanda_weights_are_bit_for_bit_those_of_the_released_code(asked, p, seed):
    task = make_task("modular_addition", p=p)
    theirs, ours = nanda_weights(asked, task, seed), asked.initial_weights(task.reads, seed)
    assert torch.equal(ours["embed.W_E"], theirs["W_E"].T)
    assert torch.equal(ours["pos_embed.W_pos"], theirs["W_pos"])
    assert torch.equal(ours["unembed.W_U"], theirs["W_U"])
    for layer in range(asked.n_layers):
        at = f"blocks.{layer}"
        for head, letter in itertools.product(range(asked.n_heads), "KQV"):
            assert torch.equal(ours[f"{at}.attn.W_{letter}"][head], theirs[f"{layer}.W_{letter}"][head].T)
        for head, columns in enumerate(theirs[f"{layer}.W_O"].split(asked.d_head, dim=1)):
            assert torch.equal(ours[f"{at}.attn.W_O"][head], columns.T)
        assert torch.equal(ours[f"{at}.mlp.W_in"], theirs[f"{layer}.W_in"].T)
        assert torch.equal(ours[f"{at}.mlp.W_out"], theirs[f"{layer}.W_out"].T)
    assert not any(ours[name].any() for name in ours if is_bias(name))


@published
def test_the_released_forward_pass_gives_the_same_logits(asked, p, seed):
    task = make_task("modular_addition", p=p)
    theirs = {name: weight.double() for name, weight in nanda_weights(asked, task, seed).items()}
    tokens = task.inputs[:200]
    expected = nanda_logits(theirs, tokens, asked)
    model = asked.hooked(task.reads, asked.initial_weights(task.reads, seed), torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(model(tokens)[:, -1], expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    "asked",
    [config(), config(n_layers=2, normalization="LN"), config(n_layers=2, d_mlp=0, d_head=5), ModelConfig()],
)
def test_transformer_lens_weights_are_bit_for_bit_those_of_hooked_transformer(asked):
    asked = asked.model_copy(update={"init": "transformer_lens"})
    theirs = dict(reference(asked, ADDITION, seed=999).named_parameters())
    ours = asked.initial_weights(ADDITION.reads, seed=999)
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []


recipes = pytest.mark.parametrize("init", ["nanda", "transformer_lens"])


@recipes
def test_every_random_weight_is_scaled_and_every_constant_left(init):
    plain = config(init=init, normalization="LN").initial_weights(ADDITION.reads, 0)
    scaled = config(init=init, normalization="LN", init_scale=4.0).initial_weights(ADDITION.reads, 0)
    for name, weight in plain.items():
        if "W_" in name:
            assert torch.equal(scaled[name], 4 * weight)
        else:
            assert torch.equal(scaled[name], torch.full_like(weight, 1.0 if name.endswith(".w") else 0.0))


@recipes
def test_a_seed_decides_all_weights_and_another_seed_changes_each(init):
    first, again, other = (config(init=init).initial_weights(ADDITION.reads, seed) for seed in (0, 0, 1))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not any(torch.equal(first[name], other[name]) for name in first if not is_bias(name))


@recipes
def test_neither_weights_nor_networks_touch_the_global_generators(init):
    before = (
        np.random.get_state()[1].copy(),
        torch.get_rng_state(),
    )  # not Python's: beartype, which checks this very call, draws from it
    asked = config(init=init)
    asked.hooked(ADDITION.reads, asked.initial_weights(ADDITION.reads, 0))
    assert np.array_equal(np.random.get_state()[1], before[0])
    assert torch.equal(torch.get_rng_state(), before[1])


# Attention mixing


def patterns(model, task: Task = ADDITION) -> Tensor:
    """[layer, n, head, query, key]"""
    with torch.no_grad():
        _, cache = model.run_with_cache(task.inputs)
    return torch.stack([cache["pattern", layer] for layer in range(model.cfg.n_layers)])


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("attention_dir", ["causal", "bidirectional"])
def test_the_mixed_pattern_is_alpha_softmax_plus_a_constant(attention_dir, alpha):
    allowed = torch.ones(3, 3, dtype=torch.float64)
    allowed = allowed.tril() if attention_dir == "causal" else allowed
    softmax = patterns(built(config(attention_dir=attention_dir)))
    mixed = patterns(built(config(attention_dir=attention_dir, attention_mixing=alpha)))
    torch.testing.assert_close(mixed, alpha * softmax + (1 - alpha) * allowed.expand_as(softmax))
    assert (mixed == 0).equal((allowed == 0).expand_as(mixed))


def test_every_layer_mixes():
    assert torch.equal(
        patterns(built(config(n_layers=3, attention_mixing=0.0, attention_dir="bidirectional"))).unique(),
        torch.ones(1),
    )


def test_mixing_survives_a_reset_of_the_users_hooks():
    model = built(config(attention_mixing=0.3))
    before = answers(model)
    model.add_hook("blocks.0.attn.hook_pattern", lambda tensor, hook: tensor * 0)
    assert not torch.equal(answers(model), before)
    model.reset_hooks()
    assert torch.equal(answers(model), before)
    assert not torch.equal(before, answers(built(config())))


def test_a_users_hook_on_the_pattern_sees_what_is_mixed():
    seen = []
    model = built(config(attention_mixing=0.0))
    model.run_with_hooks(
        ADDITION.inputs, fwd_hooks=[("blocks.0.attn.hook_pattern", lambda tensor, hook: seen.append(tensor))]
    )
    assert torch.equal(seen[0], torch.ones(3, 3).tril().expand_as(seen[0]))


# Hook points

DEAD = {
    "attn.hook_result": "fires only after model.set_use_attn_result(True), because [n, pos, head, d_model] "
    "is large",
    "hook_attn_in": "fires only after model.set_use_attn_in(True)",
    "hook_q_input": "fires only after model.set_use_split_qkv_input(True)",
    "hook_k_input": "fires only after model.set_use_split_qkv_input(True)",
    "hook_v_input": "fires only after model.set_use_split_qkv_input(True)",
    "hook_mlp_in": "fires only after model.set_use_hook_mlp_in(True)",
}
"""The hook points of a block that TransformerLens keeps switched off, and why; all others must reach the
answer."""

DEAD_WITHOUT_MLP = {
    "hook_mlp_out": "TransformerLens makes it in every block, and a block without MLP has nothing to pass "
    "through it"
}


def noisy(tensor: Tensor, hook: object) -> Tensor:
    return tensor + torch.randn(tensor.shape, generator=torch.Generator().manual_seed(1), dtype=tensor.dtype)


def without_effect(model) -> list[str]:
    """The hook points at which an edit leaves every answer logit as it was."""
    before = answers(model)
    same = []
    for name, point in model.hook_dict.items():
        point.add_hook(noisy)  # not model.add_hook, which refuses those that are switched off
        if torch.equal(answers(model), before):
            same.append(name)
        model.reset_hooks()
    assert torch.equal(answers(model), before)
    return same


@pytest.mark.parametrize(
    "asked",
    [
        config(normalization="LN"),
        config(normalization="LN", n_layers=2),
        config(normalization="RMSPre", n_layers=2, attention_dir="bidirectional"),
        config(attention_mixing=0.5),
        config(n_layers=2, d_mlp=0),
    ],
)
def test_an_edit_at_every_hook_point_changes_the_answer_except_at_those_switched_off(asked):
    model = built(asked)
    assert len(model.hook_dict) > 15 * asked.n_layers
    dead = DEAD if asked.d_mlp else DEAD | DEAD_WITHOUT_MLP
    assert sorted(without_effect(model)) == sorted(
        f"blocks.{layer}.{name}" for layer in range(asked.n_layers) for name in dead
    )


@pytest.mark.parametrize(
    ("switch", "points"),
    [
        ("set_use_attn_result", {"attn.hook_result"}),
        ("set_use_attn_in", {"hook_attn_in"}),
        ("set_use_split_qkv_input", {"hook_q_input", "hook_k_input", "hook_v_input"}),
        ("set_use_hook_mlp_in", {"hook_mlp_in"}),
    ],
)
def test_hook_points_that_are_switched_off_can_be_switched_on(switch, points):
    model = built(config(normalization="LN"))
    before = answers(model)
    getattr(model, switch)(True)
    torch.testing.assert_close(answers(model), before)
    assert set(without_effect(model)) == {f"blocks.0.{name}" for name in DEAD.keys() - points}


# What is refused, and what is said


def spoilt(change: str) -> dict[str, Tensor]:
    weights = random_weights(config(), ADDITION)
    if change == "missing":
        del weights["unembed.W_U"]
    elif change == "unknown":
        weights["blocks.1.mlp.W_in"] = torch.zeros(12, 20)
    else:
        weights["blocks.0.mlp.W_in"] = weights["blocks.0.mlp.W_in"].T
    return weights


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("missing", r"unembed\.W_U has shape None, the configuration asks for \(12, 5\)"),
        ("unknown", r"blocks\.1\.mlp\.W_in has shape \(12, 20\), the configuration asks for None"),
        ("transposed", r"blocks\.0\.mlp\.W_in has shape \(20, 12\), the configuration asks for \(12, 20\)"),
    ],
)
def test_weights_that_do_not_fit_are_refused_in_one_line_that_names_the_first(change, says):
    with pytest.raises(UsageError) as error:
        config().hooked(ADDITION.reads, spoilt(change))
    assert re.fullmatch(f"weights do not fit the model: {says}", str(error.value))


def test_building_a_network_warns_of_nothing_even_the_first_time():
    program = """
from grokinterp.models import ModelConfig, in_float64
from grokinterp.tasks import make_task
task, config = make_task("modular_addition", p=3), ModelConfig(d_model=4, n_heads=1)
in_float64(config.hooked(task.reads, config.initial_weights(task.reads, 0)))
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


@pytest.mark.parametrize(
    "warning",
    [
        DeprecationWarning("something else is deprecated"),
        UserWarning("HookedTransformer is deprecated"),
        FutureWarning("soon"),
    ],
)
def test_no_other_warning_is_silenced(monkeypatch, warning):
    import transformer_lens

    name = lens_classes()[1].__name__
    make = getattr(transformer_lens, name)

    def warns(*args, **kwargs):
        warnings.warn(warning, stacklevel=2)
        return make(*args, **kwargs)

    monkeypatch.setattr(transformer_lens, name, warns)
    with pytest.warns(type(warning), match=str(warning)):
        built(config())


# Float64


@pytest.mark.parametrize("normalization", NORMS)
def test_the_float64_twin_computes_what_a_network_built_in_float64_computes(normalization):
    asked = config(normalization=normalization, n_layers=2, attention_mixing=0.5)
    single = built(asked, dtype=torch.float32)
    weights = {name: parameter.detach().double() for name, parameter in single.named_parameters()}
    double = answers(asked.hooked(ADDITION.reads, weights, torch.float64))
    twin = answers(in_float64(single))
    assert twin.dtype == torch.float64
    torch.testing.assert_close(twin, double, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(twin, answers(single).double(), rtol=1e-4, atol=1e-4)
    assert not torch.equal(twin, answers(single).double())


def test_the_float64_twin_keeps_the_users_hooks_and_is_independent_of_its_original():
    single = built(config(), dtype=torch.float32)
    untouched = answers(single)
    single.add_hook("blocks.0.hook_mlp_out", lambda tensor, hook: tensor * 0)
    edited = answers(single)
    twin = in_float64(single)
    torch.testing.assert_close(answers(twin), edited.double(), rtol=1e-4, atol=1e-4)
    single.reset_hooks()
    assert torch.equal(answers(single), untouched)
    torch.testing.assert_close(answers(twin), edited.double(), rtol=1e-4, atol=1e-4)
    twin.reset_hooks()
    torch.testing.assert_close(answers(twin), untouched.double(), rtol=1e-4, atol=1e-4)
    with torch.no_grad():
        twin.W_E.zero_()
    assert torch.equal(answers(single), untouched)


def test_the_float64_twin_takes_the_float32_activations_that_a_users_hook_puts_in_place():
    single = built(config(), dtype=torch.float32)
    _, cache = single.run_with_cache(ADDITION.inputs.flip(0))
    single.add_hook("blocks.0.hook_attn_out", lambda tensor, hook: cache[hook.name])
    patched = answers(single)
    twin = answers(in_float64(single))
    assert twin.dtype == torch.float64
    torch.testing.assert_close(twin, patched.double(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_network_is_in_evaluation_mode_and_in_the_dtype_asked_for(dtype):
    model = built(config(normalization="LN"), dtype=dtype)
    assert not model.training
    assert {parameter.dtype for parameter in model.parameters()} == {dtype}
    assert answers(model).dtype == dtype
