"""Which of v kinds occurs most often among n symbols."""

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
        return {"count": Factor(counts[:, 0]), "margin": Factor(counts[:, 0] - counts[:, 1])}


@task
def majority(
    n: Annotated[int, Field(ge=2, le=64)] = 8,
    v: Annotated[int, Field(ge=2, le=1000)] = 5,
    examples: Annotated[int, Field(ge=2, le=10**6)] = 4096,
    sample_seed: Seed = 0,
) -> Majority:
    """The commonest of v kinds among n symbols; ties go to the smaller kind."""
    return Majority(n, v, examples, sample_seed, symbol=f"majority of {n} symbols of {v} kinds")
