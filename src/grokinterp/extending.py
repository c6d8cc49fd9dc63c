"""All that a task, a network, a measure, a claim or a panel of one's own is made with, for one import.

`docs/extending.md` has one of each.
"""

from .measures.base import array, measure, per_part
from .measures.base import measure as register_measure
from .models.base import NetworkConfig, kind, part_of_network
from .report.canvas import Axis
from .report.claims import Decision, all_of, claim, needs
from .report.figures import new_figure
from .report.moments import Curve, Moments
from .report.panels import Figure, Panel, Table, note, opening, panel, section
from .tasks import Arrays, Coordinates, Factor, Reads, Sample, Task, task
