"""How vectors that stand for things lie in space, against the coordinates of these things and against chance.

A cloud is an embedding [m, d] of m elements; E is the same less its mean, with the singular value
decomposition E = U S Vᵀ, and C [m, c] the centred coordinates of the elements. Everything is float64, and a
pure function of the two.

    planarity       (S₁² + S₂²) / Σ S²
    carried         ‖u_iᵀ C‖² / ‖C‖² of principal component i: how much of the coordinates it carries; summed
                    over components, the share that an affine function of these gives
    left_out_r2     how well an affine function of the first k components predicts the coordinates of an
                    element that was left out of the fit: 1 is exact, 0 as good as the mean, and below 0 worse
    polynomial      the share of ‖E‖² inside the span of the polynomials of a degree in the coordinates
    fold            the even less the odd part of E under a reflection through the centre
    alignment       how far the elements in a plane are their coordinates turned, mirrored, scaled and moved

An embedding of few elements in many dimensions carries anything: 49 points in 128 dimensions have every label
as an affine function of them. So every number stands beside what it is by chance: the same of `DRAWS` random
relabellings, in which the elements keep their vectors and get each other's coordinates. Where labels play no
part, as in planarity, it is that of as many random clouds of the same shape (Horn 1965).
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float64, Int
from torch import Tensor

DRAWS = 200
"""Relabellings, or random clouds, that chance is told from."""
QUANTILE = 0.95
MOST_COMPONENTS = 20
"""Principal components among which the best pair is looked for."""
_ROUNDING = 1e-10
"""A singular value that is no larger than this share of the first is rounding."""

Orders = Int[Tensor, "*each m"]
Coordinates = Float64[Tensor, "*each m c"]


class Principal(NamedTuple):
    """The principal components of a cloud, largest first, without those that are rounding.

    Attributes:
        directions: U, one column of norm 1 for each component.
        sizes: S.
    """

    directions: Float64[Tensor, "m pc"]
    sizes: Float64[Tensor, "pc"]

    @property
    def shares(self) -> Float64[Tensor, "pc"]:
        """Each one's share of the variance."""
        return self.sizes.square() / self.sizes.square().sum()

    @property
    def scores(self) -> Float64[Tensor, "m pc"]:
        """Where the elements lie on each."""
        return self.directions * self.sizes


class Chance(NamedTuple):
    """A number, and what it is by chance: mean, 95 % quantile and maximum over the draws. Where small numbers
    are the remarkable ones, 5 % quantile and minimum."""

    value: float
    mean: float
    quantile: float
    extreme: float


def principal(x: Float64[Tensor, "m d"]) -> Principal:
    """The principal components.

    Raises:
        ValueError: all elements are in one place.
    """
    u, s, _ = torch.linalg.svd(_centred(x), full_matrices=False)
    if not s[0] > torch.finfo(s.dtype).tiny ** 0.5:
        raise ValueError("all elements are embedded in one place")
    kept = s > _ROUNDING * s[0]
    return Principal(u[:, kept], s[kept])


def planarity(x: Float64[Tensor, "m d"]) -> float:
    """The share of the variance in the first two principal components."""
    return float(principal(x).shares[:2].sum())


def carried_of_each(of: Principal, coordinates: Float64[Tensor, "m c"]) -> Float64[Tensor, "pc c"]:
    """The share of every coordinate on every component; 0 of a coordinate that never varies."""
    c = _centred(coordinates)
    size = c.square().sum(0)
    return torch.where(size > 0, (of.directions.T @ c).square() / size, 0.0)


def carried(of: Principal, coordinates: Coordinates) -> Float64[Tensor, "*each pc"]:
    """The share of all coordinates on every component."""
    c = _centred(coordinates)
    return (of.directions.T @ c).square().sum(-1) / c.square().sum((-2, -1))[..., None]


def r2_top2(of: Principal, coordinates: Coordinates) -> Float64[Tensor, "*each"]:
    """R² of the best affine function from the plane of the first two components to the coordinates."""
    return carried(of, coordinates)[..., :2].sum(-1)


def best_pair(of: Principal, coordinates: Coordinates) -> Int[Tensor, "*each two"]:
    """The two of the first 20 components whose plane carries most of the coordinates, in their order. What
    components carry adds up, so these are the two that carry most."""
    shares = carried(of, coordinates)[..., :MOST_COMPONENTS]
    return shares.topk(min(2, shares.shape[-1])).indices.sort().values


def best_pair_r2(of: Principal, coordinates: Coordinates) -> Float64[Tensor, "*each"]:
    """R² of the best affine function from the plane of the best pair to the coordinates."""
    shares = carried(of, coordinates)[..., :MOST_COMPONENTS]
    return shares.topk(min(2, shares.shape[-1])).values.sum(-1)


def left_out_r2(of: Principal, coordinates: Coordinates, k: int) -> Float64[Tensor, "*each"]:
    """R² of the coordinates of elements that were left out, one by one, of the affine fit from the first k
    components.

    By the hat matrix H = 1/m + U_k U_kᵀ: an element that is left out is missed by its residual over 1 − H_ii.
    The components are those of all elements, for which no coordinate is needed.

    Raises:
        ValueError: there are not so many components, or an element alone decides the direction of one.
    """
    u = of.directions[:, :k]
    free = 1 - 1 / len(u) - u.square().sum(1)
    if u.shape[1] < k or free.min() < _ROUNDING:
        raise ValueError(f"{len(u)} elements leave nothing to predict from {k} components")
    c = _centred(coordinates)
    missed = (c - u @ (u.T @ c)) / free[:, None]
    return 1 - missed.square().sum((-2, -1)) / c.square().sum((-2, -1))


def monomials(coordinates: Coordinates, degrees: tuple[int, ...]) -> Float64[Tensor, "*each m term"]:
    """The monomials of these degrees in the centred coordinates, which are scaled to at most 1."""
    c = _centred(coordinates)
    c = c / c.abs().amax((-2, -1), keepdim=True)
    axes = range(c.shape[-1])
    terms = [term for n in degrees for term in itertools.combinations_with_replacement(axes, n)]
    return torch.stack([c[..., list(term)].prod(-1) for term in terms], dim=-1)


def share_inside(
    x: Float64[Tensor, "m d"], columns: Float64[Tensor, "*each m term"]
) -> Float64[Tensor, "*each"]:
    """The share of the variance of a cloud that affine combinations of the columns explain."""
    u, s, _ = torch.linalg.svd(_centred(columns), full_matrices=False)
    u = u * (s > _ROUNDING * s[..., :1])[..., None, :]
    e = _centred(x)
    return (u.mT @ e).square().sum((-2, -1)) / e.square().sum()


def polynomial(x: Float64[Tensor, "m d"], coordinates: Coordinates, degree: int) -> Float64[Tensor, "*each"]:
    """The share of the variance that polynomials of the coordinates explain, up to that degree."""
    return share_inside(x, monomials(coordinates, tuple(range(1, degree + 1))))


def polynomial_fold(
    x: Float64[Tensor, "m d"], coordinates: Coordinates, degree: int = 3
) -> Float64[Tensor, "*each"]:
    """The share of the variance that monomials of even degree explain less that which those of odd degree do,
    up to a degree."""
    of_parity = [tuple(n for n in range(1, degree + 1) if n % 2 == odd) for odd in (0, 1)]
    even, odd = (share_inside(x, monomials(coordinates, degrees)) for degrees in of_parity)
    return even - odd


def reflected_fold(
    x: Float64[Tensor, "m d"], mirror: Int[Tensor, "m"], orders: Orders
) -> Float64[Tensor, "*each"]:
    """Σ E(p) · E(p') / Σ ‖E(p)‖², p' the mirror image of p: 1 where the two are embedded alike, −1 where they
    are opposite.

    The share of the variance that is even under the reflection less that which is odd.

    Args:
        x: the cloud.
        mirror: the place that each place is put into.
        orders: the place of each element.
    """
    e = _centred(x)
    partner = orders.argsort(-1).gather(-1, mirror[orders])
    return (e[partner] * e).sum((-2, -1)) / e.square().sum()


def alignment(
    of: Principal, coordinates: Coordinates, pair: Int[Tensor, "*or_each two"]
) -> Float64[Tensor, "*each"]:
    """How far the elements in the plane of two components are their coordinates, up to turning, mirroring,
    scaling and moving all of them: 1 is exact.

    1 less the squared distance that is left of either where both have size 1 (Procrustes); of an affine image
    it is less than 1.
    """
    z = of.scores.T[pair].mT
    c = _centred(coordinates)
    along = torch.linalg.svdvals(z.mT @ c).sum(-1).square()
    return along / (z.square().sum((-2, -1)) * c.square().sum((-2, -1)))


def upright(plane: Float64[Tensor, "m 2"], coordinates: Float64[Tensor, "m c"]) -> Float64[Tensor, "m 2"]:
    """The elements in a plane, turned and mirrored so that they lie as nearly as can be as their first two
    coordinates do, so that pictures of different moments compare. Distances stay."""
    c = _centred(coordinates)[:, :2]
    c = torch.nn.functional.pad(c, (0, 2 - c.shape[1]))
    u, _, v = torch.linalg.svd(_centred(plane).T @ c)
    return _centred(plane) @ u @ v


def circle_angle(points: Float64[Tensor, "m 2"], orders: Orders) -> Float64[Tensor, "*each"]:
    """How exactly the angles of points in a plane follow 2πka/m, a the place of each on Z_m, for the k for
    which they do most: the resultant length of the differences, turning either way.

    1 is exact. It is the modulus of the largest Fourier coefficient of e^{i angle} over the circle, without
    the constant.
    """
    x, y = _centred(points).unbind(-1)
    turn = torch.polar(torch.ones_like(x), torch.atan2(y, x))
    at_place = turn[orders.argsort(-1)]
    return torch.fft.fft(at_place).abs()[..., 1:].amax(-1) / len(turn)


def radius_spread(points: Float64[Tensor, "*each m 2"]) -> Float64[Tensor, "*each"]:
    """std / mean of the distances from the centre: 0 is a perfect circle."""
    radius = _centred(points).norm(dim=-1)
    return radius.std(-1, unbiased=False) / radius.mean(-1)


@functools.lru_cache(maxsize=16)
def relabellings(m: int) -> Int[Tensor, "draw m"]:
    """The elements in their order, and then in `DRAWS` random ones, always the same; not to be changed."""
    generator = torch.Generator().manual_seed(0)
    shuffled = [torch.randperm(m, generator=generator) for _ in range(DRAWS)]
    return torch.stack([torch.arange(m), *shuffled])


def against_relabelling(values: Callable[[Orders], Float64[Tensor, "draw"]], m: int) -> Chance:
    """A number of m elements against the same with their labels exchanged.

    Args:
        values: the number for each of several orders, in which entry i is the element whose label element i
            gets.
        m: how many elements.
    """
    value, *draws = values(relabellings(m)).tolist()
    return chance(value, torch.tensor(draws, dtype=torch.float64))


def chance(value: float, draws: Float64[Tensor, "draw"], smallest: bool = False) -> Chance:
    """A number against draws of chance; `smallest` where small ones are remarkable."""
    at, extreme = (1 - QUANTILE, draws.min()) if smallest else (QUANTILE, draws.max())
    return Chance(value, float(draws.mean()), float(draws.quantile(at)), float(extreme))


@functools.lru_cache(maxsize=16)
def random_clouds(m: int, d: int) -> tuple[Float64[Tensor, "draw"], Float64[Tensor, "draw"]]:
    """Planarity, and the radius spread in the plane of the first two principal components, of `DRAWS` clouds
    of normal random numbers of this shape, always the same; not to be changed."""
    generator = torch.Generator().manual_seed(0)
    drawn = (principal(torch.randn(m, d, generator=generator, dtype=torch.float64)) for _ in range(DRAWS))
    both = [(float(of.shares[:2].sum()), float(radius_spread(in_two(of)))) for of in drawn]
    flat, spread = torch.tensor(both, dtype=torch.float64).unbind(1)
    return flat, spread


def in_two(of: Principal) -> Float64[Tensor, "m 2"]:
    """The elements in the plane of the first two components; where there is one, the second is 0."""
    scores = of.scores[:, :2]
    return torch.nn.functional.pad(scores, (0, 2 - scores.shape[1]))


def _centred(x: Float64[Tensor, "*each m width"]) -> Float64[Tensor, "*each m width"]:
    return x - x.mean(-2, keepdim=True)
