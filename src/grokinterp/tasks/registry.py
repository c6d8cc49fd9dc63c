"""The tasks that are known by name, and their parameters as keys of a section [task].

A new task is one function that returns it, under one `@task` line; its parameters are the function's, and
those that every task of its family takes:

    @gi.task
    def distance(p: int = 31, layout: str = "a b =") -> gi.Task:
        \"\"\"How far a and b are apart on a ring.\"\"\"
        return gi.Task.of_function(lambda a, b: min((a - b) % p, (b - a) % p), p, layout=layout)

    run = gi.train(gi.TrainConfig.preset("quick", **{"task.name": "distance"}), out="runs/distance")
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar, get_type_hints

from pydantic import BaseModel, create_model

from ..asked import FUNCTION, NAME, asks
from ..errors import ConfigError, UsageError
from ..frozen import Frozen, checked
from ..registry import Registry
from .base import Task
from .operation import Operation

Make = TypeVar("Make", bound=Callable[..., Task])


TASKS: Registry[Callable[..., Task]] = Registry("task", ConfigError)


@asks("gi.task", make=FUNCTION)
def task(make: Make) -> Make:
    """Registers a function that makes a Task. Its keyword parameters become the keys of [task], checked by
    their annotations.

    What it is annotated to return is its family, which adds the parameters in `common`; one that says only
    `Task` makes operations, which also take `opaque` and `noise`.

    Raises:
        UsageError: it is no function, or a parameter has no annotation.
        ValueError: another task has this name, and is not of the same file or notebook; or a parameter has
            the name of one that every task of the family takes.
    """
    name = make.__name__
    if taken := sorted(_family(make).common.model_fields.keys() & inspect.signature(make).parameters.keys()):
        raise ValueError(f"{name}: every task takes {taken[0]!r} already")
    hints = get_type_hints(make)
    if bare := [key for key in inspect.signature(make).parameters if key not in hints]:
        what = f"its parameter {bare[0]} has no annotation, by which its values are checked"
        raise UsageError(f"gi.task: {name}: {what}: write what it is, such as {bare[0]}: int")
    TASKS.add(name, make)
    return make


def family(name: str) -> type[Task]:
    """The class of the tasks that the function of that name makes.

    Raises:
        ConfigError: there is no such task; the nearest is named.
    """
    return _family(TASKS[name])


def _family(make: Callable[..., Task]) -> type[Task]:
    try:
        said = get_type_hints(make).get("return", Task)
    except NameError:  # an annotation of names that are imported for type checkers alone
        said = Task
    return Operation if said is Task or not isinstance(said, type) else said


def task_parameters(name: str) -> type[BaseModel]:
    """The parameters of a task as a frozen model: annotations, bounds and defaults from the function that
    makes it, and those of its family."""
    return _parameters_of(TASKS[name])


@cache
def _parameters_of(make: Callable[..., Task]) -> type[BaseModel]:
    hints = get_type_hints(make, include_extras=True)
    fields: dict[str, Any] = {
        key: (hints[key], ... if p.default is inspect.Parameter.empty else p.default)
        for key, p in inspect.signature(make).parameters.items()
    }
    common = _family(make).common
    fields |= {key: (known.rebuild_annotation(), known.default) for key, known in common.model_fields.items()}
    yes_or_no = common.yes_or_no | {key for key, hint in hints.items() if hint is bool}
    base = type("Parameters", (Frozen,), {"yes_or_no": yes_or_no, "__module__": __name__})
    return create_model(make.__name__, __base__=base, **fields)


@asks("gi.make_task", name=NAME)
def make_task(name: str, **params: Any) -> Task:
    """The task of that name. Its parameters are checked first.

    Raises:
        ConfigError: unknown name or parameter (the nearest is named), a value out of range, or the function
            makes no task of the family that it says.
    """
    values = checked(task_parameters(name), params, at="task")
    family = _family(TASKS[name])
    common = {key: getattr(values, key) for key in family.common.model_fields}
    made = TASKS[name](**values.model_dump(exclude=set(common)))
    if not isinstance(made, family):
        raise ConfigError(
            f"task {name}: its function returns {type(made).__name__} and is annotated to return "
            f"{family.__name__}: annotate it with what it makes"
        )
    return dataclasses.replace(made, name=name, params=values.model_dump(exclude_none=True), **common)
