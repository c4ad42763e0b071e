"""The output of `study plan`: a study's size, its tasks, and the expected time and memory.

Spec, Plan, Forecast -> lines for people (`table`), or the same facts as JSON or YAML
"""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from modelops_dask.documents.quoting import quote_path
from modelops_dask.plan.duration import format_limit
from modelops_dask.plan.plan import Plan, PlannedTask
from modelops_dask.plan.spec import Spec
from modelops_dask.settings import Settings
from modelops_dask.shape import MIB
from mops_helm.forms import OutputFormat, render_data, render_json_line, shorten_path
from mops_helm.render.findings import render_findings
from mops_helm.study.forecast import Forecast, StudyPreview
from mops_helm.study.progress import format_duration

SHOWN_WARNINGS = 10
# Memory that no measurement of models includes.
PROCESS_A_TASK = {"cold": "and the model's imports", "isolated_fork": "a fork of a process that imported it"}
UNMEASURED_TASKS = 1000  # larger studies should not start without measurements


def render_plan(
    spec: Spec, preview: StudyPreview, store: str, output: OutputFormat, settings: Settings
) -> str:
    """The contents of a study, and its needs with these settings of the workers."""
    bundle, forecast = preview.bundle, preview.forecast
    fields: dict[str, Any] = {
        "study": spec.name,
        "entrypoint": spec.entrypoint,
        "sets": spec.n_sets,
        "replicates": spec.replicates,
        "tasks": spec.n_tasks,
        "bundle": bundle,
        "store": store,
        **({"outputs": list(spec.outputs)} if spec.outputs else {}),
        "timeout_seconds": _limit_seconds(spec, settings),
    }
    if output != "table":
        warnings = [asdict(finding) for finding in spec.warnings]
        call = asdict(preview.call) if preview.call else None
        expected = _forecast_fields(forecast)
        return render_data(fields | {"calls": call, "expected": expected, "warnings": warnings}, output)
    fields["bundle"] = shorten_path(bundle) if bundle else "none"
    if spec.outputs:
        fields["outputs"] = f"{', '.join(spec.outputs)}; all others are left out"
    del fields["timeout_seconds"]
    fields["limit"] = _describe_limit(spec, settings)
    fields |= _describe_forecast(forecast) if forecast else {}
    return "\n".join(
        f"{name:<12}{value:,}" if isinstance(value, int) else f"{name:<12}{value}"
        for name, value in fields.items()
    )


def _limit_seconds(spec: Spec, settings: Settings) -> float | None:
    """The time limit of each task; None: there is none."""
    if settings.executor_type == "direct":
        return None
    return spec.timeout_seconds or settings.task_timeout_seconds or None


def _describe_limit(spec: Spec, settings: Settings) -> str:
    source = "timeout of the study file" if spec.timeout_seconds else "executor.taskTimeoutSeconds"
    if seconds := _limit_seconds(spec, settings):
        return f"{format_limit(seconds)} for a task ({source})"
    if settings.executor_type == "direct":
        return f"none: executor direct cannot end a task ({source})"
    return f"none ({source} is 0)"


def render_warnings(spec: Spec, *, on_terminal: bool) -> Iterator[str]:
    """A text for each value in the study file that may be misread."""
    for finding in spec.warnings[:SHOWN_WARNINGS]:
        yield render_findings([finding], on_terminal=on_terminal)
    if (n_hidden := len(spec.warnings) - SHOWN_WARNINGS) > 0:
        yield f"{spec.path}: {n_hidden:,} more warnings like these"


def render_pilot_advice(spec: Spec, forecast: Forecast | None) -> str:
    """Advice before a large study without measurements; "" for all others."""
    if forecast or spec.n_tasks <= UNMEASURED_TASKS:
        return ""
    command = f"mops-helm study plan {quote_path(spec.path)} --tasks 20"
    return (
        f"This study has {spec.n_tasks:,} tasks, and their time and memory are not known yet. "
        "To run 20 of them first and\nkeep their results:\n"
        f"  {command}\n"
        "If you are looking for a few good parameter sets, an adaptive method needs fewer tasks: "
        "it chooses each set by\nthe results of earlier ones."
    )


def _describe_forecast(forecast: Forecast) -> dict[str, str]:
    estimate = forecast.estimate
    profile = estimate.profile
    lines = {
        "time": f"about {format_duration(estimate.seconds)}, {estimate.side_by_side} tasks at the same time, "
        f"{format_duration(profile.mean_seconds)} each (mean of {profile.tasks:,}, {profile.executor})"
    }
    local = forecast.local_estimate
    if local.side_by_side != estimate.side_by_side:
        lines["here"] = (
            f"about {format_duration(local.seconds)}, {local.side_by_side} at the same time on this machine"
        )
    if forecast.executor in PROCESS_A_TASK:
        process = PROCESS_A_TASK[forecast.executor]
        lines["besides"] = f"the process that {forecast.executor} starts for each task ({process})"
    if not estimate.needed_bytes:
        return lines
    needed_mib, limit_mib = estimate.needed_bytes // MIB, estimate.limit_bytes // MIB
    lines["memory"] = (
        f"{needed_mib:,} MiB for a task (the largest of these plus a margin); it has {limit_mib:,} MiB"
    )
    if estimate.fits:
        lines["preset"] = "this shape fits"
    elif forecast.preset:
        lines["preset"] = f"--preset {forecast.preset}"
    else:
        lines["preset"] = "no preset gives a task that much; raise workers.memoryPerProcess"
    return lines


def _forecast_fields(forecast: Forecast | None) -> dict[str, Any] | None:
    """None without measurements."""
    if forecast is None:
        return None
    estimate = forecast.estimate
    return {
        "seconds": round(estimate.seconds, 3),
        "side_by_side": estimate.side_by_side,
        "seconds_here": round(forecast.local_estimate.seconds, 3),
        "side_by_side_here": forecast.local_estimate.side_by_side,
        "task_seconds": round(estimate.profile.mean_seconds, 6),
        "task_bytes": estimate.needed_bytes,
        "task_limit_bytes": estimate.limit_bytes,
        "fits": estimate.fits,
        "preset": forecast.preset,
        "measured_tasks": estimate.profile.tasks,
    }


def render_tasks(plan: Plan, output: OutputFormat) -> Iterator[str]:
    """A line for each task, one at a time: there may be millions."""
    tasks = plan.tasks([(0, plan.n_sets * plan.replicates)])
    if output == "table":
        yield f"{'task':<12}{'seed':<22}{'param_id':<14}params"
        for task in tasks:
            name = f"{task.set}/{task.replicate}"
            yield f"{name:<12}{task.seed:<22}{task.param_id[:12]:<14}{render_json_line(task.params)}"
        return
    separator = "["
    for task in tasks:
        line = render_json_line(task_fields(task))
        if output == "yaml":  # of which JSON is a part
            yield f"- {line}"
        else:
            yield separator + line
            separator = ","
    if output == "json":
        yield "[]" if separator == "[" else "]"
    elif not plan.n_tasks:
        yield "[]"


def task_fields(task: PlannedTask) -> dict[str, Any]:
    """A task as plain data."""
    return {
        "set": task.set,
        "replicate": task.replicate,
        "param_id": task.param_id,
        "seed": task.seed,
        "params": task.params,
    }
