"""A batch on a worker: what is stored, what is said, with real executors and a real store."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from executor_helpers import write_bundle
from modelops_dask import executors
from modelops_dask.bundle import fetch
from modelops_dask.errors import BadInput
from modelops_dask.executors import workspace
from modelops_dask.plan import spec
from modelops_dask.settings import Settings
from modelops_dask.store import parts
from modelops_dask.store.files import Store
from modelops_dask.store.fold import fold
from modelops_dask.store.study import begin
from modelops_dask.study.batch import Batch, RunContext, execute, fetch_bundle, recover_receipt
from modelops_dask.workers.runtime import Runtime
from study_helpers import KNOBS, write_spec


@pytest.fixture
def study(tmp_path):
    """A function (spec's fixed parameters) -> (plan, source)."""

    def make(**fixed):
        loaded = spec.load(write_spec(tmp_path, **fixed))
        bundle = fetch(str(KNOBS), tmp_path / "cache")
        files = Store(str(tmp_path / "store"))
        plan = begin(files, loaded, bundle.digest)
        return plan, RunContext(files, plan.request, bundle)

    return make


@pytest.fixture
def runtime(tmp_path):
    """A function (settings) -> Runtime, whose executors end with the test."""
    made = []

    def make(executor_type="direct", **settings):
        chosen = Settings(
            executor_type=executor_type,
            executor_environment="image",
            bundles_cache_dir=tmp_path / "cache",
            venvs_dir=tmp_path / "venvs",
            **settings,
        )
        made.append(executors.create(chosen))
        return Runtime(chosen, made[-1], runner_limit_bytes=123)

    yield make
    for executor in made:
        executor.__exit__(None, None, None)


def rows_of(source, name):
    with parts.open_part_file(source.store, f"{name}.parquet") as part:
        return part.read().to_pylist()


def test_one_part_with_a_row_per_attempt(study, runtime):
    plan, source = study(n=4, replicates=2, raises=[1])
    receipt = execute(Batch(source, "one", ((0, 8),), 60), runtime())
    assert [failed.index for failed in receipt.failed] == [2, 3]
    assert {(failed.status, failed.reason) for failed in receipt.failed} == {("failed", "ValueError")}
    assert receipt.left == () and receipt.seconds > 0
    rows = rows_of(source, "one")
    assert [(row["set"], row["replicate"]) for row in rows] == [(s, r) for s in range(4) for r in range(2)]
    assert [dict(row["outputs"]) for row in rows[:2]] == [
        {"y": f"0:{row['seed']}".encode()} for row in rows[:2]
    ]
    assert "unlucky" in rows[2]["error"] and rows[2]["environment"]
    assert (rows[2]["executor"], rows[2]["limit_bytes"]) == ("direct", 123)
    assert fold(source.store, plan).counts() == {"ok": 6, "failed": 0, "poisoned": 0, "pending": 2}


def test_a_batch_that_is_overdue_returns_what_it_did_not_begin(study, runtime):
    _, source = study(n=10, seconds=0.02)
    receipt = execute(Batch(source, "late", ((0, 10),), seconds=0.001), runtime())
    assert receipt.left == ((1, 10),), "the first is always begun"
    assert len(rows_of(source, "late")) == 1


def test_a_receipt_that_never_came_is_read_from_the_store(study, runtime):
    plan, source = study(n=6, raises=[2])
    batch = Batch(source, "lost", ((0, 2), (2, 6)), 60)
    assert recover_receipt(batch, plan) is None
    sent = execute(batch, runtime())
    found = recover_receipt(batch, plan)
    assert (found.failed, found.left) == (sent.failed, sent.left)


def test_a_batch_that_runs_twice_keeps_its_first_part(study, runtime):
    plan, source = study(n=3)
    batch, worker = Batch(source, "twice", ((0, 3),), 60), runtime()
    execute(batch, worker)
    before = source.store.read("parts/twice.parquet")
    execute(batch, worker)
    assert source.store.read("parts/twice.parquet") == before
    assert fold(source.store, plan).conflicts == []


def test_a_task_that_loses_its_runner_again_is_poisoned_and_the_others_are_ok(study, runtime):
    plan, source = study(n=4, kills=[1])
    worker = runtime("isolated_warm")
    first = execute(Batch(source, "first", ((0, 4),), 60), worker)
    assert [(failed.index, failed.status) for failed in first.failed] == [(1, "died")]
    again = execute(Batch(source, "again", ((1, 2),), 60, died=frozenset({1})), worker)
    assert again.failed[0].status == "poisoned"
    assert fold(source.store, plan).counts() == {"ok": 3, "failed": 0, "poisoned": 1, "pending": 0}


def test_a_pool_of_runners_works_side_by_side(study, runtime):
    _, source = study(n=12, seconds=0.05, pid=1)
    execute(Batch(source, "pool", ((0, 12),), 60), runtime("isolated_warm", subprocess_pool_size=2))
    assert len({dict(row["outputs"])["pid"] for row in rows_of(source, "pool")}) == 2


def test_two_batches_share_the_runners_of_their_process(study, runtime):
    """Two threads and a pool of three: three runners at work, not two, and not four."""
    _, source = study(n=24, seconds=0.05, pid=1)
    worker = replace(runtime("isolated_warm", subprocess_pool_size=3), threads=2)
    with ThreadPoolExecutor(2) as threads:
        batches = [
            Batch(source, name, ranges, 60) for name, ranges in (("a", ((0, 12),)), ("b", ((12, 24),)))
        ]
        list(threads.map(execute, batches, [worker] * 2))
    rows = rows_of(source, "a") + rows_of(source, "b")
    assert len({dict(row["outputs"])["pid"] for row in rows}) == 3


def test_a_bundle_that_changed_on_the_way_is_refused(study, runtime):
    _, source = study(n=2)
    other = replace(source, bundle=replace(source.bundle, digest="sha256:" + "0" * 64))
    with pytest.raises(BadInput, match="is needed"):
        execute(Batch(other, "other", ((0, 2),), 60), runtime())
    assert source.store.list("parts") == []


def test_a_changed_copy_is_made_again_from_what_the_driver_copied(tmp_path):
    """A model under `direct` may have changed it, and files that it added do not count."""
    own = write_bundle(tmp_path / "own", {"wire.py": "X = 1\n", "last_run.csv": "seed\n"})
    sent = fetch(str(own), tmp_path / "cache")
    (sent.path / "last_run.csv").write_text("another")
    (sent.path / "added.csv").write_text("new")
    for cache in ("cache", "of-another-machine"):
        fetch_bundle.cache_clear()
        here = fetch_bundle(sent, tmp_path / cache)
        assert (here.path / "last_run.csv").read_text() == "seed\n", cache
    (sent.path / "last_run.csv").write_text("another")
    shutil.rmtree(tmp_path / "of-another-machine")
    fetch_bundle.cache_clear()
    assert fetch_bundle(sent, tmp_path / "of-another-machine").digest == sent.digest


def test_a_changed_copy_that_cannot_be_made_again_is_named_with_its_files(tmp_path):
    own = write_bundle(tmp_path / "own", {"wire.py": "X = 1\n", "last_run.csv": "seed\n"})
    sent = fetch(str(own), tmp_path / "cache")
    (sent.path / "last_run.csv").write_text("another")
    (own / "wire.py").write_text("X = 2\n")
    fetch_bundle.cache_clear()
    with pytest.raises(BadInput, match=rf"bundle {own}: .* a model changed .*: last_run\.csv$"):
        fetch_bundle(sent, tmp_path / "cache")


def test_a_batch_whose_tasks_write_to_a_link_stores_nothing_and_runs_again(study, runtime, tmp_path):
    code = (
        "def wire(entrypoint, params, seed):\n"
        "    with open('large.bin', 'r+b') as file:\n"
        "        before = file.read(4)\n"
        "        file.seek(0)\n"
        "        file.write(b'XXXX')\n"
        "    return {'y': before}\n"
    )
    own = write_bundle(tmp_path / "own", {"wire.py": code, "large.bin": "0123" * (1 << 18) + "4"})
    _, source = study(n=4)
    source = replace(source, bundle=fetch(str(own), tmp_path / "cache"))
    worker = runtime("isolated_warm")
    first = execute(Batch(source, "first", ((0, 4),), 60), worker)
    if workspace.copy(str(own / "wire.py"), str(tmp_path / "clone")):
        pytest.skip("this file system shares blocks: there are no links")
    assert (first.left, first.files.shared_files) == (((0, 4),), ("large.bin",))
    assert source.store.list("parts") == []
    again = execute(Batch(source, "again", ((0, 4),), 60), worker)
    assert (again.left, again.failed, again.files.shared_files) == ((), (), ())
    # Of short tasks in one message later ones may find what earlier ones wrote into their own copy.
    assert rows_of(source, "again")[0]["outputs"] == [("y", b"0123")]


def test_a_store_that_was_deleted_and_begun_again_has_a_plan_of_its_own(study, runtime):
    _, before = study(seconds=0)
    execute(Batch(before, "a" * 32, ((0, 2),), seconds=10), one := runtime())
    shutil.rmtree(before.store.folder)
    plan, source = study(seconds=0.0)
    execute(Batch(source, "b" * 32, ((0, 2),), seconds=10), one)
    seeds = [plan.task(index).seed for index in (0, 1)]
    assert [row["seed"] for row in rows_of(source, "b" * 32)] == seeds
