"""Weights as such, and what the heads attend to."""

from __future__ import annotations

import torch

from ..view import View
from .base import Value, array, measure


@measure("sum_of_squares", unit="weight²", ref="Nanda et al. 2023, section 5.1 and figure 7")
def sum_of_squares(view: View) -> Value:
    """Sum of the squared entries of every parameter; `total` is over all of them."""
    sums = {name: float(weight.square().sum()) for name, weight in view.weights.items()}
    sums["total"] = sum(sums.values())
    return array(torch.tensor(list(sums.values()), dtype=torch.float64), "parameter", parameter=list(sums))


def _per_head(view: View, values: torch.Tensor) -> Value:
    layers, heads, positions = values.shape
    names = [f"{i}: {word}" for i, word in enumerate(view.task.tokens.words)]
    assert len(names) == positions
    return array(values, ("layer", "head", "pos"), layer=list(range(layers)), head=list(range(heads)), pos=names)


@measure("attention.mean", unit="1", ref="Nanda et al. 2023, section 4.2")
def attention_mean(view: View) -> Value:
    """Mean over all examples of how much the answer position attends to each position, per layer and head."""
    return _per_head(view, view.attention.mean(2))


@measure("attention.variance", unit="1", ref="a mean pattern without its variance over inputs is no mechanism")
def attention_variance(view: View) -> Value:
    """Variance over all examples of how much the answer position attends to each position, per layer and head."""
    return _per_head(view, view.attention.var(2, unbiased=False))
