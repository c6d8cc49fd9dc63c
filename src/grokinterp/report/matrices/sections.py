"""What a report shows of networks that answer with matrices: how often they are right, what the questions
that they fail have in common, what wrong answers still have of right ones, and how it is with other
matrices."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ...errors import NotApplicable
from ...measures.matrices.failures import CRITERION
from ...measures.matrices.properties import BAND_NAMES, SINGULAR
from ...measures.standing import Z_OF_95, percent, wilson
from ...tasks.matrices import Matrices
from .. import figures
from ..analysis import labelled
from ..palette import KEY, PLAIN, TEST, lines
from ..panels import Figure, Panel, Table, opening, section
from ..words import number
from .analysis import MatricesAnalysis

if TYPE_CHECKING:
    from ...measures.standing import Share

_TELLS = 0.8
"""The area under the curve from which a condition number is said to tell wrong answers."""
_TICKS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.25)
_AS_MUCH = 0.95
"""The share from which all of something is said to have a property."""


def _interval(low: float, high: float) -> str:
    return f"{percent(low)} to {percent(high)}"


def _right(a: MatricesAnalysis) -> str:
    """How often it is right, in a sentence."""
    share = a.standing.shares["test" if "test" in a.standing.shares else "all"]
    low, high = wilson(share.right, share.n, Z_OF_95)
    return (
        f"It is right {CRITERION} on {percent(share.right)} of {share.n:,} matrices "
        f"({_interval(low, high)} at 95 %{_of_other_length(a)})"
    )


def _of_other_length(a: MatricesAnalysis) -> str:
    """How many of the right eigenvectors are not of length 1, which the criterion does not ask for."""
    if "matrices.right_without_norm" not in a.values:
        return ""
    off, *_, n = (float(x) for x in a.measured("matrices.right_without_norm").values)
    return f"; of these answers {off * n:,.0f} have no unit norms, which the criterion does not ask for"


def _in_common(a: MatricesAnalysis) -> str:
    """How often it is right, and what those have in common on which it is wrong."""
    try:
        told = a.measured("matrices.failure_auc").sel(predictor="question")
    except NotApplicable as reason:
        return f"{_right(a)}. What it fails on was not tested: {reason}."
    value, low, high = (float(told.sel(area=which)) for which in ("value", "low", "high"))
    area = f"area under the curve {value:.2f} ({low:.2f} to {high:.2f} at 95 %)"
    if low >= _TELLS:
        said = f"those that it fails have a large condition number: {area}"
    elif low > 0.5:
        said = f"the larger the condition number, the more often it fails, but that tells only a part: {area}"
    elif high < 0.5:
        said = f"it fails more often where the condition number is small: {area}"
    else:
        said = f"a large condition number does not tell those that it fails: {area}"
    by = labelled(a.measured("matrices.by_condition").sel(band="share"), "condition")
    first, last = (by.get(BAND_NAMES[end]) for end in (0, -1))
    if first is None or last is None:
        return f"{_right(a)}; {said}."
    return (
        f"{_right(a)}; {said}. Of the quarter with the lowest it is right on {percent(first)}, of the tenth "
        f"with the highest on {percent(last)}."
    )


@opening("matrices", _in_common, of=Matrices, needs=["matrices.within"])
def _opens(a: MatricesAnalysis) -> Iterator[Panel]:
    """Right answers by the condition number of the matrix; by tolerance where a question has two."""
    yield _by_condition(a, "wide") if "matrices.by_condition" in a.values else _by_tolerance(a)


def _by_condition(a: MatricesAnalysis, size: Any = "") -> Panel:
    value = a.measured("matrices.by_condition")
    labels = [
        f"{band.removesuffix(' %')}<br>{_short(low)} to<br>{_short(high)}"
        for band, low, high in zip(
            value["condition"].values, value.sel(band="from").values, value.sel(band="to").values,
            strict=True,
        )
    ]  # fmt: skip
    figure = figures.new_figure("quantile (%), condition numbers", "share right", 300)
    figure.add_bar(x=labels, y=value.sel(band="share").values, marker_color=KEY, error_y=_bars(value))
    figure.update_yaxes(range=[0, 1.05]).update_xaxes(type="category", tickangle=0)
    caption = f"Share right {CRITERION}; bars: 95 % intervals (Wilson)."
    return Panel("Right by condition number", caption, Figure(figure), size)


def _short(condition: float) -> str:
    if condition >= 10**SINGULAR:
        return "singular"
    return f"{condition:.3g}" if condition < 1e5 else f"{condition:.0e}".replace("e+", "e")


def _bars(value: Any) -> dict[str, Any]:
    """The intervals of shares, as a figure draws them."""
    last = str(value.dims[-1])
    share, low, high = (value.sel({last: which}).values for which in ("share", "low", "high"))
    return {"symmetric": False, "thickness": 1, "array": high - share, "arrayminus": share - low}


@section(
    "How many are right",
    "Of answers that the network writes token by token, each token the likeliest one (greedy decoding). By "
    "each published error, and by how far an answer is from each property of a right one. Coefficients are "
    "held against those of the target.",
    of=Matrices,
    needs=["matrices.within"],
)
def _how_many(a: MatricesAnalysis) -> Iterator[Panel | Table]:
    value = a.measured("matrices.within")
    yield _by_tolerance(a)
    yield _coefficients(a)
    rows = [
        (error, *(percent(float(x)) for x in value.sel(error=error).values))
        for error in value["error"].values.tolist()
    ]
    header = ["Error", *(f"below {100 * tolerance:g} %" for tolerance in value["below"].values.tolist())]
    yield Table("Share of answers below each tolerance", header, rows, _DEFINED[_title(a)], folded=True)


def _by_tolerance(a: MatricesAnalysis) -> Panel:
    value = a.measured("matrices.within")
    below = value["below"].values.tolist()
    figure = figures.new_figure("tolerance (share)", "share of answers below it", 320)
    errors = [str(error) for error in value["error"].values]
    for error, colour in zip(errors, lines(len(errors)), strict=True):
        figure.add_scatter(
            x=below, y=value.sel(error=error).values.tolist(), name=error, mode="lines+markers",
            line={"color": colour},
        )  # fmt: skip
    ticks = [tolerance for tolerance in below if tolerance in _TICKS]
    figure.update_xaxes(type="log", tickvals=ticks, ticktext=[f"{100 * t:g} %" for t in ticks], tickangle=0)
    figure.update_yaxes(range=[-0.03, 1.05]).update_layout(legend=figures.legend_above(), height=400)
    n = int(value.attrs["examples"])
    return Panel("Right by tolerance", f"Of {n:,} matrices, log axis.", Figure(figure), "wide")


def _task(a: MatricesAnalysis) -> Matrices:
    assert isinstance(a.run.task, Matrices)
    return a.run.task


def _title(a: MatricesAnalysis) -> str:
    return _task(a).problem.title


_OF_EIGENVECTORS = (
    "Eigenvalues: Σ|h − w| / Σ|w|. Unit norm: the largest distance from 1 of the norm of a row or column of "
    "V. Orthogonal: the largest |cos| of neighbouring rows, as it was published, and of any two rows or "
    "columns."
)
_OF_ENTRIES = (
    "Near: the sum of sizes of the difference over that of the target. The largest entry is held against its "
    "own size; signs: the share of entries of the wrong one."
)
_D = (
    "d1, max and d2: sum of sizes, largest size and sum of squares of the difference from the target, each "
    "over the same of the target."
)
_DEFINED = {
    "eigenvalues": f"{_D} An eigenvalue by itself is held against its own size.",
    "eigenvalues and eigenvectors": (
        "d1, max and d2 of VᵀMV − diag(w), relative to w, all of the answer. " + _OF_EIGENVECTORS
    ),
    "inverse": (
        "d1, max and d2 of MH − I; classic: of the difference from the inverse, relative to it, as near the "
        "inverse is."
    ),
    "transpose": _D,
    "sum": _D,
}


_OF_PROPERTIES = {
    "eigenvalues": "An eigenvalue is held against its own size, the trace against the sum of all sizes.",
    "eigenvalues and eigenvectors": _OF_EIGENVECTORS,
    "inverse": _OF_ENTRIES,
    "transpose": _OF_ENTRIES,
    "sum": _OF_ENTRIES,
}


def _coefficients(a: MatricesAnalysis) -> Panel:
    value = a.measured("matrices.by_coefficient")
    figure = figures.new_figure("entry of the answer", "share within 5 %", 300)
    names = value["coefficient"].values.tolist()
    figure.add_bar(x=names, y=value.sel(share="share").values, marker_color=PLAIN, error_y=_bars(value))
    figure.update_yaxes(range=[0, 1.05]).update_xaxes(type="category")
    signs = " An eigenvector of the other sign is off." if "v11" in names else ""
    caption = f"Within 5 % of the entry of the target; bars: 95 % intervals (Wilson).{signs}"
    return Panel("Entries of the answer", caption, Figure(figure))


@section(
    "Which matrices it fails",
    "A matrix is ill-conditioned where its condition number, that of its largest to its smallest singular "
    "value, is large. The area under the ROC curve is the chance that the number is larger of a wrong answer "
    "than of a right one: .5 where it tells nothing, 1 where it tells all (interval: DeLong).",
    of=Matrices,
    needs=["matrices.by_condition"],
)
def _fails(a: MatricesAnalysis) -> Iterator[Panel | Table]:
    if "matrices.failure_auc" in a.values:
        told = a.measured("matrices.failure_auc")
        rows = []
        for of in told["predictor"].values.tolist():
            value, low, high, wrong, n = (float(x) for x in told.sel(predictor=of).values)
            rows.append(
                (_PREDICTORS[of], number(value), f"{low:.3f} to {high:.3f}", f"{wrong:,.0f} of {n:,.0f}")
            )
        header = ["Condition number of", "Area under the curve", "95 % interval", "Wrong answers"]
        yield Table("Whether a condition number tells wrong answers", header, rows)
    by, bands = a.measured("matrices.by_condition"), []
    for band in by["condition"].values.tolist():
        share, low, high, n, least, most, singular = (float(x) for x in by.sel(condition=band).values)
        ends = f"{_short(least)} to {_short(most)}{f' ({singular:,.0f})' * bool(singular)}"
        bands.append((band, percent(share), _interval(low, high), f"{n:,.0f}", ends))
    header = ["Quantile", "Right", "95 % interval", "Matrices", "Condition numbers"]
    yield Table("Right answers by the condition number of the matrix", header, bands)
    if "matrices.condition" not in a.values:
        return
    numbers = a.measured("matrices.condition")
    groups = [
        (group, *(number(float(x)) for x in numbers.sel(group=group).values))
        for group in numbers["group"].values.tolist()
    ]
    of = "of the eigenvectors that are the answer" if _title(a) in _VECTORS else "of the matrix"
    header = ["Answers", "Mean", "2nd percentile", "98th percentile", "Least", "Greatest", "How many"]
    lead = "What is singular to float64 is left out, and an answer that is no matrix has no eigenvectors."
    yield Table(f"Condition numbers {of}, of right and of wrong answers", header, groups, lead, folded=True)


_PREDICTORS = {"question": "the matrix that is asked about", "answer": "the eigenvectors that are the answer"}
_VECTORS = ("eigenvalues and eigenvectors",)


def _roughly(a: MatricesAnalysis) -> str:
    """Which properties nearly all wrong answers have, and which hardly any."""
    if "matrices.roughly_right" not in a.values:
        return ""
    value = a.measured("matrices.roughly_right").sel(group="wrong")
    n = int(value.sel(share="n")[0])
    kept = [p for p in _properties(value) if float(value.sel(property=p, share="low")) >= _AS_MUCH]
    lost = [p for p in _properties(value) if float(value.sel(property=p, share="high")) < 0.5]
    said = f"Of {n:,} wrong answers"
    parts = [f"nearly all keep: {', '.join(kept)}"] if kept else []
    parts += [f"fewer than half keep: {', '.join(lost)}"] if lost else []
    told = "; ".join(parts) or "no property is kept by nearly all, nor by fewer than half"
    flat = (
        " Of 2 x 2 matrices the eigenvectors have one angle between them, and a network that gives a pair of "
        "numbers and then the same pair turned has it right without more: whether failures lie in the angles "
        "is a question for larger ones."
    ) * (_title(a) in _VECTORS and _task(a).n == 2)
    meant = "Each to 5 %; nearly all are 95 % or more, and either by the whole interval."
    return f"{said} {told}. {meant}{flat}"


def _properties(value: Any) -> list[str]:
    return [str(name) for name in value["property"].values]


@section(
    "What wrong answers still have of right ones", _roughly, of=Matrices, needs=["matrices.roughly_right"],
)  # fmt: skip
def _still(a: MatricesAnalysis) -> Iterator[Panel | Table]:
    value = a.measured("matrices.roughly_right")
    figure = figures.new_figure("", "share that have it", 320, barmode="group")
    for group, colour in (("wrong", KEY), ("right", TEST)):
        if group in value["group"].values:
            of = value.sel(group=group)
            figure.add_bar(
                x=_properties(of), y=of.sel(share="share").values, name=group, marker_color=colour,
                error_y=_bars(of),
            )  # fmt: skip
    figure.update_yaxes(range=[0, 1.05]).update_layout(legend=figures.legend_above())
    caption = "Each to 5 %, of wrong and of right answers; bars: 95 % intervals (Wilson)."
    yield Panel("Properties of wrong and of right answers", caption, Figure(figure), "wide")
    rows = []
    for name in _properties(value):
        cells = []
        for group in value["group"].values.tolist():
            share, low, high, n = (float(x) for x in value.sel(property=name, group=group).values)
            cells.append(f"{percent(share)} ({_interval(low, high)}) of {n:,.0f}")
        rows.append((name, *cells))
    header = ["Property, to 5 %", *(f"Of {group} answers" for group in value["group"].values.tolist())]
    yield Table("Properties, with 95 % intervals", header, rows, _OF_PROPERTIES[_title(a)])


def _where_else(a: MatricesAnalysis) -> str:
    """On which distributions it is right less often than on its own."""
    return (
        "It was trained on matrices whose eigenvalues have the distribution "
        f"{_task(a).distribution}; these are fresh ones of every distribution. A confound: where a number is "
        "one token, other matrices have numbers of which the network has never seen the token in a question. "
        "How many have one is counted over all its training examples, which are drawn again; and how often "
        "it is right on the rest."
    )


@section("Other matrices", _where_else, of=Matrices, where=lambda a: bool(a.elsewhere))
def _other(a: MatricesAnalysis) -> Iterator[Panel | Table]:
    found = a.elsewhere
    figure = figures.new_figure("", f"share right {CRITERION}", 320, barmode="group")
    names = [each.distribution for each in found]
    series: list[tuple[str, str, list[Share | None]]] = [("all", KEY, [each.right for each in found])]
    if any(each.rest for each in found):
        series.append(("of tokens that were all seen", PLAIN, [each.rest for each in found]))
    for label, colour, shares in series:
        figure.add_bar(
            x=names, y=[share and share.right for share in shares], name=label, marker_color=colour,
            error_y={
                "symmetric": False, "thickness": 1,
                "array": [share and share.high - share.right for share in shares],
                "arrayminus": [share and share.right - share.low for share in shares],
            },
        )  # fmt: skip
    figure.update_yaxes(range=[0, 1.05]).update_layout(legend=figures.legend_above())
    caption = f"Of {found[0].right.n:,} matrices each; bars: 95 % intervals (Wilson)."
    yield Panel("On other distributions", caption, Figure(figure), "wide")
    rows = [
        (each.distribution, _told(each.right), _told(each.unseen, with_interval=False), _told(each.rest))
        for each in found
    ]
    header = ["Distribution", f"Right {CRITERION}", "With a token never seen", "Right on the rest"]
    yield Table("Right answers by distribution", header, rows)


def _told(share: Share | None, with_interval: bool = True) -> str:
    if share is None:
        return "not known"
    interval = f" ({_interval(share.low, share.high)})" if with_interval else ""
    return f"{percent(share.right)}{interval} of {share.n:,}"
