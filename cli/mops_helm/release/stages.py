"""The same facts of a pool at each stage: name -> text, to be compared.

    values -> rendered Deployment -> pod -> worker process

Names are those of the values. Facts are fetched and compared in status.py.
"""

import json
from collections.abc import Collection, Mapping
from itertools import pairwise

from mops_helm.release.diff import Object
from mops_helm.values import effective, layers, schema
from mops_helm.values.merge import overlay_values
from mops_helm.values.quantity import text_of
from mops_helm.values.tree import Json, ValueTree, flatten

Facts = dict[str, str]
CHECKSUM = "checksum/dask-config"
FLAGS = {"--nworkers": "processes", "--nthreads": "threads", "--memory-limit": "memory limit"}


def complete_values(values: ValueTree) -> ValueTree:
    """The values of a release over this chart's defaults: an earlier chart did not have all of them."""
    return overlay_values(layers.merge_layers((), ()).values, values)


def read_values(values: ValueTree, pool: str, own_names: Collection[str] | None = None) -> Facts:
    """The facts of complete values, as this program computes them, without the chart's templates.

    own_names: The dotted names of the release's own values; the others are left out. None is all.
    """
    shape = effective.shape(values, pool)
    facts: Facts = {} if _is_plain_dask(values) else _read_variables(effective.settings(values).to_env())
    if own_names is not None:
        facts = {name: text for name, text in facts.items() if name in own_names}
    facts |= {"processes": str(shape.processes), "threads": str(shape.threads)}
    facts["memory limit"] = text_of(shape.process_memory_bytes)
    return facts | {f"dask.config.{key}": _text(value) for key, value in dask_settings(values).items()}


def read_pod(pod: Object) -> Facts:
    """The facts that a pod, or the template of a Deployment, passes to `dask worker`."""
    container = next(entry for entry in pod["spec"]["containers"] if entry["name"] == "worker")
    facts = _read_variables({row["name"]: row.get("value", "") for row in container.get("env", ())})
    command = container.get("command", [])
    for flag, value in pairwise(command):
        if flag in FLAGS:
            facts[FLAGS[flag]] = text_of(int(value)) if flag == "--memory-limit" else value
    facts["image"] = container["image"]
    facts[CHECKSUM] = (pod["metadata"].get("annotations") or {}).get(CHECKSUM, "")[:12]
    return facts


def read_process(answer: Object, processes: int) -> Facts:
    """The facts that a worker process reports (modelops_dask.ask), one of several in its pod."""
    facts = _read_variables(answer["settings"] or {})
    facts |= {"processes": str(processes), "threads": str(answer["threads"])}
    facts["memory limit"] = text_of(answer["memory_limit_bytes"])
    return facts | {f"dask.config.{key}": _text(value) for key, value in answer["dask"].items()}


def scheduler_address(deployment: Object) -> str:
    """The address at which the workers of a Deployment find their scheduler."""
    command: list[str] = deployment["spec"]["template"]["spec"]["containers"][0]["command"]
    return command[command.index("worker") + 1]


def dask_settings(values: ValueTree) -> ValueTree:
    """Dask's configuration by dotted name; a name that itself has a dot cannot be requested."""
    return {
        ".".join(path): value
        for path, value in flatten(effective.dask_config(values)).items()
        if value != {} and not any("." in name for name in path)
    }


def _read_variables(variables: Mapping[str, str]) -> Facts:
    """Values by name, from their variables."""
    return {
        name: variables[variable]
        for variable, name in schema.variables().items()
        if name and variable in variables
    }


def _is_plain_dask(values: ValueTree) -> bool:
    """Whether the workers are plain Dask, without our settings."""
    executor_type: str = values["executor"]["type"]
    return executor_type == "none"


def _text(value: Json) -> str:
    return value if isinstance(value, str) else json.dumps(value)
