"""What the rows of all rooms are made of."""

from __future__ import annotations

import inspect
import itertools
import re
import shlex
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from unittest import mock

import grokinterp as gi
from conftest import tiny
from grokinterp import controls


class World:
    """What mistakes are made with: a finished run, networks, new directories, the command line.

    Attributes:
        here: an empty directory of this room, where commands are run.
        said: what the last command printed.
    """

    def __init__(self, here: Path, command: Callable[..., tuple[int, str, str]]) -> None:
        self.here, self._command, self._numbers, self.said = here, command, itertools.count(), ""

    def clear(self) -> None:
        """Forgets what was said."""
        self.said = ""

    def new(self, name: str = "") -> Path:
        """A path at which there is nothing."""
        return self.here / f"new_{next(self._numbers)}{name}"

    def file(self, text: str | bytes, name: str = ".txt") -> Path:
        """A new file with something in it."""
        path = self.new(name)
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    def cli(self, command: str, *words: object) -> str:
        """Runs a command, `grokinterp` left out; the words stand where it has {}.

        Raises:
            GrokinterpError: it ended otherwise than well, with what it said.
        """
        typed = shlex.split(command.format(*(shlex.quote(str(word)) for word in words)))
        code, out, err = self._command(*typed)
        self.said = " ".join((out + err).split())
        if code != 0:
            raise gi.GrokinterpError(self.said)
        return self.said

    def train(self, steps: int = 2, **overrides: Any) -> gi.Run:
        """A run of a few steps, in a new directory."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return gi.train(self.config(steps, **overrides), self.new(), progress=False)

    def config(self, steps: int = 2, **overrides: Any) -> gi.TrainConfig:
        """A configuration that trains in no time."""
        return tiny(**{"training.steps": steps, **overrides})

    @cached_property
    def run(self) -> gi.Run:
        """A finished run of 20 steps, with snapshots at 0, 10 and 20."""
        return self.train(20)

    @cached_property
    def view(self) -> gi.View:
        """Its last snapshot."""
        return self.run.view(-1)

    @cached_property
    def clock(self) -> gi.View:
        """A network that adds mod 13, without a mistake."""
        return controls.clock(13, (2, 5))


Follow = Callable[[World, "re.Match[str]"], Any]


@dataclass(frozen=True)
class Mistake:
    """A mistake that a message answers with a remedy.

    Attributes:
        name: what is done wrong.
        make: does it; the message is that of the error, or what a command says.
        says: the remedy, as a regular expression that finds it in the message.
        follow: does what it says, once for each thing that it offers; given what `says` found.
    """

    name: str
    make: Callable[[World], Any]
    says: str
    follow: tuple[Follow, ...]


def mistake(name: str, make: Callable[[World], Any], says: str, *follow: Follow) -> Mistake:
    """A row of a table."""
    assert follow, f"{name}: nothing is followed"
    return Mistake(name, make, says, follow)


def bare(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function whose annotations nobody checks before it does."""
    return inspect.unwrap(function)


def with_memory(room: str, free: float, do: Callable[[], Any]) -> Any:
    """Does something where a module of the package finds so many bytes free."""
    with mock.patch(f"grokinterp.{room}.free_memory", return_value=free):
        return do()
