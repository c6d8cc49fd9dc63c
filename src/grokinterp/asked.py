"""What the arguments of public functions must be. A wrong one is an error of one line that says what was
asked, what was given, and what to do with that."""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from .errors import UsageError

Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True)
class Kind:
    """A kind of argument.

    Attributes:
        words: what is needed, behind "needs".
        holds: whether something is of this kind.
        is_thing: whether it is no plain value: what else people have at hand is told what takes it.
    """

    words: str
    holds: Callable[[Any], bool]
    is_thing: bool = False


def is_whole(given: object) -> bool:
    """Whether it is a whole number, of Python, NumPy or torch; yes and no are none."""
    whole = hasattr(given, "__index__") and not isinstance(given, bool)
    return whole and getattr(given, "ndim", 0) == 0


def is_network(given: object) -> bool:
    """Whether it is a network with hooks, each of which does something."""
    there = hasattr(given, "hook_dict") and hasattr(given, "named_parameters")
    return there and not isinstance(given, type) and not is_a(given, "TransformerBridge")


def is_a(given: object, name: str) -> bool:
    """Whether it is of a class of that name, which is not imported to find out."""
    return any(of.__name__ == name for of in type(given).__mro__)


def _are_weights(given: object) -> bool:
    """Whether it holds tensors by their names."""
    return isinstance(given, Mapping) and hasattr(next(iter(given.values()), None), "detach")


def _are(holds: Callable[[Any], bool]) -> Callable[[Any], bool]:
    """Whether something holds several that are of a kind, and can be gone through again."""
    return lambda given: (
        isinstance(given, Iterable)
        and not isinstance(given, str | bytes | Mapping)
        and iter(given) is not given
        and getattr(given, "ndim", 1) == 1
        and all(map(holds, given))
    )


PATH = Kind("a path, as text or pathlib.Path", lambda given: isinstance(given, str | os.PathLike))
PATHS = Kind("a path, or a list of them", lambda given: PATH.holds(given) or _are(PATH.holds)(given))
RUN = Kind("a run, or its directory", lambda given: PATH.holds(given) or is_a(given, "Run"), is_thing=True)
SHOWN = Kind("a run, or the path of a run, a checkpoint or a folder", RUN.holds, is_thing=True)
NAME = Kind("a name, as text", lambda given: isinstance(given, str))
NAMES = Kind(
    "a list of names, such as ['loss', 'gini.W_E']",
    lambda given: isinstance(given, str) or _are(NAME.holds)(given),
)
STEP = Kind("a whole number, such as 1000, or -1 for the last", is_whole)
STEPS = Kind(
    "a list of whole numbers, such as [0, 1000, -1]", lambda given: _are(is_whole)(given) and len(given) > 0
)
SEEDS = Kind(
    "text such as '0..7' or '0,3', or a list of whole numbers",
    lambda given: isinstance(given, str | range) or _are(lambda seed: True)(given),
)
CONFIG = Kind(
    "a TrainConfig, which gi.TrainConfig.preset('quick') or gi.TrainConfig.from_toml(text) makes",
    lambda given: is_a(given, "TrainConfig"),
    is_thing=True,
)
DATASET = Kind("a Dataset, which gi.replay(run) gives", lambda given: is_a(given, "Dataset"), is_thing=True)
SECTION = Kind(
    "a task, its name, or a section [task] such as {'name': 'modular_addition', 'p': 113}",
    lambda given: (isinstance(given, str | Mapping) and not _are_weights(given)) or is_a(given, "Task"),
)
TASK = Kind("a task, which gi.make_task(name, ...) makes", lambda given: is_a(given, "Task"), is_thing=True)
NETWORK = Kind("a hooked network, such as a HookedTransformer", is_network, is_thing=True)
HYPOTHESIS = Kind(
    "a Hypothesis, such as digits_hypothesis(task) of grokinterp.measures",
    lambda given: is_a(given, "Hypothesis"),
)
SECTIONS = Kind(
    "names and their values, such as {'training.weight_decay': [0, 1]}",
    lambda given: isinstance(given, Mapping) and all(isinstance(key, str) for key in given),
)
FUNCTION = Kind("a function", lambda given: callable(given) and hasattr(given, "__name__"))


def asks(asking: str, **kinds: Kind) -> Callable[[Function], Function]:
    """Checks arguments of a function, which is called `asking`, by their names, whenever it is called; None
    is let through where it is the default."""

    def of(function: Function) -> Function:
        signature = inspect.signature(function)

        @functools.wraps(function)
        def checking(*args: Any, **options: Any) -> Any:
            try:
                given = signature.bind(*args, **options).arguments
            except TypeError as error:
                raise UsageError(f"{asking}: {error}; it is {asking}{_written(signature)}") from None
            for name, kind in kinds.items():
                usual = signature.parameters[name].default
                if name in given and not (given[name] is None and usual is None):
                    refuse_other(f"{asking}: {name}:", kind, given[name])
            return function(*args, **options)

        return cast("Function", checking)

    return of


def _written(signature: inspect.Signature) -> str:
    """How a function is called: "(run, measures=None, steps=None)"."""
    usual = {name: one.default for name, one in signature.parameters.items()}
    names = (
        name if value is inspect.Parameter.empty else f"{name}={value!r}" for name, value in usual.items()
    )
    return f"({', '.join(names)})"


def refuse_other(asking: str, kind: Kind, given: object) -> None:
    """Raises a UsageError where something is not of a kind."""
    if not kind.holds(given):
        raise UsageError(f"{asking} needs {kind.words}, got {(got_instead if kind.is_thing else got)(given)}")


_INSTEAD: list[tuple[Callable[[Any], bool], str, str]] = [
    (
        lambda given: is_a(given, "View"), "a View",
        "gi.measure_all(view), gi.analyze(view) and gi.key_frequencies(view) take one",
    ),
    (lambda given: is_a(given, "Run"), "a run", "gi.analyze(run), gi.replay(run) and run.view(-1) take it"),
    (
        lambda given: is_a(given, "Report"), "a report",
        "it has .save_html(path), .save_json(path) and .to_dict()",
    ),
    (lambda given: is_a(given, "Task"), "a task", "gi.view(network, task) takes it beside a network"),
    (
        lambda given: is_a(given, "TransformerBridge"), "a TransformerBridge",
        "its weights and hooks are not those of a HookedTransformer, and edits at some hooks do nothing; "
        "save its state_dict() and import that with a mapping, as docs/import.md shows",
    ),
    (
        is_network, "a network",
        "gi.view(network, task) makes a View of it, gi.record a run of a training loop",
    ),
    (
        lambda given: hasattr(given, "named_parameters") and not isinstance(given, type),
        "a {} without hooks",
        "gi.import_checkpoint(file, out=..., layout=a mapping of its weights' names) makes a run of its "
        "state_dict() in a file",
    ),
    (
        _are_weights,
        "weights alone",
        "load them into their network and give gi.view(network, task), or save them and make them a run with "
        "gi.import_checkpoint(file, out=...)",
    ),
    (lambda given: is_a(given, "Dataset"), "a Dataset", "it is what gi.replay gave: gi.tidy takes it"),
    (
        lambda given: is_a(given, "TrainConfig"), "a configuration",
        "gi.train(config, out=...) makes a run of it",
    ),
    (
        lambda given: _are(lambda one: PATH.holds(one) or is_a(one, "Run"))(given) and len(given) > 0,
        "several", "give one, or all of them to gi.compare",
    ),
]  # fmt: skip
"""What people have at hand, what it is called, and what takes it."""


def got_instead(given: object) -> str:
    """What was given, and what takes it."""
    takes = next((f": {instead}" for holds, _, instead in _INSTEAD if holds(given)), "")
    return got(given) + takes


def got(given: object) -> str:
    """What was given, in words."""
    if (name := next((name for holds, name, _ in _INSTEAD if holds(given)), None)) is not None:
        return name.format(type(given).__name__)
    if given is None or isinstance(given, str | int | float | bool):
        return "nothing" if given is None else repr(given) if len(repr(given)) <= 60 else "a long text"
    if isinstance(given, type):
        return f"the class {given.__name__} itself, not one of its objects"
    return f"an object of type {type(given).__name__}"
