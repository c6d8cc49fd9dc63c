"""A run at one step -> everything that the report says, as plain values. No figure and no file is made
here."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch

from ..errors import DamagedFile, NotApplicable, UsageError
from ..measures import MEASURES
from ..measures.base import named
from ..measures.standing import GENERALISED, Z_OF_95, Examples, Share, Standing, State, standing
from ..replay import (
    Course,
    Phases,
    Reached,
    Spike,
    courses_in_words,
    delay,
    has_plateaus,
    leaps,
    phases,
    plateaus,
    reached,
    replay,
    slingshots,
    spikes,
)  # fmt: skip
from ..replay.cache import Measured
from ..runs import Run
from ..tasks import Task
from ..view import View
from .claims import Claim, decided
from .panels import opening_of
from .values import Values

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

SCHEMA = 2
_LONGEST_NAME = 80
"""Characters of measures' names in the name of a file."""
_MOST_SNAPSHOTS = 60
"""Snapshots that the training part of a report looks at, evenly chosen where there are more; a replay looks
at all."""


class Analysis:
    """What was found of a run at one step. A family of tasks of which more can be found has a class of its
    own, which `analysis_of` takes.

    Attributes:
        run: the run.
        view: its network at the analysed step.
        values: every measure that applies, by name.
        skipped: why another measure of the task's family does not.
        asked_measures, asked_keys: what the caller asked for; None where it is all measures, and what the
            network itself shows.
        replayed: the progress measures at the run's snapshots; may be empty.
        not_replayed: why it is.
    """

    of: ClassVar[type[Task]] = Task
    """The family of tasks that it is of."""

    def __init__(
        self,
        run: Run,
        step: int = -1,
        measures: Sequence[str] | None = None,
        keys: Sequence[int] | None = None,
        with_replay: bool = True,
        progress: bool | None = None,
    ) -> None:
        self.run = run
        self._step = run.resolve(step)
        self.view: View = run.view(self._step)
        self.values = Values()
        self.skipped = self.values.skipped
        self.asked_measures = (
            None if measures is None else list(dict.fromkeys(MEASURES[name].name for name in named(measures)))
        )
        self.asked_keys = self._keys_asked_for(keys)
        names = self.asked_measures
        if names is None:
            names = [measure.name for measure in MEASURES.values() if measure.applies_to(run.task)]
        keys_asked = {} if self.asked_keys is None else {"keys": self.asked_keys}
        measures_asked = [MEASURES[name] for name in dict.fromkeys([*names, *self._always_measured])]
        measured = Measured(run, self.step, self.view).entries(measures_asked, keys_asked, progress)
        for measure, entry in zip(measures_asked, measured, strict=True):
            try:
                self.values[measure.name] = entry.finite(measure)
            except NotApplicable as reason:
                self.skipped[measure.name] = str(reason)
        self.replayed, self.not_replayed = _nothing(), "nobody asked for it"
        if with_replay:
            self.replayed, self.not_replayed = _replayed(run, progress)

    def _keys_asked_for(self, keys: Sequence[int] | None) -> list[int] | None:
        """The key frequencies that the caller asked for; None where nobody did."""
        if keys is not None:
            raise UsageError(f"{self.run.task.name} has no key frequencies: leave keys (--keys) out")
        return None

    @property
    def _always_measured(self) -> tuple[str, ...]:
        """Measures that a report has whatever was asked for."""
        return ("loss", "accuracy")

    @property
    def name(self) -> str:
        """The name of the run."""
        return self.run.name

    @property
    def step(self) -> int:
        """The analysed step."""
        return self._step

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
    def examples(self) -> Examples:
        """What there is to know of the examples beside what the network makes of them."""
        return Examples.of(self.run.task, self.run.split)

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

    @property
    def verdict(self) -> str:
        """The sentence that a page opens with."""
        answer, state = ANSWERS[self.standing.state]
        return f"{answer}{'' if self.standing.fresh else state}{self.standing.words}."

    @property
    def frequencies(self) -> list[int] | None:
        """The key frequencies that it stands on; None where there are none to ask of."""
        return None

    @property
    def algorithm(self) -> str:
        """Which of the known algorithms it computes by, in a word; empty where that was not tested."""
        return ""

    @property
    def found(self) -> str:
        """What was found, in one sentence: on the terminal, at the head of the report, beside other runs. A
        clause stands there only where what it says was measured and no claim speaks against it. Of a network
        that has learned nothing, or its training examples alone, it says so and no more."""
        clauses = self._learned_nothing or self._how_it_computes or [self.standing.words]
        said = "; ".join(clauses).rstrip(".")
        return f"{said[0].upper()}{said[1:]}."

    @property
    def _learned_nothing(self) -> list[str]:
        """That there is nothing to find, in clauses; none where there may be something."""
        state, examples = self.standing.state, self.run.task.examples_are
        if state not in ("at chance", "memorises"):
            return []
        if state == "memorises":
            part = "" if self.standing.shares["train"].right >= GENERALISED else "a part of "
            said = [
                f"it knows {part}its training {examples} by heart, and unseen ones no better than by chance"
            ]
        elif self.step == 0 and self.run.knows("seed") and not self.run.config.start:
            said = ["it is not trained yet, and answers by chance"]
        else:
            said = ["it answers no better than by chance"]
        if self.is_last and self.run.diverged:
            said.append(f"its training {self.run.ended}")
        elif self.is_last and self.phases.kind == "forgets again":
            said.append("it had learned more before, and forgot it")
        return said

    @property
    def _how_it_computes(self) -> list[str]:
        """What is known of how a network computes that has learned something, in clauses: what the report
        opens with, else how its losses came down, or when it learned. A family says more."""
        if (known := opening_of(self)) is not None and (said := known.lead_of(self)):
            return [said]
        if self.courses:
            return [courses_in_words(self.courses)]
        return [*self._how_much, *self._when_learned]

    @property
    def _how_much(self) -> list[str]:
        words = {"generalises": "it generalises", "learning": "it has learned a part"}
        return [words[self.standing.state]] if self.standing.state in words else []

    @property
    def _when_learned(self) -> list[str]:
        """Between which evaluations unseen examples were learned, where that was by the analysed step."""
        test, unseen = self.reached("test"), f"unseen {self.run.task.examples_are}"
        if not self.watched or self.standing.state != "generalises" or self.standing.criterion:
            return []
        if test.by is None or test.by > self.step:
            return []
        of = "its evaluation sample" if self.standing.fresh else unseen
        return [f"99 % of {of} were right {test.interval}"]

    @property
    def facts(self) -> list[tuple[str, str]]:
        """What a reader wants to know beside what is said of any task: rows of a name and a text."""
        return []

    @property
    def task_in_words(self) -> str:
        """What the network had to learn."""
        task = self.run.task
        return f"{task.name}: {task.symbol}, {task.n_inputs:,} examples"

    def measured(self, name: str) -> Any:
        """The value of a measure.

        Raises:
            NotApplicable: there is none, with the reason.
        """
        if name not in self.values:
            raise NotApplicable(self.skipped.get(name, f"{name} was not measured"))
        return self.values[name]

    def number(self, name: str, **at: str) -> float:
        """A measured number, at some labels of its dimensions.

        Raises:
            NotApplicable: there is none, with the reason.
        """
        value = self.measured(name)
        if at and not all(label in value.coords[dim].values for dim, label in at.items()):
            if "part" in at and "train" in value.coords["part"].values:
                raise NotApplicable("there are no such examples")
            raise NotApplicable("it is not known which examples the network was trained on")
        return float(value.sel(**at) if at else value)

    def by_part(self, name: str) -> dict[str, float]:
        """A measure of the parts of the sample, by part; as a mean over the answers that are asked, where
        there are several."""
        value = self.values[name]
        if "answer" not in value.dims:
            return labelled(value, "part")
        each, means = [self.view.at(answer) for answer in self.view.answers], {}
        for part in map(str, value.coords["part"].values):
            asked = np.array([float(one.rows(part).sum()) for one in each])
            if asked.any():
                means[part] = float((value.sel(part=part).fillna(0).values * asked).sum() / asked.sum())
        return means

    @property
    def accuracy_name(self) -> str:
        """The measure that says how many examples are right: every one of its answers, where there are
        several."""
        return "accuracy.exact" if len(self.view.answers) > 1 else "accuracy"

    def accuracy(self, part: str) -> tuple[str, float]:
        """The share of the examples of a part that are right, and the measure that it is of."""
        if criterion := self.run.task.criterion:
            name = "accuracy.by_criterion"
            return f"{name} ({part}, {criterion})", self.number(name, part=part, criterion=criterion)
        return f"{self.accuracy_name} ({part})", self.number(self.accuracy_name, part=part)

    def by_factor(self, name: str) -> dict[str, Share]:
        """The share of right examples with its 95 % interval, by the classes of what is known of every
        example: of those that were not trained on, where it is known which these are. To a class that is a
        group of the task belong the examples that were drawn for it, too."""
        task, view = self.run.task, self.view
        factor, right, tested = task.factors[name], view.all_right("answers"), "test" in view.parts
        rows = view.rows("test" if tested else "all", task.asked)
        shares = {}
        for label in sorted(set(factor.values.tolist())):
            chosen, of_class = rows, factor.values == label
            name_of_class = factor.names[label] if factor.names else str(label)
            group = view.groups.get(name_of_class)
            if group is not None and torch.equal(group, of_class):
                chosen = task.asked & ~view.rows("train", task.asked) if tested else task.asked
            marks = right[chosen & of_class].double()
            if len(marks):
                shares[name_of_class] = Share.of(float(marks.mean()), len(marks), Z_OF_95)
        return shares

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
        return phases(self.replayed, self.history, self.examples)

    @property
    def how_it_went(self) -> str:
        """Kind and boundaries of the training in words; before them that it diverged, behind them that
        snapshots were removed, where that is so."""
        return f"{self.run.divergence} {self.phases.sentence} {self.run.thinning}".strip()

    @cached_property
    def spikes(self) -> list[Spike]:
        """Where the loss or the gradient leapt up and came down again."""
        return spikes(self.history, self.replayed if self.replayed else None)

    @cached_property
    def courses(self) -> list[Course]:
        """How the loss of each answer came down, plateau by plateau; none where nobody looks for plateaus."""
        try:
            return plateaus(self.run) if has_plateaus(self.run) else []
        except NotApplicable:
            return []

    @cached_property
    def leaps(self) -> dict[str, Sequence[int]]:
        """Where the loss of each answer and, if it was recorded, the norm of the gradient leapt up, where
        there are several answers."""
        if len(self.courses) < 2:
            return {}
        of: dict[str, Sequence[int]] = {one.answer: one.leaps for one in self.courses}
        gradient = self.history.set_index("step")["grad_norm"].dropna()
        return of if gradient.empty else {**of, "gradient": leaps(gradient)}

    @cached_property
    def slingshots(self) -> list[int]:
        """Where the loss leapt up and training accuracy came down."""
        return slingshots(self.history)

    @cached_property
    def claims(self) -> list[Claim]:
        """Every claim that applies, with its verdict."""
        return decided(self)

    def to_dict(self) -> dict[str, Any]:
        """The content of report.json. No NaN or infinity is in it: a measure that does not apply is under
        `skipped`, with its reason."""
        run = self.run
        by_part = {name: self.by_part(name) if name in self.values else {} for name in ("loss", "accuracy")}
        return {
            "schema": SCHEMA,
            "run": {
                "name": self.name,
                "seed": run.config.seed if run.knows("seed") else None,
                "snapshots": len(run.steps),
                "first_step": run.steps[0],
                "last_step": run.steps[-1],
                "finished": run.finished,
                **({"diverged": run.diverged} if run.diverged else {}),
                **({"thinned": run.thinned} if run.thinned else {}),
                **({"start": run.config.start.model_dump(mode="json")} if run.config.start else {}),
                "versions": run.record["versions"],
                **({"imported": run.imported} if run.imported else {}),
            },
            "task": {
                **run.config.task,
                "symbol": run.task.symbol,
                "examples": run.task.n_inputs,
                "untrained": [asdict(each) for each in run.task.untrained(run.split)],
            },
            "step": self.step,
            "step_known": self.run.step_known(self.step),
            "asked": {"measures": self.asked_measures, "keys": self.asked_keys},
            **by_part,
            "generalised": self.generalised,
            "state": self.standing.state,
            "standing": self.standing.to_dict(),
            "found": self.found,
            "phases": self.phases.to_dict()["spans"],
            "training": self._training(),
            "measures": {name: self._measure_to_dict(name) for name in self.values},
            "claims": [claim.to_dict() for claim in self.claims],
            "skipped": self.skipped,
        }

    @property
    def loss(self) -> str | None:
        """The loss that the network was trained with, and its precision; None where that is not known."""
        training = self.run.config.training
        if not self.run.knows("loss"):
            return None
        said = [f"{training.loss} in {training.dtype}"]
        if training.label_smoothing:
            said.append(f"labels smoothed by {training.label_smoothing:g}")
        if training.temperature:
            said.append(f"at temperature {training.temperature:g}")
        return ", ".join(said)

    def _training(self) -> dict[str, Any]:
        """What training looked like as a whole: kind, boundaries, leads, spikes."""
        train, test = self.reached("train"), self.reached("test")
        lag = delay(train, test)
        return {
            **{key: value for key, value in self.phases.to_dict().items() if key != "spans"},
            "sentence": self.how_it_went,
            "spikes": [spike.to_dict() for spike in self.spikes],
            "slingshots": {"steps": self.slingshots, "loss": self.loss},
            **({"plateaus": [course.to_dict() for course in self.courses]} if self.courses else {}),
            **({"leaps": {name: [*steps] for name, steps in self.leaps.items()}} if self.leaps else {}),
            "steps_to_99": {"train": asdict(train), "test": asdict(test)},
            "grokking_delay": asdict(lag) if lag and not self.examples.fresh else None,
        }

    def _measure_to_dict(self, name: str) -> dict[str, Any]:
        value, measure = self.values[name], MEASURES[name]
        described: dict[str, Any] = {
            "value": value,
            "unit": measure.unit,
            "ref": measure.ref,
            **({"gauge": measure.in_gauge} if measure.gauge else {}),
        }
        if not isinstance(value, float):
            numbers = value.values.astype(int) if value.dtype == bool else value.values  # marks as 0 and 1
            if np.isnan(numbers).any():  # of an answer that is asked of no example of a part
                numbers = np.where(np.isnan(numbers), None, numbers)
            coords = {str(dim): value.coords[dim].values.tolist() for dim in value.dims}
            described |= {"value": numbers.tolist(), "dims": list(value.dims), "coords": coords}
        return described


ANSWERS: dict[State, tuple[str, str]] = {
    "generalises": ("Yes: ", "it generalises. "),
    "learning": ("In part: ", ""),
    "memorises": ("No: ", "it memorises. "),
    "at chance": ("No: ", "it is at chance. "),
    "not known": ("", ""),
}
"""How a verdict begins: the answer to the question of the title, and the state."""


def analysis_of(run: Run, *arguments: Any) -> Analysis:
    """The analysis of a run, by the class of its family of tasks; arguments as `Analysis` takes them."""
    kinds = [kind for kind in Analysis.__subclasses__() if isinstance(run.task, kind.of)]
    return max(kinds, key=lambda kind: len(kind.of.__mro__), default=Analysis)(run, *arguments)


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
        names = "+".join(dict.fromkeys(MEASURES[name].name for name in named(measures)))
        if len(names) > _LONGEST_NAME:
            names = f"{len(measures)}-measures-{hashlib.sha256(names.encode()).hexdigest()[:8]}"
        parts.append(names)
    return "-".join(parts)


def _replayed(run: Run, progress: bool | None) -> tuple[xr.Dataset, str]:
    """The replay of a run, or none and why: one snapshot shows no training, and a damaged one must not keep
    another from being analysed."""
    dated = [step for step in run.steps if run.step_known(step)]
    count = len(dated)
    if len(run.steps) == 1:
        return _nothing(), "the run has one snapshot"
    if count < 2:
        unknown = "it is not known at which steps they were taken"
        return _nothing(), f"the run has {len(run.steps)} snapshots, and {unknown}"
    at = {round(i * (count - 1) / (_MOST_SNAPSHOTS - 1)) for i in range(_MOST_SNAPSHOTS)}
    try:
        return replay(run, steps=[dated[i] for i in at], progress=progress), ""
    except DamagedFile as error:
        return _nothing(), str(error)


def _nothing() -> xr.Dataset:
    import xarray as xr

    return xr.Dataset()


def labelled(value: Any, dim: str) -> dict[str, float]:
    """The numbers of an array by their labels."""
    return {str(label): float(value.sel({dim: label})) for label in value.coords[dim].values}
