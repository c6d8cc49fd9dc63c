"""How does the cost grow with the modulus?

For each p, in a process of its own: the time of an update on 30 % of the pairs, of an evaluation of all
pairs, and of one snapshot analysed with the measures of a replay (key frequencies given, the network fresh:
what it has learnt makes no difference to the work), and the peak memory of both. The network is that of Nanda
et al. 2023 (d_model 128, 4 heads, d_mlp 512). Times are medians. Prints a table and, of each column, the
exponent of p that fits best (least squares in the logarithms, over p of 100 and more: below, what does not
grow dominates).

    python benchmarks/scaling.py --threads 2
    python benchmarks/scaling.py --p 53 113
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress

COLUMNS = {
    "update": "update (ms)",
    "evaluation": "evaluation (ms)",
    "snapshot": "snapshot analysed (s)",
    "memory_training": "peak memory, training (GB)",
    "memory_analysis": "peak memory, analysis (GB)",
}


def config(p: int, threads: int):
    import grokinterp as gi

    return gi.TrainConfig.preset(
        "fast113", **{"task.p": p, "training.steps": 10**6, "training.stop_when": None, "threads": threads}
    )


def training(p: int, threads: int) -> dict[str, float]:
    from grokinterp.training import Trainer

    trainer = Trainer(config(p, threads))
    seconds = {"update": [], "evaluation": []}

    def timed(name: str, function: Callable[[], object]) -> Callable[[], object]:
        def wrapped() -> object:
            started = time.perf_counter()
            result = function()
            seconds[name].append(time.perf_counter() - started)
            return result

        return wrapped

    trainer._update = timed("update", trainer._update)
    trainer._evaluate = timed("evaluation", trainer._evaluate)
    for snapshot in trainer:
        if snapshot.step >= 60:
            break
    # An update that follows an evaluation has its gradient from there: it is the many others that are meant.
    updates = sorted(seconds["update"])[len(seconds["evaluation"]) :]
    return {
        "update": 1e3 * statistics.median(updates),
        "evaluation": 1e3 * statistics.median(seconds["evaluation"][1:]),
        "memory_training": peak(),
    }


def analysis(p: int, threads: int) -> dict[str, float]:
    import torch

    import grokinterp as gi
    from grokinterp.errors import NotApplicable
    from grokinterp.replay import PROGRESS

    torch.set_num_threads(threads)
    asked = config(p, threads).model_copy(
        update={"training": config(p, threads).training.model_copy(update={"steps": 2})}
    )
    with tempfile.TemporaryDirectory() as folder:
        run = gi.train(asked, folder, progress=False)
        keys = [round(p * share) for share in (0.1, 0.17, 0.29, 0.37, 0.45)]
        seconds = []
        for _ in range(3):
            view = run.view(-1)
            started = time.perf_counter()
            for name in PROGRESS:
                with suppress(NotApplicable):  # a fresh network has no key frequencies to be found
                    gi.measure(name, view, **({"keys": keys} if "keys" in gi.MEASURES[name].options else {}))
            seconds.append(time.perf_counter() - started)
    return {"snapshot": statistics.median(seconds), "memory_analysis": peak()}


def peak() -> float:
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def exponent(moduli: list[int], values: list[float]) -> float:
    """The slope of the least-squares line through the logarithms."""
    xs, ys = [math.log(p) for p in moduli], [math.log(value) for value in values]
    x, y = statistics.mean(xs), statistics.mean(ys)
    return sum((a - x) * (b - y) for a, b in zip(xs, ys, strict=True)) / sum((a - x) ** 2 for a in xs)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--p", type=int, nargs="+", default=[31, 53, 113, 211, 307])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--side", choices=["training", "analysis"], help=argparse.SUPPRESS)
    a = parser.parse_args()
    if a.side:
        print(json.dumps({"training": training, "analysis": analysis}[a.side](a.p[0], a.threads)))
        return
    found: dict[int, dict[str, float]] = {}
    print(f"| p | {' | '.join(COLUMNS.values())} |\n|{'---|' * (1 + len(COLUMNS))}")
    for p in a.p:
        found[p] = {}
        for side in ("training", "analysis"):
            asked = [sys.executable, __file__, "--p", str(p), "--threads", str(a.threads), "--side", side]
            done = subprocess.run(asked, capture_output=True, text=True)
            if done.returncode:
                print(f"| {p} | {side}: {done.stderr.strip().splitlines()[-1]} |", flush=True)
                continue
            found[p] |= json.loads(done.stdout)
        print(
            f"| {p} | {' | '.join(f'{found[p][name]:.3g}' if name in found[p] else '' for name in COLUMNS)} "
            "|",
            flush=True,
        )
    for name, title in COLUMNS.items():
        large = [p for p in a.p if p >= 100 and name in found[p]]
        if len(large) > 1:
            print(
                f"{title}: grows as p to the power of "
                f"{exponent(large, [found[p][name] for p in large]):.2f} from p = {large[0]}"
            )


if __name__ == "__main__":
    main()
