"""Several runs side by side: what differs between their configurations, when each learned, and what can be
said of those that belong together. Plain values; no figure and no file is made here.

    a group   runs of one configuration but for their seeds (`seed`, `training.split_seed`)
              where they started from a snapshot: from runs of one task, and from the last snapshot or the
              same step of each
    a pair    a run that started from a snapshot, and the run from scratch with the same task, network, seeds
              and training

How long and how closely a run was watched (steps, stop_when, evaluate_every, snapshots, monitor) and on what
machine makes it no other run.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ..errors import UsageError
from ..measures.standing import Examples, Standing
from ..runs import Run
from .phases import Kind, kind_of
from .spikes import slingshots, spikes
from .steps_to_learn import Delay, Reached, Transfer, delay, judged_by, median_steps, reached, transfer

if TYPE_CHECKING:
    import pandas as pd

SEEDS = ("seed", "training.split_seed")
"""In which runs of one configuration may differ."""
WATCHING = (
    "threads", "device", "snapshots", "monitor", "monitor_every", "training.steps", "training.stop_when",
    "training.evaluate_every",
)  # fmt: skip
"""What makes a run no other run."""
_OWN_COLUMNS = ("task.name", "task.p", "training.fraction")
_FEWEST = 3
"""Evaluations in which there can be a leap: one, and one on either side."""
_FINAL = ("train_accuracy", "test_accuracy", "train_loss", "test_loss")


@dataclass(frozen=True)
class Compared:
    """One run among others.

    Attributes:
        name: of its directory; with those above it where another run has the same.
        run: the run.
        train, test: when its training and test examples were learned to 99 %.
        delay: the grokking delay; None where there is none.
        final: accuracies and losses at its last evaluation; NaN where not known.
        standing: how far it had come by then.
        spikes: how many leaps of the loss or of the gradient `spikes` finds; None where there are too few
            evaluations for one.
        slingshots: how many `slingshots` finds; None likewise.
        transfer: where it started from a snapshot, whether that helped; None otherwise.
    """

    name: str
    run: Run
    train: Reached
    test: Reached
    delay: Delay | None
    final: dict[str, float]
    standing: Standing
    spikes: int | None
    slingshots: int | None
    transfer: Transfer | None

    @property
    def state(self) -> str:
        """How it ended; that it has not, or that nobody watched it."""
        if self.run.imported:
            return "imported" if self.test.state != "not known" else "imported, without its history"
        return self.run.ended or "not finished: still training, or stopped"

    @cached_property
    def settings(self) -> dict[str, Any]:
        """Its configuration by dotted keys, as deep as sections go; of an imported run only what is known."""
        return _settings(self.run)

    @cached_property
    def kind(self) -> Kind:
        """What kind of run it was, by its evaluations."""
        return kind_of(self.run.dated_history, Examples.of(self.run.task, self.run.split))

    @property
    def start(self) -> str | None:
        """What it started from, in words; None where its weights were drawn."""
        start = self.run.config.start
        return None if start is None else f"{start.run}@{start.step}"


@dataclass(frozen=True)
class Group:
    """Runs that differ in their seeds alone.

    Attributes:
        names: of its runs.
        learned_train, learned_test: how many of them learned their training and test examples.
        train, test: the medians of their steps to 99 %; None where too few got there to know.
        first, last: of those that were seen to learn their test examples the fastest and the slowest, with
            its steps to 99 %; None where none was.
        outliers: those of at least five that learned which took far more or far fewer steps than the others.
    """

    names: tuple[str, ...]
    learned_train: int
    learned_test: int
    train: float | None
    test: float | None
    first: tuple[str, int] | None
    last: tuple[str, int] | None
    outliers: tuple[str, ...]

    @classmethod
    def of(cls, runs: Sequence[Compared]) -> Group:
        """What can be said of these runs together."""
        of_train, of_test = ([getattr(each, part) for each in runs] for part in ("train", "test"))
        steps = {each.name: each.test.by for each in runs if each.test.by is not None}
        order = sorted(steps.items(), key=lambda one: one[1])
        return cls(
            names=tuple(each.name for each in runs),
            learned_train=sum(time.seen for time in of_train),
            learned_test=sum(time.seen for time in of_test),
            train=median_steps(of_train),
            test=median_steps(of_test),
            first=order[0] if order else None,
            last=order[-1] if order else None,
            outliers=outliers(steps),
        )


_FEWEST_FOR_OUTLIERS = 5
_FENCES = 1.5


def outliers(steps: Mapping[str, int]) -> tuple[str, ...]:
    """The runs whose steps lie outside Tukey's fences (1.5 times the distance of the quartiles beyond these),
    of the logarithms, as steps differ by factors; none of fewer than five."""
    import numpy as np

    if len(steps) < _FEWEST_FOR_OUTLIERS:
        return ()
    logs = np.log(np.maximum(list(steps.values()), 1))
    low, high = np.quantile(logs, [0.25, 0.75])
    room = _FENCES * (high - low) + 1e-9
    return tuple(name for name, at in zip(steps, logs, strict=True) if not low - room <= at <= high + room)


class RunsCompared:
    """Runs side by side.

    Attributes:
        runs: what is known of each, in the order given.
        differing: the dotted keys of the configurations that are not the same everywhere, those with columns
            of their own aside.
        copies: the runs that are another one over again, by name, with that one: of the same weights at the
            last snapshot, or the same configuration and seeds. They are counted once.
        groups: those of more than one run.
    """

    def __init__(self, runs: Sequence[Run]) -> None:
        if not runs:
            raise UsageError("nothing to compare: there are no runs")
        histories = [run.dated_history for run in runs]
        alike = [_key(_settings(run), WATCHING) for run in runs]
        self.runs = []
        for name, run, history, key in zip(_names(runs), runs, histories, alike, strict=True):
            verdict = None
            if run.config.start is not None:
                scratch = [
                    theirs
                    for other, theirs, same in zip(runs, histories, alike, strict=True)
                    if same == key and other.config.start is None and not other.imported
                ]
                verdict = Transfer.of("not known", ": the same run from scratch is not among these")
                if scratch:
                    longest = max(scratch, key=lambda theirs: theirs["step"].max())
                    verdict = transfer(history, longest, run.ended is not None)
            train, test = reached(history, "train"), reached(history, "test")
            watched = history["train_loss"].count() >= _FEWEST
            leaps = (len(spikes(history)), len(slingshots(history))) if watched else (None, None)
            final, now = _final(run.history), _standing(run)
            lag = None if run.config.training.data == "fresh" else delay(train, test)
            self.runs.append(Compared(name, run, train, test, lag, final, now, leaps[0], leaps[1], verdict))
        self.differing = _differing([each.settings for each in self.runs])
        self.copies = self._copies()
        self.groups = self._groups()

    @property
    def distinct(self) -> list[Compared]:
        """The runs without copies."""
        return [each for each in self.runs if each.name not in self.copies]

    def _copies(self) -> dict[str, str]:
        first: dict[Any, str] = {}
        copies: dict[str, str] = {}
        for each in self.runs:
            run, marks = each.run, list[Any]()
            if run.steps and run.steps[-1] > 0:  # before training all of a seed are alike
                marks.append(run.sha256(run.steps[-1]))
            if not run.imported:
                marks.append((_key(each.settings, WATCHING), str(run.config.start)))
            known = next((first[mark] for mark in marks if mark in first), None)
            if known is not None:
                copies[each.name] = known
            for mark in marks:
                first.setdefault(mark, known or each.name)
        return copies

    def _groups(self) -> list[Group]:
        runs_of_kind: dict[tuple[str, str], list[Compared]] = {}
        for each in self.distinct:
            if not each.run.imported:
                start = each.run.config.start
                origin = "" if start is None else f"{start.task} {'last' if start.last else start.step}"
                runs_of_kind.setdefault((_key(each.settings, WATCHING + SEEDS), origin), []).append(each)
        return [Group.of(group) for group in runs_of_kind.values() if len(group) > 1]

    @cached_property
    def table(self) -> pd.DataFrame:
        """One row for each run. What is not known is missing.

        `train_steps` and `test_steps` are the steps to 99 %, or where `..._censored` the last step at which
        it was not yet, where `..._left_censored` the first that was looked at; `..._after` is the evaluation
        before. `state` is how the run ended, `standing` how far the network had come at its last evaluation.
        What differs between the configurations comes last.
        """
        import pandas as pd

        columns: dict[str, list[Any]] = {
            "run": [each.name for each in self.runs],
            "task": [each.run.task.symbol for each in self.runs],
            "p": [getattr(each.run.task, "p", None) for each in self.runs],  # that of a table
            "fraction": [each.settings.get("training.fraction") for each in self.runs],
            "seed": [each.settings.get("seed") for each in self.runs],
            "state": [each.state for each in self.runs],
            "standing": [each.standing.state for each in self.runs],
        }
        for part in ("train", "test"):
            times: list[Reached] = [getattr(each, part) for each in self.runs]
            columns[f"{part}_steps"] = [t.after if t.by is None else t.by for t in times]
            columns[f"{part}_after"] = [t.after for t in times]
            columns[f"{part}_censored"] = [t.state == "censored" for t in times]
            columns[f"{part}_left_censored"] = [t.state == "at or before" for t in times]
        columns["delay"] = [math.nan if each.delay is None else each.delay.factor for each in self.runs]
        columns["delay_censored"] = [each.delay is not None and each.delay.censored for each in self.runs]
        for name in _FINAL:
            columns[name] = [each.final[name] for each in self.runs]
        for name in ("spikes", "slingshots", "start"):
            columns[name] = [getattr(each, name) for each in self.runs]
        columns["transfer"] = [each.transfer and each.transfer.verdict for each in self.runs]
        columns["transfer_steps"] = [each.transfer and each.transfer.steps for each in self.runs]
        for key in self.differing:
            columns[key] = [_plain(each.settings.get(key)) for each in self.runs]
        whole = ["spikes", "slingshots", "seed", "train_steps", "train_after", "test_steps", "test_after"]
        types = dict.fromkeys([*whole, "transfer_steps"], "Int64")
        return pd.DataFrame({name: pd.Series(x, dtype=types.get(name)) for name, x in columns.items()})

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON, with None for what is not known."""
        return {
            "schema": 1,
            "differing": self.differing,
            "runs": [
                {
                    "run": each.name,
                    "task": {**each.run.config.task, "symbol": each.run.task.symbol},
                    "fraction": each.settings.get("training.fraction"),
                    "seed": each.settings.get("seed"),
                    "settings": {key: each.settings.get(key) for key in self.differing},
                    "state": each.state,
                    "standing": each.standing.to_dict(),
                    "steps_to_99": {"train": asdict(each.train), "test": asdict(each.test)},
                    "grokking_delay": each.delay and asdict(each.delay),
                    "final": {key: x if math.isfinite(x) else None for key, x in each.final.items()},
                    "spikes": each.spikes,
                    "slingshots": each.slingshots,
                    "start": each.run.config.start and each.run.config.start.model_dump(mode="json"),
                    "transfer": each.transfer and each.transfer.to_dict(),
                }
                for each in self.runs
            ],
            "copies": self.copies,
            "groups": [_group_to_dict(group) for group in self.groups],
        }


def _group_to_dict(group: Group) -> dict[str, Any]:
    ends = {
        name: end and {"run": end[0], "steps": end[1]}
        for name, end in (("first", group.first), ("last", group.last))
    }
    return asdict(group) | {"names": list(group.names), **ends, "outliers": list(group.outliers)}


def _final(history: pd.DataFrame) -> dict[str, float]:
    """The last known value of each."""
    evaluations = {name: history[name].dropna() for name in _FINAL}
    return {name: float(values.iloc[-1]) if len(values) else math.nan for name, values in evaluations.items()}


def _standing(run: Run) -> Standing:
    """How far a run had come at the last evaluation that says how many examples are right; not known where
    that is told by a criterion of the task, which evaluations do not know."""
    if run.task.criterion:
        return Examples.of(run.task, run.split).standing(None, None)
    columns = [judged_by(run.history, part) for part in ("train", "test")]
    evaluations = run.history.dropna(subset=columns, how="all")
    now = evaluations[columns].iloc[-1].tolist() if len(evaluations) else [None, None]
    return Examples.of(run.task, run.split).standing(*now)


def _names(runs: Sequence[Run]) -> list[str]:
    """The name of each run's directory, with as many of those above it as tell it from the others."""
    parts = [run.path.resolve().parts[1:] for run in runs]
    depth = [1] * len(runs)
    while True:
        names = ["/".join(part[-d:]) for part, d in zip(parts, depth, strict=True)]
        double = [i for i, name in enumerate(names) if names.count(name) > 1 and depth[i] < len(parts[i])]
        if not double:
            return [name.encode(errors="replace").decode() for name in names]
        for i in double:
            depth[i] += 1


def _settings(run: Run) -> dict[str, Any]:
    """Its configuration by dotted keys, without the start; of an imported run only what is known."""
    settings = run.config.model_dump(mode="json", exclude={"start"})
    if run.config.training.data == "fresh":  # of which no share is trained on
        for key in ("fraction", "split", "split_seed"):
            del settings["training"][key]
    if run.imported:
        settings = {section: settings[section] for section in ("task", "model", "training")}
        settings["training"] = {key: x for key, x in settings["training"].items() if run.knows(key)}
    flat: dict[str, Any] = {}
    for section, value in settings.items():
        of_section = section in ("task", "model", "training")
        flat |= {f"{section}.{key}": x for key, x in value.items()} if of_section else {section: value}
    return flat


def _key(settings: Mapping[str, Any], without: Sequence[str]) -> str:
    """The same text for the same settings, those `without` aside."""
    return json.dumps({key: item for key, item in settings.items() if key not in without}, sort_keys=True)


def _differing(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """The keys whose values differ among the runs that have them, in the order of the configuration."""
    values: dict[str, set[str]] = {}
    for key, value in (item for each in settings for item in each.items()):
        if key not in _OWN_COLUMNS and "." in key:  # what is no part of a section changes no result
            values.setdefault(key, set()).add(json.dumps(value, sort_keys=True))
    return [key for key, different in values.items() if len(different) > 1]


def _plain(value: Any) -> Any:
    """A value as a cell of a table: lists and dictionaries as text."""
    return json.dumps(value) if isinstance(value, list | dict) else value
