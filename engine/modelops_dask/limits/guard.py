"""End the cause of a full pod before the kernel ends the pod.

every 250 ms: memory in use -> from 80% of the limit: no task starts while another runs, and checks are
                               every 100 ms
                            -> from 90%: idle runners end, then culprit(): a task (TaskOOM), or the worker
                               process that holds more than was planned for it (restart)

Each worker process has a guard, and a guard ends only its own runners or its own process. All guards reach
the same decision, because each measures the runners and worker processes of the whole pod, found by their
marks; one checks at a time, and waits until the memory is free, so that ending one is enough. On a machine
whose memory others also use (no cgroup has a limit), a runner within its own limit is left alone. Linux only.
"""

import logging
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from modelops_dask.limits import pod, worker_memory
from modelops_dask.limits.cgroup import MemoryLimit
from modelops_dask.shape import MIB, USABLE

logger = logging.getLogger("distributed.modelops")

TASK, WORKER = "TaskOOM", "WorkerMemory"  # reasons for ending a process; store/parts.py has them too
LOOK_SECONDS = 0.25
FULL_LOOK_SECONDS = 0.1  # while memory is full: two growing tasks use the last tenth in this time
FULL, LAST = 0.8, USABLE  # share of the limit
FREED_SECONDS = 2  # for the kernel to reclaim a runner's memory
GUARD = (1 << 30) + 1  # the byte of the pod's locks held by the guard that checks


Restart = Callable[[int, bool], object]  # whether this process held these bytes before its current task


class GuardedRunner(Protocol):
    """What a guard needs to know about a runner: its mark, its limit, and how to end its task."""

    mark: str
    runner_limit_bytes: int

    def end_for_memory(self, pids: list[int], peak_bytes: int, error: str, reason: str) -> None: ...


class Runners(Protocol):
    """The runners of this worker process."""

    def busy(self) -> Sequence[GuardedRunner]: ...

    def idle(self) -> Sequence[GuardedRunner]: ...

    def end_idle(self) -> int:
        """End the runners that wait for a task, and return their number."""
        ...


@dataclass(frozen=True)
class Usage:
    """The use of a pod's memory in bytes, after this process's idle runners have ended.

    Attributes:
        tasks: Bytes of each runner, by its mark.
        workers: Bytes that each worker process holds itself, by its process id.
        planned_bytes: The plan for one worker process.
        last_bytes: The limit for all together.
        files_bytes: Files in memory (/dev/shm), which belong to no process unless it has mapped them.
    """

    last_bytes: int
    planned_bytes: int
    tasks: Mapping[str, int]
    workers: Mapping[int, int]
    files_bytes: int = 0

    @property
    def is_full_of_tasks(self) -> bool:
        """Whether tasks fill the pod while worker processes keep to their plan."""
        return sum(self.tasks.values()) + self.planned_bytes * len(self.workers) >= self.last_bytes

    @property
    def reason(self) -> str:
        """The reason for ending a task, which is not the cause of files in memory that no process holds."""
        return TASK if self.is_full_of_tasks or self.files_bytes < worker_memory.SUBSTANTIAL_BYTES else WORKER


def culprit(usage: Usage) -> str | int | None:
    """Decide what ends in a full pod: a task's runner, by its mark, or a worker process, by its id.

    Tasks are the cause only if they fill the pod while worker processes keep to their plan; then the largest
    one ends. Otherwise the worker process that exceeds its plan by most ends. If neither explains the use
    (the supervising process, files in memory), the largest task ends. None: there is nothing to end.
    """
    largest = max(usage.tasks, key=lambda mark: usage.tasks[mark], default=None)
    if largest is not None and usage.is_full_of_tasks:
        return largest
    pid = max(usage.workers, key=lambda pid: usage.workers[pid], default=None)
    if pid is not None and usage.workers[pid] - usage.planned_bytes >= worker_memory.SUBSTANTIAL_BYTES:
        return pid
    return largest


class Guard:
    """A thread that watches memory from start() to close().

    It reports the last check: with `full`, no task should start while another runs; `oom_kills` counts
    processes of our cgroup that the kernel killed.
    """

    def __init__(
        self,
        memory: MemoryLimit,
        runners: Runners,
        each_look: Callable[[], object] = lambda: None,
        *,
        planned_bytes: int = 0,
        restart: Restart | None = None,
    ) -> None:
        """Prepare the thread.

        Args:
            each_look: Called with every check.
            planned_bytes: The memory that a worker process itself may hold.
            restart: Ends this process and does not return; None: nothing would start it again, so a task has
                to end instead.
        """
        self.full = False
        self._memory, self._runners, self._each_look = memory, runners, each_look
        self._planned_bytes, self._restart = planned_bytes, restart
        self.oom_kills = memory.oom_kills()
        self._locks, self._registration = pod.PodLocks(), pod.PodLocks()
        self._registration.register()
        self._closed = threading.Event()
        self._failure = ""
        self._thread = threading.Thread(target=self._watch, name="modelops-guard", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._closed.set()
        if self._thread.is_alive():
            self._thread.join()
        self._locks.close()
        self._registration.close()

    def _watch(self) -> None:
        while not self._closed.wait(FULL_LOOK_SECONDS if self.full else LOOK_SECONDS):
            try:
                self._look()
                self._failure = ""
            except Exception as error:  # for example for lack of a descriptor: the next check may succeed
                self.full = False
                failure = f"{type(error).__name__}: {error}"
                if failure != self._failure:
                    logger.warning("memory could not be read this time: %s", failure)
                self._failure = failure

    def _look(self) -> None:
        self.oom_kills = self._memory.oom_kills()
        limit_bytes, used_bytes = self._memory.limit_bytes, self._memory.used_bytes()
        full = used_bytes >= FULL * limit_bytes
        if full and not self.full:
            logger.warning(
                "memory: %d of %d MiB are in use; tasks start one at a time until usage is below %d%%",
                used_bytes // MIB,
                limit_bytes // MIB,
                100 * FULL,
            )
        self.full = full
        self._each_look()
        if used_bytes < LAST * limit_bytes:
            return
        if self._memory.version and self._runners.end_idle():
            logger.info("memory: idle runners were ended to free memory")
        if self._locks.lock(GUARD):
            try:
                self._relieve()
            finally:
                self._locks.unlock(GUARD)

    def _relieve(self) -> None:
        """End the task or worker process that is the cause, unless ending idle runners was enough."""
        if self._is_relieved():
            return
        if not self._memory.version:
            self._relieve_machine()
            return
        usage, runners = self._measure()
        suspect = culprit(usage)
        if len(usage.workers) > 1 and not self._is_sure(usage):
            self._wait_until(
                self._is_relieved, FULL_LOOK_SECONDS
            )  # the guards of other processes end their own idle runners
            if self._is_relieved():
                return
            usage, runners = self._measure()
            suspect = culprit(usage)
        if suspect == os.getpid():
            self._end_worker(usage, runners)
        elif isinstance(suspect, str):
            self._end_task(suspect, usage, runners, usage.reason)

    def _relieve_machine(self) -> None:
        """End the largest task if it exceeds its own limit: other programs also use this machine."""
        usage, runners = self._measure()
        mark = max(usage.tasks, key=lambda mark: usage.tasks[mark], default="")
        limits = {
            runner.mark: runner.runner_limit_bytes
            for runner in (*self._runners.busy(), *self._runners.idle())
        }
        if mark in limits and usage.tasks[mark] > limits[mark]:
            self._runners.end_idle()
            self._end_task(mark, usage, runners, TASK)

    def _is_relieved(self) -> bool:
        return self._memory.used_bytes() < LAST * self._memory.limit_bytes

    def _is_sure(self, usage: Usage) -> bool:
        """Whether the tasks of this process alone fill the pod: then idle runners of others are not the
        cause.
        """
        own_marks = {runner.mark for runner in self._runners.busy()}
        own_tasks = {mark: n_bytes for mark, n_bytes in usage.tasks.items() if mark in own_marks}
        return culprit(replace(usage, tasks=own_tasks)) in own_marks

    def _measure(self) -> tuple[Usage, dict[str, list[int]]]:
        """Measure the use of the pod's memory, and list the processes of each runner by its mark."""
        runners = pod.find_marked()
        tasks = {mark: sum(map(pod.held_bytes, pids)) for mark, pids in runners.items()}
        workers = {pid: pod.own_bytes(pid) for pid in self._locks.workers()}
        usage = Usage(
            last_bytes=int(LAST * self._memory.limit_bytes),
            planned_bytes=self._planned_bytes,
            tasks=tasks,
            workers=workers,
            files_bytes=self._memory.files_bytes(),
        )
        return usage, runners

    def _end_worker(self, usage: Usage, runners: Mapping[str, list[int]]) -> None:
        """End this worker process, unless it can release enough memory: its tasks are not the cause."""
        worker_memory.give_back()
        if self._is_relieved():
            return
        held_bytes = usage.workers[os.getpid()]
        logger.warning(
            "%s: this worker process itself holds %d MiB, but %d MiB were planned for it; it is %s",
            WORKER,
            held_bytes // MIB,
            self._planned_bytes // MIB,
            "restarted" if self._restart else "not restarted, because nothing would start it again",
        )
        if self._restart:
            self._restart(held_bytes, worker_memory.was_held_before(held_bytes, self._planned_bytes))
        sizes = {runner.mark: usage.tasks.get(runner.mark, 0) for runner in self._runners.busy()}
        if sizes:  # something has to end
            self._end_task(max(sizes, key=lambda mark: sizes[mark]), usage, runners, WORKER)

    def _end_task(self, mark: str, usage: Usage, runners: Mapping[str, list[int]], reason: str) -> None:
        """End the task of a runner if it belongs to this process."""
        own_runner = next((runner for runner in self._runners.busy() if runner.mark == mark), None)
        if own_runner is None:
            return
        limit_bytes, used_bytes = self._memory.limit_bytes, self._memory.used_bytes()
        size_bytes, own_bytes = usage.tasks.get(mark, 0), usage.workers.get(os.getpid(), 0)
        error = (
            f"{used_bytes // MIB:,} of the {limit_bytes // MIB:,} MiB that this process shares with its "
            "neighbours were in use, and "
        )
        if reason == TASK:
            error += f"this task held most of them: {size_bytes // MIB:,} MiB"
        else:
            error += (
                f"this task held {size_bytes // MIB:,} MiB of them, the worker process {own_bytes // MIB:,} "
                f"({self._planned_bytes // MIB:,} are planned), files in memory (/dev/shm) "
                f"{usage.files_bytes // MIB:,}; remove such files, or restart the pod"
            )
        logger.warning("%s: %s; the task is ended", reason, error)
        own_runner.end_for_memory(runners.get(mark, []), size_bytes, error, reason)
        self._wait_until(lambda: self._memory.used_bytes() <= used_bytes - size_bytes // 2, FREED_SECONDS)

    def _wait_until(self, condition: Callable[[], bool], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and not condition():
            if self._closed.wait(0.01):
                return
