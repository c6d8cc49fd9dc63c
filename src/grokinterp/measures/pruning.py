"""Accuracy as neurons are removed one after the other, in any order.

To remove a neuron is to set its activation to 0 at the answer position, in the last layer. Logits are linear
in these neurons where nothing is normalised behind them, so the curves are exact sums over the neurons that
are kept: no pass through the network is made.
"""

from __future__ import annotations

import torch
from jaxtyping import Float64, Int
from torch import Tensor

from ..view import View
from .base import Value, measure, once_per_view, per_part
from .neurons import beside_the_neurons, direct_readout
from .noise import DOSHI

DRAWS = 5
"""Random orders."""
_MOST = 20
"""Steps from none removed to all."""
PRUNED = f"{DOSHI} and figure 5"


@measure(
    "pruning.random",
    unit="1",
    ref=f"{PRUNED}; the control of `pruning.lowest_ipr`, here a mean over five orders",
    gauge=("order",),
)
def random(view: View) -> Value:
    """Accuracy without random neurons, by how many are removed: mean over five orders, the same for every
    network of as many neurons."""
    generator = torch.Generator().manual_seed(0)
    return pruned(view, [torch.randperm(view.W_L.shape[0], generator=generator) for _ in range(DRAWS)])


def pruned(view: View, orders: list[Int[Tensor, "d_mlp"]]) -> Value:
    """Accuracy at a few counts of removed neurons, from none to all; the mean over several orders."""
    readout, d_mlp = direct_readout(view), view.W_L.shape[0]
    counts = [*range(0, d_mlp, -(-d_mlp // _MOST)), d_mlp]
    right = torch.zeros(len(counts), view.task.n_inputs, dtype=torch.float64)
    for order in orders:
        logits, neurons, weights = _without_neurons(view).clone(), view.neurons[:, order], readout[order]
        for i, (count, end) in reversed(list(enumerate(zip(counts, [*counts[1:], d_mlp], strict=True)))):
            logits.addmm_(neurons[:, count:end], weights[count:end])
            right[i] += view.correct(logits)
    return per_part(view, right.T / len(orders), removed=counts)


@once_per_view
def _without_neurons(view: View) -> Float64[Tensor, "n answers"]:
    """The logits when all neurons are 0; rounding counts as 0, so that no argmax is taken of it."""
    rest = beside_the_neurons(view)
    return torch.where(rest.abs() > 1e-12 * view.logits.abs().max(), rest, 0.0)
