"""Who decides the key frequencies: circuits made by hand of which it is known, and numbers by second
routes."""

from __future__ import annotations

import itertools
import json
import random
import shutil

import pytest

import grokinterp as gi
from conftest import tiny
from grokinterp.errors import UsageError
from grokinterp.replay.circuits import Circuit, circuits, expected_jaccard

CROSSED = list(itertools.product(range(4), range(4)))
"""Splits and seeds."""


def some_keys(seed: int, size: int = 4, n: int = 26) -> tuple[int, ...]:
    """A random set of keys."""
    return tuple(sorted(random.Random(seed).sample(range(1, n + 1), size)))


def run(split: int, seed: int, keys: tuple[int, ...], **more) -> Circuit:
    """A run of a task of 26 frequencies."""
    return Circuit(f"{split}_{seed}", split, seed, keys, 26, **more)


def test_where_the_split_decides_it_is_told_and_the_seed_is_not_blamed():
    found = circuits([run(split, seed, some_keys(split)) for split, seed in CROSSED], deals=200)
    assert found.keys.mean["same split"] == found.recurs["same split"] == 1
    assert found.keys.p_split == found.p_random == 1 / 201
    assert found.keys.p_seed == 1  # every deal is as alike: the keys of a split are the same
    assert found.keys.pairs == {"same split": 24, "same seed": 24, "neither": 72}


def test_where_the_seed_decides_it_is_told():
    found = circuits([run(split, seed, some_keys(seed)) for split, seed in CROSSED], deals=200)
    assert found.keys.mean["same seed"] == 1
    assert (found.keys.p_seed, found.keys.p_split) == (1 / 201, 1)


def test_where_nothing_decides_p_is_spread_evenly_and_jaccard_is_that_of_chance():
    ps, means, chances = [], [], []
    for sweep in range(60):
        runs = [run(*at, some_keys(1000 * sweep + i)) for i, at in enumerate(CROSSED)]
        found = circuits(runs, deals=40)
        ps.append(found.keys.p_split)
        means.append(found.keys.mean["neither"])
        chances.append(found.chance)
    assert sum(p <= 0.1 for p in ps) / 60 <= 0.25
    assert 0.3 <= sum(ps) / 60 <= 0.7
    assert sum(means) / 60 == pytest.approx(sum(chances) / 60, abs=0.01)


@pytest.mark.parametrize(("a", "b", "n"), [(1, 1, 5), (2, 3, 6), (4, 4, 7), (5, 6, 6), (0, 2, 4)])
def test_chance_is_the_mean_over_all_sets(a, b, n):
    all_a, all_b = (list(itertools.combinations(range(n), size)) for size in (a, b))
    jaccard = [len({*x} & {*y}) / len({*x} | {*y}) for x in all_a for y in all_b]
    assert expected_jaccard(a, b, n) == pytest.approx(sum(jaccard) / len(jaccard))


def test_numbers_of_three_runs_are_those_written_out():
    runs = [
        run(0, 0, (1, 2, 3), algorithm="clock", neurons={1: 10, 2: 10}),
        run(0, 1, (2, 3, 4, 5), algorithm="clock", neurons={2: 30, 4: 10}),
        run(1, 0, (3, 9), algorithm="pizza"),
    ]
    found = circuits(runs, deals=10)
    assert found.keys.mean == pytest.approx({"same split": 2 / 5, "same seed": 1 / 4, "neither": 1 / 5})
    recurs = {
        "same split": (2 / 3 + 2 / 4) / 2,
        "same seed": (1 / 3 + 1 / 2) / 2,
        "neither": (1 / 4 + 1 / 2) / 2,
    }
    assert found.recurs == pytest.approx(recurs)
    assert found.algorithm.mean == {"same split": 1, "same seed": 0, "neither": 0}
    assert found.neurons.runs == 2
    assert found.neurons.mean == {"same split": 1 / 2, "same seed": None, "neither": None}
    assert found.neurons.p_split is None
    assert found.counts == {1: 1, 2: 2, 3: 3, 4: 1, 5: 1, 9: 1}


def test_what_has_no_keys_is_not_counted_and_of_nothing_nothing_is_said():
    assert circuits([run(0, 0, ()), run(0, 1, (1,)), run(0, 2, (1, 2))], deals=5).keys.runs == 2
    nothing = circuits([], deals=5)
    assert (nothing.keys.runs, nothing.chance, nothing.p_random, nothing.counts) == (0, None, None, {})
    assert nothing.to_dict()["keys"]["mean"] == dict.fromkeys(("same split", "same seed", "neither"))
    one_split = circuits([run(0, seed, some_keys(seed)) for seed in range(5)], deals=5)
    assert one_split.keys.p_split is None


def test_circuits_of_runs_are_those_that_they_have_learned(quick_run, tmp_path, grokinterp):
    path = tmp_path / "quick"
    shutil.copytree(quick_run.path, path, ignore=shutil.ignore_patterns("replay"))
    comparison = gi.compare(path)
    (learned,) = comparison.learned
    clusters = gi.measure("neuron.clusters", quick_run.view(-1))
    assert learned.frequencies == clusters.sizes["freq"] == quick_run.task.p // 2
    assert sum(learned.neurons.values()) == int(clusters.sum()) > 0
    assert comparison.circuits.counts == dict.fromkeys(learned.keys, 1)
    code, stdout, _ = grokinterp("compare", path, "--circuits")
    assert code == 0
    assert "key frequencies (Jaccard)" in stdout
    told = json.loads(grokinterp("compare", path, "--circuits", "--json")[1])
    assert told["circuits"] == comparison.circuits.to_dict()


def test_circuits_of_different_tasks_are_refused(tmp_path):
    for p in (5, 7):
        gi.train(tiny(**{"task.p": p}), tmp_path / str(p), progress=False)
    with pytest.raises(UsageError, match="have no keys in common: give runs of one task"):
        gi.compare(tmp_path).circuits  # noqa: B018
