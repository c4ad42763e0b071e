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

from modelops_dask.limits.pod import MIB, Held

FRONT = 1 << 30  # the byte that whoever is at the front holds; a pod has fewer MiB
SHORTEST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 0.0002, 0.02

Range = tuple[int, int]  # half-open, of MiB


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
        self._process = Held()
        self._own: list[Range] = []
        self.hold(own_bytes)

    def hold(self, own_bytes: int) -> bool:
        """Change what this process holds for itself; less, where there is less. False: not now."""
        wanted = -(-own_bytes // MIB)
        if wanted == _total(self._own):
            return True
        if not self._process.lock(FRONT):
            return False
        for start, stop in self._own:
            self._process.unlock(start, stop - start)
        free, _ = self._look(self._process)
        # One is left for a task: what it holds tells others that it runs.
        self._own = self._lock(self._process, free, min(wanted, _total(free) - 1), Held.PROCESS)
        self._process.unlock(FRONT)
        return True

    @contextmanager
    def admit(self, needed_bytes: int, alone: bool = False, most_bytes: int = 0) -> Iterator[int]:
        """Wait until a task may begin; within the `with` it holds the bytes that are handed over.

        It holds more than it needs, up to most_bytes, where that takes no room from others that need as much.
        alone: when no other runs, with all there is. RuntimeError when close() is called meanwhile.
        """
        held = Held()
        try:
            self._until(lambda: held.lock(FRONT))
            needed = max(1, -(-needed_bytes // MIB))
            taken = self._take(held, needed, max(needed, most_bytes // MIB), alone)
            held.unlock(FRONT)
            yield taken * MIB
        finally:
            held.close()

    def close(self) -> None:
        """Give back what this process holds; nobody waits any longer."""
        self._closed.set()
        self._process.close()

    def _take(self, held: Held, needed: int, most: int, alone: bool) -> int:
        """Lock what a task needs as soon as there is enough; how much that is, in MiB."""

        def free() -> list[Range]:
            ranges, others = self._look(held)
            short = alone or self._is_full() or _total(ranges) < needed
            return [] if others and short else ranges

        ranges = self._until(free)
        total = _total(ranges)
        part = total // max(1, total // needed)  # of as many as there is room for
        return _total(self._lock(held, ranges, total if alone else min(part, most), Held.TASK))

    def _look(self, held: Held) -> tuple[list[Range], bool]:
        """What nobody else holds, and whether any task runs."""
        free, tasks, left = [], False, [(0, self._capacity)]
        while left:
            start, stop = left.pop()
            if start >= stop:
                continue
            if other := held.other(start, stop - start):
                kind, at, length = other
                tasks |= kind == Held.TASK
                left += [(start, at), (at + length, stop)]
            else:
                free.append((start, stop))
        return free, tasks

    def _lock(self, held: Held, free: list[Range], wanted: int, kind: int) -> list[Range]:
        taken = []
        for start, stop in free:
            stop = min(stop, start + wanted)
            if start < stop and held.lock(start, stop - start, kind):
                taken.append((start, stop))
                wanted -= stop - start
        return taken

    def _until(self, condition: Callable):
        """The first true value of condition()."""
        wait_seconds = SHORTEST_WAIT_SECONDS
        while not (value := condition()):
            if self._closed.wait(wait_seconds):
                raise RuntimeError("the executor is closed")
            wait_seconds = min(2 * wait_seconds, LONGEST_WAIT_SECONDS)
        return value


def _total(ranges: list[Range]) -> int:
    return sum(stop - start for start, stop in ranges)
