"""Pruning by inverse participation ratio: what it must say of networks whose neurons are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import grokinterp as gi
from grokinterp import controls
from grokinterp.errors import NotApplicable
from grokinterp.models import MLPConfig
from grokinterp.tasks import make_task
from grokinterp.training import TrainConfig, Trainer

P, PERIODIC, PAIRS = 23, 1100, 20


def remembering() -> gi.View:
    """Gromov's network and 40 neurons that give a wrong answer to the 20 pairs (i, 2i), i < 20."""
    return controls.gromov(P, PERIODIC, memorised=PAIRS)


def wrong_pairs(view: gi.View) -> torch.Tensor:
    a, b = view.task.pairs.unbind(1)
    return (a < PAIRS) & (b == 2 * a % P)


def test_neurons_that_memorise_change_the_answers_to_their_pairs_and_nothing_else():
    with_them, without = remembering(), controls.gromov(P, PERIODIC)
    difference = with_them.logits - without.logits
    pairs = wrong_pairs(with_them)
    expected = torch.zeros_like(difference)
    expected[pairs, (with_them.task.targets[pairs] + 1) % P] = 40.0
    torch.testing.assert_close(difference, expected, rtol=1e-9, atol=1e-9)
    assert torch.equal(with_them.logits.argmax(1)[pairs], (with_them.task.targets[pairs] + 1) % P)


def test_they_have_the_lowest_participation_ratio_and_waves_the_highest():
    view = remembering()
    for name, wave, spike in (("ipr.neurons", 1 / 2, 1 / P), ("ipr.half_spectrum", 1.0, 1 / 12)):
        values = gi.measure(name, view).values
        np.testing.assert_allclose(values[:PERIODIC], wave, atol=1e-9)
        np.testing.assert_allclose(values[PERIODIC:], spike, atol=1e-9)
    assert gi.measure("ipr.real", controls.gromov(P, PERIODIC)) == pytest.approx(1)
    assert gi.measure("ipr.complex", controls.gromov(P, PERIODIC)) == pytest.approx(0.5)


def test_pruning_the_lowest_forgets_what_was_memorised_and_loses_nothing():
    view = remembering()
    curve = gi.measure("pruning.lowest_ipr", view).sel(part="all")
    counts = curve.removed.values.tolist()
    assert counts == [*range(0, 1140, 57), 1140]
    assert float(curve[0]) == pytest.approx(1 - PAIRS / P**2)
    assert (curve.sel(removed=[57, 114, 171]) == 1).all()  # the 40 are gone by then
    assert (
        gi.measure("pruning.highest_ipr", view).sel(part="all")[:-1] < 1
    ).all()  # and here they stay to the last
    for name in ("lowest_ipr", "highest_ipr", "random"):
        # All logits are alike, and the first counts as the largest: the answer 0 is right for one pair in p.
        assert float(gi.measure(f"pruning.{name}", view).sel(part="all")[-1]) == pytest.approx(1 / P)


def test_the_counts_go_from_none_to_all_in_at_most_twenty_steps():
    for d_mlp in (1, 2, 19, 20, 21, 40, 500, 512):
        config = MLPConfig(embedding="one_hot", act_fn="square", d_mlp=d_mlp)
        task = make_task("modular_addition", p=5)
        view = gi.view(config.hooked(task.reads, config.initial_weights(task.reads, 0)), task)
        counts = gi.measure("pruning.random", view).removed.values.tolist()
        assert counts[0] == 0
        assert counts[-1] == d_mlp
        assert len(counts) <= 21
        assert sorted(set(counts)) == counts
        if d_mlp == 500:
            assert 350 in counts


def test_it_is_the_same_every_time_and_the_same_for_bare_weights():
    config = MLPConfig(embedding="shared", d_model=8, d_mlp=30, d_out=6, biases="all")
    task = make_task("modular_addition", p=11)
    weights = {name: weight + 0.1 for name, weight in config.initial_weights(task.reads, 3).items()}
    for name in ("lowest_ipr", "highest_ipr", "random"):
        views = (
            gi.view(config.hooked(task.reads, weights, torch.float64), task),
            gi.View.of_weights(task, config, weights),
        )
        first, again = (gi.measure(f"pruning.{name}", view) for view in views)
        assert first.equals(again)


def test_where_it_has_no_meaning_it_says_why():
    normalised = controls.random_network(7, normalization="LN")
    with pytest.raises(NotApplicable, match="normalises what it unembeds"):
        gi.measure("pruning.lowest_ipr", normalised)
    elsewhere = controls.random_network(3, name="group_composition")
    with pytest.raises(NotApplicable, match="no cyclic group"):
        gi.measure("pruning.lowest_ipr", elsewhere)
    assert gi.measure("pruning.random", elsewhere).dims == ("removed", "part")


def test_a_network_that_was_trained_on_clean_labels_keeps_its_sums_in_its_periodic_neurons():
    trainer = Trainer(
        TrainConfig.preset(
            "doshi", **{"task.p": 31, "model.d_mlp": 200, "training.fraction": 0.7, "training.steps": 150}
        )
    )
    *_, last = trainer
    view = gi.View.of_weights(trainer.task, trainer.config.model, last.weights, 150, trainer.split)
    curves = {
        name: gi.measure(f"pruning.{name}", view).sel(part="test", removed=150)
        for name in ("lowest_ipr", "highest_ipr", "random")
    }
    assert float(curves["lowest_ipr"]) > float(curves["random"]) > float(curves["highest_ipr"])
