"""What the report says of a network that multiplies in a finite group: which irreducible representations it
uses, and whether these are few, enough and needed (Chughtai et al. 2023, arXiv 2302.03025). Cyclic groups
have frequencies in their place.

    claim                     supported where                                      source of the threshold
    few representations       at most half of them are keys, with at most half     ours: as for frequencies
    carry it                  of all dimensions, and hold >= 0.75 of the
                              embedding of each operand
    logits are sums of        irrep_fve.logits >= 0.9                              ours: as for frequencies;
    characters of a b c⁻¹                                                          the paper prints less
    the keys are sufficient   restricted loss <= 2 x loss and below that of a      ours: as for frequencies
                              memoriser restricted to the same, on all examples
    the keys are necessary    excluded loss - loss >= half of ln n on the          ours; ln n is chance
                              training examples

The control is a network that knows its training examples by heart. Right answers are where a b c⁻¹ is the
identity, and there all characters are largest: by cosines alone it has nearly every representation for a key
(`key_irreps.share_memoriser`), and restricted to many of them it is right on all examples
(`restricted_accuracy.memoriser_irreps`). So a representation counts only if it is there on unseen examples
too, and nothing is asked where more than half of all are left in. That the characters are how it computes is
disputed: a network that computes by cosets has them as well (Stander et al. 2024, arXiv 2312.06581).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial

import numpy as np
import plotly.graph_objects as go

from ...errors import NotApplicable
from ...tasks import Operation
from ..claims import Decision, all_of, claim, needs
from ..figures import legend_above, new_figure
from ..palette import KEY, PLAIN, TRAIN
from ..panels import Figure, Panel, section
from .analysis import NEEDED_IRREPS, SUFFICIENT_IRREPS, OperationAnalysis, is_of_a_group

claim_of_groups = partial(claim, of=Operation, where=is_of_a_group)
"""A claim about products in groups that are not cyclic."""
_COSINES, _LOSSES = "Cosines of representations", "Reduced to representations, and robbed of them"
_LOSS_OF = {
    "restricted to them, logits": ("restricted_loss.logit_irreps", TRAIN),
    "restricted to them, neurons": ("restricted_loss.hidden_irreps", TRAIN),
    "a memoriser restricted to them": ("restricted_loss.memoriser_irreps", PLAIN),
    "without them, neurons": ("excluded_loss.hidden_irreps", KEY),
}


@claim_of_groups("Few irreducible representations carry it, and its embedding", figure=_COSINES)
def _sparse(a: OperationAnalysis) -> Decision:
    _asked_of(a)
    of = "representations"
    share, dimensions = (a.number("key_irreps.share", of=each) for each in (of, "dimensions"))
    embedded = float(a.measured("irrep_fve.W_E").min()) if _few(a) else math.nan
    control = a.number("key_irreps.share_memoriser", of=of)
    n = len(a.measured("key_irreps"))
    conditions = [
        needs("key_irreps.share (representations)", share, "<=", 0.5),
        needs("key_irreps.share (dimensions)", dimensions, "<=", 0.5),
    ]
    if math.isfinite(embedded):
        name = "irrep_fve.W_E (least of the operands)"
        conditions.append(needs(name, embedded, ">=", 0.75))
    heart = f"a network that knows its training examples by heart has {round(control * n)} of {n} for keys"
    return all_of(*conditions, also=[_named(a), f"key_irreps.share_memoriser = {control:.3f}: {heart}"])


@claim_of_groups("Logits are sums of characters of a b c⁻¹", figure=_COSINES)
def _characters(a: OperationAnalysis) -> Decision:
    share = a.number("irrep_fve.logits")
    return all_of(needs("irrep_fve.logits", share, ">=", 0.9), also=[_named(a)])


@claim_of_groups(SUFFICIENT_IRREPS, figure=_LOSSES)
def _sufficient(a: OperationAnalysis) -> Decision:
    _has_few(a)
    restricted, control, loss = (
        a.number(name, part="all")
        for name in ("restricted_loss.logit_irreps", "restricted_loss.memoriser_irreps", "loss")
    )
    right = a.number("restricted_accuracy.logit_irreps", part="all")
    by_heart = f"restricted_loss.memoriser_irreps (all) = {control:.3g} nats"
    return all_of(
        needs("restricted_loss.logit_irreps / loss (all)", _ratio(restricted, loss), "<=", 2.0, ".3g"),
        needs(
            "restricted_loss.logit_irreps / restricted_loss.memoriser_irreps (all)",
            _ratio(restricted, control), "<", 1.0, ".3g",
        ),
        also=[
            f"restricted_loss.logit_irreps (all) = {restricted:.3g} nats, loss = {loss:.3g} nats",
            f"restricted_accuracy.logit_irreps (all) = {right:.4f}", by_heart, _named(a),
        ],
    )  # fmt: skip


@claim_of_groups(NEEDED_IRREPS, figure=_LOSSES)
def _necessary(a: OperationAnalysis) -> Decision:
    _has_few(a)
    part, n = a.part("train"), a.run.task.n_answers
    rise = a.number("excluded_loss.hidden_irreps", part=part) - a.number("loss", part=part)
    right, chance = a.number("excluded_accuracy.hidden_irreps", part=part), math.log(n)
    rose = (
        f"excluded_loss.hidden_irreps − loss ({part}) = {rise:.3g} nats, ln {n} = {chance:.3g} nats is chance"
    )
    return all_of(
        needs(f"(excluded_loss.hidden_irreps − loss) / ln {n} ({part})", rise / chance, ">=", 0.5, ".3g"),
        also=[rose, f"excluded_accuracy.hidden_irreps ({part}) = {right:.4f}", _named(a)],
    )


def _ratio(loss: float, other: float) -> float:
    return loss / other if other else math.inf


def _named(a: OperationAnalysis) -> str:
    """Which representations are keys."""
    return f"key_irreps: {a.key_irreps_in_words}"


def _few(a: OperationAnalysis) -> bool:
    return 0 < 2 * len(a.key_irreps) <= len(a.measured("key_irreps"))


def _asked_of(a: OperationAnalysis) -> None:
    """
    Raises:
        NotApplicable: the network does no better than chance on unseen examples, or its logits are made of no
            representation.
    """
    nothing = "there is no algorithm to ask this of"
    if not a.standing.better_than_chance(a.part("test")):
        raise NotApplicable(f"{nothing}: {a.standing.words}")
    if not a.key_irreps:
        raise NotApplicable(f"{nothing}: the logits are made of no representation")


def _has_few(a: OperationAnalysis) -> None:
    """
    Raises:
        NotApplicable: as `_asked_of`, or more than half of all representations are keys.
    """
    _asked_of(a)
    if not _few(a):
        many = f"{len(a.key_irreps)} of {len(a.measured('key_irreps'))} representations are keys"
        raise NotApplicable(f"{many}: with so many left in, a projection tells nothing")


@section(
    "Representations",
    "A network that multiplies in a group may use few of its irreducible representations: its logits are "
    "then made of their characters. Keys, in red, are those whose character the logits follow, on unseen "
    "examples too.",
    of=Operation,
    where=is_of_a_group,
    needs=["irrep_cosine", "key_irreps"],
)
def _representations(a: OperationAnalysis) -> Iterator[Panel]:
    caption = "Of the logits with the character of a b c⁻¹, by representation."
    yield Panel(_COSINES, caption, Figure(_cosines(a)), size="wide")
    if any(name in a.values for name, _ in _LOSS_OF.values()):
        caption = "Loss on all examples; dotted: the network as it is, and chance."
        yield Panel(_LOSSES, caption, Figure(_losses(a)), size="wide")


def _cosines(a: OperationAnalysis) -> go.Figure:
    """The cosine of every representation."""
    values = a.values["irrep_cosine"]
    names = [str(name) for name in values["irrep"].values]
    colours = [KEY if name in a.key_irreps else PLAIN for name in names]
    return new_figure("representation", "cosine similarity").add_bar(
        x=names, y=values.values, marker_color=colours
    )


def _losses(a: OperationAnalysis) -> go.Figure:
    """Losses when only the keys are left, and without them, log axis."""
    figure = new_figure("loss on all examples (nats)", "", 320)
    for words, (name, colour) in _LOSS_OF.items():
        if name in a.values:
            loss = max(a.number(name, part="all"), 1e-20)
            figure.add_scatter(
                x=[loss], y=[words], mode="markers", marker={"color": colour, "size": 9}, showlegend=False,
                hovertemplate="%{y}: %{x:.3g} nats<extra></extra>",
            )  # fmt: skip
    whole, chance = max(a.number("loss", part="all"), 1e-20), math.log(a.run.task.n_answers)
    for at, words in ((whole, "network"), (chance, "chance")):
        figure.add_vline(x=at, line={"color": PLAIN, "width": 1, "dash": "dot"})
        # On a log axis plotly takes the logarithm for annotations, and the value for lines.
        top = {"y": 1, "yref": "paper", "yanchor": "bottom"}
        figure.add_annotation(top, x=float(np.log10(at)), text=words, showarrow=False)
    figure.update_xaxes(type="log", exponentformat="power")
    figure.update_yaxes(autorange="reversed", automargin=True)
    return figure.update_layout(legend=legend_above(), margin={"t": 40})
