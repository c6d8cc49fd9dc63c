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
    """A sentence, its verdict, and what speaks for it.

    Attributes:
        figure: the title of the panel or the section of a report that shows it; "" where none does.
        step: the step of training that matters to it.
    """

    claim: str
    verdict: Verdict
    evidence: list[str]
    figure: str = ""
    step: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return {"claim": self.claim, "verdict": self.verdict, "evidence": self.evidence}


@dataclass(frozen=True)
class Claimed(OfTasks):
    """A sentence that may be claimed of the networks of a family of tasks, and what decides it."""

    where: Callable[[Any], bool]
    figure: str
    moment: str
    decide: Decide

    def step(self, a: Analysis) -> int:
        """The step of training that matters to it."""
        found = {boundary.name: boundary.by for boundary in a.phases.boundaries}
        if self.moment in ("train", "test"):
            found[self.moment] = a.reached(self.moment).by or a.step
        return found.get(self.moment, a.step)


CLAIMS: OfFamilies[Claimed] = OfFamilies("claim")


def claim(
    sentence: str, *, of: type[Task] = Task, where: Callable[[Any], bool] = lambda a: True,
    figure: str = "", moment: str = "",
) -> Callable[[Decide], Decide]:  # fmt: skip
    """Registers what decides a claim: a function of an `Analysis` that says whether the claim holds, with the
    numbers in words (`needs`), and raises NotApplicable where it cannot be tested.

    Args:
        sentence: what is claimed; {examples} in it is what the task calls its examples.
        of: the family of tasks about which it is.
        where: of which of their analyses it is asked at all.
        figure: the title of the panel, or else of the section, of a report that shows what decides it.
        moment: when it came to be: "train" or "test", when these examples were learned, or the name of a
            boundary between phases; by default, and where that was not found, the analysed step.

    Raises:
        ValueError: another claim about this family has this sentence.
    """
    return CLAIMS.registering(partial(Claimed, sentence, of, where, figure, moment))


def decided(a: Analysis) -> list[Claim]:
    """Every claim that is asked of a network, with its verdict."""
    task, claims = a.run.task, []
    for asked in CLAIMS.applying_to(task.families):
        if not asked.where(a):
            continue
        sentence = asked.name.replace("{examples}", task.examples_are)
        verdict: Verdict
        try:
            holds, evidence = asked.decide(a)
            verdict = "supported" if holds else "refuted"
        except NotApplicable as reason:
            verdict, evidence = "not tested", [str(reason)]
        claims.append(Claim(sentence, verdict, evidence, asked.figure, asked.step(a)))
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


_generalises = partial(claim, figure="Accuracy", moment="test")


@_generalises("It generalises to {examples} that it was not trained on", where=lambda a: not a.standing.fresh)
@_generalises(
    "It has learned the task, as far as its evaluation sample tells", where=lambda a: a.standing.fresh
)
def generalises(a: Analysis) -> Decision:
    """Whether the network is right on nearly all examples that it was not trained on."""
    name, share = a.accuracy("test")
    if share >= a.standing.level and a.standing.state != "generalises":
        raise NotApplicable(a.standing.words)
    return a.standing.state == "generalises", [needs(name, share, ">=", a.standing.level, ".4f")[1]]


@claim(
    "It has only memorised its training examples", where=lambda a: not (a.noisy or a.standing.fresh),
    figure="Accuracy", moment="train",
)  # fmt: skip
def memorised(a: Analysis) -> Decision:
    """Whether the network is better than chance on its training examples alone."""
    (name, share), test = a.accuracy("train"), a.accuracy("test")
    if a.standing.state == "not known":
        raise NotApplicable(a.standing.words)
    evidence = [f"{name} = {share:.4f}", "{} = {:.4f}".format(*test), a.standing.words]
    return a.standing.state == "memorises", evidence


SPREAD = "attention.variance: largest standard deviation over inputs, of any head"


@claim("Attention depends on the input", figure="Attention")
def attention_by_input(a: Analysis) -> Decision:
    """Whether some head attends to other positions for other examples."""
    spread = float(a.measured("attention.variance").max()) ** 0.5
    return all_of(
        needs("attention.variance: largest standard deviation over inputs, of any head", spread, ">=", 0.1)
    )
