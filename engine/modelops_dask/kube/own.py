"""The pod that this runs in, as the cluster knows it: of which Job it is, which workers are its release's.

this host's address -> the running pod that has it -> Own

Not by the host's name: in an Indexed Job that is not the pod's. Early in a pod's life the cluster may not
know its address yet: callers ask again.
"""

import socket
from dataclasses import dataclass

from modelops_dask.kube.connect import Cluster, Refused, asking

NAME, RELEASE, COMPONENT = (f"app.kubernetes.io/{label}" for label in ("name", "instance", "component"))
JOB = "batch.kubernetes.io/job-name"


@dataclass(frozen=True)
class Own:
    """`workers` is the selector of the release's worker pods; `job` "" for a pod of no Job."""

    pod: str
    job: str
    release: str
    workers: str


def own(cluster: Cluster) -> Own:
    """The pod that this runs in. Raises NoCluster, Refused."""
    address = socket.getaddrinfo(socket.gethostname(), None)[0][4][0]
    fields = f"status.podIP={address},status.phase=Running"
    with asking("list pods", cluster.context):
        found = cluster.core.list_namespaced_pod(
            cluster.namespace, field_selector=fields, _request_timeout=10
        ).items
    if len(found) != 1:
        raise Refused("find the pod that this runs in", 404, f"{len(found)} pods have {address}")
    (pod,) = found
    labels = pod.metadata.labels or {}
    release = labels.get(RELEASE, "")
    selector = f"{NAME}={labels.get(NAME, '')},{RELEASE}={release},{COMPONENT}=worker"
    return Own(pod.metadata.name, labels.get(JOB, ""), release, selector)
