"""What the replay page shows of networks that learn a binary operation: their key frequencies, and what
stands on them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch

from ...errors import NotApplicable, UsageError
from ...replay import FINAL, final_keys, graduation, lives, noise_in_words, noise_spans
from ...tasks import Operation
from .. import canvas
from ..moments import BARS_OVER, Curve, Moments, with_unit
from ..palette import ALL, EXCLUDED, KEY, LINES, RESTRICTED, TEST, TRAIN, round_the_circle
from ..panels import Canvas, Size, note, panel
from ..replay_page import by_part
from .figures import once_round, strongest

if TYPE_CHECKING:
    import xarray as xr

_LIMITS = {
    "picture.attention": (0.0, 1.0),
    "picture.logit_spectrum": (-6.0, 0.0),
    "picture.neuron_spectrum": (-6.0, 0.0),
}


@note("keys", of=Operation)
def _keys(moments: Moments) -> str:
    if not (keys := final_keys(moments.data)):
        return "The last snapshot has no key frequencies."
    return (
        f"Key frequencies of the last snapshot, by the consensus of the rules: {', '.join(map(str, keys))}."
    )


@note("lives", of=Operation)
def _lives(moments: Moments) -> str:
    try:
        return lives(moments.data).sentence
    except UsageError as not_replayed:
        raise NotApplicable(str(not_replayed)) from None


@note("noise", of=Operation)
def _noise(moments: Moments) -> str:
    return noise_in_words(noise_spans(moments.history, int(moments.data.attrs["answers"])))


@panel(
    "Loss",
    "Of the network, of what its final key frequencies alone give, and of what is left without them. A "
    "falling restricted loss and a rising excluded loss are the circuit forming. Click to go to a step.",
    of=Operation,
    size="wide",
    shows=["loss"],
)
def _loss(moments: Moments) -> Canvas:
    restricted, excluded = (f"{name}_loss.logit_dirs{FINAL}" for name in ("restricted", "excluded"))
    part = moments.parts("loss")[0]
    curves = [
        *by_part(moments, "loss"),
        Curve("restricted to the keys, all", restricted, RESTRICTED, {"part": "all"}),
        Curve(f"without the keys, {part}", excluded, EXCLUDED, {"part": part}),
    ]
    return moments.curves("loss (nats)", curves, log=True)


_SHARES = {
    "Gini of W_E": "gini.W_E",
    "Gini of W_L": "gini.W_L",
    "neurons of one frequency": "neuron.single_frequency_share",
    "logits explained by the keys": "logit_fve.centred",
}


@panel(
    "Sparsity",
    "A Gini coefficient of 1 is a single frequency, 0 all frequencies alike.",
    of=Operation,
    size="wide",
    shows=[*_SHARES.values()],
)
def _sparsity(moments: Moments) -> Canvas:
    curves = map(Curve, _SHARES.keys(), _SHARES.values(), LINES)
    return moments.curves("share", list(curves))


def bars(moments: Moments, name: str, y: str = "") -> Canvas:
    """Bars over the frequencies; of components, cosine and sine side by side.

    Raises:
        NotApplicable: the measure was not replayed, or has no meaning here.
    """
    values = moments.values(name)
    y, unit = y or with_unit(name, values), str(values.attrs["unit"])
    if "component" in values.dims:
        labels = ["cos", "sin"]
        frequencies = list(range(1, values.sizes["component"] // 2 + 1))
        groups = [values.reindex(component=[f"{wave} {k}" for k in frequencies]).values for wave in labels]
        values = values.isel(component=slice(1, None))
    else:
        labels, groups = [""], [values.values]
        frequencies = [int(k) for k in values["freq"].values]
    keys, keys_now = final_keys(moments.data), moments.either("key_frequencies.consensus")
    places = [
        canvas.Bar(k, f"k = {k}, a final key", KEY) if k in keys else canvas.Bar(k, f"k = {k}")
        for k in frequencies
    ]
    return canvas.bars(
        places, groups, "frequency k", y, labels=labels, unit="" if unit in ("1", "neurons") else unit,
        limits=canvas.range_from_0(values.values),
        marks=None if keys_now is None else keys_now.reindex(freq=frequencies).values, of="frequencies",
    )  # fmt: skip


BARS_OVER["freq"] = bars


_COLOURS = {"training": TRAIN, "unseen": TEST, "all": ALL}
"""Of pairs."""
_MOST_ANSWERS = 256
"""Answers of which there is a bar each."""


@panel(
    "From when on each pair is right",
    "Each pair (a, b) takes the colour of the step from which on its answer is right at every snapshot; "
    "grey: not yet. Operands are in the order of the circle, where they stand on one.",
    of=Operation,
    size="wide",
)
def _graduation(moments: Moments) -> Canvas:
    if "picture.right" not in moments.data:
        moments.values("picture.right")  # which says why
    since = graduation(moments.data)
    number = np.searchsorted(moments.data["step"].values, since.values).astype(float)
    number[np.isinf(since.values)] = -1
    number[np.isnan(since.values)] = np.nan
    rows, columns = (
        canvas.Axis.of(x, [str(name) for name in since[x].values], f"{x} = {{}}".format) for x in "ab"
    )
    titles = [f"{pairs} pairs" for pairs in since["pairs"].values]
    return canvas.since(number, titles, rows, columns, "right for good since", "wrong at the last snapshot")


@panel(
    "Accuracy by answer",
    "Of each right answer the share of its pairs that are answered rightly: unseen ones, where it is known "
    "which these are.",
    of=Operation,
)
def _by_answer(moments: Moments) -> Canvas:
    values = moments.values("picture.accuracy_by_answer")
    pairs = next(str(pairs) for pairs in ("unseen", "all") if pairs in values["pairs"].values)
    names = [str(name) for name in values["result"].values]
    if len(names) > _MOST_ANSWERS:
        raise NotApplicable(f"{len(names):,} answers are too many for bars")
    numbers = list(map(int, names)) if all(name.isdecimal() for name in names) else []
    ordered = sorted(numbers) == list(range(len(names)))
    places = [
        canvas.Bar(number, f"answer {name}", _COLOURS[pairs])
        for number, name in zip(numbers if ordered else range(len(names)), names, strict=True)
    ]
    order = np.argsort([place.position for place in places])
    return canvas.bars(
        [places[i] for i in order], [values.sel(pairs=pairs).values[:, order]],
        "answer" if ordered else "answer (by its number in the list)", f"{pairs} pairs right (share)",
        limits=(0.0, 1.0), of="answers",
    )  # fmt: skip


@panel(
    "Aliasing gap of the keys",
    "How far the right answer leads the next under the final key frequencies alone: of all pairs of answers "
    "the one that comes closest, which is named. Below 0 some answer is wrong by the keys alone.",
    of=Operation,
    size="wide",
    shows=["aliasing_gap.closest"],
)
def _aliasing(moments: Moments) -> Canvas:
    final, own = f"aliasing_gap.closest{FINAL}", "aliasing_gap.closest"
    values = moments.values("picture.closest_answers" + FINAL)
    names = [str(name) for name in values["result"].values]
    pairs = [
        f"{names[int(at.argmax())]} before {names[int(at.argmin())]}" if np.isfinite(at).all() else ""
        for at in values.values
    ]
    keys = ", ".join(map(str, final_keys(moments.data)))
    curves = [
        Curve(f"keys {keys}", final, KEY, notes=pairs),
        Curve("keys of each snapshot", own, LINES[5], dashed=True),
    ]
    return moments.curves("lead (logits)", curves, floor=0.0)


@panel(
    "Lead by distance",
    "How far the right answer leads those at a distance from it on the circle, under the final key "
    "frequencies alone, as a mean over the answers: low where all their waves come close to whole turns.",
    of=Operation,
    shows=["aliasing_gap.by_distance"],
)
def _by_distance(moments: Moments) -> Canvas:
    values = moments.values("aliasing_gap.by_distance" + FINAL)
    places = [canvas.Bar(int(d), f"{d} apart") for d in values["distance"].values]
    limits = canvas.range_from_0(values.values)
    return canvas.bars(
        places,
        [values.values],
        "distance of two answers",
        "lead (logits)",
        unit="logits",
        limits=limits,
        of="distances",
    )


def _panel_of_bars(title: str, caption: str, name: str, y: str, size: Size = "") -> None:
    panel(title, caption, of=Operation, size=size, shows=[name])(partial(bars, name=name, y=y))


_panel_of_bars(
    "Spectrum of W_E",
    "Left bar cosine, right bar sine; the final key frequencies are red. Dots under the axis: the keys of "
    "this snapshot.",
    "fourier_norms.W_E",
    "norm (weight)",
    "wide",
)
_panel_of_bars(
    "Neurons by frequency", "How many neurons one frequency explains.", "neuron.clusters", "neurons (count)"
)
_panel_of_bars(
    "Spectrum of W_L",
    "W_L = W_out W_U: what each neuron adds to each logit.",
    "fourier_norms.W_L",
    "norm (weight)",
    "wide",
)
_panel_of_bars(
    "Cosines in the logits",
    "Cosine similarity of the logits with cos w(c* − c).",
    "logit_cosine",
    "cosine similarity",
)


@panel(
    "Circles",
    "The elements in the plane of the embedding's components cos k and sin k, for the key frequencies. "
    "Colour goes round with k·a; axes hold for all steps.",
    of=Operation,
    size="full",
)
def _circles(moments: Moments) -> Canvas:
    values = moments.values("picture.circles" + FINAL)
    keys, elements = [int(k) for k in values["key"].values], values["element"].values
    unit, count = values.attrs["unit"], len(elements)
    left_out = len(final_keys(moments.data)) - len(keys)
    return canvas.points(
        values.values,
        [f"k = {k}" for k in keys],
        [f"element {element}" for element in elements],
        [[round_the_circle(i * k, count) for i in range(count)] for k in keys],
        f"along cos k ({unit})",
        f"along sin k ({unit})",
        unit,
        note=f" {left_out} more keys are not drawn." if left_out else "",
    )


def heatmaps(moments: Moments, name: str) -> Canvas:
    """Heatmaps over a and b: over the components of waves in them, or over their elements; of several
    pictures each in the order of its own frequency, as in the report.

    Raises:
        NotApplicable: the measure was not replayed, or has no meaning here.
    """
    values = moments.values(name)
    each = [str(dim) for dim in values.dims[1:-2]]
    if "component_a" in values.dims:
        components = [str(label) for label in values["component_a"].values]
        ticks = [str((i + 1) // 2) for i in range(len(components))]
        rows, columns = (
            canvas.Axis(f"frequency in {x}", ticks, [f"{component} in {x}" for component in components])
            for x in "ab"
        )
    else:
        rows, columns = (_along_circle(x, values[dim].values.tolist()) for x, dim in (("a", "i"), ("b", "j")))
    if each:
        return _each_in_its_order(moments, values, each[0], rows, columns, _LIMITS.get(name))
    return moments.heatmaps(name, rows, columns, [""], _LIMITS.get(name))


def _along_circle(x: str, elements: Sequence[int | str]) -> canvas.Axis:
    """The axis of a or b in the order of the circle, which is said where it is not that of their numbers."""
    plain = elements == list(range(len(elements)))
    label = x if plain else f"{x}, along the circle"
    return canvas.Axis.of(label, list(map(str, elements)), f"{x} = {{}}".format)


def _each_in_its_order(
    moments: Moments, values: xr.DataArray, dim: str, rows: canvas.Axis, columns: canvas.Axis,
    limits: canvas.Limits | None,
) -> Canvas:  # fmt: skip
    """Pictures of neurons or heads, each in the order in which the frequency that it has most of in the end
    goes round once: no pattern finer than pixels."""
    labels, m = [int(label) for label in values[dim].values], values.shape[-1]
    frequency = moments.data.get("neuron.frequency") if dim == "example" else None
    maps, titles, axes = [], [], []
    for q, label in enumerate(labels):
        if frequency is not None:
            k = int(frequency.isel(step=-1).sel(neuron=label))
        else:
            k = strongest(torch.from_numpy(values.values[-1, q]).double())
        order, named = once_round(k, m), "neuron" if dim == "example" else dim
        maps.append(values.values[:, q][:, order][:, :, order])
        titles.append(f"{named} {label}" + (f", k = {k}" if frequency is not None else ""))
        axes.append([_ordered(axis, order, k, x) for axis, x in ((rows, "a"), (columns, "b"))])
    unit = "share" if values.attrs["unit"] == "1" else str(values.attrs["unit"])
    of_rows, of_columns = zip(*axes, strict=True)
    return canvas.heatmaps(np.stack(maps, axis=1), titles, of_rows, of_columns, unit, limits)


def _ordered(axis: canvas.Axis, order: Sequence[int], k: int, x: str) -> canvas.Axis:
    """The axis with its places in another order, that of k times them."""
    if k == 1:
        return axis
    ticks, names = ([of[i] for i in order] for of in (axis.ticks, axis.names))
    # Of elements that are no numbers k times one means nothing, but k times its position on the circle.
    by = f"{k}{x} mod {len(order)}" if axis.label == x else f"{k} × position"
    return canvas.Axis(f"{x}, by {by}", ticks, names)


def _panel_of_maps(title: str, caption: str, name: str, size: Size = "") -> None:
    panel(title, caption, of=Operation, size=size)(partial(heatmaps, name=name))


_panel_of_maps(
    "Neurons",
    "Of each final key frequency the neuron that it explains best at the end, over all pairs (a, b), in the "
    "order in which k times a and b goes round once.",
    "picture.neurons" + FINAL,
    "full",
)
_panel_of_maps(
    "Attention",
    "How much the answer position attends to the first token, for each head of the first layer, in the order "
    "in which its strongest frequency at the end goes round once.",
    "picture.attention",
    "full",
)
_panel_of_maps(
    "Logit of one answer",
    "Of the answer at position 0 on the circle (0 for addition), less its mean.",
    "picture.logits",
)
_panel_of_maps(
    "2-D spectrum of the logits",
    "Power of all logits on products of a wave in a and one in b.",
    "picture.logit_spectrum",
)
_panel_of_maps("2-D spectrum of the neurons", "The same of all neurons.", "picture.neuron_spectrum")
