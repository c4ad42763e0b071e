"""Find the earlier tasks that change a later one's result: the smallest sequence, by delta debugging.

    tasks before the victim, fails(sequence, victim) -> the shortest subsequence that still makes it fail

The most likely single tasks are tried first, then halves, quarters and so on are kept or left out: ddmin of
Zeller and Hildebrandt, "Simplifying and Isolating Failure-Inducing Input" (2002). `fails` runs the tasks,
each time in a new process.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Generic, TypeVar

T = TypeVar("T")
Fails = Callable[[Sequence[T], T], bool]
MOST_CALLS = 100
LIKELY = 4  # single tasks that are tried first


@dataclass(frozen=True)
class Polluter(Generic[T]):
    """The shortest known sequence after which the victim fails.

    `minimal`: none of its tasks can be left out (otherwise time ended the search first). The victim failed
    `failed` times of `tried` after this sequence: fewer than all means that the failure is random.
    """

    tasks: tuple[T, ...]
    minimal: bool
    failed: int
    tried: int
    calls: int  # calls of `fails`, in total


def find(
    before: Sequence[T],
    victim: T,
    fails: Fails[T],
    *,
    deadline: float,
    most_calls: int = MOST_CALLS,
    repeats: int = 3,
) -> Polluter[T] | None:
    """The smallest subsequence of `before`, in its order, after which fails(subsequence, victim).

    deadline is of time.monotonic(), and no call starts after it; `fails` must itself obey it. A sequence that
    does not fail is tried `repeats` times if failures are intermittent. None: the victim fails after nothing
    at all, or not in `repeats` tries after the whole of `before`.
    """
    search = _Search(before, victim, fails, deadline=deadline, most_calls=most_calls, repeats=repeats)
    everything = tuple(range(len(before)))
    try:
        if not before or search.fails(()):
            return None
        if not (search.fails(everything) or search.fails(everything, sure=True)):
            return None
    except _SearchEnded:
        return None
    search.best = everything
    minimal = True
    try:
        _reduce(search, everything)
        search.confirm()
    except _SearchEnded:
        minimal = search.is_minimal()
    failed, tried = search.counts[search.best]
    return Polluter(
        tasks=tuple(before[position] for position in search.best),
        minimal=minimal,
        failed=failed,
        tried=tried,
        calls=search.calls,
    )


def _reduce(search: "_Search[T]", everything: tuple[int, ...]) -> None:
    """Make search.best as short as possible."""
    last = everything[-1]
    likely = dict.fromkeys((last, 0, last // 2, last - 1))
    for position in [position for position in likely if position in everything][:LIKELY]:
        if len(everything) > 1 and search.fails((position,)):
            return
    parts = 2
    while len(best := search.best) > 1:
        parts = min(parts, len(best))
        edges = [len(best) * number // parts for number in range(parts + 1)]
        chunks = [best[start:end] for start, end in pairwise(edges)]
        if any(search.fails(chunk) for chunk in reversed(chunks)):
            parts = 2
        elif parts > 2 and any(search.fails(_without(best, chunk)) for chunk in chunks):
            parts = max(parts - 1, 2)
        elif parts == len(best):
            return
        else:
            parts *= 2


def _without(best: tuple[int, ...], chunk: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(position for position in best if position not in chunk)


class _SearchEnded(Exception):
    """No time, or no calls, are left."""


class _Search(Generic[T]):
    """Calls `fails` for positions in `tasks`, and remembers how often it failed."""

    def __init__(
        self,
        tasks: Sequence[T],
        victim: T,
        fails: Fails[T],
        *,
        deadline: float,
        most_calls: int,
        repeats: int,
    ) -> None:
        self.best: tuple[int, ...] = ()
        self.calls = 0
        self.counts: dict[tuple[int, ...], tuple[int, int]] = {}  # (failed, tried)
        self._tasks, self._victim, self._fails, self._deadline = tasks, victim, fails, deadline
        self._most_calls, self._repeats = most_calls, repeats

    def fails(self, positions: tuple[int, ...], sure: bool = False) -> bool:
        """Whether the victim fails after these; then they become the best if they are fewer.

        It is tried several times with `sure`, and if failures are intermittent.
        """
        n_tries = self._repeats if sure or self._comes_and_goes() else 1
        while self.counts.get(positions, (0, 0))[0] == 0 and self.counts.get(positions, (0, 0))[1] < n_tries:
            self._run(positions)
        if not self.counts[positions][0]:
            return False
        if len(positions) < len(self.best):
            self.best = positions
        return True

    def confirm(self) -> None:
        """Try the best again, to determine how often it fails."""
        while self.counts[self.best][1] < self._repeats:
            self._run(self.best)

    def is_minimal(self) -> bool:
        """Whether leaving out any single task was tried, and did not fail."""
        return len(self.best) == 1 or all(
            self.counts.get(_without(self.best, (position,)), (1, 0))[0] == 0 for position in self.best
        )

    def _run(self, positions: tuple[int, ...]) -> None:
        if self.calls >= self._most_calls or time.monotonic() >= self._deadline:
            raise _SearchEnded
        self.calls += 1
        failed = self._fails([self._tasks[position] for position in positions], self._victim)
        n_failed, n_tried = self.counts.get(positions, (0, 0))
        self.counts[positions] = n_failed + failed, n_tried + 1

    def _comes_and_goes(self) -> bool:
        return any(0 < failed < tried for failed, tried in self.counts.values())
