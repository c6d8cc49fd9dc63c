"""Multilayer perceptrons over two operands, hooked like a transformer.

    Chughtai et al. 2023 (arXiv 2302.03025)   an embedding for each operand, no W_out:  logits = relu([x W_x ; y W_y] W_in) W_U
    Gromov 2023 (arXiv 2301.02679)            one-hot operands, squared activation:     logits = (W_in[:p][a] + W_in[p:][b])² W_U

Weights and hooks carry the names that TransformerLens gives to their counterparts, and activations have a position axis of size 1
where a transformer has one per token, so that everything which looks at `blocks.0.mlp.hook_post` looks at these too.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from ..frozen import Frozen
from ..tasks import Task
from .hooked_transformer import Weights, Width, deprecation_silenced, fits

if TYPE_CHECKING:
    from transformer_lens.hook_points import HookedRootModule

Embedding = Literal["separate", "shared", "one_hot"]


class MLPConfig(Frozen):
    """A multilayer perceptron of one hidden layer. Elements and answers come from the task."""

    kind: Literal["mlp"] = "mlp"
    embedding: Embedding = "separate"
    """`separate`: one table for each operand; `shared`: one for both; `one_hot`: none, W_in reads the operands themselves."""
    d_model: Width = 128
    """The width of an operand's embedding; without meaning for one_hot."""
    d_mlp: Width = 512
    act_fn: Literal["relu", "gelu", "square"] = "relu"
    d_out: Width | None = None
    """The width between W_out and W_U; absent: the neurons are unembedded directly, without a W_out."""
    biases: bool = False
    d_vocab_out: Width | None = None
    """The number of logits; absent: one for each answer."""

    yes_or_no = frozenset({"biases"})

    @property
    def n_layers(self) -> int:
        """1."""
        return 1

    def n_logits(self, task: Task) -> int:
        """The number of logits for this task."""
        return self.d_vocab_out or task.n_answers


def mlp_shapes(config: MLPConfig, task: Task) -> dict[str, tuple[int, ...]]:
    """The shape of every parameter, in the order of the computation."""
    d, d_mlp, n_logits = config.d_model, config.d_mlp, config.n_logits(task)
    embeddings: dict[Embedding, dict[str, tuple[int, ...]]] = {
        "separate": {"embed_a.W_E": (task.d_vocab, d), "embed_b.W_E": (task.d_vocab, d)},
        "shared": {"embed.W_E": (task.d_vocab, d)},
        "one_hot": {},
    }
    shapes = dict(embeddings[config.embedding])
    shapes["blocks.0.mlp.W_in"] = (2 * (task.d_vocab if config.embedding == "one_hot" else d), d_mlp)
    if config.biases:
        shapes["blocks.0.mlp.b_in"] = (d_mlp,)
    if config.d_out:
        shapes["blocks.0.mlp.W_out"] = (d_mlp, config.d_out)
        if config.biases:
            shapes["blocks.0.mlp.b_out"] = (config.d_out,)
    shapes["unembed.W_U"] = (config.d_out or d_mlp, n_logits)
    if config.biases:
        shapes["unembed.b_U"] = (n_logits,)
    return shapes


def hooked_mlp(config: MLPConfig, task: Task, weights: Weights, dtype: torch.dtype = torch.float32) -> HookedRootModule:
    """The network in evaluation mode, every hook point live: hook_embed [n, 1, 2 d_model], then those of blocks.0.mlp, then hook_logits.

    Called with tokens [n, pos] it gives logits [n, 1, answers].
    """
    fits(weights, mlp_shapes(config, task))
    with deprecation_silenced():
        from transformer_lens import HookedRootModule
        from transformer_lens.hook_points import HookPoint

    activation: dict[str, Callable[[Tensor], Tensor]] = {"relu": F.relu, "gelu": F.gelu, "square": torch.square}
    at_a, at_b = (task.tokens.words.index(word) for word in "ab")

    class Parameters(torch.nn.Module):
        """The parameters whose names begin with a prefix, and hook points."""

        def __init__(self, prefix: str, *hooks: str) -> None:
            super().__init__()
            for name, weight in weights.items():
                head, _, last = name.rpartition(".")
                if head == prefix:
                    self.register_parameter(last, torch.nn.Parameter(weight.to(dtype).clone()))
            for hook in hooks:
                self.add_module(hook, HookPoint())

    class HookedMLP(HookedRootModule):  # type: ignore[misc, unused-ignore]  # imported inside a function
        def __init__(self) -> None:
            super().__init__()
            self.cfg = SimpleNamespace(
                n_layers=1, n_ctx=task.n_ctx, d_vocab=task.d_vocab, d_vocab_out=config.n_logits(task), d_mlp=config.d_mlp, attn_only=False
            )
            self.embed_a: Any = Parameters("embed_a")
            self.embed_b: Any = Parameters("embed_b")
            self.embed: Any = Parameters("embed")
            self.hook_embed = HookPoint()
            block: Any = torch.nn.Module()
            block.mlp = Parameters("blocks.0.mlp", "hook_pre", "hook_post")
            block.hook_mlp_out = HookPoint()
            self.blocks = torch.nn.ModuleList([block])
            self.unembed: Any = Parameters("unembed")
            self.hook_logits = HookPoint()
            self.setup()

        def forward(self, tokens: Int[Tensor, "n pos"]) -> Float[Tensor, "n 1 classes"]:
            a, b = tokens[:, at_a], tokens[:, at_b]
            block: Any = self.blocks[0]
            mlp = block.mlp
            if config.embedding == "one_hot":
                w_a, w_b = mlp.W_in.chunk(2)
                before = (F.embedding(a, w_a) + F.embedding(b, w_b))[:, None]
            else:
                tables = [self.embed.W_E] * 2 if config.embedding == "shared" else [self.embed_a.W_E, self.embed_b.W_E]
                embedded = torch.cat([F.embedding(x, table) for x, table in zip((a, b), tables, strict=True)], dim=1)
                before = self.hook_embed(embedded[:, None]) @ mlp.W_in
            if config.biases:
                before = before + mlp.b_in
            neurons = mlp.hook_post(activation[config.act_fn](mlp.hook_pre(before)))
            out = neurons
            if config.d_out:
                out = neurons @ mlp.W_out + (mlp.b_out if config.biases else 0)
            logits: Tensor = block.hook_mlp_out(out) @ self.unembed.W_U
            if config.biases:
                logits = logits + self.unembed.b_U
            hooked: Tensor = self.hook_logits(logits)
            return hooked

    return HookedMLP().eval()
