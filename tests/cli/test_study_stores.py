"""Whole studies on other stores: S3, a disk that fills up, two runs at once."""

import json
import os
import re
import subprocess
import sys
import textwrap

import pytest

from helpers import wait_for
from modelops_dask.plan.spec import load
from modelops_dask.store.files import Store
from modelops_dask.store.requests import plan_of
from modelops_dask.store.results import opened
from modelops_dask.store.verify import verify
from modelops_dask.study import summary
from study_helpers import KNOBS, SMALL, environ, finish, mops_helm, write_spec


def test_a_study_on_s3_from_run_to_verify(s3, tmp_path):
    spec = write_spec(tmp_path, n=6, replicates=2, raises=[1])
    first = mops_helm("study", "run", spec, *SMALL, "--store", s3, "-o", "json", cwd=tmp_path)
    assert first.returncode == 3, first.stderr
    assert json.loads(first.stdout)["ok"] == 10 and json.loads(first.stdout)["failed"] == 2
    tried = mops_helm("study", "try", s3, "--task", "1/0", *SMALL, cwd=tmp_path)
    assert tried.returncode == 3 and "that is too much" in tried.stderr, tried.stderr
    spec = write_spec(tmp_path, n=6, replicates=3, raises=[])
    again = mops_helm("study", "run", spec, *SMALL, "--store", s3, cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert re.search(rf"{s3}/results/[^/]+/raw/y\.parquet", again.stdout)
    status = mops_helm("study", "status", s3, "-o", "json", cwd=tmp_path)
    assert json.loads(status.stdout)["total"] == 18
    table = mops_helm("study", "results", s3, "--output", "y", "--to", "csv", cwd=tmp_path)
    assert len(table.stdout.splitlines()) == 19, table.stderr
    checked = mops_helm("study", "verify", s3, "--sample", "3", *SMALL[2:], cwd=tmp_path)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "3 tasks run again" in checked.stdout and "Nothing is wrong" in checked.stdout
    for done in (first, again, status, table, checked):
        assert "a-secret" not in done.stdout + done.stderr


def test_verify_names_a_model_that_depends_on_more(tmp_path):
    spec = write_spec(tmp_path, n=2, pid=True)
    run = mops_helm("study", "run", spec, *SMALL, cwd=tmp_path)
    assert run.returncode == 3 and "does not return the same twice" in run.stdout, run.stderr
    checked = mops_helm("study", "verify", "out/knobs", "--sample", "2", "-o", "json", *SMALL, cwd=tmp_path)
    assert checked.returncode == 3, checked.stderr
    found = json.loads(checked.stdout)["findings"]
    assert {finding["code"] for finding in found} == {"CHECK", "SEED"}
    assert all("pid" in finding["message"] for finding in found)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 2 MiB, and a function that makes it larger."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = (
        os.geteuid() == 0
        and not subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)], capture_output=True
        ).returncode
    )
    if not mounted:
        pytest.skip("mounting a small file system needs root")

    def grow():
        subprocess.run(["mount", "-o", "remount,size=64m", str(folder)], check=True)

    yield folder, grow
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_stops_the_study_and_the_same_command_goes_on(small_disk, tmp_path):
    disk, grow = small_disk
    model = tmp_path / "model"
    model.mkdir()
    (model / "wire.py").write_text(NOISE)
    spec = write_spec(tmp_path, n=60, replicates=2)
    store = disk / "store"
    command = ("study", "run", spec, *SMALL, "--bundle", model, "--store", store)
    full = mops_helm(*command, cwd=tmp_path)
    assert full.returncode == 4, full.stdout + full.stderr
    assert f"No space left on device on the file system at {disk}" in full.stderr
    assert "run the same command to continue" in full.stderr and "Traceback" not in full.stderr
    assert not list((store / "parts").glob(".*")), "no half-written file stays"
    grow()
    again = mops_helm(*command, cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    report = verify(str(store))
    assert report.findings == [] and report.tasks["ok"] == 120


NOISE = textwrap.dedent("""
    import random

    def wire(entrypoint, params, seed):
        return {"noise": random.Random(seed).randbytes(100_000)}
""")


# As on two machines: on one, the second run is refused (driver.json) while the first one lives.
RUN = textwrap.dedent("""
    import socket, sys
    socket.gethostname = lambda: sys.argv[3]
    from modelops_dask.study import Study, run
    if __name__ == "__main__":
        done = run(Study.load(sys.argv[1]), store=sys.argv[2])
        print(done.summary.counts)
""")


def write_grid(folder, values):
    study = {"name": "knobs", "entrypoint": "knobs.wire/any", "bundle": str(KNOBS), "replicates": 5}
    path = folder / "study.yaml"
    path.write_text(json.dumps({**study, "fixed": {"seconds": 0.05}, "grid": {"x": values}}))
    return path


def machine(folder, name, content, store):
    """A run of a study as another machine's, and its study file."""
    here = folder / name
    here.mkdir()
    study = {"name": "knobs", "entrypoint": "knobs.wire/any", "bundle": str(KNOBS), **content}
    (here / "study.yaml").write_text(json.dumps(study))
    (here / "run.py").write_text(RUN)
    process = subprocess.Popen(
        [sys.executable, str(here / "run.py"), str(here / "study.yaml"), store, name],
        env={**environ(folder), "MODELOPS_EXECUTOR_ENVIRONMENT": "image"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    return process, here / "study.yaml"


@pytest.mark.parametrize("kind", ["folder", "s3"])
def test_two_requests_of_one_store_at_once_each_end_with_their_own_results(kind, tmp_path, request):
    """The one that began first ends last: results/ is the other's all the same, and nothing is mixed."""
    store = str(tmp_path / "store") if kind == "folder" else request.getfixturevalue("s3")
    files, go = Store(store), tmp_path / "go"
    first, first_spec = machine(
        tmp_path, "first", {"grid": {"x": [1, 2]}, "fixed": {"until": str(go)}, "replicates": 2}, store
    )
    try:
        wait_for(lambda: first.poll() is not None or "canary" in phase(files), "tasks that wait", 120)
        assert first.poll() is None, first.communicate()
        last, last_spec = machine(tmp_path, "last", {"grid": {"x": [3, 4, 5]}}, store)
        done = finish(last)
        assert done.returncode == 0 and "'ok': 3" in done.stdout, done.stderr
        assert "first ran this study" in done.stderr
        manifest = files.read("results/manifest.json")
        go.touch()
        done = finish(first)
    finally:
        first.kill()
    assert done.returncode == 0 and "'ok': 4" in done.stdout, done.stderr
    assert "results/ belongs to that one" in done.stderr
    assert files.read("results/manifest.json") == manifest
    for spec, values in ((None, [3, 4, 5]), (first_spec, [1, 1, 2, 2]), (last_spec, [3, 4, 5])):
        own = spec and load(spec)
        with opened(files, own) as tables:
            assert tables.output("y").table()["param_x"].to_pylist() == values
            assert tables.last == (spec != first_spec)
        assert summary.read_summary(files, spec=own).counts["ok"] == len(values)
        plan = plan_of(files, own)
        checked = verify(store, request=(plan.request.replicates, plan.request.sets))
        assert (checked.findings, checked.tasks["ok"]) == ([], len(values))


def phase(files):
    try:
        return files.read("driver.json").decode()
    except FileNotFoundError:
        return ""


@pytest.mark.parametrize("kind", ["folder", "s3"])
def test_two_runs_that_extend_one_study_at_once(kind, tmp_path, request):
    store = str(tmp_path / "store") if kind == "folder" else request.getfixturevalue("s3")
    processes = []
    for number, values in enumerate(([0, 1, 2, 3, 4, 5], [4, 5, 6, 7, 8, 9])):
        content = {"grid": {"x": values}, "fixed": {"seconds": 0.05}, "replicates": 5}
        processes.append(machine(tmp_path, f"machine{number}", content, store)[0])
    for process in processes:
        done = finish(process)
        assert done.returncode == 0, done.stderr
        assert "'ok': 30" in done.stdout
    spec = write_grid(tmp_path, list(range(10)))
    last = mops_helm("study", "run", spec, *SMALL, "--store", store, "-o", "json", cwd=tmp_path)
    assert json.loads(last.stdout)["ok"] == 50, last.stderr
    assert "Nothing was left to do" in last.stderr
    report = verify(store)
    assert report.findings == [] and report.tasks["ok"] == 50


REPLACING = """
import json, pathlib

def wire(entrypoint, params, seed):
    study = pathlib.Path(params["store"], "study.json")
    if params["x"] == 5 and params["begins"]:
        study.write_text(json.dumps(json.loads(study.read_text()) | {"uuid": "0" * 32}))
    elif params["x"] == 5:
        study.unlink()
    return {"y": b"1"}
"""


@pytest.mark.parametrize("begins", [True, False])
def test_a_run_whose_store_was_deleted_does_not_call_the_results_of_another_its_own(tmp_path, begins):
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "wire.py").write_text(REPLACING)
    fixed = {"store": str(tmp_path / "out"), "begins": begins}
    study = {"entrypoint": "m.s/b", "bundle": "bundle", "fixed": fixed, "grid": {"x": list(range(12))}}
    (tmp_path / "study.yaml").write_text(json.dumps(study))
    done = mops_helm("study", "run", "study.yaml", "--store", "out", *SMALL, cwd=tmp_path)
    assert done.returncode == 4, done.stdout + done.stderr
    assert "Stopped:" in done.stderr and "Traceback" not in done.stderr
    assert "was deleted during this run" in done.stderr
