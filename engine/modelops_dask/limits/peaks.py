"""How much memory a task should need, from what those before it needed.

a task's kind, its peak -> Peaks.learn(); Peaks.expected() -> bytes

A kind is a bundle and an entrypoint. Where nothing is known yet, limited.py grants a full share.
"""

import math
import threading
from collections import deque
from collections.abc import Hashable

LATEST = 100  # tasks of a kind that are remembered: a study may sweep from small to large
ENOUGH_FOR = 0.95  # of them


class Peaks:
    """Remembers peaks of memory by kind of task. May be used by several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seen: dict[Hashable, deque[int]] = {}
        self._expected: dict[Hashable, int] = {}

    def expected(self, kind: Hashable) -> int:
        """Bytes that are enough for nearly all of the latest tasks of a kind; 0 if not known."""
        return self._expected.get(kind, 0)

    def learn(self, kind: Hashable, peak_bytes: int) -> None:
        """Take over the peak of a task that ended by itself."""
        with self._lock:
            seen = self._seen.setdefault(kind, deque(maxlen=LATEST))
            seen.append(peak_bytes)
            self._expected[kind] = sorted(seen)[math.ceil(ENOUGH_FOR * len(seen)) - 1]
