"""Our own networks, written as other people write theirs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from grokinterp.models import ModelConfig, is_bias
from grokinterp.models.base import lens_classes
from grokinterp.tasks import Task

Weights = dict[str, Tensor]


def random_weights(config: Any, task: Task, seed: int = 0) -> Weights:
    """Weights in float64 of which none is 0, biases included."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(shape, generator=generator, dtype=torch.float64) / 4
        for name, shape in config.shapes(task.reads).items()
    }


def without_biases(weights: Weights, but: str = "") -> Weights:
    """The same with biases at 0, those whose names contain `but` excepted."""
    return {
        n: torch.zeros_like(w) if is_bias(n) and not (but and but in n) else w for n, w in weights.items()
    }


def nanda(w: Weights) -> Weights:
    """Every matrix transposed, the heads of W_O side by side, a mask; no biases but those of the MLP."""
    theirs = {
        "embed.W_E": w["embed.W_E"].T,
        "pos_embed.W_pos": w["pos_embed.W_pos"],
        "unembed.W_U": w["unembed.W_U"],
    }
    n_ctx = len(w["pos_embed.W_pos"])
    for at in blocks(w):
        for letter in "QKV":
            theirs[f"{at}.attn.W_{letter}"] = w[f"{at}.attn.W_{letter}"].transpose(1, 2)
        theirs[f"{at}.attn.W_O"] = w[f"{at}.attn.W_O"].flatten(0, 1).T
        theirs[f"{at}.attn.mask"] = torch.ones(n_ctx, n_ctx).tril()
        theirs |= {f"{at}.mlp.W_in": w[f"{at}.mlp.W_in"].T, f"{at}.mlp.b_in": w[f"{at}.mlp.b_in"]}
        theirs |= {f"{at}.mlp.W_out": w[f"{at}.mlp.W_out"].T, f"{at}.mlp.b_out": w[f"{at}.mlp.b_out"]}
    return {name: weight.contiguous() for name, weight in theirs.items()}


def chughtai(w: Weights) -> Weights:
    """TransformerLens's names, its buffers, and two copies of the embedding."""
    n_ctx = len(w["pos_embed.W_pos"])
    buffers = {f"{at}.attn.mask": torch.ones(n_ctx, n_ctx).tril().bool() for at in blocks(w)}
    buffers |= {f"{at}.attn.IGNORE": torch.tensor(-1e5) for at in blocks(w)}
    return {"x_embed": w["embed.W_E"], "y_embed": w["embed.W_E"], **w, **buffers}


def chughtai_mlp(w: Weights) -> Weights:
    return {
        "W_x": w["embed_a.W_E"],
        "W_y": w["embed_b.W_E"],
        "W": w["blocks.0.mlp.W_in"],
        "W_U": w["unembed.W_U"],
    }


def torch_modules(w: Weights, n_more: int) -> Weights:
    """One layer of torch's Linear and Embedding, QKV fused; `n_more` tokens that no example uses."""
    fused = torch.cat([w[f"blocks.0.attn.W_{letter}"].transpose(1, 2).flatten(0, 1) for letter in "QKV"])
    return {
        "W_E.weight": torch.cat(
            [w["embed.W_E"], torch.ones(n_more, w["embed.W_E"].shape[1], dtype=torch.float64)]
        ),
        "W_pos.weight": w["pos_embed.W_pos"],
        "attn.W_QKV.weight": fused,
        "attn.W_O.weight": w["blocks.0.attn.W_O"].flatten(0, 1).T.contiguous(),
        "mlp.fc1.weight": w["blocks.0.mlp.W_in"].T.contiguous(),
        "mlp.fc1.bias": w["blocks.0.mlp.b_in"],
        "mlp.fc2.weight": w["blocks.0.mlp.W_out"].T.contiguous(),
        "mlp.fc2.bias": w["blocks.0.mlp.b_out"],
        "W_U.weight": w["unembed.W_U"].T.contiguous(),
    }


def pizza(folder: Path, w: Weights, **settings: object) -> Path:
    """A state dict as Nanda et al.'s and the JSON file that goes with it."""
    torch.save(nanda(w), folder / "model_abc123.pt")
    (folder / "config_abc123.json").write_text(
        json.dumps({"act_fn": "ReLU", "frac": 0.8, "lr": 1e-3, "diff_vocab": False, **settings})
    )
    return folder / "model_abc123.pt"


def blocks(w: Weights) -> Iterator[str]:
    yield from sorted({".".join(name.split(".")[:2]) for name in w if name.startswith("blocks.")})


def lens_config(config: ModelConfig, task: Task, **more: object) -> Any:
    """TransformerLens's own configuration object, as the Grokking_Demo pickles it."""
    return lens_classes()[1](
        n_layers=config.n_layers, d_model=config.d_model, n_ctx=task.reads.n_ctx, d_head=config.d_head,
        n_heads=config.n_heads,
        d_mlp=config.d_mlp, act_fn=config.act_fn, d_vocab=task.reads.d_vocab,
        d_vocab_out=config.n_logits(task.reads),
        normalization_type=None, attention_dir=config.attention_dir, init_weights=True, device="cpu",
        seed=999, **more,
    )  # fmt: skip


def with_rows(w: Weights, n_more: int) -> Weights:
    """The same with so many more positions behind, at which nothing is read."""
    more = torch.full((n_more, w["pos_embed.W_pos"].shape[1]), 7.0, dtype=torch.float64)
    return w | {"pos_embed.W_pos": torch.cat([w["pos_embed.W_pos"], more])}


def with_logits(w: Weights, n: int) -> Weights:
    """The same with so many logits, of which the new ones are low."""
    matrix, bias = w["unembed.W_U"], w["unembed.b_U"]
    more = n - matrix.shape[1]
    padded = {"unembed.W_U": torch.nn.functional.pad(matrix, (0, more))}
    return w | padded | {"unembed.b_U": torch.nn.functional.pad(bias, (0, more), value=-9.0)}


def normalised(w: Weights, folded: bool, scale: float = 1e4) -> Weights:
    """The same network with LayerNorm, nearly: the stream holds its negative too, so that its mean is 0, and
    two large numbers, so that its length hardly changes. Folded, as TransformerLens's `fold_ln` leaves it,
    there are no weights of the norms."""
    d_model = 2 * w["embed.W_E"].shape[1] + 2
    length = scale * (2 / d_model) ** 0.5
    large = torch.tensor([scale, -scale], dtype=torch.float64)
    new = {}
    for name, weight in w.items():
        if name.endswith(("W_Q", "W_K", "W_V", "W_in", "W_U")):
            read = torch.nn.functional.pad(weight, (0, 0, 0, d_model - weight.shape[-2]))
            new[name] = read * length if folded else read
        elif name.endswith(("W_E", "W_pos", "W_O", "b_O", "W_out", "b_out")):
            ends = large if name.endswith("W_E") else 0 * large
            new[name] = torch.cat([weight, -weight, ends.expand(*weight.shape[:-1], 2)], -1)
        else:
            new[name] = weight
    norms = ["ln_final", *(f"{at}.{norm}" for at in blocks(w) for norm in ("ln1", "ln2"))]
    for norm in [] if folded else norms:
        new[f"{norm}.w"] = torch.full((d_model,), length, dtype=torch.float64)
        new[f"{norm}.b"] = torch.zeros(d_model, dtype=torch.float64)
    return new
