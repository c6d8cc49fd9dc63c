"""What is carried when two numbers of n digits are added, as probabilities.

Of two digits at one place only the kind of their sum matters to the carry: below nine never carries, nine
carries what came in, above nine always carries. Places are independent of one another, given which of a few
kinds of examples this one is (`Kind`), so all probabilities here are exact sums over a handful of states.
Place 0 is that of the units.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float64, Int
from torch import Tensor

N_CLASSES = 6
"""S0 to S5: of S5 a carry runs through four nines or more."""
BELOW, NINE, ABOVE = range(3)
SUMS = torch.arange(10)[:, None] + torch.arange(10)
"""The sums of all pairs of digits (10, 10)."""
KIND_OF_SUM = torch.where(torch.arange(19) < 9, BELOW, torch.where(torch.arange(19) == 9, NINE, ABOVE))
PAIRS = [(KIND_OF_SUM[SUMS] == kind).nonzero() for kind in (BELOW, NINE, ABOVE)]
"""The pairs of digits of each kind, (45 or 10, 2)."""
UNIFORM = tuple(len(pairs) / 100 for pairs in PAIRS)


@dataclass(frozen=True)
class Kind:
    """Examples whose places are drawn alike.

    Attributes:
        share: of all examples.
        places: the probability that the sum at a place is below nine, nine, above nine.
    """

    share: float
    places: tuple[float, ...]

    def carry(self, place: int) -> float:
        """The probability that something is carried into a place."""
        _, nine, above = self.places
        carry = 0.0
        for _ in range(place):
            carry = above + nine * carry
        return carry


def classes(kinds: Int[Tensor, "n place"]) -> Int[Tensor, "n place_and_total"]:
    """How far a carry has run when it arrives at each place, and behind the last one: 0 where nothing is
    carried, 1 where it was made one place lower, one more for each nine that it ran through, at most 5."""
    run = torch.zeros(len(kinds), dtype=torch.long)
    arriving = [run]
    for kind in kinds.T:
        run = _onward(run, kind)
        arriving.append(run)
    return torch.stack(arriving, dim=1)


def _onward(run: Int[Tensor, "*n"], kind: Int[Tensor, "*n"]) -> Int[Tensor, "*n"]:
    """How far a carry has run one place higher."""
    through = torch.where(run > 0, (run + 1).clamp(max=N_CLASSES - 1), 0)
    return torch.where(kind == ABOVE, 1, torch.where(kind == NINE, through, 0))


def drawn_of_class(
    cls: int, n: int, n_places: int, mixture: Sequence[Kind], generator: torch.Generator
) -> Int[Tensor, "n place"]:
    """The kinds of the sums at every place of n examples of a class, drawn as the mixture draws examples of
    this class. The class must be possible: S0, or of at most so many places."""
    ways = torch.stack([_ways(cls, n_places, kind.places) for kind in mixture])  # [kind, place, run, class]
    shares = torch.tensor([kind.share for kind in mixture], dtype=torch.float64) * ways[:, 0, 0, 0]
    which = torch.multinomial(shares, n, replacement=True, generator=generator)
    places = torch.tensor([kind.places for kind in mixture], dtype=torch.float64)
    run, worst = torch.zeros(n, dtype=torch.long), torch.zeros(n, dtype=torch.long)
    drawn = []
    for place in range(n_places):
        onward = torch.stack([_onward(run, torch.full_like(run, kind)) for kind in range(3)], dim=1)
        worsened = torch.maximum(worst[:, None], onward)
        weights = places[which] * ways[which[:, None], place + 1, onward, worsened]
        kind = torch.multinomial(weights, 1, generator=generator)
        run, worst = onward.gather(1, kind)[:, 0], worsened.gather(1, kind)[:, 0]
        drawn.append(kind[:, 0])
    return torch.stack(drawn, dim=1)


def _ways(cls: int, n_places: int, places: Sequence[float]) -> Float64[Tensor, "place run cls"]:
    """The probability that an example ends in a class, by the place that is reached, how far a carry has run
    there, and the class so far."""
    ways = torch.zeros(n_places + 1, N_CLASSES, N_CLASSES, dtype=torch.float64)
    ways[-1, :, cls] = 1
    run = torch.arange(N_CLASSES)[:, None].expand(-1, N_CLASSES)
    for place in reversed(range(n_places)):
        for kind, probability in enumerate(places):
            onward = _onward(run, torch.full_like(run, kind))
            ways[place] += probability * ways[place + 1, onward, torch.maximum(run.T, onward)]
    return ways


def class_shares(n_places: int, mixture: Sequence[Kind]) -> list[float]:
    """The share of examples of each class."""
    return [
        sum(kind.share * float(_ways(cls, n_places, kind.places)[0, 0, 0]) for kind in mixture)
        for cls in range(N_CLASSES)
    ]


def unknown_digit(place: int, n_places: int, mixture: Sequence[Kind], carries_out: bool = False) -> float:
    """The entropy of the digit at a place of the sum (nats): what is unknown where nothing is known, or only
    what this place carries out. The place n_places is that of the last carry."""
    digits = torch.zeros(2, 10, dtype=torch.float64)
    for kind in mixture:
        carry = kind.carry(place)
        if place == n_places:
            digits[0, :2] += kind.share * torch.tensor([1 - carry, carry], dtype=torch.float64)
            continue
        for pairs, probability in zip(PAIRS, kind.places, strict=True):
            for carried, chance in ((0, 1 - carry), (1, carry)):
                of_kind = (pairs.sum(1) + carried).bincount(minlength=20).double() / len(pairs)
                digits += kind.share * probability * chance * of_kind.view(2, 10)
    known = digits if carries_out else digits.sum(0, keepdim=True)
    return float(torch.special.entr(known).sum() - torch.special.entr(known.sum(1)).sum())


def unknown_carry(
    place: int, n_places: int, mixture: Sequence[Kind], lower: int = 0, carries_out: bool = False
) -> float:
    """The entropy of what is carried into a place (nats), where the digits of that place are known, and
    those of so many places lower.

    Args:
        place: the place; n_places is that of the last carry, which has no digits of its own.
        n_places: the number of digits.
        mixture: how examples are drawn.
        lower: of how many places below the digits are known.
        carries_out: whether it is known, too, what this place carries out.
    """
    own = range(3) if place < n_places else (None,)
    unknown = 0.0
    for kind in own:
        if kind == NINE and carries_out:
            continue  # a nine carries out what it takes in
        chances = [
            each.share * (1.0 if kind is None else each.places[kind]) * each.places[NINE] ** lower
            for each in mixture
        ]
        carried = sum(
            chance * each.carry(place - lower) for chance, each in zip(chances, mixture, strict=True)
        )
        if (total := sum(chances)) > 0:
            unknown += total * entropy_of_yes(carried / total)
    return unknown


def entropy_of_yes(share: float) -> float:
    """The entropy of a yes or no (nats)."""
    return -sum(p * math.log(p) for p in (share, 1 - share) if p > 0)


def levels(
    place: int, n_places: int, mixture: Sequence[Kind], shown_before: bool
) -> Iterator[tuple[str, float]]:
    """What the loss is (nats) for a network that knows so much of an example, in words, from nothing on.

    Args:
        place: the place of the sum that is asked for.
        n_places: the number of digits.
        mixture: how examples are drawn.
        shown_before: whether the network sees the digit one place higher, which tells what is carried into
            that.
    """
    yield "nothing", unknown_digit(place, n_places, mixture)
    if shown_before and place == n_places - 1:
        yield "the leading digit of the sum", unknown_digit(place, n_places, mixture, carries_out=True)
    for lower in range(place == n_places, place):
        known = ["its own two digits"] if place < n_places else []
        known += [f"those of {lower} place{'s' * (lower > 1)} below"] if lower else []
        what = " and ".join(known)
        yield f"{what}, not the carry", unknown_carry(place, n_places, mixture, lower)
        if shown_before and place < n_places:
            carry_out = f"{what} and what they carry out, not the carry in"
            yield carry_out, unknown_carry(place, n_places, mixture, lower, carries_out=True)
