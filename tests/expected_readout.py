"""What measures of the readout must say: see test_measures.py."""

from __future__ import annotations

import numpy as np

from expected_neurons import KEYS, P, sum_fraction


def read_of_the_clock(k: int) -> float:
    """The readout of k reads the neurons of k alone. Those of j have a wave of k too, as their overtone n, n
    j = k mod P."""
    cos = np.cos(2 * np.pi * np.arange(P) / P)
    overtone = np.abs(np.diagonal(np.fft.fft2(np.maximum(cos[:, None] + cos, 0)))) ** 2
    return float(overtone[1] / sum(overtone[k * pow(j, -1, P) % P] for j in KEYS))


ON_THE_CLOCK = {
    "w_l_residual.raw": 0.0,
    "w_l_residual.centred": 0.0,
    # What is not read is not there: W_L has nothing at other frequencies, and the logits neither.
    "w_l_directions.explained_variance": [1.0 if (i + 1) // 2 in KEYS else 0.0 for i in range(1, P)],
    "readout_fraction": lambda: [read_of_the_clock(k) if k in KEYS else 0.0 for k in range(1, P // 2 + 1)],
    "sum_fraction.logits": [1.0 if k in KEYS else 0.0 for k in range(1, P // 2 + 1)],
}


def below(limit: float):
    return lambda x: (np.abs(x) < limit).all()


ON_A_RANDOM_NETWORK = {
    "w_l_residual.raw": lambda x: x == 1,  # no key frequencies, so nothing is taken out
    "w_l_residual.centred": lambda x: x == 1,
    "w_l_directions.explained_variance": below(0.02),
    "readout_fraction": lambda x: abs(x.mean() - 2 / 256) < 0.005 and x.max() < 0.05,
    "sum_fraction.logits": lambda x: (np.abs(x - 0.5) < 0.25).all(),
}


def w_l(view) -> np.ndarray:
    """[answer, neuron]"""
    return (view.weights["blocks.0.mlp.W_out"] @ view.weights["unembed.W_U"]).numpy()[:, : view.task.p].T


def components(p: int) -> list[np.ndarray]:
    """Waves of every frequency, cosine and sine, without the constant and the sine of the Nyquist
    frequency."""
    x = 2 * np.pi * np.arange(p) / p
    return [
        wave(k * x)
        for k in range(1, p // 2 + 1)
        for wave in (np.cos, np.sin)
        if not (2 * k == p and wave is np.sin)
    ]


def residual(view, keys, matrix) -> float:
    p = view.task.p
    waves = np.stack([wave for i, wave in enumerate(components(p)) if i // 2 + 1 in keys], axis=1)
    left = matrix - waves @ np.linalg.lstsq(waves, matrix, rcond=None)[0]
    return float(np.sqrt((left**2).sum() / (matrix**2).sum()))


def correlations(view) -> list[float]:
    neurons, answer = view.neurons.numpy(), view.task.targets.numpy()
    found = []
    for wave in components(view.task.p):
        read = neurons @ (wave @ w_l(view))
        found.append(float(np.corrcoef(read, wave[answer])[0, 1] ** 2))
    return found


def read_share(view) -> list[float]:
    """By least squares: how much of what the neurons hold is a combination of the two rows of the readout."""
    p, answer = view.task.p, view.task.targets.numpy()
    neurons = view.neurons.numpy() - view.neurons.numpy().mean(0)
    shares = []
    for k in range(1, p // 2 + 1):
        waves = np.stack(components(p)[2 * k - 2 : 2 * k])
        held, rows = waves[:, answer] @ neurons, waves @ w_l(view)
        fit = rows.T @ np.linalg.lstsq(rows.T, held.T, rcond=None)[0]
        shares.append(float((fit**2).sum() / (held**2).sum()))
    return shares


SLOWLY = {
    "w_l_residual.raw": lambda view, keys: residual(view, keys, w_l(view)),
    "w_l_residual.centred": lambda view, keys: residual(view, keys, w_l(view) - w_l(view).mean(0)),
    "w_l_directions.explained_variance": correlations,
    "readout_fraction": read_share,
    "sum_fraction.logits": lambda view: sum_fraction(view, view.logits - view.logits.mean(1, keepdim=True)),
}

OF_THE_READOUT = {
    "w_l_residual.raw",
    "w_l_residual.centred",
    "w_l_directions.explained_variance",
    "readout_fraction",
}
OF_THE_GRID = {"sum_fraction.logits"}
