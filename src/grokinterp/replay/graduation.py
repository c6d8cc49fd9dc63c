"""From when on each pair is right for good."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .dataset import at_known_steps

if TYPE_CHECKING:
    import xarray as xr


def graduation(data: xr.Dataset) -> xr.DataArray:
    """The step from which on a network answers each pair rightly at every snapshot: over pairs ("training",
    "unseen", or "all" where nobody knows which are which), a and b. Infinite for a pair that it does not
    answer rightly at the last, NaN where there is none.

    Args:
        data: what `gi.replay` gave, with `picture.right` among the measures.

    Raises:
        UsageError: it was not replayed.
        NotApplicable: the task is no table of pairs.
    """
    import xarray as xr

    right = at_known_steps(data, "picture.right")
    steps, values = right["step"].values.astype(float), right.values
    # Wrong at no later snapshot: counted from the end.
    for_good = np.logical_and.accumulate((values == 1)[::-1], axis=0)[::-1]
    since = np.where(for_good.any(0), steps[for_good.argmax(0)], np.inf)
    return xr.DataArray(
        np.where(np.isnan(values[-1]), np.nan, since),
        coords={dim: right[dim] for dim in right.dims[1:]},
        dims=right.dims[1:],
        name="graduation",
        attrs={"unit": "step"},
    )
