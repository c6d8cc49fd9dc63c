"""Arithmetic modulo p: the operations of Power et al. 2022 (arXiv 2201.02177, appendix A.1.1) for any p >= 2, prime or not.

Division is multiplication by the modular inverse, so pairs whose b has none are left out of the table.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Int
from torch import Tensor

from .base import Modulus, Task, task
from .circle import Circle, differences, logarithms, residues
from .layout import LayoutText
from .noise import Seed

Operation = Callable[[Tensor, Tensor], Tensor]


Finder = Callable[[], Circle | None]


def _modular(name: str, symbol: str, p: int, layout: str, operation: Operation, find_circle: Finder | None = None) -> Task:
    def table(a: Int[Tensor, "p 1"], b: Int[Tensor, "1 p"]) -> Int[Tensor, "p p"]:
        return operation(a, b) % p

    circle = find_circle or (lambda: residues(p, is_sum=False))
    return Task(name, {"p": p, "layout": layout}, p, table, f"{symbol} mod {p}", layout, find_circle=circle)


def inverses(p: int) -> Int[Tensor, "p"]:
    """The inverse of every residue mod p, -1 where it has none."""
    return torch.tensor([pow(b, -1, p) if math.gcd(b, p) == 1 else -1 for b in range(p)])


def _divide(a: Tensor, b: Tensor, p: int) -> Tensor:
    inverse = inverses(p)[b]
    return torch.where(inverse >= 0, a * inverse % p, -1)


@task
def modular_addition(p: Modulus = 113, layout: LayoutText = "a b =") -> Task:
    """a + b mod p."""
    return _modular("modular_addition", "a + b", p, layout, lambda a, b: a + b, lambda: residues(p))


@task
def modular_subtraction(p: Modulus = 113, layout: LayoutText = "a b =") -> Task:
    """a - b mod p, answers in 0..p-1."""
    return _modular("modular_subtraction", "a − b", p, layout, lambda a, b: a - b, lambda: differences(p))


@task
def modular_multiplication(p: Modulus = 113, layout: LayoutText = "a b =") -> Task:
    """a b mod p."""
    return _modular("modular_multiplication", "a · b", p, layout, lambda a, b: a * b, lambda: logarithms(p))


@task
def modular_division(p: Modulus = 113, layout: LayoutText = "a b =") -> Task:
    """a / b mod p: the c with c b = a. Pairs whose b has no inverse mod p (b = 0; for composite p others too) are left out."""
    params = {"p": p, "layout": layout}
    circle: Finder = lambda: logarithms(p, divided=True)  # noqa: E731
    return Task("modular_division", params, p, lambda a, b: _divide(a, b, p), f"a / b mod {p}", layout, find_circle=circle)


@task
def x2_plus_y2(p: Modulus = 113, layout: LayoutText = "a b =") -> Task:
    """a² + b² mod p."""
    return _modular("x2_plus_y2", "a² + b²", p, layout, lambda a, b: a**2 + b**2)


@task
def x2_plus_xy_plus_y2(p: Modulus = 113, layout: LayoutText = "a b =") -> Task:
    """a² + a b + b² mod p."""
    return _modular("x2_plus_xy_plus_y2", "a² + ab + b²", p, layout, lambda a, b: a**2 + a * b + b**2)


@task
def x2_plus_xy_plus_y2_plus_x(p: Modulus = 113, layout: LayoutText = "a b =") -> Task:
    """a² + a b + b² + a mod p."""
    return _modular("x2_plus_xy_plus_y2_plus_x", "a² + ab + b² + a", p, layout, lambda a, b: a**2 + a * b + b**2 + a)


@task
def x3_plus_xy(p: Modulus = 113, layout: LayoutText = "a b =") -> Task:
    """a³ + a b mod p."""
    return _modular("x3_plus_xy", "a³ + ab", p, layout, lambda a, b: a**3 + a * b)


@task
def x3_plus_xy2_plus_y(p: Modulus = 113, layout: LayoutText = "a b =") -> Task:
    """a³ + a b² + b mod p: the one that does not generalise in Power et al."""
    return _modular("x3_plus_xy2_plus_y", "a³ + ab² + b", p, layout, lambda a, b: a**3 + a * b**2 + b)


@task
def divide_if_odd_else_subtract(p: Modulus = 113, layout: LayoutText = "a b =") -> Task:
    """a / b mod p where b is odd, else a - b mod p. Pairs whose b is odd and has no inverse mod p (composite p only) are left out.

    As in the paper. The authors' released code divides integers (`//`) instead.
    """

    def table(a: Int[Tensor, "p 1"], b: Int[Tensor, "1 p"]) -> Int[Tensor, "p p"]:
        return torch.where(b % 2 == 1, _divide(a, b, p), (a - b) % p)

    params = {"p": p, "layout": layout}
    symbol = f"a / b if b odd else a − b, mod {p}"
    return Task("divide_if_odd_else_subtract", params, p, table, symbol, layout, find_circle=lambda: residues(p, is_sum=False))


@task
def add_if_even_else_multiply(p: Modulus = 113, layout: LayoutText = "a b =") -> Task:
    """a + b mod p where a is even, else a b mod p: `+*` of the released code of Power et al."""
    return _modular(
        "add_if_even_else_multiply", "a + b if a even else a · b,", p, layout, lambda a, b: torch.where(a % 2 == 0, a + b, a * b)
    )


@task
def add_if_even_else_subtract(p: Modulus = 113, layout: LayoutText = "a b =") -> Task:
    """a + b mod p where a is even, else a - b mod p: `+-` of the released code of Power et al."""
    return _modular(
        "add_if_even_else_subtract", "a + b if a even else a − b,", p, layout, lambda a, b: torch.where(a % 2 == 0, a + b, a - b)
    )


@task
def random_table(p: Modulus = 113, table_seed: Seed = 0, layout: LayoutText = "a b =") -> Task:
    """An answer drawn uniformly for every pair: nothing to generalise, so a network can only memorise. The negative control."""

    def table(a: Int[Tensor, "p 1"], b: Int[Tensor, "1 p"]) -> Int[Tensor, "p p"]:
        return torch.randint(p, (p, p), generator=torch.Generator().manual_seed(table_seed))

    params = {"p": p, "table_seed": table_seed, "layout": layout}
    return Task("random_table", params, p, table, f"random table of {p} × {p}", layout, find_circle=lambda: residues(p, is_sum=False))
