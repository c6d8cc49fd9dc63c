"""Plain division (a / b of whole numbers, not mod p) in three readings, beside division mod p.

python experiments/division/run.py --check   # one seed of perceptrons, eight of one NALU: a minute or two
python experiments/division/run.py           # three seeds, transformers too, sixteen of one and two NALUs

Exits 1 where a number is missed. A training that was interrupted goes on.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

import grokinterp as gi
from grokinterp.errors import Diverged
from grokinterp.measures.standing import Z_OF_95, wilson

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(HERE.parent))

from expectations import Row, between, equal, told, within  # noqa: E402

PLAIN = {"task.name": "plain_division", "task.p": 31}
INTEGER = {**PLAIN, "task.reading": "integer"}
TASKS = {"modular": {"task.name": "modular_division", "task.p": 31}, "quotient": PLAIN, "integer": INTEGER}
SAME = {"threads": 1, "training.fraction": 0.8, "training.split_seed": 0, "training.stop_when": None}
PERCEPTRON = {**SAME, "training.steps": 400}
AS_OPAQUE = {"task.p": 97, "training.fraction": 0.9}
"""Size and share of ../opaque_operations."""
ERRORS = ("loss.squared_distance", "number.unexplained", "number.within", "number.relative_error")
FAILS = 1e-3
"""Mean squared distance on the test pairs above which a NALU has failed."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="the smallest form that shows it")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "division", help="where the runs are")
    arguments = parser.parse_args()
    few, units = (1, 8) if arguments.check else (3, 16)
    runs = {
        name: [
            trained(config, seed, arguments.out / name) for seed in range(units if "nalu" in name else few)
        ]
        for name, config in configs(arguments.check).items()
    }
    for name, some in runs.items():
        mean, low, high = interval(some)
        each = ", ".join(f"{accuracy(run):.3f}" for run in some)
        print(f"{name}: test {each}; mean {mean:.3f} ({low:.3f} to {high:.3f})", end="")
        print(f", majority {some[0].task.chance:.3f}, never trained {untrained(some[0]):.3f}")
        for run in some if some[0].config.model.gives_number else ():
            print(" ", run.divergence or ", ".join(f"{of} {error(run, of):.2g}" for of in ERRORS))
    nalus = {name: some for name, some in runs.items() if "nalu" in name}
    return told([*rows({n: some for n, some in runs.items() if n not in nalus}), *rows_of_nalus(nalus)])


def configs(check: bool) -> dict[str, gi.TrainConfig]:
    """By reading and network."""
    found = {f"{n}_perceptron": gi.TrainConfig.preset("doshi", **t, **PERCEPTRON) for n, t in TASKS.items()}
    found["number_perceptron"] = gi.TrainConfig.preset("regression", threads=1)
    sizes = {"threads": 1, "training.evaluate_every": 100}
    found["nalu_1"] = gi.TrainConfig.preset("nalu", **sizes)
    if not check:
        found["nalu_2"] = gi.TrainConfig.preset("nalu", **sizes, **{"model.n_layers": 2})
        found["integer_97_perceptron"] = found["integer_perceptron"].changed(**AS_OPAQUE)
        for name, task in TASKS.items():
            steps = {"training.steps": 1000 if name == "quotient" else 2500}  # 556 classes are slow
            found[f"{name}_transformer"] = gi.TrainConfig.preset("quick", **task, **SAME, **steps)
    return found


def trained(config: gi.TrainConfig, seed: int, out: Path) -> gi.Run:
    """The run of a seed; also one that diverged."""
    try:
        return gi.train(config.changed(seed=seed), out / f"seed_{seed}")
    except Diverged:
        return gi.load_run(out / f"seed_{seed}")


def accuracy(run: gi.Run) -> float:
    """On the test pairs, at the end; of a number, that of the nearest quotient."""
    return float(run.history["test_accuracy"].iloc[-1])


def interval(runs: Sequence[gi.Run]) -> tuple[float, float, float]:
    """The mean over the seeds, and its 95 % interval as if of one: all are tested on the same pairs."""
    mean = statistics.mean(map(accuracy, runs))
    return mean, *wilson(mean, len(runs[0].split.test), Z_OF_95)


def untrained(run: gi.Run) -> float:
    """The share of the test pairs whose answer no training pair has."""
    targets, split = run.task.targets, run.split
    return 1 - float(torch.isin(targets[split.test], targets[split.train]).double().mean())


def error(run: gi.Run, name: str) -> float:
    """A measure of the test pairs, at the end."""
    return float(gi.measure(name, run.view(-1)).sel(part="test"))


def failed(run: gi.Run) -> bool:
    """Whether a NALU diverged, or is far off on the test pairs."""
    return run.diverged is not None or error(run, ERRORS[0]) > FAILS


def rows(runs: Mapping[str, Sequence[gi.Run]]) -> list[Row]:
    """Expected and measured; what is claimed of each reading is a test accuracy at the majority's."""
    first = {reading: runs[f"{reading}_perceptron"][0] for reading in ("quotient", "integer")}
    sizes = [(run.task.n_inputs, run.task.n_answers) for run in first.values()]
    found = [
        equal("quotient, integer: pairs and classes", sizes, [(930, 556), (930, 31)]),
        within("quotient: test pairs never trained", untrained(first["quotient"]), 0.441, 5e-4),
    ]
    for name, some in runs.items():
        mean, low, _ = interval(some)
        if "modular" in name:
            found.append(between(f"{name}: test accuracy", mean, 0.95))
            continue
        most = 0.99 if "number" in name else min(0.99, 1 - untrained(some[0]))
        found.append(between(f"{name}: test accuracy", mean, high=most))
        above = low - some[0].task.chance
        found.append(between(f"{name}: its interval above the majority", above, 0.05, said="claimed <= 0"))
    squared = max(error(run, "number.unexplained") for run in runs["number_perceptron"])
    return [*found, between("number_perceptron: unexplained, the most", squared, high=0.05)]


def rows_of_nalus(nalus: Mapping[str, Sequence[gi.Run]]) -> list[Row]:
    """That some seeds divide, and others never."""
    found = []
    for name, some in nalus.items():
        share = sum(map(failed, some)) / len(some)
        found.append(between(f"{name}: share of {len(some)} seeds that fail", share, 0.01, 0.75))
        found.append(between(f"{name}: best test accuracy", max(map(accuracy, some)), 0.99))
    return found


if __name__ == "__main__":
    sys.exit(main())
