"""Tasks: their parameters, and those of one's own."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

import grokinterp as gi
from grokinterp.tasks import Reads, Sample
from grokinterp.tasks.majority import Majority

from .base import mistake, with_memory

make = gi.make_task
of = gi.Task.of_function
TABLE = torch.arange(24.0).reshape(6, 4)
LABELS = [0, 1, 0, 1, 0, 1]


def made_by_one_annotated(family: type) -> gi.Task:
    """A Majority, of a function that says it makes a task of that family."""

    def of_my_own(examples: int = 8) -> Any:
        return own(examples=examples)

    of_my_own.__annotations__["return"] = family
    gi.task(of_my_own)
    try:
        return make("of_my_own", examples=8)
    finally:
        gi.TASKS.pop("of_my_own")


@dataclasses.dataclass(frozen=True)
class Own(Majority):
    """A task whose methods give what a row says."""

    gives_groups: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    gives_marks: Any = None

    def groups(self, split: Any) -> Mapping[str, Any]:
        return self.gives_groups

    def right(self, given: torch.Tensor) -> Any:
        return super().right(given) if self.gives_marks is None else self.gives_marks


def own(examples: int = 8, **gives: Any) -> Own:
    return Own(n=5, v=2, examples=examples, sample_seed=0, symbol="majority", **gives)


def judged(**gives: Any) -> Any:
    return own(**gives).judged(own().sample.answers)


def grouped(**groups: Any) -> Any:
    return own(gives_groups=groups).groups_of(None)


def reads(**changed: Any) -> Reads:
    """What a network may know of a task of three symbols."""
    known = {
        "shape": (3,), "d_vocab": 4, "words": ("a", "b", "="), "answers": ("c",), "positions": (2,),
        "n_logits": 4, "n_classes": 4, "task": "mine",
    }  # fmt: skip
    return Reads(**{**known, **changed})


def keys_in(text: str) -> dict[str, str]:
    """What `task.key=value`, as often as it stands there, sets."""
    return dict(re.findall(r"task\.(\w+)=(\w+)", text))


def asked(name: str, matrix: Any, **keys: Any) -> Sample:
    """A question about one matrix."""
    return make(name, examples=16, **keys).questions(np.array([matrix], float))


def registered(make_one: Any) -> gi.Task:
    """The task that a function makes, which is forgotten again."""
    try:
        return make(gi.task(make_one).__name__, m=5)
    finally:
        gi.TASKS.pop(make_one.__name__, None)


def bare(m):  # no annotation, which is the mistake
    return gi.Task.of_function(lambda a, b: (a * b) % m, m)


def annotated(m: int) -> gi.Task:
    return gi.Task.of_function(lambda a, b: (a * b) % m, m)


FUNCTIONS = [
    mistake(
        "a parameter without an annotation",
        lambda w: registered(bare),
        r"its parameter m has no annotation, .*: write what it is, such as m: int",
        lambda w, m: registered(annotated),
    ),
    mistake(
        "a function without operands",
        lambda w: of(lambda a, b: a + b),
        r"give p, for 0 \.\. p-1, or operands",
        lambda w, m: of(lambda a, b: a + b, 5),
        lambda w, m: of(lambda a, b: a + b, operands=[1, 2, 3]),
    ),
    mistake(
        "a set of operands",
        lambda w: of(lambda a, b: a + b, operands={3, 1, 2}),
        r"give a list, or sorted\(\.\.\.\) of it",
        lambda w, m: of(lambda a, b: a + b, operands=[3, 1, 2]),
        lambda w, m: of(lambda a, b: a + b, operands=sorted({3, 1, 2})),
    ),
    mistake(
        "too many operands",
        lambda w: of(lambda a, b: (a + b) % 2, 5000),
        r"give at most 4,000, or write a task whose operation takes tensors",
        lambda w, m: gi.Operation(5000, lambda a, b: (a + b) % 2).table,
    ),
    mistake(
        "operands that are lists",
        lambda w: of(lambda a, b: str(a) + str(b), operands=[[1], [2]]),
        r"give values such as numbers, strings or tuples of them",
        lambda w, m: of(lambda a, b: str(a) + str(b), operands=[1, 2]),
        lambda w, m: of(lambda a, b: str(a) + str(b), operands=["x", "y"]),
        lambda w, m: of(lambda a, b: str(a) + str(b), operands=[(1, 2), (3, "x")]),
    ),
    mistake(
        "a function that fails",
        lambda w: of(lambda a, b: a // b, 5),
        r"at a = 0, b = 0: ZeroDivisionError.*; return None where it is undefined",
        lambda w, m: of(lambda a, b: None if b == 0 else a // b, 5),
    ),
    mistake(
        "a function that gives lists",
        lambda w: of(lambda a, b: [a, b], 3),
        r"return a number, a string or a tuple",
        lambda w, m: of(lambda a, b: a * b, 3),
        lambda w, m: of(lambda a, b: f"{a}{b}", 3),
        lambda w, m: of(lambda a, b: (a, b), 3),
    ),
    mistake(
        "a function that gives NaN",
        lambda w: of(lambda a, b: float("nan") if a == b else a + b, 5),
        r"return None where it is undefined",
        lambda w, m: of(lambda a, b: None if a == b else a + b, 5),
    ),
]

OWN = [
    mistake(
        "a task that is not of the family that it says",
        lambda w: made_by_one_annotated(gi.Operation),
        r"returns (\w+) and .*: annotate it with what it makes",
        lambda w, m: made_by_one_annotated({"Own": Own}[m[1]]),
    ),
    mistake(
        "right() that gives one tensor",
        lambda w: judged(gives_marks=torch.ones(8, dtype=torch.bool)),
        r"give a mark for each criterion by its name",
        lambda w, m: judged(gives_marks={"exact": torch.ones(8, dtype=torch.bool)}),
    ),
    mistake(
        "a group without examples",
        lambda w: grouped(none=torch.zeros(8, dtype=torch.bool), some=torch.arange(8) < 3),
        r"the group '(\w+)' has no examples: leave it out",
        lambda w, m: grouped(some=torch.arange(8) < 3),
    ),
    mistake(
        "a group of row numbers",
        lambda w: grouped(some=torch.tensor([1, 2])),
        r"give a tensor of (\d+) booleans, one for each example",
        lambda w, m: grouped(some=torch.ones(int(m[1]), dtype=torch.bool)),
    ),
    mistake(
        "two answers at one position",
        lambda w: reads(answers=("c", "d")),
        r"give one position for each answer",
        lambda w, m: reads(answers=("c", "d"), positions=(1, 2)),
    ),
    mistake(
        "two words for three positions",
        lambda w: reads(words=("a", "b")),
        r"give one for each",
        lambda w, m: reads(words=("a", "b", "=")),
    ),
    mistake(
        "fewer logits than classes",
        lambda w: reads(n_logits=3),
        r"give a logit for each class, and whole numbers",
        lambda w, m: reads(n_logits=4, positions=(2,)),
    ),
    mistake(
        "numbers for some tokens",
        lambda w: reads(token_numbers=(0.0, 1.0)),
        r"has numbers for 2 of (\d+) tokens: give one for each, or none",
        lambda w, m: reads(token_numbers=tuple(map(float, range(int(m[1]))))),
        lambda w, m: reads(token_numbers=()),
    ),
    mistake(
        "an answer that there is not",
        lambda w: make("digit_addition", n=2, examples=16).reads.only("tenz"),
        r"did you mean '(\w+)'",
        lambda w, m: make("digit_addition", n=2, examples=16).reads.only(m[1]),
    ),
    mistake(
        "a task of no family",
        lambda w: gi.Task("modular_addition"),
        r"gi\.make_task\(name, \.\.\.\) makes a task that is known by name",
        lambda w, m: gi.make_task("modular_addition", p=7),
    ),
]

ARRAYS = [
    mistake(
        "arrays that do not fit into the memory",
        lambda w: with_memory("tasks.array", 300, lambda: gi.arrays(TABLE, LABELS)),
        r"give fewer, or smaller ones",
        lambda w, m: with_memory("tasks.array", 300, lambda: gi.arrays(TABLE[:4], LABELS[:4])),
        lambda w, m: with_memory("tasks.array", 300, lambda: gi.arrays(TABLE[:, :2], LABELS)),
    ),
    mistake(
        "a factor that is called as the labels are",
        lambda w: gi.arrays(TABLE, LABELS, {"class": LABELS}),
        r"factors: '(\w+)' is that of the labels: choose another name",
        lambda w, m: gi.arrays(TABLE, LABELS, {m[1] + "_of_it": LABELS}),
    ),
    mistake(
        "two classes of one name",
        lambda w: gi.arrays(TABLE, LABELS, names=["x", "x"]),
        r"give every class a name of its own",
        lambda w, m: gi.arrays(TABLE, LABELS, names=["x", "y"]),
    ),
]

PARAMETERS = [
    mistake(
        "more digits than fit into the memory",
        lambda w: with_memory("tasks.digits", 1e6, lambda: make("digit_addition", examples=100_000).sample),
        r"ask for fewer",
        lambda w, m: with_memory(
            "tasks.digits", 1e6, lambda: make("digit_addition", examples=100, per_class=10).sample
        ),
    ),
    mistake(
        "a digit that there is not",
        lambda w: make("digit_addition", answer="tens_", n=2),
        r"no digit '\w+'; .* has ([\w ,]+), or ask for \"(all)\"; did you mean '(\w+)'",
        lambda w, m: [make("digit_addition", n=2, answer=name).reads for name in m[1].split(", ")],
        lambda w, m: make("digit_addition", n=2, answer=m[2]).reads,
        lambda w, m: make("digit_addition", n=2, answer=m[3]).reads,
    ),
    mistake(
        "a sign that is called as a digit",
        lambda w: make("digit_addition", n=2, layout="a + b x1"),
        r"(\w+) is what a digit is called here: call the sign otherwise",
        lambda w, m: make("digit_addition", n=2, layout="a + b equals").reads,
    ),
    mistake(
        "a group that there is not",
        lambda w: make("group_composition", group="Q8"),
        r"needs a group such as (\w+), (\w+), (\w+) or (\w+) \((\w+), (\w+), (\w+) and (\w+) are the "
        r"smallest\)",
        lambda w, m: [make("group_composition", group=name).p for name in m.groups()],
    ),
    mistake(
        "more images than fit into the memory",
        lambda w: with_memory("tasks.images", 1e6, lambda: make("line_images", examples=10_000).sample),
        r"choose fewer",
        lambda w, m: with_memory("tasks.images", 1e6, lambda: make("line_images", examples=20).sample),
    ),
    mistake(
        "more slopes than pixels tell apart",
        lambda w: make("line_images", slopes=60, size=8),
        r"choose fewer slopes or a larger task\.size",
        lambda w, m: make("line_images", slopes=6, size=8),
        lambda w, m: make("line_images", slopes=60, size=64),
    ),
    mistake(
        "a layout without b",
        lambda w: make("modular_addition", p=5, layout="a ="),
        r"needs a and b once each .*, for example '(.+?)'",
        lambda w, m: make("modular_addition", p=5, layout=m[1]).reads,
    ),
    mistake(
        "noise of no kind",
        lambda w: make("modular_addition", p=7, noise={"share": 0.5}),
        r"needs a kind, such as \{kind = 'binomial', n = 4, p = 0\.5\} or \{kind = 'uniform', "
        r"share = 0\.35\}, or (none)",
        lambda w, m: make("modular_addition", p=7, noise={"kind": "binomial", "n": 4, "p": 0.5}),
        lambda w, m: make("modular_addition", p=7, noise={"kind": "uniform", "share": 0.35}),
        lambda w, m: make("modular_addition", p=7, noise=m[1]),
        lambda w, m: w.cli(
            'train modular_addition --p 7 --dry-run --preset quick --set \'task.noise={{kind = "binomial", '
            "n = 4, p = 0.5}}'"
        ),
    ),
    mistake(
        "a table that does not fit into the memory",
        lambda w: with_memory("tasks.operation", 1e4, lambda: make("modular_addition", p=113)),
        r"choose fewer elements",
        lambda w, m: with_memory("tasks.operation", 1e4, lambda: make("modular_addition", p=7)),
    ),
]

MATRICES = [
    mistake(
        "a distribution of eigenvalues of general matrices",
        lambda w: make("matrix_transpose", distribution="laplace", examples=16),
        r"set task\.(symmetric)=(true), or leave the distribution out",
        lambda w, m: make("matrix_transpose", distribution="laplace", symmetric=True, examples=16).sample,
        lambda w, m: make("matrix_transpose", examples=16),
    ),
    mistake(
        "more matrices than fit into the memory",
        lambda w: with_memory(
            "tasks.matrices.family", 1e7, lambda: make("matrix_transpose", examples=100_000)
        ),
        r"ask for fewer",
        lambda w, m: with_memory("tasks.matrices.family", 1e7, lambda: make("matrix_transpose", examples=50)),
    ),
    mistake(
        "a distribution named twice",
        lambda w: make("eigenvalues", distribution="laplace,laplace,semicircle", examples=16),
        r"names laplace twice: give it a share instead, (laplace:0\.5)",
        lambda w, m: make("eigenvalues", distribution=f"{m[1]},semicircle:0.5", examples=16),
    ),
    mistake(
        "a share for one distribution",
        lambda w: make("eigenvalues", distribution="laplace:0.5,semicircle", examples=16),
        r"give all or none",
        lambda w, m: make("eigenvalues", distribution="laplace:0.5,semicircle:0.5", examples=16),
        lambda w, m: make("eigenvalues", distribution="laplace,semicircle", examples=16),
    ),
    mistake(
        "an unknown encoding",
        lambda w: make("matrix_transpose", input_encoding="P100", examples=16),
        r"did you mean '(\w+)'",
        lambda w, m: make("matrix_transpose", input_encoding=m[1], examples=16).sample,
    ),
    mistake(
        "entries too large to be written",
        lambda w: make("matrix_inverse", max_entry=1e6, examples=16).sample,
        r"set both (.*), or choose another task\.max_entry",
        lambda w, m: make("matrix_inverse", max_entry=1e6, examples=16, **keys_in(m[1])).sample,
        lambda w, m: make("matrix_inverse", max_entry=5, examples=16).sample,
    ),
    mistake(
        "entries too small to be written well",
        lambda w: make("matrix_transpose", max_entry=1e-3, examples=16).sample,
        r"widen task\.(input_exponents), or choose a larger task\.max_entry",
        lambda w, m: make("matrix_transpose", max_entry=1e-3, examples=16, **{m[1]: "all"}).sample,
        lambda w, m: make("matrix_transpose", max_entry=10, examples=16).sample,
    ),
    *(
        mistake(
            f"a matrix with an entry of {entry:g}",
            lambda w, name=name, entry=entry: asked(name, [[entry, 0], [0, 1]]),
            r"cannot be written: .*: set (task.*)",
            lambda w, m, name=name, entry=entry: asked(name, [[entry, 0], [0, 1]], **keys_in(m[1])),
        )
        for name, entry in (("matrix_transpose", 1e6), ("matrix_transpose", 1e12))
    ),
    mistake(
        "a matrix of entries that become 0",
        lambda w: asked("matrix_transpose", [[1e-8, 0], [0, 1e-8]]),
        r"becomes 0: ask about a multiple of it, or set (task.*)",
        lambda w, m: asked("matrix_transpose", [[1, 0], [0, 1]]),
        lambda w, m: asked("matrix_transpose", [[1e-8, 0], [0, 1e-8]], **keys_in(m[1])),
    ),
]

TASKS = [*FUNCTIONS, *OWN, *ARRAYS, *PARAMETERS, *MATRICES]
