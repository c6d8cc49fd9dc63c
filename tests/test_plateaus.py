"""Plateaus of a loss: curves that are built with them and without, and what is said of a run with some."""

from __future__ import annotations

import json
import math

import numpy as np
import pandas as pd
import pytest

import grokinterp as gi
from grokinterp.errors import NotApplicable
from grokinterp.measures.standing import wilson
from grokinterp.replay import courses, courses_in_words, levels_to_draw
from grokinterp.report.analysis import Analysis
from grokinterp.report.words import level_labels
from test_report import text_of

KNOWN = {"nothing": 2.303, "its digits": 0.688}


def history(points, noise=0.0, every=10, column="test_loss") -> pd.DataFrame:
    """Evaluations of a loss that goes through these points in straight lines."""
    at, values = zip(*points, strict=True)
    steps = np.arange(0, at[-1] + 1, every)
    loss = np.interp(steps, at, values) * np.exp(noise * np.random.default_rng(0).normal(size=len(steps)))
    return pd.DataFrame({"step": steps, column: loss})


TENS = [(0, 2.3), (210, 2.3), (300, 0.75), (650, 0.75), (900, 0.3), (1200, 0.04), (2000, 1e-4)]


def course(table, levels=KNOWN):
    (one,) = courses(table, {"tens": levels})
    return one


@pytest.mark.parametrize("noise", [0.0, 0.03])
def test_plateaus_are_where_they_were_built_and_named_by_what_is_known(noise):
    first, second = course(history(TENS, noise)).plateaus
    assert (first.known, second.known) == ("nothing", "its digits")
    assert first.level == pytest.approx(2.3, abs=0.05)
    assert second.level == pytest.approx(0.75, abs=0.02)
    assert (first.first, abs(first.last - 210) <= 30) == (0, True)
    assert abs(second.first - 300) <= 20
    assert 650 <= second.last <= 800  # it may come down a fifth in it
    assert second.last < second.left <= 800


def test_a_spike_does_not_end_a_plateau_and_is_none():
    table = history(TENS, 0.01)
    table.loc[45, "test_loss"] = 20.0
    assert [(p.first, p.last) for p in course(table).plateaus] == [
        (p.first, p.last) for p in course(history(TENS, 0.01)).plateaus
    ]


def test_descents_are_the_first_evaluations_a_tenth_of_a_nat_below():
    one = course(history(TENS))
    table = history(TENS)
    for known, level in KNOWN.items():
        assert one.descents[known] == table["step"][table["test_loss"] < level - 0.1].iloc[0]
    assert one.below == one.converged == table["step"][table["test_loss"] < 0.05].iloc[0]


def test_a_level_that_it_began_below_is_not_left():
    assert course(history([(0, 0.69), (500, 0.69), (800, 0.01)])).descents.keys() == {"its digits"}


STEPS = np.arange(0, 3001, 10)
SLOPES = {
    **{f"a power of {power}": 2.3 * (1 + STEPS / 10) ** -power for power in (0.3, 0.6, 1.0, 2.0)},
    **{f"a half-life of {half}": 2.3 * 0.5 ** (STEPS / half) for half in (50, 300, 1000, 9000)},
    "a straight line down to 0": 2.3 * (1 - STEPS / 3000),
    "a straight line that is not done": 2.3 - STEPS / 7000,
    "a slope, then a fall": np.interp(STEPS, [0, 500, 900], [2.3, 1.9, 0.001]),
    "a fall, then a slope": np.interp(STEPS, [0, 100, 3000], [2.3, 1.0, 0.02]),
    "a slow rise": 0.3 * 2 ** (STEPS / 1500),
}


@pytest.mark.parametrize("noise", [0.0, 0.03])
@pytest.mark.parametrize("slope", SLOPES)
def test_a_loss_that_only_slopes_has_none(slope, noise):
    random = np.random.default_rng(1).normal(size=len(STEPS))
    table = pd.DataFrame({"step": STEPS, "test_loss": SLOPES[slope] * np.exp(noise * random)})
    assert course(table).plateaus == ()
    assert ": the loss has no plateau; it " in course(table).sentence


def test_a_slope_from_the_first_step_on_is_one_where_the_task_explains_its_level_or_it_is_flat():
    sloping = history([(0, 2.25), (300, 1.98), (330, 0.5), (400, 0.01)], 0.01)
    assert course(sloping).plateaus == ()
    (explained,) = course(sloping, {"nothing": 2.303, "the leading digit": 2.113}).plateaus
    assert (explained.first, explained.known) == (0, "the leading digit")
    (flat,) = course(history([(0, 1.5), (300, 1.48), (330, 0.5), (400, 0.01)], 0.01)).plateaus
    assert (flat.first, flat.known) == (0, None)


def test_one_ends_where_the_loss_is_a_step_below_it():
    table = history([(0, 2.3), (120, 2.3), (160, 1.7), (200, 0.001)])
    (one,) = course(table).plateaus
    assert one.left == table["step"][table["test_loss"] < 2.2].iloc[0]
    assert one.last == one.left - 10


def test_one_of_noise_alone_is_the_whole_run():
    (one,) = course(history([(0, 2.3), (3000, 2.3)], 0.05)).plateaus
    assert (one.first, one.last, one.known, one.left) == (0, 3000, "nothing", None)


def test_a_steep_beginning_whose_mean_is_a_level_is_none():
    losses = [2.11, 0.95, 0.65, 0.53, 0.41, 0.32, 0.24, 0.19, 0.17, 0.14]
    table = pd.DataFrame({"step": range(0, 50, 5), "test_loss": losses})
    assert course(table, {"nothing": (losses[0] + losses[1]) / 2}).plateaus == ()


def below(*lifted: tuple[int, float]) -> pd.DataFrame:
    """A loss that comes below 0.05 after step 100, and evaluations behind that with another loss."""
    table = history([(0, 1.0), (100, 0.06), (110, 0.03), (300, 0.02)])
    for step, loss in lifted:
        table.loc[table["step"] == step, "test_loss"] = loss
    return table


def test_learned_is_from_where_on_it_stays_so():
    later = [(step, 0.2) for step in range(200, 250, 10)]
    assert (course(below(*later)).below, course(below(*later)).converged) == (110, 250)
    assert course(below(*later)).lifted == ()
    spiked = course(below((200, 0.3), (210, 0.2)))
    assert (spiked.converged, spiked.lifted, spiked.highest) == (110, (200, 210), 0.3)
    half = course(below(*((step, 0.06) for step in range(120, 310, 20))))
    assert (half.below, half.converged) == (110, None)


FLAT = [(0, 2.3), (400, 2.3)]
SENTENCES = {
    "never left": (
        history(FLAT),
        "the loss stays at 2.3 nats to the end, as of a network that knows nothing (ln 10 = 2.303); "
        "it ends at 2.3 and is never below 0.05.",
    ),
    "unexplained, to the end": (
        history([(0, 2.0), (20, 0.3), (400, 0.3)]),
        "the loss stays at 0.3 nats from step 20 to the end, which no level of the task explains; "
        "it ends at 0.3 and is never below 0.05.",
    ),
    "two": (
        history(TENS),
        "the loss stays at 2.3 nats to step 210, as of a network that knows nothing (ln 10 = 2.303), "
        "then at 0.75 nats from step 300 to step 700, as of a network that knows its digits (0.688); "
        "it is below 0.05 from step 1,190 on.",
    ),
    "learned": (below(), "the loss has no plateau; it is below 0.05 from step 110 on."),
    "one spike": (
        below((200, 0.3)),
        "the loss has no plateau; it is below 0.05 from step 110 on, but for step 200 (up to 0.3).",
    ),
    "spikes": (
        below((150, 0.1), (200, 0.3), (250, 0.2), (300, 0.1)),
        "the loss has no plateau; it is below 0.05 from step 110 on, "
        "but for steps 150, 200, 250 and 1 more (up to 0.3).",
    ),
    "not for good": (
        below(*((step, 0.2 + step / 1000) for step in range(250, 310, 10))),
        "the loss has no plateau; it is below 0.05 first at step 110, not for good, and ends at 0.5.",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", SENTENCES)
def test_what_happened_is_said_in_one_sentence(kind):
    table, sentence = SENTENCES[kind]
    assert course(table).sentence == f"tens: {sentence}"


def test_what_is_learned_is_no_plateau():
    assert course(history([(0, 2.0), (100, 1e-6), (3000, 1e-6)])).plateaus == ()


def test_one_that_is_never_left_and_that_nothing_explains_is_said_to_be_so():
    table = history([(0, 2.3), (140, 2.3), (400, 0.6), (800, 0.133), (2500, 0.133)], 0.05)
    one = course(table, {**KNOWN, "its digits and those below": 0.069})
    assert one.plateaus[-1].level == pytest.approx(0.133, abs=0.01)
    assert (one.plateaus[-1].known, one.plateaus[-1].left, one.converged) == (None, None, None)
    assert "which no level of the task explains" in one.sentence
    assert one.sentence.endswith("and is never below 0.05.")


@pytest.mark.parametrize("n", [1, 4])
def test_of_a_few_evaluations_nothing_is_said(n):
    with pytest.raises(NotApplicable, match="no 5 evaluations of the loss"):
        course(pd.DataFrame({"step": range(n), "test_loss": [2.3] * n}))


def test_each_answer_has_its_own_and_one_that_was_not_evaluated_has_none():
    table = history(TENS, column="test_loss.tens")
    table["test_loss.units"] = 2.3
    both = courses(table, {"tens": KNOWN, "units": {"nothing": 2.303}, "sign": {"nothing": 0.69}})
    assert [one.answer for one in both] == ["tens", "units"]
    assert both[1].plateaus[0].last == table["step"].iloc[-1]


def test_without_test_examples_the_loss_that_is_trained_on_counts():
    assert len(course(history(TENS, column="train_loss")).plateaus) == 2


def told(*ends: list[tuple[int, float]]) -> list:
    """Answers a, b, c whose losses go through these points."""
    tables = [history(points, column=f"test_loss.{name}") for name, points in zip("abc", ends, strict=False)]
    table = pd.concat(tables, axis=1)
    return courses(table.loc[:, ~table.columns.duplicated()], dict.fromkeys("abc"[: len(ends)], KNOWN))


def test_several_answers_are_told_in_the_order_in_which_they_are_learned():
    late, early = [(0, 2.3), (200, 2.3), (300, 0.001), (400, 0.001)], [(0, 2.3), (50, 0.001), (400, 0.001)]
    assert courses_in_words(told(late, early, FLAT)) == (
        "The loss stays below 0.05: b from step 50 on, a from step 300 on; not so: c (2.3 at the end); "
        "a plateau as of a network that knows nothing (ln 10 = 2.303): a, c."
    )
    assert courses_in_words(told(FLAT, FLAT)).startswith("The loss of no answer stays below 0.05; a plateau ")
    assert courses_in_words(told(late, early)[:1]) == told(late, early)[0].sentence


def test_levels_that_lie_near_one_another_are_one_line_but_for_those_at_which_a_loss_stays():
    levels = {"a": {"nothing": math.log(10), "the first": 2.11, "its own": 0.7, "nearly all": 0.004}}
    levels["b"] = {"nothing": math.log(10), "its own": 0.688, "more": 0.6}
    plain = levels_to_draw(levels, [])
    assert plain == [(math.log(10), "nothing"), (0.7, "its own")]
    staying = courses(history([(0, 2.11), (200, 2.11), (260, 0.001), (400, 0.001)]), {"a": levels["a"]})
    drawn = levels_to_draw(levels, staying)
    assert drawn == [(math.log(10), "nothing"), (2.11, "the first"), (0.7, "its own")]
    assert level_labels(drawn) == [
        ("knows nothing (ln 10 = 2.303); knows the first (2.11)", math.log(10)),
        ("", 2.11),
        ("knows its own (0.7)", 0.7),
    ]


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> gi.Run:
    overrides = {
        "task.n": 1, "task.examples": 200, "task.per_class": 20, "model.d_model": 16, "model.d_mlp": 32,
        "training.steps": 60, "training.batch_size": 64, "threads": 1, "snapshots.every": 30,
    }  # fmt: skip
    config = gi.TrainConfig.preset("digits", **overrides)
    return gi.train(config, tmp_path_factory.mktemp("digits") / "run", progress=False)


def test_report_and_replay_say_what_plateaus_says(run, tmp_path):
    told = gi.plateaus(run)
    assert [one.answer for one in told] == ["tens", "units"]
    report = gi.analyze(run)
    assert report.to_dict()["training"]["plateaus"] == json.loads(json.dumps([c.to_dict() for c in told]))
    page = text_of(report.to_html())
    gi.save_replay(run, tmp_path / "replay.html")
    replay = text_of((tmp_path / "replay.html").read_text())
    assert courses_in_words(told)[1:].rstrip(".") in page  # there it begins a sentence
    assert courses_in_words(told) in replay
    for one in told:
        assert one.sentence in page
        assert one.sentence in replay
    leaps = report.to_dict()["training"]["leaps"]
    assert leaps == {**{one.answer: [*one.leaps] for one in told}, "gradient": leaps["gradient"]}
    assert "knows nothing" in report.to_html()


def test_a_run_without_gradients_has_leaps_of_its_losses_alone(run, monkeypatch):
    without = run.dated_history.assign(grad_norm=float("nan"))
    monkeypatch.setattr(Analysis, "history", property(lambda analysis: without))
    report = gi.analyze(run)
    assert list(report.analysis.leaps) == ["tens", "units"]
    page = text_of(report.to_html())
    assert "Leaps of the losses" in page
    assert "gradient norm" not in page


def test_a_class_is_judged_by_all_questions_that_were_drawn_for_it(run):
    analysis = gi.analyze(run).analysis
    groups = run.task.groups(run.split)
    shares = analysis.by_factor("class")
    assert {name: share.n for name, share in shares.items()} == {
        name: int(rows.sum()) for name, rows in groups.items()
    }
    right = gi.measure("accuracy.exact", analysis.view)
    for name, share in shares.items():
        assert share.right == pytest.approx(float(right.sel(part=name)))
        assert (share.low, share.high) == wilson(share.right, share.n, 1.959963984540054)
    assert sum(share.n for share in analysis.by_factor("carry_in.units").values()) == 200


def test_an_operation_is_told_by_its_phases(tiny_run):
    report = gi.analyze(tiny_run)
    assert "plateaus" not in report.to_dict()["training"]
    assert "Plateaus" not in text_of(report.to_html())
