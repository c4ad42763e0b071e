"""A runner that retires has a successor: no task waits for an import that could have begun before."""

import os
import signal
from concurrent.futures import ThreadPoolExecutor

import pytest

from executor_helpers import FAULTS, children, descriptors, is_gone, settings, task, write_bundle
from helpers import wait_for
from modelops_dask import executors

MIB = 1024 * 1024

# Each import takes the next number; the import with the number in BLOCKED waits for a file.
SLOW = """
import os, threading, time
from pathlib import Path

GATES = Path({gates!r})
NUMBER = len(list(GATES.glob("import-*")))
(GATES / f"import-{{NUMBER}}").touch()
while (GATES / f"block-{{NUMBER}}").exists():
    time.sleep(0.01)

def wire(entrypoint, params, seed):
    return {{"pid": str(os.getpid())}}
"""


@pytest.fixture
def slow(tmp_path):
    """(bundle, folder of its gates)."""
    gates = tmp_path / "gates"
    gates.mkdir()
    return write_bundle(tmp_path / "slow", {"wire.py": SLOW.format(gates=str(gates))}), gates


def pid_of(outcome) -> int:
    assert outcome.status == "ok", outcome
    return int(outcome.outputs["pid"])


def test_the_successor_is_started_before_the_runner_retires(tmp_path):
    chosen = settings(tmp_path, max_process_reuse=2)
    with executors.create(chosen) as executor:
        one = task(FAULTS, chosen, "state")
        first = pid_of(executor.run(one))
        successor, retiring = executor.idle()
        assert retiring.pid == first
        assert pid_of(executor.run(one)) == first, "it still has its last task"
        assert is_gone(first)
        assert executor.idle() == [successor]
        assert pid_of(executor.run(one)) == successor.pid


def test_tasks_go_on_while_the_successor_imports(tmp_path, slow):
    source, gates = slow
    (gates / "block-1").touch()
    chosen = settings(tmp_path, max_process_reuse=3)
    with executors.create(chosen) as executor, ThreadPoolExecutor(1) as thread:
        one = task(source, chosen)
        first = [pid_of(executor.run(one)) for _ in range(3)]
        assert len(set(first)) == 1
        wait_for((gates / "import-1").exists, "second import")
        waiting = thread.submit(executor.run, one)
        wait_for(executor.busy, "task that waits for the import")
        assert not waiting.done()
        (gates / "block-1").unlink()
        assert pid_of(waiting.result(timeout=20)) not in first


def test_short_tasks_have_their_successor_started_earlier(tmp_path):
    source = write_bundle(
        tmp_path / "long",
        {
            "wire.py": "import os, threading\nthreading.Event().wait(1)\n"
            "def wire(entrypoint, params, seed):\n    return {'pid': str(os.getpid())}\n"
        },
    )
    chosen = settings(tmp_path, max_process_reuse=4)
    with executors.create(chosen) as executor:
        first = pid_of(executor.run(task(source, chosen)))
        assert [runner.pid for runner in executor.idle()] == [first], "not in the first half of its life"
        assert pid_of(executor.run(task(source, chosen))) == first  # two left: less than a second of work
        assert [runner.pid == first for runner in executor.idle()] == [False, True]


def test_the_successor_of_an_old_runner(tmp_path, monkeypatch):
    chosen = settings(tmp_path, process_ttl_seconds=1000)
    with executors.create(chosen) as executor:
        one = task(FAULTS, chosen, "state")
        first = pid_of(executor.run(one))
        (runner,) = executor.idle()
        monkeypatch.setattr(executor._pool, "_start_seconds", {one.bundle.digest: 500})
        monkeypatch.setattr(runner, "started_at", runner.started_at - 600)
        assert pid_of(executor.run(one)) == first
        successor, retiring = executor.idle()
        monkeypatch.setattr(retiring, "started_at", retiring.started_at - 1000)
        assert pid_of(executor.run(one)) == successor.pid
        assert is_gone(first)


@pytest.mark.parametrize("room", [{"max_warm_processes": 1}, {"memory_limit_bytes": 160 * MIB + 1}])
def test_without_room_the_runner_retires_first(tmp_path, room):
    memory = room.pop("memory_limit_bytes", None)
    chosen = settings(tmp_path, max_process_reuse=2, **room)
    with executors.create(chosen, memory) as executor:
        one = task(FAULTS, chosen, "state")
        first = pid_of(executor.run(one))
        assert [runner.pid for runner in executor.idle()] == [first]
        assert pid_of(executor.run(one)) == first
        assert pid_of(executor.run(one)) != first


def test_a_successor_that_dies_costs_no_task(tmp_path):
    chosen = settings(tmp_path, max_process_reuse=2)
    with executors.create(chosen) as executor:
        one = task(FAULTS, chosen, "state")
        first = [pid_of(executor.run(one)) for _ in range(2)]
        (successor,) = executor.idle()
        os.kill(successor.pid, signal.SIGKILL)
        os.waitid(os.P_PID, successor.pid, os.WEXITED | os.WNOWAIT)  # a busy kernel may end it later
        assert pid_of(executor.run(one)) not in {*first, successor.pid}


def test_leaving_ends_a_successor_amid_its_import(tmp_path, slow):
    source, gates = slow
    (gates / "block-1").touch()
    chosen = settings(tmp_path, max_process_reuse=2)
    with executors.create(chosen) as executor:
        executor.run(task(source, chosen))
        successor = executor.idle()[0].pid
        wait_for((gates / "import-1").exists, "second import")
    assert is_gone(successor)


@pytest.mark.parametrize(("kind", "tasks"), [("isolated_warm", 10_000), ("isolated_fork", 2_000)])
def test_thousands_of_tasks_leave_nothing_behind(tmp_path, kind, tasks):
    chosen = settings(tmp_path, executor_type=kind, max_process_reuse=500)
    source = write_bundle(
        tmp_path / "empty", {"wire.py": "def wire(entrypoint, params, seed):\n    return {'out': '1'}\n"}
    )
    processes = children()
    with executors.create(chosen) as executor:
        one = task(source, chosen)
        executor.run(one)
        held = descriptors()
        runner = executor.idle()[-1]
        before = descriptors(runner.pid)
        for _ in range(tasks):
            assert executor.run(one).status == "ok"
        # Eventually, because a child or a successor may be starting.
        wait_for(lambda: descriptors() <= held + 4, "at most the descriptors of a successor more")
        runner = executor.idle()[-1]
        wait_for(lambda: descriptors(runner.pid) <= before + 3, "at most those of a spare child more")
        wait_for(lambda: len(children() - processes) <= 2, "at most two processes more")
    assert children() == processes
    assert descriptors() <= held
