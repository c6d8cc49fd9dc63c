"""Losses of edited logits: identities between the variants, what is kept by each, and where a variant has no
meaning."""

from __future__ import annotations

import itertools

import pytest
import torch

import grokinterp as gi
from grokinterp import controls, fourier
from grokinterp.errors import NotApplicable
from grokinterp.measures import circular
from grokinterp.measures.neurons import beside_the_neurons, direct_readout
from grokinterp.measures.waves import restricted
from grokinterp.measures.waves.logits import cosine_logits
from grokinterp.measures.waves.projections import (
    OfAnswer,
    along_answers,
    in_blocks,
    losses_less,
    mean_kept,
)
from test_foreign import of_chughtai

NEURON_VARIANTS = [
    "restricted_loss.neuron_dirs",
    "restricted_loss.w_l_directions",
    "excluded_loss.neuron_no_skip",
    "excluded_loss.neuron_with_skip",
    "excluded_loss.w_l_directions",
]
LOGIT_VARIANTS = [
    "restricted_loss.logit_dirs",
    "restricted_loss.block3x3",
    "restricted_loss.block2x2",
    "excluded_loss.logit_dirs",
    "excluded_loss.logit_cube",
]

MAKERS = {
    "grokked": lambda request: request.getfixturevalue("quick_run").view(-1),
    "random": lambda request: controls.random_network(23),
    "even p": lambda request: controls.random_network(14),
    "two layers": lambda request: controls.random_network(11, n_layers=2),
    "biases": lambda request: controls.lookup(11),
    "multiplication": lambda request: controls.random_network(13, name="modular_multiplication"),
    "division": lambda request: controls.random_network(13, name="modular_division"),
    "no sum": lambda request: controls.random_network(13, name="x2_plus_y2"),
    "foreign": lambda request: of_chughtai(113),
}


@pytest.fixture(params=list(MAKERS))
def view(request):
    return MAKERS[request.param](request)


def some_keys(view) -> list[int]:
    return [1, 3, circular(view).m // 2]


def close(found: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9 * max(1.0, float(expected.abs().max())))


# Identities


def test_the_projection_of_the_neurons_and_of_the_logits_differ_by_what_bypasses_the_neurons(view):
    """A projection over examples commutes with W_L, which acts on neurons."""
    keys = some_keys(view)
    beside = along_answers(view, keys, beside_the_neurons(view)[circular(view).on_circle])
    close(
        restricted.restricted_logit_dirs(view, keys),
        restricted.restricted_neuron_dirs(view, keys) + beside - beside.mean(0),
    )


def test_what_is_kept_and_what_is_taken_out_are_the_whole(view):
    z = circular(view)
    logits, keys = view.logits[z.on_circle], some_keys(view)
    taken = along_answers(view, keys, logits).mean(0)
    close(
        restricted.restricted_logit_dirs(view, keys) + restricted.excluded_logit_dirs(view, keys),
        logits + logits.mean(0) - taken,
    )
    whole = view.neurons[z.on_circle] @ direct_readout(view)
    through = whole - restricted.excluded_neuron_no_skip(view, keys)
    close(restricted.excluded_neuron_with_skip(view, keys) + through, logits)
    skip = beside_the_neurons(view)[z.on_circle]
    close(
        restricted.restricted_w_l_directions(view, keys) + restricted.excluded_w_l_directions(view, keys),
        logits + skip,
    )
    close(restricted.excluded_logit_cube(view, keys) + cosine_logits(view, keys), logits)


def test_taking_out_twice_takes_out_once(view):
    logits, keys = view.logits[circular(view).on_circle], some_keys(view)
    once = along_answers(view, keys, logits)
    close(along_answers(view, keys, once), once)


def test_frequencies_are_taken_out_one_by_one_as_together_where_answers_are_sums(view):
    z = circular(view)
    if not z.circle.is_sum:
        pytest.skip("waves of a² + b² are not orthogonal over the table")
    logits, keys = view.logits[z.on_circle], some_keys(view)
    close(sum(along_answers(view, [k], logits) for k in keys), along_answers(view, keys, logits))


def test_the_small_block_is_in_the_large_one_and_holds_the_directions(view):
    logits, keys = view.logits, some_keys(view)
    z = circular(view)
    rows = z.on_circle
    small, large = in_blocks(view, keys, logits, edges=False), in_blocks(view, keys, logits, edges=True)
    whole = torch.zeros_like(logits)
    whole[rows] = small
    close(in_blocks(view, keys, whole, edges=True), small)
    close(in_blocks(view, keys, whole, edges=False), small)
    whole[rows] = large
    close(in_blocks(view, keys, whole, edges=False), small)
    if z.circle.is_sum:
        whole[rows] = along_answers(view, keys, logits[rows])
        close(in_blocks(view, keys, whole, edges=False), whole[rows])
        whole[rows] = small
        close(along_answers(view, keys, whole[rows]), along_answers(view, keys, logits[rows]))


def test_all_frequencies_are_everything_that_depends_on_the_answer_alone():
    for view in (
        controls.random_network(11),
        controls.random_network(12),
        controls.random_network(13, name="modular_multiplication"),
    ):
        z = circular(view)
        logits = view.logits[z.on_circle]
        of_answer = (
            torch.zeros(z.m, logits.shape[1], dtype=torch.float64).index_add_(0, z.answer_at, logits) / z.m
        )
        close(restricted.restricted_logit_dirs(view, list(range(1, z.m // 2 + 1))), of_answer[z.answer_at])


def test_all_blocks_are_less_than_the_whole():
    """Products of waves of two different frequencies are in no block: 8 K + 1 terms of p², with K = (p − 1) /
    2."""
    view = controls.random_network(11)
    assert not torch.allclose(restricted.restricted_block3x3(view, [1, 2, 3, 4, 5]), view.logits, atol=1e-3)


def test_the_cube_is_the_part_of_the_directions_that_depends_on_the_difference_alone():
    view = controls.random_network(13)
    part = along_answers(view, [2, 5], view.logits).unflatten(0, (13, 13))
    a, b, c = torch.meshgrid(*[torch.arange(13)] * 3, indexing="ij")
    difference = (a + b - c) % 13
    means = torch.zeros(13, dtype=torch.float64).index_add_(0, difference.flatten(), part.flatten()) / 169
    even = (means + means[-torch.arange(13) % 13]) / 2  # the cosine without the sine
    close(cosine_logits(view, [2, 5]), even[difference].flatten(0, 1))


# How much is kept


def rank(view, project) -> int:
    """Of an operator on functions of the examples, by what it makes of every one of a basis."""
    return int(
        torch.linalg.matrix_rank(
            project(torch.eye(view.task.n_inputs, dtype=torch.float64)[:, circular(view).on_circle])
        )
    )


@pytest.mark.parametrize(
    ("p", "keys", "sine"),
    [(17, (1, 3, 8), 0), (11, (1, 2, 3, 4, 5), 0), (12, (2, 6), 1), (12, (1, 2, 3), 0), (12, (6,), 1)],
)
def test_a_mask_keeps_no_more_than_the_terms_of_single_frequencies(p, keys, sine):
    """The Nyquist frequency has no sine: one direction, one product of waves, three with the edges."""
    view = controls.random_network(p, d_mlp=8)
    k = len(keys)
    assert rank(view, lambda x: mean_kept(along_answers(view, keys, x), x)) == 2 * k - sine + 1
    assert rank(view, lambda x: mean_kept(in_blocks(view, keys, x, edges=True), x)) == 8 * k - 5 * sine + 1
    assert rank(view, lambda x: mean_kept(in_blocks(view, keys, x, edges=False), x)) == 4 * k - 3 * sine + 1


def test_the_outer_product_of_lists_of_components_would_keep_289_where_the_directions_of_8_keys_are_17():
    p, keys = 17, list(range(1, 9))
    view = controls.random_network(p, d_mlp=8)
    components = torch.isin(fourier.component_frequencies(p), torch.tensor([0, *keys]))
    assert int(torch.outer(components, components).sum()) == 289
    assert rank(view, lambda x: mean_kept(along_answers(view, keys, x), x)) == 17
    assert rank(view, lambda x: x - along_answers(view, keys, x)) == 289 - 16


@pytest.mark.parametrize("edges", [False, True])
def test_products_of_waves_of_two_frequencies_are_kept_by_no_block(edges):
    p = 11
    view = controls.random_network(p)
    basis, of = fourier.basis(p), fourier.component_frequencies(p).tolist()
    keys = [2, 4]
    for i, j in itertools.product(range(p), repeat=2):
        term = torch.outer(basis[i], basis[j]).reshape(-1, 1)
        inside = of[i] == of[j] and of[i] in keys
        edge = (of[i] in keys and j == 0) or (of[j] in keys and i == 0)
        close(in_blocks(view, keys, term, edges), term * (inside or (edges and edge)))


def test_the_readout_reads_two_directions_of_each_key():
    view = controls.random_network(12)
    for keys, expected in (([1, 3], 4), ([1, 6], 3), ([6], 1)):
        change = view.logits - restricted.excluded_w_l_directions(view, keys)
        assert int(torch.linalg.matrix_rank(change)) == expected


# Accuracy


def test_the_accuracy_is_that_of_the_edited_logits(view):
    keys = some_keys(view)
    for name, edit in (
        ("restricted_accuracy.block3x3", restricted.restricted_block3x3),
        ("excluded_accuracy.logit_cube", restricted.excluded_logit_cube),
    ):
        right = edit(view, keys).argmax(1) == view.task.targets[circular(view).on_circle]
        assert float(gi.measure(name, view, keys=keys).sel(part="all")) == float(right.double().mean())


@pytest.mark.trains
def test_a_network_that_has_grokked_is_right_with_its_keys_and_wrong_without(quick_run):
    view = quick_run.view(-1)
    for name in gi.MEASURES:
        if name.startswith("restricted_accuracy"):
            assert float(gi.measure(name, view).sel(part="all")) > 0.99, name
        if name.startswith("excluded_accuracy"):
            assert float(gi.measure(name, view).sel(part="all")) < 0.2, name


def test_other_keys_after_the_first_are_not_answered_from_memory():
    view = controls.clock(17, (2, 5, 8))
    first = gi.measure("restricted_loss.logit_dirs", view, keys=[2])
    assert not gi.measure("restricted_loss.logit_dirs", view, keys=[2, 5]).equals(first)
    assert gi.measure("restricted_loss.logit_dirs", view, keys=[2]).equals(first)


@pytest.mark.parametrize("name", [*NEURON_VARIANTS, *LOGIT_VARIANTS])
def test_no_keys_have_no_loss(name):
    with pytest.raises(NotApplicable, match="no key frequencies"):
        gi.measure(name, controls.random_network(7), keys=[])


# Where zero stands apart, and other networks


def test_multiplication_counts_the_examples_without_zero():
    view = controls.random_network(13, name="modular_multiplication")
    rows = (view.task.pairs > 0).all(1)
    logits = view.logits[rows]
    answers = view.task.targets[rows]
    assert len(circular(view).on_circle) == 144
    logarithm = {pow(2, i, 13): i for i in range(12)}  # 2 is the smallest primitive root
    angle = 2 * torch.pi * 5 * torch.tensor([logarithm[int(c)] for c in answers]).double() / 12
    waves = torch.stack([angle.cos(), angle.sin()], dim=1)
    part = waves @ torch.linalg.lstsq(waves, logits).solution
    expected = torch.nn.functional.cross_entropy(logits - part, answers)
    assert float(gi.measure("excluded_loss.logit_dirs", view, keys=[5]).sel(part="all")) == pytest.approx(
        float(expected), rel=1e-9
    )
    assert float(gi.measure("excluded_loss.per_frequency", view).sel(part="all", freq=5)) == pytest.approx(
        float(expected), rel=1e-9
    )


@pytest.mark.parametrize("normalization", ["LN", "LNPre", "RMS", "RMSPre"])
def test_behind_a_normalisation_neurons_have_no_logits_of_their_own(normalization):
    view = controls.random_network(7, normalization=normalization)
    for name in NEURON_VARIANTS:
        with pytest.raises(NotApplicable, match="normalises what it unembeds"):
            gi.measure(name, view, keys=[1])
    for name in LOGIT_VARIANTS:
        assert (gi.measure(name, view, keys=[1]) > 0).all()


def test_without_neurons_the_logits_have_all_their_variants():
    view = controls.random_network(7, d_mlp=0)
    for name in NEURON_VARIANTS:
        with pytest.raises(NotApplicable, match="no MLP"):
            gi.measure(name, view, keys=[1])
    for name in LOGIT_VARIANTS:
        assert (gi.measure(name, view, keys=[1]) > 0).all()


def test_the_skip_connection_of_two_layers_holds_all_that_the_last_neurons_do_not():
    view = controls.random_network(7, n_layers=2)
    stream = view.cache["blocks.1.hook_resid_mid"][:, -1]
    close(beside_the_neurons(view), stream @ view.weights["unembed.W_U"])


# Shorter ways against plain ones


def test_losses_without_a_part_of_each_answer_are_those_of_the_logits_without_it(view):
    """One exponential for each logit, or one for each logit and part."""
    generator = torch.Generator().manual_seed(0)
    z = circular(view)
    parts = torch.randn(3, z.m, view.task.n_answers, dtype=torch.float64, generator=generator)
    rows = z.on_circle
    for size in (1.0, 30.0, 1e3):  # the last leaves the range of exp
        plain = [view.loss(view.logits[rows] - size * part[z.answer_at], rows) for part in parts]
        torch.testing.assert_close(
            losses_less(view, size * parts), torch.stack(plain, dim=1), rtol=1e-9, atol=0
        )


def test_the_waves_of_the_answer_as_a_projection_over_all_examples(view):
    z = circular(view)
    keys, rows = some_keys(view), z.on_circle
    waves = torch.cat([fourier.directions(z.m, k) for k in keys])[:, z.answer_at].T
    u, s, _ = torch.linalg.svd(waves, full_matrices=False)
    onto = u[:, s > 1e-9 * s[0]]
    close(along_answers(view, keys, view.logits[rows]), onto @ (onto.T @ view.logits[rows]))


def test_edited_logits_that_depend_on_the_answer_alone_have_the_loss_and_accuracy_of_the_whole_table(view):
    generator = torch.Generator().manual_seed(0)
    z = circular(view)
    values = torch.randn(z.m, view.task.n_answers, dtype=torch.float64, generator=generator)
    for lost in (False, True):
        short = OfAnswer(values, lost)
        logits = short.logits(view)
        torch.testing.assert_close(short.loss(view), view.loss(logits, z.on_circle), rtol=1e-9, atol=0)
        torch.testing.assert_close(short.correct(view), view.correct(logits, z.on_circle))
