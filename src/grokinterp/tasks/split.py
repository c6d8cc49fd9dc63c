"""Which examples a network is trained on: the two recipes that published runs use, reproduced index for
index.

Both use generators of their own, so nothing else that draws random numbers can shift them.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Int
from torch import Tensor

from ..asked import got
from ..errors import ConfigError, UsageError
from ..shown import Rows as ShownRows
from ..shown import Shown

SplitRecipe = Literal["python_shuffle", "torch_randperm"]


@dataclass(frozen=True, repr=False)
class Split(Shown):
    """Row numbers of a task's table: those trained on, in the recipe's order, and the rest."""

    train: Int[Tensor, "n_train"]
    test: Int[Tensor, "n_test"]

    def _in_a_line(self) -> str:
        return f"of {len(self.train):,} training and {len(self.test):,} test examples"

    def _as_rows(self) -> ShownRows:
        return [
            (name, f"{len(rows):,}: {', '.join(map(str, rows[:6].tolist()))}{', ...' * (len(rows) > 6)}")
            for name, rows in (("train", self.train), ("test", self.test))
        ]


def split(
    n: int,
    fraction: float,
    recipe: SplitRecipe = "python_shuffle",
    seed: int = 0,
    together: Int[Tensor, "n"] | None = None,
) -> Split:
    """The first int(fraction * n) of the shuffled row numbers 0..n-1, and the rest.

    Where rows belong to bundles that are kept whole, it is the bundles that are shuffled: the rows of the
    first int(fraction * number of bundles), and the rest.

    `python_shuffle` is Nanda et al. 2023 (`random.seed(seed); random.shuffle(pairs)`), `torch_randperm` the
    TransformerLens Grokking_Demo (`torch.manual_seed(seed); torch.randperm(n)`).

    Raises:
        ConfigError: one of the two parts would be empty.
    """
    if together is None:
        rows = order(n, recipe, seed)
        n_train = int(fraction * n)
    else:
        bundles, of_row = together.unique(return_inverse=True)
        place = order(len(bundles), recipe, seed).argsort()[of_row]
        rows = place.argsort(stable=True)
        n_train = int((place < int(fraction * len(bundles))).sum())
    if not 0 < n_train < n:
        raise ConfigError(
            f"training.fraction: {fraction} of {n} examples leaves {n_train} to train on and {n - n_train} "
            "to test on"
        )
    return Split(rows[:n_train], rows[n_train:])


Rows = Int[Tensor, "_"] | Sequence[int]


def split_of(parts: Split | tuple[Rows, Rows], n: int) -> Split:
    """The split that these are: one, or the row numbers of what is trained on and of what is tested on.

    Raises:
        UsageError: a row is in both, twice in one, or not among the n of the sample.
    """
    try:
        train, test = (parts.train, parts.test) if isinstance(parts, Split) else parts
        rows = [torch.as_tensor(part, dtype=torch.long).flatten().cpu() for part in (train, test)]
    except (TypeError, ValueError, RuntimeError):
        needed = "the row numbers that are trained on, and those that are tested on"
        raise UsageError(f"split: needs a pair: {needed}, got {got(parts)}") from None
    every = torch.cat(rows)
    if not len(every):
        raise UsageError("split: needs the row numbers that are trained on and those that are tested on")
    if len(every.unique()) < len(every) or ((every < 0) | (every >= n)).any():
        needed = f"row numbers from 0 to {n - 1:,} of the task's sample"
        both = f"{len(rows[0]):,} and {len(rows[1]):,} from {int(every.min())} to {int(every.max())}"
        raise UsageError(f"split: needs {needed}, each in one part at most; got {both}")
    return Split(*rows)


def order(n: int, recipe: SplitRecipe, seed: int) -> Int[Tensor, "n"]:
    """The row numbers 0..n-1 in the order of a recipe; the training set is a beginning of it."""
    if recipe == "python_shuffle":
        rows = list(range(n))
        random.Random(seed).shuffle(rows)
        return torch.tensor(rows)
    return torch.randperm(n, generator=torch.Generator().manual_seed(seed))
