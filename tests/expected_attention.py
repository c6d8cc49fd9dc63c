"""What the measures of attention and of positions must say (see test_measures.py)."""

from __future__ import annotations

import math

import numpy as np
import torch

from by_hand import attention_scores, cross_entropy, forward, parameters
from grokinterp import controls

P, KEYS, D = 17, (2, 5, 8), 3 * 6 + 3
CLOCK_LOSS = math.log1p(
    sum(math.exp(10 * sum(math.cos(2 * math.pi * k * d / P) - 1 for k in KEYS)) for d in range(1, P))
)


def clock():
    return controls.clock(P, KEYS, 10.0)


def between(low: float, high: float):
    return lambda x: ((low < x) & (x < high)).all()


# Head 0 copies a, head 1 copies b: each takes Σ_{s,t} cos² = 17² / 2 of the waves that neurons read, on waves
# of norm √(17/2).
OF_VALUES = [0.0] + [
    math.sqrt(P / 2) * math.sqrt(P * P / 2) if (i + 1) // 2 in KEYS else 0.0 for i in range(1, P)
]

ON_THE_CLOCK = {
    "attention.self.mean": [[0, 0]],
    "attention.self.max": [[0, 0]],
    "attention.self.uniform": 1 / 3,
    "head.frequency": [[0, 0]],
    "head.explained_variance": [[0, 0]],
    "fourier_norms.QK": np.zeros((2, P)),
    "fourier_norms.OV": [OF_VALUES, OF_VALUES],
    "linear_attention_loss.tangent": lambda: linear_losses(clock()),
    # All scores are 100 apart, so a line fits them exactly: nothing is lost.
    "linear_attention_loss.fitted": [CLOCK_LOSS] * 3,
    "position_similarity.cosine": 0.0,  # a dimension for each position
    "position_similarity.distance": 2.0,
    "position_similarity.baseline": [1 / D, (1 - 1 / D) / math.sqrt(D - 1)],
    "position_similarity.z": -1 / math.sqrt(D - 1),
    "position_similarity.z_rotated": 0.0,
    "position_similarity.percentile": lambda: permuted_share(clock()),
}

ON_A_RANDOM_NETWORK = {
    "attention.self.mean": between(1 / 3 - 0.05, 1 / 3 + 0.05),
    "attention.self.max": between(1 / 3, 0.5),
    "attention.self.uniform": lambda x: x == 1 / 3,
    "head.frequency": lambda x: len(np.unique(x)) > 1,
    "head.explained_variance": between(0, 0.25),
    "fourier_norms.QK": between(0, 2),
    "fourier_norms.OV": lambda x: x.max() < 4 * x.min(),  # no component stands out
    "linear_attention_loss.tangent": between(math.log(53) - 0.3, math.log(53) + 0.3),
    "linear_attention_loss.fitted": between(math.log(53) - 0.3, math.log(53) + 0.3),
    "position_similarity.cosine": between(-0.4, 0.4),
    "position_similarity.distance": between(1.2, 2.8),
    "position_similarity.baseline": lambda x: abs(x[0]) < 0.03 and abs(x[1] * math.sqrt(64) - 1) < 0.03,
    "position_similarity.z": between(-3, 3),
    "position_similarity.z_rotated": between(-3, 3),
    "position_similarity.percentile": between(0.005, 0.995),
}


def blocks_of_heads(view) -> np.ndarray:
    """R² of the attention to a on the nine products of waves of each frequency, by least squares: [freq,
    layer, head]."""
    from test_measures import frequencies, nine_term_fit

    attention = forward(view)["pattern"][:, :, 0]
    return np.stack([nine_term_fit(view.task.p, attention, k) for k in frequencies(view.task.p)])[:, None]


def spectrum(columns: np.ndarray) -> np.ndarray:
    from test_measures import component_norms

    return component_norms(columns)


def score_spectra(view) -> list[np.ndarray]:
    w, p = parameters(view), view.task.p
    query = w["W_E"][p] + w["W_pos"][2]
    scores = [
        w["W_E"][:p] @ w["W_K"][h] @ (w["W_Q"][h].T @ query + w["b_Q"][h]) / math.sqrt(w["W_Q"].shape[2])
        for h in range(len(w["W_Q"]))
    ]
    return [spectrum(column[:, None]) for column in scores]


def value_spectra(view) -> list[np.ndarray]:
    w = parameters(view)
    return [
        spectrum(w["W_E"][: view.task.p] @ w["W_V"][h] @ w["W_O"][h] @ w["W_in"])
        for h in range(len(w["W_V"]))
    ]


def linear_losses(view, fitted: bool = False) -> list[float]:
    scores = attention_scores(view)
    odds = np.exp(scores - scores.max(-1, keepdims=True))
    pattern = odds / odds.sum(-1, keepdims=True)
    shares = scores[..., :2] - scores[..., :2].mean(-1, keepdims=True)
    for head in range(shares.shape[1]):
        softmax = pattern[:, head, :2] / pattern[:, head, :2].sum(-1, keepdims=True)
        line = shares[:, head].reshape(-1, 1)
        slope = np.linalg.lstsq(line, softmax.ravel() - 1 / 2, rcond=None)[0][0] if fitted else 1 / 2
        shares[:, head] = 1 / 2 + slope * shares[:, head]
    linear = np.concatenate([shares * (1 - pattern[..., 2:]), pattern[..., 2:]], axis=-1)
    return cross_entropy(view, forward(view, pattern=linear)["logits"])


def two_positions(view) -> np.ndarray:
    return view.weights["pos_embed.W_pos"].numpy()[:2]


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float((a * b).sum() / math.sqrt((a * a).sum() * (b * b).sum()))


def moments(view) -> list[float]:
    """Over transpositions of indices: E[a·b_π] = d ā b̄, and the second moment from pairs of equal and of
    different entries."""
    a, b = (x / np.linalg.norm(x) for x in two_positions(view))
    d = len(a)
    equal = (a**2).sum() * (b**2).sum() / d
    different = (a.sum() ** 2 - (a**2).sum()) * (b.sum() ** 2 - (b**2).sum()) / (d * (d - 1))
    mean = a.sum() * b.sum() / d
    return [mean, math.sqrt(equal + different - mean**2)]


def permuted_share(view) -> float:
    a, b = two_positions(view)
    orders = torch.rand(1000, len(b), generator=torch.Generator().manual_seed(0)).argsort(1).tolist()
    below = [np.sign(round(cosine(a, b) - cosine(a, b[order]), 9)) for order in orders]
    return float(np.mean([(sign + 1) / 2 for sign in below]))


def rotated(view) -> float:
    """The cosine in deviations of a first coordinate on the sphere: √E[x²], by the integral over x of x² (1 −
    x²)^((d − 3) / 2)."""
    d, x = len(two_positions(view)[0]), np.linspace(-1, 1, 2_000_001)[1:-1]
    density = np.exp((d - 3) / 2 * np.log1p(-(x**2)))
    return cosine(*two_positions(view)) / math.sqrt(float((x**2 * density).sum() / density.sum()))


SLOWLY = {
    "attention.self.mean": lambda view: [forward(view)["pattern"][:, :, 2].mean(0)],
    "attention.self.max": lambda view: [forward(view)["pattern"][:, :, 2].max(0)],
    "attention.self.uniform": lambda view: 1 / view.task.inputs.shape[1],
    "head.frequency": lambda view: blocks_of_heads(view).argmax(0) + 1,
    "head.explained_variance": lambda view: blocks_of_heads(view).max(0),
    "fourier_norms.QK": score_spectra,
    "fourier_norms.OV": value_spectra,
    "linear_attention_loss.tangent": linear_losses,
    "linear_attention_loss.fitted": lambda view: linear_losses(view, fitted=True),
    "position_similarity.cosine": lambda view: cosine(*two_positions(view)),
    "position_similarity.distance": lambda view: (
        sum((x - y) ** 2 for x, y in two_positions(view).T)
        / np.prod([np.linalg.norm(x) for x in two_positions(view)])
    ),
    "position_similarity.baseline": moments,
    "position_similarity.z_rotated": rotated,
    "position_similarity.z": lambda view: (
        (cosine(*two_positions(view)) - moments(view)[0]) / moments(view)[1]
    ),
    "position_similarity.percentile": permuted_share,
}

EVERYWHERE = {name for name in SLOWLY if name.startswith(("attention.", "position_similarity."))} | {
    "linear_attention_loss.tangent",
    "linear_attention_loss.fitted",
}
OF_THE_READOUT = {"fourier_norms.OV"}
OF_THE_GRID = {"head.frequency", "head.explained_variance"}
DIMS = {"statistic"}
