"""What becomes of a study in the cluster, read from its Job alone: no pod's log, no store.

Job (conditions, and the annotations that its driver writes) -> Submitted: a state of the contract, progress

States are those of ModelOps: pending, running, succeeded, partial, failed, cancelled. Does not say why a pod
does not start: stuck.py does.
"""

import difflib
import json
import time
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, get_args

from modelops_dask.errors import BadInput
from modelops_dask.kube import jobs
from modelops_dask.kube.connect import Cluster
from modelops_dask.study.progress import Phase

PROGRESS, SUMMARY = "modelops.io/progress", "modelops.io/summary"  # of a chunk with its number: PROGRESS-3
INTERRUPTED = 130
PHASES = get_args(Phase)  # in their order
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
    found = [of(job) for job in jobs.listed(cluster)]
    fits = [one for one in found if one.job == name] or [one for one in found if one.study == name]
    if len(fits) != 1:
        raise NoSuchStudy(name, cluster.namespace, found)
    return fits[0]


def of(job: jobs.Object) -> Submitted:
    """What a Job says."""
    metadata, spec, status = job["metadata"], job["spec"], job.get("status", {})
    annotations, labels = metadata.get("annotations", {}), metadata.get("labels", {})
    conditions = {one["type"]: one for one in status.get("conditions", []) if one["status"] == "True"}
    end = conditions.get("Complete") or conditions.get("Failed")
    failed = conditions.get("Failed") or conditions.get("FailureTarget") or {}
    summary, chunks = _json(annotations.get(SUMMARY)), 0
    if spec.get("completionMode") == "Indexed":
        chunks = spec["completions"]
    verdict = _verdict(annotations, summary, chunks)
    progress = _progress(annotations, chunks)
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
        study=annotations.get(jobs.STUDY) or labels.get(jobs.STUDY, ""),
        release=labels.get(jobs.RELEASE, ""),
        state=state,
        ended=end is not None,
        store=annotations.get(jobs.STORE, ""),
        bundle=annotations.get(jobs.BUNDLE, ""),
        command=annotations.get(jobs.COMMAND, ""),
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


def _progress(annotations: dict[str, str], chunks: int) -> Seen | None:
    """Of a driver, or of all chunks: counts and rates add up, the phase is the furthest, the word the newest.

    Chunks have equal shares, so the total is known before each of them has begun.
    """
    said = [_json(text) for name, text in annotations.items() if _is(name, PROGRESS)]
    said = sorted((one for one in said if "seen" in one), key=lambda one: one["seen"])
    if not said:
        return None
    done, total, failed, poisoned = (
        sum(one.get(name) or 0 for one in said) for name in ("done", "total", "failed", "poisoned")
    )
    total = round(total * max(1, chunks) / len(said))
    going = [one for one in said if one.get("done", 0) < one.get("total", 0)]
    phases = [one.get("phase", "") for one in said]
    return Seen(
        phase=max(phases, key=lambda phase: PHASES.index(phase) if phase in PHASES else -1),
        done=done,
        total=total,
        failed=failed,
        poisoned=poisoned,
        rate=sum(one.get("rate") or 0 for one in going),
        eta_seconds=max((one.get("eta_seconds") or 0 for one in going), default=0) or None,
        note=next((one["note"] for one in reversed(said) if one.get("note")), ""),
        seen=said[-1]["seen"],
    )


def _verdict(annotations: dict[str, str], summary: dict[str, Any], chunks: int) -> int | None:
    """Of the whole, else of its chunks: they have succeeded or are partial only when all have ended."""
    if "exit_code" in summary:
        return summary["exit_code"]
    said = [_json(text) for name, text in annotations.items() if _is(name, SUMMARY)]
    codes = [one["exit_code"] for one in said if "exit_code" in one]
    judged = [code for code in codes if code not in (0, 3)]
    return max(judged or codes) if judged or 0 < len(codes) == chunks else None


def _is(name: str, kind: str) -> bool:
    """Whether an annotation is of that kind, a chunk's too."""
    return name == kind or (name.startswith(f"{kind}-") and name[len(kind) + 1 :].isdigit())


def _json(text: str | None) -> dict[str, Any]:
    """An annotation as a mapping; {} for what is none."""
    try:
        value = json.loads(text or "{}")
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _seconds(time_: str) -> float:
    return datetime.fromisoformat(time_).timestamp()
