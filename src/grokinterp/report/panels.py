"""What every page is made of: sections of panels, each of which knows how it is drawn.

A body is a figure of plotly's, or the data that the replay's own script draws for every step. Axes, colours,
marks, tooltips and labels are part of the body: templates and scripts know of no task.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from markupsafe import Markup

from ..errors import NotApplicable
from ..registry import OfFamilies, OfTasks
from ..tasks import Task
from .drawing import drawn
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
        data, layout = embedded(self.figure.to_json()), self.figure.layout
        height = layout.height or 300
        square = layout.yaxis.scaleanchor == "x" and layout.yaxis.constrain == "domain"
        # A square is as high as it is wide, whatever the width.
        return Markup(
            '<div class="plot{}" data-height="{}"{}></div><script type="application/json">{}</script>'
        ).format(
            " square" * square, height,
            "" if square else Markup(' style="min-height: {}px"').format(height), data,
        )  # fmt: skip


@dataclass(frozen=True)
class Drawing:
    """A figure that stands in the page as it is, without a script."""

    figure: go.Figure

    @property
    def element(self) -> Markup:
        """The HTML and SVG."""
        return drawn(self.figure)


@dataclass(frozen=True)
class Canvas:
    """What replay.js draws on a canvas at every step: `kind` is the name of its function there, `data` what
    that needs."""

    kind: str
    data: Mapping[str, Any]
    note: str = ""
    """What a caption says of it beside how to read it, such as what could not be drawn."""
    element = Markup('<canvas role="img"></canvas>')


def linked(title: str) -> str:
    """The name for links of what has a title, which stays the same: the title in lower case."""
    return "-".join("".join(c if c.isalnum() else " " for c in title.lower()).split())


Size: TypeAlias = Literal["", "wide", "full"]
"""How many columns of the page: one, two or all."""


@dataclass(frozen=True)
class Panel:
    """A picture with its heading and one or two sentences that say how to read it."""

    title: str
    caption: str
    body: Figure | Drawing | Canvas
    size: Size = ""
    shown: bool = True
    """Whether it is open at first, on a page where the reader chooses."""

    @property
    def id(self) -> str:
        """Its name for links."""
        return linked(self.title)

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

    @property
    def id(self) -> str:
        """Its name for links."""
        return linked(self.title)


Words: TypeAlias = str | Callable[[Any], str]
"""Words on a page, or what says them of an `Analysis` or of `Moments`."""
DrawSection: TypeAlias = Callable[[Any], Iterable[Panel | Table]]
DrawPanel: TypeAlias = Callable[[Any], Canvas]
SayNote: TypeAlias = Callable[[Any], str]


def _said(words: Words, of: Any) -> str:
    return words if isinstance(words, str) else words(of)


@dataclass(frozen=True)
class SectionOf(OfTasks):
    """A section of the report on a network that learned a task of some family."""

    lead: Words
    needs: Sequence[str]
    where: Callable[[Any], bool]
    draw: DrawSection

    def made(self, a: Any) -> Section:
        """The section of an `Analysis`, or why it is not shown: a measure that it needs is not there, or a
        figure has no meaning here. Any other error of a figure is a bug, and raised."""
        parts: list[Panel | Table] = []
        missing: dict[str, str] = {}
        try:
            for name in self.needs:
                a.measured(name)
            parts.extend(self.draw(a))
        except NotApplicable as reason:
            missing[self.name] = str(reason)
        lead = ""
        try:
            lead = self.lead_of(a)
        except NotApplicable as reason:
            missing.setdefault(self.name, str(reason))
        panels = [part for part in parts if isinstance(part, Panel)]
        tables = [part for part in parts if isinstance(part, Table)]
        return Section(self.name, lead, panels, tables, missing)

    def lead_of(self, a: Any) -> str:
        """What stands above its panels.

        Raises:
            NotApplicable: what it says was not measured.
        """
        return _said(self.lead, a)


SECTIONS: OfFamilies[SectionOf] = OfFamilies("section")


def section(
    title: str, lead: Words = "", *, of: type[Task] = Task, needs: Sequence[str] = (),
    where: Callable[[Any], bool] = lambda a: True,
) -> Callable[[DrawSection], DrawSection]:  # fmt: skip
    """Registers what draws a section of the report: a function of an `Analysis` that gives its panels and
    tables in their order.

    Args:
        title, lead: what stands above the panels; a lead that depends on the analysis is a function of it.
        of: the family of tasks that it is about. One of a narrower family takes the place of another with
            the same title.
        needs: names of measures without which there is nothing to draw; the page then says why.
        where: of which analyses it is at all.

    Raises:
        ValueError: another section about this family has this title.
    """
    return SECTIONS.registering(partial(SectionOf, title, of, lead, needs, where))


OPENINGS: OfFamilies[SectionOf] = OfFamilies("opening")


def opening(
    name: str, lead: Words, *, of: type[Task] = Task, needs: Sequence[str] = (),
    where: Callable[[Any], bool] = lambda a: True,
) -> Callable[[DrawSection], DrawSection]:  # fmt: skip
    """Registers what a report opens with, under the verdict: a sentence that says what was learned, and the
    panels that show it. Of several that apply, one of the narrowest
    family, and of these the one that was registered last.

    Args:
        name: under which it is known; it stands nowhere.
        lead: the sentence, or what says it of an `Analysis`.
        of, needs, where: as for `section`; where a measure that it needs is not there, or a figure has no
            meaning here, the report opens with another.

    Raises:
        ValueError: another opening about this family has this name.
    """
    return OPENINGS.registering(partial(SectionOf, name, of, lead, needs, where))


def opening_of(a: Any) -> SectionOf | None:
    """What a report on an `Analysis` opens with; None where nobody has something."""
    families = a.run.task.families
    known = reversed(OPENINGS.applying_to(families, in_place=False))
    for each in sorted(known, key=lambda one: families.index(one.of.__name__)):
        if each.where(a) and all(name in a.values for name in each.needs):
            return each
    return None


@dataclass(frozen=True)
class PanelOf(OfTasks):
    """A panel of the replay of networks that learned a task of some family."""

    caption: Words
    size: Size
    shows: Sequence[str]
    where: Callable[[Any], bool]
    draw: DrawPanel

    def made(self, moments: Any) -> Panel:
        """The panel of a replay.

        Raises:
            NotApplicable: it has no meaning here, or what it shows was not measured.
        """
        body = self.draw(moments)
        return Panel(self.name, _said(self.caption, moments) + body.note, body, self.size)


PANELS: OfFamilies[PanelOf] = OfFamilies("panel")


def panel(
    title: str, caption: Words, *, of: type[Task] = Task, size: Size = "", shows: Sequence[str] = (),
    where: Callable[[Any], bool] = lambda moments: True,
) -> Callable[[DrawPanel], DrawPanel]:  # fmt: skip
    """Registers what draws a panel of the replay page: a function of `Moments`, whose methods draw curves,
    bars and heatmaps of what was replayed.

    Args:
        title, caption: what stands above the picture; a caption that depends on the replay is a function of
            the same.
        of: the family of tasks that it is about. One of a narrower family takes the place of another with
            the same title.
        size: how many columns of the page it takes.
        shows: the measures that it draws; every other one that was replayed gets a panel of its own.
        where: of which replays it is at all.

    Raises:
        ValueError: another panel about this family has this title.
    """
    return PANELS.registering(partial(PanelOf, title, of, caption, size, shows, where))


@dataclass(frozen=True)
class NoteOf(OfTasks):
    """A sentence about a whole replay, of a family of tasks."""

    made: SayNote


NOTES: OfFamilies[NoteOf] = OfFamilies("note")


def note(name: str, *, of: type[Task] = Task) -> Callable[[SayNote], SayNote]:
    """Registers what says a sentence of a whole replay at the head of its page: a function of `Moments`,
    which raises NotApplicable where there is nothing to say."""
    return NOTES.registering(partial(NoteOf, name, of))
