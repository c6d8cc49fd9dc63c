"""Where the elements of a task stand on Z_m, how its examples are written as tokens, and that measures see
only the positions."""

from __future__ import annotations

import contextlib
import copy
import functools
import math
import weakref

import numpy as np
import pytest
import torch

import grokinterp as gi
from expected_noise import OF_NOISE
from grokinterp import controls
from grokinterp.errors import ConfigError, NotApplicable
from grokinterp.measures import circular
from grokinterp.measures.base import once_per_view
from grokinterp.models import ModelConfig
from grokinterp.tasks import make_task
from grokinterp.tasks.circle import differences, logarithms, primitive_root, residues
from grokinterp.tasks.layout import parse
from test_foreign import stored

MODULI = range(2, 51)


def units_of(p: int) -> set[int]:
    return {x for x in range(p) if any(x * y % p == 1 for y in range(p))}


def powers_of(x: int, p: int) -> set[int]:
    """By multiplying until the powers repeat."""
    seen, at = set(), 1 % p
    while at not in seen:
        seen.add(at)
        at = at * x % p
    return seen


# Primitive roots and logarithms


@pytest.mark.parametrize("p", MODULI)
def test_the_primitive_root_is_the_smallest_number_whose_powers_are_all_units(p):
    roots = [x for x in range(1, p) if powers_of(x, p) == units_of(p)]
    assert primitive_root(p) == (roots[0] if roots else None)


def test_only_odd_prime_powers_their_doubles_and_2_and_4_have_a_primitive_root():
    prime_powers = {
        q**n for q in range(3, 51, 2) for n in range(1, 5) if all(q % r for r in range(2, q)) and q**n < 51
    }
    with_root = {p for p in MODULI if primitive_root(p) is not None}
    assert with_root == {2, 4} | prime_powers | {2 * q for q in prime_powers if 2 * q < 51}


@pytest.mark.parametrize("p", [113, 211, 1009])
def test_a_large_prime_has_a_logarithm_for_every_element_but_0(p):
    circle = logarithms(p)
    assert sorted(circle.a.tolist()) == list(range(1, p))
    assert circle.order == f"powers of {primitive_root(p)} mod {p}"
    assert {113: 3, 211: 2, 1009: 11}[p] == primitive_root(p)


@pytest.mark.parametrize("p", MODULI)
def test_logarithms_are_there_exactly_where_the_units_are_one_cycle_of_two_or_more(p):
    circle = logarithms(p)
    cyclic = any(powers_of(x, p) == units_of(p) for x in range(1, p))
    assert (circle is not None) == (cyclic and len(units_of(p)) > 1)
    if circle is not None:
        assert circle.a[0] == 1
        assert set(circle.a.tolist()) == set(circle.b.tolist()) == set(circle.c.tolist()) == units_of(p)
        assert circle.m == len(units_of(p))


# Sums on the circle

SUMS = ["modular_addition", "modular_subtraction", "modular_multiplication", "modular_division"]


@pytest.mark.parametrize("p", MODULI)
@pytest.mark.parametrize("name", SUMS)
def test_a_sum_task_adds_positions(name, p):
    task = make_task(name, p=p)
    if task.circle is None:
        assert name in SUMS[2:]
        return
    a, b, c, m = task.circle.a, task.circle.b, task.circle.c, task.circle.m
    assert task.circle.is_sum
    i = torch.arange(m)
    assert torch.equal(task.table[a[:, None], b], c[(i[:, None] + i) % m])
    assert m == (p if name in SUMS[:2] else len(units_of(p)))


def test_cyclic_groups_add_positions_and_no_other_group_has_any():
    task = make_task("group_composition", group="C12")
    i = torch.arange(12)
    assert task.circle.is_sum
    assert torch.equal(task.table, task.circle.c[(i[:, None] + i) % 12])
    assert not make_task("group_aba", group="C12").circle.is_sum
    assert make_task("group_composition", group="D6").circle is None


@pytest.mark.parametrize(
    "name",
    ["x2_plus_y2", "x3_plus_xy", "random_table", "add_if_even_else_multiply", "divide_if_odd_else_subtract"],
)
def test_a_task_that_is_no_sum_says_so_and_stands_at_its_residues(name):
    circle = make_task(name, p=12).circle
    assert not circle.is_sum
    assert circle.a.tolist() == circle.b.tolist() == circle.c.tolist() == list(range(12))


def test_what_positions_are_is_said_in_words():
    assert residues(7).order == "residues mod 7"
    assert differences(7).order == "residues mod 7, b at −b"
    assert differences(7).b.tolist() == [0, 6, 5, 4, 3, 2, 1]
    assert logarithms(7).order == "powers of 3 mod 7"
    assert logarithms(7, divided=True).order == "powers of 3 mod 7, b at minus its logarithm"
    assert logarithms(7).a.tolist() == [1, 3, 2, 6, 4, 5]
    assert logarithms(7, divided=True).b.tolist() == [1, 5, 4, 6, 2, 3]


# A view in the order of the circle


@pytest.mark.parametrize("name", SUMS)
@pytest.mark.parametrize("p", [7, 9, 13])
def test_a_view_puts_rows_weights_and_answers_in_the_order_of_the_circle(name, p):
    view = controls.random_network(p, name=name)
    circle, task = view.task.circle, view.task
    z = circular(view)
    assert torch.equal(z.embedding, view.W_E[circle.a])
    assert torch.equal(z.readout, view.W_L[:, circle.c].T)
    grid = z.grid(view.logits)
    rows = {pair: row for row, pair in enumerate(map(tuple, task.pairs.tolist()))}
    on = []
    for i, a in enumerate(circle.a.tolist()):
        for j, b in enumerate(circle.b.tolist()):
            assert torch.equal(grid[i, j], view.logits[rows[a, b]])
            on.append((rows[a, b], (i + j) % z.m))
    assert list(zip(z.on_circle.tolist(), z.answer_at.tolist(), strict=True)) == sorted(on)


def test_units_that_are_no_cycle_have_no_frequencies():
    view = controls.random_network(8, name="modular_multiplication")
    with pytest.raises(NotApplicable, match="the elements of a · b mod 8 stand on no cyclic group"):
        gi.measure("logit_cosine", view)


# The clock on other tasks: the weights that add mod m, with elements where the positions were

KEYS = {12: (1, 5, 6), 13: (2, 5, 6)}  # of 12, the Nyquist frequency among them
CLOCKS = [
    ("modular_multiplication", 13),
    ("modular_division", 13),
    ("modular_subtraction", 13),
    ("modular_subtraction", 12),
]


@functools.cache
def clock_of(name: str, p: int) -> gi.View:
    """The additive clock with its tokens and answers renamed. An element that has no position is embedded at
    0 and is never answered."""
    task = make_task(name, p=p)
    circle = task.circle
    base = controls.clock(circle.m, KEYS[circle.m])
    old = base.model.cfg
    weights = {key: value.detach().clone() for key, value in base.model.named_parameters()}
    w_e = torch.zeros(task.reads.d_vocab, old.d_model, dtype=torch.float64)
    w_e[circle.a] = circular(base).embedding
    w_u, b_u = (
        torch.zeros(old.d_model, p, dtype=torch.float64),
        torch.full((p,), -1000.0, dtype=torch.float64),
    )
    w_u[:, circle.c], b_u[circle.c] = weights["unembed.W_U"], 0.0
    if not torch.equal(circle.a, circle.b):
        # b stands at minus its position as a: the head that copies it turns every sine.
        weights["blocks.0.attn.W_V"][1, :, 1::2] *= -1
    weights |= {"embed.W_E": w_e, "unembed.W_U": w_u, "unembed.b_U": b_u}
    config = ModelConfig(d_model=old.d_model, n_heads=2, d_head=old.d_head, d_mlp=old.d_mlp)
    return gi.view(config.hooked(task.reads, weights, torch.float64), task)


@functools.cache
def additive(p: int) -> gi.View:
    """The additive clock, without a split, which would not be the same for both."""
    base = controls.clock(p, KEYS[p])
    return gi.view(base.model, base.task)


SEE_ELEMENTS_APART = {
    "loss",
    "accuracy",
    "sum_of_squares",
    "attention.variance",
    "neuron.on_share",
    "pca_explained_variance.W_E",
}
SEE_ELEMENTS_APART |= {
    name for name in gi.MEASURES if name.startswith(("ablation.", "linear_attention_loss.", "pruning."))
}
SEE_ELEMENTS_APART |= {"clean_loss", "clean_accuracy", "loss.mse", "loss.stablemax"}
SEE_ELEMENTS_APART |= {"softmax_collapse.share", "zero_terms.share", "logit_scale", "margin.normalised"}
SEE_ELEMENTS_APART |= {
    "accuracy.by_criterion",
    "accuracy.exact",
    "accuracy.mirror",
    "gradient_symmetricity",
    "excluded_loss.hidden_irreps",
    "excluded_loss.neuron_no_skip",
}
"""The measures that look at elements (or answers) without a position too, at elements in their own order, or
at parameters as they are."""


OPEN = {"pca_circle.angle", "clock_fit.pcs", "pizza_fit.pcs"}
"""Of equal circles, which comes first is open."""
OPEN |= {name for name in gi.MEASURES if name.startswith("excluded_accuracy.")}
"""Which of the equal logits that are left is the largest is rounding."""


OF_OPERATIONS = {
    name for name, known in gi.MEASURES.items() if known.applies_to(make_task("modular_addition"))
}


@pytest.mark.parametrize("name", sorted(OF_OPERATIONS - SEE_ELEMENTS_APART - OPEN - OF_NOISE))
@pytest.mark.parametrize(("task", "p"), CLOCKS)
def test_a_clock_on_another_operation_measures_like_the_one_that_adds(task, p, name):
    view = clock_of(task, p)
    z = circular(view)
    found, expected = gi.measure(name, view), gi.measure(name, additive(z.m))
    if name in ("circle.angle", "circle.radius_spread"):  # elsewhere the angle is that of rounding
        found, expected = (x.sel(freq=list(KEYS[z.m])) for x in (found, expected))
    np.testing.assert_allclose(
        np.asarray(found, dtype=float), np.asarray(expected, dtype=float), rtol=1e-7, atol=1e-9
    )


@pytest.mark.parametrize(("task", "p"), CLOCKS)
def test_a_clock_on_another_operation_is_right_and_its_frequencies_are_found(task, p):
    view = clock_of(task, p)
    z = circular(view)
    assert view.correct()[z.on_circle].all()
    found = gi.key_frequencies(view)
    assert found.consensus == list(KEYS[z.m])
    # The other frequencies carry the answer without the sign, where there is one.
    assert all(rule == found.consensus for name, rule in found.rules.items() if name != "load_bearing")
    assert not found.skipped


def test_without_the_logarithm_the_same_network_has_no_frequencies():
    view = clock_of("modular_multiplication", 13)
    raw = gi.view(
        view.model, copy.deepcopy(make_task("random_table", p=13))
    )  # the same tokens, at their residues
    assert gi.measure("neuron.single_frequency_share", view) == 1
    assert gi.measure("neuron.single_frequency_share", raw) < 0.1
    assert gi.measure("sum_fraction.logits", raw).max() < 0.9


OF_POSITIONS = {"neuron.on_share", "neuron.dead_share", "neuron.always_on_share"} ^ {
    name
    for name in gi.MEASURES
    if name != "logit_scale"
    and name.startswith(
        (
            "neuron.",
            "key_",
            "logit_",
            "fourier_norms",
            "gini",
            "sum_fraction",
            "phase_",
            "ipr",
            "w_l_",
            "readout_",
            "circle.",
        )
    )
}
"""The measures that look at nothing without a position."""


def test_what_has_no_position_changes_nothing():
    base = controls.random_network(13, name="modular_multiplication")
    model = copy.deepcopy(base.model)
    with torch.no_grad():
        model.embed.W_E[0], model.unembed.W_U[:, 0] = 3.0, torch.arange(64.0)
    other = gi.view(model, base.task, split=base.split)
    assert not torch.equal(other.logits, base.logits)
    for name in OF_POSITIONS:
        options = (
            {"keys": [2, 6]} if name in ("key_share.W_E", "w_l_residual.raw", "w_l_residual.centred") else {}
        )
        found, expected = (
            np.asarray(gi.measure(name, view, **options), dtype=float) for view in (other, base)
        )
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12, err_msg=name)


def of_zaidanmir(name: str, sign: str) -> gi.View:
    """Linear layers' weights are transposed; queries, keys and values lie under one another."""
    w = stored(f"zaidanmir/{name}.pt")
    query, key, value = w["attn.W_QKV.weight"].unflatten(0, (3, 4, 32)).transpose(-1, -2)
    attention = {"W_Q": query, "W_K": key, "W_V": value, "W_O": w["attn.W_O.weight"].T.unflatten(0, (4, 32))}
    mlp = {
        "W_in": w["mlp.fc1.weight"].T,
        "b_in": w["mlp.fc1.bias"],
        "W_out": w["mlp.fc2.weight"].T,
        "b_out": w["mlp.fc2.bias"],
    }
    found = {
        "embed.W_E": w["W_E.weight"],
        "pos_embed.W_pos": w["W_pos.weight"],
        "unembed.W_U": w["W_U.weight"].T,
    }
    found |= {f"blocks.0.attn.{name}": weight for name, weight in attention.items()}
    found |= {f"blocks.0.mlp.{name}": weight for name, weight in mlp.items()}
    task = make_task(f"modular_{name}", p=113, layout=f"a {sign} b =@116 of 117")
    config = ModelConfig(d_model=128, n_heads=4, d_mlp=512, d_vocab_out=117)
    weights = {name: found.get(name, torch.zeros(shape)) for name, shape in config.shapes(task.reads).items()}
    return gi.view(config.hooked(task.reads, weights), task)


def test_a_foreign_network_that_multiplies_is_a_clock_in_the_logarithm_and_nothing_at_the_residues():
    view = of_zaidanmir("multiplication", "*@115")
    assert round(float(view.correct().double().mean()), 3) == 0.982
    assert round(float(view.correct()[circular(view).on_circle].double().mean()), 4) == 0.9998
    assert gi.key_frequencies(view).consensus == [19, 32, 49, 56]  # the last is the Nyquist frequency of 112
    assert gi.measure("neuron.single_frequency_share", view) > 0.95
    assert gi.measure("phase_alignment", view) > 0.98
    residual = gi.view(view.model, make_task("random_table", p=113, layout=view.task.layout))
    assert gi.measure("neuron.single_frequency_share", residual) == 0
    assert gi.measure("gini.W_E", residual) < 0.1


# Every modulus

COMPOSITE = [
    (2, (1,)),
    (3, (1,)),
    (4, (1, 2)),
    (6, (2, 3)),
    (10, (4, 5)),
    (12, (1, 6)),
    (12, (3, 4)),
    (15, (5, 6)),
    (15, (1, 7)),
]


@pytest.mark.parametrize(("p", "keys"), COMPOSITE)
def test_a_clock_of_any_modulus_measures_as_built(p, keys):
    scale = 10.0
    view = controls.clock(p, keys, scale)
    loss = math.log1p(
        sum(math.exp(scale * sum(math.cos(2 * math.pi * k * d / p) - 1 for k in keys)) for d in range(1, p))
    )
    power = {k: 1.0 if 2 * k == p else 0.5 for k in keys}
    expected = [math.sqrt(power[k] / sum(power.values())) if k in keys else 0 for k in range(1, p // 2 + 1)]
    np.testing.assert_allclose(gi.measure("logit_cosine", view), expected, atol=1e-9)
    for name in (
        "loss",
        "restricted_loss.logit_dirs",
        "polynomial_neurons_loss.single_frequency",
        "polynomial_neurons_loss.all",
    ):
        options = {"keys": keys} if name.startswith("restricted") else {}
        np.testing.assert_allclose(gi.measure(name, view, **options), loss, rtol=1e-8)
    assert gi.measure("w_l_residual.raw", view, keys=keys) == pytest.approx(0, abs=1e-12)
    explained = gi.measure("w_l_directions.explained_variance", view)
    of_keys = [(i + 1) // 2 in keys for i in range(1, p)]
    np.testing.assert_allclose(explained, of_keys, atol=1e-9)
    with_phase = [k for k in keys if 2 * k != p]
    sums = gi.measure("sum_fraction.logits", view)
    np.testing.assert_allclose(sums.sel(freq=with_phase), 1, atol=1e-9)
    assert gi.measure("phase_error", view) == pytest.approx(0, abs=1e-9)
    assert gi.measure("phase_alignment", view) == pytest.approx(1 if with_phase else 0)
    assert gi.measure("ipr.real", view) == pytest.approx(1)
    assert gi.measure("ipr.complex", view) == pytest.approx(sum(power.values()) / len(keys))
    assert gi.measure("effective_rank.W_E", view) == pytest.approx(
        gi.measure("effective_rank.W_L", view), rel=0.2
    )


# Layouts


@pytest.mark.parametrize(
    ("text", "p", "words", "tokens", "d_vocab"),
    [
        ("a b =", 5, "a b =", [None, None, 5], 6),
        ("a b", 5, "a b", [None, None], 5),
        ("b a =", 5, "b a =", [None, None, 5], 6),
        ("= a b", 5, "= a b", [5, None, None], 6),
        ("a op b =", 5, "a op b =", [None, 5, None, 6], 7),
        ("a = b =", 5, "a = b =", [None, 5, None, 6], 7),
        ("  a   b\t= ", 5, "a b =", [None, None, 5], 6),
        ("a *@115 b =@116 of 117", 113, "a * b =", [None, 115, None, 116], 117),
        ("a *@115 b =", 113, "a * b =", [None, 115, None, 116], 117),
        ("a * b =@115", 113, "a * b =", [None, 113, None, 115], 116),
        ("a x@8 b y@5 z", 5, "a x b y z", [None, 8, None, 5, 9], 10),
        ("a b = of 10", 5, "a b =", [None, None, 5], 10),
        ("a b of 5", 5, "a b", [None, None], 5),
        ("a of b =", 5, "a of b =", [None, 5, None, 6], 7),
        ("a b ⟼", 5, "a b ⟼", [None, None, 5], 6),
        ("x1 x2 x3 x4 x5 x6 x7 a b x8 x9 x10 x11 x12 x13 x14", 2, None, None, 16),
    ],
)
def test_a_layout_is_read_as_words_tokens_and_a_vocabulary(text, p, words, tokens, d_vocab):
    read = parse(text, p)
    assert read.d_vocab == d_vocab
    if words is not None:
        assert read.words == tuple(words.split())
        assert read.tokens == tuple(tokens)
    assert len(read.words) == len(read.tokens)


BAD = [
    "",
    " ",
    "=",
    "a",
    "b =",
    "a a b",
    "a b b =",
    "a@3 b =",
    "a b@113 =",
    "a b =@",
    "a b =@-1",
    "a b =@x",
    "a b =@1.5",
    "a b =@9999999999",
    "a b @5",
    "a b =@113@114",
    "a b " + "x" * 13,
    "a b " + "= " * 15,
    "of 5",
    "ab =",
    "A B =",
]


@pytest.mark.parametrize("text", BAD)
def test_what_is_no_layout_is_refused_with_an_example_of_one(text):
    with pytest.raises(
        ConfigError, match=r"^task\.layout: needs a and b once each .* for example 'a op b ='"
    ):
        parse(text, 113)
    with pytest.raises(ConfigError, match=r"^task\.layout: "):
        make_task("modular_addition", p=113, layout=text)


@pytest.mark.parametrize(
    "text",
    [
        "a b =@4",
        "a b =@0",
        "a x@7 b =@7",
        "a b x =@5",
        "a b = of 5",
        "a b of 4",
        "a b =@9 of 9",
        "a x b = of 6",
        "a b =@7 of 0",
    ],
)
def test_a_token_that_is_taken_or_outside_the_vocabulary_is_refused(text):
    with pytest.raises(
        ConfigError, match=r"every sign needs a token of its own from 5 on .* inside the vocabulary of \d+"
    ):
        parse(text, 5)
    with pytest.raises(ConfigError, match=r"every sign needs a token of its own"):
        make_task("modular_addition", p=5, layout=text)


def test_examples_are_written_in_the_order_and_with_the_numbers_of_the_layout():
    task = make_task("modular_division", p=3, layout="b ÷@5 a =@4 of 7")
    assert task.inputs.tolist() == [[b, 5, a, 4] for a, b in task.pairs.tolist()]
    assert task.pairs.tolist() == [[0, 1], [0, 2], [1, 1], [1, 2], [2, 1], [2, 2]]
    assert (task.reads.n_ctx, task.reads.d_vocab, task.n_answers) == (4, 7, 3)
    assert task.encoding.names == ("0", "1", "2", "token 3", "=", "÷", "token 6")


def test_tokens_are_named_by_their_words_and_elements_by_their_own():
    assert make_task("modular_addition", p=2, layout="a op b =").encoding.names == ("0", "1", "∘", "=")
    assert make_task("modular_addition", p=2, layout="a + b").encoding.names == ("0", "1", "+")
    assert make_task("modular_addition", p=2, layout="a b").encoding.names == ("0", "1")
    assert make_task("group_composition", group="C2", layout="a b = of 4").encoding.names == (
        "r0",
        "r1",
        "=",
        "token 3",
    )


def test_a_network_is_measured_in_any_layout():
    task = make_task("modular_addition", p=5, layout="= b *@8 a of 11")
    config = ModelConfig(d_model=16, n_heads=2, d_mlp=8)
    view = gi.view(config.hooked(task.reads, config.initial_weights(task.reads, 0)), task)
    for name in OF_OPERATIONS:
        options = {"keys": [1]} if gi.MEASURES[name].takes_keys else {}
        with contextlib.suppress(NotApplicable):
            assert np.isfinite(np.asarray(gi.measure(name, view, **options), dtype=float)).all()
    assert gi.measure("attention.mean", view).pos.values.tolist() == ["0: =", "1: b", "2: *", "3: a"]


def test_what_a_circle_computes_is_kept_with_the_view_and_lets_it_go():
    view = controls.random_network(5)
    view = gi.view(view.model, view.task)
    assert circular(view).on_circle is circular(view).on_circle
    assert circular(view).embedding is circular(view).embedding
    gone = weakref.ref(view)
    del view
    assert gone() is None  # at once: hundreds of snapshots must not wait for the collector


def test_what_is_computed_once_is_computed_once_for_each_argument():
    computed = []

    @once_per_view
    def power(view: gi.View, k: int) -> int:
        computed.append(k)
        return 2**k

    shared = controls.random_network(5)
    view, other = (gi.view(shared.model, shared.task) for _ in range(2))
    assert [power(view, 3), power(view, 3), power(view, 4), power(other, 3)] == [8, 8, 16, 8]
    assert computed == [3, 4, 3]
