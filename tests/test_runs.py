"""The run directory from outside: its files, its order of writing, its lock, and how training goes on after
whatever stopped it.

A run that was stopped in any way and continued must end with the bytes of one that was not. "Killed" below is
an exception that no code of the package knows, raised at a chosen write; real kills and other processes are
in test_kill.py, damaged files in test_damage.py.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import importlib.metadata
import json
import os
import pickle
import platform
import re
import resource
import shutil
import signal
import struct
import subprocess
import sys
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch

import grokinterp as gi
from conftest import tiny
from grokinterp.errors import (
    ConfigError,
    DamagedFile,
    Diverged,
    Interrupted,
    NoSuchSnapshot,
    NotARun,
    RunLocked,
    UsageError,
    WriteFailed,
)
from grokinterp.models.base import lens_classes
from grokinterp.runs.account import read_run_json
from grokinterp.runs.record import write_record
from grokinterp.training import Trainer
from grokinterp.training.optimizers import Optimiser

needs_proc = pytest.mark.skipif(
    not Path("/proc/self/fd").exists(), reason="open files are named through /proc"
)

EVERY_STEP = {"training.evaluate_every": 1, "snapshots.events": ()}
SHORT = tiny(**EVERY_STEP, **{"training.steps": 6, "snapshots.every": 3})


@pytest.fixture(autouse=True)
def _fast_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Syncing is what takes the time of these tests, and none of them cuts the power."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)


def train(config: gi.TrainConfig, out: Path, **options: object) -> gi.Run:
    return gi.train(config, out, progress=False, **options)


def contents(path: Path) -> dict[str, bytes]:
    """The bytes of every file of a run directory, the lock aside."""
    return {
        str(file.relative_to(path)): file.read_bytes()
        for file in path.rglob("*")
        if file.is_file() and file.name != "lock"
    }


def traces(path: Path) -> dict[str, tuple[int, bytes | None]]:
    """Everything below a directory, with time of the last change and bytes: equal only if nothing was even
    rewritten."""
    return {
        str(entry): (entry.stat().st_mtime_ns, entry.read_bytes() if entry.is_file() else None)
        for entry in [path, *path.rglob("*")]
    }


@pytest.fixture(scope="session")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Callable[[gi.TrainConfig], dict[str, bytes]]:
    """The files that a configuration gives when nothing stops it."""
    known: dict[str, dict[str, bytes]] = {}

    def files(config: gi.TrainConfig) -> dict[str, bytes]:
        key = config.model_dump_json()
        if key not in known:
            known[key] = contents(train(config, tmp_path_factory.mktemp("whole") / "run").path)
        return known[key]

    return files


# Ways to stop


class Killed(BaseException):
    """Nothing runs after this, as far as the files can tell."""


@contextmanager
def before_the_line(beginning: str, act: Callable[[], object], once: bool = False) -> Iterator[None]:
    """Does something right before the line of a log that begins so is written."""
    pwrite = os.pwrite

    def watched(handle: int, data: bytes, at: int) -> int:
        if data.startswith(beginning.encode()):
            if once:
                os.pwrite = pwrite
            act()
        return pwrite(handle, data, at)

    os.pwrite = watched
    try:
        yield
    finally:
        os.pwrite = pwrite


def metrics_of(step: int) -> str:
    return f'{{"step":{step},"train_loss":'


def commit_of(step: int) -> str:
    return f'{{"step":{step},"file":'


def killed(config: gi.TrainConfig, out: Path, line: str) -> Path:
    """Trains until right before a line is written; nothing happens after that."""

    def die() -> None:
        raise Killed

    with before_the_line(line, die), pytest.raises(Killed):
        train(config, out)
    return out


def interrupted(config: gi.TrainConfig, out: Path, step: int, number: int = signal.SIGINT) -> str:
    """Trains until a signal arrives during the evaluation of this step; the message."""
    with (
        before_the_line(metrics_of(step), lambda: signal.raise_signal(number)),
        pytest.raises(Interrupted) as caught,
    ):
        train(config, out)
    return str(caught.value)


# What is in the directory


@pytest.fixture
def run(tmp_path: Path) -> gi.Run:
    """A finished run of 20 steps, evaluated at each, with snapshots at 0, 10 and 20."""
    return train(tiny(**EVERY_STEP), tmp_path / "run")


def test_a_finished_run_is_exactly_the_files_of_the_design(run):
    files = {str(file.relative_to(run.path)) for file in run.path.rglob("*") if not file.is_dir()}
    assert files == {
        "run.json",
        "manifest.jsonl",
        "metrics.jsonl",
        "lock",
        "resume/a.safetensors",
        "snapshots/step_00000000.safetensors",
        "snapshots/step_00000010.safetensors",
        "snapshots/step_00000020.safetensors",
    }


def test_an_unfinished_run_has_both_resume_states(tmp_path):
    killed(tiny(**EVERY_STEP), tmp_path / "run", metrics_of(13))
    assert sorted(file.name for file in (tmp_path / "run" / "resume").iterdir()) == [
        "a.safetensors",
        "b.safetensors",
    ]


def test_run_json_records_what_the_run_depends_on(run):
    record = json.loads((run.path / "run.json").read_text())
    assert list(record) == ["format", "seal", "config", "task", "split", "counts", "versions", "finished"]
    assert record["format"] == 1
    counts = {"train": 19, "test": 30, "all": 49, "noisy": False, "criterion": ""}
    assert record["counts"] == {"chance": pytest.approx(1 / 7), **counts}
    assert gi.TrainConfig.make(record["config"]) == tiny(**EVERY_STEP)
    assert record["config"]["threads"] == 1
    assert record["config"]["seed"] == 0
    rows = b"".join(struct.pack("<3q", a, b, 7) for a in range(7) for b in range(7))
    answers = b"".join(struct.pack("<q", (a + b) % 7) for a in range(7) for b in range(7))
    names = json.dumps([list("0123456")] * 2 + [[*"0123456", "="]])
    parts = names + hashlib.sha256(rows).hexdigest() + 2 * hashlib.sha256(answers).hexdigest()
    sha256 = hashlib.sha256(parts.encode()).hexdigest()
    facts = {
        "name": "modular_addition",
        "symbol": "a + b mod 7",
        "examples": 49,
        "answers": 7,
        "tokens": 8,
        "sha256": sha256,
    }
    assert record["task"] == facts
    assert record["finished"] == {"step": 20, "reason": "all steps done", "snapshots": 3, "evaluations": 21}
    assert record["versions"] == {
        "python": platform.python_version(),
        "grokinterp": gi.__version__,
        "torch": importlib.metadata.version("torch"),
        "transformer-lens": importlib.metadata.version("transformer-lens"),
    }


def test_run_json_is_sealed_by_the_sha256_of_itself(run):
    text = (run.path / "run.json").read_bytes()
    seal = json.loads(text)["seal"]
    assert seal == "sha256:" + hashlib.sha256(text.replace(seal[7:].encode(), b"0" * 64)).hexdigest()


def test_run_json_holds_the_hash_of_the_training_rows(run):
    record = json.loads((run.path / "run.json").read_text())["split"]
    rows = run.split.train.tolist()
    assert record["sha256"] == hashlib.sha256(struct.pack(f"<{len(rows)}q", *rows)).hexdigest()
    assert (
        (record["n_train"], record["n_test"])
        == (len(rows), 49 - len(rows))
        == (int(0.4 * 49), 49 - int(0.4 * 49))
    )


def test_an_unfinished_run_says_so(tmp_path):
    out = killed(tiny(**EVERY_STEP), tmp_path / "run", metrics_of(13))
    assert json.loads((out / "run.json").read_text())["finished"] is None
    assert gi.load_run(out).finished is None
    assert "not finished" in repr(gi.load_run(out))


def test_a_run_that_its_stop_condition_ended_says_which(tmp_path):
    run = train(tiny(**EVERY_STEP, **{"training.stop_when": "train_loss > 0 for 4"}), tmp_path / "run")
    assert run.finished == {
        "step": 4,
        "reason": "train_loss > 0 for 4 was reached",
        "snapshots": 2,
        "evaluations": 5,
    }
    assert run.steps == [0, 4]


def test_every_line_of_the_manifest_describes_its_file(run):
    lines = (run.path / "manifest.jsonl").read_bytes().splitlines()
    for step, line in zip((0, 10, 20), lines, strict=True):
        record = json.loads(line)
        data = (run.path / record["file"]).read_bytes()
        assert list(record) == ["step", "file", "bytes", "sha256", "crc"]
        assert record["step"] == step
        assert record["file"] == f"snapshots/step_{step:08d}.safetensors"
        assert record["bytes"] == len(data)
        assert record["sha256"] == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("log", ["manifest.jsonl", "metrics.jsonl"])
def test_every_line_of_a_log_is_json_and_ends_in_the_checksum_of_all_up_to_there(run, log):
    text = (run.path / log).read_text()
    assert text.endswith("}\n")
    found = [re.fullmatch(r'(.*),"crc":"([0-9a-f]{8})"\}', line).groups() for line in text.splitlines()]
    assert [json.loads(line)["crc"] for line in text.splitlines()] == [crc for _, crc in found]
    before = 0
    for body, crc in found:
        before = zlib.crc32(body.encode(), before)
        assert before == int(crc, 16)


def test_metrics_hold_one_line_for_each_evaluation(run):
    lines = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(21))
    losses = ["step", "train_loss", "test_loss", "train_accuracy", "test_accuracy"]
    assert list(lines[0]) == [*losses, "crc"]
    assert all(list(line) == [*losses, "grad_norm", "crc"] for line in lines[1:])


def test_metrics_and_weights_are_those_that_the_trainer_yields(run):
    for row, snapshot in zip(run.history.to_dict("records"), Trainer(tiny(**EVERY_STEP)), strict=True):
        assert row["step"] == snapshot.step
        assert {key: row[key] for key in snapshot.metrics} == snapshot.metrics
        if snapshot.keep:
            found = run.state_dict(snapshot.step)
            assert found.keys() == snapshot.weights.keys()
            assert all(torch.equal(found[name], snapshot.weights[name]) for name in found)


def test_weights_come_in_the_same_order_at_every_reading(run):
    """A sum over them, or a seed used while going through them, must not change from one reading to the
    next."""
    assert len({tuple(run.state_dict(0)) for _ in range(20)}) == 1


def read_without_safetensors(file: Path) -> dict[str, np.ndarray]:
    """A safetensors file by its specification: length of the header, JSON, and the numbers one after the
    other."""
    data = file.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    kinds = {"F32": "<f4", "F64": "<f8", "I64": "<i8", "U8": "u1"}
    header.pop("__metadata__", None)
    return {
        name: np.frombuffer(data[8 + length :][slice(*entry["data_offsets"])], kinds[entry["dtype"]]).reshape(
            entry["shape"]
        )
        for name, entry in header.items()
    }


def test_snapshots_and_resume_states_are_plain_safetensors_files(run):
    for step in run.steps:
        plain = read_without_safetensors(run.path / "snapshots" / f"step_{step:08d}.safetensors")
        assert plain.keys() == run.state_dict(step).keys()
        assert all(
            np.array_equal(plain[name], weight.numpy()) for name, weight in run.state_dict(step).items()
        )
    state = read_without_safetensors(run.path / "resume" / "a.safetensors")
    assert all(
        np.array_equal(state[f"weights/{name}"], weight.numpy())
        for name, weight in run.state_dict(20).items()
    )


def test_nothing_is_pickled_in_training_resuming_or_reading(tmp_path, monkeypatch):
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("pickle was used")

    for module, name in [
        (pickle, "dump"),
        (pickle, "dumps"),
        (pickle, "load"),
        (pickle, "loads"),
        (torch, "save"),
        (torch, "load"),
    ]:
        monkeypatch.setattr(module, name, refuse)
    monkeypatch.setattr(pickle, "Pickler", refuse)
    monkeypatch.setattr(pickle, "Unpickler", refuse)
    config = tiny(**EVERY_STEP, **{"training.batch_size": 5})
    killed(config, tmp_path / "run", metrics_of(13))
    run = train(config, tmp_path / "run")
    assert len(run.history) == 21
    assert all(run.state_dict(step) for step in run.steps)
    assert all(wrong is None for _, wrong in run.verify())


# The order of writing


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """What is asked of the disk in `tmp_path/run`, one line a call."""
    noted: list[str] = []
    rename, pwrite, unlink = os.replace, os.pwrite, Path.unlink

    def name(handle: int) -> str:
        return os.path.relpath(os.readlink(f"/proc/self/fd/{handle}"), tmp_path / "run")

    def noted_fsync(handle: int) -> None:
        noted.append(f"fsync {name(handle)}")

    def noted_rename(source: Path, target: Path) -> None:
        noted.append(f"rename to {os.path.relpath(target, tmp_path / 'run')}")
        rename(source, target)

    def noted_pwrite(handle: int, data: bytes, at: int) -> int:
        if name(handle) != "lock":
            noted.append(f"append step {json.loads(data)['step']} to {name(handle)}")
        return pwrite(handle, data, at)

    def noted_unlink(path: Path, missing_ok: bool = False) -> None:
        noted.append(f"remove {os.path.relpath(path, tmp_path / 'run')}")
        unlink(path, missing_ok)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(os, "replace", noted_rename)
    monkeypatch.setattr(os, "pwrite", noted_pwrite)
    monkeypatch.setattr(Path, "unlink", noted_unlink)
    return noted


def between(calls: list[str], first: str, last: str) -> list[str]:
    start = calls.index(first)
    return calls[start : calls.index(last, start) + 1]


@needs_proc
def test_a_recorded_step_is_resume_state_then_metrics_then_snapshot_then_manifest(tmp_path, calls):
    train(tiny(**EVERY_STEP), tmp_path / "run")
    assert between(calls, "append step 9 to metrics.jsonl", "append step 11 to metrics.jsonl") == [
        "append step 9 to metrics.jsonl",
        "fsync metrics.jsonl",
        "fsync resume/b.safetensors.tmp",
        "rename to resume/b.safetensors",
        "fsync resume",
        "append step 10 to metrics.jsonl",
        "fsync snapshots/step_00000010.safetensors.tmp",
        "rename to snapshots/step_00000010.safetensors",
        "fsync snapshots",
        "append step 10 to manifest.jsonl",
        "fsync manifest.jsonl",
        "append step 11 to metrics.jsonl",
    ]


@needs_proc
def test_a_run_begins_with_its_configuration_and_ends_with_its_end(tmp_path, calls):
    train(tiny(**EVERY_STEP), tmp_path / "run")
    assert calls[:3] == ["fsync run.json.tmp", "rename to run.json", "fsync ."]
    assert calls[calls.index("append step 20 to manifest.jsonl") :] == [
        "append step 20 to manifest.jsonl",
        "fsync manifest.jsonl",
        "fsync metrics.jsonl",
        "fsync resume/a.safetensors.tmp",
        "rename to resume/a.safetensors",
        "fsync resume",
        "remove resume/b.safetensors",
        "fsync resume",
        "fsync run.json.tmp",
        "rename to run.json",
        "fsync .",
    ]


@needs_proc
def test_the_two_resume_states_take_turns(tmp_path, calls):
    train(tiny(**EVERY_STEP, **{"training.steps": 50}), tmp_path / "run")
    written = [call[-13:-12] for call in calls if call.startswith("rename to resume/")]
    assert written == ["a", "b", "a", "b", "a", "b", "a"]  # steps 0, 10, ..., 50, and the end


@needs_proc
def test_a_temporary_file_is_synced_when_it_is_whole(tmp_path, monkeypatch):
    sizes = {}
    monkeypatch.setattr(
        os,
        "fsync",
        lambda handle: sizes.update({os.readlink(f"/proc/self/fd/{handle}"): os.fstat(handle).st_size}),
    )
    run = train(tiny(**EVERY_STEP), tmp_path / "run")
    for step in run.steps:
        file = run.path / "snapshots" / f"step_{step:08d}.safetensors"
        assert sizes[f"{file}.tmp"] == file.stat().st_size
    assert sizes[f"{run.path / 'run.json'}.tmp"] == (run.path / "run.json").stat().st_size


@needs_proc
def test_a_resumed_run_writes_into_the_slot_that_it_did_not_come_from(tmp_path, calls):
    config = tiny(**EVERY_STEP)
    killed(config, tmp_path / "run", metrics_of(13))  # a holds step 0, b step 10
    del calls[:]
    killed(config, tmp_path / "run", commit_of(20))
    assert [call for call in calls if call.startswith("rename to resume/")] == [
        "rename to resume/a.safetensors",  # step 10 again: b, which it was read from, stays until a is whole
        "rename to resume/b.safetensors",
    ]


# Reading


def test_history_has_one_typed_column_for_each_measure(run):
    assert {name: str(kind) for name, kind in run.history.dtypes.items()} == {
        "step": "int64",
        "train_loss": "float64",
        "test_loss": "float64",
        "train_accuracy": "float64",
        "test_accuracy": "float64",
        "grad_norm": "float64",
    }
    assert run.history["step"].tolist() == list(range(21))
    assert np.isnan(run.history["grad_norm"][0])
    assert np.isfinite(run.history.drop(index=0)).all(axis=None)


def test_the_history_of_a_run_without_evaluations_has_the_same_typed_columns(tmp_path, run):
    unborn = gi.load_run(killed(tiny(**EVERY_STEP), tmp_path / "unborn", metrics_of(0)))
    assert len(unborn.history) == 0
    assert unborn.history.dtypes.to_dict() == run.history.dtypes.to_dict()


def test_a_model_is_a_hooked_transformer_with_the_logits_of_its_view(run):
    model = run.model(-1)
    assert isinstance(model, lens_classes()[0])
    assert not model.training
    with torch.no_grad():
        logits = model(run.task.inputs)[:, -1]
    view = run.view(-1)
    assert view.step == 20
    assert torch.allclose(logits.double(), view.logits, rtol=0, atol=1e-5)
    assert view.split is run.split


def test_a_model_has_the_losses_that_were_recorded_at_its_step(run):
    for step in run.steps:
        view = run.view(step)
        row = run.history.set_index("step").loc[step]
        for part in ("train", "test"):
            assert view.loss()[view.rows(part)].mean().item() == pytest.approx(row[f"{part}_loss"], rel=1e-5)
            assert view.correct()[view.rows(part)].double().mean().item() == row[f"{part}_accuracy"]


def test_negative_steps_count_from_the_end(run):
    assert run.steps == [0, 10, 20]
    assert [run.resolve(step) for step in (-1, -2, -3)] == [20, 10, 0]
    assert torch.equal(run.state_dict(-2)["embed.W_E"], run.state_dict(10)["embed.W_E"])
    with pytest.raises(NoSuchSnapshot, match="has 3 snapshots, so there is no number -4 from the end"):
        run.state_dict(-4)


@pytest.mark.parametrize(
    ("step", "nearest"),
    [(1, "at 0 and 10"), (9, "at 0 and 10"), (11, "at 10 and 20"), (21, "at 20"), (10**12, "at 20")],
)
def test_a_step_without_a_snapshot_names_the_nearest(run, step, nearest):
    for ask in (run.state_dict, run.model, run.view):
        with pytest.raises(
            NoSuchSnapshot, match=f"no snapshot at step {step}; the nearest are {nearest}$"
        ) as caught:
            ask(step)
        assert caught.value.exit_code == 2


@pytest.mark.parametrize("line", [metrics_of(0), commit_of(0)])
def test_a_run_without_a_complete_snapshot_can_be_read_and_continued(tmp_path, uninterrupted, line):
    config = tiny(**EVERY_STEP)
    run = gi.load_run(killed(config, tmp_path / "run", line))
    assert run.steps == []
    assert "0 snapshots, not finished" in repr(run)
    for step in (0, -1, 7):
        with pytest.raises(NoSuchSnapshot, match="has no complete snapshot yet"):
            run.state_dict(step)
    assert all(wrong is None for _, wrong in run.verify())
    train(config, run.path)
    assert contents(run.path) == uninterrupted(config)


def test_reading_everything_changes_nothing(run):
    before = traces(run.path)
    opened = gi.load_run(run.path)
    assert len(opened.history) == 21
    assert all(opened.state_dict(step) for step in opened.steps)
    assert list(opened.verify())
    assert repr(opened)
    assert traces(run.path) == before


def test_a_run_can_be_copied_and_read_elsewhere(run, tmp_path):
    copy = gi.load_run(shutil.copytree(run.path, tmp_path / "elsewhere"))
    assert copy.steps == run.steps
    assert torch.equal(copy.state_dict(-1)["embed.W_E"], run.state_dict(-1)["embed.W_E"])


def test_verify_lists_every_file_of_a_finished_and_of_an_unfinished_run(run, tmp_path):
    half = gi.load_run(killed(tiny(**EVERY_STEP), tmp_path / "half", metrics_of(13)))
    for each in (run, half):
        assert dict(each.verify()) == dict.fromkeys(contents(each.path))


def test_a_run_that_was_opened_earlier_shows_what_was_committed_then(tmp_path):
    config = tiny(**EVERY_STEP)
    early = gi.load_run(killed(config, tmp_path / "run", metrics_of(13)))
    rows = len(early.history)
    train(config, tmp_path / "run")
    assert early.steps == [0, 10]
    assert len(early.history) == rows == 13
    assert all(early.state_dict(step) for step in early.steps)
    assert all(wrong is None for _, wrong in early.verify())


def test_verify_survives_that_training_ends_meanwhile_and_removes_the_second_resume_state(
    tmp_path, monkeypatch
):
    config = tiny(**EVERY_STEP)
    early = gi.load_run(killed(config, tmp_path / "run", metrics_of(13)))
    read_bytes = Path.read_bytes

    def read_after_the_end(file: Path) -> bytes:
        if file.name == "b.safetensors":
            monkeypatch.undo()
            train(config, early.path)
        return read_bytes(file)

    monkeypatch.setattr(Path, "read_bytes", read_after_the_end)
    assert all(wrong is None for _, wrong in early.verify())


@pytest.mark.parametrize("file", ["run.json", "manifest.jsonl", "metrics.jsonl", "resume/a.safetensors"])
def test_a_disk_that_cannot_read_a_file_is_an_error_of_one_line(tmp_path, monkeypatch, file):
    out = killed(tiny(**EVERY_STEP), tmp_path / "run", metrics_of(13))
    read_bytes = Path.read_bytes

    def failing(path: Path) -> bytes:
        if path == out / file:
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", failing)
    try:
        wrong = [message for _, message in gi.load_run(out).verify() if message]
    except gi.GrokinterpError as error:
        wrong = [str(error)]
    assert len(wrong) == 1
    assert str(out / file) in wrong[0]
    assert "\n" not in wrong[0]


@pytest.mark.filterwarnings("ignore:.*going on from the other resume state")
def test_every_read_that_a_disk_may_refuse_is_one_line_and_the_same_call_goes_on_later(
    tmp_path, uninterrupted, monkeypatch
):
    """Refused from the first read of a resuming trainer on, from the second, and so on until it gets
    through."""
    config = tiny(**EVERY_STEP)
    dead = killed(config, tmp_path / "run", metrics_of(13))
    read_bytes = Path.read_bytes
    for allowed in range(100):
        out = shutil.copytree(dead, tmp_path / f"run{allowed}")
        done = 0

        def refusing(path: Path, allowed: int = allowed) -> bytes:
            nonlocal done
            done += 1
            if done > allowed:
                raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
            return read_bytes(path)

        failed = ""
        with monkeypatch.context() as patched:
            patched.setattr(Path, "read_bytes", refusing)
            try:
                train(config, out)
            except gi.GrokinterpError as error:
                failed = str(error)
        assert not failed or (str(out) in failed and "\n" not in failed)
        train(config, out)
        assert contents(out) == uninterrupted(config)
        if done <= allowed:
            break
    assert 5 < allowed < 99


def test_training_goes_on_from_the_other_resume_state_where_the_disk_cannot_read_the_newer(
    tmp_path, uninterrupted, monkeypatch
):
    config = tiny(**EVERY_STEP)
    out = killed(config, tmp_path / "run", metrics_of(13))
    read_bytes = Path.read_bytes

    def failing(path: Path) -> bytes:
        if path == out / "resume" / "b.safetensors":
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
        return read_bytes(path)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "read_bytes", failing)
        with pytest.warns(UserWarning, match="going on from the other resume state"):
            train(config, out)
    assert contents(out) == uninterrupted(config)


# What is no run, and what may not become one


def _nothing(path: Path) -> None:
    pass


def _a_file(path: Path) -> None:
    path.write_text("a file")


def _an_empty_folder(path: Path) -> None:
    path.mkdir()


def _a_folder_of_something_else(path: Path) -> None:
    path.mkdir()
    (path / "thesis.tex").write_text("years of work")


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (_nothing, "does not exist"),
        (_a_file, "is no directory"),
        (_an_empty_folder, "has no run.json"),
        (_a_folder_of_something_else, "has no run.json"),
    ],
)
def test_opening_what_is_no_run_says_why_it_is_none(tmp_path, make, what):
    make(tmp_path / "run")
    with pytest.raises(NotARun) as caught:
        gi.load_run(tmp_path / "run")
    assert str(caught.value).startswith(f"{tmp_path / 'run'} holds no run: it {what};")
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("make", [_a_file, _a_folder_of_something_else])
def test_what_holds_something_else_is_left_alone(tmp_path, make):
    make(tmp_path / "run")
    before = traces(tmp_path)
    with pytest.raises(NotARun, match="choose a "):
        train(tiny(), tmp_path / "run")
    assert traces(tmp_path) == before


def test_a_folder_of_something_else_is_not_searched_through(tmp_path, monkeypatch):
    """It may be a home directory."""
    (tmp_path / "home" / "thesis" / "chapter").mkdir(parents=True)
    entered = []
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: (entered.append(Path(path).name), scandir(path))[1])
    with pytest.raises(NotARun, match="thesis"):
        train(tiny(), tmp_path / "home")
    assert "chapter" not in entered


def test_a_path_below_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("a file")
    with pytest.raises(gi.GrokinterpError, match="file/run"):
        train(tiny(), tmp_path / "file" / "run")
    with pytest.raises(NotARun):
        gi.load_run(tmp_path / "file" / "run")


@pytest.mark.parametrize("make", [_nothing, _an_empty_folder])
def test_a_new_and_an_empty_folder_can_become_a_run(tmp_path, uninterrupted, make):
    make(tmp_path / "run")
    config = tiny(**EVERY_STEP)
    assert contents(train(config, tmp_path / "run").path) == uninterrupted(config)


def test_folders_above_a_run_are_made(tmp_path):
    assert train(tiny(), tmp_path / "a" / "b" / "run").steps


@pytest.mark.parametrize(
    "strange",
    [
        "run.tmp",
        "snapshots/mine.safetensors",
        "resume/mine.safetensors",
        "snapshots/model/x",
        "manifest.jsonl",
    ],
)
def test_a_folder_with_files_that_no_run_has_left_is_left_alone(tmp_path, strange):
    """Whoever keeps snapshots of their own under that name must not lose them."""
    file = tmp_path / "run" / strange
    file.parent.mkdir(parents=True)
    file.write_text("years of work")
    before = traces(tmp_path)
    with pytest.raises(gi.GrokinterpError):
        train(tiny(), tmp_path / "run")
    assert traces(tmp_path) == before


@pytest.mark.parametrize(
    "strange",
    ["notes.tmp", "snapshots/mine.safetensors", "snapshots/notes.txt", "resume/notes.txt", "folder.tmp/x"],
)
def test_files_that_someone_put_beside_a_run_stay(tmp_path, strange):
    config = tiny(**EVERY_STEP)
    file = killed(config, tmp_path / "run", metrics_of(13)) / strange
    file.parent.mkdir(exist_ok=True)
    file.write_text("years of work")
    train(config, tmp_path / "run")
    assert file.read_text() == "years of work"


def test_a_run_whose_run_json_is_lost_is_not_taken_for_an_empty_folder(tmp_path):
    out = killed(tiny(**EVERY_STEP), tmp_path / "run", metrics_of(13))
    (out / "run.json").unlink()
    before = contents(out)
    for config in (
        tiny(**EVERY_STEP),
        tiny(**{**EVERY_STEP, "seed": 1}),
        tiny(**EVERY_STEP, **{"model.d_model": 8}),
    ):
        with pytest.raises(gi.GrokinterpError):
            train(config, out)
        assert contents(out) == before


def test_a_configuration_that_cannot_be_trained_leaves_no_folder_behind(tmp_path):
    with pytest.raises(ConfigError):
        train(tiny(**{"training.fraction": 1e-9}), tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_no_disk_can_hold_is_an_error_of_one_line(tmp_path):
    for attempt in (lambda path: train(tiny(), path), gi.load_run):
        with pytest.raises(gi.GrokinterpError) as caught:
            attempt(tmp_path / ("x" * 300))
        assert "\n" not in str(caught.value)


FORBIDDEN = """
import os, sys
import grokinterp as gi
few = {"task.p": 7, "model.d_model": 16, "training.steps": 2, "threads": 1}
config = gi.TrainConfig.preset("quick", **few)
# All is imported after this, from a folder that only the superuser may be able to enter.
gi.load_run(gi.train(config, sys.argv[2]).path)
if os.getuid() == 0:
    os.setuid(65534)
place = sys.argv[1]
attempts = (
    lambda: gi.load_run(place), lambda: gi.train(config, place), lambda: gi.train(config, place + "/new")
)
for attempt in attempts:
    try:
        attempt()
        print("worked")
    except gi.GrokinterpError as error:
        print(error)
    except OSError as error:
        print("raw", repr(error))
"""


def test_a_folder_that_one_may_not_enter_is_an_error_of_one_line(tmp_path):
    """A real one, entered by a process that is not the superuser."""
    closed = tmp_path / "closed"
    train(tiny(), closed / "run")
    closed.chmod(0)
    try:
        there, open_one = str(closed / "run"), str(tmp_path / "open")
        done = subprocess.run(
            [sys.executable, "-c", FORBIDDEN, there, open_one], capture_output=True, text=True, check=False
        )
    finally:
        closed.chmod(0o700)
    lines = done.stdout.splitlines()
    assert len(lines) == 3, done.stderr
    assert all(str(closed / "run") in line and not line.startswith("raw") for line in lines), done.stdout


@pytest.mark.parametrize("happens", [shutil.rmtree, lambda path: path.rename(path.with_name("moved"))])
def test_a_run_that_is_removed_or_moved_while_it_trains_is_missed_at_the_next_snapshot(tmp_path, happens):
    """Rather than at the end, hours later; and nothing is made in its old place."""
    config = tiny(**EVERY_STEP, **{"training.steps": 100})
    out = tmp_path / "run"
    with (
        before_the_line(metrics_of(13), lambda: happens(out)),
        pytest.raises(WriteFailed, match="No such file or directory"),
    ):
        train(config, out)
    assert not out.exists()


def test_a_run_that_was_removed_and_begun_anew_is_not_written_into_by_the_trainer_of_the_old_one(
    tmp_path, uninterrupted
):
    """That one still holds a lock, but of a file that is gone."""
    old, new, out = tiny(**EVERY_STEP), tiny(**{**EVERY_STEP, "seed": 1}), tmp_path / "run"

    def begin_anew() -> None:
        shutil.rmtree(out)
        train(new, out)

    with before_the_line(metrics_of(13), begin_anew, once=True), pytest.raises(gi.GrokinterpError):
        train(old, out)
    assert contents(out) == uninterrupted(new)


# Running the same command again


def test_a_finished_run_that_is_trained_again_is_returned_at_once_and_nothing_changes(run, monkeypatch):
    monkeypatch.setattr(Trainer, "__iter__", lambda trainer: pytest.fail("it was trained again"))
    before = traces(run.path)
    again = train(tiny(**EVERY_STEP), run.path)
    after = traces(run.path)
    for kept in (before, after):
        kept.pop(str(run.path / "lock"))
    assert after == before
    assert again.steps == run.steps
    assert again.finished == run.finished


@pytest.mark.parametrize("finished", [True, False])
def test_a_run_that_may_not_be_resumed_is_refused_and_left_alone(tmp_path, finished):
    config = tiny(**EVERY_STEP)
    train(config, tmp_path / "run") if finished else killed(config, tmp_path / "run", metrics_of(13))
    before = traces(tmp_path)
    with pytest.raises(UsageError, match="already holds a run") as caught:
        train(config, tmp_path / "run", resume=False)
    assert caught.value.exit_code == 2
    assert traces(tmp_path) == before


def test_a_new_run_needs_no_permission_to_resume(tmp_path, uninterrupted):
    config = tiny(**EVERY_STEP)
    assert contents(train(config, tmp_path / "run", resume=False).path) == uninterrupted(config)


@pytest.mark.parametrize(
    ("other", "named"),
    [
        ({"seed": 1}, ["seed is 0 there and 1 here"]),
        (
            {"training.lr": 0.5, "model.d_mlp": 64},
            ["training.lr is 0.003 there and 0.5 here", "model.d_mlp is 32 there and 64 here"],
        ),
        ({"training.evaluate_every": 5}, ["training.evaluate_every is 1 there and 5 here"]),
        ({"task.name": "modular_subtraction"}, ["task.name is 'modular_addition' there"]),
        ({"training.batch_size": 5}, ["training.batch_size is None there and 5 here"]),
        ({"snapshots.at": (3,)}, ["snapshots.at"]),
    ],
)
@pytest.mark.parametrize("finished", [True, False])
def test_another_configuration_is_refused_and_every_difference_named(tmp_path, other, named, finished):
    config = tiny(**EVERY_STEP)
    train(config, tmp_path / "run") if finished else killed(config, tmp_path / "run", metrics_of(13))
    before = traces(tmp_path)
    with pytest.raises(ConfigError, match="holds a run of another configuration") as caught:
        train(tiny(**{**EVERY_STEP, **other}), tmp_path / "run")
    assert all(text in str(caught.value) for text in named)
    assert "threads" not in str(caught.value)
    assert caught.value.exit_code == 2
    assert traces(tmp_path) == before


def test_a_run_may_be_continued_with_another_number_of_threads(tmp_path, uninterrupted):
    config = tiny(**EVERY_STEP)
    killed(config, tmp_path / "run", metrics_of(13))
    train(tiny(**{**EVERY_STEP, "threads": 2}), tmp_path / "run")
    assert contents(tmp_path / "run") == uninterrupted(config)


# Going on


VARIANTS: dict[str, dict[str, object]] = {
    "full batch": {},
    "minibatch": {"training.batch_size": 5},
    "adam": {"training.optimizer": "adam", "training.weight_decay": 1e-3},
    "sgd": {"training.optimizer": "sgd", "training.weight_decay": 1e-3, "training.batch_size": 7},
    "muon": {"training.optimizer": "muon"},
    "warmup and clip": {"training.warmup": 15, "training.clip": 0.1},
    "float64": {"training.dtype": "float64"},
    "mse": {"training.loss": "mse"},
    "log_softmax": {"training.loss": "log_softmax"},
    "Grokfast": {"training.grokfast": "ma", "training.grokfast_window": 5, "training.norm_clamp": 1.0},
    "biases and LN": {"model.train_biases": "all", "model.normalization": "LN", "model.n_layers": 2},
    "events": {
        "snapshots.events": (
            "train_loss < 3",
            "train_accuracy > 0.2",
            "train_accuracy > 0.3",
            "train_loss > 0",
        )
    },
    "stopping": {"training.stop_when": "train_loss > 0 for 17"},
    "rare evaluation": {"training.evaluate_every": 6, "snapshots.every": 9},
}


def variant(name: str) -> gi.TrainConfig:
    if name == "muon" and not hasattr(torch.optim, "Muon"):
        pytest.skip("torch has Muon from 2.9 on")
    return tiny(**{**EVERY_STEP, **VARIANTS[name]})


@pytest.mark.parametrize("name", VARIANTS)
def test_a_run_that_was_killed_again_and_again_ends_with_the_same_bytes(tmp_path, uninterrupted, name):
    config = variant(name)
    whole = uninterrupted(config)
    lines = [line.decode() for log in ("metrics.jsonl", "manifest.jsonl") for line in whole[log].splitlines()]
    lines.sort(key=lambda line: json.loads(line)["step"])
    for line in lines[:: max(1, len(lines) // 8)]:
        killed(config, tmp_path / "run", line[: line.index(":", 8) + 1])
    train(config, tmp_path / "run")
    assert contents(tmp_path / "run") == whole


@pytest.mark.parametrize("name", ["full batch", "minibatch", "stopping", "events"])
def test_a_run_that_was_interrupted_at_every_single_step_ends_with_the_same_bytes(
    tmp_path, uninterrupted, name
):
    config = variant(name)
    whole = uninterrupted(config)
    last = json.loads(whole["run.json"])["finished"]["step"]
    for step in range(last):
        message = interrupted(config, tmp_path / "run", step)
        assert message == f"interrupted at step {step}; nothing is lost: run the same command again to go on"
        assert len(gi.load_run(tmp_path / "run").history) == step + 1
    train(config, tmp_path / "run")
    assert contents(tmp_path / "run") == whole


def test_an_interruption_between_two_evaluations_is_heeded_at_the_next_step(tmp_path, uninterrupted):
    config = tiny(
        **{
            "training.steps": 600,
            "training.evaluate_every": 300,
            "snapshots.every": None,
            "snapshots.events": (),
        }
    )
    whole = uninterrupted(config)
    alarm = threading.Timer(0.03, os.kill, (os.getpid(), signal.SIGTERM))
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with (
            before_the_line(commit_of(0), alarm.start),
            pytest.raises(Interrupted, match=r"at step \d+;") as caught,
        ):
            train(config, tmp_path / "run")
    finally:
        alarm.join()
        signal.signal(signal.SIGTERM, before)
    step = int(re.search(r"at step (\d+);", str(caught.value))[1])
    assert step % 300, "it waited for an evaluation"
    assert gi.load_run(tmp_path / "run").history["step"].max() < step
    train(config, tmp_path / "run")
    assert contents(tmp_path / "run") == whole


def test_an_interruption_at_the_last_step_does_not_undo_the_end(tmp_path, uninterrupted):
    config = tiny(**EVERY_STEP)
    with before_the_line(metrics_of(20), lambda: signal.raise_signal(signal.SIGINT)):
        train(config, tmp_path / "run")
    assert contents(tmp_path / "run") == uninterrupted(config)


def test_the_signal_handlers_of_the_caller_come_back(tmp_path):
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    interrupted(tiny(**EVERY_STEP), tmp_path / "run", 3)
    train(tiny(**EVERY_STEP), tmp_path / "run")
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_leftovers_are_ignored_by_a_reader_and_swept_by_a_trainer(tmp_path, uninterrupted):
    config = tiny(**EVERY_STEP)
    out = killed(config, tmp_path / "run", commit_of(10))  # the file of step 10 is there, uncommitted
    for leftover in ("run.json.tmp", "snapshots/step_00000010.safetensors.tmp", "resume/a.safetensors.tmp"):
        (out / leftover).write_bytes(b"half a fi")
    (out / "snapshots/step_00000015.safetensors").write_bytes(b"never committed")
    run = gi.load_run(out)
    assert run.steps == [0]
    with pytest.raises(NoSuchSnapshot):
        run.state_dict(10)
    assert {name for name, _ in run.verify()} == {
        "run.json", "manifest.jsonl", "metrics.jsonl", "snapshots/step_00000000.safetensors",
        "resume/a.safetensors", "resume/b.safetensors"
    }  # fmt: skip
    train(config, out)
    assert contents(out) == uninterrupted(config)


@needs_proc
def test_a_trainer_lets_go_of_every_file(tmp_path, monkeypatch):
    def opened() -> list[str]:
        return sorted(
            os.readlink(entry)
            for entry in Path("/proc/self/fd").iterdir()
            if entry.is_symlink() and str(tmp_path) in os.readlink(entry)
        )

    config = tiny(**EVERY_STEP)
    killed(config, tmp_path / "run", metrics_of(13))
    interrupted(config, tmp_path / "run", 14)
    train(config, tmp_path / "run")
    assert opened() == []
    log = tmp_path / "run" / "metrics.jsonl"
    log.write_bytes(log.read_bytes().replace(b"1", b"2"))
    with pytest.raises(DamagedFile):
        train(config, tmp_path / "run")
    assert opened() == []


# Resume states that are damaged


def spoil(file: Path) -> None:
    data = file.read_bytes()
    file.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))


@pytest.mark.parametrize("spoiled", ["a", "b"])
@pytest.mark.parametrize(
    "spoiling",
    [spoil, lambda file: file.write_bytes(b""), lambda file: file.write_bytes(file.read_bytes()[:-7])],
)
@pytest.mark.parametrize("name", ["full batch", "minibatch", "events"])
def test_training_goes_on_from_the_other_resume_state_with_a_warning(
    tmp_path, uninterrupted, name, spoiled, spoiling
):
    config = variant(name)
    out = killed(
        config, tmp_path / "run", metrics_of(13)
    )  # one slot holds step 10, the other an earlier step
    file = out / "resume" / f"{spoiled}.safetensors"
    spoiling(file)
    with pytest.warns(UserWarning, match="going on from the other resume state") as warned:
        train(config, out)
    assert str(file) in str(warned[0].message)
    assert contents(out) == uninterrupted(config)


def test_a_run_that_goes_on_from_an_older_resume_state_can_be_killed_again(tmp_path, uninterrupted):
    config = tiny(**EVERY_STEP)
    for step in (11, 12, 13, 13, 17, 19, 20):
        out = killed(config, tmp_path / "run", metrics_of(step))
        newest = max((out / "resume").iterdir(), key=lambda file: file.stat().st_mtime_ns)
        if len(list((out / "resume").iterdir())) == 2:
            spoil(newest)
            with pytest.warns(UserWarning, match="going on from the other"):
                killed(config, out, metrics_of(step))
    train(config, out)
    assert contents(out) == uninterrupted(config)


def test_a_lost_resume_state_is_made_up_by_the_other(tmp_path, uninterrupted):
    config = tiny(**EVERY_STEP)
    for lost in ("a", "b"):
        out = killed(config, tmp_path / lost, metrics_of(13))
        (out / "resume" / f"{lost}.safetensors").unlink()
        train(config, out)
        assert contents(out) == uninterrupted(config)


@pytest.mark.parametrize("both", [spoil, Path.unlink])
def test_without_a_resume_state_training_refuses_and_the_snapshots_stay_readable(tmp_path, both):
    config = tiny(**EVERY_STEP)
    out = killed(config, tmp_path / "run", metrics_of(13))
    for file in (out / "resume").iterdir():
        both(file)
    before = contents(out)
    with pytest.raises(
        DamagedFile, match="this run cannot be continued: train into another directory"
    ) as caught:
        train(config, out)
    assert "\n" not in str(caught.value)
    assert contents(out) == before
    run = gi.load_run(out)
    assert run.steps == [0, 10]
    assert all(run.state_dict(step) for step in run.steps)


def test_other_weights_than_those_committed_are_never_passed_off_as_theirs(tmp_path, monkeypatch):
    """A torch that computes otherwise, after falling back to the older resume state."""
    config = tiny(**EVERY_STEP)
    out = killed(config, tmp_path / "run", metrics_of(13))
    spoil(out / "resume" / "b.safetensors")
    before = contents(out)
    update = Optimiser.update

    def otherwise(optimiser, step, gradients):
        return update(optimiser, step, {name: -gradient for name, gradient in gradients.items()})

    monkeypatch.setattr(Optimiser, "update", otherwise)
    with (
        pytest.warns(UserWarning, match="going on from the other"),
        pytest.raises(gi.GrokinterpError, match="gave other weights at step 10"),
    ):
        train(config, out)
    committed = (
        "manifest.jsonl",
        "snapshots/step_00000000.safetensors",
        "snapshots/step_00000010.safetensors",
    )
    assert all(contents(out)[name] == before[name] for name in committed)


# The lock


def test_two_threads_of_one_process_exclude_each_other_too(tmp_path):
    config = tiny(**EVERY_STEP)
    errors = []

    def second() -> None:
        try:
            train(config, tmp_path / "run")
        except RunLocked as error:
            errors.append(str(error))

    def try_in_another_thread() -> None:
        thread = threading.Thread(target=second)
        thread.start()
        thread.join()

    with before_the_line(metrics_of(13), try_in_another_thread):
        train(config, tmp_path / "run")
    assert len(errors) == 1
    assert f"pid {os.getpid()}" in errors[0]


def test_the_lock_is_free_after_every_way_to_end(tmp_path):
    config = tiny(**EVERY_STEP)
    killed(config, tmp_path / "run", metrics_of(13))
    interrupted(config, tmp_path / "run", 15)
    train(config, tmp_path / "run")
    with open(tmp_path / "run" / "lock") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        assert file.read() == ""


def test_a_lock_that_nobody_holds_does_not_count_whatever_is_written_in_it(tmp_path, uninterrupted):
    config = tiny(**EVERY_STEP)
    out = killed(config, tmp_path / "run", metrics_of(13))
    (out / "lock").write_bytes(b"host elsewhere pid 1\n\xff\x00" * 100)
    assert gi.load_run(out).steps == [0, 10]
    train(config, out)
    assert contents(out) == uninterrupted(config)


def test_a_reader_needs_no_lock(tmp_path):
    config = tiny(**EVERY_STEP)
    seen = []
    with before_the_line(metrics_of(13), lambda: seen.append(gi.load_run(tmp_path / "run").steps)):
        train(config, tmp_path / "run")
    assert seen == [[0, 10]]


@contextmanager
def right_before_the_lock(act: Callable[[], object]) -> Iterator[None]:
    """Does something between the first look at the directory and the moment when it is locked."""
    flock = fcntl.flock

    def late(handle: int, how: int) -> None:
        fcntl.flock = flock
        act()
        flock(handle, how)

    fcntl.flock = late
    try:
        yield
    finally:
        fcntl.flock = flock


@pytest.mark.parametrize("finished", [True, False])
def test_a_run_of_another_configuration_that_appears_before_the_lock_is_refused(tmp_path, finished):
    mine, other, out = tiny(**EVERY_STEP), tiny(**{**EVERY_STEP, "seed": 1}), tmp_path / "run"

    def appear() -> None:
        train(other, out) if finished else killed(other, out, metrics_of(13))

    with right_before_the_lock(appear), pytest.raises(ConfigError, match="seed"):
        train(mine, out)
    assert gi.load_run(out).config == other
    train(other, out)


def test_a_run_that_appears_before_the_lock_is_not_resumed_against_the_will(tmp_path):
    config = tiny(**EVERY_STEP)
    with (
        right_before_the_lock(lambda: killed(config, tmp_path / "run", metrics_of(13))),
        pytest.raises(UsageError, match="already holds a run"),
    ):
        train(config, tmp_path / "run", resume=False)
    assert len(gi.load_run(tmp_path / "run").history) == 13


def test_a_disk_that_knows_no_locks_is_not_said_to_be_locked(tmp_path, monkeypatch):
    def refuse(handle: int, how: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(gi.GrokinterpError) as caught:
        train(tiny(), tmp_path / "run")
    assert not isinstance(caught.value, RunLocked)
    assert os.strerror(errno.ENOLCK) in str(caught.value)


# Divergence


def test_a_run_that_diverges_keeps_the_last_good_snapshot_and_says_where(tmp_path):
    config = tiny(**EVERY_STEP, **{"training.lr": 3.0, "training.steps": 5000})
    with pytest.raises(Diverged) as caught:
        train(config, tmp_path / "run")
    run = gi.load_run(tmp_path / "run")
    at = int(
        re.search(
            r"became NaN or infinite at step (\d+); try a smaller training.lr than 3", str(caught.value)
        )[1]
    )
    assert str(caught.value).endswith(f"; the last good snapshot is at step {run.steps[-1]} of {run.path}")
    assert "\n" not in str(caught.value)
    assert run.finished is None
    assert run.steps == list(range(0, at, 10))
    assert run.history["step"].tolist() == list(range(at))
    assert all(torch.isfinite(weight).all() for weight in run.state_dict(-1).values())
    assert all(wrong is None for _, wrong in run.verify())


def test_a_run_that_diverged_is_not_trained_on_says_so_and_nothing_of_it_changes(tmp_path):
    config = tiny(**EVERY_STEP, **{"training.lr": 3.0, "training.steps": 5000})
    errors, files = [], []
    for _ in range(2):
        with pytest.raises(Diverged) as caught:
            train(config, tmp_path / "run")
        errors.append(caught.value)
        files.append(contents(tmp_path / "run"))
    first, again = errors
    assert (again.step, again.what) == (first.step, first.what)
    assert str(again).startswith(
        f"{tmp_path / 'run'} diverged at step {first.step}: {first.what}; it is not trained on: "
    )
    assert str(again).endswith(str(first).rpartition("; ")[2])
    assert files[0] == files[1]


def test_a_run_that_diverged_before_runs_knew_it_diverges_again_and_then_knows(tmp_path):
    config = tiny(**EVERY_STEP, **{"training.lr": 3.0, "training.steps": 5000})
    with pytest.raises(Diverged) as first:
        train(config, tmp_path / "run")
    record = read_run_json(tmp_path / "run")
    write_record(tmp_path / "run", {key: value for key, value in record.items() if key != "diverged"})
    assert gi.load_run(tmp_path / "run").ended is None
    with pytest.raises(Diverged) as again:
        train(config, tmp_path / "run")
    assert str(again.value) == str(first.value)
    assert read_run_json(tmp_path / "run") == record


def test_a_run_that_diverges_before_its_first_snapshot_names_no_step(tmp_path):
    with pytest.raises(Diverged) as caught:
        train(tiny(**{"model.init_scale": 1e6, "model.n_layers": 2}), tmp_path / "run")
    assert "at step 0" in str(caught.value)
    assert "step -1" not in str(caught.value)
    assert str(tmp_path / "run") in str(caught.value)
    assert gi.load_run(tmp_path / "run").steps == []


# Disks that are full or read-only


def is_one_line(error: gi.GrokinterpError, path: Path) -> bool:
    return (
        "\n" not in str(error)
        and str(error).startswith(f"cannot write {path}")
        and "run the same command again" in str(error)
    )


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real disk of one megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if shutil.which("mount") is None:
        pytest.skip("no mount command here")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def leave_free(disk: Path, size: int) -> Path:
    """Fills the disk up to so many bytes; the file that does it."""
    ballast = disk / "ballast"
    ballast.write_bytes(b"")
    free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_bsize
    ballast.write_bytes(b"x" * (free - size))
    return ballast


def test_a_full_disk_stops_training_and_the_same_call_finishes_once_there_is_room(small_disk, uninterrupted):
    whole = uninterrupted(SHORT)
    needed = sum(4096 * (1 + len(data) // 4096) for data in whole.values())
    stopped = set()
    for size in range(0, needed, 4096):
        out = small_disk / "run"
        ballast = leave_free(small_disk, size)
        with pytest.raises(WriteFailed, match="the disk is full") as caught:
            train(SHORT, out)
        assert is_one_line(caught.value, out)
        stopped.add(str(caught.value).split(":")[0].removeprefix(f"cannot write {out}/"))
        assert not list(out.rglob("*.tmp")), "a temporary file takes up room on a full disk"
        if (out / "run.json").exists():
            run = gi.load_run(out)
            assert all(run.state_dict(step) for step in run.steps)
            assert all(wrong is None for _, wrong in run.verify())
        with pytest.raises(WriteFailed, match="the disk is full"):
            train(SHORT, out)
        ballast.unlink()
        train(SHORT, out)
        assert contents(out) == whole
        shutil.rmtree(out)
    assert {
        "lock",
        "run.json",
        "resume/a.safetensors",
        "resume/b.safetensors",
        "snapshots/step_00000000.safetensors",
    } <= stopped


def test_a_disk_without_room_for_another_file_stops_training_and_the_same_call_finishes_later(
    small_disk, uninterrupted
):
    out = small_disk / "run"
    for files in range(3, 11):
        subprocess.run(["mount", "-o", f"remount,nr_inodes={files}", str(small_disk)], check=True)
        with pytest.raises(WriteFailed, match="the disk is full") as caught:
            train(SHORT, out)
        assert is_one_line(caught.value, out)
        subprocess.run(["mount", "-o", "remount,nr_inodes=1000", str(small_disk)], check=True)
        train(SHORT, out)
        assert contents(out) == uninterrupted(SHORT)
        shutil.rmtree(out)


def test_a_disk_that_becomes_read_only_stops_training_can_be_read_and_goes_on_later(
    small_disk, uninterrupted
):
    config = tiny(**EVERY_STEP)
    out = killed(config, small_disk / "run", metrics_of(13))
    (out / "run.json.tmp").write_bytes(b"a leftover that cannot be swept")
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    for path in (out, small_disk / "new"):
        with pytest.raises(WriteFailed, match="the disk is read-only") as caught:
            train(config, path)
        assert is_one_line(caught.value, path)
    run = gi.load_run(out)
    assert run.steps == [0, 10]
    assert all(run.state_dict(step) for step in run.steps)
    subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
    train(config, out)
    assert contents(out) == uninterrupted(config)


@contextmanager
def refused_after(allowed: int, call: str, code: int) -> Iterator[list[int]]:
    """A call of the operating system that works so many times and then never again; how often it was made."""
    owner = Path if call in ("unlink", "mkdir") else os
    real, made = getattr(owner, call), [0]

    def refusing(*args: object, **kwargs: object) -> object:
        if call == "open" and not (len(args) > 1 and args[1] & (os.O_WRONLY | os.O_RDWR)):
            return real(*args, **kwargs)
        made[0] += 1
        if made[0] > allowed:
            raise OSError(code, os.strerror(code))
        return real(*args, **kwargs)

    setattr(owner, call, refusing)
    try:
        yield made
    finally:
        setattr(owner, call, real)


@pytest.mark.parametrize("call", ["open", "pwrite", "replace", "fsync", "ftruncate", "unlink", "mkdir"])
def test_every_call_that_a_disk_may_refuse_is_one_line_and_the_same_call_goes_on_later(
    tmp_path, uninterrupted, call
):
    """Refused from the first time on, from the second, and so on until training gets through without a
    refusal."""
    for allowed in range(100):
        out = tmp_path / f"run{allowed}"
        failed = ""
        with refused_after(allowed, call, errno.EIO) as made:
            try:
                train(SHORT, out)
            except WriteFailed as error:
                failed = str(error)
        assert not failed or (failed.startswith(f"cannot write {out}") and "\n" not in failed)
        train(SHORT, out)
        assert contents(out) == uninterrupted(SHORT)
        if made[0] <= allowed:
            break
    assert 0 < allowed < 99


def test_a_limit_on_the_size_of_files_stops_training_and_the_same_call_finishes_without_it(
    tmp_path, uninterrupted
):
    whole = uninterrupted(SHORT)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    for limit in range(1, max(len(data) for data in whole.values()), 1777):
        out = tmp_path / f"run{limit}"
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        try:
            with pytest.raises(WriteFailed) as caught:
                train(SHORT, out)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert is_one_line(caught.value, out)
        train(SHORT, out)
        assert contents(out) == whole
