"""A run at one step -> everything that the report says, as plain values. No figure and no file is made
here."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch

from ..errors import DamagedFile, NotApplicable
from ..measures import MEASURES, KeyFrequencies, key_frequencies
from ..measures.base import per_part
from ..measures.noise import NoisePhase, learned, noise_phase
from ..measures.standing import Examples, Standing, standing
from ..measures.waves.circular import circular
from ..measures.waves.keys import chosen
from ..replay import (
    Lives,
    NoiseSpan,
    Phases,
    Reached,
    Spike,
    delay,
    keys_over_time,
    lives,
    neuron_flows,
    noise_spans,
    phases,
    reached,
    replay,
    slingshots,
    spikes,
    where_keys_differ,
)
from ..runs import Run
from ..tasks import Operation, Task
from ..view import View
from .claims import Claim, Evidence, claims

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

SCHEMA = 1
_OF_NOISE = ("clean_accuracy", "clean_loss", "noise.profile", "noise.bayes_loss", "noise.bayes_accuracy")
"""What every report on noisy labels measures."""
_LONGEST_NAME = 80
"""Characters of measures' names in the name of a file."""
_MOST_SNAPSHOTS = 60
"""Snapshots that the training part of a report looks at, evenly chosen where there are more; a replay looks
at all."""


def refuse_other_tasks(task: Task) -> None:
    """
    Raises:
        NotApplicable: the task is none that pages are made of, which so far are operations.
    """
    try:
        Operation.of(task)
    except NotApplicable as reason:
        raise NotApplicable(
            f"no page can be made of it: {reason}; gi.measure(name, run.view(step)) and gi.replay(run) "
            "measure it"
        ) from None


class Analysis:
    """What was found of a run at one step.

    Attributes:
        run: the run.
        view: its network at the analysed step.
        values: every measure that applies, by name.
        skipped: why each other one does not.
        keys: the key frequencies that the rules found, or None where no rule applies.
        keys_used: those that the measures were given: the consensus, unless the caller chose others.
        asked_measures, asked_keys: what the caller asked for; None where it is all measures, and the
            consensus.
        replayed: the progress measures at the run's snapshots; may be empty.
        not_replayed: why it is.
    """

    def __init__(
        self,
        run: Run,
        step: int = -1,
        measures: Sequence[str] | None = None,
        keys: Sequence[int] | None = None,
        with_replay: bool = True,
        progress: bool | None = None,
    ) -> None:
        refuse_other_tasks(run.task)
        self.run = run
        self.view: View = run.view(step)
        self.values: dict[str, Any] = {}
        self.skipped: dict[str, str] = {}
        self.asked_measures = (
            None if measures is None else list(dict.fromkeys(MEASURES[name].name for name in measures))
        )
        wanted = list(MEASURES) if self.asked_measures is None else self.asked_measures
        try:
            self.keys: KeyFrequencies | None = key_frequencies(self.view)
        except NotApplicable:
            self.keys = None
        self.keys_used: list[int] = (
            chosen(self.view, keys) if keys is not None else self.keys.consensus if self.keys else []
        )
        self.asked_keys = None if keys is None else self.keys_used
        given = {} if keys is None else {"keys": self.keys_used}
        for name in dict.fromkeys([*wanted, "loss", "accuracy", *(_OF_NOISE if run.task.noisy else ())]):
            try:
                value = MEASURES[name](self.view, **(given if MEASURES[name].takes_keys else {}))
            except NotApplicable as reason:
                self.skipped[name] = str(reason)
                continue
            if all(math.isfinite(x) for x in _flat(value)):
                self.values[name] = value
            else:
                self.skipped[name] = "the value is not finite"
        self.replayed, self.not_replayed = (
            _replayed(run, progress) if with_replay else (_nothing(), "nobody asked for it")
        )

    @property
    def name(self) -> str:
        """The name of the run directory, as text that every file can hold."""
        return self.run.path.resolve().name.encode(errors="replace").decode()

    @property
    def step(self) -> int:
        """The analysed step."""
        assert self.view.step is not None
        return self.view.step

    @property
    def is_last(self) -> bool:
        """Whether the analysed step is the last of the run."""
        return self.step == self.run.steps[-1]

    @property
    def stem(self) -> str:
        """What the files of this report are called."""
        return report_stem(self.run, self.step, self.asked_measures, self.asked_keys)

    @cached_property
    def history(self) -> pd.DataFrame:
        """Evaluations up to the last step of the run, of which it is known at what step they were made."""
        return self.run.dated_history

    @property
    def noisy(self) -> bool:
        """Whether labels are noisy."""
        return self.run.task.noisy

    @cached_property
    def standing(self) -> Standing:
        """How far the network has learned its task at the analysed step: what the verdict, the claims and
        report.json go by."""
        return standing(self.view)

    @property
    def generalised(self) -> bool:
        """Whether test accuracy at the analysed step is at least 0.99; on noisy labels, that of the right
        answers at least 0.9."""
        return self.standing.state == "generalises"

    @cached_property
    def noise_spans(self) -> list[NoiseSpan]:
        """The phases of training on noisy labels; none where labels are not noisy."""
        try:
            return noise_spans(self.history, self.run.task.n_answers)
        except NotApplicable:
            return []

    @cached_property
    def noise_phase(self) -> NoisePhase | None:
        """The phase at the analysed step; None where labels are not noisy, or none came out wrong."""
        known = self.values["accuracy"].coords["part"].values
        if not self.noisy or not {"corrupted", "test"} <= set(known):
            return None
        given, right = (_labelled(self.values[name], "part") for name in ("accuracy", "clean_accuracy"))
        earlier = self.history[self.history["step"] < self.step]
        before = any(
            learned(*pair)
            for pair in earlier[["train_accuracy", "test_clean_accuracy"]].itertuples(index=False)
        )
        chance = 1 / self.run.task.n_answers
        return noise_phase(
            given["train"],
            right["test"],
            given["corrupted"],
            right["corrupted"],
            chance,
            learned_before=before,
        )

    @property
    def _on_circle(self) -> tuple[Standing, dict[str, float]]:
        """How far it has learned the examples that stand on the circle, and the loss there by part; all
        examples where there is none."""
        view = self.view
        rows = circular(view).on_circle if self.n_frequencies else torch.arange(self.run.task.n_inputs)
        return standing(view, rows), _labelled(per_part(view, view.loss()[rows], rows), "part")

    @property
    def n_frequencies(self) -> int:
        """How many frequencies the elements have; 0 where they stand on no circle."""
        circle = Operation.of(self.run.task).circle
        return circle.m // 2 if circle else 0

    def reached(self, part: str) -> Reached:
        """When the accuracy of a part ("train", "test") first was at least 0.99."""
        return reached(self.history, part)

    @property
    def watched(self) -> bool:
        """Whether accuracies were evaluated more than once, so that it can be said when they rose."""
        return len(self.history.dropna(subset=["train_accuracy", "test_accuracy"])) > 1

    @cached_property
    def phases(self) -> Phases:
        """What kind of run it was, and its phases: by the progress measures, or by accuracies alone where
        nothing was replayed."""
        return phases(self.replayed, self.history, Examples.of(self.run.task, self.run.split))

    @property
    def how_it_went(self) -> str:
        """Kind and boundaries of the training in words; before them that it diverged, where it did."""
        return f"{self.run.divergence} {self.phases.sentence}".lstrip()

    @cached_property
    def spikes(self) -> list[Spike]:
        """Where the loss or the gradient leapt up and came down again."""
        return spikes(self.history, self.replayed if self.replayed else None)

    @cached_property
    def slingshots(self) -> list[int]:
        """Where the loss leapt up and training accuracy came down."""
        return slingshots(self.history)

    @cached_property
    def lives(self) -> Lives | None:
        """What became of every frequency; None where nothing was replayed, or there are none."""
        try:
            return lives(self.replayed) if self.replayed else None
        except NotApplicable:
            return None

    @cached_property
    def claims(self) -> list[Claim]:
        """Every claim with its verdict."""
        sizes = self.run.task.n_answers, self.n_frequencies
        learned_so_far = self.standing, *self._on_circle
        return claims(
            Evidence(
                self.values,
                self.skipped,
                self.keys_used,
                *learned_so_far,
                *sizes,
                self.noisy,
                self.noise_phase,
            )
        )

    def to_dict(self) -> dict[str, Any]:
        """The content of report.json. No NaN or infinity is in it: a measure that does not apply is under
        `skipped`, with its reason."""
        run, keys = self.run, self.keys
        by_part = {
            name: _labelled(self.values[name], "part") for name in ("loss", "accuracy") if name in self.values
        }
        return {
            "schema": SCHEMA,
            "run": {
                "name": self.name,
                "seed": None if run.imported else run.config.seed,
                "snapshots": len(run.steps),
                "first_step": run.steps[0],
                "last_step": run.steps[-1],
                "finished": run.finished,
                **({"diverged": run.diverged} if run.diverged else {}),
                **({"start": run.config.start.model_dump(mode="json")} if run.config.start else {}),
                "versions": run.record["versions"],
                **({"imported": run.imported} if run.imported else {}),
            },
            "task": {**run.config.task, "symbol": run.task.symbol, "examples": run.task.n_inputs},
            "table": Operation.of(run.task).facts.to_dict(),
            "step": self.step,
            "step_known": self.run.step_known(self.step),
            "asked": {"measures": self.asked_measures, "keys": self.asked_keys},
            "loss": by_part.get("loss", {}),
            "accuracy": by_part.get("accuracy", {}),
            "generalised": self.generalised,
            "state": self.standing.state,
            "standing": self.standing.to_dict(),
            "key_frequencies": {
                "consensus": keys.consensus if keys else [],
                "rules": keys.rules if keys else {},
                "agreement": keys.agreement if keys else 0.0,
                "harmonics": {str(k): asdict(harmonic) for k, harmonic in keys.harmonics.items()}
                if keys
                else {},
                "doubles": {str(k): of for k, of in keys.doubles.items()} if keys else {},
                "used": self.keys_used,
            },
            "phases": self.phases.to_dict()["spans"],
            "training": self._training(),
            "measures": {name: self._measure_to_dict(name) for name in self.values},
            "claims": [claim.to_dict() for claim in self.claims],
            "skipped": self.skipped,
            **({"noise": self._noise()} if self.noisy else {}),
        }

    def _noise(self) -> dict[str, Any]:
        """The phase on noisy labels, accuracies and losses against right answers, and the best that can be
        done of the labels."""
        names = ("clean_accuracy", "clean_loss", "noise.bayes_accuracy", "noise.bayes_loss")
        return {
            "phase": self.noise_phase,
            "spans": [span.to_dict() for span in self.noise_spans],
            **{
                name.removeprefix("noise."): _labelled(self.values[name], "part")
                for name in names
                if name in self.values
            },
            "chance_loss": math.log(self.run.task.n_answers),
        }

    @property
    def loss(self) -> str | None:
        """The loss that the network was trained with, and its precision; None where that is not known."""
        training, imported = self.run.config.training, self.run.imported
        return (
            None
            if imported and "loss" not in imported["training"]
            else f"{training.loss} in {training.dtype}"
        )

    def _training(self) -> dict[str, Any]:
        """What training looked like as a whole: kind, boundaries, leads, spikes, and where something was
        replayed what it says."""
        told = {key: value for key, value in self.phases.to_dict().items() if key != "spans"}
        told["sentence"] = self.how_it_went
        told["spikes"] = [spike.to_dict() for spike in self.spikes]
        told["slingshots"] = {"steps": self.slingshots, "loss": self.loss}
        train, test = self.reached("train"), self.reached("test")
        told["steps_to_99"] = {"train": asdict(train), "test": asdict(test)}
        told["grokking_delay"] = asdict(found) if (found := delay(train, test)) else None
        if self.lives is not None:
            told["lives"] = self.lives.to_dict()
            told["keys_over_time"] = _records(keys_over_time(self.replayed))
            told["keys_differ"] = _records(where_keys_differ(self.replayed)) if self.lives.final_keys else []
            with suppress(NotApplicable):
                told["neuron_flows"] = neuron_flows(self.replayed).to_dict()
        return told

    def _measure_to_dict(self, name: str) -> dict[str, Any]:
        value, known = self.values[name], MEASURES[name]
        described: dict[str, Any] = {
            "value": value if isinstance(value, float) else _numbers(value),
            "unit": known.unit,
            "ref": known.ref,
            **({"gauge": known.in_gauge} if known.gauge else {}),
        }
        if not isinstance(value, float):
            described["dims"] = list(value.dims)
            described["coords"] = {str(dim): value.coords[dim].values.tolist() for dim in value.dims}
        return described


def report_stem(
    run: Run, step: int = -1, measures: Sequence[str] | None = None, keys: Sequence[int] | None = None
) -> str:
    """What the files of a report are called: of their own for each question, so that none takes the place of
    another's answer.

    Raises:
        NoSuchSnapshot: the run has no snapshot at that step.
        UsageError: no measure has one of the names.
    """
    parts = ["report"]
    if run.resolve(step) != run.steps[-1]:
        parts.append(f"step-{run.resolve(step)}")
    if keys is not None:
        parts += ["keys", *map(str, sorted(set(keys)))]
    if measures is not None:
        names = "+".join(dict.fromkeys(MEASURES[name].name for name in measures))
        if len(names) > _LONGEST_NAME:
            names = f"{len(measures)}-measures-{hashlib.sha256(names.encode()).hexdigest()[:8]}"
        parts.append(names)
    return "-".join(parts)


def _replayed(run: Run, progress: bool | None) -> tuple[xr.Dataset, str]:
    """The replay of a run, or none and why: one snapshot shows no training, and a damaged one must not keep
    another from being analysed."""
    dated = [step for step in run.steps if run.step_known(step)]
    count = len(dated)
    if count < 2:
        some = (
            "one snapshot"
            if len(run.steps) == 1
            else f"{len(run.steps)} snapshots, and it is not known at which steps they were taken"
        )
        return _nothing(), f"the run has {some}"
    at = {round(i * (count - 1) / (_MOST_SNAPSHOTS - 1)) for i in range(_MOST_SNAPSHOTS)}
    try:
        return replay(run, steps=[dated[i] for i in at], progress=progress), ""
    except DamagedFile as error:
        return _nothing(), str(error)


def _nothing() -> xr.Dataset:
    import xarray as xr

    return xr.Dataset()


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a table as plain values; what is not finite is None."""
    found: list[dict[str, Any]] = json.loads(table.to_json(orient="records", double_precision=15))
    return found


def _numbers(value: Any) -> list[Any]:
    """The nested list of an array; marks as 0 and 1."""
    return (value.values.astype(int) if value.dtype == bool else value.values).tolist()


def _flat(value: Any) -> list[float]:
    return [value] if isinstance(value, float) else [float(x) for x in value.values.flat]


def _labelled(value: Any, dim: str) -> dict[str, float]:
    return {str(label): float(value.sel({dim: label})) for label in value.coords[dim].values}
