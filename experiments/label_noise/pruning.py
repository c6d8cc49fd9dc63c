"""The figure of the README: accuracy as neurons are removed, on corrupted and clean training examples and on
test examples."""

from __future__ import annotations

from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

ORDERS = {
    "lowest_ipr": "lowest IPR first",
    "random": "random (mean of 5)",
    "highest_ipr": "highest IPR first",
}


def drawn(curves: dict[str, Any], marked: int) -> go.Figure:
    """One plot for each group of examples; `curves` are the measures pruning.*, by what is removed first."""
    figure = make_subplots(
        1, 3, shared_yaxes=True, subplot_titles=["corrupted (wrong labels)", "clean (right labels)", "test"]
    )
    for (order, curve), colour in zip(curves.items(), ("#d1495b", "#8d99ae", "#3b7dd8"), strict=True):
        for column, part in enumerate(["corrupted", "clean", "test"], 1):
            line = {
                "x": curve.removed.values,
                "y": curve.sel(part=part).values,
                "line": {"color": colour, "width": 2},
            }
            figure.add_scatter(
                **line, name=ORDERS[order], mode="lines", showlegend=column == 1, row=1, col=column
            )
    figure.add_vline(x=marked, line={"color": "#555", "width": 1, "dash": "dot"})
    figure.update_xaxes(title="neurons removed").update_yaxes(range=[-0.02, 1.03])
    figure.update_yaxes(title="accuracy (share right)", col=1)
    return figure.update_layout(
        width=1000,
        height=360,
        template="plotly_white",
        margin={"t": 80, "r": 10, "b": 50, "l": 60},
        legend={"orientation": "h", "y": 1.3},
    )
