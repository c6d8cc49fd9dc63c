"""All that pages say of networks that answer with matrices."""

from . import analysis, panels, sections
