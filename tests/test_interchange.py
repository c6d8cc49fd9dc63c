"""Interchange finds every sub-task where a network is built to have it, and none in a random network."""

from __future__ import annotations

import functools
import json

import pytest
import torch

import grokinterp as gi
from grokinterp import controls
from grokinterp.errors import NotApplicable, UsageError
from grokinterp.measures import (
    Hypothesis,
    Interchange,
    Subtask,
    digits_hypothesis,
    hypotheses,
    operation_hypothesis,
)
from grokinterp.models import MLPConfig, ModelConfig
from grokinterp.report.analysis import Analysis
from grokinterp.report.digits import sections

SAMPLE = {"examples": 300, "per_class": 40}
CASES = 60
IS_THERE = {
    "digit sum of the units": {"L0H0 at 7: z1", "L1 MLP at 7: z1"},
    "digit sum of the tens": {"L0H0 at 6: z2"},
    "carry into the tens": {"L0H1 at 6: z2", "L0 MLP at 6: z2"},
    "carry into the hundreds": {"L0H1 at 5: =", "L0 MLP at 5: =", "L1 MLP at 5: ="},
    "kind of the sum below the hundreds": set(),
}
"""MLP 1 holds the answer, which is the digit sum at the units and the carry above the highest digit. The kind
of a sum below is no value of its own: the carry is made of all digits at once."""


def adder() -> gi.View:
    return controls.adder(2, **SAMPLE)


@functools.cache
def of_the_adder() -> Interchange:
    return gi.interchange(adder(), digits_hypothesis(adder().task), cases=CASES)


def one(name: str) -> Hypothesis:
    """One sub-task of the digits."""
    whole = digits_hypothesis(adder().task)
    return Hypothesis("one", tuple(subtask for subtask in whole.subtasks if subtask.name == name))


def test_every_subtask_of_the_adder_is_where_it_was_built_and_nowhere_else():
    assert {verdict.subtask: set(verdict.carriers) for verdict in of_the_adder().verdicts} == IS_THERE
    assert all(verdict.together is None for verdict in of_the_adder().verdicts)


def test_what_carries_a_subtask_does_so_in_every_case_and_an_idle_head_in_none():
    table = of_the_adder().table.set_index(["subtask", "site"])
    assert (table[table.passes].share == 1).all()
    assert (table[table.passes].stays == 1).all()
    assert table.share["carry into the hundreds", "L0H0 at 5: ="] == 0
    assert table.stays["carry into the hundreds", "L0H0 at 5: ="] == 1
    assert table.shuffled["carry into the hundreds", "L0H1 at 5: ="] == pytest.approx(0.5, abs=0.05)


def test_a_random_network_carries_nothing():
    random = controls.random_like(adder())
    sites = sites_at(random.task.reads.positions)
    found = gi.interchange(random, digits_hypothesis(random.task), sites, cases=30)
    assert not any(verdict.carriers or verdict.together for verdict in found.verdicts)
    assert found.table.share.max() < 0.5


def sites_at(positions) -> list[tuple[str, int]]:
    """Nodes of both layers at these positions."""
    return [(node, at) for node in ("L0H0", "L0H1", "L0 MLP", "L1H0", "L1 MLP") for at in positions]


def test_of_five_digits_the_adder_says_what_it_was_built_to_do_and_a_random_network_nothing():
    view = controls.adder(5, **SAMPLE)
    position = dict(zip(view.answers, view.task.reads.positions, strict=True))

    def sites(place: str, *nodes: str) -> set[str]:
        return {f"{node} at {position[place]}: {view.task.reads.words[position[place]]}" for node in nodes}

    are_there = {
        "digit sum of the hundreds": sites("hundreds", "L0H0"),
        "carry into the hundreds": sites("hundreds", "L0H1", "L0 MLP"),
        "kind of the sum below the hundreds": set(),
        "carry into the 10^5": sites("10^5", "L0H1", "L0 MLP", "L1 MLP"),
    }
    every = digits_hypothesis(view.task).subtasks
    some = Hypothesis("some", tuple(subtask for subtask in every if subtask.name in are_there))
    where = sites_at([position["hundreds"], position["10^5"]])
    built = gi.interchange(view, some, where, cases=30).verdicts
    assert {verdict.subtask: set(verdict.carriers) for verdict in built} == are_there
    assert not any(verdict.together for verdict in built)
    never_trained = gi.interchange(controls.random_like(view, 1), some, where, cases=30).verdicts
    assert not any(verdict.carriers or verdict.together for verdict in never_trained)


def test_the_clock_has_a_in_one_head_b_in_the_other_and_the_answer_in_its_neurons():
    clock = controls.clock(13, (1, 4))
    found = gi.interchange(clock, operation_hypothesis(clock.task), cases=CASES)
    assert [verdict.carriers for verdict in found.verdicts] == [
        ("L0H0 at 2: =",),
        ("L0H1 at 2: =",),
        ("L0 MLP at 2: =",),
    ]


def test_by_hand_with_hooks_of_transformer_lens_the_share_is_the_same():
    view, name = adder(), "digit sum of the tens"
    (subtask,) = one(name).subtasks
    asked = []

    def predict(receivers, donors):
        asked.append((receivers, donors))
        return subtask.predict(receivers, donors)

    sites = [("L0H0", 6), ("L1 MLP", 6)]
    spied = Hypothesis("spied", (Subtask(name, subtask.values, predict),))
    found = gi.interchange(view, spied, sites, cases=CASES)
    receivers, donors = asked[0]
    model, inputs, tens = view.model, view.task.inputs, 1
    before = model(inputs[receivers])[:, 6].argmax(1)
    expected = subtask.predict(receivers, donors)[:, tens]
    told = (expected != before).nonzero().flatten().tolist()
    # The first of each value, then the second of each, and so on, until there are enough.
    had: dict[int, int] = {}
    rounds = []
    for i in told:
        value = int(subtask.values[donors[i]])
        had[value] = had.get(value, 0) + 1
        rounds.append((had[value], i))
    chosen = [i for _, i in sorted(rounds)[:CASES]]
    receivers, donors, expected = receivers[chosen], donors[chosen], expected[chosen]
    _, cache = model.run_with_cache(inputs[donors])
    for trial, hook, at in zip(
        found.trials,
        ("blocks.0.attn.hook_z", "blocks.1.mlp.hook_post"),
        ((slice(None), 6, 0), (slice(None), 6)),
        strict=True,
    ):

        def put(x, hook, at=at):
            x[at] = cache[hook.name][at]
            return x

        logits = model.run_with_hooks(inputs[receivers], fwd_hooks=[(hook, put)])
        share = float((logits[:, 6].argmax(1) == expected).double().mean())
        assert trial.share == share


def test_where_no_site_is_enough_the_two_that_are_together_are_found():
    view = adder()
    digit = view.task.sample.answers[:, 1]

    def donors_digit(receivers, donors):
        predicted = torch.full((len(donors), 3), -1)
        predicted[:, 1] = digit[donors]
        return predicted

    hypothesis = Hypothesis("tens", (Subtask("tens", digit, donors_digit),))
    sites = [(node, position) for position in (5, 6, 7) for node in ("L0H0", "L0H1")]
    (verdict,) = gi.interchange(view, hypothesis, sites, cases=CASES).verdicts
    assert verdict.carriers == ()
    assert set(verdict.together.sites) == {"L0H0 at 6: z2", "L0H1 at 6: z2"}
    assert verdict.together.share == 1
    assert verdict.random_sets < 0.7
    said = "tens: L0H0 at 6: z2 with L0H1 at 6: z2 (100 %, 95 % interval 94 to 100 %; random sets as large"
    assert verdict.sentence.startswith(said)


def test_a_set_that_no_site_hints_at_is_found_among_those_that_read_the_same():
    """Two heads give the digit of a and that of b; the MLP behind them, which holds the answer, agrees on
    more cases than either."""
    view = adder_with_a_head_for_each_number()
    (verdict,) = gi.interchange(view, one("digit sum of the tens"), cases=CASES).verdicts
    best = gi.interchange(view, one("digit sum of the tens"), cases=CASES).table.nlargest(1, "share")
    assert best.site.tolist() == ["L1 MLP at 6: z2"]
    assert set(verdict.together.sites) == {"L0H0 at 6: z2", "L0H2 at 6: z2"}
    assert verdict.together.share == 1


def adder_with_a_head_for_each_number() -> gi.View:
    built = adder()
    weights = {name: weight.clone() for name, weight in built.weights.items()}
    for name in [name for name in weights if ".attn." in name and weights[name].ndim > 1]:
        weights[name] = torch.cat([weights[name], weights[name][:1]])
    words, query = built.task.reads.words, weights["blocks.0.attn.W_Q"]
    for head, of_the_other in ((0, "y"), (2, "x")):
        for place in range(2):
            position = built.task.reads.positions[2 - place]
            query[head, 1 + position, words.index(f"{of_the_other}{place}")] = -1e4
        weights["blocks.0.attn.W_O"][head] /= 2
    config = ModelConfig.of_hooked(built.model.cfg).model_copy(update={"n_heads": 3})
    return gi.View.of_weights(built.task, config, weights)


def test_a_set_is_checked_on_pairs_that_did_not_choose_it():
    view, (subtask,) = adder(), one("carry into the tens").subtasks
    own = torch.stack([view.at(answer).logits.argmax(1) for answer in view.answers], dim=1)
    pairs, others = hypotheses._Pairs.drawn(view, own, subtask, CASES, torch.Generator().manual_seed(0))
    chose, check = (set(zip(p.receivers.tolist(), p.donors.tolist(), strict=True)) for p in (pairs, others))
    assert len(others.receivers) == CASES
    assert not chose & check


def test_what_is_found_and_is_not_enough_is_said_with_its_interval():
    verdict = next(v for v in of_the_adder().verdicts if v.subtask.startswith("kind"))
    assert verdict.together is None
    # A head that holds the carry is wrong wherever the donor's sum is nine: a third of the values.
    assert verdict.best.share == pytest.approx(2 / 3, abs=0.05)
    assert verdict.best.low < verdict.best.share < verdict.best.high
    assert verdict.random_sets is None
    assert "no node carries it, and no set that was tried; the best is L0H1 at 5: = (" in verdict.sentence


def test_donors_are_balanced_over_the_values():
    seen = []

    def predict(receivers, donors):
        seen.append(donors)
        return subtask.predict(receivers, donors)

    (subtask,) = one("digit sum of the tens").subtasks
    gi.interchange(
        adder(), Hypothesis("", (Subtask("s", subtask.values, predict),)), [("L0H0", 6)], cases=CASES
    )
    counts = subtask.values[seen[0]].bincount()
    assert counts.max() - counts.min() <= 1


def test_a_seed_gives_the_same_result_and_the_weights_stay():
    before = {name: weight.clone() for name, weight in adder().weights.items()}
    again = gi.interchange(adder(), one("digit sum of the tens"), cases=CASES)
    assert set(again.trials) < set(of_the_adder().trials)
    assert all(torch.equal(weight, before[name]) for name, weight in adder().weights.items())


def test_it_is_plain_json_and_says_which_subtask_no_node_carries():
    whole = json.loads(json.dumps(of_the_adder().to_dict()))
    assert whole["trials"][0]["cases"] == CASES
    assert "kind of the sum below the hundreds: no node carries it" in whole["sentence"]


def no_prediction(receivers, donors):
    raise KeyError("thousands")


@pytest.mark.parametrize(
    ("predict", "says"),
    [
        (no_prediction, r"carry: predict\(\) raised KeyError: 'thousands'"),
        (
            lambda r, d: torch.zeros(len(r) - 1, 3, dtype=torch.long),
            r"carry: predict\(\) gave \[1799, 3\], and needs \[1800, 3\]",
        ),
        (lambda r, d: None, r"gave no tensor of integers \(NoneType\), and needs \[1800, 3\]"),
        (lambda r, d: torch.full((len(r), 3), 0.5), r"gave no tensor of integers \(torch.float32\), and"),
        (lambda r, d: torch.full((len(r), 3), 10), r"predict\(\) gave 10, and classes are 0 to 9, or -1"),
        (lambda r, d: torch.full((len(r), 3), -2), r"predict\(\) gave -2, and classes are 0 to 9, or -1"),
        (lambda r, d: torch.full((len(r), 3), -1), "carry: in none of 1,800 pairs does it predict another"),
    ],
)
def test_a_bad_prediction_is_told_in_one_line(predict, says):
    values = adder().task.factors["carry_in.tens"].values
    with pytest.raises(UsageError, match=says):
        gi.interchange(adder(), Hypothesis("", (Subtask("carry", values, predict),)), cases=CASES)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (torch.zeros(5, dtype=torch.long), r"carry: its values are \[5\], and need to be \["),
        (None, "carry: its value is 0 on every example"),
    ],
)
def test_values_that_cannot_be_exchanged_are_told_in_one_line(values, says):
    values = torch.zeros(adder().task.n_inputs, dtype=torch.long) if values is None else values
    with pytest.raises(UsageError, match=says):
        gi.interchange(adder(), Hypothesis("", (Subtask("carry", values, no_prediction),)))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"sites": [("L0H2", 5)]}, "no node 'L0H2'; did you mean"),
        ({"sites": [("L0H1", 8)]}, "no position 8: examples have 0 to 7"),
        ({"sites": []}, "sites: none are given"),
        ({"cases": 9}, "fewer than 10 cases, got 9"),
    ],
)
def test_what_the_network_lacks_is_told_in_one_line(options, says):
    with pytest.raises(UsageError, match=says):
        gi.interchange(adder(), one("carry into the tens"), **options)


def test_a_network_without_positions_has_no_sites():
    task = gi.make_task("modular_addition", p=5)
    config = MLPConfig(d_mlp=8)
    view = gi.View.of_weights(task, config, config.initial_weights(task.reads, 0))
    with pytest.raises(NotApplicable, match="no heads and no MLP"):
        gi.interchange(view, operation_hypothesis(task))


@pytest.mark.parametrize("made", ["adder", "random"])
def test_the_report_says_which_node_carries_which_part_of_the_sum(made):
    view = controls.adder(2, answer="tens", examples=600, per_class=10)
    if made == "random":
        view = controls.random_like(view)
    a = object.__new__(Analysis)  # as much of one as the section takes
    a.view = view
    (table,) = sections._carried(a)
    rows = {subtask: (by, share) for subtask, share, by, *_ in table.rows}
    by, share = rows["carry into the tens"]
    assert ("no node" in by) == (made == "random")
    assert (share == "100 %") == (made == "adder")
