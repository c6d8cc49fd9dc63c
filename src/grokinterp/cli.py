"""The command line: each command parses, calls one function of the API, and prints.

Results go to stdout (as JSON with --json), progress and messages to stderr. Exit codes: 0 fine, 1 the work
failed, 2 wrong usage, 3 the run is locked by another process. Nothing heavy is imported before a command
needs it.
"""

from __future__ import annotations

import io
import json
import sys
import time
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .errors import DamagedFile, GrokinterpError, UsageError, nearest
from .version import __version__

if TYPE_CHECKING:
    from .runs import Run
    from .training import TrainConfig

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="How did a small network learn its task? Train it with snapshots and analyse the circuit that it "
    "learned.",
)
_debug = False


def _run_directory(text: str) -> Path:
    """A run directory as it was typed: an empty name, as of an unset variable, is not where one stands."""
    if not text.strip():
        remedy = "give the one that `grokinterp train --out` made"
        raise UsageError(f"{text!r} is no name of a run directory: {remedy}")
    return Path(text)


RunDir = Annotated[
    Path,
    typer.Argument(
        help="The directory that `grokinterp train --out` made.",
        metavar="RUN_DIR",
        parser=_run_directory,
        show_default=False,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Modulus = Annotated[int | None, typer.Option(help="The modulus: short for --set task.p=P.")]
TaskKeys = Annotated[
    list[str] | None, typer.Option("--set", help="A key of the task, task.KEY=VALUE; repeatable.")
]


def main() -> None:
    """The `grokinterp` command."""
    for stream in (sys.stdout, sys.stderr):
        # A terminal that knows no ∘ gets a question mark, not an error.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    warnings.formatwarning = lambda message, *rest, **more: f"grokinterp: {message}\n"
    try:
        app()
    except GrokinterpError as error:
        if _debug:
            raise
        print(f"grokinterp: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        sys.stderr.close()  # the reader of a pipe has left; there is nobody to tell
        sys.exit(1)
    except Exception as error:
        if _debug:
            raise
        line = f"{type(error).__name__}: {' '.join(str(error).split())}"
        print(f"grokinterp: {line}; `grokinterp --debug ...` shows where", file=sys.stderr)
        sys.exit(1)


def _print_version(wanted: bool | None) -> None:
    if wanted:
        print(f"grokinterp {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool | None,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version."),
    ] = None,
) -> None:
    global _debug
    _debug = debug


@app.command()
def train(
    task: Annotated[
        str, typer.Argument(help="What to learn; `grokinterp list tasks` shows all.", show_default=False)
    ],
    out: Annotated[
        str,
        typer.Option(
            metavar="DIR",
            help="The run directory, or with --seeds what holds them; made if need be.",
            show_default=False,
        ),
    ],
    preset: Annotated[
        str | None,
        typer.Option(
            help="A known recipe, by default that of the task (`grokinterp list tasks`), or with --from "
            "that of the source; `grokinterp list presets`."
        ),
    ] = None,
    config: Annotated[Path | None, typer.Option(help="A TOML file with the configuration.")] = None,
    p: Modulus = None,
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
    as_json: Json = False,
) -> None:
    """Train a network into a run directory, with snapshots; or several, that differ in their seed. The same
    command again goes on where it stopped."""
    from .runs import train as train_run
    from .runs.files import folder_named
    from .runs.sweep import seeds_of, shared_configuration, summary
    from .training import TrainConfig, doubt_of_default

    folder = folder_named(out)
    if preset is not None and config is not None:
        raise UsageError("--preset and --config were both given: choose one")
    changed: dict[str, Any] = {"task.name": task}
    short = {"task.p": p, "seed": seed, "threads": threads}
    changed |= {key: value for key, value in short.items() if value is not None}
    changed |= dict(_key_and_value(text) for text in overrides or [])
    several = [] if seeds is None else seeds_of(seeds)
    if several and "seed" in changed:
        raise UsageError("--seeds gives every run its seed: leave out --seed and --set seed")
    if config is not None:
        chosen = TrainConfig.from_toml(_text_of(config), **changed)
    elif preset is None and source is not None:
        chosen = shared_configuration(source, several, folder).changed(**changed)
    elif preset is not None:
        chosen = TrainConfig.preset(preset, **changed)
    else:
        chosen = TrainConfig.of_task(str(changed["task.name"]), **changed)
        chosen.make_task()  # one that cannot be made is an error, of which nothing is to be expected
        if (doubt := doubt_of_default(chosen)) is not None:
            print(doubt, file=sys.stderr)
    if several:
        workers = changed.get("threads")
        _train_seeds(chosen, several, folder, as_json, start=source, workers=workers, resume=resume)
        return
    started = time.monotonic()
    run = train_run(chosen, folder, start=source, resume=resume)
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
        from .measures import measured
        from .training import SQUARED

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
        squared = run.config.training.loss in SQUARED
        loss = "" if squared else f", cross-entropy {entropy:.4f} nats"
        print(f"  Bayes, test labels: accuracy {accuracy:.4f}{loss}")
    for untrained in run.task.untrained(run.split):
        print(f"  {untrained}")
    _say_if_plain(run)
    print(f"  {len(run.steps)} snapshots in {_place(folder)}\nNext: grokinterp analyze {out}")


def _place(path: Path) -> str:
    """A path as it was given, and where that is: of the directory where one stands, or behind a link."""
    is_elsewhere = not path.name or path.absolute() != path.resolve()
    return f"{path}, which is {path.resolve()}" if is_elsewhere else str(path)


def _say_if_plain(run: Run) -> None:
    """That a network was trained in the slowest way, and which would be trained in another."""
    from .training import is_plain

    if (which := run.config.model.folds_where) and is_plain(run.config, run.task):
        print(f"  by the plain forward, which is slower: {which}")


def _train_seeds(config: TrainConfig, seeds: Sequence[int], out: Path, as_json: bool, **options: Any) -> None:
    """Trains a configuration with each of the seeds, and prints one row for each."""
    from .errors import SomeFailed
    from .runs import train_many
    from .runs.sweep import outcomes

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
            numbers = [_brief(row.get(name)) for name in ("step", "train_accuracy", "test_accuracy")]
            ended = row.get("reason") or ("failed" if "error" in row else "")
            table.append((str(row["seed"]), *numbers, ended))
        _print_table(["seed", "step", "train accuracy", "test accuracy", "ended"], table)
        print(f"{len(rows) - len(failed)} of {len(rows)} runs finished in {_place(out)}, {seconds:.1f} s")
        if readable := [outcome.run for outcome in of_each if outcome.run is not None]:
            _say_if_plain(readable[0])
    for outcome in failed:
        print(f"grokinterp: {outcome.path.name}: {outcome.error}", file=sys.stderr)
    if failed:
        raise typer.Exit(GrokinterpError.exit_code)


def _brief(value: int | float | None) -> str:
    return "" if value is None else f"{value:,}" if isinstance(value, int) else f"{value:.4f}"


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or error
        raise UsageError(f"cannot read the configuration {path}: {why}") from None


def _key_and_value(text: str) -> tuple[str, Any]:
    """A --set argument: the value as TOML where it is some, else as a string; nothing after "=" unsets it."""
    from .training.config import toml_value

    key, equals, value = text.partition("=")
    if not equals or not key:
        raise UsageError(f"--set {text!r}: needs KEY=VALUE, such as --set training.lr=3e-3")
    return key, toml_value(value) if value.strip() else None


@app.command("import")
def import_foreign(
    file: Annotated[
        Path, typer.Argument(help="A checkpoint by torch.save, pickle or safetensors.", show_default=False)
    ],
    out: Annotated[
        str,
        typer.Option(metavar="DIR", help="The run directory; made if it is not there.", show_default=False),
    ],
    layout: Annotated[
        str, typer.Option(help="A known layout (`grokinterp list layouts`), or a mapping file NAME.toml.")
    ] = "auto",
    task: Annotated[
        str | None, typer.Option(help="What it learned; by default the task that it does best.")
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
    from .importing import import_checkpoint

    section = ({} if task is None else {"name": task}) | _task_keys(overrides, "an import")
    run = import_checkpoint(
        file, out, layout, section, config_file=config_file, forensics=forensics, believe=believe
    )
    assert run.imported is not None
    if as_json:
        values = {"run": str(out), "task": run.config.task, "steps": run.steps, "imported": run.imported}
        print(json.dumps(values))
        return
    print(f"{run.task.symbol}: imported from {file.name} (layout {run.imported['layout']})")
    for sentence in run.imported["assumed"]:
        print(f"  {sentence}")
    print(f"  {run.steps_text(run.steps)} in {_place(run.path)}\nNext: grokinterp analyze {out}")


def _task_keys(overrides: Iterable[str] | None, what: str) -> dict[str, Any]:
    """The keys of a task that --set gives."""
    keys = {}
    for key, value in map(_key_and_value, overrides or []):
        if not key.startswith("task."):
            raise UsageError(f"--set {key}: {what} takes keys of the task, such as task.p=113")
        keys[key.removeprefix("task.")] = value
    return keys


_NAMED = 128
"""Elements of a circle that are printed: of more the first ones and the last, and all of them with --json."""


@app.command()
def table(
    task: Annotated[
        str, typer.Argument(help="An operation; `grokinterp list tasks` shows all.", show_default=False)
    ],
    p: Modulus = None,
    overrides: TaskKeys = None,
    out: Annotated[
        str | None, typer.Option(metavar="FILE.html", help="Also draw the table, as a page.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Analyse the table of an operation before any training: value counts, symmetry, and what group it
    hides."""
    from .report import save_table, table_in_words
    from .runs.files import file_named
    from .tasks import Operation, make_task

    page = None if out is None else file_named(out, "table.html")
    parameters = {**({} if p is None else {"p": p}), **_task_keys(overrides, "a table")}
    made = Operation.of(make_task(task, **parameters))
    if page is not None:
        save_table(made, page)
    if as_json:
        what = {"name": made.name, **made.params, "symbol": made.symbol}
        print(json.dumps({"task": what, **made.facts.to_dict()}))
        return
    print(f"{made.symbol}: {made.p} operands.")
    for sentence in table_in_words(made):
        print(f"  {sentence}.")
    if (order := made.facts.isomorphism) is not None:
        rows = []
        for place, names in order.items():
            some = names if len(names) <= _NAMED else [*names[: _NAMED - 1], "…", names[-1]]
            rows.append((place, " ".join(some)))
        _print_table(["at the positions 0, 1, 2, ... of the circle", ""], rows)
    if page is not None:
        print(f"Page: {_place(page)}")


@app.command()
def analyze(
    run_dir: RunDir,
    step: Annotated[
        int, typer.Option(help="The snapshot to analyse; negative steps count from the end.")
    ] = -1,
    out: Annotated[
        str | None, typer.Option(metavar="DIR", help="Where the report goes; by default the run directory.")
    ] = None,
    measure: Annotated[
        list[str] | None, typer.Option(help="Only this measure; repeatable. `grokinterp list measures`.")
    ] = None,
    keys: Annotated[
        str | None, typer.Option(help="Key frequencies in place of those found, e.g. 14,35,41.")
    ] = None,
    replay: Annotated[
        bool, typer.Option(help="Look at the other snapshots too: phases, spikes, lives of frequencies.")
    ] = True,
    as_json: Json = False,
) -> None:
    """Analyse a run: writes report.html and report.json, and prints a summary. Of another step, other keys or
    some measures alone the files are named for what was asked, as report-step-100.html."""
    from .measures import MEASURES
    from .report import Report, report_stem
    from .report import analyze as analyze_run
    from .report.page import facts, not_measured, of_what
    from .report.words import summary
    from .runs import load_run

    chosen = None if keys is None else _whole_numbers("--keys", keys)
    run = load_run(run_dir)
    files = Report.places(run_dir if out is None else out, report_stem(run, step, measure, chosen), [run])
    report = analyze_run(run, step, measure, chosen, with_replay=replay)
    _save(report, files)
    if as_json:
        print(json.dumps(report.to_dict(), allow_nan=False))
        return
    a = report.analysis
    print(f"{a.run.task.symbol}, {of_what(a)}. {a.verdict}")
    _print_table(["", ""], facts(a))
    rows = [
        (name, summary(value), MEASURES[name].unit, MEASURES[name].ref) for name, value in a.values.items()
    ]
    _print_table(["measure", "value", "unit", "source"], rows)
    for reason, names in not_measured(a).items():
        print(f"not measured: {', '.join(names)}: {reason}")
    print(f"Report: {_place(files[0])}\nValues: {_place(files[1])}")


@app.command()
def replay(
    run_dir: RunDir,
    out: Annotated[
        str | None,
        typer.Option(
            metavar="FILE.html", help="The page; by default, or in a directory, it is called replay.html."
        ),
    ] = None,
    measure: Annotated[
        list[str] | None,
        typer.Option(
            help="A measure beside the usual ones: numbers become curves, numbers per frequency bars; "
            "others need --data. Repeatable."
        ),
    ] = None,
    step: Annotated[
        list[int] | None,
        typer.Option(help="Only this snapshot; negative steps count from the end. Repeatable."),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="Also write the numbers: FILE.nc (everything) or FILE.parquet (a table)."
        ),
    ] = None,
    watch: Annotated[
        bool,
        typer.Option(
            help="Write the page again with every new snapshot, until the run is finished or Ctrl-C."
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Replay a run: writes one offline page on which a slider moves through training, and every picture with
    it."""
    from .replay import final_keys, phases, skipped
    from .report import save_replay
    from .report.replay_page import replay_files
    from .runs import follow, load_run

    if watch and step:
        raise UsageError("--watch replays every snapshot: leave out --step")

    def saved(run: Run, reload: int = 0) -> Any:
        return save_replay(run, page, measure or (), step, data=next(iter(numbers), None), reload=reload)

    shown = load_run(run_dir)
    page, *numbers = replay_files(shown, run_dir / "replay.html" if out is None else out, data)
    if not watch:
        measured = saved(shown)
    else:
        measured = None
        try:
            for run in follow(run_dir):
                if not run.steps:
                    print(f"waiting for the first snapshot in {run_dir}", file=sys.stderr)
                    continue
                measured, shown = saved(run, reload=0 if run.ended else 5), run
                what = f"{len(run.steps)} snapshots up to {run.step_text(run.steps[-1])}, {_megabytes(page)}"
                now = "the run is finished" if run.finished else run.ended or "watching, Ctrl-C ends it"
                print(f"{page}: {what}; {now}", file=sys.stderr)
        except KeyboardInterrupt:
            print("stopped", file=sys.stderr)
            if measured is None:
                return
            measured = saved(shown)  # once more, as a page that does not load itself again
    training_phases = phases(measured, shown.history) if all(map(shown.step_known, shown.steps)) else None
    missing = skipped(measured)
    steps, keys = measured["step"].values.tolist(), final_keys(measured)
    if as_json:
        files = {"page": str(page), "bytes": page.stat().st_size, "data": None if data is None else str(data)}
        print(
            json.dumps(
                {
                    **files,
                    "steps": steps,
                    "final_keys": keys,
                    "training": training_phases and training_phases.to_dict(),
                    "skipped": missing,
                }
            )
        )
        return
    told_in_words = (
        f"{measured.attrs['task']}: {shown.steps_text(steps)}.",
        shown.divergence,
        training_phases.sentence if training_phases else "",
    )
    print(" ".join(filter(None, told_in_words)))
    if "final_keys" in measured.attrs:
        print(f"  key frequencies of the last: {' '.join(map(str, keys)) or 'none'}")
    for reason in dict.fromkeys(missing.values()):
        print(
            f"  not measured, as {reason}: {', '.join(name for name in missing if missing[name] == reason)}"
        )
    for what, file in zip(("Page", "Data"), (page, *numbers), strict=False):
        print(f"{what}: {_place(file)} ({_megabytes(file)})")


def _megabytes(path: Path) -> str:
    return f"{path.stat().st_size / 1e6:.1f} MB"


def _whole_numbers(option: str, text: str) -> list[int]:
    try:
        return [int(word) for word in text.replace(",", " ").split()]
    except ValueError:
        raise UsageError(f"{option} {text!r}: needs whole numbers, such as {option} 14,35,41") from None


@app.command()
def compare(
    run_dirs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN...",
            help="Run directories; one that holds several means all of them.",
            parser=_run_directory,
            show_default=False,
        ),
    ],
    out: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="Also write compare.html and compare.json into this directory."),
    ] = None,
    log: Annotated[bool, typer.Option("--log", help="Draw steps on a log axis at first.")] = False,
    as_json: Json = False,
) -> None:
    """Compare runs: steps to 99 %, grokking delay, spikes, and whether starting from a snapshot helped. Those
    that ended before are censored, not left out."""
    from .report import Comparison
    from .report import compare as compare_runs
    from .report.compare import groups, opened, rows, shared

    runs = list(opened(run_dirs))
    files = None if out is None else Comparison.places(out, "compare", runs)
    comparison = compare_runs(runs, log_x=log)
    if files is not None:
        _save(comparison, files)
    if as_json:
        print(json.dumps(comparison.to_dict(), allow_nan=False))
        return
    for name, text in shared(comparison.compared):
        print(f"all: {name} {text}")
    _print_table(*rows(comparison.compared, brief=True), folded=False)
    for names, train_count, test_count, train_median, test_median in groups(comparison.compared):
        of_train = f"train {train_median} ({train_count} learned)"
        print(f"median steps of {names}: {of_train}, test {test_median} ({test_count} learned)")
    for each in comparison.compared.runs:
        if each.transfer is not None:
            print(f"{each.name}, started from {each.start}: {each.transfer.sentence}")
    if files is not None:
        print(f"Page: {_place(files[0])}\nValues: {_place(files[1])}")


@app.command("list")
def list_known(
    what: Annotated[str, typer.Argument(help="tasks, presets, measures or layouts", show_default=False)],
    as_json: Json = False,
) -> None:
    """List the known tasks, presets, measures or layouts."""
    rows: list[dict[str, str]] = []
    if what == "tasks":
        from .tasks import TASKS, task_parameters
        from .training.presets import DEFAULTS, UNTUNED

        for name, make in TASKS.items():
            names, recipe = ", ".join(task_parameters(name).model_fields), str(DEFAULTS.get(name, UNTUNED))
            doc = _in_short(make.__doc__)
            rows.append({"task": name, "parameters": names, "learns": doc, "recipe": recipe})
    elif what == "presets":
        from .training import PRESETS

        rows = [{"preset": name, "recipe": preset["doc"]} for name, preset in PRESETS.items()]
    elif what == "measures":
        from .measures import MEASURES

        for m in MEASURES.values():
            unit = "; ".join(filter(None, (m.unit, m.in_gauge)))
            rows.append({"measure": m.name, "unit": unit, "is": _in_short(m.doc), "source": m.ref})
    elif what == "layouts":
        from .importing.mapping import built_in

        rows = [
            {"layout": name, "tokens": " or ".join(layout.tokens), "is": layout.doc}
            for name, layout in built_in().items()
        ]
    else:
        known = nearest(what, ["tasks", "presets", "measures", "layouts"])
        raise UsageError(f"there is no list of {what!r}{known}")
    if as_json:
        print(json.dumps(rows))
    else:
        _print_table(list(rows[0]), [tuple(row.values()) for row in rows])


def _in_short(text: str | None) -> str:
    """The first paragraph of a docstring, as one line."""
    return " ".join((text or "").strip().split("\n\n")[0].split())


@app.command()
def verify(run_dir: RunDir, as_json: Json = False) -> None:
    """Check every file of a run against its recorded hash."""
    from .runs import load_run

    run = load_run(run_dir)
    checked = list(run.verify())
    damaged = {name: problem for name, problem in checked if problem is not None}
    if as_json:
        divergence = {"diverged": run.diverged} if run.diverged else {}
        print(json.dumps({"files": len(checked), "damaged": damaged, **divergence}))
    elif not damaged:
        print(f"{len(checked)} files, all as they were written")
        if run.diverged:
            print(run.divergence)
    if damaged:
        problems = " | ".join(damaged.values())
        raise DamagedFile(f"{len(damaged)} of {len(checked)} files are damaged: {problems}")


def _save(page: Any, files: tuple[Path, Path]) -> None:
    """Writes a page and its values."""
    from rich.console import Console

    with Console(stderr=True).status("drawing"):  # which takes seconds; nothing where that is no terminal
        page.save_json(files[1])
        page.save_html(files[0])


def _print_table(header: Sequence[str], rows: Iterable[Sequence[str]], folded: bool = True) -> None:
    """Columns on stdout, by default folded to the terminal's width; without a header where it is empty."""
    from rich.console import Console
    from rich.markup import escape
    from rich.measure import Measurement
    from rich.table import Table

    table = Table(box=None, pad_edge=False, show_header=any(header))
    for name in header:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*(escape(cell) for cell in row))
    console = Console()
    if not folded:
        widest = Measurement.get(console, console.options.update(max_width=10_000), table).maximum
        console.width = max(console.width, widest)
    console.print(table)
