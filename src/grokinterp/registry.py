"""What is known by name: tasks, measures, and whatever else a decorator registers."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, Generic, NoReturn, TypeVar

from .errors import GrokinterpError, UsageError, nearest

T = TypeVar("T")


class Registry(dict[str, T]):
    """Things of one kind by their names, which stand under the key `at` of a configuration. An unknown name
    is an error that names the nearest."""

    def __init__(self, kind: str, error: type[GrokinterpError] = UsageError, at: str = "") -> None:
        super().__init__()
        self._kind, self._error, self._at = kind, error, f"{at}: " * bool(at)

    def __missing__(self, name: str) -> NoReturn:
        unknown = f"{self._at}unknown {self._kind} {name!r}"
        if variants := [longer for longer in self if longer.startswith(f"{name}.")]:
            raise self._error(f"{unknown}; its variants are {', '.join(variants)}")
        raise self._error(f"{unknown}{nearest(str(name), self)}")

    def add(self, name: str, thing: T) -> None:
        """Registers a thing.

        Raises:
            ValueError: another one has this name.
        """
        if name in self:
            raise ValueError(f"two {self._kind}s are named {name!r}")
        self[name] = thing


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

    def registering(self, made: Callable[[Any], Thing]) -> Callable[[Function], Function]:
        """A decorator that registers what is made of a function, and leaves the function as it is.

        Raises:
            ValueError: another thing of the same family has this name.
        """

        def register(function: Function) -> Function:
            thing = made(function)
            if any((other.name, other.of) == (thing.name, thing.of) for other in self._things):
                raise ValueError(f"two {self._kind}s of {thing.of.__name__} tasks are named {thing.name!r}")
            self._things.append(thing)
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
