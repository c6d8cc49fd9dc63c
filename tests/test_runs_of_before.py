"""Run directories that an earlier version wrote still open, verify, resume, and mean what they meant."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import grokinterp as gi

BEFORE = Path(__file__).parent / "runs_of_before"
SAID = json.loads((BEFORE / "said.json").read_text())
NAMES = sorted(SAID)


@pytest.fixture
def run_of(tmp_path):
    """A copy of one of them."""
    return lambda name: gi.load_run(shutil.copytree(BEFORE / name, tmp_path / name))


def alike(before: Any, after: Any, at: str = "") -> None:
    """Asserts that two JSON values are the same, numbers to 1e-6."""
    if isinstance(before, dict):
        assert before.keys() <= after.keys(), at
        for key, value in before.items():
            alike(value, after[key], f"{at}/{key}")
    elif isinstance(before, list):
        assert len(before) == len(after), at
        for i, (one, other) in enumerate(zip(before, after, strict=True)):
            alike(one, other, f"{at}/{i}")
    elif isinstance(before, float) and not isinstance(after, bool):
        assert after == pytest.approx(before, rel=1e-6, abs=1e-9), at
    else:
        assert (None if isinstance(after, float) and math.isnan(after) else after) == before, at


def test_all_of_them_are_here():
    assert sorted(path.parent.name for path in BEFORE.glob("*/run.json")) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_the_command_verifies_analyses_and_replays_it(grokinterp, run_of, tmp_path, name):
    path = run_of(name).path
    for command, wrote in (("verify", None), ("analyze", "report.html"), ("replay", "replay.html")):
        code, out, err = grokinterp(command, path)
        assert code == 0, err
        assert wrote is None or (path / wrote).is_file(), out


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.filterwarnings("ignore")
def test_its_report_says_what_it_said(run_of, name):
    report = gi.analyze(run_of(name)).to_dict()
    report["measures"] = {measure: found["value"] for measure, found in report["measures"].items()}
    report["claims"] = {found["claim"]: found["verdict"] for found in report["claims"]}
    before = {**SAID[name]["report"]}
    if name == "group":  # of which nobody asks any more what frequencies it has
        gone = before["claims"].keys() - report["claims"].keys()
        assert len(gone) == 8
        assert {before["claims"][claim] for claim in gone} == {"not tested"}
        new = report["claims"].keys() - before["claims"].keys()  # about its representations
        assert {report["claims"].pop(claim) for claim in new} == {"not tested", "refuted"}  # it memorises
        before["claims"] = {claim: before["claims"][claim] for claim in report["claims"]}
    alike(before, report)


@pytest.mark.parametrize("name", NAMES)
def test_its_replay_shows_what_it_showed(run_of, name):
    data = gi.replay(run_of(name), progress=False)
    for variable, values in SAID[name]["replay"].items():
        expected = np.array(values, dtype=float)  # None is NaN
        np.testing.assert_allclose(
            data[variable].values.astype(float), expected, rtol=1e-6, atol=1e-9, err_msg=variable
        )


def test_one_that_was_stopped_goes_on_to_where_it_would_have_ended(run_of):
    run = run_of("stopped")
    assert run.finished is None
    whole = gi.train(run.config, run.path, progress=False)
    assert whole.steps == [0, 20, 40, 60]
    ended = whole.history.iloc[-1].to_dict()
    alike(SAID["stopped"]["resumed"], {key: float(value) for key, value in ended.items()})


def test_the_source_of_one_that_began_from_another_is_told(run_of):
    start = run_of("transferred").config.start
    assert start is not None
    assert (start.run, start.step) == ("quadratic", 150)
