"""Send a study's pending tasks to Dask workers, a few batches each, until every task has ended.

plan without state -> Backlog -> Batch -> Fleet -> a worker -> Receipt -> Ledger -> ... -> Progress

Each worker holds a window of two batches per thread; the scheduler never holds more. So when a worker dies,
its running batches are known: its oldest ones, one per thread. Those are suspects (suspects.py), the others
go back. A suspect runs on a worker that holds nothing else, and if that dies too it is halved, until one task
is left. A task that was lost twice, alone, is poisoned.

A batch that was stored before its worker died counts as done. A worker that is drained (drain.py) finishes
its running batches, gives back the waiting ones, and is blamed for nothing. A task that failed is tried again
in a new process, each time after a longer pause; as long as no task has ended ok, a few scouts go first
(common_cause.py).

One thread, the caller's, owns all state and reads events (events.py) from one inbox. Worker losses come from
the scheduler's own events, never from waiting for KilledWorker.

Workers are started in local.py, and store/fold.py determines the pending tasks.
"""

import logging
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Literal

from modelops_dask.errors import MopsError
from modelops_dask.plan.plan import Plan
from modelops_dask.store import parts
from modelops_dask.store.failures import START, TRANSIENT
from modelops_dask.store.fold import CLEARLY_LESS, MAX_ATTEMPTS, State
from modelops_dask.store.parts import Attempt
from modelops_dask.study import events
from modelops_dask.study.backlog import Backlog, Pace, count
from modelops_dask.study.batch import Batch, Failed, Range, Receipt, RunContext, as_ranges, recover_receipt
from modelops_dask.study.breaker import Breaker, NoWorkers
from modelops_dask.study.common_cause import SCOUTS, CommonCause
from modelops_dask.study.fleet import Fleet, SentBatch, Worker
from modelops_dask.study.ledger import Ledger
from modelops_dask.study.losses import Losses, LostTask
from modelops_dask.study.progress import Progress
from modelops_dask.study.suspects import Suspect, Suspects
from modelops_dask.workers.memory import explain_worker_memory
from modelops_dask.workers.remote import SchedulerLost

if TYPE_CHECKING:
    from distributed import Client

    from modelops_dask.workers.memory import TaskMemory

logger = logging.getLogger("distributed.modelops")


@dataclass(frozen=True)
class Limits:
    """When to send, when to retry, when to give up."""

    max_attempts: int = MAX_ATTEMPTS
    memory: "TaskMemory | None" = None  # of the workers, if known
    retry_seconds: float = 1.0  # before a second attempt; doubled before each further one
    batch_seconds: float = 1.0
    overdue_seconds: float = 10.0  # a batch that has run this long returns the tasks that it did not start
    worker_wait_seconds: float = 300.0  # without a worker
    grace_seconds: float = 5.0  # for running batches when the run is stopped
    reason_seconds: float = 0.0  # until a watcher of pods reports why a worker died

    @property
    def task_bytes(self) -> int:
        """The limit of one task, alone; 0: not known. Deaths with less do not count."""
        return self.memory.largest_bytes if self.memory else 0


DEFAULT_LIMITS = Limits()


def run(
    client: "Client",
    context: RunContext,
    plan: Plan,
    state: State,
    *,
    ranges: Sequence[Range] | None = None,
    limits: Limits = DEFAULT_LIMITS,
    inbox: "SimpleQueue[events.Event] | None" = None,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> Progress:
    """Run the pending tasks of `state` and return the progress; some are pending if it was stopped.

    Args:
        ranges: The pending tasks to run, by default all.
        inbox: Receives events from others, such as StopRequested.

    Raises:
        Stopped: Only deaths happen, or no worker comes.
        ClusterFailed: The scheduler is lost.
        BadInput: No worker can use the bundle.
    """
    inbox = inbox or SimpleQueue()
    with Fleet(client, inbox, dict(context.request.resources)) as fleet:
        backlog = Backlog(state.pending_ranges() if ranges is None else ranges)
        dispatch = _Dispatcher(
            fleet, context, plan, state, backlog, limits=limits, inbox=inbox, on_progress=on_progress
        )
        return dispatch.run()


class _Dispatcher:
    def __init__(
        self,
        fleet: Fleet,
        context: RunContext,
        plan: Plan,
        state: State,
        backlog: Backlog,
        *,
        limits: Limits,
        inbox: "SimpleQueue[events.Event]",
        on_progress: Callable[[Progress], None],
    ) -> None:
        self.fleet, self.context, self.plan, self.limits = fleet, context, plan, limits
        self.inbox, self.on_progress = inbox, on_progress
        self.ledger = Ledger(plan, state, limits.max_attempts)
        self.generations = state.generations
        self.backlog = backlog
        self.suspects = Suspects()
        self.losses = Losses(limits.reason_seconds)
        self.pace = Pace(limits.batch_seconds)
        self.breaker = Breaker(completed_before=self.ledger.counts["ok"] > 0)
        self.cause = CommonCause(completed_before=self.ledger.counts["ok"] > 0)
        self.start = time.monotonic()
        self.last_worker_seen = self.start
        self.stopping = False

    # The loop

    def run(self) -> Progress:
        self._look_for_workers()
        while self.backlog.unfinished or self.suspects or self.losses or self.fleet.busy:
            for loss in self.losses.take_known(time.monotonic()):
                self._settle_lost_task(loss)
            self._stop_if_useless()
            if self.inbox.empty():  # first the known events, then the reaction
                self._feed()
            try:
                self._handle(self.inbox.get(timeout=min(1.0, self.backlog.rest_seconds(time.monotonic()))))
            except Empty:
                self._check_cluster()
                self._look_for_workers()
            if self.stopping:
                return self._wind_down()
        return self._progress()

    def _handle(self, event: events.Event) -> None:
        match event:
            case events.WorkerJoined():
                self._look_for_workers()
            case events.WorkerLeft():
                self._lose_worker(event)
            case events.WorkerDraining(address, running):
                self._drain_worker(address, running)
            case events.BatchDone(part, receipt):
                if sent := self.fleet.take(part):
                    self._settle(sent, receipt)
            case events.BatchBroken(part, error):
                self._check_cluster()
                if sent := self.fleet.take(part):
                    self._give_back_broken(sent.batch, error)
            case events.PodLost():
                self.losses.record_pod(event, time.monotonic())
            case events.StopRequested():
                self.stopping = True

    def _check_cluster(self) -> None:
        if not self.fleet.connected:
            raise SchedulerLost
        now = time.monotonic()
        if self.fleet.workers:
            self.last_worker_seen = now
        elif now - self.last_worker_seen > self.limits.worker_wait_seconds:
            raise NoWorkers(self.limits.worker_wait_seconds, self.ledger.counts["pending"])

    def _look_for_workers(self) -> None:
        """Refresh the list of workers: at first, when one joins, and when no event came for a second."""
        for address in self.fleet.refresh():
            self._lose_worker(events.WorkerLeft(address, expected=False))

    # Sending

    def _feed(self) -> None:
        """Fill every worker's window. Suspects get exclusive workers, at most half while there is other
        work.
        """
        self.backlog.wake(time.monotonic())
        if self._is_useless:
            return
        workers = self.fleet.workers.values()
        avoided = self.suspects.find_avoided({worker.host for worker in workers})
        available = [worker for worker in workers if not worker.draining and worker.host not in avoided]
        if self.cause.is_looking:  # a second try is more informative on another worker
            available = [worker for worker in available if not worker.has_failed_start] or available
        by_load = sorted(available, key=lambda worker: (not worker.suspect, len(worker.sent)))
        n_reserved = min(len(self.suspects), max(1, len(by_load) // 2) if self.backlog else len(by_load))
        for worker in by_load[:n_reserved]:
            if not worker.sent:
                suspect = self.suspects.take()
                self._send(worker, suspect.ranges, suspect)
        slots = sum(worker.threads for worker in available)
        places = [
            (number, worker)
            for worker in by_load[n_reserved:]
            if not worker.suspect
            for number in range(len(worker.sent), self.pace.window * worker.threads)
        ]
        # first batches that run immediately, then those that wait behind them
        places.sort(key=lambda place: place[0])
        for number, (_, worker) in enumerate(places):
            if self.backlog:
                size = self.pace.size(len(self.backlog), slots, len(places) - number)
                self._send(worker, self.backlog.take(size))

    def _send(self, worker: Worker, ranges: tuple[Range, ...], suspect: Suspect | None = None) -> None:
        batch = Batch(
            context=self.context,
            part=uuid.uuid4().hex,
            ranges=ranges,
            seconds=self.limits.overdue_seconds,
            died=self.ledger.find_lost_before(ranges),
            alone=self.ledger.find_too_large(ranges),
            fresh=self.ledger.find_failed_before(ranges),
            needed_bytes=self.ledger.needed_bytes(ranges),
            most_bytes=int(CLEARLY_LESS * self.limits.task_bytes),
            generations=self.generations.runs(ranges) if self.generations else (),
        )
        self.fleet.send(worker, batch, suspect)

    # Receiving

    def _settle(self, sent: SentBatch, receipt: Receipt) -> None:
        batch = sent.batch
        self.ledger.note_files(receipt.files)
        if receipt.files.shared_files:  # nothing was stored
            self._put_back([sent])
            return
        ok, retry_indices = self.ledger.settle(batch, receipt)
        if ok:
            self.breaker.record_completion()
            self.cause.record_completion()
        self.backlog.put_first(receipt.left)
        self._try_again(self._look_for_cause(sent, receipt, retry_indices))
        if not self.cause.is_looking:  # otherwise one task at a time: they may all fail
            self.pace.learn(batch.n_tasks - count(receipt.left), receipt.seconds)
        for failed in receipt.failed:
            if (failed.status, failed.reason) == ("poisoned", parts.OUT_OF_MEMORY):
                self.breaker.record_out_of_memory(self._name(failed.index), failed)
        if sent.suspect and self.suspects.acquit(sent.suspect):
            host = sent.suspect.loss.host
            logger.warning(
                "workers on %s died repeatedly, and no task was the cause: the host gets no more tasks", host
            )
        self.on_progress(self._progress())

    def _look_for_cause(
        self, sent: SentBatch, receipt: Receipt, retry_indices: Collection[int]
    ) -> Collection[int]:
        """Record failures as long as no task has ended ok. Returns the tasks that may wait for a retry."""
        if not (receipt.failed and self.cause.is_looking):
            return retry_indices
        if self.cause.needs_scouts:
            self.cause.choose([receipt.failed[0].index, *self.backlog.bring_forward(SCOUTS - 1)])
        waiting = set(retry_indices)
        for failed in receipt.failed:
            self.cause.record_failure(failed, sent.address, is_final=failed.index not in waiting)
            if failed.failure == START and (worker := self.fleet.workers.get(sent.address)):
                worker.has_failed_start = True
            if failed.index in waiting and self.cause.is_scout(failed.index):
                waiting.discard(failed.index)
                if failed.failure == TRANSIENT:
                    self._try_again([failed.index], first=True)
                else:
                    self.backlog.put_first([(failed.index, failed.index + 1)])
        return sorted(waiting)

    @property
    def _is_useless(self) -> bool:
        """Whether all remaining tasks will fail, as far as is known."""
        return self.cause.is_alike or self.cause.starts_fail(len(self.fleet.workers))

    def _stop_if_useless(self) -> None:
        """Raise the verdict once no running task could still end ok."""
        is_unfinished = self.backlog.unfinished or self.suspects
        if self._is_useless and is_unfinished and not self.fleet.busy:
            pending = self.ledger.counts["pending"]
            n_workers = len(self.fleet.workers)
            if verdict := self.cause.verdict(self.context.store, self.plan.replicates, pending, n_workers):
                raise verdict

    def _try_again(self, indices: Collection[int], first: bool = False) -> None:
        """Queue failed tasks again, after a pause that grows from attempt to attempt."""
        by_attempts: dict[int, list[int]] = {}
        for index in indices:
            by_attempts.setdefault(self.ledger.attempts(index), []).append(index)
        for attempts, group in by_attempts.items():
            pause_seconds = self.limits.retry_seconds * 2 ** (attempts - 1)
            self.backlog.put_later(as_ranges(group), time.monotonic() + pause_seconds, first)

    def _give_back_broken(self, batch: Batch, error: BaseException) -> None:
        """Queue a batch again that was not stored although its worker lives, unless no worker can run it."""
        if isinstance(error, CancelledError):  # not by us: the connection was lost, although it is back
            raise SchedulerLost
        if isinstance(error, MopsError):
            raise error
        self.backlog.put_first(batch.ranges)
        self.breaker.record_broken_batch(error)

    # Losing

    def _lose_worker(self, event: events.WorkerLeft) -> None:
        """Queue waiting batches of a lost worker again, and suspect its running ones."""
        worker = self.fleet.workers.pop(event.address, None)
        self.last_worker_seen = time.monotonic()
        if worker is None:
            return
        unsettled = self._take_back(list(worker.sent.values()))
        blameless = event.expected or worker.draining or event.blameless
        running = [] if blameless else unsettled[: worker.threads]
        self._put_back(unsettled[len(running) :])
        if running:
            self.pace.record_loss()
        if event.blameless and unsettled:
            self.breaker.record_restart(self.fleet.most_workers, self._worker_words(event.held_bytes))
        if len(running) == 1 and running[0].batch.n_tasks == 1:
            loss = LostTask(running[0].batch, worker.host, event.reason, held_bytes=event.held_bytes)
            self.losses.add(loss, time.monotonic())
        else:
            self.suspects.add(worker.host, [sent.batch.ranges for sent in running])
        self.on_progress(self._progress())

    def _drain_worker(self, address: str, running: frozenset[str]) -> None:
        """Send a worker nothing more, and give others the batches that it did not start."""
        if worker := self.fleet.workers.get(address):
            worker.draining = True
            self._put_back(self._take_back(self.fleet.take_waiting(worker, running)))

    def _take_back(self, batches: list[SentBatch]) -> list[SentBatch]:
        """Cancel batches, settle those that were stored without a receipt, and return the others."""
        self.fleet.cancel(batches)
        unsettled = []
        for sent in batches:
            if receipt := recover_receipt(sent.batch, self.plan):
                self._settle(sent, receipt)
            else:
                unsettled.append(sent)
        return unsettled

    def _put_back(self, batches: Iterable[SentBatch]) -> None:
        for sent in reversed(list(batches)):
            if sent.suspect:
                self.suspects.give_back(sent.suspect)
            else:
                self.backlog.put_first(sent.batch.ranges)

    def _settle_lost_task(self, loss: LostTask) -> None:
        """Write the row of a single task whose worker died, and queue it again unless it is now poisoned."""
        ((index, _),) = loss.batch.ranges
        if loss.blameless:
            self.backlog.put_first(loss.batch.ranges)
            return
        task = self.plan.task(index)
        status: Literal["poisoned", "died"] = "poisoned" if index in loss.batch.died else "died"
        memory_text = self._worker_words(loss.held_bytes) if loss.reason == parts.WORKER_MEMORY else ""
        row = Attempt(
            set=task.set,
            replicate=task.replicate,
            seed=task.seed,
            status=status,
            reason=loss.reason,
            error=memory_text,
            limit_bytes=self.limits.task_bytes if memory_text else 0,
            generation=self.generations.of_task(index) if self.generations else 0,
        )
        parts.write(self.context.store, [row], self.context.mark)
        failed = Failed(index, status, loss.reason)
        to_retry = self.ledger.record_failure(failed)
        self.cause.record_failure(failed, "", is_final=not to_retry)
        self.breaker.record_death(
            f"{self._name(index)} ({loss.reason})", self.fleet.most_workers, memory_text
        )
        if to_retry:
            self.suspects.add(loss.host, [loss.batch.ranges])
        self.on_progress(self._progress())

    def _worker_words(self, held_bytes: int) -> str:
        return explain_worker_memory(held_bytes, self.limits.memory)

    def _name(self, index: int) -> str:
        return "{}/{}".format(*divmod(index, self.plan.replicates))

    # Ending

    def _wind_down(self) -> Progress:
        """Let running batches be stored, within the grace period; nothing new starts."""
        for worker in self.fleet.workers.values():
            self.fleet.cancel(self.fleet.take_waiting(worker))
        deadline = time.monotonic() + self.limits.grace_seconds
        while self.fleet.busy and (left := deadline - time.monotonic()) > 0:
            try:
                event = self.inbox.get(timeout=left)
            except Empty:
                break
            if isinstance(event, events.StopRequested):
                break
            self._handle(event)
        return self._progress()

    def _progress(self) -> Progress:
        return self.ledger.progress(time.monotonic() - self.start, len(self.fleet.workers))
