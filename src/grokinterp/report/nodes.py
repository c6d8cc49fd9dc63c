"""The section on which part of a network knows it: its maps of nodes, and the nodes that matter most."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import NotApplicable
from ..measures.nodes import CONTROLLED
from . import figures
from .analysis import Analysis
from .panels import Figure, Panel, Table
from .words import number

if TYPE_CHECKING:
    pass

MATTERS = 0.01
"""A node matters without which some answer loses that share of its accuracy in some part of the sample, or
its loss rises by that many nats."""
_WIDE = 1.96
"""Standard errors to each side of an interval of 95 %."""
_MOST_ROWS = 60
_UNIT = "fall (share)"

LEAD = (
    "What is lost when what one head, or one MLP, gives at one position is replaced by its mean over the "
    "examples, so that all that is computed from it changes. A node is named by its layer, its head or MLP, "
    "and the position, by its number and what stands there. A star: the loss rises by more than under 95 % "
    f"of random changes of the stream at that place, as large on every example (tried for the {CONTROLLED} "
    "nodes without which a loss rises most). That something is lost says that the node has a part in it, not "
    "what it does."
)


def panels(a: Analysis) -> Iterator[Panel | Table]:
    """A map of nodes by answers, one by the groups of the task, and a table of the nodes that matter most.

    Raises:
        NotApplicable: none matters.
    """
    nodes = _Nodes(a)
    if not len(nodes.rows):
        raise NotApplicable(
            f"without none of {len(nodes.names):,} nodes any answer loses {MATTERS:.0%} of its accuracy, or "
            f"{MATTERS:g} nats"
        )
    fall = nodes.mean[nodes.rows, :, :, 1]
    left_out = len(nodes.names) - len(nodes.rows)
    of_nodes = "1 node" if left_out == 1 else f"{left_out:,} nodes"
    said = f" Left out: {of_nodes} without which no answer loses as much." if left_out else ""
    said += f" {words}" if (words := a.run.task.words_mean) else ""
    caption = f"Fall of the accuracy (share of {nodes.examples}) of each answer.{said}"
    rows = [f"{nodes.names[row]}{' *' * nodes.beats(row)}" for row in nodes.rows]
    if len(nodes.answers) > 1:
        figure = figures.numbered_heatmap(fall[:, :, 0], "answer", _UNIT, nodes.answers, rows)
        yield Panel("What each answer loses", caption, Figure(figure), size="full")
    if len(nodes.parts) > 1:
        which = "of the answer that loses most" if len(nodes.answers) > 1 else f"of {nodes.answers[0]}"
        caption = (
            f"Fall of the accuracy {which} (share of {nodes.examples}, and of the examples of each group, of "
            f"which more are drawn where these have few).{said}"
        )
        most = np.nan_to_num(fall, nan=-np.inf).max(1)
        most = np.where(np.isinf(most), np.nan, most)
        figure = figures.numbered_heatmap(most, "group of examples", _UNIT, nodes.parts, rows)
        yield Panel("What each group loses", caption, Figure(figure), size="full")
    yield nodes.table


@dataclass(frozen=True)
class _Nodes:
    """What is known of every node at every position."""

    a: Analysis

    def values(self, name: str) -> Any:
        """A measure by (node and position, answer, ...); NaN where it was not taken."""
        of_mean = self.a.measured("node_ablation.mean")
        value = self.a.values.get(f"node_ablation.{name}")
        if value is None:
            shape = (*of_mean.shape[:3], 2) if name == "control" else of_mean.shape
            return np.full((shape[0] * shape[1], *shape[2:]), np.nan)
        return value.values.reshape(-1, *value.shape[2:])

    @cached_property
    def mean(self) -> Any:
        """By (node and position, answer, part, statistic)."""
        return self.values("mean")

    @cached_property
    def control(self) -> Any:
        """By (node and position, answer, statistic)."""
        return self.values("control")

    def labels(self, dim: str) -> list[str]:
        """The labels of a dimension."""
        return [str(label) for label in self.a.measured("node_ablation.mean").coords[dim].values]

    @cached_property
    def names(self) -> list[str]:
        """What each node is called."""
        return [f"{node} at {word}" for node in self.labels("node") for word in self.labels("pos")]

    @cached_property
    def answers(self) -> list[str]:
        """The answers."""
        return self.labels("answer")

    @cached_property
    def parts(self) -> list[str]:
        """The parts of the sample: all of it, then its groups."""
        return self.labels("part")

    @property
    def examples(self) -> str:
        """The examples that stand for the task, in words."""
        return f"{self.a.measured('node_ablation.mean').attrs['examples']:,} {self.a.run.task.examples_are}"

    @cached_property
    def worst(self) -> Any:
        """The answer of which the loss rises most, for each node, among those that it has a part in."""
        rise, untouched = self.mean[:, :, 0, 0], (np.nan_to_num(self.mean[..., :2]) == 0).all((2, 3))
        return np.where(untouched | np.isnan(rise), -np.inf, rise).argmax(1)

    @cached_property
    def rows(self) -> list[int]:
        """The nodes that matter: in the order of the network, and where they are many those alone without
        which a loss rises most."""
        most = np.nan_to_num(self.mean[..., :2], nan=0.0).max((1, 2, 3))
        matters = np.flatnonzero(most >= MATTERS)
        return sorted(self._by_rise(matters)[:_MOST_ROWS])

    def _by_rise(self, rows: Any) -> list[int]:
        return sorted(map(int, rows), key=lambda row: -self.mean[row, self.worst[row], 0, 0])

    def beats(self, row: int) -> bool:
        """Whether the loss rises by more than under 95 % of the controls."""
        answer = self.worst[row]
        return bool(self.mean[row, answer, 0, 0] > self.control[row, answer, 1])

    @property
    def table(self) -> Table:
        """The nodes without which most is lost."""
        zero, resample = self.values("zero"), self.values("resample")
        rows = []
        for row in self._by_rise(self.rows)[:CONTROLLED]:
            at = (row, self.worst[row])
            (mean, quantile), (rise, _, error, _) = self.control[at], self.mean[at][0]
            rows.append((
                self.names[row],
                f"{number(rise)} ± {number(_WIDE * error)} ({self.answers[at[1]]})",
                f"{number(zero[at][0, 0])}, {number(resample[at][0, 0])}",
                self._falls(self.mean[row, :, 0], self.answers),
                self._falls(self.mean[at][1:], self.parts[1:]),
                f"{number(mean)}, {number(quantile)}" if quantile == quantile else "–",
                "yes" if self.beats(row) else "no" if quantile == quantile else "–",
            ))  # fmt: skip
        header = (
            "Node", "Rise of the loss (nats)", "By zero, by another example", "Fall of accuracy of answers",
            "Of that answer in groups", "Controls: mean, 95 %", "More than its controls",
        )  # fmt: skip
        lead = (
            f"Of the answer whose loss rises most, over {self.examples}; controls are of the mean ablation. "
            "Behind ±: half of an interval of 95 %, by the standard error of the mean over examples."
        )
        return Table("The nodes without which most is lost", header, rows, lead)

    @staticmethod
    def _falls(of_each: Any, names: Sequence[str]) -> str:
        """The largest falls, by name, with the half widths of their intervals."""
        falls, wide = of_each[:, 1], _WIDE * of_each[:, 3]
        largest = [i for i in np.argsort(-np.nan_to_num(falls, nan=-np.inf)) if falls[i] >= MATTERS][:3]
        said = [f"{names[i]} {100 * falls[i]:.0f} ± {100 * wide[i]:.0f} %" for i in largest]
        return ", ".join(said) or "none"
