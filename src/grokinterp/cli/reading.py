"""The commands that read: a table before any training, and runs."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import DamagedFile, UsageError
from ..runs.files import folder_named
from . import index
from .common import (
    Json,
    Modulus,
    RunDir,
    TaskKeys,
    With,
    command,
    load,
    place,
    print_facts,
    print_table,
    print_wrapped,
    run_directory,
    save,
    size,
    task_keys,
)  # fmt: skip
from .kept import LastTime

if TYPE_CHECKING:
    from ..replay import Circuits, RunsBy
    from ..runs import Run


_NAMED = 128
"""Elements of a circle that are printed: of more the first ones and the last, and all of them with --json."""


@command(
    "table",
    "grokinterp table modular_subtraction --p 97",
    "grokinterp table group_composition --set task.group=S3 --out table.html",
)
def table(
    task: Annotated[
        str,
        typer.Argument(
            help="An operation; `grokinterp list tasks` shows all.",
            show_default=False,
            autocompletion=index.tasks,
        ),
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
    from ..report import save_table, table_in_words
    from ..report.offline import page_named
    from ..tasks import Operation, make_task

    page = None if out is None else page_named(out, "table.html")
    parameters = {**({} if p is None else {"p": p}), **task_keys(overrides, "a table")}
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
        for operand, names in order.items():
            some = names if len(names) <= _NAMED else [*names[: _NAMED - 1], "…", names[-1]]
            rows.append((operand, " ".join(some)))
        print_table(["at the positions 0, 1, 2, ... of the circle", ""], rows)
    if page is not None:
        print(f"Page: {place(page)}")


@command("analyze", "grokinterp analyze runs/add53", "grokinterp analyze runs/add53 --step 0 --all")
def analyze(
    run_dir: RunDir,
    step: Annotated[
        int, typer.Option(help="The snapshot to analyse; negative steps count from the end.")
    ] = -1,
    out: Annotated[
        str | None, typer.Option(metavar="DIR", help="Where the report goes; by default the run directory.")
    ] = None,
    measure: Annotated[
        list[str] | None,
        typer.Option(
            help="Only this measure; repeatable. `grokinterp list measures`.", autocompletion=index.measures
        ),
    ] = None,
    keys: Annotated[
        str | None, typer.Option(help="Key frequencies in place of those found, e.g. 14,35,41.")
    ] = None,
    replay: Annotated[
        bool, typer.Option(help="Look at the other snapshots too: phases, spikes, lives of frequencies.")
    ] = True,
    own: With = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Print every measure, not the weightiest facts alone.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Analyse a run: writes report.html and report.json, and prints what was found. Of another step,
    other keys or some measures alone the files are named for what was asked, as report-step-100.html."""
    folder = run_dir if out is None else folder_named(out)
    asked = {"step": step, "measures": measure, "keys": keys, "replay": replay}
    load(own)
    # What a file of the user's does may depend on others.
    last_time = None if own else LastTime(run_dir, {**asked, "folder": os.path.realpath(folder)})
    said = last_time.said() if last_time is not None else None
    if said is None:
        said = _analysed(last_time, run_dir, folder, step, measure, keys, replay)
    page, values = (folder / f"{said['stem']}.{ending}" for ending in ("html", "json"))
    if as_json:
        print(json.dumps(json.loads(values.read_text(encoding="utf-8")), allow_nan=False))
        return
    for sentence in said["head"]:
        print_wrapped(sentence)
    print()
    if everything:
        print_facts(said["facts"])
        print()
        print_table(["measure", "value", "unit", "source"], said["measures"])
        for reason, names in said["not_measured"].items():
            print(f"not measured: {', '.join(names)}: {reason}")
    else:
        print_facts(_weightiest(said["facts"]))
        if said["thinning"]:
            print_wrapped(said["thinning"])
    print()
    print_facts(said["claims"])
    print()
    print(f"Report: {place(page)}\nValues: {place(values)}")
    if not everything:
        print_wrapped(f"{len(said['measures'])} measures were taken; --all prints them")


def _analysed(
    last_time: LastTime | None,
    run_dir: Path,
    folder: Path,
    step: int,
    measure: list[str] | None,
    keys: str | None,
    replay: bool,
) -> dict[str, Any]:
    """Analyses a run and writes the report; what is printed of it, as plain values."""
    from ..measures import MEASURES
    from ..report import Report, report_stem
    from ..report import analyze as analyze_run
    from ..report.page import facts, not_measured, of_what
    from ..report.words import summary
    from ..runs import load_run

    chosen = None if keys is None else _whole_numbers("--keys", keys)
    run = load_run(run_dir)
    stem = report_stem(run, step, measure, chosen)
    files = Report.places(folder, stem, [run])
    report = analyze_run(run, step, measure, chosen, with_replay=replay)
    save(report, files)
    a = report.analysis
    said = {
        "stem": stem,
        "head": [f"{a.run.task.symbol}, {of_what(a)}", a.verdict, a.found],
        "facts": facts(a),
        "claims": [(claim.verdict, claim.claim) for claim in a.claims],
        "measures": [
            (name, summary(value), MEASURES[name].unit, MEASURES[name].ref)
            for name, value in a.values.items()
        ],
        "not_measured": not_measured(a),
        "thinning": run.thinning if run.thinned else "",
    }
    if last_time is not None:
        snapshots = dict(zip(run.steps, run.snapshot_files, strict=True))
        last_time.keep(said, [*files, run.path / snapshots[a.step]])
    return said


_ELSEWHERE = ("Claims", "Multiples")
"""Facts that are printed below, or say more of another."""
_LIGHT = ("Slingshots", "Leaps", "How sure", "Plateaus", "Training", "Never trained", "Loss")
"""Facts that are left out where there are more than fit, the lightest first."""
_MOST_FACTS = 8
_SENTENCE = re.compile(r"(?<!\bal)\. ")
"""Where one ends; "et al." is none."""


def _weightiest(facts: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """At most eight of the facts, each in its first sentence; what never happened is none."""
    facts = [(name, text) for name, text in facts if name not in _ELSEWHERE and not text.startswith("No ")]
    for light in _LIGHT:
        if len(facts) > _MOST_FACTS:
            facts = [(name, text) for name, text in facts if name != light]
    return [(name, _SENTENCE.split(text)[0].rstrip(".")) for name, text in facts[:_MOST_FACTS]]


@command(
    "replay",
    "grokinterp replay runs/add53",
    "grokinterp replay runs/add53 --data add53.nc --measure ipr.real",
)
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
            "others need --data. Repeatable.",
            autocompletion=index.measures,
        ),
    ] = None,
    step: Annotated[
        list[int] | None,
        typer.Option(help="Only this snapshot; negative steps count from the end. Repeatable."),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Also write the numbers: FILE.nc (everything), FILE.parquet (a row a step) or FILE.csv (a "
            "row a number).",
        ),
    ] = None,
    own: With = None,
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
    from ..replay import final_keys, phases, skipped
    from ..report import save_replay
    from ..report.replay_page import replay_files
    from ..runs import follow, load_run

    load(own)
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
                what = f"{len(run.steps)} snapshots up to {run.step_text(run.steps[-1])}, {_size(page)}"
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
        shown.thinning,
    )
    print(" ".join(filter(None, told_in_words)))
    if "final_keys" in measured.attrs:
        print(f"  key frequencies of the last: {' '.join(map(str, keys)) or 'none'}")
    for reason in dict.fromkeys(missing.values()):
        print(
            f"  not measured, as {reason}: {', '.join(name for name in missing if missing[name] == reason)}"
        )
    for what, file in zip(("Page", "Data"), (page, *numbers), strict=False):
        print(f"{what}: {place(file)} ({_size(file)})")


def _size(file: Path) -> str:
    return size(file.stat().st_size)


def _whole_numbers(option: str, text: str) -> list[int]:
    try:
        return [int(word) for word in text.replace(",", " ").split()]
    except ValueError:
        raise UsageError(f"{option} {text!r}: needs whole numbers, such as {option} 14,35,41") from None


@command(
    "compare", "grokinterp compare runs/add53 runs/sub97", "grokinterp compare runs/sweep --out runs/sweep"
)
def compare(
    run_dirs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN...",
            help="Run directories; one that holds several means all of them.",
            parser=run_directory,
            show_default=False,
            autocompletion=index.runs,
        ),
    ],
    out: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="Also write compare.html and compare.json into this directory."),
    ] = None,
    by: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY",
            help="Group the runs by a key of their configuration, such as training.weight_decay: what each "
            "group did, medians with intervals, tests between groups. Once or twice.",
        ),
    ] = None,
    circuits: Annotated[
        bool,
        typer.Option(
            "--circuits",
            help="Say who decides: how alike the key frequencies, algorithms and neurons are of runs that "
            "share their split, their initial weights, or neither, against chance.",
        ),
    ] = False,
    log: Annotated[bool, typer.Option("--log", help="Draw steps on a log axis at first.")] = False,
    as_json: Json = False,
) -> None:
    """Compare runs: what each learned (key frequencies, algorithm, claims), in how many steps, and whether
    starting from a snapshot helped. Those that ended before are censored, not left out."""
    from ..report import Comparison
    from ..report import compare as compare_runs
    from ..report.compare import claims, headline, in_common, notes, of_groups, opened, rows, shared

    runs = list(opened(run_dirs))
    files = None if out is None else Comparison.places(out, "compare", runs)
    comparison = compare_runs(runs, by=by or (), log_x=log)
    if files is not None:
        save(comparison, files)
    if as_json:
        told = {"circuits": comparison.circuits.to_dict()} if circuits else {}
        print(json.dumps(comparison.to_dict() | told, allow_nan=False))
        return
    if comparison.by is not None or circuits:
        if comparison.by is not None:
            _print_groups(comparison.by, f"{headline(comparison.compared)}.")
        if circuits:
            _print_circuits(comparison.circuits)
        _print_places(files)
        return
    print_wrapped(f"{headline(comparison.compared)}.")
    for sentence in [*in_common(comparison), *notes(comparison)]:
        print_wrapped(sentence)
    for name, text in shared(comparison.compared):
        print(f"all: {name} {text}")
    print_table(*rows(comparison, brief=True), folded=False)
    for sentence in of_groups(comparison.compared):
        print(sentence)
    if found := claims(comparison):
        counts = [(claim, *(str(len(names)) for names in verdicts.values())) for claim, verdicts in found]
        print_table(("claim", "supported", "refuted", "not tested"), counts, folded=False)
    for each in comparison.compared.runs:
        if each.transfer is not None:
            print(f"{each.name}, started from {each.start}: {each.transfer.sentence}")
    _print_places(files)


def _print_places(files: tuple[Path, Path] | None) -> None:
    if files is not None:
        print(f"Page: {place(files[0])}\nValues: {place(files[1])}")


def _print_groups(by: RunsBy, headline: str) -> None:
    from ..report import grouped

    for sentence in (grouped.finding(by), headline):
        print_wrapped(sentence)
    print_table(*grouped.rows(by))
    for sentence in filter(None, (grouped.tested(by), *by.notes)):
        print_wrapped(sentence)


def _print_circuits(found: Circuits) -> None:
    from ..replay.circuits import RELATIONS

    def written(value: float | None) -> str:
        return "–" if value is None else f"{value:.3f}"

    header = ["alike, on average", "runs", *RELATIONS, "p of split", "p of seed"]
    rows = [
        [
            name,
            str(of.runs),
            *(written(of.mean[each]) for each in RELATIONS),
            *map(written, (of.p_split, of.p_seed)),
        ]
        for name, of in (
            ("key frequencies (Jaccard)", found.keys),
            ("algorithm", found.algorithm),
            ("neurons per frequency", found.neurons),
        )
    ]
    recurs = [written(found.recurs[each]) for each in RELATIONS]
    print_table(header, [*rows, ["a key recurs", str(found.keys.runs), *recurs, "–", "–"]])
    pairs = ", ".join(f"{found.keys.pairs[each]} of {each}" for each in RELATIONS)
    print_wrapped(f"Pairs of runs: {pairs}. p: of 2,000 permutations of the splits, or of the seeds.")
    if found.chance is not None:
        by_split = (
            "" if found.p_random is None else f"; pairs of one split against these: p = {found.p_random:.2g}"
        )
        print_wrapped(f"Random keys, as many for each: Jaccard index {found.chance:.3f}{by_split}.")


@command("verify", "grokinterp verify runs/add53", "grokinterp verify runs/add53 --json")
def verify(run_dir: RunDir, as_json: Json = False) -> None:
    """Check every file of a run against its recorded hash; of a sweep those of all its runs, and that what
    its sweep.json says is there."""
    from ..runs import Run, load_run
    from ..sweeps import Sweep, load_sweep

    is_sweep = (run_dir / "sweep.json").exists()
    checking = load_sweep(run_dir) if is_sweep else load_run(run_dir)
    checked = list(checking.verify())
    damaged = {name: problem for name, problem in checked if problem is not None}
    if as_json:
        diverged = checking.diverged if isinstance(checking, Run) else None
        divergence = {"diverged": diverged} if diverged else {}
        print(json.dumps({"files": len(checked), "damaged": damaged, **divergence}))
    elif not damaged:
        of = f" of {len(checking.runs)} runs" if isinstance(checking, Sweep) else ""
        print(f"{len(checked)} files{of}, all as they were written")
        if isinstance(checking, Run):
            for sentence in filter(None, (checking.divergence, checking.thinning)):
                print(sentence)
    if damaged:
        problems = " | ".join(damaged.values())
        raise DamagedFile(f"{len(damaged)} of {len(checked)} files are damaged: {problems}")
