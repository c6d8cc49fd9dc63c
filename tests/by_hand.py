"""A one-layer transformer in plain numpy, of which any activation at the answer position can be replaced."""

from __future__ import annotations

import functools
import math

import numpy as np


def parameters(view) -> dict[str, np.ndarray]:
    """By the last part of their names."""
    return {name.rpartition(".")[2]: weight.numpy() for name, weight in view.weights.items()}


def stream(view) -> np.ndarray:
    """What is embedded: [n, pos, d_model]."""
    w = parameters(view)
    return w["W_E"][view.task.inputs.numpy()] + w["W_pos"]


def attention_scores(view) -> np.ndarray:
    """Of the answer position: [n, head, pos]."""
    w, x = parameters(view), stream(view)
    query = np.einsum("nd,hde->nhe", x[:, -1], w["W_Q"]) + w["b_Q"]
    key = np.einsum("npd,hde->nphe", x, w["W_K"]) + w["b_K"]
    return np.einsum("nhe,nphe->nhp", query, key) / math.sqrt(query.shape[-1])


@functools.cache
def attended(view) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The pattern of the answer position, the values of every position, and what the one takes of the other:
    the same whatever is replaced further on."""
    w, x = parameters(view), stream(view)
    odds = np.exp((scores := attention_scores(view)) - scores.max(-1, keepdims=True))
    pattern = odds / odds.sum(-1, keepdims=True)
    value = np.einsum("npd,hde->nphe", x, w["W_V"]) + w["b_V"]
    return pattern, value, np.einsum("nhp,nphe->nhe", pattern, value)


def forward(view, **instead) -> dict[str, np.ndarray]:
    """Activations at the answer position.

    `instead` replaces one by an array or by a function of what is there: pattern, z, attn_out, resid_mid (for
    all that reads it), mlp_in (for the MLP alone), neurons, mlp_out, past_mlp (what the unembedding reads
    besides mlp_out).
    """
    w, x = parameters(view), stream(view)
    seen: dict[str, np.ndarray] = {"resid_pre": x[:, -1]}

    def put(name: str, value: np.ndarray) -> np.ndarray:
        new = instead.get(name, value)
        seen[name] = new(value) if callable(new) else new
        return seen[name]

    pattern, value, z = attended(view)
    if put("pattern", pattern) is not pattern:
        z = np.einsum("nhp,nphe->nhe", seen["pattern"], value)
    z = put("z", z)
    out = put("attn_out", np.einsum("nhe,hed->nd", z, w["W_O"]) + w["b_O"])
    middle = put("resid_mid", seen["resid_pre"] + out)
    neurons = put("neurons", np.maximum(put("mlp_in", middle) @ w["W_in"] + w["b_in"], 0))
    mlp_out = put("mlp_out", neurons @ w["W_out"] + w["b_out"])
    seen["logits"] = (put("past_mlp", middle) + mlp_out) @ w["W_U"] + w["b_U"]
    return seen


def cross_entropy(view, logits: np.ndarray) -> list[float]:
    """On the training, test and all examples."""
    from test_measures import losses

    return losses(view, logits)
