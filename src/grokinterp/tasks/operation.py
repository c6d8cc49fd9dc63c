"""A binary operation on a finite set, as its whole table of pairs, and the tokens in which a network sees it.

Its evaluation sample is every pair that has an answer, in table order, answered at the last position. What is
known of each pair are its operands and its answer. Labels may be noisy; then the training examples fall into
corrupted and clean ones.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, Any, SupportsIndex

import torch
from jaxtyping import Bool, Int
from pydantic import BeforeValidator, Field
from torch import Tensor

from ..asked import asks_all
from ..errors import ConfigError, NotApplicable
from ..frozen import Frozen, checked
from ..memory import free_memory
from .base import Factor, Sample, Task
from .circle import Circle, residues
from .coordinates import Coordinates, of_symbols
from .encoding import Encoding, Seed, Symbols, encoded, named, numbers
from .functions import tabulated
from .layout import Layout, parse
from .noise import Noise, drawn, of_its_kind
from .reads import Reads
from .split import Split
from .table import TableFacts, cyclic, table_facts

Modulus = Annotated[int, Field(ge=2, le=2**31)]


class Common(Frozen):
    """The parameters that every operation takes beside its own; they are fields of `Operation`."""

    opaque: Seed | None = None
    """Permutes the tokens of operands, answers and signs by this seed. The task is then not told where its
    elements stand on a circle: that is looked for in the table."""
    noise: Annotated[Noise | None, BeforeValidator(of_its_kind)] = None
    """Gives the network other labels than the right answers."""


@asks_all("task")
@dataclass(frozen=True, repr=False)
class Operation(Task):
    """A binary operation `c = a ∘ b` on the operand values 0..p-1, with answers in the classes
    0..n_answers-1.

    Args:
        p: the number of operand values; the modulus for modular arithmetic, the order for a group.
        operation: maps all a (shape [p, 1]) and all b (shape [1, p]) to the table of answer classes (shape
            [p, p]), with -1 for the pairs at which the operation is undefined. Called once, when the table is
            first needed.
        layout: the tokens of an example (tasks/layout.py). Element i has token i, the signs those after them,
            unless the task is opaque.
        find_symbols: gives what operands and answers are (tasks/encoding.py); by default the numbers 0..p-1,
            all of them answers.
        find_circle: gives where the elements stand on a cyclic group Z_m, or None where they stand on none;
            by default, and where the task is opaque, it is looked for in the table.
        opaque: the seed by which the tokens are permuted, or None where they are in order.
        noise: what makes the labels that a network is given differ from the right answers; `labels` draws
            them.
    """

    common = Common
    examples_are = "pairs"

    p: int
    operation: Callable[[Int[Tensor, "p 1"], Int[Tensor, "1 p"]], Int[Tensor, "p p"]] = field(
        repr=False, compare=False
    )
    layout: str = "a b ="
    find_symbols: Callable[[], Symbols] | None = field(default=None, repr=False, compare=False)
    find_circle: Callable[[], Circle | None] | None = field(default=None, repr=False, compare=False)
    opaque: int | None = None
    noise: Noise | None = None

    def __post_init__(self) -> None:
        # Before anything is built: int64 tokens, targets, the table itself and one temporary.
        needed = self.p**2 * 8 * (len(parse(self.layout, self.p).words) + 3)
        free = free_memory()
        if needed > free / 2:
            raise ConfigError(
                f"{self.name} with {self.p:.4g} elements has {self.p**2:.4g} pairs: its table alone needs "
                f"about {needed / 1e9:.3g} GB, and {free / 1e9:.1f} GB are free: choose fewer elements"
            )

    @cached_property
    def table(self) -> Int[Tensor, "p p"]:
        """The answer to every pair, -1 where there is none."""
        elements = torch.arange(self.p)
        return self.operation(elements[:, None], elements[None, :]).expand(self.p, self.p).contiguous()

    @classmethod
    def of_function(
        cls,
        function: Callable[[Any, Any], Any],
        p: SupportsIndex | None = None,
        *,
        operands: Collection[Any] | None = None,
        name: str | None = None,
        symbol: str | None = None,
        layout: str = "a b =",
        opaque: int | None = None,
        noise: Mapping[str, Any] | Noise | None = None,
    ) -> Operation:
        """The task of any Python function of two values: `Operation.of_function(lambda a, b: (a * a + b) %
        31, 31)`, or `Task.of_function(...)`, which is the same.

        Args:
            function: called with every pair of operands; gives any hashable value, or None where it is
                undefined.
            p: makes the operands the numbers 0..p-1.
            operands: other operands, in their order: any different hashable values, such as strings.
            name: of the task; by default that of the function.
            symbol: the operation as a formula, for titles.
            layout: the tokens of an example.
            opaque: the seed by which the tokens are permuted.
            noise: what makes labels differ from the answers, such as {"kind": "uniform", "share": 0.35}.

        The answer classes are the values that occur: in the order of the operands where all are operands,
        else in ascending order where they have one. Where the elements stand on a circle is looked for in the
        table; a function of the numbers 0..p-1 that takes all of them and hides no circle stands at its
        residues, as `x2_plus_y2` does.

        Raises:
            ConfigError: the function raised an exception, or gave what is no answer; no operands, too many of
                them, or too many ways to say them; a bad value of `opaque` or `noise`.
        """
        common = checked(Common, {"opaque": opaque, "noise": noise}, at="task")
        table, symbols = tabulated(function, p, operands)
        plain = symbols.operands == symbols.answers == tuple(range(len(table)))

        def find_circle() -> Circle | None:
            return cyclic(table, symbols) or (residues(len(table), is_sum=False) if plain else None)

        its_name = getattr(function, "__name__", "")
        called = name or (its_name if its_name.isidentifier() else "function")
        return cls(
            len(table), lambda a, b: table, layout, lambda: symbols, find_circle, **dict(common),
            name=called, symbol=symbol or f"{called}(a, b)",
        )  # fmt: skip

    @cached_property
    def circle(self) -> Circle | None:
        """Where the elements stand on a cyclic group Z_m; None where they stand on none."""
        if self.find_circle and self.opaque is None:
            return self.find_circle()
        return cyclic(self.table, self.symbols)

    @cached_property
    def facts(self) -> TableFacts:
        """What the table shows before any network is trained: value counts, symmetry, hidden structure."""
        return table_facts(self.table, self.symbols, cyclic(self.table, self.symbols))

    @cached_property
    def symbols(self) -> Symbols:
        """What operands and answers are."""
        numbers = tuple(range(self.p))
        return self.find_symbols() if self.find_symbols else Symbols(numbers, numbers)

    @cached_property
    def pairs(self) -> Int[Tensor, "n 2"]:
        """(a, b) of every example, in table order: by a, then by b."""
        return (self.table >= 0).nonzero()

    @cached_property
    def sample(self) -> Sample:
        """Every pair that has an answer, in table order: its tokens, and the class of its answer."""
        a, b = self.element_tokens[self.pairs].unbind(1)
        operands = {"a": a, "b": b}
        columns = [
            operands[word] if token is None else torch.full_like(a, token)
            for word, token in zip(self.tokens.words, self.tokens.tokens, strict=True)
        ]
        return Sample(torch.stack(columns, dim=1), self.table[self.table >= 0][:, None])

    @property
    def is_full_grid(self) -> bool:
        """Whether every pair has an answer, so that examples can be laid out as [p, p]."""
        return self.n_inputs == self.p**2

    @cached_property
    def encoding(self) -> Encoding:
        """The tokens of operands, answers and signs."""
        return encoded(self.symbols, self.layout, self.opaque)

    @property
    def tokens(self) -> Layout:
        """The layout, read: the words, the token of each, and the size of the vocabulary."""
        return self.encoding.layout

    @property
    def element_tokens(self) -> Int[Tensor, "p"]:
        """The token of each operand value."""
        return self.encoding.operands

    @property
    def noisy(self) -> bool:
        return self.noise is not None

    @property
    def names(self) -> tuple[tuple[str, ...], ...]:
        """The names of operands, answers and tokens."""
        return self.operand_names, self.answer_names, self.encoding.names

    @classmethod
    def of(cls, task: Task) -> Operation:
        """The task as an operation: what decides whether something that is said of tables applies.

        Raises:
            NotApplicable: it is none.
        """
        if not isinstance(task, Operation):
            raise NotApplicable(f"{task.name} is no table of pairs")
        return task

    @property
    def answer_tokens(self) -> Int[Tensor, "answers"]:
        return self.encoding.answers

    @cached_property
    def reads(self) -> Reads:
        """The tokens of a layout, used or not, answered at the last."""
        words, (of_tokens, of_logits) = self.tokens.words, self._numbers
        return Reads(
            shape=(len(words),),
            d_vocab=self.tokens.d_vocab,
            words=words,
            answers=("answer",),
            positions=(len(words) - 1,),
            n_logits=len(self.encoding.logits),
            n_classes=len(self.symbols.answers),
            task=self.name,
            token_numbers=of_tokens,
            logit_numbers=of_logits,
        )

    @property
    def _numbers(self) -> tuple[tuple[float | None, ...], tuple[float | None, ...]]:
        """The numbers of tokens and of logits, where symbols are numbers that a network is told."""
        if self.opaque is not None:
            return (), ()
        symbols, d_vocab = self.symbols, self.tokens.d_vocab
        written = numbers(symbols.operands if symbols.written is None else symbols.written)
        tokens = (*written, *[None] * (d_vocab - len(written))) if written else ()
        answers = tokens if symbols.written is not None else numbers(symbols.answers)
        return tokens, answers

    @cached_property
    def operand_names(self) -> tuple[str, ...]:
        """What stands on axis labels for each operand value."""
        return named(self.symbols.operands)

    @cached_property
    def answer_names(self) -> tuple[str, ...]:
        """What stands on axis labels for each answer class."""
        return named(self.symbols.answers)

    @property
    def vocabulary(self) -> dict[str, tuple[str, ...]]:
        """What a network's inputs and outputs mean. Where answers have tokens, tasks of one vocabulary need
        not have the same answers: a - b has 2p - 1 of them in Julia and a + b has p, and both have a logit
        for every token."""
        return {"token": self.encoding.names, "position": self.tokens.words, "logit": self.encoding.logits}

    @cached_property
    def factors(self) -> dict[str, Factor]:
        """The operands of every pair, and its answer."""
        a, b = self.pairs.unbind(1)
        return {
            "a": Factor(a, self.operand_names),
            "b": Factor(b, self.operand_names),
            "answer": Factor(self.targets, self.answer_names),
        }

    @property
    def read(self) -> tuple[str, ...]:
        """The operands."""
        return "a", "b"

    @cached_property
    def coordinates(self) -> Coordinates | None:
        """Those that the operands are, where each is a tuple of as many numbers, such as (2, 3)."""
        return of_symbols(self.symbols.operands)

    @cached_property
    def ring(self) -> Int[Tensor, "m"]:
        """The classes of answers in the order in which binomial noise moves along them: that of their numbers
        where they are numbers; else that of the task's circle where every class stands on it; else that of
        the classes. The first follows the last."""
        classes = torch.arange(self.n_answers)
        numbers = all(isinstance(answer, int) for answer in self.symbols.answers)
        if not numbers and self.circle is not None and torch.equal(self.circle.c.sort().values, classes):
            return self.circle.c
        return classes

    def labels(self, split: Split | None) -> Int[Tensor, "n"]:
        """The class that a network is given for every example, in table order: the right answer where there
        is no noise.

        Raises:
            NotApplicable: they depend on the split, and that is not known.
        """
        return self.targets if self.noise is None else drawn(self.noise, self.targets, self.ring, split)

    def groups(self, split: Split | None) -> dict[str, Bool[Tensor, "n"]]:
        """Where labels are noisy, the training examples whose labels are wrong ("corrupted") and those whose
        labels are right ("clean"); nothing where the split is not known."""
        if self.noise is None or split is None:
            return {}
        trained = torch.zeros(self.n_inputs, dtype=torch.bool).index_fill_(0, split.train, True)
        corrupted = self.labels(split) != self.targets
        groups = {"corrupted": trained & corrupted, "clean": trained & ~corrupted}
        return {name: rows for name, rows in groups.items() if rows.any()}


Task.of_function = Operation.of_function
