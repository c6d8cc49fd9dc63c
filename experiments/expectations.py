"""Expected and measured, side by side: what every experiment prints at its end, and its exit code."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One number: what was expected of it, what was measured, and whether that holds."""

    name: str
    expected: str
    measured: object
    holds: bool


def within(name: str, measured: float, expected: float, tolerance: float) -> Row:
    """No further than `tolerance` from the expected number."""
    return Row(name, f"{expected:g} ± {tolerance:g}", measured, abs(measured - expected) <= tolerance)


def between(
    name: str, measured: float | None, low: float = -math.inf, high: float = math.inf, said: str = ""
) -> Row:
    """At least `low` and at most `high`; None, for what did not happen, is neither. `said` is what stands in
    the paper."""
    bounds = (
        f"{low:,g} .. {high:,g}"
        if math.isfinite(low) and math.isfinite(high)
        else f">= {low:,g}"
        if math.isfinite(low)
        else f"<= {high:,g}"
    )
    return Row(
        name,
        f"{said}, {bounds}" if said else bounds,
        measured,
        measured is not None and low <= measured <= high,
    )


def equal(name: str, measured: object, expected: object) -> Row:
    """Exactly the expected value."""
    return Row(name, str(expected), measured, measured == expected)


def told(rows: Sequence[Row]) -> int:
    """Prints the rows; the exit code, which is 1 where a number was missed."""
    width = max(len(row.name) for row in rows)
    room = max(len(row.expected) for row in rows)
    for row in rows:
        measured = (
            f"{row.measured:.4g}"
            if isinstance(row.measured, float)
            else "never"
            if row.measured is None
            else row.measured
        )
        print(
            f"{'ok    ' if row.holds else 'MISSED'}  {row.name:{width}}  expected {row.expected:{room}}  "
            f"measured {measured}"
        )
    return 0 if all(row.holds for row in rows) else 1
