"""Watch a study in the cluster until it ends.

its Job, asked for every two seconds -> Progress, or what is in the way -> a Reporter -> Submitted, ended

An API server that is away is waited for: the study does not need it. Does not touch the study: whoever stops
watching leaves it running.
"""

import logging
import time

from modelops_dask.errors import ClusterFailed
from modelops_dask.kube import jobs, stuck, submitted
from modelops_dask.kube.connect import Cluster, NoCluster, Refused
from modelops_dask.kube.submitted import Seen, Submitted
from modelops_dask.study.progress import Progress
from mops_helm.progress import PHASES, Reporter

POLL_SECONDS = 2.0
AWAY_SECONDS = 600.0
STUCK_SECONDS = 6.0  # between two looks at what is in the way


class Gone(ClusterFailed):
    """The Job was deleted while it was watched."""

    exit_code = 130

    def __init__(self, study: Submitted) -> None:
        super().__init__(study)
        self.study = study

    def __str__(self) -> str:
        return (
            f"Job {self.study.job} was deleted. What was stored stays in {self.study.store}; "
            f"to go on:  {self.study.command}"
        )


class Follower:
    """Tells a Reporter what changes from one look at a Job to the next."""

    def __init__(self, cluster: Cluster, shown: Reporter) -> None:
        self._cluster, self._shown = cluster, shown
        self._said: set[str] = set()
        self._last: Seen | None = None
        self._looked = 0.0
        self._waits: set[str] = set()

    def until_end(self, study: Submitted) -> Submitted:
        """The study once nothing of it runs any more. Gone, and what an API server says that is there."""
        # What it would say of each lost connection is said here, once.
        logging.getLogger("urllib3").setLevel(logging.ERROR)
        heard = time.monotonic()
        while not study.ended:
            time.sleep(POLL_SECONDS)
            try:
                job = jobs.read(self._cluster, study.job)
                if job is None:
                    raise Gone(study)
                study = submitted.of(job)
                self._tell(study)
                heard = time.monotonic()
                self._said.discard("away")
            except (NoCluster, Refused) as error:
                passing = isinstance(error, NoCluster) or error.status == 429 or error.status >= 500
                if not passing or time.monotonic() - heard > AWAY_SECONDS:
                    raise
                self._once("away", "The API server does not answer; the study does not need it. Waiting.")
        return study

    def _tell(self, study: Submitted) -> None:
        seen = study.progress
        if seen and seen != self._last:
            if seen.phase in PHASES and (self._last is None or seen.phase != self._last.phase):
                self._shown.phase(seen.phase)
            if seen.total and seen.phase not in ("workers", "environment"):
                self._shown.progress(as_progress(seen))
            if seen.note:
                self._once(seen.note, seen.note)
            self._last = seen
        waits = study.state == "pending" or study.silent or (seen and seen.phase == "workers")
        if waits and not study.ended and time.monotonic() - self._looked > STUCK_SECONDS:
            self._looked = time.monotonic()
            found = {str(reason) for reason in stuck.reasons(self._cluster, study)}
            for reason in sorted(found & self._waits):  # seen twice: what only starts needs no word
                self._once(reason, reason)
            self._waits = found

    def _once(self, key: str, text: str) -> None:
        if key not in self._said:
            self._said.add(key)
            self._shown.say(text)


def as_progress(seen: Seen) -> Progress:
    """What a driver says of itself, as a run on this machine says it."""
    return Progress(
        total=seen.total,
        ok=seen.done - seen.failed - seen.poisoned,
        failed=seen.failed,
        poisoned=seen.poisoned,
        ended_here=0,
        seconds=0.0,
        workers=0,
        peak_bytes=0,
        recent=seen.rate,
    )
