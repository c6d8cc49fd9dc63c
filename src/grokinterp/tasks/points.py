"""The slope of the line through two points of an n x n grid, of which a network is shown no coordinates.

Points are opaque symbols: which number a point has as a token is drawn, so that nothing of the order of
tokens says where it lies. The answer is the class of the slope: the reduced fraction dy/dx, or "vertical".
For n = 7 these are 2,352 pairs of different points and 48 classes; always giving the commonest answer is
right for 12.5 % of them.

slope(p, q) = slope(q, p). A network that is merely symmetric in its inputs, which takes no grid, knows the
answer to (q, p) once it was trained on (p, q): of pairs that are split one by one it would get nearly the
share that is trained on for nothing, and its test accuracy would say nothing of the grid. By default a split
therefore keeps (p, q) and (q, p) on one side (`pairs = "unordered"`); `pairs = "ordered"` splits them one by
one.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Annotated, Literal

import torch
from jaxtyping import Int
from pydantic import Field
from torch import Tensor

from .base import Factor
from .encoding import Seed, Symbols
from .layout import LayoutText
from .operation import Common, Operation
from .registry import task

VERTICAL = "vertical"
"""The answer where dx = 0."""


class Opaque(Common):
    """The parameters that every operation takes, of one whose symbols never have their tokens in order."""

    opaque: Seed = 0
    """Permutes the tokens of points and signs, and the logits, by this seed."""


@dataclass(frozen=True, repr=False)
class PointSlope(Operation):
    """The slope of the line through two points of an n x n grid. Operand i is the point (i // n, i % n).

    Args:
        n: points along a side.
        ordered: whether a split may put (p, q) and (q, p) on two sides.
    """

    common = Opaque

    n: int = 7
    ordered: bool = False

    @cached_property
    def together(self) -> Int[Tensor, "n"] | None:
        """The number of the pair {p, q} of every example; None where (p, q) and (q, p) go their own ways."""
        low, high = self.pairs.min(1).values, self.pairs.max(1).values
        return None if self.ordered else low * self.p + high

    @cached_property
    def factors(self) -> dict[str, Factor]:
        """The two points, the slope, the differences dx and dy of their coordinates, and the coordinates."""
        of_points = {
            f"{axis}_{operand}": Factor(values, tuple(map(str, range(self.n))))
            for operand, point in zip("ab", self.pairs.unbind(1), strict=True)
            for axis, values in (("x", point // self.n), ("y", point % self.n))
        }
        differences = tuple(map(str, range(1 - self.n, self.n)))
        apart = {
            f"d{axis}": Factor(
                of_points[f"{axis}_b"].values - of_points[f"{axis}_a"].values + self.n - 1, differences
            )
            for axis in "xy"
        }
        return {**super().factors, **apart, **of_points}

    @property
    def read(self) -> tuple[str, ...]:
        """The coordinates of both points."""
        return "x_a", "y_a", "x_b", "y_b"


def slopes(n: int) -> dict[tuple[int, int], Fraction | str]:
    """The slope of every difference (dx, dy) that two points of an n x n grid can have."""
    steps = range(1 - n, n)
    return {
        (dx, dy): Fraction(dy, dx) if dx else VERTICAL for dx in steps for dy in steps if (dx, dy) != (0, 0)
    }


@task
def point_slope(
    n: Annotated[int, Field(ge=2, le=100)] = 7,
    pairs: Literal["unordered", "ordered"] = "unordered",
    layout: LayoutText = "a b =",
) -> PointSlope:
    """The slope of the line through two different points of an n x n grid, as opaque symbols.

    With `pairs = "ordered"` a split puts (p, q) and (q, p), which have one answer, on different sides: test
    accuracy then is mostly that of a network that takes one for the other.
    """
    of = slopes(n)
    classes = sorted({slope for slope in of.values() if isinstance(slope, Fraction)})
    answers = (*classes, VERTICAL)
    number = {slope: i for i, slope in enumerate(answers)}

    def table(a: Int[Tensor, "p 1"], b: Int[Tensor, "1 p"]) -> Int[Tensor, "p p"]:
        of_difference = torch.full((2 * n - 1, 2 * n - 1), -1)
        for (dx, dy), slope in of.items():
            of_difference[dx + n - 1, dy + n - 1] = number[slope]
        return of_difference[b // n - a // n + n - 1, b % n - a % n + n - 1]

    points = tuple((x, y) for x in range(n) for y in range(n))
    title = f"slope of two points of {n} × {n}"
    return PointSlope(
        n * n, table, layout, lambda: Symbols(points, answers), n=n, ordered=pairs == "ordered",
        name="point_slope", symbol=title,
    )  # fmt: skip
