"""The two operands of an operation: how a measure of them is registered, where they stand, and what neurons
read of them."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from jaxtyping import Float64
from torch import Tensor

from ..errors import NotApplicable
from ..tasks import Operation
from ..view import View
from .base import Value
from .base import measure as of_any_task

measure = functools.partial(of_any_task, of=Operation)
"""Registers a measure of an operation."""


def loss_and_accuracy(
    name: str,
    words: str,
    judged: Callable[..., Value],
    *,
    ref: str,
    of_loss: str = "",
    gauge: tuple[str, ...] = (),
) -> None:
    """Registers what becomes of both when something is done to the network: "restricted.X" as the measures
    restricted_loss.X and restricted_accuracy.X.

    Args:
        name: what is done, and its variant.
        words: of both, beginning in the middle of a sentence.
        judged: a function of "loss" or "correct", a View and options that gives the values of one of them.
        ref: the source.
        of_loss: what the source says of the loss alone.
        gauge: as for `measure`.
    """
    kind, _, variant = name.partition(".")
    for what, judgement, unit in (("loss", "loss", "nats"), ("accuracy", "correct", "1")):
        function = functools.partial(judged, judgement)
        function.__doc__ = f"{what.capitalize()} {words}"
        source = ref + of_loss if what == "loss" else ref
        measure(f"{kind}_{what}.{variant}", unit=unit, ref=source, gauge=gauge)(function)


def operands(view: View) -> tuple[int, int]:
    """The positions of a and b."""
    words = Operation.of(view.task).tokens.words
    return words.index("a"), words.index("b")


def needs_one_stack(view: View) -> None:
    """
    Raises:
        NotApplicable: the operands are read in other layers than those in which the answer is.
    """
    if view.heads != view.attentions:
        raise NotApplicable("the operands are read in one stack of layers, and the answer in another")


def read_by_perceptron(view: View) -> Float64[Tensor, "2 p d_mlp"]:
    """What each element adds, as a and as b, to the pre-activations of a multilayer perceptron."""
    tables = [view.weights[name][rows].cpu() for name, rows in view.embedding_rows]
    w_in = view.blocks[0].name("mlp.W_in")
    if view.embedding_rows[0][0] != w_in:  # that of one-hot operands is W_in itself
        halves = view.weights[w_in].cpu().chunk(2)
        tables = [table @ half for table, half in zip(tables * (2 // len(tables)), halves, strict=True)]
    return torch.stack(tables)
