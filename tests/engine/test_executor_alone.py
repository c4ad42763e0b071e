"""A task alone: under every executor it has a new process, the packages and the limits of others."""

import os
import time

import pytest

from executor_helpers import FAULTS, is_gone, settings, task, write_bundle
from modelops_dask import executors
from modelops_dask.environments import venv

KINDS = executors.TYPES
MIB = 1024 * 1024


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("caches")


@pytest.mark.parametrize("kind", KINDS)
def test_a_task_alone_has_a_process_that_ran_no_other_and_ends_with_it(folder, kind):
    chosen = settings(folder, executor_type=kind, executor_environment="image")
    with executors.create(chosen) as executor:
        shared = [executor.run(task(FAULTS, chosen, "state")) for _ in range(2)]
        alone = [executor.run_alone(task(FAULTS, chosen, "state")) for _ in range(2)]
        after = executor.run(task(FAULTS, chosen, "state"))
        assert [outcome.status for outcome in (*shared, *alone, after)] == ["ok"] * 5
        pids = [int(outcome.outputs["pid"]) for outcome in alone]
        assert len({*pids, *(int(outcome.outputs["pid"]) for outcome in shared)}) == 2 + len(
            {outcome.outputs["pid"] for outcome in shared}
        )
        assert [outcome.outputs["before"] for outcome in alone] == [b"0", b"0"]
        assert [outcome.runner_task for outcome in alone] == [1, 1]
        assert all(is_gone(pid) for pid in pids)
        carries = kind in ("isolated_warm", "direct")
        assert int(after.outputs["before"]) == (2 if carries else 0), "the others' state is as it was"
        assert executor.start_seconds(task(FAULTS, chosen).bundle) > 0


@pytest.mark.parametrize("kind", KINDS)
def test_conditions_on_record_are_those_of_the_other_tasks(folder, kind, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    chosen = settings(folder, executor_type=kind, executor_environment="image")
    with executors.create(chosen) as executor:
        shared, alone = executor.run(task(FAULTS, chosen)), executor.run_alone(task(FAULTS, chosen))
    assert shared.environment == alone.environment == venv.digest_of_process()
    assert shared.threads == alone.threads == 3 and shared.outputs == alone.outputs


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "direct"])
def test_a_task_alone_keeps_to_the_limit_of_memory(folder, kind):
    chosen = settings(folder, executor_type=kind, executor_environment="image")
    with executors.create(chosen, 900 * MIB, runner_limit_bytes=300 * MIB) as executor:
        outcome = executor.run_alone(task(FAULTS, chosen, "allocates", mib=2000))
    assert (outcome.status, outcome.reason) == ("died", "TaskOOM")
    assert outcome.limit_bytes >= 300 * MIB


def test_what_fails_alone_says_so(folder):
    chosen = settings(folder, executor_environment="image")
    with executors.create(chosen) as executor:
        outcome = executor.run_alone(task(FAULTS, chosen, "raises"))
    assert outcome.status == "failed"


POLLUTES = """
import os, time
def wire(entrypoint, params, seed):
    found = [os.environ.get("LEFT", ""), oct(os.umask(0o077)), time.localtime(0).tm_hour]
    os.environ.update(LEFT="by a task", TZ="UTC-5")
    time.tzset()
    return {"found": repr(found).encode()}
"""


@pytest.mark.parametrize("kind", KINDS)
def test_what_tasks_left_in_the_worker_is_not_inherited(folder, tmp_path, kind, monkeypatch):
    """A new process has its parent's variables and umask, and the parent may be where `direct` runs tasks."""
    for name, value in {"LEFT": "", "TZ": "UTC"}.items():
        monkeypatch.setenv(name, value)
    source = write_bundle(tmp_path / "bundle", {"wire.py": POLLUTES})
    chosen = settings(folder, executor_type=kind, executor_environment="image")
    umask = os.umask(0o022)
    try:
        with executors.create(chosen) as executor:
            first = executor.run(task(source, chosen)).outputs
            executor.run(task(source, chosen))
            assert executor.run_alone(task(source, chosen)).outputs == first
    finally:
        os.umask(umask)
        monkeypatch.undo()
        time.tzset()
