"""A word backwards: as many answers as it has symbols, each at a position of its own."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Annotated

import torch
from pydantic import Field

from .base import Factor, Sample, Task
from .encoding import Seed
from .reads import Reads
from .registry import task


@dataclass(frozen=True, repr=False)
class Reverse(Task):
    """n symbols of v kinds, "=", and the symbols backwards, each asked for given those before it."""

    n: int
    v: int
    examples: int
    sample_seed: int

    @cached_property
    def reads(self) -> Reads:
        """n symbols, "=" and n − 1 answers; the first answer is read at "="."""
        n, answers = self.n, tuple(f"y{i}" for i in range(1, self.n + 1))
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
        return {f"x{i}": Factor(symbols) for i, symbols in enumerate(self.inputs[:, : self.n].T, 1)}


@task
def reverse(
    n: Annotated[int, Field(ge=2, le=64)] = 6,
    v: Annotated[int, Field(ge=2, le=1000)] = 10,
    examples: Annotated[int, Field(ge=2, le=10**6)] = 4096,
    sample_seed: Seed = 0,
) -> Reverse:
    """n symbols of v kinds backwards, each answer given those before it."""
    return Reverse(n, v, examples, sample_seed, symbol=f"{n} symbols of {v} kinds, backwards")
