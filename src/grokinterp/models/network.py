"""Any kind of network: its configuration, the shapes of its weights, and the hooked module."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import torch

from ..errors import ConfigError, nearest
from ..frozen import checked
from ..tasks import Task
from .hooked_transformer import ModelConfig, Weights, hooked_transformer, transformer_shapes
from .mlp import MLPConfig, hooked_mlp, mlp_shapes

if TYPE_CHECKING:
    from transformer_lens.hook_points import HookedRootModule

NetworkConfig: TypeAlias = ModelConfig | MLPConfig
_KINDS: dict[str, type[ModelConfig] | type[MLPConfig]] = {"transformer": ModelConfig, "mlp": MLPConfig}


def network_config(values: Mapping[Any, Any]) -> NetworkConfig:
    """The configuration that a section [model] describes; without a `kind` it is a transformer's.

    Raises:
        ConfigError: an unknown kind or key (the nearest is named), or a value out of range.
    """
    kind = str(values.get("kind", "transformer"))
    if kind not in _KINDS:
        raise ConfigError(f"model.kind: unknown kind {kind!r}{nearest(kind, _KINDS)}")
    return checked(_KINDS[kind], values, at="model")


def weight_shapes(config: NetworkConfig, task: Task) -> dict[str, tuple[int, ...]]:
    """The shape of every parameter under its TransformerLens name, in the order of the computation."""
    return mlp_shapes(config, task) if isinstance(config, MLPConfig) else transformer_shapes(config, task)


def network(config: NetworkConfig, task: Task, weights: Weights, dtype: torch.dtype = torch.float32) -> HookedRootModule:
    """The network in evaluation mode, every hook point live.

    Raises:
        UsageError: the weights do not have the names and shapes that the configuration asks for.
    """
    return hooked_mlp(config, task, weights, dtype) if isinstance(config, MLPConfig) else hooked_transformer(config, task, weights, dtype)
