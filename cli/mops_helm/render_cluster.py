"""Functions that return what the commands for studies in the cluster print.

Submitted, Reasons -> a table for people, or the same facts as JSON or YAML
"""

import shlex
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from modelops_dask.kube.pods import Reason
from modelops_dask.kube.submitted import Submitted
from mops_helm.following import as_progress
from mops_helm.progress import PHASES, duration, line
from mops_helm.render import data

if TYPE_CHECKING:
    from mops_helm.submission import Submission

STATES = ("ok", "failed", "poisoned", "pending")
COLUMNS = ("STUDY", "STATE", "TASKS", "AGE", "RELEASE", "JOB")


def place(namespace: str, context: str) -> str:
    """The flags that say where a study is, as they would be typed again."""
    words = [f"-n {shlex.quote(namespace)}"]
    return " ".join(words + ([f"--kube-context {shlex.quote(context)}"] if context else []))


def listed(found: Sequence[Submitted], namespace: str, form: str) -> str:
    """A line per study, the newest first."""
    newest = sorted(found, key=lambda one: -one.created)
    if form != "table":
        return data([_fields(one, ()) for one in newest], form)
    if not newest:
        return (
            f"No studies in namespace {namespace}. Submit one:  mops-helm study submit SPEC --release RELEASE"
        )
    rows = [COLUMNS, *(_row(one) for one in newest)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def _row(study: Submitted) -> tuple[str, ...]:
    seen, counts = study.progress, study.summary
    tasks = ""
    if counts.get("total"):
        tasks = f"{counts['total'] - counts['pending']:,}/{counts['total']:,}"
    elif seen and seen.total:
        tasks = f"{seen.done:,}/{seen.total:,}"
    age = duration(max(1.0, time.time() - study.created))
    return study.study, study.state, tasks, age, study.release, study.job


def status(study: Submitted, why: Sequence[Reason], flags: str, form: str) -> str:
    """What a Job says of its study, what is in the way, and what to type next. `flags` say where it is."""
    if form != "table":
        return data(_fields(study, why), form)
    kind = f"{study.chunks} chunks" if study.chunks else "one driver"
    lines = [
        f"Study {study.study}: {study.state}{_since(study)}",
        f"  job      {study.job} of release {study.release}, {kind}",
        f"  store    {study.store}",
    ]
    seen = study.progress
    if seen and not study.ended:
        words = [PHASES.get(seen.phase, seen.phase).lower()]
        words += [line(as_progress(seen))] if seen.total else []
        lines.append(f"  now      {', '.join(filter(None, words))}")
        lines += [f"  note     {seen.note}"] if seen.note else []
        if study.silent:
            lines.append(f"  silent   for {duration(time.time() - seen.seen)}: its pod may be on its way")
    lines += _outcome(study)
    lines += [f"In the way: {reason}" for reason in why]
    return "\n".join([*lines, "Next:", *(f"  {step}" for step in _next(study, flags))])


def _since(study: Submitted) -> str:
    if study.state == "cancelled" and not study.ended:
        return ", what runs is being stored"
    if study.ended:
        return f", after {duration(max(1.0, study.finished - study.created))}"
    return f", for {duration(max(1.0, time.time() - study.created))}"


def _outcome(study: Submitted) -> list[str]:
    """Counts, the verdict, and failures by reason."""
    summary = study.summary
    lines = [f"  {name:<9}{summary[name]:>14,}" for name in STATES if summary.get(name)]
    if study.ended and summary.get("verdict"):
        lines.append(summary["verdict"])
    elif study.state in ("failed", "unknown") and study.message:
        lines.append(study.message)
    if summary.get("by_reason"):
        lines.append("Not ok, by reason, and how to see one:")
    for failure in summary.get("by_reason") or ():
        lines.append(f"  {failure['count']:>9,}  {failure['state']:<9} {failure['reason']}")
        task = failure.get("task_of_spec") or failure["task"]  # drivers of 0.1.0 know the store's number
        lines.append(f"             mops-helm study try {_model(study)} --task {shlex.quote(task)}")
    return lines


def _next(study: Submitted, flags: str) -> list[str]:
    read = f"{shlex.quote(study.job)} {flags}"
    if not study.ended:
        return [f"mops-helm study status {read} --watch", f"mops-helm study cancel {read}"]
    # A study that failed though no task is pending has failed at its tables.
    no_tables = study.state == "failed" and not study.summary.get("pending")
    steps = [f"mops-helm study results {read}"] if study.summary.get("ok") and not no_tables else []
    if study.state == "partial":
        steps.append(f"{study.command} --retry failed,poisoned")
    elif study.state != "succeeded":
        steps.append(study.command)
    return steps or [f"mops-helm study results {read}"]


def _model(study: Submitted) -> str:
    """SPEC as it was typed, the word after `mops-helm study submit`, and --bundle if it was."""
    try:
        words = shlex.split(study.command)
    except ValueError:  # an annotation is whatever somebody wrote
        words = []
    given = words[3:4] or ["SPEC"]
    if "--bundle" in words[:-1]:
        given += ["--bundle", words[words.index("--bundle") + 1]]
    return shlex.join(given)


def _fields(study: Submitted, why: Sequence[Reason]) -> dict[str, Any]:
    names = ("job", "study", "release", "state", "ended", "store", "bundle", "command", "chunks")
    return {
        **{name: getattr(study, name) for name in names},
        "created": study.created,
        "finished": study.finished or None,
        "exit_code": study.exit_code if study.ended else None,
        "message": study.message,
        "progress": asdict(study.progress) if study.progress else None,
        "summary": study.summary or None,
        "in_the_way": [asdict(reason) for reason in why],
    }


def submitted(done: "Submission") -> str:
    """What became of a submission."""
    said = {
        "submitted": f"Submitted as {done.job}; results go to {done.store}",
        "running": f"{done.job} runs already: the same study, model and release. Nothing was changed.",
        "continued": f"Submitted again as {done.job}; it goes on in {done.store}",
    }
    return "\n".join([said[done.how], *map(_beside, done.beside)])


def _beside(other: Submitted) -> str:
    return (
        f"{other.job} ({other.state}) writes the same store. Each of the two ends with the results of its "
        "own tasks, and tasks that both ask for may run twice. To run one after the other, cancel this one "
        f"and submit it again when {other.job} has ended."
    )


def watch_lines(job: str, flags: str) -> str:
    """How to watch and to end a study that runs."""
    read = f"{shlex.quote(job)} {flags}"
    return f"Watch:   mops-helm study status {read} --watch\nEnd it:  mops-helm study cancel {read}"


def cancelled(study: Submitted) -> str:
    """What a cancelled study leaves, and how to go on."""
    return (
        f"Cancelled {study.job}: what runs is being stored, and stays in {study.store}.\n"
        f"To go on:  {study.command}"
    )
