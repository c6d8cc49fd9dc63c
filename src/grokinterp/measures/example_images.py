"""A few images of the sample, and what a network makes of each: what it attends to, which flips would change
its answer, and what it answers. For the eye: these are examples, and no statistics."""

from __future__ import annotations

from functools import partial

import torch
from jaxtyping import Int
from torch import Tensor

from ..errors import NotApplicable
from ..tasks import Arrays
from ..view import View
from .base import Value, array, once_per_view
from .base import measure as of_any_task
from .excerpts import unseen
from .robustness import flips_that_break, unflipped

SHOWN = 6
"""Images."""
_LOOKED_AT = 256
"""Examples among which they are looked for."""


def _are_images(task: Arrays) -> bool:
    return len(task.shape) == 2


measure = partial(of_any_task, of=Arrays, unit="1", where=_are_images, replayed=True)
_REF = "here: examples, for the eye"


@once_per_view
def shown(view: View) -> View:
    """The network on the images that are shown: of as many classes as there is room for, evenly spread, the
    first of each among those that it was not trained on, where these are known; no pixel is flipped.

    Raises:
        NotApplicable: examples are no images of one channel.
    """
    task = view.task
    assert isinstance(task, Arrays)
    if len(task.shape) != 2:
        raise NotApplicable(f"examples of {task.name} are no images of one channel")
    rows = unseen(view, _LOOKED_AT, 0)
    classes: Int[Tensor, "n"] = task.targets[rows]
    there = classes.unique()
    picked = there[torch.linspace(0, len(there) - 1, min(SHOWN, len(there))).round().long()]
    chosen = torch.stack([rows[(classes == one).nonzero()[0, 0]] for one in picked])
    return unflipped(view, chosen)


def titles(view: View) -> list[str]:
    """The class of each image that is shown."""
    task = view.task
    assert isinstance(task, Arrays)
    return [task.classes[i] for i in shown(view).task.targets.tolist()]


def _by_image(view: View, values: Tensor, *dims: str) -> Value:
    names = titles(view)
    labels = [f"{i}: {name}" for i, name in enumerate(names, 1)]
    sizes = {dim: list(range(size)) for dim, size in zip(dims, values.shape[1:], strict=True)}
    return array(values, ("image", *dims), image=labels, **sizes)


@measure("example_images.pixels", ref=_REF)
def pixels(view: View) -> Value:
    """The images themselves, by image, row and column.

    Raises:
        NotApplicable: examples are no images of one channel.
    """
    return _by_image(view, shown(view).task.inputs.double(), "row", "column")


@measure("example_images.attention", ref=_REF)
def attention(view: View) -> Value:
    """How much the class token attends to each patch in the last layer, as a mean over heads, by image, row
    and column of patches.

    Raises:
        NotApplicable: examples are no images of one channel, or the network does not attend to patches.
    """
    grid = view.reads.grid
    if len(grid) != 2:
        raise NotApplicable("the network does not attend to parts of an image")
    pattern = shown(view).attention[-1].mean(0)[:, -grid[0] * grid[1] :]
    return _by_image(view, pattern.unflatten(1, grid), "patch_row", "patch_column")


@measure("example_images.flips", ref=_REF)
def flips(view: View) -> Value:
    """Whether a flip of each pixel, alone, changes what the network answers, by image, row and column.

    Raises:
        NotApplicable: examples are no images of one channel, or pixels have more than two values.
    """
    some = shown(view)
    changed = flips_that_break(some, torch.arange(some.task.n_inputs))
    return _by_image(view, changed.double().view_as(some.task.inputs), "row", "column")


@measure("example_images.answers", ref=_REF)
def answers(view: View) -> Value:
    """The probability that the network gives each class, by image.

    Raises:
        NotApplicable: examples are no images of one channel.
    """
    task = view.task
    assert isinstance(task, Arrays)
    names = [f"{i}: {name}" for i, name in enumerate(titles(view), 1)]
    values = shown(view).probabilities
    return array(values, ("image", "class"), image=names, **{"class": list(task.classes)})
