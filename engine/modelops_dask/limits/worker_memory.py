"""The memory of this worker process itself, without its runners, and how it is released.

    the limit of this process -> plan_outputs() -> output_limits(), of one task
    a part is stored -> release(): libraries return cached memory -> was_held_before(), of the rest

Arrow and the C library keep freed memory for reuse: after a table of 75 MiB that was 700 MiB, which the next
tasks of the pod lacked. A release takes 2 to 30 ms if there is much to return, so it is skipped if the
process has hardly grown. This module does not decide which process is the cause: guard.py does.
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

# The event in Dask's topic "all" of a worker process that ends because it holds too much itself. It has
# `worker`, the address; `held`, the bytes; and `blameless`, whether its running tasks are not the cause.
ACTION = "modelops-memory"
SUBSTANTIAL_BYTES = 32 * MIB  # growth below this is not worth a release and is not a cause

_lock = threading.Lock()
_kept_bytes = 0
_process_bytes, _runner_count = 0, 1


class OutputLimits(NamedTuple):
    """The bytes of one task's outputs that this process can receive and store, and its own limit; 0: none."""

    most_received: int
    most_stored: int
    process: int


def plan_outputs(process_bytes: int, runner_count: int) -> None:
    """Set the limit of this process, 0 for none, and how many runners it keeps busy at the same time."""
    global _process_bytes, _runner_count
    _process_bytes, _runner_count = process_bytes, runner_count


def output_limits() -> OutputLimits:
    """The limits of outputs that follow from the limit of this process."""
    if not _process_bytes:
        return OutputLimits(0, 0, 0)
    sizes = _process_bytes, _runner_count
    return OutputLimits(shape.most_received(*sizes), shape.most_stored(*sizes), _process_bytes)


def held_bytes() -> int:
    """The bytes that this process holds now; 0 if the system does not report it."""
    return own_bytes(os.getpid())


def was_held_before(held_bytes: int, planned_bytes: int) -> bool:
    """Whether half of the memory beyond the process's plan was held at its last release: then its current
    work is not the cause.
    """
    return 2 * (_kept_bytes - planned_bytes) > held_bytes - planned_bytes


def release(at_least_bytes: int = SUBSTANTIAL_BYTES) -> int:
    """Release free memory if the process has grown by at_least_bytes; return the bytes that it then holds."""
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
    """Make Arrow and the C library return free memory to the system."""
    import pyarrow as pa

    pa.default_memory_pool().release_unused()
    if trim := _trim():
        trim(0)


@cache
def _trim() -> Callable[[int], int] | None:
    """malloc_trim of glibc; None on other systems."""
    trim: Callable[[int], int] | None = getattr(ctypes.CDLL(None), "malloc_trim", None)
    return trim
