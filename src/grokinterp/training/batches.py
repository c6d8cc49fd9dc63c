"""Where the examples of each update come from: the rows of a training set, or a stream of fresh ones.

What the rest of the stream depends on is part of the state of a run, so that a resumed run learns from the
same examples: of rows the order of the epoch and the generator, of fresh examples the step.
"""

from __future__ import annotations

import hashlib
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from ..tasks import Sample, Task


class Rows:
    """The rows of a training set: all at every update, or in minibatches, in a fresh order every epoch.

    Attributes:
        full: whether every update learns from all of them.
    """

    def __init__(self, rows: Int[Tensor, "n_train"], size: int | None, seed: int) -> None:
        self._rows, self._size = rows, len(rows) if size is None else size
        self.full = self._size >= len(rows)
        self._generator = torch.Generator().manual_seed(seed)
        self._order: Int[Tensor, "n_train"] = torch.empty(0, dtype=torch.long)
        self._position = 0

    def following(self) -> Int[Tensor, "batch"] | None:
        """The rows that the next update learns from; None for all of them. The last batch of an epoch is the
        remainder."""
        if self.full:
            return None
        if self._position >= len(self._order):
            self._order = torch.randperm(len(self._rows), generator=self._generator)
            self._position = 0
        batch = self._order[self._position : self._position + self._size].to(self._rows.device)
        self._position += self._size
        return self._rows[batch]

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """What the batches to come depend on: tensors, and plain JSON."""
        tensors = {"batches/generator": self._generator.get_state(), "batches/order": self._order}
        return tensors, {"batch_position": self._position}

    def load(self, tensors: dict[str, Tensor], data: dict[str, Any]) -> None:
        """Goes on from what `state` gave."""
        self._generator.set_state(tensors["batches/generator"])
        self._order = tensors["batches/order"]
        self._position = data["batch_position"]


class Fresh:
    """Examples that a task draws anew for every update: those of batch number i depend on the seed and on i
    alone, and no two batches of a run come from the same state of a generator. The update that makes step
    i + 1 learns from batch i, so the step is all that a resumed run needs."""

    def __init__(self, task: Task, size: int, seed: int) -> None:
        self._task, self._size = task, size
        self._first = int.from_bytes(hashlib.sha256(str(seed).encode()).digest()[:4], "big")

    def batch(self, number: int) -> Sample:
        """The examples of a batch."""
        # torch's generator takes 32 bits of a seed: an odd step goes through all before one comes again.
        seed = (self._first + number * 0x9E3779B1) % 2**32
        return self._task.drawn(self._size, torch.Generator().manual_seed(seed))
