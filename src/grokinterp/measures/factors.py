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

from ..errors import NotApplicable, UsageError, nearest
from ..tasks import Operation, Task
from ..view import View
from .base import Value, array, measure
from .interventions import recorded
from .sites import needs

OF = ("share", "error")
_AT_ONCE = 2**21
"""Numbers that are computed with at a time, 16 MB of them."""
_MOST_PAIRS = 64
"""Pairs up to which all are asked; of more, those of one place."""
_CONSTANT = 1e-20
"""A variance of so little of the mean square is rounding."""

Units = Float64[Tensor, "n unit width"]
"""What is divided: the activation of every unit, which has one component or, as a head, several."""


def explained(
    z: Units, by: Units, n_free: int, beyond: Units | None = None, n_free_beyond: int = 1
) -> Float64[Tensor, "unit of"]:
    """The share of the variance that a fit of least squares explains, or that it explains beyond another one
    that is part of it; corrected for chance, with its standard error.

    Args:
        z: activations, standardised; a unit that never varies is 0.
        by: what is fitted to them.
        n_free: how many numbers are free in that, the mean included.
        beyond: a fit that is part of it; by default the mean, which is 0.
        n_free_beyond: how many numbers are free in that one.
    """
    taken, size = (by * (2 * z - by)).sum(2), z.square().sum(2)
    left = size.mean(0) - taken.mean(0)
    if beyond is not None:
        taken = taken - (beyond * (2 * z - beyond)).sum(2)
    by_chance = (n_free - n_free_beyond) / max(len(z) - n_free, 1)
    share = taken.mean(0)
    influence = taken - share * size
    error = (1 + by_chance) * influence.square().mean(0).sqrt() / max(len(z) - 1, 1) ** 0.5
    return torch.stack([share - by_chance * left, error], dim=1)


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
        raise UsageError(f"{view.task.name} has no factor {name!r}{nearest(name, known)}")
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


def _by_one(z: Units, cells: Int[Tensor, "n"]) -> Float64[Tensor, "unit of"]:
    counts = cells.bincount().double()
    means = cell_sums(z, cells, len(counts)) / counts[:, None, None]
    return explained(z, means[cells], len(counts))


def _by_two(z: Units, a: Int[Tensor, "n"], b: Int[Tensor, "n"]) -> Float64[Tensor, "unit of"]:
    """What a pair explains beyond every sum of a function of the one and a function of the other."""
    n_a, n_b = int(a.max()) + 1, int(b.max()) + 1
    cells = a * n_b + b
    counts = cells.bincount(minlength=n_a * n_b).double()
    sums = cell_sums(z, cells, n_a * n_b)
    means = sums / counts.clamp(min=1)[:, None, None]
    cell = torch.arange(n_a * n_b)
    either = torch.nn.functional.one_hot(torch.stack([cell // n_b, n_a + cell % n_b]), n_a + n_b).sum(0)
    sum_of_both, n_free = fitted(either.double(), counts, sums.flatten(1))
    return explained(
        z, means[cells], int((counts > 0).sum()), sum_of_both.view_as(means)[cells], n_free
    )  # fmt: skip


def fitted(
    design: Float64[Tensor, "cell term"], counts: Float64[Tensor, "cell"], sums: Float64[Tensor, "cell unit"]
) -> tuple[Float64[Tensor, "cell unit"], int]:
    """The fit of least squares to examples that lie in cells, of which it sees the cell alone, and how many
    numbers are free in it."""
    inner = design.T @ (counts[:, None] * design)
    inverse = torch.linalg.pinv(inner, rtol=1e-10, hermitian=True)
    return design @ (inverse @ (design.T @ sums)), int(torch.linalg.matrix_rank(inner, hermitian=True))


def _in_parts(z: Units, of_some: Callable[[Units], Float64[Tensor, "unit of"]]) -> Float64[Tensor, "unit of"]:
    """A function of units, of so many at a time that memory is bounded."""
    return torch.cat([of_some(some) for some in z.split(max(1, _AT_ONCE // z[:, 0].numel()), dim=1)])


# What is divided


def neurons(view: View) -> Units:
    """The neurons of the last layer."""
    return _of_examples(view, view.neurons[:, :, None])


def _heads(view: View) -> Units:
    """What each head writes, in so few components as it has: the lengths, and so the shares, are those of
    z W_O, which do not depend on the basis inside the head."""
    needs(view, "attention")
    parts = []
    for block in view.blocks:
        z, w_o = recorded(view, block.name("attn.hook_z")), view.weights[block.name("attn.W_O")].cpu()
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
    view: View, kind: str, over: str, labels: Sequence[str], values: Float64[Tensor, "label unit of"]
) -> Value:
    if kind != "heads":
        units = {kind.removesuffix("s"): range(values.shape[1])}
        return array(values, (over, *units, "of"), **{over: labels}, **units, of=OF)
    layers = {"layer": range(view.n_layers), "head": range(values.shape[1] // view.n_layers)}
    values = values.unflatten(1, (view.n_layers, -1))
    return array(values, (over, *layers, "of"), **{over: labels}, **layers, of=OF)


def _asked(view: View, factors: Sequence[str] | None) -> tuple[str, ...]:
    """The factors that a caller named, or else those that can be read off an example."""
    names = view.task.read if factors is None else tuple(factors)
    if not names:
        raise NotApplicable(f"{view.task.name} has no factors: nothing is known of its examples")
    return names


def _by_factor(kind: str, view: View, factors: Sequence[str] | None = None) -> Value:
    names = _asked(view, factors)
    each = [classes(view, name) for name in names]
    z = UNITS[kind][0](view)
    values = [_in_parts(z, partial(_by_one, cells=cells)) for cells in each]
    return _labelled(view, kind, "factor", names, torch.stack(values))


def _by_pair(kind: str, view: View, factors: Sequence[str] | None = None) -> Value:
    pairs = pairs_of(_asked(view, factors))
    each = {name: classes(view, name) for pair in pairs for name in pair}
    for pair in pairs:
        _refuse_few(each[pair[0]], each[pair[1]], " and ".join(map(repr, pair)))
    z = UNITS[kind][0](view)
    values = [_in_parts(z, partial(_by_two, a=each[one], b=each[other])) for one, other in pairs]
    return _labelled(view, kind, "pair", [TOGETHER.join(pair) for pair in pairs], torch.stack(values))


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
    if not whole and len(a) < 2 * int((counts > 0).sum()):
        raise NotApplicable(
            f"{len(a):,} examples are too few for the {len(counts):,} combinations of {names}: ask for more"
        )


def _in_reports(kind: str, n_read: int, task: Task) -> bool:
    """A table of pairs is told by its waves and its irreps, and hundreds of neurons for each of several
    answers are more than a report holds: these are asked for by name."""
    is_small = kind == "heads" or len(task.reads.answers) == 1
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
