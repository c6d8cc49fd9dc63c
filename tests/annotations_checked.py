"""Every call in every test is checked against the annotations of what is called, shapes included.

As jaxtyping's own decorator does it, at a fraction of the time: that one binds the arguments of every call in
Python and checks them twice. Here beartype alone checks a function that names no shape, and one that does is
checked by beartype inside one of jaxtyping's contexts, where `n` is the same number in arguments and result.
Importing this module puts it in the place of jaxtyping's, so it comes before the package.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import typing
from collections.abc import Callable
from types import CodeType, FunctionType

import jaxtyping

_of_jaxtyping = jaxtyping.jaxtyped


def jaxtyped(*, typechecker: Callable) -> Callable:
    """The decorator that `--jaxtyping-packages` puts on every function and class."""

    def decorated(one):
        if inspect.isclass(one):
            if dataclasses.is_dataclass(one) and not hasattr(one.__init__, "__wrapped__"):
                one.__init__ = checked(one.__init__, typechecker)
            return one
        return checked(one, typechecker)

    return decorated


def checked(function: Callable, typechecker: Callable) -> Callable:
    if inspect.isgeneratorfunction(function) or inspect.iscoroutinefunction(function):
        return _of_jaxtyping(function, typechecker=typechecker)
    hints, of_shapes = _read(function.__code__, function)
    if not hints:
        return function
    copy = FunctionType(
        function.__code__, function.__globals__, function.__name__, function.__defaults__, function.__closure__
    )
    copy.__kwdefaults__, copy.__annotations__ = function.__kwdefaults__, dict(hints)
    copy.__module__, copy.__qualname__ = function.__module__, function.__qualname__
    strict = typechecker(copy)
    if not of_shapes:
        return functools.update_wrapper(strict, function)

    @functools.wraps(function)
    def in_a_context(*args, **kwargs):
        with _of_jaxtyping("context"):
            return strict(*args, **kwargs)

    return in_a_context


_KNOWN: dict[CodeType, tuple[dict[str, object], bool]] = {}


def _read(code: CodeType, function: Callable) -> tuple[dict[str, object], bool]:
    """What its annotations mean, and whether shapes are among them; once for all functions that one `def`
    makes."""
    if code not in _KNOWN:
        hints = {name: _hint(hint, function) for name, hint in function.__annotations__.items()}
        _KNOWN[code] = hints, any(map(_names_a_shape, hints.values()))
    return _KNOWN[code]


def _hint(hint: object, function: Callable) -> object:
    """Anything goes where a name is known to type checkers alone."""

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
    parts = hint if isinstance(hint, list) else typing.get_args(hint)
    return any(map(_names_a_shape, parts))


jaxtyping.jaxtyped = jaxtyped
