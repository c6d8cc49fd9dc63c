"""What measures of aliasing must say: see test_measures.py."""

from __future__ import annotations

import math

import numpy as np

from expected_losses import along_answers, logits_of
from grokinterp.errors import NotApplicable

P, KEYS, S = 17, (2, 5, 8), 10.0  # the clock of test_measures.py
DIMS = {"distance"}


def lead_of_the_clock(d: int) -> float:
    """Of logits S Σ_k cos w_k(c* − c), over an answer that stands d away."""
    return S * sum(1 - math.cos(2 * math.pi * k * d / P) for k in KEYS)


ON_THE_CLOCK = {
    "aliasing_gap.closest": min(lead_of_the_clock(d) for d in range(1, P)),
    "aliasing_gap.by_distance": [lead_of_the_clock(d) for d in range(1, P // 2 + 1)],
}
ON_A_RANDOM_NETWORK = dict.fromkeys(ON_THE_CLOCK, NotApplicable)


def each_lead(view, keys) -> list[tuple[int, float]]:
    """For every right answer and every other one their distance on the circle, and how far the first leads:
    all its examples have the same logits."""
    kept, p = along_answers(view, keys, logits_of(view)), view.task.p
    right = view.task.targets.tolist()
    rows = dict(zip(right, kept, strict=True))
    return [
        (min((c - r) % p, (r - c) % p), row[r] - row[c])
        for r, row in rows.items()
        for c in range(p)
        if c != r
    ]


SLOWLY = {
    "aliasing_gap.closest": lambda view, keys: min(lead for _, lead in each_lead(view, keys)),
    "aliasing_gap.by_distance": lambda view, keys: [
        np.mean([lead for distance, lead in each_lead(view, keys) if distance == d])
        for d in range(1, view.task.p // 2 + 1)
    ],
}
