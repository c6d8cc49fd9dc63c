"""Recipes that are said to make grokking come sooner, each against a few lines of its own that follow the
paper, and by every way to learn."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import grokinterp as gi
from grokinterp.errors import ConfigError
from grokinterp.training import TrainConfig, Trainer, TrainingConfig
from grokinterp.training.loss import LOSSES, LOSSES_AND_GRADIENTS, losses_and_gradient
from grokinterp.training.optimizers import Optimiser
from grokinterp.training.recipes import orthogonal
from test_recipes import WAYS, by_autograd, tiny, trained

SGD = {"optimizer": "sgd", "lr": 0.5, "weight_decay": 0.0, "betas": (0.0, 0.9)}


def weights() -> dict[str, Tensor]:
    return {"W": torch.tensor([[1.0, 2.0], [0.0, -1.0]]).double(), "b": torch.tensor([3.0, 4.0]).double()}


def gradients(step: int) -> dict[str, Tensor]:
    return {"W": torch.tensor([[1.0, 0.0], [2.0, step]]).double(), "b": torch.tensor([step, 1.0]).double()}


def updated(steps: int, **keys: Any) -> dict[str, Tensor]:
    """The weights after so many updates with these gradients."""
    learned = weights()
    optimiser = Optimiser(learned, TrainingConfig(**SGD | keys))
    for step in range(1, steps + 1):
        optimiser.update(step, gradients(step))
    return learned


# Two steps by hand


def test_two_steps_of_grokfast_ema_are_those_of_its_recurrence():
    found = updated(2, grokfast="ema", grokfast_alpha=0.75, grokfast_lamb=3.0)["b"]
    first, second = torch.tensor([1.0, 1.0]).double(), torch.tensor([2.0, 1.0]).double()
    slow = 0.75 * first + 0.25 * second  # the first average is the first gradient
    expected = torch.tensor([3.0, 4.0]) - 0.5 * (first + 3 * first) - 0.5 * (second + 3 * slow)
    torch.testing.assert_close(found, expected)
    assert found.tolist() == [3 - 0.5 * 4 - 0.5 * (2 + 3 * 1.25), 4 - 0.5 * 4 - 0.5 * 4]


def test_grokfast_ma_adds_the_mean_of_the_last_gradients_once_there_are_so_many():
    found = updated(4, grokfast="ma", grokfast_window=3, grokfast_lamb=2.0)["b"]
    entries = [1.0, 2.0, 3.0 + 2 * (1 + 2 + 3) / 3, 4.0 + 2 * (2 + 3 + 4) / 3]
    assert found[0].item() == pytest.approx(3 - 0.5 * sum(entries))
    assert found[1].item() == pytest.approx(4 - 0.5 * (1 + 1 + 3 + 3))


def test_what_grokfast_takes_where_nothing_is_given_is_what_its_authors_code_has():
    same = {"ema": {"grokfast_alpha": 0.98, "grokfast_lamb": 2.0}, "ma": {"grokfast_lamb": 5.0}}
    for kind, keys in same.items():
        window = {"grokfast_window": 2} if kind == "ma" else {}
        for name, weight in updated(3, grokfast=kind, **window).items():
            assert torch.equal(weight, updated(3, grokfast=kind, **window, **keys)[name])
    assert TrainingConfig(grokfast="ma").grokfast_setting("window") == 100


def test_two_steps_of_orthogonal_gradients_are_those_written_out():
    """Of b: at [3, 4] of [1, 1] is left [1, 1] - 7/25 [3, 4] = [4, -3] / 25, as long as [1, 1] was."""
    found = updated(1, orthogonal_gradient=True)["b"]
    expected = torch.tensor([3.0, 4.0]).double() - 0.5 * 2**0.5 * torch.tensor([0.8, -0.6]).double()
    torch.testing.assert_close(found, expected)
    plain = weights()
    for step in (1, 2):
        for name, g in gradients(step).items():
            w = plain[name].flatten()
            left = g.flatten() - w * (w @ g.flatten()) / (w @ w)
            plain[name] -= 0.5 * (left * g.norm() / left.norm()).view_as(g)
    for name, weight in updated(2, orthogonal_gradient=True).items():
        torch.testing.assert_close(weight, plain[name])


def test_an_orthogonal_gradient_has_no_share_of_the_weight_and_its_own_length():
    generator = torch.Generator().manual_seed(0)
    w, g = (torch.randn(5, 4, 3, generator=generator) for _ in range(2))
    found = g.clone()
    orthogonal({"W": w}, {"W": found}, stacked=True)
    assert ((found * w).sum((1, 2)) / (w.norm() * g.norm())).abs().max() < 1e-7
    torch.testing.assert_close(found.flatten(1).norm(dim=1), g.flatten(1).norm(dim=1))


def test_where_nothing_is_orthogonal_rounding_is_not_scaled_up():
    for weight in (torch.tensor([0.1]), torch.tensor([0.3, 0.7, 0.1])):
        gradient = {"b": weight * 0.7}
        orthogonal({"b": weight}, gradient)
        assert not gradient["b"].any()
    zero = {"b": torch.tensor([1.0, 2.0])}
    orthogonal({"b": torch.zeros(2)}, zero)
    torch.testing.assert_close(zero["b"], torch.tensor([1.0, 2.0]))


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "muon"])
def test_the_norm_of_all_weights_is_held_and_directions_are_those_of_the_optimiser(optimizer):
    if optimizer == "muon" and not hasattr(torch.optim, "Muon"):
        pytest.skip("torch has Muon from 2.9 on")
    plain = updated(1, optimizer=optimizer)
    norm = {
        "first": (1 + 4 + 1 + 9 + 16) ** 0.5,
        "then": sum(w.square().sum() for w in plain.values()) ** 0.5,
    }
    for name, weight in updated(1, optimizer=optimizer, norm_clamp=0.8).items():
        torch.testing.assert_close(weight, plain[name] * (0.8 * norm["first"] / norm["then"]))
    held = updated(5, optimizer=optimizer, norm_clamp=0.8)
    assert sum(w.square().sum() for w in held.values()) ** 0.5 == pytest.approx(0.8 * 31**0.5)


def test_clipping_comes_before_what_is_slow_is_added():
    found = updated(2, grokfast="ema", grokfast_lamb=1.0, grokfast_alpha=0.5, clip=1.0)["b"]
    kept = []
    for step in (1, 2):
        each = gradients(step)
        norm = sum(float(g.square().sum()) for g in each.values()) ** 0.5
        kept.append(each["b"] / (norm + 1e-6))
    expected = torch.tensor([3.0, 4.0]) - 0.5 * 2 * kept[0] - 0.5 * (kept[1] + (kept[0] + kept[1]) / 2)
    torch.testing.assert_close(found, expected)


# The losses


def test_stablemax_is_the_cross_entropy_of_its_own_probabilities():
    """s(0) = 1, s(1) = 2, s(-1) = 1/2."""
    logits, targets = torch.tensor([[0.0, 1.0, -1.0]]).double().expand(3, 3), torch.arange(3)
    expected = -torch.tensor([1 / 3.5, 2 / 3.5, 0.5 / 3.5]).double().log()
    torch.testing.assert_close(LOSSES["stablemax"](logits, targets), expected)
    losses, by_logit = LOSSES_AND_GRADIENTS["stablemax"](logits[:1], targets[:1], 1.0)
    # d(-log s_0 + log sum): -1/1 + 1/3.5; 1/3.5; (1/4) / 3.5
    torch.testing.assert_close(by_logit, torch.tensor([[1 / 3.5 - 1, 1 / 3.5, 0.25 / 3.5]]).double())
    assert losses.item() == pytest.approx(expected[0].item())


def test_stablemax_keeps_its_digits_and_its_gradient_where_a_logit_is_one_or_the_loss_is_small():
    logits = torch.tensor([[1.0, 0.0, 2.0], [1e9, 0.0, 0.0], [0.0, -3e4, -1e9]], requires_grad=True)
    targets = torch.tensor([0, 0, 0])
    exact = logits.detach().double()
    s = torch.where(exact < 0, 1 / (1 - exact), exact + 1)
    expected = (s[:, 1:].sum(1) / s[:, 0]).log1p()
    found = LOSSES["stablemax"](logits, targets)
    torch.testing.assert_close(found.double(), expected, rtol=1e-6, atol=0)
    (gradient,) = torch.autograd.grad(found.sum(), logits)
    _, written = LOSSES_AND_GRADIENTS["stablemax"](logits.detach(), targets, 1.0)
    assert gradient.isfinite().all()
    assert (gradient != 0).all()
    torch.testing.assert_close(written, gradient, rtol=1e-5, atol=0)


@pytest.mark.parametrize("loss", ["cross_entropy", "log_softmax", "stablemax"])
def test_at_a_temperature_the_gradient_is_that_of_divided_logits_and_losses_are_those_of_logits(loss):
    generator = torch.Generator().manual_seed(3)
    logits, targets = torch.randn(6, 5, generator=generator).double() * 4, torch.tensor([0, 1, 2, 3, 4, 0])
    leaf = logits.clone().requires_grad_()
    (expected,) = torch.autograd.grad(LOSSES[loss](leaf / 2.5, targets).mean(), leaf)
    losses, by_logit = losses_and_gradient(loss, 0.0, 2.5)(logits, targets, 1 / 6)
    torch.testing.assert_close(by_logit, expected)
    assert torch.equal(losses, LOSSES[loss](logits, targets))


def test_a_temperature_and_smoothed_labels_go_together():
    logits, targets = torch.linspace(-3, 3, 12).double().view(3, 4).requires_grad_(), torch.tensor([0, 3, 1])
    (expected,) = torch.autograd.grad(F.cross_entropy(logits / 3, targets, label_smoothing=0.2), logits)
    _, found = losses_and_gradient("cross_entropy", 0.2, 3.0)(logits.detach(), targets, 1 / 3)
    torch.testing.assert_close(found, expected)


LEARNED = {
    "stablemax": ({"training.loss": "stablemax"}, LOSSES["stablemax"]),
    "temperature": ({"training.temperature": 3.0}, lambda x, y: F.cross_entropy(x / 3, y, reduction="none")),
}


@pytest.mark.parametrize("recipe", LEARNED)
@pytest.mark.parametrize("way", WAYS)
def test_every_way_to_learn_has_the_gradient_of_the_plain_forward(way, recipe):
    keys, loss = LEARNED[recipe]
    trainer = Trainer(tiny(**WAYS[way], **keys, **{"training.dtype": "float64"}))
    expected = by_autograd(trainer, lambda *both: loss(*both).mean())
    for name, gradient in trainer._examples.gradients(None).items():
        torch.testing.assert_close(gradient, expected[name], msg=lambda text, name=name: f"{name}: {text}")


ALL = {
    "training.grokfast": "ema",
    "training.orthogonal_gradient": True,
    "training.norm_clamp": 0.9,
    "training.temperature": 2.0,
}


@pytest.mark.parametrize("way", [way for way in WAYS if way != "in parts"])
def test_every_way_to_learn_goes_where_the_plain_forward_goes(way):
    """Against a loop of autograd and torch's AdamW, with the recipes written out."""
    keys = ALL | {"training.dtype": "float64", "training.weight_decay": 0.1, "training.steps": 4}
    trainer, _ = trained(tiny(**WAYS[way], **keys))
    begun = Trainer(tiny(**WAYS[way], **keys))
    leaves = {name: begun.weights[name].detach().clone().requires_grad_() for name in begun._learning}
    adamw = torch.optim.AdamW(list(leaves.values()), lr=5e-3, weight_decay=0.1, betas=(0.9, 0.98))
    norm = 0.9 * sum(float(w.detach().square().sum()) for w in leaves.values()) ** 0.5
    slow: dict[str, Tensor] = {}
    rows, model = begun.split.train, begun.config.model
    for _ in range(4):
        weights = {**begun.weights, **leaves}
        logits = model.logits(weights, begun.task.inputs[rows], begun.task.reads)
        F.cross_entropy(logits / 2, begun.labels[rows]).backward()
        with torch.no_grad():
            for name, w in leaves.items():
                assert w.grad is not None
                slow[name] = 0.98 * slow.get(name, w.grad) + (1 - 0.98) * w.grad
                g = w.grad + 2 * slow[name]
                left = g - w * (w * g).sum() / (w * w).sum().clamp(min=1e-30)
                w.grad = left * g.norm() / left.norm()
            adamw.step()
            adamw.zero_grad()
            factor = norm / sum(float(w.square().sum()) for w in leaves.values()) ** 0.5
            for w in leaves.values():
                w.mul_(factor)
    for name, weight in leaves.items():
        # What a softmax over positions does not see has gradients of rounding, of which Adam makes steps.
        if not name.endswith("b_K"):
            torch.testing.assert_close(trainer.weights[name].detach(), weight.detach(), rtol=0, atol=1e-7)


# Configurations


def test_recipes_come_back_from_toml_and_are_said_in_words():
    keys = ALL | {"training.loss": "stablemax", "training.grokfast_lamb": 3}
    config = tiny(**keys)
    text = config.to_toml()
    assert TrainConfig.from_toml(text) == config
    assert 'grokfast = "ema"' in text
    assert "orthogonal_gradient = true" in text
    assert config.training.recipes == [
        "Grokfast-EMA (alpha 0.98, lamb 3)",
        "gradients orthogonal to the weights",
        "norm of the weights held at 0.9 of the first",
    ]
    assert tiny().training.recipes == []


@pytest.mark.parametrize("name", ["grokfast", "OrthoGrad", "orthogonal-gradient"])
def test_a_recipe_that_is_asked_for_as_an_optimiser_is_told_its_key(name):
    with pytest.raises(ConfigError, match=r"before an optimiser: choose adamw, and set training\.\w+="):
        tiny(**{"training.optimizer": name})


@pytest.mark.trains
def test_a_report_says_by_which_recipe_a_network_was_trained(tmp_path):
    run = gi.train(tiny(**ALL, **{"training.loss": "stablemax"}), tmp_path, progress=False)
    report = gi.analyze(run, measures=["loss.stablemax"], with_replay=False)
    page = report.save_html(tmp_path / "report.html")
    text = (page or tmp_path / "report.html").read_text()
    assert (
        "Grokfast-EMA (alpha 0.98, lamb 2), gradients orthogonal to the weights, norm of the weights" in text
    )
    assert "StableMax cross-entropy" in text
    last = run.history.iloc[-1]
    view = run.view(-1)
    assert last["train_loss"] == pytest.approx(
        float(gi.measure("loss.stablemax", view).sel(part="train")), rel=1e-5
    )
