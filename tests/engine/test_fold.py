"""Fold: the rules, one by one, and together against a plain loop over dicts."""

import random
from collections import Counter

import pytest

from modelops_dask.executors import runner
from modelops_dask.plan.plan import FAILED, POISONED, STATES
from modelops_dask.store import parts
from modelops_dask.store.conditions import describe_differences
from modelops_dask.store.fold import Failure, fold
from store_helpers import attempt, begin, mark, with_seeds


@pytest.fixture
def plan(files, tmp_path):
    return begin(files, tmp_path)


def test_nothing_done(files, plan):
    state = fold(files, plan)
    assert state.counts() == {"ok": 0, "failed": 0, "poisoned": 0, "pending": 12}
    assert state.pending_ranges() == [(0, 12)] and state.failures == []


@pytest.mark.parametrize(
    "rows, expected",
    [
        (["ok"], "ok"),
        (["failed"], "pending"),
        (["failed", "died", "failed"], "failed"),
        (["failed", "failed", "failed", "ok"], "ok"),
        (["poisoned"], "poisoned"),
        (["poisoned", "failed", "failed", "failed"], "poisoned"),
        (["poisoned", "ok"], "ok"),
        (["died", "died"], "pending"),
    ],
)
@pytest.mark.parametrize("together", [True, False])
def test_rules(files, plan, rows, expected, together):
    attempts = [attempt(plan, 1, 2, status) for status in rows]
    for part in [attempts] if together else [[row] for row in attempts]:
        parts.write(files, part)
    state = fold(files, plan, max_attempts=3)
    assert STATES[state.codes[1, 2]] == expected
    assert state.attempts[1, 2] == len(rows)
    assert sum(state.counts().values()) == 12


def test_failures_by_reason(files, plan):
    parts.write(files, [attempt(plan, 0, i, "failed", reason="ValueError") for i in range(3)])
    parts.write(files, [attempt(plan, 0, 2, "failed", reason="KeyError"), attempt(plan, 0, 0)])
    parts.write(
        files,
        [attempt(plan, 2, 3, "died", reason="OOM"), attempt(plan, 2, 3, "poisoned", reason="died alone")],
    )
    state = fold(files, plan, max_attempts=2)
    assert {(f.state, f.count, f.set, f.replicate) for f in state.failures} == {
        ("pending", 1, 0, 1),
        ("failed", 1, 0, 2),
        ("poisoned", 1, 2, 3),
    }
    assert next(f for f in state.failures if f.state == "poisoned").reason == "died alone"
    assert sum(f.count for f in state.failures) == 3, "a task counts once"


def test_retry_makes_failed_and_poisoned_pending_again(files, plan):
    parts.write(files, [attempt(plan, 0, 0, "failed"), attempt(plan, 0, 1, "poisoned"), attempt(plan, 0, 2)])
    state = fold(files, plan, max_attempts=1)
    assert state.counts() == {"ok": 1, "failed": 1, "poisoned": 1, "pending": 9}
    assert state.retry(FAILED).counts()["pending"] == 10
    again = state.retry(FAILED, POISONED)
    assert again.counts() == {"ok": 1, "failed": 0, "poisoned": 0, "pending": 11}
    assert again.attempts[0].tolist() == [0, 0, 1, 0] and again.pending_ranges() == [(0, 2), (3, 12)]
    assert state.counts()["failed"] == 1, "the state itself stays"


@pytest.mark.parametrize("together", [True, False])
def test_conflicts_are_two_ok_rows_that_differ(files, plan, together):
    rows = [
        attempt(plan, 0, 0),
        attempt(plan, 0, 0),
        attempt(plan, 1, 0),
        attempt(plan, 1, 0, outputs={"raw": b"other"}),
    ]
    for part in [rows] if together else [[row] for row in rows]:
        parts.write(files, part)
    state = fold(files, plan)
    assert state.conflicts == [(1, 0)] and state.counts()["ok"] == 2


def test_torn_and_foreign_files_are_named_and_passed_over(files, plan):
    good = parts.write(files, [attempt(plan, 0, 0)])
    files.put("parts/torn.parquet", files.read(good)[:-20])
    files.put("parts/empty.parquet", b"")
    files.put("parts/notes.txt", b"mine")
    state = fold(files, plan)
    assert state.counts()["ok"] == 1 and state.files == 1
    assert {name: reason.partition(":")[0] for name, reason in state.skipped.items()} == {
        "torn.parquet": "torn",
        "empty.parquet": "torn",
        "notes.txt": "foreign",
    }


def test_results_of_different_conditions_are_told_in_a_line(files, plan):
    parts.write(files, [attempt(plan, 0, i, threads=1, environment="e1") for i in range(3)])
    assert describe_differences(fold(files, plan).conditions) == ""
    parts.write(files, [attempt(plan, 1, 0, threads=8, environment="e1"), attempt(plan, 1, 1, "failed")])
    line = describe_differences(fold(files, plan).conditions)
    assert "different numbers of native threads: 1 thread (3 results); 8 threads (1 result)" in line
    assert "e1" not in line and "\n" not in line
    parts.write(files, [attempt(plan, 1, 2, threads=1, environment="e2")])
    assert "environment e2 (1 result)" in describe_differences(fold(files, plan).conditions)


def test_rows_outside_the_plan_are_counted(files, plan, tmp_path):
    parts.write(files, [attempt(plan, 2, 0), attempt(plan, 0, 3), attempt(plan, 0, 0)])
    smaller = begin(files, tmp_path, sets="[{a: 1}, {a: 2}]", replicates=2)
    state = fold(files, smaller)
    assert (state.counts()["ok"], state.outside) == (1, 2)


def test_many_attempts_do_not_wrap_around(files, plan):
    parts.write(files, [attempt(plan, 0, 0, "failed")] * 200)
    parts.write(files, [attempt(plan, 0, 0, "failed")] * 100)
    state = fold(files, plan)
    assert state.attempts[0, 0] == 255 and state.counts()["failed"] == 1


def simple_fold(rows, n_sets, replicates, max_attempts):
    """The rules as a loop."""
    tries, oks, poisoned = Counter(), {}, set()
    for row in rows:
        task = (row.set, row.replicate)
        tries[task] += 1
        if row.status == "ok":
            oks.setdefault(task, set()).add(tuple(sorted(row.outputs.items())))
        elif row.status == "poisoned":
            poisoned.add(task)
    states = {}
    for task in ((s, r) for s in range(n_sets) for r in range(replicates)):
        if task in oks:
            states[task] = "ok"
        elif task in poisoned:
            states[task] = "poisoned"
        else:
            states[task] = "failed" if tries[task] >= max_attempts else "pending"
    return states, tries, sorted(task for task, outputs in oks.items() if len(outputs) > 1)


@with_seeds(40)
def test_random_attempts_against_a_plain_loop(files, tmp_path, seed):
    print("seed", seed)
    rng = random.Random(seed)
    n_sets, replicates, max_attempts = rng.randint(1, 6), rng.randint(1, 5), rng.randint(1, 4)
    plan = begin(
        files, tmp_path, sets=f"[{', '.join(f'{{a: {i}}}' for i in range(n_sets))}]", replicates=replicates
    )
    rows = []
    for _ in range(rng.randint(0, 8)):
        part = [
            attempt(
                plan,
                rng.randrange(n_sets),
                rng.randrange(replicates),
                status := rng.choice(["ok", "failed", "failed", "died", "poisoned"]),
                reason=rng.choice(["", "A", "B"]),
                outputs={"x": rng.choice([b"1", b"1", b"2"])} if status == "ok" else {},
            )
            for _ in range(rng.randint(1, 12))
        ]
        parts.write(files, part)
        rows += part
    if rng.random() < 0.5 and rows:
        files.put("parts/torn.parquet", parts.encode(rows, mark(files))[: rng.randrange(200)])
    state = fold(files, plan, max_attempts)
    states, tries, conflicts = simple_fold(rows, n_sets, replicates, max_attempts)
    assert {(s, r): STATES[state.codes[s, r]] for s, r in states} == states
    assert {(s, r): int(state.attempts[s, r]) for s, r in states} == {task: tries[task] for task in states}
    assert state.conflicts == conflicts
    pending = [i for start, stop in state.pending_ranges() for i in range(start, stop)]
    assert pending == [s * replicates + r for (s, r), name in sorted(states.items()) if name == "pending"]
    tried = [task for task, name in states.items() if name != "ok" and tries[task]]
    assert sum(failure.count for failure in state.failures) == len(tried)
    for failure in state.failures:
        assert isinstance(failure, Failure) and states[failure.set, failure.replicate] == failure.state
        assert failure.reason in {
            row.reason for row in rows if (row.set, row.replicate) == (failure.set, failure.replicate)
        }


def test_a_death_for_want_of_memory_counts_at_the_present_limit_only(files, plan):
    gib = 2**30
    short = {"reason": runner.OUT_OF_MEMORY, "limit_bytes": gib}
    rows = [attempt(plan, 1, 2, "died", **short), attempt(plan, 1, 2, "poisoned", **short)]
    rows += [attempt(plan, 0, 0, "poisoned", reason="killed by signal 11", limit_bytes=gib)]
    parts.write(files, rows)
    assert fold(files, plan).counts()["poisoned"] == 2
    assert fold(files, plan, task_bytes=gib + 1).counts()["poisoned"] == 2, "nearly the same is the same"
    more = fold(files, plan, task_bytes=2 * gib)
    assert STATES[more.codes[1, 2]] == "pending" and more.attempts[1, 2] == 0
    assert STATES[more.codes[0, 0]] == "poisoned", "more memory does not mend a crash"
