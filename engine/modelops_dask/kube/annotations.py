"""Write a driver's progress as annotations of its own Job, readable without the pod's log or the store.

put(name, value) -> the newest of each name -> one patch, every few seconds -> the Job's annotations

A separate thread sends them, so a cluster that does not answer does not delay the study; the newest values
are sent once it does. Only close() waits, for a bounded time.
"""

import json
import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from modelops_dask.kube.connect import Cluster, RequestRefused, api_request

logger = logging.getLogger("modelops")

PREFIX = "modelops.io/"
EVERY_SECONDS = 5.0
AGAIN_SECONDS = 3.0  # after a failure
FINAL = (403, 404, 422)  # permanent errors: no permission, no such Job, too long


class Annotations:
    """Annotations of a Job. `job` returns its name or "", and is called again while it raises."""

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
        """Set an annotation, or None to remove it. An unsent value of that name is dropped."""
        text = None if value is None else json.dumps(value, separators=(",", ":"), ensure_ascii=False)
        if text:
            text = text.encode(errors="backslashreplace").decode()  # half a surrogate pair cannot be sent
        with self._lock:
            self._unsent[PREFIX + name] = text
        if urgent:
            self._urgent.set()

    def close(self, wait_seconds: float) -> None:
        """Send the remaining values, waiting at most wait_seconds."""
        self._ended = True
        self._urgent.set()
        self._thread.join(wait_seconds)

    def _send(self) -> None:
        job, failure_text = None, ""
        while not (self._ended and not self._unsent):
            self._urgent.wait(self._every_seconds)
            self._urgent.clear()
            with self._lock:
                values, self._unsent = self._unsent, {}
            try:
                job = self._job() if job is None else job
                if values and job:
                    self._patch(job, values)
            except Exception as error:  # any error: the verdict must be written once it passes
                failure_text, before = str(error).partition("\n")[0] or type(error).__name__, failure_text
                if failure_text != before:
                    logger.warning("the Job's annotations were not written: %s", failure_text)
                if job and isinstance(error, RequestRefused) and error.status in FINAL:
                    continue
                with self._lock:
                    self._unsent = values | self._unsent
                time.sleep(AGAIN_SECONDS)
                self._urgent.set()

    def _patch(self, job: str, values: Mapping[str, str | None]) -> None:
        with api_request(f"write the progress on job {job}"):
            self._cluster.batch.patch_namespaced_job(
                job,
                self._cluster.namespace,
                {"metadata": {"annotations": dict(values)}},
                _content_type="application/merge-patch+json",
                _request_timeout=10,
            )
