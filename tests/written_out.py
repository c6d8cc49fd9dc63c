"""The forward pass of a one-layer transformer with ReLU and no norms, written out: what TransformerLens must
agree with."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def forward(view, embedded: Tensor, pattern: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Logits of the answers and neurons at the last position, from what is embedded at each position, [n,
    pos, d_model].

    `pattern` [n, head, pos] stands in for the attention of the last position.
    """
    w = {name.rpartition(".")[2]: weight for name, weight in view.weights.items()}
    stream = embedded + w["W_pos"]
    if pattern is None:
        query = torch.einsum("nd,hde->nhe", stream[:, -1], w["W_Q"]) + w["b_Q"]
        key = torch.einsum("npd,hde->nphe", stream, w["W_K"]) + w["b_K"]
        pattern = (torch.einsum("nhe,nphe->nhp", query, key) / math.sqrt(query.shape[-1])).softmax(-1)
    value = torch.einsum("npd,hde->nphe", stream, w["W_V"]) + w["b_V"]
    mixed = torch.einsum("nhp,nphe->nhe", pattern, value)
    stream = stream[:, -1] + torch.einsum("nhe,hed->nd", mixed, w["W_O"]) + w["b_O"]
    neurons = (stream @ w["W_in"] + w["b_in"]).relu()
    logits = (stream + neurons @ w["W_out"] + w["b_out"]) @ w["W_U"] + w["b_U"]
    return logits[:, : view.task.n_answers], neurons
