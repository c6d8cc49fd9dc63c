"""sweep.json: what belongs to a sweep, and what has come of each member. What it says is what is so: a
directory that it does not name is no member, whatever lies there.

It is sealed, and replaced as a whole. A member that ended after it was last written is found to have ended by
its own run.json.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ..errors import ConfigError
from ..runs.files import UNSEALED, damaged, replace, sealed
from ..runs.swept import FILE, FORMAT, read_manifest
from ..training import TrainConfig, differences
from ..training.config import flat
from .grid import Member

How = Literal["finished", "diverged", "failed"]
_FIRST = 3
"""Differing keys that an error names."""


@dataclass(frozen=True)
class Ended:
    """How a member ended.

    Attributes:
        how: "finished"; "diverged", which the same training would again; or "failed", which is tried again.
        step: updates done, where that is known.
        why: the reason, in words.
    """

    how: How
    step: int | None
    why: str

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return {"how": self.how, "step": self.step, "why": self.why}


class Manifest:
    """The members of a sweep, in the order in which they came to it.

    Attributes:
        path: of the sweep's directory.
        base: the configuration that they share.
        keys: those of the grid.
        values: of these keys, for each member by the name of its directory.
        ended: of those that have.
    """

    def __init__(self, path: Path, base: TrainConfig, keys: tuple[str, ...]) -> None:
        self.path, self.base, self.keys = path, base, keys
        self.values: dict[str, Mapping[str, Any]] = {}
        self.ended: dict[str, Ended] = {}

    @classmethod
    def read(cls, path: Path) -> Manifest:
        """What lies in a directory.

        Raises:
            NotARun: no sweep does.
            DamagedFile: its sweep.json is not as it was written.
        """
        record = read_manifest(path)
        try:
            self = cls(path, TrainConfig.make(record["base"]), tuple(record["keys"]))
            for name, member in record["members"].items():
                self.values[name] = dict(zip(self.keys, member["values"], strict=True))
                if (ended := member.get("ended")) is not None:
                    self.ended[name] = Ended(**ended)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise damaged(path / FILE, f"it is not what a sweep writes ({error})") from None
        return self

    @classmethod
    def grown(cls, path: Path, base: TrainConfig, members: Mapping[str, Member]) -> Manifest:
        """What lies in a directory, or a new one where nothing does, with these members.

        Raises:
            DamagedFile: as for `read`.
            ConfigError: as for `grow`.
        """
        if (path / FILE).exists():
            self = cls.read(path)
        else:
            self = cls(path, base, tuple(next(iter(members.values())).values))
        self.grow(base, members)
        return self

    def write(self) -> None:
        """Replaces sweep.json."""
        members = {
            name: {"values": list(values.values())}
            | ({"ended": self.ended[name].to_dict()} if name in self.ended else {})
            for name, values in self.values.items()
        }
        base = self.base.model_dump(mode="json", exclude_none=True)
        record = {"format": FORMAT, "seal": UNSEALED, "base": base, "keys": list(self.keys)}
        text = json.dumps(record | {"members": members}, indent=1, ensure_ascii=False, allow_nan=False)
        replace(self.path / FILE, sealed(f"{text}\n".encode()))

    @property
    def members(self) -> dict[str, Member]:
        """The values and the configuration of each."""
        return {name: Member(self.values[name], config) for name, config in self.configs({}).items()}

    def configs(self, known: Mapping[str, Member]) -> dict[str, TrainConfig]:
        """The configuration of each member; of those that are known it is not made again."""
        return {
            name: known[name].config if name in known else self.base.changed(**values)
            for name, values in self.values.items()
        }

    @property
    def left(self) -> list[str]:
        """Those that have not ended, or failed."""
        return [name for name in self.values if name not in self.ended or self.ended[name].how == "failed"]

    def grow(self, base: TrainConfig, members: Mapping[str, Member]) -> None:
        """Takes more members of the same grid.

        Raises:
            ConfigError: it is another grid, or shares another configuration; which keys differ is named.
        """
        keys = tuple(next(iter(members.values())).values) if members else self.keys
        if set(keys) != set(self.keys):
            there, here = (", ".join(each) for each in (self.keys, keys))
            what = f"{self.path} holds a sweep over {there}, and this one is over {here}"
            raise ConfigError(f"{what}: a sweep grows by more values of its keys; choose another directory")
        if odd := [key for key in differences(self.base, base) if key not in self.keys]:
            a, b = (flat(each.model_dump(mode="json")) for each in (self.base, base))
            told = "; ".join(f"{key} is {a.get(key)} there and {b.get(key)} here" for key in odd[:_FIRST])
            more = f" (and {len(odd) - _FIRST} more)" if len(odd) > _FIRST else ""
            what = f"{self.path} holds a sweep of another configuration: {told}{more}"
            raise ConfigError(f"{what}; choose another directory, or that configuration")
        for name, member in members.items():
            self.values.setdefault(name, {key: member.values[key] for key in self.keys})
