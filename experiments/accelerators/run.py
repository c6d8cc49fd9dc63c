"""Which of the recipes that are said to make grokking come sooner do so, each at the learning rate that is
best for it?

python experiments/accelerators/run.py --check   # three recipes at one learning rate, three seeds: minutes
python experiments/accelerators/run.py           # nine recipes, three learning rates each, eight seeds: hours

Learning rates are chosen by other seeds than those that are compared. A training that was interrupted goes
on. Exits 1 where plain AdamW does not grok with every seed, so that there is nothing to compare with.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import grokinterp as gi
from grokinterp.replay import reached
from grokinterp.runs import train_many

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "experiments"))

from expectations import equal, told  # noqa: E402

NO_DECAY = {"training.weight_decay": 0.0}
PLAIN = "AdamW"
RECIPES: dict[str, dict[str, Any]] = {
    PLAIN: {},
    "AdamW without decay": NO_DECAY,
    "StableMax without decay": {"training.loss": "stablemax"} | NO_DECAY,
    "orthogonal without decay": {"training.orthogonal_gradient": True} | NO_DECAY,
    "Grokfast-EMA": {"training.grokfast": "ema"},
    "Grokfast-MA": {"training.grokfast": "ma"},
    "temperature 4": {"training.temperature": 4.0},
    "constant norm without decay": {"training.norm_clamp": 1.0} | NO_DECAY,
    "Muon": {"training.optimizer": "muon"},
}
LRS = (2e-3, 5e-3, 1e-2)
TUNED_ON, SEEDS = (100, 101), range(8)
STEPS = 3000
LEARNED = 0.99


@dataclass(frozen=True)
class Verdict:
    """A recipe against plain AdamW of the same seeds.

    Attributes:
        tried: how many learning rates.
        steps: to 99 % of the test examples, by seed; None where that was not seen.
        sooner: the seeds with which it was.
        ratio: of its steps over those of plain AdamW, the median over seeds (infinite where not seen).
        low, high: the second smallest and the second largest of these ratios.
        covers: the chance that two such numbers have the median between them, from the binomial distribution.
    """

    recipe: str
    lr: float
    tried: int
    steps: list[int | None]
    sooner: int
    ratio: float
    low: float
    high: float
    covers: float

    def __str__(self) -> str:
        rate = f"lr {self.lr:g} of {self.tried}"
        of = f"{self.recipe:28} {rate}, sooner with {self.sooner} of {len(self.steps)} seeds"
        interval = f"{self.low:.2f} to {self.high:.2f}, which is {self.covers:.0%}"
        return f"{of}: {self.ratio:.2f} times the steps ({interval}); {self.steps}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="three recipes, one learning rate, three seeds")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "accelerators", help="where runs go")
    arguments = parser.parse_args()
    names = [PLAIN, "Grokfast-EMA", "constant norm without decay"] if arguments.check else list(RECIPES)
    lrs, seeds = ((5e-3,), range(3)) if arguments.check else (LRS, SEEDS)
    chosen = best_rates(names, lrs, arguments.out / "tuning")
    steps = steps_of({name: chosen[name] for name in names}, seeds, arguments.out / "compared")
    groks = equal("plain AdamW groks with every seed", None not in steps[PLAIN], True)
    if not groks.holds:
        return told([groks])
    verdicts = [judged(name, chosen[name], len(lrs), steps[name], steps[PLAIN]) for name in names]
    saved = [
        {key: None if value == math.inf else value for key, value in asdict(each).items()}
        for each in verdicts
    ]
    (arguments.out / "verdicts.json").write_text(json.dumps(saved, indent=1))
    print(*verdicts, sep="\n")
    return told([groks])


def configuration(recipe: str, lr: float, seed: int) -> gi.TrainConfig:
    """The preset `quick` with a recipe, to the evaluation at which 99 % of the test examples are right."""
    how = {"training.lr": lr, "training.steps": STEPS, "training.stop_when": f"test_accuracy >= {LEARNED}"}
    saved = {"snapshots.log": None, "snapshots.every": STEPS}
    return gi.TrainConfig.preset("quick", **how | saved | RECIPES[recipe], seed=seed, threads=1)


def steps_of(rates: Mapping[str, float], seeds: Sequence[int], out: Path) -> dict[str, list[int | None]]:
    """Steps to 99 % of the test examples of each recipe, seed by seed; None where they were not reached."""
    configs = {
        f"{recipe}_{rate:g}_{seed}".replace(" ", "_"): configuration(recipe, rate, seed)
        for recipe, rate in rates.items()
        for seed in seeds
    }
    runs = iter(train_many(configs, out))
    return {recipe: [reached(next(runs).history, "test", LEARNED).by for _ in seeds] for recipe in rates}


def best_rates(names: Sequence[str], lrs: Sequence[float], out: Path) -> dict[str, float]:
    """The learning rate at which each recipe took the fewest steps, summed over the seeds of the tuning; one
    that did not get there counts as three times all steps."""
    if len(lrs) == 1:
        return dict.fromkeys(names, lrs[0])
    total = {
        (name, lr): sum(steps or 3 * STEPS for steps in found)
        for lr in lrs
        for name, found in steps_of(dict.fromkeys(names, lr), TUNED_ON, out).items()
    }
    return {name: min(lrs, key=lambda lr, name=name: total[name, lr]) for name in names}


def judged(
    recipe: str, lr: float, tried: int, steps: Sequence[int | None], plain: Sequence[int | None]
) -> Verdict:
    """The verdict on a recipe, from its steps and those of plain AdamW, seed by seed."""
    ratios = sorted((a or math.inf) / b for a, b in zip(steps, plain, strict=True) if b is not None)
    n, edge = len(ratios), 1 if len(ratios) > 3 else 0
    outside = sum(math.comb(n, i) for i in range(edge + 1)) / 2**n
    return Verdict(
        recipe, lr, tried, list(steps), sum(ratio < 1 for ratio in ratios), statistics.median(ratios),
        ratios[edge], ratios[-1 - edge], 1 - 2 * outside,
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
