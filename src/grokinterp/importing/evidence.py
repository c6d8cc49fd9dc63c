"""What an imported run will say: steps, history, training set, and what was taken for granted."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float64, Int
from torch import Tensor

from ..errors import ConfigError, NotBelieved
from ..frozen import checked
from ..models import Weights
from ..runs.files import reading
from ..tasks import Operation, Split, order
from ..training import TrainConfig, TrainingConfig
from ..training.trainer import metrics_of
from .convert import NOTHING, Converted, DoesNotFit, completed, convert, first, looked_up
from .forensics import Verdict, find_split
from .mapping import beginning, layout_named
from .places import Account, LeftOut, of_objects, of_several_files, place_of
from .readings import Behaviour, LikeliestWay, Trials, Variant, behaviour, find_task, for_task, most_at_rest
from .recognition import Recognised
from .rows import Rows, lower, possible_cells, readings
from .sequences import find_sequences, is_of_sequences
from .series import enter, with_steps, without_numbers

Say = Callable[[str, float], None]
_PARTS = ("train", "test")
_LIKE = 0.1
"""A measured loss that differs from the file's by a larger share is another one."""
_CONTRADICTS = 2.0, 0.01
"""A measured loss contradicts the file's where it differs from it by more than this factor, and by more than
so many nats."""
_ACCURACY_CONTRADICTS = 0.1
"""A measured accuracy contradicts the file's where it differs from it by more."""
_LOOKED_AT = 8
"""Snapshots of which the one that tells most of its training set is chosen."""
_TRACE, _CLEAR_TRACE = 3.0, 4.0
"""Standard deviations by which losses are lower where a network was trained, and by which one reading of the
rows beats another."""
_KNOWN = 0.9
"""Of its training set a network that knows it gets at least this share right."""
_NEW = 0.95
"""Examples are drawn of so many that a network cannot have seen most, where so many of the sample are unlike
all others in it."""
_RECENT, _FEW_COMPARED = 100, 512
"""Losses of fresh batches of which the mean is taken, and examples on which it is compared with others."""
_COMPARED = 4
"""Ways to read the weights of which all losses are compared with the file's."""


@dataclass(frozen=True)
class Request:
    """What was asked for."""

    path: Path
    layout: str
    task: Mapping[str, Any]
    config_file: Path | None
    forensics: bool
    believe: bool = False
    files: tuple[Path, ...] = ()
    """Those that are read, where they are several."""

    @property
    def sha256(self) -> str:
        """Of the file; of several that of their names and hashes."""
        with reading(self.path):
            if not self.files:
                return hashlib.sha256(self.path.read_bytes()).hexdigest() if self.path.is_file() else ""
            of_each = (f"{one.name} {hashlib.sha256(one.read_bytes()).hexdigest()}" for one in self.files)
            return _text_hash("\n".join(of_each))

    @property
    def name(self) -> str:
        """What was read, as it is printed."""
        if not self.files:
            return self.path.name
        count = f"{len(self.files):,} files"
        return (
            f"{self.path.name}/ ({count})" if self.path.is_dir() else f"{count}, {self.path.name} the first"
        )

    @property
    def mapping_sha256(self) -> str | None:
        """Of the layout asked for; None where any will do."""
        return None if self.layout == "auto" else _text_hash(layout_named(self.layout)[1])


class Import:
    """Everything that the run directory will say."""

    def __init__(self, request: Request, known: Recognised, say: Say) -> None:
        """
        Raises:
            NotBelieved: no reading of the file explains what its network does, or it contradicts the file;
                not where the request is to believe it.
        """
        self.request = request
        self.known = known
        self._content = content = known.content
        self._say = say
        self.sentences = [*known.snapshots.sentences(), *known.files.sentences]
        self.states = {step: network.state for step, network in known.snapshots.at.items()}
        self.steps = list(self.states)
        self._without_steps: dict[str, str] = {}
        self.series = {column: self._with_steps(column) for column in known.series}
        self.sentences += without_numbers(known.unread, content)
        self.sentences += of_objects(known.files.contents)
        self.training = self._training_in_file()
        self._train_rows = first(content, known.layout.contents.train_rows)
        self._test_rows = first(content, known.layout.contents.test_rows)
        say("trying readings", 0)
        of_rows = partial(possible_cells, self._train_rows, self._test_rows)
        trials = Trials(known, content, request.task, of_rows)
        self._of_pairs = not is_of_sequences(trials)
        self.found = (find_task if self._of_pairs else find_sequences)(trials, request.believe)
        self.fraction_between: tuple[float, float] | None = None
        self.split_is_stored = False
        self._read_as(self.found.variant)
        self.recipe = "not found"
        self.split, self.recipe = self._find_split()
        self._choose_variant()
        self._check()

    def _with_steps(self, column: str) -> dict[int, float]:
        """A loss or accuracy that the file holds, by step; empty where it does not go with its steps."""
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

    def _read_as(self, variant: Variant) -> None:
        """Takes the weights for what they are under this reading."""
        self.found = dataclasses.replace(self.found, variant=variant)
        self.known = dataclasses.replace(self.known, layout=variant.layout, last=variant.converted)
        self._last = self._behaviour(self.steps[-1])

    def _find_split(self) -> tuple[Split | None, str]:
        """The rows trained on, and how known: "stored", "recipe", "not found" or "not looked for"; "drawn"
        where the sample is drawn here, of so many examples that it is new to the network. A recipe shuffles
        the pairs as the file numbers them, so only where that is as here is it enough to keep the recipe
        (`split_is_stored`)."""
        if not self._of_pairs:
            return self._drawn()
        is_named = self._train_rows is not NOTHING or self._test_rows is not NOTHING
        if is_named and (split := self._stored_rows()) is not None:
            self.split_is_stored = True
            return split, "stored"
        if not self.request.forensics:
            self.sentences.append("it was not looked for which examples it was trained on")
            return None, "not looked for"
        advance = partial(self._say, "looking for the training set")
        verdict, rows = None, self._rows_of_file[0]
        for rows in self._rows_of_file:
            verdict = find_split(self._telling[rows], advance=advance)
            if verdict.found:
                break
        assert verdict is not None
        if verdict.found:
            verdict = self._by_the_losses(verdict, rows)
        is_ours = torch.equal(rows, torch.arange(len(rows)))
        of = "" if is_ours else " (of the pairs in the order that they have in the file's own numbering)"
        self.sentences.append(f"{verdict}{of}")
        if not verdict.found:
            return None, "not found"
        self.training |= {"fraction": verdict.fraction, "split": verdict.recipe, "split_seed": verdict.seed}
        self.fraction_between = verdict.between
        of_recipe = self.config.make_split(self.found.task)
        self.split_is_stored = not is_ours
        return Split(rows[of_recipe.train], rows[of_recipe.test]), "recipe"

    @cached_property
    def _pairs_of_file(self) -> Int[Tensor, "n 2"]:
        """The numbers that the operands a and b of each of the task's pairs have in the file."""
        pairs, numbering = Operation.of(self.found.task).pairs, self.found.numbering
        if numbering is None:
            return pairs
        a, b = pairs.unbind(1)
        return torch.stack([numbering.a.argsort()[a], numbering.b.argsort()[b]], 1)

    @cached_property
    def _rows_of_file(self) -> list[Int[Tensor, "n"]]:
        """The orders in which the file's author may have written the pairs down, as rows of the task: by the
        operand that a network reads first, then by the other; where that is b, also by a."""
        task = Operation.of(self.found.task)
        a, b = self._pairs_of_file.unbind(1)
        by_a, by_b = (a * task.p + b).argsort(), (b * task.p + a).argsort()
        words = [word for word in task.tokens.words if word in ("a", "b")]
        return [by_b, by_a] if words[:1] == ["b"] else [by_a]

    def _drawn(self) -> tuple[Split | None, str]:
        task = self.found.task
        n, what = task.n_representative, f"which {task.examples_are} it was trained on"
        if len(task.inputs[:n].unique(dim=0)) < _NEW * n:
            self.sentences.append(f"{what} is not known")
            return None, "not looked for"
        new = f"the {n:,} of the sample are drawn here, of so many that they are called its test examples"
        self.sentences.append(f"{what} is not known: {new}")
        return Split(torch.arange(0), torch.arange(n)), "drawn"

    @cached_property
    def _telling(self) -> Float64[Tensor, "n"]:
        """The losses of the snapshot whose losses differ most: there memorised examples stand out."""
        last = len(self.steps) - 1
        looked_at = sorted({round(i * last / (_LOOKED_AT - 1)) for i in range(_LOOKED_AT)})
        others = [self._behaviour(self.steps[i]).losses for i in looked_at if i != last]
        return max([*others, self._last.losses], key=lambda one: float(one.clamp(min=1e-300).log().std()))

    def _by_the_losses(self, verdict: Verdict, of_file: Int[Tensor, "n"]) -> Verdict:
        """The verdict with the fraction under which the losses are the file's, where its bounds allow one.
        `of_file` are the rows in the order that was shuffled."""
        n = self.found.task.n_inputs
        rows = of_file[order(n, verdict.recipe, verdict.seed)]
        least, most = math.floor(verdict.between[0] * n), math.ceil(verdict.between[1] * n)
        counts = range(max(1, least), min(n - 1, most) + 1)
        apart = {count: self._apart(Split(rows[:count], rows[count:])) for count in counts}
        measured = {count: value for count, value in apart.items() if value is not None}
        if not measured or min(measured.values()) > _LIKE:
            return verdict
        alike = [count for count, value in measured.items() if value <= 2 * min(measured.values())]
        return verdict.of_rows(min(measured, key=lambda count: measured[count]), min(alike), max(alike), n)

    def _stored_rows(self) -> Split | None:
        """The training set that the file names, in the reading that its or its network's losses speak for."""
        train, test, task = self._train_rows, self._test_rows, Operation.of(self.found.task)
        several = readings(train, test, task, self._pairs_of_file)
        if not several:
            are_cells = bool(possible_cells(train, test, task.p))
            what = "do not make up the table" if are_cells else "are no rows of this task"
            named = "the rows that the file names as its training and test set"
            self.sentences.append(f"{named} {what}, and were left out")
            return None
        chosen, why = self._by_their_losses(several) or self._by_their_trace(several)
        names = "names" if train is not NOTHING else "does not name as its test set"
        how = f"trained on the {len(chosen.split.train)} examples that the file {names}, read as {chosen.how}"
        self.sentences.append(f"{how}: {why}")
        return chosen.split

    def _by_their_losses(self, several: list[Rows]) -> tuple[Rows, str] | None:
        """The reading of the rows under which the network's losses are the file's; None without one."""
        apart = {rows: value for rows in several if (value := self._apart(rows.split)) is not None}
        if not apart:
            return None
        ranked = sorted(apart, key=lambda rows: apart[rows])
        best, after = ranked[0], ranked[1:2]
        if apart[best] > _LIKE or any(apart[rows] <= 2 * apart[best] + 1e-6 for rows in after):
            return None
        others = _of(after, lambda rows: f"to {apart[rows]:.2g}")
        return best, f"its losses are then the file's, to {apart[best]:.2g} of them; {others}"

    def _by_their_trace(self, several: list[Rows]) -> tuple[Rows, str]:
        """The reading under which the training losses are lowest; the usual one, where none clearly is."""
        by = {rows: lower(self._telling, rows.split.train) for rows in several}
        best, usual = max(several, key=lambda rows: by[rows]), several[0]
        chosen = best if by[best] >= _CLEAR_TRACE and by[best] - by[usual] >= _CLEAR_TRACE else usual
        after = sorted((rows for rows in several if rows is not chosen), key=lambda rows: -by[rows])[:1]
        others = _of(after, lambda rows: f"by {by[rows]:.1f}")
        why = f"its losses there are lower by {by[chosen]:.1f} standard deviations; {others}"
        if by[chosen] < _CLEAR_TRACE or any(by[chosen] - by[rows] < _CLEAR_TRACE for rows in after):
            why += ". Which of these readings is right CANNOT be told by the losses: the usual one was kept"
        elif "place" in chosen.how:
            why += ". So it is unless its training labels were noisy, which would look the same"
        return chosen, why

    def _near_last(self, part: str, metric: str = "loss") -> list[float]:
        """The file's numbers of the last snapshot, evaluated before or after the step of its saving."""
        at, values = self.steps[-1], self.series.get(f"{part}_{metric}", {})
        return [values[step] for step in (at, at + 1) if math.isfinite(values.get(step, math.nan))]

    def _apart(self, split: Split, last: Behaviour | None = None) -> float | None:
        """How far the last snapshot's losses are from the file's, relative to them; None without those."""
        last = last or self._last
        worst = []
        for part, rows in (("train", split.train), ("test", split.test)):
            if near := [loss for loss in self._near_last(part) if loss]:
                measured = self._measured(last, split, rows)
                worst.append(min(abs(value - loss) / abs(loss) for value in measured for loss in near))
        return max(worst, default=None)

    def _measured(self, last: Behaviour, split: Split, rows: Int[Tensor, "n"]) -> list[float]:
        """The mean loss at some rows: the cross-entropy; and the squared error, of a network that was trained
        on it: on its training set it is then less wrong than one that answers 0 to all."""
        squared = float(last.squares[split.train].mean()) < 1 / self.found.task.n_answers
        return [float(values[rows].mean()) for values in (last.losses, last.squares)[: 1 + squared]]

    def _choose_variant(self) -> None:
        """Of the ways to read the weights that do the task equally well, the one under which the losses are
        the file's; else the one whose training had most come to rest."""
        found = self.found
        rows = self.split.train if self.split is not None and len(self.split.train) else None
        verdict = most_at_rest(found, rows)
        if (
            rows is not None
            and self.split is not None
            and len(found.equals) > 1
            and any(map(self._near_last, _PARTS))
        ):
            # In order: the one chosen so far, those like it, the others. Each takes a pass over all pairs.
            ways = list(dict.fromkeys([verdict.chosen, *verdict.alike, *found.equals]))[:_COMPARED]
            apart: dict[Variant, float] = {}
            for way in ways:
                seen = behaviour(for_task(way.converted.model, found.task), found.task, way.converted.weights)
                apart[way] = self._apart(self.split, seen) or 0.0
            least = min(apart.values())
            alike = [way for way in ways if apart[way] <= 2 * least + 1e-6]
            if least <= _LIKE:
                chosen, *alike = alike
                why = f"its losses are the file's, to {apart[chosen]:.2g} of them"
                others = [way for way in ways if way is not chosen and way not in alike]
                if others:
                    after = min(others, key=lambda way: apart[way])
                    why += f", with {after.differs_from(chosen)} to {apart[after]:.2g}"
                verdict = LikeliestWay(chosen, why, tuple(alike))
        if rows is None and not self._of_pairs and (batches := self._recent("train") or self._recent("test")):
            verdict = self._by_batches(verdict, batches[0])
        if verdict.chosen is not found.variant:
            self._read_as(verdict.chosen)
        self._of_the_weights = list(self.found.of_the_weights(verdict))

    def _check(self) -> None:
        """
        Raises:
            NotBelieved: what was read contradicts what the file says; where it is to be believed, this is a
                sentence.
        """
        if not self._of_pairs:
            self._compare_with_batches()
            return
        contradiction, doubt = self._contradiction(), self._doubt()
        if doubt is not None:
            if contradiction is None and float(self._last.right.double().mean()) < _KNOWN:
                contradiction = doubt
            else:
                self.sentences.append(f"DOUBTFUL: {doubt}")
        if contradiction is None:
            return
        if not self.request.believe:
            what = f"the import is not believed: {contradiction}. Tried were {self.found.tried}"
            of = beginning(self.known.name)
            remedy = f"Say what it is with --task, --config-file or a mapping{of}"
            raise NotBelieved(f"{what}. {remedy}; or import it as it stands with --believe")
        self.sentences.append(f"{contradiction}; it was imported as asked for, by --believe")

    def _recent(self, part: str) -> tuple[float, int] | None:
        """The mean of the last losses of a part in the file, and of how many it is; None without any."""
        every = [loss for loss in self.series.get(f"{part}_loss", {}).values() if math.isfinite(loss)]
        last = every[-_RECENT:]
        return (sum(last) / len(last), len(last)) if last else None

    def _by_batches(self, verdict: LikeliestWay, recent: float) -> LikeliestWay:
        """The verdict without the ways whose loss is far from that of the file's last batches, where that of
        another is not."""
        task, last = self.found.task, torch.arange(min(_FEW_COMPARED, self.found.task.n_representative))
        ways = [verdict.chosen, *verdict.alike]
        of = {
            way: behaviour(for_task(way.converted.model, task), task, way.converted.weights, last).loss
            for way in ways[: 1 + _COMPARED]
        }
        near = [way for way, loss in of.items() if not _far(loss, recent)]
        if not near or len(near) == len(of):
            return verdict
        chosen = near[0]
        after = min((way for way in of if way not in near), key=lambda way: of[way])
        why = f"its loss is {of[chosen]:.3g}, with {after.differs_from(chosen)} {of[after]:.3g}"
        return LikeliestWay(
            chosen, f"{why}, and that of the file's last batches {recent:.3g}", tuple(near[1:])
        )

    def _compare_with_batches(self) -> None:
        """Says whether the loss on the sample is that of the last batches in the file."""
        for part in _PARTS:
            if (batches := self._recent(part)) is None:
                continue
            recent, n = batches
            of = f"the loss on the sample is {self._last.loss:.3g}, and the mean of the file's last"
            text = f"{of} {n} {part} losses {recent:.3g}"
            if _far(self._last.loss, recent):
                text = f"DOUBTFUL: {text}: the network was read wrongly, or these are of other examples"
            self.sentences.append(text)

    def _doubt(self) -> str | None:
        """That the loss over all pairs is not between the file's losses of training and test examples, where
        it is not known which these are. Of a network that is right on nearly all pairs that is no
        contradiction, as those may have been measured otherwise, and no agreement."""
        stored = [self._near_last(part) for part in _PARTS]
        if self.split is not None or not all(stored):
            return None
        least, most = min(map(min, stored)), max(map(max, stored))
        everywhere = float(self._last.losses.mean())
        if not _far(everywhere, min(max(everywhere, least), most)):
            return None
        return (
            f"the loss over all pairs is {everywhere:.3g}, and the file's losses of training and test "
            f"examples are {least:.3g} and {most:.3g}: the network was read wrongly, or these are of other "
            "examples, or of another loss"
        )

    def _contradiction(self) -> str | None:
        """What in the file speaks against the best reading of it, if anything."""
        last, split = self._last, self.split
        for part in _PARTS if split else ():
            assert split is not None
            rows = getattr(split, part)
            losses, near = self._measured(last, split, rows), self._near_last(part)
            if near and all(_far(value, loss) for value in losses for loss in near):
                of = f"{part} loss at its last snapshot is {losses[0]:.3g}"
                return f"the {of}, and {near[0]:.3g} in the file"
            right, near = float(last.right[rows].double().mean()), self._near_last(part, "accuracy")
            if near and all(abs(right - share) > _ACCURACY_CONTRADICTS for share in near):
                of = f"{part} accuracy at its last snapshot is {right:.3g}"
                return f"the {of}, and {near[0]:.3g} in the file"
        if split is None or self.recipe != "stored" or not self.found.above_chance:
            return None
        train, test = (float(last.right[rows].double().mean()) for rows in (split.train, split.test))
        is_files = any(map(self._near_last, _PARTS)) and (self._apart(split) or 0) <= _LIKE
        if train >= _KNOWN or lower(self._telling, split.train) >= _TRACE or is_files:
            return None
        is_named = self._train_rows is not NOTHING
        what = "the file names as its training set" if is_named else "it does not name as its test set"
        why = f"of what {what} the network gets {train:.3f} right and of the rest {test:.3f}"
        return f"{why}, and its losses are no lower there: these are not the rows that it was trained on"

    @property
    def config(self) -> TrainConfig:
        """The configuration of the run: what is known of it, and defaults that mean nothing."""
        training = {**self.training, "steps": max(1, self.steps[-1])}
        if self.recipe == "drawn":
            training |= {"data": "fresh", "batch_size": 1}
        return TrainConfig.make(
            {"task": self.found.section, "model": self.found.model.model_dump(), "training": training}
        )

    def weights(self, step: int) -> Weights:
        """The weights at a step, under our names."""
        converted = self._converted(step)
        return completed(converted.weights, self.found.model.shapes(self.found.task.reads))

    def _converted(self, step: int) -> Converted:
        converted = convert(self.known.layout, self.states[step], self._content, self.known.settings)
        if for_task(converted.model, self.found.task) != self.found.model:
            what = f"its snapshot of step {step} is another network than its last"
            raise DoesNotFit(f"cannot import {self.request.path}: {what}", 3)
        if (numbering := self.found.numbering) is None:
            return converted
        weights = numbering.renumbered(converted.weights, converted.model.kind)
        return dataclasses.replace(converted, weights=weights)

    def _behaviour(self, step: int) -> Behaviour:
        """What the network does at a step."""
        task = self.found.task
        rows = None if self._of_pairs else torch.arange(task.n_representative)
        return behaviour(self.found.model, task, self.weights(step), rows)

    def evaluations(self) -> Iterator[dict[str, float]]:
        """The history: what the file has of it; at snapshots, what was measured in its place and beside it.

        Where the file has a history, what is measured at a snapshot whose step is not known has no place in
        it.
        """
        measured: dict[int, dict[str, float]] = {}
        unknown = {*self.known.snapshots.unknown} if any(self.series.values()) else set()
        for i, step in enumerate(self.steps if self.split else []):
            assert self.split is not None
            self._say("measuring snapshots", i / len(self.steps))
            if step in unknown:
                continue
            seen = self._last if step == self.steps[-1] else self._behaviour(step)
            measured[step] = {}
            for part, rows in (("train", self.split.train), ("test", self.split.test)):
                of_rows = (seen.losses[rows], seen.right[rows], seen.asked[rows])
                measured[step] |= metrics_of(part, *of_rows, self.found.task.reads.answers)
        self._compare(measured)
        for step in sorted({*measured}.union(*self.series.values())):
            in_file = {column: values[step] for column, values in self.series.items() if step in values}
            numbers = {**measured.get(step, {}), **in_file}
            yield {"step": step, **{name: value for name, value in numbers.items() if math.isfinite(value)}}

    def _compare(self, measured: Mapping[int, Mapping[str, float]]) -> None:
        """Says how far the file's numbers are those measured: whether the split is right, and after which
        update the weights were saved."""
        for column, values in self.series.items():
            is_loss = column.endswith("loss")
            apart = {
                shift: _apart(
                    values, {s + shift: of[column] for s, of in measured.items() if column in of}, is_loss
                )
                for shift in (0, 1)
            }
            if apart[0] is None:
                continue
            later = apart[1] is not None and apart[1] < apart[0]
            after = " of the step after, so weights were saved after their step's update"
            where = after if later and is_loss else ""
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
                if self.recipe == "stored":
                    account.use(place)
                else:
                    what = "named as rows of the training or test set"
                    account.leave(place, f"{what}, and not the rows of this task")
        enter(self.known.series.values(), self.known.unread, self._without_steps, account)
        if len(self.known.files.contents) == 1:
            self.known.snapshots.account(account, layout.ignore)
            return account.left_out()
        self.known.snapshots.account(account, layout.ignore, self.known.file)
        left_out = {self.known.file: account.left_out()}
        for file, content in self.known.files.contents.items():
            if file not in left_out:
                of_file = Account(content)
                self.known.snapshots.account(of_file, layout.ignore, file)
                left_out[file] = of_file.left_out()
        return of_several_files(left_out)

    @property
    def record(self) -> dict[str, Any]:
        """What run.json says of the import."""
        known, left_out = self.known, self.left_out()
        return {
            "file": self.request.name,
            "sha256": self.request.sha256,
            "layout": known.name,
            "mapping_sha256": _text_hash(layout_named(known.name)[1]),
            "settings_sha256": settings_hash(known.settings),
            "training": self.training,
            "split": self.recipe,
            "unknown_steps": self.known.snapshots.unknown,
            "left_out": [one.record for one in left_out],
            "fraction_between": self.fraction_between,
            "assumed": [
                f"layout {known.name}: {known.layout.doc}",
                *self._of_the_network(),
                *self.found.of_the_task(self._last.share, self._share_of_training),
                *self.sentences,
                *map(str, left_out),
            ],
        }

    @property
    def _share_of_training(self) -> float | None:
        """How much is right of the training set that the file names, as it was read; None where none was."""
        if self.split is None or self.recipe != "stored":
            return None
        return float(self._last.right[self.split.train].double().mean())

    def _of_the_network(self) -> Iterator[str]:
        """Sentences on what is assumed of the network."""
        yield from self._of_the_weights
        open_keys = self.found.variant.assumed
        said = [one for one in self.known.last.assumed if not one.startswith("no ")]
        if rest := [one for one in said if one.partition(" = ")[0] not in open_keys]:
            yield f"of the network, by its layout: {', '.join(rest)}"


def _of(after: Sequence[Rows], value: Callable[[Rows], str]) -> str:
    """What is so under the next best reading of the rows."""
    return f"read as {after[0].how}, {value(after[0])}" if after else "there is no other reading"


def settings_hash(settings: Any) -> str | None:
    if settings is None:
        return None
    return _text_hash(json.dumps(getattr(settings, "fields", settings), sort_keys=True, default=str))


def _text_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _far(measured: float, loss: float) -> bool:
    """Whether a loss is so far from the file's that both cannot be of one network."""
    factor, nats = _CONTRADICTS
    return abs(measured - loss) > nats and not loss / factor <= measured <= loss * factor


def _apart(in_file: Mapping[int, float], measured: Mapping[int, float], is_loss: bool) -> float | None:
    """How far the file's numbers are from those measured at some steps (median), losses relative to them;
    None where there is no common step."""
    both = [(in_file[step], value) for step, value in measured.items() if step in in_file]
    apart = [abs(a - b) / (abs(a) if is_loss else 1) for a, b in both if a or not is_loss]
    return float(torch.tensor(apart, dtype=torch.float64).median()) if apart else None
