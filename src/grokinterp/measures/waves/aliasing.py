"""Aliasing: how far a few frequencies tell the right answer from the others.

Few waves cannot tell all answers apart equally well: Σ_k α_k cos w_k(c* − c) is largest at c = c*, and nearly
as large where all w_k(c* − c) come close to whole turns. Of the logits only what lies along the waves of the
right answer c* at the key frequencies is looked at here, as in `restricted_loss.logit_dirs` but without the
mean over examples: it is one number for each right answer and each answer.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float64
from torch import Tensor

from ...view import View
from ..base import Value, array
from .circular import circular, measure
from .keys import keys_of
from .projections import mean_logits, of_answer, share_of_answer

REF = "here; after Nanda et al. 2023, section 4.4 (why several frequencies are needed)"


def leads(view: View, keys: Sequence[int] | None = None) -> Float64[Tensor, "m m"]:
    """How far the right answer leads each other one, at positions (right, other) of the circle, by what of
    the logits lies along the waves of the keys; infinite for the right answer itself and for one that is the
    answer to no example.

    Raises:
        UsageError: one of the keys is no frequency of the task.
        NotApplicable: the elements stand on no circle, or there are no key frequencies.
    """
    z = circular(view)
    logits = of_answer(view, keys_of(view, keys), mean_logits(view))[:, z.circle.c]
    lead = logits.diagonal()[:, None] - logits
    lead.fill_diagonal_(torch.inf)
    return lead.masked_fill_((share_of_answer(view) == 0)[:, None], torch.inf)


@measure("aliasing_gap.closest", unit="logit", ref=REF)
def closest(view: View, keys: Sequence[int] | None = None) -> Value:
    """The least by which the right answer leads another one under the key frequencies alone: the smallest
    over all pairs of answers.

    Above 0 the keys alone give every answer right; at 0 they cannot tell two answers apart. `keys` defaults
    to the consensus.
    """
    return float(leads(view, keys).min())


@measure("aliasing_gap.by_distance", unit="logit", ref=REF)
def by_distance(view: View, keys: Sequence[int] | None = None) -> Value:
    """How far the right answer leads those that stand d from it on the circle, on either side, under the key
    frequencies alone: the mean over the answers, for d = 1 to floor(m / 2).

    For Σ_k α_k cos w_k(c* − c) it is Σ_k α_k (1 − cos w_k d). `keys` defaults to the consensus.
    """
    lead, m = leads(view, keys), circular(view).m
    right, other = lead.isfinite().nonzero().unbind(1)
    difference = (right - other) % m
    distance = torch.minimum(difference, m - difference) - 1
    sums = torch.zeros(m // 2, dtype=torch.float64).index_add_(0, distance, lead[right, other])
    means = sums / distance.bincount(minlength=m // 2)
    return array(means, "distance", distance=list(range(1, m // 2 + 1)))
