"""Finite groups: composition, conjugation a b a⁻¹ and a b a (Power et al. 2022; Chughtai et al. 2023, arXiv
2302.03025).

Order of the elements, which is also the order of their tokens:

    C_n   r⁰, r¹, ..., rⁿ⁻¹
    D_n   the rotations r⁰ ... rⁿ⁻¹, then the reflections s r⁰ ... s rⁿ⁻¹; order 2n, with s r = r⁻¹ s
    S_n   permutations of 0..n-1 in one-line notation, lexicographic; the identity is first
    A_n   the even permutations among them, in the same order

The product a b of permutations applies b first: (a b)(i) = a(b(i)).
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator
from typing import Annotated

import torch
from jaxtyping import Float64, Int
from pydantic import BeforeValidator
from torch import Tensor

from .circle import residues
from .encoding import Symbols
from .layout import LayoutText
from .operation import Operation
from .registry import task

_PARSE = re.compile(r"([CDSA])(\d{1,6})")
_SMALLEST = {"C": 2, "D": 3, "S": 2, "A": 3}


def _known_group(name: object) -> object:
    match = _PARSE.fullmatch(name) if isinstance(name, str) else None
    if match is None or int(match[2]) < _SMALLEST[match[1]]:
        raise ValueError("needs a group such as C113, D59, S5 or A5 (C2, D3, S2 and A3 are the smallest)")
    return name


Group = Annotated[str, BeforeValidator(_known_group)]


def order(group: str) -> int:
    """The number of elements of `group`, for example 120 for S5."""
    kind, n = group[0], int(group[1:])
    if kind in "SA" and n > 12:
        return 2**63  # larger than any memory; the factorial itself need not be computed
    if kind in "CD":
        return n if kind == "C" else 2 * n
    return math.factorial(n) // (2 if kind == "A" else 1)


def of_order(n: int) -> list[str]:
    """The groups that have n elements: of 6, C6, D3 and S3."""
    dihedral = [f"D{n // 2}"] if n % 2 == 0 and n >= 6 else []
    permuting = [f"{kind}{k}" for kind in "SA" for k in range(_SMALLEST[kind], 13)]
    return [f"C{n}", *dihedral, *(group for group in permuting if order(group) == n)]


def permutations(group: str) -> Int[Tensor, "order n"]:
    """The elements of S_n or A_n in one-line notation, in the documented order."""
    everyone = torch.tensor(list(itertools.permutations(range(int(group[1:])))))
    if group[0] == "S":
        return everyone
    inversions = sum(
        (everyone[:, i] > everyone[:, j]).long()
        for i, j in itertools.combinations(range(everyone.shape[1]), 2)
    )
    return everyone[torch.as_tensor(inversions) % 2 == 0]


def cayley_table(group: str) -> Int[Tensor, "order order"]:
    """Entry [a, b] is the number of the product a b, in the documented order of the elements."""
    kind, n = group[0], int(group[1:])
    if kind == "C":
        i = torch.arange(n)
        return (i[:, None] + i) % n
    if kind == "D":
        # Element (f, i) is s^f rⁱ with number f n + i; rⁱ s = s r⁻ⁱ moves the second factor's s to the front.
        i, f = torch.arange(2 * n) % n, torch.arange(2 * n) // n
        turned = torch.where(f == 1, -i[:, None], i[:, None])
        return (f[:, None] + f) % 2 * n + (turned + i) % n
    elements = permutations(group)
    # A permutation read as a number in base n; lexicographic order makes these numbers increase.
    place = n ** torch.arange(n - 1, -1, -1)
    numbers = (elements * place).sum(1)
    return torch.stack([torch.searchsorted(numbers, (a[elements] * place).sum(1)) for a in elements])


def element_names(group: str) -> tuple[str, ...]:
    """How the elements are written on axis labels, in the documented order."""
    kind, n = group[0], int(group[1:])
    if kind == "C":
        return tuple(f"r{i}" for i in range(n))
    if kind == "D":
        return tuple(f"r{i}" for i in range(n)) + tuple(f"sr{i}" for i in range(n))
    between = "" if n <= 10 else "-"
    return tuple(between.join(map(str, row)) for row in permutations(group).tolist())


def representation(group: str, dimension: int, character: Float64[Tensor, "order"]) -> str:
    """What an irreducible representation of D_n or S_n is called in the literature, by its dimension and its
    character, up to a positive factor, at the elements in the documented order: for D_n the frequency of a
    rotation, or the signs of r and s; for S_n the partition of n. "" for other groups."""
    kind, n = group[0], int(group[1:])
    relative = character / character[0]
    if kind == "D" and dimension == 1:
        signs = ("−1" if float(relative[i]) < 0 else "1" for i in (1, n))
        return "r ↦ {}, s ↦ {}".format(*signs)
    if kind == "D":
        return f"k = {int(torch.fft.rfft(relative[:n]).real.argmax())}"
    if kind != "S" or n < 2:
        return ""
    elements = permutations(group)
    swapped = torch.tensor([1, 0, *range(2, n)])
    at = int((elements == swapped).all(1).long().argmax())
    # The character of a transposition, over the dimension, is the sum of the contents over n (n - 1) / 2
    # (Frobenius); with the dimension it tells the partitions of n apart, as far as such tables are made.
    contents = round(float(relative[at]) * n * (n - 1) / 2)
    fitting = [p for p in _partitions(n, n) if (_contents(p), _hooks(p)) == (contents, dimension)]
    return f"({', '.join(map(str, fitting[0]))})" if len(fitting) == 1 else ""


def _partitions(n: int, most: int) -> Iterator[tuple[int, ...]]:
    if n == 0:
        yield ()
    for first in range(min(n, most), 0, -1):
        yield from ((first, *rest) for rest in _partitions(n - first, first))


def _contents(partition: tuple[int, ...]) -> int:
    """The sum of column less row over the cells of the diagram."""
    return sum(column - row for row, length in enumerate(partition) for column in range(length))


def _hooks(partition: tuple[int, ...]) -> int:
    """The dimension of its representation, by the hook length formula."""
    columns = [sum(length > column for length in partition) for column in range(partition[0])]
    hooks = (
        length - column + columns[column] - row - 1
        for row, length in enumerate(partition)
        for column in range(length)
    )
    return math.factorial(sum(partition)) // math.prod(hooks)


def _group_task(name: str, symbol: str, group: str, layout: str, word: str) -> Operation:
    """The task whose answer is a `word` in a, b and A = a⁻¹."""

    def table(a: Int[Tensor, "p 1"], b: Int[Tensor, "1 p"]) -> Int[Tensor, "p p"]:
        product = cayley_table(group)
        identity = (product == torch.arange(p)).all(1).long().argmax()
        inverse = (product == identity).long().argmax(1)
        letters = {"a": a, "b": b, "A": inverse[a]}
        answer = letters[word[0]]
        for letter in word[1:]:
            answer = product[answer, letters[letter]]
        return answer

    p = order(group)
    find_circle = (lambda: residues(p, is_sum=word == "ab")) if group[0] == "C" else None
    title = f"{symbol} in {group}"
    return Operation(
        p, table, layout, lambda: Symbols(*[element_names(group)] * 2), find_circle, name=name, symbol=title
    )


@task
def group_composition(group: Group = "S5", layout: LayoutText = "a b =") -> Operation:
    """The product a b in a finite group."""
    return _group_task("group_composition", "a b", group, layout, "ab")


@task
def group_conjugation(group: Group = "S5", layout: LayoutText = "a b =") -> Operation:
    """The conjugate a b a⁻¹ in a finite group."""
    return _group_task("group_conjugation", "a b a⁻¹", group, layout, "abA")


@task
def group_aba(group: Group = "S5", layout: LayoutText = "a b =") -> Operation:
    """The product a b a in a finite group."""
    return _group_task("group_aba", "a b a", group, layout, "aba")
