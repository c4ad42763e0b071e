"""The pod that this runs in, as the cluster knows it: of which Job it is, which workers are its release's.

the host's name, which is the pod's -> Own

Does not raise what is not this pod's fault: callers ask again later.
"""

import socket
from dataclasses import dataclass

from modelops_dask.kube.connect import Cluster, asking

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
    name = socket.gethostname()
    with asking(f"read pod {name}", cluster.context):
        pod = cluster.core.read_namespaced_pod(name, cluster.namespace, _request_timeout=10)
    labels = pod.metadata.labels or {}
    release = labels.get(RELEASE, "")
    selector = f"{NAME}={labels.get(NAME, '')},{RELEASE}={release},{COMPONENT}=worker"
    return Own(name, labels.get(JOB, ""), release, selector)
