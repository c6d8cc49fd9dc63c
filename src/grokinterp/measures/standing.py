"""How far the network of a view has learned its task (`grokinterp.standing`)."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from ..standing import GENERALISED, Z_OF_95, Examples, Share, Standing, State, percent, wilson
from ..view import Classes, View

__all__ = [
    "GENERALISED", "Z_OF_95", "Examples", "Share", "Standing", "State", "percent", "standing", "wilson",
]  # fmt: skip


def _right(view: View, against: Classes) -> Bool[Tensor, "n"]:
    """Which examples are right: by the criterion of the task, of what the network writes itself, or in every
    answer."""
    criterion = view.task.criterion
    return view.all_right(against) if criterion is None else view.task.judged(view.whole.decoded)[criterion]


def standing(view: View, rows: Int[Tensor, "rows"] | None = None) -> Standing:
    """How far the network of a view has learned its task; or those examples of it (row numbers of the
    table)."""
    asked = view.task.asked
    chosen = asked
    if rows is not None:
        chosen = torch.zeros_like(chosen).index_fill_(0, rows, True)
    right = _right(view, "answers")
    answered = {"all": right[chosen]}
    if view.split is not None:
        answered |= {
            "train": _right(view, "labels")[view.rows("train", asked) & chosen],
            "test": right[view.rows("test", asked) & chosen],
        }
    marks_of = {part: marks for part, marks in answered.items() if len(marks)}
    n_train, n_test, n_all = (len(marks_of.get(part, ())) for part in ("train", "test", "all"))
    chance = view.task.chance if rows is None else float(view.targets[rows].bincount().max()) / len(rows)
    examples = Examples(chance, n_train, n_test, n_all, view.task.noisy, view.task.criterion or "")
    train, test, whole = (
        float(marks_of[part].double().mean()) if part in marks_of else None
        for part in ("train", "test", "all")
    )
    return examples.standing(train, test, whole)
