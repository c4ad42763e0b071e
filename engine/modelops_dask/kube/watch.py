"""What becomes of the pods of a release's workers, for the driver that runs a study on them.

list, then watch, again and again -> a pod that ended, or a container in it -> PodLost on the driver's inbox
                                  -> pods that are not ready, now           -> words() for a verdict, a note

A thread of its own. Each minute, and after whatever goes wrong (410: the version is too old, 429: too many
requests, no API server for a while), it begins with a new list, and tells what changed since it last looked.
So nothing of the API server's needs to be remembered, and what happened meanwhile is told late, not lost.

Does not judge: dispatch.py does. Does not change anything in the cluster.
"""

import json
import logging
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from queue import SimpleQueue
from typing import Any

from modelops_dask.kube import pods
from modelops_dask.kube.connect import Cluster, Refused, asking
from modelops_dask.study import events

logger = logging.getLogger("modelops")

WATCH_SECONDS = 60
AGAIN_SECONDS = 2.0  # after a failure
Pod = Mapping[str, Any]


class PodWatch:
    """Watches from now on, until the process ends; `selector` is asked again while it raises.

    `note` hears in a line each kind of trouble when it begins.
    """

    def __init__(
        self,
        cluster: Cluster,
        selector: Callable[[], str],
        inbox: "SimpleQueue[events.Event]",
        note: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._cluster, self._selector, self._inbox, self._note = cluster, selector, inbox, note
        self._pods: dict[str, Pod] | None = None  # by uid, as last seen
        self._noted: set[str] = set()
        threading.Thread(target=self._watch, name="modelops-pods", daemon=True).start()

    def words(self) -> str:
        """What keeps pods from being ready, as last seen, each kind once; "" when nothing is known."""
        if self._pods is None:
            return ""
        seen, alike = list(self._pods.values()), defaultdict(list)
        for pod in seen:
            if found := pods.reason(pod):
                alike[found.code].append((pod["metadata"]["name"], found))
        said = [f"{_named([name for name, _ in some])}: {some[0][1]}" for some in alike.values()]
        if all(pod["status"].get("phase") in ("Failed", "Succeeded") for pod in seen):  # evicted ones stay
            said.insert(0, "The release has no worker pods (kubectl get deployments,pods; workers.replicas).")
        return "\n".join(said)

    def _watch(self) -> None:
        selector = ""
        again = threading.Event()
        while True:
            try:
                selector = selector or self._selector()
                with asking("watch pods", self._cluster.context):
                    for pod in self._changes(selector):
                        self._look(pod)
            except Exception as error:  # whatever it is: a study needs no ears to run
                logger.info("pods are not watched now: %s", str(error).partition("\n")[0])
                again.wait(AGAIN_SECONDS)

    def _changes(self, selector: str) -> Iterator[Pod]:
        """Pods that changed; those that are gone have `gone`."""
        with self._asked(selector, _request_timeout=10) as answer:
            found = json.loads(answer.data)
        listed = {pod["metadata"]["uid"]: pod for pod in found["items"]}
        if self._pods is None:  # how they came to be as they are is nobody's fault here
            self._pods = dict(listed)
        yield from ({**pod, "gone": True} for uid, pod in list(self._pods.items()) if uid not in listed)
        yield from listed.values()
        with self._asked(
            selector,
            watch=True,
            resource_version=found["metadata"]["resourceVersion"],
            timeout_seconds=WATCH_SECONDS,
            _request_timeout=(10, WATCH_SECONDS + 10),
        ) as answer:
            for line in answer:
                event = json.loads(line)
                if event["type"] == "ERROR":  # 410 comes so too
                    raise Refused("watch pods", event["object"]["code"], event["object"]["message"])
                pod = event["object"]
                yield {**pod, "gone": True} if event["type"] == "DELETED" else pod

    @contextmanager
    def _asked(self, selector: str, **more: Any) -> Iterator[Any]:
        """The API server's answer about pods as it comes: the client's own objects refuse what they do not
        know.
        """
        answer = self._cluster.core.list_namespaced_pod(
            self._cluster.namespace, label_selector=selector, _preload_content=False, **more
        )
        with closing(answer):
            if answer.status != 200:
                raise Refused("watch pods", answer.status, answer.reason)
            yield answer

    def _look(self, pod: Pod) -> None:
        """Take over how a pod is now, and tell what is new."""
        uid, host = pod["metadata"]["uid"], pod["status"].get("podIP", "")
        before = self._pods.pop(uid, None)
        if host and (lost := lost_since(before, pod)):
            self._inbox.put(events.PodLost(host, *lost))
        if "gone" not in pod:
            self._pods[uid] = pod
        found = pods.ended(pod) if before and _ends(pod) != _ends(before) else pods.reason(pod)
        if found and found.code not in self._noted:
            self._noted.add(found.code)
            self._note(f"{pod['metadata']['name']}: {found.code}: {found.message}")


def lost_since(before: Pod | None, now: Pod) -> tuple[str, bool] | None:
    """Why a pod's workers ended since it was last seen, and whether that was wanted; None: they did not."""
    if before is not None and _ends(now) != _ends(before):
        found = pods.ended(now)
        if found and found.code in ("OOMKilled", "Evicted"):
            return found.code, False
        if "deletionTimestamp" in now["metadata"] or pods.is_disrupted(now):
            return "PodDeleted", True
        return ("WorkerDied", False) if found else ("WorkerExited", True)  # as it does without a scheduler
    return ("PodDeleted", True) if "gone" in now else None


def _ends(pod: Pod) -> list[str]:
    """What tells one end of its containers from another."""
    found = [pod["status"].get("reason", "")]
    for container in pod["status"].get("containerStatuses", ()):
        for state in ("state", "lastState"):
            end = (container.get(state) or {}).get("terminated")
            if end:
                found.append(end.get("containerID") or end.get("finishedAt") or "")
    return sorted(set(found))


def _named(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{len(names)} pods, such as {names[0]}"
