"""What a report shows of networks that add digit by digit: which digit they take for the right one, of which
questions, and what their heads and neurons read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ...measures.factors import READS, TOGETHER, place
from ...measures.hypotheses import digits_hypothesis, interchange
from ...measures.standing import percent
from ...tasks.digits import Digits, name_of
from .. import figures
from ..analysis import Analysis
from ..palette import PLAIN, lines
from ..panels import Figure, Panel, Size, Table, section
from ..words import number
from .panels import HOW, TITLE, in_words

if TYPE_CHECKING:
    import plotly.graph_objects as go

_ERRORS = 4
"""What is read explains more than that many standard errors: dozens of shares are looked at of every unit."""


@section(TITLE, HOW, of=Digits, needs=["digits.delta_profile"])
def _profile(a: Analysis) -> Iterator[Table]:
    values = a.measured("digits.delta_profile")
    deltas = values["delta"].values.tolist()
    over = "answer" if "answer" in values.dims else "part"
    if over == "answer":
        values = values.sel(part="test" if "test" in values["part"].values else "all")
    rows = [
        (label, *(number(float(values.sel({over: label, "delta": delta}))) for delta in deltas))
        for label in values[over].values.tolist()
    ]
    header = ["Digit" if over == "answer" else "Questions", *map(in_words, deltas)]
    yield Table("Mean probability at the end", header, rows)


@section(
    "Which examples are right",
    "By what is carried; bars: 95 % intervals (Wilson). S0: nothing is carried; S1: no carry runs on; S2 to "
    "S5: one runs on through 1, 2, 3, or 4 and more sums of nine. To a class belong the questions that were "
    "drawn for it; all else is of questions as they are drawn.",
    of=Digits,
)
def _by_factor(a: Analysis) -> Iterator[Panel]:
    task = a.run.task
    assert isinstance(task, Digits)
    right = "every digit is right" if len(a.view.answers) > 1 else f"the {task.reads.answers[0]} are right"
    names = ["class"]
    if len(task.places) == 1:
        names += [f"{what}.{task.reads.answers[0]}" for what in ("carry_in", "cascade")]
    for name in names:
        if name in task.factors and task.factors[name].n_classes > 1:
            caption = f"Share of the questions of which {right}, by {name}."
            size: Size = "wide" if task.factors[name].n_classes > 4 else ""
            yield Panel(f"By {name}", caption, Figure(figures.by_factor(a, name)), size)


def _has_one_answer(a: Analysis) -> bool:
    """Of several, the trials of all sub-tasks at all positions would take minutes."""
    return len(a.view.answers) == 1


@section(
    "Which node carries which part of the sum",
    "What a head or the MLP gives for one question is put into another, and the digit has to become what the "
    "part of the sum says that it carries: in 90 % of the cases at least, and more often than by chance "
    "(gi.interchange). Where no node does alone, a set of nodes is looked for, and held against other pairs "
    "than those that chose it.",
    of=Digits,
    needs=["node_ablation.mean"],
    where=_has_one_answer,
)
def _carried(a: Analysis) -> Iterator[Table]:
    task = a.view.task
    assert isinstance(task, Digits)
    found = interchange(a.view, digits_hypothesis(task))
    rows = []
    for verdict in found.verdicts:
        alone = [trial for trial in found.trials if trial.subtask == verdict.subtask]
        if verdict.carriers:
            alone = [trial for trial in alone if trial.sites == verdict.carriers[:1]]
        trial = verdict.best or max(alone, key=lambda trial: trial.share)
        sites, interval = " with ".join(trial.sites), f"{100 * trial.low:.0f} to {100 * trial.high:.0f} %"
        carried = verdict.carriers or verdict.together
        by = sites if carried else f"no node, and no set that was tried; the best: {sites}"
        others = "–" if verdict.random_sets is None else percent(verdict.random_sets)
        rows.append((verdict.subtask, percent(trial.share), by, interval, percent(trial.shuffled), others))
    header = ["Part of the sum", "As predicted", "Carried by", "95 % interval", "By chance", "Random sets"]
    yield Table("Nodes exchanged between questions", header, rows)


@section(
    "What heads and neurons read",
    f"A head, a neuron or a logit reads a digit that explains more than {100 * READS:.0f} % of its variance, "
    f"alone or in a pair, and more than {_ERRORS} standard errors; at the position where the answer is read. "
    "Beside each share stands its standard error. What a digit does only together with two others or more, "
    "as a carry does to a logit, is not seen here. Of several answers the neurons are left out: "
    "`analyze --measure variance_by_factor.neurons` has them.",
    of=Digits,
    needs=["variance_by_factor.heads", "variance_by_pair.heads"],
)
def _reads(a: Analysis) -> Iterator[Panel | Table]:
    yield Panel("What explains the heads", _EXPLAINS, Figure(_bars(a, "heads")), size="full")
    for kind in ("heads", "logits"):
        if f"variance_by_factor.{kind}" in a.values:
            name = kind.removesuffix("s")
            header = (name.capitalize(), "Reads", "Largest share of its variance", "Further shares")
            rows = [(each.name, each.words, *each.largest_first) for each in _units(a, kind)]
            yield Table(f"What each {name} reads", header, rows, folded=len(rows) > _MOST_ROWS)
    if "variance_by_factor.neurons" in a.values:
        yield _neurons(a)
    if "pair_function.neurons" in a.values:
        yield _pair_functions(a)


_EXPLAINS = (
    "Share of the variance of what each head writes that the two digits of a place explain, each alone and "
    "both together beyond that; and pairs of digits of different places. What is left to 1 depends on more "
    "digits at once, or on others."
)
_MOST_ROWS = 8
"""Rows up to which a table is open."""
_MOST_SHARES = 4
"""Further shares that are written out."""
_FITS = 0.9
"""A function fits what a neuron makes of two digits where it explains that share of it."""


@dataclass(frozen=True)
class _Unit:
    """A head, a neuron or a logit, what it reads in words, and the shares that say so, with their errors."""

    name: str
    words: str
    shares: Sequence[tuple[str, float, float]]

    @property
    def largest_first(self) -> tuple[str, str]:
        """The largest share, and the others."""
        said = [f"{what} {share:.2f} ± {error:.2f}" for what, share, error in self.shares]
        further, more = said[1 : 1 + _MOST_SHARES], len(said) - 1 - _MOST_SHARES
        return (said or ["none"])[0], ", ".join(further + [f"{more} more"] * (more > 0)) or "none"


def _units(a: Analysis, kind: str) -> list[_Unit]:
    """Every head, neuron or logit; of several answers, at each."""
    names, labels, values = _values(a, kind)
    units = []
    for name, of_unit in zip(names, values, strict=True):
        read = (of_unit[:, 0] > READS) & (of_unit[:, 0] > _ERRORS * of_unit[:, 1])
        shares = sorted(((labels[i], *of_unit[i]) for i in np.flatnonzero(read)), key=lambda each: -each[1])
        digits = {digit for label, *_ in shares for digit in label.split(TOGETHER)}
        units.append(_Unit(name, a.run.task.read_in_words(digits) or "nothing", shares))
    return units


def _values(a: Analysis, kind: str) -> tuple[list[str], list[str], NDArray[np.float64]]:
    """The names of all units, the labels of digits and pairs, and shares and errors by unit and label."""
    values = [a.measured(f"variance_by_factor.{kind}"), a.values.get(f"variance_by_pair.{kind}")]
    labels: list[str] = []
    parts = []
    for over, value in zip(("factor", "pair"), values, strict=True):
        if value is not None:
            labels += value[over].values.tolist()
            parts.append(value.transpose(..., over, "of").values.reshape(-1, value.sizes[over], 2))
    dims = [dim for dim in values[0].dims if dim not in ("factor", "of")]
    names = [
        ", ".join(x if dim == "answer" else f"{dim} {x}" for dim, x in zip(dims, at, strict=True))
        for at in product(*(values[0][dim].values.tolist() for dim in dims))
    ]
    return names, labels, np.concatenate(parts, axis=1)


def _bars(a: Analysis, kind: str) -> go.Figure:
    """The shares of each unit, one upon the other, by the place of the digits."""
    names, labels, values = _values(a, kind)
    places = [{place(digit) for digit in label.split(TOGETHER)} for label in labels]
    figure = figures.new_figure("", "share of its variance", 320, barmode="stack")
    each = list(dict.fromkeys(place(name) for name in a.run.task.read))
    for of, colour in zip([*each, "two places"], [*lines(len(each)), PLAIN], strict=True):
        here = [places[i] == {of} or (of not in each and len(places[i]) > 1) for i in range(len(labels))]
        y = np.maximum(values[:, here, 0].sum(1), 0)
        figure.add_bar(x=names, y=y.round(4).tolist(), name=of, marker_color=colour)
    figure.update_yaxes(range=[0, 1.05]).update_xaxes(type="category")
    return figure.update_layout(legend=figures.legend_above())


def _neurons(a: Analysis) -> Table:
    """How many neurons read what, and the first of them by their largest share."""
    groups: dict[tuple[str, str], list[tuple[float, str]]] = {}
    for unit in _units(a, "neurons"):
        answer, _, name = unit.name.rpartition(", ")
        largest = unit.shares[0][1] if unit.shares else 0.0
        groups.setdefault((answer, unit.words), []).append((largest, name.removeprefix("neuron ")))
    rows = []
    for (answer, words), neurons in sorted(groups.items(), key=lambda item: (item[0][0], -len(item[1]))):
        first = sorted(neurons, reverse=True)[:5]
        said = ", ".join(f"{name} ({share:.2f})" if share else name for share, name in first)
        rows.append((f"{answer}: {words}".removeprefix(": "), str(len(neurons)), said))
    header = ("Reads", "Neurons", "Some of them (largest share of its variance)")
    return Table("What neurons read", header, rows, folded=len(rows) > _MOST_ROWS)


def _pair_functions(a: Analysis) -> Table:
    """What the neurons of each place make of its two digits: how well functions of them fit."""
    fits, of = a.measured("pair_function.neurons"), a.measured("pair_function.place")
    reads = of.sel(of="share").values >= READS
    by_place = [reads & (of.sel(of="place").values == k) for k in range(len(a.run.task.read) // 2)]
    known = [k for k, neurons in enumerate(by_place) if neurons.any()]
    rows = [("neurons that read it", *(str(int(by_place[k].sum())) for k in known))]
    for name in fits["function"].values.tolist():
        fit = fits.sel(function=name).values
        cells = (fit[by_place[k]] for k in known)
        rows.append((name, *(f"{np.median(x):.2f}, {int((x >= _FITS).sum())} of {len(x)}" for x in cells)))
    lead = (
        "Of each neuron's mean at the 100 pairs of digits of the place that explains most of it, the share "
        f"that a function of x and y explains: the median over neurons, and of how many it is {_FITS:g} or "
        "more. The naive digit is x + y mod 10, wave k is cos and sin of 2πk(x + y)/10; a place that "
        f"explains less than {100 * READS:.0f} % of a neuron is not read."
    )
    header = ["Function", *map(name_of, known)]
    return Table("What neurons make of two digits", header, rows, lead, folded=True)
