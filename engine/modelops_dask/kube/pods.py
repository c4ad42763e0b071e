"""Why a pod is not ready, or how it ended: in words, with the way out.

    a pod and the warnings about it (the API's JSON) -> Reason; None when all is well

Reads what Kubernetes says and nothing else: no log, no clock. Codes are Kubernetes' own words, so that they
can be searched for. Does not decide what becomes of a study.
"""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from modelops_dask.kube.connect import ANSWER_SECONDS, Cluster, asking

Object = Mapping[str, Any]
LOG_LINES = 8  # of a container that failed
KILLED = 137  # 128 + SIGKILL

_NEVER_PULLED = "ErrImageNeverPull"
_NOT_PULLED = ("ImagePullBackOff", "ErrImagePull", "InvalidImageName", "RegistryUnavailable")


@dataclass(frozen=True)
class Reason:
    """Why. `command` is a line to type that shows more, or mends it; `code` a word of Kubernetes."""

    code: str
    message: str
    remedy: str = ""
    command: str = ""

    def __str__(self) -> str:
        said = f"{self.code}: {self.message}"
        if self.remedy:
            said += f"\n{self.remedy}"
        return f"{said}\n  {self.command}" if self.command else said


def find(cluster: Cluster, selector: str) -> list[Object]:
    """Pods with these labels."""
    with asking("list pods", cluster.context):
        found = cluster.core.list_namespaced_pod(
            cluster.namespace, label_selector=selector, _request_timeout=ANSWER_SECONDS
        )
        return cluster.plain(found.items)


def warnings(cluster: Cluster) -> dict[str, list[Object]]:
    """The warnings of the namespace by the uid of what they are about, oldest first."""
    with asking("list events", cluster.context):
        found = cluster.core.list_namespaced_event(
            cluster.namespace, field_selector="type=Warning", _request_timeout=ANSWER_SECONDS
        )
    about = defaultdict(list)
    for event in sorted(cluster.plain(found.items), key=_when):
        about[event["involvedObject"].get("uid", "")].append(event)
    return dict(about)


def reasons(cluster: Cluster, selector: str) -> list[tuple[str, Reason]]:
    """The name of each pod with these labels that is not well, and why."""
    about = warnings(cluster)
    found = []
    for pod in find(cluster, selector):
        why = reason(pod, about.get(pod["metadata"]["uid"], ()))
        if why is not None:
            found.append((pod["metadata"]["name"], why))
    return found


def ready(pod: Object) -> bool:
    """Whether a pod is in use: ready, and not being deleted."""
    conditions = {one["type"]: one["status"] for one in pod["status"].get("conditions", ())}
    return "deletionTimestamp" not in pod["metadata"] and conditions.get("Ready") == "True"


def reason(pod: Object, events: Sequence[Object] = ()) -> Reason | None:
    """Why a pod is not ready; None when it is, has ended well, or only needs a moment more."""
    status = pod["status"]
    phase = status.get("phase")
    if phase == "Succeeded" or ready(pod):
        return None
    if phase == "Failed":
        return ended(pod) or Reason("Failed", status.get("message") or "it failed", "", _describe(pod))
    if (unscheduled := _unscheduled(pod)) is not None:
        return unscheduled
    for container in status.get("containerStatuses", ()):
        found = _waiting(pod, container) or _terminated(pod, container)
        if found is not None:
            return found
    return _last_warning(pod, events)


def ended(pod: Object) -> Reason | None:
    """How a pod that failed came to its end, or a container of it that was started again."""
    status = pod["status"]
    if status.get("reason") == "Evicted":
        return _evicted(pod)
    if status.get("reason") == "DeadlineExceeded":
        remedy = "It ran longer than it may: raise studies.maxDurationSeconds, or submit it again to go on."
        return Reason("DeadlineExceeded", status.get("message", ""), remedy, _describe(pod))
    for container in status.get("containerStatuses", ()):
        if (found := _terminated(pod, container)) is not None:
            return found
    for condition in status.get("conditions", ()):
        if condition["type"] == "DisruptionTarget" and condition["status"] == "True":
            return Reason(condition.get("reason", "DisruptionTarget"), condition.get("message", ""))
    return None


def is_disrupted(pod: Object) -> bool:
    """Whether the cluster took it away for reasons of its own: preempted, drained, its node gone."""
    return any(
        condition["type"] == "DisruptionTarget" and condition["status"] == "True"
        for condition in pod["status"].get("conditions", ())
    )


def not_created(events: Sequence[Object]) -> Reason | None:
    """Why a Job or ReplicaSet has no pods, from the warnings about it; None when nothing is said."""
    failed = [event for event in events if event.get("reason") == "FailedCreate"]
    if not failed:
        return None
    said = failed[-1].get("message", "")
    command = f"kubectl -n {failed[-1]['metadata']['namespace']} describe resourcequota,limitrange"
    if "exceeded quota" in said:
        quota = re.search(r"exceeded quota: (\S+), requested: (.*), used: (.*), limited: (.*)", said)
        remedy = "Ask for less, let other work end, or have the quota raised:"
        if quota is None:
            return Reason("FailedCreate", said, remedy, command)
        name, wanted, used, limit = quota.groups()
        message = f"quota {name} has no room: it asks for {wanted}; in use {used} of {limit}"
        return Reason("FailedCreate", message, remedy, command)
    if "violates PodSecurity" in said:
        remedy = "The namespace refuses such pods: take what it names out of podSecurityContext and volumes."
        return Reason("FailedCreate", said, remedy)
    return Reason("FailedCreate", said)


def _unscheduled(pod: Object) -> Reason | None:
    """Pending, because no node takes it."""
    said = next(
        (
            condition.get("message", "")
            for condition in pod["status"].get("conditions", ())
            if condition["type"] == "PodScheduled" and condition["status"] == "False"
        ),
        None,
    )
    if said is None:
        return None
    place = _values(pod)
    nodes = "kubectl describe nodes"
    if short := list(dict.fromkeys(re.findall(r"Insufficient ([\w./-]+\w)", said))):
        asked = ", ".join(f"{name} {_requests(pod).get(name, '1')}" for name in short)
        message = f"no node has {' and '.join(short)} left; the pod asks for {asked}"
        remedy = f"Lower {place}.resources.requests or the number of pods, or add nodes:"
        return Reason("Unschedulable", message, remedy, nodes)
    if "persistentvolumeclaim" in said.lower():
        claims = [
            volume["persistentVolumeClaim"]["claimName"]
            for volume in pod["spec"].get("volumes", ())
            if "persistentVolumeClaim" in volume
        ]
        message = f"the volume of claim {', '.join(claims) or 'of the pod'} is not there: {said}"
        remedy = (
            "See the claim's events; sharedVolume.storageClassName and accessModes must suit the cluster:"
        )
        command = _kubectl(pod, "describe", "pvc", *claims)
        return Reason("Unschedulable", message, remedy, command)
    if "taint" in said or "affinity" in said or "selector" in said:
        remedy = f"See {place}.nodeSelector, tolerations and affinity against the nodes' labels and taints:"
        return Reason("Unschedulable", said, remedy, f"{nodes} | grep -A3 -e ^Name: -e Labels: -e Taints:")
    return Reason("Unschedulable", said, "", _describe(pod))


def _waiting(pod: Object, container: Object) -> Reason | None:
    """A container that does not run yet, or not again."""
    waiting = container.get("state", {}).get("waiting") or {}
    code, said = waiting.get("reason", ""), waiting.get("message", "")
    image = next(
        (c["image"] for c in pod["spec"]["containers"] if c["name"] == container["name"]),
        container.get("image", ""),
    )
    if code == _NEVER_PULLED:
        message = f"the node does not have image {image}, and pullPolicy Never forbids to pull it"
        remedy = (
            "Load it into every node (kind, minikube image load, ctr -n k8s.io images import), or push it:"
        )
        return Reason(code, message, remedy, f"kind load docker-image {image}")
    if code in _NOT_PULLED:
        remedy = (
            "Push the image, or load it into every node and set image.pullPolicy=IfNotPresent; "
            "a private registry needs imagePullSecrets:"
        )
        message = f"image {image} cannot be pulled: {said or 'no reason given'}"
        return Reason(code, message, remedy, f"kind load docker-image {image}")
    if code == "CrashLoopBackOff":
        last = (container.get("lastState") or {}).get("terminated") or {}
        if last.get("reason") == "OOMKilled":
            return _out_of_memory(pod, container)
        message = (
            f"it ended {container.get('restartCount', 0)} times, last with status {last.get('exitCode')}"
        )
        return Reason(code, message + _log_end(last), "", _logs(pod))
    if code in ("CreateContainerConfigError", "CreateContainerError", "RunContainerError"):
        remedy = "See the Secrets and ConfigMaps that its variables and volumes name (envFromSecrets, env):"
        return Reason(code, said, remedy, _describe(pod))
    return None


def _terminated(pod: Object, container: Object) -> Reason | None:
    """A container that ended badly, now or before it was started again."""
    states = (container.get("state") or {}, container.get("lastState") or {})
    for state in states:
        end = state.get("terminated")
        if not end or end.get("exitCode") == 0:
            continue
        if end.get("reason") == "OOMKilled":
            return _out_of_memory(pod, container)
        signal = f" (signal {end['exitCode'] - 128})" if end["exitCode"] > 128 else ""
        message = f"container {container['name']} ended with status {end['exitCode']}{signal}"
        return Reason(end.get("reason") or "Error", message + _log_end(end), "", _logs(pod))
    return None


def _out_of_memory(pod: Object, container: Object) -> Reason:
    limit = _limits(pod).get("memory", "its limit")
    place = _values(pod)
    value = "memoryPerProcess" if place.startswith(("workers", "pools.")) else "resources.requests.memory"
    return Reason(
        "OOMKilled",
        f"container {container['name']} was killed for taking more than {limit} of memory",
        f"Raise {place}.{value}:",
        _kubectl(pod, "top", "pod", pod["metadata"]["name"], "--containers"),
    )


def _evicted(pod: Object) -> Reason:
    said = pod["status"].get("message", "").strip()
    if "ephemeral" in said or "emptydir" in said.lower():
        place = _values(pod) if _values(pod).startswith("pools.") else "workers"  # drivers have the workers'
        return Reason("Evicted", said, f"Raise {place}.scratch.sizeLimit.", _describe(pod))
    remedy = "The node was short of it; a request equal to the limit makes a pod the last to go."
    return Reason("Evicted", said, remedy, "kubectl describe nodes")


def _last_warning(pod: Object, events: Sequence[Object]) -> Reason | None:
    """What the latest warning about a pod says that neither its status nor its containers do."""
    for event in reversed(events):
        code, said = event.get("reason", ""), event.get("message", "")
        if code in ("FailedMount", "FailedAttachVolume"):
            remedy = "See that the Secret, ConfigMap or claim it names exists in this namespace:"
            return Reason(code, said, remedy, _describe(pod))
        if code == "Unhealthy":
            message = f"it runs, and does not answer its probe: {said}"
            return Reason(code, message, "Its log says how far it came:", _logs(pod))
        if code in ("FailedCreatePodSandBox", "FailedPreStopHook", "NodeNotReady"):
            return Reason(code, said, "", _describe(pod))
    return None


def _values(pod: Object) -> str:
    """The chart's section of values that a pod comes from."""
    labels = pod["metadata"].get("labels") or {}
    component, pool = labels.get("app.kubernetes.io/component"), labels.get("modelops.io/pool", "default")
    if component == "worker":
        return "workers" if pool == "default" else f"pools.{pool}"
    return "studies.driver" if component == "driver" else component or "workers"


def _requests(pod: Object) -> Mapping[str, str]:
    return pod["spec"]["containers"][0].get("resources", {}).get("requests") or {}


def _limits(pod: Object) -> Mapping[str, str]:
    return pod["spec"]["containers"][0].get("resources", {}).get("limits") or {}


def _log_end(terminated: Object) -> str:
    """The last lines of a container's log, which Kubernetes keeps when it fails."""
    lines = [line for line in (terminated.get("message") or "").splitlines() if line.strip()]
    return "".join(f"\n    {line}" for line in lines[-LOG_LINES:])


def _kubectl(pod: Object, *words: str) -> str:
    return " ".join(["kubectl", "-n", pod["metadata"]["namespace"], *words])


def _describe(pod: Object) -> str:
    return _kubectl(pod, "describe", "pod", pod["metadata"]["name"])


def _logs(pod: Object) -> str:
    restarted = any(one.get("restartCount") for one in pod["status"].get("containerStatuses", ()))
    return _kubectl(pod, "logs", pod["metadata"]["name"], *(["--previous"] if restarted else []))


def _when(event: Object) -> str:
    """RFC 3339, which sorts as text."""
    return (
        event.get("lastTimestamp")
        or event.get("eventTime")
        or event["metadata"].get("creationTimestamp")
        or ""
    )
