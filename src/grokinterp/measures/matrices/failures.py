"""Right and wrong answers of networks that write matrices token by token (greedy decoding, `View.decoded`):
how many are right by every published error, what wrong ones still have of a right answer, and whether the
condition number of the question tells them.

All is of matrices that were not trained on, where these are known. An answer is wrong that is not right
"within 5 %", unless another criterion of the task is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from ...asked import got
from ...errors import NotApplicable, UsageError, nearest
from ...tasks import Task
from ...tasks.matrices import Matrices
from ...view import View
from ..base import Value, array, measure, once_per_view
from ..standing import Z_OF_95, wilson
from .properties import BAND_NAMES, SINGULAR, auc, bands, condition, off_by, off_orthogonal, off_unit_norm

CRITERION = "within 5 %"
TOLERANCES = (0.005, 0.01, 0.02, 0.05, 0.075, 0.1, 0.15, 0.2, 0.25)
"""Those of the notebook."""
_SAME = 1e-9
"""Logarithms of condition numbers that are no further apart are the same but for rounding."""
_REF = "Charton 2022 (arXiv 2211.00170); facebookresearch/LAWT, notebooks/what_is_my_transformer_doing.ipynb"
_SHARE = ("share", "low", "high", "n")

_measure = partial(measure, unit="1", ref=_REF, of=Matrices, each_answer=False)
Matrix = Float64[Tensor, "n r c"]


@dataclass(frozen=True)
class Answers:
    """What a network says of matrices that it was not trained on.

    Attributes:
        asked: the matrices, as their tokens say them.
        true: the right answers, likewise.
        found: the answers; NaN where they are no matrix.
        right: which of them are right, by each criterion of the task.
        errors: how wrong they are, by each error of the task.
        properties: how far they are from having each property that an answer to this problem may have.
    """

    asked: Float64[Tensor, "n rows columns"]
    true: Matrix
    found: Matrix
    right: Mapping[str, Bool[Tensor, "n"]]
    errors: Mapping[str, Float64[Tensor, "n"]]
    properties: Mapping[str, Float64[Tensor, "n"]]

    def __len__(self) -> int:
        return len(self.asked)

    def wrong(self, criterion: str) -> Bool[Tensor, "n"]:
        """Which of them are wrong.

        Raises:
            UsageError: the task has no such criterion; the nearest is named.
        """
        if criterion not in self.right:
            raise UsageError(f"criterion: there is no {criterion!r}{nearest(criterion, self.right)}")
        return ~self.right[criterion]


@once_per_view
def answers(view: View) -> Answers:
    """What the network of a View says of those matrices of the sample that it was not trained on."""
    task, given = view.task, view.whole.decoded
    assert isinstance(task, Matrices)
    rows = view.rows("test" if "test" in view.parts else "all", task.asked)
    found, true = task.found(given)[0][rows], task.encoded_truth[rows]
    return Answers(
        task.matrices[rows],
        true,
        found,
        {name: marks[rows] for name, marks in task.right(given).items()},
        {name: error[rows] for name, error in task.errors(given).items()},
        _PROPERTIES[task.problem.title](found, true),
    )


# What an answer may have of a right one, by what was asked


def _of_eigenvalues(found: Matrix, true: Matrix) -> dict[str, Float64[Tensor, "n"]]:
    given, wanted = found[:, :, 0], true[:, :, 0]
    size = wanted.abs()
    of_each = _over((given - wanted).abs(), size)
    largest, smallest = (at(1, keepdim=True).indices for at in (size.max, size.min))
    return {
        "eigenvalue of largest size": of_each.gather(1, largest)[:, 0],
        "eigenvalue of smallest size": of_each.gather(1, smallest)[:, 0],
        "trace (of the sum of sizes)": _over((given.sum(1) - wanted.sum(1)).abs(), size.sum(1)),
        "greatest first": _share(given[:, 1:] > given[:, :-1], given),
    }


def _of_eigenvectors(found: Matrix, true: Matrix) -> dict[str, Float64[Tensor, "n"]]:
    vectors = found[:, 1:]
    return {
        "eigenvalues": off_by(found[:, 0], true[:, 0]),
        "unit norm": off_unit_norm(vectors),
        "orthogonal (neighbouring rows)": off_orthogonal(vectors, "neighbours"),
        "orthogonal (all pairs)": off_orthogonal(vectors, "all"),
    }


def _of_entries(name: str, found: Matrix, true: Matrix) -> dict[str, Float64[Tensor, "n"]]:
    largest = true.flatten(1).abs().argmax(1, keepdim=True)
    given, wanted = (x.flatten(1).gather(1, largest)[:, 0] for x in (found, true))
    return {
        name: off_by(found, true),
        "largest entry": _over((given - wanted).abs(), wanted.abs()),
        "signs": _share((found.sign() * true.sign() < 0).flatten(1), found),
    }


def _over(off: Float64[Tensor, "*any"], of: Float64[Tensor, "*any"]) -> Float64[Tensor, "*any"]:
    """One over the other; 0 where nothing is off, also of 0."""
    return torch.where(off == 0, off, off / of)


def _share(off: Bool[Tensor, "n entry"], found: Float64[Tensor, "n *entries"]) -> Float64[Tensor, "n"]:
    """The share of entries that are off; NaN of what is no matrix. 0 of none."""
    are = found.isfinite().flatten(1).all(1)
    share = off.double().mean(1) if off.shape[1] else torch.zeros(len(off), dtype=torch.float64)
    return torch.where(are, share, torch.nan)


_PROPERTIES: dict[str, Callable[[Matrix, Matrix], dict[str, Float64[Tensor, "n"]]]] = {
    "eigenvalues": _of_eigenvalues,
    "eigenvalues and eigenvectors": _of_eigenvectors,
    "inverse": partial(_of_entries, "near the inverse"),
    "transpose": partial(_of_entries, "near the transpose"),
    "sum": partial(_of_entries, "near the sum"),
}
"""By the title of the problem."""


# Measures


@_measure("matrices.within")
def within(view: View) -> Value:
    """Share of the answers whose error is below each of the published tolerances, .5 to 25 %: by each error
    of the problem, and by how far they are from each property of a right answer. What is no matrix is below
    none. Coefficients one by one are in `matrices.by_coefficient`."""
    said = answers(view)
    errors = {name: error for name, error in said.errors.items() if not name.endswith("coefficients")}
    errors |= said.properties
    shares = [[_mean(error < tolerance) for tolerance in TOLERANCES] for error in errors.values()]
    value = array(shares, ("error", "below"), error=list(errors), below=TOLERANCES)
    return value.assign_attrs(examples=len(said))


@_measure("matrices.by_coefficient", replayed=True)
def by_coefficient(view: View, tolerance: float = 0.05) -> Value:
    """Share of the answers of which each entry is within 5 % of that of the target, with its 95 % interval
    (Wilson). Of eigenvectors the target has the signs that LAPACK gives them, and an answer with the other
    sign is off.

    Raises:
        UsageError: the tolerance is no number above 0.
    """
    _refuse_odd(tolerance)
    said, task = answers(view), view.task
    assert isinstance(task, Matrices)
    right = (said.found - said.true).abs() <= tolerance * said.true.abs()
    rows, columns = right.shape[1:]
    names = [task.problem.coefficient(i, j) for i in range(rows) for j in range(columns)]
    return _shares(right.flatten(1).T, "coefficient", names)


@_measure("matrices.by_condition", replayed=True)
def by_condition(view: View, criterion: str = CRITERION) -> Value:
    """Share of right answers by the condition number of the matrix that is asked about: in the lowest quarter
    of the sample, the next, the third, to 90 %, and the tenth of the largest; with its 95 % interval
    (Wilson), the condition numbers that each begins and ends with, and how many of its matrices are singular
    to float64, for the condition number of which 1 / ε = 4.5e15 stands.

    Raises:
        NotApplicable: a question has two matrices, or all matrices have the same condition number.
        UsageError: the task has no such criterion.
    """
    said, of = answers(view), _telling(_of_question(view))
    right = ~said.wrong(criterion)
    parts = [part for part in bands(of) if part.any()]
    names = [name for name, part in zip(BAND_NAMES, bands(of), strict=True) if part.any()]
    shares = _shares([right[part] for part in parts], "condition", names).rename(share="band")
    ends = [
        [float(10 ** of[part].min()), float(10 ** of[part].max()), float((of[part] >= SINGULAR).sum())]
        for part in parts
    ]
    import xarray as xr

    of_ends = array(ends, ("condition", "band"), condition=names, band=["from", "to", "singular"])
    return xr.concat([shares, of_ends], "band")


@_measure("matrices.failure_auc", replayed=True)
def failure_auc(view: View, criterion: str = CRITERION) -> Value:
    """How well the logarithm of a condition number tells wrong answers from right ones (area under the ROC
    curve: .5 is chance, 1 all of them), with its 95 % interval (DeLong) and the number of wrong answers: of
    the matrix that is asked about, and of the eigenvectors where these are the answer.

    Raises:
        NotApplicable: fewer than two answers are wrong, or fewer than two right, a question has two matrices,
            or all matrices have the same condition number.
        UsageError: the task has no such criterion.
    """
    said = answers(view)
    wrong = said.wrong(criterion)
    predictors = {"question": _telling(_of_question(view))}
    if _are_eigenvectors(view.task):
        predictors["answer"] = condition(said.found[:, 1:])
    rows = []
    for of in predictors.values():
        known = ~of.isnan()
        failed = wrong[known].numpy()
        if min(failed.sum(), (~failed).sum()) < 2:
            raise NotApplicable(
                f"{failed.sum():,} of {len(failed):,} answers are wrong: two wrong and two right ones are "
                "needed to tell them apart"
            )
        rows.append([*auc(of[known].numpy(), failed), float(failed.sum()), float(len(failed))])
    labels = {"predictor": list(predictors), "area": ["value", "low", "high", "wrong", "n"]}
    return array(rows, tuple(labels), **labels)


@_measure("matrices.roughly_right")
def roughly_right(view: View, tolerance: float = 0.05, criterion: str = CRITERION) -> Value:
    """Share of the wrong and of the right answers that have each property of a right answer to 5 %, with its
    95 % interval (Wilson): eigenvalues, unit norm, orthogonality, nearness to the inverse, as there are.
    What is no matrix has none.

    Raises:
        NotApplicable: no answer is wrong.
        UsageError: the task has no such criterion, or the tolerance is no number above 0.
    """
    _refuse_odd(tolerance)
    said = answers(view)
    wrong = said.wrong(criterion)
    if not wrong.any():
        raise NotApplicable(f"none of {len(said):,} answers is wrong ({criterion})")
    groups = {name: marks for name, marks in (("wrong", wrong), ("right", ~wrong)) if marks.any()}
    values = [
        _shares([error[marks] < tolerance for error in said.properties.values()], "property", said.properties)
        for marks in groups.values()
    ]
    import xarray as xr

    return xr.concat(values, "group").assign_coords(group=list(groups))


@_measure("matrices.condition")
def condition_numbers(view: View, criterion: str = CRITERION) -> Value:
    """Condition numbers of right and wrong answers, as the notebook prints them: mean, 2nd and 98th
    percentile, least and greatest, and how many there are. Of eigenvectors that of the answer, else that of
    the matrix that is asked about; answers that are no matrix, and what is singular to float64, are left
    out.

    Raises:
        NotApplicable: a question has two matrices, no answer is a matrix, or all matrices are singular.
        UsageError: the task has no such criterion.
    """
    said = answers(view)
    of = condition(said.found[:, 1:]) if _are_eigenvectors(view.task) else _of_question(view)
    wrong, finite = said.wrong(criterion), of < SINGULAR
    if not finite.any():
        raise NotApplicable(
            f"none of {len(said):,} answers is a matrix"
            if of.isnan().all()
            else "all matrices that have a condition number are singular to float64"
        )
    groups = {"right": ~wrong & finite, "wrong": wrong & finite}
    rows = {name: 10 ** of[marks].numpy() for name, marks in groups.items() if marks.any()}
    values = [
        [c.mean(), np.quantile(c, 0.02), np.quantile(c, 0.98), c.min(), c.max(), len(c)]
        for c in rows.values()
    ]
    statistics = ["mean", "2 %", "98 %", "least", "greatest", "n"]
    labels = {"group": list(rows), "condition_number": statistics}
    return array([list(map(float, row)) for row in values], tuple(labels), **labels)


def _are_eigenvectors(task: Task) -> bool:
    assert isinstance(task, Matrices)
    return task.problem.title == "eigenvalues and eigenvectors"


def _telling(condition: Float64[Tensor, "n"]) -> Float64[Tensor, "n"]:
    """
    Raises:
        NotApplicable: they are all the same.
    """
    if float(condition.max() - condition.min()) < _SAME:
        each = "are singular" if float(condition[0]) >= SINGULAR else f"have {10 ** float(condition[0]):.3g}"
        raise NotApplicable(f"all matrices have the same condition number ({each}), which tells none apart")
    return condition


@_measure("matrices.right_without_norm", where=_are_eigenvectors)
def right_without_norm(view: View, tolerance: float = 0.05, criterion: str = CRITERION) -> Value:
    """Share of the right answers of which a row or column of V is not of length 1 to 5 %, with its 95 %
    interval (Wilson). The criterion holds VᵀMV against w and does not ask for V to be orthonormal: a V of any
    length is right with eigenvalues to match, and so are zeros throughout.

    Raises:
        NotApplicable: no answer is right, or the task asks for no eigenvectors.
        UsageError: the task has no such criterion, or the tolerance is no number above 0.
    """
    _refuse_odd(tolerance)
    if not _are_eigenvectors(view.task):
        raise NotApplicable(f"{view.task.name} asks for no eigenvectors")
    said = answers(view)
    right = ~said.wrong(criterion)
    if not right.any():
        raise NotApplicable(f"none of {len(said):,} answers is right ({criterion})")
    off = off_unit_norm(said.found[:, 1:])[right] >= tolerance
    return _shares([off], "answers", ["without unit norm"])[0]


def _of_question(view: View) -> Float64[Tensor, "n"]:
    assert isinstance(view.task, Matrices)
    if view.task.problem.together > 1:
        raise NotApplicable("a question has two matrices, and no one condition number")
    return condition(answers(view).asked)


def _refuse_odd(tolerance: float) -> None:
    if not (isinstance(tolerance, int | float) and tolerance > 0):
        raise UsageError(f"tolerance: needs a number above 0, as .05 for 5 %, got {got(tolerance)}")


def _mean(marks: Bool[Tensor, "n"]) -> float:
    return float(marks.double().mean())


def _shares(groups: Iterator[Tensor] | list[Tensor] | Tensor, dim: str, names: object) -> Value:
    """The share of each group that is marked, with its interval and how many there are."""
    rows = []
    for marks in groups:
        share, n = _mean(marks), len(marks)
        rows.append([share, *wilson(share, n, Z_OF_95), float(n)])
    return array(rows, (dim, "share"), **{dim: list(names), "share": _SHARE})  # type: ignore[call-overload]
