"""Weight decay, heads and width, one at a time, on one digit of sums of numbers of five digits; and the sizes
that the lab notes of 2023 tell of. Each sweep is `gi.train_many` over named configurations.

python experiments/digit_addition/sweeps.py tens_weight_decay     # one sweep, three seeds of each network
python experiments/digit_addition/sweeps.py                       # all of them
python experiments/digit_addition/sweeps.py --list                # their names, networks and budgets

Prints a line for each run and writes a table (CSV) and a figure (HTML) of each sweep beside its runs, which
`grokinterp compare` takes. What is trained is kept, and goes on where it was interrupted.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grokinterp as gi
from grokinterp.replay import spikes

ROOT = Path(__file__).parents[2]
SEEDS = (0, 1, 2)
COLOURS = ("#3b7dd8", "#d1495b", "#2a9d8f", "#e9a03b", "#7b5ea7")
FIRST_DRAWN = 50
CONVERGED = 0.05
"""The loss (nats) that a network which has learned a digit stays below."""


@dataclass(frozen=True)
class Sweep:
    """Networks that differ in one thing.

    Attributes:
        digit: which one is asked for.
        steps: of each run; what has not happened by then is censored.
        networks: changes of the preset `one_digit`, by a name.
    """

    digit: str
    steps: int
    networks: Mapping[str, Mapping[str, Any]]

    def configs(self, seeds: tuple[int, ...]) -> dict[str, gi.TrainConfig]:
        """By the names of their directories."""
        common = {
            "task.answer": self.digit,
            "task.examples": 1024,
            "task.per_class": 32,
            "training.steps": self.steps,
            "snapshots.every": max(100, self.steps // 30),
        }
        return {
            f"{name} seed {seed}": gi.TrainConfig.preset("one_digit", seed=seed, **common, **changes)
            for name, changes in self.networks.items()
            for seed in seeds
        }


def decays(*values: float) -> dict[str, dict[str, Any]]:
    """Of 128/4."""
    return {f"wd {value:g}": {"training.weight_decay": value} for value in values}


def sizes(weight_decay: float, *widths_and_heads: str) -> dict[str, dict[str, Any]]:
    """From names as the notes have them: d_model/heads."""
    found = {}
    for name in widths_and_heads:
        width, heads = map(int, name.split("/"))
        found[f"{width} wide, {heads} head{'s' * (heads > 1)}"] = {
            "model.d_model": width,
            "model.n_heads": heads,
            "training.weight_decay": weight_decay,
        }
    return found


SWEEPS = {
    "units_weight_decay": Sweep("units", 2500, decays(0, 0.1, 0.25, 0.5, 0.75, 1)),
    "units_heads": Sweep("units", 1000, sizes(0, "128/1", "128/2", "128/4", "128/8")),
    "units_width": Sweep("units", 3000, sizes(0, "8/4", "16/4", "32/4", "64/4", "128/4")),
    "tens_weight_decay": Sweep("tens", 3000, decays(0, 0.1, 0.25, 0.5, 1)),
    "tens_heads": Sweep("tens", 3000, sizes(0.25, "128/1", "128/2", "128/4", "128/8")),
    "tens_width": Sweep("tens", 3000, sizes(0.25, "8/4", "16/4", "32/4", "64/4", "128/4")),
    # The sizes that the notes tell of, where they are not above.
    "units_small": Sweep("units", 5000, sizes(0, "4/4", "16/1", "8/1", "4/1", "32/32", "8/8")),
    "units_smallest": Sweep("units", 30000, sizes(0, "3/3", "2/2", "2/1", "1/1")),
    "tens_small": Sweep("tens", 5000, sizes(0.25, "32/8", "32/16", "32/32", "16/16", "8/8", "8/1", "8/2")),
    "tens_64_wide": Sweep("tens", 5000, sizes(0.25, "64/2")),
    "tens_many_heads": Sweep("tens", 3000, sizes(0.25, "128/128")),
    "tens_256_wide": Sweep("tens", 3000, sizes(0.25, "256/1", "256/2")),
    "hundreds_heads": Sweep("hundreds", 3000, sizes(0.25, "128/4", "128/8", "128/32", "128/128")),
}


def told(run: gi.Run) -> dict[str, Any]:
    """What is asked of every run: steps in updates, losses of the evaluation sample in nats."""
    history = run.history
    loss, step = history["test_loss"], history["step"]
    above = step[loss >= CONVERGED]
    still_above = loss.iloc[-1] >= CONVERGED
    left = step[loss < 2.2]
    return {
        "first loss below 2.2": int(left.iloc[0]) if len(left) else None,
        "below .05 from": None if still_above else int(step[step > above.max()].min()) if len(above) else 0,
        "lowest loss": float(loss.min()),
        "at step": int(step[loss.idxmin()]),
        "last loss": float(loss.iloc[-1]),
        "spikes": len(spikes(history)),
    }


def drawn(sweep: str, runs: Mapping[str, gi.Run]) -> Any:
    """Loss against step, a panel for each network and a line for each seed."""
    from plotly.subplots import make_subplots

    networks = list(dict.fromkeys(name.rpartition(" seed ")[0] for name in runs))
    figure = make_subplots(1, len(networks), shared_yaxes=True, subplot_titles=networks)
    for name, run in runs.items():
        network, _, seed = name.rpartition(" seed ")
        history, column = run.history[run.history["step"] >= FIRST_DRAWN], networks.index(network) + 1
        figure.add_scatter(
            x=history["step"],
            y=history["test_loss"],
            line={"color": COLOURS[int(seed) % len(COLOURS)], "width": 1.3},
            name=f"seed {seed}",
            legendgroup=seed,
            showlegend=column == 1,
            mode="lines",
            row=1,
            col=column,
        )
    for level in (math.log(10), math.log(2)):
        figure.add_hline(y=level, line={"color": "#999", "width": 1, "dash": "dot"})
    figure.update_xaxes(type="log", tickvals=[100, 1000, 10000], ticktext=["100", "1,000", "10,000"])
    figure.update_xaxes(title="step", range=[math.log10(FIRST_DRAWN), math.log10(SWEEPS[sweep].steps)])
    figure.update_yaxes(type="log", exponentformat="power", dtick=2)
    figure.update_yaxes(title="test loss (nats)", col=1)
    said = f"{sweep.replace('_', ' ')}: {SWEEPS[sweep].steps:,} updates; dotted: ln 10 and ln 2"
    return figure.update_layout(
        title={"text": said, "font": {"size": 15}},
        width=1000,
        height=360,
        template="plotly_white",
        margin={"t": 80, "r": 10, "b": 50, "l": 70},
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sweeps", nargs="*", choices=[*SWEEPS, []], help="all, where none is named")
    parser.add_argument("--list", action="store_true", help="say what there is, and train nothing")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS, help="0 1 2 where none are given")
    parser.add_argument("--workers", type=int, help="runs that are trained at once")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "digit_sweeps")
    a = parser.parse_args()
    for name in a.sweeps or SWEEPS:
        sweep = SWEEPS[name]
        if a.list:
            print(f"{name}: {sweep.digit}, {sweep.steps:,} updates: {'; '.join(sweep.networks)}")
            continue
        configs = sweep.configs(tuple(a.seeds))
        trained = gi.train_many(configs, a.out / name, workers=a.workers)
        report(name, dict(zip(configs, trained, strict=True)), a.out / name)
    return 0


def report(sweep: str, runs: Mapping[str, gi.Run], out: Path) -> None:
    """Prints the table, and writes it and the figure."""
    import pandas as pd

    table = pd.DataFrame({name: told(run) for name, run in runs.items()}).T
    table.to_csv(out / "table.csv")
    print(f"\n{sweep} ({SWEEPS[sweep].steps:,} updates)\n{table.to_string()}", flush=True)
    drawn(sweep, runs).write_html(
        out / "figure.html", include_plotlyjs="inline", config={"displayModeBar": False}
    )


if __name__ == "__main__":
    sys.exit(main())
