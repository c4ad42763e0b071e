"""The meaning of values in pods, processes, threads and bytes, before anything is installed.

    merged values -> Explanation (one PoolExplanation per pool) -> render.explanation

It includes advice of the guides' tuning table that follows from the values alone: processor time, memory,
isolation. Nothing is measured here, and the model is not known.
"""

from dataclasses import dataclass, replace
from fractions import Fraction

from modelops_dask.settings import Settings
from modelops_dask.shape import MIB, RUNNER_MIN_BYTES, Shape, runner_limit, runners
from mops_helm.values import effective
from mops_helm.values.quantity import text_of
from mops_helm.values.tree import ValueTree

ROOMY_RUNNER_BYTES = 512 * MIB
THRESHOLDS = ("target", "spill", "pause", "terminate")


@dataclass(frozen=True)
class SpillPoint:
    """A threshold of Dask's worker memory manager, for one process. None: off."""

    name: str
    fraction: float | None
    at_bytes: int | None


@dataclass(frozen=True)
class PoolExplanation:
    """One pool. Bytes are per pod, per worker process and per runner, as the names say."""

    name: str
    shape: Shape
    max_replicas: int  # more than shape.replicas only while autoscaling
    memory_decided_by: str
    cpus: Fraction | None
    spill_points: tuple[SpillPoint, ...]
    runners: int  # per worker process, at the same time; 0 if tasks run in the worker's own process
    runner_limit_bytes: int | None
    warm_processes: int  # processes x maxWarmProcesses x replicas
    command: str
    advice: tuple[str, ...]


@dataclass(frozen=True)
class Explanation:
    """All pools of the values, and their common settings."""

    preset: str
    settings: Settings
    pools: tuple[PoolExplanation, ...]


def explain(values: ValueTree) -> Explanation:
    """The meaning of checked, merged values."""
    settings = effective.settings(values)
    memory = _memory_config(effective.dask_config(values))
    pools = [_explain_pool(values, name, settings, memory) for name in effective.pools(values)]
    return Explanation(values.get("preset", ""), settings, tuple(pools))


def spill_points(process_bytes: int, memory: ValueTree) -> tuple[SpillPoint, ...]:
    """When one process starts to spill, pauses and is ended; `memory` is distributed.worker.memory."""
    points = []
    for name in THRESHOLDS:
        fraction = memory.get(name)
        if fraction is None or isinstance(fraction, bool):  # false is off
            points.append(SpillPoint(name, None, None))
        else:
            points.append(SpillPoint(name, fraction, int(process_bytes * Fraction(str(fraction)))))
    return tuple(points)


def _memory_config(config: ValueTree) -> ValueTree:
    memory = config.get("distributed", {}).get("worker", {}).get("memory", {})
    return memory if isinstance(memory, dict) else {}


def _explain_pool(values: ValueTree, name: str, settings: Settings, memory: ValueTree) -> PoolExplanation:
    pool = effective.pools(values)[name]
    shape = effective.shape(values, name)
    scaling = pool.get("autoscaling") or {}
    process_bytes = shape.process_memory_bytes
    isolated = settings.executor_type not in ("direct", "none")
    n_side_by_side = runners(shape.threads, settings.subprocess_pool_size) if isolated else 0
    runner_limit_bytes = (
        runner_limit(process_bytes, settings.worker_memory_bytes, n_side_by_side) if isolated else None
    )
    max_replicas = scaling["maxReplicas"] if scaling.get("enabled") else shape.replicas
    n_warm = settings.max_warm_processes if settings.executor_type == "isolated_warm" else 0
    explanation = PoolExplanation(
        name=name,
        shape=shape,
        max_replicas=max_replicas,
        memory_decided_by=effective.pod_memory(pool).decided_by,
        cpus=effective.pod_cpus(pool),
        spill_points=spill_points(process_bytes, memory),
        runners=n_side_by_side,
        runner_limit_bytes=runner_limit_bytes,
        warm_processes=shape.processes * n_warm * max_replicas,
        command=_command(shape),
        advice=(),
    )
    return replace(explanation, advice=tuple(_advise(explanation, settings)))


def _command(shape: Shape) -> str:
    line = (
        f"dask worker tcp://SCHEDULER:8786 --nworkers {shape.processes} --nthreads {shape.threads}"
        f" --memory-limit {shape.process_memory_bytes}"
    )
    if shape.resources:
        amounts = " ".join(f"{name}={amount:g}" for name, amount in shape.resources.items())
        line += f' --resources "{amounts}"'
    return line


def _advise(pool: PoolExplanation, settings: Settings) -> list[str]:
    """Advice of the guides' tuning table that follows from values alone."""
    lines = []
    n_side_by_side = pool.shape.processes * (pool.runners or pool.shape.threads)
    if pool.cpus is None:
        lines.append(
            "No CPU is requested: under load, a pod may get almost none. Set resources.requests.cpu."
        )
    elif n_side_by_side > pool.cpus:
        lines.append(
            f"{n_side_by_side} tasks at once on {float(pool.cpus):g} CPUs: each gets a part of one. "
            "Use fewer processes, or more resources.requests.cpu."
        )
    elif pool.cpus >= 2 * n_side_by_side:
        lines.append(
            f"{n_side_by_side} tasks at once on {float(pool.cpus):g} CPUs: tasks queue while CPUs are idle, "
            "unless each uses several threads. Use more processes, or fewer CPUs."
        )
    if not pool.runners and pool.shape.threads > 1:
        lines.append(
            f"{pool.shape.threads} threads share one interpreter ({settings.executor_type}): pure Python "
            "does not run in parallel. If CPU use is low, use more processes and fewer threads."
        )
    if pool.shape.processes == 1 and pool.cpus is not None and pool.memory_decided_by != "memoryPerProcess":
        lines.append(
            f"One process has the whole pod's {text_of(pool.shape.pod_memory_bytes)}. Set memoryPerProcess "
            "instead, so that the pod's memory follows the number of processes."
        )
    if pool.runner_limit_bytes is not None and pool.runner_limit_bytes < ROOMY_RUNNER_BYTES:
        lines.append(
            f"A runner has {pool.runner_limit_bytes // MIB}Mi; a model with starsim loaded takes 330Mi. "
            "If tasks run out of memory, raise memoryPerProcess, or lower processes or threads."
        )
    if settings.executor_type == "direct":
        lines.append(
            "direct keeps all state between tasks and cannot end a task that hangs: use it for debugging."
        )
    if pool.runner_limit_bytes is not None and settings.executor_type == "isolated_warm":
        fits = max(1, pool.runner_limit_bytes * pool.runners // RUNNER_MIN_BYTES)
        if settings.max_warm_processes > fits:
            lines.append(
                f"Memory holds about {fits} warm processes per worker process, not "
                f"{settings.max_warm_processes}: the least used end early, which matters with many bundles."
            )
    return lines
