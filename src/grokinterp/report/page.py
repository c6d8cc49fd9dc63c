"""An analysis -> one HTML page that needs no network: plotly.js inlined once, a content security policy,
constant ids. Here stands what is said of any task; a family has its sections, and more facts, in a folder of
its own."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from urllib.parse import quote

from markupsafe import Markup

from ..errors import NotApplicable
from ..measures import MEASURES
from ..registry import LOADED
from ..replay import (
    courses_in_words,
    delay,
    leaps_in_words,
    nats_in_words,
    slingshots_in_words,
    spikes_in_words,
    steps_in_words,
)
from ..runs import Run
from ..training import OTHER
from . import dimensions, figures, nodes, probes
from .analysis import Analysis
from .claims import Claim
from .offline import page_of_figures
from .panels import SECTIONS, Drawing, Figure, Panel, Section, Size, Table, opening_of, section
from .panels import opening as open_with
from .words import InWords, by_part, number, several, subject, summary

_MOST_BARS = 32
_MOST_NARROW = 7
"""Bars of which the names have room in one column."""


def render(a: Analysis, folder: Path | None = None) -> str:
    """The whole page as text, for the directory in which it will stand: by default that of the run."""
    say = InWords(a.values)
    shown, first = [_in_words(section, say) for section in sections(a)], _in_words(opens(a), say)
    also = first.lead if first.lead.rstrip(".").lower() not in a.found.lower() else ""
    return page_of_figures(
        "page.html", analysis=a, of_what=of_what(a), opening=first, also=also, training=say(training(a)),
        facts=[(name, say(text)) for name, text in facts(a)], sections=shown,
        claims=list(_claims(a, [first, *shown], say)), subjects=subjects(a),
        not_measured=not_measured(a), again=again(a, folder), looked_at=_looked_at(a),
        moments=sum(map(a.run.step_known, a.run.steps)) > 1,
        replay=a.run.command("replay"), replay_page=_to_replay(a.run, folder),
        replay_made=a.run.holds("replay.html"),
    )  # fmt: skip


def sections(a: Analysis) -> list[Section]:
    """The sections that apply, in their order."""
    return [
        each.made(a) for each in SECTIONS.applying_to(a.run.task.families, in_place=False) if each.where(a)
    ]


def opens(a: Analysis) -> Section:
    """What the page opens with: what was found, in a sentence, and the learning curves beside what shows
    it."""
    found = opening(a) or Section("Opening", "")
    curves = []
    if len(a.history) > 1 and "How the loss came down" not in [panel.title for panel in found.panels]:
        curves.append(Panel("Learning curves", _learning_caption(a), Drawing(figures.learning(a))))
    return replace(found, panels=[*curves, *found.panels])


def _learning_caption(a: Analysis) -> str:
    right = "of which every answer is right" if len(a.view.answers) > 1 else "that are right"
    right = "that are answered so" if a.noisy else right
    shades = " Shaded: the phases that were found." if a.phases.spans else ""
    return f"Share of the {a.run.task.examples_are} {right}; dotted: the analysed step.{shades}"


def opening(a: Analysis) -> Section | None:
    """What was learned, in a sentence and a figure; None where nobody has one."""
    known = opening_of(a)
    return known.made(a) if known else None


@open_with("plateaus", lambda a: courses_in_words(a.courses), where=lambda a: bool(a.courses))
def _courses(a: Analysis) -> Iterator[Panel]:
    """How the loss of each answer came down, where that is told by plateaus."""
    caption = (
        "Log axes, down to where it is learned. Bands: plateaus. Dashed: what the task computes the loss to "
        "be for a network that knows so much and no more."
    )
    yield Panel("How the loss came down", caption, Drawing(figures.courses(a)), size="wide")


def not_measured(a: Analysis) -> dict[str, list[str]]:
    """Why measures of the task's family do not apply, each reason with the names of those."""
    by_reason = sorted(a.skipped.items(), key=lambda item: item[1])
    return {why: [name for name, _ in some] for why, some in groupby(by_reason, key=lambda item: item[1])}


def of_what(a: Analysis) -> str:
    """What the page is about: run, step, and what was asked for where that is not everything."""
    of = f"{a.name}, {a.run.step_text(a.step)}"
    if not a.is_last:
        of += f": not its last snapshot, which is of {a.run.step_text(a.run.steps[-1])}"
    if a.asked_measures is not None:
        of += f"; measured as asked for: {', '.join(a.asked_measures)}"
    if a.asked_keys is not None:
        of += f"; with the keys asked for: {several(a.asked_keys)}"
    return of


def training(a: Analysis) -> str:
    """How it was trained, as far as that is known."""
    t = a.run.config.training
    said_of = {
        "optimizer": t.optimizer,
        "lr": f"lr {t.lr}",
        "weight_decay": f"weight decay {t.weight_decay}",
        "fraction": f"{t.fraction:.0%} of the {a.run.task.examples_are}",
        "split": f"{t.split}, seed {t.split_seed}",
    }
    if t.data == "fresh":
        said_of["fraction"] = f"{t.batch_size:,} fresh examples for every update"
        del said_of["split"]
    said_of["seed"] = f"weights from {a.run.config.start or f'seed {a.run.config.seed}'}"
    return ", ".join([text for key, text in said_of.items() if a.run.knows(key)] + t.recipes) or "not known"


def facts(a: Analysis) -> list[tuple[str, str]]:
    """What the reader wants next: did it generalise, when, how, how sure."""
    rows = [
        (
            "Accuracy of tokens" if a.run.task.criterion else "Accuracy",
            by_part(a.by_part("accuracy"), shares=True),
        ),
        *([] if a.view.gives_number else [_loss(a)]),
    ]
    if "accuracy.exact" in a.values:
        every = "Every token as in the sample" if a.run.task.criterion else "Every answer right"
        rows.insert(0, (every, by_part(a.by_part("accuracy.exact"), shares=True)))
    words, learned = OTHER.get(a.run.config.training.loss, ("", ""))
    if learned in a.values:
        loss = by_part(a.by_part(learned), shares=False)
        name = words.removeprefix("mean ").removesuffix(" (nats)")
        rows.append((name[0].upper() + name[1:], f"{loss}, which was trained on"))
    if a.run.imported:
        rows.append(("Imported", f"from {a.run.imported['file']} (layout {a.run.imported['layout']})"))
    if a.run.diverged:
        rows.append(("Ended", a.run.divergence))
    several = len(a.view.answers) > 1
    rows += [
        ("Never trained", f"{each.answer}: {each}" if several else str(each))
        for each in a.run.task.untrained(a.run.split)
    ]
    if a.watched:
        rows.append(("When", _when(a)))
        rows.append(("Slingshots", slingshots_in_words(a.slingshots, a.loss or "a loss that is not known")))
    if len(a.courses) > 1:
        rows += [("Plateaus", course.sentence) for course in a.courses]
    if a.leaps:
        of = " and gradient" * ("gradient" in a.leaps)
        rows.append(("Leaps", f"losses{of} {leaps_in_words(a.leaps)}"))
    rows += a.facts
    if a.replayed:
        rows.append(("Training", _how_it_went(a)))
    counts = [sum(claim.verdict == v for claim in a.claims) for v in ("supported", "refuted", "not tested")]
    rows.append(("Claims", f"{counts[0]} supported, {counts[1]} refuted, {counts[2]} not tested"))
    return rows


def _loss(a: Analysis) -> tuple[str, str]:
    return "Loss", by_part(a.by_part("loss"), shares=False) + " nats"


def _when(a: Analysis) -> str:
    """By which steps of the whole run training and test examples were learned."""
    train, test = a.reached("train"), a.reached("test")
    every = " (every answer)" if len(a.view.answers) > 1 else ""
    every = " (every token as in the sample)" if a.run.task.criterion else every
    of_answers = f"accuracy{' of right answers' if a.noisy else every} {test.in_words}"
    if a.examples.fresh:
        when = f"evaluation {of_answers}"
    else:
        factor = delay(train, test)
        grokked = f"; grokking delay {factor}" if factor else ""
        when = f"training accuracy{every} {train.in_words}; test {of_answers}{grokked}"
    return when if a.is_last else f"in the whole run, up to {a.run.step_text(a.run.steps[-1])}: {when}"


def accuracy_caption(noisy: bool) -> str:
    """How to read accuracies: where labels are noisy, whether they are of the labels or of the right
    answers."""
    if not noisy:
        return "Share of examples whose largest logit is right."
    return (
        "Share of examples whose largest logit is the label's; dashed: the right answer's. Corrupted are "
        "the training examples whose labels are wrong, clean the others."
    )


def _training_lead(a: Analysis) -> str:
    if len(a.history) < 2:
        return ""
    spans = ", ".join(f"{phase.name} {phase.start:,}–{phase.end:,}" for phase in a.phases.spans)
    shades = f", shades the phases: {spans}" if spans else ""
    marks = f"Ticks mark snapshots, the dotted line the analysed step{shades}."
    return f"{_how_it_went(a)}{_looked_at(a)} {marks} {spikes_in_words(a.spikes, a.history)}"


@section("Training", _training_lead)
def _training(a: Analysis) -> Iterator[Panel | Table]:
    """Losses and accuracies over training, where there is more than one evaluation to draw."""
    if len(a.history) < 2:
        count = "one evaluation" if len(a.history) else "no evaluation of which the step is known"
        count = "is one evaluation" if len(a.history) else "is no evaluation of which the step is known"
        raise NotApplicable(f"there {count}, so no history to draw")
    of = " Train: the batch of that step; test: the evaluation sample." if a.examples.fresh else ""
    loss = f"Mean over the examples, log axis.{of}"
    yield Panel("Loss", loss, Figure(figures.losses(a)), size="wide")
    yield Panel("Accuracy", accuracy_caption(a.noisy) + of, Figure(figures.accuracies(a)), size="wide")
    yield from (table for table in (_plateaus(a), _descents(a), _boundaries(a), _leads(a)) if table.rows)


@section(
    "Answers",
    "Each answer is a question of its own, read at its own position; the network sees the right answers "
    "before it (teacher forcing).",
    where=lambda a: len(a.view.answers) > 1,
)
def _answers(a: Analysis) -> Iterator[Panel | Table]:
    for metric, label in (("loss", "test loss (nats)"), ("accuracy", "test accuracy (share right)")):
        if f"test_{metric}.{a.view.answers[0]}" in a.history and len(a.history) > 1:
            figure = figures.answers_over_training(a, metric, label)
            yield Panel(f"{metric.title()} of each answer", "On what is not trained on.", Figure(figure))
    loss, accuracy = a.measured("loss"), a.measured("accuracy")
    parts = [str(part) for part in loss.coords["part"].values]
    columns = [measured.sel(part=part) for measured in (loss, accuracy) for part in parts]
    rows = [
        (answer, *(number(float(column.sel(answer=answer))) for column in columns))
        for answer in a.view.answers
    ]
    header = ["Answer", *(f"{what}, {part}" for what in ("Loss (nats)", "Accuracy") for part in parts)]
    yield Table("Loss and accuracy of each answer", header, rows)
    if a.leaps:
        lead = "A leap is a value above ten times the median of the fifty evaluations before."
        counted = [(name, steps_in_words(steps) if steps else "never") for name, steps in a.leaps.items()]
        of = " and of the gradient" * ("gradient" in a.leaps)
        yield Table(f"Leaps of the losses{of}", ("Of", "Leaps"), counted, lead)


@section(
    "Which examples are right",
    "By what is known of every example, on those that it was not trained on where these are known; bars: 95 "
    "% intervals (Wilson).",
    where=lambda a: bool(_factors(a)),
)
def _by_factor(a: Analysis) -> Iterator[Panel]:
    right = "every answer is right" if len(a.view.answers) > 1 else "the answer is right"
    for name in _factors(a):
        caption = f"Share of the examples of which {right}, by {name}."
        size: Size = "wide" if a.run.task.factors[name].n_classes > _MOST_NARROW else ""
        yield Panel(f"By {name}", caption, Figure(figures.by_factor(a, name)), size)


def _factors(a: Analysis) -> list[str]:
    """The factors of few enough classes that each can have a bar."""
    return [
        name
        for name, factor in a.run.task.factors.items()
        if not factor.values.is_floating_point() and len(set(factor.values.tolist())) <= _MOST_BARS
    ]


@section(
    "Attention",
    "How much each head attends to each position, from where an answer is read, as a mean over all examples.",
    needs=["attention.mean"],
)
def _attention(a: Analysis) -> Iterator[Panel]:
    for layer in a.measured("attention.mean").coords["layer"].values.tolist():
        spread = float(a.measured("attention.variance").sel(layer=layer).max()) ** 0.5
        caption = f"Over examples a head varies by {spread:.2f} at most (standard deviation)."
        title = f"Layer {layer}" if isinstance(layer, int) else f"{layer[0].upper()}{layer[1:]}"
        yield Panel(title, caption, Figure(figures.attention(a, layer)), size="wide")
    if "attention.encoder" in a.values:
        for layer in a.measured("attention.encoder").coords["layer"].values.tolist():
            caption = "Rows: the position that attends, and the head; columns: what it attends to."
            title = f"{layer[0].upper()}{layer[1:]}, each position"
            yield Panel(title, caption, Figure(figures.encoder_attention(a, layer)), size="wide")


@section("Which part knows it", nodes.LEAD, where=lambda a: "node_ablation.mean" in a.values)
def _nodes(a: Analysis) -> Iterator[Panel | Table]:
    yield from nodes.panels(a)


@section("How many dimensions are needed", dimensions.lead, where=lambda a: dimensions.NAME in a.values)
def _dimensions(a: Analysis) -> Iterator[Panel | Table]:
    yield from dimensions.panels(a)


@section("What can be read of an example", probes.lead, where=lambda a: probes.HOOKS in a.values)
def _probes(a: Analysis) -> Iterator[Panel | Table]:
    yield from probes.panels(a)


def _how_it_went(a: Analysis) -> str:
    """Kind and boundaries of the training; of the whole run, where the page is about another step than its
    last."""
    said = a.how_it_went
    if a.is_last:
        return said
    return f"Of the whole run, up to {a.run.step_text(a.run.steps[-1])}: {said[0].lower()}{said[1:]}"


def _looked_at(a: Analysis) -> str:
    """That a replay would see more, where it would."""
    looked_at, count = a.replayed.sizes.get("step", 0), len(a.run.steps)
    if not 0 < looked_at < count:
        return ""
    return f" The report looked at {looked_at} of {count} snapshots; grokinterp replay looks at all of them."


def _plateaus(a: Analysis) -> Table:
    """Where the loss of each answer stayed: steps, loss, and what is known there."""
    rows = [
        (
            course.answer,
            f"{plateau.first:,}–{plateau.last:,}",
            number(plateau.level),
            plateau.known or "not known",
            "–" if plateau.nats is None else nats_in_words(plateau.nats),
            "never" if plateau.left is None else f"step {plateau.left:,}",
        )
        for course in a.courses
        for plateau in course.plateaus
    ]
    lead = (
        "The loss stays within a factor of 1.25, half as long again as it takes to change by as much before "
        "and behind. Left: the first evaluation 0.1 nats lower, or at half of a loss under 0.2."
    )
    header = ("Answer", "Steps", "Loss (nats)", "As of a network that knows", "which has (nats)", "Left")
    return Table("Plateaus of the loss", header, rows, lead)


def _descents(a: Analysis) -> Table:
    """When the loss of each answer came below each level of the task."""
    rows = [
        (course.answer, f"knows {what}", number(nats), "never" if step is None else f"step {step:,}")
        for course in a.courses
        for what, nats in a.run.task.levels[course.answer].items()
        if what in course.descents
        for step in [course.descents[what]]
    ]
    header = ("Answer", "A network that", "Loss (nats)", "Left below")
    return Table("When each level of the task was left below", header, rows, folded=True)


def _boundaries(a: Analysis) -> Table:
    """Each boundary between phases: name, interval, what decided it and from what, and how far it moves."""
    rows = [
        (
            boundary.name,
            f"{boundary.after:,}–{boundary.by:,}",
            f"{boundary.rule} ({boundary.source})" + (f"; {boundary.flag}" if boundary.flag else ""),
            boundary.note,
        )
        for boundary in a.phases.boundaries
    ]
    header = ("Boundary", "Between steps", "Decided by", "How sure")
    lead = (
        "A boundary lies somewhere between the two snapshots or evaluations that are named: before the first "
        "it was not yet so, at the second it was. The phase before it lasts up to the second."
    )
    return Table("Where one phase ends and the next begins", header, rows, lead)


def _leads(a: Analysis) -> Table:
    """What made its jump before test accuracy did, and what after it: measure, steps, range."""
    rows = [
        (f"{lead.measure} {lead.part}".strip(), f"{lead.steps:+,}", f"{lead.low:+,} to {lead.high:+,}")
        for lead in a.phases.leads
    ]
    title = "Which measures lead the jump of test accuracy, and by how many steps"
    lead = "Each taken where half of its own way is done (negative: it lags)."
    return Table(title, ("Measure", "Lead (steps)", "At least, at most"), rows, lead, folded=True)


@dataclass(frozen=True)
class Measured:
    """One measure on the page: its value in short, and what it is."""

    name: str
    value: str
    unit: str
    ref: str
    doc: str

    @property
    def id(self) -> str:
        """Its name for links."""
        return f"measure-{self.name}"


def subjects(a: Analysis) -> dict[str, list[Measured]]:
    """Every measure, by what it is about, each as the registry has them."""
    by_subject: dict[str, list[Measured]] = {subject(MEASURES["loss"]): []}
    for name, value in a.values.items():
        measure = MEASURES[name]
        entry = Measured(name, summary(value), measure.unit, measure.ref, measure.doc.split("\n\n")[0])
        by_subject.setdefault(subject(measure), []).append(entry)
    return by_subject


@dataclass(frozen=True)
class _Shown:
    """A claim on the page: with the link to the figure that shows it."""

    claim: Claim
    evidence: list[Markup]
    link: str
    figure: str


def _in_words(section: Section, say: InWords) -> Section:
    """The section with words in place of code names."""
    tables = [
        replace(table, lead=say(table.lead), rows=[[say(cell) for cell in row] for row in table.rows])
        for table in section.tables
    ]
    panels = [replace(panel, caption=say(panel.caption)) for panel in section.panels]
    missing = {title: say(reason) for title, reason in section.missing.items()}
    return replace(section, lead=say(section.lead), panels=panels, tables=tables, missing=missing)


def _claims(a: Analysis, sections: Sequence[Section], say: InWords) -> Iterator[_Shown]:
    """Every claim, with what on the page decides it: its numbers, and the figure where it is there."""
    panels = {panel.title: f"panel-{panel.id}" for section in sections for panel in section.panels}
    titles = {section.title: f"section-{section.id}" for section in sections if section.panels}
    for claim in a.claims:
        link = panels.get(claim.figure) or titles.get(claim.figure, "")
        yield _Shown(claim, [say(text) for text in claim.evidence], link, claim.figure)


def _to_replay(run: Run, folder: Path | None) -> str:
    """What leads from a page in a directory to the replay of a run, where that is made by default."""
    if folder is None or _is_that_of(run, folder):
        return "replay.html"
    page = (run.path / "replay.html").resolve()
    with suppress(ValueError):  # on another drive
        return quote(Path(os.path.relpath(page, folder.resolve())).as_posix())
    return page.as_uri()


def _is_that_of(run: Run, folder: Path) -> bool:
    """Whether a directory is that of a run; a network in memory has none."""
    return not run.command("analyze") or folder.resolve() == run.path.resolve()


def again(a: Analysis, folder: Path | None = None) -> str:
    """The command that makes the page again, in a directory, by default that of the run; empty where there is
    none."""
    words = [] if a.is_last else ["--step", str(a.step)]
    words += [word for name in a.asked_measures or () for word in ("--measure", name)]
    words += [] if a.asked_keys is None else ["--keys", ",".join(map(str, a.asked_keys))]
    words += [word for file in LOADED for word in ("--with", file)]
    if folder is not None and not _is_that_of(a.run, folder):
        words += ["--out", str(folder)]
    return a.run.command("analyze", *words)
