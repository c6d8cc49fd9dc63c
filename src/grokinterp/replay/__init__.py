"""How a circuit forms: measures at every snapshot of a run, and what can be said of them as a whole."""

from .dataset import FINAL, PROGRESS, replay
from .export import check_format, export
from .pictures import PICTURES

__all__ = ["FINAL", "PICTURES", "PROGRESS", "check_format", "export", "replay"]
