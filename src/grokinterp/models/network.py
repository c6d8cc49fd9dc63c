"""Any kind of network: its configuration, the shapes of its weights, and the hooked module."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..errors import ConfigError, nearest
from ..frozen import checked
from ..tasks import Task
from .forward import transformer_logits
from .hooked_transformer import (
    ModelConfig,
    Weights,
    hooked_transformer,
    initial_transformer_weights,
    trained_in_transformer,
    transformer_shapes,
)
from .mlp import MLPConfig, hooked_mlp, initial_mlp_weights, mlp_logits, mlp_shapes, operands

if TYPE_CHECKING:
    from transformer_lens.hook_points import HookedRootModule

NetworkConfig: TypeAlias = ModelConfig | MLPConfig
_KINDS: dict[str, type[ModelConfig] | type[MLPConfig]] = {"transformer": ModelConfig, "mlp": MLPConfig}


def network_config(values: Mapping[Any, Any]) -> NetworkConfig:
    """The configuration that a section [model] describes; without a `kind` it is a transformer's.

    Raises:
        ConfigError: an unknown kind or key (the nearest is named), or a value out of range.
    """
    return checked(_of_kind(values.get("kind", "transformer")), values, at="model")


def for_kind(values: Mapping[str, Any], kind: object) -> dict[str, Any]:
    """Those keys of a section [model] that a network of another kind has too, and takes with these values.

    Raises:
        ConfigError: there is no such kind.
    """
    cls = _of_kind(kind)
    return {key: item for key, item in values.items() if key != "kind" and _takes(cls, {key: item})}


def _takes(cls: type[ModelConfig] | type[MLPConfig], values: Mapping[str, Any]) -> bool:
    try:
        checked(cls, values)
    except ConfigError:
        return False
    return True


def _of_kind(kind: object) -> type[ModelConfig] | type[MLPConfig]:
    if str(kind) not in _KINDS:
        raise ConfigError(f"model.kind: unknown kind {str(kind)!r}{nearest(str(kind), _KINDS)}")
    return _KINDS[str(kind)]


def weight_shapes(config: NetworkConfig, task: Task) -> dict[str, tuple[int, ...]]:
    """The shape of every parameter under its TransformerLens name, in the order of the computation."""
    return mlp_shapes(config, task) if isinstance(config, MLPConfig) else transformer_shapes(config, task)


def initial_weights(config: NetworkConfig, task: Task, seed: int) -> Weights:
    """Fresh float32 weights on the CPU, from a generator of their own, by the recipe `config.init`."""
    draw: Any = initial_mlp_weights if isinstance(config, MLPConfig) else initial_transformer_weights
    weights: Weights = draw(config, task, seed)
    return weights


def trained(config: NetworkConfig, name: str) -> bool:
    """Whether the parameter of that name is trained: of a multilayer perceptron all that there are."""
    return isinstance(config, MLPConfig) or trained_in_transformer(config, name)


def read_by(config: NetworkConfig, task: Task) -> Int[Tensor, "n pos"]:
    """What `answer_logits` takes of every example, in table order: all tokens, or for a multilayer perceptron
    those of a and b."""
    return operands(task) if isinstance(config, MLPConfig) else task.inputs


def answer_logits(
    weights: Weights,
    tokens: Int[Tensor, "n pos"],
    config: NetworkConfig,
    seen: dict[str, Tensor] | None = None,
) -> Float[Tensor, "n classes"]:
    """Logits at the answer position, exactly those of the hooked network and differentiable in `weights`.

    The tokens are those that `read_by` gives. What is computed there on the way, patterns and activations of
    the neurons, is put into `seen` under the names of its hooks.
    """
    if isinstance(config, MLPConfig):
        return mlp_logits(weights, tokens, config, seen)
    return transformer_logits(weights, tokens, config, seen)


def network(
    config: NetworkConfig, task: Task, weights: Weights, dtype: torch.dtype = torch.float32
) -> HookedRootModule:
    """The network in evaluation mode, every hook point live.

    Raises:
        UsageError: the weights do not have the names and shapes that the configuration asks for.
    """
    return (
        hooked_mlp(config, task, weights, dtype)
        if isinstance(config, MLPConfig)
        else hooked_transformer(config, task, weights, dtype)
    )
