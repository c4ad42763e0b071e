"""When to give up: a run that only loses workers is stopped, with what was seen.

deaths and completions -> Breaker -> Stopped (exit 4)

Counts the deaths of workers that ran one task alone, and batches that broke although their worker lived, in a
row without one completed task between. Deaths of larger batches are not counted: each halves, so they lead to
lone ones.
"""

from modelops_dask.errors import Stopped

BROKEN_IN_A_ROW = 3
DEATHS_IN_A_ROW = 10  # five tasks that kill, at the end of a study when nothing else is left


class Breaker:
    """Raises Stopped; forgets all when a task completes."""

    def __init__(self) -> None:
        self._deaths = 0
        self._broken = 0

    def completed(self) -> None:
        self._deaths = self._broken = 0

    def died(self, task_name: str, workers: int) -> None:
        """A worker died of one task (SET/REPLICATE). A node may take all its workers along, so their number
        counts.
        """
        self._deaths += 1
        limit = max(DEATHS_IN_A_ROW, 2 * workers)
        if self._deaths >= limit:
            raise Stopped(
                f"Stopped: {self._deaths} worker processes died, one after another, each running a single "
                f"task, and no task completed between. The last was task {task_name}.\n"
                "Either the model kills its process or a worker has too little memory for one task: try "
                "fewer processes, or more memory per process (mops-helm preset show memory-heavy)."
            )

    def broke(self, error: BaseException) -> None:
        """A batch could not be run or stored."""
        self._broken += 1
        if self._broken >= BROKEN_IN_A_ROW:
            raise Stopped(
                f"Stopped: {self._broken} batches in a row could not be run or stored. "
                f"The last: {type(error).__name__}: {error}"
            ) from error
