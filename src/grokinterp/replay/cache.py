"""A cache of what was measured of each snapshot, in the run directory, so that it is computed once.

`replay/step_00000100.safetensors` is one sealed file per snapshot, written whole or not at all. An entry
counts while the snapshot's hash, the code of the measures and torch are those that it was computed with; a
file that is damaged, as by a power cut, is made again.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from ..errors import GrokinterpError, NotApplicable, WriteFailed
from ..measures import Measure
from ..measures.base import array
from ..memory import keep_memory
from ..progress import bars
from ..registry import OfFamilies, OfTasks
from ..runs import Run
from ..runs.files import TEMPORARY, UNSEALED, read_sealed, replace, sealed
from ..view import View

_CODE = (
    "measures",
    "models",
    "tasks",
    "fourier.py",
    "geometry.py",
    "view.py",
    "replay/frequencies/pictures.py",
)
"""What the value of a measure depends on, beside the weights and torch."""

AT_ONCE = 4
"""Threads at most: what each computes on is in memory together."""
_PACKAGE = Path(__file__).parents[1]
_HOUR = 3600.0


@dataclass(frozen=True)
class Entry:
    """A measure of one snapshot: its values, labels and attributes, or why it does not apply."""

    values: Tensor | None
    dims: list[str]
    coords: dict[str, list[Any]]
    reason: str = ""
    attrs: dict[str, Any] = field(default_factory=dict)
    beside: dict[str, Sequence[Any]] = field(default_factory=dict)
    """Coordinates that are no dimension's, with the dimensions along which they are."""

    def value(self, measure: Measure) -> Any:
        """What the measure gave: a float or a labelled array.

        Raises:
            NotApplicable: it does not apply.
        """
        if self.values is None:
            raise NotApplicable(self.reason)
        if not self.dims:
            return float(self.values)
        value = array(self.values, self.dims, **self.coords)
        value = value.assign_coords({name: (dims, of) for name, (dims, of) in self.beside.items()})
        return measure.labelled(value.assign_attrs(self.attrs))

    def finite(self, measure: Measure) -> Any:
        """The same, of a measure whose numbers are all finite; where it has a value for each answer, NaN says
        that an answer was not asked.

        Raises:
            NotApplicable: it does not apply, or is not finite.
        """
        value = self.value(measure)
        unasked = np.isnan(value) if "answer" in self.dims else False
        if not (np.isfinite(value) | unasked).all():
            raise NotApplicable("the value is not finite")
        return value


@dataclass(frozen=True)
class Taken:
    """What a replay takes from the final network.

    Attributes:
        options: values of options of measures and pictures, by name, such as the key frequencies.
        why_none: why there is no measure with such options, where one of them is empty.
        attributes: what the Dataset says of them.
    """

    options: dict[str, list[int]]
    why_none: str
    attributes: dict[str, str]


@dataclass(frozen=True)
class FromFinal(OfTasks):
    """What the replay of a task of some family takes from the final network."""

    taken: Callable[[Measured], Taken]


FROM_FINAL: OfFamilies[FromFinal] = OfFamilies("option of the final network")


class Measured:
    """What is known of one snapshot, and what has to be computed; the network is built only when something
    has. Of a network in memory nothing is kept."""

    _made_from: dict[str, str]
    _entries: dict[str, Entry]

    def __init__(self, run: Run, step: int, view: View | None = None) -> None:
        self._run, self._step = run, step
        if view is not None:
            self.view = view
        self._path, self._made_from, self._entries = run.kept_of(step), {}, {}
        if self._path is not None:
            self._made_from = {"snapshot": run.sha256(step), "code": code_hash(), "torch": torch.__version__}
            self._entries = self._read(self._path)
        self._changed = False

    @cached_property
    def view(self) -> View:
        """The network of the snapshot."""
        return self._run.view(self._step)

    def entry(self, measure: Measure, options: Mapping[str, list[int]] | None = None) -> Entry:
        """A measure with those of these options that it takes, read or computed."""
        taken = {name: value for name, value in (options or {}).items() if name in measure.options}
        if not _is_of_this_package(measure):  # its code may change
            return _entry_of(lambda: measure(self.view, **taken))
        label = measure.name + (json.dumps(taken) if taken else "")
        return self.of_label(label, lambda: measure(self.view, **taken))

    def keeps(self, measure: Measure) -> bool:
        """Whether a measure without options is known already."""
        return measure.name in self._entries

    def entries(
        self, measures: Sequence[Measure], options: Mapping[str, list[int]] | None, progress: bool | None
    ) -> list[Entry]:
        """Several measures, as `entry` gives each, and keeps them where the run directory can be written.
        Where they have to be computed this is side by side on threads; of a network that was handed over, one
        after the other."""
        with bars(progress) as bar, workers() as pool:
            task = bar.add_task("", total=len(measures), what="measure") if bar else None

            def of(measure: Measure) -> Entry:
                entry = self.entry(measure, options)
                if bar and task is not None:
                    bar.advance(task)
                return entry

            entries = list(pool.map(of, measures) if self.view.side_by_side else map(of, measures))
        self.save_if_possible()
        return entries

    def of_label(self, label: str, compute: Callable[[], Any]) -> Entry:
        """What the cache has under a label, or else what `compute` gives, which it has from now on."""
        if label not in self._entries:
            self._entries[label] = _entry_of(compute)
            self._changed = True
        return self._entries[label]

    def _read(self, path: Path) -> dict[str, Entry]:
        try:
            data = read_sealed(path)
        except (FileNotFoundError, NotADirectoryError, GrokinterpError):
            return {}  # nothing yet, or damaged: it is made again
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        account = json.loads(header.get("__metadata__", {}).get("grokinterp", "{}"))
        if {key: account.get(key) for key in self._made_from} != self._made_from:
            return {}
        tensors = safetensors.torch.load(data)
        return {name: Entry(tensors.get(name), **described) for name, described in account["entries"].items()}

    def save_if_possible(self) -> None:
        """Keeps what was computed, where the run directory can be written."""
        with suppress(WriteFailed):
            self.save()

    def save(self) -> None:
        """Keeps what was computed. Of several processes that do so at once the last one wins; none spoils
        what another wrote.

        Raises:
            WriteFailed: the run directory cannot be written.
        """
        if not self._changed or self._path is None:
            return
        entries = {
            name: {of: getattr(e, of) for of in ("dims", "coords", "reason", "attrs", "beside")}
            for name, e in self._entries.items()
        }
        account = json.dumps({"seal": UNSEALED, **self._made_from, "entries": entries}, allow_nan=False)
        tensors = {name: e.values.contiguous() for name, e in self._entries.items() if e.values is not None}
        data = sealed(safetensors.torch.save(tensors, {"grokinterp": account}))
        replace(self._path, data, make_folder=True, durable=False)
        self._changed = False


@contextmanager
def workers() -> Iterator[ThreadPoolExecutor]:
    """As many threads as torch has, each computing on one alone: sums are then made in the same order however
    many there are."""
    keep_memory()
    threads = torch.get_num_threads()
    pool = ThreadPoolExecutor(min(threads, AT_ONCE), "grokinterp", torch.set_num_threads, (1,))
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)


def _is_of_this_package(measure: Measure) -> bool:
    function = measure.function
    while isinstance(function, partial):
        function = function.func
    return function.__module__.startswith(f"{_PACKAGE.name}.")


def _entry_of(compute: Callable[[], Any]) -> Entry:
    try:
        value = compute()
    except NotApplicable as reason:
        return Entry(None, [], {}, str(reason))
    if isinstance(value, float):
        return Entry(torch.tensor(value, dtype=torch.float64), [], {})
    coords = {str(dim): value.coords[dim].values.tolist() for dim in value.dims}
    beside: dict[str, Sequence[Any]] = {
        str(name): ([str(dim) for dim in coord.dims], coord.values.tolist())
        for name, coord in value.coords.items()
        if name not in value.dims
    }
    said = {name: of for name, of in value.attrs.items() if name not in ("unit", "ref", "gauge")}
    values, dims = torch.from_numpy(value.values.copy()), [str(dim) for dim in value.dims]
    return Entry(values, dims, coords, attrs=said, beside=beside)


def sweep(run: Run) -> None:
    """Removes what killed processes left half-written; a file that is being written is younger than an
    hour."""
    for leftover in (run.path / "replay").glob(f"*{TEMPORARY}"):
        with suppress(OSError):
            if time.time() - leftover.stat().st_mtime > _HOUR:
                leftover.unlink()


@cache
def code_hash() -> str:
    """The sha256 of the source of everything that measures depend on: with other code, nothing in the cache
    counts."""
    digest = hashlib.sha256()
    for name in _CODE:
        entry = _PACKAGE / name
        for file in sorted(entry.rglob("*.py")) if entry.is_dir() else [entry]:
            digest.update(file.name.encode() + file.read_bytes())
    return digest.hexdigest()
