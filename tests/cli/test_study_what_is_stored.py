"""`study run` with outputs, a timeout, hostile names and studies that belong to the bundle, as typed."""

import json

import pytest

from modelops_dask.store.files import Store
from modelops_dask.store.fold import fold
from modelops_dask.store.identity import read_study
from modelops_dask.store.study import read_plan
from study_helpers import SMALL, mops_helm, write_spec

LONG_NAME = "by " + "district and age group and " * 9
WIRE = f"""
import os

def wire(entrypoint, params, seed):
    log = b"%d" % seed if params["x"] else os.urandom(8)
    return {{"summary": b"%d" % params["x"], "log": log, "{LONG_NAME}": b"1"}}
"""


def change(path, **names):
    """A JSON study file with other names in it."""
    path.write_text(json.dumps(json.loads(path.read_text()) | names))
    return path


def run(path, *flags, cwd):
    return mops_helm("study", "run", path, *SMALL, "--store", "s", *flags, cwd=cwd)


def counts(folder):
    store = Store(str(folder / "s"))
    return {state: n for state, n in fold(store, read_plan(store)).counts().items() if n}


def test_a_study_says_its_time_limit_and_is_ended_by_it(tmp_path):
    path = change(write_spec(tmp_path, n=3, hangs=[1]), timeout="1s")
    plan = mops_helm("study", "plan", path, *SMALL, cwd=tmp_path)
    assert "1s for a task (timeout of the study file)" in plan.stdout
    direct = mops_helm("study", "plan", path, "--set", "executor.type=direct", cwd=tmp_path)
    assert "none: executor direct cannot end a task" in direct.stdout
    done = run(path, "--check", "0", cwd=tmp_path)
    assert done.returncode == 3 and "TaskTimeout" in done.stdout
    assert counts(tmp_path) == {"ok": 2, "poisoned": 1}
    tried = mops_helm("study", "try", "s", "--task", "1/0", *SMALL, cwd=tmp_path)
    assert "TaskTimeout" in tried.stdout


def test_direct_says_that_it_enforces_no_limit(tmp_path):
    path = change(write_spec(tmp_path, n=1), timeout="10m")
    done = run(path, "--check", "0", "--set", "executor.type=direct", cwd=tmp_path)
    assert "executor direct runs tasks in its own process and cannot end them" in done.stderr
    assert done.returncode == 0


@pytest.fixture
def bundle(tmp_path):
    """The study of a bundle whose outputs have odd names; the study counts for the bundle's digest."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "wire.py").write_text(WIRE)
    study = {"model": "m.run", "scenario": "baseline", "parameter_sets": [{"x": 1}], "n_replicates": 2}
    (folder / "sweep.json").write_text(json.dumps(study))
    return folder / "sweep.json"


def test_a_study_that_grows_beside_its_model_goes_on(bundle, tmp_path):
    change(bundle, outputs=["summary", "lag"])
    first = run(bundle, cwd=tmp_path)
    assert first.returncode == 3, "an output that the study names is not there"
    assert "did you mean log?" in first.stdout and "did you mean log?" in first.stderr
    assert "all equal" in first.stdout, "the self-check compares what was left out too"
    left_out = mops_helm("study", "results", "s", "--output", "log", cwd=tmp_path)
    assert left_out.returncode == 2 and "does not store output log" in left_out.stderr
    change(bundle, outputs=None, n_replicates=3)
    plan = mops_helm("study", "plan", bundle, *SMALL, "--store", "s", cwd=tmp_path)
    assert "would refuse" not in plan.stderr
    second = run(bundle, cwd=tmp_path)
    assert second.returncode == 0 and "changed sweep.json (a study)" in second.stderr
    assert counts(tmp_path) == {"ok": 3} and len(read_study(Store(str(tmp_path / "s"))).bundles) == 2
    found = mops_helm("study", "results", "s", "--output", LONG_NAME, "--to", "csv", cwd=tmp_path)
    assert found.returncode == 0 and len(found.stdout.splitlines()) == 4
    verified = mops_helm("study", "verify", "s", "--sample", "2", *SMALL, cwd=tmp_path)
    assert "Nothing is wrong" in verified.stdout, verified.stdout


def test_a_difference_in_what_was_left_out_is_found(bundle, tmp_path):
    """By the run itself, and by a sample of verify: the digests of what was left out are on record."""
    change(bundle, outputs=["summary"], parameter_sets=[{"x": 0}])
    done = run(bundle, cwd=tmp_path)
    assert done.returncode == 3 and "log" in done.stdout
    verified = mops_helm("study", "verify", "s", "--sample", "1", *SMALL, cwd=tmp_path)
    assert verified.returncode == 3 and "SEED" in verified.stdout and "log" in verified.stdout
