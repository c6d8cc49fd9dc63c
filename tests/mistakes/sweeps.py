"""Sweeps: grids, sweep.json, engines."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

import grokinterp as gi
from grokinterp.runs import files
from grokinterp.runs.many import Work
from grokinterp.sweeps import Sweep

from .base import Mistake, World, bare, mistake

FLAGS = (
    "--preset quick --set task.p=7 --set model.d_model=16 --set model.d_mlp=32 --set training.stop_when= "
    "--set training.steps=2"
)
SWEEP = f"sweep modular_addition {FLAGS} "
SEEDS = {"seed": [0, 1]}


@contextmanager
def here() -> Iterator[None]:
    """Members are trained in this process, which takes less time than others do."""
    with mock.patch.object(Work, "in_processes", lambda work, workers: work.one_by_one([*work.configs])):
        yield


def cli(w: World, command: str, *words: Any) -> str:
    with here():
        return w.cli(command, *words)


def swept(w: World, out: Path | None = None, **options: Any) -> Sweep:
    options = {"grid": SEEDS, "progress": False} | options
    with here():
        return bare(gi.sweep)(options.pop("config", w.config()), out or w.new(), **options)


def held(w: World) -> Path:
    out = w.new()
    out.mkdir()
    with files.locked(out, str):
        swept(w, out)
    return out


def changed(w: World, old: bytes, new: bytes) -> Path:
    """A sweep whose sweep.json says something else, and is sealed."""
    out = swept(w).path
    data = re.sub(old, new, (out / "sweep.json").read_bytes())
    unsealed = re.sub(rb"sha256:[0-9a-f]{64}", files.UNSEALED.encode(), data)
    (out / "sweep.json").write_bytes(files.sealed(unsealed))
    return out


def another_member(w: World) -> None:
    """A sweep in which one run lies in the place of another, and that back in its own."""
    out = w.here / "swapped"
    if not out.exists():
        swept(w, out)
        shutil.copytree(out / "seed=0", w.here / "copy")
    shutil.rmtree(out / "seed=0")
    shutil.copytree(out / "seed=1", out / "seed=0")
    w.cli("verify {}", out)


def restored(w: World) -> Any:
    out = w.here / "swapped"
    shutil.rmtree(out / "seed=0")
    shutil.copytree(w.here / "copy", out / "seed=0")
    return w.cli("verify {}", out)


def drawn_twice(w: World, samples: int = 9) -> Sweep:
    return swept(w, grid={"seed": "0:3:random"}, samples=samples)


def without(module: str) -> Any:
    return mock.patch.dict(sys.modules, {module: None})


def on(w: World, engine: str, **options: Any) -> Sweep:
    return swept(w, engine=engine, options=options)


def not_installed(w: World, engine: str, module: str) -> None:
    with without(module):
        on(w, engine)


ROWS = [
    mistake(
        "--out is missing",
        lambda w: w.cli(SWEEP + "--seeds 0,1"),
        r"give the directory of the sweep, such as (--out runs/sweep)",
        lambda w, m: cli(w, SWEEP + "--seeds 0,1 " + m[1]),
    ),
    mistake(
        "a key twice",
        lambda w: w.cli(SWEEP + "--grid seed=0 --grid seed=1 --out x"),
        r"--grid seed is there twice: give all its values at once",
        lambda w, m: cli(w, SWEEP + "--grid seed=0,1 --out {}", w.new()),
    ),
    mistake(
        "no task",
        lambda w: w.cli(f"sweep {FLAGS} --seeds 0,1 --out x"),
        r"TASK is missing: it comes first, such as (modular_addition)",
        lambda w, m: cli(w, f"sweep {m[1]} {FLAGS} --seeds 0,1 --out {{}}", w.new()),
    ),
    mistake(
        "what comes next",
        lambda w: cli(w, SWEEP + "--grid training.lr=1e-3,1e-2 --out next"),
        r"Next: grokinterp (compare next --by training.lr)",
        lambda w, m: w.cli(m[1]),
    ),
    mistake(
        "no word behind an engine's option",
        lambda w: w.cli(SWEEP + "--seeds 0,1 --out x --engine ray --engine-set per_task"),
        r"needs KEY=VALUE, such as --engine-set (\w+)=(\d+)",
        lambda w, m: refused(w, "slurm", "timeout_min", **{m[1]: "x", "cluster": "local"}),
    ),
    mistake(
        "a run that is not the member's",
        another_member,
        r"its configuration is not that of sweep\.json: seed; restore it from a copy",
        lambda w, m: restored(w),
    ),
    mistake(
        "nothing to go on with",
        lambda w: w.cli("sweep --out {}", w.here / "nothing"),
        r"give the directory that `grokinterp (sweep) --out` made",
        lambda w, m: cli(w, SWEEP + "--seeds 0,1 --out {}", out := w.new()) and w.cli("sweep --out {}", out),
    ),
    mistake(
        "another process sweeps there",
        held,
        r"wait for it, or stop it and run the same command again",
        lambda w, m: swept(w, w.new()),
    ),
    mistake(
        "seeds twice",
        lambda w: swept(w, seeds="0,1"),
        r"the grid has the key seed as well: leave one of them out",
        lambda w, m: swept(w, grid=None, seeds="0,1"),
        lambda w, m: swept(w),
    ),
    mistake(
        "no grid",
        lambda w: swept(w, grid=None),
        r"a sweep needs --grid KEY=VALUES or --seeds (0\.\.7); `grokinterp train` trains one",
        lambda w, m: swept(w, grid=None, seeds=m[1]),
        lambda w, m: w.train(),
    ),
    mistake(
        "an engine in other words",
        lambda w: on(w, "locale"),
        r"unknown engine 'locale'; did you mean '(local)'\?",
        lambda w, m: on(w, m[1]),
    ),
    mistake(
        "an option of Ray in other words",
        lambda w: on(w, "ray", per_tasks=0),
        r"engine 'ray': unknown option 'per_tasks'; did you mean '(per_task)'\?",
        lambda w, m: refused(w, "ray", "needs a whole number", **{m[1]: 0}),
    ),
    mistake(
        "a number for values",
        lambda w: swept(w, grid={"training.lr": 3}),
        r"needs text such as '(.*?)', or a list, got 3",
        lambda w, m: swept(w, grid={"training.fraction": m[1]}),
        lambda w, m: swept(w, grid={"training.fraction": [0.3]}),
    ),
    mistake(
        "no values",
        lambda w: swept(w, grid={"seed": ""}),
        r"there are no values; give VALUE,VALUE or FIRST:LAST:STEP or FIRST\.\.LAST or FIRST:LAST:log5",
        lambda w, m: swept(w, grid={"seed": "1,2"}),
        lambda w, m: swept(w, grid={"seed": "1:2:1"}),
        lambda w, m: swept(w, grid={"seed": "1..2"}),
        lambda w, m: swept(w, grid={"training.lr": "1e-3:1e-2:log5"}),
    ),
    mistake(
        "an empty value",
        lambda w: swept(w, grid={"seed": "1,,2"}),
        r"there is an empty value; give VALUE,VALUE",
        lambda w, m: swept(w, grid={"seed": "1,2"}),
    ),
    mistake(
        "no values on the command line",
        lambda w: w.cli(SWEEP + "--grid seed --out x"),
        r"needs KEY=VALUES, such as (--grid training.weight_decay=0,0.3,1)",
        lambda w, m: cli(w, SWEEP + m[1] + " --out {}", w.new()),
    ),
    mistake(
        "steps that are too small",
        lambda w: swept(w, grid={"training.lr": "0:1:1e-9"}),
        r"take a larger step",
        lambda w, m: swept(w, grid={"training.lr": "0.5:1:0.5"}),
    ),
    mistake(
        "drawn, and not said how often",
        lambda w: w.cli(SWEEP + "--grid training.lr=1e-3:1e-2:random --out x"),
        r"give --samples, such as (--samples 20)",
        lambda w, m: w.cli(SWEEP + f"--grid training.lr=1e-3:1e-2:random --dry-run {m[1]}"),
    ),
    mistake(
        "samples of nothing",
        lambda w: swept(w, samples=2),
        r"no key of the grid is drawn; give one such as (\S+)=(\S+)",
        lambda w, m: swept(w, grid={m[1]: m[2]}, samples=2),
    ),
    mistake(
        "too many members",
        lambda w: w.cli(SWEEP + "--grid seed=0..10000 --out x"),
        r"10,001 members, and each is a training: give (--yes) \(yes=True\) .* or fewer values",
        lambda w, m: w.cli(SWEEP + f"--grid seed=0..10000 --dry-run {m[1]}"),
        lambda w, m: swept(w),
    ),
    mistake(
        "the same drawn twice",
        drawn_twice,
        r"the same values were drawn twice; give fewer --samples",
        lambda w, m: drawn_twice(w, 1),
    ),
    mistake(
        "a grid of other keys",
        lambda w: swept(w, swept(w).path, grid={"training.lr": [1e-3]}),
        r"a sweep grows by more values of its keys; choose another directory",
        lambda w, m: swept(w, grid={"training.lr": [1e-3]}),
        lambda w, m: swept(w, swept(w).path, grid={"seed": [7]}),
    ),
    mistake(
        "another configuration",
        lambda w: swept(w, swept(w).path, config=w.config(**{"training.lr": 0.5})),
        r"training\.lr is 0\.003 there and 0\.5 here; choose another directory, or that configuration",
        lambda w, m: swept(w, config=w.config(**{"training.lr": 0.5})),
        lambda w, m: swept(w, swept(w).path),
    ),
    mistake(
        "a later format",
        lambda w: gi.load_sweep(changed(w, rb'"format": 1', b'"format": 2')),
        r"has format 2, and this grokinterp reads 1: use a version that reads it",
        lambda w, m: gi.load_sweep(changed(w, rb'"format": 1', b'"format": 1')),
    ),
    mistake(
        "a directory of a run",
        lambda w: swept(w, w.run.path),
        r"holds a run itself: choose another directory",
        lambda w, m: swept(w),
    ),
    mistake(
        "no Ray",
        lambda w: not_installed(w, "ray", "ray"),
        r"pip install 'grokinterp\[ray\]', or --engine (local)",
        lambda w, m: on(w, m[1]),
    ),
    mistake(
        "no submitit",
        lambda w: not_installed(w, "slurm", "submitit"),
        r"pip install 'grokinterp\[slurm\]', or --engine (local)",
        lambda w, m: on(w, m[1]),
    ),
]


def refused(w: World, engine: str, says: str, **options: Any) -> None:
    """The option is known: its value is refused."""
    with pytest.raises(gi.GrokinterpError, match=says):
        on(w, engine, **options)


def of_room(says: str) -> list[Mistake]:
    """The rows whose messages a room says."""
    return [row for row in ROWS if re.search(says, row.name)]


COMMANDED = of_room("^(--out is missing|a key twice|no task|what comes next)$")
READ = of_room("^(nothing to go on with|a later format)$")
SWEPT = [row for row in ROWS if row not in [*COMMANDED, *READ]]
