"""Networks that add digit by digit: which digit they take for the right one, and what their neurons make of
the two digits of a place."""

from __future__ import annotations

import math
from functools import partial

import torch
from jaxtyping import Float64, Int
from torch import Tensor

from ..tasks.carries import ABOVE, KIND_OF_SUM, SUMS
from ..tasks.digits import Digits
from ..view import View
from .base import Value, array, measure, once_per_view, per_part
from .factors import READS, cell_sums, classes, fitted, neurons

DELTAS = (-1, 0, 1, 2)


@measure(
    "digits.delta_profile",
    unit="1",
    ref="a public note of 2023-04-18 on digit addition, after Nanda's grokking colab; here: of each class",
    of=Digits,
    replayed=True,
)
def delta_profile(view: View) -> Value:
    """Mean probability of the naive digit + delta (mod 10), for delta = −1, 0, 1, 2.

    The naive digit of a place is (x + y) mod 10, that of the leading digit 0: whoever knows the two digits of
    a place and not the carry gives it and the next one about half each.
    """
    known, place = view.task.factors, view.reads.answers[0]
    naive = known[f"naive.{place}"].values if f"naive.{place}" in known else torch.zeros_like(view.targets)
    wanted = (naive[:, None] + torch.tensor(DELTAS)) % 10
    return per_part(view, view.probabilities.gather(1, wanted), delta=DELTAS)


def _classes(of_cell: Int[Tensor, "10 10"]) -> Float64[Tensor, "cell term"]:
    """Any function of a class of the cells."""
    return torch.nn.functional.one_hot(of_cell.flatten()).double()


def _wave(k: int) -> Float64[Tensor, "cell term"]:
    angle = 2 * math.pi * k / 10 * SUMS.flatten().double()
    return torch.stack([torch.ones_like(angle), angle.cos(), angle.sin()], dim=1)


_X, _Y = torch.arange(10)[:, None].expand(10, 10), torch.arange(10).expand(10, 10)
FUNCTIONS: dict[str, Float64[Tensor, "cell term"]] = {
    "f(x) + g(y)": torch.cat([_classes(_X), _classes(_Y)], dim=1),
    "f(x + y)": _classes(SUMS),
    "f(naive digit)": _classes(SUMS % 10),
    "carry": _classes((KIND_OF_SUM[SUMS] == ABOVE).long()),
    "carry and nine": _classes(KIND_OF_SUM[SUMS]),
    **{f"wave {k}": _wave(k) for k in range(1, 6)},
}
"""What a function of the two digits of a place is held against, at each of their 100 pairs."""


@once_per_view
def _of_places(
    view: View,
) -> tuple[Float64[Tensor, "place neuron"], Float64[Tensor, "place function neuron"]]:
    """Of each place the share of every neuron's variance that its two digits explain, and the shares of that
    which functions of them do; all corrected for chance."""
    z, task = neurons(view), view.task
    assert isinstance(task, Digits)
    n, shares, functions = len(z), [], []
    for place in range(task.n):
        x, y = (classes(view, name) for name in task.read[2 * place : 2 * place + 2])
        cells = 10 * x + y
        counts, sums = cells.bincount(minlength=100).double(), cell_sums(z, cells, 100)[:, :, 0]
        n_free = int((counts > 0).sum())
        raw = (sums.square() / counts.clamp(min=1)[:, None]).sum(0) / n
        noise = (z.square().mean(0)[:, 0] - raw) / max(n - n_free, 1)  # of every number that is free
        shares.append(raw - (n_free - 1) * noise)
        of_functions = []
        for design in FUNCTIONS.values():
            fit, n_terms = fitted(design, counts, sums)
            of_functions.append((fit * sums).sum(0) / n - (n_terms - 1) * noise)
        functions.append(torch.stack(of_functions) / shares[-1].clamp(min=READS))
    return torch.stack(shares), torch.stack(functions)


def _has_one_answer(task: Digits) -> bool:
    return len(task.places) == 1


measure_of_digits = partial(
    measure, of=Digits, ref="here; waves mod 10 as in Nanda et al. 2023, section 4.1", where=_has_one_answer
)
"""Registers a measure that a report takes where one digit is asked for; of several it has to be named."""


@measure_of_digits("pair_function.place", unit="1")
def pair_place(view: View) -> Value:
    """The place whose two digits explain most of each neuron's variance, 0 for the units; and the share that
    they explain."""
    most = _of_places(view)[0].max(0)
    values = torch.stack([most.indices.double(), most.values], dim=1)
    return array(values, ("neuron", "of"), neuron=range(len(values)), of=["place", "share"])


@measure_of_digits("pair_function.neurons", unit="1")
def pair_function(view: View) -> Value:
    """Share that functions of x and y explain of each neuron's mean at the 100 pairs of digits of the place
    that it reads most: of x + y, of its last digit, of the carry, and waves cos, sin of 2πk(x + y)/10.

    Corrected for chance; 0 where that place explains less than 5 % of the neuron's variance
    (`pair_function.place`).
    """
    shares, functions = _of_places(view)
    most = shares.max(0)
    values = functions[most.indices, :, torch.arange(shares.shape[1])]  # [neuron, function]
    values = torch.where(most.values[:, None] >= READS, values, 0.0)
    names = list(FUNCTIONS)
    return array(values, ("neuron", "function"), neuron=range(len(values)), function=names)
