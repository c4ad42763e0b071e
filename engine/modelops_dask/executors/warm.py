"""Tasks in runner processes that stay: one per bundle and concurrent caller, started when first needed.

    Task -> a runner of that bundle, idle or new -> Outcome; the runner goes back, or ends

A runner ends after max_process_reuse tasks (1: executor `cold`), process_ttl_seconds, any task that it did
not survive, or when its place is needed: the one used longest ago goes first. Does not talk to a process:
process.py does.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType

from modelops_dask import venv
from modelops_dask.bundle import Bundle
from modelops_dask.errors import BadInput
from modelops_dask.executors import Executor, Outcome, Task, native_threads, outcome
from modelops_dask.executors.process import Runner, RunnerLost, StartFailed
from modelops_dask.executors.runner import Answer
from modelops_dask.executors.wire import find_wire
from modelops_dask.settings import Settings

PING_AFTER_SECONDS = 10  # idle for longer, and a runner is asked for a sign of life before it is used
END_SECONDS = 5  # what leaving waits for tasks that it has interrupted


class WarmExecutor(Executor):
    """Runs tasks in warm runners, at most `limit` of them alive; a caller waits when all are busy.

    echo, if given, receives what models print (bytes), as it comes. kind is the class of its runners.
    """

    def __init__(
        self,
        settings: Settings,
        limit: int,
        echo: Callable[[bytes], object] | None = None,
        kind: type[Runner] = Runner,
    ) -> None:
        self._settings = settings
        self._kind = kind
        self._limit = max(1, limit)
        self._echo = echo
        self._threads = native_threads(default=1)  # process.py sets 1 where nothing is set
        self._changed = threading.Condition()
        self._idle: list[_Warm] = []  # the one used longest ago first
        self._busy: set[_Warm] = set()
        self._places = 0  # taken: idle, busy, starting or ending
        self._closed = False
        self._building = threading.Lock()
        self._environments: dict[str, venv.Environment] = {}

    def run(self, task: Task) -> Outcome:
        """Run a task in a runner. Raises BadInput when no task of the bundle can be run: no wire function, no
        environment.
        """
        started, environment = time.monotonic(), ""
        try:
            with self._lease(task.bundle) as warm:
                environment = warm.environment.digest
                timeout_seconds = self._settings.task_timeout_seconds or None
                answer = warm.runner.call(
                    task.entrypoint, task.params, task.seed, timeout_seconds, task.limit_bytes
                )
                log = "" if answer.status == "ok" else warm.runner.log
        except StartFailed as failure:
            answer, log = failure.answer, failure.log
            if answer.reason == "WireNotFound":
                said = answer.error.partition("WireNotFound: ")[2].strip()
                raise BadInput(f"bundle {task.bundle.path}: {said}") from None
        except RunnerLost as lost:
            seconds = time.monotonic() - started
            answer, log = Answer("died", {}, lost.reason, lost.error, seconds, lost.peak_bytes), lost.log
        return outcome(answer, log, self._threads, environment)

    def busy(self) -> list[Runner]:
        """The runners that have a task now."""
        with self._changed:
            return [warm.runner for warm in self._busy]

    def idle(self) -> list[Runner]:
        """The runners that wait for a task, the one used longest ago first."""
        with self._changed:
            return [warm.runner for warm in self._idle]

    def drop(self, bundle: Bundle) -> None:
        """End the idle runners of a bundle."""
        with self._changed:
            dropped = [warm for warm in self._idle if warm.bundle == bundle]
            self._idle = [warm for warm in self._idle if warm.bundle != bundle]
        for warm in dropped:
            self._end(warm)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End every runner. Tasks that still run end as died."""
        with self._changed:
            self._closed = True
            idle, self._idle = self._idle, []
            for warm in self._busy:
                warm.runner.interrupt()
            self._changed.notify_all()
        for warm in idle:
            warm.runner.hang_up()  # all at once, so that they end side by side
        for warm in idle:
            self._end(warm)
        with self._changed:
            # Not for ever: a thread may still be building an environment; it ends its runner itself.
            self._changed.wait_for(lambda: not self._places, timeout=END_SECONDS)

    @contextmanager
    def _lease(self, bundle: Bundle) -> Iterator["_Warm"]:
        """A runner for one task; afterwards idle again, or ended."""
        warm = self._take(bundle)
        try:
            yield warm
        except BaseException:
            self._end(warm, kill=True)
            raise
        settings = self._settings
        if 0 < settings.max_process_reuse <= warm.runner.tasks or self._is_old(warm):
            self._end(warm)
            return
        with self._changed:
            self._busy.discard(warm)
            if not self._closed:
                self._idle.append(warm)
                self._changed.notify()
                return
        self._end(warm)

    def _take(self, bundle: Bundle) -> "_Warm":
        while True:
            stale = None
            with self._changed:
                while True:
                    if self._closed:
                        raise RuntimeError("the executor is closed")
                    if found := next((warm for warm in reversed(self._idle) if warm.bundle == bundle), None):
                        self._idle.remove(found)
                        self._busy.add(found)
                        break
                    if self._places < self._limit:
                        self._places += 1
                        break
                    if self._idle:
                        stale = self._idle.pop(0)
                        break
                    self._changed.wait()
            if stale:
                self._end(stale)
            elif found is None:
                return self._start(bundle)
            elif self._is_fit(found):
                return found
            else:
                self._end(found, kill=True)

    def _start(self, bundle: Bundle) -> "_Warm":
        """A new runner in a place that is already counted."""
        warm = None
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
                    # Compiled code outlives its process; a private environment's is of no use to another.
                    numba_cache=None if self._settings.force_fresh_venv else Path(f"{bundle.path}.numba"),
                    echo=self._echo,
                )
                stack.callback(runner.close)
                warm = _Warm(runner, bundle, environment, stack.pop_all())
            with self._changed:
                self._busy.add(warm)
                if self._closed:
                    runner.interrupt()
            runner.ready()
            return warm
        except BaseException:
            if warm:
                self._end(warm, kill=True)
            else:
                self._free_place()
            raise

    def _environment(self, bundle: Bundle, stack: ExitStack) -> venv.Environment:
        if self._settings.force_fresh_venv:
            return stack.enter_context(venv.fresh(bundle, self._settings))
        with self._building:
            if bundle.digest not in self._environments:
                self._environments[bundle.digest] = venv.environment(bundle, self._settings)
            return self._environments[bundle.digest]

    def _is_old(self, warm: "_Warm") -> bool:
        return 0 < self._settings.process_ttl_seconds <= time.monotonic() - warm.runner.started_at

    def _is_fit(self, warm: "_Warm") -> bool:
        """Whether an idle runner can have a task. One that ended in its sleep costs nobody a task."""
        if self._is_old(warm) or warm.runner.broken:
            return False
        if time.monotonic() - warm.runner.used_at > PING_AFTER_SECONDS:
            try:
                warm.runner.ping()
            except RunnerLost:
                return False
        return True

    def _end(self, warm: "_Warm", kill: bool = False) -> None:
        try:
            if kill:
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
    """A runner, the bundle it imported, where, and what ends with it."""

    def __init__(
        self, runner: Runner, bundle: Bundle, environment: venv.Environment, stack: ExitStack
    ) -> None:
        self.runner, self.bundle, self.environment, self.stack = runner, bundle, environment, stack
