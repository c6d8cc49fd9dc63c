"""Losses: against arithmetic with sixty decimal digits, and where the plain formula in float32 has none."""

from __future__ import annotations

import math
from decimal import Decimal, localcontext

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from grokinterp.training import LOSSES, cross_entropy, squared_error
from grokinterp.training.loss import LOSSES_AND_GRADIENTS

torch.set_num_threads(1)  # for matrices this small, threads only wait for one another

DIGITS = 60


def exact(row: list[float], target: int) -> tuple[float, list[float]]:
    """The cross-entropy of one example and its gradient, computed with sixty digits from the very numbers in
    `row`."""
    with localcontext() as context:
        context.prec = DIGITS
        odds = [(Decimal(logit) - Decimal(row[target])).exp() for logit in row]
        total = sum(odds, Decimal(0))
        shares = [float(odd / total) for odd in odds]
        shares[target] = -float(sum((odd for i, odd in enumerate(odds) if i != target), Decimal(0)) / total)
        return float(total.ln()), shares


def example(n: int, classes: int, scale: float, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(classes)
    logits = scale * torch.randn(n, classes, generator=generator, dtype=torch.float64)
    targets = torch.randint(classes, (n,), generator=generator)
    targets[: n // 2] = logits[: n // 2].argmax(1)  # half of them right, so that small losses occur
    return logits.to(dtype).requires_grad_(), targets


def value_and_gradient(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    losses = cross_entropy(logits, targets)
    (gradient,) = torch.autograd.grad(losses.sum(), logits)
    return losses.detach().double(), gradient.double()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [0.01, 1, 10, 30])
@pytest.mark.parametrize("classes", [2, 5, 113])
def test_cross_entropy_and_its_gradient_are_exact_to_the_working_precision(classes, scale, dtype):
    logits, targets = example(16, classes, scale, dtype)
    losses, gradients = value_and_gradient(logits, targets)
    # A difference of logits of size s is rounded by eps s, and that is the relative error of a small loss.
    tolerance = torch.finfo(dtype).eps * (20 + 2 * float(logits.detach().abs().max()))
    for row, target, loss, gradient in zip(logits.tolist(), targets.tolist(), losses, gradients, strict=True):
        expected_loss, expected_gradient = exact(row, target)
        assert float(loss) == pytest.approx(expected_loss, rel=tolerance, abs=1e-38)
        assert gradient.tolist() == pytest.approx(expected_gradient, rel=tolerance, abs=1e-38)


@pytest.mark.parametrize("smallest", [3e-7, 1e-7, 1e-8, 1e-9, 1e-12, 1e-20, 1e-30])
def test_small_losses_survive_in_float32_where_log_softmax_gives_multiples_of_its_rounding(smallest):
    margin = -math.log(smallest)
    logits = torch.tensor([[margin, 0.0], [margin + 0.5, 0.5]])
    targets = torch.tensor([0, 0])
    plain = -F.log_softmax(logits, dim=1)[:, 0]
    for row, ours, naive in zip(
        logits.tolist(), cross_entropy(logits, targets).tolist(), plain.tolist(), strict=True
    ):
        expected, _ = exact(row, 0)
        assert expected == pytest.approx(smallest, rel=1e-4)
        assert ours == pytest.approx(expected, rel=1e-5)
        steps = naive / 2**-23  # of 1.19e-7, the rounding of numbers around 1; often none at all
        assert steps == pytest.approx(round(steps), rel=1e-6)
        assert abs(naive - expected) > 0.1 * expected


def test_gradients_of_small_losses_survive_in_float32_where_those_of_log_softmax_vanish():
    logits = torch.tensor([[-math.log(1e-9), 0.0, -1.0]], requires_grad=True)
    _, ours = value_and_gradient(logits, torch.tensor([0]))
    _, expected = exact(logits[0].tolist(), 0)
    assert ours[0].tolist() == pytest.approx(expected, rel=1e-5)
    (plain,) = torch.autograd.grad(-F.log_softmax(logits, dim=1)[0, 0], logits)
    assert plain[0, 0] == 0


def test_the_loss_of_a_hopeless_example_is_its_margin():
    logits = torch.tensor([[0.0, 1000.0, 0.0]], requires_grad=True)
    losses, gradient = value_and_gradient(logits, torch.tensor([0]))
    assert losses.tolist() == [1000.0]
    assert gradient.tolist() == [[-1.0, 1.0, 0.0]]


def test_large_logits_do_not_overflow():
    logits = torch.tensor([[3e38, 0.0], [0.0, 3e38]], requires_grad=True)
    losses, gradient = value_and_gradient(logits, torch.tensor([0, 0]))
    assert losses[0] == 0
    assert float(losses[1]) == pytest.approx(3e38)
    assert gradient.tolist() == [[0, 0], [-1, 1]]


@pytest.mark.parametrize("classes", [2, 3, 113])
def test_equal_logits_cost_the_logarithm_of_the_number_of_classes(classes):
    losses = cross_entropy(torch.zeros(4, classes, dtype=torch.float64), torch.arange(4) % classes)
    assert losses.tolist() == pytest.approx([math.log(classes)] * 4, rel=1e-15)


def test_a_constant_added_to_all_logits_changes_nothing():
    logits, targets = example(8, 5, 1, torch.float64)
    torch.testing.assert_close(
        cross_entropy(logits + 4.0, targets), cross_entropy(logits, targets), rtol=1e-13, atol=0
    )


@pytest.mark.parametrize("classes", [2, 5, 113])
def test_ordinary_losses_are_those_of_torch(classes):
    logits, targets = example(32, classes, 2, torch.float64)
    losses, gradient = value_and_gradient(logits, targets)
    theirs = F.cross_entropy(logits, targets, reduction="none")
    torch.testing.assert_close(losses, theirs.detach(), rtol=1e-11, atol=1e-15)
    torch.testing.assert_close(gradient, torch.autograd.grad(theirs.sum(), logits)[0], rtol=1e-11, atol=1e-15)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("classes", [2, 5])
def test_gradients_are_the_slopes_that_finite_differences_see(name, classes):
    logits, targets = example(6, classes, 2, torch.float64)
    assert torch.autograd.gradcheck(lambda logits: LOSSES[name](logits, targets), logits)


@pytest.mark.parametrize("name", LOSSES)
def test_each_example_is_weighed_by_what_comes_from_above(name):
    logits, targets = example(6, 5, 2, torch.float64)
    weights = torch.tensor([0.0, 1, -2, 3, 0.5, 1e-9], dtype=torch.float64)
    (weighted,) = torch.autograd.grad((LOSSES[name](logits, targets) * weights).sum(), logits)
    (plain,) = torch.autograd.grad(LOSSES[name](logits, targets).sum(), logits)
    torch.testing.assert_close(weighted, weights[:, None] * plain)


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_leaves_its_arguments_as_they_were(name):
    logits, targets = example(6, 5, 2, torch.float32)
    before = logits.detach().clone(), targets.clone()
    LOSSES[name](logits, targets).sum().backward()
    assert torch.equal(logits.detach(), before[0])
    assert torch.equal(targets, before[1])


@pytest.mark.parametrize("of", ["loss", "squared loss"])
def test_a_second_derivative_is_right_or_refused(of):
    """The gradient is written by hand, and autograd can differentiate that only as far as it sees into it."""
    logits, targets = example(4, 3, 1, torch.float64)
    outer = {"loss": lambda losses: losses.sum(), "squared loss": lambda losses: losses.square().sum()}[of]

    def curvature(losses: Tensor) -> Tensor:
        (slope,) = torch.autograd.grad(outer(losses), logits, create_graph=True)
        return torch.autograd.grad(slope.square().sum(), logits)[0]

    expected = curvature(F.cross_entropy(logits, targets, reduction="none"))
    try:
        found = curvature(cross_entropy(logits, targets))
    except RuntimeError:
        return
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_squared_error_is_torchs_mse_against_the_one_hot_answer(dtype):
    logits, targets = example(6, 5, 2, dtype)
    one_hot = torch.zeros(6, 5, dtype=dtype)
    for i, target in enumerate(targets.tolist()):
        one_hot[i, target] = 1
    expected = F.mse_loss(logits, one_hot, reduction="none").mean(1)
    torch.testing.assert_close(squared_error(logits, targets), expected)
    torch.testing.assert_close(squared_error(logits, targets).mean(), F.mse_loss(logits, one_hot))
    torch.testing.assert_close(
        torch.autograd.grad(squared_error(logits, targets).mean(), logits)[0],
        torch.autograd.grad(F.mse_loss(logits, one_hot), logits)[0],
    )


def test_a_perfect_answer_has_no_squared_error():
    assert squared_error(torch.eye(4), torch.arange(4)).tolist() == [0, 0, 0, 0]
    assert squared_error(torch.zeros(1, 4), torch.tensor([2])).tolist() == [1 / 4]


# The loss as people compute it


def plain_gradient(logits: Tensor, targets: Tensor) -> Tensor:
    """That of -log_softmax, written out: softmax less the one-hot answer."""
    return logits.detach().softmax(1) - F.one_hot(targets, logits.shape[1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_log_softmax_is_the_cross_entropy_of_torch_to_the_bit(dtype):
    logits, targets = example(32, 7, 10, dtype)
    found = LOSSES["log_softmax"](logits, targets)
    assert torch.equal(found, -F.log_softmax(logits, dim=1).gather(1, targets[:, None])[:, 0])
    (gradient,) = torch.autograd.grad(found.sum(), logits)
    torch.testing.assert_close(gradient, plain_gradient(logits, targets), rtol=1e-5, atol=1e-7)


def test_in_float32_log_softmax_loses_what_cross_entropy_keeps():
    """A loss of 1e-9: nothing is left of it nor of the gradient of the right class, while the wrong ones keep
    theirs."""
    logits, targets = torch.tensor([[-math.log(1e-9), 0.0, -1.0]]), torch.tensor([0])
    for name, lost in (("log_softmax", True), ("cross_entropy", False)):
        losses, gradient = LOSSES_AND_GRADIENTS[name](logits, targets, 1.0)
        assert (float(losses[0]) == 0, float(gradient[0, 0]) == 0) == (lost, lost)
        assert float(gradient[0, 1]) == pytest.approx(1e-9, rel=1e-4)
        assert (abs(float(gradient.sum())) < 1e-15) != lost


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", LOSSES)
def test_the_gradient_without_autograd_is_that_with_it(name, dtype):
    logits, targets = example(32, 7, 3, dtype)
    with torch.no_grad():  # as the threads that train have it
        losses, gradient = LOSSES_AND_GRADIENTS[name](logits.detach(), targets, 0.25)
    theirs = LOSSES[name](logits, targets)
    torch.testing.assert_close(losses, theirs.detach())
    torch.testing.assert_close(gradient, torch.autograd.grad(theirs.sum() * 0.25, logits)[0])
    assert not losses.requires_grad
    assert not gradient.requires_grad
