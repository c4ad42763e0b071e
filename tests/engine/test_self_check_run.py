"""A run that checks itself, on a real cluster: what it finds, and that nothing that goes wrong then costs the
study.
"""

import json
import threading
from pathlib import Path
from queue import SimpleQueue

import pytest

from helpers import wait_for
from modelops_dask.bundle import fetch
from modelops_dask.plan import spec
from modelops_dask.settings import Settings
from modelops_dask.shape import Shape
from modelops_dask.store.files import Store
from modelops_dask.study import events
from modelops_dask.study.drive import Watcher, drive
from modelops_dask.workers.local import local_cluster

# Runs beyond the first four are those of the check: then `mode` says what the model does.
MODEL = """
import os, pathlib, signal, time
before = []
def wire(entrypoint, params, seed):
    runs = pathlib.Path(params["folder"], "runs")
    with runs.open("a") as file:
        file.write("x")
    is_check = len(runs.read_text()) > 4
    if is_check and params["mode"] == "kill the worker":
        os.kill(os.getppid(), signal.SIGKILL)
    while is_check and params["mode"] == "hang":
        time.sleep(0.01)
    if is_check and params["mode"] == "raise":
        raise ValueError("unlucky")
    before.append(seed)
    y = {"leak": len(before), "draw": os.urandom(9).hex()}.get(params["mode"], "same")
    return {"y": f"{y} {seed}".encode(), "z": b"z"}
"""


@pytest.fixture
def run(tmp_path):
    """Run the study; where it is interrupted, the same run goes on."""
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "wire.py").write_text(MODEL)

    def run(mode: str, *, inbox=None, phases=None, **more):
        content = {"name": "s", "entrypoint": "m.f/s", "grid": {"x": [1, 2, 3, 4]}}
        content["fixed"] = {"mode": mode, "folder": str(tmp_path)}
        (tmp_path / "study.yaml").write_text(json.dumps({**content, **more.pop("study", {})}))
        settings = Settings(
            executor_type="isolated_warm",
            executor_environment="image",
            bundles_cache_dir=tmp_path / "cache",
            venvs_dir=tmp_path / "venvs",
        )
        return drive(
            spec.load(tmp_path / "study.yaml"),
            fetch(str(tmp_path / "bundle"), settings.bundles_cache_dir),
            Store(str(tmp_path / "store")),
            lambda: local_cluster(Shape(1, 1, 1, 2**30), settings),
            inbox=inbox,
            watcher=Watcher(phase=(phases if phases is not None else []).append),
            **more,
        )

    return run


def is_whole(summary, folder: Path) -> bool:
    return summary.counts["ok"] == 4 and (folder / "store" / "results" / "manifest.json").exists()


def test_a_healthy_model_is_equal_and_a_run_that_stores_nothing_checks_nothing(run, tmp_path):
    summary = run("same")
    assert is_whole(summary, tmp_path) and summary.exit_code == 0
    assert summary.self_check.n_equal == 3 and not summary.self_check.different
    phases = []
    again = run("same", phases=phases)
    assert "checking" not in phases and len(list((tmp_path / "store" / "checks").iterdir())) == 1
    assert again.self_check == summary.self_check and again.run_progress is None


def test_zero_turns_it_off(run, tmp_path):
    phases = []
    summary = run("leak", n_checks=0, phases=phases)
    assert summary.self_check is None and summary.exit_code == 0 and "checking" not in phases
    assert not (tmp_path / "store" / "checks").exists()


def test_one_task_can_be_asked_for(run):
    assert run("same", n_checks=1).self_check.n_compared == 1


@pytest.mark.parametrize(("mode", "cause"), [("leak", "order"), ("draw", "seed")])
def test_a_difference_is_status_3_names_the_output_and_its_cause_and_stays(run, tmp_path, mode, cause):
    summary = run(mode)
    assert is_whole(summary, tmp_path) and summary.exit_code == 3
    different = summary.self_check.different
    assert {each.cause for each in different} == {cause} and {each.outputs for each in different} == {("y",)}
    assert run(mode).self_check == summary.self_check, "the next run shows it too"
    assert run(mode).exit_code == 3


def test_outputs_that_are_volatile_are_not_compared(run):
    summary = run("draw", study={"volatile": ["y"]})
    assert summary.exit_code == 0 and summary.self_check.n_equal == 3


def test_a_task_that_fails_alone_is_a_difference(run, tmp_path):
    summary = run("raise")
    assert is_whole(summary, tmp_path) and summary.exit_code == 3
    assert {each.reason for each in summary.self_check.different} == {"it failed: ValueError"}


def test_a_worker_that_is_lost_costs_the_check_and_not_the_study(run, tmp_path):
    summary = run("kill the worker")
    assert is_whole(summary, tmp_path) and summary.exit_code == 0
    assert summary.self_check.n_compared == 0
    assert all("worker was lost" in each.reason for each in summary.self_check.not_comparable)


def test_a_request_to_stop_ends_the_check_and_not_the_study(run, tmp_path):
    """A task that hangs alone would else be waited for as long as its start and its time allow."""
    inbox: SimpleQueue[events.Event] = SimpleQueue()

    def stop():
        wait_for(lambda: len((tmp_path / "runs").read_text()) > 4, "the check", 120)
        inbox.put(events.StopRequested())

    (tmp_path / "runs").write_text("")
    thread = threading.Thread(target=stop)
    thread.start()
    summary = run("hang", inbox=inbox)
    thread.join()
    assert is_whole(summary, tmp_path) and summary.exit_code == 0 and not summary.interrupted
    assert summary.self_check.skipped == "the run was asked to stop"
