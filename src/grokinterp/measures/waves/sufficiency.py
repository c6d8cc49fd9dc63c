"""The smallest sets of key frequencies that are enough, and those without which nothing is left.

Both act on the logits, in the directions cos w_k(c*) and sin w_k(c*) over the table, c* the right answer, as
`restricted_loss.logit_dirs` and `excluded_loss.logit_dirs` do. All sets of one size are tried before any
larger one, so no smaller set is overlooked. Losses and accuracies are of the right answers, whatever labels
the network was given: the keys are those of the rule.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor

from ...errors import NotApplicable
from ...fourier import directions
from ...view import View
from ..base import Value
from .circular import circular, measure
from .keys import keys_of
from .projections import fitted, mean_logits, share_of_answer

ENOUGH_ACCURACY = 0.99
ENOUGH_LOSS = 2.0
"""A sufficient set keeps this accuracy, and the loss at most so many times the network's."""
BROKEN_ACCURACY = 0.5
"""A necessary set brings the accuracy below this, or the loss above half of ln(answers), which is the loss of
knowing nothing."""
MOST_KEYS = 12
"""All sets of more keys are too many."""
SAMPLED = 1024
"""With more than six keys, necessary sets are looked for on so many examples, drawn at random."""


@dataclass(frozen=True)
class SmallestSets:
    """What was found; an attribute is None where no set of the keys will do.

    Attributes:
        sufficient: with these alone in the logits, accuracy >= .99 and loss <= 2 x the network's.
        necessary: without these, accuracy < ½ or loss > ln(answers) / 2; empty where the network is as bad as
            that itself.
    """

    sufficient: list[int] | None
    necessary: list[int] | None


def smallest_sets(view: View, keys: Sequence[int] | None = None) -> SmallestSets:
    """The smallest sufficient and the smallest necessary set of the keys (by default the consensus).

    Of several sets of one size, the sufficient one is that which leaves least loss, the necessary one most.

    Raises:
        NotApplicable: there are no key frequencies, or more than 12.
    """
    keys = _candidates(view, keys)
    return SmallestSets(_first(keys, _sufficiency(view)), _first(keys, _necessity(view, len(keys))))


@measure(
    "smallest_sufficient",
    unit="1",
    ref="here; faithfulness and minimality as in Wang et al. 2023 (arXiv 2211.00593), section 4",
)
def smallest_sufficient(view: View, keys: Sequence[int] | None = None) -> Value:
    """Frequencies of the smallest set of keys that keeps accuracy >= .99 and loss <= 2 x the network's when
    the logits have no other.

    None is marked where not even all keys do. `keys` defaults to the consensus.
    """
    return _marks(view, _first(_candidates(view, keys), _sufficiency(view)))


@measure(
    "smallest_necessary",
    unit="1",
    ref="here; completeness as in Wang et al. 2023 (arXiv 2211.00593), section 4",
)
def smallest_necessary(view: View, keys: Sequence[int] | None = None) -> Value:
    """Frequencies of the smallest set of keys without which the accuracy is below ½, or the loss above half
    of ln(answers).

    None is marked where the network survives without all keys, or is as bad with them. `keys` defaults to the
    consensus.
    """
    keys = _candidates(view, keys)
    return _marks(view, _first(keys, _necessity(view, len(keys))))


def _candidates(view: View, keys: Sequence[int] | None) -> list[int]:
    keys = keys_of(view, keys)
    if len(keys) > MOST_KEYS:
        raise NotApplicable(
            f"{len(keys)} key frequencies have 2^{len(keys)} sets: give the {MOST_KEYS} that matter as `keys`"
        )
    return keys


_Judge = Callable[[list[int]], tuple[bool, float]]
"""Whether a set will do, and how far it is from being the best of its size."""


def _first(keys: list[int], judge: _Judge) -> list[int] | None:
    for size in range(len(keys) + 1):
        judged = [(judge(list(subset)), subset) for subset in itertools.combinations(keys, size)]
        good = [(distance, subset) for (will_do, distance), subset in judged if will_do]
        if good:
            return list(min(good)[1])
    return None


def _fit(view: View, keys: Sequence[int]) -> Float64[Tensor, "m answers"]:
    """The part of the logits along the waves of these frequencies, at every right answer."""
    m = circular(view).m
    return fitted(view, torch.cat([directions(m, k) for k in keys]), mean_logits(view))


def _sufficiency(view: View) -> _Judge:
    z = circular(view)
    rows, share, mean = z.on_circle, share_of_answer(view), mean_logits(view)
    allowed = ENOUGH_LOSS * float(view.loss(view.logits[rows], rows, "answers").mean())
    occurs = share > 0
    example = torch.zeros(z.m, dtype=torch.long).index_put_((z.answer_at,), rows)[occurs]

    def judge(keys: list[int]) -> tuple[bool, float]:
        # These logits depend on the answer alone: one example of each is as good as all.
        inside = _fit(view, keys) if keys else torch.zeros_like(mean)
        logits = (inside + share @ (mean - inside))[occurs]
        loss = float(share[occurs] @ view.loss(logits, example, "answers"))
        accuracy = float(share[occurs] @ view.correct(logits, example, "answers").double())
        return accuracy >= ENOUGH_ACCURACY and loss <= allowed, loss

    return judge


def _necessity(view: View, n_keys: int) -> _Judge:
    z, sample = circular(view), torch.arange(len(circular(view).on_circle))
    if n_keys > 6 and len(sample) > SAMPLED:
        sample = torch.randperm(len(sample), generator=torch.Generator().manual_seed(0))[:SAMPLED]
    rows, answers = z.on_circle[sample], z.answer_at[sample]
    logits = view.logits[rows]
    limit = math.log(view.task.n_answers) / 2

    def judge(keys: list[int]) -> tuple[bool, float]:
        left = logits - _fit(view, keys)[answers] if keys else logits
        loss = float(view.loss(left, rows, "answers").mean())
        accuracy = float(view.correct(left, rows, "answers").double().mean())
        return accuracy < BROKEN_ACCURACY or loss > limit, -loss

    return judge


def _marks(view: View, keys: list[int] | None) -> Value:
    z = circular(view)
    return z.per_frequency(torch.tensor([k in (keys or []) for k in z.frequencies]))
