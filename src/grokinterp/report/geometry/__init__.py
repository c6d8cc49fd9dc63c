"""All that pages say of tasks whose elements are known to lie somewhere, such as points of a grid."""

from . import panels, sections
