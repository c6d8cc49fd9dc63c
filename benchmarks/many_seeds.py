"""How much faster are many seeds at once than one after the other, on the same cores?

One side is `grokinterp train --seeds 0..N-1`, the other `grokinterp train --seed s` for every s, with two
threads. The two take turns, as commands of their own, so that what it takes to start them counts; the ratio
of every pair is taken from neighbours in time. Prints updates per second of all runs together, the median
ratio and its spread, and whether both left the same bytes.

    python benchmarks/many_seeds.py --preset quick --seeds 8                    # to the end of the recipe
    python benchmarks/many_seeds.py --preset fast113 --seeds 8 --steps 200      # so many updates of each
    python benchmarks/many_seeds.py --device cuda --seeds 64 --steps 2000       # one program over stacked
                                                                                weights: not the same bytes
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

_COMMAND = [sys.executable, "-c", "from grokinterp.cli import main; main()"]


def train(a: argparse.Namespace, *arguments: str) -> None:
    fixed = [f"--set=training.steps={a.steps}", "--set=training.stop_when="] if a.steps else []
    asked = [
        "train",
        a.task,
        "--preset",
        a.preset,
        "--threads",
        str(a.threads),
        f"--set=device={a.device}",
        *fixed,
        *arguments,
    ]
    subprocess.run([*_COMMAND, *asked], check=True, stdout=subprocess.DEVNULL)


def at_once(a: argparse.Namespace, out: Path) -> None:
    train(a, "--seeds", f"0..{a.seeds - 1}", "--out", str(out))


def one_by_one(a: argparse.Namespace, out: Path) -> None:
    for seed in range(a.seeds):
        train(a, "--seed", str(seed), "--out", str(out / f"seed_{seed}"))


def updates(out: Path) -> int:
    import grokinterp as gi

    return sum(gi.load_run(run).finished["step"] for run in out.iterdir())


def contents(folder: Path) -> dict[Path, bytes]:
    return {
        file.relative_to(folder): file.read_bytes()
        for file in folder.rglob("*")
        if file.is_file() and file.name != "lock"
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--task", default="modular_addition")
    parser.add_argument("--preset", default="quick")
    parser.add_argument("--seeds", type=int, default=8, help="how many")
    parser.add_argument("--steps", type=int, help="updates of each run; absent: to the end of the recipe")
    parser.add_argument(
        "--threads",
        type=int,
        default=2,
        help="of a run alone, and how many run at once; both are kept to so many cores",
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--pairs", type=int, default=3, help="of timings, the two in turn")
    a = parser.parse_args()
    if a.device == "cpu" and hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))[: a.threads]
        os.sched_setaffinity(0, cores)  # handed down to all that is started
        print(f"on cores {', '.join(map(str, cores))}")
    ratios, same = [], True
    for pair in range(a.pairs):
        with tempfile.TemporaryDirectory() as folder:
            taken = {}
            for side in ((one_by_one, at_once), (at_once, one_by_one))[pair % 2]:
                started = time.perf_counter()
                side(a, Path(folder) / side.__name__)
                taken[side] = time.perf_counter() - started
            seconds = [taken[one_by_one], taken[at_once]]
            here, there = Path(folder) / "at_once", Path(folder) / "one_by_one"
            same = same and contents(here) == contents(there)
            rates = [updates(out) / s for out, s in zip((there, here), seconds, strict=True)]
        ratios.append(seconds[1] / seconds[0])
        print(
            f"pair {pair + 1}: one by one {seconds[0]:.1f} s ({rates[0]:.0f} updates a second), at once "
            f"{seconds[1]:.1f} s ({rates[1]:.0f}): {ratios[-1]:.3f} of the time",
            flush=True,
        )
    print(
        f"{a.preset}, {a.seeds} seeds, {f'{a.steps} updates each' if a.steps else 'to their ends'}, "
        f"{a.device}, start-up included"
    )
    print(
        f"median {statistics.median(ratios):.3f} of the time (from {min(ratios):.3f} to {max(ratios):.3f}, "
        f"{len(ratios)} pairs)"
    )
    print("both left the same bytes" if same else "they did not leave the same bytes")


if __name__ == "__main__":
    main()
