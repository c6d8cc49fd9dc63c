"""Slopes of lines on small images: three vision transformers, trained on clean and on noisy images, without
end or on 2,000: who learns noise, whom a single flip breaks, and whether it matters where the line lies.

python experiments/line_images/run.py --check   # a patch, a double and a pixel network: minutes
python experiments/line_images/run.py           # all of them on 0, 5 and 15 % noise: an hour
python experiments/line_images/run.py --only patch double
python experiments/line_images/run.py --narrow  # patch networks that are trained with narrower layers

Exits 1 where a number is missed. A training that was interrupted goes on.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

import grokinterp as gi

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(HERE.parent))

from expectations import Row, between, told  # noqa: E402

STEPS = {"patch": (300, 2000), "double": (600, 2000), "pixel": (600, 600)}
"""Updates on clean and on noisy images."""
NOISE = (0.0, 0.05, 0.15)
FINITE: dict[str, object] = {"training.data": None, "task.examples": 4000, "training.fraction": 0.5}
"""2,000 images to learn from, whose flipped pixels stay as they are, and as many that are never seen."""
NARROWED = {"d_head": 16, "d_mlp": 256, "d_model": 64}
"""Widths of a patch network; one of them is trained a half, a fifth, a tenth or a twentieth as wide."""
CHECKED = ("patch, no noise, endless", "double, 5 % noise, endless", "pixel, no noise, endless")


def configs() -> dict[str, gi.TrainConfig]:
    """Every training, by what it is."""
    found = {}
    for kind, noise, finite in itertools.product(STEPS, NOISE, (False, True)):
        said = f"{100 * noise:g} % noise" if noise else "no noise"
        changes = {
            "task.flips": noise,
            "training.stop_when": None,
            "training.steps": STEPS[kind][noise > 0],
            **(FINITE if finite else {}),
        }
        name = f"{kind}, {said}, {'2,000 images' if finite else 'endless'}"
        found[name] = gi.TrainConfig.preset(f"{kind}_vit", **changes)
    return found


def narrow() -> dict[str, gi.TrainConfig]:
    """Patch networks on clean images, without end, one width of which is smaller."""
    found = {"as wide": {}}
    for key, width in NARROWED.items():
        found |= {
            f"{key} {round(width * s)}": {f"model.{key}": round(width * s)} for s in (0.5, 0.2, 0.1, 0.05)
        }
    fixed = {"model.d_head": 16, "model.d_mlp": 256, "training.steps": STEPS["patch"][0]}
    return {name: gi.TrainConfig.preset("patch_vit", **{**fixed, **more}) for name, more in found.items()}


def measured(run: gi.Run) -> dict[str, float | str]:
    """What is asked of every network, on images that it was not trained on."""
    view = run.view(-1)
    noise = gi.measure("robustness.noise", view, shares=NOISE, images=1024)
    cuts = gi.measure("dimension_reduction", view, shares=(1.0, 0.1), examples=256)
    lost = cuts.sel(kept=1.0) - cuts.sel(kept=0.1)
    worst = str(lost.idxmax("site").values)
    return {
        **{f"accuracy at {100 * share:g} %": float(noise.sel(flipped=share)) for share in NOISE},
        "one flip": gi.measure("robustness.one_flip", view),
        "all flips": gi.measure("robustness.all_flips", view),
        "eta2": float(gi.measure("invariance.eta2", view).sel(statistic="value")),
        "shift of 2": float(gi.measure("invariance.shift", view, pixels=(2,)).sel(shift=2, of="same")),
        "worst cut": f"{worst.removeprefix('blocks.')} {float(cuts.sel(site=worst, kept=0.1)):.2f}",
    }


def rows(table: Mapping[str, Mapping[str, float]]) -> list[Row]:
    """What has to come out of the three that are checked."""
    patch, double, pixel = (table[name] for name in CHECKED)
    return [
        between("patch, clean: accuracy on clean images", patch["accuracy at 0 %"], 0.995),
        between("double, 5 % noise: accuracy at 5 % noise", double["accuracy at 5 %"], 0.97),
        between("pixel, clean: accuracy on clean images", pixel["accuracy at 0 %"], 0.97),
        between("double, 5 % noise: images that no flip breaks", double["all flips"], 0.9, said="claim: .36"),
        between("patch, clean: images that no flip breaks", patch["all flips"], high=0.9),
        between("patch, clean: eta2 of the readout in its plane", patch["eta2"], 0.8),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="the three that show what is checked")
    parser.add_argument("--only", nargs="+", choices=[*STEPS], default=[*STEPS], help="these networks alone")
    parser.add_argument(
        "--narrow", action="store_true", help="networks with narrower layers, and nothing else"
    )
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "line_images")
    a = parser.parse_args()
    if a.narrow:
        configs_of_narrow = narrow()
        trained = gi.train_many(configs_of_narrow, a.out / "narrow", workers=2)
        for name, run in zip(configs_of_narrow, trained, strict=True):
            print(f"{name:12} accuracy {run.history['test_accuracy'].iloc[-1]:.3f}")
        return 0
    chosen = {
        name: config
        for name, config in configs().items()
        if (name in CHECKED if a.check else name.split(",")[0] in a.only)
    }
    runs = dict(zip(chosen, gi.train_many(chosen, a.out, workers=2), strict=True))
    found: dict[str, dict[str, float | str]] = {}
    for name, run in runs.items():
        found[name] = measured(run)
        said = ", ".join(
            f"{key} {x:.3f}" if isinstance(x, float) else f"{key} {x}" for key, x in found[name].items()
        )
        print(f"{name}: {said}", flush=True)
    table = pd.DataFrame(found).T
    a.out.mkdir(parents=True, exist_ok=True)
    table.to_csv(a.out / f"{'check' if a.check else '-'.join(a.only)}.csv")
    print(table.to_string(float_format="{:.3f}".format))
    return told(rows(found)) if set(CHECKED) <= found.keys() else 0


if __name__ == "__main__":
    sys.exit(main())
