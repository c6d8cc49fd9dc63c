"""What the replay page shows of networks that answer with matrices: whether a large condition number tells
wrong answers, which matrices are right, and which entries of an answer."""

from __future__ import annotations

from ...tasks.matrices import Matrices
from ..moments import Curve, Moments
from ..palette import KEY, PLAIN, lines
from ..panels import Canvas, panel


@panel(
    "Which matrices are right",
    "Share right within 5 %, by the condition number of the matrix: in the quarter of the lowest, the next, "
    "and so on.",
    of=Matrices,
    size="wide",
    shows=["matrices.by_condition"],
)
def _by_condition(moments: Moments) -> Canvas:
    return _shares(moments, "matrices.by_condition", "condition", "share right")


@panel(
    "Which entries are right",
    "Share of the answers of which an entry is within 5 % of that of the target.",
    of=Matrices,
    shows=["matrices.by_coefficient"],
)
def _by_coefficient(moments: Moments) -> Canvas:
    return _shares(moments, "matrices.by_coefficient", "coefficient", "share within 5 %")


def _shares(moments: Moments, name: str, over: str, y: str) -> Canvas:
    values = moments.values(name)
    labels, last = values[over].values.tolist(), str(values.dims[-1])
    curves = [
        Curve(str(label), name, colour, {over: label, last: "share"})
        for label, colour in zip(labels, lines(len(labels)), strict=True)
    ]
    return moments.curves(y, curves, limits=(0.0, 1.0))


@panel(
    "Whether a condition number tells wrong answers",
    "Area under the ROC curve of the logarithm of the condition number; .5 is chance.",
    of=Matrices,
    shows=["matrices.failure_auc"],
)
def _told(moments: Moments) -> Canvas:
    predictors = moments.values("matrices.failure_auc")["predictor"].values.tolist()
    curves = [
        Curve(f"of the {of}", "matrices.failure_auc", colour, {"predictor": of, "area": "value"})
        for of, colour in zip(predictors, (KEY, PLAIN), strict=False)
    ]
    return moments.curves("area under the curve", curves, limits=(0.0, 1.0))
