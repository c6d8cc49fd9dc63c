"""The command that lists what has a name."""

from __future__ import annotations

import difflib
import json
import sys
from typing import Annotated

import typer

from ..errors import UsageError, nearest
from . import index
from .common import Json, With, command, load, print_table

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


@command("list", "grokinterp list measures restricted", "grokinterp list presets quick")
def list_known(
    what: Annotated[
        str,
        typer.Argument(
            metavar="WHAT",
            help="tasks, presets, measures or layouts",
            show_default=False,
            autocompletion=index.kinds,
        ),
    ],
    pattern: Annotated[
        str | None,
        typer.Argument(
            metavar="PATTERN",
            help="Only those that mention this, in their name, definition or source; of presets the name of "
            "one: its configuration, as TOML for `train --config`.",
            show_default=False,
            autocompletion=index.known,
        ),
    ] = None,
    own: With = None,
    as_json: Json = False,
) -> None:
    """List the known tasks, presets, measures or layouts: all, or those that a word finds."""
    if what not in index.KINDS:
        raise UsageError(f"there is no list of {what!r}{nearest(what, index.KINDS)}")
    load(own)
    if what == "presets" and pattern in index.index()["configurations"]:
        configuration = index.index()["configurations"][pattern]
        print(json.dumps(tomllib.loads(configuration)) if as_json else configuration.rstrip())
        return
    rows = index.gathered()[what] if own else index.index()[what]
    if pattern is not None:
        rows = [row for row in rows if any(pattern.lower() in text.lower() for text in row.values())]
        if not rows:
            nothing = f"no {what.removesuffix('s')} mentions {pattern!r}"
            raise UsageError(f"{nothing}{_nearest_name(pattern, what)}")
    if as_json:
        print(json.dumps(rows))
    else:
        print_table(list(rows[0]), [tuple(row.values()) for row in rows])


def _nearest_name(pattern: str, what: str) -> str:
    """The name that is nearest to a word, whole or in one of its parts, as what it may have meant; where none
    is near, how many there are."""

    def alike(name: str) -> float:
        parts = [name, *name.replace("_", ".").split(".")]
        return max(difflib.SequenceMatcher(None, pattern.lower(), part.lower()).ratio() for part in parts)

    nearest_name = max(names := index.names(what), key=alike)
    if alike(nearest_name) < _ALIKE:
        return f"; `grokinterp list {what}` has the {len(names)} that there are"
    return f"; the nearest name is {nearest_name!r}"


_ALIKE = 0.6
"""From which names are alike, 1 being the same."""
