"""How a circuit forms: measures at every snapshot of a run, and what can be said of them as a whole."""

from .dataset import FINAL, PROGRESS, replay
from .phases import Boundary, Lead, Phase, Phases, phases
from .pictures import PICTURES
from .spikes import Spike, spikes

__all__ = ["FINAL", "PICTURES", "PROGRESS", "Boundary", "Lead", "Phase", "Phases", "Spike", "phases", "replay", "spikes"]
