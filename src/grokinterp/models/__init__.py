"""Configuration -> network. The only place that imports transformer_lens, and only inside functions."""

from .hooked_transformer import ModelConfig, Weights, hooked_transformer, in_float64, initial_weights, is_bias, trained, weight_shapes

__all__ = ["ModelConfig", "Weights", "hooked_transformer", "in_float64", "initial_weights", "is_bias", "trained", "weight_shapes"]
