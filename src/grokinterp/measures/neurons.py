"""MLP neurons at the answer position: the frequency of each, and how much of it that frequency explains."""

from __future__ import annotations

import torch
from jaxtyping import Float64
from torch import Tensor

from .. import fourier
from ..view import View
from .base import Value, array, measure, once_per_view, per_component, per_frequency

EXPLAINED = 0.85
"""A neuron belongs to a frequency that explains more than this share of its variance (Nanda et al. 2023)."""


@once_per_view
def neuron_power(view: View) -> Float64[Tensor, "freq d_mlp"]:
    """Share of each neuron's variance over the table in the 3 x 3 block of each frequency; 0 for a neuron that never changes.

    Raises:
        NotApplicable: the network has no MLP, or the examples fill no grid of residues.
    """
    grid = view.grid(view.neurons)
    centred = grid - grid.mean((0, 1))
    total = centred.square().sum((0, 1))
    # A neuron that is constant up to rounding has no frequency.
    varies = total > 1e-20 * grid.square().sum((0, 1))
    return torch.where(varies, fourier.block_power(centred) / total, 0.0)


@measure("neuron.frequency", unit="1", ref="Nanda et al. 2023, section 4.2")
def neuron_frequency(view: View) -> Value:
    """The frequency k whose 3 x 3 block {1, cos w_k a, sin w_k a} ⊗ {1, cos w_k b, sin w_k b} explains most of each neuron's variance."""
    return _per_neuron(neuron_power(view).max(0).indices + 1)


@measure("neuron.explained_variance", unit="1", ref="Nanda et al. 2023, section 4.2")
def neuron_explained_variance(view: View) -> Value:
    """Share of each neuron's variance over the table that the 3 x 3 block of its frequency explains; a dead neuron has 0."""
    return _per_neuron(neuron_power(view).max(0).values)


@measure("neuron.clusters", unit="neurons", ref="Nanda et al. 2023, section 4.2 (threshold 0.85)")
def neuron_clusters(view: View) -> Value:
    """For each frequency, the number of neurons of which it explains more than 85 % of the variance."""
    share, frequency = neuron_power(view).max(0)
    return per_frequency(frequency[share > EXPLAINED].bincount(minlength=fourier.n_frequencies(view.m)), view.m)


@measure("neuron.single_frequency_share", unit="1", ref="Nanda et al. 2023, section 4.2 (433 of 512 in their run)")
def single_frequency_share(view: View) -> Value:
    """Share of the neurons of which one frequency explains more than 85 % of the variance."""
    return float((neuron_power(view).max(0).values > EXPLAINED).double().mean())


@measure("fourier_norms.W_L", unit="weight", ref="Nanda et al. 2023, section 4.3")
def readout_spectrum(view: View) -> Value:
    """Norm of each Fourier component, over the answers, of W_L = W_out W_U."""
    return per_component(fourier.transform(view.readout).norm(dim=1), view.m)


@measure("gini.W_L", unit="1", ref="Hurley and Rickard 2009; Nanda et al. 2023, table 5 (on component norms without the constant)")
def readout_gini(view: View) -> Value:
    """Gini coefficient of the component norms of W_L without the constant."""
    from .embedding import gini

    return gini(fourier.transform(view.readout).norm(dim=1)[1:])


def _per_neuron(values: Tensor) -> Value:
    return array(values, "neuron", neuron=list(range(len(values))))
