"""Replays: the numbers of `gi.measure` at every step, computed once, kept with the run, and none lost by a
kill."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
import xarray as xr

import grokinterp as gi
from conftest import tiny
from grokinterp.errors import DamagedFile, NoSuchSnapshot, UsageError
from grokinterp.replay import FINAL, PICTURES, PROGRESS
from grokinterp.replay.cache import Measured
from grokinterp.replay.frequencies.pictures import example_neurons
from grokinterp.runs.files import UNSEALED, sealed
from grokinterp.view import View
from test_runs import killed, metrics_of

SHIPPED = Path(__file__).parents[1] / "checkpoints" / "modular_addition_113"
EVERYTHING = [*PROGRESS, *PICTURES]


@pytest.fixture(scope="module")
def grokked(quick_run, tmp_path_factory) -> gi.Run:
    """A copy of the run that grokked, so that nothing is kept in the shared one."""
    path = tmp_path_factory.mktemp("grokked") / "quick"
    shutil.copytree(quick_run.path, path, ignore=shutil.ignore_patterns("replay", "lock"))
    return gi.load_run(path)


@pytest.fixture(scope="module")
def replayed(grokked) -> xr.Dataset:
    return gi.replay(grokked, EVERYTHING)


@contextmanager
def counted_passes() -> Iterator[list[int | None]]:
    """The steps of the views that run their network over the table, by either way."""
    counted: list[int | None] = []
    at_answer, activations = View.__dict__["_at_answer"].func, View.activations

    def count(function):
        return lambda self, *args, **kwargs: counted.append(self.step) or function(self, *args, **kwargs)

    shorter = cached_property(count(at_answer))
    shorter.__set_name__(View, "_at_answer")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(View, "_at_answer", shorter)
        patch.setattr(View, "activations", count(activations))
        yield counted


@pytest.fixture
def passes():
    with counted_passes() as counted:
        yield counted


def agree(dataset: xr.Dataset, run: gi.Run, steps: list[int]) -> int:
    """Compares every variable at these steps with the measure itself; how many numbers were compared."""
    keys = json.loads(dataset.attrs["final_keys"])
    neurons = example_neurons(run.view(-1), keys)
    compared = 0
    for step in steps:
        view = run.view(step)
        for name in map(str, dataset.data_vars):
            found = dataset[name].sel(step=step)
            known = PICTURES.get(name.removesuffix(FINAL)) or gi.MEASURES[name.removesuffix(FINAL)]
            fixed = {"keys": keys, "neurons": neurons} if name.endswith(FINAL) else {}
            try:
                value = known(view, **{option: fixed[option] for option in known.options if option in fixed})
            except gi.errors.NotApplicable:
                assert found.isnull().all(), (name, step)
                continue
            np.testing.assert_allclose(
                np.asarray(found, float),
                np.asarray(value, float),
                rtol=1e-6,
                atol=0,
                err_msg=f"{name} {step}",
            )
            if not isinstance(value, float):
                for dim in value.dims:
                    assert found.coords[dim].values.tolist() == value.coords[dim].values.tolist(), (name, dim)
            compared += found.size
    return compared


def test_every_value_is_that_of_the_measure(grokked, replayed):
    steps = [grokked.steps[0], grokked.steps[len(grokked.steps) // 2], grokked.steps[-1]]
    assert replayed["step"].values.tolist() == grokked.steps
    assert agree(replayed, grokked, steps) > 3 * 10_000


def test_the_shipped_run_where_it_groks(tmp_path):
    run = _copy(SHIPPED, tmp_path)
    assert agree(gi.replay(run, steps=[4860]), run, [4860]) > 1_000


@pytest.mark.slow
def test_the_shipped_run_at_every_step(tmp_path):
    run = _copy(SHIPPED, tmp_path)
    assert agree(gi.replay(run, EVERYTHING), run, run.steps) > len(run.steps) * 100_000


def _copy(run: Path, folder: Path) -> gi.Run:
    shutil.copytree(run, folder / "copy", ignore=shutil.ignore_patterns("replay", "lock"))
    return gi.load_run(folder / "copy")


def test_step_comes_first_and_every_variable_has_unit_and_source(replayed):
    assert set(replayed.data_vars) >= set(PROGRESS)
    for name, variable in replayed.data_vars.items():
        assert variable.dims[0] == "step", name
        assert variable.attrs["unit"]
        assert variable.attrs["ref"], name
    assert replayed["fourier_norms.W_E"].dims == ("step", "component")
    assert replayed["neuron.frequency"].dims == ("step", "neuron")
    assert replayed["attention.mean"].dims == ("step", "layer", "head", "pos")


def test_keys_of_each_snapshot_and_final_keys_are_both_there_and_meet_at_the_end(grokked, replayed):
    own, final = replayed["restricted_loss.logit_dirs"], replayed["restricted_loss.logit_dirs" + FINAL]
    assert json.loads(replayed.attrs["final_keys"]) == gi.key_frequencies(grokked.view(-1)).consensus
    np.testing.assert_array_equal(own[-1], final[-1])
    assert own[0].isnull().all()  # nothing is periodic yet
    assert np.isfinite(final).all()


def test_a_second_call_reads_what_was_kept_and_runs_no_network(grokked, replayed, passes):
    again = gi.replay(grokked, EVERYTHING)
    assert passes == []
    xr.testing.assert_identical(again, replayed)


def test_a_new_measure_computes_itself_alone(grokked, replayed, passes, monkeypatch):
    computed = []
    call = gi.measures.Measure.__call__
    monkeypatch.setattr(
        gi.measures.Measure,
        "__call__",
        lambda self, view, **o: computed.append(self.name) or call(self, view, **o),
    )
    gi.replay(grokked, ["loss", "ipr.real"], steps=[0, -1])
    assert computed == ["ipr.real"] * 2


def test_a_longer_run_computes_only_what_is_new(tmp_path, passes):
    config = tiny()
    unfinished = gi.load_run(killed(config, tmp_path / "run", metrics_of(20)))
    assert gi.replay(unfinished, ["loss"])["step"].values.tolist() == unfinished.steps == [0, 10]
    passes.clear()
    run = gi.train(config, tmp_path / "run", progress=False)
    whole = gi.replay(run, ["loss"])
    assert whole["step"].values.tolist() == run.steps == [0, 10, 20]
    assert set(passes) == {20}


def test_other_weights_other_code_or_a_flipped_byte_are_measured_again(tiny_run, monkeypatch, passes):
    from grokinterp.replay import cache

    before = gi.replay(tiny_run, ["loss"])
    file = tiny_run.path / "replay" / "step_00000010.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[:-3] + bytes([whole[-3] ^ 1]) + whole[-2:])
    passes.clear()
    xr.testing.assert_identical(gi.replay(tiny_run, ["loss"]), before)
    assert set(passes) == {10}
    assert file.read_bytes() == whole

    (tiny_run.path / "replay" / "step_00000000.safetensors").write_bytes(whole)  # that of another snapshot
    passes.clear()
    xr.testing.assert_identical(gi.replay(tiny_run, ["loss"]), before)
    assert set(passes) == {0}

    file.write_bytes(
        sealed(safetensors.torch.save({}, {"grokinterp": json.dumps({"seal": UNSEALED})}))
    )  # of some other version
    passes.clear()
    xr.testing.assert_identical(gi.replay(tiny_run, ["loss"]), before)
    assert set(passes) == {10}

    passes.clear()
    monkeypatch.setattr(cache, "code_hash", lambda: "another")
    gi.replay(tiny_run, ["loss"])
    assert set(passes) == {0, 10, 20}


def test_the_hash_of_the_code_changes_with_the_code(tmp_path, monkeypatch):
    from grokinterp.replay import cache

    package = tmp_path / "package"
    shutil.copytree(Path(gi.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(cache, "_PACKAGE", package)
    before = cache.code_hash.__wrapped__()
    assert before == cache.code_hash.__wrapped__()
    (package / "report" / "page.css").write_text("")
    assert cache.code_hash.__wrapped__() == before
    (package / "measures" / "waves" / "keys.py").write_text("# other\n")
    assert cache.code_hash.__wrapped__() != before


def test_a_replay_that_was_killed_goes_on_where_it_stopped(grokked, replayed, tmp_path):
    run = _copy(grokked.path, tmp_path)
    code = (
        "import torch, grokinterp as gi; torch.set_num_threads(1); "
        f"gi.replay(gi.load_run({str(run.path)!r}), {list(EVERYTHING)!r})"
    )
    process = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "OMP_NUM_THREADS": "1"})
    folder = run.path / "replay"
    half = len(run.steps) // 2
    while process.poll() is None and len(list(folder.glob("*.safetensors"))) < half:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    there = {int(file.stem[5:]) for file in folder.glob("step_*.safetensors")}
    assert half <= len(there) < len(run.steps), "it was not killed half-way"
    with counted_passes() as measured:
        dataset = gi.replay(run, EVERYTHING)
    # The last snapshot is looked at first, for its keys, and is whole only when its turn has come.
    assert set(measured) == set(run.steps) - there | {run.steps[-1]}
    xr.testing.assert_identical(dataset, replayed.assign_attrs(run="copy"))


def test_steps_can_be_chosen(grokked, replayed):
    some = gi.replay(grokked, ["loss", "gini.W_E"], steps=[-1, 0, 0])
    assert some["step"].values.tolist() == [0, grokked.steps[-1]]
    np.testing.assert_array_equal(some["gini.W_E"], replayed["gini.W_E"].sel(step=some["step"]))
    assert some.attrs["final_keys"] == replayed.attrs["final_keys"]


def test_a_measure_can_be_asked_for_with_the_final_keys_alone(grokked, replayed, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(grokked.path, copy, ignore=shutil.ignore_patterns("replay"))
    name = "restricted_loss.logit_dirs" + FINAL
    with pytest.MonkeyPatch.context() as patch:
        steps = []
        entry = Measured.entry
        patch.setattr(
            Measured,
            "entry",
            lambda self, known, *more: (steps.append((known.name, self._step)), entry(self, known, *more))[1],
        )
        alone = gi.replay(gi.load_run(copy), [name, "picture.circles" + FINAL])
    assert list(alone.data_vars) == [name, "picture.circles" + FINAL]
    xr.testing.assert_equal(alone[name], replayed[name])
    assert {step for known, step in steps if known == "key_frequencies.consensus"} == {grokked.steps[-1]}
    with pytest.raises(
        UsageError, match=r"gini\.W_E uses no key frequencies: ask for it without @final_keys"
    ):
        gi.replay(grokked, ["gini.W_E" + FINAL])


def test_measures_of_which_the_labels_change_with_the_keys_are_nan_elsewhere(grokked):
    found = gi.replay(grokked, ["clock_fit.fourier"], steps=[0, -1])["clock_fit.fourier"]
    keys = gi.key_frequencies(grokked.view(-1)).consensus
    assert np.isfinite(found.sel(step=grokked.steps[-1], freq=keys)).all()
    assert found.sel(step=0).isnull().all()


def test_what_does_not_apply_is_left_out_with_its_reason(tmp_path):
    run = gi.train(
        tiny(**{"task": {"name": "group_composition", "group": "S3"}, "task.p": None}),
        tmp_path / "s3",
        progress=False,
    )
    dataset = gi.replay(run, ["loss", "gini.W_E", "restricted_loss.logit_dirs", "picture.neurons"])
    assert list(dataset.data_vars) == ["loss"]
    skipped = json.loads(dataset.attrs["skipped"])
    assert "no cyclic group" in skipped["gini.W_E"]
    assert "no cyclic group" in skipped["picture.neurons" + FINAL]


def test_a_network_without_key_frequencies_has_no_final_ones(tiny_run):
    skipped = json.loads(gi.replay(tiny_run, ["key_share.W_E"], steps=[-1]).attrs["skipped"])
    assert gi.key_frequencies(tiny_run.view(-1)).consensus == []
    assert skipped == {"key_share.W_E" + FINAL: "the final network has no key frequencies"}


def test_mistakes_are_told_in_one_line(tiny_run):
    with pytest.raises(UsageError, match=r"unknown measure 'gini.W_F'; did you mean 'gini.W_"):
        gi.replay(tiny_run, ["gini.W_F"])
    with pytest.raises(NoSuchSnapshot, match="nearest are at 10 and 20"):
        gi.replay(tiny_run, ["loss"], steps=[13])
    file = tiny_run.path / "snapshots" / "step_00000010.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(DamagedFile, match="step 10"):
        gi.replay(tiny_run, ["loss"])


def test_a_run_that_cannot_be_written_is_replayed_and_says_that_nothing_is_kept(tiny_run):
    (tiny_run.path / "replay").write_text("in the way")
    with pytest.warns(UserWarning, match="is not kept") as told:
        assert gi.replay(tiny_run, ["loss"]).sizes["step"] == 3
    assert len(told) == 1


def test_what_a_killed_replay_left_half_written_is_swept_and_what_another_writes_now_is_not(tiny_run):
    gi.replay(tiny_run, ["loss"])
    old, new = (tiny_run.path / "replay" / f"step_00000010.safetensors.{number}.tmp" for number in (1, 2))
    old.write_bytes(b"half")
    os.utime(old, (0, 0))
    new.write_bytes(b"half")
    gi.replay(tiny_run, ["loss"])
    assert not old.exists()
    assert new.exists()


def test_netcdf_gives_the_same_dataset_back(replayed, tmp_path):
    replayed.to_netcdf(tmp_path / "replay.nc", engine="h5netcdf")
    with xr.open_dataset(tmp_path / "replay.nc", engine="h5netcdf") as read:
        xr.testing.assert_equal(read.load(), replayed)
        assert read["loss"].attrs == replayed["loss"].attrs
        assert json.loads(read.attrs["final_keys"]) == json.loads(replayed.attrs["final_keys"])
    assert {"step", "loss"} <= set(replayed[["loss"]].to_dataframe().reset_index().columns)


def test_threads_give_the_same_numbers_to_rounding(grokked, replayed):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        view = grokked.view(-1)
        assert gi.measure("trig_loss", view).values == pytest.approx(
            replayed["trig_loss"][-1].values, rel=1e-9
        )
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_every_number_of_threads_gives_the_same_bytes(threads, grokked, replayed, tmp_path):
    steps = [grokked.steps[0], grokked.steps[len(grokked.steps) // 2], grokked.steps[-1]]
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        again = gi.replay(_copy(grokked.path, tmp_path), EVERYTHING, steps)
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    for name, variable in again.data_vars.items():
        np.testing.assert_array_equal(
            variable.values, replayed[name].sel(step=steps).values, err_msg=str(name)
        )


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_snapshots(tmp_path):
    """Peak memory of a replay of 100 snapshots is at most 1.2 times that of 10, on a run that learns; so it
    is for the 37 that ship."""
    config = gi.TrainConfig.preset(
        "quick",
        **{
            "training.steps": 990,
            "training.stop_when": None,
            "snapshots.every": 10,
            "snapshots.log": None,
            "snapshots.events": [],
        },
    )
    run = gi.train(config, tmp_path / "run", progress=False)
    assert len(run.steps) == 100
    for run_, most in ((run, 100), (_copy(SHIPPED, tmp_path), 37)):
        few, many = (_peak(run_, count) for count in (10, most))
        print(
            f"{run_.task.symbol}: {few / 1e6:.2f} GB for 10 snapshots, {many / 1e6:.2f} GB for {most}, "
            f"ratio {many / few:.3f}"
        )
        assert many <= 1.2 * few


def _peak(run: gi.Run, snapshots: int) -> int:
    """The largest resident size of a process that replays so many snapshots, evenly chosen, in kB."""
    shutil.rmtree(run.path / "replay", ignore_errors=True)
    steps = [run.steps[i * (len(run.steps) - 1) // (snapshots - 1)] for i in range(snapshots)]
    code = (
        "import resource, torch, grokinterp as gi; from grokinterp.replay import PICTURES, PROGRESS; "
        f"torch.set_num_threads(1); gi.replay(gi.load_run({str(run.path)!r}), [*PROGRESS, *PICTURES], "
        f"{steps}); print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return int(done.stdout) // (1000 if sys.platform == "darwin" else 1)
