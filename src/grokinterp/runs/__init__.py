"""The run directory: write, open, resume, verify, list, thin, export, share. All disk access of the package
is here.

The names are loaded when they are first used: what only reads records needs no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import load_lazily

if TYPE_CHECKING:
    from .export import export
    from .hub import pull_from_hub, push_to_hub
    from .listing import runs_in
    from .many import train_many
    from .run import Run, follow, load_run
    from .train import train

__all__ = load_lazily(
    __name__,
    {
        "export": "export",
        "hub": "pull_from_hub push_to_hub",
        "listing": "runs_in",
        "many": "train_many",
        "run": "Run follow load_run",
        "train": "train",
    },
)
