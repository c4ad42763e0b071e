"""Watch the pods of a release's workers, for the driver that runs a study on them.

    list, then watch, repeatedly -> a pod that ended, or a container in it -> PodLost on the driver's inbox
                                 -> pods that are not ready, now           -> describe_problems(), a note

A separate thread lists the pods again each minute and after every error (410: the version is too old, 429:
too many requests, an unavailable API server), and reports changes since the last list. So no state of the API
server has to be remembered, and events in between are reported late, not lost.

Decisions are made in dispatch.py. Nothing is changed in the cluster.
"""

import json
import logging
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from modelops_dask.kube import pods
from modelops_dask.kube.connect import Cluster, RequestRefused, api_request
from modelops_dask.kube.jobs import Object
from modelops_dask.study import events

if TYPE_CHECKING:
    from urllib3 import HTTPResponse

logger = logging.getLogger("modelops")

WATCH_SECONDS = 60
AGAIN_SECONDS = 2.0  # after a failure


class PodWatch:
    """Watches until the process ends. `selector` is called again while it raises.

    `note` receives a line about each kind of problem when it first occurs.
    """

    def __init__(
        self,
        cluster: Cluster,
        selector: Callable[[], str],
        inbox: "SimpleQueue[events.Event]",
        note: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._cluster, self._selector, self._inbox, self._note = cluster, selector, inbox, note
        self._pods: dict[str, Object] | None = None  # by uid, as last seen
        self._noted: set[str] = set()
        threading.Thread(target=self._watch, name="modelops-pods", daemon=True).start()

    def describe_problems(self) -> str:
        """Describe why pods are not ready, each kind of problem once; "" if nothing is known."""
        if self._pods is None:
            return ""
        current_pods, problems_by_code = list(self._pods.values()), defaultdict(list)
        for pod in current_pods:
            if problem := pods.find_problem(pod):
                problems_by_code[problem.code].append((pod["metadata"]["name"], problem))
        lines = [
            f"{_join_names([name for name, _ in group])}: {group[0][1]}"
            for group in problems_by_code.values()
        ]
        phases = [pod["status"].get("phase") for pod in current_pods]
        if all(phase in ("Failed", "Succeeded") for phase in phases):  # pods that were evicted stay
            lines.insert(
                0, "The release has no worker pods (kubectl get deployments,pods; workers.replicas)."
            )
        return "\n".join(lines)

    def _watch(self) -> None:
        selector = ""
        pause = threading.Event()
        while True:
            try:
                selector = selector or self._selector()
                with api_request("watch pods", self._cluster.context):
                    for pod in self._changes(selector):
                        self._process(pod)
            except Exception as error:  # any error: a study can run without watching pods
                logger.info("pods cannot be watched: %s", str(error).partition("\n")[0])
                pause.wait(AGAIN_SECONDS)

    def _changes(self, selector: str) -> Iterator[Object]:
        """Yield changed pods; deleted ones have the key `gone`."""
        with self._request(selector, _request_timeout=10) as answer:
            pod_list = json.loads(answer.data)
        pods_by_uid = {pod["metadata"]["uid"]: pod for pod in pod_list["items"]}
        if self._pods is None:  # their earlier state is not the fault of this run
            self._pods = dict(pods_by_uid)
        yield from ({**pod, "gone": True} for uid, pod in list(self._pods.items()) if uid not in pods_by_uid)
        yield from pods_by_uid.values()
        with self._request(
            selector,
            watch=True,
            resource_version=pod_list["metadata"]["resourceVersion"],
            timeout_seconds=WATCH_SECONDS,
            _request_timeout=(10, WATCH_SECONDS + 10),
        ) as answer:
            for line in answer:
                event = json.loads(line)
                if event["type"] == "ERROR":  # 410 also arrives in this way
                    raise RequestRefused("watch pods", event["object"]["code"], event["object"]["message"])
                pod = event["object"]
                yield {**pod, "gone": True} if event["type"] == "DELETED" else pod

    @contextmanager
    def _request(self, selector: str, **options: Any) -> "Iterator[HTTPResponse]":
        """The API server's answer about pods as it arrives. Raises RequestRefused.

        It is not converted to objects of the client library, which raise on unknown fields.
        """
        # With _preload_content=False it is the HTTP response, which the client's types leave out.
        answer: Any = self._cluster.core.list_namespaced_pod(
            self._cluster.namespace, label_selector=selector, _preload_content=False, **options
        )
        with closing(answer):
            if answer.status != 200:
                raise RequestRefused("watch pods", answer.status, answer.reason)
            yield answer

    def _process(self, pod: Object) -> None:
        """Record the state of a pod, and report changes."""
        uid, host = pod["metadata"]["uid"], pod["status"].get("podIP", "")
        assert self._pods is not None, "_changes lists pods before it yields any"
        before = self._pods.pop(uid, None)
        if host and (lost := find_loss(before, pod)):
            self._inbox.put(events.PodLost(host, *lost))
        if "gone" not in pod:
            self._pods[uid] = pod
        has_ended = before and _list_ends(pod) != _list_ends(before)
        problem = pods.find_termination(pod) if has_ended else pods.find_problem(pod)
        if problem and problem.code not in self._noted:
            self._noted.add(problem.code)
            self._note(f"{pod['metadata']['name']}: {problem.code}: {problem.message}")


def find_loss(before: Object | None, after: Object) -> tuple[str, bool] | None:
    """Return why a pod's workers ended since the last check and whether that was intended, or None."""
    if before is not None and _list_ends(after) != _list_ends(before):
        problem = pods.find_termination(after)
        if problem and problem.code in ("OOMKilled", "Evicted"):
            return problem.code, False
        if "deletionTimestamp" in after["metadata"] or pods.is_disrupted(after):
            return "PodDeleted", True
        return ("WorkerDied", False) if problem else ("WorkerExited", True)  # as without a scheduler
    return ("PodDeleted", True) if "gone" in after else None


def _list_ends(pod: Object) -> list[str]:
    """Marks that change whenever another container of the pod has ended."""
    end_marks = [pod["status"].get("reason", "")]
    for container in pod["status"].get("containerStatuses", ()):
        for state in ("state", "lastState"):
            end = (container.get(state) or {}).get("terminated")
            if end:
                end_marks.append(end.get("containerID") or end.get("finishedAt") or "")
    return sorted(set(end_marks))


def _join_names(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{len(names)} pods, such as {names[0]}"
