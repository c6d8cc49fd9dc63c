"""Sums of numbers of n digits: labels against Python's integers, carries and classes against a computation
place by place, what is drawn against what was asked for, and the levels of the loss against counting."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import grokinterp as gi
from grokinterp.errors import ConfigError
from grokinterp.tasks import carries, make_task
from grokinterp.tasks.digits import classes_of, name_of, sum_of

FEW = {"examples": 60, "per_class": 3}


def addition(**parameters):
    return make_task("digit_addition", **{**FEW, **parameters})


def integers(task) -> list[tuple[int, int]]:
    """a and b of every example, read off its tokens by the words at its positions."""
    at = {word: position for position, word in enumerate(task.reads.words)}
    return [
        tuple(sum(int(row[at[f"{letter}{place}"]]) * 10**place for place in range(task.n)) for letter in "xy")
        for row in task.inputs
    ]


def by_hand(a: int, b: int, n: int) -> tuple[list[int], int, list[int]]:
    """The carry into each place and out of the last, the class, and the sums of the digits."""
    sums = [a // 10**k % 10 + b // 10**k % 10 for k in range(n)]
    carried = [0]
    for k in range(n):
        carried.append(int((a % 10 ** (k + 1) + b % 10 ** (k + 1)) >= 10 ** (k + 1)))
    longest = 0
    for k in range(n):
        if sums[k] >= 10:
            nines = len(list(itertools.takewhile(lambda s: s == 9, sums[k + 1 :])))
            longest = max(longest, 1 + nines)
    return carried, min(longest, 5), sums


# Labels, factors, classes


@settings(max_examples=25)
@given(
    n=st.integers(1, 20), order=st.sampled_from(["big", "little"]), seed=st.integers(0, 2**32 - 1),
    nines=st.sampled_from([0.0, 0.6]), carried=st.sampled_from([0.0, 0.4]), which=st.integers(0, 21),
)  # fmt: skip
def test_answers_are_the_digits_of_the_sum(n, order, seed, nines, carried, which):
    answer = "all" if which > n else name_of(which)
    task = addition(n=n, order=order, sample_seed=seed, nines=nines, carries=carried, answer=answer)
    task.look_through()
    for (a, b), digits in zip(integers(task), task.sample.answers.tolist(), strict=True):
        written = str(a + b).zfill(n + 1)
        expected = written if order == "big" else written[::-1]
        if answer != "all":
            expected = written[n - which]
        assert "".join(map(str, digits)) == expected
    if answer == "all":
        shown = task.inputs[:, task.reads.positions[0] + 1 :]
        assert torch.equal(shown, task.sample.answers[:, :-1])


@settings(max_examples=25)
@given(n=st.integers(1, 20), seed=st.integers(0, 2**32 - 1), nines=st.sampled_from([0.0, 0.7]))
def test_carries_and_classes_are_those_of_a_sum_done_by_hand(n, seed, nines):
    task = addition(n=n, sample_seed=seed, nines=nines)
    factors = task.factors
    for row, (a, b) in enumerate(integers(task)):
        carried, cls, sums = by_hand(a, b, n)
        assert int(task.classes[row]) == int(factors["class"].values[row]) == cls
        for place in range(n):
            values = {
                name: int(factors[f"{name}.{name_of(place)}"].values[row])
                for name in ("sum", "naive", "carry_in", "carry_out", "nine", "x", "y")
            }
            assert values == {
                "sum": sums[place], "naive": sums[place] % 10, "nine": int(sums[place] == 9),
                "carry_in": carried[place], "carry_out": carried[place + 1],
                "x": a // 10**place % 10, "y": b // 10**place % 10,
            }  # fmt: skip


def test_a_cascade_counts_the_nines_that_a_carry_ran_through():
    #             55555     44445 carries at the units, then four nines: all of S5
    pairs = torch.tensor([[[5, 5], [5, 4], [5, 4], [5, 4], [5, 4]], [[5, 5], [5, 4], [1, 1], [5, 4], [9, 9]]])
    assert classes_of(pairs).tolist() == [5, 2]
    assert sum_of(pairs).tolist() == [[0, 0, 0, 0, 0, 1], [0, 0, 3, 9, 8, 1]]
    run = carries.classes(carries.KIND_OF_SUM[pairs.sum(2)])
    assert run.tolist() == [[0, 1, 2, 3, 4, 5], [0, 1, 2, 0, 0, 1]]


# The sample, and what is drawn


@pytest.mark.parametrize("n", [1, 3, 5, 20])
def test_the_sample_has_enough_of_every_class_that_there_is(n):
    task = addition(n=n)
    counts = {name: int(rows.sum()) for name, rows in task.groups_of(None).items()}
    assert counts.keys() == {f"S{cls}" for cls in range(min(n, 5) + 1)}
    assert min(counts.values()) >= 3
    assert sum(counts.values()) == task.n_inputs >= task.n_representative == 60


def test_what_is_there_for_its_class_is_not_among_all_examples():
    view = gi.view(_random(addition(n=5)), addition(n=5))
    part = gi.measure("accuracy", view)
    assert int(view.rows("all").sum()) == 60
    right = view.task.inputs.new_zeros(0)
    for answer in view.answers:
        right = view.at(answer).correct()[:60].double()
        assert float(part.sel(answer=answer, part="all")) == float(right.mean())
    assert int(view.rows("S5").sum()) == 3
    assert not (view.rows("S5") & view.rows("all")).any()


def _random(task):
    from grokinterp.models import ModelConfig

    config = ModelConfig(d_model=8, n_heads=2, d_head=4, d_mlp=8)
    return config.hooked(task.reads, config.initial_weights(task.reads, 0))


def test_examples_of_a_class_are_drawn_as_that_class_is_among_all():
    """S2 of three digits, by two routes: drawn for it, and picked from very many."""
    mixture, generator = addition(n=3, nines=0.3).mixture, torch.Generator().manual_seed(0)
    for_it = carries.drawn_of_class(2, 20_000, 3, mixture, generator)
    assert (carries.classes(for_it).amax(1) == 2).all()
    every = addition(n=3, nines=0.3, examples=200_000, per_class=0)
    picked = carries.KIND_OF_SUM[every.pairs.sum(2)][every.classes == 2]
    shares = [Counter(map(tuple, rows.tolist())) for rows in (for_it, picked[: len(for_it)])]
    for kinds in shares[0] | shares[1]:
        one, other = (count[kinds] / sum(count.values()) for count in shares)
        assert abs(one - other) < 5 * math.sqrt(0.25 / len(picked))
    assert abs(carries.class_shares(3, mixture)[2] - float((every.classes == 2).double().mean())) < 0.005


def test_more_nines_and_more_carries_are_drawn_where_they_are_asked_for():
    plain, nines, more = (
        addition(n=5, examples=4000, per_class=0, **options)
        for options in ({}, {"nines": 1.0}, {"carries": 1.0})
    )

    def shares(task):
        kinds = carries.KIND_OF_SUM[task.pairs.sum(2)]
        return [(kinds == kind).double().mean() for kind in range(3)]

    assert shares(plain) == pytest.approx([0.45, 0.1, 0.45], abs=0.02)
    assert shares(nines) == pytest.approx([0.27, 0.46, 0.27], abs=0.02)
    assert shares(more) == pytest.approx([0.27, 0.06, 0.67], abs=0.02)


def test_a_batch_depends_on_its_generator_alone():
    task = addition(nines=0.4)
    one, again, other = (task.drawn(50, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(one.inputs, again.inputs)
    assert not torch.equal(one.inputs, other.inputs)


# What is left to know


def entropy(counts) -> float:
    total = sum(counts)
    return -sum(c / total * math.log(c / total) for c in counts if c)


def left(rows, known, asked) -> float:
    """The entropy of what is asked where something is known, over equally likely rows."""
    of = {}
    for row in rows:
        of.setdefault(known(row), Counter())[asked(row)] += 1
    n = len(rows)
    return sum(sum(counts.values()) / n * entropy(counts.values()) for counts in of.values())


def test_the_levels_of_two_digits_are_those_counted_over_all_pairs():
    rows = [(a, b) for a in range(100) for b in range(100)]
    levels = addition(n=2).levels
    total = {place: lambda r, k=place: (r[0] + r[1]) // 10**k % 10 for place in range(3)}
    for place in range(3):
        assert levels[name_of(place)]["nothing"] == pytest.approx(left(rows, lambda r: 0, total[place]))
    tens = lambda r: (r[0] // 10, r[1] // 10)  # noqa: E731
    assert levels["tens"]["its own two digits, not the carry"] == pytest.approx(left(rows, tens, total[1]))
    with_carry = "its own two digits and what they carry out, not the carry in"
    assert levels["tens"][with_carry] == pytest.approx(
        left(rows, lambda r: (*tens(r), total[2](r)), total[1])
    )
    assert levels["tens"]["the leading digit of the sum"] == pytest.approx(left(rows, total[2], total[1]))
    assert levels["hundreds"]["those of 1 place below, not the carry"] == pytest.approx(
        left(rows, tens, total[2])
    )


def test_the_levels_of_more_nines_are_those_of_what_is_drawn():
    task = addition(n=3, answer="hundreds", nines=0.5, carries=0.3, examples=400_000, per_class=0)
    pairs, digit = task.pairs, task.targets
    own = pairs[:, 2, 0] * 10 + pairs[:, 2, 1]
    below = own * 100 + pairs[:, 1, 0] * 10 + pairs[:, 1, 1]
    for words, known in (
        ("nothing", torch.zeros_like(own)),
        ("its own two digits, not the carry", own),
        ("its own two digits and those of 1 place below, not the carry", below),
    ):
        counts = torch.zeros(10_000, 10).index_put_((known, digit), torch.ones(len(digit)), accumulate=True)
        of_known = counts / counts.sum(1, keepdim=True).clamp(min=1)
        nats = float((torch.special.entr(of_known).sum(1) * counts.sum(1) / len(digit)).sum())
        assert task.levels["hundreds"][words] == pytest.approx(nats, abs=0.01)


def test_the_levels_of_five_digits_are_those_of_the_lab_notes():
    levels = addition(n=5).levels
    own = "its own two digits, not the carry"
    assert levels["units"] == {"nothing": pytest.approx(math.log(10))}
    assert levels["tens"][own] == pytest.approx(-0.45 * math.log(0.45) - 0.55 * math.log(0.55))
    assert levels["thousands"][own] == pytest.approx(math.log(2), abs=1e-4)
    assert levels["10^5"]["nothing"] == pytest.approx(math.log(2), abs=1e-4)
    tens_are_nine = levels["hundreds"]["its own two digits and those of 1 place below, not the carry"]
    assert tens_are_nine == pytest.approx(0.1 * levels["tens"][own])


# Writing, and bad input


def test_a_question_is_written_as_its_layout_says():
    assert addition(n=1).symbol == "all digits of a + b, numbers of 1 digit"
    task = addition(n=2, layout="a +@10 b =@12 +@10 of 15")
    assert task.reads.words == ("x1", "x0", "+", "y1", "y0", "=", "+", "z2", "z1")
    assert task.reads.d_vocab == 15
    assert task.reads.positions == (6, 7, 8)
    assert set(map(tuple, task.inputs[:, [2, 5, 6]].tolist())) == {(10, 12, 10)}


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"n": 2, "answer": "thousands"}, r"no digit 'thousands'; .* has hundreds, tens, units"),
        ({"n": 0}, r"task\.n"),
        ({"n": 21}, r"task\.n"),
        ({"nines": 0.7, "carries": 0.7}, "more than all examples"),
        ({"layout": "a +@3 b ="}, "every sign needs a token of its own"),
        ({"layout": "a y1 b ="}, "task.layout: y1 is what a digit is called here"),
        ({"answer": "ones"}, "no digit 'ones'"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_one_line(parameters, says):
    with pytest.raises(ConfigError, match=says) as refused:
        make_task("digit_addition", **parameters)
    assert "\n" not in str(refused.value)


def test_a_sample_that_does_not_fit_the_memory_is_refused(monkeypatch):
    monkeypatch.setattr("grokinterp.tasks.digits.free_memory", lambda: 1e6)
    with pytest.raises(ConfigError, match=r"^task\.examples: a sample of 4,096 questions of 20 digits"):
        make_task("digit_addition", n=20).look_through()


def test_a_class_that_the_sample_does_not_have_is_named_with_those_that_it_has():
    view = gi.view(_random(addition(n=2)), addition(n=2))
    with pytest.raises(gi.errors.UsageError, match="no part 'S4'"):
        view.rows("S4")


# Training


@pytest.mark.trains
def test_sums_of_two_digits_are_learned_and_resumed(tmp_path):
    overrides = {
        "task.n": 1, "model.d_model": 32, "model.d_mlp": 64, "training.steps": 300, "training.lr": 3e-3,
        "training.batch_size": 256, "task.examples": 500, "training.stop_when": "test_loss.tens < 0.05",
        "threads": 1, "snapshots.every": 100, "snapshots.log": None,
    }  # fmt: skip
    run = gi.train(gi.TrainConfig.preset("digits", **overrides), tmp_path / "run", progress=False)
    assert "test_loss.units" in run.history
    assert run.history["test_loss.tens"].iloc[-1] < run.history["test_loss.tens"].iloc[0] / 5
