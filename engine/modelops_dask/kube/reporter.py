"""What a study's driver tells the cluster, and what it hears from it.

phases, progress, notes -> the log; the Job's annotation `progress`, every few seconds (annotate.py)
the end                 -> the log; the annotation `summary`; the pod's termination message
the release's pods      -> events on the inbox, words for a verdict (watch.py)

Of a chunk the annotations have its number; the one that ended the study tells the summary of the whole too.
Outside a cluster, or without the right to ask, only the log is left.
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
from modelops_dask.kube.annotate import EVERY_SECONDS, Annotations
from modelops_dask.kube.connect import IN_POD, Cluster, connect
from modelops_dask.kube.own import JOB, Own, own
from modelops_dask.kube.watch import PodWatch
from modelops_dask.study import events
from modelops_dask.study.plan import Share
from modelops_dask.study.progress import Phase, Progress
from modelops_dask.study.summary import Summary, fields

logger = logging.getLogger("modelops")

TERMINATION_LOG = Path("/dev/termination-log")
TERMINATION_BYTES = 4096  # Kubernetes keeps no more
LOG_SECONDS = 10.0
LAST_WORD_SECONDS = 90.0  # for an API server that is away; less when the pod has to go
CHUNKS_A_SECOND = 10  # that write their progress
COUNTS = ("total", "ok", "failed", "poisoned")
REASONS = 10  # in a summary; an object's annotations have 256 KiB of room


class Reporter(AbstractContextManager):
    """`stopping`: told to stop; `done` is how many tasks had ended, as last heard.

    `own_sets` are numbers of sets in the store -> in the study file, by which a person tries a task.
    """

    def __init__(self, share: Share | None, inbox: "SimpleQueue[events.Event]") -> None:
        self.stopping = False
        self.done = 0
        self.own_sets: Mapping[int, int] = {}
        self._name = "" if share is None else f"-{share.index}"
        self._state: dict[str, Any] = {"phase": "", "note": "", "pod": socket.gethostname()}
        self._logged = 0.0
        self._annotations = self._watch = None
        if self._cluster is None:
            return
        every_seconds = max(EVERY_SECONDS, share.count / CHUNKS_A_SECOND) if share else EVERY_SECONDS
        self._annotations = Annotations(self._cluster, lambda: self._own.job, every_seconds)
        self._annotations.put(f"summary{self._name}", None)  # of a pod before this one, that had to go
        if share is None:
            self._watch = PodWatch(self._cluster, lambda: self._own.workers, inbox, self.note)

    @cached_property
    def _cluster(self) -> Cluster | None:
        if not IN_POD.exists():
            return None
        try:
            return connect()
        except ClusterFailed as error:
            logger.warning("Not heard by the cluster: %s", error)
            return None

    @cached_property
    def _own(self) -> Own:
        found = own(self._cluster)
        self._state["pod"] = found.pod
        return found

    def stop(self) -> None:
        """Somebody wants the pod to go: its end will wait less long for the cluster's ear."""
        self.stopping = True

    def phase(self, phase: Phase) -> None:
        """What the run does from now on."""
        logger.info("phase: %s", phase)
        waited = {"note": ""} if phase == "environment" else {}
        self._tell(urgent=True, phase=phase, **waited)

    def progress(self, progress: Progress) -> None:
        """How far it is."""
        self.done = progress.done
        names = ("done", "total", "ok", "failed", "poisoned", "workers")
        counts = {name: getattr(progress, name) for name in names}
        eta = progress.eta_seconds
        counts |= {"rate": round(progress.rate, 3), "eta_seconds": None if eta is None else round(eta, 1)}
        self._tell(**counts)
        now = time.monotonic()
        if now - self._logged > LOG_SECONDS or progress.done == progress.total:
            self._logged = now
            logger.info("%d of %d tasks done, %.3g a second", progress.done, progress.total, progress.rate)

    def note(self, text: str) -> None:
        """A line to read."""
        if text != self._state["note"]:
            logger.info("%s", text)
            self._tell(urgent=True, note=text)

    def pods(self) -> str:
        """Why workers are missing; "" when that is not known."""
        return self._watch.words() if self._watch else ""

    def was_taken_away(self) -> bool:
        """Whether the cluster ended the pod of this Job before this one for reasons of its own, as far as is
        known: preempted, drained, evicted, its node gone.
        """
        if not self._cluster:
            return False
        with suppress(ClusterFailed):
            found = pods.find(self._cluster, f"{JOB}={self._own.job}") if self._own.job else []
            before = [pod for pod in found if pod["metadata"]["name"] != self._own.pod]
            newest = max(before, key=lambda pod: pod["metadata"]["creationTimestamp"], default=None)
            return newest is not None and pods.is_disrupted(newest)
        return False

    def upgrade(self, values: str = "-f FILE") -> str:
        """How to give the release other values; "" when the release is not known."""
        if not self._cluster:
            return ""
        with suppress(ClusterFailed):
            command = f"mops-helm upgrade {self._own.release} -n {self._cluster.namespace} {values}"
            return f"\n\n  {command}\nthen submit the study again."
        return ""

    def ended(self, summary: Summary) -> None:
        """The study ended, or this chunk, or was stopped in order."""
        facts = fields(summary)
        facts["by_reason"] = facts["by_reason"][:REASONS]
        for reason in facts["by_reason"]:
            del reason["why"]  # a model's own words, and whoever sees the Job would read them
            number, _, replicate = reason["task"].partition("/")
            if int(number) in self.own_sets:
                reason["task_of_spec"] = f"{self.own_sets[int(number)]}/{replicate}"
        if summary.share is not None or not self._name:
            self.count(summary)
        self._end(facts, summary.exit_code, verdict(summary), of_all=summary.share is None)

    def count(self, summary: Summary) -> None:
        """What the summary of an error that follows will count."""
        self._state |= {"total": summary.total, **{name: summary.counts[name] for name in COUNTS[1:]}}

    def failed(self, error: MopsError) -> None:
        """It ended by an error."""
        self._end({}, error.exit_code, str(error), of_all=not self._name)

    def _end(self, facts: dict[str, Any], exit_code: int, said: str, of_all: bool) -> None:
        """Say how it ended; a chunk that ended the study says it of both."""
        logger.info("%s", said)
        short = {name: self._state.get(name, 0) for name in COUNTS}
        short["pending"] = max(0, short["total"] - short["ok"] - short["failed"] - short["poisoned"])
        short |= {"exit_code": exit_code, "verdict": said}
        message = f"{said}\n{json.dumps(short | {'verdict': None})}".encode()[:TERMINATION_BYTES]
        if TERMINATION_LOG.exists():
            with suppress(OSError):
                TERMINATION_LOG.write_bytes(message)
        if self._annotations is None:
            return
        if of_all:
            self._annotations.put("summary", short | facts, urgent=True)
        if self._name:
            self._annotations.put(f"summary{self._name}", short, urgent=True)

    def _tell(self, urgent: bool = False, **news: Any) -> None:
        self._state |= news
        if self._annotations:
            self._annotations.put(f"progress{self._name}", self._state | {"seen": round(time.time())}, urgent)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._annotations:
            self._annotations.close(5.0 if self.stopping else LAST_WORD_SECONDS)


def verdict(summary: Summary) -> str:
    """How a study, or a chunk, ended, in a sentence."""
    if summary.interrupted:
        return f"Stopped: {summary.counts['pending']:,} of {summary.total:,} tasks are pending"
    bad = [f"{summary.counts[state]:,} {state}" for state in ("failed", "poisoned") if summary.counts[state]]
    if summary.conflicts:
        bad.append(f"{len(summary.conflicts):,} with two results that differ")
    whole = "" if summary.share is None else f" of chunk {summary.share.index}"
    if not bad and not summary.problem:
        return f"All {summary.total:,} tasks{whole} are ok"
    return f"Of {summary.total:,} tasks{whole}: {', '.join(bad) or 'all ok'}. {summary.problem}".rstrip()
