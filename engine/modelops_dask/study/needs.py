"""Predict the memory of a task from its neighbours.

receipts -> Needs.learn(index, peak) -> Needs.expected(ranges) -> bytes that admission sets aside

Neighbours are those by index: replicates of the same set, then the next sets in the plan, which in a sweep
differ by one step. Beyond all known tasks a rise is extrapolated: otherwise a sweep would lose the first
tasks of each step. The driver knows all of them, a worker only a few. A prediction is not a guarantee:
limits/admission.py and executors/limited.py decide what a task may hold beyond it.
"""

from bisect import bisect_left, insort
from collections.abc import Iterable

from modelops_dask.study.batch import Range

LATEST = 1000  # number of remembered batches


class Needs:
    """Peaks in bytes by task index, of the latest batches."""

    def __init__(self, replicates: int) -> None:
        """Prepare; `replicates` are the tasks of a set."""
        self._replicates = replicates
        self._peaks: dict[int, int] = {}  # the oldest first
        self._indices: list[int] = []  # the same, sorted

    def learn(self, index: int, peak_bytes: int) -> None:
        """Record the memory of a batch that began with this task; 0: not known."""
        if not peak_bytes:
            return
        if self._peaks.pop(index, None) is None:
            insort(self._indices, index)
        self._peaks[index] = peak_bytes
        if len(self._peaks) > LATEST:
            oldest = next(iter(self._peaks))
            del self._peaks[oldest]
            del self._indices[bisect_left(self._indices, oldest)]

    def expect(self, ranges: Iterable[Range]) -> int:
        """The highest known need of tasks in these ranges and next to them; 0 if nothing is known."""
        peak_bytes = 0
        for start, stop in ranges:
            first, last = bisect_left(self._indices, start), bisect_left(self._indices, stop)
            neighbours = self._indices[max(0, first - 1) : last + 1]
            peak_bytes = max(peak_bytes, *(self._peaks[index] for index in neighbours), 0)
            if neighbours and neighbours[-1] < start:
                peak_bytes = max(peak_bytes, self._extrapolate((stop - 1) // self._replicates))
        return peak_bytes

    def _extrapolate(self, number: int) -> int:
        """The need of a set beyond all known ones, rising like the last two; otherwise 0."""
        last, peak = self._set_before(len(self._indices))
        before, lower_peak = self._set_before(bisect_left(self._indices, last * self._replicates))
        if before < 0 or peak <= lower_peak or number == last:
            return 0
        steps = min(number - last, last - before)  # no further than was observed, because noise rises too
        return peak + (peak - lower_peak) * steps // (last - before)

    def _set_before(self, place: int) -> tuple[int, int]:
        """The set of the last known task before a position, and its highest peak; otherwise -1 and 0."""
        if not place:
            return -1, 0
        number = self._indices[place - 1] // self._replicates
        first = bisect_left(self._indices, number * self._replicates)
        return number, max(self._peaks[index] for index in self._indices[first:place])
