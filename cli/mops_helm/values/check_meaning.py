"""What values mean together: memory, limits, autoscaling, environment variables, presets.

    merged values, pool by pool -> findings, in the numbers of the chart's own checks (templates/_check.tpl)

Places that already have a finding are left alone: their values cannot be computed with.
"""

import difflib
import re
from collections.abc import Iterator
from typing import Any

from modelops_dask.shape import CHILD_MIN_BYTES, MIB, child_limit, process_limit, runners
from mops_helm.values import effective, presets, schema
from mops_helm.values.check_schema import place
from mops_helm.values.findings import Finding
from mops_helm.values.load import Node, Where
from mops_helm.values.merge import Merged, overlay
from mops_helm.values.quantity import BadQuantity, parse, text_of, to_bytes

Path = tuple[str | int, ...]
_MEMORY_OF_POOL = ("processes", "threads", "memoryPerProcess", "resources")
_MEMORY_OF_EXECUTOR = (("executor", "type"), ("executor", "workerMemory"), ("executor", "subprocessPoolSize"))
_SCALING = ("autoscaling", "resources")


def check(merged: Merged, bad: frozenset[Path]) -> list[Finding]:
    """Findings about values that are right one by one; paths in `bad` are not."""
    found = list(_presets(merged, bad))
    found += _env(merged, ("scheduler", "env"))
    for path in (("scheduler",), ("studies", "driver")):
        found += _requests(merged, path, merged.root.find(*path), bad)
    small = list(_small(merged))
    found += small
    for path, pool in _pools(merged, bad):
        found += _env(merged, (*path, "env"))
        found += _requests(merged, path, pool, bad)
        shared = [(*base, name) for base in (path, ("workers",)) for name in _MEMORY_OF_POOL]
        if not small and not _touched(bad, *shared, *_MEMORY_OF_EXECUTOR):
            found += _memory(merged, path, pool)
        if not _touched(bad, *[(*base, name) for base in (path, ("workers",)) for name in _SCALING]):
            found += _autoscaling(merged, path, pool)
    return found


def _touched(bad: frozenset[Path], *sections: Path) -> bool:
    """Whether one of the sections, something inside it or around it cannot be computed with."""
    return any(
        section[: len(there)] == there or there[: len(section)] == section
        for there in bad
        for section in sections
    )


def _pools(merged: Merged, bad: frozenset[Path]) -> Iterator[tuple[Path, Node]]:
    """Each pool's path and its values, those of `workers` filled in."""
    workers, pools = merged.root.find("workers"), merged.root.find("pools")
    if workers is None or not isinstance(workers.value, dict):
        return
    named = pools.value if pools is not None and isinstance(pools.value, dict) else {}
    if "default" not in named:
        yield ("workers",), workers
    for name, own in named.items():
        if isinstance(own.value, dict) and ("pools", name) not in bad:
            yield ("pools", name), overlay(workers, own)


def _at(merged: Merged, path: Path, *names: str) -> Where:
    """Where the first of these values of a pool is stated: in the pool, in workers, else the pool itself."""
    for section in (path, ("workers",)):
        for name in names:
            steps = tuple(name.split("."))
            if merged.own.find(*section, *steps) is not None:
                return place(merged, (*section, *steps))
    return place(merged, path)


def _finding(where: Where, code: str, message: str, suggestion: str = "") -> Finding:
    return Finding(where.file, where.line, where.column, code, message, suggestion)


def _name(path: Path, *rest: str) -> str:
    return ".".join([*map(str, path), *rest])


def _plain(node: Node | None, *path: str) -> Any:
    found = None if node is None else node.find(*path)
    return None if found is None else found.plain()


def _presets(merged: Merged, bad: frozenset[Path]) -> Iterator[Finding]:
    """A known `preset` binds the keys of its file, in every pool; an unknown one binds nothing."""
    name = _plain(merged.root, "preset")
    if not name or ("preset",) in bad:
        return
    known = presets.isolation_names()
    if name not in known:
        near = presets.did_you_mean(str(name), known).removeprefix("; ")
        said = f"{name} is no isolation preset of this chart, so it binds nothing"
        yield _finding(
            place(merged, ("preset",)), "PRESET_UNKNOWN", said, near or f"one of {', '.join(known)}"
        )
        return
    bound = presets.find(name).source.root
    sections = [("executor", ("executor",)), ("workers", ("workers",))]
    pools = _plain(merged.root, "pools")
    sections += [("workers", ("pools", pool)) for pool in pools] if isinstance(pools, dict) else []
    for section, path in sections:
        for key, wanted in (_plain(bound, section) or {}).items():
            node = merged.root.find(*path, key)
            if node is None or (*path, key) in bad or node.plain() == wanted:
                continue
            stated = merged.own.find(*path, key) is not None
            where = place(merged, (*path, key) if stated else ("preset",))
            yield _finding(
                where,
                "PRESET_BINDING",
                f"preset {name} means {_name(path, key)} {_word(wanted)}, not {_word(node.plain())}",
                f"write {key}: {_word(wanted)}, or leave preset out (of a release: --set preset=)",
            )


def _word(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _env(merged: Merged, path: Path) -> Iterator[Finding]:
    """Variables that a value owns, that are misspelt, or that say two things."""
    env = merged.own.find(*path)
    if env is not None and isinstance(env.value, list):
        yield from _env_list(env)
        return
    executor_type = merged.root.find("executor", "type")
    plain_dask = executor_type is not None and executor_type.value == "none"
    owners = {"HOME": ""} if plain_dask else schema.variables()  # plain Dask: no value owns a MODELOPS_ name
    for name, node in (env.value if env is not None and isinstance(env.value, dict) else {}).items():
        where = place(merged, (*path, name), key=True)
        if isinstance(node.value, dict) and {"value", "valueFrom"} <= set(node.value):
            both = f"{name} has a value and a valueFrom"
            yield _finding(
                where, "ENV_VALUE_AND_FROM", both, f"keep one; a value alone is written {name}: value"
            )
        owner = owners.get(name)
        if name.startswith("DASK_"):
            owner = "dask.config"
        if owner:
            yield _finding(where, "ENV_OWNED", f"{name} comes from {owner}", f"set {owner} instead")
        elif owner is not None:
            yield _finding(
                where, "ENV_OWNED", f"{name} is set by the chart, to a path below /tmp", "remove it"
            )
        elif near := _misspelt(name, owners):
            right = owners[near] or near
            yield _finding(
                where, "ENV_MISSPELT", f"{name} looks like {near}", f"set {right} instead, or rename it"
            )


def _misspelt(name: str, owners: dict[str, str]) -> str:
    """The MODELOPS_ variable that a name was probably meant to be."""
    known = [variable for variable in owners if variable.startswith("MODELOPS_")]
    near = difflib.get_close_matches(name.upper().replace("-", "_"), known, n=1, cutoff=0.85)
    return near[0] if near else ""


def _env_list(env: Node) -> Iterator[Finding]:
    """A list as in a pod's spec is refused by the schema; what is wrong inside it is said too."""
    seen: dict[str, int] = {}
    for item in env.value:
        if not isinstance(item.value, dict) or not isinstance(name := _plain(item, "name"), str):
            continue
        where = item.value["name"].where
        if name in seen:
            said = f"{name} is here a second time (first on line {seen[name]})"
            yield _finding(where, "ENV_DUPLICATE", said, "remove one")
        seen.setdefault(name, where.line)
        if {"value", "valueFrom"} <= set(item.value):
            yield _finding(where, "ENV_VALUE_AND_FROM", f"{name} has a value and a valueFrom", "keep one")


def _requests(merged: Merged, path: Path, pool: Node | None, bad: frozenset[Path]) -> Iterator[Finding]:
    """A request may not exceed its limit, for any resource."""
    requests, limits = _plain(pool, "resources", "requests"), _plain(pool, "resources", "limits")
    if not isinstance(requests, dict) or not isinstance(limits, dict) or _touched(bad, (*path, "resources")):
        return
    for name in requests.keys() & limits.keys():
        try:
            over = parse(requests[name]) > parse(limits[name])
        except BadQuantity:
            continue
        if over:
            yield _finding(
                _at(merged, path, f"resources.requests.{name}", f"resources.limits.{name}"),
                "REQUEST_OVER_LIMIT",
                f"{_name(path)}: requests.{name} {requests[name]} exceeds limits.{name} {limits[name]}",
                "make them equal, or state one",
            )


def _small(merged: Merged) -> Iterator[Finding]:
    """Memory under 1Mi: a number without its unit is bytes."""

    def walk(node: Node, path: Path) -> Iterator[Finding]:
        for key, child in node.value.items() if isinstance(node.value, dict) else ():
            if isinstance(child.value, dict):
                yield from walk(child, (*path, key))
            elif schema.at((*path, key)).get("pattern") == schema.definition("memory")["pattern"]:
                try:
                    count = to_bytes(child.value)
                except BadQuantity:
                    continue
                if 0 < count < MIB:
                    said = f"{_name((*path, key))}: {child.value} is {count} bytes"
                    number = re.match(r"[0-9.]*", str(child.value))[0].strip(".")
                    yield _finding(child.where, "MEMORY_SMALL", said, f"write {number}Gi or {number}Mi")

    yield from walk(merged.own, ())


def _memory(merged: Merged, path: Path, pool: Node) -> Iterator[Finding]:
    """What a pod leaves to each process and runner; the chart refuses under 64Mi."""
    values, executor = pool.plain(), _plain(merged.root, "executor")
    try:
        memory = effective.pod_memory(values)
    except BadQuantity as bad:  # a number that the schema's grammar of texts never saw, such as 1e+90
        where = _at(merged, path, "memoryPerProcess", "resources")
        yield _finding(where, "QUANTITY", f"{_name(path)}: {bad.text}: {bad.message}", "write it like 1.5Gi")
        return
    process_bytes = process_limit(memory.count, values["processes"])
    where = _at(merged, path, memory.decided_by, "memoryPerProcess", "processes", "threads")
    if merged.own.find(*path) is None:
        where = place(merged, ("executor", "subprocessPoolSize"))
    stated = merged.own.find(*path, "memoryPerProcess")
    if stated is not None and memory.decided_by != "memoryPerProcess":
        said = f"memoryPerProcess is not used: {memory.decided_by} gives the pod {text_of(memory.count)}"
        yield _finding(stated.where, "MEMORY_UNUSED", said, "state one of the two")
    pod, share = text_of(memory.count), max(0, process_bytes) // MIB
    said = f"{_name(path)}: a pod of {pod} leaves each of {values['processes']} processes {share}Mi"
    raise_it = "raise memoryPerProcess (or the memory under resources), or lower processes"
    if executor["type"] in ("direct", "none"):
        if process_bytes < CHILD_MIN_BYTES:
            yield _finding(where, "CHILD_MEMORY", f"{said}, and 64Mi is the least", raise_it)
        return
    count = runners(values["threads"], executor["subprocessPoolSize"])
    child = child_limit(process_bytes, to_bytes(executor["workerMemory"]), count)
    if child < CHILD_MIN_BYTES:
        said += f"; less workerMemory {executor['workerMemory']}: {max(0, child) // MIB}Mi a runner ({count})"
        suggestion = f"{raise_it}, threads or executor.subprocessPoolSize"
        yield _finding(where, "CHILD_MEMORY", f"{said}, and 64Mi is the least", suggestion)


def _autoscaling(merged: Merged, path: Path, pool: Node) -> Iterator[Finding]:
    """The autoscaler's bounds, and who owns the number of pods."""
    scaling = _plain(pool, "autoscaling") or {}
    low, high = scaling["minReplicas"], scaling["maxReplicas"]
    if low > high:
        yield _finding(
            _at(merged, path, "autoscaling.minReplicas", "autoscaling.maxReplicas"),
            "AUTOSCALING_ORDER",
            f"{_name(path)}.autoscaling: minReplicas {low} exceeds maxReplicas {high}",
            "keep minReplicas <= maxReplicas",
        )
    if not scaling["enabled"]:
        return
    if merged.own.find(*path, "replicas") is not None:
        said = f"{_name(path)}.replicas is not used while autoscaling is enabled"
        where = place(merged, (*path, "replicas"))
        yield _finding(where, "AUTOSCALING_REPLICAS", said, "state minReplicas and maxReplicas alone")
    if not effective.pod_cpus(pool.plain()):
        said = f"{_name(path)}.autoscaling measures CPU against a request, and there is none"
        where = _at(merged, path, "resources.requests.cpu", "autoscaling.enabled")
        yield _finding(where, "AUTOSCALING_CPU", said, "set resources.requests.cpu")
