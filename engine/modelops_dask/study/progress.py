"""The progress of a run: a phase and plain numbers, to be displayed.

drive.py -> Phase, dispatch.py -> Progress -> a Watcher -> a bar, lines or JSON (mops_helm.study.progress)
"""

from collections import deque
from dataclasses import dataclass, replace
from typing import Literal

# Workers start; a worker builds the model's environment; the first tasks show how long one takes; all others;
# a few of them run again, alone; tables are written.
Phase = Literal["workers", "environment", "canary", "running", "checking", "compacting"]
RECENT_SECONDS = 30


@dataclass(frozen=True)
class Progress:
    """Tasks of the whole study by state, and the work of this run. Seconds are this run's."""

    total: int
    ok: int
    failed: int
    poisoned: int
    ended_here: int  # tasks that reached ok, failed or poisoned in this run
    seconds: float
    workers: int
    peak_bytes: int
    not_ok: int = 0  # attempts of this run that did not end ok, including those that are tried again
    recent_rate: float | None = None  # recent tasks per second; 0 if not known yet
    empty: tuple[tuple[str, int], ...] = ()  # empty outputs of ok tasks in this run, by name
    returned: tuple[str, ...] = ()  # names of outputs, for a study that stores only some of them
    written_files: tuple[str, ...] = ()  # a few files, of the bundle or new, that tasks wrote
    shared_files: tuple[str, ...] = ()  # files that they wrote through links: their batches ran again
    # Why new interpreters ran tasks instead of forks; how many; seconds that each took besides the model's
    # own.
    fallbacks: tuple[tuple[str, int, float], ...] = ()

    @property
    def done(self) -> int:
        return self.ok + self.failed + self.poisoned

    @property
    def rate(self) -> float:
        """Tasks per second: the recent rate if known, otherwise that of this run."""
        if self.recent_rate is not None:
            return self.recent_rate
        return self.ended_here / self.seconds if self.seconds > 0 else 0.0

    @property
    def eta_seconds(self) -> float | None:
        """Seconds to the end at this rate; None if unknown."""
        return (self.total - self.done) / self.rate if self.rate else None


class Meter:
    """Adds `recent_rate` to each Progress of a run: tasks ended since the oldest of the last half minute.

    The first is ignored: before it workers imported the model.
    """

    def __init__(self) -> None:
        self._seen: deque[Progress] = deque()

    def __call__(self, progress: Progress) -> Progress:
        while len(self._seen) > 1 and progress.seconds - self._seen[0].seconds > RECENT_SECONDS:
            self._seen.popleft()
        oldest = self._seen[0] if self._seen else progress
        self._seen.append(progress)
        seconds = progress.seconds - oldest.seconds
        return replace(
            progress, recent_rate=(progress.ended_here - oldest.ended_here) / seconds if seconds > 0 else 0.0
        )
