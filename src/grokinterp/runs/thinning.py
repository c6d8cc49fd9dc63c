"""Fewer snapshots of a run: some are removed for good, and run.json says which.

The manifest keeps the line of every snapshot that ever was, with its hash. That run.json names some of them
as removed is the whole commit: before it the run is as it was, after it a thinner one, and what a kill has
left of the files goes the next time. Nothing that training needs is touched: a run that goes on saves the
same snapshots from there as if none had been removed. The same rule again removes nothing more.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..errors import UsageError
from . import files
from .account import Account
from .record import write_record

_OF_LOG = 20
RULES = "every:10 (every tenth snapshot), log (20 snapshots, evenly spread on a log axis of steps), log:50"
"""What `remaining` takes, in words."""


@dataclass(frozen=True)
class Thinned:
    """What thinning a run removes, or has removed.

    Attributes:
        kept, removed: the steps of snapshots that stay, and of those that go.
        bytes: of the files that go: snapshots, and what was measured of them.
        goes_on: whether the run is not finished, so that more snapshots may come, as its schedule says.
    """

    kept: tuple[int, ...]
    removed: tuple[int, ...]
    bytes: int
    goes_on: bool

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self)


def remaining(account: Account, keep: str) -> list[int]:
    """The steps that a rule keeps of those that there are, in order: always the last.

    Args:
        account: the run, with a snapshot at least.
        keep: "every:N" is every N-th of the snapshots that there ever were, from the first on; "log" or
            "log:N" those nearest to N steps (by default 20) that are evenly spread on a log axis, fewer where
            these coincide.

    Raises:
        UsageError: it is no such rule, or goes by steps that are not known.
    """
    rule = re.fullmatch(r"every:([1-9]\d*)|log(?::([1-9]\d*))?", keep.strip(), re.ASCII)
    if rule is None or rule[2] == "1":
        raise UsageError(f"--keep {keep!r}: needs {RULES}, or phases")
    steps = account.steps
    if rule[1]:
        ever = sorted({*steps, *account.removed})  # so that the same rule again keeps the same
        return [step for step in steps if step in {*ever[:: int(rule[1])], steps[-1]}]
    if not all(map(account.step_known, steps)):
        what = f"{account.path} has snapshots of which the step is not known"
        raise UsageError(f"{what}, so they cannot be spread by it: choose --keep every:N")
    number, at = int(rule[2] or _OF_LOG), {step: math.log1p(step) for step in steps}
    first, last = at[steps[0]], at[steps[-1]]
    wanted = [first + i * (last - first) / (number - 1) for i in range(number)]
    return sorted({min(steps, key=lambda step: abs(at[step] - place)) for place in wanted})


def thin_to(path: Path, steps: Iterable[int] | str, rule: str = "", dry_run: bool = False) -> Thinned:
    """Removes the snapshots of a run but those at some steps and the last, and what was measured of them.

    Args:
        path: the run directory.
        steps: committed steps, or a rule of `remaining`.
        rule: how the choice is called in run.json; by default the rule, or "steps".
        dry_run: whether to say only what would go; nothing is written.

    Raises:
        UsageError: see `remaining`.
        NoSuchSnapshot: the run has none, or none at one of the steps.
        RunLocked: another process trains in this directory.
        WriteFailed: the disk is full or read-only; the run is as it was, or thinned in part: thin it again.
    """
    rule = rule or (steps if isinstance(steps, str) else "steps")
    if dry_run:
        return _choice(Account(path), steps)[0]

    def busy(holder: str) -> str:
        return f"{path} is locked by {holder}, which may be training it: thin it when that has ended"

    Account(path)  # a directory that holds no run gets no lock
    with files.locked(path, busy):
        account = Account(path)
        choice, leaving = _choice(account, steps)
        if choice.removed:
            removed = sorted({*account.removed, *choice.removed})
            rules = list(dict.fromkeys([*(account.thinned or {"rules": []})["rules"], rule]))
            write_record(path, account.record | {"thinned": {"removed": removed, "rules": rules}})
        for folder in {file.parent for file in leaving}:
            with files.writing(folder):
                for file in leaving:
                    if file.parent == folder:
                        file.unlink(missing_ok=True)
                files.sync_folder(folder)
    return choice


def _choice(account: Account, steps: Iterable[int] | str) -> tuple[Thinned, Sequence[Path]]:
    """What goes, and the files that do, with those that an earlier call was killed before it removed."""
    account.resolve(-1)  # which says why there is no snapshot
    kept = set(remaining(account, steps) if isinstance(steps, str) else map(account.resolve, steps))
    kept.add(account.steps[-1])
    removed = [step for step in account.steps if step not in kept]
    gone = [*account.removed, *removed]
    leaving = [
        account.path / folder / f"step_{step:08d}.safetensors"
        for step in gone
        for folder in ("snapshots", "replay")
    ]
    size, there = 0, []
    for file in leaving:
        with suppress(FileNotFoundError, NotADirectoryError):
            size += file.stat().st_size
            there.append(file)
    goes_on = account.ended is None and account.imported is None
    return Thinned(tuple(sorted(kept)), tuple(removed), size, goes_on), there
