"""What names and values in a foreign file mean: names are words, numbers are steps or losses. Knows nothing
of networks, nor of where things stand."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any

from torch import Tensor

MOST_STEPS = 10**15
"""Whole numbers beyond it are no steps."""

STEP = ("epoch", "step", "iteration", "iter", "update")
"""Words for a number of updates."""
STEP_WORDS = frozenset({*STEP, *(f"{word}s" for word in STEP), "ep", "it"})
_FILE_WORDS = {"e", "t", "pt", "pth", "ckpt", "checkpoint", "snapshot", "at", "after", "safetensors"}
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
SCALARS = (int, float, bool, type(None))
"""What is no tensor, no text and holds nothing."""


def vocabulary(text: str) -> frozenset[str]:
    """The words of a text."""
    return frozenset(text.split())


@functools.lru_cache(4096)
def words(key: Any) -> tuple[str, ...]:
    """The words of a name, in small letters, numbers apart: `trainLosses_100.pt` is train losses 100 pt."""
    text = " ".join(map(str, key)) if isinstance(key, tuple) else str(key)
    return tuple(word.lower() for word in _WORD.findall(text[:200]))


def whole(value: Any) -> int | None:
    """A number of steps: whole, from 0 on, also as a float, a tensor of one number or digits; else None."""
    is_digits = isinstance(value, str) and value.isdecimal() and len(value) <= 15
    number = int(value) if is_digits else scalar(value)
    if number is None or not 0 <= number < MOST_STEPS or number != int(number):
        return None
    return int(number)


def scalar(value: Any) -> int | float | None:
    """A number, also where it is a tensor of one; else None."""
    if isinstance(value, Tensor) and value.numel() == 1:
        value = value.item()
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def distinct(values: Iterable[Any]) -> list[int] | None:
    """The values as steps, no two the same, in their order; None where they are none."""
    steps = [whole(value) for value in values]
    of_some = [step for step in steps if step is not None]
    return of_some if steps and len({*of_some}) == len(steps) else None


def increasing(values: Iterable[Any]) -> list[int] | None:
    """The values as steps, each later than the one before; None where they are none."""
    steps = distinct(values)
    return steps if steps == sorted(steps or ()) else None


def listed(value: Any) -> Sequence[Any] | None:
    """What stands in a row: the items of a list, or of a tensor of one dimension; else None."""
    if length(value) is None:
        return None
    return value.tolist() if isinstance(value, Tensor) else value


def length(value: Any) -> int | None:
    """How many items `listed` would give; None where it gives none."""
    is_row = value.dim() == 1 if isinstance(value, Tensor) else isinstance(value, list | tuple)
    return len(value) if is_row else None


def is_numbers(value: Any) -> bool:
    """Whether this is a list or set of numbers, rows of numbers, or a dict of numbers by step."""
    if isinstance(value, Mapping):
        are_steps = bool(value) and all(step_in(key) is not None for key in value)
        return are_steps and all(isinstance(item, SCALARS) for item in value.values())
    if not isinstance(value, list | tuple | set) or all(item is None for item in value):
        return False
    return all(isinstance(item, SCALARS) for item in value) or all(_is_row(item) for item in value)


def _is_row(value: Any) -> bool:
    """A row of a table: numbers, or numbers by name, beside which there may be texts."""
    if isinstance(value, Mapping):
        items = [item for item in value.values() if not isinstance(item, str)]
    else:
        items = list(value) if isinstance(value, list | tuple) else []
    return all(isinstance(item, SCALARS) for item in items) and any(item is not None for item in items)


def step_in(key: Any, also: Set[str] = frozenset()) -> int | None:
    """The step that a key of a dict names, as 100, "100", "epoch_100", "step-1.pt" and "100k" do; else None.

    Beside the number there may be words for steps and files, and those in `also`.
    """
    if not isinstance(key, str | tuple):
        return whole(key)
    parts = words(key)
    numbers = [word for word in parts if word.isdecimal()]
    thousands = "k" in parts and parts.index("k") > 0 and parts[parts.index("k") - 1].isdecimal()
    known = STEP_WORDS | _FILE_WORDS | also | ({"k"} if thousands else frozenset())
    if len(numbers) != 1 or not {*parts} - {*numbers} <= known:
        return None
    return whole(int(numbers[0]) * (1000 if thousands else 1)) if len(numbers[0]) < 16 else None
