"""Trains the mainline run of Nanda et al. 2023, and holds what it shows against what the paper says.

python experiments/modular_addition/run.py            # its 40,000 steps (about 20 minutes on 2 cores)
python experiments/modular_addition/run.py --check    # the first 12,000 of them: the run that ships, made
                                                      anew (5 to 10 minutes)

Exits 1 where a number is missed. A training that was interrupted goes on; one that is finished is only
checked.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import grokinterp as gi

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(HERE.parent))

from expectations import Row, between, equal, told  # noqa: E402

STEPS = 40_000
"""Of the paper."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="the smallest form that shows all of it")
    parser.add_argument("--out", type=Path, help="the run directory")
    arguments = parser.parse_args()
    recipe = gi.TrainConfig.from_toml((HERE / "config.toml").read_text())
    if not arguments.check:
        later = range(recipe.training.steps, STEPS, 4000)
        recipe = recipe.changed(**{"training.steps": STEPS, "snapshots.at": (*recipe.snapshots.at, *later)})
    out = arguments.out or ROOT / "runs" / (
        "modular_addition_check" if arguments.check else "modular_addition"
    )
    return told(rows(gi.train(recipe, out)))


def rows(run: gi.Run) -> list[Row]:
    """Expected and measured for every number."""
    found = gi.analyze(run).to_dict()
    measured = {name: entry["value"] for name, entry in found["measures"].items()}
    train, _, everything = range(3)  # the order of the parts in loss measures
    history = run.history.set_index("step")
    grokked = [int(step) for step in history.index[history["test_accuracy"] >= 0.99]]
    keys = found["key_frequencies"]
    restricted = measured["restricted_loss.logit_dirs"][everything] / measured["loss"][everything]
    return [
        equal("test accuracy at the end", found["accuracy"]["test"], 1),
        between("train loss at the end (nats)", found["loss"]["train"], high=1e-6),
        between("step of test accuracy .99", grokked[0] if grokked else None, 2000, 14_000),
        Row("key frequencies", "3 .. 6 of them", keys["consensus"], 3 <= len(keys["consensus"]) <= 6),
        between("agreement of the rules (Jaccard)", keys["agreement"], 0.75),
        between("Gini of W_E", measured["gini.W_E"], 0.55, 0.80),
        between("Gini of W_L", measured["gini.W_L"], 0.68, 0.91),
        between(
            "neurons of one frequency",
            measured["neuron.single_frequency_share"],
            0.75,
            said="0.846 in the paper",
        ),
        between("logits explained by cosines", measured["logit_fve.centred"], 0.9, said="0.95 in the paper"),
        between("restricted / full loss, all", restricted, high=1, said="0.23 in the paper"),
        between(
            "excluded loss, train (nats)",
            measured["excluded_loss.logit_dirs"][train],
            2.36,
            said="ln 113 / 2",
        ),
    ]


if __name__ == "__main__":
    sys.exit(main())
