"""What measures of the sparsity of weights must say: see test_measures.py."""

from __future__ import annotations

import math

import numpy as np

from expected_neurons import D_MLP, KEYS, P
from expected_readout import w_l

K = len(KEYS)

ON_THE_CLOCK = {
    # n values of which m are equal and the rest 0 have a Gini coefficient of 1 − m / n; here n counts
    # frequencies.
    "gini.W_E.power": 1 - K / (P // 2),
    "gini.W_L.power": 1 - K / (P // 2),
    # K circles of two equal axes each.
    "effective_rank.W_E": 2.0 * K,
    "effective_rank.W_L": 2.0 * K,
    "participation_ratio.W_E": 2.0 * K,
    "participation_ratio.W_L": 2.0 * K,
    # A real wave is e^{iwx} and e^{−iwx} in equal parts.
    "ipr.complex": 0.5,
    "ipr.neurons": [0.5] * D_MLP,
    "ipr.half_spectrum": [1.0] * D_MLP,
    "ipr.real": 1.0,
}


def between(low: float, high: float):
    return lambda x: (low < x).all() and (x < high).all()


ON_A_RANDOM_NETWORK = {
    # Power of a frequency is a sum of 2 · 64 squares: it varies by 1/8 of its mean. For W_L, of about 64
    # independent ones.
    "gini.W_E.power": between(0, 0.15),
    "gini.W_L.power": between(0, 0.15),
    # Of 53 × 64 and 256 × 53 (through a width of 64) random numbers.
    "effective_rank.W_E": between(35, 53),
    "effective_rank.W_L": between(35, 53),
    "participation_ratio.W_E": between(22, 35),  # 1 / (1/53 + 1/64) = 29
    "participation_ratio.W_L": between(18, 32),
    # A coefficient's power is exponentially distributed: Σ x² / (Σ x)² = 2 / 53 and 2 / 26, less a little.
    "ipr.complex": between(1.8 / 53, 2.2 / 53),
    "ipr.neurons": between(1 / 53, 0.1),
    "ipr.half_spectrum": between(1 / 27, 0.2),
    "ipr.real": between(1.7 / 26, 2.2 / 26),
}


def power_gini(matrix: np.ndarray) -> float:
    """Half the mean absolute difference of all pairs of frequencies, over the mean."""
    p = len(matrix)
    spectrum = (np.abs(np.fft.fft(matrix, axis=0)) ** 2).sum(1)
    power = np.array([spectrum[k] * (1 if 2 * k == p else 2) for k in range(1, p // 2 + 1)])
    return float(np.abs(power[:, None] - power).mean() / (2 * power.mean()))


def entropy_rank(matrix: np.ndarray) -> float:
    s = np.linalg.svd(matrix, compute_uv=False)
    return math.prod((value / s.sum()) ** (-value / s.sum()) for value in s if value > 0)


def trace_ratio(matrix: np.ndarray) -> float:
    gram = matrix.T @ matrix
    return float(np.trace(gram) ** 2 / (gram**2).sum())


def read_and_written(view) -> list[np.ndarray]:
    """Of a, of b, and into the answer: [element, neuron] each, head by head from the weights."""
    w = {name.rpartition(".")[2]: weight.numpy() for name, weight in view.weights.items()}
    p, attention = view.task.p, view.attention[0].numpy().mean(1)
    reads = []
    for position in (0, 1):
        stream = sum(
            attention[h, position] * w["W_E"][:p] @ w["W_V"][h] @ w["W_O"][h] for h in range(len(attention))
        )
        reads.append(stream @ w["W_in"])
    return [*reads, w_l(view)]


def participation(column: np.ndarray, real: bool) -> float:
    """By sums of waves written out."""
    p = len(column)
    angle = 2 * np.pi * np.outer(np.arange(p), np.arange(p)) / p
    cos, sin = np.cos(angle) @ column, np.sin(angle) @ column
    power = cos**2 + sin**2
    if real:
        power = np.array([power[k] * (1 if 2 * k == p else 2) for k in range(1, p // 2 + 1)])
    return float((power**2).sum() / power.sum() ** 2)


def half_participation(column: np.ndarray) -> float:
    """The constant and the waves up to half the order, each with what numpy's rfft gives it."""
    power = np.abs(np.fft.rfft(column)) ** 2
    return float((power**2).sum() / power.sum() ** 2)


def of_neurons(view, real: bool) -> np.ndarray:
    matrices = read_and_written(view)
    return np.array(
        [np.mean([participation(x[:, i], real) for x in matrices]) for i in range(view.neurons.shape[1])]
    )


SLOWLY = {
    "gini.W_E.power": lambda view: power_gini(view.W_E.numpy()),
    "gini.W_L.power": lambda view: power_gini(w_l(view)),
    "effective_rank.W_E": lambda view: entropy_rank(view.W_E.numpy()),
    "effective_rank.W_L": lambda view: entropy_rank(w_l(view)),
    "participation_ratio.W_E": lambda view: trace_ratio(view.W_E.numpy()),
    "participation_ratio.W_L": lambda view: trace_ratio(w_l(view)),
    "ipr.complex": lambda view: of_neurons(view, real=False).mean(),
    "ipr.neurons": lambda view: of_neurons(view, real=False),
    "ipr.half_spectrum": lambda view: [
        np.mean([half_participation(x[:, i]) for x in read_and_written(view)])
        for i in range(view.neurons.shape[1])
    ],
    "ipr.real": lambda view: of_neurons(view, real=True).mean(),
}

EVERYWHERE = {
    f"{measure}.{matrix}"
    for measure in ("effective_rank", "participation_ratio")
    for matrix in ("W_E", "W_L")
}
OF_THE_READOUT = {name for name in ON_THE_CLOCK if not name.endswith(("W_E", "W_E.power"))}
