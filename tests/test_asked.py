"""Whatever a public function is given, it takes it or says in one line what it needs: nothing that people
have at hand ends in an error of Python's."""

import subprocess
import sys

EVERYTHING = """
import pathlib, sys, types
import numpy as np
import torch
import grokinterp as gi
from grokinterp import controls

run, there = gi.load_run(sys.argv[1]), pathlib.Path(sys.argv[2])
view = controls.clock(13, (2, 5))
config, folder = run.config, str(run.path)
class Net(torch.nn.Module):
    pass
(there / "text.txt").write_text("no checkpoint")
torch.save({name: weight.float() for name, weight in view.weights.items()}, there / "weights.pt")
dataset, report = gi.replay(run, ["gini.W_E"], [-1]), gi.analyze(view, measures=["loss"])
new = (there / f"new_{number}" for number in range(10**6))
things = {
    "module": Net(), "parallel": torch.nn.DataParallel(view.model), "compiled": torch.compile(view.model),
    "state dict": view.model.state_dict(), "model": view.model, "view": view, "task": view.task,
    "name": "modular_addition", "section": {"name": "modular_addition", "p": 13}, "run": run,
    "folder": folder, "path": run.path, "no path": there / "none", "file": there / "text.txt",
    "Dataset": dataset, "DataFrame": run.history, "report": report, "config": config, "dict": {"a": 1},
    "runs": [run, run], "empty": [], "None": None, "0": 0, "whole": np.int64(0),
    "3.5": 3.5, "nan": float("nan"), "True": True,
    "tensor": torch.zeros(3, 3), "class": Net, "bytes": b"abc", "namespace": types.SimpleNamespace(p=13),
}
# What each takes, by name; the rest it refuses.
RUNS = "run folder path"
calls = {
    "view of": (lambda x: gi.view(x), f"view {RUNS}"),
    "view of with a task": (lambda x: gi.view(x, view.task), "model parallel compiled"),
    "view: task": (lambda x: gi.view(view.model, x), "task section"),
    "view: split": (lambda x: gi.view(view.model, view.task, split=x), "None"),
    "view: step": (lambda x: gi.view(view.model, view.task, step=x), "None 0 whole"),
    "analyze": (lambda x: gi.analyze(x, measures=["loss"], with_replay=False), f"view {RUNS}"),
    "analyze with a task": (
        lambda x: gi.analyze(x, view.task, measures=["loss"]), "model parallel compiled"
    ),
    "analyze: step": (lambda x: gi.analyze(run, ["loss"], step=x), ""),
    "analyze: measures": (lambda x: gi.analyze(run, measures=x, with_replay=False), "None empty"),
    "measure_all": (lambda x: gi.measure_all(x, measures="loss"), f"view {RUNS}"),
    "measure_all: keys": (lambda x: gi.measure_all(view, measures=["loss"], keys=x), "None empty"),
    "measure": (lambda x: gi.measure("gini.W_E", x), f"view {RUNS}"),
    "measure: name": (lambda x: gi.measure(x, view), ""),
    "measure: keys": (lambda x: gi.measure("restricted_loss.logit_dirs", view, keys=x), "None"),
    "key_frequencies": (lambda x: gi.key_frequencies(x), f"view {RUNS}"),
    "ablate": (lambda x: gi.ablate(x, "head", (0, 0)), f"view {RUNS}"),
    "ablate: what": (lambda x: gi.ablate(view, x), ""),
    "ablate: at": (lambda x: gi.ablate(view, "head", x), ""),
    "interchange": (lambda x: gi.interchange(x, None), ""),
    "interchange: hypothesis": (lambda x: gi.interchange(view, x), ""),
    "replay": (lambda x: gi.replay(x, ["gini.W_E"], [-1]), RUNS),
    "replay: measures": (lambda x: gi.replay(run, x, [-1]), "None empty"),
    "replay: steps": (lambda x: gi.replay(run, ["gini.W_E"], x), "None"),
    "plateaus": (lambda x: gi.plateaus(x), RUNS),
    "tidy": (lambda x: gi.tidy(x), "Dataset"),
    "compare": (lambda x: gi.compare(x), f"{RUNS} runs"),
    "compare several": (lambda x: gi.compare([run, x]), RUNS),
    "load_run": (lambda x: gi.load_run(x), "folder path"),
    "load_sweep": (lambda x: gi.load_sweep(x), ""),
    "sweep": (lambda x: gi.sweep(x, next(new), seeds="0,1", engine=list), None),
    "sweep: out": (lambda x: gi.sweep(config, x), None),
    "sweep: grid": (lambda x: gi.sweep(config, next(new), grid=x, engine=list), None),
    "sweep: engine": (lambda x: gi.sweep(config, next(new), seeds="0,1", engine=x), None),
    "sweep: options": (lambda x: gi.sweep(config, next(new), options=x), ""),
    "runs_in": (lambda x: gi.runs_in(x), "folder path"),
    "run.view": (lambda x: run.view(x), "0 whole"),
    "run.model": (lambda x: run.model(x), "0 whole"),
    "run.state_dict": (lambda x: run.state_dict(x), "0 whole"),
    "view.at": (lambda x: view.at(x), ""),
    "save_replay": (lambda x: gi.save_replay(x, next(new) / "a.html", steps=[-1]), RUNS),
    "save_replay: path": (lambda x: gi.save_replay(run, x, steps=[-1]), None),
    "save_html": (lambda x: report.save_html(x), None),
    "import": (lambda x: gi.import_checkpoint(x, next(new)), ""),
    "import: task": (
        lambda x: gi.import_checkpoint(there / "weights.pt", next(new), task=x, forensics=False),
        "None task section name",
    ),
    "import: layout": (lambda x: gi.import_checkpoint(there / "weights.pt", next(new), layout=x), ""),
    "show": (lambda x: gi.show(x), RUNS),
    "export": (lambda x: gi.export(x, "safetensors", next(new)), RUNS),
    "export: to": (lambda x: gi.export(run, x, next(new)), ""),
    "export: step": (lambda x: gi.export(run, "safetensors", next(new), step=x), "None 0 whole"),
    "record": (lambda x: gi.record(x, view.task, 1, next(new)), "model"),
    "record: task": (lambda x: gi.record(view.model, x, 1, next(new)), "task"),
    "record: step": (lambda x: gi.record(view.model, view.task, x, next(new)), "0 whole"),
    "train": (lambda x: gi.train(x, next(new)), None),
    "train: out": (lambda x: gi.train(config, x), None),
    "train: start": (lambda x: gi.train(config, next(new), start=x), "None run folder path"),
    "train: log": (lambda x: gi.train(config, run.path, log=x), "empty class module parallel compiled model"),
    "train_many": (lambda x: gi.train_many(x, next(new)), None),
    "train_many: seeds": (lambda x: gi.train_many(config, next(new), seeds=x), None),
    "make_task": (lambda x: gi.make_task(x), "name"),
    "make_task: p": (lambda x: gi.make_task("modular_addition", p=x), ""),
    "preset": (lambda x: gi.TrainConfig.preset(x), ""),
    "TrainConfig": (lambda x: gi.TrainConfig(task=x), "section"),
    "TrainConfig: lr": (lambda x: gi.TrainConfig(training={"lr": x}), "3.5"),
    "arrays": (lambda x: gi.arrays(x, [0, 1, 2]), "tensor"),
    "task": (lambda x: gi.task(x), ""),
    "register_measure": (lambda x: gi.register_measure(x, unit="1", ref="x"), "name folder"),
}
for name, (call, takes) in calls.items():
    for thing, given in things.items():
        if takes is None and not isinstance(given, (torch.nn.Module, dict, type(None), bytes, float, type)):
            continue  # which would be written, or trained
        try:
            call(given)
            said = "taken"
        except gi.GrokinterpError as error:
            said = "refused" if len(str(error)) < 2000 else f"a long message: {error}"
        except Exception as error:
            said = f"{type(error).__name__}: {error}"
        takes_it = thing in (takes or "").split()
        if said != ("taken" if takes_it else "refused"):
            print(f"{name}, given {thing}: {said}")
"""


def test_every_function_takes_what_it_is_given_or_says_in_a_line_what_it_needs(quick_run, tmp_path):
    """In a process of its own, where nothing checks annotations before; beside it, who takes what."""
    done = subprocess.run(
        [sys.executable, "-c", EVERYTHING, str(quick_run.path), str(tmp_path)],
        capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr[-2000:]
