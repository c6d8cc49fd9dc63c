"""Loss and accuracy, and what is left of them when the logits are reduced to chosen frequencies or robbed of them.

The two projections here act on the logits, in the directions cos w_k(c*) and sin w_k(c*), c* the right answer of an example:
for addition these are cos w_k(a + b) and sin w_k(a + b). Two directions per frequency, never an outer product of masks.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float64
from torch import Tensor

from ..errors import NotApplicable
from ..fourier import directions
from ..view import View
from .base import Value, measure, per_part
from .keys import chosen


@measure("loss", unit="nats", ref="Nanda et al. 2023, section 3")
def loss(view: View) -> Value:
    """Mean cross-entropy on the training, test and all examples, in float64."""
    return per_part(view, view.loss())


@measure("accuracy", unit="1", ref="Power et al. 2022, section 3")
def accuracy(view: View) -> Value:
    """Share of the training, test and all examples whose largest logit is the answer's."""
    return per_part(view, view.correct())


@measure("restricted_loss.logit_dirs", unit="nats", ref="Nanda et al. 2023, section 5.1 and released notebook (trig_loss)")
def restricted_loss(view: View, keys: Sequence[int] | None = None) -> Value:
    """Loss when of the logits only the directions of the keys are kept: Σ_k (C_k C_kᵀ + S_k S_kᵀ) L + mean over examples of the rest.

    C_k and S_k are cos w_k(c*) and sin w_k(c*) over the table, normalised. `keys` defaults to the consensus.
    """
    inside, rows = _projected(view, keys), view.on_circle
    return per_part(view, view.loss(inside + (view.logits[rows] - inside).mean(0), rows), rows)


@measure("excluded_loss.logit_dirs", unit="nats", ref="Nanda et al. 2023, section 5.1 and figure 7")
def excluded_loss(view: View, keys: Sequence[int] | None = None) -> Value:
    """Loss when the directions of all key frequencies are taken out of the logits: L − Σ_k (C_k C_kᵀ + S_k S_kᵀ) L.

    The paper reports it on the training examples. `keys` defaults to the consensus.
    """
    rows = view.on_circle
    return per_part(view, view.loss(view.logits[rows] - _projected(view, keys), rows), rows)


def _projected(view: View, keys: Sequence[int] | None) -> Float64[Tensor, "rows answers"]:
    """The part of the logits, of the examples on the circle, along cos w_k(c*) and sin w_k(c*) for the keys."""
    view.circle  # noqa: B018
    keys = chosen(view, keys)
    if not keys:
        raise NotApplicable("the network has no key frequencies")
    waves = torch.cat([directions(view.m, k) for k in keys])[:, view.answer_at]
    # Orthonormal over the table whatever the task: for addition this only normalises.
    # By SVD, because they need not be independent: answers that never occur make some of them multiples of others.
    u, s, _ = torch.linalg.svd(waves.T, full_matrices=False)
    onto = u[:, s > 1e-9 * s[0]]
    return onto @ (onto.T @ view.logits[view.on_circle])
