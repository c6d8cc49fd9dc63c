"""What a network is asked to learn. `make_task(name, **parameters)` makes one; `TASKS` lists them."""

from . import digits, division, groups, images, majority, modular, points, reverse
from .array import Arrays, arrays
from .base import Factor, Sample, Task
from .circle import Circle
from .coordinates import Coordinates
from .encoding import Encoding, Symbols
from .isomorphism import Isomorphism, Isotope, isomorphism, nearest_isotope
from .layout import parse
from .matrices import Matrices
from .noise import Noise
from .operation import Operation
from .reads import Reads
from .registry import TASKS, family, make_task, task, task_parameters
from .split import Rows, Split, SplitRecipe, order, split, split_of
from .table import TableFacts
