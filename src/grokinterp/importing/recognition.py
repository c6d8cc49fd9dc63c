"""Which layout a foreign checkpoint has, and which task its network does: found by trying, and said with what speaks for it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float64, Int
from torch import Tensor

from ..errors import UsageError
from ..models import NetworkConfig, Weights, answer_logits, read_by, weight_shapes
from ..tasks import TASKS, Task, groups, make_task, task_parameters
from ..training import cross_entropy
from ..training.examples import one_thread
from .convert import Converted, Diverged, DoesNotFit, completed, convert, first
from .mapping import Layout, built_in, layout_named
from .series import Series, Unread, series_in
from .snapshots import Snapshots, arranged, empty_places, good_ones, later_than_all, networks_in, state_dicts

_WELL = 0.9
"""A network that is right on fewer pairs gets a word of doubt."""
_CLEARLY = 0.1
"""A task is the network's when it is right on so many more of the pairs than any other task."""
_MOST_SETTINGS = 1 << 20
_CHUNK = 1024


@dataclass(frozen=True)
class Recognised:
    """A checkpoint under the layout that it fits.

    Attributes:
        name: the layout's.
        layout: the layout.
        settings: the settings beside or inside the checkpoint, or None.
        snapshots: its networks by step, and those left out.
        last: the last of them, converted.
        series: its losses and accuracies, by column; `unread` are those that were not taken.
    """

    name: str
    layout: Layout
    settings: Any
    snapshots: Snapshots
    last: Converted
    series: dict[str, Series]
    unread: list[Unread]


def recognise(content: Any, path: Path, name: str, config_file: Path | None, tokens: Mapping[str, Any]) -> Recognised:
    """The checkpoint under the named layout, or under the one built-in layout that it fits.

    Raises:
        DoesNotFit: it fits none; the message is that of the layout which came nearest.
        UsageError: it fits several, or a settings file cannot be read.
    """
    known = built_in() if name == "auto" else {name: layout_named(name)[0]}
    dicts = state_dicts(content)
    fitting: list[Recognised] = []
    failures: list[tuple[int | float, str, str]] = []
    for own, given in known.items():
        layout = given.model_copy(update=dict(tokens))
        try:
            networks = networks_in(layout, content, dicts)
            settings = _settings(layout, content, path, config_file)
            good, bad = good_ones(layout, networks, content, settings)
            series, unread = series_in(layout, content)
            snapshots = arranged(good, max((one.last for one in series.values()), default=None))
            snapshots.left_out += bad
            snapshots.later_is_bad, snapshots.empty = later_than_all(bad, good), empty_places(content, networks)
            last = convert(layout, list(snapshots.at.values())[-1].state, content, settings)
            fitting.append(Recognised(own, layout, settings, snapshots, last, series, unread))
        except Diverged as reason:
            raise Diverged(f"cannot import {path}: {reason}") from None
        except DoesNotFit as reason:
            failures.append((reason.progress, own, str(reason)))
            if layout.needs_settings and reason.progress >= 3 and _settings(layout, content, path, config_file) is not None:
                # Its own settings lie beside it, and say what cannot be expressed: it is no network of another layout either.
                raise DoesNotFit(f"cannot import {path} as {own}: {reason}", reason.progress) from None
    if not fitting:
        raise _nothing_fits(name, failures, path)
    most = max(len(one.snapshots.at) for one in fitting)
    fitting = [one for one in fitting if len(one.snapshots.at) == most]
    # What demands settings, or marks, says more about a file than what would take any.
    best = max(_specific(one.layout) for one in fitting)
    chosen = [one for one in fitting if _specific(one.layout) == best]
    if len(chosen) > 1:
        raise UsageError(f"cannot import {path}: it fits the layouts {' and '.join(one.name for one in chosen)}: say which with --layout")
    return chosen[0]


def _specific(layout: Layout) -> tuple[bool, int]:
    return layout.needs_settings, len(layout.marks)


def _nothing_fits(name: str, failures: list[tuple[int | float, str, str]], path: Path) -> DoesNotFit:
    furthest = max(progress for progress, _, _ in failures)
    nearest = [(own, reason) for progress, own, reason in failures if progress == furthest]
    if name == "auto" and furthest == 0:
        reasons = "; ".join(f"{own}: {reason}" for own, reason in nearest)
        remedy = "write a mapping as docs/import.md shows, and give it with --layout FILE.toml"
        return DoesNotFit(f"cannot import {path}: no built-in layout has its keys ({reasons}): {remedy}", 0)
    own, reason = nearest[0]
    return DoesNotFit(f"cannot import {path} as {own}: {reason}", furthest)


def _settings(layout: Layout, content: Any, path: Path, config_file: Path | None) -> Any:
    """The settings in the file that the user names, else in the one beside the checkpoint, else inside it; None where there are none."""
    if config_file is not None:
        return read_settings(config_file)
    if layout.contents.settings_file:
        theirs, ours = layout.contents.settings_file.split(" -> ")
        before, _, after = theirs.partition("{}")
        if path.name.startswith(before) and path.name.endswith(after) and len(path.name) > len(before + after):
            beside = path.with_name(ours.replace("{}", path.name[len(before) : len(path.name) - len(after)]))
            if beside.is_file():
                return read_settings(beside)
    inside = first(content, layout.contents.settings)
    return inside if isinstance(inside, Mapping) or hasattr(inside, "fields") else None


def read_settings(path: Path) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        UsageError: it holds none.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(_MOST_SETTINGS + 1)
        settings = json.loads(data) if len(data) <= _MOST_SETTINGS else None
    except OSError as error:
        raise UsageError(f"cannot read the settings {path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise UsageError(f"the settings {path} are no JSON: {error}") from None
    if not isinstance(settings, dict):
        raise UsageError(f"the settings {path} are no JSON object of at most a megabyte")
    return settings


@dataclass(frozen=True)
class Found:
    """The task that a network does.

    Attributes:
        task: the task.
        section: its section of a configuration.
        model: the network's configuration, for this task.
        evidence: a sentence.
    """

    task: Task
    section: dict[str, Any]
    model: NetworkConfig
    evidence: str


def find_task(converted: Converted, wanted: Mapping[str, Any]) -> Found:
    """The task that the network gets right on most pairs, of all tasks, or of those that the keys in `wanted` (a section [task]) leave.

    Raises:
        UsageError: none is clearly the network's; or what is wanted does not go with the network.
    """
    scored: list[_Scored] = []
    for p, text in converted.tokens:
        logits: Tensor | None = None
        tables: list[Tensor] = []
        for section in _sections(p, text, wanted):
            task = make_task(**section)
            if task.p != p or task.n_answers != p or any(torch.equal(task.table, table) for table in tables):
                continue
            tables.append(task.table)
            logits = _all_pairs(converted, p, text) if logits is None else logits
            own = logits[task.table.flatten() >= 0]
            scored.append(_Scored(float((own.argmax(1) == task.targets).double().mean()), task, section, own))
    scored.sort(key=lambda one: -one.accuracy)
    others = [one for one in scored if not _same_but_for_tokens(one.section, scored[0].section)]
    _check_clear(scored[:1] + others, converted, wanted)
    # A network that was trained on one operation alone may take any sign for it, and is surest with the one that it knows. The median:
    # the mean is that of the few pairs which it gets wrong.
    best = min(
        (one for one in scored if one not in others and one.accuracy >= scored[0].accuracy - _CLEARLY),
        key=lambda one: float(cross_entropy(one.logits, one.task.targets).median()),
    )
    evidence = f"task: {best.task.symbol}, tokens {best.task.layout!r}: right on {best.accuracy:.4f} of all pairs"
    if others:
        evidence += f"; the next best, {others[0].task.symbol}, on {others[0].accuracy:.4f}"
    if best.accuracy < _WELL:
        evidence += ". That is little for a trained network: if its author reports more, the tokens, the layout or the task are not these"
    return Found(best.task, best.section, for_task(converted.model, best.task), evidence)


@dataclass(frozen=True, eq=False)
class _Scored:
    """A task, and how well the network does it."""

    accuracy: float
    task: Task
    section: dict[str, Any]
    logits: Float64[Tensor, "n classes"]


def _same_but_for_tokens(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return {**one, "layout": ""} == {**other, "layout": ""}


def for_task(model: NetworkConfig, task: Task) -> NetworkConfig:
    """The configuration, with the number of logits said only where it is not that of the answers."""
    return model.model_copy(update={"d_vocab_out": None}) if model.d_vocab_out == task.n_answers else model


def _check_clear(best: list[_Scored], converted: Converted, wanted: Mapping[str, Any]) -> None:
    """Raises unless the first task is the network's, given the others in their order."""
    if not best:
        sizes = " or ".join(f"{p} elements as {text!r}" for p, text in converted.tokens)
        asked = ", ".join(f"{key} = {value}" for key, value in wanted.items())
        raise UsageError(f"the task asked for ({asked}) is none of a network that takes {sizes}")
    # Of few pairs a network gets some right by chance.
    if len(best) == 1 or best[0].accuracy - best[1].accuracy >= _CLEARLY + best[0].task.n_inputs ** -0.5:
        return
    shares = ", ".join(f"{one.task.symbol} {one.accuracy:.3f}" for one in best[:3])
    order = ""
    table = next((one.logits.argmax(1).reshape(one.task.p, -1) for one in best if one.task.is_full_grid), None)
    if table is not None and _is_group(table):
        kind = "commutative" if torch.equal(table, table.T) else "not commutative"
        order = f"; its answers are the table of a group of order {len(table)}, {kind}, whose elements are numbered differently here"
    raise UsageError(f"no task is clearly this network's (shares of all pairs that are right: {shares}){order}: say which with --task")


def _is_group(table: Int[Tensor, "p p"]) -> bool:
    """Whether the answers are the products of a group, whatever the names of its elements. Associativity is asked of a thousand triples."""
    p = len(table)
    own = torch.arange(p)
    if int(table.max()) >= p or not ((table.sort(0).values == own[:, None]).all() and (table.sort(1).values == own).all()):
        return False
    a, b, c = torch.randint(p, (3, 1000), generator=torch.Generator().manual_seed(0))
    associative = bool((table[table[a, b], c] == table[a, table[b, c]]).all())
    return associative and bool((table == own).all(1).any())


def _sections(p: int, text: str, wanted: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Sections [task] with p elements and this layout."""
    # Arithmetic first: composition in C_n is addition mod n, which is the better known name.
    names = sorted(TASKS, key=lambda name: "group" in task_parameters(name).model_fields)
    for name in [str(wanted["name"])] if "name" in wanted else names:
        keys = task_parameters(name).model_fields
        own = [{"p": p}] if "p" in keys else [{"group": group} for group in groups.of_order(p)] if "group" in keys else []
        for parameters in own:
            if all(parameters.get(key, value) == value for key, value in wanted.items()):
                yield {"name": name, **parameters, "layout": text, **wanted}


def _all_pairs(converted: Converted, p: int, text: str) -> Float64[Tensor, "n classes"]:
    """The network's logits for every pair, by a, then by b."""
    carrier = make_task("modular_addition", p=p, layout=text)  # which has all pairs
    return logits_of(for_task(converted.model, carrier), carrier, converted.weights)


def logits_of(model: NetworkConfig, task: Task, weights: Weights) -> Float64[Tensor, "n classes"]:
    """The logits at the answer position over the whole table; biases that are missing are 0."""
    doubled = {name: weight.double() for name, weight in completed(weights, weight_shapes(model, task)).items()}
    # These are many small operations, on which several threads wait for each other: ten times slower on a busy machine.
    with torch.no_grad(), one_thread():
        return torch.cat([answer_logits(doubled, tokens, model) for tokens in read_by(model, task).split(_CHUNK)])
