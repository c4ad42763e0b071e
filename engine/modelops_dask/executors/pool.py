"""The runner processes of a worker: which exist, which are leased, when they end.

    Task -> a runner of its bundle, idle or new -> with pool.lease(task) as warm -> idle again, or ended

A runner ends after max_process_reuse tasks (1: executor `cold`), after process_ttl_seconds, with any task
that it did not survive, or when its place is needed: the least recently used goes first. If there is room,
its successor is started while it still works, so that no task waits for the import. The results of tasks are
handled in warm.py, communication with a process in process.py.
"""

import logging
import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from modelops_dask import metrics
from modelops_dask.bundle import Bundle
from modelops_dask.environments import venv
from modelops_dask.errors import BadInput
from modelops_dask.executors import Task
from modelops_dask.executors.copies import Copies, Slot
from modelops_dask.executors.messages import Answer
from modelops_dask.executors.process import Runner, RunnerLost, StartFailed
from modelops_dask.executors.wire import References
from modelops_dask.settings import Settings

logger = logging.getLogger("distributed.modelops")

PING_AFTER_SECONDS = 10  # after this idle time, a runner must answer a ping before it is used
END_SECONDS = 5  # how long leaving waits for interrupted tasks
CLOSED = "the executor is closed"


class Pool:
    """At most `limit` runners; a caller waits if all are busy.

    memory_bytes is their memory together, 0 for no limit; peak_bytes the highest observed need of a task.
    echo, if given, receives what models print (bytes), immediately. kind is the class of the runners.
    """

    def __init__(
        self,
        settings: Settings,
        limit: int,
        echo: Callable[[bytes], object] | None,
        kind: type[Runner],
        memory_bytes: int,
    ) -> None:
        self.limit = max(1, limit)
        self.peak_bytes = 0
        self.closed = False
        self._settings, self._kind, self._echo, self._memory_bytes = settings, kind, echo, memory_bytes
        self.copies = Copies(settings.scratch_bytes) if settings.private_files else None
        self._changed = threading.Condition()
        self._idle: list[Warm] = []  # the least recently used first
        self._busy: set[Warm] = set()
        self._places = 0  # taken: idle, busy, starting or ending
        self._building = threading.Lock()
        self._references = References()
        self._environments: dict[Bundle, venv.Environment] = {}
        self._start_seconds: dict[str, float] = {}  # by bundle: how long a caller waited for a first runner

    def busy(self) -> list[Runner]:
        """The runners that are running a task."""
        with self._changed:
            return [warm.runner for warm in self._busy]

    def idle(self) -> list[Runner]:
        """The runners that wait for a task, the least recently used first."""
        with self._changed:
            return [warm.runner for warm in self._idle]

    def counts(self) -> dict[str, int]:
        """Count the runners by state."""
        with self._changed:
            return {"idle": len(self._idle), "busy": len(self._busy)}

    def start_seconds(self, bundle: Bundle) -> float:
        """Seconds that the last awaited runner of a bundle took to start; 0: none yet."""
        return self._start_seconds.get(bundle.digest, 0.0)

    def drop(self, bundle: Bundle) -> None:
        """End the idle runners of a bundle."""
        with self._changed:
            dropped = [warm for warm in self._idle if warm.serves[0] == bundle]
            self._idle = [warm for warm in self._idle if warm.serves[0] != bundle]
        for warm in dropped:
            self._end(warm, "unfit")

    def end_idle(self) -> int:
        """End the runners that wait for a task, because their memory is needed; return their number.

        They are removed first, so that they receive no task.
        """
        with self._changed:
            idle, self._idle = self._idle, []
        for warm in idle:
            self._end(warm, "memory", kill=True)
        return len(idle)

    def close(self) -> None:
        """End every runner. Running tasks raise RuntimeError."""
        with self._changed:
            self.closed = True
            idle, self._idle = self._idle, []
            for warm in self._busy:
                warm.runner.interrupt()
            self._changed.notify_all()
        for warm in idle:
            warm.runner.hang_up()  # all together, so that they end in parallel
        for warm in idle:
            self._end(warm, "closed")
        with self._changed:
            # With a limit: a thread may still be building an environment; it ends its runner itself.
            self._changed.wait_for(lambda: not self._places, timeout=END_SECONDS)
        if self.copies:
            self.copies.close()

    @contextmanager
    def lease(self, task: Task, alone: bool = False) -> Iterator["Warm"]:
        """Lease a runner for one task; afterwards it is idle again, or ended. alone: a new, unshared one."""
        warm = self._take(task, alone)
        try:
            yield warm
        except BaseException:
            self._end(warm, "lost", kill=True)
            raise
        if reason := "unfit" if alone else self._retirement(warm):
            self._end(warm, reason)
            return
        if self._is_ending(warm):
            self._start_successor(warm)
        with self._changed:
            self._busy.discard(warm)
            if not self.closed:
                self._idle.append(warm)
                self._changed.notify()
                return
        self._end(warm, "closed")

    def _take(self, task: Task, alone: bool) -> "Warm":
        needs = (task.bundle, task.threads, self._references.find(task.bundle, task.entrypoint))
        while True:
            stale = None
            with self._changed:
                while True:
                    if self.closed:
                        raise RuntimeError(CLOSED)
                    idle = next((warm for warm in reversed(self._idle) if warm.serves == needs), None)
                    if idle and not alone:
                        self._idle.remove(idle)
                        self._busy.add(idle)
                        break
                    idle = None
                    if self._places < self.limit:
                        self._places += 1
                        break
                    if self._idle:
                        stale = self._idle.pop(0)
                        break
                    self._changed.wait()
            if stale:
                self._end(stale, "room")
            elif idle is None:
                return self._start(*needs)
            elif reason := self._retirement(idle):
                self._end(idle, reason)
            elif self._is_fit(idle):
                metrics.count("runner_reuses")
                return idle
            else:
                self._end(idle, "unfit", kill=True)

    def _start(self, bundle: Bundle, threads: int, wire: str) -> "Warm":
        """Start a runner and import its model, in an already counted place."""
        warm = self._spawn(bundle, threads, wire)
        try:
            with self._changed:
                self._busy.add(warm)
                if self.closed:
                    warm.runner.interrupt()
            warm.ready()
        except BaseException as error:
            if isinstance(error, StartFailed | RunnerLost):
                error.environment = warm.environment.digest
            if isinstance(error, StartFailed):
                error.answer = warm.name_files(error.answer)
            self._end(warm, "lost", kill=True)
            raise
        self._start_seconds[bundle.digest] = warm.runner.start_seconds
        return warm

    def _spawn(self, bundle: Bundle, threads: int, wire: str) -> "Warm":
        """Start a process that imports the model, in an already counted place."""
        try:
            with ExitStack() as stack:
                environment = self._environment(bundle, stack)
                # Compiled code outlives its process; that of a private environment is useless to others.
                numba_cache = None if self._settings.force_fresh_venv else Path(f"{bundle.path}.numba")
                slot = self._slot(bundle, numba_cache, stack)
                runner = self._kind(
                    environment.python,
                    bundle.path,
                    wire,
                    seed_globals=self._settings.seed_globals,
                    reseeds=bundle.reseeds,
                    keep_pythonpath=self._settings.executor_environment == "image",
                    threads=threads,
                    numba_cache=numba_cache,
                    slot=slot,
                    echo=self._echo,
                )
                stack.callback(runner.close)
                metrics.count("runner_starts")
                return Warm(runner, (bundle, threads, wire), environment, slot, stack.pop_all())
        except BaseException:
            self._free_place()
            raise

    def _slot(self, bundle: Bundle, numba_cache: Path | None, stack: ExitStack) -> Slot | None:
        """The runner's own copy of the bundle; None: it works in the shared one."""
        if not self.copies:
            if bundle.program:
                raise BadInput(
                    "executor.privateFiles is false, but a command needs private files: concurrent tasks "
                    "would write the same output files. Set executor.privateFiles: true"
                )
            return None
        slot = stack.enter_context(self.copies.slot(bundle, tells=self._settings.max_process_reuse != 1))
        if numba_cache:
            slot.share_compiled(numba_cache)
        return slot

    def _start_successor(self, warm: "Warm") -> None:
        """Start the process that will replace a runner, if there is room for one more."""
        with self._changed:
            crowded = 0 < self._memory_bytes < (self._places + 1) * self.peak_bytes
            if warm.has_successor or self.closed or self._places >= self.limit or crowded:
                return
            self._places += 1
        warm.has_successor = True
        try:
            successor = self._spawn(*warm.serves)
        except Exception as error:  # the next caller that needs a runner starts one, and gets the error
            logger.debug("no replacement for a runner could be started: %s", error)
            return
        with self._changed:
            if not self.closed:
                self._idle.insert(0, successor)  # behind the runner that it replaces
                self._changed.notify()
                return
        self._end(successor, "closed", kill=True)

    def _environment(self, bundle: Bundle, stack: ExitStack) -> venv.Environment:
        if self._settings.force_fresh_venv:
            return stack.enter_context(venv.fresh_environment(bundle, self._settings))
        with self._building:
            if bundle not in self._environments:
                self._environments[bundle] = venv.environment(bundle, self._settings)
            return self._environments[bundle]

    def _retirement(self, warm: "Warm") -> str:
        """Why a runner must not run more tasks; "" if it may."""
        runner, settings = warm.runner, self._settings
        if warm.slot and warm.slot.is_unfit:
            return "files"
        if 0 < settings.max_process_reuse <= runner.tasks:
            return "reuse"
        if 0 < settings.process_ttl_seconds <= time.monotonic() - runner.started_at:
            return "age"
        return ""

    def _is_ending(self, warm: "Warm") -> bool:
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
        # earlier, a spare would use memory for a long time
        if settings.max_process_reuse and left <= runner.tasks:
            assert runner.ready_at is not None, "it has run tasks"
            pace_seconds = (now - runner.ready_at) / runner.tasks
            left_seconds.append(left * pace_seconds if left > 1 else 0)
        return min(left_seconds) <= start_seconds

    def _is_fit(self, warm: "Warm") -> bool:
        """Whether an idle runner can have a task. One that ended while idle costs no task."""
        runner = warm.runner
        try:
            if runner.ready_at is None:
                warm.ready()
            elif runner.broken:
                return False
            elif time.monotonic() - runner.used_at > PING_AFTER_SECONDS:
                runner.ping()
        except (RunnerLost, StartFailed):
            return False
        return True

    def _end(self, warm: "Warm", reason: str, kill: bool = False) -> None:
        metrics.count("runner_retirements", reason)
        try:
            if kill or warm.runner.ready_at is None:
                warm.runner.kill()
            if warm.slot and (problem := warm.slot.notes()[1]):
                warm.lost_files = True
                logger.warning("a runner's files could not be restored, so it is replaced: %s", problem)
            warm.stack.close()
        finally:
            with self._changed:
                self._busy.discard(warm)
            self._free_place()

    def _free_place(self) -> None:
        with self._changed:
            self._places -= 1
            self._changed.notify_all()


class Warm:
    """A runner with its bundle, native threads, reference of the function, slot, and private environment."""

    def __init__(
        self,
        runner: Runner,
        serves: tuple[Bundle, int, str],
        environment: venv.Environment,
        slot: Slot | None,
        stack: ExitStack,
    ) -> None:
        self.runner, self.serves, self.environment = runner, serves, environment
        self.slot, self.stack = slot, stack
        self.lost_files = False  # it ended because its files could not be restored
        self.has_successor = False

    def ready(self) -> None:
        """Wait until the model is imported. Raises the same errors as Runner.ready()."""
        self.runner.ready()
        if self.slot:
            self.slot.share_bytecode()

    def name_files(self, answer: Answer) -> Answer:
        """Replace paths of a runner's copy in the answer by those that the user knows."""
        if not (answer.error and self.slot):
            return answer
        copy_prefix, bundle_prefix = f"{self.slot.bundle}/", f"{self.serves[0].path}/"
        return answer._replace(error=answer.error.replace(copy_prefix, bundle_prefix))
