"""What is known of a run about matrices beside what is known of any."""

from __future__ import annotations

from functools import cached_property

from ...errors import NotApplicable
from ...replay.distributions import Elsewhere, elsewhere
from ...tasks.matrices import Matrices
from ..analysis import Analysis


class MatricesAnalysis(Analysis):
    """An analysis of a network that answers with matrices."""

    of = Matrices

    @cached_property
    def elsewhere(self) -> list[Elsewhere]:
        """The network on matrices of other distributions; empty where there are none."""
        try:
            return elsewhere(self.run, step=self.step)
        except NotApplicable:
            return []
