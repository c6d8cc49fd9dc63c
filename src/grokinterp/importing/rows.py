"""The training set that a file names, read in every way that its numbers allow; the network's losses say
which way is meant.

A network has lower losses on what it was trained on. So under the right reading the ranks of the losses of
its training set are low, by many standard deviations where it has memorised, and by fewer under any other.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float64, Int
from torch import Tensor

from ..tasks import Operation, Split
from .convert import NOTHING
from .forensics import centred_ranks


@dataclass(frozen=True, eq=False)
class Rows:
    """One reading of what a file names as its training and test set.

    Attributes:
        how: how its numbers are read, in words.
        split: the rows of the task's table that they are.
    """

    how: str
    split: Split


def readings(train: Any, test: Any, task: Operation, pairs: Int[Tensor, "n 2"] | None = None) -> list[Rows]:
    """Every reading that makes up the whole table of a task; the usual one first.

    Args:
        train, test: what the file names.
        task: the task.
        pairs: the operands of every example as the file numbers them, where that is not as the task does.
    """
    pairs = task.pairs if pairs is None else pairs
    at = torch.full((task.p**2,), -1)
    at[pairs[:, 0] * task.p + pairs[:, 1]] = torch.arange(task.n_inputs)
    several: list[Rows] = []
    is_rest = train is NOTHING
    for how, cells in _cells(train, test, task.p):
        _add(several, how, [at[one] for one in cells], task, is_rest)
    if not task.is_full_grid:
        numbers = [_numbers(one, task.n_inputs) for one in (train, test) if one is not NOTHING]
        rows = [one for one in numbers if one is not None and one.dim() == 1 and _within(one, task.n_inputs)]
        if rows and len(rows) == len(numbers):
            _add(several, "numbers of the pairs that have an answer", rows, task, is_rest)
    how = "with training and test set in each other's place"
    swapped = [Rows(f"{one.how}, {how}", Split(one.split.test, one.split.train)) for one in several]
    return several + swapped


def possible_cells(train: Any, test: Any, p: int) -> list[Int[Tensor, "_"]]:
    """The sets of cells a p + b that may be the training set, where the file names one."""
    sets = []
    for _, cells in _cells(train, test, p):
        is_named = torch.zeros(p * p, dtype=torch.bool)
        is_named[cells[0]] = True
        sets += [is_named.nonzero().flatten(), (~is_named).nonzero().flatten()]
    return [one for one in sets if len(one)]


def lower(losses: Float64[Tensor, "n"], rows: Int[Tensor, "m"]) -> float:
    """How many standard deviations lower the mean rank of some losses is than a random sample's."""
    ranks, m, n = centred_ranks(losses), len(rows), len(losses)
    return float(-ranks[rows.numpy()].sum() / (m * (1 - m / n)) ** 0.5)


def _cells(train: Any, test: Any, p: int) -> Iterator[tuple[str, list[Int[Tensor, "_"]]]]:
    """Cells a p + b for each way to read numbers, pairs or a mask: of each set named, training first."""
    named = [_numbers(value, p * p) for value in (train, test) if value is not NOTHING]
    numbers = [one for one in named if one is not None]
    if not numbers or len(numbers) < len(named) or len({one.dim() for one in numbers}) > 1:
        return
    if numbers[0].dim() == 2:
        if all(_within(one, p) for one in numbers):
            yield "pairs (a, b)", [one[:, 0] * p + one[:, 1] for one in numbers]
            yield "pairs (b, a)", [one[:, 1] * p + one[:, 0] for one in numbers]
    elif all(_within(one, p * p) for one in numbers):
        yield "numbers a p + b", numbers
        yield "numbers b p + a", [one % p * p + one // p for one in numbers]


def _within(numbers: Int[Tensor, "..."], n: int) -> bool:
    return bool(((numbers >= 0) & (numbers < n)).all())


def _add(several: list[Rows], how: str, rows: list[Int[Tensor, "_"]], task: Operation, is_rest: bool) -> None:
    """Adds a reading that makes up the table; `is_rest`: of a test set, of which training is the rest."""
    if (rows[0] < 0).any():
        return
    is_named = torch.zeros(task.n_inputs, dtype=torch.bool)
    is_named[rows[0]] = True
    rest = (~is_named).nonzero().flatten()
    whole = len(rows) == 1 or torch.equal(rows[1].sort().values, rest)
    if len(rest) and len(rows[0]) and int(is_named.sum()) == len(rows[0]) and whole:
        named, other = rows[0], rows[1] if len(rows) == 2 else rest
        several.append(Rows(how, Split(other, named) if is_rest else Split(named, other)))


def _numbers(value: Any, n: int) -> Int[Tensor, "..."] | None:
    """Numbers of examples as [m], or pairs as [m, 2], where the file has such; of a mask of n entries, or a
    square one of as many, the places where it is on. A mask of another size is none."""
    try:
        rows = torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError):
        return None
    if _is_mask(rows):
        rows = rows.flatten().nonzero().flatten() if rows.numel() == n else rows[:0]
    if rows.is_floating_point() or rows.is_complex() or rows.dim() not in (1, 2) or not len(rows):
        return None
    if rows.dim() == 2:
        return rows[:, :2].long() if rows.shape[1] >= 2 else None
    return rows.long()


def _is_mask(rows: Tensor) -> bool:
    """Whether these say of each example, or cell of a square, if it is in: rows are not only 0 and 1."""
    is_row_or_square = rows.dim() == 1 or (rows.dim() == 2 and rows.shape[0] == rows.shape[1])
    if not is_row_or_square or rows.is_complex() or rows.numel() <= 4:
        return False
    return rows.dtype == torch.bool or bool(((rows == 0) | (rows == 1)).all())
