"""A replay -> one HTML page that needs no network, of which a slider moves every panel together. Here stands
what is said of any task; a family has its panels in a folder of its own.

The page's own script draws on canvas (canvas.py): a few hundred lines in place of 4.8 MB of plotly.js. What
is measured is not decided here; a panel shows what the Dataset holds.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

from ..asked import NAMES, PATH, STEPS, asks
from ..errors import NotApplicable
from ..given import as_run
from ..measures.base import named
from ..replay import (
    FINAL,
    PICTURES,
    PROGRESS,
    Boundary,
    Phases,
    check_format,
    courses_in_words,
    export,
    leaps_in_words,
    levels_to_draw,
    phases,
    pictures_of,
    progress_of,
    replay,
    skipped,
    spikes,
    spikes_in_words,
)
from ..runs import Run
from ..runs.account import steps_in_words
from ..runs.files import file_named, refuse_unwritable
from ..runs.files import replace as replace_file
from . import canvas, probes
from .learned import found_at_the_end
from .moments import BARS_OVER, Curve, Moments, with_unit
from .offline import asset, embedded, offline_page, page_named
from .page import accuracy_caption
from .palette import LINES, OF_PART, PHASES, PLAIN, lines
from .panels import NOTES, PANELS, Canvas, Panel, Section, panel
from .words import level_labels

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

SHORTCUTS = (
    (("Space",), "play, pause"),
    (("←", "→"), "one snapshot back, on"),
    (("Home", "End"), "the first snapshot, the last"),
    (("+", "-"), "faster, slower"),
    (("l",), "loop: play again and again"),
    (("?",), "show these shortcuts"),
)
"""The keys that move a replay, and what they do: what replay.js listens to."""
_LEAST_ROOM = 100_000
"""Bytes that a replay of the smallest network needs."""


@asks("gi.save_replay", path=PATH, measures=NAMES, steps=STEPS, data=PATH)
def save_replay(
    run: Run | str | Path, path: str | Path, measures: Sequence[str] = (), steps: Sequence[int] | None = None,
    *, data: str | Path | None = None, reload: int = 0,
) -> xr.Dataset:  # fmt: skip
    """Replays a run, writes its page, and gives what was measured.

    Args:
        run: a run or its directory, finished or still being written.
        path: of the page, which is written whole or not at all; in a directory it is called replay.html, and
            a name without an ending gets .html.
        measures: names of measures beside those of PROGRESS and PICTURES.
        steps: committed steps, negative ones counted from the end; by default all.
        data: where the numbers go as well, as .nc, .parquet or .csv.
        reload: see `replay_page`.

    Raises:
        UsageError: no measure has one of the names, the run has no snapshot, or a file would replace one of
            its own.
        NoSuchSnapshot: the run has no snapshot at one of the steps.
        DamagedFile: a snapshot does not match its recorded hash.
        WriteFailed: the disk is full or read-only.
    """
    run, measures = as_run(run, "gi.save_replay"), named(measures)
    files = replay_files(run, path, data)
    dataset = replay(run, [*progress_of(run), *pictures_of(run), *measures], steps)
    unknown = [step for step in run.steps if not run.step_known(step)]
    # Between steps that nobody knows there is no phase.
    training_phases = None if unknown else phases(dataset, run.history)
    whole = not reload and not unknown and run.steps[-1] in dataset["step"].values
    page = replay_page(
        dataset, run.history, training_phases, chosen=measures, reload=reload, unknown=unknown,
        found=found_at_the_end(run, dataset) if whole else "",
    )  # fmt: skip
    replace_file(files[0], page.encode(), make_folder=True)
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
    files = [page_named(path, "replay.html")]
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
    *, chosen: Sequence[str] = (), reload: int = 0, unknown: Collection[int] = (), found: str = "",
) -> str:  # fmt: skip
    """The page as HTML: self-contained, 3.9 MB for the 37 snapshots of the run that ships (p = 113).

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
        found: what the network of the last snapshot does, in a sentence for the head of the page.
    """
    moments = Moments(data, history)
    section = _section(moments, chosen)
    steps = [int(step) for step in data["step"].values]
    numbered = "step; some are not known, and only number the snapshots"
    spans, went = (training_phases.spans, training_phases.sentence) if training_phases else ((), "")
    content = {
        "run": data.attrs["run"],
        "task": data.attrs["task"],
        "steps": steps,
        "moments": [f"step {step:,}" if step not in unknown else "step unknown" for step in steps],
        "axis": numbered if {*unknown} & {*steps} else "step (optimiser updates)",
        "reload": reload,
        "phases": [training_phases.at(step) for step in steps] if training_phases else [],
        "spans": [
            {"name": s.name, "start": float(s.start), "end": float(s.end), "colour": PHASES[s.name]}
            for s in spans
        ],
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
        found=courses_in_words(moments.courses) if moments.courses else found,
        opening=" ".join(filter(None, [data.attrs.get("divergence"), went, data.attrs.get("thinning")])),
        notes=list(_notes(moments)),
        courses=[one.sentence for one in moments.courses] if len(moments.courses) > 1 else [],
        sure=[_how_sure(boundary) for boundary in training_phases.boundaries] if training_phases else [],
        section=section,
        missing=_by_reason(section.missing),
        shortcuts=SHORTCUTS,
        replay=embedded(json.dumps(content, allow_nan=False)),
    )


def _section(moments: Moments, chosen: Sequence[str]) -> Section:
    """The panels that have a meaning here, and why others are left out."""
    applying = [each for each in PANELS.applying_to(moments.families) if each.where(moments)]
    makers: list[tuple[str, Callable[[], Panel]]] = [
        *((each.name, partial(each.made, moments)) for each in applying),
        *_others(moments, chosen),
    ]
    panels: list[Panel] = []
    missing: dict[str, str] = {}
    for name, make in makers:
        try:
            panels.append(make())
        except NotApplicable as reason:
            missing[name] = str(reason)
    if moments.courses:  # which are what the page says first
        panels.sort(key=lambda panel: panel.title != _LOSS)
    return Section("", "", panels, missing=missing)


def _by_reason(missing: Mapping[str, str]) -> list[tuple[str, str]]:
    """Each reason once, after the titles of all that are missing for it."""
    titles: dict[str, list[str]] = {}
    for title, reason in missing.items():
        titles.setdefault(reason, []).append(title)
    return [(", ".join(of_reason), reason) for reason, of_reason in titles.items()]


def _how_sure(boundary: Boundary) -> str:
    """Between which steps a boundary lies, from what that is known, and how far it moves."""
    return (
        f"{boundary.name}: after step {boundary.after:,}, by step {boundary.by:,}"
        + (f" ({boundary.source})" if boundary.seen else "")
        + (f"; {boundary.flag}" if boundary.flag else "")
        + (f". {boundary.note}" if boundary.note else "")
    )


def _notes(moments: Moments) -> Iterator[str]:
    """What can be said of the whole beside its phases: what the family says, and spikes."""
    for note in NOTES.applying_to(moments.families):
        with suppress(NotApplicable):
            yield note.made(moments)
    yield spikes_in_words(spikes(moments.history, moments.data), moments.history)
    if len(moments.courses) > 1:
        yield f"Losses {leaps_in_words({one.answer: one.leaps for one in moments.courses})}."


def by_part(moments: Moments, name: str) -> list[Curve]:
    """The loss or the accuracy of every part of the sample that is known, and of each answer where there are
    several."""
    values = moments.either(name)
    if values is None or not _EACH & {*values.dims}:
        parts = moments.parts(name)
        groups = [part for part in parts if part not in OF_PART]
        colours = {**OF_PART, **dict(zip(groups, lines(len(groups) + 2)[2:], strict=True))}
        return [
            Curve(_IN_WORDS.get(part, part), name, colours[part], {"part": part}, column=f"{part}_{name}")
            for part in parts
        ]
    parts = moments.parts(name, groups=False)
    return [curve for part in reversed(parts) for curve in _of_each(values, name, {"part": part})]


_EACH = {"answer", "criterion"}
"""Dimensions of which every label has a curve."""


def _of_each(values: xr.DataArray, name: str, at: Mapping[str, str]) -> list[Curve]:
    """A measure of each answer, or by each criterion, at labels of its other dimensions."""
    dim = next(str(dim) for dim in values.dims if dim in _EACH)
    labels = values[dim].values.tolist()
    columns = ["_".join([*at.values(), f"{name}.{label}"]) for label in labels]
    return [
        Curve(
            ", ".join([label, *at.values()]), name, colour, {**at, dim: label}, "train" in at.values(), column
        )
        for label, colour, column in zip(labels, lines(len(labels)), columns, strict=True)
    ]


_LOSS = "Loss"


@panel(
    _LOSS,
    lambda moments: (
        "Mean over the examples, of each answer where there are several. Click to go to a step."
        + " Dashed: what it is for a network that knows so much and no more." * bool(moments.levels)
    ),
    size="wide",
    shows=["loss"],
)
def _loss(moments: Moments) -> Canvas:
    levels = level_labels(levels_to_draw(moments.levels, moments.courses))
    return moments.curves("loss (nats)", by_part(moments, "loss"), log=True, levels=levels)


@panel("Accuracy", lambda moments: accuracy_caption(moments.noisy), shows=["accuracy", "accuracy.exact"])
def _accuracy(moments: Moments) -> Canvas:
    curves = by_part(moments, "accuracy")
    if moments.noisy:
        curves += [
            replace(
                curve,
                label=f"{curve.at['part']}: right answer",
                name="clean_accuracy",
                dashed=True,
                column=curve.column.replace("_", "_clean_"),
            )
            for curve in curves
            if not moments.data["clean_accuracy"].sel(curve.at).equals(moments.data["accuracy"].sel(curve.at))
        ]
    if "accuracy.exact" in moments.data:
        for part in reversed(moments.parts("accuracy", groups=False)):
            at, column = {"part": part}, f"{part}_exact"
            curves.append(
                Curve(f"every answer, {part}", "accuracy.exact", PLAIN, at, part == "train", column)
            )
    return moments.curves("accuracy (share right)", curves, limits=(0.0, 1.0))


@panel("Weights", "What weight decay pulls at.", shows=["sum_of_squares"])
def _weights(moments: Moments) -> Canvas:
    total = Curve("all parameters", "sum_of_squares", LINES[0], {"parameter": "total"})
    return moments.curves("sum of squares (weight²)", [total], floor=0.0)


@panel(
    "Attention",
    "How much each head attends to each position, from where an answer is read, as a mean over all examples.",
    size="full",
    shows=["attention.mean"],
)
def _attention(moments: Moments) -> Canvas:
    values = moments.values("attention.mean")
    places = [str(dim) for dim in values.dims[1:-2]]  # of each map: the layer, and before it the answer
    titles = [
        ", ".join(f"{dim} {label}" for dim, label in zip(places, labels, strict=True))
        for labels in product(*(values[dim].values.tolist() for dim in places))
    ]
    words = [str(label).partition(": ")[2] for label in values["pos"].values]
    heads = canvas.Axis.of("head", [str(head) for head in values["head"].values], "head {}".format)
    positions = canvas.Axis.of("position", words, "at {}".format)
    return moments.heatmaps("attention.mean", heads, positions, titles, (0.0, 1.0))


@panel(
    "What can be read of an example",
    "R² of a ridge regression on held-out examples, of each number that is known of an example, where it is "
    "read best at the last snapshot; it shows what could be read, not that the network reads it.",
    size="wide",
    shows=[probes.STREAM],
    where=lambda moments: probes.STREAM in moments.data,
)
def _readable(moments: Moments) -> Canvas:
    return probes.curves(moments)


def _others(moments: Moments, chosen: Sequence[str]) -> Iterator[tuple[str, Callable[[], Panel]]]:
    """Every other measure: open where it was chosen; of PROGRESS those that can be drawn, to be opened by the
    reader."""
    panels = PANELS.applying_to(moments.families)
    shown_already = {*PICTURES, *(name for each in panels for name in each.shows)}
    chosen, missing = (
        [name.removesuffix(FINAL) for name in names] for names in (chosen, skipped(moments.data))
    )
    names = {str(name).removesuffix(FINAL) for name in moments.data} | (set(chosen) & set(missing))
    for name in [*PROGRESS, *sorted(names - set(PROGRESS))]:
        if name in names and name not in shown_already:
            extra = name in chosen or name not in PROGRESS
            if extra or _can_be_drawn(moments, name):
                yield name, partial(_other, moments, name, shown=extra)


def _can_be_drawn(moments: Moments, name: str) -> bool:
    values = moments.either(name)
    if values is None or values.dtype == bool:
        return False
    dims = {str(dim) for dim in values.dims[1:]}
    return _are_curves(dims) or (len(dims) == 1 and not dims.isdisjoint(BARS_OVER))


def _other(moments: Moments, name: str, shown: bool) -> Panel:
    """The panel of a measure that has none: curves of its numbers, or else bars."""
    values = moments.either(name)
    if values is None:
        values = moments.values(name)  # which says why there is none
    dims = [str(dim) for dim in values.dims[1:]]
    if not _are_curves({*dims}):
        draw = BARS_OVER.get(dims[0], Moments.bars) if len(dims) == 1 else Moments.bars
        return Panel(name, "", draw(moments, str(values.name)), shown=shown)
    both = {name, name + FINAL} <= {*moments.data}
    if _EACH & {*dims}:
        curves = by_part(moments, name) if "part" in dims else _of_each(values, name, {})
    else:
        variants = [name, name + FINAL] if both else [str(values.name)]
        curves = [
            _of_variant(variant, part, both)
            for variant in variants
            for part in (moments.parts(variant) if dims else [""])
        ]
    body = moments.curves(with_unit(name, values), curves, log=values.attrs["unit"] == "nats")
    caption = "With the key frequencies of each snapshot (dashed), and with the final ones." if both else ""
    return Panel(name, caption + body.note, body, shown=shown)


def _of_variant(variant: str, part: str, both: bool) -> Curve:
    """A measure of a part, if it has parts; with whose keys, where it was replayed with both."""
    own = both and not variant.endswith(FINAL)
    whose = ("own keys" if own else "final keys") if both else ""
    label = ", ".join(filter(None, [whose, _IN_WORDS.get(part, part)])) or "value"
    return Curve(label, variant, OF_PART.get(part, LINES[0]), {"part": part} if part else {}, dashed=own)


def _are_curves(dims: set[str]) -> bool:
    """Whether numbers over these dimensions are drawn as one curve for each."""
    return dims <= {*_EACH, "part"} and len(dims & _EACH) <= 1


_IN_WORDS = {"corrupted": "corrupted (label wrong)", "clean": "clean (label right)"}
