"""Find the pod that this process runs in: its name, its Job, and the workers of its release.

this host's address -> the running pod that has it -> OwnPod

The host's name is not used, because in an Indexed Job it is not the pod's. Early in a pod's life the cluster
may not know its address yet, so callers try again.
"""

import socket
from dataclasses import dataclass

from modelops_dask.kube.connect import Cluster, RequestRefused, api_request

NAME, RELEASE, COMPONENT = (f"app.kubernetes.io/{label}" for label in ("name", "instance", "component"))
JOB = "batch.kubernetes.io/job-name"


@dataclass(frozen=True)
class OwnPod:
    """`job_name` is "" for a pod without a Job; `worker_selector` selects the release's worker pods."""

    pod_name: str
    job_name: str
    release: str
    worker_selector: str


def find_own_pod(cluster: Cluster) -> OwnPod:
    """Return the pod that this process runs in. Raises NoCluster, RequestRefused."""
    address = socket.getaddrinfo(socket.gethostname(), None)[0][4][0]
    fields = f"status.podIP={address},status.phase=Running"
    with api_request("list pods", cluster.context):
        answer = cluster.core.list_namespaced_pod(
            cluster.namespace, field_selector=fields, _request_timeout=10
        )
    pods = cluster.as_json(answer.items)
    if len(pods) != 1:
        raise RequestRefused(
            "find the pod that this process runs in", 404, f"{len(pods)} pods have {address}"
        )
    (pod,) = pods
    labels = pod["metadata"].get("labels") or {}
    release = labels.get(RELEASE, "")
    selector = f"{NAME}={labels.get(NAME, '')},{RELEASE}={release},{COMPONENT}=worker"
    return OwnPod(pod["metadata"]["name"], labels.get(JOB, ""), release, selector)
