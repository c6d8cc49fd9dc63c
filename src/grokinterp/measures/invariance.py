"""Whether what a network reads its answer off says which class an array is of, and nothing of where in it the
thing lies.

The readout is what is unembedded, where the answer is read: after the last normalisation, where there is one.
"""

from __future__ import annotations

from functools import partial

import torch
from jaxtyping import Float64, Int
from torch import Tensor

from ..errors import NotApplicable, UsageError
from ..geometry import chance
from ..tasks import Arrays
from ..view import View
from .base import Value, array, once_per_view
from .base import measure as of_any_task
from .dimension_reduction import of_arrays
from .excerpts import showing, unseen
from .geometry import statistics

SHIFTS = (1, 2, 3)
"""Pixels by which images are moved."""
EXAMPLES = 1024
"""Examples of which the readout is looked at."""
DRAWS = 200
"""Random orders of the classes of a baseline."""


measure = partial(of_any_task, where=of_arrays)
"""Registers a measure that a report takes of arrays, in which a thing may lie here or there."""


@measure(
    "invariance.eta2",
    unit="1",
    ref="Fisher 1925, section 42, on the first two principal components",
    gauge=("scale",),
    replayed=True,
)
def eta2(view: View, seed: int = 0) -> Value:
    """Share of the variance of the readout in the plane of its first two principal components that lies
    between the classes of answers (1: nothing but the class decides where an example lies), and what 200
    random orders of the classes give: mean, 95 % quantile and maximum.

    Over 1,024 examples, drawn at random, of those that the network was not trained on where these are known.

    Raises:
        NotApplicable: there is one class, or the readout never varies.
    """
    plane, classes = readout_plane(view)
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.stack([
        between(plane, classes[torch.randperm(len(classes), generator=generator)]) for _ in range(DRAWS)
    ])  # fmt: skip
    return statistics([chance(float(between(plane, classes)), drawn)])


@measure(
    "invariance.planarity",
    unit="1",
    ref="share of the variance on two principal components",
    gauge=("scale",),
)
def planarity(view: View) -> float:
    """Share of the variance of the readout that its first two principal components have, over the examples of
    `invariance.eta2`.

    Raises:
        NotApplicable: the readout never varies.
    """
    readout, _ = _readout(view)
    variances = torch.linalg.svdvals(readout - readout.mean(0)).square()
    if not variances.sum() > 0:
        raise NotApplicable("the readout is the same for all examples")
    return float(variances[:2].sum() / variances.sum())


@once_per_view
def readout_plane(view: View) -> tuple[Float64[Tensor, "n 2"], Int[Tensor, "n"]]:
    """The examples that the network was not trained on, where these are known, in the plane of the first two
    principal components of their readout; and their classes.

    Raises:
        NotApplicable: there is one class, or the readout never varies.
    """
    readout, classes = _readout(view)
    if len(classes.unique()) < 2:
        raise NotApplicable("all examples are of one class")
    centred = readout - readout.mean(0)
    if not centred.square().sum() > 0:
        raise NotApplicable("the readout is the same for all examples")
    u, s, _ = torch.linalg.svd(centred, full_matrices=False)
    return u[:, :2] * s[:2], classes


def between(points: Float64[Tensor, "n 2"], classes: Int[Tensor, "n"]) -> Float64[Tensor, ""]:
    """The share of the variance of points that lies between the means of their classes."""
    centred = points - points.mean(0)
    n_classes = int(classes.max()) + 1
    sums = centred.new_zeros(n_classes, points.shape[1]).index_add_(0, classes, centred)
    of_class = sums.square().sum(1) / classes.bincount(minlength=n_classes).clamp(min=1)
    return of_class.sum() / centred.square().sum()


@once_per_view
def _readout(view: View) -> tuple[Float64[Tensor, "n width"], Int[Tensor, "n"]]:
    """What is unembedded for each example, and its class.

    Raises:
        NotApplicable: the network does not say what it unembeds.
    """
    rows = unseen(view, EXAMPLES, 0)
    last, hooks = view.blocks[-1], view.hooks
    name = "ln_final.hook_normalized" if view.is_normalised else last.name("hook_resid_post")
    if name not in hooks:
        post_norm = last.name("hook_normalized_resid_post")
        name = post_norm if post_norm in hooks else last.name("hook_mlp_out")
    found = view.activations([name], rows=rows)
    if name not in found:
        raise NotApplicable(f"the network has no hook {name}")
    values = found[name].flatten(1)
    if "ln_final.w" in view.weights:
        values = (
            values * view.weights["ln_final.w"].cpu() + view.weights.get("ln_final.b", torch.zeros(1)).cpu()
        )
    return values, view.targets[rows]


@of_any_task(
    "invariance.shift",
    unit="1",
    ref="here: the same thing, moved",
    of=Arrays,
)
def shift(view: View, pixels: tuple[int, ...] = SHIFTS, images: int = 1024, seed: int = 0) -> Value:
    """Share of the images to which the network answers the same when what they show is moved by whole pixels
    ("same"), and of the moved images that are right ("right"), as means over the four directions, by the
    number of pixels.

    Lines are drawn anew from border to border where they are moved; of other images what leaves the border is
    lost, and 0 comes in. On images drawn at random, of those that the network was not trained on where these
    are known, no pixel of which is flipped.

    Raises:
        NotApplicable: examples are no images.
        UsageError: a shift is less than 1 or leaves nothing of an image, or fewer than two images are asked
            for.
    """
    task = view.task
    assert isinstance(task, Arrays)
    task.moved(0, 0)  # of what is no image it says so
    if wrong := [count for count in pixels if not 1 <= count < min(task.shape[:2])]:
        raise UsageError(f"pixels: needs numbers from 1 to {min(task.shape[:2]) - 1}, got {wrong[0]}")
    rows = unseen(view, images, seed)

    def answers(right: int, up: int) -> Int[Tensor, "n"]:
        return showing(view, task.moved(right, up)[rows]).logits.argmax(1)

    still, truth = answers(0, 0), view.task.targets[rows]
    shares = []
    for count in pixels:
        each = [answers(x * count, y * count) for x, y in ((1, 0), (-1, 0), (0, 1), (0, -1))]
        marks = [[one == still for one in each], [one == truth for one in each]]
        shares.append([float(torch.cat(kind).double().mean()) for kind in marks])
    return array(shares, ("shift", "of"), shift=list(pixels), of=["same", "right"])
