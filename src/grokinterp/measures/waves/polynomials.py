"""What is left of the network when its neurons are replaced by trigonometric polynomials of degree 2.

Of a neuron of frequency k the constant stays, the waves of k of a and of b, and their products: the 3 x 3
block. What goes is all that the kink of a rectifier makes beyond it, overtones above all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from ... import fourier
from ...view import View
from ..base import Value, once_per_view, per_part
from ..interventions import put
from ..operands import loss_and_accuracy
from .circular import circular
from .neurons import EXPLAINED, neuron_power

Chosen = Callable[[View], Bool[Tensor, "d_mlp"]]


def as_polynomials(name: str, words: str, *, ref: str, of_loss: str = "") -> Callable[[Chosen], Chosen]:
    """Registers the loss and the accuracy, in words, when the chosen neurons are polynomials."""

    def register(chosen: Chosen) -> Chosen:
        def judged(what: Literal["loss", "correct"], view: View) -> Value:
            rows = circular(view).on_circle
            logits = _logits_as_polynomials(view, chosen)[rows]
            return per_part(view, getattr(view, what)(logits, rows), rows)

        loss_and_accuracy(f"polynomial_neurons.{name}", words, judged, ref=ref, of_loss=of_loss)
        return chosen

    return register


@as_polynomials(
    "single_frequency",
    "when every neuron of which one frequency explains more than 85 % of the variance is its 3 x 3 block "
    "alone.",
    ref="Nanda et al. 2023, section 4.2",
    of_loss=" (2.48e-7, +3 %, in their run)",
)
def single_frequency(view: View) -> Bool[Tensor, "d_mlp"]:
    """The neurons that have one."""
    return fourier.strongest(neuron_power(view)).share > EXPLAINED


@as_polynomials(
    "all",
    "when every neuron, single-frequency or not, is the 3 x 3 block of its own frequency alone.",
    ref="Nanda et al. 2023, section 4.2, for all neurons instead of 433",
)
def every_neuron(view: View) -> Bool[Tensor, "d_mlp"]:
    """All of them."""
    return torch.ones(view.neurons.shape[1], dtype=torch.bool)


def polynomials(view: View, chosen: Bool[Tensor, "d_mlp"]) -> Float64[Tensor, "n d_mlp"]:
    """The neurons, of which those that are chosen are reduced to the 3 x 3 block of their frequency; examples
    off the circle stay."""
    frequency = fourier.strongest(neuron_power(view)).which + 1
    row = circular(view).grid_rows
    reduced = view.neurons.clone()
    for k in frequency[chosen].unique().tolist():
        of_k = (chosen & (frequency == k)).nonzero().flatten()
        reduced[row[..., None], of_k] = fourier.block_fit(view.neurons[:, of_k][row], k)
    return reduced


@once_per_view
def _logits_as_polynomials(view: View, chosen: Chosen) -> Float64[Tensor, "n classes"]:
    return logits_with_neurons(view, polynomials(view, chosen(view)))


def logits_with_neurons(view: View, neurons: Float64[Tensor, "n d_mlp"]) -> Float64[Tensor, "n classes"]:
    """What the rest of the network makes of other activations of its last MLP at the answer position."""
    edit = put(view, view.blocks[-1].name("mlp.hook_post"), neurons)
    return view.activations([], [edit], everywhere=False)["logits"]
