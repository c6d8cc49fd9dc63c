"""The commands that make runs: `train` and `import`."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import GrokinterpError, UsageError
from . import index
from .common import (
    Json,
    Modulus,
    TaskKeys,
    brief,
    command,
    configured,
    key_and_value,
    place,
    print_table,
    refuse_both,
    size,
    task_keys,
)

if TYPE_CHECKING:
    from ..runs import Run
    from ..training import TrainConfig


@command(
    "train",
    "grokinterp train modular_addition --preset quick --out runs/add53",
    "grokinterp train modular_addition --preset quick --dry-run",
)
def train(
    task: Annotated[
        str,
        typer.Argument(
            metavar="TASK",
            help="What to learn; `grokinterp list tasks` shows all.",
            show_default=False,
            autocompletion=index.tasks,
        ),
    ],
    out: Annotated[
        str | None,
        typer.Option(
            metavar="DIR",
            help="The run directory, or with --seeds what holds them; made if need be. Only --dry-run needs "
            "none.",
            show_default=False,
        ),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            help="A known recipe, by default that of the task (`grokinterp list tasks`), or with --from "
            "that of the source; `grokinterp list presets`.",
            autocompletion=index.presets,
        ),
    ] = None,
    config: Annotated[Path | None, typer.Option(help="A TOML file with the configuration.")] = None,
    p: Modulus = None,
    steps: Annotated[
        int | None,
        typer.Option(
            help="Optimiser updates at most (training.steps). With more than the run in OUT was to make, it "
            "is trained on, with its optimiser."
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of the initial weights and the batches.")] = None,
    seeds: Annotated[
        str | None,
        typer.Option(
            help="Several runs at once, OUT/seed_0 and so on: 0..31 (both included) or 0,3,7. On a CPU, one "
            "thread each."
        ),
    ] = None,
    source: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="RUN[@STEP]",
            help="Start from a snapshot of that run (the last, or that of STEP), with a fresh optimiser. "
            "Without --preset and --config the rest of the configuration is that run's. With --seeds, RUN "
            "may hold seed_0 and so on: each starts from that of its own seed.",
            autocompletion=index.runs,
        ),
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(
            help="CPU threads; any number gives the same bytes. With --seeds, runs at once: by default as "
            "many as there are cores."
        ),
    ] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="KEY=VALUE, e.g. training.lr=3e-3; repeatable.")
    ] = None,
    resume: Annotated[
        bool, typer.Option(help="Go on with a run that is already there, or refuse it.")
    ] = True,
    log: Annotated[
        list[str] | None,
        typer.Option(
            metavar="LOGGER",
            help="Also hand the metrics to wandb, tensorboard or trackio, offline unless the environment "
            "asks otherwise (WANDB_MODE, TRACKIO_SPACE_ID); repeatable.",
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Write nothing: print the configuration, as TOML for --config, and what it would come to.",
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Train a network into a run directory, with snapshots; or several, that differ in their seed. The same
    command again goes on where it stopped, and with more --steps where it ended."""
    from ..runs import train as train_run
    from ..runs.files import folder_named
    from ..runs.seeds import seeds_of, shared_configuration, summary

    if out is None and not dry_run:
        raise UsageError("--out is missing: give the directory of the run, such as --out runs/first")
    folder = folder_named("run" if out is None else out)
    refuse_both(preset, config)
    changed: dict[str, Any] = {"task.name": task}
    short = {"task.p": p, "training.steps": steps, "seed": seed, "threads": threads}
    changed |= {key: value for key, value in short.items() if value is not None}
    changed |= dict(key_and_value(text) for text in overrides or [])
    several = [] if seeds is None else seeds_of(seeds)
    if several and "seed" in changed:
        raise UsageError("--seeds gives every run its seed: leave out --seed and --set seed")
    if source is not None and preset is None and config is None:
        chosen = shared_configuration(source, several, folder).changed(**changed)
    else:
        chosen = configured(task, preset, config, changed)
    if dry_run:
        _foretell(chosen, several, source, folder, as_json)
        return
    if several:
        options = {"start": source, "workers": changed.get("threads"), "resume": resume, "log": log or ()}
        _train_seeds(chosen, several, folder, as_json, **options)
        return
    started = time.monotonic()
    run = train_run(chosen, folder, start=source, resume=resume, log=log or ())
    seconds = time.monotonic() - started
    last = summary(run)
    if as_json:
        print(json.dumps({"run": str(out), **last, "seconds": seconds}))
        return
    ended = run.finished["reason"] if run.finished else "not finished"
    print(f"{run.task.symbol}: step {last['step']:,}, {ended}, {seconds:.1f} s")
    print(f"  loss      train {last['train_loss']:.3g}  test {last['test_loss']:.3g}")
    print(f"  accuracy  train {last['train_accuracy']:.4f}  test {last['test_accuracy']:.4f}")
    if run.task.noisy and run.steps:
        from ..measures import measured
        from ..training import OTHER

        train_share, test_share = last["train_clean_accuracy"], last["test_clean_accuracy"]
        print(f"  against right answers: train {train_share:.4f}  test {test_share:.4f}")
        if "corrupted_accuracy" in last:
            label, right = last["corrupted_accuracy"], last["corrupted_clean_accuracy"]
            print(
                f"  of corrupted training examples {label:.4f} give the label, {right:.4f} the right answer"
            )
        accuracy, entropy = (
            float(measured(f"noise.bayes_{name}", run.view(-1)).sel(part="test"))
            for name in ("accuracy", "loss")
        )
        other = run.config.training.loss in OTHER
        loss = "" if other else f", cross-entropy {entropy:.4f} nats"
        print(f"  Bayes, test labels: accuracy {accuracy:.4f}{loss}")
    for untrained in run.task.untrained(run.split):
        print(f"  {untrained}")
    _say_if_plain(run)
    print(f"  {len(run.steps)} snapshots in {place(folder)}\nNext: grokinterp analyze {out}")


def _foretell(config: TrainConfig, seeds: Sequence[int], start: str | None, out: Path, as_json: bool) -> None:
    """Prints a configuration and what training with it would come to, and writes nothing."""
    from ..runs.outlook import outlook
    from ..runs.seeds import start_of
    from ..shown import duration

    if seeds:
        config = config.changed(seed=seeds[0])
        start = None if start is None else str(start_of(start, seeds[0]))
    found, task = outlook(config, start=start, out=out), config.make_task()
    if as_json:
        values = {"config": config.model_dump(mode="json"), **found.to_dict(), "seeds": len(seeds) or 1}
        print(json.dumps(values))
        return
    if found.train is None:
        data = f"{config.training.batch_size:,} fresh {task.examples_are} for every update"
    else:
        data = f"{found.train:,} {task.examples_are} to train on"
    space = size(found.snapshots * found.snapshot_bytes)
    said = [
        f"{task.symbol}: {data}, {found.test:,} to test on",
        f"{found.weights:,} weights",
        f"{found.snapshots:,} scheduled snapshots of {size(found.snapshot_bytes)}, {space}; more at events",
        "not known how long it takes, as no step could be measured",
    ]
    if not math.isnan(found.seconds):
        early = ", unless it stops before" if config.training.stop_when else ""
        many = f", of each of {len(seeds):,} seeds" if seeds else ""
        said[-1] = (
            f"about {duration(found.seconds)} for {found.steps:,} steps{early}{many}: an estimate, from "
            f"{found.measured} steps measured just now"
        )
    print(config.to_toml())
    for line in [*said, "nothing was written"]:
        print(f"# {line}")


def _say_if_plain(run: Run) -> None:
    """That a network was trained in the slowest way, and which would be trained in another."""
    from ..training import is_plain

    if run.config.model.drops:
        print("  by the plain forward, which is slower: with dropout no two examples have anything in common")
    elif (which := run.config.model.folds_where) and is_plain(run.config, run.task):
        print(f"  by the plain forward, which is slower: {which}")


def _train_seeds(config: TrainConfig, seeds: Sequence[int], out: Path, as_json: bool, **options: Any) -> None:
    """Trains a configuration with each of the seeds, and prints one row for each."""
    from ..errors import SomeFailed
    from ..runs import train_many
    from ..runs.seeds import outcomes

    started, failures = time.monotonic(), {}
    try:
        train_many(config, out, seeds=seeds, **options)
    except SomeFailed as error:
        failures = error.failures
    seconds = time.monotonic() - started
    of_each = outcomes(out, seeds, failures)
    failed = [outcome for outcome in of_each if outcome.error is not None]
    rows = [outcome.to_dict() for outcome in of_each]
    if as_json:
        print(json.dumps({"runs": rows, "seconds": seconds}))
    else:
        table = []
        for row in rows:
            numbers = [brief(row.get(name)) for name in ("step", "train_accuracy", "test_accuracy")]
            ended = row.get("reason") or ("failed" if "error" in row else "")
            table.append((str(row["seed"]), *numbers, ended))
        print_table(["seed", "step", "train accuracy", "test accuracy", "ended"], table)
        print(f"{len(rows) - len(failed)} of {len(rows)} runs finished in {place(out)}, {seconds:.1f} s")
        if readable := [outcome.run for outcome in of_each if outcome.run is not None]:
            _say_if_plain(readable[0])
    for outcome in failed:
        print(f"grokinterp: {outcome.path.name}: {outcome.error}", file=sys.stderr)
    if failed:
        raise typer.Exit(GrokinterpError.exit_code)


@command(
    "import",
    "grokinterp import full_run_data.pth --out runs/nanda",
    "grokinterp import checkpoints/ --out runs/theirs",
)
def import_foreign(
    file: Annotated[
        list[Path],
        typer.Argument(
            help="A checkpoint by torch.save, pickle or safetensors; several of one run, or their folder.",
            show_default=False,
        ),
    ],
    out: Annotated[
        str,
        typer.Option(metavar="DIR", help="The run directory; made if it is not there.", show_default=False),
    ],
    layout: Annotated[
        str,
        typer.Option(
            help="A known layout (`grokinterp list layouts`), or a mapping file NAME.toml.",
            autocompletion=index.layouts,
        ),
    ] = "auto",
    task: Annotated[
        str | None,
        typer.Option(
            help="What it learned; by default the task that it does best.", autocompletion=index.tasks
        ),
    ] = None,
    overrides: TaskKeys = None,
    config_file: Annotated[
        Path | None, typer.Option(help="JSON settings of the network, where not beside the file.")
    ] = None,
    forensics: Annotated[
        bool, typer.Option(help="Look for the training set where the file does not name it.")
    ] = True,
    believe: Annotated[
        bool, typer.Option("--believe", help="Import it though it is at chance, or contradicts its own file.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Turn other people's weights into a run directory, and say what was assumed. Nothing in the file is
    executed."""
    from ..importing import import_checkpoint

    section = ({} if task is None else {"name": task}) | task_keys(overrides, "an import")
    run = import_checkpoint(
        file, out, layout, section, config_file=config_file, forensics=forensics, believe=believe
    )
    assert run.imported is not None
    if as_json:
        values = {"run": str(out), "task": run.config.task, "steps": run.steps, "imported": run.imported}
        print(json.dumps(values))
        return
    print(f"{run.task.symbol}: imported from {run.imported['file']} (layout {run.imported['layout']})")
    for sentence in run.imported["assumed"]:
        print(f"  {sentence}")
    print(f"  {run.steps_text(run.steps)} in {place(run.path)}\nNext: grokinterp analyze {out}")
