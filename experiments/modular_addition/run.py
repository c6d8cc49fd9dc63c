"""Trains the run that ships in checkpoints/modular_addition_113, and holds what it shows against what the paper says.

python experiments/modular_addition/run.py            # trains (about 12 minutes on 2 cores), then checks
python experiments/modular_addition/run.py --check    # checks the run that is there; exits 1 where a number is missed
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import grokinterp as gi

HERE = Path(__file__).parent
OUT = HERE.parents[1] / "checkpoints" / "modular_addition_113"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="only check the run that is there")
    parser.add_argument("--out", type=Path, default=OUT, help="the run directory")
    arguments = parser.parse_args()
    if not arguments.check:
        gi.train(gi.TrainConfig.from_toml((HERE / "config.toml").read_text()), arguments.out)
    return check(gi.load_run(arguments.out))


def check(run: gi.Run) -> int:
    """Prints expected and measured for every number; returns 1 where one is missed."""
    found = gi.analyze(run).to_dict()
    measured = {name: entry["value"] for name, entry in found["measures"].items()}
    train, _, everything = range(3)  # the order of the parts in loss measures
    history = run.history.set_index("step")
    grokked = list(history.index[history["test_accuracy"] >= 0.99])
    keys = found["key_frequencies"]
    rows = [
        ("test accuracy at the end", "= 1", found["accuracy"]["test"], found["accuracy"]["test"] == 1),
        ("train loss at the end (nats)", "< 1e-6", found["loss"]["train"], found["loss"]["train"] < 1e-6),
        ("step of test accuracy .99", "2,000 .. 14,000", *between(grokked, 2000, 14_000)),
        ("key frequencies", "3 .. 6 of them", keys["consensus"], 3 <= len(keys["consensus"]) <= 6),
        ("agreement of the rules (Jaccard)", ">= 0.75", *at_least(keys["agreement"], 0.75)),
        ("Gini of W_E", ".55 .. .80", measured["gini.W_E"], 0.55 <= measured["gini.W_E"] <= 0.80),
        ("Gini of W_L", ".68 .. .91", measured["gini.W_L"], 0.68 <= measured["gini.W_L"] <= 0.91),
        ("neurons of one frequency", "0.846 in the paper, >= 0.75", *at_least(measured["neuron.single_frequency_share"], 0.75)),
        ("logits explained by cosines", "0.95 in the paper, >= 0.9", *at_least(measured["logit_fve.centred"], 0.9)),
        ("restricted / full loss, all", "0.23 in the paper, < 1", *below(measured, "restricted_loss.logit_dirs", everything)),
        ("excluded loss, train (nats)", ">= ln 113 / 2 = 2.36", *at_least(measured["excluded_loss.logit_dirs"][train], 2.36)),
    ]
    for name, expected, value, holds in rows:
        print(f"{'ok    ' if holds else 'MISSED'}  {name:34} expected {expected:28} measured {short(value)}")
    return 0 if all(row[3] for row in rows) else 1


def between(steps: list[int], low: int, high: int) -> tuple[int | None, bool]:
    return (steps[0], low <= steps[0] <= high) if steps else (None, False)


def at_least(value: float, bound: float) -> tuple[float, bool]:
    return value, value >= bound


def below(measured: dict, name: str, part: int) -> tuple[float, bool]:
    ratio = measured[name][part] / measured["loss"][part]
    return ratio, ratio < 1


def short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    sys.exit(main())
