"""The experiment: two opposite orders, the reference, then one arm after another, until the causes are
distinguished.

    tasks -> one process in two orders -> cold, twice, for some -> the other arms, each compared with it;
    doubtful ones again; more tasks while they are too few -> facts

Two orders need no reference, and two starts of a process suffice for many tasks. An arm runs only if it can
still change the verdict, and for a share of the remaining time. Facts are interpreted in verdict.py, and
causes are searched in causes.py.
"""

from collections.abc import Sequence
from dataclasses import replace

from modelops_dask.diagnose.causes import causes
from modelops_dask.diagnose.causes.growth import Growth
from modelops_dask.diagnose.causes.surroundings import Surrounding
from modelops_dask.diagnose.trials import coverage, worker_calls
from modelops_dask.diagnose.trials.arms import find_arm
from modelops_dask.diagnose.trials.runs import FEW, REUSING, ROUNDS, SURE_ENOUGH, Runs
from modelops_dask.diagnose.trials.sample import LEAST, make_orders
from modelops_dask.diagnose.trials.workers import OutOfTime, WorkerLost
from modelops_dask.diagnose.verdict import confidence
from modelops_dask.diagnose.verdict.comparison import TIMEOUT
from modelops_dask.diagnose.verdict.seed_use import Part, SeedUse, compare_seeds, find_drawn_parts
from modelops_dask.diagnose.verdict.tally import Tally
from modelops_dask.diagnose.verdict.verdict import Fact

# A task hangs if it takes longer than this, and this many times as long as the first one.
FIRST_HANG_SECONDS, FIRST_HANG_TIMES = 30.0, 100
SEED_SHARE = 0.15  # share of the time for new processes with other seeds
PAIRS = 3  # replicates, whose results no seed changes, that justify a closer look
DRAWS = 8  # runs of one task in a process: a task that draws varies in them
LEAST_DEAR = 3  # tasks that new processes run if a start is slow
REFERENCE_SHARE = 0.25  # share of the budget for the reference
ORDER_SHARE = 0.2  # share of the time for tasks in two orders


class Experiment:
    """Runs the arms of these names, in `repeats` orders if the order counts; facts() returns the outcome.

    n_core of the tasks are for all arms, the others for orders in one process, and to increase the
    confidence.
    """

    def __init__(self, runs: Runs, arm_names: Sequence[str], repeats: int, n_core: int = 24) -> None:
        self.runs, self._arm_names, self.repeats = runs, arm_names, max(2, repeats)
        self.runs.core = self.runs.core[: max(LEAST, n_core)]
        self.lines: list[str] = []  # further messages for the user
        self.growth: Growth | None = None
        self.too_big = False  # a task alone needs more memory than its limit
        self.seed_use = SeedUse()
        # properties of the machine and the date that results depend on
        self.axes: tuple[Surrounding, ...] | None = None
        self.drawn_parts: list[Part] = []  # parts of outputs from a generator that is never seeded
        self._hang_seconds = FIRST_HANG_SECONDS
        self._failing = False
        self._missing_packages: tuple[str, ...] = ()  # packages of the bundle that the worker lacks

    def run(self) -> None:
        """Run as much as possible until the deadline. Raises BadInput if no task of the bundle can be run."""
        cold = self.runs.tallies["cold"]
        arms = (
            self._run_fresh_venv,
            self._run_single_process,
            self._compare_seeds,
            self._measure_memory,
            self._run_baseline,
            self._run_cold_concurrent,
            self._run_isolated_fork,
            self._run_direct,
            self._run_threads,
            self._run_native_threads,
        )
        tells_apart = (self._run_single_process, self._compare_seeds, self._run_isolated_fork)
        try:
            self._prepare()
            self._run_first()
            is_ok = self.runs.reference[0].status == "ok"
            if is_ok:
                self._run_orders()
            self._run_reference()
            if self._failing:
                return self._skip("every task fails in a new process")
            if not is_ok:
                self._run_orders()
                self.runs.count_orders()
            for arm in arms:
                if cold.n_differing:
                    break
                if arm in tells_apart or not self._is_proven_and_dear():
                    arm()
            if cold.n_differing:
                self._tell_apart()
                self._skip("the model's results vary from run to run, even in new processes")
            else:
                self._run_more()
                self._run_surroundings()
        except OutOfTime:
            self.runs.count_orders()
            self.lines.append("The budget was used up before all arms had run.")
            self._skip("the budget was used up")

    def collect_facts(self) -> dict[str, Fact]:
        """The facts known so far, by the names of verdict.FACTS."""
        fact, tallies = self.runs.judge_arm, self.runs.tallies
        cold, reuse, baseline = fact("cold"), fact("single-process"), fact("baseline")
        side = fact("cold-concurrent")
        if side is not True and reuse is not True and tallies["baseline"].n_compared:
            side = baseline if reuse is False or baseline is False else None
        out_of_memory = self.too_big or any(tally.n_out_of_memory for tally in tallies.values())
        memory = True if out_of_memory else self.growth.leaks if self.growth else None

        def in_process(name: str) -> Fact:
            """Ignore a worker that ended while memory grows: it does not show what it shares."""
            lost = tallies[name].n_workers_lost
            return None if memory and lost and lost == tallies[name].n_differing else fact(name)

        threads = [in_process("threads"), fact("native-threads")]
        return {
            "failing": self._failing,
            "files": self._judge_unshared(self.runs.alone_tally) is False if cold else False,
            "fresh": cold if self._has_one_environment else self._judge_unshared(self.runs.fresh_tally),
            "cold": cold,
            "venv": False if self._has_one_environment else None if cold else fact("fresh-venv"),
            "seed": self._judge_seeds(reuse),
            "reuse": reuse,
            "concurrency": side,
            "few": coverage.confidence_of_healthy(self.runs) < confidence.STATED,
            "fork": fact("isolated-fork"),
            "direct": in_process("direct"),
            "threads": True if True in threads else threads[0],
            "memory": memory,
            "surroundings": None if self.axes is None else any(not axis.is_fixed for axis in self.axes),
        }

    def _judge_seeds(self, reuse: Fact) -> Fact:
        """Whether results are the same for all seeds.

        If a reused process gives different results, that alone does not show randomness: earlier tasks may be
        the cause.
        """
        if self.drawn_parts:
            return True
        if self.runs.is_deterministic or not self.seed_use.n_pairs:
            return False if self.runs.is_deterministic else None
        return False if reuse is True or self.seed_use.n_pairs < PAIRS else self.seed_use.is_unused

    def _is_proven_and_dear(self) -> bool:
        """Whether process-reuse is proven, and starts are so slow that the search for its cause needs the
        rest of the time.
        """
        runs = self.runs
        if not (runs.is_start_dear and runs.judge_arm("single-process")):
            return False
        for tally in runs.tallies.values():
            if not tally.n_tasks and tally.arm.name != "isolated-fork":
                tally.skip_reason = tally.skip_reason or (
                    "it can no longer change the verdict, and starts are slow"
                )
        return True

    def _judge_unshared(self, tally: Tally) -> Fact:
        """Whether runs that share less than those of cold differ.

        Agreement counts only if there are enough runs for a difference as rare as that of cold.
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
        """Whether to run an arm. Announces it, or records the reason for skipping it."""
        tally = self.runs.tallies[name]
        tally.skip_reason = skip_reason or ("" if name in self._arm_names else "not requested")
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

    def _run_first(self) -> None:
        """Run one task in a new process: its duration determines what else can be run."""
        runs, most = self.runs, REFERENCE_SHARE * self.runs.workers.remaining_seconds()
        self._begin_arm("cold")
        first = runs.run_trial("cold", [(0,)], most, hang_seconds=most)
        if not first.task_runs or first.task_runs[0].reason == TIMEOUT:
            limit = self._limit_seconds(most)
            limit_name, remedy = "a quarter of the budget", "raise --budget"
            if limit < most:
                limit_name, remedy = "its time limit", "raise timeout in the study file"
            self.lines.append(
                f"The first task did not end within {limit:.0f} seconds, {limit_name}. "
                f"Unless it hangs, {remedy}."
            )
            raise OutOfTime
        runs.cold_seconds = first.seconds
        runs.start_seconds = max(0.0, first.seconds - first.task_runs[0].seconds)
        self._hang_seconds = min(most, max(FIRST_HANG_SECONDS, FIRST_HANG_TIMES * first.task_runs[0].seconds))

    def _limit_seconds(self, hang_seconds: float) -> float:
        """The time limit of a task: this one, or the study's if that is shorter."""
        return min(hang_seconds, self.runs.settings.task_timeout_seconds or hang_seconds)

    def _run_orders(self) -> None:
        """Run one process in two opposite orders, with as many tasks as fit into the time."""
        runs = self.runs
        if "single-process" not in self._arm_names:
            return
        tasks = [number for number in range(len(runs.tasks)) if number not in runs.left_out]
        runs.say(f"single-process: {len(tasks)} tasks in one process, in two opposite orders")
        seconds = ORDER_SHARE * runs.workers.remaining_seconds()
        coverage.compare_orders(runs, tasks, seconds, self._hang_seconds)

    def _run_reference(self) -> None:
        """Run cold twice, backwards the second time; fewer tasks if they are slow. Tasks that differ in two
        orders come first.
        """
        runs, most = self.runs, REFERENCE_SHARE * self.runs.workers.remaining_seconds()
        least = LEAST_DEAR if runs.is_start_dear else LEAST
        fitting = max(least, int(most / (2 * runs.cold_seconds)))
        suspects = runs.order_tally.suspects[: max(LEAST, len(runs.core) // 2)]
        runs.core = tuple(dict.fromkeys((*suspects, *runs.core)))[: min(fitting, len(runs.core))]
        if fitting <= len(runs.core) < len(runs.tasks):
            runs.say(f"a task takes {runs.cold_seconds:.1f} s in a new process: {len(runs.core)} tasks")
        known = runs.reference.keys() & runs.core
        rest = tuple(number for number in runs.core if number not in known)
        seconds = runs.workers.remaining_seconds()
        if rest:
            runs.run_trial("cold", [rest], seconds, self._hang_seconds)
        if hanging := [number for number, task_run in runs.reference.items() if task_run.reason == TIMEOUT]:
            task = causes.make_task_ref(runs, hanging[0]).task
            limit = self._limit_seconds(self._hang_seconds)
            self.lines.append(
                f"{len(hanging)} of {len(runs.core)} tasks do not end within {limit:.0f} "
                f"seconds, even alone in a new process, and were left out; one is {task}."
            )
            runs.leave_out(hanging)
        runs.run_trial("cold", [runs.core[::-1]], runs.workers.remaining_seconds())
        runs.count_orders()
        task_runs = runs.reference.values()
        self.too_big = any(task_run.was_out_of_memory for task_run in task_runs)
        endings = {(task_run.status, task_run.reason) for task_run in task_runs}
        self._failing = len(endings) == 1 and ("ok", "") not in endings and not self.too_big

    def _run_fresh_venv(self) -> None:
        """Run fresh-venv for a few tasks, because environments are expensive."""
        runs = self.runs
        skip_reason = "executor.environment is image, so there is only one environment"
        if self._begin_arm("fresh-venv", skip_reason if self._has_one_environment else ""):
            runs.run_fresh_trial(_select_few(runs.core), 0.2 * runs.workers.remaining_seconds())
            if suspects := runs.tallies["fresh-venv"].suspects:
                runs.repeat_cold(suspects)
                runs.run_fresh_trial(suspects[:FEW], 0.2 * runs.workers.remaining_seconds())

    def _run_single_process(self) -> None:
        """Run single-process: further orders, each in its own process, more than once."""
        if self._begin_arm("single-process"):
            runs = self.runs
            orders = make_orders(runs.core, self.repeats, runs.seed)
            share = 0.4 * runs.workers.remaining_seconds() / len(orders)
            for order in () if self._is_proven_and_dear() else orders[2:]:  # two have run
                runs.run_trial("single-process", [order * runs.count_passes(share)], share)
            self._run_lane_until_sure("single-process", share)

    def _compare_seeds(self) -> None:
        """Compare seeds, without an arm: whether new processes give different results for other seeds.

        If a reused process gives different results, a task runs in it repeatedly: results that vary are drawn
        there.
        """
        runs = self.runs
        if runs.is_deterministic:
            return
        self.seed_use = compare_seeds(
            (runs.tasks[number], task_run) for number, task_run in runs.expected.items()
        )
        if runs.judge_arm("single-process") is not True:
            return
        seconds = SEED_SHARE * runs.workers.remaining_seconds()
        if missing := runs.list_replicates():
            runs.run_trial("cold", [missing], seconds)
        self.seed_use = compare_seeds(
            (runs.tasks[number], task_run) for number, task_run in runs.reference.items()
        )
        if self.seed_use.constant and self.seed_use.n_pairs >= PAIRS:
            runs.say("single-process: one task, repeatedly")
            number = next(number for number, run in runs.reference.items() if run.status == "ok")
            result = runs.run_trial("single-process", [(number,) * DRAWS], seconds)
            results = [
                task_run if task_run.outputs else task_run._replace(outputs=runs.reference[number].outputs)
                for task_run in result.task_runs
                if task_run.outputs or task_run.key == runs.reference[number].key
            ]
            self.drawn_parts = find_drawn_parts(results, self.seed_use.constant)

    def _measure_memory(self) -> None:
        """Measure memory, without an arm: one long process, with its memory read after each task."""
        if "single-process" in self._arm_names:
            self.runs.say("memory: one process, task after task")
            self.growth = causes.measure_growth(self.runs)

    def _run_baseline(self) -> None:
        """Run baseline. A lane that also differs alone belongs to single-process."""
        if not self._begin_arm("baseline"):
            return
        runs, share = self.runs, 0.3 * self.runs.workers.remaining_seconds()
        lanes = runs.make_lanes("baseline", share, numbers=coverage.select_for_baseline(runs))
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
        if self._begin_arm(
            "cold-concurrent", "" if differs else "there is no difference that it could explain"
        ):
            lanes = runs.make_lanes("cold-concurrent", 0.0, passes=1)
            share = 0.3 * runs.workers.remaining_seconds()
            runs.run_trial("cold-concurrent", lanes, share)
            runs.repeat_until_sure(
                "cold-concurrent", lambda _: runs.run_trial("cold-concurrent", lanes, share)
            )

    def _run_isolated_fork(self) -> None:
        if self._begin_arm("isolated-fork"):
            runs, share = self.runs, 0.15 * self.runs.workers.remaining_seconds()
            for order in make_orders(runs.core, 1 if runs.is_start_dear else 2, runs.seed):
                runs.run_trial("isolated-fork", [order], share)
            self._run_lane_until_sure("isolated-fork", share)

    def _run_direct(self) -> None:
        runs, tally = self.runs, self.runs.tallies["direct"]
        skip_reason = "reused processes already differ"
        if not self._begin_arm("direct", skip_reason if runs.judge_arm("single-process") else ""):
            return
        share = 0.15 * runs.workers.remaining_seconds()
        for order in make_orders(runs.core, 2, runs.seed):
            runs.run_trial("direct", [order * 2], share)
        if self._missing_packages and tally.n_differing:
            names = ", ".join(self._missing_packages[:5])
            ellipsis = ", ..." if len(self._missing_packages) > 5 else ""
            tally.skip_reason = (
                f"the worker's own environment lacks, or has other versions of: {names}{ellipsis}"
            )
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
        skip_reason = "" if runs.native_threads > 1 else "the study's tasks have one native thread"
        if self._begin_arm("native-threads", skip_reason):
            runs.run_trial("native-threads", [runs.core], share)
            self._run_lane_until_sure("native-threads", share)

    def _run_lane_until_sure(self, name: str, share: float) -> None:
        self.runs.repeat_until_sure(name, lambda lane: self.runs.run_trial(name, [lane], share))

    def _run_more(self) -> None:
        """Run more tasks, while nothing differs and the confidence is too low. A difference needs a
        reference.
        """
        runs = self.runs
        while (
            {*REUSING} <= {*self._arm_names}
            and not self._has_differences()
            and coverage.run_more(runs, self._hang_seconds)
        ):
            pass
        if runs.order_tally.n_differing > runs.tallies["single-process"].n_differing == 0:
            self._run_reference()
        runs.count_orders()

    def _run_surroundings(self) -> None:
        """Without an arm: run the same tasks with another hash seed, locale, time zone, listing order,
        clock.
        """
        if "single-process" in self._arm_names and not self._has_differences():
            self.runs.say("another hash seed, locale, time zone, listing order and clock")
            self.axes = causes.find_axes(self.runs)

    def _has_differences(self) -> bool:
        tallies = self.runs.order_tally, *self.runs.tallies.values()
        return any(tally.n_differing for tally in tallies)

    def _tell_apart(self) -> None:
        """Distinguish reasons why cold differs from itself: files that tasks leave, its environment, or the
        model.
        """
        runs = self.runs
        suspects = runs.tallies["cold"].suspects[:FEW]
        runs.say("cold again, with files left by tasks removed before each task")
        runs.run_alone_trial(suspects, 0.2 * runs.workers.remaining_seconds())
        if self._judge_unshared(runs.alone_tally) is False:
            return
        if not self._has_one_environment and self._begin_arm("fresh-venv"):
            for _ in range(ROUNDS):
                runs.run_fresh_trial(suspects, 0.2 * runs.workers.remaining_seconds())
                if self._judge_unshared(runs.fresh_tally) is not None:
                    return


def _select_few(numbers: Sequence[int]) -> list[int]:
    """A few of the numbers, including the first and the last."""
    last, n_selected = len(numbers) - 1, min(len(numbers), FEW)
    places = {round(index * last / max(1, n_selected - 1)) for index in range(n_selected)}
    return [numbers[place] for place in sorted(places)]
