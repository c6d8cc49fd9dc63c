"""Key frequencies over training: those of each snapshot beside those of the final network, and where measures
notice the difference."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ...errors import UsageError
from ..dataset import FINAL, at_known_steps, final_keys

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

SAME = 1e-6
"""Two values differ where they do by more than this share of the larger."""


def keys_over_time(data: xr.Dataset) -> pd.DataFrame:
    """The consensus of the rules at every snapshot.

    Columns: `step`; `keys`; `gained` and `lost` against the snapshot before (the first gains all of its own);
    `jaccard`, the index of `keys` and the keys of the run's last snapshot, 1 where both are none. Snapshots
    at which no rule applies are left out.

    Raises:
        NotApplicable: no rule applies at any snapshot.
        UsageError: `key_frequencies.consensus` was not replayed.
    """
    import pandas as pd

    consensus = at_known_steps(data, "key_frequencies.consensus").transpose("step", "freq")
    final, before, rows = set(final_keys(data)), set[int](), []
    for step, marks in zip(consensus.step.values.tolist(), consensus.values == 1, strict=True):
        keys = set(consensus.freq.values[marks].tolist())
        both = len(keys & final) / len(keys | final) if keys | final else 1.0
        rows.append((step, sorted(keys), sorted(keys - before), sorted(before - keys), both))
        before = keys
    return pd.DataFrame(rows, columns=["step", "keys", "gained", "lost", "jaccard"])


def where_keys_differ(data: xr.Dataset) -> pd.DataFrame:
    """For every measure that was replayed with the keys of each snapshot and with the final keys: where the
    two values differ.

    Columns: `measure`; `compared`, the number of steps at which both have a value; `steps`, those of them at
    which some value differs by more than a millionth of the larger; `only_final`, the steps at which there is
    a value with the final keys alone (a snapshot has no keys yet); `ratio`, the largest ratio of the larger
    to the smaller of two values that differ, have one sign and are not 0, and `ratio_step`, the first step at
    which it is that; 1 and missing where there are none.

    Raises:
        UsageError: no measure was replayed both ways, or the last snapshot has no key frequencies.
    """
    import pandas as pd

    names = [str(name) for name in data.data_vars if f"{name}{FINAL}" in data]
    if not names and not final_keys(data):
        raise UsageError("the last snapshot has no key frequencies, so no measure was replayed with them")
    if not names:
        raise UsageError(
            f"no measure was replayed both with the keys of each snapshot and with {FINAL}: replay one that "
            "takes keys"
        )
    rows = []
    for name in names:
        steps, each, final = _both(data, name)
        both_known = ~np.isnan(each) & ~np.isnan(final)
        small, large = np.sort(np.abs([each, final]), axis=0)
        differs = both_known & (np.abs(each - final) > SAME * large)
        ratio = np.divide(large, small, out=np.ones_like(large), where=differs & (each * final > 0)).max(1)
        only_final = np.isnan(each).all(1) & ~np.isnan(final).all(1)
        at = int(ratio.argmax())
        where = steps[differs.any(1)].tolist(), steps[only_final].tolist()
        largest = float(ratio[at]), int(steps[at]) if ratio[at] > 1 else None
        rows.append((name, int(both_known.any(1).sum()), *where, *largest))
    columns = ["measure", "compared", "steps", "only_final", "ratio", "ratio_step"]
    return pd.DataFrame(rows, columns=columns).astype({"ratio_step": "Int64"})


def _both(data: xr.Dataset, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The steps, and both variants as [step, value]."""
    import xarray as xr

    of_snapshot, final = xr.align(data[name], data[name + FINAL], join="outer")
    steps = of_snapshot.step.values
    aligned = (x.transpose("step", *of_snapshot.dims[1:]) for x in (of_snapshot, final))
    flat = [x.values.astype(float).reshape(len(steps), -1) for x in aligned]
    return steps, flat[0], flat[1]
