"""The experiment: the reference first, then one arm after another, until the causes are told apart.

tasks -> cold, twice -> the other arms, each compared with it; what is in doubt again -> facts

An arm runs only if it can still decide something, and for a share of the time that is left. Does not say what
facts mean (verdict.py), nor look for what is behind a cause (causes.py).
"""

from collections.abc import Sequence
from dataclasses import replace

from modelops_dask.diagnose import causes, confidence, errands
from modelops_dask.diagnose.arms import named
from modelops_dask.diagnose.compare import TIMEOUT
from modelops_dask.diagnose.growth import Growth
from modelops_dask.diagnose.lab import Lost, OutOfTime
from modelops_dask.diagnose.runs import FEW, ROUNDS, SURE_ENOUGH, Runs
from modelops_dask.diagnose.sample import LEAST, choose, orders
from modelops_dask.diagnose.tally import Tally
from modelops_dask.diagnose.verdict import Fact

# A task hangs that takes longer than this, and so many times as long as the first one.
FIRST_HANG_SECONDS, FIRST_HANG_TIMES = 30.0, 100
REFERENCE_SHARE = 0.25  # of the budget, that the reference may take


class Experiment:
    """Runs the arms `wanted`, in `repeats` orders where the order counts; facts() is what they say."""

    def __init__(self, runs: Runs, wanted: Sequence[str], repeats: int) -> None:
        self.runs, self._wanted, self.repeats = runs, wanted, max(2, repeats)
        self.lines: list[str] = []  # what a person should know besides
        self.growth: Growth | None = None
        self.too_big = False  # a task alone needs more memory than it may have
        self._failing = False
        self._foreign: tuple[str, ...] = ()  # packages of the bundle that the worker has not

    def run(self) -> None:
        """All that can be run until the deadline. Raises BadInput when no task of the bundle can be run."""
        cold = self.runs.tallies["cold"]
        arms = (
            self._environment,
            self._single,
            self._memory,
            self._baseline,
            self._cold_concurrent,
            self._fork,
            self._direct,
            self._threads,
            self._native,
        )
        try:
            self._prepare()
            self._reference()
            if self._failing:
                return self._skip("every task fails in a new process")
            for arm in arms:
                if cold.differing:
                    break
                arm()
            if cold.differing:
                self._told_apart()
                self._skip("the model differs from run to run, also in new processes")
        except OutOfTime:
            self.lines.append("The budget was used up before all was run.")
            self._skip("the budget was used up")

    def facts(self) -> dict[str, Fact]:
        """What is known so far, by the names of verdict.FACTS."""
        fact, tallies = self.runs.fact, self.runs.tallies
        cold, reuse, baseline = fact("cold"), fact("single-process"), fact("baseline")
        side = fact("cold-concurrent")
        if side is not True and reuse is not True and tallies["baseline"].compared:
            side = baseline if reuse is False or baseline is False else None
        lacking = self.too_big or any(tally.lacking for tally in tallies.values())
        memory = True if lacking else self.growth.leaks if self.growth else None

        def in_process(name: str) -> Fact:
            """A worker that ended while memory grows says nothing of what it shares."""
            lost = tallies[name].workers_lost
            return None if memory and lost and lost == tallies[name].differing else fact(name)

        threads = [in_process("threads"), fact("native-threads")]
        return {
            "failing": self._failing,
            "files": self._apart(self.runs.alone_again) is False if cold else False,
            "fresh": cold if self._one_environment else self._apart(self.runs.fresh_again),
            "cold": cold,
            "venv": False if self._one_environment else None if cold else fact("fresh-venv"),
            "reuse": reuse,
            "concurrency": side,
            "fork": fact("isolated-fork"),
            "direct": in_process("direct"),
            "threads": True if True in threads else threads[0],
            "memory": memory,
        }

    def _apart(self, again: Tally) -> Fact:
        """Whether runs that share less than those of cold differ. That they agree says something only when
        there are enough for as rare a difference as cold shows.
        """
        cold = self.runs.tallies["cold"]
        if again.differing:
            return True
        if not again.compared:
            return None
        rare = confidence.of_difference(cold.differing, cold.compared, 0, again.compared)
        return False if not cold.differing or rare >= SURE_ENOUGH else None

    @property
    def _one_environment(self) -> bool:
        return self.runs.settings.executor_environment == "image"

    def _skip(self, why: str) -> None:
        for tally in self.runs.tallies.values():
            if not tally.tasks and not tally.why:
                tally.why = why

    def _may(self, name: str, otherwise: str = "") -> bool:
        """Whether an arm is to be run; it says so, or why not."""
        tally = self.runs.tallies[name]
        tally.why = otherwise or ("" if name in self._wanted else "not asked for")
        if not tally.why:
            self.runs.say(f"{name}: {named(name).what}")
        return not tally.why

    # The arms

    def _prepare(self) -> None:
        runs = self.runs
        runs.say("building the bundle's environment")
        settings = named("cold").settings(runs.settings)
        try:
            self._foreign, listed = runs.lab.call(
                errands.prepare, runs.bundle, settings, limit_seconds=runs.lab.left()
            )
        except (TimeoutError, Lost):
            raise OutOfTime from None
        runs.bundle = replace(runs.bundle, packages=listed)

    def _reference(self) -> None:
        """cold, twice, backwards the second time; fewer tasks where they take long."""
        runs, most = self.runs, REFERENCE_SHARE * self.runs.lab.left()
        self._may("cold")
        first = runs.trial("cold", [(0,)], most, hang_seconds=most)
        if not first.seen or first.seen[0].reason == TIMEOUT:
            self.lines.append(
                f"The first task did not end within {most:.0f} seconds, a quarter of the budget. "
                "If it does not hang, raise --budget."
            )
            raise OutOfTime
        runs.cold_seconds = first.seconds
        fitting = max(LEAST, int(most / (2 * runs.cold_seconds)))
        if fitting < len(runs.tasks):
            runs.tasks = choose(runs.plan, fitting)
            runs.say(f"a task takes {runs.cold_seconds:.1f} s in a new process: {len(runs.tasks)} tasks")
        plan = tuple(range(len(runs.tasks)))
        hang_seconds = min(most, max(FIRST_HANG_SECONDS, FIRST_HANG_TIMES * first.seen[0].seconds))
        runs.trial("cold", [plan[1:]], runs.lab.left(), hang_seconds)
        if hanging := [number for number, one in runs.reference.items() if one.reason == TIMEOUT]:
            self.lines.append(
                f"{len(hanging)} of {len(plan)} tasks do not end within {hang_seconds:.0f} seconds, also "
                f"alone in a new process, and were left out; one is {causes.task_ref(runs, hanging[0]).task}."
            )
            runs.leave_out(hanging)
        runs.trial("cold", [tuple(range(len(runs.tasks)))[::-1]], runs.lab.left())
        seen = runs.reference.values()
        self.too_big = any(one.lacked_memory for one in seen)
        endings = {(one.status, one.reason) for one in seen}
        self._failing = len(endings) == 1 and ("ok", "") not in endings and not self.too_big

    def _environment(self) -> None:
        """fresh-venv, for a few tasks: environments are dear."""
        runs = self.runs
        one = "executor.environment is image: there is one environment" if self._one_environment else ""
        if self._may("fresh-venv", one):
            runs.fresh_trial(_few(len(runs.tasks)), 0.2 * runs.lab.left())
            if suspects := runs.tallies["fresh-venv"].suspects:
                runs.cold_again(suspects)
                runs.fresh_trial(suspects[:FEW], 0.2 * runs.lab.left())

    def _single(self) -> None:
        """single-process: each order in a process of its own, more than once."""
        if self._may("single-process"):
            runs = self.runs
            several = orders(len(runs.tasks), self.repeats, runs.seed)
            share = 0.4 * runs.lab.left() / len(several)
            for order in several:
                runs.trial("single-process", [order * runs.passes(share)], share)
            self._alone_until_sure("single-process", share)

    def _memory(self) -> None:
        """Not an arm: one process for long, its memory looked at after each task."""
        if "single-process" in self._wanted:
            self.runs.say("memory: one process, task after task")
            self.growth = causes.growth(self.runs)

    def _baseline(self) -> None:
        """A lane that differs alone, too, is single-process's."""
        if not self._may("baseline"):
            return
        runs, share = self.runs, 0.3 * self.runs.lab.left()
        lanes = runs.lanes("baseline", share)
        runs.trial("baseline", lanes, share)
        single = runs.tallies["single-process"]
        if single.compared and not single.differing:
            for sick in runs.tallies["baseline"].sick_lanes:
                runs.trial("single-process", [sick], share)
            self._alone_until_sure("single-process", share)
        if not single.differing:
            runs.until_sure("baseline", lambda _: runs.trial("baseline", lanes, share))

    def _cold_concurrent(self) -> None:
        runs = self.runs
        differs = any(runs.tallies[name].differing for name in ("single-process", "baseline"))
        if self._may("cold-concurrent", "" if differs else "nothing differs that it would explain"):
            lanes, share = runs.lanes("cold-concurrent", 0.0, passes=1), 0.3 * runs.lab.left()
            runs.trial("cold-concurrent", lanes, share)
            runs.until_sure("cold-concurrent", lambda _: runs.trial("cold-concurrent", lanes, share))

    def _fork(self) -> None:
        if self._may("isolated-fork"):
            runs, share = self.runs, 0.15 * self.runs.lab.left()
            for order in orders(len(runs.tasks), 2, runs.seed):
                runs.trial("isolated-fork", [order], share)
            self._alone_until_sure("isolated-fork", share)

    def _direct(self) -> None:
        runs, tally = self.runs, self.runs.tallies["direct"]
        known = "a process that is used again differs already" if runs.fact("single-process") else ""
        if not self._may("direct", known):
            return
        share = 0.15 * runs.lab.left()
        for order in orders(len(runs.tasks), 2, runs.seed):
            runs.trial("direct", [order * 2], share)
        if self._foreign and tally.differing:
            missing = ", ".join(self._foreign[:5]) + (", ..." if len(self._foreign) > 5 else "")
            tally.why = f"the worker's own environment lacks, or has otherwise: {missing}"
        self._alone_until_sure("direct", share)

    def _threads(self) -> None:
        runs, direct = self.runs, self.runs.tallies["direct"]
        same = runs.fact("direct") is False
        if self._may("threads", "" if same else direct.why or "direct is not known to be the same as cold"):
            share = 0.3 * runs.lab.left()
            lanes = runs.lanes("threads", share)
            runs.trial("threads", lanes, share)
            runs.until_sure("threads", lambda _: runs.trial("threads", lanes, share))

    def _native(self) -> None:
        runs, share = self.runs, 0.3 * self.runs.lab.left()
        one = "" if runs.native_threads > 1 else "the study's tasks have one thread of native code"
        if self._may("native-threads", one):
            runs.trial("native-threads", [tuple(range(len(runs.tasks)))], share)
            self._alone_until_sure("native-threads", share)

    def _alone_until_sure(self, name: str, share: float) -> None:
        self.runs.until_sure(name, lambda sick: self.runs.trial(name, [sick], share))

    def _told_apart(self) -> None:
        """cold differs from itself: for files that tasks leave, for its environment, or is it the model?"""
        runs = self.runs
        suspects = runs.tallies["cold"].suspects[:FEW]
        runs.say("cold: once more, with the files that tasks leave removed before each")
        runs.alone_trial(suspects, 0.2 * runs.lab.left())
        if self._apart(runs.alone_again) is False:
            return
        if not self._one_environment and self._may("fresh-venv"):
            for _ in range(ROUNDS):
                runs.fresh_trial(suspects, 0.2 * runs.lab.left())
                if self._apart(runs.fresh_again) is not None:
                    return


def _few(count: int) -> list[int]:
    """Numbers of a few of `count` tasks, the first and the last among them."""
    wanted = min(count, FEW)
    return sorted({round(at * (count - 1) / max(1, wanted - 1)) for at in range(wanted)})
