"""A kind of network is one class, which a user's file may add, and which is all that anything asks."""

from __future__ import annotations

import dataclasses
import re
from types import SimpleNamespace
from typing import Any, Literal

import pytest
import torch
from torch.nn import functional as F

import grokinterp as gi
from conftest import tiny
from grokinterp.errors import ConfigError, UsageError
from grokinterp.models import KINDS, Block, MLPConfig, ModelConfig, NetworkConfig, blocks_of, kind
from grokinterp.tasks import Reads, make_task

ADDITION = make_task("modular_addition", p=7)


@pytest.fixture
def linear():
    """A kind as a user writes one: what each token adds to each logit, read at all positions."""
    before = dict(KINDS)

    @kind
    class Linear(NetworkConfig):
        """A sum over the tokens."""

        kind: Literal["linear"] = "linear"
        act_fn: Literal["none"] = "none"

        def shapes(self, reads):
            return {"unembed.W_U": (reads.d_vocab, self.n_logits(reads))}

        def initial_weights(self, reads, seed):
            generator = torch.Generator().manual_seed(seed)
            return {n: torch.randn(s, generator=generator) for n, s in self.shapes(reads).items()}

        def logits(self, weights, inputs, reads, seen=None):
            return F.embedding(inputs, weights["unembed.W_U"]).sum(1)

        def hooked(self, reads, weights, dtype=torch.float32):
            return hooked_sum(self, reads, weights["unembed.W_U"].to(dtype))

    yield Linear
    KINDS.clear()
    KINDS.update(before)


def hooked_sum(config: NetworkConfig, reads: Reads, readout: torch.Tensor) -> Any:
    from transformer_lens import HookedRootModule
    from transformer_lens.hook_points import HookPoint

    class Sum(HookedRootModule):
        def __init__(self):
            super().__init__()
            self.cfg = SimpleNamespace(
                n_ctx=reads.n_ctx, d_vocab=reads.d_vocab, d_vocab_out=config.n_logits(reads)
            )
            self.unembed = torch.nn.Module()
            self.unembed.W_U = torch.nn.Parameter(readout)
            self.hook_logits = HookPoint()
            self.setup()

        def forward(self, tokens):
            return self.hook_logits(F.embedding(tokens, self.unembed.W_U).sum(1, keepdim=True))

    return Sum().eval()


def test_a_kind_of_a_users_own_is_trained_resumed_and_looked_at(linear, tmp_path):
    asked = tiny().changed(**{"model.kind": "linear"})
    assert asked.model == linear()
    assert gi.TrainConfig.make(asked.model_dump()) == asked
    assert asked.model_dump()["model"] == {"kind": "linear", "act_fn": "none", "d_vocab_out": None}
    run = gi.train(asked, tmp_path / "run", progress=False)
    view = gi.load_run(tmp_path / "run").view(-1)
    assert (view.n_layers, view.is_normalised, view.act_fn) == (0, False, "none")
    hooked = run.model(-1)(run.task.inputs)[:, -1].detach()
    torch.testing.assert_close(view.logits, hooked[:, : run.task.n_answers])
    train_loss = float(view.loss()[view.rows("train")].mean())
    assert train_loss == pytest.approx(float(run.history.train_loss.iloc[-1]), rel=1e-5)


def test_two_kinds_of_one_name_are_refused_and_an_unknown_one_names_the_nearest(linear):
    class Another(linear):
        kind: Literal["mlp"] = "mlp"

    with pytest.raises(ValueError, match="two kinds of network are named 'mlp'"):
        kind(Another)
    with pytest.raises(
        ConfigError, match=re.escape("model.kind: unknown kind 'liner'; did you mean 'linear'?")
    ):
        tiny(**{"model.kind": "liner"})


@pytest.mark.parametrize("config", [ModelConfig(d_mlp=0), ModelConfig(n_layers=12, n_heads=2), MLPConfig()])
def test_blocks_are_those_that_the_names_of_the_weights_show(config):
    assert config.blocks(ADDITION.reads) == blocks_of(config.shapes(ADDITION.reads))
    view = gi.view(config.hooked(ADDITION.reads, config.initial_weights(ADDITION.reads, 0)), ADDITION)
    bare = gi.View.of_weights(ADDITION, config, config.initial_weights(ADDITION.reads, 0))
    assert view.blocks == bare.blocks == config.blocks(ADDITION.reads)


def test_blocks_of_two_stacks_are_told_apart_by_their_prefix():
    shapes = {
        "encoder.blocks.0.attn.W_Q": (4, 8, 2),
        "encoder.blocks.1.mlp.W_in": (8, 30),
        "decoder.blocks.0.attn.W_Q": (2, 8, 4),
        "decoder.blocks.0.mlp.W_in": (8, 20),
        "decoder.unembed.W_U": (8, 3),
    }
    assert blocks_of(shapes) == (
        Block("encoder.blocks.0", 4, 0),
        Block("encoder.blocks.1", 0, 30),
        Block("decoder.blocks.0", 2, 20),
    )
    assert blocks_of(shapes)[2].name("mlp.hook_post") == "decoder.blocks.0.mlp.hook_post"


def test_a_task_says_what_a_network_may_know_of_it():
    made = make_task("modular_division", p=7, layout="a op b =", opaque=1)
    assert made.reads == Reads(
        shape=(4,),
        d_vocab=9,
        words=("a", "op", "b", "="),
        answers=("answer",),
        positions=(3,),
        n_logits=9,
        n_classes=7,
        task="modular_division",
    )


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"positions": (3,)}, "modular_addition reads an answer at position 3, .* positions 0 to 2"),
        ({"positions": (-1,)}, "reads an answer at position -1"),
        ({"positions": (1, 2)}, "has the answers answer and 2 positions .* one position for each answer"),
        ({"positions": (), "answers": ()}, "has the answers none"),
    ],
)
def test_answers_that_are_read_nowhere_are_refused(changes, says):
    with pytest.raises(ConfigError, match=says):
        dataclasses.replace(ADDITION.reads, **changes)


@pytest.mark.parametrize(
    ("config", "changes", "says"),
    [
        (MLPConfig(), {"words": ("x", "y", "=")}, r"an mlp reads the operands a and b .* positions 'x y ='"),
        (MLPConfig(), {"positions": (1, 2), "answers": ("tens", "ones")}, "gives one answer; .* 2 answers"),
        (ModelConfig(), {"d_vocab": 0}, "a transformer reads tokens, and modular_addition has none"),
        (ModelConfig(d_vocab_out=5), {}, "5 logits are fewer than the 7 answers of modular_addition"),
    ],
)
def test_a_task_that_a_kind_cannot_read_is_refused_in_one_line(config, changes, says):
    with pytest.raises(UsageError, match=says):
        config.shapes(dataclasses.replace(ADDITION.reads, **changes))


def test_what_weights_do_not_show_is_what_they_may_have_without_changing():
    norms = {"none": ("none", "LNPre", "RMSPre"), "RMS": ("RMS", "LN"), "LN": ()}
    for normalization, alike in norms.items():
        unseen = ModelConfig(normalization=normalization).unseen()
        assert tuple(unseen["normalization"]) == alike
    without = {"attention_dir": (), "act_fn": ()}
    assert {key: tuple(ModelConfig(d_mlp=0).unseen()[key]) for key in without} == without
    assert tuple(ModelConfig(n_layers=2).unseen()["attention_dir"]) == ("causal", "bidirectional")
    assert MLPConfig().unseen() == {"act_fn": ["relu", "gelu", "square"]}
    assert (ModelConfig.reads_signs, MLPConfig.reads_signs) == (True, False)


def test_a_reader_is_told_of_a_network_in_a_few_words():
    assert str(ModelConfig()) == ("1 layer, d_model 128, 4 heads of 32, d_mlp 512, relu, normalisation none")
    assert str(ModelConfig(n_layers=2, d_mlp=0)).startswith("2 layers, d_model 128, 4 heads of 32, d_mlp 0")
    assert str(MLPConfig(act_fn="square")) == "1 layer, d_model 128, d_mlp 512, square"
