"""A whole run of a study, as a laptop and a driver in a cluster do it."""

from modelops_dask.bundle import fetch
from modelops_dask.local import local_cluster
from modelops_dask.settings import Settings
from modelops_dask.shape import Shape
from modelops_dask.store.files import Files
from modelops_dask.study import spec
from modelops_dask.study.drive import drive
from modelops_dask.study.memory import TaskMemory
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
    bundle, store = fetch(str(KNOBS), tmp_path / "cache"), Files(str(tmp_path / "store"))
    for _ in range(2):
        summary = drive(loaded, bundle, store, lambda: local_cluster(shape, settings), memory=said)
        assert summary.counts == {"ok": 3, "failed": 0, "poisoned": 1, "pending": 0}
        assert summary.exit_code == 3
        assert summary.ran, "with so much memory the task might do well, so it is tried again"
