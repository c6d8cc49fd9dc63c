"""Properties that an answer may have though it is wrong, and numbers that may tell beforehand whether it will
be: after Charton 2022 (arXiv 2211.00170) and the notebook that belongs to it, in facebookresearch/LAWT.

    err2   eigenvalues     Σ|h − w| / Σ|w|
    err3   unit norm       the largest | ‖v‖ − 1 | of all rows and columns of V
    err4   orthogonality   the largest |cos| of two neighbouring rows of V, and of the first and the last
    near   the inverse     Σ|H − T| / Σ|T|

err4 is what the notebook computes, not what its comments say: it looks at rows twice and at columns never,
though the eigenvectors are the columns, and the second time it does not divide by the norms of the first and
the last row. Of rows that are all of length 1 that changes nothing. Beside it stands `all pairs`: the largest
|cos| of any two rows and of any two columns.

Of 2 x 2 matrices there is one pair of rows and one of columns. All is float64; NaN of an answer that is no
matrix.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float64
from numpy.typing import NDArray
from torch import Tensor

from ...tasks.matrices.family import log_condition

BANDS = ((0, 25), (25, 50), (50, 75), (75, 90), (90, 100))
"""Of a number by its quantiles, in per cent."""
BAND_NAMES = tuple(f"{low}–{high} %" for low, high in BANDS)
SINGULAR = 15.6
"""A logarithm of a condition number from which a matrix is singular to float64."""
_Z_OF_95 = 1.959963984540054


def off_by(given: Float64[Tensor, "n *entries"], true: Float64[Tensor, "n *entries"]) -> Float64[Tensor, "n"]:
    """Σ|given − true| / Σ|true| of each example; infinite where the truth is 0 and the answer is not."""
    off, of = (x.flatten(1).abs().sum(1) for x in (given - true, true))
    return torch.where(off == 0, off, off / of)


def off_unit_norm(vectors: Float64[Tensor, "n size size"]) -> Float64[Tensor, "n"]:
    """The largest distance of the norm of a row or a column from 1 (err3)."""
    norms = torch.cat([vectors.norm(dim=axis) for axis in (1, 2)], dim=1)
    return _largest((norms - 1).abs())


def off_orthogonal(
    vectors: Float64[Tensor, "n size size"], pairs: Literal["neighbours", "all"] = "all"
) -> Float64[Tensor, "n"]:
    """The largest |cos| of two rows or two columns; of vectors of no length 1, so that zeros are never
    orthogonal.

    Args:
        pairs: "all" of rows and of columns, or "neighbours", which are the pairs of the published err4: rows
            alone, each with the next and the first with the last, of which the notebook also takes the
            scalar product as it stands.
    """
    size = vectors.shape[1]
    if size == 1:
        return vectors[:, 0, 0] * 0
    if pairs == "all":
        both = torch.cat([_cosines(vectors), _cosines(vectors.mT)], dim=1)
        apart = ~torch.eye(size, dtype=torch.bool).repeat(2, 1)
        return _largest(both[:, apart])
    here = torch.arange(size)
    cosines = _cosines(vectors)[:, here, here.roll(-1)]
    as_it_stands = (vectors[:, 0] * vectors[:, -1]).sum(1).abs()
    return _largest(torch.cat([cosines, as_it_stands[:, None]], dim=1))


def _cosines(rows: Float64[Tensor, "n row entry"]) -> Float64[Tensor, "n row row"]:
    norms = rows.norm(dim=2)
    sizes = norms[:, :, None] * norms[:, None]
    return torch.where(sizes == 0, 1.0, (rows @ rows.mT).abs() / sizes)


def _largest(errors: Float64[Tensor, "n error"]) -> Float64[Tensor, "n"]:
    return errors.amax(1)  # of which one NaN is NaN


def condition(matrices: Float64[Tensor, "n rows columns"]) -> Float64[Tensor, "n"]:
    """The logarithm (base 10) of the condition number of each matrix in the 2-norm; 15.65, which is that of 1
    / ε, of what is singular to float64 (`SINGULAR` or more); NaN of what is no matrix."""
    are = matrices.isfinite().flatten(1).all(1)
    found = torch.full((len(matrices),), torch.nan, dtype=torch.float64)
    found[are] = log_condition(matrices[are])
    return found


def bands(numbers: Float64[Tensor, "n"]) -> list[Bool[Tensor, "n"]]:
    """Which examples lie in each of `BANDS` by a number; each is in one of them."""
    edges = np.quantile(numbers.numpy(), [upper / 100 for _, upper in BANDS[:-1]])
    band = torch.bucketize(numbers, torch.from_numpy(edges))
    return [band == i for i in range(len(BANDS))]


def auc(numbers: NDArray[np.float64], failed: NDArray[np.bool_]) -> tuple[float, float, float]:
    """How well a number tells failures: the probability that it is larger for one that failed than for one
    that did not, ties counted half, with its 95 % interval (DeLong, DeLong & Clarke-Pearson 1988, Biometrics
    44, p. 837), which has no width where the number tells all of them.

    Raises:
        ValueError: fewer than two failed, or fewer than two did not.
    """
    from scipy.stats import rankdata
    from sklearn.metrics import roc_auc_score

    yes, no = numbers[failed], numbers[~failed]
    if min(len(yes), len(no)) < 2:
        raise ValueError(f"{len(yes)} failed and {len(no)} did not: two of each are needed")
    value = float(roc_auc_score(failed, numbers))
    # The share of the others that each one is larger than, by its rank among all and among its own.
    ranks = rankdata(numbers)
    of_yes = (ranks[failed] - rankdata(yes)) / len(no)
    of_no = 1 - (ranks[~failed] - rankdata(no)) / len(yes)
    error = float(np.sqrt(of_yes.var(ddof=1) / len(yes) + of_no.var(ddof=1) / len(no)))
    return value, max(0.0, value - _Z_OF_95 * error), min(1.0, value + _Z_OF_95 * error)
