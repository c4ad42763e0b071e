"""How much is sent at a time, and what becomes of what came back."""

import math
import random
from contextlib import contextmanager

import pytest
from distributed import SchedulerPlugin

from helpers import wait_for
from modelops_dask.bundle import fetch
from modelops_dask.errors import Stopped
from modelops_dask.plan import spec
from modelops_dask.plan.plan import Plan, Request, tabulate
from modelops_dask.plan.sampling import Explicit
from modelops_dask.settings import Settings
from modelops_dask.shape import MIB, Shape, for_task
from modelops_dask.store import parts
from modelops_dask.store.files import Store
from modelops_dask.store.fold import fold
from modelops_dask.study.backlog import CAUTION, GROWTH, WINDOW, Backlog, Pace, count, halve
from modelops_dask.study.batch import Batch, Failed, Receipt, as_ranges
from modelops_dask.study.breaker import DEATHS_AT_FIRST, DEATHS_IN_A_ROW, Breaker, OutOfMemory
from modelops_dask.study.dispatch import Limits
from modelops_dask.study.drive import drive
from modelops_dask.study.ledger import Ledger
from modelops_dask.workers.local import local_cluster
from study_helpers import KNOBS, write_spec


def test_what_is_taken_and_given_back_is_neither_lost_nor_doubled():
    seed = random.randrange(2**32)
    print("seed", seed)
    rng = random.Random(seed)
    backlog = Backlog([(0, 50), (60, 61), (70, 300)])
    everything = {*range(50), 60, *range(70, 300)}
    held = []
    for _ in range(500):
        if held and rng.random() < 0.4:
            ranges = held.pop(rng.randrange(len(held)))
            (backlog.put_first if rng.random() < 0.5 else backlog.put_last)(ranges)
        elif ranges := backlog.take(rng.randrange(1, 40)):
            held.append(ranges)
        assert len(backlog) + sum(map(count, held)) == len(everything)
    held.append(backlog.take(len(backlog)))
    seen = [index for ranges in held for start, stop in ranges for index in range(start, stop)]
    assert sorted(seen) == sorted(everything)


def test_given_back_first_is_taken_next_in_order():
    backlog = Backlog([(10, 20)])
    backlog.put_first([(0, 2), (4, 6)])
    assert backlog.take(5) == ((0, 2), (4, 6), (10, 11))


def test_what_rests_is_unfinished_and_taken_when_its_time_has_come():
    backlog = Backlog([])
    assert not backlog.unfinished and backlog.rest_seconds(now=0) == math.inf
    backlog.put_later([(7, 8)], due=5)
    backlog.put_later([(3, 4)], due=2)
    backlog.wake(now=1.5)
    assert backlog.unfinished and not backlog and backlog.rest_seconds(now=1.5) == 0.5
    backlog.wake(now=2)
    assert backlog.take(9) == ((3, 4),) and backlog.unfinished
    backlog.wake(now=6)
    assert backlog.take(9) == ((7, 8),) and not backlog.unfinished


def test_halves_hold_the_same_tasks_and_end_at_single_ones():
    first, second = halve([(0, 1), (5, 10)])
    assert (first, second) == (((0, 1), (5, 7)), ((7, 10),))


def test_the_first_batch_is_one_task_and_the_next_grow_by_steps():
    pace = Pace(batch_seconds=1.0)
    assert pace.size(remaining=10**9, slots=4, places=8) == 1
    pace.learn(1, 0.000001)
    assert pace.size(remaining=10**9, slots=4, places=8) == GROWTH
    pace.learn(GROWTH, GROWTH * 0.000001)
    assert pace.size(remaining=10**9, slots=4, places=8) == 1_000_000


def test_a_batch_takes_the_time_it_should_and_shrinks_at_the_end():
    pace = Pace(batch_seconds=1.0)
    pace.learn(1000, 10.0)
    assert pace.size(remaining=10**6, slots=4, places=1) == 100
    assert pace.size(remaining=160, slots=4, places=1) == 20
    assert pace.size(remaining=16, slots=4, places=1) == 6  # 0.06 s: no smaller, for storing has its price
    assert pace.size(remaining=16, slots=4, places=8) == 2  # but nobody takes what others could have now
    pace.learn(1, 3600)
    assert pace.size(remaining=10**6, slots=4, places=1) == 1


def test_a_canary_that_imported_the_model_does_not_keep_batches_small():
    pace = Pace(batch_seconds=1.0)
    pace.learn(1, 5.0)
    pace.learn(99, 0.99)
    assert pace.task_seconds == pytest.approx(0.05 + 0.0099)
    pace.learn(20, 20.0)  # and tasks that take longer are heard at once, although there are fewer
    assert pace.task_seconds > 0.5


def test_deaths_make_batches_smaller_until_some_came_back():
    pace = Pace(batch_seconds=1.0)
    pace.learn(1000, 10.0)
    assert pace.window == WINDOW
    pace.record_loss()
    assert pace.window == 1, "none waits behind another"
    pace.learn(1000, 10.0)
    assert pace.window == WINDOW
    for _ in range(20):
        pace.record_loss()
    assert pace.window == 1 and pace.size(remaining=10**6, slots=4, places=1) == 100 / CAUTION // 1
    for _ in range(40):
        pace.learn(10, 0.1)
    assert pace.window == WINDOW and pace.size(remaining=10**6, slots=4, places=1) == 100


class Held(SchedulerPlugin):
    """What a scheduler has at once, at most: tasks that are not done, of one worker, and all it knows."""

    def __init__(self, scheduler):
        self.scheduler = scheduler
        self.seen = set()
        self.not_done = self.of_a_worker = self.known = 0

    def transition(self, key, start, finish, *args, **kwargs):
        self.seen.add(key)
        states = [task.state for task in self.scheduler.tasks.values() if task.state != "forgotten"]
        self.known = max(self.known, len(states))
        self.not_done = max(self.not_done, sum(state not in ("memory", "erred") for state in states))
        processing = [len(worker.processing) for worker in self.scheduler.workers.values()]
        self.of_a_worker = max(self.of_a_worker, *processing)


@pytest.mark.parametrize("threads", [1, 2])
def test_the_scheduler_never_holds_more_than_the_window_of_each_worker(tmp_path, threads):
    settings = Settings(executor_type="direct", bundles_cache_dir=tmp_path / "cache")
    found = []

    @contextmanager
    def watched():
        with local_cluster(Shape(1, 2, threads, 2048 * MIB), settings) as client:
            scheduler = client.cluster.scheduler
            found.extend([held := Held(scheduler), sum(client.nthreads().values())])
            scheduler.add_plugin(held)
            yield client
            wait_for(lambda: not scheduler.tasks, "end of what the scheduler holds")

    loaded = spec.load(write_spec(tmp_path, n=1000, rests=0.002))
    bundle, store = fetch(str(KNOBS), tmp_path / "cache"), Store(str(tmp_path / "store"))
    summary = drive(loaded, bundle, store, watched, limits=Limits(batch_seconds=0.05))
    assert summary.counts["ok"] == 1000
    held, slots = found
    assert len(held.seen) > 5 * slots, "too few batches to say anything"
    assert held.not_done == 2 * slots, "one runs and one waits in each slot"
    assert held.of_a_worker == 2 * threads
    # Those that are done are forgotten once their receipts have come, just after the next were sent.
    assert held.known <= 4 * slots


def test_ranges_of_indices():
    assert as_ranges([0, 1, 2, 5, 7, 8]) == ((0, 3), (5, 6), (7, 9))
    assert as_ranges([]) == ()


@pytest.fixture
def plan() -> Plan:
    table = tabulate(Explicit([({"x": x}, None if x % 5 else x) for x in range(40)]).chunks({}))
    return Plan("m.f/s", table, Request(3, ((0, 40),)))


def test_the_ledger_counts_what_a_fold_of_the_same_rows_finds(plan, tmp_path):
    seed = random.randrange(2**32)
    print("seed", seed)
    rng = random.Random(seed)
    files = Store(str(tmp_path))
    ledger, state = Ledger(plan, fold(files, plan, 4), 4), fold(files, plan, 4)
    backlog = Backlog(state.pending_ranges())
    for _ in range(60):
        if not (ranges := backlog.take(rng.randrange(1, 15))):
            break
        tasks = list(plan.tasks(ranges))
        begun = tasks[: rng.randrange(1, len(tasks) + 1)]
        rows, failed = [], []
        batch = Batch(None, "part", ranges, 1.0, ledger.find_lost_before(ranges))
        for task in begun:
            index = plan.index(task.set, task.replicate)
            status = rng.choices(["ok", "failed", "died"], [6, 3, 2])[0]
            if status == "died" and index in batch.died:
                status = "poisoned"
            rows.append(parts.Attempt(task.set, task.replicate, task.seed, status, reason="reason"))
            if status != "ok":
                failed.append(Failed(index, status, "reason"))
        parts.write(files, rows)
        left = as_ranges(plan.index(task.set, task.replicate) for task in tasks[len(begun) :])
        _, again = ledger.settle(batch, Receipt(tuple(failed), left, 0.1, 0))
        backlog.put_first(left)
        backlog.put_last(as_ranges(again))
        folded = fold(files, plan, 4)
        assert ledger.counts == folded.counts()
    assert len(backlog) == ledger.counts["pending"]
    progress = ledger.progress(2.0, 1)
    assert progress.done == progress.ended_here == plan.n_tasks - ledger.counts["pending"]


def test_deaths_in_a_row_stop_the_run_and_a_completed_task_forgives_them():
    breaker = Breaker(completed_before=True)
    for _ in range(DEATHS_IN_A_ROW - 1):
        breaker.record_death("3/1", workers=1)
    breaker.record_completion()
    for _ in range(DEATHS_IN_A_ROW - 1):
        breaker.record_death("3/1", workers=1)
    with pytest.raises(Stopped, match="task 4/2") as stopped:
        breaker.record_death("4/2", workers=1)
    assert stopped.value.exit_code == 4 and "more memory per process" in str(stopped.value)


def test_while_nothing_ever_completed_few_deaths_are_enough():
    breaker = Breaker()
    for _ in range(DEATHS_AT_FIRST - 1):
        breaker.record_death("3/1", workers=1)
    with pytest.raises(Stopped):
        breaker.record_death("3/1", workers=1)


def test_tasks_too_large_for_a_pod_stop_a_study_of_which_nothing_ever_completed():
    breaker = Breaker()
    for size in (300, 200):
        breaker.record_out_of_memory("0/0", Failed(0, "poisoned", "TaskOOM", size * MIB, 250 * MIB))
    with pytest.raises(OutOfMemory, match="task 2/0") as stopped:
        last = Failed(2, "poisoned", "TaskOOM", 0, 250 * MIB, evidence="ValueError: out of memory")
        breaker.record_out_of_memory("2/0", last)
    assert 'The last was task 2/0: "ValueError: out of memory".' in str(stopped.value)
    assert "None held more than 300 MiB." in str(stopped.value)
    assert stopped.value.exit_code == 4 and stopped.value.limit_bytes == 300 * MIB
    assert stopped.value.needed_bytes == 1200 * MIB and "300 MiB" in str(stopped.value)
    breaker = Breaker(completed_before=True)
    for _ in range(50):
        breaker.record_out_of_memory("2/0", Failed(2, "poisoned", "TaskOOM", 0, 250 * MIB))


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_a_shape_for_a_task_leaves_it_so_much_alone_in_a_pod(processes):
    shape = for_task(Shape(4, 4, 1, 4 * 1024 * MIB), processes, 3000 * MIB, 160 * MIB)
    alone = 0.9 * shape.pod_memory_bytes - processes * 160 * MIB
    assert 3000 * MIB <= alone < 3400 * MIB
    assert shape.processes == processes and shape.process_memory_bytes % (64 * MIB) == 0


def test_a_node_that_takes_many_workers_along_is_not_yet_a_verdict():
    breaker = Breaker()
    for _ in range(40):
        breaker.record_death("0/0", workers=32)
