"""Progress on stderr, for work that takes more than a few seconds."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress

COUNT = "{task.fields[what]} {task.completed:,.0f} of {task.total:,.0f}"
"""What stands before a bar, as of `add_task(description, total=300, what="step")`."""
SHARE = "{task.percentage:.0f} %"


@contextmanager
def bars(wanted: bool | None, before: str = COUNT) -> Iterator[Progress | None]:
    """Where bars can be added; None where there is nothing to see.

    Args:
        wanted: whether progress is shown; by default where stderr is a terminal.
        before: what stands before each bar; its description and the time stand after it.
    """
    if not (sys.stderr.isatty() if wanted is None else wanted):
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TimeElapsedColumn, TimeRemainingColumn

    columns = (before, BarColumn(), "{task.description}", TimeElapsedColumn(), "left", TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        yield bar
