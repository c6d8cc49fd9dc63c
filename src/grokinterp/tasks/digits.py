"""Numbers of n digits, added digit by digit: every digit of the sum, or one of them.

Digits are named by their place: units, tens, hundreds, thousands, 10^4 and so on. Of an example it is known,
at every place, what is carried in and out, and how far a carry runs: a carry that is made and then passes
through sums of nine is a cascade, the question classes S0 to S5 count its places (Quirke & Barez 2024, arXiv
2310.13121 and 2402.02619).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Literal

import torch
from jaxtyping import Bool, Int
from pydantic import Field
from torch import Tensor

from ..errors import ConfigError, nearest
from ..memory import free_memory
from . import carries as of_carries
from .base import Factor, Sample, Task
from .carries import KIND_OF_SUM, N_CLASSES, PAIRS, UNIFORM, Kind
from .encoding import Seed
from .layout import Layout, LayoutText, parse
from .reads import Reads
from .registry import task
from .split import Split

_TOUCHED = 0.4
"""The share of the places of an example that are changed where it is drawn with more nines or carries."""
_OF_A_DIGIT = re.compile(r"[xyz]\d+")
_NAMES = ("units", "tens", "hundreds", "thousands")
_PER_EXAMPLE = 8 * 10
"""Bytes of one place of one example: tokens, answers and what is known of it."""


def name_of(place: int) -> str:
    """What the digit at a place is called; place 0 is that of the units."""
    return _NAMES[place] if place < len(_NAMES) else f"10^{place}"


@dataclass(frozen=True, repr=False)
class Digits(Task):
    """a + b for numbers of n digits.

    Attributes:
        n: the number of digits of a and of b; the sum has one more.
        answer: the digit that is asked for, or "all".
        order: which digit of the sum comes first: "big", the highest, or "little", the units.
        nines, carries: the shares of examples that are drawn with more sums of nine, and of ten or more.
        examples: how many of the sample are drawn as training examples are.
        per_class: how many of each class the sample has at least.
        layout: how a question is written.
    """

    examples_are = "questions"

    n: int
    answer: str
    order: Literal["big", "little"]
    nines: float
    carries: float
    examples: int
    per_class: int
    sample_seed: int
    layout: str

    @property
    def places(self) -> tuple[int, ...]:
        """The places of the digits that are asked for, in their order."""
        every = range(self.n, -1, -1) if self.order == "big" else range(self.n + 1)
        return tuple(place for place in every if self.answer in ("all", name_of(place)))

    @cached_property
    def _written(self) -> Layout:
        return parse(self.layout, 10)

    @cached_property
    def reads(self) -> Reads:
        """The digits of a and b, the highest first, with signs between them; answers are read from the last
        of these positions on, each where the digits of the sum before it have been seen."""
        shown = {
            "a": [f"x{i}" for i in reversed(range(self.n))],
            "b": [f"y{i}" for i in reversed(range(self.n))],
        }
        question = [word for each in self._written.words for word in shown.get(each, [each])]
        places, first = self.places, len(question) - 1
        words = (*question, *(f"z{place}" for place in places[:-1]))
        positions = tuple(range(first, first + len(places)))
        answers = tuple(map(name_of, places))
        return Reads((len(words),), self._written.d_vocab, words, answers, positions, 10, 10, self.name)

    @property
    def written(self) -> Int[Tensor, "answers"]:
        """Every digit as itself."""
        return torch.arange(10)

    @property
    def words_mean(self) -> str:
        """Which digits x, y and z are."""
        return "x1, y1 and z1 are the tens of a, of b and of the sum, x0, y0 and z0 their units."

    @cached_property
    def mixture(self) -> tuple[Kind, ...]:
        """The kinds of examples that are drawn: with more nines, with more carries, and as they come."""
        kinds = []
        for share, more in ((self.nines, of_carries.NINE), (self.carries, of_carries.ABOVE)):
            places = [(1 - _TOUCHED) * p + _TOUCHED * (kind == more) for kind, p in enumerate(UNIFORM)]
            kinds.append(Kind(share, tuple(places)))
        kinds.append(Kind(1 - self.nines - self.carries, UNIFORM))
        return tuple(kind for kind in kinds if kind.share > 0)

    def draw(self, n: int, generator: torch.Generator) -> Sample:
        """Questions of digits that are drawn uniformly; where more nines or carries are asked for, of so many
        examples two fifths of the places are drawn anew, among the pairs with such sums."""
        pairs = torch.randint(10, (n, self.n, 2), generator=generator)
        if self.nines or self.carries:
            kind = torch.rand(n, 1, generator=generator)
            touched = torch.rand(n, self.n, generator=generator) < _TOUCHED
            of_nines = touched & (kind < self.nines)
            of_more = touched & (kind >= self.nines) & (kind < self.nines + self.carries)
            for rows, more in ((of_nines, of_carries.NINE), (of_more, of_carries.ABOVE)):
                pairs[rows] = _pairs(torch.full((int(rows.sum()),), more), generator)
        return self._asked(pairs)

    def _asked(self, pairs: Int[Tensor, "n place 2"]) -> Sample:
        """The questions about these digits (units first), and their answers."""
        digits = sum_of(pairs)[:, list(self.places)]
        columns: list[Tensor] = []
        for word, token in zip(self._written.words, self._written.tokens, strict=True):
            if token is None:
                columns.append(pairs[:, :, "ab".index(word)].flip(1))
            else:
                columns.append(torch.full((len(pairs), 1), token))
        return Sample(torch.cat([*columns, digits[:, :-1]], dim=1), digits)

    @cached_property
    def pairs(self) -> Int[Tensor, "n place 2"]:
        """The digits of a and b of every example of the sample, the units first."""
        return self._pairs_of(self.sample)

    @cached_property
    def sample(self) -> Sample:
        """So many questions as they are drawn; behind them as many of each class as those have too few of."""
        needed = (self.examples + N_CLASSES * self.per_class) * (3 * self.n + 4) * _PER_EXAMPLE
        if needed > 0.8 * (free := free_memory()):
            raise ConfigError(
                f"task.examples: a sample of {self.examples:,} questions of {self.n} digits and "
                f"{self.per_class:,} of each class needs about {needed / 1e9:.1f} GB, and {free / 1e9:.1f} "
                "GB are free: ask for fewer"
            )
        generator = torch.Generator().manual_seed(self.sample_seed)
        drawn = self.draw(self.examples, generator)
        of_class = classes_of(self._pairs_of(drawn)).bincount(minlength=N_CLASSES)
        more = []
        for cls in range(min(self.n, N_CLASSES - 1) + 1):
            if (missing := self.per_class - int(of_class[cls])) > 0:
                kinds = of_carries.drawn_of_class(cls, missing, self.n, self.mixture, generator)
                more.append(self._asked(_pairs(kinds, generator)))
        samples = [drawn, *more]
        return Sample(torch.cat([s.inputs for s in samples]), torch.cat([s.answers for s in samples]))

    def _pairs_of(self, sample: Sample) -> Int[Tensor, "n place 2"]:
        words = self.reads.words
        at = [[words.index(f"{letter}{place}") for letter in "xy"] for place in range(self.n)]
        return sample.inputs[:, at]

    @property
    def n_representative(self) -> int:
        """Those that are drawn as they come; the rest is there for its class."""
        return self.examples

    @cached_property
    def classes(self) -> Int[Tensor, "n"]:
        """The class of every example: 0 where nothing is carried, 1 where no carry runs on, one more for each
        nine through which one does, at most 5."""
        return classes_of(self.pairs)

    def groups(self, split: Split | None) -> Mapping[str, Bool[Tensor, "n"]]:
        """The question classes."""
        return {f"S{cls}": self.classes == cls for cls in range(N_CLASSES) if (self.classes == cls).any()}

    @cached_property
    def factors(self) -> dict[str, Factor]:
        """At every place the two digits, their sum, its last digit, what is carried in and out, whether it is
        nine, and how many nines the carry that comes in has run through; and the class."""
        pairs, yes_or_no, digits = self.pairs, ("no", "yes"), tuple(map(str, range(10)))
        sums = pairs.sum(2)
        run = of_carries.classes(KIND_OF_SUM[sums])
        factors: dict[str, Factor] = {}
        for place in range(self.n):
            at, total = name_of(place), sums[:, place]
            factors |= {
                f"x.{at}": Factor(pairs[:, place, 0], digits),
                f"y.{at}": Factor(pairs[:, place, 1], digits),
                f"sum.{at}": Factor(total, tuple(map(str, range(19)))),
                f"naive.{at}": Factor(total % 10, digits),
                f"carry_in.{at}": Factor((run[:, place] > 0).long(), yes_or_no),
                f"carry_out.{at}": Factor((run[:, place + 1] > 0).long(), yes_or_no),
                f"nine.{at}": Factor((total == 9).long(), yes_or_no),
                f"cascade.{at}": Factor((run[:, place] - 1).clamp(min=0), (*"0123", "4 or more")),
            }
        return {**factors, "class": Factor(self.classes, tuple(f"S{cls}" for cls in range(N_CLASSES)))}

    @property
    def read(self) -> tuple[str, ...]:
        """The digits of a and of b, the units first."""
        return tuple(f"{letter}.{name_of(place)}" for place in range(self.n) for letter in "xy")

    def read_in_words(self, names: Collection[str]) -> str:
        """By place, the units first, with whose digit it is where only one number's is read."""
        said = []
        for name in map(name_of, range(self.n)):
            of = [number for letter, number in (("x", "a"), ("y", "b")) if f"{letter}.{name}" in names]
            said += [f"{name} of {of[0] if len(of) == 1 else 'both numbers'}"] if of else []
        return " and ".join(said)

    @cached_property
    def levels(self) -> Mapping[str, Mapping[str, float]]:
        """For every digit what the loss is for a network that knows so much and no more."""
        shown = self.answer == "all" and self.order == "big"
        return {
            name_of(place): dict(of_carries.levels(place, self.n, self.mixture, shown and place < self.n))
            for place in self.places
        }


def sum_of(pairs: Int[Tensor, "n place 2"]) -> Int[Tensor, "n digit"]:
    """The digits of the sums, one more than the numbers have, the units first."""
    carry = torch.zeros(len(pairs), dtype=torch.long)
    digits = []
    for column in pairs.sum(2).T:
        digits.append((column + carry) % 10)
        carry = (column + carry) // 10
    return torch.stack([*digits, carry], dim=1)


def classes_of(pairs: Int[Tensor, "n place 2"]) -> Int[Tensor, "n"]:
    """The question class of every example."""
    return of_carries.classes(KIND_OF_SUM[pairs.sum(2)]).amax(1)


def _pairs(kinds: Int[Tensor, "*n"], generator: torch.Generator) -> Int[Tensor, "*n 2"]:
    """Pairs of digits whose sums are of these kinds, each as likely as any other of its kind."""
    pairs = torch.empty(*kinds.shape, 2, dtype=torch.long)
    for kind, possible in enumerate(PAIRS):
        rows = kinds == kind
        pairs[rows] = possible[torch.randint(len(possible), (int(rows.sum()),), generator=generator)]
    return pairs


@task
def digit_addition(
    n: Annotated[int, Field(ge=1, le=20)] = 5,
    answer: str = "all",
    order: Literal["big", "little"] = "big",
    nines: Annotated[float, Field(ge=0, le=1)] = 0.0,
    carries: Annotated[float, Field(ge=0, le=1)] = 0.0,
    examples: Annotated[int, Field(ge=2, le=10**6)] = 4096,
    per_class: Annotated[int, Field(ge=0, le=10**5)] = 256,
    sample_seed: Seed = 0,
    layout: LayoutText = "a + b =",
) -> Digits:
    """The digits of a + b for numbers of n digits, or one of them."""
    names, of_n = [name_of(place) for place in range(n + 1)], f"of {n} digit{'s' * (n > 1)}"
    if answer not in ("all", *names):
        has = f"the sum of two numbers {of_n} has {', '.join(reversed(names))}"
        raise ConfigError(
            f'task.answer: no digit {answer!r}; {has}, or ask for "all"{nearest(answer, names)}'
        )
    if nines + carries > 1:
        raise ConfigError(
            f"task.nines, task.carries: shares of {nines} and {carries} are more than all examples"
        )
    if named := [word for word in parse(layout, 10).words if _OF_A_DIGIT.fullmatch(word)]:
        raise ConfigError(f"task.layout: {named[0]} is what a digit is called here: call the sign otherwise")
    asked = "all digits" if answer == "all" else f"the {answer} digit"
    symbol = f"{asked} of a + b, numbers {of_n}"
    return Digits(n, answer, order, nines, carries, examples, per_class, sample_seed, layout, symbol=symbol)
