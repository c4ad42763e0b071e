"""Read the state of a study in the cluster from its Job alone, without a pod's log or the store.

Job (conditions, and the annotations that its driver writes) -> StudyJob: a state of the contract, progress

Annotations are read as described in untrusted.py: whatever they hold, a Job can be shown. States are those of
ModelOps: pending, running, succeeded, partial, failed, cancelled; "unknown" is a Job that cannot be read.
study_problems.py explains why a pod does not start.
"""

import difflib
import time
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, get_args

from modelops_dask.errors import BadInput
from modelops_dask.kube import jobs, untrusted
from modelops_dask.kube.connect import Cluster, format_location
from modelops_dask.study.progress import Phase

PROGRESS, SUMMARY = "modelops.io/progress", "modelops.io/summary"  # of a chunk with its number: PROGRESS-3
INTERRUPTED = 130
PHASES = get_args(Phase)  # in their order
COUNTS = ("total", "ok", "failed", "poisoned", "pending")  # that every summary has
SILENT_SECONDS = 60.0  # without a message of the driver


@dataclass(frozen=True)
class ReportedProgress:
    """The progress that a driver reports, or all chunks together. Times are seconds since the epoch.

    The fields are keys of `study status -o json`.
    """

    phase: str = ""
    done: int = 0
    total: int = 0
    failed: int = 0
    poisoned: int = 0
    rate: float = 0.0  # tasks per second
    eta_seconds: float | None = None
    note: str = ""
    seen: float = 0.0


@dataclass(frozen=True)
class StudyJob:
    """A study's Job. `ended` means that nothing of it runs any longer."""

    job: str
    study: str
    release: str
    state: str
    ended: bool
    store: str
    bundle: str  # digest
    command: str  # the command that submits it
    chunks: int  # 0 is one driver
    created: float  # seconds since the epoch
    finished: float  # 0 until it is
    message: str  # Kubernetes' message on a failed Job
    verdict: int | None  # exit status of the driver, the worst of chunks; None while it is running
    progress: ReportedProgress | None
    summary: dict[str, Any] = field(repr=False)  # as in `study status -o json`; {} until there is one
    uid: str = ""
    suspended: bool = False  # by a queue, until it admits the Job
    template: dict[str, Any] = field(default_factory=dict, repr=False)  # of its pods

    @property
    def exit_code(self) -> int:
        """The exit status of the study, like that of `study run`; 130 if it was ended from outside and can
        continue.
        """
        if self.state == "succeeded":
            return 0
        if self.state == "partial":
            return 3
        return INTERRUPTED if self.interrupted else self.verdict or 1

    @property
    def interrupted(self) -> bool:
        """Whether it was ended from outside: cancelled, or over its time."""
        return self.state == "cancelled" or (
            self.state == "failed" and self.message.startswith("DeadlineExc")
        )

    @property
    def silent(self) -> bool:
        """Whether a driver that should run has not reported for a long time."""
        last_seen = self.progress.seen if self.progress else self.created
        return not self.ended and time.time() - last_seen > SILENT_SECONDS


class NoSuchStudy(BadInput):
    """No Job has that name, or several have."""

    def __init__(self, name: str, namespace: str, study_jobs: list[StudyJob], context: str = "") -> None:
        super().__init__(name, namespace, study_jobs)
        self.context = context
        self.name, self.namespace, self.study_jobs = name, namespace, study_jobs

    def __str__(self) -> str:
        same = [job for job in self.study_jobs if job.study == self.name]
        if same:
            lines = [f"{len(same)} Jobs belong to studies named {self.name}; name one of them:"]
            return "\n".join([*lines, *(f"  {job.job}  {job.state}  {job.store}" for job in same)])
        known_names = {name for job in self.study_jobs for name in (job.study, job.job)}
        near = difflib.get_close_matches(self.name, sorted(known_names), 1)
        if near:
            hint = f"did you mean {near[0]}?"
        elif known_names:
            hint = f"list the studies:  mops-helm study list {format_location(self.namespace, self.context)}"
        else:
            hint = (
                "the namespace has none. Jobs are removed a day after their end, but stores remain: name "
                "its folder or URL"
            )
        return f"No study {self.name} in namespace {self.namespace}; {hint}"


def find_study_job(cluster: Cluster, name: str) -> StudyJob:
    """Find a study by the name of its Job, or by its own name if only one Job has it. Raises NoSuchStudy."""
    study_jobs = list_study_jobs(cluster)
    by_job = [job for job in study_jobs if job.job == name]
    matches = by_job or [job for job in study_jobs if job.study == name]
    if len(matches) != 1:
        raise NoSuchStudy(name, cluster.namespace, study_jobs, cluster.context)
    return matches[0]


def list_study_jobs(cluster: Cluster, release: str = "") -> list[StudyJob]:
    """Return all studies, or those of a release, the oldest first; only the name of an unreadable Job."""
    study_jobs = []
    for job in jobs.list_jobs(cluster, release):
        try:
            study_jobs.append(parse_job(job))
        except Exception as error:  # any error: it is one Job, and the others must be shown
            study_jobs.append(_make_unreadable(job, error))
    return study_jobs


def _make_unreadable(job: jobs.Object, error: Exception) -> StudyJob:
    name = job["metadata"]["name"]
    return StudyJob(
        job=name,
        study=name,
        release="",
        state="unknown",
        ended=False,
        store="",
        bundle="",
        command="",
        chunks=0,
        created=time.time(),
        finished=0.0,
        message=f"The Job cannot be read: {type(error).__name__}: {error}",
        verdict=None,
        progress=None,
        summary={},
    )


def parse_job(job: jobs.Object) -> StudyJob:
    """Parse a Job, whatever its annotations hold."""
    metadata, spec, status = job["metadata"], job["spec"], job.get("status", {})
    annotations, labels = metadata.get("annotations") or {}, metadata.get("labels") or {}
    conditions = {
        condition["type"]: condition
        for condition in status.get("conditions", [])
        if condition["status"] == "True"
    }
    end = conditions.get("Complete") or conditions.get("Failed")
    failed = conditions.get("Failed") or conditions.get("FailureTarget") or {}
    summary, chunks = _parse_summary(annotations.get(SUMMARY)), 0
    if spec.get("completionMode") == "Indexed":
        chunks = spec["completions"]
    verdict = _merge_verdicts(annotations, summary, chunks)
    progress = _merge_progress(annotations, chunks)
    if summary and progress and not summary["total"]:
        summary |= _count_from_progress(progress)
    if "Complete" in conditions:
        state = "succeeded"
    elif jobs.CANCELLED in annotations:
        state = "cancelled"
    elif "Failed" in conditions:
        state = "partial" if verdict == 3 else "failed"
    else:
        state = "running" if progress or status.get("ready") else "pending"
    return StudyJob(
        job=metadata["name"],
        study=untrusted.text(annotations.get(jobs.STUDY) or labels.get(jobs.STUDY)),
        release=labels.get(jobs.RELEASE, ""),
        state=state,
        ended=end is not None,
        store=untrusted.text(annotations.get(jobs.STORE)),
        bundle=untrusted.text(annotations.get(jobs.BUNDLE)),
        command=untrusted.text(annotations.get(jobs.COMMAND)),
        chunks=chunks,
        created=_parse_time(metadata["creationTimestamp"]),
        finished=_parse_time(end["lastTransitionTime"]) if end else 0.0,
        message=f"{failed.get('reason', '')}: {failed.get('message', '')}" if failed else "",
        verdict=verdict,
        progress=progress,
        summary=summary,
        uid=metadata["uid"],
        suspended=bool(spec.get("suspend")),
        template=spec["template"],
    )


def _parse_summary(annotation: Any) -> dict[str, Any]:
    """A summary with all counts, and other fields only if they are valid; {} if there is none.

    Drivers of 0.1.0 that ended with an error left `pending` out.
    """
    summary = untrusted.mapping(annotation)
    if not summary:
        return {}
    counts = {name: untrusted.count(summary.get(name)) for name in COUNTS}
    if "pending" not in summary:
        counts["pending"] = max(0, counts["total"] - counts["ok"] - counts["failed"] - counts["poisoned"])
    if summary.get("exit_code") not in range(256):
        summary.pop("exit_code", None)
    if "verdict" in summary:
        summary["verdict"] = untrusted.text(summary["verdict"])
    if "by_reason" in summary:
        reasons = summary["by_reason"]
        summary["by_reason"] = list(filter(_is_reason, reasons)) if isinstance(reasons, list) else []
    if "self_check" in summary:
        summary["self_check"] = _parse_self_check(summary["self_check"])
    return summary | counts


def _count_from_progress(progress: ReportedProgress) -> dict[str, int]:
    """The counts of a summary whose driver ended before counting: those of the previous driver."""
    ok = max(0, progress.done - progress.failed - progress.poisoned)
    pending = max(0, progress.total - progress.done)
    return dict(zip(COUNTS, (progress.total, ok, progress.failed, progress.poisoned, pending), strict=True))


def _is_reason(value: Any) -> bool:
    kinds = {"count": int, "state": str, "reason": str, "task": str}
    if not isinstance(value, dict) or type(value.get("task_of_spec", "")) is not str:
        return False
    return all(type(value.get(name)) is kind for name, kind in kinds.items())


def _parse_self_check(value: Any) -> dict[str, Any] | None:
    """The result of a self-check: counts, and for tasks that differ their number, executor and cause."""
    if not isinstance(value, dict):
        return None
    comparisons = value.get("different")
    return {
        **value,
        **{name: untrusted.count(value.get(name)) for name in ("compared", "equal")},
        "different": [
            {
                **comparison,
                **{name: untrusted.text(comparison.get(name)) for name in ("task", "executor", "cause")},
            }
            for comparison in (comparisons if isinstance(comparisons, list) else ())
            if isinstance(comparison, dict)
        ],
    }


def _merge_progress(annotations: dict[str, str], chunks: int) -> ReportedProgress | None:
    """Progress of a driver, or of all chunks: counts and rates add up, the phase is the furthest, the message
    the newest.

    Chunks have equal shares, so the total is known before each of them has started.
    """
    contents = (untrusted.mapping(text) for name, text in annotations.items() if _has_kind(name, PROGRESS))
    unsorted = (_parse_progress(content) for content in contents if "seen" in content)
    reports = sorted(unsorted, key=lambda report: report.seen)
    if not reports:
        return None
    unfinished = [report for report in reports if report.done < report.total]
    return ReportedProgress(
        phase=max((report.phase for report in reports), key=_phase_number),
        done=sum(report.done for report in reports),
        total=round(sum(report.total for report in reports) * max(1, chunks) / len(reports)),
        failed=sum(report.failed for report in reports),
        poisoned=sum(report.poisoned for report in reports),
        rate=sum(report.rate for report in unfinished),
        eta_seconds=max((report.eta_seconds or 0.0 for report in unfinished), default=0.0) or None,
        note=next((report.note for report in reversed(reports) if report.note), ""),
        seen=reports[-1].seen,
    )


def _phase_number(phase: str) -> int:
    """The position of a phase in a run; -1 for an unknown one."""
    return PHASES.index(phase) if phase in PHASES else -1


def _parse_progress(content: dict[str, Any]) -> ReportedProgress:
    """Parse the report of one driver; a missing count is 0."""
    return ReportedProgress(
        phase=untrusted.text(content.get("phase")),
        done=untrusted.count(content.get("done")),
        total=untrusted.count(content.get("total")),
        failed=untrusted.count(content.get("failed")),
        poisoned=untrusted.count(content.get("poisoned")),
        rate=untrusted.number(content.get("rate")),
        eta_seconds=untrusted.number(content.get("eta_seconds")) or None,
        note=untrusted.text(content.get("note")),
        seen=untrusted.number(content.get("seen")),
    )


def _merge_verdicts(annotations: dict[str, str], summary: dict[str, Any], chunks: int) -> int | None:
    """The verdict of the whole, or of its chunks: they have succeeded or are partial only when all have
    ended.
    """
    if "exit_code" in summary:
        return summary["exit_code"]
    summaries = [_parse_summary(text) for name, text in annotations.items() if _has_kind(name, SUMMARY)]
    codes = [chunk["exit_code"] for chunk in summaries if "exit_code" in chunk]
    error_codes = [code for code in codes if code not in (0, 3)]
    return max(error_codes or codes) if error_codes or 0 < len(codes) == chunks else None


def _has_kind(name: str, kind: str) -> bool:
    """Whether an annotation is of that kind, including a chunk's."""
    return name == kind or (name.startswith(f"{kind}-") and name[len(kind) + 1 :].isdigit())


def _parse_time(timestamp: str) -> float:
    return datetime.fromisoformat(timestamp).timestamp()
