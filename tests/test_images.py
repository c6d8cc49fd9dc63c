"""Tasks of arrays: images of lines that are drawn, and whatever arrays somebody has."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import grokinterp as gi
from grokinterp.errors import ConfigError
from grokinterp.tasks import Arrays, Factor, make_task
from grokinterp.training.batches import Fresh


def told(call) -> str:
    with pytest.raises(ConfigError) as raised:
        call()
    assert "\n" not in str(raised.value)
    return str(raised.value)


# Lines


def by_hand(size: int, slopes: int, slope: int, point: tuple[float, float]) -> torch.Tensor:
    """The image of a line through a point (pixels from the lower left one, as decimals), pixel by pixel: the
    distance to the line is the length of what is left of the way from the point to the pixel once the part
    along the line is taken off."""
    angle = (slope + 0.5) * math.pi / slopes
    along = (math.cos(angle), math.sin(angle))
    image = torch.zeros(size, size)
    for row in range(size):
        for column in range(size):
            way = (column - point[0], size - 1 - row - point[1])
            t = way[0] * along[0] + way[1] * along[1]
            left = math.hypot(way[0] - t * along[0], way[1] - t * along[1])
            image[row, column] = float(left <= 0.5)
    return image


@pytest.mark.parametrize(("size", "slopes"), [(12, 8), (9, 5), (16, 2)])
def test_images_and_labels_are_those_of_lines_drawn_pixel_by_pixel(size, slopes):
    task = make_task("line_images", size=size, slopes=slopes, examples=40, sample_seed=3)
    generator = torch.Generator().manual_seed(3)
    classes = torch.randint(slopes, (40,), generator=generator)
    points = (torch.rand(40, 2, generator=generator, dtype=torch.float64) - 0.5) * 0.6 * size + (size - 1) / 2
    for image, answer, slope, point in zip(task.inputs, task.targets, classes, points, strict=True):
        assert int(answer) == int(slope)
        assert torch.equal(image, by_hand(size, slopes, int(slope), tuple(point.tolist())))


def test_offsets_say_where_the_lines_are():
    task = make_task("line_images", examples=200)
    slopes, offsets = task.lines
    assert torch.equal(task.images_of(slopes, offsets), task.inputs)
    assert torch.equal(task.factors["offset"].values, offsets)
    assert float(offsets.abs().max()) <= 0.3 * math.sqrt(2) * 12
    # Half a turn is the same line with the other sign; the image turned by it has offsets of the other sign.
    assert torch.equal(task.images_of(slopes, -offsets), task.inputs.flip(1, 2))
    assert torch.equal(task.factors["pixels"].values, task.inputs.sum((1, 2)).long())
    bands = task.factors["band"]
    for band, name in enumerate(bands.names):
        low, high = map(float, name.split(" to "))
        of_band = offsets[bands.values == band]
        assert low - 0.06 <= float(of_band.min())
        assert float(of_band.max()) <= high + 0.06


def test_angles_are_counterclockwise_from_the_horizontal():
    task = make_task("line_images", slopes=8)
    shallow = task.images_of(torch.tensor([0]), torch.tensor([0.0], dtype=torch.float64))[0]
    rows = [int(column.nonzero()[0]) for column in shallow.T if column.any()]
    assert rows[0] > rows[-1]  # it rises to the right, row 0 being the highest
    assert task.classes[:2] == ("11°", "34°")
    every = task.images_of(torch.arange(8), torch.zeros(8, dtype=torch.float64))
    assert torch.equal(every.flip(2), every.flip(0))  # class 7 − k is the mirror image of class k


def test_slopes_have_different_names():
    for slopes in (2, 90, 91, 360):
        task = make_task("line_images", size=256, slopes=slopes, examples=2)
        assert len(set(task.classes)) == slopes


def test_the_stream_is_seeded_and_never_repeats():
    task = make_task("line_images", flips=0.05)
    one, same, other = (Fresh(task, 64, seed) for seed in (0, 0, 1))
    assert torch.equal(one.batch(5).inputs, same.batch(5).inputs)
    assert not torch.equal(one.batch(5).inputs, one.batch(6).inputs)
    assert not torch.equal(one.batch(5).inputs, other.batch(5).inputs)


@pytest.mark.parametrize("share", [0.05, 0.15])
def test_as_many_pixels_are_flipped_as_asked_each_on_its_own(share):
    task = make_task("line_images", flips=share, sample_flips=0)
    draws = [make_task("line_images", flips=flips) for flips in (share, 0.0)]
    noisy, clean = (each.draw(2000, torch.Generator().manual_seed(7)) for each in draws)
    flipped = noisy.inputs != clean.inputs
    assert torch.equal(noisy.answers, clean.answers)
    n = flipped.numel()
    assert abs(float(flipped.double().mean()) - share) < 4 * math.sqrt(share * (1 - share) / n)
    per_pixel = flipped.double().mean(0)
    assert float((per_pixel - share).abs().max()) < 5 * math.sqrt(share * (1 - share) / 2000)
    assert torch.equal(task.inputs, make_task("line_images").inputs)


def test_a_sample_is_had_with_other_flips_on_the_same_lines():
    noisy = make_task("line_images", flips=0.15, examples=300)
    clean, some = noisy.sampled(flips=0.0), noisy.sampled(flips=0.05)
    assert torch.equal(clean.inputs, make_task("line_images", examples=300).inputs)
    assert torch.equal(clean.targets, noisy.targets)
    few, many = (each.inputs != clean.inputs for each in (some, noisy))
    assert few.sum() < many.sum()
    assert not (few & ~many).any()  # what a small share flips, a larger one does too
    other = noisy.sampled(flips=0.0, seed=1, examples=10)
    assert other.n_inputs == 10
    assert not torch.equal(other.inputs, clean.inputs[:10])
    assert torch.equal(make_task(clean.name, **clean.params).inputs, clean.inputs)
    assert told(lambda: noisy.sampled(flips=0.6)) == "flips: needs a share from 0 to 0.5, got 0.6"
    assert told(lambda: noisy.sampled(examples=0)) == "examples: needs 1 or more, got 0"


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"slopes": 1}, "task.slopes: input should be greater than or equal to 2, got 1"),
        ({"flips": 0.7}, "task.flips: input should be less than or equal to 0.5, got 0.7"),
        ({"flip": 0.1}, "unknown key 'task.flip'; did you mean 'flips'?"),
        ({"size": 2}, "task.size: input should be greater than or equal to 4, got 2"),
        (
            {"slopes": 40},
            "task.slopes: 40 slopes cannot be told apart on 12 x 12 pixels: lines at 2° and 7° through "
            "the centre are the same image: choose fewer slopes or a larger task.size",
        ),
    ],
)
def test_bad_parameters_are_one_line(parameters, message):
    assert told(lambda: make_task("line_images", **parameters)) == message


def test_a_sample_larger_than_memory_is_refused():
    message = told(lambda: make_task("line_images", size=256, slopes=8, examples=1_000_000))
    assert message.startswith("task.examples: 1,000,000 images of 256 x 256 pixels need about 1.57e+03 GB")


# Arrays of one's own


def test_a_few_lines_make_a_task_of_arrays():
    images = np.arange(5 * 6, dtype=np.uint8).reshape(5, 2, 3)
    kinds = Factor(torch.tensor([0, 1, 1, 0, 0]), ("x", "y"))
    task = gi.arrays(
        images,
        [3, 7, 3, 9, 7],
        {"dark": images.sum((1, 2)) < 60, "mean": images.mean((1, 2)), "kind": kinds},
        name="toy",
    )  # fmt: skip
    assert isinstance(task, Arrays)
    task.look_through()
    assert task.classes == ("3", "7", "9")
    assert task.targets.tolist() == [0, 1, 0, 2, 1]
    assert task.inputs.dtype == torch.float32
    assert torch.equal(task.inputs, torch.from_numpy(images).float())
    assert task.reads.shape == (2, 3)
    assert task.chance == 2 / 5
    assert {name: factor.n_classes for name, factor in task.factors.items()} == {
        "class": 3, "dark": 2, "mean": 0, "kind": 2,
    }  # fmt: skip
    assert task.factors["class"].names == ("3", "7", "9")
    assert task.symbol == "3 classes of 2 x 3 numbers"


def test_names_number_the_classes_and_a_table_may_be_images():
    task = gi.arrays(
        torch.rand(4, 12), torch.tensor([0.0, 2.0, 2.0, 0.0]), names=["a", "b", "c"], image=(3, 4)
    )
    assert task.classes == ("a", "b", "c")
    assert task.targets.tolist() == [0, 2, 2, 0]
    assert task.reads.shape == (3, 4)
    assert gi.arrays([[1, 2], [3, 4]], [True, False]).targets.tolist() == [1, 0]
    assert gi.arrays(np.eye(4), [0, 1, 0, 1], image=(np.int64(2), np.int64(2))).reads.shape == (2, 2)


TABLE = np.zeros((4, 3))
LABELS = [0, 1, 0, 1]
NEEDS_ARRAY = "inputs: needs an array [n, ...] of examples of one or more numbers"
NOT_FINITE = "examples have numbers that are NaN or infinite, or too large for float32"


def with_hole() -> np.ndarray:
    table = np.zeros((4, 3))
    table[2, 1] = np.nan
    return table


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: gi.arrays(TABLE, LABELS[:3]),
            "labels: needs one for each of 4 examples, got an array of [3]",
        ),
        (lambda: gi.arrays(np.zeros(4), LABELS), f"{NEEDS_ARRAY}, got one of shape [4]"),
        (lambda: gi.arrays(np.zeros((0, 3)), []), f"{NEEDS_ARRAY}, got one of shape [0, 3]"),
        (lambda: gi.arrays(with_hole(), LABELS), f"inputs: 1 of 4 {NOT_FINITE}; the first is example 2"),
        (lambda: gi.arrays(TABLE + 1e300, LABELS), f"inputs: 4 of 4 {NOT_FINITE}; the first is example 0"),
        (
            lambda: gi.arrays(TABLE, [1, 1, 1, 1]),
            "labels: all 4 examples are of the class 1: a task needs two classes or more",
        ),
        (lambda: gi.arrays(TABLE, [0, 1, 0.5, 1]), "labels: needs whole numbers, got 0.5 for example 2"),
        (lambda: gi.arrays(TABLE, list("abab")), "labels: needs an array of numbers, got one of <U1"),
        (lambda: gi.arrays([[1, 2], [3]], LABELS), "inputs: are no array: "),
        (
            lambda: gi.arrays(TABLE, [0, 1, 2, 1], names=["a", "b"]),
            "names: there are 2, and labels from 0 to 2: label i is the class of the i-th name, counted from "
            "0",
        ),
        (
            lambda: gi.arrays(TABLE, LABELS, {"f": [1, 2]}),
            "factors: 'f' needs a value for each of 4 examples, got an array of [2]",
        ),
        (
            lambda: gi.arrays(TABLE, LABELS, {"class": LABELS}),
            "factors: 'class' is that of the labels: choose another name",
        ),
        (
            lambda: gi.arrays(TABLE, LABELS, image=(2, 2)),
            "image: 2 x 2 pixels are 4 numbers, and an example has 3",
        ),
        (
            lambda: gi.arrays(TABLE, LABELS, image=(3,)),
            "image: needs (rows, columns) or (rows, columns, channels), got (3,)",
        ),
        (
            lambda: gi.arrays(TABLE, LABELS, {"f": Factor(torch.arange(3))}),
            "factors: 'f' needs a value for each of 4 examples, got an array of [3]",
        ),
        (
            lambda: gi.arrays(TABLE, LABELS, names=["a", "a"]),
            "names: two classes are called 'a': give every class a name of its own",
        ),
        (
            lambda: gi.arrays(TABLE.astype(complex), LABELS),
            "inputs: needs an array of numbers, got one of complex128",
        ),
    ],
)
def test_bad_arrays_are_one_line(call, message):
    assert told(call).startswith(message)


def test_arrays_larger_than_memory_are_refused(monkeypatch):
    monkeypatch.setattr("grokinterp.tasks.array.free_memory", lambda: 100.0)
    assert told(lambda: gi.arrays(TABLE, LABELS)) == (
        "inputs: 4 examples of 3 numbers need about 1.44e-07 GB, and 0.0 GB are free: give fewer, or smaller "
        "ones"
    )
