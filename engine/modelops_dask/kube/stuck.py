"""Why a study in the cluster does not get on: its pods, its Job, the release's workers.

Submitted -> the Job's warnings, its pods and, once a driver runs, the pods it waits for -> Reasons

pods.py finds the words. Of a study that ended its driver's verdict says more, if there is one.
"""

from modelops_dask.kube import pods
from modelops_dask.kube.connect import Cluster
from modelops_dask.kube.pods import Reason
from modelops_dask.kube.submitted import Submitted


def reasons(cluster: Cluster, study: Submitted) -> list[Reason]:
    """What is in the way, or has ended the study without a verdict; [] when nothing is, as far as is seen."""
    if study.ended and (study.state != "failed" or study.verdict is not None):
        return []
    if study.suspended:
        look = cluster.kubectl("describe", "job", study.job)
        return [Reason("Suspended", "it waits for its queue to admit it", "", look)]
    warnings = pods.warnings(cluster)
    own = sorted(
        pods.find(cluster, f"batch.kubernetes.io/job-name={study.job}"),
        key=lambda pod: pod["metadata"]["creationTimestamp"],
    )
    going = [pod for pod in own if pod["status"].get("phase") not in ("Succeeded", "Failed")]
    found = [pods.reason(pod, warnings.get(pod["metadata"]["uid"], ())) for pod in going]
    if not going:
        found += [pods.not_created(warnings.get(study.uid, ())), *map(pods.ended, own[-1:])]
    elif not study.chunks:
        release = f"app.kubernetes.io/instance={study.release}"
        selector = f"{release},app.kubernetes.io/component in (worker,scheduler)"
        found += [reason for _, reason in pods.reasons(cluster, selector)]
    return list(dict.fromkeys(filter(None, found)))
