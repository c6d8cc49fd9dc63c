"""Memory, as the operating system and the C library see it."""

from __future__ import annotations

import ctypes
import os
import threading
import weakref
from contextlib import suppress

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

# mallopt's names for its parameters, from glibc's malloc.h.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3

_SMALLEST_KEPT, _LARGEST_KEPT = 2**25, 2**27
"""Bytes between which a room is kept for the next one: what is smaller glibc keeps."""
_left = threading.local()


def free_memory() -> float:
    """Bytes of memory that a new allocation can hope for."""
    try:
        with open("/proc/meminfo") as lines:
            return next(float(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))


def keep_memory() -> None:
    """Lets the process keep memory that it has freed, up to a gigabyte, where the C library is glibc.

    As it comes, glibc hands a tensor of a few megabytes back to the system and fetches it again at the next
    step; to fetch a page took longer than to compute what stands on it, and a step of a small network 7 ms in
    place of 5.
    """
    with suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        for parameter, value in ((_TRIM_THRESHOLD, 2**30), (_TOP_PAD, 2**26), (_MMAP_THRESHOLD, 2**25)):
            mallopt(parameter, value)


def give_back_memory() -> None:
    """Hands memory that is no longer used back to the system, where the C library has a call for it.

    Between large results that come and go glibc keeps what lies among small ones that stay: over 37 snapshots
    it came to 1 GB.
    """
    _left.__dict__.clear()
    with suppress(OSError, AttributeError):  # macOS and musl have none, and do not need it
        ctypes.CDLL(None).malloc_trim(0)


def room(rows: int, width: int, dtype: torch.dtype) -> Float[Tensor, "rows width"]:
    """A tensor with anything in it: where it is large, in the memory of one of that size that this thread has
    let go.

    glibc fetches what is larger than 32 MB from the system each time, whatever it is told (`keep_memory`),
    and the system fills it with zeros: for the neurons of 12,769 examples 5 of 70 ms. From numpy, which asks
    for large pages: small ones would take longer to get than to fill. One such tensor is kept for each
    thread, until `give_back_memory`.
    """
    buffers: list[np.ndarray] = _left.__dict__.setdefault("kept", [])
    shape, numbers = (rows, width), torch.empty(0, dtype=dtype).numpy().dtype
    whole = buffers.pop() if buffers else None
    if whole is None or whole.shape != shape or whole.dtype != numbers:
        whole = np.empty(shape, numbers)
    # Lives as long as the storage of the tensor, and never leaves it: numpy's views of it would not count.
    lent = whole.view()
    if _SMALLEST_KEPT < whole.nbytes <= _LARGEST_KEPT:
        weakref.finalize(lent, _keep, buffers, whole).atexit = False
    return torch.from_numpy(lent)


def _keep(buffers: list[np.ndarray], whole: np.ndarray) -> None:
    buffers[:] = [whole]
