"""A grid of configurations: which keys take which values, and the members that these make.

    training.optimizer=adamw,sgd         these
    training.fraction=0.2:0.8:0.1        from 0.2 to 0.8, both included, in steps of 0.1
    seed=0..7                            whole numbers, both included
    training.lr=1e-4:1e-1:log7           seven, evenly spread on a log axis, both ends included
    training.lr=1e-4:1e-1:lin7           seven, evenly spread
    training.lr=1e-4:1e-1:lograndom      drawn, evenly on a log axis
    training.lr=1e-4:1e-1:random         drawn, evenly

Where both ends are whole numbers all values are. What is drawn is drawn for all such keys together, once for
each of the samples that were asked for, and crossed with what is not; more samples go on with the same ones.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import random
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from ..asked import got
from ..errors import UsageError
from ..training import TrainConfig
from ..training.config import toml_value, toml_values

MOST = 10_000
"""Members that nobody needs to confirm."""
_LONGEST_NAME = 200
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_RANGE = re.compile(rf"\s*({_NUMBER}):({_NUMBER}):(?:({_NUMBER})|(log|lin)(\d+)|(log)?random)\s*", re.ASCII)
_FROM_TO = re.compile(r"\s*(\d+)\.\.(\d+)\s*", re.ASCII)
_SHAPES = "VALUE,VALUE or FIRST:LAST:STEP or FIRST..LAST or FIRST:LAST:log5 (lin5, random, lograndom)"
_PLAIN = re.compile(r"[\w.+-]+", re.ASCII)


@dataclass(frozen=True)
class Drawn:
    """A key whose values are drawn.

    Attributes:
        low, high: between which.
        log: whether evenly on a log axis.
    """

    low: Decimal
    high: Decimal
    log: bool

    def values(self, key: str, n: int, seed: int) -> list[int | float]:
        """The first n values of a key; with four digits, so that a name can say them."""
        draw = random.Random(f"{seed} {key}")
        low, high = float(self.low), float(self.high)
        ends = (math.log(low), math.log(high)) if self.log else (low, high)
        drawn = [draw.uniform(*ends) for _ in range(n)]
        exact = [math.exp(x) if self.log else x for x in drawn]
        if _whole(self.low, self.high):
            return [round(x) for x in exact]
        return [float(f"{x:.4g}") for x in exact]


Values = tuple[Any, ...] | Drawn


def axes_of(grid: Mapping[str, Any]) -> dict[str, Values]:
    """The keys of a grid with the values of each.

    Args:
        grid: for each key a text (as above), or its values one after the other.

    Raises:
        UsageError: a text that is no such, no value, or one that is there twice.
    """
    axes: dict[str, Values] = {}
    for key, wanted in grid.items():
        asked = f"--grid {key}={wanted}" if isinstance(wanted, str) else f"grid: {key}"
        if isinstance(wanted, str):
            values = _values(wanted, asked)
        elif isinstance(wanted, Iterable) and not isinstance(wanted, Mapping | bytes):
            values = tuple(wanted)
        else:
            raise UsageError(f"{asked}: needs text such as '0.2:0.8:0.1', or a list, got {got(wanted)}")
        if not isinstance(values, Drawn):
            if not values:
                raise UsageError(f"{asked}: there are no values; give {_SHAPES}")
            words = Counter(_in_a_name(value) for value in values)
            if twice := [value for value in values if words[_in_a_name(value)] > 1]:
                raise UsageError(f"{asked}: {twice[0]} is there twice")
        axes[key] = values
    return axes


def grid_argument(text: str) -> tuple[str, str]:
    """Key and values of an argument of --grid."""
    key, equals, values = text.partition("=")
    if not equals or not key.strip():
        example = "--grid training.weight_decay=0,0.3,1"
        raise UsageError(f"--grid {text!r}: needs KEY=VALUES, such as {example}")
    return key.strip(), values


def _values(text: str, asked: str) -> Values:
    if (ends := _FROM_TO.fullmatch(text)) is not None:
        first, last = int(ends[1]), int(ends[2])
        _refuse_backwards(first, last, asked)
        _refuse_too_many(last - first + 1, asked)
        return tuple(range(first, last + 1))
    if (found := _RANGE.fullmatch(text)) is not None:
        low, high = Decimal(found[1]), Decimal(found[2])
        _refuse_backwards(low, high, asked)
        if (found[4] == "log" or found[6]) and low <= 0:
            raise UsageError(f"{asked}: a log axis begins above 0, and {found[1]} is not")
        if found[3]:
            return _stepped(low, high, Decimal(found[3]), asked)
        if found[4]:
            return _spread(low, high, int(found[5]), found[4] == "log", asked)
        return Drawn(low, high, log=bool(found[6]))
    if re.search(r"^[^\[{\"']*:[^,]*:", text):
        raise UsageError(f"{asked}: needs {_SHAPES}")
    if (values := toml_values(text)) is not None:
        return tuple(values)
    words = text.split(",")
    if any(not word.strip() for word in words):
        raise UsageError(f"{asked}: there is an empty value; give {_SHAPES}")
    return tuple(toml_value(word.strip()) for word in words)


def _stepped(low: Decimal, high: Decimal, step: Decimal, asked: str) -> tuple[int | float, ...]:
    if step <= 0:
        raise UsageError(f"{asked}: the step has to be above 0")
    n = int((high - low) / step) + 1
    _refuse_too_many(n, asked)
    return tuple(_number(low + i * step, _whole(low, step)) for i in range(n))


def _spread(low: Decimal, high: Decimal, n: int, log: bool, asked: str) -> tuple[int | float, ...]:
    if n < 2:
        raise UsageError(f"{asked}: needs at least two values from {low} to {high}")
    _refuse_too_many(n, asked)
    shares = [Decimal(i) / (n - 1) for i in range(n)]
    exact = [low * (high / low) ** share if log else low + (high - low) * share for share in shares]
    exact = [low, *exact[1:-1], high]
    if _whole(low, high):
        return tuple(dict.fromkeys(round(x) for x in exact))
    return tuple(float(f"{x:.4g}") if low < x < high else float(x) for x in exact)


def _whole(*numbers: Decimal) -> bool:
    """Whether all are written as whole numbers."""
    return all(number.as_tuple().exponent == 0 for number in numbers)


def _number(exact: Decimal, whole: bool) -> int | float:
    return int(exact) if whole else float(exact)


def _refuse_backwards(low: Any, high: Any, asked: str) -> None:
    if high < low:
        raise UsageError(f"{asked}: {high} comes before {low}: turn them round")


def _refuse_too_many(n: int, asked: str) -> None:
    if n > 1_000_000:
        raise UsageError(f"{asked}: these are {n:,} values of one key: take a larger step")


# Members


@dataclass(frozen=True)
class Member:
    """One configuration of a sweep.

    Attributes:
        values: those of the keys of the grid.
        config: what is trained.
    """

    values: Mapping[str, Any]
    config: TrainConfig


def members_of(
    base: TrainConfig, axes: Mapping[str, Values], samples: int | None, draw_seed: int, most: int | None
) -> dict[str, Member]:
    """The members of a grid, by the names of their directories.

    Args:
        base: what they share.
        axes: as `axes_of` gives them.
        samples: how often values are drawn, where a key has such.
        draw_seed: of what is drawn.
        most: how many there may be; None where any number may.

    Raises:
        UsageError: too many; two of one name; no number of samples where some are drawn, or one where none
            is.
        ConfigError: a key or a value that a configuration does not take.
    """
    drawn = {key: values for key, values in axes.items() if isinstance(values, Drawn)}
    fixed = {key: values for key, values in axes.items() if not isinstance(values, Drawn)}
    if drawn and samples is None:
        first = next(iter(drawn))
        raise UsageError(f"{first} is drawn, and nobody said how often: give --samples, such as --samples 20")
    if samples is not None and not drawn:
        example = "training.lr=1e-4:1e-1:lograndom"
        raise UsageError(f"--samples: no key of the grid is drawn; give one such as {example}")
    n = math.prod(map(len, fixed.values())) * (samples or 1)
    if most is not None and n > most:
        what = f"this grid has {n:,} members, and each is a training"
        raise UsageError(f"{what}: give --yes (yes=True) to have more than {most:,}, or fewer values")
    for key, several in fixed.items():  # one bad value is told before all are crossed
        for value in several:
            base.changed(**{key: value})
    draws = {key: one.values(key, samples or 0, draw_seed) for key, one in drawn.items()}
    members: dict[str, Member] = {}
    for values in _crossed(axes, fixed, draws, samples):
        name = name_of(values)
        if name in members:
            what = "the same values were drawn twice; give fewer --samples"
            raise UsageError(f"two members of one name, {name}: {what}")
        members[name] = Member(values, base.changed(**values))
    return members


def _crossed(
    axes: Iterable[str],
    fixed: Mapping[str, Sequence[Any]],
    draws: Mapping[str, Sequence[Any]],
    samples: int | None,
) -> Iterator[dict[str, Any]]:
    for choice in itertools.product(*fixed.values()):
        chosen = dict(zip(fixed, choice, strict=True))
        for i in range(samples or 1):
            values = chosen | {key: column[i] for key, column in draws.items()}
            yield {key: values[key] for key in axes}


def name_of(values: Mapping[str, Any]) -> str:
    """The name of a member's directory: "weight_decay=0.3,fraction=0.4,seed=3"."""
    short = [key.rpartition(".")[2] for key in values]
    names = [s if short.count(s) == 1 else key for s, key in zip(short, values, strict=True)]
    name = ",".join(f"{key}={_in_a_name(value)}" for key, value in zip(names, values.values(), strict=True))
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 12]}...{_digest(name)}"


def _in_a_name(value: Any) -> str:
    """A value as a name can hold it; of what is no word or number the beginning and a hash."""
    match value:
        case None:
            return "none"
        case bool():
            return str(value).lower()
        case float():
            return repr(value).removesuffix(".0")
    text = str(value)
    if _PLAIN.fullmatch(text) and len(text) <= 40:
        return text
    return f"{'_'.join(_PLAIN.findall(text))[:30]}_{_digest(text)}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]
