"""Batches that ran when their worker died: was it one of their tasks or the worker's host?

    a lost worker -> its running batches, in pieces -> each piece alone on a worker
                                                       -> died again: the task is found
                                                       -> all ok: the host is blamed

Workers and Dask are not known here: dispatch.py sends the pieces and reports how they ended.
"""

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass

from modelops_dask.study.backlog import halve
from modelops_dask.study.batch import Range

BLAMED_TO_AVOID = 3  # losses for which no task was found


@dataclass
class Loss:
    """One death of a worker. `open` pieces of its batches have not ended ok yet; 0: only the host remains."""

    host: str
    open: int = 0


@dataclass(frozen=True)
class Suspect:
    """Tasks to be run alone on a worker."""

    ranges: tuple[Range, ...]
    loss: Loss


class Suspects:
    """Suspects in the order in which they are to be tried."""

    def __init__(self) -> None:
        self._waiting: deque[Suspect] = deque()
        self._blamed: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._waiting)

    def take(self) -> Suspect:
        return self._waiting.popleft()

    def give_back(self, suspect: Suspect) -> None:
        """Return a suspect that was sent but never started."""
        self._waiting.appendleft(suspect)

    def add(self, host: str, batches: Sequence[tuple[Range, ...]]) -> None:
        """Add batches that were running when a worker on that host died: they are tried in halves, down to a
        task.
        """
        loss = Loss(host)
        for ranges in batches:
            pieces = halve(ranges) if sum(stop - start for start, stop in ranges) > 1 else (ranges,)
            loss.open += len(pieces)
            self._waiting.extend(Suspect(piece, loss) for piece in pieces)

    def acquit(self, suspect: Suspect) -> bool:
        """Record that a suspect did not kill its worker. Returns whether to avoid its host from now on."""
        loss = suspect.loss
        loss.open -= 1
        if loss.open:
            return False
        self._blamed[loss.host] += 1
        return self._blamed[loss.host] == BLAMED_TO_AVOID

    def find_avoided(self, hosts: set[str]) -> set[str]:
        """Return the hosts whose workers died too often; none if that is all of them."""
        bad = {host for host in hosts if self._blamed[host] >= BLAMED_TO_AVOID}
        return bad if bad != hosts else set()
