"""What a network is asked to learn. `make_task(name, **parameters)` makes one; `TASKS` lists them."""

from . import groups, modular
from .base import TASKS, Task, make_task, task, task_parameters
from .circle import Circle
from .encoding import Encoding, Symbols
from .layout import parse
from .noise import Noise, labels, ring
from .reads import Reads
from .split import Split, SplitRecipe, order, split
from .table import TableFacts

__all__ = [
    "TASKS",
    "Circle",
    "Encoding",
    "Noise",
    "Reads",
    "Split",
    "SplitRecipe",
    "Symbols",
    "TableFacts",
    "Task",
    "groups",
    "labels",
    "make_task",
    "modular",
    "order",
    "parse",
    "ring",
    "split",
    "task",
    "task_parameters",
]
