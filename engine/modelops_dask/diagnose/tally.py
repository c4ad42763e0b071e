"""What the trials of one arm came to: how many results are not those of the reference, and which first.

Ran, the reference's results -> Tally -> counts, an example, the tasks that ran before it

A difference that is want of memory is counted apart: it says nothing of shared state. Does not judge.
"""

from collections import Counter
from dataclasses import dataclass, field

from modelops_dask.diagnose.arms import Arm
from modelops_dask.diagnose.compare import TIMEOUT, Seen
from modelops_dask.diagnose.lab import Ran
from modelops_dask.diagnose.lane import Trial

Sequence = tuple[int, ...]


@dataclass
class Tally:
    """Of one arm. `by_task` and `differing_by_task` count comparisons, `lacking` those where one of the two
    ended for want of memory; `workers_lost` under a task are among those that differ. `first` is the
    difference with the fewest tasks before it: those, and it.
    """

    arm: Arm
    tasks: int = 0
    lanes: int = 0
    lanes_compared: int = 0
    lanes_differing: int = 0
    lacking: int = 0
    workers_lost: int = 0
    seconds: float = 0.0
    peak_bytes: int = 0
    by_task: Counter = field(default_factory=Counter)
    differing_by_task: Counter = field(default_factory=Counter)
    first: tuple[Sequence, Seen] | None = None
    sick_lanes: list[Sequence] = field(default_factory=list)
    why: str = ""  # it was not run, or cannot be judged

    @property
    def compared(self) -> int:
        return self.by_task.total()

    @property
    def differing(self) -> int:
        return self.differing_by_task.total()

    @property
    def suspects(self) -> list[int]:
        """Tasks that differed, the most often first."""
        return [task for task, _ in self.differing_by_task.most_common()]

    def add(
        self, trial: Trial, ran: Ran, reference: dict[int, Seen], deadline_came: bool, learns: bool = False
    ) -> None:
        """Count a trial. A task that the reference does not have is not compared, and if it learns, has from
        then on.
        """
        self.seconds += ran.seconds
        ended = _ended(trial, ran, deadline_came)
        self.workers_lost += len(ended)
        seen = [*ran.seen, *ended]
        self.tasks += len(seen)
        self.peak_bytes = max([self.peak_bytes, *(one.peak_bytes for one in seen)])
        for number, lane in enumerate(trial.lanes):
            before: list[int] = []
            mine = [one for one in seen if one.lane == number]
            differing, compared = self.differing, self.compared
            for one in mine:
                if expected := reference.get(one.task):
                    self._compare(expected, one, before)
                elif learns:
                    reference[one.task] = one
                before = [] if one.status == "died" else [*before, one.task]
            self.lanes += bool(mine)
            self.lanes_compared += self.compared > compared
            self.lanes_differing += self.differing > differing
            if self.differing > differing:
                self.sick_lanes.append(lane)

    def _compare(self, expected: Seen, found: Seen, before: list[int]) -> None:
        differs = expected.key != found.key
        if differs and (expected.lacked_memory or found.lacked_memory):
            self.lacking += 1
            return
        self.by_task[found.task] += 1
        if differs:
            self.differing_by_task[found.task] += 1
            if self.first is None or len(before) < len(self.first[0]):
                self.first = tuple(before), found


def _ended(trial: Trial, ran: Ran, deadline_came: bool) -> list[Seen]:
    """What the end of the worker says of the task that it was at: only where the model ran in it."""
    if ran.ended == "done" or deadline_came or not trial.in_process:
        return []
    lane = next(
        (n for n, lane in enumerate(trial.lanes) if sum(one.lane == n for one in ran.seen) < len(lane)), None
    )
    if lane is None:
        return []
    at = trial.lanes[lane][sum(one.lane == lane for one in ran.seen)]
    if ran.ended == "late":
        return [Seen(lane, at, "died", TIMEOUT, "the task did not end")]
    return [Seen(lane, at, "died", "worker ended", "the Dask worker's process ended")]
