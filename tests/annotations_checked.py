"""Every call in every test is checked against the annotations of what is called, shapes included.

As jaxtyping's own decorator does it, at a fraction of the time: that one binds the arguments of every call in
Python, checks them twice, and writes its checks anew each time that a function within a function is made.
Here beartype alone checks a function that names no shape, and one that does is checked by beartype inside one
of jaxtyping's contexts, where `n` is the same number in arguments and result. Importing this module puts it
in the place of jaxtyping's, so it comes before the package.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import typing
from collections.abc import Callable, Hashable
from types import CellType, FunctionType

import jaxtyping

_of_jaxtyping = jaxtyping.jaxtyped


def jaxtyped(*, typechecker: Callable) -> Callable:
    """The decorator that `--jaxtyping-packages` puts on every function and class."""

    def decorated(one):
        if not inspect.isclass(one):
            return checked(one, typechecker)
        if dataclasses.is_dataclass(one) and not hasattr(one.__init__, "__wrapped__"):
            one.__init__ = checked(one.__init__, typechecker)
        return one

    return decorated


jaxtyping.jaxtyped = jaxtyped

_WRITTEN: dict[Hashable, tuple[FunctionType, bool]] = {}
"""Of each `def`: its checks around one function, and whether they are of shapes."""


def checked(function: FunctionType, typechecker: Callable) -> FunctionType:
    if inspect.isgeneratorfunction(function) or inspect.iscoroutinefunction(function):
        return _of_jaxtyping(function, typechecker=typechecker)
    code, annotations = function.__code__, function.__annotations__
    key = code, function.__module__, function.__qualname__, tuple(annotations.items())
    if key not in _WRITTEN:
        hints = {name: _meaning(hint, function) for name, hint in annotations.items()}
        _WRITTEN[key] = typechecker(_model(function, hints)), any(map(_names_a_shape, hints.values()))
    checks, of_shapes = _WRITTEN[key]
    if checks.__code__ == code:  # there is nothing to check
        return function
    strict = _copy(checks, checks.__closure__)
    strict.__kwdefaults__ = {
        name: function if getattr(value, "__code__", None) == code else value
        for name, value in checks.__kwdefaults__.items()
    }
    if not of_shapes:
        return functools.update_wrapper(strict, function)

    @functools.wraps(function)
    def in_a_context(*args, **kwargs):
        with _of_jaxtyping("context"):
            return strict(*args, **kwargs)

    return in_a_context


def _copy(function: FunctionType, closure: tuple[CellType, ...] | None) -> FunctionType:
    return FunctionType(
        function.__code__, function.__globals__, function.__name__, function.__defaults__, closure
    )


def _model(function: FunctionType, hints: dict[str, object]) -> FunctionType:
    """What checks are written for: it has the signature, and holds on to nothing of one call's."""
    model = _copy(function, function.__closure__ and tuple(CellType() for _ in function.__closure__))
    model.__kwdefaults__, model.__annotations__ = function.__kwdefaults__, hints
    model.__module__, model.__qualname__ = function.__module__, function.__qualname__
    return model


def _meaning(hint: object, function: FunctionType) -> object:
    """Anything goes where a name is there for mypy alone."""

    def holder(value):
        pass

    holder.__annotations__ = {"value": hint}
    try:
        return typing.get_type_hints(holder, function.__globals__, include_extras=True)["value"]
    except Exception:
        return typing.Any


def _names_a_shape(hint: object) -> bool:
    if inspect.isclass(hint) and issubclass(hint, jaxtyping.AbstractArray):
        return True
    return any(map(_names_a_shape, hint if isinstance(hint, list) else typing.get_args(hint)))
