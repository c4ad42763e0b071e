"""Functions that return the text to print; commands print it.

Tables align by columns; `json` and `yaml` are the same data for programs.
"""

import json
from collections.abc import Sequence
from typing import Any

from mops_helm.values.explain import Explained, PoolExplained
from mops_helm.values.findings import Finding, errors
from mops_helm.values.presets import Preset
from mops_helm.values.quantity import text_of


def data(value: Any, form: str) -> str:
    """Plain data as JSON or YAML."""
    return (
        json.dumps(value, indent=2, ensure_ascii=False) if form == "json" else yaml_text(value).rstrip("\n")
    )


def yaml_text(value: Any) -> str:
    """YAML that helm reads back as the same data; texts it would misread are quoted."""
    import yaml

    class Dumper(yaml.SafeDumper):
        def ignore_aliases(self, data: Any) -> bool:
            return True

        def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
            return super().increase_indent(flow, False)

    def text(dumper: yaml.SafeDumper, value: str) -> yaml.Node:
        from mops_helm.values.scalars import resolve

        quoted = isinstance(value, str) and value != "" and resolve(value) != value
        return dumper.represent_scalar(
            "tag:yaml.org,2002:str", value, style='"' if quoted or value == "" else None
        )

    Dumper.add_representer(str, text)
    return yaml.dump(value, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=110)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Left-aligned columns, two spaces apart."""
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in [head, *rows]
    ]
    return "\n".join(line.rstrip() for line in lines)


def findings(found: Sequence[Finding], files: Sequence[str], form: str) -> str:
    """One line a finding; with none, that all is well. JSON and YAML: a list of the same fields."""
    if form != "table":
        return data([finding_fields(finding) for finding in found], form)
    if not found:
        return f"{', '.join(files)}: ok"
    return "\n".join(str(finding) for finding in found)


def findings_summary(found: Sequence[Finding]) -> str:
    """How many errors and warnings."""
    bad = len(errors(found))
    parts = [
        f"{count} {word}{'s' if count > 1 else ''}"
        for count, word in ((bad, "error"), (len(found) - bad, "warning"))
        if count
    ]
    return f"{', '.join(parts)}; the codes are explained in docs/values-findings.md"


def finding_fields(finding: Finding) -> dict[str, Any]:
    return {**vars(finding), "severity": finding.severity}


def presets(listed: Sequence[Preset], form: str) -> str:
    if form != "table":
        return data([{"name": p.name, "kind": p.kind, "purpose": p.purpose} for p in listed], form)
    return table(["NAME", "KIND", "PURPOSE"], [[p.name, p.kind, p.purpose] for p in listed])


def preset(shown: Preset, form: str) -> str:
    """As a table: the file itself, whose comments say what it is for."""
    if form == "table":
        return shown.text.rstrip("\n")
    return data(
        {"name": shown.name, "kind": shown.kind, "purpose": shown.purpose, "values": shown.values}, form
    )


def differences(changes: Sequence[tuple[str, Any, Any]], names: tuple[str, str], form: str) -> str:
    """Values that differ, a row each."""
    if form != "table":
        return data([{"value": path, names[0]: a, names[1]: b} for path, a, b in changes], form)
    if not changes:
        return f"{names[0]} and {names[1]} give the same values"
    rows = [[path, json.dumps(a), json.dumps(b)] for path, a, b in changes]
    return table(["VALUE", *(name.upper() for name in names)], rows)


def size(count: int) -> str:
    """Bytes for people: 1.96Gi, 976Mi."""
    for unit, power in (("Gi", 30), ("Mi", 20), ("Ki", 10)):
        if abs(count) >= 1 << power:
            digits = 2 if unit == "Gi" else 0
            text = f"{count / (1 << power):.{digits}f}"
            return (text.rstrip("0").rstrip(".") if digits else text) + unit
    return f"{count}B"


def explanation(explained: Explained, form: str) -> str:
    """A block a pool: pods, processes, threads, memory, the command; then advice."""
    if form != "table":
        return data(explanation_fields(explained), form)
    blocks = [_pool_block(pool, explained) for pool in explained.pools]
    return "\n\n".join(blocks)


def explanation_fields(explained: Explained) -> dict[str, Any]:
    return {
        "preset": explained.preset,
        "executor": explained.settings.executor_type,
        "pools": [
            {
                "name": pool.name,
                "pods": pool.shape.replicas,
                "mostPods": pool.most_replicas,
                "processesPerPod": pool.shape.processes,
                "threadsPerProcess": pool.shape.threads,
                "tasksAtOnce": pool.shape.slots,
                "cpusPerPod": None if pool.cpus is None else float(pool.cpus),
                "podBytes": pool.shape.pod_memory_bytes,
                "podBytesDecidedBy": pool.memory_decided_by,
                "processBytes": pool.shape.process_memory_bytes,
                "spillPoints": {point.name: point.at_bytes for point in pool.spill_points},
                "runnersPerProcess": pool.runners,
                "childBytes": pool.child_bytes,
                "warmProcesses": pool.warm_processes,
                "command": pool.command,
                "advice": list(pool.advice),
            }
            for pool in explained.pools
        ],
    }


def _pool_block(pool: PoolExplained, explained: Explained) -> str:
    shape, settings = pool.shape, explained.settings
    pods = (
        f"{shape.replicas}"
        if pool.most_replicas == shape.replicas
        else f"{shape.replicas} to {pool.most_replicas}"
    )
    cpus = "none requested" if pool.cpus is None else f"{float(pool.cpus):g}"
    points = [
        f"{point.name} {point.fraction:g} = {size(point.at_bytes)}"
        if point.at_bytes is not None
        else f"{point.name} off"
        for point in pool.spill_points
    ]
    rows = [
        ["Pods", pods],
        ["Processes", f"{shape.processes} a pod, {shape.replicas * shape.processes} in all"],
        ["Threads", f"{shape.threads} a process; {shape.slots} tasks in Dask at once"],
        ["CPUs", f"{cpus} a pod"],
        ["Pod memory", f"{text_of(shape.pod_memory_bytes)}, from {pool.memory_decided_by}"],
        [
            "Process",
            f"{size(shape.process_memory_bytes)} each: (pod - 96Mi for `dask worker`) / {shape.processes}",
        ],
        ["Spilling", "; ".join(points)],
        ["Executor", settings.executor_type + (f" (preset {explained.preset})" if explained.preset else "")],
    ]
    if pool.child_bytes is not None:
        rows.append(["Runner", f"{size(pool.child_bytes)} each, {pool.runners} side by side in a process"])
    if pool.warm_processes:
        counts = f"{shape.processes} processes x {settings.max_warm_processes} x {pool.most_replicas} pods"
        rows.append(["Warm", f"at most {pool.warm_processes} processes kept: {counts}"])
    rows.append(["Command", pool.command])
    lines = [f"Pool {pool.name}"] + [f"  {name:<12}{text}" for name, text in rows]
    return "\n".join(lines + [f"  Note: {text}" for text in pool.advice])
