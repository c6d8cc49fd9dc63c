"""The readout W_L = W_out W_U: its spectrum over the answers, and what its directions read off the neurons.

Transposed, W_L is a constant and Σ_k cos_k u_kᵀ + sin_k v_kᵀ: every Fourier component over the answers has a
direction in neuron space. Logits Σ_k cos w_k(a + b − c) mean that the neurons hold cos w_k(a + b) along u_k
and sin w_k(a + b) along v_k.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float64
from torch import Tensor

from ... import fourier
from ...view import View
from ..base import Value, array
from ..sparsity import gini
from .circular import circular, measure
from .embedding import OF_NORMS, component_norms
from .keys import chosen
from .neurons import share


@measure("fourier_norms.W_L", unit="weight", ref="Nanda et al. 2023, section 4.3", gauge=("scale", "shift"))
def readout_spectrum(view: View) -> Value:
    """Norm of each Fourier component, over the answers, of W_L = W_out W_U."""
    z = circular(view)
    return z.per_component(component_norms(z.readout))


@measure("gini.W_L", unit="1", ref=OF_NORMS, gauge=("scale",))
def readout_gini(view: View) -> Value:
    """Gini coefficient of the component norms of W_L without the constant."""
    return gini(component_norms(circular(view).readout)[1:])


@measure(
    "w_l_residual.raw",
    unit="1",
    ref="Nanda et al. 2023, section 4.3 (below 0.0055 in their run)",
    gauge=("scale", "shift"),
)
def raw_residual(view: View, keys: Sequence[int] | None = None) -> Value:
    """Frobenius norm of what the key frequencies leave of W_L over that of W_L.

    `keys` defaults to the consensus. A W_L of zeros has 0.
    """
    return _residual(view, keys, component_norms(circular(view).readout))


@measure(
    "w_l_residual.centred",
    unit="1",
    ref="Nanda et al. 2023, section 4.3, without the constant over the answers",
    gauge=("scale",),
)
def centred_residual(view: View, keys: Sequence[int] | None = None) -> Value:
    """Frobenius norm of what the key frequencies leave of W_L, centred over the answers, over that of W_L
    centred: what a neuron adds to all logits alike changes no probability."""
    norms = component_norms(circular(view).readout)
    norms[0] = 0
    return _residual(view, keys, norms)


def _residual(view: View, keys: Sequence[int] | None, norms: Float64[Tensor, "component"]) -> float:
    wanted = torch.tensor(chosen(view, keys), dtype=torch.long)
    of_keys = torch.isin(fourier.component_frequencies(circular(view).m), wanted)
    return float(norms[~of_keys].norm() / norms.norm()) if norms.any() else 0.0


@measure(
    "w_l_directions.explained_variance",
    unit="1",
    ref="Nanda et al. 2023, section 4.3 and table 1 (93 to 98 % for their keys)",
)
def readout_directions(view: View) -> Value:
    """Share of the variance of u_k · MLP that cos w_k(c*) explains, and of v_k · MLP that sin w_k(c*) does,
    c* the right answer.

    For addition these are cos w_k(a + b) and sin w_k(a + b). u_k and v_k are the components "cos k" and "sin
    k" of W_L; where they read nothing but rounding the share is 0.
    """
    z = circular(view)
    read = _neurons(view) @ fourier.transform(z.readout)[1:].T
    waves = _waves(view)
    total, size = read.square().sum(0), waves.square().sum(0)
    along = (read * waves).sum(0).square()
    above_rounding = (total > 1e-20 * total.max()) & (size > 1e-20 * len(waves))
    share_along = torch.where(above_rounding, along / (total * size), 0.0)
    return array(share_along, "component", component=fourier.component_names(z.m)[1:])


@measure(
    "readout_fraction",
    unit="1",
    ref="here, after marshallchen99/grokking-mechinterp; chance is 2 / d_mlp",
    gauge=("scale",),
)
def readout_fraction(view: View) -> Value:
    """For each frequency, the share of what the neurons hold of cos w_k(c*) and sin w_k(c*) that lies in the
    plane of u_k and v_k.

    The rest is computed and not read: it is orthogonal to the readout. 0 where the neurons, or the readout,
    have nothing of k but rounding.
    """
    z, held = circular(view), _waves(view).T @ _neurons(view)
    vectors = fourier.transform(z.readout)[1:]
    frequency = fourier.component_frequencies(z.m)[1:]
    loud, quiet = 1e-9 * float(vectors.norm()), 1e-20 * float(held.square().sum(1).max())
    fractions = []
    for k in z.frequencies:
        of_k = held[frequency == k]
        _, s, axes = torch.linalg.svd(vectors[frequency == k], full_matrices=False)
        power, read = (float(x.square().sum()) for x in (of_k, of_k @ axes[s > loud].T))
        fractions.append(read / power if power > quiet else 0.0)
    return z.per_frequency(torch.tensor(fractions, dtype=torch.float64))


@measure(
    "sum_fraction.logits",
    unit="1",
    ref="marshallchen99/grokking-mechinterp (.9935 to .9986 in their run; 1 for the exact algorithm)",
)
def logit_sum_fraction(view: View) -> Value:
    """For each frequency, the share that depends on a + b of what the logits have of products of a wave of a
    and one of b.

    The rest depends on a − b. Chance is ½; 0 where the logits have nothing of that frequency but rounding.
    """
    z = circular(view)
    logits = z.grid(view.logits)[..., z.circle.c]
    alike, apart = fourier.sum_and_difference_power(logits - logits.mean(-1, keepdim=True))
    return z.per_frequency(share(alike.sum(1), apart.sum(1)))


def _neurons(view: View) -> Float64[Tensor, "rows d_mlp"]:
    """The neurons of the examples on the circle, centred."""
    neurons = view.neurons[circular(view).on_circle]
    return neurons - neurons.mean(0)


def _waves(view: View) -> Float64[Tensor, "rows wave"]:
    """Every component but the constant as a function of the right answer, centred over examples."""
    z = circular(view)
    waves = fourier.basis(z.m)[1:, z.answer_at].T
    return waves - waves.mean(0)
