"""Where things stand in a foreign file, and its account: each tensor and list of numbers is used, or left out
with a reason. Knows nothing of networks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from ..foreign import KeyOfUnread, Record, name_of_unread, shown
from .values import SCALARS, is_numbers, scalar, words

Place = tuple[Any, ...]
"""The keys and numbers in lists that lead to a value from the top of the file."""
_MOST_ENTRIES = 24
_MOST_NAMED, _MOST_PLACES = 6, 300
"""Places that are named in a sentence, and that are kept."""
_NOT_TRAINED = "and an imported run is not trained on"
_REASONS = (
    ({"optim", "optimizer", "optimiser", "opt"}, f"the state of an optimiser, {_NOT_TRAINED}"),
    ({"scheduler", "sched"}, f"the state of a schedule, {_NOT_TRAINED}"),
    ({"rng", "random", "generator"}, f"the state of random numbers, {_NOT_TRAINED}"),
    ({"grad", "grads", "gradient", "gradients"}, "gradients, which are no weights"),
    ({"config", "cfg", "args", "hparams", "settings", "params"}, "settings that nothing here depends on"),
)
_UNKNOWN = "by its name no network of this layout, and no steps, losses, accuracies or training set either"


def shown_place(place: Place) -> str:
    """A place as it is to be printed, whatever a stranger called it."""
    return ".".join(shown(key, 40) for key in place) or "the file itself"


def children(value: Any) -> Iterable[tuple[Any, Any]]:
    """What a value consists of, one level down, with the keys that lead there."""
    return enumerate(value) if isinstance(value, list | tuple) else entries(value).items()


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
        is_number = isinstance(content, list | tuple) and part.isdecimal() and len(part) < 16
        key = int(part) if is_number else part
        if key not in (range(len(content)) if is_number else entries(content)):
            return None
        place.append(key)
        content = content[key] if is_number else entries(content)[key]
    return tuple(place)


def places_of(content: Any, paths: Iterable[str]) -> list[Place]:
    """The places that dotted paths lead to, without those that lead to nothing."""
    return [place for path in paths if (place := place_of(content, path)) is not None]


def counted(value: Any) -> tuple[int, int]:
    """How many tensors are in a value, and how many lists of numbers; a table of numbers is one list."""
    if isinstance(value, Tensor):
        return 1, 0
    if is_numbers(value):
        return 0, 1
    tensors = lists = 0
    for _, child in children(value):
        if not isinstance(child, SCALARS) and not isinstance(child, str):
            more = counted(child)
            tensors, lists = tensors + more[0], lists + more[1]
    return tensors, lists


def objects_in(content: Any) -> Iterator[tuple[Place, str]]:
    """Where objects stand that were left unread, and the names of their classes."""
    for key, child in children(content):
        if isinstance(key, KeyOfUnread):
            yield (), f"{key.dotted} as a key"
        if (dotted := name_of_unread(child)) is not None:
            yield (key,), dotted
        elif not isinstance(child, (Tensor, str, *SCALARS)):
            yield from (((key, *place), name) for place, name in objects_in(child))


def _records_in(content: Any) -> Iterator[tuple[Place, str]]:
    """Where objects stand of which the fields were read, those in others left out, and the names of their
    classes."""
    for key, child in children(content):
        if isinstance(child, Record):
            yield (key,), child.name
        elif not isinstance(child, (Tensor, str, *SCALARS)):
            yield from (((key, *place), name) for place, name in _records_in(child))


def of_objects(contents: Mapping[str, Any]) -> Iterator[str]:
    """Sentences on the objects in files, by name, that were left unread, or of which the fields alone were
    read, if there are any."""
    if unread := _named(contents, objects_in):
        what = "an object" if len(unread) == 1 else "objects"
        yield f"left unread: {_few(unread)}: {what}, no code of which was run"
    if records := _named(contents, _records_in):
        yield f"read as data alone, as no code of a file is run: {_few(records)}"


def _named(contents: Mapping[str, Any], look: Callable[[Any], Iterator[tuple[Place, str]]]) -> list[str]:
    """What is found in several files, each with its place; what is in each of them once."""
    of: dict[str, list[str]] = {}
    for file, content in contents.items():
        for place, name in look(content):
            of.setdefault(f"{shown_place(place)} ({shown(name)})", []).append(file)
    if len(contents) == 1:
        return list(of)
    return [
        f"{one} of each file" if len({*files}) == len(contents) else f"{shown(files[0])}: {one}"
        for one, files in of.items()
    ]


def _few(named: Sequence[str]) -> str:
    more = f" and {len(named) - _MOST_NAMED:,} more" if len(named) > _MOST_NAMED else ""
    return f"{', '.join(named[:_MOST_NAMED])}{more}"


@dataclass
class LeftOut:
    """What was not used for one reason: where it stands, and how many tensors and lists of numbers it is."""

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
        """What stands there is left out; `called` says where that is, if the place says too little."""
        self._said[place] = reason, called or shown_place(place)

    def left_out(self) -> list[LeftOut]:
        """All that was not used, by reason, at most a few dozen entries."""
        columns: dict[Place, dict[str, Any]] = {}
        for place, said in self._said.items():
            if place[-2:-1] == ("*",):
                columns.setdefault(place[:-2], {})[place[-1]] = said
        above = {place[:depth] for place in self._said for depth in range(len(place))}
        by_reason: dict[str, LeftOut] = {}
        for place, said, value in self._groups(self._content, (), above, columns, ()):
            tensors, lists = counted(value)
            if tensors or lists:
                reason, called = said or (_reason(place), shown_place(place))
                if reason not in by_reason and len(by_reason) >= _MOST_ENTRIES:
                    reason = "for other reasons, of which there are too many to name"
                by_reason.setdefault(reason, LeftOut(reason)).add(called, tensors, lists)
        return list(by_reason.values())

    def _groups(
        self, value: Any, place: Place, above: set[Place], columns: Mapping[Place, dict[str, Any]], said: Any
    ) -> Iterator[tuple[Place, Any, Any]]:
        """Values that were not used, as high up as possible, with what was said of them, if anything."""
        said = self._said.get(place, said)
        if place in columns:
            rows = value.values() if isinstance(value, Mapping) else value
            cells = (cell for row in rows for cell in row.items())
            for name in dict.fromkeys(name for name, item in cells if scalar(item) is not None):
                if (of_column := columns[place].get(name, said)) is not None:
                    yield (*place, "*", name), of_column, [0]
        elif place in above:
            for key, child in children(value):
                yield from self._groups(child, (*place, key), above, columns, said)
        elif said is not None:
            yield place, said, value


def of_several_files(left_out: Mapping[str, Iterable[LeftOut]]) -> list[LeftOut]:
    """What was left out of several files, by name: as of one, places behind the names of their files; where a
    place is left out of each, it is named once."""
    by_reason: dict[str, LeftOut] = {}
    for one in (one for several in left_out.values() for one in several):
        whole = by_reason.setdefault(one.reason, LeftOut(one.reason))
        whole.tensors, whole.lists = whole.tensors + one.tensors, whole.lists + one.lists
    for reason, whole in by_reason.items():
        of = {
            file: {*one.places}
            for file, several in left_out.items()
            for one in several
            if one.reason == reason
        }
        in_each = set.intersection(*of.values()) if len(of) == len(left_out) else set()
        whole.places |= {f"{place} of each file" for place in in_each}
        whole.places |= {f"{shown(file)}: {at}" for file, places in of.items() for at in places - in_each}
    return list(by_reason.values())


def _reason(place: Place) -> str:
    its_words = {word for key in place for word in words(key)}
    return next((reason for names, reason in _REASONS if its_words & names), _UNKNOWN)
