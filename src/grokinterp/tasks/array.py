"""Examples that are arrays of numbers, each of one class: images, points, any table of measurements.

`arrays` makes such a task of data that are there already; a family that makes its own is a subclass of
`Arrays`.
"""

from __future__ import annotations

import operator
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, SupportsIndex

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..asked import CLASS_NAMES, FACTORS, NAME, asks, got
from ..errors import ConfigError, NotApplicable
from ..memory import free_memory
from .base import Factor, Sample, Task
from .reads import Reads

_MOST_CLASSES = 10_000


@dataclass(frozen=True, eq=False, repr=False)
class Arrays(Task):
    """Which class an array of numbers is of."""

    asked_for = "class"
    """What the answer is called."""

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """The axes of one example: (features,), or those of an image: (rows, columns), or (rows, columns,
        channels)."""

    @property
    @abstractmethod
    def classes(self) -> tuple[str, ...]:
        """The names of the classes."""

    @cached_property
    def reads(self) -> Reads:
        """An array, at one position, and one answer."""
        n = len(self.classes)
        return Reads(self.shape, 0, ("array",), (self.asked_for,), (0,), n, n, self.name)

    @property
    def factors(self) -> Mapping[str, Factor]:
        """The class of every example."""
        return {self.asked_for: Factor(self.targets, self.classes)}

    @property
    def vocabulary(self) -> dict[str, tuple[str, ...]]:
        """There are no tokens; the logits are the classes by their names."""
        return super().vocabulary | {"logit": self.classes}

    @property
    def unflipped(self) -> Arrays:
        """The same examples without the noise that the task puts on them: itself where it puts none."""
        return self

    def moved(self, right: int, up: int) -> Float[Tensor, "n row column *channel"]:
        """The examples with what they show moved by so many pixels, of `unflipped`; what leaves the border is
        lost, and 0 comes in.

        Raises:
            NotApplicable: they are no images.
        """
        if len(self.shape) < 2:
            raise NotApplicable(f"examples of {self.name} are rows of a table, and no images")
        n_rows, n_columns = self.shape[:2]
        sides = (max(right, 0), max(-right, 0), max(-up, 0), max(up, 0))
        padding = (0,) * 2 * (len(self.shape) - 2) + sides
        moved = torch.nn.functional.pad(self.unflipped.inputs, padding)
        return moved[:, max(up, 0) :, max(-right, 0) :][:, :n_rows, :n_columns]


@dataclass(frozen=True, eq=False)
class _Given(Arrays):
    """Arrays that somebody has."""

    given: Sample = field(kw_only=True)
    class_names: tuple[str, ...] = field(kw_only=True)
    known: Mapping[str, Factor] = field(kw_only=True)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.given.inputs.shape[1:])

    @property
    def classes(self) -> tuple[str, ...]:
        return self.class_names

    @property
    def sample(self) -> Sample:
        """All that was given."""
        return self.given

    @property
    def factors(self) -> Mapping[str, Factor]:
        """The class, and what was given with the arrays."""
        return {**super().factors, **self.known}


@asks("gi.arrays", factors=FACTORS, names=CLASS_NAMES, name=NAME, symbol=NAME)
def arrays(
    inputs: Any,
    labels: Any,
    factors: Mapping[str, Any] | None = None,
    names: Sequence[str] | None = None,
    *,
    image: Sequence[SupportsIndex] | None = None,
    name: str = "arrays",
    symbol: str | None = None,
) -> Arrays:
    """The task of telling the class of arrays of numbers: `arrays(images, labels)`.

    Args:
        inputs: [n, ...]: a table [n, features], images [n, rows, columns] or [n, rows, columns, channels]; an
            array of numpy, a tensor, or lists. They are taken as they are, in float32: a network learns
            more easily from numbers between 0 and 1 than between 0 and 255.
        labels: [n]: a whole number for each. Without names the classes are the numbers that occur, in
            ascending order; with names, label i is the class of the i-th name.
        factors: what else is known of every example, by name: whole numbers (or True and False) are classes,
            others are numbers; or a `Factor`, which has names for its classes. A DataFrame has one in
            each column.
        names: of the classes.
        image: the shape of the images of which the rows of a table are the pixels.
        name, symbol: of the task, for titles; under `@gi.task` the name of the function takes their place.

    Raises:
        ConfigError: the arrays do not fit one another, are no numbers, NaN or infinite, or take more memory
            than there is; labels that are no whole numbers or are of one class only.
    """
    values = _numbers("inputs", inputs)
    if values.ndim < 2 or not values.numel():
        raise ConfigError(
            f"inputs: needs an array [n, ...] of examples of one or more numbers, got one of shape "
            f"{[*values.shape]}"
        )
    if image is not None:
        values = _as_images(values, image)
    if (needed := 3 * 4 * values.numel()) > 0.8 * (free := free_memory()):
        raise ConfigError(
            f"inputs: {len(values):,} examples of {values[0].numel():,} numbers need about "
            f"{needed / 1e9:.3g} GB, and {free / 1e9:.1f} GB are free: give fewer, or smaller ones"
        )
    values = values.to(torch.float32)
    if not (finite := values.flatten(1).isfinite().all(1)).all():
        first = int((~finite).nonzero()[0])
        raise ConfigError(
            f"inputs: {int((~finite).sum()):,} of {len(values):,} examples have numbers that are NaN or "
            f"infinite, or too large for float32; the first is example {first}"
        )
    classes, of_class = _classes(_whole("labels", labels, len(values)), names)
    factors = {} if factors is None else factors
    known = {str(key): _factor(str(key), each, len(values)) for key, each in factors.items()}
    if Arrays.asked_for in known:
        raise ConfigError(f"factors: {Arrays.asked_for!r} is that of the labels: choose another name")
    return _Given(
        given=Sample(values.contiguous(), classes[:, None]), class_names=of_class, known=known,
        name=name, symbol=symbol or f"{len(of_class)} classes of {_times(values.shape[1:])} numbers",
    )  # fmt: skip


def _times(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


def _numbers(what: str, given: Any) -> Tensor:
    """
    Raises:
        ConfigError: these are no array of numbers.
    """
    if not isinstance(given, Tensor):
        try:
            array = np.asarray(given)
        except (ValueError, TypeError) as error:
            raise ConfigError(f"{what}: are no array: {error}") from None
        if array.dtype.kind not in "biuf":
            raise ConfigError(f"{what}: needs an array of numbers, got one of {array.dtype}")
        # torch has no unsigned whole numbers of more than 8 bits, and no floats of more than 64.
        wide = {"b": np.bool_, "f": np.float64}.get(array.dtype.kind, np.int64)  # torch lacks some others
        given = torch.from_numpy(array.astype(wide))
    if given.is_complex() or given.is_sparse:
        raise ConfigError(f"{what}: needs an array of real numbers, got one of {given.dtype}")
    return given.detach().cpu()


def _as_images(values: Tensor, image: Sequence[SupportsIndex]) -> Tensor:
    try:
        shape = tuple(map(operator.index, image))
    except TypeError:
        shape = ()
    if len(shape) not in (2, 3) or min(shape) < 1:
        raise ConfigError(f"image: needs (rows, columns) or (rows, columns, channels), got {got(image)}")
    if values.ndim != 2 or values.shape[1] != torch.Size(shape).numel():
        raise ConfigError(
            f"image: {_times(shape)} pixels are {torch.Size(shape).numel()} numbers, and an example has "
            f"{_times(values.shape[1:])}"
        )
    return values.unflatten(1, shape)


def _whole(what: str, given: Any, n: int) -> Int[Tensor, "n"]:
    """
    Raises:
        ConfigError: these are not one whole number for each of n examples.
    """
    values = _numbers(what, given)
    if values.shape != (n,):
        raise ConfigError(f"{what}: needs one for each of {n:,} examples, got an array of {[*values.shape]}")
    if values.is_floating_point() and (odd := ~(values.isfinite() & (values == values.round()))).any():
        first = int(odd.nonzero()[0])
        raise ConfigError(f"{what}: needs whole numbers, got {float(values[first]):g} for example {first}")
    return values.long()


def _classes(
    labels: Int[Tensor, "n"], names: Sequence[str] | None
) -> tuple[Int[Tensor, "n"], tuple[str, ...]]:
    """The class of every example, and the names of the classes."""
    occurring, classes = labels.unique(return_inverse=True)
    if len(occurring) < 2:
        raise ConfigError(
            f"labels: all {len(labels):,} examples are of the class {int(occurring[0])}: a task needs two "
            "classes or more"
        )
    if len(occurring) > _MOST_CLASSES:
        raise ConfigError(
            f"labels: {len(occurring):,} classes are too many; at most {_MOST_CLASSES:,} may be"
        )
    if names is None:
        return classes, tuple(str(label) for label in occurring.tolist())
    called = tuple(str(one.item() if isinstance(one, Tensor) else one) for one in names)
    if twice := [name for name in called if called.count(name) > 1]:
        raise ConfigError(f"names: two classes are called {twice[0]!r}: give every class a name of its own")
    low, high = int(occurring[0]), int(occurring[-1])
    if not 0 <= low <= high < len(called):
        raise ConfigError(
            f"names: there are {len(called)}, and labels from {low} to {high}: label i is the class of the "
            "i-th name, counted from 0"
        )
    return labels, called


def _factor(name: str, given: Any, n: int) -> Factor:
    """What is known of every example.

    Raises:
        ConfigError: it is not one number for each.
    """
    values: Tensor | Float[Tensor, "n"] = (
        given.values if isinstance(given, Factor) else _numbers(f"factors: {name!r}", given)
    )
    if values.shape != (n,):
        raise ConfigError(
            f"factors: {name!r} needs a value for each of {n:,} examples, got an array of {[*values.shape]}"
        )
    if isinstance(given, Factor):
        return given
    return Factor(values.double() if values.is_floating_point() else values.long())
