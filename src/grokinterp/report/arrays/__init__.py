"""All that pages say of networks that tell the class of images, or of other arrays of numbers."""

from . import panels, sections
