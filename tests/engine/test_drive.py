"""A whole run of a study, as a laptop and a driver in a cluster do it."""

import re
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext

import pytest

from modelops_dask.bundle import fetch
from modelops_dask.plan import spec
from modelops_dask.settings import Settings
from modelops_dask.shape import Shape
from modelops_dask.store import parts
from modelops_dask.store.files import Store
from modelops_dask.store.fold import fold
from modelops_dask.store.merge import MERGE_OVER
from modelops_dask.store.study import begin
from modelops_dask.study.dispatch import Limits
from modelops_dask.study.drive import Watcher, drive
from modelops_dask.workers.local import local_cluster
from modelops_dask.workers.memory import TaskMemory
from store_helpers import attempt
from study_helpers import KNOBS, write_spec

GIB = 1024**3


def test_a_task_that_died_with_less_than_workers_were_said_to_have_is_poisoned_all_the_same(tmp_path):
    """What a task gets, alone, may be less: a zygote holds memory, or another pod is smaller."""
    settings = Settings(
        executor_type="isolated_warm",
        executor_environment="image",
        bundles_cache_dir=tmp_path / "cache",
        venvs_dir=tmp_path / "venvs",
    )
    shape = Shape(1, 1, 1, 2 * GIB)
    said = TaskMemory(shape, settings, largest_bytes=1 << 50)
    loaded = spec.load(write_spec(tmp_path, n=4, hungry=[2]))
    bundle, store = fetch(str(KNOBS), tmp_path / "cache"), Store(str(tmp_path / "store"))
    for _ in range(2):
        summary = drive(loaded, bundle, store, lambda: local_cluster(shape, settings), memory=said)
        assert summary.counts == {"ok": 3, "failed": 0, "poisoned": 1, "pending": 0}
        assert summary.exit_code == 3
        assert summary.run_progress, "with so much memory the task might do well, so it is tried again"


def test_thousands_of_parts_are_merged_before_a_run_goes_on_and_nothing_else_changes(tmp_path):
    settings = Settings(executor_type="direct", bundles_cache_dir=tmp_path / "cache")
    loaded = spec.load(write_spec(tmp_path, n=MERGE_OVER))
    bundle, store = fetch(str(KNOBS), tmp_path / "cache"), Store(str(tmp_path / "store"))
    plan = begin(store, loaded, bundle.digest)
    rows = [attempt(plan, 0, 0, "failed", reason="ValueError")] * 4  # failed
    rows += [attempt(plan, 1, 0, "failed", reason="ValueError")]  # pending
    rows += [attempt(plan, 2, 0, outputs={"y": b"%d" % i}) for i in range(2)]  # a conflict
    rows += [attempt(plan, i, 0, outputs={"y": b"%d" % i}) for i in range(3, MERGE_OVER + 4 - len(rows))]
    assert len(rows) == MERGE_OVER + 1
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda row: parts.write(store, [row]), rows))
    seen = []

    def look():
        state = fold(store, plan)
        facts = (state.codes.tolist(), state.attempts.tolist(), state.failures, state.conflicts)
        seen.append((len(store.list(parts.FOLDER)), facts))

    @contextmanager
    def connect():
        look()
        with local_cluster(Shape(1, 1, 1, GIB), settings) as client:
            yield client

    look()
    summary = drive(loaded, bundle, store, connect)
    (before, facts), (merged, facts_then) = seen
    assert (before, merged) == (MERGE_OVER + 1, 1)
    assert facts_then == facts
    assert summary.counts == {"ok": MERGE_OVER - 1, "failed": 1, "poisoned": 0, "pending": 0}
    assert summary.conflicts == [(2, 0)]
    assert summary.run_progress.ended_here == 4, "what was pending: the second task and the last three"


@pytest.mark.parametrize(
    ("threads", "environment", "said"),
    [
        ("2", "image", r"numbers of native threads: 1 thread \(2 results\); 2 threads \(from now on\)\. "),
        ("1", "bundle", r"environments: environment \w+ \(2 results\); environment \w+ \(from now on\)\. "),
    ],
    ids=["threads", "environment"],
)
def test_a_run_under_other_conditions_than_the_results_before_says_so(tmp_path, threads, environment, said):
    loaded = spec.load(write_spec(tmp_path, n=4))
    bundle, store = fetch(str(KNOBS), tmp_path / "cache"), Store(str(tmp_path / "store"))

    def cluster(threads, environment):
        settings = Settings(
            executor_type="isolated_warm",
            executor_environment=environment,
            bundles_cache_dir=tmp_path / "cache",
            venvs_dir=tmp_path / "venvs",
        )
        return local_cluster(Shape(1, 1, 1, GIB), settings, env={"OMP_NUM_THREADS": threads})

    def go_on(client, pilot=None):
        """Run some of what is pending; the summary and what was noted."""
        noted = []
        watcher = Watcher(note=noted.append)
        return drive(loaded, bundle, store, lambda: nullcontext(client), pilot=pilot, watcher=watcher), noted

    with cluster("1", "image") as client:
        for done in (1, 2):
            summary, noted = go_on(client, pilot=1)
            assert (summary.counts["ok"], noted, summary.mixed) == (done, [], "")
    with cluster(threads, environment) as client:
        summary, (line,) = go_on(client)
    assert re.match(f"Results of this study come from different {said}", line)
    assert summary.counts["ok"] == 4
    assert summary.mixed.count("(2 results)") == 2, "at the end both are named with what they made"


@pytest.mark.parametrize("well", [0, 1])
def test_a_study_in_which_nothing_ends_well_says_so_once_and_goes_on(tmp_path, well):
    """Its tasks fail in two ways, so they have no common cause that would end it."""
    raises, lonely = list(range(well, 40, 2)), list(range(1 - well, 40, 2))[well:]
    loaded = spec.load(write_spec(tmp_path, n=40, raises=raises, lonely=lonely))
    bundle, store = fetch(str(KNOBS), tmp_path / "cache"), Store(str(tmp_path / "store"))
    settings = Settings(executor_type="direct", bundles_cache_dir=tmp_path / "cache")
    noted: list[str] = []
    with local_cluster(Shape(1, 1, 1, GIB), settings) as client:
        watcher, limits = Watcher(note=noted.append), Limits(retry_seconds=0.01)
        summary = drive(loaded, bundle, store, lambda: nullcontext(client), watcher=watcher, limits=limits)
    assert summary.counts["failed"] == 40 - well
    assert {failure.why: failure.count for failure in summary.failures} == {
        "ValueError: unlucky": len(raises),
        "ConnectionError: nobody answers": len(lonely),
    }
    assert len(noted) == (0 if well else 1) and all("attempts succeeded" in line for line in noted)
