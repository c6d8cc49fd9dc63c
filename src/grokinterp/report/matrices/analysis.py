"""What is known of a run about matrices beside what is known of any: an answer is right when it is near
enough to the truth, written token by token, and not when every token is that of the sample."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property

from ...errors import NotApplicable
from ...measures.matrices.failures import CRITERION, answers, chance
from ...measures.standing import Standing
from ...replay.elsewhere import Elsewhere, elsewhere
from ...tasks.matrices import Matrices
from ..analysis import Analysis


class MatricesAnalysis(Analysis):
    """An analysis of a network that answers with matrices."""

    of = Matrices

    @cached_property
    def standing(self) -> Standing:
        """By the criterion "within 5 %", of greedy decoding; chance is what the best of a hundred answers of
        the sample would get, were it always given."""
        task = self.run.task
        assert isinstance(task, Matrices)
        right = float(answers(self.view).right[CRITERION].double().mean())
        examples = replace(self.examples, chance=chance(task))
        return examples.standing(None, right)

    @property
    def verdict(self) -> str:
        """The same, with what right means."""
        return (
            f"{super().verdict.removesuffix('.')}. Right is an answer {CRITERION} of the truth, by the error "
            "of the problem, written token by token by the network itself."
        )

    def accuracy(self, part: str) -> tuple[str, float]:
        """By the same criterion."""
        name = "accuracy.by_criterion"
        return f"{name} ({part}, {CRITERION})", self.number(name, part=part, criterion=CRITERION)

    @cached_property
    def elsewhere(self) -> list[Elsewhere]:
        """The network on matrices of other distributions; empty where there are none."""
        try:
            return elsewhere(self.run, step=self.step)
        except NotApplicable:
            return []
