"""What a training step computes of examples: the folded way gives the numbers of the plain one, and that those of autograd."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

import grokinterp as gi
from grokinterp.models import ModelConfig, weight_shapes
from grokinterp.tasks import Task, make_task
from grokinterp.training import Trainer
from grokinterp.training import examples as module
from grokinterp.training.examples import Examples, FoldedExamples, examples, workers
from grokinterp.training.loss import LOSSES


def config(**changes: object) -> ModelConfig:
    return ModelConfig(**{"d_model": 12, "n_heads": 3, "d_head": 5, "d_mlp": 20, "train_biases": "all", **changes})


def random_weights(config: ModelConfig, task: Task, dtype: torch.dtype) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(3)
    draw = {name: torch.randn(shape, generator=generator, dtype=torch.float64) for name, shape in weight_shapes(config, task).items()}
    return {name: (value / math.sqrt(config.d_model)).to(dtype).requires_grad_() for name, value in draw.items()}


def both(task: Task, asked: ModelConfig, loss: str = "cross_entropy", dtype: torch.dtype = torch.float64):
    """The plain examples, the folded ones, and the rows of a full batch and of all others."""
    order = torch.randperm(task.n_inputs, generator=torch.Generator().manual_seed(5))
    batch, others = (rows.sort().values for rows in order.tensor_split([task.n_inputs // 2]))
    weights = random_weights(asked, task, dtype)
    known = weights, list(weights.values()), asked, LOSSES[loss], task.inputs, task.targets
    return Examples(*known), FoldedExamples(*known, task.d_vocab, batch), batch, others


def assert_same(plain: Examples, folded: FoldedExamples, batch: Tensor, others: Tensor, close: float) -> None:
    with workers(1):
        expected, found = plain.gradients(batch), folded.gradients(batch)
        for ours, theirs in zip((*found[:2], *folded.values(others)), (*expected[:2], *plain.values(others)), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=close, atol=close)
    largest = max(float(gradient.abs().max()) for gradient in expected[2])
    assert largest > 0.001
    for ours, theirs in zip(found[2], expected[2], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=close, atol=close * largest)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("layout", ["a b =", "a op b ="])
@pytest.mark.parametrize("changes", [{}, {"attention_mixing": 0.3}, {"attention_mixing": 0}, {"n_heads": 1}, {"d_vocab_out": 9}])
def test_the_folded_way_gives_the_same_losses_and_gradients(changes, layout, loss):
    task = make_task("modular_division", p=7, layout=layout)
    assert_same(*both(task, config(**changes), loss), close=1e-10)


@pytest.mark.parametrize("piece", [1, 3, 7, 1000])
def test_so_it_does_in_any_number_of_pieces(monkeypatch, piece):
    monkeypatch.setattr(module, "PIECE", piece)
    assert_same(*both(make_task("modular_addition", p=7), config()), close=1e-10)


def test_so_it_does_in_float32_to_rounding():
    assert_same(*both(make_task("modular_addition", p=23), config(), dtype=torch.float32), close=2e-5)


def test_a_batch_that_is_not_the_full_one_is_learned_the_plain_way():
    plain, folded, _, others = both(make_task("modular_addition", p=7), config())
    for ours, theirs in zip(folded.gradients(others[:5])[2], plain.gradients(others[:5])[2], strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("changes", [{"n_layers": 2}, {"normalization": "LN"}, {"act_fn": "gelu"}, {"d_mlp": 0}])
def test_other_networks_are_learned_the_plain_way(changes):
    task = make_task("modular_addition", p=7)
    asked = config(**changes)
    weights = random_weights(asked, task, torch.float32)
    known = weights, list(weights.values()), asked, LOSSES["mse"], task.inputs, task.targets, task.d_vocab
    assert type(examples(*known, torch.arange(20))) is Examples
    assert type(examples(*known, None)) is Examples


def test_one_layer_and_a_full_batch_are_learned_the_folded_way():
    task, asked = make_task("modular_addition", p=7), config()
    weights = random_weights(asked, task, torch.float32)
    known = weights, list(weights.values()), asked, LOSSES["mse"], task.inputs, task.targets, task.d_vocab
    assert type(examples(*known, torch.arange(20))) is FoldedExamples
    assert type(examples(*known, None)) is Examples


QUICK = {"training.steps": 200, "training.stop_when": None, "training.evaluate_every": 1, "snapshots.log": None, "threads": 1}


def test_a_run_of_200_steps_is_the_same_both_ways_to_rounding(monkeypatch):
    """In float64, where rounding has no time to grow: in float32 it is the same comparison with 9 digits less."""
    asked = gi.TrainConfig.preset("quick", **{**QUICK, "task.p": 31, "model.d_model": 32, "model.d_mlp": 64, "training.dtype": "float64"})
    ways = []
    for takes in (FoldedExamples.takes, lambda config, inputs: False):
        monkeypatch.setattr(FoldedExamples, "takes", staticmethod(takes))
        trainer = Trainer(asked)
        losses = [(s.metrics["train_loss"], s.metrics["test_loss"]) for s in trainer if s.metrics]
        ways.append((type(trainer._examples), losses))
    (folded, ours), (plain, theirs) = ways
    assert (folded, plain) == (FoldedExamples, Examples)
    assert len(ours) == 201
    for mine, other in zip(itertools.chain(*ours), itertools.chain(*theirs), strict=True):
        assert mine == pytest.approx(other, rel=1e-6)


def test_any_number_of_threads_gives_the_same_bytes(monkeypatch):
    monkeypatch.setattr(module, "PIECE", 64)
    ends = []
    for threads in (1, 2, 4):
        *_, last = Trainer(gi.TrainConfig.preset("quick", **{**QUICK, "task.p": 31, "training.steps": 20, "threads": threads}))
        ends.append({name: weight.detach().numpy().tobytes() for name, weight in last.weights.items()})
    assert ends[0] == ends[1] == ends[2]
