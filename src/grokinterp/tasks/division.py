"""Division as it is, not mod p: a / b of the whole numbers a in 0 .. p-1 and b in 1 .. p-1.

    quotient   the answer is the fraction a/b in lowest terms, and every fraction that occurs is a class. Most
               of them occur once: a pair that is not trained on often has an answer that no training example
               has, and who answers with classes cannot have learned it
    integer    the answer is ⌊a / b⌋; half of the pairs have a < b, and with them 0

Both are the same question under other names for its answers. A network that answers with a number (`mlp` with
`readout = "number"`, `nalu`) is told which numbers these are. `modular_division` is another operation: a
times the inverse of b mod p, which is the table of a group.
"""

from __future__ import annotations

import functools
from fractions import Fraction
from typing import Literal

import torch
from jaxtyping import Int
from torch import Tensor

from .encoding import Symbols
from .layout import LayoutText
from .operation import Modulus, Operation
from .registry import task

Reading = Literal["quotient", "integer"]
_SYMBOLS = {"quotient": "a / b as a fraction", "integer": "⌊a / b⌋"}


@task
def plain_division(p: Modulus = 31, reading: Reading = "quotient", layout: LayoutText = "a b =") -> Operation:
    """a / b of whole numbers below p, not mod p: the fraction in lowest terms, or with reading = "integer"
    the whole quotient. Pairs with b = 0 are left out."""

    @functools.cache
    def answers() -> tuple[Fraction | int, ...]:
        """Those that occur, in ascending order."""
        if reading == "integer":
            return tuple(sorted({a // b for a in range(p) for b in range(1, p)}))
        return tuple(sorted({Fraction(a, b) for a in range(p) for b in range(1, p)}))

    def table(*_: Tensor) -> Int[Tensor, "p p"]:
        number = {answer: i for i, answer in enumerate(answers())}
        quotient = (lambda a, b: a // b) if reading == "integer" else Fraction
        rows = [[-1, *(number[quotient(a, b)] for b in range(1, p))] for a in range(p)]
        return torch.tensor(rows)

    def symbols() -> Symbols:
        return Symbols(tuple(range(p)), answers())

    return Operation(p, table, layout, symbols, name="plain_division", symbol=_SYMBOLS[reading])
