"""A sweep: its members are the runs that they are alone, and sweep.json says what belongs to it and what has
come of it, whatever happens meanwhile."""

from __future__ import annotations

import inspect
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

import grokinterp as gi
from conftest import TINY, tiny
from grokinterp.errors import (
    ConfigError,
    DamagedFile,
    Interrupted,
    NotARun,
    RunLocked,
    SomeFailed,
    UsageError,
)
from grokinterp.runs import files
from grokinterp.runs.listing import _seconds_left, listed
from grokinterp.runs.many import Ends, Work
from grokinterp.runs.swept import FILE
from grokinterp.sweeps import live
from grokinterp.sweeps.directory import ENGINES, Sweep
from grokinterp.sweeps.live import Live
from grokinterp.sweeps.manifest import Ended, Manifest
from grokinterp.sweeps.outlook import sweep_outlook
from test_runs import contents

GRID = {"training.weight_decay": "0,2", "seed": "0,1"}
NAMES = [f"weight_decay={decay},seed={seed}" for decay in (0, 2) for seed in (0, 1)]
FLAGS = [f"--set={key}={'' if value is None else value}" for key, value in {**TINY, "threads": 1}.items()]


def in_process(work: Work) -> Ends:
    """An engine without processes."""
    yield from work.one_by_one(list(work.configs))


def swept(out: Path, config: gi.TrainConfig | None = None, **options) -> Sweep:
    options = {"grid": GRID, "engine": in_process, "progress": False} | options
    return gi.sweep(config or tiny(), out, **options)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Sweep:
    return swept(tmp_path_factory.mktemp("sweep") / "whole")


def everything(folder: Path) -> dict[str, dict[str, bytes]]:
    return {path.name: contents(path) for path in sorted(folder.iterdir()) if path.is_dir()}


# What it leaves


def test_each_member_is_byte_for_byte_the_run_that_it_is_alone(tmp_path):
    """By processes of this machine, as is usual."""
    done = swept(tmp_path / "sweep", engine="local", workers=2)
    assert [run.path.name for run in done.runs] == NAMES
    for name, member in done.members.items():
        alone = gi.train(tiny(**member.values), tmp_path / name, progress=False)
        assert contents(done.path / name) == contents(alone.path)


def test_it_says_what_belongs_to_it_and_how_that_ended(whole):
    assert len(whole) == 4
    assert whole.keys == ("training.weight_decay", "seed")
    table = whole.table
    assert list(table["member"]) == NAMES
    assert set(table["state"]) == {"finished"}
    assert set(table["step"]) == {20}
    assert list(table["training.weight_decay"]) == [0, 0, 2, 2]
    assert table["train_accuracy"].between(0, 1).all()
    assert whole.ended[NAMES[0]] == Ended("finished", 20, "all steps done")
    assert repr(whole).startswith("<Sweep of 4 runs over training.weight_decay, seed in ")
    assert gi.load_sweep(whole.path).table.equals(table)


def test_what_is_finished_is_not_trained_again(whole):
    before = everything(whole.path)

    def nothing(work: Work) -> Ends:
        raise AssertionError(f"trains {list(work.configs)}")
        yield

    assert len(swept(whole.path, engine=nothing)) == 4
    assert len(gi.sweep(None, whole.path, engine=nothing, progress=False)) == 4
    assert everything(whole.path) == before


def test_it_grows_by_more_values_and_trains_those_alone(whole, tmp_path):
    out = Path(shutil.copytree(whole.path, tmp_path / "grown"))
    trained = []

    def engine(work: Work) -> Ends:
        trained.extend(work.configs)
        return in_process(work)

    more = {"seed": "2", "training.weight_decay": "2,3"}  # in another order
    done = swept(out, grid=more, engine=engine)
    assert trained == ["weight_decay=2,seed=2", "weight_decay=3,seed=2"]
    assert [*done.members] == [*NAMES, *trained]
    assert everything(whole.path).items() < everything(out).items()
    assert set(gi.load_sweep(out).table["state"]) == {"finished"}


def test_configurations_with_names_are_a_sweep_over_what_differs(tmp_path):
    configs = {"one": tiny(), "another": tiny(seed=1, **{"training.lr": 1e-3})}
    done = gi.sweep(configs, tmp_path, engine=in_process, progress=False)
    assert done.keys == ("seed", "training.lr")
    assert list(done.members) == ["one", "another"]
    assert gi.load_run(tmp_path / "another").config == configs["another"]


# What goes wrong


def test_one_that_fails_or_diverges_is_recorded_and_stops_nothing_else(tmp_path, monkeypatch):
    """The second cannot be written; the third diverges. What diverged is a result, what failed is tried
    again."""
    grid = {"training.lr": [3e-3, 2e-3, 1e6, 1e-3]}
    (tmp_path / "lr=0.002").mkdir()
    (tmp_path / "lr=0.002" / "notes.txt").write_text("mine")
    config = tiny(**{"training.optimizer": "sgd"})
    with pytest.raises(SomeFailed, match=r"1 of 4 members failed; lr=0.002: .*holds no run") as caught:
        swept(tmp_path, config, grid=grid)
    assert list(caught.value.failures) == ["lr=0.002"]
    table = gi.load_sweep(tmp_path).table.set_index("member")
    assert list(table["state"]) == ["finished", "failed", "diverged", "finished"]
    assert "NaN or infinite" in table.loc["lr=1000000", "why"]
    assert (tmp_path / "lr=0.002" / "notes.txt").read_text() == "mine"
    (tmp_path / "lr=0.002" / "notes.txt").unlink()
    done = swept(tmp_path, config, grid=grid)
    assert list(done.table["state"]) == ["finished", "finished", "diverged", "finished"]


def test_a_member_whose_directory_is_gone_is_trained_again(whole, tmp_path):
    out = Path(shutil.copytree(whole.path, tmp_path / "less"))
    shutil.rmtree(out / NAMES[2])
    assert gi.load_sweep(out).table.set_index("member").loc[NAMES[2], "state"] == "waiting"
    assert [problem for _, problem in gi.load_sweep(out).verify() if problem] == [
        f"{out / NAMES[2]} is gone, and sweep.json says that it was finished: sweep again"
    ]
    swept(out)
    assert everything(out) == everything(whole.path)


def test_what_ended_after_the_last_word_of_the_manifest_is_found(whole, tmp_path):
    out = Path(shutil.copytree(whole.path, tmp_path / "behind"))
    manifest = Manifest.read(out)
    manifest.ended.clear()
    manifest.write()
    done = swept(out, engine=lambda work: pytest.fail("nothing is left"))
    assert done.ended == whole.ended


def test_verify_finds_a_changed_byte_and_another_configuration(whole, tmp_path):
    assert all(problem is None for _, problem in whole.verify())
    out = Path(shutil.copytree(whole.path, tmp_path / "changed"))
    file = out / NAMES[1] / "snapshots" / "step_00000010.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    shutil.rmtree(out / NAMES[0])
    shutil.copytree(out / NAMES[2], out / NAMES[0])
    found = {name: problem for name, problem in gi.load_sweep(out).verify() if problem}
    assert set(found) == {NAMES[0], f"{NAMES[1]}/snapshots/step_00000010.safetensors"}
    assert "its configuration is not that of sweep.json: training.weight_decay" in found[NAMES[0]]


def test_a_changed_manifest_is_one_line(whole, tmp_path):
    (tmp_path / FILE).write_bytes(
        (whole.path / FILE).read_bytes().replace(b"weight_decay=0", b"weight_decay=9")
    )
    with pytest.raises(DamagedFile, match=r"sweep.json is damaged.*restore it from a copy"):
        gi.load_sweep(tmp_path)
    with pytest.raises(
        NotARun, match=r"holds no sweep\.json: give the directory that `grokinterp sweep --out`"
    ):
        gi.load_sweep(tmp_path / "none")


def test_a_disk_that_is_full_in_the_middle_is_one_line_and_nothing_is_lost(tmp_path, monkeypatch):
    replace = files.replace

    def full(path, data, **options):
        if path.name == FILE and b'"ended"' in data:
            with files.writing(path):
                raise OSError(28, "No space left on device")
        replace(path, data, **options)

    monkeypatch.setattr("grokinterp.sweeps.manifest.replace", full)
    with pytest.raises(
        gi.GrokinterpError, match=r"sweep.json: the disk is full; everything committed .* is safe"
    ):
        swept(tmp_path)
    monkeypatch.undo()
    assert set(swept(tmp_path).table["state"]) == {"finished"}


@pytest.mark.parametrize(
    ("config", "options", "kind", "says"),
    [
        ({}, {"grid": {"seed": "0,1"}}, ConfigError, "weight_decay, seed, and this one is over seed"),
        (
            {"training.lr": 1e-3}, {}, ConfigError,
            "another configuration: training.lr is 0.003 there and 0.001 here",
        ),
        ({}, {"grid": None}, UsageError, "a sweep needs --grid KEY=VALUES or --seeds"),
        ({}, {"seeds": "0,1"}, UsageError, "the grid has the key seed as well"),
        ({}, {"engine": "rey"}, UsageError, "unknown engine 'rey'; did you mean 'ray'?"),
        ({}, {"workers": 0}, UsageError, "workers=0: needs a whole number from 1"),
        ({}, {"engine": "ray", "workers": 2}, UsageError, "the engine ray has no say in that"),
        ({}, {"engine": "local", "options": {"address": "a"}}, UsageError, "takes no option 'address'"),
        ({}, {"grid": {"device": "cpu,meta"}}, UsageError, "device"),
        ({}, {"log": print}, UsageError, "log: needs names here"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_and_nothing_changes(whole, config, options, kind, says):
    before = everything(whole.path), (whole.path / FILE).read_bytes()
    with pytest.raises(kind) as caught:
        swept(whole.path, tiny(**config), **options)
    assert says in str(caught.value)
    assert (everything(whole.path), (whole.path / FILE).read_bytes()) == before


@pytest.mark.parametrize(
    ("configs", "says"),
    [
        ({"a/b": tiny()}, "'a/b' is no name for the directory of a run"),
        ({"a": tiny(), "b": tiny()}, "they do not differ"),
        ({"a": tiny(), "b": 3}, "'b' is no TrainConfig but 3"),
        ({}, "needs a TrainConfig, or names and TrainConfigs"),
    ],
)
def test_configurations_that_are_no_sweep(tmp_path, configs, says):
    with pytest.raises(UsageError) as caught:
        gi.sweep(configs, tmp_path, engine=in_process)
    assert says in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_directory_of_a_run_is_refused(tmp_path):
    gi.train(tiny(), tmp_path, progress=False)
    with pytest.raises(NotARun, match="holds a run itself"):
        swept(tmp_path)


def test_two_that_sweep_one_directory_do_not_meet(whole):
    with (
        files.locked(whole.path, str),
        pytest.raises(RunLocked, match=r"is being swept by host .* pid \d+: wait for it"),
    ):
        swept(whole.path)


def test_one_that_is_interrupted_goes_on_to_the_same_bytes(whole, tmp_path):
    def engine(work: Work) -> Ends:
        for i, end in enumerate(in_process(work)):
            yield end
            if i == 0:
                os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted, match=r"interrupted, 1 of 4 members have ended; nothing is lost"):
        swept(tmp_path, engine=engine)
    assert len(gi.load_sweep(tmp_path).ended) == 1
    swept(tmp_path)
    assert everything(tmp_path) == everything(whole.path)


@pytest.mark.slow
@pytest.mark.trains
def test_one_that_is_killed_again_and_again_goes_on_to_the_same_bytes(tmp_path):
    """By SIGKILL, with its workers, at whatever step they are."""
    grid = ["--grid=training.weight_decay=0,2", "--grid=training.fraction=0.4,0.6", "--seeds=0..1"]
    command = [sys.executable, "-c", "from grokinterp.cli import main; main()", "sweep", "modular_addition"]
    command += ["--preset=quick", *FLAGS, "--set=training.steps=2000", "--set=snapshots.every=50", *grid]
    for i in range(5):
        process = subprocess.Popen([*command, f"--out={tmp_path / 'killed'}"], start_new_session=True)
        time.sleep(3 + 1.3 * i)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    subprocess.run([*command, f"--out={tmp_path / 'killed'}"], check=True)
    subprocess.run([*command, f"--out={tmp_path / 'whole'}"], check=True)
    assert everything(tmp_path / "killed") == everything(tmp_path / "whole")
    assert (tmp_path / "killed" / FILE).read_bytes() == (tmp_path / "whole" / FILE).read_bytes()


# What is shown and foretold


def test_the_table_of_a_running_sweep_says_how_far_each_is_and_how_long_it_takes():
    now = 0.0
    configs = {f"m{i}": tiny(**{"training.steps": 100}) for i in range(4)}
    shown = Live(configs, {"m0": Ended("finished", 100, "")}, lambda: now)
    assert shown.caption == "1 of 4 finished, 0 training, 3 waiting"
    shown.show("m1", 0, {"train_loss": 1.0})
    now = 10.0
    shown.show("m1", 20, {"train_loss": 0.5, "test_loss": 2.0})
    assert shown.seconds_left("m1") == 40
    assert shown.rows(9) == [("m1", "training", "20 of 100", "5.00e-01", "2.00e+00", "40 s")]
    assert shown.seconds_left_of_all == 280 / 2  # 20 steps in 10 s, 280 left
    assert shown.caption == "1 of 4 finished, 1 training, 2 waiting; at most 2.3 min left"
    shown.end("m1", Ended("diverged", 20, "the loss became NaN"))
    assert shown.rows(9)[0][:3] == ("m1", "diverged", "20 of 100")
    assert "1 diverged" in shown.caption
    assert len(shown.rows(0)) == 0


def test_the_table_fits_a_narrow_terminal():
    from rich.console import Console

    configs = {"weight_decay=0.3,fraction=0.4,seed=3" * 3: tiny()}
    shown = Live(configs, {})
    shown.show(next(iter(configs)), 10, {"train_loss": 1.0, "test_loss": 1.0})
    console = Console(width=60, record=True, file=io.StringIO())
    console.print(shown)
    assert all(len(line) <= 60 for line in console.export_text().splitlines())


def test_it_is_shown_where_stderr_is_a_terminal_or_asked_for(whole, tmp_path, capsys, monkeypatch):
    seen = []
    monkeypatch.setattr(live.Live, "show", lambda self, name, step, metrics: seen.append((name, step)))
    swept(tmp_path / "a")
    assert not seen
    swept(tmp_path / "b", progress=True)
    assert {name for name, _ in seen} == set(NAMES)


def test_an_outlook_counts_members_time_and_disk(whole):
    found = sweep_outlook(whole.members, workers=2)
    assert found.members == tuple(NAMES)
    assert found.workers == 2
    assert 1 <= len(found.measured) <= 4
    assert 0 < found.seconds < 600
    per_run = sum(path.stat().st_size for path in (whole.path / NAMES[0] / "snapshots").iterdir())
    assert 4 * per_run < found.bytes < 4 * 3 * per_run
    assert json.dumps(found.to_dict())


# Where runs are listed


def test_a_list_has_the_values_of_members_those_that_wait_and_the_time_left(whole, tmp_path, grokinterp):
    out = Path(shutil.copytree(whole.path, tmp_path / "sweep"))
    shutil.rmtree(out / NAMES[1])
    rows = {row.run: row for row in listed(out)}
    assert [rows[name].status for name in sorted(rows)] == ["finished", "waiting", "finished", "finished"]
    assert rows[NAMES[2]].values == {"training.weight_decay": 2, "seed": 0}
    assert rows[NAMES[1]].values == {"training.weight_decay": 0, "seed": 1}
    assert rows[NAMES[1]].seconds_left is None
    code, printed, _ = grokinterp("ls", str(out))
    assert code == 0
    assert printed.splitlines()[2].split() == [NAMES[1], "0.0", "kB", "waiting"]
    (out / FILE).write_bytes(b"{}")
    assert [row.values for row in listed(out)] == [None] * 3


def test_the_time_left_is_told_from_the_snapshots_since_it_was_gone_on_with(tmp_path):
    """Of 40 steps three snapshots were written 10 s apart, and one before the lock was taken."""
    (tmp_path / "snapshots").mkdir()
    for step, at in {0: 0, 10: 1000, 20: 1010, 30: 1020}.items():
        file = tmp_path / "snapshots" / f"step_{step:08d}.safetensors"
        file.touch()
        os.utime(file, (at, at))
    (tmp_path / "lock").touch()
    os.utime(tmp_path / "lock", (500, 500))
    account = SimpleNamespace(path=tmp_path, steps=[0, 10, 20, 30])
    assert inspect.unwrap(_seconds_left)(account, 35, 40) == 5
    assert inspect.unwrap(_seconds_left)(account, 35, None) is None
    os.utime(tmp_path / "lock", (1015, 1015))
    assert inspect.unwrap(_seconds_left)(account, 35, 40) is None


# The command


def test_the_command_prints_a_row_for_each_and_goes_on(grokinterp, tmp_path):
    out = tmp_path / "sweep"
    asked = ["sweep", "modular_addition", "--preset", "quick", *FLAGS, "--seeds", "0,1", "--out", str(out)]
    code, printed, _ = grokinterp(*asked, "--threads", "1")
    assert code == 0
    assert [line.split()[0] for line in printed.splitlines()] == [
        "member", "seed=0", "seed=1", "2", "Next:",
    ]  # fmt: skip
    code, printed, _ = grokinterp("sweep", "--out", str(out), "--json")
    assert code == 0
    rows = json.loads(printed)["runs"]
    assert [(row["member"], row["values"], row["state"], row["step"]) for row in rows] == [
        ("seed=0", {"seed": 0}, "finished", 20), ("seed=1", {"seed": 1}, "finished", 20),
    ]  # fmt: skip
    code, printed, _ = grokinterp("verify", str(out))
    assert code == 0
    assert "2 runs" in printed


def test_a_dry_run_lists_members_and_writes_nothing(grokinterp, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    asked = ["sweep", "modular_addition", "--preset", "quick", *FLAGS, "--grid", "training.lr=1e-3:1e-2:log2"]
    code, printed, _ = grokinterp(*asked, "--dry-run")
    assert code == 0
    assert printed.splitlines()[:2] == ["lr=0.001", "lr=0.01"]
    assert printed.splitlines()[2].startswith("2 members, about ")
    assert printed.endswith("nothing was written\n")
    code, printed, _ = grokinterp(*asked, "--dry-run", "--json")
    assert json.loads(printed)["values"] == {
        "lr=0.001": {"training.lr": 0.001},
        "lr=0.01": {"training.lr": 0.01},
    }
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        (["modular_addition", "--seeds", "0,1"], "--out is missing"),
        (["--out", "none"], "holds no sweep.json"),
        (["--out", "none", "--preset", "quick"], "TASK is missing"),
        (["modular_addition", "--grid", "lr", "--out", "x"], "needs KEY=VALUES"),
        (
            ["modular_addition", "--grid", "seed=1", "--grid", "seed=2", "--out", "x"],
            "--grid seed is there twice",
        ),
        (["modular_addition", "--grid", "seed=0..99999", "--dry-run"], "100,000 members"),
        (
            ["modular_addition", "--out", "x", "--engine", "ray", "--engine-set", "per_task"],
            "needs KEY=VALUE",
        ),
    ],
)
def test_wrong_usage_is_one_line(grokinterp, tmp_path, monkeypatch, asked, says):
    monkeypatch.chdir(tmp_path)
    code, _, printed = grokinterp("sweep", *asked)
    assert code == 2
    assert says in printed.splitlines()[-1]
    assert not list(tmp_path.iterdir())


def test_one_that_fails_ends_the_command_with_1_and_a_line(grokinterp, tmp_path):
    (tmp_path / "seed=1").mkdir()
    (tmp_path / "seed=1" / "notes.txt").write_text("mine")
    asked = [
        "sweep",
        "modular_addition",
        "--preset",
        "quick",
        *FLAGS,
        "--seeds",
        "0,1",
        "--out",
        str(tmp_path),
    ]
    code, printed, errors = grokinterp(*asked)
    assert code == 1
    assert "1 finished, 1 failed" in printed
    assert errors.startswith("grokinterp: seed=1: ")


def test_engines_have_names():
    assert list(ENGINES) == ["local", "ray", "slurm"]
