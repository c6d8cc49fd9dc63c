"""Runs grouped by keys of their configuration, in words and in pictures: what each group did, by which step
it had learned, and which groups differ."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ..replay import NAMED_BY_LIU, Cell, Kind, RunsBy, Survival
from . import palette
from .words import number

if TYPE_CHECKING:
    import plotly.graph_objects as go

_MOST_COLOURS = 8
"""Groups that can be told apart by their colours."""
_MOST_PANELS = 9
_MOST_ACROSS = 8
"""Groups side by side with room for words in each."""
MOST_LEVELS = 24
"""Values of a key that a phase diagram has room for."""
MOST_TESTS = 40
"""Tests in the table of a page, which are those of the smallest p."""
_SPAN = 10.0
"""Factor between the largest and the smallest value from which an axis is logarithmic."""
_LEVEL = 0.05
_ALPHA = 0.4
"""How dense the colour of a kind is behind words."""


# In words


def spoken(by: RunsBy) -> list[str]:
    """What the keys are called: their last part, where that tells them from one another."""
    short = [key.rpartition(".")[2].replace("_", " ") for key in by.keys]
    return short if len(set(short)) == len(short) else list(by.keys)


def written(value: Any) -> str:
    """A value of a key."""
    if value is None:
        return "not set"
    if isinstance(value, float):
        return f"{value:g}"
    return value if isinstance(value, str) else json.dumps(value)


def _named(by: RunsBy, values: Sequence[Any], between: str = ", ") -> str:
    """A group by the values of its keys: "weight decay 1, fraction 0.3"."""
    return between.join(f"{name} {written(x)}" for name, x in zip(spoken(by), values, strict=True))


def _did(kind: Kind, count: int) -> str:
    """What so many runs did: "4 grok", "1 memorises only"."""
    verb, _, rest = kind.partition(" ")
    if kind == "not known":
        return f"of {count} it is not known"
    return f"{count} {verb if count == 1 else verb.removesuffix('s')} {rest}".rstrip()


def did(cell: Cell, last: str = ", ") -> str:
    """What the runs of a group did: "all 4 grok", "3 grok, 1 memorises only"."""
    *others, final = [_did(kind, len(names)) for kind, names in cell.kinds.items()]
    words = last.join([", ".join(others), final]) if others else final
    alike = len(cell.kinds) == 1 and len(cell.runs) > 1 and "not known" not in cell.kinds
    return f"all {words}" if alike else words


def finding(by: RunsBy) -> str:
    """One sentence: the group of which most learned their test examples, in the fewest steps, and of those of
    which fewest did the one whose keys are most like that."""
    first = min(by.cells, key=_from_best)
    if len(by.cells) > 1 and not any(cell.test.learned for cell in by.cells):
        return _none_learned(by)
    said = f"With {_named(by, first.values, ' and ')}{_outcome(first)}"
    if len(by.cells) == 1:
        return f"{said}."
    worst = max(map(_from_best, by.cells))
    last = max(
        (cell for cell in by.cells if cell is not first and _from_best(cell) == worst),
        key=lambda cell: sum(x == y for x, y in zip(cell.values, first.values, strict=True)),
    )
    names = spoken(by)
    apart = [
        f"{name} {written(x)}" if len(names) > 1 else written(x)
        for name, x, other in zip(names, last.values, first.values, strict=True)
        if x != other
    ]
    return f"{said}; with {' and '.join(apart)}{_outcome(last)}."


def _none_learned(by: RunsBy) -> str:
    counts = {kind: sum(len(cell.kinds.get(kind, ())) for cell in by.cells) for kind in by.kinds}
    followed = max((cell.test.followed or 0 for cell in by.cells), default=0)
    what = ", ".join(_did(kind, count) for kind, count in counts.items())
    groups = f"{sum(counts.values())} runs in {len(by.cells)} groups"
    return f"None of {groups} learned the test examples by step {followed:,}: {what}."


def _from_best(cell: Cell) -> tuple[float, float]:
    share = cell.test.learned / cell.test.runs if cell.test.runs else 0.0
    return -share, math.inf if cell.test.median is None else cell.test.median


def _outcome(cell: Cell) -> str:
    test, what = cell.test, did(cell, " and ")
    what = f" {what}" if what.startswith("all") else f", {what}"  # no number behind a number
    if test.median is not None:
        return f"{what}, median {test.median:,.0f} steps"
    if not test.runs:
        return what
    many = f"{test.learned} of {test.runs}" if test.learned else f"none of {test.runs}"
    return f"{what}, {many} learned by step {test.followed:,}"


def interval(of: Survival) -> str:
    """The 95 % interval of a median."""
    if of.median is None:
        return "–" if of.median_low is None else f"from {of.median_low:,}"
    low, high = ("" if end is None else f"{end:,}" for end in (of.median_low, of.median_high))
    return f"{low}–{high}" if low and high else f"from {low}" if low else f"up to {high}" if high else "–"


def rows(by: RunsBy) -> tuple[list[str], list[list[str]]]:
    """The groups: their keys, what their runs did, how many learned, and by which step."""
    header = [*spoken(by), "what they did", "learned", "median", "95\N{NO-BREAK SPACE}% interval"]
    cells = [
        [
            *map(written, cell.values),
            did(cell),
            f"{cell.test.learned} of {cell.test.runs}",
            "–" if cell.test.median is None else f"{cell.test.median:,.0f}",
            interval(cell.test),
        ]
        for cell in by.cells
    ]
    return header, cells


def of_training(by: RunsBy) -> tuple[list[str], list[list[str]]]:
    """The same of the training examples."""
    header = [*spoken(by), "learned", "median", "95\N{NO-BREAK SPACE}% interval"]
    return header, [
        [
            *map(written, cell.values),
            f"{cell.train.learned} of {cell.train.runs}",
            "–" if cell.train.median is None else f"{cell.train.median:,.0f}",
            interval(cell.train),
        ]
        for cell in by.cells
    ]


def tested(by: RunsBy) -> str:
    """How many pairs of groups were tested, and how many of them differ; "" where there is one group."""
    if not by.tests:
        return ""
    made = [each for each in by.tests if each.adjusted is not None]
    few = sum(each.test.by == "too few runs" for each in by.tests)
    none = sum(each.test.by == "none learned" for each in by.tests)
    why = [
        f"{few} of them {'has' if few == 1 else 'have'} too few runs for any outcome to be told from chance"
        if few
        else "",
        f"in {none} no run of either learned" if none else "",
    ]
    reasons = "; ".join(filter(None, why))
    pairs = f"{len(by.tests)} pair{'s' * (len(by.tests) > 1)} of groups"
    if not made:
        return f"No log-rank test of {pairs}: {reasons}."
    differ = sum((each.adjusted or 0.0) < _LEVEL for each in made)
    said = f"Log-rank test of {len(made)} of {pairs}: {differ} differ{'s' * (differ == 1)}"
    also = f" ({reasons})" if reasons else ""
    return f"{said} at 5 % after Holm's correction for {len(made)} comparison{'s' * (len(made) > 1)}{also}."


def pairs(by: RunsBy, most: int | None) -> tuple[list[str], list[list[str]]]:
    """The tests, smallest p first; of many so many."""
    order = sorted(by.tests, key=lambda each: 2.0 if each.test.p is None else each.test.p)
    cells = [
        [
            _named(by, each.one),
            _named(by, each.other),
            "–" if each.test.chi2 is None else number(each.test.chi2),
            each.test.by if each.test.p is None else _p(each.test.p),
            "–" if each.adjusted is None else _p(each.adjusted),
            each.test.by if each.test.p is not None else "–",
        ]
        for each in order[:most]
    ]
    return ["group", "against", "chi-square", "p", "p, adjusted", "p by"], cells


def _p(value: float) -> str:
    return "< 0.0001" if value < 1e-4 else f"{value:.2g}"


# In pictures


def diagram(by: RunsBy) -> go.Figure | None:
    """The phase diagram: a field for each group, in the colours of what its runs did, by their shares; in it
    how many did the commonest, and the median of their steps. Of more values of a key than there is room for
    a dot for each run; None where that would be a line of dots."""
    if max(map(len, by.levels)) > MOST_LEVELS:
        return _dots(by) if len(by.keys) > 1 else None
    import plotly.graph_objects as go

    across, up = by.levels[0], by.levels[1] if len(by.keys) > 1 else [None]
    figure, named = go.Figure(), set[str]()
    shapes, notes = list[dict[str, Any]](), list[dict[str, Any]]()
    for cell in by.cells:
        x = across.index(cell.values[0])
        y = up.index(cell.values[1]) if len(by.keys) > 1 else 0
        left = x - 0.46
        for kind in [kind for kind in palette.KINDS if kind in cell.kinds]:
            names = cell.kinds[kind]
            right = left + 0.92 * len(names) / len(cell.runs)
            shapes.append(
                {
                    "type": "rect", "x0": left, "x1": right, "y0": y - 0.44, "y1": y + 0.44,
                    "fillcolor": palette.KINDS[kind], "opacity": _ALPHA, "line": {"width": 0},
                    "name": _in_legend(kind), "showlegend": kind not in named,
                }
            )  # fmt: skip
            named.add(kind)
            left = right
        if len(across) <= _MOST_ACROSS:
            most = len(next(iter(cell.kinds.values())))
            lines = [f"{most}/{len(cell.runs)}"]
            if cell.test.median is not None:
                lines.append(f"{cell.test.median:,.0f}")
            for line, above in zip(lines, (0.04, -0.3) if len(lines) > 1 else (-0.13,), strict=True):
                notes.append({"x": x, "y": y + above, "text": line, "showarrow": False})
    figure.add_scatter(x=[0], y=[0], mode="none", showlegend=False)
    names = spoken(by)
    return figure.update_layout(
        template=None, height=80 + 56 * len(up), shapes=shapes, annotations=notes,
        xaxis=_of_levels(names[0], across) | {"showgrid": False},
        yaxis=_of_levels(names[1], up) if len(by.keys) > 1 else {"visible": False, "range": [-0.5, 0.5]},
    )  # fmt: skip


def _in_legend(kind: str) -> str:
    theirs = NAMED_BY_LIU.get(kind)  # type: ignore[call-overload]
    return f"{kind} ({theirs})" if theirs else kind


def _of_levels(name: str, levels: Sequence[Any]) -> dict[str, Any]:
    """An axis on which each value has its place."""
    places = [float(i) for i in range(len(levels))]
    if len(levels) > 12:
        every = -(-len(levels) // 12)
        places = places[::every]
    said = [written(levels[int(place)]) for place in places]
    return {
        "title": {"text": name}, "tickvals": places, "ticktext": said, "range": [-0.5, len(levels) - 0.5],
    }  # fmt: skip


def _dots(by: RunsBy) -> go.Figure:
    import plotly.graph_objects as go

    figure, names = go.Figure(), spoken(by)
    axes = [_Scale(level) for level in by.levels]
    for kind in [kind for kind in palette.KINDS if kind in by.kinds]:
        points = [
            (*map(_Scale.place, axes, cell.values), name)
            for cell in by.cells
            for name in cell.kinds.get(kind, ())
        ]
        x, y, said = zip(*points, strict=True)
        figure.add_scatter(
            x=list(x), y=list(y), name=_in_legend(kind), mode="markers", text=list(said),
            marker={"size": 9, "color": palette.KINDS[kind]},
        )  # fmt: skip
    return figure.update_layout(
        template=None, height=380, xaxis=axes[0].axis(names[0]), yaxis=axes[1].axis(names[1])
    )


class _Scale:
    """Where the values of a key lie on an axis: logarithmic where they are positive and span decades, linear
    where they do not; each at its place where there is a zero among such, or what is no number."""

    def __init__(self, levels: Sequence[Any]) -> None:
        self.levels = list(levels)
        numbers = [x for x in levels if isinstance(x, int | float) and not isinstance(x, bool)]
        sizes = [abs(x) for x in numbers if x]
        wide = bool(sizes) and max(sizes) >= _SPAN * min(sizes)
        plain = len(numbers) == len(levels)
        self.log = plain and wide and min(numbers) > 0
        self.by_place = not plain or (wide and not self.log)

    def place(self, value: Any) -> float:
        """On the axis."""
        return float(self.levels.index(value) if self.by_place else value)

    def aside(self, value: Any, share: float) -> float:
        """A little beside it: by that share of the axis."""
        at, ends = self.place(value), [self.place(self.levels[0]), self.place(self.levels[-1])]
        if self.log:
            return float(at * (ends[1] / ends[0]) ** share)
        return at + share * ((ends[1] - ends[0]) or 1.0)

    def axis(self, name: str) -> dict[str, Any]:
        """As plotly takes it."""
        if self.by_place:
            return _of_levels(name, self.levels)
        return {"title": {"text": name}, "type": "log" if self.log else "linear"}


def curves(by: RunsBy) -> list[tuple[str, go.Figure]]:
    """Kaplan-Meier curves, with what to call each figure: all groups in one, where their colours can be told
    apart; else one for each value of a key; none where these are too many too."""
    if len(by.cells) <= _MOST_COLOURS:
        labels = [_named(by, cell.values) for cell in by.cells]
        return [("", _kaplan_meier(list(zip(labels, by.cells, strict=True))))]
    if len(by.keys) == 1:
        return []
    of, within = (0, 1) if len(by.levels[0]) <= len(by.levels[1]) else (1, 0)
    if len(by.levels[of]) > _MOST_PANELS or len(by.levels[within]) > _MOST_COLOURS:
        return []
    names = spoken(by)
    return [
        (
            f"{names[of]} {written(level)}",
            _kaplan_meier(
                [
                    (f"{names[within]} {written(cell.values[within])}", cell)
                    for cell in by.cells
                    if cell.values[of] == level
                ],
                [
                    by.levels[within].index(cell.values[within])
                    for cell in by.cells
                    if cell.values[of] == level
                ],
            ),
        )
        for level in by.levels[of]
    ]


def _kaplan_meier(groups: Sequence[tuple[str, Cell]], colour_of: Sequence[int] | None = None) -> go.Figure:
    """The share of runs that have learned, of each group, with its interval; a stroke where a run ended."""
    import plotly.graph_objects as go

    figure = go.Figure()
    places = list(range(len(groups))) if colour_of is None else list(colour_of)
    colours = palette.lines(max(max(places) + 1, _MOST_COLOURS))
    for (label, cell), at in zip(groups, places, strict=True):
        of, colour = cell.test, colours[at]
        if of.followed is None:
            continue
        steps = [0, *of.steps, of.followed]
        for span, low, high in _known(of):
            figure.add_scatter(
                x=[*span, *span[::-1]], y=[*low, *high[::-1]], mode="lines", fill="toself", fillcolor=colour,
                opacity=0.13, line={"width": 0}, showlegend=False, hoverinfo="skip",
            )  # fmt: skip
        share = [0.0, *(1 - x for x in of.share)]
        x, y = _stairs(steps, share)
        figure.add_scatter(
            x=x, y=y, name=f"{label} ({of.learned} of {of.runs})", mode="lines",
            line={"color": colour, "width": 2},
        )  # fmt: skip
        ended = sorted(set(of.ended))
        at_end = [
            max((s for t, s in zip(steps, share, strict=False) if t <= end), default=0.0) for end in ended
        ]
        strokes = [(end, [s - 0.03, s + 0.03, None]) for end, s in zip(ended, at_end, strict=True)]
        figure.add_scatter(
            x=[end for end, ys in strokes for _ in ys], y=[y for _, ys in strokes for y in ys], mode="lines",
            line={"color": colour, "width": 2}, showlegend=False,
        )  # fmt: skip
    return figure.update_layout(
        template=None, height=300,
        xaxis={"title": {"text": "step (optimiser updates)"}, "rangemode": "tozero"},
        yaxis={"title": {"text": "share of runs that have learned"}, "range": [-0.05, 1.05]},
    )  # fmt: skip


def _stairs(steps: Sequence[int], values: Sequence[float]) -> tuple[list[int], list[float]]:
    """Of values from each step up to the next, the last of which is where they end: the corners."""
    x = [step for pair in itertools.pairwise(steps) for step in pair]
    return x, [value for value in values for _ in (0, 1)]


def _known(of: Survival) -> Iterator[tuple[list[int], list[float], list[float]]]:
    """The stretches over which the share that has learned has an interval: steps, lower and upper end."""
    ends = [*of.steps[1:], *([of.followed] if of.steps and of.followed is not None else [])]
    for start, end, low, high in zip(of.steps, ends, of.low, of.high, strict=True):
        if low is not None and high is not None and end > start:
            yield [start, end], [1 - high] * 2, [1 - low] * 2


def against(by: RunsBy, of: int) -> go.Figure:
    """Steps to 99 % of the test examples over one of the keys: a dot for each run, a line through the medians
    of those with the same value of the other key; a triangle for how many had not learned where they ended.
    """
    import plotly.graph_objects as go

    figure, scale = go.Figure(), _Scale(by.levels[of])
    other = 1 - of if len(by.keys) > 1 else None
    levels = by.levels[other] if other is not None else [None]
    apart = 1 < len(levels) <= _MOST_COLOURS
    colours = palette.lines(len(levels)) if apart else [palette.TEST]
    parts = (
        [[cell for cell in by.cells if cell.values[other] == x] for x in levels]
        if apart and other is not None
        else [by.cells]
    )
    notes: list[dict[str, Any]] = []
    shown: list[float] = []
    wide = _wide([t for cell in by.cells for t in (*cell.test.steps, *cell.test.ended) if t > 0])
    for i, (part, colour) in enumerate(zip(parts, colours, strict=True)):
        aside = 0.018 * (i - (len(parts) - 1) / 2)
        label = f"{spoken(by)[other]} {written(levels[i])}" if apart and other is not None else "runs"
        points = [
            (scale.aside(cell.values[of], aside), each.test.by, f"{each.name}: {each.test.interval}")
            for cell in part
            for each in cell.runs
            if each.test.by is not None and (each.test.by > 0 or not wide)
        ]
        figure.add_scatter(
            x=[p[0] for p in points], y=[p[1] for p in points], text=[p[2] for p in points], name=label,
            mode="markers", marker={"size": 6, "color": colour}, showlegend=False,
        )  # fmt: skip
        shown += [p[1] for p in points]
        medians = [
            (scale.aside(cell.values[of], aside), cell.test.median)
            for cell in part
            if cell.test.median is not None
        ]
        if apart or (other is None and not by.one_run_each):
            figure.add_scatter(
                x=[x for x, _ in medians], y=[y for _, y in medians], mode="lines",
                name=f"{label}, median" if apart else "median", line={"color": colour, "width": 2},
            )  # fmt: skip
    ended: dict[tuple[float, int], int] = {}
    for cell in by.cells:
        for end in cell.test.ended:
            place = scale.place(cell.values[of]), end
            ended[place] = ended.get(place, 0) + 1
    for (x, end), count in ended.items():
        shown.append(end)
        at = {"x": math.log10(x) if scale.log else x, "y": math.log10(end) if wide and end else end}
        notes.append({**at, "text": "△" if count == 1 else f"△{count}", "showarrow": False})
    low, high = min(shown, default=1.0), max(shown, default=10.0)
    ends = [math.log10(max(low, 1)), math.log10(max(high, 1))] if wide else [0.0, high]
    room = 0.07 * (ends[1] - ends[0] or 1.0)
    return figure.update_layout(
        template=None, height=340, annotations=notes,
        xaxis=_with_room(scale, spoken(by)[of]),
        yaxis={
            "title": {"text": "steps to 99 % of the test examples"}, "type": "log" if wide else "linear",
            "range": [ends[0] - room, ends[1] + room],
        },
    )  # fmt: skip


def _with_room(scale: _Scale, name: str) -> dict[str, Any]:
    """The axis with its range, as dots may be few, and triangles are no dots."""
    axis = scale.axis(name)
    if "range" not in axis:
        ends = [scale.aside(scale.levels[0], -0.07), scale.aside(scale.levels[-1], 0.07)]
        axis["range"] = [math.log10(end) for end in ends] if scale.log else ends
    if len(scale.levels) <= MOST_LEVELS // 2 and not scale.by_place:
        axis |= {
            "tickvals": [scale.place(x) for x in scale.levels],
            "ticktext": [written(x) for x in scale.levels],
        }
    return axis


def _wide(values: Sequence[int]) -> bool:
    return bool(values) and max(values) >= _SPAN * min(values)
