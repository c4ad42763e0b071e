"""Trials of arms, counted: what every arm of the experiment needs.

lanes of an arm -> Trial -> lab -> its Tally; cold's first result of a task is the reference of all

Does not choose what runs: experiment.py does.
"""

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from statistics import median

from modelops_dask.bundle import Bundle
from modelops_dask.diagnose import confidence
from modelops_dask.diagnose.arms import NAMES, named
from modelops_dask.diagnose.compare import Seen
from modelops_dask.diagnose.lab import Lab, Ran
from modelops_dask.diagnose.lane import Trial
from modelops_dask.diagnose.result import Observation
from modelops_dask.diagnose.sample import orders
from modelops_dask.diagnose.tally import Tally
from modelops_dask.diagnose.verdict import Fact
from modelops_dask.settings import Settings
from modelops_dask.study.plan import Plan, PlannedTask

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
        lab: Lab,
        plan: Plan,
        bundle: Bundle,
        settings: Settings,
        tasks: list[PlannedTask],
        *,
        seed: int = 0,
        native_threads: int = 0,
        runners: int = 1,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        """native_threads of a task, runners that share a worker process's memory: as batches have them."""
        self.lab, self.plan, self.bundle, self.settings = lab, plan, bundle, settings
        self.tasks, self.seed, self.native_threads, self.runners = tasks, seed, native_threads, runners
        self.say = say
        self.cold_seconds = 1.0  # of one task in a new process, its start included
        self.reference: dict[int, Seen] = {}
        self.tallies = {name: Tally(named(name)) for name in NAMES}
        self.fresh: dict[int, Seen] = {}  # the first result of a task in an environment of its own
        self.fresh_again = Tally(named("fresh-venv"))  # further ones, compared with the first
        self.alone_again = Tally(named("cold"))  # where files were removed: compared among them
        self.observations: list[Observation] = []
        self._trials = 0

    # Running

    def trial(self, name: str, lanes: Sequence[Order], seconds: float, hang_seconds: float = 0.0) -> Ran:
        """Run lanes of an arm and count what differs. cold adds what the reference lacks."""
        trial, ran = self._run(name, lanes, seconds, hang_seconds)
        self.tallies[name].add(trial, ran, self.reference, not self.lab.left(), learns=name == "cold")
        return ran

    def fresh_trial(self, tasks: Sequence[int], seconds: float) -> None:
        """A new environment for each of these tasks: compared with the reference, and with one another."""
        trial, ran = self._run("fresh-venv", [tuple(tasks)], seconds)
        late = not self.lab.left()
        self.tallies["fresh-venv"].add(trial, ran, self.reference, late)
        self.fresh_again.add(trial, ran, self.fresh, late, learns=True)

    def alone_trial(self, tasks: Sequence[int], seconds: float) -> None:
        """cold, with what tasks left in files removed before each: several times, compared among them."""
        trial, ran = self._run("cold", [tuple(tasks) * AGAIN], seconds, clears=True)
        self.alone_again.add(trial, ran, {}, not self.lab.left(), learns=True)

    def cold_again(self, tasks: Sequence[int]) -> None:
        """The reference once more, for a few tasks."""
        self.trial("cold", [tuple(tasks[:FEW]) * AGAIN], 0.1 * self.lab.left())

    def until_sure(self, name: str, again: Callable[[Order], object]) -> None:
        """While an arm's differences may be chance: the reference, and the arm, once more. again(order of a
        lane that differed).
        """
        tally = self.tallies[name]
        for _ in range(ROUNDS):
            if not tally.differing or self.sure(name) >= SURE or self.tallies["cold"].differing:
                return
            self.say(f"{name}: {tally.differing} of {tally.compared} results differ; once more")
            self.cold_again(tally.suspects)
            again(tally.sick_lanes[-1])

    def _run(
        self,
        name: str,
        lanes: Sequence[Order],
        seconds: float,
        hang_seconds: float = 0.0,
        clears: bool = False,
    ) -> tuple[Trial, Ran]:
        arm = named(name)
        hang = hang_seconds or self.hang_seconds
        settings = arm.settings(self.settings)
        limit = min(hang, settings.task_timeout_seconds or hang)
        trial = Trial(
            replace(settings, task_timeout_seconds=max(1, round(limit))),
            self.bundle,
            self.plan.entrypoint,
            tuple((task.params, task.seed) for task in self.tasks),
            tuple(lanes),
            min(seconds, self.lab.left()),
            BUSY_SECONDS + self.cold_seconds,
            {task: one.key for task, one in self.reference.items()},
            arm.threads,
            clears,
            1 if name == "native-threads" else self.native_threads,
            self.runners,
            int(1.25 * max((one.peak_bytes for one in self.reference.values()), default=0)),
        )
        pace = median(one.seconds for one in self.reference.values()) if self.reference else 0.0
        if trial.in_process:  # where nothing else ends a task
            seconds = min(seconds, 10 * (self.cold_seconds + pace * sum(map(len, lanes))))
        ran = self.lab.run(trial, seconds + hang)
        self._observe(name, ran)
        return trial, ran

    def _observe(self, name: str, ran: Ran) -> None:
        self._trials += 1
        positions: Counter[int] = Counter()
        for one in ran.seen:
            task = self.tasks[one.task]
            self.observations.append(
                Observation(
                    name,
                    self._trials,
                    one.lane,
                    positions[one.lane],
                    f"{task.set}/{task.replicate}",
                    task.seed,
                    one.status,
                    one.reason,
                    one.error,
                    one.seconds,
                    one.peak_bytes,
                    {output: digest.hex() for output, digest in one.digests.items()},
                )
            )
            positions[one.lane] += 1

    def leave_out(self, numbers: Collection[int]) -> None:
        """Go on without these tasks; the others are numbered anew."""
        kept = [number for number in range(len(self.tasks)) if number not in numbers]
        self.tasks = [self.tasks[number] for number in kept]
        known = {new: self.reference.get(old) for new, old in enumerate(kept)}
        self.reference = {new: one._replace(task=new) for new, one in known.items() if one}

    # Lanes

    def lanes(self, name: str, seconds: float, passes: int = 0) -> list[Order]:
        """The same tasks in every lane of an arm, each in an order of its own, again and again."""
        count = named(name).lanes
        passes = passes or self.passes(seconds)
        return [order * passes for order in orders(len(self.tasks), 2 + count, self.seed)[2:]]

    def passes(self, seconds: float) -> int:
        """How often a lane goes over the tasks: twice, or as long as it is useful and there is time."""
        pace = len(self.tasks) * median(one.seconds for one in self.reference.values())
        useful = min(seconds, BUSY_SECONDS)
        return max(2, min(MOST_PASSES, int(useful / max(pace, 1e-6))))

    @property
    def limit_bytes(self) -> int:
        """Memory that one task may have; 0: not limited."""
        return max((one.limit_bytes for one in self.reference.values()), default=0)

    @property
    def hang_seconds(self) -> float:
        """After which a task is taken to hang."""
        slowest = max((one.seconds for one in self.reference.values()), default=0.0)
        return max(HANG_SECONDS, HANG_TIMES * slowest)

    # Judging

    def sure(self, name: str) -> float:
        """Confidence that an arm differs from what it is compared with, over all tasks or over those that
        differed, whichever tells more.
        """
        tally = self.tallies[name]
        if name == "cold":
            return confidence.MOST if tally.differing else 0.0
        others = [self.tallies[other] for other in CONTROLS.get(name, ())]
        controls = [self.tallies["cold"], *(other for other in others if not other.differing)]

        def among(tasks: Sequence[int]) -> float:
            return confidence.of_difference(
                tally.differing,
                sum(tally.by_task[task] for task in tasks),
                sum(one.differing_by_task[task] for one in controls for task in tasks),
                sum(one.by_task[task] for one in controls for task in tasks),
            )

        return max(among(range(len(self.tasks))), among(tally.suspects))

    def fact(self, name: str) -> Fact:
        """Whether an arm differs; None when it cannot be judged, or too little of it was run."""
        tally = self.tallies[name]
        if tally.why or not tally.compared:
            return None
        if tally.differing:
            return True if self.sure(name) >= SURE_ENOUGH else None
        enough = 1 if name == "fresh-venv" else len(self.tasks) // 2
        return False if tally.compared >= enough else None
