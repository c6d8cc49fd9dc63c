"""Ablations do what they say, at the answer position alone, whichever way the logits are found; controls
match; sets are the smallest."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import grokinterp as gi
from by_hand import cross_entropy, forward
from grokinterp import controls
from grokinterp.errors import NotApplicable, UsageError
from grokinterp.measures import ablate, interventions, smallest_sets
from grokinterp.measures.ablation import HOWS
from grokinterp.measures.sites import AT_NO_HOOK, PIECES
from grokinterp.models import MLPConfig
from grokinterp.tasks import make_task
from test_foreign import MAKERS, PUBLISHED

AT = {"neurons": [3, 5, 8], "head": (0, 1), "frequencies": [2, 3]}


@pytest.fixture(scope="module")
def random():
    return controls.random_network(13)


def logits_by_both_routes(view, what, how="mean"):
    """The logits after an ablation and after one of its controls, by the shortcut and by a pass of the
    network."""
    from grokinterp.measures import ablation

    generator = torch.Generator().manual_seed(0)
    changes = ablation._changes(view, what, AT.get(what), how, generator)
    _, drawn = ablation._controls(view, what, changes, 1, generator)
    for made in (changes, next(iter(drawn))):
        edits = [edit for change in made for edit in change.edits(view)]
        passed = view.activations([], edits=edits)["logits"]
        yield interventions.logits_after(view, made), passed


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("what", PIECES)
def test_the_shortcut_gives_what_the_network_gives(random, what, how):
    assert len(interventions._short(random)) == 6
    for short, passed in logits_by_both_routes(random, what, how):
        torch.testing.assert_close(short, passed, rtol=0, atol=1e-12)
        assert not torch.allclose(short, random.activations([])["logits"], atol=1e-6) or (
            how != "zero" and what.endswith(("n", "o_mlp"))
        )


@pytest.mark.parametrize("network", [{"normalization": "LN"}, {"act_fn": "gelu"}, {"d_mlp": 0}], ids=str)
def test_there_is_no_shortcut_for_a_network_of_another_kind(network):
    assert not interventions._short(controls.random_network(7, **network))


def test_there_is_no_shortcut_past_a_users_hook():
    view = controls.random_network(7, seed=1)
    view.model.blocks[0].hook_mlp_out.add_hook(lambda x, hook: 2 * x)
    try:
        hooked = gi.view(view.model, view.task, split=view.split)
        assert not interventions._short(hooked)
        after, same = (ablate(each, "mlp", how="zero").after for each in (hooked, view))
        assert after.loss == pytest.approx(same.loss, rel=1e-12)
        assert after.accuracy == same.accuracy
        assert ablate(hooked, "mlp", how="zero").before != ablate(view, "mlp", how="zero").before
    finally:
        view.model.reset_hooks()


def test_a_part_and_its_hook_are_one(random):
    whole = ablate(random, "mlp", how="zero")
    assert ablate(random, "blocks.0.hook_mlp_out", how="zero").after == whole.after
    assert ablate(random, "mlp", 0, how="zero").after == whole.after
    few = ablate(random, "neurons", [4, 9])
    assert ablate(random, "blocks.0.mlp.hook_post", [4, 9]).after == few.after
    assert few.control == "2 random ones of 256"


def test_zeroed_attention_is_attention_to_nothing(random):
    # hook_z without hook_attn_out's bias, which is 0 here; a pattern has its query before its last axis.
    expected = cross_entropy(random, forward(random, pattern=np.zeros((169, 4, 3)))["logits"])
    for what in ("attention", "blocks.0.attn.hook_z", "blocks.0.attn.hook_pattern"):
        assert list(ablate(random, what, how="zero", draws=0).after.loss.values()) == pytest.approx(expected)


def test_only_the_answer_position_is_ablated(random):
    # Scores of the other positions, and values at them, do not reach the answer; the values at the answer
    # position do.
    before = ablate(random, "blocks.0.hook_resid_pre", how="mean", draws=0)
    assert before.after.loss["all"] == pytest.approx(
        before.before.loss["all"], rel=1e-12
    )  # "=" is the same everywhere
    assert ablate(random, "blocks.0.attn.hook_v", how="zero", draws=0).after.loss != before.before.loss


def test_a_mean_ablation_of_what_never_changes_changes_nothing(random):
    for what in ("skip.attention", "skip.into_mlp"):
        result = ablate(random, what, how="mean", draws=2)
        assert result.after.loss == pytest.approx(result.before.loss, rel=1e-12)
        assert result.control_loss() == (
            pytest.approx(result.before.loss["all"]),
            pytest.approx(0, abs=1e-12),
        )


def test_resampling_gives_the_values_of_other_examples(random):
    neurons = forward(random)["neurons"]
    order = torch.randperm(169, generator=torch.Generator().manual_seed(3)).numpy()
    shuffled = neurons.copy()
    shuffled[:, AT["neurons"]] = neurons[order][:, AT["neurons"]]
    found = ablate(random, "neurons", AT["neurons"], "resample", seed=3, draws=0)
    assert list(found.after.loss.values()) == pytest.approx(
        cross_entropy(random, forward(random, neurons=shuffled)["logits"])
    )
    assert (
        found.after.loss != ablate(random, "neurons", AT["neurons"], "resample", seed=4, draws=0).after.loss
    )


@pytest.mark.parametrize("what", ["neurons", "head", "mlp", "attention"])
def test_both_layers_are_ablated_or_the_one_that_is_named(what):
    view = controls.random_network(7, n_layers=2)
    if what == "head":
        assert ablate(view, "head", (0, 1)).after != ablate(view, "head", (1, 1)).after
    elif what == "neurons":
        assert ablate(view, "neurons", [1]).after == ablate(view, "blocks.1.mlp.hook_post", [1]).after
    else:
        both, first, last = (ablate(view, what, layer, "zero", draws=1).after for layer in (None, 0, 1))
        assert both not in (first, last)
        hooks = [f"blocks.{layer}.hook_{'mlp' if what == 'mlp' else 'attn'}_out" for layer in (0, 1)]
        zeroed = view.activations([], edits=[(hook, lambda x, hook: torch.zeros_like(x)) for hook in hooks])[
            "logits"
        ]
        if (
            what == "mlp"
        ):  # at all positions; those before the answer are read in layer 1, so only nearly the same
            assert both.loss["all"] == pytest.approx(float(view.loss(zeroed).mean()), rel=0.05)


def test_ablated_frequencies_are_excluded():
    view = controls.clock(17, (2, 5, 8), 10.0)
    for keys in ([2], [2, 5, 8], [3]):
        found = ablate(view, "frequencies", keys)
        expected = gi.measure("excluded_loss.logit_dirs", view, keys=keys)
        assert list(found.after.loss.values()) == pytest.approx(expected.values.tolist(), rel=1e-9)
    everything = ablate(view, "frequencies", [2, 5, 8])
    assert everything.after.loss["all"] == pytest.approx(math.log(17))
    assert everything.control == "6 random functions of the answer"
    mean, sd = everything.control_loss()
    assert len(everything.controls) == 10
    assert mean + 3 * sd < math.log(17)  # 6 of 16 dimensions at random leave most of it


def test_neurons_of_a_frequency_matter_more_than_as_many_at_random():
    view = controls.clock(13, (2, 5), 10.0)
    found = ablate(view, "neurons", range(169))  # all of frequency 2
    alone = math.log1p(sum(math.exp(10 * (math.cos(2 * math.pi * 5 * d / 13) - 1)) for d in range(1, 13)))
    assert found.after.loss["all"] == pytest.approx(alone)
    assert found.control == "169 random ones of 338"
    mean, sd = found.control_loss()
    assert 0 < sd < mean < alone


def test_the_controls_of_a_head_are_the_other_heads(random):
    found = ablate(random, "head", (0, 2))
    assert found.controls == [ablate(random, "head", (0, head)).after for head in (0, 1, 3)]
    lone = ablate(controls.pizza(13, (1, 5)), "head", (0, 0), draws=2)
    assert lone.control == "the same change, turned by a random rotation"


def test_a_rotated_change_is_as_large_on_every_example(random):
    here = interventions.recorded(random, "blocks.0.hook_mlp_out")
    change = interventions.Change("blocks.0.hook_mlp_out", (), torch.zeros_like(here[:1]))
    from grokinterp.measures.ablation import random_rotation

    turn = random_rotation(64, torch.Generator().manual_seed(0))
    torch.testing.assert_close(turn @ turn.T, torch.eye(64).double())
    turned = interventions.Change(change.read, (), change.value, rotation=turn).difference(here, change.value)
    torch.testing.assert_close(turned.norm(dim=1), here.norm(dim=1))
    assert not torch.allclose(turned, -here)


def test_an_ablation_is_repeatable_and_leaves_the_network_as_it_was(random):
    before = {name: weight.clone() for name, weight in random.model.state_dict().items()}
    state = torch.get_rng_state()
    first = [ablate(random, what, AT.get(what), "resample", draws=2) for what in (*PIECES, *AT_NO_HOOK)]
    assert first == [
        ablate(random, what, AT.get(what), "resample", draws=2) for what in (*PIECES, *AT_NO_HOOK)
    ]
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(weight, before[name]) for name, weight in random.model.state_dict().items())
    assert not any(point.fwd_hooks for point in random.model.hook_dict.values())


def perceptron(p: int = 7):
    task = make_task("modular_addition", p=p)
    config = MLPConfig(d_model=8, d_mlp=16)
    generator = torch.Generator().manual_seed(0)
    weights = {
        name: torch.randn(shape, generator=generator) for name, shape in config.shapes(task.reads).items()
    }
    return gi.view(config.hooked(task.reads, weights), task)


@pytest.mark.parametrize("d_out", [None, 6])
@pytest.mark.parametrize("act_fn", ["relu", "square"])
@pytest.mark.parametrize("what", ["neurons", "mlp", "blocks.0.mlp.hook_post"])
def test_the_shortcut_of_a_perceptron_gives_what_the_network_gives(what, act_fn, d_out):
    task, config = (
        make_task("modular_addition", p=7),
        MLPConfig(d_model=8, d_mlp=16, act_fn=act_fn, d_out=d_out, biases="all"),
    )
    generator = torch.Generator().manual_seed(0)
    weights = {
        name: torch.randn(shape, generator=generator) for name, shape in config.shapes(task.reads).items()
    }
    view = gi.view(config.hooked(task.reads, weights), task)
    assert interventions._short(view) == {"blocks.0.mlp.hook_post", "blocks.0.hook_mlp_out"}
    largest = float(view.logits.abs().max())
    for how in HOWS:
        for short, passed in logits_by_both_routes(view, what, how):
            torch.testing.assert_close(short, passed, rtol=0, atol=1e-12 * largest)
            assert not torch.allclose(short, view.logits, atol=1e-6 * largest)


def test_a_perceptron_has_neurons_and_nothing_to_skip():
    view = perceptron()
    guess = ablate(view, "mlp", how="zero")
    assert guess.after.loss["all"] == pytest.approx(math.log(7))
    assert ablate(view, "neurons", [0, 1]).after.loss != guess.before.loss
    for what in ("head", "attention", "skip.attention"):
        with pytest.raises(NotApplicable, match="the network has no attention"):
            ablate(view, what, AT.get(what))
    for what in ("skip.mlp", "skip.into_mlp"):
        with pytest.raises(NotApplicable, match="no residual stream"):
            ablate(view, what)


@pytest.mark.parametrize(
    "name",
    [name for name in gi.MEASURES if name.startswith(("attention.", "head.", "linear", "position_sim"))],
)
def test_a_perceptron_has_no_attention(name):
    with pytest.raises(NotApplicable, match=r"no (attention|position embedding)"):
        gi.measure(name, perceptron())


@pytest.mark.parametrize(
    ("what", "at", "how", "message"),
    [
        ("neuron", [1], "mean", "unknown part 'neuron'; did you mean 'neurons'"),
        ("blocks.0.mlp.hook_past", None, "mean", "did you mean 'blocks.0.mlp.hook_post'"),
        ("neurons", None, "mean", "neurons needs whole numbers, got nothing"),
        ("neurons", [256], "mean", "has no 256: choose from 0 to 255"),
        ("neurons", [0.5], "mean", "needs whole numbers"),
        ("head", 1, "mean", "head needs 2 numbers"),
        ("head", (1, 1), "mean", "no head 1 in layer 1: there are 1 layers of 4 heads"),
        ("mlp", 1, "mean", "choose from 0 to 0"),
        ("frequencies", None, "mean", r"needs a list of them, such as \[1, 2\]"),
        ("frequencies", [7], "mean", "choose from 1 to 6"),
        ("mlp", None, "median", "unknown way 'median'; did you mean 'mean'"),
    ],
)
def test_what_cannot_be_ablated_is_refused(random, what, at, how, message):
    with pytest.raises(UsageError, match=message):
        ablate(random, what, at, how)


def test_negative_draws_and_an_unused_hook_are_refused(random):
    with pytest.raises(UsageError, match="draws"):
        ablate(random, "mlp", draws=-1)
    with pytest.raises(NotApplicable, match="does not use"):
        ablate(random, "blocks.0.attn.hook_result")
    with pytest.raises(NotApplicable, match="no controls"):
        ablate(random, "mlp", draws=0).control_loss()


# Smallest sets


def test_a_key_that_adds_little_is_not_among_the_necessary():
    # A quarter of frequency 3 beside the whole of 1: 1 alone leaves it nearly as good, and without 1 little
    # is left.
    view = controls.clock(7, (1, 3), 10.0)
    loud, quiet = torch.tensor([1.0, 1.0]), torch.tensor([0.1, 0.1])
    model = controls.clock(7, (1, 3), 10.0).model
    before = model.unembed.W_U.detach().clone()
    try:
        with torch.no_grad():
            model.unembed.W_U[:4] *= torch.cat([loud, quiet])[:, None]
        found = smallest_sets(gi.view(model, view.task), [1, 2, 3])
    finally:
        with torch.no_grad():
            model.unembed.W_U.copy_(before)
    assert found.necessary == [1]
    assert found.sufficient == [1, 3]  # with 2 there it is no better
    assert smallest_sets(view, [2]).sufficient is None
    assert smallest_sets(view, [2]).necessary is None


def test_a_network_that_knows_nothing_needs_nothing(random):
    assert smallest_sets(random, [1, 2]).necessary == []
    assert smallest_sets(random, [1, 2]).sufficient is None


def test_more_keys_than_can_be_tried_are_refused():
    view = controls.random_network(29)
    with pytest.raises(NotApplicable, match=r"13 key frequencies have 2\^13 sets"):
        smallest_sets(view, list(range(1, 14)))
    assert not gi.measure("smallest_necessary", view, keys=list(range(1, 13))).any()


# Networks that other people trained


@pytest.mark.parametrize("name", MAKERS)
def test_published_excluded_loss_of_foreign_networks(name):
    view, published = MAKERS[name](), PUBLISHED[name]
    found = ablate(view, "frequencies", published["keys"], draws=2)
    assert found.after.loss["all"] == pytest.approx(published["excluded"], rel=0.005)
    # Where few keys carry much, some of their directions taken at random do not break it.
    assert all(control.loss["all"] < found.after.loss["all"] / 2 for control in found.controls)


def test_parts_of_a_foreign_network():
    view = MAKERS["C113"]()
    assert gi.measure("head.frequency", view).values.tolist() == [[16, 16, 30, 30]]
    assert (gi.measure("head.explained_variance", view) > 0.9).all()
    assert float(gi.measure("attention.self.mean", view).sel(layer=0, head=0)) < 0.01 < 1 / 3
    assert gi.measure("position_similarity.z", view) > 7
    assert smallest_sets(view).sufficient == [16, 30, 56]
    share = gi.measure("neuron.explained_variance", view).values
    of_16 = np.flatnonzero((gi.measure("neuron.frequency", view).values == 16) & (share > 0.85))
    found = ablate(view, "neurons", of_16, draws=5)
    mean, sd = found.control_loss()
    assert found.after.loss["all"] > mean + 5 * sd
