"""Trials of arms, counted: the common part of all arms of the experiment.

lanes of an arm -> Trial -> TrialWorkers -> its Tally; cold's first result of a task is the reference of all

experiment.py decides what to run.
"""

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
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
from modelops_dask.store.replicates import MANY_SETS, SOME_SEEDS

SURE, SURE_ENOUGH = 0.99, 0.9  # confidence at which repeating ends, and below which no difference is reported
DEAR_SHARE = 0.02  # share of the budget: if a start takes more, only decisive trials are run
ROUNDS = 5  # share for repeating doubtful results
FEW = 4  # doubtful tasks that are run again
AGAIN = 5  # times that the reference runs each of them, in each round
BUSY_SECONDS = 1.5  # seconds that fast tasks keep a lane busy: races and leaks need some
MOST_PASSES = 40
HANG_SECONDS, HANG_TIMES = 15.0, 30  # a task that takes longer, and this many times as long as alone, hangs
# What an arm's differences are compared with besides the reference: arms that share less, if they are the
# same.
CONTROLS = {
    "baseline": ("single-process",),
    "isolated-fork": ("single-process",),
    "direct": ("single-process",),
    "threads": ("single-process", "direct"),
}

REUSING = ("single-process", "baseline")  # arms whose processes run more than one task

Order = tuple[int, ...]


class Runs:
    """The trials of one experiment. `tallies` by arm; `reference` by number of the task in `tasks`.

    `core` are the numbers of those tasks that all arms run; one process in two orders runs more of them.
    """

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
        is_deterministic: bool = False,
        volatile: tuple[str, ...] = (),
        say: Callable[[str], object] = lambda _: None,
    ) -> None:
        """Prepare the trials.

        Args:
            native_threads: Of a task, as batches have them.
            runners: The number that share a worker process's memory.
            is_deterministic: The study states that the seed does not matter.
            volatile: Outputs not to compare.
        """
        self.is_deterministic, self.volatile = is_deterministic, volatile
        self.workers, self.plan, self.bundle, self.settings = workers, plan, bundle, settings
        self.tasks, self.seed, self.native_threads, self.runners = tasks, seed, native_threads, runners
        self.core = tuple(range(len(tasks)))
        self.say = say
        self.cold_seconds = 1.0  # of one task in a new process, including its start
        self.start_seconds = 0.0  # of that, before the task starts
        self.reference: dict[int, TaskRun] = {}
        self.left_out: set[int] = set()  # tasks that do not end
        self.tallies = {name: Tally(find_arm(name)) for name in NAMES}
        self.ordered: dict[int, TaskRun] = {}  # the first result of a task in the first of two orders
        self.order_tally = Tally(find_arm("single-process"))  # further ones, compared with the first
        self._order_trials: list[tuple[Trial, TrialResult]] = []
        self.fresh: dict[int, TaskRun] = {}  # the first result of a task in its own environment
        self.fresh_tally = Tally(find_arm("fresh-venv"))  # further ones, compared with the first
        self.alone_tally = Tally(find_arm("cold"))  # with files removed: compared among them
        self.observations: list[Observation] = []
        self._trials = 0

    # Running

    def run_trial(
        self, name: str, lanes: Sequence[Order], seconds: float, hang_seconds: float = 0.0
    ) -> TrialResult:
        """Run lanes of an arm and count differences. cold adds missing results to the reference."""
        is_cold = name == "cold"
        expected = self.reference if is_cold else self.expected
        trial, result = self._run_lanes(name, lanes, seconds, hang_seconds, expected=expected)
        self.tallies[name].add(trial, result, expected, not self.workers.remaining_seconds(), learns=is_cold)
        return result

    def run_order(self, order: Order, seconds: float, hang_seconds: float) -> TrialResult:
        """Run tasks in one process: compared with those of an earlier order, and with the reference after
        count_orders().
        """
        trial, result = self._run_lanes(
            "single-process", [order], seconds, hang_seconds, expected=self.ordered
        )
        late = not self.workers.remaining_seconds()
        self.order_tally.add(trial, result, self.ordered, late, learns=True)
        self._order_trials.append((trial, result))
        return result

    def count_orders(self) -> None:
        """Count the completed orders as runs of single-process."""
        late = not self.workers.remaining_seconds()
        while self._order_trials:
            self.tallies["single-process"].add(*self._order_trials.pop(0), self.reference, late)

    def run_fresh_trial(self, tasks: Sequence[int], seconds: float) -> None:
        """Run each of these tasks in a new environment: compared with the reference, and with each other."""
        trial, result = self._run_lanes("fresh-venv", [tuple(tasks)], seconds)
        late = not self.workers.remaining_seconds()
        self.tallies["fresh-venv"].add(trial, result, self.reference, late)
        self.fresh_tally.add(trial, result, self.fresh, late, learns=True)

    def run_alone_trial(self, tasks: Sequence[int], seconds: float) -> None:
        """Run cold, with files left by tasks removed before each: several times, compared among them."""
        trial, result = self._run_lanes("cold", [tuple(tasks) * AGAIN], seconds, clears=True)
        self.alone_tally.add(trial, result, {}, not self.workers.remaining_seconds(), learns=True)

    def repeat_cold(self, tasks: Sequence[int]) -> None:
        """Run the reference again, for a few tasks."""
        self.run_trial("cold", [tuple(tasks[:FEW]) * AGAIN], 0.1 * self.workers.remaining_seconds())

    def repeat_until_sure(self, name: str, repeat: Callable[[Order], object]) -> None:
        """While an arm's differences may be random: run the reference and the arm again.

        repeat(order) runs the arm; the order is that of a lane that differed.
        """
        tally = self.tallies[name]
        sure = SURE_ENOUGH if self.is_start_dear else SURE
        for _ in range(ROUNDS):
            if not tally.n_differing or self.confidence_of(name) >= sure or self.tallies["cold"].n_differing:
                return
            self.say(f"{name}: {tally.n_differing} of {tally.n_compared} results differ; repeating")
            self.repeat_cold(tally.suspects)
            repeat(tally.differing_lanes[-1])

    def _run_lanes(
        self,
        name: str,
        lanes: Sequence[Order],
        seconds: float,
        hang_seconds: float = 0.0,
        *,
        expected: Mapping[int, TaskRun] | None = None,
        clears: bool = False,
    ) -> tuple[Trial, TrialResult]:
        """Run lanes; `seconds` are those of tasks, without the start of a process.

        Differing outputs are returned, and those of tasks that differ from `expected` (default: the
        reference).
        """
        seconds += self.start_seconds
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
            expected={
                task: task_run.key
                for task, task_run in (self.reference if expected is None else expected).items()
            },
            threads=arm.threads,
            clears=clears,
            volatile=self.volatile,
            native_threads=1 if name == "native-threads" else self.native_threads,
            runners=self.runners,
            needed_bytes=int(1.25 * peak_bytes),
        )
        pace = median(task_run.seconds for task_run in self.reference.values()) if self.reference else 0.0
        if trial.in_process:  # if nothing else ends a task
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
        """Continue without these tasks, as if they had not been run."""
        self.core = tuple(number for number in self.core if number not in numbers)
        self.left_out |= set(numbers)
        for number in numbers:
            self.reference.pop(number, None)
            self.ordered.pop(number, None)

    # Lanes

    def make_lanes(
        self, name: str, seconds: float, passes: int = 0, numbers: Sequence[int] | None = None
    ) -> list[Order]:
        """The same tasks in every lane of an arm, each in its own order, repeatedly."""
        count, numbers = find_arm(name).lanes, self.core if numbers is None else numbers
        passes = passes or self.count_passes(seconds)
        return [order * passes for order in make_orders(numbers, 2 + count, self.seed)[2:]]

    def list_replicates(self) -> Order:
        """Tasks of the first sets that the reference lacks, to have enough seeds in enough sets to judge the
        seed.
        """
        by_set: dict[int, list[int]] = {}
        for number, task in enumerate(self.tasks):
            by_set.setdefault(task.set, []).append(number)
        several = [numbers[:SOME_SEEDS] for numbers in by_set.values() if len(numbers) > 1][:MANY_SETS]
        return tuple(number for numbers in several for number in numbers if number not in self.reference)

    def count_passes(self, seconds: float) -> int:
        """How often a lane runs the core: twice, or as long as it is useful and there is time."""
        pace = len(self.core) * median(task_run.seconds for task_run in self.reference.values())
        useful = min(seconds, BUSY_SECONDS)
        return max(2, min(MOST_PASSES, int(useful / max(pace, 1e-6))))

    @property
    def expected(self) -> dict[int, TaskRun]:
        """What arms are compared with: the reference or, if it lacks a task, its result in two orders that
        agree.
        """
        if self.order_tally.n_differing:  # agreeing results may both be wrong
            return self.reference
        agreed = self.order_tally.by_task.keys() & self.ordered.keys()
        return {task: self.ordered[task] for task in agreed} | self.reference

    @property
    def is_start_dear(self) -> bool:
        """Whether the start of a process takes much of the budget."""
        return self.start_seconds > DEAR_SHARE * self.workers.budget_seconds

    def list_reused(self) -> set[int]:
        """Tasks whose result after other tasks of the same process was compared."""
        ordered = set(self.order_tally.by_task) if self.order_tally.reusing_tasks else set()
        return ordered | self.tallies["single-process"].reusing_tasks

    @property
    def limit_bytes(self) -> int:
        """The memory limit of one task; 0: not limited."""
        return max((task_run.limit_bytes for task_run in self.reference.values()), default=0)

    @property
    def hang_seconds(self) -> float:
        """Seconds after which a task counts as hanging."""
        slowest = max((task_run.seconds for task_run in self.reference.values()), default=0.0)
        return max(HANG_SECONDS, HANG_TIMES * slowest)

    # Judging

    def confidence_of(self, name: str) -> float:
        """Confidence that an arm differs from its control, over all tasks or over those that differed,
        whichever is higher.
        """
        tally = self.tallies[name]
        if name == "cold":
            return confidence.MOST if tally.n_differing else 0.0
        others = [self.tallies[other] for other in CONTROLS.get(name, ())]
        if name == "baseline":
            others.append(self.order_tally)
        controls = [self.tallies["cold"], *(other for other in others if not other.n_differing)]

        def among(tasks: Sequence[int]) -> float:
            return confidence.of_difference(
                tally.n_differing,
                sum(tally.by_task[task] for task in tasks),
                sum(control.differing_by_task[task] for control in controls for task in tasks),
                sum(control.by_task[task] for control in controls for task in tasks),
            )

        in_orders = 0.0
        if name == "single-process" and tally.n_differing:
            orders, cold = self.order_tally, self.tallies["cold"]
            in_orders = confidence.of_difference(orders.n_differing, orders.n_compared, 0, cold.n_compared)
        return max(among(list(tally.by_task)), among(tally.suspects), in_orders)

    def judge_arm(self, name: str) -> Fact:
        """Whether an arm differs; None if it cannot be judged, or too little of it was run."""
        tally = self.tallies[name]
        if tally.skip_reason or not tally.n_compared:
            return None
        if name in REUSING and not (tally.reusing_tasks or tally.n_differing):
            return None
        if name == "single-process" and self.order_tally.n_differing > tally.n_differing == 0:
            return None  # two orders differ, but no run of them differs from the reference
        if tally.n_differing:
            return True if self.confidence_of(name) >= SURE_ENOUGH else None
        enough = 1 if name == "fresh-venv" else len(self.core) // 2
        return False if tally.n_compared >= enough else None
