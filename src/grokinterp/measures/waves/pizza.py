"""Clock or pizza: whether a network multiplies what it knows of a and of b, or averages it (Zhong et al.
2023, arXiv 2306.17844).

    clock   logits = Σ_k α_k cos w_k(a + b − c)
    pizza   logits = Σ_k α_k |cos w_k(a − b)/2| cos w_k(a + b − c)      weak where a and b are opposite on the
                                                                        circle of k

What the two quantities of the paper say. Published: means over the paper's one-layer networks with circular
embeddings, by their share alpha of real attention; DI there is of the largest wrong logit, which lies .01 to
.1 above that of the right one.

| alpha                          | 0    | .2   | .4   | .6   | .8   | 1    | A (pizza) | B (clock) |
|--------------------------------|------|------|------|------|------|------|-----------|-----------|
| gradient_symmetricity          | .994 | .993 | .991 | .827 | .586 | .451 | .994      | .334      |
| distance_irrelevance           | .289 | .292 | .302 | .520 | .732 | .820 | .172      | .848      |

| verdict | where                                                   |
|---------|---------------------------------------------------------|
| pizza   | gradient_symmetricity >= .9 and distance_irrelevance <= .4 |
| clock   | gradient_symmetricity <= .7 and distance_irrelevance >= .6 |
| neither | everything else, alpha = .6 for one: it is a mixture       |

The limits stand in the widest gaps of the table. They say something of networks with a few key frequencies
only: a look-up table's right logit depends on nothing, and a random network's on everything, so both have a
distance irrelevance near 1.

Both are about the whole network; circles.py asks the same of one circle at a time.
"""

from __future__ import annotations

import functools
import random
from array import array as packed

import torch
from jaxtyping import Float64, Int
from torch import Tensor

from ... import fourier
from ...errors import NotApplicable
from ...tasks import Operation
from ...view import View
from ..base import Value
from ..operands import needs_one_stack, operands
from .circular import circular, measure, row_of_pair
from .logits import logits_on_circle

REF = "Zhong et al. 2023 (arXiv 2306.17844), "
TRIPLES = 100


@measure(
    "gradient_symmetricity",
    unit="1",
    ref=REF + "section 4.2; the triples are those of the released code",
    gauge=("shift",),
)
def gradient_symmetricity(view: View) -> Value:
    """Mean cosine between the gradients of logit c by the embedding of a and by that of b: 1 for a pizza,
    near 1/3 for a clock.

    Over 100 triples (a, b, c): the first of all, in lexicographic order, after `random.Random(42).shuffle`;
    pairs that are no example are passed over. For more than 256 elements, of which there are too many triples
    to shuffle, `random.Random(42).sample` draws them. The embedding is taken before positions are added to
    it. A triple of which a gradient is 0 counts as 0.

    Raises:
        NotApplicable: a and b share no embedding, so that their gradients cannot be compared, or are equal by
            construction.
    """
    if "embed.W_E" not in view.weights:
        why = "a and b have no embedding in common, so the gradients by them cannot be compared"
        raise NotApplicable(why)
    row = row_of_pair(view)
    a, b, c = torch.tensor(_triples(Operation.of(view.task).p, view.task.n_answers)).T
    examples = (row[a, b] >= 0).nonzero().flatten()[:TRIPLES]
    by_a, by_b = _gradients(view, row[a, b][examples], view.task.answer_tokens[c[examples]])
    sizes = by_a.norm(dim=1) * by_b.norm(dim=1)
    return float(torch.where(sizes > 0, (by_a * by_b).sum(1) / sizes, 0.0).mean())


@functools.lru_cache(maxsize=8)
def _triples(p: int, n_answers: int) -> list[tuple[int, int, int]]:
    """The first (a, b, c) of the shuffled list; more than are needed, as some may be no examples. A second of
    work for p = 113."""
    wanted, every = 100 * TRIPLES, range(p**2 * n_answers)  # in lexicographic order
    if p <= 256:
        numbers = packed("l", every)  # 8 bytes each where a list of tuples has 100
        random.Random(42).shuffle(numbers)
    else:
        numbers = packed("l", random.Random(42).sample(every, wanted))
    return [(n // n_answers // p, n // n_answers % p, n % n_answers) for n in numbers[:wanted]]


def _gradients(
    view: View, rows: Int[Tensor, "triple"], answers: Int[Tensor, "triple"]
) -> Float64[Tensor, "2 triple d_model"]:
    """The gradient of one logit of each of these examples by the embedding of its a and of its b."""
    needs_one_stack(view)
    gradient = view.gradient_by_embedding(rows, answers)
    if gradient.shape[1] == view.task.reads.n_ctx:
        return torch.stack([gradient[:, position] for position in operands(view)])
    return torch.stack(gradient[:, 0].chunk(2, dim=1))  # a multilayer perceptron: a and b side by side


@measure(
    "distance_irrelevance.correct",
    unit="1",
    ref=REF + "section 4.2 and the released notebook of evaluation",
    gauge=("shift",),
)
def distance_irrelevance(view: View) -> Value:
    """How little the right answer's logit depends on the distance a − b: mean over distances of its spread at
    one, over its spread at all.

    0: it depends on nothing else, 1: not at all. Near .17 for a pizza, .85 for a clock; 1 where the logit is
    the same for every pair. The spread is the standard deviation over the pairs with this distance on the
    circle, which for odd m is the paper's M[a + b, a − b].
    """
    logits = logits_on_circle(view)
    return _irrelevance(view, logits.gather(1, circular(view).answer_at[:, None])[:, 0])


@measure(
    "distance_irrelevance.top_wrong",
    unit="1",
    ref=REF + "the released training script and tables, which differ from the paper",
    gauge=("shift",),
)
def distance_irrelevance_of_wrong(view: View) -> Value:
    """How little the largest wrong logit depends on the distance a − b, as `distance_irrelevance.correct` has
    it of the right answer's."""
    logits = logits_on_circle(view)
    return _irrelevance(view, logits.scatter(1, circular(view).answer_at[:, None], -torch.inf).max(1).values)


def _irrelevance(view: View, values: Float64[Tensor, "rows"]) -> float:
    z = circular(view)
    i, j = z.operands_at.unbind(1)
    spread = values.std(unbiased=False)
    if spread <= 1e-9 * logits_on_circle(view).abs().max():  # the same for every pair, up to rounding
        return 1.0
    distance = (i - j) % z.m
    each = [values[distance == d].std(unbiased=False) for d in range(z.m) if (distance == d).any()]
    return float(torch.stack(each).mean() / spread)


@measure("circularity", unit="1", ref=REF + "section 5 and the released code")
def circularity(view: View) -> Value:
    """Mean over the first four principal components of the embedding of the share of each that its strongest
    frequency has.

    Of components with any variance; 0 for an embedding that is the same for all elements.
    """
    z = circular(view)
    u, s, _ = torch.linalg.svd(z.embedding - z.embedding.mean(0), full_matrices=False)
    if s[0] == 0:
        return 0.0
    power = fourier.by_frequency(fourier.transform(u[:, s > 1e-9 * s[0]][:, :4]).square())
    return float(power.max(0).values.mean())
