"""Run directories: where they are made, read and gone on with; several at once; the hub."""

from __future__ import annotations

import errno
import importlib
import os
import re
import shutil
import signal
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch

import grokinterp as gi
from grokinterp.runs import files, loggers, transfer
from grokinterp.runs.many import Work
from grokinterp.runs.processes import _refuse_too_few_devices
from grokinterp.training.optimizers import Optimiser

from .base import World, bare, mistake
from .importing import while_locked

TINY = (
    "--preset quick --p 7 --set model.d_model=16 --set model.d_mlp=32 --set training.stop_when= "
    "--set training.steps=2"
)
TRAIN = f"train modular_addition {TINY} "


def train(w: World, out: Any, steps: int = 2, **options: Any) -> gi.Run:
    overrides = {key: options.pop(key) for key in list(options) if "." in key}
    return gi.train(w.config(steps, **overrides), out, progress=False, **options)


def copied(w: World) -> Path:
    """A copy of the run, which may be broken."""
    return Path(shutil.copytree(w.run.path, w.new()))


def broken(w: World, file: str = "snapshots/step_00000020.safetensors") -> Path:
    """A run of which a file was changed."""
    out = copied(w)
    (out / file).write_bytes((out / file).read_bytes()[:-1] + b"?")
    return out


def mended(w: World, out: Path) -> gi.Run:
    """The same with all its files as in the copy."""
    shutil.rmtree(out)
    shutil.copytree(w.run.path, out)
    return gi.load_run(out)


def full(*parts: str) -> Any:
    """A disk without room."""
    return mock.patch("os.replace", side_effect=OSError(errno.ENOSPC, "full"))


def on_a_full_disk(do: Any) -> Any:
    with full():
        return do()


def unstarted(w: World) -> Path:
    """A run that was begun and has no snapshot."""
    out = w.new()
    with (
        suppress(BaseException),
        mock.patch("grokinterp.runs.train.Writer._commit_weights", side_effect=KeyboardInterrupt),
    ):
        train(w, out)
    return out


def diverged(w: World) -> Path:
    out = w.new()
    with suppress(BaseException):
        train(w, out, 30, **{"training.optimizer": "sgd", "training.weight_decay": 0.0, "training.lr": 1e4})
    return out


def diverged_at_once(w: World) -> Path:
    out = w.new()
    with suppress(BaseException):
        train(w, out, **{"model.init_scale": 1e6, "model.n_layers": 2})
    return out


def interrupted(w: World, out: Path, at: int = 0) -> gi.Run:
    """A training that Ctrl-C stops at a snapshot, by default the first."""
    module = importlib.import_module("grokinterp.runs.train")

    commit = module.Writer.commit

    def commit_and_stop(self: Any, snapshot: Any, trainer: Any) -> None:
        commit(self, snapshot, trainer)
        if snapshot.step == at:
            signal.raise_signal(signal.SIGINT)

    with mock.patch.object(module.Writer, "commit", commit_and_stop):
        return train(w, out, 20)


def of_format(w: World, number: int) -> Path:
    out = copied(w)
    data = (out / "run.json").read_bytes()
    changed = re.sub(rb'"format": ?\d+', b'"format": %d' % number, data)
    unsealed = re.sub(rb"sha256:[0-9a-f]{64}", files.UNSEALED.encode(), changed)
    (out / "run.json").write_bytes(files.sealed(unsealed))
    return out


def linked(w: World) -> tuple[Path, Path]:
    """A link to a directory that is not there."""
    link, target = w.new(), w.new()
    link.symlink_to(target)
    return link, target


def many(w: World, configs: Any, out: Path | None = None, **options: Any) -> Any:
    """Several runs, trained here one after the other, which takes less time than other processes do."""
    with mock.patch.object(Work, "in_processes", lambda work, workers: work.one_by_one([*work.configs])):
        return gi.train_many(configs, out or w.new(), progress=False, **options)


def of_seeds(w: World, seeds: Any = "0,1", out: Path | None = None, **options: Any) -> Any:
    """Runs of several seeds."""
    return many(w, options.pop("config", w.config()), out, seeds=seeds, **options)


DIRECTORIES = [
    mistake(
        "a directory that holds no run",
        lambda w: w.run.path and w.cli("analyze {}", w.here),
        r"holds \d+ runs?: .*; give one of them, such as (\S+)",
        lambda w, m: w.cli("verify {}", m[1]),
    ),
    mistake(
        "a file as a run",
        lambda w: gi.load_run(w.file("x", ".pt")),
        r"give the directory that `grokinterp (train) --out` made, or make a run of a checkpoint with "
        r"`grokinterp import FILE --out DIR`",
        lambda w, m: gi.load_run(w.run.path),
        lambda w, m: (
            w.cli(
                "import {} --out {} --believe --task modular_addition --set task.p=7 --no-forensics",
                weights(w),
                out := w.new(),
            )
            and gi.load_run(out)
        ),
    ),
    mistake(
        "a run of another format",
        lambda w: gi.load_run(of_format(w, 99)),
        r"is of run format 99, and this grokinterp reads format (\d+): install a newer one",
        lambda w, m: gi.load_run(of_format(w, int(m[1]))),
    ),
    mistake(
        "a run that has no snapshot yet",
        lambda w: gi.load_run(unstarted(w)).view(-1),
        r"(\S+) has no complete snapshot yet: start or resume its training first",
        lambda w, m: train(w, m[1]).view(-1),
    ),
    mistake(
        "a run that diverged before its first snapshot",
        lambda w: gi.load_run(diverged_at_once(w)).view(-1),
        r"has no snapshot: it .*; train it otherwise",
        lambda w, m: w.train().view(-1),
    ),
    mistake(
        "a page over the record of a run",
        lambda w: gi.save_replay(w.run, w.run.path / "run.json", ["loss"]),
        r"belongs to the run in (\S+): choose another name",
        lambda w, m: gi.save_replay(w.run, Path(m[1]) / "other.html", ["loss"]),
    ),
    mistake(
        "a run below a file",
        lambda w: w.cli(TRAIN + "--out {}", w.file("x") / "run"),
        r"choose a directory with (--out)",
        lambda w, m: w.cli(TRAIN + "{} {}", m[1], w.new()),
    ),
    mistake(
        "data into a directory",
        lambda w: w.cli("replay {} --data {}", w.run.path, w.here),
        r"is a directory: give the name of a file with (--data)",
        lambda w, m: w.cli("replay {} --out {} {} {}", w.run.path, w.new(".html"), m[1], w.new(".nc")),
    ),
    mistake(
        "a page into a device",
        lambda w: w.cli("replay {} --out /dev/full", w.run.path),
        r"is no file that can be replaced: choose another with (--out)",
        lambda w, m: w.cli("replay {} {} {}", w.run.path, m[1], w.new(".html")),
    ),
    mistake(
        "a directory without a name",
        lambda w: w.cli(TRAIN + "--out ''"),
        r"give one with (--out), or (\.) for the directory where you are",
        lambda w, m: w.cli(TRAIN + "{} {}", m[1], w.new()),
        lambda w, m: in_an_empty_directory(w, lambda: w.cli(TRAIN + "{} {}", m[1], m[2])),
    ),
    mistake(
        "a link to nowhere",
        lambda w: w.cli(TRAIN + "--out {}", linked(w)[0]),
        r"(\S+) is a link to (\S+), and nothing is there: make that, or choose another place with (--out)",
        lambda w, m: Path(m[2]).mkdir() or w.cli(TRAIN + "{} {}", m[3], m[1]),
        lambda w, m: w.cli(TRAIN + "{} {}", m[3], w.new()),
    ),
    mistake(
        "a directory of something else",
        lambda w: w.cli(TRAIN + "--out {}", filled(w)),
        r"is not empty and holds no run.*: choose a new or an empty directory",
        lambda w, m: w.cli(TRAIN + "--out {}", w.new()),
        lambda w, m: w.cli(TRAIN + "--out {}", empty(w)),
    ),
    mistake(
        "a snapshot that was changed",
        lambda w: gi.load_run(broken(w)).view(20),
        r"(\S+)/snapshots\S+ .* is damaged: .*; restore it from a copy",
        lambda w, m: mended(w, Path(m[1])).view(20),
    ),
    mistake(
        "a snapshot that was removed",
        lambda w: gi.load_run(without(w, "snapshots/step_00000020.safetensors")).view(20),
        r"(\S+)/snapshots\S+ .* cannot be read: .*: restore it from a copy",
        lambda w, m: mended(w, Path(m[1])).view(20),
    ),
    mistake(
        "a listing of what holds no run",
        lambda w: w.cli("ls {}", empty(w)),
        r"give one that holds what `grokinterp train --out` made",
        lambda w, m: w.cli("ls {}", w.run.path.parent),
    ),
    mistake(
        "a disk without room",
        lambda w: on_a_full_disk(lambda: train(w, w.here / "full")),
        r"cannot write \S+: .*: mend that and run the same command again",
        lambda w, m: train(w, w.here / "full"),
    ),
    mistake(
        "a disk without room for a run",
        lambda w: without_room(lambda: w.cli(TRAIN + "--out {}", w.here / "fuller")),
        r"mend that and run the same command again, or choose another place with (--out)",
        lambda w, m: w.cli(TRAIN + "--out {}", w.here / "fuller"),
        lambda w, m: w.cli(TRAIN + "{} {}", m[1], w.new()),
    ),
    mistake(
        "a disk without room for a page",
        lambda w: on_a_full_disk(
            lambda: gi.analyze(w.run, measures=["loss"], with_replay=False).save_html(w.here / "a.html")
        ),
        r"mend that and run the same command again, or choose another place for it",
        lambda w, m: gi.analyze(w.run, measures=["loss"], with_replay=False).save_html(w.here / "a.html"),
        lambda w, m: gi.analyze(w.run, measures=["loss"], with_replay=False).save_html(w.new(".html")),
    ),
    mistake(
        "a snapshot where a run is asked for",
        lambda w: w.cli("verify {}", f"{w.run.path}@10"),
        r"is a snapshot, and a whole run is needed: give (\S+); run\.view\((\d+)\) and `grokinterp "
        r"(analyze \S+ --step \d+)` are about that one",
        lambda w, m: w.cli("verify {}", m[1]),
        lambda w, m: gi.load_run(m[1]).view(int(m[2])),
        lambda w, m: w.cli(f"{m[3]} --no-replay --measure loss --out {w.new()}"),
    ),
]


def weights(w: World) -> Path:
    path = w.new(".pt")
    torch.save(w.run.state_dict(-1), path)
    return path


def filled(w: World) -> Path:
    folder = empty(w)
    (folder / "letter.txt").write_text("x")
    return folder


def empty(w: World) -> Path:
    folder = w.new()
    folder.mkdir()
    return folder


def without(w: World, file: str) -> Path:
    out = copied(w)
    (out / file).unlink()
    return out


def without_room(do: Any) -> Any:
    with mock.patch("tempfile.TemporaryFile", side_effect=OSError(errno.ENOSPC, "full")):
        return do()


def in_an_empty_directory(w: World, do: Any) -> Any:
    before, folder = Path.cwd(), empty(w)
    os.chdir(folder)
    try:
        return do()
    finally:
        os.chdir(before)


AT_ONCE, NEVER = ({"training.stop_when": f"train_loss < {loss}"} for loss in (100, 0.0001))


def ended_early(w: World) -> Path:
    """A run whose stop condition held before its first step."""
    return w.train(**AT_ONCE).path


ON = TRAIN.replace("steps=2", "steps=4") + "--out {} "
"""The command of a run of 4 steps."""


def typed(w: World) -> Path:
    """A run of the command line that ended before its first step."""
    w.cli(ON + "--set 'training.stop_when=train_loss < 100'", out := w.new())
    return out


TRAININGS = [
    mistake(
        "a training that is interrupted",
        lambda w: interrupted(w, w.here / "interrupted"),
        r"interrupted at step 0; nothing is lost: run the same command again to go on",
        lambda w, m: train(w, w.here / "interrupted", 20),
    ),
    mistake(
        "a run that is not to be resumed",
        lambda w: train(w, w.run.path, 20, resume=False),
        r"already holds a run, and resuming was not wanted: choose another directory",
        lambda w, m: train(w, w.new(), resume=False),
    ),
    mistake(
        "another configuration in a directory",
        lambda w: train(w, w.run.path, 20, **{"training.lr": 0.1}),
        r"holds a run of another configuration: training\.lr .*; choose another directory, or the same "
        r"configuration",
        lambda w, m: train(w, w.new(), **{"training.lr": 0.1}),
        lambda w, m: train(w, w.run.path, 20),
    ),
    mistake(
        "training on to the end that was reached",
        lambda w: train(w, ended_early(w), 40, **AT_ONCE),
        r"to train on, give another (training\.stop_when), or none: None, or (--set training\.stop_when=)$",
        lambda w, m: train(w, ended_early(w), 4, **NEVER),
        lambda w, m: train(w, ended_early(w), 4, **{m[1]: None}),
        lambda w, m: w.cli(ON + m[2], out := typed(w)) and gi.load_run(out).view(4),
    ),
    mistake(
        "training on for no more steps",
        lambda w: train(w, w.train().path, **NEVER),
        r"has made all of its 2 steps: to train on, give more (training\.steps)",
        lambda w, m: train(w, w.train().path, 4, **NEVER),
    ),
    mistake(
        "training on to an end that was passed",
        lambda w: train(w, w.train().path, 4, **AT_ONCE),
        r"it would have ended at step 0: give another (training\.stop_when), or another directory",
        lambda w, m: train(w, w.train().path, 4, **NEVER),
        lambda w, m: train(w, w.new(), 4, **AT_ONCE),
    ),
    mistake(
        "training on what was imported",
        lambda w: train(w, recorded_loop(w)),
        r"cannot be trained on: train into another directory; --from \(start=\) begins with these weights",
        lambda w, m: train(w, w.new()),
    ),
    mistake(
        "a run that another process trains",
        lambda w: while_locked(
            w.new(), w.here / "locked", lambda _: train(w, unfinished(w, w.here / "locked"), 20)
        ),
        r"is locked by .*: wait for it, stop it, or choose another directory",
        lambda w, m: train(w, w.here / "locked", 20),
        lambda w, m: train(w, w.new()),
    ),
    mistake(
        "a run that diverged is trained on",
        lambda w: train(
            w,
            diverged(w),
            30,
            **{"training.optimizer": "sgd", "training.weight_decay": 0.0, "training.lr": 1e4},
        ),
        r"choose another configuration, such as a smaller (training\.lr), and another directory",
        lambda w, m: train(w, w.new(), **{m[1]: 1e-3}),
    ),
    mistake(
        "a training that comes to other weights than before",
        lambda w: training_otherwise(w),
        r"torch or the machine has changed: train into another directory",
        lambda w, m: train(w, w.new(), 20),
    ),
    mistake(
        "a run that lost its resume states",
        lambda w: train(w, without_states(w), 20),
        r"the snapshots can be analysed, but this run cannot be continued: train into another directory",
        lambda w, m: train(w, w.new(), 20),
    ),
]


def recorded_loop(w: World) -> Path:
    out = w.new()
    gi.record(w.view.model, w.view.task, 0, out)
    return out


def unfinished(w: World, out: Path) -> Path:
    """A run that was interrupted at its first snapshot."""
    with suppress(BaseException):
        interrupted(w, out)
    return out


def training_otherwise(w: World) -> gi.Run:
    """Going on from an older resume state, by a torch that computes otherwise."""
    out, older = unfinished(w, w.new()), w.new()
    shutil.copytree(out / "resume", older)
    with suppress(BaseException):
        interrupted(w, out, 10)
    shutil.rmtree(out / "resume")
    shutil.copytree(older, out / "resume")
    update = Optimiser.update

    def otherwise(optimiser: Any, step: int, gradients: dict[str, torch.Tensor]) -> Any:
        return update(optimiser, step, {name: -gradient for name, gradient in gradients.items()})

    with mock.patch.object(Optimiser, "update", otherwise):
        return train(w, out, 20)


def without_states(w: World) -> Path:
    out = unfinished(w, w.new())
    assert (out / "resume").is_dir()
    for state in (out / "resume").iterdir():
        state.unlink()
    return out


STARTS = [
    mistake(
        "a start that is a number",
        lambda w: w.cli(TRAIN + "--from '' --out {}", w.new()),
        r"start: needs a run directory, such as RUN or RUN@1000",
        lambda w, m: w.cli(TRAIN + "--from {} --out {}", w.run.path, w.new()),
        lambda w, m: w.cli(TRAIN + "--from {}@10 --out {}", w.run.path, w.new()),
    ),
    mistake(
        "a start that is a configuration",
        lambda w: unchecked_start(w),
        r"start: needs a run, \(run, step\), or text such as 'runs/addition@2000'",
        lambda w, m: train(w, w.new(), start=w.run),
        lambda w, m: train(w, w.new(), start=(w.run, 10)),
        lambda w, m: train(w, w.new(), start=f"{w.run.path}@10"),
    ),
    mistake(
        "a start of another modulus",
        lambda w: train(w, w.new(), start=w.run, **{"task.p": 5}),
        r"they do not have the same vocabulary .*; choose a task of the same elements and layout",
        lambda w, m: train(w, w.new(), start=w.run, **{"task.name": "modular_subtraction"}),
    ),
    mistake(
        "a start of another width",
        lambda w: train(w, w.new(), start=w.run, **{"model.d_mlp": 64}),
        r"the network cannot start from .*; choose the same \[model\]",
        lambda w, m: train(w, w.new(), start=w.run),
    ),
    mistake(
        "a start that has changed meanwhile",
        lambda w: changed_meanwhile(w),
        r"other weights at step \d+ than when this training was asked for: start again",
        lambda w, m: train(w, w.new(), start=w.run),
    ),
]


def unchecked_start(w: World) -> Any:
    """What a start means that no annotation allows."""
    return bare(transfer._meant)(w.config())


def changed_meanwhile(w: World) -> Any:
    """The weights of a snapshot whose hash was another one."""
    return transfer.Source(w.run.path, 10, "0" * 64).weights()


def two(w: World) -> list[gi.TrainConfig]:
    return [w.config(), w.config(**{"training.lr": 0.1})]


SEVERAL = [
    mistake(
        "two configurations of one seed",
        lambda w: many(w, two(w)),
        r"give them names, as \{'name': configuration\}",
        lambda w, m: many(w, dict(zip(("first", "second"), two(w), strict=True))),
    ),
    mistake(
        "a start of a name that there is not",
        lambda w: many(w, {"first": w.config()}, start={"firts": w.run}),
        r"no configuration is named so; did you mean '(\w+)'",
        lambda w, m: many(w, {"first": w.config()}, start={m[1]: w.run}),
    ),
    mistake(
        "several runs in the directory of one",
        lambda w: of_seeds(w, "0", w.run.path),
        r"holds a run itself: choose another directory for those of several",
        lambda w, m: of_seeds(w, "0"),
    ),
    mistake(
        "seeds that are words",
        lambda w: w.cli(TRAIN + "--seeds few --out {}", w.new()),
        r"needs whole numbers from 0, such as ([\d.]+) or ([\d,]+)",
        lambda w, m: [w.cli(TRAIN + "--seeds {} --out {} --dry-run", seeds, w.new()) for seeds in m.groups()],
    ),
    mistake(
        "seeds that would be one run",
        lambda w: of_seeds(w, start=w.run),
        r"set (training\.batch_size), or give a directory of runs seed_0 and so on",
        lambda w, m: of_seeds(w, start=w.run, config=w.config(**{m[1]: 8})),
        lambda w, m: of_seeds(w, start=of_seeds(w)[0].path.parent),
    ),
    mistake(
        "a task of the script itself for other processes",
        lambda w: with_task_of("__main__", lambda: many(w, w.config(**{"task.name": "mine"}), seeds="0")),
        r"move it to a module that the script imports",
        lambda w, m: with_task_of("mine_too", lambda: many(w, w.config(**{"task.name": "mine"}), seeds="0")),
    ),
    mistake(
        "fewer CUDA devices than processes",
        lambda w: devices(w.config(processes=2, **{"training.batch_size": 8}, device="cuda"), "cuda", 1),
        r"ask for as many, or for (device) = '(cpu)'",
        lambda w, m: devices(w.config(processes=2, **{"training.batch_size": 8}, device="cuda"), "cuda", 2),
        lambda w, m: devices(w.config(processes=2, **{"training.batch_size": 8, m[1]: m[2]}), m[2], 1),
    ),
    mistake(
        "an unknown logger",
        lambda w: train(w, w.new(), log="tensorbord"),
        r"there is no logger 'tensorbord'; did you mean '(\w+)'",
        lambda w, m: loggers.LOGGERS[m[1]],
    ),
]


def with_task_of(module: str, do: Any) -> Any:
    """Does something where a task is known that was defined in a module."""

    def mine(p: int = 7) -> gi.Task:
        return gi.Task.of_function(lambda a, b: (a + b) % p, p, layout="a b =")

    mine.__module__ = module
    gi.task(mine)
    try:
        return do()
    finally:
        gi.TASKS.pop("mine")


def devices(config: gi.TrainConfig, kind: str, count: int) -> None:
    """Whether so many processes find a device each."""
    with (
        mock.patch("grokinterp.runs.processes.resolve_device", return_value=SimpleNamespace(type=kind)),
        mock.patch("torch.cuda.device_count", return_value=count),
    ):
        _refuse_too_few_devices(config)


def thin(w: World, keep: str) -> Any:
    out = w.new()
    gi.record(w.view.model, w.view.task, 0, out)
    return w.cli("thin {} --keep {}", out, keep)


def of_unknown_steps(w: World) -> Path:
    """Two networks in a file that does not say of which steps they are."""
    out, path = w.new(), w.new(".pt")
    torch.save({"models": [w.clock.weights, w.clock.weights]}, path)
    gi.import_checkpoint(path, out, task={"name": "modular_addition", "p": 13}, forensics=False)
    return out


def learned(w: World) -> Path:
    """A run with a phase: its training examples are learned."""
    return w.train(80, **{"training.weight_decay": 0.0, "training.fraction": 0.5, "training.lr": 1e-2}).path


def thinned(w: World, out: Any, keep: str) -> str:
    return w.cli("thin {} --keep {} --dry-run", out, keep)


THINNED = [
    mistake(
        "a rule for thinning that there is not",
        lambda w: thinned(w, w.run.path, "few"),
        r"--keep 'few': needs (every:10) .*, (log) .*, (log:50), or (phases)",
        lambda w, m: [thinned(w, w.run.path, rule) for rule in m.groups()[:3]],
        lambda w, m: thinned(w, learned(w), m[4]),
    ),
    mistake(
        "thinning by steps that are not known",
        lambda w: thinned(w, of_unknown_steps(w), "log"),
        r"choose --keep (every:)N",
        lambda w, m: thinned(w, of_unknown_steps(w), m[1] + "2"),
    ),
]


def pushed(w: World, run: gi.Run, repository: str) -> str:
    """What a push printed."""
    return w.cli("push {} {}", run.path, repository)


def without_package(name: str, do: Any) -> Any:
    """Does something where a package is not installed."""
    with mock.patch(f"grokinterp.runs.{name}.find_spec", return_value=None):
        return do()


HUB = [
    mistake(
        "a push to a revision",
        lambda w: w.cli("push {} user/run@v1", w.run.path),
        r"(user/run@v1): .*: leave out (@v1)",
        lambda w, m: pushed(w, w.run, m[1].replace(m[2], "")),
    ),
    mistake(
        "a push of a run that is being trained",
        lambda w: while_locked(w.run.path, w.run.path, lambda _: pushed(w, w.run, "user/busy")),
        r"is locked by .*: push it when that has ended",
        lambda w, m: pushed(w, w.run, "user/busy"),
    ),
    mistake(
        "a repository that holds no run",
        lambda w: (
            (w.here / "hub" / "user" / "none").mkdir(parents=True)
            or w.cli("pull hf://user/none --out {}", w.new())
        ),
        r"give what `grokinterp push` made",
        lambda w, m: pushed(w, w.run, "user/mine") and w.cli("pull hf://user/mine --out {}", w.new()),
    ),
    mistake(
        "a push over another run",
        lambda w: pushed(w, w.run, "user/one") and pushed(w, w.train(**{"training.lr": 0.1}), "user/one"),
        r"choose another repository, or a folder in it: (\S+)/NAME",
        lambda w, m: pushed(w, w.train(**{"training.lr": 0.1}), "user/another"),
        lambda w, m: pushed(w, w.train(**{"training.lr": 0.1}), f"{m[1]}/second"),
    ),
    mistake(
        "a pull into another run",
        lambda w: pushed(w, w.run, "user/mine") and w.cli("pull hf://user/mine --out {}", w.train().path),
        r"holds another run, or another state of this one: choose another directory",
        lambda w, m: w.cli("pull hf://user/mine --out {}", w.new()),
    ),
    mistake(
        "the hub without its package",
        lambda w: without_package("hub", lambda: pushed(w, w.run, "user/mine")),
        r"pip install 'grokinterp\[(hub)\]'",
        lambda w, m: brings(m[1], "huggingface_hub"),
    ),
    mistake(
        "a logger without its package",
        lambda w: without_package("loggers", lambda: loggers.named_loggers("wandb")),
        r"the logger wandb needs the package (\w+), .*: pip install 'grokinterp\[(\w+)\]'",
        lambda w, m: brings(m[2], m[1]),
    ),
]


def brings(extra: str, package: str) -> None:
    """Whether an extra of this package installs another one."""
    needed = [
        needs
        for needs in metadata.requires("grokinterp") or ()
        if f"extra == '{extra}'" in needs.replace('"', "'")
    ]
    assert any(needs.replace("-", "_").startswith(package) for needs in needed), needed


EXPORTED = [
    mistake(
        "an unknown format",
        lambda w: gi.export(w.run, "safetensor", w.new()),
        r"unknown format 'safetensor'; did you mean '(\w+)'\?: choose one of (.*)",
        lambda w, m: gi.export(w.run, m[1], w.new()),
        lambda w, m: [
            gi.export(w.train(**{"model.normalization": "LNPre", "model.d_vocab_out": 8}), other, w.new())
            for other in m[2].split(", ")
        ],
    ),
    mistake(
        "two steps of an export",
        lambda w: gi.export(f"{w.run.path}@10", "safetensors", w.new(), step=20),
        r"names step 10, and step=20 another: give one of them",
        lambda w, m: gi.export(f"{w.run.path}@10", "safetensors", w.new()),
        lambda w, m: gi.export(w.run.path, "safetensors", w.new(), step=20),
    ),
    mistake(
        "an export into a directory that holds something",
        lambda w: w.cli("export {} --to safetensors --out {}", w.run.path, filled(w)),
        r"is not empty: choose a new or an empty directory with (--out)",
        lambda w, m: w.cli("export {} --to safetensors {} {}", w.run.path, m[1], w.new()),
        lambda w, m: w.cli("export {} --to safetensors {} {}", w.run.path, m[1], empty(w)),
    ),
]

RUNS = [*DIRECTORIES, *TRAININGS, *STARTS, *SEVERAL, *THINNED, *HUB, *EXPORTED]
