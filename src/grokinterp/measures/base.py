"""The registry of measures: each is one function of a View, with its unit and its source beside its name.

A measure returns a number, or a labelled array whose dimensions are named in the field's words (`freq`,
`component`, `neuron`, `layer`, `head`, `pos`, `part`, `parameter`, `pc`). Where it has no meaning it raises
NotApplicable with the reason.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import numpy as np
import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from ..asked import NAME, asks
from ..errors import NotApplicable, UsageError, nearest
from ..registry import Registry
from ..shown import Rows, Shown
from ..tasks import Task
from ..usual import usual_defaults
from ..view import View, one_at_a_time

if TYPE_CHECKING:
    import xarray as xr

Value = Any
"""float, or xarray.DataArray (not spelt out, so that xarray is imported only when an array is made)."""


GAUGES = {
    "rotation": "the basis of the residual stream",
    "heads": "the basis inside each head",
    "order": "the numbering of the neurons",
    "scale": "the scale of each neuron",
    "shift": "what is added to all logits alike",
}
"""Changes of the weights that leave every answer as it is. Where nothing is normalised, the residual stream
may be rotated; queries with keys, and values with outputs, may change their basis; neurons may change places,
and where they are rectified be s times as large and read 1/s as much; a softmax does not see what is added to
all logits. A value that depends on one of them says something of how the network is written down, too:
networks are compared by it where something, such as weight decay, fixes that. `tests/test_gauge.py` finds
them out."""


def always(task: Task) -> bool:
    """Of all tasks."""
    return True


@dataclass(frozen=True, repr=False)
class Measure(Shown):
    """What can be measured of a View.

    Attributes:
        name: dotted; the variant comes last.
        unit: of the value; "1" for a share, a count or a cosine.
        ref: the paper and section, or the code, that defines it.
        function: computes it.
        gauge: what changes its value and nothing that the network does: names of GAUGES.
        of: the family of tasks that it is of.
        each_answer: whether it is of one answer, so that a task with several has a value for each.
        where: of which tasks of the family it is.
        replayed: whether replays have it without being asked.
    """

    name: str
    unit: str
    ref: str
    function: Callable[..., Value]
    gauge: tuple[str, ...] = ()
    of: type[Task] = Task
    each_answer: bool = True
    where: Callable[[Any], bool] = always
    replayed: bool = False

    def _in_a_line(self) -> str:
        return f"{self.name} ({self.unit}; {self.ref})"

    def _as_rows(self) -> Rows:
        return [
            ("is", " ".join(self.doc.split("\n\n")[0].split())),
            ("unit", self.unit),
            ("source", self.ref),
            ("of", self.of.__name__),
            ("options", self.options),
            ("gauge", self.in_gauge or "none"),
        ]

    def is_of(self, task: Task) -> bool:
        """Whether it is of tasks of this family."""
        return isinstance(task, self.of)

    def applies_to(self, task: Task) -> bool:
        """Whether it is of such tasks."""
        return self.is_of(task) and self.where(task)

    @property
    def doc(self) -> str:
        """The definition."""
        return inspect.getdoc(self.function) or ""

    @property
    def in_gauge(self) -> str:
        """What it depends on beside what the network does, in words; empty where on nothing."""
        return f"depends on {' and on '.join(GAUGES[name] for name in self.gauge)}" if self.gauge else ""

    @property
    def options(self) -> list[str]:
        """What it takes beside the View."""
        return list(inspect.signature(self.function).parameters)[1:]

    @property
    def takes_keys(self) -> bool:
        """Whether it has an option `keys`: the key frequencies, by default the consensus."""
        return "keys" in self.options

    @usual_defaults()
    def __call__(self, view: View, **options: Any) -> Value:
        options_taken = self.options
        for option in options:
            if option not in options_taken:
                raise UsageError(
                    f"{self.name} takes no option {option!r}"
                    + (nearest(option, options_taken) if options_taken else "; it takes none")
                )
        if not self.is_of(view.task):
            kind = type(view.task).__name__
            raise NotApplicable(
                f"{self.name} is a measure of {self.of.__name__} tasks, and {view.task.name} is "
                f"{'an' if kind[0] in 'AEIOU' else 'a'} {kind}"
            )
        if self.each_answer and len(view.answers) > 1:
            value = _over_answers(view, lambda one: self._plain(self.function(one, **options)))
        else:
            value = self._plain(self.function(view, **options))
        return value if isinstance(value, float) else self.labelled(value)

    def _plain(self, value: Any) -> Value:
        """A number as a float; a labelled array as it is.

        Raises:
            UsageError: it is neither.
        """
        if hasattr(value, "dims"):
            return value
        if isinstance(value, int | float | np.number | np.bool_) or getattr(value, "shape", None) == ():
            return float(value)
        raise UsageError(
            f"{self.name} gave a {type(value).__name__}: a measure gives a number or a labelled array, which "
            "`array(values, 'neuron', neuron=range(n))` of grokinterp.extending makes"
        )

    def labelled(self, value: xr.DataArray) -> xr.DataArray:
        """An array of its values with its name, unit and source."""
        gauge = {"gauge": self.in_gauge} if self.gauge else {}
        return value.rename(self.name).assign_attrs(unit=self.unit, ref=self.ref, **gauge)


def _over_answers(view: View, function: Callable[[View], Value]) -> Value:
    """The values for each answer of a task, with the answer as the first dimension."""
    import xarray as xr

    values = [function(view.at(answer)) for answer in view.answers]
    if all(isinstance(value, float) for value in values):
        return array(values, "answer", answer=list(view.answers))
    # An answer may be asked of no example of some part: there it has no value.
    return xr.concat(values, dim="answer", join="outer").assign_coords(answer=list(view.answers))


MEASURES: Registry[Measure] = Registry("measure")


@asks("gi.register_measure", name=NAME, unit=NAME, ref=NAME)
def measure(
    name: str,
    *,
    unit: str,
    ref: str,
    gauge: tuple[str, ...] = (),
    of: type[Task] = Task,
    each_answer: bool = True,
    where: Callable[[Any], bool] = always,
    replayed: bool = False,
) -> Callable[[Callable[..., Value]], Callable[..., Value]]:
    """Registers a function of a View under a dotted name: as `gi.register_measure`, since `gi.measure` gives
    the value of one. It returns a number, or a labelled array (`array`).

    Args:
        name: dotted; the variant comes last.
        unit: of the value; "1" for a share, a count or a cosine.
        ref: the paper and section, or the code, that defines it.
        gauge: what changes its value and nothing that the network does: names of GAUGES.
        of: the family of tasks that it is of.
        each_answer: whether it is of one answer, so that a task with several has a value for each.
        where: of which tasks of the family it is; of others a report does not ask it.
        replayed: whether replays have it without being asked.

    Raises:
        ValueError: another measure has this name, and is not of the same file or notebook; or there is no
            such gauge.
    """
    if unknown := set(gauge) - set(GAUGES):
        raise ValueError(f"unknown gauge {min(unknown)!r}")

    def register(function: Callable[..., Value]) -> Callable[..., Value]:
        made = Measure(name, unit, ref, function, gauge, of, each_answer, where, replayed)
        MEASURES.add(name, made, function)
        return function

    return register


def measured(name: str, view: View, **options: Any) -> Value:
    """The value of a measure: a float, or an xarray.DataArray with its unit and source among the attributes.

    Raises:
        UsageError: no measure has this name (the nearest is named), or it takes no such option.
        NotApplicable: it has no meaning for this task or network.
    """
    return MEASURES[name](view, **options)


P = ParamSpec("P")
T = TypeVar("T")


def once_per_view(function: Callable[P, T]) -> Callable[P, T]:
    """What several measures build on is computed once for each View and kept with it, on however many threads
    it is asked for.

    The first argument is a View, or what has a View's `kept`, into which nothing but this writes; all others
    are hashable, and it is computed once for each of them.
    """

    @functools.wraps(function)
    def remembered(*args: P.args, **kwargs: P.kwargs) -> T:
        view: Any = args[0]
        key = (function, args[1:], *sorted(kwargs.items()))
        if key not in view.kept:
            with one_at_a_time(view.kept, key):
                if key not in view.kept:
                    view.kept[key] = function(*args, **kwargs)
        value: T = view.kept[key]
        return value

    return remembered


def named(names: Sequence[str] | str | None) -> tuple[str, ...]:
    """The names that somebody asks for, each once; a string is one of them. None where all are meant."""
    return tuple(dict.fromkeys([names] if isinstance(names, str) else names or ()))


def array(values: Tensor | Sequence[Any], dims: str | Sequence[str], **coords: Sequence[Any]) -> xr.DataArray:
    """A labelled array of plain numbers."""
    import xarray as xr

    data = values.detach().cpu().numpy().copy() if isinstance(values, Tensor) else values
    labels = {dim: list(each) for dim, each in coords.items()}
    return xr.DataArray(data, dims=[dims] if isinstance(dims, str) else list(dims), coords=labels)


def per_neuron(values: Tensor) -> xr.DataArray:
    """An array over the neurons of a layer."""
    return array(values, "neuron", neuron=list(range(len(values))))


def per_part(
    view: View, values: Tensor, rows: Tensor | None = None, asked: Tensor | None = None, **each: Sequence[Any]
) -> xr.DataArray:
    """Means over the training examples, the test examples and all of them; of those of `rows` where values
    are given for these alone.

    Where labels are noisy also over the training examples with wrong and with right labels ("corrupted" and
    "clean"). A part of which no example is among the rows is left out. The examples are the first dimension
    of the values; those after it are `each`. What is `asked` stands in `View.rows`.
    """
    masks = {part: view.rows(part, asked) for part in view.parts}
    masks = {part: mask if rows is None else mask[rows] for part, mask in masks.items()}
    masks = {part: mask for part, mask in masks.items() if mask.any()}
    means = _means(values.double(), torch.stack(list(masks.values())))
    return array(means.movedim(0, -1), [*each, "part"], **each, part=list(masks))


def _means(
    values: Float64[Tensor, "n *rest"], masks: Bool[Tensor, "part n"]
) -> Float64[Tensor, "part *rest"]:
    """Of the values in each mask."""
    if not values.sum().isfinite():
        return torch.stack([values[mask].mean(0) for mask in masks])
    # As a product, for which no group is copied out: 0 times what is not in it is 0, as everything is finite.
    sums = torch.tensordot(values, masks.double(), ([0], [1]))  # [*rest, part]
    return (sums / masks.sum(1)).movedim(-1, 0)
