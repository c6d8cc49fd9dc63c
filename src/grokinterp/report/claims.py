"""Claims about a network, each with the measures and the thresholds that decide it. Here stand those about
any task; a family of tasks brings its own.

    claim                     supported where                                      source of the threshold
    it generalises            right on >= 99 % of the test examples                Power et al. 2022
                              (`measures.standing`)
    it has only memorised     training examples better than chance, test           ours
                              examples not (`measures.standing`)
    attention depends on      some head varies over inputs by >= 0.1 (std)         ours; a mean without its
    the input                                                                      variance is no mechanism

Of examples that are drawn anew for every update nobody asks whether they were memorised, and the first claim
is of the evaluation sample, which has a name of its own for that: the network has learned the task.

A claim whose measures do not apply is "not tested", with the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from ..errors import NotApplicable
from ..registry import OfFamilies, OfTasks
from ..tasks import Task

if TYPE_CHECKING:
    from .analysis import Analysis

Verdict = Literal["supported", "refuted", "not tested"]
Decision: TypeAlias = tuple[bool, list[str]]
"""Whether a claim holds, and the numbers that say so."""
Decide: TypeAlias = Callable[[Any], Decision]
"""What decides a claim, of an `Analysis`."""


@dataclass(frozen=True)
class Claim:
    """A sentence, its verdict, and what speaks for it."""

    claim: str
    verdict: Verdict
    evidence: list[str]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return {"claim": self.claim, "verdict": self.verdict, "evidence": self.evidence}


@dataclass(frozen=True)
class Claimed(OfTasks):
    """A sentence that may be claimed of the networks of a family of tasks, and what decides it."""

    where: Callable[[Any], bool]
    decide: Decide


CLAIMS: OfFamilies[Claimed] = OfFamilies("claim")


def claim(
    sentence: str, *, of: type[Task] = Task, where: Callable[[Any], bool] = lambda a: True
) -> Callable[[Decide], Decide]:
    """Registers what decides a claim: a function of an `Analysis` that says whether the claim holds, with the
    numbers in words (`needs`), and raises NotApplicable where it cannot be tested.

    Args:
        sentence: what is claimed; {examples} in it is what the task calls its examples.
        of: the family of tasks about which it is.
        where: of which of their analyses it is asked at all.

    Raises:
        ValueError: another claim about this family has this sentence.
    """
    return CLAIMS.registering(partial(Claimed, sentence, of, where))


def decided(a: Analysis) -> list[Claim]:
    """Every claim that is asked of a network, with its verdict."""
    task, claims = a.run.task, []
    for asked in CLAIMS.applying_to(task.families):
        if not asked.where(a):
            continue
        sentence = asked.name.replace("{examples}", task.examples_are)
        try:
            holds, evidence = asked.decide(a)
            claims.append(Claim(sentence, "supported" if holds else "refuted", evidence))
        except NotApplicable as reason:
            claims.append(Claim(sentence, "not tested", [str(reason)]))
    return claims


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


def all_of(*conditions: tuple[bool, str], also: Sequence[str] = ()) -> Decision:
    """Whether every condition holds, with all of them in words."""
    return all(holds for holds, _ in conditions), [*(words for _, words in conditions), *also]


@claim("It generalises to {examples} that it was not trained on", where=lambda a: not a.standing.fresh)
@claim("It has learned the task, as far as its evaluation sample tells", where=lambda a: a.standing.fresh)
def generalises(a: Analysis) -> Decision:
    """Whether the network is right on nearly all examples that it was not trained on."""
    name, share = a.accuracy("test")
    if share >= a.standing.level and a.standing.state != "generalises":
        raise NotApplicable(a.standing.words)
    return a.standing.state == "generalises", [needs(name, share, ">=", a.standing.level, ".4f")[1]]


@claim("It has only memorised its training examples", where=lambda a: not (a.noisy or a.standing.fresh))
def memorised(a: Analysis) -> Decision:
    """Whether the network is better than chance on its training examples alone."""
    (name, share), test = a.accuracy("train"), a.accuracy("test")
    if a.standing.state == "not known":
        raise NotApplicable(a.standing.words)
    evidence = [f"{name} = {share:.4f}", "{} = {:.4f}".format(*test), a.standing.words]
    return a.standing.state == "memorises", evidence


@claim("Attention depends on the input")
def attention_by_input(a: Analysis) -> Decision:
    """Whether some head attends to other positions for other examples."""
    spread = float(a.measured("attention.variance").max()) ** 0.5
    return all_of(needs("largest standard deviation over inputs, of any head", spread, ">=", 0.1))
