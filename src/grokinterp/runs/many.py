"""Many runs at once, each into a directory of its own that does not know of the others."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import ExitStack, closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from ..asked import PATH, asks, got, got_instead, is_whole
from ..errors import ConfigError, GrokinterpError, Interrupted, NotARun, SomeFailed, UsageError, nearest
from ..models import Weights
from ..progress import bars
from ..tasks import TASKS
from ..training import BatchedTrainer, Snapshot, State, TrainConfig, Trainer, kind, resolve_device
from . import pool
from .files import folder_named, refuse_unwritable
from .loggers import Log, named_loggers
from .run import Run
from .seeds import directory_of, members_of, seeds_of, starts_of
from .train import Showing, Stop, Writer, in_words, is_finished, on_signals, train_in
from .transfer import Source, Start, started

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


@asks("gi.train_many", out=PATH)
def train_many(
    configs: TrainConfig | Sequence[TrainConfig] | Mapping[str, TrainConfig],
    out: str | Path,
    *,
    seeds: str | Iterable[int] | None = None,
    start: Start | Mapping[str, Start] | None = None,
    workers: int | None = None,
    resume: bool = True,
    log: Log = (),
    progress: bool | None = None,
) -> list[Run]:
    """Trains every configuration into a directory of its own inside `out`; goes on where an earlier call
    stopped.

    Each becomes the ordinary run that `train` makes of it, and either goes on with what the other began. On a
    CPU the runs are trained by processes of one thread each, in the order given, and come out byte for byte
    as they would alone; their `threads` has no say in how many train at once. On a CUDA device those that
    differ in their seeds alone are one program over stacked weights, and come out as they would alone up to
    rounding (`training.batched`); that was tested on CPUs, and has not run on a GPU yet.

    Args:
        configs: by the names of their directories; or a sequence, of which that with seed 3 gets the
            directory `seed_3`; or, with `seeds`, the one that all of them share.
        out: the directory that holds those of the runs; made if it is not there. Others may lie beside them.
        seeds: of one configuration, each for a run `seed_0` and so on: "0..31" (both included), "0,3,7", or
            whole numbers.
        start: what all runs start from, as for `train`; or what each starts from, by the names of their
            directories. With `seeds`, a directory of runs `seed_0` and so on means for each that of its own.
        workers: how many train at once on a CPU; by default as many as the cores that this process may use.
        resume: whether runs that are already there may be continued; if not, they are refused and nothing is
            trained.
        log: loggers as for `train`, by their names; each run is one of its own there.
        progress: whether to show how far they are on stderr; by default where that is a terminal.

    Returns:
        The runs, in the order of the configurations.

    Raises:
        UsageError: no configurations, two for one directory, seeds that would make one and the same run, or
            (NotARun, ConfigError) a directory that holds something else.
        SomeFailed: some failed or their processes died; the others were trained all the same.
        Interrupted: by SIGINT or SIGTERM; what was trained is saved, and the same call goes on from there.
    """
    out, loggers = folder_named(out), names_of_loggers(log)
    if seeds is not None:
        if not isinstance(configs, TrainConfig):
            raise UsageError("seeds: needs one configuration, which is trained with each of them")
        wanted = seeds_of(seeds)
        if start is not None and not isinstance(start, Mapping):
            start = starts_of(configs, wanted, start)
        configs = members_of(configs, wanted)
    elif isinstance(configs, TrainConfig):
        raise UsageError("configs is one TrainConfig: needs a list of them, names and them, or seeds")
    members, sources = _started(_members(configs), out, start)
    refuse_no_workers(workers)
    refuse_together(members, out)
    _refuse_untrainable(members, out, sources)
    waiting = {name: one for name, one in members.items() if not is_finished(one, out / name, resume)}
    if waiting:
        refuse_unwritable(out)
    stop = Stop()
    done = len(members) - len(waiting)
    with on_signals(stop), bars(progress) as bar:
        display = _Display(bar, members, done)
        work = Work(waiting, out, resume, sources, stop, display, loggers)
        failures, more = work.done_by(here(workers))
    done += more
    failures = {name: failures[name] for name in members if name in failures}
    and_failed = "".join(f"; {name}: {error}" for name, error in failures.items())
    if stop.asked and done + len(failures) < len(members):
        ends_at = f"interrupted, {done} of {len(members)} runs finished{and_failed}"
        raise Interrupted(f"{ends_at}; nothing is lost: run the same command again to go on")
    if failures:
        others = ", the others are finished" if len(failures) < len(members) else ""
        what = f"{len(failures)} of {len(members)} runs failed{others}{and_failed}"
        raise SomeFailed(what, failures)
    return [Run(out / name) for name in members]


def _device_type(config: TrainConfig) -> str:
    return resolve_device(config.device).type


Sources = Mapping[str, Source | None]
"""The weights that each run starts from; None for none, or where it has begun and they are gone."""
Ends = Generator[tuple[str, GrokinterpError | None], None, None]
"""The names of runs as they end, with the error of those that failed."""


_MOST_TOGETHER = 128
"""Each holds three open files, and a process may have 1,024 of them."""


@runtime_checkable
class Watching(Protocol):
    """What is told how far runs have come."""

    shown: bool
    """Whether it wants to know of their steps."""

    def show(self, name: str, step: int, metrics: Mapping[str, float]) -> None:
        """A run was evaluated."""

    def end(self, name: str, error: GrokinterpError | None) -> None:
        """A run has ended, or failed."""


@dataclass(frozen=True)
class Work:
    """Runs that are left to train, what each starts from, whether they are to stop, what is told of them, and
    what logs them."""

    configs: Mapping[str, TrainConfig]
    out: Path
    resume: bool
    sources: Sources
    stop: Stop
    display: Watching
    log: Sequence[str] = ()

    def done_by(self, engine: Engine) -> tuple[dict[str, GrokinterpError], int]:
        """Those that failed, and how many did not; of what was interrupted neither."""
        failures: dict[str, GrokinterpError] = {}
        done = 0
        with closing(engine(self)) as ends:
            for name, error in ends:
                self.display.end(name, error)
                if error is None:
                    done += 1
                elif not (self.stop.asked and isinstance(error, Interrupted)):
                    failures[name] = error
        return failures, done

    def jobs(self) -> dict[str, dict[str, Any]]:
        """What another process needs to know of each run."""
        return {
            name: pool.job(
                config, self.out / name, self.resume, self.display.shown, self.sources[name], self.log
            )
            for name, config in self.configs.items()
        }

    def in_processes(self, workers: int) -> Ends:
        """Trains in worker processes, one run in each at a time."""
        names, jobs = list(self.configs), list(self.jobs().values())
        with closing(pool.answers(jobs, workers, lambda: self.stop.asked)) as answers:
            for number, answer in answers:
                if "warning" in answer:
                    warnings.warn(answer["warning"], stacklevel=4)
                elif "step" in answer:
                    self.display.show(names[number], answer["step"], answer["metrics"])
                else:
                    yield names[number], pool.error_of(answer)

    def one_by_one(self, names: Iterable[str]) -> Ends:
        """Trains in this process, one run after the other."""
        for name in names:
            if self.stop.asked:
                return
            path, config, source = self.out / name, self.configs[name], self.sources[name]
            showing = self._showing(name)
            try:
                watching = self.stop.watching
                train_in(path, config, self.resume, watching, showing, source=source, log=self.log)
            except GrokinterpError as error:
                yield name, error
            else:
                yield name, None

    def _showing(self, name: str) -> Showing:
        """What tells of the snapshots of a run as they come."""

        def show(snapshot: Snapshot) -> None:
            if snapshot.metrics is not None:
                self.display.show(name, snapshot.step, snapshot.metrics)

        return lambda: nullcontext(show)

    def stacked(self) -> Ends:
        """Trains in this process: those that differ in seeds alone together, `_MOST_TOGETHER` at a time."""
        groups: dict[str | None, list[str]] = {}
        for name, config in self.configs.items():
            groups.setdefault(kind(config), []).append(name)
        yield from self.one_by_one(groups.pop(None, []))
        for names in groups.values():
            for first in range(0, len(names), _MOST_TOGETHER):
                yield from self._together(names[first : first + _MOST_TOGETHER])

    def _together(self, names: Sequence[str]) -> Ends:
        """Trains one stack; where its members were left at different steps, one for each of these."""
        with ExitStack() as written:
            writers: dict[str, Writer] = {}
            by_step: dict[int, dict[str, State | None]] = {}
            weights: dict[str, Weights | None] = {}
            for name in names:
                config, source = self.configs[name], self.sources[name]
                try:
                    writers[name] = written.enter_context(self._writer(name))
                    state = writers[name].resume_state()
                    weights[name] = source.weights() if source and state is None else None
                    if state is None and config.start and source is None:
                        Trainer(config)  # which says that they are needed
                except GrokinterpError as error:
                    yield name, error
                    continue
                by_step.setdefault(state.data["step"] if state else 0, {})[name] = state
            for states in by_step.values():
                if self.stop.asked:
                    return
                yield from self._one_stack(states, weights, writers)

    def _writer(self, name: str) -> Writer:
        return Writer(self.out / name, self.configs[name], self.resume, self.log)

    def _one_stack(
        self,
        states: Mapping[str, State | None],
        weights: Mapping[str, Weights | None],
        writers: Mapping[str, Writer],
    ) -> Ends:
        """Trains members that stand at the same step."""
        names = list(states)
        configs, begun = [self.configs[name] for name in names], [weights[name] for name in names]
        batch = BatchedTrainer(configs, list(states.values()), begun)
        self.stop.watch(batch.members)
        for number, event in batch:
            name, writer, trainer = names[number], writers[names[number]], batch.members[number]
            if not isinstance(event, Snapshot):
                yield name, writer.diverged(event)
                continue
            writer.commit(event, trainer)
            if event.metrics is not None:
                self.display.show(name, event.step, event.metrics)
            if event.last:
                yield name, None
            elif trainer.paused:
                writer.save_resume_state(trainer)
                batch.drop(number)


Engine = Callable[[Work], Ends]
"""Where runs are trained."""


def here(workers: int | None = None) -> Engine:
    """On this machine: in so many processes of one thread each, or stacked on a CUDA device."""

    def engine(work: Work) -> Ends:
        device = _device_type(next(iter(work.configs.values()))) if work.configs else "cpu"
        if device == "cpu":
            return work.in_processes(workers or cores())
        return work.stacked() if device == "cuda" else work.one_by_one(list(work.configs))

    return engine


def cores() -> int:
    """How many CPU cores this process may use; macOS knows no affinity."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _members(configs: Sequence[TrainConfig] | Mapping[str, TrainConfig]) -> dict[str, TrainConfig]:
    """The configurations by the names of their directories."""
    if not isinstance(configs, (Sequence, Mapping)):
        needed = "needs a TrainConfig, a list of them, or names and TrainConfigs"
        raise UsageError(f"gi.train_many: configs: {needed}, got {got_instead(configs)}")
    if not configs:
        raise UsageError("nothing to train: there are no configurations")
    for config in configs.values() if isinstance(configs, Mapping) else configs:
        if not isinstance(config, TrainConfig):
            raise UsageError(
                f"gi.train_many: configs: one of them is no TrainConfig but {got_instead(config)}"
            )
    if not isinstance(configs, Mapping):
        named: dict[str, TrainConfig] = {}
        for config in configs:
            if (name := directory_of(config.seed)) in named:
                remedy = "give them names, as {'name': configuration}"
                raise UsageError(f"two configurations have seed {config.seed}: {remedy}")
            named[name] = config
        return named
    for name in configs:
        refuse_no_name(name)
    return dict(configs)


def refuse_no_name(name: object, *taken: str) -> None:
    """Refuses what is no name for the directory of a run among others, or is `taken` by another file."""
    # "a/b" and "a" could be one inside the other, "a/" and "a" the same.
    is_one_word = isinstance(name, str) and Path(name).name == name and name.isprintable()
    if not is_one_word or name in ("", "..", *taken):
        raise UsageError(f"{name!r} is no name for the directory of a run: needs one without '/'")


def refuse_no_workers(workers: int | None) -> None:
    """Refuses what is no number of processes; None is as many as there are cores."""
    if workers is not None and not (is_whole(workers) and workers >= 1):
        raise UsageError(f"workers={got(workers)}: needs a whole number from 1")


def names_of_loggers(log: Log) -> list[str]:
    """The loggers of runs that other processes train, which are told them by their names.

    Raises:
        UsageError: one is a function; there is none of that name, or what it needs is not installed.
    """
    loggers = named_loggers(log)
    if any(map(callable, loggers)):
        raise UsageError("log: needs names here, as runs are trained by other processes")
    return list(map(str, loggers))


def _started(
    members: Mapping[str, TrainConfig], out: Path, start: Start | Mapping[str, Start] | None
) -> tuple[dict[str, TrainConfig], Sources]:
    """The configurations with what they start from filled in, and where its weights are."""
    each = start if isinstance(start, Mapping) else {} if start is None else dict.fromkeys(members, start)
    if unknown := [name for name in each if name not in members]:
        near = nearest(str(unknown[0]), members)
        raise UsageError(f"start has {unknown[0]!r}, and no configuration is named so{near}")
    configs, sources = {}, {}
    for name, config in members.items():
        configs[name], sources[name] = started(config, out / name, each.get(name))
    return configs, sources


def refuse_together(members: Mapping[str, TrainConfig], out: Path) -> None:
    """Says why these cannot be trained at once, or into that directory.

    Raises:
        NotARun: it holds a run.
        ConfigError: they need several kinds of device; or a task that other processes cannot find.
    """
    if (out / "run.json").exists():
        raise NotARun(f"{out} holds a run itself: choose another directory for those of several")
    kinds = {_device_type(config): name for name, config in members.items()}
    if len(kinds) > 1:
        both = " and ".join(f"{name} on {kind}" for kind, name in sorted(kinds.items()))
        needed = "runs that are trained at once need the same kind of device"
        raise ConfigError(f"device: {needed}, and here are {both}")
    for name, config in members.items():
        if TASKS[config.task["name"]].__module__ == "__main__":
            raise ConfigError(
                f"task.name: {config.task['name']!r} ({name}) is defined in the script itself, where other "
                "processes cannot find it: move it to a module that the script imports"
            )


def _refuse_untrainable(members: Mapping[str, TrainConfig], out: Path, sources: Sources) -> None:
    """Makes each configuration's trainer, but for seeds, before any is trained; what is wrong is raised."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the training itself warns
        alike = {
            config.model_copy(update={"seed": 0, "start": None}).model_dump_json(): name
            for name, config in members.items()
        }
        for name in alike.values():
            source = sources[name]
            if source is not None:
                Trainer(members[name], weights=source.weights())
            elif members[name].start is None or not (out / name / "run.json").exists():
                Trainer(members[name])


class _Display:
    """How many runs are finished, and a bar for each that is being trained."""

    def __init__(self, bar: Progress | None, members: Mapping[str, TrainConfig], done: int) -> None:
        self.shown = bar is not None
        self._bar, self._members = bar, members
        self._tasks: dict[str, TaskID] = {}
        self._all = bar.add_task("", total=len(members), completed=done, what="run") if bar else None

    def show(self, name: str, step: int, metrics: Mapping[str, float]) -> None:
        if self._bar:
            if name not in self._tasks:
                steps = self._members[name].training.steps
                self._tasks[name] = self._bar.add_task("", total=steps, what="step")
            self._bar.update(self._tasks[name], completed=step, description=f"{name}  {in_words(metrics)}")

    def end(self, name: str, error: GrokinterpError | None) -> None:
        if self._bar and self._all is not None:
            self._bar.advance(self._all)
            if (task := self._tasks.pop(name, None)) is not None:
                self._bar.remove_task(task)
