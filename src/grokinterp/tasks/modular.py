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
Finder = Callable[[], Circle | None]


def _modular(
    name: str,
    symbol: str,
    p: int,
    layout: str,
    convention: Convention,
    operation: Rule,
    find_circle: Finder | None = None,
    *,
    truncating: Rule | None = None,
) -> Operation:
    """The task of an operation on whole numbers, -1 where it has no value mod p; or, in Julia, of the one
    with `÷` in place of `/`."""
    if convention == "julia":
        results = functools.cache(lambda: torch.fmod((truncating or operation)(*_one_to(p)), p).expand(p, p))
        symbols = functools.cache(lambda: _julia_symbols(results(), p))
        written = f"({symbol.replace(' / ', ' ÷ ')}) % {p} in Julia"
        return Operation(
            p,
            lambda a, b: _classes(results()),
            layout,
            symbols,
            lambda: _julia_circle(results(), symbols()),
            name=name,
            symbol=written,
        )

    def table(a: Int[Tensor, "p 1"], b: Int[Tensor, "1 p"]) -> Int[Tensor, "p p"]:
        answers = operation(a, b)
        return answers if truncating else answers % p

    comma = "," if " if " in symbol else ""
    found = find_circle or (lambda: residues(p, is_sum=False))
    return Operation(p, table, layout, find_circle=found, name=name, symbol=f"{symbol}{comma} mod {p}")


def _one_to(p: int) -> tuple[Int[Tensor, "p 1"], Int[Tensor, "1 p"]]:
    operands = torch.arange(1, p + 1)
    return operands[:, None], operands[None, :]


def _classes(results: Int[Tensor, "p p"]) -> Int[Tensor, "p p"]:
    """Every result as its number among those that occur."""
    return torch.searchsorted(results.unique(), results.contiguous())


def _julia_symbols(results: Int[Tensor, "p p"], p: int) -> Symbols:
    return Symbols(tuple(range(1, p + 1)), tuple(results.unique().tolist()), tuple(range(-p, p + 1)))


def _julia_circle(results: Int[Tensor, "p p"], symbols: Symbols) -> Circle | None:
    """What the table hides; else the residues, p standing at 0, where all of them are answers and nothing
    else is."""
    p = len(results)
    if (found := cyclic(_classes(results), symbols)) is not None or symbols.answers != tuple(range(p)):
        return found
    own = torch.arange(p)
    return Circle((own - 1) % p, (own - 1) % p, own, False, f"residues mod {p}")


def inverses(p: int) -> Int[Tensor, "p"]:
    """The inverse of every residue mod p, -1 where it has none."""
    return torch.tensor([pow(b, -1, p) if math.gcd(b, p) == 1 else -1 for b in range(p)])


def _divide(a: Tensor, b: Tensor, p: int) -> Tensor:
    inverse = inverses(p)[b]
    return torch.where(inverse >= 0, a * inverse % p, -1)


@task
def modular_addition(
    p: Modulus = 113, layout: LayoutText = "a b =", convention: Convention = "paper"
) -> Operation:
    """a + b mod p."""
    return _modular(
        "modular_addition", "a + b", p, layout, convention, lambda a, b: a + b, lambda: residues(p)
    )


@task
def modular_subtraction(
    p: Modulus = 113, layout: LayoutText = "a b =", convention: Convention = "paper"
) -> Operation:
    """a - b mod p, answers in 0..p-1; in the julia convention a - b as it is."""
    return _modular(
        "modular_subtraction", "a − b", p, layout, convention, lambda a, b: a - b, lambda: differences(p)
    )


@task
def modular_multiplication(
    p: Modulus = 113, layout: LayoutText = "a b =", convention: Convention = "paper"
) -> Operation:
    """a b mod p."""
    return _modular(
        "modular_multiplication", "a · b", p, layout, convention, lambda a, b: a * b, lambda: logarithms(p)
    )


@task
def modular_division(
    p: Modulus = 113, layout: LayoutText = "a b =", convention: Convention = "paper"
) -> Operation:
    """a / b mod p: the c with c b = a. Pairs whose b has no inverse mod p (b = 0; for composite p others too)
    are left out.

    In the julia convention the integer quotient of all pairs.
    """
    return _modular(
        "modular_division", "a / b", p, layout, convention, lambda a, b: _divide(a, b, p),
        lambda: logarithms(p, divided=True),
        truncating=lambda a, b: a // b,
    )  # fmt: skip


@task
def x2_plus_y2(p: Modulus = 113, layout: LayoutText = "a b =", convention: Convention = "paper") -> Operation:
    """a² + b² mod p."""
    return _modular("x2_plus_y2", "a² + b²", p, layout, convention, lambda a, b: a**2 + b**2)


@task
def x2_plus_xy_plus_y2(
    p: Modulus = 113, layout: LayoutText = "a b =", convention: Convention = "paper"
) -> Operation:
    """a² + a b + b² mod p."""
    return _modular(
        "x2_plus_xy_plus_y2", "a² + ab + b²", p, layout, convention, lambda a, b: a**2 + a * b + b**2
    )


@task
def x2_plus_xy_plus_y2_plus_x(
    p: Modulus = 113, layout: LayoutText = "a b =", convention: Convention = "paper"
) -> Operation:
    """a² + a b + b² + a mod p."""
    return _modular(
        "x2_plus_xy_plus_y2_plus_x",
        "a² + ab + b² + a",
        p,
        layout,
        convention,
        lambda a, b: a**2 + a * b + b**2 + a,
    )


@task
def x3_plus_xy(p: Modulus = 113, layout: LayoutText = "a b =", convention: Convention = "paper") -> Operation:
    """a³ + a b mod p."""
    return _modular("x3_plus_xy", "a³ + ab", p, layout, convention, lambda a, b: a**3 + a * b)


@task
def x3_plus_xy2_plus_y(
    p: Modulus = 113, layout: LayoutText = "a b =", convention: Convention = "paper"
) -> Operation:
    """a³ + a b² + b mod p: the one that does not generalise in Power et al."""
    return _modular(
        "x3_plus_xy2_plus_y", "a³ + ab² + b", p, layout, convention, lambda a, b: a**3 + a * b**2 + b
    )


@task
def divide_if_odd_else_subtract(
    p: Modulus = 113, layout: LayoutText = "a b =", convention: Convention = "paper"
) -> Operation:
    """a / b mod p where b is odd, else a - b mod p. Pairs whose b is odd and has no inverse mod p (composite
    p only) are left out.

    As in the paper. The authors' released code divides integers (`//`) instead, as the julia convention does.
    """
    return _modular(
        "divide_if_odd_else_subtract", "a / b if b odd else a − b", p, layout, convention,
        lambda a, b: torch.where(b % 2 == 1, _divide(a, b, p), (a - b) % p),
        truncating=lambda a, b: torch.where(b % 2 == 1, a // b, a - b),
    )  # fmt: skip


@task
def add_if_even_else_multiply(
    p: Modulus = 113, layout: LayoutText = "a b =", convention: Convention = "paper"
) -> Operation:
    """a + b mod p where a is even, else a b mod p: `+*` of the released code of Power et al."""
    return _modular(
        "add_if_even_else_multiply", "a + b if a even else a · b", p, layout, convention,
        lambda a, b: torch.where(a % 2 == 0, a + b, a * b),
    )  # fmt: skip


@task
def add_if_even_else_subtract(
    p: Modulus = 113, layout: LayoutText = "a b =", convention: Convention = "paper"
) -> Operation:
    """a + b mod p where a is even, else a - b mod p: `+-` of the released code of Power et al."""
    return _modular(
        "add_if_even_else_subtract", "a + b if a even else a − b", p, layout, convention,
        lambda a, b: torch.where(a % 2 == 0, a + b, a - b),
    )  # fmt: skip


@task
def random_table(p: Modulus = 113, table_seed: Seed = 0, layout: LayoutText = "a b =") -> Operation:
    """An answer drawn uniformly for every pair: nothing to generalise, so a network can only memorise. The
    negative control."""

    def table(a: Int[Tensor, "p 1"], b: Int[Tensor, "1 p"]) -> Int[Tensor, "p p"]:
        return torch.randint(p, (p, p), generator=torch.Generator().manual_seed(table_seed))

    circle = functools.partial(residues, p, is_sum=False)
    title = f"random table of {p} × {p}"
    return Operation(p, table, layout, find_circle=circle, name="random_table", symbol=title)
