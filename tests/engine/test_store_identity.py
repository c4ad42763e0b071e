"""Only parts of a store's own study count: late ones, copied ones and those with another's seed are named."""

import random
import shutil

import numpy as np
import pytest

from modelops_dask import executors
from modelops_dask.bundle import fetch
from modelops_dask.plan import spec
from modelops_dask.settings import Settings
from modelops_dask.store import parts, study
from modelops_dask.store.compact import compact
from modelops_dask.store.files import Store
from modelops_dask.store.fold import fold
from modelops_dask.store.identity import PartMark, accept, read_study
from modelops_dask.store.merge import merge
from modelops_dask.store.results import results
from modelops_dask.store.verify import verify
from modelops_dask.study.batch import Batch, RunContext, execute
from modelops_dask.workers.runtime import Runtime
from store_helpers import DIGEST, attempt, begin, mark, write_spec

OTHER_BUNDLE = "sha256:" + "b" * 64


def codes(files):
    return {(finding.code, finding.location) for finding in verify(files.location()).findings} - {
        "UNFINISHED"
    }


def foreign(files):
    """The files that verify calls foreign."""
    return {where.removeprefix("parts/") for code, where in codes(files) if code == "FOREIGN"}


@pytest.mark.parametrize(
    "make_mark",
    [
        pytest.param(lambda own: own._replace(study="0" * 32), id="another study"),
        pytest.param(lambda own: own._replace(bundle=OTHER_BUNDLE), id="another bundle"),
        pytest.param(lambda _: None, id="no mark"),
        pytest.param(lambda _: PartMark("", ""), id="an empty mark"),
    ],
)
def test_a_part_of_another_study_or_bundle_is_named_and_does_not_count(files, tmp_path, make_mark):
    plan = begin(files, tmp_path)
    rows = [attempt(plan, 0, 0), attempt(plan, 0, 1, "poisoned", reason="killed")]
    files.put("parts/stray.parquet", parts.encode(rows, make_mark(mark(files))))
    state = fold(files, plan)
    assert np.count_nonzero(state.attempts) == 0 and state.counts()["pending"] == plan.n_tasks
    assert state.skipped["stray.parquet"].startswith("foreign: ")
    assert foreign(files) == {"stray.parquet"}
    parts.write(files, [attempt(plan, 0, 0, outputs={"raw": b"own"})])
    compact(files, plan)
    assert results(files, "raw")["bytes"].to_pylist() == [b"own"]
    merge(files, max_files=0)
    assert "stray.parquet" in files.list("parts"), "a merge leaves alone what does not belong"
    assert fold(files, plan).counts()["ok"] == 1 and foreign(files) == {"stray.parquet"}


def test_an_accepted_bundle_counts_from_then_on(files, tmp_path):
    plan = begin(files, tmp_path)
    parts.write(files, [attempt(plan, 0, 0)])
    compact(files, plan)
    parts.write(files, [attempt(plan, 0, 1)], mark(files)._replace(bundle=OTHER_BUNDLE))
    assert fold(files, plan).counts()["ok"] == 1
    accept(files, OTHER_BUNDLE, ["changed notes.txt"])
    assert fold(files, plan).counts()["ok"] == 2 and not foreign(files)
    compact(files, plan)
    assert results(files, "raw").num_rows == 2, "tables follow"
    assert study.begin(files, write_spec(tmp_path), OTHER_BUNDLE).n_tasks == plan.n_tasks
    assert read_study(files).bundle == DIGEST, "study.json keeps the first"


def test_a_task_with_anothers_seed_makes_its_part_foreign(files, tmp_path):
    plan = begin(files, tmp_path)
    wrong = attempt(plan, 1, 0)._replace(seed=1)
    files.put("parts/wrong.parquet", parts.encode([attempt(plan, 0, 0), wrong], mark(files)))
    state = fold(files, plan)
    assert np.count_nonzero(state.attempts) == 0
    assert "task 1/0 has seed 1, which is not the task's seed" in state.skipped["wrong.parquet"]
    assert foreign(files) == {"wrong.parquet"}
    merge(files, max_files=0)
    parts.write(files, [attempt(plan, 0, 0)])
    merge(files, max_files=0)
    assert fold(files, plan).counts()["ok"] == 1
    compact(files, plan)
    assert results(files, "raw").num_rows == 1


@pytest.mark.parametrize("seed", range(6))
def test_whatever_lies_in_a_store_only_its_own_parts_count(tmp_path, seed):
    """Parts of several studies, bundles and seeds, merged at random, in a store of either format."""
    rng = random.Random(seed)
    files = Store(str(tmp_path / "store"))
    sets = "[{a: 1}, {params: {a: 2}, seed: 7}, {a: 3}, {params: {a: 1}, seed: 18446744073709551615}]"
    plan = begin(files, tmp_path, sets=sets, replicates=5)
    upgraded = rng.random() < 0.5
    own = mark(files)
    if upgraded:
        text = '{"bundle": "%s", "entrypoint": "m.s/b", "format": 2, "uuid": "%s", "upgraded": true}'
        files.put("study.json", (text % (DIGEST, own.study)).encode())
    tasks = [(task.set, task.replicate) for task in plan.tasks([(0, plan.absent.size)])]
    expected = set()
    for _ in range(25):
        chosen = rng.sample(tasks, rng.randint(1, 6))
        rows = [attempt(plan, *task) for task in chosen]
        kind = rng.choice(["own", "own", "late", "bundle", "none", "seed"])
        part_mark = {"late": PartMark("1" * 32, DIGEST), "none": None}.get(kind, own)
        if kind == "bundle":
            part_mark = own._replace(bundle=OTHER_BUNDLE)
        if kind == "seed":
            rows = [row._replace(seed=row.seed ^ 1) for row in rows]
        parts.write(files, rows, part_mark) if part_mark else files.put(
            f"parts/none{rng.random()}.parquet", parts.encode(rows)
        )
        if kind == "own" or (kind == "none" and upgraded):
            expected |= set(chosen)
        if rng.random() < 0.2:
            merge(files, max_files=0, target_bytes=rng.choice([10_000, 128 * 2**20]))
    state = fold(files, plan)
    assert {tuple(pair) for pair in np.argwhere(state.codes == 1).tolist()} == expected
    compact(files, plan)
    table = results(files, "raw")
    assert set(zip(table["set"].to_pylist(), table["replicate"].to_pylist(), strict=True)) == expected
    assert verify(files.location()).tasks["ok"] == len(expected)


def test_a_late_batch_of_a_store_that_was_removed_and_begun_again(tmp_path):
    """A worker of the first run ends its batch when the folder already holds the second study."""
    model = tmp_path / "model"
    model.mkdir()
    (model / "wire.py").write_text(
        "def wire(entrypoint, params, seed):\n    return {'x': str(seed).encode()}\n"
    )
    (model / "study.yaml").write_text("model: m.s\nscenario: b\nreplicates: 4\nsets: [{a: 1}]\n")
    loaded, bundle = spec.load(model / "study.yaml"), fetch(str(model), tmp_path / "cache")
    files = Store(str(tmp_path / "store"))
    study.begin(files, loaded, bundle.digest)
    source = RunContext(files, study.read_plan(files).request, bundle)
    shutil.rmtree(files.folder)
    (model / "wire.py").write_text("def wire(entrypoint, params, seed):\n    return {'x': b'new'}\n")
    plan = study.begin(files, loaded, fetch(str(model), tmp_path / "cache").digest)
    settings = Settings(
        executor_type="direct", executor_environment="image", bundles_cache_dir=tmp_path / "cache"
    )
    with executors.create(settings) as executor:
        execute(Batch(source, "late", ((0, 4),), 60), Runtime(settings, executor))
    assert files.list("parts") == ["late.parquet"]
    state = fold(files, plan)
    assert state.counts()["pending"] == 4
    assert "another study" in state.skipped["late.parquet"] and foreign(files) == {"late.parquet"}
