"""How did a small network learn its task? Train it with snapshots, analyse the circuit, replay how it formed.

The public names are loaded when they are first used, so that importing grokinterp costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .lazy import load_lazily
from .version import __version__

if TYPE_CHECKING:
    from .errors import GrokinterpError
    from .importing import import_checkpoint, record
    from .measures import MEASURES, ablate, interchange, key_frequencies
    from .measures import measured as measure
    from .replay import plateaus, replay
    from .report import Report, analyze, save_replay
    from .report.compare import compare
    from .runs import Run, load_run, runs_in
    from .runs.many import train_many
    from .runs.train import train
    from .tasks import TASKS, Operation, Task, arrays, make_task, task
    from .training import TrainConfig
    from .view import View, view

__all__ = [
    *load_lazily(
        __name__,
        {
            "errors": "GrokinterpError",
            "importing": "import_checkpoint record",
            "measures": "MEASURES ablate interchange key_frequencies",
            "measures.measured": "measure",
            "replay": "plateaus replay",
            "report": "Report analyze compare save_replay",
            "runs": "Run load_run runs_in train train_many",
            "tasks": "TASKS Operation Task arrays make_task task",
            "training": "TrainConfig",
            "view": "View view",
        },
    ),
    "__version__",
]
