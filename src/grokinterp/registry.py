"""What is known by name: tasks, measures, and whatever else a decorator registers.

A name is given once. Where a cell of a notebook or a file is run again, what it registers takes the place of
what it registered before.
"""

from __future__ import annotations

import functools
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, NoReturn, TypeVar

from .asked import got
from .errors import GrokinterpError, UsageError, nearest

T = TypeVar("T")
_PACKAGE = Path(__file__).parent.name
REGISTERED: list[str] = []
"""The names of what was registered, in that order."""
LOADED: list[str] = []
"""The files that `load_file` has run."""


_LISTED, _FEW = ("task", "preset", "measure"), 40
"""What `grokinterp list` lists, and how many of it are few enough to be named in an error."""


class Registry(dict[str, T]):
    """Things of one kind by their names, which stand under the key `at` of a configuration. An unknown name
    is an error that names the nearest."""

    def __init__(self, kind: str, error: type[GrokinterpError] = UsageError, at: str = "") -> None:
        super().__init__()
        self._kind, self._error, self._at = kind, error, f"{at}: " * bool(at)
        self._made_of: dict[str, object] = {}

    def __repr__(self) -> str:
        some = ", ".join(sorted(self)[:3])
        return f"<{len(self)} {self._kind}s by name: {some}{', ...' * (len(self) > 3)}>"

    def __getitem__(self, name: str) -> T:
        if not isinstance(name, str):
            raise self._error(f"{self._at}a {self._kind} is asked for by its name, got {got(name)}")
        return super().__getitem__(name)

    def __missing__(self, name: str) -> NoReturn:
        unknown = f"{self._at}unknown {self._kind} {got(name)}"
        if variants := [longer for longer in self if longer.startswith(f"{name}.")]:
            raise self._error(f"{unknown}; its variants are {', '.join(variants)}")
        known = nearest(name, self)
        if known.startswith("; did you mean") or len(self) < _FEW or self._kind not in _LISTED:
            raise self._error(f"{unknown}{known}")
        raise self._error(f"{unknown}; `grokinterp list {self._kind}s` has the {len(self)} that there are")

    def add(self, name: str, thing: T, made_of: object = None) -> None:
        """Registers a thing that is made of a function or class; by default it is one itself.

        Raises:
            ValueError: another one has this name, and is not of the same file or notebook.
        """
        made_of = thing if made_of is None else made_of
        if name in self and not may_replace(self._made_of.get(name), made_of):
            raise ValueError(f"two {self._kind}s are named {name!r}")
        self[name], self._made_of[name] = thing, made_of
        REGISTERED.append(name)


@dataclass(frozen=True)
class OfTasks:
    """What is said of one family of tasks, under a name. One of a narrower family takes the place of another
    of that name.

    Attributes:
        name: what it is called.
        of: the family, a class of tasks.
    """

    name: str
    of: type[Any]


Thing = TypeVar("Thing", bound=OfTasks)
Function = TypeVar("Function", bound=Callable[..., Any])


class OfFamilies(Generic[Thing]):
    """What is said of tasks, in the order in which it was registered: claims, sections, panels."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._things: list[Thing] = []
        self._made_of: list[object] = []

    def registering(self, made: Callable[[Any], Thing]) -> Callable[[Function], Function]:
        """A decorator that registers what is made of a function, and leaves the function as it is.

        Raises:
            ValueError: another thing of the same family has this name, and is not of the same file or
                notebook.
        """

        def register(function: Function) -> Function:
            thing = made(function)
            for i, other in enumerate(self._things):
                # A class of a cell that was run again is another class of that name.
                if (other.name, other.of.__name__) == (thing.name, thing.of.__name__):
                    if may_replace(self._made_of[i], function):
                        self._things[i], self._made_of[i] = thing, function
                        REGISTERED.append(thing.name)
                        return function
                    if other.of is thing.of:
                        family = thing.of.__name__
                        raise ValueError(f"two {self._kind}s of {family} tasks are named {thing.name!r}")
            self._things.append(thing)
            self._made_of.append(function)
            REGISTERED.append(thing.name)
            return function

        return register

    def applying_to(self, families: Collection[str], in_place: bool = True) -> list[Thing]:
        """Those of a task that belongs to these families, which are names of classes; one that takes the
        place of another stands in that place, or else in its own."""
        of_name: dict[str, Thing] = {}
        for thing in self._things:
            if thing.of.__name__ in families:
                narrower = thing.name not in of_name or issubclass(thing.of, of_name[thing.name].of)
                of_name[thing.name] = thing if narrower else of_name[thing.name]
        if in_place:
            return list(of_name.values())
        return [thing for thing in self._things if of_name.get(thing.name) is thing]


def may_replace(old: object, new: object) -> bool:
    """Whether one function or class comes from the same file or notebook as another, so that it is the same
    one run again. Nothing of this package is ever replaced."""
    home = _home(old)
    return home is not None and home == _home(new)


def _home(made: object) -> str | None:
    """Where a function or class was written: a file, or "__main__" for a script, a notebook and a prompt."""
    while isinstance(made, functools.partial):
        made = made.func
    module = str(getattr(made, "__module__", _PACKAGE))
    if module == "__main__":
        return module
    if module.split(".")[0] == _PACKAGE:
        return None
    code = getattr(inspect.unwrap(made) if callable(made) else made, "__code__", None)
    file = code.co_filename if code else getattr(sys.modules.get(module), "__file__", None)
    return file or module


def load_file(path: str | Path) -> list[str]:
    """Runs a Python file that registers measures, claims and whatever else is known by name, and gives the
    names of these. Modules beside it can be imported by it.

    Raises:
        UsageError: there is no such file, it is no Python, it raises, or it registers nothing; where it goes
            wrong the line is named.
    """
    file = Path(path)
    if not file.is_file():
        what = "is a directory" if file.is_dir() else "does not exist"
        raise UsageError(f"{path} {what}: give a Python file that registers measures (docs/extending.md)")
    try:
        text = file.read_bytes()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error}") from error
    if b"\0" in text:  # of which Python says this or that, by its version
        raise UsageError(f"{path} is no Python: it holds null bytes")
    before, name = len(REGISTERED), f"of_a_user.{file.stem}"
    spec = importlib.util.spec_from_loader(name, None, origin=str(file.resolve()))
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    module.__file__ = str(file.resolve())
    sys.modules[name] = module  # where a dataclass looks for its names
    sys.path.insert(0, str(file.resolve().parent))
    try:
        exec(compile(text, module.__file__, "exec"), module.__dict__)
    except SyntaxError as error:
        raise UsageError(
            f"{error.filename or path} is no Python: {error.msg}, line {error.lineno}"
        ) from error
    except (UnicodeDecodeError, OSError) as error:
        raise UsageError(f"{path} cannot be read: {error}") from error
    except (Exception, SystemExit) as error:
        lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == module.__file__]
        where = f", line {lines[-1]}" if lines else ""
        raise UsageError(f"{path}{where}: {type(error).__name__}: {error}") from error
    finally:
        sys.path.remove(str(file.resolve().parent))
    if len(REGISTERED) == before:
        what = "registers nothing: put @register_measure(...) of grokinterp before a function of a view"
        raise UsageError(f"{path} {what} (docs/extending.md)")
    LOADED.append(str(path))
    return REGISTERED[before:]
