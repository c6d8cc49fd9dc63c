"""One table of all members of a sweep while it runs: on stderr, or below the cell of a notebook."""

from __future__ import annotations

import math
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ..progress import in_notebook
from ..shown import duration
from ..training import TrainConfig
from .manifest import Ended

if TYPE_CHECKING:
    from rich.table import Table

_PER_SECOND = 2
_AROUND = 6
"""Lines of a terminal that the members leave free."""
_IN_A_NOTEBOOK = 20


class Live:
    """What is known of the members, and the table of it.

    Args:
        configs: of all members, by their names.
        ended: those that had ended before.
        clock: seconds that go by.
    """

    def __init__(
        self, configs: Mapping[str, TrainConfig], ended: Mapping[str, Ended], clock: Any = time.monotonic
    ) -> None:
        self._steps = {name: config.training.steps for name, config in configs.items()}
        self._ended = {name: one for name, one in ended.items() if one.how != "failed"}
        self._done_before = set(self._ended)
        self._clock, self._began = clock, clock()
        self._at: dict[str, tuple[int, Mapping[str, float]]] = {}
        self._first: dict[str, tuple[float, int]] = {}

    def show(self, name: str, step: int, metrics: Mapping[str, float]) -> None:
        """A member was evaluated."""
        self._first.setdefault(name, (self._clock(), step))
        self._at[name] = (step, metrics)

    def end(self, name: str, ended: Ended) -> None:
        """A member has ended."""
        self._ended[name] = ended

    def seconds_left(self, name: str) -> float:
        """Of a member, at the speed that it has had, to the last of its steps; NaN where that is not
        known."""
        if name not in self._at:
            return math.nan
        (began, first), (step, _) = self._first[name], self._at[name]
        made, seconds = step - first, self._clock() - began
        return (self._steps[name] - step) * seconds / made if made > 0 else math.nan

    @property
    def seconds_left_of_all(self) -> float:
        """Of all members, at the speed that they have had together; NaN where that is not known."""
        now = {name: step for name, (step, _) in self._at.items()}
        now |= {name: e.step for name, e in self._ended.items() if e.step is not None}
        made = sum(
            step - self._first.get(name, (0, 0))[1]
            for name, step in now.items()
            if name not in self._done_before
        )
        left = sum(steps - now.get(name, 0) for name, steps in self._steps.items() if name not in self._ended)
        return left * (self._clock() - self._began) / made if made > 0 else math.nan

    @property
    def caption(self) -> str:
        """How many stand where, and the time left, in one line."""
        counts = Counter(one.how for one in self._ended.values())
        training = sum(name not in self._ended for name in self._at)
        waiting = len(self._steps) - len(self._ended) - training
        said = [f"{counts.pop('finished', 0):,} of {len(self._steps):,} finished", f"{training:,} training"]
        said += [f"{waiting:,} waiting", *(f"{n:,} {how}" for how, n in sorted(counts.items()))]
        left = self.seconds_left_of_all
        return ", ".join(said) + ("" if math.isnan(left) else f"; at most {duration(left)} left")

    def rows(self, most: int) -> list[tuple[str, ...]]:
        """Member, state, step, losses, time left, of so many: those in training first, then what ended
        last."""
        training = [name for name in self._at if name not in self._ended]
        over = [name for name in reversed(self._ended) if name not in self._done_before]
        rows = []
        for name in [*training, *over][:most]:
            step, metrics = self._at.get(name, (None, {}))
            ended, left = self._ended.get(name), ""
            if ended is None and not math.isnan(seconds := self.seconds_left(name)):
                left = duration(seconds)
            step = ended.step if ended and ended.step is not None else step
            losses = [f"{metrics[key]:.2e}" if key in metrics else "" for key in ("train_loss", "test_loss")]
            of = f"{'?' if step is None else f'{step:,}'} of {self._steps[name]:,}"
            rows.append((name, ended.how if ended else "training", of, *losses, left))
        return rows

    def table(self, most: int) -> Table:
        """The rows as rich shows them."""
        from rich.markup import escape
        from rich.table import Table

        table = Table(
            box=None, pad_edge=False, padding=(0, 2, 0, 0), caption=self.caption, caption_justify="left"
        )
        for i, head in enumerate(("member", "", "step", "train loss", "test loss", "left")):
            table.add_column(head, no_wrap=True, overflow="ellipsis", justify="right" if i > 1 else "left")
        for row in self.rows(most):
            table.add_row(*map(escape, row))
        return table

    def __rich__(self) -> Table:
        import shutil

        return self.table(max(1, shutil.get_terminal_size((80, 24)).lines - _AROUND))


@contextmanager
def live_table(
    configs: Mapping[str, TrainConfig], ended: Mapping[str, Ended], wanted: bool | None
) -> Iterator[Live | None]:
    """What shows the members while it is open; None where there is nothing to see.

    Args:
        configs: of all members.
        ended: those that have ended already.
        wanted: whether to show it; by default where stderr is a terminal, and in a notebook.
    """
    if not (sys.stderr.isatty() or in_notebook() if wanted is None else wanted):
        yield None
        return
    live = Live(configs, ended)
    if in_notebook():
        yield from _below_a_cell(live)
        return
    from rich.console import Console
    from rich.live import Live as Shown

    with Shown(live, console=Console(stderr=True), refresh_per_second=_PER_SECOND, transient=True):
        yield live


def _below_a_cell(live: Live) -> Iterator[Live]:
    """The table as HTML that is updated: every front end of a notebook shows that."""
    import html

    from IPython.display import HTML, display

    shown, drawn = display(HTML(""), display_id=True), 0.0
    show = live.show

    def draw() -> None:
        cells = (
            "".join(f"<td>{html.escape(cell)}</td>" for cell in row) for row in live.rows(_IN_A_NOTEBOOK)
        )
        body = "".join(f"<tr>{row}</tr>" for row in cells)
        shown.update(HTML(f"<table>{body}</table><div>{html.escape(live.caption)}</div>"))

    def show_and_draw(name: str, step: int, metrics: Mapping[str, float]) -> None:
        nonlocal drawn
        show(name, step, metrics)
        if time.monotonic() - drawn > 1 / _PER_SECOND:
            drawn = time.monotonic()
            draw()

    live.show = show_and_draw  # type: ignore[method-assign]
    try:
        yield live
    finally:
        shown.update(HTML(""))
