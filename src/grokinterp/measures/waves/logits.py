"""The logits: how much of them is a sum of cos w_k(c* − c), c* the right answer (for addition a + b)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float64, Int
from torch import Tensor

from ... import fourier
from ...view import View
from ..base import Value, once_per_view
from .circular import circular, measure, taken
from .projections import mean_logits, share_of_answer


@once_per_view
def logit_coefficients(view: View) -> Float64[Tensor, "freq"]:
    """⟨L, T_k⟩ for every frequency, T_k[n, c] = cos w_k(c*_n − c) / norm.

    One 1-D transform of the mean logits by difference gives all coefficients: no cube of n x p numbers per
    frequency is ever made.
    """
    z = circular(view)
    # Each row of the basis has norm 1 over Z_m; T_k has norm 1 over the n m entries.
    return fourier.basis(z.m)[1::2] @ by_difference(view) * math.sqrt(len(z.answer_at))


@once_per_view
def by_difference(view: View) -> Float64[Tensor, "m"]:
    """The mean of the logits at each difference c* − c, over all examples on the circle: every example has
    one answer at each."""
    z = circular(view)
    sums = mean_logits(view)[:, z.circle.c] * share_of_answer(view)[:, None]
    return torch.zeros(z.m, dtype=torch.float64).index_add_(0, _differences(z.m).flatten(), sums.flatten())


@once_per_view
def power_of_difference(view: View) -> Float64[Tensor, "freq"]:
    """Mean square, over examples and answers, of the part of the logits along cos w_k(c* − c) and sin w_k(c*
    − c)."""
    return fourier.by_frequency(fourier.transform(by_difference(view)).square()) / circular(view).m


def _differences(m: int) -> Int[Tensor, "m m"]:
    """c* − c, of every right answer and every answer."""
    return (torch.arange(m)[:, None] - torch.arange(m)) % m


@once_per_view
def logits_on_circle(view: View) -> Float64[Tensor, "rows m"]:
    """The logits of the examples on the circle, of the answers in its order. Not to be changed."""
    z = circular(view)
    return taken(z.of_circle(view.logits).T, z.circle.c).T


def cosine_logits(view: View, keys: Sequence[int]) -> Float64[Tensor, "rows answers"]:
    """Σ_k α_k cos w_k(c* − c) with the coefficients of the network's own logits; 0 for answers that stand off
    the circle."""
    return cosines_of_answer(view, keys)[circular(view).answer_at]


def cosines_of_answer(
    view: View, keys: Sequence[int], elsewhere: float = 0.0
) -> Float64[Tensor, "m answers"]:
    """`cosine_logits` at each right answer, with another value for answers that stand off the circle."""
    # One function of the difference c* − c on Z_m. The basis is normalised over Z_m.
    z = circular(view)
    alphas = logit_coefficients(view)[[k - 1 for k in keys]] / math.sqrt(len(z.answer_at))
    of_difference = alphas @ fourier.basis(z.m)[[2 * k - 1 for k in keys]]
    logits = torch.full((z.m, view.task.n_answers), elsewhere, dtype=torch.float64)
    logits[:, z.circle.c] = of_difference[_differences(z.m)]
    return logits


@once_per_view
def logit_cosines(view: View) -> Float64[Tensor, "freq"]:
    """Cosine similarity of the centred logits with each T_k; 0 where the logits are constant."""
    size = (variance_of_logits(view) * logits_on_circle(view).numel()) ** 0.5
    coefficients = logit_coefficients(view)
    return coefficients / size if size > 0 else torch.zeros_like(coefficients)


@once_per_view
def variance_of_logits(view: View) -> float:
    """Mean square, over examples and answers, of the logits centred over the answers."""
    logits = logits_on_circle(view)
    squares = sum(float((some - some.mean(1, keepdim=True)).square_().sum()) for some in logits.split(1024))
    return squares / logits.numel()


@measure(
    "logit_cosine",
    unit="1",
    ref="Nanda et al. 2023, section 4.3; Chughtai et al. 2023 (arXiv 2302.03025), section 4",
)
def logit_cosine(view: View) -> Value:
    """For each frequency k, cosine similarity of the logits (centred over c) with cos w_k(c* − c); for
    addition cos w_k(a + b − c)."""
    return circular(view).per_frequency(logit_cosines(view))


@measure(
    "logit_fve.centred",
    unit="1",
    ref="Nanda et al. 2023, section 4.3 (95 % in their run); Chughtai et al. 2023, section 4",
)
def logit_fve_centred(view: View) -> Value:
    """Share of the variance of the logits, centred over c, that all cos w_k(c* − c) together explain. Softmax
    cannot see the centring."""
    return float(logit_cosines(view).square().sum())


@measure("logit_fve.raw", unit="1", ref="released notebook of Nanda et al. 2023", gauge=("shift",))
def logit_fve_raw(view: View) -> Value:
    """Share of the sum of squares of the raw logits that all cos w_k(c* − c) together explain: a constant
    added to all logits of an example lowers it, though it changes no probability."""
    size = logits_on_circle(view).norm()
    return float((logit_coefficients(view) / size).square().sum()) if size > 0 else 0.0
