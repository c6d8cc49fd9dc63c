"""Other processes: what they find and what they leave, however they end.

Kills at random instants, kills before and inside every single write, and cuts of the power after every one;
signals, locks and readers while another process trains. After each of them a reader finds a run without a
fault, and the same call goes on to the bytes of a run that nothing stopped.
"""

from __future__ import annotations

import json
import os
import random
import re
import signal
import socket
import stat
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import grokinterp as gi
from conftest import tiny
from grokinterp.errors import Interrupted, NotARun, RunLocked

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/fd").exists(), reason="processes and open files are watched through /proc"
)

EVERY_STEP = {"training.evaluate_every": 1, "snapshots.events": ()}
SHORT = tiny(
    **EVERY_STEP, **{"training.steps": 6, "snapshots.every": 3, "model.d_model": 8, "model.d_mlp": 8}
)
LONG = tiny(**EVERY_STEP, **{"training.steps": 200, "snapshots.every": 5})
FRESH = gi.TrainConfig.preset(
    "words",
    **EVERY_STEP,
    **{
        "task": {"name": "reverse", "n": 2, "v": 3, "examples": 16},
        "model": {"d_model": 8, "n_heads": 1, "d_mlp": 8},
        "training.batch_size": 8,
        "training.steps": 150,
        "snapshots.every": 5,
        "threads": 1,
    },
)
IN_BETWEEN = (60, False, True)
"""Pauses a training of LONG at one of its some hundred calls that change the disk: however busy the machine
is, it is not over by then."""

SERVER = '''
"""Trains in forks of itself, so that a process to be killed costs milliseconds. One JSON request a line, one
JSON answer a line."""
import json, os, pathlib, signal, sys, traceback
import torch
torch.set_num_threads(1)
import grokinterp as gi
from grokinterp import training
from grokinterp.runs import files, train


class Mortal:
    """Dies right before the `last`-th call that changes the disk or, with `half`, after half of the bytes of
    such a call.

    With `pause` it stands still there instead, until it is sent SIGCONT.
    """

    def __init__(self, last, half, pause=False):
        self.calls, self.last, self.half = [], last, half
        self.signal = signal.SIGSTOP if pause else signal.SIGKILL
        path = pathlib.Path
        for owner, name in [
            (os, "fsync"), (os, "replace"), (os, "ftruncate"), (path, "unlink"), (path, "mkdir")
        ]:
            setattr(owner, name, self.counted(name, getattr(owner, name)))
        pwrite = os.pwrite
        half = lambda handle, data, at: pwrite(handle, data[: len(data) // 2], at)
        os.pwrite = self.counted("write to a log", pwrite, half)
        files.open = self.opened

    def counted(self, name, call, half=None):
        def counting(*args, **kwargs):
            if len(self.calls) == self.last:
                if self.half and half:
                    half(*args)
                os.kill(os.getpid(), self.signal)
            self.calls.append(name)
            if name != "fsync":  # this disk loses nothing when a process dies
                return call(*args, **kwargs)
        return counting

    def opened(self, path, mode):
        file = open(path, mode, buffering=0)
        outer = self
        class File:
            __enter__ = lambda self: self
            __exit__ = lambda self, *args: file.close()
            flush, fileno = file.flush, file.fileno
            half = lambda data: file.write(data[: len(data) // 2])
            write = staticmethod(outer.counted("write to a file", file.write, half))
        return File()


def train(job, answer):
    status, text, mortal = 70, "", None
    try:
        if job["mortal"]:
            mortal = Mortal(*job["mortal"])
        gi.train(gi.TrainConfig.make(job["config"]), job["out"], progress=False)
        status, text = 0, json.dumps(mortal.calls if mortal else [])
    except gi.GrokinterpError as error:
        status, text = error.exit_code, f"{type(error).__name__}: {error}"
    except BaseException:
        text = traceback.format_exc()
    os.write(answer, text[-60_000:].encode())
    os._exit(status)


# Whatever is slow the first time is slow only here.
for _ in training.Trainer(gi.TrainConfig.make(json.loads(sys.argv[1]))):
    pass
assert len(os.listdir("/proc/self/task")) == 1, "a fork would lose the other threads"
answers = {}
for line in sys.stdin:
    job = json.loads(line)
    if "wait" in job:
        _, status = os.waitpid(job["wait"], 0)
        with os.fdopen(answers.pop(job["wait"])) as answer:
            print(json.dumps([os.waitstatus_to_exitcode(status), answer.read()]), flush=True)
        continue
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        train(job, writing)
    os.close(writing)
    answers[child] = reading
    print(child, flush=True)
'''


def plain(config: gi.TrainConfig) -> dict:
    return config.model_dump(mode="json", exclude_none=True)


class Process:
    """A process that trains."""

    def __init__(
        self,
        server: subprocess.Popen,
        config: gi.TrainConfig,
        out: Path,
        mortal: tuple[int | bool, ...] | None = None,
    ) -> None:
        self._server = server
        self._out = out
        self.pid = int(self._ask({"config": plain(config), "out": str(out), "mortal": mortal}))

    def _ask(self, job: dict) -> str:
        self._server.stdin.write(json.dumps(job) + "\n")
        self._server.stdin.flush()
        return self._server.stdout.readline()

    def at_work(self, lines: int = 5) -> Process:
        """Itself, once it has written so many lines of metrics (or has ended)."""
        log = self._out / "metrics.jsonl"
        while self.alive() and (not log.exists() or log.read_bytes().count(b"\n") < lines):
            time.sleep(0.001)
        return self

    def paused(self) -> Process:
        """Itself, once it stands still at the call that it was told to pause at."""
        while self._state() != "T":
            assert self.alive(), "it ended without a pause"
            time.sleep(0.001)
        return self

    def send(self, *numbers: int) -> None:
        for number in numbers:
            os.kill(self.pid, number)

    def alive(self) -> bool:
        return self._state() != "Z"

    def _state(self) -> str:
        return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0]

    def wait(self) -> tuple[int, str]:
        """How it ended: exit status, or the negative number of the signal that killed it; and what it had to
        say."""
        status, text = json.loads(self._ask({"wait": self.pid}))
        return status, text


@pytest.fixture(scope="module")
def start() -> Iterator[Callable[..., Process]]:
    """Starts a process that trains: `start(config, out)`."""
    one_thread = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    with subprocess.Popen(
        [sys.executable, "-c", SERVER, json.dumps(plain(SHORT))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | one_thread,
    ) as server:
        yield lambda config, out, mortal=None: Process(server, config, out, mortal)
        server.stdin.close()


def contents(path: Path) -> dict[str, bytes]:
    """The bytes of every file of a run directory, the lock aside."""
    return {
        str(file.relative_to(path)): file.read_bytes()
        for file in path.rglob("*")
        if file.is_file() and file.name != "lock"
    }


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Callable[[gi.TrainConfig], dict[str, bytes]]:
    """The files that a configuration gives when nothing stops it."""
    known: dict[str, dict[str, bytes]] = {}

    def files(config: gi.TrainConfig) -> dict[str, bytes]:
        key = config.model_dump_json()
        if key not in known:
            with pytest.MonkeyPatch.context() as patched:
                patched.setattr(os, "fsync", lambda handle: None)
                known[key] = contents(
                    gi.train(config, tmp_path_factory.mktemp("whole") / "run", progress=False).path
                )
        return known[key]

    return files


def steps_without_a_fault(out: Path) -> tuple[list[int], int]:
    """The committed steps and the number of evaluations of a run in which nothing is wrong; none where there
    is no run yet."""
    try:
        run = gi.load_run(out)
    except NotARun:
        assert not (out / "run.json").exists()
        return [], 0
    assert [wrong for _, wrong in run.verify() if wrong] == []
    assert run.history["step"].tolist() == list(range(len(run.history)))
    for step in run.steps[-2:]:
        run.state_dict(step)
    return run.steps, len(run.history)


def left_behind(out: Path) -> list[str]:
    """What a kill interrupted, by what lies around."""
    names = [str(file.relative_to(out)) for file in out.rglob("*")]
    manifest = out / "manifest.jsonl"
    committed = manifest.read_text() if manifest.exists() else ""
    found = [re.sub(r"\d+|[ab](?=\.safe)", "*", name) for name in names if name.endswith(".tmp")]
    found += [
        "uncommitted snapshot"
        for name in names
        if re.fullmatch(r"snapshots/step_\d+\.safetensors", name) and name not in committed
    ]
    logs = [log for log in (out / "metrics.jsonl", manifest) if log.exists() and log.stat().st_size]
    found += [f"torn {log.name}" for log in logs if not log.read_bytes().endswith(b"\n")]
    return found or ["nothing"]


# Kills at random


def killed_at_random(
    start: Callable[..., Process], folder: Path, whole: dict[str, bytes], kills: int,
    config: gi.TrainConfig = LONG,
) -> None:  # fmt: skip
    """Kills training at random instants until it is done, again and again; checks after each kill and at each
    end. What was hit.

    On a busy machine it is done before many a kill, so that more are tried than are asked for.
    """
    dice = random.Random(0)
    hit: Counter = Counter()
    out, seen = folder / "run0", ([], 0)
    for number in range(10 * kills):
        if hit["killed at work"] == kills:
            break
        process = start(config, out).at_work(seen[1] + dice.randrange(1, 12))
        time.sleep(dice.uniform(0, 0.015))
        process.send(signal.SIGKILL)
        status, text = process.wait()
        now = steps_without_a_fault(out)
        assert now[0][: len(seen[0])] == seen[0], "a committed step is gone"
        assert now[1] >= seen[1], "a recorded evaluation is gone"
        seen = now
        if status == 0:
            hit["finished before the kill"] += 1
            assert contents(out) == whole
            out, seen = folder / f"run{number + 1}", ([], 0)
        else:
            assert status == -signal.SIGKILL, text
            hit["killed at work"] += 1
            hit.update(left_behind(out))
    print(dict(hit))
    assert hit["killed at work"] == kills, f"nearly every training was over before its kill: {dict(hit)}"
    assert start(config, out).wait() == (0, "[]")
    assert contents(out) == whole


def test_a_run_that_is_killed_at_random_instants_ends_with_the_same_bytes(start, tmp_path, uninterrupted):
    killed_at_random(start, tmp_path, uninterrupted(LONG), 25)


def test_so_does_one_on_fresh_examples_with_several_answers(start, tmp_path, uninterrupted):
    killed_at_random(start, tmp_path, uninterrupted(FRESH), 4, FRESH)


@pytest.mark.slow
def test_a_run_that_is_killed_a_thousand_times_ends_with_the_same_bytes(start, tmp_path, uninterrupted):
    killed_at_random(start, tmp_path, uninterrupted(LONG), 1000)


# Kills at every write


def calls_of(start: Callable[..., Process], out: Path) -> list[str]:
    """Every call by which training into a folder changes the disk."""
    status, text = start(SHORT, out, (-1, False)).wait()
    assert status == 0, text
    return json.loads(text)


def test_every_kind_of_write_is_among_those_that_are_killed(start, tmp_path):
    made = Counter(calls_of(start, tmp_path / "run"))
    snapshots, evaluations, states, ends = 3, 7, 3 + 1, 2
    assert made["replace"] == made["write to a file"] == snapshots + states + ends
    assert made["write to a log"] == snapshots + evaluations + 1  # and the lock
    assert made["unlink"] >= 1
    assert made["mkdir"] >= 2
    assert made["ftruncate"] >= 2


@pytest.mark.parametrize("half", [False, True])
def test_a_run_that_is_killed_at_any_write_goes_on_to_the_same_bytes(start, tmp_path, uninterrupted, half):
    """Right before every call that changes the disk; or after half of the bytes, where there are bytes."""
    whole = uninterrupted(SHORT)
    calls = calls_of(start, tmp_path / "counted")
    for number, call in enumerate(calls):
        if half and not call.startswith("write"):
            continue
        out = tmp_path / str(number)
        status, text = start(SHORT, out, (number, half)).wait()
        assert status == -signal.SIGKILL, text
        steps_without_a_fault(out)
        assert start(SHORT, out, (-1, False)).wait()[0] == 0
        assert contents(out) == whole, f"killed at call {number}, {call}"


def killed_twice(
    start: Callable[..., Process], folder: Path, whole: dict[str, bytes], first: int, every: int
) -> int:
    """Kills at one write, and the run that goes on from there at each of its own in turn; how often the
    second kill struck."""
    for second in range(0, 1000, every):
        out = folder / f"{first} {second}"
        assert start(SHORT, out, (first, True)).wait()[0] == -signal.SIGKILL
        status, text = start(SHORT, out, (second, True)).wait()
        steps_without_a_fault(out)
        if status == 0:
            assert contents(out) == whole
            return second // every
        assert status == -signal.SIGKILL, text
        assert start(SHORT, out, (-1, False)).wait()[0] == 0
        assert contents(out) == whole, f"killed at calls {first} and {second}"
    raise AssertionError("it never finished")


def test_a_run_that_is_killed_again_while_it_recovers_goes_on_to_the_same_bytes(
    start, tmp_path, uninterrupted
):
    dice = random.Random(0)
    calls = len(calls_of(start, tmp_path / "counted"))
    assert (
        sum(
            killed_twice(start, tmp_path, uninterrupted(SHORT), first, 17)
            for first in dice.sample(range(calls), 6)
        )
        > 6
    )


@pytest.mark.slow
def test_a_run_that_is_killed_at_any_two_writes_goes_on_to_the_same_bytes(start, tmp_path, uninterrupted):
    calls = len(calls_of(start, tmp_path / "counted"))
    assert (
        sum(killed_twice(start, tmp_path, uninterrupted(SHORT), first, 1) for first in range(calls)) > calls
    )


# Cuts of the power


class Disk:
    """What of a folder survives a cut of the power if the system wrote out nothing of its own accord:
    contents and names as last synced.

    With `names_survive` every name is as it is now and only contents are as last synced: a file that never
    was is empty.
    """

    def __init__(self, folder: Path, names_survive: bool) -> None:
        self.folder = folder
        self._names_survive = names_survive
        self._kept: list[int] = []
        self._contents: dict[int, bytes] = {}
        self._names: dict[int, dict[str, int]] = {}

    def sync(self, handle: int) -> None:
        """In the place of fsync."""
        state = os.fstat(handle)
        self._kept.append(os.dup(handle))  # so that no other file gets the number of this one
        if stat.S_ISDIR(state.st_mode):
            self._names[state.st_ino] = self._names_now(Path(os.readlink(f"/proc/self/fd/{handle}")))
        else:
            self._contents[state.st_ino] = Path(f"/proc/self/fd/{handle}").read_bytes()

    def _names_now(self, folder: Path) -> dict[str, int]:
        return {entry.name: entry.stat().st_ino for entry in folder.iterdir()}

    def after_the_cut(self, target: Path) -> Path:
        """A folder as it would come back."""
        folders = {
            entry.stat().st_ino: entry for entry in (self.folder, *self.folder.rglob("*")) if entry.is_dir()
        }

        def restore(number: int, target: Path) -> None:
            target.mkdir()
            names = self._names_now(folders[number]) if self._names_survive else self._names.get(number, {})
            for name, inner in names.items():
                if inner in folders:
                    restore(inner, target / name)
                else:
                    (target / name).write_bytes(self._contents.get(inner, b""))

        if self.folder.exists():
            restore(self.folder.stat().st_ino, target)
        return target

    def close(self) -> None:
        for handle in self._kept:
            os.close(handle)


@pytest.mark.parametrize("names_survive", [False, True])
def test_a_run_whose_power_is_cut_at_any_write_goes_on_to_the_same_bytes(
    tmp_path, monkeypatch, uninterrupted, names_survive
):
    whole = uninterrupted(SHORT)
    disk = Disk(tmp_path / "run", names_survive)
    cuts: list[Path] = []

    def cutting(call: Callable[..., object]) -> Callable[..., object]:
        def then_cut(*args: object) -> object:
            result = call(*args)
            cuts.append(disk.after_the_cut(tmp_path / f"cut {len(cuts)}"))
            return result

        return then_cut

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", cutting(disk.sync))
        for call in ("replace", "pwrite", "ftruncate"):
            patched.setattr(os, call, cutting(getattr(os, call)))
        gi.train(SHORT, tmp_path / "run", progress=False)
    disk.close()
    monkeypatch.setattr(os, "fsync", lambda handle: None)
    assert len(cuts) > 40
    seen: list[int] = []
    for cut in cuts:
        steps, _ = steps_without_a_fault(cut)
        assert steps[: len(seen)] == seen, "a committed step is gone"
        seen = steps
        gi.train(SHORT, cut, progress=False)
        assert contents(cut) == whole, cut.name
    assert seen == [0, 3, 6]


def test_a_line_in_the_manifest_means_that_its_snapshot_survives_a_cut_of_the_power(tmp_path, monkeypatch):
    """The same from the other side: at the moment of every commit, what it commits is on the disk under its
    name."""
    disk = Disk(tmp_path / "run", names_survive=False)
    committed = []
    pwrite = os.pwrite

    def look(handle: int, data: bytes, at: int) -> int:
        if b'"file"' in data:
            record = json.loads(data)
            survivor = disk.after_the_cut(tmp_path / f"cut {len(committed)}") / record["file"]
            committed.append(survivor.stat().st_size == record["bytes"])
        return pwrite(handle, data, at)

    monkeypatch.setattr(os, "fsync", disk.sync)
    monkeypatch.setattr(os, "pwrite", look)
    gi.train(SHORT, tmp_path / "run", progress=False)
    disk.close()
    assert committed == [True, True, True]


# Signals, locks and readers


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_training_process_that_is_asked_to_stop_says_where_and_can_go_on(
    start, tmp_path, uninterrupted, number
):
    process = start(LONG, tmp_path / "run", IN_BETWEEN).paused()
    process.send(number, signal.SIGCONT)
    status, text = process.wait()
    assert status == Interrupted.exit_code == 1
    step = int(
        re.fullmatch(
            r"Interrupted: interrupted at step (\d+); nothing is lost: run the same command again to go on",
            text,
        )[1]
    )
    assert gi.load_run(tmp_path / "run").history["step"].max() == step < 200
    assert start(LONG, tmp_path / "run").wait() == (0, "[]")
    assert contents(tmp_path / "run") == uninterrupted(LONG)


def test_a_second_trainer_is_told_who_trains_and_the_first_is_not_disturbed(start, tmp_path, uninterrupted):
    out = tmp_path / "run"
    process = start(LONG, out, IN_BETWEEN).paused()
    holder = f"host {socket.gethostname()} pid {process.pid}"
    for _ in range(10):
        with pytest.raises(RunLocked) as caught:
            gi.train(LONG, out, progress=False)
        assert str(caught.value).startswith(f"{out} is locked by {holder}: ")
        assert (out / "lock").read_text() == f"{holder}\n"
    assert caught.value.exit_code == 3
    process.send(signal.SIGCONT)
    assert process.wait()[0] == 0
    assert contents(out) == uninterrupted(LONG)


def test_the_lock_of_a_process_that_was_killed_is_free(start, tmp_path, uninterrupted):
    process = start(LONG, tmp_path / "run", IN_BETWEEN).paused()
    process.send(signal.SIGKILL)
    process.wait()
    assert str(process.pid) in (tmp_path / "run" / "lock").read_text()
    assert start(LONG, tmp_path / "run").wait() == (0, "[]")
    assert contents(tmp_path / "run") == uninterrupted(LONG)


def test_of_trainers_that_start_at_the_same_time_one_trains_and_the_others_find_it_locked(
    start, tmp_path, uninterrupted
):
    ends: Counter = Counter()
    for number in range(200):  # which of them meet is up to the machine
        if ends[RunLocked.exit_code] >= 12:
            break
        out = tmp_path / str(number)
        for process in [start(SHORT, out) for _ in range(4)]:
            status, text = process.wait()
            assert status in (0, RunLocked.exit_code), text
            ends[status] += 1
        assert contents(out) == uninterrupted(SHORT)
    assert ends[RunLocked.exit_code] >= 12, f"hardly ever did two trainers meet: {dict(ends)}"


def test_a_run_can_be_opened_at_any_moment_of_training(start, tmp_path):
    fell_into_it = 0
    for number in range(20):  # a slow machine opens it a few times in each
        if fell_into_it > 10:
            break
        fell_into_it += opened_in_training(start, tmp_path / str(number))
    assert fell_into_it > 10, "hardly any opening fell into a training"


def opened_in_training(start: Callable[..., Process], out: Path) -> int:
    """Opens a run again and again while it is trained; at how many lengths of its history before the last."""
    process = start(LONG, out).at_work()
    seen = [gi.load_run(out)]
    while process.alive():
        run = gi.load_run(out)
        assert run.steps[: len(seen[-1].steps)] == seen[-1].steps
        assert len(run.history) >= len(seen[-1].history)
        assert run.history["step"].tolist() == list(range(len(run.history)))
        assert run.state_dict(-1)
        assert [wrong for _, wrong in run.verify() if wrong] == []
        seen.append(run)
    assert process.wait() == (0, "[]")
    assert gi.load_run(out).steps == list(range(0, 201, 5))
    return len({len(run.history) for run in seen if run.finished is None})
