"""Values -> figures -> one self-contained HTML page, and report.json."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..runs import Run
from ..runs.files import file_named, refuse_unwritable, replace
from ..tasks import Operation
from . import arrays, digits, geometry, matrices, operations
from .analysis import Analysis, analysis_of, report_stem
from .claims import claim
from .compare import Comparison, compare
from .moments import Curve, Moments
from .offline import PAGE_ROOM, Page
from .panels import Figure, Panel, Table, panel, section
from .replay_page import replay_page, save_replay


class Report(Page):
    """What was found of a run at one step: as a page, as plain values, and shown in a notebook."""

    def __init__(self, analysis: Analysis) -> None:
        self.analysis = analysis

    def __repr__(self) -> str:
        a = self.analysis
        return f"<Report of {a.run.path} at {a.run.step_text(a.step)}: {a.standing.state}>"

    @property
    def stem(self) -> str:
        """What its files are called beside their endings: "report", or "report-step-100" and the like where
        not all was asked for."""
        return self.analysis.stem

    def to_dict(self) -> dict[str, Any]:
        """The content of report.json: plain numbers, strings, lists and dicts."""
        return self.analysis.to_dict()

    def to_html(self) -> str:
        """The page: self-contained, about 5 MB, most of it plotly.js."""
        from .page import render

        return render(self.analysis)


def analyze(
    run: Run,
    step: int = -1,
    measures: Sequence[str] | None = None,
    keys: Sequence[int] | None = None,
    *,
    with_replay: bool = True,
    progress: bool | None = None,
) -> Report:
    """Measures a run at one step (negative: from the end) with all measures, or those named.

    Measures that use key frequencies take `keys`, by default the consensus of the rules. With it comes what
    `gi.replay` says of up to 60 snapshots: phases, spikes and the lives of frequencies; without `with_replay`
    phases are told by accuracies alone. `progress` says whether that shows a progress bar on stderr, by
    default where it is a terminal.

    Raises:
        NoSuchSnapshot: the run has no snapshot at that step; the nearest are named.
        UsageError: no measure has one of the names, or a key is no frequency of the task.
        DamagedFile: the snapshot does not match its recorded hash.
    """
    return Report(analysis_of(run, step, measures, keys, with_replay, progress))


def save_table(task: Operation, path: str | Path) -> None:
    """Writes the table of a task as a page of its own, with its image and value counts: what is known before
    any network is trained.

    In a directory it is called table.html.

    Raises:
        UsageError: the path can be no file.
        WriteFailed: the disk is full or read-only.
    """
    from .operations.sections import render_table

    file = file_named(path, "table.html")
    refuse_unwritable(file.parent, PAGE_ROOM)
    replace(file, render_table(task).encode(), make_folder=True)


def table_in_words(task: Operation) -> list[str]:
    """What the table of a task shows, a sentence each."""
    from .operations.sections import in_words

    return in_words(task.facts)
