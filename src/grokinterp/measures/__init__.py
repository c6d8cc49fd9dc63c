"""What can be measured of a View: general subjects here, what stands on Z_m in `waves`, on other groups in
`groups`. Each file registers its measures when it is imported; all are imported here."""

from . import (
    attention,
    components,
    embedding,
    groups,
    losses,
    neurons,
    noise,
    positions,
    pruning,
    sparsity,
    waves,
    weights,
)
from .ablation import Ablation, ablate
from .base import MEASURES, Measure, measure, measured
from .noise import NoisePhase, noise_phase
from .waves.circular import Circular, circular
from .waves.keys import KeyFrequencies, key_frequencies
from .waves.sufficiency import SmallestSets, smallest_sets

__all__ = [
    "MEASURES",
    "Ablation",
    "Circular",
    "KeyFrequencies",
    "Measure",
    "NoisePhase",
    "SmallestSets",
    "ablate",
    "attention",
    "circular",
    "components",
    "embedding",
    "groups",
    "key_frequencies",
    "losses",
    "measure",
    "measured",
    "neurons",
    "noise",
    "noise_phase",
    "positions",
    "pruning",
    "smallest_sets",
    "sparsity",
    "waves",
    "weights",
]
