"""Many configurations at once: a grid of them, where they are trained, and what has come of each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import load_lazily

if TYPE_CHECKING:
    from .directory import Sweep, load_sweep, sweep

__all__ = load_lazily(__name__, {"directory": "Sweep load_sweep sweep"})
