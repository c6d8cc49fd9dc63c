"""A run that is trained on: the same configuration, but for more steps or another end.

From then on it is the run that its new configuration gives from the start, byte for byte. What the shorter
one recorded at its last step alone goes, and that step is evaluated again from the resume state, which is one
from before its evaluation.

The order on the disk: run.json with the new configuration and the key `extending` is the whole commit. Before
it there is the run as it ended, after it the longer one; what is left to do then (a resume state that counts
what stays, both logs cut, the key removed) is done again by whoever trains it next.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from ..training import Progress, TrainConfig, differences

MAY_DIFFER = ("training.steps", "training.stop_when")
"""The keys in which the configuration of a run that is trained on may be another."""
ANEW = "train into another directory; --from (start=) begins with these weights, a fresh optimiser and step 0"


def refuse_no_further(path: Path, record: Mapping[str, Any], config: TrainConfig) -> None:
    """Refuses what is not the same run going further, given that nothing but `MAY_DIFFER` differs.

    Raises:
        ConfigError: it has fewer steps; the learning rate of the updates done depended on their number; or it
            would end where it has ended.
    """
    recorded = TrainConfig.make(record["config"])
    before, now = recorded.training, config.training
    if now.steps < before.steps:
        what = f"{path} is a run of {before.steps:,} steps, and {now.steps:,} were asked for"
        raise ConfigError(f"{what}: training.steps can only grow; {ANEW}")
    if now.steps != before.steps and now.decay != "none":
        what = f"training.decay={now.decay!r} ends at the last of {before.steps:,} steps"
        raise ConfigError(f"{path} cannot be trained on: {what}, so the updates made were others; {ANEW}")
    if (finished := record["finished"]) is None:
        return
    if finished["step"] < before.steps and now.stop_when == before.stop_when:
        what = f"{path} ended at step {finished['step']:,}, as {before.stop_when} was reached"
        remedy = "give another training.stop_when, or none: None, or --set training.stop_when="
        raise ConfigError(f"{what}: to train on, {remedy}")
    if finished["step"] == now.steps:
        what = f"{path} has made all of its {now.steps:,} steps"
        raise ConfigError(f"{what}: to train on, give more training.steps")


def holding_since(
    path: Path, config: TrainConfig, lines: Iterable[Mapping[str, Any]], step: int
) -> int | None:
    """Since when the stop condition has held before a step, as the evaluations that were recorded say.

    Raises:
        ConfigError: with this condition the run would have ended before that step.
    """
    progress, condition = Progress(), config.training.stop_when
    for line in lines:
        metrics = {name: float(value) for name, value in line.items() if value is not None}
        at = line["step"]
        if at < step and progress.should_stop(condition, at, metrics, config.monitors_at(at)):
            what = f"{path} is at step {step:,}, and with {condition} it would have ended at step {at:,}"
            raise ConfigError(f"{what}: give another training.stop_when, or another directory")
    return progress.holding_since


def longer(record: Mapping[str, Any], config: TrainConfig) -> dict[str, Any]:
    """The record of the run with the steps and the end of another configuration, and not finished."""
    recorded = TrainConfig.make(record["config"])
    ends = {"steps": config.training.steps, "stop_when": config.training.stop_when}
    training = recorded.training.model_copy(update=ends)
    changed = recorded.model_copy(update={"training": training})
    return {**record, "config": changed.model_dump(mode="json", exclude_none=True), "finished": None}


def other_ends(old: TrainConfig, new: TrainConfig) -> bool:
    """Whether two configurations differ, and in nothing but `MAY_DIFFER`."""
    return set() < set(differences(old, new)) <= set(MAY_DIFFER)
