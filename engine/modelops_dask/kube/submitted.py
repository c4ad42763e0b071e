"""What becomes of a study in the cluster, read from its Job alone: no pod's log, no store.

Job (conditions, and the annotations that its driver writes) -> Submitted: a state of the contract, progress

Annotations are read as untrusted.py says: whatever they hold, a Job can be shown. States are those of
ModelOps: pending, running, succeeded, partial, failed, cancelled; "unknown" is a Job that cannot be read.
Does not say why a pod does not start: stuck.py does.
"""

import difflib
import time
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, get_args

from modelops_dask.errors import BadInput
from modelops_dask.kube import jobs, untrusted
from modelops_dask.kube.connect import Cluster
from modelops_dask.study.progress import Phase

PROGRESS, SUMMARY = "modelops.io/progress", "modelops.io/summary"  # of a chunk with its number: PROGRESS-3
INTERRUPTED = 130
PHASES = get_args(Phase)  # in their order
COUNTS = ("total", "ok", "failed", "poisoned", "pending")  # that every summary has
SILENT_SECONDS = 60.0  # without a word of the driver


@dataclass(frozen=True)
class Seen:
    """How far a driver says it is, or all chunks together. Times are seconds since the epoch."""

    phase: str = ""
    done: int = 0
    total: int = 0
    failed: int = 0
    poisoned: int = 0
    rate: float = 0.0  # tasks a second
    eta_seconds: float | None = None
    note: str = ""
    seen: float = 0.0


@dataclass(frozen=True)
class Submitted:
    """A study's Job. `ended` says that nothing of it runs any more."""

    job: str
    study: str
    release: str
    state: str
    ended: bool
    store: str
    bundle: str  # digest
    command: str  # that submits it
    chunks: int  # 0 is one driver
    created: float  # seconds since the epoch
    finished: float  # 0 until it is
    message: str  # what Kubernetes says of a Job that failed
    verdict: int | None  # exit status of the driver, the worst of chunks; None while it is open
    progress: Seen | None
    summary: dict[str, Any] = field(repr=False)  # as `study status -o json`; {} until there is one
    uid: str = ""
    suspended: bool = False  # by a queue, until it admits the Job
    template: dict[str, Any] = field(default_factory=dict, repr=False)  # of its pods

    @property
    def exit_code(self) -> int:
        """Of the study, as `study run` would end; 130 when it was ended from outside and can go on."""
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
        """Whether it is long since a driver that should run said a word."""
        said = self.progress.seen if self.progress else self.created
        return not self.ended and time.time() - said > SILENT_SECONDS


class NoSuchStudy(BadInput):
    """No Job of that name, or too many."""

    def __init__(self, name: str, namespace: str, found: list[Submitted]) -> None:
        super().__init__(name, namespace, found)
        self.name, self.namespace, self.found = name, namespace, found

    def __str__(self) -> str:
        same = [one for one in self.found if one.study == self.name]
        if same:
            lines = [f"{len(same)} Jobs are of studies named {self.name}; say which:"]
            return "\n".join([*lines, *(f"  {one.job}  {one.state}  {one.store}" for one in same)])
        known = {one.study for one in self.found} | {one.job for one in self.found}
        near = difflib.get_close_matches(self.name, sorted(known), 1)
        if near:
            hint = f"did you mean {near[0]}?"
        elif known:
            hint = "those that are there:  mops-helm study list -n " + self.namespace
        else:
            hint = (
                "there is none. Jobs are removed a day after their end; a store stays: name its folder or URL"
            )
        return f"There is no study {self.name} in namespace {self.namespace}; {hint}"


def find(cluster: Cluster, name: str) -> Submitted:
    """A study by the name of its Job, or by its own when only one Job has it. NoSuchStudy."""
    found = listed(cluster)
    fits = [one for one in found if one.job == name] or [one for one in found if one.study == name]
    if len(fits) != 1:
        raise NoSuchStudy(name, cluster.namespace, found)
    return fits[0]


def listed(cluster: Cluster, release: str = "") -> list[Submitted]:
    """All studies, or those of one release, the oldest first; of a Job that cannot be read, its name."""
    found = []
    for job in jobs.listed(cluster, release):
        try:
            found.append(of(job))
        except Exception as error:  # whatever it is: it is one Job, and the others must be shown
            found.append(_unreadable(job, error))
    return found


def _unreadable(job: jobs.Object, error: Exception) -> Submitted:
    name = job["metadata"]["name"]
    return Submitted(
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


def of(job: jobs.Object) -> Submitted:
    """What a Job says, whatever its annotations hold."""
    metadata, spec, status = job["metadata"], job["spec"], job.get("status", {})
    annotations, labels = metadata.get("annotations") or {}, metadata.get("labels") or {}
    conditions = {one["type"]: one for one in status.get("conditions", []) if one["status"] == "True"}
    end = conditions.get("Complete") or conditions.get("Failed")
    failed = conditions.get("Failed") or conditions.get("FailureTarget") or {}
    summary, chunks = _summary(annotations.get(SUMMARY)), 0
    if spec.get("completionMode") == "Indexed":
        chunks = spec["completions"]
    verdict = _verdict(annotations, summary, chunks)
    progress = _progress(annotations, chunks)
    if summary and progress and not summary["total"]:
        summary |= _counts(progress)
    if "Complete" in conditions:
        state = "succeeded"
    elif jobs.CANCELLED in annotations:
        state = "cancelled"
    elif "Failed" in conditions:
        state = "partial" if verdict == 3 else "failed"
    else:
        state = "running" if progress or status.get("ready") else "pending"
    return Submitted(
        job=metadata["name"],
        study=untrusted.text(annotations.get(jobs.STUDY) or labels.get(jobs.STUDY)),
        release=labels.get(jobs.RELEASE, ""),
        state=state,
        ended=end is not None,
        store=untrusted.text(annotations.get(jobs.STORE)),
        bundle=untrusted.text(annotations.get(jobs.BUNDLE)),
        command=untrusted.text(annotations.get(jobs.COMMAND)),
        chunks=chunks,
        created=_seconds(metadata["creationTimestamp"]),
        finished=_seconds(end["lastTransitionTime"]) if end else 0.0,
        message=f"{failed.get('reason', '')}: {failed.get('message', '')}" if failed else "",
        verdict=verdict,
        progress=progress,
        summary=summary,
        uid=metadata["uid"],
        suspended=bool(spec.get("suspend")),
        template=spec["template"],
    )


def _summary(annotation: Any) -> dict[str, Any]:
    """A summary with all counts, and of the rest only what has its kind; {} when there is none.

    Drivers of 0.1.0 that ended by an error left `pending` out.
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
    return summary | counts


def _counts(progress: Seen) -> dict[str, int]:
    """The counts of a summary whose driver ended before it counted: those that the driver before it told."""
    ok = max(0, progress.done - progress.failed - progress.poisoned)
    pending = max(0, progress.total - progress.done)
    return dict(zip(COUNTS, (progress.total, ok, progress.failed, progress.poisoned, pending), strict=True))


def _is_reason(value: Any) -> bool:
    kinds = {"count": int, "state": str, "reason": str, "task": str}
    if not isinstance(value, dict) or type(value.get("task_of_spec", "")) is not str:
        return False
    return all(type(value.get(name)) is kind for name, kind in kinds.items())


def _progress(annotations: dict[str, str], chunks: int) -> Seen | None:
    """Of a driver, or of all chunks: counts and rates add up, the phase is the furthest, the word the newest.

    Chunks have equal shares, so the total is known before each of them has begun.
    """
    read = (untrusted.mapping(text) for name, text in annotations.items() if _is(name, PROGRESS))
    said = sorted((_seen(one) for one in read if "seen" in one), key=lambda one: one.seen)
    if not said:
        return None
    done, total, failed, poisoned = (
        sum(getattr(one, name) for one in said) for name in ("done", "total", "failed", "poisoned")
    )
    going = [one for one in said if one.done < one.total]
    return Seen(
        phase=max(
            (one.phase for one in said), key=lambda phase: PHASES.index(phase) if phase in PHASES else -1
        ),
        done=done,
        total=round(total * max(1, chunks) / len(said)),
        failed=failed,
        poisoned=poisoned,
        rate=sum(one.rate for one in going),
        eta_seconds=max((one.eta_seconds or 0.0 for one in going), default=0.0) or None,
        note=next((one.note for one in reversed(said) if one.note), ""),
        seen=said[-1].seen,
    )


def _seen(said: dict[str, Any]) -> Seen:
    """What one driver says, counts that cannot be left out."""
    counts = {name: untrusted.count(said.get(name)) for name in ("done", "total", "failed", "poisoned")}
    numbers = {name: untrusted.number(said.get(name)) for name in ("rate", "seen")}
    texts = {name: untrusted.text(said.get(name)) for name in ("phase", "note")}
    return Seen(**texts, **counts, **numbers, eta_seconds=untrusted.number(said.get("eta_seconds")) or None)


def _verdict(annotations: dict[str, str], summary: dict[str, Any], chunks: int) -> int | None:
    """Of the whole, else of its chunks: they have succeeded or are partial only when all have ended."""
    if "exit_code" in summary:
        return summary["exit_code"]
    said = [_summary(text) for name, text in annotations.items() if _is(name, SUMMARY)]
    codes = [one["exit_code"] for one in said if "exit_code" in one]
    judged = [code for code in codes if code not in (0, 3)]
    return max(judged or codes) if judged or 0 < len(codes) == chunks else None


def _is(name: str, kind: str) -> bool:
    """Whether an annotation is of that kind, a chunk's too."""
    return name == kind or (name.startswith(f"{kind}-") and name[len(kind) + 1 :].isdigit())


def _seconds(time_: str) -> float:
    return datetime.fromisoformat(time_).timestamp()
