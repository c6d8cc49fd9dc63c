"""What can be said of an operation by its table alone, before any network is trained: how its answers are
spread, and what it hides.

A table is [p, p], by operands a and b, of answer classes, -1 where there is no answer. Symbols
(tasks/encoding.py) say which class is which operand, and which numbers the answers are; the structure is that
of the classes, whatever they are called.

    Latin square   every answer is once in each row and in each column
    group          a Latin square with an identity, and associative
    isotopic       a group under other names of a, of b and of the answers, three permutations, as a - b is to
                   a + b mod p
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Number
from typing import Any

import torch
from jaxtyping import Bool, Float64, Int
from torch import Tensor

from ..shown import Found, Rows
from .circle import Circle
from .encoding import Symbols, named

Table = Int[Tensor, "p p"]

_PLAIN = (
    "symmetry", "antisymmetry", "antisymmetry_mod", "entropy", "majority", "latin_square", "group", "abelian",
)  # fmt: skip
"""The facts that are plain values already."""


@dataclass(frozen=True, repr=False)
class TableFacts(Found):
    """What the table of an operation shows.

    Attributes:
        symbols: what operands and answers are.
        counts: how many pairs have each answer.
        symmetry: the share of the pairs a < b with T[a, b] = T[b, a]; None where no pair has both answers.
        antisymmetry: the share with T[a, b] = -T[b, a], as numbers; None where the answers are no numbers.
        antisymmetry_mod: the same mod p; None where the answers are not the numbers 0 .. p-1.
        entropy: that of the counts over the logarithm of the number of answers that occur: 1 where all are
            alike, 0 where there is one.
        majority: the accuracy of whoever always gives the commonest answer.
        latin_square: whether it is one.
        group: whether it is the table of a group; None where answers are other symbols than operands, so that
            nothing can be composed.
        abelian: whether this group commutes; None where there is none.
        circle: where operands and answers stand on a cyclic group Z_m, found from the table; None where they
            stand on none.
        identity: the number of the operand that is the group's identity.
    """

    symbols: Symbols
    counts: tuple[int, ...]
    symmetry: float | None
    antisymmetry: float | None
    antisymmetry_mod: float | None
    entropy: float
    majority: float
    latin_square: bool
    group: bool | None
    abelian: bool | None
    identity: int | None
    circle: Circle | None

    def _in_a_line(self) -> str:
        return f"{self.structure}: {len(self.counts)} answers to {self.examples:,} pairs"

    def _as_rows(self) -> Rows:
        return [
            ("T[a, b] = T[b, a]", self.symmetry),
            ("T[a, b] = −T[b, a]", self.antisymmetry),
            ("T[a, b] = −T[b, a] mod p", self.antisymmetry_mod),
            ("entropy of the counts", self.entropy),
            ("accuracy of the commonest answer", self.majority),
            ("Latin square", self.latin_square),
            ("group", self.group),
            ("abelian", self.abelian),
        ]

    @property
    def examples(self) -> int:
        """The number of pairs that have an answer."""
        return sum(self.counts)

    @property
    def isomorphism(self) -> dict[str, list[str]] | None:
        """The names of what stands at the positions 0 .. m-1 of Z_m, as a, as b and as answer; None where
        there is no such group."""
        if self.circle is None:
            return None
        operands, answers = named(self.symbols.operands), named(self.symbols.answers)
        circle = self.circle
        places = {"a": (operands, circle.a), "b": (operands, circle.b), "answer": (answers, circle.c)}
        return {place: [names[i] for i in at.tolist()] for place, (names, at) in places.items()}

    @property
    def structure(self) -> str:
        """What the table is, in a few words."""
        p = len(self.symbols.operands)
        if self.isomorphism is not None:
            a, b, answer = self.isomorphism.values()
            names = "" if a == b == answer else " under other names"
            apart = "" if len(a) == p else f", beside {p - len(a)} of {p} operands that are no part of it"
            return f"the cyclic group of order {len(a)}{names}{apart}"
        if self.group:
            return f"{'an abelian' if self.abelian else 'a non-abelian'} group of order {p}, not cyclic"
        if self.latin_square:
            return "a Latin square, not that of a cyclic group"
        return "no Latin square, no group"

    def to_dict(self) -> dict[str, Any]:
        """The same as plain values."""
        return {
            "examples": self.examples,
            "operands": len(self.symbols.operands),
            "classes": len(self.counts),
            "counts": dict(zip(named(self.symbols.answers), self.counts, strict=True)),
            **{name: getattr(self, name) for name in _PLAIN},
            "identity": None if self.identity is None else named(self.symbols.operands)[self.identity],
            "structure": self.structure,
            "isomorphism": self.isomorphism,
        }


def table_facts(table: Table, symbols: Symbols, circle: Circle | None) -> TableFacts:
    """What the table of an operation shows; `circle` is what `cyclic` finds in it."""
    counts = table[table >= 0].bincount(minlength=len(symbols.answers))
    share = counts.double() / counts.sum()
    occurring = int((counts > 0).sum())
    entropy = float(torch.special.entr(share).sum()) / math.log(occurring) if occurring > 1 else 0.0
    upper, lower = _mirrored(table)
    same_set = set(symbols.answers) == set(symbols.operands)
    identity = group_identity(_as_operands(table, symbols)) if same_set else None
    return TableFacts(
        symbols=symbols,
        counts=tuple(counts.tolist()),
        symmetry=_share(upper == lower),
        antisymmetry=_antisymmetry(upper, lower, symbols.answers),
        antisymmetry_mod=_antisymmetry(upper, lower, symbols.answers, len(table)),
        entropy=entropy,
        majority=float(share.max()),
        latin_square=is_latin_square(table),
        group=identity is not None if same_set else None,
        abelian=None if identity is None else bool(torch.equal(table, table.T)),
        identity=identity,
        circle=circle,
    )


def _mirrored(table: Table) -> tuple[Int[Tensor, "pairs"], Int[Tensor, "pairs"]]:
    """T[a, b] and T[b, a] of all pairs a < b that have both."""
    a, b = torch.triu_indices(len(table), len(table), 1)
    upper, lower = table[a, b], table[b, a]
    both = (upper >= 0) & (lower >= 0)
    return upper[both], lower[both]


def _antisymmetry(
    upper: Tensor, lower: Tensor, answers: Sequence[object], p: int | None = None
) -> float | None:
    if not all(isinstance(answer, Number) and not isinstance(answer, complex | bool) for answer in answers):
        return None
    if p is None:
        number = {answer: i for i, answer in enumerate(answers)}
        negative = torch.tensor([number.get(-answer, -1) for answer in answers])  # type: ignore[operator]
        return _share(upper == negative[lower])
    return _share((upper + lower) % p == 0) if list(answers) == list(range(p)) else None


def _share(right: Bool[Tensor, "pairs"]) -> float | None:
    return float(right.double().mean()) if len(right) else None


def _as_operands(table: Table, symbols: Symbols) -> Table:
    """The table with every answer as the operand that has its symbol; both are the same set."""
    number = {symbol: i for i, symbol in enumerate(symbols.operands)}
    of_class = torch.tensor([number[symbol] for symbol in symbols.answers])
    return torch.where(table >= 0, of_class[table], -1)


def is_latin_square(table: Int[Tensor, "rows columns"]) -> bool:
    """Whether every one of as many answers as there are rows is once in each row and in each column."""
    if table.shape[0] != table.shape[1]:
        return False
    answers = table.unique()
    if len(answers) != len(table) or answers[0] < 0:
        return False
    return bool((table.sort(0).values == answers[:, None]).all() and (table.sort(1).values == answers).all())


def group_identity(table: Table) -> int | None:
    """The number of the identity, or None where the table, of which the answers are numbers of operands, is
    that of no group.

    Exact, and fast for thousands of elements: associativity is shown for generators, of which there are at
    most log2 of the order.
    """
    elements = torch.arange(len(table))
    if not is_latin_square(table) or int(table.max()) >= len(table):
        return None
    units = ((table == elements).all(1) & (elements == table.T).all(1)).nonzero().flatten()
    if len(units) != 1:
        return None
    # Light's test: (x g) y = x (g y) for generators g is enough, as the elements for which it holds are
    # closed under products.
    if not all(torch.equal(table[table[:, g]], table[:, table[g]]) for g in _generators(table, int(units))):
        return None
    return int(units)


def _generators(table: Table, identity: int) -> list[int]:
    """Elements of which every other is a product; each next one doubles, at least, what is reached."""
    reached, generators = torch.tensor([identity]), []
    while len(reached) < len(table):
        new = int(torch.ones(len(table), dtype=torch.bool).index_fill_(0, reached, False).long().argmax())
        generators.append(new)
        reached, before = torch.cat([reached, torch.tensor([new])]), reached
        while len(reached) > len(before):
            reached, before = table[reached][:, reached].unique(), reached
    return generators


def cyclic(table: Table, symbols: Symbols) -> Circle | None:
    """Where operands and answers stand on a cyclic group Z_m, so that T[a_i, b_j] = c_{i+j} for all i and j;
    None where on none.

    From the table alone, up to the names of a, of b and of the answers: a - b mod p has such a circle too.
    Operands whose row (or column) is no permutation, as that of 0 in a product, stand apart. Position 0 is
    the identity, or what comes nearest to one, and 1 the first operand that generates the group. With L_a the
    permutation b -> T[a, b], all L_a0⁻¹ L_a of a cyclic group are powers of one m-cycle g: b goes along its
    cycle, a_i has L_a0 gⁱ. Whether the whole table is so is then looked at, so what is found is exact.
    """
    rows, columns = _permutations(table)
    core = table[rows][:, columns]
    m = len(core)
    if m < 2 or not is_latin_square(core):
        return None
    classes = core.unique()
    core = torch.searchsorted(classes, core)
    a0, b0 = _nearest_to_identity(table, symbols, rows, columns)
    column_of = core.argsort(1)  # [a, c] -> the b with a ∘ b = c
    steps = column_of[a0][core]  # [a, b] -> L_a0⁻¹ L_a
    a1 = _first_cycle(steps, b0)
    if a1 is None:
        return None
    order = [b0]
    for _ in range(m - 1):
        order.append(int(steps[a1, order[-1]]))
    b = torch.tensor(order)
    c = core[a0, b]
    a = core[:, b0].argsort()[c]  # every c stands once in the column of b0
    i = torch.arange(m)
    if not torch.equal(core[a[:, None], b], c[(i[:, None] + i) % m]):
        return None
    return Circle(rows[a], columns[b], classes[c], True, "order found in the table")


def _permutations(table: Table) -> tuple[Int[Tensor, "rows"], Int[Tensor, "columns"]]:
    """The rows and the columns in which no answer is twice, and none is missing but where a whole row or
    column is."""
    some = table >= 0
    rows, columns = some.any(1), some.any(0)
    core = table[rows][:, columns]
    rows = rows.nonzero().flatten()[_distinct(core)]
    columns = columns.nonzero().flatten()[_distinct(core.T)]
    # A quotient has the same columns for other sets of rows, as 2 / b and 4 / b mod 6 beside 1 / b and 5 / b:
    # one set is looked at.
    if len(rows) > len(columns) > 0:
        rows = rows[_alike(table[rows][:, columns])]
    elif len(columns) > len(rows) > 0:
        columns = columns[_alike(table[rows][:, columns].T)]
    return rows, columns


def _alike(table: Int[Tensor, "rows columns"]) -> Bool[Tensor, "rows"]:
    """The rows of the first set of as many rows as there are columns that have the same answers; none where
    there is no such set."""
    _, of, counts = table.sort(1).values.unique(dim=0, return_inverse=True, return_counts=True)
    right = counts[of] == table.shape[1]
    return right & (of == of[right.long().argmax()])


def _distinct(table: Int[Tensor, "rows columns"]) -> Bool[Tensor, "rows"]:
    ordered = table.sort(1).values
    return (ordered[:, 1:] != ordered[:, :-1]).all(1) & (ordered[:, 0] >= 0)


def _nearest_to_identity(
    table: Table, symbols: Symbols, rows: Int[Tensor, "m"], columns: Int[Tensor, "m"]
) -> tuple[int, int]:
    """Of the rows and of the columns, the first that leaves most operands as they are."""
    number = {symbol: i for i, symbol in enumerate(symbols.answers)}
    itself = torch.tensor([number.get(symbol, -2) for symbol in symbols.operands])
    core = table[rows][:, columns]
    return int((core == itself[columns]).sum(1).argmax()), int((core == itself[rows, None]).sum(0).argmax())


def _first_cycle(steps: Int[Tensor, "m m"], start: int) -> int | None:
    """The first of several permutations that is one cycle."""
    m = len(steps)
    at = torch.full((m, 1), start)
    whole = torch.ones(m, dtype=torch.bool)
    for _ in range(m - 1):
        at = steps.gather(1, at)
        whole &= at[:, 0] != start
    return int(whole.long().argmax()) if whole.any() else None


def answer_numbers(symbols: Symbols) -> Float64[Tensor, "answers"]:
    """What each class is on a scale: its value where all answers are numbers, else its number among the
    classes."""
    if all(isinstance(answer, int | float) and abs(answer) < 1e15 for answer in symbols.answers):
        return torch.tensor(symbols.answers, dtype=torch.float64)
    return torch.arange(len(symbols.answers)).double()
