"""Explain a cause: the polluter, the sources of randomness, the growth of a process, changed packages.

Runs, with the results of their arms -> probes on a worker -> a part of the Diagnosis

Searches stop at the deadline with their best result. polluter.py, sources.py and growth.py describe the
searches; probe.py what a probe examines.
"""

import time
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import replace
from statistics import median

from modelops_dask.diagnose.causes import growth as growing
from modelops_dask.diagnose.causes import polluter, script, sources, surroundings
from modelops_dask.diagnose.causes.surroundings import Surrounding
from modelops_dask.diagnose.result import Leak, Pollution, SourceRef, TaskRef
from modelops_dask.diagnose.trials import worker_calls
from modelops_dask.diagnose.trials.arms import find_arm
from modelops_dask.diagnose.trials.probe import Change, ProbeRequest, ProbeResult
from modelops_dask.diagnose.trials.runs import Runs
from modelops_dask.diagnose.trials.work_folder import path_of
from modelops_dask.diagnose.trials.workers import OutOfTime, WorkerLost
from modelops_dask.diagnose.verdict.comparison import TIMEOUT, TaskRun, digest_outputs
from modelops_dask.executors.process import Call
from modelops_dask.executors.wire import find_wire

END_SECONDS = 5.0  # that a probe may take to end its process
AXES_TASKS = 8  # tasks run with another hash seed, locale, clock
GROWTH_SECONDS = 4.0
GROWTH_TASKS = (40, 400)  # the minimum that shows growth, and the maximum
NOTHING = ProbeRequest()  # but outputs and memory
SOON_SECONDS = 3.0  # after which a task that is known to hang counts as hanging
SEARCH_SHARE = 0.6  # of the remaining time


def run_probe(
    runs: Runs, tasks: Sequence[int], request: ProbeRequest = NOTHING, hang_seconds: float = 0.0
) -> ProbeResult:
    """Run tasks, by number, one after another in one new process on a worker. Raises OutOfTime."""
    calls = _list_calls(runs, tasks)
    settings = replace(find_arm("single-process").isolate_settings(runs.settings), task_timeout_seconds=0)
    slowest = max(task_run.seconds for task_run in runs.reference.values())
    seconds = 10 * runs.cold_seconds + (hang_seconds or runs.hang_seconds) + 3 * slowest * len(calls)
    try:
        return runs.workers.call(
            worker_calls.run_probe,
            runs.bundle,
            settings,
            calls,
            request,
            timeout_seconds=seconds,
            threads=runs.native_threads,
            limit_seconds=seconds + END_SECONDS,
        )
    except (TimeoutError, WorkerLost):
        raise OutOfTime from None


def _list_calls(runs: Runs, tasks: Sequence[int]) -> list[Call]:
    return [(runs.plan.entrypoint, runs.tasks[task].params, runs.tasks[task].seed) for task in tasks]


def measure_growth(runs: Runs) -> growing.Growth | None:
    """How a process grows with its tasks; None if too few fit into the time. Growth is measured twice."""
    pace = median(task_run.seconds for task_run in runs.reference.values())
    least, most = GROWTH_TASKS
    count = min(most, int(min(GROWTH_SECONDS, 0.1 * runs.workers.remaining_seconds()) / max(pace, 1e-6)))
    if count < least and least * pace < 0.1 * runs.workers.remaining_seconds():
        count = least
    if count < least:
        return None
    tasks = [runs.core[number % len(runs.core)] for number in range(count)]
    growth = None
    with suppress(OutOfTime):
        growth = growing.fit(run_probe(runs, tasks, ProbeRequest(memory=True)).resident_bytes)
        if growth and growth.leaks:
            growth = growing.fit(run_probe(runs, tasks, ProbeRequest(memory=True)).resident_bytes) or growth
    return growth


def find_pollution(runs: Runs) -> Pollution | None:
    """The fewest tasks that change a later one's result, for the difference with the fewest tasks before
    it.
    """
    first = runs.tallies["single-process"].first
    if first is None:
        return None
    before, victim, expected = first[0], first[1].task, runs.expected
    hang_seconds = SOON_SECONDS if first[1].reason == TIMEOUT else 0.0

    def fails(sequence: Sequence[int], last: int) -> bool:
        try:
            result = run_probe(runs, [*sequence, last], hang_seconds=hang_seconds)
        except OutOfTime:
            return False
        return _describe_last_run(result, last, runs.volatile).key != expected[last].key

    deadline = time.monotonic() + SEARCH_SHARE * runs.workers.remaining_seconds()
    search_result = polluter.find(before, victim, fails, deadline=deadline)
    if search_result is None:
        return None
    changes: tuple[Change, ...] = ()
    with suppress(OutOfTime):
        tasks = [*search_result.tasks, victim]
        changes = run_probe(runs, tasks, ProbeRequest(changes=True), hang_seconds).changes
    calls = _list_calls(runs, (*search_result.tasks, victim))
    bundle = runs.bundle.path
    wire = runs.bundle.program or find_wire(bundle, runs.plan.entrypoint)
    text = script.render_script(bundle, wire, calls[:-1], calls[-1], runs.native_threads)
    return Pollution(
        tasks=tuple(make_task_ref(runs, task) for task in search_result.tasks),
        victim=make_task_ref(runs, victim),
        changed=tuple(map(str, changes)),
        script=text,
    )


def describe_leak(runs: Runs, growth: growing.Growth) -> Leak:
    """Growth, with the maxProcessReuse that keeps a process within its limit."""
    peak_bytes = max((task_run.peak_bytes for task_run in runs.reference.values()), default=0)
    most = growing.compute_max_process_reuse(growth, runs.limit_bytes, peak_bytes)
    return Leak(growth.slope_bytes, growth.low_bytes, growth.high_bytes, most)


def find_changed_files(runs: Runs) -> tuple[str, ...]:
    """Files of the cached environment that differ from a new one."""
    settings = find_arm("cold").isolate_settings(runs.settings)
    try:
        return runs.workers.call(
            worker_calls.list_changed_files,
            runs.bundle,
            settings,
            limit_seconds=runs.workers.remaining_seconds(),
        )
    except (TimeoutError, WorkerLost):
        return ()


def find_sources(runs: Runs) -> tuple[SourceRef, ...]:
    """The sources of randomness of a model that differs in new processes."""
    tasks = (runs.tallies["cold"].suspects or list(runs.core))[:2]
    deadline = time.monotonic() + SEARCH_SHARE * runs.workers.remaining_seconds()
    chance_sources = sources.find(lambda request: run_probe(runs, tasks, request), deadline=deadline)
    return tuple(
        SourceRef(
            kind=source.kind,
            call=source.call,
            file=source.file,
            line=source.line,
            confirmed=source.confirmed,
        )
        for source in chance_sources
    )


def find_axes(runs: Runs) -> tuple[Surrounding, ...] | None:
    """Properties of the machine and the date on which results depend; None if not known."""
    return surroundings.find_axes(lambda request: run_probe(runs, runs.core[:AXES_TASKS], request))


def find_shared_files(runs: Runs) -> tuple[SourceRef, ...]:
    """Files, ports and similar resources that tasks share with other processes: files that they write outside
    their own folders, and connections.
    """
    result = run_probe(runs, _pick_two(runs), ProbeRequest(trace=True))
    own = str(path_of("")), f"{runs.bundle.path}/"
    shared = [
        use
        for use in result.uses
        if use.kind == "network"
        or (use.call.startswith("write /") and not use.call.removeprefix("write ").startswith(own))
    ]
    return tuple(
        SourceRef(kind=use.kind, call=use.call, file=use.file, line=use.line, confirmed=False)
        for use in sorted(shared, key=lambda use: -use.times)
    )


def _pick_two(runs: Runs) -> list[int]:
    """Two tasks that differ when others run, or any two."""
    return [*runs.tallies["baseline"].suspects, *runs.core][:2]


def make_task_ref(runs: Runs, number: int) -> TaskRef:
    """A task of the sample, as users name it."""
    task = runs.tasks[number]
    return TaskRef(f"{task.set}/{task.replicate}", task.params, task.seed)


def _describe_last_run(result: ProbeResult, task: int, volatile: Collection[str]) -> TaskRun:
    """How the last task of a probe ended: as an answer, or with the process."""
    if result.reason:
        return TaskRun(lane=0, task=task, status="died", reason=result.reason)
    answer = result.answers[-1]
    return TaskRun(
        lane=0,
        task=task,
        status=answer.status,
        reason=answer.reason,
        error=answer.error,
        digests=digest_outputs({name: data for name, data in answer.outputs.items() if name not in volatile}),
    )
