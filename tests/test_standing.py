"""How far a network has learned its task: the states and the words of built accuracies, of built networks, of
any number of examples."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grokinterp import controls
from grokinterp.measures.standing import GENERALISED, Examples, percent, standing, wilson
from grokinterp.report.claims import needs

OF_53 = Examples(chance=1 / 53, train=1123, test=1686, all=2809)


@pytest.mark.parametrize(
    ("train", "test", "state", "words"),
    [
        (
            0.02,
            0.019,
            "at chance",
            "2.0 % of training and 1.9 % of unseen examples are right: no better than chance (1.9 %), each "
            "as far",
        ),
        (0.0, 0.0, "at chance", "0 % of training and 0 % of unseen"),
        (
            1.0,
            0.019,
            "memorises",
            "100 % of its training examples are right, and of unseen ones 1.9 %: no better than chance (1.9 "
            "%)",
        ),
        (1.0, 0.0, "memorises", "of unseen ones 0 %"),
        (0.4, 0.025, "memorises", "40.0 % of its training examples"),
        (
            1.0,
            0.37,
            "learning",
            "37.0 % of unseen examples are right, 19.6 times chance; of its training examples 100 %",
        ),
        (1.0, 0.972, "learning", "97.2 % of unseen examples are right, 51.5 times chance"),
        (1.0, 0.98996, "learning", "98.996 % of unseen"),
        (0.5, 0.5, "learning", "50.0 % of unseen"),
        (1.0, 0.99, "generalises", "99.0 % of unseen examples are right (chance is 1.9 %)"),
        (1.0, 0.99999, "generalises", "99.999 % of unseen"),
        (0.98, 1.0, "generalises", "100 % of unseen"),
        (None, 0.02, "not known", "of training examples it is not known"),
        (None, None, "not known", "its history does not say"),
        (math.nan, math.nan, "not known", "its history does not say"),
    ],
)
def test_the_state_is_told_from_accuracy_against_chance(train, test, state, words):
    found = OF_53.standing(train, test)
    assert (found.state, words in found.words) == (state, True), found.words
    assert found.to_dict()["state"] == state


@pytest.mark.parametrize(
    ("n", "state"), [(20, "memorises"), (100, "memorises"), (1000, "learning"), (100_000, "learning")]
)  # fmt: skip
def test_how_many_examples_there_are_decides_whether_twice_chance_is_more_than_chance(n, state):
    assert Examples(0.02, n, n, 2 * n).standing(1.0, 0.04).state == state


@pytest.mark.parametrize(
    ("whole", "state"), [(1.0, "not known"), (0.5, "not known"), (1 / 53, "at chance"), (0.0, "at chance")]
)  # fmt: skip
def test_without_a_split_no_more_is_said_than_that_it_is_at_chance(whole, state):
    found = Examples(1 / 53, 0, 0, 2809).standing(None, None, whole)
    assert found.state == state
    assert percent(whole) in found.words


def test_of_noisy_labels_nine_tenths_of_the_right_answers_are_enough():
    assert Examples(1 / 53, 1123, 1686, 2809, noisy=True).standing(0.6, 0.9).state == "generalises"
    assert OF_53.standing(0.6, 0.9).state == "learning"


@pytest.mark.parametrize(
    ("view", "state"),
    [
        (controls.clock(13, (2, 5)), "generalises"),
        (controls.pizza(13, (2, 5)), "generalises"),
        (controls.memoriser(31), "memorises"),
        (controls.random_network(31), "at chance"),
        (controls.lookup(13), "generalises"),
    ],
    ids=["clock", "pizza", "memoriser", "random", "lookup"],
)
def test_networks_whose_algorithm_is_known(view, state):
    assert standing(view).state == state


def test_of_some_rows_alone():
    view = controls.memoriser(31)
    assert standing(view, view.split.train).state == "not known"  # none of them is unseen
    assert standing(view, view.split.train).shares.keys() == {"train", "all"}
    assert standing(view, view.split.test[:200]).shares["test"].n == 200


@given(st.floats(0, 1), st.integers(1, 10_000))
def test_the_interval_holds_the_share_and_narrows_with_more_examples(share, n):
    low, high = wilson(share, n)
    assert 0 <= low <= share + 1e-12
    assert share - 1e-12 <= high <= 1
    wider = wilson(share, max(1, n // 4))
    assert wider[1] - wider[0] >= high - low - 1e-12


def test_the_interval_is_that_of_the_quadratic():
    """The second route: the shares q at which (share − q)² = z² q (1 − q) / n."""
    share, n, z = 0.3, 50, 2.5758293035489004
    for q in wilson(share, n):
        assert (share - q) ** 2 == pytest.approx(z * z * q * (1 - q) / n, rel=1e-9)


@given(st.floats(0, 1), st.floats(0, 1), st.integers(1, 5000), st.integers(2, 500))
def test_no_words_say_another_state_than_the_value(train, test, n, answers):
    found = Examples(1 / answers, n, n, 2 * n).standing(train, test)
    said = {
        "generalises": "of unseen examples are right (chance is" in found.words,
        "learning": "times chance" in found.words,
        "memorises": "of its training examples are right, and of unseen ones" in found.words,
        "at chance": "examples are right: no better than chance" in found.words,
    }
    assert [state for state, so in said.items() if so] == [found.state]
    assert (found.state == "generalises") == (test >= GENERALISED and found.shares["test"].low > found.chance)


@pytest.mark.parametrize(("n", "state"), [(1, "at chance"), (6, "at chance"), (7, "generalises")])
def test_of_a_handful_of_examples_all_may_be_right_by_chance(n, state):
    """Of seven coins that all show heads 99 % of the interval lies above a half: 7 / (7 + z²) = .513."""
    found = Examples(0.5, 3, n, 3 + n).standing(1.0, 1.0)
    assert found.state == state
    assert (
        f"as far as {n} example" in found.words or state == "generalises" or "each as far as" in found.words
    )


@given(st.floats(0, 1))
def test_a_share_in_per_cent_stands_on_its_own_side_of_the_limits(share):
    shown = float(percent(share).removesuffix(" %"))
    for limit in (0.0, 99.0, 100.0):
        if abs(100 * share - limit) > 1e-9:
            assert (shown < limit) == (100 * share < limit)
            assert (shown > limit) == (100 * share > limit)


@given(
    st.floats(0, 10), st.sampled_from(["<=", "<", ">=", ">"]), st.sampled_from([0.1, 0.5, 0.75, 0.99, 2.0])
)
def test_evidence_shows_on_which_side_of_its_limit_a_number_is(value, sign, limit):
    holds, words = needs("x", value, sign, limit)
    left, right = words.split(", needs ")
    shown, needed = float(left.removeprefix("x = ")), float(right.split()[1])
    assert needed == limit
    if abs(value - limit) > 1e-12:
        assert {"<=": shown <= limit, "<": shown < limit, ">=": shown >= limit, ">": shown > limit}[
            sign
        ] == holds


@pytest.mark.parametrize(("z", "says"), [(1.959963984540054, 0.95), (2.5758293035489004, 0.99)])
@pytest.mark.parametrize("n", [30, 200])
def test_intervals_hold_the_truth_as_often_as_they_say(n, z, says):
    """Over true shares from 5 to 95 %, by the exact chance of every count."""
    intervals = [wilson(k / n, n, z) for k in range(n + 1)]
    truths = [i / 400 for i in range(20, 381)]
    covered = [
        sum(
            math.comb(n, k) * p**k * (1 - p) ** (n - k)
            for k, (low, high) in enumerate(intervals)
            if low <= p <= high
        )
        for p in truths
    ]
    assert sum(covered) / len(covered) == pytest.approx(says, abs=0.006)
    assert min(covered) > says - 0.06
