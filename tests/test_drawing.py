"""Figures that stand in a page without a script: where things lie in them, and what is said of them."""

from __future__ import annotations

import base64
import re
import struct
import zlib

import numpy as np
import plotly.graph_objects as go
import pytest

from grokinterp.report.drawing import drawn


def places(html: str, kind: str) -> list[tuple[float, float]]:
    """The points of the first path of a class, as shares from the left and from below."""
    path = re.search(rf'<path class="{kind}"[^>]* d="([^"]*)"', html)[1]
    points = re.findall(r"[ML]([\d.-]+) ([\d.-]+)", path)
    return [(float(x) / 1000, 1 - float(y) / 1000) for x, y in points]


def test_a_line_goes_through_its_points():
    figure = go.Figure().add_scatter(x=[0, 5, 10], y=[0.0, 1.0, 0.5], mode="lines")
    figure.update_xaxes(range=[0, 10]).update_yaxes(range=[0, 2])
    assert places(drawn(figure), "line") == [(0, 0), (0.5, 0.5), (1, 0.25)]


def test_a_logarithmic_axis_takes_the_logarithm_and_leaves_out_what_has_none():
    figure = go.Figure().add_scatter(x=[0, 1, 2, 3], y=[1.0, 0.0, 10.0, 100.0], mode="lines")
    figure.update_xaxes(range=[0, 3]).update_yaxes(type="log", range=[0, 2])
    html = drawn(figure)
    assert places(html, "line") == pytest.approx(np.array([(0, 0), (2 / 3, 0.5), (1, 1)]), abs=1e-3)
    assert re.search(r' d="(M[^"]*)"><title>', html)[1].count("M") == 2  # a gap where there is no logarithm
    assert ">100</span>" in html


def test_numbers_that_plotly_packs_are_the_same_numbers():
    values = np.linspace(0, 1, 7)
    packed = go.Figure().add_scatter(x=values, y=values, mode="lines")
    plain = go.Figure().add_scatter(x=values.tolist(), y=values.tolist(), mode="lines")
    assert "bdata" in str(packed.to_plotly_json())
    assert drawn(packed) == drawn(plain)


def test_a_heatmap_is_an_image_of_its_cells_the_first_row_on_top():
    z = np.array([[0, 254], [127, np.nan]])
    figure = go.Figure().add_heatmap(z=z, zmin=0, zmax=254, colorscale=["#000000", "#ffffff"])
    figure.update_yaxes(autorange="reversed")
    image = base64.b64decode(re.search(r"base64,([^\"]+)", drawn(figure))[1])
    chunks, at = {}, 8
    while at < len(image):
        size, kind = struct.unpack(">I4s", image[at : at + 8])
        chunks[kind] = image[at + 8 : at + 8 + size]
        assert struct.unpack(">I", image[at + 8 + size : at + 12 + size])[0] == zlib.crc32(
            kind + chunks[kind]
        )
        at += 12 + size
    assert struct.unpack(">II", chunks[b"IHDR"][:8]) == (2, 2)
    table = np.frombuffer(chunks[b"PLTE"], np.uint8).reshape(-1, 3)
    rows = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(2, 3)
    assert rows[:, 0].tolist() == [0, 0]  # no filter
    pixels = rows[:, 1:]
    assert table[pixels[0, 0]].tolist() == [0, 0, 0]
    assert table[pixels[0, 1]].tolist() == [255, 255, 255]
    assert table[pixels[1, 0]].tolist() == pytest.approx([128, 128, 128], abs=1)
    assert (pixels[1, 1], chunks[b"tRNS"]) == (0, b"\0")  # no value: transparent


def test_bars_stand_beside_one_another_from_0_up():
    figure = go.Figure().add_bar(x=["u", "v"], y=[1.0, 2.0]).update_yaxes(range=[0, 2])
    boxes = re.findall(r'd="M([\d.]+) ([\d.]+)V([\d.]+)H([\d.]+)', drawn(figure))
    assert [[float(edge) for edge in box] for box in boxes] == [[50, 1000, 500, 450], [550, 1000, 0, 950]]
    assert "<title>v: 2</title>" in drawn(figure)


def test_shades_have_their_names_in_the_legend_and_lines_over_the_whole_height():
    figure = go.Figure().add_scatter(x=[0, 10], y=[0, 1], mode="lines", name="only line")
    figure.add_vrect(2, 4, fillcolor="#123456", opacity=0.16, name="phase <i> 2–4").add_vline(5)
    figure.update_xaxes(range=[0, 10])
    html = drawn(figure)
    assert 'fill="#123456" opacity="0.16" d="M200.0 1000.0H400.0V0.0H200.0Z"' in html
    assert "phase &lt;i&gt; 2–4</span>" in html
    assert "M500.0 1000.0L500.0 0.0" in html
    assert "only line</span>" not in html  # one line needs no legend


def test_axes_of_one_scale_stay_so():
    figure = go.Figure().add_scatter(x=[-1, 1], y=[0, 0.5], mode="markers", text=["u", "v"])
    figure.update_yaxes(scaleanchor="x")
    html = drawn(figure)
    ((x0, y0),) = places(html, "marks")
    ((x1, y1),) = places(html.partition("<title>u</title>")[2], "marks")
    assert (y1 - y0) / (x1 - x0) == pytest.approx(0.25, abs=1e-3)
    assert "--ratio: 1" in html


def test_what_is_not_drawn_here_is_refused():
    with pytest.raises(ValueError, match="histogram"):
        drawn(go.Figure().add_histogram(x=[1, 2]))
