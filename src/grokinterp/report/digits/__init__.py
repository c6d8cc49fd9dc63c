"""All that pages say of networks that add digit by digit."""

from . import panels, sections
