"""What of the logits or the neurons lies along chosen frequencies, as functions of (a, b).

All masks are sums over single frequencies: two directions for each, or one block of at most 3 x 3 products. A mask as an outer product
of lists of components, which lets products of different frequencies through (289 of them for 8 keys, instead of 17), cannot be made here.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float64
from torch import Tensor

from .. import fourier
from ..errors import NotApplicable
from ..view import View
from .base import once_per_view

Matrix = Float64[Tensor, "rows width"]


def along_answers(view: View, keys: Sequence[int], x: Matrix) -> Matrix:
    """The part of x, over the rows of `view.on_circle`, along the waves of the right answer c*: Σ_k (C_k C_kᵀ + S_k S_kᵀ) x.

    C_k and S_k are cos w_k(c*) and sin w_k(c*), normalised.
    """
    waves = torch.cat([fourier.directions(view.m, k) for k in keys])[:, view.answer_at]
    if view.circle.is_sum and len(view.answer_at) == view.m**2:
        # Every answer is as frequent as every other, so these are orthogonal already; each has a norm of √m.
        onto = waves / view.m**0.5
        return onto.T @ (onto @ x)
    # By SVD, because they need not be independent: answers that never occur make some of them multiples of others.
    u, s, _ = torch.linalg.svd(waves.T, full_matrices=False)
    onto = u[:, s > 1e-9 * s[0]]
    return onto @ (onto.T @ x)


def in_blocks(view: View, keys: Sequence[int], x: Float64[Tensor, "n width"], edges: bool) -> Matrix:
    """The part of x in the blocks {cos w_k a, sin w_k a} ⊗ {cos w_k b, sin w_k b} of the keys; with `edges` 1 joins both factors.

    The product 1 ⊗ 1 itself is left out. Given over the whole table, returned over the rows of `view.on_circle`.

    Raises:
        NotApplicable: the examples fill no grid.
    """
    grid = view.grid(x)
    inside = torch.zeros_like(grid)
    for k in keys:
        axis = fourier.directions(view.m, k)
        if edges:
            axis = torch.cat([fourier.basis(view.m)[:1], axis])
        coefficients = torch.tensordot(axis, torch.tensordot(axis, grid, ([1], [0])), ([1], [1]))  # [j, i, width]
        if edges:
            coefficients[0, 0] = 0
        inside += torch.tensordot(axis, torch.tensordot(axis, coefficients, ([0], [0])), ([0], [1]))
    i, j = view.operands_at.unbind(1)
    return inside[i, j]


def mean_kept(part: Matrix, whole: Matrix) -> Matrix:
    """The part, with the mean over examples of the whole."""
    return part + (whole - part).mean(0)


@once_per_view
def beside_the_neurons(view: View) -> Float64[Tensor, "n answers"]:
    """What the logits are without the last MLP's neurons: the skip connection and the biases, unembedded.

    Raises:
        NotApplicable: there is no MLP, or what leaves it is normalised before it is unembedded.
    """
    return view.logits - view.neurons @ direct_readout(view)


def direct_readout(view: View) -> Float64[Tensor, "d_mlp answers"]:
    """W_L, where logits are linear in the neurons.

    Raises:
        NotApplicable: they are not, because of a normalisation, or there is no MLP.
    """
    if getattr(view.model.cfg, "normalization_type", None) is not None:
        raise NotApplicable("the network normalises what it unembeds, so its logits are not linear in the neurons")
    return view.W_L


@once_per_view
def losses_without(view: View) -> list[Float64[Tensor, "rows"]]:
    """The loss of every example without each frequency in turn."""
    rows = view.on_circle
    logits = view.logits[rows]
    return [view.loss(logits - along_answers(view, [k], logits), rows) for k in range(1, fourier.n_frequencies(view.m) + 1)]
