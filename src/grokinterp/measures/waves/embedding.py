"""The embedding: its Fourier spectrum, its principal components, and the circles that it draws."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float64, Int
from torch import Tensor

from ... import fourier
from ...view import View
from ..base import Value, once_per_view
from ..embedding import principal_components
from ..sparsity import gini
from .circular import circular, measure

OF_NORMS = "Hurley and Rickard 2009; Nanda et al. 2023, table 5 (on component norms without the constant)"


def component_norms(matrix: Float64[Tensor, "m width"]) -> Float64[Tensor, "component"]:
    """Norm of each Fourier component of a matrix whose rows stand on the circle."""
    return fourier.transform(matrix).norm(dim=1)


def frequency_power(matrix: Float64[Tensor, "m width"]) -> Float64[Tensor, "freq"]:
    """Sum of the squared coefficients of each frequency, of a matrix whose rows stand on the circle."""
    return fourier.by_frequency(component_norms(matrix).square())


@measure("fourier_norms.W_E", unit="weight", ref="Nanda et al. 2023, section 4.1 and figure 3")
def embedding_spectrum(view: View) -> Value:
    """‖F_i W_E‖: the norm of each Fourier component of the embedding of the elements."""
    z = circular(view)
    return z.per_component(component_norms(z.embedding))


@measure("gini.W_E", unit="1", ref=OF_NORMS)
def embedding_gini(view: View) -> Value:
    """Gini coefficient of the component norms of W_E without the constant: 0 where all are alike, near 1
    where few carry all."""
    return gini(component_norms(circular(view).embedding)[1:])


def plane(view: View, k: int) -> Float64[Tensor, "m 2"]:
    """Coordinates of the elements in the plane of the embedding's components cos k and sin k; for Nyquist the
    second is 0.

    The axes are the right angle nearest to the two components, so element 0 lies to the right, and pictures
    of two steps compare.
    """
    z = circular(view)
    u, _, v = torch.linalg.svd(fourier.directions(z.m, k) @ z.embedding, full_matrices=False)
    return _in_two_columns((z.embedding - z.embedding.mean(0)) @ (u @ v).T)


def circle_fit(
    points: Float64[Tensor, "*each p 2"], k: Int[Tensor, "*each"]
) -> tuple[Float64[Tensor, "*each"], Float64[Tensor, "*each"]]:
    """How far points of the plane are on a circle, walked round k times as the element goes through Z_p.

    Returns:
        the resultant length of angle − 2πka/p, turning either way (1: the angle follows k a exactly; about
        1/√p for points that know nothing of k), and the radius spread std(r) / mean(r).
    """
    p = points.shape[-2]
    x, y = (points - points.mean(-2, keepdim=True)).unbind(-1)
    angle, radius = torch.atan2(y, x), torch.hypot(x, y)
    expected = 2 * math.pi * (k[..., None] * torch.arange(p) % p).double() / p
    ways = [torch.polar(torch.ones_like(angle), angle - way * expected).mean(-1).abs() for way in (1, -1)]
    mean = radius.mean(-1)
    return torch.maximum(*ways), torch.where(mean > 0, radius.std(-1, unbiased=False) / mean, 0.0)


@once_per_view
def _circles(view: View) -> tuple[Float64[Tensor, "freq"], Float64[Tensor, "freq"]]:
    """The fit of every frequency in its own plane."""
    frequencies = circular(view).frequencies
    return circle_fit(torch.stack([plane(view, k) for k in frequencies]), torch.tensor(frequencies))


@measure(
    "circle.angle",
    unit="1",
    ref="Liu et al. 2022 (arXiv 2205.10343); Zhong et al. 2023 (arXiv 2306.17844), section 2",
)
def circle_angle(view: View) -> Value:
    """For each frequency k, how exactly the angle of an element in the plane of the embedding's components
    cos k and sin k follows 2πka/p.

    The resultant length of the differences; 1 is exact. The plane is fitted to k, so chance is far above 1/√p
    and grows with √(2 d_model / p): 0.74 for p = 113 and d_model = 128. The Nyquist frequency draws no
    circle, only two points.
    """
    return circular(view).per_frequency(_circles(view)[0])


@measure("circle.radius_spread", unit="1", ref="Liu et al. 2022 (arXiv 2205.10343)")
def circle_radius_spread(view: View) -> Value:
    """For each frequency k, std / mean of the radius in the plane of the embedding's components cos k and sin
    k: 0 is a perfect circle."""
    return circular(view).per_frequency(_circles(view)[1])


@measure("pca_circle.angle", unit="1", ref="Liu et al. 2022 (arXiv 2205.10343)")
def pca_circle_angle(view: View) -> Value:
    """For each frequency k, how exactly the angle of an element in the plane of the first two principal
    components follows 2πka/p.

    The resultant length of the differences: 1 is exact, about 1/√p is chance.
    """
    z = circular(view)
    points = _in_two_columns(principal_components(view)[0][z.circle.a, :2])
    frequencies = torch.tensor(z.frequencies)
    return z.per_frequency(circle_fit(points.expand(len(frequencies), -1, -1), frequencies)[0])


def _in_two_columns(x: Float64[Tensor, "m width"]) -> Float64[Tensor, "m 2"]:
    return torch.nn.functional.pad(x, (0, 2 - x.shape[1]))
