"""The command that trains a grid of configurations: `sweep`."""

from __future__ import annotations

import json
import math
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import GrokinterpError, UsageError
from . import index
from .common import Json, brief, command, configured, key_and_value, place, print_table, refuse_both, size

if TYPE_CHECKING:
    from ..sweeps import Sweep
    from ..training import TrainConfig

_SHOWN = 40
"""Members that are printed, where there are more in a dry run."""


@command(
    "sweep",
    "grokinterp sweep modular_addition --preset quick --grid training.weight_decay=0,1,3 --seeds 0..3 --out "
    "runs/decays",
    "grokinterp sweep modular_addition --preset quick --grid training.lr=1e-3:1e-2:log5 --dry-run",
)
def sweep(
    task: Annotated[
        str | None,
        typer.Argument(
            metavar="[TASK]",
            help="What to learn. Without it, the sweep in OUT goes on.",
            show_default=False,
            autocompletion=index.tasks,
        ),
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(
            metavar="DIR",
            help="What holds the runs and sweep.json; made if need be. Only --dry-run needs none.",
            show_default=False,
        ),
    ] = None,
    grid: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUES",
            help="A key of the configuration and its values: 0,0.3,1 or 0.2:0.8:0.1 (both ends included) or "
            "0..7, 1e-4:1e-1:log7 (lin7: seven values), 1e-4:1e-1:lograndom (random: drawn, see --samples). "
            "Repeatable: all are crossed.",
        ),
    ] = None,
    seeds: Annotated[
        str | None, typer.Option(help="Short for --grid seed=...: 0..31 (both included) or 0,3,7.")
    ] = None,
    samples: Annotated[int | None, typer.Option(min=1, help="How often values are drawn.")] = None,
    draw_seed: Annotated[int, typer.Option(help="Of what is drawn.")] = 0,
    preset: Annotated[
        str | None,
        typer.Option(
            help="A known recipe, by default that of the task; `grokinterp list presets`.",
            autocompletion=index.presets,
        ),
    ] = None,
    config: Annotated[Path | None, typer.Option(help="A TOML file with the configuration.")] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", help="KEY=VALUE that all members share, e.g. training.steps=4000; repeatable."),
    ] = None,
    engine: Annotated[
        str,
        typer.Option(
            help="Where members are trained: local (processes of this machine), ray (a cluster: pip install "
            "'grokinterp[ray]'), slurm (job arrays: 'grokinterp[slurm]')."
        ),
    ] = "local",
    options: Annotated[
        list[str] | None,
        typer.Option(
            "--engine-set",
            metavar="KEY=VALUE",
            help="Of the engine. ray: address, per_task, gpus, copy_back; slurm: at_once, per_task, and what "
            "submitit takes, such as timeout_min or slurm_partition. Repeatable.",
        ),
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(help="Members at once, one thread each (local); by default one per core."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Take more than 10,000 members.")] = False,
    log: Annotated[
        list[str] | None,
        typer.Option(metavar="LOGGER", help="As for train: wandb, tensorboard or trackio; repeatable."),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Train nothing: print the members and what they would come to."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Train a network for every member of a grid of configurations, each into a run directory of its own. The
    same command again goes on where it stopped; with more values the sweep grows."""
    from ..sweeps import load_sweep
    from ..sweeps import sweep as sweep_runs
    from ..sweeps.directory import asked_for
    from ..sweeps.grid import MOST, grid_argument

    if out is None and not dry_run:
        raise UsageError("--out is missing: give the directory of the sweep, such as --out runs/sweep")
    axes: dict[str, Any] = {}
    for key, values in map(grid_argument, grid or []):
        if key in axes:
            raise UsageError(f"--grid {key} is there twice: give all its values at once")
        axes[key] = values
    base = _base(task, preset, config, overrides)
    folder = Path(out or "sweep")
    if dry_run:
        _, members = asked_for(base, axes, seeds, samples, draw_seed, None if yes else MOST, folder)
        _foretell(members or load_sweep(folder).members, threads, as_json)
        return
    engine_options = dict(key_and_value(text, "--engine-set", "timeout_min=60") for text in options or [])
    asked: dict[str, Any] = {"grid": axes, "seeds": seeds, "samples": samples, "draw_seed": draw_seed}
    how: dict[str, Any] = {"engine": engine, "options": engine_options, "workers": threads, "log": log or ()}
    _sweep(lambda: sweep_runs(base, folder, **asked, **how, yes=yes), folder, as_json)


def _base(
    task: str | None, preset: str | None, config: Path | None, overrides: list[str] | None
) -> TrainConfig | None:
    """What all members share; None where the sweep that is there goes on."""
    refuse_both(preset, config)
    changed = dict(key_and_value(text) for text in overrides or [])
    if task is not None:
        return configured(task, preset, config, changed)
    if preset or config or changed:
        raise UsageError("TASK is missing: it comes first, such as modular_addition")
    return None


def _foretell(members: Any, threads: int | None, as_json: bool) -> None:
    """Prints the members and what they would come to, and writes nothing."""
    from ..shown import duration
    from ..sweeps.outlook import sweep_outlook

    found = sweep_outlook(members, threads)
    if as_json:
        print(
            json.dumps({"values": {name: dict(m.values) for name, m in members.items()}, **found.to_dict()})
        )
        return
    for name in found.members[:_SHOWN]:
        print(name)
    if len(found.members) > _SHOWN:
        print(f"... and {len(found.members) - _SHOWN:,} more")
    n = len(found.members)
    print(f"{n:,} member{'s' * (n > 1)}, about {size(found.bytes)} of snapshots and states to resume from")
    if math.isnan(found.seconds):
        print("not known how long it takes, as no step could be measured")
    else:
        early = any(member.config.training.stop_when for member in members.values())
        how = f"with {found.workers} at once{', less where some stop early' * early}"
        measured = f"from steps of {len(found.measured)} members measured just now"
        print(f"about {duration(found.seconds)} {how}: an estimate, {measured}")
    print("nothing was written")


def _sweep(train: Any, folder: Path, as_json: bool) -> None:
    """Trains, and prints one row for each member."""
    from ..errors import SomeFailed
    from ..sweeps import load_sweep

    started, failures = time.monotonic(), {}
    try:
        train()
    except SomeFailed as error:
        failures = error.failures
    seconds, done = time.monotonic() - started, load_sweep(folder)
    if as_json:
        print(json.dumps({"runs": _rows(done), "seconds": seconds}))
    else:
        print_members(done)
        counts = Counter(done.table["state"])
        said = ", ".join(f"{n:,} {state}" for state, n in counts.most_common())
        print(f"{len(done):,} members in {place(folder)}: {said}, {seconds:.1f} s")
        print(f"Next: grokinterp compare {folder} --by {done.keys[0]}")
    for name, failure in failures.items():
        print(f"grokinterp: {name}: {failure}", file=sys.stderr)
    if failures:
        raise typer.Exit(GrokinterpError.exit_code)


def print_members(done: Sweep) -> None:
    """A row for each member."""
    rows = [
        (
            str(row["member"]),
            brief(row["step"]),
            *(brief(row[f"{part}_accuracy"]) for part in ("train", "test")),
            row["state"] if row["state"] == "finished" else f"{row['state']}: {row['why']}",
        )
        for row in _rows(done)
    ]
    print_table(["member", "step", "train accuracy", "test accuracy", "ended"], rows)


def _rows(done: Sweep) -> list[dict[str, Any]]:
    """The table of a sweep as plain JSON: None for what is not known."""
    table = done.table
    known = table.astype(object).where(table.notna(), None)
    rows: list[dict[str, Any]] = known.to_dict("records")
    for row in rows:
        row["step"] = None if row["step"] is None else int(row["step"])
        row["values"] = {key: row.pop(key) for key in done.keys}
    return rows
