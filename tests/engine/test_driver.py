"""The driver of a Job as a process, without a cluster: its chunks, its signals, its exit status."""

import json
import signal
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from helpers import wait_for
from modelops_dask.bundle import fetch
from modelops_dask.bundle.pack import pack
from modelops_dask.pod.driver import store_bundle
from modelops_dask.settings import Settings
from modelops_dask.store import verify
from modelops_dask.store.claim import FILE as CLAIM
from modelops_dask.store.claim import hold_claim
from modelops_dask.store.files import Store
from modelops_dask.store.redo import read_redos
from study_helpers import KNOBS, SMALL, environ, finish, mops_helm, parts_in, write_spec

SHAPE = {"replicas": 1, "processes": 1, "threads": 1, "pod_memory_bytes": 2**30, "resources": {}}


def driver(folder: Path, *args: object, executor: str = "direct") -> subprocess.Popen:
    """A driver of the study in a folder, with its store there."""
    command = ["-m", "modelops_dask.driver", "--spec", folder / "study.yaml", "--bundle", KNOBS]
    own = {"MODELOPS_EXECUTOR_TYPE": executor, "MODELOPS_EXECUTOR_ENVIRONMENT": "image"}
    return subprocess.Popen(
        [sys.executable, *map(str, command), "--store", str(folder / "store"), *map(str, args)],
        env=environ(folder) | own,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def chunk(folder: Path, index: int, count: int, **options: str) -> subprocess.Popen:
    return driver(folder, "--chunk", f"{index}/{count}", "--shape", json.dumps(SHAPE), **options)


def content(store: Path):
    """What the study returned, in order."""
    table = pq.read_table(store / "results" / "raw" / "y.parquet")
    status = pq.read_table(store / "results" / "replicates.parquet")
    return table, status.select(["set", "replicate", "seed", "param_id", "status"])


def test_chunks_side_by_side_come_to_what_one_run_comes_to_also_when_one_is_killed(tmp_path):
    spec = write_spec(tmp_path, n=150, replicates=2, seconds=0.02)
    alone = mops_helm("study", "run", spec, *SMALL, cwd=tmp_path)
    assert alone.returncode == 0, alone.stderr
    store = tmp_path / "store"
    chunks = [chunk(tmp_path, index, 3) for index in range(3)]
    try:
        wait_for(lambda: parts_in(store) >= 4 or chunks[1].poll() is not None, "some batches", 120)
        assert chunks[1].poll() is None, chunks[1].communicate()
        chunks[1].kill()
        ended = [finish(each) for each in chunks]
    finally:
        for each in chunks:
            each.kill()
    assert [each.returncode for each in ended] == [0, -signal.SIGKILL, 0], [each.stderr for each in ended]
    assert not (store / "results").exists(), "tables of a study that is not whole"
    assert "tasks of chunk 0 are ok" in ended[0].stderr
    again = finish(chunk(tmp_path, 1, 3))
    assert again.returncode == 0, again.stderr
    assert "All 300 tasks are ok" in again.stderr
    assert content(store) == content(tmp_path / "out" / "knobs")
    assert not list(store.glob("driver*.json")), "each removed its own"
    assert not verify.verify(str(store)).findings

    elsewhere = tmp_path / "elsewhere"  # with a cache that is empty: the store has the model
    elsewhere.mkdir()
    for words in (["try", store, "--task", "149/1"], ["verify", store, "--sample", "1"]):
        done = mops_helm("study", *words, *SMALL, cwd=elsewhere)
        assert done.returncode == 0, done.stderr


def test_a_chunk_with_failed_tasks_says_so_and_the_last_tells_of_all(tmp_path):
    write_spec(tmp_path, n=8, raises=[0])
    first = finish(chunk(tmp_path, 0, 2))
    assert first.returncode == 3, first.stderr
    assert "Of 4 tasks of chunk 0: 1 failed" in first.stderr
    last = finish(chunk(tmp_path, 1, 2))
    assert last.returncode == 3 and "Of 8 tasks: 1 failed" in last.stderr, last.stderr


def test_chunks_of_one_job_share_one_redo_also_when_a_pod_starts_again(tmp_path):
    write_spec(tmp_path, n=20)
    assert finish(chunk(tmp_path, 0, 1)).returncode == 0

    def redo_chunk(index, request):
        words = ("--redo", "all", "--redo-request", request)
        return driver(tmp_path, "--chunk", f"{index}/3", "--shape", json.dumps(SHAPE), *words)

    chunks = [redo_chunk(index, "one") for index in range(3)]
    ended = [finish(each) for each in chunks]
    assert [each.returncode for each in ended] == [0, 0, 0], [each.stderr for each in ended]
    store = Store(str(tmp_path / "store"))
    (redo,) = read_redos(store)
    assert redo.request == "one" and not verify.verify(store.location()).findings
    n_parts = parts_in(tmp_path / "store")
    again = finish(redo_chunk(1, "one"))
    assert again.returncode == 0 and len(read_redos(store)) == 1, again.stderr
    assert parts_in(tmp_path / "store") == n_parts, "nothing ran"
    other = finish(redo_chunk(0, "two"))
    assert len(read_redos(store)) == 2, other.stderr
    assert verify.verify(store.location()).tasks["pending"], "the other chunks have not come yet"


def test_told_to_stop_it_stores_what_runs_and_goes_on_later(tmp_path):
    write_spec(tmp_path, n=200, seconds=0.05)
    run = chunk(tmp_path, 0, 1)
    wait_for(lambda: parts_in(tmp_path / "store") >= 2 or run.poll() is not None, "2 batches", 120)
    run.send_signal(signal.SIGTERM)
    done = finish(run)
    assert done.returncode == 130, done.stderr
    assert "of 200 tasks are pending" in done.stderr
    kept = parts_in(tmp_path / "store")
    again = finish(chunk(tmp_path, 0, 1))
    assert again.returncode == 0 and "All 200 tasks are ok" in again.stderr, again.stderr
    assert parts_in(tmp_path / "store") > kept


@contextmanager
def dask_processes(folder: Path):
    """dask(words…): a process of Dask that ends with the `with`."""
    with ExitStack() as stack:

        def process(*words: object) -> subprocess.Popen:
            command = [sys.executable, "-m", "dask", *map(str, words), "--host", "127.0.0.1"]
            command += ["--dashboard-address", "127.0.0.1:0"]
            quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
            env = environ(folder) | {"MODELOPS_EXECUTOR_TYPE": "direct"}
            started = stack.enter_context(subprocess.Popen(command, env=env, **quiet))
            stack.callback(started.kill)
            return started

        yield process


def scheduler(dask, folder: Path, port: str = "0") -> tuple[subprocess.Popen, str]:
    file = folder / "scheduler.json"
    file.unlink(missing_ok=True)
    process = dask("scheduler", "--scheduler-file", file, "--port", port)
    wait_for(lambda: file.exists() and file.read_text().endswith("}"), "scheduler", 60)
    return process, json.loads(file.read_text())["address"]


def worker(dask, address: str) -> subprocess.Popen:
    return dask("worker", address, "--nthreads", "1", "--preload", "modelops_dask.worker")


def test_without_workers_it_ends_by_a_verdict(tmp_path):
    write_spec(tmp_path, n=4)
    with dask_processes(tmp_path) as dask:
        _, address = scheduler(dask, tmp_path)
        done = finish(driver(tmp_path, "--scheduler", address, "--wait-seconds", "1"))
    assert done.returncode == 4, done.stderr
    assert "no worker was available for 1 seconds" in done.stderr and "Traceback" not in done.stderr


def test_without_a_scheduler_it_leaves_it_to_the_job_to_try_again(tmp_path):
    write_spec(tmp_path, n=4)
    done = finish(driver(tmp_path, "--scheduler", "tcp://127.0.0.1:9", "--wait-seconds", "1"))
    assert done.returncode == 5 and "No Dask scheduler answers" in done.stderr, done.stderr


def test_a_scheduler_that_comes_back_is_waited_for_and_the_study_goes_on(tmp_path):
    write_spec(tmp_path, n=120, seconds=0.05)
    with dask_processes(tmp_path) as dask:
        first, address = scheduler(dask, tmp_path)
        worker(dask, address)
        run = driver(tmp_path, "--scheduler", address)
        wait_for(lambda: parts_in(tmp_path / "store") >= 2 or run.poll() is not None, "2 batches", 120)
        assert run.poll() is None, run.communicate()
        first.kill()
        scheduler(dask, tmp_path, port=address.rpartition(":")[2])
        worker(dask, address)
        done = finish(run)
    assert done.returncode == 0, done.stderr
    assert "The connection to the Dask scheduler was lost; continuing when it is back" in done.stderr
    assert "All 120 tasks are ok" in done.stderr


def test_the_bundle_is_in_the_store_once_and_workers_get_it_from_there(tmp_path):
    files, mine = Store(str(tmp_path / "store")), Settings(bundles_cache_dir=tmp_path / "mine")
    kept = store_bundle(str(KNOBS), files, mine)
    (archive,) = (tmp_path / "store" / "bundles").iterdir()
    assert archive.name == f"{kept.digest.removeprefix('sha256:')}.tar.gz"
    assert archive.read_bytes() == pack(kept)
    theirs = fetch(kept.source, tmp_path / "theirs", kept.digest)
    assert theirs.digest == kept.digest and (theirs.path / "wire.py").is_file()
    archive.write_bytes(b"of an earlier run")
    assert store_bundle(str(KNOBS), files, mine).source == kept.source
    assert archive.read_bytes() == b"of an earlier run", "put if absent"


def test_a_claim_is_one_runs_until_it_ends_or_grows_old(tmp_path):
    files = Store(str(tmp_path))
    with hold_claim(files, "a") as first, hold_claim(files, "b") as second, hold_claim(files, "a") as again:
        assert (first, second, again) == (True, False, True), "who was killed comes back to its own"
    assert not (tmp_path / CLAIM).exists()
    (tmp_path / CLAIM).write_text('{"who": "gone", "at": 0}')
    with hold_claim(files, "b") as mine:
        assert mine


@pytest.mark.parametrize(
    "words",
    ["--chunk 3/3", "--chunk 0/1", "--scheduler tcp://h:1 --retry ok", "--scheduler tcp://h:1 --redo fork"],
)
def test_arguments_that_mean_nothing_are_bad_input(tmp_path, words):
    write_spec(tmp_path)
    done = finish(driver(tmp_path, *words.split()))
    assert done.returncode == 2 and "error:" in done.stderr, done.stderr
