"""One function per figure of what is said of operations: an analysis -> a plotly figure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
import torch
from jaxtyping import Float
from torch import Tensor

from ... import fourier
from ...errors import NotApplicable
from ...measures.embedding import principal_components
from ...measures.waves.circular import circular
from ...measures.waves.embedding import plane
from ...measures.waves.neurons import EXPLAINED, neuron_power
from ...replay import FINAL
from ...replay.frequencies.pictures import example_neurons, spectrum_2d
from ...tasks import Circle, Operation
from ...tasks.table import answer_numbers
from .. import palette
from ..figures import colorbar, heatmap, legend_above, named, new_figure, of_squares, over_training
from ..palette import CORRUPTED, EXCLUDED, KEY, PLAIN, RESTRICTED, TEST, TRAIN, round_the_circle
from ..words import spoken
from .analysis import CLOCK_IS, PIZZA_IS, OperationAnalysis

_MOST_NAMED = 512
"""Elements up to which the answer of every pair of them is named: of 2,003 the names would take 30 MB of a
page."""


def noise_profile(a: OperationAnalysis) -> go.Figure:
    """Bars of the mean probability of each class near the right answer, by part, and how labels are drawn."""
    values = a.values["noise.profile"]
    offsets = [int(k) for k in values.coords["offset"].values]
    figure = new_figure("places after the right answer (classes)", "probability", barmode="group")
    for part in ("train", "test", "corrupted", "clean"):
        if part in values.coords["part"].values:
            shares = values.sel(part=part).values
            figure.add_bar(x=offsets, y=shares, name=part, marker_color=palette.OF_PART[part])
    assert a.task.noise is not None
    drawn = a.task.noise.shifts(len(a.task.ring))
    figure.add_scatter(
        x=offsets, y=[float(drawn[k]) for k in offsets], name="labels as drawn", mode="markers",
        marker={"symbol": "line-ew-open", "size": 34, "color": KEY, "line": {"width": 3}},
    )  # fmt: skip
    return figure.update_yaxes(rangemode="tozero").update_layout(legend=legend_above())


def _losses_at_snapshots(a: OperationAnalysis, y: str, curves: Iterable[Sequence[str]]) -> go.Figure:
    """Lines through a loss at the snapshots, each given by measure, part, label and colour, on a log axis;
    those that are known."""
    figure = new_figure("step (optimiser updates)", y, 340)
    for name, part, label, colour in curves:
        if name in a.replayed and part in a.replayed[name].coords["part"].values:
            curve = a.replayed[name].sel(part=part).dropna("step")
            figure.add_scatter(
                x=curve.step.values, y=curve.values, name=label, mode="lines+markers",
                line_color=colour, marker_size=4,
            )  # fmt: skip
    return over_training(a, figure).update_yaxes(type="log")


def progress_measures(a: OperationAnalysis) -> go.Figure:
    """Train, test, restricted and excluded loss at the snapshots, with the final keys; log axis."""
    curves = [
        ("loss", "train", "train", TRAIN),
        ("loss", "test", "test", TEST),
        ("restricted_loss.logit_dirs" + FINAL, "all", "restricted to the final keys", RESTRICTED),
        ("excluded_loss.logit_dirs" + FINAL, "train", "train, final keys excluded", EXCLUDED),
    ]
    return _losses_at_snapshots(a, "loss (nats)", curves)


def lives(a: OperationAnalysis, place: str) -> go.Figure:
    """The share of every frequency that ever stood out in the power of a place; final keys in colour, others
    grey."""
    assert a.lives is not None
    share = a.lives.share.sel(place=place).dropna("step", how="all")
    figure = new_figure("step (optimiser updates)", "share of what varies", 320)
    lived = [life.freq for life in a.lives.lives if life.place == place and life.fate != "never"]
    others = [k for k in lived if k not in a.lives.final_keys]
    for i, k in enumerate([*a.lives.final_keys, *others]):
        colour = PLAIN if k in others else palette.LINES[(i + 3) % len(palette.LINES)]
        line = {"color": colour, "dash": "dot" if k in others else "solid"}
        y = share.sel(freq=k).values
        figure.add_scatter(x=share.step.values, y=y, name=f"k = {k}", mode="lines", line=line)
    figure.add_hline(y=a.lives.born, line={"color": PLAIN, "width": 1, "dash": "dot"})
    return over_training(a, figure, names=False)


def keys_differ(a: OperationAnalysis) -> go.Figure:
    """Restricted loss with the keys of each snapshot and with those of the final network; log axis."""
    curves = [
        ("restricted_loss.logit_dirs" + FINAL, "all", "final keys", RESTRICTED),
        ("restricted_loss.logit_dirs", "all", "keys of each snapshot", TEST),
    ]
    return _losses_at_snapshots(a, "restricted loss (nats)", curves)


def _spectrum(values: Any, keys: Sequence[int], y: str) -> go.Figure:
    """Cosine and sine component of every frequency as bars, the keys coloured."""
    norms = np.asarray(values)
    frequency = fourier.component_frequencies(len(norms)).numpy()
    figure = new_figure("frequency k", y, barmode="group", bargap=0.1)
    for name, rows, opacity in (("cos", slice(1, None, 2), 1.0), ("sin", slice(2, None, 2), 0.55)):
        marker = {"color": _key_colours(keys, frequency[rows]), "opacity": opacity}
        figure.add_bar(x=frequency[rows], y=norms[rows], name=name, marker=marker)
    return figure.update_layout(showlegend=False)


def _key_colours(keys: Sequence[int], frequencies: np.ndarray) -> list[str]:
    return [KEY if k in keys else PLAIN for k in frequencies]


def embedding_spectrum(a: OperationAnalysis) -> go.Figure:
    """Norm of each Fourier component of W_E."""
    return _spectrum(a.values["fourier_norms.W_E"], a.keys_used, "norm of component (weight)")


def readout_spectrum(a: OperationAnalysis) -> go.Figure:
    """Norm of each Fourier component of W_L."""
    return _spectrum(a.values["fourier_norms.W_L"], a.keys_used, "norm of component (weight)")


def logit_cosines(a: OperationAnalysis) -> go.Figure:
    """Cosine similarity of the logits with cos w_k(c* - c)."""
    return _per_frequency(a, a.values["logit_cosine"], "cosine similarity")


def neuron_clusters(a: OperationAnalysis) -> go.Figure:
    """How many neurons belong to each frequency."""
    return _per_frequency(a, a.values["neuron.clusters"], "neurons (count)")


def _per_frequency(a: OperationAnalysis, values: Any, y: str) -> go.Figure:
    k = values.coords["freq"].values
    colours = _key_colours(a.keys_used, k)
    return new_figure("frequency k", y).add_bar(x=k, y=values.values, marker_color=colours)


def excluded_by_frequency(a: OperationAnalysis) -> go.Figure:
    """The loss on all examples without each frequency in turn, log axis; the loss of the whole network as a
    line."""
    values = a.values["excluded_loss.per_frequency"].sel(part="all")
    k = values.coords["freq"].values
    marker = {"color": _key_colours(a.keys_used, k), "size": 7}
    figure = new_figure("frequency k", "loss without it (nats)")
    figure.add_scatter(x=k, y=_positive(values.values), mode="markers", marker=marker)
    whole = _positive(a.values["loss"].sel(part="all").values.reshape(1))[0]
    figure.add_hline(y=whole, line={"color": PLAIN, "width": 1, "dash": "dot"})
    return figure.update_yaxes(type="log").update_layout(showlegend=False)


def losses_by_variant(a: OperationAnalysis) -> go.Figure:
    """Restricted and excluded losses on all examples by variant, in words, log axis; the loss of the whole
    network and that of chance as lines that the legend names."""
    loss_of = {
        name: float(value.sel(part="all"))
        for name, value in a.values.items()
        if "_loss." in name and getattr(value, "dims", 0) == ("part",)
    }
    figure = new_figure("loss on all examples (nats)", "variant", 420)
    for kind, colour in (("restricted", TRAIN), ("excluded", KEY)):
        start = f"{kind}_loss."
        of_kind = {name[len(start) :]: loss for name, loss in loss_of.items() if name.startswith(start)}
        if of_kind:
            figure.add_scatter(
                x=_positive(of_kind.values()), y=[*map(spoken, of_kind)], name=kind, mode="markers",
                marker={"color": colour, "size": 9}, customdata=[start + variant for variant in of_kind],
                hovertemplate="%{y}: %{x:.3g} nats (%{customdata})<extra></extra>",
            )  # fmt: skip
    if not figure.data:
        absent = "no restricted or excluded loss was measured"
        raise NotApplicable(a.skipped.get("restricted_loss.logit_dirs", absent))
    whole, chance = float(a.values["loss"].sel(part="all")), float(np.log(a.run.task.n_answers))
    lines = (("the network as it is", "dot"), ("chance", "dash"))
    for at, (words, dash) in zip(_positive([whole, chance]), lines, strict=True):
        figure.add_vline(x=at, name=words, showlegend=True, line={"color": PLAIN, "width": 2, "dash": dash})
    figure.update_xaxes(type="log")
    figure.update_yaxes(autorange="reversed", automargin=True)
    return figure.update_layout(legend=legend_above())


def _positive(values: Iterable[float]) -> list[float]:
    """Losses as a log axis can show them: those that are 0 in float64 at 1e-20."""
    return [max(float(x), 1e-20) for x in values]


def neuron_explained_variance(a: OperationAnalysis) -> go.Figure:
    """How well one frequency explains each neuron."""
    figure = new_figure("share of variance explained", "neurons (count)")
    values = a.values["neuron.explained_variance"].values
    figure.add_histogram(x=values, xbins={"start": 0, "end": 1.0001, "size": 0.05}, marker_color=PLAIN)
    figure.add_vline(x=EXPLAINED, line={"color": KEY, "width": 1, "dash": "dot"})
    return figure.update_xaxes(range=[0, 1])


def pruning(a: OperationAnalysis) -> go.Figure:
    """Accuracy as neurons are removed: those of lowest IPR first, of highest first, and at random. Training
    examples are drawn as corrupted and clean ones where labels are noisy."""
    figure = new_figure("neurons removed", "accuracy (share right)", 360)
    parts = [str(part) for part in a.values["pruning.lowest_ipr"].coords["part"].values]
    implied = {"all", "train"} if {"corrupted", "clean"} <= set(parts) else {"all"}
    orders = {
        "lowest_ipr": ("lowest IPR first", "solid"),
        "random": ("random", "dot"),
        "highest_ipr": ("highest IPR first", "dash"),
    }
    for part in [part for part in parts if part not in implied] or parts:
        for name, (words, dash) in orders.items():
            curve = a.values[f"pruning.{name}"].sel(part=part)
            figure.add_scatter(
                x=curve.removed.values, y=curve.values, name=part, mode="lines", showlegend=dash == "solid",
                hovertext=f"{part}, {words}",
                line={"color": palette.OF_PART.get(part, PLAIN), "dash": dash},
            )  # fmt: skip
    for words, dash in orders.values():  # what the dashes mean: lines of one point, which none sees
        line = {"color": PLAIN, "dash": dash}
        figure.add_scatter(x=[0], y=[0], name=words, mode="lines", line=line, hoverinfo="skip")
    return figure.update_yaxes(range=[-0.03, 1.06]).update_layout(legend=legend_above())


def pca_plane(a: OperationAnalysis) -> go.Figure:
    """The elements on the first two principal components of the embedding."""
    points, share = principal_components(a.view)
    if points.shape[1] < 2:
        points = torch.cat([points, torch.zeros(len(points), 1, dtype=points.dtype)], dim=1)
    axes = [f"PC {i} ({100 * float(share[i]) if i < len(share) else 0:.0f} % of variance)" for i in (0, 1)]
    return _points(a, points[:, :2], list(range(len(points))), axes[0], axes[1], 1)


def circle(a: OperationAnalysis, k: int) -> go.Figure:
    """The elements in the plane of the embedding's components cos k and sin k."""
    x, y = f"W_E along cos {k} (weight)", f"W_E along sin {k} (weight)"
    return _points(a, plane(a.view, k), circular(a.view).circle.a.tolist(), x, y, k)


def circles(a: OperationAnalysis, keys: Sequence[int]) -> go.Figure:
    """The elements in the planes of cos k and sin k of the embedding, side by side, each plane as large as
    its largest circle."""
    order, names = circular(a.view).circle.a.tolist(), a.task.operand_names
    across = math.ceil(math.sqrt(len(keys)))
    down = -(-len(keys) // across)
    figure = go.Figure().update_layout(template=None, meta="circles of the key frequencies")
    for i, k in enumerate(keys):
        points, at = plane(a.view, k), (2 * (i % across), -2 * (i // across))
        points = points / (1.15 * points.norm(dim=1).max()) + torch.tensor(at)
        figure.add_scatter(
            x=points[:, 0].tolist(), y=points[:, 1].tolist(), mode="markers", showlegend=False,
            text=[f"{names[element]}, k = {k}" for element in order],
            marker={"color": [round_the_circle(j * k, len(order)) for j in range(len(order))], "size": 6},
        )  # fmt: skip
        figure.add_annotation(x=at[0], y=at[1], text=f"k = {k}", showarrow=False)
    figure.update_xaxes(visible=False, range=[-1, 2 * across - 1])
    return figure.update_yaxes(visible=False, range=[1 - 2 * down, 1], scaleanchor="x")


def _points(
    a: OperationAnalysis, points: Float[Tensor, "m 2"], elements: list[int], x: str, y: str, k: int
) -> go.Figure:
    """The elements as points, coloured by how far round they are when the circle is walked round k times."""
    p = len(points)
    names = [a.task.operand_names[element] for element in elements]
    turn = [i * k % p for i in range(p)]
    figure = new_figure(x, y, 330)
    figure.add_scatter(
        x=points[:, 0].numpy(), y=points[:, 1].numpy(), mode="markers+text" if p <= 60 else "markers",
        text=names, textposition="top center",
        textfont={"size": 9}, marker={"color": [round_the_circle(at, p) for at in turn], "size": 7},
        hovertemplate="element %{text}: %{x:.3f}, %{y:.3f}<extra></extra>",
    )  # fmt: skip
    return figure.update_yaxes(scaleanchor="x", scaleratio=1)


def example_neuron(a: OperationAnalysis, k: int) -> tuple[go.Figure, int, float] | None:
    """The best explained neuron of a frequency, as a function of (a, b): figure, number, share explained;
    None where it has no neuron."""
    if not (best := example_neurons(a.view, [k])):
        return None
    share = float(neuron_power(a.view)[k - 1, best[0]])
    return _over_circle(a, a.view.neurons[:, best[0]], k, "activation"), best[0], share


def _over_circle(
    a: OperationAnalysis, values: Float[Tensor, "n"], k: int, unit: str,
    limits: tuple[float, float] | None = None,
) -> go.Figure:  # fmt: skip
    """Values of all pairs as a heatmap, a and b in the order in which k·a and k·b go round the circle: there
    frequency k goes round once, and is no pattern finer than the pixels of a page."""
    circle, names = circular(a.view).circle, a.task.operand_names
    order = once_round(k, circle.m)
    plain = circle.order.startswith("residues") and "−" not in circle.order
    of_a, of_b = ("" if plain else f" ({said})" for said in (circle.order.split(",")[0], circle.order))
    by = [f", ordered by {k}{x} mod {circle.m}" if k > 1 else "" for x in "ba"]
    on_axes = [[names[elements[i]] for i in order] for elements in (circle.b.tolist(), circle.a.tolist())]
    grid = circular(a.view).grid(values)[order][:, order]
    figure = heatmap(grid, f"b{of_b}{by[0]}", f"a{of_a}{by[1]}", unit, limits, (on_axes[0], on_axes[1]))
    return of_squares(figure).update_xaxes(nticks=6, tickangle=0).update_yaxes(nticks=8)


def neuron_spectrum(a: OperationAnalysis) -> go.Figure:
    """Share of the power of all neurons on each product of components of a and of b, on a log scale."""
    return _spectrum_2d(spectrum_2d(a.view, a.view.neurons))


def logit_spectrum(a: OperationAnalysis) -> go.Figure:
    """Share of the power of all logits on each product of components of a and of b, on a log scale."""
    return _spectrum_2d(spectrum_2d(a.view, a.view.logits))


def _spectrum_2d(shares: Float[Tensor, "component component"]) -> go.Figure:
    x, y = "component of b (1, cos 1, sin 1, …)", "component of a"
    return of_squares(heatmap(shares, x, y, "log₁₀ of share of power", (-6.0, 0.0)))


def attention_to_first(a: OperationAnalysis, layer: int, head: int) -> tuple[go.Figure, int]:
    """How much the answer position attends to the first token, as a function of (a, b); on a circle in the
    order of the frequency that the picture has most of, which is given with it, else 0."""
    task, names = a.task, a.task.operand_names
    attention = a.view.attention[layer, head, :, 0]
    if a.n_frequencies:
        k = strongest(circular(a.view).grid(attention))
        return _over_circle(a, attention, k, "attention to a (share)", (0.0, 1.0)), k
    if not task.is_full_grid:
        raise NotApplicable(f"{task.name} leaves out pairs, so its examples fill no p × p grid")
    grid = attention.unflatten(0, (task.p, task.p))
    return of_squares(heatmap(grid, "b", "a", "attention to a (share)", (0.0, 1.0), (names, names))), 0


def once_round(k: int, m: int) -> list[int]:
    """The positions on a circle of m in the order in which k times them goes round: there frequency k goes
    round once."""
    return sorted(range(m), key=lambda i: (k * i % m, i))


def strongest(grid: Float[Tensor, "m m"]) -> int:
    """The frequency that holds most of the power of a picture, over a and over b."""
    power = torch.fft.fft2(grid - grid.mean()).abs().square()
    half = len(grid) // 2
    folded = power[:, 1 : half + 1] + power[:, -half:].flip(1)
    along = folded.sum(0) + (power[1 : half + 1] + power[-half:].flip(0)).sum(1)
    return int(along.argmax()) + 1


_OF_PAPER = {"clock of the paper": (0.33, 0.85), "pizza of the paper": (0.99, 0.17)}
"""The networks of table 1 of Zhong et al. 2023 (arXiv 2306.17844)."""


def clock_or_pizza(a: OperationAnalysis) -> go.Figure:
    """The two numbers that tell a clock from a pizza, with the thresholds of the claims as areas."""
    figure = new_figure("gradient symmetricity (cosine)", "distance irrelevance (share)", 320)
    for (at, irrelevance), kind, colour in ((CLOCK_IS, "clock", TEST), (PIZZA_IS, "pizza", CORRUPTED)):
        area = {"x0": -1, "x1": at, "y0": irrelevance, "y1": 1}
        if kind == "pizza":
            area = {"x0": at, "x1": 1, "y0": 0, "y1": irrelevance}
        figure.add_shape(area, type="rect", name=kind, fillcolor=colour, opacity=0.2, line={"width": 0})
    for name, (x, y) in _OF_PAPER.items():
        marker = {"symbol": "circle-open", "size": 10, "color": PLAIN}
        figure.add_scatter(x=[x], y=[y], mode="markers", name=name, marker=marker)
    here = [a.number("gradient_symmetricity")], [a.number("distance_irrelevance.correct")]
    marker = {"size": 12, "color": KEY}
    figure.add_scatter(x=here[0], y=here[1], mode="markers", name="this network", marker=marker)
    figure.update_xaxes(range=[min(-0.02, here[0][0] - 0.05), 1.02])
    return figure.update_yaxes(range=[-0.02, 1.02]).update_layout(legend=legend_above(), margin={"t": 40})


_IDEAL = ("circuit.clock.agreement", "circuit.pizza.agreement")
"""Of networks that were not fitted to this one: any that is right agrees with any other."""


def fitted_waves(a: OperationAnalysis) -> go.Figure:
    """How often fitted waves in place of a part answer as the network does."""
    shares = {
        spoken(name.split(".", 1)[1].removesuffix(".agreement")): float(value.sel(part="all"))
        for name, value in a.values.items()
        if name.endswith(".agreement") and name.startswith("circuit.") and name not in _IDEAL
    }
    if not shares:
        raise NotApplicable("no fitted waves were measured")
    x, y = "same answer (share of pairs)", "fitted in place of"
    figure = new_figure(x, y, 90 + 34 * len(shares))
    figure.add_bar(
        x=list(shares.values()), y=list(shares), orientation="h", marker={"color": TEST},
        text=[f"{share:.3f}" for share in shares.values()], hovertemplate="%{y}: %{x:.4f}<extra></extra>",
    )  # fmt: skip
    figure.add_vline(x=0.99, line={"color": PLAIN, "width": 1, "dash": "dot"})
    figure.update_xaxes(range=[0, 1.02])
    return figure.update_yaxes(autorange="reversed", automargin=True)


def value_counts(task: Operation) -> go.Figure:
    """How many pairs have each answer."""
    figure = new_figure("answer", "pairs (count)", 330)
    figure.add_bar(x=list(task.answer_names), y=list(task.facts.counts), marker_color=PLAIN)
    return figure.update_xaxes(type="category")


def table(task: Operation, circle: Circle | None = None) -> go.Figure:
    """The table as an image; of what stands on a circle alone, and in its order, where one is given."""
    a, b = (circle.a, circle.b) if circle else (torch.arange(task.p),) * 2
    classes = task.table[a][:, b]
    if circle:  # colours go round once with the positions of the answers
        numbers = torch.zeros(task.n_answers, dtype=torch.float64)
        numbers[circle.c] = torch.arange(circle.m).double()
    else:
        numbers = answer_numbers(task.symbols)
    # Two bytes for each, where that holds all.
    whole = bool((classes >= 0).all()) and torch.equal(numbers, numbers.short().double())
    z = numbers[classes].short() if whole else torch.where(classes >= 0, numbers[classes], torch.nan).float()
    where = " (order of the group)" if circle else ""
    figure = new_figure(f"b{where}", f"a{where}", 330)
    figure.add_heatmap(
        z=z.numpy(), colorscale=list(palette.ROUND if circle else palette.SEQUENTIAL),
        hovertemplate="a %{y}, b %{x}: %{z}<extra></extra>",
        colorbar=colorbar("position of the answer" if circle else "answer"),
    )  # fmt: skip
    names, other_names = task.answer_names, numbers.tolist() != list(task.symbols.answers)
    if (circle or not whole or other_names) and len(classes) <= _MOST_NAMED:
        said = [[names[c] if c >= 0 else "none" for c in row] for row in classes.tolist()]
        figure.update_traces(customdata=said, hovertemplate="a %{y}, b %{x}: %{customdata}<extra></extra>")
    elif circle:
        figure.update_traces(hovertemplate="a %{y}, b %{x}: position %{z}<extra></extra>")
    if not circle and other_names:
        shown = range(0, len(names), max(1, -(-len(names) // 10)))
        figure.update_traces(colorbar={"tickvals": list(shown), "ticktext": [names[c] for c in shown]})
    columns, rows = ([task.operand_names[i] for i in elements.tolist()] for elements in (b, a))
    return named(figure.update_yaxes(autorange="reversed"), (columns, rows))
