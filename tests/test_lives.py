"""Lives of frequencies, flows of neurons, keys over time: where keys were born in a known order, and where
there are none."""

from __future__ import annotations

import functools
import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr

import grokinterp as gi
from grokinterp import controls
from grokinterp.errors import NotApplicable, UsageError
from grokinterp.models import ModelConfig
from grokinterp.replay import keys_over_time, lives, neuron_flows, where_keys_differ
from memorised import memoriser

PLACES = ["W_E", "neurons", "W_L", "logits"]
MEASURES = ["power.W_E", "power.neurons", "power.W_L", "power.logits", "variance.neurons", "variance.logits"]
MEASURES += [
    "neuron.frequency",
    "neuron.explained_variance",
    "key_frequencies.consensus",
    "restricted_loss.logit_dirs",
    "key_share.W_E",
]


class Built(gi.Run):
    """A run of networks in memory: what a replay asks of a run, without training or files of weights."""

    def __init__(self, path: Path, views: dict[int, gi.View]) -> None:
        self.path, self.views, self.steps = path, views, sorted(views)
        one = next(iter(views.values()))
        self.task, self.split, self.finished, self.diverged = one.task, one.split, None, None
        self.thinned = None

    def sha256(self, step: int) -> str:
        return f"{step}"

    def view(self, step: int) -> gi.View:
        return self.views[step]


def replayed(path: Path, *views: gi.View, first: int = 0) -> xr.Dataset:
    return gi.replay(Built(path, {first + 100 * i: view for i, view in enumerate(views)}), MEASURES)


def row(table, freq: int, place: str):
    return table[(table.freq == freq) & (table.place == place)].iloc[0]


def interval(table, freq: int, place: str) -> tuple[int, int, int | None, int | None, str]:
    found = row(table, freq, place)[["born_after", "born_by", "died_after", "died_by", "fate"]]
    return tuple(None if pd.isna(x) else x for x in found)


# Positive control: a random network into which a clock is built, key by key

P, STEPS = 23, [0, 100, 200, 300, 400, 500]
AMPLITUDES = {3: [0, 1, 1, 1, 1, 1], 10: [0, 0, 1, 0.6, 0.2, 0.2], 7: [0, 0, 0.5, 1, 1, 1]}
"""Of the embedding and of the unembedding of each key."""


@functools.cache
def built() -> tuple[gi.View, ...]:
    """The clock with these amplitudes and a thirtieth of a random network; at first the random network
    alone."""
    keys = tuple(AMPLITUDES)
    clock = controls.clock(P, keys)
    cfg, task = clock.model.cfg, clock.task
    config = ModelConfig(d_model=cfg.d_model, n_heads=cfg.n_heads, d_head=cfg.d_head, d_mlp=cfg.d_mlp)
    noise = {name: weight.double() for name, weight in config.initial_weights(task.reads, 0).items()}
    views = []
    for i in range(len(STEPS)):
        weights = {name: weight.detach().clone() for name, weight in clock.model.named_parameters()}
        for at, key in enumerate(keys):
            weights["embed.W_E"][:, 2 * at : 2 * at + 2] *= AMPLITUDES[key][i]
            weights["unembed.W_U"][2 * at : 2 * at + 2] *= AMPLITUDES[key][i]
        weights = {
            name: 0.03 * noise[name] + weight if i else noise[name] for name, weight in weights.items()
        }
        views.append(gi.view(config.hooked(task.reads, weights, torch.float64), task, STEPS[i], clock.split))
    return tuple(views)


@pytest.fixture(scope="module")
def construction(tmp_path_factory) -> xr.Dataset:
    return replayed(tmp_path_factory.mktemp("built"), *built())


def test_keys_are_born_and_die_when_they_are_built_in_and_taken_out(construction):
    found = lives(construction)
    table = found.table()
    for place in PLACES:
        assert interval(table, 3, place) == (0, 100, None, None, "committed")
        assert interval(table, 7, place) == (200, 300, None, None, "committed")
    # At step 300 it has 0.36 of the others' power, which keeps it alive; of the logits it has the square of
    # that.
    for place in ("W_E", "neurons", "W_L"):
        assert interval(table, 10, place) == (100, 200, 300, 400, "transient")
    assert interval(table, 10, "logits") == (100, 200, 200, 300, "transient")
    assert (found.ever, found.committed, found.transient) == ([3, 7, 10], [3, 7], [10])
    assert found.final_keys == [3, 7]
    assert table[table.final_key].freq.unique().tolist() == [3, 7]
    assert len(table) == 4 * (P // 2)
    assert found.sentence == (
        "Of 11 frequencies 3 stand out at some time in W_E, neurons, W_L and logits: k = 3 and 7 to the "
        "end, k = 10 for a while. The final keys show first: k = 3 in W_E, neurons, W_L and logits by step "
        "100; k = 7 in W_E, neurons, W_L and logits by step 300."
    )
    assert found.skipped == {}


@pytest.mark.parametrize(
    ("view", "harmonics", "doubles", "said"),
    [
        (
            controls.pizza(23, (3,), overtones=(2,)),
            {6: (3, 2)},
            {},
            " Of the final network: k = 6 is a harmonic of 3, twice that.",
        ),
        (
            controls.pizza(23, (3,), overtones=(3,)),
            {9: (3, 3)},
            {},
            " Of the final network: k = 9 is a harmonic of 3, three times that.",
        ),
        (
            controls.clock(17, (2,), idle=(4,)),
            {},
            {4: 2},
            " Of the final network: k = 4 is twice key 2, at the end embedded alone.",
        ),
        (controls.pizza(23, (3, 6)), {}, {}, ""),
        (controls.clock(17, (2, 5)), {}, {}, ""),
    ],
)
def test_a_frequency_that_is_no_key_of_its_own_is_called_that(tmp_path, view, harmonics, doubles, said):
    data = replayed(tmp_path, view, view)
    found = lives(data)
    assert (found.harmonics, found.doubles) == (harmonics, doubles)
    assert ("Of the final network" in found.sentence) == bool(said)
    assert said in found.sentence
    assert found.to_dict()["harmonics"] == {str(k): list(of) for k, of in harmonics.items()}
    assert replayed(tmp_path, view, view).attrs == data.attrs  # as it was kept


def test_shares_are_those_of_the_amplitudes_that_were_built_in(construction):
    """A power is the square of an amplitude; a logit has the amplitudes of the embedding and of the
    unembedding."""
    share = lives(construction).share
    assert share.dims == ("place", "step", "freq")
    squares = {key: np.square(values)[1:] for key, values in AMPLITUDES.items()}
    for place, power in (("W_E", 1), ("neurons", 1), ("W_L", 1), ("logits", 2)):
        for key, square in squares.items():
            expected = square**power / sum(each**power for each in squares.values())
            np.testing.assert_allclose(share.sel(place=place, freq=key)[1:], expected, atol=0.05)


def test_shares_are_the_powers_of_ffts_over_all_that_varies(construction):
    """In plain numpy, from the weights and from activations as TransformerLens's cache holds them."""
    share = lives(construction).share
    frequencies = np.arange(1, P // 2 + 1)
    for i, view in enumerate(built()):
        w_l = (view.weights["blocks.0.mlp.W_out"] @ view.weights["unembed.W_U"]).numpy()
        for place, matrix in (("W_E", view.weights["embed.W_E"].numpy()[:P]), ("W_L", w_l.T)):
            spectrum = (np.abs(np.fft.fft(matrix, axis=0)) ** 2).sum(1)
            np.testing.assert_allclose(
                share.sel(place=place)[i], 2 * spectrum[frequencies] / spectrum[1:].sum(), rtol=1e-9
            )
        grid = view.cache["blocks.0.mlp.hook_post"][:, -1].numpy().reshape(P, P, -1)
        spectrum = (np.abs(np.fft.fft2(grid, axes=(0, 1))) ** 2).sum(2)
        spectrum[0, 0] = 0
        blocks = [sum(spectrum[i, j] for i in (0, k, -k) for j in (0, k, -k)) for k in frequencies]
        np.testing.assert_allclose(share.sel(place="neurons")[i], blocks / spectrum.sum(), rtol=1e-9)
        a, b, c = np.indices((P, P, P))
        logits = view.logits.numpy().reshape(P, P, P)
        logits = logits - logits.mean(2, keepdims=True)
        waves = [np.abs((logits * np.exp(2j * np.pi * k * (a + b - c) / P)).mean()) ** 2 for k in frequencies]
        np.testing.assert_allclose(
            share.sel(place="logits")[i], 2 * np.array(waves) / (logits**2).mean(), rtol=1e-6, atol=1e-12
        )


def test_neurons_flow_to_the_keys_that_are_built_in(construction):
    flows = neuron_flows(construction)
    d_mlp = len(AMPLITUDES) * P * P
    assert (flows.counts.sum("cluster") == d_mlp).all()
    assert (flows.flows.groupby("step_from").neurons.sum() == d_mlp).all()
    assert int(flows.counts.sel(step=0, cluster=0)) == d_mlp
    assert int(flows.counts.sel(step=500, cluster=7)) == int(flows.counts.sel(step=500, cluster=3)) == P * P
    assert set(flows.settled.freq.values.tolist()) >= {3, 7}
    assert (flows.settled[-1] == 1).all()


# Negative controls


def networks(name: str) -> list[gi.View]:
    return {
        "random": lambda: [controls.random_network(53, seed=seed) for seed in range(6)],
        "random, even p": lambda: [controls.random_network(26, seed=seed) for seed in range(6)],
        "random, two layers": lambda: [
            controls.random_network(29, seed=seed, n_layers=2) for seed in range(6)
        ],
        "memoriser": lambda: [controls.memoriser(17), controls.memoriser(17, seed=1)],
        "trained memoriser": lambda: [memoriser()],
        "look-up table": lambda: [controls.lookup(16)],
    }[name]()


@pytest.mark.parametrize(
    "name",
    ["random", "random, even p", "random, two layers", "memoriser", "trained memoriser", "look-up table"],
)
def test_nothing_is_ever_born_where_there_is_no_circuit(tmp_path, name):
    found = lives(replayed(tmp_path, *networks(name)))
    assert list(found.share.place.values) == PLACES
    assert found.ever == []
    assert (
        found.sentence
        == f"Of {found.share.sizes['freq']} frequencies none ever stands out in W_E, neurons, W_L and logits."
    )
    assert max(found.loudest_at_first.values()) < 3
    assert set(found.table().fate) == {"never"}


def test_neurons_of_a_look_up_table_have_no_frequency(tmp_path):
    flows = neuron_flows(replayed(tmp_path, controls.lookup(11), controls.lookup(11)))
    assert flows.counts.values.tolist() == [[121], [121]]
    assert (flows.joined, flows.changed, flows.left) == (0, 0, 0)
    assert flows.settled.shape == (2, 0)
    assert flows.to_dict()["moves"] == []
    assert flows.sentence.endswith("at the end: none.")


# The rule, on shares that are written down


def of_shares(rows, steps=None, **more) -> xr.Dataset:
    """A replay of W_E alone with these shares for frequency 1; nine others have the rest alike. None stands
    for a step without a value."""
    rows = [[np.nan] * 10 if share is None else [share, *[(1 - share) / 9] * 9] for share in rows]
    power = xr.DataArray(
        rows,
        dims=["step", "freq"],
        coords={"step": steps or [10 * i for i in range(len(rows))], "freq": range(1, 11)},
    )
    return xr.Dataset({"power.W_E": power}, attrs={"final_keys": "[1]", "skipped": "{}", **more})


BORN, DIES = 3 / 12, 1.5 / 10.5
MIDDLE = (BORN + DIES) / 2


@pytest.mark.parametrize(
    ("shares", "life"),
    [
        ([0.1, 0.1, 0.3, 0.4], (10, 20, None, None, "committed")),
        ([0.1, 0.3, 0.1, 0.1], (0, 10, 10, 20, "transient")),
        ([0.1, MIDDLE, MIDDLE, MIDDLE], (None, None, None, None, "never")),  # not loud enough to be born
        ([0.1, 0.3, MIDDLE, MIDDLE], (0, 10, None, None, "committed")),  # and loud enough to stay
        ([0.3, 0.3, 0.3, 0.3], (None, 0, None, None, "committed")),
        ([0.3, 0.1, 0.1, 0.1], (None, 0, 0, 10, "transient")),
        ([0.1, 0.3, 0.1, 0.3], (20, 30, None, None, "committed")),  # the last of two lives
        (
            [0.1, None, None, 0.3],
            (0, 30, None, None, "committed"),
        ),  # steps at which nothing is known widen the interval
        ([None, 0.3, None, 0.1], (None, 10, 10, 30, "transient")),
        ([0.3], (None, 0, None, None, "committed")),
        ([0.1], (None, None, None, None, "never")),
    ],
)
def test_a_life_is_the_interval_between_snapshots(shares, life):
    found = lives(of_shares(shares))
    assert (found.born, found.dies) == (pytest.approx(BORN), pytest.approx(DIES))
    assert interval(found.table(), 1, "W_E") == life
    assert list(found.skipped) == ["neurons", "W_L", "logits"]
    json.dumps(found.to_dict(), allow_nan=False)


def test_a_frequency_that_trembles_about_a_threshold_lives_once():
    trembling = [0.1, *[BORN + 0.01, BORN - 0.01] * 10]
    assert row(lives(of_shares(trembling)).table(), 1, "W_E").lives == 1
    assert row(lives(of_shares([0.1, *[BORN + 0.01, DIES - 0.01] * 10])).table(), 1, "W_E").lives == 10


def test_lives_are_those_of_the_definition_without_a_state():
    """Alive is a frequency that was loud enough at some snapshot and at none since then too quiet."""
    generator = np.random.default_rng(0)
    for _ in range(200):
        shares = generator.choice([DIES - 0.01, MIDDLE, BORN + 0.01], size=12)
        alive = [
            any(shares[j] >= BORN and (shares[j : i + 1] >= DIES).all() for j in range(i + 1))
            for i in range(12)
        ]
        found = row(lives(of_shares(shares)).table(), 1, "W_E")
        assert found.lives == sum(
            now and not before for before, now in zip([False, *alive], alive, strict=False)
        )
        assert found.fate == ("committed" if alive[-1] else "transient" if any(alive) else "never")
        if any(alive):
            last = max(i for i in range(12) if alive[i] and not (i and alive[i - 1]))
            assert found.born_by == 10 * last


def test_lives_know_no_unit():
    data = of_shares([0.1, 0.3, 0.1])
    small = (data * 1e-9).assign_attrs(data.attrs)
    columns = [name for name in lives(data).table().columns if name != "peak_share"]
    assert lives(data).table()[columns].equals(lives(small).table()[columns])


def test_the_table_says_how_far_the_thresholds_decide():
    lower, higher = 2 / 11, 4.5 / 13.5
    found = lives(of_shares([0.1, lower + 0.01, BORN + 0.01, higher + 0.01]))
    life = row(found.table(), 1, "W_E")
    assert (life.born_by_lower, life.born_by, life.born_by_higher, life.same_fate) == (10, 20, 30, True)
    assert (life.peak_step, life.final_key) == (30, True)
    assert life.peak_share == pytest.approx(higher + 0.01)
    assert found.sensitivity == (
        "With both thresholds divided or multiplied by 1.5, 0 of 1 fates are others; the births of the rest "
        "lie at most 20 steps apart (1 in W_E)."
    )
    found = lives(of_shares([0.1, BORN + 0.01]))
    assert not row(found.table(), 1, "W_E").same_fate
    assert found.sensitivity == "With both thresholds divided or multiplied by 1.5, 1 of 1 fates are others."


def test_weights_of_zero_have_no_life():
    found = lives(of_shares([0.1, 0.3]) * 0)
    assert (found.share == 0).all()
    assert found.ever == []


# Where there is nothing to say


def test_a_clock_with_the_nyquist_frequency_keeps_it(tmp_path):
    found = lives(
        replayed(tmp_path, controls.random_network(22, seed=1), controls.clock(22, (4, 11)), first=100)
    )
    assert found.committed == [4, 11]
    for place in ("W_E", "neurons", "logits"):
        assert interval(found.table(), 11, place) == (100, 200, None, None, "committed")
    # Its neurons are louder than those of 4, so its readout is the quieter of the two.
    assert (
        float(found.share.sel(place="W_L", freq=11)[-1])
        < found.born
        < float(found.share.sel(place="W_L", freq=4)[-1])
    )


def test_a_network_that_starts_as_a_clock_has_no_birth_but_is_alive(tmp_path):
    found = lives(replayed(tmp_path, controls.clock(17, (2, 5, 8)), first=700))
    assert found.committed == [2, 5, 8]
    assert interval(found.table(), 5, "logits") == (None, 700, None, None, "committed")


def test_a_network_without_neurons_lives_in_the_embedding_and_the_logits(tmp_path):
    data = replayed(tmp_path, controls.random_network(29, d_mlp=0))
    found = lives(data)
    assert list(found.share.place.values) == ["W_E", "logits"]
    assert found.skipped == {"neurons": "the network has no MLP", "W_L": "the network has no MLP"}
    with pytest.raises(NotApplicable, match="the network has no MLP"):
        neuron_flows(data)


def test_tasks_without_a_circle_have_no_lives_and_say_why(tmp_path):
    data = replayed(tmp_path, controls.random_network(3, name="group_composition"))
    for function in (lives, neuron_flows, keys_over_time):
        with pytest.raises(NotApplicable, match="stand on no cyclic group"):
            function(data)


def test_one_frequency_alone_stands_out_from_nothing(tmp_path):
    with pytest.raises(NotApplicable, match="one frequency alone"):
        lives(replayed(tmp_path, controls.random_network(3)))


def test_what_was_not_replayed_is_named():
    empty = xr.Dataset({"loss": ("step", [1.0])}, coords={"step": [0]})
    with pytest.raises(UsageError, match=r"power\.W_E was not replayed"):
        lives(empty)
    with pytest.raises(UsageError, match=r"neuron\.frequency was not replayed"):
        neuron_flows(empty)
    with pytest.raises(UsageError, match=r"key_frequencies\.consensus was not replayed"):
        keys_over_time(empty)
    with pytest.raises(UsageError, match="no measure was replayed with them"):
        where_keys_differ(empty)
    with pytest.raises(NotApplicable, match="no value at any of the steps"):
        lives(of_shares([None, None]))
    with pytest.raises(UsageError, match="needs 0 < dies <= born"):
        lives(of_shares([0.1]), born=1.0, dies=2.0)


# Flows, on clusters that are written down


def of_clusters(rows) -> xr.Dataset:
    """Neurons of these frequencies; 0 is one that its frequency, 9, does not explain."""
    frequency = np.asarray(rows, dtype=float)
    explained = np.where(frequency == 0, 0.5, np.where(np.isnan(frequency), np.nan, 0.9))
    coords = {"step": [10 * i for i in range(len(rows))], "neuron": range(frequency.shape[1])}
    arrays = {
        "neuron.frequency": np.where(frequency == 0, 9, frequency),
        "neuron.explained_variance": explained,
    }
    return xr.Dataset({name: (("step", "neuron"), values) for name, values in arrays.items()}, coords=coords)


def test_neurons_are_followed_one_by_one():
    flows = neuron_flows(of_clusters([[0, 0, 0, 2, 2], [1, 0, 2, 2, 2], [1, 1, 1, 0, 2]]))
    assert flows.counts.cluster.values.tolist() == [0, 1, 2]
    assert flows.counts.values.tolist() == [[3, 0, 2], [1, 1, 3], [1, 3, 1]]
    assert flows.flows.values.tolist() == [
        [0, 10, 0, 0, 1],
        [0, 10, 0, 1, 1],
        [0, 10, 0, 2, 1],
        [0, 10, 2, 2, 2],
        [10, 20, 0, 1, 1],
        [10, 20, 1, 1, 1],
        [10, 20, 2, 0, 1],
        [10, 20, 2, 1, 1],
        [10, 20, 2, 2, 1],
    ]
    assert (flows.joined, flows.changed, flows.left) == (5, 1, 1)
    # Of the three final members of 1 none was there at first and one from step 10 on.
    assert flows.settled.sel(freq=1).values.tolist() == [0, pytest.approx(1 / 3), 1]
    assert flows.settled.sel(freq=2).values.tolist() == [1, 1, 1]
    assert flows.sentence == (
        "Of 5 neurons 5 had a frequency at some time; 1 of them went on to another and 1 have none at the "
        "end. Neurons of each frequency at the end: 1: 3, 2: 1."
    )
    assert sum(move["neurons"] for move in flows.to_dict()["moves"]) == 5
    json.dumps(flows.to_dict(), allow_nan=False)


def test_a_neuron_that_came_back_is_settled_from_its_return_on():
    flows = neuron_flows(of_clusters([[1], [2], [1], [1]]))
    assert flows.settled.sel(freq=1).values.tolist() == [0, 0, 1, 1]
    assert (flows.changed, flows.left) == (1, 0)
    assert neuron_flows(of_clusters([[1], [0], [1]])).changed == 0


def test_snapshots_without_neurons_are_left_out_of_the_flows():
    flows = neuron_flows(of_clusters([[0, 0], [np.nan, np.nan], [1, 0]]))
    assert flows.flows[["step_from", "step_to"]].drop_duplicates().values.tolist() == [[0, 20]]


def test_counts_and_flows_are_those_of_a_head_count():
    rows = np.random.default_rng(1).integers(0, 4, size=(6, 40))
    flows = neuron_flows(of_clusters(rows))
    assert (flows.counts.sum("cluster") == 40).all()
    for i in range(5):
        expected = Counter(zip(rows[i].tolist(), rows[i + 1].tolist(), strict=True))
        found = flows.flows[flows.flows.step_from == 10 * i]
        assert {(r.from_freq, r.to_freq): r.neurons for r in found.itertuples()} == expected
        left_for = found.groupby("from_freq").neurons.sum()
        assert left_for.to_dict() == Counter(rows[i].tolist())


# Keys


def test_keys_are_gained_and_lost():
    marks = np.array([[0, 0, 0], [1, 0, 1], [np.nan] * 3, [1, 1, 0]])
    data = xr.Dataset(
        {"key_frequencies.consensus": (("step", "freq"), marks)},
        coords={"step": [0, 10, 20, 30], "freq": [1, 2, 3]},
        attrs={"final_keys": "[1, 2]"},
    )
    assert keys_over_time(data).values.tolist() == [
        [0, [], [], [], 0],
        [10, [1, 3], [1, 3], [], 1 / 3],
        [30, [1, 2], [2], [3], 1],
    ]


def test_where_the_keys_of_a_snapshot_and_the_final_ones_differ():
    own = [[np.nan, np.nan], [1.0, 2.0], [1.0, 0.0], [3.0, 5.0]]
    final = [[1.0, 1.0], [4.0, 1.0], [1.0, 1.0], [3.0, 5.0 + 1e-8]]
    names = {
        "loss.of": own,
        "loss.of@final_keys": final,
        "same": final,
        "same@final_keys": final,
        "alone": final,
    }
    data = xr.Dataset(
        {name: (("step", "part"), values) for name, values in names.items()}, coords={"step": [0, 10, 20, 30]}
    )
    table = where_keys_differ(data)
    assert table.measure.tolist() == ["loss.of", "same"]
    assert table.iloc[0].tolist() == ["loss.of", 3, [10, 20], [0], 4.0, 10]
    assert table.iloc[1][:5].tolist() == ["same", 4, [], [], 1.0]
    assert table.ratio_step.isna().tolist() == [False, True]


def test_keys_of_the_construction_change_the_loss_that_they_leave(construction):
    table = keys_over_time(construction)
    assert table["keys"].tolist()[0] == []
    assert table["keys"].tolist()[1] == [3]
    assert table["keys"].tolist()[-1] == [3, 7]
    assert table.jaccard.tolist()[-1] == 1
    differing = where_keys_differ(construction).set_index("measure")
    assert set(differing.index) == {"restricted_loss.logit_dirs", "key_share.W_E"}
    assert 0 in differing.loc["restricted_loss.logit_dirs", "only_final"]
    assert 500 not in differing.loc["restricted_loss.logit_dirs", "steps"]
    assert differing.loc["key_share.W_E", "steps"][0] == 0


# A network that grokked


@pytest.fixture(scope="module")
def grokking(quick_run) -> xr.Dataset:
    return gi.replay(quick_run, MEASURES)


@pytest.mark.trains
def test_the_keys_of_a_network_that_grokked_are_born_in_training_and_stay(grokking):
    found = lives(grokking)
    assert set(found.final_keys) <= set(found.committed)
    assert max(found.loudest_at_first.values()) < 3
    of_keys = found.table().query("final_key")
    assert (
        of_keys.born_after < of_keys.born_by
    ).all()  # all of them were born, and none before the first step
    assert (of_keys[of_keys.place.isin(["W_E", "W_L"])].fate == "committed").all()
    assert len(found.ever) < 13  # of 26
    assert float(found.share.sel(place=["W_E", "W_L"]).sum("freq").min()) == pytest.approx(1)
    assert float(found.share.sum("freq").max()) <= 1 + 1e-9


@pytest.mark.trains
def test_the_neurons_of_a_network_that_grokked_are_all_counted(grokking):
    flows = neuron_flows(grokking)
    assert (flows.counts.sum("cluster") == grokking.sizes["neuron"]).all()
    assert (flows.flows.groupby("step_from").neurons.sum() == grokking.sizes["neuron"]).all()
    assert int(flows.counts[0].sel(cluster=0)) == grokking.sizes["neuron"]
    last = flows.counts[-1]
    assert set(last.cluster.values[last > 0.01 * grokking.sizes["neuron"]].tolist()) - {0} <= set(
        lives(grokking).ever
    )
    final = keys_over_time(grokking).iloc[-1]
    assert final["keys"] == lives(grokking).final_keys
    assert final.jaccard == 1


@pytest.mark.slow
def test_the_shipped_run_had_a_fifth_frequency_for_a_while(tmp_path):
    shipped = Path(__file__).parents[1] / "checkpoints" / "modular_addition_113"
    shutil.copytree(shipped, tmp_path / "run", ignore=shutil.ignore_patterns("replay"))
    data = gi.replay(gi.load_run(tmp_path / "run"), [*MEASURES[:8], "key_frequencies.consensus"])
    found = lives(data)
    assert found.final_keys == [7, 37, 42, 52]
    assert (found.committed, found.transient) == ([7, 29, 37, 42, 52], [9])
    assert interval(found.table(), 37, "W_L") == (400, 700, None, None, "committed")
    assert interval(found.table(), 52, "logits") == (4750, 4860, None, None, "committed")
    assert interval(found.table(), 9, "W_E") == (4030, 4250, 10000, 11000, "transient")
    assert row(found.table(), 9, "logits").fate == row(found.table(), 9, "neurons").fate == "never"
    assert neuron_flows(data).counts.sel(cluster=9).max() == 55
    assert neuron_flows(data).counts[-1].values.tolist() == [109, 67, 0, 59, 97, 180]
    assert keys_over_time(data).query("step == 7000")["keys"].item() == [7, 9, 37, 42, 52]
