"""Training into a run directory: what the trainer yields is committed, and a killed run goes on to the same
bytes.

Order at every recorded step: the resume state (a state from before this step's evaluation), then the line of
metrics, then the snapshot. So whatever was lost by a kill is made again, from a state that is never behind a
commit.
"""

from __future__ import annotations

import json
import os
import re
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, nullcontext, suppress
from functools import partial
from math import nan
from pathlib import Path
from types import TracebackType
from typing import Any

import safetensors.torch

from ..asked import CONFIG, PATH, asks
from ..errors import ConfigError, DamagedFile, Diverged, GrokinterpError, Interrupted, UsageError, WriteFailed
from ..models import Weights
from ..progress import bars
from ..training import Snapshot, State, TrainConfig, Trainer, differences
from ..usual import usual_defaults
from . import files
from .account import EXTENDING, SLOTS, read_run_json, resume_file
from .extension import ANEW, MAY_DIFFER, holding_since, longer, other_ends, refuse_no_further
from .loggers import Log, Loggers, named_loggers
from .processes import shared
from .record import new_record, packed_snapshot, write_record
from .run import Run, read_resume
from .transfer import Source, Start, started

_SECONDS_BETWEEN_RESUME_STATES = 5.0


@asks("gi.train", config=CONFIG, out=PATH)
def train(
    config: TrainConfig, out: str | Path, *, start: Start | None = None, resume: bool = True,
    log: Log = (), progress: bool | None = None
) -> Run:  # fmt: skip
    """Trains until the configuration's end and returns the run; goes on where an earlier call with this
    configuration stopped, or ended after fewer steps.

    Nothing but `training.steps` and `training.stop_when` may then be another (extension.py).

    Args:
        config: what to train.
        out: the run directory; made if it is not there.
        start: a run, (run, step) or "RUN@step", whose weights the network starts from in place of those drawn
            from the seed; without a step the last snapshot. The optimiser is fresh and steps count from 0.
            Recorded as `start` in the run's configuration; the source is not needed again once a resume state
            is written.
        resume: whether a run that is already there may be continued; if not, it is refused and left alone.
        log: what else gets the metrics as they are recorded: "wandb", "tensorboard", "trackio", a function of
            a step and its metrics, or several. Offline, unless the environment asks otherwise; the training
            is the same with and without.
        progress: whether to show a progress bar on stderr; by default where that is a terminal.

    Raises:
        ConfigError: the directory holds a run of another configuration or from another start; what differs is
            named. Or the start has other tokens, answers or shapes of weights than the configuration.
        RunLocked: another process trains in this directory.
        Diverged: the loss became NaN or infinite, now or in an earlier call; the last good snapshot is kept,
            and `run.diverged` knows it.
        NotARun: the directory cannot be one, or holds something else.
        Interrupted: by SIGINT or SIGTERM; the same call goes on from there.
        WriteFailed: the disk is full or read-only; the same call goes on from there.
        UsageError: there is no such logger, or what it needs is not installed.
    """
    loggers = named_loggers(log)
    path = files.folder_named(out)
    config, source = started(config, path, start)
    showing = partial(_progress_bar, config, progress)
    return train_in(path, config, resume, _asked_to_stop, showing, source=source, log=loggers)


Stopping = Callable[[Trainer], AbstractContextManager[None]]
"""Sets `paused` of a trainer while it is open, when training is to stop."""
Showing = Callable[[], AbstractContextManager[Callable[[Snapshot], None]]]
"""Opens what shows how far a training has come."""


@usual_defaults()
def train_in(
    path: Path, config: TrainConfig, resume: bool, stopping: Stopping, showing: Showing,
    threads: int | None = None,
    source: Source | None = None,
    log: Log = (),
) -> Run:  # fmt: skip
    """What `train` does, whoever stops it and looks on; `threads` replaces the configuration's."""
    if is_finished(config, path, resume):
        run = Run(path)
        with closing(Loggers(named_loggers(log), path, run.record["config"], run.evaluations)):
            return run
    files.refuse_unwritable(files.folder_named(path))
    # A configuration that cannot be trained leaves no directory behind. Where a run has begun, what it
    # started from may be gone.
    begun = source is None and config.start is not None and (path / "run.json").exists()
    trainer = None if begun else Trainer(config, weights=source.weights() if source else None)
    with Writer(path, config, resume, log) as writer:
        state = writer.resume_state()
        if trainer is None or state is not None:
            trainer = Trainer(config, state)
        trainer.threads = threads or trainer.threads
        weights = None if state else trainer.weights
        with shared(config, state, weights), stopping(trainer), showing() as show:
            try:
                for snapshot in trainer:
                    writer.commit(snapshot, trainer)
                    show(snapshot)
                    if trainer.paused and not snapshot.last:
                        writer.save_resume_state(trainer)
                        what = f"interrupted at step {snapshot.step}; nothing is lost"
                        raise Interrupted(f"{what}: run the same command again to go on")
            except Diverged as error:
                raise writer.diverged(error) from None
    return Run(path)


def is_finished(config: TrainConfig, path: Path, resume: bool) -> bool:
    """Whether the run of this configuration is there and finished, not to be trained on. Writes nothing.

    Raises:
        UsageError: there is a run and it may not be resumed.
        ConfigError: there is a run of another configuration.
        NotARun: there is something else.
    """
    if not _holds_this_run(config, path, resume):
        return False
    record = read_run_json(path)
    is_longer = other_ends(TrainConfig.make(record["config"]), config)
    return record["finished"] is not None and not is_longer


def _holds_this_run(config: TrainConfig, path: Path, resume: bool) -> bool:
    """Whether there is this run to go on with; False for a new one. Raises what `is_finished` does."""
    with files.reading(path):
        # Looked at before run.json, which another trainer may be about to write, followed by all the rest.
        folders = [one for one in (path, path / "snapshots", path / "resume") if one.is_dir()]
        entries = [entry for folder in folders for entry in folder.iterdir()]
        if (path / "run.json").exists():
            if not resume:
                what = f"{path} already holds a run, and resuming was not wanted"
                raise UsageError(f"{what}: choose another directory")
            record = read_run_json(path)
            if "imported" in record:
                what = f"{path} was imported from {record['imported']['file']} and cannot be trained on"
                raise ConfigError(f"{what}: {ANEW}")
            recorded = TrainConfig.make(record["config"])
            if other_ends(recorded, config):
                if "diverged" not in record:  # of which the writer tells
                    refuse_no_further(path, record, config)
            elif differ := differences(recorded, config):
                others = [key for key in differ if key not in MAY_DIFFER]
                what = "; ".join(_both_values(key, recorded, config) for key in others)
                remedy = "choose another directory, or the same configuration"
                if len(others) < len(differ):
                    remedy += f" but for {' and '.join(MAY_DIFFER)}, with which a run is trained on"
                raise ConfigError(f"{path} holds a run of another configuration: {what}; {remedy}")
            return True
        if files.folder_named(path).exists():
            # What a trainer that was killed before its run.json may have left.
            ours = {path / "lock", path / "snapshots", path / "resume", path / ("run.json" + files.TEMPORARY)}
            foreign = sorted(str(entry.relative_to(path)) for entry in entries if entry not in ours)
            if foreign:
                raise files.no_run_in(path, f" ({foreign[0]} is there)")
    return False


def _both_values(dotted: str, recorded: TrainConfig, asked: TrainConfig) -> str:
    if dotted == "start":
        before, now = (config.start or "weights from the seed" for config in (recorded, asked))
        return f"it started from {before}, and here it is to start from {now}"
    there: Any = recorded.model_dump()
    here: Any = asked.model_dump()
    for part in dotted.split("."):
        there, here = (item.get(part) if isinstance(item, dict) else None for item in (there, here))
    return f"{dotted} is {there!r} there and {here!r} here"


class Writer:
    """The one process that writes a run directory, while it holds the lock."""

    def __init__(self, path: Path, config: TrainConfig, resume: bool, log: Log = ()) -> None:
        self.path = path
        self.config = config
        self._resume, self._log = resume, log

    def __enter__(self) -> Writer:
        with ExitStack() as undo:
            with files.writing(self.path, remedy=files.AGAIN_OR_ELSEWHERE):
                (self.path / "snapshots").mkdir(parents=True, exist_ok=True)
                (self.path / "resume").mkdir(exist_ok=True)
            lock = files.locked(self.path, self._is_locked, self.path / "lock", files.AGAIN_OR_ELSEWHERE)
            self._lock = undo.enter_context(lock)
            # Asked again, now that nobody else can change the answer.
            goes_on = _holds_this_run(self.config, self.path, self._resume)
            if goes_on:
                # Nothing is swept from a run that is damaged, or goes on with another task.
                Run(self.path).refuse_other_examples(self.config.make_task())
            self._sweep_temporary_files()
            self.record = read_run_json(self.path) if goes_on else self._new_record()
            self._manifest = undo.enter_context(closing(files.Log(self.path / "manifest.jsonl")))
            self._metrics = undo.enter_context(closing(files.Log(self.path / "metrics.jsonl")))
            self._refuse_what_diverged()
            self._slot = 0
            self._go_further()
            self._sweep_uncommitted_snapshots()
            loggers = named_loggers(self._log)
            recorded = self.record["config"], self._metrics.records
            self._loggers = undo.enter_context(closing(Loggers(loggers, self.path, *recorded)))
            self._close = undo.pop_all()
        self._saved_at = time.monotonic()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close.close()

    def _is_locked(self, holder: str) -> str:
        return f"{self.path} is locked by {holder}: wait for it, stop it, or choose another directory"

    def _refuse_another_directory(self) -> None:
        """The lock is of a file; once another is in its place, another process may train there."""
        with files.writing(self.path / "lock"):
            if not os.path.samestat(os.stat(self.path / "lock"), os.fstat(self._lock)):
                why = "it was removed and made anew since this training began in it"
                raise WriteFailed(f"cannot write {self.path}: {why}")

    def _refuse_what_diverged(self) -> None:
        if (divergence := self.record.get("diverged")) is not None:
            step, what = divergence["step"], divergence["what"]
            why = f"{self.path} diverged at step {step}: {what}; it is not trained on"
            remedy = "choose another configuration, such as a smaller training.lr, and another directory"
            raise Diverged(f"{why}: {remedy}; {self.last_good_snapshot}", step, what)

    def _go_further(self) -> None:
        """Makes the run that is there the one that is to be trained, where that only ends elsewhere: what
        extension.py says, in its order."""
        if other_ends(TrainConfig.make(self.record["config"]), self.config):
            state = self.resume_state()
            if state is None:  # killed before its first snapshot: it begins anew
                self.record = longer(self.record, self.config)
                write_record(self.path, self.record)
                return
            step = state.data["step"]
            holds = holding_since(self.path, self.config, self._metrics.records, step)
            record = longer(self.record, self.config) | {EXTENDING: {"step": step, "holding_since": holds}}
            write_record(self.path, record)
            self.record = record
        if (begun := self.record.get(EXTENDING)) is not None:
            self._cut_to(begun["step"], begun["holding_since"])
            del self.record[EXTENDING]
            write_record(self.path, self.record)

    def _cut_to(self, step: int, holds: int | None) -> None:
        """Leaves what was recorded before a step, and its snapshot where that is scheduled; a resume state
        that knows so is written before, and is then the only one."""
        state = self.resume_state()
        assert state is not None, "it was there when the run was made the longer one"
        scheduled = self.config.snapshots.steps(self.config.training.steps)
        snapshots = [one["step"] for one in self._manifest.records]
        stay = sum(at < step or (at == step and step in scheduled) for at in snapshots)
        evaluations = sum(one["step"] < step for one in self._metrics.records)
        progress = {**state.data["progress"], "holding_since": holds}
        counts = {"progress": progress, "snapshots": stay, "evaluations": evaluations}
        other = SLOTS[1 - self._slot]
        self._write_state(State(state.tensors, {**state.data, **counts}))
        files.remove(resume_file(self.path, other))
        for gone in snapshots[stay:]:
            files.remove(self.path / "replay" / f"step_{gone:08d}.safetensors")
        self._manifest.cut(stay)
        self._metrics.cut(evaluations)

    def _sweep_temporary_files(self) -> None:
        ours = [self.path / "run.json", *(resume_file(self.path, slot) for slot in SLOTS)]
        temporary = [file.with_name(file.name + files.TEMPORARY) for file in ours]
        for leftover in (*temporary, *self._snapshot_files(files.TEMPORARY)):
            if leftover.exists():
                files.remove(leftover)

    def _sweep_uncommitted_snapshots(self) -> None:
        committed = {record["file"] for record in self._manifest.records}
        for file in self._snapshot_files(""):
            if f"snapshots/{file.name}" not in committed:
                files.remove(file)

    def _snapshot_files(self, suffix: str) -> list[Path]:
        """Files that carry the name of a snapshot; what a user has put beside them is not ours to touch."""
        name = re.compile(r"step_\d{8,}\.safetensors" + re.escape(suffix))
        return [file for file in (self.path / "snapshots").iterdir() if name.fullmatch(file.name)]

    def _new_record(self) -> dict[str, Any]:
        task = self.config.make_task()
        record = new_record(self.config, task, self.config.make_split(task))
        write_record(self.path, record)
        return record

    @property
    def last_good_snapshot(self) -> str:
        """Where the newest snapshot is, in words."""
        if not self._manifest.records:
            return f"no snapshot was saved in {self.path}"
        return f"the last good snapshot is at step {_last_step(self._manifest)} of {self.path}"

    def resume_state(self) -> State | None:
        """The newest state that can be read, or None where the run is to start from the beginning.

        Raises:
            DamagedFile: there are states, and none can be read.
        """
        states, damaged = [], []
        for number, slot in enumerate(SLOTS):
            try:
                packed = read_resume(resume_file(self.path, slot))
            except GrokinterpError as error:  # damaged, or the disk cannot read it
                damaged.append(str(error))
                continue
            if packed is not None:
                states.append((packed[1]["step"], number, State(*packed)))
        if not states:
            if damaged or self._manifest.records:
                what = damaged[0] if damaged else f"{self.path} has snapshots but no resume state"
                left = "the snapshots can be analysed, but this run cannot be continued"
                raise DamagedFile(f"{what}; {left}: {ANEW}")
            return None
        if damaged:
            warnings.warn(f"{damaged[0]}; going on from the other resume state", stacklevel=3)
        _, number, state = max(states, key=lambda item: item[0])
        self._slot = 1 - number
        return state

    def save_resume_state(self, trainer: Trainer) -> None:
        """Writes the trainer's state into the older of the two slots."""
        self._metrics.sync()
        state = trainer.state()
        self._write_state(State(state.tensors, {**state.data, **self._account}))

    def _write_state(self, state: State) -> None:
        unsealed = {"seal": files.UNSEALED}
        data = json.dumps(unsealed | dict(state.data) | unsealed, allow_nan=False)
        # One key only: safetensors writes several in no fixed order.
        packed = safetensors.torch.save(state.tensors, {"grokinterp": data})
        files.replace(resume_file(self.path, SLOTS[self._slot]), files.sealed(packed))
        self._slot = 1 - self._slot
        self._saved_at = time.monotonic()

    def commit(self, snapshot: Snapshot, trainer: Trainer) -> None:
        """Records what the trainer yielded: resume state where due, metrics, snapshot, end of the run."""
        self._refuse_another_directory()
        if snapshot.keep or time.monotonic() - self._saved_at > _SECONDS_BETWEEN_RESUME_STATES:
            self.save_resume_state(trainer)
        if snapshot.metrics is not None and snapshot.step > _last_step(self._metrics):
            self._metrics.append({"step": snapshot.step, **snapshot.metrics})
            self._loggers(snapshot.step, snapshot.metrics)
        if snapshot.keep:
            self._commit_weights(snapshot.step, snapshot.weights)
        if snapshot.last:
            self._finish(snapshot, trainer)

    def _commit_weights(self, step: int, weights: Weights) -> None:
        data, record = packed_snapshot(step, weights)
        if step <= _last_step(self._manifest):
            # Only after falling back to the older resume state: these weights were committed before the newer
            # one was damaged.
            if record not in self._manifest.records:
                what = f"gave other weights at step {step} than those committed"
                why = "torch or the machine has changed: train into another directory"
                raise GrokinterpError(f"{self.path}: training again from an older resume state {what}; {why}")
            return
        files.replace(self.path / record["file"], data)
        self._manifest.append(record)
        self._manifest.sync()

    def _finish(self, snapshot: Snapshot, trainer: Trainer) -> None:
        self._slot = 0
        self.save_resume_state(trainer)
        files.remove(resume_file(self.path, SLOTS[1]))
        is_whole = snapshot.step == self.config.training.steps
        reason = "all steps done" if is_whole else f"{self.config.training.stop_when} was reached"
        self.record["finished"] = {"step": snapshot.step, "reason": reason, **self._account}
        write_record(self.path, self.record)

    def diverged(self, error: Diverged) -> Diverged:
        """Records how the run ended; the error as it is to be told, with what is left."""
        self._refuse_another_directory()
        divergence = {"step": error.step, "what": error.what, **self._account}
        with suppress(WriteFailed):  # then the next call finds it out once more
            self._metrics.sync()
            write_record(self.path, self.record | {"diverged": divergence})
        return Diverged(f"{error}; {self.last_good_snapshot}", error.step, error.what)

    @property
    def _account(self) -> dict[str, int]:
        """How many snapshots and evaluations are written."""
        return {"snapshots": len(self._manifest.records), "evaluations": len(self._metrics.records)}


def _last_step(log: files.Log) -> int:
    return log.records[-1]["step"] if log.records else -1


class Stop:
    """Once called, pauses the trainers that are watched, and every later one. Another thread may call it."""

    def __init__(self) -> None:
        self.asked = False
        self._trainers: Sequence[Trainer] = ()

    def __call__(self) -> None:
        self.asked = True
        self.watch(self._trainers)

    def watch(self, trainers: Sequence[Trainer]) -> None:
        """From now on these are paused when training is asked to stop; at once where it has been."""
        self._trainers = trainers
        if self.asked:  # read only now: whichever of the two comes first, they are paused
            for trainer in trainers:
                trainer.paused = True

    def watching(self, trainer: Trainer) -> AbstractContextManager[None]:
        self.watch([trainer])
        return nullcontext()


def _asked_to_stop(trainer: Trainer) -> AbstractContextManager[None]:
    return on_signals(lambda: setattr(trainer, "paused", True))


@contextmanager
def on_signals(stop: Callable[[], None]) -> Iterator[None]:
    """SIGINT and SIGTERM call `stop`, after which the current step ends; only in the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, lambda *_: stop()) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _progress_bar(config: TrainConfig, wanted: bool | None) -> Iterator[Callable[[Snapshot], None]]:
    """A bar with both losses, both accuracies and the time left; nothing where stderr is no terminal."""
    with bars(wanted) as bar:
        task = bar.add_task("", total=config.training.steps, what="step") if bar else None

        def show(snapshot: Snapshot) -> None:
            if bar and task is not None and snapshot.metrics is not None:
                bar.update(task, completed=snapshot.step, description=in_words(snapshot.metrics))

        yield show


def in_words(metrics: Mapping[str, float]) -> str:
    """The losses and accuracies of an evaluation as a progress bar shows them."""
    loss, accuracy = (
        [metrics.get(f"{part}_{what}", nan) for part in ("train", "test")] for what in ("loss", "accuracy")
    )
    return "loss train {:.2e} test {:.2e}  accuracy train {:.3f} test {:.3f}".format(*loss, *accuracy)
