"""How elements are drawn that are known to lie somewhere: colours by their coordinates, and lines between
neighbours by the axis along which they lie. And the lines of their measures over training."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field

from ...tasks import Coordinates
from ..palette import LINES, PLAIN, on_two_axes

ALONG = LINES[:3]
"""The colours of lines along each axis."""


@dataclass(frozen=True)
class Course:
    """A measure over training, with the most of it by chance: its words, name, labels and colour."""

    words: str
    name: str
    colour: str
    at: Mapping[str, int] = field(default_factory=dict)


OF_COORDINATES = (
    Course("plane of the first two components", "geometry.r2_top2", LINES[0]),
    Course("plane of the best two", "geometry.best_pair", LINES[1]),
    Course("left out, from the first 8", "geometry.loo_r2", LINES[2], {"components": 8}),
)
"""Shares of the coordinates."""
OF_VARIANCE = (
    Course("polynomials of degree 1", "geometry.poly_share", LINES[0], {"degree": 1}),
    Course("up to degree 2", "geometry.poly_share", LINES[3], {"degree": 2}),
    Course("fold", "geometry.fold.reflection", LINES[4]),
)
"""Shares of the embedding's variance."""


def edges(places: Coordinates) -> list[tuple[int, int, str]]:
    """Neighbours, with the colour of the axis along which they lie."""
    found = []
    for one, other in places.neighbours.tolist():
        differ = (places.values[one] != places.values[other]).nonzero().flatten().tolist()
        along = len(differ) == 1 and differ[0] < len(ALONG)
        found.append((one, other, ALONG[differ[0]] if along else PLAIN))
    return found


def corners(places: Coordinates) -> set[int]:
    """The elements that lie farthest out in each quarter of the first two coordinates: of a grid its
    corners."""
    xy = (places.values - places.values.mean(0))[:, :2]
    signs = itertools.product((-1.0, 1.0), repeat=xy.shape[1])
    return {int((xy @ xy.new_tensor(sign)).argmax()) for sign in signs}


def colours(places: Coordinates) -> list[str]:
    """A colour for each element: redder with the first coordinate, bluer with the second."""
    low, high = places.values.aminmax(dim=0)
    share = ((places.values - low) / (high - low).clamp_min(1e-300))[:, :2].tolist()
    return [on_two_axes(x[0], x[-1]) for x in share]


def across(places: Coordinates) -> tuple[str, str]:
    """What stands at the axes of a plane in which the elements were turned upright."""
    second = f"nearest to {places.axes[1]}" if len(places.axes) > 1 else "across"
    return f"nearest to {places.axes[0]} (weight)", f"{second} (weight)"
