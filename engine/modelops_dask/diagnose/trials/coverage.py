"""Run many tasks at low cost: one process in two opposite orders, and more tasks until healthy is certain.

    tasks -> a process that runs them, another that runs them backwards -> differences, without a reference
    tasks that were compared -> confidence of healthy -> further tasks, until that is enough

Two starts of a process suffice for any number of tasks. Causes are distinguished in experiment.py.
"""

from collections.abc import Sequence

from modelops_dask.diagnose.trials.runs import Runs
from modelops_dask.diagnose.verdict import confidence
from modelops_dask.diagnose.verdict.comparison import TIMEOUT

MORE_SHARE = 0.4  # share of the remaining time that each attempt at more tasks may take


def compare_orders(runs: Runs, tasks: Sequence[int], seconds: float, hang_seconds: float) -> None:
    """Run tasks in an order and, as far as they were run, in the opposite one.

    Fast ones run twice in the second: then a task also runs after itself.
    """
    share = seconds / 4
    first = runs.run_order(tuple(tasks), share, hang_seconds)
    ended = [task_run for task_run in first.task_runs if task_run.reason != TIMEOUT]
    again = tuple(task_run.task for task_run in ended)
    if again:
        is_quick = 2 * sum(task_run.seconds for task_run in ended) < share
        runs.run_order(again[::-1] * (2 if is_quick else 1), 2 * share, hang_seconds)


def confidence_of_healthy(runs: Runs) -> float:
    """The confidence that nothing differs, from the distinct tasks that were compared: in one process that
    had run others, and concurrently.
    """
    counts = len(runs.list_reused()), len(runs.tallies["baseline"].reusing_tasks)
    return min(confidence.of_healthy(count, runs.plan.n_tasks) for count in counts)


def select_for_baseline(runs: Runs) -> list[int]:
    """The core, and as many other tasks as healthy needs."""
    core = [number for number in runs.core if number in runs.expected]
    others = [number for number in sorted(runs.expected) if number not in core]
    return core + others[: max(0, confidence.n_tasks_needed(runs.plan.n_tasks) - len(core))]


def run_more(runs: Runs, hang_seconds: float) -> bool:
    """Run more tasks, in two orders and concurrently. False if that adds nothing, or healthy is certain."""
    needed = confidence.n_tasks_needed(runs.plan.n_tasks)
    reused, beside = runs.list_reused(), set(runs.tallies["baseline"].reusing_tasks)
    n_missing = needed - min(len(reused), len(beside))
    if n_missing <= 0:
        return False
    runs.say(f"{n_missing} more tasks are needed to be sure")
    if len(reused) < needed:
        others = [number for number in range(len(runs.tasks)) if number not in reused | runs.left_out]
        seconds = MORE_SHARE * runs.workers.remaining_seconds()
        compare_orders(runs, others[: 2 * (needed - len(reused))], seconds, hang_seconds)
    others = [number for number in runs.expected if number not in beside]
    if others and len(beside) < needed:
        seconds = MORE_SHARE * runs.workers.remaining_seconds()
        runs.run_trial("baseline", runs.make_lanes("baseline", seconds, 1, others), seconds)
    return len(runs.list_reused()) > len(reused) or len(runs.tallies["baseline"].reusing_tasks) > len(beside)
