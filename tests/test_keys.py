"""Key frequencies: the rules find exactly the frequencies that a network was built with, and none where
nothing is periodic."""

from __future__ import annotations

import copy
import math
import re

import pytest
import torch

import grokinterp as gi
from grokinterp import controls
from grokinterp.errors import NotApplicable
from grokinterp.measures.waves import keys as rules_of_the_package
from memorised import memoriser
from test_foreign import ROOT

RULES = ["w_e_norm", "gap", "neurons", "w_l", "load_bearing", "logits"]


def found_by_each_rule(view):
    return {rule: gi.measure(f"key_frequencies.{rule}", view) for rule in RULES}


# Built networks


@pytest.mark.parametrize(
    ("p", "keys"),
    [
        (13, (1,)),
        (13, (6,)),  # (p − 1) / 2, which Nanda's loop `range(1, p // 2)` never looks at
        (17, (2, 5, 8)),
        (19, (1, 9)),
        (15, (1, 7)),  # composite
        (12, (1, 6)),  # with the Nyquist frequency
        (14, (3, 7)),
        (16, (1, 5)),  # even, without it
    ],
)
def test_every_rule_finds_exactly_the_frequencies_of_the_clock(p, keys):
    view = controls.clock(p, keys, 30.0)
    assert float(gi.measure("accuracy", view).sel(part="all")) == 1
    found = gi.key_frequencies(view)
    assert found.rules == {rule: list(keys) for rule in RULES}
    assert found.consensus == list(keys)
    assert found.agreement == 1
    assert found.skipped == {}


@pytest.mark.parametrize(("p", "keys"), [(23, (11,)), (53, (1, 7, 26)), (113, (3, 20, 56))])
def test_every_rule_finds_exactly_the_frequencies_of_the_pizza(p, keys):
    view = controls.pizza(p, keys)
    assert float(gi.measure("accuracy", view).sel(part="all")) == 1
    assert gi.key_frequencies(view).rules == {rule: list(keys) for rule in RULES}


def test_any_single_frequency_of_a_prime_is_found():
    for k in range(1, 7):
        assert gi.key_frequencies(controls.clock(13, (k,))).consensus == [k]


def test_a_frequency_that_is_embedded_and_never_read_is_no_key():
    found = gi.key_frequencies(controls.clock(17, (2, 5), idle=(7,)))
    embedded = {key: [2, 5, 7] for key in ["w_e_norm", "gap"]}
    assert found.rules == embedded | {key: [2, 5] for key in ["neurons", "w_l", "load_bearing", "logits"]}
    assert found.consensus == [2, 5]
    # Of 15 pairs of rules, 1 is of the embedding alone, 6 are of the rest alone, and 8 are mixed.
    assert found.agreement == pytest.approx((1 + 6 + 8 * 2 / 3) / 15)


def changed(view, name, rows, factor):
    """The same network with some rows of a weight multiplied by a factor."""
    model = copy.deepcopy(view.model)
    with torch.no_grad():
        dict(model.named_parameters())[name][rows] *= factor
    return gi.view(model, view.task)


@pytest.mark.parametrize(("loudness", "keys"), [(0.26, [2, 5, 7]), (0.24, [2, 5])])
def test_the_embedding_rule_hears_what_is_louder_than_a_quarter_of_the_loudest(loudness, keys):
    plain = controls.clock(17, (2, 5), idle=(7,))
    view = changed(plain, "embed.W_E", (slice(None), slice(4, 6)), loudness)
    assert gi.key_frequencies(view).rules["w_e_norm"] == keys


@pytest.mark.parametrize(("alive", "keys"), [(6, [2, 5]), (5, [2])])
def test_the_neuron_rule_needs_more_than_one_neuron_in_a_hundred(alive, keys):
    plain = controls.clock(17, (2, 5))
    assert plain.neurons.shape[1] == 2 * 289  # one in a hundred is 5.78
    view = changed(plain, "blocks.0.mlp.W_in", (slice(None), slice(289 + alive, None)), 0)
    assert gi.key_frequencies(view).rules["neurons"] == keys


@pytest.mark.parametrize(("cosine", "keys"), [(0.051, [2, 5]), (0.049, [2])])
def test_the_logit_rule_needs_a_cosine_above_a_twentieth(cosine, keys):
    # Amplitudes 1 and r have cosines 1 and r over √(1 + r²).
    r = cosine / math.sqrt(1 - cosine**2)
    view = changed(controls.clock(17, (2, 5)), "unembed.W_U", slice(2, 4), r)
    assert float(gi.measure("logit_cosine", view).sel(freq=5)) == pytest.approx(cosine)
    assert gi.key_frequencies(view).rules["logits"] == keys


@pytest.mark.parametrize(("loudness", "keys"), [(0.26, [2, 5]), (0.24, [2])])
def test_the_readout_rule_hears_what_is_louder_than_a_quarter_of_the_loudest(loudness, keys):
    view = changed(controls.clock(17, (2, 5)), "unembed.W_U", slice(2, 4), loudness)
    assert gi.key_frequencies(view).rules["w_l"] == keys


def embedded_with(powers: dict[int, float], p: int = 17):
    """A clock whose embedding has these powers; the rest of the network is as it was."""
    plain = controls.clock(p, tuple(powers))
    model = copy.deepcopy(plain.model)
    with torch.no_grad():
        for i, power in enumerate(powers.values()):
            model.embed.W_E[:, 2 * i : 2 * i + 2] *= math.sqrt(power)
    return gi.view(model, plain.task)


@pytest.mark.parametrize(
    ("powers", "keys"),
    [
        ({1: 10, 4: 9, 6: 3}, [1, 4, 6]),  # the fall to nothing is the largest
        ({1: 50, 4: 20, 6: 1.1, 7: 1.0, 8: 0.9}, [1, 4]),
        (
            {1: 20, 4: 9, 6: 5, 7: 4, 8: 3},
            [1],
        ),  # by 2.2, against 1.8, 1.25, 1.33; from 4 down it is the lower half of eight
        ({1: 19, 4: 10, 6: 6, 7: 4, 8: 3}, []),  # none by half
        (
            {1: 1000, 4: 900, 6: 5},
            [1, 4],
        ),  # 6 has less than 1 % and is not looked at, though nothing comes after it
    ],
)
def test_the_gap_rule_cuts_where_the_power_falls_most(powers, keys):
    if len(powers) > 3:  # what is not embedded has a little power too
        powers = powers | {k: min(powers.values()) * 0.9 for k in range(1, 9) if k not in powers}
    assert gi.measure("key_frequencies.gap", embedded_with(powers)).values.nonzero()[0].tolist() == [
        k - 1 for k in keys
    ]


def test_the_gap_rule_finds_nothing_where_all_are_alike_or_most_are_loud():
    assert gi.key_frequencies(controls.lookup(13)).rules["gap"] == []
    # Five of six: the gap is in the lower half.
    assert gi.key_frequencies(controls.clock(13, (1, 2, 3, 4, 5))).rules["gap"] == []


def test_a_frequency_bears_load_where_the_loss_without_it_is_ten_times_as_large():
    # Amplitudes S and r S of two cosines. The loss is tiny, so ten times are far from half the loss of
    # chance.
    for r in (0.01, 0.02, 0.05, 0.1):
        view = changed(controls.clock(17, (2, 5), 30.0), "unembed.W_U", slice(2, 4), r)
        without = float(gi.measure("excluded_loss.per_frequency", view).sel(freq=5, part="all"))
        whole = float(gi.measure("loss", view).sel(part="all"))
        assert without < math.log(17) / 2
        assert (5 in gi.key_frequencies(view).rules["load_bearing"]) == (without > 10 * whole), r
    assert without > 10 * whole  # of the last; of the first it is not
    assert (
        5
        not in gi.key_frequencies(
            changed(controls.clock(17, (2, 5), 30.0), "unembed.W_U", slice(2, 4), 0.01)
        ).rules["load_bearing"]
    )


@pytest.mark.parametrize(("scale", "found"), [(4.0, [2]), (2.0, [])])
def test_a_frequency_of_a_poor_network_bears_load_where_the_loss_without_it_is_larger_by_half_of_chance(
    scale, found
):
    view = controls.clock(17, (2,), scale)
    whole = float(gi.measure("loss", view).sel(part="all"))
    assert math.log(17) < 10 * whole  # no factor of ten
    assert gi.key_frequencies(view).rules["load_bearing"] == found


def test_a_logit_for_the_equals_sign_makes_no_frequency_bear_load():
    """The network's own loss has it, that of edited logits has not: the two must not be compared."""
    plain = controls.clock(11, (2,), 40.0, n_logits=12)
    model = copy.deepcopy(plain.model)
    with torch.no_grad():
        model.unembed.b_U[11] = 60.0
    changed_view = gi.view(model, plain.task)
    assert float(gi.measure("loss", changed_view).sel(part="all")) > 10
    assert gi.key_frequencies(changed_view).rules["load_bearing"] == [2]


def test_what_each_rule_finds_is_a_measure_over_all_frequencies():
    view = controls.clock(12, (1, 6))
    for rule, mask in found_by_each_rule(view).items():
        assert mask.dims == ("freq",), rule
        assert mask.freq.values.tolist() == [1, 2, 3, 4, 5, 6]
        assert mask.values.tolist() == [True, False, False, False, False, True]


@pytest.mark.trains
def test_a_network_that_has_grokked_agrees_with_itself(quick_run):
    found = gi.key_frequencies(quick_run.view(-1))
    assert len(found.consensus) in range(2, 10)
    assert found.rules["neurons"] == found.rules["logits"] == found.consensus
    assert found.rules["load_bearing"]
    assert set(found.rules["load_bearing"]) <= set(found.consensus)  # one of five may be spared
    assert found.agreement > 0.5


def test_what_a_caller_does_to_the_lists_changes_nothing_that_is_found_later():
    shared = controls.clock(17, (2, 5))
    view = gi.view(shared.model, shared.task)
    found = gi.key_frequencies(view)
    found.consensus.append(7)
    found.rules["logits"].clear()
    assert gi.key_frequencies(view).consensus == [2, 5]
    assert gi.key_frequencies(view).rules["logits"] == [2, 5]


# Nothing periodic


@pytest.mark.parametrize("p", [23, 53, 54])
def test_a_random_network_has_no_key_frequencies(p):
    found = gi.key_frequencies(controls.random_network(p))
    assert found.consensus == []
    assert (
        found.rules["gap"]
        == found.rules["neurons"]
        == found.rules["load_bearing"]
        == found.rules["logits"]
        == []
    )


@pytest.mark.trains
def test_a_network_that_has_memorised_a_random_table_has_no_key_frequencies():
    view = memoriser()
    assert float(gi.measure("accuracy", view).sel(part="train")) == 1
    found = gi.key_frequencies(view)
    assert found.consensus == []
    assert found.rules["gap"] == found.rules["neurons"] == found.rules["load_bearing"] == []


@pytest.mark.parametrize("p", [13, 22, 23])
def test_a_look_up_table_is_always_right_and_has_no_key_frequencies(p):
    # [c = c*] is the same amount of every cosine: none stands out.
    view = controls.lookup(p)
    assert float(gi.measure("accuracy", view).sel(part="all")) == 1
    found = gi.key_frequencies(view)
    assert found.rules["gap"] == found.rules["neurons"] == []
    assert found.rules["load_bearing"] == list(
        range(1, (p + 1) // 2)
    )  # it needs them all alike, but of the sign half as much
    assert found.consensus == []


def test_where_all_frequencies_are_in_use_it_is_said_that_none_stands_out():
    view = controls.gromov(23, 2000)
    found = gi.key_frequencies(view)
    assert found.consensus == []
    assert sum(len(rule) == 11 for rule in found.rules.values()) > len(found.rules) / 2
    with pytest.raises(
        NotApplicable,
        match=r"no frequency stands out: .* mark more than half of all 11; keys= or --keys asks for some",
    ):
        gi.measure("restricted_loss.logit_dirs", view)
    assert float(gi.measure("restricted_accuracy.logit_dirs", view, keys=range(1, 12)).sel(part="all")) == 1
    with pytest.raises(NotApplicable, match="the network has no key frequencies: none that more than half"):
        gi.measure("restricted_loss.logit_dirs", controls.random_network(23))


# Arithmetic of the consensus


def the_rules_find(monkeypatch, **found):
    """Puts rules in place that find these frequencies of p = 11, or have a reason not to apply."""

    def rule(result):
        def find(view):
            if isinstance(result, str):
                raise NotApplicable(result)
            return torch.tensor([k in result for k in range(1, 6)])

        return find

    monkeypatch.setattr(rules_of_the_package, "RULES", {name: rule(result) for name, result in found.items()})
    shared = controls.random_network(11)
    return gi.key_frequencies(gi.view(shared.model, shared.task))  # what a view has found once, it keeps


def test_the_consensus_is_what_more_than_half_of_the_rules_found(monkeypatch):
    found = the_rules_find(monkeypatch, one=[1, 2], two=[2, 3], three=[2])
    assert found.rules == {"one": [1, 2], "two": [2, 3], "three": [2]}
    assert found.consensus == [2]
    assert found.agreement == pytest.approx((1 / 3 + 1 / 2 + 1 / 2) / 3)


def test_half_of_the_rules_are_not_enough(monkeypatch):
    assert the_rules_find(monkeypatch, one=[1, 5], two=[5]).consensus == [5]


def test_rules_that_find_nothing_agree(monkeypatch):
    found = the_rules_find(monkeypatch, one=[], two=[])
    assert found.consensus == []
    assert found.agreement == 1


def test_one_rule_that_finds_nothing_disagrees_with_one_that_does(monkeypatch):
    assert the_rules_find(monkeypatch, one=[], two=[1]).agreement == 0


def test_a_rule_that_does_not_apply_has_no_vote(monkeypatch):
    found = the_rules_find(monkeypatch, one=[1], two="there is no MLP", three=[1, 2])
    assert found.rules == {"one": [1], "three": [1, 2]}
    assert found.skipped == {"two": "there is no MLP"}
    assert found.consensus == [1]
    assert found.agreement == 1 / 2


def test_a_single_rule_agrees_with_itself(monkeypatch):
    found = the_rules_find(monkeypatch, one=[3, 4], two="no")
    assert (found.consensus, found.agreement) == ([3, 4], 1)


def test_where_no_rule_applies_the_reason_is_given(monkeypatch):
    with pytest.raises(NotApplicable, match="elements are permutations"):
        the_rules_find(monkeypatch, one="elements are permutations", two="no MLP")


# Where rules do not apply


def test_without_neurons_the_other_rules_decide():
    found = gi.key_frequencies(controls.random_network(11, d_mlp=0))
    assert list(found.rules) == ["w_e_norm", "gap", "load_bearing", "logits"]
    assert found.skipped == dict.fromkeys(["neurons", "w_l"], "the network has no MLP")


def test_pairs_that_are_left_out_silence_the_neuron_rule_alone():
    found = gi.key_frequencies(controls.random_network(9, name="divide_if_odd_else_subtract"))
    assert list(found.rules) == ["w_e_norm", "gap", "w_l", "load_bearing", "logits"]
    assert list(found.skipped) == ["neurons"]
    assert "leaves out pairs" in found.skipped["neurons"]


def test_permutations_have_no_frequencies():
    with pytest.raises(NotApplicable, match="no cyclic group"):
        gi.key_frequencies(controls.random_network(3, name="group_composition"))


@pytest.mark.parametrize("p", [2, 3, 4, 5])
def test_the_smallest_moduli_have_all_their_frequencies_looked_at(p):
    for view in (controls.random_network(p), controls.clock(p, tuple(range(1, p // 2 + 1)))):
        found = gi.key_frequencies(view)
        assert set(found.consensus) <= set(range(1, p // 2 + 1))
        assert all(len(mask) == p // 2 for mask in found_by_each_rule(view).values())


# Multiples of a frequency


@pytest.mark.parametrize(
    ("view", "harmonics"),
    [
        (controls.pizza(23, (3,), overtones=(2,)), {6: (3, 2)}),
        (controls.pizza(23, (10,), overtones=(2,)), {3: (10, 2)}),  # 20 is 23 − 3
        (controls.pizza(23, (3,), overtones=(3,)), {9: (3, 3)}),
        (controls.pizza(31, (3, 10), overtones=(2,)), {6: (3, 2), 11: (10, 2)}),
        (controls.pizza(15, (4,), overtones=(2,)), {7: (4, 2)}),  # composite
        (
            controls.pizza(23, (3, 6), overtones=(2,)),
            {11: (6, 2)},
        ),  # 6 is embedded beside 3, and made by it: of its own in part
        # Embedded and read, each with neurons of its own: independent, though one is twice or three times the
        # other
        (controls.pizza(23, (3, 6)), {}),
        (controls.pizza(23, (3, 9)), {}),
        (controls.clock(17, (2, 4)), {}),
        (controls.clock(13, (1, 2, 3)), {}),
        (controls.clock(16, (4, 8)), {}),  # the Nyquist frequency
        (controls.clock(17, (2,), idle=(4,)), {}),  # embedded, and used by nothing
        (controls.pizza(23, (3, 5)), {}),  # no small multiples
        (controls.random_network(), {}),
        (controls.lookup(13), {}),
        (controls.gromov(11, 300), {}),
    ],
)
def test_a_frequency_is_a_harmonic_where_another_makes_it(view, harmonics):
    found = gi.key_frequencies(view)
    assert {k: (each.of, each.order) for k, each in found.harmonics.items()} == harmonics
    for k, each in found.harmonics.items():
        assert (each.embedded, each.without_fundamental, each.without_own, each.where) == (0, 0, 1, "logits")
        times = "twice" if each.order == 2 else "three times"
        assert re.search(
            rf"\b{k} is {times} key {each.of}( \([^)]* mod \d+\))?, and a harmonic of it",
            found.harmonics_in_words,
        )
        assert "no power in the embedding of its own" in found.harmonics_in_words
    assert ("harmonic" in found.harmonics_in_words) == bool(harmonics)


def test_a_harmonic_with_a_little_power_of_its_own_says_how_much():
    plain = controls.pizza(23, (3,), overtones=(2,))
    cos, sin = controls.waves(23, 6)
    table = plain.weights["embed.W_E"].clone()
    table[:23, 0], table[:23, 1] = table[:23, 0] + 0.05 * cos, table[:23, 1] + 0.05 * sin
    found = gi.key_frequencies(plain.with_weights({"embed.W_E": table}))
    harmonic = found.harmonics[6]
    assert harmonic.embedded == pytest.approx(0.0025 / 1.0025)
    assert harmonic.without_fundamental == 0
    assert harmonic.without_own == pytest.approx(1, abs=0.05)
    assert "it has 0.2 % of the embedding" in found.harmonics_in_words


def test_a_harmonic_of_a_model_with_hooks_is_found_too():
    plain = controls.pizza(23, (3,), overtones=(2,))
    seen = gi.view(plain.model, plain.task)
    assert {k: each.of for k, each in gi.key_frequencies(seen).harmonics.items()} == {6: 3}
    assert gi.key_frequencies(seen).consensus == [3]  # the network itself was not changed
    assert torch.equal(seen.weights["embed.W_E"], plain.weights["embed.W_E"])


def test_what_is_twice_a_key_and_embedded_alone_is_said_to_be_that():
    found = gi.key_frequencies(controls.clock(17, (2, 5), idle=(4, 7)))
    assert (found.consensus, found.harmonics) == ([2, 5], {})
    assert found.doubles == {4: 2, 7: 5}  # 10 is 17 − 7
    assert found.harmonics_in_words == (
        "4 is twice key 2: embedded, and marked by no rule that looks further. "
        "7 is twice key 5 (2 · 5 = 10 ≡ −7 mod 17): embedded, and marked by no rule that looks further."
    )


def test_of_the_run_that_ships_two_embedded_frequencies_are_doubles_of_keys():
    found = gi.key_frequencies(gi.load_run(ROOT / "checkpoints" / "modular_addition_113").view(-1))
    assert (found.consensus, found.harmonics, found.doubles) == ([7, 37, 42, 52], {}, {9: 52, 29: 42})


@pytest.mark.parametrize(
    "view", [controls.pizza(23, (3,)), controls.clock(17, (2,)), controls.gromov(11, 60)]
)
def test_a_view_with_other_weights_is_another_network(view):
    name, rows = view.embedding_rows[0]
    changed = view.weights[name].clone()
    changed[rows] = 0
    other = view.with_weights({name: changed})
    assert not other.W_E[:, : view.weights[name].shape[1]].any()
    assert view.W_E.any()
    assert torch.equal(view.with_weights({}).logits, view.logits)
