"""torch's own defaults, whatever a user has set: what this package makes lies on the CPU and is float32 where
nothing else is said, and neither a run nor a number may depend on `torch.set_default_device` or
`torch.set_default_dtype`."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar, cast

Function = TypeVar("Function", bound=Callable[..., Any])


@contextmanager
def usual_defaults() -> Iterator[None]:
    """New tensors are on the CPU, and in float32; afterwards as the user has it. Around a function it is a
    decorator; not around what yields, whose caller would see it."""
    if _are_usual():
        yield
        return
    import torch

    with ExitStack() as undo:
        undo.enter_context(torch.device("cpu"))
        undo.callback(torch.set_default_dtype, torch.get_default_dtype())
        torch.set_default_dtype(torch.float32)
        yield


def _are_usual() -> bool:
    """Whether new tensors are on the CPU and in float32 as it is; so they are before torch is loaded. Asked
    first, because torch goes through Python for every tensor inside of `torch.device`."""
    if "torch" not in sys.modules:
        return True
    import torch

    try:
        made = torch.empty(0)
    except (RuntimeError, AssertionError, NotImplementedError):  # a device that is not there
        return False
    return made.is_cpu and made.dtype == torch.float32


def at_usual_defaults(cls: type[Any]) -> None:
    """Puts `usual_defaults` around all that is public of what a class itself defines: methods, and what is
    computed when it is asked for. What `asks` is around has it already."""
    for name, one in list(vars(cls).items()):
        if name.startswith("_") or hasattr(getattr(one, "__func__", one), "is_asked"):
            continue
        if inspect.isfunction(one):
            setattr(cls, name, _at_usual(one))
        elif isinstance(one, classmethod | staticmethod):
            setattr(cls, name, type(one)(_at_usual(one.__func__)))
        elif isinstance(one, property):
            setattr(cls, name, property(one.fget and _at_usual(one.fget), one.fset, one.fdel, one.__doc__))
        elif isinstance(one, functools.cached_property):
            one.func = _at_usual(one.func)


def _at_usual(function: Function) -> Function:
    if inspect.isgeneratorfunction(function):
        return function

    @functools.wraps(function)
    def at_usual(*args: Any, **options: Any) -> Any:
        if _are_usual():
            return function(*args, **options)
        with usual_defaults():
            return function(*args, **options)

    return cast("Function", at_usual)
