"""What can be measured of a View. Each file registers its measures when it is imported; all are imported here."""

from . import alignment, embedding, keys, logits, losses, neurons, polynomials, readout, sparsity, weights
from .base import MEASURES, Measure, measure, measured
from .keys import KeyFrequencies, key_frequencies

__all__ = [
    "MEASURES",
    "KeyFrequencies",
    "Measure",
    "alignment",
    "embedding",
    "key_frequencies",
    "keys",
    "logits",
    "losses",
    "measure",
    "measured",
    "neurons",
    "polynomials",
    "readout",
    "sparsity",
    "weights",
]
