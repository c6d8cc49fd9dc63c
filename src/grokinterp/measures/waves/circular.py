"""A network where its elements stand on a cyclic group Z_m: what of its View is in the order of that group.

Positions i and j stand for a and b, and i + j for the answer. For addition mod p these are the residues.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float64, Int
from torch import Tensor

from ...errors import NotApplicable
from ...fourier import component_names, n_frequencies
from ...tasks import Operation
from ...view import View
from ..base import array, once_per_view
from ..base import measure as of_any_task

if TYPE_CHECKING:
    import xarray as xr


def has_circle(task: Operation) -> bool:
    """Whether the elements of an operation stand on a cyclic group."""
    return task.circle is not None


measure = functools.partial(of_any_task, of=Operation, where=has_circle)
"""Registers a measure of what an operation does on its circle."""


class Circular:
    """What a View shows in the order of its circle. What is computed is kept with the View.

    Attributes:
        task: the operation.
        circle: where the elements stand on Z_m, as first operands, as second ones and as answers.
        m: the order of the group: p for addition mod p. Frequencies go from 1 to floor(m / 2).
    """

    def __init__(self, view: View) -> None:
        task = Operation.of(view.task)
        if task.circle is None:
            raise NotApplicable(
                f"the elements of {task.symbol} stand on no cyclic group, so frequencies mean nothing"
            )
        self.task, self.circle = task, task.circle
        self.m = self.circle.m
        self.kept = view.kept  # and not in the View: an object that points back at it would outlive its use
        self._view = view

    @property
    def frequencies(self) -> list[int]:
        """1 .. floor(m / 2)."""
        return list(range(1, n_frequencies(self.m) + 1))

    @property
    @once_per_view
    def embedding(self) -> Float64[Tensor, "m d_model"]:
        """W_E in the order of the circle (as first operands)."""
        return self._view.W_E[self.circle.a]

    @property
    @once_per_view
    def readout(self) -> Float64[Tensor, "m d_mlp"]:
        """W_L transposed, in the order of the circle (as answers).

        Raises:
            NotApplicable: the network has no MLP.
        """
        return self._view.W_L.T[self.circle.c]

    @property
    @once_per_view
    def on_circle(self) -> Int[Tensor, "rows"]:
        """The rows of the table of which a, b and the answer stand on the circle: all, for addition."""
        task = self.task
        on = [torch.zeros(n, dtype=torch.bool) for n in (task.p, task.p, task.n_answers)]
        for place, elements in zip(on, (self.circle.a, self.circle.b, self.circle.c), strict=True):
            place[elements] = True
        a, b = task.pairs.unbind(1)
        return (on[0][a] & on[1][b] & on[2][task.targets]).nonzero().flatten()

    @property
    @once_per_view
    def operands_at(self) -> Int[Tensor, "rows 2"]:
        """The positions (i, j) of a and b of each row of `on_circle`."""
        task = self.task
        at = torch.empty(2, task.p, dtype=torch.long)
        for place, elements in zip(at, (self.circle.a, self.circle.b), strict=True):
            place[elements] = torch.arange(self.m)
        a, b = task.pairs[self.on_circle].unbind(1)
        return torch.stack([at[0][a], at[1][b]], dim=1)

    @property
    @once_per_view
    def answer_at(self) -> Int[Tensor, "rows"]:
        """The position of the right answer of each row of `on_circle`: i + j where the operation is a sum."""
        task = self.task
        at = torch.empty(task.n_answers, dtype=torch.long)
        at[self.circle.c] = torch.arange(self.m)
        return at[task.targets[self.on_circle]]

    @property
    @once_per_view
    def grid_rows(self) -> Int[Tensor, "m m"]:
        """The row of the table at the positions (i, j) of a and b on the circle.

        Raises:
            NotApplicable: not every pair of positions is an example.
        """
        rows = row_of_pair(self._view)[self.circle.a[:, None], self.circle.b]
        if (rows < 0).any():
            raise NotApplicable(
                f"{self.task.name} leaves out pairs, so its examples fill no {self.m} × {self.m} grid"
            )
        return rows

    def grid(self, x: Float64[Tensor, "n *rest"]) -> Float64[Tensor, "m m *rest"]:
        """x as a function of the positions (i, j) of a and b on the circle: a view of x where that is its
        order, so not to be changed.

        Raises:
            NotApplicable: not every pair of positions is an example.
        """
        return taken(x, self.grid_rows)

    def of_circle(self, x: Float64[Tensor, "n *rest"]) -> Float64[Tensor, "rows *rest"]:
        """x at the rows of `on_circle`: x itself where these are all, so not to be changed."""
        return taken(x, self.on_circle)

    def per_frequency(self, values: Tensor) -> xr.DataArray:
        """An array over the frequencies 1 .. floor(m/2)."""
        return array(values, "freq", freq=self.frequencies)

    def per_component(self, values: Tensor) -> xr.DataArray:
        """An array over the components of the Fourier basis of Z_m."""
        return array(values, "component", component=component_names(self.m))


def circular(view: View) -> Circular:
    """A network on the circle of its task.

    Raises:
        NotApplicable: the elements stand on no cyclic group, so they have no frequencies.
    """
    return Circular(view)


@once_per_view
def row_of_pair(view: View) -> Int[Tensor, "p p"]:
    """The row of the table that each pair (a, b) of elements is; -1 where it is no example."""
    task = Operation.of(view.task)
    row = torch.full((task.p, task.p), -1)
    row[task.pairs[:, 0], task.pairs[:, 1]] = torch.arange(task.n_inputs)
    return row


def taken(x: Float64[Tensor, "n *rest"], rows: Int[Tensor, "*at"]) -> Float64[Tensor, "*at *rest"]:
    """x[rows], without a copy where the rows are all of x in their order."""
    if rows.numel() == len(x) and torch.equal(rows.flatten(), torch.arange(len(x))):
        return x.unflatten(0, rows.shape)
    return x[rows]
