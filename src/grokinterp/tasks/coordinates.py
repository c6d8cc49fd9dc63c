"""Where the elements of a task are known to lie: points of a plane, pixels of an image, numbers on a line.

A network is not told. What its embedding shows of it is measured by `measures/geometry.py`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float64, Int
from torch import Tensor

from ..errors import ConfigError

_SAME = 1e-9
"""Distances that differ by no more than this share are one distance."""


@dataclass(frozen=True)
class Coordinates:
    """Where elements lie.

    Attributes:
        values: the coordinates of every element, in the order of the elements.
        axes: the name of each coordinate, such as ("x", "y").

    Raises:
        ConfigError: an axis has no name or another's, a coordinate is not finite, or all elements lie in one
            place.
    """

    values: Float64[Tensor, "element axis"]
    axes: tuple[str, ...]

    def __post_init__(self) -> None:
        shape = [*self.values.shape]
        if len({*self.axes}) != len(self.axes) or shape[1:] != [len(self.axes)]:
            raise ConfigError(
                f"coordinates need a tensor [element, axis] and a name for every axis, got the shape {shape} "
                f"and {', '.join(self.axes) or 'no names'}"
            )
        finite = self.values.isfinite().all(1)
        if not finite.all():
            raise ConfigError(f"a coordinate of element {int((~finite).nonzero()[0])} is not finite")
        if not len(self.values) or not (self.values != self.values[:1]).any():
            raise ConfigError("all elements lie in one place, so that their coordinates say nothing")

    @property
    def is_grid(self) -> bool:
        """Whether they are every combination of some values along two axes or more, each once."""
        along = [len(column.unique()) for column in self.values.T]
        different = len(self.values.unique(dim=0))
        return min(along) > 1 < len(along) and different == len(self.values) == math.prod(along)

    @cached_property
    def neighbours(self) -> Int[Tensor, "pair 2"]:
        """The pairs of elements at the smallest distance that two different places have: of a grid its
        lines."""
        distance = torch.cdist(self.values, self.values, compute_mode="donot_use_mm_for_euclid_dist")
        apart = distance[distance > 0]
        return (distance.triu(1) * (distance <= apart.min() * (1 + _SAME))).nonzero()

    @cached_property
    def mirror(self) -> Int[Tensor, "element"] | None:
        """The element at the other end of the line from each through the centre of all: that which a
        reflection through the centre puts in its place; None where there is not one for every element."""
        centred = self.values - self.values.mean(0)
        distance = torch.cdist(centred, -centred, compute_mode="donot_use_mm_for_euclid_dist")
        nearest = distance.min(1)
        everywhere = len(nearest.indices.unique()) == len(centred)
        return nearest.indices if everywhere and nearest.values.max() <= _SAME * centred.norm() else None

    def to_attrs(self) -> dict[str, str]:
        """As an attribute of a Dataset that every file format keeps."""
        return {"coordinates": json.dumps({"axes": self.axes, "values": self.values.tolist()})}

    @classmethod
    def from_attrs(cls, attrs: Mapping[Any, Any]) -> Coordinates | None:
        """What `to_attrs` put into the attributes of a Dataset; None where nobody did."""
        if "coordinates" not in attrs:
            return None
        told = json.loads(attrs["coordinates"])
        return cls(torch.tensor(told["values"], dtype=torch.float64), tuple(told["axes"]))


def of_symbols(symbols: Sequence[Hashable]) -> Coordinates | None:
    """The coordinates that symbols are, where each is a tuple of as many numbers, such as (2, 3); else
    None."""
    first = symbols[0]
    if not isinstance(first, tuple) or not first:
        return None
    for symbol in symbols:
        if not isinstance(symbol, tuple) or len(symbol) != len(first):
            return None
        if not all(isinstance(x, int | float) and not isinstance(x, bool) for x in symbol):
            return None
    axes = (
        ("x", "y", "z")[: len(first)] if len(first) <= 3 else tuple(f"x{i}" for i in range(1, len(first) + 1))
    )
    return Coordinates(torch.tensor(symbols, dtype=torch.float64), axes)
