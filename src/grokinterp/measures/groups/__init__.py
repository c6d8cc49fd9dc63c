"""Measures of networks whose task is the product of a finite group."""

from . import irreps

__all__ = ["irreps"]
