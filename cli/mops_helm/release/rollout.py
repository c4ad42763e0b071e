"""The state of a release's pods, and why some are not ready.

    Deployments of the release, their pods and warnings -> Rollout -> follow() until it is done

Nothing is changed here. An upgrade is done when every pod of every Deployment is new and ready; ending pods
finish their tasks and are not waited for.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from modelops_dask.errors import ClusterFailed
from modelops_dask.kube import pods
from modelops_dask.kube.connect import Cluster, api_request
from modelops_dask.kube.pods import PodProblem

POLL_SECONDS = 1.0
STANDING_SECONDS = 4.0  # a reason that disappears sooner is not reported
# States of every pod: reported only after the time limit.
PASSING = ("Unhealthy",)


@dataclass(frozen=True)
class DeploymentRollout:
    """A Deployment: its pods: the wanted number, new ones, ready ones among these, and all."""

    name: str
    component: str
    pool: str
    n_pods: int
    new: int
    ready: int
    all: int

    @property
    def complete(self) -> bool:
        return self.new >= self.n_pods and self.all == self.new and self.ready >= self.new

    def __str__(self) -> str:
        return f"{self.name} {min(self.ready, self.new)}/{self.n_pods}"


@dataclass(frozen=True)
class RolloutProblem:
    """Why some pods of a Deployment are not ready. No pods: they cannot even be created."""

    deployment: str
    pods: tuple[str, ...]
    reason: PodProblem

    def __str__(self) -> str:
        n_pods = len(self.pods)
        others = f" and {n_pods - 1} more" if n_pods > 1 else ""
        subject = f"{self.pods[0]}{others}" if self.pods else self.deployment
        return f"{subject}: {self.reason}"


@dataclass(frozen=True)
class Rollout:
    """All Deployments of a release, and the problems of their pods."""

    deployments: tuple[DeploymentRollout, ...]
    problems: tuple[RolloutProblem, ...]

    @property
    def complete(self) -> bool:
        return bool(self.deployments) and all(deployment.complete for deployment in self.deployments)

    def __str__(self) -> str:
        return ", ".join(map(str, self.deployments))


class RolloutFailed(ClusterFailed):
    """Pods are not ready after the time limit."""

    def __init__(self, release: str, seconds: float, rollout: Rollout, status: str) -> None:
        super().__init__(release, seconds, rollout, status)
        self.release = release
        self.seconds = seconds
        self.rollout = rollout
        self.status = status

    def __str__(self) -> str:
        reasons = "".join(f"\n{problem}" for problem in self.rollout.problems) or "\nNo pod reports a reason."
        return (
            f"{self.release} is installed, but not all of its pods are ready after {self.seconds:.0f} s: "
            f"{self.rollout}{reasons}\nKubernetes keeps trying. To see the progress: {self.status}"
        )


def selector(release: str) -> str:
    """The labels of all objects of a release of the chart."""
    return f"app.kubernetes.io/part-of=modelops,app.kubernetes.io/instance={release}"


def read_rollout(cluster: Cluster, release: str) -> Rollout:
    """The current state of a release."""
    with api_request("list Deployments", cluster.context):
        response = cluster.apps.list_namespaced_deployment(
            cluster.namespace, label_selector=selector(release)
        )
    deployments = [_read_deployment(manifest) for manifest in cluster.as_json(response.items)]
    complete = all(deployment.complete for deployment in deployments)
    problems = () if complete else tuple(_find_problems(cluster, release))
    return Rollout(tuple(sorted(deployments, key=lambda deployment: deployment.name)), problems)


def follow(cluster: Cluster, release: str, seconds: float, say: Callable[[str], object], status: str) -> None:
    """Wait until a release is rolled out, and report changes. Raises RolloutFailed after the time limit."""
    deadline = time.monotonic() + seconds
    reported: set[object] = set()
    since: dict[tuple[str, str, str], float] = {}
    while True:
        rollout, now = read_rollout(cluster, release), time.monotonic()
        if str(rollout) not in reported:
            say(f"ready: {rollout}")
            reported.add(str(rollout))
        if rollout.complete:
            return
        if now > deadline:
            raise RolloutFailed(release, seconds, rollout, status)
        standing = {
            (problem.deployment, problem.reason.code, problem.reason.message): problem
            for problem in rollout.problems
            if problem.reason.code not in PASSING
        }
        since = {key: since.get(key, now) for key in standing}
        for key, problem in standing.items():
            if key not in reported and now - since[key] >= STANDING_SECONDS:
                say(str(problem))
                reported.add(key)
        time.sleep(POLL_SECONDS)


def _read_deployment(manifest: dict[str, Any]) -> DeploymentRollout:
    metadata, status = manifest["metadata"], manifest.get("status") or {}
    # Until the controller has seen the newest spec, its counts belong to an older one.
    is_current = status.get("observedGeneration", 0) >= metadata["generation"]
    new = status.get("updatedReplicas", 0) if is_current else 0
    return DeploymentRollout(
        name=metadata["name"],
        component=metadata["labels"].get("app.kubernetes.io/component", ""),
        pool=metadata["labels"].get("modelops.io/pool", ""),
        n_pods=manifest["spec"].get("replicas", 1),
        new=new,
        ready=min(new, status.get("availableReplicas", 0)),
        all=status.get("replicas", 0) if is_current else -1,
    )


def _find_problems(cluster: Cluster, release: str) -> Iterator[RolloutProblem]:
    """Problems of pods, one for all pods of a Deployment that share it, and of pods that do not exist."""
    warnings = pods.list_warnings(cluster)
    alike: dict[tuple[str, str, str], list[tuple[str, PodProblem]]] = {}
    for pod in pods.list_pods(cluster, selector(release)):
        metadata = pod["metadata"]
        owner: dict[str, Any] = next(iter(metadata.get("ownerReferences", ())), {})
        if owner.get("kind") != "ReplicaSet" or "deletionTimestamp" in metadata:
            continue
        reason = pods.in_cluster(pods.find_problem(pod, warnings.get(metadata["uid"], ())), cluster)
        if reason is not None:
            deployment = owner["name"].rpartition("-")[0]
            alike.setdefault((deployment, reason.code, reason.message), []).append((metadata["name"], reason))
    with api_request("list ReplicaSets", cluster.context):
        response = cluster.apps.list_namespaced_replica_set(
            cluster.namespace, label_selector=selector(release)
        )
    for replica_set in cluster.as_json(response.items):
        n_created = (replica_set.get("status") or {}).get("replicas", 0)
        is_short = replica_set["spec"].get("replicas", 0) > n_created
        reason = (
            pods.find_creation_problem(warnings.get(replica_set["metadata"]["uid"], ())) if is_short else None
        )
        if reason is not None:
            own_reason = pods.in_cluster(reason, cluster) or reason
            yield RolloutProblem(replica_set["metadata"]["name"].rpartition("-")[0], (), own_reason)
    for (deployment, *_), pod_reasons in alike.items():
        yield RolloutProblem(deployment, tuple(name for name, _ in pod_reasons), pod_reasons[0][1])
