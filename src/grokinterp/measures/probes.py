"""What can be read linearly of an example at each place of a network: for every number that is known of it,
the share of its variance that a ridge regression on the activations explains on examples held out of the fit.

    value      1 − Σ (y − ŷ)² / Σ (y − ȳ)² over the held-out examples; below 0 where it is worse than their
               mean
    error      its standard error, by the influence of each held-out example, the fit taken as it is
    shuffled   the same with the numbers dealt out to the examples anew, which nothing can read: mean and
               maximum over several shuffles, each fitted like the value

A quarter of the examples is held out; all of them are ones that the network was not trained on, where these
are known. The strength of the penalty is chosen for every number by leaving out one example of the fit at a
time (in closed form). Activations are divided by one number for all, so that no basis of the residual stream
matters.

Read is the position at which the first answer is read: at later ones the network sees answers. Where a hook
has positions of its own, as those of an encoder, it is the mean over them, which costs least and needs the
fewest examples, or all of them side by side.

A probe says what could be read there, not that the network reads it.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from functools import partial

import numpy as np
import torch
from jaxtyping import Float64, Int
from numpy.typing import NDArray
from torch import Tensor

from ..asked import got
from ..errors import NotApplicable, UsageError, nearest
from ..tasks import Factor, Task
from ..view import View
from .base import Value, array, measure, named, once_per_view
from .dimension_reduction import hooks_of_vectors, side_by_side
from .excerpts import excerpt, unseen

STATISTICS = ("value", "error", "shuffled mean", "shuffled maximum")
POSITIONS = ("mean", "each")
"""What is read at a hook with positions of its own: their mean, or all of them side by side."""
EXAMPLES, SHUFFLES = 2048, 10
_FEWEST = 40
"""Examples, of which ten are held out."""
_PENALTIES = tuple(10.0**power for power in (-7, -5, -4, -3, -2, -1, 0, 1))
"""Beside the mean variance of a component."""
_SITES_AT_A_TIME = 32
"""Of which activations are in memory together."""

_REF = "Alain & Bengio 2016 (arXiv 1610.01644); control: Hewitt & Liang 2019 (arXiv 1909.03368)"


def has_numbers(task: Task) -> bool:
    """Whether numbers are known of the examples of a task."""
    return any(factor.values.is_floating_point() for factor in task.factors.values())


_measure = partial(measure, unit="1", ref=_REF, each_answer=False, where=has_numbers)


@_measure("probe.r2", gauge=("heads", "scale"))
def at_hooks(
    view: View,
    factors: Sequence[str] | str | None = None,
    sites: Sequence[str] | str | None = None,
    positions: str = "mean",
    examples: int = EXAMPLES,
    shuffles: int = SHUFFLES,
    seed: int = 0,
) -> Value:
    """Share of the variance of each number known of an example that a ridge regression on the activations of
    a hook explains on held-out examples, by hook; with its standard error and that of shuffled numbers.

    Args:
        factors: their names, or one; by default all that are numbers. One of classes that are called by
            numbers, such as digits, can be named.
        sites: names of hooks, or one; by default all whose activations are vectors, in the order of the
            computation.
        positions: what is read where a hook has positions of its own.
        examples: so many of the sample, drawn at random, a quarter of which is held out.
        shuffles: how often the numbers are dealt out anew.
        seed: of examples, of those held out, and of the shuffles.

    Raises:
        UsageError: the network has no such hook or the task no such factor (the nearest is named), or there
            are no shuffles or fewer than two examples.
        NotApplicable: no numbers are known of the examples, all have the same, or there are fewer than 40.
    """
    return _probed(view, factors, hooks_of_vectors(view, sites), positions, examples, shuffles, seed)


@_measure("probe.r2.stream", replayed=True)
def in_stream(
    view: View,
    factors: Sequence[str] | str | None = None,
    positions: str = "mean",
    examples: int = EXAMPLES,
    shuffles: int = SHUFFLES,
    seed: int = 0,
) -> Value:
    """Share of the variance of each number known of an example that a ridge regression on the residual stream
    explains on held-out examples, where it enters the first layer and where it leaves each; with its standard
    error and that of shuffled numbers.

    Where the next layer reads the stream normalised it is that; where there is none the neurons, whose scale
    then matters. Options as for `probe.r2`.

    Raises:
        UsageError: the task has no such factor (the nearest is named), or there are no shuffles or fewer than
            two examples.
        NotApplicable: no numbers are known of the examples, all have the same, or there are fewer than 40.
    """
    return _probed(view, factors, _stream(view), positions, examples, shuffles, seed)


def _stream(view: View) -> list[str]:
    there, sites = view.hooks, []
    for i, block in enumerate(view.blocks):
        if not i and block.name("hook_resid_pre") in there:
            sites.append(block.name("hook_resid_pre"))
        leaves = map(block.name, ("hook_normalized_resid_post", "hook_resid_post", "mlp.hook_post"))
        sites += [name for name in leaves if name in there][:1]
    if not sites:
        raise NotApplicable("the network has no residual stream and no neurons")
    return sites


def _probed(
    view: View,
    factors: Sequence[str] | str | None,
    sites: Sequence[str],
    positions: str,
    examples: int,
    shuffles: int,
    seed: int,
) -> Value:
    if shuffles < 1:
        raise UsageError(f"shuffles: needs 1 or more, got {shuffles}")
    if positions not in POSITIONS:
        raise UsageError(f"positions: needs 'mean' or 'each', got {got(positions)}")
    names = _named(view.task, factors)
    rows = unseen(view, examples, seed)
    if len(rows) < _FEWEST:
        raise NotApplicable(f"{len(rows)} examples are too few to hold some out: {_FEWEST} are needed")
    values = np.stack([numbers_of(view.task, name)[rows].numpy() for name in names], axis=1)
    some, order = excerpt(view.whole, rows, len(rows)), _order(len(rows), seed)
    found, there = [], []
    for first in range(0, len(sites), _SITES_AT_A_TIME):
        seen = activations(some, tuple(sites[first : first + _SITES_AT_A_TIME]), positions)
        for site, x in seen.items():
            there.append(site)
            found.append(held_out(x.numpy()[order], values[order], shuffles, seed))
    values_of = torch.from_numpy(np.stack(found, axis=1))
    labels = {"number": names, "hook": there, "r2": STATISTICS}
    value = array(values_of, tuple(labels), **labels)
    return value.assign_attrs(examples=len(rows), held_out=_n_held_out(len(rows)))


def _named(task: Task, factors: Sequence[str] | str | None) -> list[str]:
    """
    Raises:
        UsageError: there is no such factor, or it has no numbers.
        NotApplicable: nobody asked for one, and there is none.
    """
    if asked := named(factors):
        for name in asked:
            numbers_of(task, name)
        return list(asked)
    if not has_numbers(task):
        raise NotApplicable(f"no numbers are known of the examples of {task.name}: name the factors")
    known = task.factors.items()
    varying = [name for name, of in known if of.values.is_floating_point() and _vary(of.values)]
    if not varying:
        raise NotApplicable(f"all examples of {task.name} have the same numbers")
    return varying


def numbers_of(task: Task, name: str) -> Float64[Tensor, "n"]:
    """A factor as a number of every example: its values, or of classes that are called by numbers these.

    Raises:
        UsageError: there is no such factor (the nearest is named), it has no finite numbers, or only one.
    """
    if name not in (known := task.factors):
        raise UsageError(f"{task.name} has no factor {got(name)}{nearest(str(name), known)}")
    numbers = _as_numbers(known[name])
    if numbers is None or not numbers.isfinite().all():
        raise UsageError(f"the factor {name!r} of {task.name} is of classes, which are no numbers")
    if not _vary(numbers):
        raise UsageError(f"all examples of {task.name} have the same {name!r}")
    return numbers


def _vary(numbers: Tensor) -> bool:
    return bool((numbers != numbers[0]).any())


def _as_numbers(factor: Factor) -> Float64[Tensor, "n"] | None:
    if factor.values.is_floating_point() or not factor.names:
        return factor.values.double()
    try:
        of_class = [float(Fraction(name.rstrip("°"))) for name in factor.names]
    except (ValueError, ZeroDivisionError):
        return None
    return torch.tensor(of_class, dtype=torch.float64)[factor.values]


@once_per_view
def activations(
    some: View, hooks: tuple[str, ...], positions: str = "mean"
) -> dict[str, Float64[Tensor, "n width"]]:
    """What hooks have of each example, one vector for it: at the position where the first answer is read, or
    over positions of their own.

    Hooks that the network does not use are left out.
    """
    parts: dict[str, list[Tensor]] = {}

    def seeing(name: str) -> tuple[str, object]:
        def see(x: Tensor, hook: object) -> Tensor:
            parts.setdefault(name, []).append(_of_examples(some, name, x, positions))
            return x

        return name, see

    some.logits_with([seeing(name) for name in hooks])  # type: ignore[misc]
    return {name: torch.cat(values) for name, values in parts.items()}


def _of_examples(view: View, hook: str, x: Tensor, positions: str) -> Float64[Tensor, "n width"]:
    here = view.at_answer(hook, side_by_side(hook, x).detach().double().cpu())
    if not view.elsewhere(hook):
        return here.clone()
    return here.flatten(1) if positions == "each" else here.mean(1)


def _order(n: int, seed: int) -> Int[Tensor, "n"]:
    return torch.randperm(n, generator=torch.Generator().manual_seed(seed))


def _n_held_out(n: int) -> int:
    return n // 4


def held_out(
    x: Float64[np.ndarray, "n width"], y: Float64[np.ndarray, "n factor"], shuffles: int, seed: int = 0
) -> Float64[np.ndarray, "factor statistic"]:
    """How well the last quarter of the examples is told by a ridge regression on the others.

    Args:
        x: the activations of every example.
        y: the numbers, in columns.
        shuffles: how often they are dealt out to the examples anew, within all of these.
        seed: of the shuffles.

    Returns:
        The value, its standard error, and mean and maximum of the shuffled values (`STATISTICS`).
    """
    generator = np.random.default_rng(seed)
    dealt = [y, *(y[generator.permutation(len(y))] for _ in range(shuffles))]
    targets = np.concatenate(dealt, axis=1)
    n_fit = len(x) - _n_held_out(len(x))
    predicted = _ridge(x[:n_fit], targets[:n_fit], x[n_fit:])
    r2, error = _r2(targets[n_fit:], predicted)
    by_shuffle = r2.reshape(1 + shuffles, -1)
    shuffled = by_shuffle[1:]
    return np.stack([by_shuffle[0], error[: y.shape[1]], shuffled.mean(0), shuffled.max(0)], axis=1)


def _ridge(x: NDArray[np.float64], y: NDArray[np.float64], new: NDArray[np.float64]) -> NDArray[np.float64]:
    """What a ridge regression of columns y on x says of new examples, the penalty of each column chosen by
    leaving out one example at a time."""
    from sklearn.linear_model import RidgeCV

    mean, spread = x.mean(0), float(np.sqrt(x.var(0).mean()))
    if spread <= 1e-10 * float(np.abs(mean).max(initial=0)):  # the same for all examples, to rounding
        return np.broadcast_to(y.mean(0), (len(new), y.shape[1]))
    # Columns of the size of 1: determinants are of another size than angles.
    middle, size = y.mean(0), y.std(0) + np.finfo(float).tiny
    penalties = [len(x) * penalty for penalty in _PENALTIES]
    ridge = RidgeCV(alphas=penalties, alpha_per_target=True, fit_intercept=True)
    ridge.fit((x - mean) / spread, (y - middle) / size)
    predicted: NDArray[np.float64] = ridge.predict((new - mean) / spread).reshape(len(new), -1)
    return predicted * size + middle


def _r2(y: NDArray[np.float64], predicted: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
    """R² of every column and its standard error; 0 with no error of a column that is the same throughout.

    With e the residuals and d the distances from the mean an example's influence is (ē² d² / d̄² − e²) / d̄²
    (infinitesimal jackknife: Efron 1982).
    """
    squares, apart = np.square(y - predicted), np.square(y - y.mean(0))
    spread = apart.mean(0)
    varies = spread > 0
    of = np.where(varies, spread, 1.0)
    left = np.where(varies, squares.mean(0) / of, 1.0)
    influence = np.where(varies, (left * apart - squares) / of, 0.0)
    return 1 - left, np.sqrt(np.square(influence).mean(0) / (len(y) - 1))
