"""From which step on a number known of every example can be read linearly of a network: from which snapshot
on the held-out R² of a probe stays above .5 and above the largest of the shuffled controls.

As a run is looked at only at its snapshots, a step is an interval: it was not yet so at the one, and was at
the other and ever after.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .dataset import at_known_steps

if TYPE_CHECKING:
    import xarray as xr

LEVEL = 0.5
"""The held-out R² from which something is said to be readable."""


@dataclass(frozen=True)
class Readable:
    """Since when a number can be read somewhere.

    Attributes:
        factor: the name of the number.
        site: the hook where it is read.
        after: the last snapshot at which it could not be; None where it could be from the first on.
        by: the snapshot from which on it can be; None where it cannot be at the last.
        r2: the held-out R² at the last snapshot.
    """

    factor: str
    site: str
    after: int | None
    by: int | None
    r2: float

    @property
    def when(self) -> str:
        """In words."""
        if self.by is None:
            return f"not by step {self.after:,}"
        if self.after is None:
            return f"at or before step {self.by:,}, the first looked at" if self.by else "from step 0 on"
        return f"after step {self.after:,} and by step {self.by:,}"


def readable(data: xr.Dataset, name: str = "probe.r2.stream", level: float = LEVEL) -> list[Readable]:
    """Of every number and every place of a replay since when the one can be read at the other.

    Args:
        data: what `gi.replay` gave, with a measure of probes.
        name: of that measure.
        level: the R² that is needed.

    Raises:
        NotApplicable: no numbers are known of the examples.
        UsageError: it was not replayed.
    """
    values = at_known_steps(data, name)
    steps = [int(step) for step in values["step"].values]
    found = []
    for factor in values["number"].values.tolist():
        for site in values["hook"].values.tolist():
            here = values.sel(number=factor, hook=site)
            r2 = here.sel(r2="value").values
            enough = (r2 > level) & (r2 > here.sel(r2="shuffled maximum").values)
            after, by = _for_good(enough, steps)
            found.append(Readable(factor, site, after, by, float(r2[-1])))
    return found


def _for_good(holds: np.ndarray, steps: list[int]) -> tuple[int | None, int | None]:
    """The last step at which something did not hold, and the next one."""
    last = np.flatnonzero(~holds)
    if not len(last):
        return None, steps[0]
    at = int(last[-1])
    return steps[at], steps[at + 1] if at + 1 < len(steps) else None
