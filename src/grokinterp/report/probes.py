"""What a report and a replay show of probes: how well the numbers that are known of an example can be read
linearly at each place of a network, and since when."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ..errors import GrokinterpError
from ..replay.readability import LEVEL, Readable, readable
from . import figures
from .analysis import Analysis
from .moments import Curve, Moments
from .palette import PLAIN, lines
from .panels import Canvas, Figure, Panel, Table
from .words import number

if TYPE_CHECKING:
    import plotly.graph_objects as go

HOOKS, STREAM = "probe.r2", "probe.r2.stream"
_HOW = (
    "A ridge regression is fitted to the activations at one hook and judged by R² on examples that were held "
    "out. It shows what could be read there, not that the network reads it."
)


def lead(a: Analysis) -> str:
    """How it was done, and where each number is read best."""
    if HOOKS not in a.values:
        return _HOW
    value = a.measured(HOOKS)
    r2, shuffled = (value.sel(r2=which) for which in ("value", "shuffled maximum"))
    read, unread = [], []
    for factor in r2["number"].values.tolist():
        site = str(r2.sel(number=factor).idxmax("hook").values)
        best = float(r2.sel(number=factor, hook=site))
        if best > max(LEVEL, float(shuffled.sel(number=factor, hook=site))):
            read.append(f"{factor} at {site} ({best:.2f})")
        else:
            unread.append(f"{factor} (at best {best:.2f})")
    n, held_out = (int(value.attrs[name]) for name in ("examples", "held_out"))
    said = f"{_HOW} Of {n:,} {a.run.task.examples_are} {held_out:,} were held out."
    said += f" Read best: {', '.join(read)}." if read else ""
    said += f" Not readable anywhere (R² up to {LEVEL:g}): {', '.join(unread)}." if unread else ""
    return f"{said} Of shuffled numbers R² is at most {float(shuffled.max()):.2f}."


def panels(a: Analysis) -> Iterator[Panel | Table]:
    """R² along the stream, at every hook, and over the snapshots."""
    if STREAM in a.values:
        caption = (
            "From left to right in the order of the computation; bars: 1.96 standard errors; dashed: the "
            "largest of the shuffled controls. Where a hook has positions of its own, as in an encoder, the "
            "mean over them is read; else the position of the first answer."
        )
        figure = _along(a.measured(STREAM))
        yield Panel("Along the residual stream", caption, Figure(figure), size="wide")
    since = _since(a)
    if any(one.by is not None for one in since):
        title = "Since when it can be read"
        yield Panel(title, _CAPTION, Figure(_over_steps(a, since)), size="wide")
    value = a.measured(HOOKS).sel(r2="value")
    names = value["number"].values.tolist()
    hooks = [site.replace("blocks.", "").replace("hook_", "") for site in value["hook"].values.tolist()]
    figure = figures.numbered_heatmap(value.values.T.clip(0, 1), "", "R²", names, hooks, most=value.size)
    caption = (
        "R² on held-out examples at every hook (named without blocks. and hook_), in the order of the "
        "computation; below 0 as 0."
    )
    yield Panel("At every hook", caption, Figure(figure), size="wide")
    if since:
        rows = [(one.factor, one.site, one.when, number(one.r2)) for one in since]
        header = ["Number", "Hook", "Readable", "R² at the last snapshot"]
        yield Table("Since when each number can be read", header, rows, _CAPTION, folded=len(rows) > 12)


_CAPTION = (
    f"Readable: from then on R² stays above {LEVEL:g} and above the largest of the shuffled controls. A run "
    "is looked at only at its snapshots."
)


def _since(a: Analysis) -> list[Readable]:
    """Since when each number can be read; empty where that was not replayed."""
    try:
        return readable(a.replayed)
    except GrokinterpError:
        return []


def _along(value: Any) -> go.Figure:
    sites = [_short(site) for site in value["hook"].values.tolist()]
    names = value["number"].values.tolist()
    figure = figures.new_figure("", "R² on held-out examples", 340)
    for name, colour in zip(names, lines(len(names)), strict=True):
        here = value.sel(number=name)
        errors = (1.96 * here.sel(r2="error").values).round(4).tolist()
        figure.add_scatter(
            x=sites, y=here.sel(r2="value").values.round(4).tolist(), name=name,
            mode="lines+markers", line={"color": colour}, error_y={"array": errors, "thickness": 1},
        )  # fmt: skip
    most = value.sel(r2="shuffled maximum").max("number").values.round(4).tolist()
    figure.add_scatter(
        x=sites, y=most, name="shuffled", mode="lines", line={"color": PLAIN, "dash": "dash", "width": 1}
    )
    return _from_0_to_1(figure)


def _over_steps(a: Analysis, since: list[Readable]) -> go.Figure:
    """R² of each number where it is read best at the end, over the snapshots."""
    data = a.replayed[STREAM].dropna("step", how="all")
    best: dict[str, Readable] = {}
    for one in since:
        if one.factor not in best or one.r2 > best[one.factor].r2:
            best[one.factor] = one
    figure = figures.new_figure("step (optimiser updates)", "R² on held-out examples", 340)
    for one, colour in zip(best.values(), lines(len(best)), strict=True):
        here = data.sel(number=one.factor, hook=one.site, r2="value")
        figure.add_scatter(
            x=here["step"].values.tolist(), y=here.values.round(4).tolist(), line={"color": colour},
            name=f"{one.factor}, {_short(one.site)}", mode="lines+markers",
        )  # fmt: skip
    figure.add_hline(y=LEVEL, line={"color": PLAIN, "dash": "dash", "width": 1})
    return _from_0_to_1(figure)


def _from_0_to_1(figure: go.Figure) -> go.Figure:
    return figure.update_yaxes(range=[-0.05, 1.05]).update_layout(legend=figures.legend_above(), height=420)


def _short(site: str) -> str:
    """A place of the stream in a few words: "encoder 0 out"."""
    at, _, hook = site.rpartition(".hook_")
    if hook not in _IN_WORDS:
        return site
    stack, _, layer = at.rpartition("blocks.")
    return f"{stack.rstrip('.')} layer {layer} {_IN_WORDS[hook]}".strip()


_IN_WORDS = {"resid_pre": "in", "resid_post": "out", "normalized_resid_post": "out"}


def curves(moments: Moments) -> Canvas:
    """R² of each number over the steps, where it is read best at the last snapshot."""
    values = moments.values(STREAM).sel(r2="value")
    names = values["number"].values.tolist()
    last = values.dropna("step", how="all").values[-1]
    sites = [values["hook"].values.tolist()[i] for i in last.argmax(1)]
    wanted = [
        Curve(f"{name}, {_short(site)}", STREAM, colour, {"number": name, "hook": site, "r2": "value"})
        for name, site, colour in zip(names, sites, lines(len(names)), strict=True)
    ]
    return moments.curves("R² on held-out examples", wanted, limits=(0.0, 1.0))
