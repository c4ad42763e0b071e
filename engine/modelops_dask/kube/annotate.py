"""What a driver has to say, on its own Job, where it can be read without the pod's log or the store.

put(name, value) -> the newest of each name -> one patch, every few seconds -> the Job's annotations

A thread of its own sends them: a cluster that does not answer costs the study nothing, and hears the newest
once it does. Only the last word is waited for, and not for ever.
"""

import json
import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from modelops_dask.kube.connect import Cluster, Refused, asking

logger = logging.getLogger("modelops")

PREFIX = "modelops.io/"
EVERY_SECONDS = 5.0
AGAIN_SECONDS = 3.0  # after a failure
FINAL = (403, 404, 422)  # no right to it, no such Job, too long: it would be said again


class Annotations:
    """Annotations of a Job; `job` gives its name, "" for none, and is asked again while it raises."""

    def __init__(
        self, cluster: Cluster, job: Callable[[], str], every_seconds: float = EVERY_SECONDS
    ) -> None:
        self._cluster, self._job, self._every_seconds = cluster, job, every_seconds
        self._unsent: dict[str, str | None] = {}
        self._lock, self._urgent = threading.Lock(), threading.Event()
        self._ended = False
        self._thread = threading.Thread(target=self._send, name="modelops-annotations", daemon=True)
        self._thread.start()

    def put(self, name: str, value: Mapping[str, Any] | None, urgent: bool = False) -> None:
        """Say something; what was said before under that name, and not sent, is forgotten. None unsays it."""
        text = None if value is None else json.dumps(value, separators=(",", ":"), ensure_ascii=False)
        if text:
            text = text.encode(errors="backslashreplace").decode()  # half a surrogate pair cannot be sent
        with self._lock:
            self._unsent[PREFIX + name] = text
        if urgent:
            self._urgent.set()

    def close(self, wait_seconds: float) -> None:
        """Send what is left, unless the cluster does not answer for so long."""
        self._ended = True
        self._urgent.set()
        self._thread.join(wait_seconds)

    def _send(self) -> None:
        job, said = None, ""
        while not (self._ended and not self._unsent):
            self._urgent.wait(self._every_seconds)
            self._urgent.clear()
            with self._lock:
                values, self._unsent = self._unsent, {}
            try:
                job = self._job() if job is None else job
                if values and job:
                    self._patch(job, values)
            except Exception as error:  # whatever it is: the verdict must be written once it passes
                said, before = str(error).partition("\n")[0] or type(error).__name__, said
                if said != before:
                    logger.warning("the Job's annotations were not written: %s", said)
                if job and isinstance(error, Refused) and error.status in FINAL:
                    continue
                with self._lock:
                    self._unsent = values | self._unsent
                time.sleep(AGAIN_SECONDS)
                self._urgent.set()

    def _patch(self, job: str, values: Mapping[str, str | None]) -> None:
        with asking(f"write the progress on job {job}"):
            self._cluster.batch.patch_namespaced_job(
                job,
                self._cluster.namespace,
                {"metadata": {"annotations": dict(values)}},
                _content_type="application/merge-patch+json",
                _request_timeout=10,
            )
