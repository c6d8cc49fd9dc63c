"""A task: a binary operation on a finite set, as its whole table, and the tokens in which a network sees it.

A new task is one function that returns a `Task`, under one `@task` line; its parameters are the function's, and those that every task
takes (`Common`).
Knows nothing of networks, training or disks.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Annotated, Any, get_type_hints

import torch
from jaxtyping import Int
from pydantic import BaseModel, BeforeValidator, Field, create_model
from torch import Tensor

from ..errors import ConfigError, nearest
from ..frozen import Frozen, checked
from ..memory import free_memory
from .circle import Circle
from .layout import Layout, parse
from .noise import Noise, of_its_kind

Modulus = Annotated[int, Field(ge=2, le=2**31)]


@dataclass(frozen=True)
class Task:
    """A binary operation `c = a ∘ b` on the elements 0..p-1.

    Args:
        name: the name under which the task is registered.
        params: the parameters that it was made with; `TASKS[name](**params)` makes it again.
        p: the number of elements; the modulus for modular arithmetic, the order for a group.
        operation: maps all a (shape [p, 1]) and all b (shape [1, p]) to the table of answers (shape [p, p]), with -1 for
            the pairs at which the operation is undefined. Called once, when the table is first needed.
        layout: the tokens of an example (tasks/layout.py). Element i has token i, the signs those after them.
        element_names: gives what stands on axis labels for element i; the element's number by default.
        find_circle: gives where the elements stand on a cyclic group Z_m; absent or None where they stand on none.
        symbol: the operation as a formula in a and b, for titles.
        noise: what makes the labels that a network is given differ from the right answers; `labels` draws them.
    """

    name: str
    params: Mapping[str, Any]
    p: int
    operation: Callable[[Int[Tensor, "p 1"], Int[Tensor, "1 p"]], Int[Tensor, "p p"]] = field(repr=False, compare=False)
    symbol: str
    layout: str = "a b ="
    element_names: Callable[[], tuple[str, ...]] | None = field(default=None, repr=False, compare=False)
    find_circle: Callable[[], Circle | None] | None = field(default=None, repr=False, compare=False)
    noise: Noise | None = None

    def __post_init__(self) -> None:
        # Before anything is built: int64 tokens, targets, the table itself and one temporary.
        needed = self.p**2 * 8 * (self.n_ctx + 3)
        free = free_memory()
        if needed > free / 2:
            raise ConfigError(
                f"{self.name} with {self.p:.4g} elements has {self.p**2:.4g} pairs: its table alone needs about {needed / 1e9:.3g} GB, "
                f"and {free / 1e9:.1f} GB are free: choose fewer elements"
            )

    @cached_property
    def table(self) -> Int[Tensor, "p p"]:
        """The answer to every pair, -1 where there is none."""
        elements = torch.arange(self.p)
        return self.operation(elements[:, None], elements[None, :]).expand(self.p, self.p).contiguous()

    @cached_property
    def circle(self) -> Circle | None:
        """Where the elements stand on a cyclic group Z_m; None where they stand on none."""
        return self.find_circle() if self.find_circle else None

    @cached_property
    def pairs(self) -> Int[Tensor, "n 2"]:
        """(a, b) of every example, in table order: by a, then by b."""
        return (self.table >= 0).nonzero()

    @cached_property
    def inputs(self) -> Int[Tensor, "n pos"]:
        """The tokens of every example, in table order."""
        a, b = self.pairs.unbind(1)
        operands = {"a": a, "b": b}
        columns = [
            operands[word] if token is None else torch.full_like(a, token)
            for word, token in zip(self.tokens.words, self.tokens.tokens, strict=True)
        ]
        return torch.stack(columns, dim=1)

    @cached_property
    def targets(self) -> Int[Tensor, "n"]:
        """The right answer to every example, in table order."""
        return self.table[self.table >= 0]

    @property
    def n_inputs(self) -> int:
        """The number of examples: p*p, less the pairs at which the operation is undefined."""
        return len(self.targets)

    @property
    def is_full_grid(self) -> bool:
        """Whether every pair has an answer, so that examples can be laid out as [p, p]."""
        return self.n_inputs == self.p**2

    @cached_property
    def tokens(self) -> Layout:
        """The layout, read: the words, the token of each, and the size of the vocabulary."""
        return parse(self.layout, self.p)

    @property
    def n_ctx(self) -> int:
        """The number of tokens of an example; the answer is read at the last one."""
        return len(self.tokens.words)

    @property
    def d_vocab(self) -> int:
        """The number of tokens: the elements, then the signs, then those that no example uses."""
        return self.tokens.d_vocab

    @property
    def n_answers(self) -> int:
        """The number of classes: every element can be an answer."""
        return self.p

    @cached_property
    def token_names(self) -> tuple[str, ...]:
        """What stands on axis labels for token i."""
        names = list(self.element_names()) if self.element_names else [str(i) for i in range(self.p)]
        names += [f"token {i}" for i in range(self.p, self.d_vocab)]
        for word, token in zip(self.tokens.words, self.tokens.tokens, strict=True):
            if token is not None:
                names[token] = "∘" if word == "op" else word
        return tuple(names)

    @property
    def vocabulary(self) -> dict[str, tuple[str, ...]]:
        """What a network's inputs and outputs mean: the name of every token, the word at every position, the name of every answer.

        A network that learned one task can go on with another only where these are the same.
        """
        return {"token": self.token_names, "position": self.tokens.words, "answer": self.token_names[: self.n_answers]}


class Common(Frozen):
    """The parameters that every task takes beside its own; they are fields of `Task`."""

    noise: Annotated[Noise | None, BeforeValidator(of_its_kind)] = None


class _Registry(dict[str, Callable[..., Task]]):
    """The known tasks by name; an unknown name raises a ConfigError that names the nearest."""

    def __missing__(self, name: str) -> Callable[..., Task]:
        raise ConfigError(f"unknown task {name!r}{nearest(str(name), self)}")


TASKS: dict[str, Callable[..., Task]] = _Registry()


def task(make: Callable[..., Task]) -> Callable[..., Task]:
    """Registers a function that makes a Task. Its keyword parameters become the keys of [task], checked by their annotations.

    Raises:
        ValueError: another task has this name, or a parameter the name of one that every task takes.
    """
    name = make.__name__
    if name in TASKS:
        raise ValueError(f"two tasks are named {name!r}")
    if taken := Common.model_fields.keys() & inspect.signature(make).parameters.keys():
        raise ValueError(f"{name}: every task has a parameter {min(taken)!r} already")
    TASKS[name] = make
    return make


def task_parameters(name: str) -> type[BaseModel]:
    """The parameters of a task as a frozen model: annotations, bounds and defaults from the function that makes it, and the common ones."""
    make = TASKS[name]
    hints = get_type_hints(make, include_extras=True)
    fields: dict[str, Any] = {
        key: (hints[key], ... if p.default is inspect.Parameter.empty else p.default)
        for key, p in inspect.signature(make).parameters.items()
    }
    fields |= {key: (known.rebuild_annotation(), known.default) for key, known in Common.model_fields.items()}
    return create_model(name, __base__=Frozen, **fields)


def make_task(name: str, **params: Any) -> Task:
    """The task of that name. Its parameters are checked first.

    Raises:
        ConfigError: unknown name or parameter (the nearest is named), or a value out of range.
    """
    given = checked(task_parameters(name), params, at="task")
    common = {key: getattr(given, key) for key in Common.model_fields}
    return replace(TASKS[name](**given.model_dump(exclude=set(common))), **common)
