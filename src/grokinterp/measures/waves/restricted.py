"""What is left of loss and accuracy when the network is reduced to its key frequencies (restricted) or robbed
of them (excluded).

Papers and notebooks call many things by these two names. Here each has a name of its own:

    variant              what is projected       directions per key                 beside it
    `logit_dirs`         logits                  cos w_k(c*), sin w_k(c*)           restricted: mean over
                                                                                    examples of the rest
    `block3x3`           logits                  the 8 products of {1, cos, sin}    restricted: mean over
                                                 of a and of b                      examples
    `block2x2`           logits                  the 4 products of {cos, sin} of    restricted: mean over
                                                 a and of b                         examples
    `neuron_dirs`        neurons, through W_L    cos w_k(c*), sin w_k(c*)           restricted: mean over
                                                                                    examples of the logits
    `w_l_directions`     neurons, in neuron      the readout's own cos k and sin    skip connection and biases
                         space                   k columns
    `per_frequency`      logits                  as logit_dirs, one frequency at    excluded: everything else
                                                 a time
    `logit_cube`         logits over (a, b, c)   the one function cos w_k(c* − c)   excluded: everything else
    `neuron_no_skip`     neurons, through W_L    cos w_k(c*), sin w_k(c*)           excluded: nothing
    `neuron_with_skip`   the same                the same                           excluded: skip connection
                                                                                    and biases

c* is the right answer of an example: for addition cos w_k(c*) is cos w_k(a + b). The variants of Chughtai et
al. are in groups/irreps.py.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from jaxtyping import Float64
from torch import Tensor

from ...fourier import directions
from ...view import View
from ..base import Value, once_per_view, per_part
from ..neurons import beside_the_neurons, direct_readout
from ..operands import loss_and_accuracy
from .circular import circular, measure
from .keys import keys_of
from .logits import cosines_of_answer
from .projections import (
    OfAnswer,
    in_blocks,
    losses_without,
    mean_kept,
    mean_logits,
    mean_neurons,
    of_answer,
    share_of_answer,
)

Logits = Float64[Tensor, "rows answers"]
Edit = Callable[[View, list[int]], Logits | OfAnswer]


def edited(
    name: str, ref: str, gauge: tuple[str, ...] = ()
) -> Callable[[Edit], Callable[[View, list[int]], Logits]]:
    """Registers the loss and the accuracy of edited logits: `name` is "restricted.X" or "excluded.X".

    The function gives the logits of the rows of `on_circle`, or what of them depends on the answer alone; its
    docstring says what they are, beginning in the middle of a sentence. Under its name stands from then on
    what gives them row by row.
    """

    def register(edit: Edit) -> Callable[[View, list[int]], Logits]:
        def judged(what: Literal["loss", "correct"], view: View, keys: Sequence[int] | None = None) -> Value:
            logits = _judged(view, edit, tuple(keys_of(view, keys)))
            values = logits[what] if isinstance(logits, dict) else getattr(logits, what)(view)
            return per_part(view, values, circular(view).on_circle)

        @functools.wraps(edit)
        def row_by_row(view: View, keys: list[int]) -> Logits:
            logits = edit(view, keys)
            return logits.logits(view) if isinstance(logits, OfAnswer) else logits

        words = f"{inspect.getdoc(edit)}\n\n`keys` defaults to the consensus."
        loss_and_accuracy(name, words, judged, ref=ref, gauge=gauge)
        return row_by_row

    return register


@once_per_view
def _judged(view: View, edit: Edit, keys: tuple[int, ...]) -> dict[str, Tensor] | OfAnswer:
    """Loss and correctness of every example on the circle, of a whole table of logits both, as they are asked
    for together."""
    logits, rows = edit(view, list(keys)), circular(view).on_circle
    if isinstance(logits, OfAnswer):
        return logits
    return {"loss": view.loss(logits, rows), "correct": view.correct(logits, rows)}


def _on_circle(view: View) -> Logits:
    return circular(view).of_circle(view.logits)


@edited("restricted.logit_dirs", ref="Nanda et al. 2023, section 5.1 and released notebook (trig_loss)")
def restricted_logit_dirs(view: View, keys: list[int]) -> OfAnswer:
    """when of the logits only the directions of the keys are kept: Σ_k (C_k C_kᵀ + S_k S_kᵀ) L + mean over
    examples of the rest.

    C_k and S_k are cos w_k(c*) and sin w_k(c*) over the table, normalised.
    """
    return _with_mean_logits(view, of_answer(view, keys, mean_logits(view)))


@edited("restricted.block3x3", ref="Nanda et al. 2023, section 5.1 (40 components), as a sum of blocks")
def restricted_block3x3(view: View, keys: list[int]) -> Logits:
    """when of the logits only the 3 x 3 blocks of the keys are kept: for each the 8 products of {1, cos, sin}
    of a and b; and the mean."""
    return mean_kept(in_blocks(view, keys, view.logits, edges=True), _on_circle(view))


@edited("restricted.block2x2", ref="Nanda et al. 2023, section 5.1 (20 terms, as the paper words it)")
def restricted_block2x2(view: View, keys: list[int]) -> Logits:
    """when of the logits only the 2 x 2 blocks of the keys are kept: for each key the 4 products of {cos,
    sin} of a and b, and the mean."""
    return mean_kept(in_blocks(view, keys, view.logits, edges=False), _on_circle(view))


@edited("restricted.neuron_dirs", ref="TransformerLens Grokking_Demo and ARENA (get_restricted_loss)")
def restricted_neuron_dirs(view: View, keys: list[int]) -> OfAnswer:
    """when the neurons keep only cos w_k(c*) and sin w_k(c*) of the keys and go through W_L, with the mean
    logits put back.

    It differs from logit_dirs by what the skip connection has along these directions. The demo takes the test
    examples.
    """
    return _with_mean_logits(view, _through_readout(view, keys))


@edited(
    "restricted.w_l_directions",
    ref="Nanda et al. 2023, section 4.3 and appendix C (ten directions: 1.19e-7)",
    gauge=("scale",),
)
def restricted_w_l_directions(view: View, keys: list[int]) -> Logits:
    """when of the neurons only the directions that W_L reads at the keys are kept: the span of its cos k and
    sin k columns.

    Skip connection and biases are as in the network; no mean is put back.
    """
    z = circular(view)
    neurons, readout = view.neurons[z.on_circle], direct_readout(view)
    axes = _readout_axes(view, keys)
    return neurons @ axes @ (axes.T @ readout) + beside_the_neurons(view)[z.on_circle]


@edited("excluded.logit_dirs", ref="Nanda et al. 2023, section 5.1 and figure 7")
def excluded_logit_dirs(view: View, keys: list[int]) -> OfAnswer:
    """when the directions of all key frequencies are taken out of the logits: L − Σ_k (C_k C_kᵀ + S_k S_kᵀ)
    L.

    The paper reports it on the training examples.
    """
    return OfAnswer(of_answer(view, keys, mean_logits(view)), lost=True)


@edited("excluded.logit_cube", ref="released notebook of Nanda et al. 2023 (the 3-D variant)")
def excluded_logit_cube(view: View, keys: list[int]) -> OfAnswer:
    """when of the logits over (a, b, c) the one function cos w_k(c* − c) of each key is taken out: L − Σ_k
    α_k T_k."""
    return OfAnswer(cosines_of_answer(view, keys), lost=True)


@edited("excluded.neuron_no_skip", ref="TransformerLens Grokking_Demo, cell 136 (6.5511 on its network)")
def excluded_neuron_no_skip(view: View, keys: list[int]) -> Logits:
    """when the neurons lose cos w_k(c*) and sin w_k(c*) of the keys, and alone make the logits: no skip
    connection, no biases."""
    z = circular(view)
    return view.neurons[z.on_circle] @ direct_readout(view) - _through_readout(view, keys)[z.answer_at]


@edited(
    "excluded.neuron_with_skip",
    ref="TransformerLens Grokking_Demo (get_excluded_loss, 4.7765 on its network)",
)
def excluded_neuron_with_skip(view: View, keys: list[int]) -> OfAnswer:
    """when the neurons lose cos w_k(c*) and sin w_k(c*) of the keys; skip connection and biases are as in the
    network."""
    return OfAnswer(_through_readout(view, keys), lost=True)


@edited(
    "excluded.w_l_directions",
    ref="Nanda et al. 2023, section 4.3 and appendix C (null space of the ten directions: 5.27)",
    gauge=("scale",),
)
def excluded_w_l_directions(view: View, keys: list[int]) -> Logits:
    """when the neurons lose the directions that W_L reads at the keys; skip connection and biases are as in
    the network."""
    neurons, readout = view.neurons[circular(view).on_circle], direct_readout(view)
    axes = _readout_axes(view, keys)
    return _on_circle(view) - neurons @ axes @ (axes.T @ readout)


@measure("excluded_loss.per_frequency", unit="nats", ref="Nanda et al. 2023, figure 15 and footnote 3")
def excluded_loss_per_frequency(view: View) -> Value:
    """For each frequency k of all, the loss when cos w_k(c*) and sin w_k(c*) are taken out of the logits."""
    z = circular(view)
    return per_part(view, losses_without(view)[0], z.on_circle, freq=z.frequencies)


def _through_readout(view: View, keys: list[int]) -> Float64[Tensor, "m answers"]:
    """What cos w_k(c*) and sin w_k(c*) of the neurons add to the logits, at each right answer."""
    return of_answer(view, keys, mean_neurons(view)) @ direct_readout(view)


def _with_mean_logits(view: View, part: Float64[Tensor, "m answers"]) -> OfAnswer:
    """`mean_kept` of a part that depends on the right answer alone."""
    return OfAnswer(part + share_of_answer(view) @ (mean_logits(view) - part))


def _readout_axes(view: View, keys: Sequence[int]) -> Float64[Tensor, "d_mlp axis"]:
    """An orthonormal basis of the span of the cos k and sin k columns of W_L, in neuron space."""
    z = circular(view)
    columns = torch.cat([directions(z.m, k) @ z.readout for k in keys])
    u, s, _ = torch.linalg.svd(columns.T, full_matrices=False)
    return u[:, s > 1e-9 * s[0].clamp_min(torch.finfo(s.dtype).tiny)]
