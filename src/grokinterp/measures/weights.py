"""Weights as such."""

from __future__ import annotations

from ..view import View
from .base import Value, array, measure


@measure(
    "sum_of_squares",
    unit="weight²",
    ref="Nanda et al. 2023, section 5.1 and figure 7",
    gauge=("heads", "scale", "shift"),
    each_answer=False,
)
def sum_of_squares(view: View) -> Value:
    """Sum of the squared entries of every parameter; `total` is over all of them."""
    sums = {name: float(weight.square().sum()) for name, weight in view.weights.items()}
    sums["total"] = sum(sums.values())
    return array(list(sums.values()), "parameter", parameter=list(sums))
