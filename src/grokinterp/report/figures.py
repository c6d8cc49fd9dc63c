"""One function per figure: an analysis -> a plotly figure. Colours of text and grid are the page's, those of
data palette.py's. Here stand the figures about any task, and what those of families are made with.

Every axis carries its name and its unit. Heatmaps are int8 with their scale beside them, a tenth of the size
of float64.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from ..replay import levels_to_draw
from ..replay.descent import LEARNED, loss_of
from ..training import OTHER
from . import palette
from .analysis import Analysis
from .palette import CORRUPTED, KEY, PLAIN, TEST, TRAIN
from .words import level_labels

_MOST_LEVEL = 40
"""Letters that have room level below bars, also on a narrow page."""


def new_figure(x: str, y: str, height: int = 300, **layout: Any) -> go.Figure:
    """An empty figure with its axes named."""
    axes = {"xaxis": {"title": {"text": x}}, "yaxis": {"title": {"text": y, "standoff": 12}}}
    margin = {"l": 62, "r": 14, "t": 12, "b": 48}
    return (
        go.Figure().update_layout(template=None, height=height, margin=margin, **axes).update_layout(layout)
    )


def losses(a: Analysis) -> go.Figure:
    """Train and test loss over training, log axis, snapshots marked."""
    other, _ = OTHER.get(a.run.config.training.loss, ("", ""))
    figure = _curves(a, "loss", other or "loss (nats)")
    if "noise.bayes_loss" in a.values and not other:
        _level(figure, max(float(x) for x in a.values["noise.bayes_loss"]), "Bayes")
    if len(a.courses) == 1:
        _levels(figure, a)
    return figure.update_yaxes(type="log")


def accuracies(a: Analysis) -> go.Figure:
    """Train and test accuracy over training, snapshots marked; of several answers also of all together; on
    noisy labels also of right answers and of corrupted examples."""
    figure = _curves(a, "accuracy", "accuracy (share right)").update_yaxes(range=[-0.03, 1.06])
    others = [
        ("train_exact", "train: every answer", TRAIN, "dash"),
        ("test_exact", "test: every answer", TEST, "dash"),
        ("train_clean_accuracy", "train: right answer", TRAIN, "dash"),
        ("test_clean_accuracy", "test: right answer", TEST, "dash"),
        ("corrupted_accuracy", "corrupted (label wrong)", CORRUPTED, "solid"),
        ("corrupted_clean_accuracy", "corrupted: right answer", CORRUPTED, "dash"),
    ]
    for column, label, colour, dash in others:
        if column in a.history:
            _add_evaluations(figure, a, column, label, colour, dash)
    return figure


def _level(figure: go.Figure, nats: float, words: str, right: bool = False) -> None:
    """A dashed line over a log axis, with what it is at its left or right end."""
    figure.add_hline(y=nats, line={"color": PLAIN, "width": 1, "dash": "dash"}, layer="below")
    corner = {"xref": "paper", "yanchor": "bottom", "x": int(right), "xanchor": "right" if right else "left"}
    figure.add_annotation(corner, y=float(np.log10(nats)), text=words, showarrow=False, yshift=-2)


def _levels(figure: go.Figure, a: Analysis, right: float = 0.0) -> None:
    """What the loss is, as the task computes it, for a network that knows so much and no more; in words at
    the right end of those above so many nats, where losses have come down."""
    for words, nats in level_labels(levels_to_draw(a.run.task.levels, a.courses)):
        _level(figure, nats, words, right=nats > right)


def courses(a: Analysis) -> go.Figure:
    """How the loss of each answer came down: both axes logarithmic, from before the first plateau is left
    down to where a loss is learned; plateaus as bands, and the levels of the task."""
    figure = new_figure("step (optimiser updates)", "loss (nats)", 360)
    several, last = len(a.courses) > 1, max(course.last for course in a.courses)
    left = [step for one in a.courses for step in (*(p.left for p in one.plateaus), one.below) if step]
    low = max(1, min(left, default=last) // 4)
    for course, colour in zip(a.courses, palette.lines(len(a.courses)), strict=True):
        loss = loss_of(a.history, course.answer, alone=len(a.run.task.levels) == 1)
        assert loss is not None
        figure.add_scatter(
            x=loss.index, y=loss, name=course.answer, mode="lines", line={"color": colour}
        )  # fmt: skip
        for plateau in course.plateaus:
            figure.add_scatter(
                x=[max(plateau.first, low), plateau.last], y=[plateau.level] * 2, mode="lines",
                line={"color": colour, "width": 12}, opacity=0.35, showlegend=False, hoverinfo="text",
                text=f"{course.answer} {plateau.within(course.last)}",
            )  # fmt: skip
    _levels(figure, a, right=1.0)
    figure.update_xaxes(type="log", range=np.log10([low, 1.02 * last]).tolist())
    figure.update_yaxes(type="log", range=np.log10([LEARNED / 2, 1.5 * _highest(a)]).tolist())
    return figure.update_layout(legend=legend_above(), showlegend=several)


def _highest(a: Analysis) -> float:
    """The highest of the levels of the task and of the losses at plateaus (nats)."""
    levels = [nats for of_answer in a.run.task.levels.values() for nats in of_answer.values()]
    return max([*levels, *(plateau.level for one in a.courses for plateau in one.plateaus)])


def learning(a: Analysis) -> go.Figure:
    """Train and test accuracy over training in few points, with the phases by name: what a report opens
    with."""
    figure = new_figure("step (optimiser updates)", "accuracy (share right)", 400)
    for column, name, colour, dash in _learned(a):
        evaluated = a.history.dropna(subset=[column])
        few = evaluated.iloc[_few(evaluated[column].to_numpy())]
        line = {"color": colour, "width": 2.5, "dash": dash}
        figure.add_scatter(x=few["step"], y=few[column], name=name, mode="lines", line=line)
    figure.update_yaxes(range=[-0.02, 1.04]).update_xaxes(range=_whole_run(a))
    return over_training(a, figure)


def _learned(a: Analysis) -> list[tuple[str, str, str, str]]:
    """The columns of the history that say what was learned: each with its words, its colour and its dash."""
    right = "exact" if "test_exact" in a.history else "accuracy"
    if a.examples.fresh:
        return [(f"test_{right}", "evaluation sample", TEST, "solid")]
    if a.noisy:
        return [
            ("train_accuracy", "trained on: the label", TRAIN, "solid"),
            ("train_clean_accuracy", "trained on: the right answer", TRAIN, "dash"),
            ("test_clean_accuracy", "not trained on (test): the right answer", TEST, "solid"),
        ]
    words = ("trained on", "not trained on (test)")
    return [(f"train_{right}", words[0], TRAIN, "solid"), (f"test_{right}", words[1], TEST, "solid")]


_MOST_POINTS = 400
"""Points of a line that stands in the page as it is."""


def _few(values: NDArray[Any]) -> list[int]:
    """Where to draw of a long line its first, lowest and highest value of each stretch."""
    stretches = np.array_split(np.arange(len(values)), max(1, min(len(values), _MOST_POINTS // 2)))
    kept = {int(i) for s in stretches for i in (s[0], s[values[s].argmin()], s[values[s].argmax()])}
    return sorted({*kept, len(values) - 1} if len(values) else kept)


def _whole_run(a: Analysis) -> list[float]:
    first, last = float(a.history["step"].min()), float(a.history["step"].max())
    return [first, last + 0.01 * (last - first)]


def _curves(a: Analysis, metric: str, label: str) -> go.Figure:
    figure = new_figure("step (optimiser updates)", label, 320)
    for part in ("train", "test"):
        _add_evaluations(figure, a, f"{part}_{metric}", part, palette.OF_PART[part])
    snapshots = a.history[a.history["step"].isin(a.run.steps)].dropna(subset=[f"test_{metric}"])
    x, y, ticks = snapshots["step"], snapshots[f"test_{metric}"], {"symbol": "line-ns-open", "size": 9}
    figure.add_scatter(x=x, y=y, name="snapshots", mode="markers", marker={"color": TEST, **ticks})
    return over_training(a, figure)


def _add_evaluations(
    figure: go.Figure, a: Analysis, column: str, name: str, colour: str, dash: str = "solid"
) -> None:
    """A line through a column of the history, where it was evaluated."""
    evaluated, line = a.history.dropna(subset=[column]), {"color": colour, "dash": dash}
    figure.add_scatter(x=evaluated["step"], y=evaluated[column], name=name, mode="lines", line=line)


def over_training(a: Analysis, figure: go.Figure, names: bool = True) -> go.Figure:
    """Shades for the phases, with their names and steps in the legend unless that is small, a line at the
    analysed step, and the legend above."""
    for phase in a.phases.spans:
        colour, opacity = palette.PHASES[phase.name], palette.PHASE_SHADE
        named = {"name": f"{phase.name} {phase.start:,}–{phase.end:,}", "showlegend": names}
        shade = {"fillcolor": colour, "opacity": opacity, "line_width": 0, "layer": "below"}
        figure.add_vrect(phase.start, phase.end, **shade, **named)
    figure.add_vline(x=a.step, line={"color": KEY, "width": 1, "dash": "dot"})
    return figure.update_layout(legend=legend_above())


def legend_above() -> dict[str, Any]:
    """A legend above the picture, which makes room for as many rows as it takes."""
    return {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"}


def answers_over_training(a: Analysis, metric: str, label: str) -> go.Figure:
    """Test loss or accuracy of each answer over training; losses on a log axis, with the levels of the
    task."""
    figure = new_figure("step (optimiser updates)", label, 320)
    colours = dict(zip(a.view.answers, palette.lines(len(a.view.answers)), strict=True))
    columns = {f"test_{metric}.{answer}": answer for answer in colours}
    for column in a.history.columns.intersection([*columns]):
        _add_evaluations(figure, a, column, columns[column], colours[columns[column]])
    if metric == "loss":
        _levels(figure, a)
        figure.update_yaxes(type="log")
    return over_training(a, figure)


def by_factor(a: Analysis, name: str) -> go.Figure:
    """The share of right examples for each class of a factor, with the interval that their number allows; of
    few classes how many examples these are stands below, of more where the mouse is."""
    of_class = a.by_factor(name)
    shares, counts = list(of_class.values()), {label: f"n = {x.n:,}" for label, x in of_class.items()}
    few = sum(1 + max(len(label), len(count)) for label, count in counts.items()) <= _MOST_LEVEL
    figure = new_figure(name, "share of examples right", 260)
    figure.add_bar(
        x=[f"{label}<br>{count}" if few else label for label, count in counts.items()],
        y=[share.right for share in shares], marker_color=PLAIN,
        customdata=[f"{name} {label}: {share.right:.4f} of {share.n:,}" for label, share in of_class.items()],
        hovertemplate="%{customdata}<extra></extra>",
        error_y={
            "symmetric": False, "thickness": 1,
            "array": [share.high - share.right for share in shares],
            "arrayminus": [share.right - share.low for share in shares],
        },
    )  # fmt: skip
    level = {"tickangle": 0} if few else {}
    return figure.update_yaxes(range=[0, 1.05]).update_xaxes(type="category", **level)


def attention(a: Analysis, layer: int | str) -> go.Figure:
    """How much each head of a layer attends to each position that it can attend to where an answer is read,
    as a mean."""
    of = dict(zip(a.view.layers_of(a.view.attentions), a.view.attentions, strict=True))[layer]
    keys = list(a.view.places(of.name("hook_k")))
    values = a.measured("attention.mean").sel(layer=layer).isel(pos=keys)
    heads = [f"head {head}" for head in values["head"].values]
    if "answer" in values.dims:
        heads = [f"{answer}, {head}" for answer in values["answer"].values for head in heads]
    return _attention(values, heads, _words(values["pos"]))


def encoder_attention(a: Analysis, layer: int | str) -> go.Figure:
    """How much each position attends to each in a layer of a stack that reads no answer, as a mean, the
    positions of each head below one another."""
    values = a.measured("attention.encoder").sel(layer=layer)
    rows = [f"{word}, head {head}" for head in values["head"].values for word in _words(values["query"])]
    return _attention(values, rows, _words(values["key"]))


def _attention(values: Any, rows: Sequence[str], columns: Sequence[str]) -> go.Figure:
    shares = torch.from_numpy(values.values.reshape(len(rows), len(columns)))
    figure = heatmap(shares, "position", "", "attention (share)", (0.0, 1.0), (columns, rows))
    return figure.update_layout(height=max(330, 90 + 16 * len(rows)))


def _words(positions: Any) -> list[str]:
    """The words at positions, with their numbers where some have the same: columns of one name would be
    one."""
    labels = [str(label) for label in positions.values]
    words = [label.partition(": ")[2] for label in labels]
    return words if len(set(words)) == len(words) else labels


def heatmap(
    values: Float[Tensor, "y x"], x: str, y: str, unit: str,
    limits: tuple[float, float] | None = None, names: tuple[Sequence[str], Sequence[str]] | None = None,
) -> go.Figure:  # fmt: skip
    """A heatmap in int8: 255 levels between `limits`; where none are given from 0, or symmetrically around it
    where some value is negative. `names` of the columns and rows."""
    largest = max(float(values.abs().max()), 1e-12)
    low, high = limits or (-largest if float(values.min()) < 0 else 0.0, largest)
    levels = ((values - low) / (high - low) * 254 - 127).round().clamp(-127, 127).to(torch.int8).numpy()
    colours = palette.DIVERGING if low == -high else palette.SEQUENTIAL
    figure = new_figure(x, y, 330)
    figure.add_heatmap(
        z=levels, zmin=-127, zmax=127, colorscale=list(colours),
        colorbar={
            **colorbar(unit), "tickvals": np.linspace(-127, 127, 5).tolist(),
            "ticktext": [f"{tick:.3g}".replace("-", "−") for tick in np.linspace(low, high, 5)],
        },
        hovertemplate=f"{y} %{{y}}, {x} %{{x}}<extra></extra>",
    )  # fmt: skip
    return named(figure.update_yaxes(autorange="reversed"), names)


def of_squares(figure: go.Figure) -> go.Figure:
    """A heatmap of which every cell is as wide as it is high, the bar of its colours above it: beside it the
    bar would take a third of a narrow panel."""
    place = {"orientation": "h", "y": 1.02, "yanchor": "bottom", "ypad": 6, "thickness": 8}
    figure.update_xaxes(constrain="domain").update_yaxes(constrain="domain", scaleanchor="x")
    return figure.update_traces(colorbar={**place, "title": {"side": "top"}})


def numbered_heatmap(
    values: NDArray[Any], x: str, unit: str, columns: Sequence[str], rows: Sequence[str], most: int = 600
) -> go.Figure:
    """Shares as a heatmap from 0 to 1, a row of it for each of many, with their numbers written in up to so
    many cells; NaN where there is none."""
    shown = torch.from_numpy(np.nan_to_num(values))
    figure = heatmap(shown, x, "", unit, (0.0, 1.0), (columns, rows))
    if values.size <= most:
        text = [["–" if np.isnan(value) else f"{value:.2f}" for value in row] for row in values]
        said = f"%{{y}}, {x} %{{x}}: %{{text}}<extra></extra>"
        figure.update_traces(text=text, texttemplate="%{text}", textfont={"size": 11}, hovertemplate=said)
    return figure.update_layout(height=max(190, 90 + 20 * len(rows))).update_yaxes(automargin=True)


def colorbar(title: str) -> dict[str, Any]:
    """The bar beside a heatmap that says what its colours mean."""
    return {"title": {"text": title, "side": "right"}, "thickness": 10, "len": 1}


def named(figure: go.Figure, names: tuple[Sequence[str], Sequence[str]] | None) -> go.Figure:
    """A heatmap with names in place of the numbers of its columns and rows, where they are others."""
    for axis, names_of_axis in zip("xy", names or (), strict=False):
        if list(names_of_axis) != [str(i) for i in range(len(names_of_axis))]:
            figure.update_traces({axis: list(names_of_axis)})
            figure.update_layout({f"{axis}axis": {"type": "category"}})
    return figure
