"""What the measures of one network say of where its elements lie, in one sentence, and of a whole training.
Every word is decided by numbers that stand beside what they are by chance."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ...errors import NotApplicable
from ...measures.geometry import DEGREES
from ...tasks import Coordinates

if TYPE_CHECKING:
    import xarray as xr

SHOWN = 0.5
"""The share of the coordinates from which a plane is said to show them."""
NEEDED = (
    "geometry.r2_top2", "geometry.best_pair", "geometry.best_pair.components", "geometry.poly_share",
)  # fmt: skip
"""Measures without which nothing can be said."""


@dataclass(frozen=True)
class Stat:
    """A number, its mean by chance, and the largest that chance gave."""

    value: float
    mean: float
    most: float

    @classmethod
    def of(cls, values: xr.DataArray, **at: int) -> Stat:
        """That of a measure, at labels of its other dimensions."""
        found = values.sel(at)
        return cls(*(float(found.sel(statistic=name)) for name in ("value", "mean", "maximum")))

    @property
    def beyond_chance(self) -> bool:
        """Whether it is larger than for every relabelling."""
        return self.value > self.most

    def of_what(self, what: str = "") -> str:
        """As shares of something: the value, and the most by chance."""
        value, most = told_apart(self.value, self.most)
        return f"{value}{f' of {what}' if what else ''}, by chance at most {most}"

    @property
    def beside_mean(self) -> str:
        """As shares: the value, and the mean by chance."""
        return "{}, by chance {}".format(*told_apart(self.value, self.mean))


@dataclass(frozen=True)
class Found:
    """What was found of a network.

    Attributes:
        places: where its elements lie.
        top2, best: the share of the coordinates in the plane of the first two components, and of the best
            two.
        pair: the numbers of these two, the largest component being 0.
        degrees: the share of the variance that polynomials up to each degree explain.
        fold: how alike mirror images are; None where there are none.
        left_out: how well so many components predict the coordinates of an element that was left out.
    """

    places: Coordinates
    top2: Stat
    best: Stat
    pair: tuple[int, ...]
    degrees: Mapping[int, Stat]
    fold: Stat | None
    left_out: Mapping[int, Stat]

    @classmethod
    def of(cls, values: Mapping[str, xr.DataArray], places: Coordinates) -> Found:
        """What these values of measures, by name, say.

        Raises:
            NotApplicable: one that is needed is not there.
        """
        for name in NEEDED:
            if name not in values or not np.isfinite(values[name].values).all():
                raise NotApplicable(f"{name} was not measured")
        left_out, fold = values.get("geometry.loo_r2"), values.get("geometry.fold.reflection")
        sizes = [] if left_out is None else left_out["components"].values.tolist()
        return cls(
            places,
            Stat.of(values["geometry.r2_top2"]),
            Stat.of(values["geometry.best_pair"]),
            tuple(int(i) for i in values["geometry.best_pair.components"].values),
            {degree: Stat.of(values["geometry.poly_share"], degree=degree) for degree in DEGREES},
            None if fold is None else Stat.of(fold),
            {} if left_out is None else {k: Stat.of(left_out, components=k) for k in sizes},
        )

    @property
    def first_two_show_it(self) -> bool:
        """Whether a plot of the first two components shows where the elements lie."""
        return self.top2.beyond_chance and self.top2.value >= SHOWN

    def added(self, degree: int) -> Stat:
        """The share of the variance that polynomials of a degree explain beyond those of lower ones; told
        from chance where all up to that degree are."""
        up_to, below = self.degrees[degree], self.degrees.get(degree - 1, Stat(0.0, 0.0, 0.0))
        most = below.value + up_to.most if up_to.beyond_chance else up_to.value
        return Stat(up_to.value - below.value, up_to.mean - below.mean, most - below.value)

    @property
    def squares_dominate(self) -> bool:
        """Whether squares and products of the coordinates make up more of the variance than the coordinates
        themselves, and the two together more than by chance."""
        return self.degrees[2].beyond_chance and self.added(2).value > self.added(1).value

    @property
    def folded(self) -> bool:
        """Whether, where they do, mirror images are more alike than under any relabelling."""
        return self.squares_dominate and self.fold is not None and self.fold.value > max(self.fold.most, 0.0)

    @property
    def what(self) -> str:
        """What there is to show."""
        return "the grid" if self.places.is_grid else "where its elements lie"

    @property
    def axes(self) -> str:
        """The coordinates, by their names."""
        return listed(self.places.axes)

    @property
    def components(self) -> str:
        """The best two by their numbers, of which the largest is the first."""
        return f"components {listed([str(i + 1) for i in self.pair])}"

    @property
    def sentence(self) -> str:
        """What was found, in one sentence."""
        return "; ".join([*self._where(), *self._made_of()]) + "."

    def _where(self) -> Iterator[str]:
        first = f"its first two principal components ({self.top2.of_what(self.axes)})"
        if self.first_two_show_it:
            yield f"The embedding shows {self.what} in {first}"
            return
        yield f"The embedding does not show {self.what} in {first}"
        if self.best.beyond_chance and self.best.value >= SHOWN:
            yield f"{self.axes} lie in {self.components} ({self.best.of_what()})"
        elif self.best.beyond_chance:
            yield f"{self.components} carry more of {self.axes} than by chance ({self.best.of_what()})"
        else:
            yield f"no two carry more of {self.axes} than by chance (the best {self.best.of_what()})"
        if self.best.value < SHOWN or not self.best.beyond_chance:
            yield from self._spread()

    def _spread(self) -> Iterator[str]:
        """That more components together predict where an element lies that was left out."""
        known = {k: stat for k, stat in self.left_out.items() if stat.beyond_chance and stat.value >= SHOWN}
        if known:
            k = min(known)
            said = f"together the first {k} predict where a point lies that was left out"
            yield f"{said} ({known[k].of_what(self.axes)})"

    def _made_of(self) -> Iterator[str]:
        linear, squares = self.added(1), self.added(2)
        powers = second_powers(self.places.axes)
        if not self.degrees[2].beyond_chance:
            yield f"{listed([*self.places.axes, *powers])} explain no more of its variance than by chance"
            return
        of_linear, of_squares = (
            f"{self.axes} ({linear.beside_mean})",
            f"{listed(powers)} ({squares.beside_mean})",
        )
        if self.squares_dominate:
            yield f"more of its variance is {of_squares} than {of_linear}"
        else:
            yield f"of its variance {of_linear} explain more than {of_squares}"
        if self.folded and self.fold is not None:
            fold = f"fold {self.fold.value:.2f}, by chance at most {self.fold.most:.2f}"
            yield f"it is folded at its centre: a point and its mirror image are embedded more alike ({fold})"


def second_powers(axes: Sequence[str]) -> list[str]:
    """The monomials of degree 2: x², xy, y²."""
    between = "" if all(len(axis) == 1 for axis in axes) else " "
    pairs = itertools.combinations_with_replacement(axes, 2)
    return [f"{one}²" if one == other else f"{one}{between}{other}" for one, other in pairs]


def told_apart(one: float, other: float) -> tuple[str, str]:
    """Two shares in per cent, with as few digits as tell them apart; what is less than nothing is 0 %."""
    shares = [100 * max(share, 0.0) for share in (one, other)]
    for digits in range(4):
        first, second = (f"{share:.{digits}f} %" for share in shares)
        if first != second:
            break
    return first, second


def listed(names: Sequence[str]) -> str:
    """Names as a sentence lists them."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def over_training(data: xr.Dataset, places: Coordinates) -> dict[int, Found]:
    """What was found at each snapshot of a replay, by its step; where all elements were embedded alike,
    nothing was."""
    known: dict[int, Found] = {}
    names = [str(name) for name in data if str(name).startswith("geometry.")]
    for i, step in enumerate(data["step"].values.tolist() if names else []):
        with suppress(NotApplicable):
            known[step] = Found.of({name: data[name].isel(step=i) for name in names}, places)
    return known


_EVENTS: tuple[tuple[str, Callable[[Found], bool]], ...] = (
    ("Two components carry more of {axes} than by chance", lambda found: found.best.beyond_chance),
    ("More of the embedding is {powers} than {axes}", lambda found: found.squares_dominate),
    ("The first two components show {what}", lambda found: found.first_two_show_it),
)


def course_in_words(over: Mapping[int, Found]) -> str:
    """At which steps the embedding showed where its elements lie, and was folded; "" where it never did."""
    said = []
    for words, holds in _EVENTS:
        spans = spans_of([(step, holds(found)) for step, found in over.items()])
        if spans:
            any_one = next(iter(over.values()))
            powers = listed(second_powers(any_one.places.axes))
            what = words.format(axes=any_one.axes, powers=powers, what=any_one.what)
            when = listed([_in_words(*span, end=max(over)) for span in spans])
            said.append(f"{what} {when}.")
    return " ".join(said)


def spans_of(marks: Sequence[tuple[int, bool]]) -> list[tuple[int, int]]:
    """The first and the last step of every stretch of snapshots at which something holds."""
    groups = itertools.groupby(marks, key=lambda mark: mark[1])
    steps = [[step for step, _ in group] for holds, group in groups if holds]
    return [(each[0], each[-1]) for each in steps]


def _in_words(first: int, last: int, end: int) -> str:
    if last == end:
        return f"from step {first:,} on"
    return f"at step {first:,}" if first == last else f"from step {first:,} to {last:,}"
