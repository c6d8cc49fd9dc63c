"""The base of every configuration: frozen, unknown keys refused with the nearest name, errors in one line.

Each configuration sits beside what it configures; only their common manners are here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from .errors import ConfigError, nearest


class Frozen(BaseModel):
    """A value that is checked when it is made and never changes."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True)


C = TypeVar("C", bound=BaseModel)


def checked(cls: type[C], values: Mapping[str, Any], at: str = "") -> C:
    """`cls(**values)`, or a ConfigError of one line that names the first wrong key (under the dotted prefix `at`).

    A parameter of the wrong type, an unknown key (the nearest known one is named) and a value out of range all end here.
    """
    if not all(isinstance(key, str) for key in values):
        odd = next(key for key in values if not isinstance(key, str))
        raise ConfigError(f"configuration keys are strings, got {odd!r}")
    try:
        return cls.model_validate(dict(values))
    except ValidationError as error:
        raise ConfigError(_one_line(cls, error, at)) from None


def _one_line(cls: type[BaseModel], error: ValidationError, at: str) -> str:
    first = error.errors(include_url=False)[0]
    path = [str(part) for part in first["loc"]]
    dotted = ".".join(([at] if at else []) + path)
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    if first["type"] == "extra_forbidden":
        known = _keys_at(cls, path[:-1])
        return f"unknown key {dotted!r}{nearest(path[-1], known)}{more}"
    if first["type"] == "missing":
        return f"{dotted}: is required{more}"
    message = first["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
    message = message[0].lower() + message[1:]
    if isinstance(first["input"], Mapping):  # a check across several keys, whose message already says what it found
        return f"{dotted + ': ' if dotted else ''}{message}{more}"
    found = repr(first["input"])
    found = found if len(found) <= 60 else found[:57] + "..."
    return f"{dotted + ': ' if dotted else ''}{message}, got {found}{more}"


def _keys_at(cls: type[BaseModel], path: list[str]) -> Iterator[str]:
    """The keys that the model inside `cls` at `path` knows."""
    for part in path:
        field = cls.model_fields.get(part)
        inner = [t for t in (field.annotation, *get_args(field.annotation)) if isinstance(t, type)] if field else []
        models = [t for t in inner if issubclass(t, BaseModel)]
        if not models:
            return iter(())
        cls = models[0]
    return iter(cls.model_fields)
