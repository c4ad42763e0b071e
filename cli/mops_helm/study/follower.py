"""Watch a study in the cluster until it ends.

its Job, read every two seconds -> Progress, or problems -> a Reporter -> StudyJob, ended

The follower waits for an unavailable API server, which the study does not need. The study is not changed: it
continues when watching stops.
"""

import logging
import time

from modelops_dask.errors import ClusterFailed
from modelops_dask.kube import jobs, study_jobs, study_problems
from modelops_dask.kube.connect import Cluster, NoCluster, RequestRefused
from modelops_dask.kube.study_jobs import ReportedProgress, StudyJob
from modelops_dask.study.progress import Progress
from mops_helm.study.progress import Reporter, is_phase

POLL_SECONDS = 2.0
AWAY_SECONDS = 600.0
STUCK_SECONDS = 6.0  # between two checks for problems


class Gone(ClusterFailed):
    """The Job was deleted while it was being watched."""

    exit_code = 130

    def __init__(self, study: StudyJob) -> None:
        super().__init__(study)
        self.study = study

    def __str__(self) -> str:
        return (
            f"Job {self.study.job} was deleted. Stored results stay in {self.study.store}; "
            f"to continue:  {self.study.command}"
        )


class Follower:
    """Reports changes to a Reporter each time it reads a Job."""

    def __init__(self, cluster: Cluster, reporter: Reporter) -> None:
        self._cluster, self._reporter = cluster, reporter
        self._reported: set[str] = set()
        self._last: ReportedProgress | None = None
        self._last_check = 0.0
        self._last_reasons: set[str] = set()

    def until_end(self, study: StudyJob) -> StudyJob:
        """Follow a study until nothing of it runs any longer, and return it.

        Raises:
            Gone: The Job was deleted.
            NoCluster: The API server was unavailable for longer than AWAY_SECONDS.
            RequestRefused: The API server refused a request, and trying again would not help.
        """
        # urllib3 would log each lost connection; _report_once() reports it once.
        logging.getLogger("urllib3").setLevel(logging.ERROR)
        last_answer = time.monotonic()
        while not study.ended:
            time.sleep(POLL_SECONDS)
            try:
                job = jobs.read(self._cluster, study.job)
                if job is None:
                    raise Gone(study)
                study = study_jobs.parse_job(job)
                self._report(study)
                last_answer = time.monotonic()
                self._reported.discard("away")
            except (NoCluster, RequestRefused) as error:
                temporary = isinstance(error, NoCluster) or error.status == 429 or error.status >= 500
                if not temporary or time.monotonic() - last_answer > AWAY_SECONDS:
                    raise
                self._report_once(
                    "away", "The API server does not respond; the study continues without it. Waiting."
                )
        return study

    def _report(self, study: StudyJob) -> None:
        progress = study.progress
        if progress and progress != self._last:
            if is_phase(progress.phase) and (self._last is None or progress.phase != self._last.phase):
                self._reporter.phase(progress.phase)
            if progress.total and progress.phase not in ("workers", "environment"):
                self._reporter.progress(to_progress(progress))
            if progress.note:
                self._report_once(progress.note, progress.note)
            self._last = progress
        waits = study.state == "pending" or study.silent or (progress and progress.phase == "workers")
        if waits and not study.ended and time.monotonic() - self._last_check > STUCK_SECONDS:
            self._last_check = time.monotonic()
            reasons = {str(reason) for reason in study_problems.find_problems(self._cluster, study)}
            # A problem that occurs twice in a row: a starting pod needs no line.
            for reason in sorted(reasons & self._last_reasons):
                self._report_once(reason, reason)
            self._last_reasons = reasons

    def _report_once(self, key: str, text: str) -> None:
        if key not in self._reported:
            self._reported.add(key)
            self._reporter.say(text)


def to_progress(progress: ReportedProgress) -> Progress:
    """A driver's reported progress, in the form of a local run."""
    return Progress(
        total=progress.total,
        ok=progress.done - progress.failed - progress.poisoned,
        failed=progress.failed,
        poisoned=progress.poisoned,
        ended_here=0,
        seconds=0.0,
        workers=0,
        peak_bytes=0,
        recent_rate=progress.rate,
    )
