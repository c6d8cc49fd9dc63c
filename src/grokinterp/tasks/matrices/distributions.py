"""Random matrices: n x n with independent entries, general or symmetric, and symmetric ones whose eigenvalues
have a distribution of their own (Charton 2022, arXiv 2112.01898 and 2211.00170; facebookresearch/LAWT,
src/envs/generators.py).

Entries are uniform between −max_entry and max_entry, or Gaussian of the same deviation s = max_entry / √3. A
symmetric matrix has those on and below the diagonal and their mirror image. Of n x n such matrices the
eigenvalues have a deviation near σ = s √n and tend to a semicircle. The other distributions keep the
eigenvectors V of such a matrix and put other eigenvalues w in their place:

    semicircle   as it comes                  laplace      Laplace of deviation σ
    positive     |w|                          positive2    its absolute values
    uniform      between −√3 σ and √3 σ       marcenko     Mᵀ M, entries of M drawn with √max_entry
    gaussian     of deviation σ                            in the place of max_entry

The matrix is V diag(w) Vᵀ; LAWT writes Vᵀ diag(w) V, which depends on the signs that a LAPACK gives V. A name
may be a mixture, of equal shares ("semicircle,laplace") or of others ("semicircle:0.7,laplace:0.3"): every
matrix is drawn from one of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float64
from torch import Tensor

from ...errors import ConfigError
from ...registry import Registry
from . import lapack

_AT = "task.distribution"


@dataclass(frozen=True)
class Entries:
    """How single entries are drawn.

    Attributes:
        kind: uniform, or Gaussian of the deviation that uniform ones have.
        largest: the bound of uniform ones.
    """

    kind: Literal["uniform", "gaussian"]
    largest: float

    @property
    def deviation(self) -> float:
        """The standard deviation."""
        return self.largest / math.sqrt(3)

    def general(
        self, n: int, rows: int, columns: int, generator: torch.Generator
    ) -> Float64[Tensor, "n rows columns"]:
        """Matrices of independent entries."""
        if self.kind == "gaussian":
            drawn = torch.randn(n, rows, columns, generator=generator, dtype=torch.float64)
            return drawn * self.deviation
        drawn = torch.rand(n, rows, columns, generator=generator, dtype=torch.float64)
        return drawn * (2 * self.largest) - self.largest

    def symmetric(self, n: int, size: int, generator: torch.Generator) -> Float64[Tensor, "n size size"]:
        """Symmetric matrices, entries on and below the diagonal being independent."""
        lower = self.general(n, size, size, generator).tril()
        return lower + lower.tril(-1).mT

    def sigma(self, size: int) -> float:
        """The deviation of the eigenvalues of large symmetric matrices, in the limit."""
        return self.deviation * math.sqrt(size)


Matrices = Float64[Tensor, "n size size"]
Distribution = Callable[[Matrices, Entries, torch.Generator], Matrices]
"""Makes matrices of symmetric ones with independent entries."""
Values = Callable[[Float64[Tensor, "n size"], float, torch.Generator], Float64[Tensor, "n size"]]
"""Makes eigenvalues of the eigenvalues of such matrices and of σ."""

DISTRIBUTIONS: Registry[Distribution] = Registry("distribution", ConfigError, at=_AT)


def _with_eigenvalues(values: Values) -> Values:
    """Registers the symmetric matrices that have these eigenvalues, under the name of the function."""

    def matrices(drawn: Matrices, entries: Entries, generator: torch.Generator) -> Matrices:
        own, vectors = lapack.eigenvectors(drawn)
        given = values(own, entries.sigma(drawn.shape[-1]), generator)
        made = vectors * given[:, None] @ vectors.mT
        return (made + made.mT) / 2

    DISTRIBUTIONS.add(values.__name__, matrices)
    return values


def _semicircle(drawn: Matrices, entries: Entries, generator: torch.Generator) -> Matrices:
    return drawn


def _marcenko(drawn: Matrices, entries: Entries, generator: torch.Generator) -> Matrices:
    n, size, _ = drawn.shape
    factor = Entries(entries.kind, math.sqrt(entries.largest)).general(n, size, size, generator)
    return factor.mT @ factor


DISTRIBUTIONS.add("semicircle", _semicircle)


@_with_eigenvalues
def positive(
    own: Float64[Tensor, "n size"], sigma: float, generator: torch.Generator
) -> Float64[Tensor, "n size"]:
    """The absolute values of those of the matrices."""
    return own.abs()


@_with_eigenvalues
def uniform(
    own: Float64[Tensor, "n size"], sigma: float, generator: torch.Generator
) -> Float64[Tensor, "n size"]:
    """Uniform, of deviation σ."""
    between = torch.rand(own.shape, generator=generator, dtype=torch.float64)
    return (2 * between - 1) * (math.sqrt(3) * sigma)


@_with_eigenvalues
def gaussian(
    own: Float64[Tensor, "n size"], sigma: float, generator: torch.Generator
) -> Float64[Tensor, "n size"]:
    """Gaussian, of deviation σ."""
    return torch.randn(own.shape, generator=generator, dtype=torch.float64) * sigma


@_with_eigenvalues
def laplace(
    own: Float64[Tensor, "n size"], sigma: float, generator: torch.Generator
) -> Float64[Tensor, "n size"]:
    """Laplace, of deviation σ."""
    sign = torch.randint(2, own.shape, generator=generator) * 2 - 1
    return positive2(own, sigma, generator) * sign


@_with_eigenvalues
def positive2(
    own: Float64[Tensor, "n size"], sigma: float, generator: torch.Generator
) -> Float64[Tensor, "n size"]:
    """The absolute values of Laplace ones: exponential, of mean σ / √2."""
    drawn = torch.empty(own.shape, dtype=torch.float64).exponential_(generator=generator)
    return drawn * (sigma / math.sqrt(2))


DISTRIBUTIONS.add("marcenko", _marcenko)


@dataclass(frozen=True)
class Mixture:
    """Distributions and their shares.

    Attributes:
        text: as it was asked for.
        names, shares: of each part; the shares sum to 1.
    """

    text: str
    names: tuple[str, ...]
    shares: tuple[float, ...]

    def draw(
        self, n: int, size: int, entries: Entries, generator: torch.Generator
    ) -> Float64[Tensor, "n size size"]:
        """Symmetric matrices, each of one of the distributions."""
        drawn = entries.symmetric(n, size, generator)
        if len(self.names) == 1:
            return DISTRIBUTIONS[self.names[0]](drawn, entries, generator)
        bounds = torch.tensor(self.shares, dtype=torch.float64).cumsum(0)[:-1]
        part = torch.bucketize(torch.rand(n, generator=generator, dtype=torch.float64), bounds, right=True)
        for i, name in enumerate(self.names):
            rows = part == i
            drawn[rows] = DISTRIBUTIONS[name](drawn[rows], entries, generator)
        return drawn


def mixture(text: str) -> Mixture:
    """The distributions that a text names: "laplace", "semicircle,laplace", "semicircle:0.7,laplace:0.3".

    Raises:
        ConfigError: a distribution is unknown (the nearest is named) or named twice, some parts have shares
            and others none, or shares are no numbers above 0 that sum to 1.
    """
    parts = [part.strip().partition(":") for part in text.split(",")]
    names = [name.strip() for name, _, _ in parts]
    for name in names:
        DISTRIBUTIONS[name]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ConfigError(f"{_AT}: {text!r} names {twice[0]} twice: give it a share instead, {twice[0]}:0.5")
    if not any(colon for _, colon, _ in parts):
        return Mixture(text, tuple(names), (1 / len(names),) * len(names))
    if bare := [name for name, colon, _ in parts if not colon]:
        raise ConfigError(
            f"{_AT}: {text!r} gives {bare[0].strip()} no share, and others one: give all or none"
        )
    try:
        shares = [float(share) for _, _, share in parts]
    except ValueError:
        shares = [math.nan]
    if not all(0 < share <= 1 for share in shares):
        raise ConfigError(f"{_AT}: shares are numbers above 0 and up to 1, as in a:0.7,b:0.3, got {text!r}")
    if abs(sum(shares) - 1) > 1e-9:
        raise ConfigError(f"{_AT}: the shares of {text!r} sum to {sum(shares):.6g}: they have to sum to 1")
    return Mixture(text, tuple(names), tuple(shares))
