"""What a training step computes of examples: the fast ways give the numbers of the plain one, and that those
of autograd."""

from __future__ import annotations

import itertools
import math
import warnings

import pytest
import torch
from torch import Tensor

import grokinterp as gi
from grokinterp.models import ModelConfig
from grokinterp.tasks import Task, make_task
from grokinterp.training import Trainer, is_plain
from grokinterp.training import examples as module
from grokinterp.training.examples import (
    Examples,
    FoldedExamples,
    OneLayerExamples,
    way_to_learn,
    workers,
)
from grokinterp.training.loss import LOSSES


def config(**changes: object) -> ModelConfig:
    return ModelConfig(
        **{"d_model": 12, "n_heads": 3, "d_head": 5, "d_mlp": 20, "train_biases": "all", **changes}
    )


def random_weights(config: ModelConfig, task: Task, dtype: torch.dtype) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(3)
    draw = {
        name: torch.randn(shape, generator=generator, dtype=torch.float64)
        for name, shape in config.shapes(task.reads).items()
    }
    return {
        name: (value / math.sqrt(config.d_model)).to(dtype).requires_grad_() for name, value in draw.items()
    }


def both(
    task: Task,
    asked: ModelConfig,
    loss: str = "cross_entropy",
    dtype: torch.dtype = torch.float64,
    fast: type[Examples] = FoldedExamples,
):
    """The plain examples and the folded ones, half of them to learn."""
    order = torch.randperm(task.n_inputs, generator=torch.Generator().manual_seed(5))
    train, test = (rows.sort().values for rows in order.tensor_split([task.n_inputs // 2]))
    weights = random_weights(asked, task, dtype)
    labels = task.columns.clone()
    if labels.ndim > 1:
        labels[::3, 1] = -1  # not asked
    known = weights, weights, asked, loss, task, train, test, labels
    return Examples(*known), fast(*known)


def assert_same(plain: Examples, folded: Examples, close: float) -> None:
    with workers(1):
        expected, found = plain.evaluation(gradients=True), folded.evaluation(gradients=True)
        looked = folded.evaluation(gradients=False)
        rows = torch.tensor([1, 20, 20, 3])
        few = plain.gradients(rows), folded.gradients(rows)
        again = folded.gradients(None)
    for part in ("train", "test"):
        for ours in (getattr(found, part), getattr(looked, part)):
            torch.testing.assert_close(ours.losses, getattr(expected, part).losses, rtol=close, atol=close)
            assert torch.equal(ours.guesses, getattr(expected, part).guesses)
    assert looked.gradients is None
    assert all(torch.equal(again[name], gradient) for name, gradient in found.gradients.items())
    for ours, theirs in ((found.gradients, expected.gradients), few[::-1]):
        largest = max(float(gradient.abs().max()) for gradient in theirs.values())
        assert largest > 0.001
        assert ours.keys() == theirs.keys()
        for name, gradient in theirs.items():
            torch.testing.assert_close(
                ours[name],
                gradient,
                rtol=close,
                atol=close * largest,
                msg=lambda text, name=name: f"{name}: {text}",
            )


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("layout", ["a b =", "a op b ="])
@pytest.mark.parametrize(
    "changes", [{}, {"attention_mixing": 0.3}, {"attention_mixing": 0}, {"n_heads": 1}, {"d_vocab_out": 25}]
)
def test_the_folded_way_gives_the_same_losses_and_gradients(changes, layout, loss):
    task = make_task("modular_division", p=7, layout=layout)
    assert_same(*both(task, config(**changes), loss), close=1e-10)


ANSWERS = {
    "one": lambda: make_task("modular_division", p=7),
    "another last token": lambda: make_task("modular_division", p=7, layout="a b"),
    "one digit": lambda: make_task("digit_addition", n=2, answer="tens", examples=60, per_class=1),
    "all digits": lambda: make_task("digit_addition", n=2, examples=60, per_class=1),
    "little end": lambda: make_task("digit_addition", n=2, order="little", examples=60, per_class=1),
    "words": lambda: make_task("reverse", n=3, v=4),
}


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize(
    "changes", [{}, {"attention_mixing": 0.3, "attention_dir": "bidirectional"}, {"n_heads": 1}]
)
@pytest.mark.parametrize("answers", ANSWERS)
def test_one_layer_gives_the_same_losses_and_gradients_wherever_answers_are_read(answers, changes, loss):
    task = ANSWERS[answers]()
    assert_same(*both(task, config(**changes), loss, fast=OneLayerExamples), close=1e-10)


@pytest.mark.parametrize("piece", [1, 3, 7, 1000])
def test_so_it_does_in_any_number_of_pieces(monkeypatch, piece):
    monkeypatch.setattr(module, "PIECE", piece)
    assert_same(*both(make_task("modular_addition", p=7), config()), close=1e-10)


def test_so_it_does_in_float32_to_rounding():
    assert_same(*both(make_task("modular_addition", p=23), config(), dtype=torch.float32), close=2e-5)


def test_weights_that_do_not_learn_have_no_gradient():
    task, asked = make_task("modular_addition", p=7), config()
    weights = random_weights(asked, task, torch.float64)
    learning = {name: weights[name] for name in ("embed.W_E", "blocks.0.mlp.W_out")}
    for way in (Examples, FoldedExamples):
        assert list(
            way(weights, learning, asked, "mse", task, torch.arange(20), torch.arange(20, 49)).gradients(None)
        ) == list(learning)


def way_of(asked: ModelConfig, task: Task) -> type[Examples]:
    return way_to_learn(asked, task, torch.arange(20))


@pytest.mark.parametrize(
    "changes", [{"n_layers": 2}, {"normalization": "LN"}, {"act_fn": "gelu"}, {"d_mlp": 0}]
)
def test_other_networks_are_learned_the_plain_way(changes):
    assert way_of(config(**changes), make_task("modular_addition", p=7)) is Examples


def test_one_layer_is_learned_the_folded_way_where_it_folds(monkeypatch):
    assert way_of(config(), make_task("modular_addition", p=7)) is FoldedExamples
    assert way_of(config(), ANSWERS["all digits"]()) is OneLayerExamples
    fresh = way_to_learn(config(), ANSWERS["one digit"](), torch.arange(0))
    assert fresh is OneLayerExamples
    digits = gi.TrainConfig.preset("digits")
    assert not is_plain(digits, digits.make_task())
    monkeypatch.setattr("grokinterp.models.one_layer._TABLE", 1000)
    assert way_of(config(), ANSWERS["all digits"]()) is Examples
    assert is_plain(digits, digits.make_task())


@pytest.mark.parametrize("worth", [0, 10**9])
@pytest.mark.parametrize("n_heads", [1, 2, 3])
def test_the_heads_may_be_folded_together_or_in_shares(monkeypatch, worth, n_heads):
    monkeypatch.setattr("grokinterp.models.folded._WORTH_SHARING", worth)
    assert_same(*both(make_task("modular_addition", p=7), config(n_heads=n_heads)), close=1e-10)


QUICK = {
    "training.steps": 200,
    "training.stop_when": None,
    "training.evaluate_every": 1,
    "snapshots.log": None,
    "threads": 1,
}


@pytest.mark.trains
def test_a_run_of_200_steps_is_the_same_both_ways_to_rounding(monkeypatch):
    """In float64: training amplifies rounding, and in float32 the test loss of this recipe is tenths of a nat
    apart after 200 steps."""
    asked = gi.TrainConfig.preset(
        "quick",
        **{**QUICK, "task.p": 31, "model.d_model": 32, "model.d_mlp": 64, "training.dtype": "float64"},
    )
    ways = []
    for folding in (FoldedExamples.folding, lambda config, task, device: None):
        monkeypatch.setattr(FoldedExamples, "folding", staticmethod(folding))
        trainer = Trainer(asked)
        losses = [(s.metrics["train_loss"], s.metrics["test_loss"]) for s in trainer if s.metrics]
        ways.append((type(trainer._examples), losses))
    (folded, ours), (plain, theirs) = ways
    assert (folded, plain) == (FoldedExamples, OneLayerExamples)
    assert trainer.folded is False
    assert len(ours) == 201
    for mine, other in zip(itertools.chain(*ours), itertools.chain(*theirs), strict=True):
        assert mine == pytest.approx(other, rel=1e-6)


def test_any_number_of_threads_gives_the_same_bytes(monkeypatch):
    monkeypatch.setattr(module, "PIECE", 64)
    ends = []
    for threads in (1, 2, 4):
        *_, last = Trainer(
            gi.TrainConfig.preset(
                "quick", **{**QUICK, "task.p": 31, "training.steps": 20, "threads": threads}
            )
        )
        ends.append({name: weight.detach().numpy().tobytes() for name, weight in last.weights.items()})
    assert ends[0] == ends[1] == ends[2]


def ends(trainers: list[Trainer]) -> list[dict[str, bytes]]:
    """The last weights of trainers that take turns in one thread."""
    weights: list[dict[str, bytes]] = [{} for _ in trainers]
    running = dict(enumerate(map(iter, trainers)))
    while running:
        for number, trainer in list(running.items()):
            if (snapshot := next(trainer, None)) is None:
                del running[number]
            else:
                weights[number] = {
                    name: weight.detach().numpy().tobytes() for name, weight in snapshot.weights.items()
                }
    return weights


def test_trainers_that_take_turns_disturb_neither_each_other_nor_torch():
    asked = [
        gi.TrainConfig.preset("quick", **{**QUICK, "task.p": 41, "training.steps": steps, "threads": 2})
        for steps in (10, 30)
    ]
    alone = [ends([Trainer(config)])[0] for config in asked]
    before = torch.get_num_threads()
    filters = list(warnings.filters)
    torch.set_num_threads(3)
    try:
        together = ends([Trainer(config) for config in asked])
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    assert warnings.filters == filters
    assert together == alone


def test_torchs_default_dtype_has_no_say():
    asked = gi.TrainConfig.preset("quick", **{**QUICK, "task.p": 7, "training.steps": 3})
    alone = ends([Trainer(asked)])
    torch.set_default_dtype(torch.float64)
    try:
        assert ends([Trainer(asked)]) == alone
    finally:
        torch.set_default_dtype(torch.float32)
