"""The class of networks where TransformerLens has none: what TransformerLens's own computes, to the bit."""

from __future__ import annotations

import copy
import itertools
import re
import warnings

import pytest
import torch

import grokinterp as gi
from conftest import tiny
from grokinterp.errors import UsageError
from grokinterp.models.base import lens_classes

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    from grokinterp.models.hooked import HookedTransformer

THEIRS, LENS = lens_classes()
TOKENS = torch.randint(0, 7, (9, 4), generator=torch.Generator().manual_seed(0))
SWITCHES = ("set_use_attn_result", "set_use_attn_in", "set_use_split_qkv_input", "set_use_hook_mlp_in")
has_theirs = pytest.mark.skipif(
    THEIRS is HookedTransformer, reason="this TransformerLens has no HookedTransformer to compare with"
)


def lens(**changes):
    """The configuration of a small network, as a user of TransformerLens writes it."""
    sizes = {"n_layers": 2, "d_model": 12, "n_ctx": 4, "n_heads": 3, "d_head": 5, "d_mlp": 20}
    kinds = {"act_fn": "gelu_new", "normalization_type": "LN", "d_vocab": 7, "d_vocab_out": 6}
    return LENS(**{**sizes, **kinds, "device": "cpu", "seed": 3, **changes})


def both(**changes):
    """TransformerLens's network and ours, with the same weights, none of which is zero."""
    config = lens(**changes)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        theirs = THEIRS(config)
    ours, generator = HookedTransformer(copy.deepcopy(config)), torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator).to(parameter) / 4)
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


VARIANTS = {
    "LN": {},
    "LNPre": {"normalization_type": "LNPre", "act_fn": "gelu"},
    "RMS": {"normalization_type": "RMS", "act_fn": "silu"},
    "RMSPre": {"normalization_type": "RMSPre", "attention_dir": "bidirectional"},
    "none": {"normalization_type": None, "act_fn": "relu"},
    "no MLP": {"d_mlp": None, "attn_only": True},
    "float64": {"dtype": torch.float64},
    "bfloat16": {"dtype": torch.bfloat16, "normalization_type": "RMS"},
}


@has_theirs
@pytest.mark.parametrize("name", VARIANTS)
def test_every_activation_logit_and_gradient_is_the_bits_of_transformer_lens(name):
    theirs, ours = both(**VARIANTS[name])
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert list(ours.hook_dict) == list(theirs.hook_dict)
    can = SWITCHES[:-1] if theirs.cfg.attn_only else SWITCHES
    for on in [(), *((switch,) for switch in can)]:
        found = []
        for model in (theirs, ours):
            for switch in can:
                getattr(model, switch)(switch in on)
            model.zero_grad()
            logits, cache = model.run_with_cache(TOKENS)
            model(TOKENS).float().square().sum().backward()
            found.append((logits, cache, {n: p.grad for n, p in model.named_parameters()}))
        (logits, cache, gradients), (our_logits, our_cache, our_gradients) = found
        assert torch.equal(our_logits, logits)
        assert list(our_cache) == list(cache)
        assert [hook for hook in cache if not torch.equal(our_cache[hook], cache[hook])] == []
        assert [n for n in gradients if not torch.equal(our_gradients[n], gradients[n])] == []


@has_theirs
@pytest.mark.parametrize("name", VARIANTS)
def test_a_seed_draws_the_weights_that_it_draws_there(name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        theirs = THEIRS(lens(**VARIANTS[name])).state_dict()
    ours = HookedTransformer(lens(**VARIANTS[name])).state_dict()
    assert [key for key in theirs if not torch.equal(ours[key], theirs[key])] == []


@has_theirs
def test_what_users_call_gives_what_it_gives_there():
    theirs, ours = both(d_vocab_out=7)
    for name in (
        *("W_E", "W_pos", "W_U", "b_U", "W_E_pos", "W_in", "b_in", "W_out", "b_out"),
        *(f"{kind}_{letter}" for kind, letter in itertools.product("Wb", "QKVO")),
    ):
        assert torch.equal(getattr(ours, name), getattr(theirs, name)), name
    assert torch.equal(ours.OV.AB, theirs.OV.AB)
    assert torch.equal(ours.QK.AB, theirs.QK.AB)
    assert torch.equal(ours.blocks[0].attn.OV.AB, theirs.blocks[0].attn.OV.AB)
    for arguments in [(1,), (2,), (1, True), (2, False, False)]:
        torch.testing.assert_close(ours.accumulated_bias(*arguments), theirs.accumulated_bias(*arguments))
    answers = torch.tensor([1, 5, 2])
    assert torch.equal(
        ours.tokens_to_residual_directions(answers), theirs.tokens_to_residual_directions(answers)
    )
    assert ours.all_head_labels() == theirs.all_head_labels()
    for model in (ours, theirs):
        model.both = model(TOKENS, return_type="both")
        model.stream = model(TOKENS, stop_at_layer=1)
        model.rest = model(model.stream, start_at_layer=1)
        model.stacks = model.run_with_cache(TOKENS)[1].stack_head_results(apply_ln=True)
        model.parts = model.run_with_cache(TOKENS)[1].decompose_resid(-1)
    torch.testing.assert_close(ours.both[1], theirs.both[1])
    for name in ("stream", "rest", "stacks", "parts"):
        torch.testing.assert_close(getattr(ours, name), getattr(theirs, name), rtol=0, atol=0)


def test_a_name_that_it_has_not_is_an_attribute_error():
    network = HookedTransformer(lens())
    with pytest.raises(AttributeError, match="W_gate"):
        network.W_gate  # noqa: B018
    assert not hasattr(network, "tokenizer")


@pytest.mark.parametrize(
    ("hook", "switch"),
    [
        ("blocks.1.attn.hook_result", "set_use_attn_result"),
        ("blocks.0.hook_attn_in", "set_use_attn_in"),
        ("blocks.0.hook_q_input", "set_use_split_qkv_input"),
        ("blocks.0.hook_k_input", "set_use_split_qkv_input"),
        ("blocks.1.hook_v_input", "set_use_split_qkv_input"),
        ("blocks.1.hook_mlp_in", "set_use_hook_mlp_in"),
    ],
)
def test_a_hook_that_is_switched_off_refuses_an_edit_and_what_it_says_helps(hook, switch):
    network = HookedTransformer(lens())
    before, edit = network(TOKENS), [(hook, lambda tensor, hook: tensor * 0)]
    says = re.escape(f"{hook} is switched off: call model.{switch}(True) first")
    with pytest.raises(UsageError, match=says):
        network.run_with_hooks(TOKENS, fwd_hooks=edit)
    with pytest.raises(UsageError, match=says):
        network.add_hook(*edit[0])
    assert torch.equal(network(TOKENS), before)
    getattr(network, switch)(True)
    assert not torch.equal(network.run_with_hooks(TOKENS, fwd_hooks=edit), before)
    assert torch.allclose(network(TOKENS), before, atol=1e-5)


def test_every_hook_that_is_computed_changes_the_logits():
    network = HookedTransformer(lens())
    before, cached = network.run_with_cache(TOKENS)
    for name in network.hook_dict:
        if name not in cached:
            with pytest.raises(UsageError, match="is switched off"):
                network.run_with_hooks(TOKENS, fwd_hooks=[(name, lambda tensor, hook: tensor * 0)])
            continue
        # Not scaled alone: what is normalised behind it would not show that.
        changed = network.run_with_hooks(
            TOKENS, fwd_hooks=[(name, lambda tensor, hook: tensor * 0.5 + tensor.flip(0) + 0.1)]
        )
        assert not torch.equal(changed, before), name


def test_a_network_of_this_class_is_viewed_measured_and_recorded(tmp_path):
    run = gi.train(tiny(), tmp_path / "run", progress=False)
    reads, weights = run.task.reads, run.state_dict(-1)
    config = run.config.model.lens(reads.n_ctx, reads.d_vocab, reads.n_logits, torch.float64)
    network = HookedTransformer(config)
    network.load_state_dict({name: weight.double() for name, weight in weights.items()}, strict=False)
    view = gi.view(network, run.task, split=(run.split.train, run.split.test))
    torch.testing.assert_close(view.logits, run.view(-1).logits)
    torch.testing.assert_close(gi.measure("loss", view).values, gi.measure("loss", run.view(-1)).values)
    again = gi.record(network.to(torch.float32), run.task, 0, tmp_path / "recorded")
    assert network.cfg.dtype == torch.float32
    assert all(torch.equal(again.state_dict(0)[name], weight) for name, weight in weights.items())
    assert copy.deepcopy(network)(run.task.inputs).equal(network(run.task.inputs))


def test_a_bridge_is_no_network_of_which_a_view_is_true(tmp_path):
    pytest.importorskip("transformer_lens.model_bridge")
    if THEIRS is not HookedTransformer:
        pytest.skip("its native network came with TransformerLens 4")
    from transformer_lens.model_bridge import TransformerBridge
    from transformer_lens.utilities.tl_checkpoint_conversion import convert_tl_checkpoint

    run = gi.train(tiny(), tmp_path / "run", progress=False)
    config = LENS.from_dict({**run.config.model.lens_settings(run.task.reads), "device": "cpu"})
    bridge = TransformerBridge.boot_native(config)
    weights = run.state_dict(-1)
    bridge.load_state_dict(convert_tl_checkpoint(weights, config), strict=True)
    with pytest.raises(UsageError, match=r"a TransformerBridge: .* import that with a mapping"):
        gi.view(bridge, run.task)
