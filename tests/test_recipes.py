"""What a recipe of training may have beside its learning rate: schedules, eps, label smoothing, dropout, tied
embeddings, and initial weights by name. Each against torch's or TransformerLens's own."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.optim import lr_scheduler

import grokinterp as gi
from grokinterp.errors import ConfigError, UsageError
from grokinterp.models import Weights
from grokinterp.models.base import deprecation_silenced
from grokinterp.models.initial import RECIPES
from grokinterp.training import BatchedTrainer, Trainer, TrainingConfig, kind
from grokinterp.training.optimizers import Optimiser, learning_rate


def tiny(**changes: Any) -> gi.TrainConfig:
    sizes = {"task.p": 7, "model.d_model": 8, "model.n_heads": 2, "model.d_mlp": 16, "threads": 1}
    how = {"training.steps": 6, "training.stop_when": None, "training.evaluate_every": 2}
    return gi.TrainConfig.preset("quick", **sizes | how | {"snapshots.log": None} | changes)


def trained(config: gi.TrainConfig) -> tuple[Trainer, list[dict[str, float]]]:
    trainer = Trainer(config)
    return trainer, [snapshot.metrics for snapshot in trainer if snapshot.metrics]


def contents(path: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*.*") if file.name != "lock"
    }


# Schedules and eps


SCHEDULES = {
    "none": lambda optimizer, left: lr_scheduler.ConstantLR(optimizer, 1.0),
    "linear": lambda optimizer, left: lr_scheduler.LinearLR(optimizer, 1.0, 0.0, left),
    "cosine": lambda optimizer, left: lr_scheduler.CosineAnnealingLR(optimizer, left),
}


@pytest.mark.parametrize("warmup", [0, 1, 4])
@pytest.mark.parametrize("decay", SCHEDULES)
def test_the_learning_rate_is_that_of_torchs_own_schedulers(decay, warmup):
    config = TrainingConfig(lr=0.3, steps=12, warmup=warmup, decay=decay)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.3)
    scheduler = SCHEDULES[decay](optimizer, 12 - warmup)
    expected = [0.3]
    for _ in range(12 - warmup):
        optimizer.step()
        scheduler.step()
        expected.append(scheduler.get_last_lr()[0])
    found = [learning_rate(config, step) for step in range(warmup, 13)]
    assert found == pytest.approx(expected, abs=1e-12)


def test_the_learning_rate_grows_as_torchs_own_linear_one():
    config = TrainingConfig(lr=0.3, steps=12, warmup=5, decay="cosine")
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.3)
    scheduler = lr_scheduler.LinearLR(optimizer, 1 / 5, 1.0, 4)
    for step in range(1, 6):
        assert learning_rate(config, step) == pytest.approx(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()


def test_constant_is_another_word_for_none():
    assert tiny(**{"training.decay": "constant"}) == tiny(**{"training.decay": "none"})


@pytest.mark.parametrize(("name", "theirs"), [("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW)])
def test_eps_is_that_of_torchs_own_optimisers(name, theirs):
    config = TrainingConfig(optimizer=name, lr=0.1, weight_decay=0.2, betas=(0.8, 0.9), eps=0.3)
    weight = torch.linspace(-1, 1, 6).reshape(2, 3)
    ours, reference = weight.clone(), weight.clone().requires_grad_()
    optimiser = Optimiser({"W": ours}, config)
    optimizer = theirs([reference], lr=0.1, weight_decay=0.2, betas=(0.8, 0.9), eps=0.3)
    for step in range(1, 5):
        gradient = weight.cos() * step
        optimiser.update(step, {"W": gradient.clone()})
        reference.grad = gradient.clone()
        optimizer.step()
    torch.testing.assert_close(ours, reference.detach())


# Label smoothing


WAYS = {
    "folded": {},
    "one layer": {"task.layout": "a b"},
    "autograd": {"model.normalization": "LN", "model.n_layers": 2},
    "in parts": {"training.accumulate": 3},
}


def by_autograd(trainer: Trainer, loss: Any, tied: bool = False) -> Weights:
    """The gradients of the mean training loss, by the plain forward and autograd alone."""
    model, reads = trainer.config.model, trainer.task.reads
    leaves = {name: weight.detach().clone().requires_grad_() for name, weight in trainer.weights.items()}
    weights = dict(leaves)
    if tied:
        weights["unembed.W_U"] = leaves["embed.W_E"].T
    rows = trainer.split.train
    value = loss(model.logits(weights, trainer.task.inputs[rows], reads), trainer.labels[rows])
    names = list(trainer._learning)
    return dict(zip(names, torch.autograd.grad(value, [leaves[name] for name in names]), strict=True))


@pytest.mark.parametrize("loss", ["cross_entropy", "log_softmax"])
@pytest.mark.parametrize("way", WAYS)
def test_smoothed_labels_are_learned_as_by_torchs_cross_entropy(way, loss):
    smoothed = {"training.label_smoothing": 0.3, "training.loss": loss, "training.dtype": "float64"}
    trainer = Trainer(tiny(**WAYS[way], **smoothed))
    expected = by_autograd(trainer, lambda *both: F.cross_entropy(*both, label_smoothing=0.3))
    found = trainer._examples.gradients(None)
    assert found.keys() == expected.keys()
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, expected[name], msg=lambda text, name=name: f"{name}: {text}")


def test_recorded_losses_of_smoothed_labels_are_those_of_the_labels_alone():
    (plain, smoothed) = (trained(tiny(**{"training.label_smoothing": s}))[1] for s in (0, 0.3))
    assert smoothed[0] == plain[0]
    assert smoothed[-1] != plain[-1]
    trainer, metrics = trained(tiny(**{"training.label_smoothing": 0.3}))
    logits = trainer.config.model.logits(trainer.weights, trainer.task.inputs, trainer.task.reads)
    rows = trainer.split.train
    own = F.cross_entropy(logits[rows], trainer.labels[rows])
    assert metrics[-1]["train_loss"] == pytest.approx(own.item(), rel=1e-5)


# Tied embeddings


TIED = {"model.tied": True}


@pytest.mark.parametrize("way", WAYS)
def test_a_tied_embedding_learns_by_both_of_its_uses(way):
    trainer = Trainer(tiny(**WAYS[way], **TIED, **{"training.dtype": "float64"}))
    assert "unembed.W_U" not in trainer._learning
    expected, found = by_autograd(trainer, F.cross_entropy, tied=True), trainer._examples.gradients(None)
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, expected[name], msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("way", WAYS)
def test_both_names_of_a_tied_embedding_are_one_in_every_snapshot_of_a_run(tmp_path, way):
    run = gi.train(tiny(**WAYS[way], **TIED, **{"snapshots.every": 3}), tmp_path, progress=False)
    before = run.state_dict(0)["embed.W_E"]
    for step in run.steps:
        weights = run.state_dict(step)
        assert torch.equal(weights["unembed.W_U"], weights["embed.W_E"].T)
        assert step == 0 or not torch.equal(weights["embed.W_E"], before)
    assert all(problem is None for _, problem in run.verify())
    view = run.view(-1)
    classes = view.logits.shape[1]
    logits = run.model(-1)(run.task.inputs)[:, -1, :].detach()
    torch.testing.assert_close(view.logits, logits[:, :classes])
    assert run.model(-1).cfg.d_vocab_out == run.task.reads.d_vocab
    assert run.history["test_loss"].iloc[-1] == pytest.approx(
        float(gi.measure("loss", view).sel(part="test")), rel=1e-4
    )


def test_a_stack_of_tied_networks_learns_what_each_learns_alone():
    configs = [tiny(seed=seed, **TIED, **{"training.dtype": "float64"}) for seed in (0, 1)]
    batch = BatchedTrainer(configs)
    stacked = [event for _, event in batch]
    assert stacked
    for config, member in zip(configs, batch.members, strict=True):
        alone, _ = trained(config)
        for name, weight in member.weights.items():
            if ".b_" not in name:
                torch.testing.assert_close(weight.detach(), alone.weights[name].detach(), msg=name)


def test_what_is_not_tied_is_refused(tmp_path):
    plain = gi.train(tiny(**{"model.d_vocab_out": 8}), tmp_path / "plain", progress=False)
    with pytest.raises(ConfigError, match=r"unembed\.W_U is not embed\.W_E transposed"):
        gi.train(tiny(**TIED), tmp_path / "tied", start=plain, progress=False)
    with pytest.raises(UsageError, match="so there are 8 logits, one of each token, and 9 are asked for"):
        Trainer(tiny(**TIED, **{"model.d_vocab_out": 9}))


def test_a_tied_network_starts_another_that_is_tied(tmp_path):
    first = gi.train(tiny(**TIED), tmp_path / "first", progress=False)
    run = gi.train(tiny(**TIED), tmp_path / "second", start=first, progress=False)
    for name, weight in run.state_dict(0).items():
        assert torch.equal(weight, first.state_dict(-1)[name]), name


# Dropout


@pytest.mark.parametrize("way", ["folded", "one layer", "autograd"])
def test_dropout_is_where_it_is_said_to_be(way):
    """With a constant in place of what is drawn, at the hooks of the hooked network."""
    config = tiny(**WAYS[way], **{"model.dropout": 0.5})
    task = config.make_task()
    weights = config.model.initial_weights(task.reads, seed=3)
    found = config.model.logits_dropped(weights, task.inputs, task.reads, lambda x: x * 0.7)
    hooked = config.model.hooked(task.reads, weights)
    places = ("hook_embed", "hook_pos_embed", "attn.hook_pattern", "hook_attn_out", "hook_mlp_out")
    hooks = [
        (name, lambda x, hook: x * 0.7)
        for name in hooked.hook_dict
        if any(name == place or name.endswith(f".{place}") for place in places)
    ]
    assert len(hooks) == 2 + 3 * config.model.n_layers
    expected = hooked.run_with_hooks(task.inputs, fwd_hooks=hooks)[:, -1]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_what_is_dropped_is_the_share_that_was_asked_for_and_the_rest_makes_up_for_it():
    from grokinterp.training.scaled import _Drop

    ones = torch.ones(200, 300)
    drop = _Drop(0.3, ones.device, 0, 5, 960)
    found = drop(ones)
    share, n = (found == 0).double().mean().item(), ones.numel()
    assert abs(share - 0.3) < 5 * math.sqrt(0.3 * 0.7 / n)
    assert found[found > 0].unique().tolist() == pytest.approx([1 / 0.7])
    assert not torch.equal(found, drop(ones))
    assert torch.equal(found, _Drop(0.3, ones.device, 0, 5, 960)(ones))
    assert not torch.equal(found, _Drop(0.3, ones.device, 0, 6, 960)(ones))


def test_evaluations_are_without_dropout_and_updates_are_not():
    (plain, dropped) = (trained(tiny(**{"model.dropout": share}))[1] for share in (0, 0.4))
    without_gradient = [
        {key: x for key, x in one.items() if key != "grad_norm"} for one in (plain[0], dropped[0])
    ]
    assert without_gradient[0] == pytest.approx(without_gradient[1], rel=1e-5)
    assert plain[-1]["train_loss"] != pytest.approx(dropped[-1]["train_loss"], rel=1e-3)
    trainer, metrics = trained(tiny(**{"model.dropout": 0.4}))
    view = trainer._view()
    assert metrics[-1]["train_loss"] == pytest.approx(
        float(gi.measure("loss", view).sel(part="train")), rel=1e-4
    )


@pytest.mark.parametrize(
    "way", [{}, {"training.batch_size": 5}, {"training.accumulate": 2}, {"training.dtype": "bfloat16"}]
)
def test_dropout_is_the_same_at_any_number_of_threads_and_after_an_interruption(tmp_path, way):
    config = tiny(**way, **{"model.dropout": 0.2, "task.p": 47, "training.steps": 4})
    gi.train(config, tmp_path / "whole", progress=False)
    gi.train(config.changed(**{"training.steps": 2}), tmp_path / "on", progress=False)
    gi.train(config.changed(threads=3), tmp_path / "on", progress=False)
    assert contents(tmp_path / "on") == contents(tmp_path / "whole")


def test_a_network_with_dropout_is_not_stacked_and_says_that_it_is_slower(grokinterp, tmp_path):
    assert kind(tiny(**{"model.dropout": 0.1})) is None
    assert kind(tiny()) is not None
    sizes = ["--p", "7", "--set", "model.d_model=8", "--steps", "2", "--threads", "1"]
    words = ["train", "modular_addition", "--preset", "quick", *sizes, "--out", tmp_path]
    code, out, err = grokinterp(*words, "--set", "model.dropout=0.1")
    assert code == 0, err
    assert "by the plain forward, which is slower: with dropout" in out


# Going on


@pytest.mark.parametrize(
    "recipe",
    [
        {"training.decay": "linear", "training.warmup": 4},
        {"training.decay": "cosine", "training.warmup": 2, "training.eps": 1e-4},
        {"training.label_smoothing": 0.1, "training.batch_size": 5},
        {"model.tied": True, "training.optimizer": "muon"},
        {"model.tied": True, "model.dropout": 0.3, "training.batch_size": 5},
    ],
)
def test_a_recipe_goes_on_from_a_state_to_the_same_bytes(recipe):
    config = tiny(**recipe, **{"training.evaluate_every": 1})
    whole, _ = trained(config)
    for step in (1, 3):
        trainer = Trainer(config)
        state = next(trainer.state() for snapshot in trainer if snapshot.step == step)
        assert all(tensor.is_contiguous() for tensor in state.tensors.values())
        on = Trainer(config, state)
        for _ in on:
            pass
        for name, weight in on.weights.items():
            assert torch.equal(weight, whole.weights[name]), name


# Keys that are absent, and those that say nothing


def test_a_key_that_says_nothing_is_as_if_it_were_absent():
    nothing = {"model.dropout": 0, "model.tied": False, "training.label_smoothing": 0.0}
    nothing |= {"training.temperature": 1, "training.orthogonal_gradient": False, "training.grokfast": None}
    assert tiny(**nothing) == tiny()
    keys = {"dropout", "tied", "label_smoothing", "eps", "temperature", "orthogonal_gradient", "norm_clamp"}
    keys |= {"grokfast", "grokfast_alpha", "grokfast_lamb", "grokfast_window"}
    written = tiny().model_dump(mode="json", exclude_none=True)
    assert not keys & {*written["model"], *written["training"]}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"training.eps": 1e-6, "training.optimizer": "sgd"}, "training.eps: sgd has none"),
        (
            {"training.label_smoothing": 0.1, "training.loss": "mse"},
            "mse has no classes to spread a label over",
        ),
        ({"training.label_smoothing": 1.5}, "training.label_smoothing"),
        ({"model.dropout": 1.0}, "model.dropout"),
        ({"model.dropout": True}, "model.dropout: takes no yes or no"),
    ],
)
def test_a_key_that_would_do_nothing_is_refused(changes, said):
    with pytest.raises(ConfigError, match=said):
        tiny(**changes)


# Initial weights


@pytest.mark.parametrize(
    "init", ["gpt2", "xavier_uniform", "xavier_normal", "kaiming_uniform", "kaiming_normal"]
)
def test_initial_weights_are_those_of_a_hooked_transformer(init):
    lens = pytest.importorskip("transformer_lens")
    if not hasattr(lens, "HookedTransformer"):
        pytest.skip("this TransformerLens has no HookedTransformer")
    config = tiny(**{"model.init": init, "model.n_layers": 2}).model
    task = tiny().make_task()
    shape = {"d_vocab": task.reads.d_vocab, "d_vocab_out": task.reads.n_logits, "n_ctx": task.reads.n_ctx}
    sizes = {"n_layers": 2, "d_model": 8, "n_heads": 2, "d_head": 4, "d_mlp": 16, "act_fn": "relu"}
    cfg = lens.HookedTransformerConfig(
        **shape, **sizes, normalization_type=None, init_mode=init, seed=3, device="cpu"
    )
    with deprecation_silenced():
        theirs = dict(lens.HookedTransformer(cfg).named_parameters())
    ours = config.initial_weights(task.reads, seed=3)
    for name, weight in ours.items():
        assert torch.equal(weight, theirs[name]), name


def _of_linear(name: str, shape: tuple[int, ...], d_model: int) -> tuple[Tensor, Any]:
    """What torch's own modules hold of a matrix, and how TransformerLens 4 lays it out here."""
    last = name.rsplit(".", 1)[-1]
    if last in ("W_E", "W_pos"):
        return torch.nn.Embedding(*shape).weight, lambda x: x
    if last == "W_O":
        return torch.nn.Linear(shape[0] * shape[1], d_model).weight, lambda x: x.T.reshape(shape)
    if len(shape) == 3:
        heads, _, d_head = shape
        return torch.nn.Linear(d_model, heads * d_head).weight, lambda x: x.reshape(heads, d_head, -1).mT
    return torch.nn.Linear(*shape).weight, lambda x: x.T


@pytest.mark.parametrize("init", [name for name in RECIPES if name.startswith("native_")])
def test_initial_weights_are_those_of_the_native_network_of_transformer_lens_4(init):
    """By torch's own functions, applied to torch's own modules in the order in which it goes through them."""
    config = tiny(**{"model.init": init, "model.n_layers": 2}).model
    task = tiny().make_task()
    ours = config.initial_weights(task.reads, seed=3)
    generator = torch.Generator().manual_seed(3)
    inside = [f"attn.W_{letter}" for letter in "QKVO"] + ["mlp.W_in", "mlp.W_out"]
    order = ["embed.W_E", "pos_embed.W_pos"]
    order += [f"blocks.{layer}.{name}" for layer in (0, 1) for name in inside]
    for name in [*order, "unembed.W_U"]:
        tensor, laid = _of_linear(name, tuple(ours[name].shape), 8)
        how = init.removeprefix("native_")
        with torch.no_grad():
            if how == "gpt2":
                writes = name.endswith(("W_O", "W_out"))
                std = 0.8 / math.sqrt(8) * (1 / math.sqrt(2 * 2) if writes else 1)
                torch.nn.init.normal_(tensor, 0.0, std, generator=generator)
            elif how.startswith("kaiming"):
                function = getattr(torch.nn.init, f"{how}_")
                function(tensor, nonlinearity="relu", generator=generator)
            else:
                getattr(torch.nn.init, f"{how}_")(tensor, generator=generator)
        torch.testing.assert_close(ours[name], laid(tensor).detach(), msg=name)
