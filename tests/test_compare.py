"""Runs compared: steps to 99 % with their intervals and bounds, medians of groups, and the table, figure and
page of several runs."""

from __future__ import annotations

import base64
import json
import math
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import grokinterp as gi
from conftest import tiny
from grokinterp.errors import DamagedFile, NotARun, UsageError
from grokinterp.replay import Delay, Reached, delay, median_steps, reached, transfer
from grokinterp.runs.train import Writer
from test_foreign import ROOT

SHIPPED = ROOT / "checkpoints" / "modular_addition_113"


def history(test, train=None, every: int = 10) -> pd.DataFrame:
    """Evaluations at multiples of `every`, of which the accuracies are these."""
    steps = [every * i for i in range(len(test))]
    return pd.DataFrame(
        {"step": steps, "train_accuracy": test if train is None else train, "test_accuracy": test}
    )


def learning(by: int | None, last: int, every: int = 10) -> pd.DataFrame:
    """Evaluations up to a last step, from step `by` on (or never) right."""
    return history(
        [1.0 if by is not None and step >= by else 0.1 for step in range(0, last + 1, every)], every=every
    )


# Steps to 99 %


def test_steps_are_the_interval_between_two_evaluations():
    found = reached(learning(40, 100), "test")
    assert (found.state, found.after, found.by) == ("reached", 30, 40)
    assert (str(found), found.interval) == ("30–40", "after step 30 and by step 40")


def test_an_evaluation_at_every_step_gives_a_step():
    assert str(reached(learning(1_400, 2_000, every=1), "test")) == "1,400"


def test_the_first_time_counts_and_the_level_itself_is_enough():
    assert reached(history([0.0, 0.989, 0.99, 0.2, 1.0]), "test").by == 20


def test_a_run_that_ended_before_is_censored_where_it_ended():
    found = reached(learning(None, 6_000), "test")
    assert (found.state, found.after, found.by, str(found)) == ("censored", 6_000, None, "> 6,000")


def test_what_was_right_from_the_first_evaluation_has_no_step_before():
    found = reached(learning(0, 100), "test")
    assert (found.after, found.by, found.interval) == (0, 0, "at step 0, before any update")


@pytest.mark.parametrize(
    ("first", "accuracy", "state", "written", "interval"),
    [
        (107_790, [1.0], "at or before", "≤ 107,790", "at or before step 107,790, the first evaluated"),
        (10, [0.99, 0.5], "at or before", "≤ 10", "at or before step 10, the first evaluated"),
        (10, [0.5, 0.99], "reached", "10–20", "after step 10 and by step 20"),
        (0, [1.0], "reached", "0", "at step 0, before any update"),
        (5, [0.5], "censored", "> 5", "not by step 5"),
        (1, [math.nan, 1.0], "at or before", "≤ 11", "at or before step 11, the first evaluated"),
    ],
)
def test_what_was_learned_by_the_first_evaluation_is_left_censored(first, accuracy, state, written, interval):
    steps = [first + 10 * i for i in range(len(accuracy))]
    found = reached(
        pd.DataFrame({"step": steps, "train_accuracy": accuracy, "test_accuracy": accuracy}), "test"
    )
    assert (found.state, str(found), found.interval) == (state, written, interval)


def test_what_is_left_censored_bounds_a_delay_and_a_median():
    early, late, ended = Reached("at or before", by=50), Reached("reached", 90, 100), Reached("censored", 80)
    assert delay(early, late) == Delay(
        1.8, True, 1.8, None
    )  # the training examples may have been learned long before
    assert delay(late, early) is None
    assert delay(early, early) is None
    assert delay(early, ended) == Delay(1.6, True, 1.6, None)
    assert median_steps([early, late, late]) == 100
    assert (
        median_steps([Reached("at or before", by=500), late, late]) is None
    )  # it may have come first or last
    assert median_steps([early, early, early]) == 50


def test_what_was_never_evaluated_is_not_known():
    assert str(reached(history([math.nan, math.nan]), "test")) == "not known"
    assert reached(history([]), "test").state == "not known"
    assert reached(history([0.1, math.nan, 1.0]), "test") == Reached("reached", 0, 20)


@pytest.mark.parametrize(
    ("train", "test", "factor", "low", "high", "words"),
    [
        ((90, 100), (990, 1000), 10, 9.9, 1000 / 90, "10"),
        ((90, 100), (6000, None), 60, 60, None, "> 60"),
        ((0, 10), (90, 100), 10, 9, None, "10"),
    ],
)
def test_the_delay_is_a_quotient_with_bounds(train, test, factor, low, high, words):
    train, test = (Reached("reached" if by else "censored", after, by) for after, by in (train, test))
    found = delay(train, test)
    assert (found.factor, found.low, found.high, str(found)) == (
        pytest.approx(factor),
        pytest.approx(low),
        pytest.approx(high),
        words,
    )
    assert found.censored == (test.by is None)


def test_there_is_no_delay_without_training_examples_learned():
    assert delay(Reached("censored", 100), Reached("censored", 100)) is None
    assert delay(Reached("reached", 0, 0), Reached("reached", 0, 10)) is None
    assert delay(Reached("reached", 0, 10), Reached("not known")) is None


# Medians


def at(*steps: int) -> list[Reached]:
    """Steps at which runs learned; negative ones at which they ended before."""
    return [Reached("reached", step - 1, step) if step >= 0 else Reached("censored", -step) for step in steps]


@pytest.mark.parametrize(
    ("times", "median"),
    [
        ((300,), 300),
        ((100, 200, 900), 200),
        ((100, 200, 300, 900), 250),
        ((100, 200, -1000), 200),
        ((100, 200, -1000, -1000), None),  # half of them: the median may be anything from 200 on
        ((100, -1000, -1000), None),
        ((100, 200, 300, -1000), 250),
        (
            (-50, 100, 200),
            150,
        ),  # one that was stopped at 50 says nothing of later steps: of the two others each is a half
        ((-50, 100, 200, 300), 200),
        ((-1000, -2000), None),
        ((200, 200, 200), 200),
        ((), None),
    ],
)
def test_a_median_counts_runs_that_ended_before_for_what_they_show(times, median):
    assert median_steps(at(*times)) == median


def test_runs_that_were_never_evaluated_have_no_say_in_the_median():
    assert median_steps([*at(100, 200, 300), Reached("not known")]) == 200


@given(st.lists(st.integers(1, 500), min_size=1, max_size=9))
def test_without_censoring_it_is_the_plain_median(steps):
    assert median_steps(at(*steps)) == np.median(steps)


@given(st.lists(st.integers(1, 500), min_size=1, max_size=9), st.integers(1, 9))
def test_where_all_runs_end_together_censored_ones_are_longer_than_all_others(steps, censored):
    found = median_steps(at(*steps, *[-501] * censored))
    expected = np.median([*steps, *[math.inf] * censored])
    assert found == (expected if math.isfinite(expected) else None)


def product_limit(times: list[int]) -> float | None:
    """The Kaplan-Meier median written out: by floating products over every step, one at a time."""
    share = 1.0
    first_half = None
    for step in range(1, max(map(abs, times)) + 1):
        events, at_risk = times.count(step), sum(abs(time) >= step for time in times)
        if not events:
            continue
        share *= 1 - events / at_risk
        if abs(share - 0.5) < 1e-9:
            first_half = step
        elif share < 0.5:
            return step if first_half is None else (first_half + step) / 2
    return None


@given(
    st.lists(st.integers(1, 30).flatmap(lambda step: st.sampled_from([step, -step])), min_size=1, max_size=8)
)
@settings(max_examples=200)
def test_the_median_is_that_of_the_product_limit(times):
    assert median_steps(at(*times)) == product_limit(times)


# Transfer


@pytest.mark.parametrize(
    ("started", "scratch", "verdict", "steps"),
    [
        ((100, 1000), (500, 1000), "faster", 400),
        ((500, 1000), (500, 1000), "no faster", None),
        ((500, 1000), (100, 1000), "no faster", None),
        ((490, 1000), (500, 1000), "faster", 10),  # after 480 and by 490; from scratch after 490
        ((0, 1000), (0, 1000), "no faster", None),
        ((0, 1000), (500, 1000), "faster", 500),
        ((None, 1000), (500, 1000), "never", None),
        ((None, 1000), (None, 1000), "never", None),
        ((None, 300), (500, 1000), "not known", None),  # it was stopped too early to tell
        ((100, 1000), (None, 800), "faster", 700),  # at least
        ((900, 1000), (None, 800), "not known", None),
    ],
)
def test_whether_a_start_helped(started, scratch, verdict, steps):
    found = transfer(learning(*started), learning(*scratch))
    assert (found.verdict, found.steps) == (verdict, steps)
    assert found.sentence.startswith(verdict)


def test_a_run_that_was_stopped_may_still_learn():
    """So nothing is told of it, unless that from scratch was faster already."""
    stopped = learning(None, 1000)
    assert transfer(stopped, learning(None, 2000), ended=False).verdict == "not known"
    assert transfer(stopped, learning(500, 1000), ended=False).verdict == "no faster"
    assert transfer(stopped, learning(1500, 2000), ended=False).verdict == "not known"


def test_a_difference_within_one_evaluation_is_none():
    """500 of every 100 steps, and 440 of every 10: after 400 and by 500, it may have been either."""
    found = transfer(learning(440, 1000, every=10), learning(500, 1000, every=100))
    assert found.verdict == "no faster"
    assert "no difference that evaluations show" in found.sentence
    assert transfer(learning(390, 1000, every=10), learning(500, 1000, every=100)).verdict == "faster"


def test_bounds_hold_the_true_difference():
    found = transfer(learning(200, 1000), learning(500, 1000, every=100))
    assert (found.low, found.steps, found.high) == (400 - 200, 300, 500 - 190)
    assert transfer(learning(200, 1000), learning(None, 600)).high is None


def test_nothing_is_told_of_what_was_never_evaluated():
    assert transfer(history([]), learning(100, 200)).verdict == "not known"


# Several runs


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of three seeds of addition, and beside it subtraction, and another fraction that learns its
    training examples."""
    out = tmp_path_factory.mktemp("compared")
    for seed in (0, 2, 10):
        gi.train(tiny(seed=seed), out / "seeds" / f"seed_{seed}", progress=False)
    gi.train(tiny(**{"task.name": "modular_subtraction"}), out / "subtraction", progress=False)
    gi.train(
        tiny(**{"training.fraction": 0.8, "training.steps": 300, "training.lr": 1e-2}),
        out / "more",
        progress=False,
    )
    return out


@pytest.mark.trains
def test_the_table_has_a_row_for_each_run_and_a_column_for_what_differs(runs):
    found = gi.compare([runs / "seeds", runs / "subtraction", gi.load_run(runs / "more")])
    table = found.table
    assert table["run"].tolist() == ["seed_0", "seed_2", "seed_10", "subtraction", "more"]
    assert table["seed"].tolist() == [0, 2, 10, 0, 0]
    assert table["fraction"].tolist() == [0.4] * 4 + [0.8]
    assert table["task"].tolist() == ["a + b mod 7"] * 3 + ["a − b mod 7", "a + b mod 7"]
    assert table["training.lr"].tolist() == [3e-3] * 4 + [1e-2]
    assert found.compared.differing == ["training.lr", "training.steps"]
    assert not {"training.optimizer", "model.d_model"} & set(table.columns)
    for row, path in zip(
        table.to_dict("records"),
        [*(runs / "seeds" / f"seed_{s}" for s in (0, 2, 10)), runs / "subtraction"],
        strict=False,
    ):
        last = gi.load_run(path).history.iloc[-1]
        assert row["test_loss"] == last["test_loss"]
        assert (row["test_censored"], row["test_steps"]) == (last["test_accuracy"] < 0.99, 20)


@pytest.mark.trains
def test_steps_in_the_table_are_those_of_the_history(runs):
    row = gi.compare(runs / "more").table.iloc[0]
    rows = gi.load_run(runs / "more").history
    right = rows[rows["train_accuracy"] >= 0.99]["step"]
    assert row["train_steps"] == right.iloc[0] > 0
    assert row["train_after"] == rows["step"][rows["step"] < right.iloc[0]].iloc[-1]
    assert not row["train_censored"]


def test_runs_that_differ_in_their_seeds_alone_are_a_group(runs):
    found = gi.compare([runs / "seeds", runs / "subtraction", runs / "more"]).compared.groups
    assert [group.names for group in found] == [("seed_0", "seed_2", "seed_10")]
    assert (found[0].learned_test, found[0].test) == (0, None)


def test_a_run_that_is_not_finished_says_so_and_an_import_without_history_too(runs, tmp_path):
    from test_runs import interrupted

    interrupted(tiny(**{"training.evaluate_every": 1}), tmp_path / "run", 10)
    (row,) = gi.compare(tmp_path / "run").to_dict()["runs"]
    assert row["state"] == "not finished: still training, or stopped"
    assert row["steps_to_99"]["test"] == {"state": "censored", "after": 10, "by": None}

    import torch

    weights = gi.load_run(runs / "more").state_dict(-1)
    torch.save({"model": weights}, tmp_path / "foreign.pth")
    imported = gi.import_checkpoint(
        tmp_path / "foreign.pth",
        tmp_path / "imported",
        "transformer_lens",
        "modular_addition",
        forensics=False,
        believe=True,
        progress=False,
    )
    (row,) = gi.compare(imported).to_dict()["runs"]
    assert row["steps_to_99"]["test"]["state"] in ("not known", "censored", "reached")
    assert row["seed"] is None
    assert row["state"].startswith("imported")


def test_of_a_run_without_evaluations_nothing_is_counted(tmp_path):
    with Writer(tmp_path / "begun", tiny(), True):
        pass
    found = gi.compare(tmp_path / "begun")
    (row,) = found.to_dict()["runs"]
    assert (row["spikes"], row["slingshots"], row["final"]["test_loss"]) == (None, None, None)
    assert found.table["spikes"].isna().all()
    assert "One run, which was not seen to learn" in found.to_html()


def test_runs_of_one_name_are_told_apart_by_what_is_above(runs, tmp_path):
    shutil.copytree(runs / "seeds" / "seed_0", tmp_path / "other" / "seed_0")
    found = gi.compare([runs / "seeds" / "seed_0", tmp_path / "other" / "seed_0", runs / "seeds" / "seed_0"])
    assert found.table["run"].tolist() == ["seeds/seed_0", "other/seed_0"]


def test_a_directory_of_sweeps_means_all_their_runs(runs, tmp_path):
    shutil.copytree(runs / "seeds", tmp_path / "all" / "one")
    shutil.copytree(runs / "seeds", tmp_path / "all" / "two")
    shutil.copytree(runs / "more", tmp_path / "all" / "more")
    found = gi.compare(tmp_path / "all").table["run"].tolist()
    seeds = [folder.name for folder in (runs / "seeds").iterdir()]
    assert sorted(found) == sorted(
        ["more", *(f"{sweep}/{seed}" for sweep in ("one", "two") for seed in seeds)]
    )


def test_what_is_no_run_is_refused_in_one_line(runs, tmp_path):
    (tmp_path / "empty").mkdir()
    for what in (tmp_path / "missing", tmp_path / "empty"):
        with pytest.raises(NotARun, match=f"{what.name} holds no run"):
            gi.compare([runs / "more", what])
    with pytest.raises(UsageError, match="there are no runs"):
        gi.compare([])


def test_a_damaged_run_is_refused(runs, tmp_path):
    shutil.copytree(runs / "more", tmp_path / "damaged")
    text = (tmp_path / "damaged" / "metrics.jsonl").read_bytes()
    (tmp_path / "damaged" / "metrics.jsonl").write_bytes(text.replace(b"0", b"1", 1))
    with pytest.raises(DamagedFile):
        gi.compare(tmp_path / "damaged")


def test_values_are_plain_json(runs):
    found = gi.compare([runs / "seeds", runs / "more", SHIPPED])
    told = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert [row["run"] for row in told["runs"]] == found.table["run"].tolist()
    shipped = told["runs"][-1]
    assert shipped["steps_to_99"]["test"]["state"] == "reached"
    assert shipped["spikes"] == shipped["slingshots"] == 0
    assert shipped["transfer"] is None


def test_few_runs_have_a_colour_each_train_dashed_and_test_solid(runs):
    found = gi.compare([runs / "seeds", runs / "subtraction", runs / "more"], log_x=True)
    for figure in (found.accuracy, found.loss):
        assert len(figure.data) == 5 * 2
        for label in {trace.legendgroup for trace in figure.data}:
            mine = [trace for trace in figure.data if trace.legendgroup == label]
            assert len({trace.line.color for trace in mine}) == 1
            assert [trace.line.dash for trace in mine] == ["solid", "dash"]
            assert sum(trace.showlegend for trace in mine) == 1
        assert len({trace.line.color for trace in figure.data}) == 5
        assert figure.layout.xaxis.type == "log"
        assert "step" in figure.layout.xaxis.title.text
    rows = gi.load_run(runs / "more").history
    drawn = next(t for t in found.loss.data if t.legendgroup.startswith("more") and t.line.dash == "solid")
    assert set(rows["step"]) >= set(drawn.x.tolist())
    at = rows.set_index("step")["test_loss"]
    assert drawn.y.tolist() == [at[step] for step in drawn.x.tolist()]


@pytest.fixture(scope="module")
def many(runs, tmp_path_factory) -> Path:
    """Thirty runs: ten seeds of three recipes."""
    out = tmp_path_factory.mktemp("many")
    for lr in (1e-3, 3e-3, 1e-2):
        gi.train_many(tiny(**{"training.lr": lr}), out / f"lr_{lr:g}", seeds=range(10), progress=False)
    return out


def test_many_runs_are_bands_of_those_that_differ_in_their_seeds_alone(many):
    found = gi.compare(many)
    names = [trace.name for trace in found.accuracy.data if trace.showlegend]
    assert sorted(names) == [f"10 × a + b mod 7, lr {lr}" for lr in ("0.001", "0.003", "0.01")]
    group = [gi.load_run(path).history for path in sorted((many / "lr_0.003").glob("seed_*"))]
    median = next(t for t in found.loss.data if "0.003" in str(t.name) and t.line.dash == "solid")
    dense = next(t for t in found.loss.data if t.fill == "toself" and t.fillcolor == median.line.color)
    losses = np.stack([each["test_loss"] for each in group])
    np.testing.assert_allclose(median.y, np.median(losses, 0), rtol=1e-12)
    assert median.x.tolist() == group[0]["step"].tolist()
    count = len(group[0])
    np.testing.assert_allclose(dense.y[:count], losses.max(0), rtol=1e-12)
    np.testing.assert_allclose(dense.y[count:][::-1], losses.min(0), rtol=1e-12)


def test_a_long_curve_keeps_its_extremes():
    from grokinterp.report.compare import _thinned

    values = np.sin(np.arange(50_000) / 50)
    values[12_345], values[40_001] = 9.0, -7.0
    x, y = _thinned(np.arange(50_000), values)
    assert len(x) < 1_700
    assert (x[0], x[-1]) == (0, 49_999)
    assert {(12_345, 9.0), (40_001, -7.0)} <= set(zip(x.tolist(), y.tolist(), strict=True))


@pytest.mark.parametrize("n", [1, 8, 9, 20, 40])
def test_colours_are_all_different(n):
    from grokinterp.report.palette import lines

    assert len(set(lines(n))) == n


# The page and the command


def opened(browser, file: Path, width: int):
    """A page with the network off, and what went wrong on it."""
    page = browser.new_page(viewport={"width": width, "height": 900}, offline=True)
    page.set_default_timeout(300_000)  # ms: a machine may be busy
    problems: list[str] = []
    page.on(
        "console",
        lambda message: problems.append(message.text) if message.type in ("error", "warning") else None,
    )
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on(
        "request",
        lambda request: (
            problems.append(request.url) if not request.url.startswith(("file:", "data:", "blob:")) else None
        ),
    )
    page.goto(file.as_uri())
    return page, problems


def lightness_at_the_edge(page, table) -> float:
    """Of the last pixels of a table, 0 to 255, where most of them are paper."""
    mean = """async (png) => {
      const image = new Image(), canvas = document.createElement("canvas");
      image.src = "data:image/png;base64," + png;
      await image.decode();
      [canvas.width, canvas.height] = [image.width, image.height];
      canvas.getContext("2d").drawImage(image, 0, 0);
      const { data } = canvas.getContext("2d").getImageData(image.width - 3, 0, 2, image.height);
      const greens = [...data].filter((_, i) => i % 4 === 1).sort((p, q) => p - q);
      return greens[greens.length >> 1];
    }"""
    return page.evaluate(mean, base64.b64encode(table.screenshot()).decode())


@pytest.mark.browser
@pytest.mark.parametrize("width", [1400, 800, 400])
def test_the_page_needs_no_network_and_nothing_overflows(runs, many, browser, tmp_path, width):
    for name, some in {"few": [runs / "seeds", runs / "subtraction", SHIPPED], "many": [many]}.items():
        file = tmp_path / f"{name}.html"
        gi.compare(some).save_html(file)
        assert file.stat().st_size < 500_000
        page, problems = opened(browser, file, width)
        assert page.locator(".drawn svg:visible").count() == 3
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        heads = page.locator(".scroll").first.locator("th")
        assert heads.all_text_contents()[:3] == ["run", "test accuracy", "test 99\N{NO-BREAK SPACE}%"]
        if width == 400:
            accuracy = heads.nth(1).bounding_box()
            assert accuracy["x"] + accuracy["width"] < 400  # in sight
            # Of a table that goes on the last pixels are darker than its paper.
            goes_on = page.evaluate(
                "[...document.querySelectorAll('.scroll')].map(x => x.scrollWidth > x.clientWidth)"
            )
            assert goes_on[0]
            edge = lightness_at_the_edge(page, page.locator(".scroll").first)
            page.evaluate("document.querySelector('.scroll').scrollLeft = 10_000")
            assert edge < lightness_at_the_edge(page, page.locator(".scroll").first) - 10
            page.evaluate("document.querySelector('.scroll').scrollLeft = 0")
        curve = page.locator("#panel-accuracy svg:visible path.line").last
        linear = curve.get_attribute("d")
        page.click("label[for=log]")
        assert page.locator("#panel-accuracy svg:visible path.line").last.get_attribute("d") != linear
        page.click("label[for=linear]")
        assert page.locator("#panel-accuracy svg:visible path.line").last.get_attribute("d") == linear
        assert problems == []
        page.close()


# What was learned


def test_each_run_says_what_it_learned_with_the_verdicts_of_its_report(quick_run, runs, tmp_path):
    shutil.copytree(quick_run.path, tmp_path / "quick", ignore=shutil.ignore_patterns("replay"))
    found = gi.compare([tmp_path / "quick", runs / "more"])
    run = gi.load_run(tmp_path / "quick")
    learned, other = found.learned
    report = gi.analyze(run, with_replay=False)
    assert learned.claims == report.analysis.claims
    assert learned.keys == gi.key_frequencies(run.view(-1)).consensus != []
    assert learned.algorithm == "clock"
    assert learned.found == report.analysis.found
    assert {claim.verdict for claim in other.claims} <= {"supported", "refuted", "not tested"}
    told = found.to_dict()["runs"][0]["learned"]
    assert (told["key_frequencies"], told["algorithm"]) == (learned.keys, "clock")
    assert json.dumps(told, allow_nan=False)
    page = found.to_html()
    assert f">{' '.join(map(str, learned.keys))}<" in page
    assert learned.found in page


def test_what_was_measured_stays_with_the_run_and_is_not_measured_again(quick_run, tmp_path, monkeypatch):
    from grokinterp.measures import Measure

    shutil.copytree(quick_run.path, tmp_path / "quick", ignore=shutil.ignore_patterns("replay"))
    first = gi.compare(tmp_path / "quick").learned
    asked: list[str] = []
    call = Measure.__call__
    monkeypatch.setattr(
        Measure, "__call__", lambda self, *args, **kw: (asked.append(self.name), call(self, *args, **kw))[1]
    )
    assert gi.compare(tmp_path / "quick").learned == first
    assert set(asked) <= {"loss", "accuracy"}


def test_a_run_that_cannot_be_measured_says_why_and_keeps_no_other_from_it(runs, tmp_path):
    with Writer(tmp_path / "begun", tiny(), True):
        pass
    shutil.copytree(runs / "more", tmp_path / "damaged", ignore=shutil.ignore_patterns("replay"))
    last = sorted((tmp_path / "damaged" / "snapshots").iterdir())[-1]
    last.write_bytes(last.read_bytes()[:-1] + bytes([last.read_bytes()[-1] ^ 1]))
    begun, damaged, whole = gi.compare([tmp_path / "begun", tmp_path / "damaged", runs / "more"]).learned
    assert "has no complete snapshot" in begun.unknown
    assert damaged.unknown
    assert whole.claims
    assert not whole.unknown


# As a whole


def test_the_headline_has_median_range_and_who_stands_out():
    from grokinterp.replay.comparison import outliers

    steps = {"a": 400, "b": 410, "c": 380, "d": 420, "e": 4_000}
    assert outliers(steps) == ("e",)
    assert outliers({**steps, "e": 450}) == ()
    assert outliers({name: steps[name] for name in "ade"}) == ()  # too few to say
    assert outliers({**steps, "f": 20}) == ("e", "f")


def test_a_group_is_said_with_its_median_its_range_and_who_stands_out():
    from grokinterp.replay import Group
    from grokinterp.report.compare import spread

    of = {"names": tuple("abcde"), "learned_train": 5, "train": 80.0}
    ends = {"first": ("c", 380), "last": ("e", 4_000)}
    group = Group(**of, **ends, learned_test=5, test=410.0, outliers=("e",))
    assert spread(group) == "median 410 steps, from 380 (c) to 4,000 (e); far from the others: e"
    group = Group(**of, first=("c", 380), last=("c", 380), learned_test=1, test=None, outliers=())
    assert spread(group) == "no median, as too few got there; c by step 380"


def test_the_same_run_given_twice_is_said(grokinterp, runs, tmp_path):
    shutil.copytree(runs / "seeds" / "seed_2", tmp_path / "copy")
    found = gi.compare([runs / "seeds", tmp_path / "copy", runs / "seeds" / "seed_0"])
    assert found.again == ["seed_0"]
    assert found.compared.copies == {"copy": "seed_2"}
    assert str(found).startswith("<Comparison of 3 runs")
    for sentence in ("seed_0 was given more than once", "copy is seed_2 again"):
        assert sentence in found.to_html()
        assert sentence in grokinterp("compare", runs / "seeds", tmp_path / "copy", runs / "seeds/seed_0")[1]


def test_a_copy_of_a_run_is_not_another_seed(runs, tmp_path):
    shutil.copytree(runs / "seeds" / "seed_2", tmp_path / "copy")
    groups = gi.compare([runs / "seeds", tmp_path / "copy"]).compared.groups
    assert [group.names for group in groups] == [
        group.names for group in gi.compare(runs / "seeds").compared.groups
    ]


def test_a_run_that_has_lost_its_record_is_not_passed_over(runs, tmp_path):
    shutil.copytree(runs / "seeds", tmp_path / "seeds")
    (tmp_path / "seeds" / "seed_2" / "run.json").unlink()
    with pytest.raises(NotARun, match=r"seed_2 holds no run: it has no run\.json"):
        gi.compare(tmp_path / "seeds")


def test_a_notebook_shows_the_page(runs):
    assert gi.compare(runs / "more")._repr_html_().startswith("<table>")


def test_a_hostile_name_stays_text(runs, tmp_path):
    shutil.copytree(runs / "more", tmp_path / "<script>alert(1)<")
    page = gi.compare(tmp_path / "<script>alert(1)<").to_html()
    assert "<script>alert(1)" not in page


def test_the_command_prints_the_table_and_writes_both_files(grokinterp, runs, tmp_path):
    code, stdout, stderr = grokinterp("compare", runs / "seeds", runs / "more", "--out", tmp_path / "out")
    assert (code, stderr) == (0, "")
    assert "seed_10" in stdout
    assert "> 20" in stdout
    assert "seed_0, seed_2, seed_10: 0 of 3 learned, no median, as too few got there" in stdout
    assert "It generalises to pairs that it was not trained on" in stdout
    assert {file.name for file in (tmp_path / "out").iterdir()} == {"compare.html", "compare.json"}
    told = json.loads((tmp_path / "out" / "compare.json").read_text())
    assert told == json.loads(grokinterp("compare", runs / "seeds", runs / "more", "--json")[1])


def test_the_command_does_not_write_into_a_run(grokinterp, runs):
    code, _, stderr = grokinterp("compare", runs / "more", "--out", runs / "more" / "snapshots")
    assert code == 2
    assert "belongs to the run" in stderr
