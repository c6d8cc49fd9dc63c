"""Is the circuit the network? Parts of it are replaced by what the hypothesis says they are, and that is run.

From the outside in; each circuit is fitted to the network by projection, on all examples, and keeps nothing
of it but the coefficients:

    clock                logits = Σ_k α_k cos w_k(c* − c); one coefficient for each key
    pizza                logits = Σ_k α_k |cos w_k(a − b)/2| cos w_k(c* − c); one for each key
    neurons              every neuron is its fit on the 3 x 3 block of its key, and is read out at the keys
                         only
    whole                the embedding is its mean and its components at the keys; attention its fit on the 3
                         x 3 blocks of the keys; then ReLU, and neurons and readout as above
    constant_attention   the same with attention at its mean: a network that multiplies there fails

The path past the MLP and all biases of the output are left out. A new circuit is one function `(view, keys)
-> logits` under `@circuit`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float64, Int
from torch import Tensor

from ... import fourier
from ...view import View
from ..base import Value, once_per_view, per_part
from ..interventions import put
from ..operands import needs_one_stack
from ..sites import needs
from .circles import at_frequencies, clock_wave, nearness, with_embedding
from .circular import circular, measure
from .keys import keys_of
from .logits import cosine_logits, cosines_of_answer, logits_on_circle
from .projections import OfAnswer

Fit = Callable[[View, list[int]], Float64[Tensor, "rows m"]]


class Faithfulness(NamedTuple):
    """What a circuit does, example by example."""

    loss: Float64[Tensor, "rows"]
    accuracy: Float64[Tensor, "rows"]
    agreement: Float64[Tensor, "rows"]
    divergence: Float64[Tensor, "rows"]


_ON = "the training, test and all examples on the circle"
_QUANTITIES = {
    "loss": ("nats", f"Mean cross-entropy of a circuit in place of the network, on {_ON}."),
    "accuracy": ("1", f"Share of {_ON} that a circuit gets right; a tie of n counts 1/n."),
    "agreement": ("1", f"Share of {_ON} to which circuit and network give the same answer."),
    "divergence": (
        "nats",
        "Mean Kullback-Leibler divergence from the network's answer to the circuit's, for training, test "
        "and all examples.",
    ),
}


def circuit(name: str, ref: str) -> Callable[[Fit], Fit]:
    """Registers the four measures of a circuit, `circuit.NAME.loss` and so on, from what gives its logits."""

    def register(fit: Fit) -> Fit:
        for quantity, (unit, sentence) in _QUANTITIES.items():
            measure(f"circuit.{name}.{quantity}", unit=unit, ref=ref)(_measure_of(fit, quantity, sentence))
        return fit

    return register


def _measure_of(fit: Fit, quantity: str, sentence: str) -> Callable[..., Value]:
    def faithfulness(view: View, keys: Sequence[int] | None = None) -> Value:
        outcome = _run(view, fit, tuple(keys_of(view, keys)))
        return per_part(view, getattr(outcome, quantity), circular(view).on_circle)

    faithfulness.__doc__ = f"{sentence}\n\nThe circuit: {fit.__doc__} `keys` defaults to the consensus."
    return faithfulness


@once_per_view
def _run(view: View, fit: Fit, keys: tuple[int, ...]) -> Faithfulness:
    """What a circuit does; run once, as four measures ask."""
    return _compared(view, fit(view, list(keys)))


def _compared(view: View, on_circle: Float64[Tensor, "rows m"]) -> Faithfulness:
    """Answers that do not stand on the circle are none of a circuit's, and are left out of the divergence."""
    z = circular(view)
    rows = z.on_circle
    logits = on_circle.new_full((len(rows), view.task.n_answers), -torch.inf)
    logits[:, z.circle.c] = on_circle
    network, theirs = logits_on_circle(view).log_softmax(1), on_circle.log_softmax(1)
    return Faithfulness(
        loss=view.loss(logits, rows),
        accuracy=_choice(logits, view.labels[rows]),
        agreement=_choice(logits, view.logits[rows].argmax(1)),
        divergence=(network.exp() * (network - theirs)).sum(1).clamp_min(0),
    )


def _choice(logits: Float64[Tensor, "rows answers"], answers: Int[Tensor, "rows"]) -> Float64[Tensor, "rows"]:
    """How much of the choice of the largest logit falls on these answers: 1/n where n are as large, as c* + d
    and c* − d always are."""
    finite = torch.where(logits.isfinite(), logits, 0.0).abs()
    best = logits >= logits.amax(1, keepdim=True) - 1e-9 * finite.amax(1, keepdim=True)
    return best.gather(1, answers[:, None])[:, 0] / best.sum(1).double()


@circuit("clock", ref="Nanda et al. 2023, section 4.3; Zhong et al. 2023 (arXiv 2306.17844), section 2")
def clock(view: View, keys: list[int]) -> Float64[Tensor, "rows m"]:
    """logits = Σ_k α_k cos w_k(c* − c), for addition cos w_k(a + b − c), with one fitted α_k for each key."""
    return cosine_logits(view, keys)[:, circular(view).circle.c]


@measure("trig_loss", unit="nats", ref="Nanda et al. 2023, section 4.3: from 2.4e-7 to 4.7e-8")
def trig_loss(view: View, keys: Sequence[int] | None = None) -> Value:
    """Loss with the logits replaced by their fit Σ_k α_k cos w_k(c* − c); another name of circuit.clock.loss.

    The released code calls another quantity `trig_loss`, which is restricted_loss.logit_dirs here. `keys`
    defaults to the consensus.
    """
    logits = OfAnswer(cosines_of_answer(view, keys_of(view, keys), elsewhere=-torch.inf))
    return per_part(view, logits.loss(view), circular(view).on_circle)


@circuit("pizza", ref="Zhong et al. 2023 (arXiv 2306.17844), section 3")
def pizza(view: View, keys: list[int]) -> Float64[Tensor, "rows m"]:
    """logits = Σ_k α_k |cos w_k(a − b)/2| cos w_k(c* − c), with one fitted α_k for each key."""
    whole_logits = logits_on_circle(view)
    logits = torch.zeros_like(whole_logits)
    for k in keys:
        wave = nearness(view, k)[:, None] * clock_wave(view, k)
        logits += (whole_logits * wave).sum() / wave.square().sum() * wave
    return logits


@circuit(
    "neurons", ref="Nanda et al. 2023, section 4.2 and appendix: their 433 neurons as polynomials of degree 2"
)
def neurons(view: View, keys: list[int]) -> Float64[Tensor, "rows m"]:
    """each neuron is its fit on {1, cos k, sin k} ⊗ {1, cos k, sin k} of the key k that explains it best, and
    W_L its fit on the keys."""
    return _read_out(view, view.neurons, keys)


@circuit("whole", ref="Nanda et al. 2023, section 4; replaced all at once here")
def whole(view: View, keys: list[int]) -> Float64[Tensor, "rows m"]:
    """the embedding is its fit on 1, cos k, sin k of the keys, attention its fit on their 3 x 3 blocks; then
    ReLU; then as in `neurons`.

    Attention is that of the answer position, in every layer. A network without attention has only the rest.
    """
    needs(view, "mlp")
    if not view.heads:
        return _rerun(view, keys, [])
    attention = view.attention.movedim(2, 0).clone()
    attention[circular(view).on_circle] = _on_blocks(view, attention, keys)
    return _rerun(view, keys, list(attention.unbind(1)))


@circuit(
    "constant_attention",
    ref="Zhong et al. 2023 (arXiv 2306.17844), section 2: a pizza needs no attention, a clock does",
)
def constant_attention(view: View, keys: list[int]) -> Float64[Tensor, "rows m"]:
    """as `whole`, with attention at its mean over the examples."""
    needs(view, "mlp")
    return _rerun(view, keys, [layer.mean(1).expand(view.task.n_inputs, -1, -1) for layer in view.attention])


def _rerun(
    view: View, keys: list[int], attention: list[Float64[Tensor, "n head pos"]]
) -> Float64[Tensor, "rows m"]:
    """The logits of the network's own nonlinearity on a fitted embedding, with this attention."""
    needs_one_stack(view)
    cut = with_embedding(view, at_frequencies(circular(view).embedding, keys))
    edits = [
        put(view, f"blocks.{layer}.attn.hook_pattern", pattern) for layer, pattern in enumerate(attention)
    ]
    post = view.blocks[-1].name("mlp.hook_post")
    return _read_out(view, cut.activations([post], edits, everywhere=False)[post], keys)


def _read_out(view: View, neurons: Float64[Tensor, "n d_mlp"], keys: list[int]) -> Float64[Tensor, "rows m"]:
    """Logits of neurons that are each reduced to one key, through W_L reduced to the keys."""
    z = circular(view)
    at_keys = torch.cat([fourier.directions(z.m, k) for k in keys])
    return _on_blocks(view, neurons, keys, one_each=True) @ (at_keys.T @ (at_keys @ z.readout)).T


def _on_blocks(
    view: View, x: Float64[Tensor, "n *rest"], keys: list[int], one_each: bool = False
) -> Float64[Tensor, "rows *rest"]:
    """x, of the examples on the circle, projected on the 3 x 3 blocks of the keys; or each column on that
    which explains most of it."""
    z = circular(view)
    grid = z.grid(x).flatten(2)
    of = fourier.component_frequencies(z.m)
    wanted = torch.isin(of, torch.tensor([0, *keys]))
    basis, of = fourier.basis(z.m)[wanted], of[wanted]
    inside = (of == torch.tensor(keys)[:, None]) | (of == 0)
    blocks = inside[:, :, None] & inside[:, None, :]
    coefficients = torch.einsum("ia,abr,jb->ijr", basis, grid, basis)
    if one_each:
        power = coefficients.square()
        power[0, 0] = 0
        explained = torch.einsum("kij,ijr->kr", blocks.double(), power)
        blocks_left = blocks[fourier.strongest(explained).which].movedim(0, -1)
    else:
        blocks_left = blocks.any(0)[..., None]
    i, j = z.operands_at.unbind(1)
    fit = torch.einsum("ia,ijr,jb->abr", basis, coefficients * blocks_left, basis)
    return fit[i, j].unflatten(1, x.shape[1:])
