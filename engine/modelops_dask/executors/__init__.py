"""Executors: run tasks in the worker's process, in a warm runner, in a fork, or in a new interpreter.

    Task -> Executor.run -> Outcome

A task's failure is an Outcome; an exception from run() is the executor's own error. docs/executors.md
describes the isolation that each type guarantees.
"""

import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, Self

from modelops_dask.bundle import Bundle
from modelops_dask.errors import BadInput
from modelops_dask.executors.messages import Answer
from modelops_dask.settings import Settings
from modelops_dask.shape import MIB, RUNNER_MIN_BYTES, runners

if TYPE_CHECKING:
    from modelops_dask.executors.fork import ForkExecutor
    from modelops_dask.executors.warm import WarmExecutor

logger = logging.getLogger("distributed.modelops")  # below `distributed`, whose messages Dask shows

TYPES = ("isolated_warm", "isolated_fork", "cold", "direct")  # all except `none`, which is plain Dask
# The process was ended from outside, or by the kernel for lack of memory.
NO_CRASH = ("killed by signal 9", "killed by signal 15")


class Task(NamedTuple):
    """One call of a bundle's wire function: wire(entrypoint, params, seed) -> {name: bytes}.

    Attributes:
        limit_bytes: Memory limit of its process, including the imported model; 0 for no limit.
        alone: Start it when no other task of the pod runs, because it ran out of memory next to others.
        needed_bytes: Memory that it should need; 0: not known.
        threads: Native threads; 0: as the worker's variables say, else one. `direct` cannot change them.
        fresh: Run it in a process that has run no task, because it failed before; `direct` has none.
        timeout_seconds: Time limit; 0: the settings apply. `direct` has no time limits.
    """

    bundle: Bundle
    entrypoint: str
    params: dict[str, Any]
    seed: int
    limit_bytes: int = 0
    threads: int = 0
    alone: bool = False
    needed_bytes: int = 0
    fresh: bool = False
    timeout_seconds: float = 0.0


class Outcome(NamedTuple):
    """The result of one attempt at a task: a runner's Answer, and facts that its process adds.

    - "ok": `outputs` holds the wire function's bytes.
    - "failed": the model raised; `reason` is the exception's type, `error` its traceback.
    - "died": the process that ran it has ended; `reason` says how ("killed by signal 9", "TaskTimeout").

    Attributes:
        log: The end of what the model printed, at most 64 KiB, if the status is not ok.
        peak_bytes: Peak resident memory of its process, without memory that a child shares with its zygote; 0
            if not known.
        failure: What failed: "start" before the model's function was called, "model" it raised, "transient"
            it raised a transient error (a connection, a disk); "" for other ends.
        limit_bytes: Its memory limit, 0 for no limit.
        threads: Native threads, which can change the bytes; 0: not fixed.
        environment: A digest of the Python version and packages, which can change the bytes.
        runner: A short id of the process that ran the task; "" if not known.
        runner_task: The task's number in that process's life, from 1; 0 if not known.
        fallback: Why another executor than the requested one ran the task.
    """

    status: Literal["ok", "failed", "died"]
    outputs: Mapping[str, bytes] = MappingProxyType({})
    reason: str = ""
    error: str = ""
    seconds: float = 0.0
    peak_bytes: int = 0
    failure: str = ""
    log: str = ""
    threads: int = 0
    environment: str = ""
    limit_bytes: int = 0
    runner: str = ""
    runner_task: int = 0
    fallback: str = ""


def is_crash(reason: str) -> bool:
    """Whether a process ended by its own fault, not from outside."""
    return reason.startswith("killed by signal ") and reason not in NO_CRASH


class FileChanges(NamedTuple):
    """What tasks changed in a bundle's files; names are relative to the bundle.

    `written_files`: files that they wrote next to the model, now restored. `shared_files`: large files that
    they wrote to through links, so that other tasks may have read the changes.
    """

    written_files: tuple[str, ...] = ()
    shared_files: tuple[str, ...] = ()


class Executor(AbstractContextManager["Executor"], Protocol):
    """Runs tasks, one per calling thread; its processes end with the `with` block."""

    @property
    def limit(self) -> int | None:
        """The maximum number of runners; None for an executor without runners."""
        ...

    def __enter__(self) -> Self:
        return self

    def run(self, task: Task) -> Outcome: ...

    def run_all(self, tasks: Sequence[Task]) -> list[Outcome]:
        """Run tasks that differ only in params and seed, one after another."""
        ...

    def run_alone(self, task: Task) -> Outcome:
        """Run a task in a new interpreter that runs no other, independent of the executor's type."""
        ...

    def start_seconds(self, bundle: Bundle) -> float:
        """Seconds that a new interpreter took to import the model of a bundle; 0 if not known."""
        ...

    def pool(self) -> dict[str, int]:
        """Count the runners by state."""
        ...

    def file_changes(self, bundle: Bundle) -> FileChanges:
        """Report what tasks changed in the files of a bundle since the last call."""
        ...


def create(
    settings: Settings,
    memory_limit_bytes: int | None = None,
    threads: int = 1,
    *,
    echo: Callable[[bytes], object] | None = None,
    runner_limit_bytes: int = 0,
    restart: Callable[[int, bool], object] | None = None,
) -> Executor:
    """Create the executor that the settings request.

    Args:
        memory_limit_bytes: Of the worker process, None or 0 for none: it caps how many runners stay warm.
        threads: The number of threads of the process that run tasks.
        echo: Receives what models print in runners.
        runner_limit_bytes: The memory of one runner (shape.runner_limit), 0 for no limit; `direct` has none.
        restart: Ends this process for lack of memory, so that it is restarted (limits/guard.py).

    Raises:
        BadInput: The type is `none`, or is not available.
    """
    if settings.executor_type not in TYPES:
        raise BadInput(
            f"executor {settings.executor_type!r} runs no tasks; use one of {', '.join(TYPES)} "
            "(executor.type, MODELOPS_EXECUTOR_TYPE)"
        )
    if settings.executor_type == "direct":
        from modelops_dask.executors.direct import DirectExecutor

        return DirectExecutor(settings, threads, echo)
    if settings.force_fresh_venv and settings.executor_environment == "image":
        raise BadInput(
            "executor.forceFreshVenv needs executor.environment: bundle; the image's environment is shared"
        )
    from modelops_dask.executors.fork import ForkExecutor
    from modelops_dask.executors.warm import WarmExecutor

    limit = _warm_limit(settings, memory_limit_bytes, threads)
    fallback = ""
    if settings.executor_type == "isolated_fork":
        if sys.platform == "linux":
            return _limited(ForkExecutor(settings, limit, echo), settings, runner_limit_bytes, restart)
        fallback = f"forking is unsafe on {sys.platform}"
        logger.warning("executor=isolated_fork: %s; using executor=cold instead", fallback)
    if settings.executor_type in ("cold", "isolated_fork"):
        settings = replace(settings, max_process_reuse=1)
    memory_bytes = max(1, memory_limit_bytes - settings.worker_memory_bytes) if memory_limit_bytes else 0
    warm = WarmExecutor(settings, limit, echo, memory_bytes=memory_bytes, fallback=fallback)
    return _limited(warm, settings, runner_limit_bytes, restart)


def _limited(
    executor: "WarmExecutor | ForkExecutor",
    settings: Settings,
    runner_limit_bytes: int,
    restart: Callable[[int, bool], object] | None,
) -> Executor:
    """The executor with memory limits, if there are any and the system supports them."""
    if not runner_limit_bytes:
        return executor
    if sys.platform != "linux":
        logger.warning(
            "the memory of tasks is not limited or watched: that needs Linux, not %s", sys.platform
        )
        return executor
    from modelops_dask.executors.limited import LimitedExecutor
    from modelops_dask.limits import cgroup

    try:
        memory = cgroup.memory()
        limited = LimitedExecutor(executor, memory, runner_limit_bytes, settings.worker_memory_bytes, restart)
    except OSError as error:
        logger.warning("the memory of this pod is not divided among tasks or watched: %s", error)
        return executor
    logger.info(
        "memory: tasks share %d MiB (%s) with the pod's other worker processes",
        memory.limit_bytes // MIB,
        memory.limiting,
    )
    return limited


def _warm_limit(settings: Settings, memory_limit_bytes: int | None, threads: int) -> int:
    """maxWarmProcesses, or fewer if memory allows fewer, but never fewer than run at the same time."""
    if not memory_limit_bytes:
        return settings.max_warm_processes
    left_bytes = memory_limit_bytes - settings.worker_memory_bytes
    by_memory = max(left_bytes // RUNNER_MIN_BYTES, runners(threads, settings.subprocess_pool_size))
    if by_memory < settings.max_warm_processes:
        logger.info(
            "warm processes: %d instead of maxWarmProcesses=%d, because %d MiB are left for them, %d MiB "
            "each",
            by_memory,
            settings.max_warm_processes,
            left_bytes // MIB,
            RUNNER_MIN_BYTES // MIB,
        )
    return min(by_memory, settings.max_warm_processes)


def native_threads(default: int = 0) -> int:
    """Threads of OpenMP and BLAS that the variables of this process set; otherwise the default."""
    text = os.environ.get("OMP_NUM_THREADS", "")
    return int(text) if text.isdigit() else default


def make_outcome(
    answer: Answer,
    log: str,
    *,
    threads: int,
    environment: str,
    limit_bytes: int,
    runner: str = "",
    runner_task: int = 0,
    fallback: str = "",
) -> Outcome:
    """Complete a runner's answer with facts about its process.

    By position: naming all fields would take 0.3 us more of the 14 us that a task costs a worker. A test
    fails if a field is added.
    """
    return Outcome(*answer, log, threads, environment, limit_bytes, runner, runner_task, fallback)
