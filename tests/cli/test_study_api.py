"""Studies from Python: what is refused, what runs, on this machine and on a client's workers."""

import doctest
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from distributed import Client, LocalCluster

from modelops_dask.errors import BadInput, ClusterFailed
from modelops_dask.settings import Settings
from modelops_dask.shape import Shape
from modelops_dask.study import Study, api, run
from modelops_dask.study.progress import Progress
from modelops_dask.workers.local import local_cluster
from study_helpers import KNOBS, environ, mops_helm

GIB = 1024**3


def knobs(**content) -> Study:
    return Study(**{"entrypoint": "knobs.wire/any", "name": "knobs", "bundle": KNOBS, **content})


@pytest.fixture
def direct(tmp_path) -> dict:
    return {
        "settings": Settings(executor_type="direct", bundles_cache_dir=tmp_path / "cache"),
        "shape": Shape(1, 1, 1, GIB),
    }


def test_the_same_tasks_as_from_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "study.json"
    content = {"name": "a", "model": "m.s", "scenario": "b", "replicates": 3}
    path.write_text(json.dumps({**content, "grid": {"x": [0.1, 0.2], "n": [1, 2]}}))
    mine = Study(**content, grid={"x": np.array([0.1, 0.2]), "n": range(1, 3)})
    assert mine.spec.table.equals(Study.load(path).spec.table)
    assert repr(mine) == "<Study a: 12 tasks of m.s/b>"
    sample = {"n": 4, "parameters": {"x": {"low": 0, "high": 1}}}
    sampled = Study(model="m.s", scenario="b", latin_hypercube=sample)
    assert sampled.n_tasks == 4 and sampled.spec.name == tmp_path.name


def test_all_that_is_wrong_is_said_at_once_by_name():
    with pytest.raises(BadInput) as refused:
        Study(entrypoint="m.s/b", replicates=0, grid={"x": {"low": 2, "high": 1, "num": 3}}, repliactes=3)
    said = str(refused.value).splitlines()
    assert len(said) == 3 and not any("study.yaml" in line or ":0" in line for line in said)
    assert any(line.startswith("RANGE  replicates: ") for line in said)
    assert any(line.startswith("BOUNDS  grid.x") for line in said)
    assert any("did you mean replicates?" in line for line in said)


def test_a_run_gives_tables_and_the_command_goes_on_with_its_store(tmp_path, monkeypatch, direct):
    monkeypatch.chdir(tmp_path)
    seen: list[Progress] = []
    study, wide = knobs(grid={"x": np.arange(5)}, fixed={"raises": [3]}), Shape(1000, 1, 1, GIB)
    with pytest.warns(UserWarning, match="1000 processes .* reduced to"):
        done = run(study, settings=direct["settings"], shape=wide, on_progress=seen.append)
    assert not done.ok and done.summary.counts == {"ok": 4, "failed": 1, "poisoned": 0, "pending": 0}
    assert sorted(done.outputs) == ["replicates", "y"]
    assert done.table("y")["set"].to_pylist() == [0, 1, 2, 4]
    assert done.table("y").equals(done.table()), "of one output the name can be left out"
    assert (seen[-1].done, seen[-1].total) == (5, 5)
    status = mops_helm("study", "status", "out/knobs", "-o", "json", cwd=tmp_path)
    assert json.loads(status.stdout)["ok"] == 4
    path = tmp_path / "study.json"
    path.write_text(json.dumps(study.spec.source | {"bundle": str(KNOBS)}))
    for same in (study.spec.source, path, str(path)):
        again = run(same, "out/knobs", **direct)
        assert again.summary.counts == done.summary.counts


def test_a_client_is_used_and_left_as_it_was(tmp_path, direct):
    store = tmp_path / "store"
    with local_cluster(direct["shape"], direct["settings"]) as client:
        before = client.nthreads()
        caches = {"settings": direct["settings"]}
        first = run(knobs(grid={"x": [1, 2]}), store, client=client, **caches)
        assert first.ok and first.summary.total == 2
        more = run(knobs(grid={"x": [1, 2]}, replicates=3), store, client=client, **caches)
        assert more.ok and (more.summary.total, more.summary.run_progress.ended_here) == (6, 4)
        assert client.nthreads() == before and client.status == "running"
        with pytest.raises(ClusterFailed, match='--resources "gpu=1"'):
            run(knobs(grid={"x": [1, 2, 3]}, resources={"gpu": 1}), store, client=client, **caches)


def test_a_client_whose_workers_lack_the_preload_is_refused(tmp_path, direct):
    with (
        LocalCluster(n_workers=1, processes=False, dashboard_address=None) as dask,
        Client(dask, set_as_default=False) as client,
        pytest.raises(ClusterFailed, match=r"without the preload(.|\n)*dask worker"),
    ):
        run(knobs(grid={"x": [1]}), tmp_path / "s", client=client, settings=direct["settings"])
    assert not (tmp_path / "s").exists()


def test_settings_that_no_worker_can_use(tmp_path):
    with pytest.raises(BadInput, match="executor 'none'"):
        run(knobs(grid={"x": [1]}), tmp_path / "s", settings=Settings(executor_type="none"))


def test_the_examples_in_the_docstrings():
    assert doctest.testmod(api).attempted > 0
    assert doctest.testmod(api).failed == 0


def test_importing_a_module_of_the_package_does_not_import_dask():
    script = "import modelops_dask.plan.plan, sys; print('distributed' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert said == "False\n"


def test_the_script_of_the_documentation(tmp_path):
    """docs/python.md: its script runs in a folder with the examples."""
    text = (Path(__file__).parents[2] / "docs" / "python.md").read_text()
    script = text.partition("```python\n")[2].partition("```")[0]
    assert "__main__" in script
    (tmp_path / "script.py").write_text(script)
    (tmp_path / "examples").symlink_to(Path(__file__).parents[2] / "examples")
    variables = {**environ(tmp_path), "MODELOPS_EXECUTOR_ENVIRONMENT": "image"}  # the model's are here too
    command = [sys.executable, "script.py"]
    done = subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "True {'ok': 100, 'failed': 0" in done.stdout and "peak_infectious_mean" in done.stdout
