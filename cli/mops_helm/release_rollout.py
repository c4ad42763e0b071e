"""How far the pods of a release are, and why some are not ready.

    Deployments of the release, their pods and warnings -> Rollout -> follow() until it is done

Changes nothing. An upgrade is done when every pod of every Deployment is of the new kind and ready; pods that
end finish their tasks meanwhile and are not waited for.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from modelops_dask.errors import ClusterFailed
from modelops_dask.kube import pods
from modelops_dask.kube.connect import Cluster, asking
from modelops_dask.kube.pods import Reason

POLL_SECONDS = 1.0
STANDING_SECONDS = 4.0  # a reason that goes by itself sooner is not worth a line
# What every pod goes through: said only when time is up.
PASSING = ("Unhealthy",)


@dataclass(frozen=True)
class Part:
    """A Deployment: pods wanted, of the newest kind, ready ones among those, and all there are."""

    name: str
    component: str
    pool: str
    wanted: int
    new: int
    ready: int
    all: int

    @property
    def done(self) -> bool:
        return self.new >= self.wanted and self.all == self.new and self.ready >= self.new

    def __str__(self) -> str:
        return f"{self.name} {min(self.ready, self.new)}/{self.wanted}"


@dataclass(frozen=True)
class Problem:
    """Why some pods of a Deployment are not ready. No pods: they cannot even be created."""

    part: str
    pods: tuple[str, ...]
    reason: Reason

    def __str__(self) -> str:
        many = len(self.pods)
        who = self.part if not many else f"{self.pods[0]}{f' and {many - 1} more' if many > 1 else ''}"
        return f"{who}: {self.reason}"


@dataclass(frozen=True)
class Rollout:
    """All Deployments of a release, and what keeps their pods from being ready."""

    parts: tuple[Part, ...]
    problems: tuple[Problem, ...]

    @property
    def done(self) -> bool:
        return bool(self.parts) and all(part.done for part in self.parts)

    def __str__(self) -> str:
        return ", ".join(map(str, self.parts))


class RolloutFailed(ClusterFailed):
    """Time is up, and pods are not ready."""

    def __init__(self, release: str, seconds: float, rollout: Rollout, status: str) -> None:
        super().__init__(release, seconds, rollout, status)
        self.release = release
        self.seconds = seconds
        self.rollout = rollout
        self.status = status

    def __str__(self) -> str:
        reasons = "".join(f"\n{problem}" for problem in self.rollout.problems) or "\nNo pod says why."
        return (
            f"{self.release} is installed, but not all of its pods are ready after {self.seconds:.0f} s: "
            f"{self.rollout}{reasons}\nKubernetes goes on trying. To see how it gets on: {self.status}"
        )


def selector(release: str) -> str:
    """The labels of everything that a release of the chart owns."""
    return f"app.kubernetes.io/part-of=modelops,app.kubernetes.io/instance={release}"


def look(cluster: Cluster, release: str) -> Rollout:
    """The state of a release now."""
    with asking("list Deployments", cluster.context):
        found = cluster.apps.list_namespaced_deployment(
            cluster.namespace, label_selector=selector(release)
        ).items
    parts = tuple(sorted((_part(one) for one in cluster.plain(found)), key=lambda part: part.name))
    return Rollout(parts, () if all(part.done for part in parts) else tuple(_problems(cluster, release)))


def follow(cluster: Cluster, release: str, seconds: float, say: Callable[[str], object], status: str) -> None:
    """Wait until a release is rolled out, and say what changes. RolloutFailed when it takes too long."""
    deadline = time.monotonic() + seconds
    said: set[object] = set()
    since: dict[tuple[str, str, str], float] = {}
    while True:
        rollout, now = look(cluster, release), time.monotonic()
        if str(rollout) not in said:
            say(f"ready: {rollout}")
            said.add(str(rollout))
        if rollout.done:
            return
        if now > deadline:
            raise RolloutFailed(release, seconds, rollout, status)
        standing = {
            (problem.part, problem.reason.code, problem.reason.message): problem
            for problem in rollout.problems
            if problem.reason.code not in PASSING
        }
        since = {key: since.get(key, now) for key in standing}
        for key, problem in standing.items():
            if key not in said and now - since[key] >= STANDING_SECONDS:
                say(str(problem))
                said.add(key)
        time.sleep(POLL_SECONDS)


def _part(deployment: dict[str, Any]) -> Part:
    metadata, status = deployment["metadata"], deployment.get("status") or {}
    # Until the controller has seen the newest spec, its counts are about an older one.
    seen = status.get("observedGeneration", 0) >= metadata["generation"]
    new = status.get("updatedReplicas", 0) if seen else 0
    return Part(
        name=metadata["name"],
        component=metadata["labels"].get("app.kubernetes.io/component", ""),
        pool=metadata["labels"].get("modelops.io/pool", ""),
        wanted=deployment["spec"].get("replicas", 1),
        new=new,
        ready=min(new, status.get("availableReplicas", 0)),
        all=status.get("replicas", 0) if seen else -1,
    )


def _problems(cluster: Cluster, release: str) -> Iterator[Problem]:
    """Reasons of pods, one for all pods of a Deployment that have the same, and of pods that do not exist."""
    warnings = pods.warnings(cluster)
    alike: dict[tuple[str, str, str], list[tuple[str, Reason]]] = {}
    for pod in pods.find(cluster, selector(release)):
        metadata = pod["metadata"]
        owner = next(iter(metadata.get("ownerReferences", ())), {})
        if owner.get("kind") != "ReplicaSet" or "deletionTimestamp" in metadata:
            continue
        why = pods.reason(pod, warnings.get(metadata["uid"], ()))
        if why is not None:
            part = owner["name"].rpartition("-")[0]
            alike.setdefault((part, why.code, why.message), []).append((metadata["name"], why))
    with asking("list ReplicaSets", cluster.context):
        sets = cluster.apps.list_namespaced_replica_set(
            cluster.namespace, label_selector=selector(release)
        ).items
    for one in cluster.plain(sets):
        short = one["spec"].get("replicas", 0) > (one.get("status") or {}).get("replicas", 0)
        why = pods.not_created(warnings.get(one["metadata"]["uid"], ())) if short else None
        if why is not None:
            yield Problem(one["metadata"]["name"].rpartition("-")[0], (), why)
    for (part, *_), found in alike.items():
        yield Problem(part, tuple(name for name, _ in found), found[0][1])
