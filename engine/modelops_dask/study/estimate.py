"""Estimate the duration of a study in a shape, and whether its tasks fit, from measurements.

Profile, tasks, Shape, Settings -> Estimate

Seconds are those of the measured machine; a cluster's CPUs may differ.
"""

from dataclasses import dataclass

from modelops_dask.settings import Settings
from modelops_dask.shape import Shape, runner_limit, runners
from modelops_dask.store.profile import Profile

MARGIN = 1.2  # multiple of the highest measured peak: among more tasks some are larger


@dataclass(frozen=True)
class Estimate:
    """Bytes are those of one task."""

    profile: Profile
    side_by_side: int
    seconds: float  # wall-clock time of all tasks
    needed_bytes: int  # memory that a task should have; 0 if peaks are not known
    limit_bytes: int  # memory that it has, with as many others

    @property
    def fits(self) -> bool:
        return self.needed_bytes <= self.limit_bytes


def estimate(profile: Profile, n_tasks: int, shape: Shape, settings: Settings) -> Estimate:
    """Estimate `n_tasks` in pods of this shape."""
    count = runners(shape.threads, settings.subprocess_pool_size)
    in_worker_process = settings.executor_type in ("direct", "none")  # tasks share the worker's process
    count = shape.threads if in_worker_process else count
    side_by_side = shape.replicas * shape.processes * count
    limit_bytes = runner_limit(
        shape.process_memory_bytes, 0 if in_worker_process else settings.worker_memory_bytes, count
    )
    seconds = profile.mean_seconds * n_tasks / min(side_by_side, n_tasks)
    return Estimate(
        profile=profile,
        side_by_side=side_by_side,
        seconds=seconds,
        needed_bytes=needed_bytes(profile),
        limit_bytes=limit_bytes,
    )


def needed_bytes(profile: Profile) -> int:
    """Bytes that a task should have; 0 if peaks are not known."""
    return int(max(profile.most_peak_bytes * MARGIN, 2 * profile.most_limit_bytes))
