"""Memory of one task, from the shape and the settings of workers: how much there is, and values for more."""

import sys

from modelops_dask.local import machine
from modelops_dask.settings import Settings
from modelops_dask.shape import MIB, Shape, fit, for_task


def largest_task(shape: Shape | None, settings: Settings) -> int:
    """Bytes that one task, alone, can have in workers on this machine; 0: not known, or not limited."""
    if shape is None or settings.executor_type == "direct" or sys.platform != "linux":
        return 0
    from modelops_dask.executors import limited
    from modelops_dask.limits import cgroup

    fitted, _ = fit(shape, *machine())
    return limited.largest_task(cgroup.memory(), fitted.processes, settings.worker_memory_bytes)


def remedy(shape: Shape | None, settings: Settings, task_bytes: int) -> str:
    """Values by which a task can have so much; "" for workers of which nothing is known."""
    if shape is None:
        return ""
    worker_bytes = 0 if settings.executor_type == "direct" else settings.worker_memory_bytes
    options = []
    for processes in dict.fromkeys((1, shape.processes)):
        larger = for_task(shape, processes, task_bytes, worker_bytes)
        pod, process = larger.pod_memory_bytes // MIB, larger.process_memory_bytes // MIB
        options.append(f"  processes: {processes}\n  memoryPerProcess: {process}Mi  # pods of {pod}Mi")
    return (
        f"With these values in a file after -f, a task can have {task_bytes // MIB:,} MiB; the study goes on:"
        "\n\nworkers:\n" + "\n# or\nworkers:\n".join(options) + "\n\n"
        "If workers.resources.limits.memory is set, raise that to the pod's memory instead."
    )
