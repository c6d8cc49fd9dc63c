"""How large logits have grown, how far the right one stands out, and what rounding leaves of the loss: what a
network does when it lowers its loss by scale alone (Prieto et al. 2025, arXiv 2501.04697)."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from ..errors import NotApplicable, UsageError
from ..view import View
from .base import Value, array, measure, per_part

_DTYPES = {"float32": torch.float32, "float64": torch.float64}


@measure(
    "softmax_collapse.share",
    unit="1",
    ref="Prieto et al. 2025 (arXiv 2501.04697), section 3 (Softmax Collapse), and their code",
)
def softmax_collapse(view: View, dtype: str = "float32") -> Value:
    """Share of the training, test and all examples in whose softmax, computed in `dtype` ("float32" or
    "float64"), the largest exponential absorbs all others: the sum of exp(z - max z) is exactly 1.

    As in their code, the largest need not be that of the label, which `zero_terms.share` asks. That is: the
    others together are at most half of the last digit of 1. They are added in float64; theirs in the
    precision itself, where at the very edge the order in which a machine adds decides.
    """
    return per_part(view, _collapsed(view, dtype))


@measure(
    "zero_terms.share",
    unit="1",
    ref="Prieto et al. 2025 (arXiv 2501.04697), released code (zero_terms) and section 3",
)
def zero_terms(view: View, dtype: str = "float32") -> Value:
    """Share of the training, test and all examples of which -log_softmax, computed in `dtype` ("float32" or
    "float64"), is exactly 0 at the label: they add nothing to the loss, nor to the gradient of that logit.

    They are those in which the softmax has collapsed (`softmax_collapse.share`) on the label. With
    `training.loss` "cross_entropy", which loses no digits, such examples go on to be learned; it says of
    which the loss as people compute it ("log_softmax") would be lost.
    """
    return per_part(view, _collapsed(view, dtype) & (view.class_logits.argmax(1) == view.labels))


def _collapsed(view: View, dtype: str) -> Bool[Tensor, "n"]:
    """Whether the sum of exponentials is 1 in a precision."""
    if dtype not in _DTYPES:
        raise UsageError(f"dtype: needs 'float32' or 'float64', got {dtype!r}")
    logits = view.class_logits
    largest, at = logits.max(1, keepdim=True)
    others = (logits - largest).exp().scatter(1, at, 0.0).sum(1)
    return others <= torch.finfo(_DTYPES[dtype]).eps / 2


@measure("logit_scale", unit="logit", ref="here; what grows in Prieto et al. 2025 (arXiv 2501.04697)")
def scale(view: View) -> Value:
    """Standard deviation of the logits of an example over the classes, as a mean over the training, test and
    all examples."""
    return per_part(view, _centred(view).square().mean(1).sqrt())


@measure(
    "margin.normalised",
    unit="1",
    ref="here; Lyu and Li 2020 (arXiv 1906.05890), section 3, divide by a power of the norm of the weights",
)
def normalised_margin(view: View) -> Value:
    """The smallest margin, of the label's logit over the largest other, among the training, test and all
    examples, each over its size: over what it is where logits of the same norm are 1 for the label and 0
    elsewhere, up to shift and scale. At most 1; below 0 where an example is wrong.

    What multiplies all logits does not change it. Lyu and Li divide by ‖θ‖ᴸ, L being the degree in which the
    network is homogeneous: a transformer, with attention and skip connections, has no such degree. It is 0
    where all logits of an example are the same.
    """
    logits, at = _centred(view), view.labels[:, None]
    classes = logits.shape[1]
    if classes < 2:
        raise NotApplicable("there is one class alone, and a margin is over another")
    right, others = logits.gather(1, at), logits.scatter(1, at, -torch.inf).amax(1)
    full = logits.norm(dim=1) * (classes / (classes - 1)) ** 0.5
    margins = ((right[:, 0] - others) / full).nan_to_num(0.0)
    smallest = {part: margins[rows].min() for part, rows in _parts(view).items()}
    return array(torch.stack(list(smallest.values())), "part", part=list(smallest))


def _centred(view: View) -> Float64[Tensor, "n classes"]:
    """The logits less their mean over the classes, which a softmax does not see."""
    logits = view.class_logits
    return logits - logits.mean(1, keepdim=True)


def _parts(view: View) -> dict[str, Bool[Tensor, "n"]]:
    """The examples of each part that has any."""
    masks = {part: view.rows(part) for part in view.parts}
    return {part: mask for part, mask in masks.items() if mask.any()}
