"""Spikes: planted ones are found and nothing else is, in curves that were made up, in real trainings, and in
the run that ships."""

from __future__ import annotations

import json
import math
import re

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr

import grokinterp as gi
from conftest import STABLE, tiny
from grokinterp.replay import (
    leaps,
    leaps_in_words,
    slingshots,
    slingshots_in_words,
    spikes,
    spikes_in_words,
)
from grokinterp.training import Trainer
from test_foreign import ROOT

STEPS = np.arange(0, 4001, 10)


def history(train_loss, grad_norm=None, steps=STEPS) -> pd.DataFrame:
    quiet = np.exp(-steps / 1000)
    columns = {"train_loss": train_loss, "grad_norm": quiet if grad_norm is None else grad_norm}
    rest = {"test_loss": 1.0, "train_accuracy": 1.0, "test_accuracy": np.linspace(0, 1, len(steps))}
    return pd.DataFrame({"step": steps, **columns, **rest})


def falling(steps=STEPS) -> np.ndarray:
    """A loss that falls by a factor of a million, ever more slowly."""
    return 5 * 10 ** (-6 * (1 - np.exp(-steps / 800)))


def with_spike(signal: np.ndarray, at: int, factor: float, steps=STEPS, decay: float = 20.0) -> np.ndarray:
    """The signal, at step `at` suddenly that much higher, and back again over some tens of steps."""
    late = steps >= at
    return signal * np.where(late, 1 + (factor - 1) * np.exp(-np.maximum(steps - at, 0) / decay), 1)


# Planted


@pytest.mark.parametrize("factor", [5, 50, 1e6])
@pytest.mark.parametrize("at", [500, 1500, 3500])
def test_a_planted_spike_is_found_where_it_is(at, factor):
    (found,) = spikes(history(with_spike(falling(), at, factor)))
    assert (found.first, found.peak) == (at, at)
    assert at <= found.last <= at + 20 * math.log(factor)
    assert list(found.signals) == ["train_loss"]
    # The loss has fallen on before it is back, so the lowest value before is what the spike stands above: one
    # evaluation earlier.
    assert found.height == pytest.approx(
        factor * falling(np.array([at]))[0] / falling(np.array([at - 10]))[0]
    )


def test_several_spikes_are_found_in_order():
    signal = falling()
    for at in (800, 1600, 2400, 3200):
        signal = with_spike(signal, at, 20)
    assert [spike.peak for spike in spikes(history(signal))] == [800, 1600, 2400, 3200]


def test_a_spike_in_both_signals_is_one():
    (found,) = spikes(history(with_spike(falling(), 2000, 10), with_spike(np.exp(-STEPS / 1000), 1990, 100)))
    assert (found.first, found.peak) == (1990, 1990)
    assert set(found.signals) == {"train_loss", "grad_norm"}
    assert found.signals["grad_norm"] > found.signals["train_loss"] > 9
    assert found.height == found.signals["grad_norm"]


def test_a_spike_of_the_gradient_alone_counts():
    (found,) = spikes(history(falling(), with_spike(np.exp(-STEPS / 1000), 1200, 30)))
    assert (list(found.signals), found.peak) == (["grad_norm"], 1200)


def test_a_planted_spike_is_found_in_noise():
    noise = np.exp(np.random.default_rng(0).normal(0, 0.1, len(STEPS)))
    (found,) = spikes(history(with_spike(falling() * noise, 2000, 100)))
    assert found.peak == 2000


def test_accuracies_are_those_on_either_side():
    planted = history(with_spike(falling(), 2000, 20))
    planted.loc[planted["step"].between(2000, 2010), "test_accuracy"] = 0.1
    planted.loc[planted["step"] == 2000, "train_accuracy"] = 0.3
    (found,) = spikes(planted)
    accuracy = planted.set_index("step")["test_accuracy"]
    assert (found.test_accuracy.before, found.test_accuracy.after) == (
        accuracy[1990],
        accuracy[found.last + 10],
    )
    assert (found.lowest_test_accuracy, found.lowest_train_accuracy) == (0.1, 0.3)


def test_what_changed_between_the_snapshots_around_it():
    keys = np.array([[1, 0, 1], [1, 0, 1], [0, 1, 1]], dtype=bool)
    data = xr.Dataset(
        {
            "key_frequencies.consensus": (("step", "freq"), keys),
            "sum_of_squares": (("step", "parameter"), [[1.0], [2.0], [5.0]]),
        },
        coords={"step": [1000, 1990, 3000], "freq": [4, 5, 6], "parameter": ["total"]},
    )
    planted = history(with_spike(falling(), 2000, 20))
    (found,) = spikes(planted, data)
    assert found.snapshots == (1990, 3000)
    assert (found.squares.before, found.squares.after) == (2.0, 5.0)
    assert (found.gained, found.lost) == ([5], [4])
    (found,) = spikes(planted, data.isel(step=[0, 1]))
    assert (found.snapshots, found.squares, found.gained) == (None, None, None)
    (found,) = spikes(planted, data.drop_vars(["key_frequencies.consensus", "freq"]))
    assert (found.squares.after, found.gained) == (5.0, None)


# What is no spike


NO_SPIKES = {
    "a fall": falling(),
    "a cliff": np.where(STEPS < 2000, 1.0, 1e-6),
    "a rise": 1 / falling(),
    "a step up and no return": np.where(STEPS < 2000, 1e-6, 1.0),
    "a hump as long as all before": np.exp(5 * np.exp(-(((STEPS - 400) / 200) ** 2))),
    "a plateau": np.ones(len(STEPS)),
    "a small bump": with_spike(falling(), 2000, 2.5),
    "a spike at the last evaluation": np.where(STEPS == 4000, 1.0, 1e-3),
    "zeros": np.zeros(len(STEPS)),
    "nothing": np.full(len(STEPS), np.nan),
}


@pytest.mark.parametrize("signal", NO_SPIKES.values(), ids=NO_SPIKES)
def test_what_is_no_spike(signal):
    assert spikes(history(signal, signal)) == []


@pytest.mark.parametrize("deviation", [0.01, 0.1, 0.5, 1.0])
def test_noise_is_no_spike(deviation):
    for seed in range(10):
        noise = np.exp(np.random.default_rng(seed).normal(0, deviation, (2, len(STEPS))))
        assert spikes(history(falling() * noise[0], noise[1])) == []


def test_an_empty_and_a_single_evaluation_have_none():
    planted = history(with_spike(falling(), 2000, 20))
    assert spikes(planted.head(0)) == spikes(planted.head(1)) == []


def test_zeros_and_gaps_do_not_hide_a_spike():
    planted = history(with_spike(falling(), 2000, 20))
    planted.loc[planted["step"] == 1000, "train_loss"] = math.nan
    planted.loc[planted["step"] > 3900, "train_loss"] = 0.0
    assert [spike.peak for spike in spikes(planted)] == [2000]


# Real trainings


def by_hand(values: pd.Series, peak: int, within: int) -> float:
    """By what factor a value stands above the lowest of those up to `within` steps before, and of those
    after."""
    return values[peak] / max(values.loc[peak - within : peak].min(), values.loc[peak : peak + within].min())


KICKED_AT = 220


@pytest.fixture(scope="session")
def kicked(tmp_path_factory) -> gi.Run:
    """A training that is thrown off once and learns it all again.

    After one step the columns of the unembedding change places, so that every answer is wrong: the leap is
    made, and not left to rounding.
    """
    config = tiny(
        **{
            "training.steps": 400,
            "training.fraction": 0.5,
            "training.lr": 1e-2,
            "training.optimizer": "adam",
        },
        **{"training.weight_decay": 0.0, "snapshots.every": 100, **STABLE},
    )
    update = Trainer._update

    def kicking(self: Trainer) -> None:
        update(self)
        if self.step == KICKED_AT:
            with torch.no_grad():
                self.weights["unembed.W_U"].copy_(self.weights["unembed.W_U"].roll(1, 1))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "_update", kicking)
        return gi.train(config, tmp_path_factory.mktemp("kicked") / "run", progress=False)


@pytest.mark.trains
def test_a_leap_of_a_real_training_is_found_where_it_was_made(kicked):
    data = gi.replay(kicked, ["sum_of_squares", "key_frequencies.consensus"], progress=False)
    (spike,) = spikes(kicked.history, data)
    assert (spike.first, spike.peak) == (KICKED_AT, KICKED_AT)
    losses, squares = (
        kicked.history.set_index("step")["train_loss"],
        data["sum_of_squares"].sel(parameter="total"),
    )
    assert 100 < spike.signals["train_loss"] == pytest.approx(by_hand(losses, KICKED_AT, 300))
    assert spike.snapshots == (200, 300)
    assert (spike.squares.before, spike.squares.after) == (squares.sel(step=200), squares.sel(step=300))
    (told,) = json.loads(json.dumps([spike.to_dict()], allow_nan=False))
    assert told["first"] == KICKED_AT


@pytest.mark.trains
def test_grokking_is_no_spike(quick_run):
    assert spikes(quick_run.history) == []


def test_the_run_that_ships_has_no_spikes():
    run = gi.load_run(ROOT / "checkpoints" / "modular_addition_113")
    assert len(run.history) == 1201
    assert spikes(run.history) == []


# Slingshots: by the definition of the loss above ten times its running median, and training accuracy that
# falls


def with_dips(signal: np.ndarray, *at: int, steps=STEPS) -> pd.DataFrame:
    """A history whose training accuracy is lower at some steps."""
    found = history(signal, steps=steps)
    found.loc[found["step"].isin(at), "train_accuracy"] = 0.9
    return found


def by_the_definition(found: pd.DataFrame) -> list[int]:
    """Every single step that qualifies, written out: several for one stretch."""
    steps = []
    for i in range(1, len(found)):
        before = found["train_loss"].iloc[max(0, i - 50) : i].median()
        falls = found["train_accuracy"].iloc[i] < found["train_accuracy"].iloc[i - 1]
        if found["train_loss"].iloc[i] > 10 * before and falls:
            steps.append(int(found["step"].iloc[i]))
    return steps


def test_a_planted_slingshot_is_counted_once_at_its_step():
    planted = with_dips(with_spike(falling(), 2000, 1000), 2000, 2010)
    assert slingshots(planted) == by_the_definition(planted) == [2000]
    assert slingshots_in_words([2000], "cross_entropy in float32").startswith(
        "One slingshot at step 2,000 (loss above 10 times"
    )


def test_one_stretch_is_one_slingshot_however_often_accuracy_falls_in_it():
    planted = with_dips(with_spike(falling(), 2000, 1e6), 2000, 2020, 2040)
    assert by_the_definition(planted) == [2000, 2020, 2040]
    assert slingshots(planted) == [2000]
    two = with_dips(with_spike(with_spike(falling(), 2000, 1e4), 3000, 1e4), 2000, 3000)
    assert slingshots(two) == by_the_definition(two) == [2000, 3000]


def test_without_harm_or_without_height_there_is_none():
    assert slingshots(with_dips(with_spike(falling(), 2000, 1000))) == []
    assert slingshots(with_dips(with_spike(falling(), 2000, 5), 2000)) == []
    assert len(spikes(with_dips(with_spike(falling(), 2000, 1000)))) == 1  # which asks for no harm
    assert slingshots_in_words([], "mse in float32").startswith("No slingshot (")


def test_a_leap_that_does_not_come_down_is_a_slingshot_and_no_spike():
    cliff = with_dips(np.where(STEPS < 2000, 1e-6, 1.0), *range(2000, 4001))
    assert (slingshots(cliff), spikes(cliff)) == ([2000], [])


def test_a_loss_that_rounds_to_nothing_hides_no_slingshot():
    planted = with_dips(np.where(STEPS == 2000, 0.5, 0.0), 2000)
    assert slingshots(planted) == [2000]


def test_a_leap_is_ten_times_the_median_of_the_fifty_before_and_one_stretch_is_one_leap():
    loss = pd.Series(with_spike(with_spike(falling(), 2000, 1e4), 3000, 1e4), index=STEPS)
    high = [i for i in range(1, len(loss)) if loss.iloc[i] > 10 * loss.iloc[max(0, i - 50) : i].median()]
    assert leaps(loss) == [int(STEPS[i]) for i in high if i - 1 not in high] == [2000, 3000]
    assert leaps(pd.Series(falling(), index=STEPS)) == leaps(loss.head(0)) == []
    assert leaps(pd.Series(with_spike(falling(), 2000, 5), index=STEPS)) == []
    rule = "above 10 times the running median: "
    assert leaps_in_words({"a": [2000], "b": [], "c": [5, 9]}) == (
        f"{rule}a once (step 2,000); c 2 times (steps 5, 9); never: b"
    )
    assert leaps_in_words({"a": [], "b": []}) == f"never {rule}a, b"


def test_an_empty_history_and_gaps_have_no_slingshots():
    planted = with_dips(with_spike(falling(), 2000, 1000), 2000)
    assert slingshots(planted.head(0)) == slingshots(planted.head(1)) == []
    planted.loc[planted["step"] == 1500, "train_loss"] = math.nan
    assert slingshots(planted) == [2000]


@pytest.mark.trains
def test_slingshots_of_real_trainings_are_steps_of_the_definition(kicked, quick_run):
    assert slingshots(kicked.history) == by_the_definition(kicked.history)[:1] == [KICKED_AT]
    assert slingshots(quick_run.history) == by_the_definition(quick_run.history) == []


@pytest.mark.trains
def test_the_report_counts_slingshots_and_names_the_loss(kicked):
    told = gi.analyze(kicked, measures=["loss"], with_replay=False)
    assert told.to_dict()["training"]["slingshots"] == {
        "steps": [KICKED_AT],
        "loss": "cross_entropy in float64",
    }
    shown = re.sub(r"<[^>]*>", "", told.to_html().partition("<dl>")[2])
    assert slingshots_in_words([KICKED_AT], "cross entropy in float64") in shown


@pytest.mark.slow
def test_rounding_of_the_loss_makes_slingshots(tmp_path):
    """One recipe (Adam at lr 5e-3, no weight decay), two ways to compute the loss in float32.

    At which step, and with which seed, is a matter of rounding; so one of a few seeds must show it.
    """
    seen = {}
    for seed in range(5):
        for loss in ("log_softmax", "cross_entropy"):
            recipe = {
                "training.loss": loss,
                "training.optimizer": "adam",
                "training.weight_decay": 0.0,
                "training.steps": 1500,
            }
            rest = {
                "training.evaluate_every": 1,
                "training.stop_when": None,
                "snapshots.log": None,
                "snapshots.every": 1500,
            }
            config = gi.TrainConfig.preset("quick", seed=seed, **recipe, **rest)
            seen[loss, seed] = len(
                slingshots(gi.train(config, tmp_path / f"{loss}{seed}", progress=False).history)
            )
        if seen["log_softmax", seed] > seen["cross_entropy", seed] == 0:
            return
    pytest.fail(f"no seed of five leaps with log_softmax alone: {seen}")


def test_the_sentence_names_what_was_recorded():
    losses = pd.DataFrame({"step": range(20), "train_loss": [1.0] * 20})
    assert spikes_in_words([], losses) == "No spike of the training loss was found."
    both = losses.assign(grad_norm=1.0)
    assert spikes_in_words([], both) == "No spike of the training loss or of the gradient was found."
    assert spikes_in_words([], losses[["step"]]).startswith("No training loss or gradient was recorded")
