"""Losses at float32 cost with float64 accuracy.

`log_softmax` of float32 logits cannot give a loss between 0 and 6e-8: log(sum) - l_correct cancels, and
everything comes out as a multiple of 1.2e-7 (Nanda et al. 2023 and Prieto et al. 2025, arXiv 2501.04697, meet
this as "slingshots" and "softmax collapse"). Written as

    softplus(logsumexp over the wrong classes j of (l_j - l_correct))

nothing cancels, in the value or in the gradient, and float32 keeps its seven digits down to losses of 1e-38.

The plain formula is here as well, as `log_softmax`, to show what it does. Its gradient for the right class is
p - 1, and where the loss is under 6e-8, float32 rounds p to 1 and this to 0, while the wrong classes are
still pushed down by their p: the gradient of the logits no longer sums to nothing. Adam divides by how large
gradients were of late, so that even these make updates of full size.

`stablemax` is the cross-entropy of other probabilities, s(l_j) / sum of s with s(x) = x + 1 for x >= 0 and
1 / (1 - x) below (Prieto et al. 2025, section 4.1), in which no term outgrows the others exponentially. Their
code takes the log of the quotient in float64, and its gradient is NaN at a logit of exactly 1. Written as

    log(1 + sum over the wrong classes j of s(l_j) / s(l_correct))

with the gradient written out, float32 keeps its digits here too, and 1 is a logit like others.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


class _Odds(NamedTuple):
    """What the value and the gradient of the cross-entropy share.

    Attributes:
        odds: of every class, divided by the largest among the wrong ones; 0 for the right one.
        total: their sum.
        margin: log of the odds against the right class.
        at: the right class.
    """

    odds: Tensor
    total: Tensor
    margin: Tensor
    at: Tensor

    @classmethod
    def of(cls, logits: Tensor, targets: Tensor) -> _Odds:
        at = targets[:, None]
        wrong = (logits - logits.gather(1, at)).scatter_(1, at, -torch.inf)
        largest = wrong.amax(1, keepdim=True)
        odds = wrong.sub_(largest).exp_()
        total = odds.sum(1, keepdim=True)
        return cls(odds, total, largest + total.log(), at)

    def losses(self) -> Tensor:
        return F.softplus(self.margin, threshold=50).squeeze(1)

    def gradient(self, by_loss: Tensor | float, into: Tensor | None = None) -> Tensor:
        """Of the logits, written out: autograd's would subtract 1 from a softmax. It is put into a tensor
        where one is given."""
        missing = self.margin.sigmoid().mul_(by_loss)  # 1 - p(correct), without the subtraction
        return torch.mul(self.odds, missing / self.total, out=into).scatter_(1, self.at, -missing)


class _CrossEntropy(torch.autograd.Function):
    """Per-example cross-entropy for autograd."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor) -> Tensor:
        odds = _Odds.of(logits, targets)
        ctx.save_for_backward(*odds)
        return odds.losses()

    @staticmethod
    @once_differentiable  # autograd would take the hand-written gradient for a constant
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None]:
        return _Odds(*ctx.saved_tensors).gradient(grad_outputs[0][:, None]), None


def cross_entropy(logits: Float[Tensor, "n classes"], targets: Int[Tensor, "n"]) -> Float[Tensor, "n"]:
    """The cross-entropy of each example in nats, exact to the last digits of the working precision however
    small it is.

    Needs at least two classes.
    """
    return _CrossEntropy.apply(logits, targets)  # type: ignore[no-untyped-call]


def squared_error(logits: Float[Tensor, "n classes"], targets: Int[Tensor, "n"]) -> Float[Tensor, "n"]:
    """The squared distance of each example's logits from the one-hot answer, as a mean over classes."""
    return (logits - F.one_hot(targets, logits.shape[1])).square().mean(1)


def log_softmax_loss(logits: Float[Tensor, "n classes"], targets: Int[Tensor, "n"]) -> Float[Tensor, "n"]:
    """The cross-entropy of each example in nats as -log_softmax in the working precision, with autograd's own
    gradient: what `torch.nn.functional.cross_entropy` computes. In float32 a multiple of 1.2e-7, 0 for what
    is under half of that.
    """
    return F.cross_entropy(logits, targets, reduction="none")


def stablemax_loss(logits: Float[Tensor, "n classes"], targets: Int[Tensor, "n"]) -> Float[Tensor, "n"]:
    """The cross-entropy of each example in nats, under the probabilities of StableMax in place of the
    softmax's. What is added to all logits of an example changes it."""
    at = targets[:, None]
    terms = _stable(logits)
    return (terms.scatter(1, at, 0.0).sum(1) / terms.gather(1, at)[:, 0]).log1p()


def _stable(logits: Float[Tensor, "n classes"]) -> Float[Tensor, "n classes"]:
    """s of StableMax; of what is above 0 the other branch is a constant, so that it has no pole."""
    return torch.where(logits < 0, 1 / (1 - logits.clamp(max=0)), logits + 1)


def squared_distance(logits: Float[Tensor, "n classes"], targets: Int[Tensor, "n"]) -> Float[Tensor, "n"]:
    """The squared distance of the number that each example is answered with from that of the right class:
    minus the logit of that class, for a network whose logits are minus the squared distances to the numbers
    of all classes (`models.base.nearness`)."""
    return -logits.gather(1, targets[:, None])[:, 0]


def _cross_entropy_and_gradient(
    logits: Float[Tensor, "n classes"], targets: Int[Tensor, "n"], weight: float
) -> tuple[Float[Tensor, "n"], Float[Tensor, "n classes"]]:
    odds = _Odds.of(logits, targets)
    # Of thousands of classes the odds are most of what is in memory, and are not needed any more.
    return odds.losses(), odds.gradient(weight, into=odds.odds)


def _log_softmax_loss_and_gradient(
    logits: Float[Tensor, "n classes"], targets: Int[Tensor, "n"], weight: float
) -> tuple[Float[Tensor, "n"], Float[Tensor, "n classes"]]:
    with torch.enable_grad():  # by autograd, so that it is rounded as people's is
        leaf = logits.detach().requires_grad_()
        losses = log_softmax_loss(leaf, targets)
    (gradient,) = torch.autograd.grad(losses, leaf, torch.full_like(losses, weight))
    return losses.detach(), gradient


def _stablemax_loss_and_gradient(
    logits: Float[Tensor, "n classes"], targets: Int[Tensor, "n"], weight: float
) -> tuple[Float[Tensor, "n"], Float[Tensor, "n classes"]]:
    at = targets[:, None]
    terms = _stable(logits)
    slope = torch.where(logits < 0, terms.square(), 1.0)
    right = terms.gather(1, at)
    wrong = terms.scatter_(1, at, 0.0).sum(1, keepdim=True)
    against = slope.gather(1, at) * (wrong / right)
    by_logit = slope.scatter_(1, at, -against).mul_(weight / (wrong + right))
    return (wrong / right).log1p()[:, 0], by_logit


def _squared_error_and_gradient(
    logits: Float[Tensor, "n classes"], targets: Int[Tensor, "n"], weight: float
) -> tuple[Float[Tensor, "n"], Float[Tensor, "n classes"]]:
    apart = logits - F.one_hot(targets, logits.shape[1])
    return apart.square().mean(1), apart * (2 * weight / logits.shape[1])


def _squared_distance_and_gradient(
    logits: Float[Tensor, "n classes"], targets: Int[Tensor, "n"], weight: float
) -> tuple[Float[Tensor, "n"], Float[Tensor, "n classes"]]:
    by_logit = torch.zeros_like(logits).scatter_(1, targets[:, None], -weight)
    return squared_distance(logits, targets), by_logit


LOSSES = {
    "cross_entropy": cross_entropy,
    "log_softmax": log_softmax_loss,
    "stablemax": stablemax_loss,
    "mse": squared_error,
    "squared_distance": squared_distance,
}
"""The loss of each example, for autograd."""

SQUARED = {
    "mse": ("mean squared error", "loss.mse"),
    "squared_distance": ("mean squared distance", "loss.squared_distance"),
}
"""The losses that are no cross-entropy and have no unit: what stands on an axis for each, and the measure
that is the same in float64."""

OTHER = {**SQUARED, "stablemax": ("StableMax cross-entropy (nats)", "loss.stablemax")}
"""The same of all that are not the cross-entropy of the softmax, which `loss` measures."""

LOSSES_AND_GRADIENTS: dict[str, Callable[[Tensor, Tensor, float], tuple[Tensor, Tensor]]] = {
    "cross_entropy": _cross_entropy_and_gradient,
    "log_softmax": _log_softmax_loss_and_gradient,
    "stablemax": _stablemax_loss_and_gradient,
    "mse": _squared_error_and_gradient,
    "squared_distance": _squared_distance_and_gradient,
}
"""The same, and the gradient of their sum times a weight with respect to the logits, without autograd."""


def losses_and_gradient(
    loss: str, smoothing: float = 0.0, temperature: float = 1.0
) -> Callable[[Tensor, Tensor, float], tuple[Tensor, Tensor]]:
    """LOSSES_AND_GRADIENTS of a name; of smoothed labels, and of logits at a temperature, the losses are
    those of labels and logits as they are, and the gradient is that of what is learned.

    Smoothed labels are

        (1 - s) cross_entropy(label) + s mean over all K classes of cross_entropy(class)

    whose gradient by a logit is that of the cross-entropy, with s (1 - 1/K) more for the label and s/K less
    for every other class (Szegedy et al. 2016, section 7; `label_smoothing` of torch's cross_entropy). At a
    temperature T it is the loss of the logits divided by T, whose gradient by a logit has 1/T as a factor.
    """

    of_labels = LOSSES_AND_GRADIENTS[loss]

    def smoothed(logits: Tensor, targets: Tensor, weight: float) -> tuple[Tensor, Tensor]:
        losses, by_logit = of_labels(logits, targets, weight)
        share = weight * smoothing
        by_logit.sub_(share / logits.shape[1])
        return losses, by_logit.scatter_add_(1, targets[:, None], torch.full_like(by_logit[:, :1], share))

    learned = smoothed if smoothing else of_labels

    def at_temperature(logits: Tensor, targets: Tensor, weight: float) -> tuple[Tensor, Tensor]:
        _, by_logit = learned(logits / temperature, targets, weight / temperature)
        return LOSSES[loss](logits, targets), by_logit

    return learned if temperature == 1 else at_temperature
