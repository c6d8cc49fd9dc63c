"""Where things stand in a foreign file, and its account: each tensor and list of numbers is used, or left out
with a reason.

Knows nothing of networks: names are words, numbers are numbers.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from ..foreign import Record, shown

Place = tuple[Any, ...]
"""The keys and numbers in lists that lead to a value from the top of the file."""
MOST_STEPS = 10**15
"""Whole numbers beyond it are no steps."""

STEP = ("epoch", "step", "iteration", "iter", "update")
"""Words for a number of updates."""
STEP_WORDS = frozenset({*STEP, *(f"{word}s" for word in STEP), "ep", "it"})
_FILE_WORDS = frozenset(
    {"e", "t", "pt", "pth", "ckpt", "checkpoint", "snapshot", "at", "after", "safetensors"}
)
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_MOST_ENTRIES = 24
_MOST_NAMED, _MOST_PLACES = 6, 300
"""Places that are named in a sentence, and that are kept."""
_SCALARS = (int, float, bool, type(None))
_REASONS = (
    (
        {"optim", "optimizer", "optimiser", "opt"},
        "the state of an optimiser, and an imported run is not trained on",
    ),
    ({"scheduler", "sched"}, "the state of a schedule, and an imported run is not trained on"),
    ({"rng", "random", "generator"}, "the state of random numbers, and an imported run is not trained on"),
    ({"grad", "grads", "gradient", "gradients"}, "gradients, which are no weights"),
    ({"config", "cfg", "args", "hparams", "settings", "params"}, "settings that nothing here depends on"),
)
_UNKNOWN = "by its name no network of this layout, and no steps, losses, accuracies or training set either"


def shown_place(place: Place) -> str:
    """A place as it is to be printed, whatever a stranger called it."""
    return ".".join(shown(key, 40) for key in place) or "the file itself"


def children(value: Any) -> Iterable[tuple[Any, Any]]:
    """What a value consists of, one level down, with the keys that lead there."""
    if isinstance(value, Record):
        return value.fields.items()
    if isinstance(value, Mapping):
        return value.items()
    return enumerate(value) if isinstance(value, list | tuple) else ()


def entries(value: Any) -> Mapping[Any, Any]:
    """The entries of a dict or a record; of anything else none."""
    return value.fields if isinstance(value, Record) else value if isinstance(value, Mapping) else {}


def along(content: Any, place: Place) -> list[Any]:
    """The values from the top to a place, both included."""
    values = [content]
    for key in place:
        inside = values[-1]
        values.append(inside[key] if isinstance(inside, list | tuple) else entries(inside)[key])
    return values


def place_of(content: Any, path: str) -> Place | None:
    """The place that a dotted path leads to; None where it leads to nothing. "." is the top."""
    place: list[Any] = []
    for part in path.split(".") if path != "." else ():
        if part in entries(content):
            key: Any = part
            content = entries(content)[part]
        elif (
            isinstance(content, list | tuple)
            and part.isdecimal()
            and len(part) < 16
            and int(part) < len(content)
        ):
            key = int(part)
            content = content[key]
        else:
            return None
        place.append(key)
    return tuple(place)


def vocabulary(text: str) -> frozenset[str]:
    """The words of a text."""
    return frozenset(text.split())


@functools.lru_cache(4096)
def words(key: Any) -> tuple[str, ...]:
    """The words of a name, in small letters, numbers apart: `trainLosses_100.pt` is train losses 100 pt."""
    text = " ".join(map(str, key)) if isinstance(key, tuple) else str(key)
    return tuple(word.lower() for word in _WORD.findall(text[:200]))


def whole(value: Any) -> int | None:
    """A number of steps: whole, from 0 on, also where it is a float, a tensor of one number or digits; else
    None."""
    is_digits = isinstance(value, str) and value.isdecimal() and len(value) <= 15
    number = int(value) if is_digits else scalar(value)
    if number is None or not 0 <= number < MOST_STEPS or number != int(number):
        return None
    return int(number)


def scalar(value: Any) -> int | float | None:
    """A number, also where it is a tensor of one; else None."""
    if isinstance(value, Tensor) and value.numel() == 1:
        value = value.item()
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def distinct(values: Iterable[Any]) -> list[int] | None:
    """The values as steps, no two the same, in their order; None where they are none."""
    steps: list[int] = []
    for value in values:
        if (step := whole(value)) is None:
            return None
        steps.append(step)
    return steps if steps and len({*steps}) == len(steps) else None


def increasing(values: Iterable[Any]) -> list[int] | None:
    """The values as steps, each later than the one before; None where they are none."""
    steps = distinct(values)
    return steps if steps == sorted(steps or ()) else None


def listed(value: Any) -> Sequence[Any] | None:
    """What stands in a row: the items of a list, or of a tensor of one dimension; else None."""
    if isinstance(value, Tensor):
        items: list[Any] | None = value.tolist() if value.dim() == 1 else None
        return items
    return value if isinstance(value, list | tuple) else None


def length(value: Any) -> int | None:
    """How many items `listed` would give; None where it gives none."""
    if isinstance(value, Tensor):
        return len(value) if value.dim() == 1 else None
    return len(value) if isinstance(value, list | tuple) else None


def counted(value: Any) -> tuple[int, int]:
    """How many tensors are in a value, and how many lists of numbers; a table of numbers is one list."""
    if isinstance(value, Tensor):
        return 1, 0
    if is_numbers(value):
        return 0, 1
    tensors = lists = 0
    for _, child in children(value):
        if not isinstance(child, _SCALARS) and not isinstance(child, str):
            more = counted(child)
            tensors, lists = tensors + more[0], lists + more[1]
    return tensors, lists


def is_numbers(value: Any) -> bool:
    """Whether this is a list or set of numbers, rows of numbers, or a dict with a number for each of some
    steps."""
    if isinstance(value, Mapping):
        return bool(value) and all(
            step_in(key) is not None and isinstance(item, _SCALARS) for key, item in value.items()
        )
    if not isinstance(value, list | tuple | set) or all(item is None for item in value):
        return False
    return all(isinstance(item, _SCALARS) for item in value) or all(_is_row(item) for item in value)


def _is_row(value: Any) -> bool:
    """A row of a table: numbers, or numbers by name, beside which there may be texts."""
    if isinstance(value, Mapping):
        items = [item for item in value.values() if not isinstance(item, str)]
    else:
        items = list(value) if isinstance(value, list | tuple) else []
    return all(isinstance(item, _SCALARS) for item in items) and any(item is not None for item in items)


def step_in(key: Any, also: Set[str] = frozenset()) -> int | None:
    """The step that a key of a dict names, as 100, "100", "epoch_100" and "step-100.pt" do; else None.

    Beside the number there may be words for steps and files, and those in `also`.
    """
    if not isinstance(key, str | tuple):
        return whole(key)
    parts = words(key)
    numbers = [word for word in parts if word.isdecimal()]
    if (
        len(numbers) != 1
        or len(numbers[0]) > 15
        or not {*parts} - {*numbers} <= STEP_WORDS | _FILE_WORDS | also
    ):
        return None
    return whole(int(numbers[0]))


@dataclass
class LeftOut:
    """What was not used for one reason.

    Attributes:
        places: where it stands.
        tensors, lists: how many tensors and lists of numbers.
    """

    reason: str
    places: set[str] = field(default_factory=set)
    tensors: int = 0
    lists: int = 0

    def add(self, place: str, tensors: int, lists: int) -> None:
        self.places.add(place)
        self.tensors += tensors
        self.lists += lists

    @property
    def record(self) -> dict[str, Any]:
        """As it is kept: the places, of very many the first, and how many more there are."""
        named = sorted(self.places)[:_MOST_PLACES]
        counts = {"more": len(self.places) - len(named), "tensors": self.tensors, "lists": self.lists}
        return {"places": named, **counts, "reason": self.reason}

    def __str__(self) -> str:
        kinds = (self.tensors, "tensor", ""), (self.lists, "list", " of numbers")
        count = " and ".join(f"{n:,} {what}{'s' * (n != 1)}{of}" for n, what, of in kinds if n)
        named = sorted(self.places)[:_MOST_NAMED]
        more = f" and {len(self.places) - len(named):,} more" if len(self.places) > len(named) else ""
        return f"left out: {', '.join(named)}{more} ({count}): {self.reason}"


class Account:
    """What was used of a file, and why the rest was not.

    A place may end with "*" and a name: a column of rows that have numbers by name.
    """

    def __init__(self, content: Any) -> None:
        self._content = content
        self._said: dict[Place, tuple[str, str] | None] = {}

    def use(self, *places: Place) -> None:
        """What stands there was used, but for what was said of the places below."""
        self._said |= dict.fromkeys(places)

    def leave(self, place: Place, reason: str, called: str | None = None) -> None:
        """What stands there is left out; `called` says where that is, where the place itself says too
        little."""
        self._said[place] = reason, called or shown_place(place)

    def left_out(self) -> list[LeftOut]:
        """All that was not used, by reason, at most a few dozen entries."""
        columns: dict[Place, dict[str, Any]] = {}
        for place, said in self._said.items():
            if place[-2:-1] == ("*",):
                columns.setdefault(place[:-2], {})[place[-1]] = said
        above = {place[:depth] for place in self._said for depth in range(len(place))}
        found: dict[str, LeftOut] = {}
        for place, said, value in self._groups(self._content, (), above, columns, ()):
            tensors, lists = counted(value)
            if tensors or lists:
                reason, called = said or (_reason(place), shown_place(place))
                if reason not in found and len(found) >= _MOST_ENTRIES:
                    reason = "for other reasons, of which there are too many to name"
                found.setdefault(reason, LeftOut(reason)).add(called, tensors, lists)
        return list(found.values())

    def _groups(
        self,
        value: Any,
        place: Place,
        above: set[Place],
        columns: Mapping[Place, Mapping[str, Any]],
        said: Any,
    ) -> Iterator[tuple[Place, Any, Any]]:
        """Values of which nothing was used, as high up as possible, with what was said of them; ()
        where nothing was."""
        said = self._said.get(place, said)
        if place in columns:
            rows = value.values() if isinstance(value, Mapping) else value
            for name in dict.fromkeys(
                name for row in rows for name, item in row.items() if scalar(item) is not None
            ):
                if (of_column := columns[place].get(name, said)) is not None:
                    yield (*place, "*", name), of_column, [0]
        elif place in above:
            for key, child in children(value):
                yield from self._groups(child, (*place, key), above, columns, said)
        elif said is not None:
            yield place, said, value


def _reason(place: Place) -> str:
    known = {word for key in place for word in words(key)}
    return next((reason for names, reason in _REASONS if known & names), _UNKNOWN)
