"""A short-lived pod of a release, with the image, volumes and credentials of a study's Job.

a Job's pod template -> a pod that sleeps -> commands in it, by exec -> the pod is deleted

So a store on a volume and one behind a URL are read in the same way, and this machine needs no access to
either; and a model is diagnosed where it runs. A pod that could not be deleted ends automatically, and the
next visit to the release removes it.
"""

import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from copy import deepcopy
from typing import BinaryIO

from modelops_dask.errors import ClusterFailed
from modelops_dask.kube import exec as in_pod
from modelops_dask.kube import pods
from modelops_dask.kube.connect import Cluster, RequestRefused, api_request, request_body
from modelops_dask.kube.jobs import CONTAINER, Object, driver_container

READ = "read the store"
IDLE_CPU = "50m"  # of a pod for reading
LIFE_SECONDS = 3600
VISIT, INSTANCE = "modelops.io/visit", "app.kubernetes.io/instance"  # labels
ENDED = ("Failed", "Succeeded")  # phases
READY_SECONDS = 300
# Labels by which a Job would adopt the pod.
OF_JOBS = ("controller-uid", "job-name", "batch.kubernetes.io/controller-uid", "batch.kubernetes.io/job-name")


class NotReady(ClusterFailed):
    """The pod did not start in time; `reason` explains why, if known."""

    def __init__(self, pod: str, purpose: str, reason: pods.PodProblem | None) -> None:
        super().__init__(pod, purpose, reason)
        self.pod, self.purpose, self.reason = pod, purpose, reason

    def __str__(self) -> str:
        problem = f"The pod to {self.purpose} did not start within {READY_SECONDS} s"
        return f"{problem}: {self.reason}" if self.reason else f"{problem}."


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
        """Run a command and return its exit status; its output is written as it arrives.

        Raises CommandLost, with the pod's own reason if it has one.
        """
        errors = stderr or sys.stderr.buffer
        try:
            return in_pod.run(
                self._cluster, self._pod, command, stdout, errors, stdin=stdin, container=CONTAINER
            )
        except in_pod.CommandLost as lost:
            problem = None
            with suppress(RequestRefused):  # it no longer exists
                problem = _find_problem(self._cluster, _read(self._cluster, self._pod))
            raise in_pod.CommandLost(self._pod, str(problem or lost.reason)) from None


@contextmanager
def open_visit(
    cluster: Cluster,
    template: Object,
    name: str,
    say: Callable[[str], None],
    owner: Object | None = None,
    *,
    purpose: str = READ,
    cpu: str = IDLE_CPU,
    life_seconds: int = LIFE_SECONDS,
) -> Iterator[Visit]:
    """Start a pod from a Job's template, and delete it at the end of the `with` or with its owner.

    `purpose` completes "a pod to ..."; its first word is part of the pod's name. `cpu` replaces the
    template's request, "" keeps it. The pod ends life_seconds after its start. `say` receives messages while
    waiting.

    Raises RequestRefused, NotReady.
    """
    pod = _pod(template, f"{name}-{purpose.split()[0]}-{uuid.uuid4().hex[:5]}", owner, cpu, life_seconds)
    metadata = pod["metadata"]
    _sweep(cluster, metadata["labels"])
    try:
        with api_request(f"start a pod to {purpose}", cluster.context):
            cluster.core.create_namespaced_pod(cluster.namespace, request_body(pod))
        _wait(cluster, metadata["name"], purpose, say)
        yield Visit(cluster, metadata["name"])
    finally:
        try:
            _delete(cluster, metadata["name"])
        except ClusterFailed as error:
            command = cluster.kubectl("delete", "pod", metadata["name"])
            say(f"{error}\nPod {metadata['name']} ends automatically; to remove it now: {command}")


def _pod(template: Object, name: str, owner: Object | None, cpu: str, life_seconds: int) -> Object:
    """The template, sleeping instead of running the driver; it needs no token."""
    metadata, spec = deepcopy(template.get("metadata", {})), deepcopy(template["spec"])
    labels = {key: value for key, value in metadata.get("labels", {}).items() if key not in OF_JOBS}
    labels[VISIT] = "true"
    spec |= {
        "restartPolicy": "Never",
        "activeDeadlineSeconds": life_seconds,
        "terminationGracePeriodSeconds": 1,
        "automountServiceAccountToken": False,
    }
    container = driver_container({"spec": spec})
    container["args"] = ["sleep", str(life_seconds)]
    requests = container.setdefault("resources", {}).setdefault("requests", {})
    if cpu and "cpu" in requests:
        requests["cpu"] = cpu
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": labels, "ownerReferences": [owner] if owner else []},
        "spec": spec,
    }


def _wait(cluster: Cluster, name: str, purpose: str, say: Callable[[str], None]) -> None:
    deadline, last_reason = time.monotonic() + READY_SECONDS, None
    while True:
        pod = _read(cluster, name)
        if pods.is_ready(pod):
            return
        reason = _find_problem(cluster, pod)
        if time.monotonic() > deadline or pod["status"].get("phase") in ENDED:
            raise NotReady(name, purpose, reason)
        if reason and reason != last_reason:
            last_reason = reason
            say(f"The pod to {purpose} is waiting: {reason}")
        time.sleep(0.3)


def _read(cluster: Cluster, name: str) -> Object:
    with api_request(f"see pod {name}", cluster.context):
        return cluster.as_json(cluster.core.read_namespaced_pod(name, cluster.namespace))


def _find_problem(cluster: Cluster, pod: Object) -> pods.PodProblem | None:
    problem = pods.find_problem(pod, pods.list_warnings(cluster).get(pod["metadata"]["uid"], ()))
    return pods.in_cluster(problem, cluster)


def _sweep(cluster: Cluster, labels: dict[str, str]) -> None:
    """Delete the pods of earlier visits to this release that have ended."""
    same = ",".join(f"{key}={labels[key]}" for key in (VISIT, INSTANCE) if key in labels)
    for pod in pods.list_pods(cluster, same):
        if pod["status"].get("phase") in ENDED:
            _delete(cluster, pod["metadata"]["name"])


def _delete(cluster: Cluster, name: str) -> None:
    try:
        with api_request(f"delete pod {name}", cluster.context):
            cluster.core.delete_namespaced_pod(name, cluster.namespace, grace_period_seconds=0)
    except RequestRefused as refused:
        if refused.status != 404:
            raise
