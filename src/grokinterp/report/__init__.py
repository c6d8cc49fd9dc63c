"""Values -> figures -> one self-contained HTML page, and report.json."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from ..asked import NAMES, STEP, asks, asks_all, is_network, is_whole
from ..given import as_analysed
from ..measures import MEASURES
from ..measures.base import named
from ..runs import Run
from ..runs.files import refuse_unwritable, replace
from ..runs.in_memory import InMemory
from ..shown import Rows as ShownRows
from ..standing import in_a_word
from ..tasks import Operation, Rows, Split, Task
from ..usual import usual_defaults
from ..view import View
from . import arrays, digits, geometry, matrices, operations
from .analysis import Analysis, analysis_of, report_stem
from .claims import claim
from .compare import Comparison, compare
from .moments import Curve, Moments
from .offline import PAGE_ROOM, Page, page_named
from .panels import Figure, Panel, Table, panel, section
from .replay_page import replay_page, save_replay
from .values import Values

if TYPE_CHECKING:
    from ..models import HookedRootModule


@asks_all("report")
class Report(Page):
    """What was found of a run at one step: as a page, as plain values, and shown in a notebook."""

    def __init__(self, analysis: Analysis) -> None:
        self.analysis = analysis

    def _in_a_line(self) -> str:
        a = self.analysis
        return f"of {a.name} at {a.run.step_text(a.step)}: {in_a_word(a.standing.state)}"

    @usual_defaults()
    def _as_rows(self) -> ShownRows:
        from .page import facts

        a = self.analysis
        claims = [(each.verdict, each.claim) for each in a.claims]
        page = ("the whole page", "save_html(path) of this report writes it, save_json(path) all numbers")
        return [("verdict", a.verdict), ("found", a.found), *facts(a), *claims, page]

    @property
    def stem(self) -> str:
        """What its files are called beside their endings: "report", or "report-step-100" and the like where
        not all was asked for."""
        return self.analysis.stem

    def to_dict(self) -> dict[str, Any]:
        """The content of report.json: plain numbers, strings, lists and dicts."""
        return self.analysis.to_dict()

    def to_html(self, folder: str | Path | None = None) -> str:
        """The page: self-contained, about 5 MB, most of it plotly.js. `folder` is where it will stand, by
        default that of the run: its links to the replay lead there."""
        from .page import render

        return render(self.analysis, None if folder is None else Path(folder))


@asks("gi.analyze", measures=NAMES, step=STEP)
def analyze(
    run: Run | str | Path | View | HookedRootModule,
    task: Task | int | None = None,
    measures: Sequence[str] | None = None,
    keys: Sequence[int] | None = None,
    *,
    step: int | None = None,
    split: Split | tuple[Rows, Rows] | None = None,
    with_replay: bool = True,
    progress: bool | None = None,
) -> Report:
    """Measures a network with all measures, or those named, and says what was found.

        gi.analyze(run)                       a run, or its directory, at its last step; gi.analyze(run, 100)
        gi.analyze(view)                      a View
        gi.analyze(model, task, split=...)    a network in memory, hooks included; no run directory is needed

    Measures that use key frequencies take `keys`, by default the consensus of the rules. With a run comes
    what `gi.replay` says of up to 60 of its snapshots: phases, spikes and the lives of frequencies; without
    `with_replay` phases are told by accuracies alone. Of a network in memory there is no training to speak
    of.

    Args:
        run: a run or its directory, a View, or a hooked network.
        task: of a network, what it learned. (Of a run the second argument is its `step`.)
        step: of a run, the snapshot, negative ones counted from the end; of a network, the optimiser updates
            that it has had, where that is known.
        split: of a network, the rows of the task's sample that it was trained on, and those that it is tested
            on, where they are known.
        progress: whether to show a progress bar; by default where somebody sees it.

    Raises:
        NoSuchSnapshot: the run has no snapshot at that step; the nearest are named.
        UsageError: no measure has one of the names, a key is no frequency of the task, or the network does
            not take the task.
        DamagedFile: the snapshot does not match its recorded hash.
    """
    analysed, at = _analysed("gi.analyze", run, task, step, split)
    return Report(analysis_of(analysed, at, measures, keys, with_replay, progress))


@asks("gi.measure_all", measures=NAMES, step=STEP)
def measure_all(
    run: Run | str | Path | View | HookedRootModule,
    task: Task | int | None = None,
    measures: Sequence[str] | None = None,
    keys: Sequence[int] | None = None,
    *,
    step: int | None = None,
    split: Split | tuple[Rows, Rows] | None = None,
    progress: bool | None = None,
) -> Values:
    """Every measure that applies to a network, by name, from one call; arguments as `gi.analyze` takes them.

    Of a run they are kept, so that a second call reads them. Why another measure of the task's family does
    not apply is in `skipped` of what it gives.

    Raises:
        NoSuchSnapshot: the run has no snapshot at that step; the nearest are named.
        UsageError: no measure has one of the names, a key is no frequency of the task, or the network does
            not take the task.
        DamagedFile: the snapshot does not match its recorded hash.
    """
    analysed, at = _analysed("gi.measure_all", run, task, step, split)
    values = analysis_of(analysed, at, measures, keys, False, progress).values
    return values if measures is None else values.of(MEASURES[name].name for name in named(measures))


def _analysed(
    asking: str,
    given: object,
    task: Task | int | None,
    step: int | None,
    split: Split | tuple[Rows, Rows] | None,
) -> tuple[Run, int]:
    """The run that was asked about, or one that stands for a network in memory, and the step."""
    if is_whole(task) and step is None and split is None and not is_network(given):
        task, step = None, operator.index(cast("int", task))
    run = as_analysed(given, asking, cast("Task | None", task), step, split)
    return run, -1 if step is None or isinstance(run, InMemory) else step


def save_table(task: Operation, path: str | Path) -> None:
    """Writes the table of a task as a page of its own, with its image and value counts: what is known before
    any network is trained.

    In a directory it is called table.html, and a name without an ending gets .html.

    Raises:
        UsageError: the path can be no file.
        WriteFailed: the disk is full or read-only.
    """
    from .operations.sections import render_table

    file = page_named(path, "table.html")
    refuse_unwritable(file.parent, PAGE_ROOM)
    replace(file, render_table(task).encode(), make_folder=True)


def table_in_words(task: Operation) -> list[str]:
    """What the table of a task shows, a sentence each."""
    from .operations.sections import in_words

    return in_words(task.facts)
