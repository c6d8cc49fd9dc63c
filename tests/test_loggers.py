"""Loggers get what is recorded, once, and have no say in the training: by a recording fake, and by the real
libraries where they are installed."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import warnings
from contextlib import nullcontext
from importlib import import_module
from importlib.util import find_spec

import pytest

import grokinterp as gi
from conftest import tiny
from grokinterp.errors import UsageError
from grokinterp.runs import loggers, many
from grokinterp.runs.loggers import LOGGERS, Logger

CONFIG = tiny(**{"training.evaluate_every": 1, "snapshots.events": ()})
STEPS = list(range(21))


class Fake:
    """Remembers what it is told; the sessions of a run share one list."""

    def __init__(self) -> None:
        self.said: dict[str, list[tuple[int, dict[str, float]]]] = {}
        self.ids: dict[str, set[str]] = {}
        self.closed = 0

    def open(self, begun):
        rows = self.said.setdefault(begun.name, [])
        self.ids.setdefault(begun.name, set()).add(begun.id)
        outer = self

        class Session:
            def log(self, step, metrics):
                rows.append((step, dict(metrics)))

            def close(self):
                outer.closed += 1

        return Session()


@pytest.fixture
def fake(monkeypatch) -> Fake:
    made = Fake()
    monkeypatch.setitem(LOGGERS, "fake", Logger(made.open, "json"))
    return made


def dying(at, monkeypatch):
    """Training dies when this step was recorded."""

    def showing(config, wanted):
        def show(snapshot):
            if snapshot.step >= at:
                raise KeyboardInterrupt

        return nullcontext(show)

    monkeypatch.setattr(import_module("grokinterp.runs.train"), "_progress_bar", showing)


def bytes_of(run):
    mine = ("run.json", "manifest.jsonl", "metrics.jsonl", "snapshots/*", "resume/*")
    return {str(f.relative_to(run.path)): f.read_bytes() for one in mine for f in run.path.glob(one)}


def evaluations(run):
    rows = run.history.to_dict("records")
    return [(int(row.pop("step")), {k: v for k, v in row.items() if v == v}) for row in rows]


def test_a_logger_gets_what_is_recorded_and_the_training_is_the_same(tmp_path, fake):
    plain = gi.train(CONFIG, tmp_path / "plain", progress=False)
    logged = gi.train(CONFIG, tmp_path / "logged", log="fake", progress=False)
    assert fake.said == {"logged": evaluations(logged)}
    assert [step for step, _ in fake.said["logged"]] == STEPS
    assert fake.closed == 1
    assert bytes_of(plain) == bytes_of(logged)


def test_a_function_is_a_logger(tmp_path, fake):
    rows = []
    run = gi.train(CONFIG, tmp_path / "run", log=["fake", lambda *row: rows.append(row)], progress=False)
    assert rows == evaluations(run) == fake.said["run"]


@pytest.mark.parametrize("resume_state", ["newest", "older"])
def test_a_training_that_was_interrupted_goes_on_without_doubles_and_gaps(
    tmp_path, fake, monkeypatch, resume_state
):
    with monkeypatch.context() as patched:
        dying(13, patched)
        with pytest.raises(KeyboardInterrupt):
            gi.train(CONFIG, tmp_path / "run", log="fake", progress=False)
    assert [step for step, _ in fake.said["run"]] == STEPS[:14]
    assert fake.closed == 1
    if resume_state == "older":  # steps that were recorded are trained, and evaluated, once more
        newest = max((tmp_path / "run/resume").iterdir(), key=lambda file: file.stat().st_mtime_ns)
        newest.write_bytes(b"damaged")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run = gi.train(CONFIG, tmp_path / "run", log="fake", progress=False)
    assert fake.said["run"] == evaluations(run)
    assert len(fake.ids["run"]) == 1


def test_a_logger_that_comes_late_gets_what_was_before_also_of_a_finished_run(tmp_path, fake, monkeypatch):
    with monkeypatch.context() as patched:
        dying(13, patched)
        with pytest.raises(KeyboardInterrupt):
            gi.train(CONFIG, tmp_path / "run", progress=False)
    run = gi.train(CONFIG, tmp_path / "run", log="fake", progress=False)
    assert fake.said["run"] == evaluations(run)
    gi.train(CONFIG, tmp_path / "run", log="fake", progress=False)  # which has ended, and nothing is new
    assert fake.said["run"] == evaluations(run)
    monkeypatch.setitem(LOGGERS, "other", Logger((other := Fake()).open, "json"))
    gi.train(CONFIG, tmp_path / "run", log="other", progress=False)
    assert other.said["run"] == evaluations(run)
    assert (fake.closed, other.closed) == (2, 1)


@pytest.mark.parametrize("damage", ["{", "[]", '{"fake": {}}', ""])
def test_what_it_has_had_being_unreadable_gives_it_everything_as_another_run(tmp_path, fake, damage):
    run = gi.train(CONFIG, tmp_path / "run", log="fake", progress=False)
    (run.path / loggers.LOGGED).write_text(damage)
    gi.train(CONFIG, tmp_path / "run", log="fake", progress=False)
    assert fake.said["run"] == 2 * evaluations(run)
    assert len(fake.ids["run"]) == 2


@pytest.mark.parametrize("when", ["opened", "told", "closed"])
def test_a_logger_that_fails_is_left_out_with_one_warning_and_the_rest_goes_on(
    tmp_path, fake, monkeypatch, when
):
    class Broken:
        def __init__(self, begun):
            if when == "opened":
                raise OSError("no server")

        def log(self, step, metrics):
            if when == "told" and step >= 3:
                raise OSError("no server")

        def close(self):
            if when == "closed":
                raise OSError("no server")

    monkeypatch.setitem(LOGGERS, "broken", Logger(Broken, "json"))
    with pytest.warns(UserWarning, match=r"the logger broken failed \(OSError: no server\)") as caught:
        run = gi.train(CONFIG, tmp_path / "run", log=["broken", "fake"], progress=False)
    assert len(caught) == 1
    assert run.finished
    assert fake.said["run"] == evaluations(run)


def test_an_unknown_or_missing_logger_is_one_line_before_anything_is_written(tmp_path, monkeypatch):
    with pytest.raises(UsageError, match="there is no logger 'wanbd'; did you mean 'wandb'"):
        gi.train(CONFIG, tmp_path / "run", log="wanbd")
    monkeypatch.setitem(LOGGERS, "trackio", Logger(LOGGERS["trackio"].open, "no_such_module"))
    with pytest.raises(UsageError, match=r"not installed: pip install 'grokinterp\[trackio\]'"):
        gi.train_many([CONFIG], tmp_path / "runs", log="trackio")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("way", ["one by one", "cuda"])
def test_several_runs_are_logged_each_as_its_own(tmp_path, fake, monkeypatch, way):
    """In this process, one after the other or as one stack."""
    monkeypatch.setattr(many, "_device_type", lambda config: way)
    runs = gi.train_many(CONFIG, tmp_path, seeds="0..1", log="fake", progress=False)
    assert fake.said == {f"seed_{i}": evaluations(run) for i, run in enumerate(runs)}
    assert fake.ids["seed_0"] != fake.ids["seed_1"]


def test_processes_are_told_of_loggers_by_name_alone(tmp_path):
    with pytest.raises(UsageError, match="needs names here"):
        gi.train_many([CONFIG], tmp_path, log=print)


needs_tensorboard = pytest.mark.skipif(
    find_spec("tensorboard") is None, reason="tensorboard is not installed"
)


def tensorboard_shows(run):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run.path / "tensorboard"))
    events.Reload()
    names = events.Tags()["scalars"]
    return {name: [(event.step, event.value) for event in events.Scalars(name)] for name in names}


@needs_tensorboard
def test_tensorboard_shows_every_evaluation_once_after_a_kill(tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        dying(13, patched)
        patched.setattr(loggers._TensorBoard, "close", lambda self: None)  # as a kill leaves it
        with pytest.raises(KeyboardInterrupt):
            gi.train(CONFIG, tmp_path / "run", log="tensorboard", progress=False)
    run = gi.train(CONFIG, tmp_path / "run", log="tensorboard", progress=False)
    shown = tensorboard_shows(run)
    assert set(shown) == set(run.history.columns) - {"step"}
    for name, rows in shown.items():
        wanted = run.history.dropna(subset=[name])
        assert [step for step, _ in rows] == wanted["step"].tolist()
        assert [value for _, value in rows] == pytest.approx(wanted[name].tolist())


@needs_tensorboard
def test_processes_log_too(tmp_path):
    run, other = gi.train_many(CONFIG, tmp_path, seeds="0..1", log="tensorboard", workers=2, progress=False)
    for each in (run, other):
        assert [step for step, _ in tensorboard_shows(each)["test_loss"]] == STEPS


@pytest.mark.skipif(find_spec("wandb") is None, reason="wandb is not installed")
def test_wandb_keeps_every_evaluation_offline(tmp_path):
    """In a process of its own: wandb leaves threads and a service behind."""
    code = (
        "import grokinterp as gi, sys; from test_loggers import CONFIG; "
        "gi.train(CONFIG, sys.argv[1], log='wandb', progress=False)"
    )
    environment = {key: value for key, value in os.environ.items() if not key.startswith("WANDB")}
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "run")],
        env=environment | {"PYTHONPATH": os.pathsep.join([os.path.dirname(__file__), *sys.path])},
        **{"capture_output": True, "text": True},
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert "failed" not in done.stderr
    (kept,) = (tmp_path / "run" / "wandb").glob("offline-run-*/run-*.wandb")
    run = gi.load_run(tmp_path / "run")
    assert json.loads((run.path / loggers.LOGGED).read_text())["wandb"]["id"] in kept.name
    rows = [(step, pytest.approx(row)) for step, row in evaluations(run)]
    assert [(step, row) for step, row in wandb_rows(kept.read_bytes()) if row] == rows


def wandb_rows(data):
    """What wandb has written of each step: records of protobuf in the log format of LevelDB, behind a head of
    seven bytes."""
    from wandb.proto.wandb_internal_pb2 import Record

    at, block, parts, rows = 7, 1 << 15, b"", []
    while at + 7 < len(data):
        if block - at % block < 7:
            at += block - at % block
        size, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        parts += data[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):  # whole, or the last of several
            record, parts = Record.FromString(parts), b""
            if record.WhichOneof("record_type") == "history":
                values = {
                    item.key or item.nested_key[0]: json.loads(item.value_json)
                    for item in record.history.item
                }
                step = values.get("_step", record.history.step.num)
                rows.append((step, {key: x for key, x in values.items() if not key.startswith("_")}))
    return rows


@pytest.mark.skipif(find_spec("trackio") is None, reason="trackio is not installed")
def test_trackio_keeps_every_evaluation_on_this_machine(tmp_path):
    code = (
        "import grokinterp as gi, sys; from test_loggers import CONFIG; "
        "gi.train(CONFIG, sys.argv[1], log='trackio', progress=False)"
    )
    environment = {"TRACKIO_DIR": str(tmp_path / "db")}
    environment["PYTHONPATH"] = os.pathsep.join([os.path.dirname(__file__), *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "run")],
        env=os.environ | environment,
        **{"capture_output": True, "text": True},
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert "failed" not in done.stderr
    database = sqlite3.connect(tmp_path / "db" / "grokinterp.db")
    rows = database.execute("select step, metrics from metrics order by id").fetchall()
    run = gi.load_run(tmp_path / "run")
    assert [(step, json.loads(metrics)) for step, metrics in rows] == evaluations(run)
