"""What wraps a network in a file: prefixes of its keys, and the names that torch puts between them.

`torch.compile` saves `_orig_mod.blocks.0...`, DataParallel `module.blocks.0...`, a module that holds the
network as `self.model` `model.blocks.0...`, and these are nested. A prefix is found by the keys of a layout
that follow it, not by a list of names. Knows nothing of steps.
"""

from __future__ import annotations

import functools
import itertools
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from torch import Tensor

from ..foreign import shown
from .values import vocabulary, words

_WRAPPERS = {"_orig_mod", "module", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
"""Modules that torch puts around others, also around a part of a network."""
_ALIKE = 0.75
"""A prefix before so many of the keys that the commonest one has is that of another network."""
_NO_WEIGHTS = vocabulary("criterion criteria loss losses metric metrics")
"""What modules are called that people keep beside a network and that compute nothing of what it answers."""
_COUNT = "n_averaged"
"""The count that torch's AveragedModel keeps beside the network."""
_MOST_LONG = 200
"""Characters of a key in which its prefix is looked for."""


@dataclass(frozen=True, eq=False)
class Unwrapped:
    """A network's tensors without what wraps it.

    Attributes:
        state: the tensors by name, without prefix and wrappers.
        keys: the names in the file of these.
        prefix: what they begin with there, wrappers left out.
        wrappers: the wrappers that were left out, each once.
        outside: names in the file's dict that do not begin with a network's prefix, or have not its wrappers.
        beside: names that do, or where it has none, of what is no weight by its name or its type.
    """

    state: Mapping[str, Tensor]
    keys: Mapping[str, str] = field(default_factory=dict)
    prefix: str = ""
    wrappers: tuple[str, ...] = ()
    outside: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()

    @property
    def is_average(self) -> bool:
        """Whether it is torch's AveragedModel, which counts what it is the average of."""
        return _COUNT in (*self.outside, *self.beside)

    def key(self, name: str) -> str:
        """What a tensor is called in the file."""
        return self.keys.get(name, name)

    def sentence(self) -> str | None:
        """What was taken off, if anything was."""
        said = [f"begin with {shown(self.prefix)!r}"] if self.prefix else []
        said += [f"have {' and '.join(map(repr, self.wrappers))} in them"] if self.wrappers else []
        if not said:
            return None
        does = "does not, and was" if len(self.outside) == 1 else "do not, and were"
        rest = f"; {len(self.outside)} beside them {does} left out" if self.outside else ""
        return f"the keys of its state dict {' and '.join(said)}, which was taken off{rest}"


def unwrapped(
    state: Mapping[str, Tensor], patterns: Sequence[re.Pattern[str]], prefix: str | None = None
) -> list[Unwrapped]:
    """The networks in a dict of tensors, by the keys that a layout knows: one, or one for each prefix before
    which as many of these stand.

    A key that begins with none of the prefixes is outside; where a network has no prefix it is one of its
    keys, unless all that the layout knows have wrappers in front that it has not, or it is of a loss, a
    metric or a count.

    Args:
        prefix: the only one that there is to be; by default any is.
    """
    # Groups of one name may not stand in it twice.
    texts = (re.sub(r"\?P<\w+>", "?:", pattern.pattern) for pattern in patterns)
    known = re.compile("|".join(f"(?:{text})" for text in texts))
    return [
        _without_others(state, Unwrapped({}, keys, its, wrappers, outside), known)
        for its, keys, wrappers, outside in _split(tuple(state), known, prefix)
    ]


def _without_others(state: Mapping[str, Tensor], network: Unwrapped, known: re.Pattern[str]) -> Unwrapped:
    """The network without what is none of its weights."""

    def is_other(name: str, key: str) -> bool:
        is_count = state[key].numel() == 1 and not state[key].is_floating_point()
        return (is_count or bool({*words(name.partition(".")[0])} & _NO_WEIGHTS)) and not known.fullmatch(
            name
        )

    others = {name: key for name, key in network.keys.items() if is_other(name, key)}
    if len(others) == len(network.keys):
        others = {}
    keys = {name: key for name, key in network.keys.items() if name not in others}
    tensors = {name: state[key] for name, key in keys.items()}
    return replace(network, state=tensors, keys=keys, beside=tuple(others.values()))


_Parts = list[tuple[str, dict[str, str], tuple[str, ...], tuple[str, ...]]]


@functools.lru_cache(256)
def _split(keys: tuple[str, ...], known: re.Pattern[str], prefix: str | None) -> _Parts:
    """Prefix, keys by name, wrappers, and what is outside, of each network. Snapshots have the same keys."""
    as_they_are: _Parts = [("", {key: key for key in keys}, (), ())]
    raw = sum(known.fullmatch(key) is not None for key in keys)
    if raw == len(keys) and not prefix:
        return as_they_are
    plain = {key: _plain(key) for key in keys}
    if len({*plain.values()}) < len(plain):
        plain = {key: key for key in keys}
    before = Counter[str]()
    for name in plain.values():
        before.update(_prefixes(name, known))
    most = max(before.values(), default=0)
    prefixes = (
        [_plain(prefix)]
        if prefix is not None
        else [one for one, count in before.items() if most and count >= _ALIKE * most]
    )
    is_plain = plain == {key: key for key in keys}
    if not prefixes or (prefix is None and is_plain and prefixes == [""]):
        return as_they_are
    of_each: dict[str, dict[str, str]] = {one: {} for one in prefixes}
    outside = []
    for key, name in plain.items():
        its = max((one for one in prefixes if name.startswith(one)), key=len, default=None)
        if its is None:
            outside.append(key)
        else:
            of_each[its][name[len(its) :]] = key
    for its_keys in of_each.values():
        unlike = _without_its_wrappers(its_keys, known)
        outside += [its_keys.pop(name) for name in unlike]
    return [
        (one, its_keys, tuple(sorted({*itertools.chain(*map(_wrappers, its_keys.values()))})), tuple(outside))
        for one, its_keys in of_each.items()
    ]


def _without_its_wrappers(keys: Mapping[str, str], known: re.Pattern[str]) -> list[str]:
    """The names of those keys that have not in front what those of the layout all have: `criterion.weight`
    beside `_orig_mod.embed.W_E`."""
    of_layout = [key.split(".") for name, key in keys.items() if known.fullmatch(name)]
    front: list[str] = []
    for parts in zip(*of_layout, strict=False):
        if len({*parts}) > 1:
            break
        front.append(parts[0])
    while front and front[-1] not in _WRAPPERS:
        front.pop()
    return [name for name, key in keys.items() if key.split(".")[: len(front)] != front]


def _prefixes(name: str, known: re.Pattern[str]) -> set[str]:
    """All that could be the prefix of a name, so that the rest is a key of the layout."""
    ends = range(min(len(name), _MOST_LONG))
    return {name[:end] for end in ends if known.fullmatch(name, end)}


def _plain(key: str) -> str:
    parts = key[:_MOST_LONG].split(".")
    return ".".join(part for part in parts if part not in _WRAPPERS) + key[_MOST_LONG:]


def _wrappers(key: str) -> set[str]:
    return {part for part in key[:_MOST_LONG].split(".") if part in _WRAPPERS}
