"""What an analysis measures stays with the run, and is measured side by side; both change no number."""

from __future__ import annotations

import copy
import json
import shutil
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import torch

import grokinterp as gi
from grokinterp import controls
from grokinterp.errors import NotApplicable
from grokinterp.measures import MEASURES, Measure
from grokinterp.measures.base import once_per_view
from grokinterp.replay import cache
from grokinterp.replay.cache import Entry, Measured, workers

SOME = ("loss", "gini.W_E", "ablation.heads", "restricted_loss.logit_dirs", "clock_fit.pcs", "noise.profile")


@pytest.fixture
def run(quick_run, tmp_path):
    """A trained run of which nothing is kept."""
    shutil.copytree(quick_run.path, tmp_path / "run", ignore=shutil.ignore_patterns("replay"))
    return gi.load_run(tmp_path / "run")


@pytest.fixture
def counted(monkeypatch):
    """The names of the measures that are computed."""
    names, call = [], Measure.__call__

    def counting(self, view, **options):
        names.append(self.name)
        return call(self, view, **options)

    monkeypatch.setattr(Measure, "__call__", counting)
    return names


def values_of(report):
    return {
        name: value.tolist() for name, value in report.analysis.values.items() if hasattr(value, "dims")
    } | {name: value for name, value in report.analysis.values.items() if isinstance(value, float)}


def test_a_second_analysis_computes_no_measure_and_says_the_same(run, counted):
    first = gi.analyze(run, measures=SOME, with_replay=False)
    assert set(SOME) <= set(counted)
    counted.clear()
    second = gi.analyze(run, measures=SOME, with_replay=False)
    assert counted == []
    assert second.to_dict() == first.to_dict()
    assert second.analysis.skipped == first.analysis.skipped
    assert "noise.profile" in second.analysis.skipped
    for name, value in first.analysis.values.items():
        if not isinstance(value, float):
            assert second.analysis.values[name].identical(value)
            assert value.identical(gi.measure(name, run.view(-1))) or np.allclose(
                value, gi.measure(name, run.view(-1)), rtol=1e-12
            )


def test_a_replay_takes_what_an_analysis_kept_and_the_other_way_round(run, counted):
    gi.analyze(run, measures=["gini.W_E", "loss"], with_replay=False)
    counted.clear()
    gi.replay(run, ["gini.W_E"], steps=[-1])
    assert "gini.W_E" not in counted
    gi.replay(run, ["gini.W_L"], steps=[-1])
    counted.clear()
    gi.analyze(run, measures=["gini.W_L", "gini.W_E"], with_replay=False)
    assert not {"gini.W_L", "gini.W_E"} & set(counted)


def test_other_keys_other_code_and_another_snapshot_are_measured_anew(run, counted, monkeypatch):
    name = "restricted_loss.logit_dirs"
    found = gi.analyze(run, measures=[name], with_replay=False).analysis.values[name]
    counted.clear()
    asked = gi.analyze(run, measures=[name], keys=[1], with_replay=False).analysis.values[name]
    assert name in counted
    assert not np.allclose(asked, found)
    counted.clear()
    gi.analyze(run, step=0, measures=[name], with_replay=False)
    assert name in counted
    counted.clear()
    monkeypatch.setattr(cache, "code_hash", lambda: "another")
    gi.analyze(run, measures=[name], with_replay=False)
    assert name in counted


def test_a_run_that_cannot_be_written_is_analysed_all_the_same(run, counted, monkeypatch):
    from grokinterp.errors import WriteFailed

    def refuse(*_, **__):
        raise WriteFailed("read-only")

    monkeypatch.setattr(cache, "replace", refuse)
    first = gi.analyze(run, measures=["gini.W_E"], with_replay=False)
    counted.clear()
    second = gi.analyze(run, measures=["gini.W_E"], with_replay=False)
    assert "gini.W_E" in counted
    assert first.to_dict() == second.to_dict()


def test_attributes_of_a_value_are_kept(tmp_path, run):
    def with_count(view: object) -> object:
        from grokinterp.measures.base import array

        value = array([1.0, 2.0], "freq", freq=[1, 2]).assign_coords(wide=("freq", [4, 5]))
        return value.assign_attrs(examples=7)

    measure = Measure("of.a.test", "1", "here", with_count, gauge=("scale",))
    snapshot = Measured(run, run.steps[-1])
    snapshot.of_label(measure.name, lambda: measure(run.view(-1)))
    snapshot.save()
    again = Measured(run, run.steps[-1]).of_label(measure.name, lambda: pytest.fail("computed"))
    value = again.value(measure)
    assert value.identical(measure(run.view(-1)))
    assert value.attrs["examples"] == 7
    assert value.coords["wide"].values.tolist() == [4, 5]
    with pytest.raises(NotApplicable, match="why not"):
        Entry(None, [], {}, "why not").value(measure)


def test_a_measure_of_a_users_is_never_kept(run):
    calls = []

    def of_a_user(view: object) -> float:
        calls.append(view)
        return 1.0

    MEASURES.add("of.a.user", Measure("of.a.user", "1", "here", of_a_user))
    try:
        for _ in range(2):
            assert (
                gi.analyze(run, measures=["of.a.user"], with_replay=False).analysis.values["of.a.user"] == 1.0
            )
    finally:
        del MEASURES["of.a.user"]
    assert len(calls) == 2


# Threads


def test_what_measures_share_is_computed_once_on_however_many_threads():
    calls = []

    @once_per_view
    def slow(view):
        calls.append(threading.get_ident())
        time.sleep(0.05)
        return object()

    view = controls.random_network(7)
    torch.set_num_threads(4)
    try:
        with workers() as pool:
            found = list(pool.map(lambda _: slow(view), range(8)))
    finally:
        torch.set_num_threads(1)
    assert len(calls) == 1
    assert len(set(map(id, found))) == 1


def test_threads_hook_networks_of_their_own(quick_run):
    view = quick_run.view(-1)
    hook = "blocks.0.hook_resid_mid"

    def scaled(by):
        return view.activations([], [(hook, lambda x, hook: by * x)])["logits"]

    one_by_one = [scaled(by) for by in range(6)]
    torch.set_num_threads(3)
    try:
        with workers() as pool:
            together = list(pool.map(scaled, range(6)))
    finally:
        torch.set_num_threads(1)
    for alone, beside in zip(one_by_one, together, strict=True):
        torch.testing.assert_close(beside, alone, rtol=1e-12, atol=1e-12)


def test_a_view_can_be_copied_after_it_was_looked_at(quick_run):
    view = quick_run.view(-1)
    logits = view.logits
    assert torch.equal(copy.deepcopy(view).logits, logits)


def test_a_transformer_is_measured_without_transformer_lens(quick_run):
    code = (
        "import sys, grokinterp as gi\n"
        "view = gi.load_run(sys.argv[1]).view(-1)\n"
        "for name in sys.argv[2:]:\n"
        "    gi.measure(name, view)\n"
        "print('transformer_lens' in sys.modules)\n"
    )
    asked = [m.name for m in MEASURES.values() if m.applies_to(quick_run.task)]
    names = [
        n for n in asked if n.startswith(("ablation.", "clock_fit", "circuit.", "gradient_", "linear_a"))
    ]
    assert len(names) > 15
    command = [sys.executable, "-c", code, str(quick_run.path), *names]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == "False"


# What analyze said the last time


@pytest.fixture
def analyzed(run, tmp_path):
    """Runs `grokinterp analyze` in a process of its own; says what it printed, and whether torch was
    imported."""

    def analyze(*arguments, code=0):
        script = (
            "import sys\n"
            "from grokinterp.cli import main\n"
            "try: main()\n"
            "except SystemExit as left: sys.exit(left.code)\n"
            "finally: print('torch' in sys.modules, file=sys.stderr)\n"
        )
        command = [sys.executable, "-c", script, "analyze", str(run.path), "--no-replay", *arguments]
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
        assert ran.returncode == code, ran.stderr
        *said, torch_there = ran.stderr.split("\n")[:-1]
        return ran.stdout, torch_there == "True", said

    return analyze


SMALL = ("--measure", "gini.W_E")


def test_the_second_analyze_says_the_same_and_imports_no_torch(run, analyzed):
    first, computed, _ = analyzed(*SMALL)
    assert computed
    page = (run.path / "report-gini.W_E.html").read_bytes()
    second, computed, _ = analyzed(*SMALL)
    assert not computed
    assert second == first
    assert "Report: " in first
    assert (run.path / "report-gini.W_E.html").read_bytes() == page
    every, computed, _ = analyzed(*SMALL, "--all")
    assert not computed
    assert "gini.W_E" in every
    values, computed, _ = analyzed(*SMALL, "--json")
    assert not computed
    assert json.loads(values) == json.loads((run.path / "report-gini.W_E.json").read_text())


@pytest.mark.parametrize("what", ["page", "values gone", "another file", "another step", "a replay"])
def test_what_has_changed_is_analysed_anew(run, analyzed, what):
    first, _, _ = analyzed(*SMALL)
    page, values = (run.path / f"report-gini.W_E.{ending}" for ending in ("html", "json"))
    before, more = page.read_bytes(), ()
    if what == "page":
        page.write_bytes(before[:-1])
    elif what == "values gone":
        values.unlink()
    elif what == "another file":
        (run.path / "resume.old").write_text("")
    elif what == "another step":
        more = ("--step", "0")
    else:
        (run.path / "replay.html").write_text("a replay")
    again, computed, _ = analyzed(*SMALL, *more)
    assert computed
    assert page.exists()
    assert values.exists()
    assert (again == first) == (what != "another step")
    assert (page.read_bytes() == before) == (what != "a replay")


def test_a_damaged_snapshot_is_found_though_all_is_kept(run, analyzed):
    analyzed(*SMALL)
    snapshot = run.path / run.snapshot_files[-1]
    data = bytearray(snapshot.read_bytes())
    data[-1] ^= 1
    snapshot.write_bytes(data)
    _, _, said = analyzed(*SMALL, code=1)
    assert "is damaged" in said[-1]
