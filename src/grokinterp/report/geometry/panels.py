"""What the replay page shows of tasks whose elements are known to lie somewhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from ...errors import NotApplicable
from ...tasks import Coordinates
from .. import canvas
from ..moments import Curve, Moments
from ..panels import Canvas, note, panel
from . import drawing
from .found import course_in_words, over_training


def _places(moments: Moments) -> Coordinates:
    """Where the elements lie.

    Raises:
        NotApplicable: that is not known.
    """
    if (places := Coordinates.from_attrs(moments.data.attrs)) is None:
        raise NotApplicable("it is not known where the elements lie")
    return places


def _knows_places(moments: Moments) -> bool:
    return "coordinates" in moments.data.attrs


panel_of_places = partial(panel, where=_knows_places)
"""Registers a panel about where elements lie."""


@note("geometry")
def _note(moments: Moments) -> str:
    over = over_training(moments.data, _places(moments))
    if not over:
        raise NotApplicable("nothing was found")
    last = max(over)
    sentence = over[last].sentence
    return f"At step {last:,} {sentence[0].lower()}{sentence[1:]} {course_in_words(over)}".rstrip()


@panel_of_places(
    "Where the elements lie",
    "The elements in the plane of the first two principal components of each snapshot, and in that of the "
    "two that carry most of their coordinates. Lines join neighbours; points are redder with the first "
    "coordinate, bluer with the second. Turned and mirrored to lie as nearly as can be as they do; axes hold "
    "for all steps.",
    size="full",
    shows=["geometry.plane"],
)
def _planes(moments: Moments) -> Canvas:
    places, values = _places(moments), moments.values("geometry.plane")
    titles = [f"the {which}" for which in values["plane"].values]
    names = [f"element {element}" for element in values["element"].values]
    x, y = drawing.across(places)
    return canvas.points(
        values.values, titles, names, [drawing.colours(places)] * len(titles), x, y,
        str(values.attrs["unit"]), lines=drawing.edges(places),
    )  # fmt: skip


def _curves(courses: Sequence[drawing.Course], y: str) -> Callable[[Moments], Canvas]:
    """Measures over training, each with the most of it by chance."""
    wanted = [
        Curve(words, course.name, course.colour, {**course.at, "statistic": statistic}, statistic != "value")
        for course in courses
        for words, statistic in ((course.words, "value"), (f"{course.words}: most by chance", "maximum"))
    ]
    return lambda moments: moments.curves(y, wanted, limits=(0.0, 1.0))


panel_of_places(
    "How much of the coordinates",
    "Share of the coordinates in the plane of two components, or predicted of an element that was left out; "
    "dashed: the most that 200 relabellings have of it.",
    size="wide",
    shows=[
        "geometry.r2_top2", "geometry.best_pair", "geometry.best_pair.components", "geometry.loo_r2",
        "geometry.alignment.top2", "geometry.alignment.best_pair", "geometry.planarity",
    ],
)(_curves(drawing.OF_COORDINATES, "share of the coordinates"))  # fmt: skip

panel_of_places(
    "What the embedding is made of",
    "Share of its variance inside the polynomials of the coordinates; fold: 1 where a point and its mirror "
    "image through the centre are embedded alike, −1 where opposite. Dashed: the most by chance.",
    shows=["geometry.poly_share", "geometry.fold.reflection", "geometry.fold.polynomial", "geometry.carried"],
)(_curves(drawing.OF_VARIANCE, "share of the variance; fold"))
