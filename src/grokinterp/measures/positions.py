"""How alike the position embeddings of the two operands are, against chance: the entries of one permuted."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float64
from torch import Tensor

from ..errors import NotApplicable
from ..view import View
from .base import Value, array
from .operands import measure, operands

DRAWS = 1000
"""Permutations that the percentile is taken among."""


@measure(
    "position_similarity.cosine", unit="1", ref="here; .617 in an unpublished re-run of Nanda et al. 2023"
)
def cosine(view: View) -> Value:
    """Cosine of the position embeddings of a and b; 0 where one of them is 0."""
    return _cosine(*_positions(view))


@measure(
    "position_similarity.distance", unit="1", ref="here; .766 in an unpublished re-run of Nanda et al. 2023"
)
def distance(view: View) -> Value:
    """Squared distance of the position embeddings of a and b, over the product of their norms; 0 where one of
    them is 0."""
    a, b = _positions(view)
    size = float(a.norm() * b.norm())
    return float((a - b).square().sum()) / size if size > 0 else 0.0


@measure(
    "position_similarity.baseline",
    unit="1",
    ref="moments of a permuted scalar product: Hoeffding 1951",
    gauge=("rotation",),
)
def baseline(view: View) -> Value:
    """Mean and standard deviation, over all permutations of the entries of b's position embedding, of its
    cosine with a's."""
    return array(list(_baseline(view)), "statistic", statistic=["mean", "sd"])


@measure(
    "position_similarity.z",
    unit="standard deviations",
    ref="here, against the permutations of `position_similarity.baseline`",
    gauge=("rotation",),
)
def z(view: View) -> Value:
    """Distance of the cosine from the mean of the permuted ones in their standard deviations; 0 where these
    are all the same."""
    mean, sd = _baseline(view)
    return (_cosine(*_positions(view)) - mean) / sd if sd > 0 else 0.0


@measure(
    "position_similarity.percentile",
    unit="1",
    ref="here: a permutation test with 1,000 draws",
    gauge=("rotation",),
)
def percentile(view: View) -> Value:
    """Share of 1,000 random permutations of the entries of b's position embedding that give a smaller cosine,
    ties counted half."""
    a, b = _positions(view)
    order = torch.rand(DRAWS, len(b), generator=torch.Generator().manual_seed(0)).argsort(1)
    drawn, unpermuted = b[order] @ a, a @ b
    tied = (drawn - unpermuted).abs() <= 1e-12 * a.norm() * b.norm()
    return float(((drawn < unpermuted) & ~tied).double().mean() + tied.double().mean() / 2)


@measure(
    "position_similarity.z_rotated",
    unit="standard deviations",
    ref="here: random rotations, which no basis changes",
)
def z_rotated(view: View) -> Value:
    """Distance of the cosine from 0 in units of 1/√d_model, its deviation where b's embedding is turned by
    random rotations.

    The form of `position_similarity.z` that no basis of the residual stream changes.
    """
    a, b = _positions(view)
    return _cosine(a, b) * math.sqrt(len(a))


def _positions(view: View) -> tuple[Float64[Tensor, "d_model"], Float64[Tensor, "d_model"]]:
    if (table := view.weights.get("pos_embed.W_pos")) is None:
        raise NotApplicable("the network has no position embedding")
    a, b = (table[position].cpu() for position in operands(view))
    return a, b


def _cosine(a: Float64[Tensor, "d_model"], b: Float64[Tensor, "d_model"]) -> float:
    size = float(a.norm() * b.norm())
    return float(a @ b) / size if size > 0 else 0.0


def _baseline(view: View) -> tuple[float, float]:
    """Exact: a permuted sum Σ a_i b_π(i) has mean Σa Σb / d and variance Σ(a − ā)² Σ(b − b̄)² / (d − 1)."""
    a, b = _positions(view)
    size, d = float(a.norm() * b.norm()), len(a)
    if size == 0 or d == 1:
        return _cosine(a, b), 0.0
    scatter = float((a - a.mean()).norm() * (b - b.mean()).norm())
    return float(a.sum() * b.sum()) / d / size, scatter / math.sqrt(d - 1) / size
