"""An activation that is projected on its principal components leaves of the accuracy what the algorithm lets
expect, and what the network itself gives."""

from __future__ import annotations

import functools
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import grokinterp as gi
from grokinterp import controls
from grokinterp.errors import UsageError
from grokinterp.models import MLPConfig, ModelConfig
from grokinterp.report import dimensions
from grokinterp.report.analysis import Analysis
from grokinterp.tasks import make_task

P, KEYS = 13, (1, 3)
WORDS = make_task("reverse", n=3, v=4, examples=60)


@functools.cache
def clock() -> gi.View:
    return controls.clock(P, KEYS, 20.0)


def untrained(**model: object) -> gi.View:
    config = ModelConfig(**{"d_model": 16, "n_heads": 2, "d_mlp": 24, **model})
    generator = torch.Generator().manual_seed(0)
    weights = {
        name: weight + 0.3 * torch.randn(weight.shape, generator=generator)
        for name, weight in config.initial_weights(WORDS.reads, 0).items()
    }
    return gi.View.of_weights(WORDS, config, weights)


def test_a_clock_needs_two_dimensions_of_its_embedding_for_each_key_and_one_that_says_where_no_operand_is():
    view = clock()
    width, needed = view.weights["embed.W_E"].shape[1], 2 * len(KEYS) + 1
    shares = [k / width for k in range(needed + 1)]
    value = gi.measure("dimension_reduction", view, shares=shares, sites=["hook_embed"], examples=P * P)
    assert value.coords["width"].values.tolist() == [width]
    assert value.attrs["examples"] == P * P
    right = value.sel(site="hook_embed").values
    assert right[needed] == 1
    assert right[0] == pytest.approx(1 / P)
    # With two dimensions fewer one of the keys is gone, and neighbours of the answer are as likely.
    assert (right[1 : needed - 2] < 0.9).all()


def test_all_dimensions_change_nothing_and_none_leaves_chance_of_what_the_answer_is_read_from():
    value = gi.measure("dimension_reduction", clock(), shares=(1, 0), examples=P * P)
    assert (value.sel(kept=1).values == 1).all()
    assert value.sel(kept=0, site="blocks.0.hook_resid_post").item() == pytest.approx(1 / P)
    assert value.sel(kept=0, site="hook_pos_embed").item() == 1  # positions are added, and never change
    random = gi.measure("dimension_reduction", controls.random_network(P, d_model=16), examples=P * P)
    assert float(random.max()) < 0.3


@pytest.mark.parametrize("hook", ["hook_embed", "blocks.1.attn.hook_z", "blocks.0.mlp.hook_post"])
def test_the_network_itself_gives_the_same(hook):
    view = untrained(n_layers=2, normalization="LN", act_fn="gelu")
    cache = view.model.run_with_cache(WORDS.inputs)[1]
    x = cache[hook].flatten(2).detach()
    flat = x.flatten(0, 1).double().numpy()
    mean = flat.mean(0)
    _, _, rows = np.linalg.svd(flat - mean, full_matrices=True)
    for share in (0.5, 0.2):
        kept = rows[: round(share * flat.shape[1])]
        put = torch.from_numpy(mean + (flat - mean) @ kept.T @ kept).view_as(cache[hook])
        logits = view.model.run_with_hooks(WORDS.inputs, fwd_hooks=[(hook, lambda x, hook, put=put: put)])
        guesses = logits[:, list(WORDS.reads.positions)].argmax(-1)
        right = (guesses == WORDS.sample.answers).all(1).double().mean()
        value = gi.measure("dimension_reduction", view, shares=[share], sites=[hook], examples=60)
        assert value.item() == pytest.approx(float(right), abs=1e-12)


def test_the_examples_are_those_of_the_seed():
    first, again, other = (
        gi.measure("dimension_reduction", clock(), shares=[0.1], examples=20, seed=seed) for seed in (0, 0, 1)
    )
    assert first.attrs["examples"] == 20
    assert first.equals(again)
    assert not first.equals(other)


def test_a_perceptron_has_sites_too():
    task, config = make_task("modular_addition", p=7), MLPConfig(d_model=8, d_mlp=12)
    view = gi.View.of_weights(task, config, config.initial_weights(task.reads, 0))
    sites = gi.measure("dimension_reduction", view).coords["site"].values.tolist()
    assert sites == ["hook_embed", "blocks.0.mlp.hook_pre", "blocks.0.mlp.hook_post", "blocks.0.hook_mlp_out"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"shares": [0.5, 1.5]}, "shares: needs numbers from 0 to 1, got 1.5"),
        ({"shares": []}, "shares: needs one or more"),
        ({"sites": ["blocks.0.hook_mlp_uot"]}, "no vectors of features at .*uot'.*hook_mlp_out"),
        ({"sites": "blocks.0.hook_mlp_uot"}, "no vectors of features at .*uot'.*hook_mlp_out"),
        ({"sites": ["blocks.0.attn.hook_pattern"]}, "no vectors of features at"),
        ({"examples": 1}, "examples: needs 2 or more"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_said_in_a_line(options, said):
    with pytest.raises(UsageError, match=said):
        gi.measure("dimension_reduction", clock(), **options)


def test_a_report_says_which_site_costs_most(tmp_path):
    view = clock()
    a = object.__new__(Analysis)  # as much of one as the section takes
    a.run, a.values = SimpleNamespace(task=view.task), {}
    a.values["dimension_reduction"] = gi.measure("dimension_reduction", view, examples=P * P)
    said = dimensions.lead(a)
    value = a.values["dimension_reduction"].sel(kept=0.1)
    site = str(value.idxmin("site").values)
    assert f"{site} costs most: of {P * P} pairs" in said
    figure, table = dimensions.panels(a)
    assert len(table.rows) == len(value)
    assert figure.body.figure.data[0].z.shape == (len(value), 6)
    a.values["dimension_reduction"] = value.copy(data=np.ones(len(value))).expand_dims(kept=[1.0, 0.1])
    assert "no site costs more than 5.0 %" in dimensions.lead(a)
