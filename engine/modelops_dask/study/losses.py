"""Single tasks whose worker was lost, until the reason is known.

WorkerLeft (Dask, immediately), PodLost (Kubernetes, a second or so later) -> Losses -> LostTask, its reason
known

Dask reports that a worker has ended. Whether its pod ran out of memory or was deleted is known a little
later, and decides whether a task is the cause. Without reports on pods (a laptop), no loss waits.
"""

from dataclasses import dataclass, replace

from modelops_dask.study import events
from modelops_dask.study.batch import Batch

RECENT_SECONDS = 10.0  # a pod that was lost before its worker was missed


@dataclass(frozen=True)
class LostTask:
    """A worker died of a batch of one task, as far as is known."""

    batch: Batch
    host: str
    reason: str
    blameless: bool = False
    held_bytes: int = 0  # by the worker process itself, when that was the reason


class Losses:
    """Losses that wait, no longer than `wait_seconds`. Times are those of one clock, in seconds."""

    def __init__(self, wait_seconds: float) -> None:
        self._wait_seconds = wait_seconds
        self._waiting: list[tuple[float, LostTask]] = []  # until when
        self._pods: dict[str, tuple[float, events.PodLost]] = {}  # by host: when, and the last

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def add(self, loss: LostTask, now: float) -> None:
        self._waiting.append((now + self._wait_seconds, loss))

    def record_pod(self, pod: events.PodLost, now: float) -> None:
        self._pods[pod.host] = now, pod

    def take_known(self, now: float) -> list[LostTask]:
        """Remove and return those that need not wait any longer."""
        ready, waiting = [], []
        for until, loss in self._waiting:
            when, pod = self._pods.get(loss.host, (float("-inf"), None))
            if pod and now - when < RECENT_SECONDS:
                ready.append(replace(loss, reason=pod.reason, blameless=pod.blameless))
            elif now >= until:
                ready.append(loss)
            else:
                waiting.append((until, loss))
        self._waiting = waiting
        return ready
