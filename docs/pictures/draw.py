"""The pictures of docs/concepts.md, drawn of the run that ships: python docs/pictures/draw.py

Writes beside itself; of the run it reads a copy, as a replay is kept with its run.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import grokinterp as gi
from grokinterp.replay import phases

HERE = Path(__file__).parent
INK, GREY, PALE, WARM, COOL = "#22303c", "#6b7885", "#e4e9ed", "#b3541e", "#27658f"
WIDTH = 720
CODE = 'font-family="monospace"'


def svg(name: str, height: int, title: str, parts: Sequence[str]) -> None:
    """Writes a picture that has a title for those who do not see it, and no fonts or files of its own."""
    text = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" '
        f'font-family="system-ui, sans-serif" font-size="14" fill="{INK}">\n<title>{title}</title>\n'
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>\n'
    )
    (HERE / f"{name}.svg").write_text(text + "\n".join(parts) + "\n</svg>\n")


def text(x: float, y: float, words: str, fill: str = INK, anchor: str = "start", more: str = "") -> str:
    return f'<text x="{x:g}" y="{y:g}" fill="{fill}" text-anchor="{anchor}" {more}>{words}</text>'


def box(x: float, y: float, width: float, height: float, fill: str = PALE, stroke: str = "none") -> str:
    size = f'width="{width:g}" height="{height:g}" rx="4"'
    return f'<rect x="{x:g}" y="{y:g}" {size} fill="{fill}" stroke="{stroke}"/>'


def line(x1: float, y1: float, x2: float, y2: float, stroke: str = GREY, more: str = "") -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{stroke}" {more}/>'


def arrow(x1: float, x2: float, y: float) -> str:
    return (
        line(x1, y, x2 - 5, y, more='stroke-width="1.5"')
        + f'<path d="M{x2 - 8:g} {y - 5:g}L{x2:g} {y:g}L{x2 - 8:g} {y + 5:g}z" fill="{GREY}"/>'
    )


def curve(xs: Sequence[float], ys: Sequence[float], stroke: str) -> str:
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(xs, ys, strict=True))
    return f'<polyline points="{points}" fill="none" stroke="{stroke}" stroke-width="2"/>'


def snapshot(run: gi.Run) -> None:
    last = run.steps[-1]
    x = {step: 40 + 640 * step / last for step in run.steps}
    parts = [line(40, 60, 690, 60), text(690, 84, "step", GREY, "end")]
    parts += [line(at, 50, at, 70, COOL, 'stroke-width="2"') for at in x.values()]
    parts += [text(x[0], 40, "0", GREY, "middle"), text(x[last], 40, f"{last:,}", GREY, "middle")]
    shown = run.steps[len(run.steps) // 2]
    parts += [
        line(x[shown], 70, x[shown], 108, WARM, 'stroke-dasharray="3 3"'),
        text(x[shown], 40, f"{shown:,}", WARM, "middle"),
        box(x[shown] - 165, 108, 330, 52),
        text(x[shown], 130, f"snapshots/step_{shown:08d}.safetensors", anchor="middle", more=CODE),
        text(x[shown], 150, f"all weights after {shown:,} updates", GREY, "middle"),
        text(40, 18, f"{len(run.steps)} snapshots of a run", GREY),
    ]  # fmt: skip
    svg(
        "snapshot",
        172,
        "Training as a line of steps. Marks on it are snapshots, each a file of weights.",
        parts,
    )


def view(run: gi.Run) -> None:
    seen = run.view(-1)
    n, classes = seen.logits.shape
    parts = [
        text(88, 24, f"all {n:,} examples", GREY, "middle"),
        *(text(88, 56 + 24 * i, row, INK, "middle", CODE) for i, row in enumerate(
            ["0 + 0 =", "0 + 1 =", "⋮", f"{run.task.p - 1} + {run.task.p - 1} ="])),
        arrow(150, 190, 84),
        text(285, 24, "one network", GREY, "middle"),
        box(195, 40, 180, 88),
        text(285, 66, "embedding", INK, "middle"),
        text(285, 90, "attention", INK, "middle"),
        text(285, 114, "MLP", INK, "middle"),
        arrow(380, 420, 84),
        text(565, 24, "what it computes, in float64", GREY, "middle"),
    ]  # fmt: skip
    shapes = {
        "view.attention": seen.attention.shape,
        "view.neurons": seen.neurons.shape,
        "view.logits": seen.logits.shape,
    }
    for i, (name, shape) in enumerate(shapes.items()):
        y = 40 + 32 * i
        parts += [
            box(425, y, 280, 26),
            text(435, y + 18, name, INK, "start", CODE),
            text(695, y + 18, " × ".join(f"{size:,}" for size in shape), GREY, "end"),
        ]
    svg(
        "view",
        146,
        f"One network on all {n} examples gives attention, neurons and {classes} logits each.",
        parts,
    )


def measure(run: gi.Run) -> None:
    seen = run.view(-1)
    power = gi.measure("power.W_E", seen)
    keys = gi.key_frequencies(seen).consensus
    by_frequency = {int(k): float(v) for k, v in power.to_series().items()}
    top, wide = max(by_frequency.values()), 640 / len(by_frequency)
    parts = [text(40, 18, "power.W_E, at the last snapshot", GREY, more=CODE)]
    for k, value in by_frequency.items():
        x, tall = 40 + (k - 1) * wide, 100 * value / top
        parts.append(box(x, 140 - tall, wide * 0.75, tall, WARM if k in keys else "#a9b6c1"))
        if k in keys:
            parts.append(text(x + wide / 3, 132 - tall, str(k), WARM, "middle"))
    parts += [
        line(40, 140, 682, 140),
        text(682, 160, f"frequency, 1 to {len(by_frequency)}", GREY, "end"),
        text(40, 160, f"power ({power.attrs['unit']}); numbered: the key frequencies", GREY),
    ]
    svg(
        "measure",
        172,
        f"The power of each frequency in the embedding. {keys} are the key frequencies.",
        parts,
    )


def claim(report: gi.Report) -> None:
    claims = report.to_dict()["claims"]
    colours = {"supported": COOL, "refuted": INK, "not tested": GREY}
    chosen = [c for c in claims if c["claim"].startswith(("Neurons are", "Logits are", "It computes as a"))]
    parts = [
        text(20, 20, "claim", GREY),
        text(262, 20, "what decides it", GREY),
        text(700, 20, "verdict", GREY, "end"),
    ]
    for i, c in enumerate(chosen):
        y = 34 + 50 * i
        parts += [
            box(10, y, 700, 44),
            text(20, y + 27, c["claim"].partition(" (")[0].partition(", c*")[0]),
            text(700, y + 27, c["verdict"], colours[c["verdict"]], "end", 'font-weight="600"'),
        ]
        for j, number in enumerate(c["evidence"][:2]):
            shift = 19 + 17 * j if len(c["evidence"]) > 1 else 27
            parts.append(
                text(
                    262,
                    y + shift,
                    number.replace(">=", "≥").replace("<=", "≤"),
                    GREY,
                    more='font-size="11.5"',
                )
            )
    svg(
        "claim",
        44 + 50 * len(chosen),
        "Four claims, the numbers that decide them, and their verdicts.",
        parts,
    )


def phase(run: gi.Run) -> None:
    history, last = run.history, run.steps[-1]
    found = phases(gi.replay(run, progress=False), history)
    at = lambda step: 40 + 650 * step / last  # noqa: E731
    high = lambda share: 150 - 100 * share  # noqa: E731
    parts, names, before = [], ["memorisation", "circuit formation", "cleanup", "after"], 0.0
    ends = [(b.after + b.by) / 2 for b in found.boundaries] + [last]
    for i, (name, end) in enumerate(zip(names, ends, strict=True)):
        middle = at((before + end) / 2)
        parts.append(text(max(middle, 86), 12 + 17 * (i % 2), name, INK, "middle"))
        before = end
    for b in found.boundaries:
        parts.append(box(at(b.after), 34, max(at(b.by) - at(b.after), 2), 116, "#f3d9c6"))
        parts.append(
            text(at((b.after + b.by) / 2), 168, f"{b.after:,}–{b.by:,}", WARM, "middle", 'font-size="12"')
        )
    for column, colour in (("train_accuracy", GREY), ("test_accuracy", COOL)):
        few = history[["step", column]].dropna().iloc[::4]
        parts.append(curve([at(s) for s in few.step], [high(v) for v in few[column]], colour))
    parts += [
        line(40, 150, 690, 150),
        text(690, 168, f"step, 0 to {last:,}", GREY, "end"),
        text(40, 186, "accuracy, 0 to 1:", GREY),
        text(168, 186, "training examples", GREY, more='font-weight="600"'),
        text(316, 186, "unseen examples", COOL, more='font-weight="600"'),
        text(472, 186, "shaded: boundaries", WARM),
    ]
    svg(
        "phase",
        196,
        "Accuracy over training, and the intervals in which one phase ended and the next began.",
        parts,
    )


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(shutil.copytree(HERE.parents[1] / "checkpoints/modular_addition_113", f"{folder}/run"))
        opened = gi.load_run(copy)
        snapshot(opened)
        view(opened)
        measure(opened)
        claim(gi.analyze(opened, with_replay=False))
        phase(opened)
