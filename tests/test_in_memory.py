"""A report, and every measure, of a network in memory: without a run directory, with its hooks in force."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch

import grokinterp as gi
from grokinterp import controls
from grokinterp.errors import UsageError
from test_any_task import text_of

FEW = ["loss", "accuracy", "gini.W_E", "restricted_loss.logit_dirs", "noise.profile"]


@pytest.fixture(scope="module")
def kept(quick_run):
    """The report on the run itself."""
    return gi.analyze(quick_run, with_replay=False)


@pytest.fixture(scope="module")
def report(quick_run):
    """The report on the same network, handed over as a model."""
    return gi.analyze(quick_run.model(-1), quick_run.task, split=quick_run.split)


def test_a_network_in_memory_has_the_numbers_of_its_run(report, kept):
    in_memory, of_run = report.to_dict(), kept.to_dict()
    assert in_memory["measures"].keys() == of_run["measures"].keys()
    for name, value in kept.analysis.values.items():
        np.testing.assert_allclose(
            np.asarray(report.analysis.values[name], float), np.asarray(value, float), rtol=1e-5, atol=1e-8
        )
    for what in ("state", "generalised", "key_frequencies", "skipped"):
        assert in_memory[what] == of_run[what]
    verdicts = [[(claim["claim"], claim["verdict"]) for claim in of["claims"]] for of in (in_memory, of_run)]
    assert verdicts[0] == verdicts[1]


def test_what_is_not_known_of_it_is_not_said(report, tmp_path):
    values = report.to_dict()
    assert values["run"]["seed"] is None
    assert (values["step_known"], values["phases"], values["training"]["spikes"]) == (False, {}, [])
    assert repr(report) == "<Report of a network in memory at step unknown: generalises>"
    report.save_html(tmp_path / "report.html")
    report.save_json(tmp_path / "report.json")
    page = text_of((tmp_path / "report.html").read_text())
    assert "a network in memory, step unknown" in page
    assert "in memory, without a run directory" in page
    assert "d_model 64" in page  # its sizes, which it has itself
    for words in ("weight decay", "weights from seed", "cross_entropy", "imported", "not trained yet"):
        assert words not in page


def test_without_a_split_nothing_is_said_of_training_examples(quick_run):
    report = gi.analyze(quick_run.model(-1), quick_run.task, measures=FEW)
    assert set(report.to_dict()["loss"]) == {"all"}
    assert report.to_dict()["state"] == "not known"


def test_a_step_that_was_given_is_said(quick_run):
    model, task = quick_run.model(-1), quick_run.task
    assert "step 1,200:" in repr(gi.analyze(model, task, measures=["loss"], step=1200))
    view = gi.view(model, task, step=7)
    assert "step 7:" in repr(gi.analyze(view, measures=["loss"]))
    assert "step 7:" in repr(gi.analyze(view, step=7, measures=["loss"]))


def test_hooks_of_the_network_are_in_force(quick_run):
    model = quick_run.model(-1)
    with model.hooks([("blocks.0.attn.hook_z", lambda z, hook: z * 0)]):
        ablated = gi.analyze(model, quick_run.task, split=quick_run.split, measures=["loss"])
    whole = gi.analyze(model, quick_run.task, split=quick_run.split, measures=["loss"])
    loss = ablated.to_dict()["loss"]["test"]
    assert loss > 100 * whole.to_dict()["loss"]["test"]
    view = gi.view(model, quick_run.task, split=quick_run.split)
    view.model.add_hook("blocks.0.attn.hook_z", lambda z, hook: z * 0)
    assert gi.measure("loss", gi.view(model, quick_run.task, split=quick_run.split)).sel(
        part="test"
    ) == pytest.approx(loss)


def test_a_task_without_a_name_can_be_analysed():
    task = gi.Task.of_function(lambda a, b: (a * a + b) % 7, 7)
    model = controls.random_network(7).model
    report = gi.analyze(model, task, split=(range(20), torch.arange(20, 49)))
    assert report.to_dict()["loss"].keys() == {"train", "test", "all"}
    assert report.to_dict()["task"]["examples"] == 49
    assert "<html" in report.to_html()


def test_every_measure_comes_from_one_call(quick_run, kept):
    values = gi.measure_all(quick_run)
    assert dict(values).keys() == kept.analysis.values.keys()
    assert values.skipped == kept.analysis.skipped
    assert values["gini.W_E"] == gi.measure("gini.W_E", quick_run.view(-1))
    few = gi.measure_all(gi.view(quick_run), measures=["gini.W_E", "noise.profile"], keys=[1])
    assert (list(few), list(few.skipped)) == (["gini.W_E"], ["noise.profile"])
    assert repr(few) == "<Values of 1 measure, 1 skipped>"
    assert few.table.loc["gini.W_E", "unit"] == "1"


def test_paths_and_runs_are_taken_where_a_run_or_a_view_is_asked_for(quick_run):
    path, view = quick_run.path, quick_run.view(-1)
    assert gi.measure("gini.W_E", path) == gi.measure("gini.W_E", view) == gi.measure("gini.W_E", quick_run)
    assert gi.measure("gini.W_E", view=str(path)) == gi.measure("gini.W_E", view)
    assert gi.key_frequencies(str(path)).consensus == gi.key_frequencies(view).consensus
    assert gi.view(path).step == view.step
    assert gi.view(quick_run, step=0).step == 0
    assert gi.view(view) is view
    assert gi.ablate(path, "mlp").after == gi.ablate(view, "mlp").after
    assert gi.replay(path, ["gini.W_E"], [-1]).identical(gi.replay(quick_run, ["gini.W_E"], [-1]))
    at_0 = [gi.analyze(path, 0, FEW, with_replay=False), gi.analyze(quick_run, step=0, measures=FEW)]
    assert [report.to_dict()["step"] for report in at_0] == [0, 0]
    assert gi.compare([path]).to_dict() == gi.compare(quick_run).to_dict()


WRONG = """
import grokinterp as gi
from grokinterp import controls
view = controls.random_network(7)
run, model, task, weights = sys.argv[1], view.model, view.task, view.model.state_dict()
calls = {
    "view of weights": lambda: gi.view(weights, task),
    "view without a task": lambda: gi.view(model),
    "view of no hooks": lambda: gi.view(torch.nn.Linear(2, 2), task),
    "replay of a view": lambda: gi.replay(view),
    "replay of a network": lambda: gi.replay(model),
    "replay of several": lambda: gi.replay([run, run]),
    "replay of nothing": lambda: gi.replay("nowhere"),
    "plateaus of a view": lambda: gi.plateaus(view),
    "measure of a network": lambda: gi.measure("loss", model),
    "measure of a number": lambda: gi.measure("loss", 3),
    "keys of weights": lambda: gi.key_frequencies(weights),
    "analyze a network alone": lambda: gi.analyze(model),
    "analyze a run and a task": lambda: gi.analyze(run, task),
    "analyze a view and a task": lambda: gi.analyze(view, task),
    "analyze a view at another step": lambda: gi.analyze(view, step=3),
    "analyze weights": lambda: gi.analyze(weights, task),
    "analyze a configuration": lambda: gi.analyze(gi.TrainConfig.preset("quick")),
    "a split of other rows": lambda: gi.analyze(model, task, split=([1, 2], [2, 3])),
    "compare a view": lambda: gi.compare([view]),
}
for name, call in calls.items():
    try:
        call()
    except gi.GrokinterpError as error:
        print(f"{name}: {error}")
"""


def test_what_cannot_be_taken_is_said_in_one_line(quick_run):
    """In a process of its own, where nothing checks annotations before."""
    code = "import sys, torch\n" + WRONG
    done = subprocess.run(
        [sys.executable, "-c", code, str(quick_run.path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    said = dict(line.split(": ", 1) for line in done.stdout.splitlines())
    expected = {
        "view of weights": "gi.view needs a hooked network and its task, got weights alone: load them into",
        "view without a task": "gi.view needs the task of the network, which gi.make_task(name, ...) makes",
        "view of no hooks": "gi.view needs a hooked network and its task, got a Linear without hooks",
        "replay of a view": "gi.replay needs a run or its directory, got a View: gi.measure_all(view)",
        "replay of a network": "gi.replay needs a run or its directory, got a network: gi.view(",
        "replay of several": "gi.replay needs a run or its directory, got several: give one",
        "replay of nothing": "nowhere holds no run: it does not exist",
        "plateaus of a view": "gi.plateaus needs a run or its directory, got a View",
        "measure of a network": "gi.measure needs a View, or a run, got a network: gi.view(network, task)",
        "measure of a number": "gi.measure needs a View, or a run, got 3",
        "keys of weights": "gi.key_frequencies needs a View, or a run, got weights alone",
        "analyze a network alone": "gi.analyze needs the task of a network: give gi.analyze(network, task)",
        "analyze a run and a task": "gi.analyze: a run has its own task and split: leave them out",
        "analyze a view and a task": "gi.analyze: a View has its own task, split and step: leave them out",
        "analyze a view at another step": "gi.analyze: a View has its own task, split and step",
        "analyze weights": "gi.analyze needs a hooked network and its task, got weights alone",
        "analyze a configuration": "gi.analyze needs a hooked network and its task, got a configuration",
        "a split of other rows": "split: needs row numbers from 0 to 48 of the task's sample",
        "compare a view": "gi.compare needs runs or their directories, got a View: gi.measure_all(view)",
    }
    assert said.keys() == expected.keys()
    for name, words in expected.items():
        assert said[name].startswith(words), (name, said[name])


def test_a_view_with_hooks_is_measured_by_one_thread(quick_run):
    """Measures put hooks of their own on the one network that there is."""
    view = gi.view(quick_run.model(-1), quick_run.task, split=quick_run.split)
    assert not view.side_by_side
    torch.set_num_threads(4)
    try:
        names = ["ablation.heads", "ablation.skip.attention", "loss", "node_ablation.mean"]
        several = gi.measure_all(view, measures=names)
    finally:
        torch.set_num_threads(1)
    for name, value in several.items():
        fresh = gi.view(quick_run.model(-1), quick_run.task, split=quick_run.split)
        np.testing.assert_allclose(value, gi.measure(name, fresh), rtol=1e-6, atol=1e-9)


def test_an_unknown_measure_names_the_nearest(quick_run):
    with pytest.raises(UsageError, match=r"did you mean 'gini\.W_L'"):
        gi.measure_all(quick_run, measures=["gini.W_F"])
