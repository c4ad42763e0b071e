"""The results of the trials of one arm: how many differ from the reference, and which first.

TrialResult, the reference's results -> Tally -> counts, an example, the tasks that ran before it

Differences caused by a lack of memory are counted separately, because they do not show shared state. Nothing
is judged here.
"""

from collections import Counter
from dataclasses import dataclass, field

from modelops_dask.diagnose.trials.arms import Arm
from modelops_dask.diagnose.trials.trial import Trial
from modelops_dask.diagnose.trials.workers import TrialResult
from modelops_dask.diagnose.verdict.comparison import TIMEOUT, TaskRun

TaskOrder = tuple[int, ...]


@dataclass
class Tally:
    """The counts of one arm.

    Attributes:
        by_task: Comparisons of each task.
        differing_by_task: Those that differ, including tasks whose worker was lost.
        out_of_memory: Comparisons in which one of the two ended for lack of memory.
        reusing_tasks: Tasks compared after other tasks of the same process.
        first: The difference with the fewest tasks before it: those tasks, and the run that differs.
    """

    arm: Arm
    n_tasks: int = 0
    n_lanes: int = 0
    n_lanes_compared: int = 0
    n_lanes_differing: int = 0
    n_out_of_memory: int = 0
    n_workers_lost: int = 0
    seconds: float = 0.0
    peak_bytes: int = 0
    by_task: Counter[int] = field(default_factory=Counter)
    differing_by_task: Counter[int] = field(default_factory=Counter)
    reusing_tasks: set[int] = field(default_factory=set)
    first: tuple[TaskOrder, TaskRun] | None = None
    differing_lanes: list[TaskOrder] = field(default_factory=list)
    skip_reason: str = ""  # it was not run, or cannot be judged

    @property
    def n_compared(self) -> int:
        return self.by_task.total()

    @property
    def n_differing(self) -> int:
        return self.differing_by_task.total()

    @property
    def suspects(self) -> list[int]:
        """Tasks that differed, the most frequent first."""
        return [task for task, _ in self.differing_by_task.most_common()]

    def add(
        self,
        trial: Trial,
        result: TrialResult,
        reference: dict[int, TaskRun],
        deadline_came: bool,
        learns: bool = False,
    ) -> None:
        """Count a trial. A task that the reference lacks is not compared; with learns, it is added to it."""
        self.seconds += result.seconds
        lost_runs = _infer_lost_run(trial, result, deadline_came)
        self.n_workers_lost += len(lost_runs)
        task_runs = [*result.task_runs, *lost_runs]
        self.n_tasks += len(task_runs)
        self.peak_bytes = max([self.peak_bytes, *(task_run.peak_bytes for task_run in task_runs)])
        for number, lane in enumerate(trial.lanes):
            before: list[int] = []
            lane_runs = [task_run for task_run in task_runs if task_run.lane == number]
            differing, compared = self.n_differing, self.n_compared
            for task_run in lane_runs:
                if expected := reference.get(task_run.task):
                    self._compare(expected, task_run, before)
                elif learns:
                    reference[task_run.task] = task_run
                before = [] if task_run.status == "died" else [*before, task_run.task]
            self.n_lanes += bool(lane_runs)
            self.n_lanes_compared += self.n_compared > compared
            self.n_lanes_differing += self.n_differing > differing
            if self.n_differing > differing:
                self.differing_lanes.append(lane)

    def _compare(self, expected: TaskRun, task_run: TaskRun, before: list[int]) -> None:
        differs = expected.key != task_run.key
        if differs and (expected.was_out_of_memory or task_run.was_out_of_memory):
            self.n_out_of_memory += 1
            return
        self.by_task[task_run.task] += 1
        if before:
            self.reusing_tasks.add(task_run.task)
        if differs:
            self.differing_by_task[task_run.task] += 1
            if self.first is None or len(before) < len(self.first[0]):
                self.first = tuple(before), task_run


def _infer_lost_run(trial: Trial, result: TrialResult, deadline_came: bool) -> list[TaskRun]:
    """The run of the task that a worker was running when it ended; only if the model ran in its own
    process.
    """
    if result.ending == "done" or deadline_came or not trial.in_process:
        return []
    n_ended = Counter(task_run.lane for task_run in result.task_runs)
    for number, lane in enumerate(trial.lanes):
        if n_ended[number] < len(lane):
            late = result.ending == "late"
            lost_run = TaskRun(
                lane=number,
                task=lane[n_ended[number]],
                status="died",
                reason=TIMEOUT if late else "worker ended",
                error="the task did not end" if late else "the Dask worker's process ended",
            )
            return [lost_run]
    return []
