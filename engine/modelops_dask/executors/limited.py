"""Keep tasks within their share of the pod's memory, for any executor.

    Task -> admission: is there memory? -> its limit -> the executor -> Outcome
                                     guard: is there still some? -> TaskOOM

The expected needs of tasks determine how many run at the same time. A task may hold a full share of its
worker's memory (shape.runner_limit), or its expected need if that is larger. It may hold up to half as much
again if others do not need the room. Parameters that rise from task to task would otherwise end the first
task of each step. runner.py sets the limit; admission.py and guard.py, one of each per worker process,
coordinate with the pod's other processes.
"""

import logging
import os
import signal
from collections.abc import Callable, Sequence
from types import TracebackType

from modelops_dask.bundle import Bundle
from modelops_dask.executors import Executor, FileChanges, Outcome, Task, shortage
from modelops_dask.executors.fork import ForkExecutor, Zygote
from modelops_dask.executors.process import Runner
from modelops_dask.executors.runner import OUT_OF_MEMORY
from modelops_dask.executors.warm import WarmExecutor
from modelops_dask.limits import guard, pod, worker_memory
from modelops_dask.limits.admission import Admission
from modelops_dask.limits.cgroup import MemoryLimit
from modelops_dask.shape import MIB

logger = logging.getLogger("distributed.modelops")

SLACK = 1.5  # multiple of its expected need that a task may hold
KILLED = f"killed by signal {signal.SIGKILL:d}"


class LimitedExecutor(Executor):
    """Runs tasks of another executor when the pod has memory for them; ends them when it has none left."""

    def __init__(
        self,
        executor: WarmExecutor | ForkExecutor,
        memory: MemoryLimit,
        runner_limit_bytes: int,
        worker_bytes: int,
        restart: guard.Restart | None = None,
    ) -> None:
        """Prepare the limits. Raises OSError.

        Args:
            runner_limit_bytes: The limit of one runner.
            worker_bytes: The needs of this process itself.
            restart: As in guard.Guard.
        """
        pod.kill_orphans()
        self._executor, self._memory = executor, memory
        self._runner_limit_bytes, self._worker_bytes = runner_limit_bytes, worker_bytes
        self._restart = restart
        self._guard = guard.Guard(memory, self, self._hold, planned_bytes=worker_bytes, restart=restart)
        capacity_bytes = int(guard.LAST * memory.limit_bytes)
        self._admission = Admission(capacity_bytes, worker_bytes, lambda: self._guard.full)
        self._guard.start()

    def run(self, task: Task) -> Outcome:
        """Run a task once there is memory for it. Raises BadInput if no task of the bundle can be run."""
        return self.run_all([task])[0]

    def run_all(self, tasks: Sequence[Task]) -> list[Outcome]:
        """Run tasks that differ only in params and seed, one after another, once there is memory for one."""
        return self._run_limited(tasks, self._executor.run_all)

    def run_alone(self, task: Task) -> Outcome:
        """Run a task in a new interpreter, once there is memory for it. Raises the same errors as run()."""
        return self._run_limited([task], lambda tasks: [self._executor.run_alone(tasks[0])])[0]

    def start_seconds(self, bundle: Bundle) -> float:
        """Seconds that a new interpreter took to import the model; 0 if not known."""
        return self._executor.start_seconds(bundle)

    def _run_limited(
        self, tasks: Sequence[Task], run: Callable[[list[Task]], list[Outcome]]
    ) -> list[Outcome]:
        task = tasks[0]
        runner_limit_bytes = task.limit_bytes or self._runner_limit_bytes
        needed_bytes = task.needed_bytes or runner_limit_bytes
        if task.alone:  # memory left by others does not count against it
            self.end_idle()
        with self._admission.admit(needed_bytes, task.alone, int(SLACK * task.needed_bytes)) as held_bytes:
            limit_bytes = max(runner_limit_bytes, held_bytes)
            oom_kills = self._guard.oom_kills
            outcomes = run([task._replace(limit_bytes=limit_bytes) for task in tasks])
        outcomes = [
            self._judge(outcome)
            if outcome.reason == KILLED and self._memory.oom_kills() > oom_kills
            else outcome
            for outcome in outcomes
        ]
        return list(map(shortage.retract, outcomes)) if task.alone else outcomes

    def _judge(self, outcome: Outcome) -> Outcome:
        """Decide whether a task that the kernel killed for lack of memory was the cause, or this process."""
        held_bytes = worker_memory.held_bytes()
        tasks = {"": outcome.peak_bytes}
        usage = guard.Usage(
            int(guard.LAST * self._memory.limit_bytes), self._worker_bytes, tasks, {os.getpid(): held_bytes}
        )
        if guard.culprit(usage) == "":
            return outcome._replace(reason=OUT_OF_MEMORY)
        logger.warning(
            "%s: the kernel killed a task for lack of memory, and this worker process itself holds %d MiB",
            guard.WORKER,
            held_bytes // MIB,
        )
        if self._restart:
            self._restart(held_bytes, worker_memory.was_held_before(held_bytes, self._worker_bytes))
        return outcome._replace(reason=guard.WORKER)

    def runners(self) -> list[Runner]:
        """All runners of this process."""
        return self.busy() + self.idle()

    def busy(self) -> list[Runner]:
        """The runners that are running a task."""
        return self._executor.busy()

    def idle(self) -> list[Runner]:
        """The runners that wait for a task."""
        return self._executor.idle()

    def end_idle(self) -> int:
        """End the runners that wait for a task; return their number."""
        return self._executor.end_idle()

    def pool(self) -> dict[str, int]:
        """Runners by state."""
        return self._executor.pool()

    def file_changes(self, bundle: Bundle) -> FileChanges:
        """What tasks changed in the files of a bundle since the last call."""
        return self._executor.file_changes(bundle)

    @property
    def limit(self) -> int:
        """The maximum number of runners."""
        return self._executor.limit

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End every process. Tasks that run, or wait for memory, raise RuntimeError."""
        self._guard.close()
        self._admission.close()
        self._executor.__exit__(kind, error, trace)

    def _hold(self) -> None:
        """Assign memory: a zygote's belongs to this process while it lives; another runner's to its task."""
        zygotes = [runner.pid for runner in self.runners() if isinstance(runner, Zygote)]
        self._admission.hold(self._worker_bytes + sum(map(pod.own_bytes, zygotes)))
