"""How values are written: numbers, shares, and what of an array fits into a line."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import Any

from markupsafe import Markup, escape

from ..measures.base import Measure
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
    if value.dims == ("parameter",) and "total" in value["parameter"].values:
        return f"total {number(float(value.sel(parameter='total')))}"
    size = " × ".join(f"{value.sizes[dim]} {dim}" for dim in value.dims)
    return f"{number(float(value.min()))} to {number(float(value.max()))} over {size}"


_SUBJECTS = {
    "losses": "Loss and accuracy",
    "standing": "Loss and accuracy",
    "numbers": "Answers as numbers",
    "keys": "Key frequencies",
    "restricted": "Restricted to the keys, and robbed of them",
    "circuit": "Waves fitted to every part",
    "pizza": "Clock or pizza",
    "circles": "Circles of the embedding",
    "irreps": "Representations of the group",
    "failures": "Where it fails",
    "base": "Others",
}


def subject(measure: Measure) -> str:
    """What a measure is about: the words for the file that defines it."""
    function: Any = measure.function
    while isinstance(function, partial):
        function = function.func
    file = str(function.__module__).rpartition(".")[2]
    return _SUBJECTS.get(file) or file.replace("_", " ").capitalize()


_ABBREVIATED = {
    "fve": "FVE",
    "ipr": "IPR",
    "pca": "PCA",
    "dirs": "directions",
    "irreps": "representations",
    "auc": "AUC",
}


def spoken(name: str) -> str:
    """A measure's name as words: "restricted loss, logit directions"."""
    name = re.sub(r"\bw_([a-z])(?![a-z])", lambda m: f"W_{m[1].upper()}", name)
    name = re.sub(r"(?<=[a-z])(\d+)x(\d+)", r" \1 × \2", name)
    parts = [re.sub(r"(?<=[a-z])_|(?<=W_[A-Z])_", " ", part) for part in name.split(".")]
    return re.sub(r"\b[a-z]+\b", lambda m: _ABBREVIATED.get(m[0], m[0]), ", ".join(parts))


CODES: dict[str, str] = {
    "cross_entropy in": "cross entropy in",
    "log_softmax in": "log softmax in",
    "stablemax in": "StableMax in",
    "squared_distance in": "squared distance in",
    "mse in": "mean squared error in",
    "python_shuffle,": "split by Python's shuffle,",
    "torch_randperm,": "split by torch's randperm,",
}
"""Code names as they stand in sentences -> words; with a colon: where numbers follow. A family adds its
own."""
_SIGNS = {" &lt;= ": " ≤ ", " &gt;= ": " ≥ "}


class InWords:
    """Text -> the same with words in place of code names, which are in their tooltips: a measure's name leads
    to its number on the page."""

    def __init__(self, measures: Collection[str]) -> None:
        names = "|".join(re.escape(name) for name in sorted(measures, key=len, reverse=True)) or r"\b\B"
        codes = "|".join(re.escape(code) + r"(?= \d| none)" * code.endswith(":") for code in CODES)
        self._names = re.compile(rf"(?<![\w.])(?:({names})(?!\w|\.\w)|({codes}))")

    def __call__(self, text: str) -> Markup:
        """The text as markup; what stands between backticks is code, and stays."""
        said = ""
        for i, part in enumerate(str(escape(text)).split("`")):
            said += f"<code>{part}</code>" if i % 2 else self._names.sub(_in_words, part)
        for sign, better in _SIGNS.items():
            said = said.replace(sign, better)
        return Markup(said)


def _in_words(found: re.Match[str]) -> str:
    if (name := found[1]) is not None:
        if "_" not in name and "." not in name:  # a word already
            return f'<a href="#measure-{name}">{name}</a>' if "=" in found.string else name
        return f'<a href="#measure-{name}" title="{name}">{spoken(name)}</a>'
    code, mark = found[2].partition(" ")[0].rstrip(":,"), found[2].lstrip("_abcdefghijklmnopqrstuvwxyz")
    words = CODES[found[2]].removesuffix(mark)
    return f'<abbr title="{code}">{words}</abbr>{mark}'
