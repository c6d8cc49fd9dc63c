"""What can be measured of a View. Each file registers its measures when it is imported; all are imported here."""

from . import circles, circuit, embedding, keys, logits, losses, neurons, pizza, weights
from .base import MEASURES, Measure, measure, measured
from .keys import KeyFrequencies, key_frequencies

__all__ = [
    "MEASURES",
    "KeyFrequencies",
    "Measure",
    "circles",
    "circuit",
    "embedding",
    "key_frequencies",
    "keys",
    "logits",
    "losses",
    "measure",
    "measured",
    "neurons",
    "pizza",
    "weights",
]
