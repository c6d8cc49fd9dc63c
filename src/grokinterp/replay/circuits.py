"""Who decides which circuit a network learns: how alike the circuits of several runs are that share their
split into training and test examples, their initial weights, or neither, held against chance. Plain values.

    alike by      between two runs                                            1 where
    keys          Jaccard index of their key frequencies (Jaccard 1901)       the same keys
    algorithm     whether both are of the same kind (clock, pizza)            the same kind
    neurons       sum over frequencies of the smaller of the shares of        as many neurons of each
                  neurons that they explain (1 - total variation)             frequency, in shares

A pair of runs shares the split (`training.split_seed`), the initial weights (`seed`), or neither; one that
shares both is left out. Chance is told twice. By permutation: the splits are dealt out anew among the runs of
one initial seed, where these have several, else among all, and p is the share of such deals, with the one at
hand, in which pairs of one split are at least as alike; the same of the seeds, among the runs of one split.
And, of keys, by random sets of the same sizes: the mean of their Jaccard index is the expectation over the
hypergeometric distribution of what two of them share.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

_DEALS = 2000
RELATIONS = ("same split", "same seed", "neither")


@dataclass(frozen=True)
class Circuit:
    """What a run has learned, and what it was trained from.

    Attributes:
        name: of the run.
        split, seed: what its split and its initial weights were drawn by.
        keys: its key frequencies.
        frequencies: how many there are to choose from.
        algorithm: "clock", "pizza" or "neither"; empty where that is not known.
        neurons: how many neurons each frequency explains, of those that it does; empty where not known.
    """

    name: str
    split: int | None
    seed: int | None
    keys: tuple[int, ...]
    frequencies: int
    algorithm: str = ""
    neurons: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Alike:
    """How alike pairs of runs are by one thing.

    Attributes:
        runs: how many runs it is known of.
        pairs: how many pairs there are of each relation.
        mean: how alike they are on average; None where there is none.
        p_split, p_seed: of deals of the splits, or of the seeds, the share in which pairs that share it are
            at least as alike; None where there is nothing to deal out, or no pair shares it.
    """

    runs: int
    pairs: dict[str, int]
    mean: dict[str, float | None]
    p_split: float | None
    p_seed: float | None


@dataclass(frozen=True)
class Circuits:
    """How alike the circuits of several runs are, and which keys recur.

    Attributes:
        keys, algorithm, neurons: how alike runs are by each.
        chance: the mean Jaccard index of random sets of keys of the same sizes, of all pairs.
        p_random: the share of such sets of which pairs of one split are at least as alike; None without any.
        recurs: of a key of one run of a pair, the chance that the other has it too, by relation; None without
            any pair.
        counts: how many runs have each key that any has.
    """

    keys: Alike
    algorithm: Alike
    neurons: Alike
    chance: float | None
    p_random: float | None
    recurs: dict[str, float | None]
    counts: dict[int, int]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self) | {"counts": {str(k): n for k, n in self.counts.items()}}


def circuits(runs: Sequence[Circuit], deals: int = _DEALS) -> Circuits:
    """How alike the circuits of runs are by what they share; those without keys are not counted.

    Args:
        runs: of one task, so that their frequencies are the same.
        deals: how many permutations, and random sets of keys, the p-values are from.
    """
    import numpy as np

    with_keys = [each for each in runs if each.keys]
    known = [each for each in with_keys if each.algorithm]
    counted = [each for each in with_keys if sum(each.neurons.values())]
    have = _have(with_keys)
    common = have.astype(float) @ have.T.astype(float)
    recurs = common / np.maximum(have.sum(1), 1)[:, None] if len(with_keys) else common
    relations = _relations(with_keys)
    pairs = [(a, b) for i, a in enumerate(with_keys) for b in with_keys[:i]]
    return Circuits(
        _alike(with_keys, _jaccard(have), deals),
        _alike(known, _same([each.algorithm for each in known]), deals),
        _alike(counted, _overlap(counted), deals),
        float(np.mean([expected_jaccard(len(a.keys), len(b.keys), a.frequencies) for a, b in pairs]))
        if pairs
        else None,
        _p_random(with_keys, relations["same split"], deals),
        {name: _mean(recurs, at) for name, at in relations.items()},
        {
            k: sum(k in each.keys for each in with_keys)
            for k in sorted({k for e in with_keys for k in e.keys})
        },
    )


def expected_jaccard(a: int, b: int, n: int) -> float:
    """The mean Jaccard index of two random sets of `a` and `b` of n things."""
    return sum(
        math.comb(a, x) * math.comb(n - a, b - x) / math.comb(n, b) * x / (a + b - x)
        for x in range(max(0, a + b - n), min(a, b) + 1)
        if a + b > x
    )


def _have(runs: Sequence[Circuit]) -> NDArray[Any]:
    """Which run has which frequency, [run, freq]."""
    import numpy as np

    have = np.zeros((len(runs), max((each.frequencies for each in runs), default=0)), dtype=bool)
    for i, each in enumerate(runs):
        have[i, [k - 1 for k in each.keys]] = True
    return have


def _jaccard(have: NDArray[Any]) -> NDArray[Any]:
    """[..., run, run] of which runs have which frequencies, [..., run, freq]."""
    import numpy as np

    numbers = have.astype(np.float32)
    both, sizes = numbers @ np.swapaxes(numbers, -1, -2), numbers.sum(-1)
    return both / np.maximum(sizes[..., :, None] + sizes[..., None, :] - both, 1)


def _same(labels: Sequence[object]) -> NDArray[Any]:
    import numpy as np

    alike = [a == b for a in labels for b in labels]
    return np.array(alike, dtype=float).reshape(len(labels), len(labels))


def _overlap(runs: Sequence[Circuit]) -> NDArray[Any]:
    import numpy as np

    shares = np.zeros((len(runs), max((each.frequencies for each in runs), default=0)))
    for i, each in enumerate(runs):
        for k, count in each.neurons.items():
            shares[i, k - 1] = count / sum(each.neurons.values())
    return np.minimum(shares[:, None], shares[None]).sum(-1)


def _relations(runs: Sequence[Circuit]) -> dict[str, NDArray[Any]]:
    """Which pairs are of each relation, [run, run], each pair twice."""
    split, seed = (_same([getattr(each, name) for each in runs]) > 0 for name in ("split", "seed"))
    return dict(zip(RELATIONS, (split & ~seed, seed & ~split, ~split & ~seed), strict=True))


def _mean(alike: NDArray[Any], at: NDArray[Any]) -> float | None:
    return float(alike[at].mean()) if at.any() else None


def _alike(runs: Sequence[Circuit], alike: NDArray[Any], deals: int) -> Alike:
    relations = _relations(runs)
    return Alike(
        len(runs),
        {name: int(at.sum()) // 2 for name, at in relations.items()},
        {name: _mean(alike, at) for name, at in relations.items()},
        _p(runs, alike, deals, lambda each: each.split, lambda each: each.seed),
        _p(runs, alike, deals, lambda each: each.seed, lambda each: each.split),
    )


def _p(
    runs: Sequence[Circuit],
    alike: NDArray[Any],
    deals: int,
    dealt: Callable[[Circuit], Any],
    kept: Callable[[Circuit], Any],
) -> float | None:
    """The share of deals of one label among the runs of the other in which pairs that share the first are at
    least as alike."""
    import numpy as np

    labels = np.unique([str(dealt(each)) for each in runs], return_inverse=True)[1]
    strata = np.unique([str(kept(each)) for each in runs], return_inverse=True)[1]
    within = [np.flatnonzero(strata == s) for s in range(strata.max(initial=-1) + 1)]
    if not any(len(set(labels[at])) > 1 for at in within):
        within = [np.arange(len(runs))]
    if len(set(labels)) < 2:
        return None
    other = strata[:, None] != strata[None]

    def mean(labels: NDArray[Any]) -> float:
        at = (labels[:, None] == labels[None]) & other
        return float(alike[at].mean()) if at.any() else math.nan

    here = mean(labels)
    if math.isnan(here):
        return None
    draw, as_alike = np.random.default_rng(0), 1
    for _ in range(deals):
        anew = labels.copy()
        for at in within:
            anew[at] = draw.permutation(labels[at])
        as_alike += not mean(anew) < here - 1e-6
    return as_alike / (deals + 1)


def _p_random(runs: Sequence[Circuit], at: NDArray[Any], deals: int) -> float | None:
    """The share of random sets of keys, as many for each run as it has, of which pairs are as alike."""
    import numpy as np

    if not at.any():
        return None
    have = _have(runs)
    here, draw, as_alike = float(_jaccard(have)[at].mean()), np.random.default_rng(0), 1
    room = np.arange(have.shape[1]) < np.array([each.frequencies for each in runs])[:, None]
    for _ in range(deals):
        order = np.where(room, draw.random(have.shape), 2.0).argsort(1).argsort(1)
        as_alike += float(_jaccard(order < have.sum(1)[:, None])[at].mean()) >= here - 1e-6
    return as_alike / (deals + 1)
