"""How large logits are, how far the right one stands out, and what rounding leaves of the loss: on networks
whose logits are known, and by a second, slower route."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import grokinterp as gi
from grokinterp import controls
from grokinterp.errors import UsageError
from grokinterp.training.loss import LOSSES

P = 7
LOST = {"float32": 24, "float64": 53}
"""Binary digits: 1 absorbs what is under half of the last."""


def shares(name: str, view: gi.View, dtype: str = "float32") -> dict[str, float]:
    value = gi.measure(name, view, dtype=dtype)
    return dict(zip(value.part.values.tolist(), value.values.tolist(), strict=True))


@pytest.mark.parametrize("name", ["softmax_collapse.share", "zero_terms.share"])
@pytest.mark.parametrize("dtype", LOST)
def test_a_softmax_has_collapsed_where_all_wrong_terms_together_are_under_half_a_digit(name, dtype):
    """Of a look-up table the right logit is the scale, and 6 wrong ones are 0."""
    edge = LOST[dtype] * np.log(2)
    for scale, expected in ((1.0, 0.0), (edge - 1, 0.0), (edge + 1 + np.log(P - 1), 1.0), (500.0, 1.0)):
        assert shares(name, controls.lookup(P, scale=scale), dtype) == pytest.approx(
            dict.fromkeys(("train", "test", "all"), expected)
        ), scale


def test_on_wrong_answers_the_softmax_collapses_and_the_terms_are_not_zero():
    view = controls.memoriser(P, scale=60.0)
    right = view.correct()
    assert 0 < right.double().mean() < 1
    assert shares("zero_terms.share", view)["train"] == 1
    assert shares("zero_terms.share", view)["all"] == pytest.approx(float(right.double().mean()))
    loss = F.cross_entropy(view.logits.float(), view.labels, reduction="none")
    assert shares("zero_terms.share", view)["test"] == float((loss == 0)[view.rows("test")].double().mean())


def test_both_shares_are_those_of_a_loop_over_numbers_of_that_precision():
    view = controls.random_network(P, init_scale=2.5)
    collapsed, zero = [], []
    for logits, label in zip(view.class_logits.numpy(), view.labels.tolist(), strict=True):
        below = (logits - logits.max()).astype(np.float32)
        total = np.exp(below).sum(dtype=np.float32)
        collapsed.append(total == np.float32(1))
        zero.append(below[label] - np.log(total) == 0)
    assert 0 < np.mean(collapsed) < 1
    assert np.mean(zero) < np.mean(collapsed)
    assert shares("softmax_collapse.share", view)["all"] == pytest.approx(np.mean(collapsed), abs=0.03)
    assert shares("zero_terms.share", view)["all"] == pytest.approx(np.mean(zero), abs=0.03)


@pytest.mark.parametrize("name", ["softmax_collapse.share", "zero_terms.share"])
def test_another_precision_is_refused_in_one_line(name):
    with pytest.raises(UsageError, match="dtype: needs 'float32' or 'float64', got 'float16'"):
        gi.measure(name, controls.lookup(P), dtype="float16")


def test_the_scale_of_a_look_up_table_and_the_margin_of_one_are_known():
    for scale in (2.0, 30.0):
        view = controls.lookup(P, scale=scale)
        entries = [scale * (1 - 1 / P)] + [-scale / P] * (P - 1)
        expected = (sum(x * x for x in entries) / P) ** 0.5
        assert float(gi.measure("logit_scale", view).sel(part="all")) == pytest.approx(expected)
        assert float(gi.measure("margin.normalised", view).sel(part="all")) == pytest.approx(1.0)


def test_a_network_that_knows_nothing_has_no_margin_and_one_that_memorises_has_it_in_training_alone():
    assert float(gi.measure("margin.normalised", controls.lookup(P, scale=0.0)).sel(part="all")) == 0
    assert float(gi.measure("margin.normalised", controls.random_network(P)).sel(part="all")) < -0.05
    margin = gi.measure("margin.normalised", controls.memoriser(P))
    assert float(margin.sel(part="train")) == pytest.approx(1.0)
    assert float(margin.sel(part="test")) < 0.01


def test_a_factor_of_all_logits_changes_their_scale_and_no_margin():
    scales, margins = (
        [float(gi.measure(name, controls.clock(13, (2, 5), scale=s)).sel(part="all")) for s in (10.0, 30.0)]
        for name in ("logit_scale", "margin.normalised")
    )
    assert scales[1] == pytest.approx(3 * scales[0])
    assert margins[1] == pytest.approx(margins[0])


def test_the_stablemax_loss_is_that_of_training_and_of_a_look_up_table_it_is_known():
    view = controls.random_network(P, init_scale=3.0)
    expected = LOSSES["stablemax"](view.logits, view.labels).mean()
    assert float(gi.measure("loss.stablemax", view).sel(part="all")) == pytest.approx(float(expected))
    known = np.log1p((P - 1) / (1 + 9.0))  # s(9) = 10, s(0) = 1
    assert float(
        gi.measure("loss.stablemax", controls.lookup(P, scale=9.0)).sel(part="all")
    ) == pytest.approx(known)


def test_of_several_classes_that_are_no_answers_the_softmax_is_that_of_training():
    """With '=' among the logits, as Nanda et al. train."""
    view = controls.random_network(P, d_vocab_out=P + 1)
    assert view.class_logits.shape[1] == P + 1
    assert float(gi.measure("logit_scale", view).sel(part="all")) == pytest.approx(
        float(torch.std(view.class_logits, dim=1, correction=0).mean())
    )
