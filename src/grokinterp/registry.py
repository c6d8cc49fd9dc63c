"""What is known by name: tasks, measures, and whatever else a decorator registers."""

from __future__ import annotations

from typing import NoReturn, TypeVar

from .errors import GrokinterpError, UsageError, nearest

T = TypeVar("T")


class Registry(dict[str, T]):
    """Things of one kind by their names. An unknown name is an error that names the nearest."""

    def __init__(self, kind: str, error: type[GrokinterpError] = UsageError) -> None:
        super().__init__()
        self._kind, self._error = kind, error

    def __missing__(self, name: str) -> NoReturn:
        if variants := [longer for longer in self if longer.startswith(f"{name}.")]:
            raise self._error(f"unknown {self._kind} {name!r}; its variants are {', '.join(variants)}")
        raise self._error(f"unknown {self._kind} {name!r}{nearest(str(name), self)}")

    def add(self, name: str, thing: T) -> None:
        """Registers a thing.

        Raises:
            ValueError: another one has this name.
        """
        if name in self:
            raise ValueError(f"two {self._kind}s are named {name!r}")
        self[name] = thing
