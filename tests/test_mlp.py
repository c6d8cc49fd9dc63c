"""Multilayer perceptrons: the formula written out, hooks that count, and a View that takes them like any
other network."""

from __future__ import annotations

import functools
import inspect

import numpy as np
import pytest
import torch
from torch import Tensor

import grokinterp as gi
from grokinterp import controls
from grokinterp.errors import ConfigError, NotApplicable, UsageError
from grokinterp.models import (
    MLPConfig,
    ModelConfig,
    at_answer,
    in_float64,
    is_bias,
    network_config,
)
from grokinterp.report import page
from grokinterp.tasks import Task, make_task
from grokinterp.training import TrainConfig, Trainer
from test_foreign import stored

ADDITION = make_task("modular_addition", p=13)
KINDS = [
    MLPConfig(embedding=embedding, act_fn=act_fn, biases=biases, d_out=d_out, d_model=8, d_mlp=20)
    for embedding, act_fn, biases, d_out in [
        ("separate", "relu", False, None),
        ("separate", "gelu", True, 6),
        ("shared", "relu", True, None),
        ("shared", "square", False, 6),
        ("shared", "relu", "in", 6),
        ("one_hot", "square", False, None),
        ("one_hot", "relu", True, 6),
    ]
]


def name_of(config: MLPConfig) -> str:
    return f"{config.embedding}-{config.act_fn}-{config.biases}-{config.d_out}"


kinds = pytest.mark.parametrize("config", KINDS, ids=name_of)


def random_weights(config: MLPConfig, task: Task = ADDITION, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(shape, generator=generator, dtype=torch.float64) / shape[0] ** 0.5
        for name, shape in config.shapes(task.reads).items()
    }


def by_hand(config: MLPConfig, w: dict[str, Tensor], a: Tensor, b: Tensor) -> Tensor:
    """With one-hot vectors and full matrices, biases as they come."""
    zero = torch.zeros(1, dtype=torch.float64)
    one_hot = torch.eye(
        len(w["blocks.0.mlp.W_in"]) // 2 if config.embedding == "one_hot" else 999, dtype=torch.float64
    )
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
@pytest.mark.parametrize(
    "task", [ADDITION, make_task("modular_addition", p=7, layout="b op a =")], ids=["a b =", "b op a ="]
)
def test_logits_are_those_of_the_formula(config, task):
    weights = random_weights(config, task)
    model = config.hooked(task.reads, weights, torch.float64)
    a, b = task.pairs.unbind(1)
    with torch.no_grad():
        logits = model(task.inputs)
    assert logits.shape == (task.n_inputs, 1, task.n_answers)
    torch.testing.assert_close(logits[:, 0], by_hand(config, weights, a, b), rtol=1e-12, atol=1e-12)


@kinds
def test_parameters_have_the_names_and_shapes_that_were_asked_for(config):
    model = config.hooked(ADDITION.reads, random_weights(config))
    assert {name: tuple(weight.shape) for name, weight in model.named_parameters()} == config.shapes(
        ADDITION.reads
    )
    assert all(weight.dtype == torch.float32 for weight in model.parameters())
    assert not model.training


@kinds
def test_every_hook_changes_the_logits(config):
    model = config.hooked(ADDITION.reads, random_weights(config), torch.float64)
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
    _, cache = config.hooked(ADDITION.reads, weights, torch.float64).run_with_cache(ADDITION.inputs)
    before, after = cache["blocks.0.mlp.hook_pre"], cache["blocks.0.mlp.hook_post"]
    torch.testing.assert_close(
        before, cache["hook_embed"] @ weights["blocks.0.mlp.W_in"] + weights["blocks.0.mlp.b_in"]
    )
    torch.testing.assert_close(after, torch.nn.functional.gelu(before))
    torch.testing.assert_close(
        cache["blocks.0.hook_mlp_out"], after @ weights["blocks.0.mlp.W_out"] + weights["blocks.0.mlp.b_out"]
    )
    assert after.shape == (ADDITION.n_inputs, 1, config.d_mlp)


@kinds
def test_a_copy_computes_in_float64_and_leaves_the_network_as_it_is(config):
    model = config.hooked(ADDITION.reads, random_weights(config))
    twin = in_float64(model)
    assert twin(ADDITION.inputs).dtype == torch.float64
    assert model(ADDITION.inputs).dtype == torch.float32
    torch.testing.assert_close(twin(ADDITION.inputs).float(), model(ADDITION.inputs), rtol=1e-4, atol=1e-4)


@kinds
def test_a_view_shows_its_parts(config):
    weights = random_weights(config)
    view = gi.view(config.hooked(ADDITION.reads, weights, torch.float64), ADDITION)
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
    model = config.hooked(ADDITION.reads, random_weights(config))
    model.add_hook("blocks.0.mlp.hook_post", lambda tensor, hook: torch.zeros_like(tensor))
    assert gi.view(model, ADDITION).logits.abs().max() == 0


SMALL: dict[str, dict[str, object]] = {
    "doshi": {"task.p": 23, "model.d_mlp": 150, "training.fraction": 0.7},
    "concat_mlp": {
        "task.p": 23,
        "model.d_model": 32,
        "model.d_out": 32,
        "model.d_mlp": 64,
        "training.fraction": 0.8,
    },
    "chughtai_mlp": {"task.p": 23, "model.d_model": 32, "model.d_mlp": 64, "training.fraction": 0.7},
}
"""Overrides that make the three networks small, and quick to learn something of their task."""


def small(preset: str) -> TrainConfig:
    return TrainConfig.preset(
        preset,
        threads=1,
        **SMALL[preset],
        **{
            "training.steps": 300,
            "training.lr": 1e-2,
            "training.evaluate_every": 100,
            "snapshots.every": 150,
        },
    )


@functools.cache
def trained(preset: str) -> gi.View:
    trainer = Trainer(small(preset))
    *_, last = trainer
    return gi.View.of_weights(trainer.task, trainer.config.model, last.weights, last.step, trainer.split)


@pytest.mark.parametrize("preset", SMALL)
def test_bare_weights_measure_as_the_hooked_network_does(preset):
    view = trained(preset)
    assert view._config is not None
    hooked = gi.view(
        view._config.hooked(view.task.reads, view.weights, torch.float64), view.task, split=view.split
    )
    for name in (
        "loss",
        "accuracy",
        "neuron.explained_variance",
        "ipr.real",
        "logit_cosine",
        "ablation.mlp",
        "pruning.lowest_ipr",
    ):
        np.testing.assert_allclose(gi.measure(name, view), gi.measure(name, hooked), rtol=1e-6, atol=1e-9)
    assert view.act_fn == hooked.act_fn
    assert (view.n_layers, view.is_normalised) == (hooked.n_layers, hooked.is_normalised) == (1, False)


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
    [
        lambda config=config: gi.view(config.hooked(ADDITION.reads, random_weights(config)), ADDITION)
        for config in KINDS
    ]
    + [lambda preset=preset: trained(preset) for preset in SMALL]
    + [lambda: controls.gromov(13, 120)],
    ids=[*map(name_of, KINDS), *SMALL, "gromov"],
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
        assert (
            reasons["gradient_symmetricity"]
            == "a and b have no embedding in common, so the gradients by them cannot be compared"
        )


def test_weights_that_do_not_fit_are_named():
    weights = random_weights(KINDS[0])
    weights["unembed.W_U"] = weights["unembed.W_U"][:, :5]
    with pytest.raises(
        UsageError, match=r"unembed.W_U has shape \(20, 5\), the configuration asks for \(20, 13\)"
    ):
        KINDS[0].hooked(ADDITION.reads, weights)


def test_fewer_logits_than_answers_are_refused_and_more_are_left_out():
    with pytest.raises(UsageError, match=r"model\.d_vocab_out: 5 logits are fewer than the 13 answers"):
        MLPConfig(d_vocab_out=5).shapes(ADDITION.reads)
    config = MLPConfig(d_vocab_out=14, d_model=8, d_mlp=20)
    view = gi.view(config.hooked(ADDITION.reads, random_weights(config)), ADDITION)
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
    view = gi.view(config.hooked(task.reads, {ours: w[theirs] for ours, theirs in names.items()}), task)
    assert float(gi.measure("accuracy", view).sel(part="all")) == 1
    assert 0 < float(gi.measure("loss", view).sel(part="all")) < 1e-4
    assert (
        round(gi.measure("logit_fve.centred", view), 3) == 0.937
    )  # .93678 of its key representations, in the README beside the file
    # No attention, and yet no pizza: every circle alone is nearer to a clock.
    assert (gi.measure("clock_fit.fourier", view) > gi.measure("pizza_fit.fourier", view)).all()


# Trained


@kinds
@pytest.mark.parametrize(
    "task", [ADDITION, make_task("modular_division", p=7, layout="b op a =")], ids=["a b =", "b op a ="]
)
def test_the_short_forward_gives_the_logits_neurons_and_gradients_of_the_hooked_network(config, task):
    weights = {name: weight.requires_grad_() for name, weight in random_weights(config, task).items()}
    model = config.hooked(task.reads, weights, torch.float64)
    expected, cache = model.run_with_cache(task.inputs)
    seen: dict[str, Tensor] = {}
    found = config.logits(weights, config.read(task.inputs, task.reads), task.reads, seen)
    torch.testing.assert_close(found, expected[:, 0], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(
        seen["blocks.0.mlp.hook_post"], cache["blocks.0.mlp.hook_post"][:, 0], rtol=1e-12, atol=1e-12
    )
    at_once = at_answer(config, task.reads, weights, task.inputs)
    assert at_once.keys() == {"logits", *seen}
    torch.testing.assert_close(at_once["logits"], expected[:, 0].detach(), rtol=1e-12, atol=1e-12)

    parameters = dict(model.named_parameters())
    theirs = dict(
        zip(parameters, torch.autograd.grad(expected.tanh().sum(), parameters.values()), strict=True)
    )
    ours = dict(zip(weights, torch.autograd.grad(found.tanh().sum(), weights.values()), strict=True))
    for name, gradient in theirs.items():
        torch.testing.assert_close(
            ours[name], gradient, rtol=1e-10, atol=1e-10, msg=lambda text, name=name: f"{name}: {text}"
        )


def test_biases_are_none_those_of_the_neurons_or_all():
    names = {
        said: {
            name.rsplit(".", 1)[-1]
            for name in MLPConfig(d_out=6, biases=said).shapes(ADDITION.reads)
            if is_bias(name)
        }
        for said in (False, "none", "in", True, "all")
    }
    assert names[False] == names["none"] == set()
    assert names["in"] == {"b_in"}
    assert names[True] == names["all"] == {"b_in", "b_out", "b_U"}
    assert MLPConfig(biases=True) == MLPConfig(biases="all")
    assert (
        network_config({"kind": "mlp", "biases": False}).biases == "none"
    )  # as runs that were imported before say it


def simple_mlp(p: int, d_model: int, d_mlp: int) -> dict[str, Tensor]:
    """As SimpleMLP of neural-circuit-lab draws its matrices, in its order, and turned to ours."""
    draw = {"W_E": (d_model, p), "W_in": (d_mlp, 2 * d_model), "W_out": (d_model, d_mlp), "W_U": (d_model, p)}
    fans = {"W_E": d_model, "W_in": 2 * d_model, "W_out": d_model, "W_U": p}
    drawn = {name: torch.randn(shape) / np.sqrt(fans[name]) for name, shape in draw.items()}
    ours = {
        "embed.W_E": drawn["W_E"].T,
        "blocks.0.mlp.W_in": drawn["W_in"].T,
        "blocks.0.mlp.b_in": torch.zeros(d_mlp),
    }
    return ours | {"blocks.0.mlp.W_out": drawn["W_out"].T, "unembed.W_U": drawn["W_U"]}


def doshis(p: int, d_mlp: int) -> dict[str, Tensor]:
    """As their class draws them: torch's own initialisation of two layers, then normal numbers over it."""
    first, second = torch.nn.Linear(2 * p, d_mlp, bias=False), torch.nn.Linear(d_mlp, p, bias=False)
    for layer in (first, second):
        torch.nn.init.normal_(layer.weight, mean=0.0, std=0.5 / np.power(2 * d_mlp, 1 / 3))
    return {"blocks.0.mlp.W_in": first.weight.detach().T, "unembed.W_U": second.weight.detach().T}


def chughtais(p: int, d_model: int, d_mlp: int) -> dict[str, Tensor]:
    shapes = {
        "embed_a.W_E": (p, d_model),
        "embed_b.W_E": (p, d_model),
        "blocks.0.mlp.W_in": (2 * d_model, d_mlp),
        "unembed.W_U": (d_mlp, p),
    }
    fans = {"blocks.0.mlp.W_in": 2 * d_model, "unembed.W_U": d_mlp}
    return {name: torch.randn(shape) / np.sqrt(fans.get(name, d_model)) for name, shape in shapes.items()}


@pytest.mark.parametrize(
    ("preset", "theirs"),
    [
        ("concat_mlp", lambda: simple_mlp(97, 128, 512)),
        ("doshi", lambda: doshis(97, 500)),
        ("chughtai_mlp", lambda: chughtais(113, 256, 128)),
    ],
)
@pytest.mark.parametrize("seed", [0, 1])
def test_a_seed_draws_the_weights_that_the_published_code_draws(preset, theirs, seed):
    config = TrainConfig.preset(preset)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        expected = theirs()
    found = config.model.initial_weights(config.make_task().reads, seed)
    assert found.keys() == expected.keys()
    for name, weight in expected.items():
        torch.testing.assert_close(found[name], weight, rtol=1e-6, atol=1e-7)
        assert found[name].is_contiguous()


@kinds
@pytest.mark.parametrize("init", ["fan_in", "nanda", "gromov"])
def test_initial_weights_have_the_spread_that_their_recipe_says_and_biases_are_zero(config, init):
    asked = config.model_copy(update={"init": init, "d_model": 60, "d_mlp": 90, "d_out": config.d_out and 50})
    task = make_task("modular_addition", p=41)
    weights, shapes = asked.initial_weights(task.reads, 0), asked.shapes(task.reads)
    assert {name: tuple(weight.shape) for name, weight in weights.items()} == shapes
    rows = {"W_in": shapes["blocks.0.mlp.W_in"][0], "W_out": 90, "W_U": asked.d_out or 90, "W_E": 60}
    fans = rows if init == "fan_in" else {**rows, "W_out": 50, "W_U": 41}
    for name, weight in weights.items():
        last = name.rsplit(".", 1)[-1]
        if is_bias(name):
            assert not weight.any()
            continue
        spread = 0.5 / 180 ** (1 / 3) if init == "gromov" else fans[last] ** -0.5
        assert float(weight.std()) == pytest.approx(spread, rel=5 / (2 * weight.numel()) ** 0.5)
    louder = asked.model_copy(update={"init_scale": 3.0}).initial_weights(task.reads, 0)
    assert all(torch.equal(louder[name], 3 * weight) for name, weight in weights.items())


@pytest.mark.trains
def test_the_network_of_doshi_learns_its_task_from_half_of_the_table_in_a_hundred_epochs():
    *_, last = Trainer(TrainConfig.preset("doshi", **{"training.evaluate_every": 100}))
    assert (last.step, last.metrics["train_accuracy"], last.metrics["test_accuracy"]) == (100, 1, 1)
    # As in their notebook: `noisy_dataset` sets torch's seed to 0, so that the first weights that are drawn
    # are those of the preset.
    assert last.metrics["test_loss"] == pytest.approx(0.0010110767325386405, rel=0.01)
    assert last.metrics["train_loss"] == pytest.approx(0.00081, rel=0.05)  # theirs is of the step before


@pytest.mark.trains
@pytest.mark.parametrize("loss", ["mse", "cross_entropy"])
@kinds
def test_twenty_steps_are_those_of_a_plain_loop_over_the_hooked_network(config, loss):
    asked = TrainConfig.make(
        {
            "threads": 2,
            "task": {"name": "modular_addition", "p": 11},
            "model": config.model_dump(),
            "snapshots": {"events": []},
        },
        **{
            "training.loss": loss,
            "training.steps": 20,
            "training.evaluate_every": 20,
            "training.lr": 1e-2,
            "training.dtype": "float64",
        },
    )
    task = asked.make_task()
    rows = asked.make_split(task).train
    model = config.hooked(task.reads, config.initial_weights(task.reads, asked.seed), torch.float64)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2, betas=(0.9, 0.98), weight_decay=1.0)
    for _ in range(20):
        optimiser.zero_grad()
        logits, targets = model(task.inputs[rows])[:, 0], task.targets[rows]
        if loss == "mse":
            torch.nn.functional.mse_loss(logits, torch.nn.functional.one_hot(targets, 11).double()).backward()
        else:
            torch.nn.functional.cross_entropy(logits, targets).backward()
        optimiser.step()
    *_, last = Trainer(asked)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(last.weights[name].detach(), parameter.detach(), rtol=1e-6, atol=1e-9)


def test_a_preset_of_a_transformer_becomes_one_of_a_perceptron_and_back():
    for preset in ("quick", "nanda", "grokking_demo"):
        config = TrainConfig.preset(preset, **{"model.kind": "mlp"})
        theirs = TrainConfig.preset(preset).model
        assert config.model == MLPConfig(
            d_model=theirs.d_model, d_mlp=theirs.d_mlp, d_vocab_out=theirs.d_vocab_out, init=config.model.init
        )
    assert TrainConfig.preset("doshi", **{"model.kind": "transformer"}).model == ModelConfig(d_mlp=500)
    assert TrainConfig.preset("doshi", **{"model.kind": "mlp"}) == TrainConfig.preset("doshi")
    assert TrainConfig.preset("quick", model={"kind": "mlp", "d_mlp": 7}).model == MLPConfig(d_mlp=7)
    # What the user says himself is taken at its word.
    with pytest.raises(ConfigError, match=r"unknown key 'model\.n_heads'"):
        TrainConfig.preset("quick", **{"model.kind": "mlp", "model.n_heads": 2})
    with pytest.raises(ConfigError, match="did you mean 'mlp'"):
        TrainConfig.preset("quick", **{"model.kind": "mpl"})


@pytest.mark.parametrize("preset", SMALL)
def test_the_commands_train_resume_analyse_and_replay_it(preset, tmp_path, grokinterp):
    out = tmp_path / "run"
    flags = [f"--set={key}={value}" for key, value in {**SMALL[preset], "training.lr": 1e-2}.items()]
    train = [
        "train",
        "modular_addition",
        "--preset",
        preset,
        "--threads",
        "1",
        *flags,
        "--set",
        "snapshots.every=40",
        "--out",
        out,
    ]
    assert grokinterp(*train, "--set", "training.steps=80")[0] == 0
    code, shown, _ = grokinterp(*train, "--set", "training.steps=80")
    assert (code, gi.load_run(out).steps) == (0, sorted({0, *gi.load_run(out).steps, 40, 80}))
    assert "a + b mod 23" in shown
    code, shown, errors = grokinterp("analyze", out, "--all")
    assert (code, errors) == (0, "")
    assert "the network has no attention" in shown
    assert ("Squared error" in shown) == (preset == "doshi")
    assert grokinterp("replay", out)[0] == 0
    assert preset in grokinterp("list", "presets")[1]


@pytest.mark.parametrize("preset", SMALL)
def test_no_panel_of_its_report_is_empty(preset, tmp_path):
    report = gi.analyze(gi.train(small(preset), tmp_path, progress=False), with_replay=False)
    panels = [panel for section in page.sections(report.analysis) for panel in section.panels]
    assert "Pruned" in {panel.title for panel in panels}
    for panel in panels:
        assert panel.body.figure.data, panel.title
        for trace in panel.body.figure.data:
            sizes = [len(values) for values in (trace.x, getattr(trace, "z", None)) if values is not None]
            assert all(sizes), panel.title
    for section in page.sections(report.analysis):
        assert section.panels or section.missing
