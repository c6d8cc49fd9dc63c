"""MLP neurons at the answer position: the frequency of each, and how much of it that frequency explains."""

from __future__ import annotations

import torch
from jaxtyping import Float64
from torch import Tensor

from ... import fourier
from ...view import View
from ..base import Value, once_per_view, per_neuron
from .circular import circular, measure
from .projections import neuron_lines

EXPLAINED = 0.85
"""A neuron belongs to a frequency that explains more than this share of its variance (Nanda et al. 2023)."""
SPLIT = "marshallchen99/grokking-mechinterp, split by trigonometric identity"


@once_per_view
def block_variance(view: View) -> tuple[Float64[Tensor, "freq d_mlp"], Float64[Tensor, "d_mlp"]]:
    """Variance of each neuron over the table in the 3 x 3 block of each frequency, and all of it; 0 for a
    neuron that never changes.

    The square of a wave of a and one of b, both of frequency k, has waves of a alone and of b alone at 2k, a
    fifth of its variance in Gromov's network: where neurons are squares these count as of k.

    Raises:
        NotApplicable: the network has no MLP, or the examples fill no grid of residues.
    """
    lines = neuron_lines(view)
    of_frequency, whole = (power / circular(view).m ** 2 for power in lines.block_variance())
    if view.act_fn == "square":
        of_frequency = of_frequency + _at_twice_the_frequency(lines)
    # A neuron that is constant up to rounding has no frequency.
    varies = whole > 1e-20 * lines.origin.square()
    return torch.where(varies, of_frequency, 0.0), torch.where(varies, whole, 0.0)


def _at_twice_the_frequency(lines: fourier.LineSums) -> Float64[Tensor, "freq d_mlp"]:
    """For each k the variance in waves of a alone and of b alone at 2k; nothing where that is 0, or k."""
    m = len(lines.of_a)
    a, b = (fourier.by_frequency(fourier.transform(x / m).square()) for x in (lines.of_a, lines.of_b))
    alone = (a + b) / m
    k = torch.arange(1, fourier.n_frequencies(m) + 1)
    double = torch.minimum(2 * k % m, -2 * k % m)
    return torch.where(((double > 0) & (double != k))[:, None], alone[double - 1], 0.0)


def neuron_power(view: View) -> Float64[Tensor, "freq d_mlp"]:
    """Share of each neuron's variance over the table in the 3 x 3 block of each frequency (of squares, with
    the waves at twice that); 0 for a neuron that never changes.

    Raises:
        NotApplicable: the network has no MLP, or the examples fill no grid of residues.
    """
    of_frequency, whole = block_variance(view)
    return torch.where(whole > 0, of_frequency / whole, 0.0)


@measure("neuron.frequency", unit="1", ref="Nanda et al. 2023, section 4.2")
def neuron_frequency(view: View) -> Value:
    """The frequency k whose 3 x 3 block {1, cos w_k a, sin w_k a} ⊗ {1, cos w_k b, sin w_k b} explains most
    of each neuron's variance; the lowest of several that explain as much (to 1e-9)."""
    return per_neuron(fourier.strongest(neuron_power(view)).which + 1)


@measure("neuron.explained_variance", unit="1", ref="Nanda et al. 2023, section 4.2")
def neuron_explained_variance(view: View) -> Value:
    """Share of each neuron's variance over the table that the 3 x 3 block of its frequency explains; a dead
    neuron has 0.

    Where neurons are squares, waves of a alone and of b alone at twice the frequency belong to it too, as the
    square makes them.
    """
    return per_neuron(fourier.strongest(neuron_power(view)).share)


@measure("neuron.clusters", unit="neurons", ref="Nanda et al. 2023, section 4.2 (threshold 0.85)")
def neuron_clusters(view: View) -> Value:
    """For each frequency, the number of neurons of which it explains more than 85 % of the variance."""
    share, frequency = fourier.strongest(neuron_power(view))
    z = circular(view)
    return z.per_frequency(frequency[share > EXPLAINED].bincount(minlength=fourier.n_frequencies(z.m)))


@measure(
    "neuron.single_frequency_share", unit="1", ref="Nanda et al. 2023, section 4.2 (433 of 512 in their run)"
)
def single_frequency_share(view: View) -> Value:
    """Share of the neurons of which one frequency explains more than 85 % of the variance."""
    return float((fourier.strongest(neuron_power(view)).share > EXPLAINED).double().mean())


@measure("neuron.sum_fraction", unit="1", ref=f"{SPLIT}; here per neuron")
def neuron_sum_fraction(view: View) -> Value:
    """Share, of what each neuron has of products of a wave of a and one of b of its frequency, that depends
    on a + b; the rest on a − b.

    A neuron alone cannot tell the two apart: relu(cos w a + cos w b) has ½, as has any function that is
    symmetric in a and even in it. Only the readout does, by phases that cancel a − b over many neurons. A
    dead neuron has 0, the Nyquist frequency ½.
    """
    alike, apart = neuron_lines(view).sum_and_difference_power()
    of_neuron = fourier.strongest(neuron_power(view)).which[None]
    return per_neuron(share(alike.gather(0, of_neuron)[0], apart.gather(0, of_neuron)[0]))


@measure("sum_fraction.neurons", unit="1", ref=SPLIT, gauge=("scale",))
def sum_fraction(view: View) -> Value:
    """For each frequency, the share that depends on a + b of what all neurons have of products of a wave of a
    and one of b."""
    alike, apart = neuron_lines(view).sum_and_difference_power()
    return circular(view).per_frequency(share(alike.sum(1), apart.sum(1)))


def share(part: Float64[Tensor, "*shape"], rest: Float64[Tensor, "*shape"]) -> Float64[Tensor, "*shape"]:
    """part / (part + rest); 0 where there is nothing of either but rounding."""
    whole = part + rest
    return torch.where(whole > 1e-20 * whole.max(), part / whole, 0.0)
