"""The run directory: write, open, resume, verify. All disk access of the package is here."""

from .importing import import_checkpoint
from .run import Run, load_run
from .train import train

__all__ = ["Run", "import_checkpoint", "load_run", "train"]
