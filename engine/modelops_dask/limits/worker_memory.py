"""What this worker process holds itself, beside its runners, and how it gives memory back.

    the limit of this process -> plan_outputs() -> output_limits(), of one task
    a part is stored -> release(): libraries return what they keep for later -> was_held_before(), of the rest

Arrow and the C library keep freed memory for the next time: after a table of 75 MiB that was 700 MiB, and
whatever ran next in the pod had that much less. A release takes 2 to 30 ms when there is as much to give, so
it is left out while the process has hardly grown. Does not judge whose memory it is: guard.py does.
"""

import ctypes
import os
import threading
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

from modelops_dask import shape
from modelops_dask.limits.pod import own_bytes
from modelops_dask.shape import MIB

# The event in Dask's topic "all" of a worker process that ends because it holds too much itself: with
# `worker`, its address, the bytes that it `held`, and whether the tasks that it runs are `blameless`.
ACTION = "modelops-memory"
SUBSTANTIAL_BYTES = 32 * MIB  # of growth; less is not worth a release, and blames nobody

_lock = threading.Lock()
_kept_bytes = 0
_process_bytes, _runner_count = 0, 1


class OutputLimits(NamedTuple):
    """What this process can take of one task's outputs, in bytes, and its own limit; 0: none."""

    most_received: int
    most_stored: int
    process: int


def plan_outputs(process_bytes: int, runner_count: int) -> None:
    """Set the limit of this process, 0 for none, and how many runners it keeps busy side by side."""
    global _process_bytes, _runner_count
    _process_bytes, _runner_count = process_bytes, runner_count


def output_limits() -> OutputLimits:
    """What follows from the limit of this process."""
    if not _process_bytes:
        return OutputLimits(0, 0, 0)
    sizes = _process_bytes, _runner_count
    return OutputLimits(shape.most_received(*sizes), shape.most_stored(*sizes), _process_bytes)


def held_bytes() -> int:
    """The bytes that this process holds now; 0 where the system does not tell."""
    return own_bytes(os.getpid())


def was_held_before(held_bytes: int, planned_bytes: int) -> bool:
    """Whether half of what the process holds beyond its plan was there at its last release: whatever it does
    now is then not the cause.
    """
    return 2 * (_kept_bytes - planned_bytes) > held_bytes - planned_bytes


def release(at_least_bytes: int = SUBSTANTIAL_BYTES) -> int:
    """Give back free memory if the process has grown by at_least_bytes; return the bytes it then holds."""
    global _kept_bytes
    process_bytes = held_bytes()
    with _lock:
        if process_bytes - _kept_bytes < at_least_bytes:
            _kept_bytes = min(process_bytes, _kept_bytes)
            return process_bytes
        give_back()
        _kept_bytes = held_bytes()
        return _kept_bytes


def give_back() -> None:
    """Have Arrow and the C library hand free memory to the system."""
    import pyarrow as pa

    pa.default_memory_pool().release_unused()
    if trim := _trim():
        trim(0)


@cache
def _trim() -> Callable[[int], int] | None:
    """malloc_trim of glibc; None elsewhere."""
    trim: Callable[[int], int] | None = getattr(ctypes.CDLL(None), "malloc_trim", None)
    return trim
