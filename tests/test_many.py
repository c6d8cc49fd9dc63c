"""Many runs at once: each is the run that it would be alone, and what happens to one of them does not touch
the others."""

from __future__ import annotations

import fcntl
import importlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import grokinterp as gi
from conftest import TINY, tiny
from grokinterp.errors import ConfigError, Interrupted, NotARun, SomeFailed, UsageError
from grokinterp.runs import many, processes
from grokinterp.runs.train import Writer
from grokinterp.tasks import TASKS
from test_runs import contents, interrupted

TINY_FLAGS = [f"--set={key}={'' if value is None else value}" for key, value in TINY.items()]
LONG = {"training.steps": 400, "snapshots.every": 200}
SEEDS = (0, 1, 17)


def alone(config: gi.TrainConfig, out: Path) -> dict[str, bytes]:
    """The files of a run that is trained alone."""
    return contents(gi.train(config, out, progress=False).path)


@pytest.fixture
def no_process(monkeypatch):
    """Fails where a process is started."""

    def refuse(*arguments, **more):
        raise AssertionError("a process was started")

    monkeypatch.setattr(subprocess, "Popen", refuse)


# What they are


def test_each_is_byte_for_byte_the_run_that_it_is_alone(tmp_path):
    """With more threads in its configuration than it has here, in batches, with a measure in float64. One was
    begun alone, and the newer of its resume states is damaged: what a worker warns of is a warning here."""
    overrides = {"threads": 2, "training.batch_size": 7, "monitor": ["gini.W_E"]}
    configs = [tiny(seed=seed, **overrides) for seed in SEEDS]
    interrupted(configs[1], tmp_path / "many" / "seed_1", 10)
    file = tmp_path / "many" / "seed_1" / "resume" / "a.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    with pytest.warns(UserWarning, match="going on from the other resume state"):
        runs = gi.train_many(configs, tmp_path / "many", workers=2)
    assert [(run.path.name, run.config) for run in runs] == [
        (f"seed_{seed}", config) for seed, config in zip(SEEDS, configs, strict=True)
    ]
    for run in runs:
        assert contents(run.path) == alone(run.config, tmp_path / run.path.name)


def test_so_are_multilayer_perceptrons(tmp_path):
    configs = [
        tiny(seed=seed, **{"model.kind": "mlp", "model.embedding": "one_hot", "monitor": ["ipr.complex"]})
        for seed in SEEDS
    ]
    interrupted(configs[1], tmp_path / "many" / "seed_1", 10)
    for run in gi.train_many(configs, tmp_path / "many", workers=2):
        assert contents(run.path) == alone(run.config, tmp_path / run.path.name)
        assert set(run.state_dict(-1)) == {"blocks.0.mlp.W_in", "unembed.W_U"}
        assert run.history["ipr.complex"].notna().all()


def test_those_that_are_finished_are_not_trained_again(tmp_path, no_process):
    configs = {name: tiny(seed=seed) for seed, name in enumerate(["one", "another"])}
    for name, config in configs.items():
        gi.train(config, tmp_path / name, progress=False)
    assert [run.path.name for run in gi.train_many(configs, tmp_path)] == ["one", "another"]
    with pytest.raises(UsageError, match="one already holds a run, and resuming was not wanted"):
        gi.train_many(configs, tmp_path, resume=False)


def test_one_that_fails_does_not_stop_the_others(tmp_path, monkeypatch):
    """The others learn a task that is registered by a module of the user's."""
    (tmp_path / "my_tasks.py").write_text(
        "import grokinterp as gi\nfrom grokinterp.tasks import task\n\n@task\ndef shifted(p: int = 5) -> "
        "gi.Task:\n    return gi.Operation(p, lambda a, b: (a + b + 1) % p, symbol='a + b + 1')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    importlib.import_module("my_tasks")
    monkeypatch.setitem(TASKS, "shifted", TASKS.pop("shifted"))  # taken out again after the test
    good = tiny(task={"name": "shifted"}, **{"task.p": 5})
    configs = {
        "wild": tiny(**{"training.lr": 1e6, "training.steps": 500}),
        "locked": tiny(seed=1),
        "good": good,
    }
    (tmp_path / "many" / "locked").mkdir(parents=True)
    with open(tmp_path / "many" / "locked" / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(SomeFailed, match="2 of 3 runs failed, the others are finished; ") as caught:
            gi.train_many(configs, tmp_path / "many", workers=1)
    assert {name: type(error).__name__ for name, error in caught.value.failures.items()} == {
        "wild": "Diverged",
        "locked": "RunLocked",
    }
    assert "the last good snapshot is at step" in str(caught.value.failures["wild"])
    assert gi.load_run(tmp_path / "many" / "good").finished


# As one stack, as on a GPU: here on the CPU, which is all that this file can do with it


@pytest.fixture
def stacked(monkeypatch, no_process):
    """Has train_many take the way of a GPU."""
    monkeypatch.setattr(many, "_device_type", lambda config: "cuda")


IN_FLOAT64 = {"training.dtype": "float64", "training.evaluate_every": 5}


def assert_nearly_the_same(one: gi.Run, other: gi.Run) -> None:
    """In float64; nothing but the last digits differs."""
    assert one.record == other.record
    assert one.steps == other.steps
    assert [wrong for _, wrong in one.verify() if wrong] == []
    np.testing.assert_allclose(one.history, other.history, rtol=1e-9)
    for step in one.steps:
        for name, weight in one.state_dict(step).items():
            np.testing.assert_allclose(weight, other.state_dict(step)[name], atol=1e-9)


def test_members_of_a_stack_are_ordinary_runs(stacked, tmp_path):
    """Some begun alone, at two steps; one of another kind, and one that is trained alone because of its
    optimiser."""
    configs = {f"seed_{seed}": tiny(seed=seed, **IN_FLOAT64) for seed in (0, 1, 2, 17)}
    configs |= {
        "lr": tiny(**{"training.lr": 1e-3}, **IN_FLOAT64),
        "muon": tiny(**{"training.optimizer": "muon"}),
    }
    interrupted(configs["seed_1"], tmp_path / "many" / "seed_1", 10)
    interrupted(configs["seed_2"], tmp_path / "many" / "seed_2", 5)
    runs = gi.train_many(configs, tmp_path / "many")
    assert [run.path.name for run in runs] == list(configs)
    for run in runs:
        assert_nearly_the_same(run, gi.train(run.config, tmp_path / run.path.name, progress=False))


def test_a_stack_that_is_interrupted_goes_on_together_and_alone(stacked, tmp_path, monkeypatch):
    configs = [tiny(seed=seed, **IN_FLOAT64) for seed in SEEDS]
    commit = Writer.commit

    def ask(writer, snapshot, trainer):
        commit(writer, snapshot, trainer)
        if (snapshot.step, trainer.config.seed) == (10, 1):
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patched:
        patched.setattr(Writer, "commit", ask)
        with pytest.raises(Interrupted, match="interrupted, 0 of 3 runs finished; nothing is lost"):
            gi.train_many(configs, tmp_path / "many")
    assert all(gi.load_run(tmp_path / "many" / f"seed_{seed}").finished is None for seed in SEEDS)
    runs = [
        gi.train(configs[0], tmp_path / "many" / "seed_0", progress=False),
        *gi.train_many(configs, tmp_path / "many")[1:],
    ]
    for run in runs:
        assert_nearly_the_same(run, gi.train(run.config, tmp_path / run.path.name, progress=False))


def test_a_member_of_a_stack_that_fails_does_not_stop_the_others(stacked, tmp_path):
    wild = {"training.lr": 1e6, "training.steps": 300}
    configs = {"a": tiny(**wild), "b": tiny(seed=1, **wild), "locked": tiny(seed=1), "good": tiny(seed=2)}
    (tmp_path / "locked").mkdir()
    with open(tmp_path / "locked" / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(SomeFailed, match="3 of 4 runs failed, the others are finished; ") as caught:
            gi.train_many(configs, tmp_path)
    assert {name: type(error).__name__ for name, error in caught.value.failures.items()} == {
        "a": "Diverged", "b": "Diverged", "locked": "RunLocked",
    }  # fmt: skip
    assert "the last good snapshot is at step" in str(caught.value.failures["a"])
    assert gi.load_run(tmp_path / "good").finished


# What cannot be


def test_nothing_begins_where_something_is_wrong_with_one(tmp_path, no_process):
    good, out = tiny(), tmp_path / "many"
    gi.train(good, tmp_path / "run", progress=False)
    (tmp_path / "file").write_text("")
    (tmp_path / "other" / "seed_1").mkdir(parents=True)
    (tmp_path / "other" / "seed_1" / "thesis.tex").write_text("")
    refused = [
        ([], out, UsageError, "nothing to train"),
        ({}, out, UsageError, "nothing to train"),
        ([good, good], out, UsageError, "two configurations have seed 0"),
        ({"a/b": good}, out, UsageError, "'a/b' is no name for the directory of a run"),
        ({"..": good}, out, UsageError, "'..' is no name for the directory of a run"),
        ({"": good}, out, UsageError, "'' is no name for the directory of a run"),
        ([good], tmp_path / "file", NotARun, "file is a file"),
        ([good], tmp_path / "run", NotARun, "run holds a run itself"),
        (
            [good, tiny(seed=1)],
            tmp_path / "other",
            NotARun,
            "seed_1 is not empty and holds no run .thesis.tex is there",
        ),
        (
            {"run": tiny(seed=1)},
            tmp_path,
            ConfigError,
            "run holds a run of another configuration: seed is 0 there and 1 here",
        ),
        (
            [tiny(seed=1), tiny(**{"task.p": 2, "training.fraction": 0.1})],
            out,
            ConfigError,
            "0.1 of 4 examples leaves 0 to train on",
        ),
    ]
    for configs, where, error, says in refused:
        with pytest.raises(error, match=says):
            gi.train_many(configs, where)
    with pytest.raises(UsageError, match="workers=0: needs a whole number from 1"):
        gi.train_many([good], out, workers=0)
    assert not out.exists()


def test_runs_on_different_devices_are_refused(tmp_path, monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(ConfigError, match=r"device: .*here are seed_0 on cpu and seed_1 on cuda"):
        gi.train_many([tiny(), tiny(seed=1, device="cuda")], tmp_path / "many")


def test_a_task_of_the_script_itself_is_refused(tmp_path, monkeypatch):
    def first(p: int = 5, layout: str = "a b ="):
        return gi.make_task("modular_addition", p=p, layout=layout)

    first.__module__ = "__main__"
    monkeypatch.setitem(TASKS, "first", first)
    config = gi.TrainConfig.make({"task": {"name": "first"}})
    with pytest.raises(ConfigError, match=r"task.name: 'first' .seed_0. is defined in the script itself"):
        gi.train_many([config], tmp_path / "many")


def test_a_worker_that_cannot_start_ends_it_all(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(processes, "_START", "import no_such_module_x")
    with pytest.raises(
        gi.GrokinterpError, match="a worker process ended with exit status 1 before it could train"
    ):
        gi.train_many([tiny(), tiny(seed=1)], tmp_path / "many")
    assert "no_such_module_x" in capfd.readouterr().err


# One configuration and several seeds


@pytest.mark.parametrize("seeds", ["0..1,17", SEEDS], ids=["text", "numbers"])
def test_one_configuration_with_several_seeds_is_a_run_for_each(tmp_path, seeds):
    config = tiny(**{"training.steps": 1})
    runs = gi.train_many(config, tmp_path, seeds=seeds, workers=1)
    assert [run.path for run in runs] == [tmp_path / f"seed_{seed}" for seed in SEEDS]
    assert [run.config for run in runs] == [config.changed(seed=seed) for seed in SEEDS]


@pytest.mark.parametrize(
    ("configs", "options", "says"),
    [
        ([tiny()], {"seeds": "0..1"}, "seeds: needs one configuration"),
        (tiny(), {}, "configs is one TrainConfig"),
        (tiny(), {"seeds": []}, "there are no seeds"),
        (tiny(), {"seeds": [1, 2, 1]}, "seed 1 is there twice"),
        (tiny(), {"seeds": [-1]}, "needs whole numbers from 0"),
    ],
)
def test_seeds_that_cannot_be_are_refused(tmp_path, no_process, configs, options, says):
    with pytest.raises(UsageError, match=says):
        gi.train_many(configs, tmp_path / "many", **options)
    assert not (tmp_path / "many").exists()


# The command line


def test_seeds_on_the_command_line_are_a_table_and_a_line_for_each_that_failed(grokinterp, tmp_path):
    """One is trained, one was finished, one is locked."""
    out = tmp_path / "many"
    arguments = ["train", "modular_addition", "--preset", "quick", *TINY_FLAGS]
    assert grokinterp(*arguments, "--seed", "1", "--out", out / "seed_1")[0] == 0
    (out / "seed_40").mkdir()
    arguments += ["--out", out, "--seeds", "0..1,40", "--set", "threads=1"]
    with open(out / "seed_40" / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        code, stdout, stderr = grokinterp(*arguments)
        assert grokinterp(*arguments, "--no-resume")[0] == 2
        again, as_json, again_stderr = grokinterp(*arguments, "--json")
    assert code == again == 1
    assert stderr == again_stderr
    assert stderr.count("\n") == 1
    assert stderr.startswith(f"grokinterp: seed_40: {out / 'seed_40'} is locked by ")
    runs = [gi.load_run(out / f"seed_{seed}") for seed in (0, 1)]
    assert [(run.config.seed, run.config.threads) for run in runs] == [(0, 1), (1, 2)]
    accuracies = [run.history["test_accuracy"].iloc[-1] for run in runs]

    header, *rows, last = stdout.splitlines()
    assert header.split() == ["seed", "step", "train", "accuracy", "test", "accuracy", "ended"]
    assert [row.split()[:2] for row in rows] == [["0", "20"], ["1", "20"], ["40", "failed"]]
    assert [row.split()[3] for row in rows[:2]] == [f"{accuracy:.4f}" for accuracy in accuracies]
    assert last.startswith(f"2 of 3 runs finished in {out}, ")

    told = json.loads(as_json)["runs"]
    done = "all steps done"
    assert [(row["seed"], row.get("step"), row.get("reason")) for row in told] == [
        (0, 20, done),
        (1, 20, done),
        (40, None, None),
    ]
    assert [row["test_accuracy"] for row in told[:2]] == accuracies
    assert f"grokinterp: seed_40: {told[2]['error']}\n" == stderr


@pytest.mark.parametrize(
    ("seeds", "says"),
    [
        ("", "needs whole numbers from 0, such as 0..31"),
        ("0..", "needs whole numbers"),
        ("one", "needs whole numbers"),
        ("0...3", "needs whole numbers"),
        ("1,,2", "needs whole numbers"),
        ("3..1", "3..1 ends before it begins"),
        ("0..3,2", "seed 2 is there twice"),
        ("0..99999999999", "at most 10,000 seeds"),
        ("-1", "needs whole numbers from 0"),
        ("4294967296", "seed: input should be less than 4294967296"),
    ],
)
def test_seeds_that_make_no_sense_get_one_line(grokinterp, tmp_path, seeds, says):
    code, stdout, stderr = grokinterp(
        "train", "modular_addition", f"--seeds={seeds}", "--out", tmp_path / "many"
    )
    assert (code, stdout, stderr.count("\n")) == (2, "", 1)
    assert says in stderr
    assert not (tmp_path / "many").exists()


@pytest.mark.parametrize("other", [["--seed", "3"], ["--set", "seed=3"]])
def test_seeds_and_another_seed_do_not_go_together(grokinterp, tmp_path, other):
    code, _, stderr = grokinterp(
        "train", "modular_addition", "--seeds", "0..3", *other, "--out", tmp_path / "many"
    )
    assert (code, stderr) == (
        2,
        "grokinterp: --seeds gives every run its seed: leave out --seed and --set seed\n",
    )


# Processes that end before their time

SERVER = '''
"""Trains many runs in forks of itself, so that what starts the workers costs milliseconds. One JSON request a
line."""
import json, os, sys
import torch
torch.set_num_threads(1)
import grokinterp as gi
for line in sys.stdin:
    job = json.loads(line)
    if os.fork() == 0:
        os.setsid()
        print(os.getpid(), flush=True)
        how, text = "finished", ""
        try:
            gi.train_many([gi.TrainConfig.make(config) for config in job["configs"]], job["out"], workers=2)
        except gi.GrokinterpError as error:
            how, text = type(error).__name__, str(error)
        print(json.dumps([how, text]), flush=True)
        os._exit(0)
'''


class Sweep:
    """A process that trains many runs."""

    def __init__(self, server: subprocess.Popen, configs: list[gi.TrainConfig], out: Path) -> None:
        self._server, self._out = server, out
        server.stdin.write(
            json.dumps({"configs": [config.model_dump(mode="json") for config in configs], "out": str(out)})
            + "\n"
        )
        server.stdin.flush()
        self.pid = int(server.stdout.readline())

    def workers(self) -> dict[str, int]:
        """Once two are at work: what they train, and their numbers. They stand still until `go_on`, so that
        neither is done by then."""
        paused: dict[str, int] = {}
        while len(paused) < 2:
            at_work = {
                lock.parent.name: lock.read_text()
                for lock in self._out.glob("*/lock")
                if lines(lock.parent) > 3
            }
            for name in at_work.keys() - paused.keys():
                if text := at_work[name]:
                    paused[name] = int(text.split()[-1])
                    os.kill(paused[name], signal.SIGSTOP)
            time.sleep(0.01)
        return paused

    def go_on(self) -> None:
        """Has those that stand still work on."""
        os.killpg(self.pid, signal.SIGCONT)

    def end(self) -> tuple[str, str]:
        """How it ended."""
        how, text = json.loads(self._server.stdout.readline())
        return how, text


def lines(run: Path) -> int:
    metrics = run / "metrics.jsonl"
    return metrics.read_bytes().count(b"\n") if metrics.exists() else 0


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.fixture(scope="module")
def start() -> Iterator[Callable[..., Sweep]]:
    if not Path("/proc/self/stat").exists():
        pytest.skip("processes are watched through /proc")
    with subprocess.Popen(
        [sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        yield lambda configs, out: Sweep(server, configs, out)
        server.stdin.close()


@pytest.fixture(scope="module")
def three() -> list[gi.TrainConfig]:
    return [tiny(seed=seed, **LONG) for seed in SEEDS]


@pytest.fixture(scope="module")
def whole(start, three, tmp_path_factory) -> dict[str, dict[str, bytes]]:
    """The files of the three when nothing stops them."""
    out = tmp_path_factory.mktemp("whole")
    assert start(three, out).end() == ("finished", "")
    return files_of(out)


def files_of(out: Path) -> dict[str, dict[str, bytes]]:
    return {folder.name: contents(folder) for folder in sorted(out.iterdir())}


def test_a_sweep_that_is_interrupted_and_killed_goes_on_to_the_same_bytes(start, three, whole, tmp_path):
    """By Ctrl-C, which a terminal sends to all of its processes, and by SIGKILL, after which the workers
    leave by themselves."""
    sweep = start(three, tmp_path)
    workers = sweep.workers()
    os.killpg(sweep.pid, signal.SIGINT)
    sweep.go_on()
    how, text = sweep.end()
    assert (how, text) == (
        Interrupted.__name__,
        "interrupted, 0 of 3 runs finished; nothing is lost: run the same command again to go on",
    )
    assert not any(map(alive, workers.values()))
    for name in workers:
        run = gi.load_run(tmp_path / name)
        assert run.finished is None
        assert (
            max(state["step"] for state in states(tmp_path / name)) >= run.history["step"].max()
        )  # saved where it stopped

    sweep = start(three, tmp_path)
    workers = sweep.workers()
    os.kill(sweep.pid, signal.SIGKILL)
    sweep.go_on()
    while any(map(alive, workers.values())):
        time.sleep(0.01)
    assert not all(gi.load_run(tmp_path / name).finished for name in workers)

    sweep = start(three, tmp_path)
    assert sweep.end() == ("finished", "")
    assert files_of(tmp_path) == whole


def states(run: Path) -> list[dict]:
    from grokinterp.runs.account import SLOTS, resume_file
    from grokinterp.runs.run import read_resume

    return [found[1] for slot in SLOTS if (found := read_resume(resume_file(run, slot)))]


def test_a_worker_that_is_killed_costs_its_own_run_alone(start, three, whole, tmp_path):
    sweep = start(three, tmp_path)
    victim, pid = next(iter(sweep.workers().items()))
    os.kill(pid, signal.SIGKILL)
    sweep.go_on()
    how, text = sweep.end()
    assert how == SomeFailed.__name__
    assert text == (
        f"1 of 3 runs failed, the others are finished; {victim}: its process was killed by signal 9; what "
        "it saved is safe: run the same command again to go on"
    )
    found = files_of(tmp_path)
    assert found.pop(victim).keys() >= {"run.json", "manifest.jsonl"}
    assert found == {name: files for name, files in whole.items() if name != victim}
