"""Which rows a self-check compares, what fits its budget, and what a difference is taken for."""

import random

import pytest

from modelops_dask.store import parts
from modelops_dask.store.files import Store
from modelops_dask.study.check import fit
from modelops_dask.study.comparison import compare, explain
from modelops_dask.study.late_rows import StoredRow, choose
from modelops_dask.study.lone import LoneResult
from store_helpers import attempt, begin


@pytest.fixture
def files(tmp_path):
    return Store(str(tmp_path / "store"))


def tasks_of(rows):
    return [(row.values["set"], row.values["replicate"]) for row in rows]


# Which rows


@pytest.fixture
def written(files, tmp_path):
    """Write parts of rows (set, replicate, runner, number) or (..., status), of 6 sets, 4 replicates."""
    plan = begin(files, tmp_path, sets=str([{"a": number} for number in range(6)]), replicates=4)

    def write(*batches):
        for rows in batches:
            parts.write(
                files,
                [
                    attempt(plan, number, replicate, *status)._replace(runner=runner, runner_task=runner_task)
                    for number, replicate, runner, runner_task, *status in rows
                ],
            )
        return plan

    return write


def test_the_last_rows_of_different_lives_come_first_then_other_sets(files, written):
    plan = written(
        [(0, 0, "a", 1), (0, 1, "a", 2), (0, 2, "a", 3)],
        [(1, 0, "b", 1), (1, 1, "b", 2)],
        [(2, 0, "a", 4), (2, 1, "a", 5), (3, 0, "b", 3)],
    )
    rows = tasks_of(choose(files, plan, 3, ()))
    assert rows[:2] == [(2, 1), (3, 0)] and rows[2][0] in (0, 1)
    assert set(rows[2:4]) <= {(0, 2), (1, 1)} and len(set(rows)) == len(rows)


def test_forks_of_one_process_are_one_life(files, written):
    plan = written([(0, 0, "z.1", 1), (1, 0, "z.2", 1), (2, 0, "z.10", 1)], [(3, 0, "y.3", 1)])
    assert tasks_of(choose(files, plan, 2, ()))[:2] == [(2, 0), (3, 0)]


def test_only_ok_rows_of_this_run_and_of_the_plan_count(files, written):
    written([(5, 0, "a", 90)])
    before = set(files.list("parts"))
    plan = written([(0, 0, "a", 91, "failed"), (1, 0, "a", 92)], [(2, 0, "b", 1, "died")])
    assert tasks_of(choose(files, plan, 3, before)) == [(1, 0)]
    assert choose(files, plan, 3, files.list("parts")) == [], "a run that stored nothing checks nothing"


def test_of_very_many_lives_a_few_rows_are_enough(files, written):
    shuffled = [(number, replicate) for number in range(6) for replicate in range(4)]
    random.Random(3).shuffle(shuffled)
    plan = written([(*task, f"r{place}", 1) for place, task in enumerate(shuffled)])
    rows = choose(files, plan, 3, ())
    assert len({row.life for row in rows}) == len(rows) == 24


# What fits


def row(seconds=0.1, number=5, runner_task=5, **values):
    outputs = {"a": b"1", "b": b"2"}
    return StoredRow(
        life="r",
        number=number,
        order=0,
        values={
            "set": 0,
            "replicate": 0,
            "seconds": seconds,
            "threads": 1,
            "environment": "e",
            "executor": "isolated_warm",
            "runner_task": runner_task,
            "generation": None,
            "left_out": None,
            "digest": parts.outputs_digest(outputs),
            "output_digests": [(name, parts.outputs_digest({name: data})) for name, data in outputs.items()],
            **values,
        },
    )


@pytest.mark.parametrize(
    ("task_seconds", "start_seconds", "run_seconds", "n_workers", "n_chosen"),
    [
        (0.1, 0.5, 1, 1, 3),  # 10 s hold three
        (1, 4, 1, 1, 2),  # 10 s hold two, one after another
        (1, 4, 1, 3, 3),  # and three side by side
        (59, 19, 1, 1, 1),  # one is checked all the same
        (61, 1, 1, 1, 0),
        (1, 21, 1, 1, 0),
        (61, 21, 20 * 83, 1, 1),  # 5% of a long run hold a long task
        (61, 21, 20 * 83, 3, 3),
        (1, 0, 20 * 200, 1, 3),  # never more than were asked for
    ],
)
def test_one_task_is_checked_unless_it_is_long_and_others_within_the_budget(
    task_seconds, start_seconds, run_seconds, n_workers, n_chosen
):
    rows = [row(task_seconds) for _ in range(10)]
    chosen, skipped = fit(rows, 3, n_workers, start_seconds, run_seconds)
    assert len(chosen) == n_chosen
    assert bool(skipped) == (not chosen) and (chosen or "a self-check may take only 10 s" in skipped)


def test_a_shorter_task_is_checked_where_the_last_one_is_too_long():
    short = row(2)
    chosen, _ = fit([row(500), row(400), short], 3, 1, 1, 10)
    assert chosen == [short]


# What a difference means


def lone(status="ok", reason="", threads=1, environment="e", **outputs):
    outputs = {name: data for name, data in ({"a": b"1", "b": b"2"} | outputs).items() if data is not None}
    return LoneResult(
        status=status,
        reason=reason,
        digest=parts.outputs_digest(outputs),
        digests={name: parts.outputs_digest({name: data}) for name, data in outputs.items()},
        threads=threads,
        environment=environment,
    )


def single(**values):
    return row(digest=parts.outputs_digest({"a": b"1"}), output_digests=None, **values)


@pytest.mark.parametrize(
    ("stored", "result", "volatile", "outcome", "outputs"),
    [
        (row(), lone(), (), "equal", ()),
        (row(), lone(a=b"x"), (), "different", ("a",)),
        (row(), lone(a=b"x", b=b"y"), ("b",), "different", ("a",)),
        (row(), lone(b=b"y"), ("b",), "equal", ()),
        (row(), lone(b=None), (), "different", ("b",)),
        (row(), lone(c=b"3"), (), "different", ("c",)),
        (row(), lone(), ("a", "b"), "not comparable", ()),
        (row(), lone(a=b"x"), ("a", "b"), "not comparable", ()),
        (single(), lone(b=None), (), "equal", ()),
        (single(), lone(a=b"x", b=None), (), "different", ("a",)),
        (single(), lone(a=b"x", b=None), ("a",), "not comparable", ()),
        (row(), lone(environment="other", threads=8), (), "equal", ()),
        (row(), lone(a=b"x", environment="other"), (), "not comparable", ()),
        (row(), lone(a=b"x", threads=8), (), "not comparable", ()),
        (row(), lone("failed", "KeyError"), (), "different", ()),
        (row(), lone("failed", "KeyError", environment="other"), (), "not comparable", ()),
        (row(), lone("died", "TaskOOM"), (), "not comparable", ()),
        (row(), None, (), "not comparable", ()),
    ],
)
def test_bytes_are_compared_output_by_output_under_like_conditions(
    stored, result, volatile, outcome, outputs
):
    comparison = compare(stored, result, volatile)
    assert (comparison.outcome, comparison.outputs) == (outcome, outputs)
    assert (outcome == "not comparable") <= bool(comparison.reason)


OTHER = lone(a=b"x")


@pytest.mark.parametrize(
    ("stored", "second", "replicate", "is_one_kind", "cause", "equal_replicates"),
    [
        (row(), OTHER, None, True, "order", False),
        (row(runner_task=1), OTHER, None, True, "outside", False),
        (row(), lone(a=b"z"), None, True, "seed", False),
        (row(), lone("failed", "E"), None, True, "seed", False),
        (row(), None, None, True, "", False),
        (row(), OTHER, lone(a=b"x", b=b"of its seed"), True, "order", True),
        (row(), OTHER, lone(a=b"w"), True, "order", False),
        (row(), OTHER, None, False, "order", False),
    ],
)
def test_a_second_run_and_another_replicate_tell_the_cause(
    stored, second, replicate, is_one_kind, cause, equal_replicates
):
    comparison = explain(
        compare(stored, OTHER, ()), stored, (OTHER, second), replicate, is_one_kind=is_one_kind
    )
    assert (comparison.outcome, comparison.cause) == ("different", cause)
    assert comparison.equal_replicates == equal_replicates


def test_two_kinds_of_processors_that_disagree_prove_nothing():
    comparison = explain(compare(row(), OTHER, ()), row(), (OTHER, lone(a=b"z")), None, is_one_kind=False)
    assert comparison.outcome == "not comparable" and "processors" in comparison.reason
