"""Whether the embedding shows where its elements are known to lie, such as points of a grid.

Of tasks that know the coordinates of their elements (`Task.coordinates`). The definitions, as functions of a
cloud and coordinates, stand in geometry.py. Each number has a dimension `statistic`: its value, and what it
is by chance (mean, 95 % quantile, maximum) over 200 random relabellings of the elements, which are always the
same. What is chosen, as the best pair of components, is chosen again for every relabelling.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float64, Int
from torch import Tensor

from .. import geometry
from ..errors import NotApplicable
from ..geometry import Chance, Principal
from ..tasks import Arrays, Coordinates, Task
from ..view import View
from .base import Value, array, once_per_view
from .base import measure as of_any_task

if TYPE_CHECKING:
    import xarray as xr

STATISTIC = ["value", "mean", "quantile", "maximum"]
"""The number, and what it is by chance."""
SIZES = (2, 5, 8, 12)
"""Of how many components the coordinates of an element that was left out are predicted."""
DEGREES = (1, 2, 3)
PLANES = ("first two", "best pair")
_FEWEST = 4
"""Elements from which a plane says anything."""
_HERE = "here, against relabelling"


def has_coordinates(task: Task) -> bool:
    """Whether it is known where the elements lie."""
    return task.coordinates is not None


measure = partial(of_any_task, where=has_coordinates, each_answer=False, replayed=True)
"""Registers a measure of where the elements lie. Replays have them all, with their chance."""


def located(view: View) -> Coordinates:
    """Where the elements are known to lie.

    Raises:
        NotApplicable: nobody says, or there are too few.
    """
    coordinates = view.task.coordinates
    if coordinates is None:
        raise NotApplicable(f"it is not known where the elements of {view.task.symbol} lie")
    if len(coordinates.values) < _FEWEST:
        raise NotApplicable(f"{len(coordinates.values)} elements have no geometry: it takes {_FEWEST}")
    return coordinates


@once_per_view
def components(view: View) -> Principal:
    """The principal components of the embedding of the elements.

    Raises:
        NotApplicable: all of them are embedded alike.
    """
    return principal(view.W_E)


def principal(embedding: Float64[Tensor, "m d"]) -> Principal:
    """The principal components of an embedding.

    Raises:
        NotApplicable: all elements are embedded alike.
    """
    try:
        return geometry.principal(embedding)
    except ValueError as error:
        raise NotApplicable(str(error)) from None


def statistics(
    chances: Sequence[Chance], labels: Sequence[str] = STATISTIC, **over: Sequence[Any]
) -> xr.DataArray:
    """A number against chance, or several over a dimension."""
    values = torch.tensor(chances, dtype=torch.float64)
    return array(values if over else values[0], [*over, "statistic"], **over, statistic=labels)


def cloud(view: View) -> Float64[Tensor, "element d_model"]:
    """The embedding of the elements.

    Raises:
        NotApplicable: all of them are embedded alike.
    """
    components(view)
    return view.W_E


def _against_relabelling(
    view: View, values: Callable[[Float64[Tensor, "draw m axis"]], Float64[Tensor, "draw"]]
) -> Chance:
    """A number, as a function of coordinates, against relabelling."""
    places = located(view).values
    return geometry.against_relabelling(lambda orders: values(places[orders]), len(places))


@measure("geometry.planarity", unit="1", ref="Horn 1965 (Psychometrika 30, 179), of the first two components")
def planarity(view: View) -> Value:
    """Share of the embedding's variance in its first two principal components.

    No label plays a part in it: chance is that of 200 random clouds, of normal numbers, of the same shape.
    """
    located(view)
    value = float(components(view).shares[:2].sum())
    return statistics([geometry.chance(value, geometry.random_clouds(*view.W_E.shape)[0])])


@measure("geometry.r2_top2", unit="1", ref=_HERE)
def r2_top2(view: View) -> Value:
    """R² of the coordinates of the elements as affine functions of the first two principal components of the
    embedding: whether the grid is what a plot of these shows.

    ‖U₂ᵀC‖² / ‖C‖². The plane may be stretched; `geometry.alignment.top2` asks for the grid as it is.
    """
    return statistics([_against_relabelling(view, partial(geometry.r2_top2, components(view)))])


@measure("geometry.best_pair", unit="1", ref=_HERE)
def best_pair(view: View) -> Value:
    """R² of the coordinates of the elements as affine functions of those two of the first 20 principal
    components that carry most of them.

    The best of 190 pairs is good by chance alone: it is chosen again for every relabelling.
    """
    return statistics([_against_relabelling(view, partial(geometry.best_pair_r2, components(view)))])


@measure("geometry.best_pair.components", unit="1", ref=_HERE)
def best_pair_components(view: View) -> Value:
    """The numbers of these two, the largest component being 0."""
    pair = geometry.best_pair(components(view), located(view).values)
    return array(pair, "member", member=["first", "second"][: len(pair)])


@measure("geometry.carried", unit="1", ref=_HERE, replayed=False)
def carried(view: View) -> Value:
    """Share of each coordinate on each of the first 20 principal components: R² of an affine function of that
    component alone."""
    places = located(view)
    shares = geometry.carried_of_each(components(view), places.values)[: geometry.MOST_COMPONENTS]
    return array(shares, ("pc", "axis"), pc=range(len(shares)), axis=places.axes)


@measure("geometry.loo_r2", unit="1", ref="the hat-matrix formula of leave-one-out: Allen 1974 (PRESS)")
def loo_r2(view: View) -> Value:
    """R² of the coordinates of an element that is left out of the affine fit from the first 2, 5, 8 or 12
    principal components: 1 is exact, 0 as good as the mean, below 0 worse.

    Never from all dimensions without leaving out: fewer elements than dimensions are fitted exactly, whatever
    they are called. Numbers of components that leave nothing to predict from are left out.
    """
    found = {}
    for k in SIZES:
        try:
            found[k] = _against_relabelling(view, partial(geometry.left_out_r2, components(view), k=k))
        except ValueError:
            continue
    if not found:
        raise NotApplicable("there are too few elements for the components that their embedding has")
    return statistics([*found.values()], components=[*found])


@measure("geometry.poly_share", unit="1", ref=_HERE)
def poly_share(view: View) -> Value:
    """Share of the embedding's variance inside the span of the polynomials of degree 1, 2 or 3 in the
    coordinates.

    Degree 1 is an affine image of the grid; what degree 2 adds to it are x², xy and y², which are the same at
    a point and at its mirror image through the centre.
    """
    of_degree = [partial(geometry.polynomial, cloud(view), degree=degree) for degree in DEGREES]
    return statistics([_against_relabelling(view, values) for values in of_degree], degree=DEGREES)


@measure("geometry.fold.polynomial", unit="1", ref=_HERE)
def polynomial_fold(view: View) -> Value:
    """Share of the embedding's variance inside the monomials of degree 2 in the centred coordinates, less
    that inside those of degree 1 and 3: above 0 where the grid is folded at its centre.

    Three monomials against six of a plane: chance is a little below 0.
    """
    return statistics([_against_relabelling(view, partial(geometry.polynomial_fold, cloud(view)))])


@measure("geometry.fold.reflection", unit="1", ref=_HERE)
def reflected_fold(view: View) -> Value:
    """Σ E(p) · E(p') / Σ ‖E(p)‖² of the centred embedding, p' the mirror image of p through the centre of all
    elements: 1 where the two are embedded alike, −1 where they are opposite.

    The even part of the embedding less its odd part, whatever functions these are.
    """
    mirror = located(view).mirror
    if mirror is None:
        raise NotApplicable("the elements are not symmetric about their centre")
    values = partial(geometry.reflected_fold, cloud(view), mirror)
    return statistics([geometry.against_relabelling(values, len(mirror))])


@measure("geometry.alignment.top2", unit="1", ref="Procrustes: Schönemann 1966 (Psychometrika 31, 1)")
def alignment_of_top2(view: View) -> Value:
    """How far the elements in the plane of the first two principal components are the grid itself, turned,
    mirrored, scaled and moved as a whole: 1 is exact.

    1 less the squared distance that is left, where both have size 1.
    """
    of = components(view)
    pair = torch.arange(min(2, len(of.sizes)))
    return statistics([_against_relabelling(view, partial(geometry.alignment, of, pair=pair))])


@measure("geometry.alignment.best_pair", unit="1", ref="Procrustes: Schönemann 1966 (Psychometrika 31, 1)")
def alignment_of_best_pair(view: View) -> Value:
    """How far the elements in the plane of the best pair of components are the grid itself, turned, mirrored
    and scaled; every relabelling chooses the pair again."""
    of = components(view)

    def chosen(c: Float64[Tensor, "draw m axis"]) -> Float64[Tensor, "draw"]:
        return geometry.alignment(of, c, geometry.best_pair(of, c))

    return statistics([_against_relabelling(view, chosen)])


@measure(
    "geometry.plane",
    unit="weight",
    ref="principal components, turned after Schönemann 1966 (Psychometrika 31, 1)",
)
def plane(view: View) -> Value:
    """Where the elements lie in the plane of the first two principal components of the embedding, and in that
    of the best pair.

    Turned and mirrored so that they lie as nearly as can be as their first two coordinates do; distances in
    the plane are those of the embedding.
    """
    of, places = components(view), located(view)
    pairs = [torch.arange(2), geometry.best_pair(of, places.values)]
    points = torch.stack([_upright(of, places, pair) for pair in pairs])
    names = _element_names(view)
    return array(points, ("plane", "element", "axis"), plane=PLANES, element=names, axis=["right", "up"])


_of_parts = partial(of_any_task, of=Arrays, unit="1", ref=_HERE, replayed=True)


@_of_parts("position_grid.r2_top2")
def positions_r2_top2(view: View) -> Value:
    """R² of the row and the column of the parts of an image (pixels or patches) as affine functions of the
    first two principal components of their position embeddings: whether these show where the parts lie.

    Raises:
        NotApplicable: the network does not cut images into parts of several rows and columns.
    """
    of, places = _positions(view)
    return statistics([geometry.against_relabelling(lambda o: geometry.r2_top2(of, places[o]), len(places))])


@_of_parts("position_grid.best_pair")
def positions_best_pair(view: View) -> Value:
    """R² of row and column of the parts of an image as affine functions of those two of the first 20
    principal components that carry most of them; every relabelling chooses the pair again.

    Raises:
        NotApplicable: the network does not cut images into parts of several rows and columns.
    """
    of, places = _positions(view)
    return statistics([
        geometry.against_relabelling(lambda o: geometry.best_pair_r2(of, places[o]), len(places))
    ])  # fmt: skip


def _positions(view: View) -> tuple[Principal, Float64[Tensor, "part 2"]]:
    """The principal components of the position embeddings of the parts of an image, and the row and column of
    each part.

    Raises:
        NotApplicable: there are no such, or all of them are embedded alike.
    """
    grid = view.reads.grid
    if len(grid) != 2 or min(grid) < 2 or "pos_embed.W_pos" not in view.weights:
        raise NotApplicable("the network does not cut images into parts of several rows and columns")
    places = torch.cartesian_prod(*(torch.arange(size).double() for size in grid))
    return principal(view.weights["pos_embed.W_pos"].cpu()[-len(places) :]), places


def _upright(of: Principal, places: Coordinates, pair: Int[Tensor, "two"]) -> Float64[Tensor, "m 2"]:
    scores = of.scores[:, pair[pair < len(of.sizes)]]
    scores = torch.nn.functional.pad(scores, (0, 2 - scores.shape[1]))
    return geometry.upright(scores, places.values)


def _element_names(view: View) -> list[str]:
    """The names of the elements, by their tokens."""
    of_token = view.task.vocabulary["token"]
    return [of_token[token] for token in view.task.element_tokens.tolist()]
