"""Claims about how a network works, each with the measures and the thresholds that decide it.

| claim | supported where | source of the threshold |
|---|---|---|
| it generalises | test accuracy >= 0.99 | Power et al. 2022 |
| it has only memorised | train accuracy >= 0.99, test accuracy < 0.5 | ours |
| the embedding is sparse in the Fourier basis | at most half of the frequencies are keys, holding >= 0.75 of W_E | ours |
| neurons are single-frequency | one frequency explains > 0.85 of >= 0.75 of the neurons | Nanda et al. 2023: 0.846 of theirs |
| logits are sums of cos w(c* − c) | logit_fve.centred >= 0.9 | Nanda et al. 2023: 0.95 |
| the keys are sufficient | restricted loss <= 2 x loss, on all examples | Nanda et al. 2023: it falls |
| the keys are necessary | excluded loss - loss >= half of ln p on the training examples | ours; ln p is chance |
| attention is uniform | every head gives a and b the same to 0.1 on average, and varies over inputs by < 0.05 (std) | ours |
| attention depends on the input | some head varies over inputs by >= 0.1 (std) | ours; a mean without its variance is no mechanism |
| waves fitted to every part do what it does | the fitted circuit gives the network's answer to >= 0.99 of all pairs | ours |
| it is a clock | gradient symmetricity <= 0.7, distance irrelevance (correct) >= 0.6 | Zhong et al. 2023: 0.33 and 0.85 |
| it is a pizza | gradient symmetricity >= 0.9, distance irrelevance (correct) <= 0.4 | Zhong et al. 2023: 0.99 and 0.17 |

Where labels are noisy, the test accuracies of the first two claims are of the right answers, a network generalises from 0.9 (Doshi et al.
2024 print 0.983 for one that has memorised wrong labels as well), and a claim for each of their phases comes on top: `measures.noise_phase`
says which numbers decide them.

Between clock and pizza lie networks that are neither: over the fleet of Zhong et al. gradient symmetricity falls from 0.99 with constant
attention to 0.45 with full attention, and distance irrelevance (of the top wrong logit) rises from 0.29 to 0.82.

Sufficient, necessary, fitted waves, clock and pizza are asked of networks that generalise, and the first two only where at most half of
the frequencies are keys: a memorising network has no algorithm, and a projection that leaves out little tells nothing. Where it is not
known which examples were trained on, all of them stand for the training and for the test examples.

A claim whose measures do not apply is "not tested", with the reason.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ..measures.noise import KNOWN, NEEDS, NoisePhase

Verdict = Literal["supported", "refuted", "not tested"]
GENERALISED = 0.99


@dataclass(frozen=True)
class Evidence:
    """What the claims may look at: measured values by name, why others are missing, the keys in use, the accuracy, and two sizes."""

    values: Mapping[str, Any]
    skipped: Mapping[str, str]
    keys: list[int]
    right: Mapping[str, float]
    """The accuracy by part, on the examples that the frequencies are about: without 0, for multiplication."""
    loss: Mapping[str, float]
    """The loss there."""
    n_answers: int
    n_frequencies: int
    noisy: bool = False
    """Whether labels are noisy."""
    noise_phase: NoisePhase | None = None
    """The phase of the network, where labels are."""

    @property
    def enough(self) -> float:
        """The share of right answers from which a network has generalised."""
        return KNOWN if self.noisy else GENERALISED

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
            raise _Missing("there are no such examples" if known else "it is not known which examples the network was trained on")
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
    """Every claim of the Fourier story with its verdict; and where labels are noisy of the phases."""
    decided = []
    for sentence, test in (_CLAIMS | (_OF_NOISE if evidence.noisy else {})).items():
        try:
            holds, because = test(evidence)
            decided.append(Claim(sentence, "supported" if holds else "refuted", because))
        except _Missing as missing:
            decided.append(Claim(sentence, "not tested", [str(missing)]))
    return decided


def _generalises(e: Evidence) -> tuple[bool, list[str]]:
    name, accuracy = e.accuracy("test")
    return accuracy >= e.enough, [f"{name} = {accuracy:.4f}, needs >= {e.enough}"]


def _sparse_embedding(e: Evidence) -> tuple[bool, list[str]]:
    share, gini = e.number("key_share.W_E"), e.number("gini.W_E")
    chance = len(e.keys) / e.n_frequencies if e.n_frequencies else 1.0
    because = [f"key_share.W_E = {share:.3f}, needs >= 0.75", f"share of frequencies that are keys = {chance:.3f}, needs <= 0.5"]
    return share >= 0.75 and chance <= 0.5, [*because, f"gini.W_E = {gini:.3f}"]


def _single_frequency(e: Evidence) -> tuple[bool, list[str]]:
    share = e.number("neuron.single_frequency_share")
    return share >= 0.75, [f"neuron.single_frequency_share = {share:.3f}, needs >= 0.75"]


def _cosine_logits(e: Evidence) -> tuple[bool, list[str]]:
    share = e.number("logit_fve.centred")
    return share >= 0.9, [f"logit_fve.centred = {share:.3f}, needs >= 0.9"]


def _sufficient(e: Evidence) -> tuple[bool, list[str]]:
    _has_an_algorithm(e)
    _has_few_keys(e)
    restricted, loss = e.number("restricted_loss.logit_dirs", part="all"), e.loss["all"]
    return restricted <= 2 * loss, [f"restricted_loss.logit_dirs (all) = {restricted:.3g} nats, needs <= 2 × loss = {2 * loss:.3g}"]


def _necessary(e: Evidence) -> tuple[bool, list[str]]:
    _has_an_algorithm(e)
    _has_few_keys(e)
    part = e.part("train")
    rise = e.number("excluded_loss.logit_dirs", part=part) - e.loss[part]
    needed = math.log(e.n_answers) / 2
    return rise >= needed, [f"excluded_loss.logit_dirs − loss ({part}) = {rise:.3g} nats, needs >= ½ ln {e.n_answers} = {needed:.3g}"]


def _has_an_algorithm(e: Evidence) -> None:
    part = e.part("test")
    if e.right.get(part, 0.0) < e.enough:
        found = f"{100 * e.right.get(part, 0.0):.1f} % of {part} examples are right, and {100 * e.enough:.0f} % are needed"
        raise _Missing(f"the network has not generalised ({found}), so there is no algorithm to ask this of")


def _has_few_keys(e: Evidence) -> None:
    if 2 * len(e.keys) > e.n_frequencies:
        raise _Missing(f"{len(e.keys)} of {e.n_frequencies} frequencies are keys: with so many left in, a projection tells nothing")


def _memorised(e: Evidence) -> tuple[bool, list[str]]:
    train, (name, test) = e.number("accuracy", part="train"), e.accuracy("test")
    return train >= GENERALISED and test < 0.5, [
        f"accuracy (train) = {train:.4f}, needs >= {GENERALISED}",
        f"{name if e.noisy else '(test)'} = {test:.4f}, needs < 0.5",
    ]


def _uniform_attention(e: Evidence) -> tuple[bool, list[str]]:
    between, spread = _attention(e)
    because = [f"attention.mean differs between a and b by at most {between:.3f}, needs <= 0.1"]
    return between <= 0.1 and spread < 0.05, [*because, f"largest standard deviation over inputs = {spread:.3f}, needs < 0.05"]


def _attention_by_input(e: Evidence) -> tuple[bool, list[str]]:
    spread = _attention(e)[1]
    return spread >= 0.1, [f"largest standard deviation over inputs, of any head = {spread:.3f}, needs >= 0.1"]


def _attention(e: Evidence) -> tuple[float, float]:
    """How far attention to a and to b differ on average, and how much it varies over inputs, at most, over all heads."""
    for name in ("attention.mean", "attention.variance"):
        if name not in e.values:
            raise _Missing(e.skipped.get(name, f"{name} was not measured"))
    mean, variance = e.values["attention.mean"], e.values["attention.variance"]
    words = {str(label).partition(": ")[2]: label for label in mean.coords["pos"].values}
    between = abs(mean.sel(pos=words["a"]) - mean.sel(pos=words["b"]))
    return float(between.max()), float(variance.max()) ** 0.5


def _fitted_circuit(e: Evidence) -> tuple[bool, list[str]]:
    _has_an_algorithm(e)
    agreement, loss = e.number("circuit.whole.agreement", part="all"), e.number("circuit.whole.loss", part="all")
    return agreement >= 0.99, [
        f"circuit.whole.agreement (all) = {agreement:.4f}, needs >= 0.99",
        f"circuit.whole.loss (all) = {loss:.3g} nats",
    ]


def _clock(e: Evidence) -> tuple[bool, list[str]]:
    _has_an_algorithm(e)
    symmetric, irrelevant = e.number("gradient_symmetricity"), e.number("distance_irrelevance.correct")
    because = [f"gradient_symmetricity = {symmetric:.3f}, needs <= 0.7", f"distance_irrelevance.correct = {irrelevant:.3f}, needs >= 0.6"]
    return symmetric <= 0.7 and irrelevant >= 0.6, because


def _pizza(e: Evidence) -> tuple[bool, list[str]]:
    _has_an_algorithm(e)
    symmetric, irrelevant = e.number("gradient_symmetricity"), e.number("distance_irrelevance.correct")
    because = [f"gradient_symmetricity = {symmetric:.3f}, needs >= 0.9", f"distance_irrelevance.correct = {irrelevant:.3f}, needs <= 0.4"]
    return symmetric >= 0.9 and irrelevant <= 0.4, because


def _phase(wanted: NoisePhase) -> Callable[[Evidence], tuple[bool, list[str]]]:
    def test(e: Evidence) -> tuple[bool, list[str]]:
        found = [("accuracy", "train"), ("clean_accuracy", "test"), ("accuracy", "corrupted"), ("clean_accuracy", "corrupted")]
        numbers = [f"{name} ({part}) = {e.number(name, part=part):.4f}" for name, part in found]
        return e.noise_phase == wanted, [*numbers, f"needs {NEEDS[wanted]}; its phase is {e.noise_phase}"]

    return test


_OF_NOISE: dict[str, Callable[[Evidence], tuple[bool, list[str]]]] = {
    "It has memorised the noise and not generalised (memorisation)": _phase("memorisation"),
    "It has memorised the wrong labels and generalises (coexistence)": _phase("coexistence"),
    "It generalises, and has inverted some of the wrong labels (partial inversion)": _phase("partial inversion"),
    "It generalises, and gives the right answer to every wrong label (full inversion)": _phase("full inversion"),
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
