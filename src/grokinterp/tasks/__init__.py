"""What a network is asked to learn. `make_task(name, **parameters)` makes one; `TASKS` lists them."""

from . import groups, modular
from .base import TASKS, Task, make_task, task, task_parameters
from .circle import Circle
from .layout import parse
from .noise import Noise, labels, ring
from .split import Split, SplitRecipe, order, split

__all__ = [
    "TASKS",
    "Circle",
    "Noise",
    "Split",
    "SplitRecipe",
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
