"""The workers of a run and the batches that each holds: the dispatcher's side of Dask.

    Fleet.send(worker, batch) -> Dask -> BatchDone | BatchBroken on the inbox
    the scheduler's own events -> WorkerJoined | WorkerLeft | WorkerDraining on the inbox

Workers without the study's resources are left out, because Dask would hold a batch for them forever. Batches
are pinned to their worker, so when one dies its batches are known; the oldest ones were running. Dask's
callbacks, in its thread, only put messages on the inbox; everything else here runs in the caller's thread.

Batches are chosen in dispatch.py.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from queue import SimpleQueue
from types import TracebackType
from typing import TYPE_CHECKING, Any

from modelops_dask.errors import BadInput
from modelops_dask.limits import worker_memory
from modelops_dask.store import parts
from modelops_dask.study import events
from modelops_dask.study.batch import Batch, run_batch
from modelops_dask.study.suspects import Suspect
from modelops_dask.workers import drain
from modelops_dask.workers.remote import asking

if TYPE_CHECKING:
    from distributed import Client, Future


@dataclass
class SentBatch:
    """A batch that a worker holds."""

    batch: Batch
    future: "Future"
    suspect: Suspect | None  # then nothing else is sent to its worker
    address: str = ""  # of the worker


@dataclass
class Worker:
    """A worker process, by its address."""

    address: str
    host: str
    threads: int  # that run batches: with resources, as many as those allow
    sent: dict[str, SentBatch] = field(default_factory=dict)  # by part, oldest first
    draining: bool = False
    has_failed_start: bool = False  # of processes of the model

    @property
    def suspect(self) -> bool:
        return any(sent.suspect for sent in self.sent.values())


@dataclass(frozen=True)
class _OverMemory:
    """Why a worker process is about to end: it held too much memory itself; `blameless` if before its tasks
    started.
    """

    held_bytes: int
    blameless: bool = False


class Fleet:
    """Workers by address. A `with` listens to the scheduler, and cancels remaining batches at its end."""

    def __init__(
        self, client: "Client", inbox: "SimpleQueue[events.Event]", resources: Mapping[str, float]
    ) -> None:
        """Prepare a fleet; `resources` are Dask resources that each batch uses on its worker."""
        self.workers: dict[str, Worker] = {}
        self.most_workers = 0
        self._client, self._inbox, self._resources = client, inbox, dict(resources)
        self._over_memory: dict[str, _OverMemory] = {}  # by address

    def __enter__(self) -> "Fleet":
        self._client.subscribe_topic("all", self._on_event)
        self._client.subscribe_topic("worker-restart-memory", self._on_over_memory)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cancel([sent for worker in self.workers.values() for sent in worker.sent.values()])
        if self.connected:
            self._client.unsubscribe_topic("all")
            self._client.unsubscribe_topic("worker-restart-memory")

    @property
    def connected(self) -> bool:
        return self._client.status == "running"

    @property
    def busy(self) -> bool:
        return any(worker.sent for worker in self.workers.values())

    def refresh(self) -> list[str]:
        """Update the workers. Returns the addresses of ended ones, in case an event was missed.

        Raises SchedulerLost, and BadInput if there are workers but none has the study's resources.
        """
        from distributed.comm.addressing import get_address_host

        with asking(self._client):
            threads_by_address = self._threads() if self._resources else self._client.nthreads()
        for address, threads in threads_by_address.items():
            self.workers.setdefault(address, Worker(address, get_address_host(address), threads))
        self.most_workers = max(self.most_workers, len(self.workers))
        return list(self.workers.keys() - threads_by_address.keys())

    def _threads(self) -> dict[str, int]:
        """Like Client.nthreads, limited by the resources; without workers that lack them."""
        workers = self._client.scheduler_info()["workers"]
        threads_by_address = {}
        for address, worker in workers.items():
            fits = (worker["resources"].get(name, 0) // need for name, need in self._resources.items())
            if threads := min(worker["nthreads"], *map(int, fits)):
                threads_by_address[address] = threads
        if workers and not threads_by_address and not self.most_workers:
            resources_text = " ".join(f"{name}={need:g}" for name, need in self._resources.items())
            raise BadInput(
                f"The study requests workers with {resources_text} (resources), but none of "
                f"{len(workers)} has them. Give a pool daskResources (preset external-threads has process: "
                "1), or start workers by "
                f'dask worker … --resources "{resources_text}"'
            )
        return threads_by_address

    def send(self, worker: Worker, batch: Batch, suspect: Suspect | None) -> None:
        """Submit a batch to a worker and no other."""
        future = self._client.submit(
            run_batch,
            batch,
            key=_key(batch.part),
            workers=[worker.address],
            allow_other_workers=False,
            pure=False,
            resources=self._resources or None,
        )
        worker.sent[batch.part] = SentBatch(batch, future, suspect, worker.address)
        loop = self._client.loop
        assert loop is not None, "a connected client has one"
        loop.add_callback(self._watch, batch.part, future)

    def take(self, part: str) -> SentBatch | None:
        """Take the batch of that part off its worker; None if it was given up before."""
        for worker in self.workers.values():
            if part in worker.sent:
                return worker.sent.pop(part)
        return None

    def take_waiting(self, worker: Worker, running: Iterable[str] | None = None) -> list[SentBatch]:
        """Take the batches off a worker that it did not start: all but `running`, keys of Dask, or else but
        its oldest.
        """
        if running is None:
            waiting = list(worker.sent)[worker.threads :]
        else:
            keys = set(running)
            waiting = [part for part in worker.sent if _key(part) not in keys]
        return [worker.sent.pop(part) for part in waiting]

    def cancel(self, sent: Iterable[SentBatch]) -> None:
        """Cancel batches in Dask, if it is connected."""
        futures = [item.future for item in sent]
        if futures and self.connected:
            self._client.cancel(futures, force=True)

    # In Dask's thread

    def _on_event(self, event: tuple[float, Any]) -> None:
        _, message = event
        if not isinstance(message, dict):
            return
        if message.get("action") == "add-worker":
            self._inbox.put(events.WorkerJoined(message["worker"]))
        elif message.get("action") == "remove-worker":
            left = events.WorkerLeft(message["worker"], message["expected"])
            if memory := self._over_memory.pop(left.address, None):
                left = replace(
                    left, reason=parts.WORKER_MEMORY, held_bytes=memory.held_bytes, blameless=memory.blameless
                )
            self._inbox.put(left)
        elif message.get("action") == worker_memory.ACTION:
            self._over_memory[message["worker"]] = _OverMemory(message["held"], message["blameless"])
        elif message.get("action") == drain.ACTION:
            self._inbox.put(events.WorkerDraining(message["worker"], frozenset(message["executing"])))

    def _on_over_memory(self, event: tuple[float, Any]) -> None:
        """Dask's own limit ended a worker process, the only known fact about the size of a `direct` task."""
        self._over_memory[event[1]["worker"]] = _OverMemory(event[1].get("rss", 0))

    async def _watch(self, part: str, future: "Future") -> None:
        """Wait for a batch."""
        from distributed import KilledWorker

        try:
            self._inbox.put(events.BatchDone(part, await self._client.gather(future, asynchronous=True)))
        except KilledWorker:
            pass  # the worker's end is a separate event
        except BaseException as error:  # also CancelledError, which is not an Exception
            self._inbox.put(events.BatchBroken(part, error))


def _key(part: str) -> str:
    return f"modelops-batch-{part}"
