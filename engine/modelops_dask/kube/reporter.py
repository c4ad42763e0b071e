"""Report a study's progress and end to the cluster, and watch the pods that it depends on.

    phases, progress, notes -> the log; the Job's annotation `progress`, every few seconds (annotations.py)
    the end                 -> the log; the annotation `summary`; the pod's termination message
    the release's pods      -> events on the inbox, problems for a verdict (watch.py)

The annotations of a chunk have its number; the chunk that ended the study also writes the summary of the
whole. Outside a cluster, or without permissions in it, only the log remains.
"""

import json
import logging
import socket
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, suppress
from functools import cached_property
from pathlib import Path
from queue import SimpleQueue
from types import TracebackType
from typing import Any

from modelops_dask.errors import ClusterFailed, MopsError
from modelops_dask.kube import pods
from modelops_dask.kube.annotations import EVERY_SECONDS, Annotations
from modelops_dask.kube.connect import IN_POD, Cluster, connect
from modelops_dask.kube.own_pod import JOB, OwnPod, find_own_pod
from modelops_dask.kube.watch import PodWatch
from modelops_dask.plan.plan import Chunk
from modelops_dask.study import events
from modelops_dask.study.progress import Phase, Progress
from modelops_dask.study.summary import Summary, summary_fields

logger = logging.getLogger("modelops")

TERMINATION_LOG = Path("/dev/termination-log")
TERMINATION_BYTES = 4096  # Kubernetes stores no more
LOG_SECONDS = 10.0
LAST_WORD_SECONDS = 90.0  # for an API server that is unavailable; less if the pod has to end
CHUNKS_A_SECOND = 10  # that write their progress
COUNTS = ("total", "ok", "failed", "poisoned")
REASONS = 10  # in a summary, and tasks of a self-check; an object's annotations have 256 KiB of room


class Reporter(AbstractContextManager["Reporter"]):
    """`stopping` is whether the run was asked to stop, `done` how many tasks had ended by the last progress.

    `own_sets` maps numbers of sets in the store to those in the study file, which commands use.
    """

    def __init__(self, share: Chunk | None, inbox: "SimpleQueue[events.Event]") -> None:
        self.stopping = False
        self.done = 0
        self.own_sets: Mapping[int, int] = {}
        self._name = "" if share is None else f"-{share.number}"
        self._state: dict[str, Any] = {"phase": "", "note": "", "pod": socket.gethostname()}
        self._logged = 0.0
        self._annotations = self._watch = None
        if self._cluster is None:
            return
        every_seconds = max(EVERY_SECONDS, share.n_chunks / CHUNKS_A_SECOND) if share else EVERY_SECONDS
        self._annotations = Annotations(self._cluster, lambda: self._own.job_name, every_seconds)
        self._annotations.put(f"summary{self._name}", None)  # of a previous pod that had to end
        if share is None:
            self._watch = PodWatch(self._cluster, lambda: self._own.worker_selector, inbox, self.note)

    @cached_property
    def _cluster(self) -> Cluster | None:
        if not IN_POD.exists():
            return None
        try:
            return connect()
        except ClusterFailed as error:
            logger.warning("Progress could not be reported to the cluster: %s", error)
            return None

    @cached_property
    def _own(self) -> OwnPod:
        assert self._cluster is not None, "callers check it first"
        own_pod = find_own_pod(self._cluster)
        self._state["pod"] = own_pod.pod_name
        return own_pod

    def stop(self) -> None:
        """Wait less for the cluster at the end, because the pod is about to be removed."""
        self.stopping = True

    def phase(self, phase: Phase) -> None:
        """Report that a phase of the run begins."""
        logger.info("phase: %s", phase)
        cleared_note = {"note": ""} if phase == "environment" else {}
        self._tell(urgent=True, phase=phase, **cleared_note)

    def progress(self, progress: Progress) -> None:
        """Report the progress of the run."""
        self.done = progress.done
        eta = progress.eta_seconds
        self._tell(
            done=progress.done,
            total=progress.total,
            ok=progress.ok,
            failed=progress.failed,
            poisoned=progress.poisoned,
            workers=progress.workers,
            rate=round(progress.rate, 3),
            eta_seconds=None if eta is None else round(eta, 1),
        )
        now = time.monotonic()
        if now - self._logged > LOG_SECONDS or progress.done == progress.total:
            self._logged = now
            logger.info("%d of %d tasks done, %.3g a second", progress.done, progress.total, progress.rate)

    def stage(self, text: str) -> None:
        """Report the state of the phase, which is called repeatedly."""
        now = time.monotonic()
        if now - self._logged > LOG_SECONDS:
            self._logged = now
            self.note(text)

    def note(self, text: str) -> None:
        """Log a line and show it with the progress."""
        if text != self._state["note"]:
            logger.info("%s", text)
            self._tell(urgent=True, note=text)

    def describe_missing_workers(self) -> str:
        """Return why workers are missing; "" if not known."""
        return self._watch.describe_problems() if self._watch else ""

    def was_disrupted(self) -> bool:
        """Whether the cluster ended this Job's previous pod, as far as is known.

        It was preempted, drained or evicted, or its node was lost.
        """
        if not self._cluster:
            return False
        with suppress(ClusterFailed):
            job_pods = (
                pods.list_pods(self._cluster, f"{JOB}={self._own.job_name}") if self._own.job_name else []
            )
            before = [pod for pod in job_pods if pod["metadata"]["name"] != self._own.pod_name]
            newest = max(before, key=lambda pod: pod["metadata"]["creationTimestamp"], default=None)
            return newest is not None and pods.is_disrupted(newest)
        return False

    def upgrade(self, values: str = "-f FILE") -> str:
        """Return the command that changes the release's values; "" if the release is not known."""
        if not self._cluster:
            return ""
        with suppress(ClusterFailed):
            command = f"mops-helm upgrade {self._own.release} -n {self._cluster.namespace} {values}"
            return f"\n\n  {command}\nthen submit the study again."
        return ""

    def report_end(self, summary: Summary) -> None:
        """Report that the study or this chunk has ended, or was stopped properly."""
        facts = summary_fields(summary)
        facts["by_reason"] = facts["by_reason"][:REASONS]
        if facts["self_check"]:
            facts["self_check"] |= {
                name: facts["self_check"][name][:REASONS] for name in ("different", "not_comparable")
            }
        for reason in facts["by_reason"]:
            del reason["why"]  # a model's own text, which anyone who sees the Job could read
            number, _, replicate = reason["task"].partition("/")
            if int(number) in self.own_sets:
                reason["task_of_spec"] = f"{self.own_sets[int(number)]}/{replicate}"
        if summary.share is not None or not self._name:
            self.count(summary)
        self._end(facts, summary.exit_code, describe_end(summary), of_all=summary.share is None)

    def count(self, summary: Summary) -> None:
        """Set the counts of the summary, for an error that follows."""
        self._state |= {"total": summary.total, **{name: summary.counts[name] for name in COUNTS[1:]}}

    def report_error(self, error: MopsError) -> None:
        """Report that the run ended with an error."""
        self._end({}, error.exit_code, str(error), of_all=not self._name)

    def _end(self, facts: dict[str, Any], exit_code: int, verdict_text: str, of_all: bool) -> None:
        """Write the verdict; a chunk that ended the study writes both."""
        logger.info("%s", verdict_text)
        short = {name: self._state.get(name, 0) for name in COUNTS}
        short["pending"] = max(0, short["total"] - short["ok"] - short["failed"] - short["poisoned"])
        short |= {"exit_code": exit_code, "verdict": verdict_text}
        message = f"{verdict_text}\n{json.dumps(short | {'verdict': None})}".encode()[:TERMINATION_BYTES]
        if TERMINATION_LOG.exists():
            with suppress(OSError):
                TERMINATION_LOG.write_bytes(message)
        if self._annotations is None:
            return
        if of_all:
            self._annotations.put("summary", short | facts, urgent=True)
        if self._name:
            self._annotations.put(f"summary{self._name}", short, urgent=True)

    def _tell(self, urgent: bool = False, **changes: Any) -> None:
        self._state |= changes
        if self._annotations:
            self._annotations.put(f"progress{self._name}", self._state | {"seen": round(time.time())}, urgent)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._annotations:
            self._annotations.close(5.0 if self.stopping else LAST_WORD_SECONDS)


def describe_end(summary: Summary) -> str:
    """Describe in a sentence how a study or a chunk ended."""
    if summary.interrupted:
        return f"Stopped: {summary.counts['pending']:,} of {summary.total:,} tasks are pending"
    bad = [f"{summary.counts[state]:,} {state}" for state in ("failed", "poisoned") if summary.counts[state]]
    if summary.conflicts:
        bad.append(f"{len(summary.conflicts):,} with two different results")
    if summary.self_check and (n_different := len(summary.self_check.different)):
        bad.append(f"self-check: {n_different:,} of {summary.self_check.n_compared:,} compared tasks differ")
    whole = "" if summary.share is None else f" of chunk {summary.share.number}"
    if not bad and not summary.problem:
        return f"All {summary.total:,} tasks{whole} are ok{_describe_check(summary)}"
    return f"Of {summary.total:,} tasks{whole}: {', '.join(bad) or 'all ok'}. {summary.problem}".rstrip()


def _describe_check(summary: Summary) -> str:
    check = summary.self_check
    if check is None:
        return ""
    n_compared = check.n_compared
    outcome = (
        f"{n_compared} task{'' if n_compared == 1 else 's'} compared, equal"
        if n_compared
        else "none compared"
    )
    return f"; self-check: {outcome}"
