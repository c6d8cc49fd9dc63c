"""Representations of finite groups: against known character tables, against Fourier, on built networks, and
on published ones."""

from __future__ import annotations

import copy
import functools
import itertools
import math

import pytest
import torch

import grokinterp as gi
from grokinterp import controls, fourier
from grokinterp.errors import NotApplicable, UsageError
from grokinterp.measures import circular
from grokinterp.measures.groups.irreps import group_of, irreps_of
from grokinterp.models import MLPConfig
from grokinterp.tasks import Operation, make_task, split
from grokinterp.tasks.groups import cayley_table
from test_foreign import of_chughtai, stored


def quaternions() -> torch.Tensor:
    """The table of ±1, ±i, ±j, ±k, numbered as 2 · unit + (1 where negative)."""
    product = (
        {(0, x): (x, 0) for x in range(4)}
        | {(x, 0): (x, 0) for x in range(4)}
        | {(x, x): (0, 1) for x in range(1, 4)}
    )
    for x, y, z in ((1, 2, 3), (2, 3, 1), (3, 1, 2)):
        product |= {(x, y): (z, 0), (y, x): (z, 1)}
    table = torch.empty(8, 8, dtype=torch.long)
    for a, b in itertools.product(range(8), repeat=2):
        unit, sign = product[a // 2, b // 2]
        table[a, b] = 2 * unit + (sign + a + b) % 2
    return table


def table_of(group: str) -> torch.Tensor:
    return quaternions() if group == "Q8" else cayley_table(group)


DIMENSIONS = {
    "C2": [1],
    "C7": [(1, 1)] * 3,
    "C8": [1] + [(1, 1)] * 3,
    "S3": [1, 2],
    "S4": [1, 2, 3, 3],
    "S5": [1, 4, 4, 5, 5, 6],
    "A4": [(1, 1), 3],
    "A5": [3, 3, 4, 5],
    "D4": [1, 1, 1, 2],
    "D5": [1, 2, 2],
    "D6": [1, 1, 1, 2, 2],
    "Q8": [1, 1, 1, 2],
}
"""Of the non-trivial representations, from the character tables; (d, d) is a pair of complex conjugates."""

groups = pytest.mark.parametrize("group", DIMENSIONS)


@groups
def test_the_representations_are_those_of_the_character_table(group):
    found = sorted(len(irrep.functions) for irrep in irreps_of(table_of(group)))
    assert found == sorted(d**2 if isinstance(d, int) else 2 * d[0] ** 2 for d in DIMENSIONS[group])
    assert sum(found) == len(table_of(group)) - 1


@groups
def test_names_are_dimensions_and_each_is_there_once(group):
    names = [irrep.name for irrep in irreps_of(table_of(group))]
    assert len(set(names)) == len(names)
    found = sorted(int(name.split()[1]) for name in names)
    assert found == sorted(d if isinstance(d, int) else sum(d) for d in DIMENSIONS[group])


@groups
def test_the_matrix_elements_of_all_representations_are_orthonormal(group):
    functions = torch.cat([irrep.functions for irrep in irreps_of(table_of(group))])
    functions = torch.cat(
        [functions, torch.full((1, functions.shape[1]), functions.shape[1] ** -0.5, dtype=torch.float64)]
    )
    torch.testing.assert_close(
        functions @ functions.T, torch.eye(len(functions), dtype=torch.float64), rtol=0, atol=1e-10
    )


@groups
def test_the_matrix_elements_stay_among_themselves_when_the_group_acts_from_either_side(group):
    table = table_of(group)
    for irrep in irreps_of(table):
        onto = irrep.functions.T @ irrep.functions
        for g in range(len(table)):
            for turned in (irrep.functions[:, table[g]], irrep.functions[:, table[:, g]]):
                torch.testing.assert_close(turned @ onto, turned, rtol=0, atol=1e-9)


@groups
def test_no_representation_can_be_divided(group):
    """The translations of any one function of it, from both sides, span all of it: what an irreducible real
    one means."""
    table = table_of(group)
    for irrep in irreps_of(table):
        orbit = torch.stack(
            [irrep.functions[0][table[table[g], h]] for g in range(len(table)) for h in range(len(table))]
        )
        assert int(torch.linalg.matrix_rank(orbit, atol=1e-8)) == len(irrep.functions)


@groups
def test_characters_are_orthogonal_class_functions_largest_at_the_identity(group):
    table = table_of(group)
    identity = int((table == torch.arange(len(table))).all(1).nonzero())
    inverse = (table == identity).long().argmax(1)
    characters = torch.stack([irrep.character for irrep in irreps_of(table)])
    for g in range(len(table)):
        torch.testing.assert_close(characters[:, table[table[g], inverse[g]]], characters, rtol=0, atol=1e-10)
    gram = characters @ characters.T
    torch.testing.assert_close(gram, torch.diag(gram.diagonal()), rtol=0, atol=1e-10)
    assert (characters[:, identity] > 0).all()
    assert (characters.abs().max(1).values <= characters[:, identity] + 1e-10).all()


def test_the_character_table_of_S4():
    """By cycle type: identity, (12), (12)(34), (123), (1234)."""
    names = list(make_task("group_composition", group="S4").encoding.names)
    at = [names.index(one_line) for one_line in ("0123", "1023", "1032", "1203", "1230")]
    found = {
        tuple(torch.round(irrep.character[at] / irrep.character[at[0]] * d, decimals=6).tolist())
        for irrep, d in zip(irreps_of(cayley_table("S4")), DIMENSIONS["S4"], strict=True)
    }
    assert found == {(1, -1, 1, 1, -1), (2, 0, 2, -1, 0), (3, 1, -1, 0, -1), (3, -1, -1, 0, 1)}


@pytest.mark.parametrize("m", [2, 3, 8, 13, 60, 113])
def test_the_general_way_gives_the_frequencies_of_a_cyclic_group(m):
    found = {irrep.functions.shape[0]: irrep for irrep in irreps_of(cayley_table(f"C{m}"))}
    irreps = irreps_of(cayley_table(f"C{m}"))
    assert len(irreps) == m // 2
    projections = [irrep.functions.T @ irrep.functions for irrep in irreps]
    for k in range(1, m // 2 + 1):
        wave = fourier.directions(m, k)
        alike = [i for i, onto in enumerate(projections) if torch.allclose(onto, wave.T @ wave, atol=1e-8)]
        assert len(alike) == 1
        cosine = irreps[alike[0]].character
        torch.testing.assert_close(cosine / cosine.norm(), wave[0], rtol=0, atol=1e-8)
    assert found[1 if m == 2 else 2]


# What is a group


def of_table(table: torch.Tensor) -> gi.View:
    task = Operation(len(table), lambda a, b: table[a, b], symbol="a b in a table")
    return gi.view(controls.random_network(len(table)).model, task)


def test_a_group_in_any_order_of_its_elements_is_a_group():
    order = torch.tensor([3, 1, 7, 5, 0, 2, 6, 4])
    found = group_of(of_table(order.argsort()[quaternions()[order][:, order]]))
    assert [irrep.name for irrep in found.irreps] == ["dim 1 #1", "dim 1 #2", "dim 1 #3", "dim 2"]


def test_x_over_x_is_the_identity():
    group = group_of(controls.random_network(4, name="group_composition"))
    assert (group.left.diagonal() == 0).all()
    table = cayley_table("S4")
    torch.testing.assert_close(table[group.left, torch.arange(24)], torch.arange(24)[:, None].expand(24, 24))


LOOP = torch.tensor([[0, 1, 2, 3, 4], [1, 0, 3, 4, 2], [2, 4, 0, 1, 3], [3, 2, 4, 0, 1], [4, 3, 1, 2, 0]])
"""A Latin square with an identity that is not associative: (1 1) 2 = 2, 1 (1 2) = 4."""


@pytest.mark.parametrize(
    "table",
    [
        LOOP,
        cayley_table("S3")[:, (cayley_table("S3") == 0).long().argmax(1)],  # a b⁻¹: no identity
        torch.arange(8)[:, None] * torch.arange(8) % 8,  # no Latin square, and the units are no cycle
        # The loop x Z_2, number 2 l + z: with element 1, of Z_2, every product is associative, so it is not
        # enough to look at one element.
        2 * LOOP.repeat_interleave(2, 0).repeat_interleave(2, 1) + cayley_table("C2").repeat(5, 5),
    ],
    ids=["loop", "difference", "product", "double loop"],
)
def test_what_is_no_group_is_refused(table):
    with pytest.raises(NotApplicable, match="a b in a table is the product of no group"):
        gi.measure("irrep_cosine", of_table(table))


@pytest.mark.parametrize(
    "table",
    [(torch.arange(5)[:, None] - torch.arange(5)) % 5, torch.arange(5)[:, None] * torch.arange(5) % 5],
)
def test_a_cyclic_group_under_other_names_has_the_representations_of_the_group(table):
    found = group_of(of_table(table))
    m = len(found.members)
    assert [irrep.name for irrep in found.irreps] == [str(k) for k in range(1, m // 2 + 1)]
    assert torch.equal(table.flatten()[found.rows], found.members[found.product])
    assert torch.equal(found.product, (found.a + found.b) % m)


@pytest.mark.parametrize("task", ["group_conjugation", "group_aba"])
def test_other_words_in_a_group_are_no_products(task):
    with pytest.raises(NotApplicable, match=r"^a b a.* in S3 is the product of no group"):
        gi.measure("irrep_cosine", controls.random_network(3, name=task))


@pytest.mark.parametrize("name", ["modular_subtraction", "modular_multiplication", "modular_division"])
def test_what_is_a_group_product_in_other_words_counts(name):
    view = controls.random_network(13, name=name)
    found = gi.measure("irrep_cosine", view)
    assert found.irrep.values.tolist() == [str(k) for k in range(1, circular(view).m // 2 + 1)]
    torch.testing.assert_close(
        torch.from_numpy(found.values),
        torch.from_numpy(gi.measure("logit_cosine", view).values),
        rtol=0,
        atol=1e-12,
    )


# Built networks, whose logits are sums of characters of a b c⁻¹


@functools.cache
def made_of(group: str, chosen: tuple[int, ...], scale: float = 1.0) -> gi.View:
    """One neuron for every pair of elements, on for it alone, that writes the characters of a b c⁻¹ for every
    c."""
    task = make_task("group_composition", group=group, layout="a b")
    table = cayley_table(group)
    inverse = (table == 0).long().argmax(1)
    irreps = irreps_of(table)
    characters = sum(irreps[i].character / irreps[i].character.abs().max() for i in chosen)
    n, pairs = task.p, task.n_inputs
    a, b = task.pairs.unbind(1)
    w_in = torch.zeros(2 * n, pairs, dtype=torch.float64)
    w_in[a, torch.arange(pairs)] = 1
    w_in[n + b, torch.arange(pairs)] = 1
    weights = {
        "blocks.0.mlp.W_in": w_in,
        "blocks.0.mlp.b_in": torch.full((pairs,), -1.0, dtype=torch.float64),
        "unembed.W_U": scale * characters[table[task.targets][:, inverse]],
        "unembed.b_U": torch.zeros(n, dtype=torch.float64),
    }
    config = MLPConfig(embedding="one_hot", d_mlp=pairs, biases=True)
    return gi.view(config.hooked(task.reads, weights, torch.float64), task)


@pytest.mark.parametrize(
    ("group", "chosen"),
    [
        ("S3", (1,)),
        ("S3", (0, 1)),
        ("S4", (2,)),
        ("S4", (2, 3)),
        ("S4", (0, 1, 3)),
        ("D5", (1, 2)),
        ("A4", (0, 1)),
        ("A4", (1,)),
    ],
)
def test_the_representations_that_a_network_is_made_of_are_found(group, chosen):
    view = made_of(group, chosen, 20.0)
    irreps = irreps_of(cayley_table(group))
    sizes = torch.zeros(len(irreps), dtype=torch.float64)
    for i in chosen:
        sizes[i] = (irreps[i].character / irreps[i].character.abs().max()).norm()
    found = gi.measure("irrep_cosine", view)
    torch.testing.assert_close(torch.from_numpy(found.values), sizes / sizes.norm(), rtol=0, atol=1e-10)
    assert gi.measure("irrep_fve.logits", view) == pytest.approx(1)
    assert found.irrep.values.tolist() == [irrep.name for irrep in irreps]
    # By default, the representations that are found: they are all of the readout, and alone they give the
    # very logits.
    assert gi.measure("irrep_fve.W_U", view) == pytest.approx(1)
    for name in ("restricted_loss.hidden_irreps", "restricted_loss.logit_irreps"):
        assert float(gi.measure(name, view).sel(part="all")) == pytest.approx(
            float(gi.measure("loss", view).sel(part="all")), rel=1e-9
        )
    assert float(gi.measure("excluded_loss.hidden_irreps", view).sel(part="all")) == pytest.approx(
        math.log(view.task.p)
    )


def test_a_faithful_representation_is_enough_to_be_right():
    view = made_of("S4", (2,), 20.0)
    for name in ("accuracy", "restricted_accuracy.hidden_irreps", "restricted_accuracy.logit_irreps"):
        assert float(gi.measure(name, view).sel(part="all")) == 1
    # The sign alone tells odd from even: of 24 elements, 12 are alike.
    assert float(gi.measure("loss", made_of("S4", (0,), 20.0)).sel(part="all")) == pytest.approx(math.log(12))


def test_named_representations_are_the_ones_kept_and_the_ones_taken_out():
    view, names = made_of("S4", (2, 3), 20.0), [irrep.name for irrep in irreps_of(cayley_table("S4"))]
    alone, other = made_of("S4", (2,), 20.0), made_of("S4", (3,), 20.0)
    for measure in ("restricted_loss.hidden_irreps", "restricted_loss.logit_irreps"):
        found = gi.measure(measure, view, irreps=[names[2]])
        assert float(found.sel(part="all")) == pytest.approx(
            float(gi.measure("loss", alone).sel(part="all")), rel=1e-9
        )
    found = gi.measure("excluded_loss.hidden_irreps", view, irreps=[names[2]])
    assert float(found.sel(part="all")) == pytest.approx(
        float(gi.measure("loss", other).sel(part="all")), rel=1e-9
    )


def test_the_shares_of_a_network_that_knows_every_pair_are_the_dimensions():
    """One-hot operands and neurons have the same of everything: d² of 24 elements; of a neuron's 576 − 1
    functions, three times d²."""
    view = made_of("S4", (2, 3), 20.0)
    by_operand = gi.measure("irrep_fve.W_E", view)
    assert by_operand.operand.values.tolist() == ["a", "b"]
    assert by_operand.values.tolist() == pytest.approx([18 / 24] * 2)
    assert gi.measure("irrep_fve.neurons_ab", view) == pytest.approx(18 / 575)
    assert gi.measure("irrep_fve.neurons", view) == pytest.approx(3 * 18 / 575)


def test_the_order_of_the_names_and_a_name_given_twice_change_nothing():
    view = made_of("S4", (2, 3), 20.0)
    once = gi.measure("restricted_loss.hidden_irreps", view, irreps=["dim 2", "dim 3 #1"])
    assert gi.measure("restricted_loss.hidden_irreps", view, irreps=["dim 3 #1", "dim 2", "dim 2"]).equals(
        once
    )
    assert gi.measure("irrep_fve.W_U", view, irreps="dim 2") == pytest.approx(
        gi.measure("irrep_fve.W_U", view, irreps=["dim 2"])
    )


def test_all_representations_are_everything_but_the_mean():
    view = made_of("S3", (1,), 20.0)
    everything = gi.measure("irrep_cosine", view).irrep.values.tolist()
    assert gi.measure("irrep_fve.neurons_ab", view, irreps=everything) == pytest.approx(5 / 35)
    matrix = view.W_L.T
    share = 1 - float((matrix.mean(0) ** 2).sum() * 6 / (matrix**2).sum())
    assert gi.measure("irrep_fve.W_U", view, irreps=everything) == pytest.approx(share)


def test_for_addition_the_representations_are_the_frequencies():
    view = controls.clock(17, (2, 5, 8))
    for option in (None, ["2"], ["5", "8"]):
        keys = None if option is None else [int(name) for name in option]
        hidden = gi.measure("restricted_loss.hidden_irreps", view, irreps=option)
        torch.testing.assert_close(
            torch.from_numpy(hidden.values),
            torch.from_numpy(gi.measure("restricted_loss.logit_dirs", view, keys=keys).values),
        )


# Nothing to find


@pytest.mark.parametrize(
    ("n", "name"),
    [(3, "group_composition"), (4, "group_composition"), (7, "modular_addition"), (53, "modular_addition")],
)
@pytest.mark.parametrize("seed", range(3))
def test_a_random_network_is_made_of_no_representation(n, name, seed):
    view = controls.random_network(n, seed, name)
    with pytest.raises(NotApplicable, match="the logits are made of no representation"):
        gi.measure("restricted_loss.hidden_irreps", view)
    assert gi.measure("irrep_fve.logits", view) < 0.01


def test_constant_logits_are_made_of_no_representation():
    random = controls.random_network(7, d_mlp=0)
    model = copy.deepcopy(random.model)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.fill_(0.1 if name == "unembed.b_U" else 0)
    view = gi.view(model, random.task)
    assert 0 <= gi.measure("irrep_fve.logits", view) <= 1


@pytest.mark.parametrize(
    "name", ["restricted_loss.hidden_irreps", "irrep_fve.W_U", "restricted_loss.logit_irreps"]
)
def test_names_that_are_no_representations_are_refused(name):
    view = made_of("S3", (1,), 20.0)
    with pytest.raises(
        UsageError, match=r"^irreps: a b in S3 has no representation 'dim 3'; did you mean 'dim [12]'"
    ):
        gi.measure(name, view, irreps=["dim 3"])
    with pytest.raises(NotApplicable, match="no representations were asked for"):
        gi.measure(name, view, irreps=[])


# Published networks


def of_chughtai_mlp() -> gi.View:
    """W_x, W_y [n, 256], W [512, 128], W_U [128, n]."""
    w = stored("chughtai/C113_MLP_seed1/model.pt")
    names = {"embed_a.W_E": "W_x", "embed_b.W_E": "W_y", "blocks.0.mlp.W_in": "W", "unembed.W_U": "W_U"}
    weights = {ours: w[theirs] for ours, theirs in names.items()}
    task = make_task("modular_addition", p=113, layout="a b")
    return gi.view(MLPConfig(d_model=256, d_mlp=128).hooked(task.reads, weights), task)


def found_in(view: gi.View) -> list[float]:
    shares = [gi.measure(f"irrep_fve.{what}", view) for what in ("W_U", "logits", "neurons")]
    return [round(float(gi.measure("irrep_fve.W_E", view)[0]), 5), *(round(share, 5) for share in shares)]


def test_the_shares_of_a_published_transformer_with_projections_of_full_rank():
    view = of_chughtai(113)
    assert found_in(view) == [
        0.90083,
        0.99494,
        0.96854,
        0.91420,
    ]  # the first three as published; the last is .92672 there
    assert round(gi.measure("irrep_fve.neurons_ab", view), 5) == 0.15942  # published: .16048
    restricted = float(gi.measure("restricted_loss.hidden_irreps", view).sel(part="all"))
    assert f"{restricted:.2e}" == "6.08e-07"  # published: 2.26e-2
    assert float(gi.measure("restricted_accuracy.hidden_irreps", view).sel(part="all")) == 1


def test_the_shares_of_a_published_multilayer_perceptron_with_projections_of_full_rank():
    view = of_chughtai_mlp()
    assert found_in(view) == [0.99232, 0.97953, 0.93678, 0.87047]  # published: .91077 for the last
    restricted = float(gi.measure("restricted_loss.hidden_irreps", view).sel(part="all"))
    assert f"{restricted:.2e}" == "2.19e-06"  # published: 9.84e-3
    assert gi.measure("irrep_fve.W_E", view).operand.values.tolist() == ["a", "b"]


def test_the_sign_is_a_representation_of_a_published_network_of_even_order():
    view = of_chughtai(118)
    cosines = gi.measure("irrep_cosine", view)
    assert float(cosines.sel(irrep="59")) > 0.2
    assert f"{float(gi.measure('restricted_loss.hidden_irreps', view).sel(part='all')):.2e}" == "1.41e-07"
    keys = [str(k) for k in (10, 16, 19, 37)]
    assert float(gi.measure("restricted_loss.hidden_irreps", view, irreps=keys).sel(part="all")) > 1e-5


# Networks that know examples by heart: any of them has a share of every representation


@functools.cache
def by_heart(group: str, seed: int, knows: bool = False) -> gi.View:
    """A neuron for every pair, that writes the right answer for the training pairs and for the others a
    random one; or right for all."""
    task = make_task("group_composition", group=group, layout="a b")
    known, generator = split(task.n_inputs, 0.6, seed=seed), torch.Generator().manual_seed(seed)
    answers = task.targets.clone()
    if not knows:
        answers[known.test] = torch.randint(task.p, known.test.shape, generator=generator)
    n, pairs = task.p, task.n_inputs
    w_in = torch.zeros(2 * n, pairs, dtype=torch.float64)
    w_in[task.pairs[:, 0], torch.arange(pairs)] = 1
    w_in[n + task.pairs[:, 1], torch.arange(pairs)] = 1
    weights = {
        "blocks.0.mlp.W_in": w_in,
        "blocks.0.mlp.b_in": torch.full((pairs,), -1.0, dtype=torch.float64),
        "unembed.W_U": 10.0 * torch.nn.functional.one_hot(answers, n).double(),
        "unembed.b_U": torch.zeros(n, dtype=torch.float64),
    }
    model = MLPConfig(embedding="one_hot", d_mlp=pairs, biases=True).hooked(
        task.reads, weights, torch.float64
    )
    return gi.view(model, task, split=known)


RESTRICTED = "restricted_accuracy.logit_irreps"


@pytest.mark.parametrize("group", ["S3", "S4", "A4", "D4", "D5", "D6"])
@pytest.mark.parametrize("seed", range(3))
def test_a_network_that_knows_examples_by_heart_does_not_look_as_if_it_knew_the_group(group, seed):
    view = by_heart(group, seed)
    try:
        found = gi.measure(RESTRICTED, view)
    except NotApplicable:
        return
    assert float(found.sel(part="test")) < 0.9


@pytest.mark.parametrize("group", ["S3", "S4", "A4", "D5", "D6"])
def test_of_a_network_that_knows_every_pair_all_are_keys_or_it_is_said_how_many(group):
    """As good as it is, a network right on all pairs is a table: every representation is in it, and on unseen
    examples too."""
    view = by_heart(group, 0, knows=True)
    irreps = group_of(view).irreps
    assert gi.measure("key_irreps", view).values.all()
    share = gi.measure("key_irreps.share", view)
    assert share.values.tolist() == [1.0, pytest.approx((view.task.p - 1) / view.task.p)]
    if len(irreps) < 5:
        assert float(gi.measure(RESTRICTED, view).sel(part="all")) == 1
    else:
        count = (
            rf"^{len(irreps)} of {len(irreps)} representations, "
            rf"{view.task.p - 1} of {view.task.p} dimensions, are keys"
        )
        for name in (
            "restricted_loss.hidden_irreps",
            "excluded_loss.hidden_irreps",
            RESTRICTED,
            "irrep_fve.W_E",
            "irrep_fve.W_U",
        ):
            with pytest.raises(NotApplicable, match=count):
                gi.measure(name, view)
    assert float(gi.measure(RESTRICTED, view, irreps=[irrep.name for irrep in irreps]).sel(part="all")) == 1


@pytest.mark.parametrize(
    ("group", "chosen"),
    [("S3", (1,)), ("S4", (2,)), ("S4", (2, 3)), ("S4", (0, 1, 3)), ("D5", (1, 2)), ("A4", (1,))],
)
def test_representations_of_a_network_that_knows_the_group_are_found_where_the_split_is_known(group, chosen):
    made = made_of(group, chosen, 20.0)
    view = gi.view(made.model, made.task, split=split(made.task.n_inputs, 0.6))
    assert gi.measure("key_irreps", view).values.nonzero()[0].tolist() == list(chosen)
    dimensions = sum(
        len(irrep.functions) for i, irrep in enumerate(irreps_of(cayley_table(group))) if i in chosen
    )
    expected = [len(chosen) / len(irreps_of(cayley_table(group))), dimensions / made.task.p]
    assert gi.measure("key_irreps.share", view).values.tolist() == pytest.approx(expected)


@pytest.mark.parametrize("group", ["S3", "S4", "A4", "D5", "D6"])
def test_the_control_says_what_a_projection_makes_right_by_itself(group):
    """Restricted to representations that tell all elements apart, training examples alone make all others
    right: a network by heart too."""
    view = by_heart(group, 0)
    names = [irrep.name for irrep in group_of(view).irreps]
    assert float(gi.measure("restricted_accuracy.memoriser_irreps", view, irreps=names).sel(part="test")) == 1
    assert float(gi.measure(RESTRICTED, view, irreps=names).sel(part="test")) == 1
    assert float(gi.measure("accuracy", view).sel(part="test")) < 0.5


def test_elements_that_the_kept_characters_do_not_tell_apart_are_not_told_apart_by_rounding():
    """Odd from even: one of 12 alike is right, whatever the last digits of a character are."""
    view = by_heart("S4", 0)
    for name in (RESTRICTED, "restricted_accuracy.memoriser_irreps"):
        assert float(gi.measure(name, view, irreps=["dim 1"]).sel(part="all")) == pytest.approx(1 / 12)


@pytest.mark.parametrize("p", [11, 13, 17, 23, 29])
def test_for_addition_a_memoriser_has_no_representations_on_unseen_examples(p):
    view = controls.memoriser(p)
    with pytest.raises(NotApplicable, match=r"made of no representation|are keys: with so many left in"):
        gi.measure(RESTRICTED, view)
