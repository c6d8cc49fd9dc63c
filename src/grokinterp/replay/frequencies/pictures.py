"""What replays show as pictures: measures too large to be numbers in a report, in float32.

They take `keys` and `neurons`, so that every moment of a replay shows the same circles and the same neurons:
those of the final network.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Bool, Float64, Int
from torch import Tensor

from ... import fourier
from ...measures import Measure
from ...measures.base import Value, array
from ...measures.waves.aliasing import REF, leads
from ...measures.waves.circular import circular, row_of_pair
from ...measures.waves.embedding import plane
from ...measures.waves.keys import keys_of
from ...measures.waves.neurons import EXPLAINED, neuron_power
from ...tasks import Operation
from ...view import View

PICTURES: dict[str, Measure] = {}
_MOST = 6
"""Circles and neurons that are drawn."""


def _picture(name: str, *, unit: str, ref: str) -> Callable[[Callable[..., Value]], Callable[..., Value]]:
    def register(function: Callable[..., Value]) -> Callable[..., Value]:
        PICTURES[name] = Measure(name, unit, ref, function, of=Operation)
        return function

    return register


def example_neurons(view: View, keys: Sequence[int]) -> list[int]:
    """For each frequency the neuron that it explains best, where it explains one (more than 0.85 of the
    variance).

    Raises:
        NotApplicable: the network has no MLP, or the examples fill no grid.
    """
    share, frequency = neuron_power(view).max(0)
    of_key = [torch.where(frequency == k - 1, share, 0.0) for k in keys]
    return [int(shares.argmax()) for shares in of_key if shares.max() > EXPLAINED]


@_picture(
    "picture.circles", unit="weight", ref="Nanda et al. 2023, figure 3; Liu et al. 2022 (arXiv 2205.10343)"
)
def circles(view: View, keys: Sequence[int] | None = None) -> Value:
    """The elements in the planes of the embedding's components cos k and sin k, for up to six key
    frequencies."""
    keys = keys_of(view, keys)[:_MOST]
    points = torch.stack([plane(view, k) for k in keys])
    z = circular(view)
    elements = [z.task.operand_names[element] for element in z.circle.a.tolist()]
    return array(points.float(), ["key", "element", "axis"], key=keys, element=elements, axis=["cos", "sin"])


@_picture("picture.neurons", unit="activation", ref="Nanda et al. 2023, figure 1")
def neurons(view: View, neurons: Sequence[int]) -> Value:
    """Activations of single neurons over the positions (i, j) of a and b, after the nonlinearity, at the
    answer position."""
    chosen = list(neurons)[:_MOST]
    return _grids(view, circular(view).grid(view.neurons[:, chosen]).movedim(2, 0), "example", chosen)


@_picture("picture.attention", unit="1", ref="Nanda et al. 2023, appendix C.1")
def attention(view: View) -> Value:
    """How much the answer position of the first layer attends to the first token, over the positions (i, j)
    of a and b, for each head."""
    of_heads = view.attention[0, :8, :, 0]
    return _grids(view, circular(view).grid(of_heads.T).movedim(2, 0), "head", list(range(len(of_heads))))


@_picture("picture.logits", unit="logit", ref="Nanda et al. 2023, appendix C.3")
def logits(view: View) -> Value:
    """The logit of one answer, that at position 0 of the circle, over the positions (i, j) of a and b, less
    its mean."""
    z = circular(view)
    grid = z.grid(view.logits[:, int(z.circle.c[0])])
    return array((grid - grid.mean()).float(), ["i", "j"], **_positions(view))


@_picture("picture.logit_spectrum", unit="log10 of a share", ref="Nanda et al. 2023, figure 4")
def logit_spectrum(view: View) -> Value:
    """Share of the power of all logits on each product of components of a and of b: its logarithm to base 10,
    at least −6."""
    return _spectrum(view, view.logits)


@_picture("picture.neuron_spectrum", unit="log10 of a share", ref="Nanda et al. 2023, figure 4")
def neuron_spectrum(view: View) -> Value:
    """The same of all neurons."""
    return _spectrum(view, view.neurons)


def _spectrum(view: View, values: Float64[Tensor, "n width"]) -> Value:
    names = fourier.component_names(circular(view).m)
    return array(
        spectrum_2d(view, values).float(),
        ["component_a", "component_b"],
        component_a=names,
        component_b=names,
    )


@_picture("picture.right", unit="1", ref="here")
def right(view: View) -> Value:
    """Whether the answer to each pair is right (1 or 0), over a and b as they stand on the circle (those off
    it last): of the training pairs, of the unseen ones, or of all where nobody knows which are which;
    NaN for pairs of another part and for those without an answer."""
    task = Operation.of(view.task)
    a, b, _ = _in_order(task)
    rows = row_of_pair(view)[a[:, None], b]
    marks = view.correct(against="answers").float()
    maps = {
        pairs: marks.where(mask, torch.nan)[rows].where(rows >= 0, torch.nan) for pairs, mask in _pairs(view)
    }
    names = task.operand_names
    return array(
        torch.stack(list(maps.values())),
        ["pairs", "a", "b"],
        pairs=list(maps),
        a=[names[i] for i in a.tolist()],
        b=[names[i] for i in b.tolist()],
    )


@_picture("picture.accuracy_by_answer", unit="1", ref="here")
def accuracy_by_answer(view: View) -> Value:
    """Share of the pairs with each right answer that are answered rightly: of the training pairs, of the
    unseen ones, or of all where nobody knows which are which; NaN where there are none. Answers are in the
    order of the circle."""
    task = Operation.of(view.task)
    marks, (_, _, order) = view.correct(against="answers").double(), _in_order(task)
    shares = {}
    for pairs, mask in _pairs(view):
        of_answer = task.targets[mask]
        sums = torch.zeros(task.n_answers, dtype=torch.float64).index_add_(0, of_answer, marks[mask])
        shares[pairs] = (sums / of_answer.bincount(minlength=task.n_answers))[order]
    values = torch.stack(list(shares.values())).float()
    return array(values, ["pairs", "result"], pairs=list(shares), result=_results(task, order))


@_picture("picture.closest_answers", unit="1", ref=REF)
def closest_answers(view: View, keys: Sequence[int] | None = None) -> Value:
    """The pair of `aliasing_gap.closest`: 1 at the right answer, −1 at the one that it leads the least, 0 at
    all others."""
    z, lead = circular(view), leads(view, keys)
    first, second = divmod(int(lead.argmin()), z.m)
    _, _, order = _in_order(z.task)
    values = torch.zeros(len(order)).index_put_((torch.tensor([first, second]),), torch.tensor([1.0, -1.0]))
    return array(values, ["result"], result=_results(z.task, order))


def _pairs(view: View) -> list[tuple[str, Bool[Tensor, "n"]]]:
    """The training and the unseen pairs, or all where the split is not known."""
    parts = {"all": "all"} if view.split is None else {"train": "training", "test": "unseen"}
    return [(pairs, view.rows(part)) for part, pairs in parts.items()]


def _in_order(task: Operation) -> tuple[Int[Tensor, "p"], Int[Tensor, "p"], Int[Tensor, "answers"]]:
    """The first operands, the second ones and the answers in the order of the circle, then those that stand
    off it."""
    if task.circle is None:
        return torch.arange(task.p), torch.arange(task.p), torch.arange(task.n_answers)

    def whole(on_circle: Int[Tensor, "m"], count: int) -> Int[Tensor, "count"]:
        off = torch.ones(count, dtype=torch.bool).index_fill_(0, on_circle, False)
        return torch.cat([on_circle, off.nonzero().flatten()])

    circle = task.circle
    return whole(circle.a, task.p), whole(circle.b, task.p), whole(circle.c, task.n_answers)


def _results(task: Operation, order: Int[Tensor, "answers"]) -> list[str]:
    return [task.answer_names[c] for c in order.tolist()]


def spectrum_2d(view: View, values: Float64[Tensor, "n width"]) -> Float64[Tensor, "component component"]:
    """log10 of the share of power, over all columns, on each product of components of a and of b; at least
    −6."""
    grid = circular(view).grid(values)
    power = fourier.transform_2d(grid - grid.mean((0, 1))).square().sum(2)
    return (power / power.sum().clamp_min(1e-300)).clamp_min(1e-6).log10()


def _grids(view: View, values: Float64[Tensor, "each m m"], dim: str, labels: list[int]) -> Value:
    return array(values.float(), [dim, "i", "j"], **{dim: labels}, **_positions(view))


def _positions(view: View) -> dict[str, Sequence[int | str]]:
    """What stands at the positions of a and b: their numbers, or the names of the operands where these are
    others."""
    z = circular(view)
    names = z.task.operand_names
    numbers = list(range(z.m))
    at = {"i": [names[a] for a in z.circle.a.tolist()], "j": [names[b] for b in z.circle.b.tolist()]}
    return {place: numbers if known == list(map(str, numbers)) else known for place, known in at.items()}
