"""In which frequency the heads attend, and by which effective matrices.

The effective matrices are products of weights of the first layer. Where the network normalises, they are
without LayerNorm. They leave out positions and the bias of the keys, which add the same to every score.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float64
from torch import Tensor

from ... import fourier
from ...errors import NotApplicable
from ...tasks import Operation
from ...view import View
from ..attention import SAME, needs_softmax, per_head
from ..base import Value, array, once_per_view
from ..operands import needs_one_stack, operands
from ..sites import needs
from .circular import circular, measure


@once_per_view
def head_power(view: View) -> Float64[Tensor, "freq layer head"]:
    """Share of the variance, over the table, of the attention to a in the 3 x 3 block of each frequency; 0
    for constant attention.

    Raises:
        NotApplicable: the network has no attention, or the examples fill no grid.
    """
    to_a = view.attention[..., operands(view)[0]].permute(2, 0, 1)
    grid = circular(view).grid(to_a)
    of_frequency, total = fourier.block_variance(grid)
    return torch.where((grid - grid.mean((0, 1))).abs().amax((0, 1)) > SAME, of_frequency / total, 0.0)


@measure("head.frequency", unit="1", ref="Nanda et al. 2023, appendix C.1 (35, 42, 52 and 42 in their run)")
def head_frequency(view: View) -> Value:
    """The frequency whose 3 x 3 block explains most of the variance of each head's attention to a; 0 where
    the attention is constant."""
    share, frequency = fourier.strongest(head_power(view))
    return per_head(view, torch.where(share > 0, frequency + 1, 0))


@measure(
    "head.explained_variance", unit="1", ref="Nanda et al. 2023, appendix C.1 (97.9 to 99.1 % in their run)"
)
def head_explained_variance(view: View) -> Value:
    """Share of the variance of each head's attention to a, over the table, that the 3 x 3 block of its
    frequency explains."""
    return per_head(view, head_power(view).amax(0))


def scores_of_elements(view: View) -> Float64[Tensor, "head m"]:
    """What each element adds to the score by which the answer position attends to it, in the first layer;
    elements as first operands.

    W_E W_K (resid_= W_Q + b_Q)ᵀ / √d_head, resid_= the embedding of the last token and of its position.

    Raises:
        NotApplicable: the network has no attention or it is constant, or the last token is an operand, so
            that its query is no constant, or operands are read in another stack of layers.
    """
    needs_softmax(view)
    needs_one_stack(view)
    w, token = view.weights, Operation.of(view.task).tokens.tokens[-1]
    if token is None:
        why = "the answer position holds an operand, so its query is not the same for all examples"
        raise NotApplicable(why)
    stream = w["embed.W_E"][token] + w["pos_embed.W_pos"][-1]
    query = torch.einsum("d,hde->he", stream, w["blocks.0.attn.W_Q"]) + w["blocks.0.attn.b_Q"]
    keys = torch.einsum("pd,hde->hpe", circular(view).embedding, w["blocks.0.attn.W_K"].cpu())
    return torch.einsum("hpe,he->hp", keys, query.cpu()) / math.sqrt(query.shape[-1])


def elements_to_neurons(view: View) -> Float64[Tensor, "head m d_mlp"]:
    """What each element, as first operand, adds to each neuron through a head that attends to it fully: W_E
    W_V W_O W_in.

    Raises:
        NotApplicable: the network has no attention or no MLP, or operands are read in another stack of
            layers.
    """
    needs(view, "attention")
    needs(view, "mlp")
    needs_one_stack(view)
    w = view.weights
    values = torch.einsum("pd,hde->hpe", circular(view).embedding, w["blocks.0.attn.W_V"].cpu())
    return values @ (w["blocks.0.attn.W_O"] @ w["blocks.0.mlp.W_in"]).cpu()


@measure("fourier_norms.QK", unit="score", ref="Nanda et al. 2023, appendix C.1: F W_E W_Kᵀ W_Q resid_=")
def score_spectrum(view: View) -> Value:
    """Size of each Fourier component of the score by which the answer position attends to each element, per
    head of the first layer.

    Without LayerNorm.
    """
    return _per_head_and_component(fourier.transform(scores_of_elements(view).T).abs().T)


@measure(
    "fourier_norms.OV",
    unit="weight",
    ref="Nanda et al. 2023, section 4.2 and released notebook: F W_E W_V W_O W_in",
    gauge=("scale",),
)
def value_spectrum(view: View) -> Value:
    """Norm over the neurons of each Fourier component of W_E W_V W_O W_in, per head of the first layer.

    Without LayerNorm.
    """
    return _per_head_and_component(fourier.transform(elements_to_neurons(view).transpose(0, 1)).norm(dim=2).T)


def _per_head_and_component(values: Tensor) -> Value:
    heads, components = values.shape
    names = fourier.component_names(components)
    return array(values, ("head", "component"), head=range(heads), component=names)
