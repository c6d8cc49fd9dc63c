"""Slopes between opaque points: does a plot of the first two principal components of the embedding show the
grid?

python experiments/point_slope/run.py --check   # one seed, and the leak of ordered pairs: minutes
python experiments/point_slope/run.py           # three seeds

Exits 1 where a number is missed. A training that was interrupted goes on. Writes report.html and replay.html
beside each run.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import grokinterp as gi

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(HERE.parent))

from expectations import Row, between, equal, told, within  # noqa: E402

SEEDS = (0, 1, 2)
EARLY = 1000
"""A step at which the training examples are long known and the unseen ones are not."""
LEAKY = {
    "training.fraction": 0.8,
    "training.weight_decay": 1.0,
    "training.batch_size": None,
    "training.steps": 500,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="one seed")
    parser.add_argument(
        "--out", type=Path, default=ROOT / "runs" / "point_slope", help="the directory of the runs"
    )
    arguments = parser.parse_args()
    rows = [*facts(), *leak(arguments.out)]
    for seed in SEEDS[:1] if arguments.check else SEEDS:
        run = gi.train(gi.TrainConfig.preset("point_slope", seed=seed), arguments.out / f"seed_{seed}")
        gi.analyze(run).save_html(run.path / "report.html")
        gi.save_replay(run, run.path / "replay.html")
        rows += [*learned(run), *laid_out(run)]
    return told(rows)


def facts() -> list[Row]:
    """What the table is, before any training."""
    found = []
    for n, pairs, classes, share in ((7, 2352, 48, 0.125), (10, 9900, 112, 1 / 11)):
        known = gi.make_task("point_slope", n=n).facts
        found += [
            equal(f"{n} x {n}: pairs, classes", (known.examples, len(known.counts)), (pairs, classes)),
            within(f"{n} x {n}: share of the commonest answer", known.majority, share, 1e-9),
        ]
    return found


def leak(out: Path) -> list[Row]:
    """What a split of ordered pairs gives away: who knows (p, q) knows (q, p). Beside it the same network and
    training on unordered pairs."""
    runs = {}
    for pairs in ("ordered", "unordered"):
        config = gi.TrainConfig.preset("point_slope", **LEAKY, **{"task.pairs": pairs})
        runs[pairs] = gi.train(config, out / f"{pairs}_pairs")
    ordered, unordered = (run.history.iloc[-1] for run in runs.values())
    mirror = gi.measure("accuracy.mirror", runs["ordered"].view(-1))
    return [
        between("ordered pairs: test accuracy, 500 steps", ordered["test_accuracy"], 0.6, said="leaks"),
        between("of those whose mirror image was trained on", float(mirror.sel(mirror="trained on")), 0.9),
        between("unordered pairs: test accuracy, 500 steps", unordered["test_accuracy"], high=0.5),
        equal(
            "ordered pairs: the first two components show the grid", shows(runs["ordered"].view(-1)), False
        ),
    ]


def learned(run: gi.Run) -> list[Row]:
    """That it memorises first and generalises later."""
    history, seed = run.history, run.config.seed
    known = history[history["train_accuracy"] == 1]
    step, there = (None if known.empty else known.iloc[0][column] for column in ("step", "test_accuracy"))
    return [
        between(f"seed {seed}: first step with all training examples right", step, high=500),
        between(f"seed {seed}: test accuracy there", there, high=0.3),
        between(f"seed {seed}: test accuracy at the end", history.iloc[-1]["test_accuracy"], 0.9),
    ]


def laid_out(run: gi.Run) -> list[Row]:
    """Where the points lie in the embedding: early a fold, in the end a grid."""
    seed, early, late = run.config.seed, run.view(EARLY), run.view(-1)
    best = gi.measure("geometry.best_pair", late)
    made_of = gi.measure("geometry.poly_share", late).sel(degree=2)
    value, most = (best.sel(statistic=name).item() for name in ("value", "maximum"))
    fold = gi.measure("geometry.fold.reflection", early)
    linear, squares = shares(early)
    return [
        between(f"seed {seed}: x and y in the best pair of components", value, 0.6),
        between(f"seed {seed}: the same over the most by chance", value / most, 1),
        between(
            f"seed {seed}: polynomials of degree 2 over chance",
            made_of.sel(statistic="value").item() / made_of.sel(statistic="mean").item(), 5,
        ),
        equal(f"seed {seed}: the first two components show the grid, step {EARLY:,}", shows(early), False),
        between(f"seed {seed}: x², xy, y² over x, y, step {EARLY:,}", squares / linear, 1),
        between(
            f"seed {seed}: fold over the most by chance, step {EARLY:,}",
            fold.sel(statistic="value").item() / fold.sel(statistic="maximum").item(), 1,
        ),
        equal(f"seed {seed}: the first two components show the grid, at the end", shows(late), True),
    ]  # fmt: skip


def shows(view: gi.View) -> bool:
    """Whether a plane of the first two components has half of the coordinates, and more than by chance."""
    top2 = gi.measure("geometry.r2_top2", view)
    value, most = (top2.sel(statistic=name).item() for name in ("value", "maximum"))
    return bool(value >= 0.5 and value > most)


def shares(view: gi.View) -> Sequence[float]:
    """The shares of the embedding's variance of x and y, and of x², xy and y² beyond these."""
    linear, both, _ = gi.measure("geometry.poly_share", view).sel(statistic="value").values.tolist()
    return linear, both - linear


if __name__ == "__main__":
    sys.exit(main())
