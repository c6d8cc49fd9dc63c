"""Encoder-decoder transformers: the fast forward is the hooked network and torch's own layers, greedy
decoding is the plain loop, Views speak of both stacks, and their runs are runs like any other."""

from __future__ import annotations

import json
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
import safetensors.torch
import torch

import grokinterp as gi
from grokinterp.errors import ConfigError, NotApplicable, UsageError
from grokinterp.measures.hypotheses import digits_hypothesis
from grokinterp.measures.nodes import everywhere
from grokinterp.models import EncoderDecoderConfig, NetworkConfig, network_config
from grokinterp.tasks import Reads, Task, make_task
from grokinterp.tasks.base import Sample
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


@pytest.mark.parametrize("name", KINDS)
def test_a_pass_that_begins_at_a_layer_ends_as_the_whole(name):
    network = config(name)
    model = network.hooked(READS, shaken(network), torch.float64)
    whole = model(SUMS.inputs)
    streams = [block.name("hook_resid_pre") for block in network.blocks(READS)]
    for layer in range(len(streams)):
        entering = model(SUMS.inputs, stop_at_layer=layer)
        assert entering.shape == (SUMS.n_inputs, READS.n_ctx, SIZES["d_model"])
        logits, cache = model.run_with_cache(entering, start_at_layer=layer)
        torch.testing.assert_close(logits, whole, **EXACT)
        assert [stream for stream in streams if stream in cache] == streams[layer:]


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


def torch_transformer(*of) -> torch.nn.Module:
    """torch.nn.Transformer as benchmarks/stream_speed.py trains it."""
    file = Path(__file__).parents[1] / "benchmarks" / "torch_transformer.py"
    spec = spec_from_file_location("torch_transformer", file)
    assert spec
    assert spec.loader
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.torch_transformer(*of)


@pytest.mark.parametrize("decoder_layers", [1, 2])
@pytest.mark.parametrize("norm_position", ["post", "pre"])
def test_torchs_own_layers_give_the_same_logits(norm_position, decoder_layers):
    network = EncoderDecoderConfig(**SIZES, norm_position=norm_position, decoder_layers=decoder_layers)
    weights = shaken(network)
    with torch.no_grad():
        expected = torch_transformer(network, weights, READS.positions[0])(SUMS.inputs)
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


def test_a_view_decodes_with_the_hooks_of_a_user():
    network = config("post")
    weights = shaken(network, seed=3)
    weights["embed.W_E"] *= 9
    bare = gi.View.of_weights(SUMS, network, weights)
    model = network.hooked(READS, weights, torch.float64)
    given = gi.view(model, SUMS).decoded
    assert torch.equal(bare.decoded, given)
    assert torch.equal(bare.at("units").decoded, given)
    assert torch.equal(bare.decoded, network.decode(weights, SUMS.inputs, READS, SUMS.written))
    model.add_hook("decoder.blocks.0.hook_cross_attn_out", lambda x, hook: torch.zeros_like(x))
    blind = gi.view(model, SUMS).decoded  # nothing of the question reaches the answers
    assert len(blind.unique(dim=0)) == 1
    assert not torch.equal(blind, given)
    with pytest.raises(NotApplicable, match="no answers that a network reads again"):
        _ = gi.View.of_weights(make_task("majority"), *of_task(make_task("majority"))).decoded


def of_task(task: Task) -> tuple[EncoderDecoderConfig, dict[str, torch.Tensor]]:
    network = config("post")
    return network, shaken(network, task.reads)


@pytest.mark.parametrize("kind", ["encoder_decoder", "transformer"])
def test_what_a_task_calls_right_is_what_is_decoded(kind):
    """Every token is right after the right ones if and only if it is after those that are written."""
    network = network_config({"kind": kind, "d_model": 16, "n_heads": 2})
    task = make_task("digit_addition", n=1, examples=60, per_class=4)
    weights = shaken(network, task.reads)
    weights["unembed.b_U"] = 5.0 * (torch.arange(10) < 2)  # 0 and 1 are written: some of it is right
    view = gi.View.of_weights(task, network, weights)
    found = gi.measure("accuracy.by_criterion", view).sel(criterion="exact")
    exact = gi.measure("accuracy.exact", view)
    assert found.values.tolist() == exact.values.tolist()
    plain = gi.view(network.hooked(task.reads, weights, torch.float64), task).decoded
    assert torch.equal(view.decoded, plain)


# Views


def test_hooks_of_the_encoder_are_given_at_all_of_its_positions():
    network = config("deep")
    weights = shaken(network)
    view = gi.View.of_weights(SUMS, network, weights).at("tens")
    logits, cache = view.model.run_with_cache(SUMS.inputs)
    assert view.reads.words == ("x1", "x0", "+", "y1", "y0", "=", "z2", "z1")
    assert [block.label for block in view.blocks] == ["encoder L0", *(f"decoder L{i}" for i in range(3))]
    torch.testing.assert_close(view.logits, logits[:, 1], **EXACT)
    hooks = {
        "encoder.blocks.0.hook_mlp_out": lambda x: x,
        "encoder.blocks.0.attn.hook_pattern": lambda x: x.transpose(1, 2),
        "decoder.blocks.0.cross_attn.hook_k": lambda x: x,
        "decoder.blocks.1.cross_attn.hook_pattern": lambda x: x[:, :, 1],
        "decoder.blocks.2.attn.hook_z": lambda x: x[:, 1],
        "decoder.blocks.2.hook_resid_mid_cross": lambda x: x[:, 1],
    }
    found = view.activations(list(hooks))
    for hook, at in hooks.items():
        torch.testing.assert_close(found[hook], at(cache[hook]), **EXACT)
        assert torch.equal(view.at_answer(hook, cache[hook]), at(cache[hook]))
    assert view.elsewhere("encoder.blocks.0.hook_mlp_out")
    assert not view.elsewhere("decoder.blocks.0.hook_mlp_out")
    assert everywhere(view, ["encoder.hook_embed"])["encoder.hook_embed"].shape == (SUMS.n_inputs, 5, 16)
    with pytest.raises(NotApplicable, match=r"^no answer is read in layer encoder L0$"):
        view.neurons_of(0)


def test_attention_is_what_an_answer_attends_to_in_the_question_and_in_the_answer():
    network = config("deep")
    weights = shaken(network)
    model = network.hooked(READS, weights, torch.float64)
    _, cache = model.run_with_cache(SUMS.inputs)
    for view in (gi.View.of_weights(SUMS, network, weights), gi.view(model, SUMS)):
        mean = gi.measure("attention.mean", view)
        parts = [f"decoder L{i}{part}" for i in range(3) for part in ("", " cross")]
        assert mean.coords["layer"].values.tolist() == parts
        assert mean.coords["pos"].values[[0, 5, 7]].tolist() == ["0: x1", "5: =", "7: z1"]
        torch.testing.assert_close(torch.from_numpy(mean.sum("pos").values), torch.ones(3, 6, 2).double())
        for i, answer in enumerate(READS.answers):
            own = cache["decoder.blocks.1.attn.hook_pattern"][:, :, i].mean(0)
            across = cache["decoder.blocks.1.cross_attn.hook_pattern"][:, :, i].mean(0)
            found = mean.sel(answer=answer)
            for label, first, expected in (("decoder L1", 5, own), ("decoder L1 cross", 0, across)):
                values = torch.from_numpy(found.sel(layer=label).values)
                torch.testing.assert_close(values[:, first : first + expected.shape[1]], expected, **EXACT)
                assert float(values.sum()) == pytest.approx(2)
        uniform = gi.measure("attention.self.uniform", view)
        assert uniform.values.tolist() == [1, 1 / 2, 1 / 3]


@pytest.mark.parametrize("name", ["post", "pre"])
def test_heads_of_either_stack_are_ablated_by_name(name):
    network = config(name)
    view = gi.View.of_weights(SUMS, network, shaken(network)).at("units")
    targets = SUMS.targets[:40, 2]  # those that stand for the task

    def zero(z, hook):
        z = z.clone()
        if hook.name.startswith("encoder."):
            z[:, :, 1] = 0
        else:
            z[:, 2, 1] = 0
        return z

    for label, hook in (
        ("encoder L0", "encoder.blocks.0.attn.hook_z"),
        ("decoder L0", "decoder.blocks.0.attn.hook_z"),
        ("decoder L0 cross", "decoder.blocks.0.cross_attn.hook_z"),
    ):
        logits = view.model.run_with_hooks(SUMS.inputs, fwd_hooks=[(hook, zero)])[:40, 2]
        expected = float(torch.nn.functional.cross_entropy(logits, targets).detach())
        found = gi.ablate(view, "head", (label, 1), how="zero")
        assert found.after.loss["all"] == pytest.approx(expected, rel=1e-9)
        assert len(found.controls) == 1  # the other head
    with pytest.raises(UsageError, match=r"^at: no layer is called 'decoder L1 cross'; did you mean"):
        gi.ablate(view, "head", ("decoder L1 cross", 0))
    whole = gi.ablate(view, "attention", how="zero", draws=2)
    mlps = gi.ablate(view, "mlp", how="zero", draws=2)
    alone = gi.ablate(view, "mlp", "encoder L1", draws=1)
    for outcome in (whole, mlps, alone):
        assert outcome.after.loss["all"] != outcome.before.loss["all"]
    skip = gi.ablate(view, "skip.attention", "encoder L0", draws=1)
    assert skip.after.loss["all"] != skip.before.loss["all"]
    with pytest.raises(NotApplicable, match="normalised behind each part" if name == "post" else "cross"):
        gi.ablate(view, "skip.into_mlp", draws=1)


def test_nodes_are_ablated_at_the_positions_of_their_stack():
    network = config("pre")
    view = gi.View.of_weights(SUMS, network, shaken(network))
    found = gi.measure("node_ablation.zero", view, examples=200)
    assert found.coords["node"].values.tolist() == [
        *(f"encoder L{i}{part}" for i in range(2) for part in ("H0", "H1", " MLP")),
        *("decoder L0H0", "decoder L0H1", "decoder L0 cross H0", "decoder L0 cross H1", "decoder L0 MLP"),
    ]
    assert found.coords["pos"].values.tolist() == [f"{i}: {word}" for i, word in enumerate(READS.words)]
    logits = view.model(SUMS.inputs)
    rows = torch.arange(SUMS.n_inputs) < SUMS.n_representative
    for node, word, hook, at in (
        ("encoder L1 MLP", "3: y1", "encoder.blocks.1.mlp.hook_post", (3,)),
        ("decoder L0 cross H1", "6: z2", "decoder.blocks.0.cross_attn.hook_z", (1, 1)),
    ):

        def zero(x, hook, at=at):
            x = x.clone()
            x[(slice(None), *at)] = 0
            return x

        changed = view.model.run_with_hooks(SUMS.inputs, fwd_hooks=[(hook, zero)])
        for i, answer in enumerate(READS.answers):
            loss = [
                torch.nn.functional.cross_entropy(x[rows, i], SUMS.targets[rows, i])
                for x in (logits, changed)
            ]
            rise = found.sel(node=node, pos=word, answer=answer, part="all", statistic="loss")
            assert float(rise) == pytest.approx(float((loss[1] - loss[0]).detach()), abs=1e-9)
    nothing = found.sel(node="decoder L0H0", pos="0: x1", part="all", statistic="loss")
    assert nothing.values.tolist() == [0, 0, 0]
    assert (found.sel(node="encoder L0H0", pos="6: z2", part="all", statistic="loss") == 0).all()


@pytest.mark.parametrize("name", ["post", "pre"])
def test_dimensions_are_reduced_at_every_site_of_both_stacks(name):
    network = config(name)
    view = gi.View.of_weights(SUMS, network, shaken(network))
    found = gi.measure("dimension_reduction", view, shares=[1.0, 0.0], examples=40)
    sites = found.coords["site"].values.tolist()
    for site in ("encoder.hook_embed", "encoder.blocks.1.attn.hook_q", "decoder.blocks.0.hook_resid_pre",
                 "decoder.blocks.0.cross_attn.hook_k", "decoder.blocks.0.hook_cross_attn_out"):  # fmt: skip
        assert site in sites
    assert "encoder.blocks.1.hook_resid_pre" not in sites  # what the layer before gave
    assert len(set(found.sel(kept=1.0).values.tolist())) == 1  # nothing changes
    assert int(found.sel(site="encoder.blocks.0.mlp.hook_post").width) == 24


def test_positions_that_reach_no_answer_in_common_are_ablated_in_one_pass(monkeypatch):
    network = config("post")
    view = gi.View.of_weights(SUMS, network, shaken(network))
    passes, plain = [], gi.View.logits_with

    def counted(self, edits):
        passes.append([name for name, _ in edits])
        return plain(self, edits)

    monkeypatch.setattr(gi.View, "logits_with", counted)
    gi.measure("node_ablation.zero", view)
    together = [names for names in passes if len(names) == 3 and len(set(names)) == 1]
    # Of a decoder of one layer every answer has its own position: three for each of its nodes.
    assert {names[0] for names in together} == {
        f"decoder.blocks.0.{hook}" for hook in ("attn.hook_z", "cross_attn.hook_z", "mlp.hook_post")
    }
    assert len(together) == 5


def test_nodes_of_either_stack_are_interchanged():
    network = config("post")
    view = gi.View.of_weights(SUMS, network, shaken(network, seed=3))
    sites = [("encoder L1H0", 1), ("decoder L0 cross H1", 6)]
    found = gi.interchange(view, digits_hypothesis(SUMS), sites=sites, cases=20)
    names = {site for trial in found.trials for site in trial.sites}
    assert names == {"encoder L1H0 at 1: x0", "decoder L0 cross H1 at 6: z2"}
    with pytest.raises(UsageError, match=r"no position 6: examples have 0 to 4 there$"):
        gi.interchange(view, digits_hypothesis(SUMS), sites=[("encoder L1H0", 6)], cases=20)


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
        ({"layers": 3}, {}, "unknown key 'model.layers'; did you mean 'model.n_layers'?"),
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


class Odd(Task):
    """A task of tokens whose answers are read at these positions of six."""

    def __init__(self, *positions: int) -> None:
        super().__init__(name="odd")
        object.__setattr__(self, "at", positions)

    @property
    def reads(self) -> Reads:
        words, answers = tuple("abcdef"), tuple(f"answer {i}" for i in self.at)
        return Reads((6,), 5, words, answers, self.at, 3, 3, "odd")

    @property
    def sample(self) -> Sample:
        tokens = torch.arange(48).view(8, 6) % 5
        return Sample(tokens, tokens[:, : len(self.at)] % 3)


@pytest.mark.parametrize(
    ("positions", "message"),
    [
        (
            (2, 4, 5),
            "model.kind: an encoder_decoder writes its answers one behind the other up to the last position, "
            "and odd reads them at 2, 4, 5 of 0 to 5: choose another kind",
        ),
        (
            (2, 3),
            "model.kind: an encoder_decoder writes its answers one behind the other up to the last position, "
            "and odd reads them at 2, 3 of 0 to 5: choose another kind",
        ),
        (
            (0, 1, 2, 3, 4, 5),
            "model.kind: an encoder_decoder reads a question, and of odd an answer is read at the first "
            "position: choose another kind",
        ),
    ],
)
def test_answers_that_are_not_written_at_the_end_are_refused(positions, message):
    with pytest.raises(UsageError) as raised:
        config("post").shapes(Odd(*positions).reads)
    assert str(raised.value) == message


def test_more_tokens_than_positions_are_refused():
    network = config("post")
    weights = shaken(network)
    longer = make_task("digit_addition", n=3, examples=8, per_class=0)
    both = (
        lambda: network.logits(weights, longer.inputs, READS),
        lambda: network.hooked(READS, weights)(longer.inputs),
        lambda: NetworkConfig.decode(network, weights, longer.inputs, READS, SUMS.written),
    )
    for call in both:
        with pytest.raises(UsageError) as raised:
            call()
        assert str(raised.value) == (
            "the encoder reads 5 tokens and the decoder 3, and an example has 11: give examples of the "
            "task that the network was trained on"
        )
    with pytest.raises(UsageError) as raised:
        network.decode(weights, SUMS.inputs, longer.reads, SUMS.written)
    assert str(raised.value) == "the decoder has 3 positions and is asked for 4 tokens: ask for no more"
    with pytest.raises(UsageError, match=r"^weights do not fit the model: .*: give the task that"):
        gi.view(network.hooked(READS, weights), longer)


# Runs


def test_attention_inside_the_encoder_is_the_mean_of_its_patterns():
    network = config("post")
    weights = shaken(network)
    model = network.hooked(READS, weights, torch.float64)
    _, cache = model.run_with_cache(SUMS.inputs)
    whole = gi.View.of_weights(SUMS, network, weights)
    for view in (whole, gi.view(model, SUMS), whole.at(READS.answers[1])):
        value = gi.measure("attention.encoder", view)
        assert value.dims == ("layer", "head", "query", "key")
        assert value["layer"].values.tolist() == ["encoder L0", "encoder L1"]
        assert value["query"].values.tolist() == value["key"].values.tolist()
        assert value["query"].values[[0, -1]].tolist() == ["0: x1", "4: y0"]
        for layer in range(2):
            expected = cache[f"encoder.blocks.{layer}.attn.hook_pattern"].mean(0)
            torch.testing.assert_close(torch.from_numpy(value.values[layer]), expected, **EXACT)


def test_a_network_of_one_stack_has_no_encoder():
    one = network_config({"kind": "transformer", "d_model": 8, "n_heads": 1, "d_mlp": 8})
    with pytest.raises(NotApplicable, match="no stack of layers with attention that reads no answer"):
        gi.measure("attention.encoder", gi.View.of_weights(SUMS, one, one.initial_weights(READS, 0)))


def small(**overrides: object) -> TrainConfig:
    values = {
        "task": {"name": "digit_addition", "n": 2, "examples": 64, "per_class": 4},
        "model": {"kind": "encoder_decoder", **SIZES},
        "training": {
            "data": "fresh", "batch_size": 40, "steps": 6, "evaluate_every": 3, "lr": 1e-3,
            "weight_decay": 0.0,
        },
        "snapshots": {"every": 3},
        "threads": 1,
    }  # fmt: skip
    return TrainConfig.make(values).changed(**overrides)


ROWS = {"training.data": None, "training.fraction": 0.5, "training.batch_size": 16}


@pytest.mark.parametrize(
    "overrides", [{}, ROWS, {"model.norm_position": "pre"}], ids=["fresh", "rows", "pre"]
)
def test_a_resumed_run_ends_with_the_same_bytes_at_any_number_of_threads(overrides):
    def last(trainer: Trainer) -> dict[str, torch.Tensor]:
        for _ in trainer:
            pass
        return {key: weight.detach().clone() for key, weight in trainer.weights.items()}

    whole = last(Trainer(small(**overrides)))
    for threads in (1, 3):
        trainer = Trainer(small(threads=threads, **overrides))
        state = next(trainer.state() for snapshot in trainer if snapshot.step == 3)
        resumed = last(Trainer(small(threads=threads, **overrides), state))
        for key, weight in whole.items():
            assert torch.equal(weight, resumed[key]), key


def test_the_gradient_of_a_batch_in_pieces_is_that_of_the_hooked_network():
    trainer = Trainer(small(**{"training.dtype": "float64", "training.batch_size": 150}))
    next(iter(trainer))
    with torch.no_grad():
        gradients = trainer._examples.gradients(None)
    reads, network = trainer.task.reads, trainer.config.model
    assert network.together(reads) < 150
    model = network.hooked(reads, trainer.weights, torch.float64)
    batch = trainer._fresh.batch(0)
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    loss = torch.nn.functional.cross_entropy(model(batch.inputs).flatten(0, 1), batch.answers.flatten())
    parameters = dict(model.named_parameters())
    expected = torch.autograd.grad(loss, [parameters[key] for key in gradients])
    for (key, found), other in zip(gradients.items(), expected, strict=True):
        torch.testing.assert_close(found, other, rtol=0, atol=1e-10, msg=key)


@pytest.mark.parametrize("norm_position", ["post", "pre"])
def test_a_run_is_reported_replayed_and_verified(grokinterp, tmp_path, norm_position):
    run = gi.train(small(**{"model.norm_position": norm_position}), tmp_path / "run", progress=False)
    again = gi.load_run(run.path)
    assert again.steps == [0, 3, 6]
    assert str(again.config.model).startswith("encoder of 2 layers, decoder of 1 layer, d_model 16, 2 heads")
    for command in ("verify", "analyze", "replay"):
        code, _, err = grokinterp(command, run.path)
        assert (code, err) == (0, "")
    report = json.loads((run.path / "report.json").read_text())
    assert {"node_ablation.mean", "attention.mean", "variance_by_factor.heads"} <= report["measures"].keys()
    page = (run.path / "report.html").read_text()
    assert "Decoder L0 cross" in page
    with torch.no_grad():
        logits = again.model(-1)(again.task.inputs)[:, 0]
    torch.testing.assert_close(again.view(-1).logits.float(), logits.float(), rtol=0, atol=1e-5)


def test_an_operation_is_learned_and_reported(tmp_path):
    config = TrainConfig.make(
        {
            "task": {"name": "modular_addition", "p": 5},
            "model": {"kind": "encoder_decoder", **SIZES},
            "training": {"steps": 20, "lr": 1e-2},
        }
    )
    run = gi.train(config, tmp_path / "run", progress=False)
    view = run.view(-1)
    assert view.attention.shape == (2, 2, 25, 3)
    report = gi.analyze(run).to_dict()
    of_one = "the operands are read in one stack of layers, and the answer in another"
    assert report["skipped"]["fourier_norms.QK"] == of_one
    heads = report["measures"]["ablation.heads"]["value"]
    assert len(heads) == 4  # two layers of the encoder, and the decoder's two attentions
    assert gi.replay(run)["attention.mean"].coords["layer"].values.tolist() == [
        "decoder L0",
        "decoder L0 cross",
    ]


@pytest.mark.parametrize("norm_position", ["post", "pre"])
def test_its_own_safetensors_come_back(tmp_path, norm_position):
    network = EncoderDecoderConfig(**SIZES, norm_position=norm_position, decoder_layers=2, n_layers=1)
    task = make_task("digit_addition", n=1, examples=60, per_class=4)
    weights = network.initial_weights(task.reads, 0)
    safetensors.torch.save_file(weights, tmp_path / "weights.safetensors")
    wanted = {"name": "digit_addition", "n": 1, "examples": 60, "per_class": 4, "layout": "a + b ="}
    run = gi.import_checkpoint(
        tmp_path / "weights.safetensors", tmp_path / "run", task=wanted, believe=True, progress=False
    )
    assert run.imported["layout"] == "encoder_decoder"
    assert run.config.model.model_copy(update={"act_fn": "relu"}) == network
    assert run.task.params == task.params
    for name, weight in run.state_dict(-1).items():
        assert torch.equal(weight, weights[name]), name
    path, wanted = tmp_path / "weights.safetensors", {"name": "digit_addition", "n": 2}
    with pytest.raises(UsageError, match=r"take 6 positions, and the network has 5"):
        gi.import_checkpoint(path, tmp_path / "other", task=wanted, believe=True, progress=False)


@pytest.mark.parametrize(
    ("task", "says"),
    [
        ({"name": "eigenvalues"}, "those of eigenvalues have these shapes: say so with --task eigenvalues"),
        ({"name": "eigenvectors", "n": 3}, "say so with --task eigenvectors --set task.n=3"),
        ({"name": "matrix_transpose", "input_encoding": "P10"}, "with --task NAME and --set task.KEY=VALUE"),
    ],
)
def test_an_import_without_its_task_says_which_one_has_such_examples(tmp_path, task, says):
    network = EncoderDecoderConfig(**SIZES)
    weights = network.initial_weights(make_task(**task).reads, 0)
    safetensors.torch.save_file(weights, tmp_path / "weights.safetensors")
    with pytest.raises(UsageError) as refused:
        gi.import_checkpoint(tmp_path / "weights.safetensors", tmp_path / "run", progress=False)
    assert says in str(refused.value)


def test_stacks_that_divide_an_example_otherwise_are_not_those_of_a_task(tmp_path):
    network, path = EncoderDecoderConfig(**SIZES), tmp_path / "weights.safetensors"
    weights = network.initial_weights(make_task("majority", n=6, v=11).reads, 0)
    safetensors.torch.save_file(weights, path)
    wanted = {"name": "reverse", "n": 3, "v": 10}
    assert make_task(**wanted).reads.n_ctx == 6
    with pytest.raises(
        UsageError, match=r"reverse as asked for has its first answer at position 3 of 6, and"
    ):
        gi.import_checkpoint(path, tmp_path / "run", task=wanted, believe=True, progress=False)
