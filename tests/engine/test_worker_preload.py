"""The preload in real Dask workers: what it logs, offers, refuses and leaves behind."""

import os
import re
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
from distributed import Client, LocalCluster

from executor_helpers import (
    FAULTS,
    busy_runners,
    is_gone,
    pid_of_runner,
    run_here,
    runtime_of,
    settings,
    task,
)
from helpers import wait_for

MIB = 1024 * 1024


@contextmanager
def cluster(folder, monkeypatch, threads=1, **chosen):
    """A worker process with the preload, its settings in the environment as in a pod."""
    for name, value in settings(folder, **chosen).to_env().items():
        monkeypatch.setenv(name, value)
    with (
        LocalCluster(
            n_workers=1,
            threads_per_worker=threads,
            memory_limit=1024 * MIB,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            preload=["modelops_dask.worker"],
        ) as local,
        Client(local) as client,
    ):
        yield client


def test_a_worker_runs_tasks_as_its_settings_say(tmp_path, monkeypatch):
    with cluster(tmp_path, monkeypatch, threads=2, preset="baseline", subprocess_pool_size=4) as client:
        outcome = client.submit(run_here, task(FAULTS, settings(tmp_path), "ok", seed=5)).result(timeout=60)
        assert outcome.outputs["out"] == b"({}, 5)"
        runtime = client.submit(runtime_of).result(timeout=20)
    assert (runtime.settings.preset, runtime.threads) == ("baseline", 2)
    assert runtime.memory_limit_bytes == 1024 * MIB
    assert runtime.runner_limit_bytes == (1024 - 160) * MIB // 4


def test_runners_end_with_their_worker(tmp_path, monkeypatch):
    with cluster(tmp_path, monkeypatch) as client:
        client.submit(run_here, task(FAULTS, settings(tmp_path))).result(timeout=60)
        pid = client.submit(pid_of_runner).result(timeout=20)
        assert not is_gone(pid)
    wait_for(lambda: is_gone(pid), "end of the runner")


def test_a_killed_worker_takes_the_runner_of_its_task_along(tmp_path, monkeypatch):
    with cluster(tmp_path, monkeypatch) as client:
        client.submit(run_here, task(FAULTS, settings(tmp_path), "hang_deaf"), retries=0)
        (found,) = wait_for(
            lambda: [pids for pids in client.run(busy_runners).values() if pids], "busy runner", 60
        )
        (worker,) = client.run(os.getpid).values()
        os.kill(worker, signal.SIGKILL)
        wait_for(lambda: is_gone(found[0]), "end of the runner")


@pytest.fixture
def scheduler():
    process = subprocess.Popen(
        [sys.executable, "-m", "dask", "scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard"],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        address = ""
        while not address:
            line = process.stderr.readline()
            assert line, "the scheduler ended"
            address = "".join(re.findall(r"Scheduler at:\s+(tcp://\S+)", line))
        yield address
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def start_worker(scheduler: str, log: Path, folder: Path, **variables: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "dask", "worker", scheduler, "--nworkers", "1", "--nthreads", "1"]
    command += ["--memory-limit", "1GiB", "--no-dashboard", "--preload", "modelops_dask.worker"]
    environment = os.environ | settings(folder).to_env() | variables
    return subprocess.Popen(command, env=environment, stderr=log.open("w"), cwd=folder)


def test_the_log_has_one_line_with_what_is_in_effect(tmp_path, scheduler):
    log = tmp_path / "log"
    process = start_worker(
        scheduler, log, tmp_path, MODELOPS_PRESET="fresh-venv", MODELOPS_FORCE_FRESH_VENV="true"
    )
    try:
        wait_for(lambda: "ModelOps runtime" in log.read_text(), "line in the log", 60)
    finally:
        process.terminate()
        process.wait()
    (line,) = [line for line in log.read_text().splitlines() if "ModelOps runtime" in line]
    facts = dict(re.findall(r"(\w+)=(\S+)", line))
    assert (facts["preset"], facts["executor"]) == ("fresh-venv", "isolated_warm")
    assert (facts["environment"], facts["force_fresh_venv"], facts["threads"]) == ("bundle", "true", "1")
    assert facts["memory_limit_bytes"] == str(1024 * MIB)
    assert facts["child_limit_bytes"] == str((1024 - 160) * MIB)
    assert facts["distributed"] and facts["python"] == sys.version.split()[0]


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("MODELOPS_EXECUTOR_TYPE", "isolated_forked", "expected one of isolated_warm, isolated_fork, cold"),
        ("MODELOPS_PROCESS_TTL", "1h", "MODELOPS_PROCESS_TTL='1h': expected a whole number"),
    ],
)
def test_a_worker_with_settings_it_cannot_use_ends(tmp_path, scheduler, name, value, said):
    log = tmp_path / "log"
    process = start_worker(scheduler, log, tmp_path, **{name: value})
    try:
        assert process.wait(timeout=60) != 0
    finally:
        process.kill()
        process.wait()
    assert "ModelOps cannot start: " in log.read_text()
    assert said in log.read_text()


def test_type_none_is_plain_dask(tmp_path, monkeypatch):
    with cluster(tmp_path, monkeypatch, executor_type="none") as client:
        assert client.submit(runtime_of).result(timeout=60).settings.executor_type == "none"
        assert client.submit(sum, [1, 2]).result(timeout=20) == 3
