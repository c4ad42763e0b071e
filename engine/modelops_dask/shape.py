"""The shape of a worker pool and the division of its memory.

    pod memory -> without the supervising process -> a limit per Dask worker process
               -> without that process itself -> a limit per runner that it starts

The chart's templates use the same arithmetic; tests/chart compares the two. This module does not read values
files or start anything: mops_helm.values.effective and workers/local.py do.
"""

import math
from dataclasses import dataclass, field, replace

MIB = 1024 * 1024  # bytes; all other modules import it
SUPERVISOR_BYTES = 96 * MIB  # `dask worker` itself: 42 MiB measured with 4 processes, plus headroom
USABLE = 0.9  # share of a pod's memory above which the guard ends tasks (limits/guard.py)
RUNNER_MIN_BYTES = 64 * MIB  # the minimum for a runner to import numpy and pandas
# The copies of a task's outputs that a worker process holds: while it receives them from a runner, and while
# it encodes them. It also holds itself and the encoded data of the part. Dask ends it at 98% of its limit.
COPIES_RECEIVED, COPIES_ENCODED = 2.25, 6.5
WORKER_OWN_BYTES = 192 * MIB
WAITING_BYTES = 16 * MIB  # outputs of earlier tasks that are encoded together with them
FILLED = 0.95


@dataclass(frozen=True)
class Shape:
    """Pods of Dask worker processes. Memory is in bytes; `resources` are Dask's, per process."""

    replicas: int
    processes: int
    threads: int
    pod_memory_bytes: int
    resources: dict[str, float] = field(default_factory=dict)

    @property
    def process_memory_bytes(self) -> int:
        """--memory-limit of one worker process."""
        return process_limit(self.pod_memory_bytes, self.processes)

    @property
    def slots(self) -> int:
        """The number of tasks that run at the same time: one per thread of each worker process."""
        return self.replicas * self.processes * self.threads


def process_limit(pod_bytes: int, processes: int) -> int:
    """Bytes for --memory-limit: the pod's memory without the supervisor's, divided among the processes."""
    return (pod_bytes - SUPERVISOR_BYTES) // processes


def runners(threads: int, subprocess_pool_size: int) -> int:
    """The number of runner processes that one worker process keeps busy at the same time."""
    return max(threads, subprocess_pool_size)


def runner_limit(process_bytes: int, worker_bytes: int, runner_count: int) -> int:
    """Bytes for one runner: the process's limit without the worker's needs, divided among its runners."""
    return (process_bytes - worker_bytes) // runner_count


def most_received(process_bytes: int, runner_count: int) -> int:
    """The bytes of outputs that each runner of a worker process may send it at the same time."""
    return max(0, int(_room_for_outputs(process_bytes) / (COPIES_RECEIVED * runner_count)))


def most_stored(process_bytes: int, runner_count: int) -> int:
    """The bytes of one task's outputs that a worker process can store while its other runners send theirs."""
    copies = COPIES_ENCODED + COPIES_RECEIVED * (runner_count - 1)
    return max(0, int(_room_for_outputs(process_bytes) / copies) - WAITING_BYTES)


def _room_for_outputs(process_bytes: int) -> float:
    return FILLED * process_bytes - WORKER_OWN_BYTES


def for_task(shape: Shape, processes: int, task_bytes: int, worker_bytes: int) -> Shape:
    """The shape with `processes` per pod in which one task, running alone, can hold task_bytes."""
    pod_bytes = math.ceil((task_bytes + processes * worker_bytes) / USABLE)
    step = 64 * MIB * processes
    process_bytes = -(-(pod_bytes - SUPERVISOR_BYTES) // step) * step // processes
    return replace(shape, processes=processes, pod_memory_bytes=processes * process_bytes + SUPERVISOR_BYTES)


def largest_task(pod_bytes: int, processes: int, worker_bytes: int) -> int:
    """The bytes that one task, running alone, can hold in a pod of n_processes."""
    return int(USABLE * pod_bytes) - processes * worker_bytes


def fit(shape: Shape, cpus: int, memory_bytes: int) -> tuple[Shape, list[str]]:
    """The largest part of a shape that this machine can run, and a description of the reduction.

    Threads and memory per process do not change, because they affect results and failures. All processes are
    in one pod; at least one remains.
    """
    n_processes = shape.replicas * shape.processes
    by_cpu = max(1, cpus // shape.threads)
    by_memory = max(1, memory_bytes // max(1, shape.process_memory_bytes))
    count = min(n_processes, by_cpu, by_memory)
    reductions = []
    if count < n_processes:
        reason = f"{cpus} CPUs" if by_cpu <= by_memory else f"{memory_bytes // MIB:,} MiB of memory"
        reductions.append(
            f"{n_processes} processes ({shape.replicas} pods x {shape.processes}) reduced to {count}, "
            f"each as large as in a pod, because this machine has {reason}"
        )
    pod_bytes = shape.process_memory_bytes * count + SUPERVISOR_BYTES
    return replace(shape, replicas=1, processes=count, pod_memory_bytes=pod_bytes), reductions
