"""A run without most of its snapshots: by a rule, or with those alone from which its phases are told."""

from __future__ import annotations

import bisect
from collections.abc import Iterable
from contextlib import suppress

from ..errors import NotApplicable, UsageError
from ..runs import Run
from ..runs.thinning import RULES, Thinned, thin_to
from .dataset import replay
from .descent import has_plateaus, plateaus
from .phases import phases


def thin(
    run: Run, keep: str | Iterable[int], *, dry_run: bool = False, progress: bool | None = None
) -> Thinned:
    """Removes snapshots of a run for good, never the last, and what was measured of them.

    The run stays one: its record says what was removed, every file that is left matches its hash, and a run
    that is not finished goes on as it would have, saving snapshots as its schedule says.

    Args:
        run: the run; open it again afterwards, as this one shows what there was.
        keep: "every:N" is every N-th snapshot; "log" or "log:N" those nearest to N steps (by default 20) that
            are evenly spread on a log axis; "phases" the first, and those between which the boundaries of
            phases and plateaus lie, with their neighbours, for which the run is replayed; or committed steps.
        dry_run: whether to say only what would go; nothing is removed.
        progress: whether the replay shows a progress bar on stderr; by default where that is a terminal.

    Raises:
        UsageError: there is no such rule, or it needs steps or phases that are not known.
        NoSuchSnapshot: the run has no snapshot, or none at one of the steps.
        RunLocked: it is being trained.
        WriteFailed: the disk is full or read-only; thin it again.
    """
    if keep == "phases":
        return thin_to(run.path, boundary_steps(run, progress), "phases", dry_run)
    return thin_to(run.path, keep, dry_run=dry_run)


def boundary_steps(run: Run, progress: bool | None = None) -> list[int]:
    """The first and the last snapshot, those within the intervals of the boundaries of phases and plateaus,
    and one at either side, so that what lies between two that differ does so still.

    Raises:
        UsageError: none were found, or steps are not known.
        NoSuchSnapshot: the run has no snapshot.
    """
    run.resolve(-1)
    if not all(map(run.step_known, run.steps)):
        raise UsageError(f"{run.path} has snapshots of which the step is not known: choose --keep every:N")
    found = phases(replay(run, progress=progress), run.history)
    intervals = [(boundary.after, boundary.by) for boundary in found.boundaries]
    if has_plateaus(run):
        with suppress(NotApplicable):
            for plateau in (plateau for course in plateaus(run) for plateau in course.plateaus):
                intervals += [(end, end) for end in (plateau.first, plateau.left or plateau.last)]
    if not intervals:
        raise UsageError(f"{run.path}: no phases were found ({found.sentence}): choose {RULES}")
    kept = {run.steps[0], run.steps[-1]}
    for after, by in intervals:
        first, last = bisect.bisect_left(run.steps, after), bisect.bisect_right(run.steps, by)
        kept.update(run.steps[max(0, first - 1) : last + 1])
    return sorted(kept)
