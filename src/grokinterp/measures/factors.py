"""What parts of a network depend on: the shares of their variance that the factors of a task explain
(functional analysis of variance), each with its standard error.

A factor explains Var(E[z | factor]) of an activation z. Means over few examples vary by chance, so that a
factor that explains nothing seems to explain (K − 1) / (n − 1) of K classes and n examples; that is taken
off (epsilon squared), and shares can be a little below 0. What a pair of factors explains beyond every sum of
a function of the one and a function of the other is their interaction, with the same correction.

The error is that of a sample of so many examples, by the influence of each on the share (the infinitesimal
jackknife: Efron 1982, "The jackknife, the bootstrap and other resampling plans", chapter 6): with f(x) what
the factors predict, 2 z f − f² − share z², over Var(z). Near a share of 0 it is about 1.4 times too large. It
does not depend on the order of the examples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import combinations

import torch
from jaxtyping import Bool, Float64, Int
from torch import Tensor

from ..asked import got
from ..errors import NotApplicable, UsageError, nearest
from ..tasks import Operation, Task
from ..view import View
from .base import Value, array, measure, named
from .interventions import recorded
from .sites import needs

OF = ("share", "error")
READS = 0.05
"""The share of its variance from which a part of a network is said to read something."""
_AT_ONCE = 2**18
"""Numbers that are computed with at a time, 2 MB of them."""
_FEWEST = 5
"""Examples that a combination of two factors needs on average: of fewer, standard errors are too small."""
_MOST_PAIRS = 64
"""Pairs up to which all are asked; of more, those of one place."""
_CONSTANT = 1e-20
"""A variance of so little of the mean square is rounding."""
_ROUNDING = 1e-13
"""So is so small a share of a variance."""

Units = Float64[Tensor, "n unit width"]
"""What is divided: the activation of every unit, which has one component or, as a head, several."""


class Sampled:
    """Activations of a sample, standardised (a unit that never varies is 0), and what is computed of them
    once, however many fits are held against them.

    Attributes:
        z: the activations.
        size: their squared lengths.
    """

    def __init__(self, z: Units) -> None:
        self.z, self.size = z, z.square().sum(2)
        self._mean_size, self._mean_squared_size = self.size.mean(0), self.size.square().mean(0)
        # Of one component, sums of powers over the examples of a cell are all that an error needs.
        self._powers = torch.cat([z, z**2, z**3], dim=2) if z.shape[2] == 1 else z

    def sums(self, cells: Int[Tensor, "n"], n_cells: int) -> Float64[Tensor, "cell unit power"]:
        """Sums over the examples of each cell: of the activations and, where these have one component, of
        their squares and cubes behind them."""
        return cell_sums(self._powers, cells, n_cells)

    def explained(
        self,
        cells: Int[Tensor, "n"],
        sums: Float64[Tensor, "cell unit power"],
        by: Float64[Tensor, "cell unit width"],
        n_free: int,
        beyond: Float64[Tensor, "cell unit width"] | None = None,
        n_free_beyond: int = 1,
    ) -> Float64[Tensor, "unit of"]:
        """The share of the variance that a fit of least squares explains, or that it explains beyond another
        one that is part of it; corrected for chance, with its standard error.

        Args:
            cells: the cell of every example; a fit sees nothing else of it.
            sums: over the examples of each cell.
            by: what is fitted to them, in each cell.
            n_free: how many numbers are free in that, the mean included.
            beyond: a fit that is part of it; by default the mean, which is 0.
            n_free_beyond: how many numbers are free in that one.
        """
        beyond = torch.zeros_like(by) if beyond is None else beyond
        n, z_sums, counts = len(cells), sums[..., : by.shape[2]], cells.bincount(minlength=len(by))[:, None]
        # Of an example z (2 by - by^2) - z (2 beyond - beyond^2) is explained: slope z - level.
        slope, level = 2 * (by - beyond), (by.square() - beyond.square()).sum(2)
        share = ((slope * z_sums).sum(2) - counts * level).sum(0) / n
        left = self._mean_size - ((2 * by * z_sums).sum(2) - counts * by.square().sum(2)).sum(0) / n
        if by.shape[2] == 1:
            a, (s1, s2, s3) = slope[:, :, 0], sums.unbind(2)
            squared = (a.square() * s2 + counts * level.square() - 2 * a * level * s1).sum(0)
            across = (a * s3 - level * s2).sum(0)
            influence = (squared - 2 * share * across) / n + share.square() * self._mean_squared_size
        else:
            taken = (self.z * slope[cells]).sum(2) - level[cells]
            influence = (taken - share * self.size).square().mean(0)
        # Of a whole table, which is fitted exactly, nothing is left that could be chance.
        by_chance = (n_free - n_free_beyond) / (n - n_free) if n > n_free else 0.0
        error = (1 + by_chance) * influence.clamp(min=0).sqrt() / max(n - 1, 1) ** 0.5
        found = torch.stack([share - by_chance * left, error], dim=1)
        return found.masked_fill(found.abs() < _ROUNDING, 0.0)


def standardised(x: Units) -> Units:
    """Activations with mean 0 and, all components of a unit together, variance 1; 0 for a unit that never
    varies."""
    z = x - x.mean(0)
    variance = z.square().sum(2).mean(0)
    varies = variance > _CONSTANT * x.square().sum(2).mean(0)
    return z * torch.where(varies, variance, torch.inf).rsqrt()[:, None]


def classes(view: View, name: str) -> Int[Tensor, "n"]:
    """The class of each representative example (`View.rows("all")`) by a factor, numbered from 0 on.

    Raises:
        UsageError: the task has no such factor; the nearest is named.
        NotApplicable: it has no classes, or the examples have only one.
    """
    if name not in (known := view.task.factors):
        raise UsageError(f"{view.task.name} has no factor {got(name)}{nearest(str(name), known)}")
    values = known[name].values[view.rows("all")]
    if values.is_floating_point():
        raise NotApplicable(f"the factor {name!r} has numbers, which are no classes")
    distinct, numbered = values.unique(return_inverse=True)
    if len(distinct) < 2:
        raise NotApplicable(f"all examples are of one class by the factor {name!r}: nothing can vary with it")
    return numbered


def cell_sums(z: Units, cells: Int[Tensor, "n"], n_cells: int) -> Float64[Tensor, "cell unit width"]:
    """Sums over the examples of each class."""
    return z.new_zeros(n_cells, *z.shape[1:]).index_add_(0, cells, z)


def _by_one(of: Sampled, cells: Int[Tensor, "n"]) -> Float64[Tensor, "unit of"]:
    counts = cells.bincount()
    sums = of.sums(cells, len(counts))
    means = sums[..., : of.z.shape[2]] / counts[:, None, None]
    return of.explained(cells, sums, means, len(counts))


def _by_two(of: Sampled, a: Int[Tensor, "n"], b: Int[Tensor, "n"]) -> Float64[Tensor, "unit of"]:
    """What a pair explains beyond every sum of a function of the one and a function of the other."""
    n_a, n_b = int(a.max()) + 1, int(b.max()) + 1
    cells, cell = a * n_b + b, torch.arange(n_a * n_b)
    counts, sums = cells.bincount(minlength=len(cell)).double(), of.sums(cells, len(cell))
    z_sums = sums[..., : of.z.shape[2]]
    means = z_sums / counts.clamp(min=1)[:, None, None]
    either = torch.nn.functional.one_hot(torch.stack([cell // n_b, n_a + cell % n_b]), n_a + n_b).sum(0)
    sum_of_both, n_free = fitted(either.double(), counts, z_sums.flatten(1))
    n_cells = int((counts > 0).sum())
    return of.explained(cells, sums, means, n_cells, sum_of_both.view_as(means), n_free)


def fitted(
    design: Float64[Tensor, "cell term"], counts: Float64[Tensor, "cell"], sums: Float64[Tensor, "cell unit"]
) -> tuple[Float64[Tensor, "cell unit"], int]:
    """The fit of least squares to examples that lie in cells, of which it sees the cell alone, and how many
    numbers are free in it."""
    inner = design.T @ (counts[:, None] * design)
    inverse = torch.linalg.pinv(inner, rtol=1e-10, hermitian=True)
    return design @ (inverse @ (design.T @ sums)), int(torch.linalg.matrix_rank(inner, hermitian=True))


Share = Callable[[Sampled], Float64[Tensor, "unit of"]]


def _shares(z: Units, each: Sequence[Share]) -> Float64[Tensor, "label unit of"]:
    """What each of several fits explains, of so many units at a time that they stay in the processor's
    cache."""
    parts = map(Sampled, z.split(max(1, _AT_ONCE // z[:, 0].numel()), dim=1))
    return torch.cat([torch.stack([share(part) for share in each]) for part in parts], dim=1)


def by_each(z: Units, each: Sequence[Int[Tensor, "n"]]) -> Float64[Tensor, "label unit of"]:
    """What each of several ways to divide examples into classes explains."""
    return _shares(z, [partial(_by_one, cells=cells) for cells in each])


# What is divided


def neurons(view: View) -> Units:
    """The neurons of the last layer."""
    return _of_examples(view, view.neurons[:, :, None])


def _heads(view: View) -> Units:
    """What each head writes, in so few components as it has: the lengths, and so the shares, are those of
    z W_O, which do not depend on the basis inside the head."""
    needs(view, "attention")
    parts = []
    for heads in view.attentions:
        z, w_o = recorded(view, heads.name("hook_z")), view.weights[heads.name("W_O")].cpu()
        parts.append(torch.einsum("nhd,hed->nhe", z, torch.linalg.qr(w_o.mT).R))
    return _of_examples(view, torch.cat(parts, dim=1))


def _logits(view: View) -> Units:
    """The logit of every answer, less the mean of all."""
    return _of_examples(view, (view.logits - view.logits.mean(1, keepdim=True))[:, :, None])


def _of_examples(view: View, x: Units) -> Float64[Tensor, "m unit width"]:
    return standardised(x[view.rows("all")])


UNITS: dict[str, tuple[Callable[[View], Units], str]] = {
    "neurons": (neurons, "each neuron's activation at the answer position, in the last layer,"),
    "heads": (_heads, "what each head writes at the answer position, all components together,"),
    "logits": (_logits, "each answer's logit, less the mean of all logits,"),
}
"""What is divided, and what it is in words."""


def _labelled(
    view: View, kind: str, over: str, names: Sequence[str], values: Float64[Tensor, "label unit of"]
) -> Value:
    if kind != "heads":
        units = {kind.removesuffix("s"): range(values.shape[1])}
        return array(values, (over, *units, "of"), **{over: names}, **units, of=OF)
    labels = view.layers_of(view.attentions)
    values = values.unflatten(1, (len(labels), -1))
    layers = {"layer": labels, "head": range(values.shape[2])}
    return array(values, (over, *layers, "of"), **{over: names}, **layers, of=OF)


def _asked(view: View, factors: Sequence[str] | str | None) -> tuple[str, ...]:
    """The factors that a caller named, or else those that can be read off an example."""
    names = named(factors) or view.task.read
    if not names:
        raise NotApplicable(f"{view.task.name} has no factors: nothing is known of its examples")
    return names


def _by_factor(kind: str, view: View, factors: Sequence[str] | str | None = None) -> Value:
    names = _asked(view, factors)
    each = [classes(view, name) for name in names]
    return _labelled(view, kind, "factor", names, by_each(UNITS[kind][0](view), each))


def _by_pair(kind: str, view: View, factors: Sequence[str] | str | None = None) -> Value:
    pairs = pairs_of(_asked(view, factors))
    each = {name: classes(view, name) for pair in pairs for name in pair}
    for pair in pairs:
        _refuse_few(each[pair[0]], each[pair[1]], " and ".join(map(repr, pair)))
    values = _shares(UNITS[kind][0](view), [partial(_by_two, a=each[a], b=each[b]) for a, b in pairs])
    return _labelled(view, kind, "pair", [TOGETHER.join(pair) for pair in pairs], values)


TOGETHER = " × "
"""Between the names of the factors of a pair."""


def place(name: str) -> str:
    """Where in an example a factor stands: what is behind the dot of its name, such as the tens of x.tens."""
    return name.rpartition(".")[2]


def pairs_of(names: Sequence[str]) -> list[tuple[str, str]]:
    """The pairs of factors that are asked: all, or of more than 64 those of one place.

    Raises:
        NotApplicable: there are none.
    """
    every = list(combinations(names, 2))
    if len(every) <= _MOST_PAIRS:
        pairs = every
    else:
        pairs = [pair for pair in every if place(pair[0]) == place(pair[1])][:_MOST_PAIRS]
    if not pairs:
        of_so_many = f"{len(every):,} pairs of factors are too many: name some" if every else "there is one"
        raise NotApplicable(
            of_so_many if every else f"there is one factor, {names[0]!r}, and no pair of them"
        )
    return pairs


def _refuse_few(a: Int[Tensor, "n"], b: Int[Tensor, "n"], names: str) -> None:
    """
    Raises:
        NotApplicable: there are so few examples that a pair is not told from chance. A whole table, which has
            every combination as often as any other, is no sample.
    """
    n_b = int(b.max()) + 1
    counts = (a * n_b + b).bincount(minlength=(int(a.max()) + 1) * n_b)
    whole: Bool[Tensor, ""] = (counts == counts[0]).all()
    if not whole and len(a) < _FEWEST * int((counts > 0).sum()):
        raise NotApplicable(
            f"{len(a):,} examples are too few for the {len(counts):,} combinations of {names}: ask for more"
        )


def _in_reports(kind: str, n_read: int, task: Task) -> bool:
    """A table of pairs is told by its waves and its irreps, and hundreds of neurons for each of several
    answers are more than a report holds: these are asked for by name."""
    is_small = kind != "neurons" or len(task.reads.answers) == 1
    return not isinstance(task, Operation) and is_small and len(task.read) >= n_read


def _register(kind: str, words: str) -> None:
    by_factor, by_pair = partial(_by_factor, kind), partial(_by_pair, kind)
    by_factor.__doc__ = f"""Share of the variance of {words} that each factor of `task.read` explains,
Var(E[z | factor]) / Var(z) over the representative examples, and its standard error.

Corrected for chance: a factor that explains nothing has 0 on average. What never varies has 0. `factors`
names others, such as a carry."""
    by_pair.__doc__ = f"""Share of the variance of {words} that each pair of factors of `task.read` explains
beyond a sum of a function of the one and a function of the other, and its standard error.

Where the two are independent, (Var(E[z | f, g]) − Var(E[z | f]) − Var(E[z | g])) / Var(z). Of more than 64
pairs only those of one place are asked. `factors` names others."""
    ref = "Sobol 1993, on functional analysis of variance; correction: Kelley 1935 (epsilon squared)"
    measure(f"variance_by_factor.{kind}", unit="1", ref=ref, where=partial(_in_reports, kind, 1))(by_factor)
    measure(f"variance_by_pair.{kind}", unit="1", ref=ref, where=partial(_in_reports, kind, 2))(by_pair)


for _kind, (_, _words) in UNITS.items():
    _register(_kind, _words)
