"""A run that is trained on is the one that its new configuration gives from the start, byte for byte."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

import grokinterp as gi
from grokinterp.errors import ConfigError, DamagedFile, Diverged, SomeFailed
from grokinterp.runs import files, many, train_many
from grokinterp.runs.thinning import thin_to

pytestmark = pytest.mark.filterwarnings("error")

SHORT, LONG = 12, 24


@pytest.fixture(autouse=True)
def _fast_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here is about power cuts."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)


def tiny(steps: int, **changes: Any) -> gi.TrainConfig:
    sizes = {"task.p": 7, "model.d_model": 8, "model.n_heads": 2, "model.d_mlp": 16, "threads": 1}
    how = {"training.steps": steps, "training.evaluate_every": 5, "training.stop_when": None}
    return gi.TrainConfig.preset("quick", **sizes | how | {"snapshots.log": None} | changes)


def train(config: gi.TrainConfig, out: Path, **options: Any) -> gi.Run:
    return gi.train(config, out, progress=False, **options)


def contents(path: Path) -> dict[str, str]:
    """Every file of a directory with its hash, but for the lock, in which who holds it has its name."""
    return {
        str(file.relative_to(path)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in path.rglob("*")
        if file.is_file() and file.name != "lock"
    }


WAYS = {
    "full batch": {},
    "last step scheduled": {"snapshots.every": 6},
    "last step neither scheduled nor evaluated": {"snapshots.every": 7},
    "last step evaluated": {"training.evaluate_every": 4},
    "at": {"snapshots.at": (3, 12, 20)},
    "on a log axis": {"snapshots.log": 20, "snapshots.every": None},
    "minibatches": {"training.batch_size": 7},
    "in parts": {"training.accumulate": 2},
    "fresh": {"task": {"name": "digit_addition", "n": 2}, "training.data": "fresh", "training.batch_size": 8},
    "noise": {"task.noise": {"kind": "uniform", "share": 0.2}},
    "one layer by autograd": {"model.normalization": "LN"},
    "float64": {"training.dtype": "float64"},
    "sgd": {"training.optimizer": "sgd", "training.lr": 0.1, "training.weight_decay": 0.0},
    "monitored": {"monitor": "gini.W_E", "monitor_every": 10},
    "warmup": {"training.warmup": 20},
    "dropout": {"model.dropout": 0.2, "training.batch_size": 7},
    "tied": {"model.tied": True, "training.label_smoothing": 0.1},
    "Grokfast": {"training.grokfast": "ema", "training.norm_clamp": 1.0},
    "mlp": {"model": {"kind": "mlp", "d_mlp": 16}},
}


@pytest.mark.parametrize("way", WAYS)
def test_a_run_that_is_trained_on_is_the_longer_one_byte_for_byte(tmp_path, way):
    train(tiny(SHORT, **WAYS[way]), tmp_path / "on")
    run = train(tiny(LONG, **WAYS[way]), tmp_path / "on")
    train(tiny(LONG, **WAYS[way]), tmp_path / "whole")
    assert run.finished == {**run.finished, "step": LONG, "reason": "all steps done"}
    assert contents(tmp_path / "on") == contents(tmp_path / "whole")
    assert all(problem is None for _, problem in run.verify())


def test_what_the_shorter_run_recorded_at_its_last_step_alone_goes(tmp_path):
    short = train(tiny(SHORT), tmp_path)
    assert (short.steps, short.evaluations[-1]["step"]) == ([0, SHORT], SHORT)
    kept = short.kept_of(SHORT)
    kept.parent.mkdir()
    kept.write_bytes(b"")
    run = train(tiny(LONG), tmp_path)
    assert run.steps == [0, LONG]
    assert [one["step"] for one in run.evaluations] == [0, 5, 10, 15, 20, LONG]
    assert not kept.exists()


def test_a_run_can_be_trained_on_again_and_while_it_is_not_finished(tmp_path):
    train(tiny(SHORT), tmp_path / "on")
    train(tiny(SHORT + 1), tmp_path / "on")
    for event in ("before", "after"):
        with killed_at(2 if event == "before" else 9), pytest.raises(Killed):
            train(tiny(LONG, **{"snapshots.at": ()}), tmp_path / "on")
    train(tiny(LONG + 6), tmp_path / "on")
    train(tiny(LONG + 6), tmp_path / "whole")
    assert contents(tmp_path / "on") == contents(tmp_path / "whole")


class Killed(BaseException):
    """Nothing of what follows is done."""


class killed_at(pytest.MonkeyPatch):
    """Dies at the so-manieth change of the disk, before it is made."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.left = number

    def __enter__(self) -> killed_at:
        for name in ("replace", "unlink", "ftruncate", "pwrite"):
            self.setattr(files.os, name, self._dying(getattr(os, name)))
        self.setattr(Path, "unlink", self._dying(Path.unlink))
        return self

    def __exit__(self, *error: object) -> None:
        self.undo()

    def _dying(self, real: Any) -> Any:
        def change(*args: Any, **options: Any) -> Any:
            if self.left == 0:
                raise Killed
            self.left -= 1
            return real(*args, **options)

        return change


@pytest.mark.parametrize(
    ("way", "every"), [("last step scheduled", 2), ("last step neither scheduled nor evaluated", 1)]
)
def test_killed_before_any_change_of_the_disk_nothing_is_lost(tmp_path, way, every):
    short, whole = tiny(SHORT, **WAYS[way]), tiny(LONG, **WAYS[way])
    train(short, tmp_path / "short")
    train(whole, tmp_path / "whole")
    ended, wanted = contents(tmp_path / "short"), contents(tmp_path / "whole")
    for number in range(0, 100, every):
        shutil.copytree(tmp_path / "short", folder := tmp_path / f"killed {number}")
        try:
            with killed_at(number):
                train(whole, folder)
        except Killed:
            run = gi.load_run(folder)  # a reader may come at any moment
            assert all(problem is None for _, problem in run.verify())
            assert 0 in run.steps
            assert run.finished or run.config.training.steps == LONG
            if run.config.training.steps == SHORT:
                left = contents(folder)
                assert left == {**left, **ended}
            train(whole, folder)
            assert contents(folder) == wanted, number
        else:
            assert number > 8
            assert contents(folder) == wanted
            return
    pytest.fail("it never came through")


def test_a_run_that_its_condition_ended_goes_on_with_another_or_none(tmp_path):
    early = {"training.stop_when": "train_loss < 100"}  # true at the first evaluation
    for end in (None, "train_loss < 100 for 11", "train_loss < -1"):
        folder = tmp_path / str(WAYS and end).replace(" ", "_")
        assert train(tiny(LONG, **early), folder).finished["step"] == 0
        train(tiny(LONG, **{"training.stop_when": end}), folder)
        train(tiny(LONG, **{"training.stop_when": end}), tmp_path / "whole" / folder.name)
        assert contents(folder) == contents(tmp_path / "whole" / folder.name)


def test_how_long_another_condition_has_held_is_counted_from_where_it_began(tmp_path):
    train(tiny(SHORT), tmp_path / "on")
    held = {"training.stop_when": "train_loss < 100 for 14"}
    run = train(tiny(LONG, **held), tmp_path / "on")
    assert run.finished["step"] == 15
    train(tiny(LONG, **held), tmp_path / "whole")
    assert contents(tmp_path / "on") == contents(tmp_path / "whole")


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ({}, {"training.steps": 6}, "is a run of 12 steps, and 6 were asked for"),
        (
            {},
            {"training.stop_when": "train_loss < -1"},
            "has made all of its 12 steps: to train on, give more",
        ),
        (
            {"training.decay": "cosine"},
            {"training.steps": 24, "training.decay": "cosine"},
            "training.decay='cosine' ends at the last of 12 steps",
        ),
        (
            {"training.stop_when": "train_loss < 100"},
            {"training.steps": 24, "training.stop_when": "train_loss < 100"},
            "ended at step 0, as train_loss < 100 was reached: to train on, give another",
        ),
        (
            {},
            {"training.steps": 24, "training.stop_when": "train_loss < 100 for 5"},
            "with train_loss < 100 for 5 it would have ended at step 5",
        ),
        (
            {},
            {"training.steps": 24, "training.lr": 0.5},
            "training.lr is 0.005 there and 0.5 here; choose another directory, or the same configuration "
            "but for training.steps and training.stop_when, with which a run is trained on",
        ),
    ],
)
def test_what_is_not_the_same_run_going_further_is_refused_and_nothing_changes(tmp_path, before, after, said):
    train(tiny(SHORT, **before), tmp_path)
    there = contents(tmp_path)
    with pytest.raises(ConfigError) as caught:
        train(tiny(**{"steps": SHORT, **after}), tmp_path)
    assert said in str(caught.value)
    assert contents(tmp_path) == there


def test_without_a_resume_state_it_is_one_line(tmp_path):
    train(tiny(SHORT), tmp_path)
    (tmp_path / "resume" / "a.safetensors").unlink()
    there = contents(tmp_path)
    with pytest.raises(DamagedFile, match=r"no resume state; .* cannot be continued: .* --from"):
        train(tiny(LONG), tmp_path)
    assert contents(tmp_path) == there


def test_a_thinned_run_is_trained_on_and_stays_thinned(tmp_path):
    changes = {"snapshots.every": 3}
    train(tiny(SHORT, **changes), tmp_path)
    thin_to(tmp_path, [0, SHORT])
    run = train(tiny(LONG, **changes), tmp_path)
    assert run.steps == [0, 12, 15, 18, 21, 24]


def test_a_run_that_diverged_stays_so(tmp_path):
    wild = {"training.optimizer": "sgd", "training.lr": 1e6, "training.weight_decay": 0.0}
    with pytest.raises(Diverged):
        train(tiny(SHORT, **wild), tmp_path)
    with pytest.raises(Diverged, match="it is not trained on"):
        train(tiny(LONG, **wild), tmp_path)


def test_several_seeds_are_trained_on_together(tmp_path):
    for seed in (0, 1):
        train(tiny(SHORT, seed=seed), tmp_path / "on" / f"seed_{seed}")
        train(tiny(LONG, seed=seed), tmp_path / "whole" / f"seed_{seed}")
    train_many(tiny(LONG), tmp_path / "on", seeds=[0, 1], workers=1, progress=False)
    assert contents(tmp_path / "on") == contents(tmp_path / "whole")
    with pytest.raises((SomeFailed, ConfigError), match=r"training\.steps can only grow"):
        train_many(tiny(SHORT), tmp_path / "on", seeds=[0, 1], workers=1, progress=False)


def test_a_stack_of_seeds_is_trained_on(monkeypatch, tmp_path):
    monkeypatch.setattr(many, "_device_type", lambda config: "cuda")
    for name, steps in (("on", SHORT), ("on", LONG), ("whole", LONG)):
        runs = train_many(tiny(steps), tmp_path / name, seeds=[0, 1], progress=False)
    assert [run.finished["step"] for run in runs] == [LONG, LONG]
    assert contents(tmp_path / "on") == contents(tmp_path / "whole")


def test_the_command_trains_on_with_more_steps(grokinterp, tmp_path):
    sizes = ["--p", "7", "--set", "model.d_model=8", "--set", "training.stop_when=", "--threads", "1"]
    words = ["train", "modular_addition", "--preset", "doshi", *sizes, "--out", str(tmp_path)]
    for steps in (12, 24):
        code, out, err = grokinterp(*words, "--steps", str(steps))
        assert code == 0, err
        assert f"step {steps}, all steps done" in out
