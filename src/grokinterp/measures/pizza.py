"""Clock or pizza: whether a network multiplies what it knows of a and of b, or averages it (Zhong et al. 2023, arXiv 2306.17844).

    clock   logits = Σ_k α_k cos w_k(a + b − c)
    pizza   logits = Σ_k α_k |cos w_k(a − b)/2| cos w_k(a + b − c)      weak where a and b are opposite on the circle of k

What the two quantities of the paper say. Published: means over the paper's one-layer networks with circular embeddings, by their share
alpha of real attention; DI there is of the largest wrong logit, which lies .01 to .1 above that of the right one.

| alpha                          | 0    | .2   | .4   | .6   | .8   | 1    | Model A (pizza) | Model B (clock) |
|--------------------------------|------|------|------|------|------|------|-----------------|-----------------|
| gradient_symmetricity          | .994 | .993 | .991 | .827 | .586 | .451 | .994            | .334            |
| distance_irrelevance           | .289 | .292 | .302 | .520 | .732 | .820 | .172            | .848            |

| verdict | where                                                   |
|---------|---------------------------------------------------------|
| pizza   | gradient_symmetricity >= .9 and distance_irrelevance <= .4 |
| clock   | gradient_symmetricity <= .7 and distance_irrelevance >= .6 |
| neither | everything else, alpha = .6 for one: it is a mixture       |

The limits stand in the widest gaps of the table. They say something of networks with a few key frequencies only: a look-up table's right
logit depends on nothing, and a random network's on everything, so both have a distance irrelevance near 1.

Circles are isolated one at a time for the fits, because in a whole network they hide what each does: the circles of 2k fill the weak places
of the pizza of k ("accompanying pizzas"), so that Model A's logits as a whole are a clock's to 99.5 %, and each of its circles is a pizza.
"""

from __future__ import annotations

import functools
import random
from array import array as packed
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float64, Int
from torch import Tensor

from .. import fourier
from ..errors import NotApplicable
from ..models import in_float64
from ..view import View
from .base import Value, array, measure, once_per_view
from .keys import chosen
from .logits import logits_on_circle

REF = "Zhong et al. 2023 (arXiv 2306.17844), "
TRIPLES = 100


@measure("gradient_symmetricity", unit="1", ref=REF + "section 4.2; the triples are those of the released code")
def gradient_symmetricity(view: View) -> Value:
    """Mean cosine between the gradients of logit c by the embedding of a and by that of b: 1 for a pizza, near 1/3 for a clock.

    Over 100 triples (a, b, c): the first of all, in lexicographic order, after `random.Random(42).shuffle`; pairs that are no example are
    passed over. For more than 256 elements, of which there are too many triples to shuffle, `random.Random(42).sample` draws them.
    The embedding is taken before positions are added to it. A triple of which a gradient is 0 counts as 0.

    Raises:
        NotApplicable: a and b share no embedding, so that their gradients cannot be compared, or are equal by construction.
    """
    if "embed.W_E" not in view.weights:
        raise NotApplicable("a and b have no embedding in common, so the gradients by them cannot be compared")
    row = torch.full((view.task.p, view.task.p), -1)
    row[view.task.pairs[:, 0], view.task.pairs[:, 1]] = torch.arange(view.task.n_inputs)
    a, b, c = torch.tensor(_triples(view.task.p)).T
    known = (row[a, b] >= 0).nonzero().flatten()[:TRIPLES]
    by_a, by_b = _gradients(view, row[a, b][known], c[known])
    sizes = by_a.norm(dim=1) * by_b.norm(dim=1)
    return float(torch.where(sizes > 0, (by_a * by_b).sum(1) / sizes, 0.0).mean())


@functools.lru_cache(maxsize=8)
def _triples(p: int) -> list[tuple[int, int, int]]:
    """The first (a, b, c) of the shuffled list; more than are needed, as some may be no examples. A second of work for p = 113."""
    wanted = 100 * TRIPLES
    if p <= 256:
        numbers = packed("l", range(p**3))  # in lexicographic order; 8 bytes each where a list of tuples has 100
        random.Random(42).shuffle(numbers)
    else:
        numbers = packed("l", random.Random(42).sample(range(p**3), wanted))
    return [(n // p**2, n // p % p, n % p) for n in numbers[:wanted]]


def _gradients(view: View, rows: Int[Tensor, "triple"], answers: Int[Tensor, "triple"]) -> Float64[Tensor, "2 triple d_model"]:
    """The gradient of one logit of each of these examples by the embedding of its a and of its b."""
    model, embedded = in_float64(view.model), []

    def remember(tensor: Tensor, *, hook: object) -> Tensor:
        embedded.append(tensor.detach().requires_grad_())
        return embedded[0]

    tokens = view.task.inputs[rows].to(next(model.parameters()).device)
    with torch.enable_grad(), model.hooks(fwd_hooks=[("hook_embed", remember)]):
        logits = model(tokens)[:, -1].cpu()
        (gradient,) = torch.autograd.grad(logits[torch.arange(len(rows)), answers].sum(), embedded)
    if gradient.shape[1] == view.task.n_ctx:
        return torch.stack([gradient[:, view.task.tokens.words.index(word)] for word in "ab"]).cpu()
    return torch.stack(gradient[:, 0].chunk(2, dim=1)).cpu()  # a multilayer perceptron: a and b side by side


@measure("distance_irrelevance.correct", unit="1", ref=REF + "section 4.2 and the released notebook of evaluation")
def distance_irrelevance(view: View) -> Value:
    """How little the right answer's logit depends on the distance a − b: mean over distances of its spread at one, over its spread at all.

    0: it depends on nothing else, 1: not at all. Near .17 for a pizza, .85 for a clock; 1 where the logit is the same for every pair. The
    spread is the standard deviation over the pairs with this distance on the circle, which for odd m is the paper's M[a + b, a − b].
    """
    logits = logits_on_circle(view)
    return _irrelevance(view, logits.gather(1, view.answer_at[:, None])[:, 0])


@measure("distance_irrelevance.top_wrong", unit="1", ref=REF + "the released training script and tables, which differ from the paper")
def distance_irrelevance_of_wrong(view: View) -> Value:
    """The same of the largest wrong logit."""
    logits = logits_on_circle(view)
    return _irrelevance(view, logits.scatter(1, view.answer_at[:, None], -torch.inf).max(1).values)


def _irrelevance(view: View, values: Float64[Tensor, "rows"]) -> float:
    i, j = positions(view)
    spread = values.std(unbiased=False)
    if spread <= 1e-9 * values.abs().max():
        return 1.0
    distance = (i - j) % view.m
    each = [values[distance == d].std(unbiased=False) for d in range(view.m) if (distance == d).any()]
    return float(torch.stack(each).mean() / spread)


@once_per_view
def positions(view: View) -> tuple[Int[Tensor, "rows"], Int[Tensor, "rows"]]:
    """Where a and b stand, for each example on the circle."""
    pairs = view.task.pairs[view.on_circle]
    at = torch.empty(2, view.task.p, dtype=torch.long)
    at[0, view.circle.a] = at[1, view.circle.b] = torch.arange(view.m)
    return at[0][pairs[:, 0]], at[1][pairs[:, 1]]


@measure("circularity", unit="1", ref=REF + "section 5 and the released code")
def circularity(view: View) -> Value:
    """Mean over the first four principal components of the embedding of the share of each that its strongest frequency has.

    Of components with any variance; 0 for an embedding that is the same for all elements.
    """
    u, s = _components(view)[:2]
    u = u[:, s > 1e-9 * s[0]][:, :4] if s[0] > 0 else u[:, :0]
    return float(fourier.by_frequency(fourier.transform(u).square()).max(0).values.mean()) if u.shape[1] else 0.0


@once_per_view
def _components(view: View) -> tuple[Float64[Tensor, "m pc"], Float64[Tensor, "pc"], Float64[Tensor, "pc width"]]:
    """u, s, vᵀ of the centred embedding on the circle."""
    u, s, vh = torch.linalg.svd(view.embedding - view.embedding.mean(0), full_matrices=False)
    return u, s, vh


# One circle at a time


@measure("clock_fit.pcs", unit="1", ref=REF + "table 1 and the released notebook (75.4, 75.6, 75.4 % for Model A)")
def clock_fit_pcs(view: View, keys: Sequence[int] | None = None) -> Value:
    """For each key k, variance of the logits that cos w_k(c* − c) explains when the embedding is cut to two principal components.

    As published: the mean of the embedding and the two components with the most of k are kept, and the logits and the formula are
    brought to mean 0 and variance 1, so that the value is 2r − 1, r the correlation. `keys` defaults to the consensus.
    """
    return _per_key(view, keys, lambda k: 2 * _fits_to_two_pcs(view, k)[0] - 1)


@measure("pizza_fit.pcs", unit="1", ref=REF + "table 1 and the released notebook (98.3, 98.3, 98.4 % for Model A)")
def pizza_fit_pcs(view: View, keys: Sequence[int] | None = None) -> Value:
    """The same of |cos w_k(a − b)/2| (|cos w_k(c* − c)/2| − |sin w_k(c* − c)/2|), which is the released code's form of the pizza.

    The bracket has the shape of cos w_k(c* − c) to 99.3 %. `keys` defaults to the consensus.
    """
    return _per_key(view, keys, lambda k: 2 * _fits_to_two_pcs(view, k)[1] - 1)


@measure("clock_fit.fourier", unit="1", ref="after Zhong et al. 2023 (arXiv 2306.17844), table 1; isolation and centring here")
def clock_fit_fourier(view: View, keys: Sequence[int] | None = None) -> Value:
    """For each key k, share of the variance of the logits that α cos w_k(c* − c) explains when the embedding is cut to frequency k.

    The mean of the embedding and its components cos k and sin k are kept. The logits are centred over c, and over examples: what is the
    same for every example comes from the cut and not from the circle. `keys` defaults to the consensus.
    """
    return _per_key(view, keys, lambda k: _fits_to_one_frequency(view, k)[0] ** 2)


@measure("pizza_fit.fourier", unit="1", ref="after Zhong et al. 2023 (arXiv 2306.17844), table 1; isolation and centring here")
def pizza_fit_fourier(view: View, keys: Sequence[int] | None = None) -> Value:
    """The same of α |cos w_k(a − b)/2| cos w_k(c* − c); a clock has 8/π² = .81 of it, as a pizza has of the clock's form.

    `keys` defaults to the consensus.
    """
    return _per_key(view, keys, lambda k: _fits_to_one_frequency(view, k)[1] ** 2)


def _per_key(view: View, keys: Sequence[int] | None, value: Callable[[int], float]) -> Value:
    wanted = keys_of(view, keys)
    return array(torch.tensor([value(k) for k in wanted], dtype=torch.float64), "freq", freq=wanted)


def keys_of(view: View, keys: Sequence[int] | None) -> list[int]:
    """The frequencies that were asked for, or the consensus.

    Raises:
        NotApplicable: the elements stand on no circle, or there are no key frequencies.
    """
    view.circle  # noqa: B018
    if not (wanted := chosen(view, keys)):
        raise NotApplicable("the network has no key frequencies")
    return wanted


def _away(view: View, k: int) -> Float64[Tensor, "rows m"]:
    """w_k(c* − c), between 0 and 2πk; reduced as integers first, as k(c* − c) mod 2m, so that half of it is exact too."""
    difference = view.answer_at[:, None] - torch.arange(view.m)
    return (k * difference % (2 * view.m)).double() * (2 * torch.pi / view.m)


def clock_wave(view: View, k: int) -> Float64[Tensor, "rows m"]:
    """cos w_k(c* − c) for every example on the circle and every answer."""
    return _away(view, k).cos()


def nearness(view: View, k: int) -> Float64[Tensor, "rows"]:
    """|cos w_k(a − b)/2|: 1 where a and b are in the same place of the circle of k, 0 where they are opposite."""
    i, j = positions(view)
    return ((k * (i - j) % (2 * view.m)).double() * (torch.pi / view.m)).cos().abs()


def _correlation(x: Float64[Tensor, "rows m"], y: Float64[Tensor, "rows m"]) -> float:
    """0 where one of them does not vary."""
    x, y = x - x.mean(), y - y.mean()
    size = x.norm() * y.norm()
    return float((x * y).sum() / size) if size > 1e-150 else 0.0


def _fits_to_two_pcs(view: View, k: int) -> tuple[float, float]:
    """How far the logits of a circle of two principal components correlate with the clock's and with the pizza's formula."""
    if ("pcs", k) not in (known := _fits(view)):
        u, s, vh = _components(view)
        best = fourier.by_frequency(fourier.transform(u * s).square())[k - 1].topk(min(2, len(s))).indices
        logits = _logits_with(view, (u * s)[:, best] @ vh[best] + view.embedding.mean(0))
        half = _away(view, k) / 2
        pizza = nearness(view, k)[:, None] * (half.cos().abs() - half.sin().abs())
        known["pcs", k] = _correlation(logits, clock_wave(view, k)), _correlation(logits, pizza)
    return known["pcs", k]


def _fits_to_one_frequency(view: View, k: int) -> tuple[float, float]:
    """The same of a circle of one frequency, and logits less their means."""
    if ("fourier", k) not in (known := _fits(view)):
        logits = _logits_with(view, at_frequencies(view.embedding, [k]))
        logits = logits - logits.mean(0)
        logits = logits - logits.mean(1, keepdim=True)
        clock = clock_wave(view, k)
        known["fourier", k] = _correlation(logits, clock), _correlation(logits, nearness(view, k)[:, None] * clock)
    return known["fourier", k]


@once_per_view
def _fits(view: View) -> dict[tuple[str, int], tuple[float, float]]:
    """What is known already: the clock's and the pizza's measure look at the same logits."""
    return {}


def at_frequencies(x: Float64[Tensor, "m width"], keys: Sequence[int]) -> Float64[Tensor, "m width"]:
    """The mean of x over the circle, and its components of these frequencies."""
    rows = torch.cat([fourier.directions(len(x), k) for k in keys])
    return x.mean(0) + rows.T @ (rows @ x)


def _logits_with(view: View, embedding: Float64[Tensor, "m width"]) -> Float64[Tensor, "rows m"]:
    return with_embedding(view, embedding).activations([], rows=view.on_circle)["logits"][:, view.circle.c]


def with_embedding(view: View, embedding: Float64[Tensor, "m width"]) -> View:
    """A View of the same network with the elements on the circle embedded otherwise; `embedding` as `view.embedding` has it."""
    p, model = view.task.p, in_float64(view.model)
    table = view.W_E.clone()
    table[view.circle.a] = embedding
    weights = dict(model.named_parameters())
    if "embed.W_E" in weights:
        places = [weights["embed.W_E"]]
    elif "embed_a.W_E" in weights:
        places = [weights["embed_a.W_E"], weights["embed_b.W_E"]]
    else:
        places = list(weights["blocks.0.mlp.W_in"].detach().chunk(2))
    with torch.no_grad():
        for place, columns in zip(places, table.chunk(len(places), dim=1), strict=True):
            place[:p] = columns.to(place.device)
    return View(view.task, model, view.step, view.split)
