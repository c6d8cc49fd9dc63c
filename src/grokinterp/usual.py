"""torch's own defaults, whatever a user has set: what this package makes lies on the CPU and is float32 where
nothing else is said, and a run must not depend on `torch.set_default_device` or `torch.set_default_dtype`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch


@contextmanager
def usual_defaults() -> Iterator[None]:
    """New tensors are on the CPU, and in float32; afterwards as the user has it. Around a function it is a
    decorator; not around what yields, whose caller would see it."""
    with ExitStack() as undo:
        # Asked first: torch goes through Python for every tensor while a default device is set.
        if torch.get_default_device().type != "cpu":
            undo.enter_context(torch.device("cpu"))
        if (dtype := torch.get_default_dtype()) != torch.float32:
            undo.callback(torch.set_default_dtype, dtype)
            torch.set_default_dtype(torch.float32)
        yield
