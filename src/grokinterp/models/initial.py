"""Recipes of initial weights that TransformerLens has by name, beside its `gpt2`: those of HookedTransformer
(3.x), and under `native_` those of the NativeModel that 4.x has in its place.

Both draw the matrices alone, in the order in which the network has them; biases are 0. They do not come to
the same: 4.x draws what `torch.nn.Linear` and `torch.nn.Embedding` hold, which is the transposed of a matrix
here, counts all heads together where 3.x takes the width of one for what enters W_O, counts the width of an
embedding for what enters it where 3.x counts the vocabulary, and its gpt2 divides what writes into the stream
by sqrt(2 n_layers).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

NATIVE = "native_"
"""What the names of the recipes of TransformerLens 4 begin with."""

Recipe = Callable[[str, tuple[int, ...], torch.Generator, int, int], Float[Tensor, "..."]]
"""From the name and the shape of a matrix, the generator, the width of the stream and the number of layers to
the matrix."""


def _drawn(
    how: str, shape: tuple[int, ...], fan_in: int, fan_out: int, generator: torch.Generator
) -> Float[Tensor, "..."]:
    """A tensor of standard deviation sqrt(2 / (fan_in + fan_out)) (xavier) or sqrt(2 / fan_in) (kaiming, for
    ReLU): Glorot and Bengio 2010, He et al. 2015."""
    scheme, _, distribution = how.partition("_")
    std = math.sqrt(2 / (fan_in + fan_out) if scheme == "xavier" else 2 / fan_in)
    empty = torch.empty(shape, dtype=torch.float32)
    if distribution == "normal":
        return empty.normal_(0.0, std, generator=generator)
    limit = math.sqrt(3) * std
    return empty.uniform_(-limit, limit, generator=generator)


def _hooked(
    how: str, name: str, shape: tuple[int, ...], generator: torch.Generator, d_model: int, n_layers: int
) -> Float[Tensor, "..."]:
    fans = (shape[0], shape[1]) if len(shape) == 2 else (shape[1], shape[0] * shape[2])
    return _drawn(how, shape, *fans, generator)


def _native(
    how: str, name: str, shape: tuple[int, ...], generator: torch.Generator, d_model: int, n_layers: int
) -> Float[Tensor, "..."]:
    last = name.rsplit(".", 1)[-1]
    embeds, writes = last in ("W_E", "W_pos"), last in ("W_O", "W_out")
    if len(shape) == 3:  # [head, d_head, d_model] is the one of W_O
        inside = (d_model, shape[0] * shape[1]) if last == "W_O" else (shape[0] * shape[2], d_model)
    else:
        inside = (shape[0], shape[1]) if embeds else (shape[1], shape[0])
    if how == "gpt2":
        std = 0.8 / math.sqrt(d_model) / (math.sqrt(2 * n_layers) if writes else 1.0)
        drawn = torch.empty(inside, dtype=torch.float32).normal_(0.0, std, generator=generator)
    else:
        drawn = _drawn(how, inside, inside[1], inside[0], generator)
    if last == "W_O":
        return drawn.T.reshape(shape).contiguous()
    if len(shape) == 3:
        return drawn.view(shape[0], shape[2], d_model).mT.contiguous()
    return drawn if embeds else drawn.T.contiguous()


_BOTH = ("xavier_uniform", "xavier_normal", "kaiming_uniform", "kaiming_normal")
RECIPES: dict[str, Recipe] = {
    **{how: partial(_hooked, how) for how in _BOTH},
    **{f"{NATIVE}{how}": partial(_native, how) for how in ("gpt2", *_BOTH)},
}
"""The recipes by name."""
