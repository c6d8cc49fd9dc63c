"""What the commands share: how one is made, their options, and how they print."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from ..errors import UsageError
from ..shown import size as size
from . import index

if TYPE_CHECKING:
    from ..training import TrainConfig

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain text, which can be copied, and takes no time
    context_settings={"help_option_names": ["-h", "--help"]},
)
EXAMPLES: dict[str, tuple[str, ...]] = {}
"""The examples that the help of each command opens with, by its name; "" is `grokinterp` itself."""
Command = TypeVar("Command", bound=Callable[..., None])


def command(name: str, *examples: str) -> Callable[[Command], Command]:
    """Registers a command whose help opens with these examples, each as one would type it."""

    def register(function: Command) -> Command:
        EXAMPLES[name] = examples
        doc = inspect.cleandoc(function.__doc__ or "")
        first = " ".join(doc.split(". ")[0].split()).rstrip(".") + "."
        app.command(name, help=opening_with(examples, doc), short_help=first)(function)
        return function

    return register


def opening_with(examples: Iterable[str], text: str) -> str:
    """A help text behind examples, of which each stays one line."""
    return "\n".join(["\b", *examples]) + f"\n\n{text}"


def run_directory(text: str) -> Path:
    """A run directory as it was typed: an empty name, as of an unset variable, is not where one stands."""
    if not text.strip():
        remedy = "give the one that `grokinterp train --out` made"
        raise UsageError(f"{text!r} is no name of a run directory: {remedy}")
    if text.startswith("hf://"):
        raise UsageError(f"{text} lies on the hub: grokinterp pull {text} --out DIR fetches it")
    return Path(text)


RunDir = Annotated[
    Path,
    typer.Argument(
        help="The directory that `grokinterp train --out` made.",
        metavar="RUN_DIR",
        parser=run_directory,
        show_default=False,
        autocompletion=index.runs,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Modulus = Annotated[int | None, typer.Option(help="The modulus: short for --set task.p=P.")]
TaskKeys = Annotated[
    list[str] | None, typer.Option("--set", help="A key of the task, task.KEY=VALUE; repeatable.")
]


With = Annotated[
    list[str] | None,
    typer.Option(
        "--with",
        metavar="FILE.py",
        help="Run this file first, which registers measures (or claims, tasks, panels) of your own. "
        "Repeatable.",
    ),
]


def load(files: Iterable[str] | None) -> None:
    """Runs files that register what is a user's own."""
    from ..registry import load_file

    for file in files or ():
        load_file(file)


def key_and_value(text: str, option: str = "--set", example: str = "training.lr=3e-3") -> tuple[str, Any]:
    """An argument of --set, or of an option like it: the value as TOML where it is some, else as a string;
    nothing after "=" unsets it."""
    from ..training.config import toml_value

    key, equals, value = text.partition("=")
    if not equals or not key:
        raise UsageError(f"{option} {text!r}: needs KEY=VALUE, such as {option} {example}")
    return key, toml_value(value) if value.strip() else None


def configured(task: str, preset: str | None, config: Path | None, changed: Mapping[str, Any]) -> TrainConfig:
    """The configuration that a command asks for: of a file, of a preset, or the default one of the task, with
    what is changed of it. A doubt whether the default one is enough goes to stderr."""
    from ..frozen import text_of
    from ..training import TrainConfig, doubt_of_default

    changed = {"task.name": task, **changed}
    if config is not None:
        return TrainConfig.from_toml(text_of(config, "configuration"), **changed)
    if preset is not None:
        return TrainConfig.preset(preset, **changed)
    chosen = TrainConfig.of_task(str(changed["task.name"]), **changed)
    chosen.make_task()  # one that cannot be made is an error, of which nothing is to be expected
    if (doubt := doubt_of_default(chosen)) is not None:
        print(doubt, file=sys.stderr)
    return chosen


def refuse_both(preset: str | None, config: Path | None) -> None:
    """Refuses two recipes at once."""
    if preset is not None and config is not None:
        raise UsageError("--preset and --config were both given: choose one")


def task_keys(overrides: Iterable[str] | None, what: str) -> dict[str, Any]:
    """The keys of a task that --set gives."""
    keys = {}
    for key, value in map(key_and_value, overrides or []):
        if not key.startswith("task."):
            raise UsageError(f"--set {key}: {what} takes keys of the task, such as task.p=113")
        keys[key.removeprefix("task.")] = value
    return keys


def place(path: Path) -> str:
    """A path as it was given, and where that is: of the directory where one stands, or behind a link."""
    is_elsewhere = not path.name or path.absolute() != path.resolve()
    return f"{path}, which is {path.resolve()}" if is_elsewhere else str(path)


def brief(value: int | float | None) -> str:
    """A number as a table has it."""
    return "" if value is None else f"{value:,}" if isinstance(value, int) else f"{value:.4f}"


_LEAST = 60
"""Columns that the rest of a row needs beside its name."""


def print_table(header: Sequence[str], rows: Iterable[Sequence[str]], folded: bool = True) -> None:
    """Columns on stdout, without a header where it is empty. A name, which is the first column, is never
    broken: on a terminal the other columns are folded, or stand below the name where there is no room beside
    it. Where stdout is no terminal, or it is not `folded`, a row is a line, however long."""
    rows, has_header = [list(row) for row in rows], any(header)
    if not folded or not (sys.stdout.isatty() or os.environ.get("FORCE_COLOR")):
        lines = [list(header), *rows] if has_header else rows
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        for line in lines:
            print("  ".join(f"{cell:{width}}" for cell, width in zip(line, widths, strict=True)).rstrip())
        return
    if columns() < max((len(row[0]) for row in rows), default=0) + _LEAST:
        for name, value, *others in rows:
            beside = f"{name}  {value}".rstrip()
            print(name if len(beside) > columns() else beside)
            for text in others if len(beside) <= columns() else (value, *others):
                print_wrapped(text, before=" " * 4)
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=has_header)
    for i, name in enumerate(header):
        table.add_column(name, overflow="fold", no_wrap=i == 0)
    for row in rows:
        table.add_row(*map(escape, row))
    Console(width=columns()).print(table)


def print_facts(rows: Iterable[tuple[str, str]]) -> None:
    """Texts behind their names, folded beside them to the width of the terminal, or to 80 columns."""
    rows = list(rows)
    widest = max((len(name) for name, _ in rows), default=0)
    for name, text in rows:
        print_wrapped(text, before=f"{name:{widest}}  ")


def print_wrapped(text: str, *, before: str = "") -> None:
    """A text behind another, folded to the width of the terminal, or to 80 columns."""
    import textwrap

    room, behind = max(columns(), len(before) + 20), " " * len(before)
    wrapped = textwrap.TextWrapper(
        room, initial_indent=before, subsequent_indent=behind, break_on_hyphens=False, break_long_words=False
    )
    # A number keeps its sign: a space that does not break is none to textwrap.
    print(wrapped.fill(text.replace(" %", "\xa0%")).replace("\xa0", " ") or before)


def columns() -> int:
    """The width of the terminal, or 80."""
    import shutil

    return shutil.get_terminal_size((80, 24)).columns


def save(page: Any, files: tuple[Path, Path]) -> None:
    """Writes a page and its values."""
    from rich.console import Console

    with Console(stderr=True).status("drawing"):  # which takes seconds; nothing where that is no terminal
        page.save_json(files[1])
        page.save_html(files[0])
