"""A transformer's logits where answers are read, exactly those of HookedTransformer, without the work that
cannot reach them, and the activations at its hooks where the answer is read.

In the last layer queries, attention output and MLP are computed at those positions alone; and in the first
layer keys, values and queries depend on (token, position) only, so each is computed once per distinct pair.
Embedding look-ups go through `torch.nn.functional.embedding`, whose backward pass adds in a fixed order at
any number of threads (that of `W_E[tokens]` does not).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from ..tasks import Reads
from .base import Block, Weights

if TYPE_CHECKING:
    from .transformer import ModelConfig

_EPS = 1e-5  # TransformerLens's default

Edit = Callable[[str, Tensor], Tensor]
"""What is put in the place of the activation at a hook, by the name of the hook."""
HOOKS = (
    "hook_resid_pre", "attn.hook_attn_scores", "attn.hook_pattern", "attn.hook_z", "hook_attn_out",
    "hook_resid_mid", "mlp.hook_pre", "mlp.hook_post", "hook_mlp_out", "hook_resid_post",
)  # fmt: skip
"""The hooks of a layer that go through an `Edit`; without an MLP there is none in it and none before it."""


def transformer_logits(
    weights: Weights,
    tokens: Int[Tensor, "n pos"],
    config: ModelConfig,
    reads: Reads,
    seen: dict[str, Tensor] | None = None,
    edit: Edit | None = None,
    drop: Callable[[Tensor], Tensor] | None = None,
) -> Float[Tensor, "n *answer classes"]:
    """Logits at the positions of the answers of each example, differentiable in `weights`.

    What is computed there on the way, patterns (with the answer's position as query) and activations of the
    neurons, is put into `seen` under the names of its hooks. What stands at the hooks named `HOOKS` of each
    layer goes through `edit`, laid out as in HookedTransformer; in the last layer it has the positions of the
    answers alone. `drop` is what training does by chance to the embedded tokens, to patterns and to what each
    part adds to the stream: nothing is then the same for two examples, and is computed for each.
    """
    n_ctx, d_vocab = tokens.shape[1], len(weights["embed.W_E"])
    answers = reads.positions
    asked: slice | list[int] = slice(n_ctx - 1, None) if answers == (n_ctx - 1,) else list(answers)
    blocks = config.blocks(reads)
    table = (weights["embed.W_E"] + weights["pos_embed.W_pos"][:n_ctx, None]).flatten(0, 1)
    places = torch.arange(n_ctx, device=tokens.device)
    rows = tokens + places * d_vocab
    residual = None  # [n, query positions, d_model] once the first layer has been left
    if drop is None:
        drop = _kept
    else:
        residual = drop(F.embedding(rows, table))
    for block in blocks:
        at, through = block.prefix, _unchanged if edit is None else partial(_through, edit, block)
        queries = asked if block is blocks[-1] else slice(None)
        if residual is None:
            normed = _norm(table, weights, f"{at}.ln1", config)
            q, k, v = (_heads(normed, weights, at, letter) for letter in "QKV")
            q, k, v = F.embedding(rows[:, queries], q), F.embedding(rows, k), F.embedding(rows, v)
            stream = through("hook_resid_pre", F.embedding(rows[:, queries], table))
        else:
            # Keys and values read all positions of it: it is changed at all of them before.
            residual = through("hook_resid_pre", residual)
            normed = _norm(residual, weights, f"{at}.ln1", config)
            q = _heads(normed[:, queries], weights, at, "Q")
            k, v = (_heads(normed, weights, at, letter) for letter in "KV")
            stream = residual[:, queries]
        pattern = drop(_pattern(q, k, places[queries], config, through))
        values = v.unflatten(-1, (config.n_heads, config.d_head))[:, None]
        z = through("attn.hook_z", (pattern[..., None] * values).sum(2)).flatten(-2)
        out = z @ weights[f"{at}.attn.W_O"].flatten(0, 1) + weights[f"{at}.attn.b_O"]
        stream = stream + drop(through("hook_attn_out", out))
        if block.d_mlp:
            stream = through("hook_resid_mid", stream)
            normed = _norm(stream, weights, f"{at}.ln2", config)
            before = normed @ weights[f"{at}.mlp.W_in"] + weights[f"{at}.mlp.b_in"]
            hidden = through("mlp.hook_post", ACTIVATIONS[config.act_fn](through("mlp.hook_pre", before)))
            out = hidden @ weights[f"{at}.mlp.W_out"] + weights[f"{at}.mlp.b_out"]
            stream = stream + drop(through("hook_mlp_out", out))
        if seen is not None:
            of_answers = slice(None) if block is blocks[-1] else asked
            seen[block.name("attn.hook_pattern")] = _alone(pattern[:, of_answers].transpose(2, 3))
            if block.d_mlp:
                seen[block.name("mlp.hook_post")] = _alone(hidden[:, of_answers])
        residual = through("hook_resid_post", stream)
    assert residual is not None
    final = _alone(residual)
    final = _norm(final, weights, "ln_final", config) if config.is_normalised else final
    return final @ weights["unembed.W_U"] + weights["unembed.b_U"]


def _unchanged(name: str, x: Tensor) -> Tensor:
    return x


def _kept(x: Tensor) -> Tensor:
    return x


def _through(edit: Edit, block: Block, name: str, x: Tensor) -> Tensor:
    return edit(block.name(name), x)


def _alone(x: Float[Tensor, "n answer *rest"]) -> Float[Tensor, "n *answer_and_rest"]:
    """Without the axis of the answers, where there is one answer."""
    return x.squeeze(1) if x.shape[1] == 1 else x


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu, "gelu": F.gelu, "gelu_new": partial(F.gelu, approximate="tanh"), "silu": F.silu,
}  # fmt: skip


def _norm(
    x: Float[Tensor, "... d_model"], weights: Weights, at: str, config: ModelConfig
) -> Float[Tensor, "... d_model"]:
    if config.normalization == "none":
        return x
    if config.normalization.startswith("LN"):
        x = x - x.mean(-1, keepdim=True)
    x = x / (x.square().mean(-1, keepdim=True) + _EPS).sqrt()
    if config.normalization == "LN":
        return x * weights[f"{at}.w"] + weights[f"{at}.b"]
    return x * weights[f"{at}.w"] if config.normalization == "RMS" else x


def _heads(
    x: Float[Tensor, "... d_model"], weights: Weights, at: str, letter: str
) -> Float[Tensor, "... head_width"]:
    """x W + b for all heads side by side."""
    matrix = weights[f"{at}.attn.W_{letter}"]
    return x @ matrix.transpose(0, 1).flatten(1) + weights[f"{at}.attn.b_{letter}"].flatten()


def _pattern(
    q: Float[Tensor, "n query head_width"],
    k: Float[Tensor, "n key head_width"],
    places: Int[Tensor, "query"],
    config: ModelConfig,
    through: Edit,
) -> Float[Tensor, "n query key head"]:
    """How much the queries at these places attend to each position."""
    q, k = (x.unflatten(-1, (config.n_heads, config.d_head)) for x in (q, k))
    # Sums over head dimensions and over the few positions are written out: as matrix products they would be
    # thousands of tiny ones.
    scores = (q[:, :, None] * k[:, None]).sum(-1) / math.sqrt(config.d_head)
    allowed = torch.ones(scores.shape[1:3], dtype=torch.bool, device=q.device)
    if config.attention_dir == "causal":
        allowed = torch.arange(scores.shape[2], device=q.device) <= places[:, None]
        scores = scores.masked_fill(~allowed[..., None], -torch.inf)
    scores = through("attn.hook_attn_scores", scores.movedim(3, 1)).movedim(1, 3)
    pattern = scores.softmax(2)
    if (alpha := config.attention_mixing) != 1:
        pattern = alpha * pattern + (1 - alpha) * allowed[..., None].to(pattern.dtype)
    return through("attn.hook_pattern", pattern.movedim(3, 1)).movedim(1, 3)
