"""Claims about how a network works, each with the measures and the thresholds that decide it.

    claim                     supported where                                      source of the threshold
    it generalises            test accuracy >= 0.99 (`measures.standing`)          Power et al. 2022
    it has only memorised     training examples better than chance, test           ours
                              examples not (`measures.standing`)
    the embedding is sparse   at most half of the frequencies are keys, holding    ours
    in the Fourier basis      >= 0.75 of W_E
    neurons are single-       one frequency explains > 0.85 of >= 0.75 of the      Nanda et al. 2023: 0.846 of
    frequency                 neurons                                              theirs
    logits are sums of cos    logit_fve.centred >= 0.9                             Nanda et al. 2023: 0.95
    w(c* − c)
    the keys are sufficient   restricted loss <= 2 x loss, on all examples         Nanda et al. 2023: it falls
    the keys are necessary    excluded loss - loss >= half of ln p on the          ours; ln p is chance
                              training examples
    attention is uniform      every head gives a and b the same to 0.1 on          ours
                              average, and varies over inputs by < 0.05 (std)
    attention depends on      some head varies over inputs by >= 0.1 (std)         ours; a mean without its
    the input                                                                      variance is no mechanism
    waves fitted to every     the fitted circuit gives the network's answer to     ours
    part do what it does      >= 0.99 of all pairs
    it is a clock             gradient symmetricity <= 0.7, distance irrelevance   Zhong et al. 2023: 0.33 and
                              (correct) >= 0.6                                     0.85
    it is a pizza             gradient symmetricity >= 0.9, distance irrelevance   Zhong et al. 2023: 0.99 and
                              (correct) <= 0.4                                     0.17

Where labels are noisy, the test accuracies of the first two claims are of the right answers, a network
generalises from 0.9 (Doshi et al. 2024 print 0.983 for one that has memorised wrong labels as well), and a
claim for each of their phases comes on top: `measures.noise_phase` says which numbers decide them.

Between clock and pizza lie networks that are neither: over the fleet of Zhong et al. gradient symmetricity
falls from 0.99 with constant attention to 0.45 with full attention, and distance irrelevance (of the top
wrong logit) rises from 0.29 to 0.82.

Sufficient, necessary, fitted waves, clock and pizza are asked wherever there is something to ask: of networks
that do better than chance on unseen examples, and of those that do not generalise yet where the rules agree
on key frequencies; the evidence then says which share is right. The first two are asked only where at most
half of the frequencies are keys, as a projection that leaves out little tells nothing. Where it is not known
which examples were trained on, all of them stand for the training and for the test examples.

A claim whose measures do not apply is "not tested", with the reason.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ..measures.noise import NEEDS, NoisePhase
from ..measures.standing import Standing

Verdict = Literal["supported", "refuted", "not tested"]


@dataclass(frozen=True)
class Evidence:
    """What the claims may look at: measured values by name, why others are missing, the keys in use, how much
    is right, two sizes."""

    values: Mapping[str, Any]
    skipped: Mapping[str, str]
    keys: list[int]
    standing: Standing
    """How far the network has learned the task."""
    on_circle: Standing
    """The same of the examples that the frequencies are about: without 0, for multiplication."""
    loss: Mapping[str, float]
    """The loss there, by part."""
    n_answers: int
    n_frequencies: int
    noisy: bool = False
    """Whether labels are noisy."""
    noise_phase: NoisePhase | None = None
    """The phase of the network, where labels are."""

    def accuracy(self, part: str) -> tuple[str, float]:
        """The share of right answers of a part, and the measure that it is of."""
        name = "clean_accuracy" if self.noisy else "accuracy"
        return f"{name} ({part})", self.number(name, part=part)

    def number(self, name: str, **at: str) -> float:
        """A measured number; raises _Missing with the reason where there is none."""
        if name not in self.values:
            raise _Missing(self.skipped.get(name, f"{name} was not measured"))
        value = self.values[name]
        if at and not all(label in value.coords[dim].values for dim, label in at.items()):
            known = "train" in value.coords["part"].values if "part" in at else False
            raise _Missing(
                "there are no such examples"
                if known
                else "it is not known which examples the network was trained on"
            )
        return float(value.sel(**at) if at else value)

    def part(self, wanted: str) -> str:
        """That part of the examples where the split is known, else all of them."""
        return wanted if wanted in self.values["loss"].coords["part"].values else "all"


class _Missing(Exception):
    """A claim cannot be tested; the message says why."""


@dataclass(frozen=True)
class Claim:
    """A sentence, its verdict, and what speaks for it."""

    claim: str
    verdict: Verdict
    evidence: list[str]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return {"claim": self.claim, "verdict": self.verdict, "evidence": self.evidence}


def claims(evidence: Evidence) -> list[Claim]:
    """Every claim of the Fourier story with its verdict. Where labels are noisy, those of the phases take the
    place of "only memorised"."""
    decided = []
    asked = (
        {sentence: test for sentence, test in _CLAIMS.items() if test is not _memorised} | _OF_NOISE
        if evidence.noisy
        else _CLAIMS
    )
    for sentence, test in asked.items():
        try:
            holds, because = test(evidence)
            decided.append(Claim(sentence, "supported" if holds else "refuted", because))
        except _Missing as missing:
            decided.append(Claim(sentence, "not tested", [str(missing)]))
    return decided


def needs(
    name: str, value: float, sign: Literal["<=", "<", ">=", ">"], limit: float, spec: str = ".3f"
) -> tuple[bool, str]:
    """Whether a number holds its limit, and the two in words, with as many digits as show on which side it
    is."""
    holds = {"<=": value <= limit, "<": value < limit, ">=": value >= limit, ">": value > limit}[sign]
    digits, kind = int(spec[1:-1]), spec[-1]
    while digits < 17 and _side(float(f"{value:.{digits}{kind}}"), limit) != _side(value, limit):
        digits += 1
    return holds, f"{name} = {value:.{digits}{kind}}, needs {sign} {limit:g}"


def _side(value: float, limit: float) -> int:
    """-1 below, 1 above, 0 at the limit."""
    return (value > limit) - (value < limit)


def _generalises(e: Evidence) -> tuple[bool, list[str]]:
    name, accuracy = e.accuracy("test")
    return e.standing.state == "generalises", [needs(name, accuracy, ">=", e.standing.level, ".4f")[1]]


def _sparse_embedding(e: Evidence) -> tuple[bool, list[str]]:
    share, keys = e.number("key_share.W_E"), len(e.keys) / e.n_frequencies if e.n_frequencies else 1.0
    return _all(
        needs("key_share.W_E", share, ">=", 0.75),
        needs("share of frequencies that are keys", keys, "<=", 0.5),
        also=[f"gini.W_E = {e.number('gini.W_E'):.3f}"],
    )


def _all(*conditions: tuple[bool, str], also: list[str]) -> tuple[bool, list[str]]:
    """Whether every condition holds, with all of them in words."""
    return all(holds for holds, _ in conditions), [*(words for _, words in conditions), *also]


def _single_frequency(e: Evidence) -> tuple[bool, list[str]]:
    name = "neuron.single_frequency_share"
    return _all(needs(name, e.number(name), ">=", 0.75), also=[])


def _cosine_logits(e: Evidence) -> tuple[bool, list[str]]:
    return _all(needs("logit_fve.centred", e.number("logit_fve.centred"), ">=", 0.9), also=[])


def _sufficient(e: Evidence) -> tuple[bool, list[str]]:
    asked = _asked_of(e)
    _has_few_keys(e)
    restricted, loss = e.number("restricted_loss.logit_dirs", part="all"), e.loss["all"]
    return _all(
        needs(
            "restricted_loss.logit_dirs / loss (all)",
            restricted / loss if loss else math.inf,
            "<=",
            2.0,
            ".3g",
        ),
        also=[f"restricted_loss.logit_dirs (all) = {restricted:.3g} nats, loss = {loss:.3g} nats", *asked],
    )


def _necessary(e: Evidence) -> tuple[bool, list[str]]:
    asked = _asked_of(e)
    _has_few_keys(e)
    part = e.part("train")
    rise = e.number("excluded_loss.logit_dirs", part=part) - e.loss[part]
    chance = math.log(e.n_answers)
    return _all(
        needs(
            f"(excluded_loss.logit_dirs − loss) / ln {e.n_answers} ({part})", rise / chance, ">=", 0.5, ".3g"
        ),
        also=[
            f"excluded_loss.logit_dirs − loss ({part}) = {rise:.3g} nats, ln {e.n_answers} = {chance:.3g} "
            "nats is chance",
            *asked,
        ],
    )


def _asked_of(e: Evidence) -> list[str]:
    """Of which share of the examples it is asked how they are computed; nothing where the network
    generalises.

    Raises:
        _Missing: the network does no better than chance on unseen examples, or stands on no frequencies:
            there is nothing to ask.
    """
    part = e.part("test")
    whole = e.on_circle.shares["all"].n == e.standing.shares["all"].n
    if not e.on_circle.better_than_chance(part):
        of = "" if whole else "of the pairs that the frequencies are about, "
        raise _Missing(f"there is no algorithm to ask this of: {of}{e.on_circle.words}")
    if not e.keys and e.on_circle.state != "generalises":
        raise _Missing(
            "there is no algorithm to ask this of: "
            f"{e.skipped.get('restricted_loss.logit_dirs', 'there are no key frequencies')}"
        )
    right = e.on_circle.shares[part]
    which = (
        f"{'unseen' if part == 'test' else 'all'} "
        f"{'examples' if whole else 'pairs that the frequencies are about'}"
    )
    return (
        []
        if right.right >= e.on_circle.level
        else [f"asked of a network that is right on {right} of {which}"]
    )


def _has_few_keys(e: Evidence) -> None:
    if 2 * len(e.keys) > e.n_frequencies:
        raise _Missing(
            f"{len(e.keys)} of {e.n_frequencies} frequencies are keys: with so many left in, a projection "
            "tells nothing"
        )


def _memorised(e: Evidence) -> tuple[bool, list[str]]:
    if e.standing.state == "not known":
        e.number("accuracy", part="train"), e.accuracy("test")
        raise _Missing(e.standing.words)
    return e.standing.state == "memorises", [
        f"accuracy (train) = {e.number('accuracy', part='train'):.4f}",
        f"{e.accuracy('test')[0]} = {e.accuracy('test')[1]:.4f}",
        e.standing.words,
    ]


def _uniform_attention(e: Evidence) -> tuple[bool, list[str]]:
    between, spread = _attention(e)
    return _all(
        needs("attention.mean: largest difference between a and b", between, "<=", 0.1),
        needs("largest standard deviation over inputs, of any head", spread, "<", 0.05),
        also=[],
    )


def _attention_by_input(e: Evidence) -> tuple[bool, list[str]]:
    return _all(
        needs("largest standard deviation over inputs, of any head", _attention(e)[1], ">=", 0.1), also=[]
    )


def _attention(e: Evidence) -> tuple[float, float]:
    """How far attention to a and to b differ on average, and how much it varies over inputs, at most, over
    all heads."""
    for name in ("attention.mean", "attention.variance"):
        if name not in e.values:
            raise _Missing(e.skipped.get(name, f"{name} was not measured"))
    mean, variance = e.values["attention.mean"], e.values["attention.variance"]
    words = {str(label).partition(": ")[2]: label for label in mean.coords["pos"].values}
    between = abs(mean.sel(pos=words["a"]) - mean.sel(pos=words["b"]))
    return float(between.max()), float(variance.max()) ** 0.5


def _fitted_circuit(e: Evidence) -> tuple[bool, list[str]]:
    asked = _asked_of(e)
    agreement, loss = (
        e.number("circuit.whole.agreement", part="all"),
        e.number("circuit.whole.loss", part="all"),
    )
    return _all(
        needs("circuit.whole.agreement (all)", agreement, ">=", 0.99, ".4f"),
        also=[f"circuit.whole.loss (all) = {loss:.3g} nats", *asked],
    )


def _clock(e: Evidence) -> tuple[bool, list[str]]:
    asked = _asked_of(e)
    return _all(
        needs("gradient_symmetricity", e.number("gradient_symmetricity"), "<=", 0.7),
        needs("distance_irrelevance.correct", e.number("distance_irrelevance.correct"), ">=", 0.6),
        also=asked,
    )


def _pizza(e: Evidence) -> tuple[bool, list[str]]:
    asked = _asked_of(e)
    return _all(
        needs("gradient_symmetricity", e.number("gradient_symmetricity"), ">=", 0.9),
        needs("distance_irrelevance.correct", e.number("distance_irrelevance.correct"), "<=", 0.4),
        also=asked,
    )


def _phase(wanted: NoisePhase) -> Callable[[Evidence], tuple[bool, list[str]]]:
    def test(e: Evidence) -> tuple[bool, list[str]]:
        found = [
            ("accuracy", "train"),
            ("clean_accuracy", "test"),
            ("accuracy", "corrupted"),
            ("clean_accuracy", "corrupted"),
        ]
        numbers = [f"{name} ({part}) = {e.number(name, part=part):.4f}" for name, part in found]
        return e.noise_phase == wanted, [*numbers, f"needs {NEEDS[wanted]}; its phase is {e.noise_phase}"]

    return test


_OF_NOISE: dict[str, Callable[[Evidence], tuple[bool, list[str]]]] = {
    "It has memorised the noise and not generalised (memorisation)": _phase("memorisation"),
    "It has memorised the wrong labels and generalises (coexistence)": _phase("coexistence"),
    "It generalises, and has inverted some of the wrong labels (partial inversion)": _phase(
        "partial inversion"
    ),
    "It generalises, and gives the right answer to every wrong label (full inversion)": _phase(
        "full inversion"
    ),
    "It has forgotten what it had learned (forgetting)": _phase("forgetting"),
}

_CLAIMS: dict[str, Callable[[Evidence], tuple[bool, list[str]]]] = {
    "It generalises to pairs that it was not trained on": _generalises,
    "It has only memorised its training examples": _memorised,
    "The embedding is sparse in the Fourier basis": _sparse_embedding,
    "Neurons are single-frequency": _single_frequency,
    "Logits are sums of cos w(c* − c), c* the right answer": _cosine_logits,
    "The key frequencies are sufficient": _sufficient,
    "The key frequencies are necessary": _necessary,
    "Attention is uniform over a and b, whatever they are": _uniform_attention,
    "Attention depends on the input": _attention_by_input,
    "Waves of the key frequencies, fitted to every part, do what it does": _fitted_circuit,
    "It computes as a clock (multiplies in the attention)": _clock,
    "It computes as a pizza (averages, constant attention)": _pizza,
}
