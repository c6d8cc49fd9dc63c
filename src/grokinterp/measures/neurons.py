"""MLP neurons at the answer position: which are on, which move the logits, and what reads them."""

from __future__ import annotations

import torch
from jaxtyping import Float64, Int
from torch import Tensor

from ..errors import NotApplicable
from ..view import View
from .base import Value, measure, once_per_view, per_neuron


def _on(view: View) -> Float64[Tensor, "n d_mlp"]:
    neurons = view.neurons
    if view.act_fn != "relu":
        where = f"where the activation is {view.act_fn}, only where it is relu"
        raise NotApplicable(f"a neuron is never off {where}")
    return (neurons > 0).double()


@measure("neuron.on_share", unit="1", ref="Lu et al. 2019 (arXiv 1903.06733), on dead neurons")
def on_share(view: View) -> Value:
    """Share of the examples for which each rectified neuron is above 0: the others do not pass through it."""
    return per_neuron(_on(view).mean(0))


@measure("neuron.dead_share", unit="1", ref="Lu et al. 2019 (arXiv 1903.06733)")
def dead_share(view: View) -> Value:
    """Share of the rectified neurons that are above 0 for no example at all."""
    return float((_on(view).sum(0) == 0).double().mean())


@measure("neuron.always_on_share", unit="1", ref="here; a rectified neuron that is always on is a linear one")
def always_on_share(view: View) -> Value:
    """Share of the rectified neurons that are above 0 for every example, and so compute nothing that is not
    linear."""
    return float((_on(view).sum(0) == len(view.neurons)).double().mean())


@once_per_view
def by_contribution(view: View) -> Int[Tensor, "d_mlp"]:
    """The neurons of the last layer, first those that move the logits most, as deviation over the table times
    norm of the readout.

    An order that depends neither on how they are numbered nor on their scale; to nine digits, then by number,
    as rounding must not choose.
    """
    readout = view.W_L - view.W_L.mean(1, keepdim=True)
    moved = view.neurons.std(0, unbiased=False) * readout.norm(dim=1)
    size = moved.max().clamp_min(torch.finfo(moved.dtype).tiny)
    return torch.round(moved / size, decimals=9).argsort(descending=True, stable=True)


@once_per_view
def beside_the_neurons(view: View) -> Float64[Tensor, "n answers"]:
    """What the logits are without the last MLP's neurons: the skip connection and the biases, unembedded.

    Raises:
        NotApplicable: there is no MLP, or what leaves it is normalised before it is unembedded.
    """
    return view.logits - view.neurons @ direct_readout(view)


def direct_readout(view: View) -> Float64[Tensor, "d_mlp answers"]:
    """W_L, where logits are linear in the neurons.

    Raises:
        NotApplicable: they are not, because of a normalisation, or there is no MLP.
    """
    if view.is_normalised:
        raise NotApplicable(
            "the network normalises what it unembeds, so its logits are not linear in the neurons"
        )
    return view.W_L
