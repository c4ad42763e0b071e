"""Tasks in runner processes that stay: executor isolated_warm, and with one task per runner, cold.

    Task -> a runner of the pool -> its Answer, or its end -> Outcome

A runner that sent an unexpected message is ended, and its task runs again, alone in a new one: a process left
by an earlier task may have sent it. Runners are chosen, started and ended in pool.py.
"""

import logging
import time
from collections.abc import Callable, Sequence
from types import TracebackType

from modelops_dask.bundle import Bundle
from modelops_dask.errors import BadInput
from modelops_dask.executors import Executor, FileChanges, Outcome, Task, make_outcome, native_threads
from modelops_dask.executors.messages import OUT_OF_TURN, START_FAILURE, TRANSIENT, Answer
from modelops_dask.executors.pool import CLOSED, Pool, Warm
from modelops_dask.executors.process import Runner, RunnerLost, StartFailed
from modelops_dask.settings import Settings

logger = logging.getLogger("distributed.modelops")

MESSAGE_TASKS = 1000  # at most in one message to a runner


class WarmExecutor(Executor):
    """Runs tasks in warm runners, at most `limit` of them; a caller waits if all are busy.

    memory_bytes is their memory together, 0 for no limit. echo, if given, receives what models print (bytes),
    immediately. kind is the class of its runners. fallback: why isolated_fork is not forking.
    """

    def __init__(
        self,
        settings: Settings,
        limit: int,
        echo: Callable[[bytes], object] | None = None,
        *,
        kind: type[Runner] = Runner,
        memory_bytes: int = 0,
        fallback: str = "",
    ) -> None:
        self._settings, self._fallback = settings, fallback
        self._reuses = kind.TAKES_MANY and settings.max_process_reuse != 1
        self._threads = native_threads(default=1)  # process.py sets 1 if nothing is set
        self._pool = Pool(settings, limit, echo, kind, memory_bytes)

    @property
    def limit(self) -> int:
        """The maximum number of runners."""
        return self._pool.limit

    def run(self, task: Task) -> Outcome:
        """Run a task in a runner.

        Raises BadInput if no task of the bundle can be run: no wire function, no environment.
        """
        return self.run_all([task])[0]

    def run_all(self, tasks: Sequence[Task]) -> list[Outcome]:
        """Run tasks that differ only in params and seed, one after another, many per message. The first may
        be `fresh`.
        """
        outcomes: list[Outcome] = []
        while len(outcomes) < len(tasks):
            if self._reuses and tasks[len(outcomes)].fresh:
                outcomes += self._run_some(tasks[len(outcomes) : len(outcomes) + 1], alone=True)
            else:
                outcomes += self._run_some(tasks[len(outcomes) :])
            if (outcomes[-1].status, outcomes[-1].reason) == ("died", OUT_OF_TURN):
                task = tasks[len(outcomes) - 1]
                logger.warning("bundle %s: a runner %s", task.bundle.path, outcomes[-1].error)
                (outcomes[-1],) = self._run_some([task], alone=True)
        return outcomes

    def run_alone(self, task: Task) -> Outcome:
        """Run a task in a new runner, which ends with it. Raises the same errors as run()."""
        return self._run_some([task], alone=True)[0]

    def start_seconds(self, bundle: Bundle) -> float:
        """Seconds that the last awaited runner of a bundle took to start; 0: none yet."""
        return self._pool.start_seconds(bundle)

    def _run_some(self, tasks: Sequence[Task], alone: bool = False) -> list[Outcome]:
        """Outcomes of the first tasks, at least one, in a single runner; only the last may not be ok."""
        outcomes: list[Outcome] = []
        started, environment, runner, warm = time.monotonic(), "", None, None

        def add(answer: Answer, log: str) -> None:
            if warm:
                answer = warm.name_files(answer)
            self._pool.peak_bytes = max(self._pool.peak_bytes, answer.peak_bytes)
            runner_id, runner_task = runner.life if runner else ("", 0)
            outcomes.append(
                make_outcome(
                    answer,
                    log,
                    threads=tasks[0].threads or self._threads,
                    environment=environment,
                    limit_bytes=tasks[0].limit_bytes,
                    runner=runner_id,
                    runner_task=runner_task,
                    fallback=self._fallback,
                )
            )

        try:
            with self._pool.lease(tasks[0], alone) as warm:
                environment, runner = warm.environment.digest, warm.runner
                calls = [(task.entrypoint, task.params, task.seed) for task in tasks[: self._room(warm)]]
                timeout_seconds = tasks[0].timeout_seconds or self._settings.task_timeout_seconds or None
                for answer in runner.call(calls, timeout_seconds, tasks[0].limit_bytes):
                    add(answer, "" if answer.status == "ok" else runner.log)
                    started = time.monotonic()
        except StartFailed as failure:
            if failure.answer.reason == "WireNotFound":
                problem = failure.answer.error.partition("WireNotFound: ")[2].strip()
                folder = tasks[0].bundle.origin or tasks[0].bundle.path
                raise BadInput(f"bundle {folder}: {problem}") from None
            environment = failure.environment
            is_transient = failure.answer.failure == TRANSIENT
            add(failure.answer._replace(failure=TRANSIENT if is_transient else START_FAILURE), failure.log)
        except RunnerLost as lost:
            if self._pool.closed:  # we ended it: this says nothing about the task
                raise RuntimeError(CLOSED) from None
            if warm and warm.lost_files:  # the task was not started
                return outcomes or self._run_some(tasks, alone)
            environment = environment or lost.environment
            answer = Answer(
                status="died",
                outputs={},
                reason=lost.reason,
                error=lost.error,
                seconds=time.monotonic() - started,
                peak_bytes=lost.peak_bytes,
                failure="" if warm else START_FAILURE,
            )
            add(answer, lost.log)
        return outcomes

    def _room(self, warm: Warm) -> int:
        """The number of tasks that a runner may receive in one message."""
        if not warm.runner.TAKES_MANY:
            return 1
        most = self._settings.max_process_reuse
        return min(most - warm.runner.tasks, MESSAGE_TASKS) if most else MESSAGE_TASKS

    def busy(self) -> list[Runner]:
        """The runners that are running a task."""
        return self._pool.busy()

    def idle(self) -> list[Runner]:
        """The runners that wait for a task, the least recently used first."""
        return self._pool.idle()

    def pool(self) -> dict[str, int]:
        """Count the runners by state."""
        return self._pool.counts()

    def end_idle(self) -> int:
        """End the runners that wait for a task; return their number."""
        return self._pool.end_idle()

    def file_changes(self, bundle: Bundle) -> FileChanges:
        """What tasks changed in the files of a bundle since the last call."""
        return self._pool.copies.file_changes(bundle) if self._pool.copies else FileChanges()

    def drop(self, bundle: Bundle) -> None:
        """End the idle runners of a bundle."""
        self._pool.drop(bundle)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End every runner. Running tasks raise RuntimeError."""
        self._pool.close()
