"""What values mean in pods, processes, threads and bytes, before anything is installed.

    merged values -> Explained (one PoolExplained a pool) -> render.explanation

Also says what the values alone tell about the guides' tuning table: processor time, memory, isolation.
Does not measure anything and does not know the model.
"""

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from modelops_dask.settings import Settings
from modelops_dask.shape import CHILD_MIN_BYTES, MIB, Shape, child_limit, runners
from mops_helm.values import effective
from mops_helm.values.quantity import text_of

ROOMY_CHILD_BYTES = 512 * MIB
THRESHOLDS = ("target", "spill", "pause", "terminate")


@dataclass(frozen=True)
class SpillPoint:
    """A threshold of Dask's worker memory manager, for one process. None: off."""

    name: str
    fraction: float | None
    at_bytes: int | None


@dataclass(frozen=True)
class PoolExplained:
    """One pool. Bytes are per pod, per worker process and per runner, as the names say."""

    name: str
    shape: Shape
    most_replicas: int  # more than shape.replicas only while autoscaling
    memory_decided_by: str
    cpus: Fraction | None
    spill_points: tuple[SpillPoint, ...]
    runners: int  # per worker process, side by side; 0 when tasks run in the worker's own process
    child_bytes: int | None
    warm_processes: int  # processes x maxWarmProcesses x replicas
    command: str
    advice: tuple[str, ...]


@dataclass(frozen=True)
class Explained:
    preset: str
    settings: Settings
    pools: tuple[PoolExplained, ...]


def explain(values: dict[str, Any]) -> Explained:
    """The meaning of checked, merged values."""
    settings = effective.settings(values)
    memory = _memory_config(effective.dask_config(values))
    described = [_pool(values, name, settings, memory) for name in effective.pools(values)]
    return Explained(values.get("preset", ""), settings, tuple(described))


def spill_points(process_bytes: int, memory: dict[str, Any]) -> tuple[SpillPoint, ...]:
    """Where one process starts to spill, pauses and is ended; `memory` is distributed.worker.memory."""
    points = []
    for name in THRESHOLDS:
        fraction = memory.get(name)
        if fraction is None or isinstance(fraction, bool):  # false is off
            points.append(SpillPoint(name, None, None))
        else:
            points.append(SpillPoint(name, fraction, int(process_bytes * Fraction(str(fraction)))))
    return tuple(points)


def _memory_config(config: dict[str, Any]) -> dict[str, Any]:
    memory = config.get("distributed", {}).get("worker", {}).get("memory", {})
    return memory if isinstance(memory, dict) else {}


def _pool(values: dict[str, Any], name: str, settings: Settings, memory: dict[str, Any]) -> PoolExplained:
    pool = effective.pools(values)[name]
    shape = effective.shape(values, name)
    scaling = pool.get("autoscaling") or {}
    process_bytes = shape.process_memory_bytes
    isolated = settings.executor_type not in ("direct", "none")
    side_by_side = runners(shape.threads, settings.subprocess_pool_size) if isolated else 0
    child = child_limit(process_bytes, settings.worker_memory_bytes, side_by_side) if isolated else None
    most = scaling["maxReplicas"] if scaling.get("enabled") else shape.replicas
    warm = settings.max_warm_processes if settings.executor_type == "isolated_warm" else 0
    described = PoolExplained(
        name=name,
        shape=shape,
        most_replicas=most,
        memory_decided_by=effective.pod_memory(pool).decided_by,
        cpus=effective.pod_cpus(pool),
        spill_points=spill_points(process_bytes, memory),
        runners=side_by_side,
        child_bytes=child,
        warm_processes=shape.processes * warm * most,
        command=_command(shape),
        advice=(),
    )
    return PoolExplained(**{**vars(described), "advice": tuple(_advice(described, settings))})


def _command(shape: Shape) -> str:
    line = (
        f"dask worker tcp://SCHEDULER:8786 --nworkers {shape.processes} --nthreads {shape.threads}"
        f" --memory-limit {shape.process_memory_bytes}"
    )
    if shape.resources:
        amounts = " ".join(f"{name}={amount:g}" for name, amount in shape.resources.items())
        line += f' --resources "{amounts}"'
    return line


def _advice(pool: PoolExplained, settings: Settings) -> list[str]:
    """What the guides' tuning table can tell from values alone."""
    said = []
    side_by_side = pool.shape.processes * (pool.runners or pool.shape.threads)
    if pool.cpus is None:
        said.append("No CPU is requested: under load a pod may get next to none. Set resources.requests.cpu.")
    elif side_by_side > pool.cpus:
        said.append(
            f"{side_by_side} tasks at once on {float(pool.cpus):g} CPUs: each gets a part of one. "
            "Fewer processes, or more resources.requests.cpu."
        )
    elif pool.cpus >= 2 * side_by_side:
        said.append(
            f"{side_by_side} tasks at once on {float(pool.cpus):g} CPUs: tasks queue while CPUs idle, "
            "unless each uses several threads. More processes, or fewer CPUs."
        )
    if not pool.runners and pool.shape.threads > 1:
        said.append(
            f"{pool.shape.threads} threads share one interpreter ({settings.executor_type}): pure Python "
            "does not run side by side. Low CPU use? Trade threads for processes."
        )
    if pool.shape.processes == 1 and pool.cpus is not None and pool.memory_decided_by != "memoryPerProcess":
        said.append(
            f"One process has the whole pod's {text_of(pool.shape.pod_memory_bytes)}. State memoryPerProcess "
            "instead, and the pod's memory follows the processes."
        )
    if pool.child_bytes is not None and pool.child_bytes < ROOMY_CHILD_BYTES:
        said.append(
            f"A runner has {pool.child_bytes // MIB}Mi; a model with starsim loaded takes 330Mi. "
            "Out of memory? Raise memoryPerProcess, or lower processes or threads."
        )
    if settings.executor_type == "direct":
        said.append("direct keeps all state between tasks and ends nothing that hangs: for debugging.")
    if pool.child_bytes is not None and settings.executor_type == "isolated_warm":
        fits = max(1, pool.child_bytes * pool.runners // CHILD_MIN_BYTES)
        if settings.max_warm_processes > fits:
            said.append(
                f"Memory holds about {fits} warm processes per worker process, not "
                f"{settings.max_warm_processes}: the least used end early, which matters with many bundles."
            )
    return said
