"""A network in memory, as the run of one snapshot that a report is about: there is no directory, nothing is
kept, and how it was trained is not known."""

from __future__ import annotations

from pathlib import Path

from ..models import Weights
from ..training import TrainConfig
from ..view import View
from .record import versions
from .run import Run


class InMemory(Run):
    """A run of one snapshot, which is a View. It has no `path`, and what asks for files has no meaning."""

    def __init__(self, view: View) -> None:
        self._view = view.whole
        self.task, self.split = view.task, view.split
        # Neither task nor network need have a name by which a configuration can make them again.
        self.config = TrainConfig.model_construct(task={"name": view.task.name, **view.task.params})
        self.record = {"versions": versions(), "split": None}
        self.finished = self.diverged = self.thinned = None
        self.steps = [view.step or 0]
        self._committed, self._evaluated, self._records = [], [], {self.steps[0]: {}}

    def __repr__(self) -> str:
        return f"<Run in memory: {self.task.symbol}, {self.step_text(self.steps[0])}>"

    @property
    def name(self) -> str:
        """What takes the place of a directory's name."""
        return "a network in memory"

    @property
    def network(self) -> str:
        """The network in words."""
        return self._view.network

    @property
    def ended(self) -> str:
        """What takes the place of an end."""
        return "in memory, without a run directory"

    def knows(self, key: str) -> bool:
        """Nothing is known of its training."""
        return False

    def command(self, name: str, *options: str) -> str:
        """There is none."""
        return ""

    def holds(self, name: str) -> bool:
        """There is no file."""
        return False

    def kept_of(self, step: int) -> Path | None:
        """Nothing is kept."""
        return None

    def step_known(self, step: int) -> bool:
        """Whether the caller said how many updates it has had."""
        return self._view.step is not None

    def state_dict(self, step: int) -> Weights:
        """Its weights, in float64."""
        self.resolve(step)
        return dict(self._view.weights)

    def view(self, step: int) -> View:
        """The View itself, hooks of its network included."""
        self.resolve(step)
        return self._view
