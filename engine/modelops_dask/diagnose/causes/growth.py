"""Whether memory grows with the number of tasks that a process has run, and when to replace it.

    resident bytes after each task -> means of blocks -> steps between blocks -> Growth -> maxProcessReuse

Blocks are used instead of single tasks, because an allocator's noise persists from task to task, so that a
line fitted through all of them would seem far more certain than it is. Between blocks it is nearly
independent. Measurements are made in probe.py, with ProbeRequest.memory.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, stdev

WARM_UP = 0.2  # share of the tasks: a model imports and compiles in its first ones
FEWEST = 24  # tasks, including the warm-up
BLOCKS = 8
T_99 = 3.707  # Student's t for 99%, two-sided, with BLOCKS - 2 = 6 degrees of freedom
# Less growth than this, in total or per task, does not matter: an allocator's noise reaches 1 MiB.
LEAST_BYTES, LEAST_SLOPE_BYTES = 2 << 20, 1 << 10
FREE = 0.1  # of a process's limit


@dataclass(frozen=True)
class Growth:
    """Bytes that a task leaves behind: the slope, and its 99% confidence interval [low, high].

    `leaks`: the interval and the course show that memory continues to grow; a filled cache, garbage that
    waits for collection and an allocator's noise do not.
    """

    slope_bytes: float
    low_bytes: float
    high_bytes: float
    leaks: bool
    base_bytes: int  # resident bytes once warm, before any leak


def fit(resident_bytes: Sequence[int]) -> Growth | None:
    """The growth of one process's resident memory after each of its tasks; None: fewer than FEWEST.

    A leak must show from block to block: the interval of the mean growth is above zero, the last two blocks
    still grew half as much as the mean, and the growth is large enough to matter.
    """
    if len(resident_bytes) < FEWEST:
        return None
    warm = list(resident_bytes[math.ceil(WARM_UP * len(resident_bytes)) :])
    size = len(warm) / BLOCKS
    edges = [round(number * size) for number in range(BLOCKS + 1)]
    means = [fmean(warm[start:end]) for start, end in pairwise(edges)]
    steps = [(later - earlier) / size for earlier, later in pairwise(means)]
    slope = fmean(steps)
    margin = T_99 * stdev(steps) / math.sqrt(len(steps))
    leaks = (
        slope - margin > 0
        and min(steps[-2:]) >= slope / 2
        and slope >= LEAST_SLOPE_BYTES
        and slope * len(warm) >= LEAST_BYTES
    )
    return Growth(slope, slope - margin, slope + margin, leaks, int(means[0]))


def compute_max_process_reuse(growth: Growth, limit_bytes: int, peak_bytes: int = 0) -> int:
    """Tasks after which a process must be replaced to stay below limit_bytes; at least 1.

    peak_bytes is the peak of a process of a single task, 0 if not known. It is computed with the upper end of
    the interval, and with a tenth of the limit kept free.
    """
    room_bytes = (1 - FREE) * limit_bytes - max(growth.base_bytes, peak_bytes)
    return max(1, int(room_bytes / max(1.0, growth.high_bytes)))
