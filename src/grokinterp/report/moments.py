"""What a replay holds, and how it is drawn on a canvas: curves over the steps, bars and heatmaps that change
with them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, NoReturn

import numpy as np

from ..errors import NotApplicable
from ..replay import FINAL, Course, courses, families_of, skipped
from . import canvas
from .panels import Canvas

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

_MOST_BARS = 64


@dataclass(frozen=True)
class Curve:
    """A line that is asked for: a measure, at labels of its dimensions."""

    label: str
    name: str
    colour: str
    at: Mapping[str, str | int] = field(default_factory=dict)
    dashed: bool = False
    column: str = ""
    """The column of the history with the same quantity at every evaluation."""
    notes: Sequence[str] = ()
    """What is said beside the value at each snapshot."""


@dataclass(frozen=True)
class Moments:
    """What a panel of the replay page draws from.

    Attributes:
        data: what `gi.replay` gave: measures over `step`.
        history: the evaluations of the run.
    """

    data: xr.Dataset
    history: pd.DataFrame

    @property
    def families(self) -> list[str]:
        """The names of the families of the task."""
        return families_of(self.data)

    @property
    def noisy(self) -> bool:
        """Whether labels are noisy, so that right answers are measured beside them."""
        return "clean_accuracy" in self.data and "accuracy" in self.data

    @cached_property
    def levels(self) -> dict[str, dict[str, float]]:
        """What the loss of each answer is for a network that knows so much and no more; none where plateaus
        are not looked for."""
        levels: dict[str, dict[str, float]] = json.loads(self.data.attrs.get("levels", "{}"))
        return levels

    @cached_property
    def courses(self) -> list[Course]:
        """How the loss of each answer came down."""
        try:
            return courses(self.history, self.levels) if self.levels else []
        except NotApplicable:
            return []

    def parts(self, name: str, groups: bool = True) -> list[str]:
        """The parts of the sample of which a measure has values: training and test examples where they are
        known, else all; and groups, unless these are not wanted."""
        parts = [str(part) for part in self.data[name]["part"].values] if name in self.data else ["all"]
        return [part for part in parts if (groups and part != "all") or part in ("train", "test")] or ["all"]

    def either(self, name: str) -> xr.DataArray | None:
        """A measure with the keys of each snapshot, or else with the final ones; None where there is none."""
        return next((self.data[variant] for variant in (name, name + FINAL) if variant in self.data), None)

    def values(self, name: str) -> xr.DataArray:
        """A measure.

        Raises:
            NotApplicable: it was not replayed, or has no meaning here, with the reason.
        """
        if name not in self.data:
            self._refuse(name)
        return self.data[name]

    def _refuse(self, name: str) -> NoReturn:
        reasons = skipped(self.data)
        raise NotApplicable(reasons.get(name) or reasons.get(name + FINAL) or f"{name} was not measured")

    def curves(
        self, y: str, wanted: Sequence[Curve], *, log: bool = False,
        limits: tuple[float, float] | None = None, floor: float | None = None,
        levels: Sequence[tuple[str, float]] = (),
    ) -> Canvas:  # fmt: skip
        """Lines over the steps; the caption says which are not drawn, and why.

        Args:
            y: what stands at the axis.
            wanted: the lines.
            log: whether the axis is logarithmic.
            limits: what the axis shows at least.
            floor: its lower end.
            levels: what is drawn behind them for comparison, in words, and where.

        Raises:
            NotApplicable: there is none of them.
        """
        lines: list[canvas.Line] = []
        reasons: dict[str, list[str]] = {}
        for curve in wanted:
            try:
                values = self.values(curve.name)
                if any(label not in values[dim].values for dim, label in curve.at.items()):
                    self._refuse(curve.name)
            except NotApplicable as reason:
                reasons.setdefault(str(reason), []).append(curve.label)
                continue
            values = values.sel(curve.at)
            unit = "" if values.attrs["unit"] == "1" else values.attrs["unit"]
            between = self._between(values, curve.column)
            line = canvas.Line(
                curve.label, curve.colour, unit, values.values, curve.dashed, between, curve.notes
            )
            lines.append(line)
        if not lines:
            raise NotApplicable(next(iter(reasons)))
        absent = "".join(f" Not drawn: {', '.join(labels)}: {reason}." for reason, labels in reasons.items())
        return canvas.curves(lines, y, log=log, limits=limits, floor=floor, levels=levels, note=absent)

    def _between(self, values: xr.DataArray, column: str) -> tuple[np.ndarray, np.ndarray] | None:
        """A column of the history, if at the snapshots it is what was measured there: a run may be trained on
        another loss."""
        if column not in self.history:
            return None
        evaluated = self.history[["step", column]].dropna()
        at = dict(zip(values["step"].values.tolist(), values.values.tolist(), strict=True))
        steps_and_values = [(int(step), float(value)) for step, value in evaluated.itertuples(index=False)]
        both = np.array([(at[s], value) for s, value in steps_and_values if np.isfinite(at.get(s, np.nan))])
        if not len(both) or not np.allclose(both[:, 0], both[:, 1], rtol=0.05, atol=1e-6):
            return None
        return evaluated["step"].to_numpy(), evaluated[column].to_numpy()

    def bars(self, name: str, y: str = "") -> Canvas:
        """A bar for each label of a measure that has one dimension beside the steps.

        Args:
            name: of the measure.
            y: what stands at the axis; by default its name and its unit.

        Raises:
            NotApplicable: it was not measured, or has other dimensions or too many labels.
        """
        values = self.values(name)
        if values.ndim != 2 or values.shape[1] > _MOST_BARS:
            over = ", ".join(map(str, values.dims[1:]))
            raise NotApplicable(f"an array over {over}; `--data` writes it to a file")
        dim, unit = str(values.dims[1]), str(values.attrs["unit"])
        labels = values[dim].values.tolist()
        numbers = labels if all(isinstance(label, int) for label in labels) else range(1, len(labels) + 1)
        places = [canvas.Bar(at, f"{dim} {label}") for at, label in zip(numbers, labels, strict=True)]
        return canvas.bars(
            places, [values.values], dim, y or with_unit(name, values), unit="" if unit == "1" else unit,
            limits=canvas.range_from_0(values.values),
        )  # fmt: skip

    def heatmaps(
        self, name: str, rows: canvas.Axis, columns: canvas.Axis, titles: Sequence[str],
        limits: tuple[float, float] | None = None,
    ) -> Canvas:  # fmt: skip
        """Heatmaps of the last two dimensions of a measure, one for each place of the others.

        Args:
            name: of the measure.
            rows, columns: their axes.
            titles: what stands above each map.
            limits: what the colours go from and to.

        Raises:
            NotApplicable: it was not measured.
        """
        values = self.values(name)
        maps = values.values.reshape(len(values), -1, *values.shape[-2:])
        unit = "share" if values.attrs["unit"] == "1" else values.attrs["unit"]
        return canvas.heatmaps(maps, titles, rows, columns, unit, limits)


BARS_OVER: dict[str, Callable[[Moments, str], Canvas]] = {}
"""What draws a measure over a dimension of which a family knows more than its labels."""


def with_unit(words: str, values: xr.DataArray) -> str:
    """What stands at an axis: words, and the unit where there is one."""
    unit = str(values.attrs["unit"])
    return words if unit == "1" else f"{words} ({unit})"
