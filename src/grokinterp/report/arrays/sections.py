"""What a report shows of networks that tell the class of images: which pixels decide, what they look at, what
noise does, and whether it matters where a thing lies."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ...measures.example_images import titles
from ...measures.invariance import readout_plane
from ...measures.standing import Z_OF_95, percent, wilson
from ...tasks import Arrays
from .. import figures
from ..analysis import Analysis
from ..palette import KEY, PLAIN, SEQUENTIAL, lines
from ..panels import Figure, Panel, Table, opening, section
from ..words import number
from .panels import ATTENTION, FLIPS, HOW_ATTENTION, HOW_FLIPS, flips_on_image

if TYPE_CHECKING:
    import plotly.graph_objects as go

_MOST_POINTS = 1500
"""Examples that are drawn in a plane."""
_FAR = 2
"""Pixels from a pixel that is on, from which a flip is far from what the image shows."""


def _robustly(a: Analysis) -> str:
    """Which pixels decide, in a sentence."""
    stand = a.number("robustness.all_flips")
    flips, where = a.measured("robustness.flips"), a.measured("robustness.where")
    images = int(flips.attrs["images"])
    low, high = wilson(stand, images, Z_OF_95)
    decide, share = float(flips.sel(statistic="mean")), float(flips.sel(statistic="share of flips"))
    pixels = int(np.prod(a.run.task.reads.shape[:2]))
    said = (
        f"{percent(stand)} of {images:,} images ({percent(low)} to {percent(high)} at 95 %) keep their "
        f"answer whichever one pixel is flipped; in an image {decide:.1f} of {pixels} pixels decide alone, "
        "as a mean"
    )
    if not share:
        return f"{said}."
    distances = where["distance"].values
    near, far = where.values[distances == 0], where.values[distances >= _FAR]
    if not len(near) or not len(far):
        return f"{said}."
    most = float(far.max())
    if float(near[0]) > 2 * most:
        which = "they are those of the line or figure itself"
    elif most > 2 * float(near[0]):
        which = "they lie away from what the image shows more often than on it"
    else:
        which = "they lie on what the image shows and far from it alike"
    return (
        f"{said}, and {which} (a flip decides at {percent(float(near[0]))} of the pixels that are on, and "
        f"at up to {percent(most)} of those {_FAR} or more away)."
    )


@opening(
    "pixels", _robustly, of=Arrays,
    needs=["example_images.flips", "robustness.all_flips", "robustness.flips", "robustness.where"],
)  # fmt: skip
def _pixels_that_decide(a: Analysis) -> Iterator[Panel]:
    """Example images with the flips that change an answer."""
    yield Panel(FLIPS, HOW_FLIPS, Figure(_examples(a, with_flips=True)), size="wide")


def _examples(a: Analysis, with_flips: bool) -> go.Figure:
    """Example images side by side: with the flips that change an answer, or what the class token looks at."""
    image = a.measured("example_images.pixels").values
    image = (image - image.min()) / ((image.max() - image.min()) or 1)
    answers = a.measured("example_images.answers")
    given = [str(answers["class"].values[k]) for k in answers.values.argmax(1)]
    names = [f"{name}<br>says {said}" for name, said in zip(titles(a.view), given, strict=True)]
    if with_flips:
        shown = flips_on_image(image, a.measured("example_images.flips").values)
        return _side_by_side(shown, names, 3, high=1.0)
    return _side_by_side(a.measured("example_images.attention").values, names, 3, "attention (share)")


def _side_by_side(
    maps: NDArray[np.float64], names: Sequence[str], columns: int, unit: str = "", high: float | None = None
) -> go.Figure:
    """Images, so many in a row, from 0 to the largest value or to `high`; a bar says what colours mean where
    there is a unit."""
    from plotly.subplots import make_subplots

    rows, high = -(-len(maps) // columns), float(maps.max()) if high is None else high
    figure = make_subplots(rows, columns, subplot_titles=names, horizontal_spacing=0.04)
    for i, one in enumerate(maps):
        at = {"row": i // columns + 1, "col": i % columns + 1}
        figure.add_heatmap(
            z=np.round(one, 4), zmin=0, zmax=high, colorscale=list(SEQUENTIAL), **at,
            showscale=bool(unit) and i == 0, colorbar=figures.colorbar(unit),
            hovertemplate="row %{y}, column %{x}: %{z}<extra></extra>",
        )  # fmt: skip
        figure.update_yaxes(scaleanchor=f"x{i + 1 if i else ''}", **at)
    bare = {"showticklabels": False, "ticks": "", "showgrid": False, "constrain": "domain"}
    figure.update_xaxes(**bare, zeroline=False).update_yaxes(**bare, zeroline=False, autorange="reversed")
    figure.update_annotations(font={"size": 11})
    margin = {"l": 8, "r": 8, "t": 44, "b": 8}
    return figure.update_layout(template=None, height=50 + 170 * rows, margin=margin)


def _is_square_grid(a: Analysis) -> bool:
    return len(a.view.reads.grid) == 2


@section(
    "What it looks at",
    "How much the class token attends to each part of an image.",
    of=Arrays,
    needs=["attention.mean"],
    where=_is_square_grid,
)
def _looks_at(a: Analysis) -> Iterator[Panel]:
    if "example_images.attention" in a.values:
        yield Panel(ATTENTION, HOW_ATTENTION, Figure(_examples(a, with_flips=False)), size="wide")
    for layer in range(a.view.n_layers):
        spread = float(a.measured("attention.variance").sel(layer=layer).max()) ** 0.5
        caption = f"Over images a head varies by {spread:.2f} at most (standard deviation)."
        figure = _of_heads(a, layer)
        yield Panel(f"Heads of layer {layer}, a mean over all images", caption, Figure(figure), size="wide")


def _of_heads(a: Analysis, layer: int) -> go.Figure:
    """The mean attention of each head of a layer, over the image."""
    values, grid = a.measured("attention.mean").sel(layer=layer).values, a.view.reads.grid
    names = [f"head {i}: itself {own:.2f}" for i, own in enumerate(values[:, 0])]
    maps = values[:, -grid[0] * grid[1] :].reshape(-1, *grid)
    return _side_by_side(maps, names, 2 if len(maps) <= 4 else 4, "attention (share)")


@section(
    "What noise does",
    "Every pixel is flipped with a probability, on its own, on images that were not trained on where these "
    "are known. Beside it where the pixels lie of which a flip, alone, changes an answer.",
    of=Arrays,
    needs=["robustness.noise"],
)
def _noise(a: Analysis) -> Iterator[Panel | Table]:
    curve = a.measured("robustness.noise")
    figure = figures.new_figure("share of pixels flipped", "accuracy (share right)")
    n = int(curve.attrs["images"])
    bounds = [wilson(float(value), n, Z_OF_95) for value in curve.values]
    figure.add_scatter(
        x=curve["flipped"].values.tolist(), y=curve.values.tolist(), mode="lines+markers",
        line={"color": lines(1)[0]}, name="accuracy",
        error_y={
            "symmetric": False, "thickness": 1,
            "array": [high - value for (_, high), value in zip(bounds, curve.values, strict=True)],
            "arrayminus": [value - low for (low, _), value in zip(bounds, curve.values, strict=True)],
        },
    )  # fmt: skip
    figure.add_hline(y=a.run.task.chance, line={"color": PLAIN, "dash": "dash", "width": 1})
    figure.update_yaxes(range=[0, 1.05])
    caption = f"On {n:,} images; bars: 95 % intervals (Wilson); dashed: chance."
    yield Panel("Accuracy on noisy images", caption, Figure(figure))
    if "robustness.where" in a.values:
        where = a.measured("robustness.where")
        labels = [str(k) for k in where["distance"].values]
        labels[-1] += " and more" if len(labels) > 1 else ""
        figure = figures.new_figure("pixels to the nearest that is on", "share of flips")
        figure.add_bar(x=labels, y=where.values.tolist(), marker_color=KEY)
        caption = (
            "Share of the flips that change the answer, by how far the pixel lies from one that is on; of "
            f"{int(where.attrs['images']):,} images."
        )
        yield Panel("Where the pixels lie that decide", caption, Figure(figure.update_xaxes(type="category")))
    rows = [
        ("one random flip keeps the answer", number(a.number("robustness.one_flip"))),
        ("no flip changes the answer", number(a.number("robustness.all_flips"))),
    ]
    flips = a.measured("robustness.flips")
    rows += [
        (f"pixels that decide alone, {which}", number(float(flips.sel(statistic=which))))
        for which in ("mean", "median", "maximum")
    ]
    yield Table("Robustness", ["Of images", "Share, or number of pixels"], rows)


def _invariance(a: Analysis) -> str:
    """How much of the readout is the class, in a sentence."""
    found = a.measured("invariance.eta2")
    value, most = (float(found.sel(statistic=which)) for which in ("value", "maximum"))
    on_plane = a.number("invariance.planarity")
    beyond = "by chance up to" if value > most else "no more than by chance, up to"
    return (
        "What is unembedded, in the plane of its first two principal components, which has "
        f"{percent(on_plane)} of its variance: {percent(value)} of the variance there lies between classes "
        f"({beyond} {percent(most)}); what is left are differences between examples of one class."
    )


@section(
    "Whether the place matters", _invariance, of=Arrays, needs=["invariance.eta2", "invariance.planarity"]
)
def _places(a: Analysis) -> Iterator[Panel | Table]:
    plane, classes = readout_plane(a.view)
    task = a.run.task
    assert isinstance(task, Arrays)
    figure = figures.new_figure("component 1", "component 2", 420)
    for k, colour in zip(classes.unique().tolist(), lines(len(classes.unique())), strict=True):
        points = plane[classes == k][: _MOST_POINTS // len(task.classes)]
        figure.add_scatter(
            x=points[:, 0].numpy().round(3), y=points[:, 1].numpy().round(3), mode="markers",
            name=task.classes[k], marker={"color": colour, "size": 4},
        )  # fmt: skip
    caption = "One point for each example, coloured by its class."
    yield Panel("The readout in its principal plane", caption, Figure(figure), size="wide")
    if "invariance.shift" in a.values:
        moved = a.measured("invariance.shift")
        rows = [
            (f"{count} pixel{'s' * (count > 1)}", *(number(float(x)) for x in moved.sel(shift=count).values))
            for count in moved["shift"].values.tolist()
        ]
        yield Table("What a shift does", ["Moved by", "Same answer (share)", "Right (share)"], rows)
    if "position_grid.r2_top2" in a.values:
        rows = []
        for what, name in (("first two components", "r2_top2"), ("best pair of components", "best_pair")):
            found = a.measured(f"position_grid.{name}")
            each = (number(float(found.sel(statistic=which))) for which in ("value", "quantile", "maximum"))
            rows.append((what, *each))
        header = ["Position embeddings", "Rows and columns shown (R²)", "By chance: 95 % below", "At most"]
        yield Table("Whether positions are laid out as the image is", header, rows)
