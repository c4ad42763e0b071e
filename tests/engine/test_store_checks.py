"""What self-checks compared, as the store keeps it, and when a difference counts."""

import json
from dataclasses import replace

import pytest

from modelops_dask.store import checks, parts
from modelops_dask.store.checks import Comparison, RunCheck, describe, read_self_check
from modelops_dask.store.files import Store
from modelops_dask.store.fold import read_generations
from store_helpers import attempt, begin


@pytest.fixture
def files(tmp_path):
    return Store(str(tmp_path / "store"))


@pytest.fixture
def plan(files, tmp_path):
    plan = begin(files, tmp_path, replicates=2)
    parts.write(files, [attempt(plan, *divmod(index, 2)) for index in range(6)])
    return plan


def comparison(plan, number, replicate, outcome="equal", **more) -> Comparison:
    """Of the row that counts for a task."""
    row = attempt(plan, number, replicate)
    digest = parts.outputs_digest(row.outputs).hex()
    return Comparison(number, replicate, digest, "isolated_warm", outcome, **more)


def test_a_check_is_read_as_it_was_written(files, plan):
    check = RunCheck(
        (comparison(plan, 0, 1, "different", outputs=("a", "b"), cause="order", equal_replicates=True),),
        skipped="why",
        seconds=1.5,
        processors=("x",),
    )
    checks.write(files, check)
    assert checks.read(files) == [check]


def test_fields_of_later_versions_and_files_that_are_none_are_passed_over(files, plan):
    name = checks.write(files, RunCheck((comparison(plan, 0, 0),)))
    content = json.loads(files.read(name))
    content["later"] = 1
    content["comparisons"][0]["later"] = [2]
    files.put("checks/later.json", json.dumps(content).encode())
    for name, text in {"torn": "{", "list": "[]", "other": '{"comparisons": [1]}', "empty": "{}"}.items():
        files.put(f"checks/{name}.json", text.encode())
    assert len(checks.read(files)) == 2
    assert read_self_check(files, plan, read_generations(files, plan)).n_equal == 1, "of one task"


def test_without_a_check_nothing_is_said(files, plan):
    assert read_self_check(files, plan, read_generations(files, plan)) is None


def test_a_difference_counts_as_long_as_its_row_does(files, plan):
    different = comparison(plan, 2, 0, "different", outputs=("raw",), cause="order")
    for other in (
        replace(different, set=1),  # of another digest
        replace(comparison(plan, 0, 0), outcome="different", generation=1),
        replace(comparison(plan, 0, 1), outcome="different", digest="00" * 16),
        replace(comparison(plan, 0, 1), outcome="different", set=70),
    ):
        checks.write(files, RunCheck((other,)))
        self_check = read_self_check(files, plan, read_generations(files, plan))
        assert self_check is None or self_check.different == ()
    checks.write(files, RunCheck((different, comparison(plan, 1, 1))))
    checks.write(files, RunCheck((replace(different, outcome="equal", outputs=(), cause=""),)))
    self_check = read_self_check(files, plan, read_generations(files, plan))
    assert self_check.different == (different,), "an equal run of a later check does not settle it"
    assert self_check.n_equal == 1 and self_check.n_compared == 2


def test_the_words_name_what_was_compared_tasks_outputs_and_causes(files, plan):
    checks.write(files, RunCheck((), skipped="a task alone takes 90 s"))
    assert describe(read_self_check(files, plan, read_generations(files, plan))) == [
        "Self-check: no task was compared: a task alone takes 90 s."
    ]
    checks.write(files, RunCheck((comparison(plan, 0, 0),)))
    (line,) = describe(read_self_check(files, plan, read_generations(files, plan)))
    assert line == "Self-check: 1 task compared with a run alone in a new process, all equal."
    checks.write(
        files,
        RunCheck(
            (
                comparison(plan, 1, 0, "different", outputs=("raw",), cause="order"),
                comparison(plan, 1, 1, "different", reason="it failed: KeyError", cause="seed"),
                comparison(plan, 2, 1, "not comparable", reason="the worker had other packages"),
            )
        ),
    )
    first, order, seed, last = describe(read_self_check(files, plan, read_generations(files, plan)))
    assert first == "Self-check: 3 tasks compared with a run alone in a new process, 2 different."
    assert order.startswith("1/0 (raw): run alone, the task always returns the same")
    assert seed.startswith("1/1 (it failed: KeyError): ") and "does not come from the seed" in seed
    assert last == "Not comparable: 2/1 (the worker had other packages)."
