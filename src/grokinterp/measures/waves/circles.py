"""One circle of the embedding at a time: a clock or a pizza (Zhong et al. 2023, arXiv 2306.17844, table 1)?

The network runs with nothing else in its embedding, and its logits are held against the two formulas:

    clock   cos w_k(a + b − c)
    pizza   |cos w_k(a − b)/2| cos w_k(a + b − c)

In a whole network circles hide what each of them does: those of 2k fill the weak places of the pizza of k
("accompanying pizzas"). The logits of the paper's Model A are a clock's to 99.5 % as a whole, and each of its
three circles is a pizza. Nor need the circles of one network be alike.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float64
from torch import Tensor

from ... import fourier
from ...view import View
from ..base import Value, array, once_per_view
from .circular import circular, measure
from .keys import keys_of

REF = "Zhong et al. 2023 (arXiv 2306.17844), table 1 and the released notebook: "
CENTRED = "after Zhong et al. 2023 (arXiv 2306.17844), table 1; isolation and centring here"


@measure("clock_fit.pcs", unit="1", ref=REF + "75.4, 75.6, 75.4 % for Model A", gauge=("shift",))
def clock_fit_pcs(view: View, keys: Sequence[int] | None = None) -> Value:
    """For each key k, variance of the logits that cos w_k(c* − c) explains when the embedding is cut to two
    principal components.

    As published: the mean of the embedding and the two components with the most of k are kept, and the logits
    and the formula are brought to mean 0 and variance 1, so that the value is 2r − 1, r the correlation.
    `keys` defaults to the consensus.
    """
    return _per_key(view, keys, lambda k: 2 * _fits_to_two_pcs(view, k)[0] - 1)


@measure("pizza_fit.pcs", unit="1", ref=REF + "98.3, 98.3, 98.4 % for Model A", gauge=("shift",))
def pizza_fit_pcs(view: View, keys: Sequence[int] | None = None) -> Value:
    """The same of |cos w_k(a − b)/2| (|cos w_k(c* − c)/2| − |sin w_k(c* − c)/2|), which is the released
    code's form of the pizza.

    The bracket has the shape of cos w_k(c* − c) to 99.3 %. `keys` defaults to the consensus.
    """
    return _per_key(view, keys, lambda k: 2 * _fits_to_two_pcs(view, k)[1] - 1)


@measure("clock_fit.fourier", unit="1", ref=CENTRED)
def clock_fit_fourier(view: View, keys: Sequence[int] | None = None) -> Value:
    """For each key k, share of the variance of the logits that α cos w_k(c* − c) explains when the embedding
    is cut to frequency k.

    The mean of the embedding and its components cos k and sin k are kept. The logits are centred over c, and
    over examples: what is the same for every example comes from the cut and not from the circle. `keys`
    defaults to the consensus.
    """
    return _per_key(view, keys, lambda k: _fits_to_one_frequency(view, k)[0] ** 2)


@measure("pizza_fit.fourier", unit="1", ref=CENTRED)
def pizza_fit_fourier(view: View, keys: Sequence[int] | None = None) -> Value:
    """The same of α |cos w_k(a − b)/2| cos w_k(c* − c); a clock has 8/π² = .81 of it, as a pizza has of the
    clock's form.

    `keys` defaults to the consensus.
    """
    return _per_key(view, keys, lambda k: _fits_to_one_frequency(view, k)[1] ** 2)


def _per_key(view: View, keys: Sequence[int] | None, value: Callable[[int], float]) -> Value:
    wanted = keys_of(view, keys)
    return array([value(k) for k in wanted], "freq", freq=wanted)


def _away(view: View, k: int) -> Float64[Tensor, "rows m"]:
    """w_k(c* − c), between 0 and 2πk; reduced as integers first, as k(c* − c) mod 2m, so that half of it is
    exact too."""
    z = circular(view)
    difference = z.answer_at[:, None] - torch.arange(z.m)
    return (k * difference % (2 * z.m)).double() * (2 * torch.pi / z.m)


def clock_wave(view: View, k: int) -> Float64[Tensor, "rows m"]:
    """cos w_k(c* − c) for every example on the circle and every answer."""
    return _away(view, k).cos()


def nearness(view: View, k: int) -> Float64[Tensor, "rows"]:
    """|cos w_k(a − b)/2|: 1 where a and b are in one place of the circle of k, 0 where opposite."""
    z = circular(view)
    i, j = z.operands_at.unbind(1)
    return ((k * (i - j) % (2 * z.m)).double() * (torch.pi / z.m)).cos().abs()


def _correlation(x: Float64[Tensor, "rows m"], y: Float64[Tensor, "rows m"]) -> float:
    """0 where one of them does not vary."""
    x, y = x - x.mean(), y - y.mean()
    size = x.norm() * y.norm()
    return float((x * y).sum() / size) if size > 1e-150 else 0.0


@once_per_view
def _fits_to_two_pcs(view: View, k: int) -> tuple[float, float]:
    """How far the logits of a circle of two principal components correlate with the clock's and with the
    pizza's formula."""
    embedding = circular(view).embedding
    mean = embedding.mean(0)
    u, s, vh = torch.linalg.svd(embedding - mean, full_matrices=False)
    best = fourier.by_frequency(fourier.transform(u * s).square())[k - 1].topk(min(2, len(s))).indices
    logits = _logits_with(view, (u * s)[:, best] @ vh[best] + mean)
    half = _away(view, k) / 2
    pizza = nearness(view, k)[:, None] * (half.cos().abs() - half.sin().abs())
    return _correlation(logits, clock_wave(view, k)), _correlation(logits, pizza)


@once_per_view
def _fits_to_one_frequency(view: View, k: int) -> tuple[float, float]:
    """The same of a circle of one frequency, and logits less their means."""
    logits = _logits_with(view, at_frequencies(circular(view).embedding, [k]))
    logits = logits - logits.mean(0)
    logits = logits - logits.mean(1, keepdim=True)
    clock = clock_wave(view, k)
    return _correlation(logits, clock), _correlation(logits, nearness(view, k)[:, None] * clock)


def at_frequencies(x: Float64[Tensor, "m width"], keys: Sequence[int]) -> Float64[Tensor, "m width"]:
    """The mean of x over the circle, and its components of these frequencies."""
    rows = torch.cat([fourier.directions(len(x), k) for k in keys])
    return x.mean(0) + rows.T @ (rows @ x)


def _logits_with(view: View, embedding: Float64[Tensor, "m width"]) -> Float64[Tensor, "rows m"]:
    z = circular(view)
    return with_embedding(view, embedding).activations([], rows=z.on_circle)["logits"][:, z.circle.c]


def with_embedding(view: View, embedding: Float64[Tensor, "m width"]) -> View:
    """A View of the same network with the elements on the circle embedded otherwise; `embedding` as
    `Circular.embedding` has it."""
    changed: dict[str, Tensor] = {}
    parts = embedding.chunk(len(view.embedding_rows), dim=1)
    for (name, rows), columns in zip(view.embedding_rows, parts, strict=True):
        table = changed.setdefault(name, view.weights[name].clone())
        table[rows[circular(view).circle.a]] = columns.to(table)
    return view.with_weights(changed)
