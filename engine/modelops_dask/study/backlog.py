"""What a run has still to send, and how much of it to send at a time.

pending ranges -> Backlog.take(n) -> a batch;   receipts -> Pace.learn -> Pace.size -> n

A batch should take about a second: long enough that sending and storing it cost nothing beside it, short
enough that losing it does not hurt. The first is one task, a canary; each next may be larger than any that
came back by a factor; towards the end they shrink, so that all slots finish together.

Does not know workers or Dask: dispatch.py asks.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from modelops_dask.study.batch import Range

GROWTH = 64  # times the largest batch that came back; two steps from one task to four thousand
SHORTEST_SECONDS = 0.06  # at the end no batch is smaller: sending and storing one takes about 10 ms


class Backlog:
    """Ranges of task indices, taken from the front."""

    def __init__(self, ranges: Iterable[Range]) -> None:
        self._ranges = deque(ranges)
        self._count = count(self._ranges)

    def __len__(self) -> int:
        """Tasks, not ranges."""
        return self._count

    def take(self, n_tasks: int) -> tuple[Range, ...]:
        """Up to n_tasks tasks, removed."""
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

    def put_first(self, ranges: Sequence[Range]) -> None:
        """Give back what was taken and not run."""
        self._ranges.extendleft(reversed(ranges))
        self._count += count(ranges)

    def put_last(self, ranges: Sequence[Range]) -> None:
        """Add tasks to be tried again after all others."""
        self._ranges.extend(ranges)
        self._count += count(ranges)


@dataclass
class Pace:
    """Sizes of batches from what was measured."""

    batch_seconds: float
    task_seconds: float | None = None  # None until a batch has come back
    largest: int = 0

    def learn(self, n_tasks: int, seconds: float) -> None:
        """A batch of n_tasks took so long."""
        measured = max(seconds, 1e-7 * n_tasks) / n_tasks
        # Half the weight on the newest: the first task of a process also imports the model.
        self.task_seconds = measured if self.task_seconds is None else (self.task_seconds + measured) / 2
        self.largest = max(self.largest, n_tasks)

    def size(self, remaining: int, slots: int, places: int) -> int:
        """Tasks for the next batch, at least one. `places` is how many batches could be sent now."""
        if self.task_seconds is None:
            return 1
        full = self.batch_seconds / self.task_seconds
        least = min(SHORTEST_SECONDS / self.task_seconds, remaining / places)
        share = max(remaining / (2 * slots), least)
        return max(1, int(min(full, share, GROWTH * self.largest)))


def count(ranges: Iterable[Range]) -> int:
    """Tasks in ranges."""
    return sum(stop - start for start, stop in ranges)


def halve(ranges: Sequence[Range]) -> tuple[tuple[Range, ...], tuple[Range, ...]]:
    """Two halves of at least two tasks, the first the smaller."""
    rest = Backlog(ranges)
    return rest.take(len(rest) // 2), rest.take(len(rest))
