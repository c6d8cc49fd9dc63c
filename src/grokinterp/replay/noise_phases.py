"""How a network went through the phases of Doshi et al. 2024 on noisy labels: from accuracies alone."""

from __future__ import annotations

import itertools
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from ..errors import NotApplicable
from ..measures.noise import NoisePhase, learned, noise_phase

if TYPE_CHECKING:
    import pandas as pd

_COLUMNS = ["train_accuracy", "test_clean_accuracy", "corrupted_accuracy", "corrupted_clean_accuracy"]


@dataclass(frozen=True)
class NoiseSpan:
    """A stretch of evaluations in one phase: from its first to the first of the next span, or to the last."""

    phase: NoisePhase
    start: int
    end: int

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self)


def noise_spans(history: pd.DataFrame, n_answers: int) -> list[NoiseSpan]:
    """The phases over the evaluations of a run, in order, without gaps: those of `measures.noise_phase`.

    Raises:
        NotApplicable: no evaluation tells corrupted examples from others.
    """
    if not set(_COLUMNS) <= set(history.columns) or not len(evaluations := history.dropna(subset=_COLUMNS)):
        raise NotApplicable(
            "no evaluation tells corrupted examples from others: labels are not noisy, or none came out wrong"
        )
    phase_at: list[tuple[int, NoisePhase]] = []
    before = False
    for step, train, test, corrupted, inverted in evaluations[["step", *_COLUMNS]].itertuples(index=False):
        phase_at.append(
            (int(step), noise_phase(train, test, corrupted, inverted, 1 / n_answers, learned_before=before))
        )
        before = before or learned(train, test)
    runs = [list(run) for _, run in itertools.groupby(phase_at, key=lambda one: one[1])]
    ends = [run[0][0] for run in runs[1:]] + [phase_at[-1][0]]
    return [NoiseSpan(run[0][1], run[0][0], end) for run, end in zip(runs, ends, strict=True)]


def noise_in_words(spans: list[NoiseSpan]) -> str:
    """The spans as one sentence."""
    stretches = ", ".join(f"{span.phase} from step {span.start:,}" for span in spans[-8:])
    return f"On noisy labels (phases of Doshi et al. 2024): {'..., ' if len(spans) > 8 else ''}{stretches}."
