"""Whether two commits say the same of the same things: weights after some steps of training, reports and
replays of runs that are there.

    python tests/two_commits.py COMMIT            # against the working tree
    python tests/two_commits.py COMMIT --steps 50 --only training

Each side computes in a process of its own, from a checkout of its own. Weights are compared by their bytes,
at 1, 2 and 4 threads, trained in one go and resumed half way; values of reports and replays are compared as
JSON with sorted keys, white space in text aside. What differs is listed, path by path. Bytes are those of one
machine: nothing is recorded.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PRESETS = ("quick", "fast113", "nanda", "grokking_demo", "doshi", "concat_mlp", "chughtai_mlp")
RUNS = (
    *sorted((ROOT / "tests" / "runs_of_before").glob("*/run.json")),
    ROOT / "checkpoints/modular_addition_113/run.json",
)


def of_weights(weights: dict[str, Any]) -> str:
    """The hash of all weights, in the order of their names."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(name.encode() + weights[name].detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def trained(preset: str, steps: int, threads: int, resumed: bool) -> str:
    """The hash of the weights after so many steps of a preset."""
    from grokinterp.training import TrainConfig, Trainer

    config = TrainConfig.preset(
        preset, threads=threads, **{"training.steps": steps, "training.stop_when": None}
    )
    trainer = Trainer(config)
    for snapshot in trainer:
        if resumed and snapshot.step >= steps // 2:
            state, resumed = trainer.state(), False
            return _last(Trainer(config, state))
    return of_weights(trainer.weights)


def _last(trainer: Any) -> str:
    for _ in trainer:
        pass
    return of_weights(trainer.weights)


def said(run: Path) -> dict[str, Any]:
    """The report and the replay of a run, as plain JSON."""
    import grokinterp as gi

    with tempfile.TemporaryDirectory() as folder:  # what a replay keeps is of one version
        copy = shutil.copytree(
            run, Path(folder) / run.name, ignore=shutil.ignore_patterns("replay", "report*", "*.html")
        )
        opened = gi.load_run(copy)
        report, data = gi.analyze(opened).to_dict(), gi.replay(opened, progress=False)
    report["claims"] = {claim["claim"]: claim for claim in report["claims"]}  # in whatever order
    return {"report": report, "replay": data.to_dict()}


def compute(only: str | None, steps: int) -> None:
    """Prints one JSON object a line: what was asked, and what came of it."""
    import torch

    import grokinterp as gi

    assert Path(gi.__file__).is_relative_to(os.environ["PYTHONPATH"]), "another grokinterp comes first"
    for preset in PRESETS if only in (None, "training") else ():
        for threads in (1, 2, 4):
            for resumed in (False, True):
                torch.set_num_threads(threads)
                _answer(
                    f"{preset}, {threads} threads{', resumed' * resumed}",
                    trained(preset, steps, threads, resumed),
                )
    torch.set_num_threads(1)
    for path in RUNS if only in (None, "said") else ():
        _answer(path.parent.name, said(path.parent))


def _answer(asked: str, value: Any) -> None:
    print(json.dumps([asked, _plain(value)], sort_keys=True), flush=True)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, str):
        return " ".join(value.split())
    return value if isinstance(value, int | float | bool | None) else str(value)


def differences(before: Any, after: Any, at: str = "") -> Iterator[str]:
    """Where two JSON values differ, one line each."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key in sorted(before.keys() | after.keys()):
            where = f"{at}/{key}"
            if key not in after:
                yield f"{where}: gone; was {str(before[key])[:100]}"
            elif key not in before:
                yield f"{where}: new: {str(after[key])[:100]}"
            else:
                yield from differences(before[key], after[key], where)
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for i, (one, other) in enumerate(zip(before, after, strict=True)):
            yield from differences(one, other, f"{at}/{i}")
    elif before != after and not (_is_nan(before) and _is_nan(after)):
        yield f"{at}: {str(before)[:100]} -> {str(after)[:100]}"


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)


def answers(source: Path, options: list[str]) -> dict[str, Any]:
    """What the code of a checkout computes."""
    command = [sys.executable, str(Path(__file__).resolve()), "--compute", *options]
    env = {**os.environ, "PYTHONPATH": str(source / "src")}
    done = subprocess.run(command, env=env, stdout=subprocess.PIPE, text=True, check=True)
    return dict(json.loads(line) for line in done.stdout.splitlines())


def main() -> int:
    """0 where all is the same."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("commit", nargs="?", help="the commit before")
    parser.add_argument("--only", choices=["training", "said"])
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--compute", action="store_true", help=argparse.SUPPRESS)
    a = parser.parse_args()
    if a.compute:
        compute(a.only, a.steps)
        return 0
    if a.commit is None:
        parser.error("which commit is this to be compared with?")
    options = [*(["--only", a.only] if a.only else []), "--steps", str(a.steps)]
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            ["git", "-C", str(ROOT), "worktree", "add", "--detach", "-f", folder, a.commit], check=True
        )
        try:
            before, after = answers(Path(folder), options), answers(ROOT, options)
        finally:
            subprocess.run(["git", "-C", str(ROOT), "worktree", "remove", "--force", folder], check=True)
    count = 0
    for asked in before:
        found = list(differences(before[asked], after.get(asked)))
        print(f"{asked}: {'the same' if not found else f'{len(found)} differences'}")
        print(*(f"    {line}" for line in found), sep="\n", end="\n" if found else "")
        count += len(found)
    return int(count > 0)


if __name__ == "__main__":
    sys.exit(main())
