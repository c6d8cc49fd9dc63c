"""What is known by name: tasks, measures, and whatever else a decorator registers."""

from __future__ import annotations

from typing import NoReturn, TypeVar

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
