"""What public functions take in place of the Run or the View that they ask for: the path of a run directory
is its run, and a run where a View is asked for is its last snapshot. Anything else is an error of one line
that says what to do."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from . import measures
from .asked import NAME, STEP, Kind, asks, got_instead, is_network, network_inside
from .errors import UsageError
from .runs import Run, load_run
from .runs.in_memory import InMemory
from .tasks import Rows, Split, Task, make_task, split_of
from .view import View
from .view import view as of_network

if TYPE_CHECKING:
    from .models import HookedRootModule

Function = TypeVar("Function", bound=Callable[..., Any])


def as_run(given: object, asking: str) -> Run:
    """The run that a public function was given, called `asking`.

    Raises:
        UsageError: it is neither a run nor the path of one.
        NotARun: there is no run at that path.
    """
    if isinstance(given, Run):
        return given
    if isinstance(given, str | Path):
        return load_run(given)
    raise UsageError(f"{asking} needs a run or its directory, got {got_instead(given)}")


def as_view(given: object, asking: str, task: object = None, step: int = -1) -> View:
    """The View that a public function was given, called `asking`: of a run, that of a snapshot.

    Raises:
        UsageError: it is neither a View nor a run.
        NoSuchSnapshot: the run has none at that step.
    """
    if isinstance(given, View):
        return given
    if isinstance(given, Run | str | Path):
        return as_run(given, asking).view(step)
    raise UsageError(f"{asking} needs a View, or a run, got {got_instead(given)}")


def as_analysed(
    given: object, asking: str, task: Task | None, step: int | None, split: Split | tuple[Rows, Rows] | None
) -> Run:
    """The run that a report is about: that of a directory, or one that stands for a network in memory.

    Raises:
        UsageError: it is nothing of which there can be a report, or a task or a split belongs to no network.
    """
    if task is None and split is None and isinstance(given, Run | str | Path):
        return as_run(given, asking)
    if task is None and split is None and isinstance(given, View) and step in (None, -1, given.step):
        return InMemory(given)
    if isinstance(given, Run | str | Path | View):
        what = "a View" if isinstance(given, View) else "a run"
        known = "task, split and step" if isinstance(given, View) else "task and split"
        raise UsageError(f"{asking}: {what} has its own {known}: leave them out")
    if task is None and is_network(network_inside(given)):
        raise UsageError(f"{asking} needs the task of a network: give {asking}(network, task)")
    return InMemory(_view(asking, given, task, step, split))


@asks("gi.view", step=STEP)
def view(
    model: HookedRootModule, task: Task | None = None, step: int | None = None,
    split: Split | tuple[Rows, Rows] | None = None,
) -> View:  # fmt: skip
    """A View of a network in memory; no run directory is needed. Hooks on the network stay in force.

    Args:
        model: a HookedTransformer or another hooked network; inside torch.compile or DataParallel, the one
            that is in there. Of a run, or of its path, the View of its last
            snapshot, or of that of `step`, is given; a View is given as it is.
        task: what it learned: a task, or what `gi.make_task` makes it of, a name or {'name': ..., 'p': ...}.
        step: the optimiser updates that it has had, where that is known.
        split: the rows of the task's sample that it was trained on, and those that it is tested on, where
            they are known.

    Raises:
        UsageError: the network does not take this task's tokens, it holds no numbers, or it is no network.
    """
    return _view("gi.view", model, task, step, split)


def _view(
    asking: str, model: object, task: object, step: int | None, split: Split | tuple[Rows, Rows] | None
) -> View:
    """The same, whoever is asked."""
    if task is None and split is None and isinstance(model, Run | str | Path | View):
        return as_view(model, asking, step=-1 if step is None else step)
    if step is not None and step < 0:
        raise UsageError(f"{asking}: step: a network in memory has made 0 updates or more, got {step}")
    if not is_network(given := network_inside(model)):
        raise UsageError(f"{asking} needs a hooked network and its task, got {got_instead(given)}")
    learned = _task(task)
    if not isinstance(learned, Task):
        what = "which gi.make_task(name, ...) makes" if task is None else f"got {got_instead(task)}"
        raise UsageError(f"{asking} needs the task of the network, {what}")
    rows = None if split is None else split_of(split, learned.n_inputs)
    return of_network(cast("HookedRootModule", given), learned, step, rows)


def _task(given: object) -> object:
    """The task of a name, or of a section [task]; anything else as it is."""
    if isinstance(given, str):
        return make_task(given)
    if isinstance(given, Mapping) and isinstance(given.get("name"), str):
        return make_task(**given)
    return given


def of_a_view(function: Function, asking: str, /, **kinds: Kind) -> Function:
    """A function of a View that takes a run or its path in place of it, called `asking`."""
    at = list(inspect.signature(function).parameters).index("view")

    @asks(asking, **kinds)
    @functools.wraps(function)
    def taking(*args: Any, **options: Any) -> Any:
        if len(args) > at:
            args = (*args[:at], as_view(args[at], asking), *args[at + 1 :])
        elif "view" in options:
            options["view"] = as_view(options["view"], asking)
        return function(*args, **options)

    return cast("Function", taking)


ablate = of_a_view(measures.ablate, "gi.ablate")
interchange = of_a_view(measures.interchange, "gi.interchange")
key_frequencies = of_a_view(measures.key_frequencies, "gi.key_frequencies")
measure = of_a_view(measures.measured, "gi.measure", name=NAME)
