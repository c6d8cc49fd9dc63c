"""Which examples was a network trained on? Asked of the network itself, for every split that a known recipe
could have made.

A recipe shuffles the rows of the table, and the first of them are the training set. Where a network has lower
losses on what it was trained on, the ranks of its losses are low at the beginning of the true permutation,
and like a random sample's in any other. The score of a permutation is this contrast, in standard deviations,
at the best of nine fractions.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import get_args

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from ..tasks import SplitRecipe, order

SEEDS = 10_000
FIRST_SEEDS = 100
FOUND = 6.0
"""Of 20,000 permutations at nine fractions, the best of a network without a trace is near 4.6."""
_SECOND = 0.75
"""The second best permutation may have no more than this of the best score."""
_NEARLY = 8.0
"""Nats that a round number may be less likely."""
_FRACTIONS = np.arange(1, 10) / 10


@dataclass(frozen=True)
class Verdict:
    """What was found.

    Attributes:
        recipe, seed, fraction: the best split, as `tasks.split` takes it.
        between: the least and the largest fraction that cannot be told from that one.
        score: its contrast, in standard deviations.
        second: the best score of any other permutation.
        tested: how many permutations were looked at.
        found: whether the best is clearly the one.
    """

    recipe: SplitRecipe
    seed: int
    fraction: float
    between: tuple[float, float]
    score: float
    second: float
    tested: int

    @property
    def found(self) -> bool:
        return self.score >= FOUND and self.second <= _SECOND * self.score

    def of_rows(self, count: int, least: int, most: int, n: int) -> Verdict:
        """The same with so many of n rows to train on, which are not told from `least` to `most` of them."""
        hundredth = round(count / n, 2)
        fraction = hundredth if int(hundredth * n) == count else (count + 0.5) / n
        between = min(fraction, least / n), max(fraction, (most + 1) / n)
        return dataclasses.replace(self, fraction=fraction, between=between)

    def __str__(self) -> str:
        best = f"{self.recipe} with seed {self.seed} and fraction {self.fraction:.4g}"
        if self.found:
            best += f" (by its losses anything from {self.between[0]:.4f} to {self.between[1]:.4f})"
            return (
                f"trained on {best}: its losses there are lower by {self.score:.1f} standard deviations, "
                f"and by at most {self.second:.1f} on any other of the {self.tested:,} splits tried"
            )
        return (
            f"trained on none of the {self.tested:,} splits tried, as far as its losses tell: the best, "
            f"{best}, has a score of {self.score:.1f} and the next {self.second:.1f}; at least {FOUND:.0f}, "
            "and clearly more than the next, is asked for"
        )


def find_split(
    losses: Float64[Tensor, "n"], seeds: int = SEEDS, advance: Callable[[float], None] = lambda share: None
) -> Verdict:
    """The split that made the network's losses, among both recipes with seeds 0 .. seeds-1.

    Small seeds come first; where one of them is clearly the one, the others are not tried. `advance` hears
    the share that is done.
    """
    ranks = centred_ranks(losses)
    logs = losses.clamp(min=1e-300).log().numpy()
    best: list[tuple[float, int, SplitRecipe]] = []
    tested = 0
    verdict = None
    for several in (range(min(FIRST_SEEDS, seeds)), range(FIRST_SEEDS, seeds)):
        for recipe in get_args(SplitRecipe):
            for seed in several:
                best.append((contrast(ranks[order(len(ranks), recipe, seed).numpy()]), seed, recipe))
                best = sorted(best, key=lambda one: -one[0])[:2]
                tested += 1
                advance(tested / (2 * seeds))
        score, seed, recipe = best[0]
        fraction, between = fraction_of(logs[order(len(ranks), recipe, seed).numpy()])
        verdict = Verdict(recipe, seed, fraction, between, score, best[1][0], tested)
        if verdict.found:
            break
    assert verdict is not None
    return verdict


def centred_ranks(losses: Float64[Tensor, "n"]) -> np.ndarray:
    """The ranks of the losses, less their mean, in standard deviations; a fixed shuffle breaks ties."""
    rows = list(range(len(losses)))
    random.Random("ties").shuffle(rows)
    shuffled = losses[torch.tensor(rows)]
    ranks = torch.empty(len(losses), dtype=torch.float64)
    ranks[torch.tensor(rows)[shuffled.argsort(stable=True)]] = torch.arange(len(losses), dtype=torch.float64)
    return ((ranks - ranks.mean()) / ranks.std()).numpy()


def contrast(ranks: np.ndarray) -> float:
    """How many standard deviations lower ranks begin than in a random order, at the best fraction."""
    n = len(ranks)
    counts = np.maximum(1, (_FRACTIONS * n).astype(int))
    return float((-np.cumsum(ranks)[counts - 1] / np.sqrt(counts * (1 - counts / n))).max())


def fraction_of(logs: np.ndarray) -> tuple[float, tuple[float, float]]:
    """The share of a permutation that was trained on, given the logarithms of the losses in its order; and
    between which bounds it lies.

    The most likely one, if those before and those after are two normal samples of which the first is lower. A
    hundredth, where that is nearly as likely: people choose such. Between the bounds lie all that are nearly
    as likely.
    """
    n = len(logs)
    x = logs - logs.mean()
    before = np.arange(1, n)
    after = n - before
    low, high = np.cumsum(x)[:-1] / before, -np.cumsum(x)[:-1] / after
    squares = np.cumsum(x**2)
    least = 1e-6 * x.var() + 1e-300
    var_before = np.maximum(squares[:-1] / before - low**2, least)
    var_after = np.maximum((squares[-1] - squares[:-1]) / after - high**2, least)
    likelihood = -(before * np.log(var_before) + after * np.log(var_after)) / 2
    # A handful always has a small variance.
    likelihood[(low > high) | (before < 0.02 * n) | (after < 0.02 * n)] = -np.inf
    near = before[likelihood >= likelihood.max() - _NEARLY]
    between = float(near.min() / n), float((near.max() + 1) / n)
    hundredths = np.arange(1, 100) / 100
    counts = (hundredths * n).astype(int)
    of_hundredths = np.where(counts > 0, likelihood[counts - 1], -np.inf)
    best = int(of_hundredths.argmax())
    if of_hundredths[best] >= likelihood.max() - _NEARLY:
        return float(hundredths[best]), between
    return (int(likelihood.argmax()) + 1.5) / n, between
