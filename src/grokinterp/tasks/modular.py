"""Arithmetic modulo p: the operations of Power et al. 2022 (arXiv 2201.02177, appendix A.1.1) for any p >= 2,
prime or not.

Each is there in two conventions:

    paper   operands 0 .. p-1, answers mod p in 0 .. p-1, all of them classes. Division is multiplication by
            the modular inverse, so pairs whose b has none are left out of the table.
    julia   what `(a ∘ b) % p` is in Julia, of the whole numbers a and b in 1 .. p: `%` is the remainder with
            the sign of the dividend (rem) and `÷` integer division, truncated, which takes the place of `/`.
            So a - b is -(p-1) .. p-1, without any wrap, and for odd b > a "a / b" is 0. Classes are the
            values that occur. As in the code that this follows (domluna.com/blog/grokking), the symbols -p ..
            p have the first 2p + 1 tokens, used or not, and there is a logit for every token: with the layout
            "a op b =" 197 for p = 97.

Values stay below 2p³ + p, which int64 holds for every p whose table fits into a memory.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Int
from torch import Tensor

from .circle import Circle, differences, logarithms, residues
from .encoding import Seed, Symbols
from .layout import LayoutText
from .operation import Modulus, Operation
from .registry import task
from .table import cyclic

Convention = Literal["paper", "julia"]
Rule = Callable[[Tensor, Tensor], Tensor]


def _modular(
    symbol: str, find_circle: Callable[[int], Circle | None] | None = None, truncating: Rule | None = None
) -> Callable[[Callable[[Tensor, Tensor, int], Tensor]], Callable[..., Operation]]:
    """Makes a task, in both conventions, of an operation on whole numbers a, b and p, which gives -1 where it
    has no value mod p.

    Args:
        symbol: the operation as a formula.
        find_circle: gives where the elements stand; by default at their residues, the operation being no sum.
        truncating: what the operation is in Julia, where it divides: `÷` in place of `/`.
    """

    def registered(operation: Callable[[Tensor, Tensor, int], Tensor]) -> Callable[..., Operation]:
        name = operation.__name__

        def make(
            p: Modulus = 113, layout: LayoutText = "a b =", convention: Convention = "paper"
        ) -> Operation:
            if convention == "julia":
                rule = truncating or (lambda a, b: operation(a, b, p))
                return _in_julia(name, f"({symbol.replace(' / ', ' ÷ ')}) % {p} in Julia", p, layout, rule)

            def table(a: Int[Tensor, "p 1"], b: Int[Tensor, "1 p"]) -> Int[Tensor, "p p"]:
                answers = operation(a, b, p)
                return answers if truncating else answers % p

            circle = functools.partial(find_circle or functools.partial(residues, is_sum=False), p)
            title = f"{symbol}{',' * (' if ' in symbol)} mod {p}"
            return Operation(p, table, layout, find_circle=circle, name=name, symbol=title)

        make.__name__, make.__doc__ = name, operation.__doc__
        return task(make)

    return registered


def _in_julia(name: str, symbol: str, p: int, layout: str, operation: Rule) -> Operation:
    operands = torch.arange(1, p + 1)

    @functools.cache
    def results() -> Int[Tensor, "p p"]:
        return torch.fmod(operation(operands[:, None], operands[None, :]), p).expand(p, p).contiguous()

    @functools.cache
    def symbols() -> Symbols:
        return Symbols(tuple(operands.tolist()), tuple(results().unique().tolist()), tuple(range(-p, p + 1)))

    def table(*_: Tensor) -> Int[Tensor, "p p"]:
        """Every result as its number among those that occur."""
        return torch.searchsorted(results().unique(), results())

    def find_circle() -> Circle | None:
        """What the table hides; else the residues, p standing at 0, where all of them are answers and nothing
        else is."""
        if (circle := cyclic(table(), symbols())) is not None or symbols().answers != tuple(range(p)):
            return circle
        places = torch.arange(p)
        return Circle((places - 1) % p, (places - 1) % p, places, False, f"residues mod {p}")

    return Operation(p, table, layout, symbols, find_circle, name=name, symbol=symbol)


def inverses(p: int) -> Int[Tensor, "p"]:
    """The inverse of every residue mod p, -1 where it has none."""
    return torch.tensor([pow(b, -1, p) if math.gcd(b, p) == 1 else -1 for b in range(p)])


def _divide(a: Tensor, b: Tensor, p: int) -> Tensor:
    inverse = inverses(p)[b]
    return torch.where(inverse >= 0, a * inverse % p, -1)


@_modular("a + b", residues)
def modular_addition(a: Tensor, b: Tensor, p: int) -> Tensor:
    """a + b mod p."""
    return a + b


@_modular("a − b", differences)
def modular_subtraction(a: Tensor, b: Tensor, p: int) -> Tensor:
    """a - b mod p, answers in 0..p-1; in the julia convention a - b as it is."""
    return a - b


@_modular("a · b", logarithms)
def modular_multiplication(a: Tensor, b: Tensor, p: int) -> Tensor:
    """a b mod p."""
    return a * b


@_modular("a / b", functools.partial(logarithms, divided=True), truncating=lambda a, b: a // b)
def modular_division(a: Tensor, b: Tensor, p: int) -> Tensor:
    """a / b mod p: the c with c b = a. Pairs whose b has no inverse mod p (b = 0; for composite p others too)
    are left out.

    In the julia convention the integer quotient of all pairs.
    """
    return _divide(a, b, p)


@_modular("a² + b²")
def x2_plus_y2(a: Tensor, b: Tensor, p: int) -> Tensor:
    """a² + b² mod p."""
    return a**2 + b**2


@_modular("a² + ab + b²")
def x2_plus_xy_plus_y2(a: Tensor, b: Tensor, p: int) -> Tensor:
    """a² + a b + b² mod p."""
    return a**2 + a * b + b**2


@_modular("a² + ab + b² + a")
def x2_plus_xy_plus_y2_plus_x(a: Tensor, b: Tensor, p: int) -> Tensor:
    """a² + a b + b² + a mod p."""
    return a**2 + a * b + b**2 + a


@_modular("a³ + ab")
def x3_plus_xy(a: Tensor, b: Tensor, p: int) -> Tensor:
    """a³ + a b mod p."""
    return a**3 + a * b


@_modular("a³ + ab² + b")
def x3_plus_xy2_plus_y(a: Tensor, b: Tensor, p: int) -> Tensor:
    """a³ + a b² + b mod p: the one that does not generalise in Power et al."""
    return a**3 + a * b**2 + b


@_modular("a / b if b odd else a − b", truncating=lambda a, b: torch.where(b % 2 == 1, a // b, a - b))
def divide_if_odd_else_subtract(a: Tensor, b: Tensor, p: int) -> Tensor:
    """a / b mod p where b is odd, else a - b mod p. Pairs whose b is odd and has no inverse mod p (composite
    p only) are left out.

    As in the paper. The authors' released code divides integers (`//`) instead, as the julia convention does.
    """
    return torch.where(b % 2 == 1, _divide(a, b, p), (a - b) % p)


@_modular("a + b if a even else a · b")
def add_if_even_else_multiply(a: Tensor, b: Tensor, p: int) -> Tensor:
    """a + b mod p where a is even, else a b mod p: `+*` of the released code of Power et al."""
    return torch.where(a % 2 == 0, a + b, a * b)


@_modular("a + b if a even else a − b")
def add_if_even_else_subtract(a: Tensor, b: Tensor, p: int) -> Tensor:
    """a + b mod p where a is even, else a - b mod p: `+-` of the released code of Power et al."""
    return torch.where(a % 2 == 0, a + b, a - b)


@task
def random_table(p: Modulus = 113, table_seed: Seed = 0, layout: LayoutText = "a b =") -> Operation:
    """An answer drawn uniformly for every pair: nothing to generalise, so a network can only memorise. The
    negative control."""

    def table(a: Int[Tensor, "p 1"], b: Int[Tensor, "1 p"]) -> Int[Tensor, "p p"]:
        return torch.randint(p, (p, p), generator=torch.Generator().manual_seed(table_seed))

    circle = functools.partial(residues, p, is_sum=False)
    title = f"random table of {p} × {p}"
    return Operation(p, table, layout, find_circle=circle, name="random_table", symbol=title)
