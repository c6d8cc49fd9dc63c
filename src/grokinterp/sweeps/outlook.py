"""What a sweep would come to before it is begun: its members, and an estimate of time and disk from a few
steps of a few of them that are made and thrown away. Nothing is written."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ..errors import GrokinterpError
from ..runs.many import cores
from ..runs.outlook import Outlook, outlook
from .grid import Member

_MEASURED = 6
"""Members of which steps are measured."""
_RESUME_STATES = 3
"""Sizes of a snapshot that a state to resume from takes: weights and two moments."""


@dataclass(frozen=True)
class SweepOutlook:
    """What a sweep would come to.

    Attributes:
        members: their names, in order.
        seconds: an estimate of all steps of all members on this machine, `workers` at once and without those
            that end early; NaN where no step could be measured.
        bytes: an estimate of what they take on the disk, scheduled snapshots and the state to resume from.
        workers: how many train at once.
        measured: of which members steps were measured, for the others their mean is taken.
    """

    members: tuple[str, ...]
    seconds: float
    bytes: int
    workers: int
    measured: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON; an unknown estimate is None."""
        return {
            **asdict(self),
            **{"members": list(self.members), "measured": list(self.measured)},
            "seconds": None if math.isnan(self.seconds) else self.seconds,
        }


def sweep_outlook(members: Mapping[str, Member], workers: int | None = None) -> SweepOutlook:
    """What the members would come to, of some that are spread over the grid.

    Args:
        members: of a sweep; at least one.
        workers: how many train at once; by default as many as there are cores.

    Raises:
        ConfigError, Diverged: none of those that were tried can be trained; that of the first is raised.
    """
    names, workers = list(members), workers or cores()
    n = min(_MEASURED, len(names))
    chosen = list(dict.fromkeys(names[round(i * (len(names) - 1) / max(1, n - 1))] for i in range(n)))
    found: dict[str, Outlook] = {}
    errors = []
    for name in chosen:
        try:
            found[name] = outlook(members[name].config)
        except GrokinterpError as error:
            errors.append(error)
    if not found:
        raise errors[0]
    per_step = statistics.mean(each.seconds / max(1, each.steps) for each in found.values())
    size = statistics.mean(each.snapshot_bytes for each in found.values())
    steps = saved = 0
    for member in members.values():
        config = member.config
        steps += config.training.steps
        saved += len(config.snapshots.steps(config.training.steps)) + _RESUME_STATES
    at_once = max(1, min(workers, len(names)))
    return SweepOutlook(tuple(names), steps * per_step / at_once, round(saved * size), at_once, tuple(found))
