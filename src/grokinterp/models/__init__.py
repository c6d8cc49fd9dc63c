"""Configuration -> network. The only place that imports transformer_lens, and only inside functions."""

from typing import TYPE_CHECKING

from .hooked_transformer import ModelConfig, Weights, hooked_transformer, in_float64, initial_weights, is_bias, trained, weight_shapes

if TYPE_CHECKING:
    from transformer_lens import ActivationCache as ActivationCache
    from transformer_lens import HookedTransformer as HookedTransformer

__all__ = ["ModelConfig", "Weights", "hooked_transformer", "in_float64", "initial_weights", "is_bias", "trained", "weight_shapes"]
