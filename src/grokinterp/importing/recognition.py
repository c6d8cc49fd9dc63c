"""Which layout a foreign checkpoint has: the one that accounts for every key and every shape."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import UsageError
from ..foreign import shown
from .convert import Converted, Diverged, DoesNotFit, convert, first
from .mapping import Layout, beginning, built_in, layout_named
from .places import objects_in, shown_place
from .series import Series, Unread, series_in
from .several import Files, rows_of_files, with_steps_of_files, without_networks
from .snapshots import (
    NO_WEIGHTS,
    Network,
    Snapshots,
    StateDict,
    arranged,
    empty_places,
    good_ones,
    later_than_all,
    networks_in,
    state_dicts,
)
from .values import vocabulary, words

_MOST_SETTINGS = 1 << 20


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
        files: the files that it is in; `file` is that of the last network.
    """

    name: str
    layout: Layout
    settings: Any
    snapshots: Snapshots
    last: Converted
    series: dict[str, Series]
    unread: list[Unread]
    files: Files
    file: str

    @property
    def content(self) -> Any:
        """What is in the file of the last network, in which losses, rows and settings are looked for."""
        return self.files.contents[self.file]


def recognise(
    files: Files, path: Path, name: str, config_file: Path | None, said: Mapping[str, Any]
) -> Recognised:
    """The checkpoint, of one file or several, under the named layout, or under the one built-in layout that
    it fits; `said` are keys of a mapping that take the place of the layout's.

    Raises:
        DoesNotFit: it fits none; the message is that of the layout which came nearest.
        UsageError: it fits several, or a settings file cannot be read.
    """
    known = built_in() if name == "auto" else {name: layout_named(name)[0]}
    dicts = {file: state_dicts(content) for file, content in files.contents.items()}
    if not any(dicts.values()):
        content = [*files.contents.values()][-1]
        objects = [
            f"; its {shown_place(at)} is a {shown(name)}, not built" for at, name in objects_in(content)
        ]
        what = f"it holds no state dict, that is a dictionary of tensors by name{''.join(objects[:1])}"
        raise DoesNotFit(f"cannot import {path}: {what}: save model.state_dict()", 0)
    fitting: list[Recognised] = []
    failures: list[tuple[int | float, str, str]] = []
    for own, given in known.items():
        layout = given.model_copy(update=dict(said))
        try:
            networks, on_steps = _networks(layout, files, dicts)
            file = _last_file(networks, files)
            content = files.contents[file]
            settings = _settings(layout, content, files.paths[file], config_file)
            good, bad = good_ones(layout, networks, content, settings)
            series, unread = series_in(layout, content)
            series = {**series_in(layout, rows_of_files(networks, files))[0], **series}
            snapshots = arranged(good, max((one.last for one in series.values()), default=None))
            snapshots.left_out += bad
            snapshots.later_is_bad = later_than_all(bad, good)
            snapshots.empty = empty_places(content, networks)
            last = convert(layout, snapshots.last.state, content, settings)
            known_files = dataclasses.replace(files, sentences=(*files.sentences, *on_steps))
            fitting.append(
                Recognised(own, layout, settings, snapshots, last, series, unread, known_files, file)
            )
        except Diverged as reason:
            raise Diverged(f"cannot import {path}: {reason}") from None
        except DoesNotFit as reason:
            failures.append((reason.progress, own, str(reason)))
            is_its_kind = layout.needs_settings and reason.progress >= 3
            of = [_settings(layout, files.contents[one], files.paths[one], config_file) for one in dicts][-1]
            if is_its_kind and of is not None:
                # Its settings are there, and say what cannot be expressed: it is of no other layout either.
                raise DoesNotFit(f"cannot import {path} as {own}: {reason}", reason.progress) from None
    if not fitting:
        raise _nothing_fits(name, failures, path)
    most = max(len(one.snapshots.at) for one in fitting)
    fitting = [one for one in fitting if len(one.snapshots.at) == most]
    # What demands settings, or marks, says more about a file than what would take any.
    best = max(_specific(one.layout) for one in fitting)
    chosen = [one for one in fitting if _specific(one.layout) == best]
    if len(chosen) > 1:
        names = " and ".join(one.name for one in chosen)
        raise UsageError(f"cannot import {path}: it fits the layouts {names}: say which with --layout")
    return chosen[0]


def _networks(
    layout: Layout, files: Files, dicts: Mapping[str, list[StateDict]]
) -> tuple[list[Network], list[str]]:
    """The networks of all files, and what is to be said of the steps of several."""
    of = {
        file: networks_in(layout, content, dicts[file])
        for file, content in files.contents.items()
        if dicts[file]
    }
    if len(files.contents) == 1:
        return next(iter(of.values())), []
    if any(not one.is_guess for several in of.values() for one in several):
        of = {file: several for file, several in of.items() if not _is_of_no_network(file, several)}
    every, said = with_steps_of_files(of)
    return every, [*said, *without_networks([file for file in files.contents if file not in of])]


def _is_of_no_network(file: str, networks: Sequence[Network]) -> bool:
    """Whether a file is, by its name or what is in it, that of an optimiser, a schedule or the like."""
    if not all(one.is_guess for one in networks):
        return False
    its_words = {word for one in networks for key in one.place for word in words(key)} | {*words(file)}
    return bool(its_words & (NO_WEIGHTS | vocabulary("scheduler sched rng random scaler"))) or all(
        any(isinstance(key, int) for key in one.place) for one in networks
    )


def _last_file(networks: Sequence[Network], files: Files) -> str:
    """The file of the network of the last step."""
    if len(files.contents) == 1:
        return next(iter(files.contents))
    ranked = [one for one in networks if not one.is_average and (one.step is not None or one.is_main)]
    last = max(ranked or networks, key=lambda one: (one.is_main, one.step or 0))
    return last.file


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
    reason = reason.replace("a mapping says", f"a mapping{beginning(own)} says")
    reason = reason.replace(
        "mapping that has other `tokens`", f"mapping that has other `tokens`{beginning(own)}"
    )
    return DoesNotFit(f"cannot import {path} as {own}: {reason}", furthest)


def _settings(layout: Layout, content: Any, path: Path, config_file: Path | None) -> Any:
    """The settings in the user's file, else beside the checkpoint, else inside it; None without any."""
    if config_file is not None:
        return read_settings(config_file)
    if layout.contents.settings_file:
        theirs, ours = layout.contents.settings_file.split(" -> ")
        if match := re.fullmatch(re.escape(theirs).replace(r"\{\}", "(.+)"), path.name, re.DOTALL):
            beside = path.with_name(ours.replace("{}", match[1]))
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
