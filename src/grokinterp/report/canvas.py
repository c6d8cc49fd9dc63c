"""Bodies of the panels that move: what replay.js draws on a canvas, for all steps of a replay.

Everything that moves is in the page for all steps: numbers as float32, heatmaps as 255 levels between limits
that hold for all steps, so that colours compare between moments. Each array is compressed; levels as their
differences from step to step. The script knows nothing of what it draws: what stands at an axis, beside a
mark or in a tooltip comes from here, and from who calls this.
"""

from __future__ import annotations

import base64
import gzip
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import palette
from .panels import Canvas

_LEVELS = 254
"""Steps between the 255 levels −127 .. 127 of a heatmap; −128 is no value."""

Numbers = NDArray[Any]
Limits = tuple[float, float]


@dataclass(frozen=True)
class Line:
    """One line over the steps: a value at each snapshot, and between them where it was evaluated as well."""

    label: str
    colour: str
    unit: str
    values: Numbers
    dashed: bool = False
    between: tuple[Numbers, Numbers] | None = None
    """Steps and values of the same quantity at every evaluation."""
    notes: Sequence[str] = ()
    """What is said beside the value at each snapshot."""


def curves(
    lines: Sequence[Line], y: str, *, log: bool = False, limits: Limits | None = None,
    floor: float | None = None, levels: Sequence[tuple[str, float]] = (), note: str = "",
) -> Canvas:  # fmt: skip
    """Lines over the steps, on one axis: logarithmic, or at least from `limits[0]` to `limits[1]`, or down
    to `floor`; behind them dashed levels with what they are; the note goes into the caption."""
    series = [
        {
            "label": line.label,
            "unit": line.unit,
            "colour": line.colour,
            "dashed": line.dashed,
            "values": floats(line.values),
            "notes": list(line.notes),
            "line": line.between and dict(zip("xy", map(floats, line.between), strict=True)),
        }
        for line in lines
    ]
    body = {"y": y, "log": log, "limits": limits, "floor": floor, "levels": levels, "series": series}
    return Canvas("curves", body, note)


@dataclass(frozen=True)
class Bar:
    """One place on the axis of bars: its number there, its colour, and what a tooltip calls it."""

    position: int
    name: str
    colour: str = palette.PLAIN


def bars(
    places: Sequence[Bar], groups: Sequence[Numbers], x: str, y: str, *, labels: Sequence[str] = ("",),
    unit: str = "", limits: Limits, marks: Numbers | None = None, of: str = "",
) -> Canvas:  # fmt: skip
    """Bars at whole numbers, those of each group beside those of the one before.

    Args:
        places: one for each bar of a group, at numbers that follow one another.
        groups: values (step, place).
        x, y: what stands at the axes.
        labels: what tooltips call the groups.
        unit: of the values, for tooltips.
        limits: lowest and highest value, over all steps.
        marks: where, at each step and place, a dot lies under the axis (> 0).
        of: what the places are called together; where the bars of a step are all alike, a sentence says so
            in their place.
    """
    body = {
        "x": x,
        "y": y,
        "unit": unit,
        "limits": limits,
        "of": of,
        "positions": [bar.position for bar in places],
        "names": [bar.name for bar in places],
        "colours": [bar.colour for bar in places],
        "marks": None if marks is None else floats(marks),
        "markColours": [None if bar.colour == palette.PLAIN else bar.colour for bar in places],
        "groups": [
            {"label": label, "values": floats(values)} for label, values in zip(labels, groups, strict=True)
        ],
    }
    return Canvas("bars", body)


def points(
    values: Numbers, titles: Sequence[str], names: Sequence[str], colours: Sequence[Sequence[str]],
    x: str, y: str, unit: str, note: str = "", lines: Sequence[tuple[int, int, str]] = (),
) -> Canvas:  # fmt: skip
    """Points in several planes with the same axes, which hold for all steps.

    Args:
        values: (step, plane, point, 2).
        titles: what stands above each plane.
        names: what a tooltip calls each point.
        colours: for each plane those of its points.
        x, y, unit: what stands at the axes.
        note: what goes into the caption.
        lines: pairs of points that a line of a colour joins.
    """
    body = {
        "titles": list(titles),
        "names": list(names),
        "lines": [list(line) for line in lines],
        "colours": [list(of_plane) for of_plane in colours],
        "x": x,
        "y": y,
        "unit": unit,
        "limit": max(map(abs, finite_range(values))),
        "values": floats(values),
    }
    return Canvas("points", body, note)


@dataclass(frozen=True)
class Axis:
    """Rows or columns of a heatmap: what stands at the axis, at each of its ticks, and what a tooltip calls
    each."""

    label: str
    ticks: Sequence[str]
    names: Sequence[str]

    @staticmethod
    def of(label: str, ticks: Sequence[str], name: Callable[[str], str]) -> Axis:
        """An axis of which tooltips make something of the ticks."""
        return Axis(label, ticks, [name(tick) for tick in ticks])


def heatmaps(
    maps: Numbers, titles: Sequence[str], rows: Axis | Sequence[Axis], columns: Axis | Sequence[Axis],
    unit: str, limits: Limits | None = None,
) -> Canvas:  # fmt: skip
    """Heatmaps side by side, the first row on top. The caption says where some values are beyond the colours.

    Args:
        maps: (step, map, row, column); NaN where there is no value.
        titles: what stands above each map.
        rows, columns: their axes: one for all, or one for each map.
        unit: of the values.
        limits: what the colours go from and to; by default for each map from 0, or symmetrically around it
            where some value is negative, to its largest value at the last step, so that this is not dark
            because an earlier one is bright, or to where nearly all values of all steps lie.
    """
    each = [limits] * maps.shape[1] if limits else _colour_limits(maps)
    body = {
        "titles": list(titles),
        "rows": [asdict(axis) for axis in _one_each(rows, maps.shape[1])],
        "columns": [asdict(axis) for axis in _one_each(columns, maps.shape[1])],
        "unit": unit,
        "colours": palette.DIVERGING if each[0][0] == -each[0][1] else palette.SEQUENTIAL,
        "values": _levels(maps, each),
    }
    return Canvas("heatmaps", body, _beyond(maps, each))


def _one_each(axes: Axis | Sequence[Axis], count: int) -> Sequence[Axis]:
    return [axes] * count if isinstance(axes, Axis) else axes


def _beyond(maps: Numbers, limits: Sequence[Limits]) -> str:
    """What a caption says of values that are beyond the colours, at any step."""
    largest = [max(map(abs, finite_range(maps[:, i]))) for i in range(maps.shape[1])]
    beyond = [high for value, (_, high) in zip(largest, limits, strict=True) if value > high]
    if not beyond:
        return ""
    return (
        " Colours mean the same at all steps. They end (“≥”) at the largest value of the last step, or where "
        f"nine of ten values of all steps lie; earlier ones go up to {max(largest):.3g}."
    )


def since(
    firsts: Numbers, titles: Sequence[str], rows: Axis, columns: Axis, happened: str, never: str
) -> Canvas:
    """Maps side by side that fill up: each place has the colour of its step from that step on, and is grey
    before.

    Args:
        firsts: (map, row, column), the number of the snapshot, from 0; −1 for never, NaN where nothing is.
        titles: what stands above each map, before the share of places that are filled by now.
        rows, columns: their axes.
        happened: what a tooltip says before the step.
        never: what it says where there is none.
    """
    body = {
        "titles": list(titles),
        "rows": [asdict(rows)] * len(titles),
        "columns": [asdict(columns)] * len(titles),
        "happened": happened,
        "never": never,
        "colours": palette.SEQUENTIAL,
        "since": floats(firsts[None]),
    }
    return Canvas("since", body)


_NEARLY_ALL = 0.9
"""The share of the values of all steps that colours tell apart at least."""
_BRIGHTER = 0.8
"""The share of the largest value from which on colours go up to that one."""


def _colour_limits(maps: Numbers) -> list[Limits]:
    lowest = -1.0 if finite_range(maps)[0] < 0 else 0.0
    highest = [_highest(np.abs(maps[:, i])) for i in range(maps.shape[1])]
    return [(lowest * high, high) for high in highest]


def _highest(sizes: Numbers) -> float:
    """Where the colours of a map (step, row, column) of such sizes end."""
    finite = sizes[np.isfinite(sizes)]
    if not finite.size:
        return 1.0
    whole, at_last = float(finite.max()), sizes[-1][np.isfinite(sizes[-1])]
    nearly = max(float(at_last.max(initial=0.0)), float(np.quantile(finite, _NEARLY_ALL)))
    # Colours that would only be a little brighter are not worth values that cannot be told apart.
    return (nearly if nearly < _BRIGHTER * whole else whole) or 1.0


def finite_range(values: Numbers) -> Limits:
    """The lowest and the highest value that is finite; (0, 1) where none is."""
    finite = values[np.isfinite(values)]
    return (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)


def range_from_0(values: Numbers) -> Limits:
    """The range of the values that are finite, with 0 in it."""
    low, high = finite_range(values)
    return min(low, 0.0), max(high, 0.0)


def floats(values: Numbers) -> dict[str, Any]:
    """Numbers as the script unpacks them: float32, compressed."""
    with np.errstate(over="ignore"):  # beyond 3e38 is infinite
        return {"type": "float32", "shape": list(values.shape), "data": _compressed(values.astype("<f4"))}


def _levels(maps: Numbers, limits: Sequence[Limits]) -> dict[str, Any]:
    """Maps (step, map, row, column) in 255 levels, as differences (mod 256) from step to step: within half a
    level of their values; those beyond the limits at these, with the maps of which there are some."""
    low, high = np.array(limits).T[:, :, None, None]
    with np.errstate(invalid="ignore"):
        beyond = ((maps > high * (1 + 1e-6)) | (maps < low * (1 + 1e-6))).any((0, 2, 3))
    scaled = ((maps - low) / (high - low) * _LEVELS - _LEVELS / 2).round().clip(-127, 127)
    levels = np.where(np.isnan(scaled), -128, scaled).astype(np.int8)
    levels[1:] -= levels[:-1].copy()
    return {
        "type": "int8",
        "shape": list(maps.shape),
        "low": low.flatten().tolist(),
        "high": high.flatten().tolist(),
        "beyond": beyond.tolist(),
        "data": _compressed(levels),
    }


def _compressed(values: Numbers) -> str:
    return base64.b64encode(gzip.compress(values.tobytes(), 6, mtime=0)).decode()
