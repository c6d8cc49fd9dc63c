"""What the measures of representations must say: on the clock, on a random network, and by a slower route, for addition mod p.

There, representation k is frequency k. Other groups have tests of their own, in test_irreps.py.
"""

from __future__ import annotations

import math

import numpy as np

from expected_losses import KEYS, OPEN, P, alone, columns, cube, fitted, logits_of, loss_of_cosines, readout, slowly, through_readout
from grokinterp import controls
from grokinterp.errors import NotApplicable


def clock_neurons_explained(which: str) -> float:
    """R² of relu(cos w_k a + cos w_k b), mean over keys k, on the waves of all keys. Harmonics of one are fundamentals of another."""
    a, b = (x.ravel() for x in np.meshgrid(np.arange(P), np.arange(P), indexing="ij"))
    places = {"a": a, "b": b, "ab": (a + b) % P}
    terms = np.concatenate([np.ones((P * P, 1)), *(columns(places[place], P, KEYS) for place in which.split())], axis=1)
    shares = []
    for k in KEYS:
        neuron = controls.rectified_sum(P, k).numpy().reshape(-1, 1)
        shares.append(float(fitted(terms, neuron).var() / neuron.var()))
    return float(np.mean(shares))


def clock_products_explained() -> float:
    """cos w_k(a + b) is there with 2 A / p²; each other key's, with what the rectified sum has of it."""
    shares = []
    for k in KEYS:
        neuron = controls.rectified_sum(P, k).numpy()
        s = np.add.outer(np.arange(P), np.arange(P))
        parts = [(2 / P**2 * (neuron * np.cos(2 * np.pi * j * s / P)).sum()) ** 2 / 2 for j in KEYS]
        shares.append(sum(parts) / neuron.var())
    return float(np.mean(shares))


ON_THE_CLOCK = {
    "irrep_cosine": [1 / math.sqrt(len(KEYS)) if k in KEYS else 0 for k in range(1, P // 2 + 1)],
    "irrep_fve.logits": 1.0,
    "irrep_fve.W_E": [1.0],
    "irrep_fve.W_U": 1.0,
    "irrep_fve.neurons": lambda: clock_neurons_explained("a b ab"),
    "irrep_fve.neurons_ab": clock_products_explained,
    "restricted_loss.hidden_irreps": [loss_of_cosines(KEYS)] * 3,
    "restricted_accuracy.hidden_irreps": [1, 1, 1],
    "excluded_loss.hidden_irreps": [math.log(P)] * 3,
    "excluded_accuracy.hidden_irreps": OPEN,
    "restricted_loss.logit_irreps": [loss_of_cosines(KEYS)] * 3,
    "restricted_accuracy.logit_irreps": [1, 1, 1],
}

ON_A_RANDOM_NETWORK = dict.fromkeys(ON_THE_CLOCK, NotApplicable)
ON_A_RANDOM_NETWORK["irrep_cosine"] = lambda x: (abs(x) < 0.005).all()
ON_A_RANDOM_NETWORK["irrep_fve.logits"] = lambda x: x < 0.001


def cosines(view) -> list[float]:
    """Of the centred logits with every cube cos w_k(a + b − c), written out."""
    p = view.task.p
    a, b = view.task.pairs.numpy().T
    logits = logits_of(view) - logits_of(view).mean(1, keepdims=True)
    cubes = [np.cos(2 * np.pi * k * ((a + b)[:, None] - np.arange(p)) / p) for k in range(1, p // 2 + 1)]
    return [float((logits * wave).sum() / np.sqrt((wave**2).sum() * (logits**2).sum())) for wave in cubes]


def share(design: np.ndarray, x: np.ndarray) -> float:
    return float((fitted(design, x) ** 2).sum() / (x**2).sum())


def of_elements(view, keys, matrix: np.ndarray) -> float:
    return share(columns(np.arange(view.task.p), view.task.p, keys), matrix)


def of_neurons(view, keys, which: str) -> float:
    a, b = view.task.pairs.numpy().T
    places = {"a": a, "b": b, "ab": (a + b) % view.task.p}
    design = np.concatenate([columns(places[place], view.task.p, keys) for place in which.split()], axis=1)
    return share(design, view.neurons.numpy() - view.neurons.numpy().mean(0))


SLOWLY = {
    "irrep_cosine": cosines,
    "irrep_fve.logits": lambda view: sum(cosine**2 for cosine in cosines(view)),
    "irrep_fve.W_E": lambda view, keys: [of_elements(view, keys, view.W_E.numpy())],
    "irrep_fve.W_U": lambda view, keys: of_elements(view, keys, readout(view).T),
    "irrep_fve.neurons": lambda view, keys: of_neurons(view, keys, "a b ab"),
    "irrep_fve.neurons_ab": lambda view, keys: of_neurons(view, keys, "ab"),
} | slowly(
    {
        "restricted.hidden_irreps": through_readout,
        "excluded.hidden_irreps": lambda view, keys: alone(view) - through_readout(view, keys),
        "restricted.logit_irreps": cube,
    }
)

DIMS = {"irrep", "operand"}
EVERYWHERE = OF_GROUPS = set(ON_THE_CLOCK)
OF_THE_READOUT = {name for name in ON_THE_CLOCK if "hidden" in name or "neurons" in name or "W_U" in name}
