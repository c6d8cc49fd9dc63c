"""What a network loses without some frequencies of its logits, and without random functions of the answer."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float64
from torch import Tensor

from ...errors import UsageError
from ...fourier import directions
from ...view import View
from ..ablation import Ablation, Outcome, outcome
from ..sites import AT_NO_HOOK, listed
from .circular import circular
from .keys import chosen
from .projections import fitted, mean_logits


def without_frequencies(view: View, at: Any, how: str, draws: int, generator: torch.Generator) -> Ablation:
    """What the network loses without cos w_k(c*) and sin w_k(c*) in the logits.

    These are waves about zero, so `how` changes nothing.

    Raises:
        UsageError: `at` is no list of frequencies of the task.
        NotApplicable: the elements stand on no circle.
    """
    z = circular(view)
    if at is None:
        raise UsageError("at: frequencies needs a list of them, such as [1, 2]")
    keys, rows = chosen(view, listed(at)), z.on_circle
    logits = view.logits[rows]

    def without(waves: Float64[Tensor, "wave m"]) -> Outcome:
        return outcome(view, logits - fitted(view, waves, mean_logits(view))[z.answer_at], rows)

    waves = torch.cat([directions(z.m, k) for k in keys])
    drawn = [torch.randn(waves.shape, generator=generator, dtype=torch.float64) for _ in range(draws)]
    controls = [without(wave - wave.mean(1, keepdim=True)) for wave in drawn]
    control, before = f"{len(waves)} random functions of the answer", outcome(view, logits, rows)
    return Ablation("frequencies", at, how, before, without(waves), control, controls)


AT_NO_HOOK["frequencies"] = without_frequencies
