"""The experiment: the reference first, then one arm after another, until the causes are told apart.

tasks -> cold, twice -> the other arms, each compared with it; what is in doubt again -> facts

An arm runs only if it can still decide something, and for a share of the time that is left. Does not say what
facts mean (verdict.py), nor look for what is behind a cause (causes.py).
"""

from collections.abc import Sequence
from dataclasses import replace

from modelops_dask.diagnose.causes import causes
from modelops_dask.diagnose.causes.growth import Growth
from modelops_dask.diagnose.trials import worker_calls
from modelops_dask.diagnose.trials.arms import find_arm
from modelops_dask.diagnose.trials.runs import FEW, ROUNDS, SURE_ENOUGH, Runs
from modelops_dask.diagnose.trials.sample import LEAST, choose_tasks, make_orders
from modelops_dask.diagnose.trials.workers import OutOfTime, WorkerLost
from modelops_dask.diagnose.verdict import confidence
from modelops_dask.diagnose.verdict.comparison import TIMEOUT
from modelops_dask.diagnose.verdict.tally import Tally
from modelops_dask.diagnose.verdict.verdict import Fact

# A task hangs that takes longer than this, and so many times as long as the first one.
FIRST_HANG_SECONDS, FIRST_HANG_TIMES = 30.0, 100
REFERENCE_SHARE = 0.25  # of the budget, that the reference may take


class Experiment:
    """Runs the arms of these names, in `repeats` orders where the order counts; facts() tells the outcome."""

    def __init__(self, runs: Runs, arm_names: Sequence[str], repeats: int) -> None:
        self.runs, self._arm_names, self.repeats = runs, arm_names, max(2, repeats)
        self.lines: list[str] = []  # what a person should know besides
        self.growth: Growth | None = None
        self.too_big = False  # a task alone needs more memory than it may have
        self._failing = False
        self._missing_packages: tuple[str, ...] = ()  # packages of the bundle that the worker lacks

    def run(self) -> None:
        """All that can be run until the deadline. Raises BadInput when no task of the bundle can be run."""
        cold = self.runs.tallies["cold"]
        arms = (
            self._run_fresh_venv,
            self._run_single_process,
            self._measure_memory,
            self._run_baseline,
            self._run_cold_concurrent,
            self._run_isolated_fork,
            self._run_direct,
            self._run_threads,
            self._run_native_threads,
        )
        try:
            self._prepare()
            self._run_reference()
            if self._failing:
                return self._skip("every task fails in a new process")
            for arm in arms:
                if cold.n_differing:
                    break
                arm()
            if cold.n_differing:
                self._tell_apart()
                self._skip("the model differs from run to run, also in new processes")
        except OutOfTime:
            self.lines.append("The budget was used up before all was run.")
            self._skip("the budget was used up")

    def collect_facts(self) -> dict[str, Fact]:
        """What is known so far, by the names of verdict.FACTS."""
        fact, tallies = self.runs.judge_arm, self.runs.tallies
        cold, reuse, baseline = fact("cold"), fact("single-process"), fact("baseline")
        side = fact("cold-concurrent")
        if side is not True and reuse is not True and tallies["baseline"].n_compared:
            side = baseline if reuse is False or baseline is False else None
        out_of_memory = self.too_big or any(tally.n_out_of_memory for tally in tallies.values())
        memory = True if out_of_memory else self.growth.leaks if self.growth else None

        def in_process(name: str) -> Fact:
            """A worker that ended while memory grows says nothing of what it shares."""
            lost = tallies[name].n_workers_lost
            return None if memory and lost and lost == tallies[name].n_differing else fact(name)

        threads = [in_process("threads"), fact("native-threads")]
        return {
            "failing": self._failing,
            "files": self._judge_unshared(self.runs.alone_tally) is False if cold else False,
            "fresh": cold if self._has_one_environment else self._judge_unshared(self.runs.fresh_tally),
            "cold": cold,
            "venv": False if self._has_one_environment else None if cold else fact("fresh-venv"),
            "reuse": reuse,
            "concurrency": side,
            "fork": fact("isolated-fork"),
            "direct": in_process("direct"),
            "threads": True if True in threads else threads[0],
            "memory": memory,
        }

    def _judge_unshared(self, tally: Tally) -> Fact:
        """Whether runs that share less than those of cold differ.

        That they agree counts only when there are enough runs for as rare a difference as cold shows.
        """
        cold = self.runs.tallies["cold"]
        if tally.n_differing:
            return True
        if not tally.n_compared:
            return None
        rare = confidence.of_difference(cold.n_differing, cold.n_compared, 0, tally.n_compared)
        return False if not cold.n_differing or rare >= SURE_ENOUGH else None

    @property
    def _has_one_environment(self) -> bool:
        return self.runs.settings.executor_environment == "image"

    def _skip(self, reason: str) -> None:
        for tally in self.runs.tallies.values():
            if not tally.n_tasks and not tally.skip_reason:
                tally.skip_reason = reason

    def _begin_arm(self, name: str, skip_reason: str = "") -> bool:
        """Whether an arm is to be run. Announces it, or notes the reason why not."""
        tally = self.runs.tallies[name]
        tally.skip_reason = skip_reason or ("" if name in self._arm_names else "not asked for")
        if not tally.skip_reason:
            self.runs.say(f"{name}: {find_arm(name).description}")
        return not tally.skip_reason

    # The arms

    def _prepare(self) -> None:
        runs = self.runs
        runs.say("building the bundle's environment")
        settings = find_arm("cold").isolate_settings(runs.settings)
        try:
            self._missing_packages, pinned_packages = runs.workers.call(
                worker_calls.prepare, runs.bundle, settings, limit_seconds=runs.workers.remaining_seconds()
            )
        except (TimeoutError, WorkerLost):
            raise OutOfTime from None
        runs.bundle = replace(runs.bundle, packages=pinned_packages)

    def _run_reference(self) -> None:
        """cold, twice, backwards the second time; fewer tasks where they take long."""
        runs, most = self.runs, REFERENCE_SHARE * self.runs.workers.remaining_seconds()
        self._begin_arm("cold")
        first = runs.run_trial("cold", [(0,)], most, hang_seconds=most)
        if not first.task_runs or first.task_runs[0].reason == TIMEOUT:
            self.lines.append(
                f"The first task did not end within {most:.0f} seconds, a quarter of the budget. "
                "If it does not hang, raise --budget."
            )
            raise OutOfTime
        runs.cold_seconds = first.seconds
        fitting = max(LEAST, int(most / (2 * runs.cold_seconds)))
        if fitting < len(runs.tasks):
            runs.tasks = choose_tasks(runs.plan, fitting)
            runs.say(f"a task takes {runs.cold_seconds:.1f} s in a new process: {len(runs.tasks)} tasks")
        plan = tuple(range(len(runs.tasks)))
        hang_seconds = min(most, max(FIRST_HANG_SECONDS, FIRST_HANG_TIMES * first.task_runs[0].seconds))
        runs.run_trial("cold", [plan[1:]], runs.workers.remaining_seconds(), hang_seconds)
        if hanging := [number for number, task_run in runs.reference.items() if task_run.reason == TIMEOUT]:
            task = causes.make_task_ref(runs, hanging[0]).task
            self.lines.append(
                f"{len(hanging)} of {len(plan)} tasks do not end within {hang_seconds:.0f} seconds, also "
                f"alone in a new process, and were left out; one is {task}."
            )
            runs.leave_out(hanging)
        runs.run_trial("cold", [tuple(range(len(runs.tasks)))[::-1]], runs.workers.remaining_seconds())
        task_runs = runs.reference.values()
        self.too_big = any(task_run.was_out_of_memory for task_run in task_runs)
        endings = {(task_run.status, task_run.reason) for task_run in task_runs}
        self._failing = len(endings) == 1 and ("ok", "") not in endings and not self.too_big

    def _run_fresh_venv(self) -> None:
        """fresh-venv, for a few tasks: environments are dear."""
        runs = self.runs
        skip_reason = "executor.environment is image: there is one environment"
        if self._begin_arm("fresh-venv", skip_reason if self._has_one_environment else ""):
            runs.run_fresh_trial(_select_few(len(runs.tasks)), 0.2 * runs.workers.remaining_seconds())
            if suspects := runs.tallies["fresh-venv"].suspects:
                runs.repeat_cold(suspects)
                runs.run_fresh_trial(suspects[:FEW], 0.2 * runs.workers.remaining_seconds())

    def _run_single_process(self) -> None:
        """single-process: each order in a process of its own, more than once."""
        if self._begin_arm("single-process"):
            runs = self.runs
            orders = make_orders(len(runs.tasks), self.repeats, runs.seed)
            share = 0.4 * runs.workers.remaining_seconds() / len(orders)
            for order in orders:
                runs.run_trial("single-process", [order * runs.count_passes(share)], share)
            self._run_lane_until_sure("single-process", share)

    def _measure_memory(self) -> None:
        """Not an arm: one process for long, its memory looked at after each task."""
        if "single-process" in self._arm_names:
            self.runs.say("memory: one process, task after task")
            self.growth = causes.measure_growth(self.runs)

    def _run_baseline(self) -> None:
        """A lane that differs alone, too, is single-process's."""
        if not self._begin_arm("baseline"):
            return
        runs, share = self.runs, 0.3 * self.runs.workers.remaining_seconds()
        lanes = runs.make_lanes("baseline", share)
        runs.run_trial("baseline", lanes, share)
        single = runs.tallies["single-process"]
        if single.n_compared and not single.n_differing:
            for lane in runs.tallies["baseline"].differing_lanes:
                runs.run_trial("single-process", [lane], share)
            self._run_lane_until_sure("single-process", share)
        if not single.n_differing:
            runs.repeat_until_sure("baseline", lambda _: runs.run_trial("baseline", lanes, share))

    def _run_cold_concurrent(self) -> None:
        runs = self.runs
        differs = any(runs.tallies[name].n_differing for name in ("single-process", "baseline"))
        if self._begin_arm("cold-concurrent", "" if differs else "nothing differs that it would explain"):
            lanes = runs.make_lanes("cold-concurrent", 0.0, passes=1)
            share = 0.3 * runs.workers.remaining_seconds()
            runs.run_trial("cold-concurrent", lanes, share)
            runs.repeat_until_sure(
                "cold-concurrent", lambda _: runs.run_trial("cold-concurrent", lanes, share)
            )

    def _run_isolated_fork(self) -> None:
        if self._begin_arm("isolated-fork"):
            runs, share = self.runs, 0.15 * self.runs.workers.remaining_seconds()
            for order in make_orders(len(runs.tasks), 2, runs.seed):
                runs.run_trial("isolated-fork", [order], share)
            self._run_lane_until_sure("isolated-fork", share)

    def _run_direct(self) -> None:
        runs, tally = self.runs, self.runs.tallies["direct"]
        skip_reason = "a process that is used again differs already"
        if not self._begin_arm("direct", skip_reason if runs.judge_arm("single-process") else ""):
            return
        share = 0.15 * runs.workers.remaining_seconds()
        for order in make_orders(len(runs.tasks), 2, runs.seed):
            runs.run_trial("direct", [order * 2], share)
        if self._missing_packages and tally.n_differing:
            names = ", ".join(self._missing_packages[:5])
            ellipsis = ", ..." if len(self._missing_packages) > 5 else ""
            tally.skip_reason = f"the worker's own environment lacks, or has otherwise: {names}{ellipsis}"
        self._run_lane_until_sure("direct", share)

    def _run_threads(self) -> None:
        runs, direct = self.runs, self.runs.tallies["direct"]
        skip_reason = direct.skip_reason or "direct is not known to be the same as cold"
        if self._begin_arm("threads", "" if runs.judge_arm("direct") is False else skip_reason):
            share = 0.3 * runs.workers.remaining_seconds()
            lanes = runs.make_lanes("threads", share)
            runs.run_trial("threads", lanes, share)
            runs.repeat_until_sure("threads", lambda _: runs.run_trial("threads", lanes, share))

    def _run_native_threads(self) -> None:
        runs, share = self.runs, 0.3 * self.runs.workers.remaining_seconds()
        skip_reason = "" if runs.native_threads > 1 else "the study's tasks have one thread of native code"
        if self._begin_arm("native-threads", skip_reason):
            runs.run_trial("native-threads", [tuple(range(len(runs.tasks)))], share)
            self._run_lane_until_sure("native-threads", share)

    def _run_lane_until_sure(self, name: str, share: float) -> None:
        self.runs.repeat_until_sure(name, lambda lane: self.runs.run_trial(name, [lane], share))

    def _tell_apart(self) -> None:
        """cold differs from itself: for files that tasks leave, for its environment, or is it the model?"""
        runs = self.runs
        suspects = runs.tallies["cold"].suspects[:FEW]
        runs.say("cold: once more, with the files that tasks leave removed before each")
        runs.run_alone_trial(suspects, 0.2 * runs.workers.remaining_seconds())
        if self._judge_unshared(runs.alone_tally) is False:
            return
        if not self._has_one_environment and self._begin_arm("fresh-venv"):
            for _ in range(ROUNDS):
                runs.run_fresh_trial(suspects, 0.2 * runs.workers.remaining_seconds())
                if self._judge_unshared(runs.fresh_tally) is not None:
                    return


def _select_few(count: int) -> list[int]:
    """Numbers of a few of `count` tasks, the first and the last among them."""
    n_selected = min(count, FEW)
    return sorted({round(index * (count - 1) / max(1, n_selected - 1)) for index in range(n_selected)})
