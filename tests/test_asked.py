"""Whatever a public function is given, and however it is called, it takes it or says in one line what it
needs: nothing that people have at hand ends in an error of Python's."""

import inspect
import subprocess
import sys

import numpy as np
import pydantic
import pytest
import torch
from beartype.roar import BeartypeCallHintParamViolation

import grokinterp as gi
from grokinterp import controls
from grokinterp.asked import got

EVERYTHING = """
import copy, pathlib, sys, types
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
    "meta": torch.nn.Module.to(copy.deepcopy(view.model), "meta"), "cfg": view.model.cfg, "nul": "a\\0b",
    "weights": view.model.state_dict(), "model": view.model, "view": view, "task": view.task,
    "name": "modular_addition", "section": {"name": "modular_addition", "p": 13}, "run": run,
    "folder": folder, "path": run.path, "no path": there / "none", "file": there / "text.txt",
    "Dataset": dataset, "DataFrame": run.history[["step"]], "report": report, "config": config,
    "dict": {"a": 1}, "runs": [run, run], "empty": [], "None": None, "0": 0, "whole": np.int64(0),
    "text": "10", "huge": "x" * 10**5, "many": [[0.5] * 50] * 50, "True": True,
    "3.5": 3.5, "nan": float("nan"),
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
    "ablate: how": (lambda x: gi.ablate(view, "head", (0, 0), x), ""),
    "ablate: draws": (lambda x: gi.ablate(view, "mlp", draws=x), "0 whole"),
    "ablate: seed": (lambda x: gi.ablate(view, "head", (0, 0), seed=x), "0 whole"),
    "view.on": (lambda x: view.on(x), "task"),
    "view.rows": (lambda x: view.rows(x), ""),
    "view.loss": (lambda x: view.loss(x), "None"),
    "view.correct": (lambda x: view.correct(x), "None"),
    "view.with_weights": (lambda x: view.with_weights(x), "weights"),
    "View": (lambda x: gi.View(x, view.model), "task"),
    "View: model": (lambda x: gi.View(view.task, x), "model parallel compiled"),
    "interchange": (lambda x: gi.interchange(x, None), ""),
    "interchange: hypothesis": (lambda x: gi.interchange(view, x), ""),
    "replay": (lambda x: gi.replay(x, ["gini.W_E"], [-1]), RUNS),
    "replay: measures": (lambda x: gi.replay(run, x, [-1]), "None empty"),
    "replay: steps": (lambda x: gi.replay(run, ["gini.W_E"], x), "None"),
    "plateaus": (lambda x: gi.plateaus(x), RUNS),
    "tidy": (lambda x: gi.tidy(x), "Dataset"),
    "compare": (lambda x: gi.compare(x), f"{RUNS} runs"),
    "compare one and": (lambda x: gi.compare(run, x), RUNS),
    "compare several": (lambda x: gi.compare([run, x]), RUNS),
    "compare: by": (lambda x: gi.compare(run, by=x), "empty"),
    "load_run": (lambda x: gi.load_run(x), "folder path"),
    "load_sweep": (lambda x: gi.load_sweep(x), ""),
    "sweep": (lambda x: gi.sweep(x, next(new), seeds="0,1", engine=lambda work: iter(())), None),
    "sweep: out": (lambda x: gi.sweep(config, x), None),
    "sweep: grid": (lambda x: gi.sweep(config, next(new), grid=x, engine=lambda work: iter(())), None),
    "sweep: engine": (lambda x: gi.sweep(config, next(new), seeds="0,1", engine=x), None),
    "sweep: options": (lambda x: gi.sweep(config, next(new), options=x), ""),
    "runs_in": (lambda x: gi.runs_in(x), "folder path"),
    "run.view": (lambda x: run.view(x), "0 whole"),
    "run.model": (lambda x: run.model(x), "0 whole"),
    "run.model: dtype": (lambda x: run.model(-1, x), ""),
    "Run": (lambda x: gi.Run(x), "folder path"),
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
    "record": (lambda x: gi.record(x, view.task, 1, next(new)), "model parallel compiled"),
    "record: config": (
        lambda x: gi.record(view.model, view.task, 1, next(new), config=x), "cfg None"
    ),
    "record: task": (lambda x: gi.record(view.model, x, 1, next(new)), "task"),
    "record: step": (lambda x: gi.record(view.model, view.task, x, next(new)), "0 whole"),
    "train": (lambda x: gi.train(x, next(new)), None),
    "train: out": (lambda x: gi.train(config, x), None),
    "train: start": (lambda x: gi.train(config, next(new), start=x), "None run folder path"),
    "train: log": (
        lambda x: gi.train(config, run.path, log=x), "empty class module parallel compiled model meta"
    ),
    "train_many": (lambda x: gi.train_many(x, next(new)), None),
    "train_many: seeds": (lambda x: gi.train_many(config, next(new), seeds=x), None),
    "make_task": (lambda x: gi.make_task(x), "name"),
    "make_task: p": (lambda x: gi.make_task("modular_addition", p=x), "text"),
    "preset": (lambda x: gi.TrainConfig.preset(x), ""),
    "of_task": (lambda x: gi.TrainConfig.of_task(x), "name task"),
    "make": (lambda x: gi.TrainConfig.make(x), "None"),
    "from_toml": (lambda x: gi.TrainConfig.from_toml(x), ""),
    "TrainConfig": (lambda x: gi.TrainConfig(task=x), "section"),
    "TrainConfig: lr": (lambda x: gi.TrainConfig(training={"lr": x}), "text 3.5"),
    "arrays": (lambda x: gi.arrays(x, [0, 1, 2]), "tensor"),
    "arrays: factors": (
        lambda x: gi.arrays(torch.zeros(len(run.history), 2), run.history.index, x), "None DataFrame"
    ),
    "arrays: names": (lambda x: gi.arrays(torch.zeros(2, 2), [0, 1], names=x), "None"),
    "arrays: image": (lambda x: gi.arrays(torch.zeros(2, 2), [0, 1], image=x), "None"),
    "arrays: name": (lambda x: gi.arrays(torch.zeros(2, 2), [0, 1], name=x), "name folder text huge nul"),
    "task": (lambda x: gi.task(x), ""),
    "register_measure": (lambda x: gi.register_measure(x, unit="1", ref="x"), "name folder text huge nul"),
}
for name, (call, takes) in calls.items():
    for thing, given in things.items():
        if takes is None and not isinstance(given, (torch.nn.Module, dict, type(None), bytes, float, type)):
            continue  # which would be written, or trained
        try:
            call(given)
            said = "taken"
        except gi.GrokinterpError as error:
            said = "refused" if len(str(error)) < 800 else f"a long message: {error}"
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


OBJECTS = {
    "view": lambda run: controls.clock(7, (2,)),
    "run": lambda run: run,
    "task": lambda run: run.task,
    "config": lambda run: run.config,
    "report": lambda run: gi.analyze(run, measures=["loss"], with_replay=False),
    "comparison": lambda run: gi.compare(run),
}


def calls_of(of: object) -> dict[str, object]:
    """What one can call of an object, or of a class, that is not pydantic's."""
    cls = of if inspect.isclass(of) else type(of)
    names = [name for name in dir(cls) if not name.startswith("_") and not hasattr(pydantic.BaseModel, name)]
    static = {name: inspect.getattr_static(cls, name) for name in names}
    return {
        f"{of!r}.{name}": getattr(of, name)
        for name, one in static.items()
        if inspect.isfunction(getattr(one, "__func__", one))
    }


def test_a_call_that_cannot_be_says_in_a_line_how_it_is_written(quick_run):
    """Too many arguments, and one that there is not."""
    calls = {name: getattr(gi, name) for name in gi.__all__ if name not in ("GrokinterpError", "__version__")}
    for of in (gi.TrainConfig, *(make(quick_run) for make in OBJECTS.values())):
        calls |= calls_of(of)
    calls |= {name: one for name, one in vars(controls).items() if hasattr(one, "is_asked")}
    assert len(calls) > 80
    for name, call in calls.items():
        for args, options in (([None] * 40, {}), ([], {"xyzzy": 1})):
            # Of a class annotations are checked here before it is asked.
            any_number = name == "compare" or name.endswith(".command")
            if callable(call) and not (args and (any_number or inspect.isclass(call))):
                with pytest.raises((gi.GrokinterpError, BeartypeCallHintParamViolation)) as caught:
                    call(*args, **options)
                if isinstance(caught.value, gi.GrokinterpError):
                    assert len(str(caught.value)) < 400, (name, caught.value)


def test_how_a_function_is_called_is_written_as_python_takes_it():
    with pytest.raises(gi.GrokinterpError) as caught:
        gi.key_frequencies(controls.clock(7, (2,)), 3)
    assert str(caught.value) == (
        "gi.key_frequencies: too many positional arguments: write gi.key_frequencies(view)"
    )
    with pytest.raises(gi.GrokinterpError, match=r"write gi\.make_task\(name, name=value, \.\.\.\)$"):
        gi.make_task("modular_addition", 113)


def test_a_value_in_a_message_is_short():
    network = controls.clock(7, (2,)).model
    shown = {
        "nothing": None, "3": np.int64(3), "2.5": torch.tensor(2.5), "'a'": "a", "[1, 2]": [1, 2],
        "a network": network, "weights alone": network.state_dict(), "a long text": "x" * 99,
        "a long list": [0.5] * 40, "an object of type Tensor": torch.zeros(3), "{'a': 1}": {"a": 1},
        "a text with a null byte": "a\0b",
    }  # fmt: skip
    assert {got(given) for given in shown.values()} == shown.keys()
