"""Explain why a pod is not ready, or how it ended, with advice.

    a pod and the warnings about it (the API's JSON) -> PodProblem; None if there is none

Only the API's objects are read: no log, no clock. Codes are the reasons of Kubernetes, so that users can
search for them. Decisions on a study are made elsewhere.
"""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from modelops_dask.kube.connect import ANSWER_SECONDS, Cluster, api_request
from modelops_dask.kube.jobs import Object

LOG_LINES = 8  # of a container that failed
KILLED = 137  # 128 + SIGKILL

_NEVER_PULLED = "ErrImageNeverPull"
_NOT_PULLED = ("ImagePullBackOff", "ErrImagePull", "InvalidImageName", "RegistryUnavailable")


@dataclass(frozen=True)
class PodProblem:
    """A problem of a pod.

    `code` is a reason of Kubernetes, `command` a line to type that shows more or solves it.
    """

    code: str
    message: str
    remedy: str = ""
    command: str = ""

    def __str__(self) -> str:
        text = f"{self.code}: {self.message}"
        if self.remedy:
            text += f"\n{self.remedy}"
        return f"{text}\n  {self.command}" if self.command else text


def list_pods(cluster: Cluster, selector: str) -> list[Object]:
    """Return the pods with these labels."""
    with api_request("list pods", cluster.context):
        answer = cluster.core.list_namespaced_pod(
            cluster.namespace, label_selector=selector, _request_timeout=ANSWER_SECONDS
        )
        return cluster.as_json(answer.items)


def list_warnings(cluster: Cluster) -> dict[str, list[Object]]:
    """Return the warnings of the namespace by the uid of the object they are about, oldest first."""
    with api_request("list events", cluster.context):
        answer = cluster.core.list_namespaced_event(
            cluster.namespace, field_selector="type=Warning", _request_timeout=ANSWER_SECONDS
        )
    events_by_uid = defaultdict(list)
    for event in sorted(cluster.as_json(answer.items), key=_event_time):
        events_by_uid[event["involvedObject"].get("uid", "")].append(event)
    return dict(events_by_uid)


def list_problems(cluster: Cluster, selector: str) -> list[tuple[str, PodProblem]]:
    """Return the name and the problem of each pod with these labels that has one."""
    events_by_uid = list_warnings(cluster)
    problems = []
    for pod in list_pods(cluster, selector):
        problem = in_cluster(find_problem(pod, events_by_uid.get(pod["metadata"]["uid"], ())), cluster)
        if problem is not None:
            problems.append((pod["metadata"]["name"], problem))
    return problems


def in_cluster(problem: PodProblem | None, cluster: Cluster) -> PodProblem | None:
    """A problem whose command names the cluster's context."""
    return problem and replace(problem, command=cluster.add_context(problem.command))


def is_ready(pod: Object) -> bool:
    """Whether a pod is in use: ready, and not being deleted."""
    conditions = {condition["type"]: condition["status"] for condition in pod["status"].get("conditions", ())}
    return "deletionTimestamp" not in pod["metadata"] and conditions.get("Ready") == "True"


def find_problem(pod: Object, events: Sequence[Object] = ()) -> PodProblem | None:
    """Return why a pod is not ready; None if it is ready, has succeeded, or is still starting."""
    status = pod["status"]
    phase = status.get("phase")
    if phase == "Succeeded" or is_ready(pod):
        return None
    if phase == "Failed":
        return find_termination(pod) or PodProblem(
            "Failed", status.get("message") or "it failed", "", _describe(pod)
        )
    if (problem := _find_scheduling_problem(pod)) is not None:
        return problem
    for container in status.get("containerStatuses", ()):
        problem = _find_waiting_problem(pod, container) or _find_container_end(pod, container)
        if problem is not None:
            return problem
    return _explain_last_warning(pod, events)


def find_termination(pod: Object) -> PodProblem | None:
    """Return why a failed pod, or a container of it that was restarted, ended."""
    status = pod["status"]
    if status.get("reason") == "Evicted":
        return _explain_eviction(pod)
    if status.get("reason") == "DeadlineExceeded":
        remedy = (
            "It reached its time limit: raise studies.maxDurationSeconds, or submit it again to continue."
        )
        return PodProblem("DeadlineExceeded", status.get("message", ""), remedy, _describe(pod))
    for container in status.get("containerStatuses", ()):
        if (problem := _find_container_end(pod, container)) is not None:
            return problem
    for condition in status.get("conditions", ()):
        if condition["type"] == "DisruptionTarget" and condition["status"] == "True":
            return PodProblem(condition.get("reason", "DisruptionTarget"), condition.get("message", ""))
    return None


def is_disrupted(pod: Object) -> bool:
    """Whether the cluster ended the pod: it was preempted or drained, or its node was lost."""
    return any(
        condition["type"] == "DisruptionTarget" and condition["status"] == "True"
        for condition in pod["status"].get("conditions", ())
    )


def find_creation_problem(events: Sequence[Object]) -> PodProblem | None:
    """Return why a Job or ReplicaSet has no pods, from the warnings about it; None without any."""
    failed = [event for event in events if event.get("reason") == "FailedCreate"]
    if not failed:
        return None
    event_message = failed[-1].get("message", "")
    command = f"kubectl -n {failed[-1]['metadata']['namespace']} describe resourcequota,limitrange"
    if "exceeded quota" in event_message:
        quota = re.search(r"exceeded quota: (\S+), requested: (.*), used: (.*), limited: (.*)", event_message)
        remedy = "Request less, wait for other work to end, or have the quota raised:"
        if quota is None:
            return PodProblem("FailedCreate", event_message, remedy, command)
        name, requested, used, limit = quota.groups()
        message = f"quota {name} is exhausted: the pod requests {requested}; {used} of {limit} are in use"
        return PodProblem("FailedCreate", message, remedy, command)
    if "violates PodSecurity" in event_message:
        remedy = (
            "The namespace refuses such pods: remove the settings it names from podSecurityContext "
            "and volumes."
        )
        return PodProblem("FailedCreate", event_message, remedy)
    return PodProblem("FailedCreate", event_message)


def _find_scheduling_problem(pod: Object) -> PodProblem | None:
    """Why no node takes a pending pod."""
    condition_message = next(
        (
            condition.get("message", "")
            for condition in pod["status"].get("conditions", ())
            if condition["type"] == "PodScheduled" and condition["status"] == "False"
        ),
        None,
    )
    if condition_message is None:
        return None
    place = _values_section(pod)
    nodes = "kubectl describe nodes"
    if missing_resources := list(dict.fromkeys(re.findall(r"Insufficient ([\w./-]+\w)", condition_message))):
        requested = ", ".join(f"{name} {_requests(pod).get(name, '1')}" for name in missing_resources)
        message = f"no node has enough {' and '.join(missing_resources)}; the pod requests {requested}"
        remedy = f"Lower {place}.resources.requests or the number of pods, or add nodes:"
        return PodProblem("Unschedulable", message, remedy, nodes)
    if "persistentvolumeclaim" in condition_message.lower():
        claims = [
            volume["persistentVolumeClaim"]["claimName"]
            for volume in pod["spec"].get("volumes", ())
            if "persistentVolumeClaim" in volume
        ]
        message = f"the volume of claim {', '.join(claims) or 'of the pod'} is missing: {condition_message}"
        remedy = (
            "See the claim's events; check that the cluster supports sharedVolume.storageClassName and "
            "accessModes:"
        )
        command = _kubectl(pod, "describe", "pvc", *claims)
        return PodProblem("Unschedulable", message, remedy, command)
    if "taint" in condition_message or "affinity" in condition_message or "selector" in condition_message:
        remedy = f"Compare {place}.nodeSelector, tolerations and affinity with the nodes' labels and taints:"
        return PodProblem(
            "Unschedulable", condition_message, remedy, f"{nodes} | grep -A3 -e ^Name: -e Labels: -e Taints:"
        )
    return PodProblem("Unschedulable", condition_message, "", _describe(pod))


def _find_waiting_problem(pod: Object, container: Object) -> PodProblem | None:
    """Why a container is not running, or not running again."""
    waiting = container.get("state", {}).get("waiting") or {}
    code, waiting_message = waiting.get("reason", ""), waiting.get("message", "")
    images = {spec["name"]: spec["image"] for spec in pod["spec"]["containers"]}
    image = images.get(container["name"], container.get("image", ""))
    if code == _NEVER_PULLED:
        message = f"the node does not have image {image}, and pullPolicy Never forbids pulling it"
        remedy = (
            "Load it into every node (kind, minikube image load, ctr -n k8s.io images import), or push it:"
        )
        return PodProblem(code, message, remedy, f"kind load docker-image {image}")
    if code in _NOT_PULLED:
        remedy = (
            "Push the image, or load it into every node and set image.pullPolicy=IfNotPresent; "
            "a private registry needs imagePullSecrets:"
        )
        message = f"image {image} cannot be pulled: {waiting_message or 'no reason given'}"
        return PodProblem(code, message, remedy, f"kind load docker-image {image}")
    if code == "CrashLoopBackOff":
        last = (container.get("lastState") or {}).get("terminated") or {}
        if last.get("reason") == "OOMKilled":
            return _explain_out_of_memory(pod, container)
        message = (
            f"it ended {container.get('restartCount', 0)} times, last with status {last.get('exitCode')}"
        )
        return PodProblem(code, message + _log_end(last), "", _logs(pod))
    if code in ("CreateContainerConfigError", "CreateContainerError", "RunContainerError"):
        remedy = "Check the Secrets and ConfigMaps that its variables and volumes name (envFromSecrets, env):"
        return PodProblem(code, waiting_message, remedy, _describe(pod))
    return None


def _find_container_end(pod: Object, container: Object) -> PodProblem | None:
    """How a container failed, now or before it was restarted."""
    states = (container.get("state") or {}, container.get("lastState") or {})
    for state in states:
        end = state.get("terminated")
        if not end or end.get("exitCode") == 0:
            continue
        if end.get("reason") == "OOMKilled":
            return _explain_out_of_memory(pod, container)
        signal = f" (signal {end['exitCode'] - 128})" if end["exitCode"] > 128 else ""
        message = f"container {container['name']} ended with status {end['exitCode']}{signal}"
        return PodProblem(end.get("reason") or "Error", message + _log_end(end), "", _logs(pod))
    return None


def _explain_out_of_memory(pod: Object, container: Object) -> PodProblem:
    limit = _limits(pod).get("memory", "its limit")
    place = _values_section(pod)
    value = "memoryPerProcess" if place.startswith(("workers", "pools.")) else "resources.requests.memory"
    return PodProblem(
        "OOMKilled",
        f"container {container['name']} was killed because it used more than {limit} of memory",
        f"Raise {place}.{value}:",
        _kubectl(pod, "top", "pod", pod["metadata"]["name"], "--containers"),
    )


def _explain_eviction(pod: Object) -> PodProblem:
    message = pod["status"].get("message", "").strip()
    if "ephemeral" in message or "emptydir" in message.lower():
        section = _values_section(pod)
        place = section if section.startswith("pools.") else "workers"  # drivers have the workers' value
        return PodProblem("Evicted", message, f"Raise {place}.scratch.sizeLimit.", _describe(pod))
    remedy = "The node ran short of it; a pod whose request equals its limit is evicted last."
    return PodProblem("Evicted", message, remedy, "kubectl describe nodes")


def _explain_last_warning(pod: Object, events: Sequence[Object]) -> PodProblem | None:
    """The latest warning, if neither the pod's status nor its containers explain the problem."""
    for event in reversed(events):
        code, event_message = event.get("reason", ""), event.get("message", "")
        if code in ("FailedMount", "FailedAttachVolume"):
            remedy = "Check that the Secret, ConfigMap or claim it names exists in this namespace:"
            return PodProblem(code, event_message, remedy, _describe(pod))
        if code == "Unhealthy":
            message = f"it runs but does not answer its probe: {event_message}"
            return PodProblem(code, message, "Its log shows how far it got:", _logs(pod))
        if code in ("FailedCreatePodSandBox", "FailedPreStopHook", "NodeNotReady"):
            return PodProblem(code, event_message, "", _describe(pod))
    return None


def _values_section(pod: Object) -> str:
    """The section of the chart's values for a pod."""
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
    """The last lines of a container's log, which Kubernetes stores when it fails."""
    lines = [line for line in (terminated.get("message") or "").splitlines() if line.strip()]
    return "".join(f"\n    {line}" for line in lines[-LOG_LINES:])


def _kubectl(pod: Object, *arguments: str) -> str:
    return " ".join(["kubectl", "-n", pod["metadata"]["namespace"], *arguments])


def _describe(pod: Object) -> str:
    return _kubectl(pod, "describe", "pod", pod["metadata"]["name"])


def _logs(pod: Object) -> str:
    restarted = any(container.get("restartCount") for container in pod["status"].get("containerStatuses", ()))
    return _kubectl(pod, "logs", pod["metadata"]["name"], *(["--previous"] if restarted else []))


def _event_time(event: Object) -> str:
    """RFC 3339, which sorts as text."""
    return (
        event.get("lastTimestamp")
        or event.get("eventTime")
        or event["metadata"].get("creationTimestamp")
        or ""
    )
