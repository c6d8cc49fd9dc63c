"""Fourier analysis on the integers mod p, in float64: bases, transforms and projections. No model, no disk.

The basis of Z_p is real and orthonormal. Its rows ("components") are the constant, then for k = 1, 2, ... cos
2πk·/p and sin 2πk·/p; for even p the last row is the Nyquist component cos π·, which has no sine (its
frequency is p/2). There are p components and floor(p/2) frequencies, for every p >= 2. Conventions: Nanda et
al. 2023 (arXiv 2301.05217), section 4.1.
"""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import torch
from jaxtyping import Float64, Int
from torch import Tensor


def basis(p: int) -> Float64[Tensor, "component p"]:
    """The orthonormal components as rows, p of them.

    Raises:
        ValueError: p is less than 2.
    """
    if p < 2:
        raise ValueError(f"needs p >= 2, got p={p}")
    return _rows(p).clone()  # a caller may change it


@functools.lru_cache(maxsize=4)
def _rows(p: int) -> Float64[Tensor, "component p"]:
    # The product is reduced mod p as an integer first: cosines of large angles lose digits.
    k, x = torch.arange(p // 2 + 1), torch.arange(p)
    angle = 2 * math.pi * (k[:, None] * x % p).double() / p
    rows = torch.stack([angle.cos(), angle.sin()], dim=1).flatten(0, 1)
    rows = torch.cat([rows[:1], rows[2:]])[:p]  # no sine of frequency 0, nor (for even p) of p/2
    return rows / rows.norm(dim=1, keepdim=True)


def n_frequencies(p: int) -> int:
    """How many frequencies Z_p has: floor(p / 2), the Nyquist frequency of even p among them."""
    return p // 2


def component_frequencies(p: int) -> Int[Tensor, "component"]:
    """The frequency of every component: 0, 1, 1, 2, 2, ..."""
    return (torch.arange(p) + 1) // 2


def component_names(p: int) -> list[str]:
    """What stands on axis labels for every component: "const", "cos 1", "sin 1", ..."""
    return ["const"] + [f"{'cos' if i % 2 else 'sin'} {(i + 1) // 2}" for i in range(1, p)]


def transform(x: Float64[Tensor, "p *rest"]) -> Float64[Tensor, "component *rest"]:
    """Coefficients of x along its first dimension."""
    return torch.tensordot(basis(x.shape[0]), x, dims=([1], [0]))


def inverse(coefficients: Float64[Tensor, "component *rest"]) -> Float64[Tensor, "p *rest"]:
    """What has these coefficients along its first dimension."""
    return torch.tensordot(basis(coefficients.shape[0]), coefficients, dims=([0], [0]))


def transform_2d(x: Float64[Tensor, "p p *rest"]) -> Float64[Tensor, "component component *rest"]:
    """Coefficients of x on the products of components of its first two dimensions."""
    return transform(transform(x).transpose(0, 1)).transpose(0, 1)


def by_frequency(x: Float64[Tensor, "component *rest"]) -> Float64[Tensor, "freq *rest"]:
    """Sums a quantity over the components of each frequency 1 .. floor(p/2); the constant is left out."""
    p = x.shape[0]
    total = x.new_zeros((n_frequencies(p) + 1, *x.shape[1:]))
    return total.index_add_(0, component_frequencies(p), x)[1:]


class Strongest(NamedTuple):
    """The largest value of each column, and which frequency has it (0 is k = 1)."""

    share: Float64[Tensor, "*rest"]
    which: Int[Tensor, "*rest"]


def strongest(of_frequency: Float64[Tensor, "freq *rest"]) -> Strongest:
    """The frequency with the largest value: the lowest of those that are as large to 1e-9, so that no
    rounding chooses. A neuron that one pair alone turns on has all frequencies alike."""
    largest = of_frequency.amax(0)
    return Strongest(largest, (of_frequency >= largest * (1 - 1e-9)).double().argmax(0))


def block_power(x: Float64[Tensor, "p p *rest"]) -> Float64[Tensor, "freq *rest"]:
    """Power of x, as a function of (a, b), in the 3 x 3 block of each frequency, without the constant.

    The block of k holds the products of {1, cos k, sin k} of a and of b: the 8 terms that a function of
    frequency k alone is made of (Nanda et al. 2023, section 4.2). For the Nyquist frequency it is 2 x 2.
    Blocks of different k share nothing.
    """
    return block_variance(x)[0]


def block_variance(
    x: Float64[Tensor, "p p *rest"],
) -> tuple[Float64[Tensor, "freq *rest"], Float64[Tensor, "*rest"]]:
    """`block_power` of x without its mean over (a, b), and the power of all of that; exactly 0 where x is
    constant."""
    return LineSums(x).block_variance()


def block_fit(x: Float64[Tensor, "p p *rest"], k: int) -> Float64[Tensor, "p p *rest"]:
    """The part of x, as a function of (a, b), in the 3 x 3 block of k and the constant: its degree-2
    trigonometric polynomial."""
    rows = torch.cat([basis(len(x))[:1], directions(len(x), k)])
    onto = rows.T @ rows
    along_a = torch.tensordot(onto, x, dims=([1], [0]))
    return torch.tensordot(onto, along_a.transpose(0, 1), dims=([1], [0])).transpose(0, 1)


def sum_and_difference_power(
    x: Float64[Tensor, "p p *rest"],
) -> tuple[Float64[Tensor, "freq *rest"], Float64[Tensor, "freq *rest"]]:
    """Power of x(a, b) along the waves of a + b and along those of a − b, for each frequency.

    The two share out the four products of {cos k, sin k} of a and of b. For the Nyquist frequency a + b and a
    − b are the same, and each gets half.
    """
    return LineSums(x).sum_and_difference_power()


class LineSums:
    """Sums of x, a function of (a, b), over all pairs of one a, of one b, of one a + b and of one a − b.

    The 3 x 3 block of a frequency spans the waves of these four: their sums hold all of it, and no 2-D
    transform is made.

    Attributes:
        origin: x at (0, 0). All sums are of x less that: nearer to 0 less is lost in them, and no wave sees a
            constant.
        of_a, of_b, of_sum, of_difference: the sums, at each value mod p.
        squares: the sum of all squares.
    """

    def __init__(self, x: Float64[Tensor, "p p *rest"]) -> None:
        p = len(x)
        self.origin: Float64[Tensor, "*rest"] = x[0, 0].clone()
        self.of_a, self.of_b, squares, row = (torch.zeros_like(x[0]) for _ in range(4))
        sums = x.new_zeros(2, 2 * p, *x.shape[2:])  # at a + b and at p + b − a, not yet reduced mod p
        for a, values in enumerate(x):  # each stays in the processor's cache while it is used
            torch.sub(values, self.origin, out=row)
            torch.sum(row, 0, out=self.of_a[a])
            self.of_b += row
            sums[0, a : a + p] += row
            sums[1, p - a : 2 * p - a] += row
            squares.addcmul_(row, row)
        self.of_sum, of_b_less_a = (each[:p] + each[p:] for each in sums)
        self.of_difference = of_b_less_a[-torch.arange(p) % p]
        self.squares: Float64[Tensor, "*rest"] = squares.sum(0)

    def block_variance(self) -> tuple[Float64[Tensor, "freq *rest"], Float64[Tensor, "*rest"]]:
        """That of x."""
        total = self.squares - self.of_b.sum(0).square() / len(self.of_b) ** 2
        mixed = sum(self.sum_and_difference_power())
        return _wave_power(self.of_a) + _wave_power(self.of_b) + mixed, total.clamp_min(0)

    def sum_and_difference_power(self) -> tuple[Float64[Tensor, "freq *rest"], Float64[Tensor, "freq *rest"]]:
        """That of x."""
        alike, apart = map(_wave_power, (self.of_sum, self.of_difference))
        if len(self.of_b) % 2 == 0:  # the Nyquist wave of a + b is that of a − b
            alike[-1] /= 2
            apart[-1] /= 2
        return alike, apart


def sums_of_sum(x: Float64[Tensor, "p p *rest"]) -> Float64[Tensor, "p *rest"]:
    """Sums of x, a function of (a, b), over all pairs of one a + b mod p."""
    p = len(x)
    sums = x.new_zeros(2 * p, *x.shape[2:])  # not yet reduced mod p
    for a, row in enumerate(x):
        sums[a : a + p] += row
    return sums[:p] + sums[p:]


def _wave_power(sums: Float64[Tensor, "p *rest"]) -> Float64[Tensor, "freq *rest"]:
    """Power, of a function on the p x p grid, along the waves of which these are its sums: a wave of norm 1
    on Z_p has norm √p there."""
    return by_frequency(transform(sums).square()) / len(sums)


def directions(p: int, k: int) -> Float64[Tensor, "component_of_k p"]:
    """The components of frequency k: cosine and sine, or the cosine alone for the Nyquist frequency.

    Raises:
        ValueError: k is not in 1 .. floor(p/2).
    """
    if not 1 <= k <= n_frequencies(p):
        raise ValueError(f"needs a frequency from 1 to {n_frequencies(p)}, got {k}")
    return _rows(p)[2 * k - 1 : 2 * k + 1].clone()
