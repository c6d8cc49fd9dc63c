"""Configuration and weights -> `transformer_lens.HookedTransformer`.

Names and shapes of the weights are TransformerLens's, and are known here without importing it, so that
training starts at once; `hooked_transformer` is the only function that does import it.
"""

from __future__ import annotations

import copy
import math
import warnings
from typing import TYPE_CHECKING, Annotated, Any, Literal

import torch
from jaxtyping import Float
from pydantic import BeforeValidator, Field, model_validator
from torch import Tensor

from ..errors import UsageError
from ..frozen import Frozen
from ..tasks import Task

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer
    from transformer_lens.hook_points import HookedRootModule

Weights = dict[str, Tensor]
Width = Annotated[int, Field(ge=1, le=1 << 20)]


def _biases(value: object) -> object:
    return {True: "all", False: "none"}[value] if isinstance(value, bool) else value


class ModelConfig(Frozen):
    """A HookedTransformer. Vocabulary and context come from the task."""

    kind: Literal["transformer"] = "transformer"
    n_layers: int = Field(1, ge=1, le=64)
    d_model: Width = 128
    n_heads: Width = 4
    d_head: Width = Field(default_factory=lambda known: max(1, known["d_model"] // known["n_heads"]))
    """By default d_model / n_heads."""
    d_mlp: int = Field(default_factory=lambda known: 4 * known["d_model"], ge=0, le=1 << 22)
    """By default 4 d_model; 0 leaves the MLPs out."""
    act_fn: Literal["relu", "gelu", "gelu_new", "silu"] = "relu"
    normalization: Literal["none", "LN", "LNPre", "RMS", "RMSPre"] = "none"
    attention_dir: Literal["causal", "bidirectional"] = "causal"
    attention_mixing: float = Field(1.0, ge=0, le=1)
    """alpha: the attention pattern is alpha softmax + (1 - alpha); 0 is constant attention (Zhong et al.
    2023, section 4)."""
    train_biases: Annotated[Literal["none", "mlp", "all"], BeforeValidator(_biases)] = "none"
    """Which biases are trained; the others stay 0. The paper's model has those of the MLP, the Grokking_Demo
    none."""
    init: Literal["nanda", "transformer_lens"] = "nanda"
    init_scale: float = Field(1.0, gt=0, le=1e6)
    """Every initial weight is multiplied by this."""
    d_vocab_out: Width | None = None
    """The number of logits; absent: one for each answer, or for each token where answers have tokens of their
    own or of operands (`Task.n_logits`). Nanda et al. unembed to the whole vocabulary."""

    yes_or_no = frozenset({"train_biases"})

    @model_validator(mode="after")
    def _heads_divide_the_width(self) -> ModelConfig:
        if "d_head" not in self.model_fields_set and self.d_model % self.n_heads:
            raise ValueError(
                f"{self.n_heads} heads do not divide d_model {self.d_model}: change one of them, or set "
                "d_head"
            )
        return self

    def n_logits(self, task: Task) -> int:
        """The number of logits for this task."""
        return n_logits(self.d_vocab_out, task)


def n_logits(d_vocab_out: int | None, task: Task) -> int:
    """The number of logits that a configuration asks for: by default as many as the task needs.

    Raises:
        UsageError: it asks for fewer.
    """
    if d_vocab_out is not None and d_vocab_out < task.n_logits:
        kind = "answers" if task.n_logits == task.n_answers else "tokens, of which each has a logit,"
        raise UsageError(
            f"model.d_vocab_out: {d_vocab_out} logits are fewer than the {task.n_logits} {kind} of "
            f"{task.name}"
        )
    return d_vocab_out or task.n_logits


def transformer_shapes(config: ModelConfig, task: Task) -> dict[str, tuple[int, ...]]:
    """The shape of every parameter under its TransformerLens name, in the order of the computation."""
    d, heads, d_head, d_mlp, n_logits = (
        config.d_model,
        config.n_heads,
        config.d_head,
        config.d_mlp,
        config.n_logits(task),
    )
    norm = {"none": {}, "LNPre": {}, "RMSPre": {}, "LN": {"w": (d,), "b": (d,)}, "RMS": {"w": (d,)}}[
        config.normalization
    ]
    shapes: dict[str, tuple[int, ...]] = {"embed.W_E": (task.d_vocab, d), "pos_embed.W_pos": (task.n_ctx, d)}
    for layer in range(config.n_layers):
        at = f"blocks.{layer}"
        shapes |= {f"{at}.ln1.{key}": shape for key, shape in norm.items()}
        for letter in "KQV":
            shapes |= {f"{at}.attn.W_{letter}": (heads, d, d_head), f"{at}.attn.b_{letter}": (heads, d_head)}
        shapes |= {f"{at}.attn.W_O": (heads, d_head, d), f"{at}.attn.b_O": (d,)}
        if d_mlp:
            shapes |= {f"{at}.ln2.{key}": shape for key, shape in norm.items()}
            shapes |= {f"{at}.mlp.W_in": (d, d_mlp), f"{at}.mlp.b_in": (d_mlp,)}
            shapes |= {f"{at}.mlp.W_out": (d_mlp, d), f"{at}.mlp.b_out": (d,)}
    shapes |= {f"ln_final.{key}": shape for key, shape in norm.items()}
    return shapes | {"unembed.W_U": (d, n_logits), "unembed.b_U": (n_logits,)}


def is_bias(name: str) -> bool:
    """Whether a parameter is added rather than multiplied with."""
    last = name.rsplit(".", 1)[-1]
    return last == "b" or last.startswith("b_")


def trained_in_transformer(config: ModelConfig, name: str) -> bool:
    """Whether the parameter of that name is trained."""
    return (
        not is_bias(name)
        or config.train_biases == "all"
        or (config.train_biases == "mlp" and ".mlp." in name)
    )


def initial_transformer_weights(config: ModelConfig, task: Task, seed: int) -> Weights:
    """Fresh float32 weights on the CPU, from a generator of their own.

    `nanda`: N(0, 1) / sqrt(d_model), W_U / sqrt(number of logits); drawn in the order and the orientation of
    the released code of Nanda et al. 2023, so that a seed gives the very weights that it gives there after
    `torch.manual_seed(seed)`. `transformer_lens`: N(0, 0.8 / sqrt(d_model)), as `HookedTransformer` draws
    them for `cfg.seed = seed`.
    """
    generator = torch.Generator().manual_seed(seed)
    shapes = transformer_shapes(config, task)
    weights: Weights = {}
    for name in _drawing_order(config):
        shape = shapes[name]
        if config.init == "transformer_lens":
            drawn = torch.empty(shape, dtype=torch.float32).normal_(
                std=0.8 / math.sqrt(config.d_model), generator=generator
            )
        else:
            drawn = _drawn_as_in_the_paper(name, shape, generator)
        weights[name] = drawn * config.init_scale if config.init_scale != 1 else drawn
    constant = {
        name: torch.ones(shape) if name.endswith(".w") else torch.zeros(shape)
        for name, shape in shapes.items()
        if name not in weights
    }
    return {name: (weights | constant)[name] for name in shapes}


def _drawing_order(config: ModelConfig) -> list[str]:
    """The names of the random parameters, in the order in which the recipe draws them."""
    inside = [f"attn.W_{letter}" for letter in ("KQVO" if config.init == "nanda" else "QOKV")]
    inside += ["mlp.W_in", "mlp.W_out"] if config.d_mlp else []
    blocks = [f"blocks.{layer}.{name}" for layer in range(config.n_layers) for name in inside]
    return ["embed.W_E", "pos_embed.W_pos", *blocks, "unembed.W_U"]


def _drawn_as_in_the_paper(
    name: str, shape: tuple[int, ...], generator: torch.Generator
) -> Float[Tensor, "..."]:
    """One matrix, drawn in the orientation of the released code and turned into TransformerLens's."""
    last = name.rsplit(".", 1)[-1]
    if last in ("W_pos", "W_U"):
        fan = shape[1]
        return torch.randn(shape, generator=generator, dtype=torch.float32) / math.sqrt(fan)
    if last == "W_O":
        heads, d_head, d_model = shape
        drawn = torch.randn(d_model, heads * d_head, generator=generator, dtype=torch.float32) / math.sqrt(
            d_model
        )
        return drawn.T.reshape(shape).contiguous()
    transposed = (*shape[:-2], shape[-1], shape[-2])
    d_model = shape[0] if last == "W_in" else shape[1]
    return (
        (torch.randn(transposed, generator=generator, dtype=torch.float32) / math.sqrt(d_model))
        .transpose(-1, -2)
        .contiguous()
    )


def hooked_transformer(
    config: ModelConfig, task: Task, weights: Weights, dtype: torch.dtype = torch.float32
) -> HookedTransformer:
    """The network in evaluation mode, every hook point live; attention mixing is a permanent hook on
    `hook_pattern`.

    Raises:
        UsageError: the weights do not have the names and shapes that the configuration asks for.
    """
    fits(weights, transformer_shapes(config, task))
    with deprecation_silenced():
        from transformer_lens import HookedTransformer, HookedTransformerConfig

        model = HookedTransformer(
            HookedTransformerConfig(
                n_layers=config.n_layers,
                d_model=config.d_model,
                n_ctx=task.n_ctx,
                d_head=config.d_head,
                n_heads=config.n_heads,
                d_mlp=config.d_mlp or None,
                attn_only=config.d_mlp == 0,
                act_fn=config.act_fn,
                d_vocab=task.d_vocab,
                d_vocab_out=config.n_logits(task),
                normalization_type=None if config.normalization == "none" else config.normalization,
                attention_dir=config.attention_dir,
                init_weights=False,
                device="cpu",
                dtype=dtype,
            )
        )
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(weights[name])
            parameter.requires_grad_(trained_in_transformer(config, name))
    if config.attention_mixing != 1:
        _mix_patterns(model, config.attention_mixing, causal=config.attention_dir == "causal")
    return model.eval()


def fits(weights: Weights, expected: dict[str, tuple[int, ...]]) -> None:
    """
    Raises:
        UsageError: the weights do not have the names and shapes that are expected.
    """
    found = {name: tuple(weight.shape) for name, weight in weights.items()}
    if found != expected:
        odd = sorted(
            name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name)
        )[0]
        raise UsageError(
            f"weights do not fit the model: {odd} has shape {found.get(odd)}, the configuration asks for "
            f"{expected.get(odd)}"
        )


def _mix_patterns(model: HookedTransformer, alpha: float, causal: bool) -> None:
    def mix(tensor: Float[Tensor, "n head query key"], *, hook: Any) -> Float[Tensor, "n head query key"]:
        constant = torch.ones_like(tensor[0, 0])
        return alpha * tensor + (1 - alpha) * (constant.tril() if causal else constant)

    for block in model.blocks:
        block.attn.hook_pattern.add_perma_hook(mix)


def in_float64(model: HookedRootModule) -> HookedRootModule:
    """A copy of the network, its hooks included, that computes in float64."""
    twin = copy.deepcopy(model)
    for module in twin.modules():
        if hasattr(module, "cfg") and hasattr(module.cfg, "dtype"):
            module.cfg.dtype = torch.float64
    torch.nn.Module.to(twin, torch.float64)
    for point in twin.hook_dict.values():
        if (
            point.fwd_hooks
        ):  # what a user's hook puts in place may be float32: activations that the network itself gave, say
            point.add_perma_hook(_to_float64)
    return twin.eval()


def _to_float64(tensor: Tensor, *, hook: Any) -> Tensor:
    return tensor.double()


class deprecation_silenced(warnings.catch_warnings):
    """Silences exactly TransformerLens's notice that HookedTransformer goes in 4.0; the dependency is capped
    below that."""

    def __enter__(self) -> None:
        super().__enter__()
        warnings.filterwarnings(
            "ignore", message="HookedTransformer is deprecated", category=DeprecationWarning
        )
