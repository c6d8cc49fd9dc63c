"""What measures of neurons must say: see test_measures.py. Here they are got with numpy's FFT, by least
squares, or from the weights."""

from __future__ import annotations

import math

import numpy as np

import grokinterp as gi

P, KEYS, S = 17, (2, 5, 8), 10.0
D_MLP = len(KEYS) * P * P
ANY = math.nan
CLOCK_LOSS = math.log1p(
    sum(math.exp(S * sum(math.cos(2 * math.pi * k * d / P) - 1 for k in KEYS)) for d in range(1, P))
)


def at_keys(value: float) -> list[float]:
    return [value if k in KEYS else ANY for k in range(1, P // 2 + 1)]


def share_on() -> float:
    """cos x + cos y is above 0 for nearly half of the pairs: it never is 0, as P is odd."""
    cos = [math.cos(2 * math.pi * x / P) for x in range(P)]
    return sum(x + y > 0 for x in cos for y in cos) / P**2


ON_THE_CLOCK = {
    # relu(cos x + cos y) is even in y, which turns a + b into a − b.
    "neuron.sum_fraction": [0.5] * D_MLP,
    "sum_fraction.neurons": at_keys(0.5),
    "neuron.on_share": lambda: [share_on()] * D_MLP,
    "neuron.dead_share": 0.0,
    "neuron.always_on_share": 0.0,
    # The overtones go, and nothing reads them.
    "polynomial_neurons_loss.single_frequency": [CLOCK_LOSS] * 3,
    "polynomial_neurons_loss.all": [CLOCK_LOSS] * 3,
    "polynomial_neurons_accuracy.single_frequency": [1, 1, 1],
    "polynomial_neurons_accuracy.all": [1, 1, 1],
    "neuron.phase_error": [0.0] * D_MLP,
    "phase_error": 0.0,
    "phase_alignment": 1.0,
}


def near(value: float, within: float):
    return lambda x: (np.abs(x - value) <= within).all()


ON_A_RANDOM_NETWORK = {
    "neuron.sum_fraction": lambda x: abs(x.mean() - 0.5) < 0.05 and x.std() > 0.2,
    "sum_fraction.neurons": near(0.5, 0.25),
    "neuron.on_share": lambda x: abs(x.mean() - 0.5) < 0.1 and x.std() > 0.1,
    # The constant of "=" is as large as what a and b add, so some neurons are on or off whatever these are.
    "neuron.dead_share": near(0.15, 0.1),
    "neuron.always_on_share": near(0.15, 0.1),
    "polynomial_neurons_loss.single_frequency": near(math.log(53), 0.3),
    "polynomial_neurons_loss.all": near(math.log(53), 0.3),
    "polynomial_neurons_accuracy.single_frequency": near(1 / 53, 0.02),
    "polynomial_neurons_accuracy.all": near(1 / 53, 0.02),
    "neuron.phase_error": lambda x: abs(x.mean() - math.pi / 2) < 0.25,
    "phase_error": near(2 / math.pi, 0.12),
    "phase_alignment": near(0, 0.2),
}


def own_frequency(view) -> np.ndarray:
    return gi.measure("neuron.frequency", view).values


def sum_and_difference(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """|F(k, k)|² and |F(k, −k)|² of the two-dimensional FFT: e^{iw(a + b)} and e^{iw(a − b)}."""
    power = np.abs(np.fft.fft2(x, axes=(0, 1))) ** 2
    k = np.arange(1, len(x) // 2 + 1)
    return power[k, k], power[k, -k]


def divided(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 1e-18 * whole.max())


def sum_fraction_of_each(view) -> np.ndarray:
    p = view.task.p
    with_sum, with_difference = sum_and_difference(view.neurons.numpy().reshape(p, p, -1))
    at = own_frequency(view) - 1, np.arange(view.neurons.shape[1])
    return divided(with_sum[at], with_sum[at] + with_difference[at])


def sum_fraction(view, x) -> np.ndarray:
    p = view.task.p
    with_sum, with_difference = (power.sum(1) for power in sum_and_difference(x.numpy().reshape(p, p, -1)))
    return divided(with_sum, with_sum + with_difference)


def is_on(view) -> np.ndarray:
    return view.cache["blocks.0.mlp.hook_pre"][:, -1].numpy() > 0


def with_polynomials(view, replaced: np.ndarray) -> np.ndarray:
    """Least squares on nine waves for each neuron; the change goes through W_L, as what follows the neurons
    is linear."""
    p, neurons = view.task.p, view.neurons.numpy()
    change = np.zeros_like(neurons)
    x = 2 * np.pi * np.arange(p) / p
    for i, k in enumerate(own_frequency(view)):
        if replaced[i]:
            one_d = [np.ones(p), np.cos(k * x), np.sin(k * x)]
            terms = np.stack([np.outer(f, g).ravel() for f in one_d for g in one_d], axis=1)
            change[:, i] = terms @ np.linalg.lstsq(terms, neurons[:, i], rcond=None)[0] - neurons[:, i]
    w_l = (view.weights["blocks.0.mlp.W_out"] @ view.weights["unembed.W_U"]).numpy()
    return view.logits.numpy() + change @ w_l


def single(view) -> np.ndarray:
    return gi.measure("neuron.explained_variance", view).values > 0.85


def everyone(view) -> np.ndarray:
    return np.ones(view.neurons.shape[1], dtype=bool)


def polynomial_loss(view, replaced: np.ndarray) -> list[float]:
    from test_measures import losses

    return losses(view, with_polynomials(view, replaced))


def polynomial_accuracy(view, replaced: np.ndarray) -> list[float]:
    from test_measures import by_part

    return by_part(view, with_polynomials(view, replaced).argmax(1) == view.task.targets.numpy())


def phases(view) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Frequency, amplitude and phase error of each neuron, from FFTs of its mean over b, over a, and of its
    readout."""
    p, k, each = view.task.p, own_frequency(view), np.arange(view.neurons.shape[1])
    grid = view.neurons.numpy().reshape(p, p, -1)
    w_l = (view.weights["blocks.0.mlp.W_out"] @ view.weights["unembed.W_U"]).numpy()
    a, b, c = (np.fft.fft(x, axis=0)[k, each] for x in (grid.mean(1), grid.mean(0), w_l.T))
    turned = np.angle(a) + np.angle(b) - np.angle(c)
    size = np.abs(a) * np.abs(b) * np.abs(c)
    return k, size, np.abs((turned + np.pi) % (2 * np.pi) - np.pi) * (size > 0)


def mean_over_phases(view, function) -> float:
    k, size, error = phases(view)
    size = np.where(2 * k == view.task.p, 0, size)
    return float((size * function(error)).sum() / size.sum())


SLOWLY = {
    "neuron.sum_fraction": sum_fraction_of_each,
    "sum_fraction.neurons": lambda view: sum_fraction(view, view.neurons),
    "neuron.on_share": lambda view: is_on(view).mean(0),
    "neuron.dead_share": lambda view: (~is_on(view).any(0)).mean(),
    "neuron.always_on_share": lambda view: is_on(view).all(0).mean(),
    "polynomial_neurons_loss.single_frequency": lambda view: polynomial_loss(view, single(view)),
    "polynomial_neurons_loss.all": lambda view: polynomial_loss(view, everyone(view)),
    "polynomial_neurons_accuracy.single_frequency": lambda view: polynomial_accuracy(view, single(view)),
    "polynomial_neurons_accuracy.all": lambda view: polynomial_accuracy(view, everyone(view)),
    "neuron.phase_error": lambda view: phases(view)[2],
    "phase_error": lambda view: mean_over_phases(view, lambda x: np.abs(np.sin(x))),
    "phase_alignment": lambda view: mean_over_phases(view, np.cos),
}

NEED_NO_GRID = {"neuron.on_share", "neuron.dead_share", "neuron.always_on_share"}
EVERYWHERE = NEED_NO_GRID
OF_NEURONS = {name for name in ON_THE_CLOCK if name not in NEED_NO_GRID}
OF_THE_READOUT = NEED_NO_GRID
