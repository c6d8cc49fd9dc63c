"""How did a small network learn its task? Train it with snapshots, analyse the circuit, replay how it formed.

The public names are loaded when they are first used, so that importing grokinterp costs nothing.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

from .version import __version__

if TYPE_CHECKING:
    from .errors import GrokinterpError as GrokinterpError
    from .importing import import_checkpoint as import_checkpoint
    from .importing import record as record
    from .measures import MEASURES as MEASURES
    from .measures import ablate as ablate
    from .measures import key_frequencies as key_frequencies
    from .measures import measured as measure  # noqa: F401
    from .replay import replay as replay
    from .report import Report as Report
    from .report import analyze as analyze
    from .report.compare import compare as compare
    from .runs import Run as Run
    from .runs import load_run as load_run
    from .runs.many import train_many as train_many
    from .runs.train import train as train
    from .tasks import TASKS as TASKS
    from .tasks import Operation as Operation
    from .tasks import Task as Task
    from .tasks import make_task as make_task
    from .tasks import task as task
    from .training import TrainConfig as TrainConfig
    from .view import View as View
    from .view import view as view

_HOMES = {
    "GrokinterpError": "errors",
    "MEASURES": "measures",
    "Operation": "tasks",
    "Report": "report",
    "Run": "runs",
    "TASKS": "tasks",
    "Task": "tasks",
    "TrainConfig": "training",
    "View": "view",
    "ablate": "measures",
    "analyze": "report",
    "compare": "report",
    "import_checkpoint": "importing",
    "key_frequencies": "measures",
    "load_run": "runs",
    "make_task": "tasks",
    "measure": "measures.measured",
    "record": "importing",
    "replay": "replay",
    "task": "tasks",
    "train": "runs",
    "train_many": "runs",
    "view": "view",
}

__all__ = [*_HOMES, "__version__"]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, alias = _HOMES[name].partition(".")
    value = getattr(import_module(f".{module}", __name__), alias or name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)


class _Package(ModuleType):
    """Keeps `gi.view` the function: importing the module view.py would otherwise bind the module to that
    name."""

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in _HOMES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
