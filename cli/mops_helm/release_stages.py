"""One and the same facts of a pool at each stage of their way into effect: name -> text, to be compared.

    values -> rendered Deployment -> pod -> worker process

Names are those of the values. Does not fetch or compare: release_status.py does.
"""

import json
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

from mops_helm.values import effective, schema
from mops_helm.values.quantity import text_of

Object = Mapping[str, Any]
Facts = dict[str, str]
CHECKSUM = "checksum/dask-config"
FLAGS = {"--nworkers": "processes", "--nthreads": "threads", "--memory-limit": "memory limit"}


def of_values(values: dict[str, Any], pool: str) -> Facts:
    """What the values ask for, as this program computes it: without the chart's templates."""
    shape = effective.shape(values, pool)
    facts = {} if _plain(values) else _of_environment(effective.settings(values).to_env())
    facts |= {"processes": str(shape.processes), "threads": str(shape.threads)}
    facts["memory limit"] = text_of(shape.process_memory_bytes)
    return facts | {f"dask.config.{key}": _text(value) for key, value in dask_settings(values).items()}


def of_pod(pod: Object) -> Facts:
    """What a pod, or a Deployment's template of one, hands to `dask worker`."""
    container = next(each for each in pod["spec"]["containers"] if each["name"] == "worker")
    facts = _of_environment({row["name"]: row.get("value", "") for row in container.get("env", ())})
    command = container.get("command", [])
    for flag, value in pairwise(command):
        if flag in FLAGS:
            facts[FLAGS[flag]] = text_of(int(value)) if flag == "--memory-limit" else value
    facts["image"] = container["image"]
    facts[CHECKSUM] = (pod["metadata"].get("annotations") or {}).get(CHECKSUM, "")[:12]
    return facts


def of_process(answer: Object, processes: int) -> Facts:
    """What a worker process says of itself (modelops_dask.ask), one of so many in its pod."""
    facts = _of_environment(answer["settings"] or {})
    facts |= {"processes": str(processes), "threads": str(answer["threads"])}
    facts["memory limit"] = text_of(answer["memory_limit_bytes"])
    return facts | {f"dask.config.{key}": _text(value) for key, value in answer["dask"].items()}


def address(deployment: Object) -> str:
    """Where the workers of a Deployment find their scheduler."""
    command = deployment["spec"]["template"]["spec"]["containers"][0]["command"]
    return command[command.index("worker") + 1]


def dask_settings(values: dict[str, Any]) -> dict[str, Any]:
    """Dask's configuration by dotted name; a name that has a dot itself cannot be asked for."""
    return {".".join(path): value for path, value in _leaves(effective.dask_config(values))}


def _leaves(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    if not isinstance(value, dict):
        yield path, value
        return
    for name, inside in value.items():
        if "." not in name:
            yield from _leaves(inside, (*path, name))


def _of_environment(variables: Mapping[str, str]) -> Facts:
    """Values by name, from the variables that they become."""
    return {
        name: variables[variable]
        for variable, name in schema.variables().items()
        if name and variable in variables
    }


def _plain(values: Mapping[str, Any]) -> bool:
    """Whether the workers are plain Dask, without settings of ours."""
    return values["executor"]["type"] == "none"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
