"""The cyclic group behind a task: where the elements stand on Z_m, so that frequencies mean something.

addition         a, b and c stand at themselves on Z_p
subtraction      the same, with b at -b: then a ∘ b stands at i + j
multiplication   the units mod p stand at their discrete logarithms, on Z_m with m units; those that are none
                 (0) stand apart
division         the same, with b at minus its logarithm

Of any other operation, and of one in an opaque vocabulary, the group is looked for in the table
(`table.cyclic`), which gives the same positions for these four.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor


@dataclass(frozen=True)
class Circle:
    """Elements at the positions 0 .. m-1 of Z_m, for each of the three places in `a ∘ b = c`.

    Attributes:
        a: the element at each position, as the first operand.
        b: as the second.
        c: as the answer.
        is_sum: whether a ∘ b is the element at i + j, wherever a stands at i and b at j. Where not, the
            positions are the residues themselves, as for a² + b², and the operation mixes frequencies.
        order: what the positions are, in words.
    """

    a: Int[Tensor, "m"]
    b: Int[Tensor, "m"]
    c: Int[Tensor, "m"]
    is_sum: bool
    order: str

    @property
    def m(self) -> int:
        """The number of positions."""
        return len(self.a)


def residues(p: int, is_sum: bool = True) -> Circle:
    """Every element of Z_p at itself."""
    elements = torch.arange(p)
    return Circle(elements, elements, elements, is_sum, f"residues mod {p}")


def differences(p: int) -> Circle:
    """Z_p with b at -b."""
    elements = torch.arange(p)
    return Circle(elements, -elements % p, elements, True, f"residues mod {p}, b at −b")


def logarithms(p: int, divided: bool = False) -> Circle | None:
    """The units mod p at their logarithms to the smallest primitive root; for division b at minus its own.

    None where the units are not one cycle (as mod 8), or are fewer than two.
    """
    root = primitive_root(p)
    if root is None or p < 3:
        return None
    powers = [1]
    while (following := powers[-1] * root % p) != 1:
        powers.append(following)
    units = torch.tensor(powers)
    b, where = units, f"powers of {root} mod {p}"
    if divided:
        b, where = units.flip(0).roll(1), f"{where}, b at minus its logarithm"
    return Circle(units, b, units, True, where)


def primitive_root(p: int) -> int | None:
    """The smallest number whose powers are all units mod p, or None where there is none."""
    n_units = sum(math.gcd(x, p) == 1 for x in range(1, p + 1))
    prime_factors = [
        q
        for q in range(2, n_units + 1)
        if n_units % q == 0 and all(q % r for r in range(2, math.isqrt(q) + 1))
    ]
    for root in range(1, p):
        if math.gcd(root, p) == 1 and all(pow(root, n_units // q, p) != 1 for q in prime_factors):
            return root
    return None
