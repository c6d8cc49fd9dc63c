"""What a training would come to before it is begun: how large it is, and an estimate of its time from a few
steps that are made and thrown away. Nothing is written."""

from __future__ import annotations

import math
import statistics
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..training import TrainConfig, Trainer
from .record import packed_snapshot
from .transfer import Start, started

_SECONDS = 3.0
"""How long steps are measured for at most, where each takes less than that."""
_OF_EACH = 5
"""Steps with and without an evaluation that are measured, where there are so many."""


@dataclass(frozen=True)
class Outlook:
    """What a training would come to.

    Attributes:
        weights: how many numbers the network has.
        train, test: examples; where every update learns from fresh ones, `train` is None.
        steps: updates at most.
        snapshots: how many the schedule has; events come on top.
        snapshot_bytes: of the file of one.
        seconds: an estimate for all steps on this machine as it is now, without the time of writing; NaN
            where no step could be measured.
        measured: from how many steps.
    """

    weights: int
    train: int | None
    test: int
    steps: int
    snapshots: int
    snapshot_bytes: int
    seconds: float
    measured: int

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON; an unknown estimate is None."""
        return {**asdict(self), "seconds": None if math.isnan(self.seconds) else self.seconds}


def outlook(config: TrainConfig, *, start: Start | None = None, out: str | Path = "run") -> Outlook:
    """What a training with this configuration would come to; several processes are measured as one.

    Args:
        config: what to train.
        start: the snapshot to start from, as `train` takes it.
        out: the directory that the run would have, which may be told from its start by that.

    Raises:
        ConfigError: it cannot be trained.
        Diverged: the loss became NaN or infinite within the steps that were measured.
    """
    config, source = started(config, Path(out), start)
    if config.processes > 1:
        config = TrainConfig.make(config.model_dump(), processes=1)
    trainer = Trainer(config, weights=source.weights() if source else None)
    plain, evaluated = _timed(trainer)
    both = [*plain, *evaluated]
    of_plain, of_evaluated = (statistics.median(some or both or [math.nan]) for some in (plain, evaluated))
    file, _ = packed_snapshot(0, trainer.weights)
    training, fresh = config.training, config.training.data == "fresh"
    scheduled = len(config.snapshots.steps(training.steps))
    evaluations = min(training.steps, training.steps // training.evaluate_every + scheduled)
    return Outlook(
        weights=sum(weight.numel() for weight in trainer.weights.values()),
        train=None if fresh else len(trainer.split.train),
        test=len(trainer.split.test),
        steps=training.steps,
        snapshots=scheduled,
        snapshot_bytes=len(file),
        seconds=(training.steps - evaluations) * of_plain + evaluations * of_evaluated,
        measured=len(both),
    )


def _timed(trainer: Trainer) -> tuple[list[float], list[float]]:
    """The seconds of steps without an evaluation and with one; the first step, which warms up, is left
    out."""
    trainer.paused = True  # so that every step is handed over
    plain: list[float] = []
    evaluated: list[float] = []
    most = 2 * trainer.config.training.evaluate_every + 2 * _OF_EACH
    begun = before = time.perf_counter()
    for i, snapshot in enumerate(trainer):
        now = time.perf_counter()
        if i > 1:  # the initial network and the first update
            (plain if snapshot.metrics is None else evaluated).append(now - before)
        enough = min(len(plain), len(evaluated)) >= _OF_EACH or i >= most
        if enough or (i > 2 and now - begun > _SECONDS):
            break
        before = time.perf_counter()
    return plain, evaluated
