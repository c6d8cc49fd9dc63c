"""What a user sets as torch's defaults changes no run, and no number that is read off one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

import grokinterp as gi
from grokinterp import controls
from grokinterp.runs import many


@contextmanager
def default_device() -> Iterator[None]:
    torch.set_default_device("meta")
    try:
        yield
        assert torch.get_default_device().type == "meta"
    finally:
        torch.set_default_device(None)


@contextmanager
def device_of_a_block() -> Iterator[None]:
    with torch.device("meta"):
        yield
        assert torch.empty(1).is_meta


@contextmanager
def default_dtype() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    try:
        yield
        assert torch.empty(1).dtype == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


DEFAULTS = [default_device, device_of_a_block, default_dtype]
WAYS: dict[str, dict[str, Any]] = {
    "folded": {},
    "minibatches": {"training.batch_size": 16},
    "layers": {"model.n_layers": 2, "model.normalization": "LN", "model.init": "transformer_lens"},
    "muon": {"training.optimizer": "muon"},
    "in parts": {"training.accumulate": 2},
    "monitored": {"monitor": ("gini.W_E", "restricted_loss.logit_dirs")},
    "noise": {"task.noise": {"kind": "uniform", "share": 0.2}},
    "fresh digits": {
        "task": {"name": "digit_addition", "n": 2},
        "training.data": "fresh",
        "training.batch_size": 8,
    },
    "images": {"preset": "patch_vit", "model.d_model": 8, "model.n_heads": 2, "task.examples": 64},
    "mlp": {"model": {"kind": "mlp", "d_mlp": 16}},
}


def tiny(**changes: Any) -> gi.TrainConfig:
    values = {"training.steps": 4, "snapshots.every": 2, "threads": 2, "training.stop_when": None, **changes}
    if (preset := values.pop("preset", None)) is None:
        sizes = {"task.p": 11, "model.d_model": 8, "model.n_heads": 2, "model.d_mlp": 16}
        preset, values = "quick", sizes | values
    return gi.TrainConfig.preset(preset, **values)


def contents(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}


@pytest.mark.parametrize("way", WAYS)
def test_a_run_has_the_same_bytes_whatever_torchs_defaults_are(tmp_path, way):
    config = tiny(**WAYS[way])
    gi.train(config, tmp_path / "plain", progress=False)
    for number, defaults in enumerate(DEFAULTS):
        with defaults():
            gi.train(config, tmp_path / str(number), progress=False)
        assert contents(tmp_path / str(number)) == contents(tmp_path / "plain"), defaults.__name__


def test_runs_that_are_stacked_have_the_same_bytes_whatever_torchs_defaults_are(tmp_path, monkeypatch):
    monkeypatch.setattr(many, "_device_type", lambda config: "cuda")

    def trained(name: str) -> dict[str, bytes]:
        gi.train_many(tiny(), tmp_path / name, seeds=[0, 1], progress=False)
        return contents(tmp_path / name)

    plain = trained("plain")
    for defaults in DEFAULTS:
        with defaults():
            assert trained(defaults.__name__) == plain


@pytest.mark.parametrize("defaults", DEFAULTS)
def test_what_is_read_off_a_run_does_not_depend_on_torchs_defaults(tmp_path, defaults):
    run = gi.train(tiny(), tmp_path, progress=False)
    asked: dict[str, Callable[[gi.Run], Any]] = {
        "logits": lambda run: run.view(-1).logits.tolist(),
        "losses": lambda run: float(gi.measure("loss", run.view(-1)).sum()),
        "keys": lambda run: gi.key_frequencies(run.view(-1)).consensus,
        "weights": lambda run: {name: x.tolist() for name, x in run.state_dict(2).items()},
        "model": lambda run: run.model(-1)(run.task.inputs.cpu()[:2]).tolist(),
        "replay": lambda run: gi.replay(run, ["gini.W_E"], progress=False)["gini.W_E"].values.tolist(),
    }
    plain = {name: ask(gi.load_run(tmp_path)) for name, ask in asked.items()}
    for file in (run.path / "replay").iterdir():
        file.unlink()
    with defaults():
        for name, ask in asked.items():
            assert str(ask(gi.load_run(tmp_path))) == str(plain[name]), name


TASKS: dict[str, dict[str, Any]] = {
    "modular_addition": {"p": 7, "noise": {"kind": "uniform", "share": 0.2}},
    "plain_division": {"p": 7},
    "group_composition": {"group": "S3"},
    "digit_addition": {"n": 2, "examples": 64, "per_class": 4},
    "line_images": {"examples": 64},
    "matrix_transpose": {"examples": 64},
    "eigenvalues": {"examples": 16},
}


def computed(of: object, names: dict[str, Any]) -> dict[str, Any]:
    """What is computed when an object is asked for it, and by these calls; why, where there is nothing."""
    for cls in type(of).__mro__:
        for name, one in vars(cls).items():
            if not name.startswith("_") and (isinstance(one, property) or hasattr(one, "func")):
                names.setdefault(name, lambda name=name: getattr(of, name))
    found = {}
    for name, ask in names.items():
        try:
            found[name] = ask()
        except gi.GrokinterpError as error:
            found[name] = str(error)
    return found


def of_tasks_and_views() -> dict[str, dict[str, Any]]:
    made = {name: gi.make_task(name, **options) for name, options in TASKS.items()}
    made["function"] = gi.Task.of_function(lambda a, b: (a * b) % 5, 5)
    made["arrays"] = gi.arrays([[0.0, 1.0], [2.0, 3.0]], [0, 1], {"size": [1.0, 2.0]})
    answers = {name: lambda task=task: task.right(task.sample.answers) for name, task in made.items()}
    found = {name: computed(task, {"right()": answers[name]}) for name, task in made.items()}
    views = {
        "clock": controls.clock(7, (2,)),
        "gromov": controls.gromov(7, 16),
        "adder": controls.adder(2, examples=64, per_class=4),
    }
    views["of a network"] = gi.view(views["clock"].model, views["clock"].task, split=([0, 1], [2, 3]))
    for name, view in views.items():
        asked = {
            "loss()": view.loss,
            "right()": view.correct,
            "rows()": lambda view=view: view.rows("train"),
            "on()": lambda view=view: view.on(view.task).logits,
            "activations()": lambda view=view: view.activations(["hook_embed"]),
            "ablate": lambda view=view: gi.ablate(view, "mlp", how="resample", draws=2).after,
            "one head": lambda view=view: gi.ablate(view, "head", (0, 0)).after,
            "frequencies": lambda view=view: gi.ablate(view, "frequencies", [2]).after,
        }
        found[name] = computed(view, asked)
    return found


def plain(value: Any) -> Any:
    """What can be compared; of an object that is made anew nothing."""
    if isinstance(value, torch.Tensor):
        assert value.is_cpu
        return value.tolist(), value.dtype
    if isinstance(value, dict):
        return {str(name): plain(item) for name, item in value.items()}
    return value if isinstance(value, str | int | float | bool) else None


@pytest.mark.parametrize("device", ["meta", "cuda"])
def test_tasks_views_and_ablations_do_not_depend_on_the_default_device(device):
    """Neither on one without numbers nor, where there is none, on one that is not there."""
    usual = of_tasks_and_views()
    torch.set_default_device(device)
    try:
        other = of_tasks_and_views()
    finally:
        torch.set_default_device(None)
    for name, found in usual.items():
        for what, value in found.items():
            assert str(plain(other[name][what])) == str(plain(value)), (name, what)
