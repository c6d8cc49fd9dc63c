"""Networks whose algorithm is known: three that are built here by hand, and one that is random.

The built networks add mod p and are HookedTransformers like any other. Two compute with the frequencies that they are told to use:

    clock   one head copies a, one copies b; a neuron for every phase pair (s, t) of Z_p x Z_p. Exactly
            logits = scale Σ_k cos w_k(a + b − c)                             (Nanda et al. 2023; Gromov 2023)
    pizza   attention is the constant 1, so a and b arrive as a sum; a neuron for every phase of Z_p. Nearly
            logits = scale Σ_k |cos w_k(a − b)/2| cos w_k(a + b − c)          (Zhong et al. 2023)

The third is always right and has no frequency at all: a neuron for every pair, as a look-up table has a row.

    lookup  logits = scale [c = a + b]

What follows from these formulas is what the measures must say.
"""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor

from .models import ModelConfig, hooked_transformer, initial_weights, weight_shapes
from .tasks import Task, make_task, split
from .view import View, view


def waves(p: int, k: int) -> tuple[Tensor, Tensor]:
    """cos 2πkx/p and sin 2πkx/p of every residue x, in float64; the sine of the Nyquist frequency is exactly 0."""
    x = k * torch.arange(p) % p
    angle = 2 * math.pi * x.double() / p
    return angle.cos(), torch.zeros(p, dtype=torch.float64) if 2 * k == p else angle.sin()


def rectified_sum(p: int, k: int) -> Tensor:
    """relu(cos w_k a + cos w_k b) over the grid: what every neuron of the clock is, up to a shift of a and of b."""
    cos, _ = waves(p, k)
    return (cos[:, None] + cos).relu()


def amplitude(p: int, k: int) -> float:
    """How much of cos w_k(a + b) the readout of all shifts of `rectified_sum` gives."""
    cos, _ = waves(p, k)
    s = torch.arange(p)
    return float((cos[(s[:, None] + s) % p] * rectified_sum(p, k)).sum())


def _copies_of_a_and_b(weights: dict[str, Tensor], width: int) -> None:
    """Two heads that look at position 0 and at position 1 alone, and copy what is embedded there.

    In the stream: 0..width the embedding (empty at "="), then the copy of a, the copy of b, and one dimension for each position.
    """
    position = 3 * width
    weights["pos_embed.W_pos"][:, position:] = torch.eye(3)
    for head in (0, 1):
        # A score of 100: the softmax is 1 to all digits.
        weights["blocks.0.attn.W_Q"][head, position + 2, 0] = 100 * math.sqrt(width)
        weights["blocks.0.attn.W_K"][head, position + head, 0] = 1
        weights["blocks.0.attn.W_V"][head, :width] = torch.eye(width)
        weights["blocks.0.attn.W_O"][head, :, (1 + head) * width : (2 + head) * width] = torch.eye(width)


@functools.cache
def clock(p: int, keys: tuple[int, ...], scale: float = 10.0, idle: tuple[int, ...] = (), n_logits: int | None = None) -> View:
    """The clock. Frequencies in `idle` are embedded as loudly as the keys and read by no neuron."""
    task = make_task("modular_addition", p=p)
    circles = (*keys, *idle)
    width = 2 * len(circles)
    config = ModelConfig(d_model=3 * width + 3, n_heads=2, d_head=width, d_mlp=len(keys) * p * p, d_vocab_out=n_logits)
    weights = _zeros(config, task)
    _copies_of_a_and_b(weights, width)
    for i, k in enumerate(circles):
        weights["embed.W_E"][:p, 2 * i], weights["embed.W_E"][:p, 2 * i + 1] = waves(p, k)
    a, b = width, 2 * width
    s, t = torch.cartesian_prod(torch.arange(p), torch.arange(p)).unbind(1)
    for i, k in enumerate(keys):
        cos, sin = waves(p, k)
        at = slice(i * p * p, (i + 1) * p * p)
        w_in, w_out = weights["blocks.0.mlp.W_in"][:, at], weights["blocks.0.mlp.W_out"][at]
        # cos w(a + s) + cos w(b + t), rectified; read out with e^{-iw(s + t)}
        w_in[a + 2 * i], w_in[a + 2 * i + 1], w_in[b + 2 * i], w_in[b + 2 * i + 1] = cos[s], -sin[s], cos[t], -sin[t]
        w_out[:, 2 * i], w_out[:, 2 * i + 1] = cos[(s + t) % p] / amplitude(p, k), -sin[(s + t) % p] / amplitude(p, k)
        weights["unembed.W_U"][2 * i, :p], weights["unembed.W_U"][2 * i + 1, :p] = scale * cos, scale * sin
    return _seen(config, task, weights)


@functools.cache
def pizza(p: int, keys: tuple[int, ...], scale: float = 50.0) -> View:
    """The pizza, for odd p."""
    task = make_task("modular_addition", p=p)
    width = 2 * len(keys)
    config = ModelConfig(d_model=2 * width, n_heads=1, d_head=width, d_mlp=len(keys) * p, attention_mixing=0)
    weights = _zeros(config, task)
    weights["blocks.0.attn.W_V"][0, :width] = torch.eye(width)
    weights["blocks.0.attn.W_O"][0, :, :width] = torch.eye(width)
    s = torch.arange(p)
    for i, k in enumerate(keys):
        cos, sin = waves(p, k)
        at = slice(i * p, (i + 1) * p)
        weights["embed.W_E"][:p, 2 * i], weights["embed.W_E"][:p, 2 * i + 1] = cos, sin
        weights["blocks.0.mlp.W_in"][2 * i, at], weights["blocks.0.mlp.W_in"][2 * i + 1, at] = cos, -sin
        # relu(cos u) = 1/π + cos(u)/2 + 2/(3π) cos 2u + ...: the second harmonic of p phases sums to 2p/(3π) |cos w(a − b)/2|.
        readout = weights["blocks.0.mlp.W_out"][at]
        readout[:, width + 2 * i], readout[:, width + 2 * i + 1] = cos[2 * s % p], -sin[2 * s % p]
        readout /= 2 * p / (3 * math.pi)
        weights["unembed.W_U"][width + 2 * i], weights["unembed.W_U"][width + 2 * i + 1] = scale * cos, scale * sin
    return _seen(config, task, weights)


@functools.cache
def lookup(p: int, scale: float = 20.0) -> View:
    """The look-up table."""
    task = make_task("modular_addition", p=p)
    config = ModelConfig(d_model=3 * p + 3, n_heads=2, d_head=p, d_mlp=p * p, train_biases="mlp")
    weights = _zeros(config, task)
    _copies_of_a_and_b(weights, p)
    weights["embed.W_E"][:p, :p] = torch.eye(p)
    a, b = task.pairs.unbind(1)
    neuron = torch.arange(p * p)
    weights["blocks.0.mlp.W_in"][p + a, neuron] = 1
    weights["blocks.0.mlp.W_in"][2 * p + b, neuron] = 1
    weights["blocks.0.mlp.b_in"][:] = -1  # on for one pair only
    weights["blocks.0.mlp.W_out"][neuron, task.targets] = scale
    weights["unembed.W_U"][:p] = torch.eye(p)
    return _seen(config, task, weights)


@functools.cache
def random_network(p: int = 53, seed: int = 0, name: str = "modular_addition", **model: object) -> View:
    """A network that was never trained."""
    task = make_task(name, **({"group": f"S{p}"} if name.startswith("group") else {"p": p}))
    config = ModelConfig(**{"d_model": 64, "n_heads": 4, "d_mlp": 256, **model})
    return _seen(config, task, initial_weights(config, task, seed), torch.float32)


def _zeros(config: ModelConfig, task: Task) -> dict[str, Tensor]:
    return {name: torch.zeros(shape, dtype=torch.float64) for name, shape in weight_shapes(config, task).items()}


def _seen(config: ModelConfig, task: Task, weights: dict[str, Tensor], dtype: torch.dtype = torch.float64) -> View:
    """A view with half of the examples called the training set: the built networks have seen none."""
    return view(hooked_transformer(config, task, weights, dtype), task, split=split(task.n_inputs, 0.5))
