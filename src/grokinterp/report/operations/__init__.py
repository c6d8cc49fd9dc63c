"""Binary operations: what more is found of a network that has learned one, what is claimed of it, and what
its pages show. Importing it registers all of that."""

from . import claims, numbers, panels, representations, sections
