"""Ends the largest runner before the kernel ends the pod.

every 250 ms: memory in use -> from 80% of the limit: no further task begins beside another, and looks are
                               every 100 ms
                            -> from 90%: the runner that holds most, of all in the pod, is ended: TaskOOM

Each worker process has a guard, and a guard ends its own runners only: it knows whose task that is. All find
the same runner the largest, because each measures the runners of the whole pod, found by their marks; one
looks at a time, and waits until the memory is free, so that one runner is enough. On a machine whose memory
others use too (no cgroup has a limit), a runner within its own limit is left alone. Linux only.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable
from typing import Protocol

from modelops_dask.limits import pod
from modelops_dask.limits.cgroup import Memory
from modelops_dask.limits.pod import MIB
from modelops_dask.shape import USABLE

logger = logging.getLogger("distributed.modelops")

LOOK_SECONDS = 0.25
FULL_LOOK_SECONDS = 0.1  # while memory is full: two tasks that grow take the last tenth in as long
FULL, LAST = 0.8, USABLE  # of the limit
FREED_SECONDS = 2  # for the kernel to take back what a runner held
GUARD = (1 << 30) + 1  # the byte of the pod's locks that the guard who looks holds


class Runner(Protocol):
    """What a guard needs to know of a runner: its mark, its limit, and how to end its task."""

    mark: str
    limit_bytes: int

    def end_for_memory(self, pids: list[int], peak_bytes: int, error: str) -> None: ...


class Guard:
    """A thread that watches, from start() to close().

    At the last look, `full`: no task should begin beside another; `oom_kills`: of our cgroup, by the kernel.
    """

    def __init__(
        self,
        memory: Memory,
        runners: Callable[[], Iterable[Runner]],
        each_look: Callable[[], object] = lambda: None,
    ) -> None:
        """runners() are those of this process. each_look() is called with every look."""
        self.full = False
        self._memory, self._runners, self._each_look = memory, runners, each_look
        self.oom_kills = memory.oom_kills()
        self._held = pod.Held()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="modelops-guard", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._closed.set()
        if self._thread.is_alive():
            self._thread.join()
        self._held.close()

    def _watch(self) -> None:
        while not self._closed.wait(FULL_LOOK_SECONDS if self.full else LOOK_SECONDS):
            try:
                self._look()
            except OSError as error:
                logger.warning("memory is no longer watched: %s", error)
                self.full = False
                return

    def _look(self) -> None:
        self.oom_kills = self._memory.oom_kills()
        limit_bytes, used_bytes = self._memory.limit_bytes, self._memory.used_bytes()
        full = used_bytes >= FULL * limit_bytes
        if full and not self.full:
            logger.warning(
                "memory: %d of %d MiB are in use; tasks begin one at a time until it is below %d%%",
                *(used_bytes // MIB, limit_bytes // MIB, 100 * FULL),
            )
        self.full = full
        self._each_look()
        if used_bytes >= LAST * limit_bytes and self._held.lock(GUARD):
            try:
                self._relieve()
            finally:
                self._held.unlock(GUARD)

    def _relieve(self) -> None:
        limit_bytes, used_bytes = self._memory.limit_bytes, self._memory.used_bytes()
        runners = pod.marked()
        if used_bytes < LAST * limit_bytes or not runners:
            return
        sizes = {mark: sum(map(pod.held_bytes, pids)) for mark, pids in runners.items()}
        mark = max(sizes, key=lambda mark: sizes[mark])
        mine = next((runner for runner in self._runners() if runner.mark == mark), None)
        if mine is None or (not self._memory.version and sizes[mark] <= mine.limit_bytes):
            return
        error = (
            f"{used_bytes // MIB:,} of the {limit_bytes // MIB:,} MiB that this process shares with its "
            f"neighbours were in use, and this task held most of them: {sizes[mark] // MIB:,} MiB"
        )
        logger.warning("TaskOOM: %s; it is ended", error)
        mine.end_for_memory(runners[mark], sizes[mark], error)
        deadline = time.monotonic() + FREED_SECONDS
        while time.monotonic() < deadline and self._memory.used_bytes() > used_bytes - sizes[mark] // 2:
            if self._closed.wait(0.01):
                return
