"""What is asked of a matrix, the truth of it from LAPACK, and how wrong an answer is (Charton 2022, arXiv
2112.01898; facebookresearch/LAWT, src/envs/generators.py).

Errors are those that LAWT evaluates. With D the difference of an answer from what it is held against, and T
that itself, they are

    d1             Σ|D| / Σ|T|, the one by which an answer is right or wrong
    max            max|D| / max|T|
    d2             tr(DᵀD) / tr(TᵀT)
    coefficients   the share of coefficients of which |D| / (|T| + 10⁻¹²) is .01 or more

and what D and T are is the problem's. Where T is zero, d1, max and d2 are 0 for a D of zero, and infinite for
another.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from . import lapack

Many = Float64[Tensor, "n rows columns"]
Answers = Float64[Tensor, "n r c"]
Compared = Float64[Tensor, "n i j"]

COEFFICIENT = 0.01
"""How far off a coefficient may be, as a share of itself."""


@dataclass(frozen=True)
class Problem(ABC):
    """What is asked of a matrix, or of two side by side."""

    title: ClassVar[str]
    """What is asked, before the words "of a matrix"."""
    of_symmetric: ClassVar[bool] = False
    """Whether it is asked of symmetric matrices only."""
    together: ClassVar[int] = 1
    """How many matrices a question has, side by side."""

    def answer_shape(self, size: int) -> tuple[int, int]:
        """Rows and columns of the answer about size x size matrices."""
        return size, size

    def coefficient(self, row: int, column: int) -> str:
        """What an entry of the answer is called; rows and columns from 0."""
        return f"b{index(row, column)}"

    @abstractmethod
    def truth(self, matrices: Many) -> tuple[Answers, Bool[Tensor, "n"]]:
        """The answers, and which matrices have one."""

    def compared(self, matrices: Many, targets: Answers, given: Answers) -> tuple[Compared, Compared]:
        """D and T: by default the difference from the target, and the target."""
        return given - targets, targets

    def errors(self, matrices: Many, targets: Answers, given: Answers) -> dict[str, Float64[Tensor, "n"]]:
        """How wrong answers are, by every measure of it.

        Args:
            matrices, targets: of the questions, as their tokens say.
            given: the answers.
        """
        return relative(*self.compared(matrices, targets, given))

    def by_coefficient(self, matrices: Many, targets: Answers, given: Answers) -> Compared:
        """|D| / (|T| + 10⁻¹²) of every coefficient."""
        off, of = self.compared(matrices, targets, given)
        return off.abs() / (of.abs() + 1e-12)


@dataclass(frozen=True)
class Eigenvalues(Problem):
    """The eigenvalues of a symmetric matrix, the greatest first, as a column."""

    title, of_symmetric = "eigenvalues", True

    def answer_shape(self, size: int) -> tuple[int, int]:
        return size, 1

    def coefficient(self, row: int, column: int) -> str:
        return f"w{row + 1}"

    def truth(self, matrices: Many) -> tuple[Answers, Bool[Tensor, "n"]]:
        return lapack.eigenvalues(matrices).flip(1)[:, :, None], _all(matrices)


@dataclass(frozen=True)
class Eigenvectors(Problem):
    """The eigenvalues w of a symmetric matrix, the least first, as the first row; below them an orthonormal
    eigenvector for each, as a column of V, with the sign that LAPACK gives it.

    D is VᵀMV − diag(w) and T diag(w), of the answer both: the target is not asked, so that any eigenbasis
    counts. Nor is it asked, as in LAWT, whether V is orthonormal: a V and a² w are as right as V and w, and
    zeros throughout have no error. `matrices.right_without_norm` says of how many right answers that is so.
    """

    title, of_symmetric = "eigenvalues and eigenvectors", True

    def answer_shape(self, size: int) -> tuple[int, int]:
        return size + 1, size

    def coefficient(self, row: int, column: int) -> str:
        return f"v{index(row - 1, column)}" if row else f"w{column + 1}"

    def truth(self, matrices: Many) -> tuple[Answers, Bool[Tensor, "n"]]:
        values, vectors = lapack.eigenvectors(matrices)
        return torch.cat([values[:, None], vectors], 1), _all(matrices)

    def compared(self, matrices: Many, targets: Answers, given: Answers) -> tuple[Compared, Compared]:
        """VᵀMV − diag(w), and diag(w)."""
        values, vectors = given[:, 0], given[:, 1:]
        diagonal = values.diag_embed()
        return vectors.mT @ matrices @ vectors - diagonal, diagonal


@dataclass(frozen=True)
class Inverse(Problem):
    """The inverse of a matrix. D is M H − I for the answer H; d1 is Σ|D| / n, max the largest |D|, d2
    tr(DᵀD) / n and the coefficients those of which |D| is .01 or more. `classic_d1` and so on hold the
    answer against the target instead, as `--classic_eval` of LAWT does."""

    title = "inverse"

    def truth(self, matrices: Many) -> tuple[Answers, Bool[Tensor, "n"]]:
        return lapack.inverse(matrices)

    def compared(self, matrices: Many, targets: Answers, given: Answers) -> tuple[Compared, Compared]:
        """M H − I, and ones, so that what is relative is absolute."""
        off = matrices @ given - torch.eye(matrices.shape[-1], dtype=torch.float64)
        return off, torch.ones_like(off)

    def errors(self, matrices: Many, targets: Answers, given: Answers) -> dict[str, Float64[Tensor, "n"]]:
        off, _ = self.compared(matrices, targets, given)
        size, classic = off.shape[-1], relative(given - targets, targets)
        return {
            "d1": _sum(off.abs()) / size,
            "max": off.abs().amax((1, 2)),
            "d2": _sum(off.square()) / size,
            "coefficients": (off.abs() >= COEFFICIENT).double().mean((1, 2)),
            **{f"classic_{name}": error for name, error in classic.items()},
        }


@dataclass(frozen=True)
class Transpose(Problem):
    """A matrix with rows and columns exchanged."""

    title = "transpose"

    def truth(self, matrices: Many) -> tuple[Answers, Bool[Tensor, "n"]]:
        return matrices.mT.contiguous(), _all(matrices)


@dataclass(frozen=True)
class Sum(Problem):
    """The sum of two matrices that stand side by side."""

    title, together = "sum", 2

    def truth(self, matrices: Many) -> tuple[Answers, Bool[Tensor, "n"]]:
        one, other = matrices.chunk(2, -1)
        return one + other, _all(matrices)


def relative(off: Compared, of: Compared) -> dict[str, Float64[Tensor, "n"]]:
    """The errors of a difference, relative to what it is a difference from."""
    size, share = off.abs(), off.abs() / (of.abs() + 1e-12)
    errors = {
        "d1": _sum(size) / _sum(of.abs()),
        "max": size.amax((1, 2)) / of.abs().amax((1, 2)),
        "d2": _sum(off.square()) / _sum(of.square()),
    }
    none = of.abs().amax((1, 2)) == 0
    of_none = torch.where(size.amax((1, 2)) == 0, 0.0, math.inf).double()
    found = {name: torch.where(none, of_none, error) for name, error in errors.items()}
    return {**found, "coefficients": (share >= COEFFICIENT).double().mean((1, 2))}


def index(row: int, column: int) -> str:
    """Row and column of an entry, from 1, as they stand behind a letter."""
    return f"{row + 1}{',' * (max(row, column) > 8)}{column + 1}"


def _all(matrices: Many) -> Bool[Tensor, "n"]:
    return torch.ones(len(matrices), dtype=torch.bool)


def _sum(entries: Compared) -> Float64[Tensor, "n"]:
    return entries.sum((1, 2))
