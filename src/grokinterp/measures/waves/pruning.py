"""Accuracy as neurons are removed one after the other: those of few frequencies first, or those of many.

A network that adds by frequencies and has memorised besides does the two with different neurons: what the
inverse participation ratio calls periodic computes sums, and what is left of the others is the table of
exceptions. So removing the neurons of lowest ratio first forgets the exceptions and keeps the sums, removing
those of highest first does the reverse, and random ones (`pruning.random`) harm both. Which neurons are
periodic is said by `ipr.half_spectrum`.
"""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor

from ...view import View
from ..base import Value
from ..pruning import PRUNED, pruned
from .circular import measure
from .sparsity import half_spectrum_participation


@measure(
    "pruning.lowest_ipr",
    unit="1",
    ref=f"{PRUNED} (350 of 500 removed: corrupted labels forgotten, test accuracy kept)",
    gauge=("shift",),
)
def lowest_ipr(view: View) -> Value:
    """Accuracy without the neurons of lowest inverse participation ratio, by how many are removed: those that
    hold what was memorised."""
    return pruned(view, [_by_participation(view)])


@measure("pruning.highest_ipr", unit="1", ref=PRUNED, gauge=("shift",))
def highest_ipr(view: View) -> Value:
    """Accuracy without the neurons of highest inverse participation ratio, by how many are removed: those
    that compute with waves."""
    return pruned(view, [_by_participation(view).flip(0)])


def _by_participation(view: View) -> Int[Tensor, "d_mlp"]:
    """The neurons in the order of their ratio; those that agree to nine digits in their own order, as
    rounding must not choose."""
    return torch.round(half_spectrum_participation(view), decimals=9).argsort(stable=True)
