"""Label noise: labels that are not always the right answer, as a wrapper of any task.

    noise = {kind = "binomial", n = 4, p = 0.5, seed = 0, test = "noisy"}
    noise = {kind = "uniform", share = 0.35, seed = 0, test = "clean"}

Binomial noise moves the answer of every pair by k places, k = Binomial(n, p) less its likeliest value, so
that the right answer is the likeliest label: for n = 4, p = 1/2 by Binomial − 2. Uniform noise replaces the
labels of the first examples of the training set, in the order of the split, by classes drawn uniformly, which
may be the right ones (Doshi et al. 2024, arXiv 2310.13061). With seed 0 and the split "python_shuffle" these
are the labels of their released code.

Labels are drawn once and stay. They depend on the task, the split and the noise alone: each drawing has a
generator of its own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Literal

import torch
from jaxtyping import Float64, Int
from pydantic import Field
from torch import Tensor

from ..errors import ConfigError, NotApplicable
from ..frozen import Frozen, checked
from ..registry import Registry
from .encoding import Seed
from .split import Split

Share = Annotated[float, Field(gt=0, lt=1)]


class Binomial(Frozen):
    """The answer of every pair is moved along the ring of the answers by Binomial(n, p), less its likeliest
    value."""

    kind: Literal["binomial"] = "binomial"
    n: int = Field(4, ge=1, le=1000)
    p: Share = 0.5
    seed: Seed = 0
    test: Literal["noisy", "clean"] = "noisy"
    """Whether the labels of the test examples are noisy too."""

    @property
    def centre(self) -> int:
        """The likeliest of 0 .. n; of two that are alike the larger one."""
        return math.floor((self.n + 1) * self.p)

    def drawn(
        self, answers: Int[Tensor, "n"], ring: Int[Tensor, "m"], split: Split | None = None
    ) -> Int[Tensor, "n"]:
        """A label for each of these answers, whichever are trained on."""
        generator = torch.Generator().manual_seed(self.seed)
        place = torch.empty_like(ring)
        place[ring] = torch.arange(len(ring))
        # As n coins, each exact: a drawn binomial depends on how the library approximates it.
        heads = sum(
            (torch.rand(len(answers), generator=generator, dtype=torch.float64) < self.p).long()
            for _ in range(self.n)
        )
        return ring[(place[answers] + heads - self.centre) % len(ring)]

    def shifts(self, m: int) -> Float64[Tensor, "m"]:
        """The probability that the label of a noisy example is k places after the answer, on a ring of m, for
        k = 0 .. m−1."""
        shifts = torch.zeros(m, dtype=torch.float64)
        for heads in range(self.n + 1):
            chance = math.comb(self.n, heads) * self.p**heads * (1 - self.p) ** (self.n - heads)
            shifts[(heads - self.centre) % m] += chance
        return shifts


class Uniform(Frozen):
    """The first int(share · n) of the n training examples, in the order of the split, have labels drawn
    uniformly."""

    kind: Literal["uniform"] = "uniform"
    share: Share = 0.35
    seed: Seed = 0
    test: Literal["noisy", "clean"] = "clean"
    """Whether as large a share of the test examples is corrupted in the same way."""

    def drawn(self, answers: Int[Tensor, "n"], ring: Int[Tensor, "m"], split: Split) -> Int[Tensor, "n"]:
        """A label for each of these answers."""
        generator = torch.Generator().manual_seed(self.seed)
        labels = answers.clone()
        for rows in (split.train, split.test):
            corrupted = rows[: int(self.share * len(rows))]
            labels[corrupted] = torch.randint(len(ring), (len(corrupted),), generator=generator)
        return labels

    def shifts(self, m: int) -> Float64[Tensor, "m"]:
        """The probability that the label of an example is k places after the answer, on a ring of m, for
        k = 0 .. m−1."""
        shifts = torch.full((m,), self.share / m, dtype=torch.float64)
        shifts[0] += 1 - self.share
        return shifts


Noise = Binomial | Uniform
KINDS: Registry[type[Noise]] = Registry("kind", ConfigError, at="task.noise.kind")
KINDS |= {"binomial": Binomial, "uniform": Uniform}


def of_its_kind(value: object) -> object:
    """The noise that a section of a configuration describes; None is none."""
    if value is None or isinstance(value, Noise):
        return value
    if value == "none":
        return None
    if not isinstance(value, Mapping) or not isinstance(value.get("kind"), str):
        raise ValueError(
            "needs a kind, such as {kind = 'binomial', n = 4, p = 0.5} or {kind = 'uniform', share = 0.35}, "
            "or none"
        )
    return checked(KINDS[value["kind"]], value, at="task.noise")


def drawn(
    noise: Noise, answers: Int[Tensor, "n"], ring: Int[Tensor, "m"], split: Split | None
) -> Int[Tensor, "n"]:
    """The class that a network is given for every example, these being the right ones.

    Args:
        ring: the classes of answers in the order in which binomial noise moves along them.

    Raises:
        NotApplicable: they depend on the split, and that is not known.
    """
    if isinstance(noise, Binomial) and noise.test == "noisy":
        return noise.drawn(answers, ring)
    if split is None:
        raise NotApplicable(
            "which labels are noisy depends on the split into training and test examples, and that is not "
            "known"
        )
    labels = noise.drawn(answers, ring, split)
    if noise.test == "clean":
        labels[split.test] = answers[split.test]
    return labels
