"""`study run -d`: workers that run elsewhere, and how those that cannot run studies are refused."""

import json
import logging
import subprocess
import sys
from contextlib import ExitStack

import dask
import pytest
from click.testing import CliRunner
from distributed import Client, LocalCluster

from helpers import wait_for
from limits_helpers import cgroup_of_memory
from modelops_dask.errors import BadInput
from modelops_dask.settings import Settings
from modelops_dask.shape import Shape
from modelops_dask.workers.local import local_cluster
from modelops_dask.workers.memory import ask_workers
from modelops_dask.workers.remote import NoScheduler, check, connect
from mops_helm.main import main
from study_helpers import SMALL, environ, finish, mops_helm, parts_in, start, write_spec

GIB = 1024**3


def test_a_study_runs_on_workers_that_are_there_and_leaves_them(tmp_path):
    settings = Settings(executor_type="direct", bundles_cache_dir=tmp_path / "their-cache")
    with local_cluster(Shape(1, 1, 1, GIB), settings) as client:
        before = client.nthreads()
        address = client.scheduler.address
        done = mops_helm(
            "study", "run", write_spec(tmp_path, n=30), "-d", address, "-o", "json", cwd=tmp_path
        )
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["ok"] == 30
        assert client.nthreads() == before
        mixed = mops_helm(
            "study", "run", tmp_path / "study.yaml", "-d", address, "--preset", "cold", cwd=tmp_path
        )
        assert mixed.returncode == 2 and "leave out --preset" in mixed.stderr


def test_workers_without_the_preload_are_refused_with_the_line_that_starts_them(tmp_path):
    with (
        LocalCluster(
            n_workers=1, threads_per_worker=1, dashboard_address=":0", worker_dashboard_address=None
        ) as dask,
        Client(dask, set_as_default=False),
    ):
        done = mops_helm("study", "run", write_spec(tmp_path), "-d", dask.scheduler_address, cwd=tmp_path)
    assert done.returncode == 5
    assert "without the preload" in done.stderr
    assert f"dask worker {dask.scheduler_address} --preload modelops_dask.worker" in done.stderr


def test_a_scheduler_that_does_not_answer(tmp_path, monkeypatch):
    monkeypatch.setattr("modelops_dask.workers.remote.ANSWER_SECONDS", 0.5)
    monkeypatch.chdir(tmp_path)
    spec = write_spec(tmp_path)
    done = CliRunner().invoke(main, ["study", "run", str(spec), "-d", "tcp://127.0.0.1:9"])
    assert done.exit_code == 5
    assert "No Dask scheduler answers at tcp://127.0.0.1:9" in done.stderr


@pytest.mark.parametrize("address", ["http://127.0.0.1:8787", "foo://h:1", "inproc://127.0.0.1:1"])
def test_an_address_of_another_kind(address):
    with pytest.raises(BadInput, match=r"write e\.g\. tcp://HOST:8786"), connect(address, answer_seconds=1):
        pass


def test_what_dask_says_of_a_broken_connection_is_not_for_the_terminal(tmp_path):
    settings = Settings(executor_type="direct", bundles_cache_dir=tmp_path / "their-cache")
    log = logging.getLogger("distributed.batched")
    assert log.isEnabledFor(logging.INFO)
    with local_cluster(Shape(1, 1, 1, GIB), settings) as client:
        assert not log.isEnabledFor(logging.ERROR)
        address = client.scheduler.address
        with connect(address):
            assert not log.isEnabledFor(logging.ERROR)
    assert log.isEnabledFor(logging.INFO)


def test_where_no_task_fits_into_its_workers_the_run_stops_with_values_for_their_release(tmp_path):
    file, loopback = (
        tmp_path / "scheduler.json",
        ["--host", "127.0.0.1", "--dashboard-address", "127.0.0.1:0"],
    )
    spec = write_spec(tmp_path, n=8, hungry=list(range(8)))
    worker = ["worker", "--scheduler-file", file, "--nworkers", "2", "--nthreads", "1", *loopback]
    env = environ(tmp_path) | {"MODELOPS_EXECUTOR_ENVIRONMENT": "image"}
    quiet = {"env": env, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    dask = [sys.executable, "-m", "dask"]
    with ExitStack() as stack:
        join = stack.enter_context(cgroup_of_memory(800 * 1024**2))
        for command in (
            [*dask, "scheduler", "--scheduler-file", file, "--port", "0", *loopback],
            [*join, *dask, *worker, "--memory-limit", "350MiB", "--preload", "modelops_dask.worker"],
        ):
            started = stack.enter_context(subprocess.Popen(command, **quiet))
            stack.callback(started.terminate)
            wait_for(lambda: file.exists() and file.read_text().endswith("}"), "scheduler")
        address = json.loads(file.read_text())["address"]
        with Client(address, set_as_default=False) as client:
            client.wait_for_workers(2, timeout=120)
        done = mops_helm("study", "run", spec, "-d", address, cwd=tmp_path)
    assert done.returncode == 4, done.stderr
    assert "With these values in the workers' release, a task can use" in done.stderr
    assert "workers:\n  processes: 1\n  memoryPerProcess: " in done.stderr
    assert "workers:\n  processes: 2\n  memoryPerProcess: " in done.stderr, "as many as are in a pod now"


def test_an_address_without_a_port(tmp_path):
    done = mops_helm("study", "run", write_spec(tmp_path), "-d", "nonsense", cwd=tmp_path)
    assert done.returncode == 2
    assert "nonsense is not the address of a scheduler" in done.stderr and "Traceback" not in done.stderr


def test_a_scheduler_that_goes_before_it_was_asked_is_said(tmp_path):
    file = tmp_path / "scheduler.json"
    loopback = ["--host", "127.0.0.1", "--dashboard-address", "127.0.0.1:0"]
    command = [sys.executable, "-m", "dask", "scheduler", "--scheduler-file", file, "--port", "0", *loopback]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, **quiet) as scheduler:
        try:
            wait_for(lambda: file.exists() and file.read_text().endswith("}"), "scheduler")
            short = dask.config.set({"distributed.comm.timeouts.connect": "500ms"})
            with short, Client(json.loads(file.read_text())["address"], set_as_default=False) as client:
                scheduler.kill()
                scheduler.wait()
                with pytest.raises(NoScheduler, match="no longer answers"):
                    check(client, answer_seconds=5)
                assert ask_workers(client, {}) is None
        finally:
            scheduler.kill()


def test_a_store_that_the_workers_do_not_see(tmp_path):
    settings = Settings(executor_type="direct", bundles_cache_dir=tmp_path / "their-cache")
    spec = write_spec(tmp_path)
    with local_cluster(Shape(1, 1, 1, GIB), settings) as client:
        address = client.scheduler.address
        done = mops_helm("study", "run", spec, "-d", address, "--store", "memory://here", cwd=tmp_path)
    assert done.returncode == 2
    assert "cannot reach the store memory://here" in done.stderr


def test_a_scheduler_that_is_killed_ends_the_run_and_the_store_goes_on(tmp_path):
    file = tmp_path / "scheduler.json"
    dask = [sys.executable, "-m", "dask"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    spec = write_spec(tmp_path, n=100, seconds=0.05)
    with ExitStack() as stack:

        def process(*words):
            environment = {**environ(tmp_path), "MODELOPS_EXECUTOR_TYPE": "direct"}
            started = stack.enter_context(subprocess.Popen([*dask, *words], env=environment, **quiet))
            stack.callback(started.kill)
            return started

        loopback = ["--host", "127.0.0.1", "--dashboard-address", "127.0.0.1:0"]
        scheduler = process("scheduler", "--scheduler-file", file, "--port", "0", *loopback)
        wait_for(lambda: file.exists() and file.read_text().endswith("}"), "scheduler")
        process(
            "worker",
            "--scheduler-file",
            file,
            "--nthreads",
            "1",
            "--preload",
            "modelops_dask.worker",
            *loopback,
        )
        run = start("study", "run", spec, "-d", json.loads(file.read_text())["address"], cwd=tmp_path)
        wait_for(lambda: parts_in(tmp_path / "out" / "knobs") >= 2 or run.poll() is not None, "2 batches", 60)
        scheduler.kill()
        done = finish(run)
    assert done.returncode == 5, done.stderr
    assert "run the same command to continue" in done.stderr and "Traceback" not in done.stderr
    again = mops_helm("study", "run", spec, *SMALL, "-o", "json", cwd=tmp_path)
    assert json.loads(again.stdout)["ok"] == 100, again.stderr
