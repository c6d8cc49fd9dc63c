"""Sweeps that other processes train for us: on a Ray cluster, and by job arrays of submitit. Whatever dies
meanwhile, the runs are byte for byte those that are trained alone."""

from __future__ import annotations

import os
import shutil
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest

import grokinterp as gi
from conftest import tiny
from grokinterp.errors import GrokinterpError, SomeFailed, UsageError
from grokinterp.runs import pool
from grokinterp.runs.many import Work
from grokinterp.runs.sent import packed, put
from grokinterp.runs.train import Stop
from grokinterp.sweeps import elsewhere, on_ray
from grokinterp.sweeps.elsewhere import Watched, batches, train_jobs
from test_runs import contents
from test_sweep import everything

LONG = {"training.steps": 600, "snapshots.every": 100}
GRID = {"training.weight_decay": "0,2", "seed": "0,1"}


class Seen:
    shown = True

    def __init__(self) -> None:
        self.steps: list[tuple[str, int]] = []

    def show(self, name, step, metrics) -> None:
        self.steps.append((name, step))

    def end(self, name, error) -> None: ...


def work(out: Path, n: int = 2, **overrides) -> Work:
    configs = {f"seed={seed}": tiny(seed=seed, **overrides) for seed in range(n)}
    return Work(configs, out, True, dict.fromkeys(configs), Stop(), Seen())


# What every such engine does


def test_what_another_machine_trains_is_the_run_that_it_is_alone(tmp_path):
    asked = work(tmp_path)
    assert train_jobs([*asked.jobs().values()]) == [{"ended": None}, {"ended": None}]
    for name, config in asked.configs.items():
        alone = gi.train(config, tmp_path / "alone" / name, progress=False)
        assert contents(tmp_path / name) == contents(alone.path)


def test_a_run_that_is_sent_is_there_whole_or_not_at_all(tmp_path, monkeypatch):
    (tmp_path / "scratch").mkdir()
    asked = work(tmp_path, 1)
    train_jobs([*asked.jobs().values()], str(tmp_path / "scratch"))
    files = packed(tmp_path / "scratch" / "seed=0")
    assert "run.json" in files
    assert "lock" not in files
    put(files, tmp_path / "seed=0")
    assert contents(tmp_path / "seed=0") == files
    monkeypatch.setattr(os, "fsync", lambda handle: (_ for _ in ()).throw(OSError(28, "full")))
    with pytest.raises(GrokinterpError, match="the disk is full"):
        put(files, tmp_path / "again")
    assert not (tmp_path / "again").exists()
    assert {path.name for path in tmp_path.iterdir()} == {"scratch", "seed=0"}


def test_members_go_in_batches_that_leave_every_process_some(tmp_path):
    names = list(work(tmp_path, 40).configs)
    assert batches(work(tmp_path, 40), 2, None) == [names[i : i + 4] for i in range(0, 40, 4)]
    assert batches(work(tmp_path, 3), 4, None) == [[name] for name in names[:3]]
    assert batches(work(tmp_path, 40), 2, 40) == [names]
    assert batches(work(tmp_path, 0), 2, None) == []


def test_one_that_somebody_trains_is_waited_for(tmp_path, monkeypatch):
    asked = work(tmp_path, 1)
    locked, done = {"ended": "RunLocked", "message": "locked"}, {"ended": None}
    said = [locked, done, locked]
    monkeypatch.setattr(pool, "done", lambda *given: said.pop(0))
    monkeypatch.setattr(elsewhere, "_SECONDS_BETWEEN_TRIES", 0.0)
    assert train_jobs([*asked.jobs().values()]) == [done]
    assert train_jobs([*asked.jobs().values()], patience=-1.0)[0]["ended"] == "RunLocked"


def test_how_far_they_are_is_read_from_their_directories(tmp_path):
    asked = work(tmp_path)
    watched = Watched(asked)
    watched.look(asked.configs)
    assert asked.display.steps == []
    gi.train(asked.configs["seed=0"], tmp_path / "seed=0", progress=False)
    watched.look(asked.configs)
    watched.look(asked.configs)
    assert asked.display.steps == [("seed=0", 20)]


# Ray


@pytest.fixture(scope="module")
def ray():
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    return pytest.importorskip("ray", reason="Ray is not installed: pip install 'grokinterp[ray]'")


@pytest.fixture
def cluster(ray) -> Iterator[SimpleNamespace]:
    """Two raylets on this machine."""
    from ray.cluster_utils import Cluster

    each = {"num_cpus": 1, "object_store_memory": 80_000_000}
    made = Cluster(initialize_head=True, head_node_args={**each, "include_dashboard": False})
    second = made.add_node(**each)
    try:
        yield SimpleNamespace(
            address=made.address, kill=lambda: made.remove_node(second, allow_graceful=False)
        )
    finally:
        ray.shutdown()
        made.shutdown()


def test_a_raylet_that_dies_costs_nothing(cluster, tmp_path):
    """The second of two, killed once it has begun a member: the same bytes as alone."""
    config = tiny(**LONG)
    killed = []

    class Killer(threading.Thread):
        def run(self) -> None:
            while len(list(tmp_path.glob("swept/*/manifest.jsonl"))) < 2:
                time.sleep(0.1)
            cluster.kill()
            killed.append(True)

    killer = Killer(daemon=True)
    killer.start()
    done = gi.sweep(
        config, tmp_path / "swept", grid=GRID, engine="ray", options={"address": cluster.address},
        progress=False,
    )  # fmt: skip
    assert killed
    assert set(done.table["state"]) == {"finished"}
    alone = gi.sweep(config, tmp_path / "alone", grid=GRID, progress=False)
    assert everything(done.path) == everything(alone.path)


def test_where_nodes_share_no_filesystem_finished_runs_are_sent_back(cluster, tmp_path):
    """One diverges, and one has something else in its place."""
    (tmp_path / "swept" / "lr=0.002").mkdir(parents=True)
    (tmp_path / "swept" / "lr=0.002" / "notes.txt").write_text("mine")
    config = tiny(**{"training.optimizer": "sgd"})
    options = {"address": cluster.address, "copy_back": True, "per_task": 3}
    grid = {"training.lr": [3e-3, 2e-3, 1e6]}
    asked = {"grid": grid, "engine": "ray", "options": options, "progress": False}
    with pytest.raises(SomeFailed, match=r"1 of 3 members failed; lr=0.002: .*not empty and holds no run"):
        gi.sweep(config, tmp_path / "swept", **asked)
    assert list(gi.load_sweep(tmp_path / "swept").table["state"]) == ["finished", "failed", "diverged"]
    alone = gi.train(config, tmp_path / "alone", progress=False)
    assert contents(tmp_path / "swept" / "lr=0.003") == contents(alone.path)
    assert (tmp_path / "swept" / "lr=0.002" / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"address": "nowhere"}, "address 'nowhere': needs host:port, ray://host:port, or auto"),
        ({"address": "127.0.0.1:1"}, "no Ray cluster answers at 127.0.0.1:1 within 20 s"),
        ({"address": "127.0.0.1:999999"}, "no Ray cluster answers at 127.0.0.1:999999"),
        ({"adress": "a"}, "engine 'ray': unknown option 'adress'; did you mean 'address'?"),
        ({"per_task": 0}, "per_task=0: needs a whole number from 1"),
    ],
)
def test_a_cluster_that_is_not_there_is_one_line(ray, tmp_path, options, says):
    with pytest.raises(UsageError) as caught:
        gi.sweep(tiny(), tmp_path, seeds="0,1", engine="ray", options=options)
    assert says in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_what_answers_and_is_no_ray_is_one_line_in_time(ray, tmp_path, monkeypatch):
    monkeypatch.setattr(on_ray, "_SECONDS_TO_ANSWER", 3.0)
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        began = time.monotonic()
        with pytest.raises(UsageError, match=f"no Ray cluster answers at {address} within 3 s"):
            gi.sweep(tiny(), tmp_path, seeds="0,1", engine="ray", options={"address": address})
        assert time.monotonic() - began < 60


@pytest.mark.parametrize(("engine", "module"), [("ray", "ray"), ("slurm", "submitit")])
def test_what_is_not_installed_names_the_extra(tmp_path, monkeypatch, engine, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UsageError, match=rf"not installed: pip install 'grokinterp\[{engine}\]'"):
        gi.sweep(tiny(), tmp_path, seeds="0,1", engine=engine)


# Slurm


def test_job_arrays_leave_the_same_bytes(tmp_path):
    """By submitit's local executor. One diverges, and one fails."""
    pytest.importorskip("submitit", reason="submitit is not installed: pip install 'grokinterp[slurm]'")
    (tmp_path / "swept" / "lr=0.002").mkdir(parents=True)
    (tmp_path / "swept" / "lr=0.002" / "notes.txt").write_text("mine")
    config = tiny(**{"training.optimizer": "sgd"})
    grid = {"training.lr": [3e-3, 2e-3, 1e6]}
    options = {"cluster": "local", "at_once": 1, "per_task": 2, "timeout_min": 5}
    with pytest.raises(SomeFailed, match=r"1 of 3 members failed; lr=0.002: .*not empty and holds no run"):
        gi.sweep(config, tmp_path / "swept", grid=grid, engine="slurm", options=options, progress=False)
    assert list(gi.load_sweep(tmp_path / "swept").table["state"]) == ["finished", "failed", "diverged"]
    alone = gi.train(config, tmp_path / "alone", progress=False)
    assert contents(tmp_path / "swept" / "lr=0.003") == contents(alone.path)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, "there is no srun here, so no Slurm"),
        ({"cluster": "pbs"}, "cluster 'pbs': needs slurm or local"),
        ({"cluster": "local", "slurm_partitoin": "gpu"}, "partitoin"),
        ({"cluster": "local", "at_once": 0}, "at_once=0: needs a whole number from 1"),
    ],
)
def test_what_submitit_does_not_take_is_one_line(tmp_path, options, says):
    pytest.importorskip("submitit", reason="submitit is not installed: pip install 'grokinterp[slurm]'")
    if shutil.which("srun"):
        pytest.skip("there is a Slurm here")
    with pytest.raises(UsageError) as caught:
        gi.sweep(tiny(), tmp_path, seeds="0,1", engine="slurm", options=options, progress=False)
    assert says in str(caught.value)
