"""How few directions the weights are made of, and how unequal numbers are."""

from __future__ import annotations

import torch
from jaxtyping import Float64
from torch import Tensor

from ..view import View
from .base import Value, measure


def effective_rank(matrix: Float64[Tensor, "rows columns"]) -> float:
    """exp of the entropy of the singular values, normalised to sum 1 (Roy and Vetterli 2007); 0 for a matrix
    of zeros."""
    s = torch.linalg.svdvals(matrix)
    total = s.sum()
    return float(torch.special.entr(s / total).sum().exp()) if total > 0 else 0.0


def participation_ratio(matrix: Float64[Tensor, "rows columns"]) -> float:
    """(Σ s²)² / Σ s⁴ over the singular values; 0 for a matrix of zeros."""
    power = torch.linalg.svdvals(matrix).square()
    return float(power.sum().square() / power.square().sum()) if power.sum() > 0 else 0.0


@measure(
    "effective_rank.W_E",
    unit="1",
    ref="Roy and Vetterli 2007 (EUSIPCO), definition 1; W_E not centred",
    each_answer=False,
)
def embedding_effective_rank(view: View) -> Value:
    """exp of the entropy of the normalised singular values of W_E: n for n equal ones."""
    return effective_rank(view.W_E)


@measure(
    "effective_rank.W_L",
    unit="1",
    ref="Roy and Vetterli 2007 (EUSIPCO), definition 1",
    gauge=("scale", "shift"),
    each_answer=False,
)
def readout_effective_rank(view: View) -> Value:
    """exp of the entropy of the normalised singular values of W_L: n for n equal ones."""
    return effective_rank(view.W_L)


@measure(
    "participation_ratio.W_E",
    unit="1",
    ref="Gao et al. 2017 (bioRxiv 214262), on squared singular values; W_E not centred",
    each_answer=False,
)
def embedding_participation_ratio(view: View) -> Value:
    """(Σ s²)² / Σ s⁴ over the singular values of W_E: n for n equal ones; small ones count less than in the
    effective rank."""
    return participation_ratio(view.W_E)


@measure(
    "participation_ratio.W_L",
    unit="1",
    ref="Gao et al. 2017 (bioRxiv 214262), on squared singular values",
    gauge=("scale", "shift"),
    each_answer=False,
)
def readout_participation_ratio(view: View) -> Value:
    """(Σ s²)² / Σ s⁴ over the singular values of W_L: n for n equal ones; small ones count less than in the
    effective rank."""
    return participation_ratio(view.W_L)


def gini(x: Float64[Tensor, "n"]) -> float:
    """G = Σ_i (2i − n − 1) x_(i) / (n Σ x), x sorted ascending (Hurley and Rickard 2009); 0 for an all-zero
    x."""
    x = x.sort().values
    n = len(x)
    total = float(x.sum())
    weights = 2 * torch.arange(1, n + 1) - n - 1
    return float((weights * x).sum()) / (n * total) if total > 0 else 0.0
