"""Words that people use for what they set: each is told the key that is meant, and setting that one works."""

from __future__ import annotations

import re
from typing import Any

import pytest

import grokinterp as gi
from grokinterp.errors import ConfigError
from grokinterp.models import KINDS
from grokinterp.training.words import _CALLED, _OTHERWISE, meant

WORDS: dict[str, tuple[str, Any]] = {
    "training.epochs": ("training.steps", 1000),
    "epochs": ("training.steps", 1000),
    "training.num_epochs": ("training.steps", 1000),
    "training.max_steps": ("training.steps", 1000),
    "training.learning_rate": ("training.lr", 1e-3),
    "training.wd": ("training.weight_decay", 1.0),
    "training.batch": ("training.batch_size", 64),
    "training.frac_train": ("training.fraction", 0.3),
    "training.optimiser": ("training.optimizer", "AdamW"),
    "training.beta1": ("training.betas", (0.9, 0.98)),
    "training.momentum": ("training.betas", (0.9, 0.98)),
    "training.epsilon": ("training.eps", 1e-6),
    "training.lr_schedule": ("training.decay", "cosine"),
    "training.scheduler": ("training.decay", "linear"),
    "training.warmup_steps": ("training.warmup", 10),
    "training.max_grad_norm": ("training.clip", 1.0),
    "training.gradient_accumulation_steps": ("training.accumulate", 2),
    "training.log_every": ("training.evaluate_every", 10),
    "training.early_stopping": ("training.stop_when", "test_accuracy >= 0.9"),
    "training.dropout": ("model.dropout", 0.1),
    "training.loss_fn": ("training.loss", "mse"),
    "training.stable_max": ("training.loss", "stablemax"),
    "training.orthograd": ("training.orthogonal_gradient", True),
    "training.gradfilter_ema": ("training.grokfast", "ema"),
    "training.softmax_temperature": ("training.temperature", 2.0),
    "training.weight_norm": ("training.norm_clamp", 1.0),
    "training.save_every": ("snapshots.every", 100),
    "snapshots.save_every": ("snapshots.every", 100),
    "random_seed": ("seed", 3),
    "num_workers": ("threads", 1),
    "model.hidden_dim": ("model.d_model", 32),
    "model.n_embd": ("model.d_model", 32),
    "model.d_ff": ("model.d_mlp", 64),
    "model.num_layers": ("model.n_layers", 2),
    "model.n_head": ("model.n_heads", 2),
    "model.head_dim": ("model.d_head", 8),
    "model.activation": ("model.act_fn", "gelu"),
    "model.normalization_type": ("model.normalization", None),
    "model.causal": ("model.attention_dir", "causal"),
    "model.bias": ("model.train_biases", True),
    "model.init_mode": ("model.init", "gpt2"),
    "model.tie_word_embeddings": ("model.tied", True),
    "model.attn_pdrop": ("model.dropout", 0.1),
    "model.lr": ("training.lr", 1e-3),
    "task.modulus": ("task.p", 13),
    "MODEL.N-LAYER".lower(): ("model.n_layers", 1),
    "training.gamma": ("training.decay", "cosine"),
    "training.T_max": ("training.decay", "cosine"),
    "training.warmup_ratio": ("training.warmup", 10),
    "training.num_train_epochs": ("training.steps", 1000),
    "training.per_device_train_batch_size": ("training.batch_size", 64),
    "training.train_pct": ("training.fraction", 0.3),
    "training.test_size": ("training.fraction", 0.3),
    "training.stopping_thresh": ("training.stop_when", "test_accuracy >= 0.9"),
    "training.label_noise": ("task.noise", {"kind": "uniform", "share": 0.2}),
    "training.init_seed": ("seed", 3),
    "random_state": ("seed", 3),
    "use_cuda": ("device", "cpu"),
    "snapshots.save_freq": ("snapshots.every", 100),
    "snapshots.num_checkpoints": ("snapshots.log", 10),
    "model.dim_feedforward": ("model.d_mlp", 64),
    "model.nheads": ("model.n_heads", 2),
    "model.ninp": ("model.d_model", 32),
    "model.attention_probs_dropout_prob": ("model.dropout", 0.1),
    "model.num_encoder_layers": ("model.n_layers", 2),
    "task.P": ("task.p", 13),
}


@pytest.mark.parametrize("word", WORDS)
def test_a_word_of_other_peoples_code_is_told_the_key_and_that_key_is_taken(word):
    key, value = WORDS[word]
    with pytest.raises(ConfigError) as caught:
        gi.TrainConfig.preset("quick", **{word: value})
    named = re.findall(r"'([\w.]+)'", str(caught.value).partition("did you mean ")[2])
    assert named[0] == key
    assert str(caught.value).startswith(f"unknown key {word!r}")
    gi.TrainConfig.preset("quick", **{key: value})


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("model.n_ctx", "it comes from the task"),
        ("model.d_vocab", "it comes from the task"),
        ("model.vocab_size", "it comes from the task"),
        ("training.seq_len", "it comes from the task"),
        ("model.seq_length", "it comes from the task"),
        ("model.num_key_value_heads", "no kind of network has it here"),
        ("model.layer_norm_eps", "it is 1e-5"),
        ("training.nesterov", "muon has it, and sgd has not"),
        ("training.amsgrad", "no optimiser has it here"),
        ("training.shuffle", "every epoch is a fresh permutation"),
        ("output_dir", "gi.train(config, out=...)"),
        ("model.attn_only", "model.d_mlp=0 leaves the MLPs out"),
        ("device", "choose 'cuda', with CUDA_VISIBLE_DEVICES=1 in the environment"),
    ],
)
def test_a_word_for_which_there_is_no_key_is_told_what_to_do(word, said):
    with pytest.raises(ConfigError, match=re.escape(said)):
        gi.TrainConfig.preset("quick", **{word: "cuda:1"})


@pytest.mark.parametrize(
    ("kind", "word", "said"),
    [
        ("mlp", "hidden_dim", "did you mean 'model.d_model' or 'model.d_mlp'?"),
        ("mlp", "num_layers", "model.n_layers is a key of model.kind='transformer', not of this one"),
        ("mlp", "dropout", "model.dropout is a key of model.kind='transformer', not of this one"),
        ("vision", "num_heads", "did you mean 'model.n_heads'?"),
    ],
)
def test_what_is_meant_is_what_the_network_at_hand_has(kind, word, said):
    with pytest.raises(ConfigError, match=re.escape(said)):
        gi.TrainConfig.make({"model": {"kind": kind, word: 3}})


def test_a_misspelt_key_is_still_told_the_nearest():
    with pytest.raises(
        ConfigError, match=r"unknown key 'training\.weigt_decay'; did you mean 'weight_decay'\?"
    ):
        gi.TrainConfig.preset("quick", **{"training.weigt_decay": 1})


def test_no_word_is_a_key_that_every_network_has_and_every_key_that_is_named_is_one():
    sections = {"": gi.TrainConfig, "training": type(gi.TrainConfig().training)}
    sections["snapshots"] = type(gi.TrainConfig().snapshots)
    keys = {f"{name}.{key}".lstrip(".") for name, of in sections.items() for key in of.model_fields}
    keys |= {f"model.{key}" for kind in KINDS.values() for key in kind.model_fields}
    assert set(_CALLED) <= keys | {"task.name", "task.p", "task.n", "task.noise"}
    for key, words in _CALLED.items():
        section = key.rpartition(".")[0]
        for word in words.split():
            assert meant(word, {key}) is not None or word in _OTHERWISE
            assert f"{section}.{word}".lstrip(".") not in keys - {f"model.{word}"}, word
