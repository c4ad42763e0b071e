"""kill -9 on a Dask worker, on a runner, on the whole run: running again completes, with the same results.

The moment is random: after a random number of stored batches; the seed is printed.
"""

import json
import random
import signal

import psutil
import pyarrow.parquet as pq
import pytest

from helpers import wait_for
from study_helpers import SMALL, below, finish, mops_helm, parts_in, start, wait_for_line, write_spec

N_TASKS = 400


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The results of the study when nothing happens."""
    folder = tmp_path_factory.mktemp("undisturbed")
    spec = write_spec(folder, n=N_TASKS // 4, replicates=4, seconds=0.02)
    done = mops_helm("study", "run", spec, *SMALL, cwd=folder)
    assert done.returncode == 0, done.stderr
    return content(folder)


def content(folder):
    """What the study returned, without what may differ from run to run."""
    table = pq.read_table(folder / "out" / "knobs" / "results" / "raw" / "y.parquet")
    status = pq.read_table(folder / "out" / "knobs" / "results" / "replicates.parquet")
    return table, status.select(["set", "replicate", "seed", "param_id", "status"])


@pytest.mark.parametrize("victim", ["worker", "runner", "run"])
def test_kill_9(victim, undisturbed, tmp_path):
    seed = random.randrange(2**32)
    print("seed", seed)
    rng = random.Random(seed)
    batches, choice = rng.randrange(1, 12), rng.randrange(2)
    spec = write_spec(tmp_path, n=N_TASKS // 4, replicates=4, seconds=0.02)
    store = tmp_path / "out" / "knobs"

    run = start("study", "run", spec, *SMALL, cwd=tmp_path)
    wait_for(lambda: parts_in(store) >= batches or run.poll() is not None, f"{batches} batches", 60)
    assert run.poll() is None, run.communicate()
    family = psutil.Process(run.pid).children(recursive=True)
    if victim == "run":
        run.kill()
        assert finish(run).returncode == -signal.SIGKILL
        wait_for(lambda: not any(alive(process) for process in family), "end of all its processes", 30)
    else:
        found = wait_for(lambda: below(run, runner=victim == "runner"), victim)
        found[choice % len(found)].kill()
        first = finish(run)
        assert first.returncode == 0, first.stderr

    again = mops_helm("study", "run", spec, *SMALL, "-o", "json", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["ok"] == N_TASKS
    if victim != "run":
        assert "Nothing was left to do" in again.stderr
    for found, expected in zip(content(tmp_path), undisturbed, strict=True):
        assert found.equals(expected)


def alive(process):
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def test_ctrl_c_stores_what_runs_and_the_next_run_goes_on(undisturbed, tmp_path):
    spec = write_spec(tmp_path, n=N_TASKS // 4, replicates=4, seconds=0.02)
    store = tmp_path / "out" / "knobs"
    run = start("study", "run", spec, *SMALL, cwd=tmp_path)
    wait_for(lambda: parts_in(store) >= 4, "4 batches", 60)
    for process in [psutil.Process(run.pid), *psutil.Process(run.pid).children(recursive=True)]:
        process.send_signal(signal.SIGINT)  # as a terminal does: to every process
    done = finish(run)
    assert done.returncode == 130, done.stderr
    assert "Run the same command to continue" in done.stderr
    assert "Traceback" not in done.stderr
    before = parts_in(store)
    again = mops_helm("study", "run", spec, *SMALL, cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert parts_in(store) > before
    for found, expected in zip(content(tmp_path), undisturbed, strict=True):
        assert found.equals(expected)


def test_a_second_ctrl_c_says_what_goes_on_too(tmp_path):
    write_spec(tmp_path, n=4, until=str(tmp_path / "never"))
    run = start("study", "run", "study.yaml", *SMALL, cwd=tmp_path)
    wait_for(lambda: below(run, runner=True) or run.poll() is not None, "runner", 60)
    run.send_signal(signal.SIGINT)
    wait_for_line(run, "Press Ctrl-C again to quit now")
    run.send_signal(signal.SIGINT)
    done = finish(run)
    assert done.returncode == 130, done.stderr
    assert done.stderr.startswith(
        "Interrupted. Run the same command to continue:\n  mops-helm study run study.yaml"
    )
    assert "Traceback" not in done.stderr


def test_after_ctrl_c_sigterm_ends_at_once(tmp_path):
    spec = write_spec(tmp_path, n=4, until=str(tmp_path / "never"))
    run = start("study", "run", spec, *SMALL, cwd=tmp_path)
    wait_for(lambda: below(run, runner=True) or run.poll() is not None, "runner", 60)
    run.send_signal(signal.SIGINT)
    wait_for_line(run, "Press Ctrl-C again to quit now")
    run.send_signal(signal.SIGTERM)
    assert finish(run).returncode == -signal.SIGTERM
