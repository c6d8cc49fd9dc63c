"""What `transformer_lens.HookedTransformer` is, for TransformerLens 4, which no longer has it: the same
parameters, hooks, switches and numbers, on the HookedRootModule that it kept.

Each step is computed by the very operations of TransformerLens 3, so that logits, activations and gradients
are the same bits. A hook that is switched off, as `blocks.0.attn.hook_result` is before
`set_use_attn_result(True)`, refuses what is put on it by name: it would do nothing, and nobody would be told.

Leaves out what a network of a task has no use for: tokenizers, generation, keys and values kept between
passes, other positions than learned ones, processing of weights. Imported by functions alone, as it imports
transformer_lens.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

import einops
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from transformer_lens import ActivationCache, FactoredMatrix, HookedRootModule
from transformer_lens.hook_points import HookPoint

from ..errors import UsageError
from .forward import ACTIVATIONS

_SWITCHES = {
    "attn.hook_result": "use_attn_result",
    "hook_attn_in": "use_attn_in",
    "hook_q_input": "use_split_qkv_input",
    "hook_k_input": "use_split_qkv_input",
    "hook_v_input": "use_split_qkv_input",
    "hook_mlp_in": "use_hook_mlp_in",
}
"""The hooks of a layer that are computed on demand, and the setting that asks for each."""
_AT_THE_ENDS = {"W_E": "embed", "W_pos": "pos_embed", "W_U": "unembed", "b_U": "unembed"}
_IN_LAYERS = {
    **{f"{kind}_{letter}": "attn" for kind in "Wb" for letter in "QKVO"},
    **{f"{kind}_{letter}": "mlp" for kind in "Wb" for letter in ("in", "out")},
}
"""Which module has the weights of a name."""
_WIDE = (torch.float32, torch.float64)
"""Normalisation computes in these; narrower numbers are made float32 for it."""

Stream = Float[Tensor, "n pos d_model"]
PerHead = Float[Tensor, "n pos head d_model"]
"""The stream as each head reads it."""


def _empty(cfg: Any, *shape: int) -> nn.Parameter:
    return nn.Parameter(torch.empty(shape, dtype=cfg.dtype))


def _zeros(cfg: Any, *shape: int) -> nn.Parameter:
    return nn.Parameter(torch.zeros(shape, dtype=cfg.dtype))


def _gelu_new(x: Float[Tensor, "... d_mlp"]) -> Float[Tensor, "... d_mlp"]:
    # F.gelu(approximate="tanh") is another rounding of it.
    return 0.5 * x * (1.0 + torch.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * torch.pow(x, 3.0))))


_ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {**ACTIVATIONS, "gelu_new": _gelu_new}


class Part(nn.Module):
    """A part of the network, whose parameters and hooks are reached by name."""

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...


class Embed(Part):
    """Tokens -> the stream."""

    def __init__(self, cfg: Any) -> None:
        super().__init__()
        self.W_E = _empty(cfg, cfg.d_vocab, cfg.d_model)

    def forward(self, tokens: Int[Tensor, "n pos"]) -> Stream:
        return self.W_E[tokens, :]


class PosEmbed(Part):
    """What is added for each position."""

    def __init__(self, cfg: Any) -> None:
        super().__init__()
        self.W_pos = _empty(cfg, cfg.n_ctx, cfg.d_model)

    def forward(self, tokens: Int[Tensor, "n pos"]) -> Stream:
        return self.W_pos[: tokens.shape[-1]].repeat(len(tokens), 1, 1)


class Unembed(Part):
    """The stream -> logits."""

    def __init__(self, cfg: Any) -> None:
        super().__init__()
        self.W_U = _empty(cfg, cfg.d_model, cfg.d_vocab_out)
        self.b_U = _zeros(cfg, cfg.d_vocab_out)
        self.hook_in, self.hook_out = HookPoint(), HookPoint()

    def forward(self, residual: Stream) -> Float[Tensor, "n pos d_vocab_out"]:
        return self.hook_out(F.linear(self.hook_in(residual), self.W_U.T.contiguous(), self.b_U))


class Norm(Part):
    """LN, LNPre, RMS or RMSPre: `L` takes the mean off, `Pre` has no weights of its own."""

    def __init__(self, cfg: Any) -> None:
        super().__init__()
        self.cfg = cfg
        if cfg.normalization_type in ("LN", "RMS"):
            self.w = nn.Parameter(torch.ones(cfg.d_model, dtype=cfg.dtype))
        if cfg.normalization_type == "LN":
            self.b = _zeros(cfg, cfg.d_model)
        self.hook_scale, self.hook_normalized = HookPoint(), HookPoint()

    def forward(self, x: Stream | PerHead) -> Stream | PerHead:
        kind = self.cfg.normalization_type
        x = x if self.cfg.dtype in _WIDE else x.to(torch.float32)
        if kind.startswith("LN"):
            x = x - x.mean(-1, keepdim=True)
        scale = self.hook_scale((x.pow(2).mean(-1, keepdim=True) + self.cfg.eps).sqrt())
        x = self.hook_normalized(x / scale).to(self.cfg.dtype)
        if kind == "LN":
            return x * self.w + self.b
        return x * self.w if kind == "RMS" else x


class Attention(Part):
    """All heads of a layer."""

    mask: Tensor
    IGNORE: Tensor

    def __init__(self, cfg: Any) -> None:
        super().__init__()
        self.cfg = cfg
        heads, d, d_head = cfg.n_heads, cfg.d_model, cfg.d_head
        # In the order of HookedTransformer, whose parameters are listed so.
        self.W_Q, self.W_O = _empty(cfg, heads, d, d_head), _empty(cfg, heads, d_head, d)
        self.b_Q, self.b_O = _zeros(cfg, heads, d_head), _zeros(cfg, d)
        self.W_K, self.W_V = _empty(cfg, heads, d, d_head), _empty(cfg, heads, d, d_head)
        self.b_K, self.b_V = _zeros(cfg, heads, d_head), _zeros(cfg, heads, d_head)
        # A HookedTransformer has them in its state dict; the mask is made anew at every pass.
        self.register_buffer("mask", torch.empty((0, 0), dtype=torch.bool))
        self.register_buffer("IGNORE", torch.tensor(-torch.inf))
        for name in ("k", "q", "v", "z", "attn_scores", "pattern", "result"):
            self.add_module(f"hook_{name}", HookPoint())

    def _projected(self, x: Stream | PerHead, letter: str) -> Float[Tensor, "n pos head d_head"]:
        weight, bias = getattr(self, f"W_{letter}"), getattr(self, f"b_{letter}")
        if x.ndim == 4:  # each head reads a stream of its own
            return einops.einsum(x, weight, "n pos head d, head d d_head -> n pos head d_head") + bias
        matrix = einops.rearrange(weight, "head d d_head -> (head d_head) d")
        return F.linear(x, matrix, bias.flatten()).reshape(*x.shape[:2], *bias.shape)

    def forward(self, query: Stream | PerHead, key: Stream | PerHead, value: Stream | PerHead) -> Stream:
        q = self.hook_q(self._projected(query, "Q"))
        k = self.hook_k(self._projected(key, "K"))
        v = self.hook_v(self._projected(value, "V"))
        by_head = q.transpose(1, 2) @ k.permute(0, 2, 3, 1)
        scores = by_head / math.sqrt(self.cfg.d_head)
        if self.cfg.attention_dir == "causal":
            places = torch.arange(scores.shape[-1], device=scores.device)
            scores = torch.where(places <= places[:, None], scores, self.IGNORE.to(scores.device))
        pattern = F.softmax(self.hook_attn_scores(scores), dim=-1)
        pattern = torch.where(torch.isnan(pattern), torch.zeros_like(pattern), pattern)
        pattern = self.hook_pattern(pattern).to(device=v.device, dtype=v.dtype)
        z = self.hook_z((pattern @ v.transpose(1, 2)).transpose(1, 2))
        if self.cfg.use_attn_result:
            result = self.hook_result((z.to(self.W_O.dtype)[..., None] * self.W_O).sum(-2))
            return result.sum(-2) + self.b_O
        z, matrix = z.to(self.W_O.dtype).flatten(2), self.W_O.flatten(0, 1).T.contiguous()
        if z.device.type == "mps":  # where F.linear is wrong with torch 2.8 (pytorch issue 161640)
            return torch.matmul(z, matrix.T) + self.b_O
        return F.linear(z, matrix, self.b_O)

    @property
    def OV(self) -> FactoredMatrix:
        """W_V W_O of every head."""
        return FactoredMatrix(self.W_V, self.W_O)

    @property
    def QK(self) -> FactoredMatrix:
        """W_Q W_K^T of every head."""
        return FactoredMatrix(self.W_Q, self.W_K.transpose(-2, -1))


class MLP(Part):
    """The neurons of a layer."""

    def __init__(self, cfg: Any) -> None:
        super().__init__()
        self.W_in, self.b_in = _empty(cfg, cfg.d_model, cfg.d_mlp), _zeros(cfg, cfg.d_mlp)
        self.W_out, self.b_out = _empty(cfg, cfg.d_mlp, cfg.d_model), _zeros(cfg, cfg.d_model)
        self.act_fn = _ACTIVATIONS[cfg.act_fn]
        self.hook_pre, self.hook_post = HookPoint(), HookPoint()

    def forward(self, x: Stream) -> Stream:
        before = self.hook_pre(
            torch.addmm(self.b_in, x.reshape(-1, x.shape[-1]), self.W_in).unflatten(0, x.shape[:2])
        )
        hidden = self.hook_post(self.act_fn(before))
        return torch.addmm(self.b_out, hidden.reshape(-1, hidden.shape[-1]), self.W_out).unflatten(
            0, x.shape[:2]
        )


class Block(Part):
    """A layer: attention, then neurons."""

    def __init__(self, cfg: Any) -> None:
        super().__init__()
        self.cfg = cfg
        normalised = cfg.normalization_type is not None
        self.ln1 = Norm(cfg) if normalised else nn.Identity()
        if not cfg.attn_only:
            self.ln2 = Norm(cfg) if normalised else nn.Identity()
        self.attn = Attention(cfg)
        if not cfg.attn_only:
            self.mlp = MLP(cfg)
        names = ["attn_in", "q_input", "k_input", "v_input", "mlp_in", "attn_out", "mlp_out", "resid_pre"]
        for name in [*names, *([] if cfg.attn_only else ["resid_mid"]), "resid_post"]:
            self.add_module(f"hook_{name}", HookPoint())

    def forward(self, resid_pre: Stream) -> Stream:
        def of_each_head(x: Stream) -> PerHead:
            return einops.repeat(x, "n pos d -> n pos head d", head=self.cfg.n_heads).clone()

        resid_pre = self.hook_resid_pre(resid_pre)
        read = self.hook_attn_in(of_each_head(resid_pre)) if self.cfg.use_attn_in else resid_pre
        reads = [read, read, read]
        if self.cfg.use_split_qkv_input:
            hooks = (self.hook_q_input, self.hook_k_input, self.hook_v_input)
            reads = [hook(of_each_head(resid_pre)) for hook in hooks]
        attn_out = self.hook_attn_out(self.attn(*(self.ln1(x) for x in reads)))
        if self.cfg.attn_only:
            return self.hook_resid_post(resid_pre + attn_out)
        resid_mid = self.hook_resid_mid(resid_pre + attn_out)
        mlp_in = self.hook_mlp_in(resid_mid.clone()) if self.cfg.use_hook_mlp_in else resid_mid
        mlp_out = self.hook_mlp_out(self.mlp(self.ln2(mlp_in)))
        return self.hook_resid_post(resid_mid + mlp_out)


class HookedTransformer(HookedRootModule):  # type: ignore[misc, unused-ignore]
    """A transformer with learned positions and a hook on every activation, under TransformerLens's names.

    Args:
        cfg: the widths and kinds, under the names that TransformerLens gives them: a HookedTransformerConfig
            of TransformerLens 3, a TransformerBridgeConfig of 4.
    """

    blocks: Any

    def __init__(self, cfg: Any) -> None:
        super().__init__()
        self.cfg = cfg
        self.embed, self.hook_embed = Embed(cfg), HookPoint()
        self.pos_embed, self.hook_pos_embed = PosEmbed(cfg), HookPoint()
        self.blocks = nn.ModuleList(Block(cfg) for _ in range(cfg.n_layers))
        if cfg.normalization_type is not None:
            self.ln_final = Norm(cfg)
        self.unembed = Unembed(cfg)
        if cfg.init_weights:
            self._draw_weights()
        self.setup()  # type: ignore[no-untyped-call, unused-ignore]

    def _draw_weights(self) -> None:
        """Every matrix from N(0, initializer_range²), in the order of the parameters, as HookedTransformer
        draws them; from a generator of their own where the configuration has a seed."""
        seed = self.cfg.seed
        generator = None if seed is None else torch.Generator().manual_seed(seed)
        for name, parameter in self.named_parameters():
            if "W_" in name:
                nn.init.normal_(parameter, std=self.cfg.initializer_range, generator=generator)

    def forward(
        self,
        input: Int[Tensor, "n pos"] | Int[Tensor, "pos"] | Stream,
        return_type: Literal["logits", "loss", "both"] | None = "logits",
        loss_per_token: bool = False,
        *,
        start_at_layer: int | None = None,
        stop_at_layer: int | None = None,
        tokens: Int[Tensor, "n pos"] | None = None,
    ) -> Any:
        """Logits [n, pos, classes] of rows of tokens; or the loss of the next token, or both.

        Args:
            input: tokens; with `start_at_layer` the stream that enters there.
            start_at_layer, stop_at_layer: begin before a layer, or give the stream that enters one.
            tokens: those of the loss, where `input` is a stream.
        """
        if start_at_layer is None:
            tokens = (input[None] if input.ndim == 1 else input).to(self.embed.W_E.device)
            residual = self.hook_embed(self.embed(tokens)) + self.hook_pos_embed(self.pos_embed(tokens))
        else:
            residual = input
        for block in list(self.blocks)[start_at_layer:stop_at_layer]:
            residual = block(residual)
        if stop_at_layer is not None:
            return residual
        if self.cfg.normalization_type is not None:
            residual = self.ln_final(residual)
        if return_type is None:
            return None
        logits = self.unembed(residual)
        if return_type == "logits":
            return logits
        if tokens is None:
            raise UsageError("the loss of a stream needs the tokens=... that it is of")
        loss = self.loss_fn(logits, tokens, per_token=loss_per_token)
        return loss if return_type == "loss" else (logits, loss)

    def loss_fn(
        self, logits: Float[Tensor, "n pos classes"], tokens: Int[Tensor, "n pos"], per_token: bool = False
    ) -> Float[Tensor, "..."]:
        """The cross-entropy of the next token, in nats: the mean, or [n, pos - 1]."""
        log_probs = F.log_softmax(logits, dim=-1)[:, :-1]
        losses = -log_probs.gather(-1, tokens[:, 1:, None])[..., 0]
        return losses if per_token else losses.mean()

    def run_with_cache(
        self, *args: Any, return_cache_object: bool = True, remove_batch_dim: bool = False, **options: Any
    ) -> tuple[Any, Any]:
        """What the network gives, and the activations at its hooks as an ActivationCache."""
        out, cache = super().run_with_cache(*args, remove_batch_dim=remove_batch_dim, **options)
        if not return_cache_object:
            return out, cache
        return out, ActivationCache(cache, self, has_batch_dim=not remove_batch_dim)

    def get_caching_hooks(self, *args: Any, **options: Any) -> tuple[dict[str, Tensor], list[Any], list[Any]]:
        """As HookedRootModule's, without the hooks that are switched off."""
        cache, *both = super().get_caching_hooks(*args, **options)
        forward, backward = ([(n, hook) for n, hook in hooks if not self._switch(n)] for hooks in both)
        return cache, forward, backward

    def _switch(self, name: str) -> str:
        """The setting that a hook waits for; empty where it is computed."""
        part = name.removeprefix("blocks.").partition(".")[2]
        switch = _SWITCHES.get(part, "") if name in self.hook_dict else ""
        return "" if switch and getattr(self.cfg, switch) else switch

    def is_switched_off(self, name: str) -> bool:
        """Whether nothing is computed at a hook until it is asked for."""
        return bool(self._switch(name))

    def _refuse_switched_off(self, name: str) -> None:
        if switch := self._switch(name):
            raise UsageError(f"{name} is switched off: call model.set_{switch}(True) first")

    def check_hooks_to_add(self, hook_point: HookPoint, hook_point_name: str, *_: Any, **__: Any) -> None:
        """
        Raises:
            UsageError: the hook is switched off.
        """
        self._refuse_switched_off(hook_point_name)

    def _enable_hook_with_name(self, name: str, hook: Callable[..., Any], dir: Literal["fwd", "bwd"]) -> None:
        self._refuse_switched_off(name)
        super()._enable_hook_with_name(name, hook, dir)

    def set_use_attn_result(self, use: bool) -> None:
        """Whether what each head adds to the stream is computed at `hook_result`."""
        self.cfg.use_attn_result = use

    def set_use_attn_in(self, use: bool) -> None:
        """Whether each head reads a stream of its own, at `hook_attn_in`."""
        self.cfg.use_attn_in = use

    def set_use_split_qkv_input(self, use: bool) -> None:
        """Whether queries, keys and values read streams of their own, at `hook_q_input` and so on."""
        self.cfg.use_split_qkv_input = use

    def set_use_hook_mlp_in(self, use: bool) -> None:
        """Whether what the MLP reads has a hook of its own, `hook_mlp_in`."""
        if self.cfg.attn_only:
            raise UsageError("hook_mlp_in: the network has no MLP")
        self.cfg.use_hook_mlp_in = use

    def to(self, *args: Any, **options: Any) -> HookedTransformer:
        """As torch's, and `cfg` says so, too."""
        super().to(*args, **{key: value for key, value in options.items() if key != "print_details"})
        weight = self.embed.W_E
        self.cfg.dtype, self.cfg.device = weight.dtype, str(weight.device)
        return self

    def __getattr__(self, name: str) -> Any:
        """`W_E`, `W_pos`, `W_U` and `b_U`; and of all layers, with an axis for them in front, the others."""
        if part := _AT_THE_ENDS.get(name):
            return getattr(getattr(self, part), name)
        if part := _IN_LAYERS.get(name):
            return torch.stack([getattr(getattr(block, part), name) for block in self.blocks])
        return super().__getattr__(name)

    @property
    def W_E_pos(self) -> Float[Tensor, "d_vocab_and_n_ctx d_model"]:
        """W_E, and W_pos below it."""
        return torch.cat([self.W_E, self.W_pos])

    @property
    def QK(self) -> FactoredMatrix:
        """W_Q W_K^T of every head of every layer."""
        return FactoredMatrix(self.W_Q, self.W_K.transpose(-2, -1))

    @property
    def OV(self) -> FactoredMatrix:
        """W_V W_O of every head of every layer."""
        return FactoredMatrix(self.W_V, self.W_O)

    def accumulated_bias(
        self, layer: int, mlp_input: bool = False, include_mlp_biases: bool = True
    ) -> Float[Tensor, "d_model"]:
        """What the biases of all layers before one have put into the stream."""
        total = torch.zeros_like(self.blocks[0].attn.b_O)
        for block in list(self.blocks)[:layer]:
            total = total + block.attn.b_O
            if include_mlp_biases and not self.cfg.attn_only:
                total = total + block.mlp.b_out
        return total + self.blocks[layer].attn.b_O if mlp_input else total

    def tokens_to_residual_directions(self, tokens: Int[Tensor, "..."] | int) -> Float[Tensor, "... d_model"]:
        """The direction of the stream that each logit reads."""
        if isinstance(tokens, Tensor) and tokens.numel() > 1:
            return self.W_U[:, tokens].movedim(0, -1)
        return self.W_U[:, int(tokens)]

    def all_head_labels(self) -> list[str]:
        """`L0H0`, `L0H1` and so on."""
        return [f"L{layer}H{head}" for layer in range(self.cfg.n_layers) for head in range(self.cfg.n_heads)]
