"""Configuration -> network. The only place that imports transformer_lens, and only inside functions:
hooked.py, which imports it at its top, is imported there."""

from typing import TYPE_CHECKING

from .base import (
    DEFAULT_KIND,
    KINDS,
    Block,
    Heads,
    Inside,
    NetworkConfig,
    Weights,
    blocks_of,
    carried_config,
    fits,
    in_float64,
    is_bias,
    kind,
    network_config,
    none_if_zero,
    refuse_untied,
    refuse_without_numbers,
)
from .encoder import POST_NORM, EncoderConfig
from .encoder_decoder import EncoderDecoderConfig
from .folded import Folded, Folding, Jobs, Tables, one_after_the_other
from .mlp import MLPConfig
from .nalu import NALUConfig
from .one_layer import OneLayer
from .transformer import ModelConfig
from .unhooked import at_answer
from .vision import VisionConfig

if TYPE_CHECKING:
    from transformer_lens import ActivationCache, HookedTransformer
    from transformer_lens.hook_points import HookedRootModule
