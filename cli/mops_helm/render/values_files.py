"""Functions that return what the commands for presets and values files print."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from modelops_dask.documents.findings import Finding
from modelops_dask.documents.quoting import quote_path
from mops_helm.forms import OutputFormat, format_bytes, render_data, render_table
from mops_helm.render.findings import render_findings
from mops_helm.values.explain import Explanation, PoolExplanation
from mops_helm.values.findings import errors
from mops_helm.values.presets import Preset
from mops_helm.values.quantity import text_of


def render_check(
    findings: Sequence[Finding], files: Sequence[str], output: OutputFormat, *, on_terminal: bool
) -> str:
    """The findings of values files, or a message that there are none. JSON and YAML: a list of the same
    fields.
    """
    if output != "table":
        return render_data([vars(finding) for finding in findings], output)
    if not findings:
        return f"{', '.join(files)}: ok"
    return render_findings(findings, on_terminal=on_terminal)


def render_fix(
    corrections: Sequence[Finding],
    findings: Sequence[Finding],
    files: Sequence[str],
    output: OutputFormat,
    *,
    on_terminal: bool,
) -> str:
    """The corrections, each at its earlier position, and the remaining findings."""
    if output != "table":
        fields = {"corrected": list(map(vars, corrections)), "findings": list(map(vars, findings))}
        return render_data(fields, output)
    lines = [
        f"{finding.file}:{finding.line}:{finding.column}  {finding.code}  corrected: {finding.correction}"
        for finding in corrections
    ]
    return "\n".join([*lines, render_check(findings, files, output, on_terminal=on_terminal)])


def render_findings_count(findings: Sequence[Finding], files: Sequence[Path], n_fixable: int) -> str:
    """The number of errors and warnings, and what to type next."""
    n_errors = len(errors(findings))
    parts = [
        f"{count} {word}{'s' if count > 1 else ''}"
        for count, word in ((n_errors, "error"), (len(findings) - n_errors, "warning"))
        if count
    ]
    lines = [f"{', '.join(parts)}. To read about a code: mops-helm explain {findings[0].code}"]
    if n_fixable:
        object_text = "it" if len(findings) == 1 else f"{n_fixable} of them"
        typed_files = " ".join(quote_path(path) for path in files)
        lines.append(f"To correct {object_text}: mops-helm values check --fix {typed_files}")
    return "\n".join(lines)


def render_presets(presets: Sequence[Preset], output: OutputFormat) -> str:
    """A line per preset: its name, its kind and its purpose."""
    if output != "table":
        fields = [{"name": p.name, "kind": p.kind, "purpose": p.purpose} for p in presets]
        return render_data(fields, output)
    return render_table(["NAME", "KIND", "PURPOSE"], [[p.name, p.kind, p.purpose] for p in presets])


def render_preset(preset: Preset, output: OutputFormat) -> str:
    """As a table: the file itself, whose comments explain it."""
    if output == "table":
        return preset.text.rstrip("\n")
    return render_data(
        {"name": preset.name, "kind": preset.kind, "purpose": preset.purpose, "values": preset.values}, output
    )


def render_differences(
    changes: Sequence[tuple[str, Any, Any]], names: tuple[str, str], output: OutputFormat
) -> str:
    """Values that differ, a row each."""
    if output != "table":
        return render_data([{"value": path, names[0]: a, names[1]: b} for path, a, b in changes], output)
    if not changes:
        return f"{names[0]} and {names[1]} give the same values"
    rows = [[path, json.dumps(a), json.dumps(b)] for path, a, b in changes]
    return render_table(["VALUE", *(name.upper() for name in names)], rows)


def render_explanation(explained: Explanation, output: OutputFormat) -> str:
    """A block per pool: pods, processes, threads, memory, the command; then advice."""
    if output != "table":
        return render_data(_explanation_fields(explained), output)
    blocks = [_render_pool(pool, explained) for pool in explained.pools]
    return "\n\n".join(blocks)


def _explanation_fields(explained: Explanation) -> dict[str, Any]:
    return {
        "preset": explained.preset,
        "executor": explained.settings.executor_type,
        "pools": [
            {
                "name": pool.name,
                "pods": pool.shape.replicas,
                "mostPods": pool.max_replicas,
                "processesPerPod": pool.shape.processes,
                "threadsPerProcess": pool.shape.threads,
                "tasksAtOnce": pool.shape.slots,
                "cpusPerPod": None if pool.cpus is None else float(pool.cpus),
                "podBytes": pool.shape.pod_memory_bytes,
                "podBytesDecidedBy": pool.memory_decided_by,
                "processBytes": pool.shape.process_memory_bytes,
                "spillPoints": {point.name: point.at_bytes for point in pool.spill_points},
                "runnersPerProcess": pool.runners,
                "childBytes": pool.runner_limit_bytes,
                "warmProcesses": pool.warm_processes,
                "command": pool.command,
                "advice": list(pool.advice),
            }
            for pool in explained.pools
        ],
    }


def _render_pool(pool: PoolExplanation, explained: Explanation) -> str:
    shape, settings = pool.shape, explained.settings
    pods = (
        f"{shape.replicas}"
        if pool.max_replicas == shape.replicas
        else f"{shape.replicas} to {pool.max_replicas}"
    )
    cpus = "none requested" if pool.cpus is None else f"{float(pool.cpus):g}"
    points = [
        f"{point.name} {point.fraction:g} = {format_bytes(point.at_bytes)}"
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
            f"{format_bytes(shape.process_memory_bytes)} each: "
            f"(pod - 96Mi for `dask worker`) / {shape.processes}",
        ],
        ["Spilling", "; ".join(points)],
        ["Executor", settings.executor_type + (f" (preset {explained.preset})" if explained.preset else "")],
    ]
    if pool.runner_limit_bytes is not None:
        rows.append(
            [
                "Runner",
                f"{format_bytes(pool.runner_limit_bytes)} each, {pool.runners} side by side in a process",
            ]
        )
    if pool.warm_processes:
        counts = f"{shape.processes} processes x {settings.max_warm_processes} x {pool.max_replicas} pods"
        rows.append(["Warm", f"at most {pool.warm_processes} processes kept: {counts}"])
    rows.append(["Command", pool.command])
    lines = [f"Pool {pool.name}"] + [f"  {name:<12}{text}" for name, text in rows]
    return "\n".join(lines + [f"  Note: {text}" for text in pool.advice])
