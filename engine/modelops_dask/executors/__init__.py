"""Where tasks run: in the worker's process, in a warm runner, in a fork of one, in a new interpreter.

    Task -> Executor.run -> Outcome

A task's failure is an Outcome; an exception from run() is the executor's own fault.
Which isolation each type promises: docs/executors.md.
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

TYPES = ("isolated_warm", "isolated_fork", "cold", "direct")  # all but `none`, which is plain Dask
# Somebody ended it, or the kernel for want of memory.
NO_CRASH = ("killed by signal 9", "killed by signal 15")


class Task(NamedTuple):
    """One call of a bundle's wire function: wire(entrypoint, params, seed) -> {name: bytes}.

    `limit_bytes` is what its process may hold, the imported model included; 0 for no limit. `alone`: begin it
    when no other task of the pod runs, for it died of want of memory beside others. `needed_bytes` is what it
    should need; 0: not known. `threads` of native code are its own; 0: as the worker's variables say, else
    one. `direct` cannot change them. `fresh`: in a process that has run no task, for it failed before;
    `direct` has none. `timeout_seconds` limits it in time; 0: as the settings say. `direct` cannot.
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
    """What became of one attempt at a task: a runner's Answer, and what its process can add.

    ok: `outputs` holds the wire function's bytes. failed: the model raised; `reason` is the exception's type,
    `error` its traceback. died: the process that ran it is gone; `reason` says how ("killed by signal 9",
    "TaskTimeout"). `log` is the end of what the model printed, at most 64 KiB, when the status is not ok.
    `peak_bytes` is the most memory that its process had resident, less what a child shares with its zygote; 0
    if not known. `failure` is what failed: "start" before the model's function was entered, "model" it
    raised, "transient" it raised what may pass (a connection, a disk); "" for other ends. `limit_bytes` is
    what it might have held, 0 for no limit. `threads` (of native code; 0: not fixed) and `environment` (a
    digest of the Python version and packages) can change the bytes. `runner` is a short id of the process
    that ran the task, `runner_task` the task's number in its life, from 1; "" and 0 where that is not known.
    `fallback` says why another executor ran the task than was asked for.
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
    """Whether a process ended by a fault of its own, not because somebody ended it."""
    return reason.startswith("killed by signal ") and reason not in NO_CRASH


class FileChanges(NamedTuple):
    """What tasks did to a bundle's files; names within the bundle.

    `written_files`: what they wrote beside the model, and was put back. `shared_files`: large files that they
    wrote to through links, so that other tasks may have read what they wrote.
    """

    written_files: tuple[str, ...] = ()
    shared_files: tuple[str, ...] = ()


class Executor(AbstractContextManager["Executor"], Protocol):
    """Runs tasks, one per calling thread; its processes end when the `with` does."""

    @property
    def limit(self) -> int | None:
        """The most runners there can be; None for an executor that has none."""
        ...

    def __enter__(self) -> Self:
        return self

    def run(self, task: Task) -> Outcome: ...

    def run_all(self, tasks: Sequence[Task]) -> list[Outcome]:
        """Run tasks that differ in params and seed only, one after another."""
        ...

    def run_alone(self, task: Task) -> Outcome:
        """Run a task in a new interpreter that runs no other, whatever the executor does otherwise."""
        ...

    def start_seconds(self, bundle: Bundle) -> float:
        """How long a new interpreter took to import the model of a bundle; 0 while that is not known."""
        ...

    def pool(self) -> dict[str, int]:
        """Count the runners by state."""
        ...

    def file_changes(self, bundle: Bundle) -> FileChanges:
        """Report what tasks did to the files of a bundle since the last call."""
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
    """The executor that the settings ask for. Raises BadInput for `none`, and what cannot be had.

    memory_limit_bytes is that of the worker process, None or 0 for none: it caps how many runners stay warm.
    threads is how many threads of the process run tasks. echo receives what models print in runners.
    runner_limit_bytes is the memory of one runner (shape.runner_limit), 0 for no limits; `direct` has none.
    restart ends this process for want of memory, so that it is started again (limits/guard.py).
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
    """The executor with limits of memory, where there are any and the system can have them."""
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
    """maxWarmProcesses, or what memory holds if that is less, but never fewer than run side by side."""
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
    """Threads of OpenMP and BLAS, as the variables of this process fix them; default where they do not."""
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
    """Complete a runner's answer by what its process knows.

    By position: naming all fields would take 0.3 us more of the 14 us that a task costs a worker. A test
    fails when a field is added.
    """
    return Outcome(*answer, log, threads, environment, limit_bytes, runner, runner_task, fallback)
