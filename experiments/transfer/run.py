"""Does a network that has learned one operation learn another in fewer steps? Each is held against the
same-seed run from scratch.

python experiments/transfer/run.py --check   # three seeds of each pair, minutes
python experiments/transfer/run.py           # eight seeds, and the author's convention: hours

Exits 1 where a number is missed. A training that was interrupted goes on. Writes a comparison page for each
pair beside its runs.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import grokinterp as gi
from grokinterp.replay import RunsCompared, reached
from grokinterp.report.compare import Comparison

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(HERE.parent))

from expectations import Row, told  # noqa: E402

THEN = {
    "subtraction_to_asymmetric": "divide_if_odd_else_subtract",
    "subtraction_to_addition": "modular_addition",
}
VERDICTS = {"subtraction_to_asymmetric": ("never", "no faster"), "subtraction_to_addition": ("faster",)}
"""What is expected: that finetuning fails, as the author found in his convention; and that it helps where
both need the same circle."""
JULIA = {"task.convention": "julia", "training.weight_decay": 0.3, "training.steps": 20_000}


@dataclass(frozen=True)
class Pair:
    """The configuration that a source learns, that in which its network goes on, and the verdicts that are
    expected."""

    first: gi.TrainConfig
    then: gi.TrainConfig
    verdicts: tuple[str, ...]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="three seeds of each pair")
    parser.add_argument("--out", type=Path, help="the directory of the runs")
    arguments = parser.parse_args()
    out = arguments.out or ROOT / "runs" / ("transfer_check" if arguments.check else "transfer")
    found = []
    for name, pair in pairs(full=not arguments.check).items():
        compared = trained(pair, range(3 if arguments.check else 8), out / name)
        compared.save_html(out / f"{name}.html")
        table = compared.table[
            [
                "run",
                "train_steps",
                "test_steps",
                "test_censored",
                "test_accuracy",
                "transfer",
                "transfer_steps",
            ]
        ]
        table["90 %"] = [str(reached(each.run.history, "test", 0.9)) for each in compared.compared.runs]
        print(f"{name}\n{table.to_string(index=False)}\n")
        found += rows(name, pair, compared.compared)
    return told(found)


def pairs(full: bool = False) -> dict[str, Pair]:
    """By names; the full form has the author's pair in his convention too."""
    found = {}
    for name, then in THEN.items():
        first = gi.TrainConfig.from_toml((HERE / f"{name}.toml").read_text())
        found[name] = Pair(first, first.changed(**{"task.name": then}), VERDICTS[name])
    if full:
        pair = found["subtraction_to_asymmetric"]
        found["subtraction_to_asymmetric_julia"] = Pair(
            pair.first.changed(**JULIA), pair.then.changed(**JULIA), pair.verdicts
        )
    return found


def trained(pair: Pair, seeds: range, out: Path) -> Comparison:
    """The sources, the runs from scratch and those that go on from a source, each with every seed, side by
    side."""
    both = {"source": pair.first, "scratch": pair.then}
    fresh = {f"{kind}_{seed}": config.changed(seed=seed) for kind, config in both.items() for seed in seeds}
    runs = dict(zip(fresh, gi.train_many(fresh, out, workers=2), strict=True))
    sources = {f"transfer_{seed}": runs[f"source_{seed}"] for seed in seeds}
    going_on = {f"transfer_{seed}": pair.then.changed(seed=seed) for seed in seeds}
    return gi.compare([*runs.values(), *gi.train_many(going_on, out, start=sources, workers=2)])


def rows(name: str, pair: Pair, compared: RunsCompared) -> list[Row]:
    """Whether each source had learned its task, and what became of each run that started from it."""
    sources = [each for each in compared.runs if each.name.startswith("source")]
    started = [each for each in compared.runs if each.transfer is not None]
    return [
        Row(f"{name}: {each.name} is learned", "by some step", str(each.test), each.test.by is not None)
        for each in sources
    ] + [
        Row(
            f"{name}: {each.name}",
            " or ".join(pair.verdicts),
            each.transfer.sentence,
            each.transfer.verdict in pair.verdicts,
        )
        for each in started
    ]


if __name__ == "__main__":
    sys.exit(main())
