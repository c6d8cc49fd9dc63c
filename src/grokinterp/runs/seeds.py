"""One configuration with several seeds: which are meant, where each starts, and what came of them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..asked import SEEDS, refuse_other
from ..errors import GrokinterpError, UsageError
from ..training import TrainConfig
from .run import Run, load_run
from .transfer import Start, configuration_of, named

_MOST_SEEDS = 10_000


def directory_of(seed: int) -> str:
    """The name of the directory of a run among those that differ in their seed, however many they are."""
    return f"seed_{seed}"


def seeds_of(wanted: str | Iterable[int]) -> list[int]:
    """The seeds of "0..31" (both included), "0,3,7", "0..3,8", or of whole numbers, in order.

    Raises:
        UsageError: it is none of these, names a seed twice, or more than 10,000.
    """
    refuse_other("seeds:", SEEDS, wanted)
    seeds: list[int] = []
    for word in wanted.split(",") if isinstance(wanted, str) else map(str, wanted):
        ends = re.fullmatch(r"\s*(\d+)(?:\.\.(\d+))?\s*", word, re.ASCII)
        if ends is None:
            raise UsageError(f"seeds {wanted!r}: needs whole numbers from 0, such as 0..31 or 0,3,7")
        first, last = int(ends[1]), int(ends[2] or ends[1])
        if last < first:
            raise UsageError(f"seeds {wanted!r}: {word.strip()} ends before it begins")
        if len(seeds) + last - first >= _MOST_SEEDS:
            raise UsageError(f"seeds {wanted!r}: at most {_MOST_SEEDS:,} seeds can be trained at once")
        seeds += range(first, last + 1)
    if not seeds:
        raise UsageError("nothing to train: there are no seeds")
    if len(set(seeds)) < len(seeds):
        twice = next(seed for seed in seeds if seeds.count(seed) > 1)
        raise UsageError(f"seeds {wanted!r}: seed {twice} is there twice")
    return seeds


def members_of(config: TrainConfig, seeds: Sequence[int]) -> dict[str, TrainConfig]:
    """The configuration with each of the seeds, by the names of their directories."""
    return {directory_of(seed): TrainConfig.make(config.model_dump(), seed=seed) for seed in seeds}


def starts_of(config: TrainConfig, seeds: Sequence[int], start: Start) -> dict[str, Start]:
    """What the run of each seed starts from: that of its own seed, where `start` is a directory of such runs.

    Raises:
        UsageError: all would start from one snapshot and train on the full batch, and so be the same run.
    """
    starts = {directory_of(seed): start_of(start, seed) for seed in seeds}
    one = all(each == start for each in starts.values())
    if one and len(seeds) > 1 and config.training.batch_size is None:
        raise UsageError(
            f"several seeds that start from {start}: these runs would be one and the same, as the initial "
            "weights are the snapshot's and a full batch needs no seed; set training.batch_size, or give a "
            "directory of runs seed_0 and so on"
        )
    return starts


def start_of(start: Start, seed: int) -> Start:
    """The run of this seed, where `start` names a directory that holds several; else `start` itself."""
    if not isinstance(start, str | Path):
        return start
    place, step = named(start)
    if (place / "run.json").exists() or not place.is_dir():
        return start
    return str(place / directory_of(seed)) + ("" if step is None else f"@{step}")


def shared_configuration(start: Start, seeds: Sequence[int], out: Path) -> TrainConfig:
    """What the run to start from was trained with, where there are several the first; without seeds, that of
    the one run in `out`.

    Raises:
        NotARun: there is no such run, and none has begun from it.
    """
    if not seeds:
        return configuration_of(start, out)
    return configuration_of(start_of(start, seeds[0]), out / directory_of(seeds[0]))


def summary(run: Run) -> dict[str, Any]:
    """The last evaluation, how many snapshots there are, and why training stopped."""
    last = {name: value for name, value in run.last_evaluation.items() if name != "grad_norm"}
    return {**last, "snapshots": len(run.steps), "reason": run.ended}


@dataclass(frozen=True)
class Outcome:
    """What came of one seed."""

    seed: int
    path: Path
    run: Run | None
    """None where it left none that can be read."""
    error: GrokinterpError | None

    def to_dict(self) -> dict[str, Any]:
        """Seed, directory, the last evaluation, how it ended; plain JSON."""
        row: dict[str, Any] = {"seed": self.seed, "run": str(self.path)}
        if self.run is not None:
            row |= summary(self.run)
        return row | ({"error": str(self.error)} if self.error else {})


def outcomes(out: Path, seeds: Sequence[int], failures: Mapping[str, GrokinterpError]) -> list[Outcome]:
    """What came of each seed in a directory of several.

    Args:
        out: the directory of their runs.
        seeds: in their order.
        failures: of those that failed, as `SomeFailed` has them. What failed may have left no run, or a
            damaged one.
    """
    of_each = []
    for seed in seeds:
        path, run, error = out / directory_of(seed), None, failures.get(directory_of(seed))
        try:
            run = load_run(path)
        except GrokinterpError as unreadable:
            error = error or unreadable
        of_each.append(Outcome(seed, path, run, error))
    return of_each
