"""The times at which attempts ended, counted immediately, without the pauses between runs.

(ended, seconds, ok) of attempts -> Timeline -> bins of active time

A study that was run on Monday and continued on Thursday is two spans of active time, not three empty days.
"""

from dataclasses import dataclass, field

import numpy as np

PAUSE_SECONDS = 60.0  # without a running attempt, after which the clock stops
MAX_KEYS = 100_000  # distinct times that are stored; beyond it they are stored ten times coarser
BINS = 120
WIDTHS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600)

Span = tuple[float, float]


@dataclass(frozen=True)
class Bins:
    """Attempts by active time: rates per second in each bin of `width` seconds from 0 on.

    `pauses` are (active time, length), in seconds.
    """

    width: float
    ok: np.ndarray
    not_ok: np.ndarray
    pauses: list[tuple[float, float]]


@dataclass
class Timeline:
    """Counts of (ok, not ok) by time, and the spans with running attempts."""

    resolution: float = 0.1  # seconds
    counts: dict[int, list[int]] = field(default_factory=dict)
    spans: list[Span] = field(default_factory=list)

    def add(self, ended: np.ndarray, seconds: np.ndarray, ok: np.ndarray) -> None:
        """Add attempts: when each ended (since the epoch), how long it took, whether it was ok."""
        keys, which = np.unique(np.floor(ended / self.resolution).astype(np.int64), return_inverse=True)
        good, all_ = np.bincount(which, ok, len(keys)), np.bincount(which, minlength=len(keys))
        self._count(keys, good.astype(int), all_ - good.astype(int))
        self.spans = _merge_spans([*self.spans, *_merge_intervals(ended - seconds, ended)])
        while len(self.counts) > MAX_KEYS:
            before, self.counts, self.resolution = self.counts, {}, self.resolution * 10
            old = np.array(list(before), np.int64)
            both = np.array(list(before.values()))
            self._count(old // 10, both[:, 0], both[:, 1])

    def _count(self, keys: np.ndarray, good: np.ndarray, bad: np.ndarray) -> None:
        for key, ok, not_ok in zip(keys.tolist(), good.tolist(), bad.tolist(), strict=True):
            both = self.counts.setdefault(key, [0, 0])
            both[0] += ok
            both[1] += not_ok

    @property
    def active_seconds(self) -> float:
        return sum(stop - start for start, stop in self.spans)

    def compute_bins(self) -> Bins:
        """Compute at most about BINS bins of a round width. There must be at least one attempt."""
        starts = np.array([start for start, _ in self.spans])
        lengths = np.array([stop - start for start, stop in self.spans])
        before = np.concatenate([[0.0], np.cumsum(lengths)])
        least = max(self.resolution, before[-1] / BINS)
        width = next((w for w in WIDTHS if w >= least), np.ceil(least / 3600) * 3600)
        times = (np.array(list(self.counts)) + 0.5) * self.resolution
        both = np.array(list(self.counts.values()))
        span = np.clip(np.searchsorted(starts, times, side="right") - 1, 0, None)
        active = before[span] + np.clip(times - starts[span], 0, lengths[span])
        bin_numbers = np.minimum(active // width, max(0, np.ceil(before[-1] / width) - 1)).astype(int)
        size = int(bin_numbers.max()) + 1
        pauses = [
            (float(before[i]), float(starts[i] - starts[i - 1] - lengths[i - 1]))
            for i in range(1, len(starts))
        ]
        ok, not_ok = (np.bincount(bin_numbers, both[:, side], size) / width for side in (0, 1))
        return Bins(float(width), ok, not_ok, pauses)


def _merge_intervals(starts: np.ndarray, stops: np.ndarray) -> list[Span]:
    """The union of intervals that overlap or are no more than a pause apart, in order."""
    order = np.argsort(starts)
    starts, reach = starts[order], np.maximum.accumulate(stops[order])
    breaks = np.flatnonzero(starts[1:] > reach[:-1] + PAUSE_SECONDS)
    first, last = np.r_[0, breaks + 1], np.r_[breaks, len(starts) - 1]
    return list(zip(starts[first].tolist(), reach[last].tolist(), strict=True))


def _merge_spans(spans: list[Span]) -> list[Span]:
    starts, stops = np.array(spans).T
    return _merge_intervals(starts, stops)
