"""Tasks and splits: every table against loops in plain Python, every split against the code that published
it."""

from __future__ import annotations

import itertools
import random
import re

import pytest
import torch

from grokinterp.errors import ConfigError
from grokinterp.tasks import TASKS, Task, groups, make_task, modular, split, task, task_parameters

PS = [2, 3, 7, 12, 13]
"""Small, prime, composite with zero divisors, prime."""


def quotient(a: int, b: int, p: int) -> int | None:
    """The c with c b = a mod p, found by trying them all; None where b has no inverse."""
    if not any(b * c % p == 1 for c in range(p)):
        return None
    (c,) = [c for c in range(p) if c * b % p == a]
    return c


ARITHMETIC = {
    "modular_addition": lambda a, b, p: (a + b) % p,
    "modular_subtraction": lambda a, b, p: (a - b) % p,
    "modular_multiplication": lambda a, b, p: (a * b) % p,
    "modular_division": quotient,
    "x2_plus_y2": lambda a, b, p: (a * a + b * b) % p,
    "x2_plus_xy_plus_y2": lambda a, b, p: (a * a + a * b + b * b) % p,
    "x2_plus_xy_plus_y2_plus_x": lambda a, b, p: (a * a + a * b + b * b + a) % p,
    "x3_plus_xy": lambda a, b, p: (a * a * a + a * b) % p,
    "x3_plus_xy2_plus_y": lambda a, b, p: (a * a * a + a * b * b + b) % p,
    "divide_if_odd_else_subtract": lambda a, b, p: quotient(a, b, p) if b % 2 else (a - b) % p,
    "add_if_even_else_multiply": lambda a, b, p: (a * b) % p if a % 2 else (a + b) % p,
    "add_if_even_else_subtract": lambda a, b, p: (a - b) % p if a % 2 else (a + b) % p,
}
GROUP_WORDS = ["group_composition", "group_conjugation", "group_aba"]


def one_line(error: pytest.ExceptionInfo) -> str:
    message = str(error.value)
    assert message
    assert "\n" not in message
    return message


ELSEWHERE = {"point_slope", "plain_division"}
"""Operations that have a file of their own: tests/test_points.py, tests/test_division.py."""
OPERATIONS = [
    name for name in TASKS if "opaque" in task_parameters(name).model_fields and name not in ELSEWHERE
]
"""Tasks that are no operations are in tests/test_any_task.py."""


def test_every_task_is_checked_in_this_file():
    assert set(OPERATIONS) == {*ARITHMETIC, *GROUP_WORDS, "random_table"}, (
        "add the missing task to ARITHMETIC or to GROUP_WORDS"
    )


# Modular arithmetic


@pytest.mark.parametrize("p", PS)
@pytest.mark.parametrize("name", ARITHMETIC)
def test_the_table_of_an_operation_is_what_plain_python_computes(name, p):
    answers = [[ARITHMETIC[name](a, b, p) for b in range(p)] for a in range(p)]
    made = make_task(name, p=p)
    assert made.table.tolist() == [[-1 if c is None else c for c in row] for row in answers]
    assert made.pairs.tolist() == [[a, b] for a in range(p) for b in range(p) if answers[a][b] is not None]
    assert made.targets.tolist() == [c for row in answers for c in row if c is not None]


@pytest.mark.parametrize("p", [113, 97])
def test_large_primes_do_not_overflow(p):
    table = make_task("x3_plus_xy2_plus_y", p=p).table
    a = b = p - 1  # -1 mod p
    assert table[a, b] == (-1 - 1 - 1) % p
    assert table.min() == 0
    assert table.max() == p - 1


@pytest.mark.parametrize("p", PS)
def test_division_leaves_out_exactly_the_pairs_whose_divisor_has_no_inverse(p):
    made = make_task("modular_division", p=p)
    units = {b for b in range(p) if any(b * c % p == 1 for c in range(p))}
    assert {b for _, b in made.pairs.tolist()} == units
    assert made.n_inputs == p * len(units)
    for (a, b), c in zip(made.pairs.tolist(), made.targets.tolist(), strict=True):
        assert c * b % p == a


def test_composite_moduli_leave_out_the_zero_divisors_and_primes_only_zero():
    assert (make_task("modular_division", p=12).table[0] < 0).nonzero().flatten().tolist() == [
        0,
        2,
        3,
        4,
        6,
        8,
        9,
        10,
    ]
    assert (make_task("modular_division", p=13).table[0] < 0).nonzero().flatten().tolist() == [0]
    assert (make_task("divide_if_odd_else_subtract", p=12).table[0] < 0).nonzero().flatten().tolist() == [
        3,
        9,
    ]
    assert make_task("divide_if_odd_else_subtract", p=13).is_full_grid


def test_only_division_has_gaps_and_says_so():
    gaps = {name for name in ARITHMETIC if not make_task(name, p=12).is_full_grid}
    assert gaps == {"modular_division", "divide_if_odd_else_subtract"}


@pytest.mark.parametrize("p", PS)
def test_inverses_are_inverses(p):
    for b, inverse in enumerate(modular.inverses(p).tolist()):
        assert b * inverse % p == 1 if inverse >= 0 else not any(b * c % p == 1 for c in range(p))


# The random table


def test_a_random_table_is_repeatable_by_its_seed():
    first, again, other = (make_task("random_table", p=13, table_seed=seed).table for seed in (5, 5, 6))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_random_table_takes_every_answer_about_equally_often_and_does_not_commute():
    table = make_task("random_table", p=13).table
    counts = table.flatten().bincount(minlength=13)
    assert counts.shape == (13,)
    assert counts.min() >= 1
    assert counts.max() <= 4 * 13
    assert not torch.equal(table, table.T)


# Finite groups, by permutation arithmetic


def compose(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...]:
    """The product a b: first b, then a."""
    return tuple(a[b[i]] for i in range(len(a)))


def inverse(a: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(a.index(i) for i in range(len(a)))


def is_even(a: tuple[int, ...]) -> bool:
    """By its cycles: n less the number of cycles is the number of transpositions."""
    unseen, cycles = set(range(len(a))), 0
    while unseen:
        cycles += 1
        at = min(unseen)
        while at in unseen:
            unseen.remove(at)
            at = a[at]
    return (len(a) - cycles) % 2 == 0


def elements(group: str) -> list[tuple[int, ...]]:
    """The elements in the documented order, each as a permutation: of the points that it moves, of the
    corners of an n-gon."""
    kind, n = group[0], int(group[1:])
    turns = [tuple((corner + i) % n for corner in range(n)) for i in range(n)]
    if kind == "C":
        return turns
    if kind == "D":
        mirror = tuple(-corner % n for corner in range(n))
        return turns + [compose(mirror, turn) for turn in turns]
    everyone = sorted(itertools.permutations(range(n)))
    return everyone if kind == "S" else [a for a in everyone if is_even(a)]


def table_by_hand(group: str, word: str) -> list[list[int]]:
    """The numbers of the products that `word` spells in a, b and A = a⁻¹."""
    everyone = elements(group)
    number = {element: i for i, element in enumerate(everyone)}
    rows = []
    for a in everyone:
        row = []
        for b in everyone:
            letters = [{"a": a, "b": b, "A": inverse(a)}[letter] for letter in word]
            product = letters[0]
            for letter in letters[1:]:
                product = compose(product, letter)
            row.append(number[product])
        rows.append(row)
    return rows


GROUPS = ["C2", "C6", "D3", "D5", "S2", "S3", "S4", "A3", "A4"]
ORDERS = {
    "C2": 2,
    "C113": 113,
    "D3": 6,
    "D5": 10,
    "D59": 118,
    "S2": 2,
    "S3": 6,
    "S4": 24,
    "S5": 120,
    "A3": 3,
    "A4": 12,
    "A5": 60,
}


@pytest.mark.parametrize("group", [*GROUPS, "S5"])
def test_the_cayley_table_is_that_of_the_permutations_in_the_documented_order(group):
    assert groups.cayley_table(group).tolist() == table_by_hand(group, "ab")


@pytest.mark.parametrize("group", [*GROUPS, "A5"])
def test_the_cayley_table_is_a_group(group):
    product = groups.cayley_table(group)
    everyone = torch.arange(len(product))
    assert torch.equal(
        product.sort(dim=0).values, everyone[:, None].expand_as(product)
    )  # every column holds every element
    assert torch.equal(product.sort(dim=1).values, everyone.expand_as(product))
    assert torch.equal(product[0], everyone)  # element 0 is the identity
    assert torch.equal(product[:, 0], everyone)
    right, left = (product == 0).long().argmax(1), (product == 0).long().argmax(0)
    assert torch.equal(right, left)  # inverses on both sides
    assert torch.equal(product[product], product[:, product])  # (a b) c = a (b c)


@pytest.mark.parametrize(("group", "order"), ORDERS.items())
def test_a_group_has_as_many_elements_as_its_order(group, order):
    made = make_task("group_composition", group=group)
    assert made.p == made.n_answers == groups.order(group) == order
    assert made.table.shape == (order, order)
    assert made.is_full_grid


@pytest.mark.parametrize(
    ("group", "abelian"),
    [("C6", True), ("S2", True), ("A3", True), ("D3", False), ("S3", False), ("A4", False)],
)
def test_only_the_abelian_groups_commute(group, abelian):
    product = groups.cayley_table(group)
    assert torch.equal(product, product.T) == abelian


def test_the_product_applies_its_right_factor_first():
    number = {element: i for i, element in enumerate(sorted(itertools.permutations(range(3))))}
    swap_01, swap_12 = (1, 0, 2), (0, 2, 1)
    first_12_then_01 = (1, 2, 0)  # 0 -> 0 -> 1, 1 -> 2 -> 2, 2 -> 1 -> 0
    assert groups.cayley_table("S3")[number[swap_01], number[swap_12]] == number[first_12_then_01]


def test_a_reflection_turns_a_rotation_around():
    n, product = 5, groups.cayley_table("D5")
    rotation, reflection = 1, n
    inverse_rotation = n - 1
    assert product[rotation, reflection] == product[reflection, inverse_rotation] == n + n - 1


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize(
    ("name", "word"), [("group_composition", "ab"), ("group_conjugation", "abA"), ("group_aba", "aba")]
)
def test_group_tasks_are_words_in_permutations(name, word, group):
    assert make_task(name, group=group).table.tolist() == table_by_hand(group, word)


def test_cyclic_groups_are_modular_addition_and_the_only_ones_with_frequencies():
    assert torch.equal(
        make_task("group_composition", group="C13").table, make_task("modular_addition", p=13).table
    )
    assert make_task("group_composition", group="C13").circle is not None
    assert all(make_task("group_composition", group=group).circle is None for group in ("D5", "S3", "A4"))


def test_elements_have_the_documented_names():
    assert groups.element_names("C3") == ("r0", "r1", "r2")
    assert groups.element_names("D3") == ("r0", "r1", "r2", "sr0", "sr1", "sr2")
    assert groups.element_names("S3") == ("012", "021", "102", "120", "201", "210")
    assert groups.element_names("A3") == ("012", "120", "201")


# Tokens


@pytest.mark.parametrize(
    ("layout", "expected"),
    [
        ("a b =", [[0, 1, 3], [0, 2, 3], [1, 1, 3], [1, 2, 3], [2, 1, 3], [2, 2, 3]]),
        ("a op b =", [[0, 3, 1, 4], [0, 3, 2, 4], [1, 3, 1, 4], [1, 3, 2, 4], [2, 3, 1, 4], [2, 3, 2, 4]]),
    ],
)
def test_an_example_is_its_tokens_in_table_order(layout, expected):
    made = make_task("modular_division", p=3, layout=layout)
    assert made.inputs.tolist() == expected
    assert made.targets.tolist() == [0, 0, 1, 2, 2, 1]  # a/1 = a and a/2 = 2a mod 3
    assert made.reads.n_ctx == len(expected[0])
    assert made.reads.d_vocab == len(made.encoding.names) == 1 + max(max(row) for row in expected)


def test_tokens_are_named_after_elements_operator_and_equals_sign():
    assert make_task("modular_addition", p=3).encoding.names == ("0", "1", "2", "=")
    assert make_task("modular_addition", p=3, layout="a op b =").encoding.names == ("0", "1", "2", "∘", "=")
    assert make_task("group_composition", group="A3").encoding.names == ("012", "120", "201", "=")


@pytest.mark.parametrize("name", OPERATIONS)
def test_the_parameters_of_a_task_make_it_again(name):
    made = make_task(name, **({"group": "D5"} if name in GROUP_WORDS else {"p": 5}), layout="a op b =")
    again = make_task(made.name, **made.params)
    assert again == made
    assert torch.equal(again.table, made.table)
    assert again.symbol


# Splits

N = 113 * 113
N_TRAIN = int(0.3 * N)


def test_python_shuffle_is_the_published_split_of_nanda_et_al():
    pairs = [(i, j, 113) for i in range(113) for j in range(113)]
    random.seed(0)
    random.shuffle(pairs)
    assert N_TRAIN == 3830
    found = split(N, 0.3, "python_shuffle", seed=0)
    task_pairs = make_task("modular_addition", p=113).pairs
    assert [(a, b, 113) for a, b in task_pairs[found.train].tolist()] == pairs[:3830]
    assert [(a, b, 113) for a, b in task_pairs[found.test].tolist()] == pairs[3830:]


def test_torch_randperm_is_the_split_of_the_grokking_demo():
    torch.manual_seed(598)
    order = torch.randperm(N)
    found = split(N, 0.3, "torch_randperm", seed=598)
    assert torch.equal(found.train, order[:3830])
    assert torch.equal(found.test, order[3830:])
    first = make_task("modular_addition", p=113).pairs[found.train[:5]]
    assert [tuple(pair) for pair in first.tolist()] == [(21, 31), (30, 98), (47, 10), (86, 21), (99, 83)]


recipes = pytest.mark.parametrize("recipe", ["python_shuffle", "torch_randperm"])


@recipes
@pytest.mark.parametrize(("n", "fraction"), [(2, 0.5), (49, 0.3), (100, 0.99), (N, 0.3)])
def test_train_and_test_part_the_table(recipe, n, fraction):
    found = split(n, fraction, recipe, seed=3)
    assert len(found.train) == int(fraction * n)
    assert sorted(found.train.tolist() + found.test.tolist()) == list(range(n))


@recipes
def test_a_split_is_repeatable_by_its_seed(recipe):
    first, again, other = (split(49, 0.5, recipe, seed).train.tolist() for seed in (1, 1, 2))
    assert first == again
    assert first != other


@recipes
def test_neither_a_split_nor_a_random_table_touches_the_global_generators(recipe):
    task = make_task("random_table", p=5)
    before = random.getstate(), torch.get_rng_state()
    split(49, 0.5, recipe)
    _ = task.table
    assert random.getstate() == before[0]
    assert torch.equal(torch.get_rng_state(), before[1])


@recipes
@pytest.mark.parametrize(
    ("n", "fraction"), [(4, 0.2), (49, 0.02), (49, 0.0), (49, 1.0), (49, 1.5), (49, -0.5), (1, 0.5)]
)
def test_a_split_that_leaves_nothing_to_train_or_to_test_on_is_refused(recipe, n, fraction):
    with pytest.raises(
        ConfigError, match=rf"^training\.fraction: {fraction} of {n} examples leaves"
    ) as error:
        split(n, fraction, recipe)
    one_line(error)


# The registry, and what it refuses


def test_a_second_task_of_the_same_name_is_refused():
    def modular_addition(p: int = 2) -> Task:
        raise NotImplementedError

    before = dict(TASKS)
    with pytest.raises(ValueError, match="two tasks are named 'modular_addition'"):
        task(modular_addition)
    assert dict(TASKS) == before


def test_an_unknown_task_is_refused_with_the_nearest_name():
    with pytest.raises(
        ConfigError, match="unknown task 'modular_additon'; did you mean 'modular_addition'"
    ) as error:
        make_task("modular_additon")
    one_line(error)
    with pytest.raises(ConfigError, match=r"unknown task 'sorting'; known: .*modular_addition.*x2_plus_y2"):
        TASKS["sorting"]


@pytest.mark.parametrize(
    ("name", "params", "says"),
    [
        ("modular_addition", {"p": 1}, "task.p: input should be greater than or equal to 2, got 1"),
        ("modular_addition", {"p": True}, "task.p: takes no yes or no, got True"),
        ("modular_addition", {"p": 0}, "task.p: .* got 0"),
        ("modular_addition", {"p": -7}, "task.p: .* got -7"),
        ("modular_addition", {"p": 2.5}, "task.p: .* got 2.5"),
        ("modular_addition", {"p": float("nan")}, "task.p: .* got nan"),
        ("modular_addition", {"p": None}, "task.p: .* got None"),
        ("modular_addition", {"p": [7]}, r"task.p: .* got \[7\]"),
        ("modular_addition", {"p": "many"}, "task.p: .* got 'many'"),
        ("modular_addition", {"p": 10**30}, "task.p: .* less than or equal to 2147483648"),
        ("modular_addition", {"q": 7}, "unknown key 'task.q'; known: convention, layout, noise, opaque, p"),
        ("modular_addition", {"layot": "a b ="}, "unknown key 'task.layot'; did you mean 'layout'"),
        (
            "modular_addition",
            {"layout": "a c"},
            "task.layout: needs a and b once each .*, for example 'a op b =', got 'a c'",
        ),
        ("random_table", {"p": 5, "table_seed": -1}, "task.table_seed: .* got -1"),
        ("random_table", {"p": 5, "table_seed": True}, "task.table_seed: takes no yes or no, got True"),
        ("group_composition", {"group": "E8"}, "task.group: needs a group such as .*S5.* got 'E8'"),
        ("group_composition", {"group": "S1"}, "task.group: needs a group"),
        ("group_composition", {"group": "S5\n"}, "task.group: needs a group"),
        ("group_composition", {"group": 5}, "task.group: needs a group"),
        ("group_composition", {"p": 5}, "unknown key 'task.p'"),
    ],
)
def test_a_bad_parameter_is_refused_in_one_line_that_names_it(name, params, says):
    with pytest.raises(ConfigError) as error:
        make_task(name, **params)
    assert re.search(says, one_line(error))


def test_several_bad_parameters_are_counted():
    with pytest.raises(ConfigError, match=r"\(and 1 more\)$"):
        make_task("modular_addition", p=1, layout="a c")


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("modular_addition", {"p": 2**31}),
        ("modular_division", {"p": 10**7}),
        ("group_composition", {"group": "S99"}),
        ("group_conjugation", {"group": "A12"}),
        ("group_aba", {"group": "D999999"}),
    ],
)
def test_a_table_that_cannot_fit_is_refused_with_an_estimate_before_it_is_built(name, params):
    with pytest.raises(ConfigError) as error:
        make_task(name, **params)
    assert re.search(r"table alone needs about [\d.]+(e\+\d+)? GB, and [\d.]+ GB are free", one_line(error))


def test_the_estimate_is_of_tokens_answers_and_table_in_int64(monkeypatch):
    p, bytes_needed = (
        100,
        8 * 100**2 * (3 + 3),
    )  # tokens: 3 a pair; pairs' answers, the table, and one temporary
    monkeypatch.setattr("grokinterp.tasks.operation.free_memory", lambda: 2.0 * bytes_needed)
    make_task("modular_addition", p=p)
    monkeypatch.setattr("grokinterp.tasks.operation.free_memory", lambda: 2.0 * bytes_needed - 1)
    with pytest.raises(ConfigError, match=f"about {bytes_needed / 1e9:.3g} GB"):
        make_task("modular_addition", p=p)
