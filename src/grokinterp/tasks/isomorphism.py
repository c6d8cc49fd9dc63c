"""Is this table that of a known group under other numbers? Pure group theory: tables of products in, numbers
of elements out.

A homomorphism is known by the images of generators, so an isomorphism is looked for among the few tuples of
elements that have the orders of the generators, as many square roots and as many elements that commute with
them. Of D59 these are 58 · 59, of S5 200.

What a network answers is a table with wrong entries. In a group each product (x d) b is x (d b), which says
of every entry what it is, once for each d: the majority mends a table in which few entries are wrong.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from .table import Table, group_identity

_ROUNDS = 4
"""Times that a table is mended by majority: more change nothing."""
_MOST_MENDED = 1000
"""Elements of a table with wrong entries; mending takes the cube of it."""
_BASES = 8
"""Rows without a double answer at which a table without an identity is tried."""
_CELLS = 4_000_000
"""Images that are made at a time, and as many of one isomorphism are enough to choose from others."""
_ENOUGH = 100 * _CELLS


@dataclass(frozen=True, eq=False)
class Isotope:
    """A table as that of a group whose elements are numbered as its answers are.

    Attributes:
        product: the table of the group.
        a: the element that each first operand is.
        b: the same for second operands. Where the table is that of a group, all are themselves.
    """

    product: Int[Tensor, "p p"]
    a: Int[Tensor, "p"]
    b: Int[Tensor, "p"]

    def shares_operands(self) -> Int[Tensor, "2 p"] | None:
        """The element that each operand is, first or second, and for each answer the element that it then
        is, as two rows; None where an operand is not the same in both places under any names of the answers.

        With other names u a w, w⁻¹ b v and u c v of the three places the table stays a group's. They make
        a and b the same where b is g a g⁻¹ for some g: then with g a, b g and g c g.
        """
        inverse = inverses(self.product)
        turned = self.product[self.product[:, self.a], inverse[:, None]]  # [g, i] -> g a_i g⁻¹
        fits = (turned == self.b).all(1)
        if not fits.any():
            return None
        g = int(fits.long().argmax())
        return torch.stack([self.product[g, self.a], self.product[self.product[g], g]])


def inverses(product: Table) -> Int[Tensor, "p"]:
    """The number of each element's inverse in a group."""
    identity = (product == torch.arange(len(product))).all(1).long().argmax()
    return (product == identity).long().argmax(1)


def nearest_isotope(table: Table) -> Isotope | None:
    """The group whose table this is but for wrong entries, if need be under other names of the operands; None
    where it is that of no group. Every answer is a number 0 .. p-1."""
    p = len(table)
    numbers = torch.arange(p)
    if p < 2 or int(table.min()) < 0 or int(table.max()) >= p:
        return None
    as_identity = (table == numbers).sum(1) + (table == numbers[:, None]).sum(0)
    e = int(as_identity.argmax())
    if int(as_identity[e]) > p and (product := _mended(table, e)) is not None:
        return Isotope(product, numbers, numbers)
    is_row, is_column = ((one.sort(1).values == numbers).all(1) for one in (table, table.T))
    for base in (is_row & is_column).nonzero().flatten()[:_BASES].tolist():
        # T[a, b] is a' b' where a' = T[a, base] and b' = T[base, b]: a table with the identity T[base, base].
        a, b = table[:, base], table[base]
        product = _mended(table[a.argsort()][:, b.argsort()], int(table[base, base]))
        if product is not None:
            return Isotope(product, a, b)
    return None


def _mended(table: Table, identity: int) -> Table | None:
    """The group's table that this is but for less than half of its entries, in which the identity is that
    element."""
    p, given = len(table), table
    table = table.clone()
    for _ in range(_ROUNDS):
        table[identity] = table[:, identity] = torch.arange(p)
        if group_identity(table) is not None:
            return table if 2 * int((table == given).sum()) > p * p else None
        if p > _MOST_MENDED:
            return None
        # (x d) b = x (d b): a vote for column b at T[x, d], of every x and d.
        votes = [
            (table * p + table[:, table[:, b]]).flatten().bincount(minlength=p * p).view(p, p).argmax(1)
            for b in range(p)
        ]
        before, table = table, torch.stack(votes, 1)
        if torch.equal(before, table):
            return None
    return None


@dataclass(frozen=True, eq=False)
class Isomorphism:
    """One way to number the elements of a group as those of another are.

    Attributes:
        image: the number there of each element.
        generators: elements of whose images it was made.
        n_found: how many such ways were found: the automorphisms of the group, where all were looked at.
    """

    image: Int[Tensor, "p"]
    generators: list[int]
    n_found: int

    @property
    def n_same(self) -> int:
        """How many elements have the same number in both."""
        return int((self.image == torch.arange(len(self.image))).sum())


def isomorphism(product: Table, onto: Int[Tensor, "q q"]) -> Isomorphism | None:
    """The isomorphism of one group onto another under which most elements keep their numbers, and of several
    such the first; None where there is none.

    Raises:
        ValueError: one of the tables is that of no group.
    """
    if len(product) != len(onto):
        return None
    identities = group_identity(product), group_identity(onto)
    if identities[0] is None or identities[1] is None:
        raise ValueError("needs tables of groups")
    kinds, kinds_onto = _kinds(product, identities[0], onto, identities[1])
    if not torch.equal(kinds.bincount(), kinds_onto.bincount()):
        return None
    generators, tree = _generated(product, identities[0], kinds)
    candidates = [(kinds_onto == kinds[g]).nonzero().flatten() for g in generators]
    best: Tensor | None = None
    n_found, p = 0, len(product)
    for images in _tuples(candidates, max(1, _CELLS // p)):
        for i, j in itertools.product(range(len(generators)), repeat=2):
            kind = kinds[product[generators[i], generators[j]]]
            images = images[kinds_onto[onto[images[:, i], images[:, j]]] == kind]
        found = torch.full((p, len(images)), identities[1])
        for element, parent, i in tree:
            found[element] = onto[found[parent], images[:, i]]
        found = found.T[_are_isomorphisms(found.T, product, onto, generators)]
        if len(found):
            n_found += len(found)
            found = found if best is None else torch.cat([best[None], found])
            best = min(found[_most_kept(found)].tolist())  # of one chunk, the first in lexicographic order
            best = torch.tensor(best)
            if n_found * p > _ENOUGH:
                break
    return None if best is None else Isomorphism(best, generators, n_found)


def _most_kept(images: Int[Tensor, "some p"]) -> Tensor:
    kept = (images == torch.arange(images.shape[1])).sum(1)
    return kept == kept.max()


def _are_isomorphisms(
    images: Int[Tensor, "some p"], product: Table, onto: Table, generators: list[int]
) -> Tensor:
    """Which of several maps are one to one, and keep the products with the generators: so with all."""
    p = images.shape[1]
    right = (images.sort(1).values == torch.arange(p)).all(1)
    for g in generators:
        right &= (images[:, product[:, g]] == onto[images, images[:, g : g + 1]]).all(1)
    return right


def _kinds(
    product: Table, identity: int, onto: Table, identity_onto: int
) -> tuple[Int[Tensor, "p"], Int[Tensor, "p"]]:
    """What kind of element each one is, in both groups: those of one kind may be each other's images."""
    both = [_marks(product, identity), _marks(onto, identity_onto)]
    _, kinds = torch.cat(both).unique(dim=0, return_inverse=True)
    return kinds[: len(product)], kinds[len(product) :]


def _marks(product: Table, identity: int) -> Int[Tensor, "p 3"]:
    """Of each element its order, how many elements commute with it, and how many square roots it has."""
    p = len(product)
    orders, power = torch.zeros(p, dtype=torch.long), torch.arange(p)
    for n in range(1, p + 1):
        orders[(power == identity) & (orders == 0)] = n
        if (orders > 0).all():
            break
        power = product[power, torch.arange(p)]
    commuting = (product == product.T).sum(1)
    return torch.stack([orders, commuting, product.diagonal().bincount(minlength=p)], 1)


_Tree = list[tuple[Tensor, Tensor, int]]


def _generated(product: Table, identity: int, kinds: Int[Tensor, "p"]) -> tuple[list[int], _Tree]:
    """Few generators, of kinds that are rare, and how each element is a product of one made before and of one
    of them: elements, those, the number of the generator; the identity is there to begin with."""
    p = len(product)
    counts = kinds.bincount()
    generators: list[int] = []
    reached, tree = _tree(product, identity, generators)
    while int(reached.sum()) < p:
        outside = (~reached).nonzero().flatten()
        # One of each kind that is there.
        kinds_there = kinds[outside]
        first = {int(kind): int(outside[kinds_there == kind][0]) for kind in kinds_there.unique()}
        grown = {g: int(_tree(product, identity, [*generators, g])[0].sum()) for g in first.values()}
        generators.append(min(grown, key=lambda g: (-grown[g], int(counts[kinds[g]]), g)))
        reached, tree = _tree(product, identity, generators)
    return generators, tree


def _tree(product: Table, identity: int, generators: list[int]) -> tuple[Tensor, _Tree]:
    reached = torch.zeros(len(product), dtype=torch.bool)
    reached[identity] = True
    new, tree = torch.tensor([identity]), []
    while len(new):
        following = []
        for i, g in enumerate(generators):
            made = product[new, g]
            is_new = ~reached[made]
            elements, parents = made[is_new], new[is_new]
            reached[elements] = True
            if len(elements):
                tree.append((elements, parents, i))
                following.append(elements)
        new = torch.cat(following) if following else new[:0]
    return reached, tree


def _tuples(candidates: list[Tensor], most: int) -> Iterator[Int[Tensor, "some generators"]]:
    """All tuples of one of each, in lexicographic order, at most so many at a time."""
    n = math.prod(map(len, candidates))
    for start in range(0, n, most):
        rest, columns = torch.arange(start, min(n, start + most)), []
        for one in reversed(candidates):
            columns.append(one[rest % len(one)])
            rest = rest // len(one)
        yield torch.stack(columns[::-1], 1) if columns else torch.zeros(n, 0, dtype=torch.long)
