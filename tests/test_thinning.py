"""A run of which snapshots were removed is a run: whole, true about what is gone, and able to go on."""

from __future__ import annotations

import json
import math
import os
import shutil
from importlib import import_module
from pathlib import Path

import pytest

import grokinterp as gi
from conftest import tiny
from grokinterp.errors import NoSuchSnapshot, NotARun, RunLocked, UsageError, WriteFailed
from grokinterp.replay import boundary_steps, phases, thin
from grokinterp.runs import files
from grokinterp.runs.account import Account, read_run_json
from grokinterp.runs.listing import listed
from grokinterp.runs.thinning import remaining, thin_to

OFTEN = tiny(**{"training.steps": 60, "snapshots.every": 5, "snapshots.events": ()})
STEPS = list(range(0, 61, 5))


@pytest.fixture
def run(trained_once, tmp_path) -> gi.Run:
    """Thirteen snapshots, finished."""
    shutil.copytree(trained_once("often", OFTEN).path, tmp_path / "often")
    return gi.load_run(tmp_path / "often")


def content(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def problems(run: gi.Run) -> list[str]:
    return [problem for _, problem in run.verify() if problem is not None]


@pytest.mark.parametrize(
    ("keep", "steps"),
    [
        ("every:1", STEPS),
        ("every:4", [0, 20, 40, 60]),
        ("every:5", [0, 25, 50, 60]),
        ("every:100", [0, 60]),
        ("log:2", [0, 60]),
        ([10, -1], [10, 60]),
        ([], [60]),
    ],
)
def test_what_stays_is_what_was_asked_for_and_the_last(run, keep, steps):
    before, weights = content(run.path), {step: run.state_dict(step) for step in steps}
    done = thin(run, keep)
    left = gi.load_run(run.path)
    assert left.steps == steps == list(done.kept)
    assert sorted([*done.removed, *steps]) == STEPS
    gone = {f"snapshots/step_{step:08d}.safetensors" for step in done.removed}
    after = content(run.path)
    assert set(before) - set(after) == gone
    assert done.bytes == sum(len(before[name]) for name in gone)
    assert {name for name in after if after[name] != before[name]} == ({"run.json"} if gone else set())
    assert problems(left) == []
    for step in steps:
        assert all((left.state_dict(step)[name] == weights[step][name]).all() for name in weights[step])


def test_on_a_log_axis_the_nearest_snapshots_stay(run):
    wanted = [math.expm1(i * math.log(61) / 4) for i in range(5)]  # 0, 1.8, 6.8, 20.8, 60
    by_hand = sorted({min(STEPS, key=lambda s: abs(math.log1p(s) - math.log1p(w))) for w in wanted})
    assert remaining(run, "log:5") == by_hand == [0, 5, 20, 60]


@pytest.mark.parametrize("keep", ["", "every", "every:0", "every:-2", "log:1", "log:", "all", "every:2x"])
def test_a_rule_that_is_none_is_refused_with_those_there_are(run, keep):
    before = content(run.path)
    with pytest.raises(UsageError, match=r"needs every:10 .*log .*or phases"):
        thin(run, keep)
    assert content(run.path) == before


def test_a_step_that_is_gone_is_said_to_have_been_removed_and_the_record_keeps_its_hash(run):
    sha256 = run.sha256(20)
    thin(run, [0])
    left = gi.load_run(run.path)
    with pytest.raises(NoSuchSnapshot, match="at step 20 any more: it was thinned; the nearest are"):
        left.view(20)
    with pytest.raises(NoSuchSnapshot, match="no snapshot at step 21; the nearest"):
        left.view(21)
    assert sha256 in (run.path / "manifest.jsonl").read_text()
    assert left.thinned == {"removed": STEPS[1:-1], "rules": ["steps"]}
    with pytest.raises(NoSuchSnapshot):  # nor can it be asked to stay
        thin(left, [20])


@pytest.mark.parametrize("keep", ["every:3", "log:4", [0, 10, 30]])
def test_the_same_again_removes_nothing_more(run, keep):
    assert thin(run, keep).removed
    before = content(run.path)
    assert thin(gi.load_run(run.path), keep).removed == ()
    assert content(run.path) == before


def test_thinning_again_adds_up(run):
    thin(run, "every:2")
    thin(gi.load_run(run.path), "every:3")
    left = gi.load_run(run.path)
    assert left.steps == [0, 30, 60]
    assert left.thinned["rules"] == ["every:2", "every:3"]
    assert left.thinning.startswith(
        "10 of 13 snapshots were removed later (thinned to every:2, then every:3)"
    )
    before = content(run.path)
    assert thin(left, "every:1").removed == ()
    assert content(run.path) == before


def test_a_dry_run_says_the_same_and_writes_nothing(run):
    gi.replay(run, ["loss"], progress=False)
    before = content(run.path)
    with files.locked(run.path, str):  # nor does it wait for a trainer
        locked = content(run.path)
        promised = thin(run, "every:4", dry_run=True)
        assert content(run.path) == locked
    assert content(run.path) == before
    assert thin(run, "every:4") == promised
    assert sum(map(len, before.values())) - promised.bytes == pytest.approx(
        sum(map(len, content(run.path).values())), abs=1000
    )


def test_what_was_measured_of_removed_snapshots_goes_and_the_rest_is_not_measured_again(run, monkeypatch):
    before = gi.replay(run, ["loss"], progress=False)
    thin(run, "every:4")
    assert sorted(file.name for file in (run.path / "replay").iterdir()) == [
        f"step_{step:08d}.safetensors" for step in (0, 20, 40, 60)
    ]
    monkeypatch.setattr(gi.Run, "view", lambda *args: pytest.fail("measured again"))
    after = gi.replay(gi.load_run(run.path), ["loss"], progress=False)
    assert after["step"].values.tolist() == [0, 20, 40, 60]
    assert after["loss"].equals(before["loss"].sel(step=[0, 20, 40, 60]))


class Killed(BaseException):
    """Nothing catches it, as nothing catches a kill."""


def killed_at(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dies right before the `number`-th call that changes the disk."""
    calls = iter(range(10_000))

    def mortal(owner, name):
        call = getattr(owner, name)

        def counting(*args, **kwargs):
            if next(calls) == number:
                raise Killed
            return call(*args, **kwargs)

        monkeypatch.setattr(owner, name, counting)

    for owner, name in ((os, "fsync"), (os, "replace"), (Path, "unlink")):
        mortal(owner, name)


def test_killed_anywhere_it_is_a_whole_run_of_before_or_after_and_the_same_call_ends_it(run, tmp_path):
    gi.replay(run, ["loss"], progress=False)
    before = content(run.path)
    thin(run, "every:4")
    after, states = content(run.path), set()
    for number in range(1000):
        shutil.rmtree(run.path)
        for name, data in before.items():
            (run.path / name).parent.mkdir(parents=True, exist_ok=True)
            (run.path / name).write_bytes(data)
        with pytest.MonkeyPatch.context() as patched:
            killed_at(number, patched)
            try:
                thin_to(run.path, "every:4")
                break
            except Killed:
                pass
        left = gi.load_run(run.path)
        assert problems(left) == []
        assert left.steps in (STEPS, [0, 20, 40, 60])
        states.add(len(left.steps))
        assert left.view(-1).logits.shape[0] == 49
        thin(left, "every:4")
        temporary = {name for name in content(run.path) if name.endswith(files.TEMPORARY)}
        assert content(run.path) == after
        assert not temporary
    assert states == {4, 13}
    assert number > 20  # every file that went was a chance to die
    assert content(run.path) == after


def test_a_run_that_is_being_trained_is_refused(run):
    before = content(run.path)
    with (
        files.locked(run.path, str),
        pytest.raises(RunLocked, match=r"locked by host .* thin it when"),
    ):
        thin(run, "every:4")
    assert content(run.path) == before


def test_a_disk_that_cannot_be_written_is_one_line_and_nothing_is_lost(run, monkeypatch):
    monkeypatch.setattr(
        os, "replace", lambda *args: (_ for _ in ()).throw(OSError(28, "No space left on device"))
    )
    with pytest.raises(WriteFailed, match="the disk is full"):
        thin(run, "every:4")
    monkeypatch.undo()
    assert gi.load_run(run.path).steps == STEPS
    assert problems(gi.load_run(run.path)) == []


def test_what_is_no_run_gets_no_lock(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(NotARun):
        thin_to(tmp_path / "empty", "every:2")
    assert list((tmp_path / "empty").iterdir()) == []


def interrupted(out: Path, at: int, monkeypatch: pytest.MonkeyPatch) -> gi.Run:
    """A training of OFTEN that died at a step."""
    from contextlib import nullcontext

    def dying(config, wanted):
        def show(snapshot):
            if snapshot.step >= at:
                raise KeyboardInterrupt

        return nullcontext(show)

    with monkeypatch.context() as patched:
        patched.setattr(import_module("grokinterp.runs.train"), "_progress_bar", dying)
        with pytest.raises(KeyboardInterrupt):
            gi.train(OFTEN, out, progress=False)
    return gi.load_run(out)


def test_a_run_that_is_not_finished_goes_on_to_what_it_would_have_been_without_those_snapshots(
    run, tmp_path, monkeypatch
):
    begun = interrupted(tmp_path / "begun", 32, monkeypatch)
    assert thin(begun, "every:3").goes_on
    thinner = gi.load_run(begun.path)
    assert thinner.steps[:2] == [0, 15]
    assert problems(thinner) == []
    removed = set(thinner.thinned["removed"])
    done = gi.train(OFTEN, begun.path, progress=False)
    assert done.steps == [step for step in STEPS if step not in removed]
    assert done.thinned == thinner.thinned
    there, whole = content(done.path), content(run.path)
    assert there.pop("run.json") != whole.pop("run.json")
    assert there == {
        name: data for name, data in whole.items() if not any(f"{step:08d}" in name for step in removed)
    }
    assert problems(done) == []
    assert gi.train(OFTEN, begun.path, progress=False).steps == done.steps  # finished, and stays so


def test_training_again_from_an_older_state_brings_no_removed_snapshot_back(run, tmp_path, monkeypatch):
    begun = interrupted(tmp_path / "begun", 32, monkeypatch)
    states = {file: json.loads(_header(file))["step"] for file in (begun.path / "resume").iterdir()}
    newest = max(states, key=states.__getitem__)
    thin(begun, [0])
    newest.write_bytes(b"damaged")
    with pytest.warns(UserWarning, match="going on from the other resume state"):
        done = gi.train(OFTEN, begun.path, progress=False)
    assert problems(done) == []
    assert 20 not in done.steps
    assert not (done.path / "snapshots/step_00000020.safetensors").exists()
    assert (done.state_dict(-1)["embed.W_E"] == run.state_dict(-1)["embed.W_E"]).all()


def _header(file: Path) -> str:
    data = file.read_bytes()
    return json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]["grokinterp"]


def test_a_run_of_somebody_elses_loop_is_thinned_and_recorded_on(run, tmp_path):
    for step in (0, 10, 20):
        theirs = gi.record(run.model(step), run.task, step, tmp_path / "theirs", split=run.split)
    assert not thin(theirs, "every:2").goes_on
    assert gi.load_run(theirs.path).steps == [0, 20]
    more = gi.record(run.model(30), run.task, 30, theirs.path, split=run.split)
    assert more.steps == [0, 20, 30]
    assert more.thinned["removed"] == [10]
    assert problems(more) == []


def test_where_steps_are_not_known_a_log_axis_and_phases_are_refused(run, monkeypatch):
    monkeypatch.setattr(Account, "step_known", lambda self, step: step == 0)
    for keep in ("log", "phases"):
        with pytest.raises(UsageError, match="the step is not known"):
            thin(run, keep, progress=False)


def test_phases_are_told_from_what_stays_as_from_all(quick_run, tmp_path):
    shutil.copytree(quick_run.path, tmp_path / "run")
    run = gi.load_run(tmp_path / "run")
    before = phases(gi.replay(run, progress=False), run.history)
    assert len(before.boundaries) >= 2
    kept = boundary_steps(run, progress=False)
    assert len(kept) < len(run.steps)
    assert thin(run, "phases", progress=False).kept == tuple(kept)
    left = gi.load_run(run.path)
    after = phases(gi.replay(left, progress=False), left.history)
    assert after.kind == before.kind
    assert [(b.name, b.after, b.by) for b in after.boundaries] == [
        (b.name, b.after, b.by) for b in before.boundaries
    ]


def test_where_no_phase_was_found_another_rule_is_asked_for(tmp_path):
    run = gi.train(
        tiny(**{"training.steps": 1, "training.evaluate_every": 1}), tmp_path / "run", progress=False
    )
    with pytest.raises(UsageError, match=r"no phases were found .* choose every:10"):
        thin(run, "phases", progress=False)


def test_report_and_replay_say_that_it_was_thinned(run, tmp_path):
    thin(run, "every:4")
    left = gi.load_run(run.path)
    report = gi.analyze(left, measures=["loss"], progress=False)
    said = "9 of 13 snapshots were removed later (thinned to every:4)"
    assert said in report.to_html()
    assert report.to_dict()["run"]["thinned"] == left.thinned
    gi.save_replay(left, tmp_path / "replay.html")
    assert said in (tmp_path / "replay.html").read_text()
    assert "were removed" not in gi.analyze(gi.train(tiny(), tmp_path / "whole"), measures=["loss"]).to_html()


def test_the_list_of_runs_counts_what_is_left(run):
    thin(run, "every:4")
    (row,) = listed(run.path)
    assert (row.snapshots, row.step, row.status) == (4, 60, "finished")
    assert read_run_json(run.path)["finished"]["snapshots"] == 13  # as many as were committed
