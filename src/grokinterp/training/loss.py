"""Losses at float32 cost with float64 accuracy.

`log_softmax` of float32 logits cannot give a loss between 0 and 6e-8: log(sum) - l_correct cancels, and everything comes out as a
multiple of 1.2e-7 (Nanda et al. 2023 and Prieto et al. 2025, arXiv 2501.04697, meet this as "slingshots" and "softmax
collapse"). Written as

    softplus(logsumexp over the wrong classes j of (l_j - l_correct))

nothing cancels, in the value or in the gradient, and float32 keeps its seven digits down to losses of 1e-38.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


class _CrossEntropy(torch.autograd.Function):
    """Per-example cross-entropy; the gradient is written out because autograd's would subtract 1 from a softmax."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor) -> Tensor:
        at = targets[:, None]
        wrong = (logits - logits.gather(1, at)).scatter_(1, at, -torch.inf)
        largest = wrong.amax(1, keepdim=True)
        odds = (wrong - largest).exp_()
        total = odds.sum(1, keepdim=True)
        margin = largest + total.log()
        ctx.save_for_backward(odds, total, margin, at)
        return F.softplus(margin, threshold=50).squeeze(1)

    @staticmethod
    @once_differentiable  # autograd would take the hand-written gradient for a constant
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None]:
        odds, total, margin, at = ctx.saved_tensors
        missing = margin.sigmoid() * grad_outputs[0][:, None]  # 1 - p(correct), without the subtraction
        return (odds * (missing / total)).scatter_(1, at, -missing), None


def cross_entropy(logits: Float[Tensor, "n classes"], targets: Int[Tensor, "n"]) -> Float[Tensor, "n"]:
    """The cross-entropy of each example in nats, exact to the last digits of the working precision however small it is.

    Needs at least two classes.
    """
    loss: Tensor = _CrossEntropy.apply(logits, targets)  # type: ignore[no-untyped-call]
    return loss


def squared_error(logits: Float[Tensor, "n classes"], targets: Int[Tensor, "n"]) -> Float[Tensor, "n"]:
    """The squared distance of each example's logits from the one-hot answer, as a mean over classes."""
    return (logits - F.one_hot(targets, logits.shape[1])).square().mean(1)


LOSSES = {"cross_entropy": cross_entropy, "mse": squared_error}
