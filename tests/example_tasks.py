"""Two tasks that are no tables of pairs, as a user would write them under @gi.task: one with one answer, one
with several."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Annotated

import torch
from pydantic import Field

from grokinterp.tasks import Factor, Reads, Sample, Task
from grokinterp.tasks.encoding import Seed


@dataclass(frozen=True)
class Majority(Task):
    """The commonest of v kinds among n symbols, the smaller one of two that are as common."""

    n: int
    v: int
    examples: int
    sample_seed: int

    @cached_property
    def reads(self) -> Reads:
        """n tokens, answered at the last."""
        words = tuple(f"x{i}" for i in range(1, self.n + 1))
        return Reads((self.n,), self.v, words, ("majority",), (self.n - 1,), self.v, self.v, self.name)

    @cached_property
    def sample(self) -> Sample:
        """So many words, drawn once."""
        return self.draw(self.examples, torch.Generator().manual_seed(self.sample_seed))

    def draw(self, n: int, generator: torch.Generator) -> Sample:
        """Words of symbols that are drawn uniformly."""
        words = torch.randint(self.v, (n, self.n), generator=generator)
        counts = torch.nn.functional.one_hot(words, self.v).sum(1)
        return Sample(words, (counts == counts.amax(1, keepdim=True)).long().argmax(1, keepdim=True))

    @cached_property
    def factors(self) -> dict[str, Factor]:
        """How often the commonest kind occurs, and how much more often than the next."""
        counts = torch.nn.functional.one_hot(self.inputs, self.v).sum(1).sort(1, descending=True).values
        names = tuple(map(str, range(self.n + 1)))
        return {"count": Factor(counts[:, 0], names), "margin": Factor(counts[:, 0] - counts[:, 1], names)}


def majority(
    n: Annotated[int, Field(ge=2, le=64)] = 8,
    v: Annotated[int, Field(ge=2, le=1000)] = 5,
    examples: Annotated[int, Field(ge=2, le=10**6)] = 4096,
    sample_seed: Seed = 0,
) -> Majority:
    """The commonest of v kinds among n symbols; ties go to the smaller kind."""
    symbol = f"majority of {n} symbols of {v} kinds"
    return Majority(n=n, v=v, examples=examples, sample_seed=sample_seed, symbol=symbol)


@dataclass(frozen=True)
class Reverse(Task):
    """n symbols of v kinds, "=", and the symbols backwards, of which a network sees those before the one that
    it is asked for (teacher forcing)."""

    n: int
    v: int
    examples: int
    sample_seed: int

    @cached_property
    def reads(self) -> Reads:
        """n symbols, "=" and n − 1 answers; the first answer is read at "="."""
        n = self.n
        answers = tuple(f"y{i}" for i in range(1, n + 1))
        words = (*(f"x{i}" for i in range(1, n + 1)), "=", *answers[:-1])
        return Reads((2 * n,), self.v + 1, words, answers, tuple(range(n, 2 * n)), self.v, self.v, self.name)

    @cached_property
    def sample(self) -> Sample:
        """So many words, drawn once."""
        return self.draw(self.examples, torch.Generator().manual_seed(self.sample_seed))

    def draw(self, n: int, generator: torch.Generator) -> Sample:
        """Words of symbols that are drawn uniformly."""
        words = torch.randint(self.v, (n, self.n), generator=generator)
        backwards = words.flip(1)
        return Sample(torch.cat([words, torch.full((n, 1), self.v), backwards[:, :-1]], 1), backwards)

    @cached_property
    def factors(self) -> dict[str, Factor]:
        """Every symbol."""
        names = tuple(map(str, range(self.v)))
        return {f"x{i}": Factor(symbols, names) for i, symbols in enumerate(self.inputs[:, : self.n].T, 1)}


def reverse(
    n: Annotated[int, Field(ge=2, le=64)] = 6,
    v: Annotated[int, Field(ge=2, le=1000)] = 10,
    examples: Annotated[int, Field(ge=2, le=10**6)] = 4096,
    sample_seed: Seed = 0,
) -> Reverse:
    """n symbols of v kinds backwards, each answer given those before it."""
    symbol = f"{n} symbols of {v} kinds, backwards"
    return Reverse(n=n, v=v, examples=examples, sample_seed=sample_seed, symbol=symbol)
