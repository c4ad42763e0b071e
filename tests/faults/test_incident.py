"""The incident, scaled down: a study whose tasks need more and more memory, in a real cgroup with a limit.

Submitted all at once it dies of memory (the control); as a study it ends with every task that fits.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from limits_helpers import cgroup_of_memory
from study_helpers import COMMAND, environ

MIB = 1024**2
HUNGRY = Path(__file__).parents[1] / "bundles" / "hungry"
SIZES = [20, 40, 60, 90, 120, 160, 200, 250, 300, 350]
TOO_LARGE = [900, 1000, 1100, 1200]
SHAPE = "workers.replicas=1,workers.processes=2,workers.memoryPerProcess=432Mi,executor.environment=image"
POD = 960 * MIB

NAIVE = """
import sys, time
from distributed import Client, LocalCluster

def hold(megabytes):
    held = [bytearray(b"x") * (10 << 20) for _ in range(0, megabytes, 10)]
    time.sleep(1)
    return len(held)

if __name__ == "__main__":
    cluster = LocalCluster(n_workers=2, threads_per_worker=1, memory_limit="432MiB", dashboard_address=None)
    with cluster, Client(cluster) as client:
        client.gather(client.map(hold, [int(word) for word in sys.argv[1:]]))
"""

PYTHON = """
from dataclasses import replace

from modelops_dask.errors import Stopped
from modelops_dask.settings import Settings
from modelops_dask.shape import MIB, Shape
from modelops_dask.study import Study, run

if __name__ == "__main__":
    settings = replace(Settings.from_env(), executor_environment="image")
    try:
        run(Study.load("study.yaml"), settings=settings, shape=Shape(1, 2, 1, 960 * MIB))
    except Stopped as error:
        print(error)
        raise SystemExit(error.exit_code)
"""


def write_study(folder: Path, sizes: list[int], replicates: int = 3, **fixed: object) -> Path:
    path = folder / "study.yaml"
    study = {
        "name": "hungry",
        "entrypoint": "hungry.wire/any",
        "bundle": str(HUNGRY),
        "replicates": replicates,
    }
    path.write_text(json.dumps({**study, "fixed": fixed, "grid": {"megabytes": sizes}}))
    return path


def run(folder: Path, within: list[str], *args: object) -> subprocess.CompletedProcess:
    return mops_helm(folder, within, "run", *args)


def mops_helm(folder: Path, within: list[str], verb: str, *args: object) -> subprocess.CompletedProcess:
    command = [*within, *COMMAND, "study", verb, folder / "study.yaml", *args]
    return subprocess.run(
        list(map(str, command)), cwd=folder, env=environ(folder), text=True, capture_output=True, timeout=600
    )


def oom_kills(within: list[str]) -> int:
    """How many processes of the cgroup the kernel has killed."""
    folder = Path(within[-1]).parent
    (found,) = [path for name in ("memory.oom_control", "memory.events") if (path := folder / name).exists()]
    return int(re.search(r"^oom_kill (\d+)$", found.read_text(), re.MULTILINE)[1])


def attempts(folder: Path) -> list[dict]:
    files = (folder / "out" / "hungry" / "parts").glob("*.parquet")
    columns = ["set", "status", "reason", "peak_bytes", "limit_bytes"]
    return [row for file in files for row in pq.read_table(file, columns=columns).to_pylist()]


def test_the_control_all_at_once_dies_of_memory(tmp_path):
    script = tmp_path / "naive.py"
    script.write_text(NAIVE)
    with cgroup_of_memory(POD) as within:
        command = [*within, sys.executable, str(script), *map(str, sorted(SIZES * 3) + TOO_LARGE)]
        done = subprocess.run(command, cwd=tmp_path, text=True, capture_output=True, timeout=600, check=False)
        killed = oom_kills(within)
    assert done.returncode != 0 and ("KilledWorker" in done.stderr or killed), done.stderr


@pytest.mark.parametrize("executor", ["isolated_warm", "isolated_fork"])
def test_every_task_that_fits_ends_well_and_the_others_are_poisoned(executor, tmp_path):
    write_study(tmp_path, SIZES + TOO_LARGE, seconds=0.1)
    with cgroup_of_memory(POD) as within:
        done = run(tmp_path, within, "--set", SHAPE, "--set", f"executor.type={executor}", "-o", "json")
        killed = oom_kills(within)
    assert done.returncode == 3, done.stderr
    said = json.loads(done.stdout)
    assert (said["ok"], said["poisoned"], said["failed"]) == (3 * len(SIZES), 3 * len(TOO_LARGE), 0)
    assert killed == 0, "the kernel had to help"
    last = [row for row in attempts(tmp_path) if row["status"] == "poisoned"]
    assert {row["reason"] for row in last} == {"TaskOOM"}
    assert all(row["peak_bytes"] > 100 * MIB and row["limit_bytes"] > 350 * MIB for row in last)


def paste(folder: Path, verdict: str) -> subprocess.CompletedProcess:
    """Run again with the first values of a verdict, in a pod that has what they ask for."""
    values, pod = re.search(
        r"(workers:\n  processes: 1\n  memoryPerProcess: .*pods of (\d+)Mi)", verdict
    ).groups()
    (folder / "more.yaml").write_text(values)
    with cgroup_of_memory((int(pod) + 300) * MIB) as within:  # the driver is in it too
        return run(folder, within, "--set", "executor.environment=image", "-f", "more.yaml", "-o", "json")


def test_where_nothing_fits_the_verdict_works_when_pasted(tmp_path):
    write_study(tmp_path, [1100, 1110, 1120, 1130, 1140], replicates=1)
    with cgroup_of_memory(POD) as within:
        done = run(tmp_path, within, "--set", SHAPE)
    assert done.returncode == 4, done.stderr
    assert "no task completed, and 3 ran out of memory" in done.stderr
    again = paste(tmp_path, done.stderr)
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["ok"] == 5


def test_the_same_verdict_in_python(tmp_path):
    write_study(tmp_path, [1100, 1110, 1120], replicates=1)
    script = tmp_path / "notebook.py"
    script.write_text(PYTHON)
    with cgroup_of_memory(POD) as within:
        done = subprocess.run(
            [*within, sys.executable, str(script)],
            cwd=tmp_path,
            env=environ(tmp_path),
            text=True,
            capture_output=True,
            timeout=600,
            check=False,
        )
    assert done.returncode == 4, done.stderr
    assert "no task completed, and 3 ran out of memory" in done.stdout
    again = paste(tmp_path, done.stdout)
    assert json.loads(again.stdout)["ok"] == 3, again.stderr


def test_what_a_pilot_has_shown_to_fit_nowhere_is_not_begun(tmp_path):
    """Two processes of this pod leave a task 544 MiB."""
    write_study(tmp_path, [600, 640, 620, 700, 660], replicates=1)
    with cgroup_of_memory(1800 * MIB) as within:
        pilot = mops_helm(tmp_path, within, "plan", "--pilot", 3, "--set", "executor.environment=image")
    assert pilot.returncode == 0, pilot.stderr
    before = attempts(tmp_path)
    with cgroup_of_memory(POD) as within:
        done = run(tmp_path, within, "--set", SHAPE)
    assert done.returncode == 4, done.stderr
    assert "Stopped before any task ran: each of the 3 tasks that were measured held 6" in done.stderr
    assert len(before) == 3 and attempts(tmp_path) == before
    again = paste(tmp_path, done.stderr)
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["ok"] == 5


def test_tasks_that_may_be_smaller_than_all_that_were_measured_are_begun(tmp_path):
    """What is left lies beyond what was measured: a sweep that falls, or sets that were added."""
    write_study(tmp_path, [700, 650], replicates=1)
    with cgroup_of_memory(1800 * MIB) as within:
        first = run(tmp_path, within, "--set", "workers.replicas=1,executor.environment=image")
    assert first.returncode == 0, first.stderr
    write_study(tmp_path, [700, 650, 50, 40, 900], replicates=1)
    with cgroup_of_memory(POD) as within:
        done = run(tmp_path, within, "--set", SHAPE, "-o", "json")
    assert done.returncode == 3, done.stderr
    said = json.loads(done.stdout)
    assert (said["ok"], said["poisoned"], said["failed"]) == (4, 1, 0)
