"""Which runs lie in a directory, and how far each has come: by what they say of themselves, so that it takes
no torch and no snapshot is opened.

A run that cannot be read is a row with the reason, and so is one that another process is training.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..asked import PATH, asks
from ..errors import GrokinterpError, NotARun
from ..progress import bars
from ..standing import Examples, State, judged_by
from .account import Account, refuse_snapshot
from .files import reading
from .swept import read_manifest

if TYPE_CHECKING:
    import pandas as pd

Status = Literal["finished", "training", "stopped", "diverged", "imported", "broken", "waiting"]
_MARKS = ("run.json", "manifest.jsonl")
"""Either tells a run, so that one that has lost the other is not passed over."""
_MANY = 50


@dataclass(frozen=True)
class Listed:
    """A run as a row of a list. None is what is not known.

    Attributes:
        run: its directory, as seen from the one that was listed.
        task: what it learns, in symbols.
        seed: of its initial weights and its batches; None of an imported run.
        step: optimiser updates done, as far as they are recorded.
        steps: those that its configuration asks for at most; None of an imported run.
        snapshots: how many there are.
        train_accuracy, test_accuracy: shares of right answers at the last evaluation, 0 to 1; where several
            are asked, of all of them; of test examples with noisy labels, against right answers.
        state: how far it has come by then ("generalises", ...: `grokinterp.standing`).
        keys: the key frequencies that its report.json has for its last snapshot.
        bytes: all that is in its directory.
        status: "stopped" is one that is not finished and that nobody trains; "waiting" a member of a sweep
            that has not begun.
        why: how it ended, who trains it, or what is broken.
        values: of the keys of its sweep; None where it is no member of one.
        seconds_left: of one that is being trained, to the last of its steps at the speed of the snapshots
            since it was gone on with; None where that is not known.
    """

    run: str
    task: str | None
    seed: int | None
    step: int | None
    steps: int | None
    snapshots: int | None
    train_accuracy: float | None
    test_accuracy: float | None
    state: State | None
    keys: tuple[int, ...] | None
    bytes: int
    status: Status
    why: str
    values: Mapping[str, Any] | None = None
    seconds_left: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self)


@asks("gi.runs_in", folder=PATH)
def runs_in(folder: str | Path, *, progress: bool | None = None) -> pd.DataFrame:
    """The runs in a directory and in all below it, one row each; the columns are those of `Listed`.

    Args:
        folder: where to look; links to runs are followed, what is hidden is not looked into.
        progress: whether to show a progress bar on stderr; by default where that is a terminal.

    Raises:
        NotARun: there is no such directory, or no run in it.
    """
    import pandas as pd

    names = [field.name for field in fields(Listed)]
    table = pd.DataFrame([asdict(row) for row in listed(folder, progress=progress)], columns=names)
    whole = dict.fromkeys(("seed", "step", "steps", "snapshots", "bytes"), "Int64")
    return table.astype(whole | dict.fromkeys(("train_accuracy", "test_accuracy"), "float64"))


def listed(folder: str | Path, *, progress: bool | None = None) -> list[Listed]:
    """What `runs_in` makes a table of."""
    place = Path(folder)
    found = dict(_found(place))
    if not found:
        refuse_snapshot(place)
        instead = "holds no run, nor do the directories in it" if place.is_dir() else "is no directory"
        raise NotARun(f"{folder} {instead}: give one that holds what `grokinterp train --out` made")

    def natural(path: Path) -> list[tuple[int, str]]:
        parts = re.split(r"(\d+)", str(path.relative_to(place)))
        return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]

    rows = []
    members = _members(found, place)
    for path in members:
        found.setdefault(path, "")
    with bars(progress if len(found) >= _MANY else False) as bar:
        task = bar.add_task("", total=len(found), what="run") if bar else None
        for path in sorted(found, key=natural):
            name = str(path.relative_to(place)) if path != place else str(place)
            # A name that is no text in this locale is still a row.
            name = name.encode(errors="replace").decode()
            row = row_of(path, name, found[path]) if path.is_dir() else _waiting(name)
            rows.append(replace(row, values=members.get(path)))
            if bar and task is not None:
                bar.advance(task)
    return rows


def _found(folder: Path) -> Iterator[tuple[Path, str]]:
    """The directories that hold runs, each with what keeps it from being looked into, if anything does."""
    try:
        entries = sorted(folder.iterdir())
        is_run = any((folder / mark).exists() for mark in _MARKS)
    except NotADirectoryError:
        return
    except FileNotFoundError:  # gone since, or never there
        return
    except OSError as error:
        yield folder, f"cannot look into {folder}: {error.strerror or error}"
        return
    if is_run:
        yield folder, ""
        return
    for entry in entries:
        if entry.name.startswith(".") or not entry.is_dir():
            continue
        if not entry.is_symlink():
            yield from _found(entry)
        elif any((entry / mark).exists() for mark in _MARKS):
            yield entry, ""


def _members(found: Mapping[Path, str], place: Path) -> dict[Path, Mapping[str, Any]]:
    """The members of the sweeps that runs lie in, with the values of their keys; of those that are damaged
    none."""
    members: dict[Path, Mapping[str, Any]] = {}
    for folder in dict.fromkeys([place, *(path.parent for path in found)]):
        with suppress(GrokinterpError):
            sweep = read_manifest(folder)
            for name, member in sweep["members"].items():
                members[folder / name] = dict(zip(sweep["keys"], member["values"], strict=True))
    return members


def _waiting(name: str) -> Listed:
    nothing = dict.fromkeys(field.name for field in fields(Listed))
    row: dict[str, Any] = {**nothing, "run": name, "bytes": 0, "status": "waiting", "why": "not begun"}
    return Listed(**row)


def row_of(path: Path, name: str = "", why_not: str = "", *, make_task: bool = True) -> Listed:
    """The row of one run.

    Args:
        path: its directory.
        name: as it is called in the list.
        why_not: what keeps it from being looked into, if anything does.
        make_task: whether, to tell how far a run has come that was recorded before run.json said what
            accuracies are about, its task is made again, which takes torch.
    """
    nothing = dict.fromkeys(field.name for field in fields(Listed))
    row: dict[str, Any] = {**nothing, "run": name, "bytes": _size(path), "status": "broken", "why": why_not}
    if why_not:
        return Listed(**row)
    try:
        account = Account(path)
        row |= _of(account, make_task)
    except GrokinterpError as error:
        row["why"] = str(error)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        row["why"] = f"{path}: its record is not that of a run ({type(error).__name__}: {error})"
    return Listed(**row)


def _of(account: Account, make_task: bool) -> dict[str, Any]:
    record = account.record
    report = report_of(account)
    columns = {name for evaluation in account.evaluations for name in evaluation}
    judged = [judged_by(columns, part) for part in ("train", "test")]
    last: Mapping[str, Any] = next(
        (e for e in reversed(account.evaluations) if any(_known(e.get(c)) is not None for c in judged)), {}
    )
    train, test = (_known(last.get(column)) for column in judged)
    status, why = _status(account)
    done = [*account.steps[-1:], *(evaluation["step"] for evaluation in account.evaluations[-1:])]
    known = [step for step in done if account.step_known(step)]
    trained = account.imported is None
    steps = record["config"].get("training", {}).get("steps") if trained else None
    left = _seconds_left(account, max(known, default=0), steps) if status == "training" else None
    return {
        "task": record["task"]["symbol"],
        "seed": record["config"].get("seed") if trained else None,
        "step": max(known, default=None),
        "steps": steps,
        "snapshots": len(account.steps),
        "train_accuracy": train,
        "test_accuracy": test,
        "state": _state(account, train, test, report, make_task),
        "keys": report and _keys(report),
        "status": status,
        "why": why,
        "seconds_left": left,
    }


def _known(value: Any) -> float | None:
    """A number; None where it is missing or NaN."""
    return float(value) if isinstance(value, int | float) and not math.isnan(value) else None


def _status(account: Account) -> tuple[Status, str]:
    if account.imported is not None:
        return "imported", f"imported from {account.imported['file']}"
    if account.ended is not None:
        return ("diverged" if account.diverged else "finished"), account.ended
    holder = _holder(account.path)
    if holder is not None:
        return "training", f"locked by {holder}"
    return "stopped", "not finished: the same command goes on with it"


def _seconds_left(account: Account, step: int, steps: int | None) -> float | None:
    """Of a run that is being trained: from when its snapshots were written since somebody took its lock."""
    times: list[tuple[int, float]] = []
    with suppress(OSError):
        begun = (account.path / "lock").stat().st_mtime
        for at in account.steps:
            written = (account.path / "snapshots" / f"step_{at:08d}.safetensors").stat().st_mtime
            if written >= begun:
                times.append((at, written))
    if steps is None or len(times) < 2 or times[-1][1] <= times[0][1]:
        return None
    per_step = (times[-1][1] - times[0][1]) / (times[-1][0] - times[0][0])
    return max(0.0, (steps - step) * per_step)


def _holder(path: Path) -> str | None:
    """Who holds the lock of a run; None where nobody does."""
    try:
        with open(path / "lock", encoding="utf-8", errors="replace") as file:
            if not (holder := file.read(200).strip()):  # who gives it back takes the name out
                return None
            # Who was killed leaves the name, and no lock. Nobody is kept from one longer than this takes.
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            fcntl.flock(file, fcntl.LOCK_UN)
    except BlockingIOError:
        return holder
    except OSError:
        return None
    return None


def _state(
    account: Account,
    train: float | None,
    test: float | None,
    report: Mapping[str, Any] | None,
    make_task: bool,
) -> State | None:
    """By the last evaluation; where a criterion of the task tells it, which evaluations do not know, by the
    report."""
    examples = _examples(account, make_task)
    if examples is not None and not examples.criterion:
        state = examples.standing(train, test).state
        if state != "not known":
            return state
    told: State | None = None if report is None else report.get("state")
    return told or (None if examples is None else "not known")


def _examples(account: Account, make_task: bool) -> Examples | None:
    """What accuracies are about; of a run that was recorded before that was, its task has to be made again,
    which takes torch. None where that cannot be, or is not to be."""
    if "counts" in account.record:
        return Examples(**account.record["counts"])
    if not make_task:
        return None
    from .run import Run

    with suppress(GrokinterpError):
        run = Run(account.path)
        return Examples.of(run.task, run.split)
    return None


def report_of(account: Account) -> dict[str, Any] | None:
    """The report.json that lies in the run, if it is of its last snapshot."""
    with suppress(OSError, ValueError, GrokinterpError), reading(account.path / "report.json"):
        report = json.loads((account.path / "report.json").read_bytes())
        if isinstance(report, dict) and account.steps and report.get("step") == account.steps[-1]:
            return report
    return None


def _keys(report: Mapping[str, Any]) -> tuple[int, ...] | None:
    keys = (report.get("key_frequencies") or {}).get("consensus")
    return None if keys is None else tuple(int(k) for k in keys)


def _size(folder: Path) -> int:
    """The bytes of all files in a directory and below."""
    total = 0
    for here, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                total += os.lstat(os.path.join(here, name)).st_size
    return total
