"""Memory of one task, as workers have it: what counts as too little, and values for more.

Shape, Settings -> here() or in_pods() -> TaskMemory -> drive.py: when to stop, what to advise

Does not know what tasks need: profile.py measures it, breaker.py sees them die.
"""

import sys
from dataclasses import dataclass

from modelops_dask.limits import cgroup
from modelops_dask.local import machine
from modelops_dask.settings import Settings
from modelops_dask.shape import MIB, Shape, fit, for_task, largest_task


@dataclass(frozen=True)
class TaskMemory:
    """`largest_bytes` is what one task, alone, can have in workers made so; 0: not known, or not limited."""

    shape: Shape
    settings: Settings
    largest_bytes: int

    def remedy(self, task_bytes: int) -> str:
        """Values by which a task can have so much."""
        own_bytes = 0 if self.settings.executor_type == "direct" else self.settings.worker_memory_bytes
        options = []
        for processes in dict.fromkeys((1, self.shape.processes)):
            larger = for_task(self.shape, processes, task_bytes, own_bytes)
            pod, process = larger.pod_memory_bytes // MIB, larger.process_memory_bytes // MIB
            options.append(f"  processes: {processes}\n  memoryPerProcess: {process}Mi  # pods of {pod}Mi")
        return (
            f"With these values in a file after -f, a task can have {task_bytes // MIB:,} MiB; "
            "the study goes on:\n\nworkers:\n" + "\n# or\nworkers:\n".join(options) + "\n\n"
            "If workers.resources.limits.memory is set, raise that to the pod's memory instead."
        )


def here(shape: Shape, settings: Settings) -> TaskMemory:
    """Of workers on this machine (local.py)."""
    if sys.platform != "linux":
        return TaskMemory(shape, settings, 0)
    fitted, _ = fit(shape, *machine())
    return _in_pod(cgroup.memory().limit_bytes, fitted.processes, shape, settings)


def in_pods(shape: Shape, settings: Settings) -> TaskMemory:
    """Of workers in pods of that shape."""
    return _in_pod(shape.pod_memory_bytes, shape.processes, shape, settings)


def _in_pod(pod_bytes: int, processes: int, shape: Shape, settings: Settings) -> TaskMemory:
    limited = settings.executor_type != "direct"
    largest_bytes = largest_task(pod_bytes, processes, settings.worker_memory_bytes) if limited else 0
    return TaskMemory(shape, settings, largest_bytes)
