"""What a report on an operation opens with whose answers are numbers, such as plain division: for which pairs
the network is right, and, where it answers with a number, how far off that is."""

from __future__ import annotations

from collections.abc import Iterator

import plotly.graph_objects as go
import torch
from jaxtyping import Bool
from torch import Tensor

from ...measures.numbers import WITHIN, on_a_line
from ...measures.standing import Z_OF_95, Share, percent
from ...tasks import Operation
from ..figures import legend_above, new_figure
from ..palette import KEY, PLAIN, RESTRICTED, TEST, TRAIN
from ..panels import Figure, Panel, opening
from .analysis import OperationAnalysis

_SMALLEST, _SIDE = 2.0, 330
"""Pixels: of a mark, and of the picture, where a mark stands for every pair."""


def _said(a: OperationAnalysis) -> str:
    """How many pairs are right, beside the commonest answer; which they are; how far numbers are off."""
    facts, view, part = a.task.facts, a.view, a.part("test")
    rows, right, untrained = view.rows(part), view.correct(against="answers"), _untrained(a)
    pairs = "unseen pairs" if part == "test" else "pairs"
    commonest = facts.counts.index(max(facts.counts))
    share = Share.of(_mean(right[rows]), int(rows.sum()), Z_OF_95)
    said = [
        f"Of {share.n:,} {pairs} {share} are right (95 % interval {100 * share.low:.1f} to "
        f"{100 * share.high:.1f} %); always giving the commonest, {a.task.answer_names[commonest]}, is "
        f"right for {percent(facts.majority)} of all pairs."
    ]
    if (others := rows & (a.task.targets != commonest)).any():
        said.append(
            f"Of the {pairs} with another answer than that, {percent(_mean(right[others]))} are right."
        )
    if (new := rows & untrained).any():
        known = rows & ~untrained
        of_known = f", and {percent(_mean(right[known]))} of the others" if known.any() else ""
        said.append(
            f"{percent(_mean(untrained[rows]))} of the {pairs} have an answer that no training pair has: "
            f"{percent(_mean(right[new]))} of these are right{of_known}."
        )
    if "number.unexplained" in a.values:
        within, left = (a.number(f"number.{name}", part=part) for name in ("within", "unexplained"))
        said.append(
            f"It answers with a number, and the nearest answer is taken: {percent(within)} of the numbers "
            f"of {pairs} are at most {WITHIN:g} off, and {left:.3g} of their variance is left unexplained."
        )
    return " ".join(said)


@opening("numbers", _said, of=Operation, where=lambda a: on_a_line(a.task))
def _opening(a: OperationAnalysis) -> Iterator[Panel]:
    caption = "Every pair a, b. An answer is new where no training pair has it."
    yield Panel("Where it is right", caption, Figure(_right(a)))
    if "number.within" in a.values:
        caption = f"From the right one, log axes; only answers above 0. Dashed: {WITHIN:g}."
        yield Panel("How far off the number is", caption, Figure(_distances(a)))


def _untrained(a: OperationAnalysis) -> Bool[Tensor, "n"]:
    """Which pairs have an answer that no training pair has; none where the split is not known."""
    split, targets = a.run.split, a.task.targets
    if split is None:
        return torch.zeros(len(targets), dtype=torch.bool)
    return ~torch.isin(targets, a.task.labels(split)[split.train])


def _right(a: OperationAnalysis) -> go.Figure:
    """A mark for every pair, by whether it was trained on and is right."""
    right, new = a.view.correct(against="answers"), _untrained(a)
    unseen = a.view.rows("test") if "test" in a.view.parts else torch.ones_like(right)
    groups = {
        "trained, right": (~unseen & right, PLAIN, "square", 0.35),
        "trained, wrong": (~unseen & ~right, KEY, "square-open", 0.8),
        "unseen, right": (unseen & right, RESTRICTED, "square", 1.0),
        "unseen, wrong": (unseen & ~right & ~new, KEY, "square", 1.0),
        "unseen, wrong, a new answer": (unseen & ~right & new, TEST, "square", 1.0),
    }
    figure, names = new_figure("b", "a", _SIDE + 90), a.task.operand_names
    size = max(_SMALLEST, 0.75 * _SIDE / a.task.p)
    for name, (rows, colour, symbol, opacity) in groups.items():
        if rows.any():
            pairs = [(names[i], names[j]) for i, j in a.task.pairs[rows].tolist()]
            answers = [a.task.answer_names[c] for c in a.task.targets[rows].tolist()]
            figure.add_scatter(
                x=[b for _, b in pairs], y=[each for each, _ in pairs], mode="markers", name=name,
                marker={"color": colour, "symbol": symbol, "size": size, "opacity": opacity},
                customdata=answers, hovertemplate="a %{y}, b %{x}: %{customdata}",
            )  # fmt: skip
    return figure.update_layout(legend=legend_above())


def _distances(a: OperationAnalysis) -> go.Figure:
    """How far the number of every pair is from the right one, over that, both logarithmic."""
    figure = new_figure("right number", "distance of the number", _SIDE + 90)
    right = a.view.numbers_of_labels
    apart = (a.view.number - right).abs()
    for part, colour in (("train", TRAIN), ("test", TEST)) if "test" in a.view.parts else (("all", PLAIN),):
        rows = a.view.rows(part) & (right > 0) & (apart > 0)
        pairs = a.task.pairs[rows].tolist()
        figure.add_scatter(
            x=right[rows].tolist(), y=apart[rows].tolist(), mode="markers", name=part,
            marker={"color": colour, "size": 4, "opacity": 0.7},
            customdata=[f"a {a.task.operand_names[i]}, b {a.task.operand_names[j]}" for i, j in pairs],
            hovertemplate="%{customdata}: %{y:.3g} off %{x:.4g}",
        )  # fmt: skip
    figure.add_hline(y=WITHIN, line={"color": PLAIN, "width": 1, "dash": "dash"})
    figure.update_xaxes(type="log").update_yaxes(type="log")
    return figure.update_layout(legend=legend_above())


def _mean(marks: Bool[Tensor, "m"]) -> float:
    return float(marks.double().mean())
