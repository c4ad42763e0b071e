"""Whether memory grows with the number of tasks that a process has run, and after how many to replace it.

    resident bytes after each task -> slope with its confidence interval -> maxProcessReuse

Does not measure: probe.py does.
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Growth:
    """Bytes that a task leaves behind: the slope, and its 99% confidence interval [low, high].

    `leaks`: the interval and the course say that memory goes on growing; a cache that filled, garbage that
    waits for collection and an allocator's noise do not.
    """

    slope_bytes: float
    low_bytes: float
    high_bytes: float
    leaks: bool
    base_bytes: int  # resident once warm, before anything leaked


def fit(resident_bytes: Sequence[int]) -> Growth | None:
    """The growth of one process's resident memory after each of its tasks; None: too few to tell (< 8).

    Tell apart surely takes 40 tasks or more; tasks may repeat.
    """
    raise NotImplementedError


def max_process_reuse(growth: Growth, limit_bytes: int, peak_bytes: int) -> int:
    """Tasks after which a process must be replaced to stay below limit_bytes; at least 1.

    peak_bytes is what a task needs at its height above what it leaves. Reckoned with the upper end of the
    interval, and a tenth of the limit kept free.
    """
    raise NotImplementedError
