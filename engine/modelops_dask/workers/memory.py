"""The memory of one task in workers: when it is too little, and values for more.

    Shape, Settings -> compute_local(), compute_for_pods() -> TaskMemory -> drive.py: when to stop, advice
    a Dask client   -> ask_workers()                       -> TaskMemory

The needs of tasks are not known here: profile.py measures them, breaker.py counts their deaths.
"""

import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from modelops_dask.limits import cgroup
from modelops_dask.settings import Settings
from modelops_dask.shape import MIB, Shape, fit, for_task, largest_task
from modelops_dask.workers.local import machine
from modelops_dask.workers.remote import SchedulerLost, asking

if TYPE_CHECKING:
    from distributed import Client, Worker

HEADROOM = 1.2  # multiple of the memory that a worker process held when it was ended, for the advice
STEP_BYTES = 64 * MIB


@dataclass(frozen=True)
class TaskMemory:
    """`largest_bytes` is the memory that one task, alone, can have in such workers; 0: not known, or not
    limited. `values_source` names the values for users.
    """

    shape: Shape
    settings: Settings
    largest_bytes: int
    values_source: str = "in a file after -f"

    def remedy(self, task_bytes: int) -> str:
        """Suggest values with which a task can have that much memory."""
        own_bytes = 0 if self.settings.executor_type == "direct" else self.settings.worker_memory_bytes
        options = []
        for processes in dict.fromkeys((1, self.shape.processes)):
            larger = for_task(self.shape, processes, task_bytes, own_bytes)
            pod, process = larger.pod_memory_bytes // MIB, larger.process_memory_bytes // MIB
            options.append(f"  processes: {processes}\n  memoryPerProcess: {process}Mi  # pods of {pod}Mi")
        return (
            f"With these values {self.values_source}, a task can use {task_bytes // MIB:,} MiB; "
            "then the study continues:\n\nworkers:\n" + "\n# or\nworkers:\n".join(options) + "\n\n"
            "If workers.resources.limits.memory is set, raise it to the pod's memory instead."
        )


def explain_worker_memory(held_bytes: int, memory: TaskMemory | None) -> str:
    """Explain why a worker process that itself held this much was ended, and which values help, in a line."""
    settings = memory.settings if memory else Settings()
    planned_bytes = settings.worker_memory_bytes
    process_bytes = memory.shape.process_memory_bytes if memory else 0
    holding = f"The worker process held {held_bytes // MIB:,} MiB"
    if settings.executor_type == "direct":
        return f"{holding}, its task included. {_set(memory_per_process=2 * process_bytes)}"
    wanted_bytes = max(_rounded_up(HEADROOM * held_bytes), 2 * planned_bytes)
    return (
        f"{holding} itself, but {planned_bytes // MIB:,} MiB are planned for it and its tasks' outputs. "
        + _set(process_bytes and process_bytes + wanted_bytes - planned_bytes, wanted_bytes)
    )


def _set(memory_per_process: int, worker_memory: int = 0) -> str:
    """Format values to paste; 0 bytes: not known."""
    values = [f"executor.workerMemory={worker_memory // MIB}Mi"] if worker_memory else []
    if memory_per_process:
        values.append(f"workers.memoryPerProcess={memory_per_process // MIB}Mi")
    return f"Use --set {','.join(values)} --retry poisoned" if values else "Use more workers.memoryPerProcess"


def _rounded_up(size_bytes: float) -> int:
    return -(-int(size_bytes) // STEP_BYTES) * STEP_BYTES


def compute_local(shape: Shape, settings: Settings) -> TaskMemory:
    """Memory of a task in workers on this machine (local.py)."""
    if sys.platform != "linux":
        return TaskMemory(shape, settings, 0)
    fitted, _ = fit(shape, *machine())
    return _in_pod(cgroup.memory().limit_bytes, fitted.processes, shape, settings)


def compute_for_pods(shape: Shape, settings: Settings) -> TaskMemory:
    """Memory of a task in pods of that shape."""
    return _in_pod(shape.pod_memory_bytes, shape.processes, shape, settings)


def _in_pod(pod_bytes: int, processes: int, shape: Shape, settings: Settings) -> TaskMemory:
    limited = settings.executor_type != "direct"
    largest_bytes = largest_task(pod_bytes, processes, settings.worker_memory_bytes) if limited else 0
    return TaskMemory(shape, settings, largest_bytes)


def ask_workers(client: "Client", resources: Mapping[str, float]) -> TaskMemory | None:
    """Ask the workers with these Dask resources how much memory a task has there.

    If they differ, returns the maximum, because another task may go there. None if none answers.
    """
    try:
        with asking(client):
            descriptions = [
                answer
                for answer in client.run(_describe_worker, on_error="return").values()
                if isinstance(answer, dict)
            ]
    except SchedulerLost:  # the code that needs it will report it
        return None
    processes = Counter(description["pod"] for description in descriptions)
    memories = [
        compute_for_pods(
            Shape(1, processes[description["pod"]], description["threads"], description["pod_bytes"]),
            Settings.from_env(description["settings"]),
        )
        for description in descriptions
        if all(description["offers"].get(name, 0) >= needed for name, needed in resources.items())
    ]
    best = max(memories, key=lambda memory: memory.largest_bytes, default=None)
    return best and replace(best, values_source="in the workers' release")


def _describe_worker(dask_worker: "Worker") -> dict[str, Any] | None:
    """On a worker: its pod, the pod's memory, and how it was started; None without the preload."""
    from modelops_dask.limits import pod
    from modelops_dask.workers.runtime import runtime_of

    runtime = runtime_of(dask_worker)
    if runtime is None:
        return None
    return {
        "pod": (dask_worker.ip, pod.POD),
        "pod_bytes": cgroup.memory().limit_bytes,
        "offers": dict(dask_worker.state.total_resources),
        "threads": dask_worker.state.nthreads,
        "settings": runtime.settings.to_env(),
    }
