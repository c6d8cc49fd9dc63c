"""Configuration -> network. The only place that imports transformer_lens, and only inside functions."""

from typing import TYPE_CHECKING

from .answers import at_answer
from .folded import Folded, Folding, Jobs, Tables, one_after_the_other
from .hooked_transformer import ModelConfig, Weights, fits, hooked_transformer, in_float64, is_bias
from .mlp import MLPConfig
from .network import (
    NetworkConfig,
    answer_logits,
    for_kind,
    initial_weights,
    network,
    network_config,
    read_by,
    trained,
    weight_shapes,
)

if TYPE_CHECKING:
    from transformer_lens import ActivationCache as ActivationCache
    from transformer_lens import HookedTransformer as HookedTransformer
    from transformer_lens.hook_points import HookedRootModule as HookedRootModule

__all__ = [
    "Folded",
    "Folding",
    "Jobs",
    "MLPConfig",
    "ModelConfig",
    "NetworkConfig",
    "Tables",
    "Weights",
    "answer_logits",
    "at_answer",
    "fits",
    "for_kind",
    "hooked_transformer",
    "in_float64",
    "initial_weights",
    "is_bias",
    "network",
    "network_config",
    "one_after_the_other",
    "read_by",
    "trained",
    "weight_shapes",
]
