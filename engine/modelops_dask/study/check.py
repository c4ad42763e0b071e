"""The self-check of a study: a few ok tasks run again, on workers, each alone in a new process.

    rows that this run wrote -> late_rows.choose() -> a worker: lone.run_lone() -> comparison.compare()
        -> if they differ, again, and another replicate: the cause
        -> a RunCheck, for store/checks.py

Every wait is bounded: a lost worker, a hanging task or a request to stop ends the check, not the study.
"""

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, TypeVar

from modelops_dask.plan.plan import Plan
from modelops_dask.store.checks import Comparison, RunCheck
from modelops_dask.study import events
from modelops_dask.study.batch import RunContext
from modelops_dask.study.comparison import compare, explain
from modelops_dask.study.late_rows import StoredRow, choose
from modelops_dask.study.lone import LoneRequest, LoneResult, WorkerFacts, report_facts, run_lone
from modelops_dask.workers.remote import SchedulerLost, asking

if TYPE_CHECKING:
    from distributed import Client, Future

N_TASKS = 3  # number of tasks checked by default
# limits beyond which not even one task is checked unconditionally
LONG_START_SECONDS, LONG_TASK_SECONDS = 20.0, 60.0
SHARE, LEAST_SECONDS = 0.05, 10.0  # fraction of the run's time
ANSWER_SECONDS = 10.0  # for workers to report how long a start takes
POLL_SECONDS, LOOK_SECONDS = 0.02, 1.0
MOST_HOSTS = 64  # workers that are asked for their kind of processor
T = TypeVar("T")


class StoppedCheck(Exception):
    """The run was asked to end."""


def check_run(
    client: "Client",
    context: RunContext,
    plan: Plan,
    n_tasks: int,
    *,
    run_seconds: float,
    files_before: Collection[str],
    inbox: "SimpleQueue[events.Event]",
) -> RunCheck | None:
    """Run a few of the tasks that a run stored again, and compare; None if it stored no ok task.

    Args:
        client: Of the workers, which are still running.
        context: That of the run's batches.
        plan: The tasks of the run.
        n_tasks: The maximum number of tasks to check.
        run_seconds: The duration of the run.
        files_before: Files of parts/ from before the run.
        inbox: Of the run; a StopRequested ends the check.
    """
    started = time.monotonic()
    rows = choose(context.store, plan, n_tasks, files_before)
    if not rows:
        return None
    checker = _Checker(client, context, plan, inbox)
    try:
        check = checker.check(rows, n_tasks, run_seconds)
    except StoppedCheck:
        check = RunCheck(tuple(checker.comparisons), skipped="the run was asked to stop")
    except SchedulerLost:
        check = RunCheck(tuple(checker.comparisons), skipped="the connection to the Dask scheduler was lost")
    return replace(check, seconds=round(time.monotonic() - started, 3))


@dataclass
class _Checker:
    client: "Client"
    context: RunContext
    plan: Plan
    inbox: "SimpleQueue[events.Event]"
    comparisons: list[Comparison] = field(default_factory=list)
    facts: dict[str, WorkerFacts] = field(default_factory=dict)  # by address

    def check(self, rows: Sequence[StoredRow], n_tasks: int, run_seconds: float) -> RunCheck:
        addresses = self.find_workers()
        if not addresses:
            return RunCheck(skipped="no worker was left")
        self.facts = self.wait(
            {address: self.submit(report_facts, self.context, address) for address in addresses},
            ANSWER_SECONDS,
        )
        processors = tuple(sorted({each.processor for each in self.facts.values()}))
        start_seconds = max((each.start_seconds for each in self.facts.values()), default=0.0)
        workers = list(self.facts)[:n_tasks] or addresses[:1]
        chosen, skipped = fit(rows, n_tasks, len(workers), start_seconds, run_seconds)
        wait_seconds = 2 * LONG_START_SECONDS + 4 * sum(start_seconds + row.seconds for row in chosen)
        results = self.run_alone(dict(enumerate(chosen)), workers, wait_seconds)
        differing: dict[int, StoredRow] = {}
        for number, row in enumerate(chosen):
            comparison = compare(row, results.get(number), self.plan.request.volatile)
            if comparison.outcome == "different":
                differing[number] = row
            else:
                self.comparisons.append(comparison)
        if differing:
            self.explain(differing, results, workers, wait_seconds)
        return RunCheck(tuple(self.comparisons), skipped=skipped, processors=processors)

    def explain(
        self,
        differing: Mapping[int, StoredRow],
        results: Mapping[int, LoneResult],
        workers: Sequence[str],
        wait_seconds: float,
    ) -> None:
        """Find out why rows differ from their tasks run alone: by a second run, and by another replicate."""
        # On another processor if there is one: two kinds that agree exclude the processor.
        others = sorted(self.facts, key=lambda address: self.facts[address].processor, reverse=True)
        again = self.run_alone(differing, [*others, *workers][: len(workers)], wait_seconds)
        replicates = self.run_alone(
            {number: row for number, row in list(differing.items())[:1] if self.sibling(row) is not None},
            workers,
            wait_seconds,
            siblings=True,
        )
        is_one_kind = len({each.processor for each in self.facts.values()}) < 2
        for number, row in differing.items():
            comparison = compare(row, results[number], self.plan.request.volatile)
            self.comparisons.append(
                explain(
                    comparison,
                    row,
                    (results[number], again.get(number)),
                    next(iter(replicates.values()), None),
                    is_one_kind=is_one_kind,
                )
            )

    def sibling(self, row: StoredRow) -> int | None:
        """The index of another replicate of a row's set; None if there is none."""
        for step in range(1, self.plan.replicates):
            replicate = (row.values["replicate"] + step) % self.plan.replicates
            try:
                return self.plan.index(row.set, replicate)
            except KeyError:  # possibly of another chunk
                continue
        return None

    def find_workers(self) -> list[str]:
        """Addresses of workers that have the study's resources, on as many hosts as possible."""
        from distributed.comm.addressing import get_address_host

        needs = dict(self.context.request.resources)
        with asking(self.client):
            workers = self.client.scheduler_info(n_workers=-1)["workers"]
        fitting = [
            address
            for address, worker in workers.items()
            if all(worker["resources"].get(name, 0) >= need for name, need in needs.items())
        ]
        by_host: dict[str, list[str]] = {}
        for address in fitting:
            by_host.setdefault(get_address_host(address), []).append(address)
        first = [addresses[0] for addresses in by_host.values()]
        return [*first[:MOST_HOSTS], *(address for address in fitting if address not in first)][:MOST_HOSTS]

    def run_alone(
        self,
        rows: Mapping[int, StoredRow],
        workers: Sequence[str],
        wait_seconds: float,
        *,
        siblings: bool = False,
    ) -> dict[int, LoneResult]:
        """Run the tasks of rows, or other replicates of their sets, each alone; return those that ended in
        time.
        """
        futures = {}
        for place, (number, row) in enumerate(rows.items()):
            index = self.sibling(row) if siblings else self.plan.index(row.set, row.values["replicate"])
            assert index is not None, "callers that ask for siblings have checked"
            task = self.plan.task(index)
            request = LoneRequest(
                context=self.context,
                entrypoint=self.plan.entrypoint,
                params=task.params,
                seed=task.seed,
                needed_bytes=row.values["peak_bytes"] or 0,
                limit_bytes=row.values["limit_bytes"] or 0,
            )
            futures[number] = self.submit(run_lone, request, workers[place % len(workers)])
        return self.wait(futures, wait_seconds)

    def submit(self, function: Any, argument: Any, address: str) -> "tuple[str, Future]":
        with asking(self.client):
            future = self.client.submit(
                function,
                argument,
                workers=[address],
                allow_other_workers=False,
                pure=False,
                resources=dict(self.context.request.resources) or None,
            )
        return address, future

    def wait(self, futures: "Mapping[T, tuple[str, Future]]", wait_seconds: float) -> dict[T, Any]:
        """The results of calls that end in time, on workers that stay alive. Raises StoppedCheck."""
        deadline, looked_at = time.monotonic() + wait_seconds, time.monotonic()
        open_calls = dict(futures)
        while open_calls and time.monotonic() < deadline:
            open_calls = {key: call for key, call in open_calls.items() if call[1].status == "pending"}
            self.look_for_stop(POLL_SECONDS if open_calls else 0)
            if time.monotonic() - looked_at > LOOK_SECONDS:
                looked_at = time.monotonic()
                with asking(self.client):
                    alive = self.client.nthreads()
                open_calls = {key: call for key, call in open_calls.items() if call[0] in alive}
        results = {}
        for key, (_, future) in futures.items():
            if future.status == "finished":
                results[key] = future.result()
            else:
                future.cancel()
        return results

    def look_for_stop(self, wait_seconds: float) -> None:
        try:
            event = self.inbox.get(timeout=wait_seconds) if wait_seconds else self.inbox.get_nowait()
        except Empty:
            return
        if isinstance(event, events.StopRequested):
            raise StoppedCheck


def fit(
    rows: Sequence[StoredRow], n_tasks: int, n_workers: int, start_seconds: float, run_seconds: float
) -> tuple[list[StoredRow], str]:
    """Choose the rows to check within the budget, or explain why there are none.

    One is always chosen unless a start or that task is long; others if they fit the budget.
    """
    budget_seconds = max(SHARE * run_seconds, LEAST_SECONDS)
    chosen: list[StoredRow] = []
    busy_seconds = [0.0] * n_workers
    for row in rows:
        worker = len(chosen) % n_workers
        seconds = busy_seconds[worker] + start_seconds + row.seconds
        if len(chosen) < n_tasks and seconds <= budget_seconds:
            busy_seconds[worker] = seconds
            chosen.append(row)
    if chosen:
        return chosen, ""
    shortest = min(rows, key=lambda row: row.seconds)
    if start_seconds <= LONG_START_SECONDS and shortest.seconds <= LONG_TASK_SECONDS:
        first = next(row for row in rows if row.seconds <= LONG_TASK_SECONDS)
        return [first], ""
    return [], (
        f"running one task alone takes {start_seconds + shortest.seconds:,.0f} s, including "
        f"{start_seconds:,.0f} s to start its process, but a self-check may take only {budget_seconds:,.0f} s"
    )
