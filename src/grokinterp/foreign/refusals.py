"""How a foreign file is refused, in words that are safe to print, and what reading it may cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NoReturn

from ..errors import GrokinterpError

REMEDY = "ask its author for a safetensors file"

ENTRY = 100
"""Bytes of memory, about, of one entry of a list or dict."""


@dataclass(frozen=True, eq=False)
class Name:
    """A name that a pickle mentions; it can be called or built only through `Admitted`."""

    dotted: str


@dataclass(frozen=True, eq=False)
class Unread:
    """An object, or a function, that was not built: nothing but the dotted name of what it is is known here.
    What a pickle puts into it, or asks to make of it, is dropped.

    Attributes:
        dotted: the name of its class, or its own.
        is_made: whether it stands for an object, which calling a name of a pickle would have made.
    """

    dotted: str
    is_made: bool = False


class KeyOfUnread(str):
    """The text in the place of a key of a dict, or an element of a set, that was not built."""

    def __new__(cls, dotted: str, number: int) -> KeyOfUnread:
        text = super().__new__(cls, f"({dotted} {number})")
        text.dotted = dotted
        return text

    dotted: str


class Budget:
    """What reading one file may cost: bytes of memory, and instructions."""

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self.bytes = limit
        # An instruction of one byte makes at most an empty set, of about 200 bytes.
        self.steps = min(10**7, int(limit / 256))

    def spend(self, size: int) -> None:
        self.bytes -= size
        if self.bytes < 0:
            too_large(self.limit)


def too_large(limit: float) -> NoReturn:
    what = f"more than the {limit / 1e9:.3g} GB that it may take"
    raise GrokinterpError(f"it would unpack to {what}: free some memory, or {REMEDY}")


def refuse(what: str) -> NoReturn:
    raise GrokinterpError(f"{what}; nothing was executed: {REMEDY}")


def damaged(what: str) -> NoReturn:
    raise GrokinterpError(f"it is damaged: {what}; fetch it again, or {REMEDY}")


def shown(text: object, most: int = 80) -> str:
    """The text, safe to print on a terminal whatever a stranger put into it."""
    text = str(text)
    text = text if len(text) <= most else text[: most - 3] + "..."
    return text if text.isprintable() else ascii(text)[1:-1]


def called(value: Any) -> str:
    """How to name a value in a message."""
    if type(value) in (Name, Unread):
        return shown(value.dotted)
    return shown(value if type(value) is str else f"a {type(value).__name__}")
