"""Key frequencies: which ones a network computes with, by rules that look at different places, and how far they agree.

No rule needs a list typed by hand, and none leaves out a frequency: k runs from 1 to floor(p/2).
"""

from __future__ import annotations

import copy
import itertools
import math
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from ..errors import NotApplicable, UsageError
from ..fourier import n_frequencies
from ..view import View
from .base import Value, measure, once_per_view, per_frequency
from .embedding import component_norms, frequency_power
from .logits import logit_cosines
from .neurons import EXPLAINED, neuron_power
from .projections import losses_of_answers_without


@dataclass(frozen=True)
class KeyFrequencies:
    """What the rules found.

    Attributes:
        consensus: the frequencies that more than half of the rules agree on, of those that apply and tell frequencies apart.
        rules: for each rule that applies, what it found.
        agreement: mean Jaccard index over pairs of rules, 1 where all found the same; two empty findings count as the same.
        skipped: why a rule does not apply.
    """

    consensus: list[int]
    rules: dict[str, list[int]]
    agreement: float
    skipped: dict[str, str]
    n: int
    """The number of frequencies that there are."""

    @property
    def why_none(self) -> str:
        """Why there is no consensus, where there is none."""
        undecided = [name for name, found in self.rules.items() if _indiscriminate(found, self.n)]
        if 2 * len(undecided) > len(self.rules):
            return f"no frequency stands out: {', '.join(undecided)} mark more than half of all {self.n}; keys= or --keys asks for some"
        return "the network has no key frequencies: none that more than half of the rules agree on"


def key_frequencies(view: View) -> KeyFrequencies:
    """The key frequencies of a network by every rule. Nothing is found where nothing is periodic.

    Raises:
        NotApplicable: no rule applies.
    """
    return copy.deepcopy(_found(view))  # a caller may change the lists; the kept ones must stay as they are


@once_per_view
def _found(view: View) -> KeyFrequencies:
    rules: dict[str, list[int]] = {}
    skipped: dict[str, str] = {}
    for name, rule in RULES.items():
        try:
            rules[name] = [int(k) + 1 for k in rule(view).nonzero().flatten()]
        except NotApplicable as error:
            skipped[name] = str(error)
    if not rules:
        raise NotApplicable(next(iter(skipped.values())))
    n = n_frequencies(view.m)
    telling = [found for found in rules.values() if not _indiscriminate(found, n)]
    votes = [k for found in telling for k in found]
    consensus = sorted(k for k in set(votes) if 2 * votes.count(k) > len(telling))
    pairs = [_jaccard(a, b) for a, b in itertools.combinations(rules.values(), 2)]
    return KeyFrequencies(consensus, rules, sum(pairs) / len(pairs) if pairs else 1.0, skipped, n)


def _indiscriminate(found: list[int], n: int) -> bool:
    """Whether a rule marks more than half of the frequencies: then it tells none from another, as on a random or memorising network.

    A handful of frequencies can all be in use, so p < 10 is never judged so.
    """
    return n >= 5 and 2 * len(found) > n


def chosen(view: View, keys: Sequence[int] | None) -> list[int]:
    """The frequencies that a caller asked for, or else the consensus of the rules.

    Raises:
        UsageError: one of them is no frequency of the task.
    """
    if keys is None:
        return key_frequencies(view).consensus
    largest = n_frequencies(view.m)
    try:
        wanted = {operator.index(k) for k in keys}
    except TypeError:
        raise UsageError(f"keys: needs a list of whole numbers, such as [1, 2], got {keys!r}") from None
    for k in wanted:
        if not 1 <= k <= largest:
            raise UsageError(f"keys: {k} is no frequency of {view.task.symbol}: choose from 1 to {largest}")
    return sorted(wanted)


def keys_of(view: View, keys: Sequence[int] | None) -> list[int]:
    """The frequencies that were asked for, or the consensus: at least one.

    Raises:
        UsageError: one of them is no frequency of the task.
        NotApplicable: the elements stand on no circle, or there are no key frequencies.
    """
    view.circle  # noqa: B018
    if not (wanted := chosen(view, keys)):
        raise NotApplicable("no key frequencies were asked for" if keys is not None else _found(view).why_none)
    return wanted


def _jaccard(a: list[int], b: list[int]) -> float:
    return len(set(a) & set(b)) / len(set(a) | set(b)) if a or b else 1.0


LOUD = 1 / 4
"""A component is loud with more than this share of the largest component's norm (TransformerLens Grokking_Demo)."""


def _by_embedding(view: View) -> Bool[Tensor, "freq"]:
    return _loud(component_norms(view.embedding))


def _by_readout(view: View) -> Bool[Tensor, "freq"]:
    return _loud(component_norms(view.readout))


def _loud(norms: Float64[Tensor, "component"]) -> Bool[Tensor, "freq"]:
    norms = norms[1:]
    loud = norms > norms.max() * LOUD
    frequency = (torch.arange(len(norms)) + 2) // 2
    return torch.zeros(int(frequency.max()), dtype=torch.bool).index_fill_(0, frequency[loud] - 1, True)


def _by_neurons(view: View) -> Bool[Tensor, "freq"]:
    share, frequency = neuron_power(view).max(0)
    found = frequency[share > EXPLAINED].bincount(minlength=view.m // 2)
    # One stray neuron makes no frequency; the smallest cluster of the paper holds 44 of 512.
    return found > 0.01 * len(share)


def _by_gap(view: View) -> Bool[Tensor, "freq"]:
    power = frequency_power(view.embedding)
    found = torch.zeros(len(power), dtype=torch.bool)
    share, order = (power / power.sum().clamp_min(torch.finfo(power.dtype).tiny)).sort(descending=True)
    above = min(int((share >= 0.01).sum()), len(share) // 2)  # candidates: at least 1 % of the power, and in the upper half
    if not above or above == len(share):
        return found
    falls = share[:above] / share[1 : above + 1].clamp_min(torch.finfo(power.dtype).tiny)
    if falls.max() >= 2:
        found[order[: int(falls.argmax()) + 1]] = True
    return found


def _by_load(view: View) -> Bool[Tensor, "freq"]:
    without, own = losses_of_answers_without(view)
    without, loss = without.mean(0), float(own.mean())
    # For a network that is nearly perfect a factor tells, for one that is not a difference.
    return (without > 10 * loss) | (without - loss >= math.log(view.task.n_answers) / 2)


def _by_logits(view: View) -> Bool[Tensor, "freq"]:
    return logit_cosines(view) > 0.05


RULES: dict[str, Callable[[View], Bool[Tensor, "freq"]]] = {
    "w_e_norm": _by_embedding,
    "gap": _by_gap,
    "neurons": _by_neurons,
    "w_l": _by_readout,
    "load_bearing": _by_load,
    "logits": _by_logits,
}


def _mask(view: View, rule: str) -> Any:
    return per_frequency(RULES[rule](view), view.m)


@measure("key_share.W_E", unit="1", ref="here; chance is the share of frequencies that are keys")
def key_share_of_embedding(view: View, keys: Sequence[int] | None = None) -> Value:
    """Share of the variance of the embedding, over the elements, that lies in the components of the key frequencies.

    `keys` defaults to the consensus.
    """
    power = frequency_power(view.embedding)
    total = float(power.sum())
    return float(power[[k - 1 for k in chosen(view, keys)]].sum()) / total if total > 0 else 0.0


@measure("key_frequencies.consensus", unit="1", ref="here; the rules are those of the other variants")
def by_consensus(view: View) -> Value:
    """Frequencies that more than half of the rules agree on, of those that apply and tell frequencies apart."""
    consensus = key_frequencies(view).consensus
    return per_frequency(torch.tensor([k in consensus for k in range(1, n_frequencies(view.m) + 1)]), view.m)


@measure("key_frequencies.w_e_norm", unit="1", ref="TransformerLens Grokking_Demo; Nanda et al. 2023, section 4.1")
def by_embedding(view: View) -> Value:
    """Frequencies of which a cosine or sine component of W_E has more than a quarter of the largest norm."""
    return _mask(view, "w_e_norm")


@measure("key_frequencies.gap", unit="1", ref="marshallchen99/grokking-mechinterp; that a gap is a fall by half is ours")
def by_gap(view: View) -> Value:
    """Frequencies above the largest gap in the sorted power of W_E: a ratio of at least 2, in the upper half, above 1 % of the power."""
    return _mask(view, "gap")


@measure("key_frequencies.w_l", unit="1", ref="Nanda et al. 2023, appendix C.2, which gives no threshold; that of w_e_norm is taken")
def by_readout(view: View) -> Value:
    """Frequencies of which a cosine or sine component of W_L, over the answers, has more than a quarter of the largest norm."""
    return _mask(view, "w_l")


@measure("key_frequencies.load_bearing", unit="1", ref="Nanda et al. 2023, footnote 3 and figure 15; the thresholds are ours")
def by_load(view: View) -> Value:
    """Frequencies without which the loss on all examples is at least ten times as large, or larger by half of the loss of chance.

    The paper looks at the training examples. There a network that has memorised them needs every frequency a little, so all are taken.
    """
    return _mask(view, "load_bearing")


@measure("key_frequencies.neurons", unit="1", ref="Nanda et al. 2023, section 4.2 and released notebook")
def by_neurons(view: View) -> Value:
    """Frequencies that explain more than 85 % of the variance of more than 1 % of the neurons."""
    return _mask(view, "neurons")


@measure("key_frequencies.logits", unit="1", ref="Chughtai et al. 2023 (arXiv 2302.03025), section 4, for cyclic groups")
def by_logits(view: View) -> Value:
    """Frequencies for which the cosine similarity of the logits with cos w_k(c* − c) is above 0.05."""
    return _mask(view, "logits")
