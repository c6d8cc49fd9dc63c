"""What measures/waves/circuit.py must say; test_measures.py reads these tables."""

from __future__ import annotations

import math

import numpy as np
import torch

from expected_pizza import KEYS, P, S, clock, distances, near
from grokinterp.errors import NotApplicable
from written_out import forward

CIRCUITS = ["clock", "pizza", "neurons", "whole", "constant_attention"]
CLOCK_LOSS = math.log1p(
    sum(math.exp(S * sum(math.cos(2 * math.pi * k * d / P) - 1 for k in KEYS)) for d in range(1, P))
)


def log_softmax(logits: np.ndarray) -> np.ndarray:
    logits = logits - logits.max(1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(1, keepdims=True))


def pizza_of_the_clock() -> dict[str, float]:
    """The clock's logits have equal amplitudes at all distances: their fit by |cos| is S Σ|cos| / Σcos² times
    |cos|."""
    loss, divergence = [], []
    angles = 2 * math.pi * np.arange(P) / P
    own = log_softmax(sum(S * np.cos(k * angles) for k in KEYS)[None])[0]
    for d in range(P):
        logits = sum(
            S * distances(P, k).sum() / (distances(P, k) ** 2).sum() * distances(P, k)[d] * np.cos(k * angles)
            for k in KEYS
        )
        theirs = log_softmax(logits[None])[0]
        loss.append(math.log1p(sum(np.exp(logits[1:] - logits[0]))))
        divergence.append((np.exp(own) * (own - theirs)).sum())
    return {"loss": np.mean(loss), "divergence": np.mean(divergence)}


ON_THE_CLOCK = {
    # A clock is a clock however deep one looks: every neuron's part outside its 3 x 3 block cancels in the
    # readout.
    **{f"circuit.{name}.loss": [CLOCK_LOSS] * 3 for name in CIRCUITS},
    **{f"circuit.{name}.divergence": [0, 0, 0] for name in CIRCUITS},
    **{f"circuit.{name}.{share}": [1, 1, 1] for name in CIRCUITS for share in ("accuracy", "agreement")},
    "circuit.pizza.loss": [math.nan, math.nan, pizza_of_the_clock()["loss"]],
    "circuit.pizza.divergence": [math.nan, math.nan, pizza_of_the_clock()["divergence"]],
    "trig_loss": [CLOCK_LOSS] * 3,
}

ON_A_RANDOM_NETWORK = dict.fromkeys(ON_THE_CLOCK, NotApplicable)


# The second route


def fitted(terms: np.ndarray, x: np.ndarray) -> np.ndarray:
    return terms @ np.linalg.lstsq(terms, x, rcond=None)[0]


def by_formula(view, keys, formula) -> np.ndarray:
    """By least squares on all keys at once, every cube written out."""
    columns = np.stack([formula(k).ravel() for k in keys], axis=1)
    logits = view.logits.numpy()
    return fitted(columns, logits.ravel()).reshape(logits.shape)


def products(p: int, k: int) -> np.ndarray:
    """{1, cos, sin} of a times {1, cos, sin} of b, as columns."""
    x = 2 * np.pi * k * np.arange(p) / p
    one = [np.ones(p), np.cos(x), np.sin(x)][: 2 if 2 * k == p else 3]
    return np.stack([np.outer(f, g).ravel() for f in one for g in one], axis=1)


def read_out(view, neurons: np.ndarray, keys) -> np.ndarray:
    p = view.task.p
    fits = np.stack([fitted(products(p, k), neurons) for k in keys])
    explained = fits.var(1)
    best = (explained >= explained.max(0) * (1 - 1e-9)).argmax(0)
    fit = np.take_along_axis(fits, best[None, None], axis=0)[0]
    waves = np.concatenate([products(p, k)[:p, 1:][:, : 1 if 2 * k == p else 2] for k in keys], axis=1)
    readout = (view.weights["blocks.0.mlp.W_out"] @ view.weights["unembed.W_U"]).numpy()[:, :p].T
    return fit @ fitted(waves, readout).T


def with_fits(view, keys, pattern: np.ndarray) -> np.ndarray:
    p = view.task.p
    table = view.weights["embed.W_E"].clone()
    waves = np.concatenate([products(p, k)[:p] for k in keys], axis=1)
    table[:p] = torch.from_numpy(fitted(waves, table[:p].numpy()))
    return read_out(view, forward(view, table[view.task.inputs], torch.from_numpy(pattern))[1].numpy(), keys)


def whole(view, keys) -> np.ndarray:
    pattern = view.attention[0].transpose(0, 1).numpy()
    terms = np.concatenate([products(view.task.p, k) for k in keys], axis=1)
    return with_fits(view, keys, fitted(terms, pattern.reshape(len(pattern), -1)).reshape(pattern.shape))


def constant_attention(view, keys) -> np.ndarray:
    pattern = view.attention[0].transpose(0, 1).numpy()
    return with_fits(view, keys, np.broadcast_to(pattern.mean(0), pattern.shape).copy())


LOGITS = {
    "clock": lambda view, keys: by_formula(view, keys, lambda k: clock(view, k)),
    "pizza": lambda view, keys: by_formula(view, keys, lambda k: near(view, k) * clock(view, k)),
    "neurons": lambda view, keys: read_out(view, view.neurons.numpy(), keys),
    "whole": whole,
    "constant_attention": constant_attention,
}


def parts(view, values: np.ndarray) -> list[float]:
    return [
        float(values[rows].mean())
        for rows in (view.split.train.numpy(), view.split.test.numpy(), slice(None))
    ]


def loss(view, logits: np.ndarray) -> np.ndarray:
    right = view.task.targets.numpy()
    others = logits - logits[np.arange(len(right)), right][:, None]
    others[np.arange(len(right)), right] = -np.inf
    return np.logaddexp(0, np.logaddexp.reduce(others, axis=1))


def divergence(view, logits: np.ndarray) -> np.ndarray:
    own = log_softmax(view.logits.numpy())
    return (np.exp(own) * (own - log_softmax(logits))).sum(1)


def choice(logits: np.ndarray, answers: np.ndarray) -> np.ndarray:
    """1 where the answer has the largest logit; ties, to nine digits, are shared."""
    best = [
        {c for c, logit in enumerate(row) if logit >= row.max() - 1e-9 * np.abs(row).max()} for row in logits
    ]
    return np.array([(answer in ties) / len(ties) for ties, answer in zip(best, answers, strict=True)])


QUANTITIES = {
    "loss": loss,
    "accuracy": lambda view, logits: choice(logits, view.task.targets.numpy()),
    "agreement": lambda view, logits: choice(logits, view.logits.numpy().argmax(1)),
    "divergence": divergence,
}


def slowly(circuit: str, quantity: str):
    return lambda view, keys: parts(view, QUANTITIES[quantity](view, LOGITS[circuit](view, keys)))


SLOWLY = {
    f"circuit.{circuit}.{quantity}": slowly(circuit, quantity)
    for circuit in CIRCUITS
    for quantity in QUANTITIES
}
SLOWLY["trig_loss"] = SLOWLY["circuit.clock.loss"]

OF_NEURONS = {
    name for name in SLOWLY if name.split(".")[1:2] in (["neurons"], ["whole"], ["constant_attention"])
}
