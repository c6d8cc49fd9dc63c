"""Runs compared -> tables, figures, one offline page: when each learned, and what.

Few runs have a colour each. More than eight are drawn together, a band for those that differ in their seeds
alone: 30 colours cannot be told apart. Every figure stands in the page as it is, without plotly.js.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..asked import KEYS, PATH, asks, asks_all, got_instead
from ..errors import NotARun, UsageError
from ..replay import Circuit, Circuits, Compared, Group, RunsBy, RunsCompared, circuits, judged_by
from ..runs import Run
from ..shown import html_table
from ..standing import in_a_word
from ..training import OTHER
from . import grouped, palette
from .claims import Verdict
from .drawing import drawn
from .learned import Learned, all_learned
from .offline import Page, asset, offline_page
from .palette import PLAIN, TEST, TRAIN
from .words import several

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go
    from numpy.typing import NDArray

_MOST_POINTS = 120
"""Points of a band that are drawn; and of a curve, twice: of longer ones the lowest and the highest of each
stretch."""
_MOST_COLOURS = 8
"""Runs that have a colour each; more are drawn together."""
_MOST_NAMES = 4
"""Names of runs in a cell; of more it is said how many there are."""
_MOST_ROWS = 60
"""Runs with a row each in a figure, where another figure has them by groups."""
_LONGEST = 24
"""Letters of a name beside a figure."""


@asks_all("comparison")
class Comparison(Page):
    """Several runs side by side: as a table, as figures, as a page, as plain values, and shown in a notebook.

    Attributes:
        compared: what the recorded histories say of each run and of those that belong together.
        again: the runs that were given more than once, and are here once.
        by: the same runs grouped by keys of their configuration, where that was asked for.
    """

    def __init__(
        self,
        compared: RunsCompared,
        log_x: bool = False,
        again: Sequence[str] = (),
        by: Sequence[str] = (),
    ) -> None:
        self.compared = compared
        self.again = list(again)
        self.by = RunsBy(compared, by) if by else None
        self._log_x = log_x

    def __repr__(self) -> str:
        return f"<Comparison of {headline(self.compared)}>"

    @cached_property
    def learned(self) -> list[Learned]:
        """What each run has learned, by its last snapshot: measured when it is first asked for, and kept with
        the runs."""
        return all_learned([each.run for each in self.compared.runs])

    @cached_property
    def circuits(self) -> Circuits:
        """How alike the circuits are of runs that share their split, their initial weights, or neither: key
        frequencies, kind of algorithm and neurons of each frequency, held against chance.

        Raises:
            UsageError: the runs are of different tasks, whose frequencies are not the same.
        """
        runs = [
            (each, learned)
            for each, learned in zip(self.compared.runs, self.learned, strict=True)
            if each.name not in self.compared.copies
        ]
        if len(symbols := {each.run.task.symbol for each, _ in runs}) > 1:
            tasks = ", ".join(sorted(symbols))
            raise UsageError(
                f"circuits of different tasks ({tasks}) have no keys in common: give runs of one task"
            )
        return circuits(
            [
                Circuit(
                    each.name, each.settings.get("training.split_seed"), each.settings.get("seed"),
                    tuple(learned.keys or ()), learned.frequencies, learned.algorithm, learned.neurons,
                )
                for each, learned in runs
            ]
        )  # fmt: skip

    def _repr_html_(self) -> str:
        if self.by is not None:
            return html_table(grouped.finding(self.by), *grouped.rows(self.by))
        return html_table(headline(self.compared), *rows(self, brief=True))

    @property
    def table(self) -> pd.DataFrame:
        """One row for each run: what differs, steps to 99 % with their censoring, final values, spikes,
        whether its start helped."""
        return self.compared.table

    @cached_property
    def accuracy(self) -> go.Figure:
        """Accuracies against steps, train dashed, test solid: a colour for each run, or bands."""
        return _curves(self.compared, "accuracy", self._log_x)

    @cached_property
    def loss(self) -> go.Figure:
        """Losses against steps, likewise."""
        return _curves(self.compared, "loss", self._log_x)

    @cached_property
    def phase_diagram(self) -> go.Figure:
        """What the runs of each group did, where they are grouped by keys.

        Raises:
            UsageError: they are not, or by one key of more values than a diagram has room for.
        """
        figure = grouped.diagram(self._grouped)
        if figure is None:
            many = f"{len(self._grouped.cells)} values of {self._grouped.keys[0]}"
            raise UsageError(f"{many} are too many for a phase diagram; .steps_against has a figure of them")
        return figure

    @cached_property
    def kaplan_meier(self) -> dict[str, go.Figure]:
        """Share of the runs of each group that have learned their test examples, against steps: one figure,
        or of many groups one for each value of a key, by its words; none where these are too many too.

        Raises:
            UsageError: the runs are not grouped by keys.
        """
        return dict(grouped.curves(self._grouped))

    @cached_property
    def steps_against(self) -> dict[str, go.Figure]:
        """Steps to 99 % of the test examples against each of the keys that the runs are grouped by.

        Raises:
            UsageError: they are not grouped by keys.
        """
        by = self._grouped
        return {key: grouped.against(by, i) for i, key in enumerate(by.keys)}

    @property
    def _grouped(self) -> RunsBy:
        if self.by is None:
            raise UsageError(
                "these runs are not grouped: gi.compare(runs, by=['training.weight_decay']) does it"
            )
        return self.by

    def to_dict(self) -> dict[str, Any]:
        """The content of compare.json: plain numbers, strings, lists and dicts; None for what is not
        known."""
        found = self.compared.to_dict()
        runs = [
            {**run, "learned": learned.to_dict()}
            for run, learned in zip(found["runs"], self.learned, strict=True)
        ]
        said: dict[str, Any] = {"headline": headline(self.compared), "given_again": self.again}
        if self.by is not None:
            said["by"] = {"finding": grouped.finding(self.by), **self.by.to_dict()}
        return {**found, **said, "runs": runs}

    def to_html(self, folder: str | Path | None = None) -> str:
        """The page: self-contained, some 100 to 400 kB; it leads to no other."""
        return _page(self, self._log_x)


@asks("gi.compare", by=KEYS)
def compare(
    runs: Run | str | Path | Sequence[Run | str | Path],
    *others: Run | str | Path,
    by: str | Sequence[str] = (),
    log_x: bool = False,
) -> Comparison:
    """Runs of different tasks, fractions, seeds or starts side by side: when each learned, and what.

    Args:
        runs, others: runs, or their directories, one by one or as a list; a directory that holds several (as
            `sweep`, `train --seeds` and `train_many` make it), or several such directories, means all of
            them.
        by: a key of the configuration, or two, such as "training.weight_decay": runs that have the same
            values are a group, of which is told what they did, by which step they had learned, and whether
            it differs from the others.
        log_x: whether steps are drawn on a log axis at first; the page has a switch.

    Raises:
        UsageError: there are none, or (NotARun) a directory holds none; no run has a key of `by`, it names
            more than two, or a group would hold runs of different tasks.
        DamagedFile: a file does not match its recorded hash or count.
    """
    keys = [by] if isinstance(by, str) else list(by)
    is_list = isinstance(runs, Iterable) and not isinstance(runs, str | Mapping)
    first: Any = runs if is_list else [runs]
    several = [*first, *others]
    by_place: dict[Path, Run] = {}
    again: list[Path] = []
    for run in opened(several):
        if (place := run.path.resolve()) in by_place:
            again.append(place)
        by_place.setdefault(place, run)
    compared = RunsCompared(list(by_place.values()))
    names = dict(zip(by_place, (each.name for each in compared.runs), strict=True))
    return Comparison(compared, log_x, [names[place] for place in dict.fromkeys(again)], keys)


def opened(several: Sequence[Run | str | Path]) -> Iterator[Run]:
    """Every run, in the order given; those of one directory in the order of the numbers in their names."""
    for one in several:
        if not (isinstance(one, Run) or PATH.holds(one)):
            raise UsageError(f"gi.compare needs runs or their directories, got {got_instead(one)}")
        yield from [one] if isinstance(one, Run) else map(Run, _directories(Path(one)))


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


def headline(compared: RunsCompared) -> str:
    """How many runs there are and how many of them learned their test examples; in how many steps, and which
    stand out."""
    runs = compared.distinct
    count, learned = len(runs), [each for each in runs if each.test.by is not None]
    seen = "seen to learn the test examples to 99\N{NO-BREAK SPACE}%"
    if count == 1:
        said = f"One run, which was {'' if runs[0].test.seen else 'not '}{seen}"
    else:
        of = sum(each.test.seen for each in runs)
        said = f"{count} runs, of which {of} {'was' if of == 1 else 'were'} {seen}"
    if len(learned) < 2:
        return said
    if len(compared.groups) == 1 and len(compared.groups[0].names) == count:
        return f"{said}: {spread(compared.groups[0])}"
    first, last = (pick(learned, key=lambda each: each.test.by or 0) for pick in (min, max))
    return f"{said}: from {first.test.by:,} steps ({first.name}) to {last.test.by:,} ({last.name})"


def spread(group: Group) -> str:
    """The median of the steps to 99 % of the test examples, from where to where they go, and which runs
    stand out."""
    median = "no median, as too few got there" if group.test is None else f"median {group.test:,.0f} steps"
    if group.first is None or group.last is None:
        return median
    (first, low), (last, high) = group.first, group.last
    if group.learned_test == 1:
        return f"{median}; {first} by step {low:,}"
    ends = f"{median}, from {low:,} ({first}) to {high:,} ({last})"
    out = ", ".join(group.outliers)
    return f"{ends}; far from the others: {out}" if out else ends


def notes(comparison: Comparison) -> list[str]:
    """What a reader must know of the runs as they were given: which were given twice, which are copies."""
    said = [f"{name} was given more than once, and is here once." for name in comparison.again]
    for name, of in comparison.compared.copies.items():
        said.append(f"{name} is {of} again (same weights, or same configuration and seeds): counted once.")
    return said


def in_common(comparison: Comparison) -> list[str]:
    """What the runs have learned as a whole: how many key frequencies, whether any two have the same, by
    which algorithm."""
    compared = comparison.compared
    known = [
        learned
        for each, learned in zip(compared.runs, comparison.learned, strict=True)
        if each.name not in compared.copies
    ]
    said = []
    if of_keys := [tuple(one.keys) for one in known if one.keys]:
        counts, sets = sorted(map(len, of_keys)), len(set(of_keys))
        many = str(counts[0]) if counts[0] == counts[-1] else f"{counts[0]} to {counts[-1]}"
        same = f"{len(of_keys)} runs have {sets} different sets of {many} key frequencies"
        said.append(f"{same}." if len(of_keys) > 1 else f"One run has {many} key frequencies.")
    algorithms = [one.algorithm for one in known if one.algorithm]
    words = {"clock": ("a clock", "clocks"), "pizza": ("a pizza", "pizzas"), "neither": ("neither",) * 2}
    counts_of = [(kind, algorithms.count(kind)) for kind in words if kind in algorithms]
    if parts := [f"{count} {words[kind][count > 1]}" for kind, count in counts_of]:
        of = f"the {len(algorithms)} that stand on their key frequencies" if len(algorithms) > 1 else "one"
        said.append(f"Of {of}, by how they compute: {', '.join(parts)}.")
    return said


def claims(comparison: Comparison) -> list[tuple[str, dict[Verdict, list[str]]]]:
    """Every claim that is asked of one of the runs, with the names of the runs by verdict; of copies one."""
    found: dict[str, dict[Verdict, list[str]]] = {}
    compared = comparison.compared
    for each, learned in zip(compared.runs, comparison.learned, strict=True):
        for claim in learned.claims if each.name not in compared.copies else ():
            verdicts = found.setdefault(claim.claim, {"supported": [], "refuted": [], "not tested": []})
            verdicts[claim.verdict].append(each.name)
    return list(found.items())


def shared(compared: RunsCompared) -> list[tuple[str, str]]:
    """What is the same for all runs, and so in no column of `rows`."""
    columns = _columns(compared, brief=False)
    of_settings = [column for column in columns if column[0] in ("task", "fraction", "seed")]
    return [(name, values[0]) for name, values in of_settings if len(set(values)) == 1]


def rows(comparison: Comparison, brief: bool = False) -> tuple[list[str], list[list[str]]]:
    """The table in words: its header, and a row for each run; without what is the same everywhere. The brief
    one leaves out losses."""
    compared = comparison.compared
    same = {name for name, _ in shared(compared)}
    columns = [(name, values) for name, values in _columns(compared, brief) if name not in same]
    at = 1 + next(i for i, (name, _) in enumerate(columns) if name == "now")
    columns[at:at] = _of_learned(comparison.learned)
    header, cells = zip(*columns, strict=True)
    return list(header), [list(row) for row in zip(*cells, strict=True)]


def _of_learned(learned: Sequence[Learned]) -> Iterator[tuple[str, list[str]]]:
    """Columns of what each has learned; none of what is known of none."""
    if any(one.keys for one in learned):
        yield "key frequencies", [several(one.keys) if one.keys else "–" for one in learned]
    if any(one.algorithm for one in learned):
        yield "algorithm", [one.algorithm or "–" for one in learned]


def _columns(compared: RunsCompared, brief: bool) -> Iterator[tuple[str, list[str]]]:
    runs, of = compared.runs, compared.copies
    yield "run", [f"{one.name} (again {of[one.name]})" if one.name in of else one.name for one in runs]
    yield "task", [each.run.task.symbol for each in runs]
    for name, key in (("fraction", "training.fraction"), ("seed", "seed")):
        yield name, [_written(each.settings.get(key)) for each in runs]
    if any(each.start for each in runs):
        yield "start", [each.start or "scratch" for each in runs]
    yield "now", [in_a_word(each.standing.state) for each in runs]
    yield "train 99\N{NO-BREAK SPACE}%", [str(each.train) for each in runs]
    yield "test 99\N{NO-BREAK SPACE}%", [str(each.test) for each in runs]
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
    """The groups in words: their runs, how many learned their test examples, the median and the range of
    these, how many learned their training examples and their median, and which stand out."""
    lines = []
    for group in compared.groups:
        of = len(group.names)
        learned = [f"{count} of {of}" for count in (group.learned_train, group.learned_test)]
        medians = ["–" if median is None else f"{median:,.0f}" for median in (group.train, group.test)]
        reach = f"{group.first[1]:,} to {group.last[1]:,}" if group.first and group.last else "–"
        train, test = zip(learned, medians, strict=True)
        lines.append([named(group.names), *test, reach, *train, ", ".join(group.outliers) or "none"])
    return lines


def of_groups(compared: RunsCompared) -> list[str]:
    """How many of each group learned, and in how many steps; nothing of one that is all, of which the
    headline says it."""
    if len(compared.groups) == 1 and len(compared.groups[0].names) == len(compared.distinct):
        return []
    return [
        f"{named(group.names)}: {group.learned_test} of {len(group.names)} learned, {spread(group)}"
        for group in compared.groups
    ]


def named(names: Sequence[str]) -> str:
    """Runs by name, where they are few; else how many, from which to which."""
    if len(names) <= _MOST_NAMES:
        return ", ".join(names) or "none"
    return f"{len(names)} runs, {names[0]} to {names[-1]}"


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


def _short(names: Sequence[str]) -> list[str]:
    """Names that fit beside a figure, where they can be told apart so."""
    half = _LONGEST // 2
    short = [name if len(name) <= _LONGEST else f"{name[: half - 1]}…{name[-half:]}" for name in names]
    return short if len(set(short)) == len(names) else list(names)


def _labels(runs: Sequence[Compared]) -> list[str]:
    """What a legend calls each run: its name, and its task where they differ."""
    names, tasks = _short([each.name for each in runs]), [each.run.task.symbol for each in runs]
    if len(set(tasks)) == 1:
        return names
    return [f"{name}: {task}" for name, task in zip(names, tasks, strict=True)]


def _together(compared: RunsCompared) -> list[tuple[str, list[Compared]]]:
    """What is drawn in one colour: each run, or where these are too many, those that differ in their seeds
    alone; what is then still too much in one."""
    runs = compared.distinct
    if len(runs) <= _MOST_COLOURS:
        return [(label, [each]) for label, each in zip(_labels(runs), runs, strict=True)]
    of_name = {each.name: each for each in runs}
    sets = [[of_name.pop(name) for name in group.names] for group in compared.groups]
    alone = [[each] for each in of_name.values()]
    parts = [*sets, *alone]
    if len(parts) > _MOST_COLOURS:
        parts.sort(key=len, reverse=True)
        rest = [each for part in parts[_MOST_COLOURS - 1 :] for each in part]
        parts = [*parts[: _MOST_COLOURS - 1], rest]
    labels = [_of_part(part, compared, len({each.run.task.symbol for each in part}) > 1) for part in parts]
    return list(zip(labels, parts, strict=True))


def _of_part(part: Sequence[Compared], compared: RunsCompared, mixed: bool) -> str:
    if len(part) == 1:
        return _labels(part)[0]
    if mixed:
        return f"{len(part)} other runs"
    settings = [key for key in compared.differing if key != "training.split_seed"]
    said = [f"{key.rpartition('.')[2]} {_written(part[0].settings.get(key))}" for key in settings[:2]]
    return ", ".join([f"{len(part)} × {part[0].run.task.symbol}", *said])


def _evaluated(each: Compared, part: str, metric: str) -> tuple[NDArray[Any], NDArray[Any]]:
    """Steps and values of a curve."""
    history = each.run.dated_history
    column = judged_by(history, part) if metric == "accuracy" else f"{part}_{metric}"
    known = history.dropna(subset=[column])
    return known["step"].to_numpy(), known[column].to_numpy()


def _band(curves: Sequence[tuple[NDArray[Any], NDArray[Any]]]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Steps, and at each the lowest value, the quartiles and the highest one of several curves; one that has
    ended stays as it was."""
    import numpy as np

    steps = np.unique(np.concatenate([x for x, _ in curves]))
    if len(steps) > _MOST_POINTS:
        steps = steps[np.unique(np.linspace(0, len(steps) - 1, _MOST_POINTS).round().astype(int))]
    values = np.stack([np.interp(steps, x, y) for x, y in curves])
    return steps, np.quantile(values, [0, 0.25, 0.5, 0.75, 1], axis=0)


def _curves(compared: RunsCompared, metric: str, log_x: bool) -> go.Figure:
    import numpy as np
    import plotly.graph_objects as go

    figure, parts = go.Figure(), _together(compared)
    for (label, part), colour in zip(parts, palette.lines(len(parts)), strict=True):
        for of, dash in (("test", "solid"), ("train", "dash")):
            curves = [curve for each in part if len((curve := _evaluated(each, of, metric))[0])]
            if not curves:
                continue
            line = {"color": colour, "width": 1.8, "dash": dash}
            if len(part) == 1:
                x, y = _thinned(*curves[0])
            else:
                x, (lowest, low, y, high, highest) = _band(curves)
                if of == "test":
                    for bottom, top, opacity in ((lowest, highest, 0.12), (low, high, 0.25)):
                        figure.add_scatter(
                            x=[*x, *x[::-1]], y=[*top, *bottom[::-1]], mode="lines", fill="toself",
                            fillcolor=colour, opacity=opacity, line={"width": 0}, showlegend=False,
                            hoverinfo="skip",
                        )  # fmt: skip
            figure.add_scatter(
                x=x, y=y, name=label, legendgroup=label, showlegend=of == "test", mode="lines", line=line,
                opacity=1 if of == "test" else 0.7,
            )  # fmt: skip
    steps = {"title": {"text": "step (optimiser updates)"}, "type": "log" if log_x else "linear"}
    if metric == "accuracy":
        y_axis: dict[str, Any] = {"title": {"text": "accuracy (share right)"}, "range": [-0.03, 1.05]}
    else:
        kinds = {str(each.settings.get("training.loss")) for each in compared.runs}
        units = {OTHER.get(kind, ("loss (nats)", ""))[0] for kind in kinds}
        unit = units.pop() if len(units) == 1 else "loss (nats, or squared error)"
        y_axis = {"title": {"text": unit}, "type": "log"}
        figure.for_each_trace(lambda trace: trace.update(y=np.maximum(np.array(trace.y, float), 1e-12)))
    return figure.update_layout(template=None, height=360, xaxis=steps, yaxis=y_axis)


def _milestones(compared: RunsCompared) -> go.Figure:
    """Steps to 99 % of each run, train and test, from the fastest to the slowest; a sign where it ended
    before."""
    import plotly.graph_objects as go

    def when(each: Compared) -> tuple[bool, int]:
        return each.test.by is None, each.test.by or each.test.after or 0

    runs = sorted(compared.distinct, key=when)
    names, figure = _short([each.name for each in runs]), go.Figure()
    for i, each in enumerate(runs):
        ends = [t.after if t.by is None else t.by for t in (each.train, each.test) if t.state != "not known"]
        if len(ends) == 2:
            line = {"color": PLAIN, "width": 1.5, "dash": "dot" if each.test.by is None else "solid"}
            figure.add_scatter(x=ends, y=[i, i], mode="lines", line=line, showlegend=False)
        if each.test.state == "censored":
            figure.add_annotation(x=each.test.after, y=i, text="▷", xanchor="center", showarrow=False)
    for part, colour, size in (("train", TRAIN, 9), ("test", TEST, 9)):
        times = [(i, getattr(each, part)) for i, each in enumerate(runs)]
        seen = [(i, time) for i, time in times if time.by is not None]
        before = [(time.after, time.by, i) for i, time in seen if time.after is not None]
        for after, by, i in before:
            line = {"color": colour, "width": 3}
            figure.add_scatter(x=[after, by], y=[i, i], mode="lines", line=line, showlegend=False)
        figure.add_scatter(
            x=[time.by for _, time in seen], y=[i for i, _ in seen], name=f"{part} reaches 99 %",
            mode="markers", marker={"size": size, "color": colour},
            text=[f"{names[i]}: {part} {time.interval}" for i, time in seen],
        )  # fmt: skip
    places = [float(i) for i in range(len(runs))]
    return figure.update_layout(
        template=None, height=90 + 22 * len(runs),
        xaxis={"title": {"text": "step (optimiser updates)"}, "rangemode": "tozero"},
        yaxis={"range": [len(runs) - 0.4, -0.6], "tickvals": places, "ticktext": names},
    )  # fmt: skip


def _of_groups(by: RunsBy) -> dict[str, Any]:
    """What a page has of runs that are grouped by keys: a sentence, figures, tables and notes."""
    figure, curves = grouped.diagram(by), grouped.curves(by)
    return {
        "finding": grouped.finding(by),
        "names": grouped.spoken(by),
        "diagram": None if figure is None else drawn(figure),
        "curves": [(title, drawn(each)) for title, each in curves],
        "against": [(name, drawn(grouped.against(by, i))) for i, name in enumerate(grouped.spoken(by))],
        "notes": by.notes,
        "groups": len(by.cells),
        "few": max(map(len, by.levels)) <= _MOST_COLOURS,
        "rows": grouped.rows(by),
        "training": grouped.of_training(by),
        "tested": grouped.tested(by),
        "tests": grouped.pairs(by, grouped.MOST_TESTS),
        "more_tests": max(0, len(by.tests) - grouped.MOST_TESTS),
    }


_OF_RUNS = (
    "run", "test accuracy", "test 99\N{NO-BREAK SPACE}%", "train 99\N{NO-BREAK SPACE}%", "delay", "transfer",
    "now", "task", "fraction", "seed", "start", "algorithm", "key frequencies",
)  # fmt: skip
"""Columns of the first table, those first that matter most where a page is narrow; all others are in one that
is folded away."""
_SAID = {"fraction": "training fraction"}
"""What a page calls a column that a terminal has no room to name in full."""


def _columns_of(
    header: Sequence[str], cells: Sequence[Sequence[str]], wanted: Sequence[str]
) -> tuple[Sequence[str], list[list[str]]]:
    places = [list(header).index(name) for name in wanted]
    return [_SAID.get(name, name) for name in wanted], [[row[i] for i in places] for row in cells]


def _page(comparison: Comparison, log_x: bool) -> str:
    compared = comparison.compared
    header, cells = rows(comparison)
    said_of_groups = [] if comparison.by else of_groups(compared)[:_MOST_NAMES]
    one = len(compared.distinct) <= _MOST_COLOURS
    how = "Test solid, train dashed."
    if not one:
        how += (
            " Of runs that differ in their seeds alone the median, and of the test examples a dense band for "
            "the middle half and a light one for all; a run that has ended stays as it was."
        )
    if any(len(each.run.history) > 2 * _MOST_POINTS for each in compared.runs):
        how += " Long curves are drawn by fewer points."
    figures = []
    for name in ("Accuracy", "Loss"):
        curves = _curves(compared, name.lower(), False)
        figures.append((name, how, drawn(curves), drawn(curves.update_xaxes(type="log"))))
    return offline_page(
        "compare.html",
        [asset("page.css"), asset("compare.css")],
        [],
        title="What did these runs learn, and in how many steps?",
        verdict=headline(compared),
        by=None if comparison.by is None else _of_groups(comparison.by),
        notes=notes(comparison),
        common=[*in_common(comparison), *(f"{said}." for said in said_of_groups)],
        facts=[(f"All: {_SAID.get(name, name)}", text) for name, text in shared(compared)],
        runs=_columns_of(header, cells, [name for name in _OF_RUNS if name in header]),
        more=_columns_of(header, cells, ["run", *(name for name in header if name not in _OF_RUNS)]),
        found=[
            (each.name, learned.found or f"Not known: {learned.unknown}")
            for each, learned in zip(compared.runs, comparison.learned, strict=True)
        ],
        claims=[
            (sentence, [(kind, len(names), names) for kind, names in verdicts.items()])
            for sentence, verdicts in claims(comparison)
        ],
        most_names=_MOST_NAMES,
        groups=groups(compared),
        transfers=[
            (each.name, each.start, each.transfer.sentence) for each in compared.runs if each.transfer
        ],
        milestones=None
        if comparison.by and len(compared.distinct) > _MOST_ROWS
        else drawn(_milestones(compared)),
        figures=figures,
        log_x=log_x,
    )
