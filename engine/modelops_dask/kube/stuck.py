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
    own = _pods(cluster, f"batch.kubernetes.io/job-name={study.job}")
    going = [pod for pod in own if pod["status"].get("phase") not in ("Succeeded", "Failed")]
    if going and not study.chunks:
        release = f"app.kubernetes.io/instance={study.release}"
        going += _pods(cluster, f"{release},app.kubernetes.io/component in (worker,scheduler)")
    found = [pods.reason(pod, warnings.get(pod["metadata"]["uid"], ())) for pod in going]
    if not going:
        found += [pods.not_created(warnings.get(study.uid, ())), *map(pods.ended, own[-1:])]
    return list(dict.fromkeys(filter(None, found)))


def _pods(cluster: Cluster, selector: str) -> list[pods.Object]:
    """Pods that are to stay, the oldest first."""
    staying = [pod for pod in pods.find(cluster, selector) if "deletionTimestamp" not in pod["metadata"]]
    return sorted(staying, key=lambda pod: pod["metadata"]["creationTimestamp"])
