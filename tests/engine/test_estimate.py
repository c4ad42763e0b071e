"""What is measured, and what is expected from it."""

import pytest

from modelops_dask.plan import spec
from modelops_dask.settings import Settings
from modelops_dask.shape import MIB, Shape
from modelops_dask.store import parts, profile
from modelops_dask.store.files import Store
from modelops_dask.store.profile import Profile
from modelops_dask.store.study import begin
from modelops_dask.study.backlog import spread
from modelops_dask.study.estimate import MARGIN, estimate
from study_helpers import write_spec

SHAPE = Shape(replicas=2, processes=4, threads=1, pod_memory_bytes=(4 * 1024 + 96) * MIB)
PROFILE = Profile("digest", "m.s/a", "isolated_warm", 20, 2.0, 3.0, 100 * MIB, 200 * MIB, 400 * MIB)


@pytest.fixture
def store(tmp_path):
    """A study with 21 rows: 0.5 to 1.5 seconds and 100 to 200 MiB, and one out of memory at 300."""
    files = Store(str(tmp_path / "store"))
    begin(files, spec.load(write_spec(tmp_path, n=20)), "digest")
    rows = [
        parts.Attempt(x, 0, 1, "ok", peak_bytes=(100 + 5 * x) * MIB, executor="cold", seconds=0.5 + x / 20)
        for x in range(20)
    ]
    rows.append(parts.Attempt(3, 0, 1, "died", reason="TaskOOM", limit_bytes=300 * MIB))
    parts.write(files, rows[:7])
    parts.write(files, rows[7:])
    return files


def test_a_profile_is_measured_and_found_again(store, tmp_path):
    profile.save(store, {})
    found = profile.find(store, "digest", "knobs.wire/any")
    assert (found.tasks, found.executor, found.out_of_memory) == (20, "cold", 1)
    assert found.mean_seconds == pytest.approx(0.975)
    assert found.most_peak_bytes == 195 * MIB and found.most_limit_bytes == 300 * MIB
    assert (found.least_peak_bytes, found.first_set, found.last_set) == (100 * MIB, 0, 19)
    assert found.median_peak_bytes == pytest.approx(147.5 * MIB, rel=0.01)
    beside = Store(str(tmp_path / "another"))
    assert profile.find(beside, "digest", "knobs.wire/any") == found
    assert profile.find(beside, "another digest", "knobs.wire/any") is None
    assert profile.find(beside, "digest", "another.model/any") is None


def test_a_profile_that_is_damaged_is_no_profile(store):
    for data in (b"", b"{}", b"[1]", b'{"bundle": 1}'):
        store.put(profile.FILE, data)
        assert profile.find(store, "digest", "knobs.wire/any") is None


def test_nothing_measured_no_profile(tmp_path):
    files = Store(str(tmp_path / "store"))
    begin(files, spec.load(write_spec(tmp_path, n=2)), "digest")
    assert profile.measure(files) is None
    profile.save(files, {})
    assert not (tmp_path / "store" / profile.FILE).exists()


def test_time_and_memory_in_a_shape():
    expected = estimate(PROFILE, 1000, SHAPE, Settings())
    assert expected.side_by_side == 8 and expected.seconds == 250
    assert expected.needed_bytes == int(400 * MIB * MARGIN)
    assert expected.limit_bytes == (1024 - 160) * MIB and expected.fits
    alone = estimate(PROFILE, 1, SHAPE, Settings())
    assert alone.seconds == 2.0
    two = estimate(PROFILE, 1000, SHAPE, Settings(subprocess_pool_size=2))
    assert two.side_by_side == 16 and two.limit_bytes == 432 * MIB and not two.fits
    direct = estimate(PROFILE, 1000, SHAPE, Settings(executor_type="direct"))
    assert direct.side_by_side == 8 and direct.limit_bytes == 1024 * MIB


@pytest.mark.parametrize("n_tasks", [1, 2, 5, 14, 99])
def test_a_pilot_is_spread_from_the_first_to_the_last(n_tasks):
    ranges = [(3, 10), (20, 21), (30, 36)]
    chosen = spread(ranges, n_tasks)
    tasks = [start for start, _ in chosen]
    everything = [index for start, stop in ranges for index in range(start, stop)]
    assert all(stop == start + 1 for start, stop in chosen)
    assert len(tasks) == min(n_tasks, 14) == len(set(tasks)) and set(tasks) <= set(everything)
    assert tasks[0] == 3 and (n_tasks == 1 or tasks[-1] == 35)
