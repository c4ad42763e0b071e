"""The output of `study run` and `study status`: the state of a study, and what to type next.

Summary -> lines for people (`table`), or the same facts as JSON or YAML
"""

import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from modelops_dask.documents.quoting import quote_path
from modelops_dask.shape import MIB
from modelops_dask.store.fold import Failure
from modelops_dask.store.generations import RedoProgress
from modelops_dask.study.presence import RunningDriver
from modelops_dask.study.progress import Progress
from modelops_dask.study.summary import Summary, summary_fields
from mops_helm.forms import OutputFormat, render_data, shorten_path
from mops_helm.render.self_check import UNKNOWN_ORIGIN, Origin, render_self_check, self_check_fields
from mops_helm.study.progress import PHASES, format_duration, format_rate

SHOWN_FAILURES = 10
SHOWN_DETAILS = 3  # lines after the first of an error's message
SHOWN_CONFLICTS = 5
SHOWN_NAMES = 3
TIMEOUT = "TaskTimeout"


def render_summary(
    summary: Summary, output: OutputFormat, flags: str = "", origin: Origin = UNKNOWN_ORIGIN
) -> str:
    """Tasks by state, the work of the run, failures with commands that reproduce them, and the results.

    `flags` are those of the command that chose the workers, for suggested commands; `origin` is the study's
    origin, for commands that run it again.
    """
    if output != "table":
        return render_data(_summary_fields(summary, flags, origin), output)
    store = shorten_path(summary.store)
    lines = [f"Study in {store}: {summary.total:,} tasks of {summary.entrypoint}"]
    lines += [
        f"  {state:<9}{count:>14,}" for state, count in summary.counts.items() if count or state == "ok"
    ]
    if summary.driver:
        lines.append(render_driver(summary.driver))
    if summary.run_progress:
        lines += _render_run(summary.run_progress)
    if summary.failures:
        lines += _render_failures(summary, flags)
    if summary.hint:
        lines.append(summary.hint)
    if summary.conflicts:
        examples = ", ".join(f"{s}/{r}" for s, r in summary.conflicts[:SHOWN_CONFLICTS])
        lines.append(
            f"{len(summary.conflicts):,} tasks have two different results, such as {examples}: the model's "
            "output depends on more than its parameters and seed"
        )
    lines += [f"Skipped: {store}/parts/{name}: {reason}" for name, reason in summary.skipped.items()]
    lines += summary.fallback_notes
    lines += [render_redo(redo) for redo in summary.redos]
    if summary.self_check:
        lines += render_self_check(summary.self_check, summary.store, origin)
    lines += filter(None, [summary.mixed, summary.variation, summary.problem, summary.missing_outputs])
    if summary.results:
        lines.append("Results:")
        lines += [f"  {shorten_path(path)}" for path in summary.results]
    return "\n".join(lines)


def render_redo(redo: RedoProgress) -> str:
    """The progress of a redo."""
    name = f"Redo {redo.generation} (--redo {redo.selection})"
    if redo.n_pending:
        return (
            f"{name}: {redo.n_pending:,} of {redo.n_tasks:,} tasks still have to run again; their older "
            "results do not count. `mops-helm study run` continues"
        )
    if redo.n_lacking:
        return (
            f"{name}: {redo.n_tasks:,} tasks ran again, {redo.n_lacking:,} of them without all outputs that "
            "the study file lists: those are pending. `mops-helm study run` continues"
        )
    return f"{name}: {redo.n_tasks:,} tasks ran again. Their older results stay stored and no longer count"


def _render_run(progress: Progress) -> list[str]:
    """The work of the run that just ended."""
    peak = f", peak memory of a task {progress.peak_bytes / MIB:,.0f} MiB" if progress.peak_bytes else ""
    return [
        f"This run: {progress.ended_here:,} tasks in {format_duration(progress.seconds)}, "
        f"{format_rate(progress.rate)}{peak}",
        *(
            f"{count:,} tasks that ended ok have an output {name!r} of 0 bytes"
            for name, count in progress.empty[:SHOWN_FAILURES]
        ),
        *render_written_files(progress),
    ]


def _render_failures(summary: Summary, flags: str) -> list[str]:
    lines = ["Not ok, by reason, with a command that shows one:"]
    for failure in summary.failures[:SHOWN_FAILURES]:
        lines.append(f"  {failure.count:>9,}  {failure.state:<9} {failure.why}")
        lines += [f"             {'':<9} {detail}" for detail in failure.details[:SHOWN_DETAILS]]
        lines.append(f"             {render_reproduction(summary, failure, flags)}")
    n_hidden = len(summary.failures) - SHOWN_FAILURES
    if n_hidden > 0:
        lines.append(f"  and {n_hidden:,} more reasons (-o json)")
    return [*lines, *summary.separation]


def render_written_files(progress: Progress) -> list[str]:
    """A line on files that tasks wrote next to the model, and one on large files among them."""
    lines = []
    if progress.written_files:
        names = _shorten_names(progress.written_files)
        lines.append(f"Tasks write files next to the model, which are restored after each task: {names}")
    if progress.shared_files:
        lines.append(
            f"Tasks write to large files of the bundle: {_shorten_names(progress.shared_files)}. "
            "Their batches ran again, each runner with copies of its own"
        )
    return lines


def _shorten_names(names: Sequence[str]) -> str:
    n_hidden = len(names) - SHOWN_NAMES
    return ", ".join(names[:SHOWN_NAMES]) + (f" and {n_hidden} more" if n_hidden > 0 else "")


def render_driver(driver: RunningDriver) -> str:
    """The process that runs the study now: its start, its phase, its rate."""
    host = "of this machine" if driver.here else f"on {driver.host}"
    start = time.strftime("%H:%M:%S", time.localtime(driver.started))
    duration = format_duration(max(0.0, time.time() - driver.started))
    clauses = [f"Being run by process {driver.pid} {host}, for {duration} (since {start})"]
    clauses.append(PHASES.get(driver.phase, driver.phase).lower())
    if driver.rate:
        clauses.append(format_rate(driver.rate))
    if driver.eta_seconds:
        clauses.append(f"{format_duration(driver.eta_seconds)} to go")
    return ", ".join(filter(None, clauses))


@dataclass(frozen=True)
class TimeLimit:
    """The time limit of a task, and what states it: the study file, values, or a release of its own."""

    seconds: float
    source: Literal["file", "values", "release"]


def render_next_step(
    summary: Summary, command: str, spec: str = "", time_limit: TimeLimit | None = None
) -> str:
    """What to type next; `command` is the current one, `spec` its study file."""
    if summary.interrupted:
        pending = summary.counts["pending"]
        return f"Interrupted: {pending:,} tasks are pending. Run the same command to continue:\n  {command}"
    nothing = "Nothing was left to do.\n" if summary.run_progress is None else ""
    results = f"mops-helm study results {quote_path(shorten_path(summary.store))}"
    if spec and not (summary.results or summary.problem):  # results/ belongs to a later request
        results += f" --spec {shlex.quote(spec)}"
    steps = [results] if summary.counts["ok"] else []
    advice = ""
    if summary.counts["failed"] or summary.counts["poisoned"]:
        retry = f"{command} --retry failed,poisoned"
        if time_limit and any(failure.reason == TIMEOUT for failure in summary.failures):
            advice, retry = _raise_time_limit(time_limit, retry, spec)
        steps.append(retry)
    return nothing + advice + "Next:\n" + "\n".join(f"  {step}" for step in steps)


def _raise_time_limit(limit: TimeLimit, retry: str, spec: str) -> tuple[str, str]:
    """What to say before a retry of tasks that reached their time limit, and the retry."""
    reached = f"Tasks reached the time limit of {format_duration(limit.seconds)}"
    if limit.source == "values":
        return "", f"{retry} --set executor.taskTimeoutSeconds={2 * limit.seconds:g}"
    place = f"`timeout` in {spec}" if limit.source == "file" else "executor.taskTimeoutSeconds of the workers"
    return f"{reached}. If they need longer, raise {place} first.\n", retry


def render_reproduction(summary: Summary, failure: Failure, flags: str) -> str:
    """The command that runs one of the failed tasks in the foreground."""
    store, task = quote_path(shorten_path(summary.store)), f"{failure.set}/{failure.replicate}"
    return f"mops-helm study try {store} --task {task} {flags}".rstrip()


def _summary_fields(summary: Summary, flags: str, origin: Origin) -> dict[str, Any]:
    facts = summary_fields(summary)
    facts["self_check"] = self_check_fields(summary.self_check, summary.store, origin)
    for reason, failure in zip(facts["by_reason"], summary.failures, strict=True):
        reason["reproduce"] = render_reproduction(summary, failure, flags)
    return facts
