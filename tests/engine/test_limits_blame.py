"""Only the guilty end: the decision as a function, and a worker process that holds too much itself."""

import json
import os
import random
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
from distributed import Client, LocalCluster

from executor_helpers import write_bundle
from helpers import wait_for
from limits_helpers import cgroup_of_memory
from modelops_dask.bundle import fetch
from modelops_dask.errors import Stopped
from modelops_dask.limits import pod, worker_memory
from modelops_dask.limits.guard import Guard, Usage, culprit
from modelops_dask.plan import spec
from modelops_dask.settings import Settings
from modelops_dask.shape import Shape, process_limit
from modelops_dask.store import parts
from modelops_dask.store.files import Store
from modelops_dask.study.breaker import Breaker
from modelops_dask.study.drive import drive
from modelops_dask.workers.memory import compute_for_pods, explain_worker_memory
from study_helpers import COMMAND, environ

MIB = 1024 * 1024
PLANNED = 160 * MIB


def usage(tasks: dict[str, int], workers: dict[int, int], last: int = 1000) -> Usage:
    """Figures in MiB."""
    return Usage(
        last * MIB,
        PLANNED,
        {mark: size * MIB for mark, size in tasks.items()},
        {pid: size * MIB for pid, size in workers.items()},
    )


def test_a_task_beside_a_worker_process_that_keeps_to_its_plan_is_to_blame():
    assert culprit(usage({"small": 100, "large": 760}, {1: 150})) == "large"


def test_a_task_is_not_to_blame_for_what_a_worker_process_holds():
    assert culprit(usage({"task": 300}, {1: 800})) == 1
    assert culprit(usage({"task": 300}, {1: 120, 2: 500})) == 2, "a neighbour's, even without a task"


def test_where_neither_explains_it_the_largest_task_has_to_go():
    assert culprit(usage({"task": 300, "other": 200}, {1: 150})) == "task"
    assert culprit(usage({}, {1: 150})) is None


def test_a_task_is_not_to_blame_for_files_in_memory_that_others_left():
    few = usage({"task": 300}, {1: 150})
    assert few.reason == "TaskOOM"
    assert replace(few, files_bytes=600 * MIB).reason == "WorkerMemory"
    assert replace(usage({"task": 900}, {1: 150}), files_bytes=600 * MIB).reason == "TaskOOM", "its own"


def test_a_task_within_what_it_was_promised_is_never_to_blame_while_a_process_exceeds_its_plan():
    seed = random.randrange(10**9)
    draw = random.Random(seed)
    for _ in range(2000):
        last = draw.randrange(400, 4000)
        workers = {pid: draw.randrange(40, 1500) for pid in range(1, draw.randrange(2, 6))}
        promised = last - 160 * len(workers)
        tasks = {f"t{n}": draw.randrange(1, 1200) for n in range(draw.randrange(1, 6))}
        found = culprit(usage(tasks, workers, last))
        most = max(workers.values())
        if sum(tasks.values()) >= promised:
            assert tasks[found] == max(tasks.values()), seed
        elif most >= 160 + worker_memory.SUBSTANTIAL_BYTES // MIB:
            assert workers[found] == most, seed
        else:
            assert tasks[found] == max(tasks.values()), seed


def test_all_worker_processes_of_a_pod_know_of_each_other(monkeypatch):
    monkeypatch.setattr(pod, "POD", os.getpid())
    first, second = pod.PodLocks(), pod.PodLocks()
    first.register()
    assert second.workers() == [os.getpid()] and first.workers() == []
    first.close()
    assert second.workers() == []
    second.close()


def test_what_was_there_before_a_task_is_not_its_own(monkeypatch):
    monkeypatch.setattr(worker_memory, "_kept_bytes", 600 * MIB)
    assert worker_memory.was_held_before(700 * MIB, PLANNED)
    monkeypatch.setattr(worker_memory, "_kept_bytes", 150 * MIB)
    assert not worker_memory.was_held_before(700 * MIB, PLANNED)


def test_memory_that_arrow_keeps_is_given_back():
    held = pa.allocate_buffer(200 * MIB)
    memoryview(held).cast("B")[::4096] = bytes(200 * MIB // 4096)
    full = worker_memory.held_bytes()
    del held
    assert worker_memory.release(at_least_bytes=0) < full - 100 * MIB


class Memory:
    """Cannot be read at first, in each of the ways that were seen, and then is fine."""

    version, limit_bytes = 1, 1000 * MIB

    def __init__(self) -> None:
        self.errors = [OSError(24, "Too many open files"), ValueError("not a number"), KeyError("file")]
        self.looks = 0

    def used_bytes(self) -> int:
        self.looks += 1
        if self.errors:
            raise self.errors.pop(0)
        return 0

    def oom_kills(self) -> int:
        return 0


def test_a_guard_goes_on_after_a_look_that_failed(monkeypatch, caplog):
    monkeypatch.setattr(pod, "POD", os.getpid())
    monkeypatch.setattr("modelops_dask.limits.guard.LOOK_SECONDS", 0.01)
    memory = Memory()
    guard = Guard(memory, runners=None)
    guard.start()
    wait_for(lambda: memory.looks > 5, "looks after the failures")
    guard.close()
    messages = [record.message for record in caplog.records]
    assert sum("memory could not be read" in message for message in messages) == 3


def test_the_words_have_bytes_and_values_that_are_larger_than_before():
    memory = compute_for_pods(Shape(1, 1, 1, 1120 * MIB), Settings())
    words = explain_worker_memory(1003 * MIB, memory)
    assert "held 1,003 MiB itself, but 160 MiB are planned" in words
    assert "executor.workerMemory=1216Mi,workers.memoryPerProcess=2080Mi" in words
    assert len(words) <= 200 and "\n" not in words, "a summary prints the last line, shortened to 200"
    direct = explain_worker_memory(
        1003 * MIB, compute_for_pods(Shape(1, 1, 1, 1120 * MIB), Settings(executor_type="direct"))
    )
    assert "--set workers.memoryPerProcess=2048Mi" in direct


def test_worker_processes_that_are_restarted_in_a_row_stop_a_study():
    breaker = Breaker(completed_before=True)
    for _ in range(9):
        breaker.record_restart(1, "values")
    breaker.record_completion()
    for _ in range(9):
        breaker.record_restart(1, "values")
    with pytest.raises(Stopped, match=r"10 times in a row.*\nvalues"):
        breaker.record_restart(1, "values")


MODEL = """
import time

def wire(entrypoint, params, seed):
    held = bytearray(b"x") * (params["holds"] << 20)
    time.sleep(params.get("seconds", 0))
    return {"table": bytes(params["returns"] << 20)}
"""
POD = 900 * MIB


def write_study(folder: Path, sets: list[dict], replicates: int = 1) -> Path:
    study = {"name": "large", "entrypoint": "large.wire/any", "replicates": replicates}
    study["bundle"] = str(write_bundle(folder / "large", {"wire.py": MODEL}))
    path = folder / "study.yaml"
    path.write_text(json.dumps({**study, "sets": [{"params": params} for params in sets]}))
    return path


@contextmanager
def pod_of_one_worker(folder: Path, settings: Settings) -> Iterator[Client]:
    """A client of a worker process in a cgroup, as in a pod of the chart; the scheduler is outside."""
    with (
        cgroup_of_memory(POD) as join,
        LocalCluster(n_workers=0, host="127.0.0.1", dashboard_address=None) as scheduler,
        Client(scheduler, set_as_default=False) as client,
    ):
        options = f"--nworkers 1 --nthreads 1 --memory-limit {process_limit(POD, 1)} --no-dashboard"
        preload = ["--preload", "modelops_dask.worker", "--local-directory"]
        command = [*join, sys.executable, "-m", "dask", "worker", client.scheduler.address]
        with (
            (folder / "worker.log").open("w") as log,
            subprocess.Popen(
                [*command, *options.split(), *preload, str(folder)],
                env={**environ(folder), **settings.to_env()},
                stderr=log,
                stdout=log,
            ) as process,
        ):
            try:
                client.wait_for_workers(1, timeout=60)
                yield client
            finally:
                process.terminate()


def attempts(files: Store) -> list[tuple[str, str]]:
    scanned = parts.scan(files, ["status", "reason"])
    return [(row["status"], row["reason"]) for found in scanned for row in found.table.to_pylist()]


@pytest.mark.parametrize("kind", ["isolated_warm", "isolated_fork"])
def test_what_a_used_worker_process_holds_costs_no_task_anything(kind, tmp_path):
    """It holds 560 of 900 MiB, and tasks hold 250, for which one that keeps to its plan has room."""
    settings = Settings(
        executor_type=kind,
        executor_environment="image",
        bundles_cache_dir=tmp_path / "cache",
        venvs_dir=tmp_path / "venvs",
    )

    def hoard(dask_worker):  # as a library that never gives back what it has freed
        dask_worker.hoard = bytearray(b"x") * (560 << 20)
        return os.getpid()

    loaded = spec.load(write_study(tmp_path, [{"holds": 250, "returns": 1, "seconds": 0.5}], replicates=4))
    bundle, files = fetch(str(tmp_path / "large"), tmp_path / "cache"), Store(str(tmp_path / "store"))
    with pod_of_one_worker(tmp_path, settings) as client:
        (before,) = client.run(hoard).values()
        room = compute_for_pods(Shape(1, 1, 1, POD), settings)
        summary = drive(loaded, bundle, files, lambda: nullcontext(client), memory=room)
        (after,) = client.run(os.getpid).values()
    log = (tmp_path / "worker.log").read_text()
    assert summary.counts == {"ok": 4, "failed": 0, "poisoned": 0, "pending": 0}, log
    assert before != after, "the worker process was to be restarted"
    # WorkerDied: once in a while the process is gone before it has said why.
    assert {reason for _, reason in attempts(files)} <= {"", "WorkerMemory", "WorkerDied"}, log


def test_large_outputs_leave_a_worker_process_as_it_was(tmp_path):
    """Each is 40 MiB, and four copies of one are more than the process is planned to hold."""
    settings = Settings(
        executor_environment="image", bundles_cache_dir=tmp_path / "cache", venvs_dir=tmp_path / "venvs"
    )
    loaded = spec.load(write_study(tmp_path, [{"holds": 1, "returns": 40}], replicates=6))
    bundle, files = fetch(str(tmp_path / "large"), tmp_path / "cache"), Store(str(tmp_path / "store"))
    with pod_of_one_worker(tmp_path, settings) as client:
        summary = drive(loaded, bundle, files, lambda: nullcontext(client))
        (held_bytes,) = client.run(lambda: worker_memory.held_bytes()).values()
    assert summary.counts["ok"] == 6
    assert held_bytes < settings.worker_memory_bytes


def test_a_worker_process_that_dask_ends_twice_is_explained_with_values(tmp_path):
    """Under `direct` the task is in the process; Dask ends that at 98% of its limit."""
    write_study(tmp_path, [{"holds": 1, "returns": 1}, {"holds": 700, "returns": 1, "seconds": 30}])
    values = "workers.replicas=1,workers.processes=1,workers.memoryPerProcess=400Mi,executor.type=direct"
    ran = subprocess.run(
        [*COMMAND, "study", "run", "study.yaml", "--set", f"{values},executor.environment=image"],
        cwd=tmp_path,
        env=environ(tmp_path),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ran.returncode == 3, ran.stderr
    assert re.search(
        r"poisoned  WorkerMemory: The worker process held [4-9]\d\d MiB, its task included", ran.stdout
    )
    assert "Use --set workers.memoryPerProcess=800Mi --retry poisoned" in ran.stdout
