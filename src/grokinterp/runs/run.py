"""A run directory, read. Safe at any moment of training; every read checks the recorded hash.

run.json                             frozen config, split, versions; sealed
snapshots/step_00000100.safetensors  weights under TransformerLens names
manifest.jsonl                       one line per committed snapshot; appending it is the commit
metrics.jsonl                        one line per evaluation
resume/{a,b}.safetensors             everything that the rest of a run depends on; sealed, alternating
lock                                 held by the trainer; host and pid inside
split.safetensors                    of an imported run that came with its own rows
"""

from __future__ import annotations

import bisect
import hashlib
import json
import os
import re
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import safetensors
import safetensors.torch
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..errors import ConfigError, DamagedFile, GrokinterpError, NoSuchSnapshot, NotARun, UsageError
from ..models import Weights
from ..tasks import Split, Task
from ..training import TrainConfig
from ..view import View
from .files import damaged, read_hashed, read_log, read_sealed

if TYPE_CHECKING:
    import pandas as pd

    from ..models import HookedRootModule

FORMAT = 1
SLOTS = ("a", "b")
_NAMED = 12
"""Runs that an error names of a directory that holds them."""
_RECORD_AND_LOGS = ("run.json", "manifest.jsonl", "metrics.jsonl")
_OWN = {*_RECORD_AND_LOGS, "lock", "split.safetensors", "snapshots", "resume", "replay"}


class Run:
    """The training run in a directory; `gi.load_run` makes it. What was committed when it was opened is what
    it shows.

    Attributes:
        path: the directory.
        config: the frozen configuration.
        finished: how the run ended (`step`, `reason`), or None while it has not, or where it diverged.
        diverged: at which `step` `what` became NaN or infinite, so that the run ended; None where nothing
            did.
        steps: the committed steps, in order.
    """

    def __init__(self, path: str | Path) -> None:
        """Opens a run directory.

        Raises:
            NotARun: there is no run.
            DamagedFile: a file does not match its recorded hash or count.
            ConfigError: it learns a task that is not registered here.
        """
        self.path = Path(path)
        self.record = read_run_json(self.path)
        try:
            self.config = TrainConfig.make(self.record["config"])
        except ConfigError as error:
            raise ConfigError(f"{self.path}: {error}") from None
        self.finished: dict[str, Any] | None = self.record["finished"]
        self.diverged: dict[str, Any] | None = self.record.get("diverged")
        # Before the logs, which only ever grow: they must hold at least what the resume state counted.
        expected = self.finished or self.diverged or _newest_account(self.path)
        self._committed = self._log("manifest.jsonl", expected.get("snapshots"))
        self._evaluated = self._log("metrics.jsonl", expected.get("evaluations"))
        self._records = {record["step"]: record for record in self._committed}
        self.steps: list[int] = sorted(self._records)

    def __repr__(self) -> str:
        state = f"finished: {self.finished['reason']}" if self.finished else self.ended or "not finished"
        last = f" up to {self.step_text(self.steps[-1])}" if self.steps else ""
        return f"<Run {self.path}: {self.task.symbol}, {len(self.steps)} snapshots{last}, {state}>"

    @property
    def ended(self) -> str | None:
        """How the run ended, in words: why it stopped, or "diverged at step N"; None while it has not."""
        if self.diverged:
            return f"diverged at step {self.diverged['step']:,}"
        return str(self.finished["reason"]) if self.finished else None

    @property
    def divergence(self) -> str:
        """The sentence that says where training diverged and what did; empty where it did not."""
        return f"Training {self.ended}: {self.diverged['what']}." if self.diverged else ""

    @cached_property
    def task(self) -> Task:
        """The task that the run learns.

        Raises:
            DamagedFile: under its name and parameters there is another table now, or there are other symbols
                or tokens.
        """
        task = self.config.make_task()
        self.refuse_other_examples(task)
        return task

    def refuse_other_examples(self, task: Task) -> None:
        """Refuses a task that is no longer what the run was trained on.

        Raises:
            DamagedFile: it has another table, other symbols or other tokens.
        """
        recorded = self.record["task"].get("sha256")
        if recorded and task_hash(task) != recorded:
            what = f"{task.name} gives other examples here than those that the run was trained on"
            raise DamagedFile(
                f"{self.path}: {what}: its function has changed, or is not the same each time it is called "
                "(as with operands from a set, or with a random generator of no seed)"
            )

    @property
    def imported(self) -> dict[str, Any] | None:
        """Where the run was imported from, and what was assumed; None where it was trained here."""
        return self.record.get("imported")

    def step_known(self, step: int) -> bool:
        """Whether a committed step is the number of updates done; False where a file that was imported does
        not say it, and the number only keeps its networks apart."""
        return self.imported is None or step not in self.imported.get("unknown_steps", ())

    def step_text(self, step: int) -> str:
        """A committed step as it is to be printed: "step 1,200"; where it is not known "step unknown", of
        several snapshots "snapshot 2 of 3, step unknown"."""
        if self.step_known(step):
            return f"step {step:,}"
        if len(self.steps) < 2:
            return "step unknown"
        return f"snapshot {1 + bisect.bisect_left(self.steps, step)} of {len(self.steps)}, step unknown"

    def steps_text(self, steps: Sequence[int]) -> str:
        """How many snapshots these are and of which steps: "3 snapshots, steps 0 to 200", "one snapshot, step
        unknown"."""
        return steps_in_words(steps, [step for step in steps if not self.step_known(step)])

    @cached_property
    def split(self) -> Split | None:
        """The training and test rows of the task's table: made again from the recipe, or read where they were
        stored; both are checked, and with them the noisy labels that are drawn for them.

        None where it is not known which examples an imported network was trained on.

        Raises:
            DamagedFile: this machine's recipe gives other rows than the run was trained on, or the stored
                rows are damaged.
        """
        record = self.record["split"]
        if record is None:
            return None
        if "file" in record:
            data = read_hashed(self.path / record["file"], record["file_sha256"], "the split")
            rows = safetensors.torch.load(data)
            return Split(rows["train"], rows["test"])
        split = self.config.make_split(self.task)
        if (drawn := self.record.get("labels")) and rows_hash(self.task.labels(split)) != drawn["sha256"]:
            what = "this machine draws other noisy labels"
        elif rows_hash(split.train) != record["sha256"]:
            what = f"the split recipe {self.config.training.split} gives other rows here"
        else:
            return split
        raise DamagedFile(f"{self.path}: {what} than those that the run was trained on")

    @cached_property
    def history(self) -> pd.DataFrame:
        """One row per evaluation: step, losses (nats, or squared error), accuracies (shares), norm of the
        last gradient, and one column for each number that the measures under `monitor` gave; NaN where one
        did not apply or was not taken. On noisy labels these are of the labels as they are given, and
        `training.schedule.NOISE_METRICS` come on top.

        Of an imported run, what its file holds and what could be measured; the rest is NaN.
        """
        import pandas as pd

        usual = ("step", "train_loss", "test_loss", "train_accuracy", "test_accuracy", "grad_norm")
        types = dict.fromkeys((*usual, *(name for record in self._evaluated for name in record)), "float64")
        return pd.DataFrame(self._evaluated, columns=list(types)).astype(types | {"step": "int64"})

    @property
    def dated_history(self) -> pd.DataFrame:
        """The rows of `history` whose step is the number of updates done: all of them, unless a file that was
        imported does not say it."""
        return self.history[self.history["step"].map(self.step_known).astype(bool)]

    @property
    def last_evaluation(self) -> dict[str, int | float]:
        """The last row of `history`, without what did not apply; empty before the first evaluation."""
        last = self._evaluated[-1] if self._evaluated else {}
        return {name: value for name, value in last.items() if value is not None}

    def resolve(self, step: int) -> int:
        """The committed step that `step` means: itself, or counted from the end where it is negative.

        Raises:
            NoSuchSnapshot: there is none; the nearest are named.
        """
        if not self.steps:
            what = "has no complete snapshot yet: start or resume its training first"
            if self.diverged:
                what = f"has no snapshot: it {self.ended}, {self.diverged['what']}; train it otherwise"
            raise NoSuchSnapshot(f"{self.path} {what}")
        if step < 0:
            if -step > len(self.steps):
                what = f"{len(self.steps)} snapshots, so there is no number {step} from the end"
                raise NoSuchSnapshot(f"{self.path} has {what}")
            return self.steps[step]
        if step not in self._records:
            at = bisect.bisect(self.steps, step)
            near = " and ".join(str(s) for s in self.steps[max(0, at - 1) : at + 1])
            raise NoSuchSnapshot(f"{self.path} has no snapshot at step {step}; the nearest are at {near}")
        return step

    def sha256(self, step: int) -> str:
        """The recorded hash of the snapshot at a committed step."""
        return str(self._records[self.resolve(step)]["sha256"])

    def refuse_to_overwrite(self, path: Path) -> None:
        """Whatever else is written about a run must not take the place of what it is made of.

        Raises:
            UsageError: the path is one of the run's own files, or lies in one of its own folders.
        """
        inside = os.path.relpath(path.resolve(), self.path.resolve()).split(os.sep)
        if inside[0] in _OWN:
            raise UsageError(f"{path} belongs to the run in {self.path}: choose another name")

    def state_dict(self, step: int) -> Weights:
        """The weights at a committed step, under TransformerLens names.

        Raises:
            NoSuchSnapshot: there is none at that step.
            DamagedFile: the file does not match its recorded hash.
        """
        record = self._records[self.resolve(step)]
        data = read_hashed(self.path / record["file"], record["sha256"], f"step {record['step']}")
        weights = safetensors.torch.load(data)
        # safetensors hands them over in no fixed order.
        return {name: weights[name] for name in self.config.model.shapes(self.task.reads)}

    def model(self, step: int, dtype: torch.dtype = torch.float64) -> HookedRootModule:
        """The network at a committed step, in evaluation mode: a `HookedTransformer` where the configuration
        names a transformer.

        Any hook works. In float64 unless another dtype is asked for: in float32 a loss of 1e-7 has no digits
        left. Its logits are then `view.logits`.
        """
        return self.config.model.hooked(self.task.reads, self.state_dict(step), dtype)

    def view(self, step: int) -> View:
        """Everything that the measures need to know of a committed step."""
        step = self.resolve(step)
        return View.of_weights(self.task, self.config.model, self.state_dict(step), step, self.split)

    def verify(self) -> Iterator[tuple[str, str | None]]:
        """Every file of the run with what is wrong with it, or None. Files that belong to no commit are not
        part of the run.

        run.json and both logs were checked when the run was opened.
        """
        yield from ((name, None) for name in _RECORD_AND_LOGS if (self.path / name).exists())
        hashed = [(one["file"], one["sha256"], f"step {one['step']}") for one in self._committed]
        if (split := self.record["split"]) and "file" in split:
            hashed.insert(0, (split["file"], split["file_sha256"], "the split"))
        for name, sha256, what in hashed:
            try:
                read_hashed(self.path / name, sha256, what)
                yield name, None
            except DamagedFile as error:
                yield name, str(error)
        can_go_on = any(resume_file(self.path, slot).exists() for slot in SLOTS)
        if self._evaluated and not (self.ended or self.imported or can_go_on):
            what = "holds no state, so this run cannot be continued; its snapshots can be analysed"
            yield "resume", f"{self.path / 'resume'} {what}"
        for slot in SLOTS:
            path = resume_file(self.path, slot)
            try:
                read_sealed(path)
                yield str(path.relative_to(self.path)), None
            except FileNotFoundError:  # there are two only while training goes on
                continue
            except GrokinterpError as error:
                yield str(path.relative_to(self.path)), str(error)

    def _log(self, name: str, expected: int | None) -> list[dict[str, Any]]:
        records, _ = read_log(self.path / name, whole=self.ended is not None)
        if any(("sha256" in record) != (name == "manifest.jsonl") for record in records):
            raise damaged(self.path / name, f"its lines are not those of a {name}")
        if expected is not None and (len(records) < expected or (self.ended and len(records) != expected)):
            raise damaged(self.path / name, f"it has {len(records)} lines and {expected} were written")
        return records


def steps_in_words(steps: Sequence[int], unknown: Collection[int] = ()) -> str:
    """How many snapshots there are and of which steps, given those of them that are only numbers."""
    dated = [f"{step:,}" for step in steps if step not in unknown]
    if not dated:
        return "one snapshot, step unknown" if len(steps) == 1 else f"{len(steps)} snapshots, steps unknown"
    span = f"step {dated[0]}" if len(dated) == 1 else f"steps {dated[0]} to {dated[-1]}"
    if len(dated) == len(steps):
        return f"{f'{len(steps)} snapshots' if len(steps) > 1 else 'one snapshot'}, {span}"
    others = f"{'the other' if len(dated) == 1 else 'the others'} of {span}"
    return f"{len(steps)} snapshots, {len(steps) - len(dated)} of unknown steps, {others}"


def load_run(path: str | Path) -> Run:
    """The run in a directory, finished or still training.

    Raises:
        NotARun: there is none.
        DamagedFile: a file does not match its recorded hash or count.
    """
    return Run(path)


def follow(path: str | Path, pause: float = 0.25) -> Iterator[Run]:
    """The run in a directory as it is now, and again whenever a snapshot was committed, until it has ended.

    Snapshots that are committed while the caller works come together. Looking reads no file: a `stat` of two,
    every `pause` seconds.

    Raises:
        NotARun: there is none.
        DamagedFile: a file does not match its recorded hash or count.
    """
    files, seen = [Path(path) / name for name in ("run.json", "manifest.jsonl")], None
    while True:
        stats = [file.stat() for file in files if file.exists()]
        state = [(stat.st_size, stat.st_mtime_ns) for stat in stats]
        if state == seen:
            time.sleep(pause)
            continue
        seen = state  # taken before the run is read: what is committed meanwhile is seen the next time
        run = Run(path)
        yield run
        if run.ended:
            return


def read_run_json(path: Path) -> dict[str, Any]:
    """The content of a run directory's run.json."""
    try:
        data = read_sealed(path / "run.json")
    except (FileNotFoundError, NotADirectoryError):
        if inside := _runs_inside(path):
            shown = ", ".join(inside[:_NAMED]) + f" and {len(inside) - _NAMED:,} more" * (
                len(inside) > _NAMED
            )
            count = f"{len(inside):,} run{'s' * (len(inside) > 1)}"
            what = f"{path} holds {count}: {shown}; give one of them, such as {path / inside[0]}"
            raise NotARun(what) from None
        instead = "is no directory" if path.exists() else "does not exist"
        what = "has no run.json" if path.is_dir() else instead
        remedy = "give the directory that `grokinterp train --out` made"
        raise NotARun(f"{path} holds no run: it {what}; {remedy}") from None
    record: dict[str, Any] = json.loads(data)
    if record["format"] != FORMAT:
        what = f"{path} is of run format {record['format']}"
        raise GrokinterpError(f"{what}, and this grokinterp reads format {FORMAT}: install a newer one")
    return record


def _runs_inside(path: Path) -> list[str]:
    """The names of the runs in a directory and in those in it, in order."""
    files = [file for depth in ("*", "*/*") for file in path.glob(f"{depth}/run.json")]
    found = [file.parent.relative_to(path) for file in files]
    names = [str(name) for name in found if not any(part.startswith(".") for part in name.parts)]

    def natural(name: str) -> list[int | str]:
        return [int(part) if i % 2 else part for i, part in enumerate(re.split(r"(\d+)", name))]

    return sorted(names, key=natural)


def resume_file(path: Path, slot: str) -> Path:
    """Where the resume state of a slot lies."""
    return path / "resume" / f"{slot}.safetensors"


def read_resume(file: Path) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """The tensors and the plain data of a resume file, or None where there is no such file.

    Raises:
        DamagedFile: it does not match its seal.
    """
    try:
        data = read_sealed(file)
    except FileNotFoundError:
        return None
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    return safetensors.torch.load(data), json.loads(header["__metadata__"]["grokinterp"])


def task_hash(task: Task) -> str:
    """The sha256 of the examples of a task: inputs, answers and their logits, in their order, and the names
    of all symbols."""
    names = json.dumps(task.names)
    parts = (x.flatten() for x in (task.inputs, task.sample.answers, task.columns))
    return hashlib.sha256("".join([names, *map(rows_hash, parts)]).encode()).hexdigest()


def rows_hash(rows: Int[Tensor, "n"] | Float[Tensor, "n"]) -> str:
    """The sha256 of row numbers, classes or tokens as little-endian int64; of other numbers as float64."""
    numbers = rows.numpy().astype("<f8" if rows.is_floating_point() else "<i8")
    return hashlib.sha256(numbers.tobytes()).hexdigest()


def _newest_account(path: Path) -> dict[str, Any]:
    """How many snapshots and evaluations the newest readable resume state counted; empty without one."""
    accounts: list[dict[str, Any]] = []
    for slot in SLOTS:
        with suppress(GrokinterpError):  # no part of what a reader reads; verify and resuming report it
            if (packed := read_resume(resume_file(path, slot))) is not None:
                accounts.append(packed[1])
    return max(accounts, key=lambda account: account["step"], default={})
