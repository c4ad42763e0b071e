"""Trials of arms, counted: what every arm of the experiment needs.

lanes of an arm -> Trial -> TrialWorkers -> its Tally; cold's first result of a task is the reference of all

Does not choose what runs: experiment.py does.
"""

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from statistics import median

from modelops_dask.bundle import Bundle
from modelops_dask.diagnose.result import Observation
from modelops_dask.diagnose.trials.arms import NAMES, find_arm
from modelops_dask.diagnose.trials.sample import make_orders
from modelops_dask.diagnose.trials.trial import Trial
from modelops_dask.diagnose.trials.workers import TrialResult, TrialWorkers
from modelops_dask.diagnose.verdict import confidence
from modelops_dask.diagnose.verdict.comparison import TaskRun
from modelops_dask.diagnose.verdict.tally import Tally
from modelops_dask.diagnose.verdict.verdict import Fact
from modelops_dask.plan.plan import Plan, PlannedTask
from modelops_dask.settings import Settings

SURE, SURE_ENOUGH = 0.99, 0.9  # confidence at which repeating ends, and below which nothing is called
ROUNDS = 5  # of repeating what is in doubt
FEW = 4  # tasks of those in doubt, that are run anew
AGAIN = 5  # times that the reference runs each of them, in each round
BUSY_SECONDS = 1.5  # that quick tasks keep a lane busy: races and leaks need some
MOST_PASSES = 40
HANG_SECONDS, HANG_TIMES = 15.0, 30  # a task that takes longer, and so many times as long as alone, hangs
# What an arm's differences are counted against besides the reference: arms that share less, when they are
# the same.
CONTROLS = {
    "baseline": ("single-process",),
    "isolated-fork": ("single-process",),
    "direct": ("single-process",),
    "threads": ("single-process", "direct"),
}

Order = tuple[int, ...]


class Runs:
    """The trials of one experiment. `tallies` by arm; `reference` by number of the task in `tasks`."""

    def __init__(
        self,
        workers: TrialWorkers,
        plan: Plan,
        bundle: Bundle,
        settings: Settings,
        tasks: list[PlannedTask],
        *,
        seed: int = 0,
        native_threads: int = 0,
        runners: int = 1,
        say: Callable[[str], object] = lambda _: None,
    ) -> None:
        """native_threads of a task, runners that share a worker process's memory: as batches have them."""
        self.workers, self.plan, self.bundle, self.settings = workers, plan, bundle, settings
        self.tasks, self.seed, self.native_threads, self.runners = tasks, seed, native_threads, runners
        self.say = say
        self.cold_seconds = 1.0  # of one task in a new process, its start included
        self.reference: dict[int, TaskRun] = {}
        self.tallies = {name: Tally(find_arm(name)) for name in NAMES}
        self.fresh: dict[int, TaskRun] = {}  # the first result of a task in an environment of its own
        self.fresh_tally = Tally(find_arm("fresh-venv"))  # further ones, compared with the first
        self.alone_tally = Tally(find_arm("cold"))  # where files were removed: compared among them
        self.observations: list[Observation] = []
        self._trials = 0

    # Running

    def run_trial(
        self, name: str, lanes: Sequence[Order], seconds: float, hang_seconds: float = 0.0
    ) -> TrialResult:
        """Run lanes of an arm and count what differs. cold adds what the reference lacks."""
        trial, result = self._run_lanes(name, lanes, seconds, hang_seconds)
        self.tallies[name].add(
            trial, result, self.reference, not self.workers.remaining_seconds(), learns=name == "cold"
        )
        return result

    def run_fresh_trial(self, tasks: Sequence[int], seconds: float) -> None:
        """A new environment for each of these tasks: compared with the reference, and with one another."""
        trial, result = self._run_lanes("fresh-venv", [tuple(tasks)], seconds)
        late = not self.workers.remaining_seconds()
        self.tallies["fresh-venv"].add(trial, result, self.reference, late)
        self.fresh_tally.add(trial, result, self.fresh, late, learns=True)

    def run_alone_trial(self, tasks: Sequence[int], seconds: float) -> None:
        """cold, with what tasks left in files removed before each: several times, compared among them."""
        trial, result = self._run_lanes("cold", [tuple(tasks) * AGAIN], seconds, clears=True)
        self.alone_tally.add(trial, result, {}, not self.workers.remaining_seconds(), learns=True)

    def repeat_cold(self, tasks: Sequence[int]) -> None:
        """The reference once more, for a few tasks."""
        self.run_trial("cold", [tuple(tasks[:FEW]) * AGAIN], 0.1 * self.workers.remaining_seconds())

    def repeat_until_sure(self, name: str, repeat: Callable[[Order], object]) -> None:
        """While an arm's differences may be chance: run the reference and the arm once more.

        repeat(order) runs the arm; the order is that of a lane that differed.
        """
        tally = self.tallies[name]
        for _ in range(ROUNDS):
            if not tally.n_differing or self.confidence_of(name) >= SURE or self.tallies["cold"].n_differing:
                return
            self.say(f"{name}: {tally.n_differing} of {tally.n_compared} results differ; once more")
            self.repeat_cold(tally.suspects)
            repeat(tally.differing_lanes[-1])

    def _run_lanes(
        self,
        name: str,
        lanes: Sequence[Order],
        seconds: float,
        hang_seconds: float = 0.0,
        clears: bool = False,
    ) -> tuple[Trial, TrialResult]:
        arm = find_arm(name)
        hang = hang_seconds or self.hang_seconds
        settings = arm.isolate_settings(self.settings)
        limit = min(hang, settings.task_timeout_seconds or hang)
        peak_bytes = max((task_run.peak_bytes for task_run in self.reference.values()), default=0)
        trial = Trial(
            settings=replace(settings, task_timeout_seconds=max(1, round(limit))),
            bundle=self.bundle,
            entrypoint=self.plan.entrypoint,
            tasks=tuple((task.params, task.seed) for task in self.tasks),
            lanes=tuple(lanes),
            seconds=min(seconds, self.workers.remaining_seconds()),
            busy_seconds=BUSY_SECONDS + self.cold_seconds,
            expected={task: task_run.key for task, task_run in self.reference.items()},
            threads=arm.threads,
            clears=clears,
            native_threads=1 if name == "native-threads" else self.native_threads,
            runners=self.runners,
            needed_bytes=int(1.25 * peak_bytes),
        )
        pace = median(task_run.seconds for task_run in self.reference.values()) if self.reference else 0.0
        if trial.in_process:  # where nothing else ends a task
            seconds = min(seconds, 10 * (self.cold_seconds + pace * sum(map(len, lanes))))
        result = self.workers.run(trial, seconds + hang)
        self._observe(name, result)
        return trial, result

    def _observe(self, name: str, result: TrialResult) -> None:
        self._trials += 1
        positions: Counter[int] = Counter()
        for task_run in result.task_runs:
            task = self.tasks[task_run.task]
            self.observations.append(
                Observation(
                    arm=name,
                    trial=self._trials,
                    lane=task_run.lane,
                    position=positions[task_run.lane],
                    task=f"{task.set}/{task.replicate}",
                    seed=task.seed,
                    status=task_run.status,
                    reason=task_run.reason,
                    error=task_run.error,
                    seconds=task_run.seconds,
                    peak_bytes=task_run.peak_bytes,
                    outputs={output: digest.hex() for output, digest in task_run.digests.items()},
                )
            )
            positions[task_run.lane] += 1

    def leave_out(self, numbers: Collection[int]) -> None:
        """Go on without these tasks; the others are numbered anew."""
        remaining = [number for number in range(len(self.tasks)) if number not in numbers]
        self.tasks = [self.tasks[number] for number in remaining]
        task_runs = {new: self.reference.get(old) for new, old in enumerate(remaining)}
        self.reference = {new: task_run._replace(task=new) for new, task_run in task_runs.items() if task_run}

    # Lanes

    def make_lanes(self, name: str, seconds: float, passes: int = 0) -> list[Order]:
        """The same tasks in every lane of an arm, each in an order of its own, again and again."""
        count = find_arm(name).lanes
        passes = passes or self.count_passes(seconds)
        return [order * passes for order in make_orders(len(self.tasks), 2 + count, self.seed)[2:]]

    def count_passes(self, seconds: float) -> int:
        """How often a lane goes over the tasks: twice, or as long as it is useful and there is time."""
        pace = len(self.tasks) * median(task_run.seconds for task_run in self.reference.values())
        useful = min(seconds, BUSY_SECONDS)
        return max(2, min(MOST_PASSES, int(useful / max(pace, 1e-6))))

    @property
    def limit_bytes(self) -> int:
        """Memory that one task may have; 0: not limited."""
        return max((task_run.limit_bytes for task_run in self.reference.values()), default=0)

    @property
    def hang_seconds(self) -> float:
        """After which a task is taken to hang."""
        slowest = max((task_run.seconds for task_run in self.reference.values()), default=0.0)
        return max(HANG_SECONDS, HANG_TIMES * slowest)

    # Judging

    def confidence_of(self, name: str) -> float:
        """Confidence that an arm differs from what it is compared with, over all tasks or over those that
        differed, whichever tells more.
        """
        tally = self.tallies[name]
        if name == "cold":
            return confidence.MOST if tally.n_differing else 0.0
        others = [self.tallies[other] for other in CONTROLS.get(name, ())]
        controls = [self.tallies["cold"], *(other for other in others if not other.n_differing)]

        def among(tasks: Sequence[int]) -> float:
            return confidence.of_difference(
                tally.n_differing,
                sum(tally.by_task[task] for task in tasks),
                sum(control.differing_by_task[task] for control in controls for task in tasks),
                sum(control.by_task[task] for control in controls for task in tasks),
            )

        return max(among(range(len(self.tasks))), among(tally.suspects))

    def judge_arm(self, name: str) -> Fact:
        """Whether an arm differs; None when it cannot be judged, or too little of it was run."""
        tally = self.tallies[name]
        if tally.skip_reason or not tally.n_compared:
            return None
        if tally.n_differing:
            return True if self.confidence_of(name) >= SURE_ENOUGH else None
        enough = 1 if name == "fresh-venv" else len(self.tasks) // 2
        return False if tally.n_compared >= enough else None
