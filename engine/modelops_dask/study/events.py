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
    """A worker process has ended; `expected` if it was asked to, so that nothing is blamed.

    `reason` is short and the same for similar losses: it is counted with the reasons of failures. If memory
    is the reason, `held_bytes` is what the process itself held; `blameless` if it did so before its tasks
    started.
    """

    address: str
    expected: bool
    reason: str = "WorkerDied"
    held_bytes: int = 0
    blameless: bool = False


@dataclass(frozen=True)
class WorkerDraining:
    """A worker process accepts no more batches, because its pod is about to end. It finishes the keys
    `running`.
    """

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
    """A pod of workers, or all processes in it, ended. `blameless`: it was ended from outside.

    `host` is as in the addresses of its workers, `reason` as in WorkerLeft.
    """

    host: str
    reason: str
    blameless: bool


@dataclass(frozen=True)
class StopRequested:
    """The run was asked to end: running batches are stored, nothing new starts."""


Event = WorkerJoined | WorkerLeft | WorkerDraining | BatchDone | BatchBroken | PodLost | StopRequested
