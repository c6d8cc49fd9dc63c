"""What can be measured of a View: general subjects here, what stands on Z_m in `waves`, on other groups in
`groups`. Each file registers its measures when it is imported; all are imported here."""

import importlib
import pkgutil

from . import groups, waves
from .ablation import Ablation, ablate
from .base import MEASURES, Measure, measure, measured
from .noise import NoisePhase, noise_phase
from .waves.circular import Circular, circular
from .waves.keys import KeyFrequencies, key_frequencies
from .waves.sufficiency import SmallestSets, smallest_sets

__all__ = [
    "MEASURES", "Ablation", "Circular", "KeyFrequencies", "Measure", "NoisePhase", "SmallestSets", "ablate",
    "circular", "groups", "key_frequencies", "measure", "measured", "noise_phase", "smallest_sets", "waves",
]  # fmt: skip

for _file in pkgutil.walk_packages(__path__, f"{__name__}."):
    importlib.import_module(_file.name)
