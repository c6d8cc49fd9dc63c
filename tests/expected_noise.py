"""What the measures of noisy labels must say: see test_measures.py, which asks those of OF_NOISE of the same
networks on noisy labels."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

import grokinterp as gi
from grokinterp.tasks.noise import Binomial

P, KEYS, S = 17, (2, 5, 8), 10.0  # the clock of test_measures.py
OF_NOISE = {"noise.profile", "noise.bayes_loss", "noise.bayes_accuracy"}
"""The measures that need noisy labels."""
EVERYWHERE = {"clean_accuracy", "clean_loss", "loss.mse", *OF_NOISE}
DIMS = {"offset"}
OFFSETS = range(-3, 4)
BINOMIAL = {-2: 1 / 16, -1: 4 / 16, 0: 6 / 16, 1: 4 / 16, 2: 1 / 16}
BAYES_LOSS = -sum(q * math.log(q) for q in BINOMIAL.values())


def noisy(view: gi.View) -> gi.View:
    """The same network on labels with Binomial(4, 1/2) − 2 added, test examples included."""
    return gi.view(view.model, dataclasses.replace(view.task, noise=Binomial()), view.step, view.split)


CLOCK_LOGITS = [S * sum(math.cos(2 * math.pi * k * d / P) for k in KEYS) for d in range(P)]
TOTAL = sum(map(math.exp, CLOCK_LOGITS))
ON_THE_CLOCK = {
    "clean_accuracy": [1] * 3,
    "clean_loss": [math.log1p(sum(math.exp(x - CLOCK_LOGITS[0]) for x in CLOCK_LOGITS[1:]))] * 3,
    "loss.mse": [((CLOCK_LOGITS[0] - 1) ** 2 + sum(x**2 for x in CLOCK_LOGITS[1:])) / P] * 3,
    "noise.profile": [[math.exp(CLOCK_LOGITS[k]) / TOTAL] * 5 for k in OFFSETS],
    "noise.bayes_loss": [BAYES_LOSS] * 3,
    "noise.bayes_accuracy": [3 / 8] * 3,
}
ON_A_RANDOM_NETWORK = {
    "clean_accuracy": lambda x: (abs(x - 1 / 53) < 0.02).all(),
    "clean_loss": lambda x: (abs(x - math.log(53)) < 0.3).all(),
    # Logits of the size of one: (0 − 1)² for the label, and their own variance.
    "loss.mse": lambda x: (x > 0.3 / 53).all() and (x < 3).all(),
    "noise.profile": lambda x: (abs(x - 1 / 53) < 0.01).all(),
    # Whatever the network: they are of the labels.
    "noise.bayes_loss": lambda x: np.allclose(x, 1.4075, atol=1e-4),
    "noise.bayes_accuracy": lambda x: np.allclose(x, 0.375),
}


def by_part(view, values) -> list[float]:
    """The mean over each part, of values example by example."""
    rows = {
        "train": view.split.train.tolist(),
        "test": view.split.test.tolist(),
        "all": range(view.task.n_inputs),
    }
    if view.task.noise is not None:
        wrong = [
            int(label) != int(answer) for label, answer in zip(view.labels, view.task.targets, strict=True)
        ]
        rows["corrupted"] = [row for row in rows["train"] if wrong[row]]
        rows["clean"] = [row for row in rows["train"] if not wrong[row]]
    return [sum(float(values[row]) for row in chosen) / len(chosen) for chosen in rows.values()]


def softmax(view) -> np.ndarray:
    odds = np.exp(view.logits.numpy() - view.logits.numpy().max(1, keepdims=True))
    return odds / odds.sum(1, keepdims=True)


def profile(view) -> list[list[float]]:
    found = softmax(view)
    p = view.task.n_answers
    return [
        by_part(
            view,
            [row[(answer + k) % p] for row, answer in zip(found, view.task.targets.tolist(), strict=True)],
        )
        for k in OFFSETS
    ]


def distance(view) -> list[float]:
    return by_part(
        view,
        [
            np.mean((row - np.eye(len(row))[c]) ** 2)
            for row, c in zip(view.logits.numpy(), view.task.targets, strict=True)
        ],
    )


def clean_loss(view) -> list[float]:
    return by_part(
        view,
        [
            math.log1p(sum(math.exp(x - row[c]) for i, x in enumerate(row) if i != c))
            for row, c in zip(view.logits.tolist(), view.task.targets.tolist(), strict=True)
        ],
    )


def most_likely(view) -> list[float]:
    """From a million drawn labels: no guess of the shift is right more often than the best, which is found by
    counting."""
    drawn = np.random.default_rng(0).binomial(4, 0.5, 10**6)
    share = np.bincount(drawn).max() / len(drawn)
    assert abs(share - 0.375) < 0.003
    return [math.comb(4, 2) / 2**4] * 3


SLOWLY = {
    "clean_accuracy": lambda view: by_part(
        view,
        [
            max(range(len(row)), key=row.__getitem__) == c
            for row, c in zip(view.logits.tolist(), view.task.targets, strict=True)
        ],
    ),
    "clean_loss": clean_loss,
    "loss.mse": distance,
    "noise.profile": profile,
    # ln 16 − (6 ln 6 + 8 ln 4) / 16, of 1 + 4 + 6 + 4 + 1 equally likely throws of four coins
    "noise.bayes_loss": lambda view: [math.log(16) - (6 * math.log(6) + 8 * math.log(4)) / 16] * 3,
    "noise.bayes_accuracy": most_likely,
}
