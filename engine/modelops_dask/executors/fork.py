"""Tasks in children of a process that imported the model and never ran a task: executor isolated_fork.

    Task -> a zygote of that bundle, idle or new -> its child -> Outcome
    if forking is unsafe: Task -> a new interpreter -> Outcome

Forking is unsafe for a bundle if importing its model leaves a thread, or if a crash in a child does not
happen again in a new interpreter: its first crash is tried there. The zygotes are another kind of warm.py's
runners; zygote.py runs in them.
"""

import logging
import os
import pickle
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import TracebackType

from modelops_dask.bundle import Bundle
from modelops_dask.executors import Executor, FileChanges, Outcome, Task, is_crash, messages
from modelops_dask.executors.process import Call, Runner
from modelops_dask.executors.runner import OUT_OF_MEMORY, Answer
from modelops_dask.executors.warm import WarmExecutor
from modelops_dask.limits import pod
from modelops_dask.settings import Settings

logger = logging.getLogger("distributed.modelops")

LATE_SECONDS = 60  # a zygote may still import and compile what its first task reported
END_WORDS = ("killed by signal ", "exited with status ")  # ends of a child; runner.describe_end() has them


class Zygote(Runner):
    """A zygote; it ends a child that takes too long, and is itself ended only if it does not answer."""

    SCRIPT = Path(__file__).with_name("zygote.py")
    TAKES_MANY = False

    def call(
        self, calls: Sequence[Call], timeout_seconds: float | None, limit_bytes: int = 0
    ) -> Iterator[Answer]:
        """Run a task in a child: `died` if the child ended. Raises RunnerLost if the zygote did."""
        ((entrypoint, params, seed),) = calls
        late_seconds = None if timeout_seconds is None else timeout_seconds + LATE_SECONDS
        self.tasks += 1
        self._nonce = os.urandom(8)
        its_turn = messages.turn(self._nonce, self.tasks)
        request = pickle.dumps((its_turn, entrypoint, params, seed, limit_bytes), protocol=4)
        self.runner_limit_bytes, self._out_of_memory, self._log = limit_bytes, None, b""
        self._crashes.forget()
        self._send((self._nonce, self.tasks, (request, timeout_seconds)), late_seconds)
        answer = self._answer(late_seconds)
        self._drain()
        if answer.status == "died" and (memory_end := self._out_of_memory):
            answer = answer._replace(
                reason=memory_end.reason, error=memory_end.error, peak_bytes=memory_end.peak_bytes
            )
        elif answer.reason.startswith(END_WORDS):
            self._read_crash()
            answer = self._judge_end(answer, self._crashes.crash)
        yield self._judge_children(answer)

    @property
    def life(self) -> tuple[str, int]:
        """Each task has its own child."""
        return f"{self.id}.{self.tasks}", 1

    def end_for_memory(
        self, pids: list[int], peak_bytes: int, error: str, reason: str = OUT_OF_MEMORY
    ) -> None:
        """Called by the guard's thread: end the child and its processes; also the zygote if it holds most."""
        if max(pids, key=pod.held_bytes) != self.pid:
            pids = [pid for pid in pids if pid != self.pid]
        super().end_for_memory(pids, peak_bytes, error, reason)


class ForkExecutor(Executor):
    """Runs tasks in children of zygotes.

    maxProcessReuse and processTTL do not apply to zygotes, which run no tasks.
    """

    def __init__(self, settings: Settings, limit: int, echo: Callable[[bytes], object] | None = None) -> None:
        lasting = replace(settings, max_process_reuse=0, process_ttl_seconds=0)
        self._zygotes = WarmExecutor(lasting, limit, echo, kind=Zygote)
        self._cold = WarmExecutor(replace(settings, max_process_reuse=1), limit, echo)
        self._lock = threading.Lock()
        self._unsafe: dict[str, str] = {}  # the reasons, by the digest of a bundle
        self._crashed: set[str] = set()  # bundles whose first crash was tried in a new interpreter

    @property
    def limit(self) -> int:
        """The maximum number of zygotes."""
        return self._zygotes.limit

    def run(self, task: Task) -> Outcome:
        """Run a task. Raises BadInput if no task of the bundle can be run."""
        digest = task.bundle.digest
        if digest not in self._unsafe:
            outcome = self._zygotes.run(task)
            if outcome.reason == "ForkUnsafe":
                self._give_up(task, outcome.error.rpartition("ForkUnsafe: ")[2].strip())
            elif task.bundle.program or not (
                is_crash(outcome.reason) and self._is_first_crash(digest)
            ):  # whose crash is its own, because it is not a fork
                return outcome
            else:
                reason = f"a task was {outcome.reason} in a child"
                second_outcome = self._cold.run(task)
                if not is_crash(second_outcome.reason) and second_outcome.reason != OUT_OF_MEMORY:
                    reason += ", and not in a new interpreter"
                    self._give_up(task, reason)
                return second_outcome._replace(fallback=reason)
        self._zygotes.drop(task.bundle)
        return self._cold.run(task)._replace(fallback=self._unsafe[digest])

    def run_all(self, tasks: Sequence[Task]) -> list[Outcome]:
        """One after another."""
        return [self.run(task) for task in tasks]

    def run_alone(self, task: Task) -> Outcome:
        """Run a task in a new interpreter, not in a child. Raises the same errors as run()."""
        return self._cold.run_alone(task)

    def start_seconds(self, bundle: Bundle) -> float:
        """Seconds that a zygote or an interpreter took to import the model; 0 if not known."""
        return max(self._zygotes.start_seconds(bundle), self._cold.start_seconds(bundle))

    def busy(self) -> list[Runner]:
        """The zygotes and interpreters that are running a task."""
        return self._zygotes.busy() + self._cold.busy()

    def idle(self) -> list[Runner]:
        """The zygotes that wait for a task, the least recently used first."""
        return self._zygotes.idle()

    def end_idle(self) -> int:
        """End the zygotes and interpreters that wait for a task; return their number."""
        return self._zygotes.end_idle() + self._cold.end_idle()

    def pool(self) -> dict[str, int]:
        """Count zygotes and interpreters by state."""
        cold = self._cold.pool()
        return {state: number + cold[state] for state, number in self._zygotes.pool().items()}

    def file_changes(self, bundle: Bundle) -> FileChanges:
        """What tasks changed in the files of a bundle since the last call."""
        of_zygotes, of_cold = self._zygotes.file_changes(bundle), self._cold.file_changes(bundle)
        return FileChanges(
            written_files=_merge(of_zygotes.written_files, of_cold.written_files),
            shared_files=_merge(of_zygotes.shared_files, of_cold.shared_files),
        )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End every process. Running tasks raise RuntimeError."""
        with ExitStack() as stack:
            stack.push(self._zygotes)
            stack.push(self._cold)

    def _is_first_crash(self, digest: str) -> bool:
        with self._lock:
            first = digest not in self._crashed
            self._crashed.add(digest)
        return first

    def _give_up(self, task: Task, reason: str) -> None:
        with self._lock:
            is_known = task.bundle.digest in self._unsafe
            self._unsafe.setdefault(task.bundle.digest, reason)
        if not is_known:
            logger.warning(
                "isolated_fork: forking is unsafe for bundle %s: %s; its tasks run in new interpreters",
                task.bundle.path,
                reason,
            )


def _merge(names: Sequence[str], more_names: Sequence[str]) -> tuple[str, ...]:
    """Join two lists of names in their order, without repetitions."""
    return tuple(dict.fromkeys([*names, *more_names]))
