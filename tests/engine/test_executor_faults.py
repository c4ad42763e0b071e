"""What a model can do to the process that runs it: that one task has a typed outcome, and the next works."""

import os
import signal
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor

import pytest

from executor_helpers import FAULTS, children, descriptors, is_gone, settings, task
from helpers import wait_for
from modelops_dask import executors

KINDS = ["isolated_warm", "isolated_fork", "cold"]
FAULTS_AND_OUTCOMES = [  # fault, status, reason, in the error, in the log
    ("raises", "failed", "ValueError", "seed 1 is unlucky", "about to fail"),
    ("raises_oddly", "failed", "Odd", "Odd", ""),
    ("sys_exit", "failed", "SystemExit", "SystemExit: 3", ""),
    ("recurse", "failed", "RecursionError", "maximum recursion depth", ""),
    ("not_bytes", "failed", "TypeError", "list as 'table'; expected bytes", ""),
    ("prints_much", "failed", "ValueError", "after 100 MB", "the last line"),
    ("os_exit", "died", "exited with status 3", "ended its process", "leaving"),
    ("c_exit", "died", "exited with status 5", "ended its process", ""),
    ("crash", "died", "killed by signal 11", "Segmentation fault", "string_at"),
    ("closes_everything", "died", "connection closed", "descriptors", ""),
    ("returns_nothing", "failed", "TypeError", "returned NoneType; expected a dict of bytes", ""),
    ("closes_output", "ok", "", "", ""),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("caches")


@pytest.fixture(scope="module", params=KINDS)
def executor(request, folder):
    with executors.create(settings(folder, executor_type=request.param)) as running:
        yield running


@pytest.mark.parametrize(
    ("fault", "status", "reason", "error", "log"),
    FAULTS_AND_OUTCOMES,
    ids=[row[0] for row in FAULTS_AND_OUTCOMES],
)
def test_a_fault_costs_one_task(executor, folder, fault, status, reason, error, log):
    outcome = executor.run(task(FAULTS, settings(folder), fault))
    assert (outcome.status, outcome.reason) == (status, reason), outcome
    assert error in outcome.error
    assert log in outcome.log
    assert "runner.py" not in outcome.error
    assert len(outcome.log.encode()) <= 64 * 1024
    assert executor.run(task(FAULTS, settings(folder), "echo")).status == "ok"


@pytest.mark.parametrize("kind", ["isolated_warm", "cold"])
@pytest.mark.parametrize("fault", ["hang", "hang_deaf"])
def test_a_task_that_does_not_end_is_ended(folder, kind, fault):
    chosen = settings(folder, executor_type=kind, task_timeout_seconds=2)
    with executors.create(chosen) as executor, ThreadPoolExecutor(1) as threads:
        hung = threads.submit(executor.run, task(FAULTS, chosen, fault))
        runner = wait_for(executor.busy, "busy runner")[0]
        outcome = hung.result(timeout=60)
        assert (outcome.status, outcome.reason) == ("died", "TaskTimeout")
        assert outcome.error == "the task did not end within 2 s"
        assert outcome.log == "hanging\n"
        assert outcome.peak_bytes > 0
        assert is_gone(runner.pid)


def test_a_traceback_names_the_models_line(executor, folder):
    error = executor.run(task(FAULTS, settings(folder), "raises")).error
    assert 'wire.py", line' in error
    assert "in raises" in error


def test_what_a_task_printed_is_not_in_the_next_ones_log(executor, folder):
    executor.run(task(FAULTS, settings(folder), "echo"))
    outcome = executor.run(task(FAULTS, settings(folder), "sys_exit"))
    assert outcome.log == ""


@pytest.mark.parametrize("kind", ["isolated_warm", "cold"])  # a zygote and its child: test_executor_fork.py
def test_a_runner_killed_in_a_task_costs_that_task(folder, kind):
    chosen = settings(folder, executor_type=kind)
    with executors.create(chosen) as executor, ThreadPoolExecutor(1) as threads:
        hung = threads.submit(executor.run, task(FAULTS, chosen, "hang"))
        runner = wait_for(executor.busy, "busy runner")[0]
        wait_for(lambda: "hanging" in runner.log, "word from the model")
        os.kill(runner.pid, signal.SIGKILL)
        outcome = hung.result(timeout=20)
        assert (outcome.status, outcome.reason) == ("died", "killed by signal 9")
        assert executor.run(task(FAULTS, chosen)).status == "ok"


def test_a_runner_killed_while_idle_costs_nothing(folder):
    chosen = settings(folder)
    with executors.create(chosen) as executor:
        executor.run(task(FAULTS, chosen))
        (runner,) = executor.idle()
        os.kill(runner.pid, signal.SIGKILL)
        wait_for(lambda: is_gone(runner.pid), "end of the runner")
        assert executor.run(task(FAULTS, chosen)).status == "ok"


def test_a_stopped_runner_is_found_out_by_the_health_check(folder, monkeypatch):
    monkeypatch.setattr("modelops_dask.executors.pool.PING_AFTER_SECONDS", 0)
    monkeypatch.setattr("modelops_dask.executors.process.PING_SECONDS", 0.2)
    chosen = settings(folder)
    with executors.create(chosen) as executor:
        executor.run(task(FAULTS, chosen))
        (runner,) = executor.idle()
        os.kill(runner.pid, signal.SIGSTOP)
        assert executor.run(task(FAULTS, chosen)).status == "ok"
        assert is_gone(runner.pid)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fault", ["spawns", "forks", "spawns_session", "spawns_unmarked"])
@pytest.mark.parametrize("then", ["return", "exit"])
def test_what_a_model_started_ends_with_its_process(folder, tmp_path, kind, fault, then):
    chosen = settings(folder, executor_type=kind)
    pid_file = tmp_path / "pid"
    with executors.create(chosen) as executor:
        outcome = executor.run(task(FAULTS, chosen, fault, pid_file=str(pid_file), then=then))
        assert outcome.reason == ("exited with status 4" if then == "exit" else ""), outcome
        child = int(pid_file.read_text())
        if kind != "isolated_warm" or then == "exit":  # a warm process goes on with what the model started
            wait_for(lambda: is_gone(child), "end of the model's child")
        assert executor.run(task(FAULTS, chosen)).status == "ok"
        assert len(executor.idle()) == (0 if kind == "cold" else 1)
    wait_for(lambda: is_gone(child), "end of the model's child")


@pytest.mark.parametrize("kind", ["isolated_warm", "isolated_fork"])
@pytest.mark.parametrize("fault", ["hang", "hang_deaf"])
def test_runners_end_when_their_worker_is_killed(folder, tmp_path, fault, kind):
    """A worker that dies by SIGKILL can clean up nothing: its runner ends all the same, even in a task."""
    worker, pid_file = tmp_path / "worker.py", tmp_path / "pid"
    worker.write_text(
        textwrap.dedent(f"""
        import sys, threading
        from pathlib import Path
        sys.path[:0] = {sys.path!r}
        from executor_helpers import FAULTS, settings, task
        from helpers import wait_for
        from modelops_dask import executors
        chosen = settings(Path({str(folder)!r}), executor_type={kind!r})
        executor = executors.create(chosen)
        hung = task(FAULTS, chosen, {fault!r}, pid_file={str(pid_file)!r})
        threading.Thread(target=executor.run, args=(hung,), daemon=True).start()
        runner = wait_for(executor.busy, "busy runner")[0]
        wait_for(lambda: "hanging" in runner.log, "word from the model")
        print(runner.pid, flush=True)
        threading.Event().wait()
        """)
    )
    process = subprocess.Popen([sys.executable, worker], stdout=subprocess.PIPE, text=True)
    pid = int(process.stdout.readline())
    process.kill()
    process.wait()
    process.stdout.close()
    wait_for(lambda: is_gone(pid), "end of the runner")
    wait_for(lambda: is_gone(int(pid_file.read_text())), "end of the task")


@pytest.mark.parametrize(("kind", "tasks"), [("isolated_warm", 300), ("isolated_fork", 300), ("cold", 28)])
def test_many_tasks_leave_no_descriptor_and_no_process(folder, kind, tasks):
    chosen = settings(folder, executor_type=kind, max_process_reuse=20)
    faults = ["ok", "raises", "os_exit", "echo", "closes_everything", "c_exit", "sys_exit"]
    with executors.create(chosen) as executor:
        executor.run(task(FAULTS, chosen))
    descriptors_before, children_before = descriptors(), children()
    for _ in range(2):
        with executors.create(chosen) as executor:
            for number in range(tasks // 2):
                executor.run(task(FAULTS, chosen, faults[number % len(faults)], seed=number))
    assert descriptors() == descriptors_before
    assert children() == children_before


@pytest.mark.parametrize("kind", KINDS)
def test_leaving_the_executor_ends_a_task_that_still_runs(folder, kind):
    chosen = settings(folder, executor_type=kind)
    with ThreadPoolExecutor(1) as threads:
        with executors.create(chosen) as executor:
            hung = threads.submit(executor.run, task(FAULTS, chosen, "hang"))
            runner = wait_for(executor.busy, "busy runner")[0]
            wait_for(lambda: "hanging" in runner.log, "word from the model")
        with pytest.raises(RuntimeError, match="closed"):  # it says nothing of the task, which is no death
            hung.result(timeout=20)
        assert is_gone(runner.pid)
