"""Functions that return what the commands for studies in the cluster print.

StudyJob, Reasons -> a table for people, or the same facts as JSON or YAML
"""

import shlex
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from modelops_dask.kube.connect import format_location
from modelops_dask.kube.pods import PodProblem
from modelops_dask.kube.study_jobs import StudyJob
from mops_helm.forms import OutputFormat, render_data
from mops_helm.render.self_check import CURED, SAFE_PRESETS
from mops_helm.study.follower import to_progress
from mops_helm.study.progress import PHASES, describe_progress, format_duration

if TYPE_CHECKING:
    from mops_helm.study.submission import Submission

STATES = ("ok", "failed", "poisoned", "pending")
COLUMNS = ("STUDY", "STATE", "TASKS", "AGE", "RELEASE", "JOB")


def render_location_flags(namespace: str, context: str) -> str:
    """The flags for the location of a study, to be typed again."""
    return format_location(namespace, context)


def render_study_list(studies: Sequence[StudyJob], namespace: str, output: OutputFormat) -> str:
    """A line per study, the newest first."""
    newest = sorted(studies, key=lambda study: -study.created)
    if output != "table":
        return render_data([_study_fields(study, ()) for study in newest], output)
    if not newest:
        return (
            f"No studies in namespace {namespace}. Submit one:  mops-helm study submit SPEC --release RELEASE"
        )
    rows = [COLUMNS, *(_render_row(study) for study in newest)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def _render_row(study: StudyJob) -> tuple[str, ...]:
    progress, counts = study.progress, study.summary
    tasks = ""
    if counts.get("total"):
        tasks = f"{counts['total'] - counts['pending']:,}/{counts['total']:,}"
    elif progress and progress.total:
        tasks = f"{progress.done:,}/{progress.total:,}"
    age = format_duration(max(1.0, time.time() - study.created))
    return study.study, study.state, tasks, age, study.release, study.job


def render_study_status(
    study: StudyJob, reasons: Sequence[PodProblem], flags: str, output: OutputFormat
) -> str:
    """The state of a study according to its Job, its problems, and what to type next. `flags` give its
    location.
    """
    if output != "table":
        return render_data(_study_fields(study, reasons), output)
    kind = f"{study.chunks} chunks" if study.chunks else "one driver"
    lines = [
        f"Study {study.study}: {study.state}{_describe_age(study)}",
        f"  job      {study.job} of release {study.release}, {kind}",
        f"  store    {study.store}",
    ]
    progress = study.progress
    if progress and not study.ended:
        clauses = [PHASES.get(progress.phase, progress.phase).lower()]
        clauses += [describe_progress(to_progress(progress))] if progress.total else []
        lines.append(f"  now      {', '.join(filter(None, clauses))}")
        lines += [f"  note     {progress.note}"] if progress.note else []
        if study.silent:
            lines.append(
                f"  silent   for {format_duration(time.time() - progress.seen)}: its pod may still be "
                "starting"
            )
    lines += _render_outcome(study)
    lines += [f"Problem: {reason}" for reason in reasons]
    return "\n".join([*lines, "Next:", *(f"  {step}" for step in _list_next_commands(study, flags))])


def _describe_age(study: StudyJob) -> str:
    if study.state == "cancelled" and not study.ended:
        return ", running batches are being stored"
    if study.ended:
        return f", after {format_duration(max(1.0, study.finished - study.created))}"
    return f", for {format_duration(max(1.0, time.time() - study.created))}"


def _render_outcome(study: StudyJob) -> list[str]:
    """Counts, the verdict, and failures by reason."""
    summary = study.summary
    lines = [f"  {name:<9}{summary[name]:>14,}" for name in STATES if summary.get(name)]
    if study.ended and summary.get("verdict"):
        lines.append(summary["verdict"])
    elif study.state in ("failed", "unknown") and study.message:
        lines.append(study.message)
    if summary.get("by_reason"):
        lines.append("Not ok, by reason, with a command that shows one:")
    for failure in summary.get("by_reason") or ():
        lines.append(f"  {failure['count']:>9,}  {failure['state']:<9} {failure['reason']}")
        task = failure.get("task_of_spec") or failure["task"]  # drivers of 0.1.0 know the store's number
        lines.append(
            f"             mops-helm study try {_format_model_arguments(study)} --task {shlex.quote(task)}"
        )
    return lines


def _list_next_commands(study: StudyJob, flags: str) -> list[str]:
    read = f"{shlex.quote(study.job)} {flags}"
    if not study.ended:
        return [f"mops-helm study status {read} --watch", f"mops-helm study cancel {read}"]
    # A failed study without pending tasks has failed while writing its tables.
    no_tables = study.state == "failed" and not study.summary.get("pending")
    steps = [f"mops-helm study results {read}"] if study.summary.get("ok") and not no_tables else []
    if study.state == "partial":
        differences = (study.summary.get("self_check") or {}).get("different", [])
        if study.summary.get("failed") or study.summary.get("poisoned") or not differences:
            steps.append(f"{study.command} --retry failed,poisoned")
        if differences:
            steps.append(f"mops-helm diagnose {_format_model_arguments(study)}")
            steps += _list_redo_commands(study, differences, flags)
    elif study.state != "succeeded":
        steps.append(study.command)
    return steps or [f"mops-helm study results {read}"]


def _list_redo_commands(study: StudyJob, differences: list[dict[str, Any]], flags: str) -> list[str]:
    """Commands that replace rows that depend on how they were run, according to a self-check."""
    executors = {
        each["executor"]
        for each in differences
        if each["cause"] in CURED and not each.get("equal_replicates")
    }
    steps = []
    for executor in sorted(executors & SAFE_PRESETS.keys()):
        steps.append(
            f"mops-helm upgrade {shlex.quote(study.release)} {flags} --preset {SAFE_PRESETS[executor]}"
        )
        steps.append(f"{study.command} --redo executor={executor}")
    return steps


def _format_model_arguments(study: StudyJob) -> str:
    """SPEC as typed after `mops-helm study submit`, and --bundle if it was given."""
    try:
        command = shlex.split(study.command)
    except ValueError:  # an annotation may hold anything
        command = []
    arguments = command[3:4] or ["SPEC"]
    if "--bundle" in command[:-1]:
        arguments += ["--bundle", command[command.index("--bundle") + 1]]
    return shlex.join(arguments)


def _study_fields(study: StudyJob, reasons: Sequence[PodProblem]) -> dict[str, Any]:
    return {
        "job": study.job,
        "study": study.study,
        "release": study.release,
        "state": study.state,
        "ended": study.ended,
        "store": study.store,
        "bundle": study.bundle,
        "command": study.command,
        "chunks": study.chunks,
        "created": study.created,
        "finished": study.finished or None,
        "exit_code": study.exit_code if study.ended else None,
        "message": study.message,
        "progress": asdict(study.progress) if study.progress else None,
        "summary": study.summary or None,
        "in_the_way": [asdict(reason) for reason in reasons],
    }


def render_submission(submission: "Submission") -> str:
    """The result of a submission."""
    messages = {
        "submitted": f"Submitted as {submission.job}; results go to {submission.store}",
        "running": f"{submission.job} is already running: the same study, model and release. Nothing was "
        "changed.",
        "continued": f"Submitted again as {submission.job}; it continues in {submission.store}",
    }
    notes = [submission.store_note] if submission.store_note else []
    lines = [*notes, messages[submission.outcome], *map(_render_other_study, submission.other_studies)]
    return "\n".join(lines)


def _render_other_study(other: StudyJob) -> str:
    return (
        f"{other.job} ({other.state}) writes the same store. Both end with the results of their "
        "own tasks, and tasks that both include may run twice. To run one after the other, cancel this one "
        f"and submit it again when {other.job} has ended."
    )


def render_watch_commands(job: str, flags: str) -> str:
    """Commands that watch and end a running study."""
    read = f"{shlex.quote(job)} {flags}"
    return f"Watch:   mops-helm study status {read} --watch\nStop:    mops-helm study cancel {read}"


def render_cancellation(study: StudyJob) -> str:
    """The results of a study that is being cancelled, and how to continue. `study` is its state before."""
    if study.ended:
        return f"{study.job} has already ended: {study.state}. Its results stay in {study.store}."
    return (
        f"Cancelled {study.job}: running batches are being stored in {study.store}.\n"
        f"To continue:  {study.command}"
    )
