"""Workers that are asked to go while a study runs: what they run is finished, and nothing is blamed."""

import threading
from contextlib import contextmanager

from distributed import Client

from helpers import wait_for
from modelops_dask.bundle import fetch
from modelops_dask.plan import spec
from modelops_dask.settings import Settings
from modelops_dask.shape import Shape
from modelops_dask.store import parts
from modelops_dask.store.files import Store
from modelops_dask.study.drive import drive
from modelops_dask.workers import drain
from modelops_dask.workers.local import local_cluster
from study_helpers import KNOBS, write_spec

GIB = 1024**3


@contextmanager
def cluster(tmp_path, threads=1):
    settings = Settings(executor_type="direct", bundles_cache_dir=tmp_path / "cache")
    with local_cluster(Shape(1, 2, threads, 2 * GIB), settings) as client:
        yield client


def rows(tmp_path):
    files = Store(str(tmp_path / "store"))
    for name in files.list(parts.FOLDER):
        with parts.open_part_file(files, name) as part:
            yield from part.read(columns=["set", "status"]).to_pylist()


def study_with_a_drain(tmp_path, *, patience_seconds, opens_first, n):
    """Drain one of the two workers of a study whose tasks last until a gate is opened: while the drain
    waits, or after it gave up. Returns the summary, and the worker, what it ran and what was left.
    """
    gate, drained = tmp_path / "gate", {}

    def leave(address):
        try:
            with Client(address, set_as_default=False) as client:
                worker = sorted(client.nthreads())[0]
                running = wait_for(lambda: batches_of(client, worker), "worker with a batch", 60)
                if opens_first:
                    told = threading.Timer(0.3, gate.touch)
                    told.start()
                drained["left"] = drain.drain(client, [worker], patience_seconds)
                drained["gone"] = wait_for(lambda: worker not in client.nthreads(), "end of the worker", 60)
                drained["worker"], drained["running"] = worker, running
        finally:
            gate.touch()

    with cluster(tmp_path) as client:
        leaving = threading.Thread(target=leave, args=[client.scheduler.address])
        leaving.start()
        summary = drive(
            spec.load(write_spec(tmp_path, n=n, until=str(gate))),
            fetch(str(KNOBS), tmp_path / "cache"),
            Store(str(tmp_path / "store")),
            lambda: _kept(client),
        )
        leaving.join(90)
    assert drained["running"] and drained["gone"]
    return summary, drained


def batches_of(client, worker):
    """The keys of the batches that a worker runs; it prepares the model's environment before."""
    return [key for key in client.run(drain.executing, workers=[worker])[worker] if "batch" in key]


@contextmanager
def _kept(client):
    yield client


def test_what_a_drained_worker_runs_is_finished_there_and_nothing_runs_twice(tmp_path):
    summary, drained = study_with_a_drain(tmp_path, patience_seconds=60, opens_first=True, n=8)
    assert drained["left"] == {}
    assert summary.counts == {"ok": 8, "failed": 0, "poisoned": 0, "pending": 0}
    assert sorted(row["set"] for row in rows(tmp_path)) == list(range(8)), "a task ran twice"


def test_what_outlives_the_patience_runs_elsewhere_and_is_not_blamed(tmp_path):
    summary, drained = study_with_a_drain(tmp_path, patience_seconds=0.2, opens_first=False, n=4)
    assert list(drained["left"]) == [drained["worker"]]
    assert summary.counts == {"ok": 4, "failed": 0, "poisoned": 0, "pending": 0}
    assert {row["status"] for row in rows(tmp_path)} == {"ok"}


def test_a_drain_without_a_scheduler_says_so_in_the_log_of_the_container_and_ends_well(tmp_path, monkeypatch):
    log = tmp_path / "log"
    log.touch()
    monkeypatch.setattr(drain, "LOG", log)
    monkeypatch.setattr(drain, "CONNECT_SECONDS", 1)
    drain.main("tcp://127.0.0.1:9", 30)
    assert log.read_text().startswith("ModelOps drain: no scheduler answers at tcp://127.0.0.1:9")


def test_the_hook_finds_the_workers_of_its_pod(tmp_path, monkeypatch):
    """Here the pod is this machine."""
    monkeypatch.setattr(drain, "LOG", log := tmp_path / "log")
    log.touch()
    with cluster(tmp_path) as client:
        drain.main(client.scheduler.address, 30)
        said = log.read_text()
        wait_for(lambda: not client.nthreads(), "end of the workers")
    assert said.startswith("ModelOps drain: done after ")


def test_tasks_of_plain_dask_are_finished_too(tmp_path):
    """Without a dispatcher: each of 16 tasks runs once."""

    def mark(number, folder):
        """On a worker, where it is sent by value: leave a new file each time it runs."""
        import tempfile
        import time

        tempfile.mkstemp(prefix=f"{number}-", dir=folder)
        time.sleep(0.3)
        return number

    with cluster(tmp_path) as client:
        marks = tmp_path / "marks"
        marks.mkdir()
        futures = client.map(mark, range(16), folder=str(marks), pure=False)
        wait_for(lambda: list(marks.iterdir()), "first mark")
        worker = sorted(client.nthreads())[1]
        assert drain.drain(client, [worker], 30) == {}
        assert client.gather(futures) == list(range(16))
        wait_for(lambda: worker not in client.nthreads(), "end of the worker")
    ran = [int(path.name.split("-")[0]) for path in marks.iterdir()]
    assert sorted(ran) == list(range(16)), "a task ran twice"
