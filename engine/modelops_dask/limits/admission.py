"""Decide which task may start: the worker processes of a pod share its memory without a coordinator.

a task, the bytes it should need -> wait until the pod has them -> the task runs -> its bytes are free again

The pod's memory is a row of MiB, each represented by a byte of an empty file that one process at a time can
lock. A worker process holds some for itself, and a task holds as many as it should need while it runs; they
need not be adjacent. A killed process immediately holds nothing, and nothing has to be repaired.

One task waits at the front and the others behind it, so that a large one gets its turn. A task always starts
when no other is running, even if it needs more than exists. The needs of tasks are not known here:
study/needs.py estimates them.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from modelops_dask.limits.pod import PodLocks
from modelops_dask.shape import MIB

FRONT = 1 << 30  # the byte held by the process at the front; a pod has fewer MiB
SHORTEST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 0.0002, 0.02

Range = tuple[int, int]  # half-open, of MiB
T = TypeVar("T")


class Admission:
    """Allocates a pod's memory to tasks. `capacity_bytes` is the same in all its worker processes."""

    def __init__(self, capacity_bytes: int, own_bytes: int, is_full: Callable[[], bool] = lambda: False):
        """Prepare to share memory. Raises OSError if no file can be locked.

        If a task is waiting at the front, which may last as long as other tasks run, nothing is held yet:
        call hold() again.

        Args:
            own_bytes: Memory of this process itself.
            is_full: While it returns True, no task starts while another runs.
        """
        self._capacity = max(1, capacity_bytes // MIB)
        self._is_full = is_full
        self._closed = threading.Event()
        self._process = PodLocks()
        self._own: list[Range] = []
        self.hold(own_bytes)

    def hold(self, own_bytes: int) -> bool:
        """Change what this process holds for itself, if there is room; False if a task is at the front."""
        own_mib = -(-own_bytes // MIB)
        if own_mib == _total(self._own):
            return True
        if not self._process.lock(FRONT):
            return False
        for start, stop in self._own:
            self._process.unlock(start, stop - start)
        free_ranges, _ = self._look(self._process)
        # One byte is left for a task: holding it shows others that the task runs.
        self._own = self._lock(
            self._process, free_ranges, min(own_mib, _total(free_ranges) - 1), PodLocks.PROCESS
        )
        self._process.unlock(FRONT)
        return True

    @contextmanager
    def admit(self, needed_bytes: int, alone: bool = False, most_bytes: int = 0) -> Iterator[int]:
        """Wait until a task may start; within the `with` it holds the returned number of bytes.

        It holds more than it needs, up to most_bytes, if others that need as much do not lose room. With
        alone, it waits until no other task runs and gets all memory. Raises RuntimeError if close() is called
        while it waits.
        """
        locks = PodLocks()
        try:
            self._until(lambda: locks.lock(FRONT))
            needed_mib = max(1, -(-needed_bytes // MIB))
            task_mib = self._take(locks, needed_mib, max(needed_mib, most_bytes // MIB), alone)
            locks.unlock(FRONT)
            yield task_mib * MIB
        finally:
            locks.close()

    def close(self) -> None:
        """Release what this process holds and stop waiting."""
        self._closed.set()
        self._process.close()

    def _take(self, locks: PodLocks, needed_mib: int, most_mib: int, alone: bool) -> int:
        """Wait for enough memory, lock what a task needs, and return the amount in MiB."""

        def free() -> list[Range]:
            ranges, others_run = self._look(locks)
            is_short = alone or self._is_full() or _total(ranges) < needed_mib
            return [] if others_run and is_short else ranges

        ranges = self._until(free)
        total_mib = _total(ranges)
        share_mib = total_mib // max(1, total_mib // needed_mib)  # of as many tasks as fit
        return _total(
            self._lock(locks, ranges, total_mib if alone else min(share_mib, most_mib), PodLocks.TASK)
        )

    def _look(self, locks: PodLocks) -> tuple[list[Range], bool]:
        """Return the ranges that no other process holds, and whether any task runs."""
        free_ranges, others_run, unchecked = [], False, [(0, self._capacity)]
        while unchecked:
            start, stop = unchecked.pop()
            if start >= stop:
                continue
            if other := locks.other(start, stop - start):
                kind, other_start, length = other
                others_run |= kind == PodLocks.TASK
                unchecked += [(start, other_start), (other_start + length, stop)]
            else:
                free_ranges.append((start, stop))
        return free_ranges, others_run

    def _lock(self, locks: PodLocks, free_ranges: list[Range], n_mib: int, kind: int) -> list[Range]:
        locked = []
        for start, stop in free_ranges:
            stop = min(stop, start + n_mib)
            if start < stop and locks.lock(start, stop - start, kind):
                locked.append((start, stop))
                n_mib -= stop - start
        return locked

    def _until(self, condition: Callable[[], T]) -> T:
        """Wait until condition() returns something true, and return that."""
        wait_seconds = SHORTEST_WAIT_SECONDS
        while not (value := condition()):
            if self._closed.wait(wait_seconds):
                raise RuntimeError("the executor is closed")
            wait_seconds = min(2 * wait_seconds, LONGEST_WAIT_SECONDS)
        return value


def _total(ranges: list[Range]) -> int:
    return sum(stop - start for start, stop in ranges)
