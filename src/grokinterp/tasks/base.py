"""What a network is asked to learn: a fixed evaluation sample, its answers, and what is known of every
example.

A family of tasks is one class in a file of its own; this file knows none of them, nor networks, training or
disks.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..asked import asks_all, got
from ..errors import ConfigError, GrokinterpError, NotApplicable, UsageError
from ..frozen import Frozen
from ..shown import Rows, Shown, in_words
from ..usual import at_usual_defaults
from .coordinates import Coordinates
from .reads import Reads
from .split import Split

_MOST_CLASSES = 32
"""Classes of a factor up to which every one of them has examples enough."""
_MOST_NAMED = 12
"""Classes that a sentence names."""


@dataclass(frozen=True)
class Sample:
    """Examples, and what is asked of them.

    Attributes:
        inputs: what a network reads of each: tokens [n, pos], or numbers such as pixels [n, ...].
        answers: the class of each answer [n, answer], -1 where it is not asked; or numbers, for regression.

    Raises:
        ConfigError: the two do not have as many rows, or there are none.
    """

    inputs: Tensor
    answers: Tensor

    def __post_init__(self) -> None:
        if not isinstance(self.inputs, Tensor) or not isinstance(self.answers, Tensor):
            kinds = f"{type(self.inputs).__name__} and {type(self.answers).__name__}"
            raise ConfigError(f"a sample needs tensors of examples and of their answers, got {kinds}")
        if self.answers.ndim != 2 or len(self.inputs) != len(self.answers) or not len(self.inputs):
            raise ConfigError(
                f"a sample needs examples [n, ...] and their answers [n, answer], got inputs of shape "
                f"{list(self.inputs.shape)} and answers of shape {list(self.answers.shape)}"
            )

    def __len__(self) -> int:
        return len(self.inputs)


@dataclass(frozen=True)
class Factor:
    """One thing that is known of every example: an operand, a carry, a slope.

    Attributes:
        values: the class of each example, or a number.
        names: what stands on axis labels for each class; empty where values are numbers.

    Raises:
        ConfigError: a number is NaN, or a class has no name.
    """

    values: Int[Tensor, "n"] | Float[Tensor, "n"]
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.values, Tensor) or self.values.ndim != 1:
            raise ConfigError("a factor needs a tensor [n]: one value for every example")
        if self.values.is_floating_point():
            if self.values.isnan().any():
                raise ConfigError(f"a factor is NaN at example {int(self.values.isnan().nonzero()[0])}")
        elif self.names and not 0 <= int(self.values.min()) <= int(self.values.max()) < len(self.names):
            raise ConfigError(
                f"a factor has the classes {int(self.values.min())} to {int(self.values.max())}, and names "
                f"for {len(self.names)}"
            )

    @property
    def n_classes(self) -> int:
        """How many classes the examples have; 0 where values are numbers."""
        return 0 if self.values.is_floating_point() else len(set(self.values.tolist()))


@dataclass(frozen=True)
class Untrained:
    """The classes of an answer that no training example has, so that nothing is known of them.

    Attributes:
        answer: the name of the answer.
        classes: the names of these classes.
        of: how many classes there are.
        share: the share of the test examples whose right answer is one of them.
    """

    answer: str
    classes: tuple[str, ...]
    of: int
    share: float

    def __str__(self) -> str:
        shown, more = self.classes[:_MOST_NAMED], len(self.classes) - _MOST_NAMED
        named = f"{', '.join(shown)}{f' and {more:,} more' if more > 0 else ''}"
        return (
            f"{len(self.classes):,} of {self.of:,} classes have no training example ({named}): "
            f"{100 * self.share:.3g} % of the test examples have such an answer"
        )


@asks_all("task")
@dataclass(frozen=True, repr=False)
class Task(Shown, ABC):
    """What a network is asked to learn.

    Attributes:
        name: the name under which it is registered.
        params: the parameters that it was made with; `make_task(name, **params)` makes it again.
        symbol: what is asked, as a formula or in a few words, for titles.
    """

    common: ClassVar[type[Frozen]] = Frozen
    """Parameters that every task of the family takes beside its own; they are fields of its class."""
    examples_are: ClassVar[str] = "examples"
    """What its examples are called in sentences."""
    of_function: ClassVar[Callable[..., Task]]
    """The task of any Python function of two values; `Operation.of_function`, which puts it here."""

    name: str = field(default_factory=str, kw_only=True)
    params: Mapping[str, Any] = field(default_factory=dict, kw_only=True)
    symbol: str = field(default_factory=str, kw_only=True)

    def __init_subclass__(cls) -> None:
        at_usual_defaults(cls)

    def __new__(cls, *args: Any, **options: Any) -> Any:
        if lacking := sorted(cls.__abstractmethods__):
            what = f"{cls.__name__} lacks {' and '.join(lacking)}, as every family of tasks defines them"
            raise UsageError(f"{what}: gi.make_task(name, ...) makes a task that is known by name")
        return super().__new__(cls)

    def _in_a_line(self) -> str:
        params = ", ".join(f"{key} {in_words(value)}" for key, value in self.params.items())
        return f"{self.name or 'without a name'}: {self.symbol}{f' ({params})' if params else ''}"

    def _as_rows(self) -> Rows:
        return [
            *self.params.items(),
            (self.examples_are, self.n_inputs),
            ("read as", " ".join(map(str, self.reads.words)) if self.reads.words else "–"),
            ("answers", self.n_answers),
        ]

    @property
    @abstractmethod
    def sample(self) -> Sample:
        """The examples on which a network is judged, always the same ones."""

    @property
    @abstractmethod
    def reads(self) -> Reads:
        """What a network may know of the task."""

    @property
    def factors(self) -> Mapping[str, Factor]:
        """What is known of every example of the sample, by name."""
        return {}

    @property
    def read(self) -> tuple[str, ...]:
        """The factors that can be read off an example one by one, of which all others are made, such as its
        digits: by these it is asked what a part of a network depends on. By default all of two to 32
        classes."""
        return tuple(name for name, factor in self.factors.items() if 2 <= factor.n_classes <= _MOST_CLASSES)

    @property
    def words_mean(self) -> str:
        """What the words at the positions mean, as a sentence; empty where they say it themselves."""
        return ""

    @property
    def coordinates(self) -> Coordinates | None:
        """Where the elements lie of which `element_tokens` are the tokens; None where that is not known. By
        this it is asked what an embedding shows of it."""
        return None

    def read_in_words(self, names: Collection[str]) -> str:
        """These factors of `read`, as a sentence says them."""
        return ", ".join(names)

    def groups(self, split: Split | None) -> Mapping[str, Bool[Tensor, "n"]]:
        """Groups of examples of the sample that are told apart beside training and test examples, by name."""
        return {}

    @property
    def n_representative(self) -> int:
        """How many of the sample, from its beginning, stand for the examples that the task is about; those
        behind them are there for their groups alone, which would have too few."""
        return self.n_inputs

    @cached_property
    def levels(self) -> Mapping[str, Mapping[str, float]]:
        """For every answer what the loss is (nats) for a network that knows so much of an example and no
        more, in words: by default for one that knows nothing."""
        of_each = self.sample.answers[: self.n_representative].T
        counts = [column[column >= 0].bincount().double() for column in of_each]
        unknown = [float(torch.special.entr(count / count.sum()).sum()) for count in counts]
        return {answer: {"nothing": nats} for answer, nats in zip(self.reads.answers, unknown, strict=True)}

    @property
    def together(self) -> Int[Tensor, "n"] | None:
        """The number of a bundle for every example: a split keeps bundles whole. None where every example may
        go its own way."""
        return None

    def draw(self, n: int, generator: torch.Generator) -> Sample:
        """Fresh examples.

        Raises:
            NotApplicable: the task has no other examples than its sample.
        """
        raise NotApplicable(f"{self.name} has no fresh examples: its sample is all that there is")

    def right(self, given: Int[Tensor, "n answer"]) -> dict[str, Bool[Tensor, "n"]]:
        """Which examples are answered rightly, by each criterion of the task; by default "exact": every
        answer that is asked is the class of the sample."""
        answers = self.sample.answers
        return {"exact": ((given == answers) | (answers < 0)).all(1)}

    @property
    def criterion(self) -> str | None:
        """The criterion of `right` by which it is told how far a network has come that writes its answers
        token by token (`written`), where near enough is right; None where every answer has to be that of the
        sample."""
        return None

    def judged(self, given: Int[Tensor, "n answer"]) -> dict[str, Bool[Tensor, "n"]]:
        """What `right` says, looked through.

        Raises:
            ConfigError: it raises an exception, or gives no mark for every example.
        """
        marks = self._asked_of_user("right", lambda: self.right(given))
        if not isinstance(marks, Mapping) or not marks:
            raise ConfigError(
                f"{self.name}: right() gave {got(marks)}: give a mark for each criterion by its name"
            )
        return {name: self.marked(f"the criterion {name!r}", mark) for name, mark in marks.items()}

    def _asked_of_user(self, method: str, call: Callable[[], Any]) -> Any:
        """What a method that a user may have written gives; its exception in one line."""
        try:
            return call()
        except GrokinterpError:
            raise
        except Exception as error:
            raise ConfigError(f"{self.name}: {method}() raised {type(error).__name__}: {error}") from error

    def drawn(self, n: int, generator: torch.Generator) -> Sample:
        """What `draw` gives, looked through.

        Raises:
            NotApplicable: the task has no other examples than its sample.
            ConfigError: it raises an exception, or its examples are not like those that the task asks about.
        """
        sample: Sample = self._asked_of_user("draw", lambda: self.draw(n, generator))
        self._refuse_unless_alike(sample, f"draw({n})")
        self._needs(len(sample) == n, f"draw({n}) has {len(sample)} examples", n)
        return sample

    def groups_of(self, split: Split | None) -> dict[str, Bool[Tensor, "n"]]:
        """What `groups` gives, looked through.

        Raises:
            ConfigError: it raises an exception, or a group has the name of a part, no examples, or is no mark
                for every example.
        """
        groups = self._asked_of_user("groups", lambda: dict(self.groups(split)))
        for name, rows in groups.items():
            if name in ("train", "test", "all"):
                raise ConfigError(
                    f"{self.name}: no group can be called {name!r}, which is a part of any sample"
                )
            if not self.marked(f"the group {name!r}", rows).any():
                raise ConfigError(f"{self.name}: the group {name!r} has no examples: leave it out")
        return groups

    def marked(self, what: str, marks: Any) -> Bool[Tensor, "n"]:
        """The marks themselves.

        Raises:
            ConfigError: they are not one yes or no for every example.
        """
        if isinstance(marks, Tensor) and marks.dtype == torch.bool and marks.shape == (self.n_inputs,):
            return marks
        shown = f"{list(marks.shape)} of {marks.dtype}" if isinstance(marks, Tensor) else got(marks)
        raise ConfigError(
            f"{self.name}: {what} is {shown}: give a tensor of {self.n_inputs} booleans, one for each example"
        )

    def look_through(self) -> None:
        """Looks, once, whether sample, answers and factors fit one another and what is told of them.

        Raises:
            ConfigError: they do not.
        """
        if "_fits" in self.__dict__:
            return
        sample = self.sample
        self._refuse_unless_alike(sample, "its sample")
        for name, column in zip(self.reads.answers, sample.answers.T, strict=True):
            asked = bool((column >= 0).any())
            self._needs(asked, f"its sample has an answer {name} that is never asked", "some examples of it")
        for name, factor in self.factors.items():
            if not isinstance(factor, Factor):
                raise ConfigError(f"{self.name}: its factor {name!r} is no Factor")
            n = len(factor.values)
            self._needs(
                n == self.n_inputs,
                f"its sample has a factor {name!r} of {n} examples",
                f"one of {self.n_inputs}",
            )
        if self.together is not None:
            bundles = [*self.together.shape]
            self._needs(bundles == [self.n_inputs], f"together has the shape {bundles}", [self.n_inputs])
        self.__dict__["_fits"] = True

    def _refuse_unless_alike(self, sample: Any, what: str) -> None:
        """
        Raises:
            ConfigError: these examples and answers are not what `reads` says of them.
        """
        if not isinstance(sample, Sample):
            raise ConfigError(f"{self.name}: {what} is {got(sample)}, and needs to be a Sample")
        reads, inputs, answers = self.reads, sample.inputs, sample.answers
        shape, names, columns = inputs.shape[1:], reads.answers, answers.shape[1]
        self._needs(shape == reads.shape, f"{what} has examples of shape {[*shape]}", [*reads.shape])
        asked = f"{len(names)}: {', '.join(names)}"
        self._needs(columns == len(names), f"{what} has {columns} columns of answers", asked)
        if answers.is_floating_point() or (reads.d_vocab and inputs.is_floating_point()):
            kind = "answers" if answers.is_floating_point() else "tokens"
            raise ConfigError(f"{self.name}: {what} has {kind} that are no whole numbers")
        for values, kind, least, count in (
            (inputs, "tokens", 0, reads.d_vocab), (answers, "classes", -1, reads.n_classes),
        ):  # fmt: skip
            if not values.is_floating_point():
                self._needs(
                    values.dtype == torch.int64, f"{what} has {kind} of {values.dtype}", "torch.int64"
                )
                low, high = (int(x) for x in values.aminmax())
                fits = least <= low <= high < count
                self._needs(fits, f"{what} has {kind} {low} to {high}", f"0 to {count - 1}")

    def _needs(self, holds: bool, said: str, needed: Any) -> None:
        if not holds:
            raise ConfigError(f"{self.name}: {said}, and needs {needed}")

    def labels(self, split: Split | None) -> Int[Tensor, "n *answer"]:
        """The class that a network is given for every example: the right answer."""
        return self.targets

    def untrained(self, split: Split | None) -> list[Untrained]:
        """Of every answer for which there are some, the classes that its training examples lack. None where
        the split is not known, or where training examples are drawn anew."""
        if split is None or not len(split.train):
            return []
        logits, found = self.vocabulary["logit"], []
        given, right = (x.reshape(self.n_inputs, -1) for x in (self.labels(split), self.targets))
        for answer, labels, targets in zip(self.reads.answers, given.T, right.T, strict=True):
            seen = torch.zeros(self.n_answers, dtype=torch.bool)
            seen[labels[split.train][labels[split.train] >= 0]] = True
            occurs = torch.zeros_like(seen)
            occurs[targets[targets >= 0]] = True
            tested = targets[split.test][targets[split.test] >= 0]
            if not (missing := (occurs & ~seen).nonzero().flatten()).numel():
                continue
            names = tuple(logits[token] for token in self.answer_tokens[missing].tolist())
            share = float((~seen[tested]).double().mean()) if len(tested) else 0.0
            found.append(Untrained(answer, names, int(occurs.sum()), share))
        return found

    @property
    def n_answers(self) -> int:
        """The number of answer classes."""
        return self.reads.n_classes

    @property
    def noisy(self) -> bool:
        """Whether the labels that a network is given are not always the right answers."""
        return False

    @property
    def element_tokens(self) -> Int[Tensor, "element"]:
        """The tokens of what examples are about, in their order: all, unless a family says otherwise."""
        return torch.arange(self.reads.d_vocab)

    @property
    def answer_tokens(self) -> Int[Tensor, "answers"]:
        """The logit of each answer class."""
        return torch.arange(self.n_answers)

    @property
    def written(self) -> Int[Tensor, "answers"] | None:
        """The token as which each answer class stands at the position after the one where it is read, where a
        network writes its answer token by token; None where answers are not read again. Answer classes are
        then the first logits."""
        return None

    @cached_property
    def columns(self) -> Int[Tensor, "n *answer"]:
        """The logit of the answer to every example: `targets`, unless answers share the tokens of a
        vocabulary."""
        return self.logit_of(self.targets)

    def logit_of(self, classes: Int[Tensor, "*any"]) -> Int[Tensor, "*any"]:
        """The logits of answer classes; -1 where no answer is asked."""
        return torch.where(classes < 0, -1, self.answer_tokens[classes.clamp(min=0)])

    @property
    def vocabulary(self) -> dict[str, tuple[str, ...]]:
        """What a network's inputs and outputs mean: the name of every token, the word at every position, the
        name of every logit. A network that learned one task can go on with another only where these are the
        same."""
        numbers = tuple(map(str, range(max(self.reads.d_vocab, self.reads.n_logits))))
        return {
            "token": numbers[: self.reads.d_vocab],
            "position": self.reads.words,
            "logit": numbers[: self.reads.n_logits],
        }

    @property
    def names(self) -> tuple[tuple[str, ...], ...]:
        """The names of all symbols, which are part of what a task is."""
        return tuple(self.vocabulary.values())

    @property
    def inputs(self) -> Int[Tensor, "n pos"] | Float[Tensor, "n ..."]:
        """What a network reads of every example of the sample."""
        return self.sample.inputs

    @cached_property
    def targets(self) -> Int[Tensor, "n *answer"]:
        """The class of the right answer to every example, -1 where it is not asked; with an axis for the
        answers where there are several."""
        return self.of_one_axis(self.sample.answers)

    def of_one_axis(self, answers: Int[Tensor, "n answer"]) -> Int[Tensor, "n *answer"]:
        """Answers without their axis where there is one answer."""
        return answers[:, 0].contiguous() if len(self.reads.answers) == 1 else answers

    @property
    def n_inputs(self) -> int:
        """The number of examples of the sample."""
        return len(self.sample)

    @cached_property
    def chance(self) -> float:
        """The share of the commonest answer, of several answers that of all of them: what is right for
        whoever always gives it."""
        answers = self.sample.answers[: self.n_representative]
        answers = answers[self.asked[: self.n_representative]]
        if len(self.reads.answers) == 1:
            return float(answers.flatten().bincount().max()) / len(answers)
        rows, counts = answers.unique(dim=0, return_counts=True)
        of_each = [column[column >= 0].bincount().argmax() for column in answers.T]
        best = [torch.stack(of_each), *rows[counts.argmax()][None]]
        return max(float(((answers == one) | (answers < 0)).all(1).double().mean()) for one in best)

    @cached_property
    def asked(self) -> Bool[Tensor, "n"]:
        """Of which examples of the sample anything is asked: of all, unless answers are -1."""
        return (self.sample.answers >= 0).any(1)

    @property
    def families(self) -> list[str]:
        """The names of the families that it belongs to, from the narrowest to that of all tasks."""
        return [family.__name__ for family in type(self).__mro__ if issubclass(family, Task)]
