"""How values are written: numbers, shares, and what of an array fits into a line."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from ..measures.standing import percent
from ..replay import nats_in_words
from ..replay.descent import APART


def number(value: float) -> str:
    """Three or four digits, whatever the size; a dash for what there is not."""
    if math.isnan(value):
        return "–"
    if value != 0 and not 1e-3 <= abs(value) < 1e5:
        return f"{value:.3g}"
    return f"{value:.4g}"


def by_part(values: Mapping[str, float], *, shares: bool) -> str:
    """Values of the parts of a sample; shares in per cent."""
    write = partial(percent, digits=2) if shares else number
    return ", ".join(f"{part} {write(value)}" for part, value in values.items())


def level_labels(levels: Sequence[tuple[float, str]]) -> list[tuple[str, float]]:
    """What stands at the lines of levels, as `levels_to_draw` gives them; of lines too near to one another
    for words at each, at the highest."""
    labels: list[tuple[str, float]] = []
    top = 0.0
    for nats, known in levels:
        words = f"knows {known} ({nats_in_words(nats)})"
        if labels and top / nats < APART:
            at = max(i for i, (text, _) in enumerate(labels) if text)
            labels[at] = (f"{labels[at][0]}; {words}", labels[at][1])
            words = ""
        else:
            top = nats
        labels.append((words, nats))
    return labels


def several(chosen: Sequence[int | str], of: str = "freq") -> str:
    """Frequencies, or other labels, where there are few; else how many."""
    if len(chosen) > 12:
        return f"{len(chosen)} {'frequencies' if of == 'freq' else of + 's'}"
    return (" " if of == "freq" else ", ").join(map(str, chosen)) or "none"


def summary(value: Any) -> str:
    """A value in a few words: the number, the few numbers by name, or their range."""
    if isinstance(value, float):
        return number(value)
    if value.dtype == bool:
        return several(value.coords[value.dims[0]].values[value.values].tolist(), str(value.dims[0]))
    if value.ndim == 1 and value.size <= 4:
        labels = value.coords[value.dims[0]].values
        return ", ".join(f"{label} {number(float(x))}" for label, x in zip(labels, value.values, strict=True))
    if value.dims == ("parameter",):
        return f"total {number(float(value.sel(parameter='total')))}"
    size = " × ".join(f"{value.sizes[dim]} {dim}" for dim in value.dims)
    return f"{number(float(value.min()))} to {number(float(value.max()))} over {size}"
