"""Accuracy as neurons are removed one after the other: those of few frequencies first, those of many, or any.

A network that adds by frequencies and has memorised besides does the two with different neurons: what the
inverse participation ratio calls periodic computes sums, and what is left of the others is the table of
exceptions. So removing the neurons of lowest ratio first forgets the exceptions and keeps the sums, removing
those of highest first does the reverse, and random ones harm both.

To remove a neuron is to set its activation to 0 at the answer position, in the last layer. Logits are linear
in these neurons where nothing is normalised behind them, so the curves are exact sums over the neurons that
are kept: no pass through the network is made. Which neurons are periodic is said by `ipr.half_spectrum`.
"""

from __future__ import annotations

import torch
from jaxtyping import Float64, Int
from torch import Tensor

from ..view import View
from .base import Value, measure, once_per_view, per_part
from .projections import direct_readout
from .sparsity import half_spectrum_participation

DRAWS = 5
"""Random orders."""
_MOST = 20
"""Steps from none removed to all."""
_DOSHI = "Doshi et al. 2024 (arXiv 2310.13061), section 3 and figure 5"


@measure(
    "pruning.lowest_ipr",
    unit="1",
    ref=f"{_DOSHI} (350 of 500 removed: corrupted labels forgotten, test accuracy kept)",
    gauge=("shift",),
)
def lowest_ipr(view: View) -> Value:
    """Accuracy without the neurons of lowest inverse participation ratio, by how many are removed: those that
    hold what was memorised."""
    return _curve(view, [_by_participation(view)])


@measure("pruning.highest_ipr", unit="1", ref=_DOSHI, gauge=("shift",))
def highest_ipr(view: View) -> Value:
    """Accuracy without the neurons of highest inverse participation ratio, by how many are removed: those
    that compute with waves."""
    return _curve(view, [_by_participation(view).flip(0)])


@measure(
    "pruning.random",
    unit="1",
    ref=f"{_DOSHI}; the control of `pruning.lowest_ipr`, here a mean over five orders",
    gauge=("order",),
)
def random(view: View) -> Value:
    """Accuracy without random neurons, by how many are removed: mean over five orders, the same for every
    network of as many neurons."""
    generator = torch.Generator().manual_seed(0)
    return _curve(view, [torch.randperm(view.W_L.shape[0], generator=generator) for _ in range(DRAWS)])


def _by_participation(view: View) -> Int[Tensor, "d_mlp"]:
    """The neurons in the order of their ratio; those that agree to nine digits in their own order, as
    rounding must not choose."""
    return torch.round(half_spectrum_participation(view), decimals=9).argsort(stable=True)


def _curve(view: View, orders: list[Int[Tensor, "d_mlp"]]) -> Value:
    """Accuracy at a few counts of removed neurons, from none to all; the mean over several orders of
    removal."""
    readout, d_mlp = direct_readout(view), view.W_L.shape[0]
    counts = [*range(0, d_mlp, -(-d_mlp // _MOST)), d_mlp]
    right = torch.zeros(len(counts), view.task.n_inputs, dtype=torch.float64)
    for order in orders:
        logits, neurons, weights, end = (
            _without_neurons(view).clone(),
            view.neurons[:, order],
            readout[order],
            d_mlp,
        )
        for i, count in reversed(list(enumerate(counts))):
            logits.addmm_(neurons[:, count:end], weights[count:end])
            right[i] += view.correct(logits)
            end = count
    return per_part(view, right.T / len(orders), removed=counts)


@once_per_view
def _without_neurons(view: View) -> Float64[Tensor, "n answers"]:
    """The logits when all neurons are 0; what is nothing but rounding is 0, so that no argmax is taken of
    it."""
    rest = view.logits - view.neurons @ direct_readout(view)
    return torch.where(rest.abs() > 1e-12 * view.logits.abs().max(), rest, 0.0)
