"""What the powers of frequencies must say: see test_measures.py. Here they come from FFTs and from cosines
and sines written out."""

from __future__ import annotations

import numpy as np

from expected_neurons import KEYS, P, S
from grokinterp import controls
from grokinterp.measures import circular


def at_keys(value: float) -> list[float]:
    return [value if k in KEYS else 0.0 for k in range(1, P // 2 + 1)]


def of_a_cluster() -> float:
    """Variance of all neurons of one key of the clock."""
    return P * P * float(controls.rectified_sum(P, 1).var(unbiased=False))


def with_overtones() -> list[float]:
    """A rectified wave has overtones, which lie in the blocks of other frequencies: 2 · 2 = 4, 2 · 5 = −7 and
    2 · 8 = −1."""
    from test_measures import nine_term_fit

    neurons = np.stack([controls.rectified_sum(P, k).numpy().ravel() for k in KEYS], axis=1)
    return [of_a_cluster() * nine_term_fit(P, neurons, k).sum() for k in range(1, P // 2 + 1)]


ON_THE_CLOCK = {
    "power.W_E": at_keys(P),  # Σ_a cos² + sin²
    "power.W_L": at_keys((S / controls.amplitude(P, 2)) ** 2 * P / 2 * P * P),  # P² neurons, Σ_c cos²
    "power.logits": at_keys(S**2 / 2),
    "variance.logits": len(KEYS) * S**2 / 2,
    "power.neurons": with_overtones,
    "variance.neurons": lambda: len(KEYS) * of_a_cluster(),
}


def level(mean: float, within: float):
    """All frequencies are alike, about a mean."""
    return lambda x: (np.abs(x / mean - 1) < within).all()


ON_A_RANDOM_NETWORK = {
    "power.W_E": level(2, 0.5),  # two rows of 64 entries of variance 1/64
    "power.W_L": level(2 * 256 / 53, 0.5),
    "power.logits": lambda x: (x < 1e-4).all(),  # of a variance near 0.1
    "variance.logits": lambda x: 0.02 < x < 0.5,
    "power.neurons": lambda x: x.max() < 2 * x.mean(),
    "variance.neurons": lambda x: 0.1 < x < 2,
}


def at_frequencies(columns: np.ndarray) -> np.ndarray:
    """By numpy's FFT, in which every frequency but Nyquist's comes twice."""
    p = len(columns)
    spectrum = (np.abs(np.fft.fft(columns, axis=0)) ** 2).sum(1) / p
    return np.array([spectrum[k] * (1 if 2 * k == p else 2) for k in range(1, p // 2 + 1)])


def along_cubes(view) -> list[float]:
    """Least squares on the cubes cos w_k(c* − c) and sin w_k(c* − c), written out."""
    p, logits = circular(view).m, view.logits.numpy()
    angle = 2 * np.pi * ((view.task.targets.numpy()[:, None] - np.arange(p)) % p) / p
    found = []
    for k in range(1, p // 2 + 1):
        cubes = np.stack(
            [np.cos(k * angle).ravel(), np.sin(k * angle).ravel()][: 1 if 2 * k == p else 2], axis=1
        )
        fit = cubes @ np.linalg.lstsq(cubes, logits.ravel(), rcond=None)[0]
        found.append(float((fit**2).mean()))
    return found


def in_blocks(view) -> np.ndarray:
    from test_measures import explained_by

    return (explained_by(view) * view.neurons.numpy().var(0)).sum(1)


SLOWLY = {
    "power.W_E": lambda view: at_frequencies(view.W_E.numpy()),
    "power.W_L": lambda view: at_frequencies(
        (view.weights["blocks.0.mlp.W_out"] @ view.weights["unembed.W_U"]).numpy()[:, : circular(view).m].T
    ),
    "power.logits": along_cubes,
    "variance.logits": lambda view: view.logits.numpy().var(1).mean(),
    "power.neurons": in_blocks,
    "variance.neurons": lambda view: view.neurons.numpy().var(0).sum(),
}

OF_NEURONS = {"power.neurons", "variance.neurons"}
OF_THE_READOUT = {"power.W_L"}
