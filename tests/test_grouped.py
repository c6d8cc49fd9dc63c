"""Runs grouped by keys of their configuration: Kaplan and Meier's estimate, the log-rank test and Holm's
correction by published and by hand-made numbers; groups, their kinds and notes; page and command."""

from __future__ import annotations

import itertools
import json
import math
import random
from collections.abc import Mapping, Sequence
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import grokinterp as gi
from conftest import tiny
from grokinterp.errors import UsageError
from grokinterp.replay import Compared, Reached, RunsBy, RunsCompared, holm, log_rank, survival
from grokinterp.report import grouped, palette
from grokinterp.standing import Examples
from test_compare import at, history, opened

MERCAPTOPURINE = at(
    6, 6, 6, -6, 7, -9, 10, -10, -11, 13, 16, -17, -19, -20, 22, 23, -25, -32, -32, -34, -35
)  # fmt: skip
PLACEBO = at(1, 1, 2, 2, 3, 4, 4, 5, 5, 8, 8, 8, 8, 11, 11, 12, 12, 15, 17, 22, 23)
"""Weeks in remission of Freireich et al. 1963, negative where they were censored: the example of Cox 1972,
of Kalbfleisch and Prentice, and of the manuals of R and SAS."""


# Kaplan and Meier


def test_the_curve_of_freireich_is_that_of_the_textbooks():
    """Kleinbaum and Klein, Survival Analysis, table 2.3: shares of 6-MP, by three digits."""
    found = survival(MERCAPTOPURINE)
    assert found.steps == (6, 7, 10, 13, 16, 22, 23)
    assert [round(x, 4) for x in found.share] == [0.8571, 0.8067, 0.7529, 0.6902, 0.6275, 0.5378, 0.4482]
    assert (found.runs, found.learned, found.followed) == (21, 9, 35)
    assert (found.median, survival(PLACEBO).median) == (23, 8)


def test_the_intervals_of_the_median_are_those_that_sas_prints():
    """PROC LIFETEST with its default (log-log): 23 (13, .) and 8 (4, 11)."""
    found, placebo = survival(MERCAPTOPURINE), survival(PLACEBO)
    assert (found.median_low, found.median_high) == (13, None)
    assert (placebo.median_low, placebo.median_high) == (4, 11)


def by_hand(times: Sequence[Reached]) -> list[tuple[int, float, float | None, float | None]]:
    """The estimate with Greenwood's interval of ln(-ln(share)), step by step from the definition."""
    ends = [(t.by if t.by is not None else t.after, t.seen) for t in times]
    share, variance, rows = Fraction(1), Fraction(0), []
    for step in sorted({end for end, seen in ends if seen}):
        at_risk = sum(end >= step for end, _ in ends)
        events = sum(end == step and seen for end, seen in ends)
        share *= 1 - Fraction(events, at_risk)
        if not share:
            rows.append((step, 0.0, None, None))
            continue
        variance += Fraction(events, at_risk * (at_risk - events))
        log = math.log(share)
        error = 1.959963984540054 * math.sqrt(variance) / abs(log)
        rows.append((step, float(share), *(float(share) ** math.exp(sign * error) for sign in (1, -1))))
    return rows


some_times = st.lists(
    st.integers(1, 30).flatmap(lambda step: st.sampled_from([step, -step])), min_size=1, max_size=10
)


@given(some_times)
@settings(max_examples=60, deadline=None)
def test_the_curve_and_its_interval_are_those_of_the_definition(times):
    found = survival(at(*times))
    rows = by_hand(at(*times))
    assert found.steps == tuple(row[0] for row in rows)
    for i, mine in enumerate((found.share, found.low, found.high), 1):
        theirs = [row[i] for row in rows]
        assert [x is None for x in mine] == [x is None for x in theirs]
        assert [x or 0 for x in mine] == pytest.approx([x or 0 for x in theirs])


def test_few_runs_bound_a_median_from_below_alone():
    """Of four that all learned, even the last is no upper end: all four before the median is 1 of 16."""
    found = survival(at(100, 200, 300, 400))
    assert (found.median, found.median_low, found.median_high) == (250, 100, None)
    assert grouped.interval(found) == "from 100"
    assert grouped.interval(survival(PLACEBO)) == "4–11"


def test_what_was_never_evaluated_is_counted_apart_and_the_spacing_is_known():
    found = survival([Reached("reached", 30, 50), Reached("not known"), Reached("censored", 80)])
    assert (found.runs, found.learned, found.unknown, found.apart) == (2, 1, 1, 20)
    assert found.ended == (80,)
    early = survival([Reached("at or before", by=500), *at(100, 110)])
    assert (early.at_first, early.median) == (1, None)  # it may have come first or last


def test_of_runs_that_never_learned_there_is_no_curve():
    found = survival(at(-50, -60))
    assert (found.steps, found.median, found.followed, found.ended) == ((), None, 60, (50, 60))
    assert survival([]).followed is None


# Log-rank


def test_the_log_rank_test_of_freireich_is_that_of_r():
    """survdiff(Surv(time, status) ~ treatment): chi-square 16.8 on 1 degree of freedom, p = 4e-05."""
    found = log_rank(MERCAPTOPURINE, PLACEBO)
    assert found.chi2 == pytest.approx(16.793, abs=5e-4)
    assert found.p == pytest.approx(4.17e-5, rel=1e-3)
    assert found.by == "chi-square"


def log_rank_by_hand(one: Sequence[Reached], other: Sequence[Reached]) -> float:
    """Observed less expected, squared, over the hypergeometric variance."""
    ends = [
        (t.by if t.by is not None else t.after, t.seen, of) for of, ts in enumerate((one, other)) for t in ts
    ]
    difference = variance = 0.0
    for step in {end for end, seen, _ in ends if seen}:
        n = sum(end >= step for end, _, _ in ends)
        mine = sum(end >= step for end, _, of in ends if of == 0)
        d = sum(end == step and seen for end, seen, _ in ends)
        difference += sum(end == step and seen for end, seen, of in ends if of == 0) - d * mine / n
        variance += d * mine / n * (1 - mine / n) * (n - d) / (n - 1) if n > 1 else 0.0
    return difference**2 / variance


def test_the_statistic_is_that_of_the_definition():
    assert log_rank(MERCAPTOPURINE, PLACEBO).chi2 == pytest.approx(log_rank_by_hand(MERCAPTOPURINE, PLACEBO))
    one, other = at(10, 20, 20, -100, 40), at(20, 50, -100, -100, 90)
    assert log_rank(one, other).chi2 == pytest.approx(log_rank_by_hand(one, other))


def test_p_of_few_runs_is_the_share_of_all_ways_to_deal_them_out():
    """Four that learned early against four that learned late or never: 2 of 70 ways are as far apart."""
    assert log_rank(at(10, 20, 30, 40), at(50, 60, 70, -100)).p == pytest.approx(2 / 70)
    assert log_rank(at(50, 60, 70, -100), at(10, 20, 30, 40)).p == pytest.approx(2 / 70)
    one, other = at(10, 20, 60, 40, 80), at(30, 50, 70, -100, -100)

    def numerator(mine: Sequence[Reached], theirs: Sequence[Reached]) -> float:
        both = [*mine, *theirs]
        steps = {t.by for t in both if t.by is not None}
        left = [sum((t.by or t.after) >= s for t in some) for s in sorted(steps) for some in (mine, both)]
        deaths = [sum(t.by == s for t in both) for s in sorted(steps)]
        expected = sum(d * m / n for d, m, n in zip(deaths, left[::2], left[1::2], strict=True))
        return abs(sum(t.seen for t in mine) - expected)

    both = [*one, *other]
    ways = [
        numerator([both[i] for i in mine], [t for i, t in enumerate(both) if i not in mine])
        for mine in itertools.combinations(range(10), 5)
    ]
    share = sum(way >= numerator(one, other) - 1e-9 for way in ways) / len(ways)
    found = log_rank(one, other)
    assert (found.by, found.p) == ("permutation", pytest.approx(share))


def test_of_too_few_runs_there_is_no_p():
    """Three against three: 2 of 20 ways are as far apart as can be."""
    found = log_rank(at(10, 20, 30), at(40, 50, 60))
    assert (found.by, found.p) == ("too few runs", None)
    assert found.chi2 == pytest.approx(log_rank_by_hand(at(10, 20, 30), at(40, 50, 60)))
    assert log_rank(at(10, 20), []).by == "too few runs"
    assert log_rank(at(-10, -20, -20, -20), at(-20, -20, -20, -20)).by == "none learned"
    assert log_rank(at(10, 10, 10, 10), at(10, 10, 10, 10)).p == 1


def test_runs_that_were_followed_for_different_times_are_not_dealt_out():
    assert log_rank(at(10, 20, 30, -40), at(50, 60, 70, -100)).by == "chi-square"


def test_p_under_no_difference_is_spread_evenly():
    """So that one of twenty tests of equal groups is called one at 5 %, and no more."""
    draw = random.Random(0)
    ps = [
        log_rank(
            *(at(*(t if (t := draw.randint(1, 150)) <= 100 else -100 for _ in range(5))) for _ in "ab")
        ).p
        for _ in range(400)
    ]
    known = [p for p in ps if p is not None]
    assert 0.02 <= sum(p <= 0.05 for p in known) / len(known) <= 0.08


def test_holm_multiplies_the_smallest_by_all_and_never_falls():
    """Wright 1992, Biometrics 48, p. 1005: the step-down procedure by hand."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


# Groups


class Ran(Compared):
    """What groups ask of a run, made by hand."""

    def __init__(
        self,
        name: str,
        settings: Mapping[str, Any],
        test: Reached,
        kind: str = "groks",
        p: int = 53,
        diverged: Any = None,
    ) -> None:
        task = SimpleNamespace(symbol=f"a + b mod {p}")
        config = SimpleNamespace(task={"name": "modular_addition", "p": p}, start=None)
        self.__dict__ |= {
            "name": name, "settings": dict(settings), "test": test, "kind": kind, "train": at(50)[0],
            "run": SimpleNamespace(config=config, task=task, diverged=diverged),
        }  # fmt: skip


class Together(RunsCompared):
    """Runs as they are given, none of them a copy."""

    def __init__(self, runs: Sequence[Compared]) -> None:
        self.runs, self.copies = list(runs), {}


def decays(of: Mapping[float, Sequence[int]], **more: Any) -> list[Ran]:
    """Runs of each weight decay that learned at these steps, or where negative had not by then."""
    return [
        Ran(
            "_".join([f"wd{decay}_s{seed}", *map(str, more.values())]),
            {"seed": seed, "training.weight_decay": decay, "training.lr": 0.001, **more},
            at(step)[0],
            "groks" if step > 0 else "memorises only",
        )
        for decay, steps in of.items()
        for seed, step in enumerate(steps)
    ]


def by(runs: Sequence[Ran], *keys: str) -> RunsBy:
    return RunsBy(Together(runs), keys)


GRID = {1.0: (2000, 2200, 2400, 2600), 0.0: (-20_000,) * 4, 0.3: (9000, 9500, 12_000, -20_000)}


def test_groups_are_in_the_order_of_their_values_with_what_their_runs_did():
    found = by(decays(GRID), "training.weight_decay")
    assert [cell.values for cell in found.cells] == [(0.0,), (0.3,), (1.0,)]
    assert [cell.test.median for cell in found.cells] == [None, 10_750, 2300]
    assert found.cells[1].kinds == {
        "groks": ["wd0.3_s0", "wd0.3_s1", "wd0.3_s2"],
        "memorises only": ["wd0.3_s3"],
    }
    assert [grouped.did(cell) for cell in found.cells] == [
        "all 4 memorise only", "3 grok, 1 memorises only", "all 4 grok",
    ]  # fmt: skip
    assert found.table["groks"].tolist() == [0, 3, 4]
    assert found.table["test_median"].tolist()[1:] == [10_750, 2300]


def test_one_sentence_says_what_was_found():
    found = by(decays(GRID), "training.weight_decay")
    assert grouped.finding(found) == (
        "With weight decay 1 all 4 grok, median 2,300 steps; with 0 all 4 memorise only, none of 4 learned "
        "by step 20,000."
    )
    none = by(decays({0.0: (-500, -500), 1.0: (-500,)}), "training.weight_decay")
    assert grouped.finding(none) == (
        "None of 3 runs in 2 groups learned the test examples by step 500: 3 memorise only."
    )
    one = by(decays({1.0: (100,)}), "training.weight_decay")
    assert grouped.finding(one) == "With weight decay 1, 1 groks, median 100 steps."


def test_of_two_keys_the_sentence_names_what_sets_the_worst_apart():
    runs = [
        *decays({0.0: (-500,) * 2, 1.0: (-500,) * 2}, **{"training.fraction": 0.3}),
        *decays({0.0: (400, 410), 1.0: (100, 110)}, **{"training.fraction": 0.6}),
    ]
    said = grouped.finding(by(runs, "training.weight_decay", "training.fraction"))
    assert said == (
        "With weight decay 1 and fraction 0.6 all 2 grok, median 105 steps; with fraction 0.3 all 2 memorise "
        "only, none of 2 learned by step 500."
    )


def test_every_two_groups_are_tested_and_their_number_is_said():
    found = by(decays(GRID), "training.weight_decay")
    assert [(each.one, each.other) for each in found.tests] == [
        ((0.0,), (0.3,)), ((0.0,), (1.0,)), ((0.3,), (1.0,)),
    ]  # fmt: skip
    ps = [each.test.p for each in found.tests]
    assert [each.adjusted for each in found.tests] == pytest.approx(holm(ps))
    assert ps[1] == ps[2] == pytest.approx(2 / 70)
    assert grouped.tested(found) == (
        "Log-rank test of 3 of 3 pairs of groups: 0 differ at 5 % after Holm's correction for 3 comparisons."
    )
    few = by(decays({0.0: (100, 200), 1.0: (300, 400)}), "training.weight_decay")
    assert grouped.tested(few) == (
        "No log-rank test of 1 pair of groups: 1 of them has too few runs for any outcome to be told from "
        "chance."
    )
    assert "too few runs" in grouped.pairs(few, None)[1][0]


def test_what_a_key_cannot_part_is_said():
    runs = decays(GRID)
    assert "training.lr is 0.001 in every run, so that it parts nothing." in by(runs, "training.lr").notes
    assert any("each group is one run" in note for note in by(runs[:4], "seed").notes)
    assert not any("each group is one run" in note for note in by(runs, "seed").notes)
    assert by(runs, "seed").also_differ == ["training.weight_decay"]
    assert by(runs, "training.weight_decay").also_differ == []


def test_a_run_without_the_key_is_left_out_and_named():
    runs = decays(GRID)
    del runs[0].settings["training.weight_decay"]
    found = by(runs, "training.weight_decay")
    assert found.left_out == ["wd1.0_s0"]
    assert "Left out, as wd1.0_s0 is not known to have these keys." in found.notes
    assert sum(len(cell.runs) for cell in found.cells) == 11


def test_runs_that_diverged_or_were_never_evaluated_are_said():
    runs = decays(GRID)
    runs[0] = Ran("gone", runs[0].settings, at(-3)[0], diverged={"step": 3, "what": "train_loss"})
    runs[1] = Ran("begun", runs[1].settings, Reached("not known"))
    notes = " ".join(by(runs, "training.weight_decay").notes)
    assert "gone is seen to diverge" in notes
    assert "1 never evaluated on test examples" in notes


def test_keys_inside_sections_of_sections_part_runs_too():
    runs = [Ran(str(i), {"task.noise": {"share": share}}, at(10)[0]) for i, share in enumerate((0.1, 0.2))]
    assert by(runs, "task.noise.share").levels == [[0.1, 0.2]]
    assert by(runs, "task.noise").levels == [[{"share": 0.1}, {"share": 0.2}]]


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        (["training.weight_dcay"], "did you mean 'training.weight_decay'"),
        (["weight_decay"], "did you mean 'training.weight_decay'"),
        (["wd"], "did you mean 'training.weight_decay'"),
        (["seed", "training.lr", "training.weight_decay"], "needs one or two"),
    ],
)
def test_keys_that_are_none_or_too_many_are_refused(keys, said):
    with pytest.raises(UsageError, match=said):
        by(decays(GRID), *keys)


def test_runs_of_different_tasks_are_not_one_group():
    settings = {"training.weight_decay": 1.0}
    runs = [Ran(f"p{p}", settings | {"task.p": p}, at(100)[0], p=p) for p in (113, 53)]
    assert len(by(runs, "task.p").cells) == 2
    said = r"different tasks \(a \+ b mod 113, a \+ b mod 53\): give runs of one task, or group by task\.p"
    with pytest.raises(UsageError, match=said):
        by(runs, "training.weight_decay")


def test_values_are_in_the_order_of_numbers_then_of_words():
    values = [3, None, 0.5, "sgd", 10, "adam", True]
    runs = [Ran(str(i), {"training.x": value}, at(10)[0]) for i, value in enumerate(values)]
    assert by(runs, "training.x").levels == [[None, 0.5, 3, 10, "adam", "sgd", True]]


def test_every_kind_has_a_colour_of_its_own():
    from typing import get_args

    from grokinterp.replay import Kind

    assert set(palette.KINDS) == set(get_args(Kind))
    assert len(set(palette.KINDS.values())) == len(palette.KINDS)


@pytest.mark.parametrize(
    ("test", "train", "kind"),
    [
        ([0.01] * 9 + [1.0] * 9, [0.1] + [1.0] * 17, "groks"),
        ([0.01] * 5 + [1.0] * 9, [0.01] * 4 + [1.0] * 10, "generalises at once"),
        ([0.01] * 9, [0.1] + [1.0] * 8, "memorises only"),
        ([0.01] * 9, [0.01] * 9, "learns nothing"),
        ([0.01] * 9 + [1.0] * 9 + [0.01] * 9, [0.1] + [1.0] * 26, "forgets again"),
        ([0.01] * 9 + [0.5] * 3, [0.1] + [1.0] * 11, "learns in part"),
        ([0.01], [0.1], "not known"),
    ],
)
def test_a_kind_is_that_of_phases(test, train, kind):
    import xarray as xr

    from grokinterp.replay import kind_of, phases

    rows, examples = history(test, train), Examples(1 / 53, 1000, 1800, 2800)
    assert kind_of(rows, examples) == phases(xr.Dataset(), rows, examples).kind == kind


# Figures, page, command


def test_a_field_is_parted_by_shares():
    found = by(decays(GRID), "training.weight_decay")
    figure = grouped.diagram(found)
    assert figure is not None
    at_middle = [shape for shape in figure.layout.shapes if 0.5 < shape.x0 < 1.5]
    widths = {shape.fillcolor: shape.x1 - shape.x0 for shape in at_middle}
    assert widths[palette.KINDS["groks"]] == pytest.approx(3 * widths[palette.KINDS["memorises only"]])
    assert [note.text for note in figure.layout.annotations] == ["4/4", "3/4", "10,750", "4/4", "2,300"]
    assert figure.layout.xaxis.ticktext == ("0", "0.3", "1")


def test_a_curve_has_its_stairs_and_a_stroke_where_runs_ended():
    ((title, figure),) = grouped.curves(by(decays({0.3: GRID[0.3]}), "training.weight_decay"))
    assert title == ""
    stairs = next(trace for trace in figure.data if trace.name == "weight decay 0.3 (3 of 4)")
    assert list(stairs.x) == [0, 9000, 9000, 9500, 9500, 12_000, 12_000, 20_000]
    assert list(stairs.y) == [0, 0, 0.25, 0.25, 0.5, 0.5, 0.75, 0.75]
    stroke = figure.data[-1]
    assert stroke.x[0] == stroke.x[1] == 20_000
    assert (stroke.y[0] + stroke.y[1]) / 2 == pytest.approx(0.75)


@pytest.mark.parametrize(
    ("values", "kind", "places"),
    [
        ((0.001, 0.01, 0.1), "log", [0.001, 0.01, 0.1]),
        ((0.3, 0.5, 0.8), "linear", [0.3, 0.5, 0.8]),
        ((0.0, 0.01, 1.0), None, [0, 1, 2]),  # a zero among decades: each at its place
        (("adam", "sgd"), None, [0, 1]),
    ],
)
def test_an_axis_is_logarithmic_where_values_span_decades(values, kind, places):
    runs = [Ran(f"{i}", {"training.x": x}, at(100 + i)[0]) for i, x in enumerate(values)]
    axis = grouped.against(by(runs, "training.x"), 0).layout.xaxis
    assert axis.type == kind
    assert list(axis.tickvals) == places
    assert axis.ticktext == tuple(grouped.written(x) for x in values)


def test_many_values_of_two_keys_are_a_dot_for_each_run():
    draw = random.Random(1)
    runs = [
        Ran(
            f"{i}",
            {"training.lr": draw.uniform(1e-4, 1e-1), "training.weight_decay": draw.random()},
            at(9)[0],
        )
        for i in range(40)
    ]
    found = by(runs, "training.lr", "training.weight_decay")
    figure = grouped.diagram(found)
    assert figure is not None
    assert sum(len(trace.x) for trace in figure.data) == 40
    assert grouped.diagram(by(runs, "training.lr")) is None
    assert grouped.curves(found) == []


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory):
    """Two weight decays of two seeds, a few steps each."""
    out = tmp_path_factory.mktemp("sweep")
    for decay, seed in itertools.product((0.0, 1.0), (0, 1)):
        config = tiny(seed=seed, **{"training.weight_decay": decay})
        gi.train(config, out / f"wd{decay:g}_s{seed}", progress=False)
    return out


@pytest.mark.trains
def test_json_has_all_numbers_and_is_additive(sweep):
    plain, found = gi.compare(sweep), gi.compare(sweep, by="training.weight_decay")
    told = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    said = told.pop("by")
    assert told == json.loads(json.dumps(plain.to_dict()))
    assert [cell["values"] for cell in said["cells"]] == [[0.0], [1.0]]
    assert [cell["runs"] for cell in said["cells"]] == [["wd0_s0", "wd0_s1"], ["wd1_s0", "wd1_s1"]]
    assert said["cells"][0]["steps_to_99"]["test"]["runs"] == 2
    assert said["log_rank"]["comparisons"] == 0
    assert said["finding"] == grouped.finding(found.by)
    assert {name for cell in said["cells"] for names in cell["kinds"].values() for name in names} == {
        each.name for each in found.compared.runs
    }


@pytest.mark.trains
def test_figures_need_keys(sweep):
    with pytest.raises(UsageError, match=r"not grouped: gi\.compare\(runs, by="):
        gi.compare(sweep).phase_diagram  # noqa: B018
    found = gi.compare(sweep, by=["training.weight_decay", "seed"])
    assert set(found.steps_against) == {"training.weight_decay", "seed"}
    assert list(found.kaplan_meier) == [""]
    assert len(found.phase_diagram.layout.shapes) == 4
    assert "what they did" in found._repr_html_()


@pytest.mark.trains
def test_the_command_says_what_was_found_within_its_width(grokinterp, sweep, tmp_path):
    code, stdout, _ = grokinterp("compare", sweep, "--by", "training.weight_decay", "--out", tmp_path / "out")
    assert code == 0
    assert "weight decay" in stdout
    assert "0 of 2" in stdout
    assert "No log-rank test of 1 pair of groups" in stdout
    assert max(map(len, stdout.splitlines()[:-2])) <= 80
    assert "Phase diagram" in (tmp_path / "out" / "compare.html").read_text()
    code, _, stderr = grokinterp("compare", sweep, "--by", "training.weight_dcay")
    assert code == 2
    assert stderr.count("\n") == 1
    assert "did you mean 'training.weight_decay'" in stderr


@pytest.mark.browser
@pytest.mark.trains
def test_the_page_opens_with_the_finding_and_a_figure_and_nothing_overflows(sweep, browser, tmp_path):
    found = gi.compare(sweep, by=["training.weight_decay", "seed"])
    found.save_html(tmp_path / "page.html")
    assert found.by is not None
    for width in (1400, 800, 400):
        page, problems = opened(browser, tmp_path / "page.html", width)
        assert page.locator(".verdict").inner_text() == grouped.finding(found.by)
        assert page.locator("header #panel-phases svg:visible").count() == 1
        top = page.locator("#panel-phases .area").bounding_box()
        assert top["y"] + top["height"] < 900
        page.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true; })")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert problems == []
        page.close()


def test_a_run_says_its_kind(sweep):
    (each, *_) = gi.compare(sweep).compared.runs
    assert isinstance(each, Compared)
    assert each.kind in palette.KINDS
