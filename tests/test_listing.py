"""The list of runs: what each says of itself, in a row that is never missing."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from contextlib import nullcontext
from importlib import import_module

import pytest

import grokinterp as gi
from conftest import tiny
from grokinterp.errors import NotARun
from grokinterp.replay import RunsCompared
from grokinterp.runs import files
from grokinterp.runs.account import read_run_json
from grokinterp.runs.listing import listed
from grokinterp.runs.record import write_record


def only(folder):
    (row,) = listed(folder)
    return row


def without_counts(path):
    """The run as it was recorded before run.json said what accuracies are about."""
    record = read_run_json(path)
    del record["counts"]
    write_record(path, record)


def test_a_row_says_what_the_run_says(tiny_run):
    row, last = only(tiny_run.path.parent), tiny_run.last_evaluation
    assert (row.run, row.task, row.seed) == ("tiny", tiny_run.task.symbol, 0)
    assert (row.step, row.steps, row.snapshots) == (20, 20, 3)
    assert (row.train_accuracy, row.test_accuracy) == (last["train_accuracy"], last["test_accuracy"])
    assert (row.status, row.why) == ("finished", "all steps done")
    assert row.bytes == sum(file.stat().st_size for file in tiny_run.path.rglob("*") if file.is_file())


NOISY = {"task.noise": {"kind": "uniform", "share": 0.3}}
WORDS = {
    "task": {"name": "reverse", "n": 2, "v": 3, "examples": 16},
    "model": {"d_model": 8, "n_heads": 1, "d_mlp": 8},
    "training.batch_size": 8,
    "training.steps": 30,
    "threads": 1,
}


@pytest.mark.parametrize("old", [False, True], ids=["counts recorded", "as it was before"])
@pytest.mark.parametrize(
    "config",
    [
        tiny(),
        tiny(**{"training.steps": 600, "training.fraction": 0.5}),
        tiny(**NOISY),
        gi.TrainConfig.preset("words", **WORDS),
    ],
    ids=["briefly", "long", "noisy labels", "several answers, fresh examples"],
)
def test_the_state_is_the_one_that_compare_tells(tmp_path, config, old):
    run = gi.train(config, tmp_path / "run", progress=False)
    if old:
        without_counts(run.path)
    row, (compared,) = only(tmp_path), RunsCompared([run]).runs
    assert row.state == compared.standing.state
    shares = compared.standing.shares
    assert row.test_accuracy == shares["test"].right
    assert row.train_accuracy == (shares["train"].right if "train" in shares else row.train_accuracy)


def test_a_network_that_has_grokked_generalises_and_one_at_its_start_is_at_chance(quick_run, tmp_path):
    shutil.copytree(quick_run.path, tmp_path / "grokked")
    gi.train(tiny(**{"task.p": 23, "training.steps": 1}), tmp_path / "begun", progress=False)
    assert {row.run: row.state for row in listed(tmp_path)} == {
        "begun": "at chance",
        "grokked": "generalises",
    }


def test_runs_are_found_at_every_depth_in_the_order_of_their_numbers(tiny_run, tmp_path):
    for name in ("sweep/seed_10", "sweep/seed_9", "a/b/c/d", ".hidden/run"):
        shutil.copytree(tiny_run.path, tmp_path / "all" / name)
    shutil.copytree(tiny_run.path, tmp_path / "all/a/b/c/d/copy")  # inside of a run is no run
    (tmp_path / "all/notes").mkdir()
    (tmp_path / "all/link").symlink_to(tiny_run.path)
    (tmp_path / "all/round").symlink_to(tmp_path / "all")
    assert [row.run for row in listed(tmp_path / "all")] == [
        "a/b/c/d",
        "link",
        "sweep/seed_9",
        "sweep/seed_10",
    ]


def test_the_directory_of_a_run_is_a_list_of_one(tiny_run):
    assert only(tiny_run.path).run == str(tiny_run.path)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda run: (run / "run.json").unlink(), "it has no run.json"),
        (lambda run: (run / "run.json").write_bytes(b"{}"), "does not match the sha256"),
        (lambda run: (run / "manifest.jsonl").unlink(), "it has 0 lines and 3 were written"),
        (
            lambda run: (run / "metrics.jsonl").write_bytes(
                (run / "metrics.jsonl").read_bytes().replace(b"1", b"2", 1)
            ),
            "the line does not match its checksum in line 1",
        ),
        (lambda run: write_record(run, {"format": 1, "finished": None}), "its record is not that of a run"),
        (lambda run: write_record(run, {"format": 99}), "this grokinterp reads format 1"),
    ],
    ids=["no record", "another file", "no manifest", "bad line", "half a record", "a later format"],
)
def test_a_broken_run_is_a_row_with_its_reason_and_the_others_stay(tiny_run, tmp_path, damage, reason):
    shutil.copytree(tiny_run.path, tmp_path / "all/good")
    shutil.copytree(tiny_run.path, tmp_path / "all/bad")
    damage(tmp_path / "all/bad")
    bad, good = listed(tmp_path / "all")
    assert (bad.run, bad.status, bad.state) == ("bad", "broken", None)
    assert all(word in bad.why for word in reason.split(" in line "))
    assert bad.bytes > 0
    assert (good.run, good.status) == ("good", "finished")


def test_a_run_that_is_trained_says_by_whom_and_one_that_was_killed_is_stopped(tmp_path, monkeypatch):
    def dying(config, wanted):
        def show(snapshot):
            if snapshot.step >= 10:
                raise KeyboardInterrupt

        return nullcontext(show)

    monkeypatch.setattr(import_module("grokinterp.runs.train"), "_progress_bar", dying)
    with pytest.raises(KeyboardInterrupt):
        gi.train(tiny(**{"training.steps": 1000}), tmp_path / "run", progress=False)
    with files.locked(tmp_path / "run", str):
        row = only(tmp_path)
        assert row.status == "training"
        assert row.why.startswith("locked by host ")
    row = only(tmp_path)
    assert (row.status, row.steps) == ("stopped", 1000)
    assert row.step < 1000
    (tmp_path / "run" / "lock").write_text("host elsewhere pid 1\n")  # as a kill leaves it
    assert only(tmp_path).status == "stopped"


def test_a_run_that_diverged_and_one_of_somebody_elses_loop_say_so(tmp_path, tiny_run):
    with pytest.raises(gi.GrokinterpError):
        gi.train(
            tiny(**{"training.lr": 1e5, "training.optimizer": "sgd"}), tmp_path / "all/wild", progress=False
        )
    gi.record(tiny_run.model(-1), tiny_run.task, 7, tmp_path / "all/theirs", split=tiny_run.split)
    theirs, wild = listed(tmp_path / "all")
    assert (wild.status, wild.why) == ("diverged", gi.load_run(tmp_path / "all/wild").ended)
    assert (theirs.status, theirs.seed, theirs.steps, theirs.step) == ("imported", None, None, 7)
    assert theirs.test_accuracy == pytest.approx(tiny_run.last_evaluation["test_accuracy"])


def test_keys_are_those_of_a_report_on_the_last_snapshot(tiny_run):
    told = {"step": 20, "state": "generalises", "key_frequencies": {"consensus": [2, 3]}}
    report = tiny_run.path / "report.json"
    assert only(tiny_run.path).keys is None
    report.write_text(json.dumps(told))
    assert only(tiny_run.path).keys == (2, 3)
    assert only(tiny_run.path).state != "generalises"  # which evaluations tell better
    report.write_text(json.dumps(told | {"step": 10}))
    assert only(tiny_run.path).keys is None
    report.write_text("{")
    assert only(tiny_run.path).keys is None


def test_a_real_report_has_the_keys(quick_run, tmp_path):
    shutil.copytree(quick_run.path, tmp_path / "run")
    report = gi.analyze(gi.load_run(tmp_path / "run"), measures=["key_frequencies.consensus"], progress=False)
    report.save_json(tmp_path / "run" / "report.json")
    assert list(only(tmp_path).keys) == report.to_dict()["key_frequencies"]["consensus"] != []


def test_the_table_has_a_row_for_each_and_numbers_in_its_columns(tiny_run, tmp_path):
    shutil.copytree(tiny_run.path, tmp_path / "all/good")
    (tmp_path / "all/bad").mkdir()
    (tmp_path / "all/bad/run.json").write_text("")
    table = gi.runs_in(tmp_path / "all").set_index("run")
    assert table.loc["good", "step"] == 20
    assert table["bytes"].sum() > table.loc["bad", "bytes"] == 0
    assert table["test_accuracy"].dtype == float
    assert table["step"].isna().tolist() == [True, False]


@pytest.mark.parametrize("place", ["empty", "absent", "file"])
def test_where_there_is_no_run_one_line_says_so(tmp_path, place):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    with pytest.raises(NotARun, match=r"give one that holds what `grokinterp train --out` made"):
        gi.runs_in(tmp_path / place)


def test_listing_takes_no_torch(tiny_run):
    code = (
        "import sys; from grokinterp.runs.listing import listed; "
        f"print(listed({str(tiny_run.path)!r})[0].state, 'torch' in sys.modules, 'pandas' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.split()[-2:] == ["False", "False"]
