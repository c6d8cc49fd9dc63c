"""Whether the first two principal components of the embedding are a circle that the elements are walked
round, against chance. Of one frequency in its own plane, `circle.angle` and `circle.radius_spread` say it
without chance."""

from __future__ import annotations

from ... import geometry
from ...errors import NotApplicable
from ...view import View
from ..base import Value
from ..geometry import STATISTIC, principal, statistics
from .circular import circular, measure

_FEWEST = 4


@measure(
    "geometry.circle.angle",
    unit="1",
    ref="Liu et al. 2022 (arXiv 2205.10343); here the best frequency, against relabelling",
    each_answer=False,
)
def circle_angle(view: View) -> Value:
    """How exactly the angle of an element in the plane of the embedding's first two principal components
    follows 2πka/m, for the k for which it does most: the resultant length of the differences.

    1 is exact. With its value by chance over 200 random relabellings, each with the best k of its own: mean,
    95 % quantile and maximum. `pca_circle.angle` has the value of every k.
    """
    points = geometry.in_two(_components(view))
    return statistics(
        [geometry.against_relabelling(lambda orders: geometry.circle_angle(points, orders), len(points))]
    )


@measure(
    "geometry.circle.radius_spread",
    unit="1",
    ref="Liu et al. 2022 (arXiv 2205.10343); chance after Horn 1965 (Psychometrika 30, 179)",
    each_answer=False,
)
def circle_radius_spread(view: View) -> Value:
    """std / mean of the distance from the centre in the plane of the embedding's first two principal
    components: 0 is a perfect circle.

    No label plays a part in it: chance is that of 200 random clouds, of normal numbers, of the same shape:
    mean, 5 % quantile and minimum, as small numbers are the remarkable ones.
    """
    value = float(geometry.radius_spread(geometry.in_two(_components(view))))
    spreads = geometry.random_clouds(*circular(view).embedding.shape)[1]
    return statistics([geometry.chance(value, spreads, smallest=True)], [*STATISTIC[:3], "minimum"])


def _components(view: View) -> geometry.Principal:
    """The principal components of the embedding of the elements on the circle.

    Raises:
        NotApplicable: they are few, or all embedded alike.
    """
    embedding = circular(view).embedding
    if len(embedding) < _FEWEST:
        raise NotApplicable(f"{len(embedding)} elements make no circle: it takes {_FEWEST}")
    return principal(embedding)
