"""Claims about how a network computes an operation, each with the measures and the thresholds that decide it.

    claim                     supported where                                      source of the threshold
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
    waves fitted to every     the fitted circuit gives the network's answer to     ours
    part do what it does      >= 0.99 of all pairs
    it is a clock             gradient symmetricity <= 0.7, distance irrelevance   Zhong et al. 2023: 0.33 and
                              (correct) >= 0.6                                     0.85
    it is a pizza             gradient symmetricity >= 0.9, distance irrelevance   Zhong et al. 2023: 0.99 and
                              (correct) <= 0.4                                     0.17

Where labels are noisy, the test accuracies of the claims about any task are of the right answers, a network
generalises from 0.9 (Doshi et al. 2024 print 0.983 for one that has memorised wrong labels as well), and a
claim for each of their phases takes the place of "only memorised": `measures.noise_phase` says which numbers
decide them.

Between clock and pizza lie networks that are neither: over the fleet of Zhong et al. gradient symmetricity
falls from 0.99 with constant attention to 0.45 with full attention, and distance irrelevance (of the top
wrong logit) rises from 0.29 to 0.82.

Sufficient, necessary, fitted waves, clock and pizza are asked wherever there is something to ask: of networks
that do better than chance on unseen examples, and of those that do not generalise yet where the rules agree
on key frequencies; the evidence then says which share is right. Sufficient and necessary are asked only where
at most half of the frequencies are keys, as a projection that leaves out little tells nothing. Where it is
not known which examples were trained on, all of them stand for the training and for the test examples.
"""

from __future__ import annotations

import math
from functools import partial

from ...errors import NotApplicable
from ...measures.noise import NEEDS, NoisePhase
from ...tasks import Operation
from ..claims import SPREAD, Decision, all_of, claim, needs
from .analysis import (
    CLOCK,
    CLOCK_IS,
    NECESSARY,
    PIZZA,
    PIZZA_IS,
    SINGLE_FREQUENCY,
    SUFFICIENT,
    OperationAnalysis,
    has_frequencies,
)  # fmt: skip

claim_of_waves = partial(claim, of=Operation, where=has_frequencies)
"""A claim about operations whose elements stand on a circle."""


@claim_of_waves("The embedding is sparse in the Fourier basis", figure="Spectrum of W_E", moment="cleaned up")
def _sparse_embedding(a: OperationAnalysis) -> Decision:
    share, keys = a.number("key_share.W_E"), len(a.keys_used) / a.n_frequencies if a.n_frequencies else 1.0
    return all_of(
        needs("key_share.W_E", share, ">=", 0.75),
        needs("share of frequencies that are keys", keys, "<=", 0.5),
        also=[f"gini.W_E = {a.number('gini.W_E'):.3f}"],
    )


@claim_of_waves(SINGLE_FREQUENCY, figure="Explained variance", moment="circuit formed")
def _single_frequency(a: OperationAnalysis) -> Decision:
    name = "neuron.single_frequency_share"
    return all_of(needs(name, a.number(name), ">=", 0.75))


@claim_of_waves(
    "Logits are sums of cos w(c* − c), c* the right answer",
    figure="Cosines in the logits",
    moment="circuit formed",
)
def _cosine_logits(a: OperationAnalysis) -> Decision:
    return all_of(needs("logit_fve.centred", a.number("logit_fve.centred"), ">=", 0.9))


@claim_of_waves(SUFFICIENT, figure="Restricted and excluded loss", moment="circuit formed")
def _sufficient(a: OperationAnalysis) -> Decision:
    asked = _asked_of(a)
    _has_few_keys(a)
    restricted, loss = a.number("restricted_loss.logit_dirs", part="all"), a.loss_on_circle["all"]
    ratio = restricted / loss if loss else math.inf
    return all_of(
        needs("restricted_loss.logit_dirs / loss (all)", ratio, "<=", 2.0, ".3g"),
        also=[f"restricted_loss.logit_dirs (all) = {restricted:.3g} nats, loss = {loss:.3g} nats", *asked],
    )


@claim_of_waves(NECESSARY, figure="Loss without one frequency", moment="circuit formed")
def _necessary(a: OperationAnalysis) -> Decision:
    asked = _asked_of(a)
    _has_few_keys(a)
    part = a.part("train")
    rise = a.number("excluded_loss.logit_dirs", part=part) - a.loss_on_circle[part]
    n, chance = a.run.task.n_answers, math.log(a.run.task.n_answers)
    rose = f"excluded_loss.logit_dirs − loss ({part}) = {rise:.3g} nats, ln {n} = {chance:.3g} nats is chance"
    return all_of(
        needs(f"(excluded_loss.logit_dirs − loss) / ln {n} ({part})", rise / chance, ">=", 0.5, ".3g"),
        also=[rose, *asked],
    )


def _asked_of(a: OperationAnalysis) -> list[str]:
    """Of which share of the examples it is asked how they are computed; nothing where the network
    generalises.

    Raises:
        NotApplicable: the network does no better than chance on unseen examples, or stands on no frequencies:
            there is nothing to ask.
    """
    part = a.part("test")
    whole = a.on_circle.shares["all"].n == a.standing.shares["all"].n
    nothing = "there is no algorithm to ask this of"
    if not a.on_circle.better_than_chance(part):
        of = "" if whole else "of the pairs that the frequencies are about, "
        raise NotApplicable(f"{nothing}: {of}{a.on_circle.words}")
    if not a.keys_used and a.on_circle.state != "generalises":
        why = a.skipped.get("restricted_loss.logit_dirs", "there are no key frequencies")
        raise NotApplicable(f"{nothing}: {why}")
    right = a.on_circle.shares[part]
    if right.right >= a.on_circle.level:
        return []
    of = "examples" if whole else "pairs that the frequencies are about"
    which = "unseen" if part == "test" else "all"
    return [f"asked of a network that is right on {right} of {which} {of}"]


def _has_few_keys(a: OperationAnalysis) -> None:
    if 2 * len(a.keys_used) > a.n_frequencies:
        many = f"{len(a.keys_used)} of {a.n_frequencies} frequencies are keys"
        raise NotApplicable(f"{many}: with so many left in, a projection tells nothing")


@claim("Attention is uniform over a and b, whatever they are", of=Operation, figure="Attention")
def _uniform_attention(a: OperationAnalysis) -> Decision:
    mean, spread = a.measured("attention.mean"), float(a.measured("attention.variance").max()) ** 0.5
    words = {str(label).partition(": ")[2]: label for label in mean.coords["pos"].values}
    between = float(abs(mean.sel(pos=words["a"]) - mean.sel(pos=words["b"])).max())
    return all_of(
        needs("attention.mean: largest difference between a and b", between, "<=", 0.1),
        needs(SPREAD, spread, "<", 0.05),
    )


@claim_of_waves("Waves of the key frequencies, fitted to every part, do what it does", figure="Fitted waves")
def _fitted_circuit(a: OperationAnalysis) -> Decision:
    asked = _asked_of(a)
    agreement, loss = (a.number(f"circuit.whole.{name}", part="all") for name in ("agreement", "loss"))
    return all_of(
        needs("circuit.whole.agreement (all)", agreement, ">=", 0.99, ".4f"),
        also=[f"circuit.whole.loss (all) = {loss:.3g} nats", *asked],
    )


@claim_of_waves(CLOCK, figure="Clock or pizza")
def _clock(a: OperationAnalysis) -> Decision:
    asked = _asked_of(a)
    return all_of(
        needs("gradient_symmetricity", a.number("gradient_symmetricity"), "<=", CLOCK_IS[0]),
        needs("distance_irrelevance.correct", a.number("distance_irrelevance.correct"), ">=", CLOCK_IS[1]),
        also=asked,
    )


@claim_of_waves(PIZZA, figure="Clock or pizza")
def _pizza(a: OperationAnalysis) -> Decision:
    asked = _asked_of(a)
    return all_of(
        needs("gradient_symmetricity", a.number("gradient_symmetricity"), ">=", PIZZA_IS[0]),
        needs("distance_irrelevance.correct", a.number("distance_irrelevance.correct"), "<=", PIZZA_IS[1]),
        also=asked,
    )


_PHASES: dict[NoisePhase, str] = {
    "memorisation": "It has memorised the noise and not generalised (memorisation)",
    "coexistence": "It has memorised the wrong labels and generalises (coexistence)",
    "partial inversion": "It generalises, and has inverted some of the wrong labels (partial inversion)",
    "full inversion": "It generalises, and gives the right answer to every wrong label (full inversion)",
    "forgetting": "It has forgotten what it had learned (forgetting)",
}


_DECIDING = (
    ("accuracy", "train"),
    ("clean_accuracy", "test"),
    ("accuracy", "corrupted"),
    ("clean_accuracy", "corrupted"),
)


def _is_in(wanted: NoisePhase, a: OperationAnalysis) -> Decision:
    numbers = [f"{name} ({part}) = {a.number(name, part=part):.4f}" for name, part in _DECIDING]
    return a.noise_phase == wanted, [*numbers, f"needs {NEEDS[wanted]}; its phase is {a.noise_phase}"]


for phase, sentence in _PHASES.items():
    claim(sentence, of=Operation, where=lambda a: a.noisy, figure="Accuracy")(partial(_is_in, phase))
