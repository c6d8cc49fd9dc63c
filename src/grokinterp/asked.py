"""What the arguments of public functions must be. A wrong one is an error of one line that says what was
asked, what was given, and what to do with that."""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from .errors import UsageError
from .usual import at_usual_defaults, usual_defaults

Function = TypeVar("Function", bound=Callable[..., Any])
Class = TypeVar("Class", bound=type[Any])


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


def network_inside(given: object) -> object:
    """The network inside torch.compile or DataParallel: what they make of it heeds no hooks."""
    while (inner := getattr(given, "_orig_mod", None) or getattr(given, "module", None)) is not None:
        given = inner
    return given


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
        and getattr(given, "ndim", 1) == 1
        and iter(given) is not given
        and all(map(holds, given))
    )


def _can_be_path(given: object) -> bool:
    """Whether it is text that a file system takes."""
    if not isinstance(given, str | os.PathLike):
        return False
    path = os.fsencode(str(given))
    return b"\0" not in path and len(path) < 4096 and all(len(part) < 256 for part in path.split(b"/"))


PATH = Kind("a path, as text or pathlib.Path", _can_be_path)
PATHS = Kind("a path, or a list of them", lambda given: PATH.holds(given) or _are(PATH.holds)(given))
RUN = Kind("a run, or its directory", lambda given: PATH.holds(given) or is_a(given, "Run"), is_thing=True)
SHOWN = Kind("a run, or the path of a run, a checkpoint or a folder", RUN.holds, is_thing=True)
NAME = Kind("a name, as text", lambda given: isinstance(given, str))
NAMES = Kind(
    "a list of names, such as ['loss', 'gini.W_E']",
    lambda given: isinstance(given, str) or _are(NAME.holds)(given),
)
KEYS = Kind(
    "a key of the configuration, or a list of one or two, such as ['training.weight_decay']",
    lambda given: isinstance(given, str) or _are(NAME.holds)(given),
)
STEP = Kind("a whole number, such as 1000, or -1 for the last", is_whole)
COUNT = Kind("a whole number from 0", lambda given: is_whole(given) and given >= 0)
SEED = Kind("a whole number from 0 to 4294967295", lambda given: is_whole(given) and 0 <= given < 2**32)
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
TASK_OR_NAME = Kind("the name of a task, or a task", lambda given: NAME.holds(given) or TASK.holds(given))
VALUES = Kind("a dictionary of keys and values", lambda given: isinstance(given, Mapping))
TEXT = Kind(
    "the text of a TOML file, or its pathlib.Path", lambda given: isinstance(given, str | os.PathLike)
)
DIGITS = Kind(
    "a task of numbers written in digits, such as gi.make_task('digit_addition')",
    lambda given: is_a(given, "Digits"),
)
OPERATION = Kind(
    "a task of two operands, such as gi.make_task('modular_addition')", lambda given: is_a(given, "Operation")
)
TABLE = Kind("a DataFrame, such as run.history", lambda given: is_a(given, "DataFrame"))
OTHER_EXAMPLES = Kind(
    "a task of other examples, which gi.make_task(name, ...) makes (view.rows('test') marks those of a part)",
    TASK.holds,
    is_thing=True,
)
NETWORK = Kind(
    "a hooked network, such as a HookedTransformer",
    lambda given: is_network(network_inside(given)),
    is_thing=True,
)
HYPOTHESIS = Kind(
    "a Hypothesis, such as digits_hypothesis(task) of grokinterp.measures",
    lambda given: is_a(given, "Hypothesis"),
)
TENSOR = Kind("a tensor", lambda given: hasattr(given, "detach"))
WEIGHTS = Kind(
    "a dictionary of weights by their names",
    lambda given: isinstance(given, Mapping) and (not given or _are_weights(given)),
)
DTYPE = Kind("a dtype of torch, such as torch.float32", lambda given: is_a(given, "dtype"))
FACTORS = Kind(
    "a dictionary of arrays by their names, or a DataFrame",
    lambda given: isinstance(given, Mapping) or is_a(given, "DataFrame"),
)
CLASS_NAMES = Kind(
    "a list of names, one for each class",
    lambda given: _are(lambda one: isinstance(one, str | int | float) or is_whole(one))(given),
)
FUNCTION = Kind("a function", lambda given: callable(given) and hasattr(given, "__name__"))


def asks(asking: str, **kinds: Kind) -> Callable[[Function], Function]:
    """Makes a function public, which is called `asking`: whenever it is called its arguments are checked, by
    their names (None is let through where it is the default), a call that Python would refuse says how it is
    written, and torch has its usual defaults."""

    def of(function: Function) -> Function:
        signature = inspect.signature(function)

        @functools.wraps(function)
        def checking(*args: Any, **options: Any) -> Any:
            if kinds:
                given = _bound(asking, signature, args, options)
                for name, kind in kinds.items():
                    usual = signature.parameters[name].default
                    if name in given and not (given[name] is None and usual is None):
                        refuse_other(f"{asking}: {name}:", kind, given[name])
            with usual_defaults():
                try:
                    return function(*args, **options)
                except TypeError:
                    _bound(asking, signature, args, options)
                    raise

        checking.__dict__["is_asked"] = True
        return cast("Function", checking)

    return of


def asks_all(asking: str) -> Callable[[Class], Class]:
    """The same of a class, for all its public methods that are not asked already and for making one; what is
    computed when it is asked for has torch's usual defaults too."""

    def of(cls: Class) -> Class:
        for name, one in list(vars(cls).items()):
            of_class = isinstance(one, classmethod | staticmethod)
            function = one.__func__ if of_class else one
            if name.startswith("_") or not inspect.isfunction(function) or is_asked(function):
                continue
            made = asks(f"gi.{cls.__name__}.{name}" if of_class else f"{asking}.{name}")(function)
            setattr(cls, name, type(one)(made) if of_class else made)
        if not is_asked(cls.__init__):
            cls.__init__ = asks(f"gi.{cls.__name__}")(cls.__init__)
        at_usual_defaults(cls)
        return cls

    return of


def is_asked(function: Callable[..., Any]) -> bool:
    """Whether `asks` is around a function."""
    return bool(getattr(function, "is_asked", False))


def _bound(
    asking: str, signature: inspect.Signature, args: Sequence[Any], options: Mapping[str, Any]
) -> dict[str, Any]:
    """What the arguments of a function are given, by their names.

    Raises:
        UsageError: it cannot be called so.
    """
    try:
        return signature.bind(*args, **options).arguments
    except TypeError as error:
        raise UsageError(f"{asking}: {error}: write {asking}({_written(signature)})") from None


def _written(signature: inspect.Signature) -> str:
    """How a function is called: "run, measures=None, *, progress=None"."""
    parts: list[str] = []
    for name, one in signature.parameters.items():
        if name in ("self", "cls"):
            continue
        is_first_by_name = one.kind == one.KEYWORD_ONLY and not any(part.startswith("*") for part in parts)
        parts += ["*"] * is_first_by_name
        if one.kind == one.VAR_KEYWORD:
            parts.append("name=value, ...")
        elif one.kind == one.VAR_POSITIONAL:
            parts.append(f"*{name}")
        else:
            parts.append(name if one.default is one.empty else f"{name}={_short(one.default)}")
    return ", ".join(parts)


def _short(usual: object) -> str:
    return repr(usual) if usual is None or isinstance(usual, str | int | float | tuple) else "..."


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
    if given is None:
        return "nothing"
    if getattr(given, "ndim", None) == 0 and hasattr(given, "item") and not getattr(given, "is_meta", 0):
        given = cast("Any", given).item()
    if _is_plain(given):
        shown = repr(given)
        if isinstance(given, str) and "\0" in given:
            return "a text with a null byte"
        long = "a long text" if isinstance(given, str) else f"a long {type(given).__name__}"
        return shown if len(shown) <= _LONGEST else long
    if isinstance(given, type):
        return f"the class {given.__name__} itself, not one of its objects"
    return f"an object of type {type(given).__name__}"


_LONGEST = 60
"""Characters of a value that a message shows."""


def _is_plain(given: object) -> bool:
    """Whether it is text, a number, or a few of them: what Python shows in a line."""
    if isinstance(given, list | tuple | set | range):
        return len(given) <= _LONGEST and all(map(_is_plain, given))
    if isinstance(given, dict):
        return _is_plain([*given, *given.values()])
    return given is None or isinstance(given, str | int | float | complex)
