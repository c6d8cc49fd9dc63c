"""A probe finds what stands linearly at a place of a network, and nothing where nothing stands; and a second
route in plain numpy gives the same."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pytest
import torch
import xarray as xr

import grokinterp as gi
from grokinterp.errors import NotApplicable, UsageError
from grokinterp.measures.probes import activations, held_out, numbers_of
from grokinterp.models import MLPConfig, ModelConfig, VisionConfig
from grokinterp.replay.readability import readable
from grokinterp.tasks import Factor, Sample, Task, make_task
from grokinterp.tasks.reads import Reads

V = 12
CONFIG = ModelConfig(n_layers=2, d_model=8, n_heads=1, d_head=8, d_mlp=16)


@dataclass(frozen=True)
class Pairs(Task):
    """Two numbers and a sign; two answers, of which the second is read where the first one stands."""

    @cached_property
    def reads(self) -> Reads:
        words, answers = ("x", "y", "=", "first"), ("first", "second")
        return Reads((4,), V + 1, words, answers, (2, 3), V, V, "pairs")

    @cached_property
    def sample(self) -> Sample:
        generator = torch.Generator().manual_seed(0)
        xy = torch.randint(V, (600, 2), generator=generator)
        return Sample(torch.cat([xy, torch.full((600, 1), V), xy[:, :1]], 1), xy)

    @property
    def factors(self) -> dict[str, Factor]:
        x, y = self.inputs[:, :2].double().T
        noise = torch.randn(600, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        alike = torch.ones(600, dtype=torch.float64)
        of_class = {
            "x": Factor(x.long(), tuple(map(str, range(V)))),
            "kind": Factor(x.long() % 2, ("a", "b")),
        }
        return {
            "sum": Factor(x + y),
            "product": Factor(x * y),
            "noise": Factor(noise),
            "one": Factor(alike),
        } | of_class


TASK = Pairs(name="pairs", symbol="pairs")


@functools.cache
def adding() -> gi.View:
    """The first layer attends to all positions alike and writes the sum of the numbers that their tokens are;
    before it nothing of them is at the position of the answer."""
    weights = {name: torch.zeros(shape).double() for name, shape in CONFIG.shapes(TASK.reads).items()}
    weights["embed.W_E"][:V, 0] = torch.arange(V).double()
    weights["blocks.0.attn.W_V"][0, 0, 0] = 1
    weights["blocks.0.attn.W_O"][0, 0, 1] = 1
    return gi.View.of_weights(TASK, CONFIG, weights)


def test_a_number_is_read_where_it_stands_and_not_before():
    found = gi.measure("probe.r2.stream", adding())
    assert found["hook"].values.tolist() == [
        "blocks.0.hook_resid_pre", "blocks.0.hook_resid_post", "blocks.1.hook_resid_post",
    ]  # fmt: skip
    assert found["number"].values.tolist() == ["sum", "product", "noise"]
    total = found.sel(number="sum", r2="value")
    assert total.values[0] == pytest.approx(0, abs=0.03)  # the sign is the same for all
    np.testing.assert_allclose(total.values[1:], 1, atol=1e-9)
    assert (found.sel(number="noise", r2="value") < 0.05).all()
    assert (found.sel(r2="shuffled maximum") < 0.1).all()
    assert (found.sel(r2="shuffled mean") <= found.sel(r2="shuffled maximum")).all()
    assert found.attrs["examples"] == 600
    assert found.attrs["held_out"] == 150


def test_of_a_product_the_part_is_read_that_is_linear_in_the_sum():
    """x y has covariance 2 m v with x + y (of m the mean and v the variance of a number), which explains 4 m²
    v² / (2 v Var(x y)); Var(x y) = v² + 2 m² v."""
    m, v = (V - 1) / 2, (V * V - 1) / 12
    found = gi.measure("probe.r2.stream", adding()).sel(number="product", hook="blocks.0.hook_resid_post")
    value, error = (float(found.sel(r2=which)) for which in ("value", "error"))
    assert value == pytest.approx(2 * m * m / (v + 2 * m * m), abs=4 * error)
    assert 0 < error < 0.05


def test_every_hook_is_probed_at_the_position_of_the_first_answer():
    found = gi.measure("probe.r2", adding(), factors=["x"]).sel(number="x", r2="value")
    # The position of the second answer shows x as a token.
    assert float(found.sel(hook="hook_embed")) == pytest.approx(0, abs=0.05)
    assert {"blocks.1.mlp.hook_post", "blocks.0.attn.hook_z"} <= set(found["hook"].values)
    assert "blocks.0.attn.hook_pattern" not in found["hook"].values
    one = gi.measure("probe.r2", adding(), factors=["x"], sites=["blocks.0.attn.hook_z"])
    assert one["hook"].values.tolist() == ["blocks.0.attn.hook_z"]
    assert one.sel(r2="value").item() == pytest.approx(
        float(found.sel(hook="blocks.0.attn.hook_z")), abs=1e-12
    )


def test_a_random_network_shows_no_noise_and_shuffled_numbers_are_read_nowhere():
    weights = CONFIG.initial_weights(TASK.reads, 0)
    found = gi.measure("probe.r2", gi.View.of_weights(TASK, CONFIG, weights), factors=["noise", "sum"])
    assert (found.sel(number="noise", r2="value") < 0.1).all()
    assert (found.sel(r2="shuffled maximum") < 0.15).all()


@pytest.mark.parametrize(("n", "width"), [(400, 12), (120, 200)])
def test_ridge_by_its_normal_equations_gives_the_same(n, width):
    generator = np.random.default_rng(3)
    x = generator.normal(size=(n, width)) * np.linspace(0.2, 3, width)
    y = (x @ generator.normal(size=width) + 4 * generator.normal(size=n))[:, None] * 1e3
    found = held_out(x, y, shuffles=1)[0, 0]
    fit, new = np.split(x, [n - n // 4])
    mean, scale = fit.mean(0), np.sqrt(fit.var(0).mean())
    of_y, centred, rest = y[: len(fit), 0], (fit - mean) / scale, (new - mean) / scale
    best = []
    for power in (-7, -5, -4, -3, -2, -1, 0, 1):
        inner = centred.T @ centred + len(fit) * 10.0**power * np.eye(width)
        hat = centred @ np.linalg.solve(inner, centred.T) + 1 / len(fit)
        left_out = (of_y - hat @ of_y) / (1 - np.diag(hat))
        weights = np.linalg.solve(inner, centred.T @ (of_y - of_y.mean()))
        best.append(((left_out**2).mean(), rest @ weights + of_y.mean()))
    predicted, true = min(best, key=lambda pair: pair[0])[1], y[len(fit) :, 0]
    expected = 1 - ((true - predicted) ** 2).sum() / ((true - true.mean()) ** 2).sum()
    assert found == pytest.approx(expected, rel=1e-6)


def test_the_error_is_that_of_other_examples_held_out():
    """Over many draws of the held-out examples R² varies by what one draw gives as its error."""
    generator = np.random.default_rng(0)
    values, errors = [], []
    for seed in range(60):
        x = generator.normal(size=(2000, 3))
        y = (x.sum(1) + 1.5 * generator.normal(size=2000))[:, None]
        value, error, *_ = held_out(x, y, 1, seed)[0]
        values.append(value)
        errors.append(error)
    assert np.mean(errors) == pytest.approx(np.std(values), rel=0.3)


def test_of_an_image_the_offset_of_a_line_is_probed_at_the_class_token():
    task = make_task("line_images", size=8, slopes=2, examples=200)
    config = VisionConfig(patch_size=4, d_model=16, n_heads=2, d_mlp=8)
    view = gi.View.of_weights(task, config, config.initial_weights(task.reads, 0))
    found = gi.measure("probe.r2.stream", view)
    assert found["number"].values.tolist() == ["offset"]
    assert float(gi.measure("probe.r2", view, factors=["slope"]).sel(r2="value").max()) > 0.1
    inside = VisionConfig(patch_size=4, d_model=16, n_heads=2, local_layers=1, local_d_model=8)
    view = gi.View.of_weights(task, inside, inside.initial_weights(task.reads, 0))
    hook = next(name for name in view.model.hook_dict if name.startswith("local.") and "resid_post" in name)
    of_parts = {how: activations(view, (hook,), how)[hook] for how in ("mean", "each")}
    assert of_parts["each"].shape == (200, 4 * of_parts["mean"].shape[1])
    torch.testing.assert_close(of_parts["each"].view(200, 4, -1).mean(1), of_parts["mean"])


def test_of_a_perceptron_the_neurons_are_the_stream():
    task, config = make_task("plain_division", p=11), MLPConfig(d_model=8, d_mlp=32)
    view = gi.View.of_weights(task, config, config.initial_weights(task.reads, 0))
    with pytest.raises(NotApplicable, match="no numbers are known of the examples of plain_division"):
        gi.measure("probe.r2", view)
    found = gi.measure("probe.r2.stream", view, factors=["answer", "a"])
    assert found["hook"].values.tolist() == ["blocks.0.mlp.hook_post"]
    assert float(found.sel(number="a", r2="value").item()) < 1
    assert numbers_of(task, "answer").max() == 10


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"factors": ["sun"]}, "no factor 'sun'.*sum"),
        ({"factors": ["kind"]}, "'kind' of pairs is of classes, which are no numbers"),
        ({"factors": ["one"]}, "all examples of pairs have the same 'one'"),
        ({"sites": ["hook_embde"]}, "no vectors of features at 'hook_embde'.*hook_embed"),
        ({"shuffles": 0}, "shuffles: needs 1 or more, got 0"),
        ({"positions": "every"}, "positions: needs 'mean' or 'each'"),
        ({"examples": 1}, "examples: needs 2 or more"),
    ],
)
def test_what_cannot_be_asked_is_said_in_a_line(options, said):
    with pytest.raises(UsageError, match=said):
        gi.measure("probe.r2", adding(), **options)


def test_few_examples_are_no_probe():
    with pytest.raises(NotApplicable, match="30 examples are too few to hold some out: 40 are needed"):
        gi.measure("probe.r2.stream", adding(), examples=30)


def probed(values, shuffled) -> xr.Dataset:
    """A replay of one probe at steps 0, 10, 20 and so on."""
    data = np.stack([values, np.zeros(len(values)), shuffled, shuffled], axis=1)[:, None, None]
    array = xr.DataArray(
        data, dims=["step", "number", "hook", "r2"],
        coords={"step": range(0, 10 * len(values), 10), "number": ["sum"], "hook": ["here"],
                "r2": ["value", "error", "shuffled mean", "shuffled maximum"]},
    )  # fmt: skip
    return xr.Dataset({"probe.r2.stream": array})


@pytest.mark.parametrize(
    ("values", "shuffled", "after", "by", "when"),
    [
        ([0, 0.2, 0.6, 0.9], 0.1, 10, 20, "after step 10 and by step 20"),
        ([0, 0.7, 0.4, 0.9], 0.1, 20, 30, "after step 20 and by step 30"),  # it has to stay
        ([0.6, 0.7, 0.8, 0.9], 0.1, None, 0, "from step 0 on"),
        ([0.6, 0.7, 0.8, 0.4], 0.1, 30, None, "not by step 30"),
        ([0.6, 0.7, 0.8, 0.9], 0.75, 10, 20, "after step 10 and by step 20"),  # no better than by chance
    ],
)
def test_a_number_is_readable_from_where_it_stays_above_both_limits(values, shuffled, after, by, when):
    (one,) = readable(probed(values, np.full(4, shuffled)))
    assert (one.after, one.by, one.when, one.r2) == (after, by, when, values[-1])
    assert (one.factor, one.site) == ("sum", "here")


def test_who_did_not_replay_a_probe_is_told():
    with pytest.raises(UsageError, match=r"probe\.r2\.stream was not replayed"):
        readable(xr.Dataset())
