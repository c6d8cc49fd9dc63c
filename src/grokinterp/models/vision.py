"""Vision transformers: arrays of numbers cut into patches, a token for each, read off a class token.

    one token per pixel     patch_size 1; of pixels that are 0 or 1 its linear map is an embedding of the two
    linear patches          W_E takes all numbers of a patch at once (Dosovitskiy et al. 2021, arXiv
                            2010.11929)
    a transformer inside    local_layers 1 or more: inside each patch a small transformer runs over the pixels
    each patch              with a class token of its own, and W_E takes what that has in the end

The trunk is a HookedTransformer, whose layers, hooks and names are as ever; what is
put before its first layer is `hook_embed` (the class token, then the patches) plus `hook_pos_embed`. The
transformer inside patches is another one, `local`, whose names have `local.` in front and whose batch axis
has a row for each patch.

`VisionConfig.logits` gives the same numbers by a shorter way. Only the class token is asked for, so that the
last layer computes nothing else. There keys and values are not needed either: with one query q a score is x ·
(W_K q), b_K adds the same to all of them, and the values of a head are the weighted sum of x, times W_V.
Attention between all positions of the layers before is torch's own, which never writes out the pattern.
"""

from __future__ import annotations

import math
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import torch
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor
from torch.nn import functional as F

from ..errors import UsageError
from ..tasks import Reads
from .base import (
    Block,
    Inside,
    NetworkConfig,
    Shapes,
    Weights,
    Width,
    deprecation_silenced,
    fits,
    kind,
    lens_classes,
    refuse_odd_heads,
)
from .forward import ACTIVATIONS
from .transformer import ModelConfig

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer

_LOCAL = "local."
_EPS = 1e-5  # TransformerLens's default
_MOST_TOGETHER, _STREAM = 64, 2**19
"""Examples that a thread computes at a time, and about how many numbers their streams may have: more are no
faster, and a batch of 128 is shared by two threads."""


@kind
class VisionConfig(NetworkConfig):
    """A vision transformer. Images and classes come from the task: an example is an array (rows, columns),
    (rows, columns, channels), or a row of a table, whose patches are patch_size numbers beside one
    another."""

    kind: Literal["vision"] = "vision"
    patch_size: int = Field(4, ge=1, le=1024)
    """The side of a patch; 1: one token per pixel."""
    n_layers: int = Field(2, ge=1, le=64)
    d_model: Width = 64
    n_heads: Width = 4
    d_head: Width = Field(default_factory=lambda sizes: max(1, sizes["d_model"] // sizes["n_heads"]))
    """By default d_model / n_heads."""
    d_mlp: int = Field(default_factory=lambda sizes: 4 * sizes["d_model"], ge=0, le=1 << 22)
    """By default 4 d_model; 0 leaves the MLPs out."""
    act_fn: Literal["relu", "gelu", "gelu_new", "silu"] = "relu"
    normalization: Literal["none", "LN"] = "LN"
    """`LN`: before each part of a layer and before the unembedding, with weights."""
    local_layers: int = Field(0, ge=0, le=64)
    """Of the transformer inside each patch; 0: patches are linear."""
    local_d_model: Width = 32
    local_heads: Width = 4
    """Of width local_d_model / local_heads."""
    local_d_mlp: int = Field(default_factory=lambda sizes: 4 * sizes["local_d_model"], ge=0, le=1 << 22)
    """By default 4 local_d_model."""
    init_scale: float = Field(1.0, gt=0, le=1e6)
    """Every initial weight is multiplied by this."""

    resumes = True

    @model_validator(mode="after")
    def _heads_divide_the_width(self) -> VisionConfig:
        refuse_odd_heads(self)
        if self.local_layers and self.local_d_model % self.local_heads:
            what = f"{self.local_heads} local_heads do not divide local_d_model {self.local_d_model}"
            raise ValueError(f"{what}: change one of them")
        if self.local_layers and self.patch_size == 1:
            raise ValueError("local_layers: a patch of one pixel has nothing to attend to: set patch_size")
        return self

    @cached_property
    def _trunk(self) -> ModelConfig:
        same = {name: getattr(self, name) for name in ("n_layers", "d_model", "n_heads", "d_head", "d_mlp")}
        return self._layers(**same)

    @cached_property
    def _local(self) -> ModelConfig:
        """What runs inside each patch, where there are local layers."""
        return self._layers(
            n_layers=self.local_layers, d_model=self.local_d_model, n_heads=self.local_heads,
            d_mlp=self.local_d_mlp,
        )  # fmt: skip

    def _layers(self, **sizes: int) -> ModelConfig:
        norm, act = self.normalization, self.act_fn
        return ModelConfig(
            **sizes, act_fn=act, normalization=norm, attention_dir="bidirectional", train_biases="all"
        )  # type: ignore[arg-type, unused-ignore]

    def __str__(self) -> str:
        inside = f", {self.local_layers} local of {self.local_d_model}" if self.local_layers else ""
        return f"patches of side {self.patch_size}{inside}, {self._trunk}"

    def grid(self, reads: Reads) -> tuple[int, ...]:
        """How many patches there are along each axis of an example: (rows, columns), or (patches,).

        Raises:
            UsageError: examples are tokens, arrays of more than three axes, or the patch does not divide
                them.
        """
        shape, side = reads.shape, self.patch_size
        if reads.d_vocab:
            raise UsageError(
                f"model.kind: a {self.kind} network reads arrays of numbers, and {reads.task} has tokens: "
                "choose another kind"
            )
        if not 1 <= len(shape) <= 3:
            raise UsageError(
                f"model.kind: a {self.kind} network reads (rows, columns), (rows, columns, channels) or a "
                f"row of a table, and an example of {reads.task} has {len(shape)} axes"
            )
        if odd := [axis for axis in shape[:2] if axis % side]:
            pixels = " x ".join(map(str, shape[:2]))
            fitting = [str(d) for d in range(1, min(shape[:2]) + 1) if not any(x % d for x in shape[:2])]
            raise UsageError(
                f"model.patch_size: {side} does not divide {odd[0]}, and an example of {reads.task} has "
                f"{pixels} {'pixels' if len(shape) > 1 else 'numbers'}: choose {', '.join(fitting)}"
            )
        return tuple(axis // side for axis in shape[:2])

    def _pixels(self, reads: Reads) -> tuple[int, int]:
        """How many pixels a patch has, and of how many numbers each."""
        image = len(reads.shape) > 1
        return self.patch_size ** (2 if image else 1), reads.shape[2] if len(reads.shape) > 2 else 1

    def sequence(self, reads: Reads) -> Reads:
        """The class token, at which every answer is read, and the patches row by row."""
        grid = self.grid(reads)
        what = ("pixel" if self.patch_size == 1 else "patch") if len(grid) > 1 else "part"
        if len(grid) == 1 and self.patch_size == 1:
            what = "feature"
        names = [f"{what} {','.join(map(str, at))}" for at in _places(grid)]
        return reads.along(("class", *names), (0,) * len(reads.answers), grid)

    def inside(self, reads: Reads) -> Inside | None:
        """The layers inside patches, whose class token is the first of their positions."""
        return Inside(_LOCAL, math.prod(self.grid(reads)), 0) if self.local_layers else None

    def together(self, reads: Reads) -> int:
        """A power of two, so that batches of such a size are cut into equal pieces."""
        streams = sum(positions * config.d_model for config, positions in self._stacks(reads))
        fitting = min(_MOST_TOGETHER, max(1, _STREAM // streams))
        return int(1 << (fitting.bit_length() - 1))

    def _stacks(self, reads: Reads) -> list[tuple[ModelConfig, int]]:
        """The layers inside patches, and those of the trunk, each with its positions in an example."""
        patches = math.prod(self.grid(reads))
        inside = [(self._local, patches * (1 + self._pixels(reads)[0]))] if self.local_layers else []
        return [*inside, (self._trunk, 1 + patches)]

    def shapes(self, reads: Reads) -> Shapes:
        """The shape of every parameter, in the order of the computation.

        Raises:
            UsageError: examples are no such arrays, the patch does not divide them, or several answers are
                asked, or more logits.
        """
        patches, (pixels, channels) = math.prod(self.grid(reads)), self._pixels(reads)
        if len(reads.answers) > 1:
            raise UsageError(
                f"model.kind: a {self.kind} network gives one answer, and {reads.task} asks for "
                f"{len(reads.answers)} about an array: make a task of each"
            )
        shapes: Shapes = {}
        if self.local_layers:
            shapes = _of_stack(_LOCAL, self._local, channels, pixels)
        entries = self.local_d_model if self.local_layers else pixels * channels
        shapes |= _of_stack("", self._trunk, entries, patches)
        n_logits = self.n_logits(reads)
        return shapes | {"unembed.W_U": (self.d_model, n_logits), "unembed.b_U": (n_logits,)}

    def initial_weights(self, reads: Reads, seed: int) -> Weights:
        """Fresh float32 weights on the CPU, from a generator of their own: matrices N(0, 1 / rows), class
        tokens and positions N(0, .02²) as in the original vision transformer, biases 0."""
        generator = torch.Generator().manual_seed(seed)
        weights: Weights = {}
        for name, shape in self.shapes(reads).items():
            last = name.rsplit(".", 1)[-1]
            if last in ("cls_token", "W_pos"):
                scale = 0.02
            elif last.startswith("W_"):
                # W_O takes all heads side by side.
                scale = (shape[0] * shape[1] if last == "W_O" else shape[-2]) ** -0.5
            else:
                weights[name] = torch.full(shape, float(last == "w"))
                continue
            drawn = torch.randn(shape, generator=generator, dtype=torch.float32)
            weights[name] = drawn * (scale * self.init_scale)
        return weights

    def read(
        self, inputs: Float[Tensor, "n *example"], reads: Reads
    ) -> Float[Tensor, "n patch pixel channel"]:
        """The patches, row by row, and the pixels of each in the same order."""
        return _patches(inputs, self.grid(reads), self.patch_size)

    def logits(
        self,
        weights: Weights,
        inputs: Float[Tensor, "n patch pixel channel"],
        reads: Reads,
        seen: Weights | None = None,
    ) -> Float[Tensor, "n classes"]:
        readout = weights["unembed.W_U"]
        x = inputs.to(readout.dtype)
        if self.local_layers:
            inner = _class_token(weights, _LOCAL, x.flatten(0, 1), self._local)
            x = inner.unflatten(0, x.shape[:2])
        else:
            x = x.flatten(2)
        return _class_token(weights, "", x, self._trunk, seen) @ readout + weights["unembed.b_U"]

    def blocks(self, reads: Reads) -> tuple[Block, ...]:
        """The layers of the trunk; those inside of patches are not among them."""
        return self._trunk.blocks(reads)

    def numbers(self, reads: Reads) -> int:
        """About how many numbers training holds of one example at a time: the stream, its normalised forms,
        queries, keys, values and neurons at all positions but in the last layer."""
        held = 4 * self.n_logits(reads)
        for config, positions in self._stacks(reads):
            at_each = 8 * config.d_model + 4 * config.n_heads * config.d_head + 4 * config.d_mlp
            held += positions * ((config.n_layers - 1) * at_each + 6 * config.d_model + 4 * config.n_heads)
        return held

    @property
    def is_normalised(self) -> bool:
        return self.normalization != "none"

    def hooked(self, reads: Reads, weights: Weights, dtype: torch.dtype = torch.float32) -> HookedTransformer:
        """The network in evaluation mode, every hook live: called with examples [n, ...] as they are it gives
        logits [n, pos, classes], of which those of position 0 are the answer's.

        At the hooks of `local` an example has a row for each patch.
        """
        fits(weights, self.shapes(reads))
        with deprecation_silenced():
            network: Any = lens_classes()[0]
            grid, side = self.grid(reads), self.patch_size

            class Stack(network):  # type: ignore[misc]  # which one is known inside a function alone
                """A HookedTransformer over [n, token, entry], with a class token before the tokens."""

                def __init__(self, config: ModelConfig, tokens: int, entries: int, classes: int) -> None:
                    # Its W_E has a row for every entry of a token.
                    super().__init__(config.lens(1 + tokens, entries, classes, dtype))
                    self.cls_token = torch.nn.Parameter(torch.zeros(config.d_model, dtype=dtype))

                def stream(self, x: Tensor) -> Tensor:
                    """What enters the first layer."""
                    x = x.to(self.embed.W_E.dtype) @ self.embed.W_E
                    first = self.cls_token.expand(len(x), 1, -1)
                    embedded = self.hook_embed(torch.cat([first, x], 1))
                    positions = self.pos_embed.W_pos.expand(len(x), -1, -1)
                    return embedded + self.hook_pos_embed(positions)

            class HookedVision(Stack):
                """The trunk, and what stands before it."""

                local: Any
                config: Any

                def forward(self, input: Tensor, *args: Any, **kwargs: Any) -> Any:
                    if kwargs.get("start_at_layer") is None:
                        x = _patches(input, grid, side)
                        if self.local is None:
                            x = x.flatten(2)
                        else:
                            n, patches = x.shape[:2]
                            inner = self.local(self.local.stream(x.flatten(0, 1)), start_at_layer=0)
                            x = inner[:, 0].unflatten(0, (n, patches))
                        input, kwargs["start_at_layer"] = self.stream(x), 0
                    return super().forward(input, *args, **kwargs)

            shapes = self.shapes(reads)
            patches, pixels = math.prod(grid), self._pixels(reads)[0]
            model = HookedVision(self._trunk, patches, shapes["embed.W_E"][0], shapes["unembed.W_U"][1])
            model.local = None
            if self.local_layers:
                inner: Any = Stack(self._local, pixels, shapes[f"{_LOCAL}embed.W_E"][0], 1)
                inner.unembed = torch.nn.Identity()  # what it gives is its normalised stream
                model.local = inner
            model.setup()  # type: ignore[no-untyped-call, unused-ignore]  # the hooks by their whole names
        model.config, model.cfg.d_vocab = self, 0
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.copy_(weights[name])
        return model.eval()


def _places(grid: tuple[int, ...]) -> list[tuple[int, ...]]:
    """The indices of all cells of a grid, row by row."""
    return [(i, *rest) for i in range(grid[0]) for rest in (_places(grid[1:]) if grid[1:] else [()])]


def _patches(
    inputs: Float[Tensor, "n *example"], grid: tuple[int, ...], side: int
) -> Float[Tensor, "n patch pixel channel"]:
    """The patches of every example, row by row, and the pixels of each in the same order."""
    if len(grid) == 1:
        return inputs.reshape(len(inputs), grid[0], side, 1)
    rows, columns = grid
    x = inputs.reshape(len(inputs), rows, side, columns, side, -1)
    return x.transpose(2, 3).reshape(len(inputs), rows * columns, side * side, -1)


def _of_stack(prefix: str, config: ModelConfig, entries: int, tokens: int) -> Shapes:
    """The shapes of what embeds tokens of so many entries, and of the layers behind it."""
    d = config.d_model
    shapes: Shapes = {"embed.W_E": (entries, d), "cls_token": (d,), "pos_embed.W_pos": (1 + tokens, d)}
    shapes |= config.shapes_of_layers()
    return {prefix + name: shape for name, shape in shapes.items()}


def _class_token(
    weights: Weights,
    prefix: str,
    x: Float[Tensor, "n token entry"],
    config: ModelConfig,
    seen: Weights | None = None,
) -> Float[Tensor, "n d_model"]:
    """What a stack of layers has at its class token in the end, normalised where it normalises."""

    def norm(stream: Tensor, at: str) -> Tensor:
        if config.normalization == "none":
            return stream
        return F.layer_norm(stream, stream.shape[-1:], weights[f"{at}.w"], weights[f"{at}.b"], _EPS)

    positions = weights[f"{prefix}pos_embed.W_pos"]
    first = (weights[f"{prefix}cls_token"] + positions[0]).expand(len(x), 1, -1)
    stream = torch.cat([first, x @ weights[f"{prefix}embed.W_E"] + positions[1:]], 1)
    for layer in range(config.n_layers):
        at, last = f"{prefix}blocks.{layer}", layer == config.n_layers - 1
        own = {name: weights[f"{at}.attn.{name}"] for name in ("W_Q", "W_K", "W_V", "b_Q", "b_V")}
        normed = norm(stream, f"{at}.ln1")
        if last or seen is not None:
            pattern, of_class = _one_query(normed, own, config)
        if last:
            stream, z = stream[:, 0], of_class
        else:
            z = _all_queries(normed, own, weights[f"{at}.attn.b_K"], config)
        stream = stream + z @ weights[f"{at}.attn.W_O"].flatten(0, 1) + weights[f"{at}.attn.b_O"]
        if seen is not None:
            seen[f"{at}.attn.hook_pattern"] = pattern
        if config.d_mlp:
            before = norm(stream, f"{at}.ln2") @ weights[f"{at}.mlp.W_in"] + weights[f"{at}.mlp.b_in"]
            hidden = ACTIVATIONS[config.act_fn](before)
            stream = stream + hidden @ weights[f"{at}.mlp.W_out"] + weights[f"{at}.mlp.b_out"]
            if seen is not None:
                seen[f"{at}.mlp.hook_post"] = hidden if last else hidden[:, 0]
    return norm(stream, f"{prefix}ln_final")


def _one_query(
    x: Float[Tensor, "n pos d_model"], own: Weights, config: ModelConfig
) -> tuple[Float[Tensor, "n head pos"], Float[Tensor, "n head_width"]]:
    """How the first position attends to all, and what it takes from them."""
    q = x[:, 0] @ own["W_Q"].transpose(0, 1).flatten(1) + own["b_Q"].flatten()
    by_head = q.unflatten(-1, (config.n_heads, config.d_head)).transpose(0, 1)  # [head, n, d_head]
    keyed = (by_head @ own["W_K"].mT).transpose(0, 1)  # [n, head, d_model]
    pattern = (keyed @ x.mT / math.sqrt(config.d_head)).softmax(-1)
    z = (pattern @ x).transpose(0, 1) @ own["W_V"] + own["b_V"][:, None]
    return pattern, z.transpose(0, 1).flatten(1)


def _all_queries(
    x: Float[Tensor, "n pos d_model"], own: Weights, b_k: Float[Tensor, "head d_head"], config: ModelConfig
) -> Float[Tensor, "n pos head_width"]:
    """What every position takes from all."""
    side_by_side = [own[f"W_{letter}"].transpose(0, 1).flatten(1) for letter in "QKV"]
    biases = [bias.flatten() for bias in (own["b_Q"], b_k, own["b_V"])]
    both = F.linear(x, torch.cat(side_by_side, 1).T, torch.cat(biases))
    q, k, v = both.unflatten(-1, (3, config.n_heads, config.d_head)).permute(2, 0, 3, 1, 4)
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
