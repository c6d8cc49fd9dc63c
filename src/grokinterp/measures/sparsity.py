"""How few directions the weights are made of, and how unequal numbers are."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float64
from torch import Tensor

from ..view import View
from .base import Value, measure

Number = Callable[[Tensor], float]


def of_weights(name: str, ref: str, words: str) -> Callable[[Number], Number]:
    """Registers a number of a matrix, in words, as a measure of W_E and one of W_L."""

    def register(number: Number) -> Number:
        def of_embedding(view: View) -> Value:
            return number(view.W_E)

        def of_readout(view: View) -> Value:
            return number(view.W_L)

        of_embedding.__doc__, of_readout.__doc__ = words.format("W_E"), words.format("W_L")
        measure(f"{name}.W_E", unit="1", ref=f"{ref}; W_E not centred", each_answer=False)(of_embedding)
        measure(f"{name}.W_L", unit="1", ref=ref, gauge=("scale", "shift"), each_answer=False)(of_readout)
        return number

    return register


@of_weights(
    "effective_rank",
    "Roy and Vetterli 2007 (EUSIPCO), definition 1",
    "exp of the entropy of the normalised singular values of {}: n for n equal ones.",
)
def effective_rank(matrix: Float64[Tensor, "rows columns"]) -> float:
    """exp of the entropy of the singular values, normalised to sum 1; 0 for a matrix of zeros."""
    s = torch.linalg.svdvals(matrix)
    total = s.sum()
    return float(torch.special.entr(s / total).sum().exp()) if total > 0 else 0.0


@of_weights(
    "participation_ratio",
    "Gao et al. 2017 (bioRxiv 214262), on squared singular values",
    "(Σ s²)² / Σ s⁴ over the singular values of {}: n for n equal ones; small ones count less than in the "
    "effective rank.",
)
def participation_ratio(matrix: Float64[Tensor, "rows columns"]) -> float:
    """(Σ s²)² / Σ s⁴ over the singular values; 0 for a matrix of zeros."""
    power = torch.linalg.svdvals(matrix).square()
    return float(power.sum().square() / power.square().sum()) if power.sum() > 0 else 0.0


def gini(x: Float64[Tensor, "n"]) -> float:
    """G = Σ_i (2i − n − 1) x_(i) / (n Σ x), x sorted ascending (Hurley and Rickard 2009); 0 where x is 0."""
    x = x.sort().values
    n = len(x)
    total = float(x.sum())
    weights = 2 * torch.arange(1, n + 1) - n - 1
    return float((weights * x).sum()) / (n * total) if total > 0 else 0.0
