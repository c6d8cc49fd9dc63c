"""What was measured of one network: values by the names of their measures."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ..measures import MEASURES
from ..shown import Shown, html_table
from .words import summary

if TYPE_CHECKING:
    import pandas as pd


class Values(Shown, dict[str, Any]):
    """Every measure that applies, by name: floats and labelled arrays.

    Attributes:
        skipped: why another measure of the task's family does not.
    """

    def __init__(self) -> None:
        super().__init__()
        self.skipped: dict[str, str] = {}

    def of(self, names: Iterable[str]) -> Values:
        """Those of some measures."""
        some = Values()
        for name in names:
            if name in self:
                some[name] = self[name]
            elif name in self.skipped:
                some.skipped[name] = self.skipped[name]
        return some

    def _in_a_line(self) -> str:
        return f"of {len(self)} measure{'s' * (len(self) != 1)}, {len(self.skipped)} skipped"

    def _repr_html_(self) -> str:
        rows = self.table.reset_index().itertuples(index=False)
        return html_table(f"Values {self._in_a_line()}", ["measure", "value", "unit", "source"], rows)

    @property
    def table(self) -> pd.DataFrame:
        """One row for each measure: its value in short, its unit and its source."""
        import pandas as pd

        rows = [(summary(value), MEASURES[name].unit, MEASURES[name].ref) for name, value in self.items()]
        return pd.DataFrame(rows, columns=["value", "unit", "source"], index=pd.Index(self, name="measure"))
