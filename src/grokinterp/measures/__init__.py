"""What can be measured of a View: general subjects here, what stands on Z_m in `waves`, on other groups in
`groups`. Each file registers its measures when it is imported; all are imported here,
in the order of their names: that of the lists that users see."""

import pkgutil
from importlib import import_module

for file in pkgutil.walk_packages(__path__, f"{__name__}."):
    import_module(file.name)

from .ablation import Ablation, ablate
from .base import MEASURES, Measure, measure, measured
from .hypotheses import (
    Hypothesis,
    Interchange,
    Subtask,
    digits_hypothesis,
    interchange,
    operation_hypothesis,
)
from .noise import NoisePhase, noise_phase
from .waves.circular import Circular, circular
from .waves.keys import KeyFrequencies, key_frequencies
from .waves.sufficiency import SmallestSets, smallest_sets
