"""The tasks that a run has still to send, and how many to send at a time.

pending ranges -> Backlog.take(n) -> a batch;   receipts -> Pace.learn -> Pace.size -> n

A batch should take about a second: long enough that sending and storing it cost little in comparison, short
enough that losing it does not matter. The first is one task, a canary; the next may exceed any completed one
by a factor; towards the end they shrink, so that all slots finish together. After a death they are smaller
for a while, and none waits behind another, so that less is lost if more deaths follow.

Workers and Dask are not known here: dispatch.py uses this module.
"""

import heapq
import math
from collections import deque
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from modelops_dask.study.batch import Range

GROWTH = 4096  # multiple of the largest completed batch: short tasks go from one to a full batch in a step
WINDOW = 2  # batches per slot: one runs, one waits
LONG_SECONDS = 2.0  # per task; sending the next one takes a hundredth of it
CAUTION = 16  # at most this factor smaller after deaths
SHORTEST_SECONDS = 0.06  # the minimum at the end: sending and storing a batch takes about 10 ms


class Backlog:
    """Ranges of task indices, taken from the front. Times are those of one clock, in seconds."""

    def __init__(self, ranges: Iterable[Range]) -> None:
        self._ranges = deque(ranges)
        self._count = count(self._ranges)
        self._resting: list[tuple[float, bool, Sequence[Range]]] = []  # a heap

    def __len__(self) -> int:
        """The number of tasks that can be taken now."""
        return self._count

    @property
    def unfinished(self) -> bool:
        """Whether there are tasks to be taken, now or later."""
        return bool(self._count or self._resting)

    def take(self, n_tasks: int) -> tuple[Range, ...]:
        """Remove and return up to n_tasks tasks."""
        taken = []
        while n_tasks and self._ranges:
            start, stop = self._ranges.popleft()
            cut = min(stop, start + n_tasks)
            if cut < stop:
                self._ranges.appendleft((cut, stop))
            taken.append((start, cut))
            n_tasks -= cut - start
            self._count -= cut - start
        return tuple(taken)

    def bring_forward(self, n_tasks: int) -> tuple[int, ...]:
        """Move n_tasks tasks to the front, evenly spaced and including the last one; return them."""
        chosen = spread(self._ranges, n_tasks + 1)
        chosen = chosen[-n_tasks:]
        starts = deque(start for start, _ in chosen)
        rest: deque[Range] = deque()
        for start, stop in self._ranges:
            while starts and start <= starts[0] < stop:
                index = starts.popleft()
                if start < index:
                    rest.append((start, index))
                start = index + 1
            if start < stop:
                rest.append((start, stop))
        rest.extendleft(reversed(chosen))
        self._ranges = rest
        return tuple(index for index, _ in chosen)

    def put_first(self, ranges: Sequence[Range]) -> None:
        """Put tasks back that were taken but not run."""
        self._ranges.extendleft(reversed(ranges))
        self._count += count(ranges)

    def put_last(self, ranges: Sequence[Range]) -> None:
        """Add tasks to be tried again after all others."""
        self._ranges.extend(ranges)
        self._count += count(ranges)

    def put_later(self, ranges: Sequence[Range], due: float, first: bool = False) -> None:
        """Add tasks to be tried again, not before a time; then before all others, or after them."""
        heapq.heappush(self._resting, (due, first, ranges))

    def wake(self, now: float) -> None:
        """Make tasks available whose time has come."""
        while self._resting and self._resting[0][0] <= now:
            _, first, ranges = heapq.heappop(self._resting)
            (self.put_first if first else self.put_last)(ranges)

    def rest_seconds(self, now: float) -> float:
        """Seconds until wake() will make tasks available."""
        return max(0.0, self._resting[0][0] - now) if self._resting else math.inf


@dataclass
class Pace:
    """Sizes of batches from measurements."""

    batch_seconds: float
    task_seconds: float | None = None  # None until a batch has completed
    largest: int = 0
    caution: float = 1.0

    @property
    def window(self) -> int:
        """Batches that a slot may hold.

        Long tasks do not wait behind others: the known memory needs would be outdated.
        """
        one_batch_only = self.task_seconds is None or self.caution >= 2 or self.task_seconds > LONG_SECONDS
        return 1 if one_batch_only else WINDOW

    def record_loss(self) -> None:
        """Record that a worker died because of a task."""
        self.caution = min(CAUTION, 2 * self.caution)

    def learn(self, n_tasks: int, seconds: float) -> None:
        """Record how long a batch of n_tasks took."""
        measured = max(seconds, 1e-7 * n_tasks) / n_tasks
        # Half the weight on the newest, or more if it is larger: the canary's task imports the model too.
        weight = max(0.5, n_tasks / (n_tasks + self.largest))
        self.task_seconds = weight * measured + (1 - weight) * (self.task_seconds or measured)
        self.largest = max(self.largest, n_tasks)
        self.caution = max(1.0, 0.9 * self.caution)

    def size(self, remaining: int, slots: int, places: int) -> int:
        """Tasks for the next batch, at least one. `places` is how many batches could be sent now."""
        if self.task_seconds is None:
            return 1
        full = self.batch_seconds / self.caution / self.task_seconds
        least = min(SHORTEST_SECONDS / self.task_seconds, remaining / places)
        share = max(remaining / (2 * slots), least)
        return max(1, int(min(full, share, GROWTH * self.largest)))


def count(ranges: Iterable[Range]) -> int:
    """Count the tasks in ranges."""
    return sum(stop - start for start, stop in ranges)


def spread(ranges: Collection[Range], n_tasks: int) -> tuple[Range, ...]:
    """n_tasks of the tasks, evenly spaced from the first to the last; all if there are fewer."""
    total = count(ranges)
    n_tasks = min(n_tasks, total)
    positions = [number * (total - 1) // max(1, n_tasks - 1) for number in range(n_tasks)]
    task_ranges, passed = [], 0
    for start, stop in ranges:
        while positions and positions[0] < passed + stop - start:
            index = start + positions.pop(0) - passed
            task_ranges.append((index, index + 1))
        passed += stop - start
    return tuple(task_ranges)


def halve(ranges: Sequence[Range]) -> tuple[tuple[Range, ...], tuple[Range, ...]]:
    """Two halves of at least two tasks, the first the smaller."""
    rest = Backlog(ranges)
    return rest.take(len(rest) // 2), rest.take(len(rest))
