"""Any Python function of two values, as a table."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Set
from typing import Any, NamedTuple, SupportsIndex

import torch
from jaxtyping import Int
from torch import Tensor

from ..asked import got
from ..errors import ConfigError
from .encoding import Symbols

_MOST = 4000
"""Operands of a function: 16 million calls of Python take some ten seconds."""

_MOST_BITS = 4096
"""Python writes out no number of many thousands of digits."""


class Tabulated(NamedTuple):
    """The answer class of every pair, -1 where there is none; and what operands and answers are."""

    table: Int[Tensor, "p p"]
    symbols: Symbols


def tabulated(
    function: Callable[[Any, Any], Any], p: SupportsIndex | None, operands: Collection[Any] | None
) -> Tabulated:
    """The table of a function; `Task.of_function` says how.

    Raises:
        ConfigError: see there.
    """
    values = _operands(p, operands)
    answers = [[_answer(function, a, b) for b in values] for a in values]
    occurring = {answer: None for row in answers for answer in row if answer is not None}
    if len(occurring) < 2:
        raise ConfigError(
            f"the function gives {len(occurring) or 'no'} answer{'s' * (not occurring)}: a task needs two "
            "or more"
        )
    classes = _ordered(list(occurring), values)
    number: dict[Hashable, int] = {answer: i for i, answer in enumerate(classes)}
    table = torch.tensor([[-1 if answer is None else number[answer] for answer in row] for row in answers])
    return Tabulated(table, Symbols(values, classes))


def _operands(p: SupportsIndex | None, operands: Collection[Any] | None) -> tuple[Hashable, ...]:
    if (p is None) == (operands is None):
        raise ConfigError("a function needs its operands: give p, for 0 .. p-1, or operands, one of the two")
    number = _plain(p)
    if operands is None and (not isinstance(number, int) or number < 2):
        raise ConfigError(f"p: needs a whole number from 2, got {got(p)}")
    if isinstance(operands, Set):
        raise ConfigError("operands: a set has no order that stays: give a list, or sorted(...) of it")
    values = range(number) if operands is None else tuple(map(_plain, operands))
    if (count := len(values)) > _MOST:
        raise ConfigError(
            f"a function of {count:,} operands would be called {count**2:,} times: give at most {_MOST:,}, "
            "or write a task whose operation takes tensors"
        )
    try:
        different = len(set(values))
    except TypeError as error:
        raise ConfigError(
            f"operands: {error}; give values such as numbers, strings or tuples of them"
        ) from None
    if different < max(2, count):
        raise ConfigError(
            f"operands: needs two or more different values, got {count} of which {different} differ"
        )
    return tuple(values)


def _at(a: Hashable, b: Hashable) -> str:
    return f"at a = {a!r}, b = {b!r}"


def _answer(function: Callable[[Any, Any], Any], a: Hashable, b: Hashable) -> Hashable | None:
    try:
        answer = function(a, b)
    except Exception as error:  # whatever a user's function may raise
        raise ConfigError(
            f"the function failed {_at(a, b)}: {type(error).__name__}: {error}; return None where it is "
            "undefined"
        ) from error
    answer = _plain(answer)
    try:
        hash(answer)
    except TypeError as error:
        raise ConfigError(
            f"the function gave no single value {_at(a, b)}: {error}; return a number, a string or a tuple"
        ) from None
    if isinstance(answer, torch.Tensor) or answer != answer:
        raise ConfigError(f"the function gave {got(answer)} {_at(a, b)}: return None where it is undefined")
    if isinstance(answer, int) and (bits := answer.bit_length()) > _MOST_BITS:
        raise ConfigError(
            f"the function gave a number of {bits:,} bits {_at(a, b)}: at most {_MOST_BITS:,} can be named"
        )
    return answer


def _plain(value: Any) -> Any:
    """A number of numpy's or torch's as one of Python's: theirs are compared and hashed in ways of their
    own."""
    return value.item() if getattr(value, "shape", None) == () and hasattr(value, "item") else value


def _ordered(answers: list[Any], operands: tuple[Hashable, ...]) -> tuple[Hashable, ...]:
    """In the order of the operands where all are operands; else ascending where they can be compared; else as
    they first occur."""
    place: dict[Hashable, int] = {operand: i for i, operand in enumerate(operands)}
    if all(answer in place for answer in answers):
        return tuple(sorted(answers, key=place.__getitem__))
    try:
        return tuple(sorted(answers))
    except TypeError:
        return tuple(answers)
