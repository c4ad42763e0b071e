"""Real runs of models that fail: when one cause ends the study, what does not end it, who is tried where."""

import json
from contextlib import contextmanager
from pathlib import Path

import pytest

from modelops_dask.bundle import fetch
from modelops_dask.errors import Stopped
from modelops_dask.plan import spec
from modelops_dask.plan.plan import Chunk
from modelops_dask.settings import Settings
from modelops_dask.shape import Shape
from modelops_dask.store import parts
from modelops_dask.store.files import Store
from modelops_dask.study.common_cause import SCOUTS, DoesNotStart, FailsAlike
from modelops_dask.study.dispatch import Limits
from modelops_dask.study.drive import drive
from modelops_dask.study.summary import Summary
from modelops_dask.workers.local import local_cluster

GIB = 1024**3
QUICK = Limits(retry_seconds=0.01)


def run(
    folder: Path, wire: str, *, n=30, replicates=1, executor="isolated_warm", workers=2, **how: object
) -> Summary:
    """Run a study of x = 0 … n-1 of a model of these lines of code."""
    bundle, store = folder / "bundle", Store(str(folder / "store"))
    bundle.mkdir(exist_ok=True)
    (bundle / "wire.py").write_text(wire)
    path = folder / "study.yaml"
    study = {"name": "s", "entrypoint": "m.wire/any", "bundle": str(bundle), "replicates": replicates}
    path.write_text(json.dumps({**study, "grid": {"x": list(range(n))}}))
    settings = Settings(
        executor_type=executor, executor_environment="image", bundles_cache_dir=folder / "cache"
    )

    @contextmanager
    def cluster():
        with local_cluster(Shape(1, workers, 1, 2 * GIB), settings) as client:
            yield client

    return drive(
        spec.load(path), fetch(str(bundle), folder / "cache"), store, cluster, **{"limits": QUICK, **how}
    )


def rows(folder: Path) -> list[dict]:
    store = Store(str(folder / "store"))
    columns = ["set", "replicate", "status", "reason", "failure", "runner", "runner_task"]
    return [row for part in parts.scan(store, columns) for row in part.table.to_pylist()]


IMPORTS = {
    "a missing module": "import nowhere_to_be_found",
    "a missing name": "from json import nothing_of_this_name",
    "an error": "1 / 0",
    "bad syntax": "def wire(:",
    "an exit": "import sys; sys.exit('no licence')",
    "the end of the process": "import os; os._exit(3)",
    "a crash": "import os; os.abort()",
}


@pytest.mark.parametrize("cause", IMPORTS)
def test_a_model_that_does_not_start_ends_the_study_after_two_attempts(tmp_path, cause):
    with pytest.raises(DoesNotStart) as stopped:
        run(tmp_path, IMPORTS[cause] + "\ndef wire(entrypoint, params, seed): return {'y': b'1'}\n")
    attempts = rows(tmp_path)
    assert (len(attempts), stopped.value.workers, stopped.value.exit_code) == (2, 2, 4)
    assert {row["failure"] for row in attempts} == {"start"}
    assert "30 tasks are pending" in str(stopped.value)


@pytest.mark.parametrize("executor", ["isolated_fork", "cold", "direct"])
def test_so_it_does_under_every_executor_and_on_one_worker(tmp_path, executor):
    with pytest.raises(DoesNotStart) as stopped:
        run(tmp_path, "import nowhere_to_be_found\ndef wire(): ...", executor=executor, workers=1)
    assert (len(rows(tmp_path)), stopped.value.workers) == (2, 1)
    assert "ModuleNotFoundError: No module named 'nowhere_to_be_found' (wire.py:1)" in str(stopped.value)


def test_one_worker_that_cannot_start_the_model_does_not_end_the_study(tmp_path):
    """The first process to be started fails, whoever starts it; the second try is elsewhere and does well."""
    flag = tmp_path / "was here"
    wire = (
        f"import pathlib\nflag = pathlib.Path({str(flag)!r})\ntry:\n    flag.touch(exist_ok=False)\n"
        "except FileExistsError:\n    pass\nelse:\n    raise RuntimeError('this host has no such library')\n"
        "def wire(entrypoint, params, seed): return {'y': b'1'}\n"
    )
    summary = run(tmp_path, wire, n=6)
    assert summary.counts == {"ok": 6, "failed": 0, "poisoned": 0, "pending": 0}
    assert sum(row["failure"] == "start" for row in rows(tmp_path)) == 1


ALWAYS = "def wire(entrypoint, params, seed):\n    raise {error}\n"
FAILS_IF = """
def wire(entrypoint, params, seed):
    if {condition}:
        raise ValueError("no")
    return {{"y": b"1"}}
"""
FAILURES = {
    "an error": "ValueError(f'x is {params}, seed {seed}')",
    "an exit": "SystemExit(3)",
    "a name that is missing": "undefined",
    "a file that is missing": "FileNotFoundError('data.csv')",
    "a lost connection": "ConnectionResetError('by peer')",
}


@pytest.mark.parametrize("failure", FAILURES)
def test_a_model_that_always_fails_alike_ends_the_study_after_five_sets(tmp_path, failure):
    with pytest.raises(FailsAlike) as stopped:
        run(tmp_path, ALWAYS.format(error=FAILURES[failure]), n=200)
    error = stopped.value
    assert not isinstance(error, DoesNotStart)
    assert (error.tasks, error.sets, error.line, error.exit_code) == (SCOUTS, SCOUTS, "wire.py:2", 4)
    attempts = rows(tmp_path)
    tries = [sum(row["set"] == number for row in attempts) for number in range(200)]
    assert tries[199] == max(tries) == (4 if failure == "a lost connection" else 2), (
        "the last set was a scout"
    )
    assert sum(count == max(tries) for count in tries) >= SCOUTS
    if failure != "a lost connection":  # then others are tried while scouts pause
        assert len(attempts) < 40


def test_a_crash_of_the_model_in_every_set_ends_it_too(tmp_path):
    with pytest.raises(FailsAlike, match="killed by signal 6"):
        run(tmp_path, "import os\ndef wire(entrypoint, params, seed): os.abort()\n", n=100)
    assert len(rows(tmp_path)) < 40


def test_a_study_of_five_tasks_ends_as_ever(tmp_path):
    summary = run(tmp_path, ALWAYS.format(error="ValueError('unlucky')"), n=5)
    assert (summary.counts["failed"], summary.exit_code) == (5, 3)
    assert len(rows(tmp_path)) == 10


def test_few_sets_of_many_replicates_are_looked_at_from_the_first_to_the_last(tmp_path):
    with pytest.raises(FailsAlike) as stopped:
        run(tmp_path, ALWAYS.format(error="ValueError('unlucky')"), n=2, replicates=50)
    assert (stopped.value.tasks, stopped.value.sets) == (SCOUTS, 2)


@pytest.mark.parametrize(
    "condition", ["params['x'] != 59", "params['x'] < 58", "params['x'] != 0 and params['x'] != 30"]
)
def test_a_set_that_ends_ok_keeps_the_study_going(tmp_path, condition):
    wire = FAILS_IF.format(condition=condition)
    n_ok = sum(not eval(condition, {"params": {"x": x}}) for x in range(60))
    summary = run(tmp_path, wire, n=60)
    assert (summary.counts["ok"], summary.counts["failed"], summary.exit_code) == (n_ok, 60 - n_ok, 3)


def test_failures_in_different_lines_do_not_end_it(tmp_path):
    branches = "\n".join(f"    if params['x'] % 3 == {n}: raise ValueError('no')" for n in range(3))
    summary = run(tmp_path, f"def wire(e, params, seed):\n{branches}\n", n=20)
    assert summary.counts == {"ok": 0, "failed": 20, "poisoned": 0, "pending": 0}


def test_what_ended_ok_before_keeps_it_going_also_in_another_chunk(tmp_path):
    wire = FAILS_IF.format(condition="params['x'] >= 20")
    run(tmp_path, wire, n=40, share=Chunk(0, 2))
    second = run(tmp_path, wire, n=40, share=Chunk(1, 2))
    assert second.counts["failed"] == 20
    assert run(tmp_path, wire, n=40, retry=["failed"]).counts == {
        "ok": 20,
        "failed": 20,
        "poisoned": 0,
        "pending": 0,
    }


def test_a_stopped_study_goes_on_and_is_stopped_again_by_the_same_cause(tmp_path):
    wire = ALWAYS.format(error="ValueError('unlucky')")
    for _ in range(2):
        with pytest.raises(Stopped):
            run(tmp_path, wire, n=100)
    before = len(rows(tmp_path))
    with pytest.raises(FailsAlike):
        run(tmp_path, wire, n=100, retry=["failed"])
    assert len(rows(tmp_path)) > before


def test_a_transient_failure_that_passes_is_forgotten(tmp_path):
    """The first two attempts at each task find no server."""
    wire = (
        f"import pathlib\nfolder = pathlib.Path({str(tmp_path / 'tries')!r})\n"
        "def wire(e, params, seed):\n    folder.mkdir(exist_ok=True)\n"
        "    file = folder / str(params['x'])\n"
        "    tries = len(file.read_text()) if file.exists() else 0\n    file.write_text('x' * (tries + 1))\n"
        "    if tries < 2: raise TimeoutError('no answer')\n    return {'y': b'1'}\n"
    )
    summary = run(tmp_path, wire, n=20)
    assert (summary.counts["ok"], len(rows(tmp_path))) == (20, 60)


def test_a_failure_that_an_earlier_task_left_behind_is_gone_in_a_new_process(tmp_path):
    """Word for word the same each time, so in the same process all attempts would be spent."""
    wire = "ran = []\n" + FAILS_IF.format(condition="ran.append(1) or ran[1:]")
    summary = run(tmp_path, wire, n=12)
    assert summary.counts == {"ok": 12, "failed": 0, "poisoned": 0, "pending": 0}
    attempts = rows(tmp_path)
    assert sum(row["status"] == "failed" for row in attempts) >= 10


def test_new_processes_are_started_for_a_few_failures_of_a_kind_only(tmp_path):
    wire = FAILS_IF.format(condition="params['x'] % 2")
    limits = Limits(retry_seconds=0.01, batch_seconds=0.1, overdue_seconds=0.5)
    summary = run(tmp_path, wire, n=200, limits=limits)
    assert (summary.counts["ok"], summary.counts["failed"]) == (100, 100)
    attempts = rows(tmp_path)
    assert len(attempts) == 300, "two attempts at each that fails"
    assert 5 <= len({row["runner"] for row in attempts}) <= 60
