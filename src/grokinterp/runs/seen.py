"""Which tokens of questions a run has learned from: its training examples are drawn again, by seed and number
of the batch, as the training drew them."""

from __future__ import annotations

import torch
from jaxtyping import Bool
from torch import Tensor

from ..errors import NotApplicable
from ..training import Fresh, Rows
from .run import Run


def tokens_seen(run: Run, step: int = -1) -> Bool[Tensor, "d_vocab"]:
    """Which tokens had stood in the question of a training example by a step (negative: from the end), at
    whatever position. Exact; it takes as long as it took the training to draw its examples, about a
    millisecond a batch of 128.

    Raises:
        NotApplicable: examples are no tokens, or the run goes on from other weights or was imported, so that
            nobody knows all that the network has seen.
        NoSuchSnapshot: the run has no snapshot at that step.
    """
    task, config = run.task, run.config
    if not task.reads.d_vocab:
        raise NotApplicable(f"examples of {task.name} are no tokens")
    if config.start or not run.knows("seed"):
        begun = "goes on from the weights of another" if config.start else "was not trained here"
        raise NotApplicable(f"the run {begun}: it is not known which tokens the network has seen")
    seen = torch.zeros(task.reads.d_vocab, dtype=torch.bool)
    before, size, updates = min(task.reads.positions), config.training.batch_size, run.resolve(step)
    if config.training.data == "fresh":
        assert size is not None
        fresh = Fresh(task, size, config.seed)
        for number in range(updates):
            seen[fresh.batch(number).inputs[:, :before]] = True
        return seen
    assert run.split is not None
    batches = Rows(run.split.train, size, config.seed)
    for _ in range(min(updates, -(-len(run.split.train) // (size or len(run.split.train))))):
        rows = batches.following()
        seen[task.inputs[run.split.train if rows is None else rows][:, :before]] = True
    return seen
