"""How far a network that answers with a number (regression) is from the right one. Accuracy asks which answer
is nearest, so that dense answers ask for small distances; here it is the distance itself."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from jaxtyping import Float64
from torch import Tensor

from ..errors import NotApplicable
from ..tasks import Operation
from ..view import View
from .base import Value, array, measure, per_part

WITHIN = 1e-2
"""How near a number is called right, absolutely."""


def on_a_line(task: Operation) -> bool:
    """Whether answers are numbers whose distances mean something: those of residues do not."""
    return task.circle is None and bool(task.reads.logit_numbers)


measure_of_numbers = partial(measure, unit="1", of=Operation, where=on_a_line)
"""A measure of operations whose answers are numbers."""


@measure_of_numbers(
    "loss.squared_distance", ref='here: the loss of training with `loss = "squared_distance"`'
)
def squared_distance(view: View) -> Value:
    """Mean squared distance of the number that the network answers with from that of the label, on the
    training, test and all examples: the mean squared error of a regression."""
    return per_part(view, (view.number - view.numbers_of_labels).square())


@measure_of_numbers("number.within", ref="here: a fixed distance, as right to two decimals", replayed=True)
def within(view: View) -> Value:
    """Share of the training, test and all examples whose number is at most 0.01 from that of the label."""
    return per_part(view, (view.number - view.numbers_of_labels).abs() <= WITHIN)


@measure_of_numbers("number.unexplained", ref="here: 1 - R²")
def unexplained(view: View) -> Value:
    """Mean squared distance of the number from that of the label, over the variance of the latter, on the
    training, test and all examples: 0 is exact, 1 no better than to answer all with their mean.

    Raises:
        NotApplicable: all labels of a part are one number.
    """

    def share(number: Tensor, right: Tensor) -> Tensor:
        variance = right.var(correction=0)
        if not variance:
            raise NotApplicable("all labels of a part are one number")
        return (number - right).square().mean() / variance

    return _of_parts(view, share)


@measure_of_numbers("number.relative_error", ref="here: a median, which a few wild answers do not move")
def relative_error(view: View) -> Value:
    """Median distance of the number from that of the label, as a share of the latter, over the training, test
    and all examples whose label is not 0.

    Raises:
        NotApplicable: all labels of a part are 0.
    """

    def median(number: Tensor, right: Tensor) -> Tensor:
        number, right = number[right != 0], right[right != 0]
        if not len(right):
            raise NotApplicable("all labels of a part are 0")
        return ((number - right) / right).abs().quantile(0.5)

    return _of_parts(view, median)


def _of_parts(
    view: View, of: Callable[[Float64[Tensor, "m"], Float64[Tensor, "m"]], Float64[Tensor, ""]]
) -> Value:
    """A value for each part that has examples, from their numbers and those of their labels."""
    number, right = view.number, view.numbers_of_labels
    rows = {part: mask for part in view.parts if (mask := view.rows(part)).any()}
    values = [of(number[mask], right[mask]) for mask in rows.values()]
    return array(torch.stack(values), "part", part=list(rows))
