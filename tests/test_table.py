"""What a table shows before any training: exact facts of known operations, and cyclic groups found under any
names."""

from __future__ import annotations

import functools
import json
import math
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import grokinterp as gi
from grokinterp.errors import ConfigError
from grokinterp.tasks import Symbols, make_task
from grokinterp.tasks.circle import differences, logarithms, residues
from grokinterp.tasks.groups import cayley_table
from grokinterp.tasks.table import cyclic, group_identity, is_latin_square


def facts_of(name: str, **params: object) -> gi.tasks.TableFacts:
    return make_task(name, **params).facts


# The facts of the code with Julia's conventions (reference systems, 1.4): p = 97, 9,409 rows

JULIA = [
    # name, classes, largest and smallest count, symmetry, entropy ratio to the printed digits
    ("modular_addition", 97, 97, 97, Fraction(1), 1.0, 3),
    ("modular_subtraction", 193, 97, 1, Fraction(0), 0.964, 3),
    ("divide_if_odd_else_subtract", 192, 2401, 1, Fraction(1, 4656), 0.736, 3),
    ("x3_plus_xy2_plus_y", 97, 113, 77, Fraction(47, 4656), 0.9989, 4),
]


@pytest.mark.parametrize(("name", "classes", "largest", "smallest", "symmetry", "entropy", "digits"), JULIA)
def test_the_exact_facts_of_the_julia_convention(name, classes, largest, smallest, symmetry, entropy, digits):
    facts = facts_of(name, p=97, convention="julia")
    assert facts.examples == 97 * 97 == 9409
    assert len(facts.counts) == classes
    assert (max(facts.counts), min(facts.counts)) == (largest, smallest)
    assert facts.symmetry == pytest.approx(float(symmetry), abs=1e-12)
    assert round(facts.entropy, digits) == entropy
    assert facts.majority == pytest.approx(largest / 9409)


def test_integer_subtraction_has_triangular_counts_and_the_asymmetric_operation_a_heavy_zero():
    subtraction = facts_of("modular_subtraction", p=97, convention="julia")
    assert dict(zip(subtraction.symbols.answers, subtraction.counts, strict=True)) == {
        c: 97 - abs(c) for c in range(-96, 97)
    }
    assert subtraction.antisymmetry == 1
    asymmetric = facts_of("divide_if_odd_else_subtract", p=97, convention="julia")
    assert asymmetric.counts[asymmetric.symbols.answers.index(0)] == 2401
    assert round(100 * asymmetric.majority, 1) == 25.5


def written_out(task: gi.Task) -> dict[str, object]:
    """The scores by their definitions, pair by pair."""
    value = {
        tuple(pair): task.symbols.answers[c]
        for pair, c in zip(task.pairs.tolist(), task.targets.tolist(), strict=True)
    }
    pairs = [(value[a, b], value[b, a]) for a, b in value if a < b and (b, a) in value]
    counts = Counter(value.values())
    total = sum(counts.values())
    entropy = -sum(n / total * math.log(n / total) for n in counts.values())
    return {
        "symmetry": sum(x == y for x, y in pairs) / len(pairs),
        "antisymmetry": sum(x == -y for x, y in pairs) / len(pairs),
        "entropy": entropy / math.log(len(counts)),
        "majority": max(counts.values()) / total,
        "counts": {str(c): counts[c] for c in task.symbols.answers},
    }


OPERATIONS = [name for name in gi.TASKS if "p" in gi.tasks.task_parameters(name).model_fields]


@pytest.mark.parametrize("p", [2, 7, 12])
@pytest.mark.parametrize("convention", ["paper", "julia"])
@pytest.mark.parametrize("name", OPERATIONS)
def test_the_scores_are_their_definitions(name, convention, p):
    reading = {"paper": "quotient", "julia": "integer"}[convention]
    own = {"random_table": {}, "plain_division": {"reading": reading}}
    task = make_task(name, p=p, **own.get(name, {"convention": convention}))
    if not any((b, a) in set(map(tuple, task.pairs.tolist())) for a, b in task.pairs.tolist() if a < b):
        assert task.facts.symmetry is None
        return
    found, expected = task.facts.to_dict(), written_out(task)
    assert found["counts"] == expected.pop("counts")
    for key, value in expected.items():
        assert found[key] == pytest.approx(value, abs=1e-12), key


def test_antisymmetry_is_of_numbers_and_mod_p_where_the_answers_are_the_residues():
    assert facts_of("modular_subtraction", p=13).antisymmetry_mod == 1
    assert facts_of("modular_subtraction", p=13).antisymmetry == 0
    assert facts_of("modular_subtraction", p=13, convention="julia").antisymmetry_mod is None
    assert facts_of("group_composition", group="S3").antisymmetry is None


def test_facts_are_plain_values():
    for task in (
        make_task("modular_division", p=7),
        make_task("group_composition", group="S3"),
        make_task("random_table", p=5),
    ):
        assert json.loads(json.dumps(task.facts.to_dict(), allow_nan=False)) == task.facts.to_dict()


# Structure


APART = ", beside 1 of 7 operands that are no part of it"


@pytest.mark.parametrize(
    ("name", "params", "latin", "group", "abelian", "structure"),
    [
        ("modular_addition", {"p": 12}, True, True, True, "the cyclic group of order 12"),
        (
            "modular_subtraction",
            {"p": 12},
            True,
            False,
            None,
            "the cyclic group of order 12 under other names",
        ),
        (
            "modular_addition",
            {"p": 12, "convention": "julia"},
            True,
            None,
            None,
            "the cyclic group of order 12 under other names",
        ),
        ("modular_multiplication", {"p": 7}, False, False, None, "the cyclic group of order 6" + APART),
        ("modular_multiplication", {"p": 8}, False, False, None, "no Latin square, no group"),
        (
            "group_composition",
            {"group": "S4"},
            True,
            True,
            False,
            "a non-abelian group of order 24, not cyclic",
        ),
        (
            "group_composition",
            {"group": "D59"},
            True,
            True,
            False,
            "a non-abelian group of order 118, not cyclic",
        ),
        ("group_composition", {"group": "A3"}, True, True, True, "the cyclic group of order 3"),
        (
            "modular_subtraction",
            {"p": 12, "convention": "julia"},
            False,
            None,
            None,
            "no Latin square, no group",
        ),
        ("random_table", {"p": 12}, False, False, None, "no Latin square, no group"),
        ("x2_plus_y2", {"p": 12}, False, False, None, "no Latin square, no group"),
    ],
)
def test_the_structure_of_known_tables(name, params, latin, group, abelian, structure):
    facts = facts_of(name, **params)
    assert (facts.latin_square, facts.group, facts.abelian, facts.structure) == (
        latin,
        group,
        abelian,
        structure,
    )


def test_an_abelian_group_that_is_not_cyclic_and_a_latin_square_that_is_no_group():
    klein = gi.Task.of_function(lambda a, b: a ^ b, p=4)
    assert (klein.facts.group, klein.facts.abelian, klein.facts.circle) == (True, True, None)
    assert klein.facts.structure == "an abelian group of order 4, not cyclic"
    quotient = cayley_table("S3")[:, (cayley_table("S3") == 0).long().argmax(1)].tolist()
    task = gi.Task.of_function(lambda a, b: quotient[a][b], p=6)
    assert (task.facts.latin_square, task.facts.group, task.facts.circle) == (True, False, None)
    assert task.facts.structure == "a Latin square, not that of a cyclic group"


def test_a_group_is_one_whatever_the_order_of_its_answers_and_its_identity_is_named():
    """The same symbols as operands and as answers, given in another order."""
    words = ["e", "r", "s", "t"]
    task = gi.Task.of_function(
        lambda a, b: words[(words.index(a) + words.index(b)) % 4], operands=["t", "e", "s", "r"]
    )
    assert task.facts.group
    assert task.facts.to_dict()["identity"] == "e"


def associative(table: torch.Tensor) -> bool:
    """All n³ triples."""
    everything = range(len(table))
    t = table.tolist()
    return all(t[t[a][b]][c] == t[a][t[b][c]] for a in everything for b in everything for c in everything)


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 6), st.randoms(use_true_random=False))
def test_a_group_is_a_latin_square_with_identity_that_is_associative(n, random):
    """Latin squares: tables of Z_n and of groups with rows, columns and answers permuted."""
    table = cayley_table("S3") if n == 6 and random.random() < 0.5 else cayley_table(f"C{n}")
    n = len(table)
    rows, columns, answers = (
        torch.tensor(random.sample(range(n), n)) if random.random() < 0.7 else torch.arange(n)
        for _ in range(3)
    )
    table = answers[table[rows][:, columns]]
    own = torch.arange(n)
    units = [e for e in range(n) if torch.equal(table[e], own) and torch.equal(table[:, e], own)]
    assert is_latin_square(table)
    assert group_identity(table) == (units[0] if units and associative(table) else None)


# The circle, from the table alone


def plain(p: int) -> Symbols:
    return Symbols(tuple(range(p)), tuple(range(p)))


@pytest.mark.parametrize("p", range(2, 60))
@pytest.mark.parametrize(
    ("name", "closed_form"),
    [
        ("modular_addition", residues),
        ("modular_subtraction", differences),
        ("modular_multiplication", logarithms),
        ("modular_division", lambda p: logarithms(p, divided=True)),
    ],
)
def test_the_table_alone_gives_what_the_closed_forms_give(name, closed_form, p):
    found, known = cyclic(make_task(name, p=p).table, plain(p)), closed_form(p)
    assert (found is None) == (known is None)
    if known is not None:
        assert found.is_sum
        assert all(
            torch.equal(x, y)
            for x, y in zip((found.a, found.b, found.c), (known.a, known.b, known.c), strict=True)
        )


def verifies(table: torch.Tensor, circle: gi.tasks.Circle) -> bool:
    a, b, c = circle.a.tolist(), circle.b.tolist(), circle.c.tolist()
    m = circle.m
    distinct = len(set(a)) == len(set(b)) == len(set(c)) == m
    return distinct and all(table[a[i], b[j]] == c[(i + j) % m] for i in range(m) for j in range(m))


@settings(max_examples=80, deadline=None)
@given(st.integers(2, 24), st.integers(0, 2), st.randoms(use_true_random=False))
def test_a_cyclic_table_under_any_three_names_gives_a_circle_that_verifies(m, absorbing, random):
    """With operands that swallow everything beside it, as 0 does in a product (one alone leaves rows that are
    permutations)."""
    extra = min(absorbing, 1)
    p = m + extra
    table = torch.full((p, p), m)
    table[:m, :m] = cayley_table(f"C{m}")
    rows, columns, answers = (torch.tensor(random.sample(range(p), p)) for _ in range(3))
    table = answers[table[rows][:, columns]]
    circle = cyclic(table, plain(p))
    assert circle is not None
    assert circle.m == m
    assert verifies(table, circle)


@settings(max_examples=40, deadline=None)
@given(st.integers(4, 16), st.randoms(use_true_random=False))
def test_one_wrong_answer_and_there_is_no_circle(m, random):
    table = cayley_table(f"C{m}").clone()
    a, b = random.randrange(m), random.randrange(m)
    table[a, b] = (table[a, b] + random.randrange(1, m)) % m
    assert cyclic(table, plain(m)) is None


@pytest.mark.parametrize("group", ["S3", "S4", "S5", "A4", "A5", "D4", "D59"])
def test_groups_that_are_not_cyclic_have_no_circle_under_any_names(group):
    table = cayley_table(group)
    generator = torch.Generator().manual_seed(0)
    rows, columns, answers = (torch.randperm(len(table), generator=generator) for _ in range(3))
    assert cyclic(table, plain(len(table))) is None
    assert cyclic(answers[table[rows][:, columns]], plain(len(table))) is None


def test_sums_of_cyclic_groups_have_a_circle_exactly_where_they_are_cyclic():
    for m, n in [(2, 2), (2, 3), (3, 3), (3, 4), (4, 6), (5, 7)]:
        x = torch.arange(m * n)
        table = (x[:, None] // n + x // n) % m * n + (x[:, None] % n + x % n) % n
        assert (cyclic(table, plain(m * n)) is not None) == (math.gcd(m, n) == 1)


def test_random_tables_and_integer_subtraction_have_no_circle():
    assert all(make_task("random_table", p=p, table_seed=p).facts.circle is None for p in (5, 12, 31))
    assert make_task("modular_subtraction", p=31, convention="julia").circle is None
    assert make_task("divide_if_odd_else_subtract", p=31, convention="julia").circle is None


def test_the_isomorphism_is_told_in_symbols():
    facts = facts_of("modular_addition", p=5, convention="julia")
    assert facts.isomorphism == {"a": list("51234"), "b": list("51234"), "answer": list("01234")}
    assert facts_of("group_composition", group="S3").isomorphism is None
    notes = ["do", "re", "mi"]
    task = gi.Task.of_function(lambda a, b: notes[(notes.index(a) + notes.index(b) + 1) % 3], operands=notes)
    assert task.facts.to_dict()["identity"] == "mi"
    assert task.facts.isomorphism["a"] == ["mi", "do", "re"]


def test_a_table_of_500_elements_is_analysed():
    facts = facts_of("modular_subtraction", p=499)
    assert facts.structure == "the cyclic group of order 499 under other names"


# The command


def test_the_command_prints_the_facts(grokinterp, tmp_path):
    code, out, _ = grokinterp("table", "modular_subtraction", "--p", "97", "--set", "task.convention=julia")
    assert code == 0
    assert "193 answers to 9,409 pairs" in out
    assert "(a − b) % 97 in Julia" in out
    code, out, _ = grokinterp("table", "modular_addition", "--p", "5", "--out", tmp_path / "t.html", "--json")
    assert json.loads(out)["isomorphism"]["a"] == list("01234")
    assert json.loads(out)["task"]["p"] == 5
    page = (tmp_path / "t.html").read_text()
    assert "In the order of the group" in page
    assert "the cyclic group of order 5" in page


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["modular_additon"], "unknown task 'modular_additon'; did you mean 'modular_addition'"),
        (["modular_addition", "--p", "1"], "task.p: input should be greater than or equal to 2, got 1"),
        (["modular_addition", "--set", "task.convention=matlab"], "task.convention: "),
        (["modular_addition", "--set", "training.lr=1"], "a table takes keys of the task"),
    ],
)
def test_a_mistake_is_one_line(grokinterp, arguments, says):
    code, out, err = grokinterp("table", *arguments)
    assert code == 2
    assert out == ""
    assert says in err
    assert len(err.strip().splitlines()) == 1


# Any function


def test_a_function_is_a_task_with_the_values_that_occur_as_classes():
    task = gi.Task.of_function(lambda a, b: (a * a + b) % 31, 31)
    assert task.table.tolist() == [[(a * a + b) % 31 for b in range(31)] for a in range(31)]
    assert task.answer_names == tuple(map(str, range(31)))
    sums = gi.Task.of_function(lambda a, b: a + b, 5)
    assert sums.symbols.answers == tuple(range(9))
    assert (sums.n_answers, sums.reads.n_logits, sums.reads.d_vocab) == (9, 9, 6)


def test_operands_and_answers_may_be_any_values_and_none_is_no_answer():
    task = gi.Task.of_function(
        lambda a, b: None if a == b else (min(a, b), max(a, b)), operands="xyz", symbol="{a, b}"
    )
    assert task.operand_names == ("x", "y", "z")
    assert task.symbols.answers == (("x", "y"), ("x", "z"), ("y", "z"))
    assert task.table.tolist() == [[-1, 0, 1], [0, -1, 2], [1, 2, -1]]
    assert task.n_inputs == 6
    assert task.circle is None
    mixed = gi.Task.of_function(lambda a, b: "even" if (a + b) % 2 == 0 else a, 3)
    assert mixed.symbols.answers == ("even", 0, 1, 2)  # these have no order


def test_names_that_look_alike_are_told_apart():
    assert gi.Task.of_function(lambda a, b: a, operands=[1, "1"]).operand_names == ("1", "'1'")


def test_numbers_of_torch_and_numpy_are_numbers():
    for known in ({"operands": torch.arange(5)}, {"operands": np.arange(5)}, {"p": np.int64(5)}):
        task = gi.Task.of_function(lambda a, b: (a + b) % 5, **known)
        assert task.operand_names == tuple("01234")
        assert task.facts.group
    with pytest.raises(ConfigError, match="3 of which 2 differ"):
        gi.Task.of_function(lambda a, b: a + b, operands=torch.tensor([0, 0, 1]))


def test_a_number_that_python_does_not_write_out_is_refused():
    with pytest.raises(ConfigError, match="16,610 bits at a = 0, b = 1"):
        gi.Task.of_function(lambda a, b: 10**5000 * (a + b), p=5)


def test_whatever_can_be_called_is_a_function():
    task = gi.Task.of_function(
        functools.partial(lambda c, a, b: (a + b + c) % 5, 1), 5, opaque=3, noise={"kind": "binomial"}
    )
    assert task.name == "function"
    assert task.table[2].tolist() == [3, 4, 0, 1, 2]
    assert (task.opaque, task.noise.n) == (3, 4)
    assert sorted(task.element_tokens.tolist() + [t for t in task.tokens.tokens if t is not None]) == list(
        range(6)
    )


def test_a_function_of_numbers_that_hides_no_circle_stands_at_its_residues():
    task = gi.Task.of_function(lambda a, b: (a * a + b * b) % 13, 13)
    assert not task.circle.is_sum
    assert task.circle.c.tolist() == list(range(13))
    assert gi.Task.of_function(lambda a, b: a * a + b * b, 13).circle is None
    assert gi.Task.of_function(lambda a, b: (a * a + b * b) % 13, 13, opaque=1).circle is None


@pytest.mark.parametrize(
    ("function", "options", "says"),
    [
        (
            lambda a, b: a // b,
            {"p": 3},
            r"failed at a = 0, b = 0: ZeroDivisionError: .*return None where it is undefined",
        ),
        (lambda a, b: [a, b], {"p": 3}, r"no single value at a = 0, b = 0: unhashable type: 'list'"),
        (lambda a, b: float("nan"), {"p": 3}, "gave nan at a = 0, b = 0"),
        (lambda a, b: torch.zeros(2), {"p": 3}, "gave an object of type Tensor"),
        (lambda a, b: None, {"p": 3}, "gives no answers: a task needs two or more"),
        (lambda a, b: 1, {"p": 3}, "gives 1 answer: a task needs two or more"),
        (lambda a, b: a, {}, "give p, for 0 .. p-1, or operands"),
        (lambda a, b: a, {"p": 3, "operands": "xyz"}, "one of the two"),
        (lambda a, b: a, {"p": 1}, "p: needs a whole number from 2, got 1"),
        (lambda a, b: a, {"operands": "x"}, "needs two or more different values"),
        (lambda a, b: a, {"operands": "xyx"}, "got 3 of which 2 differ"),
        (lambda a, b: a, {"operands": [[1], [2]]}, "unhashable type: 'list'"),
        (lambda a, b: a, {"operands": {"x", "y"}}, "a set has no order that stays: give a list"),
        (
            lambda a, b: a,
            {"p": 200_000},
            "200,000 operands would be called 40,000,000,000 times: give at most 4,000",
        ),
        (lambda a, b: a, {"p": 3, "opaque": -1}, r"^task\.opaque: .* got -1"),
        (
            lambda a, b: a,
            {"p": 3, "noise": {"kind": "uniform", "share": 2}},
            r"^task\.noise\.share: .* got 2",
        ),
    ],
)
def test_a_function_that_is_no_operation_is_refused_in_one_line(function, options, says):
    with pytest.raises(ConfigError, match=says) as error:
        gi.Task.of_function(function, **options)
    assert "\n" not in str(error.value)
