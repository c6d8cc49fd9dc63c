"""Named recipes. Each is a plain configuration; `doc` is the line that `grokinterp list presets` prints."""

from __future__ import annotations

from typing import Any

PRESETS: dict[str, dict[str, Any]] = {
    "quick": {
        "doc": "p = 53, a small network: groks in seconds on a laptop",
        "task": {"name": "modular_addition", "p": 53},
        "model": {"d_model": 64, "n_heads": 4, "d_mlp": 256},
        "training": {"fraction": 0.4, "lr": 5e-3, "weight_decay": 3.0, "steps": 6000, "stop_when": "test_accuracy >= 1 for 300"},
        "snapshots": {"log": 20, "every": 200},
    },
    "fast113": {
        "doc": "p = 113, the network of Nanda et al. 2023 at five times their learning rate: groks in half a minute",
        "task": {"name": "modular_addition", "p": 113},
        "model": {"d_model": 128, "n_heads": 4, "d_mlp": 512},
        "training": {"fraction": 0.3, "lr": 5e-3, "steps": 8000, "stop_when": "test_accuracy >= 0.999 for 300"},
        "snapshots": {"log": 20, "every": 100},
    },
    "nanda": {
        "doc": "the mainline run of Nanda et al. 2023: p = 113, lr 1e-3, 40,000 epochs, MLP biases, '=' among the logits",
        "task": {"name": "modular_addition", "p": 113},
        "model": {"d_model": 128, "n_heads": 4, "d_mlp": 512, "train_biases": "mlp", "d_vocab_out": 114},
        "training": {"fraction": 0.3, "split": "python_shuffle", "split_seed": 0, "lr": 1e-3, "warmup": 10, "steps": 40_000},
        "snapshots": {"every": 100},
    },
    "grokking_demo": {
        "doc": "the Grokking_Demo of TransformerLens: p = 113, lr 1e-3, 25,000 epochs, no biases, its split and its initial weights",
        "seed": 999,
        "task": {"name": "modular_addition", "p": 113},
        "model": {"d_model": 128, "n_heads": 4, "d_mlp": 512, "init": "transformer_lens"},
        "training": {"fraction": 0.3, "split": "torch_randperm", "split_seed": 598, "lr": 1e-3, "steps": 25_000},
        "snapshots": {"every": 100},
    },
    "doshi": {
        "doc": "the clean run of Doshi et al. 2024: p = 97, quadratic MLP of 500 neurons, squared error, 100 epochs: groks in seconds",
        "task": {"name": "modular_addition", "p": 97, "layout": "a b"},
        "model": {"kind": "mlp", "embedding": "one_hot", "act_fn": "square", "d_mlp": 500, "init": "gromov"},
        "training": {"fraction": 0.5, "split_seed": 420, "loss": "mse", "lr": 1e-2, "weight_decay": 5.0, "steps": 100, "evaluate_every": 2},
        "snapshots": {"every": 10},
    },
    "concat_mlp": {
        "doc": "SimpleMLP of neural-circuit-lab on noisy labels: p = 97, embeddings side by side, 512 neurons, no skip, 20,000 epochs",
        "task": {"name": "modular_addition", "p": 97, "layout": "a b", "noise": {"kind": "binomial", "n": 4, "p": 0.5}},
        "model": {"kind": "mlp", "embedding": "shared", "d_model": 128, "d_mlp": 512, "d_out": 128, "biases": "in", "init": "nanda"},
        "training": {"fraction": 0.3, "lr": 1e-3, "steps": 20_000},
        "snapshots": {"every": 100},
    },
    "chughtai_mlp": {
        "doc": "the MLP of Chughtai et al. 2023 on addition: p = 113, an embedding for each operand, 128 neurons, 250,000 epochs",
        "seed": 1,
        "task": {"name": "modular_addition", "p": 113, "layout": "a b"},
        "model": {"kind": "mlp", "embedding": "separate", "d_model": 256, "d_mlp": 128},
        "training": {"fraction": 0.3, "lr": 1e-3, "steps": 250_000, "evaluate_every": 50},
        "snapshots": {"every": 1000},
    },
}
