"""How often a network is right on matrices of other distributions than it was trained on, and the confound
that goes with it: where a number is one token, other matrices have numbers of which the network has never
seen the token. So the share of such matrices is told as well, and how often it is right on the rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ..errors import NotApplicable, UsageError, nearest
from ..measures.base import named
from ..measures.standing import Z_OF_95, Share
from ..runs import Run
from ..runs.seen import tokens_seen
from ..tasks.matrices import DISTRIBUTIONS, Matrices

EXAMPLES = 1024


@dataclass(frozen=True)
class Elsewhere:
    """A network on matrices of one distribution.

    Attributes:
        distribution: its name.
        right: how many are right, with the 95 % interval (Wilson).
        unseen: of how many a token of the question was never seen in training; None where that is not known.
        rest: how many of the others are right; None where there are none, or it is not known which.
    """

    distribution: str
    right: Share
    unseen: Share | None
    rest: Share | None


def elsewhere(
    run: Run,
    distributions: Sequence[str] | str | None = None,
    step: int = -1,
    *,
    criterion: str = "within 5 %",
    examples: int = EXAMPLES,
    seed: int = 1,
) -> list[Elsewhere]:
    """A run's network on samples of several distributions.

    Args:
        distributions: names or mixtures, or one; by default all that are known.
        step: of the snapshot; negative: from the end.
        criterion: by which an answer is right.
        examples, seed: of each sample.

    Raises:
        NotApplicable: the task is not about symmetric matrices, whose eigenvalues have a distribution.
        ConfigError: an unknown distribution; the nearest is named.
        UsageError: the task has no such criterion; the nearest is named.
    """
    task, view = run.task, run.view(step)
    if not isinstance(task, Matrices) or not task.symmetric:
        raise NotApplicable(
            f"{task.name} is not asked of symmetric matrices, whose eigenvalues are distributed"
        )
    try:
        seen = tokens_seen(run, step)
    except NotApplicable:
        seen = None
    before, found = min(task.reads.positions), []
    if criterion not in (known := task.right(task.sample.answers)):
        raise UsageError(f"criterion: there is no {criterion!r}{nearest(criterion, known)}")
    for name in named(distributions) or DISTRIBUTIONS:
        other = task.sampled(name, seed=seed, examples=examples)
        right = other.judged(view.on(other).decoded)[criterion]
        all_seen = None if seen is None else seen[other.inputs[:, :before]].all(1)
        found.append(
            Elsewhere(
                name,
                _share(right),
                None if all_seen is None else _share(~all_seen),
                None if all_seen is None or not all_seen.any() else _share(right[all_seen]),
            )
        )
    return found


def _share(marks: torch.Tensor) -> Share:
    return Share.of(float(marks.double().mean()), len(marks), Z_OF_95)
