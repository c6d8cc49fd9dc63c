"""What an imported run will say: its steps, its history, its training set, and the sentences about what was taken for granted."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import ConfigError
from ..frozen import checked
from ..models import Weights, weight_shapes
from ..runs.files import reading
from ..tasks import Split
from ..training import TrainConfig, TrainingConfig, cross_entropy
from .convert import NOTHING, Converted, DoesNotFit, completed, convert, first, looked_up
from .forensics import Verdict, find_split
from .mapping import layout_named
from .places import Account, LeftOut, place_of
from .recognition import Found, Recognised, for_task, logits_of
from .series import enter, with_steps

Say = Callable[[str, float], None]
_LIKE = 0.1
"""A measured loss that differs from the file's by a larger share is another one."""
_LOOKED_AT = 8
"""Snapshots of which the one that tells most of its training set is chosen."""


@dataclass(frozen=True)
class Request:
    """What was asked for."""

    path: Path
    layout: str
    task: Mapping[str, Any]
    config_file: Path | None
    forensics: bool

    @property
    def sha256(self) -> str:
        try:
            with reading(self.path):
                return hashlib.sha256(self.path.read_bytes()).hexdigest() if self.path.is_file() else ""
        except FileNotFoundError:
            return ""

    @property
    def mapping_sha256(self) -> str | None:
        """Of the layout asked for; None where any will do."""
        return None if self.layout == "auto" else hashlib.sha256(layout_named(self.layout)[1].encode()).hexdigest()


class Import:
    """Everything that the run directory will say."""

    def __init__(self, request: Request, content: Any, known: Recognised, found: Found, say: Say) -> None:
        self.request = request
        self.known = known
        self.found = found
        self._content = content
        self._say = say
        self.sentences: list[str] = []
        self.sentences += known.snapshots.sentences()
        self.states = {step: network.state for step, network in known.snapshots.at.items()}
        self.steps = list(self.states)
        self._without_steps: dict[str, str] = {}
        self.series = {column: self._with_steps(column) for column in known.series}
        self.training = self._training_in_file()
        self.split, self.recipe = self._find_split()

    def _with_steps(self, column: str) -> dict[int, float]:
        """A loss or accuracy that the file holds, by step; empty where it does not go with the file's steps."""
        values, sentence = with_steps(self.known.series[column], self.known.snapshots.last_known, self.steps)
        if values:
            self.sentences.append(sentence)
        else:
            self._without_steps[column] = sentence
        return values

    def _training_in_file(self) -> dict[str, Any]:
        """What the file and its settings say of the training."""
        said: dict[str, Any] = {}
        for key, lookup in self.known.layout.training.items():
            value = looked_up(lookup, self._content, self.known.settings)
            value = list(value) if isinstance(value, tuple) else value
            try:
                if value is not NOTHING and value is not None:
                    checked(TrainingConfig, {key: value}, at="training")
                    said[key] = value
            except ConfigError as error:
                self.sentences.append(f"left out, as it makes no sense here: {error}")
        return said

    def _find_split(self) -> tuple[Split | None, str]:
        """The rows trained on, and how they are known: "stored", "recipe", "not found" or "not looked for"."""
        contents, task = self.known.layout.contents, self.found.task
        train, test = (first(self._content, paths) for paths in (contents.train_rows, contents.test_rows))
        if train is not NOTHING:
            split = self._stored_rows(train, test)
            if split is not None:
                self.sentences.append(f"trained on the {len(split.train)} examples that the file names")
                return split, "stored"
        if not self.request.forensics:
            self.sentences.append("it was not looked for which examples it was trained on")
            return None, "not looked for"
        verdict = self._forensics()
        self.sentences.append(str(verdict))
        if not verdict.found:
            return None, "not found"
        self.training |= {"fraction": verdict.fraction, "split": verdict.recipe, "split_seed": verdict.seed}
        return self.config.make_split(task), "recipe"

    def _forensics(self) -> Verdict:
        """The verdict on the snapshot whose losses differ most between examples: there memorised examples stand out."""
        last = len(self.steps) - 1
        looked_at = sorted({round(i * last / (_LOOKED_AT - 1)) for i in range(_LOOKED_AT)})
        losses = [self._behaviour(self.steps[i])[0] for i in looked_at]
        telling = max(losses, key=lambda one: float(one.clamp(min=1e-300).log().std()))
        return find_split(telling, advance=lambda share: self._say("looking for the training set", share))

    def _stored_rows(self, train: Any, test: Any) -> Split | None:
        rows = [_rows(value, self.found.task.p) for value in (train, test) if value is not NOTHING]
        task = self.found.task
        at = torch.full((task.p**2,), -1)
        at[task.pairs[:, 0] * task.p + task.pairs[:, 1]] = torch.arange(task.n_inputs)
        if any(one is None for one in rows):
            self.sentences.append("the rows that the file names as its training set are no rows of this task, and were left out")
            return None
        ours = [at[one] for one in rows if one is not None]
        is_train = torch.zeros(task.n_inputs, dtype=torch.bool)
        if not (ours[0] < 0).any():
            is_train[ours[0]] = True
        rest = (~is_train).nonzero().flatten()
        whole = len(ours) == 1 or torch.equal(ours[1].sort().values, rest)
        if (ours[0] < 0).any() or int(is_train.sum()) < len(ours[0]) or not len(rest) or not len(ours[0]) or not whole:
            self.sentences.append("the rows that the file names as its training and test set do not make up the table, and were left out")
            return None
        return Split(ours[0], ours[1] if len(ours) == 2 else rest)

    @property
    def config(self) -> TrainConfig:
        """The configuration of the run: what is known of it, and defaults that mean nothing."""
        training = {**self.training, "steps": max(1, self.steps[-1])}
        return TrainConfig.make({"task": self.found.section, "model": self.found.model.model_dump(), "training": training})

    def weights(self, step: int) -> Weights:
        """The weights at a step, under our names."""
        converted = self._converted(step)
        return completed(converted.weights, weight_shapes(self.found.model, self.found.task))

    def _converted(self, step: int) -> Converted:
        converted = convert(self.known.layout, self.states[step], self._content, self.known.settings)
        if for_task(converted.model, self.found.task) != self.found.model:
            raise DoesNotFit(f"cannot import {self.request.path}: its snapshot of step {step} is another network than its last", 3)
        return converted

    def _behaviour(self, step: int) -> tuple[Tensor, Tensor]:
        """The loss of every example in float64, and whether it is right."""
        logits = logits_of(self.found.model, self.found.task, self.weights(step))
        targets = self.found.task.targets
        return cross_entropy(logits, targets), logits.argmax(1) == targets

    def evaluations(self) -> Iterator[dict[str, float]]:
        """The history: what the file has of it; at snapshots, what was measured in its place and beside it.

        Where the file has a history, what is measured at a snapshot whose step is not known has no place in it.
        """
        measured: dict[int, dict[str, float]] = {}
        unknown = {*self.known.snapshots.unknown} if any(self.series.values()) else set()
        for i, step in enumerate(self.steps if self.split else []):
            assert self.split is not None
            self._say("measuring snapshots", i / len(self.steps))
            if step in unknown:
                continue
            losses, right = self._behaviour(step)
            measured[step] = {
                f"{part}_{name}": float(values[rows].double().mean())
                for part, rows in (("train", self.split.train), ("test", self.split.test))
                for name, values in (("loss", losses), ("accuracy", right))
            }
        self._compare(measured)
        for step in sorted({*measured}.union(*self.series.values())):
            in_file = {column: values[step] for column, values in self.series.items() if step in values}
            yield {"step": step, **{name: value for name, value in {**measured.get(step, {}), **in_file}.items() if math.isfinite(value)}}

    def _compare(self, measured: Mapping[int, Mapping[str, float]]) -> None:
        """Says how far the file's numbers are those measured: whether the split is right, and after which update the weights were saved."""
        for column, values in self.series.items():
            is_loss = column.endswith("loss")
            apart = {shift: _apart(values, {s + shift: of[column] for s, of in measured.items()}, is_loss) for shift in (0, 1)}
            if apart[0] is None:
                continue
            later = apart[1] is not None and apart[1] < apart[0]
            where = " of the step after, so weights were saved after their step's update" if later and is_loss else ""
            off, name = apart[later], column.replace("_", " ")
            assert off is not None
            by = f"{off:.2g}{' of it' if is_loss else ''} (median over snapshots)"
            if off > _LIKE:
                self.sentences.append(f"the {name} measured is NOT the file's: they differ by {by}")
            else:
                self.sentences.append(f"the {name} measured is the file's{where}, to {by}")

    def left_out(self) -> list[LeftOut]:
        """Every tensor and every list of numbers in the file that was not used."""
        account, layout = Account(self._content), self.known.layout
        for path in layout.contents.settings:
            if (place := place_of(self._content, path)) is not None:
                account.leave(place, "settings, of which what matters to a network was read by name")
        for key, lookup in layout.training.items():
            place = place_of(self._content, lookup.at.removeprefix("file."))
            if key in self.training and place is not None and lookup.at.startswith("file."):
                account.use(place)
        for path in (*layout.contents.train_rows, *layout.contents.test_rows):
            if (place := place_of(self._content, path)) is not None:
                if self.recipe.startswith("stored"):
                    account.use(place)
                else:
                    account.leave(place, "named as rows of the training or test set, and not the rows of this task")
        enter(self.known.series.values(), self.known.unread, self._without_steps, account)
        self.known.snapshots.account(account, layout.ignore)
        return account.left_out()

    @property
    def record(self) -> dict[str, Any]:
        """What run.json says of the import."""
        known, left_out = self.known, self.left_out()
        return {
            "file": self.request.path.name,
            "sha256": self.request.sha256,
            "layout": known.name,
            "mapping_sha256": hashlib.sha256(layout_named(known.name)[1].encode()).hexdigest(),
            "settings_sha256": settings_hash(known.settings),
            "training": self.training,
            "split": self.recipe,
            "unknown_steps": self.known.snapshots.unknown,
            "left_out": [one.record for one in left_out],
            "assumed": [
                f"layout {known.name}: {known.layout.doc}",
                *([f"of the network: {', '.join(known.last.assumed)}"] if known.last.assumed else []),
                self.found.evidence,
                *self.sentences,
                *map(str, left_out),
            ],
        }


def settings_hash(settings: Any) -> str | None:
    if settings is None:
        return None
    return hashlib.sha256(json.dumps(getattr(settings, "fields", settings), sort_keys=True, default=str).encode()).hexdigest()


def _rows(value: Any, p: int) -> Tensor | None:
    """Numbers a p + b of examples given so, or as pairs (a, b, ...); None where they are neither."""
    try:
        rows = torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError):
        return None
    if rows.is_floating_point() or rows.dim() not in (1, 2) or (rows.dim() == 2 and rows.shape[1] < 2):
        return None
    rows = rows.long()
    if rows.dim() == 2:
        if bool(((rows[:, :2] < 0) | (rows[:, :2] >= p)).any()):
            return None
        rows = rows[:, 0] * p + rows[:, 1]
    return rows if len(rows) and bool(((rows >= 0) & (rows < p**2)).all()) else None


def _apart(in_file: Mapping[int, float], measured: Mapping[int, float], is_loss: bool) -> float | None:
    """How far the file's numbers are from those measured at some steps (median), losses relative to them; None where there is no common
    step."""
    both = [(in_file[step], value) for step, value in measured.items() if step in in_file]
    apart = [abs(a - b) / (abs(a) if is_loss else 1) for a, b in both if a or not is_loss]
    return float(torch.tensor(apart, dtype=torch.float64).median()) if apart else None
