"""What a report says of tasks whose elements are known to lie somewhere: it opens with the plane that shows
them, or does not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from ...errors import NotApplicable
from ...measures.geometry import has_coordinates
from ...tasks import Coordinates
from ..analysis import Analysis
from ..claims import Decision, all_of, claim, needs
from ..figures import legend_above, new_figure
from ..figures import over_training as with_phases
from ..palette import FAINT, LINES, PLAIN, lines
from ..panels import Figure, Panel, Table, opening, section
from ..words import number
from . import drawing
from .found import NEEDED, SHOWN, Found, course_in_words, over_training

if TYPE_CHECKING:
    import plotly.graph_objects as go

_CHANCE = (
    "Each number stands beside what it is by chance: of the same embedding with its labels exchanged in 200 "
    "ways, or, of planarity, of 200 random clouds. What is larger than all of these is told from chance."
)
_DRAWN = "geometry.plane"
_WORDS = {
    "geometry.planarity": "Variance in the first two components",
    "geometry.r2_top2": "Coordinates in the plane of the first two components",
    "geometry.alignment.top2": "The same as it is drawn, undistorted",
    "geometry.best_pair": "Coordinates in the plane of the best two components",
    "geometry.alignment.best_pair": "The same as it is drawn, undistorted",
    "geometry.loo_r2": "Coordinates of an element left out, from the first {} components",
    "geometry.poly_share": "Variance inside the polynomials up to degree {}",
    "geometry.fold.polynomial": "Even monomials less odd ones, up to degree 3",
    "geometry.fold.reflection": "Fold: mirror images alike (1) or opposite (−1)",
}


def _places(a: Analysis) -> Coordinates:
    if (places := a.run.task.coordinates) is None:
        raise NotApplicable("it is not known where the elements lie")
    return places


def found(a: Analysis) -> Found:
    """What was found of the network of an analysis.

    Raises:
        NotApplicable: it is not known where its elements lie, or what is needed was not measured.
    """
    return Found.of(a.values, _places(a))


def _knows_places(a: Analysis) -> bool:
    return has_coordinates(a.run.task)


@opening("geometry", lambda a: found(a).sentence, needs=[*NEEDED, _DRAWN], where=_knows_places)
def _opening(a: Analysis) -> Iterator[Panel]:
    here = found(a)
    how = (
        "Lines join neighbours; all is turned and mirrored as a whole to lie as nearly as can be as "
        f"{here.axes} do."
    )
    first, best = (f"{share.of_what(here.axes)}." for share in (here.top2, here.best))
    if here.pair != (0, 1):
        title = here.components.capitalize()
        yield Panel(title, f"{best} {how}", Figure(plane(a, "best pair")))
    else:
        first = f"{first} {how}"
    yield Panel("The first two components", first, Figure(plane(a, "first two")))
    caption = f"Share of the embedding's variance that polynomials of {here.axes} up to a degree explain."
    yield Panel("What it is made of", caption, Figure(_degrees(a)))


def plane(a: Analysis, which: str) -> go.Figure:
    """The elements in the plane of two principal components, with the lines between neighbours drawn in."""
    points, places = a.measured(_DRAWN).sel(plane=which), _places(a)
    xy, names = points.values, points["element"].values.tolist()
    figure = new_figure(*drawing.across(places), 430)
    words = dict(zip(drawing.ALONG, (f"along {axis}" for axis in places.axes), strict=False))
    of_colour: dict[str, list[tuple[int, int]]] = {}
    for one, other, colour in drawing.edges(places):
        of_colour.setdefault(colour, []).append((one, other))
    for colour, pairs in of_colour.items():
        x, y = ([value for pair in pairs for value in (*xy[list(pair), axis], None)] for axis in (0, 1))
        figure.add_scatter(
            x=x, y=y, mode="lines", name=words.get(colour, "neighbours"), hoverinfo="skip",
            line={"color": colour, "width": 1.2},
        )  # fmt: skip
    named = drawing.corners(places)
    figure.add_scatter(
        x=xy[:, 0], y=xy[:, 1], mode="markers+text", showlegend=False, customdata=names,
        text=[f"<b>{name}</b>" if i in named else "" for i, name in enumerate(names)],
        textposition="top center", marker={"color": drawing.colours(places), "size": 8}, cliponaxis=False,
        hovertemplate="%{customdata}: %{x:.3f}, %{y:.3f}<extra></extra>",
    )  # fmt: skip
    figure.update_xaxes(constrain="domain").update_yaxes(scaleanchor="x", constrain="domain")
    return figure.update_layout(legend=legend_above(), showlegend=bool(of_colour))


def _lead(a: Analysis) -> str:
    return f"{course_in_words(over_training(a.replayed, _places(a)))} {_CHANCE}".lstrip()


@section("Where the elements lie", _lead, needs=[*NEEDED, _DRAWN], where=_knows_places)
def _section(a: Analysis) -> Iterator[Panel | Table]:
    caption = (
        "Share of each coordinate on each component of the embedding, and each one's share of the variance."
    )
    yield Panel("Which component carries what", caption, Figure(_carried(a)), size="wide")
    if "geometry.r2_top2" in a.replayed:
        caption = "Share of the coordinates at the snapshots; dotted: the most that 200 relabellings have."
        figure = Figure(_course(a, drawing.OF_COORDINATES, "share of the coordinates"))
        yield Panel("When it was laid out", caption, figure, size="wide")
        caption = "Shares of the embedding's variance, and the fold; dotted: the most by chance."
        figure = Figure(_course(a, drawing.OF_VARIANCE, "share of the variance; fold"))
        yield Panel("What it was made of", caption, figure)
    header = ["What", "Value", "By chance: mean", "95 %", "Largest"]
    yield Table("The numbers", header, list(_rows(a)), folded=True)


def _rows(a: Analysis) -> Iterator[tuple[str, ...]]:
    for name, words in _WORDS.items():
        if name not in a.values:
            continue
        values = a.values[name]
        each = [values] if values.ndim == 1 else list(values)
        for one in each:
            label = "" if values.ndim == 1 else one.coords[values.dims[0]].item()
            yield words.format(label), *(number(float(x)) for x in one.values)


def _carried(a: Analysis) -> go.Figure:
    values, share = a.measured("geometry.carried"), a.measured("pca_explained_variance.W_E")
    names = [str(pc + 1) for pc in values["pc"].values.tolist()]
    figure = new_figure("principal component of the embedding", "share", 320, barmode="group")
    axes = values["axis"].values.tolist()
    for axis, colour in zip(axes, lines(len(axes)), strict=True):
        figure.add_bar(x=names, y=values.sel(axis=axis).values, name=f"of {axis}", marker_color=colour)
    figure.add_scatter(
        x=names, y=share.values[: len(names)], name="of the variance", mode="lines+markers",
        line={"color": PLAIN, "dash": "dot"},
    )  # fmt: skip
    figure.update_xaxes(type="category").update_yaxes(range=[0, 1.05])
    return figure.update_layout(legend=legend_above())


def _degrees(a: Analysis) -> go.Figure:
    values = a.measured("geometry.poly_share")
    names = [f"degree {degree}" for degree in values["degree"].values.tolist()]
    figure = new_figure("", "share of the variance", 430, barmode="group")
    of = {"value": ("embedding", LINES[0]), "mean": ("chance", PLAIN), "maximum": ("chance, largest", FAINT)}
    for statistic, (words, colour) in of.items():
        figure.add_bar(x=names, y=values.sel(statistic=statistic).values, name=words, marker_color=colour)
    return figure.update_yaxes(range=[0, 1.05]).update_layout(legend=legend_above())


def _course(a: Analysis, courses: Sequence[drawing.Course], y: str) -> go.Figure:
    figure, data = new_figure("step (optimiser updates)", y, 320), a.replayed
    for course in courses:
        if course.name in data and all(label in data[course.name][dim] for dim, label in course.at.items()):
            values = data[course.name].sel(course.at)
            for statistic, line in (("value", {"width": 2}), ("maximum", {"width": 1, "dash": "dot"})):
                figure.add_scatter(
                    x=data["step"].values, y=values.sel(statistic=statistic).values, mode="lines",
                    name=course.words, legendgroup=course.words, showlegend=statistic == "value",
                    line={"color": course.colour, **line},
                )  # fmt: skip
    return with_phases(a, figure)


@claim("The first two principal components of the embedding show where the elements lie", where=_knows_places)
def first_two_show_it(a: Analysis) -> Decision:
    """Whether a plot of the first two components is a picture of the coordinates."""
    top2 = found(a).top2
    return all_of(
        needs("share of the coordinates in their plane", top2.value, ">=", SHOWN),
        needs("the same against the largest of 200 relabellings", top2.value, ">", top2.most),
    )


@claim("The embedding is folded at its centre more than it is laid out", where=_knows_places)
def is_folded(a: Analysis) -> Decision:
    """Whether squares and products of the coordinates make up more of the embedding than these do, and make
    mirror images through the centre alike."""
    here = found(a)
    if here.fold is None:
        raise NotApplicable("the elements are not symmetric about their centre")
    squares, both, fold = here.added(2).value, here.degrees[2], here.fold
    largest = "against the largest of 200 relabellings"
    return all_of(
        needs(
            "share of squares and products, against that of the coordinates",
            squares,
            ">",
            here.added(1).value,
        ),
        needs(f"share of both, {largest}", both.value, ">", both.most),
        needs(f"fold, {largest}", fold.value, ">", max(fold.most, 0.0)),
    )
