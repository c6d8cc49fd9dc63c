"""What measures of the size of logits and of margins must say: see test_measures.py."""

from __future__ import annotations

import math

import numpy as np

from expected_noise import CLOCK_LOGITS, KEYS, P, S, by_part

EVERYWHERE = {
    "softmax_collapse.share",
    "zero_terms.share",
    "logit_scale",
    "margin.normalised",
    "loss.stablemax",
}


def stable(x: float) -> float:
    return x + 1 if x >= 0 else 1 / (1 - x)


SCALE = S * math.sqrt(len(KEYS) / 2)
"""A wave of amplitude S has a mean square of S² / 2."""
ONE_HOT = math.sqrt(1 - 1 / P)
"""The norm of a one-hot answer less its mean."""
assert math.fsum(math.exp(x - CLOCK_LOGITS[0]) for x in CLOCK_LOGITS[1:]) < 2**-26
ON_THE_CLOCK = {
    # Examples are alike, and all wrong terms together are well under half a digit of float32.
    "softmax_collapse.share": [1] * 3,
    "zero_terms.share": [1] * 3,
    "logit_scale": [SCALE] * 3,
    "margin.normalised": [
        (CLOCK_LOGITS[0] - max(CLOCK_LOGITS[1:])) / (SCALE * math.sqrt(P)) * ONE_HOT
    ] * 3,
    "loss.stablemax": [-math.log(stable(CLOCK_LOGITS[0]) / sum(map(stable, CLOCK_LOGITS)))] * 3,
}  # fmt: skip
ON_A_RANDOM_NETWORK = {
    "softmax_collapse.share": lambda x: (x == 0).all(),
    "zero_terms.share": lambda x: (x == 0).all(),
    # Logits of the size of one, and right ones no larger than others: far below the largest, in the mean 2.3
    # standard deviations of 53 numbers, and here is the worst.
    "logit_scale": lambda x: (x > 0.3).all() and (x < 2).all(),
    "margin.normalised": lambda x: (x < -2.3 / math.sqrt(53)).all() and (x > -1.1).all(),
    "loss.stablemax": lambda x: (abs(x - math.log(53)) < 0.3).all(),
}


def is_one(row: np.ndarray) -> bool:
    """Whether the sum of exponentials, over the largest, is 1 in float32."""
    below = sorted(float(x) for x in row - row.max())
    return np.float32(1 + math.fsum(map(math.exp, below[:-1]))) == np.float32(1)


def collapsed(view) -> list[float]:
    return by_part(view, [is_one(row) for row in view.logits.numpy()])


def no_terms(view) -> list[float]:
    rows = zip(view.logits.numpy(), view.task.targets.tolist(), strict=True)
    return by_part(view, [is_one(row) and row[c] == row.max() for row, c in rows])


def scale(view) -> list[float]:
    return by_part(view, [np.std(row) for row in view.logits.numpy()])


def margin(view) -> list[float]:
    margins = []
    for row, c in zip(view.logits.numpy(), view.task.targets.tolist(), strict=True):
        one_hot = np.linalg.norm(np.eye(len(row))[c] - 1 / len(row))
        margins.append((row[c] - np.delete(row, c).max()) / np.linalg.norm(row - row.mean()) * one_hot)
    parts = view.split.train.tolist(), view.split.test.tolist(), range(view.task.n_inputs)
    return [min(margins[row] for row in rows) for rows in parts]


def stablemax(view) -> list[float]:
    return by_part(
        view,
        [
            -math.log(stable(row[c]) / sum(map(stable, row)))
            for row, c in zip(view.logits.tolist(), view.task.targets.tolist(), strict=True)
        ],
    )


SLOWLY = {
    "softmax_collapse.share": collapsed,
    "zero_terms.share": no_terms,
    "logit_scale": scale,
    "margin.normalised": margin,
    "loss.stablemax": stablemax,
}
