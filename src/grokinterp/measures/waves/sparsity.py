"""In how few frequencies the weights, and each neuron, are."""

from __future__ import annotations

import torch
from jaxtyping import Float64
from torch import Tensor

from ...fourier import by_frequency, transform
from ...view import View
from ..base import Value, once_per_view, per_neuron
from ..noise import DOSHI
from ..operands import needs_one_stack, operands, read_by_perceptron
from ..sparsity import gini
from .circular import circular, measure
from .embedding import frequency_power


@measure(
    "gini.W_E.power",
    unit="1",
    ref="Hurley and Rickard 2009; on power, so larger than gini.W_E (Nanda et al. 2023, table 5)",
)
def embedding_power_gini(view: View) -> Value:
    """Gini coefficient of the power of W_E at each frequency."""
    return gini(frequency_power(circular(view).embedding))


@measure(
    "gini.W_L.power",
    unit="1",
    ref="Hurley and Rickard 2009; on power, so larger than gini.W_L (Nanda et al. 2023, table 5)",
    gauge=("scale",),
)
def readout_power_gini(view: View) -> Value:
    """Gini coefficient of the power of W_L at each frequency, over the answers."""
    return gini(frequency_power(circular(view).readout))


@measure("ipr.complex", unit="1", ref=f"{DOSHI}; Gromov 2023 (arXiv 2301.02679)", gauge=("shift",))
def ipr_complex(view: View) -> Value:
    """Inverse participation ratio (‖ũ‖₄ / ‖ũ‖₂)⁴ of the complex spectrum ũ of what the neurons read of a and
    b and write, mean over all.

    ½ where every neuron has one frequency, as a real wave has two equal complex coefficients; about 2 / m is
    chance.
    """
    return float(_per_neuron_complex(view).mean())


@measure(
    "ipr.neurons", unit="1", ref=f"{DOSHI}: neurons of small IPR hold what was memorised", gauge=("shift",)
)
def ipr_of_neurons(view: View) -> Value:
    """Inverse participation ratio of each neuron: mean of those of the complex spectra of what it reads of a,
    of b, and writes."""
    return per_neuron(_per_neuron_complex(view))


@measure(
    "ipr.half_spectrum",
    unit="1",
    ref="released code of Doshi et al. 2024 (arXiv 2310.13061): rfft, r = 2",
    gauge=("shift",),
)
def ipr_of_half_spectrum(view: View) -> Value:
    """Inverse participation ratio of each neuron as the released code takes it: over the constant and the
    waves k = 1 .. m / 2.

    A wave is one coefficient of this half of the spectrum, and the constant another: 1 for a neuron of one
    frequency, and for a constant one too. Mean over what a neuron reads of a, of b, and writes; about 4 / m
    is chance.
    """
    return per_neuron(half_spectrum_participation(view))


@measure("ipr.real", unit="1", ref="arXiv 2602.16849: Σ A⁴ / (Σ A²)², A_k² = c_k² + s_k²")
def ipr_real(view: View) -> Value:
    """Inverse participation ratio of the amplitudes of the frequencies, without the constant: 1 where every
    neuron has one frequency.

    Mean over the neurons and over what each reads of a and b and writes; about 4 / m is chance.
    """
    return float(_participation(by_frequency(transform(_neuron_weights(view)).square())).mean())


def _per_neuron_complex(view: View) -> Float64[Tensor, "d_mlp"]:
    return _participation(torch.fft.fft(_neuron_weights(view), dim=0).abs().square()).mean(0)


@once_per_view
def half_spectrum_participation(view: View) -> Float64[Tensor, "d_mlp"]:
    """The values of `ipr.half_spectrum`.

    Raises:
        NotApplicable: there is no MLP, or the elements stand on no cyclic group.
    """
    return _participation(torch.fft.rfft(_neuron_weights(view), dim=0).abs().square()).mean(0)


def _participation(power: Float64[Tensor, "freq *rest"]) -> Float64[Tensor, "*rest"]:
    """Σ x² / (Σ x)² along the first dimension; 0 where all is 0."""
    whole = power.sum(0).square()
    return torch.where(whole > 0, power.square().sum(0) / whole, 0.0)


def _neuron_weights(view: View) -> Float64[Tensor, "m 3 d_mlp"]:
    """What every neuron of the last layer reads of a and of b, and writes, as functions on the circle."""
    z = circular(view)
    readout, (of_a, of_b) = z.readout, input_weights(view)
    return torch.stack([of_a[z.circle.a], of_b[z.circle.b], readout], dim=1)


def input_weights(view: View) -> Float64[Tensor, "2 p d_mlp"]:
    """What each element adds, as a and as b, to the pre-activation of every neuron of the last layer.

    Exact for a multilayer perceptron. For a transformer it is the direct path from the embedding through the
    heads of the last layer, each with its mean attention over the examples on the circle: W_E (Σ_h ā_h W_V^h
    W_O^h) W_in, and W_E W_in more where the operand itself stands at the answer position. Other layers, and
    normalisation, are passed by.

    Raises:
        NotApplicable: operands are read in another stack of layers than the answer.
    """
    if not view.blocks[-1].n_heads:
        return read_by_perceptron(view)
    needs_one_stack(view)
    w_in = view.weights[view.blocks[-1].name("mlp.W_in")].cpu()
    return torch.stack([view.W_E @ _path_from(view, position) @ w_in for position in operands(view)])


def _path_from(view: View, position: int) -> Float64[Tensor, "d_model d_model"]:
    """From what is embedded at an operand's position to the answer position's stream before the last MLP."""
    w, at = view.weights, f"blocks.{view.n_layers - 1}.attn."
    through = w[at + "W_V"] @ w[at + "W_O"]
    attention = view.attention[-1][:, circular(view).on_circle].mean(1)[:, position].to(through.device)
    path = (attention[:, None, None] * through).sum(0).cpu()
    return path + torch.eye(len(path), dtype=path.dtype) if position == view.task.reads.n_ctx - 1 else path
