"""Tasks about matrices: a fixed table of questions, fresh ones, and what is right.

The truth is that of a matrix as it is drawn, in float64; the network reads it rounded to three digits, and
`matrices` are these. What an answer is held against are the targets as their tokens say them, as in LAWT: an
answer that is right token by token has no error but that of the rounding of a problem's own equation.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float64, Int
from pydantic import BeforeValidator, Field
from torch import Tensor

from ...errors import ConfigError
from ...frozen import Frozen, checked
from ...memory import free_memory
from ..base import Factor, Sample, Task
from ..encoding import Seed
from ..reads import Reads
from ..registry import task
from . import lapack
from .distributions import Entries, Mixture, mixture
from .encodings import ENCODINGS, NumberEncoding, number_encoding
from .problems import Eigenvalues, Eigenvectors, Inverse, Problem, Sum, Transpose, index

START = "="
TOLERANCES = (0.05, 0.02, 0.01, 0.005)
"""Of d1, below which an answer is right."""
REDUCED = {"FP15": (-3, 0)}
"""The exponents that an encoding has where none are asked for, if these are not all: 7,399 numbers up to 999,
with three digits from .1 on."""
_LOST, _MOST_LOST, _SAID = 0.05, 0.5, 0.05
"""How far off a number is that has lost its digits, as a share of itself; the share of such numbers from
which a distribution is refused, and from which they are told of."""
_DRAWS = 100
"""How many matrices are drawn for each that is wanted, at most."""
_ALWAYS_GIVEN = 100
"""Answers of the sample that are tried on all of it, for chance."""
_PER_TOKEN = 3 * 8
"""Bytes of a token of an example while the sample is made."""


def _as_exponents(value: object) -> object:
    whole = isinstance(value, Sequence) and all(type(each) is int for each in value)
    if value is None or value == "all" or (whole and len(value) == 2):  # type: ignore[arg-type]
        return value
    raise ValueError('needs "all" or [low, high], the least and the greatest exponent')


Exponents = Annotated[tuple[int, int] | Literal["all"] | None, BeforeValidator(_as_exponents)]


class Common(Frozen):
    """The parameters that every task about matrices takes; they are fields of `Matrices`."""

    yes_or_no: ClassVar[frozenset[str]] = frozenset({"dimensions"})

    n: Annotated[int, Field(ge=1, le=30)] = 2
    """Rows and columns of a matrix."""
    distribution: str = "semicircle"
    """Of the eigenvalues of symmetric matrices: a name or a mixture (distributions.py)."""
    entries: Literal["uniform", "gaussian"] = "uniform"
    """Of matrices as they come."""
    max_entry: Annotated[float, Field(gt=0, le=1e6)] = 10.0
    """The bound of uniform entries; Gaussian ones have their deviation."""
    input_encoding: str = "FP15"
    output_encoding: str = "P1000"
    input_exponents: Exponents = None
    """The least and the greatest exponent that the encoding has tokens for, "all", or those of `REDUCED`."""
    output_exponents: Exponents = None
    dimensions: bool = False
    """Whether question and answer begin with the numbers of rows and columns."""
    examples: Annotated[int, Field(ge=2, le=10**6)] = 2048
    """Of the sample."""
    sample_seed: Seed = 0


class _Drawn(NamedTuple):
    """Matrices as drawn, the truth of each, their tokens, and how many had to be drawn for them."""

    matrices: Float64[Tensor, "n rows columns"]
    truth: Float64[Tensor, "n r c"]
    sample: Sample
    tried: int


@dataclass(frozen=True, eq=False, repr=False)
class Matrices(Task):
    """One problem of linear algebra about n x n matrices.

    Attributes:
        problem: what is asked.
        symmetric: whether all matrices are.
        given: the matrices of the sample, where they are somebody's own; `of` makes such a task.
    """

    common = Common
    examples_are = "matrices"

    problem: Problem
    symmetric: bool = False
    n: int = 2
    distribution: str = "semicircle"
    entries: Literal["uniform", "gaussian"] = "uniform"
    max_entry: float = 10.0
    input_encoding: str = "FP15"
    output_encoding: str = "P1000"
    input_exponents: Exponents = None
    output_exponents: Exponents = None
    dimensions: bool = False
    examples: int = 2048
    sample_seed: int = 0
    given: Float64[Tensor, "n rows columns"] | None = field(default=None, kw_only=True, repr=False)

    def __post_init__(self) -> None:
        if self._mixture.names != ("semicircle",) and not self.symmetric:
            raise ConfigError(
                f"task.distribution: {self.distribution!r} is one of the eigenvalues of symmetric matrices, "
                "and these are general: set task.symmetric=true, or leave the distribution out"
            )
        needed = self.examples * (self.reads.n_ctx + 4 * self.n**2) * _PER_TOKEN
        if needed > 0.8 * (free := free_memory()):
            raise ConfigError(
                f"task.examples: {self.examples:,} matrices of {self.n} x {self.n} need about "
                f"{needed / 1e9:.3g} GB, and {free / 1e9:.1f} GB are free: ask for fewer"
            )
        object.__setattr__(self, "symbol", self._title)

    @property
    def _title(self) -> str:
        kind = "symmetric" if self.symmetric else "general"
        two = "two " if self.problem.together == 2 else ""
        size = f"{two}{kind} {self.n} × {self.n} matrices"
        if self.given is not None:
            return f"{self.problem.title} of {size} that were given"
        of = self.distribution if self.symmetric else f"{self.entries} entries"
        return f"{self.problem.title} of {size}, {of}"

    # How a question is written

    @cached_property
    def input(self) -> NumberEncoding:
        """How the entries of the question are written."""
        return self._encoding("input", self.input_encoding, self.input_exponents)

    @cached_property
    def output(self) -> NumberEncoding:
        """How the entries of the answer are written."""
        return self._encoding("output", self.output_encoding, self.output_exponents)

    def _encoding(self, side: str, name: str, exponents: Exponents) -> NumberEncoding:
        wanted = REDUCED.get(name) if exponents is None else None if exponents == "all" else exponents
        return number_encoding(name, wanted, f"task.{side}_encoding")

    @property
    def question_shape(self) -> tuple[int, int]:
        """Rows and columns of what is asked about."""
        return self.n, self.n * self.problem.together

    @property
    def answer_shape(self) -> tuple[int, int]:
        """Rows and columns of the answer."""
        return self.problem.answer_shape(self.n)

    @cached_property
    def _classes(self) -> tuple[str, ...]:
        """The names of the tokens that an answer may have: those of numbers, then those of dimensions."""
        return (*self.output.symbols, *_of_dimensions(self.answer_shape if self.dimensions else ()))

    @cached_property
    def _tokens(self) -> tuple[str, ...]:
        """The names of all tokens: of the question, of the answer where they are others, the start."""
        of_question = (
            *self.input.symbols,
            *_of_dimensions(self.question_shape if self.dimensions else ()),
        )
        return tuple(dict.fromkeys((*of_question, *self._classes, START)))

    @cached_property
    def written(self) -> Int[Tensor, "answers"]:
        """The token as which each answer class stands in an example."""
        token = {name: i for i, name in enumerate(self._tokens)}
        return torch.tensor([token[name] for name in self._classes])

    @property
    def vocabulary(self) -> dict[str, tuple[str, ...]]:
        """The names of the tokens, of the positions and of the classes."""
        return {"token": self._tokens, "position": self.reads.words, "logit": self._classes}

    @cached_property
    def reads(self) -> Reads:
        """The entries of the matrix, the start, and the answer but for its last token."""
        question = self._words(self.question_shape, self.input, lambda i, j: f"a{index(i, j)}")
        answers = self._words(self.answer_shape, self.output, self.problem.coefficient, "_of_answer")
        words = (*question, START, *answers[:-1])
        positions = tuple(range(len(question), len(words)))
        n = len(self._classes)
        return Reads((len(words),), len(self._tokens), words, answers, positions, n, n, self.name)

    def _words(
        self, shape: tuple[int, int], encoding: NumberEncoding, name: Any, of: str = ""
    ) -> tuple[str, ...]:
        """The name of every token of a matrix."""
        dimensions = (f"rows{of}", f"columns{of}") if self.dimensions else ()
        numbers = (
            f"{name(i, j)}{'_' * bool(slot.name)}{slot.name}"
            for i in range(shape[0])
            for j in range(shape[1])
            for slot in encoding.slots
        )
        return (*dimensions, *numbers)

    @property
    def words_mean(self) -> str:
        """Which entries the words name, and how many matrices were drawn anew."""
        pair = " The second matrix stands beside the first." if self.problem.together == 2 else ""
        return f"a12 is the entry in row 1 and column 2 of the matrix.{pair} {self.refused}".strip()

    # The questions

    def draw(self, n: int, generator: torch.Generator) -> Sample:
        """Questions about fresh matrices. One that cannot be written, or that has no answer that can be, is
        drawn anew, as in LAWT: never is a number clipped. `refused` says how often that is.

        Raises:
            ConfigError: not one in a hundred can be asked.
        """
        return self._drawn(n, generator).sample

    def _drawn(self, n: int, generator: torch.Generator) -> _Drawn:
        kept: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
        missing, tried = n, 0
        while missing:
            if tried >= _DRAWS * n:
                raise ConfigError(
                    f"{self.name}: of {tried:,} matrices that were drawn {n - missing:,} can be asked, the "
                    f"others have entries or answers that {self._written_with} cannot write: set both "
                    "task.input_exponents=all and task.output_exponents=all, or choose another task.max_entry"
                )
            matrices = self._matrices(missing, generator)
            truth, asked = self.problem.truth(matrices)
            question, in_range = self._encoded(matrices, self.input)
            answer, out_range = self._encoded(truth, self.output)
            asked &= in_range & out_range
            tried += missing
            if asked.all():
                kept.append((matrices, truth, question, answer))
                missing = 0
            else:
                kept.append((matrices[asked], truth[asked], question[asked], answer[asked]))
                missing -= int(asked.sum())
        matrices, truth, question, answer = (
            kept[0] if len(kept) == 1 else map(torch.cat, zip(*kept, strict=True))
        )
        return _Drawn(matrices, truth, self._row(question, answer), tried)

    @property
    def _written_with(self) -> str:
        return " and ".join(dict.fromkeys((self.input.name, self.output.name)))

    def _matrices(self, n: int, generator: torch.Generator) -> Float64[Tensor, "n rows columns"]:
        entries = Entries(self.entries, self.max_entry)
        if not self.symmetric:
            return entries.general(n, *self.question_shape, generator)
        both = [self._mixture.draw(n, self.n, entries, generator) for _ in range(self.problem.together)]
        return torch.cat(both, -1) if len(both) > 1 else both[0]

    @cached_property
    def _mixture(self) -> Mixture:
        return mixture(self.distribution)

    @staticmethod
    def _encoded(
        matrices: Float64[Tensor, "n rows columns"], encoding: NumberEncoding
    ) -> tuple[Int[Tensor, "n token"], Bool[Tensor, "n"]]:
        tokens, valid = encoding.encode(matrices.flatten(1))
        return tokens.flatten(1), valid.all(1)

    def _row(self, question: Int[Tensor, "n token"], answer: Int[Tensor, "n answered"]) -> Sample:
        """Examples of the tokens of numbers."""
        n, parts, answers = len(question), [question], answer
        if self.dimensions:
            of_question, of_answer = self._sizes
            parts = [of_question.expand(n, 2), question]
            answers = torch.cat([of_answer.expand(n, 2), answer], 1)
        start = _column(len(self._tokens) - 1, n)
        return Sample(torch.cat([*parts, start, self.written[answers[:, :-1]]], 1), answers)

    @cached_property
    def _sizes(self) -> tuple[Int[Tensor, "2"], Int[Tensor, "2"]]:
        """The tokens of rows and columns of the question, and the classes of those of the answer."""
        question, answer = ([f"V{size}" for size in s] for s in (self.question_shape, self.answer_shape))
        return (
            torch.tensor([self._tokens.index(name) for name in question]),
            torch.tensor([self._classes.index(name) for name in answer]),
        )

    @cached_property
    def _made(self) -> _Drawn:
        if self.given is None:
            made = self._drawn(self.examples, _apart(self.sample_seed))
            for key, share, said in self._lost(made):
                if share >= _MOST_LOST:
                    raise ConfigError(
                        f"{self.name}: {said}: widen task.{key}_exponents, or choose "
                        f"{'a larger' if key == 'input' else 'another'} task.max_entry"
                    )
            return made
        truth, _ = self.problem.truth(self.given)
        return _Drawn(self.given, truth, self.questions(self.given), len(self.given))

    def _lost(self, made: _Drawn) -> Iterator[tuple[str, float, str]]:
        """How many of the numbers that were drawn lose their digits as they are written: on which side, which
        share, and this as a sentence without its end."""
        for key, encoding, what, numbers in (
            ("input", self.input, "entries", made.matrices),
            ("output", self.output, "entries of answers", made.truth),
        ):
            off = (_as_written(numbers, encoding) - numbers).abs() >= _LOST * numbers.abs()
            share = float((off & (numbers != 0)).double().mean())
            said = f"{100 * share:.3g} % of the {what} that are drawn are off by {100 * _LOST:g} % or more"
            yield key, share, f"{said} as {encoding} writes them"

    @property
    def sample(self) -> Sample:
        """So many questions, drawn once, from another stream than any that is learned from; or those about
        the matrices that were given."""
        return self._made.sample

    @property
    def truth(self) -> Float64[Tensor, "n r c"]:
        """The answers to the sample before they are written."""
        return self._made.truth

    @cached_property
    def matrices(self) -> Float64[Tensor, "n rows columns"]:
        """The matrices of the sample as their tokens say them."""
        return _as_written(self._made.matrices, self.input)

    @cached_property
    def encoded_truth(self) -> Float64[Tensor, "n r c"]:
        """The answers to the sample as their tokens say them."""
        return self.found(self.sample.answers)[0]

    @cached_property
    def refused(self) -> str:
        """How many of the matrices drawn for the sample could not be asked, and how many numbers lose their
        digits, in sentences; empty where all could, and hardly any does."""
        over, said = self._made.tried - len(self.sample), []
        if over:
            said.append(
                f"{100 * over / self._made.tried:.2g} % of the matrices drawn have entries or answers that "
                f"{self._written_with} cannot write, or no inverse, and were drawn anew."
            )
        if self.given is None:
            said += [f"{lost}." for _, share, lost in self._lost(self._made) if share >= _SAID]
        return " ".join(said)

    # Matrices of one's own

    def questions(self, matrices: Any) -> Sample:
        """Questions about matrices that somebody has.

        Args:
            matrices: [m, rows, columns], an array of numpy, a tensor or lists.

        Raises:
            ConfigError: they are no such matrices, one is not symmetric where it has to be, has no inverse
                where that is asked, or has an entry or an answer that cannot be written.
        """
        numbers = self._looked_through(matrices)
        truth, answered = self.problem.truth(numbers)
        if not answered.all():
            raise ConfigError(
                f"matrices: matrix {_first(~answered)} is singular to float64: it has no inverse that can be "
                "asked for"
            )
        question, asked = self._encoded(numbers, self.input)
        answer, written = self._encoded(truth, self.output)
        for what, valid, of, encoding, key in (
            ("entry", asked, numbers, self.input, "input"),
            ("answer", written, truth, self.output, "output"),
        ):
            if not valid.all():
                row = _first(~valid)
                entries = of[row].flatten()
                reason = next(filter(None, map(encoding.refusal, entries.tolist())))
                wider = _wider(key, encoding, partial(_writes, entries))
                raise ConfigError(
                    f"matrices: matrix {row} has an {what} that cannot be written: {reason}: "
                    f"{wider or 'no encoding writes both it and the other entries'}"
                )
        self._refuse_others(numbers)
        return self._row(question, answer)

    def _refuse_others(self, numbers: Float64[Tensor, "n rows columns"]) -> None:
        """
        Raises:
            ConfigError: a matrix is another one in what matters as its tokens say it.
        """
        shown = _as_written(numbers, self.input)
        size, off = numbers.abs(), (shown - numbers).abs()
        if (other := off.sum((1, 2)) > TOLERANCES[0] * size.sum((1, 2))).any():
            row = _first(other)
            i, j = divmod(int(off[row].argmax()), numbers.shape[2])

            def holds(wide: NumberEncoding) -> bool:
                off = (_as_written(numbers[row : row + 1], wide) - numbers[row]).abs().sum()
                return bool(off <= TOLERANCES[0] * size[row].sum())

            wider = _wider("input", self.input, holds)
            raise ConfigError(
                f"matrices: matrix {row} is another one as {self.input} writes it: {numbers[row, i, j]:g} in "
                f"row {i + 1}, column {j + 1} becomes {shown[row, i, j]:g}: "
                f"ask about a multiple of it{f', or {wider}' * bool(wider)}"
            )
        _, answered = self.problem.truth(shown)
        if not answered.all():
            raise ConfigError(
                f"matrices: matrix {_first(~answered)} is singular as {self.input} writes it: it has no "
                "inverse that can be asked for"
            )

    def _looked_through(self, matrices: Any) -> Float64[Tensor, "n rows columns"]:
        rows, columns = self.question_shape
        given = matrices.detach().cpu().numpy() if isinstance(matrices, Tensor) else matrices
        try:
            as_given = np.asarray(given)
            if np.iscomplexobj(as_given):
                raise ConfigError("matrices: are complex, and real numbers are asked about")
            array = np.array(as_given, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"matrices: are no array of numbers: {error}") from None
        if array.ndim != 3 or array.shape[1:] != (rows, columns) or not len(array):
            raise ConfigError(
                f"matrices: needs an array [m, {rows}, {columns}], got one of shape {[*array.shape]}"
            )
        numbers = torch.from_numpy(array)
        if not (finite := numbers.isfinite().flatten(1).all(1)).all():
            raise ConfigError(f"matrices: matrix {_first(~finite)} has an entry that is NaN or infinite")
        if not self.symmetric:
            return numbers
        for one in numbers.chunk(self.problem.together, -1):
            apart = (one - one.mT).abs()
            if (odd := (apart > 1e-9 * one.abs().amax((1, 2), keepdim=True)).flatten(1).any(1)).any():
                row = _first(odd)
                i, j = divmod(int(apart[row].argmax()), self.n)
                raise ConfigError(
                    f"matrices: matrix {row} is not symmetric, as {self.problem.title} of symmetric ones are "
                    f"asked: {one[row, i, j]:g} in row {i + 1}, column {j + 1} and {one[row, j, i]:g} in row "
                    f"{j + 1}, column {i + 1}"
                )
        return numbers

    def of(self, matrices: Any) -> Matrices:
        """The same task about matrices that somebody has: `view.on(task.of(matrices))`.

        Raises:
            ConfigError: as `questions` has it.
        """
        numbers = self._looked_through(matrices)
        made = replace(self, given=numbers, examples=len(numbers))
        _ = made.sample
        return made

    def sampled(
        self, distribution: str | None = None, *, seed: int | None = None, examples: int | None = None
    ) -> Matrices:
        """The same task with another sample: `view.on(task.sampled("laplace"))` is a network on matrices of
        another distribution.

        Raises:
            ConfigError: an unknown distribution, or examples or a seed that the task does not take.
        """
        asked = {"distribution": distribution, "sample_seed": seed, "examples": examples}
        changes: dict[str, Any] = {key: value for key, value in asked.items() if value is not None}
        values = checked(Common, changes, at="task")
        changes = {key: getattr(values, key) for key in changes}
        return replace(self, given=None, params={**self.params, **changes}, **changes)

    # What is right

    def found(self, given: Int[Tensor, "n answered"]) -> tuple[Float64[Tensor, "n r c"], Bool[Tensor, "n"]]:
        """The matrices that answers (classes) say, and which of them are one: NaN where a token stands at a
        place that is not its own.

        Raises:
            ConfigError: answers have more tokens, or fewer.
        """
        rows, columns = self.answer_shape
        if given.shape[1] != (needed := len(self.reads.answers)):
            raise ConfigError(f"given: an answer to {self.name} has {needed} tokens, got {given.shape[1]}")
        written, valid = given, torch.ones(len(given), dtype=torch.bool)
        if self.dimensions:
            valid = (given[:, :2] == self._sizes[1]).all(1)
            written = given[:, 2:]
        numbers, are = self.output.decode(written.reshape(len(given), rows * columns, self.output.width))
        valid = valid & are.all(1)
        return numbers.unflatten(1, (rows, columns)).where(valid[:, None, None], math.nan), valid

    def errors(self, given: Int[Tensor, "n answered"]) -> dict[str, Float64[Tensor, "n"]]:
        """How wrong answers to the sample are by every measure of the problem (problems.py): infinite where
        they are no matrix, all coefficients of which are wrong."""
        found, valid = self.found(given)
        errors = self.problem.errors(self.matrices, self.encoded_truth, found)
        return {
            name: error.where(valid, 1.0 if name.endswith("coefficients") else math.inf)
            for name, error in errors.items()
        }

    def by_coefficient(self, given: Int[Tensor, "n answered"]) -> Float64[Tensor, "n i j"]:
        """How far off every coefficient of the problem's equation is, as a share; infinite where an answer is
        no matrix."""
        found, valid = self.found(given)
        off = self.problem.by_coefficient(self.matrices, self.encoded_truth, found)
        return off.where(valid[:, None, None], math.inf)

    def right(self, given: Int[Tensor, "n answered"]) -> dict[str, Bool[Tensor, "n"]]:
        """By the tolerance of d1, and "exact": every token as in the sample. As in LAWT an exact answer is
        right by any tolerance, also where three digits are too few for the problem's equation."""
        exact, error = (given == self.sample.answers).all(1), self.errors(given)["d1"]
        within = {f"within {100 * share:g} %": (error < share) | exact for share in TOLERANCES}
        return {**within, "exact": exact}

    @property
    def criterion(self) -> str:
        """Within the largest of the tolerances."""
        return f"within {100 * TOLERANCES[0]:g} %"

    @cached_property
    def chance(self) -> float:
        """The share right by the criterion, of all others, for whoever always gives the best of a hundred
        answers of the sample."""
        given = self.sample.answers
        if len(given) < 2:
            return 0.0
        each = (self.right(one.expand_as(given))[self.criterion] for one in given[:_ALWAYS_GIVEN])
        return max((int(right.sum()) - 1) / (len(given) - 1) for right in each)

    @cached_property
    def factors(self) -> Mapping[str, Factor]:
        """Numbers that are known of every matrix as its tokens say it: the eigenvalues where it is
        symmetric, the greatest first, trace, determinant, the logarithm (base 10) of its condition number
        (at most 15.7) and its Frobenius norm. Of two matrices the norm alone."""
        matrices = self.matrices
        norm = {"norm": Factor(torch.linalg.matrix_norm(matrices))}
        if self.problem.together > 1:
            return norm
        of_symmetric: dict[str, Factor] = {}
        if self.symmetric:
            values = lapack.eigenvalues(matrices).flip(1)
            of_symmetric = {f"eigenvalue_{i}": Factor(value) for i, value in enumerate(values.T, 1)}
        return {
            **of_symmetric,
            "trace": Factor(matrices.diagonal(dim1=1, dim2=2).sum(1)),
            "determinant": Factor(torch.linalg.det(matrices)),
            "log_condition": Factor(log_condition(matrices)),
            **norm,
        }


def _wider(key: str, encoding: NumberEncoding, holds: Callable[[NumberEncoding], bool]) -> str:
    """What to set so that numbers can be written: the exponents of their encoding, else another one;
    "" where there is none."""
    all_of_them = f"set task.{key}_exponents=all"
    if holds(number_encoding(encoding.name)):
        return all_of_them
    others = (name for name in ENCODINGS if holds(number_encoding(name)))
    return next((f"{all_of_them} and task.{key}_encoding={name}" for name in others), "")


def _writes(numbers: Float64[Tensor, "m"], encoding: NumberEncoding) -> bool:
    """Whether an encoding has tokens for all of them."""
    return bool(encoding.encode(numbers)[1].all())


def _as_written(
    numbers: Float64[Tensor, "n rows columns"], encoding: NumberEncoding
) -> Float64[Tensor, "n rows columns"]:
    """Numbers as their tokens say them."""
    return encoding.decode(encoding.encode(numbers)[0])[0]


def log_condition(matrices: Float64[Tensor, "n rows columns"]) -> Float64[Tensor, "n"]:
    """The logarithm (base 10) of the condition number in the 2-norm; at most that of 1 / ε, 15.7, which a
    singular matrix has."""
    singular = lapack.singular_values(matrices)
    greatest, least = singular[:, 0], singular[:, -1]
    ratio = (least / greatest.where(greatest > 0, 1.0)).clamp(min=torch.finfo(torch.float64).eps)
    return -ratio.log10()


def _of_dimensions(shape: Sequence[int]) -> tuple[str, ...]:
    """The tokens of these numbers of rows and columns."""
    return tuple(dict.fromkeys(f"V{size}" for size in shape))


def _column(token: int, n: int) -> Int[Tensor, "n 1"]:
    return torch.full((n, 1), token)


def _first(rows: Bool[Tensor, "n"]) -> int:
    return int(rows.nonzero()[0])


def _apart(seed: int) -> torch.Generator:
    """A generator that no training has, nor anybody who takes the seed as it stands."""
    digest = hashlib.sha256(f"evaluation of matrices {seed}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:4], "big"))


@task
def eigenvalues() -> Matrices:
    """The eigenvalues of a symmetric matrix, the greatest first."""
    return Matrices(Eigenvalues(), symmetric=True)


@task
def eigenvectors() -> Matrices:
    """The eigenvalues of a symmetric matrix, the least first, and an orthonormal eigenvector for each."""
    return Matrices(Eigenvectors(), symmetric=True)


@task
def matrix_inverse(symmetric: bool = False) -> Matrices:
    """The inverse of a matrix."""
    return Matrices(Inverse(), symmetric=symmetric)


@task
def matrix_transpose(symmetric: bool = False) -> Matrices:
    """A matrix with rows and columns exchanged."""
    return Matrices(Transpose(), symmetric=symmetric)


@task
def matrix_addition(symmetric: bool = False) -> Matrices:
    """The sum of two matrices that stand side by side."""
    return Matrices(Sum(), symmetric=symmetric)
