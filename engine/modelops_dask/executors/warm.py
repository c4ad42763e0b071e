"""Tasks in runner processes that stay: one per bundle and concurrent caller, started when first needed.

    Task -> a runner of that bundle, idle or new -> Outcome; the runner goes back, or ends

A runner ends after max_process_reuse tasks (1: executor `cold`), process_ttl_seconds, any task that it did
not survive, or when its place is needed: the one used longest ago goes first. Where there is room, its
successor is started while it still works, so that no task waits for the import. Does not talk to a process:
process.py does.
"""

import logging
import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType

from modelops_dask import metrics, venv
from modelops_dask.bundle import Bundle
from modelops_dask.errors import BadInput
from modelops_dask.executors import Executor, Outcome, Task, native_threads, outcome
from modelops_dask.executors.process import Runner, RunnerLost, StartFailed
from modelops_dask.executors.runner import Answer
from modelops_dask.executors.wire import find_wire
from modelops_dask.settings import Settings

logger = logging.getLogger("distributed.modelops")

PING_AFTER_SECONDS = 10  # idle for longer, and a runner is asked for a sign of life before it is used
CLOSED = "the executor is closed"
MESSAGE_TASKS = 1000  # at most in one message to a runner
END_SECONDS = 5  # what leaving waits for tasks that it has interrupted


class WarmExecutor(Executor):
    """Runs tasks in warm runners, at most `limit` of them alive; a caller waits when all are busy.

    memory_bytes is what all runners have together, 0 for no limit. echo, if given, receives what models
    print (bytes), as it comes. kind is the class of its runners.
    """

    def __init__(
        self,
        settings: Settings,
        limit: int,
        echo: Callable[[bytes], object] | None = None,
        kind: type[Runner] = Runner,
        memory_bytes: int = 0,
    ) -> None:
        self._settings = settings
        self._kind = kind
        self.limit = max(1, limit)
        self._memory_bytes = memory_bytes
        self._echo = echo
        self._threads = native_threads(default=1)  # process.py sets 1 where nothing is set
        self._changed = threading.Condition()
        self._idle: list[_Warm] = []  # the one used longest ago first
        self._busy: set[_Warm] = set()
        self._places = 0  # taken: idle, busy, starting or ending
        self._closed = False
        self._building = threading.Lock()
        self._environments: dict[str, venv.Environment] = {}
        self._peak_bytes = 0  # the most that a task has needed so far
        self._start_seconds: dict[str, float] = {}  # by bundle: how long somebody waited for a first runner

    def run(self, task: Task) -> Outcome:
        """Run a task in a runner. Raises BadInput when no task of the bundle can be run: no wire function, no
        environment.
        """
        return self._run_some([task])[0]

    def run_all(self, tasks: Sequence[Task]) -> list[Outcome]:
        """Run tasks that differ in params and seed only, one after another, many in one message."""
        outcomes: list[Outcome] = []
        while len(outcomes) < len(tasks):
            outcomes += self._run_some(tasks[len(outcomes) :])
        return outcomes

    def _run_some(self, tasks: Sequence[Task]) -> list[Outcome]:
        """Outcomes of the first tasks, at least of one, in a single runner; only the last may not be ok."""
        outcomes: list[Outcome] = []
        started, environment = time.monotonic(), ""

        def ended(answer: Answer, log: str) -> None:
            self._peak_bytes = max(self._peak_bytes, answer.peak_bytes)
            outcomes.append(outcome(answer, log, tasks[0].threads or self._threads, environment))

        try:
            with self._lease(tasks[0]) as warm:
                environment = warm.environment.digest
                calls = [(task.entrypoint, task.params, task.seed) for task in tasks[: self._room(warm)]]
                timeout_seconds = self._settings.task_timeout_seconds or None
                for answer in warm.runner.call(calls, timeout_seconds, tasks[0].limit_bytes):
                    ended(answer, "" if answer.status == "ok" else warm.runner.log)
                    started = time.monotonic()
        except StartFailed as failure:
            if failure.answer.reason == "WireNotFound":
                said = failure.answer.error.partition("WireNotFound: ")[2].strip()
                raise BadInput(f"bundle {tasks[0].bundle.path}: {said}") from None
            ended(failure.answer, failure.log)
        except RunnerLost as lost:
            if self._closed:  # that was us: it says nothing of the task
                raise RuntimeError(CLOSED) from None
            seconds = time.monotonic() - started
            ended(Answer("died", {}, lost.reason, lost.error, seconds, lost.peak_bytes), lost.log)
        return outcomes

    def _room(self, warm: "_Warm") -> int:
        """Tasks that a runner may have in one message."""
        if not warm.runner.TAKES_MANY:
            return 1
        most = self._settings.max_process_reuse
        return min(most - warm.runner.tasks, MESSAGE_TASKS) if most else MESSAGE_TASKS

    def busy(self) -> list[Runner]:
        """The runners that have a task now."""
        with self._changed:
            return [warm.runner for warm in self._busy]

    def idle(self) -> list[Runner]:
        """The runners that wait for a task, the one used longest ago first."""
        with self._changed:
            return [warm.runner for warm in self._idle]

    def pool(self) -> dict[str, int]:
        """How many runners there are, by state."""
        with self._changed:
            return {"idle": len(self._idle), "busy": len(self._busy)}

    def drop(self, bundle: Bundle) -> None:
        """End the idle runners of a bundle."""
        with self._changed:
            dropped = [warm for warm in self._idle if warm.serves[0] == bundle]
            self._idle = [warm for warm in self._idle if warm.serves[0] != bundle]
        for warm in dropped:
            self._end(warm, "unfit")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End every runner. What still runs a task raises RuntimeError."""
        with self._changed:
            self._closed = True
            idle, self._idle = self._idle, []
            for warm in self._busy:
                warm.runner.interrupt()
            self._changed.notify_all()
        for warm in idle:
            warm.runner.hang_up()  # all at once, so that they end side by side
        for warm in idle:
            self._end(warm, "closed")
        with self._changed:
            # Not for ever: a thread may still be building an environment; it ends its runner itself.
            self._changed.wait_for(lambda: not self._places, timeout=END_SECONDS)

    @contextmanager
    def _lease(self, task: Task) -> Iterator["_Warm"]:
        """A runner for one task; afterwards idle again, or ended."""
        warm = self._take(task)
        try:
            yield warm
        except BaseException:
            self._end(warm, "lost", kill=True)
            raise
        if reason := self._retirement(warm):
            self._end(warm, reason)
            return
        if self._is_ending(warm):
            self._start_successor(warm)
        with self._changed:
            self._busy.discard(warm)
            if not self._closed:
                self._idle.append(warm)
                self._changed.notify()
                return
        self._end(warm, "closed")

    def _take(self, task: Task) -> "_Warm":
        wanted = (task.bundle, task.threads)
        while True:
            stale = None
            with self._changed:
                while True:
                    if self._closed:
                        raise RuntimeError(CLOSED)
                    if found := next((warm for warm in reversed(self._idle) if warm.serves == wanted), None):
                        self._idle.remove(found)
                        self._busy.add(found)
                        break
                    if self._places < self.limit:
                        self._places += 1
                        break
                    if self._idle:
                        stale = self._idle.pop(0)
                        break
                    self._changed.wait()
            if stale:
                self._end(stale, "room")
            elif found is None:
                return self._start(*wanted)
            elif reason := self._retirement(found):
                self._end(found, reason)
            elif self._is_fit(found):
                metrics.count("runner_reuses")
                return found
            else:
                self._end(found, "unfit", kill=True)

    def _start(self, bundle: Bundle, threads: int) -> "_Warm":
        """A new runner, its model imported, in a place that is already counted."""
        warm = self._spawn(bundle, threads)
        try:
            with self._changed:
                self._busy.add(warm)
                if self._closed:
                    warm.runner.interrupt()
            warm.runner.ready()
        except BaseException:
            self._end(warm, "lost", kill=True)
            raise
        self._start_seconds[bundle.digest] = warm.runner.ready_at - warm.runner.started_at
        return warm

    def _spawn(self, bundle: Bundle, threads: int) -> "_Warm":
        """A process that begins to import the model, in a place that is already counted."""
        try:
            wire = find_wire(bundle.path)
            with ExitStack() as stack:
                environment = self._environment(bundle, stack)
                runner = self._kind(
                    environment.python,
                    bundle.path,
                    wire,
                    seed_globals=self._settings.seed_globals,
                    keep_pythonpath=self._settings.executor_environment == "image",
                    threads=threads,
                    # Compiled code outlives its process; a private environment's is of no use to another.
                    numba_cache=None if self._settings.force_fresh_venv else Path(f"{bundle.path}.numba"),
                    echo=self._echo,
                )
                stack.callback(runner.close)
                metrics.count("runner_starts")
                return _Warm(runner, (bundle, threads), environment, stack.pop_all())
        except BaseException:
            self._free_place()
            raise

    def _start_successor(self, warm: "_Warm") -> None:
        """Start the process that will replace a runner, if there is room for one more."""
        with self._changed:
            crowded = 0 < self._memory_bytes < (self._places + 1) * self._peak_bytes
            if warm.has_successor or self._closed or self._places >= self.limit or crowded:
                return
            self._places += 1
        warm.has_successor = True
        try:
            successor = self._spawn(*warm.serves)
        except Exception as error:  # whoever needs a runner next starts one, and is told
            logger.debug("no successor for a runner: %s", error)
            return
        with self._changed:
            if not self._closed:
                self._idle.insert(0, successor)  # behind the runner that it replaces
                self._changed.notify()
                return
        self._end(successor, "closed", kill=True)

    def _environment(self, bundle: Bundle, stack: ExitStack) -> venv.Environment:
        if self._settings.force_fresh_venv:
            return stack.enter_context(venv.fresh(bundle, self._settings))
        with self._building:
            if bundle.digest not in self._environments:
                self._environments[bundle.digest] = venv.environment(bundle, self._settings)
            return self._environments[bundle.digest]

    def _retirement(self, warm: "_Warm") -> str:
        """Why a runner must have no more tasks; "" when it may."""
        runner, settings = warm.runner, self._settings
        if 0 < settings.max_process_reuse <= runner.tasks:
            return "reuse"
        if 0 < settings.process_ttl_seconds <= time.monotonic() - runner.started_at:
            return "age"
        return ""

    def _is_ending(self, warm: "_Warm") -> bool:
        """Whether the rest of a runner's life, at the pace of its tasks, is shorter than a start takes."""
        runner, settings = warm.runner, self._settings
        if settings.force_fresh_venv:  # its successor would first build an environment, and delay this task
            return False
        start_seconds = self._start_seconds.get(warm.serves[0].digest, 0)
        now = time.monotonic()
        left_seconds = [math.inf]
        if settings.process_ttl_seconds:
            left_seconds.append(runner.started_at + settings.process_ttl_seconds - now)
        left = settings.max_process_reuse - runner.tasks
        if settings.max_process_reuse and left <= runner.tasks:  # sooner, a spare would cost memory for long
            pace_seconds = (now - runner.ready_at) / runner.tasks
            left_seconds.append(left * pace_seconds if left > 1 else 0)
        return min(left_seconds) <= start_seconds

    def _is_fit(self, warm: "_Warm") -> bool:
        """Whether an idle runner can have a task. One that ended in its sleep costs nobody a task."""
        runner = warm.runner
        try:
            if runner.ready_at is None:
                runner.ready()
            elif runner.broken:
                return False
            elif time.monotonic() - runner.used_at > PING_AFTER_SECONDS:
                runner.ping()
        except (RunnerLost, StartFailed):
            return False
        return True

    def _end(self, warm: "_Warm", reason: str, kill: bool = False) -> None:
        metrics.count("runner_retirements", reason)
        try:
            if kill or warm.runner.ready_at is None:
                warm.runner.kill()
            warm.stack.close()
        finally:
            with self._changed:
                self._busy.discard(warm)
            self._free_place()

    def _free_place(self) -> None:
        with self._changed:
            self._places -= 1
            self._changed.notify_all()


class _Warm:
    """A runner, the bundle it imported and its native threads, where, and what ends with it."""

    def __init__(
        self, runner: Runner, serves: tuple[Bundle, int], environment: venv.Environment, stack: ExitStack
    ) -> None:
        self.runner, self.serves, self.environment, self.stack = runner, serves, environment, stack
        self.has_successor = False
