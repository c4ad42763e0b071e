"""The messages on the dispatcher's inbox.

Dask's callbacks, signal handlers and, in a cluster, kube/watch.py only put messages; one thread, the
dispatcher's, reads them and owns all state. The inbox is a queue.SimpleQueue, whose put() is safe inside a
signal handler (signals.py).
"""

from dataclasses import dataclass

from modelops_dask.study.batch import Receipt


@dataclass(frozen=True)
class WorkerJoined:
    """A worker process can take batches."""

    address: str


@dataclass(frozen=True)
class WorkerLeft:
    """A worker process is gone; `expected` when it was asked to go, so that nothing is blamed.

    `reason` is short and the same for like losses: it is counted with the reasons of failures. When it is of
    memory, `held_bytes` is what the process held itself; `blameless` when it did before its tasks began.
    """

    address: str
    expected: bool
    reason: str = "WorkerDied"
    held_bytes: int = 0
    blameless: bool = False


@dataclass(frozen=True)
class WorkerDraining:
    """A worker process takes no more batches: its pod is about to go. It finishes the keys `running`."""

    address: str
    running: frozenset[str]


@dataclass(frozen=True)
class BatchDone:
    """A batch was stored."""

    part: str
    receipt: Receipt


@dataclass(frozen=True)
class BatchBroken:
    """A batch ended without a receipt although its worker lives: the store, the bundle or the executor
    failed.
    """

    part: str
    error: BaseException


@dataclass(frozen=True)
class PodLost:
    """A pod of workers, or all processes in it, ended. `blameless`: somebody else wanted it to.

    `host` is as in the addresses of its workers, `reason` as in WorkerLeft.
    """

    host: str
    reason: str
    blameless: bool


@dataclass(frozen=True)
class StopRequested:
    """Somebody asked the run to end: what runs is stored, nothing new begins."""


Event = WorkerJoined | WorkerLeft | WorkerDraining | BatchDone | BatchBroken | PodLost | StopRequested
