"""Isomorphisms of groups from their tables: against known numbers of automorphisms, on tables with wrong
entries, and under other names of the three places."""

from __future__ import annotations

import itertools

import pytest
import torch

from grokinterp.tasks import isomorphism, nearest_isotope
from grokinterp.tasks.groups import cayley_table
from test_irreps import LOOP, quaternions


def product_of_cycles(*orders: int) -> torch.Tensor:
    """The table of C_a x C_b x ..., the last factor going fastest."""
    elements = list(itertools.product(*map(range, orders)))
    number = {element: i for i, element in enumerate(elements)}
    sums = (
        [number[tuple((x + y) % n for x, y, n in zip(a, b, orders, strict=True))] for b in elements]
        for a in elements
    )
    return torch.tensor(list(sums))


def table_of(name: str) -> torch.Tensor:
    if name == "Q8":
        return quaternions()
    if "x" in name:
        return product_of_cycles(*(int(factor[1:]) for factor in name.split("x")))
    return cayley_table(name)


AUTOMORPHISMS = {
    "C2": 1, "C7": 6, "C12": 4, "C2xC2": 6, "C2xC4": 8, "C3xC3": 48, "C2xC2xC2": 168, "S3": 6, "S4": 24,
    "S5": 120, "A4": 24, "A5": 120, "D4": 8, "D7": 42, "D59": 59 * 58, "Q8": 24,
}  # fmt: skip
"""|GL(2, 3)| = 48, |GL(3, 2)| = 168; of S_n they are n! but for S6; of D_n, n > 2, n φ(n)."""


def numbered(table: torch.Tensor, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The table under other numbers, and our number of each of these."""
    ours = torch.randperm(len(table), generator=torch.Generator().manual_seed(seed))
    return ours.argsort()[table[ours][:, ours]], ours


def keeps_products(image: torch.Tensor, product: torch.Tensor, onto: torch.Tensor) -> bool:
    return bool((image[product] == onto[image[:, None], image]).all())


@pytest.mark.parametrize("name", AUTOMORPHISMS)
def test_every_isomorphism_is_found_and_the_one_that_is_taken_is_one(name):
    onto = table_of(name)
    other, _ = numbered(onto, 0)
    found = isomorphism(other, onto)
    assert found.n_found == AUTOMORPHISMS[name]
    assert keeps_products(found.image, other, onto)
    assert sorted(found.image.tolist()) == list(range(len(onto)))


@pytest.mark.parametrize("name", ["D5", "S3", "A4", "C2xC4", "Q8"])
def test_of_several_it_is_the_first_of_those_that_keep_most_numbers(name):
    """Against all permutations that the group's own automorphisms, found one by one, allow."""
    onto = table_of(name)
    other, ours = numbered(onto, 3)
    ways = [
        turn[ours]
        for images in itertools.permutations(range(len(onto)), 2)
        if (turn := extended(onto, images)) is not None
    ]
    kept = [int((way == torch.arange(len(onto))).sum()) for way in ways]
    best = min(way.tolist() for way, n in zip(ways, kept, strict=True) if n == max(kept))
    assert isomorphism(other, onto).image.tolist() == best
    assert isomorphism(onto, onto).image.tolist() == list(range(len(onto)))


def extended(onto, images):
    """The automorphism that takes two fixed generators to two elements; None where there is none."""
    p = len(onto)
    for g, h in itertools.combinations(range(p), 2):
        words = {g: images[0], h: images[1]}
        grown = True
        while grown:
            grown = False
            for a, b in itertools.product(list(words), repeat=2):
                if int(onto[a, b]) not in words:
                    words[int(onto[a, b])] = int(onto[words[a], words[b]])
                    grown = True
        if len(words) == p:
            image = torch.tensor([words[i] for i in range(p)])
            is_one = len(image.unique()) == p and keeps_products(image, onto, onto)
            return image if is_one else None
    return None


@pytest.mark.parametrize(
    ("one", "other"),
    [("S4", "D12"), ("A5", "D30"), ("Q8", "D4"), ("C8", "C2xC4"), ("C4", "C2xC2"), ("C7", "C8")],
)
def test_different_groups_have_no_isomorphism(one, other):
    assert isomorphism(table_of(one), table_of(other)) is None


def test_two_names_of_one_group_have_one():
    assert keeps_products(
        isomorphism(cayley_table("D3"), cayley_table("S3")).image, cayley_table("D3"), cayley_table("S3")
    )
    assert isomorphism(cayley_table("C15"), product_of_cycles(3, 5)).n_found == 8


def test_a_table_of_no_group_is_refused():
    with pytest.raises(ValueError, match="tables of groups"):
        isomorphism(LOOP, LOOP)


# What is nearly a group's table


def with_wrong_entries(table: torch.Tensor, share: float, seed: int = 0) -> torch.Tensor:
    draw = torch.Generator().manual_seed(seed)
    wrong = torch.rand(table.shape, generator=draw) < share
    return torch.where(wrong, torch.randint(len(table), table.shape, generator=draw), table)


@pytest.mark.parametrize("name", ["D7", "S4", "A5", "A4", "C31"])
@pytest.mark.parametrize("share", [0.0, 0.05, 0.2])
def test_a_group_is_seen_through_wrong_entries(name, share):
    table, _ = numbered(table_of(name), 1)
    found = nearest_isotope(with_wrong_entries(table, share))
    torch.testing.assert_close(found.product, table)
    assert found.a.tolist() == found.b.tolist() == list(range(len(table)))


def test_what_is_no_group_is_none():
    draw = torch.Generator().manual_seed(0)
    for table in (
        LOOP,
        torch.randint(24, (24, 24), generator=draw),
        torch.zeros(5, 5, dtype=torch.long),
        torch.arange(7)[:, None] * torch.arange(7) % 7,
    ):
        assert nearest_isotope(table) is None
    assert nearest_isotope(with_wrong_entries(cayley_table("S4"), 0.8)) is None


@pytest.mark.parametrize("name", ["D7", "S4", "C2xC4", "C13"])
def test_a_group_under_other_names_of_each_place_is_found(name):
    """T[α i, β j] = γ (i j) for three permutations."""
    table = table_of(name)
    p = len(table)
    a, b, c = (torch.randperm(p, generator=torch.Generator().manual_seed(seed)) for seed in range(3))
    found = nearest_isotope(c[table][a.argsort()][:, b.argsort()])
    rows, columns = torch.cartesian_prod(torch.arange(p), torch.arange(p)).unbind(1)
    assert torch.equal(
        found.product[found.a[rows], found.b[columns]], c[table][a.argsort()][:, b.argsort()].flatten()
    )
    assert keeps_products(isomorphism(found.product, table).image, found.product, table)


@pytest.mark.parametrize("name", ["D7", "S4", "C2xC4", "C13"])
def test_operands_that_share_their_names_are_seen_to(name):
    table = table_of(name)
    p = len(table)
    a, c = (torch.randperm(p, generator=torch.Generator().manual_seed(seed)) for seed in range(2))
    other = c[table][a.argsort()][:, a.argsort()]
    found = nearest_isotope(other)
    operands, answers = found.shares_operands()
    assert torch.equal(found.product[operands][:, operands], answers[other])
    # Of a b⁻¹ no renaming makes both places the same, unless each square is the identity.
    inverse = (table == 0).long().argmax(1)
    assert nearest_isotope(table[:, inverse]).shares_operands() is None
    assert nearest_isotope(table_of("C2xC2xC2")).shares_operands() is not None
