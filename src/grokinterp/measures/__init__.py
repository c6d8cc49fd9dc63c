"""What can be measured of a View. Each file registers its measures when it is imported; all are imported
here."""

from . import (
    alignment,
    attention,
    circles,
    circuit,
    components,
    embedding,
    irreps,
    keys,
    logits,
    losses,
    neurons,
    noise,
    pizza,
    polynomials,
    positions,
    power,
    pruning,
    readout,
    sparsity,
    sufficiency,
    weights,
)
from .ablation import Ablation, ablate
from .base import MEASURES, Measure, measure, measured
from .keys import KeyFrequencies, key_frequencies
from .noise import NoisePhase, noise_phase
from .sufficiency import SmallestSets, smallest_sets

__all__ = [
    "MEASURES",
    "Ablation",
    "KeyFrequencies",
    "Measure",
    "NoisePhase",
    "SmallestSets",
    "ablate",
    "alignment",
    "attention",
    "circles",
    "circuit",
    "components",
    "embedding",
    "irreps",
    "key_frequencies",
    "keys",
    "logits",
    "losses",
    "measure",
    "measured",
    "neurons",
    "noise",
    "noise_phase",
    "pizza",
    "polynomials",
    "positions",
    "power",
    "pruning",
    "readout",
    "smallest_sets",
    "sparsity",
    "sufficiency",
    "weights",
]
