"""Real worker processes that die while a study runs: what becomes of the tasks, and of whoever stood near."""

import os
import random
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue

import pytest
from distributed import Client, LocalCluster

from helpers import wait_for
from modelops_dask.bundle import fetch
from modelops_dask.errors import Stopped
from modelops_dask.plan import spec
from modelops_dask.plan.plan import Request
from modelops_dask.settings import Settings
from modelops_dask.shape import Shape
from modelops_dask.store import parts
from modelops_dask.store.files import Store
from modelops_dask.store.fold import fold
from modelops_dask.store.identity import PartMark
from modelops_dask.store.study import read_plan
from modelops_dask.study import events
from modelops_dask.study.batch import RunContext
from modelops_dask.study.dispatch import Limits
from modelops_dask.study.drive import Watcher, drive
from modelops_dask.study.prepare import prepare
from modelops_dask.workers.local import local_cluster
from modelops_dask.workers.remote import SchedulerLost
from study_helpers import KNOBS, write_spec

GIB = 1024**3


@contextmanager
def cluster(tmp_path: Path, threads: int = 1):
    settings = Settings(executor_type="direct", bundles_cache_dir=tmp_path / "cache")
    with local_cluster(Shape(1, 2, threads, 2 * GIB), settings) as client:
        yield client


def study(tmp_path: Path, threads: int = 1, limits: Limits = Limits(), on_progress=lambda _: None, **wanted):  # noqa: B008
    """Run a study of the knobs bundle under `direct`, where a task that ends its process ends a worker."""
    files = Store(str(tmp_path / "store"))
    loaded = spec.load(write_spec(tmp_path, **wanted))
    return drive(
        loaded,
        fetch(str(KNOBS), tmp_path / "cache"),
        files,
        lambda: cluster(tmp_path, threads),
        limits=limits,
        watcher=Watcher(progress=on_progress),
    )


def rows(tmp_path: Path) -> list[dict]:
    files = Store(str(tmp_path / "store"))
    found = []
    for name in files.list(parts.FOLDER):
        with parts.open_part_file(files, name) as part:
            found += part.read(columns=["set", "replicate", "status", "reason"]).to_pylist()
    return found


@pytest.mark.parametrize("threads", [1, 2])
def test_a_task_that_kills_its_worker_is_poisoned_alone(tmp_path, threads):
    summary = study(tmp_path, threads, n=60, kills=[7])
    assert summary.counts == {"ok": 59, "failed": 0, "poisoned": 1, "pending": 0}
    assert summary.exit_code == 3
    killed = [row for row in rows(tmp_path) if row["status"] != "ok"]
    assert [(row["set"], row["status"]) for row in sorted(killed, key=lambda row: row["status"])] == [
        (7, "died"),
        (7, "poisoned"),
    ]
    assert (summary.failures[0].reason, summary.failures[0].set) == ("WorkerDied", 7)


def test_a_task_that_may_do_better_is_tried_again_after_pauses_that_grow(tmp_path):
    """By the files' own times: a part is written at the end of an attempt."""
    limits = Limits(max_attempts=3, retry_seconds=0.5)
    summary = study(tmp_path, limits=limits, n=1, lonely=[0])
    assert summary.counts["failed"] == 1
    times = sorted(path.stat().st_mtime for path in (tmp_path / "store" / "parts").iterdir())
    assert len(times) == 3
    assert times[1] - times[0] >= 0.5 and times[2] - times[1] >= 1.0


@pytest.mark.parametrize("knob, n_attempts", [("raises", 2), ("lonely", 4)])
def test_a_task_that_always_fails_gets_two_attempts_or_four_where_it_might_do_better(
    tmp_path, knob, n_attempts
):
    for _ in range(2):
        summary = study(tmp_path, limits=Limits(retry_seconds=0.01), n=3, **{knob: [1]})
        assert summary.counts == {"ok": 2, "failed": 1, "poisoned": 0, "pending": 0}
        found = sorted((row["set"], row["status"]) for row in rows(tmp_path))
        assert found == [(0, "ok"), *[(1, "failed")] * n_attempts, (2, "ok")]
    assert summary.run_progress is None, "nothing was left for a second run"


def test_a_study_of_nothing_but_deaths_is_stopped_with_what_was_seen(tmp_path):
    with pytest.raises(Stopped, match=r"worker processes died.*last was task \d+/0") as stopped:
        study(tmp_path, n=30, kills=list(range(30)))
    assert stopped.value.exit_code == 4
    state = fold(Store(str(tmp_path / "store")), read_plan(Store(str(tmp_path / "store"))))
    assert state.counts()["ok"] == 0 and state.counts()["poisoned"] > 0


def test_without_workers_the_run_stops_instead_of_waiting_for_ever(tmp_path):
    """The workers' nannies are told to close: nothing restarts them."""

    @contextmanager
    def closing():
        with cluster(tmp_path) as client:
            client.retire_workers(list(client.nthreads()), close_workers=True)
            wait_for(lambda: not client.nthreads(), "end of the workers")
            yield client

    loaded = spec.load(write_spec(tmp_path, n=4))
    bundle = fetch(str(KNOBS), tmp_path / "cache")
    files = Store(str(tmp_path / "store"))
    with pytest.raises(Stopped, match="seconds, and 4 tasks are pending"):
        drive(loaded, bundle, files, closing, limits=Limits(worker_wait_seconds=1))


def test_the_last_worker_dies_before_it_has_the_environment(tmp_path):
    """Nobody restarts it: what waits for it must not, and dispatch says that there is no worker."""
    bundle = fetch(str(KNOBS), tmp_path / "cache")
    source = RunContext(
        Store(str(tmp_path)), Request(1, ((0, 1),)), bundle, mark=PartMark("0" * 32, bundle.digest)
    )
    inbox: SimpleQueue[events.Event] = SimpleQueue()
    with (
        LocalCluster(n_workers=0, host="127.0.0.1", dashboard_address="127.0.0.1:0") as dask,
        Client(dask, set_as_default=False) as client,
        ThreadPoolExecutor(1) as pool,
    ):
        command = [sys.executable, "-m", "dask", "worker", dask.scheduler_address, "--no-nanny"]
        worker = subprocess.Popen([*command, "--nthreads", "1", "--dashboard-address", "127.0.0.1:0"])
        try:
            client.wait_for_workers(1, 120)
            busy = client.submit(time.sleep, 600)
            prepared = pool.submit(prepare, client, source, inbox)
            wait_for(lambda: len(client.futures) == 2, "request for the environment")
            worker.kill()
            assert prepared.result(timeout=60) is None
            assert busy.status == "pending"
        finally:
            inbox.put(events.StopRequested())  # ends what waits, should the test fail
            worker.kill()
            worker.wait()


def test_a_killed_worker_costs_its_batch_only(tmp_path):
    seed = random.randrange(2**32)
    print("seed", seed)
    at = random.Random(seed).randrange(1, 150)
    killed = []

    @contextmanager
    def watched():
        with cluster(tmp_path) as client:
            pids.extend(client.run(os.getpid).values())
            yield client

    def kill_once(progress):
        if progress.done >= at and not killed:
            killed.append(pids[seed % 2])
            os.kill(killed[0], signal.SIGKILL)

    pids: list[int] = []
    loaded = spec.load(write_spec(tmp_path, n=200, seconds=0.02))
    summary = drive(
        loaded,
        fetch(str(KNOBS), tmp_path / "cache"),
        Store(str(tmp_path / "store")),
        watched,
        watcher=Watcher(progress=kill_once),
    )
    assert killed
    assert summary.counts == {"ok": 200, "failed": 0, "poisoned": 0, "pending": 0}
    ok = sorted(row["set"] for row in rows(tmp_path) if row["status"] == "ok")
    assert ok == list(range(200)), "a task ran to its end twice"


def test_a_batch_that_cannot_be_stored_stops_the_run_in_words(tmp_path):
    """parts/ is a file: what a worker would meet on a full or broken disk is an OSError too."""
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "parts").write_text("in the way")
    with pytest.raises(Stopped, match=r"the store returned an unexpected error: .*/parts/") as stopped:
        study(tmp_path, n=10)
    assert stopped.value.exit_code == 4


def test_a_connection_that_is_reset_and_made_again_is_a_lost_one(tmp_path):
    """Dask cancels what a client asked for before; nothing of that is a batch that cannot be run."""
    said = []
    held: list[Client] = []

    def cut(_progress):
        said.append(1)
        if len(said) == 4:
            (client,) = held
            first = client.scheduler_comm.comm
            client.loop.add_callback(first.abort)

            def again():
                now = client.scheduler_comm
                return client.status == "running" and now and now.comm is not first

            wait_for(again, "another connection")

    @contextmanager
    def second():
        with cluster(tmp_path) as own, Client(own.scheduler.address, set_as_default=False) as client:
            held.append(client)
            yield client

    loaded = spec.load(write_spec(tmp_path, n=200, seconds=0.1))
    bundle, store = fetch(str(KNOBS), tmp_path / "cache"), Store(str(tmp_path / "store"))
    with pytest.raises(SchedulerLost):
        drive(loaded, bundle, store, second, watcher=Watcher(progress=cut))
