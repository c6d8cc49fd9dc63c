"""What the command line says of runs that lie about: ls, thin, push, pull, train --log."""

from __future__ import annotations

import json
import shutil

import pytest

import grokinterp as gi
from grokinterp.runs import files
from grokinterp.runs.loggers import LOGGERS, Logger
from test_cli import TINY_FLAGS
from test_hub import content, hub  # noqa: F401
from test_loggers import Fake

LONG = "a name that is longer than many a column of a table would like it to be"


@pytest.fixture
def runs(tiny_run, tmp_path):
    """A sweep, and a run that has lost its record."""
    for name in (
        "seed_9",
        "seed_10",
        "a name that is longer than many a column of a table would like it to be",
    ):
        shutil.copytree(tiny_run.path, tmp_path / "all" / name)
    shutil.copytree(tiny_run.path, tmp_path / "all/broken")
    (tmp_path / "all/broken/run.json").unlink()
    return tmp_path / "all"


def test_ls_has_a_line_for_each_run_and_never_breaks_a_name(grokinterp, runs, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    code, stdout, stderr = grokinterp("ls", runs)
    assert (code, stderr) == (0, "")
    head, long, broken, nine, ten, *rest = stdout.splitlines()
    assert head.split() == ["run", "task", "step", "snapshots", "train", "test", "verdict", "keys", "size"]
    assert long.startswith(f"{LONG}  ")
    assert [line.split()[0] for line in (broken, nine, ten)] == ["broken", "seed_9", "seed_10"]
    assert nine.split()[1:8] == ["a", "+", "b", "mod", "7", "20", "3"]
    assert nine.rstrip().endswith("finished")
    assert broken.rstrip().endswith("broken")
    assert rest[0].startswith("broken: ")
    assert "has no run.json" in rest[0]
    assert rest[-1].startswith("4 runs, ")


def test_ls_as_json_has_all_of_it(grokinterp, runs):
    rows = json.loads(grokinterp("ls", runs, "--json")[1])
    assert [row["run"] for row in rows][1:] == ["broken", "seed_9", "seed_10"]
    nine = rows[2]
    assert (nine["step"], nine["snapshots"], nine["status"], nine["why"]) == (
        20,
        3,
        "finished",
        "all steps done",
    )
    assert nine["test_accuracy"] == gi.load_run(runs / "seed_9").last_evaluation["test_accuracy"]


def test_ls_looks_here_and_says_where_there_is_none(grokinterp, runs, tmp_path, monkeypatch):
    monkeypatch.chdir(runs / "seed_9")
    assert grokinterp("ls")[1].splitlines()[1].startswith(".  ")
    (tmp_path / "empty").mkdir()
    code, stdout, stderr = grokinterp("ls", tmp_path / "empty")
    assert (code, stdout) == (2, "")
    assert len(stderr.splitlines()) == 1
    assert "holds no run" in stderr


def test_thin_says_what_would_go_and_then_removes_it(grokinterp, tiny_run):
    before = content(tiny_run.path)
    code, stdout, stderr = grokinterp("thin", tiny_run.path, "--keep", "every:2", "--dry-run")
    assert (code, stderr) == (0, "")
    assert stdout.startswith("1 of 3 snapshots would go, ")
    assert "  2 stay, at steps 0 20\n" in stdout
    assert content(tiny_run.path) == before
    code, stdout, _ = grokinterp("thin", tiny_run.path, "--keep", "every:2")
    assert (code, stdout.partition(",")[0]) == (0, "1 of 3 snapshots are gone")
    code, stdout, _ = grokinterp("verify", tiny_run.path)
    assert code == 0
    assert "6 files, all as they were written" in stdout
    assert "1 of 3 snapshots were removed later (thinned to every:2)" in stdout
    told = grokinterp("analyze", tiny_run.path, "--measure", "loss")[1]
    assert "1 of 3 snapshots were removed later (thinned to every:2)" in " ".join(told.split())
    again = json.loads(grokinterp("thin", tiny_run.path, "--keep", "every:2", "--json")[1])
    assert (again["removed"], again["kept"], again["bytes"]) == ([], [0, 20], 0)


@pytest.mark.parametrize(
    ("keep", "code", "said"),
    [("half", 2, "needs every:10"), ("every:2", 3, "locked by")],
)
def test_thin_refuses_in_one_line(grokinterp, tiny_run, keep, code, said):
    with files.locked(tiny_run.path, str) if code == 3 else files.writing(tiny_run.path):
        status, stdout, stderr = grokinterp("thin", tiny_run.path, "--keep", keep)
    assert (status, stdout) == (code, "")
    assert len(stderr.splitlines()) == 1
    assert said in stderr


def test_push_and_pull(grokinterp, tiny_run, hub, tmp_path):  # noqa: F811
    code, stdout, stderr = grokinterp("push", tiny_run.path, "me/tiny", "--private")
    assert (code, stderr) == (0, "")
    assert "7 files in me/tiny" in stdout
    assert "left out: resume" in stdout
    assert (hub / "me/tiny.private").read_text() == "True"
    out = tmp_path / "back"
    code, stdout, stderr = grokinterp("pull", "hf://me/tiny", "--out", out)
    assert (code, stderr) == (0, "")
    assert f"3 snapshots, steps 0 to 20 in {out}\nNext: grokinterp analyze {out}" in stdout
    assert grokinterp("verify", out)[0] == 0
    assert json.loads(grokinterp("push", out, "me/tiny", "--json")[1])["place"] == "hf://me/tiny"


def test_a_run_on_the_hub_is_fetched_before_it_is_analysed(grokinterp):
    code, _, stderr = grokinterp("analyze", "hf://me/tiny")
    assert code == 2
    assert "grokinterp pull hf://me/tiny --out DIR fetches it" in stderr


def test_train_hands_its_metrics_to_a_logger(grokinterp, tmp_path, monkeypatch):
    monkeypatch.setitem(LOGGERS, "fake", Logger((fake := Fake()).open, "json"))
    train = ("train", "modular_addition", "--preset", "quick", *TINY_FLAGS, "--log", "fake")
    assert grokinterp(*train, "--out", tmp_path / "run")[0] == 0
    run = gi.load_run(tmp_path / "run")
    assert [step for step, _ in fake.said["run"]] == run.history["step"].tolist()
    code, _, stderr = grokinterp(*train, "--log", "board", "--out", tmp_path / "other")
    assert code == 2
    assert "there is no logger 'board'" in stderr
