"""What the losses and accuracies of edited logits must say: on the clock, on a random network, and by a
slower route.

The slower route fits what is kept by least squares on columns that are written out, over the examples.
"""

from __future__ import annotations

import math

import numpy as np

from grokinterp import controls
from grokinterp.errors import NotApplicable

P, KEYS, S = 17, (2, 5, 8), 10.0  # the clock of test_measures.py
OPEN = [math.nan] * 3
"""Logits that are all alike up to rounding have any accuracy."""


def loss_of_cosines(keys) -> float:
    """Of logits S Σ_k cos w_k(c* − c)."""
    return math.log1p(
        sum(math.exp(S * sum(math.cos(2 * math.pi * k * d / P) - 1 for k in keys)) for d in range(1, P))
    )


RESTRICTED = ["logit_dirs", "block3x3", "block2x2", "neuron_dirs", "w_l_directions"]
EXCLUDED = ["logit_dirs", "logit_cube", "neuron_no_skip", "neuron_with_skip", "w_l_directions"]

ON_THE_CLOCK = {f"restricted_loss.{name}": [loss_of_cosines(KEYS)] * 3 for name in RESTRICTED}
ON_THE_CLOCK |= {f"restricted_accuracy.{name}": [1, 1, 1] for name in RESTRICTED}
ON_THE_CLOCK |= {f"excluded_loss.{name}": [math.log(P)] * 3 for name in EXCLUDED}
ON_THE_CLOCK |= {f"excluded_accuracy.{name}": OPEN for name in EXCLUDED}
ON_THE_CLOCK["excluded_loss.per_frequency"] = [
    [loss_of_cosines({*KEYS} - {k})] * 3 for k in range(1, P // 2 + 1)
]

ON_THE_CLOCK["accuracy.mirror"] = [1, 1]

ON_A_RANDOM_NETWORK = dict.fromkeys(ON_THE_CLOCK, NotApplicable)
ON_A_RANDOM_NETWORK["accuracy.mirror"] = lambda x: (x < 0.1).all()
ON_A_RANDOM_NETWORK["excluded_loss.per_frequency"] = lambda x: (abs(x - math.log(53)) < 0.3).all()


def columns(at: np.ndarray, p: int, keys) -> np.ndarray:
    """cos and sin of every key at some residues, one column for each wave that is not 0."""
    found = []
    for k in keys:
        cos, sin = (wave.numpy() for wave in controls.waves(p, k))
        found += [cos[at]] if 2 * k == p else [cos[at], sin[at]]
    return np.stack(found, axis=1)


def fitted(design: np.ndarray, x: np.ndarray) -> np.ndarray:
    return design @ np.linalg.lstsq(design, x, rcond=None)[0]


def logits_of(view) -> np.ndarray:
    return view.logits.numpy()


def along_answers(view, keys, x: np.ndarray) -> np.ndarray:
    """The fit of x on the waves of the right answer."""
    return fitted(columns(view.task.targets.numpy(), view.task.p, keys), x)


def in_blocks(view, keys, edges: bool) -> np.ndarray:
    """The fit of the logits on a constant and the products of the waves of a and of b, of each key by
    itself."""
    a, b = view.task.pairs.numpy().T
    terms = [np.ones((len(a), 1))]
    for k in keys:
        of_a, of_b = columns(a, view.task.p, [k]), columns(b, view.task.p, [k])
        terms += [f[:, None] * g[:, None] for f in of_a.T for g in of_b.T]
        terms += [of_a, of_b] if edges else []
    return fitted(np.concatenate(terms, axis=1), logits_of(view))


def readout(view) -> np.ndarray:
    return (view.weights["blocks.0.mlp.W_out"] @ view.weights["unembed.W_U"]).numpy()[:, : view.task.p]


def through_readout(view, keys) -> np.ndarray:
    return along_answers(view, keys, view.neurons.numpy()) @ readout(view)


def along_readout(view, keys) -> np.ndarray:
    """The part of every example's neurons in the span of the readout's waves, and through the readout."""
    w = readout(view)
    axes = w @ columns(np.arange(view.task.p), view.task.p, keys)  # [d_mlp, axis]
    return fitted(axes, view.neurons.numpy().T).T @ w


def cube(view, keys) -> np.ndarray:
    p, logits = view.task.p, logits_of(view)
    part = np.zeros_like(logits)
    for k in keys:
        wave = np.cos(2 * np.pi * k * (view.task.targets.numpy()[:, None] - np.arange(p)) / p)
        part += (logits * wave).sum() / (wave * wave).sum() * wave
    return part


def alone(view) -> np.ndarray:
    return view.neurons.numpy() @ readout(view)


def beside(view) -> np.ndarray:
    return logits_of(view) - alone(view)


LOGITS = {
    "restricted.logit_dirs": lambda view, keys: (
        (part := along_answers(view, keys, logits_of(view))) + (logits_of(view) - part).mean(0)
    ),
    "restricted.block3x3": lambda view, keys: in_blocks(view, keys, edges=True),
    "restricted.block2x2": lambda view, keys: in_blocks(view, keys, edges=False),
    "restricted.neuron_dirs": lambda view, keys: (
        (part := through_readout(view, keys)) - part.mean(0) + logits_of(view).mean(0)
    ),
    "restricted.w_l_directions": lambda view, keys: along_readout(view, keys) + beside(view),
    "excluded.logit_dirs": lambda view, keys: logits_of(view) - along_answers(view, keys, logits_of(view)),
    "excluded.logit_cube": lambda view, keys: logits_of(view) - cube(view, keys),
    "excluded.neuron_no_skip": lambda view, keys: alone(view) - through_readout(view, keys),
    "excluded.neuron_with_skip": lambda view, keys: alone(view) - through_readout(view, keys) + beside(view),
    "excluded.w_l_directions": lambda view, keys: alone(view) - along_readout(view, keys) + beside(view),
}


def by_part(view, values: np.ndarray) -> list[float]:
    return [
        float(values[rows].mean())
        for rows in (view.split.train.numpy(), view.split.test.numpy(), slice(None))
    ]


def losses(view, logits: np.ndarray) -> list[float]:
    """log Σ_c e^{l_c − l_c*}, the right answer's own term being the 1."""
    right = view.task.targets.numpy()
    above = logits - logits[np.arange(len(right)), right][:, None]
    above[np.arange(len(right)), right] = -np.inf
    top = np.maximum(above.max(1), 0)
    return by_part(view, top + np.log1p(np.exp(-top) - 1 + np.exp(above - top[:, None]).sum(1)))


def accuracies(view, logits: np.ndarray) -> list[float]:
    return by_part(view, np.array([row.argmax() for row in logits]) == view.task.targets.numpy())


def slowly(logits) -> dict:
    """The second routes to the loss and the accuracy of edited logits, by the names of the measures."""
    found = {}
    for name, edit in logits.items():
        kind, variant = name.split(".")
        found[f"{kind}_loss.{variant}"] = lambda view, keys, edit=edit: losses(view, edit(view, keys))
        found[f"{kind}_accuracy.{variant}"] = lambda view, keys, edit=edit: accuracies(view, edit(view, keys))
    return found


def mirrored(view) -> list[float]:
    """Pair by pair."""
    pairs = [tuple(pair) for pair in view.task.pairs.tolist()]
    train, right = {pairs[row] for row in view.split.train}, {"trained on": [], "unseen": []}
    for row in view.split.test.tolist():
        a, b = pairs[row]
        own = right["trained on" if (b, a) in train else "unseen"]
        own.append(int(view.logits[row].argmax()) == int(view.task.targets[row]))
    return [float(np.mean(marks)) for marks in right.values()]


SLOWLY = slowly(LOGITS) | {
    "accuracy.mirror": mirrored,
    "excluded_loss.per_frequency": lambda view: [
        losses(view, logits_of(view) - along_answers(view, [k], logits_of(view)))
        for k in range(1, view.task.p // 2 + 1)
    ],
}

OF_THE_GRID = {
    f"restricted_{what}.{name}" for what in ("loss", "accuracy") for name in ("block3x3", "block2x2")
}
OF_THE_READOUT = {name for name in ON_THE_CLOCK if "neuron" in name or "w_l" in name}
DIMS = {"mirror"}
