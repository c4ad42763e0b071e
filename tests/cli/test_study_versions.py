"""`study run -d`: workers and a scheduler of other versions, or without the resources, are refused."""

import json
import shutil
import subprocess
import sys
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

import modelops_dask
from helpers import wait_for
from study_helpers import environ, mops_helm, write_spec

LOOPBACK = ["--host", "127.0.0.1", "--dashboard-address", "127.0.0.1:0"]


@contextmanager
def cluster(tmp_path: Path, *, worker_path: Path | None = None, scheduler_path: Path | None = None, words=()):
    """`dask scheduler` and `dask worker` as processes, each with a folder that goes before what is installed.

    Yields the scheduler's address.
    """
    file, started = tmp_path / "scheduler.json", []

    def start(name: str, path: Path | None, *more: object) -> None:
        environment = {**environ(tmp_path), "MODELOPS_EXECUTOR_TYPE": "direct"}
        if path:
            environment["PYTHONPATH"] = str(path)
        log = (tmp_path / f"{name}.log").open("wb")
        command = [sys.executable, "-m", "dask", name, "--scheduler-file", file, *LOOPBACK, *more]
        started.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=tmp_path))

    file.unlink(missing_ok=True)
    try:
        start("scheduler", scheduler_path, "--port", "0")
        wait_for(lambda: file.exists() and file.read_text().endswith("}"), "scheduler", 60)
        start("worker", worker_path, "--nthreads", "1", "--preload", "modelops_dask.worker", *words)
        yield json.loads(file.read_text())["address"]
    finally:
        for process in reversed(started):
            process.terminate()
        for process in started:
            process.wait(timeout=60)


def run(tmp_path: Path, address: str, **wanted) -> subprocess.CompletedProcess:
    return mops_helm("study", "run", write_spec(tmp_path, n=2, **wanted), "-d", address, cwd=tmp_path)


def test_workers_with_another_version_of_the_package(tmp_path):
    other = tmp_path / "site"
    shutil.copytree(Path(modelops_dask.__file__).parent, other / "modelops_dask")
    init = other / "modelops_dask" / "__init__.py"
    init.write_text(init.read_text().replace(modelops_dask.__version__, "0.0.7"))
    with cluster(tmp_path, worker_path=other) as address:
        done = run(tmp_path, address)
    assert done.returncode == 5 and "Traceback" not in done.stderr, done.stderr
    assert "it has modelops_dask 0.0.7, this machine has" in done.stderr
    assert f"mops-helm=={modelops_dask.__version__}" in done.stderr
    assert f"\n  dask worker {address} --preload modelops_dask.worker\n" in done.stderr


def test_a_scheduler_with_another_dask(tmp_path):
    """Its environment says so: package metadata is what a scheduler reports."""
    ours = metadata.distribution("distributed")
    other = tmp_path / "site" / "distributed-2025.1.0.dist-info"
    other.mkdir(parents=True)
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: distributed\nVersion: 2025.1.0\n")
    (other / "entry_points.txt").write_text(ours.read_text("entry_points.txt"))  # `dask scheduler`
    with cluster(tmp_path, scheduler_path=other.parent) as address:
        done = run(tmp_path, address)
    assert done.returncode == 5 and "Traceback" not in done.stderr, done.stderr
    assert f"The scheduler {address} has distributed 2025.1.0, but this machine has" in done.stderr


def test_resources_that_no_worker_offers(tmp_path):
    spec = write_spec(tmp_path, n=3)
    spec.write_text(json.dumps({**json.loads(spec.read_text()), "resources": {"process": 1}}))
    with cluster(tmp_path, words=["--resources", "gpu=1"]) as address:
        done = mops_helm("study", "run", spec, "-d", address, cwd=tmp_path)
    assert done.returncode == 5 and "Traceback" not in done.stderr, done.stderr
    assert "requests workers with process=1, but none of the 1 of" in done.stderr
    line = f'dask worker {address} --preload modelops_dask.worker --resources "process=1"'
    assert line in done.stderr
    more = ["--resources", "gpu=1 process=1"]
    with cluster(tmp_path, words=more) as address:
        done = mops_helm("study", "run", spec, "-d", address, "-o", "json", cwd=tmp_path)
    assert done.returncode == 0 and json.loads(done.stdout)["ok"] == 3, done.stderr
