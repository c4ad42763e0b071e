"""Which task may begin: the worker processes of a pod share its memory without a coordinator.

a task, the bytes it should need -> wait until the pod has them -> the task runs -> its bytes are free again

The pod's memory is a row of MiB, and each is a byte of an empty file that one process at a time can lock. A
worker process holds some for itself, a task as many as it should need while it runs; they need not lie side
by side. A process that is killed holds nothing from that moment on, and there is nothing to repair.

One task waits at the front, the others behind it, so that a large one gets its turn. A task always begins
when no other runs, even if it needs more than there is. Does not know what tasks need: study/needs.py does.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from modelops_dask.limits.pod import PodLocks
from modelops_dask.shape import MIB

FRONT = 1 << 30  # the byte that whoever is at the front holds; a pod has fewer MiB
SHORTEST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 0.0002, 0.02

Range = tuple[int, int]  # half-open, of MiB
T = TypeVar("T")


class Admission:
    """Hands out a pod's memory. `capacity_bytes` is the same in all its worker processes."""

    def __init__(self, capacity_bytes: int, own_bytes: int, is_full: Callable[[], bool] = lambda: False):
        """While is_full(), no task begins beside another. Raises OSError where no file can be locked.

        own_bytes is for this process itself. When a task waits at the front just now, which may take as long
        as other tasks run, nothing is held yet: call hold() again.
        """
        self._capacity = max(1, capacity_bytes // MIB)
        self._is_full = is_full
        self._closed = threading.Event()
        self._process = PodLocks()
        self._own: list[Range] = []
        self.hold(own_bytes)

    def hold(self, own_bytes: int) -> bool:
        """Change what this process holds for itself, where there is room; False if a task is at the front."""
        own_mib = -(-own_bytes // MIB)
        if own_mib == _total(self._own):
            return True
        if not self._process.lock(FRONT):
            return False
        for start, stop in self._own:
            self._process.unlock(start, stop - start)
        free_ranges, _ = self._look(self._process)
        # One is left for a task: what it holds tells others that it runs.
        self._own = self._lock(
            self._process, free_ranges, min(own_mib, _total(free_ranges) - 1), PodLocks.PROCESS
        )
        self._process.unlock(FRONT)
        return True

    @contextmanager
    def admit(self, needed_bytes: int, alone: bool = False, most_bytes: int = 0) -> Iterator[int]:
        """Wait until a task may begin; within the `with` it holds the bytes that are handed over.

        It holds more than it needs, up to most_bytes, where that takes no room from others that need as much.
        alone: when no other runs, with all there is. RuntimeError when close() is called meanwhile.
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
        """Give back what this process holds; nobody waits any longer."""
        self._closed.set()
        self._process.close()

    def _take(self, locks: PodLocks, needed_mib: int, most_mib: int, alone: bool) -> int:
        """Wait for enough memory, lock what a task needs, and return how much that is, in MiB."""

        def free() -> list[Range]:
            ranges, others_run = self._look(locks)
            is_short = alone or self._is_full() or _total(ranges) < needed_mib
            return [] if others_run and is_short else ranges

        ranges = self._until(free)
        total_mib = _total(ranges)
        share_mib = total_mib // max(1, total_mib // needed_mib)  # of as many as there is room for
        return _total(
            self._lock(locks, ranges, total_mib if alone else min(share_mib, most_mib), PodLocks.TASK)
        )

    def _look(self, locks: PodLocks) -> tuple[list[Range], bool]:
        """Return the ranges that nobody else holds, and whether any task runs."""
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
