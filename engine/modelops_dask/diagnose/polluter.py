"""Which earlier tasks change a later one's result: the smallest sequence, by delta debugging.

    tasks before the victim, fails(sequence, victim) -> the shortest subsequence that still makes it fail

The likely single tasks are tried first, then halves, quarters and so on are kept or left out: ddmin of Zeller
and Hildebrandt, "Simplifying and Isolating Failure-Inducing Input" (2002). Does not run tasks: `fails` does,
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
LIKELY = 4  # single tasks that are tried before all else


@dataclass(frozen=True)
class Polluter(Generic[T]):
    """The shortest sequence known after which the victim fails.

    `minimal`: none of its tasks can be left out (else time ended the search first). The victim failed
    `failed` times of `tried` after just this sequence: fewer than all means that chance plays a part.
    """

    tasks: tuple[T, ...]
    minimal: bool
    failed: int
    tried: int
    calls: int  # of `fails`, in all


def find(
    before: Sequence[T],
    victim: T,
    fails: Fails,
    *,
    deadline: float,
    most_calls: int = MOST_CALLS,
    repeats: int = 3,
) -> Polluter[T] | None:
    """The smallest subsequence of `before`, in its order, after which fails(subsequence, victim).

    deadline is of time.monotonic(), and no call is begun after it; `fails` must itself obey it. What does not
    fail is tried `repeats` times where failures were seen to come and go. None: the victim fails after
    nothing at all, or not in `repeats` tries after the whole of `before`.
    """
    search = _Search(victim, fails, deadline, most_calls, repeats)
    everything = tuple(range(len(before)))
    search.tasks = before
    try:
        if not before or search.fails(()):
            return None
        if not (search.fails(everything) or search.fails(everything, sure=True)):
            return None
    except _Ended:
        return None
    search.best = everything
    minimal = True
    try:
        _reduce(search, everything)
        search.confirm()
    except _Ended:
        minimal = search.is_minimal()
    failed, tried = search.seen[search.best]
    return Polluter(tuple(before[one] for one in search.best), minimal, failed, tried, search.calls)


def _reduce(search: "_Search", everything: tuple[int, ...]) -> None:
    """Make search.best as short as it gets."""
    last = everything[-1]
    likely = dict.fromkeys((last, 0, last // 2, last - 1))
    for one in [one for one in likely if one in everything][:LIKELY]:
        if len(everything) > 1 and search.fails((one,)):
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
    return tuple(one for one in best if one not in chunk)


class _Ended(Exception):
    """No time, or no calls, are left."""


class _Search:
    """Calls `fails` for positions in `before`, and remembers what it said."""

    def __init__(self, victim: T, fails: Fails, deadline: float, most_calls: int, repeats: int) -> None:
        self.tasks: Sequence[T] = ()
        self.best: tuple[int, ...] = ()
        self.calls = 0
        self.seen: dict[tuple[int, ...], tuple[int, int]] = {}  # (failed, tried)
        self._victim, self._fails, self._deadline = victim, fails, deadline
        self._most_calls, self._repeats = most_calls, repeats

    def fails(self, chosen: tuple[int, ...], sure: bool = False) -> bool:
        """Whether the victim fails after these; then they become the best if they are fewer. sure: by
        several tries, and so where failures come and go.
        """
        wanted = self._repeats if sure or self._comes_and_goes() else 1
        while self.seen.get(chosen, (0, 0))[0] == 0 and self.seen.get(chosen, (0, 0))[1] < wanted:
            self._try(chosen)
        if not self.seen[chosen][0]:
            return False
        if len(chosen) < len(self.best):
            self.best = chosen
        return True

    def confirm(self) -> None:
        """Try the best again, to tell how often it fails."""
        while self.seen[self.best][1] < self._repeats:
            self._try(self.best)

    def is_minimal(self) -> bool:
        """Whether leaving out any one task was tried, and did not fail."""
        return len(self.best) == 1 or all(
            self.seen.get(_without(self.best, (one,)), (1, 0))[0] == 0 for one in self.best
        )

    def _try(self, chosen: tuple[int, ...]) -> None:
        if self.calls >= self._most_calls or time.monotonic() >= self._deadline:
            raise _Ended
        self.calls += 1
        failed = self._fails([self.tasks[one] for one in chosen], self._victim)
        before, tried = self.seen.get(chosen, (0, 0))
        self.seen[chosen] = before + failed, tried + 1

    def _comes_and_goes(self) -> bool:
        return any(0 < failed < tried for failed, tried in self.seen.values())
