"""What the replay page shows of networks that read images: example images, what the class token looks at, the
flips that would change an answer, and the answers."""

from __future__ import annotations

import numpy as np

from ...tasks import Arrays
from .. import canvas
from ..moments import Curve, Moments
from ..palette import lines
from ..panels import Canvas, panel

ATTENTION = "What it looks at on example images"
FLIPS = "Which flips change its answer"
ANSWERS = "What it answers to example images"
HOW_ATTENTION = (
    "Attention of the class token to each part of an image in the last layer, as a mean over heads; each "
    "image is of another class."
)
HOW_FLIPS = (
    "Bright: a flip of this pixel alone changes the answer (brightest where the pixel is on). Dim: the image "
    "itself."
)
HOW_ANSWERS = "The probability of each class, of each of the images beside this, by their numbers."


def flips_on_image(image: np.ndarray, flips: np.ndarray) -> np.ndarray:
    """Levels from 0 to 1 that show an image dimly and the flips that change an answer brightly.

    Args:
        image: [..., row, column], from 0 to 1.
        flips: the same, 1 where a flip changes the answer; NaN where that is not known.
    """
    return np.where(flips > 0, 0.85 + 0.15 * image, 0.35 * image)


def _axis(what: str, count: int) -> canvas.Axis:
    return canvas.Axis.of(what, [str(i) for i in range(count)], lambda at: f"{what} {at}")


@panel(ATTENTION, HOW_ATTENTION, of=Arrays, size="full", shows=["example_images.attention"])
def _attention(moments: Moments) -> Canvas:
    values = moments.values("example_images.attention")
    rows, columns = (_axis(f"{what} of parts", values.sizes[f"patch_{what}"]) for what in ("row", "column"))
    titles = [str(name) for name in values["image"].values]
    limits = 0.0, canvas.finite_range(values.values)[1] or 1.0  # one scale for all
    return moments.heatmaps("example_images.attention", rows, columns, titles, limits)


@panel(FLIPS, HOW_FLIPS, of=Arrays, size="full", shows=["example_images.flips", "example_images.pixels"])
def _flips(moments: Moments) -> Canvas:
    flips, image = (moments.values(f"example_images.{name}") for name in ("flips", "pixels"))
    low, high = float(image.min()), float(image.max())
    levels = flips_on_image((image.values - low) / ((high - low) or 1), flips.values)
    rows, columns = (_axis(what, flips.sizes[what]) for what in ("row", "column"))
    titles = [str(name) for name in flips["image"].values]
    return canvas.heatmaps(levels, titles, rows, columns, "above .8: decides", (0.0, 1.0))


@panel(ANSWERS, HOW_ANSWERS, of=Arrays, size="wide", shows=["example_images.answers"])
def _answers(moments: Moments) -> Canvas:
    values = moments.values("example_images.answers")
    images = [str(name) for name in values["image"].values]
    rows = canvas.Axis("image", [name.partition(":")[0] for name in images], images)
    columns = canvas.Axis.of("answer", [str(name) for name in values["class"].values], str)
    return moments.heatmaps("example_images.answers", rows, columns, [""], (0.0, 1.0))


@panel(
    "How robust it is",
    "Share of images that keep their answer when one pixel is flipped at random; and share of the variance "
    "of the readout, in its plane, that lies between classes.",
    of=Arrays,
    size="wide",
    shows=["robustness.one_flip", "invariance.eta2"],
)
def _robust(moments: Moments) -> Canvas:
    one, other = lines(2)
    wanted = [
        Curve("one flip keeps the answer", "robustness.one_flip", one),
        Curve("eta² of the readout", "invariance.eta2", other, {"statistic": "value"}),
    ]
    return moments.curves("share", wanted, limits=(0.0, 1.0))


@panel(
    "Whether positions are laid out as the image is",
    "Rows and columns of the parts of an image (R²) in the position embeddings; dashed: the most that 200 "
    "relabellings have.",
    of=Arrays,
    size="wide",
    shows=["position_grid.r2_top2", "position_grid.best_pair"],
)
def _positions(moments: Moments) -> Canvas:
    words = {"r2_top2": "plane of the first two components", "best_pair": "plane of the best two"}
    wanted = [
        Curve(said, f"position_grid.{name}", colour, {"statistic": statistic}, statistic != "value")
        for (name, of), colour in zip(words.items(), lines(2), strict=True)
        for said, statistic in ((of, "value"), (f"{of}: most by chance", "maximum"))
    ]
    return moments.curves("share of rows and columns", wanted, limits=(0.0, 1.0))
