"""The embedded cluster: what its workers are told, and that nothing stays behind."""

import logging
import os
import signal
import subprocess
import sys
import textwrap
import threading

import dask
import distributed  # noqa: F401 (brings its defaults into dask.config)
import psutil
import pytest

from helpers import wait_for
from modelops_dask.errors import ClusterFailed
from modelops_dask.settings import Settings
from modelops_dask.shape import Shape
from modelops_dask.workers.local import local_cluster, machine

MIB = 1024**2
GIB = 1024**3


def test_workers_have_the_shape_the_settings_the_variables_and_the_dask_configuration(monkeypatch):
    def seen(dask_worker):
        """On a worker; sent by value, for it is defined in here."""
        return {
            "threads": dask_worker.state.nthreads,
            "limit": dask_worker.memory_manager.memory_limit,
            "resources": dict(dask_worker.state.total_resources),
            "pause": dask_worker.memory_manager.memory_pause_fraction,
            "spill": dask_worker.memory_manager.memory_spill_fraction,
            "profiled": any(thread.name == "Profile" for thread in threading.enumerate()),
            "omp": os.environ.get("OMP_NUM_THREADS"),
            "preset": dask_worker.modelops.settings.preset,
            "ignores": signal.getsignal(signal.SIGINT) is signal.SIG_IGN,
            "stdout": os.fstat(1).st_ino == os.fstat(2).st_ino,
            "address": dask_worker.address,
            "pid": os.getpid(),
        }

    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    settings = Settings(executor_type="direct", preset="somebody's")
    config = {"distributed": {"worker": {"memory": {"pause": 0.8, "spill": 0.91}}}}
    before = dask.config.get("distributed.worker.memory.spill")
    said = []
    shape = Shape(1, 1, 2, 512 * MIB, {"process": 1.0})
    with local_cluster(shape, settings, config, {"OMP_NUM_THREADS": "2"}, said.append) as client:
        (worker,) = client.run(seen).values()
    assert worker.pop("address").startswith("tcp://127.0.0.1:")
    pid = worker.pop("pid")
    assert worker == {
        "threads": 2,
        "limit": shape.process_memory_bytes,
        "resources": {"process": 1.0},
        "pause": False,
        "spill": 0.91,
        "profiled": False,
        "omp": "2",
        "preset": "somebody's",
        "ignores": True,
        "stdout": True,
    }
    assert said == []
    assert os.environ["OMP_NUM_THREADS"] == "7" and "MODELOPS_PRESET" not in os.environ
    assert dask.config.get("distributed.worker.memory.spill") == before
    assert not running(pid)


def test_a_shape_that_does_not_fit_is_reduced_and_it_says_so():
    cpus, _ = machine()
    said = []
    with local_cluster(
        Shape(3, cpus, 1, GIB * cpus), Settings(executor_type="direct"), say=said.append
    ) as client:
        assert len(client.nthreads()) <= cpus
    assert len(said) == 1 and f"{3 * cpus} processes" in said[0] and "reduced to" in said[0]


def test_workers_that_cannot_start_are_an_error_in_words(caplog):
    caplog.set_level(logging.CRITICAL)
    impossible = Settings(force_fresh_venv=True, executor_environment="image")
    with (
        pytest.raises(ClusterFailed, match="did not start") as failed,
        local_cluster(Shape(1, 1, 1, GIB), impossible),
    ):
        pass
    assert failed.value.exit_code == 5


def test_what_fails_while_workers_close_is_not_for_the_terminal(capfd):
    """A heartbeat that finds its connections closed, say: Dask's event loop logs it with a traceback."""

    def fail():
        from tornado.ioloop import IOLoop

        IOLoop.current().call_later(0, lambda: 1 / 0)

    with local_cluster(Shape(1, 1, 1, GIB), Settings(executor_type="direct")) as client:
        client.run(fail)
        client.run(os.getpid)  # behind it
    assert "ZeroDivisionError" not in capfd.readouterr().err


def test_workers_end_when_their_driver_is_killed():
    script = textwrap.dedent(
        """
        import sys, time
        from modelops_dask.workers.local import local_cluster
        from modelops_dask.settings import Settings
        from modelops_dask.shape import Shape
        if __name__ == "__main__":
            with local_cluster(Shape(1, 2, 1, 2 * 1024**3), Settings(executor_type="direct")) as client:
                print(*client.run(__import__("os").getpid).values(), flush=True)
                sys.stdin.read()
        """
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as driver:
        pids = [int(pid) for pid in driver.stdout.readline().split()]
        assert pids and all(psutil.pid_exists(pid) for pid in pids)
        driver.kill()
    wait_for(lambda: not any(running(pid) for pid in pids), "end of the workers")


def running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
