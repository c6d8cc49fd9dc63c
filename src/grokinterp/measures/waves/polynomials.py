"""What is left of the network when its neurons are replaced by trigonometric polynomials of degree 2.

Of a neuron of frequency k the constant stays, the waves of k of a and of b, and their products: the 3 x 3
block. What goes is all that the kink of a rectifier makes beyond it, overtones above all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from ... import fourier
from ...view import View
from ..base import Value, per_part
from .circular import circular, measure
from .neurons import EXPLAINED, neuron_power


@measure(
    "polynomial_neurons_loss.single_frequency",
    unit="nats",
    ref="Nanda et al. 2023, section 4.2 (2.48e-7, +3 %, in their run)",
)
def loss_of_single_frequency(view: View) -> Value:
    """Loss when every neuron of which one frequency explains more than 85 % of the variance is its 3 x 3
    block alone."""
    return _loss(view, _single_frequency(view))


@measure(
    "polynomial_neurons_loss.all",
    unit="nats",
    ref="Nanda et al. 2023, section 4.2, for all neurons instead of 433",
)
def loss_of_all(view: View) -> Value:
    """Loss when every neuron, single-frequency or not, is the 3 x 3 block of its own frequency alone."""
    return _loss(view, torch.ones(view.neurons.shape[1], dtype=torch.bool))


@measure("polynomial_neurons_accuracy.single_frequency", unit="1", ref="Nanda et al. 2023, section 4.2")
def accuracy_of_single_frequency(view: View) -> Value:
    """Accuracy when every neuron of which one frequency explains more than 85 % of the variance is its 3 x 3
    block alone."""
    return _accuracy(view, _single_frequency(view))


@measure(
    "polynomial_neurons_accuracy.all",
    unit="1",
    ref="Nanda et al. 2023, section 4.2, for all neurons instead of 433",
)
def accuracy_of_all(view: View) -> Value:
    """Accuracy when every neuron, single-frequency or not, is the 3 x 3 block of its own frequency alone."""
    return _accuracy(view, torch.ones(view.neurons.shape[1], dtype=torch.bool))


def _single_frequency(view: View) -> Bool[Tensor, "d_mlp"]:
    return fourier.strongest(neuron_power(view)).share > EXPLAINED


def _loss(view: View, chosen: Bool[Tensor, "d_mlp"]) -> Value:
    rows = circular(view).on_circle
    return per_part(view, view.loss(logits_with_neurons(view, polynomials(view, chosen))[rows], rows), rows)


def _accuracy(view: View, chosen: Bool[Tensor, "d_mlp"]) -> Value:
    rows = circular(view).on_circle
    return per_part(
        view, view.correct(logits_with_neurons(view, polynomials(view, chosen))[rows], rows), rows
    )


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


def logits_with_neurons(view: View, neurons: Float64[Tensor, "n d_mlp"]) -> Float64[Tensor, "n classes"]:
    """What the rest of the network makes of other activations of its last MLP at the answer position."""
    edit = (f"blocks.{view.n_layers - 1}.mlp.hook_post", _put(neurons))
    return view.activations([], edits=[edit])["logits"]


def _put(neurons: Float64[Tensor, "n d_mlp"]) -> Callable[..., Tensor]:
    done = 0

    def put(tensor: Float64[Tensor, "batch pos d_mlp"], *, hook: Any) -> Float64[Tensor, "batch pos d_mlp"]:
        nonlocal done  # examples come in table order, some at a time
        changed = tensor.clone()
        changed[:, -1] = neurons[done : done + len(tensor)].to(tensor.device)
        done += len(tensor)
        return changed

    return put
