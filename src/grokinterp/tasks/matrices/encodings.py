"""Numbers as tokens, to three significant digits: P10, P1000, B1999 and FP15 of Charton 2022 (arXiv
2112.01898), as they stand in the code of facebookresearch/LAWT, src/envs/encoders.py.

    P10     + 3 1 4 E-2     sign, three digits, exponent of ten of the last digit
    P1000   + 314 E-2       sign, three digits as one token, exponent
    B1999   N314 E-2        sign and digits as one token, exponent
    FP15    N314e7          one token for the number m × 10^(e − 9)

Everywhere a number is m × 10^e with a whole m of three digits; "exponents" means this e, so that FP15, whose
tokens say e + 9, has the exponents −9 to 6 and the others −100 to 100. A vocabulary may be restricted to some
of them. That is a reduction of this package, not of the paper: the 28,999 tokens of the whole FP15 are more
than a small network needs.

What is not taken over. FP15 of LAWT writes what is too large as NaN, and reads that as 10^9: here such a
number is refused, and there is no such token. P10 of LAWT writes zero as "+ 0 E0"; here it is "+ 0 0 0 E0",
so that all numbers are as long.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import torch
from jaxtyping import Bool, Float64, Int
from torch import Tensor

from ...errors import ConfigError, nearest

_NEAR_HALF = 1e-6
"""How near to the middle of two mantissas a product of floats does not say on which side a number is."""


@dataclass(frozen=True)
class Slot:
    """One token of a number.

    Attributes:
        name: what it says of the number.
        first: the first of the token ids that may stand there.
        count: how many there are.
    """

    name: str
    first: int
    count: int


@dataclass(frozen=True)
class NumberEncoding(ABC):
    """One way to write numbers, every number with as many tokens; token i is called `symbols[i]`.

    Attributes:
        low, high: the least and the greatest exponent.
    """

    name: ClassVar[str]
    exponents: ClassVar[tuple[int, int]]
    """All that the encoding has."""
    loses_digits: ClassVar[bool] = False
    """Whether numbers below the range are written with fewer digits."""

    low: int
    high: int

    @property
    @abstractmethod
    def symbols(self) -> tuple[str, ...]:
        """The names of all tokens."""

    @property
    @abstractmethod
    def slots(self) -> tuple[Slot, ...]:
        """The tokens of a number, from the first to the last."""

    @abstractmethod
    def _rounded(
        self, numbers: Float64[Tensor, "*any"]
    ) -> tuple[Int[Tensor, "*any"], Int[Tensor, "*any"], Bool[Tensor, "*any"]]:
        """The mantissa of finite numbers with its sign, the exponent, and whether they can be written."""

    @abstractmethod
    def _split(
        self, mantissa: Int[Tensor, "*any"], exponent: Int[Tensor, "*any"]
    ) -> list[Int[Tensor, "*any"]]:
        """What stands in every slot, each counted from its first token."""

    @abstractmethod
    def _joined(
        self, parts: Sequence[Int[Tensor, "*any"]]
    ) -> tuple[Int[Tensor, "*any"], Int[Tensor, "*any"]]:
        """The mantissa and the exponent of what `_split` gives."""

    def __str__(self) -> str:
        return f"{self.name} with the exponents {self.low} to {self.high}"

    @property
    def width(self) -> int:
        """How many tokens a number has."""
        return len(self.slots)

    @cached_property
    def _firsts(self) -> Int[Tensor, "width"]:
        return torch.tensor([slot.first for slot in self.slots])

    @cached_property
    def _counts(self) -> Int[Tensor, "width"]:
        return torch.tensor([slot.count for slot in self.slots])

    def encode(
        self, numbers: Float64[Tensor, "*any"]
    ) -> tuple[Int[Tensor, "*any width"], Bool[Tensor, "*any"]]:
        """The tokens of numbers, and which of them can be written: a number that is NaN, infinite or beyond
        the exponents is not, and its tokens mean nothing.

        Raises:
            ConfigError: they are no tensor of float64, which holds all digits.
        """
        if not isinstance(numbers, Tensor) or numbers.dtype != torch.float64:
            got = f"one of {numbers.dtype}" if isinstance(numbers, Tensor) else type(numbers).__name__
            raise ConfigError(f"numbers: {self.name} writes those of a tensor of torch.float64, got {got}")
        finite = numbers.isfinite()
        every = finite.all()
        mantissa, exponent, fits = self._rounded(numbers if every else numbers.where(finite, 0.0))
        valid = fits if every else fits & finite
        if not valid.all():
            mantissa, exponent = mantissa * valid, exponent * valid
        return torch.stack(self._split(mantissa, exponent), -1) + self._firsts, valid

    def decode(
        self, tokens: Int[Tensor, "*any width"]
    ) -> tuple[Float64[Tensor, "*any"], Bool[Tensor, "*any"]]:
        """The numbers that tokens say, and which of them are numbers; NaN where a token stands at a place
        that is not its own.

        Raises:
            ConfigError: numbers have more tokens, or fewer.
        """
        if (got := tokens.shape[-1] if tokens.ndim else 0) != self.width:
            raise ConfigError(f"tokens: a number in {self.name} has {self.width} of them, got {got}")
        parts = tokens - self._firsts
        valid = ((parts >= 0) & (parts < self._counts)).all(-1)
        if not valid.all():
            parts = parts * valid[..., None]
        mantissa, exponent = self._joined(parts.unbind(-1))
        return _value(mantissa, exponent).where(valid, math.nan), valid

    def refusal(self, number: float) -> str | None:
        """Why a number cannot be written; None where it can."""
        try:
            finite = math.isfinite(number)
        except (TypeError, OverflowError):
            return f"{self.name} writes one number, got {number!r}"
        if not finite:
            return f"{self.name} writes finite numbers, got {number}"
        if self.encode(torch.tensor(number, dtype=torch.float64))[1]:
            return None
        least = 0.5 * 10.0**self.low if self.loses_digits else 100 * 10.0**self.low
        most = 999 * 10.0**self.high
        return f"{self} writes 0 and numbers of {least:.3g} to {most:.3g} either side of it, got {number:g}"

    def write(self, number: float) -> tuple[str, ...]:
        """The names of the tokens of a number.

        Raises:
            ConfigError: it is no number, or cannot be written.
        """
        if (reason := self.refusal(number)) is not None:
            raise ConfigError(reason)
        tokens, _ = self.encode(torch.tensor(number, dtype=torch.float64))
        return tuple(self.symbols[token] for token in tokens.tolist())

    def parse(self, words: Sequence[str]) -> float | None:
        """The number that the names of tokens say; None where they say none."""
        number_of = {symbol: i for i, symbol in enumerate(self.symbols)}
        tokens = [number_of.get(word, -1) for word in words]
        if len(tokens) != self.width:
            return None
        value, valid = self.decode(torch.tensor(tokens))
        return float(value) if valid else None


@dataclass(frozen=True)
class _WithExponent(NumberEncoding):
    """A mantissa, then an exponent in a token of its own.

    A number is rounded as `"%.2e"` does it; what has an exponent below −100 is zero, as in LAWT.
    """

    exponents = (-100, 100)

    @cached_property
    def _exponents(self) -> list[int]:
        """Those that have a token, in their order; that of zero, which is 0, comes last where it is none of
        them."""
        return [*range(self.low, self.high + 1), *([] if self.low <= 0 <= self.high else [0])]

    @property
    def _exponent_symbols(self) -> tuple[str, ...]:
        return tuple(f"E{exponent}" for exponent in self._exponents)

    def _rounded(
        self, numbers: Float64[Tensor, "*any"]
    ) -> tuple[Int[Tensor, "*any"], Int[Tensor, "*any"], Bool[Tensor, "*any"]]:
        mantissa, exponent = _three_digits(numbers)
        none = (exponent < -100) | (mantissa == 0)
        if none.any():
            mantissa, exponent = mantissa.masked_fill(none, 0), exponent.masked_fill(none, 0)
        fits = (exponent >= self.low) & (exponent <= self.high)
        return mantissa, exponent, fits | none

    def _of_exponent(self, exponent: Int[Tensor, "*any"]) -> Int[Tensor, "*any"]:
        if self.low <= 0 <= self.high:
            return exponent - self.low
        inside = (exponent >= self.low) & (exponent <= self.high)
        return (exponent - self.low).where(inside, len(self._exponents) - 1)

    @cached_property
    def _exponent_of(self) -> Int[Tensor, "exponents"]:
        return torch.tensor(self._exponents)


@dataclass(frozen=True)
class _Positional(_WithExponent):
    """A sign, the mantissa in so many digits of a base, and the exponent."""

    base: ClassVar[int]
    names: ClassVar[tuple[str, ...]]

    @cached_property
    def symbols(self) -> tuple[str, ...]:
        """Signs, digits, exponents."""
        return ("+", "-", *map(str, range(self.base)), *self._exponent_symbols)

    @cached_property
    def slots(self) -> tuple[Slot, ...]:
        """The sign, the digits, the exponent."""
        digits = (Slot(name, 2, self.base) for name in self.names)
        return (Slot("sign", 0, 2), *digits, Slot("exponent", 2 + self.base, len(self._exponents)))

    def _split(
        self, mantissa: Int[Tensor, "*any"], exponent: Int[Tensor, "*any"]
    ) -> list[Int[Tensor, "*any"]]:
        size = mantissa.abs()
        places = range(len(self.names) - 1, -1, -1)
        digits = [size // self.base**place % self.base if place else size % self.base for place in places]
        return [(mantissa < 0).long(), *digits, self._of_exponent(exponent)]

    def _joined(
        self, parts: Sequence[Int[Tensor, "*any"]]
    ) -> tuple[Int[Tensor, "*any"], Int[Tensor, "*any"]]:
        sign, *digits, exponent = parts
        size = digits[0]
        for digit in digits[1:]:
            size = size * self.base + digit
        return size * (1 - 2 * sign), self._exponent_of[exponent]


@dataclass(frozen=True)
class P10(_Positional):
    """A sign, three digits, an exponent: 3.14 is + 3 1 4 E-2."""

    name, base, names = "P10", 10, ("hundreds", "tens", "units")


@dataclass(frozen=True)
class P1000(_Positional):
    """A sign, three digits as one token, an exponent: 3.14 is + 314 E-2."""

    name, base, names = "P1000", 1000, ("digits",)


@dataclass(frozen=True)
class B1999(_WithExponent):
    """A mantissa with its sign, an exponent: 3.14 is N314 E-2. LAWT lists N-1000 and N1000 too, which nothing
    is written with."""

    name = "B1999"

    @cached_property
    def symbols(self) -> tuple[str, ...]:
        """Mantissas, exponents."""
        return (*(f"N{mantissa}" for mantissa in range(-1000, 1001)), *self._exponent_symbols)

    @cached_property
    def slots(self) -> tuple[Slot, ...]:
        """The mantissa, the exponent."""
        return Slot("digits", 0, 2001), Slot("exponent", 2001, len(self._exponents))

    def _split(
        self, mantissa: Int[Tensor, "*any"], exponent: Int[Tensor, "*any"]
    ) -> list[Int[Tensor, "*any"]]:
        return [mantissa + 1000, self._of_exponent(exponent)]

    def _joined(
        self, parts: Sequence[Int[Tensor, "*any"]]
    ) -> tuple[Int[Tensor, "*any"], Int[Tensor, "*any"]]:
        return parts[0] - 1000, self._exponent_of[parts[1]]


@dataclass(frozen=True)
class FP15(NumberEncoding):
    """One token a number: 3.14 is N314e7, that is 314 × 10^7 / 10^9. Tokens are in the order of the numbers.

    Below 100 × 10^low, which is 10^-7 for the whole encoding, a number has the least exponent and fewer
    digits: 1.23 × 10^-8 is N12e0, and what is below half of 10^low is zero. With a greater `low` all of that
    begins earlier: with −3 there are three digits from .1 on, and .0123 is .012.
    """

    name = "FP15"
    exponents = (-9, 6)
    loses_digits = True

    @property
    def _largest(self) -> int:
        """How many numbers above zero there are."""
        return 900 * (self.high - self.low + 1) + 99

    @cached_property
    def symbols(self) -> tuple[str, ...]:
        """All numbers, the least first."""
        ranks = torch.arange(-self._largest, self._largest + 1)
        mantissa, exponent = self._joined([ranks + self._largest])
        exponent = exponent.where(mantissa != 0, -9)
        return tuple(f"N{m}e{e + 9}" for m, e in zip(mantissa.tolist(), exponent.tolist(), strict=True))

    @cached_property
    def slots(self) -> tuple[Slot, ...]:
        """The number."""
        return (Slot("", 0, 2 * self._largest + 1),)

    @cached_property
    def _to_three_digits(self) -> Float64[Tensor, "exponents"]:
        """What a number × 10^7 is multiplied with at every exponent from `low` to one more than `high`."""
        powers = [float(10 ** (2 - 9 - exponent)) for exponent in range(self.low, self.high + 2)]
        return torch.tensor(powers, dtype=torch.float64)

    def _rounded(
        self, numbers: Float64[Tensor, "*any"]
    ) -> tuple[Int[Tensor, "*any"], Int[Tensor, "*any"], Bool[Tensor, "*any"]]:
        size = numbers.abs() * 1e7
        above = (size.log10().trunc() - 9 - self.low).clamp(0, self.high - self.low + 1).long()
        mantissa = (size * self._to_three_digits[above] + 0.5).clamp(max=1000).long()
        over = mantissa >= 1000
        mantissa, above = mantissa.masked_fill(over, 100), above + over
        return mantissa * numbers.sign().long(), above + self.low, above <= self.high - self.low

    def _split(
        self, mantissa: Int[Tensor, "*any"], exponent: Int[Tensor, "*any"]
    ) -> list[Int[Tensor, "*any"]]:
        sign = mantissa.sign()
        return [mantissa + sign * 900 * (exponent - self.low) + self._largest]

    def _joined(
        self, parts: Sequence[Int[Tensor, "*any"]]
    ) -> tuple[Int[Tensor, "*any"], Int[Tensor, "*any"]]:
        rank = parts[0] - self._largest
        above = ((rank.abs() - 100) // 900).clamp(min=0)
        return rank - rank.sign() * 900 * above, above + self.low


ENCODINGS: dict[str, type[NumberEncoding]] = {each.name: each for each in (P10, P1000, B1999, FP15)}


def number_encoding(name: str, exponents: tuple[int, int] | None = None, at: str = "") -> NumberEncoding:
    """The encoding of that name, with all its exponents or with a range of them.

    Args:
        at: the key of a configuration that asks for it, for messages; its exponents stand under
            `at.replace("encoding", "exponents")`.

    Raises:
        ConfigError: there is no such encoding (the nearest is named), or it has no such exponents.
    """
    under = f"{at}: " * bool(at)
    if name not in ENCODINGS:
        raise ConfigError(f"{under}unknown encoding {name!r}{nearest(name, ENCODINGS)}")
    kind = ENCODINGS[name]
    least, greatest = kind.exponents
    low, high = kind.exponents if exponents is None else exponents
    if not least <= low <= high <= greatest:
        raise ConfigError(
            f"{under.replace('encoding', 'exponents')}{name} has the exponents {least} to {greatest}, got "
            f"{low} to {high}"
        )
    return kind(low, high)


def _three_digits(numbers: Float64[Tensor, "*any"]) -> tuple[Int[Tensor, "*any"], Int[Tensor, "*any"]]:
    """The mantissa (three digits, with its sign) and the exponent of the last of them, rounded as `"%.2e"`
    does it; numbers below 10^-99 or above 10^103 are given the exponents −101 and 101."""
    size = numbers.abs()
    exponent = size.log10().floor().clamp(-99, 103).long() - 2
    scaled = size * _POWERS[101 - exponent]
    mantissa = scaled.round()
    if (unsure := (scaled - scaled.floor() - 0.5).abs() < _NEAR_HALF).any():
        written = [f"{number:.2e}".replace(".", "").split("e") for number in size[unsure].tolist()]
        of_three = torch.tensor([[int(m), int(e) - 2] for m, e in written])
        inside = (of_three[:, 1] >= -101) & (of_three[:, 1] <= 101)
        mantissa[unsure] = of_three[:, 0].double().where(inside, mantissa[unsure])
        exponent[unsure] = of_three[:, 1].where(inside, exponent[unsure])
    over = mantissa >= 1000
    mantissa = mantissa.masked_fill(over, 100).long()
    return mantissa * numbers.sign().long(), exponent + over


_POWERS = torch.tensor([float(f"1e{power}") for power in range(-101, 102)], dtype=torch.float64)
"""Entry i is 10^(i − 101)."""
_TENS = torch.tensor([float(10**power) for power in range(110)], dtype=torch.float64)


def _value(mantissa: Int[Tensor, "*any"], exponent: Int[Tensor, "*any"]) -> Float64[Tensor, "*any"]:
    """mantissa × 10^exponent, rounded once where that is within 10^±22: the float that Python reads."""
    below = exponent < 0
    power = _TENS[exponent.abs()]
    return (mantissa / power).where(below, mantissa * power)
