"""Phases: whether what a neuron writes turns as far as what it reads.

A neuron of frequency k answers to cos(w_k a + φ_a) and cos(w_k b + φ_b) and writes cos(w_k c + ψ) into the
logits. The product of the two that it reads has cos(w_k(a + b) + φ_a + φ_b) in it, so it helps the right
answer most where φ_a + φ_b = ψ, and hinders it where they are half a turn apart.
"""

from __future__ import annotations

import torch
from jaxtyping import Complex128, Float64
from torch import Tensor

from ... import fourier
from ...view import View
from ..base import Value, once_per_view, per_neuron
from .circular import circular, measure
from .neurons import neuron_power


@once_per_view
def _turns(view: View) -> Complex128[Tensor, "d_mlp"]:
    """R_a R_b R_c e^{i(φ_a + φ_b − ψ)} for every neuron at its own frequency, the R being the amplitudes of
    the three waves."""
    z = circular(view)
    activations = z.grid(view.neurons)
    k = fourier.strongest(neuron_power(view)).which + 1
    a, b = _wave(activations.mean(1), k), _wave(activations.mean(0), k)
    return a * b * _wave(z.readout, k).conj()


def _wave(x: Float64[Tensor, "m d_mlp"], k: Tensor) -> Complex128[Tensor, "d_mlp"]:
    """R e^{iφ} of the part R cos(w_k · + φ) of each column, k its frequency; Nyquist has no sine."""
    coefficients = fourier.transform(x)
    coefficients = torch.cat([coefficients, torch.zeros_like(coefficients[:1])])
    cos, sin = (coefficients.gather(0, at[None])[0] for at in (2 * k - 1, 2 * k))
    return torch.complex(cos, -sin)


@measure(
    "neuron.phase_error",
    unit="rad",
    ref="arXiv 2602.16849, phase alignment ψ = 2φ; here with a phase for each operand",
)
def neuron_phase_error(view: View) -> Value:
    """|φ_a + φ_b − ψ|, from 0 to π, for each neuron: how far what it writes is turned from the sum of what it
    reads.

    Phases are those of the waves of its own frequency: of its mean activation as a function of a and of b,
    and of its row of W_L. Chance is π/2; a neuron without such waves has 0.
    """
    turns = _turns(view)
    return per_neuron(torch.where(turns == 0, 0.0, turns.angle().abs()))


@measure(
    "phase_error",
    unit="1",
    ref="arXiv 2602.16849, mean |sin D|, D = 2φ − ψ; here weighted by amplitude",
    gauge=("scale",),
)
def phase_error(view: View) -> Value:
    """Mean of |sin(φ_a + φ_b − ψ)| over the neurons, each weighted by the product of its three amplitudes: 0
    is exact, 2/π chance.

    Neurons of the Nyquist frequency, which has no phase, are left out. 0 where there is no other.
    """
    turns = _with_phase(view)
    total = float(turns.abs().sum())
    return float(turns.imag.abs().sum()) / total if total > 0 else 0.0


@measure(
    "phase_alignment",
    unit="1",
    ref="here, after arXiv 2602.16849: a sine does not tell agreement from opposition",
    gauge=("scale",),
)
def phase_alignment(view: View) -> Value:
    """Mean of cos(φ_a + φ_b − ψ) over the neurons, weighted as in `phase_error`: 1 where all write what they
    read, 0 chance."""
    turns = _with_phase(view)
    total = float(turns.abs().sum())
    return float(turns.real.sum()) / total if total > 0 else 0.0


def _with_phase(view: View) -> Complex128[Tensor, "some"]:
    return _turns(view)[2 * (fourier.strongest(neuron_power(view)).which + 1) != circular(view).m]
