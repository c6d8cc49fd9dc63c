"""How measures change over training: every snapshot of a run measured, as one labelled Dataset.

What was measured of each snapshot stays with the run (`cache.py`): a second call reads it, a replay that
was interrupted goes on where it stopped, and one of a longer run computes only what is new. As many
snapshots are measured at a time as torch has threads, up to four, each by one thread. Not as one batch: a
forward pass of 16 networks with stacked weights (torch.func.vmap) took longer for each on a CPU of 2 threads,
1.4 in place of 1.3 ms for p = 23, 41 in place of 10 for p = 53, 510 in place of 270 for p = 113.
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import torch

from ..asked import NAMES, STEPS, asks
from ..errors import NotApplicable, UsageError, WriteFailed
from ..given import as_run
from ..measures import MEASURES, Measure
from ..measures.base import named
from ..measures.standing import Examples
from ..memory import give_back_memory
from ..progress import bars
from ..runs import Run
from ..tasks import Task
from .cache import AT_ONCE, FROM_FINAL, Entry, Measured, sweep, workers
from .descent import has_plateaus
from .frequencies.pictures import PICTURES

if TYPE_CHECKING:
    import xarray as xr

Tell: TypeAlias = Callable[[WriteFailed], None]
"""Takes an error that keeps nothing from being measured."""
FINAL = "@final_keys"
"""Behind the name of a measure that uses key frequencies: those of the run's last snapshot, at every step, as
the papers do."""

PROGRESS = (
    "loss", "accuracy", "sum_of_squares",
    "restricted_loss.logit_dirs", "excluded_loss.logit_dirs", "excluded_loss.per_frequency", "trig_loss",
    "gini.W_E", "gini.W_L", "fourier_norms.W_E", "fourier_norms.W_L", "key_share.W_E", "circle.angle",
    "circle.radius_spread",
    "key_frequencies.consensus", "key_frequencies.w_e_norm", "key_frequencies.gap",
    "key_frequencies.neurons", "key_frequencies.w_l",
    "key_frequencies.load_bearing", "key_frequencies.logits",
    "neuron.frequency", "neuron.explained_variance", "neuron.clusters", "neuron.single_frequency_share",
    "power.W_E", "power.W_L", "power.neurons", "power.logits", "variance.neurons", "variance.logits",
    "logit_cosine", "logit_fve.centred", "aliasing_gap.closest", "aliasing_gap.by_distance",
    "attention.mean", "attention.variance",
)  # fmt: skip
"""What is replayed unless other measures are named: the progress measures of Nanda et al. 2023 and what is
cheap beside them."""
OF_NOISE = ("clean_accuracy", "clean_loss", "noise.profile")
"""What comes on top where labels are noisy."""


def progress_of(run: Run) -> tuple[str, ...]:
    """The names of the measures that a run is replayed with unless others are named: those of PROGRESS that
    are of its family of tasks, and those that were registered to be replayed. Why one of them does not apply
    is said."""
    usual = [name for name in PROGRESS if MEASURES[name].is_of(run.task)]
    registered = [m.name for m in MEASURES.values() if m.replayed and m.applies_to(run.task)]
    return tuple(dict.fromkeys([*usual, *(OF_NOISE if run.task.noisy else ()), *registered]))


def pictures_of(run: Run) -> list[str]:
    """The names of the pictures that the page of a run shows."""
    return [name for name, picture in PICTURES.items() if picture.applies_to(run.task)]


@asks("gi.replay", measures=NAMES, steps=STEPS)
def replay(
    run: Run | str | Path, measures: Sequence[str] | None = None, steps: Sequence[int] | None = None,
    *, progress: bool | None = None,
) -> xr.Dataset:  # fmt: skip
    """Measures at every snapshot: dimension `step` first, then each measure's own, with unit and source in
    the attributes.

    A measure that uses key frequencies appears twice: under its name with the keys of each snapshot, as
    `gi.measure` takes them, and with `@final_keys` behind its name with those of the run's last snapshot;
    asked for by that longer name, it appears with those alone, and no keys need to be found in the snapshots
    before. Pictures (`picture.circles`, `picture.neurons` and others) always do. Where a measure does not
    apply at a step its values there are NaN; where it applies at none it is left out, and the reason is in
    the attribute `skipped`, as JSON.

    Args:
        run: a run or its directory, finished or still being written.
        measures: names of measures, with `@final_keys` or without, or of pictures; by default those of
            `grokinterp.replay.PROGRESS`, and where labels are noisy a few more.
        steps: committed steps, negative ones counted from the end; by default all.
        progress: whether to show a progress bar on stderr; by default where that is a terminal.

    Raises:
        UsageError: no measure has one of the names, or one with `@final_keys` uses no keys.
        NoSuchSnapshot: the run has no snapshot at one of the steps, or none at all.
        DamagedFile: a snapshot does not match its recorded hash.
    """
    run = as_run(run, "gi.replay")
    wanted = _variables(progress_of(run) if measures is None else named(measures))
    run.resolve(-1)  # which says why there is none
    chosen = run.steps if steps is None else sorted({run.resolve(step) for step in steps})
    sweep(run)
    entries_at: dict[int, dict[str, Entry]] = {}
    with _progress_bar(len(chosen), progress) as advance, _warned_once() as tell, workers() as pool:
        last = Measured(run, run.steps[-1])
        final = pool.submit(_Final, last, run.task, tell)

        def of_step(step: int) -> dict[str, Entry]:
            if step == run.steps[-1]:
                final.result()  # no two threads work on one network
            return _of_snapshot(last if step == run.steps[-1] else Measured(run, step), wanted, final, tell)

        for step, entries in zip(chosen, pool.map(of_step, chosen), strict=True):
            entries_at[step] = entries
            _share_labels(entries_at[chosen[0]], entries)
            if len(entries_at) % (4 * AT_ONCE) == 0:
                give_back_memory()
            advance()
    return _dataset(run, wanted, entries_at, final.result().attributes)


def _variables(names: Sequence[str]) -> dict[str, Measure]:
    """The variables that the names ask for, and the measure of each.

    Raises:
        UsageError: no measure has one of the names, or one with `@final_keys` uses no keys.
    """
    wanted: dict[str, Measure] = {}
    for name in names:
        plain = name.removesuffix(FINAL)
        measure = PICTURES[plain] if plain in PICTURES else MEASURES[plain]
        if plain != name and not _of_final(measure):
            raise UsageError(f"{plain} uses no key frequencies: ask for it without {FINAL}")
        if plain == name and not (plain in PICTURES and _of_final(measure)):
            wanted[name] = measure
        if _of_final(measure):
            wanted[plain + FINAL] = measure
    return wanted


def _of_snapshot(
    snapshot: Measured, wanted: Mapping[str, Measure], final: Future[_Final], tell: Tell
) -> dict[str, Entry]:
    """All that is wanted of one snapshot, under the names of the variables. What needs no final keys goes
    first, while these are found."""
    with_own = {name: snapshot.entry(measure) for name, measure in wanted.items() if not name.endswith(FINAL)}
    entries = {
        name: with_own[name] if name in with_own else final.result().entry(snapshot, measure)
        for name, measure in wanted.items()
    }
    _save(snapshot, tell)
    return entries


def _share_labels(first: Mapping[str, Entry], entries: dict[str, Entry]) -> None:
    """Lets the entries have the labels of the first snapshot where they are the same: over hundreds of
    snapshots they would add up."""
    for name, entry in entries.items():
        if entry.coords == first[name].coords:
            entries[name] = replace(entry, coords=first[name].coords)


def _of_final(measure: Measure) -> bool:
    return any(option in measure.options for option in ("keys", "neurons"))


class _Final:
    """What measures take from the last snapshot; what else is asked of it goes into the cache, too."""

    def __init__(self, last: Measured, task: Task, tell: Tell) -> None:
        self._taken = [each.taken(last) for each in FROM_FINAL.applying_to(task.families)]
        self.attributes = {name: text for each in self._taken for name, text in each.attributes.items()}
        _save(last, tell)

    def entry(self, snapshot: Measured, measure: Measure) -> Entry:
        """A measure with the keys or the example neurons of the final network, where that has some."""
        options = {name: values for each in self._taken for name, values in each.options.items()}
        for each in self._taken:
            if not all(values for option, values in each.options.items() if option in measure.options):
                return Entry(None, [], {}, each.why_none)
        return snapshot.entry(measure, options)


def _save(snapshot: Measured, tell: Tell) -> None:
    try:
        snapshot.save()
    except WriteFailed as error:
        tell(error)


@contextmanager
def _warned_once() -> Iterator[Tell]:
    """Says at the end, once, that nothing could be kept: the replay itself is whole."""
    failures: list[WriteFailed] = []
    yield failures.append
    if failures:
        lost = "what was measured is not kept, so the next replay computes it again"
        warnings.warn(f"{lost}: {str(failures[0]).partition(';')[0]}", stacklevel=4)


def _dataset(
    run: Run, wanted: Mapping[str, Measure], entries_at: Mapping[int, Mapping[str, Entry]],
    of_final: Mapping[str, str],
) -> xr.Dataset:  # fmt: skip
    import xarray as xr

    variables: dict[str, xr.DataArray] = {}
    reasons: dict[str, str] = {}
    for name in next(iter(entries_at.values())):
        entries = [entries[name] for entries in entries_at.values()]
        if all(entry.values is None for entry in entries):
            reasons[name] = entries[-1].reason
        else:
            stacked, measure = _stacked(entries, list(entries_at)), wanted[name]
            variables[name] = stacked.assign_attrs(unit=measure.unit, ref=measure.ref)
    # Some measures have the key frequencies alone.
    aligned = xr.align(*variables.values(), join="outer", copy=False)
    return xr.Dataset(
        dict(zip(variables, aligned, strict=True)),
        attrs={
            "run": run.name,
            "task": run.task.symbol,
            "families": json.dumps(run.task.families),
            "answers": run.task.n_answers,
            **Examples.of(run.task, run.split).to_attrs(),
            "divergence": run.divergence,
            **({"thinning": run.thinning} if run.thinned else {}),
            **({"levels": json.dumps(run.task.levels)} if has_plateaus(run) else {}),
            **(run.task.coordinates.to_attrs() if run.task.coordinates is not None else {}),
            **of_final,
            "skipped": json.dumps(reasons),
        },
    )


def _stacked(entries: Sequence[Entry], steps: list[int]) -> xr.DataArray:
    """One array over the steps; NaN where the measure does not apply, or has other labels (such as other
    keys) than at other steps."""
    import xarray as xr

    some = next(entry for entry in entries if entry.values is not None)
    assert some.values is not None
    if all(entry.values is None or entry.coords == some.coords for entry in entries):
        missing = any(entry.values is None for entry in entries)
        dtype = torch.get_default_dtype() if some.values.dtype == torch.float32 else torch.float64
        nothing = torch.full(some.values.shape, math.nan, dtype=dtype)
        values = torch.stack(
            [nothing if e.values is None else e.values.to(dtype) if missing else e.values for e in entries]
        )
        return xr.DataArray(values.numpy(), dims=["step", *some.dims], coords={"step": steps, **some.coords})
    arrays = [
        xr.DataArray(e.values.double().numpy(), dims=e.dims, coords=e.coords)
        if e.values is not None
        else xr.DataArray(math.nan)
        for e in entries
    ]
    return xr.concat(arrays, xr.Variable("step", steps), join="outer").transpose("step", ...)


@contextmanager
def _progress_bar(total: int, wanted: bool | None) -> Iterator[Callable[[], None]]:
    with bars(wanted) as bar:
        task = bar.add_task("", total=total, what="snapshot") if bar else None
        yield lambda: bar.advance(task) if bar and task is not None else None


def at_known_steps(data: xr.Dataset, name: str) -> xr.DataArray:
    """A variable of a replay, at the steps at which it has values.

    Raises:
        NotApplicable: it applies at no step.
        UsageError: it was not replayed.
    """
    if (reason := skipped(data).get(name)) is not None:
        raise NotApplicable(reason)
    if name not in data:
        how = "give it to gi.replay among the measures"
        raise UsageError(f"{name} was not replayed: {how}")
    values = data[name].dropna("step", how="all")
    if not values.sizes["step"]:
        raise NotApplicable(f"{name} has no value at any of the steps")
    return values


def skipped(data: xr.Dataset) -> dict[str, str]:
    """The variables that a replay has not, as they apply at no step, with the reasons."""
    reasons: dict[str, str] = json.loads(data.attrs.get("skipped", "{}"))
    return reasons


def families_of(data: xr.Dataset) -> list[str]:
    """The names of the families to which the task of a replay belongs."""
    families: list[str] = json.loads(data.attrs.get("families", "[]"))
    return families


def final_keys(data: xr.Dataset) -> list[int]:
    """The key frequencies of the run's last snapshot."""
    return [int(k) for k in json.loads(data.attrs.get("final_keys", "[]"))]
