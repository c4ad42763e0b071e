"""Tasks in runner processes that stay: executor isolated_warm, and with one task for each runner, cold.

    Task -> a runner of the pool -> its Answer, or its end -> Outcome

A runner that spoke out of turn is ended, and its task run once more, alone in a new one: a process that an
earlier task left may have spoken. Does not choose, start or end runners: pool.py does.
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
    """Runs tasks in warm runners, at most `limit` of them alive; a caller waits when all are busy.

    memory_bytes is what all runners have together, 0 for no limit. echo, if given, receives what models
    print (bytes), as it comes. kind is the class of its runners. fallback: why isolated_fork is not forking.
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
        self._threads = native_threads(default=1)  # process.py sets 1 where nothing is set
        self._pool = Pool(settings, limit, echo, kind, memory_bytes)

    @property
    def limit(self) -> int:
        """The most runners there can be."""
        return self._pool.limit

    def run(self, task: Task) -> Outcome:
        """Run a task in a runner. Raises BadInput when no task of the bundle can be run: no wire function, no
        environment.
        """
        return self.run_all([task])[0]

    def run_all(self, tasks: Sequence[Task]) -> list[Outcome]:
        """Run tasks that differ in params and seed only, one after another, many in one message. The first
        may be `fresh`.
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
        """Run a task in a new runner, which ends with it. Raises as run()."""
        return self._run_some([task], alone=True)[0]

    def start_seconds(self, bundle: Bundle) -> float:
        """How long the last runner of a bundle that somebody waited for took to start; 0: none has yet."""
        return self._pool.start_seconds(bundle)

    def _run_some(self, tasks: Sequence[Task], alone: bool = False) -> list[Outcome]:
        """Outcomes of the first tasks, at least of one, in a single runner; only the last may not be ok."""
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
            if self._pool.closed:  # that was us: it says nothing of the task
                raise RuntimeError(CLOSED) from None
            if warm and warm.lost_files:  # the task was not begun
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
        """Tasks that a runner may have in one message."""
        if not warm.runner.TAKES_MANY:
            return 1
        most = self._settings.max_process_reuse
        return min(most - warm.runner.tasks, MESSAGE_TASKS) if most else MESSAGE_TASKS

    def busy(self) -> list[Runner]:
        """The runners that have a task now."""
        return self._pool.busy()

    def idle(self) -> list[Runner]:
        """The runners that wait for a task, the one used longest ago first."""
        return self._pool.idle()

    def pool(self) -> dict[str, int]:
        """How many runners there are, by state."""
        return self._pool.counts()

    def end_idle(self) -> int:
        """End the runners that wait for a task; how many there were."""
        return self._pool.end_idle()

    def file_changes(self, bundle: Bundle) -> FileChanges:
        """What tasks did to the files of a bundle since the last call."""
        return self._pool.copies.file_changes(bundle) if self._pool.copies else FileChanges()

    def drop(self, bundle: Bundle) -> None:
        """End the idle runners of a bundle."""
        self._pool.drop(bundle)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End every runner. What still runs a task raises RuntimeError."""
        self._pool.close()
