"""Encoder-decoder transformers: the fast forward is the hooked network and torch's own layers, greedy
decoding is the plain loop, Views speak of both stacks, and their runs are runs like any other."""

from __future__ import annotations

import pytest
import torch

from grokinterp.errors import ConfigError, UsageError
from grokinterp.models import EncoderDecoderConfig, NetworkConfig, network_config
from grokinterp.tasks import make_task
from grokinterp.training import TrainConfig, Trainer

EXACT = {"rtol": 0, "atol": 1e-12}
SIZES = {"d_model": 16, "n_heads": 2, "d_mlp": 24}
KINDS = {
    "post": SIZES,
    "pre": {**SIZES, "norm_position": "pre"},
    "deep": {**SIZES, "n_layers": 1, "decoder_layers": 3, "d_head": 5, "act_fn": "gelu"},
}
SUMS = make_task("digit_addition", n=2, examples=40, per_class=4)
READS = SUMS.reads


def config(name: str) -> EncoderDecoderConfig:
    made = network_config({"kind": "encoder_decoder", **KINDS[name]})
    assert isinstance(made, EncoderDecoderConfig)
    return made


def shaken(config: NetworkConfig, reads=READS, seed: int = 1) -> dict[str, torch.Tensor]:
    """Weights in float64 of which none is 0, not even a bias."""
    generator = torch.Generator().manual_seed(seed)
    drawn = config.initial_weights(reads, seed)
    return {
        name: weight.double() + 0.2 * torch.randn(weight.shape, generator=generator, dtype=torch.float64)
        for name, weight in drawn.items()
    }


# The forward passes


@pytest.mark.parametrize("name", KINDS)
def test_the_fast_forward_and_its_gradient_are_those_of_the_hooked_network(name):
    network = config(name)
    weights = shaken(network)
    model = network.hooked(READS, weights, torch.float64)
    expected = model(SUMS.inputs)
    learned = {key: weight.clone().requires_grad_() for key, weight in weights.items()}
    found = network.logits(learned, SUMS.inputs, READS)
    assert found.shape == (SUMS.n_inputs, 3, 10)
    torch.testing.assert_close(found, expected, **EXACT)
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    direction = torch.randn(expected.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    theirs = dict(model.named_parameters())
    assert sorted(theirs) == sorted(weights)
    both = (
        torch.autograd.grad((logits * direction).sum(), [of[key] for key in weights])
        for logits, of in ((found, learned), (model(SUMS.inputs), theirs))
    )
    for key, one, other in zip(weights, *both, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-10, msg=key)
    single = {key: weight.float() for key, weight in weights.items()}
    hooked = network.hooked(READS, single)(SUMS.inputs)
    torch.testing.assert_close(network.logits(single, SUMS.inputs, READS), hooked, rtol=0, atol=1e-5)


def test_float32_logits_are_those_of_the_hooked_network_to_one_in_a_million():
    network = EncoderDecoderConfig()
    weights = network.initial_weights(READS, 0)
    with torch.no_grad():
        expected = network.hooked(READS, weights)(SUMS.inputs)
        found = network.logits(weights, SUMS.inputs, READS)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", KINDS)
def test_one_answer_is_what_it_is_among_all(name):
    network = config(name)
    weights = shaken(network)
    seen: dict[str, torch.Tensor] = {}
    every = network.logits(weights, SUMS.inputs, READS, seen)
    torch.testing.assert_close(network.logits(weights, SUMS.inputs, READS), every, **EXACT)
    _, cache = network.hooked(READS, weights, torch.float64).run_with_cache(SUMS.inputs)
    assert sorted(seen) == sorted(
        f"decoder.blocks.{layer}.{hook}"
        for layer in range(network.decoder_layers)
        for hook in ("attn.hook_pattern", "cross_attn.hook_pattern", "mlp.hook_post")
    )
    for hook, values in seen.items():
        expected = cache[hook].transpose(1, 2) if hook.endswith("pattern") else cache[hook]
        torch.testing.assert_close(values, expected, **EXACT)
    for i, answer in enumerate(READS.answers):
        of_one: dict[str, torch.Tensor] = {}
        for where in (None, of_one):
            alone = network.logits(weights, SUMS.inputs, READS.only(answer), where)
            torch.testing.assert_close(alone, every[:, i], **EXACT)
        for hook, values in of_one.items():
            torch.testing.assert_close(values, seen[hook][:, i], **EXACT)


def torch_layers(
    network: EncoderDecoderConfig, weights: dict[str, torch.Tensor]
) -> tuple[torch.nn.Module, ...]:
    """The two stacks by torch's own layers, with these weights."""
    sizes = (network.d_model, network.n_heads, network.d_mlp, 0.0)
    pre = network.norm_position == "pre"
    kinds = torch.nn.TransformerEncoderLayer, torch.nn.TransformerDecoderLayer
    encoder, decoder = (kind(*sizes, batch_first=True, norm_first=pre, dtype=torch.float64) for kind in kinds)
    stacks = (
        torch.nn.TransformerEncoder(encoder, network.n_layers, enable_nested_tensor=False),
        torch.nn.TransformerDecoder(decoder, network.decoder_layers),
    )
    for prefix, stack in zip(("encoder", "decoder"), stacks, strict=True):
        for layer, module in enumerate(stack.layers):
            w = {
                name.removeprefix(at): weight
                for name, weight in weights.items()
                if name.startswith(at := f"{prefix}.blocks.{layer}.")
            }
            state = {}
            for part, theirs in (("attn", "self_attn"), ("cross_attn", "multihead_attn")):
                if f"{part}.W_Q" not in w:
                    continue
                matrices = [w[f"{part}.W_{letter}"].transpose(1, 2).flatten(0, 1) for letter in "QKV"]
                state[f"{theirs}.in_proj_weight"] = torch.cat(matrices)
                state[f"{theirs}.in_proj_bias"] = torch.cat([w[f"{part}.b_{x}"].flatten() for x in "QKV"])
                state[f"{theirs}.out_proj.weight"] = w[f"{part}.W_O"].flatten(0, 1).T
                state[f"{theirs}.out_proj.bias"] = w[f"{part}.b_O"]
            for number, name in ((1, "in"), (2, "out")):
                state[f"linear{number}.weight"] = w[f"mlp.W_{name}"].T
                state[f"linear{number}.bias"] = w[f"mlp.b_{name}"]
            for number in (1, 2, 3):
                if f"ln{number}.w" in w:
                    state[f"norm{number}.weight"] = w[f"ln{number}.w"]
                    state[f"norm{number}.bias"] = w[f"ln{number}.b"]
            module.load_state_dict(state)
    return stacks


@pytest.mark.parametrize("decoder_layers", [1, 2])
@pytest.mark.parametrize("norm_position", ["post", "pre"])
def test_torchs_own_layers_give_the_same_logits(norm_position, decoder_layers):
    network = EncoderDecoderConfig(**SIZES, norm_position=norm_position, decoder_layers=decoder_layers)
    weights = shaken(network)
    encoder, decoder = torch_layers(network, weights)

    def norm(x: torch.Tensor, at: str) -> torch.Tensor:
        if f"{at}.w" not in weights:
            return x
        return torch.nn.functional.layer_norm(x, x.shape[-1:], weights[f"{at}.w"], weights[f"{at}.b"], 1e-5)

    first = READS.positions[0]
    tokens = {"encoder": SUMS.inputs[:, :first], "decoder": SUMS.inputs[:, first:]}
    embedded = {
        at: norm(weights["embed.W_E"][row] + weights[f"{at}.pos_embed.W_pos"], f"{at}.ln_embed")
        for at, row in tokens.items()
    }
    memory = norm(encoder(embedded["encoder"]), "encoder.ln_final")
    causal = torch.nn.Transformer.generate_square_subsequent_mask(3, dtype=torch.float64)
    written = norm(decoder(embedded["decoder"], memory, tgt_mask=causal), "decoder.ln_final")
    expected = written @ weights["unembed.W_U"] + weights["unembed.b_U"]
    torch.testing.assert_close(network.logits(weights, SUMS.inputs, READS), expected, **EXACT)


def test_no_answer_sees_what_comes_after_it():
    network = config("deep")
    weights = shaken(network)
    before = network.logits(weights, SUMS.inputs, READS)
    inputs = SUMS.inputs.clone()
    inputs[:, -1] = (inputs[:, -1] + 1) % 10
    after = network.logits(weights, inputs, READS)
    assert torch.equal(before[:, :2], after[:, :2])
    assert (before[:, 2] - after[:, 2]).abs().amax(1).min() > 1e-6


@pytest.mark.parametrize("name", KINDS)
def test_every_hook_changes_the_answer(name):
    network = config(name)
    model = network.hooked(READS, shaken(network), torch.float64)
    before, used = model.run_with_cache(SUMS.inputs)
    assert set(used) == set(model.hook_dict)
    assert list(used) == [name for name in model.hook_dict if name in used]
    generator = torch.Generator().manual_seed(0)

    def shake(x, hook):
        return x + torch.randn(x.shape, generator=generator, dtype=x.dtype)

    for hook in used:
        after = model.run_with_hooks(SUMS.inputs, fwd_hooks=[(hook, shake)])
        assert not torch.equal(before, after), hook


# Decoding


@pytest.mark.parametrize("name", KINDS)
def test_greedy_decoding_is_the_plain_loop(name):
    network = config(name)
    weights = shaken(network, seed=3)
    weights["embed.W_E"] *= 9  # so that questions are told apart
    found = network.decode(weights, SUMS.inputs, READS, SUMS.written)
    plain = NetworkConfig.decode(network, weights, SUMS.inputs, READS, SUMS.written)
    model, row = network.hooked(READS, weights, torch.float64), SUMS.inputs.clone()
    given = []
    for i in range(3):
        given.append(model(row)[:, i].argmax(1))
        if i < 2:
            row[:, READS.positions[0] + 1 + i] = given[-1]
    assert torch.equal(found, torch.stack(given, 1))
    assert torch.equal(plain, found)
    assert len(found.unique(dim=0)) > 2
    shuffled = SUMS.inputs.clone()
    shuffled[:, READS.positions[0] + 1 :] = 0  # what is written there is not looked at
    assert torch.equal(network.decode(weights, shuffled, READS, SUMS.written), found)


# What does not fit


def test_initial_weights_are_seeded_and_drawn_as_linear_layers_are():
    network = EncoderDecoderConfig(d_model=64, n_heads=4)
    one, same, other = (network.initial_weights(READS, seed) for seed in (0, 0, 1))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["embed.W_E"], other["embed.W_E"])
    assert {name: tuple(weight.shape) for name, weight in one.items()} == network.shapes(READS)
    assert one["embed.W_E"].std() == pytest.approx(64**-0.5, rel=0.05)
    for name, read in (("attn.W_Q", 64), ("attn.b_Q", 64), ("attn.W_O", 64), ("mlp.W_in", 64),
                       ("mlp.W_out", 256), ("mlp.b_out", 256)):  # fmt: skip
        drawn = one[f"encoder.blocks.0.{name}"]
        assert 0.9 * read**-0.5 < drawn.abs().max() <= read**-0.5, name
    assert torch.equal(one["decoder.blocks.0.ln3.w"], torch.ones(64))


@pytest.mark.parametrize(
    ("model", "task", "message"),
    [
        ({"n_heads": 3}, {}, "model: 3 heads do not divide d_model 128: change one of them, or set d_head"),
        ({"layers": 3}, {}, "unknown key 'model.layers'; did you mean 'n_layers'?"),
        (
            {},
            {"name": "line_images"},
            "model.kind: an encoder_decoder reads tokens, and line_images has none: choose another kind",
        ),
        (
            {"d_vocab_out": 3},
            {},
            "model.d_vocab_out: 3 logits are fewer than the 10 answers of digit_addition",
        ),
    ],
)
def test_what_does_not_fit_is_one_line(model, task, message):
    values = {"task": {"name": "digit_addition", **task}, "model": {"kind": "encoder_decoder", **model}}
    with pytest.raises((UsageError, ConfigError)) as raised:
        Trainer(TrainConfig.make(values))
    assert str(raised.value) == message
