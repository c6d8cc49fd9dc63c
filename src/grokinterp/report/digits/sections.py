"""What a report shows of networks that add digit by digit: which digit they take for the right one, of which
questions, and what their heads and neurons read."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import TYPE_CHECKING, Any

from ...measures.digits import READS
from ...measures.factors import TOGETHER
from ...tasks.digits import Digits
from .. import figures
from ..analysis import Analysis
from ..panels import Figure, Panel, Size, Table, section
from ..words import number
from .panels import HOW, TITLE, in_words

if TYPE_CHECKING:
    import xarray as xr

_ERRORS = 2
"""What is read explains more than that many standard errors."""


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
    "By what is carried; bars: 95 % intervals (Wilson). To a class belong the questions that were drawn for "
    "it; all else is of questions as they are drawn.",
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


@section(
    "What heads and neurons read",
    f"A head or a neuron reads a digit that explains more than {READS:.0%} of its variance, alone or in a "
    f"pair, and more than {_ERRORS} standard errors; at the position where the answer is read.",
    of=Digits,
    needs=["variance_by_factor.heads", "variance_by_pair.heads"],
)
def _reads(a: Analysis) -> Iterator[Table]:
    heads = list(_read_by(a, "heads"))
    yield Table("What each head reads", ("Head", "Reads", "Shares of its variance"), heads)
    if "variance_by_factor.neurons" not in a.values:
        return
    neurons: dict[tuple[str, str], list[str]] = {}
    for neuron, words, _ in _read_by(a, "neurons"):
        answer, _, name = neuron.rpartition(", ")
        neurons.setdefault((answer, words), []).append(name.removeprefix("neuron "))
    rows = [
        (f"{answer}: {words}".removeprefix(": "), str(len(names)), ", ".join(names[:5]))
        for (answer, words), names in sorted(neurons.items(), key=lambda item: (item[0][0], -len(item[1])))
    ]
    yield Table("What neurons read", ("Reads", "Neurons", "Some of them"), rows)


def _read_by(a: Analysis, kind: str) -> Iterator[tuple[str, str, str]]:
    """Each head or neuron by name, the digits that it reads, and their shares of its variance."""
    alone, pairs = a.measured(f"variance_by_factor.{kind}"), a.values.get(f"variance_by_pair.{kind}")
    units = [dim for dim in alone.dims if dim not in ("factor", "of")]
    for labels in product(*(alone[dim].values.tolist() for dim in units)):
        at = dict(zip(units, labels, strict=True))
        shares = _shares(alone.sel(at), "factor")
        together = {} if pairs is None else _shares(pairs.sel(at), "pair")
        read = {*shares, *(name for pair in together for name in pair.split(TOGETHER))}
        words = a.run.task.read_in_words(read) or "nothing"
        name = ", ".join(str(x) if dim == "answer" else f"{dim} {x}" for dim, x in at.items())
        ordered = sorted({**shares, **together}.items(), key=lambda item: -item[1])
        yield name, words, ", ".join(f"{what} {share:.2f}" for what, share in ordered)


def _shares(values: xr.DataArray, over: str) -> dict[str, float]:
    """The shares that say that something is read, by name."""
    labels: list[Any] = values[over].values.tolist()
    share, error = (values.sel(of=of).values for of in ("share", "error"))
    reads = (share > READS) & (share > _ERRORS * error)
    return {label: float(x) for label, x, is_read in zip(labels, share, reads, strict=True) if is_read}
