"""Send a study's pending tasks to Dask workers, a few batches each, until every task has ended.

plan less state -> Backlog -> Batch -> a worker -> Receipt -> state -> ... -> Progress

Each worker holds a window of two batches a thread, pinned to it, oldest first; the scheduler never holds
more. So when a worker dies it is known what it was running: its oldest batches, one a thread. Those are
suspects, the others go back. A suspect runs on a worker that holds nothing else, and when that dies too it is
halved, until one task is left. A task that was lost twice, alone, is poisoned. A batch that was stored before
its worker died counts as done. A worker that is drained (drain.py) finishes what it runs, gives back what
waits, and is blamed for nothing.

One thread, the caller's, owns all state and reads events (events.py) from one inbox; Dask's callbacks only
put them there. Worker losses are heard from the scheduler's own events, never by waiting for KilledWorker.

Does not start workers (local.py) and does not say which tasks are pending (store/fold.py).
"""

import time
import uuid
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from modelops_dask import drain
from modelops_dask.errors import ClusterFailed, MopsError, Stopped
from modelops_dask.store import parts
from modelops_dask.store.fold import MAX_ATTEMPTS, State
from modelops_dask.store.parts import Attempt
from modelops_dask.study import events
from modelops_dask.study.backlog import Backlog, Pace, count, halve
from modelops_dask.study.batch import Batch, Failed, Range, Receipt, Source, committed, run_batch
from modelops_dask.study.breaker import Breaker
from modelops_dask.study.ledger import Ledger
from modelops_dask.study.plan import Plan
from modelops_dask.study.progress import Progress

if TYPE_CHECKING:
    from distributed import Client, Future

WINDOW = 2  # batches a slot: one runs, one waits
SCHEDULER_LOST = (
    "The connection to the Dask scheduler was lost. What was stored stays; the same command goes on."
)


@dataclass(frozen=True)
class Limits:
    """When to send, when to try again, when to give up."""

    max_attempts: int = MAX_ATTEMPTS
    batch_seconds: float = 1.0
    overdue_seconds: float = 10.0  # a batch that has run so long returns the tasks it did not begin
    worker_wait_seconds: float = 300.0  # without a worker
    grace_seconds: float = 5.0  # for what runs when the run is stopped


DEFAULT_LIMITS = Limits()


def run(
    client: "Client",
    source: Source,
    plan: Plan,
    state: State,
    limits: Limits = DEFAULT_LIMITS,
    inbox: "SimpleQueue[events.Event] | None" = None,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> Progress:
    """Run the pending tasks of `state` and return how far the study is; with tasks pending when it was
    stopped.

    `inbox` takes events from others, such as Stop. Stopped when nothing but deaths happens or no worker
    comes, ClusterFailed when the scheduler is lost, BadInput when no worker can use the bundle.
    """
    return _Dispatch(client, source, plan, state, limits, inbox or SimpleQueue(), on_progress).run()


@dataclass
class _Sent:
    batch: Batch
    future: "Future"
    alone: bool


@dataclass
class _Worker:
    threads: int
    sent: dict[str, _Sent] = field(default_factory=dict)  # by part, oldest first
    draining: bool = False

    @property
    def suspect(self) -> bool:
        return any(sent.alone for sent in self.sent.values())


class _Dispatch:
    def __init__(
        self,
        client: "Client",
        source: Source,
        plan: Plan,
        state: State,
        limits: Limits,
        inbox: "SimpleQueue[events.Event]",
        on_progress: Callable[[Progress], None],
    ) -> None:
        self.client, self.source, self.plan, self.limits = client, source, plan, limits
        self.inbox, self.on_progress = inbox, on_progress
        self.ledger = Ledger(plan, state, limits.max_attempts)
        self.backlog = Backlog(state.pending_ranges())
        self.suspects: deque[tuple[Range, ...]] = deque()
        self.pace = Pace(limits.batch_seconds)
        self.breaker = Breaker()
        self.workers: dict[str, _Worker] = {}
        self.most_workers = 0
        self.start = time.monotonic()
        self.last_worker_seen = self.start
        self.stopping = False

    # The loop

    def run(self) -> Progress:
        self.client.subscribe_topic("all", self._on_scheduler_event)
        try:
            self._look_for_workers()
            while self.backlog or self.suspects or self._in_flight():
                if self.inbox.empty():  # what is known first, then what to do about it
                    self._feed()
                try:
                    self._handle(self.inbox.get(timeout=1))
                except Empty:
                    self._check_cluster()
                    self._look_for_workers()
                if self.stopping:
                    return self._wind_down()
            return self._progress()
        finally:
            self._cancel([sent for worker in self.workers.values() for sent in worker.sent.values()])
            if self.client.status == "running":
                self.client.unsubscribe_topic("all")

    def _handle(self, event: events.Event) -> None:
        match event:
            case events.WorkerJoined():
                self._look_for_workers()
            case events.WorkerLeft():
                self._worker_left(event)
            case events.WorkerDraining(address, running):
                self._worker_draining(address, running)
            case events.BatchDone(part, receipt):
                if sent := self._arrived(part):
                    self._settle(sent.batch, receipt)
            case events.BatchBroken(part, error):
                self._check_cluster()
                if sent := self._arrived(part):
                    self._broken(sent.batch, error)
            case events.Stop():
                self.stopping = True

    def _on_scheduler_event(self, event: tuple[float, Any]) -> None:
        """In Dask's thread: turn the scheduler's events into ours."""
        _, message = event
        if not isinstance(message, dict):
            return
        if message.get("action") == "add-worker":
            self.inbox.put(events.WorkerJoined(message["worker"]))
        elif message.get("action") == "remove-worker":
            self.inbox.put(events.WorkerLeft(message["worker"], message["expected"]))
        elif message.get("action") == drain.ACTION:
            self.inbox.put(events.WorkerDraining(message["worker"], frozenset(message["executing"])))

    def _check_cluster(self) -> None:
        if self.client.status != "running":
            raise ClusterFailed(SCHEDULER_LOST)
        now = time.monotonic()
        if self.workers:
            self.last_worker_seen = now
        elif now - self.last_worker_seen > self.limits.worker_wait_seconds:
            raise Stopped(
                f"Stopped: for {self.limits.worker_wait_seconds:,.0f} seconds there was no worker, and "
                f"{self.ledger.counts['pending']:,} tasks are pending. The same command goes on."
            )

    # Sending

    def _look_for_workers(self) -> None:
        """See who is there: at first, when somebody joined, in quiet seconds lest an event was missed."""
        try:
            there = self.client.nthreads()
        except OSError as error:
            raise ClusterFailed(SCHEDULER_LOST) from error
        for address, threads in there.items():
            self.workers.setdefault(address, _Worker(threads))
        for address in self.workers.keys() - there.keys():
            self._worker_left(events.WorkerLeft(address, expected=False))
        self.most_workers = max(self.most_workers, len(self.workers))

    def _feed(self) -> None:
        """Fill every worker's window. Suspects get workers of their own, half of them while there is other
        work.
        """
        taking = [(address, worker) for address, worker in self.workers.items() if not worker.draining]
        by_load = sorted(taking, key=lambda item: (not item[1].suspect, len(item[1].sent)))
        kept_free = min(len(self.suspects), max(1, len(by_load) // 2) if self.backlog else len(by_load))
        for address, worker in by_load[:kept_free]:
            if not worker.sent:
                self._send(address, worker, self.suspects.popleft(), alone=True)
        slots = sum(worker.threads for _, worker in taking)
        window = 1 if self.pace.task_seconds is None else WINDOW
        places = [
            (address, worker)
            for address, worker in by_load[kept_free:]
            if not worker.suspect
            for _ in range(len(worker.sent), window * worker.threads)
        ]
        for number, (address, worker) in enumerate(places):
            if self.backlog:
                size = self.pace.size(len(self.backlog), slots, len(places) - number)
                self._send(address, worker, self.backlog.take(size))

    def _send(self, address: str, worker: _Worker, ranges: tuple[Range, ...], alone: bool = False) -> None:
        part = uuid.uuid4().hex
        batch = Batch(self.source, part, ranges, self.limits.overdue_seconds, self.ledger.died_before(ranges))
        future = self.client.submit(
            run_batch,
            batch,
            key=_key(part),
            workers=[address],
            allow_other_workers=False,
            pure=False,
        )
        worker.sent[part] = _Sent(batch, future, alone)
        self.client.loop.add_callback(self._watch, part, future)

    async def _watch(self, part: str, future: "Future") -> None:
        """In Dask's thread: wait for a batch and put its end on the inbox."""
        from distributed import KilledWorker

        try:
            self.inbox.put(events.BatchDone(part, await self.client.gather(future, asynchronous=True)))
        except KilledWorker:
            pass  # the worker's end is an event of its own
        except BaseException as error:  # CancelledError too, which is no Exception
            self.inbox.put(events.BatchBroken(part, error))

    # Receiving

    def _arrived(self, part: str) -> _Sent | None:
        """The batch of that part, taken off its worker; None when it was given up before."""
        for worker in self.workers.values():
            if part in worker.sent:
                return worker.sent.pop(part)
        return None

    def _settle(self, batch: Batch, receipt: Receipt) -> None:
        ok, again = self.ledger.settle(batch, receipt)
        self.pace.learn(batch.n_tasks - count(receipt.left), receipt.seconds)
        self.backlog.put_first(receipt.left)
        self.backlog.put_last(again)
        if ok:
            self.breaker.completed()
        self.on_progress(self._progress())

    def _broken(self, batch: Batch, error: BaseException) -> None:
        """A batch of a worker that lives was not stored: give it back, unless nobody could run it."""
        if isinstance(error, MopsError):
            raise error
        self.backlog.put_first(batch.ranges)
        self.breaker.broke(error)

    # Losing

    def _worker_left(self, event: events.WorkerLeft) -> None:
        """Give back what waited on a worker that is gone, and suspect what it was running."""
        worker = self.workers.pop(event.address, None)
        self.last_worker_seen = time.monotonic()
        if worker is None:
            return
        unsettled = self._take_back(list(worker.sent.values()))
        blameless = event.expected or worker.draining
        running = [] if blameless else unsettled[: worker.threads]
        self._put_back(unsettled[len(running) :])
        for sent in running:
            if sent.batch.n_tasks > 1:
                self.suspects.extend(halve(sent.batch.ranges))
            elif len(running) > 1:
                self.suspects.append(sent.batch.ranges)
            else:
                self._lost_alone(sent.batch, event.reason)
        self.on_progress(self._progress())

    def _worker_draining(self, address: str, running: frozenset[str]) -> None:
        """Send a worker nothing more, and give to others what it did not begin."""
        if worker := self.workers.get(address):
            worker.draining = True
            waiting = [part for part in worker.sent if _key(part) not in running]
            self._put_back(self._take_back([worker.sent.pop(part) for part in waiting]))

    def _take_back(self, batches: list[_Sent]) -> list[_Sent]:
        """Cancel batches, settle those that were stored although no receipt came, and return the others."""
        self._cancel(batches)
        unsettled = []
        for sent in batches:
            if receipt := committed(sent.batch, self.plan):
                self._settle(sent.batch, receipt)
            else:
                unsettled.append(sent)
        return unsettled

    def _put_back(self, batches: list[_Sent]) -> None:
        for sent in reversed(batches):
            if sent.alone:
                self.suspects.appendleft(sent.batch.ranges)
            else:
                self.backlog.put_first(sent.batch.ranges)

    def _lost_alone(self, batch: Batch, reason: str) -> None:
        """A worker died of a single task: write the row that the worker could not."""
        ((index, _),) = batch.ranges
        task = self.plan.task(index)
        status = "poisoned" if index in batch.died else "died"
        parts.write(self.source.files, [Attempt(task.set, task.replicate, task.seed, status, reason)])
        if self.ledger.failed(Failed(index, status, reason)):
            self.suspects.append(batch.ranges)
        self.breaker.died(f"{task.set}/{task.replicate}", self.most_workers)

    def _cancel(self, sent: list[_Sent]) -> None:
        if sent and self.client.status == "running":
            self.client.cancel([item.future for item in sent], force=True)

    # Ending

    def _wind_down(self) -> Progress:
        """Let what runs be stored, within the grace period; nothing new begins."""
        for worker in self.workers.values():
            waiting = list(worker.sent)[worker.threads :]
            self._cancel([worker.sent.pop(part) for part in waiting])
        deadline = time.monotonic() + self.limits.grace_seconds
        while self._in_flight() and (left := deadline - time.monotonic()) > 0:
            try:
                event = self.inbox.get(timeout=left)
            except Empty:
                break
            if isinstance(event, events.Stop):
                break
            self._handle(event)
        return self._progress()

    def _in_flight(self) -> bool:
        return any(worker.sent for worker in self.workers.values())

    def _progress(self) -> Progress:
        return self.ledger.progress(time.monotonic() - self.start, len(self.workers))


def _key(part: str) -> str:
    """Dask's key of a batch."""
    return f"modelops-batch-{part}"
