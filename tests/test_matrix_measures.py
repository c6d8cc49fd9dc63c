"""What is said of wrong answers is right where it is known what is wrong with them."""

from __future__ import annotations

import functools
import math

import numpy as np
import pytest
import torch
from torch import Tensor

import grokinterp as gi
from grokinterp.errors import ConfigError, NotApplicable, UsageError
from grokinterp.measures.matrices.failures import TOLERANCES, answers
from grokinterp.measures.matrices.properties import (
    BANDS,
    auc,
    bands,
    condition,
    off_by,
    off_orthogonal,
    off_unit_norm,
)
from grokinterp.models import ModelConfig
from grokinterp.replay.distributions import elsewhere
from grokinterp.runs.seen import tokens_seen
from grokinterp.tasks import make_task
from grokinterp.tasks.matrices import DISTRIBUTIONS, Matrices

CONFIG = ModelConfig(n_layers=1, d_model=8, n_heads=1, d_mlp=8)
PROBLEMS = ("eigenvalues", "eigenvectors", "matrix_inverse", "matrix_transpose", "matrix_addition")


def orthogonal(n: int, count: int = 20) -> Tensor:
    generator = torch.Generator().manual_seed(n)
    return torch.linalg.qr(torch.randn(count, n, n, generator=generator, dtype=torch.float64)).Q


# Properties


@pytest.mark.parametrize("n", range(2, 7))
def test_a_row_turned_towards_another_is_off_by_the_sine_of_the_angle(n):
    """Of an orthogonal V only rows i and j then are not at right angles, by |cos| = sin t. Columns are off by
    no more: of unit vectors u, w at right angles |uᵀGw| / √(uᵀGu wᵀGw) is at most (b − a) / (b + a) where G
    has eigenvalues from a to b (Wielandt), here 1 ± sin t."""
    for t in (1e-3, 0.04, 0.3):
        for i in range(n):
            for j in range(n):
                if i == j:
                    continue
                v = orthogonal(n)
                v[:, j] = math.cos(t) * v[:, j] + math.sin(t) * v[:, i]
                neighbours = abs(i - j) in (1, n - 1)
                expected = math.sin(t) if neighbours else 0.0
                assert off_orthogonal(v, "neighbours") == pytest.approx(np.full(20, expected), abs=1e-12)
                assert off_orthogonal(v, "all") == pytest.approx(np.full(20, math.sin(t)), abs=1e-12)
                # A column turned towards another is seen as much by all pairs, of rows and of columns.
                assert off_orthogonal(v.mT, "all") == pytest.approx(np.full(20, math.sin(t)), abs=1e-12)


@pytest.mark.parametrize("n", range(2, 7))
def test_lengths_do_not_matter_for_angles_but_for_the_one_term_that_the_notebook_leaves_as_it_stands(n):
    v = orthogonal(n)
    scales = torch.linspace(0.5, 3, n, dtype=torch.float64)
    assert off_orthogonal(v * scales[:, None], "neighbours") == pytest.approx(np.zeros(20), abs=1e-12)
    assert off_unit_norm(v * scales[:, None]).tolist() == pytest.approx([2.0] * 20)
    t = 0.1
    v[:, -1] = math.cos(t) * v[:, -1] + math.sin(t) * v[:, 0]
    longer = v.clone()
    longer[:, 0] *= 5
    assert off_orthogonal(longer, "neighbours") == pytest.approx(np.full(20, 5 * math.sin(t)))


def as_in_the_notebook(v: np.ndarray) -> float:
    """err4 in the order and with the terms of facebookresearch/LAWT."""
    n, norm = len(v), np.linalg.norm
    cosines = [abs(v[i] @ v[i + 1]) / norm(v[i]) / norm(v[i + 1]) for i in range(n - 1)]
    return max(*cosines, abs(v[0] @ v[-1]) / norm(v[0]) / norm(v[-1]), abs(v[0] @ v[-1]), 0.0)


@pytest.mark.parametrize("n", range(2, 7))
def test_the_properties_are_those_of_a_plain_loop(n):
    generator = torch.Generator().manual_seed(n)
    v = torch.randn(30, n, n, generator=generator, dtype=torch.float64)
    assert off_orthogonal(v, "neighbours").numpy() == pytest.approx(
        [as_in_the_notebook(x) for x in v.numpy()]
    )
    pairs = [(i, j) for i in range(n) for j in range(n) if i != j]
    cosines = [
        max(
            abs(m[i] @ m[j]) / np.linalg.norm(m[i]) / np.linalg.norm(m[j]) for m in (x, x.T) for i, j in pairs
        )
        for x in v.numpy()
    ]
    assert off_orthogonal(v, "all").numpy() == pytest.approx(cosines)
    norms = [max(abs(np.linalg.norm(x, axis=axis) - 1).max() for axis in (0, 1)) for x in v.numpy()]
    assert off_unit_norm(v).numpy() == pytest.approx(norms)
    assert 10 ** condition(v).numpy() == pytest.approx([np.linalg.cond(x) for x in v.numpy()])


def test_what_is_no_matrix_has_no_property_and_zeros_are_not_orthogonal():
    v = orthogonal(3, 3)
    v[0, 1, 1] = math.nan
    v[1, 2] = 0
    for of in (off_orthogonal(v, "all"), off_orthogonal(v, "neighbours"), off_unit_norm(v), condition(v)):
        assert of.isnan().tolist() == [True, False, False]
    assert off_orthogonal(v, "all")[1] == 1
    assert condition(v)[1] > 15.6
    given, true = (torch.tensor(x).double()[:, None] for x in ([1, 0, 3], [2, 0, 0]))
    assert off_by(given, true).tolist() == [0.5, 0.0, math.inf]


def test_bands_are_a_half_a_quarter_and_what_they_say():
    marks = torch.stack(bands(torch.randperm(1000, generator=torch.Generator().manual_seed(0)).double()))
    assert marks.sum(0).tolist() == [1] * 1000
    assert marks.sum(1).tolist() == [10 * (high - low) for low, high in BANDS]


def test_the_area_under_the_curve_is_the_share_of_pairs_and_its_interval_that_of_a_bootstrap():
    generator = np.random.default_rng(0)
    failed = generator.random(400) < 0.25
    numbers = (generator.normal(size=400) + 0.9 * failed).round(1)
    value, low, high = auc(numbers, failed)
    pairs = numbers[failed][:, None] - numbers[~failed]
    assert value == pytest.approx((pairs > 0).mean() + (pairs == 0).mean() / 2)
    drawn = []
    for _ in range(2000):
        rows = generator.integers(400, size=400)
        pairs = numbers[rows][failed[rows]][:, None] - numbers[rows][~failed[rows]]
        drawn.append((pairs > 0).mean() + (pairs == 0).mean() / 2)
    assert (low, high) == pytest.approx(np.quantile(drawn, [0.025, 0.975]), abs=0.012)
    assert auc(failed.astype(float), failed) == (1, 1, 1)
    with pytest.raises(ValueError, match="1 failed and 399 did not"):
        auc(numbers, np.arange(400) == 3)


# Measures, of answers of which it is known what is wrong


@functools.cache
def task_of(name: str, n: int = 3, examples: int = 300) -> Matrices:
    task = make_task(name, n=n, examples=examples)
    assert isinstance(task, Matrices)
    return task


def saying(task: Matrices, given: Tensor) -> gi.View:
    """A network that gives these answers."""
    view = gi.View.of_weights(task, CONFIG, CONFIG.initial_weights(task.reads, 0))
    view.__dict__["decoded"] = given
    return view


def classes_of(task: Matrices, matrices: Tensor) -> Tensor:
    tokens, valid = task.output.encode(matrices.flatten(1))
    assert valid.all()
    return tokens.flatten(1)


@pytest.mark.parametrize("name", PROBLEMS)
def test_right_answers_have_every_property(name):
    view = saying(task_of(name), task_of(name).sample.answers)
    said = answers(view)
    assert all(marks.all() for marks in said.right.values())
    assert all((error < 0.05).double().mean() > 0.99 for error in said.properties.values())
    within = gi.measure("matrices.within", view).sel(below=0.05)
    names = [error for error in within["error"].values if "d1" in error or error in said.properties]
    # Three digits of an inverse are too few where a matrix is nearly singular.
    assert (within.sel(error=[name for name in names if name != "d1"]) > 0.99).all()
    assert (gi.measure("matrices.by_coefficient", view).sel(share="share") == 1).all()
    with pytest.raises(NotApplicable, match="none of 300 answers is wrong"):
        gi.measure("matrices.roughly_right", view)
    if name == "matrix_addition":
        with pytest.raises(NotApplicable, match="two matrices"):
            gi.measure("matrices.by_condition", view)
    else:
        assert (gi.measure("matrices.by_condition", view).sel(band="share") == 1).all()
        with pytest.raises(NotApplicable, match="0 of 300 answers are wrong"):
            gi.measure("matrices.failure_auc", view)


def test_answers_that_are_no_matrix_are_wrong_and_have_no_property():
    task = task_of("eigenvectors")
    given = task.sample.answers.clone()
    given[:100, 0] = given[:100, 1]  # digits where a sign has to be
    said = gi.measure("matrices.roughly_right", saying(task, given))
    assert (said.sel(group="wrong", share="share") == 0).all()
    assert (said.sel(group="wrong", share="n") == 100).all()
    within = gi.measure("matrices.within", saying(task, given)).sel(error="d1")
    assert within.values.max() == pytest.approx(2 / 3)
    assert within["below"].values.tolist() == list(TOLERANCES)


def test_of_eigenvectors_that_are_turned_eigenvalues_and_norms_are_right_and_angles_are_not():
    task = task_of("eigenvectors")
    true = task.encoded_truth.clone()
    t = 0.4
    turned = torch.arange(300) % 3 == 0
    true[turned, 1] = math.cos(t) * true[turned, 1] + math.sin(t) * true[turned, 2]
    view = saying(task, classes_of(task, true))
    said = gi.measure("matrices.roughly_right", view).sel(share="share")
    wrong = said.sel(group="wrong")
    assert float(wrong.sel(property="eigenvalues")) == 1
    assert float(wrong.sel(property="orthogonal (all pairs)")) == 0
    assert float(wrong.sel(property="orthogonal (neighbouring rows)")) == 0
    assert float(said.sel(group="right", property="orthogonal (all pairs)")) == 1
    # The condition number of the answer tells all of them, that of the question none.
    told = gi.measure("matrices.failure_auc", view)
    assert float(told.sel(predictor="answer", area="value")) == 1
    low, high = (float(told.sel(predictor="question", area=end)) for end in ("low", "high"))
    assert low < 0.5 < high
    numbers = gi.measure("matrices.condition", view)
    assert float(numbers.sel(group="right", condition_number="greatest")) < 1.05
    # Rows at an angle with cos t' = sin t have singular values √(1 ± sin t).
    expected = math.sqrt((1 + math.sin(t)) / (1 - math.sin(t)))
    assert float(numbers.sel(group="wrong", condition_number="mean")) == pytest.approx(expected, rel=0.01)


def test_who_fails_on_the_matrices_of_large_condition_number_is_told_by_it():
    task = task_of("eigenvalues", n=2, examples=1000)
    large = task.factors["log_condition"].values
    wrong = large > large.quantile(0.9)
    given = task.encoded_truth.clone()
    given[wrong, 0] += given[wrong].abs().sum(1)
    view = saying(task, classes_of(task, given))
    told = gi.measure("matrices.failure_auc", view).sel(predictor="question")
    assert told.sel(area=["value", "wrong", "n"]).values.tolist() == [1, 100, 1000]
    by = gi.measure("matrices.by_condition", view)
    assert by.sel(band="share").values.tolist() == [1, 1, 1, 1, 0]
    assert by.sel(band="n").values.tolist() == [250, 250, 250, 150, 100]
    ends = by.sel(band=["from", "to"]).values
    assert (ends[1:, 0] >= ends[:-1, 1]).all()
    assert ends[0, 0] == pytest.approx(float(10 ** large.min()))
    coefficients = gi.measure("matrices.by_coefficient", view)
    assert coefficients.sel(share="share").values.tolist() == pytest.approx([0.9, 1])
    rough = gi.measure("matrices.roughly_right", view).sel(group="wrong", share="share")
    assert float(rough.sel(property="greatest first")) == 1
    assert float(rough.sel(property="trace (of the sum of sizes)")) == 0


def test_an_inverse_may_be_near_and_its_product_with_the_matrix_not():
    task = task_of("matrix_inverse", n=2, examples=600)
    off = task.encoded_truth * (
        1 + 0.03 * torch.randn(600, 2, 2, generator=torch.Generator().manual_seed(0)).double()
    )
    view = saying(task, classes_of(task, off))
    within = gi.measure("matrices.within", view).sel(below=0.05)
    assert float(within.sel(error="near the inverse")) > 0.9 > float(within.sel(error="d1"))
    told = gi.measure("matrices.failure_auc", view).sel(predictor="question")
    assert float(told.sel(area="low")) > 0.7
    rough = gi.measure("matrices.roughly_right", view).sel(group="wrong", share="share")
    assert float(rough.sel(property="near the inverse")) > 0.8


def degenerate(name: str, n: int) -> dict[str, gi.View]:
    """Networks early in training and odd samples: all answers right, wrong, no matrices, zero; one right or
    wrong; one example; the zero matrix and singular ones."""
    task = task_of(name, n, 40)
    right = task.sample.answers
    no_matrix, zero = right.clone(), classes_of(task, torch.zeros_like(task.truth))
    no_matrix[:, 0] = no_matrix[:, 1]
    wrong = classes_of(task, task.encoded_truth.roll(1, 0) / 2 + 1)
    few, half = torch.arange(40)[:, None] == 0, torch.arange(40)[:, None] < 20
    views = {
        "all right": saying(task, right),
        "all wrong": saying(task, wrong),
        "no answer is a matrix": saying(task, no_matrix),
        "zero": saying(task, zero),
        "one wrong": saying(task, wrong.where(few, right)),
        "one right": saying(task, right.where(few, wrong)),
        "half are no matrix": saying(task, no_matrix.where(half, right)),
        "half are no matrix, half wrong": saying(task, no_matrix.where(half, wrong)),
        "one example, right": saying(task.of(task.matrices[:1]), right[:1]),
        "one example, no matrix": saying(task.of(task.matrices[:1]), no_matrix[:1]),
    }
    if name != "matrix_inverse":
        size = torch.arange(6, dtype=torch.float64)[:, None, None]
        for what, sizes in (("the zero matrix", 0 * size), ("singular ones", 1 + size)):
            singular = task.of(torch.ones(6, *task.question_shape, dtype=torch.float64) * sizes)
            views |= {
                f"{what}, right": saying(singular, singular.sample.answers),
                f"{what}, wrong": saying(singular, wrong[:6]),
                f"{what}, no matrix": saying(singular, no_matrix[:6]),
            }
    return views


@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.parametrize("n", [1, 2])
def test_every_measure_says_something_finite_of_odd_answers_or_why_it_does_not(name, n):
    measures = [each for each in gi.MEASURES if each.startswith("matrices.")]
    for what, view in degenerate(name, n).items():
        for each in measures:
            try:
                value = gi.measure(each, view)
            except NotApplicable:
                continue
            assert value.size, (what, each)
            assert np.isfinite(value.values).all(), (what, each)


def test_without_a_condition_number_it_is_said_why():
    views = degenerate("eigenvectors", 2)
    with pytest.raises(NotApplicable, match="none of 40 answers is a matrix"):
        gi.measure("matrices.condition", views["no answer is a matrix"])
    views = degenerate("eigenvalues", 2)
    with pytest.raises(NotApplicable, match="are singular to float64"):
        gi.measure("matrices.condition", views["singular ones, right"])
    for name in ("matrices.by_condition", "matrices.failure_auc"):
        with pytest.raises(NotApplicable, match=r"same condition number \(are singular\)"):
            gi.measure(name, views["singular ones, right"])
        with pytest.raises(NotApplicable, match=r"same condition number \(have 1\)"):
            gi.measure(name, degenerate("eigenvalues", 1)["one wrong"])


def test_it_is_said_how_many_matrices_are_singular():
    task = task_of("eigenvalues", 2).of([[[2, 0], [0, 1]], [[3, 0], [0, 1]], [[1, 1], [1, 1]]])
    by = gi.measure("matrices.by_condition", saying(task, task.sample.answers))
    assert by.sel(band="singular").values.sum() == 1
    assert by.sel(band="singular").values[-1] == 1
    assert by.sel(band="to").values[-1] == pytest.approx(1 / np.finfo(float).eps)


def test_a_right_answer_to_the_zero_matrix_has_every_property():
    view = degenerate("eigenvalues", 2)["the zero matrix, right"]
    assert all((error == 0).all() for error in answers(view).properties.values())


def test_right_answers_whose_eigenvectors_have_no_unit_norms_are_counted():
    """a V and a² w are as right as V and w; so are zeros."""
    task = task_of("eigenvectors", 2)
    given = task.encoded_truth.clone()
    given[:30, 0] *= 4
    given[:30, 1:] *= 2
    given[30:40] = 0
    view = saying(task, classes_of(task, given))
    right = answers(view).right["within 5 %"]
    assert right[30:40].all()
    assert right.double().mean() > 0.9
    share, low, high, n = gi.measure("matrices.right_without_norm", view).values
    assert n == right.sum()
    assert share * n == pytest.approx(right[:40].sum())
    assert low < share < high
    view = degenerate("eigenvectors", 2)["all right"]
    assert float(gi.measure("matrices.right_without_norm", view).sel(share="share")) == 0
    with pytest.raises(NotApplicable, match="eigenvalues asks for no eigenvectors"):
        gi.measure("matrices.right_without_norm", degenerate("eigenvalues", 2)["all right"])


def test_an_unknown_criterion_is_told_with_the_nearest():
    view = saying(task_of("eigenvalues"), task_of("eigenvalues").sample.answers)
    with pytest.raises(UsageError, match=r"no 'within 5%'.*within 5 %"):
        gi.measure("matrices.by_condition", view, criterion="within 5%")


# Other distributions


@pytest.fixture(scope="module")
def run(trained_once) -> gi.Run:
    task = {"task.name": "eigenvalues", "task.examples": 200}
    model = {"model.d_model": 16, "model.n_heads": 2, "model.d_mlp": 16, "model.n_layers": 1}
    training = {"training.steps": 30, "training.batch_size": 16, "training.weight_decay": 0.0}
    config = gi.TrainConfig.preset("words", **task, **model, **training, **{"snapshots.every": 10})
    return trained_once("matrices", config)


@pytest.mark.parametrize("step", [0, 10, 30])
def test_the_tokens_that_were_seen_are_those_whose_embedding_has_moved(run, step):
    weights = [run.state_dict(at)["embed.W_E"] for at in (0, step)]
    count = len(run.task.input.symbols)
    moved = (weights[0] != weights[1]).any(1)[:count]
    assert torch.equal(tokens_seen(run, step)[:count], moved)
    assert not tokens_seen(run, step)[count:].any()  # what stands in answers, and the start


def test_of_a_finite_training_set_the_tokens_are_those_of_its_rows(tmp_path):
    changes = {"task.name": "reverse", "task.v": 30, "task.n": 2, "task.examples": 60}
    finite = {"training.data": None, "training.fraction": 0.5, "training.batch_size": 8, "training.steps": 10}
    small = {"model.d_model": 8, "model.n_heads": 1, "model.d_mlp": 8, "training.evaluate_every": 10}
    config = gi.TrainConfig.preset("words", **changes, **finite, **small, **{"snapshots.at": [1]})
    run = gi.train(config, tmp_path / "run", progress=False)
    task, before = run.task, min(run.task.reads.positions)
    trained = torch.zeros(task.reads.d_vocab, dtype=torch.bool)
    trained[task.inputs[run.split.train][:, :before]] = True
    assert torch.equal(tokens_seen(run), trained)
    assert 0 < int(tokens_seen(run, 1).sum()) <= 16


def test_of_every_distribution_it_is_told_how_many_are_right_and_of_how_many_a_token_was_never_seen(run):
    found = {each.distribution: each for each in elsewhere(run, examples=100)}
    assert list(found) == list(DISTRIBUTIONS)
    seen, before = tokens_seen(run), min(run.task.reads.positions)
    for name, each in found.items():
        task = run.task.sampled(name, seed=1, examples=100)
        unknown = [any(not seen[token] for token in row) for row in task.inputs[:, :before].tolist()]
        assert each.unseen.right == sum(unknown) / 100
        right = task.right(run.view(-1).on(task).decoded)["within 5 %"].tolist()
        assert each.right.right == sum(right) / 100
        rest = [mark for mark, unseen in zip(right, unknown, strict=True) if not unseen]
        assert (each.rest is None) == (not rest)
        assert each.rest is None or (each.rest.right, each.rest.n) == (sum(rest) / len(rest), len(rest))


def test_one_factor_and_one_hook_may_stand_alone_and_none_are_all(run):
    view = run.view(-1)
    hook = "blocks.0.hook_resid_post"
    some = {"examples": 100, "shuffles": 1}
    one = gi.measure("probe.r2", view, factors="trace", sites=hook, **some)
    assert one["number"].values.tolist() == ["trace"]
    assert one["hook"].values.tolist() == [hook]
    every = gi.measure("probe.r2", view, factors=[], sites=hook, **some)
    assert every["number"].values.tolist() == list(run.task.factors)
    assert gi.measure("probe.r2", view, sites=hook, **some).identical(every)


def test_one_distribution_may_stand_alone_and_an_unknown_criterion_is_named(run):
    (one,) = elsewhere(run, "semicircle,laplace", examples=50)
    assert one.distribution == "semicircle,laplace"
    with pytest.raises(UsageError, match=r"^criterion: there is no 'within 3 %'; did you mean 'within"):
        elsewhere(run, ["laplace"], criterion="within 3 %")


@pytest.mark.parametrize("name", ["matrices.by_coefficient", "matrices.roughly_right"])
@pytest.mark.parametrize("tolerance", [-1.0, math.nan, 0.0])
def test_a_tolerance_that_is_none_is_refused(name, tolerance):
    with pytest.raises(UsageError, match=r"^tolerance: needs a number above 0, .* got "):
        gi.measure(name, degenerate("eigenvalues", 2)["one wrong"], tolerance=tolerance)


def test_a_run_that_goes_on_from_another_says_that_nobody_knows_what_it_has_seen(run, tmp_path):
    other = gi.train(run.config, tmp_path / "other", start=run, progress=False)
    with pytest.raises(NotApplicable, match="goes on from the weights of another"):
        tokens_seen(other)
    (one,) = elsewhere(other, ["laplace"], examples=50)
    assert (one.unseen, one.rest) == (None, None)
    with pytest.raises(ConfigError, match=r"unknown distribution 'laplac'.*laplace"):
        elsewhere(other, ["laplac"])
