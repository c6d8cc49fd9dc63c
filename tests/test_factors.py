"""What explains the variance of a part of a network: activations whose shares are known, shuffled factors,
error bars held against repeated samples; and the digit that a network takes for the right one."""

from __future__ import annotations

import dataclasses
import math
from functools import cached_property
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import grokinterp as gi
from grokinterp import controls
from grokinterp.errors import NotApplicable, UsageError
from grokinterp.measures import factors
from grokinterp.measures.factors import TOGETHER, Sampled, standardised
from grokinterp.models import ModelConfig
from grokinterp.report.analysis import Analysis
from grokinterp.report.digits import sections
from grokinterp.tasks import Factor, Sample, make_task
from test_task_families import Parity


def digits(n: int, seed: int = 0):
    """Two independent uniform digits, as classes."""
    return torch.randint(10, (2, n), generator=torch.Generator().manual_seed(seed))


def one(values, cells) -> tuple[float, float]:
    """The share that classes explain of one activation, and its error."""
    return tuple(factors._by_one(sampled(values), cells)[0].tolist())


def two(values, a, b) -> tuple[float, float]:
    return tuple(factors._by_two(sampled(values), a, b)[0].tolist())


def sampled(values) -> Sampled:
    return Sampled(standardised(values.double()[:, None, None]))


def by_examples(z, by, n_free, beyond, n_free_beyond):
    """The share that fits explain and its error by the formula of the module, example by example."""
    taken, size = (2 * z * by - by**2).sum(2), (z**2).sum(2)
    left = (size - taken).mean(0)
    taken = taken - (2 * z * beyond - beyond**2).sum(2)
    by_chance = (n_free - n_free_beyond) / (len(z) - n_free)
    share = taken.mean(0)
    error = (1 + by_chance) * ((taken - share * size) ** 2).mean(0).sqrt() / (len(z) - 1) ** 0.5
    return torch.stack([share - by_chance * left, error], dim=1)


# Shares that are known


def test_of_x_plus_2y_the_one_explains_a_fifth_and_the_other_the_rest():
    x, y = digits(20_000)
    for cells, truth in ((x, 1 / 5), (y, 4 / 5)):
        share, error = one(x + 2 * y, cells)
        assert abs(share - truth) < 4 * error < 0.02
    share, error = two(x + 2 * y, x, y)
    assert abs(share) < 1e-9


def test_of_a_parity_of_both_a_pair_explains_all_and_neither_anything():
    x, y = digits(20_000)
    both = (x + y) % 2
    assert all(abs(one(both, cells)[0]) < 4 * one(both, cells)[1] < 0.005 for cells in (x, y))
    assert two(both, x, y)[0] == pytest.approx(1, abs=1e-3)


def test_a_carry_is_read_from_both_digits_in_the_shares_that_counting_gives():
    """Over all 100 pairs each once: Var(E[c | x]) / Var(c) is (99/12/100) / (.45 .55), and the pair has the
    rest."""
    x, y = digits(50_000, 1)
    carry = x + y >= 10
    alone = (99 / 12 / 100) / (0.45 * 0.55)
    assert one(carry, x)[0] == pytest.approx(alone, abs=0.02)
    assert two(carry, x, y)[0] == pytest.approx(1 - 2 * alone, abs=0.02)


def test_a_shuffled_factor_explains_nothing_within_its_error_and_on_average_exactly_so():
    x, y = digits(200)
    shares = []
    for seed in range(200):
        shuffled = x[torch.randperm(200, generator=torch.Generator().manual_seed(seed))]
        shares.append(one(x + 2 * y, shuffled)[0])
    assert abs(np.mean(shares)) < 4 * np.std(shares) / math.sqrt(200)
    assert np.std(shares) < 0.05


def test_the_error_covers_the_truth_about_as_often_as_it_says():
    inside = 0
    for seed in range(200):
        x, y = digits(300, seed)
        share, error = one(x + 2 * y, x)
        inside += abs(share - 1 / 5) < 1.96 * error
    assert 0.88 <= inside / 200 <= 0.995


@pytest.mark.parametrize("width", [1, 2])
def test_the_error_of_an_interaction_covers_the_truth_about_as_often_as_it_says(width):
    """The parity of x + y is independent of either: of x + 2 y + 6 [x + y odd] it is 9 of 8.25 + 33 + 9."""
    inside = 0
    for seed in range(200):
        x, y = digits(400, seed)
        z = (x + 2 * y + 6 * ((x + y) % 2)).double()[:, None, None].expand(-1, -1, width)
        share, error = factors._by_two(Sampled(standardised(z)), x, y)[0].tolist()
        inside += abs(share - 9 / 50.25) < 1.96 * error
    assert 0.88 <= inside / 200 <= 0.995


def test_what_never_varies_has_no_share():
    x, _ = digits(500)
    assert one(torch.full((500,), 3.0), x) == (0, 0)


def test_shares_are_those_of_plain_loops():
    x, _ = digits(700, 3)
    z = (
        torch.randn(700, 4, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        + x[:, None, None]
    )
    measured = factors._by_one(Sampled(standardised(z)), x)
    for unit in range(4):
        total = between = 0.0
        for component in range(2):
            values = z[:, unit, component].numpy()
            total += values.var() * 700
            for label in range(10):
                group = values[(x == label).numpy()]
                between += len(group) * (group.mean() - values.mean()) ** 2
        within = (total - between) / (700 - 10)
        assert float(measured[unit, 0]) == pytest.approx((between - 9 * within) / total)


def test_what_a_part_explains_is_taken_off_what_the_whole_does():
    x, y = digits(4000)
    of, cells = sampled(x + (x + y) % 2), 10 * x + y
    sums = of.sums(cells, 100)
    means = sums[:, :, :1] / cells.bincount()[:, None, None]
    of_x = torch.stack([of.z[x == a].mean() for a in range(10)])[:, None, None]
    part = of_x.repeat_interleave(10, dim=0)
    beyond = of.explained(cells, sums, means, 100, part, 10)[0, 0]
    alone = of.explained(cells, sums, means, 100)[0, 0] - factors._by_one(of, x)[0, 0]
    assert float(beyond) == pytest.approx(float(alone), abs=1e-3)


@pytest.mark.parametrize("width", [1, 3])
def test_shares_and_errors_from_sums_over_cells_are_those_from_each_example(width):
    x, y = digits(900, 5)
    y[y == 7] = 0  # cells that are empty
    generator = torch.Generator().manual_seed(1)
    z = torch.randn(900, 4, width, dtype=torch.float64, generator=generator)
    z = standardised(z + ((x + y) % 3)[:, None, None] + x[:, None, None])
    cells = 10 * x + y
    whole = torch.stack([z[cells == cell].sum(0) / max(1, int((cells == cell).sum())) for cell in range(100)])
    design = torch.cat([torch.eye(10)[x], torch.eye(10)[y]], dim=1).double()
    both = design @ (torch.linalg.pinv(design) @ z.flatten(1))
    n_cells, n_both = len(cells.unique()), int(torch.linalg.matrix_rank(design))
    expected = by_examples(z, whole[cells], n_cells, both.view_as(z), n_both)
    torch.testing.assert_close(factors._by_two(Sampled(z), x, y), expected)
    of_x = torch.stack([z[x == a].mean(0) for a in range(10)])[x]
    expected = by_examples(z, of_x, 10, torch.zeros_like(z), 1)
    torch.testing.assert_close(factors._by_one(Sampled(z), x), expected)


def test_few_units_at_a_time_give_what_all_at_once_do(monkeypatch):
    x, _ = digits(300)
    z = standardised(torch.randn(300, 5, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))
    together = factors.by_each(z, [x, x // 2])
    monkeypatch.setattr(factors, "_AT_ONCE", 600)
    assert together.shape == (2, 5, 2)
    torch.testing.assert_close(factors.by_each(z, [x, x // 2]), together)


# Of networks


def network(answer="tens", n=2, **options):
    task = make_task("digit_addition", n=n, answer=answer, **{"examples": 600, "per_class": 10, **options})
    config = ModelConfig(d_model=16, n_heads=2, d_head=8, d_mlp=24)
    return gi.View.of_weights(task, config, config.initial_weights(task.reads, 0))


def test_measures_say_of_every_part_what_reads_what():
    view = network()
    rows = view.rows("all")
    neurons = gi.measure("variance_by_factor.neurons", view)
    assert neurons.dims == ("factor", "neuron", "of")
    assert (
        neurons["factor"].values.tolist()
        == list(view.task.read)
        == ["x.units", "y.units", "x.tens", "y.tens"]
    )
    x = view.task.factors["x.tens"].values[rows]
    expected = one(view.neurons[rows, 5], x)
    assert neurons.sel(factor="x.tens", neuron=5).values.tolist() == pytest.approx(expected)
    assert gi.measure("variance_by_factor.heads", view).dims == ("factor", "layer", "head", "of")
    pairs = gi.measure("variance_by_pair.logits", view)
    assert "x.tens" + TOGETHER + "y.tens" in pairs["pair"].values


def test_a_part_of_all_digits_is_asked_at_each_answer():
    heads = gi.measure("variance_by_factor.heads", network("all"))
    assert heads.dims[0] == "answer"
    assert heads["answer"].values.tolist() == ["hundreds", "tens", "units"]


def test_the_operands_of_an_operation_are_asked_for_by_name_alone():
    view = controls.clock(11, (2,))
    shares = gi.measure("variance_by_factor.logits", view).sel(of="share")
    assert float(shares.max()) < 0  # of a + b neither says anything alone
    assert not gi.MEASURES["variance_by_factor.logits"].applies_to(view.task)


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"factors": ["x.thousands"]}, UsageError, "has no factor 'x.thousands'"),
        ({"factors": ["carry_in.units"]}, NotApplicable, "all examples are of one class"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_one_line(options, error, says):
    with pytest.raises(error, match=says) as refused:
        gi.measure("variance_by_factor.neurons", network(), **options)
    assert "\n" not in str(refused.value)


@dataclasses.dataclass(frozen=True)
class Unknown(Parity):
    """A task of whose examples nothing is known."""

    @cached_property
    def factors(self):
        return {}

    together = None


def test_a_task_without_factors_is_refused():
    task = Unknown(name="unknown", symbol="parity")
    config = ModelConfig(d_model=8, n_heads=2, d_head=4, d_mlp=8)
    view = gi.View.of_weights(task, config, config.initial_weights(task.reads, 0))
    with pytest.raises(NotApplicable, match="unknown has no factors"):
        gi.measure("variance_by_factor.neurons", view)
    assert isinstance(task.sample, Sample)
    assert not gi.MEASURES["variance_by_factor.heads"].applies_to(task)
    assert Factor(torch.tensor([0, 0, 1])).n_classes == 2


# The digit that it takes for the right one


def with_probabilities(view, probabilities):
    view.__dict__["probabilities"] = probabilities
    return view


def test_who_knows_the_digits_and_not_the_carry_gives_naive_and_one_more_half_each():
    view = network()
    naive = view.task.factors["naive.tens"].values
    halves = 0.5 * (torch.eye(10)[naive] + torch.eye(10)[(naive + 1) % 10]).double()
    profile = gi.measure("digits.delta_profile", with_probabilities(view, halves))
    assert profile.dims == ("delta", "part")
    assert profile["delta"].values.tolist() == [-1, 0, 1, 2]
    for part in ("all", "S0", "S1"):
        assert profile.sel(part=part).values.tolist() == [0, 0.5, 0.5, 0]


def test_a_profile_is_that_of_a_plain_loop():
    view = network("all")
    profile = gi.measure("digits.delta_profile", view)
    for answer in ("hundreds", "tens"):
        one_answer, total = view.at(answer), dict.fromkeys((-1, 0, 1, 2), 0.0)
        for row in range(600):
            x, y = (
                int(view.task.factors[f"{letter}.tens"].values[row]) if answer == "tens" else 0
                for letter in "xy"
            )
            for delta in total:
                total[delta] += float(one_answer.probabilities[row, (x + y + delta) % 10]) / 600
        measured = profile.sel(answer=answer, part="all")
        assert measured.values.tolist() == pytest.approx(list(total.values()))


def test_what_a_neuron_makes_of_two_digits_is_told_by_functions_of_them():
    view = network(examples=3000)
    x, y = (view.task.factors[f"{letter}.tens"].values for letter in "xy")
    carry, wave = (x + y >= 10).double(), torch.cos(2 * math.pi * 2 * (x + y).double() / 10)
    view.__dict__["neurons"] = torch.stack([carry, wave, (x + 3 * y).double()], dim=1)
    shares = gi.measure("pair_function.neurons", view)
    assert gi.measure("pair_function.place", view).sel(of="place").values.tolist() == [1, 1, 1]
    for neuron, function in enumerate(("carry", "wave 2", "f(x) + g(y)")):
        assert float(shares.sel(neuron=neuron, function=function)) == pytest.approx(1, abs=0.01)
    assert float(shares.sel(neuron=0, function="f(x + y)")) == pytest.approx(1, abs=0.01)
    assert float(shares.sel(neuron=2, function="f(x + y)")) < 0.9
    assert abs(float(shares.sel(neuron=1, function="carry"))) < 0.1


# In the report


def analysed(view, kinds):
    """As much of an analysis as the section takes."""
    names = [f"variance_by_{by}.{kind}" for kind in kinds for by in ("factor", "pair")]
    names += ["pair_function.place", "pair_function.neurons"] if "neurons" in kinds else []
    a = Analysis.__new__(Analysis)
    a.values, a.run = {name: gi.measure(name, view) for name in names}, SimpleNamespace(task=view.task)
    return a


def test_the_report_names_what_neurons_read_and_which_functions_of_two_digits_fit_them():
    view = network(examples=3000)
    x, y = (view.task.factors[f"{letter}.tens"].values for letter in "xy")
    carry = (x + y >= 10).double()
    view.__dict__["neurons"] = torch.stack([carry, x.double(), torch.zeros(len(x)), 3 + carry], dim=1)
    a = analysed(view, ["neurons"])
    rows = dict(zip(("both", "a", "nothing"), sections._neurons(a).rows, strict=True))
    assert rows["both"][:2] == ("tens of both numbers", "2")
    assert rows["a"] == ("tens of a", "1", "1 (1.00)")
    assert rows["nothing"] == ("nothing", "1", "2")
    table = sections._pair_functions(a)
    assert list(table.header) == ["Function", "tens"]
    fits = dict(table.rows)
    assert fits["neurons that read it"] == "3"
    assert fits["carry"] == "1.00, 2 of 3"
    assert fits["f(x) + g(y)"].endswith("1 of 3")


def test_the_bars_of_the_report_are_the_shares_of_the_places_one_upon_the_other():
    view = controls.adder(2, examples=4000, per_class=10)
    a = analysed(view, ["heads"])
    figure = sections._bars(a, "heads")
    assert [bar.name for bar in figure.data] == ["units", "tens", "two places"]
    names = list(figure.data[0].x)
    of_sum, of_carry = (names.index(f"tens, layer 0, head {head}") for head in (0, 1))
    heights = np.array([bar.y for bar in figure.data])
    assert heights[:, of_sum] == pytest.approx([0, 1, 0], abs=0.03)
    assert heights[:, of_carry] == pytest.approx([1, 0, 0], abs=0.03)
    (unit,) = [unit for unit in sections._units(a, "heads") if unit.name == names[of_sum]]
    assert unit.words == "tens of both numbers"
    alone = a.values["variance_by_factor.heads"].sel(answer="tens", layer=0, head=0, of="share")
    assert unit.largest_first[0].startswith(f"{alone.idxmax('factor').item()} {float(alone.max()):.2f} ± ")


def test_the_report_says_what_is_read_and_takes_no_frequencies(tmp_path):
    from test_report import text_of

    overrides = {
        "task.n": 2, "task.answer": "tens", "task.examples": 600, "task.per_class": 10, "model.d_model": 16,
        "model.d_mlp": 16, "training.steps": 40, "training.batch_size": 64, "threads": 1,
    }  # fmt: skip
    run = gi.train(gi.TrainConfig.preset("one_digit", **overrides), tmp_path / "run", progress=False)
    report = gi.analyze(run)
    page = text_of(report.to_html())
    for title in (
        "Naive digit, or one more?",
        "What heads and neurons read",
        "What explains the heads",
        "What each logit reads",
        "What neurons make of two digits",
        "Which part knows it",
        "Which node carries which part of the sum",
        "By class",
    ):
        assert title in page
    assert "By x.tens" not in page
    assert "frequenc" not in page.lower().replace("key frequencies", "")
    gi.save_replay(run, tmp_path / "replay.html")
    assert "Naive digit, or one more?" in (tmp_path / "replay.html").read_text()
