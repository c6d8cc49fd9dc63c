"""The command line: what it prints, where, and with which exit code; never a traceback for a user's
mistake."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import typer

import grokinterp as gi
from conftest import TINY
from grokinterp.cli import EXAMPLES, app

ROOT = Path(__file__).parents[1]

TINY_FLAGS = [f"--set={key}={'' if value is None else value}" for key, value in TINY.items()]


def test_train_analyze_verify_in_a_row(grokinterp, tmp_path):
    out = tmp_path / "run"
    code, stdout, stderr = grokinterp(
        "train", "modular_addition", "--preset", "quick", *TINY_FLAGS, "--out", out
    )
    assert (code, stderr) == (0, "")
    assert "3 snapshots" in stdout
    assert f"grokinterp analyze {out}" in stdout

    code, stdout, stderr = grokinterp("analyze", out, "--step", "10")
    assert (code, stderr) == (0, "")
    assert "step 10" in stdout
    report = json.loads((out / "report-step-10.json").read_text())
    assert report["step"] == 10
    assert report["generalised"] is False
    assert "<html" in (out / "report-step-10.html").read_text()
    assert not (out / "report.json").exists()

    assert grokinterp("verify", out) == (0, "7 files, all as they were written\n", "")


def test_analyze_prints_one_screen_that_says_what_was_found(grokinterp, quick_run, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    run = shutil.copytree(quick_run.path, tmp_path / "add53")
    code, stdout, _ = grokinterp("analyze", run, "--out", tmp_path / "out")
    lines = stdout.splitlines()
    assert code == 0
    assert len(lines) <= 40
    assert max(len(line) for line in lines if str(tmp_path) not in line) <= 80
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    whole = " ".join(stdout.split())
    assert report["found"] in whole
    assert f"Yes: it generalises. {report['standing']['words']}." in whole
    for claim in report["claims"]:
        assert f"{claim['verdict']:9}  {claim['claim']}" in lines
    for file in ("report.html", "report.json"):
        assert f"{tmp_path}/out/{file}" in stdout
    facts = [line.partition("  ")[0] for line in lines if re.match(r"[A-Z][a-z ]+  +\S", line)]
    assert {"Accuracy", "When", "Key frequencies"} <= set(facts)
    assert len(facts) <= 8


@pytest.mark.slow
def test_the_run_that_ships_fits_on_one_screen(grokinterp, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    run = shutil.copytree(ROOT / "checkpoints" / "modular_addition_113", tmp_path / "run")
    stdout = grokinterp("analyze", run)[1]
    assert len(stdout.splitlines()) <= 40
    assert "adds by rotating on 4 circles, k = 7 37 42 52; formed between steps 3,500 and" in stdout


def test_with_all_every_measure_has_a_line_that_begins_with_its_name(grokinterp, tiny_run):
    code, stdout, _ = grokinterp("analyze", tiny_run.path, "--all")
    report = json.loads((tiny_run.path / "report.json").read_text())
    firsts = [line.split("  ")[0] for line in stdout.splitlines()]
    assert code == 0
    assert set(report["measures"]) <= set(firsts)
    assert all(name in stdout for name in report["skipped"])


def test_a_dry_run_writes_nothing_and_prints_what_would_be_trained(grokinterp, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    asked = ["train", "modular_addition", "--preset", "quick", *TINY_FLAGS, "--seed", "3"]
    code, stdout, stderr = grokinterp(*asked, "--out", "runs/x", "--dry-run")
    assert (code, stderr) == (0, "")
    assert list(tmp_path.iterdir()) == []
    # What is printed is the configuration as it stands, and trains the same run.
    (tmp_path / "config.toml").write_text(stdout)
    assert grokinterp(*asked, "--out", "a")[0] == 0
    assert grokinterp("train", "modular_addition", "--config", "config.toml", "--out", "b")[0] == 0
    one, other = gi.load_run("a"), gi.load_run("b")
    assert one.config == other.config
    assert one.sha256(one.steps[-1]) == other.sha256(other.steps[-1])
    # Sizes are those of the run.
    told = json.loads(grokinterp(*asked, "--dry-run", "--json")[1])
    weights = one.state_dict(0)
    assert told["weights"] == sum(weight.numel() for weight in weights.values())
    assert (told["train"], told["test"]) == (len(one.split.train), len(one.split.test))
    assert told["snapshot_bytes"] == (one.path / "snapshots" / "step_00000000.safetensors").stat().st_size
    assert told["snapshots"] == 3
    assert told["steps"] == 20
    assert 0 < told["seconds"] < 60
    assert 0 < told["measured"] < 20
    for words in (f"{told['weights']:,} weights", "an estimate, from", "nothing was written"):
        assert words in stdout


def test_a_dry_run_of_fresh_examples_and_of_several_seeds(grokinterp, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    small = ["--set=task.examples=64", "--set=model.d_model=16", "--set=training.batch_size=8"]
    code, stdout, _ = grokinterp("train", "majority", *small, "--seeds", "0..3", "--dry-run")
    assert code == 0
    assert "8 fresh examples for every update, 64 to test on" in stdout
    assert "of each of 4 seeds" in stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", EXAMPLES)
def test_help_opens_with_two_examples_that_the_commands_take(grokinterp, name):
    stdout = grokinterp(*filter(None, [name]), "--help")[1]
    lines = [line.strip() for line in stdout.splitlines() if line.strip()]
    assert lines[0].startswith("Usage: ")
    assert tuple(lines[1:3]) == EXAMPLES[name]
    root = typer.main.get_command(app)
    for example in EXAMPLES[name]:
        first, command, *arguments = shlex.split(example)
        assert first == "grokinterp"
        assert name in ("", command)
        with root.commands[command].make_context(command, arguments) as context:
            assert not context.args


def test_every_command_has_examples():
    assert {command.name for command in app.registered_commands} == EXAMPLES.keys() - {""}


def test_the_examples_of_help_run_as_they_stand(grokinterp, tiny_run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for place in ("runs/add53", "runs/sub97", "runs/sweep/seed_0", "runs/sweep/seed_1"):
        shutil.copytree(tiny_run.path, place)
    torch.save(tiny_run.state_dict(-1), "theirs.pth")
    cheap = [
        example
        for examples in EXAMPLES.values()
        for example in examples
        if not re.search(r" (import|push|pull) | train (?!.*--dry-run)", example)
    ]
    assert len(cheap) > 10
    for example in dict.fromkeys(cheap):
        code, stdout, stderr = grokinterp(*shlex.split(example)[1:])
        assert code == 0, f"{example}: {stderr}"
        assert stdout


def test_json_goes_to_stdout_alone(grokinterp, tmp_path):
    out = tmp_path / "run"
    code, stdout, _ = grokinterp(
        "train", "modular_addition", "--preset", "quick", *TINY_FLAGS, "--out", out, "--json"
    )
    assert code == 0
    assert json.loads(stdout)["step"] == 20
    assert json.loads(grokinterp("analyze", out, "--json")[1])["schema"] == 2
    assert json.loads(grokinterp("verify", out, "--json")[1]) == {"files": 7, "damaged": {}}


@pytest.mark.parametrize("what", ["tasks", "presets", "measures", "layouts"])
def test_lists_are_tables_and_json(grokinterp, what):
    code, stdout, _ = grokinterp("list", what)
    assert code == 0
    rows = json.loads(grokinterp("list", what, "--json")[1])
    assert rows
    assert all(all(row.values()) for row in rows)
    assert next(iter(rows[0].values())).split(".")[0] in stdout


@pytest.mark.parametrize(
    ("flags", "stem"),
    [
        ([], "report"),
        (["--step", "-1"], "report"),
        (["--step", "20"], "report"),
        (["--no-replay"], "report"),
        (["--step", "10"], "report-step-10"),
        (["--step", "-2"], "report-step-10"),
        (["--keys", "3,1"], "report-keys-1-3"),
        (["--measure", "gini.W_E"], "report-gini.W_E"),
        (
            ["--measure", "gini.W_E", "--measure", "ipr.real", "--step", "0"],
            "report-step-0-gini.W_E+ipr.real",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else value,
)
def test_each_question_has_files_of_its_own(grokinterp, tiny_run, flags, stem):
    code, stdout, _ = grokinterp("analyze", tiny_run.path, *flags)
    assert code == 0
    assert sorted(file.name for file in tiny_run.path.glob("report*")) == [f"{stem}.html", f"{stem}.json"]
    assert f"{stem}.html" in stdout
    found = json.loads((tiny_run.path / f"{stem}.json").read_text())
    asked = found["asked"]["measures"]
    if asked is not None:
        assert set(found["measures"]) == {*asked, "loss", "accuracy"}


def test_a_page_says_first_what_it_is_of(tiny_run):
    heads = {
        "step 20?": {},
        "step 10: not its last snapshot, which is of step 20": {"step": 10},
        "step 20; measured as asked for: gini.W_E": {"measures": ["gini.W_E"]},
        "step 20; with the keys asked for: 1 3": {"keys": [3, 1]},
    }
    for words, asked in heads.items():
        html = gi.analyze(tiny_run, with_replay=False, **asked).to_html()
        assert words.removesuffix("?") in html.split("</h1>")[0].split("<h1>")[1]


def test_the_names_of_many_measures_do_not_make_a_name_that_no_disk_holds(tiny_run):
    stems = {gi.analyze(tiny_run, measures=list(gi.MEASURES)[:n], with_replay=False).stem for n in (20, 21)}
    assert len(stems) == 2
    assert all(len(stem) < 60 for stem in stems)


MISTAKES = [
    (["train", "modular_addtion", "--out", "{new}"], 2, "did you mean 'modular_addition'?"),
    (
        ["train", "modular_addition", "--p", "1", "--out", "{new}"],
        2,
        "task.p: input should be greater than or equal to 2, got 1",
    ),
    (["train", "modular_addition", "--preset", "quik", "--out", "{new}"], 2, "did you mean 'quick'?"),
    (
        ["train", "modular_addition", "--set", "training.lrr=1", "--out", "{new}"],
        2,
        "unknown key 'training.lrr'; did you mean 'lr'?",
    ),
    (
        ["train", "modular_addition", "--set", "training.fraction=1", "--out", "{new}"],
        2,
        "training.fraction: needs a number between 0 and 1",
    ),
    (
        ["train", "modular_addition", "--set", "training.fraction=0.00001", "--out", "{new}"],
        2,
        "leaves 0 to train on",
    ),
    (
        ["train", "modular_addition", "--set", "model.n_heads=3", "--out", "{new}"],
        2,
        "3 heads do not divide d_model 128",
    ),
    (["train", "modular_addition", "--set", "nonsense", "--out", "{new}"], 2, "needs KEY=VALUE"),
    (
        ["train", "modular_addition", "--p", "100000", "--out", "{new}"],
        2,
        "GB are free: choose fewer elements",
    ),
    (["train", "group_composition", "--set", "task.group=S99", "--out", "{new}"], 2, "choose fewer elements"),
    (
        ["train", "modular_addition", "--config", "{new}.toml", "--out", "{new}"],
        2,
        "cannot read the configuration",
    ),
    (
        ["train", "modular_addition", "--config", "x.toml", "--preset", "quick", "--out", "{new}"],
        2,
        "choose one",
    ),
    (["train", "modular_addition", "--out", "{file}"], 2, "is a file"),
    (["train", "modular_addition", "--out", "/proc/no/such"], 1, "cannot write"),
    (["train", "modular_addition"], 2, "--out is missing"),
    (["train"], 2, "Missing argument"),
    (["train", "modular_addition", "--set", "lr=1", "--out", "{new}"], 2, "did you mean 'training.lr'?"),
    (["train", "modular_addition", "--set", "p=7", "--dry-run"], 2, "did you mean 'task.p'?"),
    (
        ["train", "modular_addition", "--set", "training.d_model=8", "--out", "{new}"],
        2,
        "did you mean 'model.d_model'?",
    ),
    (["analyze", "{runs}"], 2, "runs holds 3 runs: run_2, run_10, sweep/seed_0; give one of them, such as "),
    (["verify", "{runs}"], 2, "give one of them"),
    (["analyze", "{new}"], 2, "it does not exist"),
    (["analyze", "{empty}"], 2, "it has no run.json"),
    (["analyze", "{file}"], 2, "it is no directory"),
    (["analyze", "{run}", "--step", "15"], 2, "no snapshot at step 15; the nearest are at 10 and 20"),
    (["analyze", "{run}", "--step", "-9"], 2, "has 3 snapshots"),
    (["analyze", "{run}", "--measure", "gini.W_F"], 2, "did you mean 'gini.W_"),
    (["analyze", "{run}", "--out", "/proc/no/such"], 1, "cannot write"),
    (["verify", "{empty}"], 2, "holds no run"),
    (["list", "measure"], 2, "did you mean 'measures'?"),
    (
        ["list", "measures", "qqq"],
        2,
        "no measure mentions 'qqq'; `grokinterp list measures` has the ",
    ),
]


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    MISTAKES,
    ids=lambda value: " ".join(value)[:60] if isinstance(value, list) else "",
)
def test_a_mistake_gets_one_clear_line(grokinterp, tiny_run, tmp_path, arguments, code, says):
    places = {
        "new": tmp_path / "new",
        "empty": tmp_path / "empty",
        "file": tmp_path / "file",
        "run": tiny_run.path,
        "runs": tmp_path / "runs",
    }
    for inside in ("run_10", "run_2", "sweep/seed_0", ".begun"):
        (places["runs"] / inside).mkdir(parents=True)
        (places["runs"] / inside / "run.json").write_text("{}")
    places["empty"].mkdir()
    places["file"].write_text("not a run")
    found, stdout, stderr = grokinterp(*(argument.format(**places) for argument in arguments))
    assert found == code
    assert says in " ".join(stderr.replace("│", " ").split())
    assert "Traceback" not in stderr
    assert stdout == ""
    assert not places["new"].exists()
    if "Missing argument" not in says:
        assert stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (
            ["random_table", "--p", "7"],
            "random_table will not be learned to 99 % of the unseen examples: every answer is drawn by "
            "chance",
        ),
        (["modular_subtraction", "--p", "7"], "its recipe was tuned with task.p=97, not with task.p=7"),
        (
            ["modular_addition", "--p", "7", "--set", "model.d_model=16"],
            "tuned with task.p=113, not with task.p=7",
        ),
        (["group_aba", "--set", "task.group=S3"], "tuned with task.group=S4, not with task.group=S3"),
        (["random_table", "--p", "7", "--preset", "quick"], None),
        (["random_table", "--p", "7", "--config", "{config}"], None),
    ],
)
def test_a_recipe_that_does_not_learn_its_task_says_so_before_it_trains(
    grokinterp, tmp_path, arguments, says
):
    (tmp_path / "c.toml").write_text("[model]\nd_model = 16\n")
    given = [argument.format(config=tmp_path / "c.toml") for argument in arguments]
    steps = [
        "--set=training.steps=2",
        "--set=training.stop_when=",
        "--threads",
        "1",
        "--out",
        tmp_path / "run",
    ]
    code, stdout, stderr = grokinterp("train", *given, *steps)
    assert (code, "step 2" in stdout) == (0, True)
    lines = [line for line in stderr.splitlines() if "learned" in line]
    assert (lines == []) if says is None else (says in lines[0] and len(lines) == 1)


def test_without_a_preset_a_task_is_trained_by_its_own_recipe(grokinterp, tmp_path):
    short = ["--set=training.steps=2", "--set=training.stop_when=", "--threads", "1"]
    assert grokinterp("train", "modular_division", *short, "--out", tmp_path / "run")[0] == 0
    config = gi.load_run(tmp_path / "run").config
    overrides = {"training.steps": 2, "training.stop_when": None, "threads": 1}
    assert config == gi.TrainConfig.of_task("modular_division", **overrides)
    rows = json.loads(grokinterp("list", "tasks", "--json")[1])
    assert {row["task"]: row["recipe"] for row in rows}["modular_division"] == "doshi"


def test_a_flipped_byte_is_named_with_file_and_step(grokinterp, tiny_run):
    file = tiny_run.path / "snapshots" / "step_00000010.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    for command in (["verify", tiny_run.path], ["analyze", tiny_run.path, "--step", "10"]):
        code, _, stderr = grokinterp(*command)
        assert code == 1
        assert "step_00000010.safetensors (step 10) is damaged" in stderr
        assert "Traceback" not in stderr
    assert grokinterp("analyze", tiny_run.path)[0] == 0
    assert "step_00000010.safetensors (step 10) is damaged" in (tiny_run.path / "report.html").read_text()


def test_an_unexpected_error_is_one_line_and_its_traceback_is_kept_for_debug(
    grokinterp, tiny_run, monkeypatch
):
    def broken(path):
        raise RuntimeError("what nobody\nexpected")

    monkeypatch.setattr("grokinterp.runs.load_run", broken)
    code, _, stderr = grokinterp("verify", tiny_run.path)
    assert code == 1
    assert stderr == "grokinterp: RuntimeError: what nobody expected; `grokinterp --debug ...` shows where\n"
    with pytest.raises(RuntimeError):
        grokinterp("--debug", "verify", tiny_run.path)


def test_a_locked_run_exits_with_3_and_names_the_holder(grokinterp, tmp_path):
    out = tmp_path / "run"
    flags = [
        "modular_addition",
        "--preset",
        "quick",
        *TINY_FLAGS,
        "--set=training.steps=1000000",
        "--out",
        str(out),
    ]
    first = subprocess.Popen([str(Path(sys.executable).with_name("grokinterp")), "train", *flags])
    try:
        wait_for(lambda: (out / "manifest.jsonl").exists())
        code, _, stderr = grokinterp("train", *flags)
        assert code == 3
        assert f"pid {first.pid}" in stderr
        assert os.uname().nodename in stderr
    finally:
        first.kill()
        first.wait()


def test_a_config_file_and_flags_give_the_configuration(grokinterp, tmp_path):
    file = tmp_path / "config.toml"
    file.write_text(
        '[task]\nname = "modular_addition"\np = 5\n[model]\nd_model = 8\n[training]\nsteps = 3\nlr = 0.5\n'
    )
    assert (
        grokinterp(
            "train",
            "modular_subtraction",
            "--config",
            file,
            "--set",
            "training.lr=0.25",
            "--out",
            tmp_path / "run",
        )[0]
        == 0
    )
    config = gi.load_run(tmp_path / "run").config
    assert (config.task["name"], config.task["p"], config.training.lr, config.training.steps) == (
        "modular_subtraction",
        5,
        0.25,
        3,
    )


def wait_for(condition, seconds: float = 600) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.05)
