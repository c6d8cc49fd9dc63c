"""Fourier analysis on Z_p: algebra that must hold for every p, and values from second, slower routes."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from grokinterp import fourier

torch.set_num_threads(1)  # for matrices this small, threads only wait for one another

PS = [2, 3, 4, 7, 113, 118]
every_p = pytest.mark.parametrize("p", PS)
EXACT = {"rtol": 0, "atol": 1e-14}
"""A few roundings of numbers of order one."""


def noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float64)


def wave(p: int, k: int, phase: float = 0.0) -> Tensor:
    """cos(2πkx/p + phase) for every residue x, from Python's own cosine of a reduced angle."""
    return torch.tensor(
        [math.cos(2 * math.pi * (k * x % p) / p + phase) for x in range(p)], dtype=torch.float64
    )


def unit(row: Tensor) -> Tensor:
    return row / row.norm()


# The basis


@every_p
def test_the_components_are_orthonormal(p):
    rows = fourier.basis(p)
    assert rows.shape == (p, p)
    torch.testing.assert_close(rows @ rows.T, torch.eye(p, dtype=torch.float64), **EXACT)


@pytest.mark.parametrize("p", [*PS, 1009])
def test_the_components_are_the_constant_then_cosine_and_sine_of_every_frequency(p):
    expected = [unit(torch.ones(p, dtype=torch.float64))]
    for k in range(1, p // 2 + 1):
        expected.append(unit(wave(p, k)))
        if 2 * k != p:
            expected.append(unit(wave(p, k, phase=-math.pi / 2)))
    # Closer than EXACT: cosines of angles that were not reduced first would be wrong in the fourteenth digit.
    torch.testing.assert_close(fourier.basis(p), torch.stack(expected), rtol=0, atol=5e-16)


@every_p
def test_every_component_has_one_frequency_and_one_name(p):
    names, frequencies = fourier.component_names(p), fourier.component_frequencies(p).tolist()
    assert len(names) == len(set(names)) == len(frequencies) == p
    assert names[0] == "const"
    assert frequencies[0] == 0
    assert [int(name.split()[1]) for name in names[1:]] == frequencies[1:]
    assert max(frequencies) == fourier.n_frequencies(p) == p // 2


@pytest.mark.parametrize(
    ("p", "names"),
    [
        (2, ["const", "cos 1"]),
        (3, ["const", "cos 1", "sin 1"]),
        (4, ["const", "cos 1", "sin 1", "cos 2"]),
        (5, ["const", "cos 1", "sin 1", "cos 2", "sin 2"]),
    ],
)
def test_small_bases_have_these_names(p, names):
    assert fourier.component_names(p) == names


@pytest.mark.parametrize("p", [2, 4, 118])
def test_the_nyquist_frequency_of_even_p_is_its_own_and_has_no_sine(p):
    alternating = torch.tensor([(-1.0) ** x for x in range(p)], dtype=torch.float64)
    torch.testing.assert_close(fourier.directions(p, p // 2), unit(alternating)[None], **EXACT)


@every_p
def test_directions_are_the_cosine_and_the_sine_of_one_frequency(p):
    for k in range(1, p // 2 + 1):
        planes = [unit(wave(p, k))] + ([unit(wave(p, k, -math.pi / 2))] if 2 * k != p else [])
        torch.testing.assert_close(fourier.directions(p, k), torch.stack(planes), **EXACT)


@pytest.mark.parametrize(("p", "k"), [(7, 0), (7, 4), (7, -1), (4, 3), (2, 2), (113, 57)])
def test_a_frequency_that_is_not_there_is_refused_with_those_that_are(p, k):
    with pytest.raises(ValueError, match=f"from 1 to {p // 2}, got {k}$"):
        fourier.directions(p, k)


@pytest.mark.parametrize("p", [1, 0, -3])
def test_fewer_than_two_residues_have_no_basis(p):
    with pytest.raises(ValueError, match=f"p >= 2, got p={p}$"):
        fourier.basis(p)


# The transform


@every_p
def test_the_inverse_undoes_the_transform(p):
    x = noise(p, 3)
    torch.testing.assert_close(fourier.inverse(fourier.transform(x)), x, rtol=0, atol=1e-13)
    torch.testing.assert_close(fourier.transform(fourier.inverse(x)), x, rtol=0, atol=1e-13)


@every_p
def test_the_transform_keeps_the_power(p):
    x = noise(p, p, 2)
    power = x.square().sum((0, 1))
    torch.testing.assert_close(fourier.transform(x).square().sum((0, 1)), power)
    torch.testing.assert_close(fourier.transform_2d(x).square().sum((0, 1)), power)


@every_p
def test_the_transform_is_numpys_fft_in_real_and_orthonormal_form(p):
    x = noise(p)
    by_numpy = np.fft.rfft(x.numpy())
    expected = [by_numpy[0].real / math.sqrt(p)]
    for k in range(1, p // 2 + 1):
        if 2 * k == p:
            expected.append(by_numpy[k].real / math.sqrt(p))
        else:
            expected += [by_numpy[k].real * math.sqrt(2 / p), -by_numpy[k].imag * math.sqrt(2 / p)]
    np.testing.assert_allclose(fourier.transform(x).numpy(), expected, rtol=0, atol=1e-13)


@every_p
def test_the_transform_in_two_dimensions_is_the_product_with_pairs_of_components(p):
    x = noise(p, p, 2)
    rows = fourier.basis(p)
    expected = torch.einsum("ia,jb,abr->ijr", rows, rows, x)
    torch.testing.assert_close(fourier.transform_2d(x), expected, rtol=0, atol=1e-12)


@every_p
def test_a_pure_wave_has_one_frequency(p):
    for k in range(1, p // 2 + 1):
        x = 3 * wave(p, k, phase=0.7)
        power = fourier.by_frequency(fourier.transform(x).square())
        expected = torch.zeros(p // 2, dtype=torch.float64)
        expected[k - 1] = x.square().sum()
        torch.testing.assert_close(power, expected, rtol=1e-12, atol=1e-12)


def test_by_frequency_adds_cosine_and_sine_and_leaves_out_the_constant():
    odd = torch.tensor([100.0, 1, 2, 3, 4], dtype=torch.float64)
    even = torch.tensor([100.0, 1, 2, 3], dtype=torch.float64)
    assert fourier.by_frequency(odd).tolist() == [1 + 2, 3 + 4]
    assert fourier.by_frequency(even).tolist() == [1 + 2, 3]
    assert fourier.by_frequency(odd[:, None] * torch.tensor([1.0, 10.0], dtype=torch.float64)).tolist() == [
        [3, 30],
        [7, 70],
    ]


# Power by blocks of frequencies of (a, b)


def terms_of(p: int, k: int) -> list[Tensor]:
    """The functions of (a, b) that frequency k alone is made of: products of {1, cos k, sin k}, without the
    constant."""
    one_variable = [unit(torch.ones(p, dtype=torch.float64)), unit(wave(p, k))]
    if 2 * k != p:
        one_variable.append(unit(wave(p, k, -math.pi / 2)))
    products = [torch.outer(of_a, of_b) for of_a in one_variable for of_b in one_variable]
    return products[1:]


def test_a_block_has_eight_terms_and_that_of_the_nyquist_frequency_three():
    assert len(terms_of(7, 2)) == 8
    assert len(terms_of(4, 2)) == 3


@every_p
def test_block_power_is_the_power_of_the_projections_on_the_terms_of_each_frequency(p):
    x = noise(p, p) + 5
    expected = [sum(float((term * x).sum()) ** 2 for term in terms_of(p, k)) for k in range(1, p // 2 + 1)]
    np.testing.assert_allclose(fourier.block_power(x).numpy(), expected, rtol=1e-10)


def test_block_power_treats_further_dimensions_one_by_one():
    x = noise(7, 7, 2, 3)
    for i in range(2):
        for j in range(3):
            torch.testing.assert_close(
                fourier.block_power(x)[:, i, j], fourier.block_power(x[:, :, i, j].contiguous())
            )


@pytest.mark.parametrize("p", [2, 3, 4, 7, 10])
def test_blocks_share_no_product_of_components(p):
    frequencies = fourier.component_frequencies(p)
    impulses = torch.eye(p * p, dtype=torch.float64).reshape(
        p, p, p * p
    )  # product (i, j) alone, for each of them
    functions = (
        fourier.inverse(fourier.inverse(impulses).transpose(0, 1).contiguous()).transpose(0, 1).contiguous()
    )
    power = fourier.block_power(functions).reshape(-1, p, p)
    for i in range(p):
        for j in range(p):
            of_a, of_b = int(frequencies[i]), int(frequencies[j])
            expected = torch.zeros(p // 2, dtype=torch.float64)
            if {of_a, of_b} - {0} == {max(of_a, of_b)}:
                expected[max(of_a, of_b) - 1] = 1
            torch.testing.assert_close(power[:, i, j], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("sign", [1, -1])
@every_p
def test_a_wave_in_a_plus_or_minus_b_has_all_its_centred_power_in_one_block(p, sign):
    a, b = torch.arange(p)[:, None], torch.arange(p)
    for k in {1, (p // 2 + 1) // 2, p // 2}:
        x = 4 + wave(p, k, phase=0.3)[(a + sign * b) % p]
        centred = (x - x.mean()).square().sum()
        expected = torch.zeros(p // 2, dtype=torch.float64)
        expected[k - 1] = centred
        torch.testing.assert_close(fourier.block_power(x), expected, rtol=1e-12, atol=1e-10)


def test_a_product_of_two_frequencies_is_in_no_block():
    x = torch.outer(wave(7, 1), wave(7, 2))
    assert float(x.square().sum()) == pytest.approx(7 / 2 * 7 / 2)
    assert fourier.block_power(x).abs().max() < 1e-13


# Sums and differences, and polynomials of degree 2


@pytest.mark.parametrize("p", [2, 3, 4, 7, 12, 15, 26])
def test_the_waves_of_the_sum_and_of_the_difference_share_out_the_products_of_a_frequency(p):
    x = torch.randn(p, p, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(p))
    alike, apart = fourier.sum_and_difference_power(x)
    fft = np.abs(np.fft.fft2(x.numpy(), axes=(0, 1))) ** 2 / p**2
    for k in range(1, p // 2 + 1):
        both = (
            1 if 2 * k == p else 2
        )  # k and −k; at the Nyquist frequency sum and difference are one, and each has half
        np.testing.assert_allclose(alike[k - 1], fft[k, k] * (0.5 if both == 1 else 2), atol=1e-12)
        np.testing.assert_allclose(apart[k - 1], fft[k, -k] * (0.5 if both == 1 else 2), atol=1e-12)


@pytest.mark.parametrize("p", [3, 7, 12])
def test_a_wave_of_the_sum_has_no_part_in_the_difference(p):
    a, b = torch.cartesian_prod(torch.arange(p), torch.arange(p)).unbind(1)
    for sign in (1, -1):
        x = torch.cos(2 * np.pi * (a + sign * b).double() / p + 0.7).unflatten(0, (p, p))
        mine, others = fourier.sum_and_difference_power(x)[::sign]
        assert float(mine[0]) == pytest.approx(float(x.square().sum()))
        assert float(others.abs().max()) < 1e-12


@pytest.mark.parametrize(("p", "k"), [(2, 1), (3, 1), (4, 2), (7, 3), (12, 4), (12, 6), (15, 5)])
def test_the_fit_of_a_block_is_the_least_squares_fit_of_its_terms(p, k):
    x = torch.randn(p, p, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(p))
    angle = 2 * np.pi * k * np.arange(p) / p
    waves = [np.ones(p), np.cos(angle), np.sin(angle)]
    terms = np.stack([np.outer(f, g).ravel() for f in waves for g in waves], axis=1)
    expected = terms @ np.linalg.lstsq(terms, x.flatten(0, 1).numpy(), rcond=None)[0]
    found = fourier.block_fit(x, k)
    np.testing.assert_allclose(found.flatten(0, 1), expected, atol=1e-12)
    torch.testing.assert_close(fourier.block_fit(found, k), found)
    torch.testing.assert_close((found - x.mean((0, 1))).square().sum((0, 1)), fourier.block_power(x)[k - 1])


@pytest.mark.parametrize("p", [2, 3, 4, 7, 12, 13])
def test_power_from_four_sums_is_that_of_the_two_dimensional_transform(p):
    x = torch.randn(p, p, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(p)) + 5
    power, frequency = fourier.transform_2d(x).square(), fourier.component_frequencies(p)
    blocks = [
        frequency[:, None].eq(f) & frequency.eq(g)
        for k in range(1, p // 2 + 1)
        for f, g in ((0, k), (k, 0), (k, k))
    ]
    expected = torch.stack([power[block].sum(0) for block in blocks]).unflatten(0, (-1, 3)).sum(1)
    found, total = fourier.block_variance(x)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(total, (x - x.mean((0, 1))).square().sum((0, 1)))
    assert fourier.block_variance(torch.full((p, p), 0.3, dtype=torch.float64))[1] == 0
