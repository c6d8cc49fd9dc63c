"""What a run directory says of itself: its record and its logs, checked, and which snapshots there are; not
what is in them, so that neither torch nor the task is needed.

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
import json
import os
import re
import shlex
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..asked import STEP, asks_all, refuse_other
from ..errors import DamagedFile, GrokinterpError, NoSuchSnapshot, NotARun, UsageError
from .files import damaged, read_hashed, read_log, read_sealed

FORMAT = 1
SLOTS = ("a", "b")
_NAMED = 12
"""Runs that an error names of a directory that holds them."""
EXTENDING = "extending"
"""The key of run.json that is there while a run that ended is made ready to be trained on (extension.py)."""
RECORD_AND_LOGS = ("run.json", "manifest.jsonl", "metrics.jsonl")
_OWN = {*RECORD_AND_LOGS, "lock", "split.safetensors", "snapshots", "resume", "replay", "logged.json"}


@asks_all("run")
class Account:
    """What the directory of a run says of it. What was committed when it was opened is what it shows.

    Attributes:
        path: the directory.
        record: the content of run.json.
        finished: how the run ended (`step`, `reason`), or None while it has not, or where it diverged.
        diverged: at which `step` `what` became NaN or infinite, so that the run ended; None where nothing
            did.
        thinned: which steps were `removed` by which `rules` (`runs.thinning`); None where none were.
        steps: the committed steps of which there are snapshots, in order.
    """

    def __init__(self, path: str | Path) -> None:
        """Opens a run directory.

        Raises:
            NotARun: there is no run.
            DamagedFile: a file does not match its recorded hash or count.
        """
        self.path = Path(path)
        while True:
            self.record = read_run_json(self.path)
            try:
                self._open()
                return
            except DamagedFile:
                # Its logs are cut where it ended when it is trained on (extension.py).
                if read_run_json(self.path) == self.record:
                    raise

    def _open(self) -> None:
        """Reads what is told by the record that was read before."""
        self.finished: dict[str, Any] | None = self.record["finished"]
        self.diverged: dict[str, Any] | None = self.record.get("diverged")
        # Before the logs, which only grow then: they must hold at least what the resume state counted.
        expected = self.finished or self.diverged
        if expected is None:
            expected = {} if EXTENDING in self.record else _newest_account(self.path)
        self.thinned: dict[str, Any] | None = self.record.get("thinned")
        removed = self.removed
        lines = self._log("manifest.jsonl", expected.get("snapshots"))
        self._committed = [line for line in lines if line["step"] not in removed]
        self._evaluated = self._log("metrics.jsonl", expected.get("evaluations"))
        self._records = {record["step"]: record for record in self._committed}
        self.steps: list[int] = sorted(self._records)

    @property
    def name(self) -> str:
        """The name of the run directory, as text that every file can hold."""
        return self.path.resolve().name.encode(errors="replace").decode()

    def kept_of(self, step: int) -> Path | None:
        """Where that is kept which was measured of a committed step; None where nothing is."""
        return self.path / "replay" / f"step_{step:08d}.safetensors"

    def command(self, name: str, *options: str) -> str:
        """A command about the run as it is typed; empty where there is no directory to give it."""
        return shlex.join(["grokinterp", name, str(self.path), *options])

    def holds(self, name: str) -> bool:
        """Whether there is a file of that name in the directory."""
        return (self.path / name).is_file()

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

    @property
    def removed(self) -> frozenset[int]:
        """The steps of snapshots that were committed and then removed."""
        return frozenset(self.thinned["removed"] if self.thinned else ())

    @property
    def thinning(self) -> str:
        """The sentence that says how many snapshots were removed, and by which rule; empty where none
        were."""
        if self.thinned is None:
            return ""
        removed, rules = len(self.removed), ", then ".join(self.thinned["rules"])
        of = f"{removed} of {removed + len(self.steps)} snapshots were removed later (thinned to {rules})"
        return f"{of}: what is read off snapshots is told from those that are left."

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

    @property
    def evaluations(self) -> Sequence[dict[str, Any]]:
        """What was recorded at every evaluation, in order; None is what did not apply."""
        return self._evaluated

    @property
    def last_evaluation(self) -> dict[str, int | float]:
        """The last row of `history`, without what did not apply; empty before the first evaluation."""
        last = self._evaluated[-1] if self._evaluated else {}
        return {name: value for name, value in last.items() if value is not None}

    def resolve(self, step: int) -> int:
        """The committed step that `step` means: itself, or counted from the end where it is negative.

        Raises:
            NoSuchSnapshot: there is none; the nearest are named.
            UsageError: it is no whole number.
        """
        refuse_other("step:", STEP, step)
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
            gone = " any more: it was thinned" if self.thinned and step in self.thinned["removed"] else ""
            raise NoSuchSnapshot(
                f"{self.path} has no snapshot at step {step}{gone}; the nearest are at {near}"
            )
        return step

    @property
    def snapshot_files(self) -> list[str]:
        """The files of the snapshots that there are, as they are called in the directory."""
        return [record["file"] for record in self._committed]

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

    def verify(self) -> Iterator[tuple[str, str | None]]:
        """Every file of the run with what is wrong with it, or None. Files that belong to no commit are not
        part of the run.

        run.json and both logs were checked when the run was opened.
        """
        yield from ((name, None) for name in RECORD_AND_LOGS if (self.path / name).exists())
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
        refuse_snapshot(path)
        instead = "is no directory" if path.exists() else "does not exist"
        what = "has no run.json" if path.is_dir() else instead
        remedy = "give the directory that `grokinterp train --out` made"
        if path.is_file():
            remedy += ", or make a run of a checkpoint with `grokinterp import FILE --out DIR`"
        raise NotARun(f"{path} holds no run: it {what}; {remedy}") from None
    record: dict[str, Any] = json.loads(data)
    if record["format"] != FORMAT:
        what = f"{path} is of run format {record['format']}"
        raise GrokinterpError(f"{what}, and this grokinterp reads format {FORMAT}: install a newer one")
    return record


def at_step(path: str | Path) -> tuple[Path, int | None]:
    """Directory and step of "RUN@step"; without one None. A directory so named is itself."""
    both = re.fullmatch(r"(.+)@(-?\d{1,12})", str(path), re.DOTALL)
    if both is None or Path(path).exists():
        return Path(path), None
    return Path(both[1]), int(both[2])


def refuse_snapshot(path: Path) -> None:
    """
    Raises:
        NoSuchSnapshot: a path is RUN@step, and there is none at that step.
        UsageError: there is one, but all of a run is asked for.
    """
    run, step = at_step(path)
    if step is None or not (run / "run.json").is_file():
        return
    Account(run).resolve(step)
    one = f"run.view({step}) and `grokinterp analyze {run} --step {step}` are about that one"
    raise UsageError(f"{path} is a snapshot, and a whole run is needed: give {run}; {one}")


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


def resume_data(data: bytes) -> dict[str, Any]:
    """The plain data of a resume file, given its bytes."""
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    told: dict[str, Any] = json.loads(header["__metadata__"]["grokinterp"])
    return told


def _newest_account(path: Path) -> dict[str, Any]:
    """How many snapshots and evaluations the newest readable resume state counted; empty without one."""
    accounts: list[dict[str, Any]] = []
    for slot in SLOTS:
        # No part of what a reader reads; verify and resuming report it.
        with suppress(GrokinterpError, FileNotFoundError):
            accounts.append(resume_data(read_sealed(resume_file(path, slot))))
    return max(accounts, key=lambda account: account["step"], default={})
