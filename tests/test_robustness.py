"""What a change of a few pixels, or of where a thing lies, does to networks of which that is known."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch

import grokinterp as gi
from grokinterp.errors import NotApplicable, UsageError
from grokinterp.measures.invariance import between, readout_plane
from grokinterp.measures.robustness import breaking
from grokinterp.models import VisionConfig
from grokinterp.tasks import Arrays, make_task

SIDE = 4
CONFIG = VisionConfig(
    patch_size=SIDE, n_layers=1, d_model=SIDE**2, n_heads=1, d_mlp=0, normalization="none"
)  # fmt: skip


@functools.cache
def corner() -> Arrays:
    """Images of random pixels, whose class is the first of them."""
    images = torch.randint(2, (300, SIDE, SIDE), generator=torch.Generator().manual_seed(0)).float()
    return gi.arrays(images, images[:, 0, 0].long(), name="corner")


def looking_at_the_corner(task: Arrays | None = None) -> gi.View:
    """The class token attends to itself and to the one patch alike and copies it; the first pixel decides."""
    task = task or corner()
    w = {name: torch.zeros(shape).double() for name, shape in CONFIG.shapes(task.reads).items()}
    w["embed.W_E"] = torch.eye(SIDE**2).double()
    w["blocks.0.attn.W_V"][0], w["blocks.0.attn.W_O"][0] = torch.eye(SIDE**2), torch.eye(SIDE**2)
    w["unembed.W_U"][0] = torch.tensor([-10.0, 10.0])
    w["unembed.b_U"] = torch.tensor([2.5, -2.5]).double()  # a half of half a pixel, which attention gives
    return gi.View.of_weights(task, CONFIG, w)


def untrained(task: Arrays | None = None, **model: object) -> gi.View:
    task = task or corner()
    config = VisionConfig(**{"patch_size": 2, "n_layers": 1, "d_model": 8, "n_heads": 2, **model})
    return gi.View.of_weights(task, config, config.initial_weights(task.reads, 0))


def test_the_one_pixel_that_decides_is_the_one_whose_flip_changes_the_answer():
    view = looking_at_the_corner()
    assert gi.measure("accuracy", view).sel(part="all").item() == 1
    found = breaking(view, 50)
    assert found.shape == (50, SIDE**2)
    assert found[:, 0].all()
    assert not found[:, 1:].any()
    assert gi.measure("robustness.all_flips", view, images=50) == 0
    mean, median, most, share = gi.measure("robustness.flips", view, images=50).values
    assert (mean, median, most, share) == (1, 1, 1, 1 / SIDE**2)
    # Of 300 images a pixel in sixteen is the corner: within four standard errors.
    assert abs(gi.measure("robustness.one_flip", view) - 15 / 16) < 4 * (15 / 256 / 300) ** 0.5


def test_the_accuracy_on_noise_falls_by_the_share_of_flipped_corners_alone():
    curve = gi.measure("robustness.noise", looking_at_the_corner(), shares=(0.0, 0.2, 0.5, 1.0))
    assert curve.sel(flipped=0.0).item() == 1
    assert curve.sel(flipped=1.0).item() == 0
    for share in (0.2, 0.5):
        assert abs(curve.sel(flipped=share).item() - (1 - share)) < 4 * (share * (1 - share) / 300) ** 0.5


def test_a_network_that_always_says_the_same_is_robust_and_right_by_chance():
    weights = {name: torch.zeros(shape) for name, shape in CONFIG.shapes(corner().reads).items()}
    view = gi.View.of_weights(corner(), CONFIG, weights)
    assert gi.measure("robustness.all_flips", view, images=20) == 1
    assert gi.measure("robustness.one_flip", view) == 1
    assert gi.measure("robustness.noise", view).std().item() == 0
    with pytest.raises(NotApplicable, match="the readout is the same for all examples"):
        gi.measure("invariance.eta2", view)


@pytest.mark.parametrize("network", [{}, {"patch_size": 1}, {"local_layers": 1, "local_d_model": 8}], ids=str)
def test_flips_are_those_of_the_network_itself(network):
    view = untrained(**network)
    model, count = view.model, 6
    found = breaking(view, count, seed=3)
    generator = torch.Generator().manual_seed(3)
    rows = torch.randperm(300, generator=generator)[:count]
    for image, of_image in zip(view.task.inputs[rows], found, strict=True):
        before = int(model(image[None])[0, 0].argmax())
        for pixel in range(SIDE**2):
            flipped = image.clone()
            flipped.view(-1)[pixel] = 1 - flipped.view(-1)[pixel]
            assert bool(of_image[pixel]) == (int(model(flipped[None])[0, 0].argmax()) != before)


def test_lines_are_looked_at_as_they_are_before_pixels_were_flipped():
    noisy = make_task("line_images", size=8, slopes=4, flips=0.1, examples=40)
    still = make_task("line_images", size=8, slopes=4, examples=40)
    assert torch.equal(noisy.unflipped.inputs, still.inputs)
    assert not torch.equal(noisy.inputs, still.inputs)
    of_noisy, of_still = (untrained(task) for task in (noisy, still))
    for name in ("robustness.one_flip", "robustness.all_flips"):
        assert gi.measure(name, of_noisy) == gi.measure(name, of_still)


def test_a_line_that_is_moved_is_the_line_through_the_moved_point():
    task = make_task("line_images", size=9, slopes=4, examples=30)
    for right, up in ((2, 0), (0, -1)):
        moved, slopes = task.moved(right, up), task.lines[0]
        x = torch.arange(9).double() - 4
        angle = (slopes.double() + 0.5) * torch.pi / 4
        apart = angle.sin()[:, None, None] * (x - right) - angle.cos()[:, None, None] * (
            x.flip(0)[:, None] - up
        )
        assert torch.equal(moved, ((apart - task.lines[1][:, None, None]).abs() <= 0.5).float())


def test_other_images_lose_what_leaves_the_border():
    images, moved = corner().inputs, corner().moved(1, 0)
    assert torch.equal(moved[:, :, 1:], images[:, :, :-1])
    assert not moved[:, :, 0].any()
    moved = corner().moved(0, 2)
    assert torch.equal(moved[:, :2], images[:, 2:])
    assert not moved[:, 2:].any()
    moved = corner().moved(-1, -1)
    assert torch.equal(moved[:, 1:, :-1], images[:, :-1, 1:])


def test_a_network_that_looks_at_a_corner_sees_what_comes_there():
    found = gi.measure("invariance.shift", looking_at_the_corner(), pixels=(1,), images=300)
    images = corner().inputs
    arriving = [torch.zeros(300), images[:, 0, 1], images[:, 1, 0], torch.zeros(300)]
    same = torch.stack([one == images[:, 0, 0] for one in arriving]).double().mean()
    assert found.sel(shift=1, of="same").item() == pytest.approx(float(same))
    assert found.sel(shift=1, of="right").item() == pytest.approx(float(same))


def test_the_class_decides_all_of_a_readout_that_is_the_class_and_nothing_of_one_that_is_chance():
    generator = torch.Generator().manual_seed(0)
    classes = torch.randint(3, (400,), generator=generator)
    corners = torch.tensor([[0.0, 0], [1, 0], [0, 1]]).double()
    assert float(between(corners[classes], classes)) == pytest.approx(1)
    points = torch.randn(400, 2, generator=generator).double()
    assert float(between(points, classes)) < 0.03
    mixed = corners[classes] + 0.3 * points
    total = mixed - mixed.mean(0)
    means = torch.stack([total[classes == k].mean(0) for k in range(3)])[classes]
    assert float(between(mixed, classes)) == pytest.approx(float(means.square().sum() / total.square().sum()))


def test_eta2_is_of_the_plane_of_what_is_unembedded():
    task = make_task("line_images", size=8, slopes=4, examples=200)
    view = untrained(task, normalization="LN")
    seen = []
    view.model.run_with_hooks(
        task.inputs, fwd_hooks=[("unembed.hook_in", lambda x, hook: seen.append(x[:, 0]))]
    )
    readout = seen[0].detach().double().numpy()
    centred = readout - readout.mean(0)
    values, vectors = np.linalg.eigh(centred.T @ centred)
    plane = torch.from_numpy(centred @ vectors[:, ::-1][:, :2].copy())
    found = gi.measure("invariance.eta2", view)
    assert found.sel(statistic="value").item() == pytest.approx(float(between(plane, task.targets)))
    assert gi.measure("invariance.planarity", view) == pytest.approx(values[-2:].sum() / values.sum())
    assert readout_plane(view)[0].shape == (200, 2)
    low, high = (found.sel(statistic=which).item() for which in ("mean", "maximum"))
    assert 0 < low < high < 0.2


def test_of_the_corner_the_readout_says_the_class_and_less_beside_it():
    found = gi.measure("invariance.eta2", looking_at_the_corner())
    assert found.sel(statistic="maximum").item() < 0.1


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("robustness.noise", {"shares": (0.1, 1.5)}, "shares: needs numbers from 0 to 1, got 1.5"),
        ("robustness.all_flips", {"images": 1}, "examples: needs 2 or more"),
        ("invariance.shift", {"pixels": (4,)}, "pixels: needs numbers from 1 to 3, got 4"),
    ],
)
def test_what_cannot_be_asked_is_said_in_a_line(name, options, said):
    with pytest.raises(UsageError, match=said):
        gi.measure(name, looking_at_the_corner(), **options)


def test_grey_images_are_not_flipped_and_a_table_is_not_moved():
    grey = torch.rand(40, 4, 4, generator=torch.Generator().manual_seed(0))
    view = untrained(gi.arrays(grey, grey[:, 0, 0] > 0.5, name="grey"))
    for name in ("one_flip", "all_flips", "flips", "noise"):
        with pytest.raises(NotApplicable, match="flipped between two values, and those of grey have"):
            gi.measure(f"robustness.{name}", view)
    for columns in (16, 1):
        table = gi.arrays(grey.flatten(1)[:, :columns], grey[:, 0, 0] > 0.5, name="rows")
        with pytest.raises(NotApplicable, match="examples of rows are rows of a table"):
            gi.measure("invariance.shift", untrained(table, patch_size=1))


def test_it_is_said_beforehand_how_long_all_flips_take(capsys, monkeypatch):
    monkeypatch.setattr("grokinterp.measures.robustness._TOLD_FROM", 0.0)
    monkeypatch.setattr("grokinterp.measures.robustness._TOGETHER", 100)
    gi.measure("robustness.all_flips", looking_at_the_corner(), images=30, seed=7)
    assert "all flips of 30 images: 480 passes, about" in capsys.readouterr().err
