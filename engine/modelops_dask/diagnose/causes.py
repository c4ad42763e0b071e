"""What is behind a cause: the polluter, the sources of chance, the growth of a process, changed packages.

Runs, with what their arms came to -> probes on a worker -> a part of the Diagnosis

Searches stop at the deadline with the best that they have. How they search is in polluter.py, sources.py and
growth.py; what a probe looks at in probe.py.
"""

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from statistics import median

from modelops_dask.diagnose import errands, polluter, script, sources
from modelops_dask.diagnose import growth as growing
from modelops_dask.diagnose.arms import named
from modelops_dask.diagnose.compare import TIMEOUT, Seen, seen
from modelops_dask.diagnose.lab import Lost, OutOfTime
from modelops_dask.diagnose.probe import Ask, Probed
from modelops_dask.diagnose.result import Leak, Pollution, SourceRef, TaskRef
from modelops_dask.diagnose.runs import Runs
from modelops_dask.executors import Outcome
from modelops_dask.executors.process import Call
from modelops_dask.executors.wire import find_wire

END_SECONDS = 5.0  # that a probe may take to end its process
GROWTH_SECONDS = 4.0
GROWTH_TASKS = (40, 400)  # the least that tells growth, and the most
NOTHING = Ask()  # but outputs and memory
SOON_SECONDS = 3.0  # after which a task that is known to hang is taken to
SEARCH_SHARE = 0.6  # of the time that is left


def probe(runs: Runs, tasks: Sequence[int], ask: Ask = NOTHING, hang_seconds: float = 0.0) -> Probed:
    """Tasks, by number, one after another in one new process. Raises OutOfTime."""
    calls = _calls(runs, tasks)
    settings = replace(named("single-process").settings(runs.settings), task_timeout_seconds=0)
    slowest = max(one.seconds for one in runs.reference.values())
    seconds = 10 * runs.cold_seconds + (hang_seconds or runs.hang_seconds) + 3 * slowest * len(calls)
    try:
        return runs.lab.call(
            errands.probe,
            runs.bundle,
            settings,
            calls,
            ask,
            seconds,
            runs.native_threads,
            limit_seconds=seconds + END_SECONDS,
        )
    except (TimeoutError, Lost):
        raise OutOfTime from None


def _calls(runs: Runs, tasks: Sequence[int]) -> list[Call]:
    return [(runs.plan.entrypoint, runs.tasks[task].params, runs.tasks[task].seed) for task in tasks]


def growth(runs: Runs) -> growing.Growth | None:
    """How a process grows by its tasks; None when too few fit into the time. Growth is looked for twice."""
    pace = median(one.seconds for one in runs.reference.values())
    least, most = GROWTH_TASKS
    count = min(most, int(min(GROWTH_SECONDS, 0.1 * runs.lab.left()) / max(pace, 1e-6)))
    if count < least and least * pace < 0.1 * runs.lab.left():
        count = least
    if count < least:
        return None
    tasks = [number % len(runs.tasks) for number in range(count)]
    found = None
    with suppress(OutOfTime):
        found = growing.fit(probe(runs, tasks, Ask(memory=True)).resident_bytes)
        if found and found.leaks:
            found = growing.fit(probe(runs, tasks, Ask(memory=True)).resident_bytes) or found
    return found


def pollution(runs: Runs) -> Pollution | None:
    """The fewest tasks that change a later one's result, for the difference that has fewest before it."""
    first = runs.tallies["single-process"].first
    if first is None:
        return None
    before, victim = first[0], first[1].task
    hang_seconds = SOON_SECONDS if first[1].reason == TIMEOUT else 0.0

    def fails(sequence: Sequence[int], last: int) -> bool:
        try:
            probed = probe(runs, [*sequence, last], hang_seconds=hang_seconds)
        except OutOfTime:
            return False
        return _last(probed, last).key != runs.reference[last].key

    deadline = time.monotonic() + SEARCH_SHARE * runs.lab.left()
    found = polluter.find(before, victim, fails, deadline=deadline)
    if found is None:
        return None
    changes = ()
    with suppress(OutOfTime):
        changes = probe(runs, [*found.tasks, victim], Ask(changes=True), hang_seconds).changes
    calls = _calls(runs, (*found.tasks, victim))
    bundle = runs.bundle.path
    text = script.text(bundle, find_wire(bundle), calls[:-1], calls[-1], runs.native_threads)
    *earlier, last = (task_ref(runs, task) for task in (*found.tasks, victim))
    return Pollution(tuple(earlier), last, tuple(map(str, changes)), text)


def leak(runs: Runs, found: growing.Growth) -> Leak:
    """Growth, with the maxProcessReuse that keeps a process within its limit."""
    peak_bytes = max((one.peak_bytes for one in runs.reference.values()), default=0)
    most = growing.max_process_reuse(found, runs.limit_bytes, peak_bytes)
    return Leak(found.slope_bytes, found.low_bytes, found.high_bytes, most)


def changed(runs: Runs) -> tuple[str, ...]:
    """Files of the cached environment that are not as in a new one."""
    settings = named("cold").settings(runs.settings)
    try:
        return runs.lab.call(errands.changed, runs.bundle, settings, limit_seconds=runs.lab.left())
    except (TimeoutError, Lost):
        return ()


def chance(runs: Runs) -> tuple[SourceRef, ...]:
    """Where a model that differs in new processes takes its chance from."""
    tasks = runs.tallies["cold"].suspects[:2]
    deadline = time.monotonic() + SEARCH_SHARE * runs.lab.left()
    found = sources.find(lambda ask: probe(runs, tasks, ask), deadline=deadline)
    return tuple(SourceRef(one.kind, one.call, one.file, one.line, one.confirmed) for one in found)


def task_ref(runs: Runs, number: int) -> TaskRef:
    """A task of the sample, as a person names it."""
    task = runs.tasks[number]
    return TaskRef(f"{task.set}/{task.replicate}", task.params, task.seed)


def _last(probed: Probed, task: int) -> Seen:
    """How the last task of a probe ended: as an answer, or with the process."""
    if probed.reason:
        return Seen(0, task, "died", probed.reason)
    answer = probed.answers[-1]
    return seen(0, task, Outcome(answer.status, answer.outputs, answer.reason, answer.error))
