"""Some examples of a task in place of all: what takes many passes of a network is measured on these."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int, Shaped
from torch import Tensor

from ..errors import UsageError
from ..tasks import Split, Task
from ..tasks.base import Sample
from ..tasks.reads import Reads
from ..view import View


@dataclass(frozen=True, eq=False)
class _Excerpt(Task):
    """Some examples of a task; the first of them stand for it."""

    whole: Task
    split: Split | None
    rows: Int[Tensor, "n"]
    standing: int

    @property
    def reads(self) -> Reads:
        return self.whole.reads

    @property
    def sample(self) -> Sample:
        return Sample(self.whole.sample.inputs[self.rows], self.whole.sample.answers[self.rows])

    @property
    def n_representative(self) -> int:
        return self.standing

    @property
    def answer_tokens(self) -> Int[Tensor, "answers"]:
        return self.whole.answer_tokens

    @property
    def written(self) -> Int[Tensor, "answers"] | None:
        return self.whole.written

    def labels(self, split: Split | None) -> Int[Tensor, "n *answer"]:
        return self.whole.labels(self.split)[self.rows]

    def groups(self, split: Split | None) -> Mapping[str, Bool[Tensor, "n"]]:
        marks = {name: mark[self.rows] for name, mark in self.whole.groups(self.split).items()}
        return {name: mark for name, mark in marks.items() if mark.any()}

    def look_through(self) -> None:
        """The whole has been looked through; of some examples an answer may never be asked."""


def excerpt(view: View, rows: Int[Tensor, "n"], standing: int) -> View:
    """The network on these examples of its task, of which so many, from the beginning, stand for the task."""
    task = view.task
    return view.on(_Excerpt(task, view.split, rows, standing, name=task.name, symbol=task.symbol))


@dataclass(frozen=True, eq=False)
class _Shown(Task):
    """Inputs of a task of which the answers are not known."""

    whole: Task
    shown: Tensor

    @property
    def reads(self) -> Reads:
        return self.whole.reads

    @property
    def sample(self) -> Sample:
        return Sample(self.shown, torch.zeros(len(self.shown), len(self.reads.answers), dtype=torch.long))

    @property
    def answer_tokens(self) -> Int[Tensor, "answers"]:
        return self.whole.answer_tokens

    @property
    def written(self) -> Int[Tensor, "answers"] | None:
        return self.whole.written

    def look_through(self) -> None:
        """Nothing is asked of them."""


def showing(view: View, inputs: Shaped[Tensor, "m *example"]) -> View:
    """The network on any inputs of the shape that its task has; what is right is not known of them."""
    task = view.task
    return view.on(_Shown(task, inputs, name=task.name, symbol=task.symbol))


def drawn(view: View, examples: int, seed: int) -> View:
    """The network on so many examples that stand for its task, drawn at random; on all of them where there
    are no more, and where a user's hooks may need to see the whole batch.

    Raises:
        UsageError: fewer than two are asked for.
    """
    rows = _rows(view, examples, seed)[0]
    return excerpt(view, rows, len(rows))


def unseen(view: View, examples: int, seed: int) -> Int[Tensor, "n"]:
    """The rows of so many examples that stand for the task, drawn at random, of those that the network was
    not trained on where these are known.

    Raises:
        UsageError: fewer than two are asked for.
    """
    part = "test" if "test" in view.parts else "all"
    return _rows(view, examples, seed, part)[0]


def drawn_with_groups(view: View, examples: int, seed: int) -> View:
    """The same, and behind them as many of each group of the task as that has too few of among these: an
    eighth as many, of more than eight groups fewer of each.

    Raises:
        UsageError: fewer than two are asked for.
    """
    if view.has_hooks_of_a_user:
        return excerpt(view, torch.arange(view.task.n_inputs), view.task.n_representative)
    standing, generator = _rows(view, examples, seed)
    rows, left = [standing], view.task.asked.index_fill(0, standing, False)
    for marks in view.groups.values():
        count = examples // max(8, len(view.groups)) - int(marks[torch.cat(rows)].sum())
        rows.append(_some(marks & left, count, generator))
        left[rows[-1]] = False
    return excerpt(view, torch.cat(rows), len(standing))


def _rows(
    view: View, examples: int, seed: int, part: str = "all"
) -> tuple[Int[Tensor, "n"], torch.Generator]:
    """Rows of the sample that stand for the task, and the generator that drew them."""
    if examples < 2:
        raise UsageError(f"examples: needs 2 or more, of which one takes another's place, got {examples}")
    generator, marks = torch.Generator().manual_seed(seed), view.rows(part, view.task.asked)
    if view.has_hooks_of_a_user:
        return marks.nonzero().flatten(), generator
    return _some(marks, examples, generator), generator


def _some(marks: Bool[Tensor, "n"], count: int, generator: torch.Generator) -> Int[Tensor, "m"]:
    """So many of the marked rows, drawn at random."""
    rows = marks.nonzero().flatten()
    return rows[torch.randperm(len(rows), generator=generator)[: max(count, 0)]]
