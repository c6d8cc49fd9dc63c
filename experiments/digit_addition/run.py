"""Trains networks that add numbers of five digits, one digit or all, and holds what they show against the lab
notes of 2023 and an earlier measurement.

python experiments/digit_addition/run.py            # every network, three seeds (half an hour on 2 cores)
python experiments/digit_addition/run.py --check    # units, tens, tens by one head, one seed (minutes)
python experiments/digit_addition/run.py --only tens

Exits 1 where a number is missed. What is trained is kept, and only checked the next time.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grokinterp as gi

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(HERE.parent))

from expectations import Row, between, equal, told  # noqa: E402

from grokinterp.measures import digits_hypothesis  # noqa: E402

SEEDS = (0, 1, 2)
TENS_STEPS = 25_000
"""Many more than it takes to be right on every question: what carries the carry comes together later."""
OWN = "its own two digits, not the carry"


@dataclass(frozen=True)
class Recipe:
    """A network to train, and what is asked of it.

    Attributes:
        preset: with which changes.
        rows: what is asked of the run.
        quick: whether `--check` asks it.
    """

    preset: str
    changes: dict[str, Any]
    rows: Callable[[str, gi.Run], list[Row]]
    quick: bool = False


def first_below(run: gi.Run, level: float) -> int | None:
    """The first evaluation at which the test loss is below a level."""
    steps = run.history["step"][run.history["test_loss"] < level]
    return int(steps.iloc[0]) if len(steps) else None


def units(name: str, run: gi.Run) -> list[Row]:
    """A plateau at ln 10, and a fall."""
    (course,) = gi.plateaus(run)
    return [
        equal(f"{name}: knows on its first plateau", course.plateaus[0].known, "nothing"),
        between(f"{name}: first loss below 2.2, step", first_below(run, 2.2), 100, 150, said="near 120"),
        between(f"{name}: first loss below 1e-3, step", first_below(run, 1e-3), high=250),
    ]


def tens(name: str, run: gi.Run) -> list[Row]:
    """A plateau near ln 2, on which the carry is what is not known; it is trained until it knows that."""
    (course,) = gi.plateaus(run)
    (plateau,) = [each for each in course.plateaus if each.known == OWN] or [None]
    if plateau is None:
        return [equal(f"{name}: a plateau of {OWN}", "none", "one")]
    middle = min(run.steps, key=lambda step: abs(step - (plateau.first + plateau.last) / 2))
    profile = gi.measure("digits.delta_profile", run.view(middle)).sel(part="test")
    half_each = float(profile.sel(delta=[0, 1]).sum())
    view = run.view(-1)
    found = gi.interchange(view, digits_hypothesis(view.task))
    (verdict,) = [each for each in found.verdicts if each.subtask == "carry into the tens"]
    trials = [each for each in found.trials if each.subtask == verdict.subtask]
    carry = verdict.best or max(trials, key=lambda trial: trial.share)
    random_sets = verdict.random_sets or 0.0
    learned = float(gi.measure("accuracy", view).sel(part="test"))
    return [
        between(f"{name}: level of its plateau (nats)", plateau.level, 0.66, 0.80),
        between(f"{name}: length of its plateau (steps)", plateau.last - plateau.first, low=200),
        between(f"{name}: p(naive) + p(naive + 1), step {middle}", half_each, low=0.95),
        between(f"{name}: first loss below .05, step", first_below(run, 0.05), high=TENS_STEPS),
        between(f"{name}: questions that are right", learned, low=1),
        between(f"{name}: tens as the carry at {' with '.join(carry.sites)} says", carry.share, low=0.9),
        between(f"{name}: random sets as large", random_sets, high=carry.low),
    ]


def one_head(name: str, run: gi.Run) -> list[Row]:
    """One head does not get there."""
    return [
        between(f"{name}: lowest loss in 3,000 steps (nats)", float(run.history["test_loss"].min()), low=0.1)
    ]


def hundreds(name: str, run: gi.Run) -> list[Row]:
    """What came of a digit of which the notes say that it stalls near 0.13: nothing is asked of it, as two
    ways of drawing initial weights did not show it."""
    (course,) = gi.plateaus(run)
    print(f"  {course.sentence}")
    expected = "the notes: none, it stalls near .13"
    return [Row(f"{name}: first loss below .05, step", expected, first_below(run, 0.05), True)]


def all_digits(name: str, run: gi.Run) -> list[Row]:
    """Every digit is learned."""
    accuracy = gi.measure("accuracy", run.view(-1)).sel(part="test")
    for course in gi.plateaus(run):
        print(f"  {course.sentence}")
    return [
        between(f"{name}: accuracy of {answer}", float(accuracy.sel(answer=answer)), low=0.98)
        for answer in run.task.reads.answers
    ]


def recipe(
    digit: str, steps: int, rows: Callable[[str, gi.Run], list[Row]], quick: bool = False, **changes: Any
) -> Recipe:
    """One digit, evaluated every five steps on a small sample."""
    every = {
        "task.answer": digit,
        "task.examples": 1024,
        "task.per_class": 64,
        "training.steps": steps,
        "training.evaluate_every": 5,
        "snapshots.every": 20,
    }
    return Recipe("one_digit", {**every, **changes}, rows, quick)


RECIPES = {
    "units": recipe("units", 260, units, True, **{"training.weight_decay": 0.0}),
    "tens": recipe("tens", TENS_STEPS, tens, True, **{"snapshots.every": 100}),
    "tens_one_head": recipe("tens", 3000, one_head, True, **{"model.n_heads": 1}),
    "hundreds": recipe("hundreds", 2500, hundreds),
    "all_digits": Recipe("digits", {}, all_digits),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="the smallest form that shows what is asked for")
    parser.add_argument("--only", choices=RECIPES, help="one network alone")
    parser.add_argument("--seeds", type=int, nargs="+", help="other seeds than 0 1 2")
    parser.add_argument(
        "--out", type=Path, default=ROOT / "runs" / "digit_addition", help="the directory of the runs"
    )
    arguments = parser.parse_args()
    found: list[Row] = []
    for name, each in RECIPES.items():
        if arguments.only not in (None, name) or (arguments.check and not each.quick):
            continue
        for seed in arguments.seeds or (SEEDS[:1] if arguments.check else SEEDS):
            run = trained(each, arguments.out / f"{name}_seed_{seed}", seed)
            found += each.rows(f"{name}, seed {seed}", run)
    return told(found)


def trained(recipe: Recipe, out: Path, seed: int) -> gi.Run:
    """The run; prints the seconds that its training took, which nothing is asked of."""
    there, start = out.exists(), time.perf_counter()
    run = gi.train(gi.TrainConfig.preset(recipe.preset, seed=seed, **recipe.changes), out)
    how = "was there already" if there else f"trained in {time.perf_counter() - start:.0f} s"
    print(f"{out.name}: {how}", flush=True)
    return run


if __name__ == "__main__":
    sys.exit(main())
