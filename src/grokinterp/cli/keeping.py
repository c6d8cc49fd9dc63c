"""The commands for runs that lie about: `ls`, `show`, `thin`, `export`, `push` and `pull`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ..shown import in_words
from . import index
from .common import Json, RunDir, brief, command, place, print_facts, print_table, run_directory, size


@command("ls", "grokinterp ls runs", "grokinterp ls --json")
def list_runs(
    folder: Annotated[
        str,
        typer.Argument(
            metavar="[DIR]",
            help="Where to look; by default here.",
            show_default=False,
            autocompletion=index.runs,
        ),
    ] = ".",
    as_json: Json = False,
) -> None:
    """List the runs in a directory and below: task, steps, accuracy, how far each has come, size. One that is
    broken or being trained is a row too."""
    from ..runs.listing import listed
    from ..shown import duration
    from ..standing import in_a_word

    rows = listed(run_directory(folder))
    if as_json:
        print(json.dumps([row.to_dict() for row in rows]))
        return
    header = ("run", "task", "step", "snapshots", "train", "test", "verdict", "keys", "size", "")
    table = [
        (
            row.run,
            row.task or "",
            brief(row.step) + (f" of {brief(row.steps)}" if row.status in ("stopped", "training") else ""),
            brief(row.snapshots),
            *(brief(share) for share in (row.train_accuracy, row.test_accuracy)),
            "" if row.state in (None, "not known") else in_a_word(row.state),
            " ".join(map(str, row.keys or ())),
            size(row.bytes),
            row.status + ("" if row.seconds_left is None else f", at most {duration(row.seconds_left)} left"),
        )
        for row in rows
    ]
    print_table(header, table, folded=False)
    for row in rows:
        if row.status in ("broken", "training"):
            print(f"{row.run}: {row.why}")
    print(f"{len(rows)} run{'s' * (len(rows) > 1)}, {size(sum(row.bytes for row in rows))}")


@command("show", "grokinterp show runs/add53", "grokinterp show theirs.pth --json")
def show(
    path: Annotated[
        Path,
        typer.Argument(
            metavar="PATH",
            help="A run directory; or a checkpoint of somebody else's, or a folder of such.",
            parser=run_directory,
            show_default=False,
            autocompletion=index.runs,
        ),
    ],
    as_json: Json = False,
) -> None:
    """Show what is in a run or in somebody else's file, without analysing it: configuration, task, snapshots,
    sizes, losses, where it came from; of a file its keys and shapes, and what an import would take it for.
    Nothing in it is executed."""
    from ..runs.contents import contents_of_run, is_run

    if is_run(path):  # which takes no torch
        contents = contents_of_run(path)
    else:
        from ..importing import show as show_any

        contents = show_any(path)
    if as_json:
        print(json.dumps(contents.to_dict(), allow_nan=False))
        return
    print_facts((name, in_words(text)) for name, text in contents.rows)


@command(
    "thin",
    "grokinterp thin runs/add53 --keep every:10 --dry-run",
    "grokinterp thin runs/add53 --keep log",
)
def thin(
    run_dir: RunDir,
    keep: Annotated[
        str,
        typer.Option(
            metavar="RULE",
            help="What stays beside the last: every:10 (every tenth snapshot), log (20 evenly spread on a "
            "log axis of steps, or log:50), phases (those between which a phase begins or ends).",
            show_default=False,
        ),
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go; remove nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Remove snapshots of a run for good, and what was measured of them. The record says which; all that is
    left matches its hashes."""
    from ..replay import thin as thin_run
    from ..runs import load_run

    done = thin_run(load_run(run_dir), keep, dry_run=dry_run)
    if as_json:
        print(json.dumps({"run": str(run_dir), "dry_run": dry_run, **done.to_dict()}))
        return
    removed, stay = len(done.removed), len(done.kept)
    what = "would go" if dry_run else "are gone"
    gone = f"{removed} of {removed + stay} snapshots {what}, {size(done.bytes)}"
    print(gone if removed else "nothing to remove: that was kept before, or is all there is")
    print(f"  {stay} stay, at steps {' '.join(f'{step:,}' for step in done.kept)}")
    if done.goes_on:
        print("  It is not finished: when it goes on, snapshots are saved as its schedule says")
    if removed and dry_run:
        print("Nothing was removed: leave out --dry-run")


@command(
    "export",
    "grokinterp export runs/add53 --to transformer-lens --out exported/add53",
    "grokinterp export runs/add53@10 --to safetensors --out exported/step_10",
)
def export(
    run: Annotated[
        str,
        typer.Argument(
            metavar="RUN[@STEP]",
            help="A run directory; behind @ a step, negative ones counted from the end.",
            show_default=False,
            autocompletion=index.runs,
        ),
    ],
    to: Annotated[
        str,
        typer.Option(
            metavar="FORMAT",
            help="safetensors (the weights, and what they are of), transformer-lens (for TransformerLens 3 "
            "and the converter of 4), huggingface (a class of transformers, where one is exactly the same).",
            show_default=False,
            autocompletion=index.formats,
        ),
    ],
    out: Annotated[str, typer.Option(metavar="DIR", help="A new or an empty directory.", show_default=False)],
    as_json: Json = False,
) -> None:
    """Export a snapshot of a run as files that other tools load. Before anything is written, the network is
    loaded from them and its logits compared."""
    from ..runs import export as export_run

    run_directory(run)
    done = export_run(run, to, out)
    if as_json:
        print(json.dumps(done.to_dict()))
        return
    print(f"{', '.join(done.files)} in {place(done.path)}: step {done.step:,}")
    if done.compared:
        print(f"  the network in them has the logits of the run on {done.compared:,} examples")
    print(f"Load it:\n\n{done.loading.rstrip()}")


@command(
    "push",
    "grokinterp push runs/add53 user/add53",
    "grokinterp push runs/sweep/seed_0 user/sweep/seed_0 --private",
)
def push(
    run_dir: RunDir,
    repository: Annotated[
        str,
        typer.Argument(
            metavar="REPOSITORY",
            help="user/repository on the model hub, or with /folder behind it; made if it is not there.",
            show_default=False,
        ),
    ],
    private: Annotated[
        bool | None,
        typer.Option(
            "--private/--public", help="Of a repository that is made; by default as the hub does it."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Put a run on the model hub of Hugging Face: safetensors, JSON and JSON lines, with a model card made
    from its record. What else lies in its directory stays here."""
    from ..runs import push_to_hub

    done = push_to_hub(run_dir, repository, private=private)
    if as_json:
        print(json.dumps(done.to_dict()))
        return
    print(f"{len(done.files)} files in {done.url}")
    if done.left_out:
        print(f"  left out: {', '.join(done.left_out)}")
    print(f"Fetch it: grokinterp pull {done.place} --out DIR")


@command(
    "pull",
    "grokinterp pull hf://user/add53 --out runs/theirs",
    "grokinterp pull hf://user/sweep@v1/seed_0 --out runs/seed_0",
)
def pull(
    where: Annotated[
        str,
        typer.Argument(
            metavar="PLACE", help="hf://user/repository, with @revision or /folder.", show_default=False
        ),
    ],
    out: Annotated[
        str, typer.Option(metavar="DIR", help="The run directory; made if need be.", show_default=False)
    ],
    as_json: Json = False,
) -> None:
    """Fetch a run from the model hub, and check every file against its hash. Nothing that could be executed
    is fetched."""
    from ..runs import load_run, pull_from_hub

    run = load_run(pull_from_hub(where, out))
    if as_json:
        print(json.dumps({"run": str(out), "place": where, "steps": run.steps}))
        return
    print(f"{run.task.symbol}: {run.steps_text(run.steps)} in {place(run.path)}")
    print(f"Next: grokinterp analyze {out}")
