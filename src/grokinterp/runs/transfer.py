"""Weights of another run as the initial ones: which snapshot is meant, whether its network fits the new
task, and what is recorded of it.

What counts is the snapshot's hash, written into the new run's configuration: a run that is resumed from
another start is refused, and once a resume state is written the source is not needed any more.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from ..asked import PATH, got_instead, refuse_other
from ..errors import ConfigError, DamagedFile, NotARun, UsageError
from ..models import Weights
from ..tasks import Task
from ..training import StartConfig, TrainConfig
from .account import at_step, read_run_json
from .run import Run

Start: TypeAlias = "Run | tuple[Run, int] | str | Path"
"""A run, of which the last snapshot is meant; a run and a step (negative: from the end); or "RUN" or
"RUN@step" as text."""


@dataclass(frozen=True)
class Source:
    """The snapshot that a run starts from, on the disk."""

    path: Path
    step: int
    sha256: str

    def weights(self) -> Weights:
        """What the snapshot holds.

        Raises:
            DamagedFile: it does not match its recorded hash, or is no longer the one that was meant.
        """
        run = Run(self.path)
        if run.sha256(self.step) != self.sha256:
            what = f"other weights at step {self.step} than when this training was asked for"
            raise DamagedFile(f"{self.path} has {what}: start again")
        return run.state_dict(self.step)


def started(config: TrainConfig, out: Path, start: Start | None) -> tuple[TrainConfig, Source | None]:
    """The configuration with its start filled in, and where its weights are; no place, where the run in `out`
    has begun and they are gone.

    Without a `start` the configuration is as it was. A run without a step means its last snapshot; or, where
    `out` began from an earlier one of the same run, that one: so the same command goes on although the source
    was trained on.

    Raises:
        NotARun, NoSuchSnapshot: there is no such run or snapshot.
        ConfigError: its tokens, answers or weights are not those of the configuration's task and network.
    """
    if start is None:
        return config, None
    place, step = _meant(start)
    begun = _begun_from(out)
    try:
        run = place if isinstance(place, Run) else Run(place)
    except NotARun:
        if begun is None or isinstance(place, Run) or step not in (None, begun.step):
            raise
        if begun.run != place.resolve().name:
            raise
        return config.model_copy(update={"start": begun}), None
    if step is None and begun is not None and begun.step in run.steps:
        step = begun.step if run.sha256(begun.step) == begun.sha256 else None
    step = run.resolve(-1 if step is None else step)
    _refuse_another_vocabulary(run, config.make_task())
    _refuse_another_network(run, config)
    path, sha256, is_last = run.path.resolve(), run.sha256(step), step == run.steps[-1]
    record = StartConfig(run=path.name, step=step, sha256=sha256, task=run.config.task, last=is_last)
    return config.model_copy(update={"start": record}), Source(path, step, sha256)


def _meant(start: Start) -> tuple[Run | Path, int | None]:
    """The run, or its directory, and the step where one is named."""
    match start:
        case Run():
            return start, None
        case (Run() as run, int() as step):
            return run, step
        case str() | Path():
            return named(start)
    needed = "a run, (run, step), or text such as 'runs/addition@2000'"
    raise UsageError(f"start: needs {needed}, got {got_instead(start)}")


def named(start: str | Path) -> tuple[Path, int | None]:
    """Directory and step of "RUN@step"; without one None. A directory so named is itself."""
    if not str(start).strip():
        raise UsageError("start: needs a run directory, such as RUN or RUN@1000")
    refuse_other("start:", PATH, start)
    return at_step(start)


def configuration_of(start: Start, out: Path) -> TrainConfig:
    """What a run to start from was trained with; where it is gone and the run in `out` has begun from it,
    what that is trained with.

    Raises:
        NotARun: there is no such run, and none has begun.
    """
    place, _ = _meant(start)
    try:
        return place.config if isinstance(place, Run) else Run(place).config
    except NotARun:
        if not (out / "run.json").exists():
            raise
        return Run(out).config


def _begun_from(out: Path) -> StartConfig | None:
    """What the run in a directory started from; None where there is none, or it started from nothing."""
    if not (out / "run.json").exists():
        return None
    return TrainConfig.make(read_run_json(out)["config"]).start


def _refuse_another_vocabulary(run: Run, task: Task) -> None:
    for what, mine in task.vocabulary.items():
        theirs = run.task.vocabulary[what]
        if mine == theirs:
            continue
        if len(mine) != len(theirs):
            odd = f"{len(mine):,} {what}s here, {len(theirs):,} there"
        else:
            i = next(i for i in range(len(mine)) if mine[i] != theirs[i])
            odd = f"{what} {i} is {mine[i]!r} here and {theirs[i]!r} there"
        raise ConfigError(
            f"{task.name} cannot start from {run.path}, which learned {run.task.symbol}: they do not have "
            f"the same vocabulary ({odd}); choose a task of the same elements and layout"
        )


def _refuse_another_network(run: Run, config: TrainConfig) -> None:
    mine = config.model.shapes(config.make_task().reads)
    theirs = run.config.model.shapes(run.task.reads)
    if mine != theirs:
        odd = [name for name in {**mine, **theirs} if mine.get(name) != theirs.get(name)]
        first = odd[0]
        shapes = [str(list(known[first])) if first in known else "absent" for known in (mine, theirs)]
        more = f" (and {len(odd) - 1} more)" if len(odd) > 1 else ""
        raise ConfigError(
            f"the network cannot start from {run.path}, whose weights have other names or shapes: {first} "
            f"is {shapes[0]} here and {shapes[1]} there{more}; choose the same [model]"
        )
