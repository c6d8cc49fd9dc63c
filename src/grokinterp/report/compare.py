"""Runs compared -> one table, one figure, one offline page."""

from __future__ import annotations

import html
import json
import math
import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import NotARun, UsageError
from ..replay import Compared, Reached, RunsCompared, judged_by
from ..runs import Run
from ..training import SQUARED
from . import palette
from .offline import Page, page_of_figures
from .palette import PLAIN, TEST, TRAIN
from .panels import Figure, Panel, Section

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go
    from numpy.typing import NDArray

_MOST_POINTS = 800
"""Points of a curve that are drawn, twice: of longer ones the lowest and the highest of each stretch."""


class Comparison(Page):
    """Several runs side by side: as a table, as a figure, as a page, as plain values, and shown in a
    notebook.

    Attributes:
        compared: what is known of each run and of those that belong together.
    """

    def __init__(self, compared: RunsCompared, log_x: bool = False) -> None:
        self.compared = compared
        self._log_x = log_x

    def __repr__(self) -> str:
        return f"<Comparison of {_verdict(self.compared)}>"

    @property
    def table(self) -> pd.DataFrame:
        """One row for each run: what differs, steps to 99 % with their censoring, final values, spikes,
        whether its start helped."""
        return self.compared.table

    @cached_property
    def figure(self) -> go.Figure:
        """Accuracies and losses against steps: one colour for each run, train dashed, test solid."""
        return _curves(self.compared.runs, self._log_x)

    def to_dict(self) -> dict[str, Any]:
        """The content of compare.json: plain numbers, strings, lists and dicts; None for what is not
        known."""
        return self.compared.to_dict()

    def to_html(self) -> str:
        """The page: self-contained, about 5 MB, most of it plotly.js."""
        return _page(self)


def compare(runs: Run | str | Path | Sequence[Run | str | Path], *, log_x: bool = False) -> Comparison:
    """Runs of different tasks, fractions, seeds or starts in one table and one figure.

    Args:
        runs: runs, or their directories; a directory that holds several (as `train --seeds` and `train_many`
            make it), or several such directories, means all of them.
        log_x: whether steps are drawn on a log axis at first; the page has a switch.

    Raises:
        UsageError: there are none, or (NotARun) a directory holds none.
        DamagedFile: a file does not match its recorded hash or count.
    """
    several = [runs] if isinstance(runs, Run | str | Path) else runs
    return Comparison(RunsCompared(list(opened(several))), log_x)


def opened(several: Sequence[Run | str | Path]) -> Iterator[Run]:
    """Every run once, in the order given; those of one directory in the order of the numbers in their
    names."""
    seen: set[Path] = set()
    for one in several:
        if not isinstance(one, Run | str | Path):
            raise UsageError(f"runs has a {type(one).__name__}: needs runs or their directories")
        for run in [one] if isinstance(one, Run) else map(Run, _directories(Path(one))):
            if (place := run.path.resolve()) not in seen:
                seen.add(place)
                yield run


def _directories(path: Path) -> list[Path]:
    if (path / "run.json").exists() or not path.is_dir():
        return [path]
    # By either file, so that a run that has lost one of them is not passed over.
    inside = {
        file_inside.parent
        for depth in ("*", "*/*")
        for file in ("run.json", "manifest.jsonl")
        for file_inside in path.glob(f"{depth}/{file}")
        if not file_inside.parent.name.startswith(".")  # an import that is not finished
    }
    if not inside:
        what = "holds no run, nor directories that do; give what `grokinterp train --out` made"
        raise NotARun(f"{path} {what}")

    def natural(folder: Path) -> list[tuple[int, str]]:
        name = str(folder.relative_to(path))
        return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]

    return sorted(inside, key=natural)


# In words


def _verdict(compared: RunsCompared) -> str:
    """How many runs there are, and how many of them learned their test examples."""
    count, learned = len(compared.runs), sum(each.test.seen for each in compared.runs)
    seen = "seen to learn the test examples to 99\N{NO-BREAK SPACE}%"
    if count == 1:
        return f"One run, which was {'' if learned else 'not '}{seen}"
    return f"{count} runs, of which {learned} {'was' if learned == 1 else 'were'} {seen}"


def shared(compared: RunsCompared) -> list[tuple[str, str]]:
    """What is the same for all runs, and so in no column of `rows`."""
    columns = _columns(compared, brief=False)
    of_settings = [column for column in columns if column[0] in ("task", "fraction", "seed")]
    return [(name, values[0]) for name, values in of_settings if len(set(values)) == 1]


def rows(compared: RunsCompared, brief: bool = False) -> tuple[list[str], list[list[str]]]:
    """The table in words: its header, and a row for each run; without what is the same everywhere. The brief
    one leaves out losses."""
    same = {name for name, _ in shared(compared)}
    columns = [(name, values) for name, values in _columns(compared, brief) if name not in same]
    header, cells = zip(*columns, strict=True)
    return list(header), [list(row) for row in zip(*cells, strict=True)]


def _columns(compared: RunsCompared, brief: bool) -> Iterator[tuple[str, list[str]]]:
    runs = compared.runs
    yield "run", [each.name for each in runs]
    yield "task", [each.run.task.symbol for each in runs]
    for name, key in (("fraction", "training.fraction"), ("seed", "seed")):
        yield name, [_written(each.settings.get(key)) for each in runs]
    if any(each.start for each in runs):
        yield "start", [each.start or "scratch" for each in runs]
    yield "train 99\N{NO-BREAK SPACE}%", [str(each.train) for each in runs]
    yield "test 99\N{NO-BREAK SPACE}%", [str(each.test) for each in runs]
    yield "now", [each.standing.state for each in runs]
    yield "delay", ["–" if each.delay is None else str(each.delay) for each in runs]
    if any(each.transfer for each in runs):
        yield "transfer", [_helped(each) for each in runs]
    for name in ("train_accuracy", "test_accuracy", "train_loss", "test_loss"):
        if not brief or name == "test_accuracy":
            spec, values = ".4f" if "accuracy" in name else ".3g", [each.final[name] for each in runs]
            yield name.replace("_", " "), ["–" if math.isnan(x) else format(x, spec) for x in values]
    yield "spikes", [_written(each.spikes) for each in runs]
    yield "slingshots", [_written(each.slingshots) for each in runs]
    short = [key.rpartition(".")[2] for key in compared.differing]
    for key, name in zip(compared.differing, short, strict=True):
        yield (name if short.count(name) == 1 else key), [_written(each.settings.get(key)) for each in runs]
    if not brief or any(not each.run.finished or each.run.imported for each in runs):
        yield "ended", [each.state for each in runs]


def _helped(each: Compared) -> str:
    transfer = each.transfer
    if transfer is None:
        return ""
    if transfer.verdict != "faster":
        return transfer.verdict
    return f"faster by {'> ' if transfer.high is None else ''}{transfer.steps:,}"


def _written(value: Any) -> str:
    if value is None:
        return "–"
    return value if isinstance(value, str) else json.dumps(value)


def groups(compared: RunsCompared) -> list[list[str]]:
    """The groups in words: names, how many learned their training and test examples, and the medians."""
    lines = []
    for group in compared.groups:
        of = len(group.names)
        learned = [f"{count} of {of}" for count in (group.learned_train, group.learned_test)]
        medians = ["–" if median is None else f"{median:,.0f}" for median in (group.train, group.test)]
        lines.append([", ".join(group.names), *learned, *medians])
    return lines


# In pictures


def _thinned(steps: NDArray[Any], values: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """A curve by fewer points that looks the same: of each stretch the lowest and the highest value."""
    import numpy as np

    if len(steps) <= 2 * _MOST_POINTS:
        return steps, values
    drawn = {0, len(steps) - 1}
    for stretch in np.array_split(np.arange(len(steps)), _MOST_POINTS):
        drawn |= {int(stretch[values[stretch].argmin()]), int(stretch[values[stretch].argmax()])}
    at = sorted(drawn)
    return steps[at], values[at]


def _labels(runs: Sequence[Compared]) -> list[str]:
    """What stands in a legend for each run: its name, and its task where they differ."""
    tasks = [each.run.task.symbol for each in runs]
    full = [each.name for each in runs]
    short = [name if len(name) <= 32 else f"{name[:15]}…{name[-16:]}" for name in full]
    short = short if len(set(short)) == len(full) else full
    one_task = len(set(tasks)) == 1
    return short if one_task else [f"{name}: {task}" for name, task in zip(short, tasks, strict=True)]


def _curves(runs: Sequence[Compared], log_x: bool) -> go.Figure:
    import plotly.graph_objects as go

    figure = go.Figure()
    labels, nowhere = _labels(runs), {"x": [None], "y": [None]}  # nowhere but in the legend
    for words, dash in (("train", "dash"), ("test", "solid")):
        line = {"color": PLAIN, "dash": dash}
        figure.add_scatter(**nowhere, name=words, mode="lines", line=line)
    for words, symbol in (("test reaches 99 %", "circle"), ("ended before that", "triangle-right-open")):
        marker = {"color": PLAIN, "size": 9, "symbol": symbol}
        figure.add_scatter(**nowhere, name=words, mode="markers", marker=marker)
    for each, label, colour in zip(runs, labels, palette.lines(len(runs)), strict=True):
        history, first = each.run.dated_history, True
        for part, dash in (("test", "solid"), ("train", "dash")):
            for metric, axis in (("accuracy", "y"), ("loss", "y2")):
                column = judged_by(history, part) if metric == "accuracy" else f"{part}_{metric}"
                evaluated = history.dropna(subset=[column])
                x, y = _thinned(evaluated["step"].to_numpy(), evaluated[column].to_numpy())
                figure.add_scatter(
                    x=x, y=y, yaxis=axis, name=label, legendgroup=label, showlegend=first, mode="lines",
                    line={"color": colour, "width": 1.6, "dash": dash}, opacity=1 if part == "test" else 0.75,
                    hovertemplate=f"{html.escape(each.name)}, {part} {metric}: %{{y:.4g}} at step "
                    "%{x:,}<extra></extra>",
                )  # fmt: skip
                first = False
        if each.test.state != "not known":
            at = each.test.after if each.test.by is None else each.test.by
            height = history.loc[history["step"] == at, judged_by(history, "test")].iloc[-1]
            symbol = "triangle-right-open" if each.test.by is None else "circle"
            marker = {"color": colour, "size": 11, "symbol": symbol, "line": {"width": 2, "color": colour}}
            figure.add_scatter(
                x=[at], y=[height], name=label, legendgroup=label, showlegend=False, mode="markers",
                hoverinfo="skip", marker=marker, cliponaxis=False,
            )  # fmt: skip
    units = {SQUARED.get(str(each.settings.get("training.loss")), ("loss (nats)", ""))[0] for each in runs}
    unit = units.pop() if len(units) == 1 else "loss (nats, or squared error)"
    width = 45 + 7 * max(16, *map(len, labels))
    below = 70 + 21 * -(-(4 + len(runs)) // max(1, 1050 // width))
    return figure.update_layout(
        template=None, height=620 + below, margin={"l": 70, "r": 16, "t": 40, "b": below},
        xaxis={"title": {"text": "step (optimiser updates)", "standoff": 8}, "anchor": "y2"},
        xaxis_type="log" if log_x else "linear",
        yaxis={"title": {"text": "accuracy (share right)", "standoff": 12}, "domain": [0.54, 1]},
        yaxis_range=[-0.03, 1.05],
        yaxis2={"title": {"text": unit, "standoff": 12}, "domain": [0, 0.48], "type": "log"},
        yaxis2_exponentformat="power",
        legend={"orientation": "h", "x": 0, "y": -70 / 580, "yanchor": "top", "entrywidth": width - 40},
        updatemenus=[_switch(log_x)],
    )  # fmt: skip


def _switch(log_x: bool) -> dict[str, Any]:
    """A button that puts the steps on a log axis and back on a linear one."""
    to = [{"xaxis.type": kind, "xaxis.autorange": True} for kind in ("linear", "log")]
    switched = {"method": "relayout", "args": [to[not log_x]], "args2": [to[log_x]]}
    button = {"label": "steps: linear ⇄ log", **switched}
    place = {"x": 1, "xanchor": "right", "y": 1, "yanchor": "bottom", "pad": {"b": 4, "t": 0}}
    font = {"color": palette.BUTTON_TEXT, "size": 11}
    colours = {"bgcolor": palette.BUTTON, "bordercolor": PLAIN, "font": font}
    return {"type": "buttons", "buttons": [button], "showactive": False, "active": -1, **place, **colours}


def _milestones(runs: Sequence[Compared]) -> go.Figure:
    """Steps to 99 % of each run, train and test; censored ones as arrows."""
    import plotly.graph_objects as go

    figure = go.Figure()
    names = _labels(runs)
    for name, each in zip(names, runs, strict=True):
        ends = [t.after if t.by is None else t.by for t in (each.train, each.test) if t.state != "not known"]
        if len(ends) == 2:
            line = {"color": PLAIN, "width": 1.5, "dash": "dot" if each.test.by is None else "solid"}
            unnamed = {"showlegend": False, "hoverinfo": "skip"}
            figure.add_scatter(x=ends, y=[name] * 2, mode="lines", line=line, **unnamed)
    # Where both are censored they are at one step: the open arrow of the training examples lies around the
    # filled one.
    kinds: list[tuple[str, list[Reached], str, str, str, int]] = [
        ("train", [each.train for each in runs], TRAIN, "circle-open", "triangle-right-open", 17),
        ("test", [each.test for each in runs], TEST, "circle", "triangle-right", 10),
    ]
    for part, times, colour, symbol, arrow, size in kinds:
        dated = list(zip(names, times, strict=True))
        learned = [(name, time) for name, time in dated if time.by is not None]
        censored = [(name, time) for name, time in dated if time.state == "censored"]
        for words, mark, mark_size, some in (
            (f"{part} reaches 99 %", symbol, 10, learned),
            (f"{part} had not when it ended", arrow, size, censored),
        ):
            if some:
                before = [t.by - (t.after or 0) if t.by is not None else 0 for _, t in some]
                bar = {"array": [0] * len(some), "arrayminus": before, "thickness": 1.5, "width": 3}
                line = {"width": 2, "color": colour}
                figure.add_scatter(
                    x=[t.after if t.by is None else t.by for _, t in some], y=[name for name, _ in some],
                    name=words, mode="markers", error_x={"type": "data", **bar},
                    marker={"symbol": mark, "size": mark_size, "color": colour, "line": line},
                    text=[t.interval for _, t in some],
                    hovertemplate="%{y}: " + part + " %{text}<extra></extra>",
                )  # fmt: skip
    return figure.update_layout(
        template=None, height=130 + 24 * len(runs), margin={"l": 40, "r": 16, "t": 40, "b": 50},
        xaxis={"title": {"text": "step (optimiser updates)"}, "rangemode": "tozero"},
        yaxis={"automargin": True, "categoryorder": "array", "categoryarray": names[::-1]},
        yaxis_range=[-0.6, len(runs) - 0.4],
        legend={"orientation": "h", "x": 0, "y": 1, "yanchor": "bottom"},
    )  # fmt: skip


def _page(comparison: Comparison) -> str:
    compared = comparison.compared
    header, cells = rows(compared)
    times = (
        "Open: training examples, filled: test examples; arrow: it ended before that; bar: since the "
        "evaluation before."
    )
    curves = "Train dashed, test solid; a click on a run in the legend hides it."
    if any(len(each.run.history) > 2 * _MOST_POINTS for each in compared.runs):
        curves += " Long curves are drawn by the lowest and the highest value of each stretch."
    pictures = [
        Panel("Steps to 99 %", times, Figure(_milestones(compared.runs)), size="wide"),
        Panel("Accuracy and loss", curves, Figure(comparison.figure), size="wide"),
    ]
    return page_of_figures(
        "compare.html",
        title="Which runs learned, and in how many steps?",
        verdict=_verdict(compared),
        facts=[(f"All: {name}", text) for name, text in shared(compared)],
        header=header,
        rows=cells,
        groups=groups(compared),
        transfers=[
            (each.name, each.start, each.transfer.sentence) for each in compared.runs if each.transfer
        ],
        section=Section(
            "Over training",
            "A step is one update of the weights. Spikes: the loss or the gradient leaps up and comes down "
            "again. Slingshots: the training loss is above ten times its running median and training "
            "accuracy falls. What comes and goes between two evaluations is not seen.",
            pictures,
        ),
    )
