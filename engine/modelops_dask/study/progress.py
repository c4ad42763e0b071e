"""How far a run is: plain numbers, for whoever shows them.

dispatch.py -> Progress -> on_progress(...) -> a bar, lines, or nothing (mops_helm.render_study)
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """Tasks of the whole study by state, and what this run did. Seconds are this run's."""

    total: int
    ok: int
    failed: int
    poisoned: int
    ended_here: int  # tasks that reached ok, failed or poisoned in this run
    seconds: float
    workers: int
    peak_bytes: int

    @property
    def done(self) -> int:
        return self.ok + self.failed + self.poisoned

    @property
    def rate(self) -> float:
        """Tasks a second in this run."""
        return self.ended_here / self.seconds if self.seconds > 0 else 0.0

    @property
    def eta_seconds(self) -> float | None:
        """Seconds to the end at this run's rate; None before the first task ended."""
        return (self.total - self.done) / self.rate if self.rate else None
