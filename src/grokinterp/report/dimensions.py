"""The section on how many dimensions are needed where: what is left of the accuracy when activations at one
hook are projected on few principal components."""

from __future__ import annotations

from collections.abc import Iterator

from ..measures.standing import Z_OF_95, percent, wilson
from . import figures
from .analysis import Analysis
from .panels import Figure, Panel, Table
from .words import number

_TENTH = 0.1
_COSTS = 0.05
"""What a cut costs of the accuracy at least, to be told of."""
NAME = "dimension_reduction"


def lead(a: Analysis) -> str:
    """What was done, and at which site a cut to a tenth costs most."""
    said = (
        "Every activation at one hook is projected on the principal components that vary most, at all "
        "positions, so that all that is computed from it changes; nothing is trained again. "
    )
    if NAME not in a.values:
        return said
    value = a.measured(NAME)
    kept = [float(share) for share in value.coords["kept"].values]
    if 1.0 not in kept or _TENTH not in kept:
        return said
    whole, cut = value.sel(kept=1.0), value.sel(kept=_TENTH)
    site = str((whole - cut).idxmax("site").values)
    before, after = float(whole.sel(site=site)), float(cut.sel(site=site))
    n = int(value.attrs["examples"])
    if before - after < _COSTS:
        return (
            f"{said}Cut to a tenth of its dimensions no site costs more than {percent(_COSTS)} of the "
            f"accuracy (of {n:,} {a.run.task.examples_are})."
        )
    low, high = wilson(after, n, Z_OF_95)
    return (
        f"{said}Cut to a tenth of its dimensions, {site} costs most: of {n:,} {a.run.task.examples_are} "
        f"{percent(after)} stay right ({percent(low)} to {percent(high)} at 95 %), of {percent(before)}."
    )


def panels(a: Analysis) -> Iterator[Panel | Table]:
    """A map of sites by kept shares, and the number of dimensions at each."""
    value = a.measured(NAME)
    caption = (
        f"Accuracy (share of {int(value.attrs['examples']):,} {a.run.task.examples_are}) after a cut at one "
        "hook; from top to bottom in the order of the computation."
    )
    widths = [int(width) for width in value.coords["width"].values]
    shares = [float(share) for share in value.coords["kept"].values]
    figure = figures.numbered_heatmap(
        value.values, "share of dimensions kept", "accuracy", [f"{share:g}" for share in shares],
        value.coords["site"].values.tolist(), most=value.size,
    )  # fmt: skip
    yield Panel("What is left after a cut", caption, Figure(figure), size="full")
    rows = []
    for site, width in zip(value.coords["site"].values.tolist(), widths, strict=True):
        of_site = (float(x) for x in value.sel(site=site).values)
        cells = [f"{number(x)} ({round(s * width)})" for x, s in zip(of_site, shares, strict=True)]
        rows.append((site, str(width), *cells))
    header = ["Hook", "Dimensions", *(f"{share:g} kept" for share in shares)]
    lead = "Accuracy, and in brackets how many dimensions were kept."
    yield Table("Accuracy after each cut", header, rows, lead, folded=True)
