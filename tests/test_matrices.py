"""Tasks about matrices: truths against numpy, errors against plain loops over the published definitions, what
is drawn against the moments of its distribution, and what cannot be asked."""

from __future__ import annotations

import inspect
import math

import numpy as np
import pytest
import torch

import grokinterp as gi
from grokinterp.errors import ConfigError
from grokinterp.tasks import Matrices, make_task
from grokinterp.tasks.matrices import DISTRIBUTIONS, mixture
from grokinterp.tasks.matrices.distributions import Entries

NAMES = ["eigenvalues", "eigenvectors", "matrix_inverse", "matrix_transpose", "matrix_addition"]
ENTRIES = Entries("uniform", 10.0)


def task(name: str = "eigenvalues", **parameters) -> Matrices:
    return make_task(name, **{"examples": 100, **parameters})


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def drawn(name: str, n: int, size: int, entries: Entries = ENTRIES) -> torch.Tensor:
    return mixture(name).draw(n, size, entries, generator(1))


def truth_of(name: str, matrix: np.ndarray) -> np.ndarray:
    if name == "eigenvalues":
        return np.sort(np.linalg.eigvals(matrix).real)[::-1].reshape(-1, 1)
    if name == "eigenvectors":
        values, vectors = np.linalg.eigh(matrix)
        return np.vstack((values, vectors))
    if name == "matrix_inverse":
        return np.linalg.inv(matrix)
    return matrix.T if name == "matrix_transpose" else matrix[:, : len(matrix)] + matrix[:, len(matrix) :]


def near(given: Matrices, sizes: float, seed: int = 0) -> torch.Tensor:
    """Answers (classes) near those of a task: its targets times numbers near 1."""
    noise = 1 + sizes * torch.randn(given.truth.shape, generator=generator(seed), dtype=torch.float64)
    tokens, valid = given.output.encode(given.truth * noise)
    assert valid.all()
    tokens = tokens.flatten(1)
    return torch.cat([given.sample.answers[:, : 2 * given.dimensions], tokens], 1)


# What is asked, and its truth


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dimensions", [False, True])
@pytest.mark.parametrize(
    ("input_encoding", "output_encoding"), [("FP15", "P1000"), ("P10", "B1999"), ("FP15", "FP15")]
)
def test_a_row_of_tokens_is_a_question_a_start_and_its_answer(
    name, dimensions, input_encoding, output_encoding
):
    made = task(
        name, n=3, dimensions=dimensions, input_encoding=input_encoding, output_encoding=output_encoding
    )
    made.look_through()
    reads, sample, names = made.reads, made.sample, made.vocabulary["token"]
    start = reads.positions[0]
    assert reads.positions == tuple(range(start, reads.n_ctx))
    assert reads.words[start] == "="
    assert {names[token] for token in sample.inputs[:, start].tolist()} == {"="}
    assert torch.equal(sample.inputs[:, start + 1 :], made.written[sample.answers[:, :-1]])
    rows, columns = made.question_shape
    r, c = made.answer_shape
    assert start == rows * columns * made.input.width + 2 * dimensions
    assert len(reads.answers) == r * c * made.output.width + 2 * dimensions
    assert reads.n_logits == reads.n_classes == len(made.written) == len(made.vocabulary["logit"])
    assert [names[token] for token in made.written.tolist()] == list(made.vocabulary["logit"])
    if dimensions:
        written = [[names[token] for token in row] for row in sample.inputs[:2].tolist()]
        assert all(row[:2] == [f"V{rows}", f"V{columns}"] for row in written)
        assert all(row[start + 1 : start + 3] == [f"V{r}", f"V{c}"] for row in written)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("n", [1, 2, 5])
def test_the_truth_is_that_of_numpy_on_the_matrix_as_it_was_drawn(name, n):
    made = task(name, n=n)
    exact = made.of(made._made.matrices)
    assert torch.equal(exact.truth, made.truth)
    for matrix, truth in zip(made._made.matrices.numpy(), made.truth.numpy(), strict=True):
        expected = truth_of(name, matrix)
        assert truth.shape == made.answer_shape
        np.testing.assert_allclose(truth, expected, rtol=1e-9, atol=1e-9)


def test_matrices_are_kept_as_their_tokens_say_them():
    made = task("matrix_transpose", input_encoding="P1000")
    for shown, exact in zip(
        made.matrices.flatten().tolist(), made._made.matrices.flatten().tolist(), strict=True
    ):
        assert shown == float(f"{exact:.2e}")
    for shown, exact in zip(
        made.encoded_truth.flatten().tolist(), made.truth.flatten().tolist(), strict=True
    ):
        assert shown == float(f"{exact:.2e}")


def test_eigenvectors_are_orthonormal_and_ascending():
    made = task("eigenvectors", n=4)
    values, vectors = made.truth[:, 0], made.truth[:, 1:]
    assert (values.diff(dim=1) >= 0).all()
    torch.testing.assert_close(vectors.mT @ vectors, torch.eye(4).double().expand(100, 4, 4))
    assert (task("eigenvalues", n=4).truth.diff(dim=1) <= 0).all()


def test_a_matrix_without_an_inverse_is_drawn_anew():
    made = task("matrix_inverse", n=2, entries="uniform")
    off = made._made.matrices @ made.truth - torch.eye(2).double()
    assert float(off.abs().max()) <= 1e-10


# Errors


def plain_errors(name: str, m: np.ndarray, t: np.ndarray, h: np.ndarray) -> dict[str, float]:
    """The definitions of LAWT, sum by sum."""
    if name == "eigenvectors":
        size = h.shape[1]
        d, t = np.zeros((size, size)), np.diag(h[0])
        for i in range(size):
            for j in range(size):
                d[i, j] = sum(
                    h[1 + a, i] * m[a, b] * h[1 + b, j] for a in range(size) for b in range(size)
                ) - (h[0, i] if i == j else 0)
    else:
        d = h - t
    errors = {
        "d1": sum(abs(x) for x in d.flat) / sum(abs(x) for x in t.flat),
        "max": max(abs(x) for x in d.flat) / max(abs(x) for x in t.flat),
        "d2": sum(x * x for x in d.flat) / sum(x * x for x in t.flat),
        "coefficients": sum(abs(x) / (abs(y) + 1e-12) >= 0.01 for x, y in zip(d.flat, t.flat, strict=True))
        / d.size,
    }
    if name != "matrix_inverse":
        return errors
    off = m @ h - np.eye(len(m))
    return {
        "d1": sum(abs(x) for x in off.flat) / len(m),
        "max": max(abs(x) for x in off.flat),
        "d2": float(np.trace(off.T @ off)) / len(m),
        "coefficients": sum(abs(x) >= 0.01 for x in off.flat) / off.size,
        **{f"classic_{key}": value for key, value in errors.items()},
    }


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("n", [2, 3])
def test_errors_are_the_published_ones_summed_one_by_one(name, n):
    made = task(name, n=n)
    given = near(made, 0.03)
    found, valid = made.found(given)
    assert valid.all()
    errors = made.errors(given)
    for row in range(40):
        expected = plain_errors(
            name, made.matrices[row].numpy(), made.encoded_truth[row].numpy(), found[row].numpy()
        )
        assert expected.keys() == errors.keys()
        for key, value in expected.items():
            assert float(errors[key][row]) == pytest.approx(value, rel=1e-9, abs=1e-13), key
    coefficients = (made.by_coefficient(given) >= 0.01).double().mean((1, 2))
    assert torch.equal(coefficients, errors["coefficients"])


@pytest.mark.parametrize("name", NAMES)
def test_right_is_what_is_within_a_tolerance_or_exact(name):
    made = task(name)
    assert all(right.all() for right in made.right(made.sample.answers).values())
    given = near(made, 0.01)
    right, error = made.judged(given), made.errors(given)["d1"]
    assert list(right) == ["within 5 %", "within 2 %", "within 1 %", "within 0.5 %", "exact"]
    for share in (0.05, 0.02, 0.01, 0.005):
        assert torch.equal(right[f"within {100 * share:g} %"], (error < share) | right["exact"])
    assert 0 < right["within 5 %"].double().mean() <= 1


def test_any_eigenbasis_counts_whatever_its_signs_and_no_other_matrix():
    made = task("eigenvectors", n=3)
    flipped = made.truth.clone()
    flipped[:, 1:, 1] *= -1
    tokens, _ = made.output.encode(flipped)
    assert not made.right(tokens.flatten(1))["exact"].any()
    assert made.right(tokens.flatten(1))["within 5 %"].double().mean() > 0.9
    turned = made.truth.clone()
    turned[:, 1:] = turned[:, 1:].roll(1, 2)
    tokens, _ = made.output.encode(turned)
    assert not made.right(tokens.flatten(1))["within 5 %"].any()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("output_encoding", ["P10", "B1999"])
def test_an_answer_with_a_token_at_a_wrong_place_is_no_matrix_and_wrong(name, output_encoding):
    made = task(name, dimensions=True, output_encoding=output_encoding)
    given = made.sample.answers.clone()
    given[0, 2], given[1, -1], given[2, 0] = given[0, -1], given[1, 2], given[2, 2]
    found, valid = made.found(given)
    assert valid.tolist() == [False] * 3 + [True] * 97
    assert found[:3].isnan().all()
    assert torch.equal(found[3:], made.encoded_truth[3:])
    for key, error in made.errors(given).items():
        assert (error[:3] == (1 if key.endswith("coefficients") else math.inf)).all()
        assert error[3:].isfinite().all()
    assert not any(right[:3].any() for right in made.right(given).values())
    assert made.by_coefficient(given)[:3].isinf().all()


def test_the_answer_zero_is_right_only_where_nothing_else_is():
    made = task("eigenvalues").of(np.zeros((2, 2, 2)))
    assert all(float(error[0]) == 0 for error in made.errors(made.sample.answers).values())
    tokens, _ = made.output.encode(torch.ones(2, 2, dtype=torch.float64))
    assert made.errors(tokens.flatten(1))["d1"].isinf().all()


# Distributions


def test_the_eigenvalues_of_large_symmetric_matrices_are_a_semicircle():
    values = torch.linalg.eigvalsh(drawn("semicircle", 20, 100)).flatten()
    sigma = ENTRIES.sigma(100)
    assert float(values.square().mean()) == pytest.approx(sigma**2, rel=0.05)
    assert float((values / sigma).pow(4).mean()) == pytest.approx(2.0, rel=0.05)  # Catalan numbers 1, 2, 5
    assert float((values / sigma).pow(6).mean()) == pytest.approx(5.0, rel=0.1)
    assert float(values.abs().max()) < 2.2 * sigma


@pytest.mark.parametrize(
    ("name", "square", "kurtosis"),
    [("uniform", 1, 9 / 5), ("gaussian", 1, 3), ("laplace", 1, 6), ("positive2", 1, 6)],
)
@pytest.mark.parametrize("kind", ["uniform", "gaussian"])
def test_eigenvalues_have_the_moments_of_their_distribution(name, square, kurtosis, kind):
    entries = Entries(kind, 10.0)
    values = torch.linalg.eigvalsh(drawn(name, 40_000, 2, entries)).flatten() / entries.sigma(2)
    assert float(values.square().mean()) == pytest.approx(square, rel=0.05)
    assert float(values.pow(4).mean()) == pytest.approx(kurtosis, rel=0.12)
    assert (values > -1e-12).all() if name == "positive2" else abs(float(values.mean())) < 0.02
    if name == "uniform":
        assert float(values.abs().max()) <= math.sqrt(3) * (1 + 1e-9)


def test_positive_matrices_have_the_absolute_eigenvalues_and_the_vectors_of_those_that_were_drawn():
    plain, made = drawn("semicircle", 50, 3), drawn("positive", 50, 3)
    torch.testing.assert_close(torch.linalg.eigvalsh(made), torch.linalg.eigvalsh(plain).abs().sort(1).values)
    torch.testing.assert_close(plain @ made, made @ plain)


def test_marcenko_is_a_product_of_a_matrix_with_its_transpose():
    values = torch.linalg.eigvalsh(drawn("marcenko", 20_000, 2))
    assert (values > -1e-12).all()
    # E tr MᵀM = n² · max_entry / 3
    assert float(values.sum(1).mean()) == pytest.approx(4 * 10 / 3, rel=0.02)


@pytest.mark.parametrize("name", [*DISTRIBUTIONS, "semicircle:0.3,marcenko:0.7"])
def test_every_distribution_gives_symmetric_matrices_the_same_for_a_seed(name):
    matrices = drawn(name, 200, 3)
    assert torch.equal(matrices, matrices.mT)
    assert torch.equal(matrices, drawn(name, 200, 3))
    assert not torch.equal(matrices, mixture(name).draw(200, 3, ENTRIES, generator(2)))


def test_a_mixture_has_the_shares_that_were_asked_for():
    """Marcenko's and positive matrices, told apart from others by their signs."""
    matrices = drawn("laplace:0.8,positive2:0.2", 20_000, 2)
    share = float((torch.linalg.eigvalsh(matrices)[:, 0] > 0).double().mean())
    assert share == pytest.approx(0.2 + 0.8 / 4, abs=0.02)
    equal = mixture("uniform, gaussian,laplace")
    assert (equal.names, equal.shares) == (("uniform", "gaussian", "laplace"), (1 / 3, 1 / 3, 1 / 3))


def test_gaussian_entries_have_the_deviation_of_uniform_ones():
    for kind, kurtosis in (("uniform", 9 / 5), ("gaussian", 3)):
        entries = Entries(kind, 6.0).general(50_000, 2, 2, generator())
        assert float(entries.std()) == pytest.approx(6 / math.sqrt(3), rel=0.01)
        assert float((entries / entries.std()).pow(4).mean()) == pytest.approx(kurtosis, rel=0.03)


# The sample and fresh questions


@pytest.mark.parametrize("name", NAMES)
def test_the_sample_is_the_same_for_a_seed_and_nothing_of_it_is_drawn(name):
    one, same, other = task(name), task(name), task(name, sample_seed=1)
    assert torch.equal(one.sample.inputs, same.sample.inputs)
    assert not torch.equal(one.sample.inputs, other.sample.inputs)
    known = set(map(tuple, one.sample.inputs.tolist()))
    for seed in (0, 1, 2):
        fresh = one.drawn(100, generator(seed))
        assert torch.equal(fresh.inputs, one.draw(100, generator(seed)).inputs)
        assert not known & set(map(tuple, fresh.inputs.tolist()))


@pytest.mark.parametrize(
    ("name", "parameters", "says"),
    [
        ("eigenvalues", {"max_entry": 1e-6},
         "100 % of the entries that are drawn are off by 5 % or more as FP15 with the exponents -3 to 0 "
         "writes them: widen task.input_exponents, or choose a larger task.max_entry"),
        ("matrix_inverse", {"max_entry": 900.0, "output_encoding": "FP15"},
         "of the entries of answers that are drawn are off by 5 % or more as FP15 .* task.output_exponents"),
    ],
)  # fmt: skip
def test_numbers_too_small_for_an_encoding_are_refused_where_they_are_most(name, parameters, says):
    with pytest.raises(ConfigError, match=says):
        _ = task(name, **parameters).sample
    _ = task(name, **parameters, input_exponents="all", output_exponents="all").sample


def test_it_is_said_how_many_numbers_lose_their_digits():
    made = task(max_entry=0.02, examples=1000)
    entries = made._made.matrices
    off = (made.matrices - entries).abs() >= 0.05 * entries.abs()
    share = 100 * float(off.double().mean())
    assert 5 < share < 50
    assert f"{share:.3g} % of the entries that are drawn are off by 5 % or more" in made.refused
    assert made.refused in made.words_mean
    assert task().refused == ""


def test_a_matrix_that_cannot_be_written_is_drawn_anew_and_the_share_is_said():
    made = task(input_exponents=(-3, -2), max_entry=10.0)  # up to 9.99
    assert task().refused == ""
    assert float(made.matrices.abs().max()) <= 9.99
    narrow = task(input_exponents=(-3, -2), max_entry=15.0, examples=1000)
    share = float(narrow.refused.split(" %")[0]) / 100
    # All of three entries below 9.995 of 15.
    assert share == pytest.approx(1 - (9.995 / 15) ** 3, abs=0.05)
    assert "drawn anew" in narrow.words_mean
    assert float(narrow.matrices.abs().max()) <= 9.99
    assert len(narrow.draw(500, generator())) == 500
    with pytest.raises(
        ConfigError, match=r"of 10,000 matrices that were drawn .* can be asked.*set both task"
    ):
        _ = task(input_exponents=(-3, -2), max_entry=1e4).sample


@pytest.mark.parametrize("name", NAMES)
def test_factors_are_those_of_numpy(name):
    made = task(name, n=3)
    factors = {key: factor.values.numpy() for key, factor in made.factors.items()}
    for row, matrix in enumerate(made.matrices.numpy()):
        assert factors["norm"][row] == pytest.approx(np.linalg.norm(matrix))
        if name == "matrix_addition":
            assert factors.keys() == {"norm"}
            continue
        assert factors["trace"][row] == pytest.approx(np.trace(matrix), abs=1e-9)
        assert factors["determinant"][row] == pytest.approx(np.linalg.det(matrix), abs=1e-9)
        assert factors["log_condition"][row] == pytest.approx(np.log10(np.linalg.cond(matrix)), rel=1e-6)
        if made.symmetric:
            values = [factors[f"eigenvalue_{i}"][row] for i in (1, 2, 3)]
            np.testing.assert_allclose(values, np.linalg.eigvalsh(matrix)[::-1])
    singular = task("matrix_transpose").of([[[1.0, 2.0], [2.0, 4.0]], [[0.0, 0.0], [0.0, 0.0]]])
    assert singular.factors["log_condition"].values.tolist() == pytest.approx([15.65, 15.65], abs=0.6)


# Matrices of one's own, and networks on them


def test_a_network_is_looked_at_on_other_matrices():
    from grokinterp.models import ModelConfig

    made = task(examples=20)
    network = ModelConfig(d_model=8, n_heads=2, d_head=4, d_mlp=8)
    view = gi.View.of_weights(made, network, network.initial_weights(made.reads, 0))
    other, own = made.sampled("laplace", examples=30), made.of([[[1, 2], [2, 1]], [[3, 0], [0, -3]]])
    assert other.vocabulary == own.vocabulary == made.vocabulary
    assert other.params["distribution"] == "laplace"
    assert view.on(other).logits.shape == (30, 1203)
    assert view.on(own).logits.shape == (2, 1203)
    assert own.truth[:, :, 0].tolist() == [[3, -1], [3, -3]]
    again = make_task(made.name, **other.params)
    assert torch.equal(again.sample.inputs, other.sample.inputs)


REFUSED = [
    ("eigenvalues", [[[1, 2], [3, 1]]], "matrix 0 is not symmetric, as eigenvalues of symmetric ones are"),
    ("eigenvalues", [[[1, 2, 3], [3, 1, 1]]], "needs an array [m, 2, 2], got one of shape [1, 2, 3]"),
    ("eigenvalues", [[[1, "x"], [3, 1]]], "are no array of numbers: "),
    ("eigenvalues", [[[1, 2j], [2j, 1]]], "are complex, and real numbers are asked about"),
    ("eigenvalues", np.ones((1, 2, 2), complex), "are complex, and real numbers are asked about"),
    ("matrix_transpose", torch.ones(1, 2, 2) * 1j, "are complex, and real numbers are asked about"),
    ("matrix_transpose", [[[1, 1], [1, math.nan]]], "matrix 0 has an entry that is NaN or infinite"),
    ("matrix_transpose", [[[1, 1], [1, 1]], [[1, 1], [1, 1234]]],
     "matrix 1 has an entry that cannot be written: FP15 with the exponents -3 to 0 writes 0 and numbers of "
     "0.0005 to 999 either side of it, got 1234: set task.input_exponents=all"),
    ("matrix_inverse", [[[1, 2], [3, 4]], [[1, 2], [2, 4]]],
     "matrix 1 is singular to float64: it has no inverse that can be asked for"),
    ("matrix_inverse", [[[1, 1], [1, 1 + 1e-6]]],
     "matrix 0 is singular as FP15 with the exponents -3 to 0 writes it: it has no inverse that"),
    ("eigenvalues", [[[1, 0], [0, 1]], [[1e-6, 0], [0, 0]]],
     "matrix 1 is another one as FP15 with the exponents -3 to 0 writes it: 1e-06 in row 1, column 1 "
     "becomes 0: ask about a multiple of it, or set task.input_exponents=all"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "matrices", "says"), REFUSED)
def test_matrices_that_cannot_be_asked_are_refused_in_one_line(name, matrices, says):
    with pytest.raises(ConfigError) as refused:
        task(name).questions(matrices)
    assert str(refused.value).startswith(f"matrices: {says}")


def test_an_answer_that_cannot_be_written_is_refused_in_one_line():
    made = task("matrix_inverse", output_encoding="FP15")
    with pytest.raises(
        ConfigError, match=r"^matrices: matrix 0 has an answer that cannot be written: FP15 .*output_"
    ):
        made.of([[[1e-3, 0], [0, 2e-3]]])


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"distribution": "laplac"},
         "task.distribution: unknown distribution 'laplac'; did you mean 'laplace'?"),
        ({"distribution": "semicircle:0.5,laplace:0.4"},
         "task.distribution: the shares of 'semicircle:0.5,laplace:0.4' sum to 0.9: they have to sum"),
        ({"distribution": "semicircle:0.5,laplace"},
         "task.distribution: 'semicircle:0.5,laplace' gives laplace no share, and others one: give all"),
        ({"distribution": "laplace,laplace"},
         "task.distribution: 'laplace,laplace' names laplace twice: give it a share instead, laplace:0.5"),
        ({"distribution": "laplace:x,uniform:1"},
         "task.distribution: shares are numbers above 0 and up to 1, as in a:0.7,b:0.3, got 'laplace"),
        ({"input_encoding": "FP16"}, "task.input_encoding: unknown encoding 'FP16'; did you mean 'FP15'?"),
        ({"output_exponents": (-200, 0)},
         "task.output_exponents: P1000 has the exponents -100 to 100, got -200 to 0"),
        ({"input_exponents": "some"},
         'task.input_exponents: needs "all" or [low, high], the least and the greatest exponent, got '),
        ({"output_exponents": [0, 1, 2]},
         'task.output_exponents: needs "all" or [low, high], the least and the greatest exponent, got [0, 1'),
        ({"n": 0}, "task.n: input should be greater than or equal to 1, got 0"),
        ({"dimensions": 3}, "task.dimensions: input should be a valid boolean"),
    ],
)  # fmt: skip
def test_parameters_that_make_no_sense_are_refused_in_one_line(parameters, says):
    with pytest.raises(ConfigError) as refused:
        task(**parameters)
    assert str(refused.value).startswith(says)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"examples": 2.5}, "task.examples: input should be a valid integer"),
        ({"examples": 1}, "task.examples: input should be greater than or equal to 2, got 1"),
        ({"seed": "a"}, "task.sample_seed: input should be a valid integer"),
        ({"distribution": "laplac"}, "task.distribution: unknown distribution 'laplac'; did you mean"),
    ],
)
def test_another_sample_that_makes_no_sense_is_refused_in_one_line(changes, says):
    # As without the checks of annotations, which come first in tests.
    with pytest.raises(ConfigError) as refused:
        unchecked(Matrices.sampled)(task(), **changes)
    assert str(refused.value).startswith(says)


def unchecked(function):
    return inspect.unwrap(function)


@pytest.mark.parametrize("count", [5, 7])
def test_answers_of_another_number_of_tokens_are_refused_in_one_line(count):
    made = task(output_encoding="P1000")
    with pytest.raises(ConfigError, match=rf"an answer to eigenvalues has 6 tokens, got {count}"):
        made.found(torch.zeros(3, count, dtype=torch.long))
    with pytest.raises(ConfigError, match=rf"tokens: a number in P1000 has 3 of them, got {count}"):
        made.output.decode(torch.zeros(3, count, dtype=torch.long))


@pytest.mark.parametrize("number", ["3", None, 1j, [1.0]])
def test_what_is_no_number_is_not_written(number):
    output = task().output
    assert unchecked(type(output).refusal)(output, number) == f"P1000 writes one number, got {number!r}"


@pytest.mark.parametrize(
    ("numbers", "got"),
    [([1.0], "list"), (None, "NoneType"), (torch.ones(2, dtype=torch.float32), "one of t")],
)
def test_numbers_that_are_no_tensor_of_float64_are_not_encoded(numbers, got):
    output = task().output
    with pytest.raises(ConfigError, match=f"^numbers: P1000 writes those of a tensor of .*, got {got}"):
        unchecked(type(output).encode)(output, numbers)


def test_general_matrices_have_no_distribution_of_eigenvalues():
    with pytest.raises(
        ConfigError, match=r"^task.distribution: 'laplace' is one of the eigenvalues of symmetric"
    ):
        task("matrix_inverse", distribution="laplace")
    made = task("matrix_inverse", distribution="laplace", symmetric=True)
    assert made.symbol == "inverse of symmetric 2 × 2 matrices, laplace"
    assert task("matrix_addition").symbol == "sum of two general 2 × 2 matrices, uniform entries"


# A network of one stack learns it


def test_a_decoder_alone_is_trained_on_fresh_matrices(tmp_path):
    small = {
        "task": {"name": "eigenvalues", "examples": 64, "output_encoding": "P10", "output_exponents": (-5, 0),
                 "input_exponents": (-2, -1)},
        "model.d_model": 16, "model.d_mlp": 16, "model.n_layers": 1, "model.n_heads": 2,
        "training.batch_size": 32, "training.steps": 50, "training.evaluate_every": 25, "snapshots.every": 50,
        "training.warmup": 5, "training.lr": 1e-2, "threads": 1,
    }  # fmt: skip
    run = gi.train(gi.TrainConfig.preset("matrices", **small), tmp_path / "run", progress=False)
    losses = run.history["test_loss"]
    assert losses.iloc[-1] < 0.7 * losses.iloc[0]
    view = gi.load_run(tmp_path / "run").view(-1)
    assert view.task.written is not None
    assert float(gi.measure("accuracy.by_criterion", view).max()) <= 1
    assert float(gi.measure("loss", view.on(view.task.sampled("laplace"))).mean()) > 0
