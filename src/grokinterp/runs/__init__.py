"""The run directory: write, open, resume, verify. All disk access of the package is here."""

from .many import train_many
from .run import Run, follow, load_run
from .train import train
