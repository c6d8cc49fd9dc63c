"""The base of every configuration: frozen, unknown keys refused with the nearest name, errors in one line.

Each configuration sits beside what it configures; only their common manners are here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from .asked import got
from .errors import ConfigError, UsageError, nearest


class Frozen(BaseModel):
    """A value that is checked when it is made and never changes."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True)
    yes_or_no: ClassVar[frozenset[str]] = frozenset()
    """The keys that take True and False; elsewhere pydantic would read them as 1 and 0."""

    @field_validator("*", mode="before")
    @classmethod
    def _yes_is_no_number(cls, value: object, info: Any) -> object:
        if isinstance(value, bool) and info.field_name not in cls.yes_or_no:
            raise ValueError("takes no yes or no")
        return value


C = TypeVar("C", bound=BaseModel)


def checked(cls: type[C], values: Mapping[Any, Any], at: str = "") -> C:
    """`cls(**values)`, or a ConfigError of one line that names the first wrong key (under the prefix `at`).

    A parameter of the wrong type, an unknown key (the nearest known one is named) and a value out of range
    all end here.
    """
    if not all(isinstance(key, str) for key in values):
        odd = next(key for key in values if not isinstance(key, str))
        raise ConfigError(f"configuration keys are strings, got {got(odd)}")
    with in_one_line(cls, at):
        return cls.model_validate(dict(values))


@contextmanager
def in_one_line(cls: type[BaseModel], at: str = "") -> Iterator[None]:
    """Makes a ConfigError of one line of what is wrong with the values of a configuration."""
    try:
        yield
    except ValidationError as error:
        raise ConfigError(_one_line(cls, error, at)) from None


def text_of(path: str | Path, what: str) -> str:
    """The text of a file of TOML, in UTF-8 or, as PowerShell writes it, in UTF-16; a byte order mark is none
    of it.

    Raises:
        UsageError: it cannot be read; `what` says what it was to be.
    """
    try:
        data = Path(path).read_bytes()
        # The encodings of JSON are told apart by their zeros, and TOML begins with a letter as well.
        return data.decode(json.detect_encoding(data)).removeprefix("\ufeff")
    except (OSError, ValueError) as error:  # no text in UTF-8, or no path at all
        why = getattr(error, "strerror", None) or error
        raise UsageError(f"cannot read the {what} {path}: {why}") from None


def for_kind(cls: type[BaseModel], section: Mapping[str, Any]) -> dict[str, Any]:
    """Those keys of a section of another kind, but for `kind`, that `cls` takes with these values too."""

    def takes(key: str) -> bool:
        try:
            checked(cls, {key: section[key]})
        except ConfigError:
            return False
        return True

    return {key: item for key, item in section.items() if key != "kind" and takes(key)}


def _one_line(cls: type[BaseModel], error: ValidationError, at: str) -> str:
    # A default that could not be made is no mistake of its own.
    mistakes = [one for one in error.errors(include_url=False) if one["type"] != "default_factory_not_called"]
    first = mistakes[0]
    path = [str(part) for part in first["loc"]]
    dotted = ".".join(([at] if at else []) + path)
    more = f" (and {len(mistakes) - 1} more)" if len(mistakes) > 1 else ""
    if first["type"] == "extra_forbidden":
        keys = _keys_at(cls, path[:-1])
        return f"unknown key {dotted!r}{nearest(path[-1], keys)}{more}"
    if first["type"] == "missing":
        return f"{dotted}: is required{more}"
    message = first["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
    message = message[0].lower() + message[1:]
    # The message of a check across several keys already says what it found.
    is_of_several = isinstance(first["input"], (Mapping, BaseModel))
    got = "" if is_of_several else f", got {_shown(first['input'])}"
    if first["input"] is None:
        got += ": it cannot be left empty"
    return f"{dotted + ': ' if dotted else ''}{message}{got}{more}"


def _shown(value: object) -> str:
    """The value as Python writes it, or its type where that is too much to write."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # an integer of thousands of digits, a list inside itself
        text = f"a {type(value).__name__}"
    return text if len(text) <= 60 else text[:57] + "..."


def _keys_at(cls: type[BaseModel], path: list[str]) -> Iterator[str]:
    """The keys that the model inside `cls` at `path` knows."""
    for part in path:
        annotation = cls.model_fields[part].annotation if part in cls.model_fields else None
        types = [one for one in (annotation, *get_args(annotation)) if isinstance(one, type)]
        models = [one for one in types if issubclass(one, BaseModel)]
        if not models:
            return iter(())
        cls = models[0]
    return iter(cls.model_fields)
