"""Progress, for work that takes more than a few seconds: on stderr, or below the cell of a notebook."""

from __future__ import annotations

import html
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.progress import Progress

COUNT = "{task.fields[what]} {task.completed:,.0f} of {task.total:,.0f}"
"""What stands before a bar, as of `add_task(description, total=300, what="step")`."""
SHARE = "{task.percentage:.0f} %"
_PAUSE = 0.2
"""Seconds between two pictures of the bars in a notebook."""


def in_notebook() -> bool:
    """Whether a notebook shows what is computed: Jupyter, VS Code, Colab."""
    ipython = sys.modules.get("IPython")  # every kernel has imported it
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(shell, "kernel", None) is not None


@contextmanager
def bars(wanted: bool | None, before: str = COUNT) -> Iterator[Progress | None]:
    """Where bars can be added; None where there is nothing to see.

    Args:
        wanted: whether progress is shown; by default where stderr is a terminal, and in a notebook.
        before: what stands before each bar; its description and the time stand after it.
    """
    if not (sys.stderr.isatty() or in_notebook() if wanted is None else wanted):
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TimeElapsedColumn, TimeRemainingColumn

    if in_notebook():
        # rich's own needs ipywidgets there; every front end shows an element of HTML that is updated.
        from IPython.display import HTML, display

        shown = display(HTML(""), display_id=True)
        try:
            yield _below_a_cell(Progress, before, lambda text: shown.update(HTML(text)))
        finally:
            shown.update(HTML(""))
        return
    columns = (before, BarColumn(), "{task.description}", TimeElapsedColumn(), "left", TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        yield bar


def _below_a_cell(kind: type[Progress], before: str, show: Any) -> Progress:
    """Bars that are shown as HTML, five times a second at most; rich counts."""

    class BelowACell(kind):  # type: ignore[misc, valid-type]
        last, drawing = 0.0, threading.Lock()

        def advance(self, *args: Any, **options: Any) -> None:
            super().advance(*args, **options)
            self.draw()

        def update(self, *args: Any, **options: Any) -> None:
            super().update(*args, **options)
            self.draw()

        def draw(self) -> None:
            with self.drawing:
                if time.monotonic() - self.last >= _PAUSE:
                    self.last = time.monotonic()
                    show("".join(map(self.line, self.tasks)))

        def line(self, task: Any) -> str:
            said = f"{task.description}  {task.elapsed or 0:.0f} s"
            if task.time_remaining is not None:
                said += f", {task.time_remaining:.0f} s left"
            bar = f'<progress value="{task.completed}" max="{task.total or 1}"></progress>'
            return f"<div>{html.escape(before.format(task=task))} {bar} {html.escape(said)}</div>"

    return BelowACell(disable=True)
