"""What the heads attend to, and whether their softmax matters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float64
from torch import Tensor

from ..errors import NotApplicable
from ..tasks import Operation
from ..view import View
from .base import Value, array, measure, per_part
from .interventions import recorded
from .operands import operands

SAME = 1e-9
"""Attention that differs by no more than this is the same up to rounding."""


@measure("attention.mean", unit="1", ref="Nanda et al. 2023, section 4.2")
def attention_mean(view: View) -> Value:
    """Mean over all examples of how much the answer position attends to each position, per layer and head; of
    an encoder-decoder per attention of the decoder, to itself and to the encoder ("cross")."""
    return _per_position(view, view.attention.mean(2))


@measure(
    "attention.variance", unit="1", ref="a mean pattern without its variance over inputs is no mechanism"
)
def attention_variance(view: View) -> Value:
    """Variance over all examples of how much the answer position attends to each position, per layer and
    head."""
    return _per_position(view, view.attention.var(2, unbiased=False))


@measure(
    "attention.encoder",
    unit="1",
    ref="Vaswani et al. 2017 (arXiv 1706.03762), section 3.2.3: each position of an encoder attends to all",
    each_answer=False,
    where=lambda task: task.written is not None,
)
def encoder_attention(view: View) -> Value:
    """Mean over all examples of how much each position attends to each in a stack that reads no answer, as an
    encoder, per layer and head; `attention.mean` has the stack that reads answers.

    Raises:
        NotApplicable: there is no such stack. Layers inside parts of an example, as of a vision transformer
            inside its patches, are none.
    """
    if not view.heads:
        raise NotApplicable("the network has no attention")
    inside = [heads for heads in view.heads if view.inside_at(heads.name("hook_z")) is not None]
    encoder = [heads for heads in view.heads if heads not in view.attentions and heads not in inside]
    if not encoder:
        raise NotApplicable("the network has no stack of layers with attention that reads no answer")
    sums: dict[str, Tensor] = {}

    def add(pattern: Tensor, hook: Any) -> Tensor:
        sums[hook.name] = sums.get(hook.name, 0) + pattern.sum(0).cpu()
        return pattern

    names = [heads.name("hook_pattern") for heads in encoder]
    view.whole.logits_with([(name, add) for name in names])
    words = [f"{i}: {view.reads.words[i]}" for i in view.places(names[0])]
    labels = {"layer": view.layers_of(encoder), "head": range(encoder[0].count), "query": words, "key": words}
    mean = torch.stack([sums[name] for name in names]) / view.task.n_inputs
    return array(mean, tuple(labels), **labels)


@measure("attention.self.mean", unit="1", ref="Nanda et al. 2023, section 4.2 (.1 to .4 % in their run)")
def self_attention_mean(view: View) -> Value:
    """Mean over all examples of how much the answer position attends to itself, per layer and head; see
    `attention.self.uniform`."""
    return per_head(view, _to_itself(view).mean(2))


@measure("attention.self.max", unit="1", ref="Nanda et al. 2023, section 4.2")
def self_attention_max(view: View) -> Value:
    """Most that the answer position attends to itself on any example, per layer and head; see
    `attention.self.uniform`."""
    return per_head(view, _to_itself(view).amax(2))


@measure("attention.self.uniform", unit="1", ref="here: what `attention.self` is where nothing was learned")
def self_attention_uniform(view: View) -> Value:
    """Share of its attention that the answer position would pay itself if it attended to all positions alike
    that it can attend to: 1 / n_ctx where it is the last."""
    at, seen = view.reads.positions[0], view.attention.amax((0, 1, 2))
    places = view.places(view.attentions[-1].name("hook_z"))
    return 1 / ((places.stop if seen[at + 1 :].any() else at + 1) - places.start)


@measure(
    "linear_attention_loss.tangent",
    unit="nats",
    ref="Nanda et al. 2023, appendix C.1 (sigmoid to linear)",
    of=Operation,
)
def tangent_attention_loss(view: View) -> Value:
    """Loss when every head divides its attention between a and b by the linear part of its softmax instead of
    the softmax.

    At the answer position of every layer, with s the scores and M = A_a + A_b what the softmax pays to the
    two operands together: A_a = M (1/2 + (s_a − s_b) / 4) and A_b = M − A_a. M, and the attention to other
    positions, stay as they are. This is the softmax of n positions to first order about equal scores, (1 +
    s_i − mean s) / n, for n = 2; and so of sigmoid(s_a − s_b). Of a pattern that is mixed with a constant
    (Zhong et al. 2023) only the softmax is made linear.
    """
    needs_softmax(view)
    return _linear_attention_loss(view, torch.full(view.attention.shape[:2], 1 / 4, dtype=torch.float64))


@measure(
    "linear_attention_loss.fitted",
    unit="nats",
    ref="Nanda et al. 2023, appendix C.1 (2.4e-7 becomes 2.1e-7 in their run)",
    of=Operation,
)
def fitted_attention_loss(view: View) -> Value:
    """Loss when every head divides its attention between a and b by the line that fits its softmax best,
    instead of the softmax.

    As the tangent, A_a = M (1/2 + slope (s_a − s_b)), with the slope of least squares over all examples for
    every head.
    """
    alpha, slopes, (a, b) = needs_softmax(view), [], operands(view)
    for layer, pattern in enumerate(view.attention):
        at_a, at_b = (pattern[..., i] - (1 - alpha) for i in (a, b))
        scores = recorded(view, f"blocks.{layer}.attn.hook_attn_scores")
        apart = (scores[..., a] - scores[..., b]).T
        tilt = torch.where(at_a + at_b > 0, at_a / (at_a + at_b) - 1 / 2, 0.0)
        size = apart.square().sum(1)
        slopes.append(torch.where(size > 0, (tilt * apart).sum(1) / size, 0.0))
    return _linear_attention_loss(view, torch.stack(slopes))


def _linear_attention_loss(view: View, slopes: Float64[Tensor, "layer head"]) -> Value:
    alpha, (at_a, at_b) = needs_softmax(view), operands(view)
    apart = torch.empty(0)

    def see(scores: Tensor, hook: object) -> Tensor:
        nonlocal apart
        apart = scores[:, :, -1, at_a] - scores[:, :, -1, at_b]
        return scores

    def dividing(slope: Tensor) -> Callable[..., Tensor]:
        def divide(pattern: Tensor, hook: object) -> Tensor:
            together = pattern[:, :, -1, at_a] + pattern[:, :, -1, at_b]
            tilt = (together - 2 * (1 - alpha)) * slope.to(pattern.device) * apart
            pattern = pattern.clone()
            pattern[:, :, -1, at_a], pattern[:, :, -1, at_b] = together / 2 + tilt, together / 2 - tilt
            return pattern

        return divide

    edits: list[tuple[str, Callable[..., Tensor]]] = []
    for layer, slope in enumerate(slopes):
        at = f"blocks.{layer}.attn."
        edits += [(at + "hook_attn_scores", see), (at + "hook_pattern", dividing(slope))]
    return per_part(view, view.loss(view.activations([], edits, everywhere=False)["logits"]))


def needs_softmax(view: View) -> float:
    """The alpha of a pattern alpha softmax + (1 − alpha), 1 for an ordinary network: a row of it has the sum
    alpha + (1 − alpha) n_ctx.

    Raises:
        NotApplicable: the network has no attention, or its pattern is constant or something else.
    """
    sums, n_ctx = view.attention.sum(-1), view.attention.shape[-1]
    if float(sums.max() - sums.min()) > SAME:
        raise NotApplicable(
            "the attention is no mixture of a softmax and a constant, so its scores do not say what it is"
        )
    alpha = (n_ctx - float(sums.mean())) / (n_ctx - 1)
    if alpha < SAME:
        raise NotApplicable("the attention is constant, so its scores mean nothing")
    return alpha


def _per_position(view: View, values: Tensor) -> Value:
    return per_head(view, values, pos=[f"{i}: {word}" for i, word in enumerate(view.reads.words)])


def _to_itself(view: View) -> Float64[Tensor, "layer head n"]:
    """How much the answer position attends to itself; 0 of heads that attend to another stack."""
    return view.attention[..., view.reads.positions[0]]


def per_head(view: View, values: Tensor, **each: Sequence[Any]) -> Value:
    """An array over the attentions of a View and their heads, and what else the values are of."""
    layers, heads = view.layers_of(view.attentions), range(values.shape[1])
    return array(values, ("layer", "head", *each), layer=layers, head=heads, **each)
