"""A replay -> one HTML page that needs no network, of which a slider moves every panel together.

The page's own script draws on canvas (canvas.py): a few hundred lines in place of 4.8 MB of plotly.js. What
is measured is not decided here; a panel shows what the Dataset holds.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import NotApplicable, UsageError
from ..replay import (
    FINAL,
    PICTURES,
    PROGRESS,
    Boundary,
    Phases,
    check_format,
    export,
    final_keys,
    lives,
    noise_in_words,
    noise_spans,
    phases,
    progress_of,
    replay,
    skipped,
    spikes,
    spikes_in_words,
)
from ..runs import Run
from ..runs.files import file_named, refuse_unwritable, replace
from ..runs.run import steps_in_words
from . import canvas
from .analysis import refuse_other_tasks
from .offline import asset, embedded, offline_page
from .palette import EXCLUDED, KEY, LINES, OF_PART, RESTRICTED, SPANS, round_the_circle
from .panels import Canvas, Panel, Size, drawn, not_measured

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

_IN_WORDS = {"corrupted": "corrupted (label wrong)", "clean": "clean (label right)"}
_LIMITS = {
    "picture.attention": (0.0, 1.0),
    "picture.logit_spectrum": (-6.0, 0.0),
    "picture.neuron_spectrum": (-6.0, 0.0),
}


@dataclass(frozen=True)
class _Curve:
    """A line that is asked for: a measure, at a label of its dimension `part` or `parameter`."""

    label: str
    name: str
    colour: str
    at: dict[str, str] = field(default_factory=dict)
    dashed: bool = False
    column: str = ""
    """The column of the history with the same quantity at every evaluation."""


_LEAST_ROOM = 100_000
"""Bytes that a replay of the smallest network needs."""


def save_replay(
    run: Run, path: str | Path, measures: Sequence[str] = (), steps: Sequence[int] | None = None,
    *, data: str | Path | None = None, reload: int = 0,
) -> xr.Dataset:  # fmt: skip
    """Replays a run, writes its page, and gives what was measured.

    Args:
        run: a run directory, finished or still being written.
        path: of the page, which is written whole or not at all; in a directory it is called replay.html.
        measures: names of measures beside those of PROGRESS and PICTURES.
        steps: committed steps, negative ones counted from the end; by default all.
        data: where the numbers go as well, as .nc or .parquet.
        reload: see `replay_page`.

    Raises:
        UsageError: no measure has one of the names, the run has no snapshot, or a file would replace one of
            its own.
        NoSuchSnapshot: the run has no snapshot at one of the steps.
        DamagedFile: a snapshot does not match its recorded hash.
        WriteFailed: the disk is full or read-only.
    """
    refuse_other_tasks(run.task)
    files = replay_files(run, path, data)
    dataset = replay(run, [*progress_of(run), *PICTURES, *measures], steps)
    unknown = [step for step in run.steps if not run.step_known(step)]
    training_phases = (
        None if unknown else phases(dataset, run.history)
    )  # between steps that nobody knows there is no phase
    page = replay_page(dataset, run.history, training_phases, chosen=measures, reload=reload, unknown=unknown)
    replace(files[0], page.encode(), make_folder=True)
    if data is not None:
        export(dataset, data)
    return dataset


def replay_files(run: Run, path: str | Path, data: str | Path | None = None) -> list[Path]:
    """The page and, where they are wanted, the numbers: where they will be written, asked before anything is
    computed for them.

    Raises:
        UsageError: they cannot be files, data are of no known format, or one would replace a file of the run.
        WriteFailed: the disk is full or read-only.
    """
    files = [file_named(path, "replay.html")]
    refuse_unwritable(files[0].parent, _LEAST_ROOM)
    if data is not None:
        files.append(file_named(data, option="--data"))
        check_format(files[1])
        refuse_unwritable(files[1].parent, _LEAST_ROOM, "--data")
    for file in files:
        run.refuse_to_overwrite(file)
    return files


def replay_page(
    data: xr.Dataset, history: pd.DataFrame, training_phases: Phases | None = None,
    *, chosen: Sequence[str] = (), reload: int = 0, unknown: Collection[int] = (),
) -> str:  # fmt: skip
    """The page as HTML: self-contained, 3.6 MB for the 37 snapshots of the run that ships (p = 113).

    Panels of which the Dataset has no variable are left out, and the page says why. Other variables than
    those of PROGRESS and PICTURES become curves where they are numbers (or numbers per part), and bars where
    they are numbers per frequency.

    Args:
        data: what `gi.replay` gave.
        history: the evaluations of the run, `run.history`; drawn between the snapshots where they are of the
            same quantity.
        training_phases: those of training; None where they are not known.
        chosen: names of measures whose panels are open even if they are of PROGRESS.
        reload: seconds after which the page loads itself again, for a run that is still being written; 0 for
            never.
        unknown: steps that are only numbers, as of an imported file that does not say them.
    """
    section = drawn([*_standard(data, history), *_others(data, chosen)])
    steps = [int(step) for step in data["step"].values]
    moments = [f"step {step:,}" if step not in unknown else "step unknown" for step in steps]
    content = {
        "run": data.attrs["run"],
        "task": data.attrs["task"],
        "steps": steps,
        "moments": moments,
        "axis": "step; some are not known, and only number the snapshots"
        if {*unknown} & {*steps}
        else "step (optimiser updates)",
        "reload": reload,
        "phases": [training_phases.at(step) for step in steps] if training_phases else [],
        "spans": _spans(training_phases) if training_phases else [],
        "panels": [
            {"id": p.id, "kind": p.body.kind, "title": p.title, "shown": p.shown, **p.body.data}
            for p in section.panels
            if isinstance(p.body, Canvas)
        ],
    }
    return offline_page(
        "replay.html",
        [asset("page.css"), asset("replay.css")],
        [asset("replay.js")],
        task=data.attrs["task"],
        run=data.attrs["run"],
        steps=steps,
        span=steps_in_words(steps, unknown),
        opening=" ".join(_opening(data, training_phases)),
        notes=list(_notes(data, history)),
        sure=[_how_sure(boundary) for boundary in training_phases.boundaries] if training_phases else [],
        section=section,
        replay=embedded(json.dumps(content, allow_nan=False)),
    )


def _opening(data: xr.Dataset, training_phases: Phases | None) -> Iterator[str]:
    """What the page begins with: how training ended and went, and the keys."""
    if divergence := data.attrs.get("divergence"):
        yield divergence
    if training_phases:
        yield training_phases.sentence
    keys = ", ".join(map(str, final_keys(data)))
    yield (
        f"Key frequencies of the last snapshot, by the consensus of the rules: {keys}."
        if keys
        else "The last snapshot has no key frequencies."
    )


def _spans(training_phases: Phases) -> list[dict[str, Any]]:
    """The phases with their colours, one for each name, in turn."""
    names = list(dict.fromkeys(span.name for span in training_phases.spans))
    colours = {name: SPANS[i % len(SPANS)] for i, name in enumerate(names)}
    return [
        {"name": s.name, "start": float(s.start), "end": float(s.end), "colour": colours[s.name]}
        for s in training_phases.spans
    ]


def _how_sure(boundary: Boundary) -> str:
    """Between which steps a boundary lies, from what that is known, and how far it moves."""
    return (
        f"{boundary.name}: after step {boundary.after:,}, by step {boundary.by:,}"
        + (f" ({boundary.source})" if boundary.seen else "")
        + (f"; {boundary.flag}" if boundary.flag else "")
        + (f". {boundary.note}" if boundary.note else "")
    )


def _notes(data: xr.Dataset, history: pd.DataFrame) -> Iterator[str]:
    """What can be said of the whole beside its phases: lives of frequencies, and spikes."""
    with suppress(NotApplicable, UsageError):
        yield lives(data).sentence
    with suppress(NotApplicable):
        yield noise_in_words(noise_spans(history, int(data.attrs["answers"])))
    yield spikes_in_words(spikes(history, data))


def _standard(data: xr.Dataset, history: pd.DataFrame) -> Iterator[tuple[str, Callable[[], Panel]]]:
    """The panels that every page has, if it can, in their order."""
    parts = _parts(data, "loss")

    losses = [
        _Curve(_IN_WORDS.get(part, part), "loss", OF_PART[part], {"part": part}, column=f"{part}_loss")
        for part in parts
    ]
    accuracies = [
        _Curve(part, "accuracy", OF_PART[part], {"part": part}, column=f"{part}_accuracy") for part in parts
    ]
    if noisy := "clean_accuracy" in data and "accuracy" in data:
        differs = [
            part
            for part in parts
            if not data["clean_accuracy"].sel(part=part).equals(data["accuracy"].sel(part=part))
        ]
        accuracies += [
            _Curve(
                f"{part}: right answer",
                "clean_accuracy",
                OF_PART[part],
                {"part": part},
                dashed=True,
                column=f"{part}_clean_accuracy",
            )
            for part in differs
        ]
    ablated = [
        _Curve(
            "restricted to the keys, all", "restricted_loss.logit_dirs" + FINAL, RESTRICTED, {"part": "all"}
        ),
        _Curve(
            f"without the keys, {parts[0]}", "excluded_loss.logit_dirs" + FINAL, EXCLUDED, {"part": parts[0]}
        ),
    ]
    shares = [
        _Curve("Gini of W_E", "gini.W_E", LINES[0]),
        _Curve("Gini of W_L", "gini.W_L", LINES[1]),
        _Curve("neurons of one frequency", "neuron.single_frequency_share", LINES[2]),
        _Curve("logits explained by the keys", "logit_fve.centred", LINES[3]),
    ]

    def curves(title: str, *arguments: Any, **options: Any) -> tuple[str, Callable[[], Panel]]:
        return title, lambda: _curves(data, history, title, *arguments, **options)

    def bars(title: str, *arguments: Any, **options: Any) -> tuple[str, Callable[[], Panel]]:
        return title, lambda: _bars(data, title, *arguments, **options)

    def maps(title: str, *arguments: Any, **options: Any) -> tuple[str, Callable[[], Panel]]:
        return title, lambda: _heatmaps(data, title, *arguments, **options)

    yield curves(
        "Loss",
        "Of the network, of what its final key frequencies alone give, and of what is left without them. A "
        "falling restricted loss and a rising excluded loss are the circuit forming. Click to go to a step.",
        "loss (nats)",
        [*losses, *ablated],
        log=True,
        size="wide",
    )
    yield curves("Accuracy", accuracy_caption(noisy), "accuracy (share right)", accuracies, limits=(0.0, 1.0))
    yield curves(
        "Weights",
        "What weight decay pulls at.",
        "sum of squares (weight²)",
        [_Curve("all parameters", "sum_of_squares", LINES[0], {"parameter": "total"})],
        floor=0.0,
    )
    yield curves(
        "Sparsity",
        "A Gini coefficient of 1 is a single frequency, 0 all frequencies alike.",
        "share",
        shares,
        size="wide",
    )
    yield bars(
        "Spectrum of W_E",
        "Left bar cosine, right bar sine; the final key frequencies are red. Dots under the axis: the keys "
        "of this snapshot.",
        "fourier_norms.W_E",
        "norm (weight)",
        size="wide",
    )
    yield bars(
        "Neurons by frequency",
        "How many neurons one frequency explains.",
        "neuron.clusters",
        "neurons (count)",
    )
    yield bars(
        "Spectrum of W_L",
        "W_L = W_out W_U: what each neuron adds to each logit.",
        "fourier_norms.W_L",
        "norm (weight)",
        size="wide",
    )
    yield bars(
        "Cosines in the logits",
        "Cosine similarity of the logits with cos w(c* − c).",
        "logit_cosine",
        "cosine similarity",
    )
    yield "Circles of the key frequencies", lambda: _circles(data)
    yield maps(
        "Neurons",
        "Of each final key frequency the neuron that it explains best at the end, over all pairs (a, b).",
        "picture.neurons" + FINAL,
        size="full",
    )
    yield maps(
        "Attention",
        "How much the answer position attends to the first token, for each head of the first layer.",
        "picture.attention",
        size="full",
    )
    yield maps(
        "Logit of one answer",
        "Of the answer at position 0 on the circle (0 for addition), less its mean.",
        "picture.logits",
    )
    yield maps(
        "2-D spectrum of the logits",
        "Power of all logits on products of a wave in a and one in b.",
        "picture.logit_spectrum",
    )
    yield maps("2-D spectrum of the neurons", "The same of all neurons.", "picture.neuron_spectrum")


def accuracy_caption(noisy: bool) -> str:
    """How to read accuracies: where labels are noisy, whether they are of the labels or of the right
    answers."""
    if not noisy:
        return "Share of examples whose largest logit is right."
    return (
        "Share of examples whose largest logit is the label's; dashed: the right answer's. Corrupted are "
        "the training examples whose labels are wrong, clean the others."
    )


_SHOWN = {
    "loss", "accuracy", "sum_of_squares", "gini.W_E", "gini.W_L", "neuron.single_frequency_share",
    "logit_fve.centred", "fourier_norms.W_E",
    "fourier_norms.W_L", "neuron.clusters", "logit_cosine",
}  # fmt: skip
"""Measures with a panel among the standard ones. The two losses without and with the keys get another, of all
their variants."""


def _others(data: xr.Dataset, chosen: Sequence[str]) -> Iterator[tuple[str, Callable[[], Panel]]]:
    """Every other measure: open where it was chosen; of PROGRESS those that can be drawn, to be opened by the
    reader."""
    chosen, missing = ([name.removesuffix(FINAL) for name in names] for names in (chosen, skipped(data)))
    names = {str(name).removesuffix(FINAL) for name in data} | (set(chosen) & set(missing))
    for name in [
        measure
        for measure in [*PROGRESS, *sorted(names - set(PROGRESS))]
        if measure in names and measure not in _SHOWN
    ]:
        extra = name in chosen or name not in PROGRESS
        if name not in PICTURES and (extra or _drawn_as(data, name)):
            yield name, _other(data, name, shown=extra)


def _other(data: xr.Dataset, name: str, shown: bool) -> Callable[[], Panel]:
    def make() -> Panel:
        kind = _drawn_as(data, name)
        if kind == "bars":
            return _bars(data, name, "", name if name in data else name + FINAL, shown=shown)
        if kind != "curves":
            if (values := _either(data, name)) is None:
                raise _missing(data, name)
            raise NotApplicable(
                f"an array over {', '.join(map(str, values.dims[1:]))}; `--data` writes it to a file"
            )
        both = name in data and name + FINAL in data
        curves = [
            _Curve(
                ", ".join(
                    filter(
                        None,
                        [
                            "" if not both else "final keys" if variant.endswith(FINAL) else "own keys",
                            _IN_WORDS.get(part, part),
                        ],
                    )
                )
                or "value",
                variant,
                OF_PART.get(part, LINES[0]),
                {"part": part} if part else {},
                dashed=both and not variant.endswith(FINAL),
            )
            for variant in (name, name + FINAL)
            if variant in data
            for part in (_parts(data, variant) if "part" in data[variant].dims else [""])
        ]
        some = _either(data, name)
        assert some is not None
        caption = (
            "With the key frequencies of each snapshot (dashed), and with the final ones." if both else ""
        )
        return _curves(
            data,
            None,
            name,
            caption,
            _with_unit(name, some),
            curves,
            log=some.attrs["unit"] == "nats",
            shown=shown,
        )

    return make


def _either(data: xr.Dataset, name: str) -> xr.DataArray | None:
    return next((data[variant] for variant in (name, name + FINAL) if variant in data), None)


def _drawn_as(data: xr.Dataset, name: str) -> str:
    values = _either(data, name)
    if values is None or values.dtype == bool:
        return ""
    return {(): "curves", ("part",): "curves", ("freq",): "bars"}.get(
        tuple(str(dim) for dim in values.dims[1:]), ""
    )


def _parts(data: xr.Dataset, name: str) -> list[str]:
    """Train and test where they are known, else all examples."""
    parts = [str(part) for part in data[name]["part"].values] if name in data else ["all"]
    return [part for part in parts if part != "all"] or ["all"]


def _missing(data: xr.Dataset, name: str) -> NotApplicable:
    reasons = skipped(data)
    return NotApplicable(reasons.get(name) or reasons.get(name + FINAL) or not_measured(name, {}))


def _with_unit(words: str, values: xr.DataArray) -> str:
    unit = str(values.attrs["unit"])
    return words if unit == "1" else f"{words} ({unit})"


def _curves(
    data: xr.Dataset, history: pd.DataFrame | None, title: str, caption: str, y: str,
    wanted: Sequence[_Curve],
    *, log: bool = False, limits: tuple[float, float] | None = None, floor: float | None = None,
    size: Size = "", shown: bool = True,
) -> Panel:  # fmt: skip
    lines: list[canvas.Line] = []
    reasons: dict[str, list[str]] = {}
    for curve in wanted:
        if curve.name not in data or any(
            label not in data[curve.name][dim].values for dim, label in curve.at.items()
        ):
            reasons.setdefault(str(_missing(data, curve.name)), []).append(curve.label)
            continue
        values = data[curve.name].sel(curve.at)
        unit = "" if values.attrs["unit"] == "1" else values.attrs["unit"]
        between = None
        if history is not None:
            between = _between(data["step"].values, values.values, history, curve.column)
        lines.append(canvas.Line(curve.label, curve.colour, unit, values.values, curve.dashed, between))
    if not lines:
        raise NotApplicable(next(iter(reasons)))
    absent = "".join(f" Not drawn: {', '.join(labels)}: {reason}." for reason, labels in reasons.items())
    body = canvas.curves(lines, y, log=log, limits=limits, floor=floor)
    return Panel(title, caption + absent, body, size, shown)


def _between(
    steps: np.ndarray, values: np.ndarray, history: pd.DataFrame, column: str
) -> tuple[np.ndarray, np.ndarray] | None:
    """A column of the history, if at the snapshots it is what was measured there: a run may be trained on
    another loss."""
    if column not in history:
        return None
    evaluated = history[["step", column]].dropna()
    at = {int(step): float(value) for step, value in zip(steps, values, strict=True)}
    same = np.array(
        [
            (at[int(s)], float(v))
            for s, v in evaluated.itertuples(index=False)
            if int(s) in at and np.isfinite(at[int(s)])
        ]
    )
    if not len(same) or not np.allclose(same[:, 0], same[:, 1], rtol=0.05, atol=1e-6):
        return None
    return evaluated["step"].to_numpy(), evaluated[column].to_numpy()


def _bars(
    data: xr.Dataset, title: str, caption: str, name: str, y: str = "", *, size: Size = "",
    shown: bool = True,
) -> Panel:  # fmt: skip
    """Bars over the frequencies; of components, cosine and sine side by side."""
    if name not in data:
        raise _missing(data, name)
    values = data[name]
    y, unit = y or _with_unit(name, values), str(values.attrs["unit"])
    if "component" in values.dims:
        labels = ["cos", "sin"]
        frequencies = list(range(1, values.sizes["component"] // 2 + 1))
        groups = [values.reindex(component=[f"{wave} {k}" for k in frequencies]).values for wave in labels]
        values = values.isel(component=slice(1, None))
    else:
        labels, groups = [""], [values.values]
        frequencies = [int(k) for k in values["freq"].values]
    low, high = canvas.finite_range(values.values)
    keys, keys_now = final_keys(data), _either(data, "key_frequencies.consensus")
    body = canvas.bars(
        [
            canvas.Bar(k, f"k = {k}, a final key", KEY) if k in keys else canvas.Bar(k, f"k = {k}")
            for k in frequencies
        ],
        groups,
        "frequency k",
        y,
        labels=labels,
        unit="" if unit in ("1", "neurons") else unit,
        limits=(min(low, 0.0), max(high, 0.0)),
        marks=None if keys_now is None else keys_now.reindex(freq=frequencies).values,
    )
    return Panel(title, caption, body, size, shown)


def _circles(data: xr.Dataset) -> Panel:
    name = "picture.circles" + FINAL
    if name not in data:
        raise _missing(data, name)
    values = data[name]
    keys, elements = [int(k) for k in values["key"].values], values["element"].values
    unit, count = values.attrs["unit"], len(elements)
    body = canvas.points(
        values.values,
        [f"k = {k}" for k in keys],
        [f"element {element}" for element in elements],
        [[round_the_circle(i * k, count) for i in range(count)] for k in keys],
        f"along cos k ({unit})",
        f"along sin k ({unit})",
        unit,
    )
    left_out = len(final_keys(data)) - len(keys)
    caption = (
        "The elements in the plane of the embedding's components cos k and sin k. Colour goes round with "
        "k·a; axes hold for all steps."
    )
    caption += f" {left_out} more keys are not drawn." if left_out else ""
    return Panel("Circles of the key frequencies", caption, body, "full", name="circles")


def _heatmaps(
    data: xr.Dataset, title: str, caption: str, name: str, *, size: Size = "", shown: bool = True
) -> Panel:
    """Heatmaps over a and b: over their elements, or over the components of waves in them."""
    if name not in data:
        raise _missing(data, name)
    values = data[name]
    each = [str(dim) for dim in values.dims[1:-2]]
    if "component_a" in values.dims:
        components = [str(label) for label in values["component_a"].values]
        ticks = [str((i + 1) // 2) for i in range(len(components))]
        rows, columns = (
            canvas.Axis(f"frequency in {x}", ticks, [f"{component} in {x}" for component in components])
            for x in "ab"
        )
    else:
        rows, columns = (
            canvas.Axis.of(f"{x} (in the order of the circle)", list(map(str, values[dim].values)), words)
            for x, dim, words in (("a", "i", "a = {}".format), ("b", "j", "b = {}".format))
        )
    body = canvas.heatmaps(
        values.values.reshape(len(values), -1, *values.shape[-2:]),
        [_title(data, each[0], int(label)) for label in values[each[0]].values] if each else [""],
        rows,
        columns,
        "share" if values.attrs["unit"] == "1" else values.attrs["unit"],
        _LIMITS.get(name),
    )
    return Panel(title, caption, body, size, shown)


def _title(data: xr.Dataset, dim: str, label: int) -> str:
    """What stands above one heatmap: of a neuron also its frequency in the end."""
    if dim != "example":
        return f"{dim} {label}"
    frequency = data["neuron.frequency"].isel(step=-1) if "neuron.frequency" in data else None
    return f"neuron {label}" + ("" if frequency is None else f", k = {int(frequency.sel(neuron=label))}")
