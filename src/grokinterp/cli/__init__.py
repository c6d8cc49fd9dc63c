"""The command line: each command parses, calls one function of the API, and prints.

Results go to stdout (as JSON with --json), progress and messages to stderr. Exit codes: 0 fine, 1 the work
failed, 2 wrong usage, 3 the run is locked by another process. Nothing heavy is imported before a command
needs it; `list`, --help and completion need nothing heavy at all (index.py).
"""

from __future__ import annotations

import io
import sys
import warnings
from typing import Annotated

import typer

from ..errors import GrokinterpError
from ..version import __version__
from .common import EXAMPLES, app, opening_with

_debug = False


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


EXAMPLES[""] = (
    "grokinterp train modular_addition --preset quick --out runs/add53",
    "grokinterp analyze runs/add53",
)


@app.callback(
    help=opening_with(
        EXAMPLES[""],
        "How did a small network learn its task? Train it with snapshots and analyse the circuit that it "
        "learned.",
    )
)
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool | None,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version."),
    ] = None,
) -> None:
    global _debug
    _debug = debug


# Each of these modules registers its commands, in the order of --help.
from . import training, sweeping, reading, keeping, lists  # noqa: E402  isort: skip
