"""What of the logits or the neurons lies along chosen frequencies, as functions of (a, b).

What lies along the waves of the right answer c* is a function of c* alone, m rows in place of m²: it is made
of the mean at each answer, and the losses of logits that gain or lose it need no second table of logits.

All masks are sums over single frequencies: two directions for each, or one block of at most 3 x 3 products. A
mask as an outer product of lists of components, which lets products of different frequencies through (289 of
them for 8 keys, instead of 17), cannot be made here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float64, Int
from torch import Tensor
from torch.nn import functional as F

from ... import fourier
from ...view import LARGEST_EXPONENT, Classes, View
from ..base import once_per_view
from .circular import circular, taken

Matrix = Float64[Tensor, "rows width"]
PerAnswer = Float64[Tensor, "m width"]


def along_answers(view: View, keys: Sequence[int], x: Matrix) -> Matrix:
    """The part of x, over the rows of `on_circle`, along the waves of the right answer c*: Σ_k (C_k C_kᵀ
    + S_k S_kᵀ) x.

    C_k and S_k are cos w_k(c*) and sin w_k(c*), normalised.
    """
    return of_answer(view, keys, by_answer(view, x))[circular(view).answer_at]


def by_answer(view: View, x: Matrix) -> PerAnswer:
    """The mean of x over the examples of each right answer, in the order of the circle; 0 for an answer that
    never occurs."""
    if _is_even(view):
        return fourier.sums_of_sum(taken(x, _place(view))) / circular(view).m
    order, counts = _examples(view)
    return F.embedding_bag(order, x, counts.cumsum(0) - counts, mode="mean")


def of_answer(view: View, keys: Sequence[int], means: PerAnswer) -> PerAnswer:
    """`along_answers` at each answer, from the means there."""
    waves = torch.cat([fourier.directions(circular(view).m, k) for k in keys])
    if _is_even(view):  # every answer is as frequent as every other, so these are orthonormal already
        return waves.T @ (waves @ means)
    return fitted(view, waves, means)


def of_each_frequency(view: View, means: PerAnswer) -> Float64[Tensor, "freq m width"]:
    """`of_answer` of every frequency alone."""
    z = circular(view)
    if not _is_even(view):
        return torch.stack([of_answer(view, [k], means) for k in z.frequencies])
    # The Nyquist frequency has no sine.
    waves = F.pad(fourier.basis(z.m)[1:], (0, 0, 0, (z.m - 1) % 2)).unflatten(0, (-1, 2))
    return waves.mT @ (waves @ means)


def fitted(view: View, functions: Float64[Tensor, "function m"], means: PerAnswer) -> PerAnswer:
    """The least-squares fit over the examples of any functions of the right answer, at each answer, from the
    means there.

    It is a fit to the means, weighted by how frequent each answer is: m rows instead of m². 0 for an answer
    that never occurs.
    """
    # By SVD, because they need not be independent: answers that never occur make some of them multiples of
    # others.
    weight = share_of_answer(view).sqrt()[:, None]
    u, s, _ = torch.linalg.svd(functions.T * weight, full_matrices=False)
    onto = u[:, s > 1e-9 * s[0]]
    return torch.where(weight > 0, onto @ (onto.T @ (weight * means)) / weight, 0.0)


def _is_even(view: View) -> bool:
    z = circular(view)
    return z.circle.is_sum and len(z.answer_at) == z.m**2


@once_per_view
def _place(view: View) -> Int[Tensor, "m m"]:
    """Which row of `on_circle` is at the positions (i, j), where all of them are."""
    z = circular(view)
    i, j = z.operands_at.unbind(1)
    place = torch.empty(z.m, z.m, dtype=torch.long)
    place[i, j] = torch.arange(len(i))
    return place


@once_per_view
def _examples(view: View) -> tuple[Int[Tensor, "rows"], Int[Tensor, "m"]]:
    """The examples on the circle by their right answers, as rows of `on_circle`, and how many each has."""
    z = circular(view)
    return z.answer_at.argsort(stable=True), z.answer_at.bincount(minlength=z.m)


def share_of_answer(view: View) -> Float64[Tensor, "m"]:
    """How frequent each right answer is among the examples on the circle."""
    order, counts = _examples(view)
    return counts.double() / len(order)


@once_per_view
def mean_logits(view: View) -> PerAnswer:
    """The mean logits of the examples of each right answer."""
    return by_answer(view, circular(view).of_circle(view.logits))


@once_per_view
def mean_neurons(view: View) -> PerAnswer:
    """The mean neurons of the examples of each right answer."""
    z = circular(view)
    if not _is_even(view):
        return by_answer(view, z.of_circle(view.neurons))
    lines = neuron_lines(view)
    return lines.of_sum / z.m + lines.origin


@once_per_view
def neuron_lines(view: View) -> fourier.LineSums:
    """The sums of each neuron along a, b, a + b and a − b.

    Raises:
        NotApplicable: the network has no MLP, or the examples fill no grid.
    """
    return fourier.LineSums(circular(view).grid(view.neurons))


def in_blocks(view: View, keys: Sequence[int], x: Float64[Tensor, "n width"], edges: bool) -> Matrix:
    """The part of x in the blocks {cos w_k a, sin w_k a} ⊗ {cos w_k b, sin w_k b} of the keys; with `edges` 1
    joins both factors.

    The product 1 ⊗ 1 itself is left out. Given over the table, returned over the rows of `on_circle`.

    Raises:
        NotApplicable: the examples fill no grid.
    """
    z = circular(view)
    grid = z.grid(x)
    inside = torch.zeros_like(grid)
    for k in keys:
        axis = fourier.directions(z.m, k)
        if edges:
            axis = torch.cat([fourier.basis(z.m)[:1], axis])
        # [j, i, width]
        coefficients = torch.tensordot(axis, torch.tensordot(axis, grid, ([1], [0])), ([1], [1]))
        if edges:
            coefficients[0, 0] = 0
        inside += torch.tensordot(axis, torch.tensordot(axis, coefficients, ([0], [0])), ([0], [1]))
    i, j = z.operands_at.unbind(1)
    return inside[i, j]


def mean_kept(part: Matrix, whole: Matrix) -> Matrix:
    """The part, with the mean over examples of the whole."""
    return part + (whole - part).mean(0)


@dataclass(frozen=True)
class OfAnswer:
    """Edited logits that depend on the right answer of an example alone, or are the network's without such a
    part.

    Attributes:
        values: at each right answer, in the order of the circle.
        lost: whether the network's logits lose them; or else they are all that there is.
    """

    values: Float64[Tensor, "m answers"]
    lost: bool = False

    def logits(self, view: View) -> Matrix:
        """Of every example on the circle."""
        z = circular(view)
        values = self.values[z.answer_at]
        return z.of_circle(view.logits) - values if self.lost else values

    def loss(self, view: View) -> Float64[Tensor, "rows"]:
        """Of every example on the circle."""
        if self.lost:
            return losses_less(view, self.values[None])[:, 0]
        return self._of_each_answer(view, view.loss)

    def correct(self, view: View) -> Bool[Tensor, "rows"]:
        """Whether the largest logit of every example on the circle is the label's."""
        if self.lost:
            return view.correct(self.logits(view), circular(view).on_circle)
        return self._of_each_answer(view, view.correct)

    def _of_each_answer(self, view: View, judged: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """Examples of one answer have the same logits, so the first of them is looked at; all where their
        labels may differ."""
        z = circular(view)
        if view.task.noisy:
            return judged(self.logits(view), z.on_circle)
        order, counts = _examples(view)
        occurs = counts > 0
        first = order[(counts.cumsum(0) - counts)[occurs]]
        return judged(self.values[occurs], z.on_circle[first])[(occurs.cumsum(0) - 1)[z.answer_at]]


@once_per_view
def losses_without(view: View) -> tuple[Float64[Tensor, "rows freq"], Float64[Tensor, "rows"]]:
    """The loss of every example without each frequency in turn, and without nothing; of the answers alone,
    where there are other logits."""
    return _without(view, "labels")


@once_per_view
def losses_of_answers_without(view: View) -> tuple[Float64[Tensor, "rows freq"], Float64[Tensor, "rows"]]:
    """The same against the right answers, whatever the labels."""
    return _without(view, "answers") if view.task.noisy else losses_without(view)


def _without(view: View, against: Classes) -> tuple[Float64[Tensor, "rows freq"], Float64[Tensor, "rows"]]:
    means = mean_logits(view)
    taken = torch.cat([of_each_frequency(view, means), torch.zeros_like(means)[None]])
    losses = losses_less(view, taken, against)
    return losses[:, :-1], losses[:, -1]


_ANSWERS = 16
"""Right answers of which the examples are looked at together: that much stays in the processor's cache."""


def losses_less(
    view: View, taken: Float64[Tensor, "each m answers"], against: Classes = "labels"
) -> Float64[Tensor, "rows each"]:
    """The loss of every example with logits L − D, for several D that depend on its right answer alone: given
    at each of these.

    Σ_c exp(L_c − D_c) is a product of exp(L), a row for each example, with exp(−D), a column for each D: so
    there is one exponential for each logit, however many D there are. As in `View.loss`, the sum is over the
    wrong answers, relative to the right one.
    """
    order, counts = _examples(view)
    z = circular(view)
    logits = z.of_circle(view.logits)
    labels = view.labels[z.on_circle] if against == "labels" and view.task.noisy else None
    losses = taken.new_empty(len(order), len(taken))
    start = 0
    for at in torch.arange(z.m).split(_ANSWERS):
        # [answer, example]; answers with fewer examples than the most frequent one have another's at the end,
        # for nothing
        place = torch.arange(int(counts[at].max()))
        occupied = place < counts[at, None]
        first = start + counts[at].cumsum(0) - counts[at]
        rows = order[(first[:, None] + place).clamp_max(len(order) - 1)]
        factors = F.embedding(rows, logits), -taken[:, at].transpose(0, 1)
        relative = (_against(x, z.circle.c[at]) for x in factors)
        each_loss = _losses(*relative) if labels is None else _losses_against(*factors, labels[rows])
        if occupied.all():
            losses[rows.flatten()] = each_loss.flatten(0, 1)
        else:
            losses[rows[occupied]] = each_loss[occupied]
        start += int(counts[at].sum())
    return losses


def _against(
    x: Float64[Tensor, "answer n classes"], right: Int[Tensor, "answer"]
) -> Float64[Tensor, "answer n wrong"]:
    """Of the wrong classes, relative to the right one, which the first takes the place of: in x itself."""
    at = right[:, None, None].expand(-1, x.shape[1], 1)
    of_right = x.gather(2, at)
    return x.scatter_(2, at, x[..., :1].clone())[..., 1:].sub_(of_right)


def _losses_against(
    one: Float64[Tensor, "answer n classes"],
    other: Float64[Tensor, "answer each classes"],
    labels: Int[Tensor, "answer n"],
) -> Float64[Tensor, "answer n each"]:
    """log(1 + Σ_c exp(one_c + other_c)) over the classes c other than an example's label, relative to it."""
    at = labels[..., None]
    of_label = other.transpose(1, 2).gather(1, at.expand(-1, -1, other.shape[1]))
    return _losses(one - one.gather(2, at), other, at, of_label)


def _losses(
    one: Float64[Tensor, "answer n classes"],
    other: Float64[Tensor, "answer each classes"],
    without: Int[Tensor, "answer n 1"] | None = None,
    less: Float64[Tensor, "answer n each"] | None = None,
) -> Float64[Tensor, "answer n each"]:
    """log(1 + Σ_c exp(one_c + other_c − less)), over all classes or all but one of each row. Changes both."""
    largest = sum(
        max(-float(least), float(most))
        for least, most in map(torch.aminmax, (one, other, *([] if less is None else [less])))
    )
    if without is not None:
        one.scatter_(2, without, -torch.inf)
    if largest > LARGEST_EXPONENT:  # terms could vanish, or their sum overflow
        sums = torch.stack([(one + each[:, None]).logsumexp(2) for each in other.unbind(1)], dim=2)
        return F.softplus(sums if less is None else sums.sub_(less), threshold=50)
    sums = torch.bmm(one.exp_(), other.exp_().transpose(1, 2))
    return (sums if less is None else sums.mul_(less.neg_().exp_())).log1p_()
