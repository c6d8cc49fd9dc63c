"""How long does `grokinterp analyze` take of the shipped run, the first time and the second, and how much
longer did it take at another commit?

Each time is of a process of its own, from its start to its end: imports, measures, replay and page are all in
it. The first is of a copy of the run of which nothing is kept, the second of the same copy again. With
--before the same is done at that commit, in turn, in a worktree of its own, and the ratios are taken of
neighbours in time. `--help` and `list measures` are timed beside it.

    python benchmarks/analyze_speed.py --threads 2
    python benchmarks/analyze_speed.py --before HEAD~1 --pairs 3
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
SHIPPED = ROOT / "checkpoints" / "modular_addition_113"
MAIN = "from grokinterp.cli import main; main()"


def timed(source: Path, arguments: list[str], threads: int) -> tuple[float, float]:
    """Wall and processor seconds of one command of the package whose source this is."""
    environment = os.environ | {"PYTHONPATH": str(source), "OMP_NUM_THREADS": str(threads)}
    used, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(
        [sys.executable, "-c", MAIN, *arguments], env=environment, check=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    wall, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - used.ru_utime - used.ru_stime


def times(source: Path, a: argparse.Namespace) -> dict[str, tuple[float, float]]:
    """Of the first and the second analysis, and of what needs no torch."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        shutil.copytree(a.run, run, ignore=shutil.ignore_patterns("replay", "lock", "resume", "report*"))
        asked = {
            "first": ["analyze", str(run)],
            "second": ["analyze", str(run)],
            "list measures": ["list", "measures"],
            "--help": ["--help"],
        }
        return {name: timed(source, arguments, a.threads) for name, arguments in asked.items()}


def worktree(commit: str, folder: str) -> Path:
    """The source of the package at a commit."""
    git = ["git", "-C", str(ROOT), "worktree", "add", "--detach", "-f", folder, commit]
    subprocess.run(git, check=True, capture_output=True)
    return Path(folder) / "src"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, default=SHIPPED)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--before", metavar="COMMIT", help="also time the package as it was there")
    a = parser.parse_args()
    found: dict[str, list[dict[str, Any]]] = {"now": [], "before": []}
    with tempfile.TemporaryDirectory() if a.before else nullcontext("") as folder:
        sources = {"now": ROOT / "src"} | ({"before": worktree(a.before, folder)} if a.before else {})
        try:
            for source in sources.values():
                timed(source, ["list", "measures"], a.threads)  # what is compiled is read from then on
            for _ in range(a.pairs):
                for which, source in sources.items():
                    found[which].append(times(source, a))
        finally:
            if a.before:
                subprocess.run(["git", "-C", str(ROOT), "worktree", "remove", "--force", folder], check=True)
    for name in found["now"][0]:
        wall, cpu = ([each[name][i] for each in found["now"]] for i in (0, 1))
        line = f"{name}: wall {statistics.median(wall):.2f} s ({min(wall):.2f} to {max(wall):.2f})"
        line += f", processor {statistics.median(cpu):.2f} s"
        if found["before"]:
            pairs = zip(found["before"], found["now"], strict=True)
            ratios = [before[name][0] / now[name][0] for before, now in pairs]
            line += f"; before {statistics.median(each[name][0] for each in found['before']):.2f} s"
            line += f", ratio {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        print(line)
    return 0


if __name__ == "__main__":
    sys.exit(main())
