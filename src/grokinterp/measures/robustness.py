"""How little of an image has to change for a network to answer otherwise.

Pixels have two values, 0 and 1, say; a flip puts one in the place of the other. Answers are compared with
what the network says of the same image unflipped, whether that is right or not. Images are those of the
sample that the network was not trained on, where these are known; of a task that flips pixels in its sample,
the same ones before that.

    one flip    of an image whose pixel is drawn at random
    all flips   of an image of which every pixel is flipped in turn, each alone: exhaustive
"""

from __future__ import annotations

import sys
import time
from functools import partial

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..errors import NotApplicable, UsageError
from ..progress import bars
from ..tasks import Arrays
from ..view import View
from .base import Value, array, once_per_view
from .base import measure as of_any_task
from .excerpts import excerpt, showing, unseen

IMAGES = 128
"""Images of which every pixel is flipped in turn."""
SHARES = (0.0, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3)
"""Of the pixels that are flipped, along a curve of noise."""
_TOLD_FROM = 5.0
"""Seconds from which it is said beforehand how long it takes."""
_FARTHEST = 4
"""Pixels from those that are on, from which distances are told together."""
_TOGETHER = 4096
"""Flipped images at a time."""

measure = partial(of_any_task, of=Arrays, unit="1")
_REF = "here, after Szegedy et al. 2014 (arXiv 1312.6199): the smallest change of a binary image"


@measure("robustness.one_flip", ref=_REF, replayed=True)
def one_flip(view: View, images: int = 1024, seed: int = 0) -> float:
    """Share of the images to which the network answers the same when one pixel, drawn at random, is
    flipped.

    Raises:
        NotApplicable: pixels have more than two values.
        UsageError: fewer than two images are asked for.
    """
    some = clean(view, images, seed)
    pixels = _pixels(some)
    generator = torch.Generator().manual_seed(seed)
    at = torch.randint(pixels.shape[1], (len(pixels), 1), generator=generator)
    flipped = pixels.scatter(1, at, _other(pixels).gather(1, at))
    return float((_answers(some, flipped) == _answers(some, pixels)).double().mean())


@measure("robustness.all_flips", ref=_REF)
def all_flips(view: View, images: int = IMAGES, seed: int = 0, progress: bool | None = None) -> float:
    """Share of the images to which the network answers the same whichever of the pixels is flipped: of S x S
    pixels every one in turn, on `images` images drawn at random.

    Raises:
        NotApplicable: pixels have more than two values.
        UsageError: fewer than two images are asked for.
    """
    return float((~breaking(view, images, seed, progress).any(1)).double().mean())


@measure("robustness.flips", ref=_REF)
def flips(view: View, images: int = IMAGES, seed: int = 0, progress: bool | None = None) -> Value:
    """Mean, median and largest number of the pixels of an image of which a flip, alone, changes the answer,
    over the images of `robustness.all_flips`; and the share of all flips that change it.

    Raises:
        NotApplicable: pixels have more than two values.
        UsageError: fewer than two images are asked for.
    """
    changed = breaking(view, images, seed, progress).double()
    count = changed.sum(1)
    values = [float(x) for x in (count.mean(), count.median(), count.max(), changed.mean())]
    value = array(values, "statistic", statistic=["mean", "median", "maximum", "share of flips"])
    return value.assign_attrs(images=len(changed))


@measure("robustness.where", ref="here: where the pixels lie that decide")
def where(view: View, images: int = IMAGES, seed: int = 0, progress: bool | None = None) -> Value:
    """Share of the flips that change the answer, over the images of `robustness.all_flips`, by how far the
    flipped pixel lies from the nearest one that is on (0: it is on itself; rows or columns, whichever are
    more). The last distance stands for all from there on.

    Raises:
        NotApplicable: examples are no images of one channel, or pixels have more than two values.
        UsageError: fewer than two images are asked for.
    """
    some = clean(view, images, seed)
    if some.task.inputs.ndim != 3:
        raise NotApplicable(f"examples of {view.task.name} are no images of one channel")
    changed, pixels = breaking(view, images, seed, progress), _pixels(some)
    apart = distances((pixels == pixels.max()).view_as(some.task.inputs)).flatten(1).clamp(max=_FARTHEST)
    there = [k for k in range(_FARTHEST + 1) if (apart == k).any()]
    shares = [float(changed[apart == k].double().mean()) for k in there]
    return array(shares, "distance", distance=there).assign_attrs(images=len(changed))


def distances(on: Bool[Tensor, "image row column"]) -> Int[Tensor, "image row column"]:
    """How far each pixel lies from the nearest one that is on, in rows or columns, whichever are more; as far
    as an image is long where none is."""
    apart = torch.full(on.shape, max(on.shape[1:]), dtype=torch.long)
    reached = on.float()
    for k in range(max(on.shape[1:])):
        apart = torch.where((reached > 0) & (apart > k), k, apart)
        reached = torch.nn.functional.max_pool2d(reached[:, None], 3, stride=1, padding=1)[:, 0]
    return apart


@measure("robustness.noise", ref="accuracy against the share of flipped pixels; here")
def noise(view: View, shares: tuple[float, ...] = SHARES, images: int = 2048, seed: int = 0) -> Value:
    """Accuracy when every pixel is flipped with a probability, on its own, by that probability: on the same
    images, drawn at random, where a higher probability flips what a lower one flips, and more.

    Raises:
        NotApplicable: pixels have more than two values.
        UsageError: a probability is outside 0 to 1, or fewer than two images are asked for.
    """
    if wrong := [share for share in shares if not 0 <= share <= 1]:
        raise UsageError(f"shares: needs numbers from 0 to 1, got {wrong[0]}")
    some = clean(view, images, seed)
    pixels = _pixels(some)
    drawn_at = torch.rand(pixels.shape, generator=torch.Generator().manual_seed(seed))
    right = []
    for share in shares:
        noisy = torch.where(drawn_at < share, _other(pixels), pixels)
        right.append(float((_answers(some, noisy) == some.targets).double().mean()))
    return array(right, "flipped", flipped=list(shares)).assign_attrs(images=len(pixels))


@once_per_view
def breaking(
    view: View, images: int = IMAGES, seed: int = 0, progress: bool | None = None
) -> Bool[Tensor, "image pixel"]:
    """Whether a flip of each pixel of an image, alone, changes the answer. Says on stderr beforehand how long
    that takes where it is more than a few seconds, and shows a bar on a terminal.

    Raises:
        NotApplicable: pixels have more than two values.
        UsageError: fewer than two images are asked for.
    """
    some = clean(view, images, seed)
    return flips_that_break(some, torch.arange(some.task.n_inputs), progress)


def flips_that_break(
    some: View, rows: Int[Tensor, "image"], progress: bool | None = False
) -> Bool[Tensor, "image pixel"]:
    """The same of these examples of a View, as they stand in its sample."""
    pixels = _pixels(some)[rows]
    answers, other = _answers(some, pixels), _other(pixels)
    n_images, n_pixels = pixels.shape
    changed = torch.zeros(n_images, n_pixels, dtype=torch.bool)
    several = max(1, _TOGETHER // n_pixels)
    started, total = time.monotonic(), n_images * n_pixels
    each = torch.eye(n_pixels, dtype=torch.bool)
    with bars(progress) as bar:
        line = None if bar is None else bar.add_task("flipped", total=total, what="image")
        for first in range(0, n_images, several):
            at = slice(first, first + several)
            flipped = torch.where(each, other[at, None], pixels[at, None])
            of_each = _answers(some, flipped.flatten(0, 1)).unflatten(0, flipped.shape[:2])
            changed[at] = of_each != answers[at, None]
            if first == 0:
                _tell(started, len(flipped), n_images, total, progress)
            if bar is not None and line is not None:
                bar.update(line, advance=flipped.shape[0] * n_pixels)
    return changed


def _tell(started: float, done: int, images: int, total: int, progress: bool | None) -> None:
    """Says how long the rest takes, by what the first images took."""
    left = (time.monotonic() - started) * (images / done - 1)
    if left > _TOLD_FROM and progress is not False:
        print(f"all flips of {images:,} images: {total:,} passes, about {left:.0f} s", file=sys.stderr)


def clean(view: View, images: int, seed: int) -> View:
    """The network on so many images, drawn at random, no pixel of which is flipped: of those that it was not
    trained on where these are known.

    Raises:
        UsageError: fewer than two images are asked for.
    """
    return unflipped(view, unseen(view, images, seed))


def unflipped(view: View, rows: Int[Tensor, "image"]) -> View:
    """The network on these images of the sample, no pixel of which is flipped."""
    task = view.task
    assert isinstance(task, Arrays)
    return excerpt(view if task.unflipped is task else view.on(task.unflipped), rows, len(rows))


def _pixels(some: View) -> Float[Tensor, "image pixel"]:
    """
    Raises:
        NotApplicable: they have more than two values, or one.
    """
    inputs = some.task.inputs
    low, high = inputs.min(), inputs.max()
    if low == high or not ((inputs == low) | (inputs == high)).all():
        count = len(inputs.flatten()[:100_000].unique())
        raise NotApplicable(
            f"pixels are flipped between two values, and those of {some.task.name} have "
            f"{'one' if low == high else f'{count:,} or more'}"
        )
    return inputs.flatten(1)


def _other(pixels: Float[Tensor, "image pixel"]) -> Float[Tensor, "image pixel"]:
    """The value that each pixel has not."""
    return pixels.min() + pixels.max() - pixels


def _answers(some: View, pixels: Float[Tensor, "m pixel"]) -> Int[Tensor, "m"]:
    """What the network answers to other images."""
    return showing(some, pixels.unflatten(1, some.task.inputs.shape[1:])).logits.argmax(1)
