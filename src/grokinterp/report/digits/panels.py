"""What the replay page shows of networks that add digit by digit."""

from __future__ import annotations

from ...measures.digits import DELTAS
from ...tasks.digits import Digits
from ..moments import Curve, Moments
from ..palette import lines
from ..panels import Canvas, panel

TITLE = "Naive digit, or one more?"
"""Of the section and of the panel."""
HOW = (
    "Mean probability of the last digit of x + y at a place (naive: what comes out where nothing is carried) "
    "and of its neighbours. Who knows these two digits and not the carry gives naive and naive + 1 about "
    "half each."
)
_NAME = "digits.delta_profile"
_FEW = (0, 1)
"""What is drawn of each of several answers."""


def in_words(delta: int) -> str:
    """A digit beside the naive one."""
    return f"naive {'+' if delta > 0 else '−'} {abs(delta)}" if delta else "naive"


@panel(TITLE, HOW, of=Digits, size="wide", shows=[_NAME])
def _profile(moments: Moments) -> Canvas:
    values, deltas = moments.values(_NAME), list(DELTAS)
    at = {"part": moments.parts(_NAME, groups=False)[0]}
    if "answer" not in values.dims:
        curves = [
            Curve(in_words(delta), _NAME, colour, {**at, "delta": delta})
            for delta, colour in zip(deltas, lines(len(deltas)), strict=True)
        ]
    else:
        answers = values["answer"].values.tolist()
        curves = [
            Curve(
                f"{answer}, {in_words(delta)}",
                _NAME,
                colour,
                {**at, "answer": answer, "delta": delta},
                delta > 0,
            )
            for answer, colour in zip(answers, lines(len(answers)), strict=True)
            for delta in _FEW
        ]
    return moments.curves("mean probability", curves, limits=(0.0, 1.0))
