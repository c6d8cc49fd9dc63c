"""Transformers: shapes, initial weights, and the `transformer_lens.HookedTransformer` of them.

Names and shapes of the weights are TransformerLens's, and are known here without importing it, so that
training starts at once; `ModelConfig.hooked` alone does import it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cached_property, partial
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, get_args

import torch
from jaxtyping import Float, Int
from pydantic import BeforeValidator, Field, model_validator
from torch import Tensor

from ..errors import UsageError
from ..frozen import checked
from ..tasks import Reads
from .base import (
    Block,
    NetworkConfig,
    Shapes,
    Weights,
    Width,
    all_or_none,
    deprecation_silenced,
    fits,
    is_bias,
    kind,
    lens_classes,
    none_if_zero,
    refuse_odd_heads,
)
from .folded import Folding
from .forward import HOOKS, Edit, transformer_logits
from .initial import NATIVE, RECIPES
from .one_layer import OneLayer

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer, HookedTransformerConfig

    from .exported import Exported

Init = Literal[
    "nanda", "transformer_lens", "xavier_uniform", "xavier_normal", "kaiming_uniform", "kaiming_normal",
    "native_gpt2", "native_xavier_uniform", "native_xavier_normal", "native_kaiming_uniform",
    "native_kaiming_normal",
]  # fmt: skip
"""The recipes of initial weights; TransformerLens calls its own "gpt2", which is taken for it here too."""
_NAMED_ALIKE = ("n_layers", "d_model", "n_heads", "d_head", "attention_dir")
"""The keys that a HookedTransformer's own configuration has too."""


@kind
class ModelConfig(NetworkConfig):
    """A HookedTransformer. Vocabulary and context come from the task."""

    kind: Literal["transformer"] = "transformer"
    n_layers: int = Field(1, ge=1, le=64)
    d_model: Width = 128
    n_heads: Width = 4
    d_head: Width = Field(default_factory=lambda sizes: max(1, sizes["d_model"] // sizes["n_heads"]))
    """By default d_model / n_heads."""
    d_mlp: int = Field(default_factory=lambda sizes: 4 * sizes["d_model"], ge=0, le=1 << 22)
    """By default 4 d_model; 0 leaves the MLPs out."""
    act_fn: Literal["relu", "gelu", "gelu_new", "silu"] = "relu"
    normalization: Annotated[
        Literal["none", "LN", "LNPre", "RMS", "RMSPre"],
        BeforeValidator(lambda x: "none" if x in (None, "None") else x),
    ] = "none"
    """None, as TransformerLens has it, is "none"."""
    final_norm: bool | None = None
    """Whether what leaves the last layer is normalised too, where the layers are. Absent: yes."""
    attention_dir: Literal["causal", "bidirectional"] = "causal"
    attention_mixing: float = Field(1.0, ge=0, le=1)
    """alpha: the attention pattern is alpha softmax + (1 - alpha); 0 is constant attention (Zhong et al.
    2023, section 4)."""
    train_biases: Annotated[Literal["none", "mlp", "all"], BeforeValidator(all_or_none)] = "none"
    """Which biases are trained; the others stay 0. The paper's model has those of the MLP, the Grokking_Demo
    none."""
    dropout: Annotated[float | None, Field(gt=0, lt=1), BeforeValidator(none_if_zero)] = None
    """The share of numbers that an update sets to 0 by chance, the others being divided by 1 - it, as in
    GPT-2: of the embedded tokens, of attention patterns, and of what attention and MLP add to the stream.
    Evaluations and everything that is analysed are without. Absent: 0."""
    tied: Annotated[bool | None, BeforeValidator(none_if_zero)] = None
    """Whether W_U is W_E transposed, one parameter: logit i reads the embedding of token i, and there are as
    many logits as tokens. Absent: no."""
    init: Annotated[Init, BeforeValidator(lambda x: "transformer_lens" if x == "gpt2" else x)] = "nanda"
    init_scale: float = Field(1.0, gt=0, le=1e6)
    """Every initial weight is multiplied by this."""

    yes_or_no = frozenset({"train_biases", "tied", "final_norm"})
    axes: ClassVar[Mapping[str, str]] = {
        "embed.W_E": "vocab d_model",
        "pos_embed.W_pos": "pos d_model",
        **{f"blocks.{{layer}}.{norm}.{key}": "d_model" for norm in ("ln1", "ln2") for key in "wb"},
        **{f"blocks.{{layer}}.attn.W_{letter}": "head d_model d_head" for letter in "QKV"},
        **{f"blocks.{{layer}}.attn.b_{letter}": "head d_head" for letter in "QKV"},
        "blocks.{layer}.attn.W_O": "head d_head d_model",
        "blocks.{layer}.attn.b_O": "d_model",
        "blocks.{layer}.mlp.W_in": "d_model d_mlp",
        "blocks.{layer}.mlp.b_in": "d_mlp",
        "blocks.{layer}.mlp.W_out": "d_mlp d_model",
        "blocks.{layer}.mlp.b_out": "d_model",
        "ln_final.w": "d_model",
        "ln_final.b": "d_model",
        "unembed.W_U": "d_model out",
        "unembed.b_U": "out",
    }
    folds_where = "only one layer of ReLU neurons without normalisation folds into tables"

    @model_validator(mode="after")
    def _heads_divide_the_width(self) -> ModelConfig:
        refuse_odd_heads(self)
        return self

    @classmethod
    def of_hooked(cls, cfg: Any) -> ModelConfig:
        """The configuration of a HookedTransformer, by its own `cfg`.

        Raises:
            AttributeError: it is none of a HookedTransformer.
            ConfigError: it has an activation, normalisation or width that is not known here.
        """
        return checked(
            cls,
            {
                **{name: getattr(cfg, name) for name in _NAMED_ALIKE},
                "d_mlp": 0 if cfg.attn_only else cfg.d_mlp,
                "act_fn": cfg.act_fn or "relu",
                "normalization": cfg.normalization_type or "none",
                "train_biases": "all",
                "d_vocab_out": cfg.d_vocab_out,
            },
            at="model",
        )

    def __str__(self) -> str:
        layers = "1 layer" if self.n_layers == 1 else f"{self.n_layers} layers"
        what = f"{layers}, d_model {self.d_model}, {self.n_heads} heads of {self.d_head}"
        without = "" if self._norm_at_the_end or not self._normalises else ", none at the end"
        what = f"{what}, d_mlp {self.d_mlp}, {self.act_fn}, normalisation {self.normalization}{without}"
        return what + ", W_U = W_E^T" * bool(self.tied) + f", dropout {self.dropout}" * bool(self.dropout)

    def shapes(self, reads: Reads) -> Shapes:
        """The shape of every parameter under its TransformerLens name, in the order of the computation.

        Raises:
            UsageError: the task's examples are no tokens, or it needs more logits.
        """
        if not reads.d_vocab:
            raise UsageError(f"model.kind: a {self.kind} reads tokens, and {reads.task} has none")
        d, n_logits = self.d_model, self.n_logits(reads)
        shapes: Shapes = {"embed.W_E": (reads.d_vocab, d), "pos_embed.W_pos": (reads.n_ctx, d)}
        shapes |= self.shapes_of_layers()
        return shapes | {"unembed.W_U": (d, n_logits), "unembed.b_U": (n_logits,)}

    def shapes_of_layers(self) -> Shapes:
        """The shape of every parameter of the layers, and of the normalisation behind them."""
        d, heads, d_head, d_mlp = self.d_model, self.n_heads, self.d_head, self.d_mlp
        norm = dict.fromkeys({"LN": "wb", "RMS": "w"}.get(self.normalization, ""), (d,))
        shapes: Shapes = {}
        for layer in range(self.n_layers):
            at = f"blocks.{layer}"
            shapes |= {f"{at}.ln1.{key}": shape for key, shape in norm.items()}
            for letter in "KQV":
                shapes[f"{at}.attn.W_{letter}"] = (heads, d, d_head)
                shapes[f"{at}.attn.b_{letter}"] = (heads, d_head)
            shapes |= {f"{at}.attn.W_O": (heads, d_head, d), f"{at}.attn.b_O": (d,)}
            if d_mlp:
                shapes |= {f"{at}.ln2.{key}": shape for key, shape in norm.items()}
                shapes |= {f"{at}.mlp.W_in": (d, d_mlp), f"{at}.mlp.b_in": (d_mlp,)}
                shapes |= {f"{at}.mlp.W_out": (d_mlp, d), f"{at}.mlp.b_out": (d,)}
        return shapes | (
            {f"ln_final.{key}": shape for key, shape in norm.items()} if self._norm_at_the_end else {}
        )

    def n_logits(self, reads: Reads) -> int:
        needed = super().n_logits(reads)
        if not self.tied:
            return needed
        if needed > reads.d_vocab or self.d_vocab_out not in (None, reads.d_vocab):
            what = f"W_U is W_E transposed, so there are {reads.d_vocab} logits, one of each token"
            raise UsageError(f"model.tied: {what}, and {needed} are asked for: leave it out")
        return reads.d_vocab

    @property
    def ties(self) -> Mapping[str, str]:
        return {"unembed.W_U": "embed.W_E"} if self.tied else {}

    @property
    def drops(self) -> float:
        return self.dropout or 0.0

    def trains(self, name: str) -> bool:
        if name in self.ties:
            return False
        mlp = self.train_biases == "mlp" and ".mlp." in name
        return mlp or self.train_biases == "all" or not is_bias(name)

    def initial_weights(self, reads: Reads, seed: int) -> Weights:
        """Fresh float32 weights on the CPU, from a generator of their own.

        `nanda`: N(0, 1) / sqrt(d_model), W_U / sqrt(number of logits); drawn in the order and the orientation
        of the released code of Nanda et al. 2023, so that a seed gives the very weights that it gives there
        after `torch.manual_seed(seed)`. `transformer_lens`: N(0, 0.8 / sqrt(d_model)), as `HookedTransformer`
        draws them for `cfg.seed = seed`. Its other recipes and those of TransformerLens 4: initial.py.
        """
        generator = torch.Generator().manual_seed(seed)
        shapes = self.shapes(reads)
        weights = {name: torch.full(shape, float(name.endswith(".w"))) for name, shape in shapes.items()}
        for name in self._drawing_order():
            if name not in self.ties:
                weights[name] = self._drawn(name, shapes[name], generator) * self.init_scale
        return {name: weight.contiguous() for name, weight in self.tie(weights).items()}

    def _drawn(self, name: str, shape: tuple[int, ...], generator: torch.Generator) -> Float[Tensor, "..."]:
        """One matrix; the paper's is drawn as in the released code and turned into TransformerLens's."""
        randn = partial(torch.randn, generator=generator, dtype=torch.float32)
        scale, last = math.sqrt(self.d_model), name.rsplit(".", 1)[-1]
        if (recipe := RECIPES.get(self.init)) is not None:
            return recipe(name, shape, generator, self.d_model, self.n_layers)
        if self.init == "transformer_lens":
            return torch.empty(shape, dtype=torch.float32).normal_(std=0.8 / scale, generator=generator)
        if last in ("W_pos", "W_U"):
            return randn(shape) / math.sqrt(shape[1])
        if last == "W_O":
            return (randn((self.d_model, shape[0] * shape[1])) / scale).T.reshape(shape).contiguous()
        return (randn((*shape[:-2], shape[-1], shape[-2])) / scale).mT.contiguous()

    def _drawing_order(self) -> list[str]:
        """The names of the random parameters, in the order in which the recipe draws them."""
        order = "KQVO" if self.init == "nanda" else "QKVO" if self.init.startswith(NATIVE) else "QOKV"
        inside = [f"attn.W_{letter}" for letter in order]
        inside += ["mlp.W_in", "mlp.W_out"] if self.d_mlp else []
        blocks = [f"blocks.{layer}.{name}" for layer in range(self.n_layers) for name in inside]
        return ["embed.W_E", "pos_embed.W_pos", *blocks, "unembed.W_U"]

    def logits(
        self, weights: Weights, inputs: Int[Tensor, "n pos"], reads: Reads, seen: Weights | None = None
    ) -> Float[Tensor, "n *answer classes"]:
        return transformer_logits(weights, inputs, self, reads, seen)

    def logits_dropped(
        self,
        weights: Weights,
        inputs: Int[Tensor, "n pos"],
        reads: Reads,
        drop: Callable[[Tensor], Tensor],
    ) -> Float[Tensor, "n *answer classes"]:
        return transformer_logits(weights, inputs, self, reads, drop=drop)

    def logits_through(
        self, weights: Weights, inputs: Int[Tensor, "n pos"], reads: Reads, edit: Edit
    ) -> Float[Tensor, "n *answer classes"]:
        return transformer_logits(weights, inputs, self, reads, edit=edit)

    def passes(self, hook: str, changed: bool) -> bool:
        part = hook.removeprefix("blocks.").partition(".")[2]
        if part not in HOOKS or hook not in self.hook_names or (part == "hook_mlp_out" and not self.d_mlp):
            return False
        # What enters the first layer is read by its keys and values, which are made of (token, position).
        return not (changed and hook == "blocks.0.hook_resid_pre")

    @cached_property
    def hook_names(self) -> tuple[str, ...]:
        of_mlp = self.d_mlp > 0
        names = ["hook_embed", "hook_pos_embed"]
        for layer in range(self.n_layers):
            norms = (["ln1", "ln2"] if of_mlp else ["ln1"]) if self._normalises else []
            parts = [f"{norm}.hook_{what}" for norm in norms for what in ("scale", "normalized")]
            parts += [
                f"attn.hook_{what}" for what in ("k", "q", "v", "z", "attn_scores", "pattern", "result")
            ]
            parts += ["mlp.hook_pre", "mlp.hook_post"] if of_mlp else []
            parts += ["hook_attn_in", *(f"hook_{letter}_input" for letter in "qkv"), "hook_mlp_in"]
            parts += ["hook_attn_out", "hook_mlp_out", "hook_resid_pre"]
            parts += ["hook_resid_mid"] if of_mlp else []
            names += [f"blocks.{layer}.{part}" for part in (*parts, "hook_resid_post")]
        if self.is_normalised:
            names += ["ln_final.hook_scale", "ln_final.hook_normalized"]
        return (*names, "unembed.hook_in", "unembed.hook_out")

    def folding(self, inputs: Int[Tensor, "n pos"], reads: Reads) -> Folding | None:
        """How the network folds into tables on these examples: where there is one layer of ReLU neurons
        without normalisation, and one answer at the last position, where every example has the same token.
        Else None."""
        at_the_end = reads.positions == (reads.n_ctx - 1,) and bool((inputs[:, -1] == inputs[0, -1]).all())
        return Folding(inputs, reads, self) if self._is_one_layer and at_the_end else None

    def one_layer(self, reads: Reads) -> OneLayer | None:
        return OneLayer.of(self, reads) if self._is_one_layer else None

    @property
    def _is_one_layer(self) -> bool:
        """Whether there is one layer, of ReLU neurons without normalisation."""
        return self.n_layers == 1 and not self._normalises and self.d_mlp > 0 and self.act_fn == "relu"

    def blocks(self, reads: Reads) -> tuple[Block, ...]:
        # Not read off the shapes: every forward asks.
        return tuple(Block(f"blocks.{layer}", self.n_heads, self.d_mlp) for layer in range(self.n_layers))

    def numbers(self, reads: Reads) -> int:
        """About how many numbers training holds of one example at a time: keys, values and queries at every
        position, the stream and the neurons at one."""
        at_all = self.n_heads * self.d_head * reads.n_ctx
        return super().numbers(reads) + self.n_layers * 6 * (self.d_model + at_all)

    @property
    def _normalises(self) -> bool:
        """Whether there is a normalisation before every part of a layer."""
        return self.normalization != "none"

    @property
    def _norm_at_the_end(self) -> bool:
        return self.final_norm is not False

    @property
    def is_normalised(self) -> bool:
        """Whether there is one before the unembedding too."""
        return self._normalises and self._norm_at_the_end

    @classmethod
    def can_lack(cls, name: str) -> bool:
        """Whether there are transformers without this parameter: without biases, normalisation or MLPs."""
        return super().can_lack(name) or re.search(r"\.(ln1|ln2|mlp)\.|^ln_final\.", name) is not None

    @classmethod
    def shown(cls, names: Collection[str], sizes: Mapping[str, int]) -> dict[str, Any]:
        layers = [int(name.split(".")[1]) for name in names if name.startswith("blocks.")]
        biases = [name for name in names if is_bias(name)]
        only_mlps = all(".mlp." in name for name in biases)
        return super().shown(names, sizes) | {
            "n_layers": 1 + max(layers, default=0),
            "n_heads": sizes["head"],
            "d_mlp": sizes.get("d_mlp", 0),
            "train_biases": "none" if not biases else "mlp" if only_mlps else "all",
            "normalization": "LN" if _any_is(names, "b") else "RMS" if _any_is(names, "w") else "none",
            "final_norm": None if "ln_final.w" in names or not _any_is(names, "w") else False,
        }

    def unseen(self) -> dict[str, Sequence[Any]]:
        """What weights do not show: activation, direction and kind of attention, and the normalisation as far
        as it has no weights. Each with the values that it may have."""
        fields = type(self).model_fields
        alike = {"none": ["none", "LNPre", "RMSPre"], "RMS": ["RMS", "LN"]}
        return {
            "act_fn": get_args(fields["act_fn"].annotation) if self.d_mlp else (),
            "normalization": alike.get(self.normalization, []),
            "attention_dir": get_args(fields["attention_dir"].annotation) if self.n_layers > 1 else (),
            "attention_mixing": [1.0, 0.0],
        }

    def hooked(self, reads: Reads, weights: Weights, dtype: torch.dtype = torch.float32) -> HookedTransformer:
        """The network in evaluation mode, hooks live; attention mixing is one, on `hook_pattern`."""
        fits(weights, self.shapes(reads))
        with deprecation_silenced():
            network, _ = lens_classes()
            model = network(self.lens(reads.n_ctx, reads.d_vocab, self.n_logits(reads), dtype))
            if not self._norm_at_the_end:
                model.ln_final = torch.nn.Identity()
                model.setup()
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.copy_(weights[name])
                parameter.requires_grad_(self.trains(name))
        if self.attention_mixing != 1:
            _mix_patterns(model, self.attention_mixing, causal=self.attention_dir == "causal")
        return model.eval()

    def lens(self, n_ctx: int, d_vocab: int, d_vocab_out: int, dtype: torch.dtype) -> HookedTransformerConfig:
        """TransformerLens's own configuration of the network."""
        _, lens = lens_classes()
        return lens(**self._lens_settings(n_ctx, d_vocab, d_vocab_out), device="cpu", dtype=dtype)

    def _lens_settings(self, n_ctx: int, d_vocab: int, d_vocab_out: int) -> dict[str, Any]:
        return {
            **self.model_dump(include=set(_NAMED_ALIKE)),
            "n_ctx": n_ctx,
            "d_mlp": self.d_mlp or None,
            "attn_only": self.d_mlp == 0,
            "act_fn": self.act_fn,
            "d_vocab": d_vocab,
            "d_vocab_out": d_vocab_out,
            "normalization_type": None if self.normalization == "none" else self.normalization,
            "init_weights": False,
        }

    def lens_settings(self, reads: Reads) -> dict[str, Any]:
        """What `HookedTransformerConfig.from_dict` takes for the network: plain JSON."""
        return self._lens_settings(reads.n_ctx, reads.d_vocab, self.n_logits(reads))

    def exported(self, to: str, reads: Reads, weights: Weights) -> Exported:
        from .exported import of_lens, of_transformers

        return {"transformer-lens": of_lens, "huggingface": of_transformers}[to](self, reads, weights)


def _any_is(names: Collection[str], key: str) -> bool:
    """Whether any parameter of that name is one of a normalisation."""
    return any(re.search(rf"(^|\.)ln(1|2|_final)\.{key}$", name) for name in names)


def _mix_patterns(model: HookedTransformer, alpha: float, causal: bool) -> None:
    def mix(tensor: Float[Tensor, "n head query key"], *, hook: Any) -> Float[Tensor, "n head query key"]:
        constant = torch.ones_like(tensor[0, 0])
        return alpha * tensor + (1 - alpha) * (constant.tril() if causal else constant)

    for block in model.blocks:
        block.attn.hook_pattern.add_perma_hook(mix)
