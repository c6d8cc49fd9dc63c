"""Images that are drawn: a straight line on a square of pixels, and which of K slopes it has.

Pixels are counted from the centre of the first one, x to the right and y upwards, so that the image has its
centre at ((size − 1) / 2, (size − 1) / 2) and class k stands at the angle (k + 1/2) π / K, counterclockwise
from the horizontal. A line is where x sin(angle) − y cos(angle) has a value; how far that is from the value
at the centre is its offset. It goes through a point that is drawn uniformly in the central square of .6 size,
and a pixel is on, that is 1, where its centre lies no further from the line than half a pixel.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Annotated, Any

import torch
from jaxtyping import Float32, Float64, Int
from pydantic import Field
from torch import Tensor

from ..errors import ConfigError
from ..memory import free_memory
from .array import Arrays
from .base import Factor, Sample
from .encoding import Seed
from .registry import task

_CENTRAL = 0.6
"""The side of the square in which a line has its point, in that of the image."""
_BANDS = 5
"""Of offsets, all as wide."""
Share = Annotated[float, Field(ge=0, le=0.5)]


@dataclass(frozen=True, eq=False)
class LineImages(Arrays):
    """The slope of a line on an image.

    Attributes:
        size: pixels of a side.
        slopes: the number of classes.
        flips: the share of pixels that are flipped, each on its own, in what is drawn to be learned from.
        sample_flips: the same in the sample; None where as many.
        examples: of the sample.
        sample_seed: of the sample: of its lines, and of the pixels that are flipped.
    """

    examples_are = "images"
    asked_for = "slope"

    size: int
    slopes: int
    flips: float
    sample_flips: float | None
    examples: int
    sample_seed: int

    @property
    def shape(self) -> tuple[int, ...]:
        return self.size, self.size

    @property
    def classes(self) -> tuple[str, ...]:
        """The angles in degrees, rounded as far as they stay different."""
        digits = 0 if self.slopes <= 90 else 1
        return tuple(f"{180 * (k + 0.5) / self.slopes:.{digits}f}°" for k in range(self.slopes))

    def draw(self, n: int, generator: torch.Generator) -> Sample:
        """Lines through uniform points, of slopes that are drawn uniformly, with `flips` of all pixels
        flipped."""
        return self._seen(*self._lines(n, generator), self.flips, generator)

    @cached_property
    def sample(self) -> Sample:
        """So many images, drawn once. The lines are the same for any share of flips, and what a small share
        flips a larger one flips too."""
        flips = self.flips if self.sample_flips is None else self.sample_flips
        return self._seen(*self.lines, flips, self._after_lines)

    @cached_property
    def lines(self) -> tuple[Int[Tensor, "n"], Float64[Tensor, "n"]]:
        """The slope and the offset of the line of every image of the sample."""
        return self._lines(self.examples, torch.Generator().manual_seed(self.sample_seed))

    @property
    def _after_lines(self) -> torch.Generator:
        """The generator of the sample, its lines having been drawn."""
        generator = torch.Generator().manual_seed(self.sample_seed)
        self._lines(self.examples, generator)
        return generator

    def _lines(self, n: int, generator: torch.Generator) -> tuple[Int[Tensor, "n"], Float64[Tensor, "n"]]:
        slopes = torch.randint(self.slopes, (n,), generator=generator)
        points = (torch.rand(n, 2, generator=generator, dtype=torch.float64) - 0.5) * (_CENTRAL * self.size)
        return slopes, (points * self._across(slopes)).sum(1)

    def _across(self, slopes: Int[Tensor, "n"]) -> Float64[Tensor, "n 2"]:
        """What x and y count in the offset of a line."""
        angle = (slopes.double() + 0.5) * (math.pi / self.slopes)
        return torch.stack([angle.sin(), -angle.cos()], 1)

    def _seen(
        self,
        slopes: Int[Tensor, "n"],
        offsets: Float64[Tensor, "n"],
        flips: float,
        generator: torch.Generator,
    ) -> Sample:
        images = self.images_of(slopes, offsets)
        if flips:
            flipped = torch.rand(images.shape, generator=generator) < flips
            images = torch.where(flipped, 1 - images, images)
        return Sample(images, slopes[:, None])

    def images_of(
        self, slopes: Int[Tensor, "n"], offsets: Float64[Tensor, "n"]
    ) -> Float32[Tensor, "n row column"]:
        """The images of lines with these slopes and offsets, no pixel flipped."""
        x = torch.arange(self.size, dtype=torch.float64) - (self.size - 1) / 2
        of_x, of_y = self._across(slopes)[:, :, None, None].unbind(1)
        apart = of_x * x + of_y * x.flip(0)[:, None] - offsets[:, None, None]
        return (apart.abs() <= 0.5).float()

    def sampled(
        self, *, flips: float | None = None, seed: int | None = None, examples: int | None = None
    ) -> LineImages:
        """The same task with another sample: with another share of flips on the same lines, other lines, or
        another number of them. `view.on(task.sampled(flips=0))` is a network on clean images.

        Raises:
            ConfigError: a share outside 0 to .5, no examples, or more than memory can hold.
        """
        asked = {"sample_flips": flips, "sample_seed": seed, "examples": examples}
        changes: dict[str, Any] = {key: value for key, value in asked.items() if value is not None}
        share = changes.get("sample_flips", 0.0)
        if not 0 <= share <= 0.5:
            raise ConfigError(f"flips: needs a share from 0 to 0.5, got {share}")
        if changes.get("examples", 1) < 1:
            raise ConfigError(f"examples: needs 1 or more, got {examples}")
        other = replace(self, params={**self.params, **changes}, **changes)
        other._refuse_too_many()
        return other

    @cached_property
    def unflipped(self) -> LineImages:
        """The same lines, no pixel flipped."""
        flips = self.flips if self.sample_flips is None else self.sample_flips
        return self.sampled(flips=0.0) if flips else self

    def moved(self, right: int, up: int) -> Float32[Tensor, "n row column"]:
        """The images with their lines moved by so many pixels, drawn anew from border to border."""
        slopes, offsets = self.lines
        by = torch.tensor([right, up], dtype=torch.float64)
        return self.images_of(slopes, offsets + self._across(slopes) @ by)

    @cached_property
    def factors(self) -> Mapping[str, Factor]:
        """The slope, the offset in pixels (as a number, and as one of five bands of all that occur), and how
        many pixels are on."""
        slopes, offsets = self.lines
        farthest = _CENTRAL / 2 * math.sqrt(2) * self.size
        band = ((offsets / farthest + 1) / 2 * _BANDS).long().clamp(0, _BANDS - 1)
        edges = [farthest * (2 * i / _BANDS - 1) for i in range(_BANDS + 1)]
        names = [f"{low:.1f} to {high:.1f}" for low, high in itertools.pairwise(edges)]
        return {
            "slope": Factor(slopes, self.classes),
            "offset": Factor(offsets),
            "band": Factor(band, tuple(names)),
            "pixels": Factor(self.inputs.sum((1, 2)).long()),
        }

    @property
    def read(self) -> tuple[str, ...]:
        """Slope and band: what a line is."""
        return "slope", "band"

    def _refuse_too_many(self) -> None:
        needed = self.examples * self.size**2 * 3 * 8
        if needed > 0.8 * (free := free_memory()):
            raise ConfigError(
                f"task.examples: {self.examples:,} images of {self.size} x {self.size} pixels need about "
                f"{needed / 1e9:.3g} GB, and {free / 1e9:.1f} GB are free: choose fewer"
            )

    def refuse_what_cannot_be_told_apart(self) -> None:
        """
        Raises:
            ConfigError: two neighbouring slopes give the same image of a line through the centre.
        """
        images = self.images_of(torch.arange(self.slopes), torch.zeros(self.slopes, dtype=torch.float64))
        if (same := (images == images.roll(-1, 0)).all((1, 2))).any():
            k = int(same.nonzero()[0])
            one, other = self.classes[k], self.classes[(k + 1) % self.slopes]
            raise ConfigError(
                f"task.slopes: {self.slopes} slopes cannot be told apart on {self.size} x {self.size} "
                f"pixels: lines at {one} and {other} through the centre are the same image: choose fewer "
                "slopes or a larger task.size"
            )


@task
def line_images(
    size: Annotated[int, Field(ge=4, le=256)] = 12,
    slopes: Annotated[int, Field(ge=2, le=360)] = 8,
    flips: Share = 0.0,
    sample_flips: Share | None = None,
    examples: Annotated[int, Field(ge=2, le=10**6)] = 2048,
    sample_seed: Seed = 0,
) -> LineImages:
    """Which of K slopes a line on an image of size x size pixels has, some pixels being flipped."""
    what = f"the slope of a line on {size} x {size} pixels, one of {slopes}"
    noise = f", {100 * flips:g} % of the pixels flipped" if flips else ""
    made = LineImages(size, slopes, flips, sample_flips, examples, sample_seed, symbol=what + noise)
    made.refuse_what_cannot_be_told_apart()
    made._refuse_too_many()
    return made
