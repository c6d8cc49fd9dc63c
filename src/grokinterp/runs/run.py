"""A run directory, read: what it says of itself (account.py), and its networks. Safe at any moment of
training; every read checks the recorded hash."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import safetensors
import safetensors.torch
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..asked import DTYPE, PATH, asks, asks_all
from ..errors import ConfigError, DamagedFile
from ..models import Weights
from ..shown import Rows, Shown
from ..tasks import Split, Task
from ..training import TrainConfig
from ..view import View
from .account import Account, resume_data
from .files import read_hashed, read_sealed
from .hub import SCHEME, pull_from_hub

if TYPE_CHECKING:
    import pandas as pd

    from ..models import HookedRootModule


@asks_all("run")
class Run(Shown, Account):
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

    @asks("gi.Run", path=PATH)
    def __init__(self, path: str | Path) -> None:
        """Opens a run directory.

        Raises:
            NotARun: there is no run.
            DamagedFile: a file does not match its recorded hash or count.
            ConfigError: it learns a task that is not registered here.
        """
        super().__init__(path)
        try:
            self.config = TrainConfig.make(self.record["config"])
        except ConfigError as error:
            raise ConfigError(f"{self.path}: {error}") from None

    def __repr__(self) -> str:
        state = f"finished: {self.finished['reason']}" if self.finished else self.ended or "not finished"
        last = f" up to {self.step_text(self.steps[-1])}" if self.steps else ""
        return f"<Run {self.path}: {self.task.symbol}, {len(self.steps)} snapshots{last}, {state}>"

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

    def _in_a_line(self) -> str:
        return f"{self.name}: {self.task.symbol}"

    def _as_rows(self) -> Rows:
        state = f"finished: {self.finished['reason']}" if self.finished else self.ended or "not finished"
        last = {name: value for name, value in self.last_evaluation.items() if "." not in name}
        return [
            ("task", f"{self.task.name}, {self.task.n_inputs:,} {self.task.examples_are}"),
            ("network", self.network),
            ("snapshots", self.steps_text(self.steps) if self.steps else "none"),
            ("state", state),
            *([("last evaluation", last)] if last else []),
        ]

    @property
    def network(self) -> str:
        """The network in words."""
        return str(self.config.model)

    def knows(self, key: str) -> bool:
        """Whether it is known how the run was trained as to a key of the section [training], or as to its
        seed: of an imported run, what its file says."""
        return self.imported is None or key in self.imported["training"]

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

    @asks("run.model", dtype=DTYPE)
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


@asks("gi.load_run", path=PATH)
def load_run(path: str | Path) -> Run:
    """The run in a directory, finished or still training; or one on the model hub, as
    `hf://user/repository[@revision][/folder]` (`runs.hub`).

    Raises:
        NotARun: there is none.
        DamagedFile: a file does not match its recorded hash or count.
    """
    if isinstance(path, str) and path.startswith(SCHEME):
        return Run(pull_from_hub(path))
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


def read_resume(file: Path) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """The tensors and the plain data of a resume file, or None where there is no such file.

    Raises:
        DamagedFile: it does not match its seal.
    """
    try:
        data = read_sealed(file)
    except FileNotFoundError:
        return None
    return safetensors.torch.load(data), resume_data(data)


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
