"""The meaning of checked values in the engine's own types.

    values (merged with the chart's defaults) -> Shape, Settings, Dask configuration, environment

The chart's templates compute the same; tests/chart compares them. Values are checked in layers.resolve().
"""

from copy import deepcopy
from dataclasses import dataclass
from fractions import Fraction

from modelops_dask.errors import BadInput
from modelops_dask.settings import Settings
from modelops_dask.shape import SUPERVISOR_BYTES, Shape
from mops_helm.values.merge import overlay_values
from mops_helm.values.quantity import to_bytes, to_cpus
from mops_helm.values.scalars import scalar_text
from mops_helm.values.tree import ValueTree

DEFAULT_POOL = "default"


@dataclass(frozen=True)
class PodMemory:
    """A worker pod's memory in bytes, and the value that determines it."""

    count: int
    decided_by: str


def pools(values: ValueTree) -> dict[str, ValueTree]:
    """Every pool's own values, with those of `workers` filled in; the first is `default`."""
    by_name: dict[str, ValueTree | None] = {DEFAULT_POOL: {}, **(values.get("pools") or {})}
    return {name: overlay_values(values["workers"], pool or {}) for name, pool in by_name.items()}


def pod_memory(pool: ValueTree) -> PodMemory:
    """limits.memory, else requests.memory, else processes x memoryPerProcess and the supervisor's."""
    resources = pool.get("resources") or {}
    for section in ("limits", "requests"):
        if (memory := (resources.get(section) or {}).get("memory")) is not None:
            return PodMemory(to_bytes(memory), f"resources.{section}.memory")
    return PodMemory(
        pool["processes"] * to_bytes(pool["memoryPerProcess"]) + SUPERVISOR_BYTES, "memoryPerProcess"
    )


def pod_cpus(pool: ValueTree) -> Fraction | None:
    """CPUs that a worker pod can rely on: its request, else its limit, else None."""
    resources = pool.get("resources") or {}
    for section in ("requests", "limits"):
        if (cpus := (resources.get(section) or {}).get("cpu")) is not None:
            return to_cpus(cpus)
    return None


def shape(values: ValueTree, pool: str = DEFAULT_POOL) -> Shape:
    """A pool's pods (the minimum, if autoscaled), processes, threads and memory. Raises BadInput for an
    unknown pool.
    """
    pools_by_name = pools(values)
    if pool not in pools_by_name:
        raise BadInput(f"no pool {pool}; the pools are {', '.join(pools_by_name)}")
    pool_values = pools_by_name[pool]
    scaling = pool_values.get("autoscaling") or {}
    return Shape(
        replicas=scaling["minReplicas"] if scaling.get("enabled") else pool_values["replicas"],
        processes=pool_values["processes"],
        threads=pool_values["threads"],
        pod_memory_bytes=pod_memory(pool_values).count,
        resources={name: float(count) for name, count in (pool_values.get("daskResources") or {}).items()},
    )


def settings(values: ValueTree, pool: str = DEFAULT_POOL) -> Settings:
    """The settings that a pool's workers read from their environment."""
    executor = values["executor"]
    return Settings(
        preset=values.get("preset", ""),
        executor_type=executor["type"],
        executor_environment=executor["environment"],
        executor_python=executor["python"],
        python_downloads=executor["pythonDownloads"],
        worker_memory_bytes=to_bytes(executor["workerMemory"]),
        max_warm_processes=executor["maxWarmProcesses"],
        subprocess_pool_size=executor["subprocessPoolSize"],
        max_process_reuse=executor["maxProcessReuse"],
        process_ttl_seconds=executor["processTTLSeconds"],
        force_fresh_venv=executor["forceFreshVenv"],
        validate_deps=executor["validateDeps"],
        private_files=executor["privateFiles"],
        scratch_bytes=to_bytes(pools(values)[pool]["scratch"]["sizeLimit"]),
        task_timeout_seconds=executor["taskTimeoutSeconds"],
    )


def dask_config(values: ValueTree) -> ValueTree:
    """Dask's configuration, nested, as it is mounted in every pod."""
    config: ValueTree = (values.get("dask") or {}).get("config") or {}
    return deepcopy(config)


def worker_env(values: ValueTree, pool: str = DEFAULT_POOL) -> dict[str, str]:
    """A pool's own environment variables; those with valueFrom exist only in a cluster and are left out."""
    variables = pools(values)[pool].get("env") or {}
    return {name: scalar_text(value) for name, value in variables.items() if not isinstance(value, dict)}
