"""Somebody's own training loop -> a run directory like any other, one call a snapshot.

    for step in range(steps + 1):
        if step % 100 == 0:
            gi.record(model, task, step, out="runs/mine", split=(train, test))
        ...

Each call commits one snapshot and one evaluation, so that what was recorded outlives the loop. What the loop
does between them is not known here: optimiser, learning rate and the like stand in run.json as not known.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from ..asked import NETWORK, PATH, STEP, TASK, asks, got, network_inside
from ..errors import ConfigError, NotARun, UsageError
from ..models import (
    ModelConfig,
    NetworkConfig,
    Weights,
    carried_config,
    fits,
    network_config,
    refuse_without_numbers,
)
from ..runs import Run
from ..runs.files import Log, folder_named, locked, no_run_in, replace, writing
from ..runs.record import new_record, packed_snapshot, stored_split, write_record
from ..runs.run import task_hash
from ..tasks import Rows, Split, Task, make_task, split_of
from ..training import TrainConfig
from ..training.trainer import metrics_of
from ..view import View

if TYPE_CHECKING:
    from ..models import HookedRootModule

_LIKE = 1e-4
"""How far apart logits may be from those of the configuration, as a share of the largest."""
_LAYOUT = "in memory"
"""What stands in run.json for the layout of a file."""
_FEW = 64
"""Examples on which they are compared."""


@asks("gi.record", model=NETWORK, task=TASK, step=STEP, out=PATH)
def record(
    model: HookedRootModule,
    task: Task,
    step: int,
    out: str | Path,
    *,
    split: Split | tuple[Rows, Rows] | None = None,
    config: Any = None,
    **metrics: Any,
) -> Run:
    """Adds a snapshot of a network to a run directory, which the first call makes, and gives the run.

    Args:
        model: a HookedTransformer, or another hooked network whose section [model] is given as `config`;
            inside torch.compile or DataParallel, the one that is in there. It is left as it is.
        task: a task that is known by name.
        step: the optimiser updates that it has had: more than at the call before.
        out: the run directory.
        split: the row numbers of the task's sample that it is trained on, and those that it is tested on.
        config: the section [model], where the network is no HookedTransformer; or a HookedTransformerConfig,
            as such a network has one in `model.cfg`.
        metrics: what the loop has measured, such as train_loss; losses (nats) and accuracies of both parts
            are measured here where the split is known and they are not given.

    Raises:
        UsageError: the task is not known by name, the network is none that its configuration describes or
            does not take the task, the rows are none of its sample, or the step does not come after the last
            one.
        NotARun: the directory holds another run.
        RunLocked: another process is recording there.
        WriteFailed: the disk is full or read-only.
    """
    folder, step = folder_named(out), operator.index(step)
    model = cast("HookedRootModule", network_inside(model))
    refuse_without_numbers(model)
    rows = None if split is None else split_of(split, task.n_inputs)
    shaped = _config(model, config)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with locked(folder, lambda holder: f"{folder}: another process is writing this run: wait for it"):
        if (folder / "run.json").exists():
            run = _same_run(folder, task, rows, shaped)
        else:
            run = _new_run(folder, model, task, rows, shaped)
        if run.steps and step <= run.steps[-1]:
            what = f"{folder} was recorded up to step {run.steps[-1]:,}, so step {step:,} cannot come next"
            raise UsageError(f"{what}: record a later step, or begin in another directory")
        weights = _weights(model)
        measured = _measured(task, run.config.model, weights, run.split)
        evaluation = {**measured, **_numbers(metrics), "step": step}
        data, line = packed_snapshot(step, weights)
        replace(folder / line["file"], data)
        for name, entry in (("metrics.jsonl", evaluation), ("manifest.jsonl", line)):
            _append(folder / name, entry)
    return Run(folder)


def _append(path: Path, entry: Mapping[str, Any]) -> None:
    """Adds a line to a log, unless a call that was cut off has written that of this step."""
    with closing(Log(path)) as log:
        if not log.records or log.records[-1]["step"] != entry["step"]:
            log.append(entry)
        log.sync()


def _config(model: HookedRootModule, config: object) -> NetworkConfig:
    if isinstance(config, NetworkConfig):
        return config
    if isinstance(config, Mapping):
        return network_config(config)
    if config is not None and not hasattr(config, "d_model"):
        needed = "a section [model] such as {'kind': 'mlp', 'd_mlp': 64}, or a HookedTransformerConfig"
        raise UsageError(f"gi.record: config: needs {needed}, got {got(config)}")
    if config is None and (known := carried_config(model)) is not None:
        return known
    try:
        return ModelConfig.of_hooked(model.cfg if config is None else config)
    except AttributeError:
        what = f"the network is a {type(model).__name__} and no HookedTransformer"
        raise UsageError(f"{what}: say what it is with config=, a section [model]") from None


def _weights(model: HookedRootModule) -> Weights:
    return {name: parameter.detach().cpu().clone() for name, parameter in model.named_parameters()}


def _same_run(folder: Path, task: Task, rows: Split | None, config: NetworkConfig) -> Run:
    run = Run(folder)
    if not run.imported or run.imported["layout"] != _LAYOUT:
        other = "that was not recorded from a loop"
    elif task_hash(run.task) != task_hash(task):
        other = f"of {run.task.symbol} ({run.task.name})"
    elif run.config.model != config:
        other = f"of another network, {run.config.model}"
    elif rows is not None and run.split is not None and not torch.equal(rows.train, run.split.train):
        other = "on another training set"
    else:
        return run
    raise NotARun(f"{folder} holds a run {other}: choose another directory")


def _new_run(
    folder: Path, model: HookedRootModule, task: Task, rows: Split | None, config: NetworkConfig
) -> Run:
    try:
        is_known = task_hash(make_task(task.name, **task.params)) == task_hash(task)
    except ConfigError:
        is_known = False
    if not is_known:
        what = f"the task {task.name!r} cannot be made again from its name and parameters"
        raise UsageError(f"{what}: register it with @gi.task, and give what make_task makes")
    weights = _weights(model)
    fits(weights, config.shapes(task.reads))
    _refuse_other_logits(model, task, config, weights)
    if any(entry.name != "lock" for entry in folder.iterdir()):
        raise no_run_in(folder)
    section = {"name": task.name, **task.params}
    settings = TrainConfig.make({"task": section, "model": config.model_dump(exclude_none=True)})
    origin = {
        "file": "a training loop",
        "layout": _LAYOUT,
        "training": {},
        "split": "given" if rows else "not given",
        "unknown_steps": [],
        "assumed": ["recorded from a training loop: how it trained is not known"],
    }
    with writing(folder):
        (folder / "snapshots").mkdir()
    content = new_record(settings, task, rows, imported=origin)
    if rows is not None:
        content["split"] |= stored_split(folder, rows)
    write_record(folder, content)
    return Run(folder)


def _refuse_other_logits(
    model: HookedRootModule, task: Task, config: NetworkConfig, weights: Mapping[str, Tensor]
) -> None:
    """
    Raises:
        UsageError: the network does not compute what its configuration describes.
    """
    inputs, device = task.inputs[:_FEW], next(model.parameters()).device
    mine = config.hooked(task.reads, dict(weights), torch.float64)
    with torch.no_grad():
        theirs, ours = model(inputs.to(device)).cpu().double(), mine(inputs)
    apart = float((theirs - ours).abs().max() / ours.abs().max().clamp_min(1e-30))
    if not apart <= _LIKE:
        raise UsageError(
            f"the network does not compute what its configuration describes ({config}): logits are apart by "
            f"{apart:.2g} of the largest; it may have hooks, dropout or parts that grokinterp does not know"
        )


def _measured(task: Task, config: NetworkConfig, weights: Weights, split: Split | None) -> dict[str, float]:
    """Loss and accuracy of training and test examples; means over the answers where there are several."""
    if split is None:
        return {}
    view = View.of_weights(task, config, weights, None, split)
    each = [view.at(answer) for answer in view.answers]
    losses, right, asked = (
        torch.stack([take(one) for one in each], 1)
        for take in (View.loss, View.correct, operator.attrgetter("asked"))
    )
    measured: dict[str, float] = {}
    for part, rows in (("train", split.train), ("test", split.test)):
        loss, is_right, is_asked = (x[rows] if len(each) > 1 else x[rows, 0] for x in (losses, right, asked))
        measured |= metrics_of(part, loss, is_right, is_asked, view.answers)
    return measured


def _numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
    try:
        return {name: float(value) for name, value in metrics.items()}
    except (TypeError, ValueError) as error:
        raise UsageError(f"metrics are numbers: {error}") from None
