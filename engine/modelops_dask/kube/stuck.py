"""Why a study in the cluster does not get on: its pods, its Job, the release's workers.

Submitted -> the Job's warnings, its pods and, once a driver runs, the pods it waits for -> Reasons

pods.py finds the words. Nothing is said of a study that ended: its verdict says it.
"""

from modelops_dask.kube import pods
from modelops_dask.kube.connect import Cluster
from modelops_dask.kube.pods import Reason
from modelops_dask.kube.submitted import Submitted


def reasons(cluster: Cluster, study: Submitted) -> list[Reason]:
    """What is in the way, each thing once; [] when nothing is, as far as can be seen."""
    if study.ended:
        return []
    if study.suspended:
        return [Reason("Suspended", "it waits for its queue to admit it", "", _see_job(cluster, study))]
    warnings = pods.warnings(cluster)
    own = pods.find(cluster, f"batch.kubernetes.io/job-name={study.job}")
    going = [pod for pod in own if pod["status"].get("phase") not in ("Succeeded", "Failed")]
    found = [pods.reason(pod, warnings.get(pod["metadata"]["uid"], ())) for pod in going]
    if not going:
        found.append(pods.not_created(warnings.get(study.uid, ())))
        found += [pods.ended(pod) for pod in own[-1:]]
    elif not study.chunks:
        workers = (
            f"app.kubernetes.io/instance={study.release},app.kubernetes.io/component in (worker,scheduler)"
        )
        for pod in pods.find(cluster, workers):
            found.append(pods.reason(pod, warnings.get(pod["metadata"]["uid"], ())))
    return list(dict.fromkeys(filter(None, found)))


def _see_job(cluster: Cluster, study: Submitted) -> str:
    return cluster.kubectl("describe", "job", study.job)
