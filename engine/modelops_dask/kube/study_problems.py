"""Explain why a study in the cluster does not progress: its pods, its Job, the release's workers.

StudyJob -> the Job's warnings, its pods and, once a driver runs, the pods that it needs -> PodProblem

pods.py explains each pod. For a study that ended, the verdict of its driver is more informative, if there is
one.
"""

from modelops_dask.kube import pods
from modelops_dask.kube.connect import Cluster
from modelops_dask.kube.jobs import Object
from modelops_dask.kube.pods import PodProblem
from modelops_dask.kube.study_jobs import StudyJob


def find_problems(cluster: Cluster, study: StudyJob) -> list[PodProblem]:
    """Return what blocks a study, or ended it without a verdict; [] if nothing is known."""
    if study.ended and (study.state != "failed" or study.verdict is not None):
        return []
    if study.suspended:
        command = cluster.kubectl("describe", "job", study.job)
        return [PodProblem("Suspended", "it is waiting for its queue to admit it", "", command)]
    warnings = pods.list_warnings(cluster)
    own_pods = _pods(cluster, f"batch.kubernetes.io/job-name={study.job}")
    live_pods = [pod for pod in own_pods if pod["status"].get("phase") not in ("Succeeded", "Failed")]
    if live_pods and not study.chunks:
        release = f"app.kubernetes.io/instance={study.release}"
        live_pods += _pods(cluster, f"{release},app.kubernetes.io/component in (worker,scheduler)")
    problems = [pods.find_problem(pod, warnings.get(pod["metadata"]["uid"], ())) for pod in live_pods]
    if not live_pods:
        problems += [
            pods.find_creation_problem(warnings.get(study.uid, ())),
            *map(pods.find_termination, own_pods[-1:]),
        ]
    return list(dict.fromkeys(filter(None, (pods.in_cluster(problem, cluster) for problem in problems))))


def _pods(cluster: Cluster, selector: str) -> list[Object]:
    """Pods that are not being deleted, the oldest first."""
    listed_pods = pods.list_pods(cluster, selector)
    remaining_pods = [pod for pod in listed_pods if "deletionTimestamp" not in pod["metadata"]]
    return sorted(remaining_pods, key=lambda pod: pod["metadata"]["creationTimestamp"])
