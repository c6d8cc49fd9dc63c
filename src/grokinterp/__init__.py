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
    from .errors import GrokinterpError
    from .importing import import_checkpoint, record
    from .measures import MEASURES, ablate, interchange, key_frequencies
    from .measures import measured as measure
    from .replay import plateaus, replay
    from .report import Report, analyze, save_replay
    from .report.compare import compare
    from .runs import Run, load_run
    from .runs.many import train_many
    from .runs.train import train
    from .tasks import TASKS, Operation, Task, arrays, make_task, task
    from .training import TrainConfig
    from .view import View, view

_NAMES = {
    "errors": "GrokinterpError",
    "importing": "import_checkpoint record",
    "measures": "MEASURES ablate interchange key_frequencies",
    "measures.measured": "measure",
    "replay": "plateaus replay",
    "report": "Report analyze compare save_replay",
    "runs": "Run load_run train train_many",
    "tasks": "TASKS Operation Task arrays make_task task",
    "training": "TrainConfig",
    "view": "View view",
}
"""The public names by their module, with another name that one has there behind it."""
_HOMES = {name: module for module, names in _NAMES.items() for name in names.split()}

__all__ = [*sorted(_HOMES), "__version__"]


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
