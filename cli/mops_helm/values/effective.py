"""What checked values amount to, in the engine's own types.

    values (merged with the chart's defaults) -> Shape, Settings, Dask configuration, environment

The chart's templates compute the same; tests/chart compares. Does not check: layers.resolve() has.
"""

from copy import deepcopy
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from modelops_dask.errors import BadInput
from modelops_dask.settings import Settings
from modelops_dask.shape import SUPERVISOR_BYTES, Shape
from mops_helm.values.quantity import to_bytes, to_cpus

DEFAULT_POOL = "default"


@dataclass(frozen=True)
class PodMemory:
    """A worker pod's memory in bytes, and the value that decides it."""

    count: int
    decided_by: str


def pools(values: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Every pool's own values, those of `workers` filled in; the first is `default`."""
    named = {DEFAULT_POOL: {}, **(values.get("pools") or {})}
    return {name: _overlaid(values["workers"], own or {}) for name, own in named.items()}


def pod_memory(pool: dict[str, Any]) -> PodMemory:
    """limits.memory, else requests.memory, else processes x memoryPerProcess and the supervisor's."""
    resources = pool.get("resources") or {}
    for section in ("limits", "requests"):
        if (stated := (resources.get(section) or {}).get("memory")) is not None:
            return PodMemory(to_bytes(stated), f"resources.{section}.memory")
    return PodMemory(
        pool["processes"] * to_bytes(pool["memoryPerProcess"]) + SUPERVISOR_BYTES, "memoryPerProcess"
    )


def pod_cpus(pool: dict[str, Any]) -> Fraction | None:
    """CPUs a worker pod may count on: its request, else its limit, else None."""
    resources = pool.get("resources") or {}
    for section in ("requests", "limits"):
        if (stated := (resources.get(section) or {}).get("cpu")) is not None:
            return to_cpus(stated)
    return None


def shape(values: dict[str, Any], pool: str = DEFAULT_POOL) -> Shape:
    """A pool's pods (the fewest, if autoscaled), processes, threads and memory; BadInput: no such pool."""
    known = pools(values)
    if pool not in known:
        raise BadInput(f"there is no pool {pool}; there is {', '.join(known)}")
    chosen = known[pool]
    scaling = chosen.get("autoscaling") or {}
    return Shape(
        replicas=scaling["minReplicas"] if scaling.get("enabled") else chosen["replicas"],
        processes=chosen["processes"],
        threads=chosen["threads"],
        pod_memory_bytes=pod_memory(chosen).count,
        resources={name: float(count) for name, count in (chosen.get("daskResources") or {}).items()},
    )


def settings(values: dict[str, Any], pool: str = DEFAULT_POOL) -> Settings:
    """The settings that a pool's workers read from their environment."""
    executor = values["executor"]
    return Settings(
        preset=values.get("preset", ""),
        executor_type=executor["type"],
        executor_environment=executor["environment"],
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


def dask_config(values: dict[str, Any]) -> dict[str, Any]:
    """Dask's configuration, nested, as it is mounted in every pod."""
    return deepcopy((values.get("dask") or {}).get("config") or {})


def worker_env(values: dict[str, Any], pool: str = DEFAULT_POOL) -> dict[str, str]:
    """A pool's own environment variables; those with valueFrom exist in a cluster only and are left out."""
    stated = pools(values)[pool].get("env") or {}
    return {name: _env_text(value) for name, value in stated.items() if not isinstance(value, dict)}


def _env_text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _overlaid(under: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    merged = deepcopy(under)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _overlaid(merged[key], value) if both else deepcopy(value)
    return merged
