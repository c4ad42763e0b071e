"""What isolated_warm puts back after each task, however quick the task is and whatever the model replaces."""

import multiprocessing

import pytest

from executor_helpers import settings, write_bundle
from modelops_dask import bundle, executors
from modelops_dask.executors import Task

SCRATCH = """
import os, time
spent = time.monotonic
def wire(entrypoint, params, seed):
    found = os.path.exists("scratch.txt")
    open("scratch.txt", "w").close()
    until = spent() + 0.001
    while spent() < until:
        pass
    return {"found": str(found)}
"""
FROZEN = """
time.time, time.time_ns = lambda: 1577836800.0, lambda: 1577836800 * 10**9
time.monotonic = time.perf_counter = lambda: 5.0
"""
SUBFOLDER = """
import os
HERE = os.path.dirname(os.path.abspath(__file__))
def wire(entrypoint, params, seed):
    found = os.path.basename(os.getcwd())
    os.chdir(HERE + "/sub")
    return {"found": found}
"""
CLOSES = """
import os
HERE = os.path.dirname(os.path.abspath(__file__))
def numbers():
    return [int(name) for name in os.listdir("/proc/self/fd")]
KNOWN = set(numbers())
def wire(entrypoint, params, seed):
    found = os.path.basename(os.getcwd())
    if seed == 3:
        for number in numbers():
            if number not in KNOWN and number > 900:
                try:
                    os.close(number)
                except OSError:
                    pass
    os.chdir(HERE + "/sub")
    return {"found": found}
"""
REMOVES = """
import os, shutil
HERE = os.path.dirname(os.path.abspath(__file__))
os.chdir(HERE + "/work")
def wire(entrypoint, params, seed):
    found = sorted(os.listdir("."))
    if seed % 3 == 0:
        shutil.rmtree(HERE + "/work")
    os.chdir(HERE + "/sub")
    return {"found": " ".join(found)}
"""
FORKSERVER = """
import multiprocessing
CONTEXT = multiprocessing.get_context("forkserver")
def wire(entrypoint, params, seed):
    process = CONTEXT.Process(target=print)
    process.start()
    process.join()
    return {"exit": str(process.exitcode)}
"""


def found(tmp_path, files: dict[str, str], n_tasks: int, output: str = "found") -> set[bytes]:
    """What all tasks of one message came to."""
    chosen = settings(tmp_path, executor_type="isolated_warm")
    one = bundle.fetch(str(write_bundle(tmp_path / "source", files)), chosen.bundles_cache_dir)
    with executors.create(chosen) as executor:
        outcomes = executor.run_all([Task(one, "any", {}, seed) for seed in range(n_tasks)])
    assert [outcome for outcome in outcomes if outcome.status != "ok"] == []
    return {outcome.outputs[output] for outcome in outcomes}


@pytest.mark.parametrize("frozen", ["", FROZEN])
def test_folders_are_looked_at_after_each_task_also_where_there_are_many(tmp_path, frozen):
    files = {f"data/d{number}/x.txt": "" for number in range(40)}
    assert found(tmp_path, {"wire.py": SCRATCH + frozen, **files}, 300) == {b"False"}


@pytest.mark.parametrize("code", [SUBFOLDER, CLOSES])
def test_the_working_directory_is_put_back_after_the_quickest_task(tmp_path, code):
    assert found(tmp_path, {"wire.py": code, "sub/x.txt": ""}, 300) == {b"b"}


def test_a_working_directory_that_was_removed_is_there_again(tmp_path):
    files = {"wire.py": REMOVES, "sub/x.txt": "", "work/y.txt": ""}
    assert found(tmp_path, files, 60) == {b"y.txt"}


@pytest.mark.skipif("forkserver" not in multiprocessing.get_all_start_methods(), reason="there is none here")
def test_the_server_of_multiprocessing_lives_on(tmp_path):
    assert found(tmp_path, {"wire.py": FORKSERVER}, 3, "exit") == {b"0"}
