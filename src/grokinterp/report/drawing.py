"""A figure -> HTML and SVG that stand in the page as they are: drawn at once, without a script, at any width,
on paper too. For what a reader sees first, and for pages of few figures, which then do without plotly.js.

It draws what such figures are made of: lines, marks, bars, one heatmap; linear, logarithmic and category
axes; shades and lines behind; words at a place. Curves stand in an SVG that stretches with the page, words
beside it in HTML that does not. What an element shows by itself is in its `<title>`.
"""

from __future__ import annotations

import base64
import json
import math
import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from . import palette
from .offline import embedded
from .words import number

_SIDE = 1000
"""Units of an SVG, which the page stretches to what room there is."""
_MOST_ROWS = 14
"""Names beside a picture."""
_MOST_SAID = 65_536
"""Cells of a heatmap up to which each is said."""
_MOST_LETTERS = 56
"""Letters of names for which there is room below a picture."""
_DASHES = {"dash": "7 4", "dot": "2 3", "longdash": "10 4", "dashdot": "7 3 2 3"}


def drawn(figure: Any) -> Markup:
    """A figure of plotly's as an element of a page.

    Raises:
        ValueError: it has a trace that is not drawn here; plotly draws it.
    """
    return _Drawing(_unpacked(figure.to_plotly_json())).element()


def _unpacked(value: Any) -> Any:
    """Plotly's plain values, with the arrays in them that it has packed."""
    if isinstance(value, Mapping):
        if "bdata" in value:
            numbers = np.frombuffer(base64.b64decode(value["bdata"]), dtype=value["dtype"])
            return numbers.reshape([int(n) for n in str(value.get("shape", numbers.size)).split(",")])
        return {key: _unpacked(each) for key, each in value.items()}
    return [_unpacked(each) for each in value] if isinstance(value, list | tuple) else value


@dataclass(frozen=True)
class _Axis:
    """From the values of an axis to shares of its length, and where its ticks are."""

    low: float
    high: float
    log: bool = False
    across: bool = True
    names: Sequence[str] = ()
    ticks: Sequence[tuple[float, str]] = ()

    def at(self, value: Any) -> float:
        """The share of the axis that lies before a value; NaN where it cannot be shown."""
        if self.names:
            value = self.names.index(str(value)) if str(value) in self.names else float(value)
        value = float(value)
        if self.log:
            value = math.log10(value) if value > 0 else math.nan
        return (value - self.low) / (self.high - self.low)

    def labelled(self) -> list[tuple[float, str]]:
        """Shares of the axis, and what stands there."""
        if self.ticks:
            marks = list(self.ticks)
        elif self.names:
            letters = max(map(len, self.names)) + 2 if self.across else _MOST_LETTERS // _MOST_ROWS
            every = max(1, -(-len(self.names) * letters // _MOST_LETTERS))
            marks = [(i, name) for i, name in enumerate(self.names) if i % every == 0]
        elif self.log:
            marks = _decades(self.low, self.high)
        else:
            marks = [(tick, _plain(tick)) for tick in _round_ticks(self.low, self.high)]
        places = [
            ((v - self.low) / (self.high - self.low) if self.names else self.at(v), t) for v, t in marks
        ]
        return [(share, text) for share, text in places if -1e-6 <= share <= 1 + 1e-6]


def _decades(low: float, high: float) -> list[tuple[float, str]]:
    """Ticks of a logarithmic axis: powers of ten, and 2 and 5 times them where there are few; as plain
    numbers where all of them are short."""
    first, last = math.floor(low), math.ceil(high)
    mantissas = (1, 2, 5) if high - low < 2 else (1,)
    every = max(1, -(-(last - first) // 7))
    said = _plain_power if low >= -3.1 and high < 6 else _power
    return [(m * 10.0**e, said(m, e)) for e in range(first, last + 1, every) for m in mantissas]


def _plain_power(mantissa: int, exponent: int) -> str:
    return _plain(mantissa * 10.0**exponent)


def _power(mantissa: int, exponent: int) -> str:
    power = {0: "", 1: "10"}.get(exponent, "10" + str(exponent).translate(_RAISED))
    return " × ".join(filter(None, ["" if mantissa == 1 else str(mantissa), power])) or "1"


_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def _round_ticks(low: float, high: float, room: int = 6) -> list[float]:
    low, high = sorted((low, high))
    rough = (high - low) / room
    base = 10.0 ** math.floor(math.log10(rough))
    every = next(m * base for m in (1, 2, 5, 10) if m * base >= rough * 0.999)
    return [i * every for i in range(math.ceil(low / every - 1e-9), math.floor(high / every + 1e-9) + 1)]


def _plain(value: float) -> str:
    text = f"{value:,.0f}" if abs(value) >= 1000 else number(round(value, 10) + 0.0)
    return text.replace("-", "−")


class _Drawing:
    """One figure, as plotly's own plain values describe it."""

    def __init__(self, figure: Mapping[str, Any]) -> None:
        self.traces, self.layout = figure["data"], figure["layout"]
        if unknown := {trace["type"] for trace in self.traces} - {"scatter", "bar", "heatmap"}:
            raise ValueError(f"only lines, marks, bars and heatmaps are drawn here, not {unknown}")
        self.x, self.y = self._axis("x"), self._axis("y")

    def _axis(self, which: str) -> _Axis:
        said = self.layout.get(f"{which}axis", {})
        shown = [trace[which] for trace in self.traces if trace.get(which) is not None]
        values = [value for some in shown for value in np.asarray(some, dtype=object).tolist()]
        maps = [trace for trace in self.traces if trace["type"] == "heatmap"]
        ticks = _given(said)
        if said.get("type") == "category" or any(isinstance(value, str) for value in values):
            names = said.get("categoryarray") or [str(value) for value in dict.fromkeys(values)]
            reach = (-0.5, len(names) - 0.5)
            down = said.get("autorange") == "reversed"
            return _Axis(
                *(reach[::-1] if down else reach),
                across=which == "x",
                names=list(map(str, names)),
                ticks=ticks,
            )
        log = said.get("type") == "log"
        if maps and not values:
            values = [-0.5, np.asarray(maps[0]["z"]).shape["yx".index(which)] - 0.5]
        values += [at for trace in self.traces if trace["type"] == "bar" for at in self._reach(trace, which)]
        found = np.array([v for v in values if v is not None], dtype=float)
        found = found[np.isfinite(found) & ((found > 0) | (not log))]
        low, high = (found.min(), found.max()) if found.size else (0.1 if log else 0, 1)
        if log:
            low, high = math.log10(low), math.log10(high)
        if (wanted := said.get("range")) is not None:
            low, high = map(float, wanted)
        elif not maps:
            room = 0.05 * (high - low) or 0.5
            flat = said.get("rangemode") == "tozero" or self._of_bars(which)
            low, high = (min(low, 0) if flat else low - room), high + room
        if said.get("autorange") == "reversed":
            low, high = high, low
        return _Axis(float(low), float(high), log, ticks=ticks)

    def _hidden(self, which: str) -> bool:
        return self.layout.get(f"{which}axis", {}).get("visible") is False

    def _of_bars(self, which: str) -> bool:
        return which == "y" and any(trace["type"] == "bar" for trace in self.traces)

    @staticmethod
    def _reach(trace: Mapping[str, Any], which: str) -> list[float]:
        xs = [float(x) for x in trace["x"]] if which == "x" else []
        return [min(xs) - 0.5, max(xs) + 0.5] if xs else [0.0]

    def element(self) -> Markup:
        """Title of the axis, ticks and picture in their grid, the legend above, the bar of colours beside."""
        x, y = (self.layout.get(f"{which}axis", {}).get("title", {}).get("text", "") for which in "xy")
        alike = "scaleanchor" in self.layout.get("yaxis", {})
        if alike and "range" not in self.layout["yaxis"]:
            self.x, self.y = _alike(self.x, self.y)
        square = alike or any(trace["type"] == "heatmap" for trace in self.traces)
        ratio = abs((self.x.high - self.x.low) / (self.y.high - self.y.low)) if alike else 1
        rows, columns = (
            [] if self._hidden(which) else axis.labelled() for which, axis in (("y", self.y), ("x", self.x))
        )
        letters = max((len(text) for _, text in rows), default=-1)
        size = f"--ratio: {ratio:g}" if square else f"--height: {self.layout.get('height', 300) - 60}px"
        parts = [Markup('<div class="y-title"><span>{}</span></div>').format(y) if y else Markup("")]
        parts.append(Markup('<div class="y-ticks">{}</div>').format(_ticks("bottom", rows)))
        parts += [Markup('<div class="area">')]
        parts += [
            self._heatmaps(),
            self._svg(rows, columns),
            self._words(),
            Markup("</div>"),
            self._colourbar(),
        ]
        if columns or x:
            parts.append(Markup('<div class="x-ticks">{}</div>').format(_ticks("left", columns)))
            parts.append(Markup('<div class="x-title">{}</div>').format(x))
        return Markup(
            '<figure class="drawn{}" role="img" aria-label="{}" style="{}; --letters: {}">{}{}</figure>'
        ).format(
            " square" * square + " bare" * (not rows), f"{y} over {x}" if x else self.layout.get("meta", ""),
            size, letters, self._legend(), Markup("").join(parts),
        )  # fmt: skip

    def _svg(self, rows: Sequence[tuple[float, str]], columns: Sequence[tuple[float, str]]) -> Markup:
        parts: list[Markup] = [Markup('<g class="behind">')]
        parts += map(self._shape, self.layout.get("shapes", ()))
        parts.append(Markup("</g>"))
        plain = self.layout.get("xaxis", {}).get("showgrid") is False
        if not plain and not any(trace["type"] == "heatmap" for trace in self.traces):
            lines = [f"M0 {_down(share)}h{_SIDE}" for share, _ in rows]
            lines += [] if self._of_bars("y") else [f"M{_across(share)} 0v{_SIDE}" for share, _ in columns]
            parts.append(Markup('<path class="raster" d="{}"/>').format("".join(lines)))
        bars = [trace for trace in self.traces if trace["type"] == "bar"]
        for i, trace in enumerate(bars):
            parts += self._bars(trace, i, len(bars))
        for trace in self.traces:
            if trace["type"] == "scatter":
                mode = trace.get("mode", "lines")
                parts += [self._line(trace)] if "lines" in mode else []
                parts += self._marks(trace) if "markers" in mode else []
        return Markup('<svg viewBox="0 0 {0} {0}" preserveAspectRatio="none">{1}</svg>').format(
            _SIDE, Markup("").join(parts)
        )

    def _shape(self, shape: Mapping[str, Any]) -> Markup:
        """A shade or a line, over the whole height or width where it says so."""
        ends = [
            axis.at(shape[f"{which}{i}"])
            if shape.get(f"{which}ref", which) == which
            else float(shape[f"{which}{i}"])
            for which, axis in (("x", self.x), ("y", self.y))
            for i in (0, 1)
        ]  # fmt: skip
        if any(math.isnan(end) for end in ends):
            return Markup("")
        x0, x1, y0, y1 = _across(ends[0]), _across(ends[1]), _down(ends[2]), _down(ends[3])
        said = Markup("<title>{}</title>").format(shape["name"]) if shape.get("name") else ""
        if shape["type"] == "rect":
            return Markup('<path fill="{}" opacity="{}" d="M{} {}H{}V{}H{}Z">{}</path>').format(
                shape.get("fillcolor", palette.PLAIN), shape.get("opacity", 1), x0, y0, x1, y1, x0, said
            )
        return Markup('<path class="line" {} d="M{} {}L{} {}">{}</path>').format(
            _stroke(shape.get("line", {})), x0, y0, x1, y1, said
        )

    def _line(self, trace: Mapping[str, Any]) -> Markup:
        path, pen = [], "M"
        for x, y in zip(trace["x"], trace["y"], strict=True):
            if y is None or math.isnan(at := self.y.at(y)) or math.isnan(across := self.x.at(x)):
                pen = "M"
                continue
            path.append(f"{pen}{_across(across)} {_down(at)}")
            pen = "L"
        inside = (
            Markup(' style="fill:{}"').format(trace["fillcolor"]) if trace.get("fill") == "toself" else ""
        )
        return Markup('<path class="line" {}{} opacity="{}" d="{}"><title>{}</title></path>').format(
            _stroke(trace.get("line", {})), inside, trace.get("opacity", 1), "".join(path),
            trace.get("name") or "",
        )  # fmt: skip

    def _marks(self, trace: Mapping[str, Any]) -> Iterator[Markup]:
        """Marks as lines of no length with round ends, which stay round however the SVG is stretched; each
        with its words, or those of a colour together."""
        marker = trace.get("marker", {})
        colours = marker.get("color", palette.PLAIN)
        each = [colours] * len(trace["x"]) if isinstance(colours, str) else [*map(str, colours)]
        said = trace.get("text")
        said = [""] * len(each) if said is None else said
        words = [said] * len(each) if isinstance(said, str) else [*map(str, said)]
        points: dict[tuple[str, str], list[str]] = {}
        for x, y, colour, word in zip(trace["x"], trace["y"], each, words, strict=True):
            if y is not None and not math.isnan(at := self.y.at(y)):
                points.setdefault((colour, word), []).append(f"M{_across(self.x.at(x))} {_down(at)}h0")
        for (colour, word), path in points.items():
            yield Markup('<path class="marks" stroke="{}" stroke-width="{}" d="{}">{}</path>').format(
                colour, marker.get("size", 6), "".join(path),
                Markup("<title>{}</title>").format(word) if word else "",
            )  # fmt: skip

    def _bars(self, trace: Mapping[str, Any], i: int, count: int) -> Iterator[Markup]:
        colours, gap = trace.get("marker", {}).get("color", palette.PLAIN), 0.8 / count
        each = [colours] * len(trace["x"]) if isinstance(colours, str) else colours
        for x, y, colour in zip(trace["x"], trace["y"], each, strict=True):
            unit = 1 / (self.x.high - self.x.low)
            left = self.x.at(x) + (i * gap - 0.4) * unit
            box = _across(left), _down(self.y.at(0)), _across(left + gap * unit), _down(self.y.at(y))
            said = f"{x}: {number(float(y))}"
            yield Markup('<path fill="{0}" d="M{1} {2}V{4}H{3}V{2}Z"><title>{5}</title></path>').format(
                colour, *box, said
            )

    def _heatmaps(self) -> Markup:
        """The heatmap as an image of one pixel a cell, and what is said of each cell that the mouse is at."""
        image = Markup("")
        for trace in self.traces:
            if trace["type"] == "heatmap":
                values = np.asarray(trace["z"], dtype=float)
                low, high = (trace.get(name) for name in ("zmin", "zmax"))
                low, high = _ends(values) if low is None or high is None else (float(low), float(high))
                upright = values if self.y.low > self.y.high else values[::-1]
                image += Markup('<img alt="" src="data:image/png;base64,{}">').format(
                    base64.b64encode(_png(upright, low, high, _colours(trace))).decode()
                )
                if values.size <= _MOST_SAID and "hovertemplate" in trace and upright is values:
                    image += self._said(trace, values)
        return image

    def _said(self, trace: Mapping[str, Any], values: NDArray[Any]) -> Markup:
        cells = trace.get("customdata")
        said = values if cells is None else np.asarray(cells)
        words, which = np.unique(said, return_inverse=True)
        packed = base64.b64encode(zlib.compress(which.astype("<u2").tobytes(), 9)).decode()
        data = {
            "template": trace["hovertemplate"].removesuffix("<extra></extra>").replace("customdata", "z"),
            "words": [number(float(w)) if cells is None else str(w) for w in words],
            "names": [list(self.y.names) or values.shape[0], list(self.x.names) or values.shape[1]],
            "cells": packed,
        }
        return Markup('<script type="application/json" class="cells">{}</script>').format(
            embedded(json.dumps(data, ensure_ascii=False))
        )

    def _colourbar(self) -> Markup:
        """What the colours of a heatmap mean."""
        for trace in self.traces:
            if trace["type"] == "heatmap" and trace.get("showscale", True):
                bar, (low, high) = trace.get("colorbar", {}), _ends(np.asarray(trace["z"], dtype=float))
                low, high = float(trace.get("zmin", low)), float(trace.get("zmax", high))
                ticks = _given(bar)
                labels = _Axis(low, high, ticks=ticks).labelled() if high > low else []
                stops = ", ".join(_colours(trace))
                return Markup(
                    '<div class="colours" style="--letters: {}">'
                    '<i style="background: linear-gradient(to top, {})"></i>{}<b>{}</b></div>'
                ).format(
                    max((len(t) for _, t in labels), default=1), stops, _ticks("bottom", labels),
                    bar.get("title", {}).get("text", ""),
                )  # fmt: skip
        return Markup("")

    def _legend(self) -> Markup:
        """A name and a stroke or a patch for every trace that has one, and for every shade."""
        rows: list[Markup] = []
        for trace in self.traces:
            if trace.get("name") and trace.get("showlegend", True) and trace["type"] != "heatmap":
                line, marker = trace.get("line", {}), trace.get("marker", {})
                colour = line.get("color") or marker.get("color")
                is_line = trace["type"] == "scatter" and "lines" in trace.get("mode", "lines")
                stroke = "solid" if line.get("dash", "solid") == "solid" else "dashed"
                colour = colour if isinstance(colour, str) else palette.PLAIN
                rows.append(_key(stroke if is_line else "patch", colour, trace["name"]))
        rows = rows if len(rows) > 1 and self.layout.get("showlegend", True) else []
        shades = [
            s
            for s in self.layout.get("shapes", ())
            if s.get("name") and s["type"] == "rect" and s.get("showlegend", True)
        ]
        rows += [_key("shade", s["fillcolor"], s["name"]) for s in shades]
        return Markup("<figcaption>{}</figcaption>").format(Markup("").join(rows)) if rows else Markup("")

    @staticmethod
    def _place(axis: _Axis, value: float, on_axis: bool) -> float:
        """The share at which words stand: on a logarithmic axis they are placed by the logarithm."""
        if not on_axis:
            return value
        return axis.at(10**value if axis.log else value)

    def _words(self) -> Markup:
        """What stands in the picture."""
        said = Markup("")
        for note in self.layout.get("annotations", ()):
            left, up = (
                self._place(axis, float(note.get(which, 0)), note.get(f"{which}ref", which) == which)
                for which, axis in (("x", self.x), ("y", self.y))
            )
            side = {"right": "right", "left": "left"}.get(note.get("xanchor", ""), "middle")
            said += Markup('<span class="word {}" style="left:{};bottom:{}">{}</span>').format(
                side, _at(left), _at(up), note.get("text", "")
            )
        return said


def _given(said: Mapping[str, Any]) -> list[tuple[float, str]]:
    """The ticks that an axis or a bar of colours is given."""
    pairs = zip(said.get("tickvals", ()), said.get("ticktext", ()), strict=False)
    return [(float(at), str(text)) for at, text in pairs]


def _ticks(side: str, labels: Iterable[tuple[float, str]]) -> Markup:
    mark = Markup('<span style="{}:{}">{}</span>').format
    return Markup("").join(mark(side, _at(share), text) for share, text in labels)


def _key(kind: str, colour: str, name: str) -> Markup:
    return Markup('<span><i class="{}" style="color:{}"></i>{}</span>').format(kind, colour, name)


def _alike(x: _Axis, y: _Axis) -> tuple[_Axis, _Axis]:
    """The two axes with units of one length."""
    half = max(x.high - x.low, y.high - y.low) / 2
    return tuple(_Axis((a.low + a.high) / 2 - half, (a.low + a.high) / 2 + half) for a in (x, y))  # type: ignore[return-value]


def _at(share: float) -> str:
    return f"{100 * share:.2f}%"


def _across(share: float) -> str:
    return f"{_SIDE * share:.1f}"


def _down(share: float) -> str:
    return f"{_SIDE * (1 - share):.1f}"


def _stroke(line: Mapping[str, Any]) -> Markup:
    dash = Markup(' stroke-dasharray="{}"').format(_DASHES[d]) if (d := line.get("dash")) in _DASHES else ""
    return Markup('stroke="{}" stroke-width="{}"{}').format(
        line.get("color", palette.PLAIN), line.get("width", 2), dash
    )


def _ends(values: NDArray[Any]) -> tuple[float, float]:
    finite = values[np.isfinite(values)]
    return (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)


def _colours(trace: Mapping[str, Any]) -> list[str]:
    scale = trace.get("colorscale") or palette.SEQUENTIAL
    return [each if isinstance(each, str) else str(each[1]) for each in scale]


def _rgb(colour: str) -> NDArray[Any]:
    return np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)], dtype=float)


def _png(values: NDArray[Any], low: float, high: float, colours: Sequence[str]) -> bytes:
    """An image of one pixel a value, in 255 colours; no value is transparent."""
    stops, places = np.stack([*map(_rgb, colours)]), np.linspace(0, len(colours) - 1, 255)
    table = np.stack([np.interp(places, range(len(colours)), stops[:, i]) for i in range(3)], axis=1)
    levels = np.nan_to_num((values - low) / ((high - low) or 1) * 254, nan=-1).round().clip(-1, 254) + 1
    pixels = levels.astype(np.uint8)
    table = np.vstack([np.zeros(3), table]).round().astype(np.uint8)
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    chunks: Iterable[tuple[bytes, bytes]] = [
        (b"IHDR", struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], 8, 3, 0, 0, 0)),
        (b"PLTE", table.tobytes()),
        (b"tRNS", b"\0"),
        (b"IDAT", zlib.compress(rows, 9)),
        (b"IEND", b""),
    ]
    body = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + body
