"""Whether a pod, or this machine, allows the processes and threads of a shape.

    shape, settings, native threads -> ProcessNeed -> describe_shortage(), a finding as text
    limits/process_count.py, the limits            ->

The kernel counts threads as processes. Shapes do not include those that a model
starts. Nothing is prevented here: a process that cannot start fails, and its task reports it
(executors/shortage.py).
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from modelops_dask.executors import native_threads
from modelops_dask.limits import process_count
from modelops_dask.limits.pod import POD
from modelops_dask.settings import Settings
from modelops_dask.shape import runners

SUPERVISOR_THREADS = 10  # of `dask worker`, and its helper: measured
WORKER_THREADS = 24  # of a worker process besides those that run tasks: 7 idle; Arrow and the store add more
FORK_PROCESSES = 2  # besides a task's own: its zygote, and the child that waits for the next task


@dataclass(frozen=True)
class ProcessNeed:
    """What counts in a pod. `native_threads` are those of each runner, including its main thread."""

    processes: int
    threads: int
    runners: int
    native_threads: int
    forks: bool = False

    @property
    def total(self) -> int:
        """Processes and threads of the whole pod."""
        runner_threads = self.native_threads + (FORK_PROCESSES if self.forks else 0)
        return SUPERVISOR_THREADS + self.processes * (
            WORKER_THREADS + self.threads + self.runners * runner_threads
        )

    def __str__(self) -> str:
        native = f"{self.native_threads} native threads"
        runner = f"({native} + {FORK_PROCESSES})" if self.forks else native
        return (
            f"{self.total:,} = {SUPERVISOR_THREADS} + {self.processes} processes x ({WORKER_THREADS} + "
            f"{self.threads} threads + {self.runners} runners x {runner})"
        )


def compute_need(processes: int, threads: int, settings: Settings, native: int) -> ProcessNeed:
    """The needs of worker processes started with this shape. `native` threads of each runner."""
    runs_here = settings.executor_type in ("direct", "none")
    return ProcessNeed(
        processes=processes,
        threads=threads,
        runners=1 if runs_here else runners(threads, settings.subprocess_pool_size),
        native_threads=native,
        forks=settings.executor_type == "isolated_fork",
    )


def describe_shortage(need: ProcessNeed, allowed: int, source: str) -> str:
    """A finding if the need exceeds the limit; otherwise ""."""
    if need.total <= allowed:
        return ""
    return (
        f"PROCESS_LIMIT: {source} allows {allowed:,} processes and threads, but these workers need up to "
        f"{need}. Lower workers.processes, workers.threads, executor.subprocessPoolSize or OMP_NUM_THREADS "
        "(workers.env), or raise the limit (Kubernetes: podPidsLimit of the kubelet)"
    )


def check_here(processes: int, threads: int, settings: Settings, env: Mapping[str, str]) -> str:
    """A finding on workers to be started on this machine, in addition to its running processes."""
    limit = process_count.tightest() if sys.platform == "linux" else None
    if limit is None:
        return ""
    text = env.get("OMP_NUM_THREADS", "")
    native = int(text) if text.isdigit() else native_threads(default=1)
    return describe_shortage(compute_need(processes, threads, settings, native), limit.room, limit.source)


def check_pod(threads: int, settings: Settings) -> str:
    """A finding of a worker process on its pod, which should run nothing but such processes."""
    limits = process_count.limits() if sys.platform == "linux" else []
    n_processes = _count_workers(POD)
    if not limits or not n_processes:
        return ""
    need = compute_need(n_processes, threads, settings, native_threads(default=1))
    least = min(limits, key=lambda limit: limit.most)
    return describe_shortage(need, least.most, least.source)


def _count_workers(supervisor_pid: int) -> int:
    """The number of worker processes that `dask worker` starts, from its command line; 0: another program."""
    try:
        words = Path(f"/proc/{supervisor_pid}/cmdline").read_text().split("\0")
        return int(words[words.index("--nworkers") + 1])
    except (OSError, ValueError, IndexError):
        return 0
