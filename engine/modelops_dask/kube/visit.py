"""A short-lived pod beside a study's store: with the image, volumes and credentials of its driver.

a Job's pod template -> a pod that sleeps -> commands in it, by exec -> the pod is deleted

So a store on a volume and one behind a URL are read in one way, and this machine needs no access to either.
A pod that nobody could delete ends by itself after an hour.
"""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from copy import deepcopy
from typing import BinaryIO

from modelops_dask.errors import ClusterFailed
from modelops_dask.kube import exec as in_pod
from modelops_dask.kube import pods
from modelops_dask.kube.connect import Cluster, Refused, asking
from modelops_dask.kube.jobs import CONTAINER, Object

LIFE_SECONDS = 3600
READY_SECONDS = 300
# Labels by which a Job would take the pod for one of its own.
OF_JOBS = ("controller-uid", "job-name", "batch.kubernetes.io/controller-uid", "batch.kubernetes.io/job-name")


class NotReady(ClusterFailed):
    """The pod did not start in time; `reason` says why, if that is known."""

    def __init__(self, pod: str, reason: pods.Reason | None) -> None:
        super().__init__(pod, reason)
        self.pod, self.reason = pod, reason

    def __str__(self) -> str:
        said = f"The pod that was to read the store did not start within {READY_SECONDS} s"
        return f"{said}: {self.reason}" if self.reason else f"{said}."


class Visit:
    """A pod that is ready for commands."""

    def __init__(self, cluster: Cluster, pod: str) -> None:
        self._cluster, self._pod = cluster, pod

    def run(
        self,
        command: Sequence[str],
        stdout: BinaryIO,
        stdin: BinaryIO | None = None,
        stderr: BinaryIO | None = None,
    ) -> int:
        """The exit status of a command; its output comes as bytes, as it arrives."""
        errors = stderr or sys.stderr.buffer
        return in_pod.run(self._cluster, self._pod, command, stdout, errors, stdin, CONTAINER)


@contextmanager
def visiting(
    cluster: Cluster, template: Object, name: str, say: Callable[[str], None], owner: Object | None = None
) -> Iterator[Visit]:
    """A pod of a Job's template for as long as the `with` lasts; it goes with its owner too.

    `say` hears what it waits for. Refused, NotReady.
    """
    pod = _pod(template, name, owner)
    with asking("start a pod that reads the store", cluster.context):
        created = cluster.core.create_namespaced_pod(cluster.namespace, pod).metadata.name
    try:
        _wait(cluster, created, say)
        yield Visit(cluster, created)
    finally:
        with suppress(Refused), asking(f"delete pod {created}", cluster.context):
            cluster.core.delete_namespaced_pod(created, cluster.namespace, grace_period_seconds=0)


def _pod(template: Object, name: str, owner: Object | None) -> Object:
    """The template, sleeping instead of driving; it needs little CPU and no token."""
    metadata, spec = deepcopy(template.get("metadata", {})), deepcopy(template["spec"])
    labels = {key: value for key, value in metadata.get("labels", {}).items() if key not in OF_JOBS}
    spec |= {
        "restartPolicy": "Never",
        "activeDeadlineSeconds": LIFE_SECONDS,
        "terminationGracePeriodSeconds": 1,
        "automountServiceAccountToken": False,
    }
    (container,) = (one for one in spec["containers"] if one["name"] == CONTAINER)
    container["args"] = ["sleep", str(LIFE_SECONDS)]
    requests = container.setdefault("resources", {}).setdefault("requests", {})
    if "cpu" in requests:
        requests["cpu"] = "50m"
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "generateName": f"{name}-read-",
            "labels": labels,
            "ownerReferences": [owner] if owner else [],
        },
        "spec": spec,
    }


def _wait(cluster: Cluster, name: str, say: Callable[[str], None]) -> None:
    deadline, said = time.monotonic() + READY_SECONDS, None
    while True:
        with asking(f"see pod {name}", cluster.context):
            pod = cluster.plain(cluster.core.read_namespaced_pod(name, cluster.namespace))
        if pods.ready(pod):
            return
        uid = pod["metadata"]["uid"]
        reason = pods.reason(pod, pods.warnings(cluster).get(uid, ()))
        if time.monotonic() > deadline or pod["status"].get("phase") in ("Failed", "Succeeded"):
            raise NotReady(name, reason)
        if reason and reason != said:
            said = reason
            say(f"The pod that reads the store waits: {reason}")
        time.sleep(0.3)
