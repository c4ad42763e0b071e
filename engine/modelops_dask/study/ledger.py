"""The state of each task during a run.

state of the store, then receipts -> Ledger -> tasks to try again, counts, Progress

It follows the rules of store/fold.py, so that its counts equal those of a fold of the same rows.
"""

from collections import Counter
from collections.abc import Collection

from modelops_dask.executors import FileChanges, is_crash
from modelops_dask.plan.plan import FAILED, OK, PENDING, POISONED, STATES, Plan
from modelops_dask.store import parts
from modelops_dask.store.fold import State
from modelops_dask.study.batch import Batch, Failed, Range, Receipt
from modelops_dask.study.needs import Needs
from modelops_dask.study.progress import Progress

MOST_NAMES = 20  # of files that tasks write
MORE = 1.2  # multiple of a task's memory when it ran out, that its neighbours should need
CONFIRMED = 5  # failures of one type and line that happened again in new processes: further ones need none
LOSSES_TO_POISON = 2  # one loss can have any cause: a node that left, an operator


class Ledger:
    """Codes and attempts by task index; `losses` counts how often a task's process was lost in this run."""

    def __init__(self, plan: Plan, state: State, max_attempts: int) -> None:
        self._n_tasks, self._max_attempts = plan.n_tasks, max_attempts
        self._codes, self._attempts = state.codes.ravel().copy(), state.attempts.ravel().copy()
        self.counts = state.counts()
        self.losses: Counter[int] = Counter()
        self._failed_before: dict[int, set[int]] = {}  # pending tasks -> their error_digests
        for index, digest in state.failed_before:
            self._failed_before.setdefault(index, set()).add(digest)
        self._kinds: dict[int, tuple[str, str]] = {}  # of tasks in _failed_before: type and line, if known
        self._confirmed: Counter[tuple[str, str]] = Counter()
        self._too_large: set[int] = set()
        self._crashes_alone = 0  # with all the memory of a pod
        self._needs = Needs(plan.replicates)
        self._ended_here = self._peak_bytes = self._not_ok = 0
        self._empty: Counter[str] = Counter()
        self._returned: set[str] = set()
        self._fallbacks: dict[str, tuple[int, float]] = {}  # why -> tasks, seconds besides the model's
        self._written: dict[str, None] = {}  # names in the order in which they were reported
        self._shared: dict[str, None] = {}

    def settle(self, batch: Batch, receipt: Receipt) -> tuple[int, list[int]]:
        """Record a receipt. Returns how many tasks ended ok, and which failed ones to try again."""
        self._peak_bytes = max(self._peak_bytes, receipt.peak_bytes)
        self._needs.learn(batch.ranges[0][0], receipt.peak_bytes)
        self._empty.update(dict(receipt.empty))
        self._returned.update(receipt.returned)
        for reason, n_tasks, seconds in receipt.fallbacks:
            before_tasks, before_seconds = self._fallbacks.get(reason, (0, 0.0))
            self._fallbacks[reason] = before_tasks + n_tasks, before_seconds + seconds
        for start, stop in batch.ranges:
            self._codes[start:stop] = OK
        for start, stop in receipt.left:
            self._codes[start:stop] = PENDING
        if batch.fresh:
            self._note_recovered(batch, receipt)
        ok = batch.n_tasks - sum(stop - start for start, stop in receipt.left) - len(receipt.failed)
        self._count("ok", ok)
        return ok, [failed.index for failed in receipt.failed if self.record_failure(failed)]

    def note_files(self, files: FileChanges) -> None:
        """Remember which files of the bundle tasks write to, a few of them by name."""
        for remembered, names in ((self._written, files.written_files), (self._shared, files.shared_files)):
            remembered.update(dict.fromkeys(names[: max(0, MOST_NAMES - len(remembered))]))

    def attempts(self, index: int) -> int:
        """How often a task was tried, including earlier runs."""
        return int(self._attempts[index])

    def record_failure(self, failed: Failed) -> bool:
        """Record an attempt that did not end ok. Returns whether to try the task again."""
        index = failed.index
        self._not_ok += 1
        self._attempts[index] = min(int(self._attempts[index]), 254) + 1
        if failed.status != "failed":
            self.losses[index] += 1
        if failed.reason in (parts.OUT_OF_MEMORY, parts.WORKER_MEMORY):
            self._too_large.add(index)
        elif failed.limit_bytes and is_crash(failed.reason):
            self._record_crash(index)
        if failed.reason == parts.OUT_OF_MEMORY:
            self._needs.learn(index, int(MORE * failed.peak_bytes))
        digests, kind = self._failed_before.pop(index, set()), (failed.reason, failed.line)
        if digests:
            is_same = failed.error_digest in digests
            self._confirmed[self._kinds.pop(index, kind)] += 1 if is_same else -CONFIRMED
        if failed.status == "poisoned":
            self._codes[index] = POISONED
        elif self._attempts[index] >= self._max_attempts or failed.error_digest in digests:
            self._codes[index] = FAILED
        else:
            if failed.error_digest is not None:
                digests.add(failed.error_digest)
            if digests:
                self._failed_before[index], self._kinds[index] = digests, kind
            self._codes[index] = PENDING
            return True
        self._count(STATES[self._codes[index]], 1)
        return False

    def _record_crash(self, index: int) -> None:
        """Record a crash, which a refused allocation may look like: the task runs alone the next time, with
        all memory.

        After CONFIRMED tasks crashed then too, memory is hardly the reason for more.
        """
        if index in self._too_large:
            self._crashes_alone += 1
        elif self._crashes_alone < CONFIRMED:
            self._too_large.add(index)

    def _note_recovered(self, batch: Batch, receipt: Receipt) -> None:
        """Record that tasks that failed before ended ok in a new process."""
        not_begun = {index for start, stop in receipt.left for index in range(start, stop)}
        for index in batch.fresh - not_begun - {failed.index for failed in receipt.failed}:
            self._failed_before.pop(index, None)
            self._confirmed[self._kinds.pop(index, ("", ""))] -= CONFIRMED

    def find_lost_before(self, ranges: tuple[Range, ...]) -> frozenset[int]:
        """Tasks of these ranges that are poisoned if their process is lost again."""
        return frozenset(
            i for i in _select_within(self.losses, ranges) if self.losses[i] + 1 >= LOSSES_TO_POISON
        )

    def find_failed_before(self, ranges: tuple[Range, ...]) -> frozenset[int]:
        """Tasks of these ranges that failed, and finally fail if they fail alike again.

        If new processes confirmed CONFIRMED failures of a type and line, similar ones are left out: a start
        may take a thousand times as long as a task.
        """
        if not self._failed_before:
            return frozenset()
        failed_before = _select_within(self._failed_before, ranges)
        return frozenset(
            i for i in failed_before if self._confirmed[self._kinds.get(i, ("", ""))] < CONFIRMED
        )

    def find_too_large(self, ranges: tuple[Range, ...]) -> frozenset[int]:
        """Tasks of these ranges that ran out of memory, or may have: the next time they run alone in a
        pod.
        """
        return _select_within(self._too_large, ranges)

    def needed_bytes(self, ranges: tuple[Range, ...]) -> int:
        """Memory that a task of these ranges should need; 0: not known."""
        return self._needs.expect(ranges)

    def progress(self, seconds: float, workers: int) -> Progress:
        """The progress of the study."""
        return Progress(
            total=self._n_tasks,
            ok=self.counts["ok"],
            failed=self.counts["failed"],
            poisoned=self.counts["poisoned"],
            ended_here=self._ended_here,
            seconds=seconds,
            workers=workers,
            peak_bytes=self._peak_bytes,
            not_ok=self._not_ok,
            empty=tuple(self._empty.items()),
            returned=tuple(sorted(self._returned)),
            written_files=tuple(self._written),
            shared_files=tuple(self._shared),
            fallbacks=tuple(
                (reason, n_tasks, seconds / n_tasks) for reason, (n_tasks, seconds) in self._fallbacks.items()
            ),
        )

    def _count(self, state: str, n_tasks: int) -> None:
        self.counts[state] += n_tasks
        self.counts["pending"] -= n_tasks
        self._ended_here += n_tasks


def _select_within(indices: Collection[int], ranges: tuple[Range, ...]) -> frozenset[int]:
    """Those in the ranges. For 10^5 tasks and a small batch, iterating the batch is faster."""
    if sum(stop - start for start, stop in ranges) < len(indices):
        return frozenset(i for start, stop in ranges for i in range(start, stop) if i in indices)
    return frozenset(i for i in indices if any(start <= i < stop for start, stop in ranges))
