"""What measures/waves/pizza.py and circles.py must say; test_measures.py reads these tables."""

from __future__ import annotations

import itertools
import math
import random

import numpy as np
import torch

from grokinterp import controls
from grokinterp.errors import NotApplicable
from written_out import forward

P, KEYS, S = 17, (2, 5, 8), 10.0


def distances(p: int, k: int) -> np.ndarray:
    """|cos w_k d/2| of every distance."""
    return np.abs(np.cos(np.pi * k * np.arange(p) / p))


def triples(p: int) -> np.ndarray:
    """As the released code draws them."""
    every = list(itertools.product(range(p), repeat=3))
    random.Random(42).shuffle(every)
    return np.array(every[:100])


def symmetricity_of_the_clock() -> float:
    """From its formula: the neurons that are on, each with its weights, in the plane of every key."""
    cosines = []
    for a, b, c in triples(P):
        by_a, by_b = [], []
        for k in KEYS:
            cos, sin = (wave.numpy() for wave in controls.waves(P, k))
            s, t = np.indices((P, P))
            on = cos[(a + s) % P] + cos[(b + t) % P] > 0
            effect = S / controls.amplitude(P, k) * np.cos(2 * np.pi * k * (s + t + c) / P) * on
            by_a += [(effect * cos[s]).sum(), -(effect * sin[s]).sum()]
            by_b += [(effect * cos[t]).sum(), -(effect * sin[t]).sum()]
        cosines.append(np.dot(by_a, by_b) / np.linalg.norm(by_a) / np.linalg.norm(by_b))
    return float(np.mean(cosines))


CLOCK_AS_PIZZA = [distances(P, k).mean() ** 2 / (distances(P, k) ** 2).mean() for k in KEYS]

ON_THE_CLOCK = {
    "gradient_symmetricity": symmetricity_of_the_clock,
    "distance_irrelevance.correct": 1.0,  # every right answer has the logit S K
    "distance_irrelevance.top_wrong": 1.0,
    "circularity": math.nan,  # three circles of one size: any rotation of their six axes is as good
    "clock_fit.pcs": [math.nan] * 3,
    "pizza_fit.pcs": [math.nan] * 3,
    "clock_fit.fourier": [1.0] * 3,
    "pizza_fit.fourier": CLOCK_AS_PIZZA,
}

ON_A_RANDOM_NETWORK = {
    "gradient_symmetricity": lambda x: (
        0.9 < x < 1
    ),  # attention knows nothing of its input yet: a and b are averaged, as a pizza does
    "distance_irrelevance.correct": lambda x: 0.95 < x < 1,  # and yet not a pizza
    "distance_irrelevance.top_wrong": lambda x: 0.95 < x < 1,
    "circularity": lambda x: x < 0.3,
    "clock_fit.pcs": NotApplicable,
    "pizza_fit.pcs": NotApplicable,
    "clock_fit.fourier": NotApplicable,
    "pizza_fit.fourier": NotApplicable,
}


# The second route


def gradient_symmetricity(view) -> float:
    """Through a forward pass written out here, for the same triples as the released code's."""
    p = view.task.p
    a, b, c = torch.tensor(triples(p)).T
    embedded = view.weights["embed.W_E"][view.task.inputs[a * p + b]].requires_grad_()
    logits, _ = forward(view, embedded)
    (gradient,) = torch.autograd.grad(logits[torch.arange(len(c)), c].sum(), embedded)
    return float(torch.nn.functional.cosine_similarity(gradient[:, 0], gradient[:, 1], eps=0).mean())


def irrelevance(p: int, values: np.ndarray) -> float:
    """By the paper's matrix M[a + b, a − b]; for even p, where that has holes, by the definition."""
    grid = values.reshape(p, p)
    if p % 2 == 0:
        return float(
            np.mean([np.std([grid[a, (a - d) % p] for a in range(p)]) for d in range(p)]) / grid.std()
        )
    matrix = np.full((p, p), np.nan)
    for a, b in itertools.product(range(p), repeat=2):
        matrix[(a + b) % p, (a - b) % p] = grid[a, b]
    return float(np.mean(np.std(matrix, axis=0)) / np.std(matrix))


def right(view) -> np.ndarray:
    return np.array([row[c] for row, c in zip(view.logits.numpy(), view.task.targets.numpy(), strict=True)])


def top_wrong(view) -> np.ndarray:
    return np.array(
        [
            np.delete(row, c).max()
            for row, c in zip(view.logits.numpy(), view.task.targets.numpy(), strict=True)
        ]
    )


def circularity(view) -> float:
    """As the released code has it: a sum over t for every k."""
    p, x = view.task.p, view.W_E.numpy()
    vectors = np.linalg.eigh(np.cov(x.T))[1][:, ::-1][:, :4]
    shares = []
    for v in ((x - x.mean(0)) @ vectors).T:
        v = v / np.linalg.norm(v) / math.sqrt(p)
        sums = (
            sum(v[t * k % p] * np.exp(2j * np.pi * t / p) for t in range(p))
            for k in range(1, p)
            if math.gcd(k, p) == 1 or p % 2 == 0
        )
        spectrum = (
            np.abs(np.fft.fft(v)) ** 2 if p % 2 == 0 else np.array([0, *(abs(total) ** 2 for total in sums)])
        )
        shares.append(
            max(min(1, 2 * power) if 2 * k != p else power for k, power in enumerate(spectrum) if 0 < k < p)
        )
    return float(np.mean(shares))


def run_with(view, table: np.ndarray) -> np.ndarray:
    weight = view.weights["embed.W_E"].clone()
    weight[: view.task.p] = torch.from_numpy(table)
    return forward(view, weight[view.task.inputs])[0].numpy()


def clock(view, k: int) -> np.ndarray:
    """cos w_k(c* − c), with the task's own answers."""
    p = view.task.p
    return np.cos(2 * np.pi * k * (view.task.targets.numpy()[:, None] - np.arange(p)) / p)


def near(view, k: int) -> np.ndarray:
    a, b = view.task.pairs.numpy().T
    return np.abs(np.cos(np.pi * k * (a - b) / view.task.p))[:, None]


def pizza_of_the_code(view, k: int) -> np.ndarray:
    p = view.task.p
    half = np.pi * k * (view.task.targets.numpy()[:, None] - np.arange(p)) / p
    return near(view, k) * (np.abs(np.cos(half)) - np.abs(np.sin(half)))


def with_two_pcs(view, k: int) -> np.ndarray:
    x, p = view.W_E.numpy(), view.task.p
    mean = x.mean(0)
    vectors = np.linalg.eigh(np.cov(x.T))[1]
    spectrum = np.abs(np.fft.fft((x - mean) @ vectors, axis=0)[k])
    axes = vectors[:, np.argsort(spectrum)[-2:]]
    assert p > 2
    return run_with(view, mean + (x - mean) @ axes @ axes.T)


def with_one_frequency(view, k: int) -> np.ndarray:
    """By a filter on numpy's FFT, and both means out by subtraction."""
    spectrum = np.fft.fft(view.W_E.numpy(), axis=0)
    kept = np.zeros_like(spectrum)
    for f in (0, k, view.task.p - k):
        kept[f] = spectrum[f]
    logits = run_with(view, np.fft.ifft(kept, axis=0).real)
    logits = logits - logits.mean(1, keepdims=True)
    return logits - logits.mean(0)


def z_scored(logits: np.ndarray, formula: np.ndarray) -> float:
    """Explained variance of the one by the other, both at mean 0 and variance 1."""
    x, y = ((v - v.mean()) / v.std() for v in (logits, formula))
    return float(1 - (x - y).var() / x.var())


def squared_correlation(logits: np.ndarray, formula: np.ndarray) -> float:
    return float(np.corrcoef(logits.ravel(), formula.ravel())[0, 1] ** 2)


SLOWLY = {
    "gradient_symmetricity": gradient_symmetricity,
    "distance_irrelevance.correct": lambda view: irrelevance(view.task.p, right(view)),
    "distance_irrelevance.top_wrong": lambda view: irrelevance(view.task.p, top_wrong(view)),
    "circularity": circularity,
    "clock_fit.pcs": lambda view, keys: [z_scored(with_two_pcs(view, k), clock(view, k)) for k in keys],
    "pizza_fit.pcs": lambda view, keys: [
        z_scored(with_two_pcs(view, k), pizza_of_the_code(view, k)) for k in keys
    ],
    "clock_fit.fourier": lambda view, keys: [
        squared_correlation(with_one_frequency(view, k), clock(view, k)) for k in keys
    ],
    "pizza_fit.fourier": lambda view, keys: [
        squared_correlation(with_one_frequency(view, k), near(view, k) * clock(view, k)) for k in keys
    ],
}

EVERYWHERE = {"gradient_symmetricity"}
