"""What the measures of representations must say: on the clock, on a random network, and by a slower route,
for addition mod p.

There, representation k is frequency k. Other groups have tests of their own, in test_irreps.py.
"""

from __future__ import annotations

import math

import numpy as np

from expected_losses import (
    KEYS,
    OPEN,
    P,
    S,
    alone,
    columns,
    cube,
    fitted,
    logits_of,
    loss_of_cosines,
    readout,
    slowly,
    through_readout,
)
from grokinterp import controls
from grokinterp.errors import NotApplicable


def clock_neurons_explained(which: str) -> float:
    """R² of relu(cos w_k a + cos w_k b), mean over keys k, on the waves of all keys. Harmonics of one are
    fundamentals of another."""
    a, b = (x.ravel() for x in np.meshgrid(np.arange(P), np.arange(P), indexing="ij"))
    places = {"a": a, "b": b, "ab": (a + b) % P}
    terms = np.concatenate(
        [np.ones((P * P, 1)), *(columns(places[place], P, KEYS) for place in which.split())], axis=1
    )
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


def loss_of_the_memoriser() -> float:
    """Of one-hot logits on half of the examples, as large as the clock's, on the cubes of the keys: α Σ_k cos
    w_k(c* − c)."""
    n, trained = P * P, P * P // 2
    larger = math.sqrt(n * S**2 * len(KEYS) * P / 2 / (trained * (1 - 1 / P)))
    alpha = larger * trained / (n * P / 2)
    return math.log1p(
        sum(math.exp(alpha * sum(math.cos(2 * math.pi * k * d / P) - 1 for k in KEYS)) for d in range(1, P))
    )


ON_THE_CLOCK = {
    "key_irreps": [k in KEYS for k in range(1, P // 2 + 1)],
    "key_irreps.share": [len(KEYS) / (P // 2), 2 * len(KEYS) / P],
    "key_irreps.share_memoriser": [1, (P - 1) / P],  # all characters are largest at the right answer
    "restricted_loss.memoriser_irreps": lambda: [loss_of_the_memoriser()] * 3,
    "restricted_accuracy.memoriser_irreps": [1, 1, 1],
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
ON_A_RANDOM_NETWORK["key_irreps.share_memoriser"] = lambda x: (x > 0.9).all()
ON_A_RANDOM_NETWORK["irrep_cosine"] = lambda x: (abs(x) < 0.005).all()
ON_A_RANDOM_NETWORK["irrep_fve.logits"] = lambda x: x < 0.001
ON_A_RANDOM_NETWORK["key_irreps"] = ON_A_RANDOM_NETWORK["key_irreps.share"] = lambda x: (x == 0).all()


def cosines(view) -> list[float]:
    """Of the centred logits with every cube cos w_k(a + b − c), written out."""
    p = view.task.p
    a, b = view.task.pairs.numpy().T
    logits = logits_of(view) - logits_of(view).mean(1, keepdims=True)
    cubes = [np.cos(2 * np.pi * k * ((a + b)[:, None] - np.arange(p)) / p) for k in range(1, p // 2 + 1)]
    return [float((logits * wave).sum() / np.sqrt((wave**2).sum() * (logits**2).sum())) for wave in cubes]


def characters(view, k: int) -> np.ndarray:
    """cos w_k(a + b − c), written out."""
    p, (a, b) = view.task.p, view.task.pairs.numpy().T
    return np.cos(2 * np.pi * k * ((a + b)[:, None] - np.arange(p)) / p)


def marked(view) -> list[bool]:
    """A cosine above the threshold, and a mean over unseen examples of three standard errors."""
    p, unseen = view.task.p, view.split.test.numpy()
    centred = logits_of(view) - logits_of(view).mean(1, keepdims=True)
    found = []
    for k, cosine in enumerate(cosines(view), 1):
        products = (characters(view, k) * centred)[unseen].sum(1)
        above = products.mean() > 3 * products.std(ddof=1) / math.sqrt(len(products))
        found.append(bool(cosine > max(0.005, 2 / math.sqrt(p**3)) and above))
    return found


def kept(view) -> list[float]:
    p, found = view.task.p, marked(view)
    return [sum(found) / len(found), sum(1 if 2 * k == p else 2 for k, so in enumerate(found, 1) if so) / p]


def by_heart(view) -> np.ndarray:
    """One-hot logits of the training examples, centred."""
    known = np.zeros(logits_of(view).shape)
    known[view.split.train.numpy(), view.task.targets.numpy()[view.split.train.numpy()]] = 1
    return known - known.mean(1, keepdims=True)


def kept_by_heart(view) -> list[float]:
    known, p = by_heart(view), view.task.p
    waves = {k: characters(view, k) for k in range(1, p // 2 + 1)}
    cosines = {
        k: (known * wave).sum() / np.sqrt((wave**2).sum() * (known**2).sum()) for k, wave in waves.items()
    }
    found = [k for k, cosine in cosines.items() if cosine > max(0.005, 2 / math.sqrt(p**3))]
    return [len(found) / len(waves), sum(1 if 2 * k == p else 2 for k in found) / p]


def memoriser_in_characters(view, keys) -> np.ndarray:
    """One-hot logits of the training examples, as large as the network's, fitted by the characters of the
    keys."""
    known = by_heart(view)
    centred = logits_of(view) - logits_of(view).mean(1, keepdims=True)
    known *= np.linalg.norm(centred) / np.linalg.norm(known)
    waves = [characters(view, k) for k in keys]
    return sum((known * wave).sum() / (wave**2).sum() * wave for wave in waves)


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
    "key_irreps": marked,
    "key_irreps.share": kept,
    "key_irreps.share_memoriser": kept_by_heart,
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
        "restricted.memoriser_irreps": memoriser_in_characters,
    }
)

DIMS = {"irrep", "operand", "of"}
EVERYWHERE = OF_GROUPS = set(ON_THE_CLOCK)
OF_THE_READOUT = {name for name in ON_THE_CLOCK if "hidden" in name or "neurons" in name or "W_U" in name}
