"""Measures that are taken while a network trains: their numbers stand beside the losses of an evaluation, one
column each.

A measure that is one number has its name as its column; one of a few labelled numbers has a column for each,
the labels behind the name: `restricted_loss.logit_dirs.test`, `attention.self.mean.layer0.head3`,
`sum_of_squares.blocks.0.mlp.W_in`. A label that is or begins with a digit has its dimension before it; in
others, what is no letter, digit, dot or underscore is one underscore (`ablation.mlp.zero.control_mean`); a
negative number has "minus" for its sign (`noise.profile.minus1.test`).
"""

from __future__ import annotations

import itertools
import math
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence

from ..errors import ConfigError, NotApplicable, UsageError, nearest
from ..measures import MEASURES
from ..measures.base import Value
from ..view import View
from .schedule import METRICS, NOISE_METRICS, Condition

MOST = 32
"""Columns that one measure may have. The sums of squares of a network of two layers are 29."""
_FINE = ("freq", "component", "irrep", "neuron", "pc")
"""Dimensions that are no columns, however short: labels would change from one evaluation to the next."""


def known(names: Sequence[str]) -> tuple[str, ...]:
    """The names, each once.

    Raises:
        ValueError: no measure has one of them; the nearest is named.
    """
    try:
        return tuple(MEASURES[name].name for name in dict.fromkeys(names))
    except UsageError as error:
        raise ValueError(str(error)) from None


def belongs(column: str, name: str) -> bool:
    """Whether a column is one that the measure of that name has, as far as its name tells."""
    return column == name or column.startswith(f"{name}.")


Conditions = Iterable[tuple[str, Condition]]
"""Conditions, each with the key of the configuration where it stands."""


def refuse_unknown(conditions: Conditions, names: Sequence[str], metrics: Sequence[str] = METRICS) -> None:
    """Refuses a condition on what no evaluation will hold, as far as names tell: `check` knows the columns.

    Args:
        metrics: what every evaluation holds.

    Raises:
        ValueError: it speaks of none of these, and of no measure among `names`.
    """
    for key, condition in conditions:
        metric = condition.metric
        if metric in metrics or any(belongs(metric, name) for name in names):
            continue
        if measures := [name for name in MEASURES if belongs(metric, name)]:
            add = f"add {max(measures, key=len)!r} to monitor{nearest(metric, [*metrics, *names])}"
            raise ValueError(f"{key}: {metric!r} is not monitored: {add}")
        if metric in NOISE_METRICS:
            raise ValueError(f"{key}: {metric!r} is of noisy labels, and task.noise gives none")
        raise ValueError(f"{key}: unknown metric {metric!r}{nearest(metric, [*metrics, *names])}")


def check(
    conditions: Conditions, names: Sequence[str], untrained: View, metrics: Sequence[str] = METRICS
) -> None:
    """Looks, at a network that is yet to be trained, whether the measures make columns and the conditions
    speak of these.

    Measures of key frequencies, which it has none of, are tried with one. Of a measure that does not apply
    even so, a warning says why: some never will (there is no MLP), some may later (the logits are made of no
    representation yet).

    Raises:
        ConfigError: a measure gives too many numbers, or a condition speaks of no column.
    """
    columns = list(metrics)
    later = []
    for name in names:
        keys = {"keys": [1]} if MEASURES[name].takes_keys else {}
        try:
            columns += _columns(name, MEASURES[name](untrained, **keys))
        except NotApplicable as reason:
            later.append(name)
            warnings.warn(
                f"monitor: {name} does not apply before training ({reason}): its columns are absent, and no "
                "condition on them holds, until it does",
                stacklevel=4,
            )
    for key, condition in conditions:
        metric = condition.metric
        if metric not in columns and not any(belongs(metric, name) for name in later):
            raise ConfigError(f"{key}: unknown metric {metric!r}{nearest(metric, columns)}")


def monitored(names: Sequence[str], view: View) -> dict[str, float]:
    """The columns of those measures that apply to this network, with the consensus of its own key
    frequencies; all are finite.

    Raises:
        ConfigError: a measure gives too many numbers.
    """
    numbers: dict[str, float] = {}
    for name in names:
        try:
            numbers |= _columns(name, MEASURES[name](view))
        except NotApplicable:
            continue
    return {column: number for column, number in numbers.items() if math.isfinite(number)}


def _columns(name: str, value: Value) -> Mapping[str, float]:
    if isinstance(value, float):
        return {name: value}
    dims = [str(dim) for dim in value.dims]
    if value.size > MOST or any(dim in _FINE for dim in dims):
        raise ConfigError(
            f"monitor: {name} gives {value.size} numbers, by {' and '.join(dims)}; what can be monitored is "
            f"one number, or up to {MOST} by part, layer, head and the like: replay measures the others at "
            "every snapshot"
        )
    axes = [[_label(dim, label) for label in value.coords[dim].values.tolist()] for dim in dims]
    columns = [".".join([name, *labels]) for labels in itertools.product(*axes)]
    return dict(zip(columns, map(float, value.values.flat), strict=True))


def _label(dim: str, label: object) -> str:
    text = str(label).replace("-", "minus") if isinstance(label, int) else str(label)
    text = re.sub(r"[^\w.]+", "_", text).strip("_")
    return f"{dim}{text}" if text[:1].isdigit() else text
