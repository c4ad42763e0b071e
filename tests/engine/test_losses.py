"""Single tasks whose worker was lost: what Kubernetes says of the pod decides what becomes of them."""

from contextlib import contextmanager
from queue import SimpleQueue

import pyarrow.parquet as pq

from modelops_dask.bundle import fetch
from modelops_dask.plan import spec
from modelops_dask.settings import Settings
from modelops_dask.shape import Shape
from modelops_dask.store.files import Store
from modelops_dask.study.batch import Batch
from modelops_dask.study.dispatch import Limits
from modelops_dask.study.drive import Watcher, drive
from modelops_dask.study.events import PodLost
from modelops_dask.study.losses import Losses, LostTask
from modelops_dask.workers.local import local_cluster
from study_helpers import KNOBS, write_spec

GIB = 1024**3
BATCH = Batch(None, "part", ((7, 8),), 10)


def test_without_anybody_to_tell_nothing_waits():
    losses = Losses(0)
    losses.add(LostTask(BATCH, "10.0.0.1", "WorkerDied"), now=100)
    assert losses
    assert losses.take_known(now=100) == [LostTask(BATCH, "10.0.0.1", "WorkerDied")]
    assert not losses and not losses.take_known(now=100)


def test_a_loss_waits_for_what_its_pod_died_of_and_no_longer():
    losses = Losses(3)
    losses.add(LostTask(BATCH, "10.0.0.1", "WorkerDied"), now=100)
    losses.add(LostTask(BATCH, "10.0.0.2", "WorkerDied"), now=100)
    assert not losses.take_known(now=102)
    losses.record_pod(PodLost("10.0.0.1", "OOMKilled", False), now=102)
    assert losses.take_known(now=102) == [LostTask(BATCH, "10.0.0.1", "OOMKilled", False)]
    assert losses.take_known(now=103) == [LostTask(BATCH, "10.0.0.2", "WorkerDied")]


def test_what_was_heard_before_counts_for_a_while():
    losses = Losses(3)
    losses.record_pod(PodLost("10.0.0.1", "PodDeleted", True), now=100)
    losses.add(LostTask(BATCH, "10.0.0.1", "WorkerDied"), now=101)
    assert losses.take_known(now=101) == [LostTask(BATCH, "10.0.0.1", "PodDeleted", True)]
    losses.add(LostTask(BATCH, "10.0.0.1", "WorkerDied"), now=200)
    assert not losses.take_known(now=200), "an address has another pod by now"


def test_the_reason_of_the_pod_is_in_the_record_and_a_deleted_pod_is_in_none(tmp_path):
    """Task 3 kills its worker each time. Of the first loss alone we say that the pod was deleted."""
    settings = Settings(executor_type="direct", bundles_cache_dir=tmp_path / "cache")
    inbox: SimpleQueue = SimpleQueue()
    told = []

    @contextmanager
    def cluster():
        with local_cluster(Shape(1, 2, 1, 2 * GIB), settings) as client:
            yield client

    def tell(_) -> None:
        """After each change: what a watch of the pods would say, first that, then the truth."""
        told.append(
            PodLost("127.0.0.1", "OOMKilled", False) if told else PodLost("127.0.0.1", "PodDeleted", True)
        )
        inbox.put(told[-1])

    loaded = spec.load(write_spec(tmp_path, n=8, kills=[3]))
    summary = drive(
        loaded,
        fetch(str(KNOBS), tmp_path / "cache"),
        Store(str(tmp_path / "store")),
        cluster,
        limits=Limits(reason_seconds=30),
        inbox=inbox,
        watcher=Watcher(progress=tell),
    )
    assert summary.counts == {"ok": 7, "failed": 0, "poisoned": 1, "pending": 0}
    assert [(failure.reason, failure.set) for failure in summary.failures] == [("OOMKilled", 3)]
    rows = [
        row
        for file in (tmp_path / "store" / "parts").glob("*.parquet")
        for row in pq.read_table(file, columns=["set", "status", "reason"]).to_pylist()
        if row["status"] != "ok"
    ]
    assert sorted(row["status"] for row in rows) == ["died", "poisoned"]
    assert {row["reason"] for row in rows} == {"OOMKilled"}
