"""Key frequencies: which ones a network computes with, by rules that look at different places, and how far
they agree.

No rule needs a list typed by hand, and none leaves out a frequency: k runs from 1 to floor(p/2).

What is not linear makes multiples of a frequency: |cos θ/2|, which a sum of rectified waves comes to, has
waves at θ, 2θ, 3θ and 4θ in the ratio 1 : 1/5 : 3/35 : 1/21, so that the second and the third can be loud
enough for a rule to mark them. That a marked frequency is twice or three times another says nothing yet: on a
prime circle any frequency is a multiple of any other. It is called a harmonic where the network was asked:
with the other frequency taken out of the embedding at most a tenth of its power is left in what is marked,
and with its own waves taken out of the embedding at least nine tenths. Of two independent frequencies each
goes with its own waves. Frequencies that are twice a key and that only the rules of the embedding mark are
embedded and read out by nothing: no harmonic that is used.
"""

from __future__ import annotations

import copy
import functools
import itertools
import math
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from ...asked import got
from ...errors import NotApplicable, UsageError
from ...fourier import directions, n_frequencies, strongest
from ...shown import Found, Rows
from ...view import View
from ..base import Value, once_per_view
from ..standing import percent
from .circular import circular, measure
from .embedding import component_norms, frequency_power
from .logits import logit_cosines, power_of_difference
from .neurons import EXPLAINED, block_variance, neuron_power
from .projections import losses_of_answers_without


@dataclass(frozen=True)
class Harmonic:
    """A frequency that the network makes of another, as what is not linear makes multiples of a wave.

    Attributes:
        of: the other frequency, its fundamental.
        order: 2 or 3: how many times the fundamental it is, on the circle and but for its sign.
        where: "logits", or "neurons" where no rule that looks behind these marks it.
        embedded: its share of the variance of the embedding.
        without_fundamental: what is left of its power there, as a share, with the fundamental taken out of
            the embedding.
        without_own: the same with its own waves taken out of the embedding.
    """

    of: int
    order: int
    where: str
    embedded: float
    without_fundamental: float
    without_own: float


@dataclass(frozen=True, repr=False)
class KeyFrequencies(Found):
    """What the rules found.

    Attributes:
        consensus: the frequencies that more than half of the rules agree on, of those that apply and tell
            frequencies apart.
        rules: for each rule that applies, the frequencies that it marks.
        agreement: mean Jaccard index over pairs of rules, 1 where all found the same; two empty findings
            count as the same.
        skipped: why a rule does not apply.
        n: the number of frequencies that there are.
        harmonics: the frequencies, among those that some rule marks, that the network makes of another that
            is embedded.
        doubles: those that are twice a key of the consensus and that the rules of the embedding alone mark,
            with that key.
    """

    consensus: list[int]
    rules: dict[str, list[int]]
    agreement: float
    skipped: dict[str, str]
    n: int
    harmonics: dict[int, Harmonic] = field(default_factory=dict)
    doubles: dict[int, int] = field(default_factory=dict)

    def _in_a_line(self) -> str:
        keys = " ".join(map(str, self.consensus)) or "none"
        return f"{keys} (of 1 to {self.n}); {len(self.rules)} rules agree to {self.agreement:.2f}"

    def _as_rows(self) -> Rows:
        marked = [(rule, " ".join(map(str, keys)) or "none") for rule, keys in self.rules.items()]
        multiples = [("multiples", self.harmonics_in_words)] if self.harmonics_in_words else []
        return [*marked, *multiples, *((rule, f"not asked: {why}") for rule, why in self.skipped.items())]

    @property
    def harmonics_in_words(self) -> str:
        """What is known of the frequencies that are multiples of keys, in a sentence for each; "" where there
        are none."""
        sentences = []
        for k, harmonic in self.harmonics.items():
            of = f"key {harmonic.of}" if harmonic.of in self.consensus else f"{harmonic.of}"
            embedded = "it has no power in the embedding of its own"
            if harmonic.embedded:
                embedded = f"it has {percent(harmonic.embedded)} of the embedding"
            sentences.append(
                f"{k} is {_TIMES[harmonic.order]} {of}{self._around(k, harmonic.order, harmonic.of)}, and a "
                f"harmonic of it: {embedded}, and of its power "
                f"in the {harmonic.where} {percent(harmonic.without_fundamental)} is left with {harmonic.of} "
                f"taken out of the embedding, {percent(harmonic.without_own)} with {k} taken out."
            )
        sentences += [
            f"{k} is twice key {of}{self._around(k, 2, of)}: embedded, and marked by no rule that looks "
            "further."
            for k, of in self.doubles.items()
        ]
        return " ".join(sentences)

    def _around(self, k: int, order: int, of: int) -> str:
        """How a multiple that is greater than the greatest frequency comes to be k; nothing of others."""
        turns = order * of
        for m in (2 * self.n + 1, 2 * self.n) if turns != k else ():
            for sign in (1, -1):
                if (turns - sign * k) % m == 0:
                    return f" ({order} · {of} = {turns} ≡ {'−' if sign < 0 else ''}{k} mod {m})"
        return ""

    @property
    def why_none(self) -> str:
        """Why there is no consensus, where there is none."""
        undecided = [name for name, keys in self.rules.items() if _indiscriminate(keys, self.n)]
        if 2 * len(undecided) > len(self.rules):
            return (
                f"no frequency stands out: {', '.join(undecided)} mark more than half of all {self.n}; "
                "keys= or --keys asks for some"
            )
        return "the network has no key frequencies: none that more than half of the rules agree on"


def key_frequencies(view: View) -> KeyFrequencies:
    """The key frequencies of a network by every rule. Nothing is found where nothing is periodic.

    Where a marked frequency is a small multiple of a key, the network is run again without one and the other
    in its embedding.

    Raises:
        NotApplicable: no rule applies.
    """
    return copy.deepcopy(_with_harmonics(view))  # a caller may change the lists, and these are kept


@once_per_view
def _of_rules(view: View) -> KeyFrequencies:
    rules, skipped = dict[str, list[int]](), dict[str, str]()
    for name, marked in RULES.items():
        try:
            rules[name] = [int(k) + 1 for k in marked(view).nonzero().flatten()]
        except NotApplicable as error:
            skipped[name] = str(error)
    if not rules:
        raise NotApplicable(next(iter(skipped.values())))
    n = n_frequencies(circular(view).m)
    telling = [keys for keys in rules.values() if not _indiscriminate(keys, n)]
    votes = [k for keys in telling for k in keys]
    consensus = sorted(k for k in set(votes) if 2 * votes.count(k) > len(telling))
    pairs = [
        len(a & b) / len(a | b) if a or b else 1.0
        for a, b in itertools.combinations(map(set, rules.values()), 2)
    ]
    return KeyFrequencies(consensus, rules, sum(pairs) / len(pairs) if pairs else 1.0, skipped, n)


_TIMES = {2: "twice", 3: "three times"}
_GONE, _STAYS = 0.1, 0.9
"""Shares of its power: a harmonic has at most the one without its fundamental, and at least the other without
its own waves."""
_OF_EMBEDDING = ("w_e_norm", "gap")


@once_per_view
def _with_harmonics(view: View) -> KeyFrequencies:
    keys = _of_rules(view)
    rules = {name: marked for name, marked in keys.rules.items() if not _indiscriminate(marked, keys.n)}
    embedded = {k for name in _OF_EMBEDDING for k in rules.get(name, [])}
    behind = {name: marked for name, marked in rules.items() if name not in _OF_EMBEDDING}
    made = {k for marked in behind.values() for k in marked}
    read = {k for name, marked in behind.items() if name != "neurons" for k in marked}
    harmonics: dict[int, Harmonic] = {}
    for k, of, order in _multiples(sorted(made), sorted(embedded | set(keys.consensus)), view):
        if harmonic := _harmonic(view, k, of, order, "logits" if k in read else "neurons"):
            harmonics.setdefault(k, harmonic)
    alone = _multiples(sorted(embedded - made), keys.consensus, view)
    doubles = {k: key for k, key, order in alone if order == 2}
    return replace(keys, harmonics=harmonics, doubles=doubles)


def _multiples(
    frequencies: Sequence[int], fundamentals: Sequence[int], view: View
) -> list[tuple[int, int, int]]:
    """Of the frequencies those that are small multiples of fundamentals, on the circle and but for their
    sign; with these and the order."""
    z = circular(view)
    if not z.circle.is_sum:
        return []
    return [
        (k, of, order)
        for k, of, order in itertools.product(frequencies, fundamentals, _TIMES)
        if k != of and 0 in ((order * of - k) % z.m, (order * of + k) % z.m)
    ]


def _harmonic(view: View, k: int, of: int, order: int, where: str) -> Harmonic | None:
    """The frequency k as one that the network makes of another, or None where it does not."""
    views = (view, _without(view, of), _without(view, k))
    whole, without_fundamental, without_own = (
        float((power_of_difference(one) if where == "logits" else block_variance(one)[0].sum(1))[k - 1])
        for one in views
    )
    if whole <= 0 or without_fundamental > _GONE * whole or without_own < _STAYS * whole:
        return None
    power = frequency_power(circular(view).embedding)
    shares = (float(power[k - 1] / power.sum()), without_fundamental / whole, without_own / whole)
    return Harmonic(of, order, where, *(round(share, 9) for share in shares))  # what is less is rounding


def _without(view: View, k: int) -> View:
    """The same network with no wave of frequency k in its embedding of the elements."""
    z = circular(view)
    waves = directions(z.m, k)
    changed: dict[str, Tensor] = {}
    for (name, rows), elements in zip(view.embedding_rows, (z.circle.a, z.circle.b), strict=False):
        table = changed.setdefault(name, view.weights[name].clone())
        at = rows[elements]
        table[at] -= (waves.T @ (waves @ table[at].double())).to(table)
    return view.with_weights(changed)


def _indiscriminate(keys: list[int], n: int) -> bool:
    """Whether a rule marks more than half of the frequencies: then it tells none from another, as on a random
    or memorising network.

    A handful of frequencies can all be in use, so p < 10 is never judged so.
    """
    return n >= 5 and 2 * len(keys) > n


def chosen(view: View, keys: Sequence[int] | None) -> list[int]:
    """The frequencies that a caller asked for, or else the consensus of the rules.

    Raises:
        UsageError: one of them is no frequency of the task.
    """
    if keys is None:
        return list(_of_rules(view).consensus)
    largest = n_frequencies(circular(view).m)
    try:
        wanted = {operator.index(k) for k in keys}
    except TypeError:
        raise UsageError(f"keys: needs a list of whole numbers, such as [1, 2], got {got(keys)}") from None
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
    circular(view)
    if not (wanted := chosen(view, keys)):
        asked = keys is not None
        raise NotApplicable("no key frequencies were asked for" if asked else _of_rules(view).why_none)
    return wanted


LOUD = 1 / 4
"""A component is loud with more than this share of the largest one's norm (TransformerLens Grokking_Demo)."""

Rule = Callable[[View], Bool[Tensor, "freq"]]
RULES: dict[str, Rule] = {}
"""What marks the key frequencies of a network, each by its name."""


def rule(name: str, *, ref: str) -> Callable[[Rule], Rule]:
    """Registers a rule, and what it marks as the measure `key_frequencies.NAME`."""

    def register(marked: Rule) -> Rule:
        @functools.wraps(marked)
        def as_measure(view: View) -> Value:
            return circular(view).per_frequency(marked(view))

        RULES[name] = marked
        measure(f"key_frequencies.{name}", unit="1", ref=ref)(as_measure)
        return marked

    return register


@rule("w_e_norm", ref="TransformerLens Grokking_Demo; Nanda et al. 2023, section 4.1")
def by_embedding(view: View) -> Bool[Tensor, "freq"]:
    """Frequencies of which a cosine or sine component of W_E has more than a quarter of the largest norm."""
    return _loud(component_norms(circular(view).embedding))


@rule("gap", ref="marshallchen99/grokking-mechinterp; that a gap is a fall by half is ours")
def by_gap(view: View) -> Bool[Tensor, "freq"]:
    """Frequencies above the largest gap in the sorted power of W_E: a ratio of at least 2, in the upper half,
    from 1 % of the power on."""
    power, tiny = frequency_power(circular(view).embedding), torch.finfo(torch.float64).tiny
    marks = torch.zeros(len(power), dtype=torch.bool)
    share, order = (power / power.sum().clamp_min(tiny)).sort(descending=True)
    above = min(int((share >= 0.01).sum()), len(share) // 2)
    if not above:
        return marks
    falls = share[:above] / share[1 : above + 1].clamp_min(tiny)
    if falls.max() >= 2:
        marks[order[: int(falls.argmax()) + 1]] = True
    return marks


@rule("neurons", ref="Nanda et al. 2023, section 4.2 and released notebook")
def by_neurons(view: View) -> Bool[Tensor, "freq"]:
    """Frequencies that explain more than 85 % of the variance of more than 1 % of the neurons."""
    share, frequency = strongest(neuron_power(view))
    members = frequency[share > EXPLAINED].bincount(minlength=n_frequencies(circular(view).m))
    # One stray neuron makes no frequency; the smallest cluster of the paper holds 44 of 512.
    return members > 0.01 * len(share)


@rule("w_l", ref="Nanda et al. 2023, appendix C.2, which gives no threshold; that of w_e_norm is taken")
def by_readout(view: View) -> Bool[Tensor, "freq"]:
    """Frequencies of which a cosine or sine component of W_L, over the answers, has more than a quarter of
    the largest norm."""
    return _loud(component_norms(circular(view).readout))


@rule("load_bearing", ref="Nanda et al. 2023, footnote 3 and figure 15; the thresholds are ours")
def by_load(view: View) -> Bool[Tensor, "freq"]:
    """Frequencies without which the loss on all examples is more than ten times as large, or larger by half
    of the loss of chance.

    The paper looks at the training examples. There a network that has memorised them needs every frequency a
    little, so all are taken.
    """
    without, whole = losses_of_answers_without(view)
    without, loss = without.mean(0), float(whole.mean())
    # For a network that is nearly perfect a factor tells, for one that is not a difference.
    return (without > 10 * loss) | (without - loss >= math.log(view.task.n_answers) / 2)


@rule("logits", ref="Chughtai et al. 2023 (arXiv 2302.03025), section 4, for cyclic groups")
def by_logits(view: View) -> Bool[Tensor, "freq"]:
    """Frequencies for which the cosine similarity of the logits with cos w_k(c* − c) is above 0.05."""
    return logit_cosines(view) > 0.05


def _loud(norms: Float64[Tensor, "component"]) -> Bool[Tensor, "freq"]:
    norms = norms[1:]
    loud = norms > norms.max() * LOUD
    frequency = (torch.arange(len(norms)) + 2) // 2
    return torch.zeros(int(frequency.max()), dtype=torch.bool).index_fill_(0, frequency[loud] - 1, True)


@measure("key_share.W_E", unit="1", ref="here; chance is the share of frequencies that are keys")
def key_share_of_embedding(view: View, keys: Sequence[int] | None = None) -> Value:
    """Share of the variance of the embedding, over the elements, that lies in the components of the key
    frequencies.

    `keys` defaults to the consensus.
    """
    power = frequency_power(circular(view).embedding)
    total = float(power.sum())
    return float(power[[k - 1 for k in chosen(view, keys)]].sum()) / total if total > 0 else 0.0


@measure("key_frequencies.consensus", unit="1", ref="here; the rules are those of the other variants")
def by_consensus(view: View) -> Value:
    """Frequencies that more than half of the rules agree on, of those that apply and tell frequencies
    apart."""
    consensus, z = _of_rules(view).consensus, circular(view)
    return z.per_frequency(torch.tensor([k in consensus for k in z.frequencies]))
