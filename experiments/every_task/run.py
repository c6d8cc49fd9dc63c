"""Trains every task with the recipe that it takes where none is named, and says when each was learned.

python experiments/every_task/run.py            # three seeds of each, then writes docs/tasks.md
python experiments/every_task/run.py --check    # one seed of each

Exits 1 where a task is not learned well before its steps are over, or one is of which it is said that it is
not. A training that was interrupted goes on; one that is finished is only checked.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grokinterp as gi
from grokinterp.training import DEFAULTS

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(Path(__file__).parents[1]))

from expectations import Row, between, told  # noqa: E402

SEEDS = (0, 1, 2)
MARGIN = 0.75
"""The share of a recipe's steps in which its task has to be learned: other processors round otherwise."""
UNLEARNED = 0.98
"""The test accuracy that a task of which it is said that it is not learned has to stay below."""


@dataclass(frozen=True)
class Outcome:
    """What came of the seeds of one task.

    Attributes:
        config: of the first of them.
        steps: to 99 % of the test examples, None where it was not seen.
        accuracies: of the test examples, at the end.
        seconds: of processors, that each training took; NaN where it was there already.
    """

    config: gi.TrainConfig
    steps: Sequence[int | None]
    accuracies: Sequence[float]
    seconds: Sequence[float]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="one seed of each, and no page")
    parser.add_argument(
        "--out", type=Path, default=ROOT / "runs" / "every_task", help="the directory of the runs"
    )
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "tasks.md", help="the page to write")
    arguments = parser.parse_args()
    outcomes = {
        name: trained(name, SEEDS[:1] if arguments.check else SEEDS, arguments.out) for name in DEFAULTS
    }
    if not arguments.check:
        arguments.page.write_text(page(outcomes))
    return told([row for name, outcome in outcomes.items() for row in rows(name, outcome)])


def trained(name: str, seeds: Sequence[int], out: Path, **overrides: Any) -> Outcome:
    """The runs of a task."""
    runs, seconds = [], []
    for seed in seeds:
        place = out / f"{name}_{seed}"
        there, start = place.exists(), time.process_time()
        runs.append(gi.train(gi.TrainConfig.of_task(name, seed=seed, **overrides), place))
        seconds.append(math.nan if there else time.process_time() - start)
    found = gi.compare(runs).compared.to_dict()["runs"]
    steps = [each["steps_to_99"]["test"]["by"] for each in found]
    return Outcome(runs[0].config, steps, [each["final"]["test_accuracy"] for each in found], seconds)


def rows(name: str, outcome: Outcome) -> list[Row]:
    """That each seed learned its task in time, and held it; or stayed where it is said that it stays."""
    most = MARGIN * outcome.config.training.steps
    learns = DEFAULTS[name].unlearned is None
    found = []
    for seed, steps, accuracy in zip(SEEDS, outcome.steps, outcome.accuracies, strict=False):
        if learns:
            found.append(between(f"{name}, seed {seed}: steps to 99 %", steps, high=most))
        bounds = {"low": 0.99} if learns else {"high": UNLEARNED}
        found.append(between(f"{name}, seed {seed}: test accuracy at the end", accuracy, **bounds))
    return found


def page(outcomes: Mapping[str, Outcome]) -> str:
    """docs/tasks.md."""
    learned = {name: outcome for name, outcome in outcomes.items() if DEFAULTS[name].unlearned is None}
    lines = [*HEAD, *(line(name, outcome) for name, outcome in learned.items()), *MIDDLE]
    for name, outcome in outcomes.items():
        if name not in learned:
            lines.append(
                f"{start(name)} {spread([f'{each:.2f}' for each in outcome.accuracies])} | "
                f"{DEFAULTS[name].unlearned} |"
            )
    return "\n".join([*lines, *TAIL]) + "\n"


def line(name: str, outcome: Outcome) -> str:
    """The row of a task that is learned."""
    config = outcome.config
    keys = ("group", "p", "n", "v", "size", "slopes")
    sizes = {key: config.task[key] for key in keys if key in config.task}
    named = ", ".join(f"{key} = {value}" for key, value in sizes.items())
    size = next(iter(sizes.values())) if len(sizes) == 1 else named
    seconds = max(outcome.seconds)
    took = "" if math.isnan(seconds) else f"{seconds:.0f}"
    return f"{start(name)} {size} | {spread(outcome.steps)} | {config.training.steps:,} | {took} |"


def start(name: str) -> str:
    """The first cells of a row: the task, its preset, and what is laid over that."""
    changes = ", ".join(f"`{key}={value}`" for key, value in DEFAULTS[name].changes.items())
    return f"| `{name}` | `{DEFAULTS[name].preset}` | {changes} |"


def spread(values: Sequence[Any]) -> str:
    """The least and the greatest."""
    told = [
        value if isinstance(value, str) else f"{value:,}"
        for value in sorted(value for value in values if value is not None)
    ]
    return ("not all: " if None in values else "") + (
        "–".join(dict.fromkeys((told[0], told[-1]))) if told else "none"
    )


HEAD = [
    "# Tasks and their recipes",
    "",
    "`grokinterp train TASK --out DIR`, with nothing else, takes the recipe of the task; in Python it is "
    "`gi.TrainConfig.of_task(TASK)`.",
    "`--preset`, `--config` and `--set` take its place or change it. Which it is stands in",
    "[presets.py](../src/grokinterp/training/presets.py); this page is written by",
    "[experiments/every_task/run.py](../experiments/every_task/run.py), which trains all of them.",
    "",
    "Steps are those to 99 % of the unseen examples (where examples are drawn anew, of the evaluation "
    "sample, with every answer right), over three seeds of the initial weights; seconds are "
    "processor time of the",
    "longest training on a busy server, to which starting Python adds a few. Another processor rounds "
    "otherwise and comes to other",
    "numbers; `run.py --check` wants 99 % in three quarters of the steps.",
    "",
    "| task | preset | changed | size | steps to 99 % | of at most | CPU seconds |",
    "|---|---|---|---|---|---|---|",
]
MIDDLE = [
    "",
    "These are not learned to 99 % of the unseen examples, and the command says so before it begins:",
    "",
    "| task | preset | changed | test accuracy | why |",
    "|---|---|---|---|---|",
]
TAIL = [
    "",
    "With another `--p`, group, convention or kind of network, or with noise, the command says what the "
    "recipe was tuned with, and",
    "trains. `doshi` is the perceptron of Doshi et al. 2024: one-hot operands, a layer of squares, squared "
    "error. An operation that is",
    "addition but for the names of its operands and answers is no harder for it than addition, which is not "
    "so for a transformer.",
    "",
    "## Slopes between points, and pairs that leak",
    "",
    "`point_slope` asks for the slope of the line through two points of an n x n grid. The network "
    "is shown opaque symbols, never coordinates: it has to",
    "find out where they lie. slope(p, q) = slope(q, p), so a split that puts the two orders of a "
    "pair on different sides gives the answer away: a network",
    "that is merely symmetric in its inputs knows (q, p) once it was trained on (p, q). With 80 % of "
    "the ordered pairs it is right on 94 % of the test",
    "examples after 500 steps, and on all whose mirror image it was trained on; with 80 % of the "
    "unordered pairs, trained alike, on 36 %. So a split keeps",
    "{p, q} on one side; `--set task.pairs=ordered` splits them one by one, and the report then says "
    "how much was known from mirror images.",
    "",
    "The preset `point_slope` starts from larger weights (`model.init_scale = 1.2`): it memorises "
    "all training examples while most of the unseen are",
    "wrong, and learns the grid later. The default recipe takes the initial weights of Nanda et al. "
    "as they are, at twice the learning rate, and learns in a quarter of the",
    "steps, with less of a gap; without its stop it leaps back below 99 % now and then.",
    "[experiments/point_slope](../experiments/point_slope/README.md) says what the embedding looks "
    "like on the way. Where a split leaves out all examples",
    "of some class, the command and the report say which classes these are, and what share of the "
    "test examples has such an answer.",
    "",
    "## Matrices",
    "",
    "`eigenvalues`, `eigenvectors`, `matrix_inverse`, `matrix_transpose` and `matrix_addition` ask "
    "about n x n matrices whose entries stand as tokens, as in",
    "Charton 2022 (arXiv 2112.01898, 2211.00170). `task.input_encoding` and `task.output_encoding` "
    "are P10 (`+ 3 1 4 E-2`), P1000 (`+ 314 E-2`), B1999",
    "(`N314 E-2`) or FP15 (one token a number). FP15 has the exponents −3 to 0 unless "
    "`task.input_exponents=all` is asked for: 7,399 tokens in place of",
    "28,999, numbers up to 999, three digits from .1 on; that is a reduction of this package. A "
    "matrix with a number that cannot be written is drawn",
    "anew, never clipped; `task.refused` says how often. `task.distribution` is one of semicircle, "
    "positive, uniform, gaussian, laplace, positive2 and",
    "marcenko, or a mixture (`semicircle:0.7,laplace:0.3`); general matrices "
    "(`task.symmetric=false`) have independent entries. Truth is LAPACK's of the",
    "matrix as drawn; an answer is right within 5, 2, 1 or .5 % by the error that Charton uses for "
    "the problem (`accuracy.by_criterion`).",
    '`view.on(run.task.sampled("laplace"))` is a network on another distribution, '
    "`view.on(run.task.of(matrices))` on matrices of your own.",
]


if __name__ == "__main__":
    sys.exit(main())
