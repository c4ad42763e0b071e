"""Problems of combined values: memory, limits, autoscaling, environment variables, presets.

    merged values, pool by pool -> findings, with the numbers of the chart's own checks (templates/_check.tpl)

Values that already have a finding are skipped, because they cannot be used in computations.
"""

import difflib
import re
from collections.abc import Iterator
from typing import Literal

from modelops_dask.documents.findings import Finding
from modelops_dask.documents.nodes import Node, NodePath, Position
from modelops_dask.shape import MIB, RUNNER_MIN_BYTES, process_limit, runner_limit, runners
from mops_helm.values import effective, presets, schema
from mops_helm.values.check_schema import find_position
from mops_helm.values.findings import finding_at
from mops_helm.values.merge import Merged, overlay, plain_at
from mops_helm.values.quantity import BadQuantity, parse, text_of, to_bytes
from mops_helm.values.scalars import scalar_text
from mops_helm.values.tree import dotted

_MEMORY_OF_POOL = ("processes", "threads", "memoryPerProcess", "resources")
_MEMORY_OF_EXECUTOR = (("executor", "type"), ("executor", "workerMemory"), ("executor", "subprocessPoolSize"))
_SCALING = ("autoscaling", "resources")
MANY_CPUS = 512
MEBIBYTES_FROM = 64  # of memory without a unit: more counts Mi rather than Gi


def check(merged: Merged, bad_paths: frozenset[NodePath]) -> list[Finding]:
    """Findings about values that are valid individually; paths in `bad_paths` are not."""
    findings = list(_check_presets(merged, bad_paths))
    findings += _check_env(merged, ("scheduler", "env"))
    findings += _check_requests(merged, ("scheduler",), merged.root.find("scheduler"), bad_paths)
    findings += _check_requests(
        merged, ("studies", "driver"), merged.root.find("studies", "driver"), bad_paths
    )
    unit_findings = list(_check_units(merged))
    findings += unit_findings
    findings += _check_cpus(merged)
    for path, pool in _find_pools(merged, bad_paths):
        findings += _check_env(merged, (*path, "env"))
        findings += _check_requests(merged, path, pool, bad_paths)
        shared = [(*base, name) for base in (path, ("workers",)) for name in _MEMORY_OF_POOL]
        if not unit_findings and not _overlap(bad_paths, *shared, *_MEMORY_OF_EXECUTOR):
            findings += _check_memory(merged, path, pool)
        if not _overlap(bad_paths, *[(*base, name) for base in (path, ("workers",)) for name in _SCALING]):
            findings += _check_autoscaling(merged, path, pool)
    return findings


def _overlap(bad_paths: frozenset[NodePath], *sections: NodePath) -> bool:
    """Whether one of the sections, or a value inside or above it, cannot be used in computations."""
    return any(
        section[: len(bad_path)] == bad_path or bad_path[: len(section)] == section
        for bad_path in bad_paths
        for section in sections
    )


def _find_pools(merged: Merged, bad_paths: frozenset[NodePath]) -> Iterator[tuple[NodePath, Node]]:
    """Each pool's path and its values, with those of `workers` filled in."""
    workers, pools = merged.root.find("workers"), merged.root.find("pools")
    if workers is None or not isinstance(workers.value, dict):
        return
    pool_nodes = pools.value if pools is not None and isinstance(pools.value, dict) else {}
    if "default" not in pool_nodes:
        yield ("workers",), workers
    for name, pool in pool_nodes.items():
        if isinstance(pool.value, dict) and ("pools", name) not in bad_paths:
            yield ("pools", name), overlay(workers, pool)


def _position_in_pool(merged: Merged, path: NodePath, *names: str) -> Position:
    """The position of the first of these values of a pool: in the pool, in workers, or the pool itself."""
    for section in (path, ("workers",)):
        for name in names:
            steps = tuple(name.split("."))
            if merged.supplied.find(*section, *steps) is not None:
                return find_position(merged, (*section, *steps))
    return find_position(merged, path)


def _check_presets(merged: Merged, bad_paths: frozenset[NodePath]) -> Iterator[Finding]:
    """A known `preset` fixes the values of its file, in every pool; an unknown one has no effect."""
    name = plain_at(merged.root, "preset")
    if not name or ("preset",) in bad_paths:
        return
    isolation_names = presets.isolation_names()
    if name not in isolation_names:
        near = presets.did_you_mean(str(name), isolation_names).removeprefix("; ")
        message = f"{name} is not an isolation preset of this chart, so it has no effect"
        yield finding_at(
            find_position(merged, ("preset",)),
            "PRESET_UNKNOWN",
            message,
            near or f"one of {', '.join(isolation_names)}",
        )
        return
    bound = presets.find(name).layer.root
    sections: list[tuple[str, NodePath]] = [("executor", ("executor",)), ("workers", ("workers",))]
    pools = plain_at(merged.root, "pools")
    sections += [("workers", ("pools", pool)) for pool in pools] if isinstance(pools, dict) else []
    for section, path in sections:
        for key, bound_value in (plain_at(bound, section) or {}).items():
            node = merged.root.find(*path, key)
            if node is None or (*path, key) in bad_paths or node.plain() == bound_value:
                continue
            is_supplied = merged.supplied.find(*path, key) is not None
            position = find_position(merged, (*path, key) if is_supplied else ("preset",))
            yield finding_at(
                position,
                "PRESET_BINDING",
                f"preset {name} requires {dotted((*path, key))} {scalar_text(bound_value)}, "
                f"not {scalar_text(node.plain())}",
                f"write {key}: {scalar_text(bound_value)}, or leave preset out (of a release: --set preset=)",
            )


def _check_env(merged: Merged, path: NodePath) -> Iterator[Finding]:
    """Variables that a value sets, that are misspelt, or that contradict themselves."""
    env = merged.supplied.find(*path)
    if env is not None and isinstance(env.value, list):
        yield from _check_env_list(env)
        return
    executor_type = merged.root.find("executor", "type")
    plain_dask = executor_type is not None and executor_type.value == "none"
    owners = {"HOME": ""} if plain_dask else schema.variables()  # plain Dask: no value sets a MODELOPS_ name
    for name, node in (env.value if env is not None and isinstance(env.value, dict) else {}).items():
        position = find_position(merged, (*path, name), key=True)
        if isinstance(node.value, dict) and {"value", "valueFrom"} <= set(node.value):
            both = f"{name} has a value and a valueFrom"
            yield finding_at(
                position, "ENV_VALUE_AND_FROM", both, f"keep one; a value alone is written {name}: value"
            )
        owner = owners.get(name)
        if name.startswith("DASK_"):
            owner = "dask.config"
        if owner:
            yield finding_at(position, "ENV_OWNED", f"{name} comes from {owner}", f"set {owner} instead")
        elif owner is not None:
            yield finding_at(
                position, "ENV_OWNED", f"{name} is set by the chart to a path under /tmp", "remove it"
            )
        elif near := _find_near_variable(name, owners):
            right = owners[near] or near
            yield finding_at(
                position, "ENV_MISSPELT", f"{name} looks like {near}", f"set {right} instead, or rename it"
            )


def _find_near_variable(name: str, owners: dict[str, str]) -> str:
    """The MODELOPS_ variable that a name was probably meant to be."""
    candidates = [variable for variable in owners if variable.startswith("MODELOPS_")]
    near = difflib.get_close_matches(name.upper().replace("-", "_"), candidates, n=1, cutoff=0.85)
    return near[0] if near else ""


def _check_env_list(env: Node) -> Iterator[Finding]:
    """Problems inside a list of variables as in a pod's spec, which the schema refuses."""
    first_lines: dict[str, int] = {}
    for item in env.value:
        if not isinstance(item.value, dict) or not isinstance(name := plain_at(item, "name"), str):
            continue
        position = item.value["name"].position
        if name in first_lines:
            message = f"{name} appears twice (first on line {first_lines[name]})"
            yield finding_at(position, "ENV_DUPLICATE", message, "remove one")
        first_lines.setdefault(name, position.line)
        if {"value", "valueFrom"} <= set(item.value):
            yield finding_at(
                position, "ENV_VALUE_AND_FROM", f"{name} has a value and a valueFrom", "keep one"
            )


def _check_requests(
    merged: Merged, path: NodePath, pool: Node | None, bad_paths: frozenset[NodePath]
) -> Iterator[Finding]:
    """A request may not exceed its limit, for any resource."""
    requests, limits = plain_at(pool, "resources", "requests"), plain_at(pool, "resources", "limits")
    if (
        not isinstance(requests, dict)
        or not isinstance(limits, dict)
        or _overlap(bad_paths, (*path, "resources"))
    ):
        return
    for name in requests.keys() & limits.keys():
        try:
            over = parse(requests[name]) > parse(limits[name])
        except BadQuantity:
            continue
        if over:
            yield finding_at(
                _position_in_pool(merged, path, f"resources.requests.{name}", f"resources.limits.{name}"),
                "REQUEST_OVER_LIMIT",
                f"{dotted(path)}: requests.{name} {requests[name]} exceeds limits.{name} {limits[name]}",
                "make them equal, or set only one",
            )


def _check_units(merged: Merged) -> Iterator[Finding]:
    """Amounts whose unit was probably forgotten: memory under 1Mi."""
    for path, node in merged.supplied.walk():
        if _is_amount(path, "memory"):
            try:
                n_bytes = to_bytes(node.value)
            except BadQuantity:
                continue
            if 0 < n_bytes < MIB:
                message = f"{dotted(path)}: {node.value} is {n_bytes} bytes"
                yield finding_at(node.position, "MEMORY_SMALL", message, _suggest_memory(str(node.value)))


def _check_cpus(merged: Merged) -> Iterator[Finding]:
    """CPUs without an m where thousandths are probably meant."""
    for path, node in merged.supplied.walk():
        if _is_amount(path, "cpu"):
            try:
                n_cpus = parse(node.value)
            except BadQuantity:
                continue
            if n_cpus > MANY_CPUS:
                message = f"{dotted(path)}: {node.value} is {float(n_cpus):,g} CPUs, more than nodes have"
                suggestion = f"write {node.value}m if thousandths of a CPU are meant"
                yield finding_at(node.position, "CPU_LARGE", message, suggestion)


def _is_amount(path: NodePath, kind: Literal["memory", "cpu"]) -> bool:
    """Whether the schema expects an amount of memory or CPUs at a path."""
    return bool(schema.find_schema(path).get("pattern") == schema.definition(kind)["pattern"])


def _suggest_memory(text: str) -> str:
    """What to write for a number without its unit: 4 may be Gi or Mi, and 4096 is 4Gi in Mi."""
    digits = re.match(r"[0-9]*[.]?[0-9]*", text)
    number = (digits[0] if digits else "").strip(".")
    if number.isdigit() and int(number) >= MEBIBYTES_FROM:
        shortest = text_of(int(number) * MIB)
        return f"write {shortest}" if shortest == f"{number}Mi" else f"write {shortest}, which is {number}Mi"
    return f"write {number}Gi or {number}Mi"


def _check_memory(merged: Merged, path: NodePath, pool: Node) -> Iterator[Finding]:
    """The memory that a pod leaves for each process and runner; the chart refuses less than 64Mi."""
    values, executor = pool.plain(), plain_at(merged.root, "executor")
    try:
        memory = effective.pod_memory(values)
    except BadQuantity as problem:  # a number that the schema's pattern for texts never saw, such as 1e+90
        position = _position_in_pool(merged, path, "memoryPerProcess", "resources")
        yield finding_at(
            position, "QUANTITY", f"{dotted(path)}: {problem.text}: {problem.message}", "write it like 1.5Gi"
        )
        return
    process_bytes = process_limit(memory.count, values["processes"])
    position = _position_in_pool(merged, path, memory.decided_by, "memoryPerProcess", "processes", "threads")
    if merged.supplied.find(*path) is None:
        position = find_position(merged, ("executor", "subprocessPoolSize"))
    memory_node = merged.supplied.find(*path, "memoryPerProcess")
    if memory_node is not None and memory.decided_by != "memoryPerProcess":
        message = f"memoryPerProcess is not used: {memory.decided_by} gives the pod {text_of(memory.count)}"
        yield finding_at(memory_node.position, "MEMORY_UNUSED", message, "set one of the two")
    pod, share = text_of(memory.count), max(0, process_bytes) // MIB
    message = f"{dotted(path)}: a pod of {pod} leaves {share}Mi for each of {values['processes']} processes"
    raise_it = "raise memoryPerProcess (or the memory under resources), or lower processes"
    if executor["type"] in ("direct", "none"):
        if process_bytes < RUNNER_MIN_BYTES:
            yield finding_at(position, "CHILD_MEMORY", f"{message}; the minimum is 64Mi", raise_it)
        return
    count = runners(values["threads"], executor["subprocessPoolSize"])
    runner_limit_bytes = runner_limit(process_bytes, to_bytes(executor["workerMemory"]), count)
    if runner_limit_bytes < RUNNER_MIN_BYTES:
        share = max(0, runner_limit_bytes) // MIB
        message += f"; minus workerMemory {executor['workerMemory']}, each of {count} runners has {share}Mi"
        suggestion = f"{raise_it}, threads or executor.subprocessPoolSize"
        yield finding_at(position, "CHILD_MEMORY", f"{message}; the minimum is 64Mi", suggestion)


def _check_autoscaling(merged: Merged, path: NodePath, pool: Node) -> Iterator[Finding]:
    """The autoscaler's bounds, and the owner of the number of pods."""
    scaling = plain_at(pool, "autoscaling") or {}
    low, high = scaling["minReplicas"], scaling["maxReplicas"]
    if low > high:
        yield finding_at(
            _position_in_pool(merged, path, "autoscaling.minReplicas", "autoscaling.maxReplicas"),
            "AUTOSCALING_ORDER",
            f"{dotted(path)}.autoscaling: minReplicas {low} exceeds maxReplicas {high}",
            "keep minReplicas <= maxReplicas",
        )
    if not scaling["enabled"]:
        return
    if merged.supplied.find(*path, "replicas") is not None:
        message = f"{dotted(path)}.replicas is not used while autoscaling is enabled"
        position = find_position(merged, (*path, "replicas"))
        yield finding_at(position, "AUTOSCALING_REPLICAS", message, "set only minReplicas and maxReplicas")
    if not effective.pod_cpus(pool.plain()):
        message = f"{dotted(path)}.autoscaling measures CPU against a request, but none is set"
        position = _position_in_pool(merged, path, "resources.requests.cpu", "autoscaling.enabled")
        yield finding_at(position, "AUTOSCALING_CPU", message, "set resources.requests.cpu")
