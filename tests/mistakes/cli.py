"""What is typed."""

from __future__ import annotations

from unittest import mock

import pytest

from .base import World, mistake
from .foreign import by_torch
from .importing import TASK
from .runs import TINY, TRAIN


def configuration(w: World) -> str:
    return str(w.file(w.config().to_toml(), ".toml"))


def unforeseen(w: World, command: str) -> str:
    """A command in which something breaks."""
    with mock.patch("grokinterp.runs.listing.listed", side_effect=ZeroDivisionError):
        return w.cli(command)


def shows_where(w: World, command: str) -> None:
    """The error itself comes."""
    with pytest.raises(ZeroDivisionError):
        unforeseen(w, command)


FEW = "analyze {} --no-replay --measure loss --measure power.W_E --out {}"
CLI = [
    mistake(
        "an empty name",
        lambda w: w.cli("analyze ''"),
        r"give the one that `grokinterp (train) (--out)` made",
        lambda w, m: (
            w.cli(
                "{} modular_addition {} {} {}".replace("{} {} {}", TINY + " {} {}"),
                m[1],
                m[2],
                out := w.new(),
            )
            and w.cli("verify {}", out)
        ),
    ),
    mistake(
        "a key without a value",
        lambda w: w.cli(TRAIN + "--set lr --out {}", w.new()),
        r"needs KEY=VALUE, such as (--set) (training\.lr=3e-3)",
        lambda w, m: w.cli(TRAIN + "{} {} --out {}", m[1], m[2], w.new()),
    ),
    mistake(
        "a key of another section for a table",
        lambda w: w.cli("table modular_addition --p 5 --set training.lr=1"),
        r"takes keys of the task, such as (task\.p=113)",
        lambda w, m: w.cli("table modular_addition --set {}", m[1]),
    ),
    mistake(
        "a thinning that is tried",
        lambda w: w.cli("thin {} --keep every:2 --dry-run", w.run.path),
        r"Nothing was removed: leave out (--dry-run)",
        lambda w, m: w.cli("thin {} --keep every:2", w.train(20, **{"snapshots.every": 2}).path),
    ),
    mistake(
        "a list that there is not",
        lambda w: w.cli("list mesures"),
        r"did you mean '(\w+)'",
        lambda w, m: w.cli("list {}", m[1]),
    ),
    mistake(
        "a word that no task is like",
        lambda w: w.cli("list tasks xyzzy"),
        r"no task mentions 'xyzzy'; `grokinterp (list tasks)` has the \d+ that there are",
        lambda w, m: w.cli(m[1]),
    ),
    mistake(
        "a step while watching",
        lambda w: w.cli("replay {} --watch --step 10", w.run.path),
        r"--watch replays every snapshot: leave out --step",
        lambda w, m: w.cli("replay {} --watch --out {}", w.run.path, w.new(".html")),
    ),
    mistake(
        "keys that are words",
        lambda w: w.cli("analyze {} --keys few", w.run.path),
        r"needs whole numbers, such as (--keys) 14,35,41",
        lambda w, m: w.cli(
            "analyze {} {} 1,2,3 --no-replay --measure loss --out {}", w.run.path, m[1], w.new()
        ),
    ),
    mistake(
        "a training into nowhere",
        lambda w: w.cli(TRAIN),
        r"give the directory of the run, such as (--out) (runs/first)",
        lambda w, m: w.cli(TRAIN + "{} {}", m[1], m[2]),
    ),
    mistake(
        "a preset and a file",
        lambda w: w.cli(
            "train modular_addition --preset quick --config {} --out {}", configuration(w), w.new()
        ),
        r"(--preset) and (--config) were both given: choose one",
        lambda w, m: w.cli("train modular_addition {} quick --out {} --dry-run", m[1], w.new()),
        lambda w, m: w.cli("train modular_addition {} {} --out {}", m[2], configuration(w), w.new()),
    ),
    mistake(
        "a seed and seeds",
        lambda w: w.cli(TRAIN + "--seed 1 --seeds 0,1 --out {}", w.new()),
        r"leave out --seed and --set seed",
        lambda w, m: w.cli(TRAIN + "--seeds 0,1 --out {} --dry-run", w.new()),
    ),
    mistake(
        "all measures of a summary",
        lambda w: w.cli(FEW, w.run.path, w.new()),
        r"measures were taken; (--all) prints them",
        lambda w, m: w.cli(FEW + " {}", w.run.path, w.new(), m[1]),
    ),
    mistake(
        "a run on the hub",
        lambda w: w.cli("push {} user/run", w.run.path) and w.cli("analyze hf://user/run"),
        r"grokinterp (pull hf://user/run --out) DIR fetches it",
        lambda w, m: w.cli(m[1] + " {}", out := w.new()) and w.cli("verify {}", out),
    ),
    mistake(
        "a run that was pushed",
        lambda w: w.cli("push {} user/pushed", w.run.path),
        r"Fetch it: grokinterp (pull \S+ --out) DIR",
        lambda w, m: w.cli(m[1] + " {}", out := w.new()) and w.cli("verify {}", out),
    ),
    mistake(
        "a run that was fetched",
        lambda w: (
            w.cli("push {} user/fetched", w.run.path) and w.cli("pull hf://user/fetched --out {}", w.new())
        ),
        r"Next: grokinterp (analyze \S+)",
        lambda w, m: w.cli(m[1] + " --no-replay --measure loss"),
    ),
    mistake(
        "a run that was trained",
        lambda w: w.cli(TRAIN + "--out {}", w.new()),
        r"snapshots in \S+ Next: grokinterp (analyze \S+)",
        lambda w, m: w.cli(m[1] + " --no-replay --measure loss"),
    ),
    mistake(
        "a network that was imported",
        lambda w: w.cli("import {} --out {} " + TASK, by_torch(w), w.new()),
        r"Next: grokinterp (analyze \S+)",
        lambda w, m: w.cli(m[1] + " --no-replay --measure loss"),
    ),
    mistake(
        "an error that nobody foresaw",
        lambda w: unforeseen(w, "ls"),
        r"`grokinterp (--debug) \.\.\.` shows where",
        lambda w, m: shows_where(w, f"{m[1]} ls"),
    ),
]
