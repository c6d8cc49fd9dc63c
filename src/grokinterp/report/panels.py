"""What every page is made of: sections of panels, each of which knows how it is drawn.

A body is a figure of plotly's, or the data that the replay's own script draws for every step. Axes, colours,
marks, tooltips and labels are part of the body: templates and scripts know of no task.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from markupsafe import Markup

from ..errors import NotApplicable
from .offline import embedded

if TYPE_CHECKING:
    import plotly.graph_objects as go


@dataclass(frozen=True)
class Figure:
    """A figure that plotly draws."""

    figure: go.Figure

    @property
    def element(self) -> Markup:
        """The HTML that page.js draws in, its data beside it."""
        data = embedded(self.figure.to_json())
        return Markup('<div class="plot"></div><script type="application/json">{}</script>').format(data)


@dataclass(frozen=True)
class Canvas:
    """What replay.js draws on a canvas at every step: `kind` is the name of its function there, `data` what
    that needs."""

    kind: str
    data: Mapping[str, Any]
    element = Markup('<canvas role="img"></canvas>')


Size: TypeAlias = Literal["", "wide", "full"]
"""How many columns of the page: one, two or all."""


@dataclass(frozen=True)
class Panel:
    """A picture with its heading and one or two sentences that say how to read it."""

    title: str
    caption: str
    body: Figure | Canvas
    size: Size = ""
    shown: bool = True
    """Whether it is open at first, on a page where the reader chooses."""
    name: str = ""
    """What links call it, where that is not its title."""

    @property
    def id(self) -> str:
        """Its name for links and tests, which stays the same: by default the title in lower case."""
        return self.name or "-".join("".join(c if c.isalnum() else " " for c in self.title.lower()).split())

    @property
    def moves(self) -> bool:
        """Whether it changes with the step."""
        return isinstance(self.body, Canvas)


@dataclass(frozen=True)
class Table:
    """Rows of text below the panels of a section; the first column holds names, the second values."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    lead: str = ""
    folded: bool = False
    """Whether only the title is seen until it is opened."""


@dataclass(frozen=True)
class Section:
    """Panels about one subject, and what of it is not shown."""

    title: str
    lead: str
    panels: Sequence[Panel] = ()
    tables: Sequence[Table] = ()
    missing: Mapping[str, str] = field(default_factory=dict)
    """Why, by the title of the panel that is not shown; of the section, where that is all of it."""


def section(
    title: str,
    lead: str,
    draw: Callable[[], Iterable[Panel]],
    *,
    needs: Sequence[str] = (),
    measured: Mapping[str, Any],
    skipped: Mapping[str, str],
) -> Section:
    """A section that is drawn from measures, or why it is not: one that it needs is not there, or a figure
    has no meaning here. Any other error of a figure is a bug, and raised.

    Args:
        title, lead: what stands above the panels.
        draw: makes them, once everything that they need is known to be there.
        needs: names of measures without which there is nothing to draw.
        measured: what was measured, by name.
        skipped: why other measures were not.
    """
    for name in needs:
        if name not in measured:
            return Section(title, lead, missing={title: not_measured(name, skipped)})
    try:
        return Section(title, lead, list(draw()))
    except NotApplicable as reason:
        return Section(title, lead, missing={title: str(reason)})


def drawn(makers: Iterable[tuple[str, Callable[[], Panel]]], title: str = "", lead: str = "") -> Section:
    """A section of the panels that have a meaning here, given by their titles, and why others are left
    out."""
    panels: list[Panel] = []
    missing: dict[str, str] = {}
    for name, make in makers:
        try:
            panels.append(make())
        except NotApplicable as reason:
            missing[name] = str(reason)
    return Section(title, lead, panels, missing=missing)


def not_measured(name: str, skipped: Mapping[str, str]) -> str:
    """Why there is no value of a measure."""
    return skipped.get(name, f"{name} was not measured")
