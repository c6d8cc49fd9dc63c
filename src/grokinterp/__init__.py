"""How did a small network learn its task? Train it with snapshots, analyse the circuit, replay how it formed.

The public names are loaded when they are first used, so that importing grokinterp costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .lazy import load_lazily
from .version import __version__

if TYPE_CHECKING:
    from .errors import GrokinterpError
    from .given import ablate, interchange, key_frequencies, measure, view
    from .importing import import_checkpoint, record, show
    from .measures import MEASURES
    from .measures import measure as register_measure
    from .replay import plateaus, replay, tidy
    from .report import Report, analyze, measure_all, save_replay
    from .report.compare import compare
    from .runs import Run, load_run, runs_in
    from .runs.export import export
    from .runs.many import train_many
    from .runs.train import train
    from .sweeps import load_sweep, sweep
    from .tasks import TASKS, Operation, Task, arrays, make_task, task
    from .training import TrainConfig
    from .view import View

__all__ = [
    *load_lazily(
        __name__,
        {
            "errors": "GrokinterpError",
            "given": "ablate interchange key_frequencies measure view",
            "importing": "import_checkpoint record show",
            "measures": "MEASURES",
            "measures.measure": "register_measure",
            "replay": "plateaus replay tidy",
            "report": "Report analyze compare measure_all save_replay",
            "runs": "Run export load_run runs_in train train_many",
            "sweeps": "load_sweep sweep",
            "tasks": "TASKS Operation Task arrays make_task task",
            "training": "TrainConfig",
            "view": "View",
        },
    ),
    "__version__",
]
