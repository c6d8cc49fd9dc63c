"""Mistakes whose messages say what to do, by rooms of the package; `test_remedies.py` follows them."""

from .api import API
from .base import Mistake, World
from .cli import CLI
from .foreign import FOREIGN
from .importing import IMPORTING
from .measures import MEASURED, REPLAYED, REPORTED
from .models import MODELS
from .not_followed import NOT_FOLLOWED
from .runs import RUNS
from .sweeps import COMMANDED, READ, SWEPT
from .tasks import TASKS
from .training import TRAINING

ROOMS: dict[str, list[Mistake]] = {
    "api": API,
    "tasks": TASKS,
    "models": MODELS,
    "training": TRAINING,
    "foreign": FOREIGN,
    "importing": IMPORTING,
    "runs": [*RUNS, *READ],
    "sweeps": SWEPT,
    "cli": [*CLI, *COMMANDED],
    "measures": MEASURED,
    "replay": REPLAYED,
    "report": REPORTED,
}

__all__ = ["NOT_FOLLOWED", "ROOMS", "Mistake", "World"]
